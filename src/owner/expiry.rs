//! Removal policies: which topics go by themselves, and what has to be known for that.
//!
//! A policy is looked at when it may have come true: at the time that follows from what is known, and at once when something else has become
//! known. A tick looks at so many and leaves the rest to the next. `filters` counts the sessions, `count` the subscribers, and `errand` removes
//! what a policy selects.

use crate::base::{Key, SessionId, ShardIndex, Slab, SlabKey, Time, TopicId};
use crate::desk::Desk;
use crate::mail::Mail;
use crate::owner::Owner;
use crate::owner::filters::{Counted, FilterCounts};
use crate::owner::leaving::Left;
use crate::owner::passing::Passing;
use crate::topic::path::TopicPath;
use crate::topic::removal::{RemovalClock, RemovalPolicy, RemovalState};
use crate::topic::session_filter::SessionFilter;
use crate::topic::tree::Place;
use std::collections::{BTreeSet, VecDeque};

/// The least time between two looks at a policy of which there is no news, and from a topic's start to the first.
const LOOK_MS: u64 = 2_000;

/// The most time between two looks, less what spreads them: someone may set the wall clock, and nothing else tells of that.
const LOOK_LATEST_MS: u64 = 60_000;
const LOOK_SPREAD_MS: u64 = 20_000;

/// How long a policy stays due before what it selects is removed once more: it may have come back.
const REMOVE_AGAIN_MS: u64 = 60_000;

/// The most policies that a tick looks at; the rest wait for the next. All of them may be due, and their topics be removed in this one turn; at ten
/// ticks a second a million policies still have their turn within the longest time between two looks.
const LOOKS_PER_TICK_MAX: usize = 4_000;

/// The most policies that are told at once how many sessions match. No client is bounded by it.
const TOLD_PER_TICK_MAX: usize = 10_000;

/// One topic's policy.
struct Expiry {
    id: TopicId,
    path: TopicPath,
    state: RemovalState,
    /// The session that made the topic, where its shard is to tell when it is over.
    watched: Option<SessionId>,
    /// There is no look before this moment, whatever becomes known.
    first_look: Time,
    look: Time,
    /// When what the policy selects was removed, if it has been due ever since.
    removed_selected: Option<Time>,
}

/// The topics of this shard that go by themselves: their policies, the order in which these are looked at, and what they wait for.
#[derive(Default)]
pub struct Expiries {
    held: Slab<Expiry>,
    looks: BTreeSet<(Time, Key)>,
    filters: FilterCounts,
    /// Counts that are news to policies which have not all been told.
    counted: VecDeque<Counted>,
    passing: Passing,
}

impl Expiries {
    pub fn passing(&mut self) -> &mut Passing {
        &mut self.passing
    }

    /// Topics that are only passed through.
    pub fn passing_count(&self) -> usize {
        self.passing.len()
    }

    fn insert(&mut self, expiry: Expiry) -> Key {
        let look = expiry.look;
        let key = self.held.insert(expiry);
        self.looks.insert((look, key));
        key
    }

    fn remove(&mut self, key: Key) -> Expiry {
        let expiry = self.held.remove(key).expect("a topic takes its policy along once");
        self.looks.remove(&(expiry.look, key));
        expiry
    }

    fn look_at(&mut self, key: Key, look: Time) {
        let expiry = self.held.get_mut(key).expect("a policy that is planned is held");
        self.looks.remove(&(expiry.look, key));
        expiry.look = look;
        self.looks.insert((look, key));
    }

    /// Those whose time has come, the longest overdue first.
    fn due(&self, now: Time) -> Vec<Key> {
        self.looks.iter().take_while(|(look, _)| *look <= now).take(LOOKS_PER_TICK_MAX).map(|(_, key)| *key).collect()
    }
}

impl Expiry {
    /// When to look though there is no news.
    fn next_look(&self, key: Key, clock: RemovalClock) -> Time {
        let latest = clock.now.after_ms(LOOK_LATEST_MS - spread_ms(key, LOOK_SPREAD_MS));
        if self.state.is_due(clock) {
            return self.removed_selected.map_or(clock.now, |removed| removed.after_ms(REMOVE_AGAIN_MS));
        }
        self.state.next_look(clock).map_or(latest, |look| look.min(latest))
    }
}

/// A part of `span_ms` that differs from one policy to the next: those that start together are not looked at together.
fn spread_ms(key: Key, span_ms: u64) -> u64 {
    u64::from(key.index()) * 97 % span_ms
}

