//! FETCH: what its fields choose, and what an entry shows.

use crate::server::{Client, Server};
use serde_json::{Value, json};

/// The tree that the vendor-neutral literature explains ranges with.
const PATHS: [&str; 11] = ["a", "a/b", "a/c", "a/c/x", "a/c/y", "a/d", "a/e", "b", "b/a/x", "b/b/x", "c"];

fn start() -> (Server, Client) {
    let mut server = Server::new();
    let client = server.connect();
    for path in PATHS {
        server.ok(client, json!({ "op": "add_and_set", "path": path, "value": path }));
    }
    (server, client)
}

fn fetch(members: Value) -> Value {
    let mut message = json!({ "op": "fetch", "id": 7, "selector": "?.*//" });
    message.as_object_mut().expect("an object").extend(members.as_object().expect("an object").clone());
    message
}

fn paths(answer: &Value) -> Vec<&str> {
    answer["topics"].as_array().expect("topics").iter().map(|topic| topic["path"].as_str().expect("a path")).collect()
}

fn check(members: Value, expected: &[&str], has_more: bool) {
    let (mut server, client) = start();
    let answer = server.ok(client, fetch(members.clone()));
    assert_eq!((paths(&answer), &answer["has_more"]), (expected.to_vec(), &json!(has_more)), "{members}");
}

#[test]
fn a_range_has_ends_of_either_kind() {
    check(json!({}), &PATHS, false);
    check(json!({ "from": "a/c/y", "to": "b/a/x" }), &["a/c/y", "a/d", "a/e", "b", "b/a/x"], false);
    check(json!({ "after": "a/c/y", "before": "b/a/x" }), &["a/d", "a/e", "b"], false);
    check(json!({ "from": "a/c/z", "to": "a/dd" }), &["a/d"], false);
    check(json!({ "after": "c" }), &[], false);
    check(json!({ "before": "a" }), &[], false);
    check(json!({ "from": "b", "to": "a" }), &[], false);
    check(json!({ "selector": "?a//", "from": "a/d" }), &["a/d", "a/e"], false);
}

#[test]
fn a_page_is_the_first_or_the_last_of_its_range() {
    check(json!({ "first": 2 }), &["a", "a/b"], true);
    check(json!({ "first": 2, "after": "a/b" }), &["a/c", "a/c/x"], true);
    check(json!({ "first": 11 }), &PATHS, false);
    check(json!({ "last": 2 }), &["b/b/x", "c"], true);
    check(json!({ "last": 2, "before": "b/b/x" }), &["b", "b/a/x"], true);
    check(json!({ "last": 11 }), &PATHS, false);
    check(json!({ "last": 3, "before": "a/c" }), &["a", "a/b"], false);
}

#[test]
fn pages_forth_and_back_give_every_topic_once() {
    let (mut server, client) = start();
    for size in 1..6 {
        let (mut forth, mut back) = (Vec::new(), Vec::new());
        for (count, end) in [("first", "after"), ("last", "before")] {
            let seen = if count == "first" { &mut forth } else { &mut back };
            let mut message = fetch(json!({ count: size }));
            loop {
                let answer = server.ok(client, message.clone());
                let page: Vec<String> = paths(&answer).into_iter().map(str::to_owned).collect();
                message[end] = if count == "first" { page.last() } else { page.first() }.expect("a page is not empty").as_str().into();
                seen.splice(if count == "first" { seen.len()..seen.len() } else { 0..0 }, page);
                if answer["has_more"] == false {
                    break;
                }
            }
        }
        assert_eq!((&forth[..], &back[..]), (&PATHS.map(str::to_owned)[..], &PATHS.map(str::to_owned)[..]), "{size}");
    }
}

#[test]
fn a_deep_branch_gives_its_first_topics() {
    check(json!({ "depth": 1, "depth_limit": 2 }), &["a", "a/b", "b", "b/a/x", "c"], true);
    check(json!({ "depth": 2, "depth_limit": 1 }), &["a", "a/b", "a/c", "a/d", "a/e", "b", "b/a/x", "b/b/x", "c"], true);
    check(json!({ "depth": 1, "depth_limit": 7 }), &PATHS, false);
    check(json!({ "depth": 9, "depth_limit": 1 }), &PATHS, false);
}

#[test]
fn a_result_has_as_many_bytes_as_are_wanted_but_at_least_one_topic() {
    let (mut server, client) = start();
    let answer = server.ok(client, fetch(json!({ "bytes_max": 1 })));
    assert_eq!((paths(&answer), &answer["has_more"]), (vec!["a"], &json!(true)));
    let answer = server.ok(client, fetch(json!({ "bytes_max": 100, "values": true })));
    let count = paths(&answer).len();
    assert!((2..10).contains(&count) && answer["has_more"] == true, "{answer}");
    let answer = server.ok(client, fetch(json!({ "bytes_max": 10_000 })));
    assert_eq!((paths(&answer), &answer["has_more"]), (PATHS.to_vec(), &json!(false)));
}

#[test]
fn fields_that_do_not_go_together_are_refused() {
    let (mut server, client) = start();
    server.refuse(client, fetch(json!({ "first": 1, "last": 1 })), 208, None);
    server.refuse(client, fetch(json!({ "from": "a", "after": "a" })), 208, None);
    server.refuse(client, fetch(json!({ "to": "a", "before": "a" })), 208, None);
    server.refuse(client, fetch(json!({ "depth": 1 })), 208, None);
    server.refuse(client, fetch(json!({ "depth_limit": 1 })), 208, None);
    server.refuse(client, fetch(json!({ "types": ["frob"] })), 106, None);
    server.refuse(client, fetch(json!({ "selector": "?(" })), 201, Some(1));
}

#[test]
fn an_entry_shows_what_was_asked_for() {
    let mut server = Server::new();
    let client = server.connect();
    server.ok(client, json!({ "op": "add_and_set", "path": "j", "value": { "x": 1 } }));
    server.ok(client, json!({ "op": "add", "path": "n", "type": "int64", "properties": { "PRIORITY": "high" } }));
    server.ok(client, json!({ "op": "add_and_set", "path": "s", "type": "string", "value": "" }));
    let series = json!({ "TIME_SERIES_EVENT_VALUE_TYPE": "double" });
    server.ok(client, json!({ "op": "add_and_set", "path": "t", "type": "time_series", "properties": series, "value": 0.5 }));
    let answer = server.ok(client, fetch(json!({})));
    let plain =
        [("j", "json"), ("n", "int64"), ("s", "string"), ("t", "time_series")].map(|(path, kind)| json!({ "path": path, "type": kind }));
    assert_eq!(answer["topics"], json!(plain));
    let answer = server.ok(client, fetch(json!({ "values": true, "with_properties": true, "sizes": true })));
    let expected = json!([
        { "path": "j", "type": "json", "value": { "x": 1 }, "properties": {}, "size": 7 },
        { "path": "n", "type": "int64", "properties": { "PRIORITY": "high" } },
        { "path": "s", "type": "string", "value": "", "properties": {}, "size": 0 },
        { "path": "t", "type": "time_series", "value": 0.5, "properties": series, "size": 8 },
    ]);
    assert_eq!(answer["topics"], expected);
    for (types, expected) in
        [(json!(["json", "string"]), vec!["j", "s"]), (json!(["time_series"]), vec!["t"]), (json!([]), vec!["j", "n", "s", "t"])]
    {
        assert_eq!(paths(&server.ok(client, fetch(json!({ "types": types })))), expected);
    }
}
