//! What the server says to a client of the native protocol.
//!
//! Each event is described once, by its operation and its members in order; the two forms write what is described, and where they differ the
//! description says so. Frames about a topic's values are no events here: they are made once for all who are sent them, in `native` and `text`.

use super::native::{
    self, Entry, EventEntry, EventHead, LockEntry, Outcome, PresenceEntry, Resumption, SelectionEntry, SessionEntry, Shown, VERSION,
    ViewEntry, Welcome, op,
};
use super::text::{self, ended_name, lock_scope_name, notice_name, selection_name, session_notice_name, type_name};
use crate::base::TopicId;
use crate::value::ValueType;

/// The form of the protocol that a client has chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Binary,
    Text,
}

/// What the server says.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    Ping,
    Pong,
    Welcome {
        id: u64,
        welcome: &'a Welcome,
    },
    Ok {
        id: u64,
        outcome: &'a Outcome,
    },
    Error {
        id: u64,
        code: u16,
        name: &'a str,
        position: Option<usize>,
        message: &'a str,
    },
    /// No session begins now: the client should come again in so many milliseconds.
    Later {
        id: u64,
        wait_ms: u64,
    },
    /// So many requests of the client were carried out or refused since its session began.
    Received {
        requests: u64,
    },
    /// What the server shows may not be the newest, or is again.
    Staleness {
        is_stale: bool,
    },
    Subscribed {
        topic: TopicId,
        path: &'a str,
        kind: u8,
        properties: Properties<'a>,
    },
    Unsubscribed {
        topic: TopicId,
        path: &'a str,
        reason: u8,
        name: &'a str,
    },
    /// Values of the topic were not kept while the session had no connection; its newest comes next, if it keeps one.
    Gap {
        topic: TopicId,
        path: &'a str,
    },
    TopicNotice {
        listener: u64,
        what: u8,
        path: &'a str,
        kind: u8,
        properties: Properties<'a>,
    },
    DescendantNotice {
        listener: u64,
        what: u8,
        path: &'a str,
    },
    SubscribersNotice {
        listener: u64,
        path: &'a str,
        has_subscribers: bool,
    },
    MissingNotice {
        listener: u64,
        selector: &'a str,
        session: &'a str,
        properties: Properties<'a>,
    },
    /// A request of another client; `request` is 0 where it waits for no response.
    Requested {
        handler: u64,
        request: u64,
        session: &'a str,
        path: &'a str,
        kind: u8,
        properties: Properties<'a>,
        value: Option<&'a [u8]>,
    },
    /// One of several responses to a request.
    Response {
        id: u64,
        session: &'a str,
        kind: u8,
        value: Option<&'a [u8]>,
    },
    ResponseError {
        id: u64,
        session: &'a str,
        code: u16,
        name: &'a str,
        message: &'a str,
    },
    /// What has become of a session that lives on.
    SessionNotice {
        listener: u64,
        what: u8,
        session: &'a str,
        is_away: bool,
        properties: Properties<'a>,
    },
    SessionClosed {
        listener: u64,
        session: &'a str,
        reason: u8,
    },
    /// More waits for a session than the mark, or little again.
    QueueNotice {
        listener: u64,
        session: &'a str,
        is_over: bool,
        is_conflated: bool,
        queue_bytes: u64,
    },
    /// Sessions that are subscribed now, and those that are no longer, whose principals are not said.
    PresenceNotice {
        listener: u64,
        joined: &'a [PresenceEntry],
        left: &'a [PresenceEntry],
    },
}

/// Keys and values of properties, as they are kept.
#[derive(Clone, Copy, Debug)]
pub enum Properties<'a> {
    /// Of keys that the server knows.
    Known(&'a [(&'static str, Box<str>)]),
    Any(&'a [(Box<str>, Box<str>)]),
}

impl Properties<'_> {
    pub(super) fn len(self) -> usize {
        match self {
            Self::Known(known) => known.len(),
            Self::Any(any) => any.len(),
        }
    }

    pub(super) fn for_each(self, mut each: impl FnMut(&str, &str)) {
        match self {
            Self::Known(known) => known.iter().for_each(|(key, value)| each(key, value)),
            Self::Any(any) => any.iter().for_each(|(key, value)| each(key, value)),
        }
    }
}

