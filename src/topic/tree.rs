//! The topics of one shard's partitions: found by path in constant time, walked in path order.

use super::path::TopicPath;
use super::publication::Publication;
use super::selector::Selector;
use super::specification::{Specification, TopicType};
use crate::base::{Key, SessionId, ShardIndex, ShardSet, TopicId};
use crate::series::{self, Series};
use crate::value::delta::Gain;
use hashbrown::HashTable;
use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// A topic at its owner.
pub struct Topic {
    pub id: TopicId,
    pub path: TopicPath,
    pub specification: Arc<Specification>,
    /// The newest value, also where that is null; the newest event of a time series.
    pub latest: Option<Arc<Publication>>,
    /// The shards that have a selection of it.
    pub interested: ShardSet,
    /// Whether deltas have paid lately.
    pub gain: Gain,
    /// Whether a view has made it.
    pub is_reference: bool,
    /// Whether views derive from it.
    pub is_source: bool,
    /// Whether a view that derives from another topic looks at it.
    pub is_watched: bool,
    /// Whether something was published since the value that did not become the value.
    pub has_passed: bool,
    /// Whether it was only ever published to without becoming a value: it is not stored, and goes when that stops.
    pub is_passing: bool,
    pub rare: Option<Box<Rare>>,
}

/// What few topics have.
#[derive(Default)]
pub struct Rare {
    pub series: Option<Box<Series>>,
    /// Who updates it by a stream.
    pub stream: Option<StreamTag>,
    /// Its automatic removal.
    pub removal: Option<Key>,
    /// How many sessions of each shard are subscribed, where somebody wants to know.
    pub subscribers: Option<Vec<(ShardIndex, u64)>>,
}

/// Which update stream of which session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamTag {
    /// The server that the session is of.
    pub server: u64,
    pub session: SessionId,
    pub number: u64,
}

impl Topic {
    pub fn new(id: TopicId, path: TopicPath, specification: Arc<Specification>) -> Self {
        let is_series = specification.topic_type() == TopicType::TimeSeries;
        let range = specification.retained_range();
        let retained = series::Range { limit: range.limit, last_ms: range.last_ms };
        let rare = is_series.then(|| Box::new(Rare { series: Some(Box::new(Series::new(retained))), ..Rare::default() }));
        Self {
            id,
            path,
            specification,
            latest: None,
            interested: ShardSet::default(),
            gain: Gain::default(),
            is_reference: false,
            is_source: false,
            is_watched: false,
            has_passed: false,
            is_passing: false,
            rare,
        }
    }

    pub fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Gives back what nothing is held in any more.
    pub fn drop_empty_rare(&mut self) {
        let is_empty = |rare: &Rare| matches!(rare, Rare { series: None, stream: None, removal: None, subscribers: None });
        self.rare.take_if(|rare| is_empty(rare));
    }

    pub fn series(&self) -> Option<&Series> {
        self.rare.as_ref()?.series.as_deref()
    }

    pub fn take_series(&mut self) -> Option<Box<Series>> {
        self.rare.as_mut()?.series.take()
    }

    pub fn series_mut(&mut self) -> Option<&mut Series> {
        self.rare.as_mut()?.series.as_deref_mut()
    }

    pub fn stream(&self) -> Option<StreamTag> {
        self.rare.as_ref()?.stream
    }

    /// Its automatic removal.
    pub fn removal(&self) -> Option<Key> {
        self.rare.as_ref()?.removal
    }

    /// Whether somebody wants to know how many subscribers it has.
    pub fn is_counted(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.subscribers.is_some())
    }
}

/// A part of path order. Its ends are places in it: there need not be topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    pub start: Bound<TopicPath>,
    pub end: Bound<TopicPath>,
}

impl Default for Span {
    fn default() -> Self {
        Self { start: Bound::Unbounded, end: Bound::Unbounded }
    }
}

impl Span {
    /// The one place.
    pub fn of_path(path: &str) -> Self {
        let path = TopicPath::of_branch(path);
        Self { start: Bound::Included(path.clone()), end: Bound::Included(path) }
    }

    /// Where all lies that the selector matches.
    pub fn of_selector(selector: &Selector) -> Self {
        selector.exact_path().map_or_else(|| Self::of_branch(selector.prefix()), Self::of_path)
    }

