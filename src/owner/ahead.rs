//! Topics as they will be once what this server has proposed is applied: what an update is decided from while earlier ones are on their way to the log.
//!
//! A tip is a topic of its own, changed by the same records as the topic in the tree will be. It goes when the last proposal that changed it is applied, and all of a
//! group's go when the server does not lead it any more: what it proposed may be void then.

use super::record::{Added, Record};
use crate::desk::Proposed;
use crate::series::Series;
use crate::topic::path::TopicPath;
use crate::topic::tree::{Span, StreamTag, Topic};
use hashbrown::HashMap;
use std::collections::BTreeSet;
use std::ops::Bound;

/// See the module.
#[derive(Default)]
pub struct Ahead {
    /// By group: a handful.
    tips: HashMap<u16, HashMap<TopicPath, Tip>>,
    /// By which stream topics are updated, as far as this server has decided since it leads: a stream ends with its leader.
    streams: HashMap<u16, HashMap<TopicPath, (StreamTag, u64)>>,
    /// Paths at which topics will be that are not there now.
    added: BTreeSet<TopicPath>,
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

    /// A path of this span at which a topic will be that is not there now, behind `after`.
    pub fn next_added(&self, span: &Span, after: Option<&TopicPath>) -> Option<&TopicPath> {
        let start = after.map_or(span.start.as_ref(), Bound::Excluded);
        self.added.range::<TopicPath, _>((start, Bound::Unbounded)).next().filter(|path| span.contains(path))
    }

    /// The topic at the path, which is there or will be, is changed by a proposal. `now` is the one in the tree.
    pub fn note(&mut self, proposed: Proposed, path: &TopicPath, now: Option<&Topic>, added: Option<Added>, record: Option<&Record>) {
        let Proposed { group, number, .. } = proposed;
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
            // Nobody waits for it.
            drop(topic.series_mut().and_then(Series::take_gone));
        }
        if matches!(record, Some(Record::Removed | Record::Cleared(_))) {
            topic = None;
        }
        let more = isize::from(topic.is_some()) - isize::from(now.is_some());
        self.more += more - was_more;
        note_added(&mut self.added, path, more > 0);
        tips.insert(path.clone(), Tip { topic, last: number, more });
    }

    /// By which stream the topic is updated, and the number of its last operation.
    pub fn stream(&self, group: u16, path: &str) -> Option<(StreamTag, u64)> {
        self.streams.get(&group)?.get(path).copied()
    }

    pub fn set_stream(&mut self, group: u16, path: &str, stream: Option<(StreamTag, u64)>) {
        let streams = self.streams.entry(group).or_default();
        match stream {
            Some(stream) => _ = streams.insert(TopicPath::of_branch(path), stream),
            None => _ = streams.remove(path),
        }
    }

    /// A proposal is applied to the topic at the path, which is there now or not.
    pub fn settle(&mut self, proposed: Proposed, path: &str, is_there: bool) {
        let Some(tips) = self.tips.get_mut(&proposed.group) else { return };
        let Some(tip) = tips.get_mut(path) else { return };
        let more = isize::from(tip.topic.is_some()) - isize::from(is_there);
        if more > 0 || tip.more > 0 {
            note_added(&mut self.added, &TopicPath::of_branch(path), more > 0);
        }
        self.more += more - std::mem::replace(&mut tip.more, more);
        if tip.last == proposed.number {
            self.more -= more;
            tips.remove(path);
        }
    }

    /// This server leads the group no more.
    pub fn forget(&mut self, group: u16) {
        self.streams.remove(&group);
        let tips = self.tips.remove(&group).unwrap_or_default();
        // As many as there are proposals under way, which are bounded.
        for path in tips.iter().filter(|(_, tip)| tip.more > 0).map(|(path, _)| path) {
            self.added.remove(path);
        }
        self.more -= tips.values().map(|tip| tip.more).sum::<isize>();
    }
}

fn note_added(added: &mut BTreeSet<TopicPath>, path: &TopicPath, is_added: bool) {
    if is_added {
        added.insert(path.clone());
    } else {
        added.remove(path);
    }
}

/// What decides what becomes of the topic. A series is copied with all its events: that has to become an overlay before a configuration leads here.
fn copy_of(topic: &Topic) -> Topic {
    let mut copy = Topic::new(topic.id, topic.path.clone(), topic.specification.clone());
    copy.latest.clone_from(&topic.latest);
    (copy.interested, copy.is_passing, copy.has_passed) = (topic.interested, topic.is_passing, topic.has_passed);
    if let Some(series) = topic.series() {
        copy.rare_mut().series = Some(Box::new(series.clone()));
    }
    copy
}
