//! Logs of groups in the state: what of them is folded already, and what a segment adds to that.
//!
//! Only what is committed changes topics. What is not, when its segment is folded, is carried: it stands in the state as entries of the log, so that no segment
//! waits for a quiet group, and is applied or cut with a later segment. With the changed topics goes how far the state goes, in one step.
//!
//! Whether a topic is persistent makes no difference here: those of groups live as long as a majority does, and a server that comes new gets all of them.
//! A topic that only messages pass through is no topic of the state; what would make it one stands with its path. Which updates were made (`cluster::once`) is part of the state
//! as topics are.

use super::base::{Base, BaseError, Fold, Tag, read_record};
use super::logs::{LogEntry, LogPayload};
use crate::base::TopicId;
use crate::cluster::{Change, Entry, EventChange, Once, Row, Source, parts, place, topic_id};
use crate::journal::{Read, Record, State, StoredTopic};
use crate::topic::path::{self, TopicPath};
use crate::topic::specification::{Specification, SpecificationLimits, TopicType};
use crate::wire::mqtt::QoS;
use fjall::Guard;
use hashbrown::{HashMap, HashSet};
use rkyv::rancor::Failure;
use rkyv::{Archive, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// What is kept of groups' logs.
pub type Logs = BTreeMap<u16, GroupLog>;

/// What is kept of a group's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupLog {
    /// As it was handed over.
    pub vote: Option<Box<[u8]>>,
    /// All up to there is known to be committed; more may be.
    pub committed: Option<u64>,
    /// What the state holds.
    pub position: Option<LogPosition>,
    /// The entries behind, by their indices.
    pub entries: BTreeMap<u64, LogEntry>,
    /// How many groups there were that have topics, when some were folded.
    pub(super) groups: u16,
}

/// How far a group's state goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPosition {
    /// Of the last entry that it holds.
    pub index: u64,
    pub term: u64,
    /// The last entry up to there that said who the members are.
    pub members: Option<LogMembers>,
}

/// An entry that says who a group's members are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogMembers {
    pub index: u64,
    pub term: u64,
    /// As they were handed over.
    pub bytes: Box<[u8]>,
}

#[derive(Archive, Serialize)]
struct KeptGroup {
    /// How many groups there are that have topics.
    groups: u16,
    vote: Option<Box<[u8]>>,
    committed: Option<u64>,
    position: Option<KeptPosition>,
}

#[derive(Archive, Serialize)]
struct KeptPosition {
    index: u64,
    term: u64,
    members: Option<KeptMembers>,
}

#[derive(Archive, Serialize)]
struct KeptMembers {
    index: u64,
    term: u64,
    bytes: Box<[u8]>,
}

impl GroupLog {
    /// What the record of the group's log makes of it. What the state holds already changes nothing.
    pub fn apply(&mut self, record: &Record<'_>) {
        match record {
            Record::Logged { logged, .. } if self.next_index() <= Some(logged.index) => {
                drop(self.entries.insert(logged.index, LogEntry::of(logged)))
            }
            Record::Cut { after, .. } => drop(self.entries.split_off(&after.map_or(0, |after| after.saturating_add(1)))),
            Record::Voted { vote, .. } => self.vote = Some((*vote).into()),
            Record::Committed { index, .. } => self.committed = self.committed.max(Some(*index)),
            _ => {}
        }
    }

    /// The index that follows what the state holds.
    fn next_index(&self) -> Option<u64> {
        self.position.as_ref().map(|position| position.index.saturating_add(1))
    }

    /// The first entry that is missing between others, or behind what the state holds.
    pub fn gap(&self) -> Option<u64> {
        let first = self.next_index().or(self.entries.first_key_value().map(|(index, _)| *index))?;
        (first..).zip(self.entries.keys()).find(|(expected, found)| expected != *found).map(|(expected, _)| expected)
    }

    /// The state goes as far as the entry.
    fn advance(&mut self, entry: &LogEntry) {
        let members = match &entry.payload {
            LogPayload::Members(bytes) => Some(LogMembers { index: entry.index, term: entry.term, bytes: (&**bytes).into() }),
            _ => self.position.take().and_then(|position| position.members),
        };
        self.position = Some(LogPosition { index: entry.index, term: entry.term, members });
    }

    pub(super) fn encode(&self, groups: u16) -> Vec<u8> {
        let position = self.position.clone().map(|LogPosition { index, term, members }| {
            let members = members.map(|LogMembers { index, term, bytes }| KeptMembers { index, term, bytes });
            KeptPosition { index, term, members }
        });
        // A server that knows of no groups does not forget them.
        let groups = if groups == 0 { self.groups } else { groups };
        let kept = KeptGroup { groups, vote: self.vote.clone(), committed: self.committed, position };
        rkyv::to_bytes::<Failure>(&kept).expect("memory takes it").to_vec()
    }

