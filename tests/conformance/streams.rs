//! *Update streams*.

use crate::server::{Client, Server};
use serde_json::{Value, json};
use tidewire::surface::value::delta::{Encoder, Form};
use tidewire::surface::wire::native::{Ask, Request, Update, Verb, op};

/// A server with a JSON topic `a` of value 0, and a session with stream 1 on it.
fn open() -> (Server, Client) {
    let mut server = Server::new();
    let client = server.connect();
    server.ok(client, json!({ "op": "add_and_set", "path": "a", "value": 0 }));
    server.ok(client, json!({ "op": "stream_open", "stream": 1, "path": "a" }));
    (server, client)
}

fn set(value: Value) -> Value {
    json!({ "op": "stream_set", "id": 7, "stream": 1, "value": value })
}

fn close(id: u64) -> Value {
    json!({ "op": "stream_close", "id": id, "stream": 1 })
}

#[test]
fn a_stream_updates_its_topic_until_it_is_closed() {
    let (mut server, client) = open();
    assert_eq!(server.ask(client, set(json!(5))), [json!({ "op": "ok", "id": 7 })]);
    assert_eq!(server.value(client, "a"), 5);
    assert!(server.ask(client, json!({ "op": "stream_set", "stream": 1, "value": 6 })).is_empty(), "without an id it is not answered");
    assert_eq!(server.value(client, "a"), 6);
    assert_eq!(server.ask(client, close(8)), [json!({ "op": "ok", "id": 8 })]);
    server.refuse(client, set(json!(7)), 220, None);
    server.refuse(client, close(9), 220, None);
    assert_eq!(server.value(client, "a"), 6);
}

#[test]
fn opening_is_answered_as_an_update() {
    let (mut server, client) = open();
    let open = |members: Value| {
        let mut message = json!({ "op": "stream_open", "id": 3, "stream": 2, "path": "b", "type": "int64" });
        message.as_object_mut().expect("an object").extend(members.as_object().expect("an object").clone());
        message
    };
    server.refuse(client, open(json!({ "stream": 1 })), 221, None);
    server.refuse(client, open(json!({ "patch": [] })), 208, None);
    server.refuse(client, open(json!({ "path": "a//b" })), 200, Some(2));
    server.refuse(client, open(json!({ "type": "frob" })), 207, None);
    server.refuse(client, open(json!({ "properties": { "PRIORITY": "x" } })), 211, Some(0));
    server.refuse(client, open(json!({ "value": "x" })), 205, None);
    assert_eq!(
        server.ok(client, open(json!({ "properties": {}, "value": 5, "constraint": { "no_topic": true } }))),
        json!({ "created": true })
    );
    assert_eq!(server.value(client, "b"), 5);
    assert_eq!(server.ok(client, open(json!({ "stream": 3, "properties": {} }))), json!({ "created": false }));
    server.refuse(client, open(json!({ "stream": 4, "path": "c" })), 301, None);
}

#[test]
fn a_stream_that_could_not_be_opened_is_none_and_holds_its_number() {
    let (mut server, client) = open();
    server.refuse(client, json!({ "op": "stream_open", "stream": 2, "path": "none" }), 202, None);
    server.ok(client, json!({ "op": "add", "path": "none" }));
    server.refuse(client, json!({ "op": "stream_set", "id": 4, "stream": 2, "value": 1 }), 220, None);
    server.ok(client, json!({ "op": "stream_close", "stream": 2, "id": 5 }));
    server.ok(client, json!({ "op": "stream_open", "stream": 2, "path": "none", "id": 6 }));
}

#[test]
fn a_number_used_again_does_not_bring_an_ended_stream_back() {
    let (mut server, client) = open();
    server.ok(client, close(2));
    let unsatisfied = json!({ "op": "stream_open", "id": 3, "stream": 1, "path": "a", "constraint": { "no_topic": true } });
    server.refuse(client, unsatisfied, 212, None);
    server.refuse(client, set(json!(5)), 220, None);
    assert_eq!(server.value(client, "a"), 0);
}

/// What ends a stream: the next operation on it is refused, and changes nothing.
fn ended_by(what: impl FnOnce(&mut Server, Client)) {
    let (mut server, client) = open();
    what(&mut server, client);
    let before = server.value(client, "a");
    for _ in 0..2 {
        server.refuse(client, set(json!(99)), 220, None);
    }
    assert_eq!(server.value(client, "a"), before);
}

#[test]
fn a_stream_ends_when_its_topic_goes_or_somebody_else_updates_it() {
    ended_by(|server, client| drop(server.ok(client, json!({ "op": "remove", "selector": "a" }))));
    ended_by(|server, client| {
        server.ok(client, json!({ "op": "remove", "selector": "a" }));
        server.ok(client, json!({ "op": "add_and_set", "path": "a", "value": 1 }));
    });
    ended_by(|server, client| drop(server.ok(client, json!({ "op": "stream_open", "id": 2, "stream": 2, "path": "a" }))));
    ended_by(|server, _| {
        let other = server.connect();
        server.ok(other, json!({ "op": "set", "id": 1, "path": "a", "value": 1 }));
    });
    ended_by(|server, client| drop(server.ok(client, json!({ "op": "set", "id": 1, "path": "a", "value": 1 }))));
    ended_by(|server, client| drop(server.ok(client, json!({ "op": "update", "id": 1, "path": "a", "patch": [] }))));
}

