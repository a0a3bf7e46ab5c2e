//! *Topic views*: what they make, who may change it, and what is told about them.

use crate::server::{Client, Server, events};
use serde_json::{Value, json};
use tidewire::surface::shard::{DerivationLimits, Storing};

fn start() -> (Server, Client) {
    let mut server = Server::new();
    let client = server.connect();
    (server, client)
}

fn create(server: &mut Server, client: Client, name: &str, definition: &str) -> Value {
    server.ok(client, json!({ "op": "create_view", "name": name, "definition": definition }))
}

fn set(server: &mut Server, client: Client, path: &str, value: Value) {
    server.ok(client, json!({ "op": "add_and_set", "path": path, "type": "json", "value": value }));
}

/// Every topic with its value, in path order.
fn topics(server: &mut Server, client: Client, selector: &str) -> Vec<(String, Value)> {
    let answer = server.ok(client, json!({ "op": "fetch", "selector": selector, "values": true }));
    let entries = answer["topics"].as_array().expect("topics");
    entries.iter().map(|entry| (entry["path"].as_str().expect("a path").to_owned(), entry["value"].clone())).collect()
}

fn check(server: &mut Server, client: Client, selector: &str, expected: &[(&str, Value)]) {
    let found = topics(server, client, selector);
    let expected: Vec<(String, Value)> = expected.iter().map(|(path, value)| ((*path).to_owned(), value.clone())).collect();
    assert_eq!(found, expected, "{selector}");
}

fn figures(server: &mut Server, client: Client, name: &str) -> Value {
    server.ok(client, json!({ "op": "get_view", "name": name }))["views"][0].clone()
}

#[test]
fn a_view_makes_topics_of_those_that_are_there_and_of_those_that_come() {
    let (mut server, client) = start();
    set(&mut server, client, "a/1", json!(1));
    assert_eq!(create(&mut server, client, "v", "map ?a// to b/<path(1)>"), json!({ "created": true }));
    set(&mut server, client, "a/2", json!(2));
    set(&mut server, client, "a/1", json!(10));
    check(&mut server, client, "?b//", &[("b/1", json!(10)), ("b/2", json!(2))]);
    server.ok(client, json!({ "op": "remove", "selector": "a/1" }));
    check(&mut server, client, "?b//", &[("b/2", json!(2))]);
    assert_eq!(server.ok(client, json!({ "op": "remove_view", "name": "v" })), json!({ "removed": 1 }));
    check(&mut server, client, "?b//", &[]);
    assert_eq!(server.ok(client, json!({ "op": "remove_view", "name": "v" })), json!({ "removed": 0 }));
}

#[test]
fn a_subscriber_of_a_reference_topic_gets_values_and_deltas_as_of_any_topic() {
    let (mut server, client) = start();
    create(&mut server, client, "v", "map a to b as <value(/x)>");
    server.ok(client, json!({ "op": "subscribe", "selector": "b" }));
    let told = server.ask(client, json!({ "op": "add_and_set", "id": 2, "path": "a", "type": "json", "value": { "x": 1, "y": 2 } }));
    let told = events(told);
    assert_eq!(told.iter().map(|event| event["op"].as_str().unwrap()).collect::<Vec<_>>(), ["subscribed", "value"], "{told:?}");
    let told = events(server.ask(client, json!({ "op": "set", "id": 3, "path": "a", "type": "json", "value": { "x": 1, "y": 3 } })));
    assert!(told.is_empty(), "what did not change is not sent: {told:?}");
    let told = events(server.ask(client, json!({ "op": "set", "id": 4, "path": "a", "type": "json", "value": { "x": 2, "y": 3 } })));
    assert_eq!(told[0]["value"], 2);
}

