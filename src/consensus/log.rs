//! One group's log and vote, in memory.
//!
//! Behind openraft's traits, so that one on the journal can take its place. A clone is the same log: whoever holds one starts the node again with it.
//! What is appended counts as kept at once.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard};

use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
use openraft::{LogState, OptionalSend};

use super::types::{LogEntry, LogId, Types, Vote, size_of};

/// A log that lasts as long as its last clone.
#[derive(Clone, Default)]
pub struct MemoryLog(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    entries: BTreeMap<u64, LogEntry>,
    /// An answer to openraft ends at about this many bytes.
    read_bytes_max: usize,
}

impl MemoryLog {
    pub(super) fn bound_reads(&self, bytes: usize) {
        self.kept().read_bytes_max = bytes;
    }

    /// The last index that is in the log no more.
    pub(super) fn purged(&self) -> Option<u64> {
        self.kept().purged.map(|id| id.index)
    }

    /// The entries from `first` to `last`, as many as come to about `bytes_max`, and at least one if there is one.
    pub(super) fn read(&self, first: u64, last: u64, bytes_max: usize) -> Vec<LogEntry> {
        let kept = self.kept();
        let mut bytes = 0;
        let mut found = Vec::new();
        for entry in kept.entries.range(first..=last).map(|(_, entry)| entry) {
            bytes += size_of(entry);
            if bytes > bytes_max && !found.is_empty() {
                break;
            }
            found.push(entry.clone());
        }
        found
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().expect("nothing panics while it holds the log")
    }
}

impl RaftLogReader<Types> for MemoryLog {
    async fn try_get_log_entries<R>(&mut self, range: R) -> Result<Vec<LogEntry>, io::Error>
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        // An empty range is allowed, and one that ends before it starts is too.
        let first = match range.start_bound() {
            Bound::Included(first) => *first,
            Bound::Excluded(before) => before + 1,
            Bound::Unbounded => 0,
        };
        let kept = self.kept();
        Ok(kept.entries.range(first..).map(|(_, entry)| entry).take_while(|entry| range.contains(&entry.log_id.index)).cloned().collect())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.kept().vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<LogEntry>, io::Error> {
        let bytes_max = self.kept().read_bytes_max;
        let Some(last) = end.checked_sub(1).filter(|last| *last >= start) else { return Ok(Vec::new()) };
        Ok(self.read(start, last, bytes_max))
    }
}

impl RaftLogStorage<Types> for MemoryLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let kept = self.kept();
        let last = kept.entries.last_key_value().map(|(_, entry)| entry.log_id);
        Ok(LogState { last_purged_log_id: kept.purged, last_log_id: last.or(kept.purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.kept().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.kept().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.kept().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = LogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.kept().entries.extend(entries.into_iter().map(|entry| (entry.log_id.index, entry)));
        callback.io_completed(Ok(()));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let first_cut = last.map_or(0, |last| last.index + 1);
        self.kept().entries.split_off(&first_cut);
        Ok(())
    }

    async fn purge(&mut self, through: LogId) -> Result<(), io::Error> {
        let mut kept = self.kept();
        kept.purged = kept.purged.max(Some(through));
        kept.entries = kept.entries.split_off(&(through.index + 1));
        Ok(())
    }
}
