//! Packets of MQTT as a client writes and reads them: just as much as the simulated one needs.

use crate::mqtt_client::Kind;
use crate::mqtt_model::Message;

pub const PUBACK: u8 = 4;
pub const PUBREC: u8 = 5;
pub const PUBREL: u8 = 6;
pub const PUBCOMP: u8 = 7;

/// What a server sends.
#[derive(Debug)]
pub enum Packet {
    Connack { is_present: bool, code: u8, receive_maximum: Option<u16>, missed: usize },
    Publish { first: u8, topic: String, alias: Option<u16>, id: u16, payload: Vec<u8>, missed: usize },
    Acknowledgement { kind: u8, id: u16, code: u8 },
    Suback { id: u16, code: u8 },
    Unsuback { id: u16 },
    Pingresp,
    Disconnect,
}

// Writing.

fn put(out: &mut Vec<u8>, first: u8, body: &[u8]) {
    out.push(first);
    let mut length = body.len();
    loop {
        let more = if length > 127 { 128 } else { 0 };
        out.push((length % 128) as u8 | more);
        length /= 128;
        if length == 0 {
            break;
        }
    }
    out.extend_from_slice(body);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

pub fn connect(kind: &Kind, starts_clean: bool) -> Vec<u8> {
    let mut body = Vec::new();
    put_text(&mut body, "MQTT");
    body.extend_from_slice(&[if kind.is_v5 { 5 } else { 4 }, u8::from(starts_clean) << 1, 0, 0]);
    if kind.is_v5 {
        let mut properties = vec![0x21];
        properties.extend_from_slice(&kind.receive_maximum.to_be_bytes());
        if kind.is_kept {
            properties.extend_from_slice(&[0x11, 0xff, 0xff, 0xff, 0xff]);
        }
        if kind.topic_aliases > 0 {
            properties.push(0x22);
            properties.extend_from_slice(&kind.topic_aliases.to_be_bytes());
        }
        body.push(properties.len() as u8);
        body.extend_from_slice(&properties);
    }
    put_text(&mut body, &kind.id);
    let mut out = Vec::new();
    put(&mut out, 0x10, &body);
    out
}

pub fn put_publish(out: &mut Vec<u8>, is_v5: bool, id: u16, is_duplicate: bool, number: usize, message: &Message) {
    let mut body = Vec::new();
    put_text(&mut body, message.topic);
    if message.qos > 0 {
        body.extend_from_slice(&id.to_be_bytes());
    }
    if is_v5 {
        body.push(0);
    }
    body.extend_from_slice(&message.payload(number));
    put(out, 0x30 | u8::from(is_duplicate) << 3 | message.qos << 1 | u8::from(message.is_retained), &body);
}

pub fn put_subscribe(out: &mut Vec<u8>, is_v5: bool, id: u16, filter: &str, qos: u8) {
    let mut body = id.to_be_bytes().to_vec();
    if is_v5 {
        body.push(0);
    }
    put_text(&mut body, filter);
    body.push(qos);
    put(out, 0x82, &body);
}

pub fn put_unsubscribe(out: &mut Vec<u8>, is_v5: bool, id: u16, filter: &str) {
    let mut body = id.to_be_bytes().to_vec();
    if is_v5 {
        body.push(0);
    }
    put_text(&mut body, filter);
    put(out, 0xa2, &body);
}

pub fn put_acknowledgement(out: &mut Vec<u8>, kind: u8, id: u16) {
    let flags = if kind == PUBREL { 2 } else { 0 };
    put(out, kind << 4 | flags, &id.to_be_bytes());
}

pub fn put_disconnect(out: &mut Vec<u8>) {
    put(out, 0xe0, &[]);
}

/// DISCONNECT that ends the session of a client of MQTT 5.
pub fn put_last_disconnect(out: &mut Vec<u8>, is_v5: bool) {
    let body: &[u8] = if is_v5 { &[0, 5, 0x11, 0, 0, 0, 0] } else { &[] };
    put(out, 0xe0, body);
}

// Reading.

/// The next whole packet.
pub fn next(unread: &mut Vec<u8>, is_v5: bool) -> Option<Packet> {
    let whole = next_whole(unread)?;
    Some(read(whole[0], body_of(&whole), is_v5))
}

/// The same in bytes.
pub fn next_whole(unread: &mut Vec<u8>) -> Option<Vec<u8>> {
    let (mut length, mut at) = (0usize, 1);
    loop {
        let byte = *unread.get(at)?;
        length |= usize::from(byte & 127) << (7 * (at - 1));
        at += 1;
        if byte < 128 {
            break;
        }
    }
    if unread.len() < at + length {
        return None;
    }
    Some(unread.drain(..at + length).collect())
}

fn body_of(whole: &[u8]) -> &[u8] {
    let length = whole[1..].iter().position(|byte| *byte < 128).expect("the packet is whole");
    &whole[2 + length..]
}

/// Of a packet of a client's that is a message the topic and the number, which is 0 of one that clears.
pub fn published(whole: &[u8], is_v5: bool) -> Option<(String, usize)> {
    let (first, body) = (whole[0], body_of(whole));
    if first >> 4 != 3 {
        return None;
    }
    let end = 2 + usize::from(number(body, 0));
    let topic = String::from_utf8(body[2..end].to_vec()).expect("a name is UTF-8");
    let (id, properties) = (if first & 6 != 0 { 2 } else { 0 }, usize::from(is_v5));
    Some((topic, Message::number_of(&body[end + id + properties..])))
}

fn number(body: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([body[at], body[at + 1]])
}

fn read(first: u8, body: &[u8], is_v5: bool) -> Packet {
    match first >> 4 {
        2 => {
            let Properties { receive_maximum, missed, .. } = if is_v5 { Properties::read(&body[2..]).0 } else { Properties::default() };
            Packet::Connack { is_present: body[0] & 1 != 0, code: body[1], receive_maximum, missed }
        }
        3 => read_publish(first, body, is_v5),
        kind @ (PUBACK | PUBREC | PUBREL | PUBCOMP) => {
            Packet::Acknowledgement { kind, id: number(body, 0), code: body.get(2).copied().unwrap_or(0) }
        }
        9 => Packet::Suback { id: number(body, 0), code: *body.last().expect("SUBACK has a code") },
        11 => Packet::Unsuback { id: number(body, 0) },
        13 => Packet::Pingresp,
        14 => Packet::Disconnect,
        other => panic!("a packet of type {other} from the server"),
    }
}

fn read_publish(first: u8, body: &[u8], is_v5: bool) -> Packet {
    let mut at = 2 + usize::from(number(body, 0));
    let topic = String::from_utf8(body[2..at].to_vec()).expect("a name is UTF-8");
    let mut id = 0;
    if first & 6 != 0 {
        id = number(body, at);
        at += 2;
        assert_ne!(id, 0, "an identifier is never 0");
    }
    let (mut alias, mut missed) = (None, 0);
    if is_v5 {
        let (properties, length) = Properties::read(&body[at..]);
        alias = properties.alias;
        missed = properties.missed;
        at += length;
    }
    Packet::Publish { first, topic, alias, id, payload: body[at..].to_vec(), missed }
}

/// Of the properties those that matter.
#[derive(Default)]
struct Properties {
    receive_maximum: Option<u16>,
    alias: Option<u16>,
    /// How many messages the session had no room for.
    missed: usize,
}

impl Properties {
    /// And how many bytes they take, their length included.
    fn read(bytes: &[u8]) -> (Self, usize) {
        let length = usize::from(bytes[0]);
        assert!(length < 128, "the properties are few");
        let (mut properties, mut at) = (Self::default(), 1);
        while at <= length {
            let value = at + 1;
            at = match bytes[at] {
                0x21 => {
                    properties.receive_maximum = Some(number(bytes, value));
                    value + 2
                }
                0x23 => {
                    properties.alias = Some(number(bytes, value));
                    value + 2
                }
                0x13 | 0x22 => value + 2,
                0x02 | 0x11 | 0x27 => value + 4,
                0x01 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => value + 1,
                0x0b => value + 1,
                0x26 => {
                    let name = value + 2..value + 2 + usize::from(number(bytes, value));
                    assert_eq!(&bytes[name.clone()], b"tidewire-missed");
                    let text = name.end + 2..name.end + 2 + usize::from(number(bytes, name.end));
                    properties.missed = std::str::from_utf8(&bytes[text.clone()]).ok().and_then(|text| text.parse().ok()).expect("a count");
                    text.end
                }
                0x03 | 0x12 | 0x1f | 0x1c => value + 2 + usize::from(number(bytes, value)),
                other => panic!("the property 0x{other:02x}"),
            };
        }
        (properties, length + 1)
    }
}
