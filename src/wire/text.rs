//! The text form: one JSON object a message, the same requests and events as the binary form.
//!
//! - `object` — how an event is written.

mod object;

pub(super) use object::put_fields;

use super::event::{Fields, describe_event};
use super::native::{Append, EventHead, Fetch, NULL_BIT, Query, QueryRange, Request, Update, VERSION, Verb, op};
use crate::base::TopicId;
use crate::value::{ValueType, scalar};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::io::Write;

/// Why a message of the text form is not a request.
#[derive(Debug, PartialEq, Eq)]
pub enum TextError {
    /// Not a JSON object; the byte offset.
    Malformed { position: usize, message: String },
    /// A field is missing or has the wrong type.
    Field { id: u64, message: String },
}

#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow)]
    op: Option<Cow<'a, str>>,
    #[serde(default)]
    id: u64,
    version: Option<u64>,
    #[serde(borrow, default)]
    client: Cow<'a, str>,
    #[serde(borrow)]
    path: Option<Cow<'a, str>>,
    #[serde(rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    value: Option<&'a RawValue>,
    #[serde(borrow, default)]
    patch: Option<&'a RawValue>,
    #[serde(borrow, default)]
    constraint: Option<&'a RawValue>,
    #[serde(borrow)]
    selector: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    scope: Cow<'a, str>,
    #[serde(borrow)]
    properties: Option<std::collections::BTreeMap<Cow<'a, str>, Cow<'a, str>>>,
    // Of a fetch.
    #[serde(borrow, default)]
    from: Cow<'a, str>,
    #[serde(borrow)]
    after: Option<After<'a>>,
    #[serde(borrow, default)]
    to: Cow<'a, str>,
    #[serde(borrow, default)]
    before: Cow<'a, str>,
    #[serde(default)]
    first: u64,
    #[serde(default)]
    last: u64,
    #[serde(borrow, default)]
    types: Vec<Cow<'a, str>>,
    #[serde(default)]
    values: bool,
    #[serde(rename = "with_properties", default)]
    with_properties: bool,
    #[serde(default)]
    sizes: bool,
    #[serde(default)]
    depth: u64,
    #[serde(default)]
    depth_limit: u64,
    #[serde(default)]
    bytes_max: u64,
    // Of listeners and streams.
    listener: Option<u64>,
    stream: Option<u64>,
    #[serde(rename = "kind", borrow)]
    kind_of: Option<Cow<'a, str>>,
    // Of time series.
    timestamp: Option<u64>,
    original: Option<u64>,
    range: Option<RangeMembers>,
    edit_range: Option<RangeMembers>,
    #[serde(default)]
    limit: u64,
    // Of views.
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    definition: Option<Cow<'a, str>>,
}

/// Where a page starts: behind a path, or behind a view's place.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected 'after' to be a path, or the place of a view")]
enum After<'a> {
    Path(#[serde(borrow)] Cow<'a, str>),
    Place(u64),
}

/// A member that is there is a value, also where it is null.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RangeMembers {
    from: From,
    to: To,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum From {
    #[default]
    Start,
    Sequence(u64),
    Instant(u64),
    LastEvents(u64),
    LastMs(u64),
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum To {
    #[default]
    End,
    Sequence(u64),
    Instant(u64),
    NextEvents(u64),
    NextMs(u64),
    UntilLastEvents(u64),
    UntilLastMs(u64),
    PreviousEvents(u64),
    PreviousMs(u64),
}

impl RangeMembers {
    fn range(&self) -> QueryRange {
        let anchor = match self.from {
            From::Start => (0, 0),
            From::Sequence(n) => (1, n),
            From::Instant(n) => (2, n),
            From::LastEvents(n) => (3, n),
            From::LastMs(n) => (4, n),
        };
        let span = match self.to {
            To::End => (0, 0),
            To::Sequence(n) => (1, n),
            To::Instant(n) => (2, n),
            To::NextEvents(n) => (3, n),
            To::NextMs(n) => (4, n),
            To::UntilLastEvents(n) => (5, n),
            To::UntilLastMs(n) => (6, n),
            To::PreviousEvents(n) => (7, n),
            To::PreviousMs(n) => (8, n),
        };
        QueryRange { anchor, span }
    }
}

/// A member that does not fit its type still leaves the id readable.
#[derive(Deserialize)]
struct OnlyId {
    #[serde(default)]
    id: u64,
}

/// The name of the sixth topic type; the others have the names of their values' types.
pub const TIME_SERIES: &str = "time_series";
const TIME_SERIES_NUMBER: u8 = 6;

/// The number of a topic type; 0 where there is none of the name.
fn type_number(name: &str) -> u8 {
    if name == TIME_SERIES { TIME_SERIES_NUMBER } else { ValueType::from_name(name).map_or(0, |kind| kind as u8) }
}

/// The name of a topic type's number.
pub fn type_name(number: u8) -> &'static str {
    if number == TIME_SERIES_NUMBER { TIME_SERIES } else { ValueType::from_number(number).map_or("unknown", ValueType::name) }
}

