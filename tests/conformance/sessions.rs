//! *Scopes* and *Listeners*.

use crate::peer::limits;
use crate::server::{Client, Server, events};
use serde_json::{Value, json};
use tidewire::surface::shard::{Limits, Storing};
use tidewire::surface::topic::selector::SelectorLimits;

fn start(paths: &[&str]) -> (Server, Client) {
    let mut server = Server::new();
    let client = server.connect();
    for path in paths {
        server.ok(client, json!({ "op": "add_and_set", "path": path, "value": 1 }));
    }
    (server, client)
}

fn select(op: &str, selector: &str, scope: &str) -> Value {
    json!({ "op": op, "id": 7, "selector": selector, "scope": scope })
}

/// What was told, in short: `subscribed a`.
fn brief(told: &[Value]) -> Vec<String> {
    let brief = |event: &Value| {
        let words = ["op", "what", "path", "has_subscribers", "selector"].into_iter().filter_map(|name| event.get(name));
        words.map(|word| word.as_str().map_or(word.to_string(), str::to_owned)).collect::<Vec<_>>().join(" ")
    };
    told.iter().map(brief).collect()
}

/// The events that come of a message.
fn told(server: &mut Server, client: Client, message: Value) -> Vec<String> {
    brief(&events(server.ask(client, message)))
}

#[test]
fn a_topic_is_subscribed_to_while_any_scope_selects_it() {
    let (mut server, client) = start(&["a"]);
    assert_eq!(told(&mut server, client, select("subscribe", "a", "")), ["subscribed a", "value a"]);
    assert_eq!(told(&mut server, client, select("subscribe", "?a//", "x")), [""; 0]);
    assert_eq!(told(&mut server, client, select("subscribe", "a", "X")), [""; 0]);
    assert_eq!(told(&mut server, client, select("unsubscribe", "a", "")), [""; 0]);
    assert_eq!(told(&mut server, client, select("unsubscribe", "?.*//", "x")), [""; 0]);
    assert_eq!(told(&mut server, client, select("unsubscribe", "a", "x")), [""; 0]);
    assert_eq!(told(&mut server, client, select("unsubscribe", "a", "X")), ["unsubscribed a"]);
}

#[test]
fn unsubscribing_in_all_scopes_ends_it() {
    let (mut server, client) = start(&["a", "b"]);
    server.ok(client, select("subscribe", "?.*//", ""));
    server.ok(client, select("subscribe", "a", "x"));
    server.ok(client, select("subscribe", "a", "y"));
    assert_eq!(told(&mut server, client, json!({ "op": "unsubscribe_all_scopes", "id": 7, "selector": "a" })), ["unsubscribed a"]);
    assert_eq!(told(&mut server, client, json!({ "op": "unsubscribe_all_scopes", "id": 7, "selector": "?.*//" })), ["unsubscribed b"]);
}

#[test]
fn a_removed_scope_gives_its_selections_back() {
    let (mut server, client) = start(&[]);
    for round in 0..30 {
        server.ok(client, select("subscribe", &format!("a{round}"), &format!("x{round}")));
        server.ok(client, select("unsubscribe", "?.*//", &format!("x{round}")));
    }
    for number in 0..10 {
        server.ok(client, select("subscribe", &format!("b{number}"), &format!("y{number}")));
    }
    server.refuse(client, select("subscribe", "c", "z"), 300, None);
}

#[test]
fn a_scope_has_a_name_of_its_own() {
    let (mut server, client) = start(&["a"]);
    for op in ["subscribe", "unsubscribe"] {
        server.refuse(client, select(op, "a", "$x"), 216, Some(0));
        server.refuse(client, select(op, "a", &"x".repeat(257)), 216, Some(256));
        server.ok(client, select(op, "a", &"x".repeat(256)));
        server.ok(client, select(op, "a", "x$ ü"));
    }
}

