//! *When an update is answered*: once it is stored, or refused where it cannot be.

use crate::peer::limits;
use crate::server::{Client, Server};
use serde_json::{Value, json};
use tidewire::surface::shard::Storing;

fn start(storing: Storing) -> (Server, Client) {
    let mut server = Server::with(storing, limits());
    let client = server.connect();
    (server, client)
}

fn set(id: u64, path: &str, value: u64) -> Value {
    json!({ "op": "add_and_set", "id": id, "path": path, "value": value })
}

/// The ids and codes of answers.
fn answers(told: &[Value]) -> Vec<(u64, Option<u64>)> {
    told.iter().map(|answer| (answer["id"].as_u64().expect("an answer"), answer["code"].as_u64())).collect()
}

#[test]
fn an_update_is_answered_when_it_is_stored() {
    let (mut server, client) = start(Storing::Stored);
    let subscriber = server.connect();
    server.ok(subscriber, json!({ "op": "subscribe", "selector": "a" }));
    assert!(server.ask(client, set(2, "a", 1)).is_empty());
    assert_eq!(server.take(subscriber).len(), 2, "subscribers may see the value before");
    let first = server.stored_last();
    assert!(server.ask(client, json!({ "op": "set", "id": 3, "path": "a", "value": 2 })).is_empty());
    assert!(server.ask(client, json!({ "op": "remove", "id": 4, "selector": "a" })).is_empty());
    server.stored(first);
    assert_eq!(answers(&server.take(client)), [(2, None)]);
    let last = server.stored_last();
    server.stored(last - 1);
    assert_eq!(answers(&server.take(client)), [(3, None)]);
    server.stored(last);
    let told = server.take(client);
    assert_eq!((answers(&told), &told[0]["removed"]), (vec![(4, None)], &json!(1)));
}

#[test]
fn every_kind_of_update_waits() {
    let (mut server, client) = start(Storing::Stored);
    let series = json!({ "TIME_SERIES_EVENT_VALUE_TYPE": "json" });
    let updates = [
        json!({ "op": "add", "path": "a" }),
        json!({ "op": "set", "path": "a", "value": {} }),
        json!({ "op": "update", "path": "a", "value": {}, "constraint": { "value": { "is": {} } } }),
        json!({ "op": "update", "path": "a", "patch": [] }),
        json!({ "op": "add_and_set", "path": "n", "type": "int64", "value": null }),
        json!({ "op": "stream_open", "path": "a", "stream": 1, "value": 1 }),
        json!({ "op": "stream_set", "stream": 1, "value": 2 }),
        json!({ "op": "add", "path": "s", "type": "time_series", "properties": series }),
        json!({ "op": "append", "path": "s", "value": 1 }),
        json!({ "op": "edit", "path": "s", "original": 0, "value": 1 }),
        json!({ "op": "remove", "selector": "s" }),
    ];
    for (mut update, id) in updates.into_iter().zip(2..) {
        update["id"] = id.into();
        assert!(server.ask(client, update.clone()).is_empty(), "{update}");
        let last = server.stored_last();
        server.stored(last);
        assert_eq!(answers(&server.take(client)), [(id, None)], "{update}");
    }
}

#[test]
fn what_changes_nothing_that_is_stored_is_answered_at_once() {
    let (mut server, client) = start(Storing::Stored);
    server.ask(client, set(2, "a", 1));
    let last = server.stored_last();
    server.stored(last);
    server.take(client);
    for (message, id) in [
        json!({ "op": "add", "path": "a" }),
        json!({ "op": "update", "path": "a" }),
        json!({ "op": "stream_open", "path": "a", "stream": 1 }),
        json!({ "op": "stream_close", "stream": 1 }),
        json!({ "op": "fetch", "selector": "a" }),
        json!({ "op": "add_and_set", "path": "m", "value": 1, "properties": { "PERSISTENT": "false" } }),
        json!({ "op": "set", "path": "m", "value": 2 }),
        json!({ "op": "remove", "selector": "m" }),
    ]
    .into_iter()
    .zip(3..)
    {
        let mut message = message;
        message["id"] = id.into();
        assert_eq!(answers(&server.ask(client, message.clone())), [(id, None)], "{message}");
    }
    assert_eq!(answers(&server.ask(client, json!({ "op": "set", "id": 20, "path": "none", "value": 1 }))), [(20, Some(202))]);
}

#[test]
fn what_was_found_is_safe_before_it_is_told() {
    for message in [json!({ "op": "add", "id": 7, "path": "a" }), json!({ "op": "update", "id": 7, "path": "a" })] {
        let (mut server, client) = start(Storing::Stored);
        let other = server.connect();
        server.ask(other, set(2, "a", 1));
        assert!(server.ask(client, message.clone()).is_empty(), "{message}");
        let last = server.stored_last();
        server.stored(last);
        assert_eq!(answers(&server.take(client)), [(7, None)], "{message}");
    }
}

