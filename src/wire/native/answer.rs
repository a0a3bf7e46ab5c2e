//! What `WELCOME`, `OK` and `ERROR` carry.

use super::{VERSION, op, put_frame, put_number_field, put_properties, read_properties};
use crate::value::ValueType;
use crate::wire::varint::{self, Malformed, Reader};
use std::sync::Arc;

/// What the server tells a session at connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    pub server: String,
    pub capabilities: u64,
    pub session: String,
    pub keep_alive_ms: u64,
    pub message_bytes_max: u64,
    pub path_bytes_max: u64,
    pub value_bytes_max: u64,
    pub selections_max: u64,
    pub fetch_page_max: u64,
}

impl Welcome {
    /// The numbered limits, by field tag.
    pub fn numbers(&self) -> [(u64, &'static str, u64); 6] {
        [
            (4, "keep_alive_ms", self.keep_alive_ms),
            (5, "message_bytes_max", self.message_bytes_max),
            (6, "path_bytes_max", self.path_bytes_max),
            (7, "value_bytes_max", self.value_bytes_max),
            (8, "selections_max", self.selections_max),
            (9, "fetch_page_max", self.fetch_page_max),
        ]
    }
}

pub fn put_welcome(out: &mut Vec<u8>, id: u64, welcome: &Welcome) {
    put_frame(out, op::WELCOME, |out| {
        varint::put(out, id);
        varint::put(out, VERSION);
        varint::put(out, 1);
        varint::put_bytes(out, welcome.server.as_bytes());
        put_number_field(out, 2, welcome.capabilities);
        varint::put(out, 3);
        varint::put_bytes(out, welcome.session.as_bytes());
        for (tag, _, value) in welcome.numbers() {
            put_number_field(out, tag, value);
        }
    });
}

/// One topic of a fetch's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub path: String,
    /// The number of the topic's type.
    pub kind: u8,
    /// The type of its values.
    pub value_kind: ValueType,
    /// With values asked for: the topic's, if it has one.
    pub value: Option<Vec<u8>>,
    /// With properties asked for.
    pub properties: Arc<[(Box<str>, Box<str>)]>,
    /// With sizes asked for: the value's length, if it has one.
    pub size: Option<usize>,
}

/// What a fetch's answer shows of each topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    pub values: bool,
    pub properties: bool,
    pub sizes: bool,
}

/// One event of a query's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventEntry {
    pub sequence: u64,
    pub timestamp_ms: u64,
    pub original: Option<u64>,
    pub author: Arc<str>,
    pub value: Vec<u8>,
}

/// One view of an answer: what it is, and what it does at present.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ViewEntry {
    pub name: String,
    pub definition: String,
    /// Order of creation, from 1. Of two views that make one path, the smaller place wins.
    pub place: u64,
    /// It waits for the remote server that it maps from.
    pub is_dormant: bool,
    pub sources: u64,
    pub references: u64,
    pub evaluations: u64,
    pub failures: u64,
    /// `source/path: why`; empty for none.
    pub last_failure: String,
}

/// What an `OK` carries behind its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Created(bool),
    Removed(u64),
    Page { has_more: bool, shown: Shown, entries: Vec<Entry> },
    Appended { sequence: u64, timestamp_ms: u64 },
    Events { is_complete: bool, kind: ValueType, events: Vec<EventEntry> },
    Views { has_more: bool, views: Vec<ViewEntry> },
}

pub fn put_ok(out: &mut Vec<u8>, id: u64, outcome: &Outcome) {
    put_frame(out, op::OK, |out| {
        varint::put(out, id);
        match outcome {
            Outcome::Done => {}
            Outcome::Created(created) => out.push(u8::from(*created)),
            Outcome::Removed(count) => varint::put(out, *count),
            Outcome::Page { has_more, shown, entries } => {
                out.push(u8::from(*has_more));
                varint::put(out, entries.len() as u64);
                entries.iter().for_each(|entry| put_entry(out, entry, *shown));
            }
            Outcome::Appended { sequence, timestamp_ms } => {
                varint::put(out, *sequence);
                varint::put(out, *timestamp_ms);
            }
            Outcome::Events { is_complete, kind, events } => {
                out.push(u8::from(*is_complete));
                out.push(*kind as u8);
                varint::put(out, events.len() as u64);
                events.iter().for_each(|event| put_event_entry(out, event));
            }
            Outcome::Views { has_more, views } => {
                out.push(u8::from(*has_more));
                varint::put(out, views.len() as u64);
                views.iter().for_each(|view| put_view_entry(out, view));
            }
        }
    });
}

fn put_entry(out: &mut Vec<u8>, entry: &Entry, shown: Shown) {
    varint::put_bytes(out, entry.path.as_bytes());
    out.push(entry.kind);
    if shown.values {
        match &entry.value {
            None => varint::put(out, 0),
            Some(value) => {
                varint::put(out, 1 + value.len() as u64);
                out.extend_from_slice(value);
            }
        }
    }
    if shown.properties {
        put_properties(out, entry.properties.iter().map(|(key, value)| (&**key, &**value)));
    }
    if shown.sizes {
        varint::put(out, entry.size.map_or(0, |size| 1 + size as u64));
    }
}

fn put_event_entry(out: &mut Vec<u8>, event: &EventEntry) {
    varint::put(out, event.sequence);
    varint::put(out, event.timestamp_ms);
    varint::put(out, event.original.map_or(0, |original| original + 1));
    varint::put_bytes(out, event.author.as_bytes());
    varint::put_bytes(out, &event.value);
}

