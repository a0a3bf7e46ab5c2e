//! *Time series*: APPEND, EDIT, QUERY, and what subscribers are sent.

use crate::peer::{WALL_MS, limits};
use crate::server::{Client, Server, events};
use serde_json::{Value, json};
use tidewire::surface::shard::Storing;
use tidewire::surface::wire::native::{Ask, NULL_BIT, Query, QueryRange, Request};

/// A server with an empty series of doubles at `s`.
fn start(properties: Value) -> (Server, Client) {
    let mut server = Server::new();
    let client = server.connect();
    let mut all = json!({ "TIME_SERIES_EVENT_VALUE_TYPE": "double" });
    all.as_object_mut().expect("an object").extend(properties.as_object().expect("an object").clone());
    server.ok(client, json!({ "op": "add", "path": "s", "type": "time_series", "properties": all }));
    (server, client)
}

fn append(value: f64) -> Value {
    json!({ "op": "append", "id": 7, "path": "s", "type": "double", "value": value })
}

fn edit(original: u64, value: f64) -> Value {
    json!({ "op": "edit", "id": 7, "path": "s", "type": "double", "original": original, "value": value })
}

fn at(mut message: Value, timestamp: u64) -> Value {
    message["timestamp"] = timestamp.into();
    message
}

/// The sequences that a query answers.
fn sequences(answer: &Value) -> Vec<u64> {
    answer["events"].as_array().expect("events").iter().map(|event| event["sequence"].as_u64().expect("a number")).collect()
}

#[test]
fn an_event_is_appended_with_its_sequence_and_time() {
    let (mut server, client) = start(json!({}));
    assert_eq!(server.ok(client, append(0.5)), json!({ "sequence": 0, "timestamp": WALL_MS }));
    server.advance(1500);
    assert_eq!(server.ok(client, append(1.5)), json!({ "sequence": 1, "timestamp": WALL_MS + 1500 }));
    assert_eq!(server.ok(client, at(append(2.5), WALL_MS + 9000)), json!({ "sequence": 2, "timestamp": WALL_MS + 9000 }));
    assert_eq!(server.ok(client, append(3.5)), json!({ "sequence": 3, "timestamp": WALL_MS + 9000 }));
    server.refuse(client, at(append(4.5), WALL_MS + 8999), 222, None);
    server.ok(client, json!({ "op": "set", "path": "s", "type": "double", "value": 4.5 }));
    server.ok(client, json!({ "op": "update", "path": "s", "type": "double", "value": 5.5 }));
    let answer = server.ok(client, json!({ "op": "query", "path": "s" }));
    assert_eq!((&answer["complete"], &answer["type"], sequences(&answer)), (&json!(true), &json!("double"), vec![0, 1, 2, 3, 4, 5]));
    assert_eq!(answer["events"][1], json!({ "sequence": 1, "timestamp": WALL_MS + 1500, "author": "", "value": 1.5 }));
    assert_eq!(server.value(client, "s"), 5.5);
}

#[test]
fn the_first_event_may_be_at_time_0() {
    let (mut server, client) = start(json!({}));
    assert_eq!(server.ok(client, at(append(0.5), 0)), json!({ "sequence": 0, "timestamp": 0 }));
}

#[test]
fn what_is_no_event_is_refused() {
    let (mut server, client) = start(json!({}));
    server.ok(client, json!({ "op": "add_and_set", "path": "j", "value": 1 }));
    server.refuse(client, json!({ "op": "append", "id": 7, "path": "none", "value": 1 }), 202, None);
    server.refuse(client, json!({ "op": "append", "id": 7, "path": "j", "value": 1 }), 204, None);
    server.refuse(client, json!({ "op": "append", "id": 7, "path": "s", "value": 1 }), 204, None);
    server.refuse(client, json!({ "op": "append", "id": 7, "path": "s", "type": "time_series", "value": 1 }), 207, None);
    server.refuse(client, json!({ "op": "append", "id": 7, "path": "s", "type": "double", "value": "x" }), 205, None);
    server.refuse(client, json!({ "op": "append", "id": 7, "path": "s", "type": "double", "value": null }), 205, None);
    server.refuse(client, json!({ "op": "append", "id": 7, "path": "s", "type": "double" }), 106, None);
    server.refuse(client, json!({ "op": "set", "id": 7, "path": "s", "type": "double", "value": null }), 205, None);
    server.refuse(client, json!({ "op": "edit", "id": 7, "path": "s", "type": "double", "value": 1 }), 106, None);
    let binary = server.connect_binary(0);
    let append = tidewire::surface::wire::native::Append::Original { timestamp_ms: None };
    let null = Request { id: 3, ask: Ask::Append { path: "s".into(), kind: 4 | NULL_BIT, append, value: b"".as_slice().into() } };
    server.refuse_binary(binary, &null, 205);
    assert!(sequences(&server.ok(client, json!({ "op": "query", "path": "s" }))).is_empty());
}

