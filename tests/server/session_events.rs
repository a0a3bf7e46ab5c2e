//! Sessions that are told of others: of their lives, their queues, and what they are subscribed to.

use crate::client::{Refused, Seen, SeenState, Session, connect_ask};
use crate::server::{PATIENCE, Server};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use tidewire::surface::topic::specification::TopicType;
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::{Ask, Outcome, Request, decode_presence};
use tidewire::surface::wire::varint::Reader;

const PRESENT: u8 = 1;
const OPENED: u8 = 2;
const MATCHED: u8 = 3;
const CHANGED: u8 = 4;
const UNMATCHED: u8 = 5;
const AWAY: u8 = 6;
const BACK: u8 = 7;

const BY_CLIENT: u8 = 1;
const LOST: u8 = 2;
const EXPIRED: u8 = 3;
const BY_CONTROL: u8 = 4;

const FILTER: &str = "Tier is 'gold'";

/// A session that says so of itself, and stays so long without a connection.
fn connect(server: &Server, tier: &'static str, resume_ms: u64) -> Session {
    let mut ask = connect_ask(resume_ms, "", 0);
    let Ask::Connect { properties, .. } = &mut ask else { unreachable!() };
    *properties = vec![("Tier".into(), tier.into())];
    Session::open(server.address, ask)
}

fn listen(asker: &mut Session, filter: &'static str) -> Result<Vec<u8>, Refused> {
    let session_properties = vec!["Tier".into()];
    asker.ask(|id| Request { id, ask: Ask::ListenSessions { listener: 1, filter: filter.into(), session_properties } })
}

fn set_tier(asker: &mut Session, session: &str, tier: &'static str) {
    let (session, properties) = (session.to_owned().into(), vec![("Tier".into(), tier.into())]);
    asker.ask(|id| Request { id, ask: Ask::SetSessionProperties { session, filter: "".into(), properties } }).unwrap();
}

/// What comes next, as its kind, the session and its tier.
fn next(asker: &mut Session) -> (u8, String, String) {
    match asker.next() {
        Seen::SessionNotice { listener: 1, what, state: SeenState { session, is_away, properties } } => {
            assert_eq!(is_away, what == AWAY, "{what}");
            (what, session, properties.into_iter().map(|(_, value)| value).collect())
        }
        other => panic!("{other:?}"),
    }
}

fn told(what: u8, session: &str, tier: &str) -> (u8, String, String) {
    (what, session.to_owned(), tier.to_owned())
}

/// A client comes back from elsewhere: who listens learns what is true from then on, and its paths mean what they mean there.
#[test]
fn a_session_that_goes_on_in_another_environment_is_told_of_and_mapped_anew() {
    let server = Server::start(2);
    let mut asker = server.connect();
    asker.add_and_set("here/x", ValueType::Json, b"1").unwrap();
    asker.add_and_set("there/x", ValueType::Json, b"2").unwrap();
    let mappings = vec![("$Environment is 'phone'".into(), "there".into())];
    asker.ask(|id| Request { id, ask: Ask::PutSessionTree { branch: "here".into(), mappings } }).unwrap();
    let mut ask = connect_ask(60_000, "", 0);
    let Ask::Connect { about, .. } = &mut ask else { unreachable!() };
    about.environment = "phone".into();
    let mut one = Session::open(server.address, ask);
    one.subscribe("here/x").unwrap();
    one.wait_for_value("here/x", b"2");
    listen(&mut asker, "$Environment is 'phone'").unwrap();
    assert_eq!(next(&mut asker), told(PRESENT, &one.id, ""));
    // It says nothing of its environment now.
    drop(one.resume(server.address));
    loop {
        match next(&mut asker) {
            (AWAY | BACK, ..) => {}
            notice => break assert_eq!(notice, told(UNMATCHED, &one.id, "")),
        }
    }
    one.wait_for_value("here/x", b"1");
}

