//! The checkpointed state: what the journal's deleted segments added up to, in fjall.
//!
//! fjall's own journal cuts itself silently at the first bad entry and goes on (`fjall::journal::reader`), so nothing is
//! written through it. Every change is one bulk ingestion instead: a sorted table that is written, synced and made part
//! of the state by one rename. It happens wholly or not at all, costs no memtable and no second journal, and the number of
//! the last record it holds is part of it. Its blocks carry checksums that are checked on read.

use super::error::panic_text;
use super::snapshots::{Held, Loaded, LoadedGroup};
use crate::base::TopicId;
use crate::journal::{Expected, Read, Record, RecordKind, Salt, State, StoredEvent, StoredTopic, read_segment};
use fjall::config::{BlockSizePolicy, FilterPolicy};
use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use hashbrown::{HashMap, HashSet};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// A key's first byte; the order in which a state is read: a topic comes before what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Tag {
    Checkpoint = 0,
    Topic = 1,
    Value = 2,
    /// A time series' last sequence number, the first that is kept, and its latest timestamp.
    Series = 3,
    Event = 4,
    /// Events that are to be deleted.
    Garbage = 5,
    /// Behind it stand a group and a path: the topic that is there.
    Path = 6,
    /// Behind it stand a group and who numbers what is asked for there: what of that was made.
    Made = 7,
    /// Behind it stands a group: what of its log is part of the state, and its vote.
    Group = 8,
    /// Behind it stand a group and an index: an entry of its log that is not part of the state yet.
    Log = 9,
    /// Behind it stand a group and a number: a piece of another server's snapshot.
    Staged = 10,
}

/// In the order of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    tag: Tag,
    topic: u64,
    sequence: u64,
}

/// Entries in the order of their keys; `None` deletes.
type Entries = BTreeMap<Key, Option<Vec<u8>>>;

/// The same of what is of groups: tags from [`Tag::Path`] on.
pub type GroupEntries = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// The first key of a time series' events that a pass deletes, and the first that it keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    from: u64,
    below: u64,
}

/// fjall failed, or holds what it should not.
#[derive(Debug)]
pub enum BaseError {
    Engine(fjall::Error),
    Corrupt(String),
    /// fjall gave up with these words.
    Panicked(String),
}

pub struct Base {
    path: PathBuf,
    cache_bytes: u64,
    /// None only while it is opened again and that fails.
    engine: Option<Engine>,
    through: u64,
    highest_topic: u64,
    /// How many groups there are that have topics: those below.
    pub(super) groups: u16,
}

struct Engine {
    /// Instants that are read; gone with the engine.
    held: Vec<Held>,
    database: Database,
    state: Keyspace,
}

impl Base {
    pub fn open(path: &Path, cache_bytes: u64) -> Result<Self, BaseError> {
        guarded(|| Self::open_unguarded(path, cache_bytes))
    }

    fn open_unguarded(path: &Path, cache_bytes: u64) -> Result<Self, BaseError> {
        let mut base = Self { path: path.to_owned(), cache_bytes, engine: None, through: 0, highest_topic: 0, groups: 0 };
        base.revive()?;
        Ok(base)
    }

    /// All records up to this one are held.
    pub fn through(&self) -> u64 {
        self.through
    }

    pub fn disk_bytes(&self) -> u64 {
        self.engine.as_ref().map_or(0, |engine| engine.state.disk_space())
    }

    /// Reads everything, which checks everything.
    pub fn restore(&self) -> Result<State, BaseError> {
        guarded(|| self.restore_unguarded())
    }

    fn restore_unguarded(&self) -> Result<State, BaseError> {
        let mut state = State { highest_topic: self.highest_topic, ..State::default() };
        for entry in self.state()?.range(..[Tag::Path as u8]) {
            let (key, value) = entry.into_inner()?;
            let key = Key::parse(&key)?;
            restore_entry(&mut state, key, &value)?;
        }
        Ok(state)
    }

    /// The topics of a group, in the order of their numbers, and what is known of its updates.
    pub fn load(&self, group: u16) -> Result<LoadedGroup, BaseError> {
        let made = self.checked(|base| base.made(group))?;
        let made = made.rows().map(|(source, row)| (source, row.clone())).collect();
        Ok(LoadedGroup { topics: self.load_topics(group)?, made })
    }

