//! What one session still has to be sent.
//!
//! It holds references; values are encoded when the socket can take them. Bounded: above `bytes_high` only the newest
//! value of a topic stands, and an entry that stands for "the newest value" costs the same however often the topic changes. A session
//! that falls behind loses stale values, never the latest one, unless the topic's CONFLATION says otherwise.
//!
//! There are three lanes, of which the first that holds something is sent: what concerns a topic waits in the lane of its PRIORITY, in the order in
//! which it came; answers wait in the middle one. A fourth holds the messages that the client has to acknowledge: they wait until it may be sent
//! more of them, and hold nothing else up.

use super::mqtt::Message;
use super::{LocalTopic, Outgoing};
use crate::protocol::Reason;
use crate::topic::specification::{Conflation, Priority};
use crate::wire::mqtt::QoS;
use hashbrown::{HashMap, HashSet};
use std::collections::VecDeque;
use std::rc::Rc;

/// Every bound the queue obeys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Above this many bytes, older values of a topic give way to newer ones.
    pub bytes_high: usize,
    /// Above this many bytes although conflated, the session is closed.
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
    /// The version behind what the session holds by then.
    Step(Rc<Outgoing>),
    Unsubscribed(Rc<LocalTopic>, Reason),
    /// A publication with what a subscription of MQTT adds to it.
    Message(Box<Message>),
}

/// What an entry itself takes.
const ENTRY_BYTES: usize = 48;

impl Entry {
    fn cost(&self) -> usize {
        ENTRY_BYTES
            + match self {
                Self::Control(bytes) | Self::Behind(bytes) => bytes.len(),
                Self::Step(outgoing) => outgoing.bytes(),
                // What a new subscription is sent is held by its topic; seldom, and then once for all sessions, by none.
                Self::Message(message) if message.is_first => 0,
                Self::Message(message) => message.outgoing.bytes(),
                Self::Subscribed(..) | Self::Latest(..) | Self::Unsubscribed(..) => 0,
            }
    }

    /// The lane it waits in.
    fn priority(&self) -> Priority {
        match self {
            Self::Step(outgoing) => outgoing.priority,
            Self::Message(message) => message.outgoing.priority,
            Self::Subscribed(topic, _) | Self::Latest(topic, _) | Self::Unsubscribed(topic, _) => topic.specification.priority(),
            Self::Control(_) => Priority::Default,
            Self::Behind(_) => Priority::Low,
        }
    }

    /// Whether it is an update whose subscription ends rather than be conflated.
    fn ends_under_pressure(&self) -> bool {
        match self {
            Self::Step(outgoing) => outgoing.ends_under_pressure,
            Self::Latest(topic, _) => topic.specification.conflation() == Conflation::Unsubscribe,
            _ => false,
        }
    }

    fn update_of(&self) -> Option<Rc<LocalTopic>> {
        match self {
            Self::Step(outgoing) => outgoing.topic(),
            Self::Message(message) => message.outgoing.topic(),
            Self::Latest(topic, _) => Some(topic.clone()),
            _ => None,
        }
    }
}

#[derive(Default)]
pub struct SendQueue {
    entries: VecDeque<Entry>,
    /// What concerns topics whose PRIORITY is not the default; most sessions have none.
    side: Option<Box<SideLanes>>,
    bytes: usize,
    /// Waiting updates whose subscriptions end under pressure.
    ending: usize,
    /// No use conflating again below this.
    conflate_above: usize,
    /// What the queue holds, as long as that is steps only: sessions with the same one are sent the same bytes.
    steps: Option<Steps>,
}

#[derive(Default)]
struct SideLanes {
    high: VecDeque<Entry>,
    low: VecDeque<Entry>,
    /// Messages that the client has to acknowledge.
    acknowledged: VecDeque<Entry>,
    /// The sequence numbers of those that gave way.
    conflated: Vec<u64>,
}

