//! What a listener to topics knows, and what it is told when that changes.
//!
//! It knows every topic that it selects or that lies below a path it selects. Immediate descendants are the first topics on any branch below a
//! selected path that are not selected themselves; they stand in a set of their own, so that a topic that comes or goes is not the occasion to look at
//! all below it: whatever lies below a selected path, or below another topic, does not depend on it.

use crate::mail::What;
use crate::session::{Known, Listener};
use crate::topic::path::{TopicPath, is_within};
use crate::topic::specification::Specification;
use crate::topic::tree::{Span, behind_branch};
use std::ops::Bound;
use std::sync::Arc;

/// What a listener is told.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    Topic { what: What, path: TopicPath, specification: Arc<Specification> },
    Descendant { what: What, path: TopicPath },
    Subscribers { path: TopicPath, has_subscribers: bool },
}

/// Takes up what happened to a topic, as the owner knew it when it had heard the request `asked`. Gives what is told, and where more has to be looked at
/// again: a topic that comes or goes above very many is told with so many of these as `below_max` says.
pub fn take_notice(
    listener: &mut Listener,
    what: What,
    path: &TopicPath,
    specification: &Arc<Specification>,
    asked: u64,
    below_max: usize,
) -> (Vec<Change>, Option<Span>) {
    let mut look = Look { below_max, ..Look::new(listener) };
    match what {
        What::Added | What::Selected => look.add(what, path, specification, asked),
        What::Removed | What::Deselected => look.remove(what, path),
    }
    (look.changes, look.rest)
}

/// Looks again at what is known in `span`, whose selectors have changed: at so many topics as `budget` has. Gives what is told, and what is left.
pub fn look_again(listener: &mut Listener, span: Span, budget: &mut usize) -> (Vec<Change>, Option<Span>) {
    let mut look = Look::new(listener);
    let range = look.listener.known.range((span.start.clone(), span.end.clone()));
    let paths: Vec<TopicPath> = range.take(*budget).map(|(path, _)| path.clone()).collect();
    *budget -= paths.len();
    for path in &paths {
        look.look_at(path);
    }
    let rest = paths.into_iter().next_back().filter(|_| *budget == 0).map(|last| Span { start: Bound::Excluded(last), ..span });
    (look.changes, rest)
}

/// Forgets what is known in `span`, the last first, so that nothing below comes to light that goes too: so many topics as `budget` has. Gives what is told, and
/// what is left.
pub fn forget(listener: &mut Listener, span: Span, budget: &mut usize) -> (Vec<Change>, Option<Span>) {
    let mut look = Look::new(listener);
    let range = look.listener.known.range((span.start.clone(), span.end.clone()));
    let paths: Vec<TopicPath> = range.rev().take(*budget).map(|(path, _)| path.clone()).collect();
    *budget -= paths.len();
    for path in &paths {
        look.remove(What::Deselected, path);
    }
    let rest = paths.into_iter().next_back().filter(|_| *budget == 0).map(|last| Span { end: Bound::Excluded(last), ..span });
    (look.changes, rest)
}

struct Look<'a> {
    listener: &'a mut Listener,
    changes: Vec<Change>,
    /// Other topics that had to be looked at, and how many of those below one may be.
    looked: usize,
    below_max: usize,
    /// Those that have to be looked at later.
    rest: Option<Span>,
}

impl<'a> Look<'a> {
    fn new(listener: &'a mut Listener) -> Self {
        Self { listener, changes: Vec::new(), looked: 0, below_max: usize::MAX, rest: None }
    }

    fn add(&mut self, what: What, path: &TopicPath, specification: &Arc<Specification>, asked: u64) {
        if !self.listener.is_told_of(path.as_str(), asked) {
            return;
        }
        if self.listener.known.contains_key(path) {
            // Found once more, on account of a new selector.
            return self.look_at(path);
        }
        let is_selected = self.listener.selects(path.as_str());
        self.listener.known.insert(path.clone(), Known { specification: specification.clone(), is_selected });
        if is_selected {
            self.changes.push(Change::Topic { what, path: path.clone(), specification: specification.clone() });
        } else if self.is_immediate(path) {
            self.listener.immediate.insert(path.clone());
            self.changes.push(Change::Descendant { what, path: path.clone() });
            self.hide_below(path);
        }
    }

    fn remove(&mut self, what: What, path: &TopicPath) {
        let Some(known) = self.listener.known.remove(path) else { return };
        if self.listener.immediate.remove(path) {
            self.changes.push(Change::Descendant { what, path: path.clone() });
        } else if known.is_selected {
            self.changes.push(Change::Topic { what, path: path.clone(), specification: known.specification });
        }
        if !self.listener.selects(path.as_str()) && self.is_immediate(path) {
            self.show_below(path);
        }
    }