/// The objects of a message: one, or those of an array, each with its byte offset.
pub fn split_batch(message: &str) -> Result<Vec<(usize, &str)>, TextError> {
    let start = message.len() - message.trim_start().len();
    if !message[start..].starts_with('[') {
        return Ok(vec![(0, message)]);
    }
    let objects: Vec<&RawValue> = serde_json::from_str(message).map_err(|error| refuse(message, &error))?;
    Ok(objects.into_iter().map(|object| (object.get().as_ptr() as usize - message.as_ptr() as usize, object.get())).collect())
}

/// Reads one object. An update's value is still JSON text: `scalar::from_json` turns it into its type.
pub fn decode_request(message: &str) -> Result<Request<'_>, TextError> {
    let start = message.len() - message.trim_start().len();
    if !message[start..].starts_with('{') {
        return Err(TextError::Malformed { position: start, message: "expected a JSON object".to_owned() });
    }
    let members = read_members(message)?;
    let id = members.id;
    let op = members.op.clone().ok_or_else(|| missing(id, "op"))?;
    let selector = || members.selector.clone().ok_or_else(|| missing(id, "selector"));
    Ok(match &*op {
        "connect" => Request::Connect { id, version: members.version.unwrap_or(VERSION), name: members.client, capabilities: 0 },
        "ping" => Request::Ping,
        "pong" => Request::Pong,
        "close" => Request::Close,
        "add" => update(&members, Some(Verb::Add))?,
        "set" => update(&members, Some(Verb::Set))?,
        "add_and_set" => update(&members, Some(Verb::AddAndSet))?,
        "update" | "stream_open" => update(&members, None)?,
        "remove" => Request::Remove { id, selector: selector()? },
        "fetch" => fetch(&members)?,
        "subscribe" => Request::Subscribe { id, selector: selector()?, scope: members.scope },
        "unsubscribe" => Request::Unsubscribe { id, selector: selector()?, scope: members.scope },
        "unsubscribe_all_scopes" => Request::UnsubscribeAllScopes { id, selector: selector()? },
        "listen" | "unlisten" => listen(&members, &op)?,
        "stream_set" | "stream_close" => stream(&members, &op)?,
        "append" | "edit" => append(&members, &op)?,
        "query" => query(&members)?,
        "create_view" | "remove_view" | "list_views" | "get_view" => view(&members, &op)?,
        other => Request::Unknown { id, name: other.chars().take(40).collect() },
    })
}

fn missing(id: u64, name: &str) -> TextError {
    TextError::Field { id, message: format!("'{name}' is missing") }
}

/// `properties` is an object of an update, and a wish of a fetch.
fn read_members(message: &str) -> Result<Members<'_>, TextError> {
    serde_json::from_str(message).map_err(|error| refuse(message, &error))
}

