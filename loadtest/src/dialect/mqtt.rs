//! MQTT 3.1.1 and 5, the client's half, as far as a load speaks it.
//!
//! Reads in place and allocates nothing, as `native` does: a delivery costs the packet's head, a walk over
//! the digits at the end of its topic's name, and two slices. Packets that a load has no use for are skipped.
//!
//! A load's topic is named by its number in the last level, `root/7`, so a delivery says which topic it is
//! of without a table of names. MQTT creates no topics: `Create` publishes the first value and `Remove` an empty
//! retained one, both with QoS 1 whatever the options say, because only then does the server answer.

use super::{Answer, Event, Malformed, Request, topic_number};

pub const SUBPROTOCOL: &str = "mqtt";
/// What `CONNECT` promises: something is sent within this time.
const KEEP_ALIVE_S: u16 = 60;

/// How a run speaks MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    pub version: Version,
    /// Of subscriptions and of updates.
    pub qos: Qos,
    pub updates: Updates,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V3_1_1,
    V5,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Qos {
    AtMostOnce,
    AtLeastOnce,
    ExactlyOnce,
}

/// Whether the server keeps an update for those that subscribe later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Updates {
    Passing,
    Retained,
}

/// First bytes of packets, the flags that their types prescribe included.
pub mod op {
    pub const CONNECT: u8 = 0x10;
    pub const CONNACK: u8 = 0x20;
    pub const PUBLISH: u8 = 0x30;
    pub const PUBACK: u8 = 0x40;
    pub const PUBREC: u8 = 0x50;
    pub const PUBREL: u8 = 0x62;
    pub const PUBCOMP: u8 = 0x70;
    pub const SUBSCRIBE: u8 = 0x82;
    pub const SUBACK: u8 = 0x90;
    pub const PINGREQ: u8 = 0xC0;
    pub const PINGRESP: u8 = 0xD0;
    pub const DISCONNECT: u8 = 0xE0;
    /// Of PUBLISH.
    pub const RETAIN: u8 = 0x01;
}

/// What stands in CONNECT.
mod flag {
    pub const CLEAN_START: u8 = 0x02;
    pub const PASSWORD: u8 = 0x40;
    pub const USER_NAME: u8 = 0x80;
}

/// The packet identifier of a request: those of 65,535 requests in a row differ.
pub fn packet_identifier(id: u64) -> u16 {
    (id.saturating_sub(1) % 65_535 + 1) as u16
}

/// Appends one request as a packet.
pub fn encode(options: Options, request: &Request<'_>, out: &mut Vec<u8>) {
    let retained = |updates| if updates == Updates::Retained { op::RETAIN } else { 0 };
    match *request {
        Request::Connect { name, login, .. } => packet(op::CONNECT, out, |body| {
            push_text("MQTT", body);
            let texts = [(flag::USER_NAME, &login.principal), (flag::PASSWORD, &login.password)];
            let said = texts.iter().filter(|(_, text)| !text.is_empty());
            // MQTT-3.1.2-4: the session starts clean.
            let flags = said.clone().fold(flag::CLEAN_START, |flags, (flag, _)| flags | flag);
            body.extend_from_slice(&[if options.version == Version::V5 { 5 } else { 4 }, flags]);
            body.extend_from_slice(&KEEP_ALIVE_S.to_be_bytes());
            push_no_properties(options.version, body);
            push_text(name, body);
            said.for_each(|(_, text)| push_text(text, body));
        }),
        Request::Subscribe { id, selector } => packet(op::SUBSCRIBE, out, |body| {
            body.extend_from_slice(&packet_identifier(id).to_be_bytes());
            push_no_properties(options.version, body);
            push_text(selector, body);
            body.push(options.qos as u8);
        }),
        Request::Create { id, path, value, .. } => {
            publish(options.version, Qos::AtLeastOnce, retained(options.updates), id, path, value, out);
        }
        Request::Set { id, path, value, .. } => publish(options.version, options.qos, retained(options.updates), id, path, value, out),
        Request::Remove { id, selector } => publish(options.version, Qos::AtLeastOnce, op::RETAIN, id, selector, b"", out),
        Request::Answer(Answer { op, packet }) => {
            let [high, low] = packet.to_be_bytes();
            out.extend_from_slice(&[op, 2, high, low]);
        }
        Request::Ping => out.extend_from_slice(&[op::PINGREQ, 0]),
        // The server asks for no sign of life.
        Request::Pong => {}
        Request::Close => out.extend_from_slice(&[op::DISCONNECT, 0]),
    }
}

