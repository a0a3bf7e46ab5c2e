//! The topics of this shard's partitions: one writer for each, so updates to a topic have one order.
//!
//! - `messages` — what comes by MQTT; `keeping` — who has to keep that before it is acknowledged.
//! - here — updates: conditions, topics made, values published, topics removed.
//! - `events` — time series: events appended, what new subscribers get, queries.
//! - `walk` — questions about all topics that match, answered slice by slice.
//! - `count` — how many subscribers a topic has, where somebody wants to know.
//! - `expiry` — removal policies; `filters` — how many sessions match, for them.
//! - `errand` — what is done to all topics that match though nobody waits for an answer.
//! - `storing` — what of topics is stored; `restore` — topics that were stored.
//! - `views` — what views make of topics.

mod count;
mod errand;
mod events;
mod expiry;
mod filters;
mod keeping;
mod messages;
mod restore;
mod storing;
mod views;
mod walk;

pub use views::{VIEWS_WRITER, Views, parse_view};
pub use walk::{known_selector, merge_pages};

use errand::Errands;
use expiry::Expiries;
use filters::FilterCounts;
use keeping::Keepings;
use messages::Passing;
use walk::Walk;

use crate::base::{Key, ShardIndex, ShardSet, Slab, Time, TopicId, Wheel};
use crate::desk::{Answer, Applied, Desk, Ticket};
use crate::mail::{Action, Appearance, Appeared, Change, Content, ListenerKind, Mail, Notice, StreamStep, Update, What};
use crate::protocol::{ErrorCode, Reason, Refusal};
use crate::topic::constraint::{Constraint, Subject};
use crate::topic::interest::Interests;
use crate::topic::path::TopicPath;
use crate::topic::publication::{self, Publication};
use crate::topic::selector::Selector;
use crate::topic::specification::{Specification, TopicType};
use crate::topic::tree::{Place, Topic, Tree};
use crate::value::delta::Form;
use crate::value::json::{Checker, JsonLimits};
use crate::value::patch::{self, PatchError};
use crate::value::{ValueType, delta, scalar};
use crate::wire::mqtt::QoS;
use crate::wire::native::{self, Outcome};
use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use storing::{check_storage, store_added, store_removed, store_value, stores_value};

/// The session that changes a topic, which counts as its creator if the topic is new.
#[derive(Clone, Copy)]
struct Creator {
    shard: ShardIndex,
    session: Key,
}

/// A shard's topics, and all that is done to them. Nothing here looks into a session or a connection: who asks is a key that is only passed on, who
/// is told is a shard. Every method that may cause mail or a record takes the desk.
pub struct Owner {
    tree: Tree,
    shards_interested: Interests<ShardSet>,
    /// The selectors of listeners, by shard.
    shards_listening: Interests<ShardSet>,
    shards_listening_to_subscribers: Interests<ShardSet>,
    /// By shard the ticket of its last request to listen.
    listens_heard: Vec<u64>,
    walks: VecDeque<Walk>,
    /// Walks for listeners, by shard and ticket, that wait until what they told is read.
    walks_waiting: BTreeMap<(u16, u64), Walk>,
    errands: Errands,
    passing: Passing,
    keepings: Keepings,
    expiries: Expiries,
    filters: FilterCounts,
    /// The time series whose events get too old.
    aging: Slab<(TopicId, TopicPath)>,
    aging_wheel: Wheel,
    /// Selects every topic.
    everything: Selector,
    delta: delta::Encoder,
    delta_bytes: Vec<u8>,
    checker: Checker,
    views: Views,
}

impl Owner {
    pub fn new(desk: &Desk) -> Self {
        Self {
            tree: Tree::default(),
            shards_interested: Interests::default(),
            shards_listening: Interests::default(),
            shards_listening_to_subscribers: Interests::default(),
            listens_heard: vec![0; usize::from(desk.identity.count)],
            walks: VecDeque::new(),
            walks_waiting: BTreeMap::new(),
            errands: Errands::default(),
            passing: Passing::default(),
            keepings: Keepings::default(),
            expiries: Expiries::default(),
            filters: FilterCounts::default(),
            aging: Slab::default(),
            aging_wheel: Wheel::new(desk.now),
            everything: Selector::parse("?.*//", desk.limits.selector).expect("it is a selector of a few bytes"),
            delta: delta::Encoder::new(),
            delta_bytes: Vec::new(),
            checker: Checker::default(),
            views: Views::new(desk.now),
        }
    }

    // A. Getters.

    pub fn topic_count(&self) -> usize {
        self.tree.len()
    }

    /// Selectors of sessions and of both kinds of listeners that other shards and this one have, and walks under way.
    pub fn counts(&self) -> [usize; 4] {
        let walks = self.walks.len() + self.walks_waiting.len() + self.errands.len();
        [self.shards_interested.len(), self.shards_listening.len(), self.shards_listening_to_subscribers.len(), walks]
    }

