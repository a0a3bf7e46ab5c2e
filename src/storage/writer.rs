//! The storage thread's decisions: what is written, when it is acknowledged, and what follows from an error.
//!
//! Records are encoded into one group; a commit writes the group at once, syncs it where that is asked for, and then
//! acknowledges. After an error the group stands as it is and is written again, to the same place or to a new segment, so
//! that nothing that was taken is lost, repeated or reordered. After a failed sync nothing is known of what the segment
//! holds behind the last sync: the group goes to a new segment whose header supersedes it.
//!
//! Says nothing about threads and time: `handle` does.

use super::counters::Counters;
use super::disk::{Disk, Sync};
use super::logs::{Done, LogWrite};
use super::replay::Sealed;
use super::{Ack, Answer};
use crate::base::{ShardIndex, Time};
use crate::journal::{Append, Frame, HEADER_BYTES, Header, Record, Salt, encode};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

/// What a writer obeys.
#[derive(Clone, Copy, Debug)]
pub struct WriterLimits {
    pub ack: Ack,
    pub shards: u16,
    /// A segment of this size is followed by another.
    pub segment_bytes: u64,
    /// So is one that is this old, so that what is seldom written is checkpointed too.
    pub segment_age_ms: u64,
}

/// Where a writer goes on. All records before it survive a loss of power.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    pub salt: Salt,
    pub next_record: u64,
    pub last_segment: u64,
    /// What the checkpointed state holds.
    pub checkpoint: u64,
}

/// Four kinds of method: getters; `handle_*`, what another thread did; `take` and `commit`; `poll_*`, work for another
/// thread. Answers are pushed to the list that is handed in.
pub struct Writer {
    disk: Box<dyn Disk>,
    limits: WriterLimits,
    salt: Salt,
    counters: Arc<Counters>,
    /// The segment that is written to, if there is one yet.
    active: Option<Active>,
    last_segment: u64,
    must_roll: bool,
    next_record: u64,
    group: Group,
    failing: Option<Arc<str>>,
    checkpoint: u64,
    /// All records up to this one survive a loss of power.
    synced: u64,
    /// The last frame's note of it.
    noted: u64,
    /// The last record that is more than a mark.
    last_change: u64,
    /// Up to here a sync failed, so later ones prove nothing until the state holds these records.
    doubtful: u64,
    /// Up to here a sync was asked for.
    sync_asked: u64,
    sealed: Vec<Sealed>,
    syncs: Vec<(Sync, u64)>,
    /// Who waits for a vote, by its record, until that survives a loss of power.
    votes: VecDeque<(u64, Done)>,
    /// Who is to be told that what it handed over is kept.
    kept: Vec<Done>,
    committed: Vec<Committed>,
    /// A segment with a record up to this one is to be ended.
    seal_through: u64,
}

/// Up to where a group's log is committed.
struct Committed {
    group: u16,
    known: u64,
    /// Up to where a record says so.
    noted: Option<u64>,
}

struct Active {
    segment: u64,
    first_record: u64,
    /// Without the group.
    length: u64,
    created: Time,
}

/// Encoded records that are not written yet, or not synced yet where that is asked for: what a new segment would need if the
/// present one failed.
#[derive(Default)]
struct Group {
    bytes: Vec<u8>,
    /// So many of the bytes are in the segment already.
    written: usize,
    first_record: u64,
    records: u64,
    /// Each shard's highest ticket.
    tickets: Vec<(ShardIndex, u64)>,
    /// Who waits for entries of logs.
    appends: Vec<Done>,
}

/// Buffers that one large group left behind are not kept.
const GROUP_BYTES_KEPT: usize = 4 << 20;

impl Writer {
    pub fn new(disk: Box<dyn Disk>, limits: WriterLimits, position: Position, counters: Arc<Counters>) -> Self {
        let Position { salt, next_record, last_segment, checkpoint } = position;
        Self {
            disk,
            limits,
            salt,
            counters,
            active: None,
            last_segment,
            must_roll: false,
            next_record,
            group: Group::default(),
            failing: None,
            checkpoint,
            synced: next_record - 1,
            noted: next_record - 1,
            last_change: next_record - 1,
            doubtful: 0,
            sync_asked: next_record - 1,
            sealed: Vec::new(),
            syncs: Vec::new(),
            votes: VecDeque::new(),
            kept: Vec::new(),
            committed: Vec::new(),
            seal_through: 0,
        }
    }

    pub fn is_failing(&self) -> bool {
        self.failing.is_some()
    }

    pub fn group_bytes(&self) -> usize {
        self.group.bytes.len()
    }

