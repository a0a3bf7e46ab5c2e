//! DISCONNECT of either side, and wills that wait.

use crate::mqtt_client::lines;
use crate::mqtt_packets::{PINGREQ, Packet, V5, Value::Four, connect, disconnect, id, packet, persistent, publish, text, user};
use crate::mqtt_peer::{Broker, Client};
use tidewire::surface::session::QueueLimits;

fn watched(broker: &mut Broker) -> Client {
    let watcher = broker.join(&connect(V5, "watcher"));
    broker.subscribe(watcher, "w", 0);
    watcher
}

#[test]
fn disconnect_with_0x04_publishes_the_will() {
    for (code, expected) in [(0, 0), (4, 1), (0x80, 1), (0x82, 1)] {
        let mut broker = Broker::new();
        let watcher = watched(&mut broker);
        let client = broker.join(&connect(V5, "a").will(publish("w", "gone")));
        broker.give(client, &disconnect(code, &[text(id::REASON, "why"), user("a", "b")]));
        assert_eq!(broker.take(client), []);
        assert!(broker.is_ended(client));
        assert_eq!(broker.messages(watcher).len(), expected, "{code:02x}");
    }
}

#[test]
fn disconnect_of_the_wrong_form_closes() {
    for bytes in [packet(0xe1, &[]), packet(0xe0, &[1]), packet(0xe0, &[0x42]), disconnect(0, &[text(id::CONTENT_TYPE, "a")])] {
        let mut broker = Broker::new();
        let watcher = watched(&mut broker);
        let client = broker.join(&connect(V5, "a").will(publish("w", "gone")));
        broker.give(client, &bytes);
        broker.assert_ended(client, &[0x81, 0x82], &format!("{bytes:02x?}"));
        assert_eq!(lines(&broker.messages(watcher)), ["w=gone"]);
    }
}

#[test]
fn nothing_is_sent_behind_disconnect() {
    let mut broker = Broker::new();
    let client = broker.join(&connect(V5, "a"));
    let bytes = [&[0xc1, 0][..], &PINGREQ, &publish("t", "1").qos(1, 1).bytes(V5)].concat();
    broker.give(client, &bytes);
    broker.assert_ended(client, &[0x81], "flags of PINGREQ");
}

#[test]
fn a_will_waits_for_its_delay() {
    let mut broker = Broker::new();
    let watcher = watched(&mut broker);
    let will = publish("w", "gone").with((id::WILL_DELAY, Four(2)));
    let client = broker.join(&persistent(V5, "a").will(will));
    broker.lose(client);
    broker.advance(1000);
    assert_eq!(broker.messages(watcher), []);
    broker.advance(2000);
    assert_eq!(broker.messages(watcher), [publish("w", "gone")], "the delay is not passed on");
    broker.advance(3000);
    assert_eq!(broker.messages(watcher), []);
}

#[test]
fn a_will_is_not_published_if_the_client_is_back_in_time() {
    let mut broker = Broker::new();
    let watcher = watched(&mut broker);
    let will = publish("w", "gone").with((id::WILL_DELAY, Four(2)));
    let client = broker.join(&persistent(V5, "a").will(will));
    broker.lose(client);
    broker.advance(1000);
    broker.resume(&persistent(V5, "a"));
    broker.advance(3000);
    assert_eq!(broker.messages(watcher), []);
}

#[test]
fn a_will_does_not_outwait_its_session() {
    let mut broker = Broker::new();
    let watcher = watched(&mut broker);
    let will = publish("w", "gone").with((id::WILL_DELAY, Four(100)));
    let client = broker.join(&connect(V5, "a").will(will.clone()).with((id::SESSION_EXPIRY, Four(1))));
    broker.lose(client);
    assert_eq!(broker.messages(watcher), []);
    broker.advance(3000);
    assert_eq!(lines(&broker.messages(watcher)), ["w=gone"], "the session expired");
    let client = broker.join(&persistent(V5, "a").will(will));
    broker.lose(client);
    broker.join(&connect(V5, "a"));
    assert_eq!(lines(&broker.messages(watcher)), ["w=gone"], "the session ended by a clean start");
}

#[test]
fn the_connection_that_was_taken_over_is_told() {
    let mut broker = Broker::new();
    let older = broker.join(&connect(V5, "a"));
    broker.join(&connect(V5, "a"));
    let packets = broker.take(older);
    assert!(matches!(packets[..], [Packet::Disconnect { code: 0x8e, .. }]), "{packets:?}");
    assert!(broker.is_ended(older));
}

#[test]
fn who_falls_behind_is_sent_the_last_message_of_a_topic_that_has_gone() {
    let mut broker = Broker::narrow(QueueLimits { bytes_high: 3000, bytes_max: 20_000 });
    let client = broker.join(&connect(V5, "a"));
    broker.subscribe(client, "#", 0);
    let publisher = broker.join(&connect(V5, "p"));
    broker.publish(publisher, &publish("t", "1").retained());
    broker.messages(client);
    let mut bytes = publish("t", "").retained().bytes(V5);
    bytes.extend((0..5).flat_map(|_| publish("x", &"x".repeat(900)).bytes(V5)));
    broker.give(publisher, &bytes);
    let topics: Vec<String> = broker.messages(client).into_iter().map(|message| message.topic).collect();
    assert_eq!((topics[0].as_str(), topics.len() < 6), ("t", true), "{topics:?}");
}
