//! A row of the table as a store and another server's snapshot have it: an rkyv archive behind a number for its form, checked on read.

use super::super::entry::FORM;
use super::{Kept, Made, Once, Row, Source, WINDOW};
use rkyv::rancor::Failure;
use rkyv::{Archive, Serialize};
use std::collections::VecDeque;

/// What a table says was no row of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedRow;

#[derive(Archive, Serialize)]
struct StoredRow {
    time_ms: u64,
    forgotten: u64,
    kept: Vec<StoredMade>,
}

#[derive(Archive, Serialize)]
struct StoredMade {
    number: u64,
    index: u64,
    kind: u8,
    /// Sequence and timestamp of an event.
    event: Option<(u64, u64)>,
}

impl Once {
    /// All that is known, in no order.
    pub fn rows(&self) -> impl Iterator<Item = (Source, &Row)> {
        self.rows.iter().map(|(source, row)| (*source, row))
    }

    pub fn row(&self, source: Source) -> Option<&Row> {
        self.rows.get(&source)
    }
}

impl Row {
    pub fn encode(&self) -> Vec<u8> {
        let kept = self.kept.iter().map(|Kept { number, index, made }| StoredMade {
            number: *number,
            index: *index,
            kind: made.kind(),
            event: made.event(),
        });
        let stored = StoredRow { time_ms: self.time_ms, forgotten: self.forgotten, kept: kept.collect() };
        [&[FORM][..], &rkyv::to_bytes::<Failure>(&stored).expect("memory takes it")].concat()
    }

    /// Reads what [`Self::encode`] wrote, which another server may have.
    pub fn decode(bytes: &[u8]) -> Result<Self, MalformedRow> {
        let bytes = bytes.strip_prefix(&[FORM]).ok_or(MalformedRow)?;
        let stored = rkyv::access::<ArchivedStoredRow, Failure>(bytes).map_err(|_| MalformedRow)?;
        let mut row = Self { time_ms: stored.time_ms.to_native(), forgotten: stored.forgotten.to_native(), kept: VecDeque::new() };
        let mut last = row.forgotten;
        for kept in stored.kept.iter() {
            let number = kept.number.to_native();
            let event = kept.event.as_ref().map(|event| (event.0.to_native(), event.1.to_native()));
            let made = Made::of_kind(kept.kind, event).filter(|_| number > last && number - row.forgotten <= WINDOW);
            row.kept.push_back(Kept { number, index: kept.index.to_native(), made: made.ok_or(MalformedRow)? });
            last = number;
        }
        Ok(row)
    }
}

impl Made {
    fn event(self) -> Option<(u64, u64)> {
        match self {
            Self::Appended { sequence, timestamp_ms } => Some((sequence, timestamp_ms)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Asked;
    use proptest::prelude::*;

    const SOURCE: Source = Source { server: 1, boot: 10, shard: 2 };

    #[test]
    fn a_row_that_is_kept_is_the_same_when_it_is_read() {
        let mut once = Once::default();
        let appended = |sequence| Made::Appended { sequence, timestamp_ms: u64::MAX };
        for (number, made) in (700..).zip([Made::Done, Made::Created(false), Made::Created(true), Made::Removed, appended(7)]) {
            once.note(&Asked { source: SOURCE, number, made }, 5, number * 2);
        }
        let row = once.row(SOURCE).unwrap();
        let bytes = row.encode();
        assert_eq!(Row::decode(&bytes).as_ref(), Ok(row));
        assert_eq!(Row::decode(&bytes[..bytes.len() - 1]), Err(MalformedRow));
        let unsorted = Row { kept: row.kept.iter().rev().copied().collect(), ..row.clone() };
        assert_eq!(Row::decode(&unsorted.encode()), Err(MalformedRow));
        let too_long = Row { forgotten: 700 - WINDOW, ..row.clone() };
        assert_eq!(Row::decode(&too_long.encode()), Err(MalformedRow));
    }

    proptest! {
        #[test]
        fn no_bytes_are_read_beyond_their_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Row::decode(&bytes);
            let _ = Row::decode(&[&[FORM][..], &bytes].concat());
        }
    }
}
