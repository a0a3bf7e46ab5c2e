//! Requests between clients: who is asked, what comes back, and what happens to those that nobody answers.

use crate::client::{Refused, Seen, SeenRequest, Session};
use crate::server::Server;
use std::collections::BTreeMap;
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::{Ask, Request};

const NO_HANDLER: u16 = 310;
const TIMEOUT: u16 = 311;
const HANDLER_GONE: u16 = 312;
const HANDLER_AWAY: u16 = 313;
const REJECTED: u16 = 315;
const NO_SUCH_REQUEST: u16 = 316;
const NO_SUCH_SESSION: u16 = 317;
const INVALID_FILTER: u16 = 318;
const JSON: u8 = ValueType::Json as u8;

fn handle(session: &mut Session, handler: u64, path: &'static str, properties: &[&'static str]) {
    let session_properties = properties.iter().map(|key| (*key).into()).collect();
    session.ask(|id| Request { id, ask: Ask::HandleRequests { handler, path: path.into(), session_properties } }).unwrap();
}

fn send(session: &mut Session, id: u64, path: &'static str, timeout_ms: u64, value: &'static [u8]) {
    session.send(&Request { id, ask: Ask::Request { path: path.into(), timeout_ms, kind: JSON, value: value.into() } });
}

fn taken(session: &mut Session) -> SeenRequest {
    loop {
        if let Seen::Requested(requested) = session.next() {
            return requested;
        }
    }
}

fn respond(session: &mut Session, request: u64, value: &'static [u8]) {
    session.send(&Request { id: 0, ask: Ask::Respond { request, kind: JSON, value: value.into() } });
}

/// What an answer carries: its type, and 1 + the value's length before the value.
fn response(value: &[u8]) -> Vec<u8> {
    [&[JSON, 1 + value.len() as u8][..], value].concat()
}

fn refused(code: u16) -> Result<Vec<u8>, Refused> {
    Err(Refused { code, position: None })
}

#[test]
fn the_nearest_branch_answers() {
    let server = Server::start(2);
    let (mut wide, mut near, mut asker) = (server.connect(), server.connect(), server.connect());
    handle(&mut wide, 1, "orders", &[]);
    handle(&mut near, 7, "orders/eu", &["$SessionId", "$Transport"]);
    send(&mut asker, 100, "orders/eu/4711", 0, b"{\"buy\":1}");
    let requested = taken(&mut near);
    assert_eq!((requested.handler, &*requested.path, &*requested.value), (7, "orders/eu/4711", &b"{\"buy\":1}"[..]));
    assert_eq!(requested.session, asker.id);
    let properties = [("$SessionId".to_owned(), asker.id.clone()), ("$Transport".to_owned(), "WEBSOCKET".to_owned())];
    assert_eq!(requested.properties, properties);
    respond(&mut near, requested.request, b"[true]");
    assert_eq!(asker.answer_to(100), Ok(response(b"[true]")));
    send(&mut asker, 101, "orders/us/1", 0, b"1");
    let requested = taken(&mut wide);
    assert_eq!((requested.properties.len(), requested.handler), (0, 1));
    wide.send(&Request { id: 0, ask: Ask::Reject { request: requested.request, message: "the market is closed".into() } });
    assert_eq!(asker.answer_to(101), refused(REJECTED));
    send(&mut asker, 102, "other", 0, b"1");
    assert_eq!(asker.answer_to(102), refused(NO_HANDLER));
}

#[test]
fn several_handlers_of_a_path_share() {
    let server = Server::start(2);
    let mut handlers = [server.connect(), server.connect(), server.connect()];
    handlers.iter_mut().for_each(|handler| handle(handler, 1, "work", &[]));
    let mut asker = server.connect();
    for id in 100..130 {
        send(&mut asker, id, "work", 0, b"1");
    }
    for handler in &mut handlers {
        for _ in 0..10 {
            let request = taken(handler).request;
            respond(handler, request, b"2");
        }
    }
    for id in 100..130 {
        assert_eq!(asker.answer_to(id), Ok(response(b"2")));
    }
}

#[test]
fn a_request_nobody_answers_ends_with_an_error() {
    let server = Server::start(2);
    let (mut handler, mut asker) = (server.connect(), server.connect());
    handle(&mut handler, 1, "slow", &[]);
    send(&mut asker, 100, "slow", 50, b"1");
    let late = taken(&mut handler).request;
    assert_eq!(asker.answer_to(100), refused(TIMEOUT));
    let answered = handler.ask(|id| Request { id, ask: Ask::Respond { request: late, kind: JSON, value: b"1".into() } });
    assert_eq!(answered, refused(NO_SUCH_REQUEST));
    let twice = handler.ask(|id| Request { id, ask: Ask::Respond { request: 77, kind: JSON, value: b"1".into() } });
    assert_eq!(twice, refused(NO_SUCH_REQUEST));
    send(&mut asker, 101, "slow", 0, b"1");
    taken(&mut handler);
    drop(handler);
    assert_eq!(asker.answer_to(101), refused(HANDLER_GONE));
    send(&mut asker, 102, "slow", 0, b"1");
    assert_eq!(asker.answer_to(102), refused(NO_HANDLER));
}

