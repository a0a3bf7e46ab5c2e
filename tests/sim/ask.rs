//! What simulated clients ask for, written in both wire forms.

use crate::talk::Said;
use crate::topics::{Pattern, Properties, TIME_SERIES};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use std::borrow::Cow;
use std::collections::BTreeMap;
use tidewire::surface::value::{ValueType, delta, scalar};
use tidewire::surface::wire::native::{self, Append, Ask, NULL_BIT, Request, Verb, op};

#[derive(Clone, Debug)]
pub struct Update {
    pub verb: Verb,
    pub path: &'static str,
    /// The number of the topic's type, where the topic may be added.
    pub topic: u8,
    /// The type of the value.
    pub kind: ValueType,
    pub properties: Properties,
    /// `None` for null.
    pub value: Option<Vec<u8>>,
    /// JSON text; empty for none.
    pub constraint: String,
}

impl Update {
    pub fn new(verb: Verb, path: &'static str, kind: ValueType, value: Option<Vec<u8>>) -> Self {
        Self { verb, path, topic: kind as u8, kind, properties: &[], value, constraint: String::new() }
    }

    pub fn has_value(&self) -> bool {
        matches!(self.verb, Verb::Set | Verb::AddAndSet)
    }

    pub fn may_add(&self) -> bool {
        matches!(self.verb, Verb::Add | Verb::AddAndSet)
    }

    fn native(&self) -> native::Update<'_> {
        let number = if self.may_add() { self.topic } else { self.kind as u8 };
        let is_null = self.has_value() && self.value.is_none();
        let value = if self.has_value() { self.value.as_deref().unwrap_or_default() } else { &[] };
        let properties = self.properties.iter().map(|(key, value)| (Cow::Borrowed(*key), Cow::Borrowed(*value))).collect();
        let kind = if is_null { number | NULL_BIT } else { number };
        native::Update { properties, constraint: self.constraint.as_bytes().into(), ..native::Update::new(self.verb, kind, value) }
    }
}

/// A fetch. Empty paths and zeros are not set.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub pattern: Pattern,
    pub from: String,
    pub after: String,
    pub to: String,
    pub before: String,
    pub first: u64,
    pub last: u64,
    pub types: u64,
    pub depth: u64,
    pub depth_limit: u64,
    pub bytes_max: u64,
    pub with_values: bool,
}

impl Wanted {
    pub fn new(pattern: Pattern) -> Self {
        let (from, after, to, before) = Default::default();
        let (first, last, types, depth, depth_limit, bytes_max) = Default::default();
        Self { pattern, from, after, to, before, first, last, types, depth, depth_limit, bytes_max, with_values: true }
    }
}

impl std::fmt::Debug for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    Topics = 1,
    Subscribers = 2,
    Missing = 3,
}

impl ListenerKind {
    fn name(self) -> &'static str {
        match self {
            Self::Topics => "topics",
            Self::Subscribers => "subscribers",
            Self::Missing => "missing",
        }
    }
}

/// What a client asks for.
#[derive(Clone, Debug)]
pub enum Asked {
    Connect,
    Update(Update),
    Append {
        path: &'static str,
        kind: ValueType,
        /// The event that this one edits.
        original: Option<u64>,
        value: Vec<u8>,
    },
    Remove {
        pattern: Pattern,
    },
    Subscribe {
        pattern: Pattern,
        scope: &'static str,
    },
    /// `None`: in every scope.
    Unsubscribe {
        pattern: Pattern,
        scope: Option<&'static str>,
    },
    Fetch(Wanted),
    /// Every event that is kept, or edit of one.
    Query {
        path: &'static str,
        kind: u8,
    },
    Listen {
        listener: u64,
        kind: ListenerKind,
        selector: &'static str,
    },
    /// The whole listener where the selector is empty.
    Unlisten {
        listener: u64,
        selector: &'static str,
    },
    StreamOpen {
        stream: u64,
        update: Update,
    },
    StreamSet {
        stream: u64,
        path: &'static str,
        kind: ValueType,
        value: Option<Vec<u8>>,
    },
    /// What makes `value` of the stream's last one.
    StreamDelta {
        stream: u64,
        path: &'static str,
        form: delta::Form,
        delta: Vec<u8>,
        value: Vec<u8>,
    },
    StreamClose {
        stream: u64,
    },
    CreateView {
        name: &'static str,
        definition: &'static str,
    },
    RemoveView {
        name: &'static str,
    },
    /// Those behind a place.
    ListViews {
        after: u64,
    },
    Lock {
        name: &'static str,
        /// By the number of the wire.
        scope: u8,
    },
    Unlock {
        name: &'static str,
        number: u64,
    },
    /// Of other clients.
    Said(Said),
    /// Rows of a filter and a branch.
    PutSessionTree {
        branch: &'static str,
        rows: &'static [(&'static str, &'static str)],
    },
    /// One property of a session; an empty value takes it away.
    SetProperty {
        session: String,
        key: &'static str,
        value: &'static str,
    },
    /// A script of roles.
    ApplySecurity {
        script: String,
    },
    /// Of one session.
    ChangeRoles {
        session: String,
        remove: Vec<&'static str>,
        add: Vec<&'static str>,
    },
    /// The client is this one from now on.
    Authenticate {
        principal: &'static str,
    },
    /// To be refused.
    Nonsense,
}

