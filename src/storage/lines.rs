//! A store as text: one JSON object a line, a topic and then its events.
//!
//! ```text
//! {"path":"a/b","type":"json","properties":{},"version":3,"value":{"x":1}}
//! {"path":"s","type":"time_series","properties":{"TIME_SERIES_EVENT_VALUE_TYPE":"int64"},"version":0,"series":{"first_kept":4,"last_sequence":4,"latest":1700000000000}}
//! {"event":{"sequence":4,"timestamp":1700000000000,"author":"me","value":12}}
//! {"view":{"name":"prices","place":1,"definition":"map ?a// to b/<path(1)>"}}
//! {"session_tree":{"branch":"a","mappings":[{"filter":"all","branch":"b"}]}}
//! {"security":{"store":"roles","script":"isolate path \"a\"\n"}}
//! ```
//! Values stand as in the protocol's text form. A topic without `value` has none: its version says whether it ever had one.
//! A view has `principal` and `roles` of who has made it, where somebody was asked. The script of the store `principals` has hashes of passwords.
//! `series` says how a time series goes on, also where the last of its events, or all, are not kept any more.

use crate::base::TopicId;
use crate::journal::{
    PRINCIPALS_PATH, SECURITY_KIND, SECURITY_PATH, SESSION_TREE_KIND, SESSION_TREES_BRANCH, State, StoredEvent, StoredTopic, VIEW_KIND,
    VIEWS_BRANCH,
};
use crate::security::{PrincipalLimits, PrincipalScript, SecurityLimits, SecurityStore};
use crate::series::SEQUENCE_MAX;
use crate::session_tree::Table;
use crate::topic::path::TopicPath;
use crate::topic::specification::{Specification, SpecificationLimits, TopicType};
use crate::value::json::{Checker, JsonLimits};
use crate::value::{ValueType, scalar};
use crate::view::{Definition, ViewLimits, catalogue};
use hashbrown::HashSet;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead, Write};

/// Names the type of a time series' events.
const EVENT_TYPE: &str = "TIME_SERIES_EVENT_VALUE_TYPE";

/// The server's own limits may have been higher when a value was taken, so an import takes what can be read at all.
const LIMITS: JsonLimits = JsonLimits { depth_max: 1024 };

/// A line that is not what it should be; from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineError {
    pub line: usize,
    pub reason: String,
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TopicLine<'a> {
    #[serde(borrow)]
    path: Cow<'a, str>,
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    properties: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    #[serde(default)]
    version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    series: Option<SeriesLine>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    value: Option<&'a RawValue>,
}

/// What is known of a time series that had events.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SeriesLine {
    first_kept: u64,
    last_sequence: u64,
    latest: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EventLine<'a> {
    sequence: u64,
    timestamp: u64,
    #[serde(borrow, default)]
    author: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    original: Option<u64>,
    #[serde(borrow)]
    value: &'a RawValue,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ViewLine<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    place: u64,
    #[serde(borrow)]
    definition: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    principal: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    roles: Option<Cow<'a, str>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SecurityLine<'a> {
    /// `roles` or `principals`.
    #[serde(borrow)]
    store: Cow<'a, str>,
    #[serde(borrow)]
    script: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TableLine<'a> {
    #[serde(borrow)]
    branch: Cow<'a, str>,
    #[serde(borrow)]
    mappings: Vec<RowLine<'a>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RowLine<'a> {
    #[serde(borrow)]
    filter: Cow<'a, str>,
    #[serde(borrow)]
    branch: Cow<'a, str>,
}

/// What a line may be: which members it has decides.
#[derive(Deserialize)]
struct AnyLine<'a> {
    #[serde(borrow, default)]
    view: Option<&'a RawValue>,
    #[serde(borrow, default)]
    session_tree: Option<&'a RawValue>,
    #[serde(borrow, default)]
    security: Option<&'a RawValue>,
    #[serde(borrow, default)]
    event: Option<&'a RawValue>,
}

