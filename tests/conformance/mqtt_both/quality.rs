//! The exchanges of QoS 1 and 2, both ways, and across connections.

use super::both;
use crate::mqtt_client::{lines, outline};
use crate::mqtt_packets::{
    PINGREQ, PUBACK, PUBCOMP, PUBREC, PUBREL, Packet, Publish, acknowledge, acknowledged, connect, persistent, publish, unsubscribe,
};
use crate::mqtt_peer::{Broker, Client};

/// A client with a session of its own, subscribed to `t` at QoS 2, and one that publishes.
fn pair(broker: &mut Broker, version: u8) -> (Client, Client) {
    let client = broker.join(&persistent(version, "a"));
    broker.subscribe(client, "t", 2);
    (client, broker.join(&connect(version, "p")))
}

fn messages(packets: &[Packet]) -> Vec<Publish> {
    packets.iter().filter_map(|packet| if let Packet::Publish(message) = packet { Some(message.clone()) } else { None }).collect()
}

#[test]
fn after_puback_the_id_is_a_new_message() {
    both(|version| {
        let mut broker = Broker::new();
        let (client, publisher) = pair(&mut broker, version);
        broker.publish(publisher, &publish("t", "1").qos(1, 7));
        broker.publish(publisher, &publish("t", "2").qos(1, 7).again());
        broker.publish(publisher, &publish("t", "3").qos(1, 7));
        assert_eq!(lines(&broker.messages(client)), ["t=1", "t=2", "t=3"]);
    });
}

#[test]
fn until_pubrel_the_id_is_the_same_message() {
    both(|version| {
        let mut broker = Broker::new();
        let (client, _) = pair(&mut broker, version);
        let publisher = broker.join(&persistent(version, "q"));
        let message = publish("t", "1").qos(2, 7);
        assert_eq!(outline(&broker.ask(publisher, &message.bytes(version))), [(PUBREC, 7)]);
        assert_eq!(outline(&broker.ask(publisher, &message.clone().again().bytes(version))), [(PUBREC, 7)]);
        broker.lose(publisher);
        let (publisher, packets) = broker.resume(&persistent(version, "q"));
        assert_eq!(packets, []);
        assert_eq!(outline(&broker.ask(publisher, &message.again().bytes(version))), [(PUBREC, 7)]);
        assert_eq!(outline(&broker.ask(publisher, &acknowledge(PUBREL, 7))), [(PUBCOMP, 7)]);
        assert_eq!(lines(&broker.messages(client)), ["t=1"]);
        broker.publish(publisher, &publish("t", "2").qos(2, 7));
        assert_eq!(lines(&broker.messages(client)), ["t=2"], "after PUBCOMP it is a new message");
    });
}

#[test]
fn acknowledgements_keep_the_order_of_the_messages() {
    both(|version| {
        let mut broker = Broker::new();
        let (_, publisher) = pair(&mut broker, version);
        for (qos, kind) in [(1, PUBACK), (2, PUBREC)] {
            let bytes: Vec<u8> = [5, 3, 9, 1].iter().flat_map(|&id| publish("t", "1").qos(qos, id).bytes(version)).collect();
            assert_eq!(outline(&broker.ask(publisher, &bytes)), [(kind, 5), (kind, 3), (kind, 9), (kind, 1)]);
        }
        let bytes: Vec<u8> = [5, 3, 9, 1].iter().flat_map(|&id| acknowledge(PUBREL, id)).collect();
        assert_eq!(outline(&broker.ask(publisher, &bytes)), [(PUBCOMP, 5), (PUBCOMP, 3), (PUBCOMP, 9), (PUBCOMP, 1)]);
    });
}

#[test]
fn pubrel_is_answered_whether_or_not_its_message_is_known() {
    both(|version| {
        let mut broker = Broker::new();
        let (_, publisher) = pair(&mut broker, version);
        let packets = broker.ask(publisher, &acknowledge(PUBREL, 7));
        let [Packet::Acknowledged { kind: PUBCOMP, id: 7, code, .. }] = packets[..] else { panic!("{packets:?}") };
        assert!([0, 0x92].contains(&code), "{code:02x}");
        assert!(!broker.is_ended(publisher));
    });
}

