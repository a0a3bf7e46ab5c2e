//! The properties of MQTT 5 (section 2.2.2), as clients send them.
//!
//! Which may come with which packet, that none comes twice, and that its value is one it may have. What passes through the
//! server unaltered is kept as it came, encoded.

use std::borrow::Cow;
use std::ops::Range;

use super::reader::{Reader, malformed, protocol_error};
use super::{Fault, MessageProperties, ReasonCode};

pub(super) const PAYLOAD_FORMAT_INDICATOR: u8 = 0x01;
pub(super) const MESSAGE_EXPIRY_INTERVAL: u8 = 0x02;
pub(super) const CONTENT_TYPE: u8 = 0x03;
pub(super) const RESPONSE_TOPIC: u8 = 0x08;
pub(super) const CORRELATION_DATA: u8 = 0x09;
pub(super) const SUBSCRIPTION_IDENTIFIER: u8 = 0x0b;
pub(super) const SESSION_EXPIRY_INTERVAL: u8 = 0x11;
pub(super) const ASSIGNED_CLIENT_IDENTIFIER: u8 = 0x12;
pub(super) const SERVER_KEEP_ALIVE: u8 = 0x13;
pub(super) const AUTHENTICATION_METHOD: u8 = 0x15;
pub(super) const AUTHENTICATION_DATA: u8 = 0x16;
pub(super) const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
pub(super) const WILL_DELAY_INTERVAL: u8 = 0x18;
pub(super) const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
pub(super) const RESPONSE_INFORMATION: u8 = 0x1a;
pub(super) const SERVER_REFERENCE: u8 = 0x1c;
pub(super) const REASON_STRING: u8 = 0x1f;
pub(super) const RECEIVE_MAXIMUM: u8 = 0x21;
pub(super) const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
pub(super) const TOPIC_ALIAS: u8 = 0x23;
const MAXIMUM_QOS: u8 = 0x24;
const RETAIN_AVAILABLE: u8 = 0x25;
pub const USER_PROPERTY: u8 = 0x26;
pub(super) const MAXIMUM_PACKET_SIZE: u8 = 0x27;
const WILDCARD_SUBSCRIPTION_AVAILABLE: u8 = 0x28;
const SUBSCRIPTION_IDENTIFIERS_AVAILABLE: u8 = 0x29;
const SHARED_SUBSCRIPTION_AVAILABLE: u8 = 0x2a;

/// Identifiers as bits of one number: all are below 64.
const fn set(identifiers: &[u8]) -> u64 {
    let (mut bits, mut at) = (0, 0);
    while at < identifiers.len() {
        bits |= 1 << identifiers[at];
        at += 1;
    }
    bits
}

const fn has(set: u64, identifier: u8) -> bool {
    identifier < 64 && set >> identifier & 1 == 1
}

/// What reaches subscribers unaltered (MQTT-3.3.2-4, -15, -16, -17, -18, -20).
const PASSED_ON: u64 = set(&[PAYLOAD_FORMAT_INDICATOR, CONTENT_TYPE, RESPONSE_TOPIC, CORRELATION_DATA, USER_PROPERTY]);

/// What only a server sends.
const OF_SERVERS: u64 = set(&[
    ASSIGNED_CLIENT_IDENTIFIER,
    SERVER_KEEP_ALIVE,
    RESPONSE_INFORMATION,
    MAXIMUM_QOS,
    RETAIN_AVAILABLE,
    WILDCARD_SUBSCRIPTION_AVAILABLE,
    SUBSCRIPTION_IDENTIFIERS_AVAILABLE,
    SHARED_SUBSCRIPTION_AVAILABLE,
]);

/// Every identifier of the standard's table.
const KNOWN: u64 = OF_SERVERS
    | Carrier::Connect.allowed()
    | Carrier::Will.allowed()
    | Carrier::Publish.allowed()
    | Carrier::Subscribe.allowed()
    | Carrier::Disconnect.allowed()
    | Carrier::Auth.allowed();

/// Where properties stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carrier {
    Connect,
    Will,
    Publish,
    Acknowledgement,
    Subscribe,
    Unsubscribe,
    Disconnect,
    Auth,
}

