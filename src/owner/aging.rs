//! The time series whose events get too old: looked at now and then.

use crate::base::{Slab, Time, TopicId, Wheel};
use crate::desk::Desk;
use crate::topic::path::TopicPath;
use crate::topic::tree::{Topic, Tree};

/// How long an event may be kept beyond its series' duration.
const AGING_MS: u64 = 2_000;

/// See the module.
pub struct Aging {
    series: Slab<(TopicId, TopicPath)>,
    wheel: Wheel,
}

impl Aging {
    pub fn new(now: Time) -> Self {
        Self { series: Slab::default(), wheel: Wheel::new(now) }
    }

    /// From here on the topic's series is looked at, where its retained range has a duration.
    pub fn start(&mut self, desk: &Desk, topic: &Topic) {
        if topic.series().is_some_and(|series| series.retained().last_ms.is_some()) {
            let key = self.series.insert((topic.id, topic.path.clone()));
            self.wheel.insert(desk.turn.now.after_ms(AGING_MS), key);
        }
    }

    /// Drops events that have become too old.
    pub fn tick(&mut self, desk: &Desk, tree: &mut Tree) {
        let mut due = Vec::new();
        self.wheel.advance(desk.turn.now, &mut due);
        let now_ms = desk.wall_ms();
        for key in due {
            let (id, path) = self.series.get(key).expect("what is looked at again is held");
            let place = tree.find(path.as_str()).filter(|place| tree.topic(*place).id == *id);
            let Some(place) = place else {
                self.series.remove(key);
                continue;
            };
            drop_aged(tree.topic_mut(place), now_ms);
            self.wheel.insert(desk.turn.now.after_ms(AGING_MS), key);
        }
    }
}

/// Drops the events that are too old.
pub fn drop_aged(topic: &mut Topic, now_ms: u64) {
    if let Some(series) = topic.series_mut() {
        series.trim(now_ms);
        if series.is_empty() {
            topic.latest = None;
        }
    }
}
