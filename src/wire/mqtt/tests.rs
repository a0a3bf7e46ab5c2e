//! Every rule of the standards that one packet alone can break, with its id, and what the bytes of each packet are.

use proptest::prelude::*;

use super::*;

const LIMITS: PacketLimits = PacketLimits { packet_bytes_max: 1000, user_properties_max: 3 };

const V3: [Version; 2] = [Version::V31, Version::V311];
const ALL: [Version; 3] = [Version::V31, Version::V311, Version::V5];

/// A string or binary field.
fn field(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

/// Properties behind their length, which is below 128.
fn section(properties: &[u8]) -> Vec<u8> {
    assert!(properties.len() < 128);
    [&[properties.len() as u8][..], properties].concat()
}

fn property(identifier: u8, value: impl AsRef<[u8]>) -> Vec<u8> {
    [&[identifier][..], value.as_ref()].concat()
}

fn user_property() -> Vec<u8> {
    property(0x26, [field("k"), field("v")].concat())
}

/// Checks a body that is read, also through `decode_connect` where it is one.
#[track_caller]
fn check(version: Version, first: u8, body: &[u8], expected: Packet<'_>) {
    assert_eq!(decode(version, first, body, &LIMITS), Ok(expected), "{version:?} {first:02x} {body:02x?}");
}

#[track_caller]
fn check_refused(version: Version, first: u8, body: &[u8], code: ReasonCode) {
    let fault = decode(version, first, body, &LIMITS).expect_err("the packet is refused");
    assert_eq!(fault.code, code, "{version:?} {first:02x} {body:02x?}: {}", fault.what);
}

#[track_caller]
fn check_head(bytes: &[u8], expected: Result<Option<(usize, usize)>, ReasonCode>) {
    let head = parse_head(bytes, usize::MAX).map_err(|fault| fault.code);
    assert_eq!(head.map(|head| head.map(|head| (head.head_len, head.body_len))), expected, "{bytes:02x?}");
}

#[test]
fn every_length_of_body_is_read_from_a_head_of_its_length() {
    for (length, bytes) in [
        (0, &[0x00][..]),
        (127, &[0x7f]),
        (128, &[0x80, 0x01]),
        (16_383, &[0xff, 0x7f]),
        (16_384, &[0x80, 0x80, 0x01]),
        (2_097_151, &[0xff, 0xff, 0x7f]),
        (2_097_152, &[0x80, 0x80, 0x80, 0x01]),
        (268_435_455, &[0xff, 0xff, 0xff, 0x7f]),
    ] {
        let head = [&[0x30][..], bytes].concat();
        check_head(&head, Ok(Some((head.len(), length))));
        check_head(&[&head[..], &[1, 2, 3]].concat(), Ok(Some((head.len(), length))));
        for cut in 0..head.len() {
            check_head(&head[..cut], Ok(None));
        }
        assert_eq!(parse_head(&head, head.len() + length).map(|head| head.is_some()), Ok(true));
        let too_large = parse_head(&head, head.len() + length - 1).map_err(|fault| fault.code);
        assert_eq!(too_large, Err(ReasonCode::PACKET_TOO_LARGE));
    }
}

#[test]
fn a_length_of_more_than_four_bytes_or_more_than_it_needs_is_malformed() {
    check_head(&[0x30, 0xff, 0xff, 0xff, 0xff], Err(ReasonCode::MALFORMED_PACKET));
    check_head(&[0x30, 0x80, 0x80, 0x80, 0x80, 0x01], Err(ReasonCode::MALFORMED_PACKET));
    // MQTT-1.5.5-1
    check_head(&[0x30, 0x80, 0x00], Err(ReasonCode::MALFORMED_PACKET));
    check_head(&[0x30, 0xff, 0x80, 0x00], Err(ReasonCode::MALFORMED_PACKET));
}

/// MQTT-2.1.3-1, MQTT-3.3.1-2, MQTT-3.3.1-4: checked for every first byte.
#[test]
fn the_first_byte_alone_tells_a_packet_that_no_client_sends() {
    let plain = [0x10, 0x40, 0x50, 0x62, 0x70, 0x82, 0xa2, 0xc0, 0xe0, 0xf0];
    let publish = [0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x3a, 0x3b, 0x3c, 0x3d];
    let again_in_31 = [0x6a, 0x8a, 0xaa];
    for first in 0..=u8::MAX {
        let is_known = plain.contains(&first) || publish.contains(&first) || again_in_31.contains(&first);
        check_head(&[first], if is_known { Ok(None) } else { Err(ReasonCode::MALFORMED_PACKET) });
        for version in ALL.into_iter().filter(|_| !is_known) {
            check_refused(version, first, &[], ReasonCode::MALFORMED_PACKET);
        }
    }
}

/// MQTT-3.6.1-1, MQTT-3.8.1-1, MQTT-3.10.1-1: 3.1 has the duplicate flag on these, the later versions have not.
#[test]
fn only_3_1_says_of_other_packets_that_they_are_sent_again() {
    let filter = [&[0, 7][..], &field("a")].concat();
    for (first, body) in [(0x6a, vec![0, 7]), (0x8a, [&filter[..], &[0]].concat()), (0xaa, filter.clone())] {
        assert!(decode(Version::V31, first, &body, &LIMITS).is_ok());
        check_refused(Version::V311, first, &body, ReasonCode::MALFORMED_PACKET);
        check_refused(Version::V5, first, &body, ReasonCode::MALFORMED_PACKET);
    }
}

/// The head of a CONNECT up to its keep-alive of 60 seconds.
fn connect_head(version: Version, flags: u8) -> Vec<u8> {
    let name = if version == Version::V31 { "MQIsdp" } else { "MQTT" };
    [&field(name)[..], &[version as u8, flags, 0, 60]].concat()
}

/// A CONNECT without properties: `fields` stand behind them.
fn connect(version: Version, flags: u8, fields: &[&[u8]]) -> Vec<u8> {
    let no_properties = if version == Version::V5 { &[0][..] } else { &[] };
    [connect_head(version, flags), no_properties.to_vec(), fields.iter().flat_map(field).collect()].concat()
}

/// A CONNECT of 5 with these properties, for a client "c".
fn connect_with(properties: &[u8]) -> Vec<u8> {
    [connect_head(Version::V5, 0b10), section(properties), field("c")].concat()
}

fn plain_connect(version: Version, is_clean: bool) -> Connect<'static> {
    Connect {
        version,
        is_bridge: false,
        client_id: "c",
        is_clean,
        keep_alive_s: 60,
        user_name: None,
        password: None,
        will: None,
        session_expiry_s: if version == Version::V5 || is_clean { 0 } else { u32::MAX },
        receive_maximum: 65_535,
        packet_bytes_max: None,
        topic_alias_maximum: 0,
        wants_response_information: false,
        wants_problem_information: true,
        authentication: None,
    }
}

