//! The dialogue of MQTT: what may come when, and what each fault is answered.

use std::borrow::Cow;

use proptest::prelude::*;

use super::*;
use crate::protocol::ErrorCode;
use crate::wire::mqtt::{AcknowledgementKind, MessageProperties, QoS};

const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

const RECEIVE_MAXIMUM: u16 = 3;

const LIMITS: DialogueLimits = DialogueLimits {
    packet: wire::mqtt::PacketLimits { packet_bytes_max: 1000, user_properties_max: 4 },
    topic_alias_maximum: 4,
    client_id_bytes_max: 8,
};

fn connect(version: Version) -> Connect<'static> {
    Connect {
        version,
        is_bridge: false,
        client_id: "c",
        is_clean: true,
        keep_alive_s: 0,
        user_name: None,
        password: None,
        will: None,
        session_expiry_s: 0,
        receive_maximum: u16::MAX,
        packet_bytes_max: None,
        topic_alias_maximum: 0,
        wants_response_information: false,
        wants_problem_information: true,
        authentication: None,
    }
}

fn greeted(connect: Connect<'static>) -> Dialogue {
    let mut dialogue = Dialogue::new();
    let command = dialogue.step(Packet::Connect(Box::new(connect.clone())), &LIMITS);
    assert_eq!(command, Ok(Command::Connect(Box::new(connect))));
    dialogue
}

fn connected_by(connect: Connect<'static>) -> Dialogue {
    let mut dialogue = greeted(connect);
    assert!(!dialogue.is_connected());
    dialogue.put_connack(&mut Vec::new(), &Connack::default());
    assert!(dialogue.is_connected());
    dialogue
}

fn connected(version: Version) -> Dialogue {
    connected_by(connect(version))
}