    pub(super) fn decode(bytes: &[u8], groups: u16) -> Result<Self, BaseError> {
        let malformed = |_: Failure| BaseError::Corrupt("found a group that is malformed".to_owned());
        let kept = rkyv::access::<ArchivedKeptGroup, Failure>(bytes).map_err(malformed)?;
        let found = kept.groups.to_native();
        if groups != 0 && found != 0 && found != groups {
            return Err(BaseError::Corrupt(format!("found the topics of {found} groups, expected those of {groups}")));
        }
        let position = kept.position.as_ref().map(|position| {
            let members = position.members.as_ref().map(|members| LogMembers {
                index: members.index.to_native(),
                term: members.term.to_native(),
                bytes: (&*members.bytes).into(),
            });
            LogPosition { index: position.index.to_native(), term: position.term.to_native(), members }
        });
        let committed = kept.committed.as_ref().map(|committed| committed.to_native());
        Ok(Self { vote: kept.vote.as_ref().map(|vote| (&**vote).into()), committed, position, entries: BTreeMap::new(), groups: found })
    }
}

/// What a record of some group's log makes of the logs.
pub fn apply(logs: &mut Logs, record: &Record<'_>) {
    if let Some(group) = record.group() {
        logs.entry(group).or_default().apply(record);
    }
}

/// Says where entries of a log are missing.
pub fn missing(logs: &Logs) -> Option<String> {
    let (group, missing) = logs.iter().find_map(|(group, log)| Some((group, log.gap()?)))?;
    Some(format!("entry {missing} of the log of group {group} is missing"))
}

/// The key of something that is of a group; see [`Tag`].
pub fn group_key(tag: Tag, group: u16, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(3 + rest.len());
    key.push(tag as u8);
    key.extend_from_slice(&group.to_be_bytes());
    key.extend_from_slice(rest);
    key
}

/// The group of such a key, and the rest of it.
pub fn parse_group_key(key: &[u8]) -> Result<(u16, &[u8]), BaseError> {
    match key {
        [_, high, low, rest @ ..] => Ok((u16::from_be_bytes([*high, *low]), rest)),
        _ => Err(BaseError::Corrupt(format!("found an unknown key: {key:02x?}"))),
    }
}

impl Base {
    /// All that is kept of logs.
    pub fn logs(&self) -> Result<Logs, BaseError> {
        self.checked(|base| {
            let mut logs = Logs::new();
            for found in base.state()?.prefix([Tag::Group as u8]) {
                let (group, _) = parse_group_key(&found.key()?)?;
                logs.insert(group, base.group_log(group)?);
            }
            Ok(logs)
        })
    }

    pub(super) fn group_log(&self, group: u16) -> Result<GroupLog, BaseError> {
        let kept = self.state()?.get(group_key(Tag::Group, group, &[]))?;
        let mut log = kept.map_or(Ok(GroupLog::default()), |kept| GroupLog::decode(&kept, self.groups))?;
        for found in self.state()?.prefix(group_key(Tag::Log, group, &[])) {
            let (key, value) = found.into_inner()?;
            match read_record(&value)? {
                Record::Logged { group: of, logged } if key[..] == group_key(Tag::Log, of, &logged.index.to_be_bytes()) => {
                    log.entries.insert(logged.index, LogEntry::of(&logged));
                }
                _ => return Err(BaseError::Corrupt(format!("group {group}: found an entry of another place"))),
            }
        }
        Ok(log)
    }

    /// Topics that messages are only passed through, as if they were some.
    pub fn passing(&self) -> Result<BTreeMap<TopicId, StoredTopic>, BaseError> {
        self.checked(|base| {
            let mut passing = BTreeMap::new();
            for found in base.state()?.prefix([Tag::Path as u8]) {
                if let Some((id, topic)) = Known::decode(&found.value()?)?.stored()? {
                    passing.insert(id, topic);
                }
            }
            Ok(passing)
        })
    }

    /// Which updates groups are known to have.
    pub fn all_made(&self) -> Result<Vec<(u16, Source, Row)>, BaseError> {
        self.checked(|base| base.state()?.prefix([Tag::Made as u8]).map(read_row).collect())
    }

    /// The same of one group.
    pub(super) fn made(&self, group: u16) -> Result<Once, BaseError> {
        let mut made = Once::default();
        for found in self.state()?.prefix(group_key(Tag::Made, group, &[])) {
            let (_, source, row) = read_row(found)?;
            made.merge(source, &row);
        }
        Ok(made)
    }

