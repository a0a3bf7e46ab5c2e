//! What one session still has to be sent.
//!
//! It holds references; values are encoded when the socket can take them. Bounded: above `bytes_high` only the newest
//! value of a topic stands, and an entry that stands for "the newest value" costs the same however often the topic changes. A session
//! that falls behind loses stale values, never the latest one, unless the topic's CONFLATION says otherwise.
//!
//! There are three lanes, of which the first that holds something is sent: what concerns a topic waits in the lane of its PRIORITY, in the order in
//! which it came; answers wait in the middle one. Messages that the client has to acknowledge never give way, but where their topic's CONFLATION was set
//! on purpose. Those that may not be sent yet are put aside (`blocked`), and hold up nothing but what follows them of their topics.
//!
//! Every loop here is over one queue, which the limits bound: by bytes, and what does not count there by the topics that the session selects. The queue is
//! walked when it is over its mark and has grown by half of that, or a quarter, since the last walk, when topics are withdrawn, and when the connection is lost.

mod blocked;
mod conflate;
mod lane;
mod superseded;
#[cfg(test)]
mod tests;

use super::mqtt::Message;
use super::{LocalTopic, Outgoing};
use crate::protocol::Reason;
use crate::topic::path::TopicPath;
use crate::topic::specification::{Conflation, Priority};
use crate::wire::mqtt::QoS;
use blocked::Blocked;
use conflate::{conflate, leave_gaps};
use hashbrown::HashSet;
use lane::Lane;
use std::num::NonZeroU32;
use std::rc::Rc;
use superseded::{Superseded, is_noted};

/// Every bound the queue obeys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Above this many bytes, older values of a topic give way to newer ones.
    pub bytes_high: usize,
    /// Above this many bytes although conflated, the session is closed. What says that topics are subscribed, or no longer, does not count.
    pub bytes_max: usize,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self { bytes_high: 256 << 10, bytes_max: 16 << 20 }
    }
}

/// Conflation could not keep the queue under its bound.
#[derive(Debug, PartialEq, Eq)]
pub struct Overflow;

/// One thing to send.
pub enum Entry {
    /// Encoded already, for the session's form.
    Control(Box<[u8]>),
    /// The same, behind all that waits now.
    Behind(Box<[u8]>),
    /// The subscription, then the newest value.
    Subscribed(Rc<LocalTopic>, u32),
    /// The newest value, whole.
    Latest(Rc<LocalTopic>, u32),
    /// Values were lost; then the newest, whole.
    Gap(Rc<LocalTopic>, u32),
    /// The version behind what the session holds by then.
    Step(Rc<Outgoing>),
    Unsubscribed(Rc<LocalTopic>, Reason),
    /// A publication with what a subscription of MQTT adds to it.
    Message(Box<Message>),
}

/// So many bytes at least are left beside messages that have to be acknowledged, unless that is more than half.
const RESERVE_MIN: usize = 1024;

/// What an entry itself takes.
const ENTRY_BYTES: usize = 48;

impl Entry {
    fn cost(&self) -> usize {
        ENTRY_BYTES
            + match self {
                Self::Control(bytes) | Self::Behind(bytes) => bytes.len(),
                Self::Step(outgoing) => outgoing.bytes(),
                Self::Message(message) => message.cost(),
                Self::Subscribed(..) | Self::Latest(..) | Self::Gap(..) | Self::Unsubscribed(..) => 0,
            }
    }

    /// The lane it waits in.
    fn priority(&self) -> Priority {
        match self {
            Self::Step(outgoing) => outgoing.priority,
            Self::Message(message) => message.outgoing.priority,
            Self::Subscribed(topic, _) | Self::Latest(topic, _) | Self::Gap(topic, _) | Self::Unsubscribed(topic, _) => {
                topic.specification.priority()
            }
            Self::Control(_) => Priority::Default,
            Self::Behind(_) => Priority::Low,
        }
    }

    /// Whether it is an update whose subscription ends rather than be conflated.
    fn ends_under_pressure(&self) -> bool {
        match self {
            Self::Step(outgoing) => outgoing.ends_under_pressure,
            Self::Latest(topic, _) | Self::Gap(topic, _) => topic.specification.conflation() == Conflation::Unsubscribe,
            _ => false,
        }
    }

