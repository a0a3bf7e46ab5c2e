//! The native protocol, binary form, as far as a load speaks it. See `sdk/protocol/README.md`.
//!
//! Reads in place and allocates nothing: at millions of values a second the generator must
//! cost less than the server. Frames that a load has no use for are skipped unread.

use super::{DeltaForm, Event, Malformed, Request};

pub const SUBPROTOCOL: &str = "tidewire.1";
pub const CAPABILITY_DELTA_DEFLATE: u64 = 1;
pub const CAPABILITY_DELTA_COPY: u64 = 2;

const VERSION: u64 = 1;
const FIELD_CLIENT_NAME: u64 = 1;
const FIELD_CAPABILITIES: u64 = 2;
const FIELD_KEEP_ALIVE_MS: u64 = 4;
const FIELD_PRINCIPAL: u64 = 10;
const FIELD_PASSWORD: u64 = 11;

pub mod op {
    pub const CONNECT: u8 = 0x01;
    pub const PING: u8 = 0x02;
    pub const PONG: u8 = 0x03;
    pub const CLOSE: u8 = 0x04;
    pub const SET: u8 = 0x11;
    pub const ADD_AND_SET: u8 = 0x12;
    pub const REMOVE: u8 = 0x13;
    pub const SUBSCRIBE: u8 = 0x18;
    pub const WELCOME: u8 = 0x81;
    pub const OK: u8 = 0x82;
    pub const ERROR: u8 = 0x83;
    pub const CLOSING: u8 = 0x84;
    pub const LATER: u8 = 0x86;
    pub const SUBSCRIBED: u8 = 0x90;
    pub const VALUE: u8 = 0x91;
    pub const DELTA_DEFLATE: u8 = 0x92;
    pub const DELTA_COPY: u8 = 0x93;
}

/// Appends one request as a frame.
pub fn encode(request: &Request<'_>, out: &mut Vec<u8>) {
    match *request {
        Request::Connect { id, name, capabilities, login } => frame(op::CONNECT, out, |body| {
            push_varint(id, body);
            push_varint(VERSION, body);
            push_varint(FIELD_CLIENT_NAME, body);
            push_string(name, body);
            let mut set = Vec::new();
            push_varint(capabilities, &mut set);
            push_varint(FIELD_CAPABILITIES, body);
            push_varint(set.len() as u64, body);
            body.extend_from_slice(&set);
            for (field, text) in [(FIELD_PRINCIPAL, &login.principal), (FIELD_PASSWORD, &login.password)] {
                if !text.is_empty() {
                    push_varint(field, body);
                    push_string(text, body);
                }
            }
        }),
        Request::Subscribe { id, selector } => frame(op::SUBSCRIBE, out, |body| {
            push_varint(id, body);
            push_string(selector, body);
            push_string("", body);
        }),
        Request::Create { id, path, value_type, value } => frame(op::ADD_AND_SET, out, |body| {
            push_varint(id, body);
            push_string(path, body);
            body.push(value_type as u8);
            push_varint(0, body);
            body.extend_from_slice(value);
        }),
        Request::Set { id, path, value_type, value } => frame(op::SET, out, |body| {
            push_varint(id, body);
            push_string(path, body);
            body.push(value_type as u8);
            body.extend_from_slice(value);
        }),
        Request::Remove { id, selector } => frame(op::REMOVE, out, |body| {
            push_varint(id, body);
            push_string(selector, body);
        }),
        // Nothing that the server sends asks for one.
        Request::Answer(_) => {}
        Request::Ping => frame(op::PING, out, |_| ()),
        Request::Pong => frame(op::PONG, out, |_| ()),
        Request::Close => frame(op::CLOSE, out, |_| ()),
    }
}

/// Appends a frame whose body `write` appends.
pub fn frame(op: u8, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(op);
    let start = out.len();
    write(out);
    let mut length = [0; 10];
    let length = varint_bytes((out.len() - start) as u64, &mut length);
    out.extend_from_slice(length);
    out[start..].rotate_right(length.len());
}

pub fn push_varint(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(varint_bytes(number, &mut [0; 10]));
}

