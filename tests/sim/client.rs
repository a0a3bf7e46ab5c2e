//! A simulated client: asks, listens, and checks everything that it hears against the model and its own copy.

use crate::heard::{self, Body, Heard, Row};
use crate::model::{Model, PATTERNS, Pattern, in_path_order};
use crate::random::Random;
use std::collections::{BTreeMap, VecDeque};
use tidewire::value::{ValueType, delta, scalar};
use tidewire::wire::native::{self, Request, Verb};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Binary { capabilities: u64 },
    Text,
}

/// What a client asks for.
#[derive(Clone)]
pub enum Asked {
    Connect,
    Update {
        verb: Verb,
        path: &'static str,
        kind: ValueType,
        value: Vec<u8>,
    },
    Remove {
        pattern: Pattern,
    },
    Subscribe {
        pattern: Pattern,
    },
    Unsubscribe {
        pattern: Pattern,
    },
    Fetch {
        pattern: Pattern,
        after: String,
        first: u64,
        with_values: bool,
    },
    /// To be refused.
    Nonsense,
}

/// A topic as the client holds it.
pub struct Held {
    pub path: String,
    pub kind: ValueType,
    pub value: Option<Vec<u8>>,
    order: u64,
}

pub struct Page {
    pub rows: Vec<Row>,
    pub has_more: bool,
}

struct Step {
    id: u64,
    pattern: Pattern,
    selects: bool,
}

pub struct Client {
    pub name: usize,
    pub form: Form,
    /// Bytes to send, and where in all the client's bytes each request ends.
    pub outgoing: VecDeque<u8>,
    sent_total: u64,
    pub requests: VecDeque<(u64, u64, Asked)>,
    pub waiting: BTreeMap<u64, Asked>,
    /// When the server took each waiting SUBSCRIBE.
    pub taken: BTreeMap<u64, u64>,
    pub topics: BTreeMap<u64, Held>,
    pub is_welcome: bool,
    /// The client broke a rule or said good-bye, so requests may stay unanswered.
    pub is_leaving: bool,
    pub closed: Option<u16>,
    pub last_page: Option<Page>,
    pub last_error: Option<u16>,
    steps: Vec<Step>,
    unread: Vec<u8>,
    is_upgraded: bool,
}

const UPGRADE: &str = "GET /tidewire HTTP/1.1\r\nHost: sim\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: ";

impl Client {
    pub fn new(name: usize, form: Form, id: u64, random: &mut Random) -> Self {
        let mut client = Self {
            name,
            form,
            outgoing: VecDeque::new(),
            sent_total: 0,
            requests: VecDeque::new(),
            waiting: BTreeMap::new(),
            taken: BTreeMap::new(),
            topics: BTreeMap::new(),
            is_welcome: false,
            is_leaving: false,
            closed: None,
            last_page: None,
            last_error: None,
            steps: Vec::new(),
            unread: Vec::new(),
            is_upgraded: false,
        };
        let protocol = if form == Form::Text { "tidewire.1.json" } else { "tidewire.1" };
        client.put(format!("{UPGRADE}{protocol}\r\n\r\n").as_bytes());
        client.ask(id, Asked::Connect, random);
        client
    }

    pub fn is_live(&self) -> bool {
        self.closed.is_none() && !self.is_leaving
    }

    fn put(&mut self, bytes: &[u8]) {
        self.outgoing.extend(bytes);
        self.sent_total += bytes.len() as u64;
    }

    // Asking.

    pub fn ask(&mut self, id: u64, asked: Asked, random: &mut Random) {
        let message = match self.form {
            Form::Binary { capabilities } => encode_binary(id, &asked, capabilities),
            Form::Text => encode_text(id, &asked),
        };
        match &asked {
            Asked::Subscribe { pattern } => self.steps.push(Step { id, pattern: *pattern, selects: true }),
            Asked::Unsubscribe { pattern } => self.steps.push(Step { id, pattern: *pattern, selects: false }),
            _ => {}
        }
        self.put_message(&message, random);
        if id != 0 {
            self.waiting.insert(id, asked.clone());
        }
        self.requests.push_back((self.sent_total, id, asked));
    }

