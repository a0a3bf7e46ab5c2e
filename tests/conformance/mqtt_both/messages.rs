//! PUBLISH: who gets it, and how.

use super::both;
use crate::mqtt_client::lines;
use crate::mqtt_packets::{connect, publish};
use crate::mqtt_peer::Broker;

#[test]
fn each_qos_has_its_answer() {
    both(|version| {
        let mut broker = Broker::new();
        let client = broker.join(&connect(version, "a"));
        for (qos, id) in [(0, 0), (1, 1), (2, 2), (1, 0xffff), (2, 0xffff)] {
            broker.publish(client, &publish("t", "1").qos(qos, id));
        }
    });
}

#[test]
fn a_message_reaches_all_matching_subscribers() {
    both(|version| {
        let mut broker = Broker::new();
        let clients = [("a", "t/#"), ("b", "t/+"), ("c", "t/u"), ("d", "#")].map(|(id, filter)| {
            let client = broker.join(&connect(version, id));
            broker.subscribe(client, filter, 0);
            client
        });
        let other = broker.join(&connect(version, "other"));
        broker.subscribe(other, "t/v", 0);
        let publisher = broker.join(&connect(version, "p"));
        broker.publish(publisher, &publish("t/u", "1"));
        for client in clients {
            assert_eq!(broker.messages(client), [publish("t/u", "1")]);
        }
        assert_eq!(broker.messages(other), []);
    });
}

#[test]
fn the_lower_qos_is_delivered() {
    both(|version| {
        for (published, granted) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)] {
            let mut broker = Broker::new();
            let client = broker.join(&connect(version, "a"));
            broker.subscribe(client, "t", granted);
            let publisher = broker.join(&connect(version, "p"));
            broker.publish(publisher, &publish("t", "1").qos(published, 7));
            let messages = broker.messages(client);
            assert_eq!(lines(&messages), ["t=1"]);
            assert_eq!(messages[0].qos, published.min(granted));
            assert!(!messages[0].is_duplicate);
        }
    });
}

#[test]
fn dup_is_not_handed_on() {
    both(|version| {
        let mut broker = Broker::new();
        let client = broker.join(&connect(version, "a"));
        broker.subscribe(client, "t", 2);
        for qos in [1, 2] {
            broker.publish(client, &publish("u", "1").qos(qos, 7).again());
            let publisher = broker.join(&connect(version, "p"));
            broker.publish(publisher, &publish("t", "1").qos(qos, 7).again());
            let messages = broker.messages(client);
            assert!(matches!(&messages[..], [message] if !message.is_duplicate && message.qos == qos), "{messages:?}");
        }
    });
}

#[test]
fn overlapping_subscriptions_deliver_at_the_highest_qos() {
    both(|version| {
        for filters in [[("t/#", 0), ("t/+", 2)], [("t/u", 2), ("#", 1)]] {
            let mut broker = Broker::new();
            let client = broker.join(&connect(version, "a"));
            for (filter, qos) in filters {
                broker.subscribe(client, filter, qos);
            }
            let publisher = broker.join(&connect(version, "p"));
            broker.publish(publisher, &publish("t/u", "1").qos(2, 7));
            let messages = broker.messages(client);
            assert_eq!(messages.iter().map(|message| message.qos).max(), Some(2), "{messages:?}");
            assert!(messages.len() <= 2, "{messages:?}");
        }
    });
}

#[test]
fn one_publishers_messages_keep_their_order() {
    both(|version| {
        for qos in 0..3 {
            let mut broker = Broker::new();
            let client = broker.join(&connect(version, "a"));
            broker.subscribe(client, "t/+", 2);
            let publisher = broker.join(&connect(version, "p"));
            let expected: Vec<String> = (1..=15).map(|number| format!("t/{}={number}", number % 2)).collect();
            for number in 1..=15_u16 {
                let message = publish(&format!("t/{}", number % 2), &number.to_string()).qos(qos, if qos > 0 { number } else { 0 });
                broker.publish(publisher, &message);
            }
            assert_eq!(lines(&broker.messages(client)), expected);
        }
    });
}

#[test]
fn names_are_not_normalized() {
    both(|version| {
        let names = [
            "t",
            "T",
            "/t",
            "t/",
            "t ",
            " t",
            "//",
            "/",
            "t//u",
            "t/u",
            "\u{c5}",
            "A\u{30a}",
            "\u{feff}t",
            "~",
            "~/t",
            "t/~",
            "t/~~",
            "?a(b)c>{d}",
        ];
        for filter in names {
            let mut broker = Broker::new();
            let client = broker.join(&connect(version, "a"));
            broker.subscribe(client, filter, 0);
            for name in names {
                broker.publish(client, &publish(name, name));
            }
            assert_eq!(broker.messages(client), [publish(filter, filter)]);
        }
    });
}

#[test]
fn payloads_are_any_bytes() {
    both(|version| {
        let mut broker = Broker::new();
        let client = broker.join(&connect(version, "a"));
        broker.subscribe(client, "t", 0);
        for payload in [vec![], vec![0], vec![0xff, 0xfe, 0], b"{\"json\": 1}".to_vec(), vec![7; 40_000]] {
            let mut message = publish("t", "");
            message.payload = payload;
            broker.publish(client, &message);
            assert_eq!(broker.messages(client), [message]);
        }
    });
}
