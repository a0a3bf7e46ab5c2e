//! What a simulated client hears: both wire forms read into one.

use crate::resume_client::number_of;
use crate::talk::{Told, number_in};
use crate::topics::{TIME_SERIES, value_kind};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::io::Read;
use tidewire::surface::value::{ValueType, delta, scalar};
use tidewire::surface::wire::native::{self, Outcome, Shown};
use tidewire::surface::wire::varint::Reader;

/// Of an event: clients have names where they are asked who they are.
fn check_author(author: &str) {
    assert!(["", "client", "another"].contains(&author), "'{author}' is no client");
}

/// The field of WELCOME that says how many requests the server knows.
const REQUESTS_TAG: u64 = 13;

/// Takes the next frame of the server's WebSocket off what was not read, where it is whole: its first byte and its payload.
pub fn next_frame(unread: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let [first, short, ..] = unread[..] else { return None };
    let (at, length) = match short {
        126 => (4, usize::from(u16::from_be_bytes(*unread.get(2..4)?.first_chunk()?))),
        127 => (10, u64::from_be_bytes(*unread.get(2..10)?.first_chunk()?) as usize),
        short => (2, usize::from(short)),
    };
    let payload = unread.get(at..at + length)?.to_vec();
    unread.drain(..at + length);
    Some((first, payload))
}

/// The body of an `OK`, as far as its form tells.
#[derive(Debug)]
pub enum Body {
    Binary(Vec<u8>),
    Text(BTreeMap<String, Box<RawValue>>),
}

pub type Properties = Vec<(String, String)>;

/// One topic of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub path: String,
    /// Of the topic's type.
    pub number: u8,
    pub value: Option<Vec<u8>>,
    pub properties: Properties,
    pub size: Option<u64>,
}

impl Row {
    pub fn property(&self, key: &str) -> Option<&str> {
        property(&self.properties, key)
    }
}

pub fn property<'a>(properties: &'a Properties, key: &str) -> Option<&'a str> {
    properties.iter().find(|(held, _)| held == key).map(|(_, value)| value.as_str())
}

/// An event of a time series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeardEvent {
    pub sequence: u64,
    pub timestamp_ms: u64,
    pub original: Option<u64>,
    pub value: Vec<u8>,
}

/// A view in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeardView {
    pub name: String,
    pub definition: String,
    pub place: u64,
}

#[derive(Debug)]
pub enum Heard {
    Ping,
    Pong,
    Welcome {
        session: String,
        /// Empty where the session ends with its connection.
        token: String,
        /// Where it goes on: requests of the client's that the server knows.
        requests: Option<u64>,
    },
    Received {
        requests: u64,
    },
    Gap {
        topic: u64,
    },
    Ok {
        id: u64,
        body: Body,
    },
    Error {
        id: u64,
        code: u16,
    },
    Subscribed {
        topic: u64,
        path: String,
        number: u8,
        properties: Properties,
    },
    Value {
        topic: u64,
        value: Vec<u8>,
    },
    Deflated {
        topic: u64,
        value: Vec<u8>,
    },
    Null {
        topic: u64,
    },
    Delta {
        topic: u64,
        form: delta::Form,
        delta: Vec<u8>,
    },
    /// The text form's value: its type is known by the topic.
    TextValue {
        topic: u64,
        path: String,
        json: String,
    },
    Event {
        topic: u64,
        event: HeardEvent,
    },
    TextEvent {
        topic: u64,
        path: String,
        event: HeardEvent,
        json: String,
    },
    Unsubscribed {
        topic: u64,
        reason: u8,
    },
    TopicNotice {
        listener: u64,
        what: u8,
        path: String,
    },
    DescendantNotice {
        listener: u64,
        what: u8,
        path: String,
    },
    SubscribersNotice {
        listener: u64,
        path: String,
        has_subscribers: bool,
    },
    MissingNotice {
        listener: u64,
        selector: String,
        session: String,
    },
    /// Of other clients.
    Told(Told),
}