impl Asked {
    pub fn subscribe(pattern: Pattern) -> Self {
        Self::Subscribe { pattern, scope: "" }
    }

    pub fn unsubscribe(pattern: Pattern) -> Self {
        Self::Unsubscribe { pattern, scope: Some("") }
    }
}

pub fn encode_binary(id: u64, asked: &Asked, capabilities: u64) -> Vec<u8> {
    let Some(request) = request(id, asked, capabilities) else { return nonsense(id) };
    let mut bytes = Vec::new();
    native::put_request(&mut bytes, &request);
    bytes
}

fn request(id: u64, asked: &Asked, capabilities: u64) -> Option<Request<'_>> {
    Some(match asked {
        Asked::Connect => Request { id, ask: Ask::connect("sim", capabilities) },
        Asked::Update(update) => Request { id, ask: Ask::Update { path: update.path.into(), update: update.native() } },
        Asked::Append { path, kind, original, value } => {
            let append = original.map_or(Append::Original { timestamp_ms: None }, |original| Append::Edit { original });
            Request { id, ask: Ask::Append { path: (*path).into(), kind: *kind as u8, append, value: value.into() } }
        }
        Asked::Remove { pattern } => Request { id, ask: Ask::Remove { selector: pattern.text.into() } },
        Asked::Subscribe { pattern, scope } => {
            Request { id, ask: Ask::Subscribe { selector: pattern.text.into(), scope: (*scope).into() } }
        }
        Asked::Unsubscribe { pattern, scope: Some(scope) } => {
            Request { id, ask: Ask::Unsubscribe { selector: pattern.text.into(), scope: (*scope).into() } }
        }
        Asked::Unsubscribe { pattern, scope: None } => Request { id, ask: Ask::UnsubscribeAllScopes { selector: pattern.text.into() } },
        Asked::Fetch(wanted) => Request { id, ask: Ask::Fetch { fetch: Box::new(fetch(wanted)) } },
        Asked::Query { path, kind } => {
            Request { id, ask: Ask::Query { path: (*path).into(), query: native::Query { kind: *kind, ..native::Query::default() } } }
        }
        Asked::Listen { listener, kind, selector } => {
            Request { id, ask: Ask::Listen { listener: *listener, kind: *kind as u8, selector: (*selector).into() } }
        }
        Asked::Unlisten { listener, selector } => Request { id, ask: Ask::Unlisten { listener: *listener, selector: (*selector).into() } },
        Asked::StreamOpen { stream, update } => {
            Request { id, ask: Ask::StreamOpen { stream: *stream, path: update.path.into(), update: update.native() } }
        }
        Asked::StreamSet { stream, value, .. } => {
            Request { id, ask: Ask::StreamSet { stream: *stream, value: value.as_deref().unwrap_or_default().into() } }
        }
        Asked::StreamDelta { stream, form, delta, .. } => {
            let form = if *form == delta::Form::Deflate { op::DELTA_DEFLATE } else { op::DELTA_COPY };
            Request { id, ask: Ask::StreamDelta { stream: *stream, form, delta: delta.into() } }
        }
        Asked::StreamClose { stream } => Request { id, ask: Ask::StreamClose { stream: *stream } },
        Asked::CreateView { name, definition } => {
            Request { id, ask: Ask::CreateView { name: (*name).into(), definition: (*definition).into() } }
        }
        Asked::RemoveView { name } => Request { id, ask: Ask::RemoveView { name: (*name).into() } },
        Asked::ListViews { after } => Request { id, ask: Ask::ListViews { after: *after } },
        Asked::Lock { name, scope } => Request { id, ask: Ask::Lock { name: (*name).into(), scope: *scope } },
        Asked::Unlock { name, number } => Request { id, ask: Ask::Unlock { name: (*name).into(), number: *number } },
        Asked::Said(said) => said.native(id),
        Asked::PutSessionTree { branch, rows } => {
            let mappings = rows.iter().map(|(filter, branch)| (Cow::Borrowed(*filter), Cow::Borrowed(*branch))).collect();
            Request { id, ask: Ask::PutSessionTree { branch: (*branch).into(), mappings } }
        }
        Asked::SetProperty { session, key, value } => {
            let properties = vec![(Cow::Borrowed(*key), Cow::Borrowed(*value))];
            Request { id, ask: Ask::SetSessionProperties { session: session.into(), filter: "".into(), properties } }
        }
        Asked::ApplySecurity { script } => Request { id, ask: Ask::ApplySecurity { check: false, script: script.into() } },
        Asked::ChangeRoles { session, remove, add } => {
            let [remove, add] = [remove, add].map(|roles| roles.iter().map(|role| Cow::Borrowed(*role)).collect());
            Request { id, ask: Ask::ChangeRoles { session: session.into(), filter: "".into(), remove, add } }
        }
        Asked::Authenticate { principal } => {
            let credentials = native::Credentials { principal: (*principal).into(), password: "".into(), bearer: "".into() };
            Request { id, ask: Ask::Authenticate { credentials: Box::new(credentials) } }
        }
        Asked::Nonsense => return None,
    })
}

