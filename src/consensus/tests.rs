//! Openraft's own suites over our log, state machine and runtime, and bounds at their edges. What nodes do together is in `tests/cluster`.

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt;
use openraft::{EntryPayload, StorageError};
use openraft_rt::deterministic_rng::DeterministicRng;
use tokio::task::LocalSet;

use super::group::Group;
use super::machine::Machine;
use super::runtime::LocalRuntime;
use super::types::{Judged, LogEntry, Types, Vote};
use super::*;
use crate::storage::tests::files::Directory;
use crate::storage::{self, Ack};

/// Builds an empty group, whose receiver answers at once.
struct Builder;

impl StoreBuilder<Types, Log, Machine> for Builder {
    async fn build(&self) -> Result<((), Log, Machine), StorageError<Types>> {
        let log = Log::default();
        log.bound_reads(1 << 20);
        Ok(((), log, machine()))
    }
}

/// The same over a store of its own.
struct KeptBuilder(Ack);

impl StoreBuilder<Types, Log, Machine, Stored> for KeptBuilder {
    async fn build(&self) -> Result<(Stored, Log, Machine), StorageError<Types>> {
        let (stored, log) = Stored::open(Directory::new(), self.0);
        Ok((stored, log, machine()))
    }
}

const GROUP: GroupId = GroupId(1);

/// A store that is stopped when the test ends.
struct Stored {
    handle: Option<storage::Handle>,
    directory: Option<Directory>,
}

impl Stored {
    fn open(directory: Directory, ack: Ack) -> (Self, Log) {
        let options = storage::Options { ack, groups: 12, segment_bytes: 1000, ..storage::Options::default() };
        let (store, mut found) = storage::Store::open(&directory.0, options).unwrap();
        let handle = storage::start(store, options, None, |_, _| ()).unwrap();
        let start = Start::kept(GROUP, found.logs.remove(&GROUP.0).unwrap_or_default(), handle.logs()).unwrap();
        start.log.bound_reads(1 << 20);
        (Self { handle: Some(handle), directory: Some(directory) }, start.log)
    }

    /// The process is stopped, and starts again.
    fn restart(mut self, ack: Ack) -> (Self, Log) {
        self.handle.take().unwrap().stop();
        Self::open(self.directory.take().unwrap(), ack)
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.handle.take().into_iter().for_each(storage::Handle::stop);
    }
}

/// A group's, whose receiver answers at once.
fn machine() -> Machine {
    let (news, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let notify = Rc::new(move |told| drop(news.send(told)));
    let group = Rc::new(Group::new(GroupId(0), None, 1 << 20, 1 << 20, notify));
    let answering = group.clone();
    tokio::task::spawn_local(async move {
        while let Some(told) = heard.recv().await {
            match told {
                News::Build { position, .. } => answering.built(position),
                News::Install { .. } => answering.installed(),
                _ => {}
            }
        }
    });
    Machine(group)
}

#[test]
fn the_storage_suite_of_openraft_passes_over_a_store() {
    for ack in Ack::ALL {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let suite = DeterministicRng::<LocalRuntime>::scope(1, Suite::test_all(KeptBuilder(ack)));
        LocalSet::new().block_on(&runtime, suite).unwrap();
    }
}

fn entry(index: u64, term: u64, payload: EntryPayload<Judged, NodeId, ()>) -> LogEntry {
    LogEntry { log_id: LogId::new(term.into(), index), payload }
}

fn judged(term: u64, bytes: usize) -> EntryPayload<Judged, NodeId, ()> {
    EntryPayload::Normal(Judged { term, bytes: vec![b'e'; bytes].into() })
}

#[test]
fn a_log_is_the_same_after_a_restart() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let members = openraft::Membership::new_with_defaults(vec![[1, 2].into(), [2, 3].into()], [1, 2, 3, 4]);
    let written = [
        entry(0, 1, EntryPayload::Membership(members)),
        entry(1, 1, EntryPayload::Blank),
        entry(2, 2, judged(1, 700_000)),
        entry(3, 2, judged(2, 700_000)),
        entry(4, 3, judged(3, 0)),
    ];
    for ack in Ack::ALL {
        let (stored, mut log) = Stored::open(Directory::new(), ack);
        LocalSet::new().block_on(&runtime, async {
            log.save_vote(&Vote::new_committed(4, 2)).await.unwrap();
            let append = |entries: &[LogEntry]| {
                let (sender, kept) = Types::oneshot();
                (entries.to_vec(), IOFlushed::signal(sender), kept)
            };
            let (entries, callback, kept) = append(&[&written[..2], &[entry(2, 1, judged(1, 3)), entry(3, 1, judged(1, 3))]].concat());
            log.append(entries, callback).await.unwrap();
            kept.await.unwrap().unwrap();
            log.truncate_after(Some(written[1].log_id)).await.unwrap();
            log.save_committed(Some(written[1].log_id)).await.unwrap();
            let (entries, callback, kept) = append(&written[2..]);
            log.append(entries, callback).await.unwrap();
            kept.await.unwrap().unwrap();
        });
        let (_stored, mut log) = stored.restart(ack);
        runtime.block_on(async {
            assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new_committed(4, 2)));
            assert_eq!(log.read_committed().await.unwrap(), Some(written[1].log_id));
            assert_eq!(log.get_log_state().await.unwrap().last_log_id, Some(written[4].log_id));
            // What is folded is in the state, and in the log no more.
            let first = log.purged().map_or(0, |purged| purged as usize + 1);
            assert!(first <= 2);
            assert_eq!(log.try_get_log_entries(0..9).await.unwrap(), written[first..]);
        });
    }
}