    /// `branch` and all below it; everything where it is empty.
    pub fn of_branch(branch: &str) -> Self {
        if branch.is_empty() {
            return Self::default();
        }
        Self { start: Bound::Included(TopicPath::of_branch(branch)), end: Bound::Excluded(behind_branch(branch)) }
    }

    pub fn contains(&self, path: &TopicPath) -> bool {
        (self.start.as_ref(), self.end.as_ref()).contains(path)
    }

    /// What is in both.
    pub fn and(self, other: Self) -> Self {
        let rank = |bound: &Bound<TopicPath>, excluded: u8| match bound {
            Bound::Included(path) => Some((path.clone(), 1)),
            Bound::Excluded(path) => Some((path.clone(), excluded)),
            Bound::Unbounded => None,
        };
        // No bound is the least start, and the greatest end.
        let start = if rank(&self.start, 2) >= rank(&other.start, 2) { self.start } else { other.start };
        let end = match (rank(&self.end, 0), rank(&other.end, 0)) {
            (None, _) => other.end,
            (Some(_), None) => self.end,
            (Some(a), Some(b)) => {
                if a <= b {
                    self.end
                } else {
                    other.end
                }
            }
        };
        Self { start, end }
    }

    /// What is left of it from `place` on.
    fn starting_at(self, direction: Direction, place: Bound<TopicPath>) -> Self {
        match direction {
            Direction::Forward => Self { start: place, ..self },
            Direction::Backward => Self { end: place, ..self },
        }
    }

    pub fn is_empty(&self) -> bool {
        match (&self.start, &self.end) {
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
            (Bound::Included(start), Bound::Included(end)) => start > end,
            (Bound::Included(start) | Bound::Excluded(start), Bound::Included(end) | Bound::Excluded(end)) => start >= end,
        }
    }
}

