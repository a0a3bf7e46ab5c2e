//! What the server sends.
//!
//! Every function appends one whole packet. Strings and binary fields hold 65,535 bytes: reason strings are cut to that, all else is
//! bounded by whoever asks.

use super::property as id;
use super::reader::VARINT_MAX;
use super::{AcknowledgementKind, PublishHead, QoS, ReasonCode, Version};

const FIELD_BYTES_MAX: usize = u16::MAX as usize;

const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const SUBACK: u8 = 0x90;
const UNSUBACK: u8 = 0xb0;
const PINGRESP: u8 = 0xd0;
const DISCONNECT: u8 = 0xe0;
const AUTH: u8 = 0xf0;

/// A CONNACK. What is `None`, empty or 0 is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connack<'a> {
    pub session_present: bool,
    pub code: ReasonCode,
    pub session_expiry_s: Option<u32>,
    pub receive_maximum: u16,
    pub packet_bytes_max: Option<u32>,
    pub assigned_client_id: Option<&'a str>,
    pub topic_alias_maximum: u16,
    pub reason_string: Option<&'a str>,
    pub keep_alive_s: Option<u16>,
    pub response_information: Option<&'a str>,
    pub server_reference: Option<&'a str>,
    pub authentication: Option<(&'a str, &'a [u8])>,
    /// Messages that the session had no room for, since the last that it took.
    pub missed: u32,
}

/// In 3.x only the return code is said, and whether the session was there: in 3.1 not even that.
pub fn put_connack(out: &mut Vec<u8>, version: Version, connack: &Connack<'_>) {
    // MQTT-3.2.2-6: a refusal says that no session is present.
    let session_present = connack.session_present && connack.code == ReasonCode::SUCCESS && version != Version::V31;
    put_packet(out, CONNACK, |out| {
        out.push(u8::from(session_present));
        match version {
            Version::V5 => {
                out.push(connack.code.0);
                put_sized(out, |out| put_connack_properties(out, connack));
            }
            _ => out.push(connack.code.return_code()),
        }
    });
}

fn put_connack_properties(out: &mut Vec<u8>, connack: &Connack<'_>) {
    put_four_bytes_property(out, id::SESSION_EXPIRY_INTERVAL, connack.session_expiry_s);
    put_two_bytes_property(out, id::RECEIVE_MAXIMUM, Some(connack.receive_maximum).filter(|maximum| *maximum > 0));
    put_four_bytes_property(out, id::MAXIMUM_PACKET_SIZE, connack.packet_bytes_max.filter(|maximum| *maximum > 0));
    put_string_property(out, id::ASSIGNED_CLIENT_IDENTIFIER, connack.assigned_client_id);
    put_two_bytes_property(out, id::TOPIC_ALIAS_MAXIMUM, Some(connack.topic_alias_maximum).filter(|maximum| *maximum > 0));
    put_string_property(out, id::REASON_STRING, connack.reason_string);
    put_two_bytes_property(out, id::SERVER_KEEP_ALIVE, connack.keep_alive_s);
    put_string_property(out, id::RESPONSE_INFORMATION, connack.response_information);
    put_string_property(out, id::SERVER_REFERENCE, connack.server_reference);
    if let Some((method, content)) = connack.authentication {
        put_authentication(out, method, content);
    }
    put_missed(out, connack.missed);
}

/// The hot path: one look at the room that is there, and nothing but copies.
///
/// A duplicate is marked only above QoS 0. In 3.x no properties are written, so that `topic` must not be empty.
pub fn put_publish(out: &mut Vec<u8>, version: Version, head: &PublishHead<'_>, payload: &[u8]) {
    let has_id = head.qos != QoS::AtMostOnce;
    let properties_len = if version == Version::V5 { publish_properties_len(head) } else { 0 };
    let properties_room = if version == Version::V5 { varint_len(properties_len) + properties_len } else { 0 };
    let body_len = 2 + head.topic.len() + if has_id { 2 } else { 0 } + properties_room + payload.len();
    out.reserve(1 + varint_len(body_len) + body_len);
    // MQTT-3.3.1-2: at QoS 0 there are no duplicates.
    let duplicate = u8::from(head.is_duplicate && has_id);
    out.push(PUBLISH | duplicate << 3 | (head.qos as u8) << 1 | u8::from(head.retain));
    put_varint(out, body_len);
    put_binary(out, head.topic.as_bytes());
    if has_id {
        out.extend_from_slice(&head.id.to_be_bytes());
    }
    if version == Version::V5 {
        put_varint(out, properties_len);
        put_publish_properties(out, head);
    }
    out.extend_from_slice(payload);
}

