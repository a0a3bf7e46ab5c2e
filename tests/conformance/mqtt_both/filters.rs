//! Many filters in one packet: each has its answer, also those above a limit.

use super::both;
use crate::mqtt_packets::{PINGREQ, Packet, V5, connect, publish, subscribe, unsubscribe};
use crate::mqtt_peer::{Broker, Client};

fn codes(broker: &mut Broker, client: Client, filters: &[String]) -> Vec<u8> {
    let filters: Vec<(&str, u8)> = filters.iter().map(|filter| (&**filter, 1)).collect();
    let packets = broker.ask(client, &subscribe(client.version, 7, &[], &filters));
    let [Packet::Suback { id: 7, codes, .. }] = &packets[..] else { panic!("{packets:?}") };
    codes.clone()
}

fn named(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("filters/{number}")).collect()
}

#[test]
fn five_thousand_filters_are_granted_and_given_up_in_one_packet_each() {
    both(|version| {
        let mut broker = Broker::wide();
        let client = broker.join(&connect(version, "a"));
        let filters = named(5000);
        assert_eq!(codes(&mut broker, client, &filters), [1; 5000]);
        let other = broker.join(&connect(version, "b"));
        broker.publish(other, &publish("filters/4999", "here"));
        assert_eq!(broker.messages(client), [publish("filters/4999", "here")]);
        let filters: Vec<&str> = filters.iter().map(String::as_str).chain(["none"; 100]).collect();
        let packets = broker.ask(client, &unsubscribe(version, 8, &filters));
        let [Packet::Unsuback { id: 8, codes, .. }] = &packets[..] else { panic!("{packets:?}") };
        let expected: &[u8] = if version == V5 { &[&[0; 5000][..], &[0x11; 100]].concat() } else { &[] };
        assert_eq!(codes, expected);
        broker.publish(other, &publish("filters/4999", "gone"));
        assert_eq!(broker.messages(client), []);
    });
}

#[test]
fn filters_above_a_limit_are_refused_one_by_one() {
    both(|version| {
        let refused = if version == V5 { 0x97 } else { 0x80 };
        for (filters_max, selections_max) in [(3, 10), (10, 3)] {
            let mut broker = Broker::with_filters(filters_max, selections_max);
            let client = broker.join(&connect(version, "a"));
            assert_eq!(codes(&mut broker, client, &named(5)), [1, 1, 1, refused, refused], "{filters_max} {selections_max}");
            assert_eq!(codes(&mut broker, client, &named(3)), [1, 1, 1], "those that are there may be renewed");
            assert_eq!(broker.ask(client, &PINGREQ), [Packet::Pingresp]);
        }
    });
}