fn owned(properties: &[(&str, &str)]) -> Properties {
    properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub fn read_binary(mut message: &[u8]) -> Vec<Heard> {
    let mut heard = Vec::new();
    while let Some(frame) = native::next_frame(&mut message).expect("the server sends whole frames") {
        heard.push(read_event(native::decode_event(frame).expect("the server sends events of the protocol")));
    }
    heard
}

fn read_event(event: native::Heard<'_>) -> Heard {
    match event {
        native::Heard::Ping => Heard::Ping,
        native::Heard::Pong => Heard::Pong,
        native::Heard::Welcome { session, token, limits, .. } => {
            let requests = limits.iter().find(|(tag, _)| *tag == REQUESTS_TAG).map(|(_, requests)| *requests);
            Heard::Welcome { session: session.to_owned(), token: token.to_owned(), requests }
        }
        native::Heard::Later { .. } => panic!("no more sessions begin than may"),
        native::Heard::Received { requests } => Heard::Received { requests },
        native::Heard::Gap { topic } => Heard::Gap { topic: topic.0 },
        native::Heard::Ok { id, body } => Heard::Ok { id, body: Body::Binary(body.to_vec()) },
        native::Heard::Error { id, code, .. } => Heard::Error { id, code },
        native::Heard::Subscribed { topic, path, kind, properties } => {
            Heard::Subscribed { topic: topic.0, path: path.to_owned(), number: kind, properties: owned(&properties) }
        }
        native::Heard::Value { topic, value } => Heard::Value { topic: topic.0, value: value.to_vec() },
        native::Heard::ValueDeflate { topic, deflated } => Heard::Deflated { topic: topic.0, value: inflate(deflated) },
        native::Heard::Null { topic } => Heard::Null { topic: topic.0 },
        native::Heard::Delta { topic, form, delta } => Heard::Delta { topic: topic.0, form, delta: delta.to_vec() },
        native::Heard::Event { topic, head, value } => {
            check_author(head.author);
            let (sequence, timestamp_ms, original) = (head.sequence, head.timestamp_ms, head.original);
            Heard::Event { topic: topic.0, event: HeardEvent { sequence, timestamp_ms, original, value: value.to_vec() } }
        }
        native::Heard::Unsubscribed { topic, reason } => Heard::Unsubscribed { topic: topic.0, reason },
        native::Heard::TopicNotice { listener, what, path, .. } => Heard::TopicNotice { listener, what, path: path.to_owned() },
        native::Heard::DescendantNotice { listener, what, path } => Heard::DescendantNotice { listener, what, path: path.to_owned() },
        native::Heard::SubscribersNotice { listener, path, has_subscribers } => {
            Heard::SubscribersNotice { listener, path: path.to_owned(), has_subscribers }
        }
        native::Heard::MissingNotice { listener, selector, session, .. } => {
            Heard::MissingNotice { listener, selector: selector.to_owned(), session: session.to_owned() }
        }
        native::Heard::Requested { handler, request, session, path, properties, kind, value } => Heard::Told(Told::Requested {
            handler,
            request,
            session: session.to_owned(),
            path: path.to_owned(),
            number: number_in(kind, value),
            properties: properties.len(),
        }),
        native::Heard::Response { id, session, kind, value } => {
            Heard::Told(Told::Response { id, session: session.to_owned(), number: number_in(kind, value) })
        }
        native::Heard::ResponseError { id, session, code, .. } => {
            Heard::Told(Told::ResponseError { id, session: session.to_owned(), code })
        }
        native::Heard::Staleness { .. } => panic!("nobody has told the server that it may be stale"),
        native::Heard::SessionNotice { .. }
        | native::Heard::SessionClosed { .. }
        | native::Heard::QueueNotice { .. }
        | native::Heard::PresenceNotice { .. } => {
            panic!("it listens to no sessions")
        }
        native::Heard::Unknown => panic!("the server sent an operation that the protocol does not have"),
    }
}

fn inflate(deflated: &[u8]) -> Vec<u8> {
    let mut value = Vec::new();
    flate2::read::DeflateDecoder::new(deflated).read_to_end(&mut value).expect("VALUE_DEFLATE is a raw DEFLATE stream");
    value
}

struct Members<'a> {
    text: &'a str,
    members: BTreeMap<String, Box<RawValue>>,
}

impl Members<'_> {
    fn read<T: serde::de::DeserializeOwned>(&self, name: &str) -> T {
        let member = self.members.get(name).unwrap_or_else(|| panic!("{name} is missing: {}", self.text));
        serde_json::from_str(member.get()).unwrap_or_else(|_| panic!("{name}: {}", self.text))
    }

    fn json(&self, name: &str) -> String {
        self.members[name].get().to_owned()
    }

    fn what(&self) -> u8 {
        let what: String = self.read("what");
        let place = ["added", "removed", "selected", "deselected"].iter().position(|name| *name == what);
        place.unwrap_or_else(|| panic!("there is no notice '{what}'")) as u8 + 1
    }
}

