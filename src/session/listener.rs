//! What few sessions have: listeners, update streams, locks, and what they wait for.

use super::{Call, Caller, Lock, Session, Sweep, UserProperties};
use crate::base::{ShardIndex, TopicId};
use crate::topic::path::TopicPath;
use crate::topic::selector::Selector;
use crate::topic::specification::Specification;
use crate::topic::tree::Span;
use crate::value::ValueType;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

#[derive(Default)]
pub struct Extras {
    pub listeners: BTreeMap<u64, Listener>,
    /// What of them has to be looked at again.
    pub reviews: VecDeque<Review>,
    /// Whether its turn to go on with those comes without more ado: else the session has to read first.
    pub is_reviewing: bool,
    pub streams: BTreeMap<u64, Stream>,
    /// By their names, those that it holds or waits for.
    pub locks: BTreeMap<Box<str>, Lock>,
    /// The subscriptions to time series, by generation, whose first events have not come.
    pub histories: BTreeMap<u32, History>,
    /// Those of them whose owners have not been asked.
    pub histories_waiting: BTreeSet<u32>,
    /// Questions that owners have not answered, also those of subscriptions that ended meanwhile.
    pub histories_asked: BTreeSet<u32>,
    /// Requests whose answers come behind those events.
    pub answers_held: Vec<Call>,
    /// Owners that have told a slice of what listeners find, and the tickets of the requests.
    pub slices_held: Vec<(ShardIndex, u64)>,
    /// What its selectors still have to find, or to leave, in their order.
    pub sweeps: VecDeque<Sweep>,
    /// Whether its turn to go on with them comes without more ado: else the session has to read first.
    pub is_sweeping: bool,
    /// The first topic whose retained message waits until the client has read.
    pub firsts_from: Option<TopicPath>,
    /// The topics that want to know when the session is over, and their owners; they are taken off as they go.
    pub watched_by: BTreeMap<TopicId, (ShardIndex, TopicPath)>,
    /// What clients say of it.
    pub properties: UserProperties,
    /// The branches to which it handles requests, by its own numbers.
    pub handlers: BTreeMap<u64, Box<str>>,
    /// Requests that it has not answered, and how many it ever had.
    pub serving: BTreeMap<u64, Serving>,
    pub served: u64,
    /// Whether it is being asked who its client is from now on.
    pub is_asked_about: bool,
}

/// Who waits for the answer to a request.
#[derive(Clone, Copy)]
pub struct Serving {
    pub shard: ShardIndex,
    pub ticket: u64,
    /// Whether it is asked as an authenticator.
    pub is_question: bool,
}

impl Extras {
    /// In front, unless one that looks at the same waits already: a client may change what it may do as often as it likes.
    pub fn put_first(&mut self, sweep: Sweep) {
        if !self.sweeps.iter().any(|waiting| waiting.is_same(&sweep)) {
            self.sweeps.push_front(sweep);
        }
    }

    pub fn put_last(&mut self, sweep: Sweep) {
        if !self.sweeps.iter().any(|waiting| waiting.is_same(&sweep)) {
            self.sweeps.push_back(sweep);
        }
    }

    /// Whether it says nothing, so that a session need not have it.
    fn is_idle(&self) -> bool {
        // All of them by name, so that a new one is thought of here.
        let Self {
            listeners,
            reviews,
            is_reviewing,
            streams,
            locks,
            histories,
            histories_waiting,
            histories_asked,
            answers_held,
            slices_held,
            sweeps,
            is_sweeping,
            firsts_from,
            watched_by,
            properties,
            handlers,
            serving,
            served,
            is_asked_about,
        } = self;
        let has_listeners = !listeners.is_empty() || !reviews.is_empty() || *is_reviewing || !slices_held.is_empty();
        let has_histories =
            !(histories.is_empty() && histories_waiting.is_empty() && histories_asked.is_empty() && answers_held.is_empty());
        let has_sweeps = !sweeps.is_empty() || *is_sweeping || firsts_from.is_some();
        // A number is never used again, so one that had requests remembers how many.
        let has_handlers = !handlers.is_empty() || !serving.is_empty() || *served > 0;
        !has_listeners
            && !has_handlers
            && !has_histories
            && !has_sweeps
            && streams.is_empty()
            && locks.is_empty()
            && watched_by.is_empty()
            && properties.is_empty()
            && !is_asked_about
    }
}

