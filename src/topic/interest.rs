//! Which selectors somebody has: at an owner the shards that have them, on a shard its sessions that have them.
//!
//! Most selectors are of one path: these are found by it. Others are indexed by their literal branch, so that a topic is matched against those above it and
//! not against all. Where a branch has many, each of them is found by its text.

use super::selector::Selector;
use crate::base::push_lean;
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use std::hash::BuildHasher;

/// So many selectors of a branch are looked through: more have a table. Most branches have one, and need none.
const SCANNED_MAX: usize = 16;

/// Values of `T` by distinct selector; `P` is what is held of a selector of one path.
pub struct Interests<T, P = Selector> {
    by_path: HashTable<(P, T)>,
    by_branch: HashMap<String, Branch<T>>,
    hasher: DefaultHashBuilder,
    count: usize,
}

/// What is held of a selector of one path: itself, where others share it, or no more than the path.
pub trait Exact {
    fn of(selector: &Selector, path: &str) -> Self;
    fn path(&self) -> &str;
}

impl Exact for Selector {
    fn of(selector: &Selector, _: &str) -> Self {
        selector.clone()
    }

    fn path(&self) -> &str {
        self.prefix()
    }
}

impl Exact for Box<str> {
    fn of(_: &Selector, path: &str) -> Self {
        path.into()
    }

    fn path(&self) -> &str {
        self
    }
}

/// The selectors of one literal branch.
struct Branch<T> {
    held: Vec<(Selector, T)>,
    /// Where each of them is, if there are or were many.
    places: Option<Box<HashMap<Selector, usize>>>,
}

impl<T, P> Default for Interests<T, P> {
    fn default() -> Self {
        let (by_path, by_branch, hasher) = (HashTable::new(), HashMap::new(), DefaultHashBuilder::default());
        Self { by_path, by_branch, hasher, count: 0 }
    }
}

impl<T> Default for Branch<T> {
    fn default() -> Self {
        Self { held: Vec::new(), places: None }
    }
}

impl<T> Branch<T> {
    fn find(&self, selector: &Selector) -> Option<usize> {
        match &self.places {
            Some(places) => places.get(selector).copied(),
            // Bounded by `SCANNED_MAX`.
            None => self.held.iter().position(|(held, _)| held == selector),
        }
    }

    fn push(&mut self, selector: &Selector, value: T) -> usize {
        let place = self.held.len();
        push_lean(&mut self.held, (selector.clone(), value));
        if let Some(places) = &mut self.places {
            places.insert(selector.clone(), place);
        } else if self.held.len() > SCANNED_MAX {
            let places = self.held.iter().enumerate().map(|(place, (held, _))| (held.clone(), place));
            self.places = Some(Box::new(places.collect()));
        }
        place
    }

    /// The last takes the place of what goes.
    fn swap_remove(&mut self, place: usize) -> (Selector, T) {
        let removed = self.held.swap_remove(place);
        if let Some(places) = &mut self.places {
            places.remove(&removed.0);
            if let Some((moved, _)) = self.held.get(place) {
                places.insert(moved.clone(), place);
            }
        }
        removed
    }
}

impl<T> Interests<T> {
    /// The equal selector that is held already, so that many need not hold one each.
    pub fn held(&self, selector: &Selector) -> Option<&Selector> {
        if let Some(path) = selector.exact_path() {
            return self.exact(path).map(|(held, _)| held);
        }
        let branch = self.by_branch.get(selector.prefix())?;
        branch.find(selector).map(|place| &branch.held[place].0)
    }
}

impl<T, P: Exact> Interests<T, P> {
    /// Distinct selectors held.
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn exact(&self, path: &str) -> Option<&(P, T)> {
        self.by_path.find(self.hasher.hash_one(path), |(held, _)| held.path() == path)
    }

    pub fn get_mut(&mut self, selector: &Selector) -> Option<&mut T> {
        if let Some(path) = selector.exact_path() {
            let hash = self.hasher.hash_one(path);
            return self.by_path.find_mut(hash, |(held, _)| held.path() == path).map(|(_, value)| value);
        }
        let branch = self.by_branch.get_mut(selector.prefix())?;
        let place = branch.find(selector)?;
        Some(&mut branch.held[place].1)
    }

