//! The native protocol's operations.

use super::Verdict::{Harmless, Refused};
use super::{MARK, Verdict, assert_unmarked};
use crate::frames::{BINARY, FIN, TEXT, parse_frames};
use crate::permissions;
use crate::server::{Client, Server};
use crate::vectors::{bytes, vectors};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tidewire::surface::shard::{Limits, Storing};
use tidewire::surface::wire::native::{self, Heard, OPERATIONS};
use tidewire::surface::wire::text;

/// What roles permit: the three that clients have here by their names. `nobody` is not set, and has nothing.
const ROLES: [&str; 3] = ["admin", MARK, "former"];

/// The session that the vectors name; the third of these servers is named so in its place.
const NAMED: &str = "0000000000000007-30002";

const WITHOUT_ONE: &str = "what it goes on with does not exist without an operation that is refused";
const LESS: &str = "nobody needs leave to have less";
const OWN: &str = "it is about the session itself, which everybody has who is let in";

/// What becomes of each operation.
const VERDICTS: &[(&str, Verdict)] = &[
    ("connect", Harmless(OWN)),
    ("ping", Harmless(OWN)),
    ("pong", Harmless(OWN)),
    ("close", Harmless(OWN)),
    ("processed", Harmless(OWN)),
    ("add", Refused),
    ("set", Refused),
    ("add_and_set", Refused),
    ("update", Refused),
    ("remove", Refused),
    ("fetch", Refused),
    ("subscribe", Refused),
    ("unsubscribe", Harmless(LESS)),
    ("unsubscribe_all_scopes", Harmless(LESS)),
    ("listen", Refused),
    ("unlisten", Harmless(LESS)),
    ("stream_open", Refused),
    ("stream_set", Harmless(WITHOUT_ONE)),
    ("stream_delta", Harmless(WITHOUT_ONE)),
    ("stream_close", Harmless(LESS)),
    ("append", Refused),
    ("edit", Refused),
    ("query", Refused),
    ("handle_requests", Refused),
    ("unhandle_requests", Harmless(LESS)),
    ("request", Refused),
    ("request_session", Refused),
    ("request_filter", Refused),
    ("respond", Harmless(WITHOUT_ONE)),
    ("reject", Harmless(WITHOUT_ONE)),
    ("list_sessions", Refused),
    ("close_sessions", Refused),
    ("set_session_properties", Refused),
    ("conflate_sessions", Refused),
    ("subscribe_sessions", Refused),
    ("unsubscribe_sessions", Refused),
    ("list_selections", Refused),
    ("change_roles", Refused),
    ("handle_authentication", Refused),
    ("authenticate", Harmless("who somebody is, is asked of the authenticators")),
    ("get_security", Refused),
    ("apply_security", Refused),
    ("get_principals", Refused),
    ("apply_principals", Refused),
    ("listen_sessions", Refused),
    ("listen_queues", Refused),
    ("listen_presence", Refused),
    ("unlisten_sessions", Harmless(LESS)),
    ("list_presence", Refused),
    ("create_view", Refused),
    ("remove_view", Refused),
    ("list_views", Refused),
    ("get_view", Refused),
    ("lock", Refused),
    ("unlock", Harmless(LESS)),
    ("list_locks", Refused),
    ("put_session_tree", Refused),
    ("get_session_tree", Refused),
    ("list_session_trees", Harmless("only those are listed whose branch may be read")),
];

/// Of a session that has had a role: what it goes on with is there, and it may not.
const VERDICTS_OF_FORMER: &[(&str, Verdict)] = &[("stream_set", Refused), ("stream_delta", Refused)];

fn verdict(name: &str, is_former: bool) -> Verdict {
    let of_former = VERDICTS_OF_FORMER.iter().filter(|_| is_former);
    let mut found = of_former.chain(VERDICTS).filter(|(of, _)| *of == name);
    found.next().unwrap_or_else(|| panic!("{name} has no verdict: what does it need?")).1
}

