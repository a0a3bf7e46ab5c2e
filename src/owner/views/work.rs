//! What views have still to do here, and the turns in which it is done.

use super::walk::ViewWalk;
use crate::base::{ShardIndex, TopicId};
use crate::desk::Desk;
use crate::mail::Mail;
use crate::mail::views::{Derived, Told};
use crate::owner::Owner;
use crate::topic::path::TopicPath;
use std::collections::VecDeque;

/// Where more jobs wait, no further slice is taken of a walk or a change that makes many: it follows in a later turn. No client is bounded by it.
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
    /// Topics that views look at, whose change their dependents have not all heard of.
    spreading: VecDeque<TopicPath>,
    /// Whether any job, walk or change waits; only `run_views` takes them. Every update asks for it several times, mostly where there are no views.
    pub is_due: bool,
    pub turn: Turn,
}

/// What views may still do in this turn of the shard.
#[derive(Default)]
pub struct Turn {
    pub units_left: usize,
    /// Whether it has had its slice of a walk.
    pub has_walked: bool,
}

impl Work {
    /// What waits for its turn.
    pub fn backlog(&self) -> usize {
        self.jobs.len() + self.updates_pending
    }

    /// The same, with what makes more of it.
    pub fn count(&self) -> usize {
        self.backlog() + self.walks.len() + self.spreading.len()
    }

    /// Whether so many jobs wait that nothing may make more.
    pub fn is_full(&self) -> bool {
        self.jobs.len() > WAITING_MAX
    }

    pub fn push(&mut self, job: Job) {
        self.is_due = true;
        self.jobs.push_back(job);
    }

    // Turns.

    pub fn spend(&mut self, units: usize) {
        self.turn.units_left = self.turn.units_left.saturating_sub(units.max(1));
    }

    /// Whether a slice of what makes many jobs is due: once a turn, and when nothing else is to be done.
    fn takes_slice(&mut self) -> bool {
        self.jobs.is_empty() || !std::mem::replace(&mut self.turn.has_walked, true)
    }

    // Walks, which are done in order.

    pub fn push_walk(&mut self, walk: ViewWalk) {
        self.is_due = true;
        self.walks.push_back(walk);
    }

    pub fn pop_walk(&mut self) -> Option<ViewWalk> {
        self.walks.pop_front()
    }

    /// A walk that is not done is the next again.
    pub fn return_walk(&mut self, walk: ViewWalk) {
        self.walks.push_front(walk);
    }

    // Changes, whose dependents hear of them in turn.

    pub fn push_spreading(&mut self, path: TopicPath) {
        self.is_due = true;
        self.spreading.push_back(path);
    }

    pub fn pop_spreading(&mut self) -> Option<TopicPath> {
        self.spreading.pop_front()
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

impl Owner {
    pub fn run_views(&mut self, desk: &mut Desk) {
        self.run_jobs(desk);
        let Work { jobs, walks, spreading, is_due, .. } = &mut self.views.work;
        *is_due = !jobs.is_empty() || !walks.is_empty() || !spreading.is_empty();
    }

    fn run_jobs(&mut self, desk: &mut Desk) {
        while self.views.work.turn.units_left > 0 && !desk.has_mail() {
            // Walks and changes that many depend on have their slice of every turn, and what is left when nothing else is to be done.
            if self.views.work.takes_slice() {
                let has_walked = self.walk_views(desk);
                let has_spread = self.spread_watched();
                if !has_walked && !has_spread && self.views.work.jobs.is_empty() {
                    return;
                }
            }
            match self.views.work.jobs.pop_front() {
                Some(Job::Derive(id, place)) => self.derive(desk, id, place),
                Some(Job::Send(derived)) => {
                    // The view may be gone by now.
                    if let Some(view) = self.views.by_place.get_mut(&derived.view) {
                        view.sends_waiting -= 1;
                    }
                    self.views.work.spend(1);
                    self.mail_derived(desk, *derived);
                }
                Some(Job::Tell(to)) => {
                    for shard in (0..desk.identity.count).map(ShardIndex) {
                        desk.mail(shard, Mail::Fence { to });
                    }
                }
                None => {}
            }
        }
    }

    pub fn tick_views(&mut self, desk: &Desk) {
        self.tick_throttled(desk);
        self.tick_delayed(desk);
    }
}