impl Carrier {
    /// What a client may send there.
    const fn allowed(self) -> u64 {
        match self {
            Self::Connect => set(&[
                SESSION_EXPIRY_INTERVAL,
                AUTHENTICATION_METHOD,
                AUTHENTICATION_DATA,
                REQUEST_PROBLEM_INFORMATION,
                REQUEST_RESPONSE_INFORMATION,
                RECEIVE_MAXIMUM,
                TOPIC_ALIAS_MAXIMUM,
                USER_PROPERTY,
                MAXIMUM_PACKET_SIZE,
            ]),
            Self::Will => PASSED_ON | set(&[MESSAGE_EXPIRY_INTERVAL, WILL_DELAY_INTERVAL]),
            // MQTT-3.3.4-6: a client's PUBLISH has no subscription identifier.
            Self::Publish => PASSED_ON | set(&[MESSAGE_EXPIRY_INTERVAL, TOPIC_ALIAS]),
            Self::Acknowledgement => set(&[REASON_STRING, USER_PROPERTY]),
            Self::Subscribe => set(&[SUBSCRIPTION_IDENTIFIER, USER_PROPERTY]),
            Self::Unsubscribe => set(&[USER_PROPERTY]),
            Self::Disconnect => set(&[SESSION_EXPIRY_INTERVAL, SERVER_REFERENCE, REASON_STRING, USER_PROPERTY]),
            Self::Auth => set(&[AUTHENTICATION_METHOD, AUTHENTICATION_DATA, REASON_STRING, USER_PROPERTY]),
        }
    }
}

/// What the properties of one place say; those that are absent leave their default.
#[derive(Debug, Default)]
pub(super) struct Properties<'a> {
    pub session_expiry_s: Option<u32>,
    pub receive_maximum: Option<u16>,
    pub packet_bytes_max: Option<u32>,
    pub topic_alias_maximum: u16,
    pub wants_response_information: bool,
    pub refuses_problem_information: bool,
    pub authentication_method: Option<&'a str>,
    pub authentication_data: Option<&'a [u8]>,
    pub will_delay_s: u32,
    pub alias: Option<u16>,
    pub subscription_id: Option<u32>,
    pub message: MessageProperties<'a>,
    pub user_properties: usize,
}

impl<'a> Properties<'a> {
    /// Takes the properties' length and the properties.
    pub fn read(reader: &mut Reader<'a>, place: Carrier, user_properties_max: usize) -> Result<Self, Fault> {
        let length = reader.varint()?;
        let section = reader.take(length as usize)?;
        let mut properties = Self::default();
        let mut passed_on = PassedOn { section, run: 0..0, before: Vec::new() };
        let mut seen = 0;
        let mut reader = Reader(section);
        while !reader.is_empty() {
            let start = section.len() - reader.0.len();
            let identifier = reader.byte()?;
            check_identifier(identifier, place, &mut seen)?;
            properties.read_value(identifier, &mut reader)?;
            if properties.user_properties > user_properties_max {
                return Err(Fault::new(ReasonCode::QUOTA_EXCEEDED, "more user properties than are allowed"));
            }
            if has(PASSED_ON, identifier) && matches!(place, Carrier::Publish | Carrier::Will) {
                passed_on.add(start..section.len() - reader.0.len());
            }
        }
        if properties.authentication_data.is_some() && properties.authentication_method.is_none() {
            return Err(protocol_error("authentication data without a method"));
        }
        properties.message.passed_on = passed_on.finish();
        Ok(properties)
    }

    fn read_value(&mut self, identifier: u8, reader: &mut Reader<'a>) -> Result<(), Fault> {
        match identifier {
            PAYLOAD_FORMAT_INDICATOR => self.message.is_utf8 = reader.boolean()?,
            MESSAGE_EXPIRY_INTERVAL => self.message.expiry_s = Some(reader.four_bytes()?),
            CONTENT_TYPE => self.message.content_type = Some(reader.string()?),
            RESPONSE_TOPIC => check_response_topic(reader.string()?)?,
            CORRELATION_DATA => drop(reader.binary()?),
            SUBSCRIPTION_IDENTIFIER => self.subscription_id = Some(not_zero(reader.varint()?, "a subscription identifier is 0")?),
            SESSION_EXPIRY_INTERVAL => self.session_expiry_s = Some(reader.four_bytes()?),
            AUTHENTICATION_METHOD => self.authentication_method = Some(reader.string()?),
            AUTHENTICATION_DATA => self.authentication_data = Some(reader.binary()?),
            REQUEST_PROBLEM_INFORMATION => self.refuses_problem_information = !reader.boolean()?,
            WILL_DELAY_INTERVAL => self.will_delay_s = reader.four_bytes()?,
            REQUEST_RESPONSE_INFORMATION => self.wants_response_information = reader.boolean()?,
            RECEIVE_MAXIMUM => self.receive_maximum = Some(not_zero(reader.two_bytes()?, "a receive maximum is 0")?),
            TOPIC_ALIAS_MAXIMUM => self.topic_alias_maximum = reader.two_bytes()?,
            TOPIC_ALIAS => {
                // MQTT-3.3.2-8: a topic alias is not 0.
                let alias = reader.two_bytes()?;
                self.alias = Some(not_zero(alias, "").map_err(|_| Fault::new(ReasonCode::TOPIC_ALIAS_INVALID, "a topic alias is 0"))?);
            }
            USER_PROPERTY => {
                reader.string()?;
                reader.string()?;
                self.user_properties += 1;
            }
            MAXIMUM_PACKET_SIZE => self.packet_bytes_max = Some(not_zero(reader.four_bytes()?, "a maximum packet size is 0")?),
            REASON_STRING | SERVER_REFERENCE => drop(reader.string()?),
            _ => return Err(protocol_error("a property that only a server sends")),
        }
        Ok(())
    }
}