fn limits() -> Limits {
    let paths = "[SELECT_TOPIC, READ_TOPIC, UPDATE_TOPIC, MODIFY_TOPIC, ACQUIRE_LOCK, SEND_TO_SESSION, SEND_TO_MESSAGE_HANDLER, \
        QUERY_OBSOLETE_TIME_SERIES_EVENTS, EDIT_TIME_SERIES_EVENTS, EDIT_OWN_TIME_SERIES_EVENTS, EXPOSE_BRANCH]";
    let global = "[VIEW_SESSION, MODIFY_SESSION, REGISTER_HANDLER, AUTHENTICATE, VIEW_SERVER, CONTROL_SERVER, VIEW_SECURITY, \
        MODIFY_SECURITY, READ_TOPIC_VIEWS, MODIFY_TOPIC_VIEWS]";
    let script = ROLES.map(|role| format!("set \"{role}\" default path permissions {paths}\nset \"{role}\" permissions {global}\n"));
    let principals = format!("add principal \"{MARK}\" hash \"{MARK}\" []\n").into();
    Limits { principals, questions_max: 50, listeners_max: 10, connections_max: 200, ..permissions::limits(&script.concat()) }
}

/// A server, and who is connected to it.
struct Stage {
    server: Server,
    admin: Client,
    /// Who walks.
    walker: Client,
    /// Somebody else, whose sessions, locks and properties are not the walker's concern.
    keeper: Client,
    is_text: bool,
}

impl Stage {
    fn of(is_text: bool, principal: &str) -> Self {
        let mut server = Server::with(Storing::Off, limits());
        let protocol = if is_text { "tidewire.1.json" } else { "tidewire.1" };
        let admin = server.connect_as("tidewire.1.json", "admin");
        let walker = server.connect_as(protocol, principal);
        let keeper = server.connect_as("tidewire.1.json", MARK);
        let welcome = server.take(keeper);
        assert_eq!(welcome[0]["session"], named(), "the third session");
        Self { server, admin, walker, keeper, is_text }
    }

    fn order(&mut self, message: Value) {
        self.server.ok(self.admin, message);
    }

    /// Something of every kind, with the mark in its names and values, also where the vectors look for it.
    fn seed(&mut self) {
        let keeper = self.keeper;
        for path in ["a", "a/b", "a/c", "s3cr3t", "s3cr3t/x", "größe/€", "back/x"] {
            self.order(json!({ "op": "add_and_set", "path": path, "type": "json", "value": { "x": MARK } }));
        }
        for (path, event_type, value) in [("t/s", "double", json!(1.5)), ("s3cr3t/series", "string", json!(MARK))] {
            let properties = json!({ "TIME_SERIES_EVENT_VALUE_TYPE": event_type });
            self.order(json!({ "op": "add_and_set", "path": path, "type": "time_series", "properties": properties, "value": value }));
            self.order(json!({ "op": "append", "path": path, "type": event_type, "value": value }));
        }
        for name in ["n", MARK] {
            self.order(
                json!({ "op": "create_view", "name": name, "definition": format!("map ?s3cr3t// to made/{name}/s3cr3t/<path(1)>") }),
            );
        }
        for (branch, filter) in [("a/b", "$Principal is 's3cr3t'"), ("s3cr3t/tree", "all")] {
            let mappings = json!([{ "filter": filter, "branch": "s3cr3t" }]);
            self.order(json!({ "op": "put_session_tree", "branch": branch, "mappings": mappings }));
        }
        for name in ["a/b", "größe", "s3cr3t/lock"] {
            self.server.ok(keeper, json!({ "op": "lock", "name": name }));
        }
        for (handler, path) in [(1, "orders/eu"), (2, "s3cr3t/orders")] {
            let properties = json!(["$Principal", "Tier"]);
            self.order(json!({ "op": "handle_requests", "handler": handler, "path": path, "session_properties": properties }));
        }
        self.order(json!({ "op": "set_session_properties", "session": named(), "properties": { "Tier": MARK } }));
        self.order(json!({ "op": "listen", "listener": 9, "kind": "missing", "selector": "a" }));
        self.server.ok(keeper, json!({ "op": "subscribe", "selector": "?.*//" }));
        self.take_others();
    }

