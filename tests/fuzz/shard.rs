//! A whole shard: whatever peers, storage and time do to it, it answers, keeps its bounds, and is empty when all have gone.

use crate::campaign::noise;
use crate::operations::{self, Source};
use serde_json::{Value, json};
use tidewire::surface::base::{ConnectionKey, ShardIndex, SlabKey, Time};
use tidewire::surface::session::QueueLimits;
use tidewire::surface::shard::{Effect, Identified, Identity, Limits, Shard, Storing, Transport, Who};
use tidewire::surface::topic::selector::SelectorLimits;
use tidewire::surface::wire::native::{self, Heard};

const WALL_MS: u64 = 2_000_000;

struct World {
    shard: Shard,
    now: Time,
    /// Each connection, and whether it speaks the text form.
    connections: Vec<(ConnectionKey, bool)>,
    /// Those of whom it was asked who they are.
    claimants: Vec<ConnectionKey>,
    /// The last record that storage was given.
    last_ticket: u64,
}

/// A script of what befalls one shard, three bytes and a payload a command: what, to which connection, the payload's length.
pub fn shard(input: &[u8]) {
    let storing = [Storing::Stored, Storing::Memory, Storing::Off][usize::from(input.first().copied().unwrap_or_default() % 3)];
    let authenticates = input.first().is_some_and(|first| first / 3 % 2 == 1);
    let limits = Limits { authenticates, audits: authenticates, ..limits() };
    let queue_bytes_max = limits.queue.bytes_max;
    let mut world = World::new(storing, limits);
    world.connect(false, &[1, 5, 1, 1, 2, 1, 7]);
    world.connect(true, &[]);
    let mut rest = input;
    while let [what, which, length, tail @ ..] = rest {
        let (payload, behind) = tail.split_at(tail.len().min(usize::from(*length)));
        rest = behind;
        world.befall(*what, usize::from(*which), payload, *length);
        world.carry_out();
        assert!(world.shard.queue_bytes_most() <= queue_bytes_max);
    }
    world.end();
}

impl World {
    fn new(storing: Storing, limits: Limits) -> Self {
        let identity = Identity {
            index: ShardIndex(0),
            count: 1,
            server: "fuzz".into(),
            run: 1,
            start: 1,
            storing,
            topics_base: 0,
            node: 0,
            secret: [7; 32],
        };
        let now = Time(1);
        Self { shard: Shard::new(identity, limits, now, WALL_MS), now, connections: Vec::new(), claimants: Vec::new(), last_ticket: 0 }
    }

    fn befall(&mut self, what: u8, which: usize, payload: &[u8], length: u8) {
        let (key, is_text) = self.connections[which % self.connections.len()];
        match what % 24 {
            0 if self.connections.len() < 8 => {
                if let Some(key) = self.shard.handle_accept(self.now, Transport::Http) {
                    self.connections.push((key, true));
                }
            }
            1 => self.shard.handle_bytes(self.now, key, &mut payload.to_vec()),
            2 => self.shard.handle_closed(self.now, key),
            3 => self.tick(u64::from(length) * 20),
            4 => self.shard.run_slice(self.now),
            5 => drop(self.transmit(key)),
            6 if self.connections.len() < 8 => self.connect(length % 2 == 1, &[1, 5, 1, 1, 2, 1, length % 8]),
            7 => self.store(length),
            8 | 9 => {
                let mut message = frame(if is_text { 0x81 } else { 0x82 }, payload);
                self.shard.handle_bytes(self.now, key, &mut message);
            }
            10 => self.identify(length),
            11 if self.connections.len() < 8 => self.ask_for_page(payload, length),
            _ => self.operate(key, is_text, payload),
        }
    }

    /// The first of whom it was asked is known, or not.
    fn identify(&mut self, length: u8) {
        if self.claimants.is_empty() {
            return;
        }
        let key = self.claimants.remove(0);
        let identified = match length % 5 {
            0 => Identified::Refused(Default::default()),
            1 => Identified::Later { wait_ms: u64::from(length) * 10, said: Default::default() },
            2 => Identified::As(Who::new("ann".into(), vec!["A".into()], Some(self.now.after_ms(500))), Box::default()),
            _ => Identified::As(None, Box::default()),
        };
        self.shard.handle_identified(self.now, key, identified);
    }

