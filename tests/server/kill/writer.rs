//! A session that writes pipelined batches to topics of its own until the server is gone.

use super::model::{KEPT_EVENTS, Operation, Topic};
use crate::client::{Message, Socket};
use crate::random::Random;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use tidewire::surface::topic::specification::TopicType;
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::{self, Append, Ask, Heard, Request, Update, Verb};

/// Messages that are under way at a time.
const BATCHES_MAX: usize = 4;

/// What one writer owns, over all runs of the server.
pub struct Writer {
    pub topics: Vec<Topic>,
    random: Random,
    /// The numbers that it writes only grow.
    last_number: u64,
    pub acknowledged: u64,
}

/// The bytes of a number: JSON with some more, so that segments fill.
pub fn value_of(number: u64) -> Vec<u8> {
    format!(r#"{{"n":{number},"more":"{}"}}"#, "x".repeat((number * 7919 % 1500) as usize)).into_bytes()
}

pub fn number_of(value: &[u8]) -> u64 {
    let json: serde_json::Value = serde_json::from_slice(value).expect("values are JSON");
    let number = json["n"].as_u64().expect("every value has its number");
    assert!(value == value_of(number), "a value is what was sent: {}", String::from_utf8_lossy(value));
    number
}

/// A connection while it lasts: what was sent on it and is not answered.
struct Run {
    socket: Socket,
    waiting: HashMap<u64, (usize, usize)>,
    last_id: u64,
}

impl Writer {
    pub fn new(index: usize, seed: u64) -> Self {
        let set = (0..30).map(|number| Topic::new(format!("set/{index}/{number}"), TopicType::Json));
        let series = (0..4).map(|number| Topic::new(format!("series/{index}/{number}"), TopicType::TimeSeries));
        let topics = set.chain(series).collect();
        Self { topics, random: Random::new(seed ^ (index as u64) << 32), last_number: 0, acknowledged: 0 }
    }

    /// Writes until the connection breaks.
    pub fn run(&mut self, address: SocketAddr) {
        let Some(socket) = Socket::try_open(address, "tidewire.1") else { return };
        let mut run = Run { socket, waiting: HashMap::new(), last_id: 1 };
        let mut hello = Vec::new();
        native::put_request(&mut hello, &Request { id: 1, ask: Ask::connect("writer", 0) });
        if !run.socket.try_send_binary(&hello) || run.socket.try_receive().is_none() {
            return;
        }
        self.write(&mut run);
    }

    fn write(&mut self, run: &mut Run) -> Option<()> {
        let mut batches_ends: Vec<u64> = Vec::new();
        loop {
            while batches_ends.len() < BATCHES_MAX {
                let batch = self.batch(run);
                batches_ends.push(run.last_id);
                if !run.socket.try_send_binary(&batch) {
                    return None;
                }
            }
            self.read(run)?;
            let oldest = run.waiting.keys().min().copied().unwrap_or(u64::MAX);
            batches_ends.retain(|end| *end >= oldest);
            if self.random.percent(2) {
                self.remove_one(run)?;
                batches_ends.clear();
            }
        }
    }

    /// A message of some updates.
    fn batch(&mut self, run: &mut Run) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..1 + self.random.below(30) {
            let index = self.random.below(self.topics.len() as u64) as usize;
            let operation = self.operation(index);
            self.put(run, &mut bytes, index, operation);
        }
        bytes
    }

    fn operation(&mut self, index: usize) -> Operation {
        self.last_number += 1;
        let number = self.last_number;
        let topic = &self.topics[index];
        match topic.kind {
            TopicType::TimeSeries if !topic.latest.is_there => Operation::Add,
            TopicType::TimeSeries => {
                // Not one that the retained range is about to drop.
                let originals = &topic.latest.series.originals;
                let young = originals.len().min(KEPT_EVENTS / 2);
                match young > 0 && self.random.percent(10) {
                    true => {
                        let original = originals[originals.len() - 1 - self.random.below(young as u64) as usize].0;
                        Operation::Edit { original, number }
                    }
                    false => Operation::Append(number),
                }
            }
            _ if self.random.percent(3) => Operation::Add,
            _ => Operation::Set(number),
        }
    }

    fn put(&mut self, run: &mut Run, bytes: &mut Vec<u8>, index: usize, operation: Operation) {
        run.last_id += 1;
        let id = run.last_id;
        let place = self.topics[index].send(operation);
        run.waiting.insert(id, (index, place));
        let (path, kind) = (self.topics[index].path.clone(), self.topics[index].kind);
        let json = ValueType::Json as u8;
        let append = |append, number| Request {
            id,
            ask: Ask::Append { path: path.clone().into(), kind: json, append, value: value_of(number).into() },
        };
        let request = match operation {
            Operation::Set(number) => {
                Request { id, ask: Ask::Update { path: path.into(), update: Update::new(Verb::AddAndSet, json, value_of(number)) } }
            }
            Operation::Add => {
                let kept = format!("limit {KEPT_EVENTS}");
                let properties = match kind {
                    TopicType::TimeSeries => {
                        let pairs = [("TIME_SERIES_EVENT_VALUE_TYPE", "json".to_owned()), ("TIME_SERIES_RETAINED_RANGE", kept)];
                        pairs.map(|(key, value)| (key.into(), value.into())).to_vec()
                    }
                    _ => Vec::new(),
                };
                let update = Update { properties, ..Update::new(Verb::Add, kind.number(), &b""[..]) };
                Request { id, ask: Ask::Update { path: path.into(), update } }
            }
            Operation::Append(number) => append(Append::Original { timestamp_ms: None }, number),
            Operation::Edit { original, number } => append(Append::Edit { original }, number),
            Operation::Remove => Request { id, ask: Ask::Remove { selector: format!(">{path}").into() } },
        };
        native::put_request(bytes, &request);
    }

    /// Removes a topic, with nothing else under way: a removal has no order with the updates around it.
    fn remove_one(&mut self, run: &mut Run) -> Option<()> {
        self.settle(run)?;
        let index = self.random.below(self.topics.len() as u64) as usize;
        if self.topics[index].latest.is_there {
            let mut bytes = Vec::new();
            self.put(run, &mut bytes, index, Operation::Remove);
            run.socket.try_send_binary(&bytes).then_some(())?;
        }
        self.settle(run)
    }

    fn settle(&mut self, run: &mut Run) -> Option<()> {
        while !run.waiting.is_empty() {
            self.read(run)?;
        }
        assert!(self.topics.iter().all(Topic::is_settled));
        Some(())
    }

    /// Reads one message of answers.
    fn read(&mut self, run: &mut Run) -> Option<()> {
        let Some(Message::Binary(message)) = run.socket.try_receive() else { return None };
        let mut rest = &message[..];
        while let Ok(Some(frame)) = native::next_frame(&mut rest) {
            match native::decode_event(frame).expect("the server's frames have their form") {
                Heard::Ok { id, .. } => {
                    let (index, place) = run.waiting.remove(&id).expect("only what was asked is answered");
                    self.topics[index].acknowledge(place);
                    self.acknowledged += 1;
                }
                Heard::Error { id, code, message, .. } => panic!("{:?} refused: {code} {message}", run.waiting.get(&id)),
                Heard::Ping => run.socket.try_send_binary(&[0x03, 0]).then_some(())?,
                other => panic!("not an answer: {other:?}"),
            }
        }
        Some(())
    }

    pub fn paths(&self) -> HashSet<&str> {
        self.topics.iter().map(|topic| &*topic.path).collect()
    }
}