#[test]
fn an_edit_overrides_a_retained_original() {
    let (mut server, client) = start(json!({ "TIME_SERIES_RETAINED_RANGE": "limit 2" }));
    server.refuse(client, edit(0, 9.0), 223, None);
    server.ok(client, append(0.5));
    assert_eq!(server.ok(client, edit(0, 1.5)), json!({ "sequence": 1, "timestamp": WALL_MS }));
    server.refuse(client, edit(1, 2.5), 224, None);
    server.refuse(client, edit(9, 2.5), 223, None);
    let answer = server.ok(client, json!({ "op": "query", "path": "s" }));
    assert_eq!(answer["events"], json!([{ "sequence": 1, "timestamp": WALL_MS, "original": 0, "author": "", "value": 1.5 }]));
    server.ok(client, append(2.5));
    server.ok(client, append(3.5));
    server.refuse(client, edit(0, 9.0), 223, None);
    assert_eq!(sequences(&server.ok(client, json!({ "op": "query", "path": "s" }))), [2, 3]);
    assert!(sequences(&server.ok(client, json!({ "op": "query", "path": "s", "kind": "all_edits" }))).is_empty());
}

/// Originals 0, 1, 3, 5 and the edits 2 of 0, 4 of 1, 6 of 0, a second apart.
fn edited() -> (Server, Client) {
    let (mut server, client) = start(json!({}));
    for (at, original) in [None, None, Some(0), None, Some(1), None, Some(0)].into_iter().enumerate() {
        server.ok(client, original.map_or(append(at as f64), |original| edit(original, at as f64)));
        server.advance(1000);
    }
    (server, client)
}

#[test]
fn a_query_selects_by_kind_and_ranges() {
    let (mut server, client) = edited();
    let mut check = |members: Value, expected: &[u64]| {
        let mut message = json!({ "op": "query", "path": "s" });
        message.as_object_mut().expect("an object").extend(members.as_object().expect("an object").clone());
        let answer = server.ok(client, message);
        assert_eq!((sequences(&answer), &answer["complete"]), (expected.to_vec(), &json!(true)), "{members}");
    };
    let range = |from: Value, to: Value| json!({ "range": { "from": from, "to": to } });
    check(json!({}), &[6, 4, 3, 5]);
    check(json!({ "kind": "values", "range": {} }), &[6, 4, 3, 5]);
    check(json!({ "kind": "latest_edits" }), &[4, 6]);
    check(json!({ "kind": "all_edits" }), &[2, 4, 6]);
    check(range(json!("start"), json!("end")), &[6, 4, 3, 5]);
    check(range(json!({ "sequence": 1 }), json!({ "sequence": 3 })), &[4, 3]);
    check(range(json!({ "instant": WALL_MS + 1000 }), json!({ "instant": WALL_MS + 3000 })), &[4, 3]);
    check(range(json!({ "last_events": 2 }), json!("end")), &[3, 5]);
    check(range(json!({ "sequence": 1 }), json!({ "next_events": 2 })), &[4, 3]);
    check(range(json!({ "sequence": 1 }), json!({ "next_ms": 2000 })), &[4, 3]);
    check(range(json!("start"), json!({ "until_last_events": 1 })), &[6, 4, 3]);
    check(range(json!({ "sequence": 3 }), json!({ "previous_events": 2 })), &[4, 3]);
    check(range(json!({ "sequence": 3 }), json!({ "previous_ms": 2000 })), &[4, 3]);
    check(json!({ "edit_range": { "to": { "sequence": 4 } } }), &[2, 4, 3, 5]);
    check(json!({ "kind": "all_edits", "range": { "to": { "sequence": 0 } } }), &[2, 6]);
    check(json!({ "kind": "latest_edits", "edit_range": { "from": { "sequence": 4 }, "to": { "sequence": 4 } } }), &[4]);
}