#[test]
fn a_reference_topic_is_not_changed_by_clients() {
    let (mut server, client) = start();
    create(&mut server, client, "v", "map a to b");
    set(&mut server, client, "a", json!({ "x": 1 }));
    for request in [
        json!({ "op": "set", "id": 1, "path": "b", "type": "json", "value": 2 }),
        json!({ "op": "update", "id": 1, "path": "b", "patch": [] }),
    ] {
        server.refuse(client, request, 234, None);
    }
    assert_eq!(server.ok(client, json!({ "op": "remove", "selector": "?.*//" })), json!({ "removed": 1 }));
    check(&mut server, client, "?.*//", &[]);
}

#[test]
fn a_clients_topic_displaces_a_reference_topic_until_it_goes() {
    let (mut server, client) = start();
    create(&mut server, client, "v", "map a to b");
    set(&mut server, client, "a", json!(1));
    assert_eq!(server.ok(client, json!({ "op": "add_and_set", "path": "b", "type": "json", "value": "mine" })), json!({ "created": true }));
    set(&mut server, client, "a", json!(2));
    check(&mut server, client, "b", &[("b", json!("mine"))]);
    server.ok(client, json!({ "op": "remove", "selector": "b" }));
    check(&mut server, client, "b", &[("b", json!(2))]);
    server.ok(client, json!({ "op": "add", "path": "b", "type": "string" }));
    server.ok(client, json!({ "op": "remove", "selector": "?.*//" }));
    check(&mut server, client, "?.*//", &[]);
}

#[test]
fn the_earliest_view_wins_a_path_and_replacing_it_keeps_its_place() {
    let (mut server, client) = start();
    set(&mut server, client, "a", json!("a"));
    set(&mut server, client, "b", json!("b"));
    create(&mut server, client, "first", "map a to x");
    create(&mut server, client, "second", "map b to x");
    check(&mut server, client, "x", &[("x", json!("a"))]);
    assert_eq!(create(&mut server, client, "first", "map ?a to x"), json!({ "created": false }));
    check(&mut server, client, "x", &[("x", json!("a"))]);
    create(&mut server, client, "first", "map a to y");
    check(&mut server, client, "?[xy]", &[("x", json!("b")), ("y", json!("a"))]);
    create(&mut server, client, "first", "map a to x");
    check(&mut server, client, "?[xy]", &[("x", json!("a"))]);
    server.ok(client, json!({ "op": "remove_view", "name": "first" }));
    check(&mut server, client, "?[xy]", &[("x", json!("b"))]);
}

#[test]
fn within_a_view_the_first_source_in_path_order_wins() {
    let (mut server, client) = start();
    create(&mut server, client, "v", "map ?s/ to x");
    set(&mut server, client, "s/2", json!(2));
    set(&mut server, client, "s/1", json!(1));
    check(&mut server, client, "x", &[("x", json!(1))]);
    server.ok(client, json!({ "op": "remove", "selector": "s/1" }));
    check(&mut server, client, "x", &[("x", json!(2))]);
}

#[test]
fn views_build_on_views() {
    let (mut server, client) = start();
    create(&mut server, client, "second", "map ?b// to c/<path(1)> as <value(/x)>");
    create(&mut server, client, "first", "map ?a// to b/<path(1)>");
    set(&mut server, client, "a/1", json!({ "x": 5 }));
    check(&mut server, client, "?c//", &[("c/1", json!(5))]);
    server.ok(client, json!({ "op": "remove_view", "name": "first" }));
    check(&mut server, client, "?[bc]//", &[]);
}

#[test]
fn what_may_go_round_ends() {
    let (mut server, client) = start();
    create(&mut server, client, "v", "map ?.*// to <scalar(/next)>");
    set(&mut server, client, "s", json!({ "next": "a" }));
    check(&mut server, client, "a", &[("a", json!({ "next": "a" }))]);
    server.ok(client, json!({ "op": "remove", "selector": "s" }));
    check(&mut server, client, "?.*//", &[]);
    create(&mut server, client, "w", "map *n/.* to n/<path(1)>/x");
    set(&mut server, client, "n/1", json!(1));
    let deepest = topics(&mut server, client, "?n//").len();
    assert_eq!(deepest, 1 + 16);
    set(&mut server, client, "n/2", json!(2));
    assert_eq!(server.too_deep, ["v", "w"], "the log is told once of each, as the first selects all that the second makes");
    server.ok(client, json!({ "op": "remove", "selector": "n/2" }));
    assert!(figures(&mut server, client, "w")["last_failure"].as_str().unwrap().contains("16 deep"));
    server.ok(client, json!({ "op": "remove_view", "name": "w" }));
    check(&mut server, client, "?n//", &[("n/1", json!(1))]);
}