/// A node alone, over a store.
struct Alone {
    stored: storage::Handle,
    handle: Handle,
    thread: std::thread::JoinHandle<std::io::Result<()>>,
    news: std::sync::mpsc::Receiver<News>,
    /// What was handed on, by its place in the group's log.
    entries: BTreeMap<u64, Bytes>,
}

impl Alone {
    /// Starts it; also gives how many topics its state has.
    fn start(directory: &Directory, ack: Ack) -> (Self, u64) {
        let options = storage::Options { ack, groups: 1, segment_bytes: 2000, ..storage::Options::default() };
        let (store, mut found) = storage::Store::open(&directory.0, options).unwrap();
        let stored = storage::start(store, options, None, |_, _| ()).unwrap();
        let kept = |group| Start::kept(GroupId(group), found.logs.remove(&group).unwrap_or_default(), stored.logs()).unwrap();
        let starts = [0, 1].map(kept).into_iter().collect();
        let (told, news) = std::sync::mpsc::channel();
        let connect = || {
            let dial: Dial = Rc::new(|_, _, _| Box::pin(async { Err(Unreached::Unsent) }));
            Ok((dial, drop::<Inbox>))
        };
        let options = Options { groups: 1, heartbeat_ms: 10, election_ms: (30, 60), ..Options::new(1, 1) };
        let (handle, thread) = start(options, starts, || {}, connect, move |news| drop(told.send(news))).unwrap();
        (Self { stored, handle, thread, news, entries: BTreeMap::new() }, found.state.topics.len() as u64)
    }

    /// Notes what is handed on, until `find` finds something.
    fn find<T>(&mut self, find: impl Fn(&Self, &News) -> Option<T>) -> T {
        loop {
            let news = self.news.recv().unwrap();
            if let News::Committed { group: GroupId(0), entries, .. } = &news {
                let bytes = entries.iter().filter_map(|(place, entry)| match entry {
                    Committed::Entry { bytes, .. } => Some((*place, bytes.clone())),
                    _ => None,
                });
                self.entries.extend(bytes);
            }
            if let Some(found) = find(self, &news) {
                return found;
            }
        }
    }

    fn leads(&mut self) -> u64 {
        self.find(|_, news| match news {
            News::Leads { group: GroupId(0), term, .. } => Some(*term),
            _ => None,
        })
    }

    fn stop(self) {
        self.handle.stop();
        self.thread.join().unwrap().unwrap();
        self.stored.stop();
    }
}

