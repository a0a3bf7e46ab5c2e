//! Requests made of bytes, so that most of them mean something: few paths, properties and selectors, used again and again.

use serde_json::{Value, json};
use std::borrow::Cow;
use tidewire::surface::value::json::{Checker, JsonLimits};
use tidewire::surface::value::{ValueType, scalar};
use tidewire::surface::wire::native::{self, Ask, NULL_BIT, Request, Update, Verb};
use tidewire::surface::wire::text;

/// Choices out of bytes; 0 where they have ended.
pub struct Source<'a>(pub &'a [u8]);

impl Source<'_> {
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub fn below(&mut self, count: usize) -> usize {
        usize::from(self.byte()) % count
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

const PATHS: [&str; 12] = ["a", "a/b", "a/b/c", "a/d", "b", "t/s", "t/e", "t/e/x", "c", "c/i", "Tidewire/x", "a//b"];
const SELECTORS: [&str; 14] =
    ["?.*//", "?a//", "?a/", "a/b", ">t/s", "#>a////?t//", "*b", "?t//", "?(", "?a/[bd]", "?c/", "z", "?z//", "*(a|t)/.*"];
const SCOPES: [&str; 8] = ["", "", "", "", "", "s", "x", "$x"];
const TYPES: [&str; 6] = ["json", "string", "int64", "double", "binary", "time_series"];

pub const VIEW_NAMES: [&str; 4] = ["v", "w", "", "v\u{e9}"];

/// Views of those paths: over all types, onto paths that others use, of one another, in a circle, and broken ones.
const VIEWS: [&str; 15] = [
    "map ?a// to v/<path(0)>",
    "map ?a// to v/<scalar(/a)> as <value(/b)>",
    "map a to v/<expand(/b)> separator '_'",
    "map ?t// to c/<path(0,1)>",
    "map ?v// to a/<path(1)>",
    "map ?b// to z/<path(0)> type int64 preserve topics",
    "map ?a/ to v/x process { if '/a > 100' continue else set(/c, calc '/a / 0') } with properties 'CONFLATION':'always'",
    "map ?a// to <path(0)>/i patch '[{\"op\":\"remove\",\"path\":\"/a\"}]' throttle to 1 update every second",
    "map ?b// to v insert a/<path(1)> key /a at /b default 3 delay by 2 seconds",
    "map ?a// from other to v/<path(0)>",
    "map ?.*// to <path(0)>/<path(0)>",
    "map ?t// to v/<path(1)> insert a key /a at /z default 1",
    "map ?a// to t/e type time_series with properties 'TIME_SERIES_RETAINED_RANGE': 'limit 2'",
    "map ?t// to c/<scalar(/a)> type json delay by 1 second",
    "map ?( to v/<path(x)>",
];

/// A type and properties; the first are those of the paths of the same place.
fn specification(number: usize) -> (&'static str, Value) {
    let of = |kind: &'static str, properties: Value| (kind, properties);
    match number {
        0 => of("json", json!({})),
        1 => of("string", json!({ "CONFLATION": "always" })),
        2 => of("int64", json!({ "REMOVAL": "when subscriptions < 1 for 1s after 2s" })),
        3 => of("binary", json!({ "CONFLATION": "off", "COMPRESSION": "high" })),
        4 => of("double", json!({ "PERSISTENT": "false", "PRIORITY": "low" })),
        5 => of("time_series", json!({ "TIME_SERIES_EVENT_VALUE_TYPE": "double", "TIME_SERIES_RETAINED_RANGE": "limit 3" })),
        6 => of(
            "time_series",
            json!({ "TIME_SERIES_EVENT_VALUE_TYPE": "json", "TIME_SERIES_RETAINED_RANGE": "last 2S limit 5", "TIME_SERIES_SUBSCRIPTION_RANGE": "limit 4" }),
        ),
        7 => of("json", json!({ "DONT_RETAIN_VALUE": "true", "TIDY_ON_UNSUBSCRIBE": "true" })),
        8 => of("json", json!({ "REMOVAL": "when this session closes", "CONFLATION": "unsubscribe" })),
        9 => of("string", json!({ "REMOVAL": "when no updates for 1s remove \"?c//\"" })),
        10 => of(
            "json",
            json!({ "REMOVAL": "when no session has \"$ClientType is 'OTHER'\" for 1s or time after 5 remove '#>a////?b/[^x]{1,9}/longer and longer//'" }),
        ),
        11 => of("json", json!({ "CONFLATION": "perhaps" })),
        12 => of("time_series", json!({ "OWNER": "$Principal is \"x\"" })),
        _ => of("string", json!({ "PRIORITY": "high", "PUBLISH_VALUES_ONLY": "true", "unknown": "x", "VALIDATE_VALUES": "true" })),
    }
}

fn value(kind: &str, source: &mut Source<'_>) -> Value {
    let number = source.byte();
    match kind {
        _ if number % 16 == 15 => Value::Null,
        "json" => match number % 5 {
            0 => json!({ "a": number, "b": [1, 2, 3], "text": "the same in every value, so that deltas are worth while" }),
            1 => json!({ "a": number, "b": [1, 2, 3], "text": "the same in every value, so that deltas are worth while!" }),
            2 => json!([number]),
            3 => json!("x".repeat(usize::from(number))),
            _ => json!(number),
        },
        "string" => json!(format!("{}{number}", "a longer text that is mostly the same ".repeat(usize::from(number % 4)))),
        "int64" => json!(i64::from(number) - 9),
        "double" => json!(f64::from(number) / 8.0),
        _ => json!("AAECAwQFBgcICQoLDA0ODw=="),
    }
}

/// The text form's message of an operation.
pub fn message(source: &mut Source<'_>) -> Value {
    let id = source.below(40);
    let op = source.below(36);
    let at = path_of(op, source);
    let path = PATHS[at];
    let (kind, properties) = specification(if source.below(8) == 0 { source.below(14) } else { at.min(10) });
    let of_events = properties["TIME_SERIES_EVENT_VALUE_TYPE"].as_str().unwrap_or("json").to_owned();
    let value_kind = if kind == "time_series" { &of_events } else { kind };
    let told_kind = if source.below(12) == 0 { source.one_of(&TYPES) } else { value_kind };
    let selector = source.one_of(&SELECTORS);
    match op {
        0..=2 => json!({ "op": "add", "id": id, "path": path, "type": kind, "properties": properties }),
        3..=5 => json!({ "op": "set", "id": id, "path": path, "type": told_kind, "value": value(told_kind, source) }),
        6..=9 => {
            json!({ "op": "add_and_set", "id": id, "path": path, "type": kind, "properties": properties, "value": value(value_kind, source) })
        }
        10 => {
            let is_wide = source.below(4) == 0;
            json!({ "op": "remove", "id": id, "selector": if is_wide { selector } else { path } })
        }
        11 => {
            let patches = [
                json!([{ "op": "replace", "path": "/a", "value": id }]),
                json!([{ "op": "add", "path": "/b/-", "value": 4 }, { "op": "remove", "path": "/b/0" }]),
                json!([{ "op": "move", "from": "/a", "path": "/c" }]),
                json!({}),
            ];
            json!({ "op": "update", "id": id, "path": path, "patch": patches[source.below(4)] })
        }
        12 | 13 => with_constraint(json!({ "op": "update", "id": id, "path": path, "type": told_kind }), kind, properties, source),
        14..=16 => {
            let stream = source.below(3);
            with_constraint(
                json!({ "op": "stream_open", "id": id, "stream": stream, "path": path, "type": told_kind }),
                kind,
                properties,
                source,
            )
        }
        17 | 18 => json!({ "op": "stream_set", "id": id, "stream": source.below(3), "value": value(told_kind, source) }),
        19 => json!({ "op": "stream_close", "id": id, "stream": source.below(3) }),
        20 | 21 => {
            let mut message = json!({ "op": "append", "id": id, "path": path, "type": told_kind, "value": value(told_kind, source) });
            if source.below(3) == 0 {
                message["timestamp"] = source.one_of(&[0u64, 5, 1000, 5000, u64::MAX - 1, i64::MAX as u64]).into();
            }
            message
        }
        22 => {
            json!({ "op": "edit", "id": id, "path": path, "type": told_kind, "original": source.below(6), "value": value(told_kind, source) })
        }
        23 => query(id, path, source),
        24 | 25 => json!({ "op": "subscribe", "id": id, "selector": selector, "scope": source.one_of(&SCOPES) }),
        26 => match source.below(3) {
            0 => json!({ "op": "unsubscribe_all_scopes", "id": id, "selector": selector }),
            _ => json!({ "op": "unsubscribe", "id": id, "selector": selector, "scope": source.one_of(&SCOPES) }),
        },
        27 => {
            let kinds = ["topics", "topics", "subscribers", "missing"];
            let kind = source.one_of(&kinds);
            let selector = if kind == "missing" { source.one_of(&["a", "t", "z", "c/i"]) } else { selector };
            json!({ "op": "listen", "id": id, "listener": source.below(4), "kind": kind, "selector": selector })
        }
        28 => json!({ "op": "unlisten", "id": id, "listener": source.below(3), "selector": source.one_of(&["", "", selector]) }),
        30..=32 => view(id, source),
        33 | 34 => lock(id, source),
        35 => listening(id, selector, source),
        _ => fetch(id, selector, source),
    }
}

/// The place of a path: now and then a broken one; for operations on time series mostly one of those.
fn path_of(op: usize, source: &mut Source<'_>) -> usize {
    match (op, source.below(40)) {
        (_, broken @ 38..) => broken - 28,
        (20..=23, at) if at % 8 > 0 => 5 + at % 2,
        (_, at) => at % 10,
    }
}

fn with_constraint(mut message: Value, kind: &str, properties: Value, source: &mut Source<'_>) -> Value {
    let constraints = [
        json!({ "no_topic": true }),
        json!({ "no_value": true }),
        json!({ "value": { "gt": 3 } }),
        json!({ "json": [{ "at": "/b/1", "eq": 2 }, { "at": "/z", "absent": true }] }),
        json!({ "or": [{ "no_value": true }, { "value": { "ne": "x" } }] }),
        json!({ "and": [] }),
        json!({ "locked": { "name": "l", "number": 1 } }),
    ];
    if source.below(2) == 0 {
        message["constraint"] = constraints[source.below(7)].clone();
    }
    if source.below(2) == 0 {
        message["type"] = kind.into();
        message["properties"] = properties.clone();
    }
    if source.below(3) > 0 {
        let of_events = properties["TIME_SERIES_EVENT_VALUE_TYPE"].as_str();
        let kind = message["type"].as_str().filter(|kind| *kind != "time_series").or(of_events).unwrap_or("json").to_owned();
        message["value"] = value(&kind, source);
    }
    message
}

fn query(id: usize, path: &str, source: &mut Source<'_>) -> Value {
    let number = source.one_of(&[0u64, 1, 2, 5, 1000, u64::MAX]);
    let mut range = || {
        let from = ["sequence", "instant", "last_events", "last_ms"];
        let to = ["sequence", "instant", "next_events", "next_ms", "until_last_events", "until_last_ms", "previous_events", "previous_ms"];
        json!({ "from": { from[source.below(4)]: number }, "to": { to[source.below(8)]: source.below(9) } })
    };
    let (one, other) = (range(), range());
    let kind = source.one_of(&["values", "latest_edits", "all_edits"]);
    let mut message = json!({ "op": "query", "id": id, "path": path, "kind": kind, "limit": source.below(4) });
    if source.below(3) > 0 {
        message["range"] = one;
    }
    if source.below(3) == 0 {
        message["edit_range"] = other;
    }
    message
}

fn view(id: usize, source: &mut Source<'_>) -> Value {
    let name = source.one_of(&VIEW_NAMES);
    match source.below(6) {
        0..=2 => json!({ "op": "create_view", "id": id, "name": name, "definition": source.one_of(&VIEWS) }),
        3 => json!({ "op": "remove_view", "id": id, "name": name }),
        4 => json!({ "op": "list_views", "id": id, "after": source.one_of(&[0u64, 0, 1, 2, u64::MAX]) }),
        _ => json!({ "op": "get_view", "id": id, "name": name }),
    }
}

fn lock(id: usize, source: &mut Source<'_>) -> Value {
    let name = source.one_of(&["l", "l", "a", "x/y", "//"]);
    match source.below(6) {
        0..=2 => json!({ "op": "lock", "id": id, "name": name, "scope": source.one_of(&["session", "connection"]) }),
        3 | 4 => json!({ "op": "unlock", "id": id, "name": name, "number": source.below(4) }),
        _ => json!({ "op": "list_locks", "id": id, "after": source.one_of(&["", "a", "l"]) }),
    }
}

/// What is asked about what becomes of sessions.
fn listening(id: usize, selector: &str, source: &mut Source<'_>) -> Value {
    let (listener, filter) = (source.below(4), source.one_of(&["", "all", "has Tier", "Tier is '1'", "Tier is"]));
    match source.below(8) {
        0 | 1 => json!({ "op": "listen_sessions", "id": id, "listener": listener, "filter": filter, "session_properties": ["Tier"] }),
        2 => json!({ "op": "listen_queues", "id": id, "listener": listener, "filter": filter }),
        3 | 4 => json!({ "op": "listen_presence", "id": id, "listener": listener, "selector": selector, "once": source.below(2) == 0 }),
        5 => json!({ "op": "unlisten_sessions", "id": id, "listener": listener }),
        6 => json!({ "op": "set_session_properties", "id": id, "filter": "all", "properties": { "Tier": source.one_of(&["", "1", "2"]) } }),
        _ => {
            let after_path = source.one_of(&["", "", "a", "//"]);
            let after = source.one_of(&["", "0000000000000007-1", "x"]);
            let once = source.below(2) == 0;
            json!({ "op": "list_presence", "id": id, "selector": selector, "after_path": after_path, "after": after, "once": once })
        }
    }
}

fn fetch(id: usize, selector: &str, source: &mut Source<'_>) -> Value {
    let flags = source.byte();
    let mut message = json!({
        "op": "fetch", "id": id, "selector": selector, "values": flags & 1 != 0, "with_properties": flags & 2 != 0, "sizes": flags & 4 != 0,
    });
    let ends = ["from", "after", "to", "before"];
    for _ in 0..source.below(3) {
        message[source.one_of(&ends)] = source.one_of(&PATHS).into();
    }
    match source.below(4) {
        0 => message["first"] = source.below(4).into(),
        1 => message["last"] = source.below(4).into(),
        _ => {}
    }
    match source.below(4) {
        0 => message["types"] = json!([source.one_of(&TYPES), source.one_of(&TYPES)]),
        1 => (message["depth"], message["depth_limit"]) = (source.below(4).into(), source.below(3).into()),
        2 => message["bytes_max"] = source.byte().into(),
        _ => {}
    }
    message
}

/// The request of a text message with its values as the binary form has them; `None` where a value is not of its type.
pub fn as_binary(message: &str) -> Option<Request<'_>> {
    let mut request = text::decode_request(message).ok()?;
    match &mut request.ask {
        Ask::Update { update, .. } | Ask::StreamOpen { update, .. } => store_update(update)?,
        Ask::Append { kind, value, .. } if *kind & NULL_BIT == 0 => *value = stored(*kind, value)?.into(),
        // Only the shard knows the type of a stream's values; here it is JSON.
        Ask::StreamSet { value, .. } => *value = stored(1, value)?.into(),
        _ => {}
    }
    Some(request)
}

