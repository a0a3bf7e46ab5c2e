//! What is done to very many topics or events though nobody waits for an answer: removing what policies select, ending counts of subscribers, forgetting
//! interests, and giving back the memory of series.
//!
//! One slice a turn, whatever waits: errands take turns with each other and with all else that the shard does.

use super::decide::check_storage;
use super::walk::known_selector;
use crate::base::ShardIndex;
use crate::desk::Desk;
use crate::mail::Mail;
use crate::owner::Owner;
use crate::owner::leaving::Left;
use crate::series::Gone;
use crate::topic::selector::Selector;
use crate::topic::tree::{Direction, Onward, Place, Span};
use std::collections::VecDeque;

enum Errand {
    Remove {
        selector: Box<str>,
    },
    /// Of the selector that is noted.
    EndCounting,
    Removing(Selector, Span),
    EndingCounts(Selector, Span),
    /// A shard's interest in the selector has ended.
    Forgetting(ShardIndex, Selector, Span),
    /// Events' memory is given back.
    Discarding(Gone),
}

#[derive(Default)]
pub struct Errands {
    waiting: VecDeque<Errand>,
    /// The selectors of removals that have not begun.
    removals: hashbrown::HashSet<Box<str>>,
    /// By which selector nobody listens to subscribers any more, where that has not begun.
    ending: Option<Selector>,
}

impl Errands {
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// A removal policy removes what its selector matches. One that finds no room comes back if it stays due.
    pub fn remove(&mut self, selector: Box<str>, removals_max: usize) {
        if self.removals.len() < removals_max && self.removals.insert(selector.clone()) {
            self.waiting.push_back(Errand::Remove { selector });
        }
    }

    /// Nobody listens by the selector any more.
    pub fn end_counting(&mut self, selector: Selector, everything: &Selector) {
        match &mut self.ending {
            // One errand does for all selectors that come while it waits. It looks at every topic then, and leaves the counts that somebody needs.
            Some(held) if *held != selector => *held = everything.clone(),
            Some(_) => {}
            None => {
                self.ending = Some(selector);
                self.waiting.push_back(Errand::EndCounting);
            }
        }
    }
}

impl Owner {
    pub fn remove_selected(&mut self, desk: &Desk, selector: Box<str>) {
        self.errands.remove(selector, desk.limits.removals_max);
    }

    /// Does a slice of the first errand, and puts it behind the others if it is not done.
    pub fn run_errand(&mut self, desk: &mut Desk) {
        let Some(errand) = self.errands.waiting.pop_front() else { return };
        let next = match errand {
            Errand::Remove { selector } => {
                self.errands.removals.remove(&selector);
                let selector = known_selector(desk.limits.selector, &selector);
                self.remove_slice(desk, selector, Span::default())
            }
            Errand::EndCounting => {
                let selector = self.errands.ending.take().expect("an errand begins once");
                self.end_counts_slice(desk, selector, Span::default())
            }
            Errand::Removing(selector, rest) => self.remove_slice(desk, selector, rest),
            Errand::EndingCounts(selector, rest) => self.end_counts_slice(desk, selector, rest),
            Errand::Forgetting(from, selector, rest) => {
                let mut budget = desk.limits.walk_slice;
                self.forget_slice(desk, from, selector, rest, &mut budget)
            }
            Errand::Discarding(mut gone) => gone.drop_part().then_some(Errand::Discarding(gone)),
        };
        self.errands.waiting.extend(next);
    }

    /// Gives back the memory of events: at once where they are few.
    pub(super) fn discard(&mut self, gone: Gone) {
        if !gone.is_small() {
            self.errands.waiting.push_back(Errand::Discarding(gone));
        }
    }

    /// Takes `from` off the topics that no other selector of it matches, and tells it so: its table follows the owner's word alone. What this turn does
    /// not do is left to an errand. Who selects them again meanwhile is left where it is.
    pub(super) fn forget_interest(&mut self, desk: &mut Desk, from: ShardIndex, selector: Selector) {
        let mut budget = desk.turn.walk_budget;
        let rest = Span::of_selector(&selector);
        let next = if budget > 0 {
            self.forget_slice(desk, from, selector, rest, &mut budget)
        } else {
            Some(Errand::Forgetting(from, selector, rest))
        };
        desk.turn.walk_budget = budget.min(desk.turn.walk_budget.saturating_sub(1));
        self.errands.waiting.extend(next);
    }

    fn forget_slice(&mut self, desk: &mut Desk, from: ShardIndex, selector: Selector, rest: Span, budget: &mut usize) -> Option<Errand> {
        let mut places = Vec::new();
        let next = self.tree.scan_within(&selector, &rest, Direction::Forward, budget, |place, topic| {
            if topic.interested.contains(from) && !self.interests.selecting(topic.path.as_str()).contains(from) {
                places.push(place);
            }
            Onward::Next
        });
        for place in places {
            let topic = self.tree.topic_mut(place);
            topic.interested.remove(from);
            let id = topic.id;
            self.count_subscribers(desk, place, from, 0);
            desk.mail(from, Mail::Forgotten { id });
        }
        next.map(|rest| Errand::Forgetting(from, selector, rest))
    }

    fn remove_slice(&mut self, desk: &mut Desk, selector: Selector, rest: Span) -> Option<Errand> {
        let mut paths = Vec::new();
        let next = self.tree.scan(&selector, &rest, Direction::Forward, desk.limits.walk_slice, |_, topic| {
            // Topics that views make stand as long as their views make them.
            if !topic.is_reference {
                paths.push(topic.path.clone());
            }
            Onward::Next
        });
        for path in paths {
            // What storage cannot take now is left for the next time that the policy removes.
            if let Some(group) = desk.groups.of(path.as_str()) {
                let left = self.remove_of_group(desk, group, &path, true);
                desk.report.expired += u64::from(left == Left::Going);
                continue;
            }
            let place = self.tree.find(path.as_str()).expect("the removal of one topic takes no other along");
            if check_storage(desk, &self.tree.topic(place).specification).is_ok() {
                self.remove_topic(desk, place);
                desk.report.expired += 1;
            }
        }
        next.map(|rest| Errand::Removing(selector, rest))
    }

    fn end_counts_slice(&mut self, desk: &mut Desk, selector: Selector, rest: Span) -> Option<Errand> {
        let mut places: Vec<Place> = Vec::new();
        let next = self.tree.scan(&selector, &rest, Direction::Forward, desk.limits.walk_slice, |place, topic| {
            if topic.is_counted() {
                places.push(place);
            }
            Onward::Next
        });
        for place in places {
            self.stop_counting(desk, place);
        }
        next.map(|rest| Errand::EndingCounts(selector, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removals_are_bounded_and_one_selector_waits_once() {
        let mut errands = Errands::default();
        for selector in ["?a/", "?b/", "?a/", "?c/"] {
            errands.remove(selector.into(), 2);
        }
        assert_eq!(errands.len(), 2, "the last found no room");
    }
}
