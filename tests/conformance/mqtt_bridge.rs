//! Brokers that connect to this one: the bit by which those of 3.x say so, what it means for their subscriptions, and what they say of themselves.

use crate::mqtt_packets::{Connect, PINGREQ, Packet, Publish, V5, V31, V311, connect, persistent, publish, subscribe};
use crate::mqtt_peer::{Broker, Client};

const STATE: &str = "$SYS/broker/connection/host.name/state";

/// A CONNECT of another broker.
fn of_bridge(connect: &Connect) -> Vec<u8> {
    let mut bytes = connect.bytes();
    let level = if connect.version == V31 { 10 } else { 8 };
    assert_eq!(bytes[level], connect.version);
    bytes[level] |= 0x80;
    bytes
}

fn join(broker: &mut Broker, connect: &Connect) -> (Client, bool) {
    let client = broker.open(connect.version);
    let packets = broker.ask(client, &of_bridge(connect));
    let [Packet::Connack { session_present, code: 0, .. }] = packets[..] else { panic!("not accepted: {packets:?}") };
    (client, session_present)
}

/// The messages without their identifiers, which only their number says.
fn messages(broker: &mut Broker, client: Client) -> Vec<Publish> {
    broker.messages(client).into_iter().map(|message| Publish { id: 0, ..message }).collect()
}

#[test]
fn a_bridge_is_not_sent_what_it_brought() {
    for version in [V31, V311] {
        let mut broker = Broker::new();
        let (bridge, _) = join(&mut broker, &connect(version, "bridge"));
        let other = broker.join(&connect(version, "other"));
        broker.subscribe(bridge, "#", 1);
        broker.subscribe(other, "#", 1);
        broker.publish(bridge, &publish("a", "from the bridge").qos(1, 1));
        assert_eq!(messages(&mut broker, bridge), [], "{version}");
        assert_eq!(messages(&mut broker, other), [Publish { qos: 1, ..publish("a", "from the bridge") }], "{version}");
        broker.publish(other, &publish("a", "from the other"));
        assert_eq!(broker.messages(bridge), [publish("a", "from the other")], "{version}");
        // A client that is none is sent what is its own.
        assert_eq!(broker.messages(other), [publish("a", "from the other")], "{version}");
    }
}

#[test]
fn a_bridge_learns_whether_a_message_was_retained() {
    for version in [V31, V311] {
        let mut broker = Broker::new();
        let (bridge, _) = join(&mut broker, &connect(version, "bridge"));
        let other = broker.join(&connect(version, "other"));
        broker.subscribe(bridge, "#", 0);
        broker.subscribe(other, "#", 0);
        broker.publish(other, &publish("a", "kept").retained());
        broker.publish(other, &publish("a", "passing"));
        assert_eq!(broker.messages(bridge), [publish("a", "kept").retained(), publish("a", "passing")], "{version}");
        assert_eq!(broker.messages(other), [publish("a", "kept"), publish("a", "passing")], "{version}");
    }
}

#[test]
fn a_bridge_goes_on_with_its_session() {
    for version in [V31, V311] {
        let mut broker = Broker::new();
        let bridging = persistent(version, "bridge");
        let (bridge, is_present) = join(&mut broker, &bridging);
        assert!(!is_present);
        broker.subscribe(bridge, "#", 1);
        broker.lose(bridge);
        let other = broker.join(&connect(V5, "other"));
        broker.publish(other, &publish("a", "meanwhile").qos(1, 1).retained());
        let bridge = broker.open(version);
        let packets = broker.ask(bridge, &of_bridge(&bridging));
        assert!(matches!(&packets[..], [Packet::Connack { code: 0, .. }, Packet::Publish(message)] if message.retain), "{packets:?}");
        broker.publish(bridge, &publish("b", "own").qos(1, 1));
        assert_eq!(messages(&mut broker, bridge), []);
    }
}

#[test]
fn a_bridge_may_share() {
    let mut broker = Broker::new();
    let (bridge, _) = join(&mut broker, &connect(V311, "bridge"));
    let packets = broker.ask(bridge, &subscribe(V311, 1, &[], &[("$share/g/a", 1), ("b", 1)]));
    assert_eq!(packets, [Packet::Suback { id: 1, codes: vec![1, 1], properties: Vec::new() }]);
}

#[test]
fn how_a_bridge_stands_is_a_message_below_sys() {
    for version in [V31, V311, V5] {
        let mut broker = Broker::new();
        let will = Publish { retain: true, qos: 1, ..publish(STATE, "0") };
        let bridging = connect(version, "bridge").will(will);
        let bridge = if version == V5 { broker.join(&bridging) } else { join(&mut broker, &bridging).0 };
        broker.publish(bridge, &publish(STATE, "1").retained().qos(1, 1));
        let other = broker.join(&connect(version, "other"));
        assert_eq!(broker.subscribe(other, "$SYS/broker/connection/#", 0), [publish(STATE, "1").retained()], "{version}");
        assert_eq!(broker.subscribe(other, "#", 0), [], "{version}");
        broker.lose(bridge);
        assert_eq!(broker.messages(other), [publish(STATE, "0")], "{version}");
    }
}

#[test]
fn a_will_for_a_topic_of_the_server_costs_nothing_but_itself() {
    for version in [V31, V311, V5] {
        for topic in ["$SYS/broker/uptime", "$SYS", "$SYS/broker/connection/state", "Diffusion/x", "Tidewire/x"] {
            let mut broker = Broker::new();
            let client = broker.join(&connect(version, "a").will(publish(topic, "gone").retained()));
            assert_eq!(broker.ask(client, &PINGREQ), [Packet::Pingresp]);
            let other = broker.join(&connect(version, "b"));
            broker.subscribe(other, &format!("{topic}/#"), 0);
            broker.lose(client);
            assert_eq!(broker.messages(other), [], "{topic}");
        }
    }
}
