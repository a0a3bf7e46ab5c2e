//! What a subscriber sees.

use crate::client::{Seen, Session};
use crate::server::Server;
use tidewire::surface::topic::specification::TopicType;
use tidewire::surface::value::ValueType;

fn subscribed(path: &str) -> Seen {
    Seen::Subscribed(path.into(), TopicType::Json)
}

fn value(path: &str, json: &str) -> Seen {
    Seen::Value(path.into(), json.as_bytes().into())
}

fn set(session: &mut Session, path: &str, json: &str) {
    session.add_and_set(path, ValueType::Json, json.as_bytes()).unwrap();
}

#[test]
fn two_sessions_see_each_others_updates() {
    let server = Server::start(2);
    let mut sessions = [server.connect(), server.connect()];
    for session in &mut sessions {
        session.subscribe("?x//").unwrap();
    }
    set(&mut sessions[0], "x/a", "1");
    set(&mut sessions[1], "x/b", "2");
    set(&mut sessions[1], "x/a", "3");
    for session in &mut sessions {
        let mut seen: Vec<Seen> = (0..5).map(|_| session.next()).collect();
        // Topics of two shards have no order between them.
        let b = seen.iter().position(|seen| *seen == subscribed("x/b")).unwrap();
        assert_eq!(seen.remove(b), subscribed("x/b"));
        let b = seen.iter().position(|seen| *seen == value("x/b", "2")).unwrap();
        seen.remove(b);
        assert_eq!(seen, [subscribed("x/a"), value("x/a", "1"), value("x/a", "3")]);
    }
}

#[test]
fn the_answer_comes_behind_what_was_there() {
    let server = Server::start(2);
    let mut session = server.connect();
    for number in 0..30 {
        set(&mut session, &format!("x/{number}"), "1");
    }
    session.subscribe("?x//").unwrap();
    // Nothing of the selection is under way any more: all stands before the answer to a PING that the session's own shard gives.
    let seen = session.settle();
    assert_eq!(seen.iter().filter(|seen| matches!(seen, Seen::Subscribed(..))).count(), 30);
    assert_eq!(seen.iter().filter(|seen| matches!(seen, Seen::Value(..))).count(), 30);
}

#[test]
fn a_kept_selection_gets_later_topics() {
    let server = Server::start(2);
    let (mut writer, mut reader) = (server.connect(), server.connect());
    reader.subscribe("?x/.*").unwrap();
    for (path, number) in [("x/a", "1"), ("x/b", "2"), ("x/c", "3")] {
        set(&mut writer, path, number);
        assert_eq!(reader.next(), subscribed(path));
        assert_eq!(reader.next(), value(path, number));
    }
}

#[test]
fn removal_tells_its_reason_and_an_unsubscription_another() {
    let server = Server::start(2);
    let (mut writer, mut reader) = (server.connect(), server.connect());
    set(&mut writer, "x/a", "1");
    set(&mut writer, "x/b", "2");
    reader.subscribe("?x//").unwrap();
    reader.settle();
    reader.unsubscribe("x/a").unwrap();
    assert_eq!(reader.settle(), [Seen::Unsubscribed("x/a".into(), 1)]);
    assert_eq!(writer.remove("?x//"), Ok(2));
    assert_eq!(reader.next(), Seen::Unsubscribed("x/b".into(), 2));
}

#[test]
fn the_last_selection_that_matches_decides() {
    let server = Server::start(2);
    let (mut writer, mut reader) = (server.connect(), server.connect());
    reader.subscribe("?x//").unwrap();
    reader.unsubscribe("x/a").unwrap();
    set(&mut writer, "x/a", "1");
    set(&mut writer, "x/b", "2");
    assert_eq!([reader.next(), reader.next()], [subscribed("x/b"), value("x/b", "2")]);
    reader.subscribe("x/a").unwrap();
    assert_eq!(reader.settle(), [subscribed("x/a"), value("x/a", "1")]);
}

#[test]
fn a_topic_that_two_selections_match_comes_once() {
    let server = Server::start(2);
    let mut session = server.connect();
    set(&mut session, "x/a", "1");
    session.subscribe("x/a").unwrap();
    session.subscribe("?x//").unwrap();
    set(&mut session, "x/a", "2");
    let mut seen = session.settle();
    while seen.len() < 3 {
        seen.push(session.next());
    }
    assert_eq!(seen, [subscribed("x/a"), value("x/a", "1"), value("x/a", "2")]);
}

#[test]
fn a_topic_that_comes_again_is_a_new_one() {
    let server = Server::start(2);
    let (mut writer, mut reader) = (server.connect(), server.connect());
    reader.subscribe("x").unwrap();
    for json in ["1", "2", "3"] {
        set(&mut writer, "x", json);
        assert_eq!(writer.remove("x"), Ok(1));
        let seen = [reader.next(), reader.next(), reader.next()];
        assert_eq!(seen, [subscribed("x"), value("x", json), Seen::Unsubscribed("x".into(), 2)]);
    }
}

#[test]
fn a_session_that_ended_is_no_burden_to_the_others() {
    let server = Server::start(2);
    let (mut writer, mut reader) = (server.connect(), server.connect());
    for _ in 0..10 {
        let mut passing = server.connect();
        passing.subscribe("?x//").unwrap();
    }
    reader.subscribe("?x//").unwrap();
    set(&mut writer, "x/a", "1");
    assert_eq!([reader.next(), reader.next()], [subscribed("x/a"), value("x/a", "1")]);
}
