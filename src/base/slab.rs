//! A slab whose keys go stale: a key of something removed never finds its successor.

use std::marker::PhantomData;
use std::num::NonZeroU32;

/// What finds a value in a slab of its kind.
pub trait SlabKey: Copy {
    fn new(index: u32, generation: u32) -> Self;
    fn index(self) -> u32;
    fn generation(self) -> u32;
}

/// Generations that there are; a key has room for one more, so that no key costs nothing.
const GENERATIONS: u32 = u32::MAX;

macro_rules! keys {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
            pub struct $name {
                index: u32,
                /// One more than the place's tenants before.
                generation: NonZeroU32,
            }

            impl SlabKey for $name {
                fn new(index: u32, generation: u32) -> Self {
                    Self { index, generation: NonZeroU32::MIN.saturating_add(generation % GENERATIONS) }
                }

                fn index(self) -> u32 {
                    self.index
                }

                fn generation(self) -> u32 {
                    self.generation.get() - 1
                }
            }
        )*
    };
}

keys! {
    /// Where a value lives, and which of the place's tenants it is.
    Key;
    /// A connection of a shard.
    ConnectionKey;
    /// A session of a shard.
    SessionKey;
}

struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// Values by key; places are used again.
pub struct Slab<T, K = Key> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    keys: PhantomData<fn() -> K>,
}

impl<T, K> Default for Slab<T, K> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), keys: PhantomData }
    }
}

impl<T, K: SlabKey> Slab<T, K> {
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn insert(&mut self, value: T) -> K {
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            slot.value = Some(value);
            return K::new(index, slot.generation);
        }
        let index = u32::try_from(self.slots.len()).expect("a shard holds fewer than 2^32 things");
        self.slots.push(Slot { generation: 0, value: Some(value) });
        K::new(index, 0)
    }

    pub fn get(&self, key: K) -> Option<&T> {
        let slot = self.slots.get(key.index() as usize)?;
        if slot.generation == key.generation() { slot.value.as_ref() } else { None }
    }

    pub fn get_mut(&mut self, key: K) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index() as usize)?;
        if slot.generation == key.generation() { slot.value.as_mut() } else { None }
    }

    pub fn remove(&mut self, key: K) -> Option<T> {
        let slot = self.slots.get_mut(key.index() as usize)?;
        if slot.generation != key.generation() {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = (slot.generation + 1) % GENERATIONS;
        self.free.push(key.index());
        Some(value)
    }

    /// The key of what stands at the place.
    pub fn key_at(&self, place: u32) -> Option<K> {
        let slot = self.slots.get(place as usize)?;
        slot.value.as_ref().map(|_| K::new(place, slot.generation))
    }

    /// The keys among so many places from one on, and where to go on.
    pub fn keys_from(&self, from: u32, places: usize) -> (Vec<K>, Option<u32>) {
        let from = from as usize;
        let end = self.slots.len().min(from.saturating_add(places));
        let occupied = |(at, slot): (usize, &Slot<T>)| slot.value.as_ref().map(|_| K::new((from + at) as u32, slot.generation));
        let keys = self.slots.get(from..end).unwrap_or_default().iter().enumerate().filter_map(occupied).collect();
        (keys, (end < self.slots.len()).then_some(end as u32))
    }

    pub fn keys(&self) -> impl Iterator<Item = K> + '_ {
        let occupied = |(index, slot): (usize, &Slot<T>)| slot.value.as_ref().map(|_| K::new(index as u32, slot.generation));
        self.slots.iter().enumerate().filter_map(occupied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_finds_nothing() {
        let mut slab: Slab<&str> = Slab::default();
        let first = slab.insert("a");
        assert_eq!(slab.remove(first), Some("a"));
        let second = slab.insert("b");
        assert_eq!(second.index(), first.index());
        assert_eq!((slab.key_at(0), slab.key_at(1)), (Some(second), None));
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get(second), Some(&"b"));
        assert_eq!(slab.len(), 1);
    }
}