    /// Looks whether a known topic is what the listener was told that it is.
    fn look_at(&mut self, path: &TopicPath) {
        let is_selected = self.listener.selects(path.as_str());
        let is_kept = is_selected || self.listener.selects_above(path.as_str());
        let Some(known) = self.listener.known.get_mut(path) else { return };
        if known.is_selected != is_selected {
            known.is_selected = is_selected;
            let what = if is_selected { What::Selected } else { What::Deselected };
            self.changes.push(Change::Topic { what, path: path.clone(), specification: known.specification.clone() });
        }
        if !is_kept {
            self.listener.known.remove(path);
        }
        let is_immediate = is_kept && !is_selected && self.is_immediate(path);
        self.set_immediate(path, is_immediate);
    }

    fn set_immediate(&mut self, path: &TopicPath, is_immediate: bool) {
        let immediate = &mut self.listener.immediate;
        let (is_news, what) =
            if is_immediate { (immediate.insert(path.clone()), What::Selected) } else { (immediate.remove(path), What::Deselected) };
        if is_news {
            self.changes.push(Change::Descendant { what, path: path.clone() });
        }
    }

    /// Whether a selected path lies above with no topic in between.
    fn is_immediate(&self, path: &TopicPath) -> bool {
        let text = path.as_str();
        for (end, _) in text.rmatch_indices('/') {
            let above = &text[..end];
            if self.listener.selects(above) {
                return true;
            }
            if self.listener.known.contains_key(&TopicPath::of_branch(above)) {
                return false;
            }
        }
        false
    }

    /// `path` has come between a selected path and what lay immediately below that.
    fn hide_below(&mut self, path: &TopicPath) {
        let mut start = Bound::Excluded(path.clone());
        // Each turn tells the listener of one topic, or skips a branch; what is many is left for later.
        loop {
            if self.is_left(path, &start) {
                return;
            }
            let next = self.listener.immediate.range((start, Bound::Unbounded)).next().cloned();
            let Some(next) = next.filter(|next| is_within(next.as_str(), path.as_str())) else { return };
            self.looked += 1;
            start = match self.selected_between(path, &next) {
                Some(branch) => Bound::Included(behind_branch(branch)),
                None => {
                    self.set_immediate(&next, false);
                    Bound::Excluded(next)
                }
            };
        }
    }

    /// `path` has gone from between a selected path and the first topics below it.
    fn show_below(&mut self, path: &TopicPath) {
        let mut start = Bound::Excluded(path.clone());
        // Each turn tells the listener of one topic, or skips a branch; what is many is left for later.
        loop {
            if self.is_left(path, &start) {
                return;
            }
            let next = self.listener.known.range((start, Bound::Unbounded)).next().map(|(next, _)| next.clone());
            let Some(next) = next.filter(|next| is_within(next.as_str(), path.as_str())) else { return };
            self.looked += 1;
            start = match self.selected_between(path, &next) {
                Some(branch) => Bound::Included(behind_branch(branch)),
                None => {
                    // What a selector left that was taken away may not have been looked at again yet.
                    self.look_at(&next);
                    Bound::Included(behind_branch(next.as_str()))
                }
            };
        }
    }

    /// Whether so many were looked at that the rest below `path`, from `start` on, is left.
    fn is_left(&mut self, path: &TopicPath, start: &Bound<TopicPath>) -> bool {
        let is_left = self.looked >= self.below_max;
        if is_left {
            self.rest = Some(Span { start: start.clone(), ..Span::of_branch(path.as_str()) });
        }
        is_left
    }

