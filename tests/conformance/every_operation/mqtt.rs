//! The packets of clients of MQTT 3.1.1 and 5.

use super::Verdict::{Harmless, Refused};
use super::{MARK, Verdict, assert_unmarked};
use crate::mqtt_packets::Value::{Binary, Byte, Two};
use crate::mqtt_packets::{
    PINGREQ, PUBACK, PUBCOMP, PUBREC, PUBREL, Packet, Publish, V5, V311, acknowledge, auth, connect, disconnect, id, parse_all, persistent,
    publish, subscribe, text, unsubscribe,
};
use crate::mqtt_peer::{Broker, Client};
use serde_json::json;
use std::collections::BTreeSet;
use tidewire::surface::wire::mqtt::{self, PacketLimits, Version};

const SCRIPT: &str = r#"
set "admin" default path permissions [SELECT_TOPIC, READ_TOPIC, UPDATE_TOPIC, MODIFY_TOPIC, SEND_TO_MESSAGE_HANDLER]
set "admin" permissions [VIEW_SESSION, MODIFY_SESSION, REGISTER_HANDLER, VIEW_SECURITY, MODIFY_SECURITY, VIEW_SERVER]
set "former" includes ["admin"]
"#;

const NOT_AUTHORIZED: u8 = 0x87;
const FAILURE: u8 = 0x80;

/// The number of a kind of packets, and what becomes of it. A kind that is new to [`mqtt::Packet`] has to be put here.
fn verdict(packet: &mqtt::Packet<'_>) -> (usize, Verdict) {
    match packet {
        mqtt::Packet::Connect(_) => {
            (0, Harmless("who is let in has a session; its will is a message of its own, which is refused when it comes"))
        }
        mqtt::Packet::Publish(_) => (1, Refused),
        mqtt::Packet::Acknowledgement(_) => (2, Harmless("without a message it acknowledges none")),
        mqtt::Packet::Subscribe(_) => (3, Refused),
        mqtt::Packet::Unsubscribe(_) => (4, Harmless("nobody needs leave to have less")),
        mqtt::Packet::Pingreq => (5, Harmless("it is about the connection itself")),
        mqtt::Packet::Disconnect(_) => (6, Harmless("it is about the connection itself")),
        mqtt::Packet::Auth(_) => (7, Harmless("it is about the connection itself")),
    }
}

fn kinds(version: u8) -> usize {
    if version == V5 { 8 } else { 7 }
}

/// The verdict of a packet's bytes.
fn verdict_of(version: u8, bytes: &[u8]) -> (usize, Verdict) {
    let limits = PacketLimits { packet_bytes_max: 1000, user_properties_max: 4 };
    let head = mqtt::parse_head(bytes, 1000).expect("a head").expect("a whole one");
    let version = if version == V5 { Version::V5 } else { Version::V311 };
    verdict(&mqtt::decode(version, head.first, &bytes[head.head_len..], &limits).expect("a packet"))
}

/// Filters that mean something that there is, or that there could be.
const FILTERS: [&str; 14] = [
    "a/b",
    "s3cr3t/x",
    "none",
    "#",
    "+/b",
    "a/+",
    "s3cr3t/#",
    "$share/g/#",
    "$share/g/a/b",
    "$share/g/s3cr3t/+",
    "$SYS/#",
    "$SYS/broker/uptime",
    "/#",
    "a/b/#",
];

fn messages(version: u8) -> Vec<Publish> {
    let mut messages = Vec::new();
    for topic in ["a/b", "a/new", "b/c", "orders/eu/7", "$SYS/broker/connection/bridge/state"] {
        for payload in ["x", ""] {
            for qos in 0..3 {
                let message = publish(topic, payload).qos(qos, if qos == 0 { 0 } else { 9 });
                messages.extend([message.clone(), message.clone().retained()]);
                if version == V5 {
                    let request = message.with(text(id::RESPONSE_TOPIC, "a/b"));
                    messages.push(request.clone().with((id::CORRELATION_DATA, Binary(vec![1]))));
                    messages.push(request.with((id::ALIAS, Two(1))).with((id::PAYLOAD_FORMAT, Byte(1))));
                }
            }
        }
    }
    messages
}

