//! The topics of this shard's partitions: one writer for each, so updates to a topic have one order.
//!
//! An update is decided, stored, applied: deciding reads topics and gives records, applying takes records and reads nothing beside them but the topic
//! that they are of. A topic that was stored is made of records by the same way.
//!
//! - here — an update's way, and its stream.
//! - `decide` — what it comes to: conditions, topics made, values, events; `messages` — what comes by MQTT.
//! - `record` — what changes a topic, and who is told; `storing` — what of it is stored; `restore` — topics that were stored.
//! - `outcome` — topics that several servers hold as one; `ahead` — what is decided of them and not applied.
//! - `keeping` — who has to keep a message before it is acknowledged.
//! - `events` — time series: what new subscribers get, queries.
//! - `interests` — which shards want to know of what; `count` — how many subscribers a topic has, where somebody wants to know.
//! - `walk` — questions about all topics that match, answered slice by slice; `walks` — those under way.
//! - `expiry` — removal policies; `filters` — how many sessions match, for them; `passing` — topics that only messages had made; `retained` — messages
//!   that expire.
//! - `errand` — what is done to all topics that match though nobody waits for an answer.
//! - `workbench` — memory for reading and making values.
//! - `views` — what views make of topics.
//!
//! What may be many is looked at slice by slice, by walks, errands and what comes due in a turn; loops over places, paths and notices are over one slice. A set of
//! shards has as many as there are cores.

mod ahead;
mod count;
mod decide;
mod errand;
mod events;
mod expiry;
mod filters;
mod forward;
mod interests;
mod keeping;
mod leaving;
mod messages;
mod outcome;
mod passing;
mod record;
mod restore;
mod retained;
mod storing;
mod views;
mod walk;
mod walks;
mod workbench;

pub use forward::{replied, reply_of};
pub use views::{VIEWS_WRITER, Views, parse_view};
pub use walk::{known_selector, merge_pages};

use ahead::Ahead;
use decide::{Attempt, Decided};
use errand::Errands;
use expiry::Expiries;
use interests::ShardInterests;
use keeping::{Keeping, Keepings};
use record::{Added, Record};
use restore::Installs;
use retained::Retained;
use views::Turn;
use walks::Walks;
use workbench::Workbench;

use crate::base::{SessionId, ShardIndex, Time, TopicId};
use crate::desk::{Answer, Applied, Desk, Own, Proposed, Ticket};
use crate::mail::{Change, StreamStep, Update};
use crate::topic::publication::Publication;
use crate::topic::specification::Specification;
use crate::topic::tree::{Place, Topic, Tree};
use std::sync::Arc;

/// A shard's topics, and all that is done to them. Nothing here looks into a session or a connection: who asks is a key that is only passed on, who
/// is told is a shard. Every method that may cause mail or a record takes the desk.
pub struct Owner {
    tree: Tree,
    interests: ShardInterests,
    walks: Walks,
    errands: Errands,
    keepings: Keepings,
    expiries: Expiries,
    retained: Retained,
    workbench: Workbench,
    views: Views,
    ahead: Ahead,
    installs: Installs,
    /// Removals that wait until less is on its way to a log.
    paused: Vec<Paused>,
}

/// A removal that waits for this group, by who asked.
struct Paused {
    from: ShardIndex,
    ticket: u64,
    group: u16,
}

impl Owner {
    pub fn new(desk: &Desk) -> Self {
        Self {
            tree: Tree::default(),
            interests: ShardInterests::new(desk.identity.count),
            walks: Walks::new(desk.limits.selector),
            errands: Errands::default(),
            keepings: Keepings::default(),
            expiries: Expiries::default(),
            retained: Retained::default(),
            workbench: Workbench::default(),
            views: Views::new(desk.turn.now),
            ahead: Ahead::default(),
            installs: Installs::default(),
            paused: Vec::new(),
        }
    }

    // A. Getters.

    pub fn topic_count(&self) -> usize {
        self.tree.len()
    }

    /// Selectors of sessions and of both kinds of listeners that other shards and this one have, and walks under way.
    pub fn counts(&self) -> [usize; 4] {
        let [sessions, topics, subscribers] = self.interests.counts();
        [sessions, topics, subscribers, self.walks.len() + self.errands.len()]
    }

    /// Messages that are not kept everywhere, and topics that are only passed through.
    pub fn message_counts(&self) -> [usize; 2] {
        [self.keepings.len(), self.expiries.passing_count()]
    }

    pub fn has_walks(&self) -> bool {
        self.walks.active() > 0
    }

    /// Whether walks, errands or views wait for their next slice.
    pub fn has_slices(&self) -> bool {
        self.walks.active() > 0 || !self.errands.is_empty() || self.views.work.is_due || self.has_passing_due() || self.has_installs()
    }

    /// Whether what views have to do waits for its turn.
    pub fn has_view_work(&self) -> bool {
        self.views.work.is_due
    }

    pub fn views(&self) -> &Views {
        &self.views
    }
}

/// What an update's answer waits for beside its record's being stored.
pub enum Waits {
    /// Until its message is kept by all that have to.
    Keeping(Keeping),
    /// Until it is applied. What is put to the log for this shard is asked after, if need be.
    Proposed(Proposed, Option<Own>),
    /// Until the server that leads the group has answered, by the number that it was forwarded with.
    Forwarded(u16, u64),
}

impl Owner {
    pub fn update_for_other(&mut self, desk: &mut Desk, update: Update) {
        let Update { from, to, by, author, path, change, received } = update;
        let (applied, waits) = self.update(desk, (by, author.as_ref()), path.as_str(), &change, received);
        self.acknowledge_kept(desk, applied, Answer::Update { from, to }, waits);
    }

