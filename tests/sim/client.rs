//! A simulated client: asks, listens, and checks everything that it hears against the model and its own copy.

use crate::ask::{Asked, Wanted, encode_binary, encode_text};
use crate::heard::{self, Body, Heard, HeardEvent, HeardView, Properties, Row, property};
use crate::model::{Model, Setting, Taken};
use crate::random::Random;
use crate::topics::{Pattern, TIME_SERIES, in_path_order, value_kind};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tidewire::surface::value::{ValueType, delta};
use tidewire::surface::wire::native;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Binary { capabilities: u64 },
    Text,
}

/// A topic as the client holds it.
pub struct Held {
    pub path: String,
    pub number: u8,
    pub kind: ValueType,
    pub properties: Properties,
    /// Of a series the latest event's.
    pub value: Option<Vec<u8>>,
    /// Of a series, from the first that came.
    pub events: Vec<HeardEvent>,
    /// How many values came, null too.
    pub updates: usize,
    order: u64,
}

/// What listeners are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    Topic { what: u8, path: String },
    Descendant { what: u8, path: String },
    Subscribers { path: String, has_subscribers: bool },
    Missing { selector: String, session: String },
}

pub struct Page {
    pub rows: Vec<Row>,
    pub has_more: bool,
}

struct Step {
    id: u64,
    pattern: Pattern,
    /// `None`: in every scope.
    scope: Option<&'static str>,
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
    /// Paths whose subscriptions ended because the client fell behind.
    pub ended_under_pressure: BTreeSet<String>,
    pub session: Option<String>,
    /// The client broke a rule or said good-bye, so requests may stay unanswered.
    pub is_leaving: bool,
    pub closed: Option<u16>,
    pub last_page: Option<Page>,
    /// Whether nothing was left out, and the events.
    pub last_events: Option<(bool, Vec<HeardEvent>)>,
    /// And whether there are more.
    pub last_views: Option<(Vec<HeardView>, bool)>,
    pub last_error: Option<u16>,
    /// The answer to each request that was not a page, events or a selection: an error's code, or none.
    pub answers: BTreeMap<u64, Option<u16>>,
    /// The numbers of the grants that answered each LOCK, and whether what each UNLOCK named was held.
    pub grants: BTreeMap<u64, u64>,
    pub released: BTreeMap<u64, bool>,
    pub notices: Vec<(u64, Notice)>,
    /// The paths of all values, nulls and events, in the order in which they came.
    pub log: Vec<String>,
    /// The paths of all values and events that came, when they were published, and by what they came.
    pub seen: Vec<(String, u64, &'static str)>,
    /// Its paths may mean other topics than those at them, or not be there for it.
    pub is_mapped: bool,
    /// It may be refused for want of permission.
    pub may_be_denied: bool,
    steps: Vec<Step>,
    unread: Vec<u8>,
    is_upgraded: bool,
}

pub const UPGRADE: &str = "GET /tidewire HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
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
            ended_under_pressure: BTreeSet::new(),
            session: None,
            is_leaving: false,
            closed: None,
            last_page: None,
            last_events: None,
            last_views: None,
            last_error: None,
            answers: BTreeMap::new(),
            grants: BTreeMap::new(),
            released: BTreeMap::new(),
            notices: Vec::new(),
            log: Vec::new(),
            seen: Vec::new(),
            is_mapped: false,
            may_be_denied: false,
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

