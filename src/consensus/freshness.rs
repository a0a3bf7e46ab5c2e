//! How old what this node has handed on of a group may be: all that was committed at a moment that is known.
//!
//! Whoever does not lead asks the leader again and again how far the group is committed; what was committed when it asked is what it has, once it has handed on as much. A
//! leader answers only while a quorum answers it: one that was cut off does not know what others have committed. So a late word, or one of a former leader,
//! makes nobody fresh.

use std::collections::VecDeque;
use std::time::Duration;

use openraft::async_runtime::Instant as _;
use openraft::type_config::TypeConfigExt;
use openraft::type_config::alias::InstantOf;

use super::types::Types;

pub type Moment = InstantOf<Types>;

/// Answers that are kept until as much is handed on; the newest are left out where that takes long.
const BEHIND_MAX: usize = 16;

/// See the module. Entries are counted from 1; 0 is none.
#[derive(Default)]
pub struct Freshness {
    /// All that was committed then is handed on.
    as_of: Option<Moment>,
    /// What was committed at moments, and is not all handed on yet.
    behind: VecDeque<(u64, Moment)>,
    asked: Option<Moment>,
}

impl Freshness {
    /// So many were committed at this moment, or later; so many are handed on.
    pub fn heard(&mut self, at: Moment, committed: u64, delivered: u64) {
        self.settle(delivered);
        // Where a leader has less than one before it had, nobody will ever have more.
        while self.behind.back().is_some_and(|(more, _)| *more > committed) {
            self.behind.pop_back();
        }
        if self.behind.len() < BEHIND_MAX {
            self.behind.push_back((committed, at));
        }
        self.settle(delivered);
    }

    /// Whether that was within this time.
    pub fn is_fresh(&mut self, within: Duration, delivered: u64) -> bool {
        self.settle(delivered);
        self.as_of.is_some_and(|at| at.elapsed() < within)
    }

    /// Whether it was so long ago that somebody was asked; then it is now.
    pub fn asks(&mut self, every: Duration) -> bool {
        let asks = self.asked.is_none_or(|at| at.elapsed() >= every);
        if asks {
            self.asked = Some(Types::now());
        }
        asks
    }

    pub fn not_answered(&mut self) {
        self.asked = None;
    }

    fn settle(&mut self, delivered: u64) {
        while let Some((_, at)) = self.behind.front().copied().filter(|(committed, _)| delivered >= *committed) {
            self.as_of = self.as_of.max(Some(at));
            self.behind.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_lags_a_little_is_as_fresh_as_what_it_has() {
        // What was now is older than that at once, and what is to come is not.
        let (mut freshness, old, within) = (Freshness::default(), Types::now(), Duration::from_nanos(1));
        let new = old + Duration::from_secs(3600);
        assert!(!freshness.is_fresh(within, 100));
        // Each answer counts for itself.
        freshness.heard(old, 10, 5);
        freshness.heard(new, 20, 5);
        assert!(!freshness.is_fresh(within, 10));
        assert!(freshness.is_fresh(within, 20));
        // A later leader that has less is believed.
        let mut freshness = Freshness::default();
        freshness.heard(new, u64::MAX, 5);
        freshness.heard(new, 6, 5);
        assert!(freshness.is_fresh(within, 6));
        // Answers that nobody can keep up with take no memory.
        let mut freshness = Freshness::default();
        (0..1000).for_each(|number| freshness.heard(new, 10 + number, 5));
        assert_eq!(freshness.behind.len(), BEHIND_MAX);
    }
}
