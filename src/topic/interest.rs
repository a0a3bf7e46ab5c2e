//! Which selectors somebody has: at an owner the shards that have them, on a shard its sessions that have them.
//!
//! Indexed by a selector's literal branch, so that a topic is matched against the selectors above it and not against all.

use super::selector::Selector;
use hashbrown::HashMap;

/// Values of `T` by distinct selector.
pub struct Interests<T> {
    by_branch: HashMap<String, Vec<(Selector, T)>>,
    count: usize,
}

impl<T> Default for Interests<T> {
    fn default() -> Self {
        Self { by_branch: HashMap::new(), count: 0 }
    }
}

impl<T> Interests<T> {
    /// Distinct selectors held.
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn get_mut(&mut self, selector: &Selector) -> Option<&mut T> {
        let list = self.by_branch.get_mut(selector.prefix())?;
        list.iter_mut().find(|(held, _)| held == selector).map(|(_, value)| value)
    }

    /// The equal selector that is held already, so that many need not hold one each.
    pub fn held(&self, selector: &Selector) -> Option<&Selector> {
        let list = self.by_branch.get(selector.prefix())?;
        list.iter().find(|(held, _)| held == selector).map(|(held, _)| held)
    }

    /// The selector's value, made if it is new.
    pub fn entry(&mut self, selector: &Selector, make: impl FnOnce() -> T) -> &mut T {
        let list = self.by_branch.entry_ref(selector.prefix()).or_default();
        let at = list.iter().position(|(held, _)| held == selector).unwrap_or_else(|| {
            list.push((selector.clone(), make()));
            self.count += 1;
            list.len() - 1
        });
        &mut list[at].1
    }

    pub fn remove(&mut self, selector: &Selector) -> Option<T> {
        let list = self.by_branch.get_mut(selector.prefix())?;
        let at = list.iter().position(|(held, _)| held == selector)?;
        let (_, value) = list.swap_remove(at);
        if list.is_empty() {
            self.by_branch.remove(selector.prefix());
        }
        self.count -= 1;
        Some(value)
    }

    /// Calls `visit` for every selector that matches `path`.
    pub fn for_each_match<'a>(&'a self, path: &str, mut visit: impl FnMut(&'a Selector, &'a T)) {
        let ends = path.bytes().enumerate().filter(|(_, byte)| *byte == b'/').map(|(at, _)| at);
        for end in std::iter::once(0).chain(ends).chain([path.len()]) {
            for (selector, value) in self.by_branch.get(&path[..end]).into_iter().flatten() {
                if selector.matches(path) {
                    visit(selector, value);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::selector::SelectorLimits;

    #[test]
    fn a_path_finds_the_selectors_above_it() {
        let mut interests = Interests::default();
        let texts = ["a/b", "?a//", "?.*//", "*a.*", "?a/b/", "?b//", "#a/b////c"];
        for (number, text) in texts.iter().enumerate() {
            interests.entry(&Selector::parse(text, SelectorLimits::default()).unwrap(), || number);
        }
        let found = |interests: &Interests<usize>| {
            let mut found = Vec::new();
            interests.for_each_match("a/b", |_, number| found.push(*number));
            found.sort_unstable();
            found
        };
        assert_eq!(found(&interests), [0, 1, 2, 3, 6]);
        interests.remove(&Selector::parse("?a//", SelectorLimits::default()).unwrap());
        assert_eq!(found(&interests), [0, 2, 3, 6]);
        assert_eq!(interests.len(), 6);
    }
}
