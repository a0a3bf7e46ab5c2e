//! What CONNACK says, and how long sessions last.

use crate::mqtt_packets::{
    PUBACK, Packet, V5, V311,
    Value::{Byte, Four, Text, Two},
    acknowledge, connect, disconnect, id, packet, persistent, property, publish,
};
use crate::mqtt_peer::{ALIAS_MAXIMUM, Broker, PACKET_BYTES_MAX, RECEIVE_MAXIMUM};

#[test]
fn connack_tells_the_servers_limits() {
    let mut broker = Broker::new();
    let (_, session_present, properties) = broker.connack(&connect(V5, "a"));
    assert!(!session_present);
    assert_eq!(property(&properties, id::RECEIVE_MAXIMUM), Some(&Two(RECEIVE_MAXIMUM)));
    assert_eq!(property(&properties, id::ALIAS_MAXIMUM), Some(&Two(ALIAS_MAXIMUM)));
    assert_eq!(property(&properties, id::PACKET_SIZE), Some(&Four(PACKET_BYTES_MAX)));
    // All that a server may leave out is there: QoS 2, retained messages, wildcards, ids, shared subscriptions.
    for id in [id::MAXIMUM_QOS, id::RETAIN_AVAILABLE, id::WILDCARDS_AVAILABLE, id::IDS_AVAILABLE, id::SHARED_AVAILABLE] {
        assert!([None, Some(&Byte(1))].contains(&property(&properties, id)), "{properties:?}");
    }
    for id in [id::ASSIGNED_CLIENT, id::SERVER_KEEP_ALIVE, id::RESPONSE_INFORMATION, id::AUTHENTICATION_METHOD] {
        assert_eq!(property(&properties, id), None, "{properties:?}");
    }
}

#[test]
fn an_assigned_client_id_names_a_session() {
    let mut broker = Broker::new();
    let mut ids = Vec::new();
    for _ in 0..3 {
        let (client, _, properties) = broker.connack(&persistent(V5, "").clean(true));
        let Some(Text(id)) = property(&properties, id::ASSIGNED_CLIENT) else { panic!("{properties:?}") };
        broker.subscribe(client, "t", 1);
        broker.lose(client);
        assert!(!id.is_empty() && !ids.contains(id), "{id}");
        ids.push(id.clone());
    }
    for id in ids {
        broker.resume(&persistent(V5, &id));
    }
}

#[test]
fn a_session_ends_when_it_expired() {
    for (expiry, is_there) in [(None, false), (Some(0), false), (Some(2), false), (Some(4), true), (Some(u32::MAX), true)] {
        let mut broker = Broker::new();
        let mut before = connect(V5, "a");
        before.properties.extend(expiry.map(|seconds| (id::SESSION_EXPIRY, Four(seconds))));
        let client = broker.join(&before);
        broker.subscribe(client, "t", 1);
        broker.advance(2500);
        broker.lose(client);
        broker.advance(3000);
        let (_, session_present, _) = broker.connack(&persistent(V5, "a"));
        assert_eq!(session_present, is_there, "{expiry:?}");
    }
}

#[test]
fn disconnect_may_change_the_expiry() {
    for (expiry, is_there) in [(0, false), (1, false), (1000, true)] {
        let mut broker = Broker::new();
        let client = broker.join(&persistent(V5, "a"));
        broker.subscribe(client, "t", 1);
        broker.give(client, &disconnect(0, &[(id::SESSION_EXPIRY, Four(expiry))]));
        assert!(broker.is_ended(client));
        broker.advance(2000);
        let (_, session_present, _) = broker.connack(&persistent(V5, "a"));
        assert_eq!(session_present, is_there, "{expiry}");
    }
}

#[test]
fn an_expiry_of_0_cannot_be_raised() {
    let mut broker = Broker::new();
    let client = broker.join(&connect(V5, "a"));
    broker.give(client, &disconnect(0, &[(id::SESSION_EXPIRY, Four(10))]));
    broker.assert_ended(client, &[0x82], "the expiry was 0");
}

