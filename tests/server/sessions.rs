//! Sessions that look at others, and steer them.

use crate::client::{Refused, Seen, Session, connect_ask};
use crate::server::Server;
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::{Ask, Outcome, Request, SessionEntry, decode_sessions};
use tidewire::surface::wire::varint::Reader;

const CLOSED_BY_CONTROL: u16 = 4106;

/// A session that says so of itself.
fn connect(server: &Server, properties: &[(&'static str, &'static str)]) -> Session {
    let mut ask = connect_ask(60_000, "", 0);
    let Ask::Connect { properties: said, .. } = &mut ask else { unreachable!() };
    *said = properties.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    Session::open(server.address, ask)
}

fn list(asker: &mut Session, filter: &str, after: &str, first: u64, slowest: bool) -> (bool, Vec<SessionEntry>) {
    let (filter, after) = (filter.to_owned().into(), after.to_owned().into());
    let body = asker.ask(|id| Request { id, ask: Ask::ListSessions { filter, after, first, slowest } }).unwrap();
    match decode_sessions(&mut Reader(&body)).unwrap() {
        Outcome::Sessions { has_more, sessions } => (has_more, sessions),
        other => panic!("{other:?}"),
    }
}

fn property<'e>(entry: &'e SessionEntry, wanted: &str) -> Option<&'e str> {
    entry.properties.iter().find(|(key, _)| **key == *wanted).map(|(_, value)| &**value)
}

/// How many sessions were met.
fn count(answer: Result<Vec<u8>, Refused>) -> u64 {
    Reader(&answer.unwrap()).varint().unwrap()
}

fn set_properties(asker: &mut Session, filter: &'static str, key: &'static str, value: &'static str) -> u64 {
    let properties = vec![(key.into(), value.into())];
    count(asker.ask(|id| Request { id, ask: Ask::SetSessionProperties { session: "".into(), filter: filter.into(), properties } }))
}

#[test]
fn sessions_are_found_by_what_is_said_of_them() {
    let server = Server::start(2);
    let gold: Vec<Session> = (0..3).map(|_| connect(&server, &[("Tier", "gold")])).collect();
    let _silver = connect(&server, &[("Tier", "silver"), ("Desk", "7")]);
    let mut asker = server.connect();
    let (has_more, listed) = list(&mut asker, "Tier is \"gold\"", "", 0, false);
    let mut ids: Vec<&str> = listed.iter().map(|entry| &*entry.session).collect();
    ids.sort_unstable();
    let mut expected: Vec<&str> = gold.iter().map(|session| &*session.id).collect();
    expected.sort_unstable();
    assert_eq!((has_more, ids), (false, expected));
    assert_eq!(set_properties(&mut asker, "Tier is \"gold\" or has Desk", "Desk", ""), 4);
    assert_eq!(list(&mut asker, "has Desk", "", 0, false).1.len(), 0);
    assert_eq!(set_properties(&mut asker, "all", "Region", "EU"), 5);
    let (_, listed) = list(&mut asker, "", "", 0, false);
    assert!(listed.iter().all(|entry| property(entry, "Region") == Some("EU") && property(entry, "$Transport") == Some("WEBSOCKET")));
    // By pages, each session once.
    let mut seen = Vec::new();
    loop {
        let (has_more, page) = list(&mut asker, "all", seen.last().map_or("", String::as_str), 2, false);
        seen.extend(page.into_iter().map(|entry| entry.session));
        if !has_more {
            break;
        }
    }
    assert_eq!(seen.len(), 5);
}

