//! The engine: a node's groups and the tasks that run them.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use openraft::async_runtime::Select3;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::type_config::TypeConfigExt;
use openraft::{Config, Raft, ServerState, SnapshotPolicy};
use openraft_rt::deterministic_rng::DeterministicRng;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver};

use super::codec::Malformed;
use super::group::Group;
use super::handle::{Control, Ends};
use super::machine::Machine;
use super::members::{MembersChange, make};
use super::network::{Answer, Lane, Network};
use super::reply::Asked;
use super::role::{Role, Seen};
use super::runtime::LocalRuntime;
use super::types::{Judged, Types, entry_bytes};
use super::yielding::heir;
use super::{Dial, GroupId, Handle, Inbox, Log, News, NodeId, Options, Position, Proposal, Request, Unreached};

use crate::cluster::{Batch, PARTS_MAX};
use crate::storage::{GroupLog, LogSender};

type GroupRaft = Raft<Types, Machine>;

/// What goes together to openraft, in bytes; or one entry that is longer.
const BATCH_BYTES: usize = 64 << 10;

/// Entries of a group that are open at once: one on its way to other nodes while the next is written. With more of them each has fewer parts, and costs as much.
const OPEN_ENTRIES_MAX: usize = 2;

/// What a group starts with: its log, and where the last snapshot is that the receiver has kept, whose state it starts with.
#[derive(Clone, Default)]
pub struct Start {
    pub log: Log,
    pub snapshot: Option<Position>,
}

impl Start {
    /// What the store has kept of the group, which goes on keeping it.
    ///
    /// # Errors
    /// What was kept is not of this version.
    pub fn kept(group: GroupId, found: GroupLog, sender: LogSender) -> Result<Self, Malformed> {
        let snapshot = found.position.as_ref().map(Position::of_kept).transpose()?;
        Ok(Self { log: Log::kept(group, found, sender)?, snapshot })
    }
}

/// A node's groups. Opened and run within one `LocalSet`; when that is dropped, all ends at once.
pub struct Engine {
    groups: Vec<(Rc<Group>, GroupRaft)>,
    logs: Vec<Log>,
    control: UnboundedReceiver<Control>,
    dial: Dial,
    answer_ms: u64,
    /// How long a leader is certain of it behind a quorum's answer.
    lease: Duration,
    /// In which attempt something was not sent, or not answered, by group and asker.
    unsent: Rc<RefCell<Attempts>>,
}

type Attempts = BTreeMap<(GroupId, u16), u64>;

fn note_unsent(unsent: &RefCell<Attempts>, of: (GroupId, u16), attempt: u64) {
    let mut unsent = unsent.borrow_mut();
    let last = unsent.entry(of).or_default();
    *last = attempt.max(*last);
}

/// Starts an engine on a thread of its own, which `pin` is called on first. `notify` is called there and must not wait.
///
/// `starts` has an element for each of the options' groups. `connect` is called within the task set: what it gives sends to other nodes, and is given what
/// answers them once that is there.
///
/// # Errors
/// Those of the thread, the runtime, the logs and `connect`.
pub fn start<S: FnOnce(Inbox)>(
    options: Options,
    starts: Vec<Start>,
    pin: impl FnOnce() + Send + 'static,
    connect: impl FnOnce() -> io::Result<(Dial, S)> + Send + 'static,
    notify: impl Fn(News) + Send + 'static,
) -> io::Result<(Handle, JoinHandle<io::Result<()>>)> {
    let (handle, ends) = Handle::new(&options);
    let run = move || {
        pin();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let tasks = tokio::task::LocalSet::new();
        tasks.block_on(&runtime, async move {
            let (dial, serve) = connect()?;
            let engine = Engine::open_on(ends, options, starts, dial, notify).await?;
            serve(engine.inbox());
            engine.run().await;
            Ok(())
        })
    };
    let thread = Builder::new().name("consensus".to_owned()).spawn(run)?;
    Ok((handle, thread))
}

impl Engine {
    /// An engine on the current `LocalSet`, which runs from now on, but hears its [`Handle`] only in [`Self::run`].
    ///
    /// # Errors
    /// Those of the logs, and `InvalidData` where a log begins behind its snapshot.
    pub async fn open(options: Options, starts: Vec<Start>, dial: Dial, notify: impl Fn(News) + 'static) -> io::Result<(Self, Handle)> {
        let (handle, ends) = Handle::new(&options);
        Ok((Self::open_on(ends, options, starts, dial, notify).await?, handle))
    }

