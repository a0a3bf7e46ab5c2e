//! rumqttc against the real server: sessions that outlive connections and servers, in MQTT 3.1.1 and 5.

use crate::client::Seen;
use crate::relay::Relay;
use crate::server::{Directory, PATIENCE, Server};
use rumqttc::{self as v4, v5};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tidewire::surface::topic::specification::TopicType;
use tidewire::surface::value::ValueType;

/// What comes to a client, in the words of both versions.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Heard {
    Connected {
        session_present: bool,
    },
    Lost,
    Subscribed,
    /// PUBACK or PUBCOMP for one of its own.
    Acknowledged,
    Message(Message),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Message {
    topic: String,
    qos: u8,
    retain: bool,
    payload: String,
}

fn message(topic: &str, qos: u8, payload: &str) -> Heard {
    Heard::Message(Message { topic: topic.into(), qos, retain: false, payload: payload.into() })
}

/// A client whose session lasts, of either version.
enum Client {
    V4(v4::Client, Box<v4::Connection>),
    V5(v5::Client, Box<v5::Connection>),
}

#[derive(Clone, Copy, Debug)]
enum Version {
    V4,
    V5,
}

const VERSIONS: [Version; 2] = [Version::V4, Version::V5];

/// So many requests wait for the client to be driven.
const CAPACITY: usize = 1000;

impl Client {
    fn new(version: Version, id: &str, address: SocketAddr) -> Self {
        let (host, port) = (address.ip().to_string(), address.port());
        match version {
            Version::V4 => {
                let mut options = v4::MqttOptions::new(id, host, port);
                options.set_clean_session(false);
                let (client, connection) = v4::Client::new(options, CAPACITY);
                Self::V4(client, Box::new(connection))
            }
            Version::V5 => {
                let mut options = v5::MqttOptions::new(id, host, port);
                options.set_clean_start(false).set_session_expiry_interval(Some(3600));
                let (client, connection) = v5::Client::new(options, CAPACITY);
                Self::V5(client, Box::new(connection))
            }
        }
    }

    /// A client that is connected, and had no session before.
    fn start(version: Version, id: &str, address: SocketAddr) -> Self {
        let mut client = Self::new(version, id, address);
        client.expect(Heard::Connected { session_present: false });
        client
    }

    fn publish(&self, topic: &str, qos: u8, payload: &str) {
        match self {
            Self::V4(client, _) => client.publish(topic, v4::qos(qos).expect("there is this QoS"), false, payload).expect("there is room"),
            Self::V5(client, _) => {
                let qos = v5::mqttbytes::qos(qos).expect("there is this QoS");
                client.publish(topic, qos, false, payload.to_owned()).expect("there is room");
            }
        }
    }

    fn subscribe(&mut self, filter: &str) {
        match self {
            Self::V4(client, _) => client.subscribe(filter, v4::QoS::ExactlyOnce).expect("there is room"),
            Self::V5(client, _) => client.subscribe(filter, v5::mqttbytes::QoS::ExactlyOnce).expect("there is room"),
        }
        self.expect(Heard::Subscribed);
    }

    fn expect(&mut self, expected: Heard) {
        assert_eq!(self.next(), expected);
    }

    /// The next thing that comes. It drives the client as well, which connects anew when it has to.
    fn next(&mut self) -> Heard {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if let Some(heard) = self.poll() {
                return heard;
            }
        }
        panic!("nothing came");
    }

    fn poll(&mut self) -> Option<Heard> {
        match self {
            Self::V4(_, connection) => match connection.recv_timeout(PATIENCE).expect("something comes") {
                Ok(v4::Event::Incoming(packet)) => heard_v4(packet),
                Ok(v4::Event::Outgoing(_)) => None,
                Err(_) => Some(Heard::Lost),
            },
            Self::V5(_, connection) => match connection.recv_timeout(PATIENCE).expect("something comes") {
                Ok(v5::Event::Incoming(packet)) => heard_v5(packet),
                Ok(v5::Event::Outgoing(_)) => None,
                Err(_) => Some(Heard::Lost),
            },
        }
    }

    /// Drives the client until it is connected again, past its vain attempts; whether its session was there.
    fn reconnect(&mut self) -> bool {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            match self.next() {
                Heard::Connected { session_present } => return session_present,
                // It tries again at once.
                Heard::Lost => std::thread::sleep(Duration::from_millis(5)),
                other => panic!("{other:?} without a connection"),
            }
        }
        panic!("there is no connection again");
    }

    /// Drives the client until so many of its messages are acknowledged, across lost connections.
    fn wait_for_acknowledgements(&mut self, count: usize) {
        let mut left = count;
        while left > 0 {
            match self.next() {
                Heard::Acknowledged => left -= 1,
                // It tries again at once.
                Heard::Lost => std::thread::sleep(Duration::from_millis(5)),
                Heard::Connected { session_present } => assert!(session_present, "the session is there"),
                other => panic!("{other:?} to a publisher"),
            }
        }
    }

    /// Everything up to the message with this payload.
    fn messages_until(&mut self, last: &str) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            match self.next() {
                Heard::Message(message) => {
                    let is_last = message.payload == last;
                    messages.push(message);
                    if is_last {
                        return messages;
                    }
                }
                Heard::Acknowledged => {}
                other => panic!("{other:?} among messages"),
            }
        }
    }
}

