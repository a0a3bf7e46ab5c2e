//! What shards say to each other of branch mapping tables: orders and decisions.

use super::views::Told;
use crate::session_tree::RowText;

pub enum SessionTrees {
    /// To the one shard that decides.
    Order { put: Put, to: Told },
    /// To every shard, in the order of decisions.
    Decided { put: Put, to: Told },
}

/// The table of a branch is this from now on; one without rows is none.
#[derive(Clone)]
pub struct Put {
    pub branch: Box<str>,
    pub rows: Box<[RowText]>,
}