/// How a form writes an event: `begin`, then the members in their order. The text form has a member by its name, the binary form by its place.
pub(super) trait Fields {
    const FORM: Form;

    /// The operation, by its number in the binary form and its name in the text form.
    fn begin(&mut self, op: u8, name: &str);
    fn number(&mut self, name: &str, number: u64);
    fn flag(&mut self, name: &str, flag: bool);
    fn text(&mut self, name: &str, text: &str);
    /// A byte, of which the text form says what it means.
    fn named(&mut self, name: &str, number: u8, meaning: &str);
    fn properties(&mut self, properties: Properties<'_>);
    /// In the binary form 0 for none, else 1 + the number; the text form leaves out what there is not.
    fn optional(&mut self, name: &str, number: Option<u64>);
    fn value(&mut self, kind: ValueType, value: &[u8]);
    /// As `optional`, with the value behind 1 + its length.
    fn optional_value(&mut self, kind: ValueType, value: Option<&[u8]>);
    /// A field of the binary form that receivers skip where they do not know its tag.
    fn tagged_number(&mut self, tag: u64, name: &str, number: u64);
    /// There where it is set.
    fn tagged_flag(&mut self, tag: u64, name: &str, flag: bool);
    fn tagged_text(&mut self, tag: u64, name: &str, text: &str);
    /// Text to the end of the frame.
    fn rest(&mut self, name: &str, text: &str);
    fn list<T>(&mut self, name: &str, items: &[T], describe: impl Fn(&mut Self, &T));
}

/// Appends the event: a frame of the binary form, or an object of the text form.
pub fn put(out: &mut Vec<u8>, form: Form, event: &Event<'_>) {
    match form {
        Form::Binary => native::put_fields(out, |fields| describe(fields, event)),
        Form::Text => text::put_fields(out, |fields| describe(fields, event)),
    }
}

fn describe<F: Fields>(fields: &mut F, event: &Event<'_>) {
    match *event {
        Event::Ping => fields.begin(op::PING, "ping"),
        Event::Pong => fields.begin(op::PONG, "pong"),
        Event::Welcome { id, welcome } => {
            fields.begin(op::WELCOME, "welcome");
            fields.number("id", id);
            describe_welcome(fields, welcome);
        }
        Event::Ok { id, outcome } => {
            fields.begin(op::OK, "ok");
            fields.number("id", id);
            describe_outcome(fields, outcome);
        }
        Event::Error { id, code, name, position, message } => {
            fields.begin(op::ERROR, "error");
            fields.number("id", id);
            fields.number("code", u64::from(code));
            describe_refusal(fields, name, position.map(|position| position as u64), message);
        }
        Event::Later { id, wait_ms } => {
            fields.begin(op::LATER, "later");
            fields.number("id", id);
            fields.number("wait_ms", wait_ms);
        }
        Event::Received { requests } => {
            fields.begin(op::RECEIVED, "received");
            fields.number("requests", requests);
        }
        Event::Staleness { is_stale } => {
            fields.begin(op::STALENESS, "staleness");
            fields.flag("stale", is_stale);
        }
        Event::Subscribed { topic, path, kind, properties } => {
            fields.begin(op::SUBSCRIBED, "subscribed");
            fields.number("topic", topic.0);
            describe_topic(fields, path, kind, properties);
        }
        Event::Unsubscribed { topic, path, reason, name } => {
            fields.begin(op::UNSUBSCRIBED, "unsubscribed");
            fields.number("topic", topic.0);
            // Who reads the text form knows topics by their paths.
            if F::FORM == Form::Text {
                fields.text("path", path);
            }
            fields.named("reason", reason, name);
        }
        Event::Gap { topic, path } => {
            fields.begin(op::GAP, "gap");
            fields.number("topic", topic.0);
            if F::FORM == Form::Text {
                fields.text("path", path);
            }
        }
        ref notice => describe_notice(fields, notice),
    }
}

/// What listeners are told.
fn describe_notice(fields: &mut impl Fields, notice: &Event<'_>) {
    match *notice {
        Event::TopicNotice { listener, what, path, kind, properties } => {
            fields.begin(op::TOPIC_NOTICE, "topic_notice");
            fields.number("listener", listener);
            fields.named("what", what, notice_name(what));
            describe_topic(fields, path, kind, properties);
        }
        Event::DescendantNotice { listener, what, path } => {
            fields.begin(op::DESCENDANT_NOTICE, "descendant_notice");
            fields.number("listener", listener);
            fields.named("what", what, notice_name(what));
            fields.text("path", path);
        }
        Event::SubscribersNotice { listener, path, has_subscribers } => {
            fields.begin(op::SUBSCRIBERS_NOTICE, "subscribers_notice");
            fields.number("listener", listener);
            fields.text("path", path);
            fields.flag("has_subscribers", has_subscribers);
        }
        Event::MissingNotice { listener, selector, session, properties } => {
            fields.begin(op::MISSING_NOTICE, "missing_notice");
            fields.number("listener", listener);
            fields.text("selector", selector);
            fields.text("session", session);
            fields.properties(properties);
        }
        ref other => describe_session_event(fields, other),
    }
}

/// What is told of sessions.
fn describe_session_event(fields: &mut impl Fields, event: &Event<'_>) {
    match *event {
        Event::SessionNotice { listener, what, session, is_away, properties } => {
            fields.begin(op::SESSION_NOTICE, "session_notice");
            fields.number("listener", listener);
            fields.named("what", what, session_notice_name(what));
            fields.text("session", session);
            fields.flag("away", is_away);
            fields.properties(properties);
        }
        Event::SessionClosed { listener, session, reason } => {
            fields.begin(op::SESSION_CLOSED, "session_closed");
            fields.number("listener", listener);
            fields.text("session", session);
            fields.named("reason", reason, ended_name(reason));
        }
        Event::QueueNotice { listener, session, is_over, is_conflated, queue_bytes } => {
            fields.begin(op::QUEUE_NOTICE, "queue_notice");
            fields.number("listener", listener);
            fields.text("session", session);
            fields.flag("over", is_over);
            fields.flag("conflated", is_conflated);
            fields.number("queue_bytes", queue_bytes);
        }
        Event::PresenceNotice { listener, joined, left } => {
            fields.begin(op::PRESENCE_NOTICE, "presence_notice");
            fields.number("listener", listener);
            fields.list("joined", joined, describe_present);
            fields.list("left", left, |fields, entry| {
                fields.text("path", &entry.path);
                fields.text("session", &entry.session);
            });
        }
        ref message => describe_message(fields, message),
    }
}

/// What clients say to each other.
fn describe_message(fields: &mut impl Fields, message: &Event<'_>) {
    match *message {
        Event::Requested { handler, request, session, path, kind, properties, value } => {
            fields.begin(op::REQUESTED, "requested");
            fields.number("handler", handler);
            fields.number("request", request);
            fields.text("session", session);
            fields.text("path", path);
            fields.properties(properties);
            describe_value(fields, kind, value);
        }
        Event::Response { id, session, kind, value } => {
            fields.begin(op::RESPONSE, "response");
            fields.number("id", id);
            fields.text("session", session);
            describe_value(fields, kind, value);
        }
        Event::ResponseError { id, session, code, name, message } => {
            fields.begin(op::RESPONSE_ERROR, "response_error");
            fields.number("id", id);
            fields.text("session", session);
            fields.number("code", u64::from(code));
            describe_refusal(fields, name, None, message);
        }
        _ => unreachable!("all others are described before"),
    }
}

/// A value of a message; `None` for null.
fn describe_value(fields: &mut impl Fields, kind: u8, value: Option<&[u8]>) {
    let kind = ValueType::from_number(kind).expect("a message's type was looked at when it came");
    fields.named("type", kind as u8, kind.name());
    fields.optional_value(kind, value);
}

fn describe_topic(fields: &mut impl Fields, path: &str, kind: u8, properties: Properties<'_>) {
    fields.text("path", path);
    fields.named("type", kind, type_name(kind));
    fields.properties(properties);
}

fn describe_welcome<F: Fields>(fields: &mut F, welcome: &Welcome) {
    fields.number("version", VERSION);
    fields.tagged_text(1, "server", &welcome.server);
    // The text form has neither deltas nor compression.
    if F::FORM == Form::Binary {
        fields.tagged_number(2, "capabilities", welcome.capabilities);
    }
    fields.tagged_text(3, "session", &welcome.session);
    fields.tagged_number(4, "keep_alive_ms", welcome.keep_alive_ms);
    fields.tagged_number(5, "message_bytes_max", welcome.message_bytes_max);
    fields.tagged_number(6, "path_bytes_max", welcome.path_bytes_max);
    fields.tagged_number(7, "value_bytes_max", welcome.value_bytes_max);
    fields.tagged_number(8, "selections_max", welcome.selections_max);
    fields.tagged_number(9, "fetch_page_max", welcome.fetch_page_max);
    if let Some(Resumption { token, stay_ms, recovery_bytes_max, requests, is_durable, is_restored }) = &welcome.resumption {
        fields.tagged_text(10, "token", token);
        fields.tagged_number(11, "resume_ms", *stay_ms);
        fields.tagged_number(12, "recovery_bytes_max", *recovery_bytes_max);
        if let Some(requests) = requests {
            fields.tagged_number(13, "requests", *requests);
        }
        fields.tagged_flag(14, "durable", *is_durable);
        fields.tagged_flag(15, "restored", *is_restored);
    }
}

/// The text form says the code's name too, and the position last.
fn describe_refusal<F: Fields>(fields: &mut F, name: &str, position: Option<u64>, message: &str) {
    match F::FORM {
        Form::Binary => {
            fields.optional("position", position);
            fields.rest("message", message);
        }
        Form::Text => {
            fields.text("name", name);
            fields.rest("message", message);
            fields.optional("position", position);
        }
    }
}

fn describe_outcome(fields: &mut impl Fields, outcome: &Outcome) {
    match outcome {
        Outcome::Done => {}
        Outcome::Created(created) => fields.flag("created", *created),
        Outcome::Removed(count) => fields.number("removed", *count),
        Outcome::Page { has_more, shown, entries } => {
            fields.flag("has_more", *has_more);
            fields.list("topics", entries, |fields, entry| describe_entry(fields, entry, *shown));
        }
        Outcome::Appended { sequence, timestamp_ms } => {
            fields.number("sequence", *sequence);
            fields.number("timestamp", *timestamp_ms);
        }
        Outcome::Events { is_complete, kind, events } => {
            fields.flag("complete", *is_complete);
            fields.named("type", *kind as u8, kind.name());
            fields.list("events", events, |fields, event| {
                let EventEntry { sequence, timestamp_ms, original, author, value } = event;
                let head = EventHead { sequence: *sequence, timestamp_ms: *timestamp_ms, original: *original, author };
                describe_event(fields, head, *kind, value);
            });
        }
        Outcome::Response { kind, value } => describe_value(fields, *kind, value.as_deref()),
        Outcome::Asked(count) => fields.number("asked", *count),
        Outcome::Sessions { has_more, sessions } => {
            fields.flag("has_more", *has_more);
            fields.list("sessions", sessions, describe_session);
        }
        Outcome::Presence { has_more, present } => {
            fields.flag("has_more", *has_more);
            fields.list("present", present, describe_present);
        }
        Outcome::Selections { has_more, selections } => {
            fields.flag("has_more", *has_more);
            fields.list("selections", selections, describe_selection);
        }
        Outcome::Views { has_more, views } => {
            fields.flag("has_more", *has_more);
            fields.list("views", views, describe_view);
        }
        Outcome::Locked { number } => fields.number("number", *number),
        Outcome::Unlocked(released) => fields.flag("released", *released),
        Outcome::Locks { has_more, locks } => {
            fields.flag("has_more", *has_more);
            fields.list("locks", locks, describe_lock);
        }
        Outcome::SessionTree(rows) => fields.list("mappings", rows, |fields, row| {
            fields.text("filter", &row.filter);
            fields.text("branch", &row.branch);
        }),
        Outcome::Authenticated { token } => fields.text("token", token),
        Outcome::Script { has_more, text } => {
            fields.flag("has_more", *has_more);
            fields.text("script", text);
        }
        Outcome::SessionTrees { has_more, branches } => {
            fields.flag("has_more", *has_more);
            fields.list("branches", branches, |fields, branch| fields.text("branch", branch));
        }
    }
}

fn describe_entry(fields: &mut impl Fields, entry: &Entry, shown: Shown) {
    fields.text("path", &entry.path);
    fields.named("type", entry.kind, type_name(entry.kind));
    if shown.values {
        fields.optional_value(entry.value_kind, entry.value.as_deref());
    }
    if shown.properties {
        fields.properties(Properties::Any(&entry.properties));
    }
    if shown.sizes {
        fields.optional("size", entry.size.map(|size| size as u64));
    }
}

/// One event of a time series.
pub(super) fn describe_event(fields: &mut impl Fields, head: EventHead<'_>, kind: ValueType, value: &[u8]) {
    fields.number("sequence", head.sequence);
    fields.number("timestamp", head.timestamp_ms);
    fields.optional("original", head.original);
    fields.text("author", head.author);
    fields.value(kind, value);
}

fn describe_session<F: Fields>(fields: &mut F, session: &SessionEntry) {
    fields.text("session", &session.session);
    fields.flag("away", session.is_away);
    fields.properties(Properties::Any(&session.properties));
    fields.number("subscriptions", session.subscriptions);
    fields.number("queue_bytes", session.queue_bytes);
    fields.number("sent_bytes", session.sent_bytes);
    fields.number("conflations", session.conflations);
    fields.flag("conflated", session.is_conflated);
    fields.number("dropped", session.dropped);
    fields.number("sent_bytes_per_s", session.sent_bytes_per_s);
    fields.optional("idle_ms", session.idle_ms);
}

fn describe_selection<F: Fields>(fields: &mut F, selection: &SelectionEntry) {
    fields.text("scope", &selection.scope);
    fields.text("selector", &selection.selector);
    fields.named("kind", selection.kind, selection_name(selection.kind));
}

fn describe_present<F: Fields>(fields: &mut F, entry: &PresenceEntry) {
    fields.text("path", &entry.path);
    fields.text("session", &entry.session);
    fields.text("principal", &entry.principal);
}

fn describe_view<F: Fields>(fields: &mut F, view: &ViewEntry) {
    fields.text("name", &view.name);
    fields.text("definition", &view.definition);
    fields.number("place", view.place);
    fields.flag("dormant", view.is_dormant);
    fields.number("sources", view.sources);
    fields.number("references", view.references);
    fields.number("evaluations", view.evaluations);
    fields.number("failures", view.failures);
    fields.text("last_failure", &view.last_failure);
}

fn describe_lock<F: Fields>(fields: &mut F, lock: &LockEntry) {
    fields.text("name", &lock.name);
    fields.text("session", &lock.session);
    fields.number("number", lock.number);
    fields.named("scope", lock.scope, lock_scope_name(lock.scope));
    fields.number("waiting", lock.waiting);
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: TopicId = TopicId(300);

    /// The event in both forms, byte for byte.
    fn check(event: &Event<'_>, frame: &[u8], object: &str) {
        let (mut binary, mut text) = (Vec::new(), Vec::new());
        put(&mut binary, Form::Binary, event);
        put(&mut text, Form::Text, event);
        assert_eq!(binary, frame, "{event:?}");
        assert_eq!(String::from_utf8(text).unwrap(), object);
    }

    fn check_ok(outcome: &Outcome, frame: &[u8], object: &str) {
        check(&Event::Ok { id: 5, outcome }, frame, object);
    }

    #[test]
    fn signs_of_life_have_no_members() {
        check(&Event::Ping, b"\x02\x00", r#"{"op":"ping"}"#);
        check(&Event::Pong, b"\x03\x00", r#"{"op":"pong"}"#);
    }

    #[test]
    fn a_refusal_says_its_name_and_its_position_last_in_text_only() {
        let error = Event::Error { id: 1, code: 200, name: "invalid_path", position: None, message: "\"é\"" };
        check(
            &error,
            b"\x83\x08\x01\xc8\x01\x00\"\xc3\xa9\"",
            r#"{"op":"error","id":1,"code":200,"name":"invalid_path","message":"\"é\""}"#,
        );
        let error = Event::Error { id: 1, code: 200, name: "invalid_path", position: Some(0), message: "" };
        check(&error, b"\x83\x04\x01\xc8\x01\x01", r#"{"op":"error","id":1,"code":200,"name":"invalid_path","message":"","position":0}"#);
    }

    #[test]
    fn what_is_said_of_a_session_that_goes_on() {
        check(&Event::Received { requests: 300 }, b"\x85\x02\xac\x02", r#"{"op":"received","requests":300}"#);
        check(&Event::Staleness { is_stale: true }, b"\x87\x01\x01", r#"{"op":"staleness","stale":true}"#);
        check(&Event::Later { id: 1, wait_ms: 300 }, b"\x86\x03\x01\xac\x02", r#"{"op":"later","id":1,"wait_ms":300}"#);
        check(&Event::Gap { topic: TOPIC, path: "a/b" }, b"\x9a\x02\xac\x02", r#"{"op":"gap","topic":300,"path":"a/b"}"#);
    }

    #[test]
    fn what_is_said_of_a_topic() {
        let properties = Properties::Known(&[]);
        check(
            &Event::Subscribed { topic: TOPIC, path: "a/b", kind: 6, properties },
            b"\x90\x08\xac\x02\x03a/b\x06\x00",
            r#"{"op":"subscribed","topic":300,"path":"a/b","type":"time_series","properties":{}}"#,
        );
        check(
            &Event::Unsubscribed { topic: TOPIC, path: "a/b", reason: 2, name: "removed" },
            b"\x98\x03\xac\x02\x02",
            r#"{"op":"unsubscribed","topic":300,"path":"a/b","reason":"removed"}"#,
        );
    }

    #[test]
    fn notices_name_their_listener() {
        let properties = [("PERSISTENT", "false".into())];
        check(
            &Event::TopicNotice { listener: 7, what: 1, path: "a", kind: 1, properties: Properties::Known(&properties) },
            b"\xa0\x17\x07\x01\x01a\x01\x01\x0aPERSISTENT\x05false",
            r#"{"op":"topic_notice","listener":7,"what":"added","path":"a","type":"json","properties":{"PERSISTENT":"false"}}"#,
        );
        check(
            &Event::DescendantNotice { listener: 7, what: 4, path: "a" },
            b"\xa1\x04\x07\x04\x01a",
            r#"{"op":"descendant_notice","listener":7,"what":"deselected","path":"a"}"#,
        );
        check(
            &Event::SubscribersNotice { listener: 7, path: "a", has_subscribers: true },
            b"\xa2\x04\x07\x01a\x01",
            r#"{"op":"subscribers_notice","listener":7,"path":"a","has_subscribers":true}"#,
        );
        check(
            &Event::SessionClosed { listener: 7, session: "s", reason: 3 },
            b"\xb5\x04\x07\x01s\x03",
            r#"{"op":"session_closed","listener":7,"session":"s","reason":"expired"}"#,
        );
        check(
            &Event::QueueNotice { listener: 7, session: "s", is_over: true, is_conflated: false, queue_bytes: 300 },
            b"\xb6\x07\x07\x01s\x01\x00\xac\x02",
            r#"{"op":"queue_notice","listener":7,"session":"s","over":true,"conflated":false,"queue_bytes":300}"#,
        );
        let properties = [("k".into(), "1".into()), ("l".into(), "2".into())];
        check(
            &Event::SessionNotice { listener: 7, what: 4, session: "s", is_away: false, properties: Properties::Any(&properties) },
            b"\xb4\x0e\x07\x04\x01s\x00\x02\x01k\x011\x01l\x012",
            r#"{"op":"session_notice","listener":7,"what":"changed","session":"s","away":false,"properties":{"k":"1","l":"2"}}"#,
        );
        let joined = [PresenceEntry { path: "a".into(), session: "s".into(), principal: "p".into() }];
        let left = [PresenceEntry { path: "a".into(), session: "s".into(), principal: "".into() }];
        check(
            &Event::PresenceNotice { listener: 7, joined: &joined, left: &left },
            b"\xb7\x0d\x07\x01\x01a\x01s\x01p\x01\x01a\x01s",
            r#"{"op":"presence_notice","listener":7,"joined":[{"path":"a","session":"s","principal":"p"}],"left":[{"path":"a","session":"s"}]}"#,
        );
        check(
            &Event::MissingNotice { listener: 7, selector: "?a", session: "s", properties: Properties::Any(&properties) },
            b"\xa3\x0f\x07\x02?a\x01s\x02\x01k\x011\x01l\x012",
            r#"{"op":"missing_notice","listener":7,"selector":"?a","session":"s","properties":{"k":"1","l":"2"}}"#,
        );
    }

    #[test]
    fn outcomes_that_are_one_or_two_members() {
        check_ok(&Outcome::Done, b"\x82\x01\x05", r#"{"op":"ok","id":5}"#);
        check_ok(&Outcome::Created(true), b"\x82\x02\x05\x01", r#"{"op":"ok","id":5,"created":true}"#);
        check_ok(&Outcome::Removed(200), b"\x82\x03\x05\xc8\x01", r#"{"op":"ok","id":5,"removed":200}"#);
        let appended = Outcome::Appended { sequence: 1, timestamp_ms: 2 };
        check_ok(&appended, b"\x82\x03\x05\x01\x02", r#"{"op":"ok","id":5,"sequence":1,"timestamp":2}"#);
        check_ok(&Outcome::Locked { number: 300 }, b"\x82\x03\x05\xac\x02", r#"{"op":"ok","id":5,"number":300}"#);
        check_ok(&Outcome::Unlocked(true), b"\x82\x02\x05\x01", r#"{"op":"ok","id":5,"released":true}"#);
    }

    #[test]
    fn a_page_shows_what_was_asked_for() {
        let entry = Entry {
            path: "a".to_owned(),
            kind: 1,
            value_kind: ValueType::Json,
            value: Some(b"[7]".to_vec()),
            properties: [("k".into(), "v".into())].into(),
            size: Some(3),
        };
        let empty = Entry { value: None, size: None, ..entry.clone() };
        let page = |shown, entries| Outcome::Page { has_more: true, shown, entries };
        check_ok(
            &page(Shown { values: true, properties: true, sizes: true }, vec![entry.clone(), empty]),
            b"\x82\x1a\x05\x01\x02\x01a\x01\x04[7]\x01\x01k\x01v\x04\x01a\x01\x00\x01\x01k\x01v\x00",
            concat!(
                r#"{"op":"ok","id":5,"has_more":true,"topics":[{"path":"a","type":"json","value":[7],"properties":{"k":"v"},"size":3},"#,
                r#"{"path":"a","type":"json","properties":{"k":"v"}}]}"#
            ),
        );
        let plain = Entry { value: None, ..entry };
        let object = r#"{"op":"ok","id":5,"has_more":true,"topics":[{"path":"a","type":"json"}]}"#;
        check_ok(&page(Shown::default(), vec![plain]), b"\x82\x06\x05\x01\x01\x01a\x01", object);
        check_ok(&page(Shown::default(), Vec::new()), b"\x82\x03\x05\x01\x00", r#"{"op":"ok","id":5,"has_more":true,"topics":[]}"#);
    }

    #[test]
    fn events_of_a_series_say_what_they_override() {
        let original = EventEntry { sequence: 0, timestamp_ms: 9, original: None, author: "".into(), value: b"1".to_vec() };
        let edit = EventEntry { sequence: 1, original: Some(0), author: "me".into(), ..original.clone() };
        check_ok(
            &Outcome::Events { is_complete: false, kind: ValueType::Json, events: vec![original, edit] },
            b"\x82\x12\x05\x00\x01\x02\x00\x09\x00\x00\x011\x01\x09\x01\x02me\x011",
            concat!(
                r#"{"op":"ok","id":5,"complete":false,"type":"json","events":[{"sequence":0,"timestamp":9,"author":"","value":1},"#,
                r#"{"sequence":1,"timestamp":9,"original":0,"author":"me","value":1}]}"#
            ),
        );
    }
}
