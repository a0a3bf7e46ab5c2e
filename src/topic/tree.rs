//! The topics of one shard's partitions: found by path in constant time, walked in path order.

use super::path::{TopicPath, compare, is_within};
use super::publication::Publication;
use super::selector::Selector;
use crate::base::{ShardSet, TopicId};
use crate::value::ValueType;
use crate::value::delta::Gain;
use hashbrown::HashTable;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// Partitions of the tree; fixed, since a path's owner follows from it.
pub const PARTITIONS: u64 = 64;

/// The partition that a path belongs to.
pub fn partition(path: &str) -> u64 {
    xxh3_64(path.as_bytes()) % PARTITIONS
}

/// A topic at its owner.
pub struct Topic {
    pub id: TopicId,
    pub path: TopicPath,
    pub kind: ValueType,
    pub latest: Option<Arc<Publication>>,
    /// The shards that have a selection of it.
    pub interested: ShardSet,
    /// Whether deltas have paid lately.
    pub gain: Gain,
}

/// A topic's place in the tree; stale as soon as the topic is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u32);

#[derive(Default)]
pub struct Tree {
    topics: Vec<Option<Topic>>,
    free: Vec<u32>,
    by_path: HashTable<u32>,
    order: BTreeMap<TopicPath, u32>,
}

impl Tree {
    pub fn len(&self) -> usize {
        self.topics.len() - self.free.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn find(&self, path: &str) -> Option<Place> {
        let topics = &self.topics;
        let hash = xxh3_64(path.as_bytes());
        self.by_path.find(hash, |index| path_at(topics, *index) == path).map(|index| Place(*index))
    }

    pub fn topic(&self, place: Place) -> &Topic {
        self.topics[place.0 as usize].as_ref().expect("a place is used only while its topic stands")
    }

    pub fn topic_mut(&mut self, place: Place) -> &mut Topic {
        self.topics[place.0 as usize].as_mut().expect("a place is used only while its topic stands")
    }

    /// Adds a topic where none is.
    pub fn insert(&mut self, topic: Topic) -> Place {
        assert!(self.find(topic.path.as_str()).is_none(), "one topic a path");
        let path = topic.path.clone();
        let index = self.free.pop().unwrap_or_else(|| {
            self.topics.push(None);
            u32::try_from(self.topics.len() - 1).expect("a shard holds fewer than 2^32 topics")
        });
        self.topics[index as usize] = Some(topic);
        let topics = &self.topics;
        let hash = xxh3_64(path.as_str().as_bytes());
        self.by_path.insert_unique(hash, index, |index| xxh3_64(path_at(topics, *index).as_bytes()));
        self.order.insert(path, index);
        Place(index)
    }

    pub fn remove(&mut self, path: &str) -> Option<Topic> {
        let topics = &self.topics;
        let hash = xxh3_64(path.as_bytes());
        let entry = self.by_path.find_entry(hash, |index| path_at(topics, *index) == path).ok()?;
        let (index, _) = entry.remove();
        let topic = self.topics[index as usize].take().expect("an indexed topic stands");
        self.order.remove(&topic.path);
        self.free.push(index);
        Some(topic)
    }

    /// Walks in path order what lies in the branch of `selector` behind `after`, at most `budget` topics. `visit` sees those that match and
    /// may stop the walk by `false`. Returns where to go on, or `None` when the branch is done.
    pub fn walk(
        &self,
        selector: &Selector,
        after: Option<&TopicPath>,
        budget: usize,
        mut visit: impl FnMut(Place, &Topic) -> bool,
    ) -> Option<TopicPath> {
        let branch = selector.prefix();
        let begins_behind = after.is_some_and(|after| branch.is_empty() || compare(after.as_str(), branch).is_ge());
        let start = match after {
            Some(after) if begins_behind => Bound::Excluded(after.clone()),
            _ if branch.is_empty() => Bound::Unbounded,
            _ => Bound::Included(TopicPath::of_branch(branch)),
        };
        for (walked, (path, index)) in self.order.range((start, Bound::Unbounded)).enumerate() {
            if !branch.is_empty() && !is_within(path.as_str(), branch) {
                return None;
            }
            let place = Place(*index);
            if selector.matches(path.as_str()) && !visit(place, self.topic(place)) {
                return Some(path.clone());
            }
            if walked + 1 >= budget {
                return Some(path.clone());
            }
        }
        None
    }
}

fn path_at(topics: &[Option<Topic>], index: u32) -> &str {
    topics[index as usize].as_ref().expect("an indexed topic stands").path.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::selector::SelectorLimits;

    fn tree(paths: &[&str]) -> Tree {
        let mut tree = Tree::default();
        for (number, path) in paths.iter().enumerate() {
            let path = TopicPath::parse(path, 100).unwrap();
            tree.insert(Topic {
                id: TopicId(number as u64 + 1),
                path,
                kind: ValueType::Json,
                latest: None,
                interested: ShardSet::default(),
                gain: Gain::default(),
            });
        }
        tree
    }

    fn check(selector: &str, after: Option<&str>, expected: &[&str]) {
        let tree = tree(&["b", "a/c", "a", "a/b/c", "a-b", "ab", "a/b"]);
        let selector = Selector::parse(selector, SelectorLimits::default()).unwrap();
        for budget in 1..10 {
            let mut seen = Vec::new();
            let mut at = after.map(|p| TopicPath::parse(p, 100).unwrap());
            loop {
                at = tree.walk(&selector, at.as_ref(), budget, |_, topic| {
                    seen.push(topic.path.as_str().to_owned());
                    true
                });
                if at.is_none() {
                    break;
                }
            }
            assert_eq!(seen, expected, "budget {budget}");
        }
    }

    #[test]
    fn a_walk_goes_in_path_order_in_slices_of_any_size() {
        check("?.*//", None, &["a", "a/b", "a/b/c", "a/c", "a-b", "ab", "b"]);
        check("?a//", None, &["a", "a/b", "a/b/c", "a/c"]);
        check("?a/", None, &["a/b", "a/b/c", "a/c"]);
        check("?.*//", Some("a/b"), &["a/b/c", "a/c", "a-b", "ab", "b"]);
        check("?a/", Some("0"), &["a/b", "a/b/c", "a/c"]);
        check("?a/", Some("z"), &[]);
        check("a/b", None, &["a/b"]);
    }

    #[test]
    fn a_removed_topic_is_gone_and_its_place_is_used_again() {
        let mut tree = tree(&["a", "b"]);
        assert_eq!(tree.remove("a").map(|t| t.id), Some(TopicId(1)));
        assert!(tree.remove("a").is_none());
        assert!(tree.find("a").is_none());
        let place = tree.find("b").unwrap();
        assert_eq!(tree.topic(place).id, TopicId(2));
        assert_eq!(tree.len(), 1);
    }
}
