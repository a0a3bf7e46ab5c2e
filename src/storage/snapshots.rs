//! A group's whole state: read piece by piece for another server, and taken from one.
//!
//! The folded state is the snapshot. A reader's first piece holds an instant of it, from which all pieces come, whatever is folded meanwhile; it is let go
//! when nobody has read for a minute, since what it holds cannot be compacted. Where the state has gone on before the first piece, the reader is told
//! where it is now.
//!
//! ```text
//! key length, u32    value length, u32    key    value
//! ```
//! Little-endian, one behind the other in the order of keys, cut into pieces anywhere. They are staged as they come. Installing reads them twice: to check
//! all of it, since another server wrote it, and to put it into the place of what the group has, in one step with the new position.

use super::base::{Base, BaseError, GroupEntries, Tag, check_entry, is_topic_of};
use super::fold::{Job, News};
use super::groups::{GroupLog, LogPosition, check_path, group_key, parse_group_key, parse_made};
use super::logs::LogWrite;
use crate::base::TopicId;
use crate::cluster::{Row, Source};
use crate::journal::StoredTopic;
use bytes::Bytes;
use fjall::{Readable, Snapshot};
use std::time::{Duration, Instant};

/// A piece has at most so many bytes.
const PIECE_BYTES: usize = 1 << 20;

/// For a piece at most about so many entries are looked at, be they of the group or not: other work waits meanwhile.
const LOOKED_AT_MAX: usize = 50_000;

/// A snapshot has no longer keys and values: whoever sent it may have said anything.
const KEY_BYTES_MAX: usize = 1 << 16;
const VALUE_BYTES_MAX: usize = 1 << 28;

/// So long an instant is held that nobody reads.
const HELD: Duration = Duration::from_secs(60);

/// So many instants of a group are held; the one that was read the longest ago gives way.
const HELD_MAX: usize = 4;

/// The way to the snapshots of groups. Its methods never wait; callbacks are called on a thread of the store, where they must not wait, and dropped
/// without being called where the store has ended.
#[derive(Clone)]
pub struct Snapshots {
    pub(super) news: crossbeam_channel::Sender<News>,
    pub(super) jobs: crossbeam_channel::Sender<Job>,
}

/// What comes of reading a piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadPiece {
    Piece {
        bytes: Bytes,
        is_last: bool,
    },
    /// There is no such snapshot any more, but one at this position; `None` where the group has no state.
    Moved(Option<LogPosition>),
    Failed(String),
}

/// What is asked of the snapshots.
pub enum SnapshotJob {
    Build { group: u16, index: u64, done: Box<dyn FnOnce(LogPosition) + Send> },
    Read { group: u16, index: u64, number: u64, done: Box<dyn FnOnce(ReadPiece) + Send> },
    Stage { group: u16, number: u64, bytes: Bytes, done: Staged },
    Install { group: u16, position: LogPosition, done: Staged },
    Load { group: u16, done: Box<dyn FnOnce(Result<LoadedGroup, String>) + Send> },
}

/// A group's topics, as they are stored. Of those that messages are only passed through it is said.
pub type Loaded = Vec<(TopicId, StoredTopic, bool)>;

/// All that the state has of a group.
#[derive(Default)]
pub struct LoadedGroup {
    pub topics: Loaded,
    /// Which updates were made, by who has asked for them.
    pub made: Vec<(Source, Row)>,
}

/// Hears of what was staged or installed, or why it was not: then nothing has changed.
pub type Staged = Box<dyn FnOnce(Result<(), String>) + Send>;

impl Snapshots {
    /// Has the state hold the group's log up to `index`, all of which is committed, as soon as it can: else it does when a segment has become as long as it may.
    pub fn seal(&self, group: u16, index: u64) {
        let _ = self.news.send(News::Log(LogWrite::Seal { group, index }));
    }

    /// Says where the group's state is, once it holds the log at least up to `index`.
    pub fn build(&self, group: u16, index: u64, done: impl FnOnce(LogPosition) + Send + 'static) {
        let _ = self.jobs.send(Job::Snapshot(SnapshotJob::Build { group, index, done: Box::new(done) }));
    }

    /// The piece `number` of the group's snapshot at `index`, from 0 and in order. Several may read the same.
    pub fn read(&self, group: u16, index: u64, number: u64, done: impl FnOnce(ReadPiece) + Send + 'static) {
        let _ = self.jobs.send(Job::Snapshot(SnapshotJob::Read { group, index, number, done: Box::new(done) }));
    }

