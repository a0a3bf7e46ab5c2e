//! Shared subscriptions.

use crate::mqtt_client::lines;
use crate::mqtt_packets::{
    PUBACK, PUBREC, Packet, V5, V311, Value, acknowledge, acknowledge_with, connect, disconnect, id, persistent, publish, subscribe,
    unsubscribe,
};
use crate::mqtt_peer::{Broker, Client};

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
    let mut broker = Broker::with_filters(20, 50);
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

/// Members of `$share/g/t`, of which each takes so many messages before it acknowledges one, and one that publishes.
fn members<const COUNT: usize>(broker: &mut Broker, windows: [u16; COUNT], qos: u8) -> ([Client; COUNT], Client) {
    let members: [Client; COUNT] = std::array::from_fn(|at| {
        let connect = persistent(V5, &format!("member-{at}"));
        broker.join(&connect.with((id::RECEIVE_MAXIMUM, Value::Two(windows[at]))))
    });
    for member in members {
        broker.subscribe(member, "$share/g/t", qos);
    }
    (members, broker.join(&connect(V5, "p")))
}

#[test]
fn a_member_whose_window_is_full_is_passed_over_while_another_has_room() {
    let mut broker = Broker::new();
    let ([narrow, wide], publisher) = members(&mut broker, [1, 50], 1);
    let publish_all = |broker: &mut Broker, numbers: std::ops::Range<u16>| {
        for number in numbers {
            broker.publish(publisher, &publish("t", &number.to_string()).qos(1, 1));
        }
    };
    publish_all(&mut broker, 0..6);
    let first = broker.messages(narrow);
    assert_eq!(lines(&first), ["t=0"]);
    assert_eq!(lines(&broker.messages(wide)), ["t=1", "t=2", "t=3", "t=4", "t=5"]);
    broker.give(narrow, &acknowledge(PUBACK, first[0].id));
    publish_all(&mut broker, 6..8);
    assert_eq!(lines(&broker.messages(narrow)), ["t=6"], "it has room again");
    assert_eq!(lines(&broker.messages(wide)), ["t=7"]);
    broker.lose(wide);
    publish_all(&mut broker, 8..9);
    assert_eq!(broker.messages(narrow), [], "it is connected, so it has what waits");
    let (_, packets) = broker.resume(&persistent(V5, "member-1"));
    assert!(packets.iter().all(|packet| !matches!(packet, Packet::Publish(publish) if publish.payload == b"8")));
}

#[test]
fn what_a_member_has_not_acknowledged_when_its_session_ends_is_dealt_again_in_order() {
    let ends: [fn(&mut Broker, Client); 3] = [
        |broker, member| broker.give(member, &disconnect(0, &[(id::SESSION_EXPIRY, Value::Four(0))])),
        |broker, member| {
            broker.lose(member);
            broker.join(&connect(V5, "member-0").clean(true));
        },
        |broker, member| {
            broker.give(member, &disconnect(0, &[(id::SESSION_EXPIRY, Value::Four(5))]));
            broker.advance(6_000);
        },
    ];
    for end in ends {
        let mut broker = Broker::new();
        let ([leaving], publisher) = members(&mut broker, [2], 1);
        for number in 0..4 {
            broker.publish(publisher, &publish("t", &number.to_string()).qos(1, 1));
        }
        let sent = broker.messages(leaving);
        assert_eq!(lines(&sent), ["t=0", "t=1"], "the rest waits");
        broker.give(leaving, &acknowledge(PUBACK, sent[0].id));
        assert_eq!(lines(&broker.messages(leaving)), ["t=2"]);
        let other = broker.join(&connect(V5, "other"));
        broker.subscribe(other, "$share/g/t", 1);
        end(&mut broker, leaving);
        let messages = broker.messages(other);
        assert_eq!(lines(&messages), ["t=1", "t=2", "t=3"]);
        assert!(messages.iter().all(|message| !message.is_duplicate), "it has not had them before");
    }
}

#[test]
fn of_qos_2_what_was_sent_to_a_member_that_ends_goes_to_nobody_and_what_waited_to_another() {
    let mut broker = Broker::new();
    let ([leaving], publisher) = members(&mut broker, [1], 2);
    for number in 0..3 {
        broker.publish(publisher, &publish("t", &number.to_string()).qos(2, 1));
    }
    assert_eq!(lines(&broker.messages(leaving)), ["t=0"]);
    let other = broker.join(&connect(V5, "other"));
    broker.subscribe(other, "$share/g/t", 2);
    broker.give(leaving, &disconnect(0, &[(id::SESSION_EXPIRY, Value::Four(0))]));
    assert_eq!(lines(&broker.messages(other)), ["t=1", "t=2"]);
}