#[test]
fn a_limit_leaves_the_latest() {
    let (mut server, client) = edited();
    let answer = server.ok(client, json!({ "op": "query", "path": "s", "limit": 2 }));
    assert_eq!((sequences(&answer), &answer["complete"]), (vec![3, 5], &json!(false)));
    let answer = server.ok(client, json!({ "op": "query", "path": "s", "limit": 4 }));
    assert_eq!((sequences(&answer).len(), &answer["complete"]), (4, &json!(true)));
}

#[test]
fn a_broken_query_is_refused() {
    let (mut server, client) = edited();
    server.ok(client, json!({ "op": "add", "path": "j" }));
    server.refuse(client, json!({ "op": "query", "id": 7, "path": "none" }), 202, None);
    server.refuse(client, json!({ "op": "query", "id": 7, "path": "j" }), 204, None);
    server.refuse(client, json!({ "op": "query", "id": 7, "path": "/s" }), 200, Some(0));
    server.refuse(client, json!({ "op": "query", "id": 7, "path": "s", "kind": "frob" }), 106, None);
    server.refuse(client, json!({ "op": "query", "id": 7, "path": "s", "range": { "from": "frob" } }), 106, None);
    server.refuse(client, json!({ "op": "query", "id": 7, "path": "s", "range": { "from": { "next_ms": 1 } } }), 106, None);
    let binary = server.connect_binary(0);
    let range = |anchor: u8, span: u8| QueryRange { anchor: (anchor, 1), span: (span, 1) };
    let query = |query: Query| Request { id: 3, ask: Ask::Query { path: "s".into(), query } };
    server.refuse_binary(binary, &query(Query { kind: 3, ..Query::default() }), 225);
    server.refuse_binary(binary, &query(Query { range: range(5, 0), ..Query::default() }), 225);
    server.refuse_binary(binary, &query(Query { range: range(0, 9), ..Query::default() }), 225);
    server.refuse_binary(binary, &query(Query { edit_range: Some(range(0, 9)), ..Query::default() }), 225);
}

/// A path may begin with what starts a selector.
#[test]
fn a_query_takes_its_path_by_the_letter() {
    let (mut server, client) = edited();
    server.refuse(client, json!({ "op": "query", "id": 7, "path": ">s" }), 202, None);
    let properties = json!({ "TIME_SERIES_EVENT_VALUE_TYPE": "json" });
    server.ok(client, json!({ "op": "add", "path": ">s", "type": "time_series", "properties": properties }));
    assert!(sequences(&server.ok(client, json!({ "op": "query", "id": 7, "path": ">s" }))).is_empty());
}

fn sent_at_first(properties: Value) -> Vec<u64> {
    let (mut server, client) = start(properties);
    for value in 0..4 {
        server.ok(client, append(f64::from(value)));
        server.advance(1000);
    }
    server.ok(client, edit(1, 9.0));
    let told = events(server.ask(client, json!({ "op": "subscribe", "id": 1, "selector": "s" })));
    assert_eq!((&told[0]["op"], &told[0]["type"]), (&json!("subscribed"), &json!("time_series")));
    told[1..].iter().map(|event| event["sequence"].as_u64().expect("an event")).collect()
}

#[test]
fn a_new_subscriber_is_sent_the_subscription_range() {
    assert_eq!(sent_at_first(json!({})), [4]);
    assert_eq!(sent_at_first(json!({ "TIME_SERIES_SUBSCRIPTION_RANGE": "limit 3" })), [2, 3, 4]);
    assert_eq!(sent_at_first(json!({ "TIME_SERIES_SUBSCRIPTION_RANGE": "last 2S" })), [2, 3, 4]);
    assert_eq!(sent_at_first(json!({ "TIME_SERIES_SUBSCRIPTION_RANGE": "limit 2 last 2S" })), [3, 4]);
    assert_eq!(sent_at_first(json!({ "PUBLISH_VALUES_ONLY": "true" })), [0; 0]);
    assert_eq!(sent_at_first(json!({ "DONT_RETAIN_VALUE": "true" })), [0; 0]);
    assert_eq!(sent_at_first(json!({ "DONT_RETAIN_VALUE": "true", "TIME_SERIES_SUBSCRIPTION_RANGE": "limit 1" })), [4]);
}

