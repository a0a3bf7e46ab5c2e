//! The topics of this shard's partitions: one writer for each, so updates to a topic have one order.
//!
//! - `messages` — what comes by MQTT; `keeping` — who has to keep that before it is acknowledged.
//! - here — updates: conditions, topics made, values published, topics removed.
//! - `events` — time series: events appended, what new subscribers get, queries.
//! - `walk` — questions about all topics that match, answered slice by slice.
//! - `count` — how many subscribers a topic has, where somebody wants to know.
//! - `expiry` — removal policies; `filters` — how many sessions match, for them.
//! - `errand` — what is done to all topics that match though nobody waits for an answer.

mod count;
mod errand;
mod events;
mod expiry;
mod filters;
mod keeping;
mod messages;
#[cfg(test)]
mod tests;
mod walk;

pub use errand::Errands;
pub use expiry::Expiries;
pub use filters::FilterCounts;
pub use keeping::{Keepings, Share};
pub use messages::Passing;
pub use walk::{Walk, merge_pages};

use super::Shard;
use super::mail::{Action, Appearance, Appeared, Change, Content, ListenerKind, Mail, Notice, StreamStep, Update, What};
use super::persistence::{Answer, Ticket};
use crate::base::{Key, ShardIndex, ShardSet, Time, TopicId};
use crate::protocol::{ErrorCode, Reason, Refusal};
use crate::topic::constraint::{Constraint, Subject};
use crate::topic::path::TopicPath;
use crate::topic::publication::{self, Publication};
use crate::topic::specification::{Specification, TopicType};
use crate::topic::tree::{Place, Topic};
use crate::value::delta::Form;
use crate::value::json::JsonLimits;
use crate::value::patch::{self, PatchError};
use crate::value::{ValueType, delta, scalar};
use crate::wire::mqtt::QoS;
use crate::wire::native::{self, Outcome};
use std::borrow::Cow;
use std::sync::Arc;

/// What an update did, and the record that has to be stored before it is acknowledged.
pub type Applied = Result<(Outcome, Option<Ticket>), Refusal>;

impl Shard {
    pub(super) fn update_for_other(&mut self, update: Update) {
        let Update { from, to, path, change, received } = update;
        let applied = self.update(from, to.session, path.as_str(), &change, received);
        let keeping = self.take_keeping();
        self.acknowledge_kept(applied, Answer::Update { from, to }, keeping);
    }

    /// Applies an update whose path and value have been checked.
    pub(super) fn update(&mut self, from: ShardIndex, session: Key, path: &str, change: &Change<'_>, received: Time) -> Applied {
        let step = change.conditions.as_ref().and_then(|conditions| conditions.stream);
        let found = self.tree.find(path);
        self.check_keeping(found, path, change)?;
        let found = self.find_changed(found, path, change)?;
        let has_stream = step.is_some() || found.is_some_and(|place| self.tree.topic(place).stream().is_some());
        self.keepings.is_open = true;
        let applied = self.try_update(found, from, session, path, change, received);
        self.keepings.is_open = false;
        if applied.is_err() {
            // What gave way to a topic that then was not made stands again.
            self.revive_reference(path);
        }
        if !has_stream {
            return applied;
        }
        if let Some(place) = self.tree.find(path) {
            let leaves_value = self.leaves_value(place, &change.action);
            let topic = self.tree.topic_mut(place);
            match (step, &applied) {
                (Some(StreamStep { stream, .. }), Ok(_)) => topic.rare_mut().stream = Some(stream),
                // Also one that could not be opened: an earlier stream of its number, closed meanwhile, must not stand for it.
                (Some(StreamStep { stream, .. }), Err(_)) if topic.stream() == Some(stream) => topic.rare_mut().stream = None,
                (None, Ok(_)) if topic.stream().is_some() && !leaves_value => {
                    topic.rare_mut().stream = None;
                }
                _ => {}
            }
        }
        applied
    }

    /// Whether the topic's value stays as it is, and with it the stream that the topic has.
    fn leaves_value(&self, place: Place, action: &Action<'_>) -> bool {
        match action {
            Action::Add(_) | Action::Check(_) => true,
            Action::Message(message) => self.passes(place, &message.head),
            _ => false,
        }
    }

