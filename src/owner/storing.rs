//! What of topics is stored, as records for the ledger.

use super::record::{Added, Event, Record};
use crate::base::TopicId;
use crate::desk::{Desk, Ticket};
use crate::journal::{Change, Expiry};
use crate::owner::Owner;
use crate::topic::path::TopicPath;
use crate::topic::publication::Publication;
use crate::topic::specification::Specification;
use crate::topic::tree::{Place, Topic};
use crate::wire::native::EventHead;
use std::sync::Arc;

impl Owner {
    /// Gives the ledger what of a record is to be stored, before the record is applied to the topic at its path. Only where topics are stored.
    pub(super) fn store(&self, desk: &mut Desk, at: Option<Place>, record: &Record) -> Option<Ticket> {
        if let Record::Added(added) = record {
            return store_new(desk, added);
        }
        let topic = self.tree.topic(at.expect("only what is added is of a topic that is not there"));
        let Topic { id, path, specification, is_passing, .. } = topic;
        if !specification.is_persistent() {
            return None;
        }
        match record {
            // The one record that says of a topic which was only passed through that it is there.
            Record::Kept => store_added(desk, *id, path, specification),
            Record::Value(publication) => {
                let added = if *is_passing { store_added(desk, *id, path, specification) } else { None };
                if specification.retains_value() { store_value(desk, publication) } else { added }
            }
            Record::Event(event) => store_event(desk, event),
            Record::Cleared(_) | Record::Removed if !is_passing => desk.ledger.append(Change::Removed { topic: *id }),
            Record::Added(_) | Record::Passed(_) | Record::Cleared(_) | Record::Removed => None,
        }
    }
}

fn store_new(desk: &mut Desk, added: &Added) -> Option<Ticket> {
    let Added { id, path, specification, is_passing, value, .. } = added;
    if *is_passing || !specification.is_persistent() {
        return None;
    }
    let ticket = store_added(desk, *id, path, specification);
    value.as_ref().and_then(|publication| store_value(desk, publication)).or(ticket)
}

fn store_added(desk: &mut Desk, topic: TopicId, path: &TopicPath, specification: &Specification) -> Option<Ticket> {
    let properties = specification.properties().map(|(key, value)| (key.into(), value.into())).collect();
    desk.ledger.append(Change::Added { topic, path: path.clone(), kind: specification.topic_type().number(), properties })
}

fn store_value(desk: &mut Desk, publication: &Arc<Publication>) -> Option<Ticket> {
    let expires = publication.message().and_then(|message| message.expires);
    let expiry = expires.map(|expires| Expiry::new(desk.wall_ms_of(expires), desk.wall_ms()));
    desk.ledger.append(match publication.is_null() {
        false if publication.message().is_some() => Change::Message { publication: publication.clone(), expiry },
        false => Change::Value { publication: publication.clone() },
        true => Change::NoValue { topic: publication.topic, version: publication.version },
    })
}

fn store_event(desk: &mut Desk, event: &Event) -> Option<Ticket> {
    let Event { publication, author, first_kept, dropped } = event;
    let EventHead { sequence, timestamp_ms, original, .. } = publication.event_head().expect("the publication of an event has its head");
    let value = publication.value().expect("an event has a value").into();
    let (author, first_kept, dropped) = (author.clone(), *first_kept, *dropped);
    desk.ledger.append(Change::Event { topic: publication.topic, sequence, original, timestamp_ms, author, value, first_kept, dropped })
}
