//! Logs of groups on their way into the state: only what is committed, in order, once.

use super::files::{Directory, SMALL, run};
use super::sample::added;
use crate::base::TopicId;
use crate::cluster::{Added, Batch, Change, Entry, EventChange, Message, place, topic_id};
use crate::journal::{Expiry, Frame, Logged, Payload, Record, Salt, State, encode};
use crate::storage::base::Base;
use crate::storage::groups::{LogMembers, LogPosition};
use crate::storage::{Ack, Exported, LogEntry, LogPayload, LogWrite, Options, Store, export, import, start};
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::mpsc::channel;

pub const GROUPS: u16 = 3;
const TERM: u64 = 5;
const BINARY: u8 = 5;
const SERIES: u8 = 6;

/// A state, and what is to be its next segment.
pub struct Folding {
    directory: Directory,
    pub base: Base,
    bytes: Vec<u8>,
    next_record: u64,
}

impl Folding {
    pub fn new() -> Self {
        let directory = Directory::new();
        std::fs::create_dir_all(&directory.0).unwrap();
        let base = open(&directory);
        Self { directory, base, bytes: vec![0; 64], next_record: 1 }
    }

    pub fn write(&mut self, record: &Record<'_>) {
        encode(Salt(1), Frame { number: self.next_record, synced: 0 }, record, &mut self.bytes);
        self.next_record += 1;
    }

    pub fn log(&mut self, group: u16, (index, term): (u64, u64), payload: Payload<'_>) {
        self.write(&Record::Logged { group, logged: Logged { index, term, payload } });
    }

    pub fn log_entry(&mut self, group: u16, index: u64, entry: &Entry<'_>) {
        self.log_entries(group, index, std::slice::from_ref(entry));
    }

    /// Entries that were proposed together.
    pub fn log_entries(&mut self, group: u16, index: u64, entries: &[Entry<'_>]) {
        let bytes = together(entries.iter().map(Entry::encode));
        self.log(group, (index, TERM), Payload::Entry { judged: entries[0].term, bytes: &bytes });
    }

    pub fn fold(&mut self) {
        let first = self.base.through() + 1;
        self.base.fold(&self.bytes, Salt(1), first, self.next_record).unwrap();
        self.bytes.truncate(64);
    }

    pub fn reopen(mut self) -> Self {
        drop(self.base);
        self.base = open(&self.directory);
        self
    }

    fn state(&self) -> State {
        self.base.restore().unwrap()
    }

    /// The index of the last entry that the state holds.
    fn position(&self, group: u16) -> Option<u64> {
        self.base.logs().unwrap().remove(&group)?.position.map(|position| position.index)
    }
}

fn open(directory: &Directory) -> Base {
    let mut base = Base::open(&directory.0.join("state"), 1 << 20).unwrap();
    base.groups = GROUPS;
    base
}

pub fn entry<'a>(path: &'a str, added: Option<Added<'a>>, change: Option<Change<'a>>) -> Entry<'a> {
    Entry { path, term: TERM, time_ms: 1, asked: None, added, change }
}

pub fn new(kind: u8, properties: &[(&str, &str)]) -> Option<Added<'static>> {
    let properties = properties.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    Some(Added { kind, properties, is_passing: false, creator: None })
}

fn passing() -> Option<Added<'static>> {
    new(BINARY, &[]).map(|added| Added { is_passing: true, ..added })
}

pub fn value(version: u64, value: &[u8]) -> Option<Change<'_>> {
    Some(Change::Value { version, value: Some(value), message: None })
}

fn message(is_clearing: bool) -> Message<'static> {
    let expiry = Some(Expiry { at_ms: 900, left_ms: 50 });
    Message { qos: 1, retain: true, is_clearing, expiry, origin: None, passed_on: b"properties" }
}

fn passed(is_clearing: bool) -> Option<Change<'static>> {
    Some(Change::Passed { version: 1, value: b"passes", message: message(is_clearing) })
}

fn event(sequence: u64, first_kept: u64, dropped: Option<u64>) -> Option<Change<'static>> {
    let original = dropped.map(|_| 0);
    Some(Change::Event(EventChange { sequence, original, timestamp_ms: sequence * 10, author: "ann", value: b"e", first_kept, dropped }))
}