fn fetch(wanted: &Wanted) -> native::Fetch<'_> {
    native::Fetch {
        selector: wanted.pattern.text.into(),
        from: (&wanted.from).into(),
        after: (&wanted.after).into(),
        to: (&wanted.to).into(),
        before: (&wanted.before).into(),
        first: wanted.first,
        last: wanted.last,
        types: wanted.types,
        with_values: wanted.with_values,
        with_properties: true,
        with_sizes: true,
        depth: wanted.depth,
        depth_limit: wanted.depth_limit,
        bytes_max: wanted.bytes_max,
    }
}

/// Frames whose bodies are not what their operations want, and one of an operation that is not there.
fn nonsense(id: u64) -> Vec<u8> {
    let mut body = Vec::new();
    tidewire::surface::wire::varint::put(&mut body, id);
    let (op, tail): (u8, &[u8]) =
        [(0x7f, &b"x"[..]), (0x11, b"\x05ab"), (0x18, b""), (0x14, b"\x01a\x00"), (0x18, b"\x01a\x05s")][id as usize % 5];
    body.extend_from_slice(tail);
    let mut frame = vec![op, body.len() as u8];
    frame.extend_from_slice(&body);
    frame
}

pub fn encode_text(id: u64, asked: &Asked) -> Vec<u8> {
    let mut members = Members::new();
    let op = match asked {
        Asked::Connect => {
            members.insert("version".to_owned(), raw(&1));
            "connect"
        }
        Asked::Update(update) => {
            put_update(&mut members, update);
            match update.verb {
                Verb::Add => "add",
                Verb::Set => "set",
                Verb::AddAndSet => "add_and_set",
                Verb::Patch | Verb::Check => "update",
            }
        }
        Asked::Append { path, kind, original, value } => {
            put(&mut members, [("path", raw(&path)), ("type", raw(&kind.name())), ("value", json_of(*kind, value))]);
            if let Some(original) = original {
                members.insert("original".to_owned(), raw(&original));
            }
            if original.is_some() { "edit" } else { "append" }
        }
        Asked::Remove { pattern } => {
            put(&mut members, [("selector", raw(&pattern.text))]);
            "remove"
        }
        Asked::Subscribe { pattern, scope } => {
            put(&mut members, [("selector", raw(&pattern.text)), ("scope", raw(&scope))]);
            "subscribe"
        }
        Asked::Unsubscribe { pattern, scope } => {
            put(&mut members, [("selector", raw(&pattern.text))]);
            if let Some(scope) = scope {
                members.insert("scope".to_owned(), raw(&scope));
            }
            if scope.is_some() { "unsubscribe" } else { "unsubscribe_all_scopes" }
        }
        Asked::Fetch(wanted) => {
            put_fetch(&mut members, wanted);
            "fetch"
        }
        Asked::Query { path, kind } => {
            let kind = ["values", "latest_edits", "all_edits"][usize::from(*kind)];
            put(&mut members, [("path", raw(&path)), ("kind", raw(&kind))]);
            "query"
        }
        Asked::Listen { listener, kind, selector } => {
            put(&mut members, [("listener", raw(&listener)), ("kind", raw(&kind.name())), ("selector", raw(&selector))]);
            "listen"
        }
        Asked::Unlisten { listener, selector } => {
            put(&mut members, [("listener", raw(&listener)), ("selector", raw(&selector))]);
            "unlisten"
        }
        Asked::StreamOpen { stream, update } => {
            put_update(&mut members, update);
            members.insert("stream".to_owned(), raw(&stream));
            "stream_open"
        }
        Asked::StreamSet { stream, kind, value, .. } => {
            put(&mut members, [("stream", raw(&stream)), ("value", value.as_ref().map_or(raw(&()), |value| json_of(*kind, value)))]);
            "stream_set"
        }
        Asked::StreamDelta { .. } => panic!("the text form has no deltas"),
        Asked::StreamClose { stream } => {
            put(&mut members, [("stream", raw(&stream))]);
            "stream_close"
        }
        Asked::CreateView { name, definition } => {
            put(&mut members, [("name", raw(&name)), ("definition", raw(&definition))]);
            "create_view"
        }
        Asked::RemoveView { name } => {
            put(&mut members, [("name", raw(&name))]);
            "remove_view"
        }
        Asked::ListViews { after } => {
            put(&mut members, [("after", raw(&after))]);
            "list_views"
        }
        Asked::Lock { name, scope } => {
            put(&mut members, [("name", raw(&name)), ("scope", raw(&["session", "connection"][usize::from(*scope)]))]);
            "lock"
        }
        Asked::Unlock { name, number } => {
            put(&mut members, [("name", raw(&name)), ("number", raw(&number))]);
            "unlock"
        }
        Asked::Said(said) => said.put_text(&mut members),
        Asked::PutSessionTree { branch, rows } => {
            let row =
                |(filter, branch): &(&str, &str)| BTreeMap::from([("filter", (*filter).to_owned()), ("branch", (*branch).to_owned())]);
            put(&mut members, [("branch", raw(&branch)), ("mappings", raw(&rows.iter().map(row).collect::<Vec<_>>()))]);
            "put_session_tree"
        }
        Asked::SetProperty { session, key, value } => {
            put(&mut members, [("session", raw(&session)), ("properties", raw(&BTreeMap::from([(key, value)])))]);
            "set_session_properties"
        }
        Asked::ApplySecurity { script } => {
            put(&mut members, [("script", raw(&script))]);
            "apply_security"
        }
        Asked::ChangeRoles { session, remove, add } => {
            put(&mut members, [("session", raw(&session)), ("remove", raw(&remove)), ("add", raw(&add))]);
            "change_roles"
        }
        Asked::Authenticate { principal } => {
            put(&mut members, [("principal", raw(&principal))]);
            "authenticate"
        }
        Asked::Nonsense => "frobnicate",
    };
    put(&mut members, [("op", raw(&op)), ("id", raw(&id))]);
    serde_json::to_vec(&members).expect("texts and numbers are JSON")
}

