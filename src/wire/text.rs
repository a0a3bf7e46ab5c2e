//! The text form: one JSON object a message, the same requests and events as the binary form.
//!
//! - `object` — how an event is written.

mod object;

pub(super) use object::put_fields;

use super::event::{Fields, describe_event};
use super::native::{EventHead, VERSION, op};
use super::request::{
    About, Append, Ask, Credentials, Fetch, NULL_BIT, Operation, Properties, Query, QueryRange, Request, Source, Update, Verb,
};
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
    #[serde(default)]
    resume_ms: u64,
    #[serde(borrow, default)]
    token: Cow<'a, str>,
    #[serde(borrow, default)]
    environment: Cow<'a, str>,
    #[serde(borrow, default)]
    principal: Cow<'a, str>,
    #[serde(borrow, default)]
    password: Cow<'a, str>,
    #[serde(borrow, default)]
    bearer: Cow<'a, str>,
    #[serde(default)]
    processed: u64,
    messages: Option<u64>,
    // Of requests between clients.
    handler: Option<u64>,
    request: Option<u64>,
    #[serde(default)]
    timeout_ms: u64,
    #[serde(borrow)]
    session: Option<Cow<'a, str>>,
    #[serde(borrow)]
    filter: Option<Cow<'a, str>>,
    #[serde(borrow)]
    message: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    session_properties: Vec<Cow<'a, str>>,
    #[serde(default)]
    slowest: bool,
    #[serde(default)]
    conflated: bool,
    #[serde(default)]
    durable: bool,
    #[serde(default)]
    once: bool,
    #[serde(borrow, default)]
    after_path: Cow<'a, str>,
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
    // Of locks.
    number: Option<u64>,
    // Of session trees.
    #[serde(borrow)]
    branch: Option<Cow<'a, str>>,
    #[serde(borrow)]
    mappings: Option<Vec<MappingMembers<'a>>>,
    // Of what roles permit.
    #[serde(borrow)]
    script: Option<Cow<'a, str>>,
    #[serde(default)]
    check: bool,
    #[serde(default)]
    offset: u64,
    #[serde(borrow, default)]
    remove: Vec<Cow<'a, str>>,
    #[serde(borrow, default)]
    add: Vec<Cow<'a, str>>,
}

/// A row of a branch mapping table.
#[derive(Deserialize)]
struct MappingMembers<'a> {
    #[serde(borrow)]
    filter: Cow<'a, str>,
    #[serde(borrow)]
    branch: Cow<'a, str>,
}

/// Where a page starts: behind a path or a lock's name, or behind a view's place.
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
    let mut members = read_members(message)?;
    let id = members.id;
    let name = members.op.clone().ok_or_else(|| missing(id, "op"))?;
    let unknown = || Request { id, ask: Ask::Unknown { name: name.chars().take(40).collect() } };
    let Some(operation) = Operation::named(&name) else { return Ok(unknown()) };
    let ask = Ask::read(operation.op, &mut members)?;
    Ok(ask.map_or_else(unknown, |ask| Request { id: if operation.is_bare { 0 } else { id }, ask }))
}

fn missing(id: u64, name: &str) -> TextError {
    TextError::Field { id, message: format!("'{name}' is missing") }
}

/// `properties` is an object of an update, and a wish of a fetch.
fn read_members(message: &str) -> Result<Members<'_>, TextError> {
    serde_json::from_str(message).map_err(|error| refuse(message, &error))
}

impl<'a> Members<'a> {
    /// The value's text, its type's number, and null as the binary form has it.
    fn value_of_type(&self) -> Result<(u8, &'a str), TextError> {
        let value = self.value.ok_or_else(|| missing(self.id, "value"))?.get();
        let kind = self.kind_or_json();
        let is_nullable = matches!(ValueType::from_number(kind), Some(ValueType::String | ValueType::Int64 | ValueType::Double));
        Ok(if value == "null" && is_nullable { (kind | NULL_BIT, "") } else { (kind, value) })
    }

    fn kind_or_json(&self) -> u8 {
        type_number(self.kind.as_deref().unwrap_or("json"))
    }