fn publish_properties_len(head: &PublishHead<'_>) -> usize {
    let expiry = if head.expiry_s.is_some() { 5 } else { 0 };
    let alias = if head.alias.is_some() { 3 } else { 0 };
    let subscriptions: usize = head.subscription_ids.iter().map(|id| 1 + varint_len(*id as usize)).sum();
    let missed = head.missed.checked_ilog10().map_or(0, |digits| 1 + 2 + MISSED.len() + 2 + digits as usize + 1);
    expiry + alias + subscriptions + missed + head.passed_on.len()
}

fn put_publish_properties(out: &mut Vec<u8>, head: &PublishHead<'_>) {
    put_four_bytes_property(out, id::MESSAGE_EXPIRY_INTERVAL, head.expiry_s);
    put_two_bytes_property(out, id::TOPIC_ALIAS, head.alias);
    for subscription_id in head.subscription_ids {
        out.push(id::SUBSCRIPTION_IDENTIFIER);
        put_varint(out, *subscription_id as usize);
    }
    out.extend_from_slice(head.passed_on);
    put_missed(out, head.missed);
}

/// The user property by which a client of MQTT 5 learns how many messages its session had no room for.
const MISSED: &str = "tidewire-missed";

fn put_missed(out: &mut Vec<u8>, missed: u32) {
    if missed > 0 {
        out.push(id::USER_PROPERTY);
        put_binary(out, MISSED.as_bytes());
        put_binary(out, missed.to_string().as_bytes());
    }
}

/// Takes the shortest form that says all.
pub fn put_acknowledgement(
    out: &mut Vec<u8>,
    version: Version,
    kind: AcknowledgementKind,
    id: u16,
    code: ReasonCode,
    reason_string: Option<&str>,
) {
    // MQTT-3.6.1-1: PUBREL alone has a flag.
    let flags = if kind == AcknowledgementKind::Pubrel { 0b0010 } else { 0 };
    put_packet(out, (kind as u8) << 4 | flags, |out| {
        out.extend_from_slice(&id.to_be_bytes());
        if version == Version::V5 {
            put_reason(out, code, |out| put_string_property(out, id::REASON_STRING, reason_string));
        }
    });
}

/// One code for each filter, in their order. In 3.x every error is 0x80; 3.1 itself has no word for it.
pub fn put_suback(out: &mut Vec<u8>, version: Version, id: u16, codes: &[ReasonCode], reason_string: Option<&str>) {
    put_packet(out, SUBACK, |out| {
        out.extend_from_slice(&id.to_be_bytes());
        if version == Version::V5 {
            put_sized(out, |out| put_string_property(out, id::REASON_STRING, reason_string));
            out.extend(codes.iter().map(|code| code.0));
        } else {
            out.extend(codes.iter().map(|code| if code.is_error() { ReasonCode::UNSPECIFIED_ERROR.0 } else { code.0 }));
        }
    });
}

/// One code for each filter, in their order; in 3.x none is said.
pub fn put_unsuback(out: &mut Vec<u8>, version: Version, id: u16, codes: &[ReasonCode]) {
    put_packet(out, UNSUBACK, |out| {
        out.extend_from_slice(&id.to_be_bytes());
        if version == Version::V5 {
            out.push(0);
            out.extend(codes.iter().map(|code| code.0));
        }
    });
}

pub fn put_pingresp(out: &mut Vec<u8>) {
    out.extend_from_slice(&[PINGRESP, 0]);
}