/// The value's text, its type's number, and null as the binary form has it.
fn value_of<'a>(members: &Members<'a>) -> Result<(u8, &'a str), TextError> {
    let value = members.value.ok_or_else(|| missing(members.id, "value"))?.get();
    let kind = type_number(members.kind.as_deref().unwrap_or("json"));
    let is_nullable = matches!(ValueType::from_number(kind), Some(ValueType::String | ValueType::Int64 | ValueType::Double));
    Ok(if value == "null" && is_nullable { (kind | NULL_BIT, "") } else { (kind, value) })
}

/// `None`: what it does follows from its members.
fn update<'a>(members: &Members<'a>, verb: Option<Verb>) -> Result<Request<'a>, TextError> {
    let id = members.id;
    let path = members.path.clone().ok_or_else(|| missing(id, "path"))?;
    let verb = match (verb, members.patch, members.value, &members.properties) {
        (Some(verb), ..) => verb,
        (None, Some(_), None, None) => Verb::Patch,
        (None, Some(_), ..) => {
            return Err(TextError::Field { id, message: "'patch' stands alone, without 'value' and 'properties'".to_owned() });
        }
        (None, None, Some(_), Some(_)) => Verb::AddAndSet,
        (None, None, Some(_), None) => Verb::Set,
        (None, None, None, Some(_)) => Verb::Add,
        (None, None, None, None) => Verb::Check,
    };
    let said_type = || type_number(members.kind.as_deref().unwrap_or("json"));
    let (kind, value) = match (verb, members.patch) {
        (Verb::Add | Verb::Check, _) => (said_type(), ""),
        (Verb::Patch, Some(patch)) => (members.kind.as_deref().map_or(0, type_number), patch.get()),
        _ => value_of(members)?,
    };
    let properties = members.properties.iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
    let constraint = members.constraint.map_or("", RawValue::get).as_bytes().into();
    let update = Update { properties, constraint, ..Update::new(verb, kind, value.as_bytes()) };
    Ok(match members.op.as_deref() {
        Some("stream_open") => Request::StreamOpen { id, stream: number(members, "stream", members.stream)?, path, update },
        _ => Request::Update { id, path, update },
    })
}

fn number(members: &Members<'_>, name: &str, member: Option<u64>) -> Result<u64, TextError> {
    member.ok_or_else(|| missing(members.id, name))
}

fn fetch<'a>(members: &Members<'a>) -> Result<Request<'a>, TextError> {
    let id = members.id;
    let after = match &members.after {
        None => Cow::Borrowed(""),
        Some(After::Path(path)) => path.clone(),
        Some(After::Place(_)) => return Err(TextError::Field { id, message: "expected 'after' of a fetch to be a path".to_owned() }),
    };
    let mut types = 0;
    for name in &members.types {
        match type_number(name) {
            0 => {
                return Err(TextError::Field {
                    id,
                    message: format!("there is no topic type '{}'", name.chars().take(40).collect::<String>()),
                });
            }
            number => types |= 1 << number,
        }
    }
    let fetch = Fetch {
        selector: members.selector.clone().ok_or_else(|| missing(id, "selector"))?,
        from: members.from.clone(),
        after,
        to: members.to.clone(),
        before: members.before.clone(),
        first: members.first,
        last: members.last,
        types,
        with_values: members.values,
        with_properties: members.with_properties,
        with_sizes: members.sizes,
        depth: members.depth,
        depth_limit: members.depth_limit,
        bytes_max: members.bytes_max,
    };
    Ok(Request::Fetch { id, fetch: Box::new(fetch) })
}

fn listen<'a>(members: &Members<'a>, op: &str) -> Result<Request<'a>, TextError> {
    let id = members.id;
    let listener = number(members, "listener", members.listener)?;
    let selector = members.selector.clone();
    if op == "unlisten" {
        return Ok(Request::Unlisten { id, listener, selector: selector.unwrap_or_default() });
    }
    let kind = match members.kind_of.as_deref() {
        Some("topics") => 1,
        Some("subscribers") => 2,
        Some("missing") => 3,
        _ => return Err(TextError::Field { id, message: "expected 'kind' to be topics, subscribers or missing".to_owned() }),
    };
    Ok(Request::Listen { id, listener, kind, selector: selector.ok_or_else(|| missing(id, "selector"))? })
}

