//! What `WELCOME` and `OK` carry, and how a client reads an answer.

use crate::value::ValueType;
use crate::wire::varint::{Malformed, Reader, read_properties};
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
    pub resumption: Option<Resumption>,
}

/// How the client goes on with its session after its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumption {
    /// By which it does.
    pub token: String,
    /// For how long the session stays without a connection.
    pub stay_ms: u64,
    /// So much is sent before the client has to say what it has processed.
    pub recovery_bytes_max: u64,
    /// How many requests of its client the session knows, where this connection goes on with an earlier one's.
    pub requests: Option<u64>,
    /// The session outlives the server too.
    pub is_durable: bool,
    /// The server was started anew since the client heard of it last: all that it was sent before is void.
    pub is_restored: bool,
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

/// One lock of an answer: who holds it, and how many wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockEntry {
    pub name: String,
    /// The session's name to clients.
    pub session: String,
    /// Of the grant.
    pub number: u64,
    pub scope: u8,
    pub waiting: u64,
}

/// One row of a branch mapping table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchMapping {
    /// Which sessions it is for.
    pub filter: String,
    /// Where in the topic tree they find what lies in the table's branch.
    pub branch: String,
}

/// What an `OK` carries behind its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Created(bool),
    Removed(u64),
    Page {
        has_more: bool,
        shown: Shown,
        entries: Vec<Entry>,
    },
    Appended {
        sequence: u64,
        timestamp_ms: u64,
    },
    Events {
        is_complete: bool,
        kind: ValueType,
        events: Vec<EventEntry>,
    },
    Views {
        has_more: bool,
        views: Vec<ViewEntry>,
    },
    Locked {
        number: u64,
    },
    /// Whether it was held.
    Unlocked(bool),
    Locks {
        has_more: bool,
        locks: Vec<LockEntry>,
    },
    /// Of another client; `None` for null.
    Response {
        kind: u8,
        value: Option<Vec<u8>>,
    },
    /// So many sessions were asked, or met.
    Asked(u64),
    Sessions {
        has_more: bool,
        sessions: Vec<SessionEntry>,
    },
    Presence {
        has_more: bool,
        present: Vec<PresenceEntry>,
    },
    Selections {
        has_more: bool,
        selections: Vec<SelectionEntry>,
    },
    /// Of a branch without a table none.
    SessionTree(Vec<BranchMapping>),
    /// A part of a script, in whole lines.
    /// The token of the session from now on; empty where it has none, or the same as before.
    Authenticated {
        token: String,
    },
    Script {
        has_more: bool,
        text: String,
    },
    SessionTrees {
        has_more: bool,
        branches: Vec<String>,
    },
}

/// A session that is subscribed to a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceEntry {
    /// The topic's; empty where each session is told once.
    pub path: Box<str>,
    /// The session's name to clients.
    pub session: Box<str>,
    pub principal: Box<str>,
}

/// What a selection does, by its number.
pub const SELECTION_DESELECTS: u8 = 0;
pub const SELECTION_SELECTS: u8 = 1;
/// It is a topic filter of MQTT, which selects.
pub const SELECTION_IS_FILTER: u8 = 2;

/// One of a session's selections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectionEntry {
    /// Empty for the default one.
    pub scope: Box<str>,
    /// In its canonical form; a topic filter of MQTT as its client wrote it.
    pub selector: Box<str>,
    pub kind: u8,
}

/// A session as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionEntry {
    pub session: String,
    /// It has no connection now.
    pub is_away: bool,
    pub properties: Box<[(Box<str>, Box<str>)]>,
    /// Topics that it is subscribed to.
    pub subscriptions: u64,
    /// What waits for it.
    pub queue_bytes: u64,
    /// What it was sent since it began.
    pub sent_bytes: u64,
    /// How often older values gave way to newer ones.
    pub conflations: u64,
    /// Others have ordered that only the newest value of a topic waits for it.
    pub is_conflated: bool,
    /// What was lost to it: messages of MQTT that there was no room for, and gaps.
    pub dropped: u64,
    /// Between the last two looks at it.
    pub sent_bytes_per_s: u64,
    /// For so long its client was not heard; `None` where nobody knows.
    pub idle_ms: Option<u64>,
}