    /// What an update does: its operation says it, or the members that it has.
    fn verb(&self) -> Result<Verb, TextError> {
        Ok(match (self.op.as_deref(), self.patch, self.value, &self.properties) {
            (Some("add"), ..) => Verb::Add,
            (Some("set"), ..) => Verb::Set,
            (Some("add_and_set"), ..) => Verb::AddAndSet,
            (_, Some(_), None, None) => Verb::Patch,
            (_, Some(_), ..) => return Err(self.refuse("'patch' stands alone, without 'value' and 'properties'")),
            (_, None, Some(_), Some(_)) => Verb::AddAndSet,
            (_, None, Some(_), None) => Verb::Set,
            (_, None, None, Some(_)) => Verb::Add,
            (_, None, None, None) => Verb::Check,
        })
    }

    /// The bit set of a fetch's topic types.
    fn type_bits(&self) -> Result<u64, TextError> {
        let mut bits = 0;
        for name in &self.types {
            match type_number(name) {
                0 => return Err(self.refuse(format!("there is no topic type '{}'", name.chars().take(40).collect::<String>()))),
                number => bits |= 1 << number,
            }
        }
        Ok(bits)
    }

    fn refuse(&self, message: impl Into<String>) -> TextError {
        TextError::Field { id: self.id, message: message.into() }
    }
}

