//! The engine of a server that is one of several, started before its shards and stopped behind them.

use super::mesh::{Command, Mailbox};
use crate::base::ShardIndex;
use crate::consensus::{self, Dial, GroupId, Handle, Inbox, News, NodeId, Options, Piece, Position, Start};
use crate::replica::{Carrier, Link};
use crate::storage::{LogPosition, LogSender, Logs, ReadPiece, Snapshots};
use crossbeam_channel::Sender;
use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long an end waits at most for others to take over, however long their elections are.
const HAND_OVER_MAX: Duration = Duration::from_secs(10);

/// Gives what asks other servers, and what answers them. Called on the engine's thread.
pub type Connect = Box<dyn FnOnce() -> io::Result<(Dial, Box<dyn FnOnce(Inbox)>)> + Send>;

/// A server's part in its cluster, before it runs.
pub struct Clustered {
    pub options: Options,
    /// The core of the engine's thread; any where `None`.
    pub core: Option<usize>,
    pub connect: Connect,
    /// The voters of a cluster that begins with this server.
    pub found: Option<BTreeSet<NodeId>>,
}

/// What the store has of a server's groups.
pub struct Kept {
    pub logs: Logs,
    pub sender: LogSender,
    pub snapshots: Snapshots,
}

/// The engine that runs.
pub struct Engine {
    handle: Handle,
    thread: JoinHandle<io::Result<()>>,
    carrier: Arc<OnceLock<Carrier>>,
    has_failed: Arc<AtomicBool>,
    /// It was told to end.
    is_stopping: Arc<AtomicBool>,
    /// How long an election takes at most, if nothing is in its way.
    election: Duration,
}

impl Engine {
    /// `boot` tells this start of the server from all others, as the shards' identities do.
    pub fn start(
        clustered: Clustered,
        boot: u64,
        kept: Kept,
        senders: Vec<Sender<Command>>,
        mailboxes: Vec<Arc<Mailbox>>,
    ) -> io::Result<Self> {
        let Clustered { options, core, connect, found } = clustered;
        let Kept { mut logs, sender, snapshots } = kept;
        let start = |group: GroupId| Start::kept(group, logs.remove(&group.0).unwrap_or_default(), sender.clone());
        let starts = options.all_groups().map(start).collect::<Result<Vec<_>, _>>();
        let starts = starts.map_err(|_| io::Error::other("the log of a group has a form that this version does not know"))?;
        let (carrier, has_failed) = (Arc::new(OnceLock::<Carrier>::new()), Arc::new(AtomicBool::new(false)));
        let is_stopping = Arc::new(AtomicBool::new(false));
        let (hearing, failing, stopping) = (carrier.clone(), has_failed.clone(), is_stopping.clone());
        let slot = Arc::new(OnceLock::<Handle>::new());
        let answering = Answering { handle: slot.clone(), carrier: carrier.clone(), snapshots };
        let notify = move |news| {
            if let Some(news) = hearing.wait().hear(news).and_then(|news| answering.hear(news)) {
                note(&news, &failing, &stopping);
            }
        };
        let pin = move || {
            if let Some(id) = core {
                core_affinity::set_for_current(core_affinity::CoreId { id });
            }
        };
        let (handle, thread) = consensus::start(options, starts, pin, connect, notify)?;
        let _ = slot.set(handle.clone());
        let shards = u16::try_from(senders.len()).expect("there are at most 64 shards");
        let tell = move |shard: ShardIndex, word| {
            // A shard that has ended hears nothing.
            let _ = senders[usize::from(shard.0)].send(Command::Replica(word));
            mailboxes[usize::from(shard.0)].wake();
        };
        if carrier.set(Carrier::new((options.node, boot), (shards, options.groups), handle.clone(), tell)).is_err() {
            unreachable!("it is set once");
        }
        if let Some(voters) = found {
            handle.found(voters);
        }
        let election = Duration::from_millis(options.election_ms.1);
        Ok(Self { handle, thread, carrier, has_failed, is_stopping, election })
    }

    pub fn link(&self, shard: ShardIndex) -> Link {
        self.carrier.wait().link(shard)
    }

