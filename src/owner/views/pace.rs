//! Views that slow down what they make: `throttle` and `delay`.
//!
//! A throttled derivation looks at its topic only so often in a period; what came last in a burst is looked at when the period ends. What a
//! delayed view makes waits in memory, in order. Where there is no room for more, a topic's changes are left out until there is, and
//! then its newest value goes on: what was left out is counted as failures of the view.

use super::source::{Derivation, Pending};
use super::work::Job;
use crate::base::{Key, Slab, Time, TopicId, Wheel};
use crate::desk::Desk;
use crate::mail::views::{ClaimChange, Derived};
use crate::owner::Owner;
use crate::view::Definition;
use std::collections::VecDeque;

/// The most derivations that a tick queues again, of those that throttle and of those that found no room; the rest wait for the next. A turn evaluates
/// far fewer. No client is bounded by it.
const QUEUED_PER_TICK_MAX: usize = 10_000;

/// What a delayed result takes beside its value.
const DELAYED_BYTES: usize = 200;

/// One topic's updates in the running period.
pub struct Pace {
    period_start: Time,
    updates: u32,
    waiting: Option<Key>,
}

/// What waits until time has passed.
pub struct Pacing {
    throttled: Slab<(TopicId, u64)>,
    wheel: Wheel,
    /// What the wheel has given and was not looked at.
    due: VecDeque<Key>,
    /// The bytes of what waits for its delay, in all views.
    delayed_bytes: usize,
}

impl Pacing {
    pub fn new(now: Time) -> Self {
        Self { throttled: Slab::default(), wheel: Wheel::new(now), due: VecDeque::new(), delayed_bytes: 0 }
    }

    /// 0 where nothing waits.
    pub fn count(&self) -> usize {
        self.throttled.len() + self.delayed_bytes
    }
}

/// What waits for its delay.
pub struct Delayed {
    due: Time,
    derived: Derived,
    bytes: usize,
}

impl Owner {
    /// Whether the derivation has had its updates of the period; it is queued again at its end.
    pub(super) fn is_throttled(&mut self, desk: &Desk, id: TopicId, view: u64, definition: &Definition) -> bool {
        let Some(throttle) = definition.throttle else { return false };
        let (now, revision) = (desk.turn.now, self.views.by_place.get(&view).expect("it was just there").revision);
        let source = self.views.sources.get_mut(&id).expect("it was just there");
        // Every event of a time series counts.
        if self.tree.topic(source.place).series().is_some() {
            return false;
        }
        let derivation = source.find(view).expect("it was just there");
        // What it makes at first is no update, nor is what a new definition makes.
        if derivation.outputs.is_empty() || derivation.revision != revision {
            return false;
        }
        let Derivation { pace, .. } = derivation;
        let pace = pace.get_or_insert_with(|| Box::new(Pace { period_start: now, updates: 0, waiting: None }));
        let period_end = pace.period_start.after_ms(throttle.period_ms);
        if now >= period_end {
            (pace.period_start, pace.updates) = (now, 0);
        }
        if pace.updates < throttle.updates {
            pace.updates += 1;
            return false;
        }
        if pace.waiting.is_none() {
            let key = self.views.pacing.throttled.insert((id, view));
            pace.waiting = Some(key);
            self.views.pacing.wheel.insert(period_end, key);
        }
        self.forget_older(id, view);
        true
    }

    /// Of what a derivation that is held up has not looked at, the newest is kept.
    fn forget_older(&mut self, id: TopicId, view: u64) {
        let forgotten = self.views.derivation(id, view).forget_older();
        self.views.work.forget_updates(forgotten);
    }

    pub(super) fn tick_throttled(&mut self, desk: &Desk) {
        let mut due = Vec::new();
        self.views.pacing.wheel.advance(desk.turn.now, &mut due);
        self.views.pacing.due.extend(due);
        for _ in 0..QUEUED_PER_TICK_MAX {
            let Some(key) = self.views.pacing.due.pop_front() else { return };
            // A derivation that is gone took its pace along, but for the time at which it was to be looked at.
            let Some((id, view)) = self.views.pacing.throttled.get(key).copied() else { continue };
            let held = self.views.by_place.get(&view).expect("what derives has its view");
            // A newer definition may not throttle.
            let period_ms = held.definition.throttle.map_or(0, |throttle| throttle.period_ms);
            let pace = self.views.derivation(id, view).pace.as_mut().expect("a derivation that waits has its pace");
            let period_end = pace.period_start.after_ms(period_ms);
            if desk.turn.now < period_end {
                self.views.pacing.wheel.insert(period_end, key);
                continue;
            }
            pace.waiting = None;
            self.views.pacing.throttled.remove(key);
            // What the derivation has not looked at yet is still noted with it.
            self.requeue(id, view);
        }
    }

