//! Removal policies: which topics go by themselves, and what has to be known for that.

use super::Shard;
use crate::base::{Key, ShardIndex, TopicId};
use crate::shard::mail::Mail;
use crate::topic::path::TopicPath;
use crate::topic::removal::{RemovalClock, RemovalPolicy, RemovalState};
use crate::topic::session_filter::SessionFilter;
use crate::topic::tree::Place;

/// How long between two looks at a policy that may come true without a further input, and between two counts of sessions.
const LOOK_MS: u64 = 2_000;

/// One topic's policy.
pub struct Expiry {
    id: TopicId,
    path: TopicPath,
    state: RemovalState,
}

/// How many sessions of all shards match a filter that policies of this shard ask for.
pub struct FilterCount {
    filter: SessionFilter,
    /// The topics that ask, by their policies.
    users: Vec<Key>,
    /// By shard; `None` until it has answered.
    counts: Vec<Option<u64>>,
}

impl Shard {
    pub(super) fn start_expiry(&mut self, place: Place, policy: RemovalPolicy, creator: Option<(ShardIndex, Key)>) {
        let topic = self.tree.topic(place);
        let (id, path) = (topic.id, topic.path.clone());
        let key = self.expiries.insert(Expiry { id, path: path.clone(), state: RemovalState::new(policy.clone(), self.now) });
        self.tree.topic_mut(place).rare_mut().removal = Some(key);
        self.expiry_wheel.insert(self.now.after_ms(LOOK_MS), key);
        if policy.needs_subscriptions() {
            self.start_counting(place, None);
            self.note_subscriptions(place, 0);
        }
        if policy.needs_creator() {
            match creator {
                Some((shard, session)) => self.mail(shard, Mail::WatchSession { session, path, id }),
                // Restored: the session that made it is over.
                None => self.note_creator_over(key),
            }
        }
        for filter in policy.filters() {
            self.ask_sessions(key, filter);
        }
    }

    fn note_creator_over(&mut self, key: Key) {
        let now = self.now;
        if let Some(expiry) = self.expiries.get_mut(key) {
            expiry.state.note_creator_closed(now);
        }
    }

    fn ask_sessions(&mut self, key: Key, filter: &SessionFilter) {
        let shards = usize::from(self.identity.count);
        let entry = self.filter_counts.entry(filter.as_str().into());
        let counted = entry.or_insert_with(|| FilterCount { filter: filter.clone(), users: Vec::new(), counts: vec![None; shards] });
        counted.users.push(key);
        let filter: Box<str> = filter.as_str().into();
        for shard in 0..self.identity.count {
            self.mail(ShardIndex(shard), Mail::AskSessions { filter: filter.clone() });
        }
    }

    pub(in crate::shard) fn sessions_counted(&mut self, from: ShardIndex, filter: &str, count: u64) {
        let now = self.now;
        let Some(counted) = self.filter_counts.get_mut(filter) else { return };
        counted.counts[usize::from(from.0)] = Some(count);
        if counted.counts.contains(&None) {
            return;
        }
        let total = counted.counts.iter().flatten().sum();
        for key in &counted.users {
            let Some(expiry) = self.expiries.get_mut(*key) else { continue };
            let policy = expiry.state.policy().clone();
            let same = policy.filters().iter().enumerate().filter(|(_, filter)| **filter == counted.filter);
            same.for_each(|(index, _)| expiry.state.note_sessions(index, total, total, now));
        }
    }

    pub(super) fn end_expiry(&mut self, key: Key) {
        let Some(expiry) = self.expiries.remove(key) else { return };
        for filter in expiry.state.policy().filters() {
            if let Some(counted) = self.filter_counts.get_mut(filter.as_str()) {
                counted.users.retain(|user| *user != key);
                if counted.users.is_empty() {
                    self.filter_counts.remove(filter.as_str());
                }
            }
        }
    }

    pub(super) fn note_update(&mut self, place: Place) {
        let now = self.now;
        if let Some(expiry) = self.expiry_of(place) {
            expiry.state.note_update(now);
        }
    }

    pub(super) fn note_subscriptions(&mut self, place: Place, count: u64) {
        let now = self.now;
        if let Some(expiry) = self.expiry_of(place) {
            expiry.state.note_subscriptions(count, count, now);
        }
    }

    fn expiry_of(&mut self, place: Place) -> Option<&mut Expiry> {
        let key = self.tree.topic(place).rare.as_ref()?.removal?;
        self.expiries.get_mut(key)
    }

    pub(in crate::shard) fn creator_over(&mut self, path: &TopicPath, id: TopicId) {
        let place = self.tree.find(path.as_str()).filter(|place| self.tree.topic(*place).id == id);
        let key = place.and_then(|place| self.tree.topic(place).rare.as_ref()?.removal);
        if let Some(key) = key {
            self.note_creator_over(key);
        }
    }

    /// Looks at the policies whose time has come, and counts sessions again where one asks for them.
    pub(in crate::shard) fn tick_expiries(&mut self) {
        let mut due = Vec::new();
        self.expiry_wheel.advance(self.now, &mut due);
        let clock = RemovalClock { now: self.now, wall_ms: self.wall_ms() };
        for key in due {
            self.look_at_expiry(key, clock);
        }
        if self.now >= self.next_session_count && !self.filter_counts.is_empty() {
            self.next_session_count = self.now.after_ms(LOOK_MS);
            let filters: Vec<Box<str>> = self.filter_counts.keys().cloned().collect();
            for filter in filters {
                for shard in 0..self.identity.count {
                    self.mail(ShardIndex(shard), Mail::AskSessions { filter: filter.clone() });
                }
            }
        }
    }

    fn look_at_expiry(&mut self, key: Key, clock: RemovalClock) {
        let Some(expiry) = self.expiries.get(key) else { return };
        if !expiry.state.is_due(clock) {
            return self.expiry_wheel.insert(clock.now.after_ms(LOOK_MS), key);
        }
        let (path, selector) = (expiry.path.clone(), expiry.state.policy().remove_selector().map(Box::<str>::from));
        let id = expiry.id;
        self.report.expired += 1;
        match selector {
            None => {
                let is_same = self.tree.find(path.as_str()).is_some_and(|place| self.tree.topic(place).id == id);
                assert!(is_same, "a topic takes its policy along");
                self.remove_topic(path.as_str());
            }
            Some(selector) => {
                for shard in 0..self.identity.count {
                    self.mail(ShardIndex(shard), Mail::RemoveSelected { selector: selector.clone() });
                }
                // Where the topic itself stays, its policy is looked at again: what it removes may come back.
                self.expiry_wheel.insert(clock.now.after_ms(LOOK_MS), key);
            }
        }
    }
}
