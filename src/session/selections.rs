//! A session's selections: a sequence of selecting and deselecting, the last match decides.
//!
//! `limits.selections_max` bounds every loop here: a request goes through the session's selections a few times, and a topic through them once.

use crate::base::push_lean;
use crate::topic::selector::Selector;
use hashbrown::HashSet;

#[derive(Default)]
pub struct Selections {
    steps: Vec<SelectionStep>,
}

struct SelectionStep {
    selector: Selector,
    kind: Step,
}

/// What one step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    Deselects = 0,
    Selects = 1,
    /// It selects on another session's order: its own client need not be allowed to select there.
    Ordered = 2,
}

impl Step {
    pub fn of_number(number: u8) -> Option<Self> {
        [Self::Deselects, Self::Selects, Self::Ordered].into_iter().find(|step| *step as u8 == number)
    }

    pub fn selects(self) -> bool {
        self != Self::Deselects
    }
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

    /// Whether the session wants the topic at `path`, and may, if it must not select there itself.
    pub fn select(&self, path: &str, may_select: bool) -> bool {
        let last = self.steps.iter().rev().find(|step| step.selector.matches(path));
        last.is_some_and(|step| match step.kind {
            Step::Deselects => false,
            Step::Selects => may_select,
            Step::Ordered => true,
        })
    }

    /// The selectors that select, each once.
    pub fn selecting(&self) -> impl Iterator<Item = &Selector> {
        self.steps.iter().filter(|step| step.kind.selects()).map(|step| &step.selector)
    }

    /// Appends a selecting step; tells whether the selector is new among the selecting ones.
    pub fn add(&mut self, selector: &Selector, kind: Step, count_max: usize) -> Result<bool, Full> {
        let is_new = !self.selecting().any(|held| held == selector);
        let is_held = self.steps.iter().any(|step| step.selector == *selector);
        if !is_held && self.steps.len() >= count_max {
            return Err(Full);
        }
        self.steps.retain(|step| step.selector != *selector);
        push_lean(&mut self.steps, SelectionStep { selector: selector.clone(), kind });
        Ok(is_new)
    }

    /// Whether deselecting appends a step and takes none away.
    fn adds_a_step(&self, selector: &Selector) -> bool {
        let is_everything = selector.as_str() == "?.*//";
        let is_held = self.steps.iter().any(|step| step.selector == *selector);
        !is_everything && !is_held && self.steps.iter().any(|step| step.kind.selects())
    }

    /// Appends a deselecting step, or only takes steps away where that says the same. Gives the selectors that select no longer.
    pub fn remove(&mut self, selector: &Selector, count_max: usize) -> Result<Vec<Selector>, Full> {
        if selector.as_str() == "?.*//" {
            let released = self.selecting().cloned().collect();
            self.steps.clear();
            return Ok(released);
        }
        if self.adds_a_step(selector) && self.steps.len() >= count_max {
            return Err(Full);
        }
        let released: Vec<Selector> = self.selecting().filter(|held| *held == selector).cloned().collect();
        self.steps.retain(|step| step.selector != *selector);
        if self.steps.iter().any(|step| step.kind.selects()) {
            self.steps.push(SelectionStep { selector: selector.clone(), kind: Step::Deselects });
        } else {
            self.steps.clear();
        }
        Ok(released)
    }
}

/// A session's selections in all scopes: what any of them selects is selected.
#[derive(Default)]
pub struct Scopes {
    default: Selections,
    named: Vec<(Box<str>, Selections)>,
}

impl Scopes {
    /// Each scope's selections in their order.
    pub fn steps(&self) -> impl Iterator<Item = (&str, &Selector, Step)> {
        let named = self.named.iter().map(|(scope, selections)| (&**scope, selections));
        let scopes = std::iter::once(("", &self.default)).chain(named);
        scopes.flat_map(|(scope, selections)| selections.steps.iter().map(move |step| (scope, &step.selector, step.kind)))
    }

    /// Steps in all scopes.
    fn len(&self) -> usize {
        self.default.len() + self.named.iter().map(|(_, selections)| selections.len()).sum::<usize>()
    }

    fn all(&self) -> impl Iterator<Item = &Selections> {
        std::iter::once(&self.default).chain(self.named.iter().map(|(_, selections)| selections))
    }

