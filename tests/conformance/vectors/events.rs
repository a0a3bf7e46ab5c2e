//! What the server sends.

use super::{bytes, decode, hex, is_written, messages, vectors};
use serde_json::{Value, json};
use tidewire::surface::protocol::{ErrorCode, Reason};
use tidewire::surface::value::{ValueType, delta};
use tidewire::surface::wire::event::{self, Form};
use tidewire::surface::wire::native::{self, EventHead, Heard, Outcome, Resumption, Shown, Welcome};
use tidewire::surface::wire::text;
use tidewire::surface::wire::varint::{Malformed, Reader};

/// The text form names topics by their paths, which are all this in the vectors; and their values are JSON where nothing says another type.
const PATH: &str = "a/b";

/// The numbered limits of WELCOME, by field tag.
const RESUMPTION: [&str; 3] = ["resume_ms", "recovery_bytes_max", "requests"];
const LIMITS: [&str; 6] = ["keep_alive_ms", "message_bytes_max", "path_bytes_max", "value_bytes_max", "selections_max", "fetch_page_max"];

/// What an event says, in the members of the vectors; `None` for what a client skips.
fn print_event(event: &Heard<'_>, outcome: &Outcome) -> Option<Value> {
    Some(match event {
        Heard::Unknown => return None,
        Heard::Ping => json!({ "op": "ping" }),
        Heard::Pong => json!({ "op": "pong" }),
        Heard::Welcome { id, version, server, capabilities, session, token, limits } => {
            let mut message = json!({ "op": "welcome", "id": id, "version": version });
            let texts = [("server", server), ("session", session), ("token", token)].into_iter().filter(|(_, text)| !text.is_empty());
            texts.for_each(|(name, text)| message[name] = (*text).into());
            if *capabilities != 0 {
                message["capabilities"] = (*capabilities).into();
            }
            for (tag, number) in limits {
                let name = (4..=9).contains(tag).then(|| LIMITS[*tag as usize - 4]);
                if let Some(name) = name.or_else(|| (11..=13).contains(tag).then(|| RESUMPTION[*tag as usize - 11])) {
                    message[name] = (*number).into();
                }
                if let Some(name) = (14..=15).contains(tag).then(|| ["durable", "restored"][*tag as usize - 14]) {
                    message[name] = (*number != 0).into();
                }
            }
            message
        }
        Heard::Requested { handler, request, session, path, properties, kind, value } => {
            let mut message = json!({
                "op": "requested", "handler": handler, "request": request, "session": session, "path": path,
                "properties": object(properties), "type": text::type_name(*kind),
            });
            put_message(&mut message, *value);
            message
        }
        Heard::Response { id, session, kind, value } => {
            let mut message = json!({ "op": "response", "id": id, "session": session, "type": text::type_name(*kind) });
            put_message(&mut message, *value);
            message
        }
        Heard::ResponseError { id, session, code, message } => {
            json!({ "op": "response_error", "id": id, "session": session, "code": code, "message": message })
        }
        Heard::Later { id, wait_ms } => json!({ "op": "later", "id": id, "wait_ms": wait_ms }),
        Heard::Staleness { is_stale } => json!({ "op": "staleness", "stale": is_stale }),
        Heard::Received { requests } => json!({ "op": "received", "requests": requests }),
        Heard::Gap { topic } => json!({ "op": "gap", "topic": topic.0 }),
        Heard::Ok { id, .. } => print_ok(*id, outcome),
        Heard::Error { id, code, position, message } => {
            let mut error = json!({ "op": "error", "id": id, "code": code, "message": message });
            if let Some(position) = position {
                error["position"] = (*position).into();
            }
            error
        }
        Heard::Subscribed { topic, path, kind, properties } => json!({
            "op": "subscribed", "topic": topic.0, "path": path, "type": text::type_name(*kind), "properties": object(properties),
        }),
        Heard::Value { topic, value } => json!({ "op": "value", "topic": topic.0, "value": hex(value) }),
        Heard::ValueDeflate { topic, deflated } => json!({ "op": "value_deflate", "topic": topic.0, "deflated": hex(deflated) }),
        Heard::Null { topic } => json!({ "op": "null_value", "topic": topic.0 }),
        Heard::Delta { topic, form, delta } => {
            let op = if *form == delta::Form::Deflate { "delta_deflate" } else { "delta_copy" };
            json!({ "op": op, "topic": topic.0, "delta": hex(delta) })
        }
        Heard::Event { topic, head, value } => {
            let mut message = print_head(*head, value);
            (message["op"], message["topic"]) = ("event".into(), topic.0.into());
            message
        }
        Heard::Unsubscribed { topic, reason } => json!({ "op": "unsubscribed", "topic": topic.0, "reason": reason }),
        notice => print_notice(notice),
    })
}

