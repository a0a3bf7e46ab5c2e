//! What views have still to do here, and what of it the turn may do.

use super::walk::ViewWalk;
use crate::base::TopicId;
use crate::mail::views::{Derived, Told};
use std::collections::VecDeque;

/// Jobs that may wait before one more slice of what makes many is taken.
const WAITING_MAX: usize = 10_000;

/// Something to be done in its turn.
pub enum Job {
    Derive(TopicId, u64),
    /// One result of many.
    Send(Box<Derived>),
    /// All that a decision has caused up to here is done.
    Tell(Told),
}

/// See the module.
#[derive(Default)]
pub struct Work {
    jobs: VecDeque<Job>,
    /// Updates that derivations have to see each, and have not.
    updates_pending: usize,
    walks: VecDeque<ViewWalk>,
    /// Whether this turn has had its slice of a walk.
    has_walked: bool,
    units_left: usize,
}

impl Work {
    /// What waits for its turn.
    pub fn backlog(&self) -> usize {
        self.jobs.len() + self.updates_pending
    }

    pub fn walk_count(&self) -> usize {
        self.walks.len()
    }

    pub fn has_jobs(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Whether so many jobs wait that nothing may make more.
    pub fn is_full(&self) -> bool {
        self.jobs.len() > WAITING_MAX
    }

    pub fn push(&mut self, job: Job) {
        self.jobs.push_back(job);
    }

    pub fn pop(&mut self) -> Option<Job> {
        self.jobs.pop_front()
    }

    // Turns.

    pub fn begin_turn(&mut self, units: usize) {
        (self.units_left, self.has_walked) = (units, false);
    }

    pub fn units_left(&self) -> usize {
        self.units_left
    }

    pub fn spend(&mut self, units: usize) {
        self.units_left = self.units_left.saturating_sub(units.max(1));
    }

    /// Whether a slice of what makes many jobs is due: once a turn, and when nothing else is to be done.
    pub fn takes_slice(&mut self) -> bool {
        self.jobs.is_empty() || !std::mem::replace(&mut self.has_walked, true)
    }

    // Walks, which are done in order.

    pub fn push_walk(&mut self, walk: ViewWalk) {
        self.walks.push_back(walk);
    }

    pub fn pop_walk(&mut self) -> Option<ViewWalk> {
        self.walks.pop_front()
    }

    /// A walk that is not done is the next again.
    pub fn return_walk(&mut self, walk: ViewWalk) {
        self.walks.push_front(walk);
    }

    // Updates that are to be seen each.

    /// A derivation that had `before` of them to see has `now`.
    pub fn count_updates(&mut self, before: usize, now: usize) {
        self.updates_pending = self.updates_pending + now - before;
    }

    pub fn forget_updates(&mut self, count: usize) {
        self.updates_pending -= count;
    }
}