fn store_update(update: &mut Update<'_>) -> Option<()> {
    if matches!(update.verb, Verb::Set | Verb::AddAndSet) && update.kind & NULL_BIT == 0 {
        let of_events = update.properties.iter().find(|(key, _)| key == "TIME_SERIES_EVENT_VALUE_TYPE");
        let kind =
            of_events.filter(|_| update.kind == 6).and_then(|(_, name)| ValueType::from_name(name)).map_or(update.kind, |kind| kind as u8);
        if update.kind == 6 && kind != 1 && *update.value == *b"null" {
            (update.kind, update.value) = (6 | NULL_BIT, Cow::Borrowed(&[][..]));
            return Some(());
        }
        update.value = Cow::Owned(stored(kind, &update.value)?);
    }
    Some(())
}

fn stored(kind: u8, json: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match ValueType::from_number(kind)? {
        ValueType::Json => Checker::new().compact(json, JsonLimits { depth_max: 100 }, &mut out).ok()?,
        kind => scalar::from_json(kind, std::str::from_utf8(json).ok()?, &mut out).ok()?,
    }
    Some(out)
}

/// Whatever the operation, both forms of it are read as the same request.
pub fn forms(input: &[u8]) {
    let mut source = Source(input);
    while !source.0.is_empty() {
        let message = message(&mut source).to_string();
        text::decode_request(&message).expect("the message is a request");
        let Some(request) = as_binary(&message) else { continue };
        let mut written = Vec::new();
        native::put_request(&mut written, &request);
        let mut rest = &written[..];
        let frame = native::next_frame(&mut rest).expect("a frame").expect("one frame");
        assert!(rest.is_empty());
        assert_eq!(native::decode_request(frame), request, "{message}");
        let batch = format!("[ {message},\n{{\"op\":\"ping\"}}]");
        let objects = text::split_batch(&batch).expect("an array of objects");
        assert_eq!(objects, [(2, &*message), (message.len() + 4, "{\"op\":\"ping\"}")]);
    }
}