    /// Encodes changes into the group; they are on disk after [`Self::commit`].
    pub fn take(&mut self, shard: ShardIndex, appends: &[Append], answers: &mut Vec<(ShardIndex, Answer)>) {
        let Some(last) = appends.last() else { return };
        for append in appends {
            self.encode(&Record::from(&append.change));
        }
        self.last_change = self.next_record - 1;
        if self.limits.ack == Ack::Memory {
            answers.push((shard, Answer::Acknowledged { through: last.ticket }));
            return;
        }
        match self.group.tickets.iter_mut().find(|(known, _)| *known == shard) {
            Some((_, through)) => *through = last.ticket,
            None => self.group.tickets.push((shard, last.ticket)),
        }
    }

    /// Encodes what is to be kept of a log into the group, as [`Self::take`] does.
    pub fn take_log(&mut self, write: LogWrite) {
        match write {
            LogWrite::Append { group, entries, done } => {
                entries.iter().for_each(|entry| self.encode(&Record::Logged { group, logged: entry.logged() }));
                if self.limits.ack == Ack::Memory || entries.is_empty() {
                    self.kept.push(done);
                } else {
                    self.group.appends.push(done);
                }
            }
            LogWrite::Cut { group, after } => self.encode(&Record::Cut { group, after }),
            LogWrite::Vote { group, vote, done } => {
                self.encode(&Record::Voted { group, vote: &vote });
                self.votes.push_back((self.next_record - 1, done));
            }
            LogWrite::Committed { group, index } => return self.note_committed(group, index),
            LogWrite::Seal { group, index } => {
                self.note_committed(group, index);
                self.encode_committed();
                self.seal_through = self.next_record - 1;
                return;
            }
            LogWrite::Sync { done } => {
                self.encode(&Record::Mark);
                self.votes.push_back((self.next_record - 1, done));
            }
        }
        self.last_change = self.next_record - 1;
    }

    fn note_committed(&mut self, group: u16, index: u64) {
        match self.committed.iter_mut().find(|committed| committed.group == group) {
            Some(committed) => committed.known = committed.known.max(index),
            None => self.committed.push(Committed { group, known: index, noted: None }),
        }
    }

    /// Encodes what is committed and no record says yet. Returns whether there was any.
    fn encode_committed(&mut self) -> bool {
        let mut committed = std::mem::take(&mut self.committed);
        let mut has_risen = false;
        for Committed { group, known, noted } in committed.iter_mut().filter(|committed| committed.noted != Some(committed.known)) {
            self.encode(&Record::Committed { group: *group, index: *known });
            *noted = Some(*known);
            has_risen = true;
        }
        self.committed = committed;
        if has_risen {
            self.last_change = self.next_record - 1;
        }
        has_risen
    }

    /// Those whose entries and votes are kept by now.
    pub fn poll_kept(&mut self) -> Vec<Done> {
        while self.votes.front().is_some_and(|(record, _)| *record <= self.synced) {
            self.kept.extend(self.votes.pop_front().map(|(_, done)| done));
        }
        std::mem::take(&mut self.kept)
    }

    fn encode(&mut self, record: &Record<'_>) {
        if self.group.records == 0 {
            self.group.first_record = self.next_record;
        }
        let frame = Frame { number: self.next_record, synced: self.synced };
        encode(self.salt, frame, record, &mut self.group.bytes);
        self.noted = self.synced;
        self.group.records += 1;
        self.next_record += 1;
    }

    /// Writes the group and acknowledges it; or says that it fails, keeps the group, and is called again.
    pub fn commit(&mut self, now: Time, answers: &mut Vec<(ShardIndex, Answer)>) {
        if !self.has_unwritten() {
            return;
        }
        self.encode_committed();
        match self.write_group(now) {
            Ok(()) => {
                self.kept.append(&mut self.group.appends);
                answers.extend(self.group.tickets.drain(..).map(|(shard, through)| (shard, Answer::Acknowledged { through })));
                if self.failing.take().is_some() {
                    self.counters.is_failing.store(false, Relaxed);
                    answers.extend(self.every_shard(Answer::Recovered));
                }
            }
            Err(error) => self.fail(&error.to_string(), answers),
        }
    }

    /// Tells every shard, once, that nothing is taken until [`Answer::Recovered`].
    pub fn fail(&mut self, reason: &str, answers: &mut Vec<(ShardIndex, Answer)>) {
        self.counters.failures.fetch_add(1, Relaxed);
        if self.failing.is_none() {
            let reason: Arc<str> = reason.into();
            self.failing = Some(reason.clone());
            self.counters.is_failing.store(true, Relaxed);
            answers.extend(self.every_shard(Answer::Failing { reason }));
        }
    }

