//! The topics of this shard's partitions: one writer for each, so updates to a topic have one order.
//!
//! An update is decided, stored, applied: deciding reads topics and gives records, applying takes records and reads nothing beside them but the topic
//! that they are of. A topic that was stored is made of records by the same way.
//!
//! - here — an update's way, and its stream.
//! - `decide` — what it comes to: conditions, topics made, values, events; `messages` — what comes by MQTT.
//! - `record` — what changes a topic; `apply` — who is told; `storing` — what of it is stored; `restore` — topics that were stored.
//! - `keeping` — who has to keep a message before it is acknowledged.
//! - `events` — time series: what new subscribers get, queries, age.
//! - `walk` — questions about all topics that match, answered slice by slice.
//! - `count` — how many subscribers a topic has, where somebody wants to know.
//! - `expiry` — removal policies; `filters` — how many sessions match, for them.
//! - `errand` — what is done to all topics that match though nobody waits for an answer.
//! - `views` — what views make of topics.

mod apply;
mod count;
mod decide;
mod errand;
mod events;
mod expiry;
mod filters;
mod keeping;
mod messages;
mod record;
mod restore;
mod storing;
mod views;
mod walk;

pub use views::{VIEWS_WRITER, Views, parse_view};
pub use walk::{known_selector, merge_pages};

use decide::Attempt;
use errand::Errands;
use expiry::Expiries;
use filters::FilterCounts;
use keeping::{Keeping, Keepings};
use messages::Passing;
use record::Record;
use walk::Walk;

use crate::base::{Key, ShardIndex, ShardSet, Slab, Time, TopicId, Wheel};
use crate::desk::{Answer, Applied, Desk, Ticket};
use crate::mail::{Change, StreamStep, Update};
use crate::topic::interest::Interests;
use crate::topic::path::TopicPath;
use crate::topic::publication::Publication;
use crate::topic::selector::Selector;
use crate::topic::specification::Specification;
use crate::topic::tree::{Place, Tree};
use crate::value::delta;
use crate::value::json::Checker;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

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
    /// What reading JSON needs and leaves nothing in: deciding may use it and changes nothing.
    checker: RefCell<Checker>,
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
            checker: RefCell::default(),
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
        let (applied, keeping) = self.update(desk, from, to.session, path.as_str(), &change, received);
        self.acknowledge_kept(desk, applied, Answer::Update { from, to }, keeping);
    }

    /// Decides on an update whose path and value have been checked, and carries that out.
    pub fn update(
        &mut self,
        desk: &mut Desk,
        from: ShardIndex,
        session: Key,
        path: &str,
        change: &Change<'_>,
        received: Time,
    ) -> (Applied, Option<Keeping>) {
        let found = self.tree.find(path);
        let step = change.conditions.as_ref().and_then(|conditions| conditions.stream);
        let has_stream = step.is_some() || found.is_some_and(|place| self.tree.topic(place).stream().is_some());
        let by = Creator { shard: from, session };
        match self.decide(desk, Attempt { path, found, gives_way: false, by, received }, change) {
            Ok(decided) => {
                let leaves_value = has_stream && decided.leaves_value();
                let outcome = decided.outcome;
                let (at, ticket, keeping) = self.carry_out(desk, found, decided.records);
                if has_stream {
                    self.note_stream(at, step, leaves_value);
                }
                (Ok((outcome, ticket.or(decided.earlier))), keeping)
            }
            Err(refusal) => {
                self.note_failed_step(found, step);
                (Err(refusal), None)
            }
        }
    }

    /// Applies the records of an update, and has those of stored topics stored. Gives where the topic stands then, the last record that is stored,
    /// and who has to be waited for.
    fn carry_out(
        &mut self,
        desk: &mut Desk,
        found: Option<Place>,
        records: [Option<Record>; 2],
    ) -> (Option<Place>, Option<Ticket>, Option<Keeping>) {
        let (mut at, mut ticket, mut keeping) = (found, None, None);
        for mut record in records.into_iter().flatten() {
            match (&record, at) {
                (Record::Added(added), _) => {
                    let id = desk.take_topic_id();
                    assert_eq!(id, added.id, "no topic was made since it was decided");
                }
                (_, Some(place)) => keeping = self.start_keeping(desk, place, &mut record),
                (_, None) => {}
            }
            ticket = self.store(desk, at, &record).or(ticket);
            at = self.apply(desk, at, record);
        }
        (at, ticket, keeping)
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
}

#[cfg(test)]
impl Owner {
    /// What tests look at.
    pub fn topic_at(&self, path: &str) -> Option<&crate::topic::tree::Topic> {
        self.tree.find(path).map(|place| self.tree.topic(place))
    }

    /// A topic that nobody made.
    pub fn make_topic(&mut self, desk: &mut Desk, path: TopicPath, specification: std::sync::Arc<Specification>) {
        let id = desk.take_topic_id();
        let added = record::Added { id, path, specification, is_passing: false, value: None, creator: None };
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
