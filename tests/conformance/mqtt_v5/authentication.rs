//! AUTH: where nobody authenticates in steps, and where a method is known.

use crate::mqtt_packets::{Packet, Property, V5, Value, auth, connect, id, packet, property, publish, subscribe, text};
use crate::mqtt_peer::{Broker, Client};
use tidewire::surface::shard::Verdict;
use tidewire::surface::wire::mqtt::ReasonCode;

#[test]
fn a_method_that_is_not_known_is_refused() {
    let mut broker = Broker::new();
    let (client, packets) = broker.connect(&connect(V5, "a").with(text(id::AUTHENTICATION_METHOD, "dance")));
    assert!(matches!(packets[..], [Packet::Connack { code: 0x8c | 0x87, .. }]), "{packets:?}");
    assert!(broker.is_ended(client));
}

#[test]
fn auth_without_a_method_in_connect_closes() {
    for code in [0, 0x18, 0x19] {
        let mut broker = Broker::new();
        let client = broker.join(&connect(V5, "a"));
        broker.give(client, &auth(code, &[text(id::AUTHENTICATION_METHOD, "dance")]));
        broker.assert_ended(client, &[0x82, 0x8c], "AUTH");
    }
}

#[test]
fn auth_of_the_wrong_form_closes() {
    for bytes in [packet(0xf1, &[0x18, 0]), packet(0xf0, &[0x42, 0]), packet(0xf0, &[0x18, 1, 1])] {
        let mut broker = Broker::new();
        let client = broker.join(&connect(V5, "a"));
        broker.give(client, &bytes);
        broker.assert_ended(client, &[0x81, 0x82], &format!("{bytes:02x?}"));
    }
}

#[test]
fn auth_before_connect_closes() {
    let mut broker = Broker::new();
    let client = broker.open(V5);
    broker.give(client, &[auth(0x18, &[]), publish("t", "1").bytes(V5)].concat());
    broker.assert_not_connected(client, "no CONNECT");
}

/// Asks for a number twice: the client has to answer with the next one.
fn count(broker: &mut Broker) {
    broker.authenticate(Box::new(|method, content| match (method, content) {
        ("count", b"") => Verdict::Continue(b"1".to_vec()),
        ("count", b"2") => Verdict::Continue(b"3".to_vec()),
        ("count", b"4") => Verdict::Accept(b"right".to_vec()),
        ("count", _) => Verdict::Refuse(ReasonCode::NOT_AUTHORIZED),
        _ => Verdict::Unknown,
    }));
}

fn counted(code: u8, content: &str) -> Vec<u8> {
    let content = (id::AUTHENTICATION_DATA, Value::Binary(content.as_bytes().to_vec()));
    auth(code, &[text(id::AUTHENTICATION_METHOD, "count"), content])
}

fn check_auth(packets: &[Packet], code: u8, content: &str) {
    let [Packet::Auth { code: found, properties }] = packets else { panic!("{packets:?}") };
    assert_eq!(*found, code);
    assert_eq!(property(properties, id::AUTHENTICATION_METHOD), Some(&Value::Text("count".into())));
    assert_eq!(property(properties, id::AUTHENTICATION_DATA), Some(&Value::Binary(content.as_bytes().to_vec())));
}

#[test]
fn a_client_authenticates_itself_in_steps_and_again_later() {
    let mut broker = Broker::new();
    count(&mut broker);
    let (client, packets) = broker.connect(&connect(V5, "a").with(text(id::AUTHENTICATION_METHOD, "count")));
    check_auth(&packets, 0x18, "1");
    check_auth(&broker.ask(client, &counted(0x18, "2")), 0x18, "3");
    let packets = broker.ask(client, &counted(0x18, "4"));
    let [Packet::Connack { code: 0, properties, .. }] = &packets[..] else { panic!("{packets:?}") };
    assert_eq!(property(properties, id::AUTHENTICATION_DATA), Some(&Value::Binary(b"right".to_vec())));
    assert_eq!(property(properties, id::AUTHENTICATION_METHOD), Some(&Value::Text("count".into())));
    check_auth(&broker.ask(client, &counted(0x19, "4")), 0, "right");
    let again = broker.subscribe(client, "t", 0);
    assert!(again.is_empty(), "the session goes on");
}

