//! The golden vectors of the protocol's frames, read from both sides: what the server decodes, what it encodes, and what it answers to broken frames.

use crate::frames::{BINARY, FIN, frame, parse_frames};
use crate::peer::Peer;
use serde_json::{Value, json};
use tidewire::protocol::{ErrorCode, Reason};
use tidewire::value::json::{Checker, JsonLimits};
use tidewire::value::{ValueType, delta, scalar};
use tidewire::wire::native::{self, Event, Outcome, Request, Welcome};
use tidewire::wire::text;
use tidewire::wire::varint::{Malformed, Reader};

fn vectors(direction: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_json::from_str(include_str!("../../sdk/protocol/vectors/frames.json")).expect("the vectors are JSON");
    let vectors: Vec<Value> = all.into_iter().filter(|vector| vector["direction"] == direction).collect();
    assert!(vectors.len() > 10, "{direction}");
    vectors
}

fn bytes(vector: &Value) -> Vec<u8> {
    let hex = vector["hex"].as_str().expect("every vector has hex");
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex")).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The frames that a vector says are in its message; `None` where it is about an error.
fn messages(vector: &Value) -> Option<Vec<Value>> {
    match (&vector["message"], &vector["messages"]) {
        (Value::Null, Value::Null) => None,
        (Value::Null, several) => several.as_array().cloned(),
        (one, _) => Some(vec![one.clone()]),
    }
}

/// What a later version says is only read.
fn is_written(vector: &Value) -> bool {
    !vector["name"].as_str().expect("every vector has a name").contains("later version")
}

fn decode<'a, T>(message: &'a [u8], decode: impl Fn(native::Frame<'a>) -> Result<T, Malformed>) -> Result<Vec<T>, Malformed> {
    let mut rest = message;
    let mut decoded = Vec::new();
    while let Some(frame) = native::next_frame(&mut rest)? {
        decoded.push(decode(frame)?);
    }
    Ok(decoded)
}

fn kind_name(kind: u8) -> &'static str {
    ValueType::from_number(kind).expect("a known type").name()
}

// What a client sends.

fn print_request(request: &Request<'_>) -> Value {
    match request {
        Request::Connect { id, version, name, capabilities } => {
            json!({ "op": "connect", "id": id, "version": version, "client": name, "capabilities": capabilities })
        }
        Request::Ping => json!({ "op": "ping" }),
        Request::Pong => json!({ "op": "pong" }),
        Request::Close => json!({ "op": "close" }),
        Request::Update { id, verb, path, kind, value, properties } => {
            let op = match verb {
                native::Verb::Add => "add",
                native::Verb::Set => "set",
                native::Verb::AddAndSet => "add_and_set",
            };
            json!({ "op": op, "id": id, "path": path, "type": kind_name(*kind), "value": hex(value), "properties": properties })
        }
        Request::Remove { id, selector } => json!({ "op": "remove", "id": id, "selector": selector }),
        Request::Fetch { id, selector, after, first, with_values } => {
            json!({ "op": "fetch", "id": id, "selector": selector, "after": after, "first": first, "values": with_values })
        }
        Request::Subscribe { id, selector, scope } => json!({ "op": "subscribe", "id": id, "selector": selector, "scope": scope }),
        Request::Unsubscribe { id, selector, scope } => json!({ "op": "unsubscribe", "id": id, "selector": selector, "scope": scope }),
        other => panic!("not of this version: {other:?}"),
    }
}

/// A vector's members in the form of `print_request`: those left out have their empty value, and of properties only the count is read.
fn normal_request(message: &Value) -> Value {
    let mut message = message.clone();
    let members = message.as_object_mut().expect("a message is an object");
    let defaults = match members["op"].as_str() {
        Some("connect") => json!({ "client": "", "capabilities": 0 }),
        Some("add" | "set" | "add_and_set") => json!({ "value": "", "properties": {} }),
        _ => json!({}),
    };
    for (name, value) in defaults.as_object().expect("an object") {
        members.entry(name).or_insert(value.clone());
    }
    if let Some(properties) = members.get_mut("properties") {
        *properties = properties.as_object().expect("properties are an object").len().into();
    }
    message
}