fn publish(qos: QoS, id: u16, topic: &'static str, alias: Option<u16>) -> Packet<'static> {
    let properties = MessageProperties::default();
    Packet::Publish(Publish { is_duplicate: false, qos, retain: false, topic: Cow::Borrowed(topic), id, alias, properties, payload: b"1" })
}

fn acknowledgement(kind: AcknowledgementKind, id: u16) -> Acknowledgement {
    Acknowledgement { kind, id, code: ReasonCode::SUCCESS }
}

fn auth(code: ReasonCode, method: Option<&'static str>) -> Packet<'static> {
    Packet::Auth(Auth { code, method, content: b"" })
}

fn disconnect(session_expiry_s: Option<u32>) -> Packet<'static> {
    Packet::Disconnect(Disconnect { code: ReasonCode::SUCCESS, session_expiry_s })
}

/// One of each but CONNECT and AUTH.
fn packets() -> [Packet<'static>; 6] {
    [
        publish(QoS::AtMostOnce, 0, "a", None),
        Packet::Acknowledgement(acknowledgement(AcknowledgementKind::Pubrel, 1)),
        Packet::Subscribe(Subscribe { id: 1, subscription_id: None, filters: vec![("a", Default::default())] }),
        Packet::Unsubscribe(Unsubscribe { id: 1, filters: vec!["a"] }),
        Packet::Pingreq,
        disconnect(None),
    ]
}

/// `packet` breaks a rule, whose code is `code`, and nothing is handled from then on.
fn check_fault(dialogue: &mut Dialogue, packet: Packet<'_>, code: ReasonCode) {
    let fault = dialogue.step(packet, &LIMITS).expect_err("a broken rule");
    assert_eq!(fault.code, code, "{fault:?}");
    for packet in packets() {
        assert_eq!(dialogue.step(packet, &LIMITS).map_err(|fault| fault.code), Err(ReasonCode::PROTOCOL_ERROR));
    }
    assert_eq!(dialogue.handle(0xc0, b"", &LIMITS).map_err(|fault| fault.code), Err(ReasonCode::PROTOCOL_ERROR));
}

fn check_put(put: impl FnOnce(&mut Vec<u8>), expected: &[u8]) {
    let mut out = b"before".to_vec();
    put(&mut out);
    assert_eq!(&out[6..], expected, "{:02x?}", &out[6..]);
}

fn put_fault(dialogue: &mut Dialogue, code: ReasonCode, expected: &[u8]) {
    check_put(|out| dialogue.put_fault(out, Fault::new(code, "no")), expected);
    check_put(|out| dialogue.put_fault(out, Fault::new(code, "no")), b"");
}

#[test]
fn a_dialogue_is_small() {
    assert!(size_of::<Dialogue>() <= 24, "{}", size_of::<Dialogue>());
    for version in VERSIONS {
        let mut dialogue = connected(version);
        for packet in packets().into_iter().take(5) {
            dialogue.step(packet, &LIMITS).unwrap();
        }
        assert!(!matches!(&dialogue.state, State::V5(machine) if machine.has_heap()), "{version:?}");
    }
}

#[test]
fn the_first_packet_is_connect_and_no_other() {
    for packet in packets() {
        check_fault(&mut Dialogue::new(), packet, ReasonCode::PROTOCOL_ERROR);
    }
    check_fault(&mut Dialogue::new(), auth(ReasonCode::REAUTHENTICATE, Some("m")), ReasonCode::PROTOCOL_ERROR);
    for version in VERSIONS {
        let second = || Packet::Connect(Box::new(connect(version)));
        check_fault(&mut greeted(connect(version)), second(), ReasonCode::PROTOCOL_ERROR);
        check_fault(&mut connected(version), second(), ReasonCode::PROTOCOL_ERROR);
    }
}

#[test]
fn before_connack_nothing_is_handled() {
    for version in VERSIONS {
        for packet in packets() {
            let mut dialogue = greeted(connect(version));
            check_fault(&mut dialogue, packet, ReasonCode::PROTOCOL_ERROR);
            // The answer to CONNECT comes too late.
            check_put(|out| dialogue.put_connack(out, &Connack::default()), b"");
            assert!(!dialogue.is_connected());
        }
    }
}

#[test]
fn a_connected_client_is_handled() {
    for version in VERSIONS {
        let mut dialogue = connected(version);
        assert_eq!(dialogue.version(), version);
        for packet in packets() {
            let expected = match packet.clone() {
                Packet::Publish(publish) => Command::Publish(publish),
                Packet::Acknowledgement(acknowledgement) => Command::Release { id: acknowledgement.id },
                Packet::Subscribe(subscribe) => Command::Subscribe(subscribe),
                Packet::Unsubscribe(unsubscribe) => Command::Unsubscribe(unsubscribe),
                Packet::Pingreq => Command::Ping,
                Packet::Disconnect(disconnect) => Command::Disconnect(disconnect),
                Packet::Connect(_) | Packet::Auth(_) => unreachable!("neither is among them"),
            };
            assert_eq!(dialogue.step(packet, &LIMITS), Ok(expected));
        }
    }
}

#[test]
fn acknowledgements_other_than_pubrel_are_of_messages_of_ours() {
    for version in VERSIONS {
        for kind in [AcknowledgementKind::Puback, AcknowledgementKind::Pubrec, AcknowledgementKind::Pubcomp] {
            let packet = Packet::Acknowledgement(acknowledgement(kind, 7));
            assert_eq!(connected(version).step(packet, &LIMITS), Ok(Command::Acknowledged(acknowledgement(kind, 7))));
        }
    }
}

#[test]
fn nothing_comes_or_goes_behind_disconnect() {
    for version in VERSIONS {
        let mut dialogue = connected(version);
        dialogue.step(disconnect(None), &LIMITS).unwrap();
        assert!(dialogue.is_connected());
        check_fault(&mut dialogue, Packet::Pingreq, ReasonCode::PROTOCOL_ERROR);
        put_fault(&mut dialogue, ReasonCode::PROTOCOL_ERROR, b"");
    }
}

#[test]
fn auth_is_of_version_5() {
    for version in [Version::V31, Version::V311] {
        check_fault(&mut connected(version), auth(ReasonCode::REAUTHENTICATE, Some("m")), ReasonCode::MALFORMED_PACKET);
        check_put(|out| connected(version).put_auth(out, ReasonCode::SUCCESS, "m", b""), b"");
    }
}

#[test]
fn an_authentication_has_the_method_of_connect() {
    let with_method = || Connect { authentication: Some(("m", b"")), ..connect(Version::V5) };
    let go_on = || auth(ReasonCode::CONTINUE_AUTHENTICATION, Some("m"));
    let again = || auth(ReasonCode::REAUTHENTICATE, Some("m"));
    let mut dialogue = greeted(with_method());
    let mut other = greeted(with_method());
    check_put(|out| dialogue.put_auth(out, ReasonCode::CONTINUE_AUTHENTICATION, "m", b""), &[0xf0, 6, 0x18, 4, 0x15, 0, 1, b'm']);
    assert!(matches!(dialogue.step(go_on(), &LIMITS), Ok(Command::Authenticate(_))));
    dialogue.put_connack(&mut Vec::new(), &Connack::default());
    assert!(matches!(dialogue.step(again(), &LIMITS), Ok(Command::Authenticate(_))));
    // It was not asked to go on.
    check_fault(&mut dialogue, go_on(), ReasonCode::PROTOCOL_ERROR);

    // There is nothing yet to authenticate again.
    check_fault(&mut other, again(), ReasonCode::PROTOCOL_ERROR);
    for method in [None, Some("n")] {
        check_fault(&mut connected_by(with_method()), auth(ReasonCode::REAUTHENTICATE, method), ReasonCode::PROTOCOL_ERROR);
    }
    check_fault(&mut connected_by(with_method()), auth(ReasonCode::SUCCESS, Some("m")), ReasonCode::PROTOCOL_ERROR);
    check_fault(&mut connected(Version::V5), again(), ReasonCode::PROTOCOL_ERROR);
    check_fault(&mut greeted(connect(Version::V5)), go_on(), ReasonCode::PROTOCOL_ERROR);
}

fn acknowledge(answers: &mut Answers, out: &mut Vec<u8>, kind: AcknowledgementKind, code: ReasonCode) {
    answers.put_acknowledgement(out, Acknowledgement { kind, id: 1, code }, None);
}

#[test]
fn more_messages_than_the_receive_maximum_are_a_fault() {
    let mut answers = connected(Version::V5).answers();
    let mut out = Vec::new();
    for _ in 1..=3 {
        answers.take_publish(QoS::AtLeastOnce, RECEIVE_MAXIMUM).unwrap();
        answers.take_publish(QoS::AtMostOnce, RECEIVE_MAXIMUM).unwrap();
    }
    // What ends a message makes room for another; a PUBREC with success does not end one.
    for (kind, code) in [
        (AcknowledgementKind::Puback, ReasonCode::SUCCESS),
        (AcknowledgementKind::Pubcomp, ReasonCode::SUCCESS),
        (AcknowledgementKind::Pubrec, ReasonCode::QUOTA_EXCEEDED),
    ] {
        acknowledge(&mut answers, &mut out, kind, code);
        answers.take_publish(QoS::ExactlyOnce, RECEIVE_MAXIMUM).unwrap();
    }
    acknowledge(&mut answers, &mut out, AcknowledgementKind::Pubrec, ReasonCode::SUCCESS);
    let fault = answers.take_publish(QoS::ExactlyOnce, RECEIVE_MAXIMUM).unwrap_err();
    assert_eq!(fault.code, ReasonCode::RECEIVE_MAXIMUM_EXCEEDED);
    put_fault(&mut connected(Version::V5), fault.code, &[0xe0, 7, 0x93, 5, 0x1f, 0, 2, b'n', b'o']);
}

#[test]
fn a_message_that_is_sent_again_takes_the_quota_once() {
    for version in VERSIONS {
        let mut answers = connected(version).answers();
        let mut out = Vec::new();
        answers.take_publish(QoS::ExactlyOnce, RECEIVE_MAXIMUM).unwrap();
        for _ in 0..u32::from(u16::MAX) + 1 {
            answers.take_publish(QoS::ExactlyOnce, RECEIVE_MAXIMUM).unwrap();
            answers.repeated();
            acknowledge(&mut answers, &mut out, AcknowledgementKind::Pubrec, ReasonCode::SUCCESS);
            out.clear();
        }
        // A PUBCOMP more than there were messages does no harm.
        for _ in 0..3 {
            acknowledge(&mut answers, &mut out, AcknowledgementKind::Pubcomp, ReasonCode::SUCCESS);
        }
        for _ in 1..=RECEIVE_MAXIMUM {
            answers.take_publish(QoS::ExactlyOnce, RECEIVE_MAXIMUM).unwrap();
        }
    }
}

#[test]
fn clients_of_3_1_1_may_use_every_identifier() {
    let mut answers = connected(Version::V311).answers();
    for _ in 1..=u16::MAX {
        answers.take_publish(QoS::AtLeastOnce, RECEIVE_MAXIMUM).unwrap();
    }
    let fault = answers.take_publish(QoS::AtLeastOnce, RECEIVE_MAXIMUM).unwrap_err();
    assert_eq!(fault.code, ReasonCode::RECEIVE_MAXIMUM_EXCEEDED);
    put_fault(&mut connected(Version::V311), fault.code, b"");
}

#[test]
fn a_topic_has_a_valid_name() {
    let check = |version, body: &[u8], code| {
        let fault = connected(version).handle(0x30, body, &LIMITS).unwrap_err();
        assert_eq!(fault.code, code, "{fault:?}");
    };
    for name in [b"\0\x01+", b"\0\x01#"] {
        check(Version::V311, name, ReasonCode::TOPIC_NAME_INVALID);
        check(Version::V5, &[&name[..], b"\0"].concat(), ReasonCode::TOPIC_NAME_INVALID);
        check(Version::V5, &[&name[..], b"\x03\x23\0\x01"].concat(), ReasonCode::TOPIC_NAME_INVALID);
    }
    check(Version::V311, b"\0\0", ReasonCode::TOPIC_NAME_INVALID);
    check(Version::V5, b"\0\0\0", ReasonCode::PROTOCOL_ERROR);
}

#[test]
fn an_alias_stands_for_the_topic_last_named_with_it() {
    let mut dialogue = connected(Version::V5);
    let mut topic_of = |topic, alias| match dialogue.step(publish(QoS::AtMostOnce, 0, topic, Some(alias)), &LIMITS) {
        Ok(Command::Publish(publish)) => publish.topic.into_owned(),
        other => panic!("{other:?}"),
    };
    for (topic, alias, expected) in [("a", 4, "a"), ("", 4, "a"), ("b", 1, "b"), ("c", 4, "c"), ("", 1, "b"), ("", 4, "c"), ("c", 4, "c")] {
        assert_eq!(topic_of(topic, alias), expected);
    }
    check_fault(&mut dialogue, publish(QoS::AtMostOnce, 0, "", Some(3)), ReasonCode::PROTOCOL_ERROR);
    check_fault(&mut connected(Version::V5), publish(QoS::AtMostOnce, 0, "", Some(1)), ReasonCode::PROTOCOL_ERROR);
    for alias in [0, 5, u16::MAX] {
        check_fault(&mut connected(Version::V5), publish(QoS::AtMostOnce, 0, "a", Some(alias)), ReasonCode::TOPIC_ALIAS_INVALID);
        check_fault(&mut connected(Version::V5), publish(QoS::AtMostOnce, 0, "", Some(alias)), ReasonCode::TOPIC_ALIAS_INVALID);
    }
}

#[test]
fn the_first_topics_get_the_servers_aliases() {
    let aliases = |topic_alias_maximum| {
        let mut dialogue = connected_by(Connect { topic_alias_maximum, ..connect(Version::V5) });
        ["a", "b", "a", "c", "b"].map(|topic| dialogue.alias_for(topic))
    };
    assert_eq!(aliases(2), [Alias::New(1), Alias::New(2), Alias::Known(1), Alias::None, Alias::Known(2)]);
    assert_eq!(aliases(0), [Alias::None; 5]);
    assert_eq!(connected(Version::V311).alias_for("a"), Alias::None);
    // However many a client offers.
    let dialogue = connected_by(Connect { topic_alias_maximum: u16::MAX, ..connect(Version::V5) });
    assert_eq!(dialogue.client().topic_alias_maximum, LIMITS.topic_alias_maximum);
}

#[test]
fn disconnect_keeps_no_session_that_connect_did_not() {
    check_fault(&mut connected(Version::V5), disconnect(Some(1)), ReasonCode::PROTOCOL_ERROR);
    assert!(connected(Version::V5).step(disconnect(Some(0)), &LIMITS).is_ok());
    let kept = || connected_by(Connect { session_expiry_s: 1, ..connect(Version::V5) });
    assert!(kept().step(disconnect(Some(u32::MAX)), &LIMITS).is_ok());
    assert!(kept().step(disconnect(Some(0)), &LIMITS).is_ok());
}

#[test]
fn a_client_identifier_has_a_longest() {
    for version in VERSIONS {
        greeted(Connect { client_id: "12345678", ..connect(version) });
        let connect = Connect { client_id: "123456789", ..connect(version) };
        let mut dialogue = Dialogue::new();
        check_fault(&mut dialogue, Packet::Connect(Box::new(connect)), ReasonCode::CLIENT_IDENTIFIER_NOT_VALID);
        let expected: &[u8] = match version {
            Version::V5 => &[0x20, 8, 0, 0x85, 5, 0x1f, 0, 2, b'n', b'o'],
            _ => &[0x20, 2, 0, 2],
        };
        put_fault(&mut dialogue, ReasonCode::CLIENT_IDENTIFIER_NOT_VALID, expected);
        assert!(!dialogue.is_connected());
    }
}

#[test]
fn clients_of_3_are_told_what_a_return_code_says_and_only_before_connack() {
    for version in [Version::V31, Version::V311] {
        for code in ReasonCode::ALL.iter().copied().filter(|code| code.is_error()) {
            put_fault(&mut connected(version), code, b"");
            let expected: &[u8] = match code {
                ReasonCode::UNSUPPORTED_PROTOCOL_VERSION => &[0x20, 2, 0, 1],
                ReasonCode::CLIENT_IDENTIFIER_NOT_VALID => &[0x20, 2, 0, 2],
                ReasonCode::BAD_USER_NAME_OR_PASSWORD | ReasonCode::BAD_AUTHENTICATION_METHOD => &[0x20, 2, 0, 4],
                ReasonCode::NOT_AUTHORIZED | ReasonCode::BANNED => &[0x20, 2, 0, 5],
                ReasonCode::SERVER_UNAVAILABLE | ReasonCode::SERVER_BUSY | ReasonCode::QUOTA_EXCEEDED => &[0x20, 2, 0, 3],
                ReasonCode::MALFORMED_PACKET | ReasonCode::PROTOCOL_ERROR | ReasonCode::PACKET_TOO_LARGE => b"",
                _ => continue,
            };
            put_fault(&mut greeted(connect(version)), code, expected);
        }
    }
}

#[test]
fn the_server_says_one_last_word() {
    let mut dialogue = connected(Version::V5);
    check_put(|out| dialogue.put_disconnect(out, ReasonCode::SERVER_SHUTTING_DOWN, None, None), &[0xe0, 1, 0x8b]);
    check_put(|out| dialogue.put_disconnect(out, ReasonCode::SERVER_SHUTTING_DOWN, None, None), b"");
    put_fault(&mut dialogue, ReasonCode::PROTOCOL_ERROR, b"");
    check_put(|out| connected(Version::V311).put_disconnect(out, ReasonCode::SERVER_SHUTTING_DOWN, None, None), b"");

    // Before CONNACK with success there is no DISCONNECT, and CONNACK has another code for it.
    let mut dialogue = greeted(connect(Version::V5));
    check_put(|out| dialogue.put_disconnect(out, ReasonCode::SERVER_SHUTTING_DOWN, None, None), &[0x20, 3, 0, 0x88, 0]);
    assert!(!dialogue.is_connected());

    for version in VERSIONS {
        let mut dialogue = greeted(connect(version));
        dialogue.put_connack(&mut Vec::new(), &Connack { code: ReasonCode::NOT_AUTHORIZED, ..Connack::default() });
        assert!(!dialogue.is_connected());
        put_fault(&mut dialogue, ReasonCode::PROTOCOL_ERROR, b"");
        check_put(|out| dialogue.put_connack(out, &Connack::default()), b"");
        check_fault(&mut dialogue, Packet::Pingreq, ReasonCode::PROTOCOL_ERROR);
        check_put(|out| connected(version).put_connack(out, &Connack::default()), b"");
    }
}

#[test]
fn reasons_are_said_to_those_who_want_them() {
    let put = |dialogue: &Dialogue, expected: &[u8]| {
        let (kind, code) = (AcknowledgementKind::Puback, ReasonCode::NOT_AUTHORIZED);
        check_put(|out| dialogue.answers().put_acknowledgement(out, Acknowledgement { kind, id: 1, code }, Some("no")), expected);
    };
    put(&connected(Version::V5), &[0x40, 9, 0, 1, 0x87, 5, 0x1f, 0, 2, b'n', b'o']);
    put(&connected(Version::V311), &[0x40, 2, 0, 1]);
    let mut unwilling = connected_by(Connect { wants_problem_information: false, ..connect(Version::V5) });
    let mut out = Vec::new();
    let refusal = Acknowledgement { kind: AcknowledgementKind::Puback, id: 1, code: ReasonCode::NOT_AUTHORIZED };
    unwilling.answers().put_acknowledgement(&mut out, refusal, Some("no"));
    assert!(!out.is_empty() && !out.ends_with(b"no"));
    check_put(|out| unwilling.answers().put_suback(out, 1, &[ReasonCode::SUCCESS]), &[0x90, 4, 0, 1, 0, 0]);
    put_fault(&mut unwilling, ReasonCode::PROTOCOL_ERROR, &[0xe0, 7, 0x82, 5, 0x1f, 0, 2, b'n', b'o']);
}

#[test]
fn no_packet_is_longer_than_the_client_takes() {
    let taking = |bytes_max| connected_by(Connect { packet_bytes_max: Some(bytes_max), ..connect(Version::V5) });
    put_fault(&mut taking(9), ReasonCode::PROTOCOL_ERROR, &[0xe0, 7, 0x82, 5, 0x1f, 0, 2, b'n', b'o']);
    put_fault(&mut taking(8), ReasonCode::PROTOCOL_ERROR, &[0xe0, 1, 0x82]);
    put_fault(&mut taking(2), ReasonCode::PROTOCOL_ERROR, b"");
    check_put(|out| taking(6).answers().put_suback(out, 1, &[ReasonCode::SUCCESS]), &[0x90, 4, 0, 1, 0, 0]);
    check_put(|out| taking(6).answers().put_unsuback(out, 1, &[ReasonCode::SUCCESS; 2]), b"");
}

#[test]
fn every_packet_carries_codes_that_it_may() {
    for codes in [reason::CONNACK, reason::PUBACK, reason::PUBREL, reason::SUBACK, reason::UNSUBACK, reason::DISCONNECT] {
        for code in ReasonCode::ALL {
            let nearest = codes.nearest(*code);
            assert_eq!(codes.nearest(nearest), nearest, "{codes:?} carries {code:?} as {nearest:?}");
            assert!(!code.is_error() || nearest.is_error());
        }
    }
    assert_eq!(reason::PUBACK.nearest(ReasonCode::PACKET_TOO_LARGE), ReasonCode::QUOTA_EXCEEDED);
    assert_eq!(reason::SUBACK.nearest(ReasonCode::TOPIC_NAME_INVALID), ReasonCode::TOPIC_FILTER_INVALID);
}

#[test]
fn every_refusal_has_a_reason() {
    for code in ErrorCode::ALL {
        let reason = reason_of(*code);
        assert!(reason.is_error() && ReasonCode::ALL.contains(&reason), "{code:?}");
    }
    assert_eq!(reason_of(ErrorCode::InvalidPath), ReasonCode::TOPIC_NAME_INVALID);
    assert_eq!(reason_of(ErrorCode::IncompatibleType), ReasonCode::PAYLOAD_FORMAT_INVALID);
}

const CONNECT_5: &[u8] = b"\0\x04MQTT\x05\x02\0\x0a\0\0\x01c";
const CONNECT_311: &[u8] = b"\0\x04MQTT\x04\x02\0\x0a\0\x01c";
const CONNECT_31: &[u8] = b"\0\x06MQIsdp\x03\x02\0\x0a\0\x01c";

#[test]
fn bytes_are_handled_in_the_version_of_connect() {
    for (body, version) in [(CONNECT_5, Version::V5), (CONNECT_311, Version::V311), (CONNECT_31, Version::V31)] {
        let mut dialogue = Dialogue::new();
        assert!(matches!(dialogue.handle(0x10, body, &LIMITS), Ok(Command::Connect(connect)) if connect.version == version));
        assert_eq!(dialogue.version(), version);
        let success: &[u8] = if version == Version::V5 { &[0x20, 3, 0, 0, 0] } else { &[0x20, 2, 0, 0] };
        check_put(|out| dialogue.put_connack(out, &Connack::default()), success);
        let body: &[u8] = if version == Version::V5 { b"\0\x01a\0hi" } else { b"\0\x01ahi" };
        match dialogue.handle(0x30, body, &LIMITS) {
            Ok(Command::Publish(publish)) => assert_eq!((&*publish.topic, publish.payload), ("a", &b"hi"[..])),
            other => panic!("{other:?}"),
        }
        assert_eq!(dialogue.handle(0xc0, b"", &LIMITS), Ok(Command::Ping));
        let auth = dialogue.handle(0xf0, b"\x19\0", &LIMITS).unwrap_err();
        assert_eq!(auth.code, if version == Version::V5 { ReasonCode::PROTOCOL_ERROR } else { ReasonCode::MALFORMED_PACKET });
    }
}

#[test]
fn a_broken_connect_is_answered_in_its_own_version() {
    let check = |first, body: &[u8], code, expected: &[u8]| {
        let mut dialogue = Dialogue::new();
        let fault = dialogue.handle(first, body, &LIMITS).unwrap_err();
        assert_eq!(fault.code, code, "{fault:?}");
        put_fault(&mut dialogue, fault.code, expected);
        assert_eq!(dialogue.handle(0x10, CONNECT_311, &LIMITS).unwrap_err().code, ReasonCode::PROTOCOL_ERROR);
    };
    let (version, malformed) = (ReasonCode::UNSUPPORTED_PROTOCOL_VERSION, ReasonCode::MALFORMED_PACKET);
    for level in [0, 2, 3, 6, 0x7f, 0x83, 0x85, 0xff] {
        let body = [b"\0\x04MQTT", &[level][..], b"\x02\0\x0a\0\0\x01c"].concat();
        check(0x10, &body, version, &[0x20, 2, 0, 1]);
    }
    check(0x10, &CONNECT_5[..10], malformed, &[0x20, 8, 0, 0x81, 5, 0x1f, 0, 2, b'n', b'o']);
    check(0x10, &CONNECT_311[..10], malformed, b"");
    check(0xc0, b"", ReasonCode::PROTOCOL_ERROR, b"");
}

proptest! {
    /// Whatever comes: no panic, nothing after a fault, and one last word.
    #[test]
    fn any_bytes_are_commands_until_a_fault(
        version in 0..3_usize,
        packets in prop::collection::vec((any::<u8>(), prop::collection::vec(prop_oneof![0..4_u8, any::<u8>()], 0..12)), 0..12),
    ) {
        let mut dialogue = connected_by(Connect { topic_alias_maximum: 2, authentication: Some(("m", b"")), ..connect(VERSIONS[version]) });
        let mut is_over = false;
        for (first, body) in &packets {
            let result = dialogue.handle(*first, body, &LIMITS);
            prop_assert!(!is_over || result.is_err());
            is_over |= matches!(result, Err(_) | Ok(Command::Disconnect(_)));
        }
        let mut out = Vec::new();
        dialogue.put_disconnect(&mut out, ReasonCode::SERVER_BUSY, None, None);
        let said = out.len();
        dialogue.put_fault(&mut out, Fault::new(ReasonCode::PROTOCOL_ERROR, "no"));
        prop_assert_eq!(out.len(), said);
    }
}