    fn every_shard(&self, answer: Answer) -> impl Iterator<Item = (ShardIndex, Answer)> + use<> {
        (0..self.limits.shards).map(move |shard| (ShardIndex(shard), answer.clone()))
    }

    /// Changes that were taken and are not known to be on disk.
    pub fn unwritten_changes(&self) -> u64 {
        if self.has_unwritten() { (self.last_change + 1).saturating_sub(self.group.first_record) } else { 0 }
    }

    fn has_unwritten(&self) -> bool {
        self.group.bytes.len() > self.group.written
    }

    fn write_group(&mut self, now: Time) -> io::Result<()> {
        if self.must_roll || self.active.is_none() {
            self.roll(now)?;
        }
        let active = self.active.as_mut().expect("a segment was made if there was none");
        let group = &mut self.group;
        let start = Instant::now();
        let end = active.length + group.written as u64;
        if let Err(error) = self.disk.write(end, &group.bytes[group.written..]) {
            // The same bytes will be written to the same place, so this only gives the room back.
            let _ = self.disk.truncate(end);
            return Err(error);
        }
        self.counters.note_write(group.records, group.bytes.len() - group.written, start.elapsed());
        let has_changes = self.last_change >= group.first_record;
        if self.limits.ack == Ack::Durable {
            if !has_changes {
                // Marks are not worth a sync, but what is synced next has to hold them.
                group.written = group.bytes.len();
                return Ok(());
            }
            let start = Instant::now();
            if let Err(error) = self.disk.sync() {
                self.must_roll = true;
                return Err(error);
            }
            self.counters.note_sync(start.elapsed());
            self.synced = self.next_record - 1;
            self.sync_asked = self.synced;
        } else if self.votes.back().is_some_and(|(record, _)| *record >= group.first_record) {
            self.sync_vote()?;
        }
        let (Some(active), group) = (&mut self.active, &mut self.group) else { return Ok(()) };
        active.length += group.bytes.len() as u64;
        self.must_roll |= active.length >= self.limits.segment_bytes || active.first_record <= self.seal_through;
        self.counters.segment_bytes.store(active.length, Relaxed);
        group.bytes.clear();
        group.bytes.shrink_to(GROUP_BYTES_KEPT);
        (group.records, group.written) = (0, 0);
        Ok(())
    }

    /// Syncs the group, which has votes and was written, where acknowledgements do not wait for that. Where more has to be synced before it, the
    /// other thread does all of it.
    fn sync_vote(&mut self) -> io::Result<()> {
        let first_record = self.active.as_ref().map_or(self.next_record, |active| active.first_record);
        if self.synced + 1 < first_record || self.checkpoint < self.doubtful {
            // What fails here is tried again with the next that is asked for.
            if let Ok(sync) = self.disk.sync_later() {
                self.syncs.push((sync, self.next_record - 1));
                self.sync_asked = self.next_record - 1;
            }
            return Ok(());
        }
        let start = Instant::now();
        if let Err(error) = self.disk.sync() {
            // What was written to the segment before may be lost, as where another thread's sync fails.
            if self.synced + 1 < self.group.first_record {
                self.doubtful = self.doubtful.max(self.group.first_record - 1);
            }
            self.must_roll = true;
            return Err(error);
        }
        self.counters.note_sync(start.elapsed());
        self.synced = self.next_record - 1;
        self.sync_asked = self.synced;
        Ok(())
    }

    /// Begins a segment whose first record is the group's.
    fn roll(&mut self, now: Time) -> io::Result<()> {
        let first_record = if self.group.records == 0 { self.next_record } else { self.group.first_record };
        if self.limits.ack != Ack::Durable && self.active.is_some() && self.sync_asked + 1 < first_record {
            self.syncs.push((self.disk.sync_later()?, first_record - 1));
            self.sync_asked = first_record - 1;
        }
        let header = Header {
            segment: self.last_segment + 1,
            first_record,
            checkpoint: self.checkpoint,
            synced: self.synced.min(first_record - 1),
            salt: self.salt,
        };
        self.disk.create(header.segment, &header.encode())?;
        self.last_segment = header.segment;
        self.must_roll = false;
        self.group.written = 0;
        let active = Active { segment: header.segment, first_record, length: HEADER_BYTES as u64, created: now };
        if let Some(before) = self.active.replace(active) {
            self.sealed.push(Sealed { segment: before.segment, first_record: before.first_record, until: first_record });
        }
        Ok(())
    }