#[test]
fn a_wrong_step_is_refused_before_and_after_connack() {
    let mut broker = Broker::new();
    count(&mut broker);
    let (client, _) = broker.connect(&connect(V5, "a").with(text(id::AUTHENTICATION_METHOD, "count")));
    let packets = broker.ask(client, &counted(0x18, "9"));
    assert!(matches!(packets[..], [Packet::Connack { code: 0x87, .. }]), "{packets:?}");
    assert!(broker.is_ended(client));
    let (client, _) = broker.connect(&connect(V5, "a").with(text(id::AUTHENTICATION_METHOD, "count")));
    broker.ask(client, &counted(0x18, "2"));
    broker.ask(client, &counted(0x18, "4"));
    broker.give(client, &counted(0x19, "9"));
    broker.assert_ended(client, &[0x87], "a wrong answer");
}

#[test]
fn the_method_stays_that_of_connect() {
    let mut broker = Broker::new();
    count(&mut broker);
    let (client, _) = broker.connect(&connect(V5, "a").with(text(id::AUTHENTICATION_METHOD, "count")));
    let packets = broker.ask(client, &auth(0x18, &[text(id::AUTHENTICATION_METHOD, "other")]));
    assert!(matches!(packets[..], [Packet::Connack { code: 0x82 | 0x8c, .. }]), "{packets:?}");
    assert!(broker.is_ended(client));
}

#[test]
fn what_comes_while_a_step_is_judged_waits_and_is_not_lost() {
    let mut broker = Broker::new();
    broker.judge_later();
    let client = broker.open(V5);
    let connect = connect(V5, "a").with(text(id::AUTHENTICATION_METHOD, "count")).bytes();
    let bytes = [connect, subscribe(V5, 1, &[], &[("t", 0)]), publish("t", "1").bytes(V5)].concat();
    // In two pieces, of which the first ends within a packet.
    let (first, second) = bytes.split_at(bytes.len() - 3);
    broker.give(client, first);
    broker.give(client, second);
    assert_eq!(broker.take(client), [], "nothing is said before the verdict");
    assert!(broker.is_waiting(client));
    broker.judge(&Verdict::Accept(Vec::new()));
    let packets = broker.take(client);
    assert!(!broker.is_waiting(client));
    assert!(matches!(packets[..], [Packet::Connack { code: 0, .. }, Packet::Suback { .. }, Packet::Publish { .. }]), "{packets:?}");
}

#[test]
fn a_step_that_is_never_judged_does_not_hold_its_connection() {
    let mut broker = Broker::new();
    broker.judge_later();
    let client = broker.open(V5);
    broker.give(client, &connect(V5, "a").with(text(id::AUTHENTICATION_METHOD, "count")).bytes());
    broker.advance(60_000);
    broker.advance(60_000);
    assert!(broker.is_ended(client));
    broker.judge(&Verdict::Accept(Vec::new()));
}

const ROLES: &str = r#"
set "ann" default path permissions [SELECT_TOPIC, READ_TOPIC, UPDATE_TOPIC, MODIFY_TOPIC]
set "bob" path "b" permissions [SELECT_TOPIC, READ_TOPIC]
"#;

/// What one of the methods of one step shows.
fn shows(method: &str, content: &str) -> [Property; 2] {
    [text(id::AUTHENTICATION_METHOD, method), (id::AUTHENTICATION_DATA, Value::Binary(content.as_bytes().to_vec()))]
}

fn again(method: &str, content: &str) -> Vec<u8> {
    auth(0x19, &shows(method, content))
}

