//! What a simulated client hears: both wire forms read into one.

use serde_json::Value as Json;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use tidewire::value::{ValueType, delta, scalar};
use tidewire::wire::native::{self, Event, Outcome};
use tidewire::wire::varint::Reader;

/// The body of an `OK`, as far as its form tells.
#[derive(Debug)]
pub enum Body {
    Binary(Vec<u8>),
    Text(BTreeMap<String, Box<RawValue>>),
}

/// One topic of a page: path, type number and value.
pub type Row = (String, u8, Option<Vec<u8>>);

#[derive(Debug)]
pub enum Heard {
    Ping,
    Pong,
    Welcome,
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
        kind: ValueType,
    },
    Value {
        topic: u64,
        value: Vec<u8>,
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
    Unsubscribed {
        topic: u64,
        reason: u8,
    },
}

pub fn read_binary(mut message: &[u8]) -> Vec<Heard> {
    let mut heard = Vec::new();
    while let Some(frame) = native::next_frame(&mut message).expect("the server sends whole frames") {
        heard.push(match native::decode_event(frame).expect("the server sends events of the protocol") {
            Event::Ping => Heard::Ping,
            Event::Pong => Heard::Pong,
            Event::Welcome { .. } => Heard::Welcome,
            Event::Ok { id, body } => Heard::Ok { id, body: Body::Binary(body.to_vec()) },
            Event::Error { id, code, .. } => Heard::Error { id, code },
            Event::Subscribed { topic, path, kind } => Heard::Subscribed { topic: topic.0, path: path.to_owned(), kind },
            Event::Value { topic, value } => Heard::Value { topic: topic.0, value: value.to_vec() },
            Event::Delta { topic, form, delta } => Heard::Delta { topic: topic.0, form, delta: delta.to_vec() },
            Event::Unsubscribed { topic, reason } => Heard::Unsubscribed { topic: topic.0, reason },
            Event::Unknown => panic!("the server sent an operation that the protocol does not have: {frame:?}"),
        });
    }
    heard
}

pub fn read_text(message: &[u8]) -> Heard {
    let text = std::str::from_utf8(message).expect("a text message is UTF-8");
    let members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let string = |name: &str| -> String { serde_json::from_str(members[name].get()).unwrap_or_else(|_| panic!("{name}: {text}")) };
    let number = |name: &str| -> u64 { serde_json::from_str(members[name].get()).unwrap_or_else(|_| panic!("{name}: {text}")) };
    match string("op").as_str() {
        "ping" => Heard::Ping,
        "pong" => Heard::Pong,
        "welcome" => Heard::Welcome,
        "ok" => Heard::Ok { id: number("id"), body: Body::Text(members) },
        "error" => Heard::Error { id: number("id"), code: number("code") as u16 },
        "subscribed" => {
            let kind = ValueType::from_name(&string("type")).expect("a type of the protocol");
            Heard::Subscribed { topic: number("topic"), path: string("path"), kind }
        }
        "value" => Heard::TextValue { topic: number("topic"), path: string("path"), json: members["value"].get().to_owned() },
        "unsubscribed" => {
            let reason = if string("reason") == "requested" { 1 } else { 2 };
            Heard::Unsubscribed { topic: number("topic"), reason }
        }
        other => panic!("the server sent '{other}': {text}"),
    }
}

/// A value's stored form.
pub fn stored(kind: ValueType, json: &str) -> Vec<u8> {
    let mut value = Vec::new();
    scalar::from_json(kind, json, &mut value).unwrap_or_else(|error| panic!("{json} is not {}: {error:?}", kind.name()));
    value
}

impl Body {
    pub fn removed(&self) -> u64 {
        match self {
            Self::Binary(body) => Reader(body).varint().expect("a count"),
            Self::Text(members) => members["removed"].get().parse().expect("a count"),
        }
    }

    pub fn page(&self, with_values: bool) -> (Vec<Row>, bool) {
        match self {
            Self::Binary(body) => {
                let Ok(Outcome::Page { has_more, entries, .. }) = native::decode_page(&mut Reader(body), with_values) else {
                    panic!("a page that does not parse: {body:?}");
                };
                (entries.into_iter().map(|entry| (entry.path, entry.kind as u8, entry.value)).collect(), has_more)
            }
            Self::Text(members) => {
                let topics: Vec<BTreeMap<String, Box<RawValue>>> = serde_json::from_str(members["topics"].get()).expect("a list");
                (topics.iter().map(row).collect(), members["has_more"].get() == "true")
            }
        }
    }
}

fn row(topic: &BTreeMap<String, Box<RawValue>>) -> Row {
    let string = |name: &str| match serde_json::from_str(topic[name].get()) {
        Ok(Json::String(text)) => text,
        other => panic!("{name} is {other:?}"),
    };
    let kind = ValueType::from_name(&string("type")).expect("a type of the protocol");
    (string("path"), kind as u8, topic.get("value").map(|json| stored(kind, json.get())))
}