    /// The topic that is to change. One of a view gives way to one that is added, and is never changed.
    fn find_changed(&mut self, found: Option<Place>, path: &str, change: &Change<'_>) -> Result<Option<Place>, Refusal> {
        if let (Some(place), Action::Add(specification) | Action::AddAndSet(specification, _)) = (found, &change.action)
            && self.tree.topic(place).is_passing
            && self.check_same(place, specification).is_err()
        {
            // It holds nothing that could be lost.
            self.remove_topic(path);
            return Ok(None);
        }
        let Some(place) = found.filter(|place| self.tree.topic(*place).is_reference) else { return Ok(found) };
        let (Action::Add(specification) | Action::AddAndSet(specification, _)) = &change.action else {
            return self.check_not_reference(place).map(|()| found);
        };
        if let Some(conditions) = &change.conditions {
            self.check_constraint(found, path, conditions.constraint.as_ref())?;
        }
        self.check_storage(specification)?;
        self.displace_reference(path);
        Ok(None)
    }

    fn try_update(
        &mut self,
        found: Option<Place>,
        from: ShardIndex,
        session: Key,
        path: &str,
        change: &Change<'_>,
        received: Time,
    ) -> Applied {
        if let Some(conditions) = &change.conditions {
            self.check_stream(found, path, conditions.stream)?;
            self.check_constraint(found, path, conditions.constraint.as_ref())?;
        }
        if let Action::Message(message) = &change.action {
            return self.take_message(found, from, session, path, message, received);
        }
        match (&change.action, found) {
            (Action::Add(specification) | Action::AddAndSet(specification, _), Some(place)) => self.check_same(place, specification)?,
            (Action::Add(_) | Action::AddAndSet(..), None) => {}
            (_, None) => return Err(Refusal::new(ErrorCode::NoSuchTopic, format!("there is no topic at '{path}'"))),
            (_, Some(_)) => {}
        }
        match (&change.action, found) {
            (Action::Add(_), Some(place)) => {
                if self.tree.topic(place).is_passing {
                    // Who adds a topic finds it later.
                    self.check_topic_storage(place)?;
                    self.keep_passing(place);
                }
                Ok((Outcome::Created(false), self.store_found(place)))
            }
            (Action::AddAndSet(_, content), Some(place)) => {
                let ticket = self.set(place, content, received)?;
                Ok((Outcome::Created(false), ticket))
            }
            (Action::Add(specification), _) => self.add(from, session, path, specification, None, received),
            (Action::AddAndSet(specification, content), _) => self.add(from, session, path, specification, Some(content), received),
            (Action::Set(content), Some(place)) => Ok((Outcome::Done, self.set(place, content, received)?)),
            (Action::Check(kind), Some(place)) => self.check_kind(place, *kind).map(|()| (Outcome::Done, self.store_found(place))),
            (Action::Patch(text), Some(place)) => Ok((Outcome::Done, self.patch(place, text, received)?)),
            (Action::Delta(form, delta), Some(place)) => Ok((Outcome::Done, self.apply_delta(place, *form, delta, received)?)),
            (Action::Append(append, content), Some(place)) => self.append(place, *append, content, received),
            (Action::Message(_), _) | (_, None) => unreachable!("a message was taken, and a topic that is not there refused"),
        }
    }

    fn check_stream(&self, found: Option<Place>, path: &str, step: Option<StreamStep>) -> Result<(), Refusal> {
        let Some(StreamStep { stream, opens: false }) = step else { return Ok(()) };
        match found.map(|place| self.tree.topic(place).stream()) {
            Some(Some(held)) if held == stream => Ok(()),
            None => Err(Refusal::new(ErrorCode::InvalidStream, format!("the stream's topic '{path}' was removed"))),
            Some(_) => {
                let why = format!("the stream on '{path}' has ended: the topic was updated or made by another, or an operation failed");
                Err(Refusal::new(ErrorCode::InvalidStream, why))
            }
        }
    }

    fn check_constraint(&self, found: Option<Place>, path: &str, constraint: Option<&Constraint>) -> Result<(), Refusal> {
        let Some(constraint) = constraint else { return Ok(()) };
        let subject = match found.map(|place| self.tree.topic(place)) {
            None => Subject::NoTopic,
            Some(topic) => {
                let kind = topic.specification.value_type();
                let value = match topic.series() {
                    Some(series) => series.latest().map(|event| event.value),
                    None => topic.latest.as_ref().and_then(|latest| latest.value()),
                };
                value.map_or(Subject::NoValue { kind }, |bytes| Subject::Value { kind, bytes })
            }
        };
        if constraint.evaluate(subject) {
            return Ok(());
        }
        Err(Refusal::new(ErrorCode::UnsatisfiedConstraint, format!("the constraint does not hold for '{path}'")))
    }