    /// Of the topic whose values a client of MQTT is sent in their order.
    fn path(&self) -> Option<&TopicPath> {
        match self {
            Self::Step(outgoing) => Some(outgoing.path()),
            Self::Message(message) => Some(message.outgoing.path()),
            _ => None,
        }
    }

    /// Whether it may be sent now, to a client that acknowledges messages.
    fn goes(&self, fits: impl Fn(&Message) -> bool, comes_first: impl Fn(&TopicPath) -> bool) -> bool {
        match self {
            Self::Message(message) if message.qos != QoS::AtMostOnce => fits(message),
            other => !other.path().is_some_and(comes_first),
        }
    }

    fn update_of(&self) -> Option<Rc<LocalTopic>> {
        match self {
            Self::Step(outgoing) => outgoing.topic(),
            Self::Message(message) => message.outgoing.topic(),
            Self::Latest(topic, _) | Self::Gap(topic, _) => Some(topic.clone()),
            _ => None,
        }
    }
}

#[derive(Default)]
pub struct SendQueue {
    entries: Lane,
    /// What most sessions have none of.
    side: Option<Box<SideLanes>>,
    bytes: usize,
    tally: Tally,
    /// Waiting updates whose subscriptions end under pressure.
    ending: usize,
    /// No use conflating again below this.
    conflate_above: usize,
    /// What the queue holds, as long as that is steps only: sessions with the same one are sent the same bytes.
    steps: Option<Steps>,
}

#[derive(Default)]
struct SideLanes {
    /// What concerns topics of these priorities.
    high: Lane,
    low: Lane,
    blocked: Blocked,
    /// The sequence numbers of messages that had to be acknowledged and gave way.
    conflated: Vec<u64>,
    /// What gave way is no first of its lane.
    superseded: Superseded,
}

impl SideLanes {
    fn is_empty(&self) -> bool {
        self.high.is_empty() && self.low.is_empty()
    }

    fn len(&self) -> usize {
        self.high.len() + self.low.len() + self.blocked.len()
    }

    fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.high.iter().chain(self.low.iter()).chain(self.blocked.iter())
    }
}

/// What waits, by kind.
#[derive(Clone, Copy, Default)]
struct Tally {
    /// Entries that say how the session stands with a topic: at most a few for each that it selects.
    states: u32,
    /// Messages that the client has to acknowledge.
    count: u32,
    /// Bytes of those that never give way.
    lasting_bytes: usize,
    /// No sequence number of theirs is lower.
    oldest: u64,
}

impl Tally {
    #[inline]
    fn add(&mut self, entry: &Entry) {
        match entry {
            Entry::Message(message) => self.add_message(message, entry.cost()),
            Entry::Subscribed(..) | Entry::Latest(..) | Entry::Gap(..) | Entry::Unsubscribed(..) => self.states += 1,
            Entry::Step(_) | Entry::Control(_) | Entry::Behind(_) => {}
        }
    }

    #[inline]
    fn remove(&mut self, entry: &Entry) {
        match entry {
            Entry::Message(message) => self.remove_message(message, entry.cost()),
            Entry::Subscribed(..) | Entry::Latest(..) | Entry::Gap(..) | Entry::Unsubscribed(..) => self.states -= 1,
            Entry::Step(_) | Entry::Control(_) | Entry::Behind(_) => {}
        }
    }

    fn add_message(&mut self, message: &Message, cost: usize) {
        if message.qos != QoS::AtMostOnce {
            self.oldest = if self.count == 0 { message.sequence } else { self.oldest.min(message.sequence) };
            self.count += 1;
            self.lasting_bytes += if message.is_lasting() { cost } else { 0 };
        }
    }

    /// One that does not last gave way.
    fn give_way(&mut self, sequence: u64) {
        self.oldest += u64::from(self.oldest == sequence);
        self.count -= 1;
    }

    fn remove_message(&mut self, message: &Message, cost: usize) {
        if message.qos != QoS::AtMostOnce {
            self.oldest += u64::from(self.oldest == message.sequence);
            self.count -= 1;
            self.lasting_bytes -= if message.is_lasting() { cost } else { 0 };
        }
    }
}