/// Of 5 only.
pub fn put_disconnect(out: &mut Vec<u8>, code: ReasonCode, reason_string: Option<&str>, server_reference: Option<&str>) {
    put_packet(out, DISCONNECT, |out| {
        put_reason(out, code, |out| {
            put_string_property(out, id::REASON_STRING, reason_string);
            put_string_property(out, id::SERVER_REFERENCE, server_reference);
        });
    });
}

/// Of 5 only.
pub fn put_auth(out: &mut Vec<u8>, code: ReasonCode, method: &str, content: &[u8]) {
    put_packet(out, AUTH, |out| {
        out.push(code.0);
        put_sized(out, |out| put_authentication(out, method, content));
    });
}

fn put_authentication(out: &mut Vec<u8>, method: &str, content: &[u8]) {
    out.push(id::AUTHENTICATION_METHOD);
    put_binary(out, method.as_bytes());
    if !content.is_empty() {
        out.push(id::AUTHENTICATION_DATA);
        put_binary(out, content);
    }
}

/// A reason code and properties; left out where they say nothing.
fn put_reason(out: &mut Vec<u8>, code: ReasonCode, properties: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.push(code.0);
    put_sized(out, properties);
    if out[start + 1..] == [0] {
        out.truncate(if code == ReasonCode::SUCCESS { start } else { start + 1 });
    }
}

fn put_packet(out: &mut Vec<u8>, first: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(first);
    put_sized(out, body);
}

/// Appends what `content` appends, behind its length.
fn put_sized(out: &mut Vec<u8>, content: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.push(0);
    content(out);
    let length = out.len() - start - 1;
    if length < 0x80 {
        out[start] = length as u8;
        return;
    }
    let mut head = Vec::with_capacity(4);
    put_varint(&mut head, length);
    out.splice(start..=start, head);
}

fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    assert!(value <= VARINT_MAX as usize, "packets are bounded far below what the protocol can say");
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_len(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).expect("topics and fields are bounded below 64 KiB by configuration");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