fn examples(version: u8) -> Vec<Vec<u8>> {
    let mut examples = vec![connect(version, "walker").bytes(), PINGREQ.to_vec(), unsubscribe(version, 3, &["a/b", "#", "$share/g/#"])];
    for options in (0..3).chain(if version == V5 { vec![0x04, 0x08, 0x11, 0x22, 0x2e] } else { Vec::new() }) {
        let fits = |filter: &&&str| options & 0x04 == 0 || !filter.starts_with("$share");
        examples.extend(FILTERS.iter().filter(fits).map(|filter| subscribe(version, 3, &[], &[(filter, options)])));
    }
    let all: Vec<(&str, u8)> = FILTERS.iter().map(|filter| (*filter, 1)).collect();
    examples.push(subscribe(version, 3, &[], &all));
    examples.extend(messages(version).iter().map(|message| message.bytes(version)));
    examples.extend([PUBACK, PUBREC, PUBREL, PUBCOMP].map(|kind| acknowledge(kind, 9)));
    examples.push(if version == V5 { disconnect(4, &[]) } else { vec![0xe0, 0] });
    if version == V5 {
        examples.push(auth(0x19, &[text(id::AUTHENTICATION_METHOD, "dance")]));
    }
    examples
}

/// A broker, and those who may do everything.
struct Stage {
    broker: Broker,
    native: Client,
    watcher: Client,
    publisher: Client,
    version: u8,
}

impl Stage {
    fn of(version: u8) -> Self {
        let mut broker = Broker::with_roles(SCRIPT);
        let native = broker.join_native_as("admin");
        let watcher = Self::join(&mut broker, version, "watcher", "admin");
        let publisher = Self::join(&mut broker, version, "publisher", "admin");
        Self { broker, native, watcher, publisher, version }
    }

    fn join(broker: &mut Broker, version: u8, client_id: &str, principal: &str) -> Client {
        let mut connect = connect(version, client_id);
        connect.user_name = Some(principal.into());
        broker.join(&connect)
    }

    fn seed(&mut self) {
        for path in ["a/b", "b/c", "s3cr3t/x", "s3cr3t/y"] {
            self.order(json!({ "op": "add_and_set", "path": path, "type": "json", "value": { "x": MARK } }));
        }
        self.order(json!({ "op": "handle_requests", "handler": 1, "path": "orders/eu", "session_properties": ["$Principal"] }));
        let (watcher, publisher) = (self.watcher, self.publisher);
        for topic in ["s3cr3t/retained", "a/retained"] {
            self.broker.publish(publisher, &publish(topic, MARK).retained());
        }
        for filter in ["#", "$SYS/#", "$share/g/s3cr3t/#"] {
            self.broker.ask(watcher, &subscribe(self.version, 1, &[], &[(filter, 2)]));
        }
        self.broker.advance(5000);
        self.take_others();
    }

    fn order(&mut self, message: serde_json::Value) {
        self.broker.ask_native(self.native, message);
    }

    /// Whether anybody but the walkers was told something.
    fn take_others(&mut self) -> (Vec<Packet>, Vec<serde_json::Value>) {
        (self.broker.take(self.watcher), self.broker.take_native(self.native))
    }

    fn stir(&mut self) {
        for path in ["a/b", "s3cr3t/x"] {
            self.order(json!({ "op": "set", "path": path, "type": "json", "value": { "x": "s3cr3t, again" } }));
        }
        self.order(json!({ "op": "add_and_set", "path": "none", "type": "json", "value": MARK }));
        self.order(json!({ "op": "subscribe_sessions", "filter": "not $Principal is 'admin'", "selector": "?.*//" }));
        let publisher = self.publisher;
        for qos in 0..3 {
            for topic in ["a/retained", "s3cr3t/x", "a/b/passing"] {
                let message = publish(topic, "\"s3cr3t\"").qos(qos, if qos == 0 { 0 } else { 5 });
                self.broker.publish(publisher, &message);
                self.broker.publish(publisher, &message.retained());
            }
        }
        self.broker.advance(5000);
    }

    fn look(&mut self) -> serde_json::Value {
        self.broker.ask_native(self.native, json!({ "op": "fetch", "selector": "?.*//", "values": true, "with_properties": true }))
    }
}

/// What answers a packet that is refused; a message that has no answer, as all of 3.1.1, ends the connection.
fn assert_refused(version: u8, example: &[u8], packets: &[Packet], is_ended: bool) {
    let about = String::from_utf8_lossy(example);
    let has_answer = example[0] >> 4 == 8 || version == V5 && example[0] & 6 != 0;
    assert_eq!(is_ended, !has_answer, "{about}: {packets:?}");
    let (qos, kind) = (example[0] >> 1 & 3, example[0] >> 4);
    let code = if version == V5 { NOT_AUTHORIZED } else { FAILURE };
    match (kind, qos, packets) {
        (8, _, [Packet::Suback { codes, .. }]) => assert!(codes.iter().all(|found| *found == code), "{codes:02x?} to {example:02x?}"),
        (3, 0, [Packet::Disconnect { code: NOT_AUTHORIZED, .. }]) if version == V5 => {}
        (3, _, []) if version == V311 => {}
        (3, 1 | 2, [Packet::Acknowledged { kind, code, .. }]) => {
            assert_eq!((*kind, *code), (if qos == 1 { PUBACK } else { PUBREC }, NOT_AUTHORIZED));
        }
        other => panic!("{other:?} to {about}"),
    }
}