    fn check_same(&self, place: Place, specification: &Arc<Specification>) -> Result<(), Refusal> {
        let topic = self.tree.topic(place);
        let held = &topic.specification;
        if Arc::ptr_eq(held, specification) || held == specification {
            return Ok(());
        }
        let what = if held.topic_type() == specification.topic_type() {
            "other properties".to_owned()
        } else {
            format!("type {}, not {}", held.topic_type().name(), specification.topic_type().name())
        };
        Err(Refusal::new(ErrorCode::TopicExists, format!("the topic at '{}' has {what}", topic.path.as_str())))
    }

    fn check_kind(&self, place: Place, kind: ValueType) -> Result<(), Refusal> {
        let topic = self.tree.topic(place);
        let held = topic.specification.value_type();
        if held == kind {
            return Ok(());
        }
        let what = if topic.series().is_some() { "is a time series of" } else { "has type" };
        let message = format!("the topic at '{}' {what} {}, not {}", topic.path.as_str(), held.name(), kind.name());
        Err(Refusal::new(ErrorCode::IncompatibleType, message))
    }

    fn add(
        &mut self,
        from: ShardIndex,
        session: Key,
        path: &str,
        specification: &Arc<Specification>,
        content: Option<&Content<'_>>,
        received: Time,
    ) -> Applied {
        if self.tree.len() >= self.limits.topics_max {
            let message = format!("this server's core holds its most of {} topics", self.limits.topics_max);
            return Err(Refusal::new(ErrorCode::TopicLimit, message));
        }
        self.check_storage(specification)?;
        // A session's shard has checked it, or it is the server's own.
        let path = TopicPath::of_branch(path);
        let mut topic = Topic::new(self.take_topic_id(), path, specification.clone());
        let mut ticket = self.store_added(&topic);
        // Where sessions may have to keep the value it follows its topic, as every other does.
        let is_plain = topic.series().is_none() && topic.specification.retains_value() && self.keepings.keepers.is_empty();
        if let Some(content) = content.filter(|_| is_plain) {
            let publication = Arc::new(make_publication(&topic, 1, content.value.as_deref(), received));
            if self.stores_value(&topic.specification) {
                ticket = self.store_value(&publication).or(ticket);
            }
            self.report.updates += 1;
            topic.latest = Some(publication);
        }
        let place = self.enter(topic, Some((from, session)));
        // An event, and a value that is not kept, follow their topic as every other does.
        if let Some(content) = content.filter(|_| !is_plain) {
            ticket = self.set(place, content, received)?.or(ticket);
        }
        Ok((Outcome::Created(true), ticket))
    }

    pub(super) fn take_topic_id(&mut self) -> TopicId {
        self.topics_made += 1;
        let count = u64::from(self.identity.count);
        TopicId(self.topics_base + (self.topics_made - 1) * count + u64::from(self.identity.index.0) + 1)
    }

    /// The shards that want what is at `path`.
    fn interested_in(&self, path: &str) -> ShardSet {
        let mut interested = ShardSet::default();
        self.shards_interested.for_each_match(path, |_, shards| interested = interested.union(*shards));
        interested
    }

    /// Puts a topic into the tree, and tells who is interested.
    pub(super) fn enter(&mut self, topic: Topic, creator: Option<(ShardIndex, Key)>) -> Place {
        self.enter_as(topic, creator, Appearance::Made)
    }

    pub(super) fn enter_as(&mut self, mut topic: Topic, creator: Option<(ShardIndex, Key)>, appearance: Appearance) -> Place {
        topic.interested = self.interested_in(topic.path.as_str());
        if self.is_listened_to(ListenerKind::Subscribers, topic.path.as_str()) {
            topic.rare_mut().subscribers = Some(Vec::new());
        }
        self.notice(&topic, What::Added);
        let policy = topic.specification.removal().cloned();
        let place = self.tree.insert(topic);
        if let Some(policy) = policy {
            self.start_expiry(place, policy, creator);
        }
        self.start_aging(place);
        let topic = self.tree.topic(place);
        let mails: Vec<(ShardIndex, Mail)> = topic.interested.iter().map(|shard| (shard, appeared(topic, appearance))).collect();
        for (shard, mail) in mails {
            self.mail(shard, mail);
        }
        self.link_views(place);
        if self.views.has_watchers() {
            let path = self.tree.topic(place).path.clone();
            self.link_watchers(&path);
        }
        place
    }

    /// Sets a value, or appends it to a time series.
    fn set(&mut self, place: Place, content: &Content<'_>, received: Time) -> Result<Option<Ticket>, Refusal> {
        self.check_kind(place, content.kind)?;
        if self.tree.topic(place).series().is_some() {
            let append = native::Append::Original { timestamp_ms: None };
            return self.append(place, append, content, received).map(|(_, ticket)| ticket);
        }
        self.check_topic_storage(place)?;
        Ok(self.publish(place, content.value.as_deref(), received))
    }

