//! Packets that are wrong, which end the connection and nothing else.

use super::both;
use crate::mqtt_packets::{
    PINGREQ, PUBREL, Packet, V5, acknowledge, connect, packet, publish, put_binary, put_properties, put_text, subscribe, unsubscribe,
};
use crate::mqtt_peer::Broker;

/// The connection ends with one of these codes, and another one does not notice.
fn check(version: u8, bytes: &[u8], codes: &[u8], why: &str) {
    let mut broker = Broker::new();
    let other = broker.join(&connect(version, "other"));
    let client = broker.join(&connect(version, "a"));
    broker.give(client, bytes);
    broker.assert_ended(client, codes, why);
    assert_eq!(broker.ask(other, &PINGREQ), [Packet::Pingresp], "{why}");
}

/// The bytes with another first byte.
fn first(first: u8, bytes: Vec<u8>) -> Vec<u8> {
    [&[first], &bytes[1..]].concat()
}

#[test]
fn flags_other_than_the_standards_close() {
    both(|version| {
        let filter = subscribe(version, 1, &[], &[("a", 0)]);
        for flags in [0, 1, 3, 6, 10, 15] {
            check(version, &first(0x80 | flags, filter.clone()), &[0x81], "SUBSCRIBE");
            check(version, &first(0xa0 | flags, unsubscribe(version, 1, &["a"])), &[0x81], "UNSUBSCRIBE");
            check(version, &first(0x60 | flags, acknowledge(PUBREL, 1)), &[0x81], "PUBREL");
        }
        for flags in [1, 2, 8] {
            check(version, &first(0x40 | flags, acknowledge(4, 1)), &[0x81], "PUBACK");
            check(version, &first(0x50 | flags, acknowledge(5, 1)), &[0x81], "PUBREC");
            check(version, &first(0x70 | flags, acknowledge(7, 1)), &[0x81], "PUBCOMP");
            check(version, &[0xc0 | flags, 0], &[0x81], "PINGREQ");
            check(version, &[0xe0 | flags, 0], &[0x81], "DISCONNECT");
        }
    });
}

#[test]
fn a_message_of_qos_3_closes() {
    both(|version| {
        check(version, &publish("a", "1").qos(3, 1).bytes(version), &[0x81], "QoS 3");
        check(version, &publish("a", "1").again().bytes(version), &[0x81, 0x82], "DUP at QoS 0");
    });
}

#[test]
fn packets_that_only_a_server_sends_close() {
    both(|version| {
        for bytes in [packet(0x00, &[]), packet(0x20, &[0, 0]), packet(0x90, &[0, 1, 0]), packet(0xb0, &[0, 1]), packet(0xd0, &[])] {
            check(version, &bytes, &[0x81, 0x82], "a packet of a server's");
        }
        if version < V5 {
            check(version, &packet(0xf0, &[]), &[], "AUTH is of 5");
        }
    });
}

#[test]
fn ids_of_0_close() {
    both(|version| {
        check(version, &publish("a", "1").qos(1, 0).bytes(version), &[0x81, 0x82], "PUBLISH");
        check(version, &publish("a", "1").qos(2, 0).bytes(version), &[0x81, 0x82], "PUBLISH");
        check(version, &subscribe(version, 0, &[], &[("a", 0)]), &[0x81, 0x82], "SUBSCRIBE");
        check(version, &unsubscribe(version, 0, &["a"]), &[0x81, 0x82], "UNSUBSCRIBE");
    });
}

#[test]
fn names_that_cannot_be_close() {
    both(|version| {
        for name in ["#", "+", "a/#", "a/+/b", "a+", "a#b"] {
            check(version, &publish(name, "1").bytes(version), &[0x81, 0x82, 0x90], name);
        }
        check(version, &publish("", "1").bytes(version), &[0x81, 0x82, 0x90], "an empty name");
    });
}

