//! Messages of topics of which only the newest is to wait.
//!
//! One that gives way to a newer one counts no more from then on, and is taken out of its lane when it comes to be the first there, or when most of what
//! stands in the lanes has given way: nothing looks through a queue for each message.

use super::Entry;
use crate::base::TopicId;
use crate::session::mqtt::Message;
use crate::topic::specification::Conflation;
use crate::wire::mqtt::QoS;
use hashbrown::HashSet;
use std::collections::BTreeMap;

/// So many that gave way may stand in the lanes, however few wait beside them.
const GONE_MAX: usize = 64;

/// See the module.
#[derive(Default)]
pub(super) struct Superseded {
    /// By topic and sequence number those that wait.
    waiting: BTreeMap<(TopicId, u64), Waiting>,
    /// The sequence numbers of those that gave way and stand in a lane still.
    gone: HashSet<u64>,
}

/// A message that may give way.
pub(super) struct Waiting {
    pub cost: usize,
    /// Whether it was put aside.
    pub is_blocked: bool,
}

/// The key of a message of a topic of which only the newest is to wait.
fn key_of(message: &Message) -> Option<(TopicId, u64)> {
    let outgoing = &message.outgoing;
    let is_conflated = message.qos != QoS::AtMostOnce && outgoing.specification().conflation() == Conflation::Always;
    is_conflated.then(|| (outgoing.publication().topic, message.sequence))
}

/// Whether it has to be noted when it is queued. What a topic elsewhere was dealt out as does not give way.
#[inline]
pub(super) fn is_noted(entry: &Entry) -> bool {
    matches!(entry, Entry::Message(message) if key_of(message).is_some() && message.outgoing.topic().is_some())
}

impl Superseded {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.gone.is_empty()
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn forget_waiting(&mut self) {
        self.waiting.clear();
    }

    /// It waits from now on, or is put aside.
    pub(super) fn note(&mut self, entry: &Entry, is_blocked: bool) {
        if let Entry::Message(message) = entry
            && let Some(key) = key_of(message)
        {
            self.waiting.insert(key, Waiting { cost: entry.cost(), is_blocked });
        }
    }

    /// The entry has left the queue.
    pub(super) fn forget(&mut self, entry: &Entry) {
        if let Entry::Message(message) = entry
            && let Some(key) = key_of(message)
        {
            self.waiting.remove(&key);
        }
    }

    /// All messages of the topic but the newest give way, by their sequence numbers.
    pub(super) fn give_way(&mut self, topic: TopicId) -> Vec<(u64, Waiting)> {
        let mut sequences: Vec<u64> = self.waiting.range((topic, 0)..=(topic, u64::MAX)).map(|((_, sequence), _)| *sequence).collect();
        sequences.pop();
        self.gone.extend(&sequences);
        let waiting = |sequence: u64| Some((sequence, self.waiting.remove(&(topic, sequence))?));
        sequences.into_iter().filter_map(waiting).collect()
    }

    /// Whether it is time to take what gave way out of lanes with so many entries.
    pub(super) fn is_many(&self, entries: usize) -> bool {
        self.gone.len() > GONE_MAX.max(entries / 2)
    }

    pub(super) fn has_gone(&self) -> bool {
        !self.gone.is_empty()
    }

    /// Whether it gave way and stands in its lane still.
    pub(super) fn is_gone(&self, message: &Message) -> bool {
        !self.gone.is_empty() && message.qos != QoS::AtMostOnce && self.gone.contains(&message.sequence)
    }

    pub(super) fn has_given_way(&self, entry: &Entry) -> bool {
        matches!(entry, Entry::Message(message) if self.is_gone(message))
    }

    /// The same, where it is about to be taken out.
    pub(super) fn take_gone(&mut self, entry: &Entry) -> bool {
        matches!(entry, Entry::Message(message) if self.is_gone(message) && self.gone.remove(&message.sequence))
    }
}
