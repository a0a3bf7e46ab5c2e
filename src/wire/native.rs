//! The binary form: frames ↔ requests and events. `sdk/protocol/README.md` is the specification.

use super::varint::{self, Malformed, Reader};
use crate::base::TopicId;
use crate::value::ValueType;
use crate::value::delta::Form;
use std::borrow::Cow;

pub mod op {
    pub const CONNECT: u8 = 0x01;
    pub const PING: u8 = 0x02;
    pub const PONG: u8 = 0x03;
    pub const CLOSE: u8 = 0x04;
    pub const ADD: u8 = 0x10;
    pub const SET: u8 = 0x11;
    pub const ADD_AND_SET: u8 = 0x12;
    pub const REMOVE: u8 = 0x13;
    pub const FETCH: u8 = 0x14;
    pub const SUBSCRIBE: u8 = 0x18;
    pub const UNSUBSCRIBE: u8 = 0x19;
    pub const WELCOME: u8 = 0x81;
    pub const OK: u8 = 0x82;
    pub const ERROR: u8 = 0x83;
    pub const SUBSCRIBED: u8 = 0x90;
    pub const VALUE: u8 = 0x91;
    pub const DELTA_DEFLATE: u8 = 0x92;
    pub const DELTA_COPY: u8 = 0x93;
    pub const UNSUBSCRIBED: u8 = 0x98;
}

pub const VERSION: u64 = 1;
/// The client decodes DELTA_DEFLATE.
pub const CAPABILITY_DEFLATE: u64 = 1;
/// The client decodes DELTA_COPY.
pub const CAPABILITY_COPY: u64 = 2;

/// What a client asks for, in either form. Values are in their wire form but for the text form's, which are JSON still.
#[derive(Clone, Debug, PartialEq)]
pub enum Request<'a> {
    Connect {
        id: u64,
        version: u64,
        name: Cow<'a, str>,
        capabilities: u64,
    },
    Ping,
    Pong,
    Close,
    Update {
        id: u64,
        verb: Verb,
        path: Cow<'a, str>,
        kind: u8,
        value: Cow<'a, [u8]>,
        properties: u64,
    },
    Remove {
        id: u64,
        selector: Cow<'a, str>,
    },
    Fetch {
        id: u64,
        selector: Cow<'a, str>,
        after: Cow<'a, str>,
        first: u64,
        with_values: bool,
    },
    Subscribe {
        id: u64,
        selector: Cow<'a, str>,
        scope: Cow<'a, str>,
    },
    Unsubscribe {
        id: u64,
        selector: Cow<'a, str>,
        scope: Cow<'a, str>,
    },
    Unknown {
        id: u64,
        name: String,
    },
    /// A body that does not have its operation's form; the id is 0 where it cannot be told.
    Broken {
        id: u64,
    },
}

/// How an update treats a topic that is there, or is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Add,
    Set,
    AddAndSet,
}

/// One frame of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub op: u8,
    pub body: &'a [u8],
}

/// Takes the next frame off `message`; `None` at its end.
pub fn next_frame<'a>(message: &mut &'a [u8]) -> Result<Option<Frame<'a>>, Malformed> {
    if message.is_empty() {
        return Ok(None);
    }
    let mut reader = Reader(message);
    let op = reader.byte()?;
    let body = reader.bytes()?;
    *message = reader.0;
    Ok(Some(Frame { op, body }))
}

/// Reads what a client's frame asks for.
pub fn decode_request(frame: Frame<'_>) -> Request<'_> {
    match frame.op {
        op::PING => return Request::Ping,
        op::PONG => return Request::Pong,
        op::CLOSE => return Request::Close,
        _ => {}
    }
    let mut reader = Reader(frame.body);
    let Ok(id) = reader.varint() else { return Request::Broken { id: 0 } };
    decode_body(frame.op, id, &mut reader).unwrap_or(Request::Broken { id })
}

fn decode_body<'a>(op: u8, id: u64, reader: &mut Reader<'a>) -> Result<Request<'a>, Malformed> {
    let request = match op {
        op::CONNECT => decode_connect(id, reader)?,
        op::ADD => decode_update(id, Verb::Add, reader)?,
        op::SET => decode_update(id, Verb::Set, reader)?,
        op::ADD_AND_SET => decode_update(id, Verb::AddAndSet, reader)?,
        op::REMOVE => Request::Remove { id, selector: reader.string()?.into() },
        op::FETCH => Request::Fetch {
            id,
            selector: reader.string()?.into(),
            after: reader.string()?.into(),
            first: reader.varint()?,
            with_values: reader.varint()? & 1 != 0,
        },
        op::SUBSCRIBE => Request::Subscribe { id, selector: reader.string()?.into(), scope: reader.string()?.into() },
        op::UNSUBSCRIBE => Request::Unsubscribe { id, selector: reader.string()?.into(), scope: reader.string()?.into() },
        _ => return Ok(Request::Unknown { id, name: format!("0x{op:02x}") }),
    };
    if reader.is_empty() { Ok(request) } else { Err(Malformed) }
}

