//! A group's state on its way from one store to another.

use super::files::Directory;
use super::folding::{Folding, GROUPS, entry, new, together, value};
use crate::base::TopicId;
use crate::cluster::{Asked, Change, Entry, Found, Made, Source, place, topic_id};
use crate::journal::{Payload, Record, State, StoredTopic};
use crate::storage::base::Base;
use crate::storage::groups::LogPosition;
use crate::storage::{Handle, LogEntry, LogPayload, LogWrite, Options, ReadPiece, Snapshots, Store, start};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

const BINARY: u8 = 5;
const GROUP: u16 = 1;

/// Topics of the group, of another and of the server itself, some removed again; the group's state goes as far as `last`.
fn folding(last: u64, length: usize) -> Folding {
    let mut folding = Folding::new();
    folding.write(&Record::Added { topic: TopicId(1), path: "own", kind: BINARY, properties: [].as_slice().into() });
    for group in [0, GROUP] {
        for index in 1..=last {
            let path = format!("{group}/{}", index % 40);
            let bytes = vec![index as u8; length];
            let entry = match index % 5 {
                0 => entry(&path, new(BINARY, &[]), Some(Change::Removed)),
                1 => entry(&path, new(BINARY, &[]).map(|added| crate::cluster::Added { is_passing: true, ..added }), None),
                _ => entry(&path, new(BINARY, &[]), value(index, &bytes)),
            };
            folding.log_entry(group, index, &entry);
        }
        folding.write(&Record::Committed { group, index: last });
    }
    folding.fold();
    folding
}

/// What of the state is the group's.
fn of_group(base: &Base, group: u16) -> (BTreeMap<TopicId, StoredTopic>, BTreeMap<TopicId, StoredTopic>) {
    let is_of = |id: &TopicId| id.0.is_multiple_of(2) && id.0 / 2 % u64::from(GROUPS) == u64::from(group);
    let only = |topics: BTreeMap<TopicId, StoredTopic>| topics.into_iter().filter(|(id, _)| is_of(id)).collect();
    (only(base.restore().unwrap().topics), only(base.passing().unwrap()))
}

fn read(base: &mut Base, index: u64, mut between: impl FnMut(&mut Base)) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    loop {
        match base.read_piece(GROUP, index, pieces.len() as u64).unwrap() {
            ReadPiece::Piece { bytes, is_last } => {
                assert!(bytes.len() <= 1 << 20);
                pieces.push(bytes.to_vec());
                if is_last {
                    return pieces;
                }
            }
            other => panic!("{other:?}"),
        }
        between(base);
    }
}

fn stage(base: &mut Base, pieces: &[Vec<u8>]) {
    (0..).zip(pieces).for_each(|(number, piece)| base.stage(GROUP, number, piece).unwrap());
}

fn position(index: u64) -> LogPosition {
    LogPosition { index, term: 5, members: None }
}

#[test]
fn which_updates_were_made_is_known_from_the_state_and_from_a_snapshot() {
    let source = |server| Source { server, boot: 5, shard: 2 };
    let made = |number, index, base: &Base, server| {
        let found = base.made(GROUP).unwrap().find(source(server), number);
        assert_eq!(found, Found::Made(Made::Created(true), place(index, 0)), "{number} of {server}");
        assert_eq!(base.made(0).unwrap().find(source(server), number), Found::NotMade, "it is of its group");
    };
    let check = |base: &Base, last: u64| {
        (11..=last).for_each(|index| made(index - 10, index, base, index % 2));
        assert_eq!(base.made(GROUP).unwrap().find(source(0), 1), Found::NotMade);
    };
    let mut from = folding(10, 10);
    // Two segments.
    for last in [14, 18] {
        for index in last - 3..=last {
            let path = format!("1/{index}");
            let asked = Asked { source: source(index % 2), number: index - 10, made: Made::Created(true) };
            from.log_entry(GROUP, index, &Entry { asked: Some(asked), ..entry(&path, new(BINARY, &[]), None) });
        }
        from.write(&Record::Committed { group: GROUP, index: last });
        from.fold();
        from = from.reopen();
        check(&from.base, last);
    }
    let mut to = folding(5, 10);
    let pieces = read(&mut from.base, 18, |_| ());
    stage(&mut to.base, &pieces);
    to.base.install(GROUP, position(18)).unwrap();
    let to = to.reopen();
    check(&to.base, 18);
    assert_eq!(to.base.load(GROUP).unwrap().made.len(), 2);
}

