//! Events in the order of their sequences, in chunks.
//!
//! Appending moves at most one chunk, never all; both ends are cheap, and taking an event out of the middle costs its chunk and a
//! count per chunk to the nearer end. Events are found by position, by sequence or by time in logarithmic time. What an event means is left
//! to the parent.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// The most events of a chunk: what removing from the middle may have to move.
const CHUNK_EVENTS_MAX: usize = 512;

/// One event as it is held. Sequences rise in a log, timestamps do not fall.
#[derive(Clone)]
pub(super) struct Stored {
    pub sequence: u64,
    pub timestamp_ms: u64,
    /// Of an original event the sequence of its latest edit, 0 where there is none: the first event is never an edit.
    /// Of an edit the sequence of its original.
    pub link: u64,
    pub author: Arc<str>,
    pub value: Box<[u8]>,
}

/// No chunk is empty; a small log has one, which grows with it.
#[derive(Clone, Default)]
pub(super) struct Log {
    chunks: VecDeque<Chunk>,
}

#[derive(Clone)]
pub(super) struct Chunk {
    /// How many events ever stood before the first one, less those taken out of the middle. So a position is a difference of two.
    base: u64,
    events: VecDeque<Stored>,
}

impl Chunk {
    pub fn events(&self) -> impl Iterator<Item = &Stored> {
        self.events.iter()
    }
}

impl Log {
    pub fn len(&self) -> usize {
        self.chunks.back().map_or(0, |last| (last.base - self.base()) as usize + last.events.len())
    }

    pub fn push(&mut self, event: Stored) {
        match self.chunks.back_mut() {
            Some(last) if last.events.len() < CHUNK_EVENTS_MAX => last.events.push_back(event),
            last => {
                let base = last.map_or(0, |last| last.base + last.events.len() as u64);
                self.chunks.push_back(Chunk { base, events: VecDeque::from([event]) });
            }
        }
    }

    pub fn pop_front(&mut self) -> Option<Stored> {
        let first = self.chunks.front_mut()?;
        let event = first.events.pop_front();
        first.base += 1;
        if first.events.is_empty() {
            self.chunks.pop_front();
        }
        event
    }

    /// Takes out the first chunk, if it has many events and all of them come before the sequence.
    pub fn pop_chunk(&mut self, before: u64) -> Option<Chunk> {
        let first = self.chunks.front()?;
        let is_whole = first.events.back().is_some_and(|last| last.sequence < before) && first.events.len() >= CHUNK_EVENTS_MAX / 8;
        if is_whole { self.chunks.pop_front() } else { None }
    }

    pub fn into_chunks(self) -> VecDeque<Chunk> {
        self.chunks
    }

    pub fn first(&self) -> Option<&Stored> {
        self.chunks.front()?.events.front()
    }

    pub fn last(&self) -> Option<&Stored> {
        self.chunks.back()?.events.back()
    }

    pub fn at(&self, position: usize) -> Option<&Stored> {
        let (chunk, index) = self.locate(position)?;
        self.chunks[chunk].events.get(index)
    }

    pub fn find(&self, sequence: u64) -> Option<&Stored> {
        self.at(self.before_sequence(sequence)).filter(|event| event.sequence == sequence)
    }

    pub fn find_mut(&mut self, sequence: u64) -> Option<&mut Stored> {
        let (chunk, index) = self.locate(self.before_sequence(sequence))?;
        self.chunks[chunk].events.get_mut(index).filter(|event| event.sequence == sequence)
    }

    /// Takes an event out from wherever it stands.
    pub fn remove(&mut self, sequence: u64) -> Option<Stored> {
        let (at, index) = self.locate(self.before_sequence(sequence))?;
        if self.chunks[at].events[index].sequence != sequence {
            return None;
        }
        let event = self.chunks[at].events.remove(index);
        // Only differences count, so the fewer chunks are told: mostly what goes is near one of the ends.
        if at < self.chunks.len() / 2 {
            self.chunks.range_mut(..=at).for_each(|earlier| earlier.base += 1);
        } else {
            self.chunks.range_mut(at + 1..).for_each(|later| later.base -= 1);
        }
        self.join_small(at);
        event
    }

    /// How many events have a lower sequence: the position of the first that has not.
    pub fn before_sequence(&self, sequence: u64) -> usize {
        self.partition_point(|event| event.sequence < sequence)
    }

    /// The position of the first event for which `is_before` does not hold; it holds for all before that.
    pub fn partition_point(&self, is_before: impl Fn(&Stored) -> bool) -> usize {
        let chunk = self.chunks.partition_point(|chunk| chunk.events.back().is_some_and(&is_before));
        match self.chunks.get(chunk) {
            Some(found) => (found.base - self.base()) as usize + found.events.partition_point(is_before),
            None => self.len(),
        }
    }