fn print_notice(notice: &Heard<'_>) -> Value {
    match notice {
        Heard::TopicNotice { listener, what, path, kind, properties } => json!({
            "op": "topic_notice", "listener": listener, "what": what, "path": path, "type": text::type_name(*kind), "properties": object(properties),
        }),
        Heard::DescendantNotice { listener, what, path } => {
            json!({ "op": "descendant_notice", "listener": listener, "what": what, "path": path })
        }
        Heard::SubscribersNotice { listener, path, has_subscribers } => {
            json!({ "op": "subscribers_notice", "listener": listener, "path": path, "has_subscribers": has_subscribers })
        }
        Heard::MissingNotice { listener, selector, session, properties } => json!({
            "op": "missing_notice", "listener": listener, "selector": selector, "session": session, "properties": object(properties),
        }),
        other => print_of_sessions(other),
    }
}

/// What is told of sessions.
fn print_of_sessions(notice: &Heard<'_>) -> Value {
    match notice {
        Heard::SessionNotice { listener, what, session, is_away, properties } => json!({
            "op": "session_notice", "listener": listener, "what": what, "session": session, "away": is_away, "properties": object(properties),
        }),
        Heard::SessionClosed { listener, session, reason } => {
            json!({ "op": "session_closed", "listener": listener, "session": session, "reason": reason })
        }
        Heard::QueueNotice { listener, session, is_over, is_conflated, queue_bytes } => json!({
            "op": "queue_notice", "listener": listener, "session": session, "over": is_over, "conflated": is_conflated, "queue_bytes": queue_bytes,
        }),
        Heard::PresenceNotice { listener, joined, left } => {
            let left: Vec<Value> = left.iter().map(|entry| json!({ "path": entry.path, "session": entry.session })).collect();
            json!({ "op": "presence_notice", "listener": listener, "joined": print_present(joined), "left": left })
        }
        other => panic!("no notice: {other:?}"),
    }
}

fn print_present(present: &[native::PresenceEntry]) -> Vec<Value> {
    let print = |entry: &native::PresenceEntry| json!({ "path": entry.path, "session": entry.session, "principal": entry.principal });
    present.iter().map(print).collect()
}

fn object(properties: &[(&str, &str)]) -> Value {
    Value::Object(properties.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect())
}

fn print_head(head: EventHead<'_>, value: &[u8]) -> Value {
    let mut message = json!({ "sequence": head.sequence, "timestamp": head.timestamp_ms, "author": head.author, "value": hex(value) });
    if let Some(original) = head.original {
        message["original"] = original.into();
    }
    message
}

