//! What a client sends.

use super::{bytes, decode, hex, is_written, messages, vectors};
use crate::frames::{BINARY, FIN, frame, parse_frames};
use crate::peer::Peer;
use serde_json::{Value, json};
use std::borrow::Cow;
use tidewire::surface::value::json::{Checker, JsonLimits};
use tidewire::surface::value::{ValueType, scalar};
use tidewire::surface::wire::native::{self, Append, Ask, Credentials, Fetch, Heard, NULL_BIT, Query, QueryRange, Request, Update, Verb};
use tidewire::surface::wire::text;

/// The kinds of listeners and queries, and the scopes of locks, by number.
const LISTENERS: [&str; 4] = ["", "topics", "subscribers", "missing"];
const QUERIES: [&str; 3] = ["values", "latest_edits", "all_edits"];
const LOCK_SCOPES: [&str; 2] = ["session", "connection"];

/// The ends of a range, by number.
const ANCHORS: [&str; 5] = ["start", "sequence", "instant", "last_events", "last_ms"];
const SPANS: [&str; 9] =
    ["end", "sequence", "instant", "next_events", "next_ms", "until_last_events", "until_last_ms", "previous_events", "previous_ms"];

fn print_properties(properties: &native::Properties<'_>) -> Value {
    Value::Object(properties.iter().map(|(key, value)| (key.to_string(), json!(value))).collect())
}

/// What is about other sessions.
fn print_control(id: u64, ask: &Ask<'_>) -> Value {
    match ask {
        Ask::ListSessions { filter, after, first, slowest } => {
            json!({ "op": "list_sessions", "id": id, "filter": filter, "after": after, "first": first, "slowest": slowest })
        }
        Ask::ListSelections { session, after, first } => {
            json!({ "op": "list_selections", "id": id, "session": session, "after": after, "first": first })
        }
        Ask::CloseSessions { session, filter, message } => {
            json!({ "op": "close_sessions", "id": id, "session": session, "filter": filter, "message": message })
        }
        Ask::SetSessionProperties { session, filter, properties } => {
            let properties = print_properties(properties);
            json!({ "op": "set_session_properties", "id": id, "session": session, "filter": filter, "properties": properties })
        }
        Ask::ChangeRoles { session, filter, remove, add } => {
            json!({ "op": "change_roles", "id": id, "session": session, "filter": filter, "remove": remove, "add": add })
        }
        Ask::GetSecurity { offset } => json!({ "op": "get_security", "id": id, "offset": offset }),
        Ask::Authenticate { credentials } => {
            let mut message = json!({ "op": "authenticate", "id": id });
            print_credentials(&mut message, credentials);
            message
        }
        Ask::HandleAuthentication { handler, name } => {
            json!({ "op": "handle_authentication", "id": id, "handler": handler, "name": name })
        }
        Ask::GetPrincipals { offset } => json!({ "op": "get_principals", "id": id, "offset": offset }),
        Ask::ApplyPrincipals { check, script } => json!({ "op": "apply_principals", "id": id, "check": check, "script": script }),
        Ask::ApplySecurity { check, script } => json!({ "op": "apply_security", "id": id, "check": check, "script": script }),
        Ask::ConflateSessions { session, filter, conflated } => {
            json!({ "op": "conflate_sessions", "id": id, "session": session, "filter": filter, "conflated": conflated })
        }
        Ask::SubscribeSessions { session, filter, selector, scope } => {
            json!({ "op": "subscribe_sessions", "id": id, "session": session, "filter": filter, "selector": selector, "scope": scope })
        }
        Ask::UnsubscribeSessions { session, filter, selector, scope } => {
            json!({ "op": "unsubscribe_sessions", "id": id, "session": session, "filter": filter, "selector": selector, "scope": scope })
        }
        Ask::ListenSessions { listener, filter, session_properties } => {
            json!({ "op": "listen_sessions", "id": id, "listener": listener, "filter": filter, "session_properties": session_properties })
        }
        Ask::ListenQueues { listener, filter } => json!({ "op": "listen_queues", "id": id, "listener": listener, "filter": filter }),
        Ask::ListenPresence { listener, selector, once } => {
            json!({ "op": "listen_presence", "id": id, "listener": listener, "selector": selector, "once": once })
        }
        Ask::UnlistenSessions { listener } => json!({ "op": "unlisten_sessions", "id": id, "listener": listener }),
        Ask::ListPresence { selector, after_path, after, first, once } => json!({
            "op": "list_presence", "id": id, "selector": selector, "after_path": after_path, "after": after, "first": first, "once": once,
        }),
        Ask::PutSessionTree { branch, mappings } => {
            let row = |(filter, branch): &(Cow<'_, str>, Cow<'_, str>)| json!({ "filter": filter, "branch": branch });
            json!({ "op": "put_session_tree", "id": id, "branch": branch, "mappings": mappings.iter().map(row).collect::<Vec<_>>() })
        }
        Ask::GetSessionTree { branch } => json!({ "op": "get_session_tree", "id": id, "branch": branch }),
        Ask::ListSessionTrees { after } => json!({ "op": "list_session_trees", "id": id, "after": after }),
        other => panic!("no vector's message is like this: {other:?}"),
    }
}

