//! What changes topics: records. A decision gives them, applying takes them, and tells who is to be told: shards, views, listeners and policies.
//!
//! A record says all that applying it needs beside its topic, so that it may come from a decision just now, from a store, or from elsewhere.
//! Topics that are not stored change by the same records; which of them the ledger gets is said by `storing`. What is no part of a record:
//!
//! - A delta is how a value is sent. Whoever applies the value makes it from the one before.
//! - A stream is of this run and of one session; `update` notes on its topic who has it, be the update refused or not.
//! - What a new event leaves of its series its record says: nothing of it goes by the clock.
//!
//! A message of MQTT that passes by is a record though it leaves nothing: it reaches those who are subscribed as a value does.
//!
//! Applying reads the record and the topic that it is of, and cannot fail. Whether the record is stored is settled before.

use crate::base::{SessionId, TopicId};
use crate::desk::{Desk, Ticket};
use crate::mail::{Appearance, Appeared, Mail, What};
use crate::owner::Owner;
use crate::owner::leaving::looks_at;
use crate::protocol::Reason;
use crate::series::{self, Series};
use crate::topic::path::TopicPath;
use crate::topic::publication::Publication;
use crate::topic::specification::Specification;
use crate::topic::tree::{Place, Topic};
use crate::wire::native::EventHead;
use std::sync::Arc;

/// One change of one topic.
pub enum Record {
    /// The topic is there that was not.
    Added(Box<Added>),
    /// A topic that was only passed through is one as any other.
    Kept,
    Value(Arc<Publication>),
    Event(Event),
    /// A message of MQTT that leaves the value as it is.
    Passed(Arc<Publication>),
    /// The same, and the topic is gone behind it.
    Cleared(Arc<Publication>),
    Removed,
}

/// A topic as it is made.
pub struct Added {
    pub id: TopicId,
    pub path: TopicPath,
    pub specification: Arc<Specification>,
    /// Whether it is made for a message that passes by.
    pub is_passing: bool,
    /// With its first value those are told of it who wait for it.
    pub value: Option<Arc<Publication>>,
    pub creator: Option<SessionId>,
}

/// An event of a time series, and what of the series it leaves.
pub struct Event {
    pub publication: Arc<Publication>,
    pub author: Arc<str>,
    /// Events below are no longer retained.
    pub first_kept: u64,
    /// An edit that gives way.
    pub dropped: Option<u64>,
}

impl Added {
    pub fn into_topic(self) -> Topic {
        let Self { id, path, specification, is_passing, value, .. } = self;
        let mut topic = Topic::new(id, path, specification);
        (topic.is_passing, topic.latest) = (is_passing, value);
        topic
    }
}

impl Event {
    fn change(&self, topic: &mut Topic) {
        let head = self.publication.event_head().expect("the publication of an event has its head");
        let value = self.publication.value().expect("an event has a value").into();
        let EventHead { sequence, timestamp_ms, original, .. } = head;
        let event = series::Event { value, sequence, timestamp_ms, author: self.author.clone(), original };
        let series = topic.series_mut().expect("an event is of a time series");
        series.take(event, self.first_kept, self.dropped);
        // A stored edit whose original is gone leaves nothing; the original that made that go comes behind it.
        let is_kept = series.latest().is_some_and(|latest| latest.sequence == sequence);
        topic.latest = (is_kept && topic.specification.retains_value()).then(|| self.publication.clone());
    }
}

impl Record {
    /// What the record makes of its topic, which it neither brings nor takes away here: that is the tree's.
    pub fn change(&self, topic: &mut Topic) {
        match self {
            Self::Value(publication) => {
                (topic.is_passing, topic.has_passed) = (false, false);
                topic.latest = topic.specification.retains_value().then(|| publication.clone());
            }
            Self::Event(event) => event.change(topic),
            Self::Passed(_) | Self::Cleared(_) => topic.has_passed = true,
            Self::Kept => topic.is_passing = false,
            Self::Added(_) | Self::Removed => {}
        }
    }

    /// What goes to those who are subscribed, beside their being told of the topic.
    pub fn publication_mut(&mut self) -> Option<&mut Arc<Publication>> {
        match self {
            Self::Value(publication) | Self::Passed(publication) | Self::Cleared(publication) => Some(publication),
            Self::Event(event) => Some(&mut event.publication),
            Self::Added(_) | Self::Kept | Self::Removed => None,
        }
    }
}

impl Owner {
    /// Applies a record to the topic at its path, or makes that. Gives where the topic stands then.
    pub(super) fn apply(&mut self, desk: &mut Desk, at: Option<Place>, record: Record) -> Option<Place> {
        if let Record::Added(added) = record {
            return Some(self.apply_added(desk, at, *added));
        }
        let place = at.expect("only what is added is of a topic that is not there");
        match &record {
            Record::Value(publication) => {
                let topic = self.tree.topic_mut(place);
                if wants_delta(topic) {
                    self.workbench.make_delta(topic, publication);
                }
                self.retained.forget(topic);
                record.change(topic);
                self.retained.note(topic);
                self.send(desk, place, publication);
                self.note_publication(desk, place, publication);
            }
            Record::Event(event) => {
                let topic = self.tree.topic_mut(place);
                record.change(topic);
                if let Some(gone) = topic.series_mut().and_then(Series::take_gone) {
                    self.discard(gone);
                }
                self.send(desk, place, &event.publication);
                self.note_publication(desk, place, &event.publication);
            }
            Record::Passed(publication) | Record::Cleared(publication) => {
                record.change(self.tree.topic_mut(place));
                self.send(desk, place, publication);
                if let Some(removal) = self.tree.topic(place).removal() {
                    self.note_update(desk, removal);
                }
            }
            Record::Kept => record.change(self.tree.topic_mut(place)),
            Record::Added(_) | Record::Removed => {}
        }
        if !matches!(record, Record::Cleared(_) | Record::Removed) {
            return Some(place);
        }
        let topic = self.drop_topic(desk, place);
        if !topic.is_reference {
            self.revive_reference(desk, topic.path.as_str());
        }
        None
    }

