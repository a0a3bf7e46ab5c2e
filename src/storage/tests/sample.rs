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
    Change::Event { topic: TopicId(topic), sequence, original: None, timestamp_ms: sequence * 10, author: "me".into(), value, first_kept }
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