#[test]
fn requests_of_the_binary_form_are_read_and_written() {
    for vector in vectors("client") {
        let Some(messages) = messages(&vector) else { continue };
        let bytes = bytes(&vector);
        let requests = decode(&bytes, |frame| Ok(native::decode_request(frame))).expect("the frames fit their message");
        let printed: Vec<Value> = requests.iter().map(print_request).collect();
        assert_eq!(printed, messages.iter().map(normal_request).collect::<Vec<_>>(), "{vector}");
        let has_properties = requests.iter().any(|request| matches!(request, Request::Update { properties: 1.., .. }));
        if is_written(&vector) && !has_properties {
            let mut written = Vec::new();
            requests.iter().for_each(|request| native::put_request(&mut written, request));
            assert_eq!(hex(&written), hex(&bytes), "{vector}");
        }
    }
}

#[test]
fn requests_of_the_text_form_say_the_same() {
    for vector in vectors("client").iter().filter(|vector| !vector["text"].is_null()) {
        let message = vector["text"].to_string();
        let mut request = text::decode_request(&message).expect("the text form's message is a request");
        if let Request::Update { verb, kind, value, .. } = &mut request
            && *verb != native::Verb::Add
        {
            *value = stored(*kind, value).into();
        }
        assert_eq!(print_request(&request), normal_request(&vector["message"]), "{vector}");
    }
}

/// A value of the text form in the form in which it is kept.
fn stored(kind: u8, json: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match ValueType::from_number(kind).expect("a known type") {
        ValueType::Json => Checker::default().compact(json, JsonLimits { depth_max: 128 }, &mut out).expect("the value is JSON"),
        kind => scalar::from_json(kind, std::str::from_utf8(json).expect("JSON is text"), &mut out).expect("the value is of its type"),
    }
    out
}

#[test]
fn broken_requests_are_answered_as_the_vectors_say() {
    for vector in vectors("client").iter().filter(|vector| !vector["error"].is_null()) {
        let mut peer = Peer::upgraded("tidewire.1");
        peer.give(&frame(FIN | BINARY, &[1, 2, 1, 1]));
        peer.take();
        peer.give(&frame(FIN | BINARY, &bytes(vector)));
        let (_, payload) = parse_frames(&peer.take()).pop().expect("an answer");
        let answer = if peer.is_ended() {
            json!({ "close": u16::from_be_bytes([payload[0], payload[1]]) })
        } else {
            let mut rest = &payload[..];
            let frame = native::next_frame(&mut rest).expect("a whole frame").expect("one frame");
            let Ok(Event::Error { id, code, .. }) = native::decode_event(frame) else { panic!("not an ERROR: {vector}") };
            json!({ "code": code, "id": id })
        };
        assert_eq!(answer, vector["error"], "{vector}");
    }
}

// What the server sends.

/// The numbered limits of WELCOME, by field tag.
const LIMITS: [&str; 6] = ["keep_alive_ms", "message_bytes_max", "path_bytes_max", "value_bytes_max", "selections_max", "fetch_page_max"];

