//! *Topic properties*, REMOVAL: which topics go by themselves, and when.

use crate::peer::WALL_MS;
use crate::server::{Client, Server};
use serde_json::{Value, json};

/// Policies are looked at every few seconds; so long after it has come true a topic is certainly gone.
const LOOK_MS: u64 = 4_000;

/// A server with a topic `a` of this policy, made by the session.
fn start(policy: &str) -> (Server, Client) {
    let mut server = Server::new();
    let client = server.connect();
    add(&mut server, client, "a", policy);
    (server, client)
}

fn add(server: &mut Server, client: Client, path: &str, policy: &str) {
    server.ok(client, json!({ "op": "add_and_set", "path": path, "value": 1, "properties": { "REMOVAL": policy } }));
}

/// Lets time pass, in steps in which every session is heard of.
fn wait(server: &mut Server, client: Client, ms: u64) {
    for _ in 0..ms / 500 {
        server.advance(500);
        server.ask(client, json!({ "op": "ping" }));
    }
}

fn is_there(server: &mut Server, client: Client, path: &str) -> bool {
    server.value(client, path) != Value::Null
}

/// The topic stands for so long, and is gone soon after.
fn goes_after(server: &mut Server, client: Client, ms: u64) {
    wait(server, client, ms.saturating_sub(500));
    assert!(is_there(server, client, "a"), "it stands until it is time");
    wait(server, client, 500 + LOOK_MS);
    assert!(!is_there(server, client, "a"), "it is gone");
}

fn stays(server: &mut Server, client: Client) {
    wait(server, client, 20_000);
    assert!(is_there(server, client, "a"));
}

#[test]
fn a_topic_goes_at_a_time() {
    let (mut server, client) = start(&format!("when time after {}", WALL_MS + 6_000));
    goes_after(&mut server, client, 6_000);
    // WALL_MS is the first of January 2025.
    let (mut server, client) = start("when time after \"Wed, 1 Jan 2025 00:00:06 GMT\"");
    goes_after(&mut server, client, 6_000);
}

#[test]
fn a_topic_that_is_not_updated_goes() {
    let (mut server, client) = start("when no updates for 5s");
    wait(&mut server, client, 4_000);
    server.ok(client, json!({ "op": "set", "path": "a", "value": 2 }));
    goes_after(&mut server, client, 5_000);
    let (mut server, client) = start("when no updates for 1s after 9s");
    goes_after(&mut server, client, 9_000);
}

#[test]
fn a_topic_without_subscriptions_goes() {
    let (mut server, client) = start("when subscriptions < 1 for 3s");
    goes_after(&mut server, client, 3_000);
    let (mut server, client) = start("when subscriptions < 2 for 3s");
    let other = server.connect();
    server.ok(client, json!({ "op": "subscribe", "selector": "a" }));
    server.ok(other, json!({ "op": "subscribe", "selector": "a" }));
    for _ in 0..10 {
        wait(&mut server, client, 500);
        server.ask(other, json!({ "op": "ping" }));
    }
    assert!(is_there(&mut server, client, "a"));
    server.ok(other, json!({ "op": "unsubscribe", "selector": "a" }));
    goes_after(&mut server, client, 3_000);
}

#[test]
fn a_topic_goes_with_the_session_that_made_it() {
    let (mut server, client) = start("when this session closes");
    let other = server.connect();
    server.ok(other, json!({ "op": "set", "path": "a", "value": 2 }));
    stays(&mut server, client);
    let other = server.connect();
    server.close(client);
    wait(&mut server, other, LOOK_MS);
    assert!(!is_there(&mut server, other, "a"));
}

#[test]
fn a_topic_goes_when_no_session_matches() {
    let (mut server, client) = start("when no session has \"$ClientType is 'OTHER'\" for 2s");
    stays(&mut server, client);
    let (mut server, client) = start("when no session has \"$Principal is 'nobody'\" for 2s after 5s");
    goes_after(&mut server, client, 5_000);
}

#[test]
fn conditions_are_combined() {
    let (mut server, client) = start("when no updates for 1s and this session closes or time after 1");
    wait(&mut server, client, LOOK_MS);
    assert!(!is_there(&mut server, client, "a"), "`and` binds tighter");
    let (mut server, client) = start("when no updates for 1s and (this session closes or time after 9999999999999)");
    stays(&mut server, client);
}

#[test]
fn a_policy_removes_what_its_selector_matches() {
    let (mut server, client) = start("when no updates for 2s remove \"?b/\"");
    for path in ["b", "b/c", "b/d/e"] {
        server.ok(client, json!({ "op": "add_and_set", "path": path, "value": 1 }));
    }
    wait(&mut server, client, 2_000 + LOOK_MS);
    let there = ["a", "b", "b/c", "b/d/e"].map(|path| is_there(&mut server, client, path));
    assert_eq!(there, [true, true, false, false]);
}

#[test]
fn a_removal_is_told_as_any_other() {
    let (mut server, client) = start("when no updates for 2s");
    server.ok(client, json!({ "op": "subscribe", "selector": "a" }));
    server.ok(client, json!({ "op": "listen", "listener": 1, "kind": "topics", "selector": "a" }));
    for _ in 0..12 {
        server.advance(500);
    }
    let told: Vec<Value> = server.take(client).into_iter().filter(|told| told["op"] != "ping").collect();
    let words: Vec<_> = told.iter().map(|told| (told["op"].as_str().expect("an event"), told["path"].as_str())).collect();
    assert_eq!(words, [("unsubscribed", Some("a")), ("topic_notice", Some("a"))], "{told:?}");
    assert_eq!((&told[0]["reason"], &told[1]["what"]), (&json!("removed"), &json!("removed")));
}

#[test]
fn a_topics_number_is_never_used_again() {
    let (mut server, client) = start("when time after 9999999999999");
    let mut numbers = Vec::new();
    for _ in 0..3 {
        let told = server.ask(client, json!({ "op": "subscribe", "id": 1, "selector": "a" }));
        numbers.extend(told.iter().filter(|told| told["op"] == "subscribed").map(|told| told["topic"].as_u64().expect("a number")));
        server.ok(client, json!({ "op": "remove", "selector": "a" }));
        let told = server.ask(client, json!({ "op": "add", "id": 1, "path": "a" }));
        numbers.extend(told.iter().filter(|told| told["op"] == "subscribed").map(|told| told["topic"].as_u64().expect("a number")));
    }
    assert!(numbers.len() == 4 && numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
}
