//! A view that comes, changes or goes finds its topics slice by slice.

use super::View;
use super::work::Job;
use crate::desk::Desk;
use crate::mail::views::Told;
use crate::owner::Owner;
use crate::topic::selector::Selector;
use crate::topic::tree::{Direction, Onward, Place, Span};

/// Topics that are looked at for one unit of work.
const TOPICS_PER_UNIT: usize = 4;

/// The most units of work that one slice of a walk takes; the rest of the walk follows in later turns.
const UNITS_MAX: usize = 256;

/// One view's way over the topics: first those that its old definition selects, then those of the new one.
pub struct ViewWalk {
    place: u64,
    old: Option<(Selector, Span)>,
    new: Option<(Selector, Span)>,
    told: Option<Told>,
}

impl Owner {
    /// `old` is the selector that the view had.
    pub(super) fn start_view_walk(&mut self, place: u64, old: Option<Selector>, told: Option<Told>) {
        let view = self.views.by_place.get(&place).expect("it was just there");
        let new = (!view.is_ending && view.definition.remote.is_none()).then(|| (view.definition.selector.clone(), Span::default()));
        let old = old.map(|selector| (selector, Span::default()));
        self.views.work.push_walk(ViewWalk { place, old, new, told });
    }

    /// A walk that looks at nothing, and so tells when the walks before it are done.
    pub(super) fn start_empty_walk(&mut self, place: u64, told: Told) {
        self.views.work.push_walk(ViewWalk { place, old: None, new: None, told: Some(told) });
    }

    /// A slice of the first walk; whether there was anything to do.
    pub(super) fn walk_views(&mut self, desk: &mut Desk) -> bool {
        if self.views.work.is_full() {
            return false;
        }
        let Some(mut walk) = self.views.work.pop_walk() else { return false };
        if let Some((selector, rest)) = walk.old.take() {
            walk.old = self.unlink_slice(desk, walk.place, &selector, &rest).map(|rest| (selector, rest));
        } else if let Some((selector, rest)) = walk.new.take() {
            walk.new = self.link_slice(desk, walk.place, &selector, &rest).map(|rest| (selector, rest));
        }
        if walk.old.is_some() || walk.new.is_some() {
            // Walks are done in order: a later one of the same view builds on this.
            self.views.work.return_walk(walk);
            return true;
        }
        if self.views.by_place.get(&walk.place).is_some_and(|view| view.is_ending && view.sources == 0) {
            self.views.by_place.remove(&walk.place);
        }
        if let Some(told) = walk.told {
            self.views.work.push(Job::Tell(told));
        }
        true
    }

    fn link_slice(&mut self, desk: &mut Desk, view: u64, selector: &Selector, rest: &Span) -> Option<Span> {
        // A definition that was replaced meanwhile makes nothing: the walk for the newer one follows.
        let selects = |held: &View| !held.is_ending && held.definition.remote.is_none() && held.definition.selector == *selector;
        if !self.views.by_place.get(&view).is_some_and(selects) {
            return None;
        }
        let (found, next) = self.view_slice(selector, rest);
        for place in found {
            let topic = self.tree.topic(place);
            let (id, is_source) = (topic.id, topic.is_source);
            if self.views.by_place.get(&view).is_some_and(|view| view.may_read(topic)) {
                self.link_view(place, id, view);
            } else if is_source {
                self.unlink_derivation(desk, id, view);
            }
        }
        next
    }

    fn unlink_slice(&mut self, desk: &mut Desk, view: u64, selector: &Selector, rest: &Span) -> Option<Span> {
        let (found, next) = self.view_slice(selector, rest);
        for place in found {
            let topic = self.tree.topic(place);
            let wants =
                |held: &View| !held.is_ending && held.definition.remote.is_none() && held.definition.selector.matches(topic.path.as_str());
            if topic.is_source && !self.views.by_place.get(&view).is_some_and(wants) {
                self.unlink_derivation(desk, topic.id, view);
            }
        }
        next
    }

    /// What the selector matches in the next part of the tree, and what is left of it.
    fn view_slice(&mut self, selector: &Selector, rest: &Span) -> (Vec<Place>, Option<Span>) {
        let mut found = Vec::new();
        let budget = self.views.work.turn.units_left.clamp(1, UNITS_MAX) * TOPICS_PER_UNIT;
        let mut left = budget;
        let next = self.tree.scan_within(selector, rest, Direction::Forward, &mut left, |place, _| {
            found.push(place);
            Onward::Next
        });
        self.views.work.spend((budget - left) / TOPICS_PER_UNIT);
        (found, next)
    }
}