    /// The topic held at a path.
    pub fn held(&self, path: &str) -> Option<&Held> {
        self.topics.values().find(|held| held.path == path)
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
            Asked::Subscribe { pattern, scope } => {
                self.steps.push(Step { id, pattern: *pattern, scope: Some(scope), selects: true });
            }
            Asked::Unsubscribe { pattern, scope } => self.steps.push(Step { id, pattern: *pattern, scope: *scope, selects: false }),
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

    /// Whether any scope's selections want `path`, by trying each in turn.
    pub fn wants(&self, path: &str) -> bool {
        let scopes: BTreeSet<&str> = self.steps.iter().filter_map(|step| step.scope).collect();
        scopes.into_iter().any(|scope| {
            let mut wanted = false;
            for step in self.steps.iter().filter(|step| step.scope.is_none_or(|of| of == scope)) {
                if (step.pattern.matches)(path) {
                    wanted = step.selects;
                }
            }
            wanted
        })
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
        while let Some((first, payload)) = heard::next_frame(&mut self.unread) {
            assert!(self.closed.is_none(), "client {} hears something behind the close", self.name);
            match first {
                0x81 | 0x82 => self.hear_message(first, &payload, model, random),
                0x88 => self.closed = Some(payload.first_chunk::<2>().map_or(1005, |code| u16::from_be_bytes(*code))),
                0x8a => {}
                other => panic!("an unexpected frame 0x{other:02x}"),
            }
        }
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
            Heard::Received { .. } | Heard::Gap { .. } => panic!("it asked for no session that stays"),
            Heard::Told(told) => panic!("it asked nobody, and handles nothing: {told:?}"),
            Heard::Welcome { session, .. } => {
                self.session = Some(session);
                self.waiting.retain(|_, asked| !matches!(asked, Asked::Connect));
            }
            Heard::Ok { id, body } => self.take_answer(id, &body, model),
            Heard::Error { id, code } => self.take_error(id, code, model),
            Heard::TopicNotice { listener, what, path } => self.notices.push((listener, Notice::Topic { what, path })),
            Heard::DescendantNotice { listener, what, path } => self.notices.push((listener, Notice::Descendant { what, path })),
            Heard::SubscribersNotice { listener, path, has_subscribers } => {
                self.notices.push((listener, Notice::Subscribers { path, has_subscribers }));
            }
            Heard::MissingNotice { listener, selector, session } => self.notices.push((listener, Notice::Missing { selector, session })),
            topic_event => self.take_topic_event(topic_event, model),
        }
    }

    fn take_topic_event(&mut self, heard: Heard, model: &mut Model) {
        match heard {
            Heard::Subscribed { topic, path, number, properties } => {
                let kind = value_kind(number, &properties);
                self.ended_under_pressure.remove(&path);
                // Ends and beginnings of one lane come in their order.
                let is_twin = |held: &Held| held.path == path && held.properties == properties;
                assert!(!self.topics.values().any(is_twin), "client {} is subscribed to {path} twice", self.name);
                let held = Held { path, number, kind, properties, value: None, events: Vec::new(), updates: 0, order: 0 };
                assert!(self.topics.insert(topic, held).is_none(), "client {} hears of topic {topic} twice", self.name);
            }
            Heard::Value { topic, value } => self.set_value(topic, value, model),
            Heard::Deflated { topic, value } => {
                self.check_capability(native::CAPABILITY_COMPRESSION);
                self.set_value(topic, value, model);
            }
            Heard::Null { topic } => self.set_null(topic, model),
            Heard::TextValue { topic, path, json } => {
                let held = self.held_mut(topic);
                assert_eq!(held.path, path);
                match heard::stored(held.kind, &json) {
                    Some(value) => self.set_value(topic, value, model),
                    None => self.set_null(topic, model),
                }
            }
            Heard::Delta { topic, form, delta } => self.apply_delta(topic, form, &delta, model),
            Heard::Event { topic, event } => self.take_event(topic, event, model),
            Heard::TextEvent { topic, path, mut event, json } => {
                let held = self.held_mut(topic);
                assert_eq!(held.path, path);
                event.value = heard::stored(held.kind, &json).expect("an event is never null");
                self.take_event(topic, event, model);
            }
            Heard::Unsubscribed { topic, reason } => {
                let held = self.topics.remove(&topic);
                let held = held.unwrap_or_else(|| panic!("client {}: the end of the unknown topic {topic}", self.name));
                if reason == 3 {
                    let conflation = property(&held.properties, "CONFLATION");
                    assert_eq!(conflation, Some("unsubscribe"), "{} does not end under pressure", held.path);
                    self.ended_under_pressure.insert(held.path);
                }
            }
            other => unreachable!("{other:?} is no event of a topic"),
        }
    }

    fn held_mut(&mut self, topic: u64) -> &mut Held {
        let name = self.name;
        self.topics.get_mut(&topic).unwrap_or_else(|| panic!("client {name}: something of the unknown topic {topic}"))
    }

    fn check_capability(&self, bit: u64) {
        let Form::Binary { capabilities } = self.form else { panic!("the text form has whole values only") };
        assert!(capabilities & bit != 0, "client {} is sent what it cannot read", self.name);
    }