/// What is about requests between clients.
fn print_messaging(id: u64, ask: &Ask<'_>) -> Value {
    match ask {
        Ask::HandleRequests { handler, path, session_properties } => {
            json!({ "op": "handle_requests", "id": id, "handler": handler, "path": path, "session_properties": session_properties })
        }
        Ask::UnhandleRequests { handler } => json!({ "op": "unhandle_requests", "id": id, "handler": handler }),
        Ask::Request { path, timeout_ms, kind, value } => {
            print_message(json!({ "op": "request", "id": id, "path": path }), *timeout_ms, *kind, value)
        }
        Ask::RequestSession { session, path, timeout_ms, kind, value } => {
            print_message(json!({ "op": "request_session", "id": id, "session": session, "path": path }), *timeout_ms, *kind, value)
        }
        Ask::RequestFilter { filter, path, timeout_ms, kind, value } => {
            print_message(json!({ "op": "request_filter", "id": id, "filter": filter, "path": path }), *timeout_ms, *kind, value)
        }
        Ask::Respond { request, kind, value } => print_message(json!({ "op": "respond", "id": id, "request": request }), 0, *kind, value),
        Ask::Reject { request, message } => json!({ "op": "reject", "id": id, "request": request, "message": message }),
        other => print_control(id, other),
    }
}

/// A request to another client, or its answer.
fn print_message(mut message: Value, timeout_ms: u64, kind: u8, value: &[u8]) -> Value {
    if timeout_ms != 0 {
        message["timeout_ms"] = timeout_ms.into();
    }
    (message["type"], message["value"]) = (text::type_name(kind).into(), hex(value).into());
    message
}

fn print_credentials(message: &mut Value, credentials: &Credentials<'_>) {
    let Credentials { principal, password, bearer } = credentials;
    let members = [("principal", principal), ("password", password), ("bearer", bearer)];
    for (name, text) in members.into_iter().filter(|(_, text)| !text.is_empty()) {
        message[name] = text.as_ref().into();
    }
}

fn print_connect(id: u64, ask: &Ask<'_>) -> Value {
    let Ask::Connect { version, name, capabilities, resume_ms, token, processed, properties, durable, about } = ask else { unreachable!() };
    let mut connect = json!({ "op": "connect", "id": id, "version": version, "client": name, "capabilities": capabilities });
    for (name, number) in [("resume_ms", resume_ms), ("processed", processed)].into_iter().filter(|(_, number)| **number != 0) {
        connect[name] = (*number).into();
    }
    for (name, text) in [("token", token), ("environment", &about.environment)].into_iter().filter(|(_, text)| !text.is_empty()) {
        connect[name] = text.as_ref().into();
    }
    print_credentials(&mut connect, &about.credentials);
    if *durable {
        connect["durable"] = true.into();
    }
    if !properties.is_empty() {
        connect["properties"] = print_properties(properties);
    }
    connect
}

