//! Payloads of a MiB, with the bounds that a server has by default.

use super::both;
use crate::frames::{BINARY, FIN, frame, parse_frames};
use crate::mqtt_packets::{Packet, Publish, connect, parse, publish, subscribe};
use crate::mqtt_peer::{Broker, Client};

fn mebibyte() -> Vec<u8> {
    (0..1_u32 << 20).map(|at| (at ^ at >> 8) as u8).collect()
}

#[test]
fn a_payload_of_a_mebibyte_is_stored_and_delivered() {
    both(|version| {
        for qos in 0..3 {
            let mut broker = Broker::wide();
            let client = broker.join(&connect(version, "a"));
            let other = broker.join(&connect(version, "b"));
            broker.subscribe(other, "#", 0);
            let message = Publish { payload: mebibyte(), retain: true, ..publish("large", "").qos(qos, u16::from(qos > 0)) };
            broker.publish(client, &message);
            let expected = Publish { payload: mebibyte(), ..publish("large", "") };
            assert!(broker.messages(other) == [expected.clone()], "at once");
            assert!(broker.subscribe(client, "large", 0) == [Publish { retain: true, ..expected }], "retained");
            assert_eq!(broker.oversized(), []);
        }
    });
}

fn open_websocket(broker: &mut Broker, version: u8) -> Client {
    let client = broker.open_http(version);
    broker.give(client, crate::handshake::request("mqtt").replacen("/tidewire", "/mqtt", 1).as_bytes());
    assert!(broker.take_bytes(client).starts_with(b"HTTP/1.1 101 "));
    client
}

/// Gives bytes as messages of so many bytes each.
fn give(broker: &mut Broker, client: Client, bytes: &[u8], size: usize) {
    for part in bytes.chunks(size) {
        broker.give(client, &frame(FIN | BINARY, part));
    }
}

#[test]
fn a_payload_of_a_mebibyte_comes_over_websocket_in_one_frame_or_in_many() {
    both(|version| {
        for size in [usize::MAX, 100_000, 1009] {
            let mut broker = Broker::wide();
            let client = open_websocket(&mut broker, version);
            let message = Publish { payload: mebibyte(), ..publish("large", "") };
            give(&mut broker, client, &connect(version, "a").bytes(), usize::MAX);
            give(&mut broker, client, &subscribe(version, 1, &[], &[("large", 0)]), usize::MAX);
            broker.take_bytes(client);
            give(&mut broker, client, &message.bytes(version), size);
            let bytes: Vec<u8> = parse_frames(&broker.take_bytes(client)).into_iter().flat_map(|(_, payload)| payload).collect();
            assert!(parse(version, &mut &bytes[..]) == Some(Packet::Publish(message)), "{size}");
        }
    });
}
