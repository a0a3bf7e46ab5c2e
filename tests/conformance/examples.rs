//! *docs/topic-views.md*: every example in it is true, and its grammar is the parser's. Where clauses meet, `tests/data/topic-views.md` has
//! more examples.
//!
//! An example is a fenced block marked `view`, run on a server of its own. Its lines, in order:
//!
//! - `map …` or `NAME: map …`, gone on with by lines that are indented or start with `}`: creates a view. `refused: MESSAGE` behind it: it is refused.
//! - `PATH = VALUE`, `PATH (TYPE) = VALUE`, `PATH (TYPE, PROPERTY: VALUE, …) = VALUE`: sets a topic, which is JSON at first unless a type
//!   stands there; appends to a time series. Without a value, but with a type, it only makes the topic. `edit PATH NUMBER = VALUE` edits an event.
//! - `remove PATH`, `remove view NAME`, `after NUMBER seconds`.
//! - `→` before a line of that form: one of the reference topics; together, all that there are then. Values are the same but for white
//!   space outside of strings, properties as far as they stand there. A time series has an array. `→ nothing`: there are none.
//! - `✗ SOURCE: WHY` or `✗ NAME: SOURCE: WHY`: the last failure of a view. Views of which no such line tells have failed nowhere.

use crate::server::{Client, Server};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tidewire::surface::topic::specification::TopicType;
use tidewire::surface::value::json::{JsonLimits, plain};
use tidewire::surface::value::{ValueType, scalar};
use tidewire::surface::wire::native::{self, Ask, Entry, Fetch, Frame, Heard, Outcome, Query, Request, Shown};
use tidewire::surface::wire::varint::Reader;

const DOCUMENT: &str = include_str!("../../docs/topic-views.md");
const MORE: &str = include_str!("../data/topic-views.md");
const GRAMMAR: &str = include_str!("../../src/view/grammar.ebnf");

/// Fewer are found only where they are no longer recognized.
const EXAMPLES_MIN: usize = 60;

/// The name of a view that has none in its example.
const NAME: &str = "view";

/// The contents of a document's fenced blocks of one kind, each with the number of its first line.
fn blocks(document: &'static str, kind: &str) -> Vec<(usize, String)> {
    let (mut blocks, mut mark, mut content) = (Vec::new(), None, String::new());
    for (index, line) in document.lines().enumerate() {
        match (line.strip_prefix("```"), mark) {
            (Some(opened), None) => mark = Some((opened, index + 2)),
            (Some(rest), Some((opened, number))) => {
                assert!(rest.is_empty(), "line {}: a block in a block", index + 1);
                let content = std::mem::take(&mut content);
                blocks.extend((opened == kind).then_some((number, content)));
                mark = None;
            }
            (None, Some(_)) => content.extend([line, "\n"]),
            (None, None) => {}
        }
    }
    assert!(mark.is_none(), "the last block is closed");
    blocks
}

/// A topic as a line shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Topic {
    path: String,
    /// Empty where none stands there.
    kind: String,
    properties: BTreeMap<String, String>,
    /// Compact JSON.
    value: Option<String>,
}

impl Topic {
    fn parse(line: &str) -> Self {
        let (head, value) = line.split_once(" = ").map_or((line, None), |(head, value)| (head, Some(compact(value))));
        let inside = head.strip_suffix(')').and_then(|head| head.split_once(" ("));
        let (path, inside) = inside.unwrap_or((head, ""));
        let mut parts = inside.split(", ");
        let kind = parts.next().unwrap_or_default().to_owned();
        assert!(kind.is_empty() || TopicType::from_name(&kind).is_some(), "{line}: a type");
        assert!(!kind.is_empty() || value.is_some(), "{line}: none of the lines of an example");
        let properties = parts.map(|part| part.split_once(": ").unwrap_or_else(|| panic!("{line}: KEY: VALUE")));
        let properties = properties.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        Self { path: path.to_owned(), kind, properties, value }
    }
}

fn compact(json: &str) -> String {
    let json = plain::compact(json.as_bytes(), JsonLimits::default()).unwrap_or_else(|error| panic!("{json}: {error:?}"));
    String::from_utf8(json.into_owned()).expect("the compact form of a text is one")
}

