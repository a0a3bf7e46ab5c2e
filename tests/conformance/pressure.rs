//! Topic properties, CONFLATION and TIDY_ON_UNSUBSCRIBE: what happens to a session that does not read.

use crate::peer::limits;
use crate::server::{Client, Server};
use serde_json::{Value, json};
use tidewire::surface::session::QueueLimits;
use tidewire::surface::shard::{Limits, Storing};

/// A server with topics `t/0`, `t/1` … of this property, a publisher, and a subscriber of all that has read everything.
fn start(topics: usize, key: &str, value: &str, queue: QueueLimits) -> (Server, Client, Client) {
    let limits = Limits { topics_max: topics + 10, fetch_page_max: 10_000, queue, ..limits() };
    let mut server = Server::with(Storing::Off, limits);
    let (publisher, subscriber) = (server.connect(), server.connect());
    for topic in 0..topics {
        server.ok(publisher, json!({ "op": "add", "path": format!("t/{topic}"), "type": "int64", "properties": { key: value } }));
    }
    server.ok(subscriber, json!({ "op": "subscribe", "selector": "?t//" }));
    (server, publisher, subscriber)
}

fn set(server: &mut Server, publisher: Client, topic: usize, value: usize) {
    server.ok(publisher, json!({ "op": "set", "path": format!("t/{topic}"), "type": "int64", "value": value }));
}

fn count(told: &[Value], op: &str) -> usize {
    told.iter().filter(|event| event["op"] == op).count()
}

#[test]
fn thousands_of_subscriptions_end_together_under_pressure() {
    let (mut server, publisher, subscriber) =
        start(6000, "CONFLATION", "unsubscribe", QueueLimits { bytes_high: 400_000, bytes_max: 1 << 24 });
    server.stall(subscriber);
    for topic in 0..6000 {
        set(&mut server, publisher, topic, topic);
    }
    // An answer of more bytes than all ends can free.
    server.ask(subscriber, json!({ "op": "fetch", "id": 9, "selector": "?t//", "with_properties": true }));
    server.flow(subscriber);
    let told = server.take(subscriber);
    let ended: Vec<&Value> = told.iter().filter(|event| event["op"] == "unsubscribed").collect();
    assert_eq!(ended.len(), 6000);
    assert!(ended.iter().all(|event| event["reason"] == "back_pressure"));
    assert_eq!(count(&told, "value"), 0, "what ended is not sent any more");
    assert_eq!(count(&told, "ok"), 1);
}

#[test]
fn every_value_of_a_topic_that_does_not_conflate_is_sent() {
    let (mut server, publisher, subscriber) = start(2, "CONFLATION", "off", QueueLimits { bytes_high: 100, bytes_max: 1 << 20 });
    server.stall(subscriber);
    for value in 0..50 {
        set(&mut server, publisher, value % 2, value);
    }
    server.ask(subscriber, json!({ "op": "unsubscribe", "id": 9, "selector": "t/1" }));
    server.flow(subscriber);
    let told = server.take(subscriber);
    let values: Vec<u64> = told.iter().filter(|event| event["op"] == "value").filter_map(|event| event["value"].as_u64()).collect();
    assert_eq!(values, (0..50).collect::<Vec<u64>>());
    assert_eq!(count(&told, "unsubscribed"), 1);
}

#[test]
fn at_most_one_update_waits_where_conflation_is_always() {
    let (mut server, publisher, subscriber) = start(1, "CONFLATION", "always", QueueLimits { bytes_high: 1 << 20, bytes_max: 1 << 24 });
    server.stall(subscriber);
    for value in 0..50 {
        set(&mut server, publisher, 0, value);
    }
    server.flow(subscriber);
    let told = server.take(subscriber);
    assert_eq!(told.iter().map(|event| event["value"].as_u64()).collect::<Vec<_>>(), [Some(49)]);
}

#[test]
fn waiting_updates_are_dropped_at_the_end_of_a_subscription_only_where_asked() {
    for (tidies, values) in [("true", 0), ("false", 3)] {
        let (mut server, publisher, subscriber) =
            start(1, "TIDY_ON_UNSUBSCRIBE", tidies, QueueLimits { bytes_high: 1 << 20, bytes_max: 1 << 24 });
        server.stall(subscriber);
        for value in 0..3 {
            set(&mut server, publisher, 0, value);
        }
        server.ask(subscriber, json!({ "op": "unsubscribe", "id": 9, "selector": "?t//" }));
        server.flow(subscriber);
        let told = server.take(subscriber);
        assert_eq!((count(&told, "value"), count(&told, "unsubscribed")), (values, 1), "{tidies}");
    }
}