fn publish(version: Version, qos: Qos, retain: u8, id: u64, path: &str, value: &[u8], out: &mut Vec<u8>) {
    packet(op::PUBLISH | (qos as u8) << 1 | retain, out, |body| {
        push_text(path, body);
        if qos > Qos::AtMostOnce {
            body.extend_from_slice(&packet_identifier(id).to_be_bytes());
        }
        push_no_properties(version, body);
        body.extend_from_slice(value);
    });
}

/// Appends a packet whose body `write` appends.
pub fn packet(op: u8, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(op);
    let start = out.len();
    write(out);
    let mut length = out.len() - start;
    let (mut bytes, mut used) = ([0; 10], 0);
    while length >= 0x80 {
        bytes[used] = length as u8 | 0x80;
        length >>= 7;
        used += 1;
    }
    bytes[used] = length as u8;
    out.extend_from_slice(&bytes[..=used]);
    out[start..].rotate_right(used + 1);
}

fn push_text(text: &str, out: &mut Vec<u8>) {
    // Texts are a run's own, which its plan has checked.
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn push_no_properties(version: Version, out: &mut Vec<u8>) {
    if version == Version::V5 {
        out.push(0);
    }
}

/// Reads the packet at the start of `bytes` and its length. `Ok(None)`: not whole yet.
#[inline]
pub fn parse(version: Version, bytes: &[u8]) -> Result<Option<(Event<'_>, usize)>, Malformed> {
    let Some((&head, rest)) = bytes.split_first() else { return Ok(None) };
    let Some((length, used)) = take_length(rest)? else { return Ok(None) };
    let start = 1 + used;
    let Some(body) = bytes.get(start..start + length) else { return Ok(None) };
    let event = if head & 0xF0 == op::PUBLISH { delivery(version, head, body)? } else { parse_rare(version, head, body)? };
    Ok(Some((event, start + length)))
}

const CUT: Malformed = Malformed("a packet ends within a field");

#[inline]
fn delivery(version: Version, head: u8, body: &[u8]) -> Result<Event<'_>, Malformed> {
    let (name, mut rest) = take_field(body)?;
    let topic = topic_number(name);
    let qos = head >> 1 & 3;
    let mut packet = 0;
    if qos > 0 {
        (packet, rest) = take_u16(rest)?;
    }
    if version == Version::V5 {
        rest = take_properties(rest)?.1;
    }
    Ok(match qos {
        0 => Event::Value { topic, value: rest },
        1 => Event::Assured { topic, value: rest, answer: Answer { op: op::PUBACK, packet } },
        2 => Event::Assured { topic, value: rest, answer: Answer { op: op::PUBREC, packet } },
        _ => return Err(Malformed("a delivery has QoS 3")),
    })
}

/// Everything but deliveries, out of the loop's way.
#[cold]
fn parse_rare(version: Version, head: u8, body: &[u8]) -> Result<Event<'_>, Malformed> {
    Ok(match head {
        op::CONNACK => return connected(version, body),
        op::SUBACK => {
            let (packet, mut rest) = take_u16(body)?;
            if version == Version::V5 {
                rest = take_properties(rest)?.1;
            }
            answered(packet, *rest.first().ok_or(CUT)?)
        }
        op::PUBACK | op::PUBCOMP | op::PUBREC | op::PUBREL => {
            let (packet, rest) = take_u16(body)?;
            match (head, rest.first().copied().unwrap_or(0)) {
                (op::PUBREL, _) => Event::Step { answer: Answer { op: op::PUBCOMP, packet } },
                (op::PUBREC, code) if code < 0x80 => Event::Step { answer: Answer { op: op::PUBREL, packet } },
                (_, code) => answered(packet, code),
            }
        }
        op::DISCONNECT => {
            let code = body.first().copied().unwrap_or(0);
            Event::Closing { code: u64::from(code), message: reason_text(code) }
        }
        _ => Event::Other,
    })
}

