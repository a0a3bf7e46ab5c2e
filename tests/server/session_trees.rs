//! Branch mapping tables: what paths mean to whom, over sockets, across shards and restarts, and by `tidewire session-tree`.

use crate::client::{Refused, Seen, Session, connect_ask};
use crate::requests::series_of_json;
use crate::server::{Directory, Server};
use tidewire::surface::topic::specification::TopicType;
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::{Ask, Fetch, Outcome, Query, Request, decode_session_tree, decode_session_trees};
use tidewire::surface::wire::varint::Reader;

const BRANCH_MAPPINGS: u8 = 4;
const ADDED: u8 = 1;
const REMOVED: u8 = 2;
const SELECTED: u8 = 3;
const DESELECTED: u8 = 4;

/// A session of this tier; of none where that is empty.
fn connect(server: &Server, tier: &'static str) -> Session {
    let mut ask = connect_ask(60_000, "", 0);
    let Ask::Connect { properties, .. } = &mut ask else { unreachable!() };
    properties.extend((!tier.is_empty()).then(|| ("Tier".into(), tier.into())));
    Session::open(server.address, ask)
}

fn put(session: &mut Session, branch: &str, rows: &[(&str, &str)]) -> Result<(), Refused> {
    let mappings = rows.iter().map(|(filter, branch)| ((*filter).to_owned().into(), (*branch).to_owned().into())).collect();
    let branch = branch.to_owned().into();
    session.ask(|id| Request { id, ask: Ask::PutSessionTree { branch, mappings } }).map(|body| assert!(body.is_empty()))
}

fn rows(session: &mut Session, branch: &'static str) -> Vec<(String, String)> {
    let body = session.ask(|id| Request { id, ask: Ask::GetSessionTree { branch: branch.into() } }).unwrap();
    let Ok(Outcome::SessionTree(rows)) = decode_session_tree(&mut Reader(&body)) else { panic!("rows") };
    rows.into_iter().map(|row| (row.filter, row.branch)).collect()
}

fn branches(session: &mut Session, after: &'static str) -> Vec<String> {
    let body = session.ask(|id| Request { id, ask: Ask::ListSessionTrees { after: after.into() } }).unwrap();
    let Ok(Outcome::SessionTrees { has_more: false, branches }) = decode_session_trees(&mut Reader(&body)) else { panic!("branches") };
    branches
}

fn set_tier(session: &mut Session, of: &Session, tier: &'static str) {
    let (target, properties) = (of.id.clone().into(), vec![("Tier".into(), tier.into())]);
    session.ask(|id| Request { id, ask: Ask::SetSessionProperties { session: target, filter: "".into(), properties } }).unwrap();
}

fn set(session: &mut Session, path: &str, value: &str) {
    session.add_and_set(path, ValueType::Json, value.as_bytes()).unwrap();
}

/// What is said of the topics next, in short.
fn hears(session: &mut Session, expected: &[&str]) {
    for expected in expected {
        let heard = loop {
            match session.next() {
                Seen::Subscribed(path, _) => break format!("+{path}"),
                Seen::Value(path, value) => break format!("{path}={}", String::from_utf8_lossy(&value)),
                Seen::Unsubscribed(path, BRANCH_MAPPINGS) => break format!("-{path}"),
                Seen::Event(path, event) => break format!("{path}#{}={}", event.sequence, String::from_utf8_lossy(&event.value)),
                Seen::Ping | Seen::Pong | Seen::Ok(..) | Seen::Received(_) | Seen::Welcome => {}
                other => panic!("{other:?} instead of {expected}"),
            }
        };
        assert_eq!(heard, *expected);
    }
}

const TABLE: &[(&str, &str)] =
    &[("Tier is 'gold'", "backend/current"), ("Tier is 'silver'", "backend/standard"), ("$Principal is ''", "backend/delayed")];

fn fill(session: &mut Session) {
    for (branch, value) in [("current", "1"), ("standard", "2"), ("delayed", "3")] {
        set(session, &format!("backend/{branch}/X"), value);
    }
    set(session, "market/other", "0");
}

