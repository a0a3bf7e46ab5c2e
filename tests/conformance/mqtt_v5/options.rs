//! Subscription options and ids.

use crate::mqtt_client::lines;
use crate::mqtt_packets::{Packet, Publish, V5, Value::Variable, connect, id, publish, subscribe, unsubscribe};
use crate::mqtt_peer::Broker;

const NO_LOCAL: u8 = 4;
const AS_PUBLISHED: u8 = 8;
const IF_NEW: u8 = 0x10;
const NEVER: u8 = 0x20;

fn ids(message: &Publish) -> Vec<u32> {
    let ids = message.properties.iter().filter_map(|(_, value)| if let Variable(id) = value { Some(*id) } else { None });
    let mut ids: Vec<u32> = ids.collect();
    ids.sort_unstable();
    ids
}

#[test]
fn no_local_keeps_a_clients_own_messages_from_it() {
    let mut broker = Broker::new();
    let client = broker.join(&connect(V5, "a"));
    broker.subscribe(client, "t", NO_LOCAL);
    broker.subscribe(client, "u", 0);
    let other = broker.join(&connect(V5, "b"));
    for name in ["t", "u"] {
        broker.publish(client, &publish(name, "own"));
        broker.publish(other, &publish(name, "other"));
    }
    assert_eq!(lines(&broker.messages(client)), ["t=other", "u=own", "u=other"]);
}

#[test]
fn retain_as_published_leaves_the_flag() {
    for (options, expected) in [(0, [false, false]), (AS_PUBLISHED, [true, false])] {
        let mut broker = Broker::new();
        let client = broker.join(&connect(V5, "a"));
        broker.subscribe(client, "t", options);
        let publisher = broker.join(&connect(V5, "p"));
        broker.publish(publisher, &publish("t", "1").retained());
        broker.publish(publisher, &publish("t", "2"));
        let flags: Vec<bool> = broker.messages(client).iter().map(|message| message.retain).collect();
        assert_eq!(flags, expected);
    }
}

#[test]
fn retain_handling_says_when_what_is_retained_is_sent() {
    for (handling, expected) in [(0, [1, 1]), (IF_NEW, [1, 0]), (NEVER, [0, 0])] {
        let mut broker = Broker::new();
        let publisher = broker.join(&connect(V5, "p"));
        broker.publish(publisher, &publish("t", "1").retained());
        let client = broker.join(&connect(V5, "a"));
        let counts = [0, 1].map(|qos| broker.subscribe(client, "t", handling | qos).len());
        assert_eq!(counts, expected, "{handling:02x}");
        broker.ask(client, &unsubscribe(V5, 1, &["t"]));
        assert_eq!(broker.subscribe(client, "t", handling).len(), expected[0], "new again");
        broker.publish(publisher, &publish("t", "2"));
        assert_eq!(lines(&broker.messages(client)), ["t=2"]);
    }
}

#[test]
fn what_is_retained_is_sent_with_retain_whatever_the_options() {
    let mut broker = Broker::new();
    let publisher = broker.join(&connect(V5, "p"));
    broker.publish(publisher, &publish("t", "1").retained());
    for options in [0, AS_PUBLISHED] {
        let client = broker.join(&connect(V5, "a"));
        assert_eq!(broker.subscribe(client, "t", options), [publish("t", "1").retained()]);
    }
}

#[test]
fn subscription_ids_are_sent_along() {
    let mut broker = Broker::new();
    let client = broker.join(&connect(V5, "a"));
    for (filter, id) in [("t/#", 1), ("t/+", 268_435_455), ("u", 300)] {
        broker.subscribe_with(client, filter, 1, &[(id::SUBSCRIPTION, Variable(id))]);
    }
    broker.subscribe(client, "t/1", 1);
    let publisher = broker.join(&connect(V5, "p"));
    broker.publish(publisher, &publish("t/1", "1").qos(1, 1));
    let mut all: Vec<u32> = broker.messages(client).iter().flat_map(ids).collect();
    all.sort_unstable();
    assert_eq!(all, [1, 268_435_455], "in one copy or in several");
    broker.publish(publisher, &publish("u", "1").retained());
    assert_eq!(broker.messages(client).iter().flat_map(ids).collect::<Vec<_>>(), [300]);
    let retained = broker.subscribe_with(client, "u", 1, &[(id::SUBSCRIPTION, Variable(7))]);
    assert_eq!(ids(&retained[0]), [7]);
    broker.subscribe(client, "u", 0);
    broker.publish(publisher, &publish("u", "2"));
    assert_eq!(ids(&broker.messages(client)[0]), [0; 0], "subscribed again without one");
}

