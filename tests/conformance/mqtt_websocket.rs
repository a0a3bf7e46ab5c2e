//! MQTT over WebSocket.

use crate::frames::{BINARY, CLOSE, FIN, TEXT, frame, parse_frames};
use crate::handshake::request;
use crate::mqtt_packets::{PINGREQ, Packet, V5, V311, connect, parse};
use crate::mqtt_peer::{Broker, Client};

fn upgrade(broker: &mut Broker, version: u8, path: &str, protocols: &str) -> (Client, String) {
    let client = broker.open_http(version);
    broker.give(client, request(protocols).replacen("/tidewire", path, 1).as_bytes());
    (client, String::from_utf8(broker.take_bytes(client)).expect("a head of HTTP"))
}

#[test]
fn the_server_chooses_mqtt() {
    for protocols in ["mqtt", "x, mqtt", "tidewire.1, mqtt"] {
        let mut broker = Broker::new();
        let (_, head) = upgrade(&mut broker, V5, "/mqtt", protocols);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.contains("\r\nSec-WebSocket-Protocol: mqtt\r\n"), "{head}");
    }
    for (path, protocols) in [("/mqtt", "x"), ("/mqtt", "MQTT"), ("/tidewire", "mqtt")] {
        let (_, head) = upgrade(&mut Broker::new(), V5, path, protocols);
        assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    }
}

#[test]
fn packets_and_frames_need_not_line_up() {
    for version in [V311, V5] {
        let bytes = [&connect(version, "a").bytes()[..], &PINGREQ, &PINGREQ].concat();
        for size in 1..=bytes.len() {
            let mut broker = Broker::new();
            let (client, _) = upgrade(&mut broker, version, "/mqtt", "mqtt");
            for part in bytes.chunks(size) {
                broker.give(client, &frame(FIN | BINARY, part));
            }
            let mut packets = Vec::new();
            for (first, payload) in parse_frames(&broker.take_bytes(client)) {
                assert_eq!(first, FIN | BINARY);
                packets.extend(payload);
            }
            let mut rest = &packets[..];
            let packets = [(); 3].map(|()| parse(version, &mut rest));
            assert!(matches!(packets, [Some(Packet::Connack { code: 0, .. }), Some(Packet::Pingresp), Some(Packet::Pingresp)]));
        }
    }
}

#[test]
fn a_frame_that_is_not_binary_closes() {
    for version in [V311, V5] {
        for connects in [true, false] {
            let mut broker = Broker::new();
            let (client, _) = upgrade(&mut broker, version, "/mqtt", "mqtt");
            if connects {
                broker.give(client, &frame(FIN | BINARY, &connect(version, "a").bytes()));
                broker.take_bytes(client);
            }
            broker.give(client, &frame(FIN | TEXT, &PINGREQ));
            let frames = parse_frames(&broker.take_bytes(client));
            assert_eq!(frames.last().map(|(first, _)| *first), Some(FIN | CLOSE), "{frames:?}");
            assert!(broker.is_ended(client));
        }
    }
}
