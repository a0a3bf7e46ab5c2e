//! Messages to topics whose type does not take every payload.

use crate::mqtt_client::lines;
use crate::mqtt_packets::{
    PUBACK, PUBREC, Packet, Publish, V5, V31, V311,
    Value::{Byte, Four},
    connect, id, property, publish, text,
};
use crate::mqtt_peer::Broker;
use serde_json::json;

/// With the topic `n` of whole numbers.
fn with_numbers() -> Broker {
    let mut broker = Broker::new();
    let client = broker.join_native();
    broker.ask_native(client, json!({ "op": "add_and_set", "path": "n", "type": "int64", "value": 1 }));
    broker
}

#[test]
fn a_message_that_a_topic_takes_is_its_value() {
    let mut broker = with_numbers();
    let client = broker.join(&connect(V5, "a"));
    broker.subscribe(client, "n", 1);
    let publisher = broker.join(&connect(V5, "p"));
    broker.publish(publisher, &publish("n", "12").qos(1, 1));
    assert_eq!(lines(&broker.messages(client)), ["n=12"]);
}

#[test]
fn a_message_that_a_topic_refuses_is_told() {
    let mut broker = with_numbers();
    let publisher = broker.join(&connect(V5, "p"));
    for (qos, expected) in [(1, PUBACK), (2, PUBREC)] {
        let packets = broker.ask(publisher, &publish("n", "many").qos(qos, 7).bytes(V5));
        assert!(matches!(packets[..], [Packet::Acknowledged { kind, id: 7, code: 0x99, .. }] if kind == expected), "{packets:?}");
        // After the refusal the id is a new message.
        broker.publish(publisher, &publish("n", "5").qos(qos, 7));
    }
    broker.give(publisher, &publish("n", "many").bytes(V5));
    broker.assert_ended(publisher, &[0x99], "a refused message of QoS 0");
}

#[test]
fn a_message_that_a_topic_refuses_closes_in_3() {
    for version in [V31, V311] {
        for qos in 0..3 {
            let mut broker = with_numbers();
            let publisher = broker.join(&connect(version, "p"));
            broker.give(publisher, &publish("n", "many").qos(qos, 7).bytes(version));
            broker.assert_ended(publisher, &[], "a refused message");
        }
    }
}

#[test]
fn reasons_are_left_out_where_they_are_too_large_or_not_wanted() {
    for qos in [1, 2] {
        let mut broker = with_numbers();
        let wrong = publish("n", "many").qos(qos, 7).bytes(V5);
        let any = broker.join(&connect(V5, "any"));
        let packets = broker.ask(any, &wrong);
        let [Packet::Acknowledged { properties, .. }] = &packets[..] else { panic!("{packets:?}") };
        assert!(property(properties, id::REASON).is_some(), "a reason that may be left out");
        let small = broker.join(&connect(V5, "small").with((id::PACKET_SIZE, Four(24))));
        broker.give(small, &wrong);
        let bytes = broker.take_bytes(small);
        assert!(bytes.len() <= 24, "{bytes:02x?}");
        assert_eq!(bytes[..5], [if qos == 1 { 0x40 } else { 0x50 }, bytes[1], 0, 7, 0x99]);
        let terse = broker.join(&connect(V5, "terse").with((id::REQUEST_PROBLEM, Byte(0))));
        let packets = broker.ask(terse, &wrong);
        let [Packet::Acknowledged { code: 0x99, properties, .. }] = &packets[..] else { panic!("{packets:?}") };
        assert_eq!(properties, &[], "it wants none");
    }
}

#[test]
fn what_a_message_says_of_its_payload_binds_no_other() {
    let mut broker = Broker::new();
    let watcher = broker.join(&connect(V5, "watcher"));
    broker.subscribe(watcher, "#", 0);
    let plain = broker.join(&connect(V311, "plain"));
    for (topic, said) in [("format", (id::PAYLOAD_FORMAT, Byte(1))), ("content", text(id::CONTENT_TYPE, "application/json"))] {
        let publisher = broker.join(&connect(V5, topic));
        let hinted = publish(topic, "{\"on\":true}").retained().with(said.clone());
        broker.publish(publisher, &hinted);
        let bytes = Publish { payload: vec![0xff, 0xfe], ..publish(topic, "") };
        for qos in 0..3 {
            broker.publish(plain, &Publish { retain: true, ..bytes.clone() }.qos(qos, 7));
        }
        let messages = broker.messages(watcher);
        assert_eq!(messages[0].properties, [said], "it goes along with its message");
        assert!(messages[1..].iter().all(|message| message.payload == bytes.payload && message.properties.is_empty()), "{messages:?}");
        assert_eq!(messages.len(), 4);
    }
}

#[test]
fn a_will_that_its_topic_refuses_is_told_to_the_operator() {
    for version in [V31, V311, V5] {
        let mut broker = with_numbers();
        let takes = broker.join(&connect(version, "takes").will(publish("n", "2")));
        let refused = broker.join(&connect(version, "refused").will(publish("n", "many")));
        broker.lose(takes);
        broker.lose(refused);
        assert_eq!(broker.without_will(), ["refused"]);
    }
    let mut broker = Broker::new();
    let liar = Publish { payload: vec![0xff], ..publish("t", "") }.with((id::PAYLOAD_FORMAT, Byte(1)));
    let liar = broker.join(&connect(V5, "liar").will(liar));
    broker.lose(liar);
    assert_eq!(broker.without_will(), ["liar"]);
}

#[test]
fn a_topic_of_numbers_is_cleared_as_any_other() {
    for qos in 0..3 {
        let mut broker = with_numbers();
        let client = broker.join(&connect(V5, "a"));
        broker.subscribe(client, "n", qos);
        broker.messages(client);
        let publisher = broker.join(&connect(V5, "p"));
        broker.publish(publisher, &publish("n", "").qos(qos, u16::from(qos > 0)).retained());
        assert_eq!(lines(&broker.messages(client)), ["n="]);
        assert_eq!(broker.subscribe(publisher, "n", qos), [], "it has gone");
    }
}