    fn apply_delta(&mut self, topic: u64, form: delta::Form, delta: &[u8], model: &mut Model) {
        self.check_capability(if form == delta::Form::Deflate { native::CAPABILITY_DEFLATE } else { native::CAPABILITY_COPY });
        let held = self.held_mut(topic);
        assert_eq!(property(&held.properties, "PUBLISH_VALUES_ONLY"), None, "{} has no deltas", held.path);
        let previous = held.value.as_ref().expect("a delta has a value before it");
        let value = delta::apply(form, previous, delta, 1 << 16).expect("a delta applies to what the client has");
        let before = held.order;
        self.set_value(topic, value, model);
        let is_later = self.topics[&topic].order > before || model.is_of_views();
        assert!(is_later, "a delta leads to a later value");
    }

    fn set_value(&mut self, topic: u64, value: Vec<u8>, model: &mut Model) {
        let name = self.name;
        let held = self.held_mut(topic);
        assert_ne!(held.number, TIME_SERIES, "a time series has events, no values");
        let order = model.check_delivered(topic, &held.path, &value);
        assert!(order >= held.order, "client {name}: the values of {} go backwards", held.path);
        held.order = order;
        held.value = Some(value);
        self.note(topic);
    }

    fn note(&mut self, topic: u64) {
        let held = self.held_mut(topic);
        held.updates += 1;
        let (path, order) = (held.path.clone(), held.order);
        if self.may_be_denied {
            self.seen.push((path.clone(), order, "subscription"));
        }
        self.log.push(path);
    }

    fn set_null(&mut self, topic: u64, model: &mut Model) {
        let held = self.held_mut(topic);
        // A topic that appears again is told of as it is, also to who knows that.
        let is_null_already = held.updates > 0 && held.value.is_none();
        held.order = model.check_null(&held.path, if is_null_already { held.order } else { held.order + 1 });
        held.value = None;
        self.note(topic);
    }

    fn take_event(&mut self, topic: u64, event: HeardEvent, model: &mut Model) {
        let name = self.name;
        let held = self.held_mut(topic);
        assert_eq!(held.number, TIME_SERIES, "{} has values, no events", held.path);
        if let Some(last) = held.events.last() {
            // A view may make nothing of an event.
            let is_next = last.sequence + 1 == event.sequence || last.sequence < event.sequence && model.is_of_views();
            assert!(is_next, "client {name}: the events of {} have a gap before {}", held.path, event.sequence);
            assert!(last.timestamp_ms <= event.timestamp_ms, "the timestamps of {} go backwards", held.path);
        }
        let order = model.check_delivered(topic, &held.path, &event.value);
        model.check_event(&held.path, &event);
        assert!(order > held.order, "client {name}: the events of {} go backwards", held.path);
        held.order = order;
        held.value = Some(event.value.clone());
        held.events.push(event);
        self.note(topic);
    }

    fn take_answer(&mut self, id: u64, body: &Body, model: &mut Model) {
        let asked = self.waiting.remove(&id).unwrap_or_else(|| panic!("client {}: an answer to {id}, which nothing waits for", self.name));
        match &asked {
            Asked::Connect | Asked::Said(_) | Asked::Nonsense => panic!("OK is no answer to this"),
            Asked::Update(_) | Asked::StreamOpen { .. } | Asked::StreamSet { .. } | Asked::StreamDelta { .. } => {
                let taken = Taken::of_request(&asked).expect("an update");
                model.note_acknowledged(id, &taken.path);
            }
            Asked::Append { path, value, .. } => model.note_appended(id, path, body.sequence(), value),
            Asked::Remove { .. } => {
                body.removed();
                model.note_removed(id);
            }
            Asked::Subscribe { pattern, .. } => self.check_complete(id, *pattern, model),
            Asked::Unsubscribe { .. } => self.check_ended(id),
            Asked::Fetch(wanted) => {
                let (rows, has_more) = body.page(wanted.with_values);
                check_page(&rows, wanted);
                if self.may_be_denied {
                    self.note_rows(&rows, model);
                }
                self.last_page = Some(Page { rows, has_more });
            }
            Asked::Query { path, .. } => {
                let (is_complete, events) = body.events();
                if self.may_be_denied {
                    let seen = events.iter().map(|event| (path.to_string(), model.check_delivered(0, path, &event.value), "query"));
                    self.seen.extend(seen);
                }
                self.last_events = Some((is_complete, events));
            }
            Asked::ListViews { .. } => self.last_views = Some(body.views()),
            Asked::Lock { .. } => drop(self.grants.insert(id, body.grant())),
            Asked::Unlock { .. } => drop(self.released.insert(id, body.released())),
            Asked::CreateView { .. } | Asked::RemoveView { .. } | Asked::PutSessionTree { .. } | Asked::SetProperty { .. } => {}
            Asked::ApplySecurity { .. } | Asked::ChangeRoles { .. } | Asked::Authenticate { .. } => {}
            Asked::Listen { .. } | Asked::Unlisten { .. } | Asked::StreamClose { .. } => {}
        }
        self.answers.insert(id, None);
    }

