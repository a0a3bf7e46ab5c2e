//! Sessions of the native protocol that outlive the server: who they are and what they selected is there again, whatever the number of shards is then.

use crate::client::{Seen, Session, connect_ask};
use crate::server::{Directory, Server};
use std::time::Duration;
use tidewire::surface::topic::specification::TopicType;
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::{Ask, Outcome, Request, decode_sessions};
use tidewire::surface::wire::varint::Reader;

const CANNOT_RESUME: u16 = 107;
/// WELCOME's fields.
const DURABLE: u64 = 14;
const RESTORED: u64 = 15;

fn ask(resume_ms: u64) -> Ask<'static> {
    let mut ask = connect_ask(resume_ms, "", 0);
    let Ask::Connect { properties, durable, .. } = &mut ask else { unreachable!() };
    (*properties, *durable) = (vec![("Tier".into(), "gold".into())], true);
    ask
}

fn start(directory: &Directory, shards: usize) -> Server {
    Server::start_with(shards, &[("STORAGE_DIRECTORY", directory.name())])
}

fn stop(mut server: Server) {
    server.terminate();
    assert_eq!(server.wait(), Some(0));
}

fn set(session: &mut Session, path: &str, value: &str) {
    session.add_and_set(path, ValueType::Json, value.as_bytes()).unwrap();
}

fn subscribe_others(control: &mut Session, session: &str, selector: &'static str) {
    let (session, filter) = (session.to_owned().into(), "".into());
    let subscribe = |id| Request { id, ask: Ask::SubscribeSessions { session, filter, selector: selector.into(), scope: "".into() } };
    control.ask(subscribe).unwrap();
}

/// When the session began, as others see it.
fn start_time(control: &mut Session, session: &str) -> String {
    let filter = format!("$SessionId is '{session}'");
    let body =
        control.ask(|id| Request { id, ask: Ask::ListSessions { filter: filter.into(), after: "".into(), first: 0, slowest: false } });
    let Outcome::Sessions { sessions, .. } = decode_sessions(&mut Reader(&body.unwrap())).unwrap() else { unreachable!() };
    let found = sessions[0].properties.iter().find(|(key, _)| &**key == "$StartTime");
    found.map(|(_, value)| value.to_string()).unwrap()
}

/// Goes on after the server was started anew: counts begin anew.
fn come_back(session: &mut Session, server: &Server) -> Vec<Seen> {
    session.processed = 0;
    drop(session.resume(server.address));
    session.settle()
}

fn refusal(session: &mut Session, server: &Server) -> u16 {
    drop(session.reconnect(server.address));
    loop {
        if let Seen::Error { code, .. } = session.next() {
            return code;
        }
    }
}

fn values(seen: &[Seen]) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    for seen in seen {
        if let Seen::Value(path, value) = seen {
            found.push((&**path, std::str::from_utf8(value).unwrap()));
        }
    }
    found
}

#[test]
fn a_session_survives_a_killed_server_and_another_number_of_shards() {
    let directory = Directory::new("durable-kill");
    let mut server = start(&directory, 3);
    let mut control = server.connect();
    set(&mut control, "a/x", "1");
    set(&mut control, "b/y", "1");
    set(&mut control, "c/z", "1");
    // Some of them on each shard.
    let mut sessions: Vec<Session> = (0..9).map(|_| Session::open(server.address, ask(60_000))).collect();
    for session in &mut sessions {
        assert_eq!((session.limits.get(&DURABLE), session.limits.get(&RESTORED)), (Some(&1), None));
        session.subscribe("?a//").unwrap();
        session.subscribe("c/z").unwrap();
        session.ask(|id| Request { id, ask: Ask::Unsubscribe { selector: "c/z".into(), scope: "".into() } }).unwrap();
        session.settle();
    }
    for session in &sessions {
        subscribe_others(&mut control, &session.id, "b/y");
    }
    // What is stored after it vouches for what was to be stored before.
    set(&mut control, "a/x", "2");
    for (round, shards) in [2, 1, 3].into_iter().enumerate() {
        server.kill();
        server = start(&directory, shards);
        let mut control = server.connect();
        let newest = format!("{}", 3 + round);
        set(&mut control, "a/x", &newest);
        for session in &mut sessions {
            let id = session.id.clone();
            assert_ne!(control.id, id);
            let mut seen = come_back(session, &server);
            // What another shard has to tell may come behind the first pong.
            while !values(&seen).contains(&("b/y", "1")) || !values(&seen).contains(&("a/x", &*newest)) {
                seen.push(session.next());
            }
            assert_eq!((session.limits.get(&DURABLE), session.limits.get(&RESTORED)), (Some(&1), Some(&1)), "{seen:?}");
            assert_eq!(session.id, id);
            let subscribed = seen.iter().filter(|seen| matches!(seen, Seen::Subscribed(..))).count();
            assert_eq!(subscribed, 2, "{seen:?}");
            assert_eq!(values(&seen).into_iter().rfind(|(path, _)| *path == "a/x"), Some(("a/x", &*newest)), "{seen:?}");
            // From now on it goes on as any other.
            drop(session.resume(server.address));
            assert_eq!(session.limits.get(&RESTORED), None);
        }
        let met = |filter: &'static str, control: &mut Session| {
            let ask =
                Ask::SetSessionProperties { session: "".into(), filter: filter.into(), properties: vec![("Tier".into(), "gold".into())] };
            control.ask(|id| Request { id, ask }).unwrap()
        };
        assert_eq!(met("Tier is \"gold\"", &mut control), [9], "properties are kept");
        set(&mut control, "flush", "1");
    }
}

