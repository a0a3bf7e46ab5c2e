//! One group's log and vote: a cache in memory, and where it is to be kept, the way to the store.
//!
//! A clone is the same log: whoever holds one starts the node again with it. Without a store what is appended counts as kept at once. With one, openraft is told when
//! the store has said so, and a vote waits until it survives a loss of power. What leaves the disk is the store's business: it folds what is committed
//! into the state, and openraft's purging frees the cache alone. So a start finds all that the state does not hold.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard};

use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
use openraft::{EntryPayload, LogState, OptionalSend};
use tokio::sync::oneshot;

use super::codec::{Malformed, Payload, decode_payload, decode_vote, encode_payload, encode_vote};
use super::types::{Judged, LogEntry, LogId, Membership, Types, Vote, size_of, term_of};
use super::{GroupId, Position};
use crate::storage::{self, Done, GroupLog, LogMembers, LogPayload, LogPosition, LogSender, LogWrite};

/// What is handed to the store at once, in bytes; or one entry that is longer.
const APPEND_BYTES: usize = 1 << 20;

/// A log that lasts as long as its last clone, or as its store.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Cached>>);

#[derive(Default)]
struct Cached {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    entries: BTreeMap<u64, LogEntry>,
    /// Of the entries.
    bytes: usize,
    /// An answer to openraft ends at about this many bytes.
    read_bytes_max: usize,
    keeper: Option<Keeper>,
}

/// The way to the store.
struct Keeper {
    group: u16,
    sender: LogSender,
    /// What the store was told to be committed.
    told: Option<u64>,
}

impl Log {
    /// The log that the store has kept, behind the state's position; from now on it keeps what comes.
    ///
    /// # Errors
    /// What was kept is not of this version.
    pub fn kept(group: GroupId, found: GroupLog, sender: LogSender) -> Result<Self, Malformed> {
        let GroupLog { vote, committed, position, entries, .. } = found;
        let vote = vote.map(|vote| decode_vote(&vote)).transpose()?;
        let purged = position.map(|position| LogId::new(position.term.into(), position.index));
        let entries =
            entries.into_values().map(|entry| Ok((entry.index, of_kept(entry)?))).collect::<Result<BTreeMap<_, _>, Malformed>>()?;
        // The store may know of more that is committed than it has kept.
        let known = committed.and_then(|committed| entries.range(..=committed).next_back()).map(|(_, entry)| entry.log_id);
        let keeper = Some(Keeper { group: group.0, sender, told: committed });
        let bytes = entries.values().map(size_of).sum();
        let cached = Cached { vote, committed: known.or(purged), purged, entries, bytes, read_bytes_max: usize::MAX, keeper };
        Ok(Self(Arc::new(Mutex::new(cached))))
    }

    pub(super) fn bound_reads(&self, bytes: usize) {
        self.cached().read_bytes_max = bytes;
    }

    /// The last index that is in the log no more.
    pub(super) fn purged(&self) -> Option<u64> {
        self.cached().purged.map(|id| id.index)
    }

    /// What the entries take.
    pub(super) fn bytes(&self) -> usize {
        self.cached().bytes
    }

    /// The last entry that is not among the last `kept` bytes.
    pub(super) fn spare(&self, kept: usize) -> Option<u64> {
        let cached = self.cached();
        let mut bytes = 0;
        let mut newest = cached.entries.values().rev().skip_while(|entry| {
            bytes += size_of(entry);
            bytes <= kept
        });
        newest.next().map(|entry| entry.log_id.index)
    }

    /// The entries from `first` to `last`, as many as come to about `bytes_max`, and at least one if there is one.
    pub(super) fn read(&self, first: u64, last: u64, bytes_max: usize) -> Vec<LogEntry> {
        let cached = self.cached();
        let mut bytes = 0;
        let mut found = Vec::new();
        for entry in cached.entries.range(first..=last).map(|(_, entry)| entry) {
            bytes += size_of(entry);
            if bytes > bytes_max && !found.is_empty() {
                break;
            }
            found.push(entry.clone());
        }
        found
    }

    /// Has the store keep what is known to be committed: else it would know so of the last entries only behind others.
    pub(super) fn keep_committed(&self) {
        self.cached().keep_committed();
    }

    fn cached(&self) -> MutexGuard<'_, Cached> {
        self.0.lock().expect("nothing panics while it holds the log")
    }
}

impl Cached {
    /// Hands something to the store, if there is one, behind what is committed by now: that is not worth a message of its own.
    fn keep(&mut self, write: impl FnOnce(u16) -> LogWrite) {
        self.keep_committed();
        let Some(keeper) = &self.keeper else { return };
        keeper.sender.send(write(keeper.group));
    }

    fn keep_committed(&mut self) {
        let Some(keeper) = &mut self.keeper else { return };
        // Said only of what is here: that a snapshot on its way covers more says nothing of this log's entries.
        let is_here = |id: &LogId| self.entries.get(&id.index).is_some_and(|entry| entry.log_id == *id);
        let committed = self.committed.filter(is_here).map(|id| id.index);
        if let Some(index) = committed.filter(|_| keeper.told < committed) {
            keeper.told = committed;
            keeper.sender.send(LogWrite::Committed { group: keeper.group, index });
        }
    }

    /// Hands entries to the store; `None` where there is none. Heard is when all are kept, or nothing where the store has ended.
    fn keep_entries(&mut self, entries: &[LogEntry]) -> Option<oneshot::Receiver<()>> {
        self.keeper.as_ref()?;
        let (done, kept) = told();
        let mut done = Some(done);
        let mut rest = entries;
        loop {
            let (now, later) = rest.split_at(fitting(rest));
            // They are kept in order, so the last says it for all.
            let done = if later.is_empty() { done.take() } else { None };
            let entries = now.iter().map(kept_of).collect();
            self.keep(|group| LogWrite::Append { group, entries, done: done.unwrap_or_else(|| Box::new(|| ())) });
            rest = later;
            if rest.is_empty() {
                return Some(kept);
            }
        }
    }
}

