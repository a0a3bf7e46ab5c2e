//! A server of a few lines: one thread for each connection, one lock around everything.
//!
//! It fans out what it is given, and can be told to do that wrong, so that the tests see that the
//! generator sees.

pub mod mqtt;
pub mod text;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use tidewire::surface::value::delta;
use tidewire_loadtest::dialect::native::{self, op, push_string, push_varint};
use tidewire_loadtest::websocket::{self, Opcode};

/// What the server does wrong: with every tenth update, where not said otherwise.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    Drop,
    Repeat,
    Hold,
    Corrupt,
    /// Every second client is refused, the others are told to come later.
    RefuseConnect,
    RefuseSubscribe,
    CloseSubscribers,
    /// What is sent is not of the protocol's form; only of servers that speak JSON.
    Malformed,
    /// Nothing arrives after 80 updates.
    DropLate,
}

struct Subscription {
    selector: String,
    stream: TcpStream,
    takes_deltas: bool,
}

struct World {
    fault: Fault,
    topics: BTreeMap<String, (u64, u8, Vec<u8>)>,
    subscriptions: Vec<Subscription>,
    updates: u64,
    held: Vec<Vec<u8>>,
    encoder: delta::Encoder,
}

/// Starts the server on a port of its own; it ends with the process.
pub fn start(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    let world =
        World { fault, topics: BTreeMap::new(), subscriptions: Vec::new(), updates: 0, held: Vec::new(), encoder: delta::Encoder::new() };
    let world = Arc::new(Mutex::new(world));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let world = Arc::clone(&world);
            std::thread::spawn(move || serve(stream, &world));
        }
    });
    address
}

fn serve(mut stream: TcpStream, world: &Mutex<World>) -> Option<()> {
    let mut received = Vec::new();
    let mut buffer = [0; 65_536];
    let mut is_upgraded = false;
    let mut takes_deltas = false;
    loop {
        let length = stream.read(&mut buffer).ok().filter(|length| *length > 0)?;
        received.extend_from_slice(&buffer[..length]);
        if !is_upgraded {
            let head = String::from_utf8_lossy(&received).into_owned();
            let Some(end) = head.find("\r\n\r\n") else { continue };
            stream.write_all(websocket::accept_upgrade(&head, native::SUBPROTOCOL)?.as_bytes()).ok()?;
            received.drain(..end + 4);
            is_upgraded = true;
        }
        while let Some((opcode, payload, length)) = websocket::take_client_frame(&received) {
            received.drain(..length);
            assert_eq!(opcode, Opcode::Binary);
            if payload[0] == op::CONNECT {
                // The capabilities are the last field that the generator sends.
                takes_deltas = payload.last() == Some(&3);
            }
            let mut world = world.lock().expect("no test panics with the lock");
            let frames = world.handle(&payload, &stream, takes_deltas)?;
            write_message(&mut stream, &frames)?;
        }
    }
}

fn write_message(stream: &mut TcpStream, frames: &[u8]) -> Option<()> {
    let mut message = Vec::new();
    websocket::encode_server_frame(Opcode::Binary, frames, &mut message);
    stream.write_all(&message).ok()
}

/// Takes a string from the front of a body.
fn take_string<'a>(body: &mut &'a [u8]) -> &'a str {
    let length = take_number(body) as usize;
    let (text, rest) = body.split_at(length);
    *body = rest;
    std::str::from_utf8(text).expect("the generator sends UTF-8")
}

fn take_number(body: &mut &[u8]) -> u64 {
    let (number, length) = native::take_varint(body).expect("a varint").expect("a whole varint");
    *body = &body[length..];
    number
}

fn ok(id: u64, rest: &[u8]) -> Vec<u8> {
    let mut frames = Vec::new();
    native::frame(op::OK, &mut frames, |body| {
        push_varint(id, body);
        body.extend_from_slice(rest);
    });
    frames
}

fn value_frame(number: u64, value: &[u8], out: &mut Vec<u8>) {
    native::frame(op::VALUE, out, |body| {
        push_varint(number, body);
        body.extend_from_slice(value);
    });
}

fn selects(selector: &str, path: &str) -> bool {
    match selector.strip_prefix('?').and_then(|rest| rest.strip_suffix("//")) {
        Some(prefix) => path == prefix || path.starts_with(&format!("{prefix}/")),
        None => path == selector,
    }
}