    /// Takes up what `steps` gave.
    pub fn restore<'s>(&mut self, steps: impl Iterator<Item = (&'s str, &'s Selector, Step)>) {
        for (scope, selector, kind) in steps {
            push_lean(&mut self.scope(scope).steps, SelectionStep { selector: selector.clone(), kind });
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As [`Selections::select`], in any scope.
    pub fn select(&self, path: &str, may_select: bool) -> bool {
        self.all().any(|selections| selections.select(path, may_select))
    }

    /// The selectors that select in any scope, each once.
    pub fn selecting(&self) -> Vec<Selector> {
        let mut seen = HashSet::new();
        let selecting = self.all().flat_map(Selections::selecting);
        selecting.filter(|selector| self.named.is_empty() || seen.insert(*selector)).cloned().collect()
    }

    /// Leaves those of the selectors that select in no scope, each once.
    pub fn keep_released(&self, selectors: &mut Vec<Selector>) {
        if selectors.len() <= 1 {
            return selectors.retain(|selector| !self.is_selecting(selector));
        }
        let selecting: HashSet<&Selector> = self.all().flat_map(Selections::selecting).collect();
        let mut seen = HashSet::new();
        selectors.retain(|selector| !selecting.contains(selector) && seen.insert(selector.clone()));
    }

    fn is_selecting(&self, selector: &Selector) -> bool {
        self.all().any(|selections| selections.selecting().any(|held| held == selector))
    }

    fn scope(&mut self, scope: &str) -> &mut Selections {
        if scope.is_empty() {
            return &mut self.default;
        }
        let at = self.named.iter().position(|(name, _)| **name == *scope).unwrap_or_else(|| {
            self.named.push((scope.into(), Selections::default()));
            self.named.len() - 1
        });
        &mut self.named[at].1
    }

    /// As [`Selections::add`], in a scope; `count_max` holds for all together.
    pub fn add(&mut self, scope: &str, selector: &Selector, kind: Step, count_max: usize) -> Result<bool, Full> {
        let is_new = !self.is_selecting(selector);
        let others = self.len() - self.scope(scope).len();
        let result = self.scope(scope).add(selector, kind, count_max.saturating_sub(others));
        self.drop_empty();
        result.map(|_| is_new)
    }

    /// As [`Selections::remove`], in a scope; a selector that another scope holds is not released.
    pub fn remove(&mut self, scope: &str, selector: &Selector, count_max: usize) -> Result<Vec<Selector>, Full> {
        let others = self.len() - self.scope(scope).len();
        let released = self.scope(scope).remove(selector, count_max.saturating_sub(others));
        self.drop_empty();
        let mut released = released?;
        self.keep_released(&mut released);
        Ok(released)
    }

    /// Removes in every scope, or in none where there is no room.
    pub fn remove_everywhere(&mut self, selector: &Selector, count_max: usize) -> Result<Vec<Selector>, Full> {
        let added = self.all().filter(|selections| selections.adds_a_step(selector)).count();
        if added > 0 && self.len() + added > count_max {
            return Err(Full);
        }
        let mut released = Vec::new();
        for selections in std::iter::once(&mut self.default).chain(self.named.iter_mut().map(|(_, selections)| selections)) {
            released.append(&mut selections.remove(selector, usize::MAX)?);
        }
        self.drop_empty();
        self.keep_released(&mut released);
        Ok(released)
    }

    fn drop_empty(&mut self) {
        self.named.retain(|(_, selections)| !selections.is_empty());
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
                None => drop(selections.add(&selector(step), Step::Selects, 10)),
            }
        }
        for path in selected {
            assert!(selections.select(path, true), "{steps:?} should select {path}");
        }
        for path in not {
            assert!(!selections.select(path, true), "{steps:?} should not select {path}");
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
        assert_eq!(selections.add(&selector("a"), Step::Selects, 2), Ok(true));
        assert_eq!(selections.add(&selector("a"), Step::Selects, 2), Ok(false));
        assert_eq!(selections.add(&selector("b"), Step::Selects, 2), Ok(true));
        assert_eq!(selections.add(&selector("c"), Step::Selects, 2), Err(Full));
        assert_eq!(selections.remove(&selector("a"), 2).map(|r| r.len()), Ok(1));
        assert_eq!(selections.len(), 2);
    }