#[test]
fn an_update_without_an_id_is_stored_without_an_answer() {
    let (mut server, client) = start(Storing::Stored);
    server.ask(client, json!({ "op": "add_and_set", "path": "a", "value": 1 }));
    let last = server.stored_last();
    assert!(last > 0);
    server.stored(last);
    assert!(server.take(client).is_empty());
}

#[test]
fn an_update_without_an_id_is_told_if_it_cannot_be_stored() {
    let (mut server, client) = start(Storing::Stored);
    let gone = server.connect();
    server.ask(client, set(0, "a", 1));
    let first = server.stored_last();
    server.ask(client, set(0, "a", 2));
    server.ask(gone, set(0, "b", 1));
    server.give(gone, 0x88, &[]);
    server.stored(first);
    server.fail_storage("the disk is full");
    assert_eq!(answers(&server.take(client)), [(0, Some(410))], "what is stored succeeded");
    server.recover_storage();
    let last = server.stored_last();
    server.stored(last);
    assert!(server.take(client).is_empty(), "it is not told twice");
}

#[test]
fn no_more_is_held_than_is_not_stored() {
    let (mut server, client) = start(Storing::Stored);
    server.ask(client, set(0, "a", 0));
    // The first makes the topic too.
    let mut behind = 0;
    for number in 1..2000 {
        server.ask(client, set(number % 2, "a", number));
        server.ask(client, json!({ "op": "add", "path": "a" }));
        let last = server.stored_last();
        if number % 70 == 0 {
            server.stored(last - 30);
            behind = last - 30;
        }
        assert!(server.held() as u64 <= last - behind, "{} are held, {} are not stored", server.held(), last - behind);
    }
    let last = server.stored_last();
    server.stored(last);
    assert_eq!(server.held(), 0);
    let (mut server, client) = start(Storing::Memory);
    server.ask(client, set(0, "a", 0));
    assert_eq!(server.held(), 0, "nothing waits where memory is enough");
}

#[test]
fn with_acknowledgements_from_memory_nothing_waits() {
    let (mut server, client) = start(Storing::Memory);
    assert_eq!(answers(&server.ask(client, set(2, "a", 1))), [(2, None)]);
    assert!(server.stored_last() > 0);
    let (mut server, client) = start(Storing::Off);
    assert_eq!(answers(&server.ask(client, set(2, "a", 1))), [(2, None)]);
    assert_eq!(server.stored_last(), 0);
}

#[test]
fn while_storage_fails_updates_of_stored_topics_are_refused() {
    for storing in [Storing::Stored, Storing::Memory] {
        let (mut server, client) = start(storing);
        server.ask(client, set(2, "a", 1));
        server.ask(client, json!({ "op": "add_and_set", "id": 3, "path": "m", "value": 1, "properties": { "PERSISTENT": "false" } }));
        let series = json!({ "TIME_SERIES_EVENT_VALUE_TYPE": "json" });
        server.ask(client, json!({ "op": "add", "id": 4, "path": "s", "type": "time_series", "properties": series }));
        let last = server.stored_last();
        server.stored(last);
        server.take(client);
        server.fail_storage("the disk is full");
        for message in [
            set(7, "a", 2),
            set(7, "b", 2),
            json!({ "op": "add", "id": 7, "path": "b" }),
            json!({ "op": "set", "id": 7, "path": "a", "value": 2 }),
            json!({ "op": "update", "id": 7, "path": "a", "patch": [] }),
            json!({ "op": "append", "id": 7, "path": "s", "value": 1 }),
            json!({ "op": "remove", "id": 7, "selector": "a" }),
        ] {
            let why = server.refuse(client, message, 410, None);
            assert!(why.contains("the disk is full"), "{why}");
        }
        assert_eq!(server.value(client, "a"), 1, "nothing changed");
        assert_eq!(server.ok(client, json!({ "op": "fetch", "selector": "b" }))["topics"], json!([]));
        server.ok(client, json!({ "op": "set", "path": "m", "value": 2 }));
        server.recover_storage();
        server.ask(client, set(8, "a", 3));
        let last = server.stored_last();
        server.stored(last);
        assert_eq!(server.value(client, "a"), 3);
    }
}

#[test]
fn who_waits_when_storage_fails_is_told() {
    let (mut server, client) = start(Storing::Stored);
    server.ask(client, set(2, "a", 1));
    server.ask(client, set(0, "a", 2));
    server.ask(client, json!({ "op": "remove", "id": 3, "selector": "a" }));
    server.fail_storage("the disk is full");
    assert_eq!(answers(&server.take(client)), [(2, Some(410)), (0, Some(410)), (3, Some(410))]);
    server.recover_storage();
    let last = server.stored_last();
    server.stored(last);
    assert!(server.take(client).is_empty(), "nobody is answered twice");
    server.ask(client, set(4, "a", 5));
    let last = server.stored_last();
    server.stored(last);
    let told = server.take(client);
    assert_eq!((answers(&told), &told[0]["created"]), (vec![(4, None)], &json!(true)));
}
