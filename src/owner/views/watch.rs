//! Values of other topics that a view looks at: inserted ones, and scalars of ancestors.
//!
//! Whoever evaluates asks the topic's owner once and is told of every change from then on, in order. What is not known yet is waited for.

use super::rights::Reader;
use super::source::Pending;
use crate::base::{ShardIndex, ShardSet, TopicId};
use crate::desk::Desk;
use crate::mail::Mail;
use crate::mail::views::{Ancestry, Seen};
use crate::owner::Owner;
use crate::topic::path::TopicPath;
use crate::topic::tree::Place;
use crate::view::evaluate::{Looked, Topics};
use hashbrown::{HashMap, HashSet};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A topic that views on this shard look at.
struct Watched {
    state: State,
    /// The derivations that look at it, by topic and view.
    dependents: BTreeSet<(TopicId, u64)>,
    /// How many dependents have not heard of the last change.
    behind: usize,
    /// The first of those; they go on from the last dependent to the first of all.
    next: (TopicId, u64),
}

/// Who looks at what.
#[derive(Default)]
pub struct Watches {
    /// Of topics that this shard owns: the shards that look at them.
    watchers: HashMap<TopicPath, ShardSet>,
    /// The topics that views here look at.
    watched: HashMap<TopicPath, Watched>,
}

impl Watches {
    /// Topics that are looked at, here and by views here.
    pub fn counts(&self) -> [usize; 2] {
        [self.watchers.len(), self.watched.len()]
    }

    pub fn has_watchers(&self) -> bool {
        !self.watchers.is_empty()
    }
}

/// How many dependents hear of a change in one slice; the rest hear of it in the next.
const SPREAD_SLICE: usize = 256;

enum State {
    Asked,
    Missing,
    There(Seen),
}

/// The topics that one evaluation looks at.
pub struct Looking<'w> {
    watched: &'w HashMap<TopicPath, Watched>,
    reader: &'w Reader,
    paths: Vec<TopicPath>,
    /// The same, where there are many.
    seen: HashSet<TopicPath>,
}

/// So many paths are looked through; more have a table.
const SCANNED_MAX: usize = 16;

impl<'w> Looking<'w> {
    pub fn new(watches: &'w Watches, reader: &'w Reader) -> Self {
        Self { watched: &watches.watched, reader, paths: Vec::new(), seen: HashSet::new() }
    }

    pub fn into_paths(self) -> Vec<TopicPath> {
        self.paths
    }

    fn has(&self, path: &str) -> bool {
        if self.paths.len() <= SCANNED_MAX { self.paths.iter().any(|held| held.as_str() == path) } else { self.seen.contains(path) }
    }

    fn push(&mut self, path: TopicPath) {
        if self.paths.len() == SCANNED_MAX {
            self.seen.extend(self.paths.iter().cloned());
        }
        if self.paths.len() >= SCANNED_MAX {
            self.seen.insert(path.clone());
        }
        self.paths.push(path);
    }
}

impl Topics for Looking<'_> {
    fn look(&mut self, path: &str) -> Looked<'_> {
        // What the view's creator may not read is not there. Whether he owns it is known of a topic that is looked at.
        let may_read = self.reader.may_read_at(path);
        if !may_read && !self.reader.may_own() {
            return Looked::Nothing;
        }
        if !self.has(path) {
            let held = self.watched.get_key_value(path).map(|(held, _)| held.clone());
            self.push(held.unwrap_or_else(|| TopicPath::of_branch(path)));
        }
        match self.watched.get(path).map(|watched| &watched.state) {
            None | Some(State::Asked) => Looked::Unknown,
            Some(State::Missing) => Looked::Nothing,
            Some(State::There(seen)) if !may_read && !self.reader.owns(&seen.specification) => Looked::Nothing,
            Some(State::There(seen)) => {
                let value = seen.latest.as_ref().and_then(|latest| latest.value());
                value.map_or(Looked::Nothing, |value| Looked::Value(seen.specification.value_type(), value))
            }
        }
    }
}

impl Owner {
    /// From here on the derivation looks at `paths` and at no others.
    pub(super) fn watch(&mut self, desk: &mut Desk, id: TopicId, view: u64, paths: Vec<TopicPath>) {
        let derivation = self.views.derivation(id, view);
        if derivation.watches == paths {
            return;
        }
        let old = std::mem::replace(&mut derivation.watches, paths.clone());
        for path in &paths {
            self.depend(desk, id, view, path);
        }
        let is_many = paths.len() > SCANNED_MAX;
        let kept: HashSet<&TopicPath> = if is_many { paths.iter().collect() } else { HashSet::new() };
        let is_kept = |path: &TopicPath| if is_many { kept.contains(path) } else { paths.contains(path) };
        let gone = old.into_iter().filter(|path| !is_kept(path)).collect();
        self.unwatch(desk, id, view, gone);
    }

    /// Whether the derivation looks at the path already.
    pub(super) fn is_watching(&self, id: TopicId, view: u64, path: &TopicPath) -> bool {
        self.views.watches.watched.get(path).is_some_and(|watched| watched.dependents.contains(&(id, view)))
    }

