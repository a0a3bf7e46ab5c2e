//! An ordered set of which there are very many, most of them with one member: that one takes no memory of its own.

use std::collections::BTreeSet;

/// See the module.
#[expect(clippy::box_collection, reason = "few are many, and a set takes more room than one member")]
#[derive(Debug)]
pub enum SmallSet<T> {
    Few(Option<T>),
    Many(Box<BTreeSet<T>>),
}

impl<T> Default for SmallSet<T> {
    fn default() -> Self {
        Self::Few(None)
    }
}

impl<T: Ord> SmallSet<T> {
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Few(None))
    }

    /// Whether it was not there before.
    pub fn insert(&mut self, member: T) -> bool {
        match self {
            Self::Few(held @ None) => *held = Some(member),
            Self::Few(Some(held)) if *held == member => return false,
            Self::Few(held) => *self = Self::Many(Box::new(held.take().into_iter().chain([member]).collect())),
            Self::Many(members) => return members.insert(member),
        }
        true
    }

    /// Whether it was there.
    pub fn remove(&mut self, member: &T) -> bool {
        match self {
            Self::Few(held) => held.take_if(|held| held == member).is_some(),
            Self::Many(members) => {
                let is_removed = members.remove(member);
                if members.len() == 1 {
                    *self = Self::Few(members.pop_first());
                }
                is_removed
            }
        }
    }

    /// In their order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let (few, many) = match self {
            Self::Few(held) => (held.as_ref(), None),
            Self::Many(members) => (None, Some(&**members)),
        };
        few.into_iter().chain(many.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_set_of_none_of_one_and_of_many() {
        let (mut set, mut model) = (SmallSet::default(), BTreeSet::new());
        let steps = [
            (7, true),
            (7, true),
            (8, false),
            (3, true),
            (7, true),
            (9, true),
            (7, false),
            (3, false),
            (3, false),
            (3, true),
            (9, false),
            (3, false),
        ];
        for (member, is_inserted) in steps {
            let result =
                if is_inserted { (set.insert(member), model.insert(member)) } else { (set.remove(&member), model.remove(&member)) };
            assert_eq!(result.0, result.1, "{member}");
            assert!(set.iter().eq(&model) && set.is_empty() == model.is_empty(), "{set:?} should be {model:?}");
            assert_eq!(matches!(set, SmallSet::Many(_)), model.len() > 1);
        }
    }
}