fn answered(packet: u16, code: u8) -> Event<'static> {
    let id = u64::from(packet);
    if code < 0x80 { Event::Accepted { id } } else { Event::Refused { id, code: u64::from(code), message: reason_text(code) } }
}

fn connected(version: Version, body: &[u8]) -> Result<Event<'_>, Malformed> {
    let [_flags, code, rest @ ..] = body else { return Err(CUT) };
    if *code != 0 {
        return Ok(Event::Refused { id: 1, code: u64::from(*code), message: reason_text(*code) });
    }
    let (mut keep_alive_s, mut in_flight_max) = (KEEP_ALIVE_S, u16::MAX);
    if version == Version::V5 {
        let mut properties = take_properties(rest)?.0;
        while let Some((&identifier, rest)) = properties.split_first() {
            let (number, rest) = take_property(identifier, rest)?;
            match identifier {
                PROPERTY_SERVER_KEEP_ALIVE => keep_alive_s = number,
                PROPERTY_RECEIVE_MAXIMUM => in_flight_max = number,
                _ => {}
            }
            properties = rest;
        }
    }
    Ok(Event::Welcome { keep_alive_ms: u64::from(keep_alive_s) * 1000, in_flight_max })
}

const PROPERTY_SERVER_KEEP_ALIVE: u8 = 0x13;
const PROPERTY_RECEIVE_MAXIMUM: u8 = 0x21;

/// Takes the value of one of CONNACK's properties; 0 for those that are no number of two bytes.
fn take_property(identifier: u8, bytes: &[u8]) -> Result<(u16, &[u8]), Malformed> {
    match identifier {
        // Bytes.
        0x24 | 0x25 | 0x28 | 0x29 | 0x2A => Ok((0, bytes.get(1..).ok_or(CUT)?)),
        // Integers of two and of four bytes.
        PROPERTY_SERVER_KEEP_ALIVE | PROPERTY_RECEIVE_MAXIMUM | 0x22 => take_u16(bytes),
        0x11 | 0x27 => Ok((0, bytes.get(4..).ok_or(CUT)?)),
        // Texts and binary data, and a pair of texts.
        0x12 | 0x15 | 0x16 | 0x1A | 0x1C | 0x1F => Ok((0, take_field(bytes)?.1)),
        0x26 => Ok((0, take_field(take_field(bytes)?.1)?.1)),
        _ => Err(Malformed("CONNACK has a property that is not its own")),
    }
}

/// What a code means, where a load is likely to meet it.
fn reason_text(code: u8) -> &'static str {
    match code {
        1 | 0x84 => "the server does not speak this version of MQTT",
        2 | 0x85 => "the client's identifier is not taken",
        3 | 0x88 => "the server is not available",
        4 | 0x86 => "the name or password is wrong",
        5 | 0x87 => "not authorised",
        0x8B => "the server shuts down",
        0x8D => "nothing was sent within the keep-alive time",
        0x8E => "another connection took over the session",
        0x8F | 0x90 => "the topic's name or filter is not taken",
        0x93 => "more was in flight than the server receives",
        0x95 => "a packet is too large",
        0x96 => "too many messages a second",
        0x97 => "a quota is used up",
        0x9B => "the QoS is not supported",
        _ => "",
    }
}

/// Takes a text or binary data with its two-byte length.
#[inline]
fn take_field(bytes: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let (length, rest) = take_u16(bytes)?;
    rest.split_at_checked(usize::from(length)).ok_or(CUT)
}

#[inline]
fn take_u16(bytes: &[u8]) -> Result<(u16, &[u8]), Malformed> {
    let (number, rest) = bytes.split_first_chunk::<2>().ok_or(CUT)?;
    Ok((u16::from_be_bytes(*number), rest))
}