/// The first place in path order behind all that lies in `branch`: the lowest byte that may follow, where `/` counts as lower still.
pub(crate) fn behind_branch(branch: &str) -> TopicPath {
    TopicPath::of_branch(&format!("{branch}\0"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Forward,
    Backward,
}

/// How a scan goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Onward {
    Next,
    Stop,
    /// Past the rest of the branch that the path's first so many segments name.
    SkipBranch(usize),
}

/// A topic's place in the tree; stale as soon as the topic is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u32);

/// Topics by their index. They stay where they are: one more chunk is a little work at any size, a longer vector a copy of all.
#[derive(Default)]
struct Topics {
    chunks: Vec<Vec<Option<Topic>>>,
    len: usize,
}

impl Topics {
    const CHUNK: usize = 1024;

    fn len(&self) -> usize {
        self.len
    }

    fn get(&self, index: u32) -> &Option<Topic> {
        &self.chunks[index as usize / Self::CHUNK][index as usize % Self::CHUNK]
    }

    fn get_mut(&mut self, index: u32) -> &mut Option<Topic> {
        &mut self.chunks[index as usize / Self::CHUNK][index as usize % Self::CHUNK]
    }

    /// One more place, empty.
    fn push(&mut self) {
        match self.chunks.last_mut().filter(|chunk| chunk.len() < Self::CHUNK) {
            Some(chunk) => chunk.push(None),
            None => {
                let mut chunk = Vec::with_capacity(Self::CHUNK);
                chunk.push(None);
                self.chunks.push(chunk);
            }
        }
        self.len += 1;
    }
}

/// A topic in the table of paths. It holds its hash, so that the table grows without a look at every topic.
struct Slot {
    index: u32,
    hash: u32,
}

fn short_hash(path: &str) -> u32 {
    xxh3_64(path.as_bytes()) as u32
}

/// The table uses the low bits of a hash, and its highest ones.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

#[derive(Default)]
pub struct Tree {
    topics: Topics,
    free: Vec<u32>,
    by_path: HashTable<Slot>,
    order: BTreeMap<TopicPath, u32>,
}

impl Tree {
    pub fn len(&self) -> usize {
        self.topics.len() - self.free.len()
    }

    pub fn find(&self, path: &str) -> Option<Place> {
        let topics = &self.topics;
        let hash = short_hash(path);
        self.by_path.find(spread(hash), |slot| slot.hash == hash && path_at(topics, slot.index) == path).map(|slot| Place(slot.index))
    }

    pub fn topic(&self, place: Place) -> &Topic {
        self.topics.get(place.0).as_ref().expect("a place is used only while its topic stands")
    }

    pub fn topic_mut(&mut self, place: Place) -> &mut Topic {
        self.topics.get_mut(place.0).as_mut().expect("a place is used only while its topic stands")
    }

    /// Adds a topic where none is.
    pub fn insert(&mut self, topic: Topic) -> Place {
        assert!(self.find(topic.path.as_str()).is_none(), "one topic a path");
        let path = topic.path.clone();
        let index = self.free.pop().unwrap_or_else(|| {
            self.topics.push();
            u32::try_from(self.topics.len() - 1).expect("a shard holds fewer than 2^32 topics")
        });
        *self.topics.get_mut(index) = Some(topic);
        let hash = short_hash(path.as_str());
        self.by_path.insert_unique(spread(hash), Slot { index, hash }, |slot| spread(slot.hash));
        self.order.insert(path, index);
        Place(index)
    }

    pub fn remove(&mut self, path: &str) -> Option<Topic> {
        let topics = &self.topics;
        let hash = short_hash(path);
        let entry = self.by_path.find_entry(spread(hash), |slot| slot.hash == hash && path_at(topics, slot.index) == path).ok()?;
        let (Slot { index, .. }, _) = entry.remove();
        let topic = self.topics.get_mut(index).take().expect("an indexed topic stands");
        self.order.remove(&topic.path);
        self.free.push(index);
        Some(topic)
    }

    /// Visits what `selector` matches in `span`, at most `budget` topics in one call. Returns where to go on (in the direction of the scan: behind
    /// that path), or `None` at the end. A visit that stops leaves its topic to be visited again.
    pub fn scan(
        &self,
        selector: &Selector,
        span: &Span,
        direction: Direction,
        mut budget: usize,
        visit: impl FnMut(Place, &Topic) -> Onward,
    ) -> Option<Span> {
        self.scan_within(selector, span, direction, &mut budget, visit)
    }

    /// The same, taking off `budget` what it walked; at 0 one more topic is looked at all the same.
    pub fn scan_within(
        &self,
        selector: &Selector,
        span: &Span,
        direction: Direction,
        budget: &mut usize,
        mut visit: impl FnMut(Place, &Topic) -> Onward,
    ) -> Option<Span> {
        let mut rest = span.clone().and(Span::of_branch(selector.prefix()));
        'again: while !rest.is_empty() {
            let range = self.order.range((rest.start.clone(), rest.end.clone()));
            let mut forward = range;
            while let Some((path, index)) = if direction == Direction::Forward { forward.next() } else { forward.next_back() } {
                *budget = budget.saturating_sub(1);
                let step = if selector.matches(path.as_str()) { visit(Place(*index), self.topic(Place(*index))) } else { Onward::Next };
                match step {
                    Onward::Stop => return Some(rest.starting_at(direction, Bound::Included(path.clone()))),
                    Onward::Next if *budget == 0 => return Some(rest.starting_at(direction, Bound::Excluded(path.clone()))),
                    Onward::Next => {}
                    Onward::SkipBranch(segments) => {
                        let branch = branch_of(path.as_str(), segments).unwrap_or(path.as_str());
                        let behind = match direction {
                            Direction::Forward => Bound::Included(behind_branch(branch)),
                            Direction::Backward => Bound::Excluded(TopicPath::of_branch(branch)),
                        };
                        rest = rest.starting_at(direction, behind);
                        if *budget == 0 {
                            return Some(rest);
                        }
                        continue 'again;
                    }
                }
            }
            return None;
        }
        None
    }
}

/// The first `segments` segments of a path; `None` where it has fewer.
pub fn branch_of(path: &str, segments: usize) -> Option<&str> {
    let ends = path.bytes().enumerate().filter(|(_, byte)| *byte == b'/').map(|(at, _)| at).chain([path.len()]);
    ends.take(segments).nth(segments.checked_sub(1)?).map(|end| &path[..end])
}

