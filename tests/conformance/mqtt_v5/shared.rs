//! Shared subscriptions.

use crate::mqtt_client::lines;
use crate::mqtt_packets::{PUBREC, Packet, V5, V311, acknowledge_with, connect, persistent, publish, subscribe, unsubscribe};
use crate::mqtt_peer::Broker;

#[test]
fn each_message_goes_to_one_member() {
    let mut broker = Broker::new();
    let members = ["a", "b", "c"].map(|id| broker.join(&connect(V5, id)));
    for (member, qos) in members.into_iter().zip([0, 1, 2]) {
        broker.subscribe(member, "$share/g/t/#", qos);
    }
    let others = ["d", "e"].map(|id| broker.join(&connect(V5, id)));
    broker.subscribe(others[0], "$share/h/t/#", 0);
    broker.subscribe(others[1], "t/#", 0);
    let publisher = broker.join(&connect(V5, "p"));
    let expected: Vec<String> = (10..22).map(|number| format!("t/x={number}")).collect();
    for number in 10..22 {
        broker.publish(publisher, &publish("t/x", &number.to_string()).qos(2, number));
    }
    let mut all = Vec::new();
    for (member, granted) in members.into_iter().zip([0, 1, 2]) {
        let messages = broker.messages(member);
        assert!(messages.iter().all(|message| message.qos == granted), "each at its own QoS");
        all.extend(lines(&messages));
    }
    all.sort_unstable();
    assert_eq!(all, expected);
    for other in others {
        assert_eq!(lines(&broker.messages(other)), expected);
    }
}

#[test]
fn a_shared_subscription_is_sent_nothing_retained() {
    let mut broker = Broker::new();
    let client = broker.join(&connect(V5, "a"));
    broker.publish(client, &publish("t", "1").retained());
    assert_eq!(broker.subscribe(client, "$share/g/t", 0), []);
    broker.publish(client, &publish("t", "2"));
    assert_eq!(lines(&broker.messages(client)), ["t=2"]);
    broker.ask(client, &unsubscribe(V5, 1, &["$share/g/t"]));
    broker.publish(client, &publish("t", "3"));
    assert_eq!(broker.messages(client), []);
}

#[test]
fn a_begun_delivery_stays_with_its_member() {
    for version in [V5, V311] {
        let mut broker = Broker::new();
        let one = broker.join(&persistent(version, "a"));
        broker.subscribe(one, "$share/g/t", 2);
        let publisher = broker.join(&connect(version, "p"));
        broker.publish(publisher, &publish("t", "1").qos(2, 1));
        let messages = broker.messages(one);
        assert_eq!(lines(&messages), ["t=1"]);
        let two = broker.join(&persistent(version, "b"));
        broker.subscribe(two, "$share/g/t", 2);
        broker.lose(one);
        assert_eq!(broker.messages(two), []);
        let (one, packets) = broker.resume(&persistent(version, "a"));
        assert_eq!(packets, [Packet::Publish(messages[0].clone().again())]);
        broker.lose(one);
        let one = broker.open(version);
        broker.ask(one, &connect(version, "a").bytes());
        assert_eq!(broker.messages(two), [], "its session ended: to nobody");
    }
}

#[test]
fn what_a_member_refuses_goes_to_nobody_else() {
    let mut broker = Broker::new();
    let members = ["a", "b"].map(|id| broker.join(&connect(V5, id)));
    for member in members {
        broker.subscribe(member, "$share/g/t", 2);
    }
    let publisher = broker.join(&connect(V5, "p"));
    broker.publish(publisher, &publish("t", "1").qos(2, 1));
    let told = members.map(|member| broker.messages(member));
    let (member, message) = members.into_iter().zip(&told).find_map(|(member, told)| Some((member, told.first()?.clone()))).expect("one");
    assert_eq!(told.iter().map(Vec::len).sum::<usize>(), 1);
    assert_eq!(broker.ask(member, &acknowledge_with(PUBREC, message.id, 0x80)), []);
    for member in members {
        assert_eq!(broker.messages(member), []);
    }
}

#[test]
fn who_leaves_at_once_is_answered_both() {
    let mut broker = Broker::new();
    let client = broker.join(&connect(V5, "a"));
    let filters = ["$share/g/t"];
    let bytes = [subscribe(V5, 1, &[], &[(filters[0], 1)]), unsubscribe(V5, 2, &filters)].concat();
    let mut packets = broker.ask(client, &bytes);
    packets.sort_by_key(|packet| matches!(packet, Packet::Unsuback { .. }));
    assert!(matches!(&packets[..], [Packet::Suback { id: 1, .. }, Packet::Unsuback { id: 2, .. }]), "{packets:?}");
}

#[test]
fn no_more_than_so_many_subscriptions_are_under_way() {
    let mut broker = Broker::new();
    let client = broker.join(&connect(V5, "a"));
    let bytes: Vec<u8> = (1..=40).flat_map(|id| subscribe(V5, id, &[], &[("$share/g/t", 1)])).collect();
    let packets = broker.ask(client, &bytes);
    let refused = packets.iter().filter(|packet| matches!(packet, Packet::Suback { codes, .. } if codes[..] == [0x97])).count();
    assert_eq!((packets.len(), refused), (40, 20));
    assert_eq!(broker.subscribe(client, "$share/g/t", 1), [], "when those are answered there is room again");
}

#[test]
fn a_member_is_told_that_a_message_was_published_with_retain_where_it_asks() {
    for (options, retain) in [(1, false), (1 | 1 << 3, true)] {
        let mut broker = Broker::new();
        let client = broker.join(&connect(V5, "a"));
        broker.subscribe(client, "$share/g/t", options);
        broker.publish(client, &publish("t", "1").retained());
        broker.publish(client, &publish("t", "2"));
        let flags: Vec<bool> = broker.messages(client).iter().map(|message| message.retain).collect();
        assert_eq!(flags, [retain, false]);
    }
}