#[test]
fn a_subscription_id_of_0_closes() {
    let mut broker = Broker::new();
    let client = broker.join(&connect(V5, "a"));
    broker.give(client, &subscribe(V5, 1, &[(id::SUBSCRIPTION, Variable(0))], &[("t", 0)]));
    broker.assert_ended(client, &[0x82, 0x81], "an id of 0");
}

#[test]
fn no_local_on_a_shared_subscription_closes() {
    let mut broker = Broker::new();
    let client = broker.join(&connect(V5, "a"));
    broker.give(client, &subscribe(V5, 1, &[], &[("$share/g/t", NO_LOCAL)]));
    broker.assert_ended(client, &[0x82], "no local");
}

#[test]
fn a_filter_that_cannot_be_is_refused_alone() {
    let mut broker = Broker::new();
    let client = broker.join(&connect(V5, "a"));
    let wrong = ["a/#/b", "a#", "#a", "a+", "+a/b", "a/b+", "##", "$share/g", "$share//t", "$share/g/", "$share/+/t", "$share/g#/t"];
    for filter in wrong {
        let packets = broker.ask(client, &subscribe(V5, 1, &[], &[("t", 1), (filter, 0), ("u", 0)]));
        let [Packet::Suback { id: 1, codes, .. }] = &packets[..] else { panic!("{filter}: {packets:?}") };
        assert_eq!(codes, &[1, 0x8f, 0], "{filter}");
    }
}

#[test]
fn a_subscription_that_leaves_a_message_out_says_nothing_of_it() {
    let mut broker = Broker::new();
    let client = broker.join(&connect(V5, "a"));
    broker.subscribe_with(client, "t/#", NO_LOCAL | AS_PUBLISHED | 1, &[(id::SUBSCRIPTION, Variable(1))]);
    broker.subscribe_with(client, "t/u", 0, &[(id::SUBSCRIPTION, Variable(2))]);
    broker.publish(client, &publish("t/u", "own").retained());
    let own = broker.messages(client);
    assert_eq!(own, [publish("t/u", "own").with((id::SUBSCRIPTION, Variable(2)))]);
}

#[test]
fn the_id_of_a_shared_subscription_is_sent_along() {
    let mut broker = Broker::new();
    let client = broker.join(&connect(V5, "a"));
    broker.subscribe_with(client, "$share/g/t", 0, &[(id::SUBSCRIPTION, Variable(5))]);
    let publisher = broker.join(&connect(V5, "p"));
    broker.publish(publisher, &publish("t", "1"));
    assert_eq!(broker.messages(client), [publish("t", "1").with((id::SUBSCRIPTION, Variable(5)))]);
}

#[test]
fn a_subscription_and_a_shared_one_of_a_client_both_count() {
    let mut broker = Broker::new();
    let client = broker.join(&connect(V5, "a"));
    broker.subscribe_with(client, "$share/g/t", 0, &[(id::SUBSCRIPTION, Variable(5))]);
    broker.subscribe_with(client, "t", 1, &[(id::SUBSCRIPTION, Variable(6))]);
    let publisher = broker.join(&connect(V5, "p"));
    broker.publish(publisher, &publish("t", "1").qos(1, 1));
    let mut all: Vec<u32> = broker.messages(client).iter().flat_map(ids).collect();
    all.sort_unstable();
    assert_eq!(all, [5, 6]);
    broker.ask(client, &unsubscribe(V5, 1, &["t"]));
    broker.publish(publisher, &publish("t", "2").qos(1, 2));
    assert_eq!(broker.messages(client).iter().flat_map(ids).collect::<Vec<_>>(), [5]);
}

#[test]
fn a_filter_that_comes_or_changes_says_how_known_topics_are_sent() {
    let mut broker = Broker::new();
    let client = broker.join(&connect(V5, "a"));
    let publisher = broker.join(&connect(V5, "p"));
    broker.publish(publisher, &publish("t/x", "0").retained());
    // Retain handling 2: nothing retained.
    for (filter, options, qos, retain) in [
        ("t/x", 0b10_0000, 0, false),
        ("t/+", 0b10_0010, 2, false),
        ("t/#", 0b10_1000, 2, true),
        ("t/+", 0b10_0001, 1, true),
        ("t/#", 0b10_0000, 1, false),
    ] {
        assert_eq!(broker.subscribe(client, filter, options), []);
        broker.publish(publisher, &publish("t/x", "1").qos(2, 1).retained());
        let messages = broker.messages(client);
        assert_eq!(messages.iter().map(|message| (message.qos, message.retain)).collect::<Vec<_>>(), [(qos, retain)], "{filter}");
    }
    broker.ask(client, &unsubscribe(V5, 1, &["t/+", "t/#"]));
    broker.publish(publisher, &publish("t/x", "1").qos(2, 1).retained());
    assert_eq!(broker.messages(client)[0].qos, 0);
}