#[test]
fn the_ids_of_open_messages_differ() {
    both(|version| {
        let mut broker = Broker::new();
        let (client, publisher) = pair(&mut broker, version);
        for number in 1..=15 {
            broker.publish(publisher, &publish("t", "1").qos(1 + (number % 2) as u8, number));
        }
        let mut ids: Vec<u16> = broker.messages(client).iter().map(|message| message.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!((ids.len(), ids.contains(&0)), (15, false));
    });
}

#[test]
fn what_is_open_is_sent_again_upon_reconnection() {
    both(|version| {
        let mut broker = Broker::new();
        let (client, publisher) = pair(&mut broker, version);
        for (number, qos) in [(1, 1), (2, 2), (3, 1), (4, 2), (5, 0)] {
            broker.publish(publisher, &publish("t", &number.to_string()).qos(qos, if qos > 0 { number } else { 0 }));
        }
        let first = broker.messages(client);
        assert_eq!(lines(&first), ["t=1", "t=2", "t=3", "t=4", "t=5"]);
        assert!(first.iter().all(|message| !message.is_duplicate));
        broker.advance(20_000);
        assert_eq!(broker.ask(client, &PINGREQ), [Packet::Pingresp], "nothing is sent again while the connection lasts");
        for _ in 0..2 {
            broker.lose(client);
            let (_, packets) = broker.resume(&persistent(version, "a"));
            let expected: Vec<Publish> = first[..4].iter().map(|message| message.clone().again()).collect();
            assert_eq!(messages(&packets), expected, "the same ids in the same order");
            assert_eq!(packets.len(), 4);
        }
    });
}

#[test]
fn what_is_acknowledged_is_not_sent_again() {
    both(|version| {
        let mut broker = Broker::new();
        let (client, publisher) = pair(&mut broker, version);
        broker.publish(publisher, &publish("t", "1").qos(1, 1));
        broker.publish(publisher, &publish("t", "2").qos(2, 2));
        broker.publish(publisher, &publish("t", "3").qos(2, 3));
        let [one, two, three] = &broker.messages(client)[..] else { panic!("three messages") };
        assert_eq!(broker.ask(client, &acknowledge(PUBACK, one.id)), []);
        for id in [two.id, three.id] {
            assert_eq!(broker.ask(client, &acknowledge(PUBREC, id)), [acknowledged(PUBREL, id)]);
        }
        assert_eq!(broker.ask(client, &acknowledge(PUBCOMP, two.id)), []);
        broker.lose(client);
        let (client, packets) = broker.resume(&persistent(version, "a"));
        assert_eq!(packets, [acknowledged(PUBREL, three.id)], "PUBREL again, not the message");
        assert_eq!(broker.ask(client, &acknowledge(PUBCOMP, three.id)), []);
        broker.lose(client);
        assert_eq!(broker.resume(&persistent(version, "a")).1, []);
    });
}

#[test]
fn pubrels_keep_the_order_of_the_pubrecs() {
    both(|version| {
        let mut broker = Broker::new();
        let (client, publisher) = pair(&mut broker, version);
        for number in 1..=3 {
            broker.publish(publisher, &publish("t", "1").qos(2, number));
        }
        let ids: Vec<u16> = broker.messages(client).iter().map(|message| message.id).collect();
        let bytes: Vec<u8> = [ids[2], ids[0], ids[1]].iter().flat_map(|&id| acknowledge(PUBREC, id)).collect();
        assert_eq!(outline(&broker.ask(client, &bytes)), [(PUBREL, ids[2]), (PUBREL, ids[0]), (PUBREL, ids[1])]);
    });
}

#[test]
fn what_was_begun_is_completed_after_unsubscribe() {
    both(|version| {
        let mut broker = Broker::new();
        let (client, publisher) = pair(&mut broker, version);
        broker.publish(publisher, &publish("t", "1").qos(2, 1));
        let messages = broker.messages(client);
        broker.ask(client, &unsubscribe(version, 3, &["t"]));
        let id = messages[0].id;
        assert_eq!(broker.ask(client, &acknowledge(PUBREC, id)), [acknowledged(PUBREL, id)]);
        assert_eq!(broker.ask(client, &acknowledge(PUBCOMP, id)), []);
        broker.publish(publisher, &publish("t", "2").qos(2, 1));
        assert_eq!(broker.messages(client), []);
    });
}
