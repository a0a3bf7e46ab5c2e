//! Which shards want to know of which topics: for selections of their sessions, for listeners to topics, and for listeners to subscribers.

use crate::base::{ShardIndex, ShardSet};
use crate::desk::Desk;
use crate::mail::{ListenerKind, Mail, Notice, What};
use crate::topic::interest::Interests;
use crate::topic::selector::Selector;
use crate::topic::tree::Topic;

/// See the module.
pub struct ShardInterests {
    selected: ByShard,
    topics: ByShard,
    subscribers: ByShard,
    /// By shard the ticket of its last request to listen.
    listens_heard: Vec<u64>,
}

/// Of a selector of one path no more than the path: there are as many of them as connections.
type ByShard = Interests<ShardSet, Box<str>>;

impl ShardInterests {
    pub fn new(shards: u16) -> Self {
        let none = ByShard::default;
        Self { selected: none(), topics: none(), subscribers: none(), listens_heard: vec![0; usize::from(shards)] }
    }

    /// Selectors of sessions and of both kinds of listeners.
    pub fn counts(&self) -> [usize; 3] {
        [self.selected.len(), self.topics.len(), self.subscribers.len()]
    }

    /// The shards that want what is at `path`.
    pub fn selecting(&self, path: &str) -> ShardSet {
        let mut selecting = ShardSet::default();
        self.selected.for_each_match(path, |shards| selecting = selecting.union(*shards));
        selecting
    }

    /// Sessions of the shard select by the selector; tells whether none did before.
    pub fn select(&mut self, selector: &Selector, from: ShardIndex) -> bool {
        let shards = self.selected.entry(selector, ShardSet::default);
        let is_new = !shards.contains(from);
        shards.insert(from);
        is_new
    }

    /// No session of the shard selects by the selector any more; tells whether sessions of any shard did.
    pub fn release(&mut self, selector: &Selector, from: ShardIndex) -> bool {
        let Some(shards) = self.selected.get_mut(selector) else { return false };
        shards.remove(from);
        if shards.is_empty() {
            self.selected.remove(selector);
        }
        true
    }

    /// A shard's request to listen has come.
    pub fn listen(&mut self, kind: ListenerKind, selector: &Selector, from: ShardIndex, ticket: u64) {
        self.listens_heard[usize::from(from.0)] = ticket;
        self.table(kind).entry(selector, ShardSet::default).insert(from);
    }

    /// No listener of the shard has the selector any more; whether that was the last one.
    pub fn stop_listening(&mut self, kind: ListenerKind, selector: &Selector, from: ShardIndex) -> bool {
        let table = self.table(kind);
        let Some(shards) = table.get_mut(selector) else { return false };
        shards.remove(from);
        if !shards.is_empty() {
            return false;
        }
        table.remove(selector);
        true
    }

    fn table(&mut self, kind: ListenerKind) -> &mut ByShard {
        match kind {
            ListenerKind::Topics => &mut self.topics,
            ListenerKind::Subscribers => &mut self.subscribers,
        }
    }

    /// The shards that listen to the topic at `path`; to topics also those that listen to one above it.
    fn listening(&self, kind: ListenerKind, path: &str) -> ShardSet {
        let mut listening = ShardSet::default();
        match kind {
            ListenerKind::Subscribers => {
                self.subscribers.for_each_match(path, |shards| listening = listening.union(*shards));
            }
            ListenerKind::Topics if self.topics.is_empty() => {}
            ListenerKind::Topics => {
                let ends = path.bytes().enumerate().filter(|(_, byte)| *byte == b'/').map(|(at, _)| at).chain([path.len()]);
                // One for each level of the path.
                for end in ends {
                    self.topics.for_each_match(&path[..end], |shards| listening = listening.union(*shards));
                }
            }
        }
        listening
    }

    /// Whether somebody listens to the subscribers of the topic at `path`.
    pub fn counts_subscribers(&self, path: &str) -> bool {
        !self.listening(ListenerKind::Subscribers, path).is_empty()
    }

    /// Tells the shards that listen to the topic.
    pub fn notice(&self, desk: &mut Desk, topic: &Topic, what: What) {
        for shard in self.listening(ListenerKind::Topics, topic.path.as_str()).iter() {
            self.tell(desk, shard, Notice::Topic { what, path: topic.path.clone(), specification: topic.specification.clone() });
        }
    }

    /// Tells the shards that listen to the topic's subscribers.
    pub fn notice_subscribers(&self, desk: &mut Desk, topic: &Topic, has_subscribers: bool) {
        for shard in self.listening(ListenerKind::Subscribers, topic.path.as_str()).iter() {
            let (path, specification) = (topic.path.clone(), topic.specification.clone());
            self.tell(desk, shard, Notice::Subscribers { path, specification, has_subscribers });
        }
    }

    /// Tells one shard that listens.
    pub fn tell(&self, desk: &mut Desk, to: ShardIndex, notice: Notice) {
        let asked = self.listens_heard[usize::from(to.0)];
        desk.mail(to, Mail::Noticed { notice: Box::new(notice), asked });
    }
}
