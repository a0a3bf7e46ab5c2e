//! An MQTT broker of a few lines, over TCP and WebSocket: one thread for each connection, one lock around everything.
//!
//! It keeps few deliveries in flight to a subscriber and announces as few for publishers, so that a generator that
//! does not acknowledge, or does not wait for acknowledgements, loses what it should have received.

use super::Fault;
use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use tidewire_loadtest::dialect::mqtt::{self, op};
use tidewire_loadtest::websocket::{self, Opcode};

const IN_FLIGHT_MAX: u16 = 3;

struct Link {
    stream: TcpStream,
    is_websocket: bool,
    is_new: bool,
}

struct Subscription {
    link: Link,
    filter: String,
    qos: u8,
    in_flight: u16,
    packet: u16,
    waiting: VecDeque<(String, Vec<u8>)>,
}

struct World {
    fault: Fault,
    retained: BTreeMap<String, Vec<u8>>,
    subscriptions: Vec<Subscription>,
    updates: u64,
}

/// Starts the broker on a port of its own; it ends with the process.
pub fn start(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    let world = Arc::new(Mutex::new(World { fault, retained: BTreeMap::new(), subscriptions: Vec::new(), updates: 0 }));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let world = Arc::clone(&world);
            std::thread::spawn(move || serve(Link { stream, is_websocket: false, is_new: false }, &world));
        }
    });
    address
}

fn serve(mut link: Link, world: &Mutex<World>) -> Option<()> {
    let (mut received, mut packets, mut buffer) = (Vec::new(), Vec::new(), [0; 65_536]);
    loop {
        let length = link.stream.read(&mut buffer).ok().filter(|length| *length > 0)?;
        received.extend_from_slice(&buffer[..length]);
        if received.starts_with(b"GET ") {
            let head = String::from_utf8_lossy(&received).into_owned();
            let Some(end) = head.find("\r\n\r\n") else { continue };
            link.stream.write_all(websocket::accept_upgrade(&head, mqtt::SUBPROTOCOL)?.as_bytes()).ok()?;
            received.drain(..end + 4);
            link.is_websocket = true;
        }
        if link.is_websocket {
            while let Some((_, payload, length)) = websocket::take_client_frame(&received) {
                received.drain(..length);
                packets.extend_from_slice(&payload);
            }
        } else {
            packets.append(&mut received);
        }
        while let Some((head, body)) = take_packet(&mut packets) {
            let mut world = world.lock().expect("no test panics with the lock");
            world.handle(head, &body, &mut link)?;
        }
    }
}

fn take_packet(packets: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (length, used) = mqtt::take_length(packets.get(1..)?).expect("a length")?;
    let end = 1 + used + length;
    let body = packets.get(1 + used..end)?.to_vec();
    let head = packets[0];
    packets.drain(..end);
    Some((head, body))
}

fn take_text(body: &[u8]) -> (&str, &[u8]) {
    let (text, rest) = body[2..].split_at(usize::from(u16::from_be_bytes([body[0], body[1]])));
    (std::str::from_utf8(text).expect("the generator sends UTF-8"), rest)
}

impl Link {
    fn send(&mut self, op: u8, parts: &[&[u8]]) -> Option<()> {
        let mut packet = Vec::new();
        mqtt::packet(op, &mut packet, |body| parts.iter().for_each(|part| body.extend_from_slice(part)));
        if self.is_websocket {
            let mut frame = Vec::new();
            websocket::encode_server_frame(Opcode::Binary, &packet, &mut frame);
            packet = frame;
        }
        self.stream.write_all(&packet).ok()
    }

    /// The empty properties that MQTT 5 has and 3.1.1 has not.
    fn properties(&self) -> &'static [u8] {
        if self.is_new { &[0] } else { &[] }
    }

    fn copy(&self) -> Self {
        Self { stream: self.stream.try_clone().expect("a socket can be cloned"), is_websocket: self.is_websocket, is_new: self.is_new }
    }
}