#[test]
fn the_slow_client_has_a_name() {
    let server = Server::start(2);
    let (mut writer, mut asker) = (server.connect(), server.connect());
    let mut readers: Vec<Session> = (0..4).map(|_| server.connect()).collect();
    readers.iter_mut().for_each(|reader| reader.subscribe("a").unwrap());
    let slow = readers[2].id.clone();
    let mut number = 0_u32;
    loop {
        number += 1;
        let value: Vec<u8> = (0..100_000_u32).map(|at| (at.wrapping_mul(2_654_435_761).wrapping_add(number * 977) >> 13) as u8).collect();
        writer.add_and_set("a", ValueType::Binary, &value).unwrap();
        for reader in [0, 1, 3] {
            readers[reader].wait_for_value("a", &value);
        }
        let (_, listed) = list(&mut asker, "", "", 1, true);
        if listed[0].session == slow && listed[0].queue_bytes > 0 && listed[0].conflations > 0 {
            break;
        }
    }
    let conflate = |session: &str, conflated| Ask::ConflateSessions { session: session.to_owned().into(), filter: "".into(), conflated };
    let before = list(&mut asker, "", "", 1, true).1[0].queue_bytes;
    assert_eq!(count(asker.ask(|id| Request { id, ask: conflate(&slow, true) })), 1);
    assert!(list(&mut asker, "", "", 1, true).1[0].queue_bytes <= before);
}

#[test]
fn sessions_are_closed_by_id_and_by_filter() {
    let server = Server::start(2);
    let mut asker = server.connect();
    let mut named = connect(&server, &[]);
    let close = |session: &str, filter: &str| Ask::CloseSessions {
        session: session.to_owned().into(),
        filter: filter.to_owned().into(),
        message: "maintenance".into(),
    };
    assert_eq!(count(asker.ask(|id| Request { id, ask: close(&named.id, "") })), 1);
    assert_eq!(named.wait_for_close(), CLOSED_BY_CONTROL);
    let _ = named.reconnect(server.address);
    assert!(matches!(named.next(), Seen::Error { code: 107, .. }), "it does not come back");
    // One that is away ends too.
    let mut many: Vec<Session> = (0..4).map(|_| connect(&server, &[("Tier", "old")])).collect();
    drop(many.pop());
    while server.count("sessions_away") == 0 {}
    assert_eq!(count(asker.ask(|id| Request { id, ask: close("", "Tier is \"old\"") })), 4);
    many.iter_mut().for_each(|session| assert_eq!(session.wait_for_close(), CLOSED_BY_CONTROL));
    while server.count("sessions") > 1 {}
    for (session, filter) in [("", ""), ("x", "all")] {
        assert_eq!(asker.ask(|id| Request { id, ask: close(session, filter) }).unwrap_err().code, 106);
    }
    assert_eq!(asker.ask(|id| Request { id, ask: close("nobody", "") }).unwrap_err().code, 317);
}

#[test]
fn others_select_for_a_session() {
    let server = Server::start(2);
    let (mut writer, mut asker) = (server.connect(), server.connect());
    let mut reader = connect(&server, &[("Tier", "gold")]);
    writer.add_and_set("x/a", ValueType::Json, b"1").unwrap();
    let selected = |adds: bool| {
        let (session, filter, selector, scope) = ("".into(), "Tier is 'gold'".into(), "?x//".into(), "ops".into());
        match adds {
            true => Ask::SubscribeSessions { session, filter, selector, scope },
            false => Ask::UnsubscribeSessions { session, filter, selector, scope },
        }
    };
    assert_eq!(count(asker.ask(|id| Request { id, ask: selected(true) })), 1);
    reader.wait_for_value("x/a", b"1");
    assert_eq!(count(asker.ask(|id| Request { id, ask: selected(false) })), 1);
    assert_eq!(reader.next(), Seen::Unsubscribed("x/a".into(), 1));
    assert_eq!(reader.settle(), [], "it is told of no answer");
}

#[test]
fn properties_have_rules() {
    let server = Server::start(1);
    let mut asker = server.connect();
    for key in ["$Principal", "1", "a b", ""] {
        let properties = vec![(key.into(), "1".into())];
        let ask = |id| Request { id, ask: Ask::SetSessionProperties { session: "".into(), filter: "all".into(), properties } };
        assert_eq!(asker.ask(ask).unwrap_err().code, 319, "{key}");
    }
}
