//! Frames about a topic's values, each made once for all who are sent it; how an event is written, each member at its place; and what a
//! client hears, read from its frame.

use super::answer::{PresenceEntry, read_present};
use super::{Frame, next_frame, op};
use crate::base::TopicId;
use crate::value::ValueType;
use crate::value::delta;
use crate::wire::event::{Fields, Form, Properties};
use crate::wire::varint::{self, Malformed, Reader, fill_length, put_bytes_field, put_number_field, read_properties};

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

/// A frame of `op` about `topic`, whose rest is `bytes`.
fn topic_frame(op: u8, topic: TopicId, bytes: &[u8]) -> Vec<u8> {
    let length = varint::len(topic.0) + bytes.len();
    let mut out = Vec::with_capacity(1 + varint::len(length as u64) + length);
    out.push(op);
    varint::put(&mut out, length as u64);
    varint::put(&mut out, topic.0);
    out.extend_from_slice(bytes);
    out
}

pub fn delta_frame(topic: TopicId, form: delta::Form, delta: &[u8]) -> Vec<u8> {
    let op = match form {
        delta::Form::Deflate => op::DELTA_DEFLATE,
        delta::Form::Copy => op::DELTA_COPY,
    };
    topic_frame(op, topic, delta)
}

/// A frame that starts with its topic, under another topic's number.
pub fn renumbered_frame(frame: &[u8], topic: TopicId) -> Vec<u8> {
    let of = next_event(&mut &*frame).expect("the server made the frame");
    let mut body = Reader(of.body);
    body.varint().expect("it starts with its topic");
    topic_frame(of.op, topic, body.rest())
}

pub fn null_frame(topic: TopicId) -> Vec<u8> {
    topic_frame(op::NULL_VALUE, topic, &[])
}

pub fn value_deflate_frame(topic: TopicId, deflated: &[u8]) -> Vec<u8> {
    topic_frame(op::VALUE_DEFLATE, topic, deflated)
}

/// What an event is, beside its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventHead<'a> {
    pub sequence: u64,
    pub timestamp_ms: u64,
    pub original: Option<u64>,
    pub author: &'a str,
}

/// A whole EVENT frame, and where in it the value starts.
pub fn event_frame(topic: TopicId, head: EventHead<'_>, value: &[u8]) -> (Vec<u8>, usize) {
    let mut body = Vec::with_capacity(32 + head.author.len());
    varint::put(&mut body, topic.0);
    varint::put(&mut body, head.sequence);
    varint::put(&mut body, head.timestamp_ms);
    varint::put(&mut body, head.original.map_or(0, |original| original + 1));
    varint::put_bytes(&mut body, head.author.as_bytes());
    let length = body.len() + value.len();
    let mut out = Vec::with_capacity(1 + varint::len(length as u64) + length);
    out.push(op::EVENT);
    varint::put(&mut out, length as u64);
    out.extend_from_slice(&body);
    let at = out.len();
    out.extend_from_slice(value);
    (out, at)
}

/// What an EVENT frame says beside its value.
pub fn decode_event_head(frame: &[u8]) -> Option<EventHead<'_>> {
    let mut rest = frame;
    let frame = next_event(&mut rest)?;
    match decode_event(frame) {
        Ok(Heard::Event { head, .. }) => Some(head),
        _ => None,
    }
}

fn next_event<'a>(rest: &mut &'a [u8]) -> Option<Frame<'a>> {
    next_frame(rest).ok().flatten()
}

/// A frame that is being written.
pub struct Body<'o> {
    out: &'o mut Vec<u8>,
    length_at: usize,
}

