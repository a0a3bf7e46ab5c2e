//! What clients send.
//!
//! Decoded packets borrow from the bytes they came in. Every rule is kept that can be judged from one packet alone; whether a packet
//! may come now, what a topic alias stands for and the syntax of filters are left to the dialogue.

use std::borrow::Cow;

use super::property::{Carrier, Properties};
use super::reader::{Reader, malformed, parse_varint, protocol_error};
use super::{
    Acknowledgement, AcknowledgementKind, Auth, Connect, Disconnect, Fault, Head, MessageProperties, Packet, Publish, QoS, ReasonCode,
    RetainHandling, Subscribe, SubscriptionOptions, Unsubscribe, Version, Will,
};

/// Every bound that decoding obeys. All required: the caller chooses.
#[derive(Clone, Copy, Debug)]
pub struct PacketLimits {
    /// The longest packet, its fixed header included.
    pub packet_bytes_max: usize,
    /// User properties of one packet.
    pub user_properties_max: usize,
}

const CONNECT: u8 = 1;
const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;
const PUBREC: u8 = 5;
const PUBREL: u8 = 6;
const PUBCOMP: u8 = 7;
const SUBSCRIBE: u8 = 8;
const UNSUBSCRIBE: u8 = 10;
const PINGREQ: u8 = 12;
const DISCONNECT: u8 = 14;
const AUTH: u8 = 15;

/// The flag of the fixed header that says: sent before.
const DUPLICATE: u8 = 0b1000;

/// Reads the fixed header that `bytes` start with; `None` while it is incomplete. The body need not have come.
pub fn parse_head(bytes: &[u8], packet_bytes_max: usize) -> Result<Option<Head>, Fault> {
    let Some((first, rest)) = bytes.split_first() else { return Ok(None) };
    check_first(*first)?;
    let Some((length, length_len)) = parse_varint(rest)? else { return Ok(None) };
    let (head_len, body_len) = (1 + length_len, length as usize);
    if head_len + body_len > packet_bytes_max {
        return Err(Fault::new(ReasonCode::PACKET_TOO_LARGE, "the packet is longer than mqtt.packet_bytes_max"));
    }
    Ok(Some(Head { first: *first, head_len, body_len }))
}

/// Refuses what is wrong in every version.
fn check_first(first: u8) -> Result<(), Fault> {
    let flags = first & 0x0f;
    let is_right = match first >> 4 {
        // MQTT-3.3.1-2: a duplicate has a QoS above 0. MQTT-3.3.1-4: there is no QoS 3.
        PUBLISH => flags >> 1 & 3 != 3 && (flags & DUPLICATE == 0 || flags >> 1 & 3 != 0),
        CONNECT | PUBACK | PUBREC | PUBCOMP | PINGREQ | DISCONNECT | AUTH => flags == 0,
        // 3.1 says with these too that they are sent again.
        PUBREL | SUBSCRIBE | UNSUBSCRIBE => flags & !DUPLICATE == 0b0010,
        _ => return Err(malformed("a type of packet that clients do not send")),
    };
    // MQTT-2.1.3-1: a reserved flag has the value that the table says.
    if is_right { Ok(()) } else { Err(malformed("the flags of the fixed header are wrong")) }
}