#[track_caller]
fn check_connect(body: &[u8], expected: Connect<'_>) {
    assert_eq!(decode_connect(body, &LIMITS), Ok(expected.clone()), "{body:02x?}");
    // Its own version counts, not the one that was taken for granted.
    check(Version::V311, 0x10, body, Packet::Connect(Box::new(expected)));
}

#[track_caller]
fn check_connect_refused(body: &[u8], code: ReasonCode) {
    assert_eq!(decode_connect(body, &LIMITS).map_err(|fault| fault.code), Err(code), "{body:02x?}");
}

#[test]
fn a_connect_of_every_version_is_read_and_cut_anywhere_is_malformed() {
    for version in ALL {
        for is_clean in [false, true] {
            let body = connect(version, u8::from(is_clean) << 1, &[b"c"]);
            check_connect(&body, plain_connect(version, is_clean));
        }
        let body = connect(version, 0b1110_1110, &[b"c", b"w/t", b"bye", b"me", b"\0\xff"]);
        let body = if version == Version::V5 { [&body[..14], &[0], &body[14..]].concat() } else { body };
        let will = Will {
            topic: "w/t",
            qos: QoS::AtLeastOnce,
            retain: true,
            payload: b"bye",
            delay_s: 0,
            properties: MessageProperties::default(),
        };
        let expected = Connect { user_name: Some("me"), password: Some(b"\0\xff"), will: Some(will), ..plain_connect(version, true) };
        check_connect(&body, expected);
        for cut in 0..body.len() {
            let left_out = version == Version::V31 && [body.len() - 4, body.len() - 8].contains(&cut);
            match left_out {
                // 3.1 allows that the flags say more than there is.
                true => assert!(decode_connect(&body[..cut], &LIMITS).is_ok()),
                false => check_connect_refused(&body[..cut], ReasonCode::MALFORMED_PACKET),
            }
        }
        check_connect_refused(&[&body[..], &[0]].concat(), ReasonCode::MALFORMED_PACKET);
    }
}

/// MQTT-3.1.2-1, MQTT-3.1.2-2
#[test]
fn unknown_protocols_and_levels_are_told_from_malformed_ones() {
    for (name, level) in
        [("MQTT", 3), ("MQTT", 6), ("MQTT", 0x83), ("MQTT", 0x85), ("MQIsdp", 4), ("MQIsdp", 0x84), ("mqtt", 4), ("", 4), ("HTTP", 5)]
    {
        let body = [&field(name)[..], &[level]].concat();
        check_connect_refused(&body, ReasonCode::UNSUPPORTED_PROTOCOL_VERSION);
    }
    check_connect_refused(&[0, 4, b'M', b'Q'], ReasonCode::MALFORMED_PACKET);
    check_connect_refused(&[0, 2, 0xff, 0xfe, 4], ReasonCode::MALFORMED_PACKET);
}

#[test]
fn a_broker_says_of_itself_that_it_is_one() {
    for version in [Version::V31, Version::V311] {
        let mut body = connect(version, 2, &[b"c"]);
        let level = if version == Version::V31 { 8 } else { 6 };
        assert_eq!(body[level], version as u8);
        body[level] |= 0x80;
        check_connect(&body, Connect { is_bridge: true, ..plain_connect(version, true) });
    }
}