    fn note_rows(&mut self, rows: &[Row], model: &mut Model) {
        for row in rows {
            if let Some(value) = &row.value {
                self.seen.push((row.path.clone(), model.check_delivered(0, &row.path, value), "fetch"));
            }
        }
    }

    /// SUBSCRIBE is answered: what stood when it was taken, and still does, is here.
    fn check_complete(&mut self, id: u64, pattern: Pattern, model: &Model) {
        let taken = self.taken.remove(&id).expect("what is answered was taken");
        if self.has_other_selections_waiting(id) || self.is_mapped {
            return;
        }
        for path in model.paths().filter(|path| (pattern.matches)(path) && self.wants(path)) {
            if model.stood_since(path, taken) && !self.ended_under_pressure.contains(path) {
                let held = self.held(path);
                assert!(held.is_some(), "client {}: '{}' is answered, but {path} is not here", self.name, pattern.text);
                // Those of one that falls behind may be dropped before its subscription ends.
                let may_lose = |held: &Held| property(&held.properties, "CONFLATION") == Some("unsubscribe");
                let has_events = held.is_none_or(|held| held.number != TIME_SERIES || may_lose(held) || !held.events.is_empty());
                assert!(has_events || !model.had_value_since(path, taken), "client {}: the events of {path} come late", self.name);
            }
        }
    }

    /// UNSUBSCRIBE is answered: nothing is held that is not wanted, but for ends that wait in the last lane.
    fn check_ended(&self, id: u64) {
        if !self.has_other_selections_waiting(id) {
            for held in self.topics.values().filter(|held| property(&held.properties, "PRIORITY") != Some("low")) {
                assert!(self.wants(&held.path), "client {} holds {}, which it does not want", self.name, held.path);
            }
        }
    }

    fn has_other_selections_waiting(&self, id: u64) -> bool {
        self.waiting.iter().any(|(other, asked)| *other != id && matches!(asked, Asked::Subscribe { .. } | Asked::Unsubscribe { .. }))
    }

    fn take_error(&mut self, id: u64, code: u16, model: &mut Model) {
        self.last_error = Some(code);
        let Some(asked) = self.waiting.remove(&id) else {
            return assert_eq!(id, 0, "client {}: an error to {id}, which nothing waits for", self.name);
        };
        self.answers.insert(id, Some(code));
        const ACCESS_DENIED: u16 = 110;
        match asked {
            Asked::Subscribe { .. } if self.may_be_denied && code == ACCESS_DENIED => self.steps.retain(|step| step.id != id),
            Asked::Remove { .. } | Asked::Fetch { .. } if self.may_be_denied && code == ACCESS_DENIED => {}
            Asked::Subscribe { .. } | Asked::Unsubscribe { .. } => {
                assert_eq!(code, 300, "the selectors are well formed");
                self.steps.retain(|step| step.id != id);
            }
            Asked::Remove { .. } if code == 410 => {}
            Asked::Remove { .. } | Asked::Fetch { .. } | Asked::Connect => panic!("client {}: refused with {code}", self.name),
            // What cannot be stored may be in memory.
            _ if code == 410 => {}
            other => {
                if let Some(Taken { path, setting: Setting::Value(value, _), .. }) = Taken::of_request(&other) {
                    model.note_refused(&path, &value);
                }
            }
        }
    }
}

fn check_page(rows: &[Row], wanted: &Wanted) {
    let mut last = &wanted.after;
    for row in rows {
        let path = &row.path;
        assert!((wanted.pattern.matches)(path), "'{}' does not select {path}", wanted.pattern.text);
        assert!(last.is_empty() || in_path_order(last, path), "{path} comes behind {last}");
        let size = row.value.as_ref().map(|value| value.len() as u64);
        assert!(!wanted.with_values || row.size == size, "{path} has the size {:?}, not {size:?}", row.size);
        last = path;
    }
    let most = wanted.first + wanted.last;
    assert!(most == 0 || rows.len() as u64 <= most);
}
