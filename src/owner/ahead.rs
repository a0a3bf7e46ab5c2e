//! Topics as they will be once what this server has proposed is applied: what an update is decided from while earlier ones are on their way to the log.
//!
//! A tip is a topic of its own, changed by the same records as the topic in the tree will be. It goes when the last proposal that changed it is applied, and all of a
//! group's go when the server does not lead it any more: what it proposed may be void then.

use super::record::{Added, Record};
use crate::desk::Proposed;
use crate::topic::path::TopicPath;
use crate::topic::tree::{StreamTag, Topic};
use hashbrown::HashMap;

/// See the module.
#[derive(Default)]
pub struct Ahead {
    /// By group: a handful.
    tips: HashMap<u16, HashMap<TopicPath, Tip>>,
    /// Topics that will be there and are not, less those that will be gone.
    more: isize,
}

struct Tip {
    /// `None` where the topic will be gone.
    topic: Option<Box<Topic>>,
    /// The last proposal that changes it.
    last: u64,
    /// What it adds to the topics that are there.
    more: isize,
}

impl Ahead {
    /// How many topics more than now there will be.
    pub fn more(&self) -> isize {
        self.more
    }

    /// What will be at the path, where something on its way changes that.
    pub fn find(&self, group: u16, path: &str) -> Option<Option<&Topic>> {
        let tips = self.tips.get(&group).filter(|tips| !tips.is_empty())?;
        tips.get(path).map(|tip| tip.topic.as_deref())
    }

    /// The topic at the path, which is there or will be, is changed by a proposal. `now` is the one in the tree.
    pub fn note(&mut self, proposed: Proposed, path: &TopicPath, now: Option<&Topic>, added: Option<Added>, record: Option<&Record>) {
        let Proposed { group, number } = proposed;
        let tips = self.tips.entry(group).or_default();
        let before = tips.remove(path);
        let was_more = before.as_ref().map_or(0, |tip| tip.more);
        let held = before.map_or_else(|| now.map(|topic| Box::new(copy_of(topic))), |tip| tip.topic);
        let mut topic = match added {
            Some(added) => Some(Box::new(added.into_topic())),
            None => held,
        };
        if let (Some(topic), Some(record)) = (&mut topic, record) {
            record.change(topic);
        }
        if matches!(record, Some(Record::Removed | Record::Cleared(_))) {
            topic = None;
        }
        let more = isize::from(topic.is_some()) - isize::from(now.is_some());
        self.more += more - was_more;
        tips.insert(path.clone(), Tip { topic, last: number, more });
    }

    /// By which stream the topic is updated once all is applied.
    pub fn set_stream(&mut self, group: u16, path: &str, stream: Option<StreamTag>) {
        let tip = self.tips.get_mut(&group).and_then(|tips| tips.get_mut(path));
        let topic = tip.and_then(|tip| tip.topic.as_mut());
        if let Some(topic) = topic.filter(|topic| topic.stream() != stream) {
            topic.rare_mut().stream = stream;
        }
    }

    /// A proposal is applied to the topic at the path. Where no later one changes it, gives by which stream it is updated from now on.
    pub fn settle(&mut self, proposed: Proposed, path: &str, is_there: bool) -> Option<Option<StreamTag>> {
        let tips = self.tips.get_mut(&proposed.group)?;
        let tip = tips.get_mut(path)?;
        let more = isize::from(tip.topic.is_some()) - isize::from(is_there);
        self.more += more - std::mem::replace(&mut tip.more, more);
        if tip.last != proposed.number {
            return None;
        }
        let tip = tips.remove(path)?;
        self.more -= tip.more;
        Some(tip.topic.and_then(|topic| topic.stream()))
    }

    /// This server leads the group no more.
    pub fn forget(&mut self, group: u16) {
        let tips = self.tips.remove(&group).unwrap_or_default();
        // As many as there are proposals under way, which are bounded.
        self.more -= tips.values().map(|tip| tip.more).sum::<isize>();
    }
}

/// What decides what becomes of the topic. A series is copied with all its events.
fn copy_of(topic: &Topic) -> Topic {
    let mut copy = Topic::new(topic.id, topic.path.clone(), topic.specification.clone());
    copy.latest.clone_from(&topic.latest);
    (copy.interested, copy.is_passing, copy.has_passed) = (topic.interested, topic.is_passing, topic.has_passed);
    if let Some(series) = topic.series() {
        copy.rare_mut().series = Some(Box::new(series.clone()));
    }
    if topic.stream().is_some() {
        copy.rare_mut().stream = topic.stream();
    }
    copy
}