    async fn open_on(ends: Ends, options: Options, starts: Vec<Start>, dial: Dial, notify: impl Fn(News) + 'static) -> io::Result<Self> {
        assert_eq!(starts.len(), usize::from(options.groups) + 1, "each group has a start");
        let opening = async {
            let notify: Rc<dyn Fn(News)> = Rc::new(notify);
            let config = config(&options);
            let (mut groups, mut logs) = (Vec::new(), Vec::new());
            for ((id, start), proposals) in options.all_groups().zip(starts).zip(ends.proposals) {
                let Start { log, snapshot } = start;
                if log.purged() > snapshot.as_ref().and_then(Position::index) {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, format!("group {}: its log begins behind its state", id.0)));
                }
                log.bound_reads(options.append_bytes_max);
                let group = Rc::new(Group::new(id, snapshot, options.window_bytes, options.append_bytes_max, notify.clone()));
                let network = Network { group: group.clone(), dial: dial.clone() };
                let machine = Machine(group.clone());
                let raft = Raft::new(options.node, config.clone(), network, log.clone(), machine).await.map_err(io::Error::other)?;
                logs.push(log.clone());
                Types::spawn(watch(group.clone(), raft.clone(), log, options, dial.clone()));
                Types::spawn(propose(group.clone(), raft.clone(), proposals, options.open_bytes_max));
                groups.push((group, raft));
            }
            Ok(Self {
                groups,
                logs,
                control: ends.control,
                dial,
                answer_ms: options.answer_ms,
                lease: lease(&options),
                unsent: Rc::default(),
            })
        };
        DeterministicRng::<LocalRuntime>::scope(options.seed, opening).await
    }

    /// What answers other nodes.
    pub fn inbox(&self) -> Inbox {
        Inbox::new(self.groups.iter().cloned(), self.lease)
    }

    /// Hears the handle until it says that the engine is to stop, or is gone.
    pub async fn run(mut self) {
        while let Some(control) = self.control.recv().await {
            if matches!(control, Control::Stop) {
                break;
            }
            self.hear(control).await;
        }
        for ((_, raft), log) in self.groups.iter().zip(&self.logs) {
            // It has ended already where this fails.
            let _ = raft.shutdown().await;
            log.keep_committed();
        }
    }

    async fn hear(&mut self, control: Control) {
        let of = |group: GroupId| &self.groups[usize::from(group.0)];
        match control {
            Control::Took { group, bytes } => of(group).0.widen(bytes),
            Control::Built { group, position } => of(group).0.built(position),
            Control::Read { group, reader, piece } => of(group).0.answer_reader(reader, piece),
            Control::Staged { group } => of(group).0.staged(),
            Control::NotInstalled { group } => of(group).0.not_installed(),
            Control::Installed { group } => of(group).0.installed(),
            Control::Answer { group, call, bytes } => of(group).0.answer_call(call, bytes),
            Control::Ask { group, to, asker, ticket, bytes } => {
                let group = of(group).0.clone();
                let unsent = (group.id, asker.number);
                if self.unsent.borrow().get(&unsent).is_some_and(|attempt| *attempt >= asker.attempt) {
                    return group.tell(News::Answered { group: group.id, ticket, answer: Err(Unreached::Unsent) });
                }
                // Asked at once, so that what follows comes behind it.
                let mut asking = (self.dial)(to, Lane::Ask, Request::ask(group.id, bytes));
                if let Some(Err(Unreached::Unsent)) = (&mut asking).now_or_never() {
                    note_unsent(&self.unsent, unsent, asker.attempt);
                    return group.tell(News::Answered { group: group.id, ticket, answer: Err(Unreached::Unsent) });
                }
                let (within, unanswered) = (Duration::from_millis(self.answer_ms), self.unsent.clone());
                tokio::task::spawn_local(async move {
                    let answer = tokio::time::timeout(within, asking).await.unwrap_or(Err(Unreached::Unanswered));
                    let answer = answer.and_then(|answer| answer.into_bytes().ok_or(Unreached::Unanswered));
                    if answer.is_err() {
                        // What is sent behind it comes by another connection, and must not come before it.
                        note_unsent(&unanswered, unsent, asker.attempt);
                    }
                    group.tell(News::Answered { group: group.id, ticket, answer });
                });
            }
            Control::Found { voters } => {
                for (group, raft) in &self.groups {
                    if raft.is_initialized().await.unwrap_or(true) {
                        continue;
                    }
                    let outcome = raft.initialize(voters.clone()).await.map_err(|error| error.to_string());
                    group.tell(News::Members { group: group.id, outcome });
                }
            }
            Control::AddLearner { group, node } => {
                let (group, raft) = of(group).clone();
                tokio::task::spawn_local(make(group, raft, MembersChange::AddLearner(node)));
            }
            Control::SetVoters { group, voters } => {
                let (group, raft) = of(group).clone();
                tokio::task::spawn_local(make(group, raft, MembersChange::SetVoters(voters)));
            }
            // A group that has ended has said so.
            Control::Transfer { group, to } => drop(of(group).1.trigger().transfer_leader(to).await),
            Control::Retire => self.groups.iter().for_each(|(group, _)| group.retire()),
            Control::Falters(falters) => self.groups.iter().for_each(|(group, _)| group.note_faltering(falters)),
            Control::Stop => {}
        }
    }
}