#[test]
fn connect_flags_that_contradict_each_other_are_malformed() {
    let body = |version, flags| connect(version, flags, &[b"c", b"x", b"x", b"x", b"x"]);
    for version in [Version::V311, Version::V5] {
        // MQTT-3.1.2-3
        check_connect_refused(&body(version, 0b11), ReasonCode::MALFORMED_PACKET);
        // MQTT-3.1.2-11
        check_connect_refused(&body(version, 0b0000_1010), ReasonCode::MALFORMED_PACKET);
        check_connect_refused(&body(version, 0b0001_0010), ReasonCode::MALFORMED_PACKET);
        // MQTT-3.1.2-13
        check_connect_refused(&body(version, 0b0010_0010), ReasonCode::MALFORMED_PACKET);
    }
    // 3.1 does not look at what has no meaning.
    check_connect(&connect(Version::V31, 0b0011_1011, &[b"c"]), plain_connect(Version::V31, true));
    for version in ALL {
        // MQTT-3.1.2-12
        check_connect_refused(&body(version, 0b0001_1110), ReasonCode::MALFORMED_PACKET);
    }
    // MQTT-3.1.2-22 of 3.1.1; 5 allows it.
    for version in V3 {
        check_connect_refused(&connect(version, 0b0100_0010, &[b"c", b"pw"]), ReasonCode::MALFORMED_PACKET);
    }
    let expected = Connect { password: Some(b"pw"), ..plain_connect(Version::V5, true) };
    check_connect(&connect(Version::V5, 0b0100_0010, &[b"c", b"pw"]), expected);
}

/// MQTT-3.1.3-8 of 3.1.1, MQTT-3.1.3-6 of 5.
#[test]
fn a_client_without_a_name_is_welcome_where_its_session_is_not_kept() {
    check_connect_refused(&connect(Version::V31, 2, &[b""]), ReasonCode::CLIENT_IDENTIFIER_NOT_VALID);
    check_connect_refused(&connect(Version::V311, 0, &[b""]), ReasonCode::CLIENT_IDENTIFIER_NOT_VALID);
    check_connect(&connect(Version::V311, 2, &[b""]), Connect { client_id: "", ..plain_connect(Version::V311, true) });
    for is_clean in [false, true] {
        let expected = Connect { client_id: "", ..plain_connect(Version::V5, is_clean) };
        check_connect(&connect(Version::V5, u8::from(is_clean) << 1, &[b""]), expected);
    }
    let long = "x".repeat(24);
    check_connect(&connect(Version::V31, 2, &[long.as_bytes()]), Connect { client_id: &long, ..plain_connect(Version::V31, true) });
}

#[test]
fn strings_are_utf_8_without_u_0000() {
    // MQTT-1.5.4-1, MQTT-1.5.4-2: cut, overlong, a surrogate, past the last character, U+0000.
    for broken in [&b"a\xc3"[..], b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"a\0b"] {
        for version in ALL {
            check_connect_refused(&connect(version, 2, &[broken]), ReasonCode::MALFORMED_PACKET);
            check_refused(version, 0x30, &published(version, broken, b""), ReasonCode::MALFORMED_PACKET);
            let filter = [&[0, 7][..], if version == Version::V5 { &[0][..] } else { &[] }, &field(broken), &[0]].concat();
            check_refused(version, 0x82, &filter, ReasonCode::MALFORMED_PACKET);
        }
    }
    // MQTT-1.5.4-3: a byte order mark is a character like any other.
    let expected = Connect { client_id: "\u{feff}\u{1f30a}", ..plain_connect(Version::V5, true) };
    check_connect(&connect(Version::V5, 2, &["\u{feff}\u{1f30a}".as_bytes()]), expected);
}

#[test]
fn what_connect_asks_for_is_read_from_its_properties() {
    let properties = [
        property(0x11, [0, 0, 0x0e, 0x10]),
        property(0x21, [0, 10]),
        property(0x27, [0, 1, 0, 0]),
        property(0x22, [0, 5]),
        property(0x19, [1]),
        property(0x17, [0]),
        user_property(),
        user_property(),
        property(0x15, field("SCRAM")),
        property(0x16, field([1, 0])),
    ];
    let expected = Connect {
        session_expiry_s: 3600,
        receive_maximum: 10,
        packet_bytes_max: Some(65_536),
        topic_alias_maximum: 5,
        wants_response_information: true,
        wants_problem_information: false,
        authentication: Some(("SCRAM", &[1, 0])),
        ..plain_connect(Version::V5, true)
    };
    check_connect(&connect_with(&properties.concat()), expected);
    let method = property(0x15, field("SCRAM"));
    check_connect(&connect_with(&method), Connect { authentication: Some(("SCRAM", &[])), ..plain_connect(Version::V5, true) });
}

/// A value of its type for every property of the standard.
fn any_property(identifier: u8) -> Vec<u8> {
    match identifier {
        0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a | 0x0b => property(identifier, [1]),
        0x13 | 0x21 | 0x22 | 0x23 => property(identifier, [0, 1]),
        0x02 | 0x11 | 0x18 | 0x27 => property(identifier, [0, 0, 0, 1]),
        0x26 => user_property(),
        _ => property(identifier, field("x")),
    }
}