/// Decodes the packet whose fixed header starts with `first`; a CONNECT says for itself which version it is of.
pub fn decode<'a>(version: Version, first: u8, body: &'a [u8], limits: &PacketLimits) -> Result<Packet<'a>, Fault> {
    check_first(first)?;
    let kind = first >> 4;
    if kind == PUBLISH {
        return publish(version, first, body, limits).map(Packet::Publish);
    }
    if first & DUPLICATE != 0 && version != Version::V31 {
        // MQTT-3.6.1-1, MQTT-3.8.1-1, MQTT-3.10.1-1
        return Err(malformed("the flags of the fixed header are wrong"));
    }
    match kind {
        CONNECT => decode_connect(body, limits).map(|connect| Packet::Connect(Box::new(connect))),
        PUBACK => acknowledgement(version, AcknowledgementKind::Puback, body, limits),
        PUBREC => acknowledgement(version, AcknowledgementKind::Pubrec, body, limits),
        PUBREL => acknowledgement(version, AcknowledgementKind::Pubrel, body, limits),
        PUBCOMP => acknowledgement(version, AcknowledgementKind::Pubcomp, body, limits),
        SUBSCRIBE => subscribe(version, body, limits).map(Packet::Subscribe),
        UNSUBSCRIBE => unsubscribe(version, body, limits).map(Packet::Unsubscribe),
        PINGREQ => Reader(body).finish().map(|()| Packet::Pingreq),
        DISCONNECT => disconnect(version, body, limits).map(Packet::Disconnect),
        AUTH if version == Version::V5 => auth(body, limits).map(Packet::Auth),
        _ => Err(malformed("a type of packet that the version does not have")),
    }
}

/// The flags of CONNECT.
#[derive(Clone, Copy)]
struct ConnectFlags {
    is_clean: bool,
    has_user_name: bool,
    has_password: bool,
    /// QoS and retain, of those who leave one.
    will: Option<(QoS, bool)>,
}

/// Decodes what follows the fixed header of a CONNECT.
pub fn decode_connect<'a>(body: &'a [u8], limits: &PacketLimits) -> Result<Connect<'a>, Fault> {
    let mut reader = Reader(body);
    let (version, is_bridge) = connect_version(&mut reader)?;
    let flags = connect_flags(reader.byte()?, version)?;
    let keep_alive_s = reader.two_bytes()?;
    let properties = properties(&mut reader, version, Carrier::Connect, limits.user_properties_max)?;
    let client_id = reader.string()?;
    let will = match flags.will {
        Some((qos, retain)) => {
            let user_properties_max = limits.user_properties_max - properties.user_properties;
            Some(will(&mut reader, version, qos, retain, user_properties_max)?)
        }
        None => None,
    };
    // In 3.1 the packet's length goes before these flags.
    let is_there = |reader: &Reader<'_>| version != Version::V31 || !reader.is_empty();
    let user_name = if flags.has_user_name && is_there(&reader) { Some(reader.string()?) } else { None };
    let password = if flags.has_password && is_there(&reader) { Some(reader.binary()?) } else { None };
    reader.finish()?;
    // MQTT-3.1.3-8 (3.1.1): who names no client asks for a clean session. In 3.1 a client has a name of at least one character.
    if client_id.is_empty() && (version == Version::V31 || version == Version::V311 && !flags.is_clean) {
        return Err(Fault::new(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID, "a client identifier is needed"));
    }
    let session_expiry_s = match version {
        Version::V5 => properties.session_expiry_s.unwrap_or(0),
        _ if flags.is_clean => 0,
        _ => u32::MAX,
    };
    Ok(Connect {
        version,
        is_bridge,
        client_id,
        is_clean: flags.is_clean,
        keep_alive_s,
        user_name,
        password,
        will,
        session_expiry_s,
        receive_maximum: properties.receive_maximum.unwrap_or(u16::MAX),
        packet_bytes_max: properties.packet_bytes_max,
        topic_alias_maximum: properties.topic_alias_maximum,
        wants_response_information: properties.wants_response_information,
        wants_problem_information: !properties.refuses_problem_information,
        authentication: properties.authentication_method.map(|method| (method, properties.authentication_data.unwrap_or_default())),
    })
}

/// What brokers add to the level of 3.x when they connect to each other. MQTT 5 has subscription options instead.
const BRIDGE: u8 = 0x80;

fn connect_version(reader: &mut Reader<'_>) -> Result<(Version, bool), Fault> {
    let name = reader.string()?;
    let level = reader.byte()?;
    // MQTT-3.1.2-1, MQTT-3.1.2-2
    match (name, level & !BRIDGE) {
        ("MQIsdp", 3) => Ok((Version::V31, level & BRIDGE != 0)),
        ("MQTT", 4) => Ok((Version::V311, level & BRIDGE != 0)),
        ("MQTT", 5) if level & BRIDGE == 0 => Ok((Version::V5, false)),
        _ => Err(Fault::new(ReasonCode::UNSUPPORTED_PROTOCOL_VERSION, "an unknown protocol or version")),
    }
}