    /// Puts a piece of another's snapshot by, in order; 0 is the first of another one, and whatever came before is forgotten.
    pub fn stage(&self, group: u16, number: u64, bytes: Bytes, done: impl FnOnce(Result<(), String>) + Send + 'static) {
        let _ = self.jobs.send(Job::Snapshot(SnapshotJob::Stage { group, number, bytes, done: Box::new(done) }));
    }

    /// What was staged takes the place of the group's whole state, which goes as far as `position` then. Said when it survives a loss of power, as does all
    /// that was handed over of logs before.
    pub fn install(&self, group: u16, position: LogPosition, done: impl FnOnce(Result<(), String>) + Send + 'static) {
        let jobs = self.jobs.clone();
        let job = Job::Snapshot(SnapshotJob::Install { group, position, done: Box::new(done) });
        // What the log has lost must not come back behind the new state.
        let synced = Box::new(move || drop(jobs.send(job)));
        let _ = self.news.send(News::Log(LogWrite::Sync { done: synced }));
    }
}

impl Snapshots {
    /// All topics of the group, as the state has them, and which updates it knows.
    pub fn load(&self, group: u16, done: impl FnOnce(Result<LoadedGroup, String>) + Send + 'static) {
        let _ = self.jobs.send(Job::Snapshot(SnapshotJob::Load { group, done: Box::new(done) }));
    }
}

/// An instant of the state that is read.
pub struct Held {
    group: u16,
    position: LogPosition,
    snapshot: Snapshot,
    used: Instant,
    /// Where each piece begins, as far as that is known: a key, and how much of its entry came before.
    starts: Vec<(Vec<u8>, usize)>,
}

impl Base {
    /// How far the group's state goes.
    pub fn position(&self, group: u16) -> Result<Option<LogPosition>, BaseError> {
        self.checked(|base| {
            let kept = base.state()?.get(group_key(Tag::Group, group, &[]))?;
            Ok(kept.map(|kept| GroupLog::decode(&kept, base.groups)).transpose()?.and_then(|log| log.position))
        })
    }

    /// Lets go of instants that nobody reads. Returns whether there are more.
    pub fn release(&mut self, now: Instant) -> bool {
        let Some(held) = self.held() else { return false };
        held.retain(|held| now.saturating_duration_since(held.used) < HELD);
        !held.is_empty()
    }

    pub fn read_piece(&mut self, group: u16, index: u64, number: u64) -> Result<ReadPiece, BaseError> {
        self.attempt(|base| {
            base.revive()?;
            let found = match base.take_held(group, index) {
                Some(held) => Some(held),
                None => base.hold(group)?,
            };
            let Some(mut held) = found else { return Ok(ReadPiece::Moved(None)) };
            held.used = Instant::now();
            let start = usize::try_from(number).ok().and_then(|number| held.starts.get(number)).cloned();
            let piece = match start.filter(|_| held.position.index == index) {
                Some(start) => base.piece(&mut held, &start, number),
                // It may have been let go and taken again, so that nobody knows where the piece begins.
                None => Ok(ReadPiece::Moved(Some(held.position.clone()))),
            };
            base.give_back(held);
            piece
        })
    }

    fn take_held(&mut self, group: u16, index: u64) -> Option<Held> {
        let held = self.held()?;
        let at = held.iter().position(|held| held.group == group && held.position.index == index)?;
        Some(held.swap_remove(at))
    }

    fn give_back(&mut self, given: Held) {
        let Some(held) = self.held() else { return };
        let of_group = held.iter().enumerate().filter(|(_, held)| held.group == given.group);
        if of_group.clone().count() >= HELD_MAX
            && let Some((oldest, _)) = of_group.min_by_key(|(_, held)| held.used)
        {
            held.swap_remove(oldest);
        }
        held.push(given);
    }

    /// The state as it is now, for who reads the group's.
    fn hold(&mut self, group: u16) -> Result<Option<Held>, BaseError> {
        let Some(position) = self.position(group)? else { return Ok(None) };
        if let Some(held) = self.take_held(group, position.index) {
            return Ok(Some(held));
        }
        let starts = vec![(vec![Tag::Topic as u8], 0)];
        Ok(Some(Held { group, position, snapshot: self.instant()?, used: Instant::now(), starts }))
    }