    /// All that somebody else could notice happens.
    fn stir(&mut self) {
        let keeper = self.keeper;
        self.order(json!({ "op": "subscribe_sessions", "filter": "not $Principal is 'admin'", "selector": "?.*//" }));
        self.order(json!({ "op": "conflate_sessions", "session": named(), "conflated": true }));
        for path in ["a/b", "s3cr3t/x", "größe/€"] {
            self.order(json!({ "op": "set", "path": path, "type": "json", "value": { "x": "s3cr3t, again" } }));
        }
        self.order(json!({ "op": "append", "path": "t/s", "type": "double", "value": 2.5 }));
        self.order(json!({ "op": "add_and_set", "path": "a/s3cr3t", "type": "string", "value": MARK }));
        self.order(json!({ "op": "remove", "selector": ">a/c" }));
        self.order(json!({ "op": "create_view", "name": "s3cr3t more", "definition": "map ?a// to made/s3cr3t/more/<path(1)>" }));
        self.order(json!({ "op": "put_session_tree", "branch": "a", "mappings": [{ "filter": "all", "branch": "s3cr3t" }] }));
        self.order(json!({ "op": "set_session_properties", "session": named(), "properties": { "Tier": "s3cr3t, too" } }));
        for path in ["orders/eu/7", "s3cr3t/orders/7", "own/s3cr3t"] {
            self.server.ask(keeper, json!({ "op": "request", "id": 3, "path": path, "type": "json", "value": MARK }));
        }
        self.server.ok(keeper, json!({ "op": "subscribe", "selector": ">a/d" }));
        self.server.ok(keeper, json!({ "op": "subscribe", "selector": ">own/none" }));
        let later = self.server.connect_as("tidewire.1.json", MARK);
        self.server.take(later);
        self.order(json!({ "op": "apply_security", "script": "isolate path \"s3cr3t\"" }));
        self.server.close(later);
        self.server.close(keeper);
    }

    fn take_others(&mut self) -> Vec<Value> {
        [self.admin, self.keeper].into_iter().flat_map(|client| self.server.take(client)).collect()
    }

    /// What there is, as who may see it all does.
    fn look(&mut self) -> Vec<Value> {
        let mut sessions = self.server.ok(self.admin, json!({ "op": "list_sessions" }));
        for session in sessions["sessions"].as_array_mut().expect("a list") {
            for figure in ["sent_bytes", "sent_bytes_per_s"] {
                session.as_object_mut().expect("an object").remove(figure);
            }
        }
        [self.look_but_sessions(), vec![sessions]].concat()
    }

    fn look_but_sessions(&mut self) -> Vec<Value> {
        let looks = [
            json!({ "op": "fetch", "selector": "?.*//", "values": true, "with_properties": true }),
            json!({ "op": "list_views" }),
            json!({ "op": "list_locks" }),
            json!({ "op": "list_session_trees" }),
            json!({ "op": "get_session_tree", "branch": "a/b" }),
            json!({ "op": "get_security" }),
            json!({ "op": "get_principals" }),
            json!({ "op": "list_selections", "session": named() }),
        ];
        looks.map(|look| self.server.ok(self.admin, look)).into()
    }

    fn give(&mut self, client: Client, message: &[u8]) -> Vec<u8> {
        self.server.give(client, FIN | if self.is_text { TEXT } else { BINARY }, message);
        self.server.take_bytes(client)
    }

    /// The walker says each, and is answered by the verdict; nobody notices what is refused, and nothing is different behind it.
    fn check(&mut self, group: &[Example], is_former: bool) -> Vec<Vec<u8>> {
        let before = self.look();
        group.iter().map(|example| self.check_one(example, is_former, &before)).collect()
    }

    fn check_one(&mut self, example: &Example, is_former: bool, before: &[Value]) -> Vec<u8> {
        let answer = self.give(self.walker, &example.message);
        let Some(op) = example.op else { return answer };
        let is_refused = codes(&answer, example.is_text) == [110];
        assert_eq!(is_refused, verdict(op, is_former) == Refused, "{}: {}", example.about, shown(&answer));
        if is_refused {
            let others = self.take_others();
            assert!(others.is_empty(), "{}: {others:?}", example.about);
            for (behind, before) in self.look().iter().zip(before) {
                assert_eq!(behind, before, "{}", example.about);
            }
        }
        answer
    }