#[test]
fn a_session_is_told_of_from_its_beginning_to_its_end() {
    let server = Server::start(2);
    let first = connect(&server, "gold", 0);
    let _other = connect(&server, "silver", 0);
    let mut asker = server.connect();
    listen(&mut asker, FILTER).unwrap();
    assert_eq!(next(&mut asker), told(PRESENT, &first.id, "gold"));
    let mut one = connect(&server, "gold", 60_000);
    assert_eq!(next(&mut asker), told(OPENED, &one.id, "gold"));
    set_tier(&mut asker, &one.id.clone(), "silver");
    assert_eq!(next(&mut asker), told(UNMATCHED, &one.id, ""));
    set_tier(&mut asker, &one.id.clone(), "gold");
    assert_eq!(next(&mut asker), told(MATCHED, &one.id, "gold"));
    // The connection breaks, and another goes on with the session; that of the one that stays is reset.
    drop(std::mem::replace(&mut one.socket, crate::client::Socket::open(server.address, "tidewire.1")));
    assert_eq!(next(&mut asker), told(AWAY, &one.id, ""));
    drop(one.resume(server.address));
    assert_eq!(next(&mut asker), told(BACK, &one.id, ""));
    one.send(&Request { id: 0, ask: Ask::Close });
    assert_eq!(asker.next(), Seen::SessionClosed(one.id.clone(), BY_CLIENT));
    drop(first.socket);
    assert_eq!(asker.next(), Seen::SessionClosed(first.id, LOST));
    let brief = connect(&server, "gold", 1);
    assert_eq!(next(&mut asker), told(OPENED, &brief.id, "gold"));
    drop(brief.socket);
    assert_eq!(next(&mut asker), told(AWAY, &brief.id, ""));
    assert_eq!(asker.next(), Seen::SessionClosed(brief.id, EXPIRED));
    let last = connect(&server, "gold", 60_000);
    assert_eq!(next(&mut asker), told(OPENED, &last.id, "gold"));
    let session = last.id.clone().into();
    asker.ask(|id| Request { id, ask: Ask::CloseSessions { session, filter: "".into(), message: "".into() } }).unwrap();
    let mut seen = asker.settle();
    while seen.is_empty() {
        seen.push(asker.next());
    }
    assert_eq!(seen, [Seen::SessionClosed(last.id, BY_CONTROL)]);
}

#[test]
fn a_listener_stays_with_its_session_and_is_bounded() {
    let server = Server::start_with(2, &[("LIMITS_SESSION_LISTENERS_MAX", "1")]);
    let mut asker = connect(&server, "silver", 60_000);
    assert_eq!(listen(&mut asker, "Tier is").unwrap_err(), Refused { code: 318, position: Some(7) });
    listen(&mut asker, FILTER).unwrap();
    let queues = |listener| move |id| Request { id, ask: Ask::ListenQueues { listener, filter: "".into() } };
    assert_eq!(asker.ask(queues(2)).unwrap_err(), Refused { code: 301, position: None });
    drop(std::mem::replace(&mut asker.socket, crate::client::Socket::open(server.address, "tidewire.1")));
    let one = connect(&server, "gold", 0);
    let mut control = server.connect();
    // All that is told of a property at once.
    let properties = vec![("Tier".into(), "gold".into()), ("Desk".into(), "7".into())];
    let session = one.id.clone().into();
    control.ask(|id| Request { id, ask: Ask::SetSessionProperties { session, filter: "".into(), properties } }).unwrap();
    drop(asker.resume(server.address));
    assert_eq!(next(&mut asker), told(OPENED, &one.id, "gold"));
    // Another listener of the number takes its place.
    asker.ask(queues(1)).unwrap();
    asker.ask(|id| Request { id, ask: Ask::UnlistenSessions { listener: 1 } }).unwrap();
    let again = asker.ask(|id| Request { id, ask: Ask::UnlistenSessions { listener: 1 } });
    assert_eq!(again.unwrap_err(), Refused { code: 302, position: None });
    listen(&mut asker, "").unwrap();
    let mut present: Vec<(u8, String, String)> = (0..3).map(|_| next(&mut asker)).collect();
    present.sort();
    let mut expected = vec![told(PRESENT, &asker.id, "silver"), told(PRESENT, &one.id, "gold"), told(PRESENT, &control.id, "")];
    expected.sort();
    assert_eq!(present, expected);
    set_tier(&mut control, &one.id.clone(), "silver");
    assert_eq!(next(&mut asker), told(CHANGED, &one.id, "silver"));
}

#[test]
fn a_session_that_does_not_read_is_told_of_until_it_has() {
    let server = Server::start_with(2, &[("SESSION_QUEUE_BYTES_HIGH", "20000")]);
    let mut asker = server.connect();
    asker.ask(|id| Request { id, ask: Ask::ListenQueues { listener: 1, filter: FILTER.into() } }).unwrap();
    let mut slow = connect(&server, "gold", 60_000);
    asker.add_with("a", TopicType::Binary, &[("CONFLATION", "off")]).unwrap();
    slow.subscribe("a").unwrap();
    // While it is away nothing of what waits for it goes.
    drop(std::mem::replace(&mut slow.socket, crate::client::Socket::open(server.address, "tidewire.1")));
    let mut seen = Vec::new();
    while seen.is_empty() {
        asker.set("a", ValueType::Binary, &[7; 3000]).unwrap();
        seen = asker.settle();
    }
    assert_eq!(seen, [Seen::QueueNotice(slow.id.clone(), true, false)]);
    drop(slow.resume(server.address));
    slow.settle();
    assert_eq!(asker.next(), Seen::QueueNotice(slow.id.clone(), false, false));
}

