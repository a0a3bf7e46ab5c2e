//! *Batches*: requests are taken up in order. What concerns one path keeps it; questions about many are bounded.

use crate::peer::limits;
use crate::server::{Client, Server};
use serde_json::{Value, json};
use tidewire::surface::shard::{Limits, Storing};

/// A server whose walks take several turns, with topics below `b`.
fn start(questions_max: usize) -> (Server, Client) {
    let mut server = Server::with(Storing::Off, Limits { walk_slice: 1, questions_max, ..limits() });
    let client = server.connect();
    for path in ["b/1", "b/2", "b/3", "b/4"] {
        server.ok(client, json!({ "op": "add_and_set", "path": path, "value": 1 }));
    }
    (server, client)
}

fn fetch(selector: &str) -> Value {
    json!({ "op": "fetch", "id": 9, "selector": selector })
}

fn remove(selector: &str) -> Value {
    json!({ "op": "remove", "id": 8, "selector": selector })
}

fn set(path: &str, value: u64) -> Value {
    json!({ "op": "add_and_set", "id": 7, "path": path, "value": value })
}

#[test]
fn a_path_is_removed_before_what_comes_behind() {
    for walks in 0..3 {
        let (mut server, client) = start(10);
        server.ok(client, set("a", 1));
        server.ok(client, set("a/below", 1));
        let mut batch = vec![fetch("?b//"); walks];
        batch.extend([remove(">a"), set("a", 2)]);
        let told = server.ask(client, Value::from(batch));
        let by_id = |id: u64| told.iter().find(|answer| answer["id"] == id).unwrap_or_else(|| panic!("answer {id}: {told:?}"));
        assert_eq!((&by_id(8)["removed"], &by_id(7)["created"]), (&json!(1), &json!(true)), "{walks} walks are under way");
        assert_eq!((server.value(client, "a"), server.value(client, "a/below")), (json!(2), json!(1)));
    }
}

#[test]
fn a_path_is_fetched_and_subscribed_to_before_what_comes_behind() {
    let (mut server, client) = start(10);
    server.ok(client, set("a", 1));
    let mut wanted = fetch(">a");
    wanted["values"] = true.into();
    let told = server.ask(client, json!([fetch("?b//"), fetch("?b//"), wanted, set("a", 2)]));
    let found = told.iter().find(|answer| answer["topics"][0]["path"] == "a").expect("it was found");
    assert_eq!(found["topics"][0]["value"], 1);
    let told = server.ask(client, json!([fetch("?b//"), { "op": "subscribe", "id": 6, "selector": "a" }, remove(">a")]));
    let ops: Vec<_> = told.iter().filter(|told| told["topic"].is_u64()).map(|told| told["op"].as_str().expect("an event")).collect();
    assert_eq!(ops, ["subscribed", "value", "unsubscribed"]);
}

#[test]
fn a_session_has_so_many_questions_under_way_and_no_more() {
    let (mut server, client) = start(3);
    let told = server.ask(client, Value::from(vec![fetch("?b//"); 5]));
    let refused: Vec<_> = told.iter().filter(|answer| answer["op"] == "error").collect();
    assert!(refused.len() == 2 && refused.iter().all(|answer| answer["code"] == 400 && answer["id"] == 9), "{told:?}");
    assert_eq!(told.iter().filter(|answer| answer["op"] == "ok").count(), 3);
    let listen = |listener: u64| json!({ "op": "listen", "id": 5, "listener": listener, "kind": "topics", "selector": "?b//" });
    let told = server.ask(client, json!([fetch("?b//"), fetch("?b//"), fetch("?b//"), remove("?b//"), listen(1)]));
    let codes: Vec<_> = told.iter().filter_map(|answer| Some((answer["id"].as_u64()?, answer["code"].as_u64()?))).collect();
    assert_eq!(codes, [(8, 400), (5, 400)], "{told:?}");
    assert_eq!(server.ok(client, fetch("?b//"))["topics"].as_array().map(Vec::len), Some(4), "what is refused changes nothing");
    server.ok(client, listen(1));
    let pair = |selector: &str| {
        let unlisten = json!({ "op": "unlisten", "id": 2, "listener": 1, "selector": selector });
        [json!({ "op": "listen", "id": 1, "listener": 1, "kind": "topics", "selector": selector }), unlisten]
    };
    let told = server.ask(client, Value::from([pair("*1"), pair("*2"), pair("*3"), pair("*4"), pair("*5")].concat()));
    assert!(told.iter().any(|answer| answer["code"] == 400), "what selectors leave is looked at one slice a turn: {told:?}");
    assert_eq!(told.iter().filter(|answer| answer["id"].is_u64()).count(), 10, "each is answered: {told:?}");
}

