//! SUBSCRIBE, UNSUBSCRIBE, and what filters match.

use super::both;
use crate::mqtt_client::lines;
use crate::mqtt_packets::{Packet, V5, connect, publish, subscribe, unsubscribe};
use crate::mqtt_peer::Broker;

#[test]
fn suback_has_a_code_for_each_filter_in_order() {
    both(|version| {
        let mut broker = Broker::new();
        let client = broker.join(&connect(version, "a"));
        for id in [1, 0x1234, 0xffff] {
            let packets = broker.ask(client, &subscribe(version, id, &[], &[("a", 2), ("b/#", 0), ("+/c", 1), ("a", 1)]));
            assert_eq!(packets, [Packet::Suback { id, codes: vec![2, 0, 1, 1], properties: Vec::new() }]);
        }
    });
}

#[test]
fn many_filters_are_as_many_subscriptions() {
    both(|version| {
        let mut broker = Broker::new();
        let client = broker.join(&connect(version, "a"));
        broker.publish(client, &publish("a", "1").retained());
        broker.publish(client, &publish("b", "2").retained());
        let mut packets = broker.ask(client, &subscribe(version, 1, &[], &[("a", 0), ("b", 0), ("c", 0)]));
        packets.retain(|packet| matches!(packet, Packet::Publish(_)));
        assert_eq!(packets.len(), 2, "{packets:?}");
        for name in ["a", "b", "c", "d"] {
            broker.publish(client, &publish(name, "3"));
        }
        assert_eq!(lines(&broker.messages(client)), ["a=3", "b=3", "c=3"]);
    });
}

#[test]
fn the_same_filter_again_replaces() {
    both(|version| {
        let mut broker = Broker::new();
        let client = broker.join(&connect(version, "a"));
        for qos in [2, 0, 1] {
            broker.subscribe(client, "t/+", qos);
            let publisher = broker.join(&connect(version, "p"));
            broker.publish(publisher, &publish("t/u", "1").qos(2, 9));
            let messages = broker.messages(client);
            assert!(matches!(&messages[..], [message] if message.qos == qos), "{messages:?}");
        }
    });
}

#[test]
fn unsubscribe_ends_the_very_same_filter() {
    both(|version| {
        let mut broker = Broker::new();
        let client = broker.join(&connect(version, "a"));
        for filter in ["t/+", "t/u", "x/#"] {
            broker.subscribe(client, filter, 0);
        }
        let packets = broker.ask(client, &unsubscribe(version, 7, &["t/#", "t/u", "x", "x/#", "t/u"]));
        let codes = if version == V5 { vec![0x11, 0, 0x11, 0, 0x11] } else { Vec::new() };
        assert_eq!(packets, [Packet::Unsuback { id: 7, codes, properties: Vec::new() }]);
        for name in ["t/u", "x", "x/y"] {
            broker.publish(client, &publish(name, "1"));
        }
        assert_eq!(lines(&broker.messages(client)), ["t/u=1"]);
        let packets = broker.ask(client, &unsubscribe(version, 8, &["t/+"]));
        assert!(matches!(&packets[..], [Packet::Unsuback { id: 8, .. }]), "{packets:?}");
        broker.publish(client, &publish("t/u", "2"));
        assert_eq!(broker.messages(client), []);
    });
}

#[test]
fn filters_match_by_levels() {
    let cases: [(&str, &[&str], &[&str]); 20] = [
        ("a/b", &["a/b"], &["a", "a/b/", "/a/b", "a/b/c", "a/B"]),
        ("#", &["a", "a/b", "/", "//", "/a", "a/"], &["$a", "$b/x"]),
        ("a/#", &["a", "a/", "a/b", "a/b/c", "a//"], &["b", "ab", "/a", "A/b"]),
        ("a/b/#", &["a/b", "a/b/", "a/b/c/d"], &["a", "a/c", "a/bc"]),
        ("+", &["a", "ab"], &["/", "/a", "a/", "a/b", "$a"]),
        ("a/+", &["a/", "a/b"], &["a", "a/b/", "a/b/c", "a//"]),
        ("+/b", &["a/b", "/b"], &["b", "a/b/b", "$a/b"]),
        ("+/+", &["/", "/a", "a/", "a/b"], &["a", "//", "a/b/c", "$a/b"]),
        ("/+", &["/", "/a"], &["a", "a/", "/a/b"]),
        ("a/+/c", &["a/b/c", "a//c"], &["a/c", "a/b/b/c", "a/b/d"]),
        ("a/+/+/d", &["a/b/c/d", "a///d"], &["a/b/d", "a/b/c/c/d"]),
        ("+/b/+", &["a/b/c", "/b/"], &["a/b", "b/b/b/b", "$a/b/c"]),
        ("+/#", &["a", "a/b", "/", "/a/b", "a/b/c"], &["$a", "$a/b"]),
        ("a/+/#", &["a/b", "a/", "a/b/c", "a//"], &["a", "b/a"]),
        ("+/b/#", &["a/b", "/b", "a/b/c"], &["a", "a/c", "$a/b"]),
        ("/#", &["/", "/a", "//"], &["a", "a/"]),
        ("$a/#", &["$a", "$a/b"], &["a", "a/b", "$b/a"]),
        ("$a/+", &["$a/b"], &["$a", "a/b"]),
        ("a/$b", &["a/$b"], &["a/b", "$b"]),
        ("a/+/", &["a/b/", "a//"], &["a/b", "a/b/c"]),
    ];
    both(|version| {
        let mut broker = Broker::new();
        let client = broker.join(&connect(version, "a"));
        for (filter, matching, others) in cases {
            broker.subscribe(client, filter, 0);
            for name in [matching, others].concat() {
                broker.publish(client, &publish(name, "1"));
                let expected = if matching.contains(&name) { vec![publish(name, "1")] } else { Vec::new() };
                assert_eq!(broker.messages(client), expected, "{filter}, {name}");
            }
            broker.ask(client, &unsubscribe(version, 7, &[filter]));
        }
    });
}

#[test]
fn filters_match_retained_messages_alike() {
    both(|version| {
        let mut broker = Broker::new();
        let client = broker.join(&connect(version, "a"));
        for name in ["a", "a/b", "/", "/a", "a/", "a/b/c", "$a/b", "a/~", "~"] {
            broker.publish(client, &publish(name, name).retained());
        }
        for (filter, count) in [("#", 8), ("+", 2), ("+/+", 5), ("a/#", 5), ("/+", 2), ("$a/#", 1), ("a/+", 3), ("+/#", 8), ("~", 1)] {
            let messages = broker.subscribe(client, filter, 0);
            assert_eq!(messages.len(), count, "{filter}: {messages:?}");
            assert!(messages.iter().all(|message| message.retain && message.topic.as_bytes() == message.payload));
        }
    });
}

#[test]
fn the_longest_filters_and_names_are_taken() {
    both(|version| {
        let mut broker = Broker::new();
        let client = broker.join(&connect(version, "a"));
        let name = "n".repeat(1000);
        broker.subscribe(client, &name, 0);
        broker.publish(client, &publish(&name, "1"));
        assert_eq!(broker.messages(client), [publish(&name, "1")]);
    });
}