#[test]
fn the_same_path_means_to_each_what_its_row_says() {
    let server = Server::start(3);
    let mut writer = connect(&server, "writer");
    put(&mut writer, "market/prices", &TABLE[..2]).unwrap();
    fill(&mut writer);
    for (tier, value) in [("gold", "1"), ("silver", "2")] {
        for selector in ["market/prices/X", "?market/prices//", "?market/.*/X", "*market/p.*"] {
            let mut session = connect(&server, tier);
            session.subscribe(selector).unwrap();
            hears(&mut session, &["+market/prices/X", &format!("market/prices/X={value}")]);
            // The answer has come behind all of it.
            let is_of_topic = |seen: &Seen| matches!(seen, Seen::Subscribed(..) | Seen::Value(..) | Seen::Unsubscribed(..));
            assert!(!session.settle().iter().any(is_of_topic), "{tier} {selector}");
        }
    }
    // To whom no row means anything else there is no topic.
    let mut other = connect(&server, "lead");
    other.subscribe("?market//").unwrap();
    hears(&mut other, &["+market/other", "market/other=0"]);
    // Updates are told in their order, as deltas too, and topics that come later are found.
    let mut gold = connect(&server, "gold");
    gold.subscribe("?market/prices//").unwrap();
    hears(&mut gold, &["+market/prices/X", "market/prices/X=1"]);
    for number in 10..20 {
        set(&mut writer, "backend/current/X", &number.to_string());
    }
    set(&mut writer, "backend/current/a/Y", "5");
    let steps: Vec<String> = (10..20).map(|number| format!("market/prices/X={number}")).collect();
    hears(&mut gold, &steps.iter().map(String::as_str).collect::<Vec<_>>());
    hears(&mut gold, &["+market/prices/a/Y", "market/prices/a/Y=5"]);
    assert_eq!(writer.remove("backend/current/X"), Ok(1));
    assert_eq!(gold.next(), Seen::Unsubscribed("market/prices/X".to_owned(), 2));
}

#[test]
fn a_table_or_a_property_that_changes_moves_who_is_subscribed() {
    let server = Server::start(2);
    let mut writer = connect(&server, "writer");
    fill(&mut writer);
    set(&mut writer, "market/prices/X", "9");
    let mut reader = connect(&server, "gold");
    reader.subscribe("?market/prices//").unwrap();
    hears(&mut reader, &["+market/prices/X", "market/prices/X=9"]);
    put(&mut writer, "market/prices", TABLE).unwrap();
    hears(&mut reader, &["-market/prices/X", "+market/prices/X", "market/prices/X=1"]);
    for (tier, value) in [("silver", 2), ("lead", 3), ("", 3), ("gold", 1)] {
        set_tier(&mut writer, &reader, tier);
        if tier.is_empty() {
            continue;
        }
        hears(&mut reader, &["-market/prices/X", "+market/prices/X", &format!("market/prices/X={value}")]);
    }
    put(&mut writer, "market/prices", &[]).unwrap();
    hears(&mut reader, &["-market/prices/X", "+market/prices/X", "market/prices/X=9"]);
    put(&mut writer, "market/prices/X", &[("all", "backend/standard/X")]).unwrap();
    hears(&mut reader, &["-market/prices/X", "+market/prices/X", "market/prices/X=2"]);
    // What is given up while the table stands is given up.
    reader.unsubscribe("?market/prices//").unwrap();
    put(&mut writer, "market/prices/X", &[]).unwrap();
    reader.subscribe("market/other").unwrap();
    assert_eq!(reader.next(), Seen::Unsubscribed("market/prices/X".to_owned(), 1));
    hears(&mut reader, &["+market/other"]);
}