fn connect_flags(flags: u8, version: Version) -> Result<ConnectFlags, Fault> {
    let has = |bit: u8| flags >> bit & 1 == 1;
    // 3.1 says of bits that mean nothing that they are not looked at.
    if version != Version::V31 {
        // MQTT-3.1.2-3: the reserved flag is 0.
        if has(0) {
            return Err(malformed("the reserved flag of CONNECT is set"));
        }
        // MQTT-3.1.2-11, MQTT-3.1.2-13: without a will its QoS and retain flags are 0.
        if !has(2) && flags & 0b0011_1000 != 0 {
            return Err(malformed("flags of a will without a will"));
        }
    }
    let will = match has(2) {
        // MQTT-3.1.2-12: a will's QoS is not 3.
        true => Some((QoS::from_number(flags >> 3 & 3).ok_or(malformed("a will has QoS 3"))?, has(5))),
        false => None,
    };
    // MQTT-3.1.2-22 (3.1.1): without a user name there is no password.
    if version != Version::V5 && has(6) && !has(7) {
        return Err(malformed("a password without a user name"));
    }
    Ok(ConnectFlags { is_clean: has(1), has_user_name: has(7), has_password: has(6), will })
}

fn will<'a>(reader: &mut Reader<'a>, version: Version, qos: QoS, retain: bool, user_properties_max: usize) -> Result<Will<'a>, Fault> {
    let properties = properties(reader, version, Carrier::Will, user_properties_max)?;
    let topic = reader.string()?;
    check_topic_name(topic, version)?;
    let payload = reader.binary()?;
    Ok(Will { topic, qos, retain, payload, delay_s: properties.will_delay_s, properties: properties.message })
}

/// The properties that only 5 has.
fn properties<'a>(reader: &mut Reader<'a>, version: Version, place: Carrier, user_properties_max: usize) -> Result<Properties<'a>, Fault> {
    match version {
        Version::V5 => Properties::read(reader, place, user_properties_max),
        _ => Ok(Properties::default()),
    }
}

fn check_topic_name(topic: &str, version: Version) -> Result<(), Fault> {
    // MQTT-4.7.3-1: a topic name has at least one character.
    if topic.is_empty() {
        let code = if version == Version::V5 { ReasonCode::PROTOCOL_ERROR } else { ReasonCode::TOPIC_NAME_INVALID };
        return Err(Fault::new(code, "a topic name is empty"));
    }
    // MQTT-3.3.2-2: a topic name has no wildcards.
    if topic.bytes().any(|byte| byte == b'+' || byte == b'#') {
        return Err(Fault::new(ReasonCode::TOPIC_NAME_INVALID, "a topic name has wildcards"));
    }
    Ok(())
}

fn publish<'a>(version: Version, first: u8, body: &'a [u8], limits: &PacketLimits) -> Result<Publish<'a>, Fault> {
    let mut reader = Reader(body);
    let qos = QoS::from_number(first >> 1 & 3).ok_or(malformed("a PUBLISH has QoS 3"))?;
    let topic = reader.string()?;
    let id = if qos == QoS::AtMostOnce { 0 } else { reader.packet_id()? };
    let (alias, message) = publish_properties(&mut reader, version, limits)?;
    if alias.is_none() || !topic.is_empty() {
        check_topic_name(topic, version)?;
    }
    Ok(Publish {
        is_duplicate: first & DUPLICATE != 0,
        qos,
        retain: first & 1 != 0,
        topic: Cow::Borrowed(topic),
        id,
        alias,
        properties: message,
        payload: reader.rest(),
    })
}

