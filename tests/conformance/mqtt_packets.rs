//! MQTT packets as a client writes and reads them, apart from `wire::mqtt`, which they check.
//!
//! Writing is free: a test says what is wrong in the bytes. Reading is strict: [`parse`] panics on what the standards forbid a server to send,
//! so every test shows the forms of all packets that it is sent.

use self::Value::{Binary, Byte, Four, Pair, Text, Two, Variable};

pub const V31: u8 = 3;
pub const V311: u8 = 4;
pub const V5: u8 = 5;

pub const PUBACK: u8 = 4;
pub const PUBREC: u8 = 5;
pub const PUBREL: u8 = 6;
pub const PUBCOMP: u8 = 7;

/// The ids of properties.
pub mod id {
    pub const PAYLOAD_FORMAT: u8 = 1;
    pub const MESSAGE_EXPIRY: u8 = 2;
    pub const CONTENT_TYPE: u8 = 3;
    pub const RESPONSE_TOPIC: u8 = 8;
    pub const CORRELATION_DATA: u8 = 9;
    pub const SUBSCRIPTION: u8 = 11;
    pub const SESSION_EXPIRY: u8 = 17;
    pub const ASSIGNED_CLIENT: u8 = 18;
    pub const SERVER_KEEP_ALIVE: u8 = 19;
    pub const AUTHENTICATION_METHOD: u8 = 21;
    pub const AUTHENTICATION_DATA: u8 = 22;
    pub const REQUEST_PROBLEM: u8 = 23;
    pub const WILL_DELAY: u8 = 24;
    pub const REQUEST_RESPONSE: u8 = 25;
    pub const RESPONSE_INFORMATION: u8 = 26;
    pub const SERVER_REFERENCE: u8 = 28;
    pub const REASON: u8 = 31;
    pub const RECEIVE_MAXIMUM: u8 = 33;
    pub const ALIAS_MAXIMUM: u8 = 34;
    pub const ALIAS: u8 = 35;
    pub const MAXIMUM_QOS: u8 = 36;
    pub const RETAIN_AVAILABLE: u8 = 37;
    pub const USER: u8 = 38;
    pub const PACKET_SIZE: u8 = 39;
    pub const WILDCARDS_AVAILABLE: u8 = 40;
    pub const IDS_AVAILABLE: u8 = 41;
    pub const SHARED_AVAILABLE: u8 = 42;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Byte(u8),
    Two(u16),
    Four(u32),
    Variable(u32),
    Text(String),
    Binary(Vec<u8>),
    Pair(String, String),
}

pub type Property = (u8, Value);

pub fn text(id: u8, text: &str) -> Property {
    (id, Text(text.into()))
}

pub fn user(name: &str, value: &str) -> Property {
    (id::USER, Pair(name.into(), value.into()))
}

/// The value of the only property with this id.
pub fn property(properties: &[Property], id: u8) -> Option<&Value> {
    properties.iter().find(|(found, _)| *found == id).map(|(_, value)| value)
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    Connack {
        session_present: bool,
        code: u8,
        properties: Vec<Property>,
    },
    Publish(Publish),
    /// PUBACK, PUBREC, PUBREL or PUBCOMP by the number of its type.
    Acknowledged {
        kind: u8,
        id: u16,
        code: u8,
        properties: Vec<Property>,
    },
    Suback {
        id: u16,
        codes: Vec<u8>,
        properties: Vec<Property>,
    },
    Unsuback {
        id: u16,
        codes: Vec<u8>,
        properties: Vec<Property>,
    },
    Pingresp,
    Disconnect {
        code: u8,
        properties: Vec<Property>,
    },
    Auth {
        code: u8,
        properties: Vec<Property>,
    },
}

/// An acknowledgement as the server sends it where all is well.
pub fn acknowledged(kind: u8, id: u16) -> Packet {
    Packet::Acknowledged { kind, id, code: 0, properties: Vec::new() }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    pub version: u8,
    pub name: &'static str,
    pub client_id: String,
    pub clean: bool,
    pub keep_alive_s: u16,
    pub user_name: Option<String>,
    pub password: Option<Vec<u8>>,
    /// The properties are the will's own.
    pub will: Option<Publish>,
    pub properties: Vec<Property>,
    /// Connect flags that are set beside those that the rest asks for.
    pub more_flags: u8,
}