impl World {
    /// Does one packet; none ends the connection.
    fn handle(&mut self, head: u8, body: &[u8], link: &mut Link) -> Option<()> {
        let packet = body.get(..2).unwrap_or(&[]);
        match head {
            op::CONNECT => {
                link.is_new = body[6] == 5;
                match link.is_new {
                    true => link.send(op::CONNACK, &[&[0, 0, 3, 0x21], &IN_FLIGHT_MAX.to_be_bytes()]),
                    false => link.send(op::CONNACK, &[&[0, 0]]),
                }
            }
            op::SUBSCRIBE => self.subscribe(packet, &body[2 + link.properties().len()..], link),
            op::PUBACK | op::PUBCOMP => self.acknowledged(link),
            op::PUBREC => link.send(op::PUBREL, &[packet]),
            op::PUBREL => link.send(op::PUBCOMP, &[packet]),
            op::PINGREQ => link.send(op::PINGRESP, &[]),
            op::DISCONNECT => None,
            _ => self.publish(head, body, link),
        }
    }

    fn subscribe(&mut self, packet: &[u8], body: &[u8], link: &mut Link) -> Option<()> {
        let (filter, rest) = take_text(body);
        let qos = rest[0];
        if self.fault == Fault::RefuseSubscribe {
            return link.send(op::SUBACK, &[packet, link.properties(), &[0x80]]);
        }
        link.send(op::SUBACK, &[packet, link.properties(), &[qos]])?;
        let mut subscription =
            Subscription { link: link.copy(), filter: filter.to_owned(), qos, in_flight: 0, packet: 0, waiting: VecDeque::new() };
        for (name, value) in self.retained.iter().filter(|(name, _)| selects(filter, name)) {
            subscription.deliver(name, value);
        }
        self.subscriptions.push(subscription);
        Some(())
    }

    fn acknowledged(&mut self, link: &Link) -> Option<()> {
        let peer = link.stream.peer_addr().ok()?;
        let mut subscriptions = self.subscriptions.iter_mut();
        let subscription = subscriptions.find(|one| one.in_flight > 0 && one.link.stream.peer_addr().ok() == Some(peer))?;
        subscription.in_flight -= 1;
        if let Some((name, value)) = subscription.waiting.pop_front() {
            subscription.deliver(&name, &value);
        }
        Some(())
    }

    fn publish(&mut self, head: u8, body: &[u8], link: &mut Link) -> Option<()> {
        let (name, mut rest) = take_text(body);
        let qos = head >> 1 & 3;
        if qos > 0 {
            let (packet, behind) = rest.split_at(2);
            rest = behind;
            link.send(if qos == 1 { op::PUBACK } else { op::PUBREC }, &[packet])?;
        }
        let value = &rest[link.properties().len()..];
        if head & op::RETAIN != 0 {
            match value.is_empty() {
                true => self.retained.remove(name),
                false => self.retained.insert(name.to_owned(), value.to_vec()),
            };
        }
        self.updates += 1;
        let times = match self.fault {
            Fault::Drop if self.updates % 10 == 5 => 0,
            Fault::Repeat if self.updates % 10 == 5 => 2,
            _ => 1,
        };
        for subscription in self.subscriptions.iter_mut().filter(|one| selects(&one.filter, name)) {
            (0..times).for_each(|_| subscription.deliver(name, value));
        }
        Some(())
    }
}

impl Subscription {
    fn deliver(&mut self, name: &str, value: &[u8]) {
        if self.qos > 0 && self.in_flight == IN_FLIGHT_MAX {
            return self.waiting.push_back((name.to_owned(), value.to_vec()));
        }
        let name_length = (name.len() as u16).to_be_bytes();
        let properties = self.link.properties();
        let head = op::PUBLISH | self.qos << 1;
        if self.qos == 0 {
            self.link.send(head, &[&name_length, name.as_bytes(), properties, value]);
            return;
        }
        self.in_flight += 1;
        self.packet += 1;
        self.link.send(head, &[&name_length, name.as_bytes(), &self.packet.to_be_bytes(), properties, value]);
    }
}

fn selects(filter: &str, name: &str) -> bool {
    match filter.strip_suffix('+') {
        Some(branch) => name.strip_prefix(branch).is_some_and(|level| !level.contains('/')),
        None => filter == name,
    }
}
