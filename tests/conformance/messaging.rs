//! *Requests between clients* and *Sessions*: what bounds them.

use crate::peer::limits;
use crate::server::{Client, Server};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tidewire::surface::shard::{Limits, Storing};

fn start(limits: Limits) -> (Server, Client) {
    let mut server = Server::with(Storing::Off, limits);
    let client = server.connect();
    (server, client)
}

fn many() -> Limits {
    Limits { connections_max: 100, listeners_max: 100, ..limits() }
}

fn request(id: u64, bytes: usize) -> Value {
    json!({ "op": "request", "id": id, "path": "a", "type": "string", "value": "v".repeat(bytes) })
}

#[test]
fn a_session_has_so_many_bytes_of_requests_under_way() {
    let (mut server, asker) = start(Limits { request_bytes_max: 1000, ..limits() });
    let handler = server.connect();
    server.ok(handler, json!({ "op": "handle_requests", "handler": 1, "path": "a", "session_properties": [] }));
    // One goes in any case.
    server.ask(asker, request(1, 2000));
    server.refuse(asker, request(2, 1), 400, None);
    server.ok(handler, json!({ "op": "respond", "request": 1, "value": 1 }));
    assert_eq!(server.take(asker)[0]["op"], "ok");
    server.ask(asker, request(3, 600));
    server.ask(asker, request(4, 400));
    server.refuse(asker, request(5, 1), 400, None);
    server.ok(handler, json!({ "op": "reject", "request": 2, "message": "no" }));
    assert_eq!(server.take(asker)[0]["code"], 315);
    server.ask(asker, request(6, 600));
    assert_eq!(server.take(handler).iter().map(|told| told["request"].as_u64()).collect::<Vec<_>>(), [Some(4)]);
}

#[test]
fn a_message_to_all_is_under_way_until_all_were_looked_at() {
    let (mut server, asker) = start(Limits { request_bytes_max: 1000, ..limits() });
    let message = json!({ "op": "request_filter", "filter": "all", "path": "a", "type": "string", "value": "v".repeat(600) });
    let told = server.ask(asker, json!([message, message]));
    assert_eq!(told.iter().map(|told| told["code"].as_u64()).collect::<Vec<_>>(), [Some(400)], "the second is refused");
    assert!(server.ask(asker, message).is_empty(), "the first is over");
}

#[test]
fn so_many_handlers_are_tried_for_a_request() {
    let (mut server, asker) = start(many());
    let away = server.upgrade("tidewire.1.json");
    server.ok(away, json!({ "op": "connect", "resume_ms": 60_000 }));
    let handle = |handler: u64| json!({ "op": "handle_requests", "handler": handler, "path": "a", "session_properties": [] });
    (1..=65).for_each(|handler| drop(server.ok(away, handle(handler))));
    server.close(away);
    let other = server.connect();
    server.ok(other, handle(1));
    server.refuse(asker, request(1, 1), 313, None);
    // Those that were tried last come last.
    server.ask(asker, request(2, 1));
    assert_eq!(server.take(other)[0]["op"], "requested");
}

#[test]
fn a_session_has_one_name() {
    let (mut server, asker) = start(limits());
    let name = server.ok(asker, json!({ "op": "list_sessions" }))["sessions"][0]["session"].as_str().expect("a name").to_owned();
    let (run, number) = name.split_once('-').expect("a run and a number");
    let ask = |session: &str| json!({ "op": "request_session", "id": 7, "session": session, "path": "a", "value": 1 });
    server.refuse(asker, ask(&name), 310, None);
    for wrong in [format!("{run}-+{number}"), format!("{run}-0{number}"), format!("+{run}-{number}"), number.to_owned(), String::new()] {
        server.refuse(asker, ask(&wrong), 317, None);
    }
}

#[test]
fn a_property_that_a_handler_names_has_a_bounded_name() {
    let (mut server, client) = start(limits());
    let handle = |key: String| json!({ "op": "handle_requests", "id": 7, "handler": 1, "path": "a", "session_properties": [key] });
    server.ok(client, handle("k".repeat(64)));
    server.refuse(client, handle("k".repeat(65)), 106, None);
}

#[test]
fn of_two_orders_the_later_one_stands() {
    let (mut server, client) = start(many());
    (0..40).for_each(|_| _ = server.connect());
    // The longer filter is held against fewer sessions at a time.
    let long = format!("all or Tier is '{}'", "x".repeat(4000));
    let set = |id: u64, filter: &str, value: &str| json!({ "op": "set_session_properties", "id": id, "filter": filter, "properties": { "Order": value } });
    let answers = server.ask(client, json!([set(1, &long, "first"), set(2, "all", "second")]));
    assert_eq!(
        answers.iter().map(|answer| (&answer["id"], &answer["asked"])).collect::<Vec<_>>(),
        [(&json!(1), &json!(41)), (&json!(2), &json!(41))]
    );
    let listed = server.ok(client, json!({ "op": "list_sessions", "filter": "Order is 'second'" }));
    assert_eq!(listed["sessions"].as_array().map(Vec::len), Some(41));
}

#[test]
fn a_page_of_sessions_has_a_bounded_size() {
    let (mut server, client) = start(many());
    let properties: Value = (0..60).map(|number| (format!("k{number}"), json!("v".repeat(1000)))).collect::<serde_json::Map<_, _>>().into();
    let names: BTreeSet<String> = (0..30)
        .map(|_| {
            let other = server.upgrade("tidewire.1.json");
            let welcome = server.ok(other, json!({ "op": "connect", "properties": properties }));
            welcome["session"].as_str().expect("a name").to_owned()
        })
        .collect();
    let (mut listed, mut after) = (BTreeSet::new(), String::new());
    let mut pages = 0;
    loop {
        let page = server.ok(client, json!({ "op": "list_sessions", "filter": "has k1", "after": after }));
        let sessions: Vec<String> = page["sessions"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|entry| entry["session"].as_str().expect("a name").to_owned())
            .collect();
        assert!(!sessions.is_empty() && sessions.len() < 20, "{} sessions of 60 kB", sessions.len());
        after.clone_from(sessions.last().expect("one at least"));
        listed.extend(sessions);
        pages += 1;
        if page["has_more"] == false {
            break;
        }
    }
    assert_eq!((listed, pages), (names, 6));
}
