//! Topics that owners have forgotten although sessions here wait for them to appear again.
//!
//! In the order of their paths, so that a selector finds its own without looking through all: one at a path, since another that appears there ends it. A
//! topic that its last subscriber leaves is not here any more. When all owners have answered an interest, what it matches and was here before was removed meanwhile: that is looked at a part at a time.

use super::ask::{Answer, Gather};
use super::session_trees::Answered;
use crate::audience::Audience;
use crate::base::TopicId;
use crate::desk::Desk;
use crate::protocol::Reason;
use crate::session::LocalTopic;
use crate::topic::path::TopicPath;
use crate::topic::selector::Selector;
use crate::topic::tree::Span;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

/// Topics that are looked at when the turn of an interest comes.
const PART: usize = 256;

/// See the module.
#[derive(Default)]
pub struct Limbo {
    topics: BTreeMap<TopicPath, Waiting>,
    /// Numbers those that came.
    newest: u64,
}

struct Waiting {
    topic: Rc<LocalTopic>,
    number: u64,
}

/// A part of what waits, and the last path that was looked at, where more may be behind it.
pub struct Part {
    pub topics: Vec<Rc<LocalTopic>>,
    pub looked: usize,
    pub last: Option<TopicPath>,
}

impl Limbo {
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    fn insert(&mut self, topic: Rc<LocalTopic>) {
        self.newest += 1;
        self.topics.insert(topic.path.clone(), Waiting { topic, number: self.newest });
    }

    /// Those in the span, in the order of their paths.
    pub fn topics_from(&self, span: &Span) -> impl Iterator<Item = Rc<LocalTopic>> + '_ {
        self.topics.range((span.start.clone(), span.end.clone())).map(|(_, waiting)| waiting.topic.clone())
    }

    pub fn get(&self, path: &TopicPath) -> Option<&Rc<LocalTopic>> {
        self.topics.get(path).map(|waiting| &waiting.topic)
    }

    pub fn take(&mut self, path: &TopicPath) -> Option<Rc<LocalTopic>> {
        if self.is_empty() {
            return None;
        }
        self.topics.remove(path).map(|waiting| waiting.topic)
    }

    /// The topic has no subscribers any more: where it waits, it does so no longer.
    pub fn forget(&mut self, topic: &LocalTopic) {
        if self.topics.get(&topic.path).is_some_and(|waiting| std::ptr::eq(&*waiting.topic, topic)) {
            self.topics.remove(&topic.path);
        }
    }

    /// Looks at so many in `span`; gives those that `selector` matches and that came up to the number `newest`.
    pub fn part(&self, span: &Span, selector: &Selector, newest: u64, count: usize) -> Part {
        let mut part = Part { topics: Vec::new(), looked: 0, last: None };
        for (path, waiting) in self.topics.range((span.start.clone(), span.end.clone())).take(count) {
            part.looked += 1;
            part.last = Some(path.clone());
            if waiting.number <= newest && selector.matches(path.as_str()) {
                part.topics.push(waiting.topic.clone());
            }
        }
        if part.looked < count {
            part.last = None;
        }
        part
    }
}

/// An interest that all owners have answered, and of which is left to look at what waits here, then whether it matches any topic at all.
pub struct Settling {
    ticket: u64,
    selector: Selector,
    /// What came later waits for another answer.
    newest: u64,
    rest: Span,
    is_settled: bool,
}

impl Audience {
    /// The owner has seen an interest end. Where a newer one is on its way, subscribers wait in limbo for the topic to appear again.
    pub fn topic_forgotten(&mut self, id: TopicId) {
        let Some(topic) = self.locals.known.remove(&id) else { return };
        self.locals.by_path.remove(&topic.path);
        if !topic.subscribers.borrow().is_empty() || topic.has_aliases.get() {
            self.locals.limbo.insert(topic);
        }
    }

    /// All owners have answered an interest.
    pub(super) fn interest_answered(&mut self, desk: &mut Desk, ticket: u64, selector: Selector) {
        let (newest, rest) = (self.locals.limbo.newest, Span::of_selector(&selector));
        let mut settling = Settling { ticket, selector, newest, rest, is_settled: self.locals.limbo.is_empty() };
        if settling.is_settled && self.listening.missing.is_empty() {
            return self.settled(desk, ticket, false);
        }
        while desk.turn.walk_budget > 0 {
            match self.settle_part(desk, settling) {
                Some(rest) => settling = rest,
                None => return,
            }
        }
        self.locals.settling.push_back(settling);
    }

    /// Goes on with the answered interests, each a part in its turn, within this turn's budget.
    pub(super) fn run_settlings(&mut self, desk: &mut Desk, kept: usize) {
        while desk.turn.walk_budget > kept
            && let Some(settling) = self.locals.settling.pop_front()
        {
            let rest = self.settle_part(desk, settling);
            self.locals.settling.extend(rest);
        }
    }