    fn patch(&mut self, place: Place, text: &[u8], received: Time) -> Result<Option<Ticket>, Refusal> {
        self.check_kind(place, ValueType::Json)?;
        let topic = self.tree.topic(place);
        if topic.specification.topic_type() != TopicType::Json {
            let message = format!("a patch is for JSON topics; '{}' is a time series", topic.path.as_str());
            return Err(Refusal::new(ErrorCode::IncompatibleType, message));
        }
        self.check_topic_storage(place)?;
        let value = self.tree.topic(place).latest.as_ref().and_then(|latest| latest.value());
        let value = value.ok_or_else(|| Refusal::at(ErrorCode::FailedPatch, 0, "the topic has no value to patch"))?;
        let limits = patch::PatchLimits {
            depth_max: self.limits.json_depth_max,
            value_bytes_max: self.limits.value_bytes_max,
            text_bytes_max: self.limits.message_bytes_max,
            ..patch::PatchLimits::default()
        };
        let patched = patch::apply(value, text, limits).map_err(refuse_patch)?;
        self.check_size(patched.len())?;
        Ok(self.publish(place, Some(&patched), received))
    }

    fn check_size(&self, bytes: usize) -> Result<(), Refusal> {
        if bytes <= self.limits.value_bytes_max {
            return Ok(());
        }
        let message = format!("the value has {bytes} bytes, more than {}", self.limits.value_bytes_max);
        Err(Refusal::new(ErrorCode::ValueTooLarge, message))
    }

    fn apply_delta(&mut self, place: Place, form: Form, bytes: &[u8], received: Time) -> Result<Option<Ticket>, Refusal> {
        let topic = self.tree.topic(place);
        let kind = topic.specification.value_type();
        let previous = topic.latest.as_ref().and_then(|latest| latest.value()).filter(|_| has_deltas(kind));
        let previous = previous.ok_or_else(|| {
            Refusal::new(ErrorCode::InvalidValue, "there is no previous value that the server keeps, so a delta cannot be applied")
        })?;
        let value = delta::apply(form, previous, bytes, self.limits.value_bytes_max)
            .map_err(|_| Refusal::new(ErrorCode::InvalidValue, "the delta does not apply to the stream's last value"))?;
        let mut checked = Vec::with_capacity(value.len());
        match kind {
            ValueType::Json => {
                let limits = JsonLimits { depth_max: self.limits.json_depth_max };
                self.checker.compact(&value, limits, &mut checked).map_err(|error| {
                    Refusal::at(ErrorCode::InvalidValue, error.position, format!("the value is not JSON: {}", error.message))
                })?;
            }
            kind => {
                scalar::check(kind, &value).map_err(|error| Refusal {
                    code: ErrorCode::InvalidValue,
                    position: error.position,
                    message: error.message.to_string(),
                })?;
                checked = value;
            }
        }
        let content = Content { kind, value: Some(Cow::Owned(checked)) };
        self.set(place, &content, received)
    }

    /// The hot path: a new value to everybody who is interested.
    pub(super) fn publish(&mut self, place: Place, value: Option<&[u8]>, received: Time) -> Option<Ticket> {
        self.publish_with(place, value, received, None)
    }

    /// The same, with what a message of MQTT is beside its payload.
    fn publish_with(
        &mut self,
        place: Place,
        value: Option<&[u8]>,
        received: Time,
        message: Option<publication::Message>,
    ) -> Option<Ticket> {
        self.report.updates += 1;
        self.keep_passing(place);
        let keep = self.start_keeping(place, message.as_ref().map_or(QoS::ExactlyOnce, |message| message.qos));
        let is_stored = self.stores_value(&self.tree.topic(place).specification);
        let topic = self.tree.topic_mut(place);
        let specification = &topic.specification;
        let previous = topic.latest.as_deref();
        let version = previous.map_or(1, |previous| previous.version + 1);
        self.delta_bytes.clear();
        let mut form = None;
        // Who was sent what did not become the value does not hold the value before.
        let is_followed = !std::mem::take(&mut topic.has_passed) && !topic.interested.is_empty();
        let has_deltas = has_deltas(specification.value_type()) && !specification.publishes_values_only() && is_followed;
        if let (true, Some(previous), Some(value)) = (has_deltas, previous.and_then(Publication::value), value)
            && topic.gain.should_attempt()
        {
            form = self.delta.encode(previous, value, &mut self.delta_bytes);
            topic.gain.note(form.map(|_| self.delta_bytes.len()), value.len());
        }
        let mut publication = make_publication(topic, version, value, received).with_keep(keep);
        if let Some(form) = form {
            publication = publication.with_delta(form, &self.delta_bytes);
        }
        if let Some(message) = message {
            publication = publication.with_message(message);
        }
        let publication = Arc::new(publication);
        let retains = topic.specification.retains_value();
        topic.latest = retains.then(|| publication.clone());
        for shard in topic.interested.iter() {
            self.mail(shard, Mail::Published(publication.clone()));
        }
        self.note_publication(place, &publication);
        if is_stored { self.store_value(&publication) } else { None }
    }

