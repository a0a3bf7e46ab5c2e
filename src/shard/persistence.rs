//! What has to be stored, and who waits for that.
//!
//! A shard never waits: a change goes out as a numbered record, and the answer to its request is held until storage says that it is as safe as
//! acknowledgements have to be. That of an update without an id is held too, since it is told if storage fails. Storage takes a shard's records in order, so one number tells how far it has come. While storage fails,
//! updates of stored topics are refused before they change anything; what was sent before stays on its way.

use super::Shard;
use super::mail::{self, Appearance, Asker, Mail, Part};
use super::owner::{Applied, Share, make_publication};
use crate::base::{Key, ShardIndex, Time, TopicId};
use crate::journal::{Append, Change, StoredEvent, StoredTopic};
use crate::protocol::{ErrorCode, Refusal};
use crate::series::{self, EventRef};
use crate::topic::path::TopicPath;
use crate::topic::publication::{self, Publication};
use crate::topic::specification::{Specification, SpecificationLimits, TopicType};
use crate::topic::tree::{Place, Topic};
use crate::wire::mqtt::{QoS, ReasonCode};
use crate::wire::native::{EventHead, Outcome};
use std::collections::VecDeque;
use std::sync::Arc;

/// The number of a record of this shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Whether this shard's topics are stored, and when an update of one is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storing {
    /// Nothing is stored.
    Off,
    /// Stored; acknowledged at once.
    Memory,
    /// Acknowledged when storage says so.
    Stored,
}

/// Who is answered once a record is stored.
pub enum Answer {
    Update {
        from: ShardIndex,
        to: Asker,
    },
    Removal {
        from: ShardIndex,
        ticket: u64,
    },
    View {
        from: ShardIndex,
        ticket: u64,
    },
    /// The owner of a topic whose message sessions of this shard keep.
    Kept {
        owner: ShardIndex,
        ticket: u64,
        share: Share,
    },
    /// A change that nobody may see before something else is stored: it goes to its topic then.
    Route {
        asker: Asker,
        path: Box<str>,
        change: Box<mail::Change<'static>>,
    },
    /// The client of a session of MQTT that has received a message, by the connection of that number.
    Received {
        session: Key,
        id: u16,
        epoch: u32,
    },
    /// The client that has released one of its own.
    Completed {
        session: Key,
        id: u16,
        epoch: u32,
        code: ReasonCode,
    },
}

impl Answer {
    /// An update without an id is answered only if it fails.
    fn is_only_for_failures(&self) -> bool {
        matches!(self, Self::Update { to: Asker { id: 0, .. }, .. })
    }
}

/// See the module.
pub struct Persistence {
    storing: Storing,
    last: Ticket,
    /// Every record up to this one is as safe as acknowledgements have to be.
    stored: Ticket,
    unsent: Vec<Append>,
    /// In the order of tickets. Above the mark for mail the shard stops reading, so that it stays bounded while storage stalls.
    held: VecDeque<(Ticket, Answer, Outcome)>,
    /// Sessions that have messages to send once they are stored.
    sleeping: VecDeque<(Ticket, Key)>,
    /// Why storage cannot take anything now.
    failure: Option<Box<str>>,
}

impl Persistence {
    pub fn new(storing: Storing) -> Self {
        Self {
            storing,
            last: Ticket(0),
            unsent: Vec::new(),
            held: VecDeque::new(),
            sleeping: VecDeque::new(),
            stored: Ticket(0),
            failure: None,
        }
    }

    pub fn storing(&self) -> Storing {
        self.storing
    }

    pub fn is_failing(&self) -> bool {
        self.failure.is_some()
    }

    /// Records that storage has not taken yet.
    pub fn unsent(&self) -> usize {
        self.unsent.len()
    }

    /// Records up to this one keep nothing back any more: they are stored, or cannot be now.
    pub fn passed(&self) -> u64 {
        if self.is_failing() { u64::MAX } else { self.stored.0 }
    }

    /// Answers that wait for storage.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Records or answers that wait, whichever are more.
    pub fn waiting(&self) -> usize {
        self.unsent().max(self.held())
    }