#[test]
fn a_stream_lives_on_beside_what_updates_nothing() {
    let (mut server, client) = open();
    server.ok(client, json!({ "op": "add", "id": 1, "path": "a" }));
    server.ok(client, json!({ "op": "update", "id": 1, "path": "a" }));
    server.refuse(client, json!({ "op": "set", "id": 1, "path": "a", "type": "string", "value": "x" }), 204, None);
    server.refuse(client, json!({ "op": "update", "id": 1, "path": "a", "value": 1, "constraint": { "no_topic": true } }), 212, None);
    server.refuse(client, json!({ "op": "stream_open", "id": 1, "stream": 2, "path": "a", "constraint": { "no_topic": true } }), 212, None);
    assert_eq!(server.ask(client, set(json!(5))), [json!({ "op": "ok", "id": 7 })]);
}

#[test]
fn a_stream_ends_with_an_operation_of_its_own_that_fails() {
    let mut server = Server::new();
    let client = server.connect();
    server.ok(client, json!({ "op": "add_and_set", "path": "n", "type": "int64", "value": 0 }));
    server.ok(client, json!({ "op": "stream_open", "id": 1, "stream": 1, "path": "n", "type": "int64" }));
    server.refuse(client, set(json!("x")), 205, None);
    server.refuse(client, set(json!(1)), 220, None);
    assert_eq!(server.value(client, "n"), 0);
}

#[test]
fn a_stream_is_its_sessions_alone_and_ends_with_it() {
    let (mut server, client) = open();
    let other = server.connect();
    server.refuse(other, set(json!(1)), 220, None);
    server.close(client);
    server.ok(other, json!({ "op": "stream_open", "id": 1, "stream": 1, "path": "a" }));
    server.ok(other, set(json!(1)));
}

#[test]
fn a_stream_of_a_time_series_appends() {
    let mut server = Server::new();
    let client = server.connect();
    let properties = json!({ "TIME_SERIES_EVENT_VALUE_TYPE": "double" });
    server.ok(
        client,
        json!({ "op": "stream_open", "id": 1, "stream": 1, "path": "s", "type": "time_series", "properties": properties, "value": 0.5 }),
    );
    server.ok(client, set(json!(1.5)));
    let answer = server.ok(client, json!({ "op": "query", "id": 2, "path": "s" }));
    let values: Vec<&Value> = answer["events"].as_array().expect("events").iter().map(|event| &event["value"]).collect();
    assert_eq!(values, [&json!(0.5), &json!(1.5)]);
}

const FIRST: &str = "a text that is long enough for a delta to be worth its while, number 1";
const SECOND: &str = "a text that is long enough for a delta to be worth its while, number 2";

fn delta(previous: &str, next: &str) -> (u8, Vec<u8>) {
    let mut made = Vec::new();
    let form = Encoder::new().encode(previous.as_bytes(), next.as_bytes(), &mut made).expect("a delta is smaller");
    (if form == Form::Copy { op::DELTA_COPY } else { op::DELTA_DEFLATE }, made)
}

/// A session of the binary form with stream 1 on the STRING topic `a`.
fn open_binary() -> (Server, Client) {
    let mut server = Server::new();
    let client = server.connect_binary(0);
    let update = Update::new(Verb::AddAndSet, 2, FIRST.as_bytes());
    assert_eq!(
        server.ask_binary(client, &Request { id: 2, ask: Ask::StreamOpen { stream: 1, path: "a".into(), update } }),
        [[op::OK, 2, 1]]
    );
    (server, client)
}

#[test]
fn a_delta_makes_the_next_value_from_the_last() {
    let (mut server, client) = open_binary();
    let (form, there) = delta(FIRST, SECOND);
    let (back_form, back) = delta(SECOND, FIRST);
    let step = |form, delta: &[u8]| Request { id: 3, ask: Ask::StreamDelta { stream: 1, form, delta: delta.to_vec().into() } };
    let reader = server.connect();
    assert_eq!(server.ask_binary(client, &step(form, &there)), [[op::OK, 3]]);
    assert_eq!(server.value(reader, "a"), SECOND);
    assert_eq!(server.ask_binary(client, &step(back_form, &back)), [[op::OK, 3]]);
    assert_eq!(server.value(reader, "a"), FIRST);
    server.refuse_binary(client, &step(op::DELTA_COPY, b"\xff\xff\x01"), 205);
    server.refuse_binary(client, &step(form, &there), 220);
}

#[test]
fn a_delta_of_no_form_or_for_no_value_is_refused() {
    let (mut server, client) = open_binary();
    server.refuse_binary(client, &Request { id: 3, ask: Ask::StreamDelta { stream: 1, form: 0x91, delta: b"".as_slice().into() } }, 205);
    server.refuse_binary(
        client,
        &Request { id: 3, ask: Ask::StreamDelta { stream: 9, form: op::DELTA_COPY, delta: b"".as_slice().into() } },
        220,
    );
    let update = Update::new(Verb::AddAndSet, 3, &[0, 0, 0, 0, 0, 0, 0, 5][..]);
    server.ask_binary(client, &Request { id: 4, ask: Ask::StreamOpen { stream: 2, path: "n".into(), update } });
    server.refuse_binary(
        client,
        &Request { id: 5, ask: Ask::StreamDelta { stream: 2, form: op::DELTA_COPY, delta: b"\x10".as_slice().into() } },
        205,
    );
}

#[test]
fn a_stream_sets_null() {
    for (kind, value) in [("string", json!("x")), ("int64", json!(5)), ("double", json!(0.5))] {
        let mut server = Server::new();
        let client = server.connect();
        server.ok(client, json!({ "op": "add_and_set", "path": "n", "type": kind, "value": value }));
        server.ok(client, json!({ "op": "stream_open", "id": 1, "stream": 1, "path": "n", "type": kind }));
        server.ok(client, set(Value::Null));
        assert_eq!(server.value(client, "n"), Value::Null);
        server.ok(client, set(value.clone()));
        assert_eq!(server.value(client, "n"), value);
    }
}