    fn load_topics(&self, group: u16) -> Result<Loaded, BaseError> {
        let topics = guarded(|| {
            let mut state = State::default();
            for entry in self.state()?.range(..[Tag::Path as u8]) {
                let (key, value) = entry.into_inner()?;
                if is_topic_of(&key, group, self.groups)? {
                    restore_entry(&mut state, Key::parse(&key)?, &value)?;
                }
            }
            Ok(state.topics)
        })?;
        let passing = self.passing()?.into_iter().filter(|(id, _)| id.0 / 2 % u64::from(self.groups.max(1)) == u64::from(group));
        let passing = passing.map(|(id, topic)| (id, topic, true));
        Ok(topics.into_iter().map(|(id, topic)| (id, topic, false)).chain(passing).collect())
    }

    /// How many entries there are, of whatever kind.
    #[cfg(test)]
    pub fn entries(&self) -> usize {
        self.state().expect("it is open").iter().count()
    }

    /// Takes the newest of everything in a segment's bytes that is behind what is held, up to `until`.
    pub fn fold(&mut self, bytes: &[u8], salt: Salt, first_record: u64, until: u64) -> Result<(), BaseError> {
        self.attempt(|base| base.fold_unguarded(bytes, salt, first_record, until))
    }

    fn fold_unguarded(&mut self, bytes: &[u8], salt: Salt, first_record: u64, until: u64) -> Result<(), BaseError> {
        self.revive()?;
        let mut fold = Fold::default();
        let mut of_logs = BTreeMap::<u16, Vec<Record<'_>>>::new();
        let through = self.through;
        if first_record > through + 1 {
            return Err(BaseError::Corrupt(format!("records from {} to {} are missing", through + 1, first_record - 1)));
        }
        let read = read_segment(bytes, Expected { salt, from: first_record, until: Some(until) }, |read| {
            if read.number > through {
                match read.record.group() {
                    Some(group) => of_logs.entry(group).or_default().push(read.record),
                    None => fold.take(&read),
                }
            }
        });
        if let Some(damage) = read.damage {
            return Err(BaseError::Corrupt(format!("byte {}: {}", damage.offset, damage.what)));
        }
        if until <= through + 1 {
            return Ok(());
        }
        self.fold_logs(of_logs, &mut fold)?;
        self.note_garbage(&mut fold)?;
        let highest_topic = self.highest_topic.max(fold.highest_topic);
        self.ingest(fold.entries, fold.of_groups, until - 1, highest_topic)
    }

    /// Replaces an empty state by `topics`, at once.
    pub fn fill(&mut self, state: &State) -> Result<(), BaseError> {
        assert_eq!(self.through, 0, "the store is empty");
        let mut fold = Fold::default();
        let mut payload = Vec::new();
        for (id, topic) in &state.topics {
            for record in topic_records(*id, topic) {
                payload.clear();
                record.put_payload(&mut payload);
                fold.take(&Read { number: 0, record, payload: &payload });
            }
            if let Some(last_sequence) = topic.last_sequence {
                let series = number_bytes([last_sequence, topic.first_kept, topic.latest_ms]);
                fold.entries.insert(Key::of(Tag::Series, id.0), Some(series));
            }
        }
        self.ingest(fold.entries, fold.of_groups, 0, state.highest_topic)
    }

    /// Series that begin later than the state has them, and removed ones, leave events behind. They are noted in the same
    /// ingestion, so that a crash forgets none, and deleted bit by bit.
    fn note_garbage(&self, fold: &mut Fold) -> Result<(), BaseError> {
        let removed = fold.removed.iter().map(|topic| (*topic, u64::MAX));
        let trimmed = fold.first_kept.iter().map(|(topic, first_kept)| (*topic, *first_kept));
        for (topic, below) in removed.chain(trimmed).collect::<Vec<_>>() {
            let Some(series) = self.state()?.get(Key::of(Tag::Series, topic).bytes())? else { continue };
            let [_, first_kept, _] = numbers(&series)?;
            if below <= first_kept {
                continue;
            }
            let key = Key::of(Tag::Garbage, topic);
            let noted = self.state()?.get(key.bytes())?.map(|value| numbers(&value)).transpose()?;
            let from = noted.map_or(first_kept, |[from, _]| from.min(first_kept));
            fold.entries.insert(key, Some(number_bytes([from, below])));
        }
        Ok(())
    }