#[test]
fn a_snapshot_takes_the_place_of_a_groups_state_and_of_nothing_else() {
    let mut from = folding(70, 100);
    let mut to = folding(33, 10);
    // What is behind the snapshot stays in the log.
    (34..=75).for_each(|index| to.log(GROUP, (index, 5), Payload::Nothing));
    to.write(&Record::Voted { group: GROUP, vote: b"own" });
    to.fold();
    let pieces = read(&mut from.base, 70, |_| ());
    let (other, own) = (of_group(&to.base, 0), to.base.restore().unwrap().topics[&TopicId(1)].clone());
    // Another's that was not finished is forgotten.
    stage(&mut to.base, &[b"other".to_vec(), b"snapshot".to_vec(), b"begun".to_vec()]);
    stage(&mut to.base, &pieces);
    to.base.install(GROUP, position(70)).unwrap();
    let mut to = to.reopen();
    assert_eq!(of_group(&to.base, GROUP), of_group(&from.base, GROUP));
    assert_eq!((of_group(&to.base, 0), to.base.restore().unwrap().topics[&TopicId(1)].clone()), (other, own));
    let log = to.base.logs().unwrap().remove(&GROUP).unwrap();
    assert_eq!((log.position, log.committed, log.vote.as_deref()), (Some(position(70)), Some(70), Some(&b"own"[..])));
    assert_eq!(log.entries.keys().copied().collect::<Vec<_>>(), (71..=75).collect::<Vec<_>>());
    assert!(to.base.install(GROUP, position(70)).is_err(), "its state goes as far already");
    // It goes on from there: a topic of the snapshot is found by its path.
    to.log_entry(GROUP, 76, &entry("1/2", None, value(900, b"new")));
    to.write(&Record::Committed { group: GROUP, index: 76 });
    to.fold();
    assert_eq!(to.base.restore().unwrap().topics[&topic_id(GROUP, GROUPS, place(42, 0))].value.as_deref(), Some(&b"new"[..]));
}

#[test]
fn pieces_are_of_one_instant_whatever_is_folded_meanwhile() {
    let mut from = folding(70, 150_000);
    let whole = read(&mut from.base, 70, |_| ());
    assert!(whole.len() > 3, "{} pieces", whole.len());
    assert_eq!(from.base.read_piece(GROUP, 70, 2).unwrap(), ReadPiece::Piece { bytes: whole[2].clone().into(), is_last: false });
    for (index, removed) in (71..).zip(0..40) {
        from.log_entry(GROUP, index, &entry(&format!("1/{removed}"), new(BINARY, &[]), Some(Change::Removed)));
        from.write(&Record::Committed { group: GROUP, index });
        from.fold();
    }
    assert!(from.base.restore().unwrap().topics.values().all(|topic| !topic.path.as_str().starts_with("1/")));
    assert_eq!(read(&mut from.base, 70, |_| ()), whole);
    let mut to = folding(3, 10);
    stage(&mut to.base, &whole);
    to.base.install(GROUP, position(70)).unwrap();
    assert_eq!(of_group(&to.base, GROUP), of_group(&folding(70, 150_000).base, GROUP));
    // Nobody reads it any more.
    assert!(from.base.release(Instant::now()));
    assert!(!from.base.release(Instant::now() + Duration::from_secs(61)));
    assert_eq!(moved(&mut from.base, 70, 0), Some(110));
    assert!(matches!(from.base.read_piece(GROUP, 110, 0), Ok(ReadPiece::Piece { is_last: true, .. })));
    assert_eq!(moved(&mut from.base, 110, 1), Some(110), "there is no such piece");
}