#[test]
fn strings_that_are_none_close() {
    both(|version| {
        for wrong in [&b"\xff"[..], b"a\0", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"] {
            let mut name = Vec::new();
            put_binary(&mut name, wrong);
            let with_properties = |id: &[u8]| {
                let mut body = id.to_vec();
                put_properties(&mut body, version, &[]);
                body
            };
            let message = [name.clone(), with_properties(&[])].concat();
            check(version, &packet(0x30, &message), &[0x81, 0x82, 0x90], "a name");
            let filter = [with_properties(&[0, 1]), name.clone()].concat();
            check(version, &packet(0xa2, &filter), &[0x81, 0x82], "a filter of UNSUBSCRIBE");
            check(version, &packet(0x82, &[filter, vec![0]].concat()), &[0x81, 0x82], "a filter of SUBSCRIBE");
        }
    });
}

#[test]
fn requests_without_filters_close() {
    both(|version| {
        check(version, &subscribe(version, 1, &[], &[]), &[0x81, 0x82], "SUBSCRIBE");
        check(version, &unsubscribe(version, 1, &[]), &[0x81, 0x82], "UNSUBSCRIBE");
    });
}

#[test]
fn options_with_reserved_bits_close() {
    both(|version| {
        let wrong: &[u8] = if version == V5 { &[3, 0x40, 0x80, 0x30] } else { &[3, 4, 8, 0x10, 0x80] };
        for &options in wrong {
            check(version, &subscribe(version, 1, &[], &[("a", options)]), &[0x81, 0x82], "options");
        }
    });
}

#[test]
fn lengths_that_do_not_fit_close() {
    both(|version| {
        check(version, &[0x30, 0xff, 0xff, 0xff, 0xff, 0x01], &[0x81], "a length of five bytes");
        check(version, &[0x30, 1, 0], &[0x81], "half a name's length");
        check(version, &[0x30, 3, 0, 9, b'a'], &[0x81], "half a name");
        check(version, &[0x32, 4, 0, 1, b'a', 0], &[0x81], "half an id");
        check(version, &[0x40, 1, 0], &[0x81], "half a PUBACK");
        check(version, &packet(0xc0, &[0]), &[0x81], "PINGREQ with a body");
        let mut filter = vec![0, 1];
        put_properties(&mut filter, version, &[]);
        put_text(&mut filter, "a");
        check(version, &packet(0x82, &filter), &[0x81], "no options");
        let end = filter.len() - 1;
        check(version, &packet(0xa2, &filter[..end]), &[0x81], "half a filter");
    });
}

#[test]
fn a_packet_above_the_servers_maximum_closes() {
    both(|version| {
        let mut message = publish("a", "");
        message.payload = vec![0; 80_000];
        check(version, &message.bytes(version), &[0x95], "too large");
        let mut broker = Broker::new();
        let client = broker.join(&connect(version, "a"));
        broker.give(client, &message.bytes(version));
        broker.give(client, &PINGREQ);
        assert_eq!(broker.oversized(), [("a".into(), "mqtt.packet_bytes_max")], "the operator is told, once");
        let unknown = broker.open(version);
        broker.give(unknown, &packet(0x10, &[0; 80_000]));
        assert_eq!(broker.oversized()[1], (String::new(), "mqtt.packet_bytes_max"));
    });
}

#[test]
fn a_payload_above_the_longest_value_is_over_the_quota() {
    both(|version| {
        for qos in 0..3 {
            let mut broker = Broker::new();
            let client = broker.join(&connect(version, "a"));
            let mut message = publish("a", "").qos(qos, u16::from(qos > 0));
            message.payload = vec![0; 60_001];
            broker.give(client, &message.bytes(version));
            if version == V5 && qos > 0 {
                let packets = broker.take(client);
                assert!(matches!(packets[..], [Packet::Acknowledged { id: 1, code: 0x97, .. }]), "{packets:?}");
            } else {
                broker.assert_ended(client, &[0x97], "too long a payload");
            }
            assert_eq!(broker.oversized(), [("a".into(), "limits.value_bytes_max")]);
            let client = broker.join(&connect(version, "b"));
            message.payload.pop();
            broker.publish(client, &message);
        }
    });
}