const KNOWN: [u8; 27] = [
    0x01, 0x02, 0x03, 0x08, 0x09, 0x0b, 0x11, 0x12, 0x13, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1c, 0x1f, 0x21, 0x22, 0x23, 0x24, 0x25,
    0x26, 0x27, 0x28, 0x29, 0x2a,
];

/// Every place where properties stand: the packet's first byte, its body with these properties, and which of them it allows.
fn places(properties: &[u8]) -> [(u8, Vec<u8>, &'static [u8]); 8] {
    let section = section(properties);
    let will = [&connect_head(Version::V5, 0b110)[..], &[0], &field("c"), &section, &field("w"), &field("")].concat();
    let subscribed = [&[0, 7][..], &section[..], &field("a"), &[0]].concat();
    [
        (0x10, connect_with(properties), &[0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27]),
        (0x10, will, &[0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26]),
        (0x30, [&field("a")[..], &section].concat(), &[0x01, 0x02, 0x03, 0x08, 0x09, 0x23, 0x26]),
        (0x40, [&[0, 7, 0][..], &section[..]].concat(), &[0x1f, 0x26]),
        (0x82, subscribed, &[0x0b, 0x26]),
        (0xa2, [&[0, 7][..], &section[..], &field("a")].concat(), &[0x26]),
        (0xe0, [&[0][..], &section[..]].concat(), &[0x11, 0x1c, 0x1f, 0x26]),
        (0xf0, [&[0x18][..], &section[..]].concat(), &[0x15, 0x16, 0x1f, 0x26]),
    ]
}

/// Section 2.2.2.2: every identifier in every place. MQTT-3.3.4-6: a subscription identifier in a PUBLISH is among what is refused.
#[test]
fn a_property_is_allowed_only_in_its_packets_and_an_unknown_one_is_malformed() {
    for identifier in 0..=u8::MAX {
        for (first, body, allowed) in places(&any_property(identifier)) {
            // Authentication data needs a method, and AUTH as well.
            let needs_method = identifier == 0x16 || first == 0xf0 && identifier != 0x15;
            if !KNOWN.contains(&identifier) {
                check_refused(Version::V5, first, &body, ReasonCode::MALFORMED_PACKET);
            } else if !(allowed.contains(&identifier) || identifier == 0x0b && first & 0xf0 == 0x30) {
                // Section 2.2.2.2: not valid for its packet type is malformed.
                check_refused(Version::V5, first, &body, ReasonCode::MALFORMED_PACKET);
            } else if !allowed.contains(&identifier) || needs_method {
                check_refused(Version::V5, first, &body, ReasonCode::PROTOCOL_ERROR);
            } else {
                assert!(decode(Version::V5, first, &body, &LIMITS).is_ok(), "{first:02x} {identifier:02x}");
            }
        }
    }
}

#[test]
fn a_property_that_comes_twice_is_a_protocol_error_but_for_user_properties() {
    for identifier in KNOWN.into_iter().filter(|identifier| *identifier != 0x26) {
        for (first, body, _) in
            places(&any_property(identifier).repeat(2)).into_iter().filter(|(_, _, allowed)| allowed.contains(&identifier))
        {
            check_refused(Version::V5, first, &body, ReasonCode::PROTOCOL_ERROR);
        }
    }
}

#[test]
fn user_properties_are_bounded() {
    let method = |first| if first == 0xf0 { property(0x15, field("m")) } else { Vec::new() };
    for place in 0..8 {
        let first = places(&[])[place].0;
        let (_, most, _) = &places(&[method(first), user_property().repeat(3)].concat())[place];
        assert!(decode(Version::V5, first, most, &LIMITS).is_ok(), "{first:02x}");
        let (_, more, _) = &places(&[method(first), user_property().repeat(4)].concat())[place];
        check_refused(Version::V5, first, more, ReasonCode::QUOTA_EXCEEDED);
    }
    // Those of a CONNECT and its will count together.
    let of_both = |of_will| {
        let (head, two) = (connect_head(Version::V5, 0b110), section(&user_property().repeat(2)));
        [head, two, field("c"), section(&user_property().repeat(of_will)), field("w"), field("")].concat()
    };
    assert!(decode_connect(&of_both(1), &LIMITS).is_ok());
    check_connect_refused(&of_both(2), ReasonCode::QUOTA_EXCEEDED);
}

#[test]
fn a_property_outside_its_range_is_refused() {
    for (place, broken) in [
        (0, property(0x21, [0, 0])),
        (0, property(0x27, [0, 0, 0, 0])),
        (0, property(0x17, [2])),
        (0, property(0x19, [2])),
        (0, property(0x16, field("x"))),
        (1, property(0x01, [2])),
        (2, property(0x01, [2])),
        (4, property(0x0b, [0])),
        // MQTT-3.3.2-14
        (2, property(0x08, field("a/#"))),
        (2, property(0x08, field("+"))),
        (2, property(0x08, field(""))),
    ] {
        let (first, body, _) = &places(&broken)[place];
        check_refused(Version::V5, *first, body, ReasonCode::PROTOCOL_ERROR);
    }
    // MQTT-3.3.2-8
    check_refused(Version::V5, 0x30, &places(&property(0x23, [0, 0]))[2].1, ReasonCode::TOPIC_ALIAS_INVALID);
}

#[test]
fn properties_that_do_not_fill_their_length_are_malformed() {
    for identifier in KNOWN {
        let whole = any_property(identifier);
        for (first, body, allowed) in (1..whole.len()).flat_map(|cut| places(&whole[..cut])) {
            if allowed.contains(&identifier) {
                check_refused(Version::V5, first, &body, ReasonCode::MALFORMED_PACKET);
            }
        }
    }
    // The length goes past the packet's end, or takes more bytes than it needs (MQTT-1.5.5-1).
    for length in [&[9][..], &[0x80], &[0x80, 0x00], &[0xff, 0xff, 0xff, 0xff]] {
        check_refused(Version::V5, 0x30, &[&field("a"), length].concat(), ReasonCode::MALFORMED_PACKET);
    }
    check_refused(Version::V5, 0x82, &places(&property(0x0b, [0x81, 0x00]))[4].1, ReasonCode::MALFORMED_PACKET);
}

fn published(version: Version, topic: &[u8], payload: &[u8]) -> Vec<u8> {
    [&field(topic)[..], if version == Version::V5 { &[0][..] } else { &[] }, payload].concat()
}

fn publish(topic: &str) -> Publish<'_> {
    Publish {
        is_duplicate: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: topic.into(),
        id: 0,
        alias: None,
        properties: MessageProperties::default(),
        payload: b"",
    }
}

