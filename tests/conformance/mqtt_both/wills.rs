//! Wills.

use super::both;
use crate::mqtt_client::lines;
use crate::mqtt_packets::{PINGREQ, connect, persistent, publish};
use crate::mqtt_peer::Broker;

#[test]
fn a_will_is_published_when_the_connection_is_lost() {
    both(|version| {
        for qos in 0..3 {
            let mut broker = Broker::new();
            let watcher = broker.join(&connect(version, "watcher"));
            broker.subscribe(watcher, "w", 2);
            let client = broker.join(&connect(version, "a").will(publish("w", "gone").qos(qos, 0)));
            assert_eq!(broker.messages(watcher), []);
            broker.lose(client);
            let messages = broker.messages(watcher);
            assert_eq!(lines(&messages), ["w=gone"]);
            assert_eq!((messages[0].qos, messages[0].retain), (qos, false));
            let other = broker.join(&connect(version, "other"));
            assert_eq!(broker.subscribe(other, "w", 0), [], "it is not retained");
        }
    });
}

#[test]
fn a_will_with_retain_is_retained() {
    both(|version| {
        let mut broker = Broker::new();
        let client = broker.join(&connect(version, "a").will(publish("w", "gone").retained()));
        broker.lose(client);
        let other = broker.join(&connect(version, "other"));
        assert_eq!(broker.subscribe(other, "w", 0), [publish("w", "gone").retained()]);
    });
}

#[test]
fn a_will_is_published_after_a_wrong_packet() {
    both(|version| {
        let mut broker = Broker::new();
        let watcher = broker.join(&connect(version, "watcher"));
        broker.subscribe(watcher, "w", 0);
        let client = broker.join(&connect(version, "a").will(publish("w", "gone")));
        broker.give(client, &[0xc1, 0]);
        broker.assert_ended(client, &[0x81], "flags of PINGREQ");
        assert_eq!(broker.messages(watcher), [publish("w", "gone")]);
    });
}

#[test]
fn a_will_is_discarded_by_disconnect() {
    both(|version| {
        let mut broker = Broker::new();
        let watcher = broker.join(&connect(version, "watcher"));
        broker.subscribe(watcher, "w", 0);
        let client = broker.join(&connect(version, "a").will(publish("w", "gone").retained()));
        broker.leave(client);
        broker.advance(100);
        assert_eq!(broker.messages(watcher), []);
    });
}

#[test]
fn a_will_is_published_once_and_belongs_to_its_connection() {
    both(|version| {
        let mut broker = Broker::new();
        let watcher = broker.join(&connect(version, "watcher"));
        broker.subscribe(watcher, "w", 0);
        let client = broker.join(&persistent(version, "a").will(publish("w", "gone")));
        broker.lose(client);
        assert_eq!(lines(&broker.messages(watcher)), ["w=gone"]);
        let (client, _) = broker.resume(&persistent(version, "a"));
        broker.lose(client);
        broker.advance(100);
        assert_eq!(broker.messages(watcher), [], "the session's next connection has none");
    });
}

#[test]
fn a_will_is_published_when_another_connection_takes_over() {
    both(|version| {
        let mut broker = Broker::new();
        let watcher = broker.join(&connect(version, "watcher"));
        broker.subscribe(watcher, "w", 0);
        broker.join(&connect(version, "a").will(publish("w", "gone")));
        let newer = broker.join(&connect(version, "a"));
        broker.ask(newer, &PINGREQ);
        assert_eq!(lines(&broker.messages(watcher)), ["w=gone"]);
    });
}