    /// The selector's value, made if it is new.
    pub fn entry(&mut self, selector: &Selector, make: impl FnOnce() -> T) -> &mut T {
        let Self { by_path, by_branch, hasher, count } = self;
        if let Some(path) = selector.exact_path() {
            let hash = hasher.hash_one(path);
            let entry = by_path.entry(hash, |(held, _)| held.path() == path, |(held, _)| hasher.hash_one(held.path()));
            let entry = entry.or_insert_with(|| {
                *count += 1;
                (P::of(selector, path), make())
            });
            return &mut entry.into_mut().1;
        }
        let branch = by_branch.entry_ref(selector.prefix()).or_default();
        let place = branch.find(selector).unwrap_or_else(|| {
            *count += 1;
            branch.push(selector, make())
        });
        &mut branch.held[place].1
    }

    pub fn remove(&mut self, selector: &Selector) -> Option<T> {
        let value = match selector.exact_path() {
            Some(path) => {
                let hash = self.hasher.hash_one(path);
                let entry = self.by_path.find_entry(hash, |(held, _)| held.path() == path).ok()?;
                entry.remove().0.1
            }
            None => {
                let branch = self.by_branch.get_mut(selector.prefix())?;
                let place = branch.find(selector)?;
                let (_, value) = branch.swap_remove(place);
                if branch.held.is_empty() {
                    self.by_branch.remove(selector.prefix());
                }
                value
            }
        };
        self.count -= 1;
        Some(value)
    }

    /// Calls `visit` for the value of every selector that matches `path`. Looks at all of the branches above it: how many sessions may have
    /// `limits.selections_max` says to the operator.
    pub fn for_each_match<'a>(&'a self, path: &str, mut visit: impl FnMut(&'a T)) {
        let ends = path.bytes().enumerate().filter(|(_, byte)| *byte == b'/').map(|(at, _)| at);
        for end in std::iter::once(0).chain(ends).chain([path.len()]) {
            // Bounded by the selectors of all sessions in these branches: `limits.selections_max` says so to the operator.
            for (selector, value) in self.by_branch.get(&path[..end]).into_iter().flat_map(|branch| &branch.held) {
                if selector.matches(path) {
                    visit(value);
                }
            }
        }
        if let Some((_, value)) = self.exact(path) {
            visit(value);
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
            interests.for_each_match("a/b", |number| found.push(*number));
            found.sort_unstable();
            found
        };
        assert_eq!(found(&interests), [0, 1, 2, 3, 6]);
        interests.remove(&Selector::parse("?a//", SelectorLimits::default()).unwrap());
        assert_eq!(found(&interests), [0, 2, 3, 6]);
        assert_eq!(interests.len(), 6);
    }

    #[test]
    fn of_many_selectors_of_one_branch_each_is_found() {
        let selectors: Vec<Selector> =
            (0..200).map(|number| Selector::parse(&format!("?a/x{number}.*/"), SelectorLimits::default()).unwrap()).collect();
        let mut interests = Interests::default();
        for (number, selector) in selectors.iter().enumerate() {
            assert_eq!(*interests.entry(selector, || number), number);
            assert_eq!(*interests.entry(selector, || 0), number, "it is there");
        }
        let branch = &interests.by_branch["a"];
        assert!(branch.places.as_ref().is_some_and(|places| places.len() == selectors.len()));
        // Taken away from the middle, so that others take their places.
        for (number, selector) in selectors.iter().enumerate().filter(|(number, _)| number % 3 != 0) {
            assert_eq!(interests.remove(selector), Some(number));
            assert_eq!((interests.remove(selector), interests.held(selector)), (None, None));
        }
        for (number, selector) in selectors.iter().enumerate().filter(|(number, _)| number % 3 == 0) {
            assert_eq!(interests.get_mut(selector).copied(), Some(number));
            assert_eq!(interests.remove(selector), Some(number));
        }
        assert!(interests.is_empty() && interests.by_branch.is_empty());
    }
}