fn print_request(request: &Request<'_>) -> Value {
    let Request { id, ask } = request;
    match ask {
        Ask::Connect { .. } => print_connect(*id, ask),
        Ask::Processed { messages } => json!({ "op": "processed", "id": id, "messages": messages }),
        Ask::Ping => json!({ "op": "ping" }),
        Ask::Pong => json!({ "op": "pong" }),
        Ask::Close => json!({ "op": "close" }),
        Ask::Update { path, update } => print_update(json!({ "op": "update", "id": id, "path": path }), update),
        Ask::Remove { selector } => json!({ "op": "remove", "id": id, "selector": selector }),
        Ask::Fetch { fetch } => print_fetch(*id, fetch),
        Ask::Subscribe { selector, scope } => {
            json!({ "op": "subscribe", "id": id, "selector": selector, "scope": scope })
        }
        Ask::Unsubscribe { selector, scope } => {
            json!({ "op": "unsubscribe", "id": id, "selector": selector, "scope": scope })
        }
        Ask::UnsubscribeAllScopes { selector } => {
            json!({ "op": "unsubscribe_all_scopes", "id": id, "selector": selector })
        }
        Ask::Listen { listener, kind, selector } => {
            json!({ "op": "listen", "id": id, "listener": listener, "kind": LISTENERS[usize::from(*kind)], "selector": selector })
        }
        Ask::Unlisten { listener, selector } => {
            json!({ "op": "unlisten", "id": id, "listener": listener, "selector": selector })
        }
        Ask::StreamOpen { stream, path, update } => {
            print_update(json!({ "op": "stream_open", "id": id, "stream": stream, "path": path }), update)
        }
        Ask::StreamSet { stream, value } => {
            json!({ "op": "stream_set", "id": id, "stream": stream, "value": hex(value) })
        }
        Ask::StreamDelta { stream, form, delta } => {
            let form = if *form == native::op::DELTA_COPY { "copy" } else { "deflate" };
            json!({ "op": "stream_delta", "id": id, "stream": stream, "form": form, "delta": hex(delta) })
        }
        Ask::StreamClose { stream } => json!({ "op": "stream_close", "id": id, "stream": stream }),
        Ask::Append { path, kind, append, value } => {
            let (op, name, number) = match append {
                Append::Original { timestamp_ms } => ("append", "timestamp", *timestamp_ms),
                Append::Edit { original } => ("edit", "original", Some(*original)),
            };
            json!({ "op": op, "id": id, "path": path, "type": text::type_name(*kind), name: number, "value": hex(value) })
        }
        Ask::Query { path, query } => print_query(*id, path, query),
        Ask::CreateView { name, definition } => {
            json!({ "op": "create_view", "id": id, "name": name, "definition": definition })
        }
        Ask::RemoveView { name } => json!({ "op": "remove_view", "id": id, "name": name }),
        Ask::ListViews { after } => json!({ "op": "list_views", "id": id, "after": after }),
        Ask::GetView { name } => json!({ "op": "get_view", "id": id, "name": name }),
        Ask::Lock { name, scope } => json!({ "op": "lock", "id": id, "name": name, "scope": LOCK_SCOPES[usize::from(*scope)] }),
        Ask::Unlock { name, number } => json!({ "op": "unlock", "id": id, "name": name, "number": number }),
        Ask::ListLocks { after } => json!({ "op": "list_locks", "id": id, "after": after }),
        other => print_messaging(*id, other),
    }
}

