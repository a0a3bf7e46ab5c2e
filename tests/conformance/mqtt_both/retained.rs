//! Retained messages.

use super::both;
use crate::mqtt_client::lines;
use crate::mqtt_packets::{connect, publish};
use crate::mqtt_peer::Broker;

#[test]
fn a_new_subscription_is_sent_what_is_retained() {
    both(|version| {
        for (qos, granted) in [(0, 0), (0, 2), (1, 0), (1, 1), (2, 1), (2, 2)] {
            let mut broker = Broker::new();
            let publisher = broker.join(&connect(version, "p"));
            broker.publish(publisher, &publish("t", "older").qos(qos, 1).retained());
            broker.publish(publisher, &publish("t", "1").qos(qos, 2).retained());
            broker.publish(publisher, &publish("t/u", "2").qos(qos, 3));
            let client = broker.join(&connect(version, "a"));
            let messages = broker.subscribe(client, "t/#", granted);
            assert_eq!(lines(&messages), ["t=1"]);
            assert_eq!((messages[0].retain, messages[0].qos), (true, qos.min(granted)));
        }
    });
}

#[test]
fn retain_is_cleared_when_passed_on() {
    both(|version| {
        let mut broker = Broker::new();
        let client = broker.join(&connect(version, "a"));
        broker.subscribe(client, "t", 0);
        let publisher = broker.join(&connect(version, "p"));
        broker.publish(publisher, &publish("t", "1").retained());
        assert_eq!(broker.messages(client), [publish("t", "1")]);
    });
}

#[test]
fn an_empty_message_with_retain_is_delivered_and_removes() {
    both(|version| {
        let mut broker = Broker::new();
        let publisher = broker.join(&connect(version, "p"));
        broker.publish(publisher, &publish("t", "1").retained());
        let client = broker.join(&connect(version, "a"));
        assert_eq!(lines(&broker.subscribe(client, "t", 0)), ["t=1"]);
        broker.publish(publisher, &publish("t", "").retained());
        assert_eq!(broker.messages(client), [publish("t", "")]);
        let other = broker.join(&connect(version, "b"));
        assert_eq!(broker.subscribe(other, "t", 0), []);
    });
}

#[test]
fn without_retain_nothing_retained_changes() {
    both(|version| {
        let mut broker = Broker::new();
        let publisher = broker.join(&connect(version, "p"));
        broker.publish(publisher, &publish("t", "kept").retained());
        broker.publish(publisher, &publish("t", "passing"));
        broker.publish(publisher, &publish("t", ""));
        broker.publish(publisher, &publish("u", "passing"));
        let client = broker.join(&connect(version, "a"));
        assert_eq!(broker.subscribe(client, "#", 0), [publish("t", "kept").retained()]);
    });
}

#[test]
fn what_is_retained_outlives_its_session() {
    both(|version| {
        let mut broker = Broker::new();
        let publisher = broker.join(&connect(version, "p"));
        broker.publish(publisher, &publish("t", "1").retained());
        broker.leave(publisher);
        let client = broker.join(&connect(version, "p"));
        assert_eq!(lines(&broker.subscribe(client, "t", 0)), ["t=1"]);
    });
}

#[test]
fn subscribing_again_sends_what_is_retained_again() {
    both(|version| {
        let mut broker = Broker::new();
        let publisher = broker.join(&connect(version, "p"));
        broker.publish(publisher, &publish("t", "1").retained());
        let client = broker.join(&connect(version, "a"));
        for _ in 0..3 {
            assert_eq!(broker.subscribe(client, "t", 0), [publish("t", "1").retained()]);
        }
        broker.publish(publisher, &publish("t", "2"));
        assert_eq!(lines(&broker.messages(client)), ["t=2"], "one subscription");
    });
}