/// A client of MQTT 3.1.1 that subscribes to `a/x`.
fn subscribe_by_mqtt(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01m\x82\x08\x00\x01\x00\x03a/x\x00").unwrap();
    let mut answers = [0; 9];
    stream.read_exact(&mut answers).unwrap();
    assert_eq!(answers, *b"\x20\x02\x00\x00\x90\x03\x00\x01\x00");
    stream
}

fn present(asker: &mut Session, after: (&str, &str), once: bool) -> (bool, Vec<(String, String)>) {
    let (after_path, after) = (after.0.to_owned().into(), after.1.to_owned().into());
    let body =
        asker.ask(|id| Request { id, ask: Ask::ListPresence { selector: "?a//".into(), after_path, after, first: 2, once } }).unwrap();
    match decode_presence(&mut Reader(&body)).unwrap() {
        Outcome::Presence { has_more, present } => {
            (has_more, present.into_iter().map(|entry| (entry.path.to_string(), entry.session.to_string())).collect())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_is_subscribed_is_listed_and_told() {
    let server = Server::start_with_mqtt(2, &[]);
    let mut asker = server.connect();
    for topic in ["a/x", "a/y", "b"] {
        asker.add_with(topic, TopicType::Json, &[]).unwrap();
    }
    let (mut one, mut two) = (server.connect(), server.connect());
    one.subscribe("?a//").unwrap();
    two.subscribe("b").unwrap();
    assert_eq!(present(&mut asker, ("", ""), false), (false, vec![("a/x".into(), one.id.clone()), ("a/y".into(), one.id.clone())]));
    asker.ask(|id| Request { id, ask: Ask::ListenPresence { listener: 1, selector: "?a//".into(), once: true } }).unwrap();
    assert_eq!(asker.next(), Seen::Presence { joined: vec![(String::new(), one.id.clone())], left: vec![] });
    let mqtt = subscribe_by_mqtt(server.mqtt.unwrap());
    let Seen::Presence { joined, left } = asker.next() else { panic!("who has joined") };
    let by_mqtt = joined[0].1.clone();
    assert_eq!((joined.len(), left.len()), (1, 0));
    // Each page is behind the last session of the one before.
    let mut paged: Vec<(String, String)> = Vec::new();
    loop {
        let (path, session) = paged.last().cloned().unwrap_or_default();
        let (has_more, page) = present(&mut asker, (&path, &session), false);
        paged.extend(page);
        if !has_more {
            break;
        }
    }
    let mut expected = vec![("a/x".to_owned(), one.id.clone()), ("a/x".into(), by_mqtt.clone()), ("a/y".into(), one.id.clone())];
    paged.sort();
    expected.sort();
    assert_eq!(paged, expected);
    let (_, once) = present(&mut asker, ("", ""), true);
    assert_eq!(once.len(), 2);
    drop(mqtt);
    assert_eq!(asker.next(), Seen::Presence { joined: vec![], left: vec![(String::new(), by_mqtt)] });
    drop(one.socket);
    assert_eq!(asker.next(), Seen::Presence { joined: vec![], left: vec![(String::new(), one.id)] });
    let wrong = asker.ask(|id| Request { id, ask: Ask::ListenPresence { listener: 1, selector: "?a(".into(), once: true } });
    assert!(matches!(wrong, Err(Refused { code: 201, position: Some(_) })));
}

#[test]
fn the_command_prints_who_is_there_and_who_comes() {
    let server = Server::start(2);
    let mut one = server.connect();
    one.add_with("a/x", TopicType::Json, &[]).unwrap();
    one.subscribe("a/x").unwrap();
    let output = server.command(&["presence", "?a//"]);
    let expected = serde_json::json!({ "path": "a/x", "session": one.id, "principal": "" });
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap(), expected);
    let mut command = server.client(&["presence", "?a//", "--once", "--follow", "--json"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut line = |event: &str, session: &str| {
        let expected = serde_json::json!({ "event": event, "path": "", "session": session, "principal": "" });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&lines.next().unwrap().unwrap()).unwrap(), expected);
    };
    line("joined", &one.id);
    let mut two = server.connect();
    two.subscribe("?a//").unwrap();
    line("joined", &two.id);
    two.unsubscribe("?a//").unwrap();
    line("left", &two.id);
    child.kill().unwrap();
    child.wait().unwrap();
}