    pub(super) fn end_pace(&mut self, pace: Option<Box<Pace>>) {
        if let Some(key) = pace.and_then(|pace| pace.waiting) {
            self.views.pacing.throttled.remove(key);
        }
    }

    /// Whether there is no room for what the derivation would make; it is queued again when there is.
    pub(super) fn is_starved(&mut self, desk: &Desk, id: TopicId, view: u64, definition: &Definition) -> bool {
        if definition.delay_ms.is_none() || self.views.pacing.delayed_bytes < desk.limits.views.delay_bytes_max {
            return false;
        }
        let source = self.views.sources.get(&id).expect("it was just there");
        let path = self.tree.topic(source.place).path.clone();
        let bytes_max = desk.limits.views.delay_bytes_max;
        let held = self.views.by_place.get_mut(&view).expect("it was just there");
        held.note_failure(path.as_str(), &format!("{bytes_max} bytes wait for their delay, which is the most; the change waits"));
        held.starved.insert(id);
        self.forget_older(id, view);
        true
    }

    pub(super) fn delay_derived(&mut self, desk: &Desk, derived: Derived, delay_ms: u64) {
        let view = self.views.by_place.get_mut(&derived.view).expect("what derives has its view");
        let bytes = DELAYED_BYTES + derived.bytes();
        // A definition with a shorter delay lets nothing overtake.
        let due = desk.turn.now.after_ms(delay_ms).max(view.delayed.back().map_or(Time(0), |last| last.due));
        self.views.pacing.delayed_bytes += bytes;
        view.delayed.push_back(Delayed { due, derived, bytes });
    }

    pub(super) fn tick_delayed(&mut self, desk: &Desk) {
        // What is delayed is bounded by `views.delay_bytes_max`.
        let mut due = Vec::new();
        for view in self.views.by_place.values_mut() {
            while view.delayed.front().is_some_and(|first| first.due <= desk.turn.now) {
                due.extend(view.delayed.pop_front());
            }
        }
        for Delayed { derived, bytes, .. } in due {
            self.views.pacing.delayed_bytes -= bytes;
            // Many may be due together, so they are sent in their turn.
            self.views.send_later(derived);
        }
        if self.views.pacing.delayed_bytes > desk.limits.views.delay_bytes_max / 2 {
            return;
        }
        let starving = self.views.by_place.iter_mut().filter(|(_, view)| !view.starved.is_empty());
        let starved = starving.flat_map(|(place, view)| std::iter::from_fn(|| Some((view.starved.pop_first()?, *place))));
        let starved: Vec<(TopicId, u64)> = starved.take(QUEUED_PER_TICK_MAX).collect();
        for (id, view) in starved {
            self.requeue(id, view);
        }
    }

    /// The view delays no more: what waits is due now, and goes before what the view makes from here on.
    pub(super) fn release_delayed(&mut self, desk: &Desk, view: u64) {
        let view = self.views.by_place.get_mut(&view).expect("it was just there");
        // Bounded by `views.delay_bytes_max`.
        for delayed in &mut view.delayed {
            delayed.due = desk.turn.now;
        }
    }

    /// The view ends: what waits for its delay never comes, and what was to go goes now.
    pub(super) fn drop_delayed(&mut self, view: u64) {
        let view = self.views.by_place.get_mut(&view).expect("it was just there");
        view.starved.clear();
        // Bounded by `views.delay_bytes_max`.
        for Delayed { derived, bytes, .. } in std::mem::take(&mut view.delayed) {
            self.views.pacing.delayed_bytes -= bytes;
            if matches!(derived.step, ClaimChange::Withdraw) {
                self.views.send_later(derived);
            }
        }
    }

    /// Queues a derivation that was held up, if it still has something to look at.
    fn requeue(&mut self, id: TopicId, view: u64) {
        // A topic that found no room may be gone.
        let Some(derivation) = self.views.sources.get_mut(&id).and_then(|source| source.find(view)) else { return };
        if matches!(derivation.pending, Pending::Nothing) {
            return;
        }
        if !std::mem::replace(&mut derivation.is_queued, true) {
            self.views.work.push(Job::Derive(id, view));
        }
    }
}
