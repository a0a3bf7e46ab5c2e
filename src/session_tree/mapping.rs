//! What one session finds where.
//!
//! A session path is under the longest of the mapping's branches that holds it; the topic that it means lies at the same place under that branch's topics. A
//! path under none means the topic of that very path. So a topic may be found at several paths or at none, and a path means one topic at most.

use super::moved;
use crate::topic::path::{TopicPath, compare, is_within};
use crate::topic::selector::{self, Selector};
use crate::topic::tree::Span;
use std::borrow::Cow;
use std::ops::Bound;
use std::sync::Arc;

/// See the module. Only branches that change something are held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mapping {
    /// In path order; `None` where paths mean themselves again, below a branch that is mapped.
    branches: Box<[(TopicPath, Option<TopicPath>)]>,
}

/// A branch of session paths and that of its topics; both are empty for what no branch of the mapping holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    pub session: Box<str>,
    pub topics: Box<str>,
    /// Branches of session paths that are other regions.
    except: Arc<[TopicPath]>,
}

impl Region {
    /// The path by which a session finds a topic here, if it does.
    pub fn session_path(&self, topic: &str) -> Option<String> {
        if !is_within(topic, &self.topics) {
            return None;
        }
        let path = moved(topic, &self.topics, &self.session);
        // Bounded by `session_trees.tables_max`.
        let is_elsewhere = self.except.iter().any(|branch| is_within(&path, branch.as_str()));
        (!is_elsewhere).then_some(path)
    }

    /// Where the topics are to be looked for of which the session paths are in `span` and match the selector.
    pub fn topics_of(&self, selector: &Selector, span: &Span) -> Span {
        let within = Span::of_branch(&self.session).and(Span::of_selector(selector)).and(span.clone());
        if within.is_empty() {
            return within;
        }
        let place = |path: &TopicPath| {
            let is_here = is_within(path.as_str(), &self.session);
            is_here.then(|| TopicPath::of_branch(&moved(path.as_str(), &self.session, &self.topics)))
        };
        // What is no place here is the end of the branch.
        let Span { start: first, end: last } = Span::of_branch(&self.topics);
        let start = match &within.start {
            Bound::Included(path) => place(path).map_or(first, Bound::Included),
            Bound::Excluded(path) => place(path).map_or(first, Bound::Excluded),
            Bound::Unbounded => first,
        };
        let end = match &within.end {
            Bound::Included(path) => place(path).map_or(last, Bound::Included),
            Bound::Excluded(path) => place(path).map_or(last, Bound::Excluded),
            Bound::Unbounded => last,
        };
        Span { start, end }
    }

    /// A depth of session paths as one of topics' paths.
    pub fn topic_depth(&self, segments: usize) -> usize {
        let depth = |branch: &str| if branch.is_empty() { 0 } else { branch.split('/').count() };
        (segments + depth(&self.topics)).saturating_sub(depth(&self.session)).max(depth(&self.topics))
    }
}

