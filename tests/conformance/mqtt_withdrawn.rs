//! What waits for a client when its roles change: what it may not have any more is not sent, and what was begun is ended.

use crate::mqtt_client::{lines, outline};
use crate::mqtt_packets::Value::Two;
use crate::mqtt_packets::{
    Connect, PUBACK, PUBCOMP, PUBREC, PUBREL, Packet, V5, V311, acknowledge, connect, id, parse_all, persistent, publish,
};
use crate::mqtt_peer::{Broker, Client};
use serde_json::json;

const SCRIPT: &str = r#"
set "admin" default path permissions [UPDATE_TOPIC, MODIFY_TOPIC]
set "admin" permissions [MODIFY_SECURITY]
set "one" default path permissions [SELECT_TOPIC, READ_TOPIC]
set "two" default path permissions [SELECT_TOPIC, READ_TOPIC]
"#;

struct Stage {
    broker: Broker,
    native: Client,
    publisher: Client,
}

impl Stage {
    fn new() -> Self {
        let mut broker = Broker::with_roles(SCRIPT);
        let (native, publisher) = (broker.join_native_as("admin"), broker.join(&of(connect(V5, "p"), "admin")));
        Self { broker, native, publisher }
    }

    fn publish(&mut self, topics: &[&str], qos: u8) {
        for (number, topic) in (1..).zip(topics) {
            self.broker.publish(self.publisher, &publish(topic, "v").qos(qos, if qos == 0 { 0 } else { number }));
        }
    }

    /// The role may not see what is in the branch `a` any more.
    fn revoke(&mut self, role: &str) {
        let script = format!("set \"{role}\" path \"a\" permissions []");
        self.broker.ask_native(self.native, json!({ "op": "apply_security", "script": script }));
    }
}

/// The client's principal, which is its role.
fn of(connect: Connect, role: &str) -> Connect {
    Connect { user_name: Some(role.into()), ..connect }
}

/// What is published in a stream of packets.
fn topics(packets: &[Packet]) -> Vec<String> {
    let published = packets.iter().filter_map(|packet| match packet {
        Packet::Publish(publish) => Some(publish.clone()),
        _ => None,
    });
    lines(&published.collect::<Vec<_>>())
}

#[test]
fn what_waits_for_a_client_that_is_away_is_not_sent_when_it_may_not_have_it() {
    for version in [V311, V5] {
        for qos in [1, 2] {
            let mut stage = Stage::new();
            let client = stage.broker.join(&of(persistent(version, "c"), "one"));
            stage.broker.subscribe(client, "#", qos);
            stage.broker.lose(client);
            stage.publish(&["a/1", "b/1", "a", "b/2"], qos);
            stage.revoke("one");
            stage.publish(&["a/1", "b/3"], qos);
            let (_, packets) = stage.broker.resume(&of(persistent(version, "c"), "one"));
            assert_eq!(topics(&packets), ["b/1=v", "b/2=v", "b/3=v"], "{version} {qos}");
        }
    }
}

#[test]
fn what_waits_for_a_client_that_does_not_read_is_not_sent_when_it_may_not_have_it() {
    for version in [V311, V5] {
        for qos in 0..3 {
            let mut stage = Stage::new();
            let client = stage.broker.join(&of(connect(version, "c"), "one"));
            stage.broker.subscribe(client, "#", qos);
            stage.broker.stall(client);
            stage.publish(&["a/1", "b/1"], qos);
            stage.revoke("one");
            stage.broker.read_on(client);
            let packets = parse_all(version, &stage.broker.take_bytes(client));
            assert_eq!(topics(&packets), ["b/1=v"], "{version} {qos}");
        }
    }
}

#[test]
fn what_was_sent_is_ended_and_what_waits_behind_it_is_not_sent() {
    for qos in [1, 2] {
        let mut stage = Stage::new();
        let mut member = of(persistent(V5, "c"), "one");
        member.properties.push((id::RECEIVE_MAXIMUM, Two(1)));
        let client = stage.broker.join(&member);
        stage.broker.subscribe(client, "#", qos);
        stage.publish(&["a/1", "a/2", "b/1"], qos);
        let begun = stage.broker.messages(client);
        assert_eq!(lines(&begun), ["a/1=v"]);
        stage.revoke("one");
        // It may have gone missing, so it comes again.
        stage.broker.lose(client);
        let (client, packets) = stage.broker.resume(&member);
        assert_eq!(packets, [Packet::Publish(begun[0].clone().again())]);
        if qos == 2 {
            assert_eq!(outline(&stage.broker.ask(client, &acknowledge(PUBREC, begun[0].id))), [(PUBREL, begun[0].id)]);
        }
        let packets = stage.broker.ask(client, &acknowledge(if qos == 1 { PUBACK } else { PUBCOMP }, begun[0].id));
        assert_eq!(topics(&packets), ["b/1=v"], "{qos}");
    }
}

#[test]
fn what_a_group_has_dealt_to_one_that_may_not_have_it_goes_to_another() {
    for qos in [1, 2] {
        let mut stage = Stage::new();
        let away = stage.broker.join(&of(persistent(V5, "c"), "one"));
        stage.broker.subscribe(away, "$share/g/#", qos);
        stage.broker.lose(away);
        stage.publish(&["a/1", "b/1"], qos);
        let other = stage.broker.join(&of(connect(V5, "d"), "two"));
        stage.broker.subscribe(other, "$share/g/#", qos);
        stage.revoke("one");
        assert_eq!(lines(&stage.broker.messages(other)), ["a/1=v"]);
        let (_, packets) = stage.broker.resume(&of(persistent(V5, "c"), "one"));
        assert_eq!(topics(&packets), ["b/1=v"]);
    }
}

#[test]
fn the_retained_message_that_waits_is_not_sent_when_it_may_not_be_read() {
    let mut stage = Stage::new();
    for topic in ["a/1", "b/1"] {
        stage.broker.publish(stage.publisher, &publish(topic, "v").retained());
    }
    let client = stage.broker.join(&of(connect(V5, "c"), "one"));
    stage.broker.stall(client);
    stage.broker.give(client, &crate::mqtt_packets::subscribe(V5, 1, &[], &[("#", 1)]));
    stage.revoke("one");
    stage.broker.read_on(client);
    let packets = parse_all(V5, &stage.broker.take_bytes(client));
    assert_eq!(topics(&packets), ["b/1=v"]);
}

#[test]
fn what_a_client_of_the_native_protocol_has_not_read_is_not_sent_when_it_may_not_have_it() {
    let mut stage = Stage::new();
    let client = stage.broker.join_native_as("one");
    stage.broker.ask_native(client, json!({ "op": "subscribe", "selector": "?.*//" }));
    stage.broker.stall(client);
    stage.publish(&["a/1", "b/1", "a/1"], 0);
    stage.revoke("one");
    stage.broker.read_on(client);
    let told = stage.broker.take_native(client);
    let values: Vec<_> = told.iter().filter(|told| told["op"] == "value").map(|told| told["path"].as_str().expect("a path")).collect();
    assert_eq!(values, ["b/1"]);
}