impl<'a> Source<'a> for Members<'a> {
    type Error = TextError;

    fn number(&mut self, name: &'static str) -> Result<u64, TextError> {
        let member = match name {
            "listener" => self.listener,
            "stream" => self.stream,
            "original" => self.original,
            "messages" => self.messages,
            "handler" => self.handler,
            "request" => self.request,
            "number" => self.number,
            _ => None,
        };
        member.ok_or_else(|| missing(self.id, name))
    }

    fn byte(&mut self, name: &'static str) -> Result<u8, TextError> {
        // Only the binary form has requests with such a member.
        Err(missing(self.id, name))
    }

    fn text(&mut self, name: &'static str) -> Result<Cow<'a, str>, TextError> {
        let member = match name {
            "path" => self.path.take(),
            "selector" => self.selector.take(),
            "name" => self.name.take(),
            "definition" => self.definition.take(),
            "session" => self.session.take(),
            "filter" => self.filter.take(),
            "message" => self.message.take(),
            "branch" => self.branch.take(),
            "script" => self.script.take(),
            _ => None,
        };
        member.ok_or_else(|| missing(self.id, name))
    }

    fn optional_number(&mut self, name: &'static str) -> Result<u64, TextError> {
        Ok(match name {
            "timeout_ms" => self.timeout_ms,
            "first" => self.first,
            "offset" => self.offset,
            _ => self.number(name).unwrap_or_default(),
        })
    }

    fn flag(&mut self, name: &'static str) -> Result<bool, TextError> {
        Ok(match name {
            "slowest" => self.slowest,
            "conflated" => self.conflated,
            "once" => self.once,
            "check" => self.check,
            _ => unreachable!("the table names no other"),
        })
    }

    fn properties(&mut self, name: &'static str) -> Result<Properties<'a>, TextError> {
        let properties = self.properties.take().ok_or_else(|| missing(self.id, name))?;
        Ok(properties.into_iter().collect())
    }

    fn mappings(&mut self, name: &'static str) -> Result<Properties<'a>, TextError> {
        let mappings = self.mappings.take().ok_or_else(|| missing(self.id, name))?;
        Ok(mappings.into_iter().map(|row| (row.filter, row.branch)).collect())
    }

    fn tagged_properties(&mut self, _: u64, _: &'static str) -> Result<Properties<'a>, TextError> {
        Ok(self.properties.take().unwrap_or_default().into_iter().collect())
    }

    fn texts(&mut self, name: &'static str) -> Result<Vec<Cow<'a, str>>, TextError> {
        Ok(std::mem::take(match name {
            "remove" => &mut self.remove,
            "add" => &mut self.add,
            _ => &mut self.session_properties,
        }))
    }

    fn optional_text(&mut self, name: &'static str) -> Result<Cow<'a, str>, TextError> {
        Ok(match name {
            "scope" => std::mem::take(&mut self.scope),
            "client" => std::mem::take(&mut self.client),
            "token" => std::mem::take(&mut self.token),
            "after_path" => std::mem::take(&mut self.after_path),
            "after" => match self.after.take() {
                Some(After::Path(after)) => after,
                Some(After::Place(_)) => return Err(self.refuse("expected 'after' to be the id of a session")),
                None => "".into(),
            },
            _ => self.text(name).unwrap_or_default(),
        })
    }

    fn tagged_number(&mut self, _: u64, name: &'static str) -> Result<u64, TextError> {
        Ok(match name {
            "resume_ms" => self.resume_ms,
            "processed" => self.processed,
            _ => unreachable!("the table names no other"),
        })
    }

    fn tagged_flag(&mut self, _: u64, _: &'static str) -> Result<bool, TextError> {
        Ok(self.durable)
    }

    fn tagged_text(&mut self, _: u64, name: &'static str) -> Result<Cow<'a, str>, TextError> {
        self.optional_text(name)
    }

    fn rest(&mut self, name: &'static str) -> Result<Cow<'a, [u8]>, TextError> {
        let member = self.value.filter(|_| name == "value").ok_or_else(|| missing(self.id, name))?;
        Ok(member.get().as_bytes().into())
    }

    fn version(&mut self) -> Result<u64, TextError> {
        Ok(self.version.unwrap_or(VERSION))
    }

    fn capabilities(&mut self, _: u64) -> Result<u64, TextError> {
        Ok(0)
    }

    fn update(&mut self) -> Result<Update<'a>, TextError> {
        let verb = self.verb()?;
        let (kind, value) = match (verb, self.patch) {
            (Verb::Add | Verb::Check, _) => (self.kind_or_json(), ""),
            (Verb::Patch, Some(patch)) => (self.kind.as_deref().map_or(0, type_number), patch.get()),
            _ => self.value_of_type()?,
        };
        let properties = self.properties.iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
        let constraint = self.constraint.map_or("", RawValue::get).as_bytes().into();
        Ok(Update { properties, constraint, ..Update::new(verb, kind, value.as_bytes()) })
    }

    fn about(&mut self) -> Result<Box<About<'a>>, TextError> {
        let environment = std::mem::take(&mut self.environment);
        Ok(Box::new(About { environment, credentials: *self.credentials()? }))
    }

    fn credentials(&mut self) -> Result<Box<Credentials<'a>>, TextError> {
        let [principal, password, bearer] = [&mut self.principal, &mut self.password, &mut self.bearer].map(std::mem::take);
        Ok(Box::new(Credentials { principal, password, bearer }))
    }

    fn fetch(&mut self) -> Result<Box<Fetch<'a>>, TextError> {
        let after = match &self.after {
            None => Cow::Borrowed(""),
            Some(After::Path(path)) => path.clone(),
            Some(After::Place(_)) => return Err(self.refuse("expected 'after' of a fetch to be a path")),
        };
        let types = self.type_bits()?;
        Ok(Box::new(Fetch {
            selector: self.text("selector")?,
            from: self.from.clone(),
            after,
            to: self.to.clone(),
            before: self.before.clone(),
            first: self.first,
            last: self.last,
            types,
            with_values: self.values,
            with_properties: self.with_properties,
            with_sizes: self.sizes,
            depth: self.depth,
            depth_limit: self.depth_limit,
            bytes_max: self.bytes_max,
        }))
    }

    fn listener_kind(&mut self) -> Result<u8, TextError> {
        match self.kind_of.as_deref() {
            Some("topics") => Ok(1),
            Some("subscribers") => Ok(2),
            Some("missing") => Ok(3),
            _ => Err(self.refuse("expected 'kind' to be topics, subscribers or missing")),
        }
    }

    fn new_stream(&mut self) -> Result<u64, TextError> {
        // Where several members are missing, the stream is said last.
        if self.path.is_none() {
            return Err(missing(self.id, "path"));
        }
        self.update()?;
        self.number("stream")
    }

    fn value_kind(&mut self) -> Result<u8, TextError> {
        Ok(self.value_of_type()?.0)
    }

    fn typed_value(&mut self) -> Result<Cow<'a, [u8]>, TextError> {
        Ok(self.value_of_type()?.1.as_bytes().into())
    }

    fn append(&mut self) -> Result<Append, TextError> {
        Ok(match self.op.as_deref() {
            Some("edit") => Append::Edit { original: self.number("original")? },
            _ => Append::Original { timestamp_ms: self.timestamp },
        })
    }

    fn query(&mut self) -> Result<Query, TextError> {
        let kind = match self.kind_of.as_deref() {
            None | Some("values") => 0,
            Some("latest_edits") => 1,
            Some("all_edits") => 2,
            _ => return Err(self.refuse("expected 'kind' to be values, latest_edits or all_edits")),
        };
        let range = self.range.as_ref().map(RangeMembers::range).unwrap_or_default();
        let edit_range = self.edit_range.as_ref().map(RangeMembers::range);
        Ok(Query { kind, range, edit_range, limit: self.limit })
    }

    fn place_after(&mut self) -> Result<u64, TextError> {
        match self.after {
            None => Ok(0),
            Some(After::Place(place)) => Ok(place),
            Some(After::Path(_)) => Err(self.refuse("expected 'after' to be a number: the place of a view, or how many selections")),
        }
    }

    fn lock_scope(&mut self) -> Result<u8, TextError> {
        match &*self.scope {
            "" | "session" => Ok(0),
            "connection" => Ok(1),
            _ => Err(self.refuse("expected 'scope' of a lock to be session or connection")),
        }
    }
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

/// The names of how long a lock may be held.
pub fn lock_scope_name(scope: u8) -> &'static str {
    if scope == 1 { "connection" } else { "session" }
}

/// The names of what happens to sessions.
pub fn session_notice_name(what: u8) -> &'static str {
    match what {
        1 => "present",
        2 => "opened",
        3 => "matched",
        4 => "changed",
        5 => "unmatched",
        6 => "away",
        _ => "back",
    }
}

/// The names of why sessions are over.
pub fn ended_name(reason: u8) -> &'static str {
    match reason {
        1 => "closed_by_client",
        2 => "connection_lost",
        3 => "expired",
        4 => "closed_by_control",
        5 => "closed_by_server",
        _ => "shutting_down",
    }
}