    /// Whether a group has ended by itself, which only a failure does.
    pub fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed) || self.thread.is_finished()
    }

    /// Hands over what this server leads, as far as another takes it within some elections' time: else updates would wait for one.
    pub fn hand_over(&self) {
        self.carrier.wait().forget_heirless();
        self.handle.retire();
        let until = Instant::now() + (10 * self.election).min(HAND_OVER_MAX);
        while self.carrier.wait().leads_any() && !self.has_failed() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn stop(self) -> io::Result<()> {
        self.is_stopping.store(true, Ordering::Relaxed);
        self.handle.stop();
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread of the cluster has failed")))
    }
}

/// Answers what the engine asks of snapshots, which are the store's.
struct Answering {
    handle: Arc<OnceLock<Handle>>,
    carrier: Arc<OnceLock<Carrier>>,
    snapshots: Snapshots,
}

impl Answering {
    /// What is of something else is given back.
    fn hear(&self, news: News) -> Option<News> {
        let (handle, snapshots) = (self.handle.wait().clone(), &self.snapshots);
        match news {
            News::Build { group, beyond, .. } => {
                let index = beyond.map_or(0, |beyond| beyond + 1);
                snapshots.build(group.0, index, move |at| built(&handle, group, &at));
            }
            News::Hurry { group, position } => snapshots.seal(group.0, position.index().unwrap_or_default()),
            News::Read { group, position, number, reader } => {
                let index = position.index().unwrap_or_default();
                snapshots.read(group.0, index, number, move |piece| {
                    let piece = match piece {
                        ReadPiece::Piece { bytes, is_last } => Some(Piece { bytes, is_last }),
                        ReadPiece::Moved(at) => {
                            at.iter().for_each(|at| built(&handle, group, at));
                            None
                        }
                        ReadPiece::Failed(why) => {
                            tracing::error!(group = group.0, why, "a snapshot for another server cannot be read");
                            None
                        }
                    };
                    handle.read(group, reader, piece);
                });
            }
            News::Piece { group, number, bytes, .. } => snapshots.stage(group.0, number, bytes, move |staged| match staged {
                Ok(()) => handle.staged(group),
                // It is sent again.
                Err(why) => tracing::error!(group = group.0, why, "a piece of another server's snapshot cannot be kept"),
            }),
            News::Install { group, position } => self.install(group, &position),
            other => return Some(other),
        }
        None
    }

    fn install(&self, group: GroupId, position: &Position) {
        let Some(kept) = position.to_kept() else { return };
        let (handle, carrier, snapshots, index) = (self.handle.wait().clone(), self.carrier.clone(), self.snapshots.clone(), kept.index);
        let loading = snapshots.clone();
        snapshots.install(group.0, kept, move |installed| {
            if let Err(why) = installed {
                tracing::error!(group = group.0, why, "another server's snapshot cannot be taken");
                return handle.not_installed(group);
            }
            loading.load(group.0, move |loaded| match loaded {
                Ok(loaded) => {
                    carrier.wait().install(group, index, loaded);
                    handle.installed(group);
                }
                Err(why) => {
                    tracing::error!(group = group.0, why, "another server's snapshot was taken, and cannot be read");
                    handle.not_installed(group);
                }
            });
        });
    }
}

fn built(handle: &Handle, group: GroupId, at: &LogPosition) {
    match Position::of_kept(at) {
        Ok(position) => handle.built(group, position),
        Err(_) => tracing::error!(group = group.0, "the members of a group have a form that this version does not know"),
    }
}

/// What is no shard's concern.
fn note(news: &News, has_failed: &AtomicBool, is_stopping: &AtomicBool) {
    match news {
        News::Members { group, outcome: Err(why) } => tracing::warn!(group = group.0, why, "the group's servers were not changed"),
        News::Ended { .. } if is_stopping.load(Ordering::Relaxed) => {}
        News::Ended { group, reason } => {
            tracing::error!(group = group.0, reason, "a group of the cluster has ended at this server");
            has_failed.store(true, Ordering::Relaxed);
        }
        _ => {}
    }
}