fn stream<'a>(members: &Members<'a>, op: &str) -> Result<Request<'a>, TextError> {
    let id = members.id;
    let stream = number(members, "stream", members.stream)?;
    if op == "stream_close" {
        return Ok(Request::StreamClose { id, stream });
    }
    let value = members.value.ok_or_else(|| missing(id, "value"))?.get();
    Ok(Request::StreamSet { id, stream, value: value.as_bytes().into() })
}

fn append<'a>(members: &Members<'a>, op: &str) -> Result<Request<'a>, TextError> {
    let id = members.id;
    let path = members.path.clone().ok_or_else(|| missing(id, "path"))?;
    let (kind, value) = value_of(members)?;
    let append = match op {
        "edit" => Append::Edit { original: number(members, "original", members.original)? },
        _ => Append::Original { timestamp_ms: members.timestamp },
    };
    Ok(Request::Append { id, path, kind, append, value: value.as_bytes().into() })
}

fn query<'a>(members: &Members<'a>) -> Result<Request<'a>, TextError> {
    let id = members.id;
    let path = members.path.clone().ok_or_else(|| missing(id, "path"))?;
    let kind = match members.kind_of.as_deref() {
        None | Some("values") => 0,
        Some("latest_edits") => 1,
        Some("all_edits") => 2,
        _ => return Err(TextError::Field { id, message: "expected 'kind' to be values, latest_edits or all_edits".to_owned() }),
    };
    let range = members.range.as_ref().map(RangeMembers::range).unwrap_or_default();
    let edit_range = members.edit_range.as_ref().map(RangeMembers::range);
    Ok(Request::Query { id, path, query: Query { kind, range, edit_range, limit: members.limit } })
}

fn view<'a>(members: &Members<'a>, op: &str) -> Result<Request<'a>, TextError> {
    let id = members.id;
    if op == "list_views" {
        return match &members.after {
            None => Ok(Request::ListViews { id, after: 0 }),
            Some(After::Place(after)) => Ok(Request::ListViews { id, after: *after }),
            Some(After::Path(_)) => {
                Err(TextError::Field { id, message: "expected 'after' of a list of views to be the place of a view".to_owned() })
            }
        };
    }
    let name = members.name.clone().ok_or_else(|| missing(id, "name"))?;
    Ok(match op {
        "remove_view" => Request::RemoveView { id, name },
        "get_view" => Request::GetView { id, name },
        _ => Request::CreateView { id, name, definition: members.definition.clone().ok_or_else(|| missing(id, "definition"))? },
    })
}

fn refuse(message: &str, error: &serde_json::Error) -> TextError {
    let what = error.to_string();
    let what = what.split(" at line ").next().unwrap_or_default().to_owned();
    if error.is_data() {
        let id = serde_json::from_str::<OnlyId>(message).map_or(0, |only| only.id);
        return TextError::Field { id, message: what };
    }
    if error.is_eof() {
        return TextError::Malformed { position: message.len(), message: what };
    }
    let line_start: usize = message.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    TextError::Malformed { position: (line_start + error.column().saturating_sub(1)).min(message.len()), message: what }
}

fn string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("writing a string to memory does not fail");
}