    fn settle_part(&mut self, desk: &mut Desk, settling: Settling) -> Option<Settling> {
        let Settling { ticket, selector, newest, rest, is_settled } = settling;
        // A selector that nobody has any more took its questions along.
        self.gathers.get_mut(&ticket)?;
        let count = PART.min(desk.turn.walk_budget.max(1));
        if !is_settled {
            let Part { topics, looked, last } = self.locals.limbo.part(&rest, &selector, newest, count);
            desk.turn.walk_budget = desk.turn.walk_budget.saturating_sub(looked.max(1));
            for topic in topics {
                self.end_subscribers(desk, &topic, Reason::Removed);
            }
            let (rest, is_settled) = match last {
                Some(last) => (Span { start: Bound::Excluded(last), ..rest }, false),
                None => (Span::of_selector(&selector), true),
            };
            return Some(Settling { ticket, selector, newest, rest, is_settled });
        }
        if self.listening.missing.is_empty() {
            self.settled(desk, ticket, false);
            return None;
        }
        let (mut looked, mut last, mut is_matched) = (0, None, false);
        for path in self.locals.by_path.range((rest.start.clone(), rest.end.clone())).map(|(path, _)| path).take(count) {
            (looked, last) = (looked + 1, Some(path.clone()));
            is_matched = selector.matches(path.as_str());
            if is_matched {
                break;
            }
        }
        desk.turn.walk_budget = desk.turn.walk_budget.saturating_sub(looked.max(1));
        if let Some(last) = last.filter(|_| looked == count && !is_matched) {
            let rest = Span { start: Bound::Excluded(last), ..rest };
            return Some(Settling { ticket, selector, newest, rest, is_settled });
        }
        self.settled(desk, ticket, !is_matched);
        None
    }

    /// The session is answered that asked for the interest.
    fn settled(&mut self, desk: &mut Desk, ticket: u64, is_missing: bool) {
        let Some(Gather { answer: Answer::Interest { selector, asker }, .. }) = self.gathers.remove(&ticket) else { return };
        let selected = self.selected.get_mut(&selector).expect("a selector that goes takes its questions along");
        selected.asking.remove(&ticket);
        if let Answered::Wholly { selector, is_empty } = self.trees.note_answered(ticket, &selector, is_missing) {
            if is_empty {
                self.tell_missing(desk, asker.session, &selector);
            }
            self.answer_subscription(desk, asker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::selector::SelectorLimits;
    use crate::topic::specification::{Specification, SpecificationLimits, TopicType};
    use std::sync::Arc;

    fn limbo(topics: &[(&str, u64)]) -> Limbo {
        let specification = Arc::new(Specification::parse(TopicType::Json, [].into_iter(), SpecificationLimits::default()).unwrap());
        let mut limbo = Limbo::default();
        for (path, id) in topics {
            limbo.insert(LocalTopic::new(TopicId(*id), TopicPath::of_branch(path), specification.clone()));
        }
        limbo
    }

    fn selector(text: &str) -> Selector {
        Selector::parse(text, SelectorLimits::default()).unwrap()
    }

    #[test]
    fn a_selector_looks_only_at_what_lies_in_its_branch() {
        let paths: Vec<String> = (0..1000).map(|number| format!("other/{number}")).collect();
        let topics: Vec<(&str, u64)> = paths.iter().map(|path| (path.as_str(), 1)).chain([("a/x", 2), ("a/y", 3)]).collect();
        let limbo = limbo(&topics);
        for (text, looked, found) in [("a/x", 1, 1), ("?a/", 2, 2), ("?b//", 0, 0), ("?.*//", 1002, 1002)] {
            let selector = selector(text);
            let part = limbo.part(&Span::of_selector(&selector), &selector, u64::MAX, usize::MAX);
            assert_eq!((part.looked, part.topics.len()), (looked, found), "{text}");
        }
    }

    #[test]
    fn parts_of_any_size_give_each_topic_once_and_only_what_came_before() {
        let limbo = limbo(&[("a", 1), ("a/b", 2), ("a/b/c", 3), ("a/c", 5), ("b", 6), ("a/d", 7)]);
        let selector = selector("?a//");
        for count in 1..8 {
            let (mut span, mut ids) = (Span::of_selector(&selector), Vec::new());
            loop {
                let part = limbo.part(&span, &selector, 5, count);
                assert!(part.looked <= count);
                ids.extend(part.topics.iter().map(|topic| topic.id.0));
                let Some(last) = part.last else { break };
                span.start = Bound::Excluded(last);
            }
            assert_eq!(ids, [1, 2, 3, 5], "parts of {count}");
        }
    }
}
