//! Every numbered error that a client can provoke in the binary form: the code, the position, and that the connection lives on.
//!
//! 105 and 106 are the text form's. 400 and 401 need a server that is full or stopping at the moment of a request; no client can bring that about.

use crate::client::{Refused, Seen, Session};
use crate::raw::masked;
use crate::server::Server;
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::{Ask, Request, Update, Verb};

fn check<T: std::fmt::Debug + PartialEq>(
    session: &mut Session,
    ask: impl FnOnce(&mut Session) -> Result<T, Refused>,
    code: u16,
    position: Option<usize>,
) {
    assert_eq!(ask(session), Err(Refused { code, position }));
    assert_eq!(session.settle(), [], "the connection lives");
}

/// A frame as it is; its answer.
fn check_frame(session: &mut Session, frame: &[u8], id: u64, code: u16) {
    session.socket.send_binary(frame);
    assert_eq!(session.settle(), [Seen::Error { id, code, position: None }], "{frame:02x?}");
}

#[test]
fn a_body_that_does_not_have_its_form_is_refused_with_its_id() {
    let server = Server::start(1);
    let mut session = server.connect();
    check_frame(&mut session, &[0x10, 2, 9, 5], 9, 100);
    check_frame(&mut session, &[0x13, 4, 9, 1, b'a', 0], 9, 100);
    check_frame(&mut session, &[0x18, 3, 9, 1, 0xff], 9, 100);
    check_frame(&mut session, &[0x14, 0], 0, 100);
    check_frame(&mut session, &[0x14, 1, 0x80], 0, 100);
}

#[test]
fn an_unknown_operation_is_answered() {
    let server = Server::start(1);
    let mut session = server.connect();
    check_frame(&mut session, &[0x2f, 1, 9], 9, 101);
    check_frame(&mut session, &[0xff, 4, 0x83, 1, 2, 3], 131, 101);
}

#[test]
fn connect_must_come_first_and_once() {
    let server = Server::start(1);
    let mut session = server.connect();
    check_frame(&mut session, &[0x01, 2, 9, 1], 9, 103);
    let mut socket = server.open_raw();
    socket.upgrade("tidewire.1");
    socket.send(&masked(0x82, &[0x13, 4, 9, 2, b'>', b'a']));
    assert_eq!(socket.read_frame().payload[2..4], [9, 102]);
    socket.send(&masked(0x82, &[0x01, 2, 9, 1]));
    assert_eq!(socket.read_frame().payload[0], 0x81);
}

#[test]
fn a_version_below_the_lowest_is_told_and_closed() {
    let server = Server::start(1);
    let mut socket = server.open_raw();
    socket.upgrade("tidewire.1");
    socket.send(&masked(0x82, &[0x01, 2, 9, 0]));
    assert_eq!(socket.read_frame().payload[2..4], [9, 104]);
    assert_eq!(socket.read_close(), 4101);
}

#[test]
fn a_version_above_the_highest_gets_the_highest() {
    let server = Server::start(1);
    let mut socket = server.open_raw();
    socket.upgrade("tidewire.1");
    socket.send(&masked(0x82, &[0x01, 2, 9, 77]));
    let welcome = socket.read_frame().payload;
    assert_eq!((welcome[0], &welcome[2..4]), (0x81, &[9, 1][..]));
}

#[test]
fn broken_paths_tell_where() {
    let server = Server::start_with(1, &[("LIMITS_PATH_BYTES_MAX", "16")]);
    let mut session = server.connect();
    for (path, code, position) in [
        ("", 200, 0),
        ("/a", 200, 0),
        ("a//b", 200, 2),
        ("ü//b", 200, 3),
        ("a/", 200, 1),
        ("01234567/01234567", 200, 16),
        ("Tidewire/a", 209, 0),
    ] {
        check(&mut session, |s| s.add(path, ValueType::Json), code, Some(position));
        check(&mut session, |s| s.set(path, ValueType::Json, b"1"), code, Some(position));
        check(&mut session, |s| s.add_and_set(path, ValueType::Json, b"1"), code, Some(position));
    }
}