fn put_view_entry(out: &mut Vec<u8>, view: &ViewEntry) {
    varint::put_bytes(out, view.name.as_bytes());
    varint::put_bytes(out, view.definition.as_bytes());
    varint::put(out, view.place);
    out.push(u8::from(view.is_dormant));
    for number in [view.sources, view.references, view.evaluations, view.failures] {
        varint::put(out, number);
    }
    varint::put_bytes(out, view.last_failure.as_bytes());
}

/// Reads the page of an `OK` that answers a `FETCH`.
pub fn decode_page(reader: &mut Reader<'_>, shown: Shown) -> Result<Outcome, Malformed> {
    let has_more = reader.byte()? != 0;
    let count = reader.varint()?;
    let mut entries = Vec::new();
    for _ in 0..count {
        entries.push(decode_entry(reader, shown)?);
    }
    Ok(Outcome::Page { has_more, shown, entries })
}

fn decode_entry(reader: &mut Reader<'_>, shown: Shown) -> Result<Entry, Malformed> {
    let path = reader.string()?.to_owned();
    let kind = reader.byte()?;
    let optional = |reader: &mut Reader<'_>| Ok(usize::try_from(reader.varint()?).map_err(|_| Malformed)?.checked_sub(1));
    let mut value = None;
    if shown.values
        && let Some(length) = optional(reader)?
    {
        let (bytes, rest) = reader.0.split_at_checked(length).ok_or(Malformed)?;
        reader.0 = rest;
        value = Some(bytes.to_vec());
    }
    let properties = if shown.properties { read_properties(reader)? } else { Vec::new() };
    let size = if shown.sizes { optional(reader)? } else { None };
    let value_kind = match ValueType::from_number(kind) {
        Some(kind) => kind,
        None => event_value_kind(&properties).unwrap_or(ValueType::Binary),
    };
    let properties = properties.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
    Ok(Entry { path, kind, value_kind, value, properties, size })
}

/// A time series names the type of its values in its properties.
fn event_value_kind(properties: &[(&str, &str)]) -> Option<ValueType> {
    let (_, name) = properties.iter().find(|(key, _)| *key == "TIME_SERIES_EVENT_VALUE_TYPE")?;
    ValueType::from_name(name)
}

/// Reads the events of an `OK` that answers a `QUERY`.
pub fn decode_events(reader: &mut Reader<'_>) -> Result<Outcome, Malformed> {
    let is_complete = reader.byte()? != 0;
    let kind = ValueType::from_number(reader.byte()?).ok_or(Malformed)?;
    let count = reader.varint()?;
    let mut events = Vec::new();
    for _ in 0..count {
        let (sequence, timestamp_ms, original) = (reader.varint()?, reader.varint()?, reader.varint()?.checked_sub(1));
        let (author, value) = (reader.string()?.into(), reader.bytes()?.to_vec());
        events.push(EventEntry { sequence, timestamp_ms, original, author, value });
    }
    Ok(Outcome::Events { is_complete, kind, events })
}

/// Reads the views of an `OK` that answers a `LIST_VIEWS` or a `GET_VIEW`.
pub fn decode_views(reader: &mut Reader<'_>) -> Result<Outcome, Malformed> {
    let has_more = reader.byte()? != 0;
    let count = reader.varint()?;
    let mut views = Vec::new();
    for _ in 0..count {
        views.push(decode_view_entry(reader)?);
    }
    Ok(Outcome::Views { has_more, views })
}

fn decode_view_entry(reader: &mut Reader<'_>) -> Result<ViewEntry, Malformed> {
    Ok(ViewEntry {
        name: reader.string()?.to_owned(),
        definition: reader.string()?.to_owned(),
        place: reader.varint()?,
        is_dormant: reader.byte()? & 1 != 0,
        sources: reader.varint()?,
        references: reader.varint()?,
        evaluations: reader.varint()?,
        failures: reader.varint()?,
        last_failure: reader.string()?.to_owned(),
    })
}

pub fn put_error(out: &mut Vec<u8>, id: u64, code: u16, position: Option<usize>, message: &str) {
    put_frame(out, op::ERROR, |out| {
        varint::put(out, id);
        varint::put(out, u64::from(code));
        varint::put(out, position.map_or(0, |p| p as u64 + 1));
        out.extend_from_slice(message.as_bytes());
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(name: &str) -> ViewEntry {
        let definition = "map ?a// to b/<path(1)>".to_owned();
        ViewEntry { name: name.to_owned(), definition, place: 300, sources: 2, references: 1, evaluations: 7, ..ViewEntry::default() }
    }

    /// The views come back from the body of their OK, of which no part is read as views.
    fn check(has_more: bool, views: Vec<ViewEntry>) {
        let outcome = Outcome::Views { has_more, views };
        let mut written = Vec::new();
        put_ok(&mut written, 5, &outcome);
        let frame = super::super::next_frame(&mut &written[..]).unwrap().unwrap();
        let body = &frame.body[1..];
        let mut reader = Reader(body);
        assert_eq!((decode_views(&mut reader), reader.is_empty()), (Ok(outcome), true));
        for length in 0..body.len() {
            assert_eq!(decode_views(&mut Reader(&body[..length])), Err(Malformed), "{length} bytes");
        }
    }

    #[test]
    fn views_come_back() {
        check(false, Vec::new());
        check(true, vec![view("one")]);
        let failing = ViewEntry { failures: 200, last_failure: "a/x: divided by zero".to_owned(), ..view("two") };
        check(false, vec![failing, ViewEntry { is_dormant: true, ..view("d\u{e9}") }]);
    }

    #[test]
    fn a_view_has_no_other_flags_yet() {
        let body = b"\x00\x01\x01n\x01m\x01\xfe\x00\x00\x00\x00\x00";
        let Ok(Outcome::Views { views, .. }) = decode_views(&mut Reader(body)) else { panic!("views") };
        assert!(!views[0].is_dormant);
    }
}