/// Of a client that starts clean.
pub fn connect(version: u8, client_id: &str) -> Connect {
    Connect {
        version,
        name: if version == V31 { "MQIsdp" } else { "MQTT" },
        client_id: client_id.into(),
        clean: true,
        keep_alive_s: 0,
        user_name: None,
        password: None,
        will: None,
        properties: Vec::new(),
        more_flags: 0,
    }
}

/// Of a client whose session outlives its connection.
pub fn persistent(version: u8, client_id: &str) -> Connect {
    let properties = if version == V5 { vec![(id::SESSION_EXPIRY, Four(1000))] } else { Vec::new() };
    Connect { clean: false, properties, ..connect(version, client_id) }
}

impl Connect {
    pub fn will(mut self, will: Publish) -> Self {
        self.will = Some(will);
        self
    }

    pub fn keep_alive(mut self, seconds: u16) -> Self {
        self.keep_alive_s = seconds;
        self
    }

    pub fn with(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }

    pub fn clean(mut self, clean: bool) -> Self {
        self.clean = clean;
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut flags = u8::from(self.clean) << 1 | u8::from(self.user_name.is_some()) << 7 | u8::from(self.password.is_some()) << 6;
        if let Some(will) = &self.will {
            flags |= 4 | will.qos << 3 | u8::from(will.retain) << 5;
        }
        let mut body = Vec::new();
        put_text(&mut body, self.name);
        body.extend([self.version, flags | self.more_flags]);
        body.extend(self.keep_alive_s.to_be_bytes());
        put_properties(&mut body, self.version, &self.properties);
        put_text(&mut body, &self.client_id);
        if let Some(will) = &self.will {
            put_properties(&mut body, self.version, &will.properties);
            put_text(&mut body, &will.topic);
            put_binary(&mut body, &will.payload);
        }
        if let Some(name) = &self.user_name {
            put_text(&mut body, name);
        }
        if let Some(password) = &self.password {
            put_binary(&mut body, password);
        }
        packet(0x10, &body)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    pub is_duplicate: bool,
    pub qos: u8,
    pub retain: bool,
    pub topic: String,
    /// 0 at QoS 0.
    pub id: u16,
    pub properties: Vec<Property>,
    pub payload: Vec<u8>,
}

/// At QoS 0.
pub fn publish(topic: &str, payload: &str) -> Publish {
    Publish { topic: topic.into(), payload: payload.into(), ..Publish::default() }
}

impl Publish {
    pub fn qos(mut self, qos: u8, id: u16) -> Self {
        (self.qos, self.id) = (qos, id);
        self
    }

    pub fn retained(mut self) -> Self {
        self.retain = true;
        self
    }

    pub fn again(mut self) -> Self {
        self.is_duplicate = true;
        self
    }

    pub fn with(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }

    pub fn bytes(&self, version: u8) -> Vec<u8> {
        let mut body = Vec::new();
        put_text(&mut body, &self.topic);
        if self.qos > 0 {
            body.extend(self.id.to_be_bytes());
        }
        put_properties(&mut body, version, &self.properties);
        body.extend(&self.payload);
        packet(0x30 | u8::from(self.is_duplicate) << 3 | self.qos << 1 | u8::from(self.retain), &body)
    }
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP without a code.
pub fn acknowledge(kind: u8, id: u16) -> Vec<u8> {
    packet(kind << 4 | if kind == PUBREL { 2 } else { 0 }, &id.to_be_bytes())
}

/// The same with a code, which only 5 has.
pub fn acknowledge_with(kind: u8, id: u16, code: u8) -> Vec<u8> {
    packet(kind << 4 | if kind == PUBREL { 2 } else { 0 }, &[&id.to_be_bytes()[..], &[code]].concat())
}

/// Of filters with their options, each the byte behind the filter.
pub fn subscribe(version: u8, id: u16, properties: &[Property], filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    put_properties(&mut body, version, properties);
    for (filter, options) in filters {
        put_text(&mut body, filter);
        body.push(*options);
    }
    packet(0x82, &body)
}

pub fn unsubscribe(version: u8, id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    put_properties(&mut body, version, &[]);
    for filter in filters {
        put_text(&mut body, filter);
    }
    packet(0xa2, &body)
}

pub const PINGREQ: [u8; 2] = [0xc0, 0];

pub fn disconnect(code: u8, properties: &[Property]) -> Vec<u8> {
    let mut body = vec![code];
    put_properties(&mut body, V5, properties);
    packet(0xe0, &body)
}

pub fn auth(code: u8, properties: &[Property]) -> Vec<u8> {
    let mut body = vec![code];
    put_properties(&mut body, V5, properties);
    packet(0xf0, &body)
}

pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    put_variable(&mut bytes, body.len() as u32);
    bytes.extend(body);
    bytes
}

pub fn put_text(out: &mut Vec<u8>, text: &str) {
    put_binary(out, text.as_bytes());
}

pub fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u16).to_be_bytes());
    out.extend(bytes);
}

fn put_variable(out: &mut Vec<u8>, mut number: u32) {
    while number >= 128 {
        out.push(number as u8 | 128);
        number >>= 7;
    }
    out.push(number as u8);
}

pub fn put_properties(out: &mut Vec<u8>, version: u8, properties: &[Property]) {
    if version < V5 {
        assert!(properties.is_empty(), "only 5 has properties");
        return;
    }
    let mut bytes = Vec::new();
    for (id, value) in properties {
        bytes.push(*id);
        match value {
            Byte(number) => bytes.push(*number),
            Two(number) => bytes.extend(number.to_be_bytes()),
            Four(number) => bytes.extend(number.to_be_bytes()),
            Variable(number) => put_variable(&mut bytes, *number),
            Text(text) => put_text(&mut bytes, text),
            Binary(content) => put_binary(&mut bytes, content),
            Pair(name, value) => {
                put_text(&mut bytes, name);
                put_text(&mut bytes, value);
            }
        }
    }
    put_variable(out, bytes.len() as u32);
    out.extend(bytes);
}

/// All packets of the bytes, which are whole.
pub fn parse_all(version: u8, mut bytes: &[u8]) -> Vec<Packet> {
    let packets = std::iter::from_fn(|| parse(version, &mut bytes)).collect();
    assert!(bytes.is_empty(), "whole packets: {bytes:?}");
    packets
}

/// Takes the next whole packet of a server off the bytes.
pub fn parse(version: u8, bytes: &mut &[u8]) -> Option<Packet> {
    let mut rest = *bytes;
    let first = take(&mut rest, 1)?[0];
    let len = take_variable(&mut rest)? as usize;
    let mut body = Body { version, rest: take(&mut rest, len)? };
    *bytes = rest;
    let parsed = body.parse(first);
    assert!(body.rest.is_empty(), "nothing is left behind {parsed:?}: {:?}", body.rest);
    Some(parsed)
}

struct Body<'a> {
    version: u8,
    rest: &'a [u8],
}