#[test]
fn an_inserted_topic_counts_when_it_comes_changes_and_goes() {
    let (mut server, client) = start();
    set(&mut server, client, "a/1", json!({ "id": "x" }));
    create(&mut server, client, "v", "map ?a// to b/<path(1)> insert names/<scalar(/id)> key /name at /name default 'none'");
    check(&mut server, client, "?b//", &[("b/1", json!({ "id": "x", "name": "none" }))]);
    set(&mut server, client, "names/x", json!({ "name": "Fred" }));
    check(&mut server, client, "?b//", &[("b/1", json!({ "id": "x", "name": "Fred" }))]);
    set(&mut server, client, "names/x", json!({ "name": "Bob" }));
    check(&mut server, client, "?b//", &[("b/1", json!({ "id": "x", "name": "Bob" }))]);
    set(&mut server, client, "a/1", json!({ "id": "y" }));
    check(&mut server, client, "?b//", &[("b/1", json!({ "id": "y", "name": "none" }))]);
    set(&mut server, client, "a/1", json!({ "id": "x" }));
    server.ok(client, json!({ "op": "remove", "selector": "names/x" }));
    check(&mut server, client, "?b//", &[("b/1", json!({ "id": "x", "name": "none" }))]);
}

#[test]
fn an_expanded_value_makes_a_topic_of_each_element_and_sends_those_that_changed() {
    let (mut server, client) = start();
    create(&mut server, client, "v", "map a to b/<expand('', /id)>");
    set(&mut server, client, "a", json!([{ "id": "x", "v": 1 }, { "id": "y", "v": 1 }]));
    server.ok(client, json!({ "op": "subscribe", "selector": "?b//" }));
    server.take(client);
    let value = json!([{ "id": "y", "v": 2 }, { "id": "x", "v": 1 }, { "id": "z", "v": 3 }]);
    let told = events(server.ask(client, json!({ "op": "set", "id": 4, "path": "a", "type": "json", "value": value })));
    assert_eq!(told.len(), 3, "y's value, z and its value: {told:?}");
    check(
        &mut server,
        client,
        "?b//",
        &[("b/x", json!({ "id": "x", "v": 1 })), ("b/y", json!({ "id": "y", "v": 2 })), ("b/z", json!({ "id": "z", "v": 3 }))],
    );
    set(&mut server, client, "a", json!([]));
    check(&mut server, client, "?b//", &[]);
}

#[test]
fn a_new_definition_preserves_none_of_what_the_old_one_made() {
    let (mut server, client) = start();
    create(&mut server, client, "v", "map a to c/<scalar(/x)>");
    set(&mut server, client, "a", json!({ "x": 1 }));
    create(&mut server, client, "v", "map a to b/<scalar(/x)> preserve topics");
    set(&mut server, client, "a", json!({ "x": 2 }));
    check(&mut server, client, "?[bc]//", &[("b/1", json!({ "x": 1 })), ("b/2", json!({ "x": 2 }))]);
}

#[test]
fn preserved_topics_stay_until_their_source_goes() {
    let (mut server, client) = start();
    create(&mut server, client, "v", "map a to b/<scalar(/x)> preserve topics");
    set(&mut server, client, "a", json!({ "x": 1 }));
    set(&mut server, client, "a", json!({ "x": 2 }));
    check(&mut server, client, "?b//", &[("b/1", json!({ "x": 1 })), ("b/2", json!({ "x": 2 }))]);
    server.ok(client, json!({ "op": "remove", "selector": "a" }));
    check(&mut server, client, "?b//", &[]);
}