pub fn push_string(text: &str, out: &mut Vec<u8>) {
    push_varint(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

fn varint_bytes(mut number: u64, space: &mut [u8; 10]) -> &[u8] {
    let mut used = 0;
    while number >= 0x80 {
        space[used] = number as u8 | 0x80;
        number >>= 7;
        used += 1;
    }
    space[used] = number as u8;
    &space[..=used]
}

/// Reads the frame at the start of `bytes` and its length. `Ok(None)`: not whole yet.
#[inline]
pub fn parse(bytes: &[u8]) -> Result<Option<(Event<'_>, usize)>, Malformed> {
    let Some((&op, rest)) = bytes.split_first() else { return Ok(None) };
    let Some((length, head)) = take_varint(rest)? else { return Ok(None) };
    let start = 1 + head;
    let Some(end) = usize::try_from(length).ok().and_then(|length| start.checked_add(length)) else {
        return Err(Malformed("a frame's length is beyond memory"));
    };
    let Some(body) = bytes.get(start..end) else { return Ok(None) };
    if op == op::VALUE {
        let (topic, value) = varint(body)?;
        return Ok(Some((Event::Value { topic, value }, end)));
    }
    Ok(Some((parse_rare(op, body)?, end)))
}

/// Everything but values, out of the loop's way.
#[cold]
fn parse_rare(op: u8, body: &[u8]) -> Result<Event<'_>, Malformed> {
    Ok(match op {
        op::DELTA_DEFLATE | op::DELTA_COPY => {
            let (topic, delta) = varint(body)?;
            let form = if op == op::DELTA_COPY { DeltaForm::Copy } else { DeltaForm::Deflate };
            Event::Delta { topic, form, delta }
        }
        op::SUBSCRIBED => {
            let (topic, rest) = varint(body)?;
            Event::Topic { topic, path: string(rest)? }
        }
        op::WELCOME => {
            let (_id, rest) = varint(body)?;
            let (_version, rest) = varint(rest)?;
            Event::Welcome { keep_alive_ms: keep_alive(rest)?, in_flight_max: u16::MAX }
        }
        op::OK => Event::Accepted { id: varint(body)?.0 },
        op::ERROR => {
            let (id, rest) = varint(body)?;
            let (code, rest) = varint(rest)?;
            let (_position, rest) = varint(rest)?;
            Event::Refused { id, code, message: text(rest)? }
        }
        op::CLOSING => {
            let (code, rest) = varint(body)?;
            Event::Closing { code, message: text(rest)? }
        }
        op::LATER => Event::Later { wait_ms: varint(varint(body)?.1)?.0 },
        op::PING => Event::Ping,
        _ => Event::Other,
    })
}

fn keep_alive(mut fields: &[u8]) -> Result<u64, Malformed> {
    let mut keep_alive_ms = 0;
    while !fields.is_empty() {
        let (tag, rest) = varint(fields)?;
        let (length, rest) = varint(rest)?;
        let (field, rest) = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length)).ok_or(CUT)?;
        if tag == FIELD_KEEP_ALIVE_MS {
            keep_alive_ms = varint(field)?.0;
        }
        fields = rest;
    }
    Ok(keep_alive_ms)
}

const CUT: Malformed = Malformed("a frame's body ends within a field");

fn string(bytes: &[u8]) -> Result<&str, Malformed> {
    let (length, rest) = varint(bytes)?;
    text(usize::try_from(length).ok().and_then(|length| rest.get(..length)).ok_or(CUT)?)
}

fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed("a text is not UTF-8"))
}

#[inline]
fn varint(bytes: &[u8]) -> Result<(u64, &[u8]), Malformed> {
    let (number, length) = take_varint(bytes)?.ok_or(CUT)?;
    Ok((number, &bytes[length..]))
}

