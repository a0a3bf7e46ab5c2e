//! *UPDATE*, *Constraints* and null: what an update does, and where it is refused.

use crate::frames::{BINARY, FIN};
use crate::peer::limits;
use crate::server::{Client, Server, events};
use serde_json::{Value, json};
use tidewire::surface::shard::{Limits, Storing};
use tidewire::surface::topic::constraint::ConstraintLimits;
use tidewire::surface::wire::native::{Ask, NULL_BIT, Request, Update, Verb, op};

const STRING: u8 = 2;

fn start() -> (Server, Client) {
    let mut server = Server::new();
    let client = server.connect();
    (server, client)
}

fn update(members: Value) -> Value {
    let mut message = json!({ "op": "update", "id": 7, "path": "a" });
    message.as_object_mut().expect("an object").extend(members.as_object().expect("an object").clone());
    message
}

#[test]
fn an_update_does_what_its_fields_say() {
    let (mut server, client) = start();
    server.refuse(client, update(json!({ "value": 1 })), 202, None);
    server.refuse(client, update(json!({})), 202, None);
    server.refuse(client, update(json!({ "patch": [] })), 202, None);
    assert_eq!(server.ok(client, update(json!({ "properties": {} }))), json!({ "created": true }));
    assert_eq!(server.ok(client, update(json!({ "properties": {} }))), json!({ "created": false }));
    assert_eq!(server.value(client, "a"), Value::Null);
    assert_eq!(server.ok(client, update(json!({ "value": { "x": 1 } }))), json!({}));
    assert_eq!(server.ok(client, update(json!({ "properties": {}, "value": { "x": 2 } }))), json!({ "created": false }));
    assert_eq!(server.value(client, "a"), json!({ "x": 2 }));
    assert_eq!(
        server.ok(client, update(json!({ "path": "b", "type": "int64", "properties": {}, "value": 5 }))),
        json!({ "created": true })
    );
    assert_eq!(server.value(client, "b"), 5);
    server.refuse(client, update(json!({ "properties": { "PRIORITY": "high" }, "value": 1 })), 203, None);
    server.refuse(client, update(json!({ "type": "string", "value": "x" })), 204, None);
    assert_eq!(server.value(client, "a"), json!({ "x": 2 }));
}

#[test]
fn an_update_of_nothing_checks() {
    let (mut server, client) = start();
    server.ok(client, json!({ "op": "add_and_set", "path": "a", "type": "int64", "value": 5 }));
    server.ok(client, json!({ "op": "subscribe", "selector": "a" }));
    assert_eq!(server.ask(client, update(json!({ "type": "int64" }))), [json!({ "op": "ok", "id": 7 })]);
    server.refuse(client, update(json!({ "type": "json" })), 204, None);
    server.refuse(client, update(json!({ "type": "frob" })), 207, None);
    let holds = |value: u64| update(json!({ "type": "int64", "constraint": { "value": { "eq": value } } }));
    assert_eq!(server.ask(client, holds(5)), [json!({ "op": "ok", "id": 7 })]);
    server.refuse(client, holds(6), 212, None);
}

#[test]
fn an_update_without_an_id_is_answered_only_if_it_fails() {
    let (mut server, client) = start();
    assert!(server.ask(client, json!({ "op": "update", "path": "a", "properties": {}, "value": 1 })).is_empty());
    assert!(server.ask(client, json!({ "op": "update", "path": "a", "patch": [] })).is_empty());
    server.refuse(client, json!({ "op": "update", "path": "b", "value": 1 }), 202, None);
    assert_eq!(server.value(client, "a"), 1);
}

#[test]
fn a_patch_changes_a_json_value() {
    let (mut server, client) = start();
    let patch = |patch: Value| update(json!({ "patch": patch }));
    server.ok(client, json!({ "op": "add", "path": "a" }));
    let why = server.refuse(client, patch(json!([{ "op": "add", "path": "", "value": 1 }])), 215, Some(0));
    assert!(why.contains("no value"), "{why}");
    server.ok(client, update(json!({ "value": { "x": [1, 2] } })));
    assert_eq!(
        server.ok(client, patch(json!([{ "op": "add", "path": "/x/-", "value": 3 }, { "op": "remove", "path": "/x/0" }]))),
        json!({})
    );
    assert_eq!(server.value(client, "a"), json!({ "x": [2, 3] }));
    let one_fails = json!([{ "op": "add", "path": "/y", "value": 1 }, { "op": "remove", "path": "/z" }]);
    server.refuse(client, patch(one_fails), 215, Some(1));
    server.refuse(client, patch(json!([{ "op": "test", "path": "/x", "value": [] }])), 215, Some(0));
    assert_eq!(server.value(client, "a"), json!({ "x": [2, 3] }));
    server.refuse(client, patch(json!({})), 214, Some(0));
    server.refuse(client, patch(json!([{ "op": "frob", "path": "" }])), 214, Some(7));
    server.refuse(client, patch(json!([{ "op": "add", "path": "/x" }])), 214, Some(1));
    server.refuse(client, patch(json!([{ "op": "remove", "path": "x" }])), 214, Some(24));
    let large = "x".repeat(50_000);
    server.ok(client, update(json!({ "value": [large] })));
    server.refuse(client, patch(json!([{ "op": "copy", "from": "/0", "path": "/-" }])), 215, Some(0));
}

