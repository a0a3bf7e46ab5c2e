//! What only 3.1.1 and 3.1 ask.

use crate::mqtt_packets::{PINGREQ, Packet, V31, V311, connect, persistent, publish, subscribe};
use crate::mqtt_peer::Broker;

#[test]
fn an_empty_client_id_without_clean_session_is_refused() {
    let mut broker = Broker::new();
    let (client, packets) = broker.connect(&persistent(V311, ""));
    assert_eq!(packets, [Packet::Connack { session_present: false, code: 2, properties: Vec::new() }]);
    assert!(broker.is_ended(client));
}

#[test]
fn an_unknown_level_is_answered_1_and_closed() {
    for level in [0, 1, 2, 3, 6, 0x7f, 0x80, 0x83, 0x85, 0xff] {
        let mut bytes = connect(V311, "a").bytes();
        bytes[8] = level;
        let mut broker = Broker::new();
        let client = broker.open(V311);
        broker.give(client, &bytes);
        assert_eq!(broker.take_bytes(client), [0x20, 2, 0, 1], "{level}");
        assert!(broker.is_ended(client), "{level}");
    }
}

#[test]
fn a_password_without_a_user_name_closes() {
    let mut broker = Broker::new();
    let mut wrong = connect(V311, "a");
    wrong.password = Some(b"secret".to_vec());
    let client = broker.open(V311);
    broker.give(client, &wrong.bytes());
    broker.assert_not_connected(client, "a password without a user name");
}

#[test]
fn a_filter_that_cannot_be_is_refused_alone() {
    let mut broker = Broker::new();
    let client = broker.join(&connect(V311, "a"));
    for filter in ["a/#/b", "a#", "#a", "a+", "+a/b", "##", "$share/g", "$share//t"] {
        let packets = broker.ask(client, &subscribe(V311, 1, &[], &[("t", 1), (filter, 0), ("u", 0)]));
        assert_eq!(packets, [Packet::Suback { id: 1, codes: vec![1, 0x80, 0], properties: Vec::new() }], "{filter}");
    }
}

#[test]
fn clients_of_3_1_are_served_alike() {
    let mut broker = Broker::new();
    let client = broker.join(&connect(V31, "a").will(publish("w", "gone")));
    broker.subscribe(client, "#", 1);
    let other = broker.join(&connect(V31, "b"));
    broker.subscribe(other, "w", 1);
    broker.publish(other, &publish("t", "1").qos(1, 1));
    let messages = broker.messages(client);
    assert!(matches!(&messages[..], [message] if message.topic == "t" && message.qos == 1), "{messages:?}");
    assert_eq!(broker.ask(client, &PINGREQ), [Packet::Pingresp]);
    broker.lose(client);
    assert_eq!(broker.messages(other), [publish("w", "gone")]);
}