/// An unsigned LEB128 number and its length. `Ok(None)`: not whole yet.
#[inline]
pub fn take_varint(bytes: &[u8]) -> Result<Option<(u64, usize)>, Malformed> {
    let mut number = 0u64;
    for (index, &byte) in bytes.iter().take(10).enumerate() {
        if index == 9 && byte > 1 {
            return Err(Malformed("a number has more than 64 bits"));
        }
        number |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((number, index + 1)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::login::Login;
    use tidewire::surface::value::ValueType;

    fn check_encode(request: Request<'_>, expected: &[u8]) {
        let mut out = vec![0xEE];
        encode(&request, &mut out);
        assert_eq!(&out[1..], expected, "{request:?}");
    }

    fn check_parse(bytes: &[u8], expected: Event<'_>) {
        assert_eq!(parse(bytes), Ok(Some((expected, bytes.len()))), "{bytes:02x?}");
        for cut in 0..bytes.len() {
            assert_eq!(parse(&bytes[..cut]), Ok(None), "cut at {cut} of {bytes:02x?}");
        }
    }

    #[test]
    fn requests_are_the_protocols_bytes() {
        let anonymous = Request::Connect { id: 1, name: "ab", capabilities: 3, login: &Login::default() };
        check_encode(anonymous, b"\x01\x09\x01\x01\x01\x02ab\x02\x01\x03");
        let login = Login { principal: "ann".to_owned(), password: "pw".to_owned() };
        let connect = Request::Connect { id: 1, name: "ab", capabilities: 3, login: &login };
        check_encode(connect, b"\x01\x12\x01\x01\x01\x02ab\x02\x01\x03\x0a\x03ann\x0b\x02pw");
        check_encode(Request::Subscribe { id: 300, selector: "a/b" }, b"\x18\x07\xac\x02\x03a/b\x00");
        let value_type = ValueType::Binary;
        check_encode(Request::Create { id: 2, path: "a", value_type, value: b"xy" }, b"\x12\x07\x02\x01a\x05\x00xy");
        check_encode(Request::Set { id: 0, path: "a", value_type, value: b"xy" }, b"\x11\x06\x00\x01a\x05xy");
        check_encode(Request::Remove { id: 5, selector: "?a//" }, b"\x13\x06\x05\x04?a//");
        check_encode(Request::Ping, b"\x02\x00");
        check_encode(Request::Pong, b"\x03\x00");
        check_encode(Request::Close, b"\x04\x00");
    }

    #[test]
    fn a_long_body_has_a_long_length() {
        let value = [7; 200];
        let mut expected = b"\x11\xcc\x01\x00\x01a\x05".to_vec();
        expected.extend_from_slice(&value);
        check_encode(Request::Set { id: 0, path: "a", value_type: ValueType::Binary, value: &value }, &expected);
    }

    #[test]
    fn events_are_read_in_place() {
        check_parse(b"\x91\x05\xac\x02abc", Event::Value { topic: 300, value: b"abc" });
        check_parse(b"\x92\x02\x01x", Event::Delta { topic: 1, form: DeltaForm::Deflate, delta: b"x" });
        check_parse(b"\x93\x02\x01x", Event::Delta { topic: 1, form: DeltaForm::Copy, delta: b"x" });
        check_parse(b"\x90\x07\x01\x03a/b\x05\x00", Event::Topic { topic: 1, path: "a/b" });
        check_parse(b"\x82\x02\x05\x01", Event::Accepted { id: 5 });
        check_parse(b"\x83\x07\x02\xc9\x01\x00bad", Event::Refused { id: 2, code: 201, message: "bad" });
        check_parse(b"\x84\x05\xe8\x07bye", Event::Closing { code: 1000, message: "bye" });
        check_parse(b"\x81\x0a\x01\x01\x01\x01t\x04\x03\xb0\xea\x01", Event::Welcome { keep_alive_ms: 30_000, in_flight_max: u16::MAX });
        check_parse(b"\x86\x03\x01\xf4\x03", Event::Later { wait_ms: 500 });
        check_parse(b"\x02\x00", Event::Ping);
        check_parse(b"\xf0\x02zz", Event::Other);
    }

    #[test]
    fn broken_bodies_are_malformed() {
        for bytes in [&b"\x91\x00"[..], b"\x83\x01\x02", b"\x90\x02\x01\x09", b"\x81\x03\x01\x01\x04", b"\x84\x02\x01\xff"] {
            assert!(parse(bytes).is_err(), "{bytes:02x?}");
        }
        assert!(parse(b"\x91\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02").is_err());
    }
}
