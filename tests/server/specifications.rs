//! What a topic is: shown to who subscribes and who fetches, the same in other words, refused where it makes no sense.

use crate::client::{Refused, Seen};
use crate::requests::{Pairs, series_of_json};
use crate::server::Server;
use tidewire::surface::topic::specification::TopicType;
use tidewire::surface::value::ValueType;

/// Adds a topic with these properties, and sees these.
fn check(kind: TopicType, given: Pairs<'_>, shown: Pairs<'_>) {
    let server = Server::start(2);
    let (mut writer, mut reader) = (server.connect(), server.connect());
    reader.subscribe("a").unwrap();
    assert_eq!(writer.add_with("a", kind, given), Ok(true));
    assert_eq!(reader.next(), Seen::Subscribed("a".into(), kind));
    let shown: Vec<(String, String)> = shown.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    assert_eq!(reader.properties["a"], shown, "as subscribers see it");
    let fetched = writer.fetch_all("a").remove(0);
    assert_eq!(fetched.kind, kind.number());
    let fetched: Vec<_> = fetched.properties.iter().map(|(key, value)| (String::from(&**key), String::from(&**value))).collect();
    assert_eq!(fetched, shown, "as a fetch shows it");
    assert_eq!(writer.add_with("a", kind, given), Ok(false), "adding it again finds it");
}

#[test]
fn properties_are_shown_in_canonical_form_without_defaults() {
    check(TopicType::Json, &[], &[]);
    check(
        TopicType::String,
        &[("PRIORITY", "HIGH"), ("CONFLATION", "conflate"), ("COMPRESSION", "true"), ("OWNER", "$Principal  eq 'a'"), ("colour", "red")],
        &[("COMPRESSION", "medium"), ("CONFLATION", "conflate"), ("OWNER", "$Principal is \"a\""), ("PRIORITY", "high")],
    );
    check(TopicType::Int64, &[("COMPRESSION", "nonsense for a number"), ("PERSISTENT", "False")], &[("PERSISTENT", "false")]);
    check(
        TopicType::TimeSeries,
        &series_of_json(&[("TIME_SERIES_RETAINED_RANGE", "LIMIT 20 last 2h"), ("TIME_SERIES_SUBSCRIPTION_RANGE", "limit 1")]),
        &series_of_json(&[("TIME_SERIES_RETAINED_RANGE", "last 2H limit 20")]),
    );
}

#[test]
fn another_specification_of_a_path_is_203() {
    let server = Server::start(2);
    let mut session = server.connect();
    session.add_with("a", TopicType::Json, &[("CONFLATION", "off")]).unwrap();
    for (kind, properties) in
        [(TopicType::Json, &[][..]), (TopicType::Json, &[("CONFLATION", "always")]), (TopicType::String, &[("CONFLATION", "off")])]
    {
        assert_eq!(session.add_with("a", kind, properties), Err(Refused { code: 203, position: None }), "{kind:?} {properties:?}");
    }
    assert_eq!(session.add_and_set("a", ValueType::Json, b"1"), Err(Refused { code: 203, position: None }));
    assert_eq!(session.set("a", ValueType::Json, b"1"), Ok(()), "a set asks for no specification");
}

#[test]
fn a_malformed_property_is_211_and_tells_where() {
    let server = Server::start(1);
    let mut session = server.connect();
    for (kind, key, value, position) in [
        (TopicType::Json, "CONFLATION", "sometimes", 0),
        (TopicType::TimeSeries, "CONFLATION", "always", 0),
        (TopicType::Json, "PERSISTENT", "", 0),
        (TopicType::Json, "REMOVAL", "when never", 5),
        (TopicType::Json, "OWNER", "$Principal is x", 14),
        (TopicType::TimeSeries, "TIME_SERIES_RETAINED_RANGE", "limit 5 last 3X", 14),
    ] {
        let event_type = [("TIME_SERIES_EVENT_VALUE_TYPE", "json")];
        let properties: Vec<_> = event_type.into_iter().filter(|_| kind == TopicType::TimeSeries).chain([(key, value)]).collect();
        assert_eq!(session.add_with("a", kind, &properties), Err(Refused { code: 211, position: Some(position) }), "{key}={value}");
    }
    assert_eq!(session.add("a", TopicType::TimeSeries), Err(Refused { code: 211, position: Some(0) }), "events need a type");
    assert_eq!(session.fetch_all("*.*"), [], "no topic was made");
}

#[test]
fn a_value_that_is_not_retained_reaches_who_is_there() {
    let server = Server::start(2);
    let (mut writer, mut reader, mut late) = (server.connect(), server.connect(), server.connect());
    writer.add_with("a", TopicType::Json, &[("DONT_RETAIN_VALUE", "true")]).unwrap();
    reader.subscribe("a").unwrap();
    reader.settle();
    for json in ["1", "2"] {
        writer.set("a", ValueType::Json, json.as_bytes()).unwrap();
        assert_eq!(reader.next(), Seen::Value("a".into(), json.into()));
    }
    late.subscribe("a").unwrap();
    assert_eq!(late.settle(), [Seen::Subscribed("a".into(), TopicType::Json)]);
    assert_eq!(late.fetch("a", "", 0).unwrap().1[0].value, None);
    writer.set("a", ValueType::Json, b"3").unwrap();
    assert_eq!(late.next(), Seen::Value("a".into(), b"3".into()));
}

#[test]
fn strings_and_numbers_can_be_set_to_null() {
    let server = Server::start(2);
    let (mut writer, mut reader, mut late) = (server.connect(), server.connect(), server.connect());
    for (kind, value) in [(ValueType::String, b"text".to_vec()), (ValueType::Int64, vec![0; 8]), (ValueType::Double, vec![0; 8])] {
        let path = kind.name();
        reader.subscribe(path).unwrap();
        writer.add_and_set(path, kind, &value).unwrap();
        assert_eq!([reader.next(), reader.next()], [Seen::Subscribed(path.into(), kind.into()), Seen::Value(path.into(), value.clone())]);
        writer.set_null(path, kind).unwrap();
        assert_eq!(reader.next(), Seen::Null(path.into()));
        late.subscribe(path).unwrap();
        assert_eq!(late.settle(), [Seen::Subscribed(path.into(), kind.into())], "who comes later is sent nothing");
        assert_eq!(late.fetch(path, "", 0).unwrap().1[0].value, None);
        writer.set(path, kind, &value).unwrap();
        for session in [&mut reader, &mut late] {
            assert_eq!(session.next(), Seen::Value(path.into(), value.clone()));
        }
    }
    for kind in [ValueType::Json, ValueType::Binary] {
        writer.add(kind.name(), kind).unwrap();
        assert_eq!(writer.set_null(kind.name(), kind), Err(Refused { code: 205, position: None }));
    }
}