fn print_ok(id: u64, outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Done => json!({ "op": "ok", "id": id }),
        Outcome::Created(created) => json!({ "op": "ok", "id": id, "created": created }),
        Outcome::Removed(removed) => json!({ "op": "ok", "id": id, "removed": removed }),
        Outcome::Appended { sequence, timestamp_ms } => json!({ "op": "ok", "id": id, "sequence": sequence, "timestamp": timestamp_ms }),
        Outcome::Page { has_more, shown, entries } => {
            let topics: Vec<Value> = entries.iter().map(|entry| print_entry(entry, *shown)).collect();
            json!({ "op": "ok", "id": id, "has_more": has_more, "topics": topics })
        }
        Outcome::Events { is_complete, kind, events } => {
            let print = |event: &native::EventEntry| print_head(head_of(event), &event.value);
            let events: Vec<Value> = events.iter().map(print).collect();
            json!({ "op": "ok", "id": id, "complete": is_complete, "type": kind.name(), "events": events })
        }
        Outcome::Response { kind, value } => {
            let mut answer = json!({ "op": "ok", "id": id, "type": text::type_name(*kind) });
            put_message(&mut answer, value.as_deref());
            answer
        }
        Outcome::Sessions { has_more, sessions } => {
            let print = |session: &native::SessionEntry| {
                let properties: serde_json::Map<String, Value> =
                    session.properties.iter().map(|(key, value)| (key.to_string(), json!(value))).collect();
                let mut printed = json!({
                    "session": session.session, "away": session.is_away, "properties": properties, "subscriptions": session.subscriptions,
                    "queue_bytes": session.queue_bytes, "sent_bytes": session.sent_bytes, "conflations": session.conflations,
                    "conflated": session.is_conflated, "dropped": session.dropped, "sent_bytes_per_s": session.sent_bytes_per_s,
                });
                if let Some(idle_ms) = session.idle_ms {
                    printed["idle_ms"] = idle_ms.into();
                }
                printed
            };
            json!({ "op": "ok", "id": id, "has_more": has_more, "sessions": sessions.iter().map(print).collect::<Vec<_>>() })
        }
        Outcome::Presence { has_more, present } => json!({ "op": "ok", "id": id, "has_more": has_more, "present": print_present(present) }),
        Outcome::Selections { has_more, selections } => {
            let print = |selection: &native::SelectionEntry| {
                let kind = ["deselect", "select", "filter"][usize::from(selection.kind)];
                json!({ "scope": selection.scope, "selector": selection.selector, "kind": kind })
            };
            json!({ "op": "ok", "id": id, "has_more": has_more, "selections": selections.iter().map(print).collect::<Vec<_>>() })
        }
        Outcome::Asked(count) => json!({ "op": "ok", "id": id, "asked": count }),
        Outcome::Views { has_more, views } => {
            let views: Vec<Value> = views.iter().map(print_view).collect();
            json!({ "op": "ok", "id": id, "has_more": has_more, "views": views })
        }
        Outcome::Locked { number } => json!({ "op": "ok", "id": id, "number": number }),
        Outcome::Unlocked(released) => json!({ "op": "ok", "id": id, "released": released }),
        Outcome::Locks { has_more, locks } => {
            let print = |lock: &native::LockEntry| {
                let scope = if lock.scope == 1 { "connection" } else { "session" };
                json!({ "name": lock.name, "session": lock.session, "number": lock.number, "scope": scope, "waiting": lock.waiting })
            };
            json!({ "op": "ok", "id": id, "has_more": has_more, "locks": locks.iter().map(print).collect::<Vec<_>>() })
        }
        Outcome::SessionTree(rows) => {
            let rows: Vec<Value> = rows.iter().map(|row| json!({ "filter": row.filter, "branch": row.branch })).collect();
            json!({ "op": "ok", "id": id, "mappings": rows })
        }
        Outcome::Authenticated { token } => json!({ "op": "ok", "id": id, "token": token }),
        Outcome::Script { has_more, text } => json!({ "op": "ok", "id": id, "has_more": has_more, "script": text }),
        Outcome::SessionTrees { has_more, branches } => {
            let branches: Vec<Value> = branches.iter().map(|branch| json!({ "branch": branch })).collect();
            json!({ "op": "ok", "id": id, "has_more": has_more, "branches": branches })
        }
    }
}

fn head_of(event: &native::EventEntry) -> EventHead<'_> {
    EventHead { sequence: event.sequence, timestamp_ms: event.timestamp_ms, original: event.original, author: &event.author }
}