    /// Whether there are records that storage has not taken, and may still take.
    pub fn has_to_send(&self) -> bool {
        !self.unsent.is_empty() && !self.is_failing()
    }

    fn append(&mut self, change: Change) -> Option<Ticket> {
        self.last.0 += 1;
        self.unsent.push(Append { ticket: self.last.0, change });
        (self.storing == Storing::Stored).then_some(self.last)
    }
}

impl Shard {
    /// The records of this turn.
    pub fn poll_records(&mut self) -> Option<Vec<Append>> {
        let unsent = &mut self.persistence.unsent;
        if unsent.is_empty() { None } else { Some(std::mem::take(unsent)) }
    }

    /// Records that storage had no room for come back, in front of what came since.
    pub fn return_records(&mut self, records: Vec<Append>) {
        let newer = std::mem::replace(&mut self.persistence.unsent, records);
        self.persistence.unsent.extend(newer);
    }

    pub fn persistence(&self) -> &Persistence {
        &self.persistence
    }

    /// Every record up to this ticket is stored.
    pub fn handle_stored(&mut self, now: Time, through: u64) {
        self.now = now;
        self.persistence.stored = self.persistence.stored.max(Ticket(through));
        while let Some((ticket, ..)) = self.persistence.held.front()
            && ticket.0 <= through
        {
            let Some((_, answer, outcome)) = self.persistence.held.pop_front() else { break };
            self.give(answer, Ok(outcome));
        }
        self.wake_stored();
        self.settle();
    }

    /// The session has something to send once a record is stored.
    pub(super) fn wake_when_stored(&mut self, ticket: Option<Ticket>, session: Key) {
        if let Some(ticket) = ticket.filter(|ticket| *ticket > self.persistence.stored) {
            self.persistence.sleeping.push_back((ticket, session));
        }
    }

    fn wake_stored(&mut self) {
        let stored = self.persistence.stored;
        while self.persistence.sleeping.front().is_some_and(|(ticket, _)| *ticket <= stored) {
            let Some((_, session)) = self.persistence.sleeping.pop_front() else { break };
            self.wake_session(session);
        }
    }

    /// While storage fails, nothing keeps sessions back. They still wait for what they have not sent when it works again.
    fn wake_sleeping(&mut self) {
        let sleeping: Vec<Key> = self.persistence.sleeping.iter().map(|(_, session)| *session).collect();
        for session in sleeping {
            self.wake_session(session);
        }
    }

    /// Storage fails: who waits is told so. What was sent is stored when it works again.
    pub fn handle_storage_failure(&mut self, now: Time, reason: &str) {
        self.now = now;
        self.persistence.failure = Some(reason.into());
        for (_, answer, _) in std::mem::take(&mut self.persistence.held) {
            let message = format!("the update is in memory, but cannot be stored now: {reason}");
            self.give(answer, Err(Refusal::new(ErrorCode::StorageUnavailable, message)));
        }
        self.wake_sleeping();
        self.settle();
    }

    /// Storage works again.
    pub fn handle_storage_recovery(&mut self, now: Time) {
        self.now = now;
        self.persistence.failure = None;
    }

    /// Answers an update, now or once its record is stored.
    pub(super) fn acknowledge(&mut self, applied: Applied, answer: Answer) {
        match applied {
            // A removal is answered when its last slice is done, and the record of an earlier one may have been stored meanwhile.
            Ok((outcome, Some(ticket))) if ticket > self.persistence.stored => {
                if let Some(reason) = &self.persistence.failure {
                    let message = format!("the update is in memory, but cannot be stored now: {reason}");
                    return self.give(answer, Err(Refusal::new(ErrorCode::StorageUnavailable, message)));
                }
                // One with the ticket of the update before changed nothing: without an id there is nothing to tell of it.
                let is_same = self.persistence.held.back().is_some_and(|(last, ..)| *last == ticket);
                if !is_same || !answer.is_only_for_failures() {
                    self.persistence.held.push_back((ticket, answer, outcome));
                }
            }
            Ok((outcome, _)) => self.give(answer, Ok(outcome)),
            Err(refusal) => self.give(answer, Err(refusal)),
        }
    }