fn check_identifier(identifier: u8, place: Carrier, seen: &mut u64) -> Result<(), Fault> {
    if !has(KNOWN, identifier) {
        return Err(malformed("an unknown property"));
    }
    if !has(place.allowed(), identifier) {
        // MQTT-3.3.4-6 names another code for this one.
        let is_subscription = identifier == SUBSCRIPTION_IDENTIFIER && place == Carrier::Publish;
        let refuse = if is_subscription { protocol_error } else { malformed };
        return Err(refuse("a property that does not belong to the packet"));
    }
    if identifier != USER_PROPERTY && has(*seen, identifier) {
        return Err(protocol_error("a property comes twice"));
    }
    *seen |= 1 << identifier;
    Ok(())
}

fn check_response_topic(topic: &str) -> Result<(), Fault> {
    // MQTT-3.3.2-14: a response topic has no wildcards; MQTT-4.7.3-1: nor is a topic empty.
    if topic.is_empty() || topic.contains(['+', '#']) {
        return Err(protocol_error("a response topic is empty or has wildcards"));
    }
    Ok(())
}

/// What a message that is to be answered says, of the properties that are passed on: where the answer goes, and what it brings back.
pub fn reply_properties(passed_on: &[u8]) -> Option<(&str, Option<&[u8]>)> {
    let mut reader = Reader(passed_on);
    let (mut topic, mut correlation) = (None, None);
    // They were read before, when they came.
    while let Ok(identifier) = reader.byte() {
        match identifier {
            PAYLOAD_FORMAT_INDICATOR => drop(reader.byte().ok()?),
            RESPONSE_TOPIC => topic = Some(reader.string().ok()?),
            CORRELATION_DATA => correlation = Some(reader.binary().ok()?),
            USER_PROPERTY => {
                reader.string().ok()?;
                reader.string().ok()?;
            }
            _ => drop(reader.string().ok()?),
        }
    }
    topic.map(|topic| (topic, correlation))
}

pub fn put_correlation(out: &mut Vec<u8>, correlation: &[u8]) {
    out.push(CORRELATION_DATA);
    put_bytes(out, correlation);
}

pub fn put_user_property(out: &mut Vec<u8>, key: &str, value: &str) {
    out.push(USER_PROPERTY);
    put_bytes(out, key.as_bytes());
    put_bytes(out, value.as_bytes());
}

/// Behind their length, which fits.
fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u16::try_from(bytes.len()).expect("what goes into a property is short").to_be_bytes());
    out.extend_from_slice(bytes);
}

fn not_zero<N: Default + PartialEq>(number: N, what: &'static str) -> Result<N, Fault> {
    if number == N::default() { Err(protocol_error(what)) } else { Ok(number) }
}

/// The parts of a section that are passed on: borrowed while they lie side by side.
struct PassedOn<'a> {
    section: &'a [u8],
    /// The last of them that lie side by side.
    run: Range<usize>,
    /// All before those.
    before: Vec<u8>,
}

impl<'a> PassedOn<'a> {
    fn add(&mut self, part: Range<usize>) {
        if self.run.end == part.start {
            self.run.end = part.end;
        } else {
            self.before.extend_from_slice(&self.section[self.run.clone()]);
            self.run = part;
        }
    }

    fn finish(mut self) -> Cow<'a, [u8]> {
        let run = &self.section[self.run];
        if self.before.is_empty() {
            return Cow::Borrowed(run);
        }
        self.before.extend_from_slice(run);
        Cow::Owned(self.before)
    }
}