fn print_view(view: &native::ViewEntry) -> Value {
    json!({
        "name": view.name, "definition": view.definition, "place": view.place, "dormant": view.is_dormant, "sources": view.sources,
        "references": view.references, "evaluations": view.evaluations, "failures": view.failures, "last_failure": view.last_failure,
    })
}

fn print_entry(entry: &native::Entry, shown: Shown) -> Value {
    let mut topic = json!({ "path": entry.path, "type": text::type_name(entry.kind) });
    if let Some(value) = &entry.value {
        topic["value"] = hex(value).into();
    }
    if shown.properties {
        topic["properties"] = Value::Object(entry.properties.iter().map(|(key, value)| (key.to_string(), json!(value))).collect());
    }
    if let Some(size) = entry.size {
        topic["size"] = size.into();
    }
    topic
}

/// What an OK's body says as the answer to the operation that the vector names.
fn read_outcome(vector: &Value, event: &Heard<'_>) -> Outcome {
    let Heard::Ok { body, .. } = event else { return Outcome::Done };
    let mut reader = Reader(body);
    let has = |name: &str| vector[name] == true;
    let outcome = match vector["answers"].as_str() {
        Some("add" | "add_and_set" | "create_view") => Outcome::Created(reader.byte().expect("created") == 1),
        Some("update" | "stream_open") if has("properties") => Outcome::Created(reader.byte().expect("created") == 1),
        Some("remove" | "remove_view") => Outcome::Removed(reader.varint().expect("a count")),
        Some("append" | "edit") => {
            Outcome::Appended { sequence: reader.varint().expect("a sequence"), timestamp_ms: reader.varint().expect("a timestamp") }
        }
        Some("fetch") => {
            let shown = Shown { values: has("values"), properties: has("with_properties"), sizes: has("sizes") };
            native::decode_page(&mut reader, shown).expect("a page")
        }
        Some("query") => native::decode_events(&mut reader).expect("events"),
        Some("lock") => Outcome::Locked { number: reader.varint().expect("a number") },
        Some("unlock") => Outcome::Unlocked(reader.byte().expect("released") == 1),
        Some("get_session_tree") => native::decode_session_tree(&mut reader).expect("rows"),
        Some("authenticate") => native::decode_authenticated(&mut reader).expect("a token"),
        Some("get_security" | "get_principals") => native::decode_script(&mut reader).expect("a script"),
        Some("list_session_trees") => native::decode_session_trees(&mut reader).expect("branches"),
        Some("list_locks") => native::decode_locks(&mut reader).expect("locks"),
        Some("list_views" | "get_view") => native::decode_views(&mut reader).expect("views"),
        Some("request" | "request_session") => {
            let (kind, value) = native::decode_message(&mut reader).expect("a message");
            Outcome::Response { kind, value: value.map(<[u8]>::to_vec) }
        }
        Some("list_sessions") => native::decode_sessions(&mut reader).expect("sessions"),
        Some("list_presence") => native::decode_presence(&mut reader).expect("who is present"),
        Some("list_selections") => native::decode_selections(&mut reader).expect("selections"),
        Some("request_filter") => Outcome::Asked(reader.varint().expect("a count")),
        _ => Outcome::Done,
    };
    assert!(reader.is_empty(), "{vector}");
    outcome
}

/// The value of a message, where it is not null.
fn put_message(message: &mut Value, value: Option<&[u8]>) {
    if let Some(value) = value {
        message["value"] = hex(value).into();
    }
}

/// A vector's members in the form of `print_event`: topic numbers as numbers.
fn normal_event(message: &Value) -> Value {
    let mut message = message.clone();
    if let Some(number) = message.get("topic").and_then(Value::as_str) {
        let number: u64 = number.parse().expect("a number");
        message["topic"] = number.into();
    }
    message
}