/// Writes every topic and its events; returns how many topics.
pub fn write(state: &State, out: &mut dyn Write) -> io::Result<u64> {
    for topic in state.topics.values() {
        if let Some(name) = topic.view_name() {
            write_view(name, topic, out)?;
            continue;
        }
        if let Some(branch) = topic.session_tree_branch() {
            write_table(branch, topic, out)?;
            continue;
        }
        if let Some((store, script)) = security_of(topic) {
            let line = SecurityLine { store: store.into(), script: script.into() };
            out.write_all(b"{\"security\":")?;
            serde_json::to_writer(&mut *out, &line)?;
            out.write_all(b"}\n")?;
            continue;
        }
        // A session is its client's, who has what it was told of it.
        if topic.session_path().is_some() || topic.is_durable_session() {
            continue;
        }
        let kind = TopicType::from_number(topic.kind).map(|kind| kind.name().into());
        let kind = kind.ok_or_else(|| io::Error::other(format!("topic '{}' has the unknown type {}", topic.path, topic.kind)))?;
        let raw = topic.value.as_deref().map(|value| raw(form(topic.kind), value)).transpose()?;
        let line = TopicLine {
            path: topic.path.as_str().into(),
            kind,
            properties: topic.properties.iter().map(|(key, value)| (Cow::Borrowed(&**key), Cow::Borrowed(&**value))).collect(),
            version: topic.version,
            series: topic.last_sequence.map(|last_sequence| SeriesLine {
                first_kept: topic.first_kept,
                last_sequence,
                latest: topic.latest_ms,
            }),
            value: raw.as_deref(),
        };
        serde_json::to_writer(&mut *out, &line)?;
        out.write_all(b"\n")?;
        for event in topic.events.values() {
            write_event(topic, event, out)?;
        }
    }
    Ok(state.topics.values().filter(|topic| topic.session_path().is_none()).count() as u64)
}

fn write_view(name: &str, topic: &StoredTopic, out: &mut dyn Write) -> io::Result<()> {
    let property = |key: &str| topic.property(key).ok_or_else(|| io::Error::other(format!("view '{name}' has no {key}")));
    let place = property("place")?.parse().map_err(|_| io::Error::other(format!("the place of view '{name}' is no number")))?;
    let maker = |key: &str| topic.property(key).map(Into::into);
    let line = ViewLine {
        name: name.into(),
        place,
        definition: property("definition")?.into(),
        principal: maker("principal"),
        roles: maker("roles"),
    };
    out.write_all(b"{\"view\":")?;
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"}\n")
}

/// What roles permit, or the principals: the store's name, and its script.
fn security_of(topic: &StoredTopic) -> Option<(&'static str, &str)> {
    let roles = topic.security_script().map(|script| ("roles", script));
    roles.or_else(|| topic.principals_script().map(|script| ("principals", script)))
}

fn write_table(branch: &str, topic: &StoredTopic, out: &mut dyn Write) -> io::Result<()> {
    let row = |(filter, branch): &(Box<str>, Box<str>)| RowLine { filter: filter.to_string().into(), branch: branch.to_string().into() };
    let line = TableLine { branch: branch.into(), mappings: topic.properties.iter().map(row).collect() };
    out.write_all(b"{\"session_tree\":")?;
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"}\n")
}

fn write_event(topic: &StoredTopic, event: &StoredEvent, out: &mut dyn Write) -> io::Result<()> {
    let raw = raw(event_form(topic), &event.value)?;
    let StoredEvent { sequence, original, timestamp_ms: timestamp, .. } = *event;
    let line = EventLine { sequence, timestamp, author: (&*event.author).into(), original, value: &raw };
    out.write_all(b"{\"event\":")?;
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"}\n")
}

/// Reads what [`write()`] wrote. The topics get new ids, in the order of the lines.
pub fn read(lines: &mut dyn BufRead) -> Result<Result<State, LineError>, io::Error> {
    let mut reading = Reading::default();
    for (at, line) in lines.lines().enumerate() {
        let text = line?;
        if let Err(reason) = reading.take(&text) {
            return Ok(Err(LineError { line: at + 1, reason }));
        }
    }
    Ok(Ok(reading.state))
}

#[derive(Default)]
struct Reading {
    state: State,
    paths: HashSet<TopicPath>,
    view_places: HashSet<u64>,
}

