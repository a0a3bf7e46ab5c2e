//! When what sessions keep is stored, and what waits for that.

use crate::mqtt_client::{lines, outline};
use crate::mqtt_packets::{PUBACK, PUBREC, Packet, Publish, V5, Value::Four, connect, id, persistent, property, publish, subscribe};
use crate::mqtt_peer::{Broker, Client};
use crate::peer::WALL_MS;
use serde_json::json;

/// A client whose session is kept, subscribed to `t` at QoS 2, and one that publishes.
fn pair(broker: &mut Broker) -> (Client, Client) {
    let (client, packets) = broker.connect(&persistent(V5, "a"));
    assert_eq!(packets, [], "the session is not stored yet");
    broker.store();
    assert!(matches!(broker.take(client)[..], [Packet::Connack { session_present: false, code: 0, .. }]));
    assert_eq!(broker.ask(client, &subscribe(V5, 1, &[], &[("t", 2)])), [], "the subscription is not stored yet");
    broker.store();
    assert!(matches!(broker.take(client)[..], [Packet::Suback { .. }]));
    (client, broker.join(&connect(V5, "p")))
}

#[test]
fn a_message_is_acknowledged_when_the_sessions_that_keep_it_have_stored_it() {
    let mut broker = Broker::storing();
    let (client, publisher) = pair(&mut broker);
    broker.lose(client);
    for (qos, kind) in [(1, PUBACK), (2, PUBREC)] {
        assert_eq!(broker.ask(publisher, &publish("t", "1").qos(qos, 7).bytes(V5)), []);
        broker.store();
        assert_eq!(outline(&broker.take(publisher)), [(kind, 7)]);
    }
}

#[test]
fn a_message_of_qos_2_is_sent_once_it_is_stored() {
    let mut broker = Broker::storing();
    let (client, publisher) = pair(&mut broker);
    broker.give(publisher, &publish("t", "1").qos(2, 7).bytes(V5));
    assert_eq!(broker.messages(client), []);
    broker.store();
    assert_eq!(lines(&broker.messages(client)), ["t=1"]);
}

#[test]
fn while_storage_fails_messages_that_sessions_would_have_to_keep_are_refused() {
    let mut broker = Broker::storing();
    let (client, publisher) = pair(&mut broker);
    broker.fail_storage();
    let packets = broker.ask(publisher, &publish("t", "1").qos(2, 7).bytes(V5));
    assert!(matches!(packets[..], [Packet::Acknowledged { kind: PUBREC, id: 7, code: 0x97, .. }]), "{packets:?}");
    assert_eq!(broker.messages(client), []);
    broker.publish(publisher, &publish("t", "2"));
    assert_eq!(lines(&broker.messages(client)), ["t=2"], "nobody relies on it");
}

#[test]
fn what_came_before_storage_failed_is_sent_when_it_is_stored_after_all() {
    let mut broker = Broker::storing();
    let (client, publisher) = pair(&mut broker);
    broker.lose(client);
    broker.give(publisher, &publish("t", "1").qos(2, 7).bytes(V5));
    broker.fail_storage();
    broker.recover_storage();
    let (client, packets) = broker.resume(&persistent(V5, "a"));
    assert_eq!(packets, []);
    broker.store();
    assert_eq!(lines(&broker.messages(client)), ["t=1"]);
}

#[test]
fn a_disk_that_fails_does_not_keep_the_server_from_reading() {
    let mut broker = Broker::storing();
    let (away, publisher) = pair(&mut broker);
    broker.lose(away);
    broker.fail_storage();
    for _ in 0..1500 {
        let answer = broker.ask(publisher, &publish("t", "1").qos(1, 7).bytes(V5));
        assert!(matches!(answer[..], [Packet::Acknowledged { kind: 4, code: 0x97, .. }]), "{answer:?}");
    }
    let native = broker.join_native();
    broker.ask_native(native, json!({ "op": "add", "path": "t", "type": "binary", "properties": { "PERSISTENT": "false" } }));
    for _ in 0..1500 {
        broker.ask_native(native, json!({ "op": "set", "path": "t", "type": "binary", "value": "AAE=" }));
    }
    assert!(!broker.is_congested());
}

/// The client of a kept session connects again: whether the session is there, and what it is sent.
fn come_back(broker: &mut Broker) -> (bool, Vec<Publish>) {
    let (client, mut packets) = broker.connect(&persistent(V5, "a"));
    broker.store();
    packets.extend(broker.take(client));
    let Packet::Connack { session_present, code: 0, .. } = packets.remove(0) else { panic!("it is not accepted") };
    let messages = packets.into_iter().map(|packet| match packet {
        Packet::Publish(message) => message,
        other => panic!("{other:?}"),
    });
    (session_present, messages.collect())
}

/// What is left of the messages' expiries, in seconds.
fn left(messages: &[Publish]) -> Vec<(String, u32)> {
    let one = |message: &Publish| match property(&message.properties, id::MESSAGE_EXPIRY) {
        Some(Four(left)) => (message.topic.clone(), *left),
        other => panic!("{other:?}"),
    };
    messages.iter().map(one).collect()
}

/// MQTT-3.3.2-6: what was received less the time that the message has been waiting.
#[test]
fn nothing_that_was_stored_outlives_its_own_expiry_whatever_the_clock_says() {
    const YEAR_MS: u64 = 365 * 24 * 3_600_000;
    for (wall_ms, expected_s) in [(WALL_MS, 600), (WALL_MS - 10 * YEAR_MS, 600), (WALL_MS + 500_000, 100)] {
        let mut broker = Broker::storing();
        let (client, publisher) = pair(&mut broker);
        broker.lose(client);
        let expiring = |topic: &str, id| publish(topic, "1").qos(1, id).with((id::MESSAGE_EXPIRY, Four(600)));
        broker.give(publisher, &expiring("t", 7).bytes(V5));
        broker.give(publisher, &expiring("r", 8).retained().bytes(V5));
        broker.store();
        let mut broker = broker.restart(wall_ms);
        let (is_there, messages) = come_back(&mut broker);
        assert_eq!((is_there, left(&messages)), (true, vec![("t".to_owned(), expected_s)]), "{wall_ms}");
        let reader = broker.join(&connect(V5, "reader"));
        assert_eq!(left(&broker.subscribe(reader, "r", 0)), [("r".to_owned(), expected_s)], "{wall_ms}");
        broker.advance(u64::from(expected_s) * 1000);
        assert_eq!(broker.subscribe(reader, "r", 0), [], "{wall_ms}");
    }
}

#[test]
fn no_session_that_was_stored_outlives_its_own_expiry_whatever_the_clock_says() {
    for (behind_ms, advanced_ms, is_there) in
        [(0, 999_000, true), (0, 1_001_000, false), (10_000_000, 999_000, true), (10_000_000, 1_001_000, false)]
    {
        let mut broker = Broker::storing();
        let (client, _) = pair(&mut broker);
        broker.lose(client);
        broker.store();
        let mut broker = broker.restart(WALL_MS - behind_ms);
        broker.advance(advanced_ms);
        assert_eq!(come_back(&mut broker).0, is_there, "{behind_ms} {advanced_ms}");
    }
}