fn decode_connect<'a>(id: u64, reader: &mut Reader<'a>) -> Result<Request<'a>, Malformed> {
    let version = reader.varint()?;
    let (mut name, mut capabilities) = ("", 0);
    while !reader.is_empty() {
        let tag = reader.varint()?;
        let field = reader.bytes()?;
        match tag {
            1 => name = std::str::from_utf8(field).map_err(|_| Malformed)?,
            2 => capabilities = Reader(field).varint()?,
            _ => {}
        }
    }
    Ok(Request::Connect { id, version, name: name.into(), capabilities })
}

fn decode_update<'a>(id: u64, verb: Verb, reader: &mut Reader<'a>) -> Result<Request<'a>, Malformed> {
    let path = reader.string()?.into();
    let kind = reader.byte()?;
    let mut properties = 0;
    if verb != Verb::Set {
        properties = reader.varint()?;
        for _ in 0..properties {
            reader.string()?;
            reader.string()?;
        }
    }
    let value = if verb == Verb::Add { &[] } else { reader.rest() };
    Ok(Request::Update { id, verb, path, kind, value: value.into(), properties })
}

/// Appends a frame whose body `write` makes.
fn put_frame(out: &mut Vec<u8>, op: u8, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(op);
    let at = out.len();
    out.push(0);
    write(out);
    let length = out.len() - at - 1;
    if length < 0x80 {
        out[at] = length as u8;
        return;
    }
    let mut prefix = Vec::with_capacity(varint::len(length as u64));
    varint::put(&mut prefix, length as u64);
    out.splice(at..=at, prefix);
}

/// Appends a client's request. Text values and unknown requests have no binary form.
pub fn put_request(out: &mut Vec<u8>, request: &Request<'_>) {
    match request {
        Request::Connect { id, version, name, capabilities } => put_frame(out, op::CONNECT, |out| {
            varint::put(out, *id);
            varint::put(out, *version);
            if !name.is_empty() {
                varint::put(out, 1);
                varint::put_bytes(out, name.as_bytes());
            }
            if *capabilities != 0 {
                put_number_field(out, 2, *capabilities);
            }
        }),
        Request::Ping => put_frame(out, op::PING, |_| {}),
        Request::Pong => put_frame(out, op::PONG, |_| {}),
        Request::Close => put_frame(out, op::CLOSE, |_| {}),
        Request::Update { id, verb, path, kind, value, .. } => {
            let op = match verb {
                Verb::Add => op::ADD,
                Verb::Set => op::SET,
                Verb::AddAndSet => op::ADD_AND_SET,
            };
            put_frame(out, op, |out| {
                varint::put(out, *id);
                varint::put_bytes(out, path.as_bytes());
                out.push(*kind);
                if *verb != Verb::Set {
                    varint::put(out, 0);
                }
                out.extend_from_slice(value);
            });
        }
        Request::Remove { id, selector } => put_frame(out, op::REMOVE, |out| {
            varint::put(out, *id);
            varint::put_bytes(out, selector.as_bytes());
        }),
        Request::Fetch { id, selector, after, first, with_values } => put_frame(out, op::FETCH, |out| {
            varint::put(out, *id);
            varint::put_bytes(out, selector.as_bytes());
            varint::put_bytes(out, after.as_bytes());
            varint::put(out, *first);
            varint::put(out, u64::from(*with_values));
        }),
        Request::Subscribe { id, selector, scope } => put_selection(out, op::SUBSCRIBE, *id, selector, scope),
        Request::Unsubscribe { id, selector, scope } => put_selection(out, op::UNSUBSCRIBE, *id, selector, scope),
        Request::Unknown { .. } | Request::Broken { .. } => {}
    }
}

fn put_selection(out: &mut Vec<u8>, op: u8, id: u64, selector: &str, scope: &str) {
    put_frame(out, op, |out| {
        varint::put(out, id);
        varint::put_bytes(out, selector.as_bytes());
        varint::put_bytes(out, scope.as_bytes());
    });
}