    /// The highest selected path below `above` and above `path`: nothing below that one depends on what is above it.
    fn selected_between<'p>(&self, above: &TopicPath, path: &'p TopicPath) -> Option<&'p str> {
        let (text, from) = (path.as_str(), above.as_str().len() + 1);
        let ends = text[from..].match_indices('/').map(|(at, _)| &text[..from + at]);
        ends.into_iter().find(|between| self.listener.selects(between))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Listened;
    use crate::topic::selector::{Selector, SelectorLimits};
    use crate::topic::specification::{SpecificationLimits, TopicType};

    fn specification() -> Arc<Specification> {
        Arc::new(Specification::parse(TopicType::Json, [].into_iter(), SpecificationLimits::default()).unwrap())
    }

    fn listener(selectors: &[&str]) -> Listener {
        let mut listener = Listener::new(1);
        for text in selectors {
            let selector = Selector::parse(text, SelectorLimits::default()).unwrap();
            listener.selectors.push(Listened { selector, asked: 0 });
        }
        listener
    }

    /// Tells of a topic that comes or goes; gives what the listener is told, and how many other topics were looked at.
    fn tell(listener: &mut Listener, what: What, path: &str) -> (Vec<String>, usize) {
        let mut look = Look::new(listener);
        match what {
            What::Added | What::Selected => look.add(what, &TopicPath::of_branch(path), &specification(), 1),
            What::Removed | What::Deselected => look.remove(what, &TopicPath::of_branch(path)),
        }
        (brief(&look.changes), look.looked)
    }

    fn brief(changes: &[Change]) -> Vec<String> {
        let brief = |change: &Change| match change {
            Change::Topic { what, path, .. } => format!("{what:?} {}", path.as_str()),
            Change::Descendant { what, path } => format!("{what:?} below {}", path.as_str()),
            Change::Subscribers { .. } => unreachable!("nobody is told of subscribers"),
        };
        changes.iter().map(brief).collect()
    }

    fn check(listener: &mut Listener, what: What, path: &str, expected: &[&str], looked: usize) {
        assert_eq!(tell(listener, what, path), (expected.iter().map(|text| (*text).to_owned()).collect(), looked), "{path}");
    }

    #[test]
    fn what_does_not_depend_on_a_topic_is_not_looked_at() {
        let mut listener = listener(&["a", "?s//", "a/x/y"]);
        for number in 0..1000 {
            for path in [format!("s/x/{number}"), format!("a/b/{number}"), format!("a/b/{number}/c"), format!("a/x/y/{number}")] {
                tell(&mut listener, What::Added, &path);
            }
        }
        check(&mut listener, What::Added, "s/x", &["Added s/x"], 0);
        check(&mut listener, What::Added, "a", &["Added a"], 0);
        // One look tells that all below belongs to a selected path in between.
        check(&mut listener, What::Added, "a/x", &["Added below a/x"], 1);
        check(&mut listener, What::Added, "a/x/y", &["Added a/x/y"], 0);
        check(&mut listener, What::Removed, "a/x/y", &["Removed a/x/y"], 0);
        check(&mut listener, What::Removed, "a/x", &["Removed below a/x"], 1);
        check(&mut listener, What::Removed, "a", &["Removed a"], 0);
        check(&mut listener, What::Removed, "s/x", &["Removed s/x"], 0);
        check(&mut listener, What::Added, "a/b/7/c/d", &[], 0);
    }

    #[test]
    fn an_inner_topic_takes_the_place_of_those_below_it() {
        let mut listener = listener(&["a"]);
        for path in ["a/b/1", "a/b/2", "a/b/2/x", "a/b/2/y", "a/c"] {
            tell(&mut listener, What::Added, path);
        }
        check(&mut listener, What::Added, "a/b", &["Added below a/b", "Deselected below a/b/1", "Deselected below a/b/2"], 2);
        check(&mut listener, What::Removed, "a/b/2", &[], 0);
        check(
            &mut listener,
            What::Removed,
            "a/b",
            &["Removed below a/b", "Selected below a/b/1", "Selected below a/b/2/x", "Selected below a/b/2/y"],
            3,
        );
    }

    #[test]
    fn of_very_many_below_a_topic_some_are_looked_at_at_once_and_the_others_later() {
        const TOPICS: usize = 300;
        let mut listener = listener(&["a"]);
        for number in 0..TOPICS {
            tell(&mut listener, What::Added, &format!("a/b/{number:04}"));
        }
        for (what, is_shown) in [(What::Added, false), (What::Removed, true)] {
            let (first, mut rest) = take_notice(&mut listener, what, &TopicPath::of_branch("a/b"), &specification(), 1, 50);
            assert_eq!(first.len(), 1 + 50);
            let mut told = first.len() - 1;
            while let Some(span) = rest {
                let (changes, left) = look_again(&mut listener, span, &mut 100);
                (told, rest) = (told + changes.len(), left);
            }
            assert_eq!((told, listener.immediate.len()), (TOPICS, if is_shown { TOPICS } else { 1 }));
        }
    }

    #[test]
    fn a_topic_that_comes_to_light_before_it_is_looked_at_again_is_deselected_first() {
        let mut listener = listener(&["a", "?a/b//"]);
        for path in ["a/b", "a/b/c"] {
            tell(&mut listener, What::Added, path);
        }
        listener.selectors.pop();
        let (changes, rest) = look_again(&mut listener, Span::of_branch("a/b"), &mut 1);
        assert_eq!(brief(&changes), ["Deselected a/b", "Selected below a/b"]);
        check(&mut listener, What::Removed, "a/b", &["Removed below a/b", "Deselected a/b/c", "Selected below a/b/c"], 1);
        assert_eq!(look_again(&mut listener, rest.unwrap(), &mut 9).0, []);
        check(&mut listener, What::Removed, "a/b/c", &["Removed below a/b/c"], 0);
    }

    #[test]
    fn all_is_looked_at_again_in_slices_of_any_size() {
        for slice in 1..8 {
            let mut listener = listener(&["a", "?a/b//"]);
            for path in ["a", "a/b", "a/b/c", "a/b/c/d", "a/c", "a/c/d"] {
                tell(&mut listener, What::Added, path);
            }
            listener.selectors.pop();
            let (mut told, mut rest) = (Vec::new(), Some(Span::of_branch("a/b")));
            while let Some(span) = rest {
                let mut budget = slice;
                let (changes, left) = look_again(&mut listener, span, &mut budget);
                told.extend(brief(&changes));
                rest = left;
            }
            assert_eq!(told, ["Deselected a/b", "Selected below a/b", "Deselected a/b/c", "Deselected a/b/c/d"], "slices of {slice}");
        }
    }
}