#[test]
fn without_a_role_every_packet_is_refused_or_harmless_and_tells_nothing() {
    for version in [V311, V5] {
        let (mut full, mut empty) = (Stage::of(version), Stage::of(version));
        full.seed();
        let before = full.look();
        let mut shown = BTreeSet::new();
        let mut walkers = Vec::new();
        for (number, example) in examples(version).iter().enumerate() {
            let [(walker, answer), (of_empty, answer_of_empty)] = [&mut full, &mut empty].map(|stage| {
                let walker = Stage::join(&mut stage.broker, version, &format!("w{number}"), "nobody");
                stage.broker.give(walker, example);
                (walker, stage.broker.take_bytes(walker))
            });
            let about = String::from_utf8_lossy(example).into_owned();
            assert_eq!(answer, answer_of_empty, "{about}: where there is nothing");
            assert_unmarked(&answer, &about);
            let (kind, verdict) = verdict_of(version, example);
            shown.insert(kind);
            if verdict == Refused {
                assert_refused(version, example, &parse_all(version, &answer), full.broker.is_ended(walker));
            }
            assert_eq!(full.take_others(), (vec![], vec![]), "{about}");
            walkers.push((walker, of_empty, about));
        }
        assert_eq!(shown.len(), kinds(version), "each kind has an example");
        assert_eq!(full.look(), before);
        full.stir();
        empty.broker.advance(5000);
        for (walker, of_empty, about) in walkers {
            assert_eq!(full.broker.take_bytes(walker), empty.broker.take_bytes(of_empty), "{about}: where nothing happens");
        }
    }
}

#[test]
fn without_a_role_no_will_is_published() {
    for version in [V311, V5] {
        let mut stage = Stage::of(version);
        stage.seed();
        let before = stage.look();
        for (number, will) in
            messages(version).into_iter().filter(|will| will.properties.iter().all(|(of, _)| *of != id::ALIAS)).enumerate()
        {
            let mut connect = connect(version, &format!("w{number}")).will(Publish { id: 0, ..will });
            connect.user_name = Some("nobody".into());
            let (client, _) = stage.broker.connect(&connect);
            stage.broker.lose(client);
            stage.broker.advance(1);
            let (told, of_native) = stage.take_others();
            assert!(told.is_empty() && of_native.is_empty(), "{connect:?}: {told:?} {of_native:?}");
        }
        assert_eq!(stage.look(), before);
        assert!(!stage.broker.without_will().is_empty(), "the operator is told");
    }
}

#[test]
fn who_has_lost_its_role_is_refused_the_same_and_told_nothing_more() {
    for version in [V311, V5] {
        let mut stage = Stage::of(version);
        stage.seed();
        let mut former = connect(version, "former").will(publish("a/b", "gone").retained());
        former.user_name = Some("former".into());
        let former = stage.broker.join(&former);
        let mut away = persistent(version, "away");
        away.user_name = Some("former".into());
        let absent = stage.broker.join(&away);
        for client in [former, absent] {
            for filter in FILTERS {
                let told = stage.broker.ask(client, &subscribe(version, 3, &[], &[(filter, 1)]));
                for packet in told {
                    if let Packet::Publish(Publish { qos: 1, id, .. }) = packet {
                        stage.broker.give(client, &acknowledge(PUBACK, id));
                    }
                }
            }
        }
        stage.broker.lose(absent);
        stage.order(json!({ "op": "apply_security", "script": "set \"former\" includes []" }));
        stage.broker.take_bytes(former);
        stage.stir();
        assert_unmarked(&stage.broker.take_bytes(former), "a connected client");
        let (mut back, packets) = stage.broker.connect(&away);
        assert!(matches!(packets[..], [Packet::Connack { session_present: true, code: 0, .. }]), "{packets:?}");
        stage.stir();
        assert_unmarked(&stage.broker.take_bytes(back), "a client that comes back");
        let before = stage.look();
        stage.take_others();
        for example in examples(version).iter().filter(|example| verdict_of(version, example).1 == Refused) {
            let answer = stage.broker.ask(back, example);
            assert_refused(version, example, &answer, stage.broker.is_ended(back));
            if stage.broker.is_ended(back) {
                back = stage.broker.resume(&away).0;
            }
        }
        stage.broker.lose(former);
        stage.broker.advance(1);
        assert_eq!(stage.take_others(), (vec![], vec![]), "neither messages nor a will");
        assert_eq!(stage.look(), before);
    }
}