fn lease(options: &Options) -> Duration {
    Duration::from_millis(options.election_ms.1)
}

fn config(options: &Options) -> Arc<Config> {
    let Options { heartbeat_ms, election_ms: (election_timeout_min, election_timeout_max), .. } = *options;
    let config = Config {
        cluster_name: "tidewire".to_owned(),
        heartbeat_interval: heartbeat_ms,
        election_timeout_min,
        election_timeout_max,
        install_snapshot_timeout: options.snapshot_piece_ms,
        max_payload_entries: options.append_entries_max,
        // Both by bytes: see `Tending`.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        // Whoever needs entries that are there is sent those, not a snapshot.
        replication_lag_threshold: u64::MAX,
        // A node that is not reached is asked again after a heartbeat.
        backoff: format!("{heartbeat_ms}ms {heartbeat_ms}ms {heartbeat_ms}ms"),
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        allow_log_reversion: Some(false),
        ..Config::default()
    };
    Arc::new(config.validate().expect("the configuration has checked its numbers"))
}

/// Gives openraft what is proposed, as long as not too much is open. What waits meanwhile goes together.
async fn propose(group: Rc<Group>, raft: GroupRaft, mut proposals: Receiver<Proposal>, open_bytes_max: usize) {
    let mut waiting = Waiting::default();
    loop {
        if waiting.0.is_empty() {
            let Some(proposal) = proposals.recv().await else { return };
            waiting.add(proposal);
        }
        while is_full(group.open(), open_bytes_max) {
            group.settled.notified().await;
        }
        while waiting.0.len() < PARTS_MAX
            && let Ok(proposal) = proposals.try_recv()
        {
            waiting.add(proposal);
        }
        let (term, tickets, bytes) = waiting.next();
        let asked = Asked::new(group.clone(), tickets, entry_bytes(bytes.len()));
        // Where openraft has ended, it drops the reply, which says so.
        let _ = raft.write(Judged { term, bytes }).responder(asked.hand_over()).await;
    }
}

/// Keeps a group's log short.
#[derive(Default)]
struct Tending {
    /// The snapshot that the log was shortened by.
    purged_by: Option<u64>,
    /// Where the last snapshot was when the receiver was told to hurry.
    hurried: Option<Option<u64>>,
}

impl Tending {
    async fn look(&mut self, group: &Group, raft: &GroupRaft, log: &Log, options: &Options) {
        let bytes = log.bytes();
        if bytes <= options.snapshot_bytes + options.kept_bytes {
            return;
        }
        let snapshot = group.snapshot().and_then(|position| position.index());
        // Where openraft has ended, it needs no log.
        if snapshot > self.purged_by {
            self.purged_by = snapshot;
            if let Some(upto) = log.spare(options.kept_bytes).min(snapshot) {
                let _ = raft.trigger().purge_log(upto).await;
            }
        } else if group.can_build() {
            let _ = raft.trigger().snapshot().await;
        } else if bytes > 4 * options.snapshot_bytes + options.kept_bytes && self.hurried != Some(snapshot) {
            self.hurried = Some(snapshot);
            group.hurry();
        }
    }
}

/// Whether so many entries and bytes are open that what is proposed waits for others to go with.
fn is_full((entries, bytes): (usize, usize), bytes_max: usize) -> bool {
    entries >= OPEN_ENTRIES_MAX || bytes >= bytes_max
}

/// What is proposed and not given to openraft: terms, tickets, entries.
#[derive(Default)]
struct Waiting(VecDeque<(u64, u64, Bytes)>);

