//! A table by id that may become very large, and of which there may be very many, most with one entry: no insertion moves more than a part of it, and the one
//! entry takes no memory of its own.
//!
//! A hash table that doubles moves all that it has, and whoever shares its core waits for the longer the more there is. This one is a single table from two
//! to [`WHOLE_MAX`] entries, then 64 of them, which double at different times. What it costs is a look at which it is.

use super::{IdHasher, IdMap};
use std::hash::{Hash, Hasher};

const PARTS: usize = 64;

/// Entries of the one table, just before it would double.
const WHOLE_MAX: usize = 7 << 10;

/// See the module.
pub enum SplitMap<K, V> {
    Few(Option<(K, V)>),
    Whole(IdMap<K, V>),
    Parts(Box<Parts<K, V>>),
}

/// See [`SplitMap`].
pub struct Parts<K, V> {
    maps: [IdMap<K, V>; PARTS],
    len: usize,
}

impl<K, V> Default for SplitMap<K, V> {
    fn default() -> Self {
        Self::Few(None)
    }
}

/// Those bits of the hash by which a table of its own neither chooses a bucket nor tells its entries apart.
fn part_of<K: Hash>(key: &K) -> usize {
    let mut hasher = IdHasher::default();
    key.hash(&mut hasher);
    (hasher.finish() >> 50) as usize % PARTS
}

impl<K: Hash + Eq, V> SplitMap<K, V> {
    pub fn len(&self) -> usize {
        match self {
            Self::Few(held) => usize::from(held.is_some()),
            Self::Whole(map) => map.len(),
            Self::Parts(parts) => parts.len,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        match self {
            Self::Few(held) => held.as_ref().filter(|(held, _)| held == key).map(|(_, value)| value),
            Self::Whole(map) => map.get(key),
            Self::Parts(parts) => parts.maps[part_of(key)].get(key),
        }
    }

    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        match self {
            Self::Few(held) => held.as_mut().filter(|(held, _)| held == key).map(|(_, value)| value),
            Self::Whole(map) => map.get_mut(key),
            Self::Parts(parts) => parts.maps[part_of(key)].get_mut(key),
        }
    }

    pub fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self {
            Self::Few(held @ None) => {
                *held = Some((key, value));
                return None;
            }
            Self::Few(Some((held, before))) if *held == key => return Some(std::mem::replace(before, value)),
            Self::Few(held) => {
                *self = Self::Whole(held.take().into_iter().chain([(key, value)]).collect());
                return None;
            }
            Self::Whole(map) if map.len() < WHOLE_MAX => return map.insert(key, value),
            Self::Whole(_) => self.split(),
            Self::Parts(_) => {}
        }
        let Self::Parts(parts) = self else { unreachable!("it was split just now") };
        let before = parts.maps[part_of(&key)].insert(key, value);
        parts.len += usize::from(before.is_none());
        before
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        match self {
            Self::Few(held) => held.take_if(|(held, _)| held == key).map(|(_, value)| value),
            Self::Whole(map) => {
                let value = map.remove(key)?;
                if map.is_empty() {
                    *self = Self::default();
                }
                Some(value)
            }
            Self::Parts(parts) => {
                let map = &mut parts.maps[part_of(key)];
                let value = map.remove(key)?;
                if map.is_empty() {
                    *map = IdMap::default();
                }
                parts.len -= 1;
                if parts.len == 0 {
                    *self = Self::default();
                }
                Some(value)
            }
        }
    }

    /// In an order that depends on nothing but the keys and on what was done.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        let (few, maps) = match self {
            Self::Few(held) => (held.as_ref(), &[][..]),
            Self::Whole(map) => (None, std::slice::from_ref(map)),
            Self::Parts(parts) => (None, &parts.maps[..]),
        };
        few.into_iter().map(|(_, value)| value).chain(maps.iter().flat_map(|map| map.values()))
    }

    /// The one table becomes many: once for each table that grows so large.
    #[cold]
    fn split(&mut self) {
        let Self::Whole(whole) = std::mem::take(self) else { unreachable!("only a whole table is split") };
        let each = whole.len() / PARTS * 2;
        let mut parts =
            Box::new(Parts { maps: std::array::from_fn(|_| IdMap::with_capacity_and_hasher(each, Default::default())), len: whole.len() });
        for (key, value) in whole {
            parts.maps[part_of(&key)].insert(key, value);
        }
        *self = Self::Parts(parts);
    }
}

#[cfg(test)]
mod tests {
    use super::super::TopicId;
    use super::*;

    #[test]
    fn it_is_a_map_below_and_above_the_size_at_which_it_is_split() {
        let mut map = SplitMap::default();
        let ids = || (1..=40_000).map(TopicId);
        for id in ids() {
            assert!(!map.contains_key(&id));
            assert_eq!((map.insert(id, 0), map.insert(id, id.0), map.get(&id)), (None, Some(0), Some(&id.0)));
            assert_eq!((map.len() as u64, matches!(map, SplitMap::Few(_))), (id.0, id.0 == 1));
            assert!(id.0 > 3 || map.values().copied().collect::<std::collections::BTreeSet<_>>().into_iter().eq(1..=id.0));
        }
        assert!(matches!(map, SplitMap::Parts(_)));
        assert_eq!(map.insert(TopicId(7), 0), Some(7));
        *map.get_mut(&TopicId(7)).expect("it is there") = 7;
        assert_eq!((map.remove(&TopicId(0)), map.get(&TopicId(40_001)), map.len()), (None, None, 40_000));
        let mut values: Vec<u64> = map.values().copied().collect();
        values.sort_unstable();
        assert!(values.into_iter().eq(1..=40_000));
        for id in ids() {
            assert_eq!((map.contains_key(&id), map.remove(&id), map.contains_key(&id)), (true, Some(id.0), false));
        }
        assert!(map.is_empty() && matches!(map, SplitMap::Few(None)), "nothing stays of what was large");
    }

    #[test]
    fn no_part_has_much_more_than_its_share_whatever_step_the_ids_have() {
        for step in [1, 2, 64, 1 << 16] {
            let mut map = SplitMap::default();
            (1..=50_000).for_each(|number| {
                map.insert(TopicId(number * step), ());
            });
            let SplitMap::Parts(parts) = &map else { panic!("50,000 entries are in parts") };
            let most = parts.maps.iter().map(IdMap::len).max().expect("there are parts");
            assert!(most < 2 * 50_000 / PARTS, "{most} of 50,000 in one part at a step of {step}");
        }
    }
}