    fn piece(&self, held: &mut Held, (start, skipped): &(Vec<u8>, usize), number: u64) -> Result<ReadPiece, BaseError> {
        let mut bytes = Vec::new();
        let mut skipped = *skipped;
        let range = held.snapshot.range(self.state()?, start.as_slice()..&[Tag::Group as u8][..]);
        let mut next = None;
        for (looked_at, found) in range.enumerate() {
            let (key, value) = found.into_inner()?;
            if bytes.len() == PIECE_BYTES || looked_at == LOOKED_AT_MAX {
                next = Some((key.to_vec(), 0));
                break;
            }
            if !is_of(&key, held.group, self.groups)? {
                continue;
            }
            let entry = [&(key.len() as u32).to_le_bytes()[..], &(value.len() as u32).to_le_bytes(), &key, &value].concat();
            let rest = entry.get(skipped..).unwrap_or_default();
            let taken = rest.len().min(PIECE_BYTES - bytes.len());
            bytes.extend_from_slice(&rest[..taken]);
            if taken < rest.len() {
                next = Some((key.to_vec(), skipped + taken));
                break;
            }
            skipped = 0;
        }
        let is_last = next.is_none();
        if let Some(next) = next.filter(|_| held.starts.len() as u64 == number + 1) {
            held.starts.push(next);
        }
        Ok(ReadPiece::Piece { bytes: bytes.into(), is_last })
    }

    pub fn stage(&mut self, group: u16, number: u64, bytes: &[u8]) -> Result<(), BaseError> {
        self.attempt(|base| {
            base.revive()?;
            let mut staged = GroupEntries::new();
            if number == 0 {
                base.staged_keys(group)?.into_iter().for_each(|key| drop(staged.insert(key, None)));
            }
            staged.insert(group_key(Tag::Staged, group, &number.to_be_bytes()), Some(bytes.to_vec()));
            base.ingest_of_groups(staged)
        })
    }

    fn staged_keys(&self, group: u16) -> Result<Vec<Vec<u8>>, BaseError> {
        let staged = self.state()?.prefix(group_key(Tag::Staged, group, &[]));
        staged.map(|found| Ok(found.key()?.to_vec())).collect()
    }

    pub fn install(&mut self, group: u16, position: LogPosition) -> Result<(), BaseError> {
        self.attempt(|base| base.install_unguarded(group, position))
    }

    fn install_unguarded(&mut self, group: u16, position: LogPosition) -> Result<(), BaseError> {
        self.revive()?;
        let snapshot = self.instant()?;
        let mut log = self.group_log(group)?;
        if log.position.as_ref().is_some_and(|held| held.index >= position.index) {
            return Err(BaseError::Corrupt(format!("group {group}: its state goes as far as the snapshot already")));
        }
        let mut highest_topic = self.highest_topic();
        let mut last = Vec::new();
        for found in self.staged(&snapshot, group)? {
            let found = found?;
            if found.0 <= last {
                return Err(BaseError::Corrupt("the snapshot's keys do not ascend".to_owned()));
            }
            highest_topic = highest_topic.max(check(&found, group, self.groups)?);
            last = found.0;
        }
        let mut of_log = GroupEntries::new();
        for index in log.entries.keys().filter(|index| **index <= position.index) {
            of_log.insert(group_key(Tag::Log, group, &index.to_be_bytes()), None);
        }
        (log.committed, log.position) = (log.committed.max(Some(position.index)), Some(position));
        of_log.insert(group_key(Tag::Group, group, &[]), Some(log.encode(self.groups)));
        of_log.extend(self.staged_keys(group)?.into_iter().map(|key| (key, None)));
        let groups = self.groups;
        let before = snapshot.range(self.state()?, &[Tag::Topic as u8][..]..&[Tag::Group as u8][..]);
        let before = before.map(|found| Ok(found.key()?.to_vec())).filter(|key| match key {
            Ok(key) => is_of(key, group, groups).unwrap_or(false),
            Err(_) => true,
        });
        let replaced = Replaced { before: before.peekable(), after: self.staged(&snapshot, group)?.peekable() };
        let of_log = of_log.into_iter().map(Ok);
        self.ingest_all(replaced.chain(of_log), highest_topic)?;
        self.note_highest_topic(highest_topic);
        Ok(())
    }

    /// What was staged, entry by entry.
    fn staged<'s>(&self, snapshot: &'s Snapshot, group: u16) -> Result<StagedEntries<'s>, BaseError> {
        let pieces = snapshot.prefix(self.state()?, group_key(Tag::Staged, group, &[]));
        let pieces = pieces.map(|found| {
            let (key, value) = found.into_inner()?;
            let (_, number) = parse_group_key(&key)?;
            let number = number.try_into().map(u64::from_be_bytes).map_err(|_| BaseError::Corrupt("found an unknown piece".to_owned()))?;
            Ok((number, value.to_vec()))
        });
        Ok(StagedEntries { pieces: Box::new(pieces), next_piece: 0, bytes: Vec::new(), at: 0 })
    }
}

