//! Openraft's own suites over our log, state machine and runtime, and bounds at their edges. What nodes do together is in `tests/cluster`.

use std::rc::Rc;

use bytes::Bytes;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{EntryPayload, StorageError};
use openraft_rt::deterministic_rng::DeterministicRng;
use tokio::task::LocalSet;

use super::group::Group;
use super::machine::Machine;
use super::runtime::LocalRuntime;
use super::types::{Judged, LogEntry, Types};
use super::*;

/// Builds an empty group, whose receiver answers at once.
struct Builder;

impl StoreBuilder<Types, MemoryLog, Machine> for Builder {
    async fn build(&self) -> Result<((), MemoryLog, Machine), StorageError<Types>> {
        let (news, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let notify = Rc::new(move |told| drop(news.send(told)));
        let group = Rc::new(Group::new(GroupId(0), None, 1 << 20, 1 << 20, notify));
        let log = MemoryLog::default();
        log.bound_reads(1 << 20);
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
        Ok(((), log, Machine(group)))
    }
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
    let log = MemoryLog::default();
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