type Members = BTreeMap<String, Box<RawValue>>;

fn raw(value: &impl Serialize) -> Box<RawValue> {
    to_raw_value(value).expect("texts and numbers are JSON")
}

fn put<const COUNT: usize>(members: &mut Members, added: [(&str, Box<RawValue>); COUNT]) {
    members.extend(added.map(|(key, value)| (key.to_owned(), value)));
}

fn json_of(kind: ValueType, value: &[u8]) -> Box<RawValue> {
    let mut text = Vec::new();
    scalar::append_json(kind, value, &mut text);
    let text = String::from_utf8(text).expect("JSON is UTF-8");
    RawValue::from_string(text).expect("what the server would send is JSON")
}

fn put_update(members: &mut Members, update: &Update) {
    let number = if update.may_add() { update.topic } else { update.kind as u8 };
    let name = if number == TIME_SERIES { "time_series" } else { ValueType::from_number(number).expect("a type's number").name() };
    put(members, [("path", raw(&update.path)), ("type", raw(&name))]);
    if update.has_value() {
        let value = update.value.as_ref().map_or(raw(&()), |value| json_of(update.kind, value));
        members.insert("value".to_owned(), value);
    }
    if update.may_add() {
        let properties: BTreeMap<_, _> = update.properties.iter().copied().collect();
        members.insert("properties".to_owned(), raw(&properties));
    }
    if !update.constraint.is_empty() {
        let constraint = RawValue::from_string(update.constraint.clone()).expect("a constraint is JSON");
        members.insert("constraint".to_owned(), constraint);
    }
}

fn put_fetch(members: &mut Members, wanted: &Wanted) {
    let texts = [("from", &wanted.from), ("after", &wanted.after), ("to", &wanted.to), ("before", &wanted.before)];
    members.extend(texts.into_iter().filter(|(_, text)| !text.is_empty()).map(|(key, text)| (key.to_owned(), raw(&text))));
    let numbers = [
        ("first", wanted.first),
        ("last", wanted.last),
        ("depth", wanted.depth),
        ("depth_limit", wanted.depth_limit),
        ("bytes_max", wanted.bytes_max),
    ];
    members.extend(numbers.into_iter().filter(|(_, number)| *number != 0).map(|(key, number)| (key.to_owned(), raw(&number))));
    let name = |number: &u8| ValueType::from_number(*number).map_or("time_series", ValueType::name);
    let types: Vec<&str> = (1..=TIME_SERIES).filter(|number| wanted.types & (1 << number) != 0).map(|number| name(&number)).collect();
    put(
        members,
        [
            ("selector", raw(&wanted.pattern.text)),
            ("types", raw(&types)),
            ("values", raw(&wanted.with_values)),
            ("with_properties", raw(&true)),
            ("sizes", raw(&true)),
        ],
    );
}
