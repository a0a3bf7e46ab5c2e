//! Reason codes in the exchanges of QoS 1 and 2, and how many are open at once.

use crate::mqtt_client::lines;
use crate::mqtt_packets::{
    PINGREQ, PUBACK, PUBCOMP, PUBREC, PUBREL, Packet, Publish, V5, Value::Two, acknowledge, acknowledge_with, acknowledged, connect, id,
    persistent, property, publish,
};
use crate::mqtt_peer::{Broker, Client, RECEIVE_MAXIMUM};

fn pair(broker: &mut Broker, receive_maximum: u16) -> (Client, Client) {
    let client = broker.join(&slow(receive_maximum));
    broker.subscribe(client, "t", 2);
    (client, broker.join(&connect(V5, "p")))
}

fn slow(receive_maximum: u16) -> crate::mqtt_packets::Connect {
    persistent(V5, "a").with((id::RECEIVE_MAXIMUM, Two(receive_maximum)))
}

#[test]
fn ids_that_are_not_known_are_told() {
    let mut broker = Broker::new();
    let (client, _) = pair(&mut broker, 10);
    let packets = broker.ask(client, &acknowledge(PUBREL, 7));
    assert!(matches!(packets[..], [Packet::Acknowledged { kind: PUBCOMP, id: 7, code: 0x92, .. }]), "{packets:?}");
    let packets = broker.ask(client, &acknowledge(PUBREC, 8));
    assert!(matches!(packets[..], [Packet::Acknowledged { kind: PUBREL, id: 8, code: 0x92, .. }]), "{packets:?}");
    assert_eq!(broker.ask(client, &PINGREQ), [Packet::Pingresp]);
}

#[test]
fn what_is_refused_is_acknowledged() {
    let mut broker = Broker::new();
    let (client, publisher) = pair(&mut broker, 1);
    for (qos, kind) in [(1, PUBACK), (2, PUBREC)] {
        broker.publish(publisher, &publish("t", "refused").qos(qos, 1));
        broker.publish(publisher, &publish("t", "next").qos(1, 2));
        let messages = broker.messages(client);
        assert_eq!(lines(&messages), ["t=refused"]);
        let packets = broker.ask(client, &acknowledge_with(kind, messages[0].id, 0x83));
        let [Packet::Publish(next)] = &packets[..] else { panic!("no PUBREL, and the next message: {packets:?}") };
        assert_eq!(broker.ask(client, &acknowledge(PUBACK, next.id)), []);
    }
    broker.lose(client);
    assert_eq!(broker.resume(&slow(1)).1, []);
}

#[test]
fn no_more_than_receive_maximum_is_open() {
    let mut broker = Broker::new();
    let (client, publisher) = pair(&mut broker, 2);
    for number in 1..=5 {
        broker.publish(publisher, &publish("t", &number.to_string()).qos(1 + (number % 2) as u8, number));
    }
    let mut open: Vec<Publish> = broker.messages(client);
    assert_eq!(lines(&open), ["t=1", "t=2"]);
    broker.publish(publisher, &publish("t", "at once"));
    assert_eq!(broker.ask(client, &PINGREQ).last(), Some(&Packet::Pingresp), "nothing else waits");
    for number in 3..=5 {
        let message = open.remove(0);
        let packets = if message.qos == 1 {
            broker.ask(client, &acknowledge(PUBACK, message.id))
        } else {
            assert_eq!(broker.ask(client, &acknowledge(PUBREC, message.id)), [acknowledged(PUBREL, message.id)], "still open");
            broker.ask(client, &acknowledge(PUBCOMP, message.id))
        };
        let messages: Vec<Publish> = packets
            .into_iter()
            .map(|packet| match packet {
                Packet::Publish(message) => message,
                other => panic!("{other:?}"),
            })
            .filter(|message| message.qos > 0)
            .collect();
        assert_eq!(lines(&messages), [format!("t={number}")]);
        open.extend(messages);
    }
    broker.lose(client);
    let (_, packets) = broker.resume(&slow(1));
    assert_eq!(packets.len(), 1, "the next connection has its own maximum: {packets:?}");
}

#[test]
fn a_client_above_the_servers_receive_maximum_is_ended() {
    let mut broker = Broker::new();
    let client = broker.join(&connect(V5, "a"));
    for number in 1..=RECEIVE_MAXIMUM {
        let packets = broker.ask(client, &publish("t", "1").qos(2, number).bytes(V5));
        assert!(matches!(packets[..], [Packet::Acknowledged { kind: PUBREC, .. }]), "{packets:?}");
    }
    broker.give(client, &publish("t", "1").qos(2, RECEIVE_MAXIMUM + 1).bytes(V5));
    broker.assert_ended(client, &[0x93], "one too many");
}

#[test]
fn an_expired_message_is_acknowledged_all_the_same() {
    let mut broker = Broker::new();
    let (_, publisher) = pair(&mut broker, 1);
    let message = publish("t", "1").qos(2, 7).with((id::MESSAGE_EXPIRY, crate::mqtt_packets::Value::Four(1)));
    assert!(matches!(broker.ask(publisher, &message.bytes(V5))[..], [Packet::Acknowledged { kind: PUBREC, id: 7, .. }]));
    broker.advance(2000);
    assert!(matches!(broker.ask(publisher, &acknowledge(PUBREL, 7))[..], [Packet::Acknowledged { kind: PUBCOMP, id: 7, code: 0, .. }]));
}

#[test]
fn acknowledgements_with_codes_and_properties_are_read() {
    let mut broker = Broker::new();
    let (client, publisher) = pair(&mut broker, 10);
    broker.publish(publisher, &publish("t", "1").qos(1, 1));
    let open = broker.messages(client)[0].id.to_be_bytes();
    let reason = [0x1f, 0, 2, b'o', b'k'];
    assert_eq!(broker.ask(client, &crate::mqtt_packets::packet(0x40, &[&open[..], &[0, 5], &reason].concat())), []);
    broker.lose(client);
    let (client, packets) = broker.resume(&slow(10));
    assert_eq!(packets, []);
    for code in [1, 0x42, 0xff] {
        let mut broker = Broker::new();
        let client = broker.join(&connect(V5, "a"));
        broker.give(client, &acknowledge_with(PUBACK, 1, code));
        broker.assert_ended(client, &[0x81, 0x82], "a code that is none of PUBACK's");
    }
    assert_eq!(broker.ask(client, &PINGREQ), [Packet::Pingresp]);
    assert_eq!(property(&[], id::REASON), None);
}