    /// Gives what the walker is sent when time passes.
    fn settle(&mut self) -> Vec<u8> {
        self.server.advance(100);
        self.server.advance(61_000);
        self.server.take_bytes(self.walker)
    }

    /// The walker asks for what it is granted, in its form.
    fn have(&mut self, mut message: Value) {
        message["id"] = 1.into();
        let mut bytes = message.to_string().into_bytes();
        if !self.is_text {
            let request = text::decode_request(std::str::from_utf8(&bytes).expect("a text")).expect("a request");
            let mut binary = Vec::new();
            native::put_request(&mut binary, &request);
            drop(request);
            bytes = binary;
        }
        let told = self.give(self.walker, &bytes);
        assert!(codes(&told, self.is_text).iter().all(|code| *code == 0), "{message}: {}", shown(&told));
    }

    /// The walker has all that its role allows, and then it has the role no more.
    fn revoke(&mut self) {
        for scope in ["", "chart"] {
            self.have(json!({ "op": "subscribe", "selector": "?a//", "scope": scope }));
        }
        self.have(json!({ "op": "subscribe", "selector": "?.*//", "scope": "s" }));
        for (listener, kind, selector) in [(1, "topics", "?.*//"), (2, "subscribers", "?.*//"), (300, "missing", "own")] {
            self.have(json!({ "op": "listen", "listener": listener, "kind": kind, "selector": selector }));
        }
        self.have(json!({ "op": "listen_sessions", "listener": 3, "session_properties": ["ALL_FIXED_PROPERTIES", "ALL_USER_PROPERTIES"] }));
        self.have(json!({ "op": "listen_queues", "listener": 4 }));
        for (listener, once) in [(5, false), (6, true)] {
            self.have(json!({ "op": "listen_presence", "listener": listener, "selector": "?.*//", "once": once }));
        }
        self.have(json!({ "op": "stream_open", "stream": 1, "path": "a/b", "type": "json" }));
        self.have(json!({ "op": "handle_requests", "handler": 3, "path": "own" }));
        self.have(json!({ "op": "lock", "name": "own" }));
        self.order(json!({ "op": "change_roles", "filter": "$Principal is 'former'", "remove": ["former"] }));
        self.server.take_bytes(self.walker);
        self.take_others();
    }
}

fn named() -> String {
    "0000000000000000-30000".to_owned()
}

/// One message of a client, as the vectors have it.
struct Example {
    about: String,
    /// None where it is not one whole request.
    op: Option<&'static str>,
    is_text: bool,
    message: Vec<u8>,
}

/// The vectors, in both forms, about a session that there is.
fn examples() -> Vec<Example> {
    let mut examples = Vec::new();
    for vector in vectors("client") {
        let message = bytes(&vector);
        let operation = OPERATIONS.iter().find(|operation| Some(&operation.op) == message.first() && !vector["message"].is_null());
        let example =
            |is_text, message| Example { about: vector["name"].to_string(), op: operation.map(|found| found.name), is_text, message };
        if !vector["text"].is_null() {
            examples.push(example(true, replace(vector["text"].to_string().as_bytes())));
        }
        examples.push(example(false, replace(&message)));
    }
    examples
}

/// The examples in the same form that are refused are one group, as they leave nothing behind, but for streams, which end; each of the others is its own.
fn groups(is_former: bool) -> Vec<Vec<Example>> {
    let leaves_nothing = |op| verdict(op, is_former) == Refused && VERDICTS_OF_FORMER.iter().all(|(of, _)| *of != op);
    let (refused, others): (Vec<_>, Vec<_>) = examples().into_iter().partition(|example| example.op.is_some_and(leaves_nothing));
    let (text, binary): (Vec<_>, Vec<_>) = refused.into_iter().partition(|example| example.is_text);
    others.into_iter().map(|example| vec![example]).chain([text, binary]).collect()
}

