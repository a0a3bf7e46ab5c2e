//! Every operation and every type in the binary form; pages of FETCH over two shards.

use crate::client::{Refused, Seen};
use crate::requests::update;
use crate::server::Server;
use tidewire::surface::topic::specification::TopicType;
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::Verb;

/// A value of each type, in its wire form, and the form in which it is kept.
fn values() -> [(ValueType, Vec<u8>, Vec<u8>); 5] {
    let same = |kind, value: &[u8]| (kind, value.to_vec(), value.to_vec());
    [
        (ValueType::Json, br#" { "x" : [ 1, true, "a b" ] } "#.to_vec(), br#"{"x":[1,true,"a b"]}"#.to_vec()),
        same(ValueType::String, "Grüße 🌊".as_bytes()),
        same(ValueType::Int64, &i64::MIN.to_be_bytes()),
        same(ValueType::Double, &(-0.1f64).to_be_bytes()),
        same(ValueType::Binary, &[0, 255, 128]),
    ]
}

#[test]
fn welcome_tells_the_limits_in_force() {
    let server = Server::start_with(1, &[("LIMITS_SELECTIONS_MAX", "7"), ("SESSION_KEEP_ALIVE_MS", "5000")]);
    let session = server.connect();
    assert_eq!(session.limits[&8], 7);
    assert_eq!(session.limits[&4], 5000);
    assert_eq!(session.limits[&5], 1_114_112);
}

/// Clearing huge pages is work of one turn that no slice bounds. A kernel without the setting does not tell it.
#[test]
fn the_server_takes_no_transparent_huge_pages() {
    let server = Server::start(1);
    assert_ne!(server.status("THP_enabled:").as_deref(), Some("1"));
}

#[test]
fn every_type_makes_a_round_trip() {
    let server = Server::start(2);
    let (mut writer, mut reader) = (server.connect(), server.connect());
    reader.subscribe("?v/.*").unwrap();
    for (kind, value, kept) in values() {
        let path = format!("v/{}", kind.name());
        assert_eq!(writer.add_and_set(&path, kind, &value), Ok(true));
        assert_eq!(reader.next(), Seen::Subscribed(path.clone(), kind.into()));
        assert_eq!(reader.next(), Seen::Value(path.clone(), kept.clone()));
        let (has_more, entries) = reader.fetch(&path, "", 0).unwrap();
        assert_eq!((has_more, entries.len()), (false, 1));
        assert_eq!((entries[0].kind, entries[0].value.as_ref()), (kind as u8, Some(&kept)));
    }
}

#[test]
fn add_creates_once() {
    let server = Server::start(2);
    let mut session = server.connect();
    assert_eq!(session.add("a", ValueType::Json), Ok(true));
    assert_eq!(session.add("a", ValueType::Json), Ok(false));
    assert_eq!(session.add_and_set("a", ValueType::Json, b"1"), Ok(false));
    assert_eq!(session.set("a", ValueType::Json, b"2"), Ok(()));
    assert_eq!(session.fetch("a", "", 0).unwrap().1[0].value.as_deref(), Some(&b"2"[..]));
}

#[test]
fn a_topic_without_a_value_has_none() {
    let server = Server::start(1);
    let mut session = server.connect();
    session.add("a", ValueType::Int64).unwrap();
    session.subscribe("a").unwrap();
    assert_eq!(session.fetch("a", "", 0).unwrap().1[0].value, None);
    assert_eq!(session.settle(), [Seen::Subscribed("a".into(), TopicType::Int64)]);
}

#[test]
fn remove_tells_the_count_over_all_shards() {
    let server = Server::start(2);
    let mut session = server.connect();
    for number in 0..20 {
        session.add(&format!("a/{number}"), ValueType::Json).unwrap();
    }
    session.add("b", ValueType::Json).unwrap();
    assert_eq!(session.remove("?a//"), Ok(20));
    assert_eq!(session.remove("?a//"), Ok(0));
    let (_, entries) = session.fetch("*.*", "", 0).unwrap();
    assert_eq!(entries.iter().map(|entry| &entry.path).collect::<Vec<_>>(), ["b"]);
}

#[test]
fn pages_come_in_path_order_and_tell_whether_there_is_more() {
    let server = Server::start(2);
    let mut session = server.connect();
    let mut paths: Vec<String> = (0..25).map(|number| format!("p/{number:02}")).collect();
    for path in paths.iter().rev() {
        session.add_and_set(path, ValueType::String, path.as_bytes()).unwrap();
    }
    let (mut after, mut sizes, mut found) = (String::new(), Vec::new(), Vec::new());
    loop {
        let (has_more, entries) = session.fetch("?p//", &after, 10).unwrap();
        sizes.push((entries.len(), has_more));
        after.clone_from(&entries.last().unwrap().path);
        found.extend(entries.into_iter().map(|entry| entry.path));
        if !has_more {
            break;
        }
    }
    assert_eq!(sizes, [(10, true), (10, true), (5, false)]);
    paths.sort();
    assert_eq!(found, paths);
}

#[test]
fn descendants_follow_their_topic() {
    let server = Server::start(2);
    let mut session = server.connect();
    for path in ["a-b", "a/b", "a", "a/b/c", "ab"] {
        session.add(path, ValueType::Json).unwrap();
    }
    let (_, entries) = session.fetch("*.*", "", 0).unwrap();
    assert_eq!(entries.iter().map(|entry| &entry.path[..]).collect::<Vec<_>>(), ["a", "a/b", "a/b/c", "a-b", "ab"]);
}

#[test]
fn the_page_size_of_the_server_caps_a_fetch() {
    let server = Server::start_with(2, &[("LIMITS_FETCH_PAGE_MAX", "3")]);
    let mut session = server.connect();
    for number in 0..4 {
        session.add(&number.to_string(), ValueType::Json).unwrap();
    }
    for first in [0, 3, 100] {
        let (has_more, entries) = session.fetch("*.*", "", first).unwrap();
        assert_eq!((has_more, entries.len()), (true, 3), "{first}");
    }
}

#[test]
fn values_too_long_for_one_message_come_in_more_pages() {
    let server = Server::start(2);
    let mut session = server.connect();
    for number in 0..5 {
        session.add_and_set(&number.to_string(), ValueType::Binary, &vec![number; 200_000]).unwrap();
    }
    let (mut after, mut found) = (String::new(), Vec::new());
    loop {
        let (has_more, entries) = session.fetch("*.*", &after, 0).unwrap();
        after.clone_from(&entries.last().unwrap().path);
        found.extend(entries.into_iter().map(|entry| (entry.path, entry.value.unwrap().len())));
        if !has_more {
            break;
        }
    }
    assert_eq!(found, [0, 1, 2, 3, 4].map(|number: i32| (number.to_string(), 200_000)));
}

#[test]
fn an_update_with_id_0_is_answered_only_if_it_fails() {
    let server = Server::start(1);
    let mut session = server.connect();
    for (kind, path) in [(ValueType::Json, "a"), (ValueType::String, "a")] {
        session.send(&update(0, Verb::AddAndSet, path, kind, b"1"));
    }
    assert_eq!(session.settle(), [Seen::Error { id: 0, code: 203, position: None }]);
}

#[test]
fn updates_of_one_session_to_one_topic_are_applied_in_the_order_sent() {
    let server = Server::start(2);
    let (mut writer, mut reader) = (server.connect(), server.connect());
    reader.subscribe("a").unwrap();
    for number in 0..200i64 {
        writer.send(&update(0, Verb::AddAndSet, "a", ValueType::Int64, &number.to_be_bytes()));
    }
    assert_eq!(reader.next(), Seen::Subscribed("a".into(), TopicType::Int64));
    // The subscription starts with the value of the moment; behind it nothing is left out, because the reader keeps up.
    let mut last = None;
    while last != Some(199) {
        let Seen::Value(_, value) = reader.next() else { panic!("only values come") };
        let number = i64::from_be_bytes(value.try_into().unwrap());
        assert!(last.is_none_or(|last| number == last + 1), "{number} behind {last:?}");
        last = Some(number);
    }
}

#[test]
fn several_frames_in_one_message_are_several_requests() {
    let server = Server::start(2);
    let mut session = server.connect();
    session.send_batch(&[10, 11, 12].map(|id| update(id, Verb::AddAndSet, "a", ValueType::Json, b"1")));
    let mut answers: Vec<Seen> = (0..3).map(|_| session.next()).collect();
    answers.sort_by_key(|seen| if let Seen::Ok(id, _) = seen { *id } else { 0 });
    assert_eq!(answers, [Seen::Ok(10, vec![1]), Seen::Ok(11, vec![0]), Seen::Ok(12, vec![0])]);
}

#[test]
fn a_topic_removed_and_added_again_takes_another_type() {
    let server = Server::start(2);
    let mut session = server.connect();
    session.add("a", ValueType::Json).unwrap();
    assert_eq!(session.add("a", ValueType::String), Err(Refused { code: 203, position: None }));
    session.remove("a").unwrap();
    assert_eq!(session.add("a", ValueType::String), Ok(true));
}
