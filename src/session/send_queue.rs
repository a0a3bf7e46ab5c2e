//! What one session still has to be sent.
//!
//! It holds references, in order; values are encoded when the socket can take them. Bounded: above `bytes_high` only the newest
//! value of a topic stands, and an entry that stands for "the newest value" costs the same however often the topic changes. A session
//! that falls behind loses stale values, never the latest one.

use super::{LocalTopic, Outgoing};
use crate::protocol::Reason;
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::rc::Rc;

/// Every bound the queue obeys. All required: the caller chooses.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Above this many bytes, older values of a topic give way to newer ones.
    pub bytes_high: usize,
    /// Above this many bytes although conflated, the session is closed.
    pub bytes_max: usize,
}

/// Conflation could not keep the queue under its bound.
#[derive(Debug, PartialEq, Eq)]
pub struct Overflow;

/// One thing to send.
pub enum Entry {
    /// Encoded already, for the session's form.
    Control(Box<[u8]>),
    /// The subscription, then the newest value.
    Subscribed(Rc<LocalTopic>, u32),
    /// The newest value, whole.
    Latest(Rc<LocalTopic>, u32),
    /// The version behind what the session holds by then.
    Step(Rc<Outgoing>),
    Unsubscribed(Rc<LocalTopic>, Reason),
}

/// What an entry itself takes.
const ENTRY_BYTES: usize = 48;

impl Entry {
    fn cost(&self) -> usize {
        ENTRY_BYTES
            + match self {
                Self::Control(bytes) => bytes.len(),
                Self::Step(outgoing) => outgoing.bytes(),
                Self::Subscribed(..) | Self::Latest(..) | Self::Unsubscribed(..) => 0,
            }
    }
}

#[derive(Default)]
pub struct SendQueue {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// No use conflating again below this.
    conflate_above: usize,
    /// What the queue holds, as long as that is steps only: sessions with the same one are sent the same bytes.
    steps: Option<Steps>,
}

/// The identity of a run of steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Steps {
    count: u32,
    digest: u64,
}

impl SendQueue {
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes held on account of this session.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The run of steps that is all the queue holds.
    pub fn steps(&self) -> Option<Steps> {
        self.steps
    }

    pub fn push(&mut self, entry: Entry) {
        self.steps = match (&entry, self.steps, self.entries.is_empty()) {
            (Entry::Step(outgoing), _, true) => Some(Steps::default().then(outgoing.sequence)),
            (Entry::Step(outgoing), Some(steps), false) => Some(steps.then(outgoing.sequence)),
            _ => None,
        };
        self.bytes += entry.cost();
        self.entries.push_back(entry);
    }

    pub fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.cost();
        self.steps = None;
        if self.entries.is_empty() {
            self.settle();
        }
        Some(entry)
    }

    /// Forgets everything: it was sent, or nobody is left to send it to.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
        self.settle();
    }

    fn settle(&mut self) {
        self.steps = None;
        self.conflate_above = 0;
        if self.entries.capacity() > 256 {
            self.entries = VecDeque::new();
        }
    }

    /// Keeps the bound: conflates when there is too much. `latest` is told each topic whose steps gave way to one [`Entry::Latest`], and gives
    /// the subscription's generation (`None` where the session is not subscribed any more).
    pub fn keep_bound(&mut self, limits: Limits, latest: impl FnMut(&LocalTopic) -> Option<u32>) -> Result<(), Overflow> {
        if self.bytes > limits.bytes_high.max(self.conflate_above).min(limits.bytes_max) {
            self.conflate(latest);
            self.conflate_above = self.bytes + limits.bytes_high / 2;
        }
        if self.bytes > limits.bytes_max { Err(Overflow) } else { Ok(()) }
    }

    fn conflate(&mut self, mut latest: impl FnMut(&LocalTopic) -> Option<u32>) {
        let mut later: HashMap<*const LocalTopic, Later> = HashMap::new();
        let mut kept: Vec<Option<Entry>> = std::mem::take(&mut self.entries).into_iter().map(Some).collect();
        for at in (0..kept.len()).rev() {
            let entry = kept[at].take().expect("each entry is looked at once");
            kept[at] = match entry {
                Entry::Step(outgoing) => outgoing.topic().and_then(|topic| {
                    let later = later.entry(Rc::as_ptr(&topic)).or_default();
                    let generation = if later.is_settled() { None } else { latest(&topic) };
                    later.newest_at = later.newest_at.or(generation.map(|_| at));
                    generation.map(|generation| Entry::Latest(topic, generation))
                }),
                Entry::Latest(topic, generation) => {
                    let later = later.entry(Rc::as_ptr(&topic)).or_default();
                    let is_stale = later.is_settled();
                    later.newest_at = later.newest_at.or(Some(at));
                    if is_stale { None } else { Some(Entry::Latest(topic, generation)) }
                }
                Entry::Subscribed(topic, generation) => {
                    let later = std::mem::take(later.entry(Rc::as_ptr(&topic)).or_default());
                    // What the session has not heard of need not end.
                    match later {
                        Later { ended_at: Some(end), .. } => {
                            kept[end] = None;
                            None
                        }
                        Later { newest_at, .. } => {
                            if let Some(newest) = newest_at {
                                kept[newest] = None;
                            }
                            Some(Entry::Subscribed(topic, generation))
                        }
                    }
                }
                Entry::Unsubscribed(topic, reason) => {
                    later.insert(Rc::as_ptr(&topic), Later { newest_at: None, ended_at: Some(at) });
                    Some(Entry::Unsubscribed(topic, reason))
                }
                control @ Entry::Control(_) => Some(control),
            };
        }
        self.entries = kept.into_iter().flatten().collect();
        self.bytes = self.entries.iter().map(Entry::cost).sum();
        self.steps = None;
    }
}

