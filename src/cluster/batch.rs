//! Entries that were proposed at about the same time stand as one in the log, as its parts: agreement costs by entry, not by part.
//!
//! ```text
//! entry of the log := part*        part := length (4 bytes, little endian) bytes
//! ```
//! A part has a *place* of its own: the entry's index and the part's number. Places ascend by the log's order.

use super::entry::MalformedEntry;
use bytes::Bytes;

/// An entry has so many parts at most.
pub const PARTS_MAX: usize = 1 << PART_BITS;

const PART_BITS: u32 = 8;
const LENGTH_BYTES: usize = 4;

/// The place of a part of the entry at `index`.
pub fn place(index: u64, part: usize) -> u64 {
    debug_assert!(part < PARTS_MAX);
    index << PART_BITS | part as u64
}

/// The last place that a part of the entry at `index` can have.
pub fn last_place(index: u64) -> u64 {
    place(index, PARTS_MAX - 1)
}

/// Parts that are to be one entry of a log.
#[derive(Default)]
pub struct Batch {
    bytes: Vec<u8>,
    parts: usize,
}

impl Batch {
    /// Whether there is room for another part, and the whole has at most `bytes_max` bytes with it, or is the first.
    pub fn takes(&self, part: &[u8], bytes_max: usize) -> bool {
        self.parts == 0 || self.parts < PARTS_MAX && self.bytes.len() + LENGTH_BYTES + part.len() <= bytes_max
    }

    pub fn push(&mut self, part: &[u8]) {
        let length = u32::try_from(part.len()).expect("what is put to a log is bounded far below");
        self.bytes.reserve(LENGTH_BYTES + part.len());
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(part);
        self.parts += 1;
    }

    pub fn into_bytes(self) -> Bytes {
        self.bytes.into()
    }
}

/// The parts of an entry of a log, in order. What is no part is an error, and the last.
pub fn parts(entry: &Bytes) -> impl Iterator<Item = Result<Bytes, MalformedEntry>> + use<> {
    let mut rest = entry.clone();
    let mut next = 0;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let part = next_part(&rest).filter(|_| next < PARTS_MAX).map(|part| rest.slice(part)).ok_or(MalformedEntry);
        next += 1;
        rest = part.as_ref().map_or_else(|_| Bytes::new(), |part| rest.slice(LENGTH_BYTES + part.len()..));
        Some(part)
    })
}

/// Whether there is anything in the parts.
pub fn is_empty(entry: &Bytes) -> bool {
    parts(entry).all(|part| part.is_ok_and(|part| part.is_empty()))
}

fn next_part(bytes: &[u8]) -> Option<std::ops::Range<usize>> {
    let (length, rest) = bytes.split_first_chunk()?;
    let length = u32::from_le_bytes(*length) as usize;
    (length <= rest.len()).then_some(LENGTH_BYTES..LENGTH_BYTES + length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn batch(parts: &[Vec<u8>]) -> Bytes {
        let mut batch = Batch::default();
        parts.iter().for_each(|part| batch.push(part));
        batch.into_bytes()
    }

    #[test]
    fn a_batch_takes_so_many_parts_and_bytes() {
        let mut batch = Batch::default();
        assert!(batch.takes(&[0; 100], 10), "one alone may be longer");
        batch.push(&[1; 8]);
        assert!(batch.takes(&[0; 4], 20) && !batch.takes(&[0; 5], 20));
        (1..PARTS_MAX).for_each(|_| batch.push(b""));
        assert!(!batch.takes(b"", usize::MAX));
    }

    #[test]
    fn places_ascend() {
        let places = [place(0, 0), place(0, 1), last_place(0), place(1, 0), place(1, 63), place(2, 0)];
        assert!(places.is_sorted_by(|one, other| one < other));
        assert_eq!(last_place(1), place(1, PARTS_MAX - 1));
    }

    #[test]
    fn what_is_cut_is_an_error() {
        let bytes = batch(&[b"one".to_vec(), b"two".to_vec()]);
        let found: Vec<_> = parts(&bytes.slice(..bytes.len() - 1)).collect();
        assert_eq!(found, [Ok(Bytes::from_static(b"one")), Err(MalformedEntry)]);
        assert!(!is_empty(&bytes) && is_empty(&batch(&[vec![], vec![]])) && is_empty(&Bytes::new()));
        let many = batch(&vec![vec![]; PARTS_MAX + 1]);
        assert_eq!(parts(&many).filter(Result::is_err).count(), 1);
    }

    proptest! {
        #[test]
        fn what_is_batched_is_read_again(entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..PARTS_MAX)) {
            let found: Vec<Vec<u8>> = parts(&batch(&entries)).map(|part| part.unwrap().to_vec()).collect();
            prop_assert_eq!(found, entries);
        }

        #[test]
        fn no_bytes_are_read_beyond_their_end(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let length = bytes.len();
            let found: usize = parts(&bytes.into()).map(|part| part.map_or(0, |part| part.len() + LENGTH_BYTES)).sum();
            prop_assert!(found <= length);
        }
    }
}