/// Takes a block of properties with its length.
#[inline]
fn take_properties(bytes: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let (length, used) = take_length(bytes)?.ok_or(CUT)?;
    bytes[used..].split_at_checked(length).ok_or(CUT)
}

/// A variable byte integer and how many bytes it takes. `Ok(None)`: not whole yet.
#[inline]
pub fn take_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let mut number = 0;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        number |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((number, index + 1)));
        }
    }
    if bytes.len() < 4 { Ok(None) } else { Err(Malformed("a length has more than four bytes")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::login::Login;
    use tidewire::surface::value::ValueType;

    const OLD: Options = Options { version: Version::V3_1_1, qos: Qos::AtMostOnce, updates: Updates::Passing };
    const NEW: Options = Options { version: Version::V5, qos: Qos::ExactlyOnce, updates: Updates::Retained };

    fn check_encode(options: Options, request: Request<'_>, expected: &[u8]) {
        let mut out = vec![0xEE];
        encode(options, &request, &mut out);
        assert_eq!(&out[1..], expected, "{request:?}");
    }

    fn check_parse(version: Version, bytes: &[u8], expected: Event<'_>) {
        assert_eq!(parse(version, bytes), Ok(Some((expected, bytes.len()))), "{bytes:02x?}");
        for cut in 0..bytes.len() {
            assert_eq!(parse(version, &bytes[..cut]), Ok(None), "cut at {cut} of {bytes:02x?}");
        }
    }

    fn answer(op: u8, packet: u16) -> Answer {
        Answer { op, packet }
    }

    #[test]
    fn requests_are_the_standards_bytes() {
        let value_type = ValueType::Binary;
        let anonymous = Request::Connect { id: 1, name: "ab", capabilities: 0, login: &Login::default() };
        check_encode(OLD, anonymous, b"\x10\x0e\0\x04MQTT\x04\x02\0\x3c\0\x02ab");
        check_encode(NEW, anonymous, b"\x10\x0f\0\x04MQTT\x05\x02\0\x3c\0\0\x02ab");
        let login = Login { principal: "ann".to_owned(), password: "pw".to_owned() };
        let connect = Request::Connect { id: 1, name: "ab", capabilities: 0, login: &login };
        check_encode(OLD, connect, b"\x10\x17\0\x04MQTT\x04\xc2\0\x3c\0\x02ab\0\x03ann\0\x02pw");
        check_encode(OLD, Request::Subscribe { id: 2, selector: "a/+" }, b"\x82\x08\0\x02\0\x03a/+\0");
        check_encode(NEW, Request::Subscribe { id: 2, selector: "a/+" }, b"\x82\x09\0\x02\0\0\x03a/+\x02");
        check_encode(OLD, Request::Set { id: 9, path: "a", value_type, value: b"xy" }, b"\x30\x05\0\x01axy");
        check_encode(NEW, Request::Set { id: 9, path: "a", value_type, value: b"xy" }, b"\x35\x08\0\x01a\0\x09\0xy");
        check_encode(OLD, Request::Create { id: 9, path: "a", value_type, value: b"xy" }, b"\x32\x07\0\x01a\0\x09xy");
        check_encode(OLD, Request::Remove { id: 9, selector: "a" }, b"\x33\x05\0\x01a\0\x09");
        check_encode(OLD, Request::Answer(answer(op::PUBACK, 258)), b"\x40\x02\x01\x02");
        check_encode(OLD, Request::Ping, b"\xC0\0");
        check_encode(OLD, Request::Pong, b"");
        check_encode(OLD, Request::Close, b"\xE0\0");
    }

    #[test]
    fn a_long_body_has_a_long_length() {
        let value = [7; 200];
        let mut expected = b"\x30\xcb\x01\0\x01a".to_vec();
        expected.extend_from_slice(&value);
        check_encode(OLD, Request::Set { id: 0, path: "a", value_type: ValueType::Binary, value: &value }, &expected);
    }

    #[test]
    fn deliveries_are_read_in_place() {
        let (old, new) = (Version::V3_1_1, Version::V5);
        check_parse(old, b"\x30\x08\0\x03a/7abc", Event::Value { topic: 7, value: b"abc" });
        check_parse(new, b"\x31\x0b\0\x03a/7\x02\x01\x01abc", Event::Value { topic: 7, value: b"abc" });
        let (value, topic) = (&b"abc"[..], 12);
        check_parse(old, b"\x32\x0b\0\x04a/12\x01\x02abc", Event::Assured { topic, value, answer: answer(op::PUBACK, 258) });
        check_parse(new, b"\x34\x0c\0\x04a/12\x01\x02\0abc", Event::Assured { topic, value, answer: answer(op::PUBREC, 258) });
    }

    #[test]
    fn answers_are_accepted_refused_or_answered() {
        let (old, new) = (Version::V3_1_1, Version::V5);
        for version in [old, new] {
            check_parse(version, b"\x40\x02\x01\x02", Event::Accepted { id: 258 });
            check_parse(version, b"\x70\x02\x01\x02", Event::Accepted { id: 258 });
            check_parse(version, b"\x50\x02\x01\x02", Event::Step { answer: answer(op::PUBREL, 258) });
            check_parse(version, b"\x62\x02\x01\x02", Event::Step { answer: answer(op::PUBCOMP, 258) });
            check_parse(version, b"\xD0\0", Event::Other);
        }
        check_parse(old, b"\x90\x03\0\x02\x01", Event::Accepted { id: 2 });
        check_parse(old, b"\x90\x03\0\x02\x80", Event::Refused { id: 2, code: 128, message: "" });
        check_parse(new, b"\x90\x04\0\x02\0\x87", Event::Refused { id: 2, code: 135, message: "not authorised" });
        check_parse(new, b"\x40\x03\0\x02\x10", Event::Accepted { id: 2 });
        check_parse(new, b"\x50\x04\0\x02\x97\0", Event::Refused { id: 2, code: 151, message: "a quota is used up" });
        check_parse(new, b"\xE0\x01\x8B", Event::Closing { code: 139, message: "the server shuts down" });
    }

    #[test]
    fn a_greeting_tells_keep_alive_and_what_may_be_in_flight() {
        check_parse(Version::V3_1_1, b"\x20\x02\0\0", Event::Welcome { keep_alive_ms: 60_000, in_flight_max: 65_535 });
        check_parse(Version::V3_1_1, b"\x20\x02\0\x05", Event::Refused { id: 1, code: 5, message: "not authorised" });
        check_parse(Version::V5, b"\x20\x03\0\0\0", Event::Welcome { keep_alive_ms: 60_000, in_flight_max: 65_535 });
        let with_properties = b"\x20\x16\0\0\x13\x22\0\x0a\x12\0\x02id\x21\0\x14\x24\x01\x13\0\x1e";
        let mut bytes = with_properties.to_vec();
        bytes[4] = (bytes.len() - 5) as u8;
        bytes[1] = (bytes.len() - 2) as u8;
        check_parse(Version::V5, &bytes, Event::Welcome { keep_alive_ms: 30_000, in_flight_max: 20 });
    }

    #[test]
    fn packets_that_break_the_rules_are_malformed() {
        for bytes in [
            &b"\x30\x02\0\x01"[..],
            b"\x36\x05\0\x01a\0\x01",
            b"\x32\x03\0\x01a",
            b"\x20\x01\0",
            b"\x30\xff\xff\xff\xff\x01",
            b"\x90\x02\0\x01",
        ] {
            assert!(parse(Version::V3_1_1, bytes).is_err(), "{bytes:02x?}");
        }
        for bytes in [&b"\x30\x04\0\x01a\x09"[..], b"\x20\x05\0\0\x02\x99\0", b"\x20\x04\0\0\x01\x21"] {
            assert!(parse(Version::V5, bytes).is_err(), "{bytes:02x?}");
        }
    }

    #[test]
    fn packet_identifiers_are_never_zero() {
        for (id, packet) in [(0, 1), (1, 1), (65_535, 65_535), (65_536, 1), (131_070, 65_535)] {
            assert_eq!(packet_identifier(id), packet, "{id}");
        }
    }
}