fn put_string_property(out: &mut Vec<u8>, identifier: u8, text: Option<&str>) {
    if let Some(text) = text.filter(|text| !text.is_empty()) {
        let mut end = text.len().min(FIELD_BYTES_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        out.push(identifier);
        put_binary(out, &text.as_bytes()[..end]);
    }
}

fn put_two_bytes_property(out: &mut Vec<u8>, identifier: u8, value: Option<u16>) {
    if let Some(value) = value {
        out.push(identifier);
        out.extend_from_slice(&value.to_be_bytes());
    }
}

fn put_four_bytes_property(out: &mut Vec<u8>, identifier: u8, value: Option<u32>) {
    if let Some(value) = value {
        out.push(identifier);
        out.extend_from_slice(&value.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse_head;
    use super::*;

    const V3: [Version; 2] = [Version::V31, Version::V311];

    /// Checks what is appended, and that what stands before is left alone.
    #[track_caller]
    fn check(put: impl FnOnce(&mut Vec<u8>), expected: &[u8]) {
        let mut out = vec![9, 9];
        put(&mut out);
        assert_eq!(out[..2], [9, 9]);
        assert_eq!(out[2..], *expected, "{:02x?}", &out[2..]);
    }

    #[track_caller]
    fn check_connack(version: Version, connack: Connack<'_>, expected: &[u8]) {
        check(|out| put_connack(out, version, &connack), expected);
    }

    #[test]
    fn a_connack_of_3_has_a_return_code() {
        let present = Connack { session_present: true, keep_alive_s: Some(9), ..Connack::default() };
        check_connack(Version::V311, present, &[0x20, 2, 1, 0]);
        // 3.1 knows no session that is present.
        check_connack(Version::V31, present, &[0x20, 2, 0, 0]);
        // MQTT-3.2.2-4 of 3.1.1: with a refusal no session is present.
        for version in V3 {
            check_connack(version, Connack { code: ReasonCode::NOT_AUTHORIZED, ..present }, &[0x20, 2, 0, 5]);
        }
    }

    #[test]
    fn a_connack_of_5_has_the_properties_that_say_something() {
        check_connack(Version::V5, Connack::default(), &[0x20, 3, 0, 0, 0]);
        check_connack(Version::V5, Connack { session_present: true, ..Connack::default() }, &[0x20, 3, 1, 0, 0]);
        // MQTT-3.2.2-6
        let refused = Connack { session_present: true, code: ReasonCode::SERVER_BUSY, reason_string: Some(""), ..Connack::default() };
        check_connack(Version::V5, refused, &[0x20, 3, 0, 0x89, 0]);
        let all = Connack {
            session_expiry_s: Some(0),
            receive_maximum: 10,
            packet_bytes_max: Some(0x0001_0000),
            assigned_client_id: Some("c"),
            topic_alias_maximum: 8,
            reason_string: Some("r"),
            keep_alive_s: Some(0),
            response_information: Some("i"),
            server_reference: Some("s"),
            authentication: Some(("m", &[1])),
            ..Connack::default()
        };
        let properties = [
            &[0x11, 0, 0, 0, 0][..],
            &[0x21, 0, 10],
            &[0x27, 0, 1, 0, 0],
            &[0x12, 0, 1, b'c'],
            &[0x22, 0, 8],
            &[0x1f, 0, 1, b'r'],
            &[0x13, 0, 0],
            &[0x1a, 0, 1, b'i'],
            &[0x1c, 0, 1, b's'],
            &[0x15, 0, 1, b'm'],
            &[0x16, 0, 1, 1],
        ]
        .concat();
        check_connack(Version::V5, all, &[&[0x20, 46, 0, 0, 43][..], &properties].concat());
    }

    #[track_caller]
    fn check_publish(version: Version, head: PublishHead<'_>, expected: &[u8]) {
        check(|out| put_publish(out, version, &head, b"hi"), expected);
    }

    #[test]
    fn a_publish_has_what_its_version_knows() {
        let head = PublishHead {
            is_duplicate: true,
            retain: true,
            topic: "a/b",
            id: 258,
            alias: Some(3),
            expiry_s: Some(4),
            subscription_ids: &[1, 128],
            passed_on: &[0x01, 1],
            qos: QoS::AtMostOnce,
            missed: 0,
        };
        for version in V3 {
            // MQTT-3.3.1-2, MQTT-2.2.1-2: at QoS 0 there is neither a duplicate nor an identifier.
            check_publish(version, head, b"\x31\x07\0\x03a/bhi");
            check_publish(version, PublishHead { qos: QoS::AtLeastOnce, ..head }, b"\x3b\x09\0\x03a/b\x01\x02hi");
        }
        let properties = b"\x02\0\0\0\x04\x23\0\x03\x0b\x01\x0b\x80\x01\x01\x01";
        let expected = [b"\x3d\x19\0\x03a/b\x01\x02\x0f", &properties[..], b"hi"].concat();
        check_publish(Version::V5, PublishHead { qos: QoS::ExactlyOnce, ..head }, &expected);
        check_publish(Version::V5, PublishHead { topic: "a", ..PublishHead::default() }, b"\x30\x06\0\x01a\0hi");
    }

    #[test]
    fn a_publish_is_as_long_as_it_says_at_every_edge_and_takes_its_room_once() {
        for edge in [127, 128, 16_383, 16_384, 2_097_151, 2_097_152] {
            let payload = vec![7; edge - 4];
            let mut out = Vec::new();
            put_publish(&mut out, Version::V5, &PublishHead { topic: "a", ..PublishHead::default() }, &payload);
            let head = parse_head(&out, usize::MAX).expect("a head").expect("a whole head");
            assert_eq!((head.body_len, head.head_len), (edge, out.len() - edge));
            // An empty vector that reserves exactly what is needed does not grow again.
            assert!(out.capacity() < out.len() + 16, "{edge}");
        }
    }

    #[test]
    fn every_varint_takes_the_bytes_it_needs() {
        for (value, bytes) in [
            (0, &[0][..]),
            (127, &[0x7f]),
            (128, &[0x80, 0x01]),
            (16_383, &[0xff, 0x7f]),
            (16_384, &[0x80, 0x80, 0x01]),
            (2_097_151, &[0xff, 0xff, 0x7f]),
            (2_097_152, &[0x80, 0x80, 0x80, 0x01]),
            (268_435_455, &[0xff, 0xff, 0xff, 0x7f]),
        ] {
            check(|out| put_varint(out, value), bytes);
            assert_eq!(varint_len(value), bytes.len());
        }
    }

    #[test]
    fn an_acknowledgement_is_as_short_as_it_can_be() {
        use AcknowledgementKind::{Puback, Pubcomp, Pubrec, Pubrel};
        for (kind, first) in [(Puback, 0x40), (Pubrec, 0x50), (Pubrel, 0x62), (Pubcomp, 0x70)] {
            let put = |version, code, why| move |out: &mut Vec<u8>| put_acknowledgement(out, version, kind, 258, code, why);
            for version in V3 {
                check(put(version, ReasonCode::NOT_AUTHORIZED, Some("no")), &[first, 2, 1, 2]);
            }
            check(put(Version::V5, ReasonCode::SUCCESS, None), &[first, 2, 1, 2]);
            check(put(Version::V5, ReasonCode::NOT_AUTHORIZED, None), &[first, 3, 1, 2, 0x87]);
            check(put(Version::V5, ReasonCode::SUCCESS, Some("no")), &[first, 9, 1, 2, 0, 5, 0x1f, 0, 2, b'n', b'o']);
        }
    }

    #[test]
    fn a_suback_of_3_knows_one_error() {
        let codes = [ReasonCode::GRANTED_QOS_1, ReasonCode::NOT_AUTHORIZED, ReasonCode::GRANTED_QOS_2];
        for version in V3 {
            check(|out| put_suback(out, version, 258, &codes, Some("no")), &[0x90, 5, 1, 2, 1, 0x80, 2]);
            check(|out| put_unsuback(out, version, 258, &codes), &[0xb0, 2, 1, 2]);
        }
        check(|out| put_suback(out, Version::V5, 258, &codes, None), &[0x90, 6, 1, 2, 0, 1, 0x87, 2]);
        let expected = [0x90, 11, 1, 2, 5, 0x1f, 0, 2, b'n', b'o', 1, 0x87, 2];
        check(|out| put_suback(out, Version::V5, 258, &codes, Some("no")), &expected);
        let codes = [ReasonCode::SUCCESS, ReasonCode::NO_SUBSCRIPTION_EXISTED];
        check(|out| put_unsuback(out, Version::V5, 258, &codes), &[0xb0, 5, 1, 2, 0, 0, 0x11]);
    }

    #[test]
    fn the_short_packets_are_what_they_are() {
        check(put_pingresp, &[0xd0, 0]);
        check(|out| put_disconnect(out, ReasonCode::SUCCESS, None, None), &[0xe0, 0]);
        check(|out| put_disconnect(out, ReasonCode::SESSION_TAKEN_OVER, None, None), &[0xe0, 1, 0x8e]);
        let moved = [0xe0, 10, 0x9d, 8, 0x1f, 0, 1, b'r', 0x1c, 0, 1, b's'];
        check(|out| put_disconnect(out, ReasonCode::SERVER_MOVED, Some("r"), Some("s")), &moved);
        let auth = [0xf0, 10, 0x18, 8, 0x15, 0, 1, b'm', 0x16, 0, 1, 7];
        check(|out| put_auth(out, ReasonCode::CONTINUE_AUTHENTICATION, "m", &[7]), &auth);
        check(|out| put_auth(out, ReasonCode::SUCCESS, "m", &[]), &[0xf0, 6, 0, 4, 0x15, 0, 1, b'm']);
    }

    #[test]
    fn a_reason_string_is_cut_between_characters_to_what_a_field_holds() {
        let long = format!("{}\u{e9}\u{e9}", "x".repeat(FIELD_BYTES_MAX - 1));
        let mut out = Vec::new();
        put_disconnect(&mut out, ReasonCode::UNSPECIFIED_ERROR, Some(&long), None);
        let field = [&[0x80, 0x81, 0x80, 0x04, 0x1f, 0xff, 0xfe][..], "x".repeat(FIELD_BYTES_MAX - 1).as_bytes()].concat();
        assert_eq!(out, [&[0xe0, 0x85, 0x80, 0x04][..], &field].concat());
    }
}