/// Reads the `OK` that answers LIST_SESSIONS.
pub fn decode_sessions(reader: &mut Reader<'_>) -> Result<Outcome, Malformed> {
    let has_more = reader.byte()? != 0;
    let count = reader.varint()?;
    let mut sessions = Vec::new();
    for _ in 0..count {
        sessions.push(SessionEntry {
            session: reader.string()?.to_owned(),
            is_away: reader.byte()? & 1 != 0,
            properties: read_properties(reader)?.into_iter().map(|(key, value)| (key.into(), value.into())).collect(),
            subscriptions: reader.varint()?,
            queue_bytes: reader.varint()?,
            sent_bytes: reader.varint()?,
            conflations: reader.varint()?,
            is_conflated: reader.byte()? & 1 != 0,
            dropped: reader.varint()?,
            sent_bytes_per_s: reader.varint()?,
            idle_ms: reader.varint()?.checked_sub(1),
        });
    }
    Ok(Outcome::Sessions { has_more, sessions })
}

/// Reads the `OK` that answers LIST_PRESENCE.
pub fn decode_presence(reader: &mut Reader<'_>) -> Result<Outcome, Malformed> {
    let has_more = reader.byte()? != 0;
    Ok(Outcome::Presence { has_more, present: read_present(reader)? })
}

pub(super) fn read_present(reader: &mut Reader<'_>) -> Result<Vec<PresenceEntry>, Malformed> {
    let count = reader.varint()?;
    let mut present = Vec::new();
    for _ in 0..count {
        let (path, session, principal) = (reader.string()?.into(), reader.string()?.into(), reader.string()?.into());
        present.push(PresenceEntry { path, session, principal });
    }
    Ok(present)
}

/// Reads the `OK` that answers LIST_SELECTIONS.
pub fn decode_selections(reader: &mut Reader<'_>) -> Result<Outcome, Malformed> {
    let has_more = reader.byte()? != 0;
    let count = reader.varint()?;
    let mut selections = Vec::new();
    for _ in 0..count {
        selections.push(SelectionEntry { scope: reader.string()?.into(), selector: reader.string()?.into(), kind: reader.byte()? });
    }
    Ok(Outcome::Selections { has_more, selections })
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

/// Reads the locks of an `OK` that answers a `LIST_LOCKS`.
pub fn decode_locks(reader: &mut Reader<'_>) -> Result<Outcome, Malformed> {
    let has_more = reader.byte()? != 0;
    let count = reader.varint()?;
    let mut locks = Vec::new();
    for _ in 0..count {
        locks.push(LockEntry {
            name: reader.string()?.to_owned(),
            session: reader.string()?.to_owned(),
            number: reader.varint()?,
            scope: reader.byte()?,
            waiting: reader.varint()?,
        });
    }
    Ok(Outcome::Locks { has_more, locks })
}

/// Reads the rows of an `OK` that answers a `GET_SESSION_TREE`.
pub fn decode_session_tree(reader: &mut Reader<'_>) -> Result<Outcome, Malformed> {
    let rows = read_properties(reader)?.into_iter();
    let rows = rows.map(|(filter, branch)| BranchMapping { filter: filter.to_owned(), branch: branch.to_owned() });
    Ok(Outcome::SessionTree(rows.collect()))
}

/// Reads what an `OK` says that answers an `AUTHENTICATE`.
pub fn decode_authenticated(reader: &mut Reader<'_>) -> Result<Outcome, Malformed> {
    Ok(Outcome::Authenticated { token: reader.string()?.to_owned() })
}

/// Reads the part of a script of an `OK` that answers a `GET_SECURITY`.
pub fn decode_script(reader: &mut Reader<'_>) -> Result<Outcome, Malformed> {
    Ok(Outcome::Script { has_more: reader.byte()? != 0, text: reader.string()?.to_owned() })
}

/// Reads the branches of an `OK` that answers a `LIST_SESSION_TREES`.
pub fn decode_session_trees(reader: &mut Reader<'_>) -> Result<Outcome, Malformed> {
    let has_more = reader.byte()? != 0;
    let count = reader.varint()?;
    let mut branches = Vec::new();
    for _ in 0..count {
        branches.push(reader.string()?.to_owned());
    }
    Ok(Outcome::SessionTrees { has_more, branches })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::event::{self, Event, Form};

    fn view(name: &str) -> ViewEntry {
        let definition = "map ?a// to b/<path(1)>".to_owned();
        ViewEntry { name: name.to_owned(), definition, place: 300, sources: 2, references: 1, evaluations: 7, ..ViewEntry::default() }
    }

    /// The views come back from the body of their OK, of which no part is read as views.
    fn check(has_more: bool, views: Vec<ViewEntry>) {
        let outcome = Outcome::Views { has_more, views };
        let mut written = Vec::new();
        event::put(&mut written, Form::Binary, &Event::Ok { id: 5, outcome: &outcome });
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