impl SideLanes {
    fn is_empty(&self) -> bool {
        self.high.is_empty() && self.low.is_empty()
    }

    fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.high.iter().chain(&self.low).chain(&self.acknowledged)
    }

    fn conflate_messages(&mut self, newest: &mut impl FnMut(Option<&LocalTopic>) -> Newest) {
        let sequence = |entry: &Entry| match entry {
            Entry::Message(message) => message.sequence,
            _ => 0,
        };
        let before: Vec<u64> = self.acknowledged.iter().map(sequence).collect();
        self.acknowledged = conflate(std::mem::take(&mut self.acknowledged), newest);
        let mut kept = self.acknowledged.iter().map(sequence).peekable();
        // What is kept is kept in its order.
        self.conflated.extend(before.into_iter().filter(|sequence| kept.next_if_eq(sequence).is_none()));
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Steps {
    count: u32,
    digest: u64,
}

impl SendQueue {
    /// Whether `pop` has nothing.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.side.as_ref().is_none_or(|side| side.is_empty())
    }

    /// Messages that wait to be sent and acknowledged.
    pub fn messages(&self) -> impl ExactSizeIterator<Item = &Message> {
        let lane = self.side.as_ref().map(|side| &side.acknowledged);
        lane.unwrap_or(const { &VecDeque::new() }).iter().map(|entry| match entry {
            Entry::Message(message) => &**message,
            _ => unreachable!("the lane holds messages only"),
        })
    }

    /// Bytes held on account of this session.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The run of steps that is all the queue holds.
    pub fn steps(&self) -> Option<Steps> {
        self.steps.filter(|_| self.side.as_ref().is_none_or(|side| side.acknowledged.is_empty()))
    }

    pub fn push(&mut self, entry: Entry) {
        self.steps = match (&entry, self.steps, self.is_empty()) {
            (Entry::Step(outgoing), _, true) => Some(Steps::default().then(outgoing.sequence)),
            (Entry::Step(outgoing), Some(steps), false) => Some(steps.then(outgoing.sequence)),
            _ => None,
        };
        self.bytes += entry.cost();
        self.ending += usize::from(entry.ends_under_pressure());
        if matches!(&entry, Entry::Message(message) if message.qos != QoS::AtMostOnce) {
            return self.side.get_or_insert_default().acknowledged.push_back(entry);
        }
        let is_low_empty = self.side.as_ref().is_none_or(|side| side.low.is_empty());
        match entry.priority() {
            Priority::Low if is_low_empty && matches!(entry, Entry::Behind(_)) => self.entries.push_back(entry),
            Priority::Default => self.entries.push_back(entry),
            Priority::High => self.side.get_or_insert_default().high.push_back(entry),
            Priority::Low => self.side.get_or_insert_default().low.push_back(entry),
        }
    }

    pub fn pop(&mut self) -> Option<Entry> {
        let entry = match &mut self.side {
            None => self.entries.pop_front()?,
            Some(side) => side.high.pop_front().or_else(|| self.entries.pop_front()).or_else(|| side.low.pop_front())?,
        };
        self.bytes -= entry.cost();
        self.ending -= usize::from(entry.ends_under_pressure());
        self.steps = None;
        if self.is_empty() {
            self.settle();
        }
        Some(entry)
    }

    /// The next message that the client has to acknowledge, where `fits` says that it may be sent.
    pub fn pop_message(&mut self, fits: impl FnOnce(&Message) -> bool) -> Option<Box<Message>> {
        let lane = &mut self.side.as_mut()?.acknowledged;
        let Some(Entry::Message(first)) = lane.front() else { return None };
        if !fits(first) {
            return None;
        }
        let Some(entry @ Entry::Message(_)) = lane.pop_front() else { return None };
        self.bytes -= entry.cost();
        self.steps = None;
        if self.is_empty() {
            self.settle();
        }
        match entry {
            Entry::Message(message) => Some(message),
            _ => None,
        }
    }

    /// Forgets everything but what has to be acknowledged: it was sent, or nobody is left to send it to.
    pub fn clear(&mut self) {
        self.entries.clear();
        if let Some(side) = &mut self.side {
            (side.high, side.low) = (VecDeque::new(), VecDeque::new());
        }
        self.count_again();
        self.settle();
    }

    fn settle(&mut self) {
        self.steps = None;
        // Messages that wait to be acknowledged may be many, and conflating them again takes as long for every one that goes.
        if self.bytes == 0 {
            self.conflate_above = 0;
        }
        self.side.take_if(|side| side.acknowledged.is_empty());
        if self.entries.capacity() > 256 {
            self.entries = VecDeque::new();
        }
    }

    /// Drops the updates of these topics that wait. Their subscriptions and the ends of those stay.
    pub fn drop_updates(&mut self, topics: &[Rc<LocalTopic>]) {
        if topics.is_empty() {
            return;
        }
        let dropped: HashSet<*const LocalTopic> = topics.iter().map(Rc::as_ptr).collect();
        let is_kept = |entry: &Entry| match entry {
            Entry::Step(outgoing) => outgoing.topic().is_some_and(|of| !dropped.contains(&Rc::as_ptr(&of))),
            Entry::Latest(of, _) => !dropped.contains(&Rc::as_ptr(of)),
            _ => true,
        };
        let lanes = self.side.iter_mut().flat_map(|side| [&mut side.high, &mut side.low]);
        lanes.chain([&mut self.entries]).for_each(|lane| lane.retain(is_kept));
        self.count_again();
    }

    fn count_again(&mut self) {
        let side = self.side.iter().flat_map(|side| side.iter());
        (self.bytes, self.ending) = (0, 0);
        for entry in self.entries.iter().chain(side) {
            self.bytes += entry.cost();
            self.ending += usize::from(entry.ends_under_pressure());
        }
        self.steps = None;
    }

    /// Whether there is so much that it is worth conflating.
    pub fn is_over(&self, limits: QueueLimits) -> bool {
        self.bytes > limits.bytes_high.max(self.conflate_above).min(limits.bytes_max)
    }

    /// The oldest messages that the client would have to acknowledge go until the rest is within `messages_max` and the bytes within
    /// `bytes_max`. Their sequence numbers.
    pub fn drop_oldest_messages(&mut self, messages_max: usize, bytes_max: usize) -> Vec<u64> {
        let mut dropped = Vec::new();
        while self.messages().len() > messages_max || self.bytes > bytes_max {
            let Some(message) = self.pop_message(|_| true) else { break };
            dropped.push(message.sequence);
        }
        dropped
    }

    /// Of the messages of a topic that wait to be acknowledged only the newest stays. The sequence numbers of the others.
    pub fn conflate_messages(&mut self, topic: &LocalTopic) -> Vec<u64> {
        let Some(side) = &mut self.side else { return Vec::new() };
        let is_of = |entry: &Entry| matches!(entry, Entry::Message(message) if message.outgoing.is_of(topic));
        let Some(newest) = side.acknowledged.iter().rposition(is_of) else { return Vec::new() };
        let (mut dropped, mut at) = (Vec::new(), 0);
        side.acknowledged.retain(|entry| {
            at += 1;
            let stays = at - 1 == newest || !is_of(entry);
            if let (false, Entry::Message(message)) = (stays, entry) {
                dropped.push(message.sequence);
            }
            stays
        });
        if !dropped.is_empty() {
            self.count_again();
        }
        dropped
    }

    /// Keeps the bound: conflates when there is too much. `newest` is asked of each topic with steps whether they give way to one
    /// [`Entry::Latest`], and with `None` of steps of topics that have gone. Messages that had to be acknowledged and gave way are told by [`Self::take_conflated`].
    pub fn keep_bound(&mut self, limits: QueueLimits, mut newest: impl FnMut(Option<&LocalTopic>) -> Newest) -> Result<(), Overflow> {
        if self.is_over(limits) {
            self.entries = conflate(std::mem::take(&mut self.entries), &mut newest);
            if let Some(side) = &mut self.side {
                side.high = conflate(std::mem::take(&mut side.high), &mut newest);
                side.low = conflate(std::mem::take(&mut side.low), &mut newest);
                side.conflate_messages(&mut newest);
            }
            self.count_again();
            self.conflate_above = self.bytes + limits.bytes_high / 2;
        }
        if self.bytes > limits.bytes_max { Err(Overflow) } else { Ok(()) }
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

fn conflate(entries: VecDeque<Entry>, newest: &mut impl FnMut(Option<&LocalTopic>) -> Newest) -> VecDeque<Entry> {
    let mut later: HashMap<*const LocalTopic, Later> = HashMap::new();
    let mut kept: Vec<Option<Entry>> = entries.into_iter().map(Some).collect();
    for at in (0..kept.len()).rev() {
        let entry = kept[at].take().expect("each entry is looked at once");
        kept[at] = match entry {
            Entry::Step(outgoing) => match outgoing.topic() {
                None => matches!(newest(None), Newest::Itself).then_some(Entry::Step(outgoing)),
                Some(topic) if topic.specification.conflation() == Conflation::Off => Some(Entry::Step(outgoing)),
                Some(topic) => {
                    let later = later.entry(Rc::as_ptr(&topic)).or_default();
                    let choice = if later.is_settled() { Newest::Nothing } else { newest(Some(&topic)) };
                    if !matches!(choice, Newest::Nothing) {
                        later.newest_at = Some(at);
                    }
                    match choice {
                        Newest::Nothing => None,
                        Newest::Itself => Some(Entry::Step(outgoing)),
                        Newest::Of(generation) => Some(Entry::Latest(topic, generation)),
                    }
                }
            },
            Entry::Message(message) => match message.outgoing.topic() {
                Some(topic) if topic.specification.conflation() != Conflation::Off => {
                    let later = later.entry(Rc::as_ptr(&topic)).or_default();
                    let is_stale = later.is_settled();
                    later.newest_at = later.newest_at.or(Some(at));
                    if is_stale { None } else { Some(Entry::Message(message)) }
                }
                _ => Some(Entry::Message(message)),
            },
            Entry::Latest(topic, generation) => {
                let later = later.entry(Rc::as_ptr(&topic)).or_default();
                let is_stale = later.is_settled();
                later.newest_at = later.newest_at.or(Some(at));
                if is_stale { None } else { Some(Entry::Latest(topic, generation)) }
            }
            Entry::Subscribed(topic, generation) => {
                let later = std::mem::take(later.entry(Rc::as_ptr(&topic)).or_default());
                match later {
                    // Who is not told that it fell behind would take the topic for one that is not there.
                    Later { ended_under_pressure: true, .. } => Some(Entry::Subscribed(topic, generation)),
                    // What the session has not heard of need not end, unless there is something between that must be told.
                    Later { ended_at: Some(end), .. } if topic.specification.conflation() != Conflation::Off => {
                        kept[end] = None;
                        None
                    }
                    Later { newest_at, .. } => {
                        // Who keeps no value sends none with the subscription.
                        if let Some(newest) = newest_at.filter(|_| topic.specification.retains_value()) {
                            kept[newest] = None;
                        }
                        Some(Entry::Subscribed(topic, generation))
                    }
                }
            }
            Entry::Unsubscribed(topic, reason) => {
                let ended_under_pressure = reason == Reason::BackPressure;
                later.insert(Rc::as_ptr(&topic), Later { newest_at: None, ended_at: Some(at), ended_under_pressure });
                Some(Entry::Unsubscribed(topic, reason))
            }
            control @ (Entry::Control(_) | Entry::Behind(_)) => Some(control),
        };
    }
    kept.into_iter().flatten().collect()
}

/// What a walk from the back has seen of a topic.
#[derive(Clone, Copy, Default)]
struct Later {
    newest_at: Option<usize>,
    ended_at: Option<usize>,
    ended_under_pressure: bool,
}

impl Later {
    fn is_settled(self) -> bool {
        self.newest_at.is_some() || self.ended_at.is_some()
    }
}

impl Steps {
    fn then(self, sequence: u64) -> Self {
        let digest = (self.digest.rotate_left(23) ^ sequence).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self { count: self.count + 1, digest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Time, TopicId};
    use crate::topic::path::TopicPath;
    use crate::topic::publication::Publication;
    use crate::topic::specification::{Specification, SpecificationLimits, TopicType};
    use std::sync::Arc;

    struct World {
        topics: Vec<Rc<LocalTopic>>,
        queue: SendQueue,
        sequence: u64,
    }

    impl World {
        fn new() -> Self {
            Self::with(&[("", ""), ("", ""), ("", "")])
        }

        /// Topics `t0`, `t1` … with a property each.
        fn with(properties: &[(&str, &str)]) -> Self {
            let topic = |(number, property): (usize, &(&str, &str))| {
                let path = TopicPath::parse(&format!("t{number}"), 100).unwrap();
                let specification =
                    Specification::parse(TopicType::Binary, std::iter::once(*property), SpecificationLimits::default()).unwrap();
                LocalTopic::new(TopicId(number as u64), path, Arc::new(specification))
            };
            Self { topics: properties.iter().enumerate().map(topic).collect(), queue: SendQueue::default(), sequence: 0 }
        }

        fn push(&mut self, what: &str) {
            let topic = self.topics[what[1..].parse::<usize>().unwrap()].clone();
            self.sequence += 1;
            let entry = match &what[..1] {
                "s" => Entry::Subscribed(topic, 1),
                "l" => Entry::Latest(topic, 1),
                "u" => Entry::Unsubscribed(topic, Reason::Requested),
                "e" => Entry::Unsubscribed(topic, Reason::BackPressure),
                "p" => Entry::Step(Outgoing::new(Arc::new(Publication::new(topic.id, 1, Time(0), &[0; 100])), &topic, self.sequence)),
                "b" => Entry::Behind(Box::new([0; 10])),
                "m" => {
                    let outgoing = Outgoing::new(Arc::new(Publication::new(topic.id, 1, Time(0), &[0; 100])), &topic, self.sequence);
                    let (qos, retain, is_first, is_repeated, sequence) = (QoS::AtLeastOnce, false, false, false, self.sequence);
                    let subscription_ids = Box::default();
                    Entry::Message(Box::new(Message {
                        outgoing,
                        qos,
                        retain,
                        is_first,
                        is_repeated,
                        sequence,
                        ticket: 0,
                        subscription_ids,
                    }))
                }
                _ => Entry::Control(Box::new([0; 10])),
            };
            self.queue.push(entry);
        }

        /// Empties the queue and tells what was in it, in the order in which it is sent.
        fn print(&mut self) -> String {
            let print = |entry: Entry| match entry {
                Entry::Control(_) => "c0".to_owned(),
                Entry::Behind(_) => "b0".to_owned(),
                Entry::Subscribed(topic, _) => format!("s{}", topic.id.0),
                Entry::Latest(topic, _) => format!("l{}", topic.id.0),
                Entry::Step(outgoing) => format!("p{}", outgoing.topic().unwrap().id.0),
                Entry::Unsubscribed(topic, Reason::BackPressure) => format!("e{}", topic.id.0),
                Entry::Unsubscribed(topic, _) => format!("u{}", topic.id.0),
                Entry::Message(message) => format!("m{}", message.sequence),
            };
            let printed = std::iter::from_fn(|| self.queue.pop()).map(print).collect::<Vec<_>>().join(" ");
            assert_eq!(self.queue.bytes(), 0, "what is empty holds nothing");
            printed
        }
    }

    fn check(before: &str, after: &str) {
        let mut world = World::new();
        before.split(' ').for_each(|what| world.push(what));
        world.queue.keep_bound(QueueLimits { bytes_high: 0, bytes_max: 10_000 }, |_| Newest::Of(1)).unwrap();
        assert_eq!(world.print(), after, "{before}");
    }

    fn check_lanes(properties: &[(&str, &str)], pushed: &str, sent: &str) {
        let mut world = World::with(properties);
        pushed.split(' ').for_each(|what| world.push(what));
        assert_eq!(world.print(), sent, "{pushed}");
    }

    #[test]
    fn a_topic_of_high_priority_is_sent_first_and_one_of_low_priority_last() {
        let lanes = [("PRIORITY", "low"), ("", ""), ("PRIORITY", "high")];
        check_lanes(&lanes, "p0 p1 p2 c0 p0 p1 p2", "p2 p2 p1 c0 p1 p0 p0");
        check_lanes(&lanes, "s0 p0 u0 s2 p2 u2 s1", "s2 p2 u2 s1 s0 p0 u0");
        check_lanes(&lanes, "s0 b0 p1", "p1 s0 b0");
        check_lanes(&lanes, "p1 b0 p1", "p1 b0 p1");
    }

    #[test]
    fn updates_of_a_topic_can_be_dropped_while_they_wait() {
        let mut world = World::with(&[("", ""), ("PRIORITY", "low")]);
        "s0 p0 p1 l1 c0 l0 u0".split(' ').for_each(|what| world.push(what));
        let (first, second) = (world.topics[0].clone(), world.topics[1].clone());
        world.queue.drop_updates(&[first, second]);
        assert_eq!(world.print(), "s0 c0 u0");
    }

    #[test]
    fn steps_of_a_topic_that_does_not_conflate_stand() {
        for (before, after) in [("p0 p1 c0 p0 p1", "p0 c0 p0 l1"), ("s0 p0 p0 u0 p1 u1", "s0 p0 p0 u0 u1"), ("p0 u0 s0 u0", "p0 u0 s0 u0")]
        {
            let mut world = World::with(&[("CONFLATION", "off"), ("", "")]);
            before.split(' ').for_each(|what| world.push(what));
            world.queue.keep_bound(QueueLimits { bytes_high: 0, bytes_max: 10_000 }, |_| Newest::Of(1)).unwrap();
            assert_eq!(world.print(), after, "{before}");
        }
    }

    #[test]
    fn topics_whose_subscriptions_should_end_are_named_once_while_updates_of_them_wait() {
        let mut world = World::with(&[("CONFLATION", "unsubscribe"), ("", "")]);
        "s0 p0 p0 p1".split(' ').for_each(|what| world.push(what));
        let named = |world: &World| world.queue.topics_to_unsubscribe().iter().map(|topic| topic.id.0).collect::<Vec<_>>();
        assert_eq!(named(&world), [0]);
        let topic = world.topics[0].clone();
        world.queue.drop_updates(&[topic]);
        assert_eq!(named(&world), [0u64; 0]);
        assert_eq!(world.print(), "s0 p1");
    }

    #[test]
    fn a_value_that_is_not_retained_follows_its_subscription() {
        let mut world = World::with(&[("DONT_RETAIN_VALUE", "true")]);
        "s0 p0 p0".split(' ').for_each(|what| world.push(what));
        world.queue.keep_bound(QueueLimits { bytes_high: 0, bytes_max: 10_000 }, |_| Newest::Of(1)).unwrap();
        assert_eq!(world.print(), "s0 l0");
    }

    #[test]
    fn conflation_keeps_the_newest_value_of_each_topic_in_order() {
        check("p0 p1 p0 p2 p1", "l0 l2 l1");
        check("l0 p1 p1", "l0 l1");
        check("s0 c0 p1 p1 c0", "s0 c0 l1 c0");
    }

    #[test]
    fn a_subscription_that_ended_unseen_is_not_sent() {
        check("s0 p1 u0 p1", "l1");
        check("p0 u0 p1", "u0 l1");
        check("p0 u0 s0", "u0 s0");
        check("u0 s0 u0", "u0");
        check("s0 u0 s0 u0 s0", "s0");
        check("s0 p0 e0 s0 u0", "s0 e0");
    }

    #[test]
    fn above_the_bound_it_overflows() {
        let mut world = World::new();
        let limits = QueueLimits { bytes_high: 100, bytes_max: 1000 };
        for _ in 0..17 {
            world.push("c0");
            assert_eq!(world.queue.keep_bound(limits, |_| Newest::Nothing), Ok(()));
        }
        world.push("c0");
        assert_eq!(world.queue.keep_bound(limits, |_| Newest::Nothing), Err(Overflow));
    }

    #[test]
    fn what_is_not_worth_conflating_is_not_once_a_message_of_it_went() {
        let mut world = World::new();
        let limits = QueueLimits { bytes_high: 100, bytes_max: 10_000 };
        "m0 m1 m2".split(' ').for_each(|what| world.push(what));
        assert!(world.queue.is_over(limits));
        assert_eq!(world.queue.keep_bound(limits, |_| Newest::Itself), Ok(()));
        assert!(world.queue.pop_message(|_| true).is_some());
        world.push("m0");
        assert!(!world.queue.is_over(limits));
        while world.queue.pop_message(|_| true).is_some() {}
        "m0 m1".split(' ').for_each(|what| world.push(what));
        assert!(world.queue.is_over(limits), "what was empty starts anew");
    }

    #[test]
    fn of_messages_to_be_acknowledged_the_newest_of_a_topic_stays() {
        let mut world = World::with(&[("", ""), ("CONFLATION", "off")]);
        "m0 m1 m0 m1 m0".split(' ').for_each(|what| world.push(what));
        world.queue.keep_bound(QueueLimits { bytes_high: 0, bytes_max: 10_000 }, |_| Newest::Itself).unwrap();
        assert_eq!(world.queue.messages().map(|message| message.sequence).collect::<Vec<_>>(), [2, 4, 5]);
        assert_eq!((world.queue.take_conflated(), world.queue.take_conflated()), (vec![1, 3], vec![]));
        assert_eq!(world.queue.drop_oldest_messages(1, 10_000), [2, 4]);
        assert_eq!(world.queue.messages().len(), 1);
        assert_eq!(world.queue.drop_oldest_messages(1, 0), [5]);
        assert_eq!(world.queue.bytes(), 0);
    }

    #[test]
    fn it_does_not_overflow_unconflated() {
        let mut world = World::new();
        let limits = QueueLimits { bytes_high: 400, bytes_max: 1000 };
        for what in ["c0"; 16].into_iter().chain(["p0"; 5]) {
            world.push(what);
            assert_eq!(world.queue.keep_bound(limits, |_| Newest::Of(1)), Ok(()));
        }
        assert!(world.print().ends_with("c0 l0"));
    }

    #[test]
    fn equal_runs_of_steps_have_equal_identities() {
        let (mut a, mut b) = (World::new(), World::new());
        for what in ["p0", "p1", "p0"] {
            a.push(what);
            b.push(what);
            assert!(a.queue.steps().is_some());
            assert_eq!(a.queue.steps(), b.queue.steps());
        }
        b.push("p1");
        assert_ne!(a.queue.steps(), b.queue.steps());
        b.push("c0");
        assert_eq!(b.queue.steps(), None);
        a.queue.clear();
        assert_eq!(a.queue.steps(), None, "what was sent is not sent again");
    }
}
