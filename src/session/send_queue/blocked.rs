//! What waits until the client has acknowledged other messages.
//!
//! Whatever follows of the same topics waits behind, also what need not be acknowledged: a topic's values are sent in the order in which its owner
//! applied them.

use super::conflate::conflate;
use super::lane::Lane;
use super::superseded::Superseded;
use super::{Entry, Newest};
use crate::session::LocalTopic;
use crate::topic::path::TopicPath;
use crate::wire::mqtt::QoS;
use hashbrown::HashMap;
use std::cell::OnceCell;

/// See the module.
#[derive(Default)]
pub(super) struct Blocked {
    lane: Lane,
    /// How many entries of each path there are. Made when it is first asked for: mostly nothing comes that it would hold up.
    paths: OnceCell<HashMap<TopicPath, u32>>,
}

impl Blocked {
    pub(super) fn is_empty(&self) -> bool {
        self.lane.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.lane.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.lane.iter()
    }

    pub(super) fn push(&mut self, entry: Entry) {
        if let (Some(paths), Some(path)) = (self.paths.get_mut(), entry.path()) {
            *paths.entry(path.clone()).or_default() += 1;
        }
        self.lane.push_back(entry);
    }

    /// The first entry, where it `goes`.
    pub(super) fn pop_if(&mut self, goes: impl Fn(&Entry) -> bool) -> Option<Entry> {
        if !self.lane.front().is_some_and(goes) {
            return None;
        }
        let entry = self.lane.pop_front().expect("there is a first");
        if self.lane.is_empty() {
            *self = Self::default();
        } else if let (Some(paths), Some(path)) = (self.paths.get_mut(), entry.path()) {
            uncount(paths, path);
        }
        Some(entry)
    }

    /// Takes out what gave way and is the first. What gives way is counted no more: see [`Self::gave_way`].
    pub(super) fn drop_first(&mut self, mut is_gone: impl FnMut(&Entry) -> bool) {
        while self.lane.front().is_some_and(&mut is_gone) {
            self.lane.pop_front();
        }
        if self.lane.is_empty() {
            *self = Self::default();
        }
    }

    /// An entry of the path gave way, and holds up nothing any more.
    pub(super) fn gave_way(&mut self, path: &TopicPath) {
        if let Some(paths) = self.paths.get_mut() {
            uncount(paths, path);
        }
    }

    /// Whether `entry` has to wait: it has to be acknowledged, as one that waits here, or an earlier one of its topic waits.
    pub(super) fn holds_up(&self, entry: &Entry, superseded: &Superseded) -> bool {
        if matches!(entry, Entry::Message(message) if message.qos != QoS::AtMostOnce) {
            return true;
        }
        let Some(path) = entry.path() else { return false };
        let paths = self.paths.get_or_init(|| {
            let mut paths = HashMap::new();
            for path in self.lane.iter().filter(|entry| !superseded.has_given_way(entry)).filter_map(Entry::path) {
                *paths.entry(path.clone()).or_default() += 1;
            }
            paths
        });
        paths.contains_key(path)
    }

    pub(super) fn retain(&mut self, stays: impl FnMut(&Entry) -> bool) {
        self.lane.retain(stays);
        self.paths = OnceCell::new();
    }

    pub(super) fn conflate(&mut self, newest: &mut impl FnMut(Option<&LocalTopic>) -> Newest, gone: &mut Vec<u64>) {
        self.lane = conflate(std::mem::take(&mut self.lane), newest, gone);
        self.paths = OnceCell::new();
    }
}

fn uncount(paths: &mut HashMap<TopicPath, u32>, path: &TopicPath) {
    let count = paths.get_mut(path).expect("each entry's path is counted");
    *count -= 1;
    if *count == 0 {
        paths.remove(path);
    }
}