/// Entries of a group in order, all committed, in segments of `each`; and what shards would have stored of them.
fn check_story(entries: &[Entry<'_>], each: usize, expected: &[Record<'_>]) -> Folding {
    let mut folding = Folding::new();
    for (part, first) in entries.chunks(each).zip((1..).step_by(each)) {
        for (entry, index) in part.iter().zip(first..) {
            folding.log_entry(1, index, entry);
            folding.write(&Record::Committed { group: 1, index });
        }
        folding.fold();
        folding = folding.reopen();
    }
    let mut state = State { highest_topic: folding.state().highest_topic, ..State::default() };
    expected.iter().for_each(|record| state.apply(record));
    assert_eq!(folding.state(), state, "in segments of {each}");
    assert_eq!(folding.position(1), Some(entries.len() as u64));
    folding
}

fn id(index: u64) -> TopicId {
    topic_id(1, GROUPS, place(index, 0))
}

/// As one entry of a log.
pub fn together(parts: impl IntoIterator<Item = Vec<u8>>) -> Bytes {
    let mut batch = Batch::default();
    parts.into_iter().for_each(|part| batch.push(&part));
    batch.into_bytes()
}

fn added_record(index: u64, path: &str, kind: u8) -> Record<'_> {
    Record::Added { topic: id(index), path, kind, properties: [].as_slice().into() }
}

#[test]
fn what_is_committed_is_stored_as_shards_would_store_it() {
    let off = &[("DONT_RETAIN_VALUE", "true")];
    let entries = [
        entry("a", new(BINARY, &[]), value(1, b"one")),
        entry("a", None, Some(Change::Value { version: 2, value: Some(b"m"), message: Some(message(false)) })),
        entry("b", new(BINARY, &[]), None),
        entry("b", None, Some(Change::Value { version: 1, value: None, message: None })),
        // It does not keep its value.
        entry("c", new(BINARY, off), value(1, b"gone")),
        entry("c", None, value(2, b"gone")),
        // Takes the place of what is there.
        entry("b", new(BINARY, &[]), value(1, b"new")),
        entry("d", new(BINARY, &[]), value(1, b"x")),
        entry("d", None, Some(Change::Removed)),
        entry("e", new(BINARY, &[]), value(1, b"x")),
        entry("e", None, passed(false)),
        entry("f", new(BINARY, &[]), None),
        entry("f", None, passed(true)),
        entry("g", new(SERIES, &[("TIME_SERIES_EVENT_VALUE_TYPE", "binary")]), event(0, 0, None)),
        entry("g", None, event(1, 0, None)),
        entry("g", None, event(2, 1, None)),
        entry("g", None, event(3, 1, Some(2))),
    ];
    let event_record = |sequence, first_kept, dropped: Option<u64>| Record::Event {
        topic: id(14),
        sequence,
        original: dropped.map(|_| 0),
        timestamp_ms: sequence * 10,
        author: "ann",
        value: b"e",
        first_kept,
        dropped,
    };
    let expiry = Some(Expiry { at_ms: 900, left_ms: 50 });
    let pair = |key: &str, value: &str| vec![(Box::from(key), Box::from(value))];
    let expected = [
        added_record(1, "a", BINARY),
        Record::Message { topic: id(1), version: 2, qos: 1, expiry, passed_on: b"properties", value: b"m" },
        Record::Added { topic: id(5), path: "c", kind: BINARY, properties: pair(off[0].0, off[0].1).into() },
        added_record(7, "b", BINARY),
        Record::Value { topic: id(7), version: 1, value: b"new" },
        added_record(10, "e", BINARY),
        Record::Value { topic: id(10), version: 1, value: b"x" },
        Record::Added { topic: id(14), path: "g", kind: SERIES, properties: pair("TIME_SERIES_EVENT_VALUE_TYPE", "binary").into() },
        event_record(0, 0, None),
        event_record(1, 0, None),
        event_record(2, 1, None),
        event_record(3, 1, Some(2)),
    ];
    for each in [1, 2, 5, 99] {
        check_story(&entries, each, &expected);
    }
}

