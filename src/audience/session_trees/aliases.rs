//! Topics under other paths: what sessions know by a mapped path is a topic of their shard like any other, with a number and a path of its own.
//!
//! One alias serves all sessions that find its topic at its path, and goes with the last of them. What is published at the topic is published at its
//! aliases, by their numbers, once for all sessions here.

use crate::audience::Audience;
use crate::base::TopicId;
use crate::desk::Desk;
use crate::mail::Subscription;
use crate::protocol::Reason;
use crate::session::{LocalTopic, Outgoing};
use crate::topic::path::TopicPath;
use crate::topic::publication::Publication;
use crate::topic::tree::Span;
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// See the module.
#[derive(Default)]
pub struct Aliases {
    /// The topic of each.
    topics: HashMap<TopicId, Rc<LocalTopic>>,
    /// By their topics' numbers; by their paths.
    of_topic: HashMap<TopicId, Vec<Rc<LocalTopic>>>,
    by_path: BTreeMap<TopicPath, Vec<Rc<LocalTopic>>>,
}

impl Aliases {
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Those at a path: of the topics that it means to one session or another.
    pub fn at(&self, path: &TopicPath) -> &[Rc<LocalTopic>] {
        self.by_path.get(path).map_or(&[], Vec::as_slice)
    }

    /// Those in the span in the order of their paths, path by path.
    pub fn from(&self, span: &Span) -> impl Iterator<Item = &[Rc<LocalTopic>]> {
        self.by_path.range((span.start.clone(), span.end.clone())).map(|(_, aliases)| aliases.as_slice())
    }

    fn insert(&mut self, alias: &Rc<LocalTopic>, topic: &Rc<LocalTopic>) {
        topic.has_aliases.set(true);
        alias.is_alias.set(true);
        self.topics.insert(alias.id, topic.clone());
        self.of_topic.entry(topic.id).or_default().push(alias.clone());
        self.by_path.entry(alias.path.clone()).or_default().push(alias.clone());
    }

    /// Takes an alias out; gives its topic, if it had been there.
    fn remove(&mut self, alias: &LocalTopic) -> Option<Rc<LocalTopic>> {
        let topic = self.topics.remove(&alias.id)?;
        // Bounded by the branches that one session's mapping may have, and the rows of one table.
        let held = self.of_topic.get_mut(&topic.id).expect("a topic knows its aliases");
        held.retain(|held| held.id != alias.id);
        if held.is_empty() {
            self.of_topic.remove(&topic.id);
            topic.has_aliases.set(false);
        }
        let held = self.by_path.get_mut(&alias.path).expect("a path knows its aliases");
        held.retain(|held| held.id != alias.id);
        if held.is_empty() {
            self.by_path.remove(&alias.path);
        }
        Some(topic)
    }
}

impl Audience {
    /// The topic that an alias stands for; what is none stands for itself.
    pub fn topic_of(&self, topic: &Rc<LocalTopic>) -> Rc<LocalTopic> {
        if !topic.is_alias.get() {
            return topic.clone();
        }
        // One that has just gone stands in a queue still, and is nothing to anybody.
        self.trees.aliases.topics.get(&topic.id).unwrap_or(topic).clone()
    }

    /// The topic's other paths here.
    pub fn aliases_of(&self, topic: &LocalTopic) -> Vec<Rc<LocalTopic>> {
        if !topic.has_aliases.get() {
            return Vec::new();
        }
        self.trees.aliases.of_topic.get(&topic.id).cloned().unwrap_or_default()
    }

    /// The topic under this path, made where it is the first time.
    pub(super) fn alias_at(&mut self, desk: &mut Desk, topic: &Rc<LocalTopic>, path: &TopicPath) -> Rc<LocalTopic> {
        if let Some(alias) = self.aliases_of(topic).into_iter().find(|alias| alias.path == *path) {
            return alias;
        }
        let alias = LocalTopic::new(desk.take_topic_id(), path.clone(), topic.specification.clone());
        self.trees.aliases.insert(&alias, topic);
        let latest = topic.latest.borrow().clone();
        for outgoing in latest.into_iter().chain(topic.newest().filter(|newest| newest.is_passing())) {
            let outgoing = self.renumbered(outgoing.publication(), &alias);
            alias.take(&outgoing, self.locals.generation);
        }
        if let Some(sequence) = topic.last_sequence() {
            alias.set_last_sequence(sequence);
        }
        alias
    }

    fn renumbered(&mut self, publication: &Publication, alias: &Rc<LocalTopic>) -> Rc<Outgoing> {
        self.outgoing(Arc::new(publication.renumbered(alias.id)), alias)
    }

    /// The same publication under the topic's other paths.
    #[cold]
    pub fn publish_aliases(&mut self, desk: &mut Desk, topic: &Rc<LocalTopic>, publication: &Publication) {
        // Bounded by the branches and rows of all tables.
        for alias in self.aliases_of(topic) {
            self.publish(desk, &alias, Arc::new(publication.renumbered(alias.id)));
        }
    }

    /// The topic is known again, with a value that may be newer.
    #[cold]
    pub fn aliases_appeared(&mut self, desk: &mut Desk, topic: &Rc<LocalTopic>, is_newer: bool) {
        let latest = topic.latest.borrow().clone();
        for alias in self.aliases_of(topic) {
            if let Some(latest) = latest.as_ref().filter(|_| is_newer) {
                let outgoing = self.renumbered(latest.publication(), &alias);
                alias.take(&outgoing, self.locals.generation);
            }
            if alias.is_time_series() || alias.specification.retains_value() && is_newer {
                self.send_latest(desk, &alias, is_newer);
            }
        }
    }

    /// The topic is gone, and so are its other paths.
    #[cold]
    pub fn end_aliases(&mut self, desk: &mut Desk, topic: &Rc<LocalTopic>, reason: Reason) {
        for alias in self.aliases_of(topic) {
            self.end_subscribers(desk, &alias, reason);
            self.trees.aliases.remove(&alias);
        }
    }

    /// The last subscriber has left an alias.
    #[cold]
    pub fn alias_left(&mut self, alias: &Rc<LocalTopic>) {
        let Some(topic) = self.trees.aliases.remove(alias) else { return };
        self.note_count(&topic);
        if topic.subscribers.borrow().is_empty() && !topic.has_aliases.get() {
            self.locals.limbo.forget(&topic);
        }
    }

    /// How many subscribers the topic has under all its paths.
    pub fn subscriber_count(&self, topic: &LocalTopic) -> u64 {
        let others: usize = self.aliases_of(topic).iter().map(|alias| alias.subscribers.borrow().len()).sum();
        (topic.subscribers.borrow().len() + others) as u64
    }

    /// Where the subscription is to the topic under another path: that alias.
    #[cold]
    pub fn alias_of(&self, topic: &LocalTopic, to: Subscription) -> Option<Rc<LocalTopic>> {
        let is_meant = |alias: &Rc<LocalTopic>| {
            alias.subscribers.borrow().iter().any(|held| held.session == to.session && held.generation == to.generation)
        };
        self.aliases_of(topic).into_iter().find(is_meant)
    }
}