fn print_update(mut message: Value, update: &Update<'_>) -> Value {
    let json_of = |bytes: &[u8]| if bytes.is_empty() { Value::Null } else { serde_json::from_slice(bytes).expect("JSON") };
    let (is_null, has_value) = (update.kind & NULL_BIT != 0, matches!(update.verb, Verb::Set | Verb::AddAndSet));
    let properties = || update.properties.iter().map(|(key, value)| (key.to_string(), json!(value))).collect();
    message["verb"] = format!("{:?}", update.verb).into();
    // A patch says by itself that it is for JSON.
    message["type"] = if update.kind == 0 { Value::Null } else { text::type_name(update.kind & !NULL_BIT).into() };
    message["value"] = if has_value && !is_null { hex(&update.value).into() } else { Value::Null };
    message["patch"] = if update.verb == Verb::Patch { json_of(&update.value) } else { Value::Null };
    message["constraint"] = json_of(&update.constraint);
    message["properties"] = Value::Object(properties());
    message
}

fn print_fetch(id: u64, fetch: &Fetch<'_>) -> Value {
    let types: Vec<&str> = (1..=6).filter(|number| fetch.types & (1 << number) != 0).map(text::type_name).collect();
    let mut message = json!({
        "op": "fetch", "id": id, "selector": fetch.selector, "from": fetch.from, "after": fetch.after, "to": fetch.to, "before": fetch.before,
        "first": fetch.first, "last": fetch.last, "types": types, "depth": fetch.depth, "depth_limit": fetch.depth_limit, "bytes_max": fetch.bytes_max,
    });
    let flags = [("values", fetch.with_values), ("with_properties", fetch.with_properties), ("sizes", fetch.with_sizes)];
    flags.into_iter().for_each(|(name, flag)| message[name] = flag.into());
    message
}

fn print_query(id: u64, path: &str, query: &Query) -> Value {
    let print = |range: &QueryRange| json!([range.anchor.0, range.anchor.1, range.span.0, range.span.1]);
    json!({
        "op": "query", "id": id, "path": path, "kind": QUERIES[usize::from(query.kind)],
        "range": print(&query.range), "edit_range": query.edit_range.as_ref().map(print), "limit": query.limit,
    })
}

/// A vector's members in the form of `print_request`: those left out have the value that they mean.
fn normal_request(message: &Value) -> Value {
    let mut message = message.clone();
    let defaults = match message["op"].as_str().expect("an operation") {
        "connect" => json!({ "client": "", "capabilities": 0 }),
        "add" | "set" | "add_and_set" | "update" | "stream_open" => {
            message["verb"] = verb_of(&message).into();
            if message["op"] != "stream_open" {
                message["op"] = "update".into();
            }
            json!({ "type": null, "value": null, "patch": null, "constraint": null, "properties": {} })
        }
        "fetch" => json!({
            "from": "", "after": "", "to": "", "before": "", "first": 0, "last": 0, "types": [], "values": false, "with_properties": false,
            "sizes": false, "depth": 0, "depth_limit": 0, "bytes_max": 0,
        }),
        "append" => json!({ "timestamp": null }),
        "list_views" => json!({ "after": 0 }),
        "lock" => json!({ "scope": "session" }),
        "list_locks" => json!({ "after": "" }),
        "query" => json!({ "kind": "values", "range": {}, "edit_range": null, "limit": 0 }),
        _ => json!({}),
    };
    let members = message.as_object_mut().expect("a message is an object");
    for (name, value) in defaults.as_object().expect("an object") {
        members.entry(name).or_insert(value.clone());
    }
    if members["op"] == "query" {
        for range in ["range", "edit_range"] {
            members[range] = normal_range(&members[range]);
        }
    }
    message
}

/// What an update does, which UPDATE and STREAM_OPEN say by the members that they have.
fn verb_of(message: &Value) -> &'static str {
    let has = |name: &str| message.get(name).is_some();
    match (message["op"].as_str(), has("patch"), has("value"), has("properties")) {
        (Some("add"), ..) => "Add",
        (Some("set"), ..) => "Set",
        (Some("add_and_set"), ..) => "AddAndSet",
        (_, true, ..) => "Patch",
        (_, _, true, true) => "AddAndSet",
        (_, _, true, false) => "Set",
        (_, _, false, true) => "Add",
        (_, _, false, false) => "Check",
    }
}