/// What a walk from the back has seen of a topic.
#[derive(Clone, Copy, Default)]
struct Later {
    newest_at: Option<usize>,
    ended_at: Option<usize>,
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
    use crate::value::ValueType;
    use std::cell::RefCell;

    struct World {
        topics: Vec<Rc<LocalTopic>>,
        queue: SendQueue,
        sequence: u64,
    }

    impl World {
        fn new() -> Self {
            let topic = |number: u64| {
                let path = TopicPath::parse(&format!("t{number}"), 100).unwrap();
                Rc::new(LocalTopic {
                    id: TopicId(number),
                    path,
                    kind: ValueType::Binary,
                    latest: RefCell::new(None),
                    subscribers: RefCell::default(),
                })
            };
            Self { topics: (0..3).map(topic).collect(), queue: SendQueue::default(), sequence: 0 }
        }

        fn push(&mut self, what: &str) {
            let topic = self.topics[what[1..].parse::<usize>().unwrap()].clone();
            self.sequence += 1;
            let entry = match &what[..1] {
                "s" => Entry::Subscribed(topic, 1),
                "l" => Entry::Latest(topic, 1),
                "u" => Entry::Unsubscribed(topic, Reason::Requested),
                "p" => Entry::Step(Outgoing::new(Publication::new(topic.id, 1, Time(0), &[0; 100], None), &topic, self.sequence)),
                _ => Entry::Control(Box::new([0; 10])),
            };
            self.queue.push(entry);
        }

        fn print(&self) -> String {
            let print = |entry: &Entry| match entry {
                Entry::Control(_) => "c0".to_owned(),
                Entry::Subscribed(topic, _) => format!("s{}", topic.id.0),
                Entry::Latest(topic, _) => format!("l{}", topic.id.0),
                Entry::Step(outgoing) => format!("p{}", outgoing.topic().unwrap().id.0),
                Entry::Unsubscribed(topic, _) => format!("u{}", topic.id.0),
            };
            self.queue.entries.iter().map(print).collect::<Vec<_>>().join(" ")
        }
    }

    fn check(before: &str, after: &str) {
        let mut world = World::new();
        before.split(' ').for_each(|what| world.push(what));
        world.queue.keep_bound(Limits { bytes_high: 0, bytes_max: 10_000 }, |_| Some(1)).unwrap();
        assert_eq!(world.print(), after, "{before}");
        let counted: usize = world.queue.entries.iter().map(Entry::cost).sum();
        assert_eq!(world.queue.bytes(), counted);
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
    }

    #[test]
    fn above_the_bound_it_overflows() {
        let mut world = World::new();
        let limits = Limits { bytes_high: 100, bytes_max: 1000 };
        for _ in 0..17 {
            world.push("c0");
            assert_eq!(world.queue.keep_bound(limits, |_| None), Ok(()));
        }
        world.push("c0");
        assert_eq!(world.queue.keep_bound(limits, |_| None), Err(Overflow));
    }

    #[test]
    fn it_does_not_overflow_unconflated() {
        let mut world = World::new();
        let limits = Limits { bytes_high: 400, bytes_max: 1000 };
        for what in ["c0"; 16].into_iter().chain(["p0"; 5]) {
            world.push(what);
            assert_eq!(world.queue.keep_bound(limits, |_| Some(1)), Ok(()));
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