#[test]
fn what_messages_only_pass_through_is_no_topic_until_it_is_kept() {
    let entries = [
        entry("a", passing(), passed(false)),
        entry("b", passing(), None),
        entry("b", None, Some(Change::Kept)),
        entry("c", passing(), None),
        entry("c", None, value(1, b"kept")),
        entry("d", passing(), None),
        entry("d", None, passed(true)),
        entry("e", passing(), None),
        entry("e", new(BINARY, &[]), None),
    ];
    let expected = [
        added_record(2, "b", BINARY),
        added_record(4, "c", BINARY),
        Record::Value { topic: id(4), version: 1, value: b"kept" },
        added_record(9, "e", BINARY),
    ];
    for each in [1, 2, 99] {
        let folding = check_story(&entries, each, &expected);
        let passing = folding.base.passing().unwrap();
        assert_eq!(passing.iter().map(|(id, topic)| (*id, topic.path.as_str())).collect::<Vec<_>>(), [(id(1), "a")]);
    }
}

#[test]
fn what_is_exported_of_a_cluster_is_what_is_committed_in_the_state_and_behind_it() {
    let directory = Directory::new();
    // Each segment holds little, so some is folded and some is not.
    let options = Options { groups: GROUPS, segment_bytes: 700, segment_age_ms: 20, ..SMALL };
    let (store, _) = Store::open(&directory.0, options).unwrap();
    let handle = start(store, options, None, |_, _| ()).unwrap();
    let entries = [
        entry("s", new(SERIES, &[("TIME_SERIES_EVENT_VALUE_TYPE", "binary")]), event(0, 0, None)),
        entry("a", new(BINARY, &[]), value(1, b"one")),
        entry("b", new(BINARY, &[]), Some(Change::Value { version: 1, value: None, message: None })),
        entry("c", passing(), passed(false)),
        entry("d", new(BINARY, &[]), value(1, b"x")),
        entry("d", None, Some(Change::Removed)),
        entry("s", None, event(1, 0, None)),
        entry("c", None, value(1, b"kept")),
        entry("a", None, value(2, b"two")),
        entry("a", None, value(3, b"not known to be committed")),
    ];
    let (sender, kept) = channel();
    for (index, entry) in (1..).zip(&entries) {
        let entries = vec![LogEntry { index, term: TERM, payload: LogPayload::Entry { judged: TERM, bytes: together([entry.encode()]) } }];
        let sender = sender.clone();
        handle.logs().send(LogWrite::Append { group: 1, entries, done: Box::new(move || sender.send(index).unwrap()) });
        handle.logs().send(LogWrite::Committed { group: 1, index: index.min(9) });
        assert_eq!(kept.recv(), Ok(index));
    }
    handle.stop();
    let mut text = Vec::new();
    assert_eq!(export(&directory.0, GROUPS, &mut text).unwrap(), Exported { topics: 4, left: 1 });
    let other = Directory::new();
    assert_eq!(import(&other.0, &mut &*text).unwrap(), 4);
    let found = Store::open(&other.0, SMALL).unwrap().1.state;
    let topics: BTreeMap<&str, _> =
        found.topics.values().map(|topic| (topic.path.as_str(), (topic.version, topic.value.as_deref(), topic.events.len()))).collect();
    let expected = [("a", (2, Some(&b"two"[..]), 0)), ("b", (1, None, 0)), ("c", (1, Some(&b"kept"[..]), 0)), ("s", (0, None, 2))];
    assert_eq!(topics, expected.into());
}

#[test]
fn what_was_proposed_together_is_folded_one_by_one() {
    let mut folding = Folding::new();
    let entries = [entry("a", new(BINARY, &[]), value(1, b"one")), entry("b", new(BINARY, &[]), None), entry("a", None, value(2, b"two"))];
    folding.log_entries(1, 1, &entries);
    folding.log_entries(1, 2, &[entry("a", None, Some(Change::Removed)), entry("a", new(BINARY, &[]), value(1, b"three"))]);
    folding.write(&Record::Committed { group: 1, index: 2 });
    folding.fold();
    let state = folding.reopen().state();
    let ids = [topic_id(1, GROUPS, place(1, 1)), topic_id(1, GROUPS, place(2, 1))];
    assert_eq!(state.topics.keys().copied().collect::<Vec<_>>(), ids);
    assert_eq!(state.topics[&ids[1]].value.as_deref(), Some(&b"three"[..]));
}