#[test]
fn broken_selectors_tell_where() {
    let server = Server::start(1);
    let mut session = server.connect();
    for (selector, position) in [("", 0), ("?a/(b", 3), ("*[", 1)] {
        check(&mut session, |s| s.subscribe(selector), 201, Some(position));
        check(&mut session, |s| s.unsubscribe(selector), 201, Some(position));
        check(&mut session, |s| s.remove(selector), 201, Some(position));
        check(&mut session, |s| s.fetch(selector, "", 0), 201, Some(position));
    }
}

#[test]
fn topics_refuse_what_does_not_fit_them() {
    let server = Server::start(2);
    let mut session = server.connect();
    check(&mut session, |s| s.set("none", ValueType::Json, b"1"), 202, None);
    session.add("a", ValueType::Json).unwrap();
    check(&mut session, |s| s.add("a", ValueType::String), 203, None);
    check(&mut session, |s| s.add_and_set("a", ValueType::String, b""), 203, None);
    check(&mut session, |s| s.set("a", ValueType::String, b""), 204, None);
    check(&mut session, |s| s.ask(|id| update(id, Verb::Add, 9)), 207, None);
    check(&mut session, |s| s.ask(|id| update(id, Verb::Set, 9)), 207, None);
    check(&mut session, |s| s.ask(|id| update(id, Verb::Set, 6)), 207, None);
}

fn update(id: u64, verb: Verb, kind: u8) -> Request<'static> {
    Request { id, ask: Ask::Update { path: "b".into(), update: Update::new(verb, kind, &b""[..]) } }
}

#[test]
fn values_that_are_not_of_their_type_tell_where() {
    let server = Server::start(1);
    let mut session = server.connect();
    for (kind, value, position) in [
        (ValueType::Json, &b"{\"a\":}"[..], Some(5)),
        (ValueType::Json, b"", Some(0)),
        (ValueType::Json, b"1 2", Some(2)),
        (ValueType::String, b"ab\xff", Some(2)),
        (ValueType::Int64, b"1234567", None),
        (ValueType::Int64, b"", None),
        (ValueType::Double, b"123456789", None),
    ] {
        check(&mut session, |s| s.add_and_set("a", kind, value), 205, position);
    }
    assert_eq!(session.fetch("*.*", "", 0).unwrap().1, [], "a refused value makes no topic");
}

#[test]
fn a_value_at_its_limit_is_taken_and_one_byte_more_is_not() {
    let server = Server::start_with(1, &[("LIMITS_VALUE_BYTES_MAX", "1000")]);
    let mut session = server.connect();
    assert_eq!(session.add_and_set("a", ValueType::Binary, &[7; 1000]), Ok(true));
    check(&mut session, |s| s.add_and_set("a", ValueType::Binary, &[7; 1001]), 206, None);
    let spaces = format!("{}1", " ".repeat(1000));
    assert_eq!(session.add_and_set("b", ValueType::Json, spaces.as_bytes()), Ok(true), "the stored form counts");
}

#[test]
fn the_server_holds_its_most_of_topics_and_no_more() {
    let server = Server::start_with(1, &[("LIMITS_TOPICS_MAX", "2")]);
    let mut session = server.connect();
    session.add("a", ValueType::Json).unwrap();
    session.add("b", ValueType::Json).unwrap();
    check(&mut session, |s| s.add("c", ValueType::Json), 210, None);
    assert_eq!(session.add("b", ValueType::Json), Ok(false));
    session.remove("a").unwrap();
    assert_eq!(session.add("c", ValueType::Json), Ok(true));
}

#[test]
fn a_session_has_its_most_of_selections_and_no_more() {
    let server = Server::start_with(1, &[("LIMITS_SELECTIONS_MAX", "2")]);
    let mut session = server.connect();
    session.subscribe("a").unwrap();
    session.subscribe("b").unwrap();
    check(&mut session, |s| s.subscribe("c"), 300, None);
    assert_eq!(session.subscribe("a"), Ok(()), "one that it has is no further one");
}