    /// Deletes up to `events_max` events that are no longer retained. Returns whether there are more.
    pub fn collect_garbage(&mut self, events_max: usize) -> Result<bool, BaseError> {
        self.attempt(|base| base.collect_garbage_unguarded(events_max))
    }

    fn collect_garbage_unguarded(&mut self, events_max: usize) -> Result<bool, BaseError> {
        self.revive()?;
        let mut entries = Entries::new();
        for noted in self.state()?.prefix([Tag::Garbage as u8]) {
            let (key, value) = noted.into_inner()?;
            let key = Key::parse(&key)?;
            let [from, below] = numbers(&value)?;
            let left = events_max.saturating_sub(entries.len());
            let next = self.collect_span(key.topic, Span { from, below }, left, &mut entries)?;
            entries.insert(key, next.map(|from| number_bytes([from, below])));
            if next.is_some() {
                self.ingest(entries, GroupEntries::new(), self.through, self.highest_topic)?;
                return Ok(true);
            }
        }
        if !entries.is_empty() {
            self.ingest(entries, GroupEntries::new(), self.through, self.highest_topic)?;
        }
        Ok(false)
    }

    /// Notes up to `events_max` events of the span as deleted; returns where to go on.
    fn collect_span(&self, topic: u64, span: Span, events_max: usize, entries: &mut Entries) -> Result<Option<u64>, BaseError> {
        let range = Key::event(topic, span.from).bytes()..Key::event(topic, span.below).bytes();
        for (count, entry) in self.state()?.range(range).enumerate() {
            let key = entry.key()?;
            let key = Key::parse(&key)?;
            if count == events_max {
                return Ok(Some(key.sequence));
            }
            entries.insert(key, None);
        }
        Ok(None)
    }

    /// Makes the entries part of the state, wholly or not at all, and returns when they survive a loss of power.
    fn ingest(&mut self, entries: Entries, of_groups: GroupEntries, through: u64, highest_topic: u64) -> Result<(), BaseError> {
        self.revive()?;
        let entries = entries.into_iter().map(|(key, value)| (key.bytes(), value)).chain(of_groups);
        self.ingest_through(entries.map(Ok), through, highest_topic)?;
        (self.through, self.highest_topic) = (through, highest_topic);
        Ok(())
    }

    /// The same of what is of groups.
    pub(super) fn ingest_of_groups(&mut self, of_groups: GroupEntries) -> Result<(), BaseError> {
        self.ingest(Entries::new(), of_groups, self.through, self.highest_topic)
    }

    /// The same of what comes in the order of its keys.
    pub(super) fn ingest_all(
        &self,
        entries: impl Iterator<Item = Result<(Vec<u8>, Option<Vec<u8>>), BaseError>>,
        highest_topic: u64,
    ) -> Result<(), BaseError> {
        self.ingest_through(entries, self.through, highest_topic)
    }

    fn ingest_through(
        &self,
        entries: impl Iterator<Item = Result<(Vec<u8>, Option<Vec<u8>>), BaseError>>,
        through: u64,
        highest_topic: u64,
    ) -> Result<(), BaseError> {
        let mut ingestion = self.state()?.start_ingestion()?;
        ingestion.write(Key::CHECKPOINT.bytes(), number_bytes([through, highest_topic]))?;
        for entry in entries {
            match entry? {
                (key, Some(value)) => ingestion.write(key, value)?,
                (key, None) => ingestion.write_tombstone(key)?,
            }
        }
        Ok(ingestion.finish()?)
    }

    pub(super) fn highest_topic(&self) -> u64 {
        self.highest_topic
    }

    pub(super) fn note_highest_topic(&mut self, highest_topic: u64) {
        self.highest_topic = highest_topic;
    }

    /// The state as it is now, whatever is folded while it is read.
    pub(super) fn instant(&self) -> Result<fjall::Snapshot, BaseError> {
        self.engine.as_ref().map(|engine| engine.database.snapshot()).ok_or(BaseError::Engine(fjall::Error::Poisoned))
    }

    /// Instants that are read.
    pub(super) fn held(&mut self) -> Option<&mut Vec<Held>> {
        self.engine.as_mut().map(|engine| &mut engine.held)
    }