/// Appends the frame that `describe` makes.
pub fn put_fields(out: &mut Vec<u8>, describe: impl FnOnce(&mut Body<'_>)) {
    let mut body = Body { out, length_at: 0 };
    describe(&mut body);
    fill_length(body.out, body.length_at);
}

impl Fields for Body<'_> {
    const FORM: Form = Form::Binary;

    fn begin(&mut self, op: u8, _: &str) {
        self.out.push(op);
        self.length_at = self.out.len();
        self.out.push(0);
    }

    fn number(&mut self, _: &str, number: u64) {
        varint::put(self.out, number);
    }

    fn flag(&mut self, _: &str, flag: bool) {
        self.out.push(u8::from(flag));
    }

    fn text(&mut self, _: &str, text: &str) {
        varint::put_bytes(self.out, text.as_bytes());
    }

    fn named(&mut self, _: &str, number: u8, _: &str) {
        self.out.push(number);
    }

    fn properties(&mut self, properties: Properties<'_>) {
        varint::put(self.out, properties.len() as u64);
        properties.for_each(|key, value| {
            varint::put_bytes(self.out, key.as_bytes());
            varint::put_bytes(self.out, value.as_bytes());
        });
    }

    fn optional(&mut self, _: &str, number: Option<u64>) {
        varint::put(self.out, number.map_or(0, |number| number + 1));
    }

    fn value(&mut self, _: ValueType, value: &[u8]) {
        varint::put_bytes(self.out, value);
    }

    fn optional_value(&mut self, _: ValueType, value: Option<&[u8]>) {
        varint::put(self.out, value.map_or(0, |value| 1 + value.len() as u64));
        self.out.extend_from_slice(value.unwrap_or_default());
    }

    fn tagged_number(&mut self, tag: u64, _: &str, number: u64) {
        put_number_field(self.out, tag, number);
    }

    fn tagged_flag(&mut self, tag: u64, _: &str, flag: bool) {
        if flag {
            put_number_field(self.out, tag, 1);
        }
    }

    fn tagged_text(&mut self, tag: u64, _: &str, text: &str) {
        put_bytes_field(self.out, tag, text.as_bytes());
    }

    fn rest(&mut self, _: &str, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn list<T>(&mut self, _: &str, items: &[T], describe: impl Fn(&mut Self, &T)) {
        varint::put(self.out, items.len() as u64);
        items.iter().for_each(|item| describe(self, item));
    }
}

/// What a client hears, read from its frame. What the server says by it is `wire::event::Event`.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard<'a> {
    Ping,
    Pong,
    Welcome {
        id: u64,
        version: u64,
        server: &'a str,
        capabilities: u64,
        session: &'a str,
        token: &'a str,
        limits: Vec<(u64, u64)>,
    },
    Later {
        id: u64,
        wait_ms: u64,
    },
    Received {
        requests: u64,
    },
    Ok {
        id: u64,
        body: &'a [u8],
    },
    Error {
        id: u64,
        code: u16,
        position: Option<usize>,
        message: &'a str,
    },
    Subscribed {
        topic: TopicId,
        path: &'a str,
        kind: u8,
        properties: Vec<(&'a str, &'a str)>,
    },
    Value {
        topic: TopicId,
        value: &'a [u8],
    },
    ValueDeflate {
        topic: TopicId,
        deflated: &'a [u8],
    },
    Null {
        topic: TopicId,
    },
    Delta {
        topic: TopicId,
        form: delta::Form,
        delta: &'a [u8],
    },
    Event {
        topic: TopicId,
        head: EventHead<'a>,
        value: &'a [u8],
    },
    Unsubscribed {
        topic: TopicId,
        reason: u8,
    },
    Gap {
        topic: TopicId,
    },
    Staleness {
        is_stale: bool,
    },
    TopicNotice {
        listener: u64,
        what: u8,
        path: &'a str,
        kind: u8,
        properties: Vec<(&'a str, &'a str)>,
    },
    DescendantNotice {
        listener: u64,
        what: u8,
        path: &'a str,
    },
    SubscribersNotice {
        listener: u64,
        path: &'a str,
        has_subscribers: bool,
    },
    MissingNotice {
        listener: u64,
        selector: &'a str,
        session: &'a str,
        properties: Vec<(&'a str, &'a str)>,
    },
    Requested {
        handler: u64,
        request: u64,
        session: &'a str,
        path: &'a str,
        properties: Vec<(&'a str, &'a str)>,
        kind: u8,
        value: Option<&'a [u8]>,
    },
    Response {
        id: u64,
        session: &'a str,
        kind: u8,
        value: Option<&'a [u8]>,
    },
    ResponseError {
        id: u64,
        session: &'a str,
        code: u16,
        message: &'a str,
    },
    SessionNotice {
        listener: u64,
        what: u8,
        session: &'a str,
        is_away: bool,
        properties: Vec<(&'a str, &'a str)>,
    },
    SessionClosed {
        listener: u64,
        session: &'a str,
        reason: u8,
    },
    QueueNotice {
        listener: u64,
        session: &'a str,
        is_over: bool,
        is_conflated: bool,
        queue_bytes: u64,
    },
    PresenceNotice {
        listener: u64,
        joined: Vec<PresenceEntry>,
        left: Vec<PresenceEntry>,
    },
    Unknown,
}

