//! Time series: what a subscriber gets first and then, edits, queries, refusals.

use crate::client::{Refused, Seen, SeenEvent, Session};
use crate::requests::{range, series_of_json};
use crate::server::Server;
use tidewire::surface::topic::specification::TopicType;
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::{Append, Query};

const AT_SERVER_TIME: Append = Append::Original { timestamp_ms: None };

fn event(sequence: u64, original: Option<u64>, json: &str) -> Seen {
    Seen::Event("s".into(), SeenEvent { sequence, original, value: json.into() })
}

fn refused<T>(code: u16) -> Result<T, Refused> {
    Err(Refused { code, position: None })
}

/// A series that keeps its latest hundred events.
fn add(session: &mut Session, further: &[(&str, &str)]) {
    let properties = [&[("TIME_SERIES_RETAINED_RANGE", "limit 100")], further].concat();
    assert_eq!(session.add_with("s", TopicType::TimeSeries, &series_of_json(&properties)), Ok(true));
}

#[test]
fn a_subscriber_gets_history_then_live_events() {
    let server = Server::start(2);
    let (mut writer, mut reader) = (server.connect(), server.connect());
    add(&mut writer, &[("TIME_SERIES_SUBSCRIPTION_RANGE", "limit 3")]);
    for number in 0..5 {
        assert_eq!(writer.append_json("s", &number.to_string()), number);
    }
    writer.append("s", ValueType::Json, Append::Edit { original: 2 }, b"\"edited\"").unwrap();
    reader.subscribe("s").unwrap();
    let history = [event(3, None, "3"), event(4, None, "4"), event(5, Some(2), "\"edited\"")];
    assert_eq!(reader.settle(), [&[Seen::Subscribed("s".into(), TopicType::TimeSeries)], &history[..]].concat());
    writer.set("s", ValueType::Json, b"6").unwrap();
    assert_eq!(reader.next(), event(6, None, "6"), "a set appends");
    writer.append("s", ValueType::Json, Append::Edit { original: 6 }, b"7").unwrap();
    assert_eq!(reader.next(), event(7, Some(6), "7"));
}

#[test]
fn a_series_of_each_type_keeps_its_values() {
    let server = Server::start(2);
    let mut session = server.connect();
    for (kind, value) in [
        (ValueType::Json, b"{}".to_vec()),
        (ValueType::String, "Grüße".into()),
        (ValueType::Int64, vec![0, 0, 0, 0, 0, 0, 0, 1]),
        (ValueType::Double, 0.1f64.to_be_bytes().into()),
        (ValueType::Binary, vec![0, 255]),
    ] {
        let path = kind.name();
        session.add_with(path, TopicType::TimeSeries, &[("TIME_SERIES_EVENT_VALUE_TYPE", path)]).unwrap();
        session.append(path, kind, AT_SERVER_TIME, &value).unwrap();
        assert_eq!(session.query(path, Query::default()).unwrap().1[0].value, value);
        assert_eq!(session.fetch(path, "", 0).unwrap().1[0].value.as_ref(), Some(&value), "a fetch shows the latest event");
    }
}

/// What a query of the series 0…9 at the instants 1000, 1100, … selects, by sequence; of the events 2 and 5 there are edits 10 and 11.
fn check(query: Query, sequences: &[u64]) {
    let server = Server::start(2);
    let mut session = server.connect();
    add(&mut session, &[]);
    for number in 0..10 {
        let at = Append::Original { timestamp_ms: Some(1000 + number * 100) };
        session.append("s", ValueType::Json, at, number.to_string().as_bytes()).unwrap();
    }
    for original in [2, 5] {
        session.append("s", ValueType::Json, Append::Edit { original }, b"0").unwrap();
    }
    let (is_complete, events) = session.query("s", query).unwrap();
    assert!(is_complete || query.limit > 0, "{query:?}");
    assert_eq!(events.iter().map(|event| event.sequence).collect::<Vec<_>>(), sequences, "{query:?}");
}

#[test]
fn queries_select_values_and_edits() {
    let of = |range| Query { range, ..Query::default() };
    check(Query::default(), &[0, 1, 10, 3, 4, 11, 6, 7, 8, 9]);
    check(of(range((1, 3), (1, 6))), &[3, 4, 11, 6]);
    check(of(range((2, 1250), (2, 1450))), &[3, 4]);
    check(of(range((1, 7), (7, 3))), &[11, 6, 7]);
    check(of(range((1, 0), (3, 2))), &[0, 1]);
    check(of(range((2, 1000), (4, 150))), &[0, 1]);
    check(Query { kind: 2, ..Query::default() }, &[10, 11]);
    check(Query { kind: 1, range: range((1, 3), (0, 0)), ..Query::default() }, &[11]);
    check(Query { edit_range: Some(range((1, 11), (0, 0))), ..Query::default() }, &[0, 1, 2, 3, 4, 11, 6, 7, 8, 9]);
    check(Query { limit: 2, ..Query::default() }, &[8, 9]);
}

#[test]
fn the_retained_range_bounds_what_is_kept() {
    let server = Server::start(2);
    let mut session = server.connect();
    session.add_with("s", TopicType::TimeSeries, &series_of_json(&[("TIME_SERIES_RETAINED_RANGE", "limit 3")])).unwrap();
    for number in 0..8 {
        session.append_json("s", &number.to_string());
    }
    let sequences: Vec<u64> = session.query("s", Query::default()).unwrap().1.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, [5, 6, 7]);
}

#[test]
fn an_answer_that_would_be_too_long_is_the_latest_part() {
    let server = Server::start(2);
    let mut session = server.connect();
    add(&mut session, &[]);
    for number in 0..5 {
        session.append_json("s", &format!("\"{number}{}\"", "x".repeat(400_000)));
    }
    let (is_complete, events) = session.query("s", Query::default()).unwrap();
    assert!(!is_complete && events.len() < 5 && events.last().unwrap().sequence == 4, "{}", events.len());
}

#[test]
fn what_does_not_fit_a_series_is_refused() {
    let server = Server::start(2);
    let mut session = server.connect();
    add(&mut session, &[]);
    session.add("plain", ValueType::Json).unwrap();
    let at = |timestamp_ms| Append::Original { timestamp_ms: Some(timestamp_ms) };
    session.append("s", ValueType::Json, at(5000), b"1").unwrap();
    session.append("s", ValueType::Json, Append::Edit { original: 0 }, b"2").unwrap();
    assert_eq!(session.append("s", ValueType::Json, at(4999), b"1"), refused(222));
    assert_eq!(session.append("s", ValueType::Json, Append::Edit { original: 7 }, b"1"), refused(223));
    assert_eq!(session.append("s", ValueType::Json, Append::Edit { original: 1 }, b"1"), refused(224));
    assert_eq!(session.append("s", ValueType::String, AT_SERVER_TIME, b"1"), refused(204));
    assert_eq!(session.append("plain", ValueType::Json, AT_SERVER_TIME, b"1"), refused(204));
    assert_eq!(session.append("none", ValueType::Json, AT_SERVER_TIME, b"1"), refused(202));
    assert_eq!(session.query("plain", Query::default()), refused(204));
    assert_eq!(session.query("none", Query::default()), refused(202));
    assert_eq!(session.query("s", Query { kind: 3, ..Query::default() }), refused(225));
    assert_eq!(session.query("s", Query { range: range((5, 0), (0, 0)), ..Query::default() }), refused(225));
    assert_eq!(session.patch("s", "[]"), refused(204));
    assert_eq!(session.query("s", Query::default()).unwrap().1.len(), 1, "nothing of it was taken");
}