pub fn put_value(out: &mut Vec<u8>, topic: TopicId, path: &str, kind: ValueType, value: &[u8]) {
    let _ = write!(out, r#"{{"op":"value","topic":{},"path":"#, topic.0);
    string(out, path);
    out.extend_from_slice(br#","value":"#);
    scalar::append_json(kind, value, out);
    out.push(b'}');
}

/// A value that is null.
pub fn put_null(out: &mut Vec<u8>, topic: TopicId, path: &str) {
    let _ = write!(out, r#"{{"op":"value","topic":{},"path":"#, topic.0);
    string(out, path);
    out.extend_from_slice(br#","value":null}"#);
}

pub fn put_event(out: &mut Vec<u8>, topic: TopicId, path: &str, head: EventHead<'_>, kind: ValueType, value: &[u8]) {
    put_fields(out, |fields| {
        fields.begin(op::EVENT, "event");
        fields.number("topic", topic.0);
        fields.text("path", path);
        describe_event(fields, head, kind, value);
    });
}

/// The names of what a notice may say.
pub fn notice_name(what: u8) -> &'static str {
    match what {
        1 => "added",
        2 => "removed",
        3 => "selected",
        _ => "deselected",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::event::{self, Event, Form};
    use crate::wire::native::{Outcome, ViewEntry};

    fn check(message: &str, expected: Result<Request<'_>, &str>) {
        let decoded = decode_request(message).map_err(|error| match error {
            TextError::Field { id: 1, message } => message,
            other => panic!("{other:?}"),
        });
        assert_eq!(decoded.as_ref().map_err(String::as_str), expected.as_ref().map_err(|message| *message), "{message}");
    }

    #[test]
    fn requests_about_views_are_read() {
        let (name, definition) = ("n", "map ?a// to b/<path(1)>");
        check(
            r#"{"op":"create_view","id":1,"name":"n","definition":"map ?a// to b/<path(1)>"}"#,
            Ok(Request::CreateView { id: 1, name: name.into(), definition: definition.into() }),
        );
        check(r#"{"op":"remove_view","id":1,"name":"\u006e"}"#, Ok(Request::RemoveView { id: 1, name: name.into() }));
        check(r#"{"op":"get_view","id":1,"name":"n"}"#, Ok(Request::GetView { id: 1, name: name.into() }));
        check(r#"{"op":"list_views","id":1}"#, Ok(Request::ListViews { id: 1, after: 0 }));
        check(r#"{"op":"list_views","id":1,"after":7}"#, Ok(Request::ListViews { id: 1, after: 7 }));
    }

    #[test]
    fn a_request_about_views_needs_its_members() {
        check(r#"{"op":"create_view","id":1,"name":"n"}"#, Err("'definition' is missing"));
        check(r#"{"op":"remove_view","id":1}"#, Err("'name' is missing"));
        let of_views = "expected 'after' of a list of views to be the place of a view";
        check(r#"{"op":"list_views","id":1,"after":"a"}"#, Err(of_views));
        check(r#"{"op":"list_views","id":1,"after":-1}"#, Err("expected 'after' to be a path, or the place of a view"));
    }

    #[test]
    fn a_fetch_starts_behind_a_path() {
        let fetch = Fetch { selector: "a".into(), after: "a/\u{e9}".into(), ..Fetch::default() };
        check(r#"{"op":"fetch","id":1,"selector":"a","after":"a/\u00e9"}"#, Ok(Request::Fetch { id: 1, fetch: Box::new(fetch) }));
        check(r#"{"op":"fetch","id":1,"selector":"a","after":7}"#, Err("expected 'after' of a fetch to be a path"));
    }

    #[test]
    fn views_are_shown_with_all_members() {
        let view =
            ViewEntry { name: "\"n\"".to_owned(), definition: "map a to b".to_owned(), place: 2, references: 1, ..ViewEntry::default() };
        let failing = ViewEntry { is_dormant: true, failures: 3, last_failure: "a: no".to_owned(), ..ViewEntry::default() };
        let mut out = Vec::new();
        let outcome = Outcome::Views { has_more: true, views: vec![view, failing] };
        event::put(&mut out, Form::Text, &Event::Ok { id: 1, outcome: &outcome });
        let expected = serde_json::json!({ "op": "ok", "id": 1, "has_more": true, "views": [
            { "name": "\"n\"", "definition": "map a to b", "place": 2, "dormant": false, "sources": 0, "references": 1,
                "evaluations": 0, "failures": 0, "last_failure": "" },
            { "name": "", "definition": "", "place": 0, "dormant": true, "sources": 0, "references": 0,
                "evaluations": 0, "failures": 3, "last_failure": "a: no" },
        ] });
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&out).unwrap(), expected);
    }
}