pub fn decode_event(frame: Frame<'_>) -> Result<Heard<'_>, Malformed> {
    let mut reader = Reader(frame.body);
    Ok(match frame.op {
        op::PING => Heard::Ping,
        op::PONG => Heard::Pong,
        op::WELCOME => decode_welcome(&mut reader)?,
        op::OK => Heard::Ok { id: reader.varint()?, body: reader.rest() },
        op::ERROR => Heard::Error {
            id: reader.varint()?,
            code: u16::try_from(reader.varint()?).map_err(|_| Malformed)?,
            position: reader.varint()?.checked_sub(1).map(|p| p as usize),
            message: std::str::from_utf8(reader.rest()).map_err(|_| Malformed)?,
        },
        op::TOPIC_NOTICE | op::DESCENDANT_NOTICE | op::SUBSCRIBERS_NOTICE | op::MISSING_NOTICE => decode_notice(frame.op, &mut reader)?,
        _ => decode_topic_event(frame.op, &mut reader)?,
    })
}

fn decode_topic_event<'a>(op: u8, reader: &mut Reader<'a>) -> Result<Heard<'a>, Malformed> {
    Ok(match op {
        op::SUBSCRIBED => Heard::Subscribed {
            topic: TopicId(reader.varint()?),
            path: reader.string()?,
            kind: reader.byte()?,
            properties: read_properties(reader)?,
        },
        op::VALUE => Heard::Value { topic: TopicId(reader.varint()?), value: reader.rest() },
        op::VALUE_DEFLATE => Heard::ValueDeflate { topic: TopicId(reader.varint()?), deflated: reader.rest() },
        op::NULL_VALUE => Heard::Null { topic: TopicId(reader.varint()?) },
        op::DELTA_DEFLATE => Heard::Delta { topic: TopicId(reader.varint()?), form: delta::Form::Deflate, delta: reader.rest() },
        op::DELTA_COPY => Heard::Delta { topic: TopicId(reader.varint()?), form: delta::Form::Copy, delta: reader.rest() },
        op::EVENT => {
            let (topic, sequence, timestamp_ms) = (TopicId(reader.varint()?), reader.varint()?, reader.varint()?);
            let (original, author) = (reader.varint()?.checked_sub(1), reader.string()?);
            Heard::Event { topic, head: EventHead { sequence, timestamp_ms, original, author }, value: reader.rest() }
        }
        op::LATER => Heard::Later { id: reader.varint()?, wait_ms: reader.varint()? },
        op::STALENESS => Heard::Staleness { is_stale: reader.byte()? & 1 != 0 },
        op::RECEIVED => Heard::Received { requests: reader.varint()? },
        op::GAP => Heard::Gap { topic: TopicId(reader.varint()?) },
        op::UNSUBSCRIBED => Heard::Unsubscribed { topic: TopicId(reader.varint()?), reason: reader.byte()? },
        _ => decode_of_client(op, reader)?,
    })
}

/// What other clients say.
fn decode_of_client<'a>(op: u8, reader: &mut Reader<'a>) -> Result<Heard<'a>, Malformed> {
    Ok(match op {
        op::REQUESTED => {
            let (handler, request) = (reader.varint()?, reader.varint()?);
            let (session, path, properties) = (reader.string()?, reader.string()?, read_properties(reader)?);
            let (kind, value) = decode_message(reader)?;
            Heard::Requested { handler, request, session, path, properties, kind, value }
        }
        op::RESPONSE => {
            let (id, session) = (reader.varint()?, reader.string()?);
            let (kind, value) = decode_message(reader)?;
            Heard::Response { id, session, kind, value }
        }
        op::RESPONSE_ERROR => {
            let (id, session) = (reader.varint()?, reader.string()?);
            let code = u16::try_from(reader.varint()?).map_err(|_| Malformed)?;
            reader.varint()?;
            Heard::ResponseError { id, session, code, message: std::str::from_utf8(reader.rest()).map_err(|_| Malformed)? }
        }
        _ => decode_of_sessions(op, reader)?,
    })
}