#[test]
fn a_publish_is_read_with_its_flags() {
    for version in ALL {
        check(version, 0x30, &published(version, b"a/b", b"hi"), Packet::Publish(Publish { payload: b"hi", ..publish("a/b") }));
        check(version, 0x31, &published(version, b"/", b""), Packet::Publish(Publish { retain: true, ..publish("/") }));
        let no_properties = if version == Version::V5 { &[0][..] } else { &[] };
        let body = [&field("a")[..], &[1, 2], no_properties, b"\0\xff"].concat();
        let expected = Publish { qos: QoS::AtLeastOnce, id: 258, payload: b"\0\xff", ..publish("a") };
        check(version, 0x32, &body, Packet::Publish(expected.clone()));
        let again = Publish { is_duplicate: true, qos: QoS::ExactlyOnce, retain: true, ..expected };
        check(version, 0x3d, &body, Packet::Publish(again));
        for cut in 0..body.len() - 2 {
            check_refused(version, 0x32, &body[..cut], ReasonCode::MALFORMED_PACKET);
        }
    }
}

#[test]
fn a_plain_publish_allocates_nothing() {
    for version in ALL {
        let body = published(version, b"a", b"x");
        let Ok(Packet::Publish(publish)) = decode(version, 0x30, &body, &LIMITS) else { panic!("a PUBLISH") };
        assert!(matches!(publish.topic, Cow::Borrowed(_)) && publish.properties == MessageProperties::default());
        assert!(body.as_ptr_range().contains(&publish.payload.as_ptr()));
    }
}

#[test]
fn topic_names_are_not_empty_and_have_no_wildcards() {
    // MQTT-3.3.2-2
    for topic in ["+", "#", "a/+/b", "a#"] {
        for version in ALL {
            check_refused(version, 0x30, &published(version, topic.as_bytes(), b""), ReasonCode::TOPIC_NAME_INVALID);
            let will = [connect(version, 0b110, &[b"c"]), if version == Version::V5 { vec![0] } else { Vec::new() }].concat();
            check_connect_refused(&[will, field(topic), field("")].concat(), ReasonCode::TOPIC_NAME_INVALID);
        }
        let with_alias = [field(topic), section(&property(0x23, [0, 1]))].concat();
        check_refused(Version::V5, 0x30, &with_alias, ReasonCode::TOPIC_NAME_INVALID);
    }
    // MQTT-4.7.3-1, and section 3.3.2.1: in 5 an alias may stand for the name.
    for version in V3 {
        check_refused(version, 0x30, &published(version, b"", b""), ReasonCode::TOPIC_NAME_INVALID);
    }
    check_refused(Version::V5, 0x30, &published(Version::V5, b"", b""), ReasonCode::PROTOCOL_ERROR);
    let alias_alone = [field(""), section(&property(0x23, [0, 9]))].concat();
    check(Version::V5, 0x30, &alias_alone, Packet::Publish(Publish { alias: Some(9), ..publish("") }));
}

/// MQTT-2.2.1-3, MQTT-2.2.1-4
#[test]
fn a_packet_identifier_is_never_0() {
    for version in ALL {
        let no_properties = if version == Version::V5 { &[0][..] } else { &[] };
        let subscribed = [&[0, 0][..], no_properties, &field("a"), &[0]].concat();
        for (first, body) in [(0x32, [&field("a")[..], &[0, 0], no_properties].concat()), (0x34, [&field("a")[..], &[0, 0]].concat())] {
            check_refused(version, first, &body, ReasonCode::PROTOCOL_ERROR);
        }
        for first in [0x40, 0x50, 0x62, 0x70, 0x82, 0xa2] {
            check_refused(version, first, &subscribed, ReasonCode::PROTOCOL_ERROR);
        }
    }
}