impl World {
    /// Does one request and returns the answer; none ends the connection.
    fn handle(&mut self, frame: &[u8], stream: &TcpStream, takes_deltas: bool) -> Option<Vec<u8>> {
        let mut body = &frame[1..];
        let length = take_number(&mut body);
        assert_eq!(length as usize, body.len(), "one frame in each message");
        match frame[0] {
            op::CONNECT => {
                let id = take_number(&mut body);
                let mut frames = Vec::new();
                if self.fault == Fault::RefuseConnect {
                    self.updates += 1;
                    let (op, rest): (u8, &[u8]) =
                        if self.updates % 2 == 1 { (op::ERROR, &[109, 0, b'n', b'o']) } else { (op::LATER, &[100]) };
                    native::frame(op, &mut frames, |out| out.extend([&[id as u8], rest].concat()));
                    return Some(frames);
                }
                native::frame(op::WELCOME, &mut frames, |out| out.extend_from_slice(&[id as u8, 1, 4, 2, 0xC8, 0x01]));
                Some(frames)
            }
            op::ADD_AND_SET | op::SET => {
                let id = take_number(&mut body);
                let path = take_string(&mut body).to_owned();
                let value_type = body[0];
                let is_new = frame[0] == op::ADD_AND_SET;
                let value = body[if is_new { 2 } else { 1 }..].to_vec();
                let number = self.topics.len() as u64 + 1;
                let topic = self.topics.entry(path.clone()).or_insert((number, value_type, Vec::new()));
                let previous = std::mem::replace(&mut topic.2, value.clone());
                let number = topic.0;
                if !is_new {
                    self.fan_out(&path, number, &previous, value);
                }
                Some(if id == 0 { Vec::new() } else { ok(id, &[1][..usize::from(is_new)]) })
            }
            op::SUBSCRIBE => Some(self.subscribe(&mut body, stream, takes_deltas)),
            op::REMOVE => {
                let id = take_number(&mut body);
                let selector = take_string(&mut body).to_owned();
                self.topics.retain(|path, _| !selects(&selector, path));
                Some(ok(id, &[1]))
            }
            op::PING => Some(vec![op::PONG, 0]),
            op::CLOSE => None,
            _ => Some(Vec::new()),
        }
    }

    fn subscribe(&mut self, body: &mut &[u8], stream: &TcpStream, takes_deltas: bool) -> Vec<u8> {
        let id = take_number(body);
        let selector = take_string(body).to_owned();
        let mut frames = Vec::new();
        if self.fault == Fault::RefuseSubscribe {
            native::frame(op::ERROR, &mut frames, |out| {
                push_varint(id, out);
                push_varint(201, out);
                out.push(0);
                out.extend_from_slice(b"not today");
            });
            return frames;
        }
        for (path, (number, value_type, value)) in self.topics.iter().filter(|(path, _)| selects(&selector, path)) {
            native::frame(op::SUBSCRIBED, &mut frames, |out| {
                push_varint(*number, out);
                push_string(path, out);
                out.extend_from_slice(&[*value_type, 0]);
            });
            value_frame(*number, value, &mut frames);
        }
        frames.extend(ok(id, &[]));
        let stream = stream.try_clone().expect("a socket can be cloned");
        self.subscriptions.push(Subscription { selector, stream, takes_deltas });
        frames
    }

    fn fan_out(&mut self, path: &str, number: u64, previous: &[u8], mut value: Vec<u8>) {
        self.updates += 1;
        let mut frames = Vec::new();
        if self.fault == Fault::DropLate && self.updates > 80 {
            return;
        }
        if self.updates % 10 == 5 {
            match self.fault {
                Fault::Drop => return,
                Fault::Repeat => value_frame(number, &value, &mut frames),
                Fault::Corrupt => *value.last_mut().expect("values are not empty") ^= 1,
                Fault::Hold => return self.held.push(value),
                Fault::CloseSubscribers => self.close_one(),
                _ => {}
            }
        }
        value_frame(number, &value, &mut frames);
        for held in self.held.drain(..) {
            value_frame(number, &held, &mut frames);
        }
        let mut delta = Vec::new();
        let form = self.encoder.encode(previous, &value, &mut delta);
        let op = if form == Some(delta::Form::Copy) { op::DELTA_COPY } else { op::DELTA_DEFLATE };
        let mut delta_frame = Vec::new();
        native::frame(op, &mut delta_frame, |body| {
            push_varint(number, body);
            body.extend_from_slice(&delta);
        });
        self.subscriptions.retain_mut(|Subscription { selector, stream, takes_deltas }| {
            let frames = if *takes_deltas && form.is_some() { &delta_frame } else { &frames };
            !selects(selector, path) || write_message(stream, frames).is_some()
        });
    }

    fn close_one(&mut self) {
        let Some(Subscription { mut stream, .. }) = self.subscriptions.pop() else { return };
        let mut message = Vec::new();
        websocket::encode_server_frame(Opcode::Close, &4104u16.to_be_bytes(), &mut message);
        let _ = stream.write_all(&message);
        let _ = stream.shutdown(std::net::Shutdown::Both);
    }
}