#[test]
fn a_fetch_names_what_the_session_finds() {
    let server = Server::start(3);
    let mut writer = connect(&server, "writer");
    put(&mut writer, "m", &[("Tier is 'gold'", "x")]).unwrap();
    for (path, value) in [("x/1", "1"), ("x/2", "2"), ("x/2/a", "3"), ("m/1", "hidden"), ("m/9", "hidden"), ("l", "4"), ("n", "5")] {
        writer.add_and_set(path, ValueType::String, value.as_bytes()).unwrap();
    }
    let mut gold = connect(&server, "gold");
    let found = |session: &mut Session, selector: &str, after: &str, first: u64| -> Vec<String> {
        let (_, entries) = session.fetch(selector, after, first).unwrap();
        entries
            .iter()
            .map(|entry| format!("{}={}", entry.path, String::from_utf8_lossy(entry.value.as_deref().unwrap_or_default())))
            .collect()
    };
    assert_eq!(found(&mut gold, "?.*//", "", 0), ["l=4", "m/1=1", "m/2=2", "m/2/a=3", "n=5", "x/1=1", "x/2=2", "x/2/a=3"]);
    assert_eq!(found(&mut gold, "?.*//", "l", 2), ["m/1=1", "m/2=2"]);
    assert_eq!(found(&mut gold, "?.*//", "m/2", 2), ["m/2/a=3", "n=5"]);
    assert_eq!(found(&mut gold, "?m/", "", 0), ["m/1=1", "m/2=2", "m/2/a=3"]);
    assert_eq!(found(&mut gold, "m/2", "", 0), ["m/2=2"]);
    assert_eq!(found(&mut gold, "m/9", "", 0), [""; 0]);
    assert_eq!(found(&mut writer, "?m//", "", 0), ["m/1=hidden", "m/9=hidden"]);
    let deep = Fetch { selector: "?.*//".into(), depth: 1, depth_limit: 1, ..Fetch::default() };
    let (has_more, entries) = gold.fetch_page(deep).unwrap();
    assert_eq!((has_more, entries.iter().map(|entry| &*entry.path).collect::<Vec<_>>()), (true, vec!["l", "m/1", "n", "x/1"]));
}

#[test]
fn listeners_to_topics_are_told_of_session_paths() {
    let server = Server::start(2);
    let mut writer = connect(&server, "writer");
    put(&mut writer, "m", &[("Tier is 'gold'", "x"), ("Tier is 'silver'", "y")]).unwrap();
    for path in ["x/1", "y/2", "m/3"] {
        writer.add(path, ValueType::Json).unwrap();
    }
    let mut gold = connect(&server, "gold");
    gold.listen(1, 1, "?m/").unwrap();
    // What several shards tell of several paths comes in any order.
    let hears = |session: &mut Session, expected: &[(u8, &str)]| {
        let mut heard = Vec::new();
        while heard.len() < expected.len() {
            if let Seen::TopicNotice { what, path, .. } = session.next() {
                heard.push((what, path));
            }
        }
        heard.sort();
        let mut expected: Vec<(u8, String)> = expected.iter().map(|(what, path)| (*what, (*path).to_owned())).collect();
        expected.sort();
        assert_eq!(heard, expected);
    };
    hears(&mut gold, &[(SELECTED, "m/1")]);
    writer.add("x/4", ValueType::Json).unwrap();
    assert_eq!(writer.remove("x/1"), Ok(1));
    hears(&mut gold, &[(ADDED, "m/4"), (REMOVED, "m/1")]);
    set_tier(&mut writer, &gold, "silver");
    hears(&mut gold, &[(DESELECTED, "m/4"), (SELECTED, "m/2")]);
    put(&mut writer, "m", &[]).unwrap();
    hears(&mut gold, &[(DESELECTED, "m/2"), (SELECTED, "m/3")]);
}

