//! A session's selections: a sequence of selecting and deselecting, the last match decides.

use crate::topic::selector::Selector;

#[derive(Default)]
pub struct Selections {
    steps: Vec<Step>,
}

struct Step {
    selector: Selector,
    selects: bool,
}

/// The session holds as many selections as it may.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

impl Selections {
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether the session wants the topic at `path`.
    pub fn select(&self, path: &str) -> bool {
        self.steps.iter().rev().find(|step| step.selector.matches(path)).is_some_and(|step| step.selects)
    }

    /// The selectors that select, each once.
    pub fn selecting(&self) -> impl Iterator<Item = &Selector> {
        self.steps.iter().filter(|step| step.selects).map(|step| &step.selector)
    }

    /// Appends a selecting step; tells whether the selector is new among the selecting ones.
    pub fn add(&mut self, selector: &Selector, count_max: usize) -> Result<bool, Full> {
        let is_new = !self.selecting().any(|held| held == selector);
        let is_held = self.steps.iter().any(|step| step.selector == *selector);
        if !is_held && self.steps.len() >= count_max {
            return Err(Full);
        }
        self.steps.retain(|step| step.selector != *selector);
        self.steps.push(Step { selector: selector.clone(), selects: true });
        Ok(is_new)
    }

    /// Appends a deselecting step, or only takes steps away where that says the same. Gives the selectors that select no longer.
    pub fn remove(&mut self, selector: &Selector, count_max: usize) -> Result<Vec<Selector>, Full> {
        if selector.as_str() == "?.*//" {
            let released = self.selecting().cloned().collect();
            self.steps.clear();
            return Ok(released);
        }
        let is_held = self.steps.iter().any(|step| step.selector == *selector);
        if !is_held && self.steps.len() >= count_max {
            return Err(Full);
        }
        let released: Vec<Selector> = self.selecting().filter(|held| *held == selector).cloned().collect();
        self.steps.retain(|step| step.selector != *selector);
        if self.steps.iter().any(|step| step.selects) {
            self.steps.push(Step { selector: selector.clone(), selects: false });
        } else {
            self.steps.clear();
        }
        Ok(released)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::selector::SelectorLimits;

    fn selector(text: &str) -> Selector {
        Selector::parse(text, SelectorLimits::default()).unwrap()
    }

    fn check(steps: &[&str], selected: &[&str], not: &[&str]) {
        let mut selections = Selections::default();
        for step in steps {
            match step.strip_prefix('-') {
                Some(text) => drop(selections.remove(&selector(text), 10)),
                None => drop(selections.add(&selector(step), 10)),
            }
        }
        for path in selected {
            assert!(selections.select(path), "{steps:?} should select {path}");
        }
        for path in not {
            assert!(!selections.select(path), "{steps:?} should not select {path}");
        }
    }

    #[test]
    fn the_last_step_that_matches_decides() {
        check(&["?a//"], &["a", "a/b"], &["b"]);
        check(&["?a//", "-a/b"], &["a", "a/c"], &["a/b"]);
        check(&["?a//", "-?a/b//", "a/b/c"], &["a", "a/b/c"], &["a/b", "a/b/d"]);
        check(&["?a//", "-?a//"], &[], &["a", "a/b"]);
        check(&["-a", "?.*//"], &["a"], &[]);
        check(&["a", "b", "-?.*//"], &[], &["a", "b"]);
    }

    #[test]
    fn selections_are_bounded_and_a_repeated_one_counts_once() {
        let mut selections = Selections::default();
        assert_eq!(selections.add(&selector("a"), 2), Ok(true));
        assert_eq!(selections.add(&selector("a"), 2), Ok(false));
        assert_eq!(selections.add(&selector("b"), 2), Ok(true));
        assert_eq!(selections.add(&selector("c"), 2), Err(Full));
        assert_eq!(selections.remove(&selector("a"), 2).map(|r| r.len()), Ok(1));
        assert_eq!(selections.len(), 2);
    }
}
