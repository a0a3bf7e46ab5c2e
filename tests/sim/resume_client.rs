//! A simulated client whose session outlives its connections: it counts messages and requests, comes back by its token, and checks that nothing is
//! missed and nothing comes twice.
//!
//! Each topic is written by one client, with numbers that grow by one. So what a subscriber hears of a topic whose values may not give way is unbroken
//! exactly where every request is carried out once and every message arrives once.

use crate::ask::{Asked, encode_binary, encode_text};
use crate::client::{Form, UPGRADE};
use crate::heard::{self, Heard, HeardEvent};
use crate::random::Random;
use crate::resume_topics::{Kind, Ledger, Own};
use crate::talk::Talk;
use crate::topics::Pattern;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tidewire::surface::base::Time;
use tidewire::surface::value::{ValueType, delta};
use tidewire::surface::wire::native::{self, Ask, Request};

const CANNOT_RESUME: u16 = 107;
/// Requests that are sent again go so many at a time.
const BATCH_BYTES_MAX: usize = 600;

/// A topic as the client holds it.
struct Held {
    path: String,
    kind: Kind,
    value: Vec<u8>,
    /// The number of the last value.
    last: Option<u64>,
    /// Values were lost since.
    has_gap: bool,
}

pub struct Resumer {
    pub name: usize,
    pub form: Form,
    pub stay_ms: u64,
    /// It says what it has processed only when nothing moves any more.
    pub is_lazy: bool,
    /// It does nothing of its own.
    pub is_steady: bool,
    pub recovery_bytes_max: usize,
    /// Its connection.
    pub wire: Option<usize>,
    pub outgoing: VecDeque<u8>,
    /// WELCOME has come.
    pub is_open: bool,
    /// The server has ended a connection, so that nobody knows since when the session is away.
    pub was_closed: bool,
    /// The code of the last end that it was told of.
    pub close_code: Option<u16>,
    /// Its session may be over before its time.
    pub may_lose_session: bool,
    /// The error that its CONNECT is to be answered with.
    pub expected_refusal: Option<u16>,
    pub token: String,
    /// What it has heard of other clients, where it has to do with them, and in which of its sessions.
    pub talk: Option<Vec<(usize, Talk)>>,
    connect_id: u64,
    /// When a connection was lost by which the session went on.
    lost: Option<Time>,
    /// Sessions that it has had, or is about to have.
    pub sessions: usize,
    pub resumed: usize,
    is_leaving: bool,
    unread: Vec<u8>,
    is_upgraded: bool,
    // Messages.
    pub processed: u64,
    said: u64,
    bytes_unsaid: usize,
    // Requests.
    /// Those that the server may not know.
    log: VecDeque<Vec<u8>>,
    /// How many the server knows, as far as the client knows.
    pub received: u64,
    /// How many were ever sent.
    sent: u64,
    /// Those of the log that were sent by this connection.
    given: usize,
    /// The server knows all that were sent before, so others need not wait for WELCOME.
    goes_ahead: bool,
    pub waiting: BTreeMap<u64, Asked>,
    steps: Vec<(Pattern, bool)>,
    pub own: Vec<Own>,
    /// So many topics of most kinds it writes.
    pub breadth: usize,
    /// Told of topics that a listener selects.
    pub noticed: Option<BTreeSet<String>>,
    topics: BTreeMap<u64, Held>,
    /// The last number heard of each path.
    seen: BTreeMap<String, u64>,
    /// The topic whose newest value has to come next.
    owed: Option<u64>,
    pub gaps: usize,
    pub values: usize,
}