#[test]
fn a_scopes_name_is_at_most_as_long_as_the_limit() {
    let mut server = Server::with(Storing::Off, Limits { scope_bytes_max: 3, ..limits() });
    let client = server.connect();
    server.ok(client, select("subscribe", "a", "xyz"));
    server.refuse(client, select("subscribe", "a", "wxyz"), 216, Some(3));
}

fn listen(listener: u64, kind: &str, selector: &str) -> Value {
    json!({ "op": "listen", "id": 7, "listener": listener, "kind": kind, "selector": selector })
}

fn unlisten(listener: u64, selector: &str) -> Value {
    json!({ "op": "unlisten", "id": 7, "listener": listener, "selector": selector })
}

#[test]
fn a_listener_is_told_of_topics_that_come_and_go() {
    let (mut server, client) = start(&["a/b", "c"]);
    assert_eq!(told(&mut server, client, listen(1, "topics", "?a/")), ["topic_notice selected a/b"]);
    assert_eq!(told(&mut server, client, json!({ "op": "add", "id": 7, "path": "a/c", "type": "int64" })), ["topic_notice added a/c"]);
    assert_eq!(told(&mut server, client, json!({ "op": "add", "id": 7, "path": "d" })), [""; 0]);
    assert_eq!(told(&mut server, client, json!({ "op": "set", "id": 7, "path": "a/b", "value": 2 })), [""; 0]);
    let removed = json!({ "op": "remove", "id": 7, "selector": "?.*//" });
    assert_eq!(told(&mut server, client, removed), ["topic_notice removed a/b", "topic_notice removed a/c"]);
}

#[test]
fn a_notice_names_type_and_properties() {
    let (mut server, client) = start(&[]);
    server.ok(client, listen(1, "topics", "a"));
    let add = json!({ "op": "add", "id": 7, "path": "a", "type": "string", "properties": { "PRIORITY": "HIGH" } });
    let notice = json!({
        "op": "topic_notice", "listener": 1, "what": "added", "path": "a", "type": "string", "properties": { "PRIORITY": "high" },
    });
    assert_eq!(events(server.ask(client, add)), [notice]);
}

#[test]
fn a_listener_is_told_of_immediate_descendants() {
    let (mut server, client) = start(&["a/b/c", "a/b/c/d", "a/e", "f/g"]);
    let selected = ["descendant_notice selected a/b/c", "descendant_notice selected a/e"];
    assert_eq!(told(&mut server, client, listen(1, "topics", "a")), selected);
    let add = |path: &str| json!({ "op": "add", "id": 7, "path": path });
    assert_eq!(told(&mut server, client, add("a")), ["topic_notice added a"]);
    assert_eq!(told(&mut server, client, add("a/b")), ["descendant_notice added a/b", "descendant_notice deselected a/b/c"]);
    let remove = |path: &str| json!({ "op": "remove", "id": 7, "selector": path });
    assert_eq!(told(&mut server, client, remove("a/b")), ["descendant_notice removed a/b", "descendant_notice selected a/b/c"]);
    assert_eq!(told(&mut server, client, remove("a/b/c/d")), [""; 0]);
    assert_eq!(told(&mut server, client, remove("a/e")), ["descendant_notice removed a/e"]);
}

#[test]
fn listeners_without_selectors_take_room_too() {
    let (mut server, client) = start(&[]);
    for listener in 1..=4 {
        server.ok(client, listen(listener, "topics", "a"));
        server.ok(client, unlisten(listener, "a"));
    }
    server.refuse(client, listen(5, "topics", "a"), 301, None);
    server.ok(client, listen(4, "topics", "a"));
    server.refuse(client, listen(4, "topics", "b"), 301, None);
    server.ok(client, unlisten(1, ""));
    server.ok(client, listen(4, "topics", "b"));
}