    /// To be called when nothing waits: what is synced is noted, so that damage in it can be told from a torn end; and an old
    /// segment is ended.
    pub fn rest(&mut self, now: Time, answers: &mut Vec<(ShardIndex, Answer)>) {
        if self.has_unwritten() || self.failing.is_some() {
            return;
        }
        if self.noted < self.synced && self.synced == self.last_change && !self.must_roll {
            self.encode(&Record::Mark);
            self.commit(now, answers);
        }
        let (age_ns, last_change, seal_through) = (self.limits.segment_age_ms * 1_000_000, self.last_change, self.seal_through);
        let is_doubtful = self.must_roll && self.doubtful > self.checkpoint;
        let is_due = |active: &Active| is_doubtful || active.first_record <= seal_through || now.since(active.created) >= age_ns;
        let is_old = |active: &Active| is_due(active) && active.first_record <= last_change;
        if self.active.as_ref().is_some_and(is_old) && self.encode_committed() {
            self.commit(now, answers);
        }
        if self.failing.is_none()
            && self.active.as_ref().is_some_and(is_old)
            && let Err(error) = self.roll(now)
        {
            self.fail(&error.to_string(), answers);
        }
    }

    /// Tries again what failed while there was no group.
    pub fn retry(&mut self, now: Time, answers: &mut Vec<(ShardIndex, Answer)>) {
        if !self.has_unwritten() && self.failing.is_some() {
            self.encode(&Record::Mark);
        }
        self.commit(now, answers);
    }

    /// Segments that are to be folded into the state, in order.
    pub fn poll_sealed(&mut self) -> Vec<Sealed> {
        std::mem::take(&mut self.sealed)
    }

    /// Syncs for another thread, in order, each with the record up to which it is; [`Self::handle_synced`] hears of each.
    pub fn poll_syncs(&mut self) -> Vec<(Sync, u64)> {
        std::mem::take(&mut self.syncs)
    }

    /// Asks for a sync of what was written since the last, where acknowledgements do not wait for one.
    pub fn ask_sync(&mut self) {
        let written = if self.has_unwritten() { self.group.first_record - 1 } else { self.next_record - 1 };
        let has_changes = self.sync_asked < self.last_change && self.sync_asked < written;
        if self.limits.ack == Ack::Durable || self.active.is_none() || !has_changes {
            return;
        }
        match self.disk.sync_later() {
            Ok(sync) => {
                self.syncs.push((sync, written));
                self.sync_asked = written;
            }
            Err(error) => {
                self.counters.failures.fetch_add(1, Relaxed);
                tracing::error!(%error, "the journal cannot be synced now");
            }
        }
    }

    pub fn handle_synced(&mut self, through: u64, result: &io::Result<()>) {
        match result {
            Ok(()) if self.checkpoint >= self.doubtful => self.synced = self.synced.max(through),
            Ok(()) => self.sync_votes_again(),
            Err(_) => {
                self.sync_votes_again();
                // The system may have dropped what it could not write and forgotten that it did.
                self.counters.failures.fetch_add(1, Relaxed);
                self.doubtful = self.doubtful.max(through);
                self.must_roll = true;
            }
        }
    }

    /// Who waits for a vote needs another sync.
    fn sync_votes_again(&mut self) {
        if !self.votes.is_empty() {
            self.sync_asked = self.sync_asked.min(self.synced);
        }
    }

    pub fn handle_folded(&mut self, checkpoint: u64) {
        self.checkpoint = self.checkpoint.max(checkpoint);
        self.synced = self.synced.max(checkpoint);
    }

    /// Writes and syncs what was taken and notes it, for an orderly end. What is in the segment is synced also where no more
    /// can be written. Segments before may still need [`Self::poll_syncs`].
    pub fn close(&mut self, now: Time, answers: &mut Vec<(ShardIndex, Answer)>) -> io::Result<()> {
        self.encode_committed();
        self.commit(now, answers);
        let Some(active) = &self.active else { return Ok(()) };
        let is_synced_before = self.synced + 1 >= active.first_record && self.checkpoint >= self.doubtful;
        self.sync_at_end()?;
        if self.failing.is_none() && is_synced_before && self.noted < self.last_change {
            self.synced = self.last_change;
            self.encode(&Record::Mark);
            self.commit(now, answers);
            self.sync_at_end()?;
        }
        Ok(())
    }

    /// The last record in the journal; `None` where writing or syncing has failed and that was not made good.
    pub fn last_record(&self) -> Option<u64> {
        (self.failing.is_none() && self.checkpoint >= self.doubtful).then(|| self.next_record - 1)
    }

    /// What a failed sync was to keep may be lost, so nothing more may be written behind it.
    fn sync_at_end(&mut self) -> io::Result<()> {
        self.disk.sync().inspect_err(|_| self.must_roll = true)
    }
}
