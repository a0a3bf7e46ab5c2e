//! The binary form: frames ↔ requests and events. `sdk/protocol/README.md` is the specification.
//!
//! - `request` — how a request is read, and written.
//! - `answer` — what `WELCOME` and `OK` carry.
//! - `event` — frames about a topic's values, and what the server says as a client reads it.
//! - `fields` — how an event is written.

mod answer;
mod event;
mod fields;
mod request;

pub use super::request::{Append, Ask, Fetch, NULL_BIT, OPERATIONS, Properties, Query, QueryRange, Request, Update, Verb};
pub use answer::{Entry, EventEntry, Outcome, Shown, ViewEntry, Welcome, decode_events, decode_page, decode_views};
pub use event::{
    Event, EventHead, decode_event, decode_event_head, delta_frame, event_frame, null_frame, value_deflate_frame, value_frame,
};
pub(super) use fields::put_fields;
pub(super) use request::Writer;
pub use request::{decode_request, put_request};

use super::varint::{self, Malformed, Reader};

/// The numbers of operations and events.
pub mod op {
    pub use crate::wire::request::op::*;

    pub const WELCOME: u8 = 0x81;
    pub const OK: u8 = 0x82;
    pub const ERROR: u8 = 0x83;
    pub const SUBSCRIBED: u8 = 0x90;
    pub const VALUE: u8 = 0x91;
    pub const DELTA_DEFLATE: u8 = 0x92;
    pub const DELTA_COPY: u8 = 0x93;
    pub const NULL_VALUE: u8 = 0x94;
    pub const EVENT: u8 = 0x95;
    pub const UNSUBSCRIBED: u8 = 0x98;
    pub const VALUE_DEFLATE: u8 = 0x99;
    pub const TOPIC_NOTICE: u8 = 0xa0;
    pub const DESCENDANT_NOTICE: u8 = 0xa1;
    pub const SUBSCRIBERS_NOTICE: u8 = 0xa2;
    pub const MISSING_NOTICE: u8 = 0xa3;
}

pub const VERSION: u64 = 1;
/// The client decodes DELTA_DEFLATE.
pub const CAPABILITY_DEFLATE: u64 = 1;
/// The client decodes DELTA_COPY.
pub const CAPABILITY_COPY: u64 = 2;
/// The client decodes VALUE_DEFLATE.
pub const CAPABILITY_COMPRESSION: u64 = 4;

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

/// Says how long the body is that follows the byte at `at`.
fn fill_length(out: &mut Vec<u8>, at: usize) {
    let length = out.len() - at - 1;
    if length < 0x80 {
        out[at] = length as u8;
        return;
    }
    let mut prefix = Vec::with_capacity(varint::len(length as u64));
    varint::put(&mut prefix, length as u64);
    out.splice(at..=at, prefix);
}

/// Appends a field that holds one number.
fn put_number_field(out: &mut Vec<u8>, tag: u64, value: u64) {
    varint::put(out, tag);
    varint::put(out, varint::len(value) as u64);
    varint::put(out, value);
}

fn put_bytes_field(out: &mut Vec<u8>, tag: u64, bytes: &[u8]) {
    varint::put(out, tag);
    varint::put_bytes(out, bytes);
}

/// Appends `count, count × (key, value)`.
fn put_properties<'a>(out: &mut Vec<u8>, properties: impl Iterator<Item = (&'a str, &'a str)>) {
    // Fewer than 128 properties have a value: the count takes one byte, known at the end.
    let at = out.len();
    out.push(0);
    let mut count = 0;
    for (key, value) in properties {
        varint::put_bytes(out, key.as_bytes());
        varint::put_bytes(out, value.as_bytes());
        count += 1;
    }
    if count < 0x80 {
        out[at] = count as u8;
        return;
    }
    let mut prefix = Vec::new();
    varint::put(&mut prefix, count);
    out.splice(at..=at, prefix);
}

/// Reads `count, count × (key, value)`.
fn read_properties<'a>(reader: &mut Reader<'a>) -> Result<Vec<(&'a str, &'a str)>, Malformed> {
    let count = reader.varint()?;
    let mut properties = Vec::new();
    for _ in 0..count {
        properties.push((reader.string()?, reader.string()?));
    }
    Ok(properties)
}