#[test]
fn a_selector_taken_away_deselects() {
    let (mut server, client) = start(&["a", "b"]);
    server.ok(client, listen(1, "topics", "a"));
    server.ok(client, listen(1, "topics", "b"));
    assert_eq!(told(&mut server, client, listen(1, "topics", "b")), [""; 0], "it was listened to before");
    assert_eq!(told(&mut server, client, unlisten(1, "b")), ["topic_notice deselected b"]);
    assert_eq!(told(&mut server, client, json!({ "op": "remove", "id": 7, "selector": "b" })), [""; 0]);
    assert_eq!(told(&mut server, client, unlisten(1, "")), [""; 0]);
    assert_eq!(told(&mut server, client, json!({ "op": "remove", "id": 7, "selector": "a" })), [""; 0]);
    server.refuse(client, unlisten(1, ""), 302, None);
}

#[test]
fn listeners_are_bounded_and_keep_their_kind() {
    let (mut server, client) = start(&[]);
    server.refuse(client, unlisten(1, "a"), 302, None);
    server.ok(client, listen(1, "topics", "a"));
    server.refuse(client, listen(1, "subscribers", "a"), 302, None);
    server.refuse(client, listen(2, "topics", "?("), 201, Some(1));
    server.refuse(client, listen(2, "frob", "a"), 106, None);
    server.refuse(client, listen(2, "missing", "a//b"), 200, Some(2));
    server.ok(client, listen(2, "subscribers", "a"));
    server.ok(client, listen(3, "missing", "a"));
    server.ok(client, listen(1, "topics", "b"));
    server.refuse(client, listen(1, "topics", "c"), 301, None);
    server.refuse(client, listen(4, "missing", "c"), 301, None);
    server.ok(client, unlisten(2, ""));
    server.ok(client, listen(2, "topics", "c"));
}

#[test]
fn a_listener_is_told_of_the_first_and_the_last_subscriber() {
    let (mut server, client) = start(&["a", "b"]);
    server.ok(client, listen(1, "subscribers", "a"));
    let (one, other) = (server.connect(), server.connect());
    server.ok(one, select("subscribe", "?.*//", ""));
    assert_eq!(brief(&server.take(client)), ["subscribers_notice a true"]);
    server.ok(other, select("subscribe", "a", ""));
    server.ok(one, select("unsubscribe", "a", ""));
    assert_eq!(brief(&server.take(client)), [""; 0]);
    server.close(other);
    assert_eq!(brief(&server.take(client)), ["subscribers_notice a false"]);
    server.ok(one, select("subscribe", "a", ""));
    server.ok(one, json!({ "op": "remove", "selector": "a" }));
    assert_eq!(brief(&server.take(client)), ["subscribers_notice a true", "subscribers_notice a false"]);
}

#[test]
fn a_new_listener_is_told_what_has_subscribers_already() {
    let (mut server, client) = start(&["a", "b"]);
    let other = server.connect();
    server.ok(other, select("subscribe", "a", ""));
    let told = server.ask(client, listen(1, "subscribers", "?.*//"));
    assert_eq!(brief(&told).iter().filter(|told| told.starts_with("subscribers")).collect::<Vec<_>>(), ["subscribers_notice a true"]);
}