    /// What else follows from a new value.
    pub(super) fn note_publication(&mut self, place: Place, publication: &Arc<Publication>) {
        self.note_update(place);
        let topic = self.tree.topic(place);
        let (id, is_source) = (topic.id, topic.is_source);
        if topic.is_watched {
            let path = topic.path.clone();
            self.tell_watchers(&path);
        }
        if is_source {
            self.note_source(id, publication);
        }
    }

    /// Removes the topic at `path`, be it a client's or a view's; the record of that, if it is stored.
    pub(super) fn remove_topic(&mut self, path: &str) -> Option<Option<Ticket>> {
        let topic = self.tree.remove(path)?;
        for shard in topic.interested.iter() {
            self.mail(shard, Mail::Removed { id: topic.id, reason: Reason::Removed });
        }
        self.notice(&topic, What::Removed);
        if let Some(removal) = topic.rare.as_ref().and_then(|rare| rare.removal) {
            self.end_expiry(removal);
        }
        self.lose_subscribers(&topic);
        if topic.is_source {
            self.end_source(&topic);
        }
        if topic.is_watched {
            self.tell_watchers(&topic.path);
        }
        if !topic.is_reference {
            self.revive_reference(topic.path.as_str());
        }
        Some(self.store_removed(&topic))
    }

    /// Tells the shards that listen to the topic.
    fn notice(&mut self, topic: &Topic, what: What) {
        for shard in self.listening(ListenerKind::Topics, topic.path.as_str()).iter() {
            let notice = Notice::Topic { what, path: topic.path.clone(), specification: topic.specification.clone() };
            self.mail_notice(shard, notice);
        }
    }

    fn mail_notice(&mut self, to: ShardIndex, notice: Notice) {
        let asked = self.listens_heard[usize::from(to.0)];
        self.mail(to, Mail::Noticed { notice: Box::new(notice), asked });
    }

    /// The shards that listen to the topic at `path`; to topics also those that listen to one above it.
    fn listening(&self, kind: ListenerKind, path: &str) -> ShardSet {
        let mut listening = ShardSet::default();
        match kind {
            ListenerKind::Subscribers => {
                self.shards_listening_to_subscribers.for_each_match(path, |_, shards| listening = listening.union(*shards));
            }
            ListenerKind::Topics if self.shards_listening.is_empty() => {}
            ListenerKind::Topics => {
                let ends = path.bytes().enumerate().filter(|(_, byte)| *byte == b'/').map(|(at, _)| at).chain([path.len()]);
                for end in ends {
                    self.shards_listening.for_each_match(&path[..end], |_, shards| listening = listening.union(*shards));
                }
            }
        }
        listening
    }

    fn is_listened_to(&self, kind: ListenerKind, path: &str) -> bool {
        !self.listening(kind, path).is_empty()
    }
}

fn appeared(topic: &Topic, appearance: Appearance) -> Mail {
    Mail::Appeared(Box::new(Appeared {
        id: topic.id,
        path: topic.path.clone(),
        specification: topic.specification.clone(),
        latest: topic.latest.clone(),
        is_counted: topic.is_counted(),
        appearance,
    }))
}

/// A publication of a value, or of null.
pub(super) fn make_publication(topic: &Topic, version: u64, value: Option<&[u8]>, received: Time) -> Publication {
    match value {
        Some(value) => Publication::new(topic.id, version, received, value).with_compression(topic.specification.compression()),
        None => Publication::null(topic.id, version, received),
    }
}

/// Scalars are shorter than their deltas.
fn has_deltas(kind: ValueType) -> bool {
    matches!(kind, ValueType::Json | ValueType::String | ValueType::Binary)
}

fn refuse_patch(error: PatchError) -> Refusal {
    match error {
        PatchError::Malformed { position, message } => Refusal::at(ErrorCode::InvalidPatch, position, message),
        PatchError::Failed { operation, message } => {
            Refusal::at(ErrorCode::FailedPatch, operation, format!("operation {operation} of the patch: {message}"))
        }
    }
}