fn connect_by(broker: &mut Broker, client_id: &str, method: &str, content: &str) -> (Client, Vec<Packet>) {
    let [method, content] = shows(method, content);
    broker.connect(&connect(V5, client_id).with(method).with(content))
}

#[test]
fn a_client_shows_a_password_or_a_token_by_a_method() {
    for (method, content) in [("PLAIN", "\0ann\0pw"), ("PLAIN", "ann\0ann\0p\0w"), ("OAUTH2-JWT", "ann")] {
        let mut broker = Broker::with_roles(ROLES);
        let (client, packets) = connect_by(&mut broker, "c", method, content);
        let [Packet::Connack { code: 0, properties, .. }] = &packets[..] else { panic!("{method} {content:?}: {packets:?}") };
        assert_eq!(property(properties, id::AUTHENTICATION_METHOD), Some(&Value::Text(method.into())));
        assert_eq!(broker.subscribe(client, "a/#", 0), [], "ann may");
    }
}

#[test]
fn what_a_method_shows_may_be_wrong() {
    for (method, content) in [("PLAIN", "\0ann\0wrong"), ("OAUTH2-JWT", "wrong")] {
        let mut broker = Broker::with_roles(ROLES);
        let (client, packets) = connect_by(&mut broker, "c", method, content);
        assert!(matches!(packets[..], [Packet::Connack { code: 0x86, .. }]), "{method}: {packets:?}");
        assert!(broker.is_ended(client));
    }
    // What is no name with a password is anonymous here, and may nothing.
    for content in ["", "ann", "ann\0pw", "eve\0ann\0pw", "\0\0pw"] {
        let mut broker = Broker::with_roles(ROLES);
        let (client, _) = connect_by(&mut broker, "c", "PLAIN", content);
        let packets = broker.ask(client, &subscribe(V5, 1, &[], &[("b/1", 0)]));
        assert!(matches!(&packets[..], [Packet::Suback { codes, .. }] if codes == &[0x87]), "{content:?}: {packets:?}");
    }
}

#[test]
fn a_client_shows_anew_who_it_is_and_what_it_may_changes_at_once() {
    let mut broker = Broker::with_roles(ROLES);
    let (client, _) = connect_by(&mut broker, "c", "OAUTH2-JWT", "ann");
    broker.subscribe(client, "a/#", 0);
    broker.subscribe(client, "b/#", 0);
    let (other, _) = connect_by(&mut broker, "d", "OAUTH2-JWT", "ann");
    let packets = broker.ask(client, &again("OAUTH2-JWT", "bob"));
    let [Packet::Auth { code: 0, properties }] = &packets[..] else { panic!("{packets:?}") };
    assert_eq!(property(properties, id::AUTHENTICATION_METHOD), Some(&Value::Text("OAUTH2-JWT".into())));
    for (topic, count) in [("a/1", 0), ("b/1", 1)] {
        broker.give(other, &publish(topic, "1").bytes(V5));
        let heard = broker.take(client);
        assert_eq!(heard.len(), count, "{topic}: {heard:?}");
    }
}

#[test]
fn a_client_that_cannot_show_it_anew_is_closed() {
    let mut broker = Broker::with_roles(ROLES);
    let (client, _) = connect_by(&mut broker, "c", "PLAIN", "\0ann\0pw");
    broker.give(client, &again("PLAIN", "\0ann\0wrong"));
    broker.assert_ended(client, &[0x87], "a wrong password");
}

#[test]
fn where_nobody_is_asked_the_methods_of_one_step_are_taken() {
    let mut broker = Broker::new();
    let (client, packets) = connect_by(&mut broker, "c", "PLAIN", "\0ann\0wrong");
    assert!(matches!(packets[..], [Packet::Connack { code: 0, .. }]), "{packets:?}");
    let packets = broker.ask(client, &again("PLAIN", "\0ann\0wrong"));
    assert!(matches!(packets[..], [Packet::Auth { code: 0, .. }]), "{packets:?}");
}