    /// fjall's own threads give up for good after an error, such as a full disk. Opening it again starts them anew.
    pub(super) fn revive(&mut self) -> Result<(), BaseError> {
        let is_failed = |engine: &Engine| matches!(engine.database.persist(fjall::PersistMode::Buffer), Err(fjall::Error::Poisoned));
        if self.engine.as_ref().is_some_and(is_failed) {
            // Only one can have the directory's lock: the old one ends first.
            self.engine = None;
        }
        if self.engine.is_none() {
            let engine = Engine::open(&self.path, self.cache_bytes)?;
            let checkpoint = engine.state.get(Key::CHECKPOINT.bytes())?;
            let [through, highest_topic] = checkpoint.map_or(Ok([0, 0]), |value| numbers(&value))?;
            if through < self.through {
                return Err(BaseError::Corrupt(format!("found the records up to {through}, expected those up to {}", self.through)));
            }
            (self.engine, self.through, self.highest_topic) = (Some(engine), through, highest_topic);
        }
        Ok(())
    }

    /// After a panic nothing is known of what fjall has in memory: it is closed, and the next attempt opens it again.
    pub(super) fn attempt<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, BaseError>) -> Result<T, BaseError> {
        let result = guarded(|| work(self));
        if matches!(result, Err(BaseError::Panicked(_))) {
            // Closing may panic once more.
            let engine = self.engine.take();
            let _ = guarded(|| {
                drop(engine);
                Ok(())
            });
        }
        result
    }

    /// Reads, where fjall may panic.
    pub(super) fn checked<T>(&self, work: impl FnOnce(&Self) -> Result<T, BaseError>) -> Result<T, BaseError> {
        guarded(|| work(self))
    }

    pub(super) fn state(&self) -> Result<&Keyspace, BaseError> {
        self.engine.as_ref().map(|engine| &engine.state).ok_or(BaseError::Engine(fjall::Error::Poisoned))
    }
}

impl Engine {
    /// Set up for a server whose memory is for topics: nothing passes through memtables, point reads are rare, and so are
    /// neither filters nor much of a cache kept.
    fn open(path: &Path, cache_bytes: u64) -> Result<Self, BaseError> {
        let database = Database::builder(path)
            .cache_size(cache_bytes)
            .max_cached_files(Some(64))
            .worker_threads(1)
            .manual_journal_persist(true)
            .open()?;
        let options = || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(1 << 20)
                .filter_policy(FilterPolicy::disabled())
                .data_block_size_policy(BlockSizePolicy::all(16 << 10))
                .manual_journal_persist(true)
        };
        let state = database.keyspace("state", options)?;
        Ok(Self { held: Vec::new(), database, state })
    }
}

impl Key {
    const CHECKPOINT: Self = Self { tag: Tag::Checkpoint, topic: 0, sequence: 0 };

    fn of(tag: Tag, topic: u64) -> Self {
        Self { tag, topic, sequence: 0 }
    }

    fn event(topic: u64, sequence: u64) -> Self {
        Self { tag: Tag::Event, topic, sequence }
    }

    /// Only an event's key has a sequence number; all others of a tag have the same length, so keys have the order of their bytes.
    fn bytes(self) -> Vec<u8> {
        let mut out = vec![self.tag as u8];
        out.extend_from_slice(&self.topic.to_be_bytes());
        if self.tag == Tag::Event {
            out.extend_from_slice(&self.sequence.to_be_bytes());
        }
        out
    }

    fn parse(bytes: &[u8]) -> Result<Self, BaseError> {
        let unknown = || BaseError::Corrupt(format!("found an unknown key: {bytes:02x?}"));
        let (first, rest) = bytes.split_first().ok_or_else(unknown)?;
        // What is of groups has keys of another form.
        let tag = [Tag::Checkpoint, Tag::Topic, Tag::Value, Tag::Series, Tag::Event, Tag::Garbage]
            .into_iter()
            .find(|tag| *tag as u8 == *first)
            .ok_or_else(unknown)?;
        let length = if tag == Tag::Event { 16 } else { 8 };
        if rest.len() != length {
            return Err(unknown());
        }
        let number = |at: usize| rest.get(at..at + 8).map_or(0, |eight| u64::from_be_bytes(eight.try_into().expect("eight bytes")));
        Ok(Self { tag, topic: number(0), sequence: number(8) })
    }
}