#[test]
fn a_patch_is_for_json_alone_and_stands_alone() {
    let (mut server, client) = start();
    server.ok(client, json!({ "op": "add_and_set", "path": "a", "type": "string", "value": "x" }));
    server.refuse(client, update(json!({ "patch": [] })), 204, None);
    let series = json!({ "TIME_SERIES_EVENT_VALUE_TYPE": "json" });
    server.ok(client, json!({ "op": "add_and_set", "path": "s", "type": "time_series", "properties": series, "value": 1 }));
    server.refuse(client, update(json!({ "path": "s", "patch": [] })), 204, None);
    server.refuse(client, update(json!({ "patch": [], "value": 1 })), 106, None);
    server.refuse(client, update(json!({ "patch": [], "properties": {} })), 106, None);
    let binary = server.connect_binary(0);
    let told = server.give_binary(binary, &[op::UPDATE, 10, 9, 1, b'a', 2, 1, b'1', 5, 2, b'[', b']']);
    assert_eq!(told, [[&[op::ERROR, 9, 100, 0][..], b"the frame's body does not have its operation's form"].concat()]);
}

#[test]
fn a_constraint_is_evaluated_before_the_update() {
    let (mut server, client) = start();
    let under = |constraint: Value, value: u64| update(json!({ "value": { "n": value }, "properties": {}, "constraint": constraint }));
    server.refuse(client, under(json!({ "no_value": true }), 1), 212, None);
    assert_eq!(server.ok(client, under(json!({ "no_topic": true }), 1)), json!({ "created": true }));
    server.refuse(client, under(json!({ "no_topic": true }), 2), 212, None);
    server.refuse(client, under(json!({ "no_value": true }), 2), 212, None);
    server.ok(client, under(json!({ "value": { "is": { "n": 1 } } }), 2));
    server.refuse(client, under(json!({ "value": { "is": { "n": 1 } } }), 3), 212, None);
    server.ok(client, under(json!({ "json": [{ "at": "/n", "gt": 1 }, { "at": "/m", "absent": true }] }), 3));
    server.refuse(client, under(json!({ "json": [{ "at": "/n", "gt": 1 }, { "at": "/m", "eq": 1 }] }), 4), 212, None);
    server.ok(client, under(json!({ "or": [{ "no_topic": true }, { "and": [{ "json": [{ "at": "/n", "le": 3.0 }] }] }] }), 4));
    assert_eq!(server.value(client, "a"), json!({ "n": 4 }));
    server.refuse(
        client,
        update(json!({ "patch": [{ "op": "remove", "path": "/n" }], "constraint": { "json": [{ "at": "/n", "eq": 5 }] } })),
        212,
        None,
    );
    server.ok(client, update(json!({ "patch": [{ "op": "remove", "path": "/n" }], "constraint": { "json": [{ "at": "/n", "eq": 4 }] } })));
    assert_eq!(server.value(client, "a"), json!({}));
}

#[test]
fn a_constraint_has_at_most_so_many_parts_as_the_limit() {
    let constraint = ConstraintLimits { parts_max: 2, ..limits().constraint };
    let mut server = Server::with(Storing::Off, Limits { constraint, ..limits() });
    let client = server.connect();
    let under = |tests: &[Value]| update(json!({ "value": 1, "properties": {}, "constraint": { "json": tests } }));
    let test = |at: &str| json!({ "at": at, "eq": 1 });
    server.refuse(client, under(&[test("/a"), test("/b")]), 212, None);
    let told = server.ask(client, under(&[test("/a"), test("/b"), test("/c")]));
    assert_eq!(told[0]["code"], json!(213), "{told:?}");
}