/// The limits of a WELCOME that has them all, which is the only one that the server writes.
fn read_welcome(event: &Heard<'_>) -> Option<Welcome> {
    let Heard::Welcome { server, capabilities, session, token, limits, .. } = event else { return None };
    let of_session = |wanted: u64| limits.iter().find(|(tag, _)| *tag == wanted).map(|(_, number)| *number);
    let resumption = of_session(11).zip(of_session(12)).map(|(stay_ms, recovery_bytes_max)| Resumption {
        token: (*token).into(),
        stay_ms,
        recovery_bytes_max,
        requests: of_session(13),
        is_durable: of_session(14) == Some(1),
        is_restored: of_session(15) == Some(1),
    });
    let [keep_alive_ms, message_bytes_max, path_bytes_max, value_bytes_max, selections_max, fetch_page_max] =
        limits.iter().filter(|(tag, _)| *tag <= 9).map(|(_, number)| *number).collect::<Vec<_>>().try_into().ok()?;
    Some(Welcome {
        server: (*server).into(),
        capabilities: *capabilities,
        session: (*session).into(),
        keep_alive_ms,
        message_bytes_max,
        path_bytes_max,
        value_bytes_max,
        selections_max,
        fetch_page_max,
        resumption,
    })
}

/// Writes an event as the server does, `put` what is described for both forms; tells whether it writes such a one.
fn say(event: &Heard<'_>, outcome: &Outcome, put: impl FnOnce(&event::Event<'_>)) -> bool {
    let welcome = read_welcome(event);
    let properties = owned_properties(event);
    let properties = event::Properties::Any(&properties);
    put(&match *event {
        Heard::Ping => event::Event::Ping,
        Heard::Pong => event::Event::Pong,
        Heard::Welcome { id, .. } => match &welcome {
            Some(welcome) => event::Event::Welcome { id, welcome },
            None => return false,
        },
        Heard::Ok { id, .. } => event::Event::Ok { id, outcome },
        Heard::Error { id, code, position, message } => {
            let name = ErrorCode::ALL.iter().find(|known| known.code() == code).map_or("", |known| known.name());
            event::Event::Error { id, code, name, position, message }
        }
        Heard::Subscribed { topic, path, kind, .. } => event::Event::Subscribed { topic, path, kind, properties },
        Heard::Unsubscribed { topic, reason } => {
            let name = Reason::ALL.iter().find(|known| known.code() == u16::from(reason)).map_or("", |known| known.name());
            event::Event::Unsubscribed { topic, path: PATH, reason, name }
        }
        Heard::Requested { handler, request, session, path, kind, value, .. } => {
            event::Event::Requested { handler, request, session, path, kind, properties, value }
        }
        Heard::Response { id, session, kind, value } => event::Event::Response { id, session, kind, value },
        Heard::ResponseError { id, session, code, message } => {
            let name = ErrorCode::ALL.iter().find(|known| known.code() == code).map_or("", |known| known.name());
            event::Event::ResponseError { id, session, code, name, message }
        }
        Heard::Later { id, wait_ms } => event::Event::Later { id, wait_ms },
        Heard::Staleness { is_stale } => event::Event::Staleness { is_stale },
        Heard::Received { requests } => event::Event::Received { requests },
        Heard::Gap { topic } => event::Event::Gap { topic, path: PATH },
        Heard::TopicNotice { listener, what, path, kind, .. } => event::Event::TopicNotice { listener, what, path, kind, properties },
        Heard::DescendantNotice { listener, what, path } => event::Event::DescendantNotice { listener, what, path },
        Heard::SubscribersNotice { listener, path, has_subscribers } => event::Event::SubscribersNotice { listener, path, has_subscribers },
        Heard::MissingNotice { listener, selector, session, .. } => event::Event::MissingNotice { listener, selector, session, properties },
        ref other => match event_of_sessions(other, properties) {
            Some(event) => event,
            None => return false,
        },
    });
    true
}