fn heard_v4(packet: v4::Packet) -> Option<Heard> {
    match packet {
        v4::Packet::ConnAck(connack) => Some(Heard::Connected { session_present: connack.session_present }),
        v4::Packet::SubAck(suback) => {
            assert_eq!(suback.return_codes, [v4::SubscribeReasonCode::Success(v4::QoS::ExactlyOnce)]);
            Some(Heard::Subscribed)
        }
        v4::Packet::PubAck(_) | v4::Packet::PubComp(_) => Some(Heard::Acknowledged),
        v4::Packet::Publish(publish) => Some(Heard::Message(Message {
            topic: publish.topic,
            qos: publish.qos as u8,
            retain: publish.retain,
            payload: String::from_utf8(publish.payload.into()).expect("payloads are text here"),
        })),
        _ => None,
    }
}

fn heard_v5(packet: v5::mqttbytes::v5::Packet) -> Option<Heard> {
    use v5::mqttbytes::v5::Packet;
    match packet {
        Packet::ConnAck(connack) => Some(Heard::Connected { session_present: connack.session_present }),
        Packet::SubAck(suback) => {
            use v5::mqttbytes::{QoS, v5::SubscribeReasonCode};
            assert_eq!(suback.return_codes, [SubscribeReasonCode::Success(QoS::ExactlyOnce)]);
            Some(Heard::Subscribed)
        }
        Packet::PubAck(_) | Packet::PubComp(_) => Some(Heard::Acknowledged),
        Packet::Publish(publish) => Some(Heard::Message(Message {
            topic: String::from_utf8(publish.topic.into()).expect("names are text"),
            qos: publish.qos as u8,
            retain: publish.retain,
            payload: String::from_utf8(publish.payload.into()).expect("payloads are text here"),
        })),
        _ => None,
    }
}

fn mqtt(server: &Server) -> SocketAddr {
    server.mqtt.expect("it serves MQTT")
}

#[test]
fn messages_of_every_qos_reach_the_other_version_and_native_sessions() {
    let server = Server::start_with_mqtt(2, &[]);
    let mut session = server.connect();
    session.subscribe("?live//").unwrap();
    for (from, to) in [(Version::V4, Version::V5), (Version::V5, Version::V4)] {
        let topic = format!("live/{from:?}");
        let mut subscriber = Client::start(to, &format!("{from:?} subscriber"), mqtt(&server));
        subscriber.subscribe(&topic);
        let mut publisher = Client::start(from, &format!("{from:?} publisher"), mqtt(&server));
        for qos in 0..3 {
            publisher.publish(&topic, qos, &qos.to_string());
            if qos == 0 {
                // Requests of the client are sent when it is driven.
                while publisher.poll().is_some() {}
            } else {
                publisher.expect(Heard::Acknowledged);
            }
            subscriber.expect(message(&topic, qos, &qos.to_string()));
        }
        assert_eq!(session.next(), Seen::Subscribed(topic.clone(), TopicType::Binary));
        for payload in ["0", "1", "2"] {
            assert_eq!(session.next(), Seen::Value(topic.clone(), payload.into()));
        }
        session.set(&topic, ValueType::Binary, b"native").unwrap();
        assert_eq!(session.next(), Seen::Value(topic.clone(), b"native".into()));
        subscriber.expect(message(&topic, 2, "native"));
    }
}

#[test]
fn a_session_is_there_again_behind_a_lost_connection() {
    let server = Server::start_with_mqtt(2, &[]);
    for version in VERSIONS {
        let relay = Relay::to(mqtt(&server));
        let topic = format!("lost/{version:?}");
        let mut away = Client::start(version, &topic, relay.address);
        away.subscribe(&topic);
        relay.cut();
        away.expect(Heard::Lost);
        let mut publisher = Client::start(version, &format!("publisher {version:?}"), mqtt(&server));
        for (qos, payload) in [(1, "of QoS 1"), (2, "of QoS 2")] {
            publisher.publish(&topic, qos, payload);
            publisher.expect(Heard::Acknowledged);
        }
        server.connect().set(&topic, ValueType::Binary, b"natively").unwrap();
        relay.mend(mqtt(&server));
        assert!(away.reconnect(), "the session is there");
        for (qos, payload) in [(1, "of QoS 1"), (2, "of QoS 2"), (2, "natively")] {
            away.expect(message(&topic, qos, payload));
        }
        publisher.publish(&topic, 1, "later");
        publisher.expect(Heard::Acknowledged);
        away.expect(message(&topic, 1, "later"));
    }
}