fn put_number_field(out: &mut Vec<u8>, tag: u64, value: u64) {
    varint::put(out, tag);
    varint::put(out, varint::len(value) as u64);
    varint::put(out, value);
}

/// What the server tells a session at connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    pub server: String,
    pub capabilities: u64,
    pub session: String,
    pub keep_alive_ms: u64,
    pub message_bytes_max: u64,
    pub path_bytes_max: u64,
    pub value_bytes_max: u64,
    pub selections_max: u64,
    pub fetch_page_max: u64,
}

impl Welcome {
    /// The numbered limits, by field tag.
    pub fn numbers(&self) -> [(u64, &'static str, u64); 6] {
        [
            (4, "keep_alive_ms", self.keep_alive_ms),
            (5, "message_bytes_max", self.message_bytes_max),
            (6, "path_bytes_max", self.path_bytes_max),
            (7, "value_bytes_max", self.value_bytes_max),
            (8, "selections_max", self.selections_max),
            (9, "fetch_page_max", self.fetch_page_max),
        ]
    }
}

pub fn put_welcome(out: &mut Vec<u8>, id: u64, welcome: &Welcome) {
    put_frame(out, op::WELCOME, |out| {
        varint::put(out, id);
        varint::put(out, VERSION);
        varint::put(out, 1);
        varint::put_bytes(out, welcome.server.as_bytes());
        put_number_field(out, 2, welcome.capabilities);
        varint::put(out, 3);
        varint::put_bytes(out, welcome.session.as_bytes());
        for (tag, _, value) in welcome.numbers() {
            put_number_field(out, tag, value);
        }
    });
}

/// One topic of a fetch's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub path: String,
    pub kind: ValueType,
    /// With values asked for: the topic's, if it has one.
    pub value: Option<Vec<u8>>,
}

/// What an `OK` carries behind its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Created(bool),
    Removed(u64),
    Page { has_more: bool, with_values: bool, entries: Vec<Entry> },
}

pub fn put_ok(out: &mut Vec<u8>, id: u64, outcome: &Outcome) {
    put_frame(out, op::OK, |out| {
        varint::put(out, id);
        match outcome {
            Outcome::Done => {}
            Outcome::Created(created) => out.push(u8::from(*created)),
            Outcome::Removed(count) => varint::put(out, *count),
            Outcome::Page { has_more, with_values, entries } => {
                out.push(u8::from(*has_more));
                varint::put(out, entries.len() as u64);
                for entry in entries {
                    put_entry(out, entry, *with_values);
                }
            }
        }
    });
}

fn put_entry(out: &mut Vec<u8>, entry: &Entry, with_values: bool) {
    varint::put_bytes(out, entry.path.as_bytes());
    out.push(entry.kind as u8);
    match &entry.value {
        _ if !with_values => {}
        None => varint::put(out, 0),
        Some(value) => {
            varint::put(out, 1 + value.len() as u64);
            out.extend_from_slice(value);
        }
    }
}

/// Reads the page of an `OK` that answers a `FETCH`.
pub fn decode_page(reader: &mut Reader<'_>, with_values: bool) -> Result<Outcome, Malformed> {
    let has_more = reader.byte()? != 0;
    let count = reader.varint()?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let path = reader.string()?.to_owned();
        let kind = ValueType::from_number(reader.byte()?).ok_or(Malformed)?;
        let mut value = None;
        if with_values && let Some(length) = usize::try_from(reader.varint()?).map_err(|_| Malformed)?.checked_sub(1) {
            let (bytes, rest) = reader.0.split_at_checked(length).ok_or(Malformed)?;
            reader.0 = rest;
            value = Some(bytes.to_vec());
        }
        entries.push(Entry { path, kind, value });
    }
    Ok(Outcome::Page { has_more, with_values, entries })
}

pub fn put_error(out: &mut Vec<u8>, id: u64, code: u16, position: Option<usize>, message: &str) {
    put_frame(out, op::ERROR, |out| {
        varint::put(out, id);
        varint::put(out, u64::from(code));
        varint::put(out, position.map_or(0, |p| p as u64 + 1));
        out.extend_from_slice(message.as_bytes());
    });
}

pub fn put_subscribed(out: &mut Vec<u8>, topic: TopicId, path: &str, kind: ValueType) {
    put_frame(out, op::SUBSCRIBED, |out| {
        varint::put(out, topic.0);
        varint::put_bytes(out, path.as_bytes());
        out.push(kind as u8);
        varint::put(out, 0);
    });
}