    /// Notes what the records of a segment say of groups' logs, and applies what is committed.
    pub(super) fn fold_logs(&self, records: BTreeMap<u16, Vec<Record<'_>>>, fold: &mut Fold) -> Result<(), BaseError> {
        for (group, records) in records {
            let mut log = self.group_log(group)?;
            let carried: Vec<u64> = log.entries.keys().copied().collect();
            let mut added = BTreeSet::new();
            for record in &records {
                log.apply(record);
                if let Record::Logged { logged, .. } = record {
                    added.insert(logged.index);
                }
            }
            self.apply_committed(group, &mut log, fold, None)?;
            for index in carried.iter().filter(|index| !log.entries.contains_key(index)) {
                fold.of_groups.insert(group_key(Tag::Log, group, &index.to_be_bytes()), None);
            }
            for entry in added.iter().filter_map(|index| log.entries.get(index)) {
                let record = Record::Logged { group, logged: entry.logged() };
                fold.of_groups.insert(group_key(Tag::Log, group, &entry.index.to_be_bytes()), Some(record_bytes(&record)));
            }
            fold.of_groups.insert(group_key(Tag::Group, group, &[]), Some(log.encode(self.groups)));
        }
        Ok(())
    }

    /// Applies to `state`, which is this one's, what the logs have committed behind it, for who only reads. Returns how many entries are not known to be committed.
    pub(super) fn show_committed(&self, logs: Logs, state: &mut State) -> Result<u64, BaseError> {
        self.checked(|base| {
            let mut left = 0;
            for (group, mut log) in logs {
                base.apply_committed(group, &mut log, &mut Fold::default(), Some(&mut *state))?;
                if group < base.groups || base.groups == 0 {
                    left += log.entries.values().filter(|entry| entry.changes_topics()).count() as u64;
                }
            }
            Ok(left)
        })
    }

    /// Applies all that is committed, also to what is `shown`. Of a group without topics, and where nobody knows how many groups have some, only what changes none.
    fn apply_committed(&self, group: u16, log: &mut GroupLog, fold: &mut Fold, shown: Option<&mut State>) -> Result<(), BaseError> {
        if let Some(missing) = log.gap() {
            return Err(BaseError::Corrupt(format!("group {group}: entry {missing} of its log is missing")));
        }
        let mut applying = Applying { base: self, fold, shown, group, paths: HashMap::new(), changed: HashSet::new(), made: None };
        while let Some(first) = log.entries.first_entry().filter(|first| Some(*first.key()) <= log.committed) {
            let changes_topics = first.get().changes_topics();
            if changes_topics && group >= self.groups {
                break;
            }
            let entry = first.remove();
            if let LogPayload::Entry { judged, bytes } = &entry.payload
                && *judged == entry.term
                && changes_topics
            {
                let named = |what: BaseError| BaseError::Corrupt(format!("group {group}, entry {}: {what}", entry.index));
                // At most `cluster::PARTS_MAX`.
                for (number, part) in parts(bytes).enumerate() {
                    let part = part.map_err(|_| named(BaseError::Corrupt("it has a form that is not known".to_owned())))?;
                    if !part.is_empty() {
                        applying.apply(entry.term, place(entry.index, number), &part).map_err(named)?;
                    }
                }
            }
            log.advance(&entry);
        }
        applying.note_made();
        applying.note_paths();
        Ok(())
    }
}

/// The key of what a source has asked for of a group, and made.
fn made_key(group: u16, source: Source) -> Vec<u8> {
    let Source { server, boot, shard } = source;
    group_key(Tag::Made, group, &[&server.to_be_bytes()[..], &boot.to_be_bytes(), &shard.to_be_bytes()].concat())
}

/// Reads what another wrote of that.
pub fn parse_made(key: &[u8], value: &[u8]) -> Result<(u16, Source, Row), BaseError> {
    let (group, rest) = parse_group_key(key)?;
    let corrupt = || BaseError::Corrupt(format!("group {group}: found updates of nobody"));
    let (server, rest) = rest.split_first_chunk().ok_or_else(corrupt)?;
    let (boot, rest) = rest.split_first_chunk().ok_or_else(corrupt)?;
    let shard = rest.try_into().map_err(|_| corrupt())?;
    let source = Source { server: u64::from_be_bytes(*server), boot: u64::from_be_bytes(*boot), shard: u16::from_be_bytes(shard) };
    Ok((group, source, Row::decode(value).map_err(|_| corrupt())?))
}