impl Waiting {
    fn add(&mut self, Proposal { term, ticket, entries, .. }: Proposal) {
        self.0.extend((ticket..).zip(entries).map(|(ticket, bytes)| (term, ticket, bytes)));
    }

    /// The next ones of one term, as one entry.
    fn next(&mut self) -> (u64, Box<[u64]>, Bytes) {
        let (mut batch, mut tickets) = (Batch::default(), Vec::new());
        let term = self.0.front().map_or(0, |(term, _, _)| *term);
        while self.0.front().is_some_and(|(of, _, part)| *of == term && batch.takes(part, BATCH_BYTES))
            && let Some((_, ticket, part)) = self.0.pop_front()
        {
            tickets.push(ticket);
            batch.push(&part);
        }
        (term, tickets.into(), batch.into_bytes())
    }
}

/// Asks the leader how far the group is committed now; it may be asked again when it has not answered `within` a time, `again` behind that it has answered nothing of use.
fn ask_how_far(group: &Rc<Group>, dial: &Dial, leader: NodeId, (within, again): (Duration, Duration)) {
    let (group, at) = (group.clone(), Types::now());
    let asking = dial(leader, Lane::Heartbeat, Request::committed(group.id));
    Types::spawn(async move {
        let answer = Types::timeout(within, asking).await;
        match answer.ok().and_then(Result::ok).and_then(Answer::into_committed) {
            Some(index) => group.heard(at, Some(index)),
            // It does not lead yet, or not any more.
            None => {
                Types::sleep(again).await;
                group.not_answered();
            }
        }
    });
}

/// Hands on what has waited for the receiver, and says who leads.
async fn watch(group: Rc<Group>, raft: GroupRaft, log: Log, options: Options, dial: Dial) {
    let mut server = raft.server_metrics();
    let data = raft.data_metrics();
    let lease = lease(&options);
    let mut told = None;
    let mut tending = Tending::default();
    let mut yielded = None;
    let stale = Duration::from_millis(options.stale_ms);
    let mut was_fresh = false;
    loop {
        while group.catch_up(&log) {
            tokio::task::yield_now().await;
        }
        tending.look(&group, &raft, &log, &options).await;
        let delivered = group.delivered();
        let (role, is_leader, heir, is_alone) = {
            let (server, data) = (server.borrow_watched(), data.borrow_watched());
            let seen = Seen { server: &server, data: &data, lease };
            let (role, is_alone) = (Role::of(&seen, delivered), seen.is_alone());
            let heir = group.falters().then(|| heir(&server, &data, lease)).flatten();
            (role, server.state == ServerState::Leader, heir, is_alone)
        };
        if told != Some(role) {
            told = Some(role);
            group.tell(role.news(group.id, delivered));
        }
        match role {
            Role::Leads { .. } if group.asks(stale / 4) => group.heard(Types::now(), group.applied().index()),
            Role::Follows { leader: Some((leader, _)) } if group.asks(stale / 4) => {
                ask_how_far(&group, &dial, leader, (stale, Duration::from_millis(options.heartbeat_ms)));
            }
            _ => {}
        }
        let is_fresh = group.is_fresh(stale);
        if std::mem::replace(&mut was_fresh, is_fresh) != is_fresh {
            group.tell(News::Fresh { group: group.id, is_fresh });
        }
        if group.falters() && is_alone && matches!(role, Role::Leads { .. }) {
            group.tell(News::Heirless { group: group.id });
        }
        // Once in a term: a leader that has handed over proposes nothing more, and if nobody takes over another is elected.
        if let (Role::Leads { term }, Some(heir)) = (role, heir)
            && yielded != Some(term)
        {
            yielded = Some(term);
            // Where openraft has ended, it leads nothing.
            let _ = raft.trigger().transfer_leader(heir).await;
        }
        // A leader's lease ends, and comes back, by itself; and nobody says that nothing is heard.
        let tick = Types::sleep(if is_leader { Duration::from_millis(options.heartbeat_ms) } else { stale / 4 });
        if let Select3::First(Err(_)) = Types::select3(server.changed(), group.changed.notified(), tick).await {
            let reason = raft
                .metrics()
                .borrow_watched()
                .running_state
                .as_ref()
                .err()
                .map_or_else(|| "it was stopped, or has panicked".to_owned(), |fatal| fatal.to_string());
            return group.tell(News::Ended { group: group.id, reason });
        }
    }
}