/// The newest of everything in some records.
#[derive(Default)]
pub struct Fold {
    entries: Entries,
    removed: HashSet<u64>,
    first_kept: HashMap<u64, u64>,
    pub(super) highest_topic: u64,
    pub(super) of_groups: GroupEntries,
}

impl Fold {
    pub(super) fn take(&mut self, read: &Read<'_>) {
        let Some(TopicId(topic)) = read.record.topic() else { return };
        self.highest_topic = self.highest_topic.max(topic);
        if self.removed.contains(&topic) {
            return;
        }
        let entry = || {
            let mut value = Vec::with_capacity(read.payload.len() + 1);
            value.push(read.record.kind() as u8);
            value.extend_from_slice(read.payload);
            Some(value)
        };
        match read.record {
            Record::Mark | Record::Logged { .. } | Record::Cut { .. } | Record::Voted { .. } | Record::Committed { .. } => {}
            Record::Added { .. } => {
                self.entries.insert(Key::of(Tag::Topic, topic), entry());
            }
            Record::Value { .. } | Record::NoValue { .. } | Record::Message { .. } => {
                self.entries.insert(Key::of(Tag::Value, topic), entry());
            }
            Record::Event { sequence, timestamp_ms, first_kept, dropped, .. } => {
                if let Some(dropped) = dropped.map(|dropped| Key::event(topic, dropped)) {
                    // One of these records is not in the state yet.
                    let is_new = self.entries.remove(&dropped).is_some_and(|entry| entry.is_some());
                    if !is_new {
                        self.entries.insert(dropped, None);
                    }
                }
                let kept = self.first_kept.entry(topic).or_default();
                let before = std::mem::replace(kept, first_kept.max(*kept));
                if before < *kept {
                    let stale: Vec<Key> = self.entries.range(Key::event(topic, 0)..Key::event(topic, *kept)).map(|(key, _)| *key).collect();
                    stale.iter().for_each(|key| drop(self.entries.remove(key)));
                }
                self.entries.insert(Key::of(Tag::Series, topic), Some(number_bytes([sequence, *kept, timestamp_ms])));
                if sequence >= *kept {
                    self.entries.insert(Key::event(topic, sequence), entry());
                }
            }
            Record::Removed { .. } => self.remove(topic),
        }
    }

    fn remove(&mut self, topic: u64) {
        let events: Vec<Key> = self.entries.range(Key::event(topic, 0)..=Key::event(topic, u64::MAX)).map(|(key, _)| *key).collect();
        events.iter().for_each(|key| drop(self.entries.remove(key)));
        self.first_kept.remove(&topic);
        self.removed.insert(topic);
        for tag in [Tag::Topic, Tag::Value, Tag::Series] {
            self.entries.insert(Key::of(tag, topic), None);
        }
    }
}

/// fjall asserts some of what it reads from disk: a damaged state then panics, which is an error like any other here.
fn guarded<T>(work: impl FnOnce() -> Result<T, BaseError>) -> Result<T, BaseError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(BaseError::Panicked(panic_text(&*panic))))
}

fn restore_entry(state: &mut State, key: Key, value: &[u8]) -> Result<(), BaseError> {
    let id = TopicId(key.topic);
    match key.tag {
        Tag::Checkpoint | Tag::Garbage | Tag::Path | Tag::Made | Tag::Group | Tag::Log | Tag::Staged => {}
        Tag::Series => {
            let [last_sequence, first_kept, latest_ms] = numbers(value)?;
            if let Some(topic) = state.topics.get_mut(&id) {
                (topic.last_sequence, topic.first_kept, topic.latest_ms) = (Some(last_sequence), first_kept, latest_ms);
            }
        }
        Tag::Topic | Tag::Value => state.apply(&record(key, value)?),
        Tag::Event => {
            let Record::Event { sequence, original, timestamp_ms, author, value, .. } = record(key, value)? else {
                return Err(BaseError::Corrupt(format!("event {} of topic {} is none", key.sequence, key.topic)));
            };
            // Without its topic, or before the first that is kept, it is garbage that is not collected yet.
            if let Some(topic) = state.topics.get_mut(&id).filter(|topic| sequence >= topic.first_kept) {
                let event = StoredEvent { sequence, original, timestamp_ms, author: author.into(), value: value.into() };
                topic.events.insert(sequence, event);
            }
        }
    }
    Ok(())
}