    fn apply_added(&mut self, desk: &mut Desk, at: Option<Place>, added: Added) -> Place {
        if let Some(place) = at {
            self.make_way(desk, place);
        }
        if added.value.is_some() {
            desk.report.updates += 1;
        }
        if added.is_passing {
            self.expiries.passing().note(desk, added.id, &added.path);
        }
        let creator = added.creator;
        self.enter(desk, added.into_topic(), creator, Appearance::Made)
    }

    /// The topic there gives its place to another.
    pub(super) fn make_way(&mut self, desk: &mut Desk, place: Place) {
        if self.tree.topic(place).is_reference {
            self.displace_reference(desk, place);
        } else {
            self.drop_topic(desk, place);
        }
    }

    /// Puts a topic into the tree, and tells who is interested.
    pub(super) fn enter(&mut self, desk: &mut Desk, mut topic: Topic, creator: Option<SessionId>, appearance: Appearance) -> Place {
        topic.interested = self.interests.selecting(topic.path.as_str());
        if self.interests.counts_subscribers(topic.path.as_str()) {
            topic.rare_mut().subscribers = Some(Vec::new());
        }
        self.interests.notice(desk, &topic, What::Added);
        if topic.specification.owner().is_some() {
            desk.note_owned();
        }
        let policy = topic.specification.removal().filter(|policy| looks_at(desk, topic.path.as_str(), policy, creator)).cloned();
        let place = self.tree.insert(topic);
        if let Some(policy) = policy {
            self.start_expiry(desk, place, policy, creator);
        }
        let topic = self.tree.topic(place);
        self.retained.note(topic);
        for shard in topic.interested.iter() {
            desk.mail(shard, appeared(topic, appearance));
        }
        self.link_views(place);
        if self.views.has_watchers() {
            let path = self.tree.topic(place).path.clone();
            self.link_watchers(desk, &path);
        }
        place
    }

    /// Sends what was published to the shards that want the topic.
    fn send(&mut self, desk: &mut Desk, place: Place, publication: &Arc<Publication>) {
        desk.report.updates += 1;
        for shard in self.tree.topic(place).interested.iter() {
            desk.mail(shard, Mail::Published(publication.clone()));
        }
    }

    /// What else follows from a new value.
    fn note_publication(&mut self, desk: &mut Desk, place: Place, publication: &Arc<Publication>) {
        let topic = self.tree.topic(place);
        let (id, is_source, is_watched) = (topic.id, topic.is_source, topic.is_watched);
        if let Some(removal) = topic.removal() {
            self.note_update(desk, removal);
        }
        if is_watched {
            let path = self.tree.topic(place).path.clone();
            self.tell_watchers(desk, &path);
        }
        if is_source {
            self.note_source(id, publication);
        }
    }

    /// Removes a topic, be it a client's or a view's; the record of that, if it is stored.
    pub(super) fn remove_topic(&mut self, desk: &mut Desk, place: Place) -> Option<Ticket> {
        let ticket = if desk.stores() { self.store(desk, Some(place), &Record::Removed) } else { None };
        self.apply(desk, Some(place), Record::Removed);
        ticket
    }

    /// Takes a topic out of the tree, and what it kept.
    pub(super) fn drop_topic(&mut self, desk: &mut Desk, place: Place) -> Topic {
        let mut topic = self.take_away(desk, place);
        if let Some(series) = topic.take_series() {
            self.discard(series.into_gone());
        }
        topic
    }

    /// Takes a topic out of the tree, and tells who was interested.
    pub(super) fn take_away(&mut self, desk: &mut Desk, place: Place) -> Topic {
        let path = self.tree.topic(place).path.clone();
        let topic = self.tree.remove(path.as_str()).expect("a topic stands where its place says");
        for shard in topic.interested.iter() {
            desk.mail(shard, Mail::Removed { id: topic.id, reason: Reason::Removed });
        }
        self.interests.notice(desk, &topic, What::Removed);
        self.retained.forget(&topic);
        self.expiries.passing().forget(topic.id);
        if let Some(removal) = topic.removal() {
            self.end_expiry(desk, removal);
        }
        self.lose_subscribers(desk, &topic);
        if topic.is_source {
            self.end_source(desk, &topic);
        }
        if topic.is_watched {
            self.tell_watchers(desk, &topic.path);
        }
        topic
    }
}

/// Whether somebody may have use for what turns the topic's value into the next.
fn wants_delta(topic: &Topic) -> bool {
    let specification = &topic.specification;
    // Who was sent what did not become the value does not hold the value before.
    let is_followed = !topic.has_passed && !topic.interested.is_empty();
    specification.value_type().has_deltas() && !specification.publishes_values_only() && is_followed
}

pub(super) fn appeared(topic: &Topic, appearance: Appearance) -> Mail {
    Mail::Appeared(Box::new(Appeared {
        id: topic.id,
        path: topic.path.clone(),
        specification: topic.specification.clone(),
        latest: topic.latest.clone(),
        is_counted: topic.is_counted(),
        appearance,
    }))
}