    fn give(&mut self, answer: Answer, result: Result<Outcome, Refusal>) {
        match answer {
            _ if answer.is_only_for_failures() && result.is_ok() => {}
            Answer::Update { from, to } if from == self.identity.index => self.answer(to, result),
            Answer::Update { from, to } => self.mail(from, Mail::Answer { to, result }),
            Answer::Removal { from, ticket } => {
                let part = match result {
                    Ok(Outcome::Removed(count)) => Part::Removed(Ok(count)),
                    Ok(_) => Part::Removed(Ok(0)),
                    Err(refusal) => Part::Removed(Err(refusal)),
                };
                self.mail(from, Mail::Part { ticket, part });
            }
            Answer::Kept { owner, ticket, share } => self.mail(owner, Mail::Kept { ticket, share, refusal: result.err() }),
            Answer::Route { asker, path, change } => match result {
                Ok(_) => self.route_change(asker, &path, *change),
                Err(refusal) => self.answer(asker, Err(refusal)),
            },
            // Where storage fails too: sessions do not stand still for what only a crash right now would make of it, a message that comes twice.
            Answer::Received { session, id, epoch } => self.received_stored(session, id, epoch),
            Answer::Completed { session, id, epoch, code } => self.completed_stored(session, id, epoch, code),
            Answer::View { from, ticket } => self.mail(from, Mail::Part { ticket, part: Part::View { result, changes_nothing: false } }),
        }
    }

    /// Takes up a topic that was stored, before anybody is connected. An error says what about it this server cannot read.
    pub fn restore(&mut self, id: TopicId, stored: StoredTopic) -> Result<(), String> {
        if stored.view_name().is_some() {
            return self.restore_view(id, &stored);
        }
        if stored.session_path().is_some() {
            return self.restore_session(id, stored);
        }
        let refused = |what: String| format!("topic '{}': {what}", stored.path.as_str());
        let topic_type = TopicType::from_number(stored.kind).ok_or_else(|| refused(format!("there is no topic type {}", stored.kind)))?;
        let properties = stored.properties.iter().map(|(key, value)| (&**key, &**value));
        let parsed = Specification::parse(topic_type, properties, SpecificationLimits::default());
        let specification = self.specifications.intern(parsed.map_err(|error| refused(error.to_string()))?);
        let mut topic = Topic::new(id, stored.path.clone(), specification);
        if stored.version > 0 {
            let mut publication = make_publication(&topic, stored.version, stored.value.as_deref(), self.now);
            if let Some(message) = stored.message {
                publication = publication.with_message(publication::Message {
                    qos: QoS::from_number(message.qos).unwrap_or_default(),
                    retain: true,
                    expires: message.expires_ms.map(|ms| self.now.after_ms(ms.saturating_sub(self.wall.1))),
                    passed_on: message.passed_on,
                    ..publication::Message::default()
                });
            }
            topic.latest = Some(Arc::new(publication));
        }
        if let Some(series) = topic.rare.as_mut().and_then(|rare| rare.series.as_mut()) {
            for event in stored.events.into_values() {
                let StoredEvent { sequence, original, timestamp_ms, author, value } = event;
                let author = if author.is_empty() { self.anonymous.clone() } else { Arc::from(author) };
                let event = series::Event { value, sequence, timestamp_ms, author, original };
                series.restore(event).map_err(|error| format!("topic '{}': {error}", stored.path.as_str()))?;
            }
            if let Some(last) = stored.last_sequence {
                series.restore_end(last.saturating_add(1), stored.latest_ms);
            }
            series.trim(self.wall.1);
            topic.latest = topic.series().and_then(|series| series.latest()).map(|event| {
                let EventRef { sequence, timestamp_ms, original, author, value } = event;
                Arc::new(Publication::event(id, self.now, EventHead { sequence, timestamp_ms, original, author }, value))
            });
        }
        self.enter_as(topic, None, Appearance::Restored);
        Ok(())
    }