#[track_caller]
fn check_passed_on(properties: &[Vec<u8>], expected: &[&Vec<u8>], is_borrowed: bool) {
    let body = [field("a"), section(&properties.concat())].concat();
    let Ok(Packet::Publish(publish)) = decode(Version::V5, 0x30, &body, &LIMITS) else { panic!("a PUBLISH") };
    let expected: Vec<u8> = expected.iter().copied().flatten().copied().collect();
    assert_eq!(publish.properties.passed_on, expected);
    assert_eq!(matches!(publish.properties.passed_on, Cow::Borrowed(_)), is_borrowed);
}

/// MQTT-3.3.2-4, MQTT-3.3.2-15, MQTT-3.3.2-16, MQTT-3.3.2-17, MQTT-3.3.2-18, MQTT-3.3.2-20
#[test]
fn what_is_passed_on_keeps_its_bytes_and_order() {
    let (format, content_type) = (property(0x01, [1]), property(0x03, field("text/plain")));
    let (response, correlation) = (property(0x08, field("re/ply")), property(0x09, field([0, 1])));
    let (user, other) = (user_property(), property(0x26, [field("k"), field("w")].concat()));
    let (expiry, alias) = (property(0x02, [0, 0, 0, 9]), property(0x23, [0, 1]));
    let all = [user.clone(), correlation.clone(), response.clone(), content_type.clone(), format.clone(), other.clone()];
    check_passed_on(&all, &[&user, &correlation, &response, &content_type, &format, &other], true);
    check_passed_on(&[expiry.clone(), user.clone(), other.clone(), alias.clone()], &[&user, &other], true);
    check_passed_on(&[user.clone(), expiry.clone(), other.clone()], &[&user, &other], false);
    check_passed_on(&[format.clone(), alias.clone(), user.clone(), expiry.clone(), other.clone()], &[&format, &user, &other], false);
    check_passed_on(&[expiry.clone(), alias.clone()], &[], true);

    let body = [&field("a")[..], &section(&[&format[..], &content_type, &expiry].concat()), b"x"].concat();
    let passed_on = [format, content_type].concat();
    let properties =
        MessageProperties { expiry_s: Some(9), is_utf8: true, content_type: Some("text/plain"), passed_on: Cow::Borrowed(&passed_on) };
    check(Version::V5, 0x30, &body, Packet::Publish(Publish { properties, payload: b"x", ..publish("a") }));
}

#[test]
fn a_will_has_the_properties_of_a_message_and_a_delay() {
    let (delay, expiry, user) = (property(0x18, [0, 0, 0, 5]), property(0x02, [0, 0, 1, 0]), user_property());
    let properties = section(&[&user[..], &delay, &expiry, &user].concat());
    let body = [&connect_head(Version::V5, 0b0001_0110)[..], &[0], &field("c"), &properties, &field("w"), &field("bye")].concat();
    let passed_on = user.repeat(2);
    let properties = MessageProperties { expiry_s: Some(256), passed_on: Cow::Borrowed(&passed_on), ..MessageProperties::default() };
    let will = Will { topic: "w", qos: QoS::ExactlyOnce, retain: false, payload: b"bye", delay_s: 5, properties };
    check_connect(&body, Connect { will: Some(will), ..plain_connect(Version::V5, true) });
}

const ACKNOWLEDGEMENTS: [(u8, AcknowledgementKind); 4] = [
    (0x40, AcknowledgementKind::Puback),
    (0x50, AcknowledgementKind::Pubrec),
    (0x62, AcknowledgementKind::Pubrel),
    (0x70, AcknowledgementKind::Pubcomp),
];

/// MQTT-3.4.2-1, MQTT-3.5.2-1, MQTT-3.6.2-1, MQTT-3.7.2-1
#[test]
fn acknowledgements_are_read_in_every_length_with_their_own_reason_codes() {
    for (first, kind) in ACKNOWLEDGEMENTS {
        let expected = |code| Packet::Acknowledgement(Acknowledgement { kind, id: 7, code });
        for version in ALL {
            check(version, first, &[0, 7], expected(ReasonCode::SUCCESS));
            check_refused(version, first, &[0], ReasonCode::MALFORMED_PACKET);
        }
        for version in V3 {
            check_refused(version, first, &[0, 7, 0], ReasonCode::MALFORMED_PACKET);
        }
        let allowed: &[u8] = match kind {
            AcknowledgementKind::Puback | AcknowledgementKind::Pubrec => &[0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99],
            _ => &[0, 0x92],
        };
        for code in 0..=u8::MAX {
            for body in [&[0, 7, code][..], &[0, 7, code, 0], &[&[0, 7, code][..], &section(&user_property())[..]].concat()] {
                match allowed.contains(&code) {
                    true => check(Version::V5, first, body, expected(ReasonCode(code))),
                    false => check_refused(Version::V5, first, body, ReasonCode::PROTOCOL_ERROR),
                }
            }
        }
        check_refused(Version::V5, first, &[0, 7, 0, 0, 0], ReasonCode::MALFORMED_PACKET);
        check_refused(Version::V5, first, &[0, 7, 0, 1], ReasonCode::MALFORMED_PACKET);
    }
}

