//! When what sessions keep is stored, and what waits for that.

use crate::mqtt_client::{lines, outline};
use crate::mqtt_packets::{PUBACK, PUBREC, Packet, V5, connect, persistent, publish, subscribe};
use crate::mqtt_peer::{Broker, Client};

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
fn while_storage_fails_messages_are_refused_to_their_publishers_and_sent_all_the_same() {
    let mut broker = Broker::storing();
    let (client, publisher) = pair(&mut broker);
    broker.fail_storage();
    let packets = broker.ask(publisher, &publish("t", "1").qos(2, 7).bytes(V5));
    assert!(matches!(packets[..], [Packet::Acknowledged { kind: PUBREC, id: 7, code: 0x97, .. }]), "{packets:?}");
    assert_eq!(lines(&broker.messages(client)), ["t=1"]);
}

#[test]
fn what_came_while_storage_failed_is_sent_when_it_is_stored_after_all() {
    let mut broker = Broker::storing();
    let (client, publisher) = pair(&mut broker);
    broker.lose(client);
    broker.fail_storage();
    broker.give(publisher, &publish("t", "1").qos(2, 7).bytes(V5));
    broker.recover_storage();
    let (client, packets) = broker.resume(&persistent(V5, "a"));
    assert_eq!(packets, []);
    broker.store();
    assert_eq!(lines(&broker.messages(client)), ["t=1"]);
}