impl Reading {
    fn take(&mut self, text: &str) -> Result<(), String> {
        let expected = |error: serde_json::Error| format!("expected a topic or an event: {error}");
        let any: AnyLine<'_> = serde_json::from_str(text).map_err(expected)?;
        if let Some(view) = any.view {
            return self.take_view(serde_json::from_str(view.get()).map_err(expected)?);
        }
        if let Some(table) = any.session_tree {
            return self.take_table(serde_json::from_str(table.get()).map_err(expected)?);
        }
        if let Some(security) = any.security {
            return self.take_security(serde_json::from_str(security.get()).map_err(expected)?);
        }
        match any.event {
            Some(event) => self.take_event(serde_json::from_str(event.get()).map_err(expected)?),
            None => self.take_topic(serde_json::from_str(text).map_err(expected)?),
        }
    }

    fn take_view(&mut self, line: ViewLine<'_>) -> Result<(), String> {
        let ViewLine { name, place, definition, principal, roles } = line;
        Definition::parse(&definition, &ViewLimits::default()).map_err(|error| format!("view '{name}': {error}"))?;
        catalogue::check_name(&name)?;
        let path = TopicPath::of_branch(&format!("{VIEWS_BRANCH}{name}"));
        if !self.paths.insert(path.clone()) {
            return Err(format!("found view '{name}' a second time, expected each once"));
        }
        if !self.view_places.insert(place) || place == 0 {
            return Err(format!("found place {place} for view '{name}', expected one of its own from 1"));
        }
        let mut properties = vec![("definition".into(), definition.into()), ("place".into(), place.to_string().into())];
        match (principal, roles) {
            (Some(principal), Some(roles)) => properties.extend([("principal".into(), principal.into()), ("roles".into(), roles.into())]),
            (None, None) => {}
            _ => return Err(format!("view '{name}': expected both principal and roles, or neither")),
        }
        self.state.highest_topic += 1;
        self.state.topics.insert(TopicId(self.state.highest_topic), StoredTopic::new(path, VIEW_KIND, properties));
        Ok(())
    }

    fn take_security(&mut self, line: SecurityLine<'_>) -> Result<(), String> {
        let SecurityLine { store, script } = line;
        let wrong = |error: &dyn fmt::Display| format!("the script of {store}: {error}");
        // How much it may be is for the server that takes it up.
        let path = match &*store {
            "roles" => {
                let most = SecurityLimits { roles_max: usize::MAX, paths_max: usize::MAX, text_bytes_max: usize::MAX };
                SecurityStore::parse(&script, most).map_err(|error| wrong(&error))?;
                SECURITY_PATH
            }
            "principals" => {
                let most = PrincipalLimits { text_bytes_max: usize::MAX, ..PrincipalLimits::default() };
                PrincipalScript::parse(&script, most).map_err(|error| wrong(&error))?;
                PRINCIPALS_PATH
            }
            other => return Err(format!("found the store '{other}', expected roles or principals")),
        };
        let path = TopicPath::of_branch(path);
        if !self.paths.insert(path.clone()) {
            return Err(format!("found the store '{store}' a second time, expected each once"));
        }
        self.state.highest_topic += 1;
        let properties = vec![("script".into(), script.into())];
        self.state.topics.insert(TopicId(self.state.highest_topic), StoredTopic::new(path, SECURITY_KIND, properties));
        Ok(())
    }

    fn take_table(&mut self, line: TableLine<'_>) -> Result<(), String> {
        let TableLine { branch, mappings } = line;
        TopicPath::parse(&branch, usize::MAX).map_err(|error| format!("branch '{branch}': {error}"))?;
        let rows = mappings.iter().map(|row| (&*row.filter, &*row.branch));
        let table = Table::parse(rows, usize::MAX);
        let table = table.map_err(|error| format!("the table of '{branch}': {}", error.message))?;
        let path = TopicPath::of_branch(&format!("{SESSION_TREES_BRANCH}{branch}"));
        if table.is_empty() || !self.paths.insert(path.clone()) {
            return Err(format!("expected one table of '{branch}', with rows"));
        }
        self.state.highest_topic += 1;
        self.state.topics.insert(TopicId(self.state.highest_topic), StoredTopic::new(path, SESSION_TREE_KIND, table.texts()));
        Ok(())
    }

