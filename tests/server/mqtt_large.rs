//! Payloads of a MiB against the real server with its default limits: over TCP, over WebSocket and natively, and over a restart.

use crate::mosquitto::{mosquitto, publish};
use crate::raw::{RawSocket, masked, upgrade_request};
use crate::server::{Directory, Server};
use tidewire::surface::topic::specification::TopicType;
use tidewire::surface::value::ValueType;

fn mebibyte(salt: u8) -> Vec<u8> {
    (0..1_u32 << 20).map(|at| (at ^ at >> 8) as u8 ^ salt).collect()
}

/// The first message of the topic.
fn received(server: &Server, topic: &str) -> Vec<u8> {
    let arguments = ["-t", topic, "-q", "1", "-C", "1", "-N"];
    let output = mosquitto("mosquitto_sub", server, "mqttv311", &arguments).output().expect("the package mosquitto-clients is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A packet of MQTT with this first byte.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut rest = body.len();
    while rest > 127 {
        bytes.push(0x80 | (rest & 127) as u8);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    [&bytes[..], body].concat()
}

/// Publishes and is sent the message, over WebSocket.
fn publish_over_websocket(server: &Server, topic: &str, payload: &[u8]) {
    let mut socket = RawSocket::open(server.address);
    socket.send(upgrade_request("/mqtt", "mqtt").as_bytes());
    assert!(socket.read_head().starts_with("HTTP/1.1 101 "));
    let name = [&(topic.len() as u16).to_be_bytes(), topic.as_bytes()].concat();
    let connect = packet(0x10, b"\0\x04MQTT\x04\x02\0\0\0\x02ws");
    let subscribe = packet(0x82, &[&[0, 1], &name[..], &[0]].concat());
    let message = packet(0x31, &[&name[..], payload].concat());
    socket.send(&masked(0x82, &connect));
    socket.send(&masked(0x82, &subscribe));
    let mut heard = Vec::new();
    while heard.len() < 4 + 5 {
        heard.extend(socket.read_frame().payload);
    }
    assert_eq!(heard, [0x20, 2, 0, 0, 0x90, 3, 0, 1, 0]);
    for part in message.chunks(300_000) {
        socket.send(&masked(0x82, part));
    }
    let mut heard = Vec::new();
    while heard.len() < message.len() {
        heard.extend(socket.read_frame().payload);
    }
    assert!(heard == packet(0x30, &[&name[..], payload].concat()), "the message as it was published, and without RETAIN");
}

#[test]
fn a_mebibyte_is_stored_and_delivered_whichever_way_it_comes() {
    let directory = Directory::new("large");
    let variables = [("STORAGE_DIRECTORY", directory.name())];
    let (tcp, websocket, native) = (mebibyte(0), mebibyte(1), mebibyte(2));
    {
        let server = Server::start_with_mqtt(2, &variables);
        let file = directory.path.join("payload");
        std::fs::write(&file, &tcp).expect("the server has made the directory");
        let file = file.to_str().expect("the name is text");
        for version in ["mqttv311", "mqttv5"] {
            publish(&server, version, &["-t", "tcp", "-q", "1", "-r", "-f", file]);
        }
        publish_over_websocket(&server, "websocket", &websocket);
        let mut session = server.connect();
        session.subscribe("?.*//").unwrap();
        session.wait_for_value("tcp", &tcp);
        session.add("native", TopicType::Binary).unwrap();
        session.set("native", ValueType::Binary, &native).unwrap();
        session.wait_for_value("native", &native);
        assert!(received(&server, "native") == native);
    }
    let server = Server::start_with_mqtt(2, &variables);
    for (topic, payload) in [("tcp", &tcp), ("websocket", &websocket), ("native", &native)] {
        assert!(received(&server, topic) == *payload, "{topic} over the restart");
        let mut session = server.connect();
        session.subscribe(topic).unwrap();
        session.wait_for_value(topic, payload);
    }
}
