//! Sessions: kept, resumed, ended.

use super::both;
use crate::mqtt_client::lines;
use crate::mqtt_packets::{V5, V311, connect, persistent, publish};
use crate::mqtt_peer::Broker;

#[test]
fn a_session_outlives_its_connection() {
    both(|version| {
        let mut broker = Broker::new();
        let client = broker.join(&persistent(version, "a"));
        assert_eq!(broker.subscribe(client, "t/#", 2), []);
        broker.lose(client);
        let other = broker.join(&connect(version, "b"));
        for number in 1..=4 {
            broker.publish(other, &publish("t/x", &number.to_string()).qos(1 + number % 2, 9));
        }
        let (client, packets) = broker.resume(&persistent(version, "a"));
        let messages: Vec<_> = packets
            .into_iter()
            .map(|packet| match packet {
                crate::mqtt_packets::Packet::Publish(message) => message,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(lines(&messages), ["t/x=1", "t/x=2", "t/x=3", "t/x=4"]);
        assert_eq!(messages.iter().map(|message| message.qos).collect::<Vec<_>>(), [2, 1, 2, 1]);
        assert!(messages.iter().all(|message| !message.is_duplicate), "they were not sent before");
        broker.publish(other, &publish("t/y", "5"));
        assert_eq!(lines(&broker.messages(client)), ["t/y=5"], "its subscription is there");
    });
}

#[test]
fn a_session_is_its_client_ids() {
    both(|version| {
        let mut broker = Broker::new();
        let client = broker.join(&persistent(version, "a"));
        broker.subscribe(client, "t", 1);
        broker.lose(client);
        broker.join(&persistent(version, "b"));
        broker.join(&persistent(version, "A"));
        broker.resume(&persistent(version, "a"));
    });
}

#[test]
fn a_clean_start_ends_the_session() {
    both(|version| {
        let mut broker = Broker::new();
        let client = broker.join(&persistent(version, "a"));
        broker.subscribe(client, "t", 1);
        broker.lose(client);
        let other = broker.join(&connect(version, "b"));
        broker.publish(other, &publish("t", "missed").qos(1, 1));
        let client = broker.join(&persistent(version, "a").clean(true));
        broker.publish(other, &publish("t", "unasked").qos(1, 1));
        assert_eq!(broker.messages(client), []);
    });
}

#[test]
fn a_clean_session_lasts_as_its_connection() {
    both(|version| {
        let mut broker = Broker::new();
        let client = broker.join(&connect(version, "a"));
        broker.subscribe(client, "t", 1);
        broker.lose(client);
        let client = broker.join(&persistent(version, "a"));
        let other = broker.join(&connect(version, "b"));
        broker.publish(other, &publish("t", "unasked").qos(1, 1));
        assert_eq!(broker.messages(client), []);
    });
}

#[test]
fn a_session_is_taken_over_with_what_it_holds() {
    both(|version| {
        let mut broker = Broker::new();
        let older = broker.join(&persistent(version, "a"));
        broker.subscribe(older, "t", 1);
        let (newer, packets) = broker.resume(&persistent(version, "a"));
        assert_eq!(packets, []);
        broker.assert_ended(older, &[0x8e], "another connection of the client");
        let other = broker.join(&connect(version, "b"));
        broker.publish(other, &publish("t", "1"));
        assert_eq!(broker.messages(newer), [publish("t", "1")]);
    });
}

#[test]
fn a_session_goes_on_in_another_version() {
    let mut broker = Broker::new();
    let client = broker.join(&persistent(V311, "a"));
    broker.subscribe(client, "t", 1);
    broker.lose(client);
    let (client, _) = broker.resume(&persistent(V5, "a"));
    let other = broker.join(&connect(V311, "b"));
    broker.publish(other, &publish("t", "1"));
    assert_eq!(broker.messages(client), [publish("t", "1")]);
}

#[test]
fn messages_that_wait_are_sent_in_order_behind_those_that_are_open() {
    both(|version| {
        let mut broker = Broker::new();
        let client = broker.join(&persistent(version, "a"));
        broker.subscribe(client, "t", 2);
        let other = broker.join(&connect(version, "b"));
        for number in 1..=3 {
            broker.publish(other, &publish("t", &number.to_string()).qos(1 + number as u8 % 2, number));
        }
        assert_eq!(broker.messages(client).len(), 3);
        broker.lose(client);
        for number in 4..=6 {
            broker.publish(other, &publish("t", &number.to_string()).qos(1 + number as u8 % 2, number));
        }
        let (client, packets) = broker.resume(&persistent(version, "a"));
        broker.publish(other, &publish("t", "7").qos(1, 7));
        let mut messages: Vec<_> = packets
            .into_iter()
            .map(|packet| match packet {
                crate::mqtt_packets::Packet::Publish(message) => message,
                other => panic!("{other:?}"),
            })
            .collect();
        messages.extend(broker.messages(client));
        assert_eq!(lines(&messages), ["t=1", "t=2", "t=3", "t=4", "t=5", "t=6", "t=7"]);
        let again: Vec<bool> = messages.iter().map(|message| message.is_duplicate).collect();
        assert_eq!(again, [true, true, true, false, false, false, false]);
    });
}