/// What an event says, in the members of the vectors; `None` for what a client skips.
fn print_event(event: &Event<'_>, outcome: &Outcome) -> Option<Value> {
    Some(match event {
        Event::Unknown => return None,
        Event::Ping => json!({ "op": "ping" }),
        Event::Pong => json!({ "op": "pong" }),
        Event::Welcome { id, version, server, capabilities, session, limits } => {
            let mut message = json!({ "op": "welcome", "id": id, "version": version });
            let texts = [("server", server), ("session", session)].into_iter().filter(|(_, text)| !text.is_empty());
            texts.for_each(|(name, text)| message[name] = (*text).into());
            if *capabilities != 0 {
                message["capabilities"] = (*capabilities).into();
            }
            for (tag, number) in limits.iter().filter(|(tag, _)| (4..=9).contains(tag)) {
                message[LIMITS[*tag as usize - 4]] = (*number).into();
            }
            message
        }
        Event::Ok { id, .. } => print_ok(*id, outcome),
        Event::Error { id, code, position, message } => {
            let mut error = json!({ "op": "error", "id": id, "code": code, "message": message });
            if let Some(position) = position {
                error["position"] = (*position).into();
            }
            error
        }
        Event::Subscribed { topic, path, kind } => json!({ "op": "subscribed", "topic": topic.0, "path": path, "type": kind.name() }),
        Event::Value { topic, value } => json!({ "op": "value", "topic": topic.0, "value": hex(value) }),
        Event::Delta { topic, form, delta } => {
            let op = if *form == delta::Form::Deflate { "delta_deflate" } else { "delta_copy" };
            json!({ "op": op, "topic": topic.0, "delta": hex(delta) })
        }
        Event::Unsubscribed { topic, reason } => json!({ "op": "unsubscribed", "topic": topic.0, "reason": reason }),
    })
}

fn print_ok(id: u64, outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Done => json!({ "op": "ok", "id": id }),
        Outcome::Created(created) => json!({ "op": "ok", "id": id, "created": created }),
        Outcome::Removed(removed) => json!({ "op": "ok", "id": id, "removed": removed }),
        Outcome::Page { has_more, entries, .. } => {
            let print = |entry: &native::Entry| match &entry.value {
                None => json!({ "path": entry.path, "type": entry.kind.name() }),
                Some(value) => json!({ "path": entry.path, "type": entry.kind.name(), "value": hex(value) }),
            };
            json!({ "op": "ok", "id": id, "has_more": has_more, "topics": entries.iter().map(print).collect::<Vec<_>>() })
        }
    }
}

/// What an OK's body says as the answer to the operation that the vector names.
fn read_outcome(vector: &Value, event: &Event<'_>) -> Outcome {
    let Event::Ok { body, .. } = event else { return Outcome::Done };
    let mut reader = Reader(body);
    let outcome = match vector["answers"].as_str() {
        Some("add" | "add_and_set") => Outcome::Created(reader.byte().expect("created") == 1),
        Some("remove") => Outcome::Removed(reader.varint().expect("a count")),
        Some("fetch") => native::decode_page(&mut reader, vector["values"] == true).expect("a page"),
        _ => Outcome::Done,
    };
    assert!(reader.is_empty(), "{vector}");
    outcome
}

/// A vector's members in the form of `print_event`: topic numbers as numbers, and no properties, which this version's client passes over.
fn normal_event(message: &Value) -> Value {
    let mut message = message.clone();
    let members = message.as_object_mut().expect("a message is an object");
    members.remove("properties");
    if let Some(number) = members.get("topic").and_then(Value::as_str) {
        let number: u64 = number.parse().expect("a number");
        members["topic"] = number.into();
    }
    message
}

/// The limits of a WELCOME that has them all, which is the only one that the server writes.
fn read_welcome(event: &Event<'_>) -> Option<Welcome> {
    let Event::Welcome { server, capabilities, session, limits, .. } = event else { return None };
    let [keep_alive_ms, message_bytes_max, path_bytes_max, value_bytes_max, selections_max, fetch_page_max] =
        limits.iter().map(|(_, number)| *number).collect::<Vec<_>>().try_into().ok()?;
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
    })
}