#[test]
fn sessions_are_kept_while_the_server_serves_no_mqtt() {
    let directory = Directory::new("mqtt-off");
    let mut server = start_storing(&directory, 1);
    let relay = Relay::to(mqtt(&server));
    let mut client = Client::start(Version::V5, "kept", relay.address);
    client.subscribe("kept/#");
    relay.cut();
    client.expect(Heard::Lost);
    server.kill();
    server = Server::start_with(1, &[("STORAGE_DIRECTORY", directory.name())]);
    let mut session = server.connect();
    for value in ["1", "2"] {
        session.add_and_set("kept/state", ValueType::Json, value.as_bytes()).unwrap();
    }
    server.kill();
    server = start_storing(&directory, 1);
    relay.mend(mqtt(&server));
    assert!(client.reconnect(), "the session is there");
    for value in ["1", "2"] {
        client.expect(message("kept/state", 2, value));
    }
}

/// A server that keeps topics and sessions.
fn start_storing(directory: &Directory, shards: usize) -> Server {
    Server::start_with_mqtt(shards, &[("STORAGE_DIRECTORY", directory.name())])
}

#[test]
fn a_session_with_its_messages_survives_a_killed_server() {
    let directory = Directory::new("mqtt-sessions");
    let mut server = start_storing(&directory, 2);
    let relay = Relay::to(mqtt(&server));
    let mut clients = VERSIONS.map(|version| Client::start(version, &format!("kept {version:?}"), relay.address));
    clients.iter_mut().for_each(|client| client.subscribe("kept/#"));
    relay.cut();
    clients.iter_mut().for_each(|client| client.expect(Heard::Lost));
    let mut publisher = Client::start(Version::V5, "publisher", mqtt(&server));
    for number in 0..50 {
        publisher.publish("kept/by MQTT", 1 + number % 2, &number.to_string());
        publisher.expect(Heard::Acknowledged);
    }
    let mut session = server.connect();
    session.add_and_set("kept/natively", ValueType::Json, b"\"last\"").unwrap();
    // How many shards there are may change meanwhile.
    for shards in [3, 1] {
        server.kill();
        server = start_storing(&directory, shards);
    }
    relay.mend(mqtt(&server));
    for client in &mut clients {
        assert!(client.reconnect(), "the session is there");
        let mut messages = client.messages_until("\"last\"");
        assert_eq!(messages.pop().map(|last| last.topic), Some("kept/natively".into()));
        let payloads: Vec<_> = messages.iter().map(|message| (message.qos, message.payload.clone())).collect();
        assert_eq!(payloads, (0..50).map(|number| (1 + number % 2, number.to_string())).collect::<Vec<_>>());
    }
    // The subscriptions stand, too.
    server.connect().add_and_set("kept/new", ValueType::String, b"new").unwrap();
    clients.iter_mut().for_each(|client| client.expect(message("kept/new", 2, "new")));
}

#[test]
fn what_is_on_its_way_when_the_server_is_killed_arrives_and_of_qos_2_once() {
    const COUNT: usize = 90;
    for version in VERSIONS {
        let directory = Directory::new("mqtt-on-its-way");
        let mut server = start_storing(&directory, 2);
        let relay = Relay::to(mqtt(&server));
        let mut subscriber = Client::start(version, "subscriber", relay.address);
        subscriber.subscribe("way/+");
        relay.cut();
        subscriber.expect(Heard::Lost);
        relay.mend(mqtt(&server));
        let mut publisher = Client::start(version, "publisher", relay.address);
        // Fewer than the client has under way at most: it loses count where an identifier comes around before it is free.
        (0..COUNT).for_each(|number| publisher.publish("way/a", 1 + u8::from(number % 2 == 1), &number.to_string()));
        let mut left = COUNT;
        for kill_at in [70, 40] {
            publisher.wait_for_acknowledgements(left - kill_at);
            left = kill_at;
            server.kill();
            server = start_storing(&directory, 2);
            relay.mend(mqtt(&server));
        }
        publisher.wait_for_acknowledgements(left);
        publisher.publish("way/a", 2, "last");
        publisher.wait_for_acknowledgements(1);
        assert!(subscriber.reconnect(), "the session is there");
        let mut counts = [0; COUNT];
        for message in subscriber.messages_until("last").iter().filter(|message| message.payload != "last") {
            counts[message.payload.parse::<usize>().expect("a number")] += 1;
        }
        assert!(counts.iter().all(|count| *count > 0), "{version:?}: some are lost: {counts:?}");
        assert!(counts.iter().skip(1).step_by(2).all(|count| *count == 1), "{version:?}: some of QoS 2 came again: {counts:?}");
    }
}