#[track_caller]
fn check_options(version: Version, options: u8, expected: Result<SubscriptionOptions, ReasonCode>) {
    let no_properties = if version == Version::V5 { &[0][..] } else { &[] };
    let body = [&[0, 7][..], no_properties, &field("a/#"), &[options]].concat();
    match expected {
        Ok(options) => {
            let expected = Subscribe { id: 7, subscription_id: None, filters: vec![("a/#", options)] };
            check(version, 0x82, &body, Packet::Subscribe(expected));
        }
        Err(code) => check_refused(version, 0x82, &body, code),
    }
}

#[test]
fn subscription_options_are_what_their_version_knows() {
    let qos = |qos| SubscriptionOptions { qos, ..SubscriptionOptions::default() };
    for version in ALL {
        check_options(version, 0, Ok(qos(QoS::AtMostOnce)));
        check_options(version, 1, Ok(qos(QoS::AtLeastOnce)));
        check_options(version, 2, Ok(qos(QoS::ExactlyOnce)));
    }
    // 3.1 looks at the QoS alone.
    check_options(Version::V31, 0xfd, Ok(qos(QoS::AtLeastOnce)));
    check_options(Version::V31, 3, Err(ReasonCode::MALFORMED_PACKET));
    // MQTT-3-8.3-4 of 3.1.1
    for options in 3..=u8::MAX {
        check_options(Version::V311, options, Err(ReasonCode::MALFORMED_PACKET));
    }
    let all =
        SubscriptionOptions { qos: QoS::ExactlyOnce, no_local: true, retain_as_published: true, retain_handling: RetainHandling::Never };
    check_options(Version::V5, 0b10_1110, Ok(all));
    check_options(Version::V5, 0b01_0000, Ok(SubscriptionOptions { retain_handling: RetainHandling::IfNew, ..qos(QoS::AtMostOnce) }));
    // Section 3.8.3.1: neither the QoS nor the retain handling is 3.
    check_options(Version::V5, 3, Err(ReasonCode::PROTOCOL_ERROR));
    check_options(Version::V5, 0b11_0000, Err(ReasonCode::PROTOCOL_ERROR));
    // MQTT-3.8.3-5
    check_options(Version::V5, 0b0100_0000, Err(ReasonCode::MALFORMED_PACKET));
    check_options(Version::V5, 0b1000_0000, Err(ReasonCode::MALFORMED_PACKET));
}

#[test]
fn filters_are_at_least_one_and_none_empty() {
    for version in ALL {
        let head = [&[0, 7][..], if version == Version::V5 { &[0][..] } else { &[] }].concat();
        for (first, options) in [(0x82, &[0][..]), (0xa2, &[])] {
            let filters = |filters: &[&str]| {
                let fields: Vec<u8> = filters.iter().flat_map(|filter| [&field(filter), options].concat()).collect();
                [head.clone(), fields].concat()
            };
            assert!(decode(version, first, &filters(&["a", "$share/g/+", "#a"]), &LIMITS).is_ok());
            assert!(decode(version, first, &filters(&["a"; 5000]), &LIMITS).is_ok());
            // MQTT-3.8.3-2, MQTT-3.10.3-2
            check_refused(version, first, &filters(&[]), ReasonCode::PROTOCOL_ERROR);
            // MQTT-4.7.3-1
            check_refused(version, first, &filters(&["a", ""]), ReasonCode::PROTOCOL_ERROR);
            let whole = filters(&["ab"]);
            for cut in (0..whole.len()).filter(|cut| *cut != head.len()) {
                check_refused(version, first, &whole[..cut], ReasonCode::MALFORMED_PACKET);
            }
        }
        let body = [&head[..], &field("a"), &field("b")].concat();
        check(version, 0xa2, &body, Packet::Unsubscribe(Unsubscribe { id: 7, filters: vec!["a", "b"] }));
    }
    let body = [&[0, 7][..], &section(&property(0x0b, [0xff, 0xff, 0xff, 0x7f])), &field("a"), &[0]].concat();
    let filters = vec![("a", SubscriptionOptions::default())];
    check(Version::V5, 0x82, &body, Packet::Subscribe(Subscribe { id: 7, subscription_id: Some(268_435_455), filters }));
}

#[test]
fn a_ping_has_no_body() {
    for version in ALL {
        check(version, 0xc0, &[], Packet::Pingreq);
        check_refused(version, 0xc0, &[0], ReasonCode::MALFORMED_PACKET);
    }
}

#[test]
fn a_disconnect_says_why_only_in_5() {
    let expected = |code| Packet::Disconnect(Disconnect { code, session_expiry_s: None });
    for version in ALL {
        check(version, 0xe0, &[], expected(ReasonCode::SUCCESS));
    }
    for version in V3 {
        check_refused(version, 0xe0, &[0], ReasonCode::MALFORMED_PACKET);
    }
    // MQTT-3.14.2-1
    let allowed = [0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99];
    for code in 0..=u8::MAX {
        for body in [&[code][..], &[code, 0]] {
            match allowed.contains(&code) {
                true => check(Version::V5, 0xe0, body, expected(ReasonCode(code))),
                false => check_refused(Version::V5, 0xe0, body, ReasonCode::PROTOCOL_ERROR),
            }
        }
    }
    let body = [&[4][..], &section(&[property(0x11, [0, 0, 0, 9]), property(0x1f, field("why"))].concat())].concat();
    let expected = Disconnect { code: ReasonCode::DISCONNECT_WITH_WILL, session_expiry_s: Some(9) };
    check(Version::V5, 0xe0, &body, Packet::Disconnect(expected));
    check_refused(Version::V5, 0xe0, &[0, 0, 0], ReasonCode::MALFORMED_PACKET);
}