fn read_row(found: Guard) -> Result<(u16, Source, Row), BaseError> {
    let (key, value) = found.into_inner()?;
    parse_made(&key, &value)
}

/// What is at a path of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    id: TopicId,
    retains_value: bool,
    /// Of what only messages are passed through, the record that would make it a topic.
    passing: Option<Vec<u8>>,
}

impl Known {
    const IS_PASSING: u8 = 1;
    const RETAINS_VALUE: u8 = 2;

    fn encode(&self) -> Vec<u8> {
        let mut flags = 0;
        if self.passing.is_some() {
            flags |= Self::IS_PASSING;
        }
        if self.retains_value {
            flags |= Self::RETAINS_VALUE;
        }
        [&self.id.0.to_be_bytes()[..], &[flags], self.passing.as_deref().unwrap_or_default()].concat()
    }

    fn decode(bytes: &[u8]) -> Result<Self, BaseError> {
        let Some(([id @ .., flags], rest)) = bytes.split_first_chunk::<9>() else {
            return Err(BaseError::Corrupt("found a path without its topic".to_owned()));
        };
        let id = TopicId(u64::from_be_bytes(*id));
        let passing = (flags & Self::IS_PASSING != 0).then(|| rest.to_vec());
        Ok(Self { id, retains_value: flags & Self::RETAINS_VALUE != 0, passing })
    }

    /// As a topic, where only messages are passed through it.
    fn stored(&self) -> Result<Option<(TopicId, StoredTopic)>, BaseError> {
        let Some(passing) = &self.passing else { return Ok(None) };
        match read_record(passing)? {
            Record::Added { topic, path, kind, properties } => {
                Ok(Some((topic, StoredTopic::new(TopicPath::of_branch(path), kind, properties.into_owned()))))
            }
            _ => Err(BaseError::Corrupt("found a path of what is no topic".to_owned())),
        }
    }
}

/// Checks what another wrote of what is at a path, and returns the topic's number.
pub fn check_path(key: &[u8], value: &[u8]) -> Result<u64, BaseError> {
    let (_, path) = parse_group_key(key)?;
    let known = Known::decode(value)?;
    let form = std::str::from_utf8(path).ok().filter(|path| path::check_form(path).is_ok());
    let fits = form.is_some_and(|path| {
        known.stored().is_ok_and(|passing| passing.is_none_or(|(id, topic)| id == known.id && topic.path.as_str() == path))
    });
    if fits { Ok(known.id.0) } else { Err(BaseError::Corrupt(format!("found a path that is none, of topic {}", known.id.0))) }
}

/// The entries of a group on their way into the state.
struct Applying<'b> {
    base: &'b Base,
    fold: &'b mut Fold,
    /// Where the same is shown.
    shown: Option<&'b mut State>,
    group: u16,
    /// What is at the paths that were named.
    paths: HashMap<Box<str>, Option<Known>>,
    changed: HashSet<Box<str>>,
    /// Which updates were made, once there is one more.
    made: Option<Noting>,
}

/// What is known of updates, whose were known before, and whose are more.
struct Noting {
    made: Once,
    before: Vec<Source>,
    noted: BTreeSet<Source>,
}

impl Noting {
    fn new(made: Once) -> Self {
        let before = made.rows().map(|(source, _)| source).collect();
        Self { made, before, noted: BTreeSet::new() }
    }
}