impl Resumer {
    pub fn new(name: usize, form: Form, stay_ms: u64) -> Self {
        Self {
            name,
            form,
            stay_ms,
            is_lazy: false,
            is_steady: false,
            recovery_bytes_max: usize::MAX,
            wire: None,
            outgoing: VecDeque::new(),
            is_open: false,
            was_closed: false,
            close_code: None,
            may_lose_session: false,
            expected_refusal: None,
            token: String::new(),
            talk: None,
            connect_id: 0,
            lost: None,
            sessions: 1,
            resumed: 0,
            is_leaving: false,
            unread: Vec::new(),
            is_upgraded: false,
            processed: 0,
            said: 0,
            bytes_unsaid: 0,
            log: VecDeque::new(),
            received: 0,
            sent: 0,
            given: 0,
            goes_ahead: false,
            waiting: BTreeMap::new(),
            steps: Vec::new(),
            own: Vec::new(),
            breadth: 1,
            noticed: None,
            topics: BTreeMap::new(),
            seen: BTreeMap::new(),
            owed: None,
            gaps: 0,
            values: 0,
        }
    }

    /// The session is over: a new one knows nothing of it, and writes other topics.
    fn begin_anew(&mut self) {
        let (sessions, resumed, gaps, values) = (self.sessions + 1, self.resumed, self.gaps, self.values);
        let fresh = Self { sessions, resumed, gaps, values, wire: self.wire, ..Self::new(self.name, self.form, self.stay_ms) };
        let (is_lazy, recovery_bytes_max, may_lose_session, breadth) =
            (self.is_lazy, self.recovery_bytes_max, self.may_lose_session, self.breadth);
        let (connect_id, unread, talk) = (self.connect_id, std::mem::take(&mut self.unread), self.talk.take());
        *self = Self { is_lazy, recovery_bytes_max, may_lose_session, breadth, connect_id, unread, talk, is_upgraded: true, ..fresh };
    }

    /// Requests that wait for a connection.
    pub fn unsaid(&self) -> usize {
        self.log.len() - self.given
    }

    /// Whether requests went with a CONNECT that is not answered.
    pub fn has_gone_ahead(&self) -> bool {
        !self.is_open && self.given > 0
    }

    pub fn is_gone(&self) -> bool {
        self.is_leaving
    }

    // Connections.

    /// A new connection: CONNECT, and at times requests in the same message. Those may be only such as were never sent.
    pub fn connect(&mut self, id: u64, random: &mut Random) {
        self.outgoing.clear();
        self.unread.clear();
        (self.is_upgraded, self.is_open, self.connect_id, self.given) = (false, false, id, 0);
        let protocol = if self.form == Form::Text { "tidewire.1.json" } else { "tidewire.1" };
        self.outgoing.extend(format!("{UPGRADE}{protocol}\r\n\r\n").as_bytes());
        let mut batch = vec![self.connect_request()];
        self.goes_ahead = !self.token.is_empty() && self.sent == self.received && random.percent(50);
        if self.goes_ahead {
            let count = random.within(1, 3).min(self.log.len());
            batch.extend(self.log.iter().take(count).cloned());
            self.given = count;
            self.sent = self.received + count as u64;
        }
        self.put_batch(&batch, random);
    }