    /// Messages that are not kept everywhere, and topics that are only passed through.
    pub fn message_counts(&self) -> [usize; 2] {
        [self.keepings.len(), self.passing.len()]
    }

    pub fn has_walks(&self) -> bool {
        !self.walks.is_empty()
    }

    /// Whether walks, errands or views wait for their next slice.
    pub fn has_slices(&self) -> bool {
        !self.walks.is_empty() || !self.errands.is_empty() || self.views.has_work()
    }

    pub fn views(&self) -> &Views {
        &self.views
    }
}

impl Owner {
    pub fn update_for_other(&mut self, desk: &mut Desk, update: Update) {
        let Update { from, to, path, change, received } = update;
        let applied = self.update(desk, from, to.session, path.as_str(), &change, received);
        let keeping = self.take_keeping();
        self.acknowledge_kept(desk, applied, Answer::Update { from, to }, keeping);
    }

    /// Applies an update whose path and value have been checked.
    pub fn update(&mut self, desk: &mut Desk, from: ShardIndex, session: Key, path: &str, change: &Change<'_>, received: Time) -> Applied {
        let step = change.conditions.as_ref().and_then(|conditions| conditions.stream);
        let found = self.tree.find(path);
        self.check_keeping(desk, found, path, change)?;
        let found = self.find_changed(desk, found, path, change)?;
        let has_stream = step.is_some() || found.is_some_and(|place| self.tree.topic(place).stream().is_some());
        self.keepings.is_open = true;
        let applied = self.try_update(desk, found, Creator { shard: from, session }, path, change, received);
        self.keepings.is_open = false;
        if applied.is_err() {
            // What gave way to a topic that then was not made stands again.
            self.revive_reference(desk, path);
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
    fn find_changed(&mut self, desk: &mut Desk, found: Option<Place>, path: &str, change: &Change<'_>) -> Result<Option<Place>, Refusal> {
        if let (Some(place), Action::Add(specification) | Action::AddAndSet(specification, _)) = (found, &change.action)
            && self.tree.topic(place).is_passing
            && self.check_same(place, specification).is_err()
        {
            // It holds nothing that could be lost.
            self.remove_topic(desk, path);
            return Ok(None);
        }
        let Some(place) = found.filter(|place| self.tree.topic(*place).is_reference) else { return Ok(found) };
        let (Action::Add(specification) | Action::AddAndSet(specification, _)) = &change.action else {
            return self.check_not_reference(place).map(|()| found);
        };
        if let Some(conditions) = &change.conditions {
            self.check_constraint(found, path, conditions.constraint.as_ref())?;
        }
        check_storage(desk, specification)?;
        self.displace_reference(desk, path);
        Ok(None)
    }

    fn try_update(
        &mut self,
        desk: &mut Desk,
        found: Option<Place>,
        by: Creator,
        path: &str,
        change: &Change<'_>,
        received: Time,
    ) -> Applied {
        if let Some(conditions) = &change.conditions {
            self.check_stream(found, path, conditions.stream)?;
            self.check_constraint(found, path, conditions.constraint.as_ref())?;
        }
        if let Action::Message(message) = &change.action {
            return self.take_message(desk, found, by, path, message, received);
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
                    self.check_topic_storage(desk, place)?;
                    self.keep_passing(desk, place);
                }
                Ok((Outcome::Created(false), self.store_found(desk, place)))
            }
            (Action::AddAndSet(_, content), Some(place)) => {
                let ticket = self.set(desk, place, content, received)?;
                Ok((Outcome::Created(false), ticket))
            }
            (Action::Add(specification), _) => self.add(desk, by, path, specification, None, received),
            (Action::AddAndSet(specification, content), _) => self.add(desk, by, path, specification, Some(content), received),
            (Action::Set(content), Some(place)) => Ok((Outcome::Done, self.set(desk, place, content, received)?)),
            (Action::Check(kind), Some(place)) => self.check_kind(place, *kind).map(|()| (Outcome::Done, self.store_found(desk, place))),
            (Action::Patch(text), Some(place)) => Ok((Outcome::Done, self.patch(desk, place, text, received)?)),
            (Action::Delta(form, delta), Some(place)) => Ok((Outcome::Done, self.apply_delta(desk, place, *form, delta, received)?)),
            (Action::Append(append, content), Some(place)) => self.append(desk, place, *append, content, received),
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
        desk: &mut Desk,
        by: Creator,
        path: &str,
        specification: &Arc<Specification>,
        content: Option<&Content<'_>>,
        received: Time,
    ) -> Applied {
        if self.tree.len() >= desk.limits.topics_max {
            let message = format!("this server's core holds its most of {} topics", desk.limits.topics_max);
            return Err(Refusal::new(ErrorCode::TopicLimit, message));
        }
        check_storage(desk, specification)?;
        // A session's shard has checked it, or it is the server's own.
        let path = TopicPath::of_branch(path);
        let mut topic = Topic::new(desk.take_topic_id(), path, specification.clone());
        let mut ticket = store_added(desk, &topic);
        // Where sessions may have to keep the value it follows its topic, as every other does.
        let is_plain = topic.series().is_none() && topic.specification.retains_value() && desk.keepers.is_empty();
        if let Some(content) = content.filter(|_| is_plain) {
            let publication = Arc::new(make_publication(&topic, 1, content.value.as_deref(), received));
            if stores_value(desk, &topic.specification) {
                ticket = store_value(desk, &publication).or(ticket);
            }
            desk.report.updates += 1;
            topic.latest = Some(publication);
        }
        let place = self.enter(desk, topic, Some(by));
        // An event, and a value that is not kept, follow their topic as every other does.
        if let Some(content) = content.filter(|_| !is_plain) {
            ticket = self.set(desk, place, content, received)?.or(ticket);
        }
        Ok((Outcome::Created(true), ticket))
    }

    /// The shards that want what is at `path`.
    fn interested_in(&self, path: &str) -> ShardSet {
        let mut interested = ShardSet::default();
        self.shards_interested.for_each_match(path, |_, shards| interested = interested.union(*shards));
        interested
    }

    /// Puts a topic into the tree, and tells who is interested.
    fn enter(&mut self, desk: &mut Desk, topic: Topic, creator: Option<Creator>) -> Place {
        self.enter_as(desk, topic, creator, Appearance::Made)
    }

    fn enter_as(&mut self, desk: &mut Desk, mut topic: Topic, creator: Option<Creator>, appearance: Appearance) -> Place {
        topic.interested = self.interested_in(topic.path.as_str());
        if self.is_listened_to(ListenerKind::Subscribers, topic.path.as_str()) {
            topic.rare_mut().subscribers = Some(Vec::new());
        }
        self.notice(desk, &topic, What::Added);
        let policy = topic.specification.removal().cloned();
        let place = self.tree.insert(topic);
        if let Some(policy) = policy {
            self.start_expiry(desk, place, policy, creator);
        }
        self.start_aging(desk, place);
        let topic = self.tree.topic(place);
        let mails: Vec<(ShardIndex, Mail)> = topic.interested.iter().map(|shard| (shard, appeared(topic, appearance))).collect();
        for (shard, mail) in mails {
            desk.mail(shard, mail);
        }
        self.link_views(place);
        if self.views.has_watchers() {
            let path = self.tree.topic(place).path.clone();
            self.link_watchers(desk, &path);
        }
        place
    }

    /// Sets a value, or appends it to a time series.
    fn set(&mut self, desk: &mut Desk, place: Place, content: &Content<'_>, received: Time) -> Result<Option<Ticket>, Refusal> {
        self.check_kind(place, content.kind)?;
        if self.tree.topic(place).series().is_some() {
            let append = native::Append::Original { timestamp_ms: None };
            return self.append(desk, place, append, content, received).map(|(_, ticket)| ticket);
        }
        self.check_topic_storage(desk, place)?;
        Ok(self.publish(desk, place, content.value.as_deref(), received))
    }

    fn patch(&mut self, desk: &mut Desk, place: Place, text: &[u8], received: Time) -> Result<Option<Ticket>, Refusal> {
        self.check_kind(place, ValueType::Json)?;
        let topic = self.tree.topic(place);
        if topic.specification.topic_type() != TopicType::Json {
            let message = format!("a patch is for JSON topics; '{}' is a time series", topic.path.as_str());
            return Err(Refusal::new(ErrorCode::IncompatibleType, message));
        }
        self.check_topic_storage(desk, place)?;
        let value = self.tree.topic(place).latest.as_ref().and_then(|latest| latest.value());
        let value = value.ok_or_else(|| Refusal::at(ErrorCode::FailedPatch, 0, "the topic has no value to patch"))?;
        let limits = patch::PatchLimits {
            depth_max: desk.limits.json_depth_max,
            value_bytes_max: desk.limits.value_bytes_max,
            text_bytes_max: desk.limits.message_bytes_max,
            ..patch::PatchLimits::default()
        };
        let patched = patch::apply(value, text, limits).map_err(refuse_patch)?;
        check_size(desk, patched.len())?;
        Ok(self.publish(desk, place, Some(&patched), received))
    }

    fn apply_delta(&mut self, desk: &mut Desk, place: Place, form: Form, bytes: &[u8], received: Time) -> Result<Option<Ticket>, Refusal> {
        let topic = self.tree.topic(place);
        let kind = topic.specification.value_type();
        let previous = topic.latest.as_ref().and_then(|latest| latest.value()).filter(|_| has_deltas(kind));
        let previous = previous.ok_or_else(|| {
            Refusal::new(ErrorCode::InvalidValue, "there is no previous value that the server keeps, so a delta cannot be applied")
        })?;
        let value = delta::apply(form, previous, bytes, desk.limits.value_bytes_max)
            .map_err(|_| Refusal::new(ErrorCode::InvalidValue, "the delta does not apply to the stream's last value"))?;
        let mut checked = Vec::with_capacity(value.len());
        match kind {
            ValueType::Json => {
                let limits = JsonLimits { depth_max: desk.limits.json_depth_max };
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
        self.set(desk, place, &content, received)
    }

    /// The hot path: a new value to everybody who is interested.
    fn publish(&mut self, desk: &mut Desk, place: Place, value: Option<&[u8]>, received: Time) -> Option<Ticket> {
        self.publish_with(desk, place, value, received, None)
    }

    /// The same, with what a message of MQTT is beside its payload.
    fn publish_with(
        &mut self,
        desk: &mut Desk,
        place: Place,
        value: Option<&[u8]>,
        received: Time,
        message: Option<publication::Message>,
    ) -> Option<Ticket> {
        desk.report.updates += 1;
        self.keep_passing(desk, place);
        let keep = self.start_keeping(desk, place, message.as_ref().map_or(QoS::ExactlyOnce, |message| message.qos));
        let is_stored = stores_value(desk, &self.tree.topic(place).specification);
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
            desk.mail(shard, Mail::Published(publication.clone()));
        }
        self.note_publication(desk, place, &publication);
        if is_stored { store_value(desk, &publication) } else { None }
    }

    /// What else follows from a new value.
    fn note_publication(&mut self, desk: &mut Desk, place: Place, publication: &Arc<Publication>) {
        self.note_update(desk, place);
        let topic = self.tree.topic(place);
        let (id, is_source) = (topic.id, topic.is_source);
        if topic.is_watched {
            let path = topic.path.clone();
            self.tell_watchers(desk, &path);
        }
        if is_source {
            self.note_source(id, publication);
        }
    }

    /// Removes the topic at `path`, be it a client's or a view's; the record of that, if it is stored.
    fn remove_topic(&mut self, desk: &mut Desk, path: &str) -> Option<Option<Ticket>> {
        let topic = self.tree.remove(path)?;
        for shard in topic.interested.iter() {
            desk.mail(shard, Mail::Removed { id: topic.id, reason: Reason::Removed });
        }
        self.notice(desk, &topic, What::Removed);
        if let Some(removal) = topic.rare.as_ref().and_then(|rare| rare.removal) {
            self.end_expiry(desk, removal);
        }
        self.lose_subscribers(desk, &topic);
        if topic.is_source {
            self.end_source(desk, &topic);
        }
        if topic.is_watched {
            self.tell_watchers(desk, &topic.path);
        }
        if !topic.is_reference {
            self.revive_reference(desk, topic.path.as_str());
        }
        Some(store_removed(desk, &topic))
    }

    /// Tells the shards that listen to the topic.
    fn notice(&mut self, desk: &mut Desk, topic: &Topic, what: What) {
        for shard in self.listening(ListenerKind::Topics, topic.path.as_str()).iter() {
            let notice = Notice::Topic { what, path: topic.path.clone(), specification: topic.specification.clone() };
            self.mail_notice(desk, shard, notice);
        }
    }

    fn mail_notice(&mut self, desk: &mut Desk, to: ShardIndex, notice: Notice) {
        let asked = self.listens_heard[usize::from(to.0)];
        desk.mail(to, Mail::Noticed { notice: Box::new(notice), asked });
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

#[cfg(test)]
impl Owner {
    /// What tests look at.
    pub fn topic_at(&self, path: &str) -> Option<&Topic> {
        self.tree.find(path).map(|place| self.tree.topic(place))
    }

    /// A topic that nobody made.
    pub fn make_topic(&mut self, desk: &mut Desk, path: TopicPath, specification: Arc<Specification>) {
        let topic = Topic::new(desk.take_topic_id(), path, specification);
        self.enter(desk, topic, None);
    }

    pub fn remove_at(&mut self, desk: &mut Desk, path: &str) {
        self.remove_topic(desk, path);
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
fn make_publication(topic: &Topic, version: u64, value: Option<&[u8]>, received: Time) -> Publication {
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

fn check_size(desk: &Desk, bytes: usize) -> Result<(), Refusal> {
    if bytes <= desk.limits.value_bytes_max {
        return Ok(());
    }
    let message = format!("the value has {bytes} bytes, more than {}", desk.limits.value_bytes_max);
    Err(Refusal::new(ErrorCode::ValueTooLarge, message))
}