#[test]
fn a_refusal_has_a_code_and_closes() {
    let cases = [
        (connect(V5, "a").with((id::RECEIVE_MAXIMUM, Two(0))), 0x82, "a receive maximum of 0"),
        (connect(V5, "a").with((id::PACKET_SIZE, Four(0))), 0x82, "a packet size of 0"),
        (connect(V5, "a").with((id::REQUEST_PROBLEM, Byte(2))), 0x82, "neither 0 nor 1"),
        (connect(V5, "a").with((id::SESSION_EXPIRY, Four(1))).with((id::SESSION_EXPIRY, Four(1))), 0x82, "a property twice"),
        (connect(V5, "a").with((id::AUTHENTICATION_DATA, crate::mqtt_packets::Value::Binary(vec![1]))), 0x82, "data without a method"),
        (connect(V5, "a").with((id::ALIAS, Two(1))), 0x82, "a property of another packet"),
        (connect(V5, "a").will(publish("w", "1").qos(3, 0)), 0x81, "a will of QoS 3"),
    ];
    for (connect, expected, why) in cases {
        let mut broker = Broker::new();
        let (client, packets) = broker.connect(&connect);
        // Where the server says nothing it closes all the same.
        if let [Packet::Connack { code, .. }] = packets[..] {
            assert!([0x81, 0x82].contains(&code), "{why}: {code:02x} for {expected:02x}");
        } else {
            assert_eq!(packets, [], "{why}");
        }
        assert!(broker.is_ended(client), "{why}");
    }
}

#[test]
fn the_servers_keep_alive_is_told_and_holds() {
    for (wanted, told) in [(0, Some(10)), (11, Some(10)), (10, None), (3, None)] {
        let mut broker = Broker::with_keep_alive(10);
        let (client, _, properties) = broker.connack(&connect(V5, "a").keep_alive(wanted));
        assert_eq!(property(&properties, id::SERVER_KEEP_ALIVE), told.map(Two).as_ref(), "{wanted}");
        let silence_s = u64::from(told.unwrap_or(wanted));
        broker.advance(silence_s * 1500 - 200);
        assert!(!broker.is_ended(client), "{wanted}");
        broker.advance(400);
        broker.assert_ended(client, &[0x8d], "one and a half times the keep alive");
    }
}

#[test]
fn an_unknown_version_is_told_in_the_form_that_all_know_and_closed() {
    for version in [6, 7, 0x85, 0xff] {
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', version, 2, 0, 0];
        body.extend([0, 0, 1, b'a']);
        let mut broker = Broker::new();
        let client = broker.open(V5);
        broker.give(client, &packet(0x10, &body));
        assert_eq!(broker.take_bytes(client), [0x20, 2, 0, 1], "{version}");
        assert!(broker.is_ended(client), "{version}");
    }
}

#[test]
fn properties_that_are_none_close() {
    for properties in [&[1, 0][..], &[2, 17, 0], &[5, 17, 0, 0, 0], &[1, 127], &[0x80, 0], &[3, 38, 0, 1]] {
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 0];
        body.extend(properties);
        body.extend([0, 1, b'a']);
        let mut broker = Broker::new();
        let client = broker.open(V5);
        broker.give(client, &packet(0x10, &body));
        broker.assert_not_connected(client, &format!("{properties:?}"));
    }
}

#[test]
fn a_session_of_3_ends_by_the_rules_of_3() {
    let mut broker = Broker::new();
    let client = broker.join(&persistent(V311, "a"));
    broker.subscribe(client, "t", 1);
    broker.leave(client);
    broker.advance(5000);
    let publisher = broker.join(&connect(V5, "p"));
    broker.publish(publisher, &publish("t", "1").qos(1, 1));
    let (client, packets) = broker.resume(&persistent(V311, "a"));
    let [Packet::Publish(message)] = &packets[..] else { panic!("{packets:?}") };
    assert_eq!(broker.ask(client, &acknowledge(PUBACK, message.id)), []);
}