fn normal_range(range: &Value) -> Value {
    if range.is_null() {
        return Value::Null;
    }
    let end = |end: &Value, names: &[&str]| match end {
        Value::Object(members) => {
            let (name, number) = members.iter().next().expect("one member");
            (names.iter().position(|known| known == name).expect("a known name"), number.as_u64().expect("a number"))
        }
        Value::Null => (0, 0),
        name => (names.iter().position(|known| name == known).expect("a known name"), 0),
    };
    let ((anchor, from), (span, to)) = (end(&range["from"], &ANCHORS), end(&range["to"], &SPANS));
    json!([anchor, from, span, to])
}

/// Whether the server's own writer would say it with a shorter operation.
fn has_shorter_form(message: &Value) -> bool {
    message["op"] == "update"
        && message.get("constraint").is_none()
        && (message.get("value").is_some() || message.get("properties").is_some())
}

#[test]
fn the_binary_form_is_read_and_written() {
    for vector in vectors("client") {
        let Some(messages) = messages(&vector) else { continue };
        let bytes = bytes(&vector);
        let requests = decode(&bytes, |frame| Ok(native::decode_request(frame))).expect("the frames fit their message");
        let printed: Vec<Value> = requests.iter().map(print_request).collect();
        assert_eq!(printed, messages.iter().map(normal_request).collect::<Vec<_>>(), "{vector}");
        let mut written = Vec::new();
        requests.iter().for_each(|request| native::put_request(&mut written, request));
        if is_written(&vector) && !messages.iter().any(has_shorter_form) {
            assert_eq!(hex(&written), hex(&bytes), "{vector}");
        }
        let again = decode(&written, |frame| Ok(native::decode_request(frame)));
        assert_eq!(again.as_ref(), Ok(&requests), "{vector}");
    }
}

#[test]
fn the_text_form_says_the_same() {
    for vector in vectors("client").iter().filter(|vector| !vector["text"].is_null()) {
        let message = vector["text"].to_string();
        let mut request = text::decode_request(&message).expect("the text form's message is a request");
        match &mut request.ask {
            Ask::Update { update, .. } | Ask::StreamOpen { update, .. } => store_value(update),
            // The stream of the vectors is one of JSON.
            Ask::StreamSet { value, .. } => *value = stored(ValueType::Json, value).into(),
            Ask::Append { kind, value, .. } => *value = stored(ValueType::from_number(*kind).expect("a type"), value).into(),
            _ => {}
        }
        assert_eq!(print_request(&request), normal_request(&vector["message"]), "{vector}");
    }
}

/// Brings an update's value into the form in which it is kept.
fn store_value(update: &mut Update<'_>) {
    if !matches!(update.verb, Verb::Set | Verb::AddAndSet) || update.kind & NULL_BIT != 0 {
        return;
    }
    let of_events = update.properties.iter().find(|(key, _)| key == "TIME_SERIES_EVENT_VALUE_TYPE");
    let kind = of_events.map_or(ValueType::from_number(update.kind), |(_, name)| ValueType::from_name(name));
    update.value = Cow::Owned(stored(kind.expect("a known type"), &update.value));
}

/// A value of the text form in the form in which it is kept.
fn stored(kind: ValueType, json: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match kind {
        ValueType::Json => Checker::default().compact(json, JsonLimits { depth_max: 128 }, &mut out).expect("the value is JSON"),
        kind => scalar::from_json(kind, std::str::from_utf8(json).expect("JSON is text"), &mut out).expect("the value is of its type"),
    }
    out
}

#[test]
fn broken_ones_are_answered_as_the_vectors_say() {
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
            let Ok(Heard::Error { id, code, .. }) = native::decode_event(frame) else { panic!("not an ERROR: {vector}") };
            json!({ "code": code, "id": id })
        };
        assert_eq!(answer, vector["error"], "{vector}");
    }
}