/// A key and its value; `None` deletes.
type Change = (Vec<u8>, Option<Vec<u8>>);

/// What takes the place of a group's state: its old keys, which go, and the new ones, both in order.
struct Replaced<B: Iterator, A: Iterator> {
    before: std::iter::Peekable<B>,
    after: std::iter::Peekable<A>,
}

impl<B, A> Iterator for Replaced<B, A>
where
    B: Iterator<Item = Result<Vec<u8>, BaseError>>,
    A: Iterator<Item = Result<Pair, BaseError>>,
{
    type Item = Result<Change, BaseError>;

    fn next(&mut self) -> Option<Self::Item> {
        let is_before = match (self.before.peek(), self.after.peek()) {
            (Some(Ok(before)), Some(Ok((after, _)))) => {
                let (is_before, is_same) = (before < after, before == after);
                if is_same {
                    self.before.next();
                }
                is_before
            }
            (Some(_), None) | (Some(Err(_)), _) => true,
            _ => false,
        };
        if is_before {
            return self.before.next().map(|key| Ok((key?, None)));
        }
        self.after.next().map(|entry| entry.map(|(key, value)| (key, Some(value))))
    }
}

/// A key and its value.
type Pair = (Vec<u8>, Vec<u8>);

/// Pieces, each with its number.
type Pieces<'s> = Box<dyn Iterator<Item = Result<(u64, Vec<u8>), BaseError>> + 's>;

/// The entries in staged pieces.
struct StagedEntries<'s> {
    pieces: Pieces<'s>,
    next_piece: u64,
    bytes: Vec<u8>,
    at: usize,
}

impl StagedEntries<'_> {
    /// The next bytes, where there are so many.
    fn take(&mut self, count: usize) -> Result<Option<Vec<u8>>, BaseError> {
        while self.bytes.len() - self.at < count {
            let Some(piece) = self.pieces.next() else { return Ok(None) };
            let (number, bytes) = piece?;
            if number != self.next_piece {
                return Err(BaseError::Corrupt(format!("piece {} of the snapshot is missing", self.next_piece)));
            }
            self.next_piece += 1;
            self.bytes.drain(..std::mem::take(&mut self.at));
            self.bytes.extend_from_slice(&bytes);
        }
        let taken = self.bytes[self.at..self.at + count].to_vec();
        self.at += count;
        Ok(Some(taken))
    }

    fn next_entry(&mut self) -> Result<Option<Pair>, BaseError> {
        let cut = || BaseError::Corrupt("the snapshot ends within an entry".to_owned());
        let Some(lengths) = self.take(8)? else {
            return if self.bytes.len() == self.at { Ok(None) } else { Err(cut()) };
        };
        let length = |at: usize| u32::from_le_bytes([lengths[at], lengths[at + 1], lengths[at + 2], lengths[at + 3]]) as usize;
        if length(0) > KEY_BYTES_MAX || length(4) > VALUE_BYTES_MAX {
            return Err(BaseError::Corrupt("the snapshot has an entry that is too long".to_owned()));
        }
        let key = self.take(length(0))?.ok_or_else(cut)?;
        let value = self.take(length(4))?.ok_or_else(cut)?;
        Ok(Some((key, value)))
    }
}

impl Iterator for StagedEntries<'_> {
    type Item = Result<Pair, BaseError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_entry().transpose()
    }
}

/// Whether a key of the state belongs to a group's snapshot.
fn is_of(key: &[u8], group: u16, groups: u16) -> Result<bool, BaseError> {
    match key.first() {
        Some(tag) if *tag == Tag::Path as u8 || *tag == Tag::Made as u8 => Ok(parse_group_key(key)?.0 == group),
        Some(tag) if *tag < Tag::Path as u8 => is_topic_of(key, group, groups),
        _ => Ok(false),
    }
}

/// Checks what another server says of the group's state. Returns the number of the topic.
fn check((key, value): &Pair, group: u16, groups: u16) -> Result<u64, BaseError> {
    if !is_of(key, group, groups)? {
        return Err(BaseError::Corrupt(format!("the snapshot has a key of another group: {key:02x?}")));
    }
    match key[0] {
        tag if tag == Tag::Path as u8 => check_path(key, value),
        tag if tag == Tag::Made as u8 => parse_made(key, value).map(|_| 0),
        _ => check_entry(key, value),
    }
}