/// The names of what a selection does.
pub fn selection_name(kind: u8) -> &'static str {
    match kind {
        0 => "deselect",
        1 => "select",
        _ => "filter",
    }
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
            Ok(Request { id: 1, ask: Ask::CreateView { name: name.into(), definition: definition.into() } }),
        );
        check(r#"{"op":"remove_view","id":1,"name":"\u006e"}"#, Ok(Request { id: 1, ask: Ask::RemoveView { name: name.into() } }));
        check(r#"{"op":"get_view","id":1,"name":"n"}"#, Ok(Request { id: 1, ask: Ask::GetView { name: name.into() } }));
        check(r#"{"op":"list_views","id":1}"#, Ok(Request { id: 1, ask: Ask::ListViews { after: 0 } }));
        check(r#"{"op":"list_views","id":1,"after":7}"#, Ok(Request { id: 1, ask: Ask::ListViews { after: 7 } }));
    }

    #[test]
    fn a_request_about_views_needs_its_members() {
        check(r#"{"op":"create_view","id":1,"name":"n"}"#, Err("'definition' is missing"));
        check(r#"{"op":"remove_view","id":1}"#, Err("'name' is missing"));
        let of_views = "expected 'after' to be a number: the place of a view, or how many selections";
        check(r#"{"op":"list_views","id":1,"after":"a"}"#, Err(of_views));
        check(r#"{"op":"list_views","id":1,"after":-1}"#, Err("expected 'after' to be a path, or the place of a view"));
    }

    #[test]
    fn a_fetch_starts_behind_a_path() {
        let fetch = Fetch { selector: "a".into(), after: "a/\u{e9}".into(), ..Fetch::default() };
        check(
            r#"{"op":"fetch","id":1,"selector":"a","after":"a/\u00e9"}"#,
            Ok(Request { id: 1, ask: Ask::Fetch { fetch: Box::new(fetch) } }),
        );
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
