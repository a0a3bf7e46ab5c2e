//! Ids, time, placement, slabs and what finds places of them: what everything above stands on.

mod latencies;
mod place_table;
pub mod placement;
mod slab;
mod small_set;
mod split_map;
mod wheel;

#[cfg(feature = "server")]
pub use latencies::INTERVAL_MS;
pub use latencies::Latencies;
pub use place_table::PlaceTable;
pub use slab::{ConnectionKey, Key, SessionKey, Slab, SlabKey};
pub use small_set::SmallSet;
pub use split_map::SplitMap;
pub use wheel::Wheel;

/// A point in time, in nanoseconds of the host's monotonic clock. The core never reads a clock: time is an argument.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    pub fn after_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms.saturating_mul(1_000_000)))
    }

    /// Nanoseconds since `earlier`; 0 if that is later.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// One core's number, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardIndex(pub u16);

/// A session of any shard, for whatever outlives its connections or is elsewhere. No other session of this run has it, nor of an earlier one whose sessions
/// are there still.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

impl SessionId {
    /// The `number`th session of the shard.
    pub fn new(shard: ShardIndex, number: u64) -> Self {
        Self(number << 16 | u64::from(shard.0))
    }

    /// The session that says this number of itself.
    pub fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// Where the session lives, of so many shards. One of an earlier run may be of a shard that is not there any more.
    pub fn home(self, shards: u16) -> ShardIndex {
        let began = self.0 as u16;
        // A division costs more than all else here, and is hardly ever needed.
        ShardIndex(if began < shards { began } else { began % shards })
    }

    /// Which session of the shard where it began it is.
    pub fn count(self) -> u64 {
        self.0 >> 16
    }

    pub fn number(self) -> u64 {
        self.0
    }
}

/// A topic's server-wide number: never 0, never used again while the server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicId(pub u64);

/// Appends to a list of which there are very many, most with one entry: the first takes room for no others.
pub fn push_lean<T>(list: &mut Vec<T>, entry: T) {
    if list.capacity() == 0 {
        list.reserve_exact(1);
    }
    list.push(entry);
}

/// A table by ids that the server itself gives, which follow each other: nobody can choose them, so they need no random hash, and the order in which
/// such a table is gone through is always the same.
pub type IdMap<K, V> = hashbrown::HashMap<K, V, std::hash::BuildHasherDefault<IdHasher>>;

/// See [`IdMap`].
#[derive(Clone, Copy, Default)]
pub struct IdHasher(u64);

impl std::hash::Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        // The high bits tell entries of one bucket apart, the low ones choose it.
        let mixed = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ mixed >> 32;
    }
}

/// A set of shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardSet(u64);

impl ShardSet {
    pub const SHARDS_MAX: usize = 64;

    pub fn insert(&mut self, shard: ShardIndex) {
        self.0 |= 1 << shard.0;
    }

    pub fn remove(&mut self, shard: ShardIndex) {
        self.0 &= !(1 << shard.0);
    }

    pub fn contains(self, shard: ShardIndex) -> bool {
        self.0 & (1 << shard.0) != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Those that are in both.
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn iter(self) -> impl Iterator<Item = ShardIndex> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            if rest == 0 {
                return None;
            }
            let lowest = rest.trailing_zeros();
            rest &= rest - 1;
            Some(ShardIndex(lowest as u16))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_set_lists_its_members_in_order() {
        let mut set = ShardSet::default();
        for index in [63, 0, 7] {
            set.insert(ShardIndex(index));
        }
        set.remove(ShardIndex(7));
        assert_eq!(set.iter().map(|s| s.0).collect::<Vec<_>>(), [0, 63]);
        assert!(!set.contains(ShardIndex(7)));
    }
}
