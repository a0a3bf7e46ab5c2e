//! What counts as the server's latency: what was published while its subscriber was there, and nothing that waited for one.

use crate::mqtt_packets::{V5, connect, persistent, publish};
use crate::mqtt_peer::Broker;
use serde_json::json;

#[test]
fn the_age_of_a_retained_message_is_no_latency() {
    let mut broker = Broker::new();
    let publisher = broker.join(&connect(V5, "p"));
    broker.publish(publisher, &publish("t", "1").retained());
    broker.advance(11_000);
    let client = broker.join(&connect(V5, "a"));
    assert_eq!(broker.subscribe(client, "t", 0).len(), 1);
    assert_eq!(broker.latencies(), (1, 0), "one delivery, of no latency");
    broker.publish(publisher, &publish("t", "2"));
    assert_eq!(broker.latencies(), (2, 1));
}

#[test]
fn what_came_while_the_client_was_away_has_no_latency() {
    let mut broker = Broker::new();
    let client = broker.join(&persistent(V5, "a"));
    broker.subscribe(client, "t", 1);
    broker.lose(client);
    let publisher = broker.join(&connect(V5, "p"));
    broker.publish(publisher, &publish("t", "1").qos(1, 1));
    broker.advance(11_000);
    let (_, packets) = broker.resume(&persistent(V5, "a"));
    assert_eq!(packets.len(), 1);
    assert_eq!(broker.latencies(), (1, 0));
    broker.publish(publisher, &publish("t", "2").qos(1, 2));
    assert_eq!(broker.latencies(), (2, 1));
}

#[test]
fn the_first_events_of_a_series_have_no_latency() {
    let mut broker = Broker::new();
    let (writer, reader) = (broker.join_native(), broker.join_native());
    let properties = json!({ "TIME_SERIES_EVENT_VALUE_TYPE": "json", "TIME_SERIES_SUBSCRIPTION_RANGE": "limit 5" });
    broker.ask_native(writer, json!({ "op": "add", "path": "s", "type": "time_series", "properties": properties }));
    for value in 0..3 {
        broker.ask_native(writer, json!({ "op": "append", "path": "s", "value": value }));
    }
    broker.advance(11_000);
    broker.ask_native(reader, json!({ "op": "subscribe", "selector": "s" }));
    assert_eq!(broker.latencies(), (3, 0));
    broker.ask_native(writer, json!({ "op": "append", "path": "s", "value": 3 }));
    assert_eq!(broker.latencies(), (4, 1));
}
