//! *Topic views*: after any changes of topics and views there are the reference topics that a new server makes of the same topics and views.

use crate::server::{Client, Server};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const NAMES: [&str; 4] = ["one", "two", "three", "four"];

/// Each is made by what is there, and by nothing that was; no two go round by way of each other.
const VIEWS: [&str; 14] = [
    "map ?a// to b/<path(1)>",
    "map ?a/.* to b/<scalar(/id)>",
    "map ?a// to b/<expand(/list, /id)>",
    "map ?a// to c/<path(1)> process { if '/v > 2' continue }",
    "map ?a// to c/<path(1)> process { if '/v > 3' set(/w, calc '/v * 2') elseif '/v = 1' remove(/list) }",
    "map ?[ab]// to c/<path(0)> insert k/<scalar(/id)> at /k default 'none'",
    "map ?a// to c/<path(1)> insert b/x key /v at /k",
    "map ?[bc]// to d/<path(1)> as <value(/v)>",
    "map ?b/ to d/<scalar(/id, 1)>/<path(1)>",
    "map ?d// to e/<path(1)> type string",
    "map *n/.* to n/<path(1)>/x",
    "map ?a/[xy] to c/x throttle to 1 update every second",
    "map ?a// to c/<path(1)> delay by 1 second",
    "map ?.*/x to f/<path(0)> with properties 'PRIORITY': 'high'",
];

const PATHS: [&str; 13] = ["a", "a/x", "a/y", "a/x/y", "a/z", "b/x", "b/y", "c/x", "d/x", "k/x", "k/y", "n/x", "n/x/x"];

#[derive(Clone, Debug)]
enum Change {
    Set(&'static str, Value),
    Remove(&'static str),
    Create(&'static str, &'static str),
    RemoveView(&'static str),
    Wait,
}

fn change() -> impl Strategy<Value = Change> {
    let path = || prop::sample::select(&PATHS[..]);
    let name = || prop::sample::select(&NAMES[..]);
    prop_oneof![
        6 => (path(), value()).prop_map(|(path, value)| Change::Set(path, value)),
        2 => path().prop_map(Change::Remove),
        3 => (name(), prop::sample::select(&VIEWS[..])).prop_map(|(name, text)| Change::Create(name, text)),
        1 => name().prop_map(Change::RemoveView),
        1 => Just(Change::Wait),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let id = || prop::sample::select(&["x", "y", "z/y"][..]);
    let list = prop::collection::vec((id(), 0..3), 0..4);
    prop_oneof![
        5 => (id(), 0..5, list).prop_map(|(id, v, list)| {
            let list: Vec<Value> = list.into_iter().map(|(id, v)| json!({ "id": id, "v": v })).collect();
            json!({ "id": id, "v": v, "list": list })
        }),
        1 => (0..5).prop_map(|v| json!({ "v": v })),
        1 => (0..5).prop_map(|v| json!(v)),
    ]
}

/// What there is once everything that waits for its time has come: of each topic its type, its value and its properties.
fn topics(server: &mut Server, client: Client) -> BTreeMap<String, Value> {
    for _ in 0..6 {
        server.advance(1100);
    }
    let mut found = BTreeMap::new();
    let mut after = String::new();
    loop {
        let mut request = json!({ "op": "fetch", "selector": "?.*//", "values": true, "with_properties": true });
        if !after.is_empty() {
            request["after"] = json!(after);
        }
        let answer = server.ok(client, request);
        for entry in answer["topics"].as_array().expect("topics") {
            after = entry["path"].as_str().expect("a path").to_owned();
            found.insert(after.clone(), entry.clone());
        }
        if answer["has_more"] == false {
            return found;
        }
    }
}

fn limits() -> tidewire::surface::shard::Limits {
    tidewire::surface::shard::Limits { topics_max: 1000, ..crate::peer::limits() }
}

fn set(server: &mut Server, client: Client, path: &str, value: &Value) {
    server.ok(client, json!({ "op": "add_and_set", "path": path, "type": "json", "value": value }));
}

/// The same topics and views in a server that has seen nothing else; the views come before the topics, or behind them.
fn again(topics: &BTreeMap<String, Value>, views: &[Value], topics_first: &[bool]) -> (Server, Client) {
    let mut server = Server::with(tidewire::surface::shard::Storing::Off, limits());
    let client = server.connect();
    for now in topics_first {
        if *now {
            for (path, topic) in topics.iter().filter(|(_, topic)| topic["properties"]["PERSISTENT"] != "false") {
                set(&mut server, client, path, &topic["value"]);
            }
        } else {
            for view in views {
                server.ok(client, json!({ "op": "create_view", "name": view["name"], "definition": view["definition"] }));
            }
        }
    }
    (server, client)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn reference_topics_are_what_a_new_server_makes(changes in prop::collection::vec(change(), 0..60)) {
        let mut server = Server::with(tidewire::surface::shard::Storing::Off, limits());
        let client = server.connect();
        for change in changes {
            match change {
                Change::Set(path, value) => set(&mut server, client, path, &value),
                Change::Remove(path) => drop(server.ok(client, json!({ "op": "remove", "selector": path }))),
                Change::Create(name, text) => drop(server.ok(client, json!({ "op": "create_view", "name": name, "definition": text }))),
                Change::RemoveView(name) => drop(server.ok(client, json!({ "op": "remove_view", "name": name }))),
                Change::Wait => server.advance(700),
            }
        }
        let found = topics(&mut server, client);
        let views = server.ok(client, json!({ "op": "list_views" }))["views"].as_array().expect("views").clone();
        for order in [[true, false], [false, true]] {
            let (mut new, other) = again(&found, &views, &order);
            prop_assert_eq!(&found, &topics(&mut new, other), "with {:?}", &views);
        }
        for view in &views {
            server.ok(client, json!({ "op": "remove_view", "name": view["name"] }));
        }
        server.ok(client, json!({ "op": "remove", "selector": "?.*//" }));
        prop_assert_eq!(topics(&mut server, client), BTreeMap::new());
        prop_assert_eq!(server.view_counts(), [0; 8]);
    }
}