/// Writes an event as the server does; tells whether it writes such a one.
fn put_event(out: &mut Vec<u8>, event: &Event<'_>, outcome: &Outcome) -> bool {
    match event {
        Event::Ping => native::put_keep_alive(out, native::op::PING),
        Event::Pong => native::put_keep_alive(out, native::op::PONG),
        Event::Welcome { id, .. } => match read_welcome(event) {
            Some(welcome) => native::put_welcome(out, *id, &welcome),
            None => return false,
        },
        Event::Ok { id, .. } => native::put_ok(out, *id, outcome),
        Event::Error { id, code, position, message } => native::put_error(out, *id, *code, *position, message),
        Event::Subscribed { topic, path, kind } => native::put_subscribed(out, *topic, path, *kind),
        Event::Value { topic, value } => out.extend(native::value_frame(*topic, value).0),
        Event::Delta { topic, form, delta } => out.extend(native::delta_frame(*topic, *form, delta)),
        Event::Unsubscribed { topic, reason } => native::put_unsubscribed(out, *topic, *reason),
        Event::Unknown => return false,
    }
    true
}

#[test]
fn events_of_the_binary_form_are_read_and_written() {
    for vector in vectors("server") {
        let Some(messages) = messages(&vector) else { continue };
        let bytes = bytes(&vector);
        let mut rest = &bytes[..];
        let (mut printed, mut written) = (Vec::new(), Vec::new());
        let mut is_whole = messages.iter().all(|message| message["properties"].as_object().is_none_or(|p| p.is_empty()));
        while let Some(frame) = native::next_frame(&mut rest).expect("the frames fit their message") {
            let event = native::decode_event(frame).expect("the frames have their form");
            let outcome = read_outcome(&vector, &event);
            printed.extend(print_event(&event, &outcome));
            is_whole &= put_event(&mut written, &event, &outcome);
        }
        assert_eq!(printed, messages.iter().map(normal_event).collect::<Vec<_>>(), "{vector}");
        if is_written(&vector) && is_whole {
            assert_eq!(hex(&written), hex(&bytes), "{vector}");
        }
    }
}

#[test]
fn events_of_the_text_form_say_the_same() {
    for vector in vectors("server").iter().filter(|vector| !vector["text"].is_null()) {
        let bytes = bytes(vector);
        let mut rest = &bytes[..];
        let frame = native::next_frame(&mut rest).expect("the frames fit their message").expect("one frame");
        let event = native::decode_event(frame).expect("the frame has its form");
        let outcome = read_outcome(vector, &event);
        let mut written = Vec::new();
        match &event {
            Event::Welcome { id, .. } => text::put_welcome(&mut written, *id, &read_welcome(&event).expect("a WELCOME with all limits")),
            Event::Ok { id, .. } => text::put_ok(&mut written, *id, &outcome),
            Event::Error { id, code, position, message } => {
                let code = ErrorCode::ALL.iter().find(|known| known.code() == *code).expect("a known code");
                text::put_error(&mut written, *id, code.code(), code.name(), *position, message);
            }
            Event::Subscribed { topic, path, kind } => text::put_subscribed(&mut written, *topic, path, *kind),
            Event::Value { topic, value } => text::put_value(&mut written, *topic, "a/b", ValueType::Json, value),
            Event::Unsubscribed { topic, reason } => {
                let reason = Reason::ALL.iter().find(|known| known.code() == u16::from(*reason)).expect("a known reason");
                text::put_unsubscribed(&mut written, *topic, "a/b", reason.name());
            }
            // The shard writes these two itself; the transcripts show them.
            Event::Ping | Event::Pong => continue,
            other => panic!("the server does not write this: {other:?}"),
        }
        let written: Value = serde_json::from_slice(&written).expect("the text form is JSON");
        let mut expected = vector["text"].clone();
        if expected["op"] == "subscribed" {
            expected["properties"] = json!({});
        }
        assert_eq!(written, expected, "{vector}");
    }
}

#[test]
fn broken_events_are_known_as_such() {
    for vector in vectors("server").iter().filter(|vector| !vector["error"].is_null()) {
        let decoded = decode(&bytes(vector), |frame| native::decode_event(frame).map(drop));
        assert_eq!(decoded, Err(Malformed), "{vector}");
    }
}