#[test]
fn a_throttled_view_sends_what_came_last_when_the_period_ends() {
    let (mut server, client) = start();
    create(&mut server, client, "v", "map a to b throttle to 2 updates every second");
    set(&mut server, client, "a", json!(0));
    server.ok(client, json!({ "op": "subscribe", "selector": "b" }));
    server.take(client);
    for value in 1..=5 {
        set(&mut server, client, "a", json!(value));
    }
    check(&mut server, client, "b", &[("b", json!(2))]);
    server.advance(900);
    check(&mut server, client, "b", &[("b", json!(2))]);
    server.advance(200);
    check(&mut server, client, "b", &[("b", json!(5))]);
    server.advance(2000);
    set(&mut server, client, "a", json!(6));
    check(&mut server, client, "b", &[("b", json!(6))]);
}

#[test]
fn a_delayed_view_follows_in_order() {
    let (mut server, client) = start();
    create(&mut server, client, "v", "map ?a// to b/<path(1)> delay by 2 seconds");
    set(&mut server, client, "a/1", json!(1));
    server.advance(1000);
    set(&mut server, client, "a/1", json!(2));
    server.ok(client, json!({ "op": "remove", "selector": "a/1" }));
    check(&mut server, client, "?b//", &[]);
    server.advance(1100);
    check(&mut server, client, "?b//", &[("b/1", json!(1))]);
    server.advance(1000);
    check(&mut server, client, "?b//", &[]);
}

#[test]
fn what_waits_for_its_delay_never_follows_what_a_new_definition_makes_at_once() {
    let (mut server, client) = start();
    create(&mut server, client, "v", "map ?a// to b/<path(1)> delay by 2 seconds");
    set(&mut server, client, "a/1", json!(1));
    set(&mut server, client, "a/2", json!(1));
    create(&mut server, client, "v", "map ?a// to b/<path(1)>");
    set(&mut server, client, "a/1", json!(2));
    server.ok(client, json!({ "op": "remove", "selector": "a/2" }));
    server.advance(100);
    check(&mut server, client, "?b//", &[("b/1", json!(2))]);
    server.advance(3000);
    check(&mut server, client, "?b//", &[("b/1", json!(2))]);
}

#[test]
fn who_found_no_room_for_a_delay_finds_it_when_another_view_goes() {
    let mut limits = crate::peer::limits();
    limits.views.delay_bytes_max = 300;
    let mut server = Server::with(Storing::Off, limits);
    let client = server.connect();
    create(&mut server, client, "long", "map ?a// to b/<path(1)> delay by 2 hours");
    for path in ["a/1", "a/2", "a/3"] {
        set(&mut server, client, path, json!(1));
    }
    create(&mut server, client, "short", "map ?a// to c/<path(1)> delay by 1 second");
    server.ok(client, json!({ "op": "remove_view", "name": "long" }));
    for _ in 0..8 {
        server.advance(1100);
    }
    check(&mut server, client, "?c//", &[("c/1", json!(1)), ("c/2", json!(1)), ("c/3", json!(1))]);
}

#[test]
fn a_removed_view_takes_back_at_once_what_waits_for_its_delay() {
    let (mut server, client) = start();
    create(&mut server, client, "v", "map a to b delay by 2 seconds");
    set(&mut server, client, "a", json!(1));
    server.advance(2100);
    set(&mut server, client, "a", json!(2));
    check(&mut server, client, "b", &[("b", json!(1))]);
    server.ok(client, json!({ "op": "remove_view", "name": "v" }));
    check(&mut server, client, "b", &[]);
    server.advance(5000);
    check(&mut server, client, "b", &[]);
}

