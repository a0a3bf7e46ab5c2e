//! Topics that messages of MQTT are only passed through: they go when they have not been published to for a while.
//!
//! Those that come due together are looked at so many a turn.

use crate::base::{IdMap, Time, TopicId};
use crate::desk::Desk;
use crate::topic::path::TopicPath;
use crate::topic::tree::{Place, Tree};
use std::collections::BTreeMap;

/// Such topics, by when they are looked at.
#[derive(Default)]
pub struct Passing {
    due: BTreeMap<(Time, TopicId), TopicPath>,
    due_of: IdMap<TopicId, Time>,
    /// Whether some may have come due that were not looked at.
    pub is_due: bool,
}

impl Passing {
    pub fn len(&self) -> usize {
        self.due.len()
    }

    /// A topic is made that is only passed through.
    pub fn note(&mut self, desk: &Desk, id: TopicId, path: &TopicPath) {
        self.insert(desk.turn.now.after_ms(period_ms(desk)), id, path.clone());
    }

    fn insert(&mut self, due: Time, id: TopicId, path: TopicPath) {
        self.due_of.insert(id, due);
        self.due.insert((due, id), path);
    }

    /// A topic is gone, which may have been one of them.
    pub fn forget(&mut self, id: TopicId) {
        if let Some(due) = self.due_of.remove(&id) {
            self.due.remove(&(due, id));
        }
    }

    /// The next topic that goes, of so many that may still be looked at.
    pub fn poll_due(&mut self, desk: &Desk, tree: &mut Tree, left: &mut usize) -> Option<Place> {
        while self.is_due && *left > 0 {
            let first = self.due.first_entry().filter(|first| first.key().0 <= desk.turn.now);
            let Some(((due, id), path)) = first.map(|first| first.remove_entry()) else {
                self.is_due = false;
                return None;
            };
            *left -= 1;
            self.due_of.remove(&id);
            let place = tree.find(path.as_str()).expect("a topic that goes is forgotten here");
            let topic = tree.topic_mut(place);
            if !topic.is_passing {
                continue;
            }
            if !std::mem::take(&mut topic.has_passed) {
                return Some(place);
            }
            self.insert(due.after_ms(period_ms(desk).max(1)).max(desk.turn.now), id, path);
        }
        None
    }
}

fn period_ms(desk: &Desk) -> u64 {
    desk.limits.mqtt.passing_topic_ms
}
