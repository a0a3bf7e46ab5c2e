//! What few sessions have: listeners, update streams, and what they wait for.

use crate::base::{ShardIndex, TopicId};
use crate::topic::path::TopicPath;
use crate::topic::selector::Selector;
use crate::topic::specification::Specification;
use crate::value::ValueType;
use hashbrown::HashSet;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Default)]
pub struct Extras {
    pub listeners: BTreeMap<u64, Listener>,
    pub streams: BTreeMap<u64, Stream>,
    /// The subscriptions to time series, by generation, whose first events are still on their way.
    pub histories: HashSet<u32>,
    /// Requests whose answers come behind those events.
    pub answers_held: Vec<u64>,
    /// The topics that want to know when the session is over, and their owners.
    pub watched_by: Vec<(ShardIndex, TopicPath, TopicId)>,
}

/// One of a session's listeners.
pub struct Listener {
    /// The number of the wire.
    pub kind: u8,
    pub selectors: Vec<Selector>,
    /// Of a handler of missing topics.
    pub branches: Vec<Box<str>>,
    /// The topics that are selected, or lie below a selected path.
    pub known: BTreeMap<TopicPath, Known>,
    /// The topics that it was told have subscribers.
    pub subscribed: BTreeSet<TopicPath>,
}

pub struct Known {
    pub specification: Arc<Specification>,
    pub is_selected: bool,
    /// It is not selected, and the first topic on its branch below a selected path.
    pub is_immediate: bool,
}

impl Listener {
    pub fn new(kind: u8) -> Self {
        Self { kind, selectors: Vec::new(), branches: Vec::new(), known: BTreeMap::new(), subscribed: BTreeSet::new() }
    }

    pub fn selects(&self, path: &str) -> bool {
        self.selectors.iter().any(|selector| selector.matches(path))
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
}