    /// A message in one frame, or in fragments with a ping between them.
    pub fn put_message(&mut self, message: &[u8], random: &mut Random) {
        let opcode = if self.form == Form::Text { 1 } else { 2 };
        if message.len() < 2 || random.percent(85) {
            return self.put_frame(0x80 | opcode, message, random);
        }
        let (head, tail) = message.split_at(random.within(1, message.len() - 1));
        self.put_frame(opcode, head, random);
        if random.percent(50) {
            self.put_frame(0x89, b"?", random);
        }
        self.put_frame(0x80, tail, random);
    }

    pub fn put_frame(&mut self, first: u8, payload: &[u8], random: &mut Random) {
        let mut frame = vec![first];
        match payload.len() {
            length @ 0..126 => frame.push(0x80 | length as u8),
            length => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&(length as u16).to_be_bytes());
            }
        }
        let mask = (random.next() as u32).to_be_bytes();
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
        self.put(&frame);
    }

    /// The end of the protocol's own kind: everything queued is still sent.
    pub fn leave(&mut self, random: &mut Random) {
        self.is_leaving = true;
        match self.form {
            Form::Binary { .. } => self.put_message(&[native::op::CLOSE, 0], random),
            Form::Text => self.put_message(br#"{"op":"close"}"#, random),
        }
    }

    /// Whether the client's selections want `path`, by trying each in turn.
    pub fn wants(&self, path: &str) -> bool {
        let mut wanted = false;
        for step in &self.steps {
            if (step.pattern.matches)(path) {
                wanted = step.selects;
            }
        }
        wanted
    }

    // Listening.

    pub fn hear(&mut self, bytes: &[u8], model: &mut Model, random: &mut Random) {
        self.unread.extend_from_slice(bytes);
        if !self.is_upgraded {
            let Some(end) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") else { return };
            assert!(self.unread.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&self.unread));
            self.unread.drain(..end + 4);
            self.is_upgraded = true;
        }
        while let Some((first, payload)) = self.next_frame() {
            assert!(self.closed.is_none(), "client {} hears something behind the close", self.name);
            match first {
                0x81 | 0x82 => self.hear_message(first, &payload, model, random),
                0x88 => self.closed = Some(payload.first_chunk::<2>().map_or(1005, |code| u16::from_be_bytes(*code))),
                0x8a => {}
                other => panic!("an unexpected frame 0x{other:02x}"),
            }
        }
    }

    fn next_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let [first, short, ..] = self.unread[..] else { return None };
        let (at, length) = match short {
            126 => (4, usize::from(u16::from_be_bytes(*self.unread.get(2..4)?.first_chunk()?))),
            127 => (10, u64::from_be_bytes(*self.unread.get(2..10)?.first_chunk()?) as usize),
            short => (2, usize::from(short)),
        };
        let payload = self.unread.get(at..at + length)?.to_vec();
        self.unread.drain(..at + length);
        Some((first, payload))
    }

    fn hear_message(&mut self, first: u8, payload: &[u8], model: &mut Model, random: &mut Random) {
        assert_eq!(first == 0x81, self.form == Form::Text, "a message of the other kind");
        let heard = if first == 0x81 { vec![heard::read_text(payload)] } else { heard::read_binary(payload) };
        for heard in heard {
            self.take(heard, model, random);
        }
    }

    fn take(&mut self, heard: Heard, model: &mut Model, random: &mut Random) {
        match heard {
            Heard::Ping if self.is_leaving => {}
            Heard::Ping => match self.form {
                Form::Binary { .. } => self.put_message(&[native::op::PONG, 0], random),
                Form::Text => self.put_message(br#"{"op":"pong"}"#, random),
            },
            Heard::Pong => {}
            Heard::Welcome => {
                self.is_welcome = true;
                self.waiting.retain(|_, asked| !matches!(asked, Asked::Connect));
            }
            Heard::Ok { id, body } => self.take_answer(id, &body, model),
            Heard::Error { id, code } => self.take_error(id, code, model),
            Heard::Subscribed { topic, path, kind } => {
                let held = Held { path, kind, value: None, order: 0 };
                assert!(self.topics.insert(topic, held).is_none(), "client {} hears of topic {topic} twice", self.name);
            }
            Heard::Value { topic, value } => self.set_value(topic, value, model),
            Heard::TextValue { topic, path, json } => {
                let held = self.topics.get(&topic).unwrap_or_else(|| panic!("client {}: a value of the unknown topic {topic}", self.name));
                assert_eq!(held.path, path);
                let value = heard::stored(held.kind, &json);
                self.set_value(topic, value, model);
            }
            Heard::Delta { topic, form, delta } => self.apply_delta(topic, form, &delta, model),
            Heard::Unsubscribed { topic, reason } => {
                assert!(reason == 1 || reason == 2);
                assert!(self.topics.remove(&topic).is_some(), "client {}: the end of the unknown topic {topic}", self.name);
            }
        }
    }

    fn apply_delta(&mut self, topic: u64, form: delta::Form, delta: &[u8], model: &mut Model) {
        let Form::Binary { capabilities } = self.form else { panic!("a delta in the text form") };
        let bit = if form == delta::Form::Deflate { native::CAPABILITY_DEFLATE } else { native::CAPABILITY_COPY };
        assert!(capabilities & bit != 0, "a delta that the client cannot read");
        let held = self.topics.get(&topic).unwrap_or_else(|| panic!("client {}: a delta of the unknown topic {topic}", self.name));
        let previous = held.value.as_ref().expect("a delta has a value before it");
        let value = delta::apply(form, previous, delta, 1 << 16).expect("a delta applies to what the client has");
        let before = held.order;
        self.set_value(topic, value, model);
        assert!(self.topics[&topic].order > before, "a delta leads to a later value");
    }

    fn set_value(&mut self, topic: u64, value: Vec<u8>, model: &mut Model) {
        let name = self.name;
        let held = self.topics.get_mut(&topic).unwrap_or_else(|| panic!("client {name}: a value of the unknown topic {topic}"));
        let order = model.check_delivered(topic, &held.path, &value);
        assert!(order >= held.order, "client {name}: the values of {} go backwards", held.path);
        held.order = order;
        held.value = Some(value);
    }

    fn take_answer(&mut self, id: u64, body: &Body, model: &mut Model) {
        let asked = self.waiting.remove(&id).unwrap_or_else(|| panic!("client {}: an answer to {id}, which nothing waits for", self.name));
        match asked {
            Asked::Connect | Asked::Nonsense => panic!("OK is no answer to this"),
            Asked::Update { path, .. } => model.note_acknowledged(id, path),
            Asked::Remove { .. } => {
                body.removed();
                model.note_removed(id);
            }
            Asked::Subscribe { pattern } => self.check_complete(id, pattern, model),
            Asked::Unsubscribe { .. } => self.check_ended(id),
            Asked::Fetch { pattern, after, first, with_values } => {
                let (rows, has_more) = body.page(with_values);
                check_page(&rows, pattern, &after, first);
                self.last_page = Some(Page { rows, has_more });
            }
        }
    }

    /// SUBSCRIBE is answered: what stood when it was taken, and still does, is here.
    fn check_complete(&mut self, id: u64, pattern: Pattern, model: &Model) {
        let taken = self.taken.remove(&id).expect("what is answered was taken");
        if self.has_other_selections_waiting(id) {
            return;
        }
        for path in crate::model::PATHS.into_iter().filter(|path| (pattern.matches)(path) && self.wants(path)) {
            if model.stood_since(path, taken) {
                let is_here = self.topics.values().any(|held| held.path == path);
                assert!(is_here, "client {}: '{}' is answered, but {path} is not here", self.name, pattern.text);
            }
        }
    }

    /// UNSUBSCRIBE is answered: nothing is held that is not wanted.
    fn check_ended(&self, id: u64) {
        if !self.has_other_selections_waiting(id) {
            for held in self.topics.values() {
                assert!(self.wants(&held.path), "client {} holds {}, which it does not want", self.name, held.path);
            }
        }
    }

    fn has_other_selections_waiting(&self, id: u64) -> bool {
        self.waiting.iter().any(|(other, asked)| *other != id && matches!(asked, Asked::Subscribe { .. } | Asked::Unsubscribe { .. }))
    }

    fn take_error(&mut self, id: u64, code: u16, model: &mut Model) {
        self.last_error = Some(code);
        match self.waiting.remove(&id) {
            Some(Asked::Update { path, value, verb, .. }) if verb != Verb::Add => model.note_refused(path, &value),
            Some(Asked::Subscribe { .. } | Asked::Unsubscribe { .. }) => {
                assert_eq!(code, 300, "the selectors are well formed");
                self.steps.retain(|step| step.id != id);
            }
            Some(Asked::Remove { .. } | Asked::Fetch { .. } | Asked::Connect) => panic!("client {}: refused with {code}", self.name),
            Some(_) => {}
            None => assert_eq!(id, 0, "client {}: an error to {id}, which nothing waits for", self.name),
        }
    }
}