fn moved(base: &mut Base, index: u64, number: u64) -> Option<u64> {
    match base.read_piece(GROUP, index, number).unwrap() {
        ReadPiece::Moved(position) => position.map(|position| position.index),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_group_without_a_state_has_no_snapshot() {
    let mut base = Folding::new().base;
    assert_eq!(moved(&mut base, 0, 0), None);
}

#[test]
fn a_value_that_is_longer_than_a_piece_travels_in_several() {
    let mut from = folding(2, 3_500_000);
    let pieces = read(&mut from.base, 2, |_| ());
    assert_eq!(pieces.len(), 4);
    let mut to = Folding::new();
    stage(&mut to.base, &pieces);
    to.base.install(GROUP, position(2)).unwrap();
    assert_eq!(of_group(&to.base, GROUP), of_group(&from.base, GROUP));
}

/// Installing fails, and nothing has changed.
fn check_refused(to: &mut Folding, pieces: &[Vec<u8>]) {
    let before = (to.base.restore().unwrap(), to.base.logs().unwrap());
    stage(&mut to.base, pieces);
    to.base.install(GROUP, position(99)).unwrap_err();
    assert_eq!((to.base.restore().unwrap(), to.base.logs().unwrap()), before);
}

#[test]
fn what_is_no_snapshot_of_the_group_is_refused() {
    let mut to = folding(7, 10);
    let mut from = folding(30, 10);
    let whole = read(&mut from.base, 30, |_| ()).concat();
    for length in [1, 7, 9, 50, whole.len() - 1] {
        check_refused(&mut to, &[whole[..length].to_vec()]);
    }
    check_refused(&mut to, &[whole.clone(), whole.clone()]);
    let other = from.base.read_piece(0, 30, 0).unwrap();
    let ReadPiece::Piece { bytes, .. } = other else { panic!("{other:?}") };
    check_refused(&mut to, &[bytes.to_vec()]);
    to.base.stage(GROUP, 0, &whole).unwrap();
    to.base.stage(GROUP, 2, b"").unwrap();
    assert!(to.base.install(GROUP, position(99)).unwrap_err().to_string().contains("piece 1 of the snapshot is missing"));
}

#[test]
fn a_snapshot_with_another_byte_is_refused_or_can_be_read() {
    let mut from = folding(12, 10);
    let whole = read(&mut from.base, 12, |_| ()).concat();
    let mut to = folding(7, 10);
    for at in (0..whole.len()).step_by(13) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x41;
        to.base.stage(GROUP, 0, &bytes).unwrap();
        if to.base.install(GROUP, position(1000 + at as u64)).is_ok() {
            to.base.restore().unwrap();
            to.base.passing().unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn random_bytes_are_no_snapshot(bytes in proptest::collection::vec(any::<u8>(), 1..200)) {
        check_refused(&mut Folding::new(), &[bytes]);
    }
}

/// A running store, and how many entries its log of the group has.
struct Running {
    directory: Directory,
    handle: Handle,
    next: u64,
}

const OPTIONS: fn() -> Options = || Options { groups: GROUPS, ..Options::default() };

impl Running {
    fn new() -> Self {
        Self::open(Directory::new(), 0).0
    }

    fn open(directory: Directory, next: u64) -> (Self, State) {
        let (store, found) = Store::open(&directory.0, OPTIONS()).unwrap();
        let handle = start(store, OPTIONS(), None, |_, _| ()).unwrap();
        (Self { directory, handle, next }, found.state)
    }

    fn append(&mut self, count: u64) {
        for index in self.next..self.next + count {
            let bytes = together([entry(&index.to_string(), new(BINARY, &[]), value(1, b"x")).encode()]);
            let entries = vec![LogEntry { index, term: 5, payload: LogPayload::Entry { judged: 5, bytes } }];
            self.handle.logs().send(LogWrite::Append { group: GROUP, entries, done: Box::new(|| ()) });
        }
        self.next += count;
    }

    /// Asks, and waits for what comes of it.
    fn ask<T: Send + 'static>(&self, ask: impl FnOnce(Snapshots, Box<dyn FnOnce(T) + Send>)) -> T {
        let (sender, answer) = channel();
        ask(self.handle.snapshots(), Box::new(move |said| sender.send(said).unwrap()));
        answer.recv_timeout(Duration::from_secs(30)).expect("an answer comes")
    }

    fn build(&self, index: u64) -> LogPosition {
        self.ask(|snapshots, done| {
            snapshots.seal(GROUP, index);
            snapshots.build(GROUP, index, done);
        })
    }
}

#[test]
fn a_snapshot_travels_from_a_running_store_to_another() {
    let (mut from, mut to) = (Running::new(), Running::new());
    from.append(30);
    assert_eq!(from.build(29).index, 29, "the segment does not wait until it is full");
    from.append(5);
    assert_eq!(from.build(32).index, 32, "no more is applied than is committed");
    to.append(3);
    to.build(2);
    let mut number = 0;
    loop {
        let piece = from.ask(|snapshots, done| snapshots.read(GROUP, 32, number, done));
        let ReadPiece::Piece { bytes, is_last } = piece else { panic!("{piece:?}") };
        to.ask(|snapshots, done| snapshots.stage(GROUP, number, bytes, done)).unwrap();
        number += 1;
        if is_last {
            break;
        }
    }
    to.ask(|snapshots, done| snapshots.install(GROUP, position(32), done)).unwrap();
    to.next = 33;
    to.append(2);
    to.build(33);
    let Running { directory, handle, .. } = to;
    handle.stop();
    let (to, state) = Running::open(directory, 35);
    assert_eq!(state.topics.len(), 34);
    to.handle.stop();
    from.handle.stop();
    let found = Store::open(&from.directory.0, OPTIONS()).unwrap().1;
    assert_eq!((found.state.topics.len(), found.logs[&GROUP].entries.len()), (33, 2));
}