fn path_at(topics: &Topics, index: u32) -> &str {
    topics.get(index).as_ref().expect("an indexed topic stands").path.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::selector::SelectorLimits;
    use crate::topic::specification::SpecificationLimits;

    fn tree(paths: &[&str]) -> Tree {
        let mut tree = Tree::default();
        for (number, path) in paths.iter().enumerate() {
            let path = TopicPath::parse(path, 100).unwrap();
            let specification = Specification::parse(TopicType::Json, [].into_iter(), SpecificationLimits::default()).unwrap();
            tree.insert(Topic::new(TopicId(number as u64 + 1), path, Arc::new(specification)));
        }
        tree
    }

    #[test]
    fn what_few_topics_have_is_small() {
        assert!(size_of::<Rare>() <= 80);
        let mut topic = Topic::new(TopicId(1), at("a"), tree(&["a"]).topic(Place(0)).specification.clone());
        topic.rare_mut().subscribers = Some(Vec::new());
        topic.drop_empty_rare();
        assert!(topic.is_counted());
        topic.rare_mut().subscribers = None;
        topic.drop_empty_rare();
        assert!(topic.rare.is_none());
    }

    fn check_scan(selector: &str, span: Span, expected: &[&str]) {
        let tree = tree(&["b", "a/c", "a", "a/b/c", "a-b", "ab", "a/b"]);
        let selector = Selector::parse(selector, SelectorLimits::default()).unwrap();
        for (direction, budget) in [Direction::Forward, Direction::Backward].into_iter().flat_map(|d| (1..10).map(move |b| (d, b))) {
            let mut seen = Vec::new();
            let mut rest = Some(span.clone());
            while let Some(span) = rest {
                rest = tree.scan(&selector, &span, direction, budget, |_, topic| {
                    seen.push(topic.path.as_str().to_owned());
                    Onward::Next
                });
            }
            if direction == Direction::Backward {
                seen.reverse();
            }
            assert_eq!(seen, expected, "{direction:?} budget {budget}");
        }
    }

    fn at(path: &str) -> TopicPath {
        TopicPath::of_branch(path)
    }

    #[test]
    fn a_scan_goes_both_ways_within_its_span() {
        check_scan("?.*//", Span::default(), &["a", "a/b", "a/b/c", "a/c", "a-b", "ab", "b"]);
        check_scan("?a//", Span { start: Bound::Excluded(at("a/b")), end: Bound::Unbounded }, &["a/b/c", "a/c"]);
        check_scan("?.*//", Span { start: Bound::Included(at("a/b/x")), end: Bound::Included(at("ab")) }, &["a/c", "a-b", "ab"]);
        check_scan("?.*//", Span { start: Bound::Included(at("b")), end: Bound::Excluded(at("a")) }, &[]);
        check_scan("?.*//", Span { start: Bound::Excluded(at("a")), end: Bound::Excluded(at("a")) }, &[]);
        check_scan("?a//", Span::default(), &["a", "a/b", "a/b/c", "a/c"]);
        check_scan("?a/", Span::default(), &["a/b", "a/b/c", "a/c"]);
        check_scan("?a/", Span { start: Bound::Excluded(at("z")), end: Bound::Unbounded }, &[]);
        check_scan("a/b", Span::default(), &["a/b"]);
        check_scan("?a/", Span { start: Bound::Unbounded, end: Bound::Excluded(at("a/c")) }, &["a/b", "a/b/c"]);
    }

    #[test]
    fn a_scan_skips_the_rest_of_a_branch() {
        let tree = tree(&["a/b/1", "a/b/2", "a/b", "a/b-1", "a/c/1", "a/c/2", "d"]);
        let selector = Selector::parse("?.*//", SelectorLimits::default()).unwrap();
        for (direction, expected) in
            [(Direction::Forward, ["a/b", "a/b-1", "a/c/1", "d"]), (Direction::Backward, ["d", "a/c/2", "a/b-1", "a/b/2"])]
        {
            let mut seen = Vec::new();
            tree.scan(&selector, &Span::default(), direction, 100, |_, topic| {
                seen.push(topic.path.as_str().to_owned());
                Onward::SkipBranch(2)
            });
            assert_eq!(seen, expected);
        }
    }

    #[test]
    fn a_branch_is_made_of_whole_segments() {
        assert_eq!(branch_of("a/bc/d", 1), Some("a"));
        assert_eq!(branch_of("a/bc/d", 2), Some("a/bc"));
        assert_eq!(branch_of("a/bc/d", 3), Some("a/bc/d"));
        assert_eq!(branch_of("a/bc/d", 4), None);
        assert_eq!(branch_of("a", 0), None);
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