#[test]
fn a_node_goes_on_from_its_state_and_the_log_behind_it() {
    for ack in Ack::ALL {
        let directory = Directory::new();
        let mut paths = 0;
        for round in 0..4 {
            let (mut alone, folded) = Alone::start(&directory, ack);
            if round == 0 {
                alone.handle.found([1].into());
            }
            let term = alone.leads();
            // What the state does not hold came again.
            assert_eq!(folded + alone.entries.len() as u64, paths, "in round {round}");
            let added = || crate::cluster::Added { kind: 5, properties: [].as_slice().into(), is_passing: false, creator: None };
            let entry = |number: u64| {
                let path = &number.to_string();
                Bytes::from(crate::cluster::Entry { path, term, time_ms: 1, asked: None, added: Some(added()), change: None }.encode())
            };
            let entries: Vec<Bytes> = (paths..paths + 9).map(entry).collect();
            alone.handle.propose(Proposal { group: GroupId(0), term, ticket: 1, entries: entries.clone() }).unwrap();
            paths += 9;
            let last = alone.find(|alone, _| {
                alone.entries.iter().find(|(_, bytes)| entries.last() == Some(bytes)).map(|(place, _)| place / crate::cluster::place(1, 0))
            });
            if round % 2 == 1 {
                let (built, position) = std::sync::mpsc::channel();
                alone.stored.snapshots().seal(0, last);
                alone.stored.snapshots().build(0, last, move |position| built.send(position).unwrap());
                let position = Position::of_kept(&position.recv().unwrap()).unwrap();
                assert_eq!((position.index(), position.membership.voter_ids().collect::<Vec<_>>()), (Some(last), vec![1]));
            }
            alone.stop();
        }
    }
}

#[test]
fn a_position_is_the_same_from_the_store() {
    let members = Membership::new(Some(LogId::new(1.into(), 3)), openraft::Membership::new_with_defaults(vec![[1].into()], [1, 2]));
    let position = Position { id: Some(LogId::new(2.into(), 7)), membership: members };
    assert_eq!(Position::of_kept(&position.to_kept().unwrap()), Ok(position));
    let bare = Position { id: Some(LogId::new(2.into(), 7)), ..Position::default() };
    assert_eq!(Position::of_kept(&bare.to_kept().unwrap()), Ok(bare));
    assert_eq!(Position::default().to_kept(), None);
}

#[test]
fn the_storage_suite_of_openraft_passes() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let suite = DeterministicRng::<LocalRuntime>::scope(1, Suite::test_all(Builder));
    LocalSet::new().block_on(&runtime, suite).unwrap();
}

#[test]
fn the_watch_suite_of_openraft_passes() {
    type Runtimes = openraft::testing::runtime::Suite<LocalRuntime>;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        Runtimes::test_watch_init_value().await;
        Runtimes::test_watch_overwrite_init_value().await;
        Runtimes::test_watch_send_error_no_receiver().await;
        Runtimes::test_watch_send_if_modified().await;
        Runtimes::test_watch_wait_until_ge().await;
        Runtimes::test_watch_wait_until().await;
        Runtimes::test_watch_changed_marks_as_seen().await;
        Runtimes::test_watch_borrow_and_update_marks_seen().await;
        Runtimes::test_watch_changed_returns_immediately_when_unseen().await;
        Runtimes::test_watch_multiple_borrow_then_changed().await;
        Runtimes::test_watch_wait_loop_pattern().await;
        Runtimes::test_watch_multiple_receivers().await;
        Runtimes::test_watch_subscribe().await;
        Runtimes::test_watch_send_if_different().await;
        Runtimes::test_watch_send_if_greater().await;
    });
}

#[test]
fn proposals_are_given_back_when_the_queue_is_full() {
    let (handle, ends) = Handle::new(&Options { queue_proposals_max: 2, ..Options::new(1, 1) });
    let proposal = |ticket| Proposal { group: GroupId(0), term: 1, ticket, entries: vec![Bytes::from_static(b"entry")] };
    assert_eq!(handle.propose(proposal(1)), Ok(()));
    assert_eq!(handle.propose(proposal(2)), Ok(()));
    assert_eq!(handle.propose(proposal(3)), Err(proposal(3)));
    drop(ends);
    assert_eq!(handle.propose(proposal(4)), Err(proposal(4)), "an engine that has ended takes none");
}

#[test]
fn a_read_ends_at_its_bytes_and_has_at_least_one_entry() {
    let log = Log::default();
    let entry = |index, bytes| {
        let mut entry: LogEntry = openraft::testing::blank_ent::<Types>(1, 1, index);
        entry.payload = EntryPayload::Normal(Judged { term: 1, bytes: vec![0; bytes].into() });
        entry
    };
    let mut appending = log.clone();
    let append = appending.append([entry(0, 68), entry(1, 68), entry(2, 500)], IOFlushed::noop());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(append).unwrap();
    let lengths = |first, bytes_max| log.read(first, 9, bytes_max).len();
    assert_eq!((lengths(0, 99), lengths(0, 199), lengths(0, 200), lengths(2, 10)), (1, 1, 2, 1));
    assert_eq!(lengths(3, 200), 0);
}
