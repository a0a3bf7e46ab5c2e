//! The client's maximum packet size, and what it wants to be told.

use crate::mqtt_client::lines;
use crate::mqtt_packets::{
    PUBREL, Packet, V5,
    Value::{Byte, Four, Two},
    acknowledge, connect, id, persistent, property, publish, subscribe, text, unsubscribe,
};
use crate::mqtt_peer::Broker;

#[test]
fn what_is_too_large_for_a_client_counts_as_sent() {
    for qos in 0..3 {
        let mut broker = Broker::new();
        let small = persistent(V5, "a").with((id::PACKET_SIZE, Four(60)));
        let client = broker.join(&small);
        broker.subscribe(client, "t", qos);
        let other = broker.join(&connect(V5, "b"));
        broker.subscribe(other, "t", qos);
        let publisher = broker.join(&connect(V5, "p"));
        let long = "x".repeat(100);
        for payload in ["1", &long, "2"] {
            broker.publish(publisher, &publish("t", payload).qos(qos, u16::from(qos > 0)));
        }
        assert_eq!(lines(&broker.messages(client)), ["t=1", "t=2"]);
        assert_eq!(broker.messages(other).len(), 3);
        assert!(!broker.is_ended(client));
    }
}

#[test]
fn the_client_says_to_the_byte_what_is_too_large() {
    let mut broker = Broker::new();
    let client = broker.join(&connect(V5, "a").with((id::PACKET_SIZE, Four(40))));
    broker.subscribe(client, "t", 0);
    let publisher = broker.join(&connect(V5, "p"));
    for len in 30..40 {
        broker.publish(publisher, &publish("t", &"x".repeat(len)));
    }
    // Two bytes of head, three of the name, one for no properties.
    let lens: Vec<usize> = broker.messages(client).iter().map(|message| message.payload.len()).collect();
    assert_eq!(lens, [30, 31, 32, 33, 34]);
}

/// Asks for all that may be refused with a reason.
fn refusals(broker: &mut Broker, connect: &crate::mqtt_packets::Connect) -> Vec<Packet> {
    let client = broker.join(connect);
    let mut packets = broker.ask(client, &subscribe(V5, 1, &[], &[("a/#/b", 0)]));
    packets.extend(broker.ask(client, &unsubscribe(V5, 2, &["none"])));
    packets.extend(broker.ask(client, &acknowledge(PUBREL, 7)));
    assert_eq!(packets.len(), 3, "{packets:?}");
    packets.extend(broker.ask(client, &[0xc1, 0]));
    packets
}

#[test]
fn reasons_are_left_out_where_packets_would_be_too_large() {
    for size in [20, 24, 30] {
        let mut broker = Broker::new();
        let client = broker.open(V5);
        broker.give(client, &connect(V5, "a").with((id::PACKET_SIZE, Four(size))).bytes());
        let mut bytes = broker.take_bytes(client);
        for request in [subscribe(V5, 1, &[], &[("a/#/b", 0)]), unsubscribe(V5, 2, &["none"]), acknowledge(PUBREL, 7), vec![0xc1, 0]] {
            broker.give(client, &request);
            bytes.extend(broker.take_bytes(client));
        }
        let mut rest = &bytes[..];
        let mut count = 0;
        while !rest.is_empty() {
            let before = rest.len();
            crate::mqtt_packets::parse(V5, &mut rest).expect("whole packets");
            assert!(before - rest.len() <= size as usize, "{bytes:02x?}");
            count += 1;
        }
        assert_eq!(count, 5, "{bytes:02x?}");
    }
}

#[test]
fn a_refusal_is_no_larger_than_the_client_takes() {
    for size in [5, 20] {
        let mut broker = Broker::new();
        let client = broker.open(V5);
        let refused = connect(V5, "a").with((id::PACKET_SIZE, Four(size))).with(text(id::AUTHENTICATION_METHOD, "dance"));
        broker.give(client, &refused.bytes());
        let bytes = broker.take_bytes(client);
        assert!(bytes.len() <= size as usize, "{bytes:02x?}");
        assert!(broker.is_ended(client));
    }
}

#[test]
fn a_disconnection_says_why_in_words() {
    let mut broker = Broker::new();
    let packets = refusals(&mut broker, &connect(V5, "a"));
    let Some(Packet::Disconnect { properties, .. }) = packets.last() else { panic!("{packets:?}") };
    assert!(property(properties, id::REASON).is_some(), "a reason that may be left out");
}

#[test]
fn a_client_that_wants_no_reasons_is_told_none() {
    let mut broker = Broker::new();
    for packet in refusals(&mut broker, &connect(V5, "a").with((id::REQUEST_PROBLEM, Byte(0)))) {
        match packet {
            Packet::Suback { properties, .. } | Packet::Unsuback { properties, .. } | Packet::Acknowledged { properties, .. } => {
                assert_eq!(properties, []);
            }
            // These may say why all the same.
            Packet::Disconnect { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn response_information_is_not_sent_unasked() {
    let mut broker = Broker::new();
    for properties in [vec![], vec![(id::REQUEST_RESPONSE, Byte(0))]] {
        let mut asking = connect(V5, "a");
        asking.properties = properties;
        let (_, _, told) = broker.connack(&asking);
        assert_eq!(property(&told, id::RESPONSE_INFORMATION), None);
    }
}

#[test]
fn what_has_become_too_large_for_a_client_holds_nothing_up() {
    for qos in 1..3 {
        let mut broker = Broker::new();
        let client = broker.join(&persistent(V5, "a"));
        broker.subscribe(client, "t", qos);
        let publisher = broker.join(&connect(V5, "p"));
        broker.publish(publisher, &publish("t", &"x".repeat(100)).qos(qos, 1));
        assert_eq!(broker.messages(client).len(), 1);
        broker.lose(client);
        let narrow = persistent(V5, "a").with((id::PACKET_SIZE, Four(60))).with((id::RECEIVE_MAXIMUM, Two(1)));
        let (client, packets) = broker.resume(&narrow);
        assert_eq!(packets, []);
        broker.publish(publisher, &publish("t", "1").qos(qos, 1));
        assert_eq!(lines(&broker.messages(client)), ["t=1"]);
    }
}