impl Session {
    /// Gives back what it takes to have nothing of all this: most sessions have it only while they subscribe.
    pub fn give_back_extras(&mut self) {
        if self.extras.as_ref().is_some_and(|extras| extras.is_idle()) {
            self.extras = None;
        }
    }
}

/// Which events of a time series a subscription waits for.
pub struct History {
    pub path: TopicPath,
    /// From which sequence on; by default what a new subscriber gets.
    pub from: Option<u64>,
}

/// One of a session's listeners.
pub struct Listener {
    /// The number of the wire.
    pub kind: u8,
    pub selectors: Vec<Listened>,
    /// Of a handler of missing topics.
    pub branches: Vec<Box<str>>,
    /// The topics that are selected, or lie below a selected path.
    pub known: BTreeMap<TopicPath, Known>,
    /// Those of them that are not selected, and the first on their branch below a selected path.
    pub immediate: BTreeSet<TopicPath>,
    /// The topics that it was told have subscribers.
    pub subscribed: BTreeMap<TopicPath, Arc<Specification>>,
}

pub struct Known {
    pub specification: Arc<Specification>,
    pub is_selected: bool,
}

/// One of a listener's selectors.
pub struct Listened {
    pub selector: Selector,
    /// The ticket of the request to the owners. What they said before they heard it is of an earlier time, when the selector was listened to
    /// and given up: of what came after that nobody is told.
    pub asked: u64,
}

/// A listener's topics have to be looked at again.
pub struct Review {
    /// The listener's number.
    pub number: u64,
    /// The selector that was taken away, and who is answered when all is looked at. Else a topic came or went above very many.
    pub ended: Option<(Caller, Selector)>,
    pub rest: Span,
    /// Whether it is told that all of them are deselected: they are other topics' paths from now on.
    pub forgets: bool,
}

// The loops over a session's selectors, branches and listeners are bounded by `limits.listeners_max`, and by the levels of a path.
impl Listener {
    pub fn new(kind: u8) -> Self {
        let (selectors, branches, known) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { kind, selectors, branches, known, immediate: BTreeSet::new(), subscribed: BTreeMap::new() }
    }

    pub fn selects(&self, path: &str) -> bool {
        self.selects_by(path, u64::MAX)
    }

    fn selects_by(&self, path: &str, asked: u64) -> bool {
        self.selectors.iter().any(|held| held.asked <= asked && held.selector.matches(path))
    }

    /// Whether it selects the path, or one above, by a selector that the owners knew of when they had heard the request `asked`.
    pub fn is_told_of(&self, path: &str, asked: u64) -> bool {
        let ends = path.bytes().enumerate().filter(|(_, byte)| *byte == b'/').map(|(at, _)| at).chain([path.len()]);
        ends.into_iter().any(|end| self.selects_by(&path[..end], asked))
    }

    pub fn holds(&self, selector: &Selector) -> bool {
        self.selectors.iter().any(|held| held.selector == *selector)
    }

    /// Whether a path above is selected.
    pub fn selects_above(&self, path: &str) -> bool {
        let ends = path.bytes().enumerate().filter(|(_, byte)| *byte == b'/').map(|(at, _)| at);
        ends.into_iter().any(|end| self.selects(&path[..end]))
    }
}

/// One of a session's update streams, as its own shard knows it.
pub struct Stream {
    pub path: TopicPath,
    pub kind: ValueType,
    /// An operation was refused before it reached the topic's owner, so none may follow.
    pub has_failed: bool,
    /// Operations so far, beside that which opened it.
    pub steps: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::SweepKind;

    #[test]
    fn what_waits_to_be_looked_at_waits_once() {
        let mut extras = Extras::default();
        for _ in 0..100 {
            extras.put_first(Sweep::of_branch("a", SweepKind::Revoke));
            extras.put_last(Sweep::of_branch("a", SweepKind::Adjust));
            extras.put_last(Sweep::of_branch("b", SweepKind::Adjust));
        }
        let kinds: Vec<SweepKind> = extras.sweeps.iter().map(|sweep| sweep.kind).collect();
        assert_eq!(kinds, [SweepKind::Revoke, SweepKind::Adjust, SweepKind::Adjust]);
    }
}