#[test]
fn an_auth_goes_on_or_begins_again_by_its_method_and_is_of_5_alone() {
    let properties = section(&[property(0x15, field("m")), property(0x16, field([0, 1]))].concat());
    for code in 0..=u8::MAX {
        let body = [&[code][..], &properties[..]].concat();
        match code {
            0x18 | 0x19 => {
                let expected = Auth { code: ReasonCode(code), method: Some("m"), content: &[0, 1] };
                check(Version::V5, 0xf0, &body, Packet::Auth(expected));
            }
            // MQTT-3.15.2-1
            _ => check_refused(Version::V5, 0xf0, &body, ReasonCode::PROTOCOL_ERROR),
        }
        for version in V3 {
            check_refused(version, 0xf0, &body, ReasonCode::MALFORMED_PACKET);
        }
    }
    // Section 3.15.2.1: an empty body says success, which only the server says; section 3.15.2.2.2: the method is not left out.
    check_refused(Version::V5, 0xf0, &[], ReasonCode::PROTOCOL_ERROR);
    check_refused(Version::V5, 0xf0, &[0x18, 0], ReasonCode::PROTOCOL_ERROR);
    check_refused(Version::V5, 0xf0, &[0x18], ReasonCode::MALFORMED_PACKET);
    check_refused(Version::V5, 0xf0, &[&[0x18][..], &properties[..], &[0]].concat(), ReasonCode::MALFORMED_PACKET);
}

/// Bytes that look like packets often enough to get deep into them.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..4),
        "[a-c/+#]{0,4}".prop_map(field),
        (0_usize..KNOWN.len()).prop_map(|at| any_property(KNOWN[at])),
        proptest::collection::vec(0_usize..KNOWN.len(), 0..4)
            .prop_map(|which| section(&which.into_iter().flat_map(|at| any_property(KNOWN[at])).collect::<Vec<u8>>())),
    ];
    let head = prop_oneof![
        Just(Vec::new()),
        Just(vec![0, 7]),
        (0_usize..3, any::<u8>()).prop_map(|(version, flags)| connect_head(ALL[version], flags)),
    ];
    (head, proptest::collection::vec(piece, 0..8)).prop_map(|(head, pieces)| [head, pieces.concat()].concat())
}

/// A message's properties that are passed on, mixed with those that are not.
fn message_properties() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let others = proptest::sample::subsequence(vec![0x01_u8, 0x02, 0x03, 0x08, 0x09, 0x23], 0..=6).prop_shuffle();
    let users =
        proptest::collection::vec("[a-z\u{80}-\u{2ff}]{0,5}".prop_map(|text| property(0x26, [field("k"), field(text)].concat())), 0..=3);
    (others, users).prop_map(|(others, users)| others.into_iter().map(any_property).chain(users).collect::<Vec<_>>()).prop_shuffle()
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused_with_an_error(first in any::<u8>(), version in 0_usize..3, body in body()) {
        let _ = parse_head(&body, 1000);
        for result in [decode(ALL[version], first, &body, &LIMITS).err(), decode_connect(&body, &LIMITS).err()] {
            prop_assert!(result.is_none_or(|fault| fault.code.is_error() && !fault.what.is_empty()));
        }
    }

    #[test]
    fn properties_that_are_passed_on_survive(properties in message_properties(), payload in proptest::collection::vec(any::<u8>(), 0..300)) {
        let passed_on = |property: &Vec<u8>| [0x01, 0x03, 0x08, 0x09, 0x26].contains(&property[0]);
        let expected = properties.iter().filter(|property| passed_on(property)).flatten().copied().collect::<Vec<u8>>();
        let body = [&field("a/b")[..], &section(&properties.concat()), &payload].concat();
        let Ok(Packet::Publish(publish)) = decode(Version::V5, 0x31, &body, &LIMITS) else { panic!("a PUBLISH") };
        prop_assert_eq!(&*publish.properties.passed_on, &*expected);
        let head = PublishHead {
            retain: publish.retain,
            topic: &publish.topic,
            alias: publish.alias,
            expiry_s: publish.properties.expiry_s,
            passed_on: &publish.properties.passed_on,
            ..PublishHead::default()
        };
        let mut out = Vec::new();
        put_publish(&mut out, Version::V5, &head, publish.payload);
        let written = parse_head(&out, 1000).expect("a head").expect("a whole head");
        prop_assert_eq!(written.head_len + written.body_len, out.len());
        let again = decode(Version::V5, written.first, &out[written.head_len..], &LIMITS);
        prop_assert_eq!(again, Ok(Packet::Publish(publish)));
    }
}
