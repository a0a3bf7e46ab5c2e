//! What of topics is stored, as records for the ledger.
//!
//! While storage fails, updates of stored topics are refused before they change anything; what was sent before stays on its way.

use crate::base::TopicId;
use crate::desk::{Desk, Storing, Ticket};
use crate::journal::Change;
use crate::owner::Owner;
use crate::protocol::{ErrorCode, Refusal};
use crate::series;
use crate::topic::path::TopicPath;
use crate::topic::publication::Publication;
use crate::topic::specification::Specification;
use crate::topic::tree::{Place, Topic};
use std::sync::Arc;

impl Owner {
    fn stores(&self, desk: &Desk, specification: &Specification) -> bool {
        desk.ledger.storing() != Storing::Off && specification.is_persistent()
    }

    /// Refuses what could not be stored now.
    pub(super) fn check_storage(&self, desk: &Desk, specification: &Specification) -> Result<(), Refusal> {
        match desk.ledger.failure() {
            Some(reason) if self.stores(desk, specification) => {
                Err(Refusal::new(ErrorCode::StorageUnavailable, format!("updates of stored topics are refused for now: {reason}")))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn check_topic_storage(&self, desk: &Desk, place: Place) -> Result<(), Refusal> {
        match desk.ledger.failure() {
            None => Ok(()),
            Some(_) => self.check_storage(desk, &self.tree.topic(place).specification),
        }
    }

    /// What an answer about a topic as it is waits for where it changes nothing: a topic that was found must not be gone after a crash.
    pub(super) fn store_found(&self, desk: &Desk, place: Place) -> Option<Ticket> {
        desk.ledger.earlier().filter(|_| self.stores(desk, &self.tree.topic(place).specification))
    }

    pub(super) fn store_added(&mut self, desk: &mut Desk, topic: &Topic) -> Option<Ticket> {
        self.append_added(desk, topic.id, &topic.path, &topic.specification)
    }

    /// The same for a topic that is in the tree already.
    pub(super) fn store_added_at(&mut self, desk: &mut Desk, place: Place) -> Option<Ticket> {
        let topic = self.tree.topic(place);
        let (id, path, specification) = (topic.id, topic.path.clone(), topic.specification.clone());
        self.append_added(desk, id, &path, &specification)
    }

    fn append_added(&mut self, desk: &mut Desk, topic: TopicId, path: &TopicPath, specification: &Specification) -> Option<Ticket> {
        if !self.stores(desk, specification) {
            return None;
        }
        let properties = specification.properties().map(|(key, value)| (key.into(), value.into())).collect();
        let kind = specification.topic_type().number();
        desk.ledger.append(Change::Added { topic, path: path.clone(), kind, properties })
    }

    /// Whether the values of such a topic are stored.
    pub(super) fn stores_value(&self, desk: &Desk, specification: &Specification) -> bool {
        self.stores(desk, specification) && specification.retains_value()
    }

    pub(super) fn store_value(&mut self, desk: &mut Desk, publication: &Arc<Publication>) -> Option<Ticket> {
        let expires_ms = publication.message().and_then(|message| message.expires).map(|expires| desk.wall_ms_of(expires));
        desk.ledger.append(match publication.is_null() {
            false if publication.message().is_some() => Change::Message { publication: publication.clone(), expires_ms },
            false => Change::Value { publication: publication.clone() },
            true => Change::NoValue { topic: publication.topic, version: publication.version },
        })
    }

    pub(super) fn store_event(
        &mut self,
        desk: &mut Desk,
        place: Place,
        publication: &Arc<Publication>,
        appended: series::Appended,
    ) -> Option<Ticket> {
        let topic = self.tree.topic(place);
        if !self.stores(desk, &topic.specification) {
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

    /// Refuses a change of views that could not be stored now.
    pub(super) fn check_view_storage(&self, desk: &Desk) -> Result<(), Refusal> {
        match desk.ledger.failure() {
            Some(reason) => Err(Refusal::new(ErrorCode::StorageUnavailable, format!("views cannot be changed for now: {reason}"))),
            None => Ok(()),
        }
    }

    pub(super) fn store_removed(&mut self, desk: &mut Desk, topic: &Topic) -> Option<Ticket> {
        if !self.stores(desk, &topic.specification) || topic.is_passing {
            return None;
        }
        desk.ledger.append(Change::Removed { topic: topic.id })
    }
}
