//! CONNECT and what is answered to it, PINGREQ, DISCONNECT, the keep alive.

use super::both;
use crate::mqtt_packets::{PINGREQ, Packet, V5, V31, V311, connect, disconnect, publish};
use crate::mqtt_peer::Broker;

#[test]
fn the_first_packet_is_connect() {
    both(|version| {
        for bytes in [PINGREQ.to_vec(), publish("a", "1").bytes(version), vec![0xe0, 0]] {
            let mut broker = Broker::new();
            let client = broker.open(version);
            broker.give(client, &bytes);
            broker.assert_not_connected(client, "no CONNECT");
        }
    });
}

#[test]
fn a_second_connect_closes() {
    both(|version| {
        let mut broker = Broker::new();
        let client = broker.join(&connect(version, "a"));
        broker.give(client, &connect(version, "a").bytes());
        broker.assert_ended(client, &[0x82], "a second CONNECT");
    });
}

#[test]
fn every_version_is_accepted_by_its_own_name() {
    for version in [V31, V311, V5] {
        let mut broker = Broker::new();
        let client = broker.join(&connect(version, "a"));
        assert_eq!(broker.ask(client, &PINGREQ), [Packet::Pingresp]);
        let mut wrong = connect(version, "b");
        wrong.name = if version == V31 { "MQTX" } else { "MQIsdp" };
        let client = broker.open(version);
        broker.give(client, &wrong.bytes());
        // A server may answer in a version that the client does not read.
        broker.take_bytes(client);
        assert!(broker.is_ended(client), "{version}");
    }
}

#[test]
fn a_connect_of_the_wrong_form_closes() {
    both(|version| {
        let plain = connect(version, "a");
        let flags = |flags| {
            let mut wrong = plain.clone();
            wrong.more_flags = flags;
            wrong.bytes()
        };
        let cases = [
            (flags(1), "the reserved flag"),
            (flags(0x08), "a will's QoS without a will"),
            (flags(0x20), "a will's retain without a will"),
            (flags(0x04), "a will without topic and payload"),
            (flags(0x80), "a user name that is not there"),
            (flags(0x40), "a password that is not there"),
            (plain.clone().will(publish("w", "1").qos(3, 0)).bytes(), "a will of QoS 3"),
            (plain.clone().will(publish("w/#", "1")).bytes(), "a will's topic with a wildcard"),
            (longer(plain.bytes()), "bytes behind the client id"),
            (shorter(plain.bytes()), "half a client id"),
            (with_client_id(version, b"\xff"), "a client id that is not UTF-8"),
            (with_client_id(version, b"\xed\xa0\x80"), "a client id with a surrogate"),
            (with_client_id(version, b"\0"), "a client id with U+0000"),
            (with_will_topic(version, b"\xff"), "a will's topic that is not UTF-8"),
            (with_user_name(version, b"\xff"), "a user name that is not UTF-8"),
            (with_user_name(version, b"\0"), "a user name with U+0000"),
            ([&[0x11], &plain.bytes()[1..]].concat(), "reserved flags of the packet"),
        ];
        for (bytes, why) in cases {
            let mut broker = Broker::new();
            let client = broker.open(version);
            broker.give(client, &bytes);
            broker.assert_not_connected(client, why);
        }
    });
}

fn longer(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes[1] += 1;
    bytes.push(0);
    bytes
}

fn shorter(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes[1] -= 1;
    bytes.pop();
    bytes
}

fn with_will_topic(version: u8, topic: &[u8]) -> Vec<u8> {
    let mut bytes = connect(version, "a").will(publish(&"w".repeat(topic.len()), "")).bytes();
    // Behind it stands the length of the payload, which is empty.
    let end = bytes.len() - 2;
    bytes[end - topic.len()..end].copy_from_slice(topic);
    bytes
}

fn with_user_name(version: u8, name: &[u8]) -> Vec<u8> {
    let mut named = connect(version, "a");
    named.user_name = Some("n".repeat(name.len()));
    let mut bytes = named.bytes();
    let start = bytes.len() - name.len();
    bytes[start..].copy_from_slice(name);
    bytes
}

fn with_client_id(version: u8, id: &[u8]) -> Vec<u8> {
    let mut bytes = connect(version, &"a".repeat(id.len())).bytes();
    let start = bytes.len() - id.len();
    bytes[start..].copy_from_slice(id);
    bytes
}