    fn connect_request(&self) -> Vec<u8> {
        let (id, token, processed, resume_ms) = (self.connect_id, &self.token, self.processed, self.stay_ms);
        let Form::Binary { capabilities } = self.form else {
            let text =
                format!(r#"{{"op":"connect","id":{id},"version":1,"resume_ms":{resume_ms},"token":"{token}","processed":{processed}}}"#);
            return text.into_bytes();
        };
        let ask = Ask::Connect {
            version: native::VERSION,
            name: "sim".into(),
            capabilities,
            resume_ms,
            token: token.into(),
            processed,
            properties: Vec::new(),
            durable: false,
            about: Box::default(),
        };
        let mut bytes = Vec::new();
        native::put_request(&mut bytes, &Request { id, ask });
        bytes
    }

    pub fn lose_connection(&mut self, now: Time) {
        if self.is_open {
            self.lost = Some(now);
        }
        (self.wire, self.is_open, self.goes_ahead) = (None, false, false);
        self.outgoing.clear();
        self.unread.clear();
    }

    // Asking.

    pub fn ask(&mut self, id: u64, asked: Asked) {
        let message = match self.form {
            Form::Binary { capabilities } => encode_binary(id, &asked, capabilities),
            // What lacks a member is a request too.
            Form::Text if matches!(asked, Asked::Nonsense) && id.is_multiple_of(2) => {
                format!(r#"{{"op":"subscribe","id":{id}}}"#).into_bytes()
            }
            Form::Text => encode_text(id, &asked),
        };
        match &asked {
            Asked::Subscribe { pattern, .. } => self.steps.push((*pattern, true)),
            Asked::Unsubscribe { pattern, .. } => self.steps.push((*pattern, false)),
            _ => {}
        }
        self.log.push_back(message);
        if id != 0 {
            self.waiting.insert(id, asked);
        }
    }

    /// What it has to say goes into its connection: requests once WELCOME has told which the server knows.
    pub fn write(&mut self, random: &mut Random) {
        while (self.is_open || self.goes_ahead) && self.given < self.log.len() {
            let (mut bytes, mut batch) = (0, Vec::new());
            for request in self.log.iter().skip(self.given).take(random.within(1, 4)) {
                bytes += request.len() + 1;
                if bytes <= BATCH_BYTES_MAX || batch.is_empty() {
                    batch.push(request.clone());
                }
            }
            self.given += batch.len();
            self.sent = self.sent.max(self.received + self.given as u64);
            self.put_batch(&batch, random);
        }
    }

    /// Several requests in one message.
    fn put_batch(&mut self, batch: &[Vec<u8>], random: &mut Random) {
        let message = match batch {
            [one] => one.clone(),
            many if self.form == Form::Text => [b"[", &*many.join(&b','), b"]"].concat(),
            many => many.concat(),
        };
        self.put_message(&message, random);
    }

    fn put_message(&mut self, message: &[u8], random: &mut Random) {
        let opcode = if self.form == Form::Text { 1 } else { 2 };
        if message.len() < 2 || random.percent(85) {
            return self.put_frame(0x80 | opcode, message, random);
        }
        let (head, tail) = message.split_at(random.within(1, message.len() - 1));
        self.put_frame(opcode, head, random);
        self.put_frame(0x80, tail, random);
    }

    fn put_frame(&mut self, first: u8, payload: &[u8], random: &mut Random) {
        self.outgoing.push_back(first);
        match payload.len() {
            length @ 0..126 => self.outgoing.push_back(0x80 | length as u8),
            length => {
                self.outgoing.push_back(0x80 | 126);
                self.outgoing.extend((length as u16).to_be_bytes());
            }
        }
        let mask = (random.next() as u32).to_be_bytes();
        self.outgoing.extend(mask);
        self.outgoing.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
    }

    fn put_bare(&mut self, name: &str, op: u8, random: &mut Random) {
        match self.form {
            Form::Binary { .. } => self.put_message(&[op, 0], random),
            Form::Text => self.put_message(format!(r#"{{"op":"{name}"}}"#).as_bytes(), random),
        }
    }

    pub fn ping(&mut self, random: &mut Random) {
        self.put_bare("ping", native::op::PING, random);
    }

    /// The session ends, when all that waits for it is sent.
    pub fn leave(&mut self, random: &mut Random) {
        self.write(random);
        self.is_leaving = true;
        self.put_bare("close", native::op::CLOSE, random);
    }

    /// Says what it has processed, if that is news. Whether it was.
    pub fn acknowledge(&mut self, random: &mut Random) -> bool {
        if !self.is_open || self.said == self.processed || self.is_leaving {
            return false;
        }
        self.say_processed(self.processed, random);
        true
    }

    pub fn say_processed(&mut self, messages: u64, random: &mut Random) {
        (self.said, self.bytes_unsaid) = (messages, 0);
        if self.form == Form::Text {
            return self.put_message(format!(r#"{{"op":"processed","messages":{messages}}}"#).as_bytes(), random);
        }
        let mut bytes = Vec::new();
        native::put_request(&mut bytes, &Request { id: 0, ask: Ask::Processed { messages } });
        self.put_message(&bytes, random);
    }

    pub fn wants(&self, path: &str) -> bool {
        self.steps.iter().rev().find(|(pattern, _)| (pattern.matches)(path)).is_some_and(|(_, selects)| *selects)
    }

    // Listening.

    pub fn hear(&mut self, bytes: &[u8], ledger: &mut Ledger, now: Time, random: &mut Random) {
        self.unread.extend_from_slice(bytes);
        if !self.is_upgraded {
            let Some(end) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") else { return };
            // Its head may be read when the time for that is over.
            if self.unread.starts_with(b"HTTP/1.1 408 ") {
                return;
            }
            assert!(self.unread.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&self.unread));
            self.unread.drain(..end + 4);
            self.is_upgraded = true;
        }
        while let Some((first, payload)) = heard::next_frame(&mut self.unread) {
            match first {
                0x81 | 0x82 => self.hear_message(first, &payload, ledger, now, random),
                // By an earlier one of its connections, too: the server may read that one's CONNECT late.
                0x88 => {
                    self.was_closed = true;
                    self.close_code = payload.first_chunk::<2>().map(|code| u16::from_be_bytes(*code));
                }
                other => panic!("an unexpected frame 0x{other:02x}"),
            }
        }
        if !self.is_lazy && self.bytes_unsaid > self.recovery_bytes_max / 2 {
            self.acknowledge(random);
        }
    }

    fn hear_message(&mut self, first: u8, payload: &[u8], ledger: &mut Ledger, now: Time, random: &mut Random) {
        assert_eq!(first == 0x81, self.form == Form::Text, "a message of the other kind");
        let heard = if first == 0x81 { vec![heard::read_text(payload)] } else { heard::read_binary(payload) };
        if !self.is_open {
            return heard.into_iter().for_each(|heard| self.hear_greeting(heard, now, random));
        }
        for heard in heard {
            self.take(heard, ledger, random);
        }
        self.processed += 1;
        self.bytes_unsaid += payload.len();
    }

    /// What comes before the session is there.
    fn hear_greeting(&mut self, heard: Heard, now: Time, random: &mut Random) {
        match heard {
            Heard::Welcome { session, token, requests } => {
                self.hear_welcome(token, requests);
                self.note_talk(Talk::Begun { session });
            }
            Heard::Error { id, code } if id == self.connect_id && self.expected_refusal == Some(code) => self.expected_refusal = None,
            Heard::Error { id, code } if id == self.connect_id => {
                assert_eq!(code, CANNOT_RESUME, "client {} counts wrong", self.name);
                let is_late = self.lost.is_none_or(|lost| now >= lost.after_ms(self.stay_ms));
                assert!(is_late || self.was_closed || self.may_lose_session, "client {} came back in time, and is refused", self.name);
                self.begin_anew();
                let connect = self.connect_request();
                self.put_message(&connect, random);
            }
            // What was sent with a CONNECT that was refused.
            Heard::Error { .. } => {}
            Heard::Pong => {}
            other => panic!("client {} hears {other:?} before WELCOME", self.name),
        }
    }

    fn hear_welcome(&mut self, token: String, requests: Option<u64>) {
        assert!(!token.is_empty(), "it asked for a session that stays");
        assert!(!std::mem::replace(&mut self.is_open, true), "WELCOME comes once");
        self.was_closed = false;
        self.lost = None;
        if self.token.is_empty() {
            assert_eq!(requests, None, "a new session");
            self.token = token;
            return;
        }
        assert_eq!(token, self.token, "the same session");
        self.resumed += 1;
        let requests = requests.expect("a session that goes on has a count");
        assert!(requests >= self.received && requests <= self.sent, "{requests} requests are none of {}..={}", self.received, self.sent);
        if self.given > 0 {
            assert_eq!(requests, self.received, "the server knew them all before CONNECT");
        } else {
            self.drop_received(requests);
        }
    }

    /// The server knows so many requests.
    fn drop_received(&mut self, requests: u64) {
        let news = requests.saturating_sub(self.received) as usize;
        self.log.drain(..news);
        self.given = self.given.saturating_sub(news);
        self.received += news as u64;
    }

    fn note_talk(&mut self, talk: Talk) {
        if let Some(heard) = &mut self.talk {
            heard.push((self.sessions, talk));
        }
    }

    fn take(&mut self, heard: Heard, ledger: &mut Ledger, random: &mut Random) {
        let owed = self.owed.take();
        match heard {
            Heard::Ping => self.put_bare("pong", native::op::PONG, random),
            Heard::Pong => {}
            Heard::Received { requests } => {
                assert!(requests <= self.received + self.given as u64, "the server knows more requests than were sent");
                self.drop_received(requests);
            }
            Heard::Ok { id, body } => {
                let asked = self.waiting.remove(&id).unwrap_or_else(|| panic!("client {}: {id} is answered twice", self.name));
                match asked {
                    Asked::Append { value, .. } => assert_eq!(body.sequence() + 1, number_of(&value), "an event is appended once"),
                    Asked::Said(said) => self.note_talk(Talk::Answered { id, said, result: Ok(body) }),
                    _ => {}
                }
            }
            Heard::Told(told) => self.note_talk(Talk::Told(told)),
            Heard::Error { id: 0, code } if self.talk.is_some() => self.note_talk(Talk::Refused(code)),
            Heard::Error { id, code } => {
                let asked = self.waiting.remove(&id).unwrap_or_else(|| panic!("client {}: {id} is refused twice with {code}", self.name));
                if let Asked::Said(said) = asked {
                    return self.note_talk(Talk::Answered { id, said, result: Err(code) });
                }
                assert!(matches!(asked, Asked::Nonsense), "client {}: {asked:?} is refused with {code}", self.name);
            }
            Heard::TopicNotice { what, path, .. } => {
                let noticed = self.noticed.as_mut().expect("it listens");
                let is_news = if what == 1 || what == 3 { noticed.insert(path.clone()) } else { noticed.remove(&path) };
                assert!(is_news, "client {} is told {what} of {path} twice", self.name);
            }
            Heard::DescendantNotice { .. } => {}
            topic_event => {
                let topic = self.take_topic_event(topic_event, ledger);
                return assert!(owed.is_none_or(|owed| owed == topic), "the newest value follows a gap");
            }
        }
        assert_eq!(owed, None, "the newest value follows a gap");
    }

    /// Gives the topic.
    fn take_topic_event(&mut self, heard: Heard, ledger: &mut Ledger) -> u64 {
        match heard {
            Heard::Subscribed { topic, path, .. } => {
                assert!(!self.topics.values().any(|held| held.path == path), "client {} is subscribed to {path} twice", self.name);
                let kind = Kind::of_path(&path);
                let held = Held { path, kind, value: Vec::new(), last: None, has_gap: false };
                assert!(self.topics.insert(topic, held).is_none(), "client {} hears of topic {topic} twice", self.name);
                topic
            }
            Heard::Value { topic, value } | Heard::Deflated { topic, value } => self.set_value(topic, value, ledger),
            Heard::TextValue { topic, json, .. } => {
                let value = heard::stored(ValueType::String, &json).expect("no value is null");
                self.set_value(topic, value, ledger)
            }
            Heard::Delta { topic, form, delta } => {
                let value = delta::apply(form, &self.held(topic).value, &delta, 1 << 16).expect("a delta applies to what the client has");
                self.set_value(topic, value, ledger)
            }
            Heard::Event { topic, event } => self.take_event(topic, event, ledger),
            Heard::TextEvent { topic, mut event, json, .. } => {
                event.value = heard::stored(ValueType::String, &json).expect("an event is never null");
                self.take_event(topic, event, ledger)
            }
            Heard::Gap { topic } => {
                let held = self.held(topic);
                assert!(held.kind.keeps_all(), "{} may be conflated, and has no gap", held.path);
                held.has_gap = true;
                if held.kind != Kind::Series {
                    self.owed = Some(topic);
                }
                self.gaps += 1;
                topic
            }
            Heard::Unsubscribed { topic, reason } => {
                let held = self.topics.remove(&topic).unwrap_or_else(|| panic!("client {}: the end of an unknown topic", self.name));
                let is_end = reason != REMOVED
                    || !held.kind.keeps_all()
                    || held.has_gap
                    || ledger.has_interests_lost
                    || ledger.is_end(&held.path, held.last);
                assert!(is_end, "client {}: {} ends behind {:?}, which was not its last value", self.name, held.path, held.last);
                topic
            }
            other => panic!("client {} hears {other:?}", self.name),
        }
    }

    fn held(&mut self, topic: u64) -> &mut Held {
        let name = self.name;
        self.topics.get_mut(&topic).unwrap_or_else(|| panic!("client {name}: something of the unknown topic {topic}"))
    }

    fn take_event(&mut self, topic: u64, event: HeardEvent, ledger: &mut Ledger) -> u64 {
        assert_eq!(event.sequence + 1, number_of(&event.value), "an event is appended once");
        assert_eq!(self.held(topic).kind, Kind::Series);
        self.set_value(topic, event.value, ledger)
    }

    fn set_value(&mut self, topic: u64, value: Vec<u8>, ledger: &mut Ledger) -> u64 {
        let (name, number) = (self.name, number_of(&value));
        self.values += 1;
        let held = self.held(topic);
        ledger.check_written(&held.path, number);
        if let Some(last) = held.last {
            let may_skip = held.has_gap || !held.kind.keeps_all() || ledger.has_interests_lost && held.kind != Kind::Series;
            let is_next = if may_skip { number > last } else { number == last + 1 };
            assert!(is_next, "client {name}: {} goes from {last} to {number}", held.path);
        }
        (held.last, held.value, held.has_gap) = (Some(number), value, false);
        let path = held.path.clone();
        let seen = self.seen.entry(path).or_default();
        assert!(*seen <= number || Kind::of_path(&self.topics[&topic].path) == Kind::Series, "client {name} hears {number} behind {seen}");
        *seen = number.max(*seen);
        topic
    }

    // At rest.

    /// Everything has come: no request is unknown or unanswered, and each topic of `found` that it wants is held with its last value.
    pub fn check_at_rest(&self, found: &BTreeMap<String, Option<u64>>) {
        let name = self.name;
        assert!(self.waiting.is_empty(), "client {name} waits for {:?}", self.waiting);
        assert_eq!((self.received, self.log.len()), (self.sent, 0), "client {name}: all requests are received, and it is told so");
        // Nothing follows a gap of a time series but what is appended later.
        let last =
            |held: &Held| if held.kind == Kind::Series && held.has_gap { found.get(&held.path).copied().flatten() } else { held.last };
        let held: BTreeMap<&str, Option<u64>> = self.topics.values().map(|held| (held.path.as_str(), last(held))).collect();
        let wanted: BTreeMap<&str, Option<u64>> =
            found.iter().filter(|(path, _)| self.wants(path)).map(|(path, number)| (path.as_str(), *number)).collect();
        assert_eq!(held, wanted, "client {name}");
        for own in &self.own {
            assert_eq!(found.get(own.path).copied(), own.stands.then_some(Some(own.number)), "what client {name} wrote at {}", own.path);
        }
        if let Some(noticed) = &self.noticed {
            let listened: BTreeSet<String> = found.keys().filter(|path| Kind::of_path(path) == Kind::Off).cloned().collect();
            assert_eq!(*noticed, listened, "what client {name} was told as a listener");
        }
    }
}

const REMOVED: u8 = 2;

/// The number that a value begins with.
pub fn number_of(value: &[u8]) -> u64 {
    let text = std::str::from_utf8(value).expect("values are text");
    text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("a value without a number: {text}"))
}
