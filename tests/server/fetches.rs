//! Fetches of a part of path order, over two shards: ranges, the end first, types, branches, what is shown.

use crate::client::{Refused, Session};
use crate::requests::series_of_json;
use crate::server::Server;
use tidewire::surface::topic::specification::TopicType;
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::Fetch;

const PATHS: [&str; 9] = ["a", "a/1", "a/2", "a/2/x", "b", "b/1", "b/2", "c/1", "c/2"];

fn filled(server: &Server) -> Session {
    let mut session = server.connect();
    for path in PATHS {
        let json = format!("\"{path}\"");
        session.add_and_set(path, ValueType::Json, json.as_bytes()).unwrap();
    }
    session
}

/// What a fetch finds, and whether there is more.
fn check(fetch: Fetch<'static>, paths: &[&str], has_more: bool) {
    let server = Server::start(2);
    let fetch = Fetch { selector: "*.*".into(), ..fetch };
    let (more, entries) = filled(&server).fetch_page(fetch.clone()).unwrap();
    assert_eq!(entries.iter().map(|entry| &*entry.path).collect::<Vec<_>>(), paths, "{fetch:?}");
    assert_eq!(more, has_more, "{fetch:?}");
}

#[test]
fn ranges_have_two_ends_which_need_not_be_topics() {
    let of = || Fetch::default();
    check(Fetch { from: "a/2".into(), to: "b".into(), ..of() }, &["a/2", "a/2/x", "b"], false);
    check(Fetch { after: "a/2".into(), before: "b".into(), ..of() }, &["a/2/x"], false);
    check(Fetch { from: "a/11".into(), before: "b/0".into(), ..of() }, &["a/2", "a/2/x", "b"], false);
    check(Fetch { from: "c".into(), ..of() }, &["c/1", "c/2"], false);
    check(Fetch { from: "d".into(), ..of() }, &[], false);
    check(Fetch { from: "b".into(), to: "a".into(), ..of() }, &[], false);
}

#[test]
fn the_first_or_the_last_come() {
    let of = || Fetch::default();
    check(Fetch { first: 2, ..of() }, &["a", "a/1"], true);
    check(Fetch { last: 2, ..of() }, &["c/1", "c/2"], true);
    check(Fetch { last: 2, before: "c".into(), ..of() }, &["b/1", "b/2"], true);
    check(Fetch { last: 3, to: "a/2".into(), ..of() }, &["a", "a/1", "a/2"], false);
    check(Fetch { last: 9, ..of() }, &PATHS, false);
}

#[test]
fn of_deep_branches_some_topics_come() {
    let of = |depth, depth_limit| Fetch { depth, depth_limit, ..Fetch::default() };
    check(of(1, 1), &["a", "b", "c/1"], true);
    check(of(1, 2), &["a", "a/1", "b", "b/1", "c/1", "c/2"], true);
    check(of(1, 9), &PATHS, false);
}

#[test]
fn ends_that_do_not_go_together_are_refused() {
    let server = Server::start(2);
    let mut session = filled(&server);
    let of = || Fetch { selector: "*.*".into(), ..Fetch::default() };
    for fetch in [
        Fetch { from: "a".into(), after: "a".into(), ..of() },
        Fetch { to: "a".into(), before: "a".into(), ..of() },
        Fetch { first: 1, last: 1, ..of() },
        Fetch { depth: 1, ..of() },
        Fetch { depth_limit: 1, ..of() },
    ] {
        assert_eq!(session.fetch_page(fetch.clone()), Err(Refused { code: 208, position: None }), "{fetch:?}");
    }
}

#[test]
fn types_narrow() {
    let server = Server::start(2);
    let mut session = server.connect();
    session.add("int", ValueType::Int64).unwrap();
    session.add("json", ValueType::Json).unwrap();
    session.add_with("s/json", TopicType::TimeSeries, &series_of_json(&[])).unwrap();
    session.add_with("s/string", TopicType::TimeSeries, &[("TIME_SERIES_EVENT_VALUE_TYPE", "string")]).unwrap();
    let bit = |kind: TopicType| 1 << kind.number();
    let series = bit(TopicType::TimeSeries);
    for (types, paths) in [
        (bit(TopicType::Int64), &["int"][..]),
        (bit(TopicType::Int64) | bit(TopicType::Json), &["int", "json"]),
        (bit(TopicType::Json) | series, &["json", "s/json", "s/string"]),
        (bit(TopicType::Binary), &[]),
    ] {
        let (_, entries) = session.fetch_page(Fetch { selector: "*.*".into(), types, ..Fetch::default() }).unwrap();
        assert_eq!(entries.iter().map(|entry| &*entry.path).collect::<Vec<_>>(), paths, "{types:b}");
    }
}

#[test]
fn what_is_asked_for_is_shown() {
    let server = Server::start(2);
    let mut session = server.connect();
    session.add_with("a", TopicType::String, &[("PRIORITY", "low")]).unwrap();
    session.add_and_set("b", ValueType::String, b"four").unwrap();
    for bits in 0..8 {
        let (with_values, with_properties, with_sizes) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
        let fetch = Fetch { selector: "*.*".into(), with_values, with_properties, with_sizes, ..Fetch::default() };
        let (_, entries) = session.fetch_page(fetch).unwrap();
        assert_eq!((&entries[0].value, entries[1].value.as_deref()), (&None, with_values.then_some(&b"four"[..])));
        assert_eq!((entries[0].properties.len(), entries[1].properties.len()), (usize::from(with_properties), 0));
        assert_eq!((entries[0].size, entries[1].size), (None, with_sizes.then_some(4)));
    }
}

#[test]
fn bytes_bound_an_answer_and_all_come_in_pages() {
    let server = Server::start(2);
    let mut session = server.connect();
    for number in 0..20 {
        session.add_and_set(&format!("{number:02}"), ValueType::Binary, &[7; 1000]).unwrap();
    }
    for backward in [false, true] {
        let (mut found, mut edge) = (Vec::new(), String::new());
        loop {
            let mut fetch = Fetch { selector: "*.*".into(), with_values: true, bytes_max: 5000, ..Fetch::default() };
            let place = edge.clone().into();
            if backward {
                (fetch.last, fetch.before) = (100, place)
            } else {
                fetch.after = place
            }
            let (has_more, entries) = session.fetch_page(fetch).unwrap();
            assert!(!entries.is_empty() && entries.len() < 6, "{}", entries.len());
            let at_edge = if backward { entries.first() } else { entries.last() };
            edge.clone_from(&at_edge.unwrap().path);
            found.extend(entries.into_iter().map(|entry| entry.path));
            if !has_more {
                break;
            }
        }
        found.sort();
        assert_eq!(found, (0..20).map(|number| format!("{number:02}")).collect::<Vec<_>>());
    }
}