fn check_page(rows: &[Row], pattern: Pattern, after: &str, first: u64) {
    let mut last = after;
    for (path, ..) in rows {
        assert!((pattern.matches)(path), "'{}' does not select {path}", pattern.text);
        assert!(last.is_empty() || in_path_order(last, path), "{path} comes behind {last}");
        last = path;
    }
    assert!(first == 0 || rows.len() as u64 <= first);
}

fn encode_binary(id: u64, asked: &Asked, capabilities: u64) -> Vec<u8> {
    let request = match asked {
        Asked::Connect => Request::Connect { id, version: native::VERSION, name: "sim".into(), capabilities },
        Asked::Update { verb, path, kind, value } => {
            let value = if *verb == Verb::Add { &[][..] } else { value };
            Request::Update { id, verb: *verb, path: (*path).into(), kind: *kind as u8, value: value.into(), properties: 0 }
        }
        Asked::Remove { pattern } => Request::Remove { id, selector: pattern.text.into() },
        Asked::Subscribe { pattern } => Request::Subscribe { id, selector: pattern.text.into(), scope: "".into() },
        Asked::Unsubscribe { pattern } => Request::Unsubscribe { id, selector: pattern.text.into(), scope: "".into() },
        Asked::Fetch { pattern, after, first, with_values } => {
            Request::Fetch { id, selector: pattern.text.into(), after: after.into(), first: *first, with_values: *with_values }
        }
        Asked::Nonsense => return nonsense(id),
    };
    let mut bytes = Vec::new();
    native::put_request(&mut bytes, &request);
    bytes
}

