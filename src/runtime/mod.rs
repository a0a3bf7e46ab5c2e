//! Runs shards on glommio: one pinned executor a core, whose one task drives the shard's sockets by a ring of its own (`ring`), in turns (`turn`), and its
//! rings to the others (`mesh`).
//!
//! The only module that names glommio. Nothing here decides anything: bytes, time and mail go into the shard, effects come out.

mod addresses;
mod audit;
mod cluster;
mod identify;
mod log;
mod mesh;
mod places;
mod ring;
mod turn;

pub use addresses::Addresses;
pub use audit::{AuditLog, AuditSink};
pub use cluster::Clustered;
pub use identify::SessionQuestion;
pub use mesh::Command;
pub use places::Places;
pub use ring::{Completion, Ring, Sizes};

use crate::admin::Pages;
use crate::authentication;
use crate::base::{ShardIndex, Time, TopicId};
use crate::cluster::{Row, Source};
use crate::journal::StoredTopic;
use crate::shard::{Identity, Limits, Restoring, Shard, Storing, Transport};
use crate::storage::{self, Store};
use crate::transport::Policy;
use crate::wire::forwarded::Networks;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use mesh::Mailbox;
use rand::TryRng;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// How to run each shard.
#[derive(Clone)]
pub struct Settings {
    pub limits: Limits,
    /// By the number of the listener.
    pub doors: Arc<[Door]>,
    /// Connections of a shard that may be in the handshake of TLS at a time.
    pub handshakes_max: usize,
    /// How many connections, and handshakes, each address has, of all shards; nothing where that is not bounded.
    pub connections_by_address: Option<Arc<Addresses>>,
    pub handshakes_by_address: Option<Arc<Addresses>>,
    pub server: String,
    /// Tells this start of the server from others.
    pub start: u64,
    /// The server's number in its cluster; 0 where it stands alone.
    pub node: u64,
    /// How long a core looks for work before it sleeps; 0 saves the most CPU.
    pub spin_before_park_us: u64,
    /// How long queues may take to empty at the end.
    pub shutdown_drain_ms: u64,
    pub pages: Arc<Pages>,
    /// Where addresses are, if anybody knows.
    pub places: Option<Arc<Places>>,
    /// Who says who clients are; nobody where all are anonymous.
    pub authenticators: Option<(authentication::Handle, Arc<authentication::KeptPrincipals>)>,
    /// Where it is noted who did what, if anywhere.
    pub audit: Option<AuditSink>,
}

/// What nobody can guess.
fn fresh_secret() -> io::Result<[u8; 32]> {
    let mut secret = [0; 32];
    rand::rngs::SysRng.try_fill_bytes(&mut secret).map_err(io::Error::other)?;
    Ok(secret)
}

/// What the connections of a listener begin with, on every shard.
pub struct Door {
    pub transport: Transport,
    pub policy: Policy,
    /// Whose word on where its clients are is taken.
    pub proxies: Networks,
}

/// Where one shard accepts connections, by the number of the listener, and the core that it runs on.
pub struct Listeners {
    pub sockets: Vec<OwnedFd>,
    pub core: usize,
}

/// A store that was opened, and what it holds.
pub struct Stored {
    pub store: Store,
    pub options: storage::Options,
    /// The core of its threads; any where `None`.
    pub core: Option<usize>,
    pub topics: Vec<(TopicId, StoredTopic)>,
    /// The highest number that a topic ever had.
    pub highest_topic: u64,
    /// Topics of groups that messages are only passed through.
    pub passing: Vec<(TopicId, StoredTopic)>,
    /// Which updates groups are known to have.
    pub made: Vec<(u16, Source, Row)>,
    /// What is kept of groups' logs.
    pub logs: storage::Logs,
}

/// The running shards, and the store that they write to.
pub struct Runtime {
    shards: Vec<(Sender<Command>, Arc<Mailbox>, ExecutorJoinHandle<()>)>,
    storage: Option<storage::Handle>,
    engine: Option<cluster::Engine>,
}

/// The memory glommio registers for each executor; the shard's sockets use none of it, and it counts against RLIMIT_MEMLOCK.
const IO_MEMORY_BYTES: usize = 64 << 10;

