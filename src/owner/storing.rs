//! What of topics is stored, as records for the ledger.
//!
//! While storage fails, updates of stored topics are refused before they change anything; what was sent before stays on its way.

use crate::desk::{Desk, Storing, Ticket};
use crate::journal::Change;
use crate::owner::Owner;
use crate::protocol::{ErrorCode, Refusal};
use crate::series;
use crate::topic::publication::Publication;
use crate::topic::specification::Specification;
use crate::topic::tree::{Place, Topic};
use std::sync::Arc;

impl Owner {
    pub(super) fn check_topic_storage(&self, desk: &Desk, place: Place) -> Result<(), Refusal> {
        match desk.ledger.failure() {
            None => Ok(()),
            Some(_) => check_storage(desk, &self.tree.topic(place).specification),
        }
    }

    /// What an answer about a topic as it is waits for where it changes nothing: a topic that was found must not be gone after a crash.
    pub(super) fn store_found(&self, desk: &Desk, place: Place) -> Option<Ticket> {
        desk.ledger.earlier().filter(|_| stores(desk, &self.tree.topic(place).specification))
    }

    pub(super) fn store_event(
        &mut self,
        desk: &mut Desk,
        place: Place,
        publication: &Arc<Publication>,
        appended: series::Appended,
    ) -> Option<Ticket> {
        let topic = self.tree.topic(place);
        if !stores(desk, &topic.specification) {
            return None;
        }
        let (head, value) = (publication.event_head()?, publication.value()?);
        let author = if head.author == &*desk.anonymous { desk.anonymous.clone() } else { head.author.into() };
        let series::Appended { sequence, timestamp_ms, first_kept, dropped } = appended;
        desk.ledger.append(Change::Event {
            topic: topic.id,
            sequence,
            original: head.original,
            timestamp_ms,
            author,
            value: value.into(),
            first_kept,
            dropped,
        })
    }
}

fn stores(desk: &Desk, specification: &Specification) -> bool {
    desk.ledger.storing() != Storing::Off && specification.is_persistent()
}

/// Refuses what could not be stored now.
pub(super) fn check_storage(desk: &Desk, specification: &Specification) -> Result<(), Refusal> {
    match desk.ledger.failure() {
        Some(reason) if stores(desk, specification) => {
            Err(Refusal::new(ErrorCode::StorageUnavailable, format!("updates of stored topics are refused for now: {reason}")))
        }
        _ => Ok(()),
    }
}

pub(super) fn store_added(desk: &mut Desk, topic: &Topic) -> Option<Ticket> {
    let specification = &topic.specification;
    if !stores(desk, specification) {
        return None;
    }
    let properties = specification.properties().map(|(key, value)| (key.into(), value.into())).collect();
    let kind = specification.topic_type().number();
    desk.ledger.append(Change::Added { topic: topic.id, path: topic.path.clone(), kind, properties })
}

/// Whether the values of such a topic are stored.
pub(super) fn stores_value(desk: &Desk, specification: &Specification) -> bool {
    stores(desk, specification) && specification.retains_value()
}

pub(super) fn store_value(desk: &mut Desk, publication: &Arc<Publication>) -> Option<Ticket> {
    let expires_ms = publication.message().and_then(|message| message.expires).map(|expires| desk.wall_ms_of(expires));
    desk.ledger.append(match publication.is_null() {
        false if publication.message().is_some() => Change::Message { publication: publication.clone(), expires_ms },
        false => Change::Value { publication: publication.clone() },
        true => Change::NoValue { topic: publication.topic, version: publication.version },
    })
}

/// Refuses a change of views that could not be stored now.
pub(super) fn check_view_storage(desk: &Desk) -> Result<(), Refusal> {
    match desk.ledger.failure() {
        Some(reason) => Err(Refusal::new(ErrorCode::StorageUnavailable, format!("views cannot be changed for now: {reason}"))),
        None => Ok(()),
    }
}

pub(super) fn store_removed(desk: &mut Desk, topic: &Topic) -> Option<Ticket> {
    if !stores(desk, &topic.specification) || topic.is_passing {
        return None;
    }
    desk.ledger.append(Change::Removed { topic: topic.id })
}