#[test]
fn a_handler_without_a_connection_is_passed_over() {
    let server = Server::start(2);
    let mut asker = server.connect();
    let mut away = Session::connect_resumable(server.address, 60_000);
    handle(&mut away, 1, "work", &[]);
    away.socket = server.open("tidewire.1");
    while server.count("sessions_away") == 0 {}
    send(&mut asker, 100, "work", 0, b"1");
    assert_eq!(asker.answer_to(100), refused(HANDLER_AWAY));
    // One that waits for no answer is not lost without a word either.
    send(&mut asker, 0, "work", 0, b"1");
    assert_eq!(asker.next(), Seen::Error { id: 0, code: HANDLER_AWAY, position: None });
    let mut other = server.connect();
    handle(&mut other, 1, "work", &[]);
    for id in 101..105 {
        send(&mut asker, id, "work", 0, b"1");
        let request = taken(&mut other).request;
        respond(&mut other, request, b"2");
        assert_eq!(asker.answer_to(id), Ok(response(b"2")));
        send(&mut asker, 0, "work", 0, b"3");
        assert_eq!(taken(&mut other).value, b"3");
    }
}

#[test]
fn a_request_that_is_under_way_is_answered_by_a_handler_that_comes_back() {
    let server = Server::start(2);
    let mut asker = server.connect();
    let mut handler = Session::connect_resumable(server.address, 60_000);
    handle(&mut handler, 1, "work", &[]);
    send(&mut asker, 100, "work", 0, b"1");
    // Whether the request had come before the connection broke or not, it comes once.
    handler.resume(server.address);
    let requested = taken(&mut handler);
    respond(&mut handler, requested.request, b"2");
    assert_eq!(asker.answer_to(100), Ok(response(b"2")));
    assert!(!handler.settle().iter().any(|seen| matches!(seen, Seen::Requested(_))));
}

#[test]
fn a_session_is_asked_by_its_id_and_many_by_a_filter() {
    let server = Server::start(2);
    let mut sessions: Vec<Session> = (0..6).map(|_| server.connect()).collect();
    let mut asker = server.connect();
    sessions.iter_mut().take(4).for_each(|session| handle(session, 1, "devices", &[]));
    let (first, last) = (sessions[0].id.clone(), sessions[5].id.clone());
    let ask = |id, session: &str, path: &str| Request {
        id,
        ask: Ask::RequestSession {
            session: session.to_owned().into(),
            path: path.to_owned().into(),
            timeout_ms: 0,
            kind: JSON,
            value: b"1".into(),
        },
    };
    asker.send(&ask(100, &first, "devices/reboot"));
    let request = taken(&mut sessions[0]).request;
    respond(&mut sessions[0], request, b"3");
    assert_eq!(asker.answer_to(100), Ok(response(b"3")));
    asker.send(&ask(101, &last, "devices"));
    assert_eq!(asker.answer_to(101), refused(NO_HANDLER));
    asker.send(&ask(102, "nobody", "devices"));
    assert_eq!(asker.answer_to(102), refused(NO_SUCH_SESSION));

    let filter = format!("$SessionId in [{}]", sessions.iter().map(|session| format!("\"{}\"", session.id)).collect::<Vec<_>>().join(","));
    let of_all = |id, filter: String| Request {
        id,
        ask: Ask::RequestFilter { filter: filter.into(), path: "devices".into(), timeout_ms: 0, kind: JSON, value: b"1".into() },
    };
    asker.send(&of_all(103, filter));
    for session in &mut sessions[..4] {
        let request = taken(session).request;
        respond(session, request, b"4");
    }
    assert_eq!(asker.answer_to(103), Ok(vec![6]));
    let mut counts = BTreeMap::new();
    for _ in 0..6 {
        let Seen::Response(103, result) = asker.next() else { panic!("all six answer") };
        *counts.entry(result).or_insert(0) += 1;
    }
    assert_eq!(counts, BTreeMap::from([(Ok(b"4".to_vec()), 4), (Err(NO_HANDLER), 2)]));
    asker.send(&of_all(104, "$SessionId is \"nobody\"".into()));
    assert_eq!(asker.answer_to(104), Ok(vec![0]));
    asker.send(&of_all(105, "tier is".into()));
    let refusal = asker.answer_to(105).unwrap_err();
    assert_eq!((refusal.code, refusal.position), (INVALID_FILTER, Some(7)));
}

#[test]
fn a_message_that_waits_for_nothing_is_given_once() {
    let server = Server::start(2);
    let (mut handler, mut asker) = (server.connect(), server.connect());
    handle(&mut handler, 1, "log", &[]);
    send(&mut asker, 0, "log", 0, b"\"hello\"");
    assert_eq!(taken(&mut handler).request, 0);
    send(&mut asker, 0, "nobody/here", 0, b"1");
    assert_eq!(asker.next(), Seen::Error { id: 0, code: NO_HANDLER, position: None });
    handler.ask(|id| Request { id, ask: Ask::UnhandleRequests { handler: 1 } }).unwrap();
    send(&mut asker, 100, "log", 0, b"1");
    while asker.answer_to(100) != refused(NO_HANDLER) {
        send(&mut asker, 100, "log", 10, b"1");
    }
}