/// Starts one executor for each of `listeners`, on its core. They accept connections once all that was stored is restored.
pub fn start(settings: &Settings, listeners: Vec<Listeners>, stored: Option<Stored>, clustered: Option<Clustered>) -> io::Result<Runtime> {
    mesh::prepare_interrupts();
    let count = u16::try_from(listeners.len()).expect("there are at most 64 shards");
    let mailboxes = (0..count).map(|_| Mailbox::new().map(Arc::new)).collect::<io::Result<Vec<_>>>()?;
    let channels: Vec<(Sender<Command>, Receiver<Command>)> = (0..count).map(|_| crossbeam_channel::unbounded()).collect();
    let senders: Vec<Sender<Command>> = channels.iter().map(|(sender, _)| sender.clone()).collect();
    let groups = clustered.as_ref().map(|clustered| clustered.options.groups);
    let begin_storage = |stored| Begun::of(stored, settings.start, groups, &senders, &mailboxes);
    let begun = stored.map_or_else(|| Ok(Begun::nothing(settings.start, count)), begin_storage)?;
    let Begun { storing, topics_base, run, mut restorings, storage, logs } = begun;
    let engine = match (clustered, &storage, logs) {
        (Some(clustered), Some(storage), Some(logs)) => {
            let kept = cluster::Kept { logs, sender: storage.logs(), snapshots: storage.snapshots() };
            Some(cluster::Engine::start(clustered, settings.start, kept, senders.clone(), mailboxes.clone())?)
        }
        _ => None,
    };
    let (ready, readiness) = crossbeam_channel::unbounded();
    let mut shards = Vec::new();
    for (index, ((listeners, rings), (sender, commands))) in listeners.into_iter().zip(mesh::rings(count)).zip(channels).enumerate() {
        let index = ShardIndex(index as u16);
        let identity = Identity {
            index,
            count,
            server: settings.server.clone(),
            run,
            start: settings.start,
            storing,
            topics_base,
            node: settings.node,
            secret: fresh_secret()?,
        };
        let counters = storage.as_ref().map(storage::Handle::counters);
        let storage = storage.as_ref().map(|handle| handle.sender(index));
        let replica = engine.as_ref().map(|engine| engine.link(index));
        let links = mesh::Links { rings, mailboxes: mailboxes.clone(), commands, senders: senders.clone(), storage, counters, replica };
        let (settings, ready) = (settings.clone(), ready.clone());
        let restoring = std::mem::take(&mut restorings[usize::from(index.0)]);
        let handle = LocalExecutorBuilder::new(Placement::Fixed(listeners.core))
            .name(&format!("{}{}", mesh::THREAD_NAME, index.0))
            .io_memory(IO_MEMORY_BYTES)
            .spawn(move || async move {
                let mut shard = Shard::new(identity, settings.limits.clone(), now(), wall_ms());
                let restored = shard.restore(restoring).map_err(|what| format!("the store holds what this server cannot read: {what}"));
                let started =
                    restored.and_then(|()| turn::Turns::new(shard, settings, listeners, links).map_err(|error| error.to_string()));
                let (result, turns) = started.map_or_else(|why| (Err(why), None), |turns| (Ok(()), Some(turns)));
                // Whoever starts the shards waits for all of them.
                let _ = ready.send(result);
                drop(ready);
                if let Some(turns) = turns {
                    turns.run();
                }
            })
            .map_err(|error| io::Error::other(error.to_string()))?;
        shards.push((sender, mailboxes[usize::from(index.0)].clone(), handle));
    }
    drop(ready);
    let failed = wait_until_ready(&readiness);
    let runtime = Runtime { shards, storage, engine };
    match failed {
        None => Ok(runtime),
        Some(what) => {
            runtime.stop()?;
            Err(io::Error::other(what))
        }
    }
}

/// What the shards begin with.
struct Begun {
    storing: Storing,
    topics_base: u64,
    run: u64,
    restorings: Vec<Restoring>,
    storage: Option<storage::Handle>,
    logs: Option<storage::Logs>,
}

impl Begun {
    fn nothing(start: u64, shards: u16) -> Self {
        let restorings = (0..shards).map(|_| Restoring::default()).collect();
        Self { storing: Storing::Off, topics_base: 0, run: start, restorings, storage: None, logs: None }
    }

    /// What was stored, of a server of a cluster with so many groups, or of one alone.
    fn of(stored: Stored, start: u64, groups: Option<u16>, senders: &[Sender<Command>], mailboxes: &[Arc<Mailbox>]) -> io::Result<Self> {
        let run = Restoring::run_of(&stored.topics).unwrap_or(start);
        let mut restorings = Restoring::deal(stored.topics, senders.len() as u16);
        let place = |(group, log): (&u16, &storage::GroupLog)| Some((*group, log.position.as_ref()?.index));
        let places: Vec<_> = stored.logs.iter().filter_map(place).filter(|(group, _)| Some(*group) < groups).collect();
        Restoring::deal_groups(&mut restorings, stored.passing, &places, stored.made);
        let storing = if stored.options.ack == storage::Ack::Memory { Storing::Memory } else { Storing::Stored };
        // In a cluster the numbers of topics are doubled.
        let topics_base = if groups.is_some() { stored.highest_topic / 2 + 1 } else { stored.highest_topic };
        let storage = start_storage(stored.store, stored.options, stored.core, senders.to_vec(), mailboxes.to_vec())?;
        Ok(Self { storing, topics_base, run, restorings, storage: Some(storage), logs: Some(stored.logs) })
    }
}