pub fn read_text(message: &[u8]) -> Heard {
    let text = std::str::from_utf8(message).expect("a text message is UTF-8");
    let members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let members = Members { text, members };
    let op: String = members.read("op");
    match op.as_str() {
        "ping" => Heard::Ping,
        "pong" => Heard::Pong,
        "welcome" => {
            let token = members.members.get("token").map(|_| members.read("token")).unwrap_or_default();
            let requests = members.members.get("requests").map(|_| members.read("requests"));
            Heard::Welcome { session: members.read("session"), token, requests }
        }
        "received" => Heard::Received { requests: members.read("requests") },
        "gap" => Heard::Gap { topic: members.read("topic") },
        "ok" => Heard::Ok { id: members.read("id"), body: Body::Text(members.members) },
        "error" => Heard::Error { id: members.read("id"), code: members.read("code") },
        "subscribed" => {
            let properties: BTreeMap<String, String> = members.read("properties");
            let number = type_number(&members.read::<String>("type"));
            Heard::Subscribed {
                topic: members.read("topic"),
                path: members.read("path"),
                number,
                properties: properties.into_iter().collect(),
            }
        }
        "value" => Heard::TextValue { topic: members.read("topic"), path: members.read("path"), json: members.json("value") },
        "event" => {
            let original = members.members.get("original").map(|_| members.read("original"));
            check_author(&members.read::<String>("author"));
            let (sequence, timestamp_ms) = (members.read("sequence"), members.read("timestamp"));
            let event = HeardEvent { sequence, timestamp_ms, original, value: Vec::new() };
            Heard::TextEvent { topic: members.read("topic"), path: members.read("path"), event, json: members.json("value") }
        }
        "unsubscribed" => {
            let reason: String = members.read("reason");
            let reasons = ["requested", "removed", "back_pressure", "branch_mappings", "access_denied"];
            let reason = reasons.iter().position(|name| *name == reason).expect("a reason") as u8 + 1;
            Heard::Unsubscribed { topic: members.read("topic"), reason }
        }
        "topic_notice" => Heard::TopicNotice { listener: members.read("listener"), what: members.what(), path: members.read("path") },
        "descendant_notice" => {
            Heard::DescendantNotice { listener: members.read("listener"), what: members.what(), path: members.read("path") }
        }
        "subscribers_notice" => {
            let has_subscribers = members.read("has_subscribers");
            Heard::SubscribersNotice { listener: members.read("listener"), path: members.read("path"), has_subscribers }
        }
        "missing_notice" => {
            let (selector, session) = (members.read("selector"), members.read("session"));
            Heard::MissingNotice { listener: members.read("listener"), selector, session }
        }
        "requested" | "response" | "response_error" => Heard::Told(read_told(&members, &op)),
        other => panic!("the server sent '{other}': {text}"),
    }
}

fn read_told(members: &Members<'_>, op: &str) -> Told {
    let number = || number_of(members.read::<String>("value").as_bytes());
    let session = members.read("session");
    match op {
        "requested" => Told::Requested {
            handler: members.read("handler"),
            request: members.read("request"),
            session,
            path: members.read("path"),
            number: number(),
            properties: members.read::<BTreeMap<String, String>>("properties").len(),
        },
        "response" => Told::Response { id: members.read("id"), session, number: number() },
        _ => Told::ResponseError { id: members.read("id"), session, code: members.read("code") },
    }
}

fn type_number(name: &str) -> u8 {
    if name == "time_series" { TIME_SERIES } else { ValueType::from_name(name).expect("a type of the protocol") as u8 }
}

/// A value's stored form; `None` for null.
pub fn stored(kind: ValueType, json: &str) -> Option<Vec<u8>> {
    if json == "null" && kind != ValueType::Json {
        return None;
    }
    let mut value = Vec::new();
    scalar::from_json(kind, json, &mut value).unwrap_or_else(|error| panic!("{json} is not {}: {error:?}", kind.name()));
    Some(value)
}

impl Body {
    fn number(&self, name: &str, place: usize) -> u64 {
        match self {
            Self::Binary(body) => {
                let mut reader = Reader(body);
                for _ in 0..place {
                    reader.varint().expect("a number");
                }
                reader.varint().expect("a number")
            }
            Self::Text(members) => members[name].get().parse().expect("a number"),
        }
    }