    /// From here on the derivation looks at the path.
    pub(super) fn depend(&mut self, desk: &mut Desk, id: TopicId, view: u64, path: &TopicPath) {
        let is_new = !self.views.watches.watched.contains_key(path);
        let watched = self.views.watches.watched.entry(path.clone());
        let watched =
            watched.or_insert_with(|| Watched { state: State::Asked, dependents: BTreeSet::new(), behind: 0, next: (TopicId(0), 0) });
        // The new dependent may stand among those that have still to hear of a change. One more hears of it then, so that none of them is left out.
        if watched.dependents.insert((id, view)) && watched.behind > 0 {
            watched.behind += 1;
        }
        if is_new {
            let owner = desk.owner_of(path.as_str());
            desk.mail(owner, Mail::Watch { path: path.clone() });
        }
    }

    pub(super) fn unwatch(&mut self, desk: &mut Desk, id: TopicId, view: u64, paths: Vec<TopicPath>) {
        for path in paths {
            let watched = self.views.watches.watched.get_mut(&path).expect("what a derivation looks at is watched");
            watched.dependents.remove(&(id, view));
            if watched.dependents.is_empty() {
                self.views.watches.watched.remove(&path);
                let owner = desk.owner_of(path.as_str());
                desk.mail(owner, Mail::Unwatch { path });
            }
        }
    }

    /// What is derived from a source of this ancestry and the topics at `looked`.
    pub(super) fn joined_ancestry(&self, source: &Arc<Ancestry>, looked: &[TopicPath]) -> Arc<Ancestry> {
        let mut joined = source.clone();
        for path in looked {
            // It can only become more. So this goes on for no more topics than something may be derived from.
            if joined.is_too_deep() {
                break;
            }
            let own = match self.views.watches.watched.get(path).map(|watched| &watched.state) {
                Some(State::There(seen)) => seen.ancestry.as_deref(),
                _ => None,
            };
            joined = Arc::new(joined.and(&Ancestry::of(path, own)));
        }
        joined
    }

    /// What an owner tells. A word on an earlier watch of the same path is older, and the newer one follows it.
    pub fn watched_told(&mut self, path: &TopicPath, value: Option<Seen>) {
        let Some(watched) = self.views.watches.watched.get_mut(path) else { return };
        watched.state = value.map_or(State::Missing, State::There);
        if watched.behind == 0 {
            self.views.work.push_spreading(path.clone());
        }
        watched.behind = watched.dependents.len();
    }

    /// Tells a slice of those that depend on a topic that has changed; whether there was anything to do.
    pub(super) fn spread_watched(&mut self) -> bool {
        if self.views.work.is_full() {
            return false;
        }
        let Some(path) = self.views.work.pop_spreading() else { return false };
        // Nobody may look at it any more.
        let Some(watched) = self.views.watches.watched.get_mut(&path) else { return true };
        let count = watched.behind.min(SPREAD_SLICE);
        let round = watched.dependents.range(watched.next..).chain(watched.dependents.range(..watched.next));
        let told: Vec<(TopicId, u64)> = round.copied().take(count).collect();
        watched.behind = (watched.behind - count).min(watched.dependents.len());
        watched.next = told.last().map_or((TopicId(0), 0), |(id, view)| (*id, view + 1));
        if watched.behind > 0 {
            self.views.work.push_spreading(path);
        }
        self.views.work.spend(told.len() / 16);
        for (id, view) in told {
            self.queue_derivation(id, view, Pending::Whole);
        }
        true
    }

    // The owner.

    pub fn start_watch(&mut self, desk: &mut Desk, from: ShardIndex, path: TopicPath) {
        self.views.watches.watchers.entry(path.clone()).or_default().insert(from);
        let value = self.tree.find(path.as_str()).map(|place| {
            self.tree.topic_mut(place).is_watched = true;
            self.seen(place)
        });
        desk.mail(from, Mail::Watched { path, value });
    }

    pub fn end_watch(&mut self, from: ShardIndex, path: &TopicPath) {
        let Some(watchers) = self.views.watches.watchers.get_mut(path) else { return };
        watchers.remove(from);
        if watchers.is_empty() {
            self.views.watches.watchers.remove(path);
            if let Some(place) = self.tree.find(path.as_str()) {
                self.tree.topic_mut(place).is_watched = false;
            }
        }
    }

    /// A topic has come, that somebody may wait for.
    pub(in crate::owner) fn link_watchers(&mut self, desk: &mut Desk, path: &TopicPath) {
        if self.views.watches.watchers.contains_key(path) {
            let place = self.tree.find(path.as_str()).expect("the topic was just entered");
            self.tree.topic_mut(place).is_watched = true;
            self.tell_watchers(desk, path);
        }
    }

    /// A watched topic has changed, or is gone.
    pub(in crate::owner) fn tell_watchers(&mut self, desk: &mut Desk, path: &TopicPath) {
        let watchers = *self.views.watches.watchers.get(path).expect("a topic is marked as long as it is watched");
        let value = self.tree.find(path.as_str()).map(|place| self.seen(place));
        for shard in watchers.iter() {
            desk.mail(shard, Mail::Watched { path: path.clone(), value: value.clone() });
        }
    }

    fn seen(&self, place: Place) -> Seen {
        let topic = self.tree.topic(place);
        let ancestry = topic.is_reference.then(|| self.standing_ancestry(topic.path.as_str()));
        Seen { specification: topic.specification.clone(), latest: topic.latest.clone(), ancestry }
    }
}