    /// Decides on an update whose path and value have been checked, and carries that out. Who makes it counts as the topic's creator, if that is new.
    pub fn update(
        &mut self,
        desk: &mut Desk,
        (by, author): (Option<SessionId>, Option<&Arc<str>>),
        path: &str,
        change: &Change<'_>,
        received: Time,
    ) -> (Applied, Option<Waits>) {
        if let Some(group) = desk.groups.of(path) {
            return self.update_replicated(desk, group, (by, author), path, change, received);
        }
        let found = self.tree.find(path);
        let step = change.conditions.as_ref().and_then(|conditions| conditions.stream);
        let topic = found.map(|place| self.tree.topic(place));
        let stream = topic.and_then(Topic::stream);
        let has_stream = step.is_some() || stream.is_some();
        match self.decide(desk, Attempt { path, found: topic, stream, gives_way: false, by, author, received }, change) {
            Ok(decided) => {
                let leaves_value = has_stream && decided.leaves_value();
                let Decided { added, record, outcome, earlier } = decided;
                let (at, ticket, keeping) = self.carry_out(desk, found, added, record);
                if has_stream {
                    self.note_stream(at, step, leaves_value);
                }
                (Ok((outcome, ticket.or(earlier))), keeping.map(Waits::Keeping))
            }
            Err(refusal) => {
                self.note_failed_step(found, step);
                (Err(refusal), None)
            }
        }
    }

    /// Answers an update, once its message is kept where it has to be, or it is applied.
    pub fn acknowledge_kept(&mut self, desk: &mut Desk, applied: Applied, answer: Answer, waits: Option<Waits>) {
        match waits {
            Some(Waits::Proposed(proposed, own)) => {
                desk.groups.hold(proposed, answer, applied.map(|(outcome, _)| outcome), own);
            }
            Some(Waits::Forwarded(group, number)) => desk.groups.hold_forwarded(group, number, answer),
            Some(Waits::Keeping(keeping)) => self.hold_answer(desk, applied, answer, keeping),
            None => desk.acknowledge(applied, answer),
        }
    }

    /// Applies the records of an update, and has those of stored topics stored. Gives where the topic stands then, the last record that is stored,
    /// and who has to be waited for.
    fn carry_out(
        &mut self,
        desk: &mut Desk,
        found: Option<Place>,
        added: Option<Box<Added>>,
        record: Option<Record>,
    ) -> (Option<Place>, Option<Ticket>, Option<Keeping>) {
        let (mut at, mut ticket) = (found, None);
        if let Some(added) = added {
            let id = desk.take_topic_id();
            assert_eq!(id, added.id, "no topic was made since it was decided");
            let record = Record::Added(added);
            ticket = if desk.stores() { self.store(desk, at, &record) } else { None };
            at = self.apply(desk, at, record);
        }
        let Some(mut record) = record else { return (at, ticket, None) };
        let keeping = match at {
            Some(place) if !desk.ledger.keepers.is_empty() => self.start_keeping(desk, place, &mut record),
            _ => None,
        };
        if desk.stores() {
            ticket = self.store(desk, at, &record).or(ticket);
        }
        (self.apply(desk, at, record), ticket, keeping)
    }

    /// The topic's updates are by a stream from now on, or no longer by that which it had.
    fn note_stream(&mut self, at: Option<Place>, step: Option<StreamStep>, leaves_value: bool) {
        let Some(topic) = at.map(|place| self.tree.topic_mut(place)) else { return };
        match step {
            Some(StreamStep { stream, .. }) => topic.rare_mut().stream = Some(stream),
            None if topic.stream().is_some() && !leaves_value => topic.rare_mut().stream = None,
            None => {}
        }
    }

    /// An operation of a stream was refused, which ends it; also one that could not be opened: an earlier stream of its number, closed meanwhile,
    /// must not stand for it.
    fn note_failed_step(&mut self, found: Option<Place>, step: Option<StreamStep>) {
        let (Some(place), Some(StreamStep { stream, .. })) = (found, step) else { return };
        let topic = self.tree.topic_mut(place);
        if topic.stream() == Some(stream) {
            topic.rare_mut().stream = None;
        }
    }

    /// What views may do in a turn begins anew.
    pub fn begin_view_turn(&mut self, desk: &Desk) {
        self.views.work.turn = Turn { units_left: desk.limits.views.units_per_turn, has_walked: false };
    }
}

#[cfg(test)]
impl Owner {
    /// What tests look at.
    pub fn topic_at(&self, path: &str) -> Option<&Topic> {
        self.tree.find(path).map(|place| self.tree.topic(place))
    }

    /// A topic that nobody made.
    pub fn make_topic(&mut self, desk: &mut Desk, path: crate::topic::path::TopicPath, specification: std::sync::Arc<Specification>) {
        let id = desk.take_topic_id();
        let added = Added { id, path, specification, is_passing: false, value: None, creator: None };
        self.apply(desk, None, Record::Added(Box::new(added)));
    }

    pub fn remove_at(&mut self, desk: &mut Desk, path: &str) {
        let place = self.tree.find(path).expect("the topic is there");
        self.remove_topic(desk, place);
    }
}

/// A publication of a value, or of null.
fn make_publication(id: TopicId, specification: &Specification, version: u64, value: Option<&[u8]>, received: Time) -> Publication {
    match value {
        Some(value) => Publication::new(id, version, received, value).with_compression(specification.compression()),
        None => Publication::null(id, version, received),
    }
}