#[test]
fn what_is_no_batch_stops_the_fold() {
    let mut folding = Folding::new();
    folding.log(0, (1, TERM), Payload::Entry { judged: TERM, bytes: b"none" });
    folding.write(&Record::Committed { group: 0, index: 1 });
    assert!(folding.base.fold(&folding.bytes, Salt(1), 1, 3).is_err());
}

#[test]
fn what_is_void_or_says_nothing_changes_nothing_but_the_position() {
    let mut folding = Folding::new();
    let void = Entry { term: TERM - 1, ..entry("a", new(BINARY, &[]), None) };
    folding.log(0, (0, 1), Payload::Members(b"first"));
    folding.log(0, (1, TERM), Payload::Nothing);
    folding.log_entry(0, 2, &void);
    folding.log(0, (3, TERM), Payload::Entry { judged: TERM, bytes: &together([Vec::new()]) });
    folding.log(0, (4, TERM), Payload::Members(b"second"));
    folding.log(0, (5, TERM), Payload::Entry { judged: TERM - 1, bytes: b"void whatever it is" });
    folding.write(&Record::Committed { group: 0, index: 5 });
    folding.write(&Record::Voted { group: 0, vote: b"vote" });
    folding.fold();
    let folding = folding.reopen();
    assert_eq!(folding.state(), State::default());
    let log = folding.base.logs().unwrap().remove(&0).unwrap();
    let members = LogMembers { index: 4, term: TERM, bytes: b"second"[..].into() };
    assert_eq!(log.position, Some(LogPosition { index: 5, term: TERM, members: Some(members) }));
    assert_eq!((log.vote.as_deref(), log.committed, log.entries.len()), (Some(&b"vote"[..]), Some(5), 0));
}

#[test]
fn what_no_topic_is_at_or_has_another_form_stops_the_fold() {
    let bad = [entry("a", None, value(1, b"x")).encode(), entry("a", new(99, &[]), None).encode(), b"none".to_vec()];
    for bytes in bad {
        let mut folding = Folding::new();
        folding.log(0, (1, TERM), Payload::Entry { judged: TERM, bytes: &together([bytes]) });
        folding.write(&Record::Committed { group: 0, index: 1 });
        let error = folding.base.fold(&folding.bytes, Salt(1), 1, 3).unwrap_err().to_string();
        assert!(error.starts_with("group 0, entry 1: "), "{error}");
    }
}

#[test]
fn a_group_without_topics_is_carried_and_another_number_of_groups_refused() {
    let mut folding = Folding::new();
    folding.log(GROUPS, (0, 1), Payload::Members(b"members"));
    folding.log(GROUPS, (1, 1), Payload::Entry { judged: 1, bytes: b"whatever" });
    folding.log(GROUPS, (2, 1), Payload::Nothing);
    folding.write(&Record::Committed { group: GROUPS, index: 2 });
    folding.fold();
    let mut folding = folding.reopen();
    let log = folding.base.logs().unwrap().remove(&GROUPS).unwrap();
    assert_eq!((log.position.map(|position| position.index), log.entries.len()), (Some(0), 2));
    // A server without groups forgets none.
    folding.base.groups = 0;
    folding.write(&Record::Voted { group: GROUPS, vote: b"vote" });
    folding.fold();
    folding.base.groups = GROUPS + 1;
    let error = folding.base.logs().unwrap_err().to_string();
    assert_eq!(error, "found the topics of 3 groups, expected those of 4");
}

#[test]
fn the_store_of_a_server_alone_is_none_of_a_cluster() {
    let directory = Directory::new();
    run(&directory, SMALL).0.write_and_stop(&[added(1, "odd"), added(2, "even")]);
    let error = Store::open(&directory.0, Options { groups: GROUPS, ..SMALL }).err().unwrap();
    assert!(error.to_string().ends_with("a server of a cluster needs one of its own"), "{error}");
    assert!(!error.is_damage());
    assert!(Store::open(&directory.0, SMALL).is_ok());
}