/// A server on which an example happens.
struct Run {
    server: Server,
    client: Client,
    /// Values come as they are stored in the binary form.
    binary: Client,
    /// The client's own topics.
    kinds: BTreeMap<String, String>,
    /// Whether a failure of the view was told.
    views: BTreeMap<String, bool>,
}

impl Run {
    fn new() -> Self {
        let mut server = Server::new();
        let (client, binary) = (server.connect(), server.connect_binary(0));
        Self { server, client, binary, kinds: BTreeMap::new(), views: BTreeMap::new() }
    }

    fn create(&mut self, name: &str, text: &str) {
        self.server.ok(self.client, json!({ "op": "create_view", "name": name, "definition": text }));
        self.views.entry(name.to_owned()).or_default();
    }

    /// Sessions that say nothing for long are closed, so they are new afterwards.
    fn pass(&mut self, ms: u64) {
        self.server.close(self.client);
        self.server.close(self.binary);
        self.server.advance(ms);
        (self.client, self.binary) = (self.server.connect(), self.server.connect_binary(0));
    }

    fn check_refused(&mut self, name: &str, text: &str, expected: &str) {
        let told = self.server.ask(self.client, json!({ "op": "create_view", "id": 1, "name": name, "definition": text }));
        assert_eq!(told.last().map(|answer| answer["message"].clone()), Some(expected.into()), "{told:?}");
    }