#[test]
fn user_names_and_passwords_are_read() {
    both(|version| {
        let mut named = connect(version, "a").will(publish("w", "1"));
        named.user_name = Some("someone".into());
        let mut full = named.clone();
        full.password = Some(vec![0, 255]);
        let mut broken = full.clone();
        broken.user_name = Some("".into());
        for connect in [named, full, broken] {
            Broker::new().join(&connect);
        }
    });
}

#[test]
fn client_ids_of_1_to_23_letters_and_digits_are_taken() {
    both(|version| {
        for id in ["a", "0123456789abcdefghijklm", "nopqrstuvwxyzABCDEFGHIJ", "KLMNOPQRSTUVWXYZ"] {
            Broker::new().join(&connect(version, id));
        }
    });
}

#[test]
fn an_empty_client_id_gets_one_of_its_own() {
    both(|version| {
        let mut broker = Broker::new();
        let clients = [(); 3].map(|()| broker.join(&connect(version, "")));
        for client in clients {
            assert_eq!(broker.ask(client, &PINGREQ), [Packet::Pingresp]);
        }
    });
}

#[test]
fn a_second_connection_of_a_client_takes_over() {
    both(|version| {
        let mut broker = Broker::new();
        let older = broker.join(&connect(version, "a"));
        let other = broker.join(&connect(version, "A"));
        let newer = broker.join(&connect(version, "a"));
        broker.assert_ended(older, &[0x8e], "another connection of the client");
        for client in [other, newer] {
            assert_eq!(broker.ask(client, &PINGREQ), [Packet::Pingresp]);
        }
    });
}

#[test]
fn nothing_behind_a_refused_connect_is_carried_out() {
    both(|version| {
        let mut broker = Broker::new();
        let mut refused = connect(version, "a");
        refused.more_flags = 1;
        let client = broker.open(version);
        broker.give(client, &[refused.bytes(), publish("t", "1").retained().bytes(version)].concat());
        broker.assert_not_connected(client, "a reserved flag");
        let other = broker.join(&connect(version, "b"));
        assert_eq!(broker.subscribe(other, "#", 0), []);
    });
}

#[test]
fn packets_behind_connect_are_carried_out_after_connack() {
    both(|version| {
        let mut broker = Broker::new();
        let client = broker.open(version);
        let packets = broker.ask(client, &[connect(version, "a").bytes(), PINGREQ.to_vec()].concat());
        assert!(matches!(packets[..], [Packet::Connack { code: 0, .. }, Packet::Pingresp]), "{packets:?}");
    });
}

#[test]
fn packets_may_come_byte_by_byte() {
    both(|version| {
        let mut broker = Broker::new();
        let client = broker.open(version);
        for byte in connect(version, "a").bytes().into_iter().chain(PINGREQ) {
            broker.give(client, &[byte]);
        }
        let packets = broker.take(client);
        assert!(matches!(packets[..], [Packet::Connack { code: 0, .. }, Packet::Pingresp]), "{packets:?}");
    });
}

#[test]
fn silence_of_one_and_a_half_keep_alives_ends_the_connection() {
    both(|version| {
        let mut broker = Broker::new();
        let watcher = broker.join(&connect(version, "watcher"));
        broker.subscribe(watcher, "w", 0);
        let client = broker.join(&connect(version, "a").keep_alive(2).will(publish("w", "gone")));
        broker.advance(2500);
        assert_eq!(broker.ask(client, &PINGREQ), [Packet::Pingresp]);
        broker.advance(2500);
        assert!(!broker.is_ended(client));
        assert_eq!(broker.messages(watcher), []);
        broker.advance(600);
        // 5 may say 0x8d first.
        for packet in broker.take(client) {
            assert!(matches!(packet, Packet::Disconnect { code: 0x8d, .. }), "{packet:?}");
        }
        assert!(broker.is_ended(client));
        assert_eq!(broker.messages(watcher), [publish("w", "gone")]);
    });
}

#[test]
fn a_keep_alive_of_0_is_none() {
    both(|version| {
        let mut broker = Broker::new();
        let client = broker.join(&connect(version, "a"));
        for _ in 0..20 {
            broker.advance(5000);
        }
        assert!(!broker.is_ended(client));
        assert_eq!(broker.ask(client, &PINGREQ), [Packet::Pingresp]);
    });
}

#[test]
fn disconnect_ends_the_connection() {
    both(|version| {
        let mut broker = Broker::new();
        let client = broker.join(&connect(version, "a"));
        let goodbye = if version == V5 { disconnect(0, &[]) } else { vec![0xe0, 0] };
        broker.give(client, &[&goodbye[..], &PINGREQ].concat());
        assert_eq!(broker.take(client), []);
        assert!(broker.is_ended(client));
    });
}