/// What may happen to a group's log.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// An entry about one of a few paths.
    Propose(u16, u8, u8),
    /// Some of what is not committed goes, and the term rises.
    Cut(u16, u8),
    Commit(u16, u8),
    Vote(u16, u8),
    Fold,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let group = || 0..GROUPS;
    let step = prop_oneof![
        9 => (group(), 0..3_u8, 0..6_u8).prop_map(|(group, path, what)| Step::Propose(group, path, what)),
        1 => (group(), 0..4_u8).prop_map(|(group, count)| Step::Cut(group, count)),
        4 => (group(), 0..6_u8).prop_map(|(group, count)| Step::Commit(group, count)),
        1 => (group(), any::<u8>()).prop_map(|(group, vote)| Step::Vote(group, vote)),
        2 => Just(Step::Fold),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..80)
}

/// A group as the naive model has it.
#[derive(Clone, Default)]
struct Naive {
    term: u64,
    /// Each entry's term, path, and what it does.
    log: Vec<(u64, u8, u8)>,
    committed: usize,
    vote: Option<u8>,
}

/// What is at a path: the topic, whether messages only pass through it, its value.
type Topics = BTreeMap<u8, (TopicId, bool, Option<u8>)>;

impl Naive {
    fn entry<'a>(index: u64, term: u64, path: &'a str, what: u8, exists: bool, bytes: &'a [u8]) -> Entry<'a> {
        let (added, change) = match (what, exists) {
            (0, _) => (new(BINARY, &[]), value(index + 1, bytes)),
            (1, _) => (passing(), None),
            (2, true) => (None, Some(Change::Removed)),
            (3, true) => (None, Some(Change::Kept)),
            (4, true) => (None, value(index + 1, bytes)),
            (_, true) => (None, passed(true)),
            (_, false) => (new(BINARY, &[]), None),
        };
        Entry { term, ..entry(path, added, change) }
    }

    /// The topics after so many entries.
    fn topics(&self, group: u16, count: usize) -> Topics {
        let mut topics = Topics::new();
        for (index, (_, path, what)) in (0..).zip(&self.log[..count]) {
            let id = topic_id(group, GROUPS, place(index, 0));
            match (what, topics.get_mut(path)) {
                (0, _) => _ = topics.insert(*path, (id, false, Some(index as u8))),
                (1, _) => _ = topics.insert(*path, (id, true, None)),
                (2 | 5, Some(_)) => _ = topics.remove(path),
                (3, Some(topic)) => topic.1 = false,
                (4, Some(topic)) => (topic.1, topic.2) = (false, Some(index as u8)),
                (_, _) => _ = topics.insert(*path, (id, false, None)),
            }
        }
        topics
    }
}

struct Run {
    folding: Folding,
    groups: Vec<Naive>,
    /// The same as of the last fold.
    folded: Vec<Naive>,
}

impl Run {
    fn step(mut self, step: Step) -> Self {
        match step {
            Step::Propose(group, path, what) => {
                let naive = &mut self.groups[usize::from(group)];
                let exists = naive.topics(group, naive.log.len()).contains_key(&path);
                let (index, name) = (naive.log.len() as u64, path.to_string());
                let bytes = [index as u8];
                let entry = Naive::entry(index, naive.term, &name, what, exists, &bytes);
                let payload = &together([entry.encode()]);
                naive.log.push((naive.term, path, what));
                self.folding.log(group, (index, naive.term), Payload::Entry { judged: naive.term, bytes: payload });
            }
            Step::Cut(group, count) => {
                let naive = &mut self.groups[usize::from(group)];
                naive.log.truncate(naive.committed.max(naive.log.len().saturating_sub(usize::from(count))));
                naive.term += 1;
                let after = (naive.log.len() as u64).checked_sub(1);
                self.folding.write(&Record::Cut { group, after });
            }
            Step::Commit(group, count) => {
                let naive = &mut self.groups[usize::from(group)];
                naive.committed = naive.log.len().min(naive.committed + usize::from(count));
                if let Some(index) = (naive.committed as u64).checked_sub(1) {
                    self.folding.write(&Record::Committed { group, index });
                }
            }
            Step::Vote(group, vote) => {
                self.groups[usize::from(group)].vote = Some(vote);
                self.folding.write(&Record::Voted { group, vote: &[vote] });
            }
            Step::Fold => {
                self.folding.fold();
                self.folded.clone_from(&self.groups);
            }
            Step::Reopen => {
                let (bytes, next_record) = (self.folding.bytes.clone(), self.folding.next_record);
                self.folding = Folding { bytes, next_record, ..self.folding.reopen() };
            }
        }
        self
    }