/// What conflation does with a topic's steps.
pub enum Newest {
    /// They give way to one `Latest` of the subscription's generation.
    Of(u32),
    /// They give way to the newest of themselves.
    Itself,
    /// The session is not subscribed any more.
    Nothing,
}

/// The identity of a run of steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Steps {
    count: NonZeroU32,
    digest: u64,
}

impl SendQueue {
    /// Whether `pop` has nothing.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.side.as_ref().is_none_or(|side| side.is_empty())
    }

    /// Messages that wait to be sent and acknowledged, those of a topic in their order.
    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        let side = self.side.iter().flat_map(|side| side.blocked.iter().chain(side.high.iter()).chain(side.low.iter()));
        let is_gone = |message: &Message| self.side.as_ref().is_some_and(|side| side.superseded.is_gone(message));
        side.chain(self.entries.iter()).filter_map(move |entry| match entry {
            Entry::Message(message) if message.qos != QoS::AtMostOnce && !is_gone(message) => Some(&**message),
            _ => None,
        })
    }

    pub fn message_count(&self) -> usize {
        self.tally.count as usize
    }

    /// No message that waits to be acknowledged has a lower sequence number.
    pub fn oldest_message(&self) -> Option<u64> {
        (self.tally.count > 0).then_some(self.tally.oldest)
    }

    /// Whether there is room for one more message that the client has to acknowledge. What it does not acknowledge keeps some room of its own, so that
    /// a session whose messages wait is answered nevertheless.
    pub fn has_room(&self, message: &Message, messages_max: usize, limits: QueueLimits) -> bool {
        let reserve = limits.bytes_high.max(RESERVE_MIN).min(limits.bytes_max / 2);
        let cost = ENTRY_BYTES + message.cost();
        self.message_count() < messages_max && self.bounded_bytes().max(self.tally.lasting_bytes + reserve) + cost <= limits.bytes_max
    }

    /// Bytes held on account of this session.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The same without what says how the session stands with topics, which is bounded by the topics that it selects: nobody is closed for being told
    /// of many.
    pub fn bounded_bytes(&self) -> usize {
        self.bytes - self.tally.states as usize * ENTRY_BYTES
    }

    /// The run of steps that is all the queue holds.
    pub fn steps(&self) -> Option<Steps> {
        self.steps.filter(|_| self.side.as_ref().is_none_or(|side| side.blocked.is_empty()))
    }

    pub fn push(&mut self, entry: Entry) {
        self.steps = match (&entry, self.steps, self.is_empty()) {
            (Entry::Step(outgoing), _, true) => Some(Steps::of(outgoing.sequence)),
            (Entry::Step(outgoing), Some(steps), false) => Some(steps.then(outgoing.sequence)),
            _ => None,
        };
        self.bytes += entry.cost();
        self.ending += usize::from(entry.ends_under_pressure());
        self.tally.add(&entry);
        if matches!(entry, Entry::Message(_)) && is_noted(&entry) {
            self.side.get_or_insert_default().superseded.note(&entry, false);
        }
        let is_low_empty = self.side.as_ref().is_none_or(|side| side.low.is_empty());
        match entry.priority() {
            Priority::Low if is_low_empty && matches!(entry, Entry::Behind(_)) => self.entries.push_back(entry),
            Priority::Default => self.entries.push_back(entry),
            Priority::High => self.side.get_or_insert_default().high.push_back(entry),
            Priority::Low => self.side.get_or_insert_default().low.push_back(entry),
        }
    }

    /// The same as [`Self::push`] of a step, which is what most entries are.
    #[inline]
    pub fn push_step(&mut self, outgoing: &Rc<Outgoing>) {
        if outgoing.priority != Priority::Default {
            return self.push(Entry::Step(outgoing.clone()));
        }
        self.steps = match self.steps {
            Some(steps) => Some(steps.then(outgoing.sequence)),
            None if self.is_empty() => Some(Steps::of(outgoing.sequence)),
            None => None,
        };
        self.bytes += ENTRY_BYTES + outgoing.bytes();
        self.ending += usize::from(outgoing.ends_under_pressure);
        self.entries.push_back(Entry::Step(outgoing.clone()));
    }

    pub fn pop(&mut self) -> Option<Entry> {
        let entry = self.take_next()?;
        self.left(&entry);
        Some(entry)
    }

    /// The same to a client that acknowledges messages, of which `fits` says which may be sent now. Others are put aside, with all of their topics that
    /// comes behind them: they hold up nothing else, and each topic keeps its order. So is what need not be acknowledged of a topic of which something
    /// else `comes_first`.
    pub fn pop_fitting(&mut self, fits: impl Fn(&Message) -> bool, comes_first: impl Fn(&TopicPath) -> bool) -> Option<Entry> {
        let goes = |entry: &Entry| entry.goes(&fits, &comes_first);
        let blocked = self.side.as_mut().and_then(|side| side.blocked.pop_if(goes));
        if let Some(entry) = blocked {
            self.drop_first_gone();
            self.left(&entry);
            return Some(entry);
        }
        // As many steps as messages wait, each of which is put aside once.
        loop {
            let entry = self.take_next()?;
            let is_blocked =
                self.side.as_ref().is_some_and(|side| !side.blocked.is_empty() && side.blocked.holds_up(&entry, &side.superseded));
            if !is_blocked && goes(&entry) {
                self.left(&entry);
                return Some(entry);
            }
            let side = self.side.get_or_insert_default();
            if side.superseded.has_waiting() && is_noted(&entry) {
                side.superseded.note(&entry, true);
            }
            side.blocked.push(entry);
        }
    }

    /// Whether `pop_fitting` has something, or something to put aside.
    pub fn can_send(&self, fits: impl Fn(&Message) -> bool, comes_first: impl Fn(&TopicPath) -> bool) -> bool {
        let first = self.side.as_ref().and_then(|side| side.blocked.iter().next());
        !self.is_empty() || first.is_some_and(|entry| entry.goes(fits, comes_first))
    }

    fn take_next(&mut self) -> Option<Entry> {
        let Some(side) = &mut self.side else { return self.entries.pop_front() };
        let entry = side.high.pop_front().or_else(|| self.entries.pop_front()).or_else(|| side.low.pop_front());
        self.drop_first_gone();
        entry
    }

    /// Takes out what gave way and has come to be the first of its lane. Each goes once.
    fn drop_first_gone(&mut self) {
        let Some(side) = self.side.as_mut().filter(|side| side.superseded.has_gone()) else { return };
        let SideLanes { high, low, blocked, superseded, .. } = &mut **side;
        for lane in [high, &mut self.entries, low] {
            while lane.front().is_some_and(|entry| superseded.take_gone(entry)) {
                lane.pop_front();
            }
        }
        blocked.drop_first(|entry| superseded.take_gone(entry));
    }

    /// Takes out all that gave way.
    fn drop_gone(&mut self) {
        let Some(side) = self.side.as_mut().filter(|side| side.superseded.has_gone()) else { return };
        let SideLanes { high, low, blocked, superseded, .. } = &mut **side;
        for lane in [high, &mut self.entries, low] {
            lane.retain(|entry| !superseded.take_gone(entry));
        }
        blocked.retain(|entry| !superseded.take_gone(entry));
    }

    /// The entry has left the queue.
    fn left(&mut self, entry: &Entry) {
        self.bytes -= entry.cost();
        self.ending -= usize::from(entry.ends_under_pressure());
        self.tally.remove(entry);
        if let Some(side) = self.side.as_mut().filter(|side| side.superseded.has_waiting()) {
            side.superseded.forget(entry);
        }
        self.steps = None;
        if self.is_empty() {
            self.settle();
        }
    }

    /// Forgets everything but what has to be acknowledged: it was sent, or nobody is left to send it to.
    pub fn clear(&mut self) {
        if self.tally.count == 0 {
            self.entries.clear();
            (self.side, self.bytes, self.ending, self.tally) = (None, 0, 0, Tally::default());
            return self.settle();
        }
        self.drop_gone();
        let stays = |entry: &Entry| matches!(entry, Entry::Message(message) if message.qos != QoS::AtMostOnce);
        self.entries.retain(stays);
        if let Some(side) = &mut self.side {
            side.high.retain(stays);
            side.low.retain(stays);
            side.blocked.retain(stays);
        }
        self.count_again();
    }

    /// Nothing has been sent for long: what is kept for those who are sent much at a time is given back.
    pub fn rest(&mut self) {
        self.entries.rest();
    }

    fn settle(&mut self) {
        self.steps = None;
        // Messages that wait to be acknowledged may be many, and conflating them again takes as long for every one that goes.
        if self.bytes == 0 {
            self.conflate_above = 0;
        }
        self.side.take_if(|side| side.is_empty() && side.blocked.is_empty() && side.conflated.is_empty() && side.superseded.is_empty());
        self.entries.settle();
    }

    /// Drops the updates of these topics that wait. Their subscriptions and the ends of those stay.
    pub fn drop_updates(&mut self, topics: &[Rc<LocalTopic>]) {
        if topics.is_empty() {
            return;
        }
        self.drop_gone();
        let dropped: HashSet<*const LocalTopic> = topics.iter().map(Rc::as_ptr).collect();
        let is_kept = |entry: &Entry| match entry {
            Entry::Step(outgoing) => outgoing.topic().is_some_and(|of| !dropped.contains(&Rc::as_ptr(&of))),
            Entry::Latest(of, _) | Entry::Gap(of, _) => !dropped.contains(&Rc::as_ptr(of)),
            _ => true,
        };
        let lanes = self.side.iter_mut().flat_map(|side| [&mut side.high, &mut side.low]);
        lanes.chain([&mut self.entries]).for_each(|lane| lane.retain(is_kept));
        self.count_again();
    }

    /// Drops the updates and messages that wait of which this says so.
    pub fn drop_if(&mut self, mut is_dropped: impl FnMut(&Outgoing, Option<&Message>) -> bool) {
        self.drop_gone();
        let mut stays = |entry: &Entry| match entry {
            Entry::Step(outgoing) => !is_dropped(outgoing, None),
            Entry::Message(message) => !is_dropped(&message.outgoing, Some(message)),
            _ => true,
        };
        self.entries.retain(&mut stays);
        if let Some(side) = &mut self.side {
            side.high.retain(&mut stays);
            side.low.retain(&mut stays);
            side.blocked.retain(&mut stays);
        }
        self.count_again();
    }

    fn count_again(&mut self) {
        let side = self.side.iter().flat_map(|side| side.iter());
        (self.bytes, self.ending, self.tally) = (0, 0, Tally::default());
        for entry in self.entries.iter().chain(side) {
            self.bytes += entry.cost();
            self.ending += usize::from(entry.ends_under_pressure());
            self.tally.add(entry);
        }
        self.steps = None;
        if let Some(side) = self.side.as_mut().filter(|side| side.superseded.has_waiting()) {
            let SideLanes { high, low, blocked, superseded, .. } = &mut **side;
            superseded.forget_waiting();
            let entries = high.iter().chain(low.iter()).chain(self.entries.iter());
            entries.filter(|entry| is_noted(entry)).for_each(|entry| superseded.note(entry, false));
            blocked.iter().filter(|entry| is_noted(entry)).for_each(|entry| superseded.note(entry, true));
        }
    }

    /// Whether there is so much that it is worth conflating.
    pub fn is_over(&self, limits: QueueLimits) -> bool {
        self.bytes - self.tally.lasting_bytes > limits.bytes_high.max(self.conflate_above) || self.bounded_bytes() > limits.bytes_max
    }

    /// Of the messages of a topic that wait to be acknowledged only the newest stays. The sequence numbers of the others.
    pub fn conflate_messages(&mut self, topic: &LocalTopic) -> Vec<u64> {
        let Some(side) = &mut self.side else { return Vec::new() };
        let dropped = side.superseded.give_way(topic.id);
        for (sequence, waiting) in &dropped {
            self.bytes -= waiting.cost;
            self.tally.give_way(*sequence);
            if waiting.is_blocked {
                side.blocked.gave_way(&topic.path);
            }
        }
        if !dropped.is_empty() {
            self.drop_first_gone();
            let side = self.side.as_ref().expect("it was just there");
            if side.superseded.is_many(self.entries.len() + side.len()) {
                self.drop_gone();
            }
        }
        dropped.into_iter().map(|(sequence, _)| sequence).collect()
    }

    /// Keeps the bound: conflates when there is too much. `newest` is asked of each topic with steps whether they give way to one
    /// [`Entry::Latest`], and with `None` of steps of topics that have gone. Messages that had to be acknowledged and gave way are told by [`Self::take_conflated`].
    pub fn keep_bound(&mut self, limits: QueueLimits, mut newest: impl FnMut(Option<&LocalTopic>) -> Newest) -> Result<(), Overflow> {
        if self.is_over(limits) {
            self.drop_gone();
            let mut gone = Vec::new();
            self.entries = conflate(std::mem::take(&mut self.entries), &mut newest, &mut gone);
            if let Some(side) = &mut self.side {
                side.high = conflate(std::mem::take(&mut side.high), &mut newest, &mut gone);
                side.low = conflate(std::mem::take(&mut side.low), &mut newest, &mut gone);
                side.blocked.conflate(&mut newest, &mut gone);
            }
            if !gone.is_empty() {
                gone.sort_unstable();
                self.side.get_or_insert_default().conflated.extend(gone);
            }
            self.count_again();
            let left = self.bytes - self.tally.lasting_bytes;
            self.conflate_above = left + (limits.bytes_high / 2).max(left / 4);
        }
        if self.bounded_bytes() > limits.bytes_max { Err(Overflow) } else { Ok(()) }
    }

    /// What the client does not acknowledge goes, the oldest first, until no more than half the room is taken that messages leave it. How many went.
    pub fn drop_unacknowledged(&mut self, limits: QueueLimits) -> usize {
        self.drop_gone();
        let keeps = |entry: &Entry| match entry {
            Entry::Step(_) | Entry::Latest(..) | Entry::Gap(..) => false,
            Entry::Message(message) => message.qos != QoS::AtMostOnce,
            Entry::Control(_) | Entry::Behind(_) | Entry::Subscribed(..) | Entry::Unsubscribed(..) => true,
        };
        let room = limits.bytes_max.saturating_sub(self.tally.lasting_bytes) / 2;
        let (mut others, mut dropped) = (self.bytes - self.tally.lasting_bytes, 0);
        let mut stays = |entry: &Entry| {
            let stays = keeps(entry) || others <= room;
            if !stays {
                others -= entry.cost();
                dropped += 1;
            }
            stays
        };
        if let Some(side) = &mut self.side {
            side.blocked.retain(&mut stays);
            side.low.retain(&mut stays);
        }
        self.entries.retain(&mut stays);
        if let Some(side) = &mut self.side {
            side.high.retain(&mut stays);
        }
        self.count_again();
        dropped
    }

    /// Every step that waits goes, and its topic has a gap. `current` is asked of each topic to which the session is still subscribed, and gives the subscription's
    /// generation. How many gaps there are more than before.
    pub fn leave_gaps(&mut self, mut current: impl FnMut(&LocalTopic) -> Option<u32>) -> usize {
        let mut gaps = 0;
        let lanes = self.side.iter_mut().flat_map(|side| [&mut side.high, &mut side.low]);
        lanes.chain([&mut self.entries]).for_each(|lane| *lane = leave_gaps(std::mem::take(lane), &mut current, &mut gaps));
        self.count_again();
        self.conflate_above = 0;
        gaps
    }

    /// The sequence numbers of the messages that gave way to newer ones since the last time.
    pub fn take_conflated(&mut self) -> Vec<u64> {
        self.side.as_mut().map(|side| std::mem::take(&mut side.conflated)).unwrap_or_default()
    }

    /// Topics with waiting updates whose subscriptions should end rather than be conflated.
    pub fn topics_to_unsubscribe(&self) -> Vec<Rc<LocalTopic>> {
        if self.ending == 0 {
            return Vec::new();
        }
        let side = self.side.iter().flat_map(|side| side.iter());
        let mut topics: Vec<Rc<LocalTopic>> = self.entries.iter().chain(side).filter_map(Entry::update_of).collect();
        topics.retain(|topic| topic.specification.conflation() == Conflation::Unsubscribe);
        topics.sort_unstable_by_key(|topic| topic.id);
        topics.dedup_by_key(|topic| topic.id);
        topics
    }
}

impl Steps {
    fn of(sequence: u64) -> Self {
        Self { count: NonZeroU32::MIN, digest: mixed(0, sequence) }
    }

    fn then(self, sequence: u64) -> Self {
        Self { count: self.count.saturating_add(1), digest: mixed(self.digest, sequence) }
    }
}

fn mixed(digest: u64, sequence: u64) -> u64 {
    (digest.rotate_left(23) ^ sequence).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