/// A whole VALUE frame, and where in it the value starts.
pub fn value_frame(topic: TopicId, value: &[u8]) -> (Vec<u8>, usize) {
    let length = varint::len(topic.0) + value.len();
    let mut out = Vec::with_capacity(1 + varint::len(length as u64) + length);
    out.push(op::VALUE);
    varint::put(&mut out, length as u64);
    varint::put(&mut out, topic.0);
    let at = out.len();
    out.extend_from_slice(value);
    (out, at)
}

pub fn delta_frame(topic: TopicId, form: Form, delta: &[u8]) -> Vec<u8> {
    let length = varint::len(topic.0) + delta.len();
    let mut out = Vec::with_capacity(1 + varint::len(length as u64) + length);
    out.push(match form {
        Form::Deflate => op::DELTA_DEFLATE,
        Form::Copy => op::DELTA_COPY,
    });
    varint::put(&mut out, length as u64);
    varint::put(&mut out, topic.0);
    out.extend_from_slice(delta);
    out
}

pub fn put_unsubscribed(out: &mut Vec<u8>, topic: TopicId, reason: u8) {
    put_frame(out, op::UNSUBSCRIBED, |out| {
        varint::put(out, topic.0);
        out.push(reason);
    });
}

pub fn put_keep_alive(out: &mut Vec<u8>, op: u8) {
    put_frame(out, op, |_| {});
}

/// What the server says, as a client reads it.
#[derive(Clone, Debug, PartialEq)]
pub enum Event<'a> {
    Ping,
    Pong,
    Welcome { id: u64, version: u64, server: &'a str, capabilities: u64, session: &'a str, limits: Vec<(u64, u64)> },
    Ok { id: u64, body: &'a [u8] },
    Error { id: u64, code: u16, position: Option<usize>, message: &'a str },
    Subscribed { topic: TopicId, path: &'a str, kind: ValueType },
    Value { topic: TopicId, value: &'a [u8] },
    Delta { topic: TopicId, form: Form, delta: &'a [u8] },
    Unsubscribed { topic: TopicId, reason: u8 },
    Unknown,
}

pub fn decode_event(frame: Frame<'_>) -> Result<Event<'_>, Malformed> {
    let mut reader = Reader(frame.body);
    Ok(match frame.op {
        op::PING => Event::Ping,
        op::PONG => Event::Pong,
        op::WELCOME => decode_welcome(&mut reader)?,
        op::OK => Event::Ok { id: reader.varint()?, body: reader.rest() },
        op::ERROR => Event::Error {
            id: reader.varint()?,
            code: u16::try_from(reader.varint()?).map_err(|_| Malformed)?,
            position: reader.varint()?.checked_sub(1).map(|p| p as usize),
            message: std::str::from_utf8(reader.rest()).map_err(|_| Malformed)?,
        },
        op::SUBSCRIBED => Event::Subscribed {
            topic: TopicId(reader.varint()?),
            path: reader.string()?,
            kind: ValueType::from_number(reader.byte()?).ok_or(Malformed)?,
        },
        op::VALUE => Event::Value { topic: TopicId(reader.varint()?), value: reader.rest() },
        op::DELTA_DEFLATE => Event::Delta { topic: TopicId(reader.varint()?), form: Form::Deflate, delta: reader.rest() },
        op::DELTA_COPY => Event::Delta { topic: TopicId(reader.varint()?), form: Form::Copy, delta: reader.rest() },
        op::UNSUBSCRIBED => Event::Unsubscribed { topic: TopicId(reader.varint()?), reason: reader.byte()? },
        _ => Event::Unknown,
    })
}

fn decode_welcome<'a>(reader: &mut Reader<'a>) -> Result<Event<'a>, Malformed> {
    let (id, version) = (reader.varint()?, reader.varint()?);
    let (mut server, mut capabilities, mut session, mut limits) = ("", 0, "", Vec::new());
    while !reader.is_empty() {
        let tag = reader.varint()?;
        let field = reader.bytes()?;
        match tag {
            1 => server = std::str::from_utf8(field).map_err(|_| Malformed)?,
            2 => capabilities = Reader(field).varint()?,
            3 => session = std::str::from_utf8(field).map_err(|_| Malformed)?,
            _ => limits.push((tag, Reader(field).varint().unwrap_or_default())),
        }
    }
    Ok(Event::Welcome { id, version, server, capabilities, session, limits })
}
