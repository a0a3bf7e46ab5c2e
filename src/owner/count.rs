//! How many subscribers a topic has, where somebody wants to know: a listener, or the topic's removal policy.
//!
//! The shards with subscribers tell each change once a turn; nothing is counted for other topics.

use crate::base::{ShardIndex, TopicId};
use crate::desk::Desk;
use crate::mail::{Mail, Notice};
use crate::owner::Owner;
use crate::topic::path::TopicPath;
use crate::topic::removal::RemovalPolicy;
use crate::topic::tree::{Place, Topic};

impl Owner {
    /// From here on the topic's subscribers are counted. `listener` is a shard that begins to listen: it is told if there are some already.
    pub(super) fn start_counting(&mut self, desk: &mut Desk, place: Place, listener: Option<ShardIndex>) {
        let topic = self.tree.topic_mut(place);
        let (id, interested) = (topic.id, topic.interested);
        if !topic.is_counted() {
            topic.rare_mut().subscribers = Some(Vec::new());
            for shard in interested.iter() {
                desk.mail(shard, Mail::Count { id, counts: true });
            }
        } else if let Some(listener) = listener.filter(|_| subscribers(topic) > 0) {
            let (path, specification) = (topic.path.clone(), topic.specification.clone());
            let notice = Notice::Subscribers { path, specification, has_subscribers: true };
            self.interests.tell(desk, listener, notice);
        }
    }

    /// The topic's subscribers are counted no longer, unless somebody wants to know them still.
    pub(super) fn stop_counting(&mut self, desk: &mut Desk, place: Place) {
        let topic = self.tree.topic(place);
        let is_needed = topic.specification.removal().is_some_and(RemovalPolicy::needs_subscriptions)
            || self.interests.counts_subscribers(topic.path.as_str());
        if is_needed || !topic.is_counted() {
            return;
        }
        let topic = self.tree.topic_mut(place);
        topic.rare_mut().subscribers = None;
        topic.drop_empty_rare();
        let (id, interested) = (topic.id, topic.interested);
        for shard in interested.iter() {
            desk.mail(shard, Mail::Count { id, counts: false });
        }
    }

    /// A shard tells how many subscribers a topic has there.
    pub fn subscribers_counted(&mut self, desk: &mut Desk, from: ShardIndex, path: &TopicPath, id: TopicId, count: u64) {
        let place = self.tree.find(path.as_str()).filter(|place| self.tree.topic(*place).id == id);
        if let Some(place) = place {
            self.count_subscribers(desk, place, from, count);
        }
    }

    pub(super) fn count_subscribers(&mut self, desk: &mut Desk, place: Place, from: ShardIndex, count: u64) {
        let topic = self.tree.topic_mut(place);
        let before = subscribers(topic);
        let Some(counts) = topic.rare.as_mut().and_then(|rare| rare.subscribers.as_mut()) else { return };
        counts.retain(|(shard, _)| *shard != from);
        if count > 0 {
            counts.push((from, count));
        }
        let total = subscribers(topic);
        if (before == 0) != (total == 0) {
            self.interests.notice_subscribers(desk, self.tree.topic(place), total > 0);
        }
        self.note_subscriptions(desk, place, total);
    }

    /// A topic that goes loses its subscribers.
    pub(super) fn lose_subscribers(&mut self, desk: &mut Desk, topic: &Topic) {
        if subscribers(topic) > 0 {
            self.interests.notice_subscribers(desk, topic, false);
        }
    }
}

fn subscribers(topic: &Topic) -> u64 {
    let counts = topic.rare.as_ref().and_then(|rare| rare.subscribers.as_ref());
    counts.map_or(0, |counts| counts.iter().map(|(_, count)| count).sum())
}