impl Mapping {
    /// Of the branches of all tables in path order, with what the session's rows say.
    pub fn new<'t>(tables: impl Iterator<Item = (&'t TopicPath, Option<&'t str>)>) -> Self {
        let mut branches: Vec<(TopicPath, Option<TopicPath>)> = Vec::new();
        for (branch, topics) in tables {
            let topics = topics.filter(|topics| *topics != branch.as_str()).map(TopicPath::of_branch);
            // In path order the nearest branch above is the last one that holds it.
            let above = branches.iter().rev().find(|(above, _)| is_within(branch.as_str(), above.as_str()));
            let is_mapped_above = above.is_some_and(|(_, topics)| topics.is_some());
            if topics.is_some() || is_mapped_above {
                branches.push((branch.clone(), topics));
            }
        }
        Self { branches: branches.into() }
    }

    /// Whether every path means itself.
    pub fn is_empty(&self) -> bool {
        self.branches.is_empty()
    }

    /// The branch that holds the session path.
    fn branch_of(&self, path: &str) -> Option<usize> {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        let find = |end: usize| self.branches.binary_search_by(|(branch, _)| compare(branch.as_str(), &path[..end])).ok();
        // One for each level of the path.
        ends.filter_map(find).next_back()
    }

    /// The path of the topic that a session path means.
    pub fn resolve<'p>(&self, path: &'p str) -> Cow<'p, str> {
        match self.branch_of(path).map(|at| &self.branches[at]) {
            Some((branch, Some(topics))) => Cow::Owned(moved(path, branch.as_str(), topics.as_str())),
            _ => Cow::Borrowed(path),
        }
    }

    /// The session paths that mean a topic, in path order.
    pub fn paths_of(&self, topic: &str) -> Vec<TopicPath> {
        let is_itself = |path: &str| self.branch_of(path).is_none_or(|at| self.branches[at].1.is_none());
        let mut paths: Vec<TopicPath> = is_itself(topic).then(|| TopicPath::of_branch(topic)).into_iter().collect();
        // Bounded by `session_trees.tables_max`.
        for (at, (branch, topics)) in self.branches.iter().enumerate() {
            let Some(topics) = topics.as_ref().filter(|topics| is_within(topic, topics.as_str())) else { continue };
            let path = moved(topic, topics.as_str(), branch.as_str());
            if self.branch_of(&path) == Some(at) {
                paths.push(TopicPath::of_branch(&path));
            }
        }
        paths.sort_unstable();
        paths
    }

    /// Selectors of topics, beside the one given, that together match all topics which the selector means by mapped paths. What else they match is to
    /// be left out.
    pub fn derived(&self, selector: &Selector) -> Vec<String> {
        if let Some(path) = selector.exact_path() {
            return match self.resolve(path) {
                Cow::Owned(topic) => vec![format!(">{topic}")],
                Cow::Borrowed(_) => Vec::new(),
            };
        }
        self.derived_below(selector.prefix())
    }

    /// The same for all that lies in a branch of session paths.
    pub fn derived_below(&self, prefix: &str) -> Vec<String> {
        let mut derived: Vec<String> = Vec::new();
        for (branch, topics) in &self.branches {
            let Some(topics) = topics else { continue };
            if let Some(topics) = overlap(prefix, branch.as_str(), topics.as_str()) {
                derived.push(selector::text_of_branch(&topics));
            }
        }
        derived.sort_unstable();
        derived.dedup();
        derived
    }

    /// The regions that may hold what a selector of session paths matches.
    pub fn regions(&self, selector: &Selector) -> Vec<Region> {
        let prefix = selector.prefix();
        let within = |branch: &str| -> Arc<[TopicPath]> {
            let below = |held: &&(TopicPath, _)| held.0.as_str() != branch && is_within(held.0.as_str(), branch);
            self.branches.iter().filter(below).map(|(held, _)| held.clone()).collect()
        };
        let holder = self.branch_of(prefix);
        let mut regions = Vec::new();
        if holder.is_none() {
            regions.push(Region { session: "".into(), topics: "".into(), except: within("") });
        }
        for (at, (branch, topics)) in self.branches.iter().enumerate() {
            let is_met = match (holder == Some(at), selector.exact_path()) {
                (true, _) => true,
                (false, Some(_)) => false,
                (false, None) => is_within(branch.as_str(), prefix),
            };
            if is_met {
                let topics = topics.as_ref().unwrap_or(branch).as_str().into();
                regions.push(Region { session: branch.as_str().into(), topics, except: within(branch.as_str()) });
            }
        }
        regions
    }

    /// The branches of session paths in which the two differ.
    pub fn changed_branches(&self, other: &Self) -> Vec<TopicPath> {
        let differing = [(self, other), (other, self)]
            .into_iter()
            .flat_map(|(one, two)| one.branches.iter().filter(|held| !two.branches.contains(held)).map(|(branch, _)| branch.clone()));
        outermost(differing.collect())
    }

    /// The branches in which the two differ: of session paths, and those of the topics that paths below mean by the one and by the other.
    pub fn changes(&self, other: &Self) -> Vec<TopicPath> {
        let mut changed = Vec::new();
        for (one, two) in [(self, other), (other, self)] {
            for (branch, topics) in one.branches.iter().filter(|held| !two.branches.contains(held)) {
                changed.push(branch.clone());
                changed.extend(topics.clone());
                changed.push(TopicPath::of_branch(&two.resolve(branch.as_str())));
            }
        }
        outermost(changed)
    }
}

/// Leaves out what lies in another branch.
fn outermost(mut branches: Vec<TopicPath>) -> Vec<TopicPath> {
    branches.sort_unstable();
    branches.dedup_by(|next, held| is_within(next.as_str(), held.as_str()));
    branches
}

/// The branch of topics in which those of a mapped branch lie that a selector with this prefix may mean.
fn overlap(prefix: &str, branch: &str, topics: &str) -> Option<String> {
    if is_within(branch, prefix) {
        Some(topics.to_owned())
    } else if is_within(prefix, branch) {
        Some(moved(prefix, branch, topics))
    } else {
        None
    }
}
