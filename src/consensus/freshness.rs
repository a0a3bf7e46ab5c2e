//! How old what this node has handed on of a group may be: all that was committed at a moment that is known.
//!
//! Whoever does not lead asks the leader again and again how far the group is committed; what was committed when it asked is what it has, once it has handed on as much. A
//! leader answers only while a quorum answers it: one that was cut off does not know what others have committed. So a late word, or one of a former leader,
//! makes nobody fresh.

use std::time::Duration;

use openraft::async_runtime::Instant as _;
use openraft::type_config::alias::InstantOf;

use super::types::Types;

pub type Moment = InstantOf<Types>;

/// See the module. Entries are counted from 1; 0 is none.
#[derive(Default)]
pub struct Freshness {
    /// All that was committed then is handed on.
    as_of: Option<Moment>,
    /// What was committed at a moment, and is not all handed on yet.
    behind: Option<(u64, Moment)>,
}

impl Freshness {
    /// So many were committed at this moment, or later; so many are handed on.
    pub fn heard(&mut self, at: Moment, committed: u64, delivered: u64) {
        self.settle(delivered);
        if self.behind.is_none() {
            self.behind = Some((committed, at));
            self.settle(delivered);
        }
    }

    /// Whether that was within this time.
    pub fn is_fresh(&mut self, within: Duration, delivered: u64) -> bool {
        self.settle(delivered);
        self.as_of.is_some_and(|at| at.elapsed() < within)
    }

    fn settle(&mut self, delivered: u64) {
        if let Some((_, at)) = self.behind.take_if(|(committed, _)| delivered >= *committed) {
            self.as_of = self.as_of.max(Some(at));
        }
    }
}
