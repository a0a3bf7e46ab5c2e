//! A node's receiver of one group: a map that committed entries add to, kept as snapshots.

use std::collections::BTreeMap;

use bytes::Bytes;
use tidewire::surface::cluster::{last_place, place};
use tidewire::surface::consensus::{Committed, Position};

/// Bytes of one piece; small, so that snapshots have several.
const PIECE_BYTES: usize = 64;

/// The state: of each entry that is not void, its name and the index it came at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receiver {
    pub entries: BTreeMap<u64, u64>,
    /// The place of the last thing it was told of; `None` before the first.
    pub last: Option<u64>,
    /// Of all entries in their order.
    pub digest: u64,
}

impl Receiver {
    pub fn apply(&mut self, at: u64, committed: &Committed) {
        assert!(
            at == place(self.next_index(), 0) || self.last.is_some_and(|last| at == last + 1),
            "there is no gap: {at} behind {:?}",
            self.last
        );
        if let Committed::Entry { bytes, .. } = committed {
            self.entries.insert(name_of(bytes), at);
            self.digest = (self.digest ^ name_of(bytes)).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ at;
        }
        self.last = Some(at);
    }

    /// The index of the log that comes next, unless more of the last comes.
    pub fn next_index(&self) -> u64 {
        self.last.map_or(0, |last| last / place(1, 0) + 1)
    }

    pub fn snapshot(&self, position: &Position) -> Vec<Bytes> {
        assert_eq!(position.index().map_or(0, |index| index + 1), self.next_index(), "a snapshot is asked for as far as the receiver is");
        let bytes: Vec<u8> =
            self.entries.iter().flat_map(|(name, index)| [*name, *index]).chain([self.digest, 0]).flat_map(u64::to_le_bytes).collect();
        bytes.chunks(PIECE_BYTES).map(Bytes::copy_from_slice).collect()
    }

    pub fn from_snapshot(position: &Position, pieces: &[Bytes]) -> Self {
        let bytes = pieces.concat();
        let pair = |pair: &[u8]| (name_of(&pair[..8]), name_of(&pair[8..]));
        let last = position.index().map(last_place);
        let mut pairs: Vec<(u64, u64)> = bytes.chunks(16).map(pair).collect();
        let (digest, _) = pairs.pop().unwrap();
        Self { entries: pairs.into_iter().collect(), last, digest }
    }
}

/// The name that an entry begins with.
pub fn name_of(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().unwrap())
}