#[test]
fn a_time_series_is_one_at_any_path() {
    let server = Server::start(2);
    let mut writer = connect(&server, "writer");
    let range = [("TIME_SERIES_SUBSCRIPTION_RANGE", "limit 2")];
    writer.add_with("x/s", TopicType::TimeSeries, &series_of_json(&range)).unwrap();
    for number in 0..5 {
        writer.append_json("x/s", &number.to_string());
    }
    put(&mut writer, "m", &[("Tier is 'gold'", "x")]).unwrap();
    let (mut gold, mut other) = (connect(&server, "gold"), connect(&server, "gold"));
    gold.subscribe("m/s").unwrap();
    other.subscribe("?.*//").unwrap();
    hears(&mut gold, &["+m/s", "m/s#3=3", "m/s#4=4"]);
    let query = |session: &mut Session| session.query("m/s", Query::default()).map(|(_, events)| events.len());
    assert_eq!((query(&mut gold), query(&mut writer)), (Ok(5), Err(Refused { code: 202, position: None })));
    writer.append_json("x/s", "5");
    hears(&mut gold, &["m/s#5=5"]);
    let mut seen: Vec<String> = Vec::new();
    while seen.len() < 6 {
        if let Seen::Event(path, event) = other.next() {
            seen.push(format!("{path}#{}", event.sequence));
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, ["m/s#3", "m/s#4", "m/s#5", "x/s#3", "x/s#4", "x/s#5"], "under both its paths");
}

#[test]
fn tables_are_found_again_after_a_restart() {
    let directory = Directory::new("session-trees");
    let start = |shards| Server::start_with(shards, &[("STORAGE_DIRECTORY", directory.name())]);
    let mut server = start(2);
    let mut writer = connect(&server, "writer");
    put(&mut writer, "a", &[("all", "gone")]).unwrap();
    for rows in [&TABLE[..1], TABLE] {
        put(&mut writer, "market/prices", rows).unwrap();
    }
    put(&mut writer, "z", &[("has Tier", "y")]).unwrap();
    put(&mut writer, "a", &[]).unwrap();
    fill(&mut writer);
    for shards in [3, 1] {
        server.kill();
        drop(server);
        server = start(shards);
        let mut session = connect(&server, "silver");
        assert_eq!(branches(&mut session, ""), ["market/prices", "z"]);
        let expected = ["Tier is \"gold\"", "Tier is \"silver\"", "$Principal is \"\""];
        let found = rows(&mut session, "market/prices");
        assert_eq!(found.iter().map(|(filter, _)| &**filter).collect::<Vec<_>>(), expected);
        session.subscribe("?market/prices//").unwrap();
        hears(&mut session, &["+market/prices/X", "market/prices/X=2"]);
    }
}

#[test]
fn what_is_no_table_is_refused_and_changes_nothing() {
    let server = Server::start_with(2, &[("SESSION_TREES_TABLES_MAX", "2"), ("SESSION_TREES_ROWS_MAX", "2")]);
    let mut session = connect(&server, "");
    let refused = |code: u16, position: usize| Err(Refused { code, position: Some(position) });
    assert_eq!(put(&mut session, "a//b", TABLE), refused(200, 2));
    assert_eq!(put(&mut session, "Tidewire/x", TABLE), refused(209, 0));
    assert_eq!(put(&mut session, "a", &[("all", "b"), ("Tier si 'x'", "b")]), refused(325, 5));
    assert_eq!(put(&mut session, "a", &[("all", "b/")]), refused(325, 1));
    assert_eq!(put(&mut session, "a", TABLE), Err(Refused { code: 326, position: None }));
    assert_eq!(branches(&mut session, ""), [""; 0]);
    for branch in ["a", "b"] {
        put(&mut session, branch, &[("all", "x")]).unwrap();
    }
    assert_eq!(put(&mut session, "c", &[("all", "x")]), Err(Refused { code: 326, position: None }));
    put(&mut session, "b", &[("all", "y")]).unwrap();
    put(&mut session, "c", &[]).unwrap();
    assert_eq!((branches(&mut session, ""), branches(&mut session, "a")), (vec!["a".to_owned(), "b".to_owned()], vec!["b".to_owned()]));
    assert_eq!((rows(&mut session, "b"), rows(&mut session, "c")), (vec![("all".to_owned(), "y".to_owned())], Vec::new()));
}

#[test]
fn the_command_line_puts_prints_and_takes_away() {
    let server = Server::start(2);
    let check = |arguments: &[&str], code: i32, says: &str| {
        let output = server.command(&[&["session-tree"], arguments].concat());
        let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
        match code {
            0 => assert_eq!(printed.trim_end(), says, "{arguments:?}"),
            _ => assert!(errors.contains(says), "{arguments:?}: {errors}"),
        }
    };
    check(&["put", "market/prices", "Tier is 'gold'", "backend/current", "all", "backend/delayed"], 0, "");
    check(&["put", "a", "all", "b"], 0, "");
    check(&["list"], 0, "{\"branch\":\"a\"}\n{\"branch\":\"market/prices\"}");
    check(
        &["get", "market/prices", "--json"],
        0,
        "{\"filter\":\"Tier is \\\"gold\\\"\",\"branch\":\"backend/current\"}\n{\"filter\":\"all\",\"branch\":\"backend/delayed\"}",
    );
    check(&["get", "market"], 0, "");
    check(&["remove", "a"], 0, "");
    check(&["list", "--json"], 0, "{\"branch\":\"market/prices\"}");
    check(&["put", "a", "all"], 2, "2 values required");
    check(&["put", "a", "all", "b", "has Tier"], 2, "expected a branch of topics behind the filter 'has Tier'");
    check(&["put", "a", "al", "b"], 1, "error 325 invalid_branch_mapping: the filter of row 1: ");
}