impl Owner {
    /// Takes up the policy of a topic that was made, or restored.
    pub(super) fn start_expiry(&mut self, desk: &mut Desk, place: Place, policy: RemovalPolicy, creator: Option<SessionId>) {
        let topic = self.tree.topic(place);
        let (id, path) = (topic.id, topic.path.clone());
        let mut state = RemovalState::new(policy.clone(), desk.turn.now);
        state.note_subscriptions(0, 0, desk.turn.now);
        let watched = creator.filter(|_| policy.needs_creator());
        if creator.is_none() {
            // Restored: the session that made it is over.
            state.note_creator_closed(desk.turn.now);
        }
        let (first_look, path_held) = (desk.turn.now.after_ms(LOOK_MS), path.clone());
        let expiry = Expiry { id, path: path_held, state, watched, first_look, look: first_look, removed_selected: None };
        let key = self.expiries.insert(expiry);
        self.tree.topic_mut(place).rare_mut().removal = Some(key);
        self.plan_first_look(desk, key, creator);
        if policy.needs_subscriptions() {
            self.start_counting(desk, place, None);
        }
        if let Some(session) = watched {
            desk.mail(desk.home_of(session), Mail::WatchSession { session, path, id });
        }
        // Bounded by the clauses of one policy.
        for filter in policy.filters() {
            self.expiries.filters.join(filter, key, desk.turn.now);
        }
    }

    /// The first look leaves whoever made the topic a moment, to subscribe to it for example. Restored topics come all at once, so their first
    /// looks are spread over that moment.
    fn plan_first_look(&mut self, desk: &Desk, key: Key, creator: Option<SessionId>) {
        let clock = removal_clock(desk);
        let expiry = self.expiries.held.get_mut(key).expect("it was just inserted");
        if creator.is_none() {
            expiry.first_look = clock.now.after_ms(spread_ms(key, LOOK_MS));
        }
        let look = expiry.next_look(key, clock).max(expiry.first_look);
        self.expiries.look_at(key, look);
    }

    /// Something that the policy depends on has become known: it may come true sooner, and may remove what it selects anew once it has not been
    /// true in between.
    fn take_news(&mut self, desk: &Desk, key: Key, note: impl FnOnce(&mut RemovalState, Time)) {
        let clock = removal_clock(desk);
        let expiry = self.expiries.held.get_mut(key).expect("a topic that stands has its policy");
        note(&mut expiry.state, clock.now);
        if !expiry.state.is_due(clock) {
            expiry.removed_selected = None;
        }
        let look = expiry.next_look(key, clock).max(expiry.first_look);
        if look < expiry.look {
            self.expiries.look_at(key, look);
        }
    }

    fn ask_sessions(&mut self, desk: &mut Desk) {
        for (key, filter) in self.expiries.filters.begin(desk.turn.now, desk.identity.count) {
            for shard in 0..desk.identity.count {
                desk.mail(ShardIndex(shard), Mail::AskSessions { filter: filter.clone(), count: key });
            }
        }
    }

    /// A shard tells how many of its sessions match.
    pub fn sessions_counted(&mut self, desk: &Desk, key: Key, share: u64) {
        let was_idle = self.expiries.counted.is_empty();
        self.expiries.counted.extend(self.expiries.filters.add(key, share, desk.turn.now));
        if was_idle {
            self.tell_counted(desk);
        }
    }

    /// Tells policies how many sessions match their filters: so many at once, and the rest at the next tick.
    fn tell_counted(&mut self, desk: &Desk) {
        let mut left = TOLD_PER_TICK_MAX;
        while left > 0
            && let Some(mut counted) = self.expiries.counted.pop_front()
        {
            while left > 0
                && let Some(key) = counted.policies.pop_first()
            {
                left -= 1;
                self.note_sessions(desk, key, &counted.filter, counted.total);
            }
            if !counted.policies.is_empty() {
                self.expiries.counted.push_front(counted);
            }
        }
    }

    /// A count of the sessions that match a filter is complete, and news to this policy, which may be gone.
    fn note_sessions(&mut self, desk: &Desk, key: Key, counted: &SessionFilter, total: u64) {
        if self.expiries.held.get(key).is_none() {
            return;
        }
        self.take_news(desk, key, |state, now| {
            let policy = state.policy().clone();
            let same = policy.filters().iter().enumerate().filter(|(_, filter)| *filter == counted);
            same.for_each(|(index, _)| state.note_sessions(index, total, total, now));
        });
    }

    /// The topic is gone.
    pub(super) fn end_expiry(&mut self, desk: &mut Desk, key: Key) {
        let expiry = self.expiries.remove(key);
        for filter in expiry.state.policy().filters() {
            self.expiries.filters.leave(filter, key);
        }
        if let Some(session) = expiry.watched {
            desk.mail(desk.home_of(session), Mail::UnwatchSession { session, id: expiry.id });
        }
    }