#[test]
fn the_handler_of_the_longest_branch_is_told_what_is_missing() {
    let (mut server, client) = start(&["a/there"]);
    let other = server.connect();
    server.ok(client, listen(1, "missing", "a"));
    server.ok(client, listen(2, "missing", "a/b"));
    server.ok(other, listen(1, "missing", "a"));
    let asking = server.connect();
    let mut missing = |message: Value| {
        server.ask(asking, message);
        assert!(server.take(other).is_empty(), "the one that came first is told");
        brief(&server.take(client)).into_iter().map(|told| told.replace("missing_notice ", "")).collect::<Vec<_>>()
    };
    let fetch = |selector: &str| json!({ "op": "fetch", "id": 7, "selector": selector });
    assert_eq!(missing(select("subscribe", "a/x", "")), [">a/x"]);
    assert_eq!(missing(select("subscribe", "?a/b/.*/c", "")), ["?a/b/.*/c"]);
    assert_eq!(missing(fetch("a/b")), [">a/b"]);
    assert_eq!(missing(fetch("?a//")), [""; 0]);
    assert_eq!(missing(fetch("b/a")), [""; 0]);
    assert_eq!(missing(fetch("ab")), [""; 0]);
    assert_eq!(missing(select("subscribe", "a/there", "")), [""; 0]);
    server.close(client);
    server.ask(asking, fetch("a/b"));
    assert_eq!(brief(&server.take(other)), ["missing_notice >a/b"]);
    server.ok(other, unlisten(1, "a"));
    server.ask(asking, fetch("a/b"));
    assert!(server.take(other).is_empty());
}

#[test]
fn a_missing_notice_has_the_asking_sessions_properties() {
    let (mut server, client) = start(&[]);
    server.ok(client, listen(5, "missing", "a"));
    let asking = server.connect();
    server.ok(asking, select("subscribe", "a", ""));
    let [notice] = &server.take(client)[..] else { panic!("one notice") };
    assert_eq!(notice["listener"], 5);
    let properties = &notice["properties"];
    assert_eq!((&properties["$SessionId"], &properties["$Principal"]), (&notice["session"], &json!("")));
    assert!(notice["session"].as_str().is_some_and(|session| !session.is_empty()));
}

#[test]
fn every_listen_is_answered_also_where_it_is_taken_back_at_once() {
    let mut server = Server::with(Storing::Off, Limits { walk_slice: 1, ..limits() });
    let client = server.connect();
    for path in ["a", "a/b", "a/c"] {
        server.ok(client, json!({ "op": "add", "path": path }));
    }
    for kind in ["topics", "subscribers", "missing"] {
        let selector = if kind == "missing" { "a" } else { "?a//" };
        let mut listen = listen(1, kind, selector);
        listen["id"] = 8.into();
        let told = server.ask(client, json!([listen, unlisten(1, ""), select("subscribe", "?a//", ""), select("unsubscribe", "?a//", "")]));
        let mut ids: Vec<u64> =
            told.iter().filter(|told| told["op"] == "ok").map(|answer| answer["id"].as_u64().expect("a number")).collect();
        ids.sort_unstable();
        assert_eq!(ids, [7, 7, 7, 8], "{kind}: {told:?}");
    }
}

#[test]
fn the_longest_selector_is_taken() {
    let (mut server, client) = start(&[]);
    let longest = "a".repeat(limits().selector.text_bytes_max);
    server.ok(client, select("subscribe", &longest, ""));
    server.ok(client, json!({ "op": "fetch", "selector": longest }));
    server.ok(client, json!({ "op": "remove", "selector": longest }));
    server.ok(client, listen(1, "topics", &longest));
    server.ok(client, unlisten(1, &longest));
    server.ok(client, select("unsubscribe", &longest, ""));
    server.refuse(client, select("subscribe", &format!("{longest}a"), ""), 201, Some(longest.len() as u64));
}

#[test]
fn a_removal_policys_selector_may_be_longer_than_a_sessions() {
    let selector = SelectorLimits { text_bytes_max: 10, members_max: 1, regexes_max: 0, ..limits().selector };
    let mut server = Server::with(Storing::Off, Limits { selector, ..limits() });
    let client = server.connect();
    server.ok(client, json!({ "op": "add", "path": "a" }));
    let properties = json!({ "REMOVAL": "when no updates for 1s remove '#>a////?b/[^x]{1,3}//'" });
    server.ok(client, json!({ "op": "add", "path": "b/yy", "properties": properties }));
    for _ in 0..5 {
        server.advance(1000);
    }
    assert_eq!(server.ok(client, json!({ "op": "fetch", "selector": "?.*//" }))["topics"], json!([]));
}