fn publish_properties<'a>(
    reader: &mut Reader<'a>,
    version: Version,
    limits: &PacketLimits,
) -> Result<(Option<u16>, MessageProperties<'a>), Fault> {
    if version != Version::V5 {
        return Ok((None, MessageProperties::default()));
    }
    // Most messages have none, and are the hot path.
    if let [0, rest @ ..] = reader.0 {
        reader.0 = rest;
        return Ok((None, MessageProperties::default()));
    }
    let properties = Properties::read(reader, Carrier::Publish, limits.user_properties_max)?;
    Ok((properties.alias, properties.message))
}

fn acknowledgement<'a>(version: Version, kind: AcknowledgementKind, body: &[u8], limits: &PacketLimits) -> Result<Packet<'a>, Fault> {
    let mut reader = Reader(body);
    let id = reader.packet_id()?;
    let mut code = ReasonCode::SUCCESS;
    if version == Version::V5 && !reader.is_empty() {
        code = ReasonCode(reader.byte()?);
        if !may_acknowledge(kind, code) {
            return Err(protocol_error("a reason code that does not belong to the packet"));
        }
        if !reader.is_empty() {
            Properties::read(&mut reader, Carrier::Acknowledgement, limits.user_properties_max)?;
        }
    }
    reader.finish()?;
    Ok(Packet::Acknowledgement(Acknowledgement { kind, id, code }))
}

/// MQTT-3.4.2-1, MQTT-3.5.2-1, MQTT-3.6.2-1, MQTT-3.7.2-1
fn may_acknowledge(kind: AcknowledgementKind, code: ReasonCode) -> bool {
    match kind {
        AcknowledgementKind::Puback | AcknowledgementKind::Pubrec => matches!(
            code,
            ReasonCode::SUCCESS
                | ReasonCode::NO_MATCHING_SUBSCRIBERS
                | ReasonCode::UNSPECIFIED_ERROR
                | ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR
                | ReasonCode::NOT_AUTHORIZED
                | ReasonCode::TOPIC_NAME_INVALID
                | ReasonCode::PACKET_IDENTIFIER_IN_USE
                | ReasonCode::QUOTA_EXCEEDED
                | ReasonCode::PAYLOAD_FORMAT_INVALID
        ),
        AcknowledgementKind::Pubrel | AcknowledgementKind::Pubcomp => {
            matches!(code, ReasonCode::SUCCESS | ReasonCode::PACKET_IDENTIFIER_NOT_FOUND)
        }
    }
}

fn subscribe<'a>(version: Version, body: &'a [u8], limits: &PacketLimits) -> Result<Subscribe<'a>, Fault> {
    let mut reader = Reader(body);
    let id = reader.packet_id()?;
    let properties = properties(&mut reader, version, Carrier::Subscribe, limits.user_properties_max)?;
    let filters = filters(reader, |reader| Ok((filter(reader)?, subscription_options(reader.byte()?, version)?)))?;
    Ok(Subscribe { id, subscription_id: properties.subscription_id, filters })
}

fn unsubscribe<'a>(version: Version, body: &'a [u8], limits: &PacketLimits) -> Result<Unsubscribe<'a>, Fault> {
    let mut reader = Reader(body);
    let id = reader.packet_id()?;
    properties(&mut reader, version, Carrier::Unsubscribe, limits.user_properties_max)?;
    Ok(Unsubscribe { id, filters: filters(reader, filter)? })
}

/// Takes all that is left, at least one filter. Each is answered, so there may be as many as the packet holds.
fn filters<'a, T>(mut reader: Reader<'a>, mut read: impl FnMut(&mut Reader<'a>) -> Result<T, Fault>) -> Result<Vec<T>, Fault> {
    let mut filters = Vec::new();
    while !reader.is_empty() {
        filters.push(read(&mut reader)?);
    }
    // MQTT-3.8.3-2, MQTT-3.10.3-2: there is at least one.
    if filters.is_empty() { Err(protocol_error("a packet without topic filters")) } else { Ok(filters) }
}

fn filter<'a>(reader: &mut Reader<'a>) -> Result<&'a str, Fault> {
    // MQTT-4.7.3-1: a topic filter has at least one character.
    match reader.string()? {
        "" => Err(protocol_error("a topic filter is empty")),
        filter => Ok(filter),
    }
}