#[test]
fn a_time_series_becomes_one_with_the_same_events() {
    let (mut server, client) = start();
    let properties = json!({ "TIME_SERIES_EVENT_VALUE_TYPE": "json", "TIME_SERIES_RETAINED_RANGE": "limit 5" });
    server.ok(client, json!({ "op": "add", "path": "a", "type": "time_series", "properties": properties }));
    for value in 0..8 {
        server.ok(client, json!({ "op": "append", "path": "a", "type": "json", "value": { "x": value } }));
    }
    create(&mut server, client, "v", "map a to b as <value(/x)> with properties 'TIME_SERIES_RETAINED_RANGE': 'limit 3'");
    server.ok(client, json!({ "op": "append", "path": "a", "type": "json", "value": { "x": 8 } }));
    server.ok(client, json!({ "op": "edit", "path": "a", "original": 7, "type": "json", "value": { "x": 70 } }));
    let answer = server.ok(client, json!({ "op": "query", "path": "b" }));
    let events: Vec<(u64, i64)> = answer["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| (event["sequence"].as_u64().unwrap(), event["value"].as_i64().unwrap()))
        .collect();
    assert_eq!(events, [(6, 6), (9, 70), (8, 8)], "{answer}");
    server.refuse(client, json!({ "op": "append", "id": 1, "path": "b", "type": "json", "value": 1 }), 234, None);
}

#[test]
fn a_view_that_comes_to_a_series_takes_up_the_edits_of_all_events_that_it_keeps() {
    let (mut server, client) = start();
    let properties = json!({ "TIME_SERIES_EVENT_VALUE_TYPE": "json", "TIME_SERIES_RETAINED_RANGE": "limit 3" });
    server.ok(client, json!({ "op": "add", "path": "a", "type": "time_series", "properties": properties }));
    for value in 0..4 {
        server.ok(client, json!({ "op": "append", "path": "a", "type": "json", "value": value }));
    }
    for (original, value) in [(2, 20), (1, 10), (2, 21)] {
        server.ok(client, json!({ "op": "edit", "path": "a", "original": original, "type": "json", "value": value }));
    }
    create(&mut server, client, "v", "map a to b");
    for kind in ["values", "latest_edits", "all_edits"] {
        let mut query = |path: &str| server.ok(client, json!({ "op": "query", "path": path, "kind": kind }))["events"].clone();
        assert_eq!(query("b"), query("a"), "{kind}");
    }
}

/// A view that comes to a series of four events of one byte, under limits, makes a series of these.
fn check_taken_up(set: impl FnOnce(&mut DerivationLimits), expected: &[i64]) {
    let mut limits = crate::peer::limits();
    set(&mut limits.views);
    let mut server = Server::with(Storing::Off, limits);
    let client = server.connect();
    let properties = json!({ "TIME_SERIES_EVENT_VALUE_TYPE": "json" });
    server.ok(client, json!({ "op": "add", "path": "a", "type": "time_series", "properties": properties }));
    for value in 0..4 {
        server.ok(client, json!({ "op": "append", "path": "a", "type": "json", "value": value }));
    }
    create(&mut server, client, "v", "map a to b");
    let answer = server.ok(client, json!({ "op": "query", "path": "b" }));
    let events = answer["events"].as_array().expect("events").iter();
    assert_eq!(events.map(|event| event["value"].as_i64().expect("a number")).collect::<Vec<_>>(), expected);
}

#[test]
fn a_view_that_comes_to_a_series_takes_up_so_many_events() {
    check_taken_up(|limits| limits.events_max = 4, &[0, 1, 2, 3]);
    check_taken_up(|limits| limits.events_max = 3, &[1, 2, 3]);
    // An event counts its value and 32 bytes beside it.
    check_taken_up(|limits| limits.event_bytes_max = 2 * (1 + 32), &[2, 3]);
}

#[test]
fn events_of_a_series_are_given_what_each_of_them_names() {
    let (mut server, client) = start();
    let properties = json!({ "TIME_SERIES_EVENT_VALUE_TYPE": "json" });
    server.ok(client, json!({ "op": "add", "path": "a", "type": "time_series", "properties": properties }));
    for id in ["x", "y", "x"] {
        server.ok(client, json!({ "op": "append", "path": "a", "type": "json", "value": { "id": id } }));
    }
    for id in ["x", "y"] {
        set(&mut server, client, &format!("names/{id}"), json!({ "name": id }));
    }
    create(&mut server, client, "v", "map a to b insert names/<scalar(/id)> key /name at /name default 'none'");
    server.ok(client, json!({ "op": "append", "path": "a", "type": "json", "value": { "id": "z" } }));
    let names = |server: &mut Server| -> Vec<String> {
        let answer = server.ok(client, json!({ "op": "query", "path": "b" }));
        answer["events"].as_array().unwrap().iter().map(|event| event["value"]["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&mut server), ["x", "y", "x", "none"]);
    // Whatever was looked at is watched, be it for the newest event or for an older one.
    set(&mut server, client, "names/x", json!({ "name": "Fred" }));
    set(&mut server, client, "names/z", json!({ "name": "Bob" }));
    assert_eq!(names(&mut server), ["Fred", "y", "Fred", "Bob"]);
    for name in ["names/x", "names/y"] {
        server.ok(client, json!({ "op": "remove", "selector": name }));
    }
    assert_eq!(names(&mut server), ["none", "none", "none", "Bob"]);
    create(&mut server, client, "v", "map a to b");
    server.ok(client, json!({ "op": "remove", "selector": "?.*//" }));
    server.ok(client, json!({ "op": "remove_view", "name": "v" }));
    assert_eq!(server.view_counts(), [0; 8]);
}

#[test]
fn a_series_without_events_leads_where_its_ancestors_say() {
    let (mut server, client) = start();
    set(&mut server, client, "a", json!({ "where": "b" }));
    let properties = json!({ "TIME_SERIES_EVENT_VALUE_TYPE": "json" });
    server.ok(client, json!({ "op": "add", "path": "a/1", "type": "time_series", "properties": properties }));
    create(&mut server, client, "v", "map a/1 to <scalar(/where, 0)>/1");
    check(&mut server, client, "?b//", &[("b/1", Value::Null)]);
}

#[test]
fn a_type_turns_values_into_events_and_events_into_values() {
    let (mut server, client) = start();
    create(&mut server, client, "collect", "map a to series type time_series with properties 'TIME_SERIES_RETAINED_RANGE': 'limit 100'");
    create(&mut server, client, "latest", "map series to latest type json");
    for value in 0..4 {
        set(&mut server, client, "a", json!(value));
    }
    let answer = server.ok(client, json!({ "op": "query", "path": "series" }));
    let values: Vec<i64> = answer["events"].as_array().unwrap().iter().map(|event| event["value"].as_i64().unwrap()).collect();
    assert_eq!(values, [0, 1, 2, 3]);
    check(&mut server, client, "latest", &[("latest", json!(3))]);
}

#[test]
fn what_comes_to_nothing_is_counted_with_the_reason() {
    let (mut server, client) = start();
    create(&mut server, client, "v", "map ?a// to b/<scalar(/x)>");
    set(&mut server, client, "a/1", json!({ "x": "one" }));
    set(&mut server, client, "a/2", json!({ "y": "two" }));
    let found = figures(&mut server, client, "v");
    assert_eq!((&found["sources"], &found["references"], &found["failures"]), (&json!(2), &json!(1), &json!(1)), "{found}");
    assert!(found["last_failure"].as_str().unwrap().starts_with("a/2: "), "{found}");
    set(&mut server, client, "a/1", json!("none"));
    check(&mut server, client, "?b//", &[]);
}

#[test]
fn a_text_that_is_no_view_is_refused_where_it_ends_being_one() {
    let (mut server, client) = start();
    let request = |name: &str, definition: &str| json!({ "op": "create_view", "id": 1, "name": name, "definition": definition });
    let message = server.refuse(client, request("v", "map ?a// b/<path(1)>"), 231, Some(9));
    assert!(message.contains("line 1, column 10"), "{message}");
    server.refuse(client, request("v//w", "map a to b"), 231, None);
    server.refuse(client, request("v", "map ?a// to a/x/<path(1)>"), 233, None);
    server.refuse(client, json!({ "op": "get_view", "id": 1, "name": "v" }), 230, None);
    assert_eq!(server.ok(client, json!({ "op": "list_views" })), json!({ "has_more": false, "views": [] }));
}

#[test]
fn a_view_of_a_remote_server_is_dormant() {
    let (mut server, client) = start();
    set(&mut server, client, "a", json!(1));
    create(&mut server, client, "v", "map a from elsewhere to b");
    check(&mut server, client, "b", &[]);
    assert_eq!(figures(&mut server, client, "v")["dormant"], true);
}

#[test]
fn after_all_is_gone_nothing_is_kept() {
    let (mut server, client) = start();
    create(&mut server, client, "one", "map ?a// to b/<path(1)> insert c/<path(1)> at /c throttle to 1 update every minute");
    create(&mut server, client, "two", "map ?b// to d/<expand()> delay by 1 second");
    for value in 0..3 {
        for path in ["a/1", "a/2", "c/1"] {
            set(&mut server, client, path, json!({ "v": value }));
        }
    }
    server.advance(3000);
    check(&mut server, client, "?d//", &[("d/c", json!({ "v": 0 })), ("d/v", json!(0))]);
    for name in ["one", "two"] {
        server.ok(client, json!({ "op": "remove_view", "name": name }));
    }
    server.ok(client, json!({ "op": "remove", "selector": "?.*//" }));
    server.advance(100_000);
    assert_eq!(server.view_counts(), [0; 8]);
}

#[test]
fn what_is_looked_at_counts_as_what_a_topic_is_derived_from() {
    let (mut server, client) = start();
    create(&mut server, client, "own", "map a to b insert b at /b");
    set(&mut server, client, "a", json!({}));
    check(&mut server, client, "b", &[]);
    assert!(figures(&mut server, client, "own")["last_failure"].as_str().unwrap().contains("derived from itself"));
    server.ok(client, json!({ "op": "remove_view", "name": "own" }));
    create(&mut server, client, "p", "map a to b insert c at /c default 0");
    create(&mut server, client, "q", "map b to c process { set('', calc '/c + 1') }");
    check(&mut server, client, "?[bc]", &[("b", json!({ "c": 0 }))]);
    set(&mut server, client, "c", json!(5));
    check(&mut server, client, "?[bc]", &[("b", json!({ "c": 5 })), ("c", json!(5))]);
}

#[test]
fn an_inserted_topic_of_a_view_follows_that_view() {
    let (mut server, client) = start();
    set(&mut server, client, "a", json!({}));
    set(&mut server, client, "x", json!(1));
    create(&mut server, client, "outer", "map a to b insert y at /y");
    create(&mut server, client, "inner", "map x to y");
    check(&mut server, client, "b", &[("b", json!({ "y": 1 }))]);
    set(&mut server, client, "x", json!(2));
    check(&mut server, client, "b", &[("b", json!({ "y": 2 }))]);
    server.ok(client, json!({ "op": "remove_view", "name": "inner" }));
    check(&mut server, client, "b", &[("b", json!({}))]);
}

#[test]
fn creating_a_view_again_with_its_own_text_changes_nothing() {
    let (mut server, client) = start();
    let definition = "map a to b type time_series with properties 'TIME_SERIES_RETAINED_RANGE': 'limit 9'";
    create(&mut server, client, "v", definition);
    set(&mut server, client, "a", json!(1));
    set(&mut server, client, "a", json!(2));
    assert_eq!(create(&mut server, client, "v", definition), json!({ "created": false }));
    let answer = server.ok(client, json!({ "op": "query", "path": "b" }));
    assert_eq!(answer["events"].as_array().unwrap().len(), 2, "{answer}");
}
