//! Changes that tests hand over, and their effect.

use crate::base::{Time, TopicId};
use crate::journal::{Append, Change, Record, State};
use crate::topic::path::TopicPath;
use crate::topic::publication::Publication;
use std::sync::Arc;

pub fn added(topic: u64, path: &str) -> Change {
    let path = TopicPath::parse(path, 1000).unwrap();
    Change::Added { topic: TopicId(topic), path, kind: 1, properties: Arc::new([("PRIORITY".into(), "high".into())]) }
}

pub fn value(topic: u64, version: u64, value: &str) -> Change {
    Change::Value { publication: Arc::new(Publication::new(TopicId(topic), version, Time(0), value.as_bytes())) }
}

pub fn event(topic: u64, sequence: u64, first_kept: u64) -> Change {
    let value: Arc<[u8]> = format!("event {sequence}").into_bytes().into();
    let (timestamp_ms, author) = (sequence * 10, "me".into());
    Change::Event { topic: TopicId(topic), sequence, original: None, timestamp_ms, author, value, first_kept, dropped: None }
}

/// Event `sequence`, an edit of event 0, for which the edit `dropped` gives way.
pub fn edit(topic: u64, sequence: u64, dropped: Option<u64>) -> Change {
    let (value, timestamp_ms, author) = ([].into(), sequence * 10, "me".into());
    Change::Event { topic: TopicId(topic), sequence, original: Some(0), timestamp_ms, author, value, first_kept: 0, dropped }
}

pub fn removed(topic: u64) -> Change {
    Change::Removed { topic: TopicId(topic) }
}

pub fn appends(first_ticket: u64, changes: Vec<Change>) -> Vec<Append> {
    (first_ticket..).zip(changes).map(|(ticket, change)| Append { ticket, change }).collect()
}

/// What the changes add up to.
pub fn state<'a>(changes: impl IntoIterator<Item = &'a Change>) -> State {
    let mut state = State::default();
    changes.into_iter().for_each(|change| state.apply(&Record::from(change)));
    state
}