/// What is told of sessions.
fn decode_of_sessions<'a>(op: u8, reader: &mut Reader<'a>) -> Result<Heard<'a>, Malformed> {
    Ok(match op {
        op::SESSION_NOTICE => {
            let (listener, what, session) = (reader.varint()?, reader.byte()?, reader.string()?);
            Heard::SessionNotice { listener, what, session, is_away: reader.byte()? & 1 != 0, properties: read_properties(reader)? }
        }
        op::SESSION_CLOSED => Heard::SessionClosed { listener: reader.varint()?, session: reader.string()?, reason: reader.byte()? },
        op::QUEUE_NOTICE => {
            let (listener, session, is_over) = (reader.varint()?, reader.string()?, reader.byte()? & 1 != 0);
            let is_conflated = reader.byte()? & 1 != 0;
            Heard::QueueNotice { listener, session, is_over, is_conflated, queue_bytes: reader.varint()? }
        }
        op::PRESENCE_NOTICE => {
            let (listener, joined) = (reader.varint()?, read_present(reader)?);
            let count = reader.varint()?;
            let mut left = Vec::new();
            for _ in 0..count {
                let (path, session) = (reader.string()?.into(), reader.string()?.into());
                left.push(PresenceEntry { path, session, principal: "".into() });
            }
            Heard::PresenceNotice { listener, joined, left }
        }
        _ => Heard::Unknown,
    })
}

/// A value of a message, `None` for null, behind its type.
pub fn decode_message<'a>(reader: &mut Reader<'a>) -> Result<(u8, Option<&'a [u8]>), Malformed> {
    let (kind, length) = (reader.byte()?, reader.varint()?);
    let Some(length) = length.checked_sub(1) else { return Ok((kind, None)) };
    let length = usize::try_from(length).map_err(|_| Malformed)?;
    let (value, rest) = reader.0.split_at_checked(length).ok_or(Malformed)?;
    reader.0 = rest;
    Ok((kind, Some(value)))
}

fn decode_notice<'a>(op: u8, reader: &mut Reader<'a>) -> Result<Heard<'a>, Malformed> {
    let listener = reader.varint()?;
    Ok(match op {
        op::TOPIC_NOTICE => Heard::TopicNotice {
            listener,
            what: reader.byte()?,
            path: reader.string()?,
            kind: reader.byte()?,
            properties: read_properties(reader)?,
        },
        op::DESCENDANT_NOTICE => Heard::DescendantNotice { listener, what: reader.byte()?, path: reader.string()? },
        op::SUBSCRIBERS_NOTICE => Heard::SubscribersNotice { listener, path: reader.string()?, has_subscribers: reader.byte()? != 0 },
        _ => Heard::MissingNotice { listener, selector: reader.string()?, session: reader.string()?, properties: read_properties(reader)? },
    })
}

fn decode_welcome<'a>(reader: &mut Reader<'a>) -> Result<Heard<'a>, Malformed> {
    let (id, version) = (reader.varint()?, reader.varint()?);
    let (mut server, mut capabilities, mut session, mut token, mut limits) = ("", 0, "", "", Vec::new());
    while !reader.is_empty() {
        let tag = reader.varint()?;
        let field = reader.bytes()?;
        match tag {
            1 => server = std::str::from_utf8(field).map_err(|_| Malformed)?,
            2 => capabilities = Reader(field).varint()?,
            3 => session = std::str::from_utf8(field).map_err(|_| Malformed)?,
            10 => token = std::str::from_utf8(field).map_err(|_| Malformed)?,
            _ => limits.push((tag, Reader(field).varint().unwrap_or_default())),
        }
    }
    Ok(Heard::Welcome { id, version, server, capabilities, session, token, limits })
}
