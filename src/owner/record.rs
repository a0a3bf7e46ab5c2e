//! What changes topics: records. A decision gives them, applying takes them.
//!
//! A record says all that applying it needs beside its topic, so that it may come from a decision just now, from a store, or from elsewhere.
//! Topics that are not stored change by the same records; which of them the ledger gets is said by `storing`. What is no part of a record:
//!
//! - A delta is how a value is sent. Whoever applies the value makes it from the one before.
//! - A stream is of this run and of one session; `update` notes on its topic who has it, be the update refused or not.
//! - Events that grow too old go by the clock of whoever holds them. What a new event leaves of its series its record says.
//!
//! A message of MQTT that passes by is a record though it leaves nothing: it reaches those who are subscribed as a value does.

use crate::base::{SessionId, TopicId};
use crate::desk::Ticket;
use crate::series;
use crate::topic::path::TopicPath;
use crate::topic::publication::Publication;
use crate::topic::specification::Specification;
use crate::topic::tree::Topic;
use crate::wire::native::{EventHead, Outcome};
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
        // An event with an old timestamp may be beyond the retained range at once.
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

/// What an update comes to.
pub struct Decided {
    /// The topic that is made first.
    pub added: Option<Box<Added>>,
    /// What happens to the topic that is there then.
    pub record: Option<Record>,
    pub outcome: Outcome,
    /// What the answer waits for where no record of the update is stored.
    pub earlier: Option<Ticket>,
}

impl Decided {
    pub fn nothing(outcome: Outcome, earlier: Option<Ticket>) -> Self {
        Self { added: None, record: None, outcome, earlier }
    }

    pub fn one(record: Record, outcome: Outcome) -> Self {
        Self { added: None, record: Some(record), outcome, earlier: None }
    }

    pub fn made(added: Added, record: Option<Record>, outcome: Outcome) -> Self {
        Self { added: Some(Box::new(added)), record, outcome, earlier: None }
    }

    /// Whether the topic's value stays as it is, and with it the stream that the topic has.
    pub fn leaves_value(&self) -> bool {
        !matches!(self.record, Some(Record::Value(_) | Record::Event(_)))
    }
}