fn start_storage(
    store: Store,
    options: storage::Options,
    core: Option<usize>,
    senders: Vec<Sender<Command>>,
    mailboxes: Vec<Arc<Mailbox>>,
) -> io::Result<storage::Handle> {
    let notify = move |shard: ShardIndex, answer: storage::Answer| {
        match &answer {
            storage::Answer::Failing { reason } if shard.0 == 0 => tracing::error!(%reason, "updates of stored topics are refused"),
            storage::Answer::Recovered if shard.0 == 0 => tracing::info!("updates of stored topics are taken again"),
            _ => {}
        }
        // A shard that has ended needs no answer.
        let _ = senders[usize::from(shard.0)].send(Command::Storage(answer));
        mailboxes[usize::from(shard.0)].wake();
    };
    storage::start(store, options, core, notify).map_err(|error| io::Error::other(error.to_string()))
}

impl Runtime {
    /// Tells every shard to take leave of its sessions, waits for all, then for all that they stored to be on disk; an error is an
    /// executor that failed.
    pub fn stop(self) -> io::Result<()> {
        if let Some(engine) = &self.engine {
            engine.hand_over();
        }
        for (sender, mailbox, _) in &self.shards {
            // A shard whose executor failed has no receiver; `join` tells why.
            let _ = sender.send(Command::ShutDown);
            mailbox.wake();
        }
        let mut result = Ok(());
        for (_, mailbox, handle) in self.shards {
            wait_for_end(&mailbox);
            // One that failed must not keep what the others acknowledged from being stored.
            result = result.and(handle.join().map(drop).map_err(|error| io::Error::other(error.to_string())));
        }
        if let Some(engine) = self.engine {
            result = result.and(engine.stop());
        }
        if let Some(storage) = self.storage {
            match result {
                Ok(()) => storage.stop(),
                Err(_) => storage.stop_failed(),
            }
        }
        result
    }

    /// Asks sessions of any shard, by one shard after the other.
    pub fn session_asker(&self) -> impl Fn(SessionQuestion) + Send + Sync + 'static {
        let shards: Vec<_> = self.shards.iter().map(|(sender, mailbox, _)| (sender.clone(), mailbox.clone())).collect();
        let next = AtomicUsize::new(0);
        move |question| {
            let (sender, mailbox) = &shards[next.fetch_add(1, Relaxed) % shards.len()];
            // Of a shard that has ended nobody waits for an answer.
            let _ = sender.send(Command::AskSessions(question));
            mailbox.wake();
        }
    }

    /// How far each shard has come, to be given to [`Self::interrupt_stalled`].
    pub fn beats(&self) -> Vec<u64> {
        self.shards.iter().map(|(_, mailbox, _)| mailbox.beats()).collect()
    }

    /// Interrupts the shards that have not ticked since `before`: a backstop, for what nobody knows of. Counted, and logged at the first and whenever there are twice as many.
    pub fn interrupt_stalled(&self, before: &[u64]) {
        for (shard, ((_, mailbox, _), before)) in self.shards.iter().zip(before).enumerate() {
            if mailbox.beats() != *before {
                continue;
            }
            let interruptions = mailbox.interrupt();
            if interruptions.is_power_of_two() {
                tracing::warn!(shard, interruptions, "a shard does not tick: it is busy, or has no core; it is interrupted");
            }
        }
    }

    /// Whether an executor has ended by itself, which only a failure does.
    pub fn has_failed(&self) -> bool {
        self.shards.iter().any(|(_, mailbox, _)| mailbox.is_ended()) || self.engine.as_ref().is_some_and(cluster::Engine::has_failed)
    }
}

/// Waits until every shard has restored its topics and has its ring; why one of them cannot.
fn wait_until_ready(readiness: &Receiver<Result<(), String>>) -> Option<String> {
    loop {
        match readiness.recv_timeout(READY_PATIENCE) {
            Ok(Ok(())) => {}
            Ok(Err(what)) => return Some(what),
            Err(RecvTimeoutError::Disconnected) => return None,
            // An executor may sleep over its own start, before it has any timer.
            Err(RecvTimeoutError::Timeout) => mesh::interrupt_all(),
        }
    }
}

/// A shard that restores many topics takes longer, and does not mind.
const READY_PATIENCE: Duration = Duration::from_millis(20);

/// Interruptions after which a shard that does not tick is taken for one that has failed; joining it tells why.
const INTERRUPTIONS_MAX: u32 = 20;

/// Waits until the shard's thread is about to end by itself, and interrupts it where it does not hear.
fn wait_for_end(mailbox: &Mailbox) {
    let mut beats = mailbox.beats();
    let (mut turns, mut interruptions) = (0, 0);
    while mailbox.is_running() && interruptions < INTERRUPTIONS_MAX {
        std::thread::sleep(Duration::from_millis(5));
        turns += 1;
        if turns % 100 == 0 {
            if mailbox.beats() == beats {
                mailbox.interrupt();
                interruptions += 1;
            }
            beats = mailbox.beats();
        }
    }
}

/// The time since the epoch. The host may set it at any moment.
pub fn wall_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// The host's monotonic clock, the same on every core.
pub fn now() -> Time {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the result, and this clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    Time(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}