    fn stores(&self, specification: &Specification) -> bool {
        self.persistence.storing != Storing::Off && specification.is_persistent()
    }

    /// Refuses what could not be stored now.
    pub(super) fn check_storage(&self, specification: &Specification) -> Result<(), Refusal> {
        match &self.persistence.failure {
            Some(reason) if self.stores(specification) => {
                Err(Refusal::new(ErrorCode::StorageUnavailable, format!("updates of stored topics are refused for now: {reason}")))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn check_topic_storage(&self, place: Place) -> Result<(), Refusal> {
        match self.persistence.failure {
            None => Ok(()),
            Some(_) => self.check_storage(&self.tree.topic(place).specification),
        }
    }

    /// What an answer about a topic as it is waits for where it changes nothing: a topic that was found must not be gone after a crash.
    pub(super) fn store_found(&self, place: Place) -> Option<Ticket> {
        self.store_earlier().filter(|_| self.stores(&self.tree.topic(place).specification))
    }

    /// What an answer waits for that relies on what was changed before it.
    pub(super) fn store_earlier(&self) -> Option<Ticket> {
        let Persistence { storing, last, stored, .. } = self.persistence;
        (storing == Storing::Stored && last > stored).then_some(last)
    }

    pub(super) fn store_added(&mut self, topic: &Topic) -> Option<Ticket> {
        self.append_added(topic.id, &topic.path, &topic.specification)
    }

    /// The same for a topic that is in the tree already.
    pub(super) fn store_added_at(&mut self, place: Place) -> Option<Ticket> {
        let topic = self.tree.topic(place);
        let (id, path, specification) = (topic.id, topic.path.clone(), topic.specification.clone());
        self.append_added(id, &path, &specification)
    }

    fn append_added(&mut self, topic: TopicId, path: &TopicPath, specification: &Specification) -> Option<Ticket> {
        if !self.stores(specification) {
            return None;
        }
        let properties = specification.properties().map(|(key, value)| (key.into(), value.into())).collect();
        let kind = specification.topic_type().number();
        self.persistence.append(Change::Added { topic, path: path.clone(), kind, properties })
    }

    /// Whether the values of such a topic are stored.
    pub(super) fn stores_value(&self, specification: &Specification) -> bool {
        self.stores(specification) && specification.retains_value()
    }

    pub(super) fn store_value(&mut self, publication: &Arc<Publication>) -> Option<Ticket> {
        let expires_ms = publication.message().and_then(|message| message.expires).map(|expires| self.wall_ms_of(expires));
        self.persistence.append(match publication.is_null() {
            false if publication.message().is_some() => Change::Message { publication: publication.clone(), expires_ms },
            false => Change::Value { publication: publication.clone() },
            true => Change::NoValue { topic: publication.topic, version: publication.version },
        })
    }

    pub(super) fn store_event(&mut self, place: Place, publication: &Arc<Publication>, appended: series::Appended) -> Option<Ticket> {
        let topic = self.tree.topic(place);
        if !self.stores(&topic.specification) {
            return None;
        }
        let (head, value) = (publication.event_head()?, publication.value()?);
        let author = if head.author == &*self.anonymous { self.anonymous.clone() } else { head.author.into() };
        let series::Appended { sequence, timestamp_ms, first_kept, dropped } = appended;
        self.persistence.append(Change::Event {
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
    pub(super) fn check_view_storage(&self) -> Result<(), Refusal> {
        match &self.persistence.failure {
            Some(reason) => Err(Refusal::new(ErrorCode::StorageUnavailable, format!("views cannot be changed for now: {reason}"))),
            None => Ok(()),
        }
    }

    /// Stores what is no topic: a view, or a session.
    pub(super) fn store_record(&mut self, change: Change) -> Option<Ticket> {
        if self.persistence.storing == Storing::Off {
            return None;
        }
        self.persistence.append(change)
    }

    pub(super) fn store_removed(&mut self, topic: &Topic) -> Option<Ticket> {
        if !self.stores(&topic.specification) || topic.is_passing {
            return None;
        }
        self.persistence.append(Change::Removed { topic: topic.id })
    }
}
