//! Sessions within the process: they ask what a client can, and are told the same.

use crate::peer::limits;
use crate::server::{Client, Inside, Server};
use serde_json::json;
use std::borrow::Cow;
use tidewire::surface::session::QueueLimits;
use tidewire::surface::shard::{Limits, Storing};
use tidewire::surface::wire::native::{self, Ask, Heard, Request, Update, Verb};

const JSON: u8 = 1;

fn set(path: &str, value: &'static str) -> Ask<'static> {
    Ask::Update { path: Cow::Owned(path.to_owned()), update: Update::new(Verb::AddAndSet, JSON, value.as_bytes()) }
}

fn subscribe(selector: &'static str) -> Ask<'static> {
    Ask::Subscribe { selector: selector.into(), scope: "".into() }
}

fn start() -> (Server, Inside, Client) {
    let mut server = Server::new();
    let inside = server.open_inside();
    let client = server.connect();
    (server, inside, client)
}

/// What the session was told, in short.
fn brief(frames: &[u8]) -> Vec<String> {
    let mut rest = frames;
    let mut told = Vec::new();
    while let Some(frame) = native::next_frame(&mut rest).expect("frames are whole") {
        told.push(match native::decode_event(frame).expect("frames have their form") {
            Heard::Ok { id, .. } => format!("ok {id}"),
            Heard::Error { id, code, .. } => format!("error {id} {code}"),
            Heard::Subscribed { path, .. } => format!("subscribed {path}"),
            Heard::Value { value, .. } => format!("value {}", String::from_utf8_lossy(value)),
            Heard::Unsubscribed { .. } => "unsubscribed".to_owned(),
            other => panic!("{other:?}"),
        });
    }
    told
}

#[test]
fn what_it_sets_reaches_clients_and_what_they_set_reaches_it() {
    let (mut server, inside, client) = start();
    server.ask(client, json!({ "op": "subscribe", "selector": "?a/" }));
    let told = server.ask_inside(inside, Request { id: 7, ask: set("a/b", "{\"x\":1}") });
    assert_eq!(brief(&told), ["ok 7"]);
    let news = server.take(client);
    assert_eq!(news.last().and_then(|event| event.get("value")), Some(&json!({ "x": 1 })), "{news:?}");
    let told = server.ask_inside(inside, Request { id: 8, ask: subscribe("?a/") });
    assert_eq!(brief(&told), ["subscribed a/b", "value {\"x\":1}", "ok 8"]);
    server.ask(client, json!({ "op": "set", "path": "a/b", "type": "json", "value": { "x": 2 } }));
    assert_eq!(brief(&server.take_inside(inside)), ["value {\"x\":2}"]);
    server.close_inside(inside);
    server.ask(client, json!({ "op": "set", "path": "a/b", "type": "json", "value": { "x": 3 } }));
    assert!(server.take_inside(inside).is_empty());
}

#[test]
fn it_is_refused_what_a_client_would_be() {
    let (mut server, inside, _) = start();
    let told = server.ask_inside(inside, Request { id: 1, ask: set("//", "1") });
    assert!(brief(&told)[0].starts_with("error 1 "), "{told:?}");
    // It has no connection to ask this of.
    let told = server.ask_inside(inside, Request { id: 2, ask: Ask::Close });
    assert!(brief(&told)[0].starts_with("error 2 "), "{told:?}");
    let told = server.ask_inside(inside, Request { id: 3, ask: set("a", "1") });
    assert_eq!(brief(&told), ["ok 3"]);
}

#[test]
fn what_it_does_not_take_is_bounded() {
    let queue = QueueLimits { bytes_high: 1000, bytes_max: 2000 };
    let mut server = Server::with(Storing::Off, Limits { queue, ..limits() });
    let (inside, client) = (server.open_inside(), server.connect());
    server.ok(client, json!({ "op": "add", "path": "a", "type": "json", "properties": { "CONFLATION": "off" } }));
    server.ask_inside(inside, Request { id: 1, ask: subscribe("?.*//") });
    server.stall_inside(inside);
    for number in 0..100 {
        server.ok(client, json!({ "op": "set", "path": "a", "type": "json", "value": number }));
        if server.is_over(inside) {
            return;
        }
    }
    panic!("a hundred updates wait, and it goes on");
}