    fn act(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("remove view ") {
            self.check_failures(name);
            self.views.remove(name);
            self.ok(json!({ "op": "remove_view", "name": name }));
        } else if let Some(path) = line.strip_prefix("remove ") {
            self.kinds.remove(path).unwrap_or_else(|| panic!("'{path}' was set"));
            self.ok(json!({ "op": "remove", "selector": format!(">{path}") }));
        } else if let Some(time) = line.strip_prefix("after ") {
            let seconds = time.strip_suffix(" seconds").or(time.strip_suffix(" second")).and_then(|number| number.parse().ok());
            let seconds: f64 = seconds.unwrap_or_else(|| panic!("{line}: a number of seconds"));
            self.pass((seconds * 1000.0) as u64);
        } else if let Some(edit) = line.strip_prefix("edit ") {
            let (head, value) = edit.split_once(" = ").expect("a value");
            let (path, original) = head.rsplit_once(' ').expect("a path and a number");
            self.update("edit", path, &format!(r#","original":{original}"#), value);
        } else {
            self.set(Topic::parse(line));
        }
    }

    fn set(&mut self, topic: Topic) {
        let Topic { path, kind, properties, value } = topic;
        let is_new = !self.kinds.contains_key(&path);
        let kind = if kind.is_empty() { "json" } else { &kind };
        let kind = self.kinds.entry(path.clone()).or_insert(kind.to_owned()).clone();
        let is_series = kind == "time_series";
        assert!(is_new || properties.is_empty(), "'{path}' is there already");
        if is_new && (is_series || value.is_none()) {
            self.ok(json!({ "op": "add", "path": path, "type": kind, "properties": properties }));
        }
        let Some(value) = value else { return };
        match (is_series, is_new) {
            (true, _) => self.update("append", &path, "", &value),
            (false, true) => self.update("add_and_set", &path, &format!(r#","properties":{}"#, json!(properties)), &value),
            (false, false) => self.update("set", &path, "", &value),
        }
    }

    /// An update in words that leave numbers as they are written.
    fn update(&mut self, op: &str, path: &str, more: &str, value: &str) {
        let kind = self.kinds.get(path).unwrap_or_else(|| panic!("'{path}' is there"));
        let kind = if kind == "time_series" { "json" } else { kind };
        let text = format!(r#"{{"op":"{op}","id":1,"path":{},"type":"{kind}"{more},"value":{value}}}"#, json!(path));
        let told = self.server.ask_text(self.client, &text);
        assert_eq!(told.last().map(|answer| &answer["op"]), Some(&json!("ok")), "{text}: {told:?}");
    }

    fn ok(&mut self, message: Value) {
        self.server.ok(self.client, message);
    }

    /// Lines that start with `→` or `✗`.
    fn check(&mut self, lines: &[&str]) {
        let (failures, topics): (Vec<&str>, Vec<&str>) = lines.iter().partition(|line| line.starts_with('✗'));
        if !topics.is_empty() {
            let expected: Vec<Topic> = match &topics[..] {
                ["→ nothing"] => Vec::new(),
                lines => lines.iter().map(|line| Topic::parse(line.strip_prefix("→ ").expect("white space"))).collect(),
            };
            let found = self.references(&expected);
            let as_set = |topics: Vec<Topic>| topics.into_iter().collect::<BTreeSet<_>>();
            assert_eq!(as_set(found), as_set(expected));
        }
        for failure in failures {
            let failure = failure.strip_prefix("✗ ").expect("white space");
            let named = failure.split_once(": ").filter(|(name, _)| self.views.contains_key(*name));
            let (name, expected) = named.unwrap_or((NAME, failure));
            assert_eq!(self.figures(name)["last_failure"], expected, "{name}");
            self.views.insert(name.to_owned(), true);
        }
    }

    /// Every topic that is not the client's, with its type and properties as far as `expected` tells of them.
    fn references(&mut self, expected: &[Topic]) -> Vec<Topic> {
        let fetch = Fetch { selector: "?.*//".into(), with_values: true, with_properties: true, ..Fetch::default() };
        let body = self.ask(&Request { id: 1, ask: Ask::Fetch { fetch: Box::new(fetch) } });
        let shown = Shown { values: true, properties: true, sizes: false };
        let Ok(Outcome::Page { has_more: false, entries, .. }) = native::decode_page(&mut Reader(&body), shown) else {
            panic!("one page of topics");
        };
        let entries = entries.into_iter().filter(|entry| !self.kinds.contains_key(&entry.path)).collect::<Vec<_>>();
        entries.into_iter().map(|entry| self.reference(entry, expected)).collect()
    }

    fn reference(&mut self, entry: Entry, expected: &[Topic]) -> Topic {
        let told = expected.iter().find(|topic| topic.path == entry.path);
        let kind = TopicType::from_number(entry.kind).expect("a type").name();
        let is_told = kind != "json" || told.is_some_and(|topic| !topic.kind.is_empty());
        let is_property_told = |key: &str| told.is_some_and(|topic| topic.properties.contains_key(key));
        let properties = entry.properties.iter().filter(|(key, _)| is_property_told(key));
        let properties = properties.map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let value = match kind {
            "time_series" => Some(self.events(&entry.path)),
            _ => entry.value.map(|value| json_text(entry.value_kind, &value)),
        };
        let kind = if is_told { kind } else { "" };
        Topic { path: entry.path, kind: kind.to_owned(), properties, value }
    }

    /// The values of a time series, edits in place of what they edit, as an array.
    fn events(&mut self, path: &str) -> String {
        let body = self.ask(&Request { id: 1, ask: Ask::Query { path: path.into(), query: Query::default() } });
        let Ok(Outcome::Events { kind, events, .. }) = native::decode_events(&mut Reader(&body)) else { panic!("events of {path}") };
        let values: Vec<String> = events.iter().map(|event| json_text(kind, &event.value)).collect();
        format!("[{}]", values.join(","))
    }

    /// The body of the answer.
    fn ask(&mut self, request: &Request<'_>) -> Vec<u8> {
        let told = self.server.ask_binary(self.binary, request);
        let answer = told.last().expect("an answer");
        match native::decode_event(Frame { op: answer[0], body: &answer[1..] }) {
            Ok(Heard::Ok { body, .. }) => body.to_vec(),
            _ => panic!("{request:?} is answered"),
        }
    }

    fn figures(&mut self, name: &str) -> Value {
        self.server.ok(self.client, json!({ "op": "get_view", "name": name }))["views"][0].clone()
    }

    fn check_failures(&mut self, name: &str) {
        if !self.views[name] {
            let figures = self.figures(name);
            assert_eq!(figures["failures"], 0, "{figures}");
        }
    }
}

fn json_text(kind: ValueType, value: &[u8]) -> String {
    let mut json = Vec::new();
    scalar::append_json(kind, value, &mut json);
    String::from_utf8(json).expect("JSON is a text")
}

/// A view's name and the start of its text, if the line is one.
fn view(line: &str) -> Option<(&str, &str)> {
    let is_view = |text: &str| text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("map "));
    match line.split_once(": ") {
        Some((name, text)) if is_view(text) => Some((name, text)),
        _ => is_view(line).then_some((NAME, line)),
    }
}

/// The texts of the views in an example.
fn check_example(text: &str) -> Vec<String> {
    let mut run = Run::new();
    let mut views = Vec::new();
    let mut results = 0;
    let mut lines = text.lines().filter(|line| !line.is_empty()).peekable();
    while let Some(line) = lines.next() {
        if let Some((name, start)) = view(line) {
            let mut text = start.to_owned();
            while let Some(more) = lines.next_if(|line| line.starts_with([' ', '}'])) {
                text.extend(["\n", more]);
            }
            match lines.next_if(|line| line.starts_with("refused: ")) {
                Some(refusal) => run.check_refused(name, &text, &refusal["refused: ".len()..]),
                None => run.create(name, &text),
            }
            results += usize::from(!run.views.contains_key(name));
            views.push(text);
        } else if line.starts_with(['→', '✗']) {
            let mut expected = vec![line];
            while let Some(line) = lines.next_if(|line| line.starts_with(['→', '✗'])) {
                expected.push(line);
            }
            run.check(&expected);
            results += 1;
        } else {
            run.act(line);
        }
    }
    assert!(results > 0, "an example has a result");
    for name in run.views.keys().cloned().collect::<Vec<_>>() {
        run.check_failures(&name);
    }
    views
}

#[test]
fn an_example_that_is_wrong_or_no_example_is_found() {
    for wrong in [
        "map a to b\na = 1\n→ b = 2",
        "map a to b\na = 1\n→ b = 1.0",
        "map a to b\na = 1\n→ b (string) = 1",
        "map a to b\na = 1\n→ b (json, PRIORITY: high) = 1",
        "map a to b\na = 1\n→ nothing",
        "map a to b\na = 1\n→ b = 1\n→ c = 1",
        "map a to b/<scalar(/x)>\na = 1\n→ nothing",
        "map a to b\na = 1\n→ b = 1\n✗ a: why",
        "map a to b\nrefused: line 1",
        "map a ot b\nrefused: line 1",
        "map a ot b\n→ nothing",
        "map a to b\na = 1",
        "map a to b\na = 1\nremvoe a\n→ nothing",
        "map a to b\na = {\n→ nothing",
        "map a to b\nafter a while\n→ nothing",
    ] {
        assert!(std::panic::catch_unwind(|| check_example(wrong)).is_err(), "{wrong}");
    }
}

fn check_document(document: &'static str) {
    let examples = blocks(document, "view");
    let is_true = |(number, text): &&(usize, String)| {
        let result = std::panic::catch_unwind(|| check_example(text));
        if result.is_err() {
            eprintln!("that was in the example at line {number}:\n{text}");
        }
        result.is_ok()
    };
    let wrong: Vec<usize> = examples.iter().filter(|example| !is_true(example)).map(|(number, _)| *number).collect();
    assert!(wrong.is_empty(), "{} examples are wrong, at lines {wrong:?}", wrong.len());
}

#[test]
fn every_example_is_true() {
    check_document(DOCUMENT);
    let count = blocks(DOCUMENT, "view").len();
    assert!(count >= EXAMPLES_MIN, "{count} examples");
}

#[test]
fn more_examples_are_true() {
    check_document(MORE);
}

#[test]
fn every_word_and_sign_of_the_grammar_stands_in_an_example() {
    let views: Vec<String> = blocks(DOCUMENT, "view").iter().flat_map(|(_, text)| check_example(text)).collect();
    let all = views.join("\n").to_ascii_lowercase();
    let words: BTreeSet<&str> = all.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    // What stands between quotation marks, outside of comments and of what is said in words.
    let rules = GRAMMAR.split("(*").filter_map(|part| part.split_once("*)")).map(|(_, rules)| rules);
    let rules: Vec<&str> = rules.flat_map(|rules| rules.split(" ? ;").filter_map(|rule| rule.split("= ? ").next())).collect();
    let literals: BTreeSet<&str> = rules.iter().flat_map(|rules| rules.split('"').skip(1).step_by(2)).collect();
    assert!(literals.len() > 80, "{literals:?}");
    let is_there = |literal: &str| match literal.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        true => words.contains(&*literal.to_ascii_lowercase()),
        false => all.contains(literal),
    };
    let missing: Vec<&&str> = literals.iter().filter(|literal| !is_there(literal)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_grammar_is_that_of_the_parser() {
    let found = blocks(DOCUMENT, "ebnf");
    assert_eq!(found.iter().map(|(_, text)| &**text).collect::<Vec<_>>(), [GRAMMAR]);
}