    /// The topic with the policy was updated.
    pub(super) fn note_update(&mut self, desk: &Desk, key: Key) {
        let now = desk.turn.now;
        let expiry = self.expiries.held.get_mut(key).expect("a topic that stands has its policy");
        // An update never brings a policy nearer, and the look that is planned finds out that it is farther.
        if expiry.removed_selected.is_none() {
            return expiry.state.note_update(now);
        }
        self.take_news(desk, key, RemovalState::note_update);
    }

    pub(super) fn note_subscriptions(&mut self, desk: &Desk, place: Place, count: u64) {
        if let Some(key) = self.tree.topic(place).removal() {
            self.take_news(desk, key, |state, now| state.note_subscriptions(count, count, now));
        }
    }

    /// The session that made a topic is over.
    pub fn creator_over(&mut self, desk: &Desk, path: &TopicPath, id: TopicId) {
        let place = self.tree.find(path.as_str()).filter(|place| self.tree.topic(*place).id == id);
        let Some(key) = place.and_then(|place| self.tree.topic(place).removal()) else { return };
        self.expiries.held.get_mut(key).expect("a topic that stands has its policy").watched = None;
        self.take_news(desk, key, RemovalState::note_creator_closed);
    }

    /// Removes the topics that have not been passed through for a while, as far as one turn goes.
    pub fn tick_passing(&mut self, desk: &mut Desk) {
        self.expiries.passing.is_due = true;
        self.run_passing(desk);
    }

    /// Goes on with that.
    pub fn run_passing(&mut self, desk: &mut Desk) {
        let mut left = desk.limits.walk_slice;
        while let Some(place) = self.expiries.passing.poll_due(desk, &mut self.tree, &mut left) {
            let (id, path) = (self.tree.topic(place).id, self.tree.topic(place).path.clone());
            if self.remove_due(desk, place, false) != Left::Gone {
                self.expiries.passing().note(desk, id, &path);
            }
        }
    }

    /// Whether topics may be left that have not been passed through for a while.
    pub(super) fn has_passing_due(&self) -> bool {
        self.expiries.passing.is_due
    }

    /// Looks at the policies whose time has come, and counts sessions again where one asks for them.
    pub fn tick_expiries(&mut self, desk: &mut Desk) {
        let clock = removal_clock(desk);
        let mut selectors = BTreeSet::new();
        for key in self.expiries.due(clock.now) {
            selectors.extend(self.look_at_expiry(desk, key, clock));
        }
        for selector in selectors {
            for shard in 0..desk.identity.count {
                desk.mail(ShardIndex(shard), Mail::RemoveSelected { selector: selector.clone() });
            }
        }
        self.tell_counted(desk);
        self.ask_sessions(desk);
    }

    /// Removes the topic if it is time; gives the selector of what else is to be removed.
    fn look_at_expiry(&mut self, desk: &mut Desk, key: Key, clock: RemovalClock) -> Option<Box<str>> {
        let expiry = self.expiries.held.get(key).expect("a policy that goes takes its look along");
        let is_ours = expiry.state.policy().needs_creator();
        let decides = self.decides_on(desk, expiry.path.as_str(), is_ours);
        let expiry = self.expiries.held.get_mut(key).expect("it was just there");
        let mut selector = None;
        if !expiry.state.is_due(clock) {
            expiry.removed_selected = None;
        } else if !decides {
            // Who leads does. Where this server comes to lead it finds the policy due.
        } else if let Some(selected) = expiry.state.policy().remove_selector() {
            let is_time = expiry.removed_selected.is_none_or(|removed| removed.after_ms(REMOVE_AGAIN_MS) <= clock.now);
            selector = is_time.then(|| selected.into());
            expiry.removed_selected = if is_time { Some(clock.now) } else { expiry.removed_selected };
        } else {
            let (id, path) = (expiry.id, expiry.path.clone());
            let place = self.tree.find(path.as_str()).filter(|place| self.tree.topic(*place).id == id);
            let left = self.remove_due(desk, place.expect("a topic takes its policy along"), is_ours);
            desk.report.expired += u64::from(left != Left::Stays);
            if left == Left::Gone {
                return None;
            }
        }
        let expiry = self.expiries.held.get_mut(key).expect("it stands until its topic goes");
        let look = expiry.next_look(key, clock).max(clock.now.after_ms(LOOK_MS));
        self.expiries.look_at(key, look);
        selector
    }
}

fn removal_clock(desk: &Desk) -> RemovalClock {
    RemovalClock { now: desk.turn.now, wall_ms: desk.wall_ms() }
}
