//! Topic views on a real server: over several shards, through an end, a kill and an export, and beside load.

use crate::client::{Refused, Session};
use crate::server::{Directory, PATIENCE, Server, tidewire};
use std::time::Instant;
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::{Ask, Outcome, Request, ViewEntry, decode_views};
use tidewire::surface::wire::varint::Reader;

impl Session {
    fn create_view(&mut self, name: &'static str, definition: &'static str) -> Result<bool, Refused> {
        let answer = self.ask(|id| Request { id, ask: Ask::CreateView { name: name.into(), definition: definition.into() } })?;
        Ok(answer == [1])
    }

    fn remove_view(&mut self, name: &'static str) -> Result<bool, Refused> {
        Ok(self.ask(|id| Request { id, ask: Ask::RemoveView { name: name.into() } })? == [1])
    }

    fn views(&mut self) -> Vec<ViewEntry> {
        let answer = self.ask(|id| Request { id, ask: Ask::ListViews { after: 0 } }).expect("it is granted");
        let Ok(Outcome::Views { views, .. }) = decode_views(&mut Reader(&answer)) else { panic!("no list of views") };
        views
    }

    fn set_json(&mut self, path: &str, json: &str) {
        self.add_and_set(path, ValueType::Json, json.as_bytes()).unwrap();
    }

    /// What is at the paths that the selector matches.
    fn found(&mut self, selector: &str) -> Vec<(String, String)> {
        let text = |value: Option<Vec<u8>>| String::from_utf8(value.unwrap_or_default()).expect("JSON is UTF-8");
        self.fetch_all(selector).into_iter().map(|entry| (entry.path, text(entry.value))).collect()
    }

    /// Waits until these stand: what a view makes of a topic follows it from shard to shard.
    fn wait_for(&mut self, selector: &str, expected: &[(&str, &str)]) {
        let expected: Vec<(String, String)> = expected.iter().map(|(path, json)| ((*path).into(), (*json).into())).collect();
        let started = Instant::now();
        while self.found(selector) != expected {
            assert!(started.elapsed() < PATIENCE, "{selector}: {:?}, not {expected:?}", self.found(selector));
        }
    }
}

fn names(views: &[ViewEntry]) -> Vec<(&str, u64)> {
    views.iter().map(|view| (&*view.name, view.place)).collect()
}

#[test]
fn what_a_view_makes_of_topics_that_are_there_stands_when_it_is_answered() {
    let server = Server::start(3);
    let (mut session, mut other) = (server.connect(), server.connect());
    for number in 0..200 {
        session.set_json(&format!("a/{number:03}"), &format!("{{\"x\":{number}}}"));
    }
    assert_eq!(session.create_view("v", "map ?a// to b/<path(1)> as <value(/x)>"), Ok(true));
    let found = other.found("?b//");
    assert_eq!(found.len(), 200);
    assert_eq!(found[7], ("b/007".into(), "7".into()));
    assert_eq!(session.create_view("v", "map ?a// to c/<path(1)> as <value(/x)>"), Ok(false));
    assert_eq!((other.found("?b//").len(), other.found("?c//").len()), (0, 200));
    assert_eq!(session.remove_view("v"), Ok(true));
    assert_eq!(other.found("?c//").len(), 0);
}

#[test]
fn views_and_their_places_outlive_the_server_and_what_they_make_comes_back() {
    let directory = Directory::new("views");
    let start = |shards| Server::start_with(shards, &[("STORAGE_DIRECTORY", directory.name())]);
    let mut server = start(2);
    let mut session = server.connect();
    for (name, definition) in
        [("first", "map a to x"), ("gone", "map a to y"), ("third/of them", "map ?b/ to x"), ("round", "map ?b/ to r/<path(1)>")]
    {
        assert_eq!(session.create_view(name, definition), Ok(true));
    }
    session.set_json("a", "1");
    session.set_json("b/1", "2");
    assert_eq!(session.create_view("first", "map ?[a] to x"), Ok(false));
    assert_eq!(session.remove_view("gone"), Ok(true));
    for (shards, is_killed) in [(3, true), (1, false), (2, true)] {
        if is_killed {
            server.kill();
        }
        drop((session, server));
        server = start(shards);
        session = server.connect();
        assert_eq!(names(&session.views()), [("first", 1), ("third/of them", 3), ("round", 4)], "{shards} shards, killed {is_killed}");
        session.wait_for("#x////?r//", &[("r/1", "2"), ("x", "1")]);
        assert_eq!(session.set("x", ValueType::Json, b"3"), Err(Refused { code: 234, position: None }));
    }
    assert_eq!(session.create_view("next", "map a to z"), Ok(true));
    assert_eq!(names(&session.views()).last(), Some(&("next", 5)));
    drop((session, server));

    let run = |arguments: &[&str]| {
        let output = tidewire(arguments).output().expect("the binary starts");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let (to, file) = (Directory::new("views-import"), Directory::new("views-lines"));
    assert!(run(&["storage", "check", "--data", directory.name()]).contains(" 4 views"));
    run(&["storage", "export", "--data", directory.name(), file.name()]);
    run(&["storage", "import", "--data", to.name(), file.name()]);
    std::fs::remove_file(&file.path).unwrap();
    let server = Server::start_with(2, &[("STORAGE_DIRECTORY", to.name())]);
    let mut session = server.connect();
    assert_eq!(names(&session.views()), [("first", 1), ("third/of them", 3), ("round", 4), ("next", 5)]);
    session.wait_for("#x////z////?r//", &[("r/1", "2"), ("x", "1"), ("z", "1")]);
}

#[test]
fn a_subscriber_follows_a_reference_topic_through_displacement_and_back() {
    let server = Server::start(2);
    let (mut session, mut reader) = (server.connect(), server.connect());
    reader.subscribe("b").unwrap();
    session.create_view("v", "map a to b").unwrap();
    session.set_json("a", "1");
    reader.wait_for_value("b", b"1");
    session.set_json("b", "\"mine\"");
    reader.wait_for_value("b", b"\"mine\"");
    session.set_json("a", "2");
    assert_eq!(session.remove("b"), Ok(1));
    reader.wait_for_value("b", b"2");
}

#[test]
fn what_is_no_view_is_refused_and_changes_nothing() {
    let server = Server::start(2);
    let mut session = server.connect();
    assert_eq!(session.create_view("v", "map ?a// too b"), Err(Refused { code: 231, position: Some(9) }));
    assert_eq!(session.create_view("v", "map ?a// to a/b/<path(1)>"), Err(Refused { code: 233, position: None }));
    assert_eq!(session.ask(|id| Request { id, ask: Ask::GetView { name: "v".into() } }), Err(Refused { code: 230, position: None }));
    assert_eq!(session.remove_view("v"), Ok(false));
    assert!(session.views().is_empty());
}

#[test]
fn so_many_views_are_the_most() {
    let server = Server::start_with(2, &[("VIEWS_VIEWS_MAX", "2"), ("STORAGE_EPHEMERAL", "true")]);
    let mut session = server.connect();
    session.create_view("a", "map a to x").unwrap();
    session.create_view("b", "map a to y").unwrap();
    assert_eq!(session.create_view("c", "map a to z"), Err(Refused { code: 232, position: None }));
    session.create_view("b", "map a to z").unwrap();
    session.remove_view("a").unwrap();
    session.create_view("c", "map a to z").unwrap();
}