    fn check(&self) {
        let (state, logs, passing) = (self.folding.state(), self.folding.base.logs().unwrap(), self.folding.base.passing().unwrap());
        let mut count = 0;
        for (group, naive) in (0..).zip(&self.folded) {
            let log = logs.get(&group).cloned().unwrap_or_default();
            assert_eq!(
                log.position.map(|position| (position.index, position.term)),
                naive.committed.checked_sub(1).map(|at| (at as u64, naive.log[at].0))
            );
            let carried: Vec<(u64, u64)> = log.entries.values().map(|entry| (entry.index, entry.term)).collect();
            assert_eq!(carried, (0..).zip(&naive.log).skip(naive.committed).map(|(at, entry)| (at, entry.0)).collect::<Vec<_>>());
            assert_eq!(log.vote.as_deref(), naive.vote.as_ref().map(std::slice::from_ref));
            for (path, (id, is_passing, value)) in naive.topics(group, naive.committed) {
                let held = if is_passing { &passing } else { &state.topics };
                assert_eq!(held[&id].path.as_str(), path.to_string());
                assert_eq!(held[&id].value.as_deref(), value.as_ref().map(std::slice::from_ref));
                count += 1;
            }
        }
        assert_eq!(state.topics.len() + passing.len(), count, "there is nothing else");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_state_is_what_is_committed_and_what_is_not_is_carried(steps in steps()) {
        let groups = vec![Naive { term: 1, ..Naive::default() }; usize::from(GROUPS)];
        let mut run = Run { folding: Folding::new(), folded: groups.clone(), groups };
        for step in steps {
            run = run.step(step);
            if matches!(step, Step::Fold | Step::Reopen) {
                run.check();
            }
        }
        run = run.step(Step::Fold);
        run.check();
    }
}

#[test]
fn what_was_acknowledged_is_in_the_log_or_the_state_after_each_restart() {
    let directory = Directory::new();
    for ack in Ack::ALL.into_iter().cycle().take(9) {
        let options = Options { ack, groups: GROUPS, segment_bytes: 900, segment_age_ms: 20, sync_interval_ms: 5, ..Options::default() };
        let (store, found) = Store::open(&directory.0, options).unwrap();
        let log = found.logs.get(&2).cloned().unwrap_or_default();
        let folded = log.position.as_ref().map_or(0, |position| position.index + 1);
        let first = folded + log.entries.len() as u64;
        assert_eq!(found.state.topics.len() as u64, folded, "each entry adds a topic");
        let handle = start(store, options, None, |_, _| ()).unwrap();
        let (sender, kept) = channel();
        for index in first..first + 20 {
            let (path, sender) = (index.to_string(), sender.clone());
            let bytes = together([entry(&path, new(BINARY, &[]), value(1, b"x")).encode()]);
            let entries = vec![LogEntry { index, term: TERM, payload: LogPayload::Entry { judged: TERM, bytes } }];
            handle.logs().send(LogWrite::Append { group: 2, entries, done: Box::new(move || sender.send(index).unwrap()) });
            assert_eq!(kept.recv(), Ok(index));
            handle.logs().send(LogWrite::Committed { group: 2, index: index.saturating_sub(3) });
        }
        handle.stop();
        let (_, found) = Store::open(&directory.0, options).unwrap();
        let log = &found.logs[&2];
        let folded = log.position.as_ref().map_or(0, |position| position.index + 1);
        assert_eq!((folded + log.entries.len() as u64, log.committed), (first + 20, Some(first + 16)));
    }
}
