//! Sessions that go on after their connections: nothing missed, nothing twice, whichever shard the new connection comes to.

use crate::client::{Message, Refused, Seen, Session, connect_ask};
use crate::server::Server;
use std::collections::VecDeque;
use tidewire::surface::topic::specification::TopicType;
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::{Ask, Request, Update, Verb};

const EVERY_VALUE: &[(&str, &str)] = &[("CONFLATION", "off")];
const CANNOT_RESUME: u16 = 107;
const INVALID_COUNT: u16 = 108;
const TAKEN_OVER: u16 = 4105;

fn set(session: &mut Session, path: &str, number: u32) {
    session.set(path, ValueType::Json, number.to_string().as_bytes()).unwrap();
}

fn add(session: &mut Session, path: &str, properties: &[(&str, &str)]) {
    session.add_with(path, TopicType::Json, properties).unwrap();
}

/// What came of the topic.
fn values(seen: &[Seen], path: &str) -> Vec<u32> {
    let of_path = |seen: &Seen| match seen {
        Seen::Value(of, value) if of == path => Some(std::str::from_utf8(value).unwrap().parse().unwrap()),
        _ => None,
    };
    seen.iter().filter_map(of_path).collect()
}

fn refused(session: &mut Session) -> u16 {
    match session.next() {
        Seen::Error { id: 1, code, .. } => code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_is_missed_and_nothing_comes_twice() {
    let server = Server::start(2);
    let mut writer = server.connect();
    for topic in ["x/a", "x/b", "x/c", "x/d"] {
        add(&mut writer, topic, EVERY_VALUE);
    }
    let mut reader = Session::connect_resumable(server.address, 60_000);
    reader.subscribe("?x//").unwrap();
    let mut seen = reader.settle();
    let mut number = 0;
    let mut olds = VecDeque::new();
    for round in 0..40 {
        for _ in 0..25 {
            number += 1;
            set(&mut writer, ["x/a", "x/b", "x/c", "x/d"][number as usize % 4], number);
        }
        // Some of what came is processed, some is lost with the connection, which nobody has closed yet at times.
        if round % 3 == 0 {
            seen.extend(std::iter::once(reader.next()));
            reader.say_processed();
        }
        olds.push_back(reader.resume(server.address));
        if round % 2 == 0 {
            olds.pop_front();
        }
        seen.extend(reader.settle());
    }
    let mut heard: Vec<u32> = ["x/a", "x/b", "x/c", "x/d"].iter().flat_map(|topic| values(&seen, topic)).collect();
    for topic in ["x/a", "x/b", "x/c", "x/d"] {
        assert!(values(&seen, topic).is_sorted(), "{topic}: {:?}", values(&seen, topic));
    }
    heard.sort_unstable();
    assert_eq!(heard, (1..=number).collect::<Vec<_>>());
}

#[test]
fn requests_are_counted_and_their_answers_come_after_all() {
    let server = Server::start(2);
    let mut session = Session::connect_resumable(server.address, 60_000);
    for number in 2..12 {
        let path = format!("r/{number}");
        let update = Update::new(Verb::AddAndSet, ValueType::Json as u8, b"1");
        session.send(&Request { id: number, ask: Ask::Update { path: path.into(), update } });
    }
    // Each is carried out once its connection has brought it; the answers went to nobody.
    let mut other = server.connect();
    while other.fetch_all("?r//").len() < 10 {}
    session.resume(server.address);
    assert_eq!(session.limits.get(&13), Some(&10));
    let answers: Vec<u64> = session.settle().iter().filter_map(|seen| if let Seen::Ok(id, _) = seen { Some(*id) } else { None }).collect();
    let mut sorted = answers.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (2..12).collect::<Vec<_>>(), "{answers:?}");
}

#[test]
fn a_second_connection_takes_over_and_the_first_one_harms_nothing() {
    let server = Server::start(2);
    let mut writer = server.connect();
    let mut reader = Session::connect_resumable(server.address, 60_000);
    reader.subscribe("?x//").unwrap();
    reader.settle();
    let mut old = reader.resume(server.address);
    let closed = loop {
        match old.receive() {
            Message::Closed(code) => break code,
            Message::Binary(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(closed, TAKEN_OVER);
    drop(old);
    add(&mut writer, "x/a", &[]);
    set(&mut writer, "x/a", 1);
    reader.wait_for_value("x/a", b"1");
}

#[test]
fn only_the_token_of_a_session_that_stands_goes_on() {
    let server = Server::start(2);
    let mut session = Session::connect_resumable(server.address, 60_000);
    let whole = session.token.clone();
    let mut guessed = whole.clone().into_bytes();
    let last = guessed.last_mut().unwrap();
    *last = if *last == b'0' { b'1' } else { b'0' };
    let guessed = String::from_utf8(guessed).unwrap();
    for wrong in ["nonsense", &guessed, &whole[..whole.len() - 1], &format!("0{}", &whole[1..]), &whole.replace('-', "+")] {
        if *wrong == whole {
            continue;
        }
        session.token = wrong.to_owned();
        let _ = session.reconnect(server.address);
        assert_eq!(refused(&mut session), CANNOT_RESUME, "{wrong}");
    }
    session.token = whole.clone();
    session.processed += 1000;
    let _ = session.reconnect(server.address);
    assert_eq!(refused(&mut session), INVALID_COUNT);
    session.processed -= 1000;
    // The same connection may say it better.
    session.send(&Request { id: 1, ask: connect_ask(60_000, &whole, session.processed) });
    assert_eq!(session.next(), Seen::Welcome);
    // Who takes leave does not come back.
    session.send(&Request { id: 0, ask: Ask::Close });
    session.wait_for_close();
    let _ = session.reconnect(server.address);
    assert_eq!(refused(&mut session), CANNOT_RESUME);
    session.send(&Request { id: 1, ask: connect_ask(60_000, "", 0) });
    assert_eq!(session.next(), Seen::Welcome);
    assert_ne!(session.token, whole);
}

#[test]
fn a_session_that_is_not_taken_up_in_time_is_over() {
    let server = Server::start_with(1, &[("SESSION_RESUME_MS", "200")]);
    let session = Session::connect_resumable(server.address, 60_000);
    assert_eq!(session.limits.get(&11), Some(&200), "the server allows no longer");
    let (token, processed) = (session.token.clone(), session.processed);
    drop(session);
    while server.count("sessions_away") == 0 && server.count("sessions") > 0 {}
    while server.count("sessions") > 0 {}
    let mut back = Session::connect_resumable(server.address, 60_000);
    (back.token, back.processed) = (token, processed);
    let _ = back.reconnect(server.address);
    assert_eq!(refused(&mut back), CANNOT_RESUME);
}

#[test]
fn what_is_too_much_to_keep_is_a_gap_and_the_newest_value() {
    let server = Server::start_with(1, &[("SESSION_AWAY_QUEUE_BYTES_MAX", "20000")]);
    let mut writer = server.connect();
    add(&mut writer, "x/every", EVERY_VALUE);
    add(&mut writer, "x/newest", &[]);
    let mut reader = Session::connect_resumable(server.address, 60_000);
    reader.subscribe("?x//").unwrap();
    reader.settle();
    let (token, processed) = (reader.token.clone(), reader.processed);
    reader.socket = server.open("tidewire.1");
    for number in 1..=2000 {
        set(&mut writer, "x/every", number);
        set(&mut writer, "x/newest", number);
    }
    (reader.token, reader.processed) = (token, processed);
    reader.resume(server.address);
    let seen = reader.settle();
    assert!(seen.contains(&Seen::Gap("x/every".into())), "{seen:?}");
    assert!(!seen.contains(&Seen::Gap("x/newest".into())), "one that may be conflated has none: {seen:?}");
    assert_eq!(values(&seen, "x/every").last(), Some(&2000));
    assert_eq!(values(&seen, "x/newest").last(), Some(&2000));
    let gap = seen.iter().position(|seen| *seen == Seen::Gap("x/every".into())).unwrap();
    assert!(values(&seen[gap..], "x/every").is_sorted());
    assert!(seen.len() < 1000, "{} came", seen.len());
}

#[test]
fn no_more_is_sent_than_is_kept_until_the_client_has_processed_some() {
    let server = Server::start_with(1, &[("SESSION_RECOVERY_BYTES_MAX", "2000")]);
    let mut writer = server.connect();
    add(&mut writer, "x/every", EVERY_VALUE);
    let mut reader = Session::connect_resumable(server.address, 60_000);
    reader.subscribe("?x//").unwrap();
    for number in 1..=1000 {
        set(&mut writer, "x/every", number);
    }
    let mut seen = Vec::new();
    while values(&seen, "x/every").last() != Some(&1000) {
        seen.push(reader.next());
        reader.say_processed();
    }
    assert_eq!(values(&seen, "x/every"), (1..=1000).collect::<Vec<_>>());
}

#[test]
fn what_no_session_that_stays_is_told_is_refused() {
    let server = Server::start(1);
    let mut session = server.connect();
    let refused = session.ask(|id| Request { id, ask: Ask::Processed { messages: 1 } }).unwrap_err();
    assert_eq!(refused, Refused { code: INVALID_COUNT, position: None });
    let mut session = Session::connect_resumable(server.address, 60_000);
    let refused = session.ask(|id| Request { id, ask: Ask::Processed { messages: 1000 } }).unwrap_err();
    assert_eq!(refused.code, INVALID_COUNT);
}