    fn take_topic(&mut self, line: TopicLine<'_>) -> Result<(), String> {
        let path = TopicPath::parse(&line.path, usize::MAX).map_err(|error| format!("path '{}': {error}", line.path))?;
        if !self.paths.insert(path.clone()) {
            return Err(format!("found path '{path}' a second time, expected each once"));
        }
        let topic_type =
            TopicType::from_name(&line.kind).ok_or_else(|| format!("found type '{}', expected one that is known", line.kind))?;
        let kind = topic_type.number();
        let properties = line.properties.iter().map(|(key, value)| (&**key, &**value));
        Specification::parse(topic_type, properties, SpecificationLimits::default()).map_err(|error| error.to_string())?;
        let properties = line.properties.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        let mut topic = StoredTopic::new(path, kind, properties);
        topic.version = line.version;
        if let Some(SeriesLine { first_kept, last_sequence, latest }) = line.series {
            if last_sequence > SEQUENCE_MAX {
                return Err(format!("found last_sequence = {last_sequence}, expected at most {SEQUENCE_MAX}"));
            }
            (topic.first_kept, topic.last_sequence, topic.latest_ms) = (first_kept, Some(last_sequence), latest);
        }
        if let Some(raw) = line.value {
            if line.version == 0 {
                return Err("found a value of version 0, expected versions from 1".to_owned());
            }
            topic.value = Some(bytes(form(kind), raw)?);
        }
        self.state.highest_topic += 1;
        self.state.topics.insert(TopicId(self.state.highest_topic), topic);
        Ok(())
    }

    fn take_event(&mut self, line: EventLine<'_>) -> Result<(), String> {
        let Some(mut entry) = self.state.topics.last_entry() else {
            return Err("found an event, expected its topic before it".to_owned());
        };
        let topic = entry.get_mut();
        if !topic.is_topic() {
            return Err("found an event behind what is no topic, expected its topic before it".to_owned());
        }
        if let Some((last, _)) = topic.events.last_key_value().filter(|(last, _)| line.sequence <= **last) {
            return Err(format!("found event {} behind event {last}, expected ascending sequence numbers", line.sequence));
        }
        if line.sequence < topic.first_kept {
            return Err(format!("found event {}, expected none below first_kept = {}", line.sequence, topic.first_kept));
        }
        let value = bytes(event_form(topic), line.value)?;
        let EventLine { sequence, original, timestamp: timestamp_ms, author, .. } = line;
        topic.last_sequence = topic.last_sequence.max(Some(sequence));
        topic.latest_ms = topic.latest_ms.max(timestamp_ms);
        topic.events.insert(sequence, StoredEvent { sequence, original, timestamp_ms, author: author.into(), value });
        Ok(())
    }
}

fn form(kind: u8) -> ValueType {
    ValueType::from_number(kind).unwrap_or(ValueType::Binary)
}

fn event_form(topic: &StoredTopic) -> ValueType {
    let named = topic.properties.iter().find(|(key, _)| &**key == EVENT_TYPE);
    named.and_then(|(_, name)| ValueType::from_name(name)).unwrap_or(ValueType::Binary)
}

fn raw(form: ValueType, value: &[u8]) -> io::Result<Box<RawValue>> {
    let mut text = Vec::new();
    scalar::append_json(form, value, &mut text);
    let text = String::from_utf8(text).map_err(io::Error::other)?;
    Ok(RawValue::from_string(text)?)
}

fn bytes(form: ValueType, raw: &RawValue) -> Result<Box<[u8]>, String> {
    let mut out = Vec::new();
    if form == ValueType::Json {
        Checker::new().compact(raw.get().as_bytes(), LIMITS, &mut out).map_err(|error| error.to_string())?;
    } else {
        scalar::from_json(form, raw.get(), &mut out).map_err(|error| error.to_string())?;
    }
    Ok(out.into())
}