/// The same of what is told of sessions.
fn event_of_sessions<'a>(event: &'a Heard<'_>, properties: event::Properties<'a>) -> Option<event::Event<'a>> {
    Some(match *event {
        Heard::SessionNotice { listener, what, session, is_away, .. } => {
            event::Event::SessionNotice { listener, what, session, is_away, properties }
        }
        Heard::SessionClosed { listener, session, reason } => event::Event::SessionClosed { listener, session, reason },
        Heard::QueueNotice { listener, session, is_over, is_conflated, queue_bytes } => {
            event::Event::QueueNotice { listener, session, is_over, is_conflated, queue_bytes }
        }
        Heard::PresenceNotice { listener, ref joined, ref left } => event::Event::PresenceNotice { listener, joined, left },
        _ => return None,
    })
}

fn owned_properties(event: &Heard<'_>) -> Vec<(Box<str>, Box<str>)> {
    match event {
        Heard::Subscribed { properties, .. }
        | Heard::TopicNotice { properties, .. }
        | Heard::MissingNotice { properties, .. }
        | Heard::SessionNotice { properties, .. }
        | Heard::Requested { properties, .. } => properties.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
        _ => Vec::new(),
    }
}

fn put_binary(out: &mut Vec<u8>, event: &Heard<'_>, outcome: &Outcome) -> bool {
    match event {
        Heard::Value { topic, value } => out.extend(native::value_frame(*topic, value).0),
        Heard::ValueDeflate { topic, deflated } => out.extend(native::value_deflate_frame(*topic, deflated)),
        Heard::Null { topic } => out.extend(native::null_frame(*topic)),
        Heard::Delta { topic, form, delta } => out.extend(native::delta_frame(*topic, *form, delta)),
        Heard::Event { topic, head, value } => out.extend(native::event_frame(*topic, *head, value).0),
        said => return say(said, outcome, |event| event::put(out, Form::Binary, event)),
    }
    true
}

#[test]
fn the_binary_form_is_read_and_written() {
    for vector in vectors("server") {
        let Some(messages) = messages(&vector) else { continue };
        let bytes = bytes(&vector);
        let mut rest = &bytes[..];
        let (mut printed, mut written) = (Vec::new(), Vec::new());
        let mut is_whole = true;
        while let Some(frame) = native::next_frame(&mut rest).expect("the frames fit their message") {
            let event = native::decode_event(frame).expect("the frames have their form");
            let outcome = read_outcome(&vector, &event);
            printed.extend(print_event(&event, &outcome));
            is_whole &= put_binary(&mut written, &event, &outcome);
        }
        assert_eq!(printed, messages.iter().map(normal_event).collect::<Vec<_>>(), "{vector}");
        if is_written(&vector) && is_whole {
            assert_eq!(hex(&written), hex(&bytes), "{vector}");
        }
    }
}

#[test]
fn the_text_form_says_the_same() {
    for vector in vectors("server").iter().filter(|vector| !vector["text"].is_null()) {
        let bytes = bytes(vector);
        let mut rest = &bytes[..];
        let frame = native::next_frame(&mut rest).expect("the frames fit their message").expect("one frame");
        let event = native::decode_event(frame).expect("the frame has its form");
        let outcome = read_outcome(vector, &event);
        let mut written = Vec::new();
        put_text(&mut written, &event, &outcome);
        let written: Value = serde_json::from_slice(&written).expect("the text form is JSON");
        assert_eq!(written, vector["text"], "{vector}");
    }
}

fn put_text(out: &mut Vec<u8>, event: &Heard<'_>, outcome: &Outcome) {
    match event {
        Heard::Value { topic, value } => text::put_value(out, *topic, PATH, ValueType::Json, value),
        Heard::Null { topic } => text::put_null(out, *topic, PATH),
        Heard::Event { topic, head, value } => text::put_event(out, *topic, PATH, *head, ValueType::Json, value),
        said => assert!(say(said, outcome, |event| event::put(out, Form::Text, event)), "the server does not write this: {said:?}"),
    }
}

#[test]
fn broken_ones_are_known_as_such() {
    for vector in vectors("server").iter().filter(|vector| !vector["error"].is_null()) {
        let decoded = decode(&bytes(vector), |frame| native::decode_event(frame).map(drop));
        assert_eq!(decoded, Err(Malformed), "{vector}");
    }
}