fn about(group: &[Example]) -> String {
    format!("{} and {} more", group[0].about, group.len() - 1)
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The same about a session that there is.
fn replace(message: &[u8]) -> Vec<u8> {
    let named = named();
    let mut message = message.to_vec();
    while let Some(at) = message.windows(NAMED.len()).position(|window| window == NAMED.as_bytes()) {
        message[at..at + NAMED.len()].copy_from_slice(named.as_bytes());
    }
    message
}

/// What a session is told, as the codes of errors; 0 for anything else.
fn codes(sent: &[u8], is_text: bool) -> Vec<u64> {
    let mut codes = Vec::new();
    for (first, payload) in parse_frames(sent) {
        match (first & 0xf, is_text) {
            (TEXT, true) => {
                let event: Value = serde_json::from_slice(&payload).expect("JSON");
                codes.push(if event["op"] == "error" { event["code"].as_u64().expect("a code") } else { 0 });
            }
            (BINARY, false) => {
                let mut rest = &payload[..];
                while let Some(frame) = native::next_frame(&mut rest).expect("whole frames") {
                    let Ok(Heard::Error { code, .. }) = native::decode_event(frame) else {
                        codes.push(0);
                        continue;
                    };
                    codes.push(code.into());
                }
            }
            _ => codes.push(0),
        }
    }
    codes
}

#[test]
fn every_operation_of_the_table_has_a_verdict_and_examples_in_its_forms() {
    let table: BTreeSet<&str> = OPERATIONS.iter().map(|operation| operation.name).collect();
    let judged: BTreeSet<&str> = VERDICTS.iter().map(|(name, _)| *name).collect();
    assert_eq!(table, judged, "what does the operation need?");
    assert_eq!(VERDICTS.len(), judged.len(), "one verdict each");
    let examples = examples();
    for operation in OPERATIONS {
        let has = |is_text| examples.iter().any(|example| example.op == Some(operation.name) && example.is_text == is_text);
        assert!(has(false), "{}", operation.name);
        assert_eq!(has(true), !operation.is_binary_only, "{}", operation.name);
    }
}

#[test]
fn without_a_role_every_operation_is_refused_or_harmless_and_tells_nothing() {
    for group in groups(false) {
        let (is_text, about) = (group[0].is_text, about(&group));
        let mut full = Stage::of(is_text, "nobody");
        full.seed();
        let mut empty = Stage::of(is_text, "nobody");
        let [answers, answers_of_empty] = [&mut full, &mut empty].map(|stage| {
            stage.server.take_bytes(stage.walker);
            stage.check(&group, false)
        });
        full.stir();
        let (told, told_by_empty) = (full.settle(), empty.settle());
        for ((answer, of_empty), Example { about, .. }) in answers.iter().zip(&answers_of_empty).zip(&group) {
            assert_unmarked(answer, about);
            assert_eq!(shown(answer), shown(of_empty), "{about}: where there is nothing");
        }
        assert_unmarked(&told, &about);
        assert_eq!(shown(&told), shown(&told_by_empty), "{about}: where there is nothing");
    }
}

#[test]
fn who_has_lost_its_role_is_refused_the_same_and_told_nothing_more() {
    for group in groups(true) {
        let about = about(&group);
        let mut stages = [true, false].map(|_| {
            let mut stage = Stage::of(group[0].is_text, "former");
            stage.seed();
            stage.revoke();
            stage
        });
        let [answers, _] = stages.each_mut().map(|stage| stage.check(&group, true));
        stages[0].stir();
        let [told, of_quiet] = stages.each_mut().map(Stage::settle);
        answers.iter().for_each(|answer| assert_unmarked(answer, &about));
        assert_unmarked(&told, &about);
        assert_eq!(shown(&told), shown(&of_quiet), "{about}: where nothing happens");
    }
}

#[test]
fn a_client_that_has_no_session_is_told_nothing() {
    for is_text in [true, false] {
        let mut stage = Stage::of(is_text, "nobody");
        stage.seed();
        let before = stage.look_but_sessions();
        let mut told = Vec::new();
        for example in examples().iter().filter(|example| example.is_text == is_text) {
            stage.walker = stage.server.upgrade(if is_text { "tidewire.1.json" } else { "tidewire.1" });
            told.push((stage.walker, example.about.clone(), stage.give(stage.walker, &example.message)));
            assert!(stage.take_others().is_empty(), "{}", example.about);
        }
        assert_eq!(stage.look_but_sessions(), before);
        stage.stir();
        stage.settle();
        for (client, about, answer) in told {
            assert_unmarked(&[answer, stage.server.take_bytes(client)].concat(), &about);
        }
    }
}
