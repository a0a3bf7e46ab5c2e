//! Topics that messages of MQTT are only passed through: they go when they have not been published to for a while.

use crate::base::{Time, TopicId};
use crate::desk::Desk;
use crate::topic::path::TopicPath;
use crate::topic::tree::{Place, Tree};
use std::collections::VecDeque;

/// So many entries may stand in the queue beyond two for each topic that is there, before those of topics that have gone are taken out. No client is
/// bounded by it.
const GONE_MAX: usize = 1000;

/// Such topics, by when they are looked at.
#[derive(Default)]
pub struct Passing {
    due: VecDeque<(Time, TopicId, TopicPath)>,
}

impl Passing {
    pub fn len(&self) -> usize {
        self.due.len()
    }

    /// A topic is made that is only passed through.
    pub fn note(&mut self, desk: &Desk, tree: &Tree, id: TopicId, path: &TopicPath) {
        if self.due.len() > 2 * tree.len() + GONE_MAX {
            // Clients may make and clear topics faster than their entries come due.
            self.due.retain(|(_, id, path)| {
                tree.find(path.as_str()).is_some_and(|place| tree.topic(place).id == *id && tree.topic(place).is_passing)
            });
        }
        self.due.push_back((desk.turn.now.after_ms(period_ms(desk)), id, path.clone()));
    }

    /// The next topic that goes.
    pub fn poll_due(&mut self, desk: &Desk, tree: &mut Tree) -> Option<Place> {
        while self.due.front().is_some_and(|(due, ..)| *due <= desk.turn.now) {
            let (due, id, path) = self.due.pop_front().expect("it was just there");
            let Some(place) = tree.find(path.as_str()) else { continue };
            let topic = tree.topic_mut(place);
            if topic.id != id || !topic.is_passing {
                continue;
            }
            if !std::mem::take(&mut topic.has_passed) {
                return Some(place);
            }
            self.due.push_back((due.after_ms(period_ms(desk).max(1)).max(desk.turn.now), id, path));
        }
        None
    }
}

fn period_ms(desk: &Desk) -> u64 {
    desk.limits.mqtt.passing_topic_ms
}