/// Frames whose bodies are not what their operations want, and one of an operation that is not there.
fn nonsense(id: u64) -> Vec<u8> {
    let mut body = Vec::new();
    tidewire::wire::varint::put(&mut body, id);
    let (op, tail): (u8, &[u8]) =
        [(0x7f, &b"x"[..]), (0x11, b"\x05ab"), (0x18, b""), (0x14, b"\x01a\x00"), (0x18, b"\x01a\x01s")][id as usize % 5];
    body.extend_from_slice(tail);
    let mut frame = vec![op, body.len() as u8];
    frame.extend_from_slice(&body);
    frame
}

fn encode_text(id: u64, asked: &Asked) -> Vec<u8> {
    let quoted = |text: &str| serde_json::to_string(text).expect("a string is JSON");
    let text = match asked {
        Asked::Connect => format!(r#"{{"op":"connect","id":{id},"version":1}}"#),
        Asked::Update { verb, path, kind, value } => {
            let op = match verb {
                Verb::Add => "add",
                Verb::Set => "set",
                Verb::AddAndSet => "add_and_set",
            };
            let mut json = Vec::new();
            scalar::append_json(*kind, value, &mut json);
            let json = String::from_utf8(json).expect("JSON is UTF-8");
            format!(r#"{{"op":"{op}","id":{id},"path":{},"type":"{}","value":{json}}}"#, quoted(path), kind.name())
        }
        Asked::Remove { pattern } => format!(r#"{{"op":"remove","id":{id},"selector":{}}}"#, quoted(pattern.text)),
        Asked::Subscribe { pattern } => format!(r#"{{"op":"subscribe","id":{id},"selector":{}}}"#, quoted(pattern.text)),
        Asked::Unsubscribe { pattern } => format!(r#"{{"op":"unsubscribe","id":{id},"selector":{}}}"#, quoted(pattern.text)),
        Asked::Fetch { pattern, after, first, with_values } => {
            let (selector, after) = (quoted(pattern.text), quoted(after));
            format!(r#"{{"op":"fetch","id":{id},"selector":{selector},"after":{after},"first":{first},"values":{with_values}}}"#)
        }
        Asked::Nonsense => format!(r#"{{"op":"frobnicate","id":{id}}}"#),
    };
    text.into_bytes()
}

pub fn everything() -> Pattern {
    PATTERNS.into_iter().find(|pattern| pattern.text == "?.*//").expect("it is one of them")
}