/// A constraint as it stands in the message, and the place in it that a refusal names.
fn refused_constraint(constraint: &str, position: u64) {
    let (mut server, client) = start();
    server.ok(client, json!({ "op": "add", "path": "a" }));
    let told = server.ask_text(client, &format!(r#"{{"op":"update","id":7,"path":"a","value":1,"constraint":{constraint}}}"#));
    assert_eq!((told[0]["code"].as_u64(), told[0]["position"].as_u64()), (Some(213), Some(position)), "{constraint}: {told:?}");
    assert_eq!(server.value(client, "a"), Value::Null);
}

#[test]
fn a_broken_constraint_is_refused_at_its_place() {
    refused_constraint(r#"{"frob":true}"#, 1);
    refused_constraint(r#"{"locked":"x"}"#, 10);
    refused_constraint(r#"{"locked":{"name":"x/","number":1}}"#, 20);
    refused_constraint("{}", 0);
    refused_constraint("[]", 0);
    refused_constraint(r#"{"no_topic":false}"#, 12);
    refused_constraint(r#"{"value":{"gt":[]}}"#, 15);
    refused_constraint(r#"{"value":{"gt":"x"}}"#, 15);
    refused_constraint(r#"{"json":[{"at":"a","eq":1}]}"#, 16);
    refused_constraint(r#"{"and":[]}"#, 7);
    refused_constraint(r#"{"no_value":true,"no_topic":true}"#, 17);
}

#[test]
fn a_constraint_that_nothing_satisfies_is_refused() {
    for contradiction in [
        r#"{"and":[{"no_topic":true},{"no_value":true}]}"#,
        r#"{"and":[{"no_value":true},{"value":{"eq":1}}]}"#,
        r#"{"and":[{"value":{"is":5}},{"value":{"gt":6}}]}"#,
        r#"{"and":[{"value":{"gt":6}},{"value":{"lt":6}}]}"#,
        r#"{"and":[{"value":{"eq":6}},{"value":{"ne":6.0}}]}"#,
        r#"{"json":[{"at":"/a","absent":true},{"at":"/a","eq":1}]}"#,
    ] {
        let (mut server, client) = start();
        let told = server.ask_text(client, &format!(r#"{{"op":"update","id":7,"path":"a","value":1,"constraint":{contradiction}}}"#));
        assert_eq!(told[0]["code"], 213, "{contradiction}: {told:?}");
        assert!(told[0]["position"].as_u64().is_some_and(|position| position < contradiction.len() as u64), "{contradiction}: {told:?}");
    }
}

#[test]
fn null_takes_the_value_away() {
    for (kind, value) in [("string", json!("x")), ("int64", json!(5)), ("double", json!(0.5))] {
        let (mut server, client) = start();
        let binary = server.connect_binary(0);
        server.ok(client, json!({ "op": "subscribe", "selector": "a" }));
        server.ask_binary(binary, &Request { id: 1, ask: Ask::Subscribe { selector: "a".into(), scope: "".into() } });
        server.ok(client, json!({ "op": "add_and_set", "path": "a", "type": kind, "value": value }));
        server.take_binary(binary);
        let told = server.ask(client, json!({ "op": "set", "path": "a", "id": 1, "type": kind, "value": null }));
        assert_eq!(events(told), [json!({ "op": "value", "topic": 1, "path": "a", "value": null })]);
        assert_eq!(server.take_binary(binary), [[op::NULL_VALUE, 1]]);
        assert_eq!(server.value(client, "a"), Value::Null);
        let later = server.connect();
        let told = events(server.ask(later, json!({ "op": "subscribe", "selector": "a" })));
        assert_eq!(told.len(), 1, "a session that subscribes later is sent no value: {told:?}");
        server.ok(client, update(json!({ "type": kind, "value": value, "constraint": { "no_value": true } })));
        assert_eq!(server.value(client, "a"), value);
        server.ok(client, json!({ "op": "add_and_set", "path": "n", "type": kind, "value": null }));
        assert_eq!(server.value(client, "n"), Value::Null);
    }
}

#[test]
fn json_has_a_null_of_its_own_and_binary_none() {
    let (mut server, client) = start();
    server.ok(client, json!({ "op": "add_and_set", "path": "a", "value": null }));
    let answer = server.ok(client, json!({ "op": "fetch", "selector": "a", "values": true, "sizes": true }));
    assert_eq!(answer["topics"][0], json!({ "path": "a", "type": "json", "value": null, "size": 4 }));
    server.refuse(client, json!({ "op": "add_and_set", "path": "b", "type": "binary", "value": null }), 205, None);
    let binary = server.connect_binary(0);
    let set = |kind: u8, value: &'static [u8]| Request {
        id: 3,
        ask: Ask::Update { path: "b".into(), update: Update::new(Verb::AddAndSet, kind, value) },
    };
    server.refuse_binary(binary, &set(1 | NULL_BIT, b""), 205);
    server.refuse_binary(binary, &set(5 | NULL_BIT, b""), 205);
    server.refuse_binary(binary, &set(STRING | NULL_BIT, b"x"), 205);
    server.refuse_binary(binary, &set(1, b""), 205);
    server.refuse_binary(binary, &set(3, b""), 205);
    server.refuse_binary(binary, &set(4, b""), 205);
    assert_eq!(server.ask_binary(binary, &set(STRING | NULL_BIT, b"")), [[op::OK, 3, 1]]);
}

impl Server {
    /// One frame's answer, which the decoder need not know.
    fn give_binary(&mut self, client: Client, message: &[u8]) -> Vec<Vec<u8>> {
        self.give(client, FIN | BINARY, message);
        self.take_binary(client)
    }
}

#[test]
fn each_object_of_a_batch_is_answered_for_itself() {
    let (mut server, client) = start();
    let message = "[ {\"op\":\"add\",\"id\":1,\"path\":\"a\"} ,\n 7,{\"op\":\"frob\",\"id\":2}, [], {\"id\":3,\"op\":\"set\"},{\"op\":\"add\",\"id\":4,\"path\":\"a\"}]";
    let told = server.ask_text(client, message);
    let codes: Vec<_> =
        told.iter().map(|answer| (answer["id"].as_u64().unwrap(), answer["code"].as_u64(), answer["position"].as_u64())).collect();
    let at = |text: &str| Some(message.find(text).unwrap() as u64);
    let expected =
        [(1, None, None), (0, Some(105), at("7,")), (2, Some(101), None), (0, Some(105), at("[],")), (3, Some(106), None), (4, None, None)];
    assert_eq!(codes, expected, "{told:?}");
    assert_eq!((&told[0]["created"], &told[5]["created"]), (&json!(true), &json!(false)));
    for (broken, position) in [("[{\"op\":\"ping\"},", 15), ("[{\"op\":\"ping\"}] x", 16), (" 7", 1), ("", 0), ("[{\"op\" \"ping\"}]", 7)] {
        let told = server.ask_text(client, broken);
        let found = (told[0]["id"].as_u64(), told[0]["code"].as_u64(), told[0]["position"].as_u64());
        assert_eq!((told.len(), found), (1, (Some(0), Some(105), Some(position))), "{broken}: {told:?}");
    }
    assert!(server.ask_text(client, "[]").is_empty());
}

#[test]
fn an_event_is_never_null_and_a_refused_one_adds_no_topic() {
    let (mut server, client) = start();
    let binary = server.connect_binary(0);
    let properties = vec![("TIME_SERIES_EVENT_VALUE_TYPE".into(), "double".into())];
    let update = Update { properties, ..Update::new(Verb::AddAndSet, 6 | NULL_BIT, &b""[..]) };
    server.refuse_binary(binary, &Request { id: 3, ask: Ask::Update { path: "s".into(), update: update.clone() } }, 205);
    server.refuse_binary(binary, &Request { id: 4, ask: Ask::StreamOpen { stream: 1, path: "s".into(), update } }, 205);
    let properties = json!({ "TIME_SERIES_EVENT_VALUE_TYPE": "double" });
    let message = json!({ "op": "add_and_set", "id": 5, "path": "s", "type": "time_series", "properties": properties, "value": null });
    server.refuse(client, message, 205, None);
    assert_eq!(server.ok(client, json!({ "op": "fetch", "selector": "?.*//" }))["topics"], json!([]));
}

#[test]
fn no_update_that_is_refused_adds_its_topic() {
    let (mut server, client) = start();
    for members in [
        json!({ "value": 1, "type": "string" }),
        json!({ "value": "x".repeat(60_001), "type": "string" }),
        json!({ "value": 1, "constraint": { "no_value": true } }),
        json!({ "value": 1, "constraint": {} }),
        json!({ "value": 1, "properties": { "PRIORITY": "x" } }),
        json!({ "type": "time_series", "value": 1 }),
    ] {
        let mut message = update(json!({ "properties": {} }));
        message.as_object_mut().expect("an object").extend(members.as_object().expect("an object").clone());
        let told = server.ask(client, message);
        assert_eq!(told[0]["op"], "error", "{members}");
    }
    assert_eq!(server.ok(client, json!({ "op": "fetch", "selector": "?.*//" }))["topics"], json!([]));
}