fn subscription_options(options: u8, version: Version) -> Result<SubscriptionOptions, Fault> {
    let qos = QoS::from_number(options & 3);
    if version != Version::V5 {
        // MQTT-3-8.3-4 (3.1.1): the upper six bits are 0, and there is no QoS 3. 3.1 does not look at them.
        let is_right = version == Version::V31 || options & !3 == 0;
        let qos = qos.filter(|_| is_right).ok_or(malformed("a requested QoS is not 0, 1 or 2"))?;
        return Ok(SubscriptionOptions { qos, ..SubscriptionOptions::default() });
    }
    // MQTT-3.8.3-5: the upper two bits are 0.
    if options & 0b1100_0000 != 0 {
        return Err(malformed("reserved bits of subscription options are set"));
    }
    let retain_handling = match options >> 4 & 3 {
        0 => RetainHandling::Always,
        1 => RetainHandling::IfNew,
        2 => RetainHandling::Never,
        _ => return Err(protocol_error("retain handling is 3")),
    };
    let qos = qos.ok_or(protocol_error("a subscription has QoS 3"))?;
    Ok(SubscriptionOptions { qos, no_local: options & 4 != 0, retain_as_published: options & 8 != 0, retain_handling })
}

fn disconnect(version: Version, body: &[u8], limits: &PacketLimits) -> Result<Disconnect, Fault> {
    let mut reader = Reader(body);
    let mut disconnect = Disconnect { code: ReasonCode::SUCCESS, session_expiry_s: None };
    if version == Version::V5 && !reader.is_empty() {
        disconnect.code = ReasonCode(reader.byte()?);
        if !may_disconnect(disconnect.code) {
            return Err(protocol_error("a reason code that does not belong to the packet"));
        }
        if !reader.is_empty() {
            let properties = Properties::read(&mut reader, Carrier::Disconnect, limits.user_properties_max)?;
            disconnect.session_expiry_s = properties.session_expiry_s;
        }
    }
    reader.finish()?;
    Ok(disconnect)
}

/// MQTT-3.14.2-1, those that a client sends.
fn may_disconnect(code: ReasonCode) -> bool {
    matches!(
        code,
        ReasonCode::SUCCESS
            | ReasonCode::DISCONNECT_WITH_WILL
            | ReasonCode::UNSPECIFIED_ERROR
            | ReasonCode::MALFORMED_PACKET
            | ReasonCode::PROTOCOL_ERROR
            | ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR
            | ReasonCode::TOPIC_NAME_INVALID
            | ReasonCode::RECEIVE_MAXIMUM_EXCEEDED
            | ReasonCode::TOPIC_ALIAS_INVALID
            | ReasonCode::PACKET_TOO_LARGE
            | ReasonCode::MESSAGE_RATE_TOO_HIGH
            | ReasonCode::QUOTA_EXCEEDED
            | ReasonCode::ADMINISTRATIVE_ACTION
            | ReasonCode::PAYLOAD_FORMAT_INVALID
    )
}

fn auth<'a>(body: &'a [u8], limits: &PacketLimits) -> Result<Auth<'a>, Fault> {
    let mut reader = Reader(body);
    // An empty body says success.
    let code = if reader.is_empty() { ReasonCode::SUCCESS } else { ReasonCode(reader.byte()?) };
    // MQTT-3.15.2-1, those that a client sends.
    if !matches!(code, ReasonCode::CONTINUE_AUTHENTICATION | ReasonCode::REAUTHENTICATE) {
        return Err(protocol_error("a reason code that does not belong to the packet"));
    }
    let properties = Properties::read(&mut reader, Carrier::Auth, limits.user_properties_max)?;
    reader.finish()?;
    // Section 3.15.2.2.2: the method is always said.
    let method = properties.authentication_method.ok_or(protocol_error("an AUTH without an authentication method"))?;
    Ok(Auth { code, method: Some(method), content: properties.authentication_data.unwrap_or_default() })
}