    /// The events at these positions, as far as there are any.
    pub fn range(&self, positions: Range<usize>) -> impl DoubleEndedIterator<Item = &Stored> {
        let first = self.locate(positions.start).map_or(self.chunks.len(), |(chunk, _)| chunk);
        let end = self.locate(positions.end).map_or(self.chunks.len(), |(chunk, _)| chunk + 1).max(first);
        self.chunks.range(first..end).flat_map(move |chunk| {
            let start = (chunk.base - self.base()) as usize;
            let clamp = |position: usize| position.saturating_sub(start).min(chunk.events.len());
            chunk.events.range(clamp(positions.start)..clamp(positions.end).max(clamp(positions.start)))
        })
    }

    fn base(&self) -> u64 {
        self.chunks.front().map_or(0, |first| first.base)
    }

    fn locate(&self, position: usize) -> Option<(usize, usize)> {
        if position >= self.len() {
            return None;
        }
        let base = self.base() + position as u64;
        let chunk = self.chunks.partition_point(|chunk| chunk.base <= base) - 1;
        Some((chunk, (base - self.chunks[chunk].base) as usize))
    }

    /// Drops the chunk if it is empty, else joins it with a neighbour where both are small: chunks stay a quarter full on average.
    fn join_small(&mut self, at: usize) {
        if self.chunks[at].events.is_empty() {
            self.chunks.remove(at);
            return;
        }
        for left in [at, at.wrapping_sub(1)] {
            let length = |chunk: usize| self.chunks.get(chunk).map_or(CHUNK_EVENTS_MAX, |chunk| chunk.events.len());
            if length(left) + length(left.wrapping_add(1)) <= CHUNK_EVENTS_MAX / 2
                && let Some(mut right) = self.chunks.remove(left + 1)
            {
                self.chunks[left].events.append(&mut right.events);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stored(sequence: u64) -> Stored {
        Stored { sequence, timestamp_ms: sequence / 3, link: 0, author: "a".into(), value: Box::default() }
    }

    fn sequences(log: &Log, positions: Range<usize>) -> Vec<u64> {
        log.range(positions).map(|event| event.sequence).collect()
    }

    fn check(log: &Log, model: &[u64]) {
        assert_eq!(log.len(), model.len());
        assert_eq!(sequences(log, 0..usize::MAX), model);
        assert!(log.chunks.iter().all(|chunk| (1..=CHUNK_EVENTS_MAX).contains(&chunk.events.len())));
        for position in (0..model.len() + 2).step_by(97) {
            assert_eq!(log.at(position).map(|event| event.sequence), model.get(position).copied());
            let end = model.len().min(position + 600);
            assert_eq!(sequences(log, position..position + 600), model.get(position..end).unwrap_or(&[]));
        }
        for sequence in (0..model.last().map_or(2, |last| last + 2)).step_by(89) {
            assert_eq!(log.before_sequence(sequence), model.partition_point(|held| *held < sequence));
            assert_eq!(log.find(sequence).is_some(), model.binary_search(&sequence).is_ok());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Steps push up to 700 events, pop as many, or take every n-th out.
        #[test]
        fn a_log_is_a_sorted_list(steps in proptest::collection::vec((0..5_u8, 1..700_usize), 1..14)) {
            let (mut log, mut model, mut next) = (Log::default(), Vec::new(), 0);
            for (kind, count) in steps {
                match kind {
                    0..=2 => for _ in 0..count {
                        log.push(stored(next));
                        model.push(next);
                        // Some sequences are of the other log.
                        next += 1 + next % 2;
                    },
                    3 => for _ in 0..count {
                        let expected = (!model.is_empty()).then(|| model.remove(0));
                        prop_assert_eq!(log.pop_front().map(|event| event.sequence), expected);
                    },
                    _ => {
                        let gone: Vec<u64> = model.iter().copied().filter(|sequence| !sequence.is_multiple_of(1 + count as u64 % 9)).collect();
                        for sequence in gone {
                            prop_assert_eq!(log.remove(sequence).map(|event| event.sequence), Some(sequence));
                            prop_assert!(log.remove(sequence).is_none());
                            model.retain(|held| *held != sequence);
                        }
                    }
                }
                check(&log, &model);
            }
        }
    }

    #[test]
    fn chunks_that_were_thinned_out_are_joined() {
        let mut log = Log::default();
        (0..100_000).for_each(|sequence| log.push(stored(sequence)));
        for sequence in (0..100_000).filter(|sequence| sequence % 100 != 0) {
            log.remove(sequence);
        }
        assert_eq!(log.len(), 1000);
        assert!(log.chunks.len() <= 1000 / (CHUNK_EVENTS_MAX / 4) + 1, "{} chunks", log.chunks.len());
    }
}