#[test]
fn a_subscriber_is_sent_every_event() {
    let (mut server, client) = start(json!({}));
    server.ok(client, json!({ "op": "subscribe", "selector": "s" }));
    let told = events(server.ask(client, append(0.5)));
    assert_eq!(told, [json!({ "op": "event", "topic": 1, "path": "s", "sequence": 0, "timestamp": WALL_MS, "author": "", "value": 0.5 })]);
    let told = events(server.ask(client, edit(0, 1.5)));
    let edit =
        json!({ "op": "event", "topic": 1, "path": "s", "sequence": 1, "timestamp": WALL_MS, "original": 0, "author": "", "value": 1.5 });
    assert_eq!(told, [edit]);
}

#[test]
fn events_go_that_are_too_long_before_the_latest() {
    let (mut server, client) = start(json!({ "TIME_SERIES_RETAINED_RANGE": "last 5S" }));
    let query = || json!({ "op": "query", "path": "s" });
    server.ok(client, append(0.5));
    server.advance(4000);
    server.ok(client, append(1.5));
    for _ in 0..20 {
        server.advance(1000);
    }
    assert_eq!(sequences(&server.ok(client, query())), [0, 1], "an idle series keeps its events");
    assert_eq!(server.value(client, "s"), 1.5);
    server.ok(client, edit(0, 2.5));
    assert_eq!(sequences(&server.ok(client, query())), [2, 1], "an edit is no later original");
    server.ok(client, append(3.5));
    assert_eq!(sequences(&server.ok(client, query())), [3]);
}

#[test]
fn a_series_of_past_times_keeps_what_lies_within_its_range_of_the_latest() {
    let (mut server, client) = start(json!({ "TIME_SERIES_RETAINED_RANGE": "last 5S" }));
    for ms in [0, 1000, 6000, 7000] {
        server.ok(client, at(append(0.5), WALL_MS / 2 + ms));
    }
    server.advance(10_000);
    assert_eq!(sequences(&server.ok(client, json!({ "op": "query", "path": "s" }))), [2, 3]);
}

#[test]
fn a_restart_keeps_what_a_series_had_whatever_the_clock_says() {
    for wall_ms in [WALL_MS, 1, 2 * WALL_MS] {
        let mut server = Server::with(Storing::Memory, limits());
        let client = server.connect();
        let properties = json!({ "TIME_SERIES_EVENT_VALUE_TYPE": "double", "TIME_SERIES_RETAINED_RANGE": "last 5S" });
        server.ok(client, json!({ "op": "add", "path": "s", "type": "time_series", "properties": properties }));
        for ms in [0, 1000, 6000] {
            server.ok(client, at(append(0.5), WALL_MS + ms));
        }
        server.ok(client, edit(1, 1.5));
        let mut server = server.restart(wall_ms);
        let client = server.connect();
        assert_eq!(sequences(&server.ok(client, json!({ "op": "query", "path": "s" }))), [3, 2], "{wall_ms}");
        assert_eq!(server.value(client, "s"), 1.5);
    }
}

const DAY_MS: u64 = 86_400_000;

#[test]
fn a_timestamp_that_is_too_far_ahead_of_the_clock_is_refused() {
    let (mut server, client) = start(json!({}));
    server.refuse(client, at(append(0.5), WALL_MS + DAY_MS + 1), 226, None);
    server.refuse(client, at(append(0.5), (1 << 63) - 1), 226, None);
    assert_eq!(server.ok(client, append(1.5)), json!({ "sequence": 0, "timestamp": WALL_MS }), "nobody is shut out");
    server.ok(client, at(append(2.5), WALL_MS + DAY_MS));
    server.advance(1000);
    server.ok(client, at(append(3.5), WALL_MS + DAY_MS + 1000));
}

#[test]
fn a_stored_series_that_is_far_ahead_of_the_clock_is_taken_as_it_is() {
    let mut server = Server::with(Storing::Memory, limits());
    let client = server.connect();
    let properties = json!({ "TIME_SERIES_EVENT_VALUE_TYPE": "double" });
    server.ok(client, json!({ "op": "add", "path": "s", "type": "time_series", "properties": properties }));
    server.ok(client, append(0.5));
    let mut server = server.restart(WALL_MS - 7 * DAY_MS);
    let client = server.connect();
    assert_eq!(sequences(&server.ok(client, json!({ "op": "query", "path": "s" }))), [0]);
    assert_eq!(server.ok(client, append(1.5)), json!({ "sequence": 1, "timestamp": WALL_MS }), "the server's stamps do not go back");
    server.refuse(client, at(append(2.5), WALL_MS), 226, None);
}
