//! When what sessions keep is stored, and what waits for that.

use crate::mqtt_client::{lines, outline};
use crate::mqtt_packets::{
    PUBACK, PUBREC, Packet, Publish, V5,
    Value::{Four, Two},
    acknowledge, connect, id, persistent, property, publish, subscribe,
};
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

fn expiring(payload: &str) -> Publish {
    publish("t", payload).qos(1, 7).with((id::MESSAGE_EXPIRY, Four(2)))
}

/// What is published, stored, and acknowledged.
fn publish_stored(broker: &mut Broker, publisher: Client, publish: &Publish) {
    broker.give(publisher, &publish.bytes(V5));
    broker.store();
    assert_eq!(outline(&broker.take(publisher)), [(PUBACK, 7)]);
}

/// The server is killed and starts again, when what expires has; the payloads of what then comes to the client, marked where it may be a repetition.
fn restarted(broker: &mut Broker) -> Vec<String> {
    broker.restart_later(5_000);
    let (client, packets) = broker.resume(&persistent(V5, "a"));
    assert_eq!(packets, [], "it is not stored yet that the client is back");
    broker.store();
    let marked =
        |message: &Publish| format!("{}{}", lines(std::slice::from_ref(message))[0], if message.is_duplicate { " again" } else { "" });
    broker.messages(client).iter().map(marked).collect()
}

#[test]
fn what_expired_while_the_server_was_down_and_was_not_sent_before_does_not_come() {
    let mut broker = Broker::storing();
    let (client, publisher) = pair(&mut broker);
    broker.lose(client);
    broker.store();
    publish_stored(&mut broker, publisher, &expiring("short"));
    publish_stored(&mut broker, publisher, &publish("t", "long").qos(1, 7));
    assert_eq!(restarted(&mut broker), ["t=long"], "it comes for the first time");
}

#[test]
fn what_was_sent_before_the_server_was_killed_comes_again_though_it_expired() {
    for is_lost in [false, true] {
        let mut broker = Broker::storing();
        let (client, publisher) = pair(&mut broker);
        publish_stored(&mut broker, publisher, &expiring("sent"));
        assert_eq!(lines(&broker.messages(client)), ["t=sent"]);
        if is_lost {
            broker.lose(client);
            broker.store();
        }
        assert_eq!(restarted(&mut broker), ["t=sent again"]);
    }
}

#[test]
fn what_waited_for_room_is_known_to_be_sent_from_when_it_was() {
    for is_sent in [false, true] {
        let mut broker = Broker::storing();
        let (client, publisher) = pair(&mut broker);
        broker.lose(client);
        let (client, _) = broker.resume(&persistent(V5, "a").with((id::RECEIVE_MAXIMUM, Two(1))));
        broker.store();
        publish_stored(&mut broker, publisher, &publish("t", "first").qos(1, 7));
        publish_stored(&mut broker, publisher, &expiring("second"));
        let first = broker.messages(client);
        assert_eq!(lines(&first), ["t=first"]);
        if is_sent {
            broker.give(client, &acknowledge(PUBACK, first[0].id));
            assert_eq!(lines(&broker.messages(client)), ["t=second"]);
            broker.store();
        }
        assert_eq!(restarted(&mut broker), [if is_sent { "t=second again" } else { "t=first again" }]);
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

#[test]
fn what_a_group_dealt_is_dealt_again_when_the_member_ends_behind_a_restart() {
    let mut broker = Broker::storing();
    let (member, _) = broker.connect(&persistent(V5, "a"));
    broker.give(member, &subscribe(V5, 1, &[], &[("$share/g/t", 1)]));
    broker.store();
    let publisher = broker.join(&connect(V5, "p"));
    broker.lose(member);
    broker.store();
    for payload in ["1", "2"] {
        publish_stored(&mut broker, publisher, &publish("t", payload).qos(1, 7));
    }
    broker.restart_later(100);
    let other = broker.join(&connect(V5, "other"));
    broker.subscribe(other, "$share/g/t", 1);
    let anew = broker.open(V5);
    broker.give(anew, &connect(V5, "a").bytes());
    assert_eq!(lines(&broker.messages(other)), ["t=1", "t=2"]);
}
