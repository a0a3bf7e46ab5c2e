//! Finds a place of a slab by what stands there: a table of eight bytes for each place, half of them of a hash.
//!
//! What it finds by stays in the slab. It keeps hashes so that it grows without a look at every place: there may be hundreds of thousands.

use hashbrown::HashTable;

/// See the module.
#[derive(Default)]
pub struct PlaceTable(HashTable<Slot>);

struct Slot {
    place: u32,
    hash: u32,
}

impl PlaceTable {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The place with this hash that is the one looked for.
    pub fn find(&self, hash: u32, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        self.0.find(spread(hash), |slot| slot.hash == hash && is_it(slot.place)).map(|slot| slot.place)
    }

    /// The place is found from now on, and not the one that was looked for before by the same.
    pub fn put(&mut self, hash: u32, place: u32, is_it: impl Fn(u32) -> bool) {
        match self.0.find_mut(spread(hash), |slot| slot.hash == hash && is_it(slot.place)) {
            Some(slot) => slot.place = place,
            None => drop(self.0.insert_unique(spread(hash), Slot { place, hash }, |slot| spread(slot.hash))),
        }
    }

    /// The place is found no more, if it was.
    pub fn remove(&mut self, hash: u32, place: u32) {
        if let Ok(entry) = self.0.find_entry(spread(hash), |slot| slot.place == place) {
            entry.remove();
        }
    }
}

/// The table uses the low bits of a hash, and its highest ones.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_one_hash_are_told_apart_and_one_may_take_the_other_s() {
        let mut table = PlaceTable::default();
        for place in 0..100 {
            table.put(place % 3, place, |_| false);
        }
        assert_eq!((table.len(), table.find(1, |place| place == 40), table.find(2, |place| place == 40)), (100, Some(40), None));
        table.put(1, 200, |place| place == 40);
        assert_eq!((table.len(), table.find(1, |place| place == 40), table.find(1, |place| place == 200)), (100, None, Some(200)));
        // It is not found any more, and neither is there anything to take out.
        table.remove(1, 40);
        table.remove(1, 200);
        table.remove(2, 41);
        assert_eq!((table.len(), table.find(2, |place| place == 41)), (98, None));
    }
}