#[test]
fn a_session_survives_a_stop_and_no_other_does() {
    let directory = Directory::new("durable-stop");
    let server = start(&directory, 2);
    let mut kept = Session::open(server.address, ask(60_000));
    kept.subscribe("?a//").unwrap();
    let started = start_time(&mut server.connect(), &kept.id);
    let mut over = Session::connect_resumable(server.address, 60_000);
    assert_eq!(over.limits.get(&DURABLE), None);
    let mut closed = Session::open(server.address, ask(60_000));
    closed.send(&Request { id: 0, ask: Ask::Close });
    closed.wait_for_close();
    let mut late = Session::open(server.address, ask(20));
    stop(server);
    std::thread::sleep(Duration::from_millis(40));
    let server = start(&directory, 2);
    assert_eq!(refusal(&mut over, &server), CANNOT_RESUME);
    assert_eq!(refusal(&mut closed, &server), CANNOT_RESUME);
    assert_eq!(refusal(&mut late, &server), CANNOT_RESUME);
    set(&mut server.connect(), "a/x", "1");
    kept.processed = 0;
    drop(kept.resume(server.address));
    kept.wait_for_value("a/x", b"1");
    assert_eq!(start_time(&mut server.connect(), &kept.id), started);
}

#[test]
fn a_client_that_did_not_hear_of_the_restart_is_told_again() {
    let directory = Directory::new("durable-unheard");
    let mut server = start(&directory, 2);
    let mut session = Session::open(server.address, ask(60_000));
    session.subscribe("?a//").unwrap();
    session.settle();
    set(&mut server.connect(), "a/x", "1");
    session.wait_for_value("a/x", b"1");
    server.kill();
    let server = start(&directory, 2);
    let (token, processed) = (session.token.clone(), session.processed);
    for _ in 0..3 {
        // WELCOME and what follows it is lost with each of these.
        session.processed = 17;
        drop(session.reconnect(server.address));
        set(&mut server.connect(), "a/x", "2");
    }
    session.token.clone_from(&token);
    session.processed = 0;
    drop(session.resume(server.address));
    assert_eq!(session.limits.get(&RESTORED), Some(&1));
    assert_eq!(session.next(), Seen::Subscribed("a/x".into(), TopicType::Json));
    session.wait_for_value("a/x", b"2");
    drop(session.resume(server.address));
    // Whoever knows this start of the server has no use for the token of the one before.
    (session.token, session.processed) = (token, processed);
    assert_eq!(refusal(&mut session, &server), CANNOT_RESUME);
}

#[test]
fn nothing_outlives_a_server_that_stores_nothing() {
    let server = Server::start(1);
    let session = Session::open(server.address, ask(60_000));
    assert_eq!((session.limits.get(&DURABLE), session.limits.contains_key(&11)), (None, true));
    // Nor does what ends with its connection.
    let directory = Directory::new("durable-short");
    let server = start(&directory, 1);
    let session = Session::open(server.address, ask(0));
    assert_eq!((session.limits.get(&DURABLE), session.limits.contains_key(&11)), (None, false));
}