    pub fn removed(&self) -> u64 {
        self.number("removed", 0)
    }

    /// The number of a lock's grant.
    pub fn grant(&self) -> u64 {
        self.number("number", 0)
    }

    /// Whether a lock was held.
    pub fn released(&self) -> bool {
        match self {
            Self::Binary(body) => body == &[1],
            Self::Text(members) => members["released"].get() == "true",
        }
    }

    /// The sequence of an event that was appended.
    pub fn sequence(&self) -> u64 {
        self.number("sequence", 0)
    }

    /// Whether nothing was left out, and the events.
    pub fn events(&self) -> (bool, Vec<HeardEvent>) {
        match self {
            Self::Binary(body) => {
                let Ok(Outcome::Events { is_complete, events, .. }) = native::decode_events(&mut Reader(body)) else {
                    panic!("events that do not parse: {body:?}");
                };
                let events = events.into_iter().map(|event| HeardEvent {
                    sequence: event.sequence,
                    timestamp_ms: event.timestamp_ms,
                    original: event.original,
                    value: event.value,
                });
                (is_complete, events.collect())
            }
            Self::Text(members) => {
                let kind = serde_json::from_str::<String>(members["type"].get()).ok().and_then(|name| ValueType::from_name(&name));
                let events: Vec<BTreeMap<String, Box<RawValue>>> = serde_json::from_str(members["events"].get()).expect("a list");
                let event = |members: BTreeMap<String, Box<RawValue>>| {
                    let members = Members { text: "an event", members };
                    let original = members.members.get("original").map(|_| members.read("original"));
                    let value = stored(kind.expect("a type"), &members.json("value")).expect("no event is null");
                    HeardEvent { sequence: members.read("sequence"), timestamp_ms: members.read("timestamp"), original, value }
                };
                (members["complete"].get() == "true", events.into_iter().map(event).collect())
            }
        }
    }

    /// Views in the order of their places, and whether there are more.
    pub fn views(&self) -> (Vec<HeardView>, bool) {
        match self {
            Self::Binary(body) => {
                let Ok(Outcome::Views { views, has_more }) = native::decode_views(&mut Reader(body)) else {
                    panic!("views that do not parse: {body:?}");
                };
                let view = |view: native::ViewEntry| HeardView { name: view.name, definition: view.definition, place: view.place };
                (views.into_iter().map(view).collect(), has_more)
            }
            Self::Text(members) => {
                let views: Vec<BTreeMap<String, Box<RawValue>>> = serde_json::from_str(members["views"].get()).expect("a list");
                let view = |members: BTreeMap<String, Box<RawValue>>| {
                    let members = Members { text: "a view", members };
                    HeardView { name: members.read("name"), definition: members.read("definition"), place: members.read("place") }
                };
                (views.into_iter().map(view).collect(), members["has_more"].get() == "true")
            }
        }
    }

    pub fn page(&self, with_values: bool) -> (Vec<Row>, bool) {
        let shown = Shown { values: with_values, properties: true, sizes: true };
        match self {
            Self::Binary(body) => {
                let Ok(Outcome::Page { has_more, entries, .. }) = native::decode_page(&mut Reader(body), shown) else {
                    panic!("a page that does not parse: {body:?}");
                };
                let row = |entry: native::Entry| Row {
                    path: entry.path,
                    number: entry.kind,
                    value: entry.value,
                    properties: entry.properties.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
                    size: entry.size.map(|size| size as u64),
                };
                (entries.into_iter().map(row).collect(), has_more)
            }
            Self::Text(members) => {
                let topics: Vec<BTreeMap<String, Box<RawValue>>> = serde_json::from_str(members["topics"].get()).expect("a list");
                (topics.into_iter().map(text_row).collect(), members["has_more"].get() == "true")
            }
        }
    }
}

fn text_row(members: BTreeMap<String, Box<RawValue>>) -> Row {
    let members = Members { text: "a topic", members };
    let properties: Properties = members.read::<BTreeMap<String, String>>("properties").into_iter().collect();
    let number = type_number(&members.read::<String>("type"));
    let kind = value_kind(number, &properties);
    let value = members.members.get("value").and_then(|json| stored(kind, json.get()));
    let size = members.members.get("size").map(|_| members.read("size"));
    Row { path: members.read("path"), number, value, properties, size }
}