#[test]
fn short_walks_are_done_before_a_long_one() {
    let limits = Limits { walk_slice: 64, topics_max: 1000, fetch_page_max: 1000, ..limits() };
    let mut server = Server::with(Storing::Off, limits);
    let client = server.connect();
    for number in 0..600 {
        server.ok(client, set(&format!("long/{number}"), 1));
    }
    server.ok(client, set("short/1", 1));
    let mut batch = vec![fetch("?long//"); 5];
    batch.extend(vec![json!({ "op": "fetch", "id": 4, "selector": "?short//" }); 5]);
    let told = server.ask(client, Value::from(batch));
    let ids: Vec<_> = told.iter().map(|answer| answer["id"].as_u64().expect("an answer")).collect();
    assert_eq!(ids, [4, 4, 4, 4, 4, 9, 9, 9, 9, 9]);
}

#[test]
fn a_selector_that_the_listener_has_is_not_looked_for_again() {
    let (mut server, client) = start(1);
    let listen = json!({ "op": "listen", "id": 5, "listener": 1, "kind": "topics", "selector": "?b//" });
    server.ok(client, listen.clone());
    // It is answered before a question that came before it.
    let told = server.ask(client, json!([listen, fetch("?b//")]));
    assert_eq!(told.iter().map(|told| told["id"].as_u64()).collect::<Vec<_>>(), [Some(5), Some(9)], "{told:?}");
}

#[test]
fn a_selector_taken_away_is_answered_behind_what_that_changes() {
    let (mut server, client) = start(10);
    let listen = |selector: &str| json!({ "op": "listen", "id": 5, "listener": 1, "kind": "topics", "selector": selector });
    let unlisten = |selector: &str| json!({ "op": "unlisten", "id": 6, "listener": 1, "selector": selector });
    server.ok(client, listen("?b//"));
    server.ok(client, listen("b"));
    server.ok(client, listen("b/1"));
    let brief = |told: &[Value]| -> Vec<String> {
        told.iter().map(|told| told["path"].as_str().map_or("ok".to_owned(), |path| format!("{} {path}", told["what"]))).collect()
    };
    let told = server.ask(client, unlisten("?b//"));
    let expected = [
        "\"deselected\" b/2",
        "\"selected\" b/2",
        "\"deselected\" b/3",
        "\"selected\" b/3",
        "\"deselected\" b/4",
        "\"selected\" b/4",
        "ok",
    ];
    assert_eq!(brief(&told), expected);
    // Taken away and added again while that is looked at, nothing is lost or told twice.
    let told = server.ask(client, json!([unlisten("b"), listen("b"), set("b/5", 1)]));
    let (mut held, mut answers) = ([2, 3, 4].map(|number| format!("b/{number}")).into_iter().collect::<std::collections::BTreeSet<_>>(), 0);
    for event in &told {
        match (event["what"].as_str(), event["path"].as_str()) {
            (Some("deselected"), Some(path)) => assert!(held.remove(path), "{path} ends twice: {told:?}"),
            (Some(_), Some(path)) => assert!(held.insert(path.to_owned()), "{path} comes twice: {told:?}"),
            _ => answers += 1,
        }
    }
    assert_eq!((held.into_iter().collect::<Vec<_>>().join(" "), answers), ("b/2 b/3 b/4 b/5".to_owned(), 3));
}