impl Body<'_> {
    fn parse(&mut self, first: u8) -> Packet {
        let flags = first & 15;
        let kind = first >> 4;
        assert!(kind == 3 || flags == if kind == PUBREL { 2 } else { 0 }, "MQTT-2.1.3-1: the flags of {first:02x}");
        match kind {
            2 => self.parse_connack(),
            3 => self.parse_publish(flags),
            PUBACK..=PUBCOMP => self.parse_acknowledgement(kind),
            9 | 11 => self.parse_codes(kind),
            13 => Packet::Pingresp,
            14 => self.parse_disconnect(),
            15 => self.parse_auth(),
            _ => panic!("a server sends no packet {first:02x}"),
        }
    }

    fn parse_connack(&mut self) -> Packet {
        let flags = self.byte();
        assert!(flags < 2, "MQTT-3.2.2-1: {flags:02x}");
        let code = self.byte();
        let listed: &[u8] = &[
            0, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8c, 0x90, 0x95, 0x97, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9f,
        ];
        let listed = if self.version == V5 { listed } else { &[0, 1, 2, 3, 4, 5] };
        assert!(listed.contains(&code), "MQTT-3.2.2-8: {code:02x}");
        assert!(code == 0 || flags == 0, "MQTT-3.2.2-6: no session in a refusal");
        let mut properties = Vec::new();
        // A client of 5 whose version is not known is answered in the form of 3.1.1 or of 5.
        if self.version == V5 && !self.rest.is_empty() {
            properties = self.properties(&[
                id::SESSION_EXPIRY,
                id::RECEIVE_MAXIMUM,
                id::MAXIMUM_QOS,
                id::RETAIN_AVAILABLE,
                id::PACKET_SIZE,
                id::ASSIGNED_CLIENT,
                id::ALIAS_MAXIMUM,
                id::REASON,
                id::USER,
                id::WILDCARDS_AVAILABLE,
                id::IDS_AVAILABLE,
                id::SHARED_AVAILABLE,
                id::SERVER_KEEP_ALIVE,
                id::RESPONSE_INFORMATION,
                id::SERVER_REFERENCE,
                id::AUTHENTICATION_METHOD,
                id::AUTHENTICATION_DATA,
            ]);
        }
        Packet::Connack { session_present: flags == 1, code, properties }
    }

    fn parse_publish(&mut self, flags: u8) -> Packet {
        let qos = flags >> 1 & 3;
        assert!(qos < 3, "MQTT-3.3.1-4: {flags:04b}");
        let is_duplicate = flags & 8 != 0;
        assert!(qos > 0 || !is_duplicate, "MQTT-3.3.1-2: DUP at QoS 0");
        let topic = self.text();
        assert!(!topic.contains(['+', '#', '\0']), "MQTT-3.3.2-2: {topic}");
        let id = if qos > 0 { self.two() } else { 0 };
        assert!(qos == 0 || id > 0, "MQTT-2.2.1-4: an id that is not 0");
        let properties = self.properties(&[
            id::PAYLOAD_FORMAT,
            id::MESSAGE_EXPIRY,
            id::ALIAS,
            id::RESPONSE_TOPIC,
            id::CORRELATION_DATA,
            id::USER,
            id::SUBSCRIPTION,
            id::CONTENT_TYPE,
        ]);
        let payload = std::mem::take(&mut self.rest).to_vec();
        Packet::Publish(Publish { is_duplicate, qos, retain: flags & 1 != 0, topic, id, properties, payload })
    }

    fn parse_acknowledgement(&mut self, kind: u8) -> Packet {
        let id = self.two();
        assert!(id > 0, "MQTT-2.2.1-5: an id that is not 0");
        let listed: &[u8] = if kind < PUBREL { &[0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99] } else { &[0, 0x92] };
        let code = if self.version == V5 && !self.rest.is_empty() { self.byte() } else { 0 };
        assert!(listed.contains(&code), "MQTT-3.{kind}.2-1: {code:02x}");
        let properties = if self.rest.is_empty() { Vec::new() } else { self.properties(&[id::REASON, id::USER]) };
        Packet::Acknowledged { kind, id, code, properties }
    }

    /// SUBACK or UNSUBACK.
    fn parse_codes(&mut self, kind: u8) -> Packet {
        let id = self.two();
        let properties = self.properties(&[id::REASON, id::USER]);
        let codes = std::mem::take(&mut self.rest).to_vec();
        let listed: &[u8] = match (kind, self.version) {
            (9, V5) => &[0, 1, 2, 0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2],
            (9, _) => &[0, 1, 2, 0x80],
            (_, V5) => &[0, 0x11, 0x80, 0x83, 0x87, 0x8f, 0x91],
            _ => &[],
        };
        assert!(codes.iter().all(|code| listed.contains(code)), "MQTT-3.9.3-2, MQTT-3.11.3-2: {codes:02x?}");
        if kind == 9 { Packet::Suback { id, codes, properties } } else { Packet::Unsuback { id, codes, properties } }
    }

    fn parse_disconnect(&mut self) -> Packet {
        assert_eq!(self.version, V5, "a server of 3.x does not say goodbye");
        let code = if self.rest.is_empty() { 0 } else { self.byte() };
        let is_listed = matches!(code, 0 | 0x80..=0x83 | 0x87 | 0x89 | 0x8b | 0x8d..=0x90 | 0x93..=0xa2);
        assert!(is_listed, "MQTT-3.14.2-1: {code:02x}");
        // MQTT-3.14.2-2: the session expiry is not among them.
        let listed = [id::REASON, id::USER, id::SERVER_REFERENCE];
        let properties = if self.rest.is_empty() { Vec::new() } else { self.properties(&listed) };
        Packet::Disconnect { code, properties }
    }

    fn parse_auth(&mut self) -> Packet {
        assert_eq!(self.version, V5, "3.x has no AUTH");
        let code = if self.rest.is_empty() { 0 } else { self.byte() };
        assert!([0, 0x18].contains(&code), "MQTT-3.15.2-1: {code:02x}");
        let listed = [id::AUTHENTICATION_METHOD, id::AUTHENTICATION_DATA, id::REASON, id::USER];
        let properties = if self.rest.is_empty() { Vec::new() } else { self.properties(&listed) };
        Packet::Auth { code, properties }
    }

    /// Of those listed, each once; only user properties and subscription ids may repeat.
    fn properties(&mut self, listed: &[u8]) -> Vec<Property> {
        if self.version < V5 {
            return Vec::new();
        }
        let len = take_variable(&mut self.rest).expect("MQTT-2.2.2-1: a length of properties") as usize;
        let rest = take(&mut self.rest, len).expect("whole properties");
        let mut inside = Body { version: V5, rest };
        let mut found: Vec<Property> = Vec::new();
        while !inside.rest.is_empty() {
            let id = inside.byte();
            assert!(listed.contains(&id), "no property {id} here");
            let may_repeat = [id::USER, id::SUBSCRIPTION].contains(&id);
            assert!(may_repeat || property(&found, id).is_none(), "the property {id} once");
            found.push((id, inside.value(id)));
        }
        found
    }

    fn value(&mut self, id: u8) -> Value {
        match id {
            1 | 23 | 25 | 36 | 37 | 40..=42 => Byte(self.byte()),
            19 | 33..=35 => Two(self.two()),
            2 | 17 | 24 | 39 => Four(u32::from_be_bytes(take(&mut self.rest, 4).expect("four bytes").try_into().unwrap())),
            11 => Variable(take_variable(&mut self.rest).expect("a variable byte integer")),
            3 | 8 | 18 | 21 | 26 | 28 | 31 => Text(self.text()),
            9 | 22 => Binary(self.binary()),
            38 => Pair(self.text(), self.text()),
            _ => panic!("there is no property {id}"),
        }
    }

    fn byte(&mut self) -> u8 {
        take(&mut self.rest, 1).expect("a byte")[0]
    }

    fn two(&mut self) -> u16 {
        u16::from_be_bytes(take(&mut self.rest, 2).expect("two bytes").try_into().unwrap())
    }

    fn binary(&mut self) -> Vec<u8> {
        let len = self.two().into();
        take(&mut self.rest, len).expect("binary data").to_vec()
    }

    fn text(&mut self) -> String {
        let text = String::from_utf8(self.binary()).expect("MQTT-1.5.4-1: UTF-8");
        assert!(!text.contains('\0'), "MQTT-1.5.4-2: {text:?}");
        text
    }
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(len)?;
    *rest = left;
    Some(taken)
}

fn take_variable(rest: &mut &[u8]) -> Option<u32> {
    let mut number = 0;
    for shift in [0, 7, 14, 21] {
        let byte = take(rest, 1)?[0];
        number |= u32::from(byte & 127) << shift;
        if byte < 128 {
            assert!(byte > 0 || shift == 0, "MQTT-1.5.5-1: the shortest form");
            return Some(number);
        }
    }
    panic!("a variable byte integer has four bytes at most")
}