    #[test]
    fn what_any_scope_selects_is_selected() {
        let mut scopes = Scopes::default();
        assert_eq!(scopes.add("", &selector("?a//"), Step::Selects, 10), Ok(true));
        assert_eq!(scopes.add("x", &selector("?a//"), Step::Selects, 10), Ok(false));
        assert_eq!(scopes.add("x", &selector("b"), Step::Selects, 10), Ok(true));
        assert_eq!(scopes.remove("", &selector("?a//"), 10), Ok(Vec::new()), "the other scope holds it");
        assert!(scopes.select("a/b", true) && scopes.select("b", true));
        assert_eq!(scopes.remove("x", &selector("?.*//"), 10).map(|released| released.len()), Ok(2));
        assert!(scopes.named.is_empty() && !scopes.select("b", true));
    }

    #[test]
    fn removing_everywhere_leaves_no_scope_out() {
        let mut scopes = Scopes::default();
        for scope in ["", "x", "y"] {
            let _ = scopes.add(scope, &selector("?a//"), Step::Selects, 10);
        }
        let released = scopes.remove_everywhere(&selector("?a//"), 10).unwrap();
        assert_eq!(released.len(), 1);
        assert!(!scopes.select("a", true));
    }

    #[test]
    fn removing_everywhere_removes_in_all_scopes_or_in_none() {
        let mut scopes = Scopes::default();
        for (scope, text) in [("", "?a//"), ("x", "?a//"), ("x", "a/b"), ("y", "?c//")] {
            let _ = scopes.add(scope, &selector(text), Step::Selects, 4);
        }
        assert_eq!(scopes.remove_everywhere(&selector("a/b"), 5), Err(Full));
        assert!(scopes.select("a/b", true), "nothing was removed");
        assert_eq!(scopes.remove_everywhere(&selector("a/b"), 6).map(|released| released.len()), Ok(1));
        assert!(!scopes.select("a/b", true) && scopes.select("a", true));
    }

    #[test]
    fn of_many_scopes_each_selector_is_named_once() {
        let mut scopes = Scopes::default();
        for number in 0..300 {
            let _ = scopes.add(&format!("s{number}"), &selector(&format!("a{}", number / 3)), Step::Selects, 1000);
        }
        assert_eq!(scopes.selecting().len(), 100);
        let mut selectors: Vec<Selector> = ["a0", "b", "a99", "b", "a100"].into_iter().map(selector).collect();
        scopes.keep_released(&mut selectors);
        assert_eq!(selectors.iter().map(Selector::as_str).collect::<Vec<_>>(), [">b", ">a100"]);
        assert_eq!(scopes.remove_everywhere(&selector("?.*//"), 1000).map(|released| released.len()), Ok(100));
        assert!(scopes.named.is_empty() && scopes.selecting().is_empty());
    }

    #[test]
    fn nothing_is_full_of_what_need_not_be_noted() {
        let mut scopes = Scopes::default();
        let _ = scopes.add("x", &selector("a"), Step::Selects, 1);
        assert_eq!(scopes.remove("", &selector("b"), 1), Ok(Vec::new()));
        assert_eq!(scopes.remove_everywhere(&selector("a"), 1).map(|released| released.len()), Ok(1));
    }

    #[test]
    fn all_scopes_share_one_bound() {
        let mut scopes = Scopes::default();
        assert_eq!(scopes.add("", &selector("a"), Step::Selects, 2), Ok(true));
        assert_eq!(scopes.add("x", &selector("b"), Step::Selects, 2), Ok(true));
        assert_eq!(scopes.add("y", &selector("c"), Step::Selects, 2), Err(Full));
        assert!(scopes.named.len() == 1);
    }

    #[test]
    fn what_another_session_has_ordered_needs_no_leave_to_select() {
        let mut selections = Selections::default();
        let _ = selections.add(&selector("?a//"), Step::Ordered, 10);
        let _ = selections.add(&selector("a/b"), Step::Selects, 10);
        assert_eq!(
            ["a/b", "a/c"].map(|path| (selections.select(path, true), selections.select(path, false))),
            [(true, false), (true, true)]
        );
        let _ = selections.remove(&selector("a/c"), 10);
        assert!(!selections.select("a/c", true) && !selections.select("a/c", false));
    }
}