impl Applying<'_> {
    /// What a shard makes of the entry's topic, as its records are: see `owner::storing`.
    fn apply(&mut self, landed: u64, place: u64, bytes: &[u8]) -> Result<(), BaseError> {
        let corrupt = |what: &str| BaseError::Corrupt(what.to_owned());
        let Entry { path, term, time_ms, asked, added, change } =
            Entry::decode(bytes).map_err(|_| corrupt("it has a form that is not known"))?;
        if term != landed {
            return Ok(());
        }
        if let Some(asked) = &asked {
            let noting = match &mut self.made {
                Some(noting) => noting,
                None => self.made.insert(Noting::new(self.base.made(self.group)?)),
            };
            noting.noted.insert(asked.source);
            noting.made.note(asked, time_ms, place);
        }
        let mut known = self.find(path)?;
        if let Some(added) = added {
            if let Some(Known { id, passing: None, .. }) = known {
                self.take(&Record::Removed { topic: id });
            }
            let topic = topic_id(self.group, self.base.groups, place);
            known = Some(self.add(topic, path, added)?);
        }
        match change {
            None => {}
            Some(Change::Removed) => known = self.remove(known),
            Some(Change::Passed { message, .. }) if message.is_clearing => known = self.remove(known),
            Some(change) => {
                let known = known.as_mut().ok_or_else(|| corrupt("there is no topic at its path"))?;
                self.change(known, &change)?;
            }
        }
        self.set(path, known);
        Ok(())
    }

    fn add(&mut self, topic: TopicId, path: &str, added: crate::cluster::Added<'_>) -> Result<Known, BaseError> {
        let topic_type =
            TopicType::from_number(added.kind).ok_or_else(|| BaseError::Corrupt(format!("there is no topic type {}", added.kind)))?;
        let properties = added.properties.iter().map(|(key, value)| (&**key, &**value));
        let specification = Specification::parse(topic_type, properties, SpecificationLimits::default());
        let retains_value = specification.map_err(|error| BaseError::Corrupt(error.to_string()))?.retains_value();
        let record = Record::Added { topic, path, kind: added.kind, properties: Cow::Borrowed(&added.properties) };
        let passing = if added.is_passing {
            self.fold.highest_topic = self.fold.highest_topic.max(topic.0);
            Some(record_bytes(&record))
        } else {
            self.take(&record);
            None
        };
        Ok(Known { id: topic, retains_value, passing })
    }

    fn remove(&mut self, known: Option<Known>) -> Option<Known> {
        if let Some(Known { id, passing: None, .. }) = known {
            self.take(&Record::Removed { topic: id });
        }
        None
    }

    fn change(&mut self, known: &mut Known, change: &Change<'_>) -> Result<(), BaseError> {
        let topic = known.id;
        match change {
            Change::Removed | Change::Passed { .. } => {}
            Change::Kept => self.keep(known)?,
            Change::Value { version, value, message } => {
                self.keep(known)?;
                let version = *version;
                if known.retains_value {
                    self.take(&match (value, message) {
                        (None, _) => Record::NoValue { topic, version },
                        (Some(value), None) => Record::Value { topic, version, value },
                        (Some(value), Some(message)) => {
                            let qos = QoS::from_number(message.qos).unwrap_or_default() as u8;
                            Record::Message { topic, version, qos, expiry: message.expiry, passed_on: message.passed_on, value }
                        }
                    });
                }
            }
            Change::Event(EventChange { sequence, original, timestamp_ms, author, value, first_kept, dropped }) => {
                self.take(&Record::Event {
                    topic,
                    sequence: *sequence,
                    original: *original,
                    timestamp_ms: *timestamp_ms,
                    author,
                    value,
                    first_kept: *first_kept,
                    dropped: *dropped,
                })
            }
        }
        Ok(())
    }

    /// What messages were only passed through is a topic from now on.
    fn keep(&mut self, known: &mut Known) -> Result<(), BaseError> {
        if let Some(passing) = known.passing.take() {
            let record = read_record(&passing)?;
            self.take(&record);
        }
        Ok(())
    }

    fn take(&mut self, record: &Record<'_>) {
        let mut payload = Vec::new();
        record.put_payload(&mut payload);
        self.fold.take(&Read { number: 0, record: record.clone(), payload: &payload });
        if let Some(state) = &mut self.shown {
            state.apply(record);
        }
    }

    fn find(&mut self, path: &str) -> Result<Option<Known>, BaseError> {
        if let Some(known) = self.paths.get(path) {
            return Ok(known.clone());
        }
        let found = self.base.state()?.get(group_key(Tag::Path, self.group, path.as_bytes()))?;
        let known = found.map(|found| Known::decode(&found)).transpose()?;
        self.paths.insert(path.into(), known.clone());
        Ok(known)
    }

    fn set(&mut self, path: &str, known: Option<Known>) {
        let held = self.paths.get_mut(path).expect("it was found first");
        if *held != known {
            *held = known;
            self.changed.insert(path.into());
        }
    }

    fn note_made(&mut self) {
        let Some(Noting { made, before, noted }) = self.made.take() else { return };
        let gone = before.into_iter().filter(|source| made.row(*source).is_none());
        for source in gone.chain(noted.iter().copied()) {
            self.fold.of_groups.insert(made_key(self.group, source), made.row(source).map(Row::encode));
        }
    }

    fn note_paths(self) {
        for path in self.changed {
            let known = self.paths.get(&path).and_then(|known| known.as_ref());
            self.fold.of_groups.insert(group_key(Tag::Path, self.group, path.as_bytes()), known.map(Known::encode));
        }
    }
}

/// A record as it stands in the state.
fn record_bytes(record: &Record<'_>) -> Vec<u8> {
    let mut bytes = vec![record.kind() as u8];
    record.put_payload(&mut bytes);
    bytes
}