    /// Somebody asks for a page, and shows this.
    fn ask_for_page(&mut self, shown: &[u8], length: u8) {
        let Some(key) = self.shard.handle_accept(self.now, Transport::Http) else { return };
        let path = ["/latency", "/health", "/"][usize::from(length % 3)];
        let scheme: &[u8] = if length.is_multiple_of(2) { b"Basic " } else { b"Bearer " };
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: ");
        let mut head = [head.as_bytes(), scheme, shown, b"\r\n\r\n"].concat();
        self.shard.handle_bytes(self.now, key, &mut head);
        self.connections.push((key, true));
    }

    /// A connection that is open in its form; one that the shard does not take stands for one that is gone.
    fn connect(&mut self, is_text: bool, connect: &[u8]) {
        let Some(key) = self.shard.handle_accept(self.now, Transport::Http) else {
            return self.connections.push((ConnectionKey::new(0, u32::MAX - 1), is_text));
        };
        let protocol = if is_text { "tidewire.1.json" } else { "tidewire.1" };
        let head = format!(
            "GET /tidewire HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n"
        );
        self.shard.handle_bytes(self.now, key, &mut head.into_bytes());
        let mut message = if is_text { frame(0x81, br#"{"op":"connect"}"#) } else { frame(0x82, connect) };
        self.shard.handle_bytes(self.now, key, &mut message);
        self.connections.push((key, is_text));
        self.carry_out();
        if self.claimants.pop_if(|claimant| *claimant == key).is_some() {
            self.shard.handle_identified(self.now, key, Identified::As(None, Box::default()));
        }
    }

    fn tick(&mut self, ms: u64) {
        self.now = self.now.after_ms(ms);
        self.shard.handle_tick(self.now, WALL_MS + self.now.0 / 1_000_000);
    }

    /// Storage takes what there is, and comes so far with it; or fails, or works again.
    fn store(&mut self, length: u8) {
        let records = self.shard.poll_records().unwrap_or_default();
        for record in &records {
            assert_eq!(record.ticket, self.last_ticket + 1);
            self.last_ticket = record.ticket;
        }
        match length % 8 {
            0 => self.shard.handle_storage_failure(self.now, "the disk is full"),
            1 | 2 => self.shard.handle_storage_recovery(self.now),
            3 => self.shard.handle_stored(self.now, self.last_ticket / 2),
            _ => self.shard.handle_stored(self.now, self.last_ticket),
        }
    }

    /// As many operations as the payload makes, in one message.
    fn operate(&mut self, key: ConnectionKey, is_text: bool, payload: &[u8]) {
        let mut source = Source(payload);
        let mut messages = Vec::new();
        while !source.0.is_empty() {
            messages.push(operations::message(&mut source));
        }
        if is_text {
            let message = Value::from(messages).to_string();
            return self.shard.handle_bytes(self.now, key, &mut frame(0x81, message.as_bytes()));
        }
        let mut bytes = Vec::new();
        for message in messages {
            if let Some(request) = operations::as_binary(&message.to_string()) {
                native::put_request(&mut bytes, &request);
            }
        }
        self.shard.handle_bytes(self.now, key, &mut frame(0x82, &bytes));
    }

    /// What the connection is sent, as one piece.
    fn transmit(&mut self, key: ConnectionKey) -> Vec<u8> {
        self.shard.begin_sends();
        let mut sent = Vec::new();
        // A connection that ends wants to send until it is closed.
        for _ in 0..1000 {
            let Some(bytes) = self.shard.poll_transmit(self.now, key) else { break };
            sent.extend_from_slice(&bytes);
            self.shard.handle_sent(self.now, key, &bytes);
        }
        self.carry_out();
        sent
    }

    fn carry_out(&mut self) {
        while let Some(effect) = self.shard.poll_effect() {
            match effect {
                Effect::Close(key) => self.shard.handle_closed(self.now, key),
                Effect::Read(_) => {}
                Effect::Http(key, request) => self.shard.respond(key, 404, "text/plain", request.path.as_bytes()),
                Effect::HandOver(..) => unreachable!("there is no other shard"),
                Effect::Identify(key, _) => self.claimants.push(key),
                Effect::Authenticate(..) | Effect::ChangePrincipals(..) | Effect::Judged(..) => {
                    unreachable!("nobody authenticates itself in steps, and nobody keeps principals")
                }
                Effect::Locate(..) => {}
                Effect::Inside(_) | Effect::InsideOver(_) => unreachable!("nothing in the process has a session"),
                Effect::Wake(_) | Effect::Reports(_) | Effect::Log(_) => {}
                Effect::Audit(audit) => {
                    let mut line = Vec::new();
                    audit.put_line(WALL_MS, &mut line);
                    assert!(serde_json::from_slice::<Value>(&line).is_ok_and(|line| line["event"].is_string()));
                }
            }
        }
    }

    fn walk(&mut self) {
        while self.shard.has_walks() {
            self.shard.run_slice(self.now);
        }
    }

    fn end(&mut self) {
        for (key, _) in self.connections.clone() {
            self.transmit(key);
            self.shard.handle_closed(self.now, key);
        }
        self.walk();
        self.shard.handle_storage_recovery(self.now);
        self.shard.handle_stored(self.now, u64::MAX);
        for _ in 0..5 {
            self.tick(1500);
            self.walk();
        }
        assert_eq!((self.shard.connection_count(), self.shard.session_count(), self.shard.audience_counts()), (0, 0, [0; 5]));
        assert_eq!((self.shard.listener_counts(), self.shard.owner_counts()), ([0; 4], [0; 2]));
        assert_eq!(self.shard.lock_counts(), [0; 2]);
        self.end_views();
    }

    /// Views and topics go, and nothing is left of them.
    fn end_views(&mut self) {
        self.connections.clear();
        self.connect(true, &[]);
        let (key, _) = self.connections[0];
        for name in operations::VIEW_NAMES {
            self.say(key, json!({ "op": "remove_view", "id": 1, "name": name }));
        }
        self.say(key, json!({ "op": "remove", "id": 2, "selector": "?.*//" }));
        self.transmit(key);
        self.shard.handle_closed(self.now, key);
        self.walk();
        self.shard.handle_stored(self.now, u64::MAX);
        self.walk();
        assert_eq!((self.shard.topic_count(), self.shard.views().counts()), (0, [0; 8]));
    }

    fn say(&mut self, key: ConnectionKey, message: Value) {
        self.shard.handle_bytes(self.now, key, &mut frame(0x81, message.to_string().as_bytes()));
        self.walk();
        self.carry_out();
    }
}

pub fn limits() -> Limits {
    Limits {
        message_bytes_max: 1200,
        path_bytes_max: 40,
        value_bytes_max: 200,
        selector: SelectorLimits {
            text_bytes_max: 20,
            members_max: 4,
            regexes_max: 2,
            regex_bytes_max: 20_000,
            ..SelectorLimits::default()
        },
        selections_max: 3,
        listeners_max: 3,
        session_listeners_max: 2,
        streams_max: 3,
        locks_max: 3,
        questions_max: 5,
        fetch_page_max: 3,
        query_events_max: 4,
        history_bytes_max: 200,
        topics_max: 7,
        connections_max: 7,
        http_head_bytes_max: 300,
        json_depth_max: 5,
        queue: QueueLimits { bytes_high: 800, bytes_max: 2400 },
        transmit_bytes_max: 50,
        handshake_timeout_ms: 1000,
        keep_alive_ms: 2000,
        walk_slice: 1,
        mail_high: 10,
        views: tidewire::surface::shard::DerivationLimits {
            units_per_turn: 5,
            delay_bytes_max: 2000,
            views_max: 5,
            ..tidewire::surface::shard::DerivationLimits::default()
        },
        ..Limits::default()
    }
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    if payload.len() < 126 {
        frame.push(0x80 | payload.len() as u8);
    } else {
        frame.push(0x80 | 126);
        frame.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// A script of well-formed commands.
pub fn script(seed: u64) -> Vec<u8> {
    let noise = noise(seed, 2000);
    let mut source = Source(&noise);
    let mut script = Vec::new();
    while script.len() < 500 {
        let payload: Vec<u8> = (0..source.below(24)).map(|_| source.byte()).collect();
        script.extend([source.byte(), source.byte() % 4, payload.len() as u8]);
        script.extend(payload);
    }
    script
}

/// Operations in both forms, each to a shard of its own: the answers say the same, and as much is told behind them.
pub fn both_forms(input: &[u8]) {
    let limits = Limits {
        message_bytes_max: 4000,
        queue: QueueLimits { bytes_high: 100_000, bytes_max: 200_000 },
        transmit_bytes_max: 100_000,
        keep_alive_ms: 1_000_000,
        ..limits()
    };
    let mut worlds = [World::new(Storing::Off, limits.clone()), World::new(Storing::Off, limits)];
    for (is_text, world) in [true, false].into_iter().zip(&mut worlds) {
        world.connect(is_text, &[1, 2, 0, 1]);
        let (key, _) = world.connections[0];
        world.transmit(key);
    }
    let mut source = Source(input);
    while !source.0.is_empty() {
        let ms = u64::from(source.byte() % 4) * 300;
        let message = operations::message(&mut source);
        // The type of a stream's values is known to the shard alone.
        let is_stream = message["op"] == "stream_open" && message["type"] != "json";
        let text = message.to_string();
        let Some(request) = operations::as_binary(&text).filter(|_| !is_stream) else { continue };
        let mut binary = Vec::new();
        native::put_request(&mut binary, &request);
        let [by_text, by_binary] = [frame(0x81, text.as_bytes()), frame(0x82, &binary)];
        let mut told = Vec::new();
        for (world, mut message) in worlds.iter_mut().zip([by_text, by_binary]) {
            let (key, is_text) = world.connections[0];
            world.tick(ms);
            // What removal policies select goes before the message comes.
            world.walk();
            let topics_before = world.shard.topic_count();
            world.shard.handle_bytes(world.now, key, &mut message);
            world.walk();
            let sent = world.transmit(key);
            let payloads = payloads(&sent);
            let of: Vec<Told> = payloads.iter().flat_map(|payload| if is_text { of_text(payload) } else { of_binary(payload) }).collect();
            let is_refused = of.iter().any(|(op, ..)| op == "error");
            assert!(!is_refused || world.shard.topic_count() == topics_before, "what is refused changes nothing: {text}");
            told.push(of);
        }
        assert_eq!(told[0], told[1], "{text}");
    }
}

/// What the two forms have in common: the operation, its number, and of a refusal the code, of an event the sequence.
type Told = (String, u64, u64);

/// The payloads of a server's frames.
fn payloads(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut payloads = Vec::new();
    while let [_, second, rest @ ..] = bytes {
        let (length, rest) = match second {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            127 => (u64::from_be_bytes(rest[..8].try_into().expect("eight bytes")) as usize, &rest[8..]),
            short => (usize::from(*short), rest),
        };
        let (payload, rest) = rest.split_at(length);
        payloads.push(payload);
        bytes = rest;
    }
    payloads
}

fn of_text(payload: &[u8]) -> Vec<Told> {
    let message: Value = serde_json::from_slice(payload).expect("the server's messages are JSON");
    let number = ["id", "topic", "listener"].into_iter().find_map(|name| message[name].as_u64()).unwrap_or(0);
    let op = message["op"].as_str().expect("an operation");
    let beside = match op {
        "error" => &message["code"],
        "event" => &message["sequence"],
        _ => &Value::Null,
    };
    vec![(op.to_owned(), number, beside.as_u64().unwrap_or(0))]
}

fn of_binary(mut payload: &[u8]) -> Vec<Told> {
    let mut told = Vec::new();
    while let Some(frame) = native::next_frame(&mut payload).expect("the server's frames are whole") {
        let (op, number, beside) = match native::decode_event(frame).expect("the server's frames have their form") {
            Heard::Ok { id, .. } => ("ok", id, 0),
            Heard::Error { id, code, .. } => ("error", id, u64::from(code)),
            Heard::Subscribed { topic, .. } => ("subscribed", topic.0, 0),
            Heard::Value { topic, .. } | Heard::Null { topic } => ("value", topic.0, 0),
            Heard::Event { topic, head, .. } => ("event", topic.0, head.sequence),
            Heard::Unsubscribed { topic, .. } => ("unsubscribed", topic.0, 0),
            Heard::TopicNotice { listener, .. } => ("topic_notice", listener, 0),
            Heard::DescendantNotice { listener, .. } => ("descendant_notice", listener, 0),
            Heard::SubscribersNotice { listener, .. } => ("subscribers_notice", listener, 0),
            Heard::MissingNotice { listener, .. } => ("missing_notice", listener, 0),
            Heard::SessionNotice { listener, .. } => ("session_notice", listener, 0),
            Heard::SessionClosed { listener, .. } => ("session_closed", listener, 0),
            Heard::QueueNotice { listener, .. } => ("queue_notice", listener, 0),
            Heard::PresenceNotice { listener, .. } => ("presence_notice", listener, 0),
            Heard::Ping => ("ping", 0, 0),
            other => panic!("nobody asked for this: {other:?}"),
        };
        told.push((op.to_owned(), number, beside));
    }
    told
}