/// How many of the entries are handed over at once.
fn fitting(entries: &[LogEntry]) -> usize {
    let mut bytes = 0;
    let fits = |entry: &&LogEntry| {
        bytes += size_of(entry);
        bytes <= APPEND_BYTES
    };
    entries.iter().take_while(fits).count().max(1).min(entries.len())
}

/// What the store calls, and who hears of it.
fn told() -> (Done, oneshot::Receiver<()>) {
    let (sender, kept) = oneshot::channel();
    let done = Box::new(move || {
        // Nobody waits any more where the node has stopped.
        let _ = sender.send(());
    });
    (done, kept)
}

fn ended() -> io::Error {
    io::Error::other("the store has ended")
}

fn kept_of(entry: &LogEntry) -> storage::LogEntry {
    let payload = match &entry.payload {
        EntryPayload::Blank => LogPayload::Nothing,
        EntryPayload::Normal(Judged { term, bytes }) => LogPayload::Entry { judged: *term, bytes: bytes.clone() },
        EntryPayload::Membership(_) => LogPayload::Members(encode_payload(&entry.payload).into()),
    };
    storage::LogEntry { index: entry.log_id.index, term: term_of(&entry.log_id), payload }
}

fn of_kept(entry: storage::LogEntry) -> Result<LogEntry, Malformed> {
    let payload = match entry.payload {
        LogPayload::Nothing => EntryPayload::Blank,
        LogPayload::Entry { judged, bytes } => EntryPayload::Normal(Judged { term: judged, bytes }),
        LogPayload::Members(bytes) => members(decode_payload(&bytes)?)?,
    };
    Ok(LogEntry { log_id: LogId::new(entry.term.into(), entry.index), payload })
}

fn members(payload: Payload) -> Result<Payload, Malformed> {
    if matches!(payload, EntryPayload::Membership(_)) { Ok(payload) } else { Err(Malformed) }
}

impl Position {
    /// As the store has it.
    ///
    /// # Errors
    /// What was kept is not of this version.
    pub fn of_kept(kept: &LogPosition) -> Result<Self, Malformed> {
        let mut membership = Membership::default();
        if let Some(LogMembers { index, term, bytes }) = &kept.members
            && let EntryPayload::Membership(members) = members(decode_payload(&bytes.to_vec().into())?)?
        {
            membership = Membership::new(Some(LogId::new((*term).into(), *index)), members);
        }
        Ok(Self { id: Some(LogId::new(kept.term.into(), kept.index)), membership })
    }

    /// For the store; `None` before the first entry.
    pub fn to_kept(&self) -> Option<LogPosition> {
        let id = self.id?;
        let members = self.membership.log_id().map(|of| {
            let payload: Payload = EntryPayload::Membership(self.membership.membership().clone());
            LogMembers { index: of.index, term: term_of(&of), bytes: encode_payload(&payload).into() }
        });
        Some(LogPosition { index: id.index, term: term_of(&id), members })
    }
}

impl RaftLogReader<Types> for Log {
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
        let cached = self.cached();
        Ok(cached.entries.range(first..).map(|(_, entry)| entry).take_while(|entry| range.contains(&entry.log_id.index)).cloned().collect())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.cached().vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<LogEntry>, io::Error> {
        let bytes_max = self.cached().read_bytes_max;
        let Some(last) = end.checked_sub(1).filter(|last| *last >= start) else { return Ok(Vec::new()) };
        Ok(self.read(start, last, bytes_max))
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let cached = self.cached();
        let last = cached.entries.last_key_value().map(|(_, entry)| entry.log_id);
        Ok(LogState { last_purged_log_id: cached.purged, last_log_id: last.or(cached.purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let kept = {
            let mut cached = self.cached();
            let (done, kept) = told();
            let bytes = encode_vote(vote).into();
            cached.keep(|group| LogWrite::Vote { group, vote: bytes, done });
            cached.keeper.is_some().then_some(kept)
        };
        if let Some(kept) = kept {
            kept.await.map_err(|_| ended())?;
        }
        self.cached().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.cached().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.cached().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = LogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<LogEntry> = entries.into_iter().collect();
        let mut cached = self.cached();
        let kept = cached.keep_entries(&entries);
        cached.bytes += entries.iter().map(size_of).sum::<usize>();
        cached.entries.extend(entries.into_iter().map(|entry| (entry.log_id.index, entry)));
        match kept {
            None => callback.io_completed(Ok(())),
            Some(kept) => drop(tokio::task::spawn_local(async move { callback.io_completed(kept.await.map_err(|_| ended())) })),
        }
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let first_cut = last.map_or(0, |last| last.index + 1);
        let mut cached = self.cached();
        let cut = cached.entries.split_off(&first_cut);
        cached.bytes -= cut.values().map(size_of).sum::<usize>();
        cached.keep(|group| LogWrite::Cut { group, after: last.map(|last| last.index) });
        Ok(())
    }

    async fn purge(&mut self, through: LogId) -> Result<(), io::Error> {
        let mut cached = self.cached();
        cached.purged = cached.purged.max(Some(through));
        let kept = cached.entries.split_off(&(through.index + 1));
        let purged = std::mem::replace(&mut cached.entries, kept);
        cached.bytes -= purged.values().map(size_of).sum::<usize>();
        Ok(())
    }
}