fn record(key: Key, value: &[u8]) -> Result<Record<'_>, BaseError> {
    let corrupt = |what: &str| BaseError::Corrupt(format!("topic {}: found {what}", key.topic));
    let record = read_record(value).map_err(|what| corrupt(&what.to_string()))?;
    if record.topic() != Some(TopicId(key.topic)) {
        return Err(corrupt("an entry of another topic"));
    }
    Ok(record)
}

/// Whether the key is of a topic of the group, or of its events.
pub fn is_topic_of(key: &[u8], group: u16, groups: u16) -> Result<bool, BaseError> {
    let Key { tag, topic, .. } = Key::parse(key)?;
    Ok(tag != Tag::Checkpoint && topic % 2 == 0 && topic / 2 % u64::from(groups.max(1)) == u64::from(group))
}

/// Checks what another wrote of a topic, and returns the topic's number.
pub fn check_entry(key: &[u8], value: &[u8]) -> Result<u64, BaseError> {
    let key = Key::parse(key)?;
    let fits = match key.tag {
        Tag::Series => numbers::<3>(value).is_ok(),
        Tag::Garbage => numbers::<2>(value).is_ok(),
        Tag::Topic => matches!(record(key, value)?, Record::Added { .. }),
        Tag::Value => matches!(record(key, value)?, Record::Value { .. } | Record::NoValue { .. } | Record::Message { .. }),
        Tag::Event => matches!(record(key, value)?, Record::Event { sequence, .. } if sequence == key.sequence),
        Tag::Checkpoint | Tag::Path | Tag::Made | Tag::Group | Tag::Log | Tag::Staged => false,
    };
    if fits { Ok(key.topic) } else { Err(BaseError::Corrupt(format!("topic {}: found what is not of it", key.topic))) }
}

/// A record behind the number of its kind.
pub fn read_record(value: &[u8]) -> Result<Record<'_>, BaseError> {
    let corrupt = |what: &str| BaseError::Corrupt(what.to_owned());
    let (kind, payload) = value.split_first().ok_or_else(|| corrupt("an empty entry"))?;
    let kind = RecordKind::from_number(*kind).ok_or_else(|| corrupt("an entry of an unknown kind"))?;
    Record::from_payload(kind, payload).map_err(|malformed| corrupt(malformed.what))
}

/// A topic as the records that make it.
fn topic_records(id: TopicId, topic: &StoredTopic) -> Vec<Record<'_>> {
    let added = Record::Added { topic: id, path: topic.path.as_str(), kind: topic.kind, properties: Cow::Borrowed(&topic.properties) };
    let value = match &topic.value {
        Some(value) if topic.message.is_some() => topic.message.as_ref().map(|message| Record::Message {
            topic: id,
            version: topic.version,
            qos: message.qos,
            expiry: message.expiry,
            passed_on: &message.passed_on,
            value,
        }),
        Some(value) => Some(Record::Value { topic: id, version: topic.version, value }),
        None if topic.version > 0 => Some(Record::NoValue { topic: id, version: topic.version }),
        None => None,
    };
    let events = topic.events.values().map(|event| Record::Event {
        topic: id,
        sequence: event.sequence,
        original: event.original,
        timestamp_ms: event.timestamp_ms,
        author: &event.author,
        value: &event.value,
        first_kept: topic.first_kept,
        dropped: None,
    });
    [added].into_iter().chain(value).chain(events).collect()
}

fn number_bytes<const COUNT: usize>(numbers: [u64; COUNT]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

fn numbers<const COUNT: usize>(bytes: &[u8]) -> Result<[u64; COUNT], BaseError> {
    let (eights, rest) = bytes.as_chunks::<8>();
    match <[[u8; 8]; COUNT]>::try_from(eights) {
        Ok(eights) if rest.is_empty() => Ok(eights.map(u64::from_be_bytes)),
        _ => Err(BaseError::Corrupt(format!("found {} bytes, expected {COUNT} numbers", bytes.len()))),
    }
}

impl From<fjall::Error> for BaseError {
    fn from(error: fjall::Error) -> Self {
        Self::Engine(error)
    }
}

impl fmt::Display for BaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(error) => write!(f, "{error}"),
            Self::Corrupt(what) | Self::Panicked(what) => f.write_str(what),
        }
    }
}
