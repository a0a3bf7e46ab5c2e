//! The engine of a server that is one of several, started before its shards and stopped behind them.

use super::mesh::{Command, Mailbox};
use crate::base::ShardIndex;
use crate::consensus::{self, Dial, Handle, Inbox, News, NodeId, Options, Start};
use crate::replica::{Carrier, Link};
use crossbeam_channel::Sender;
use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

/// Gives what asks other servers, and what answers them. Called on the engine's thread.
pub type Connect = Box<dyn FnOnce() -> io::Result<(Dial, Box<dyn FnOnce(Inbox)>)> + Send>;

/// A server's part in its cluster, before it runs.
pub struct Clustered {
    pub options: Options,
    /// For each of the options' groups.
    pub starts: Vec<Start>,
    /// The core of the engine's thread; any where `None`.
    pub core: Option<usize>,
    pub connect: Connect,
    /// The voters of a cluster that begins with this server.
    pub found: Option<BTreeSet<NodeId>>,
}

/// The engine that runs.
pub struct Engine {
    handle: Handle,
    thread: JoinHandle<io::Result<()>>,
    carrier: Arc<OnceLock<Carrier>>,
    has_failed: Arc<AtomicBool>,
}

impl Engine {
    pub fn start(clustered: Clustered, senders: Vec<Sender<Command>>, mailboxes: Vec<Arc<Mailbox>>) -> io::Result<Self> {
        let Clustered { options, starts, core, connect, found } = clustered;
        let (carrier, has_failed) = (Arc::new(OnceLock::<Carrier>::new()), Arc::new(AtomicBool::new(false)));
        let (hearing, failing) = (carrier.clone(), has_failed.clone());
        let notify = move |news| {
            if let Some(news) = hearing.wait().hear(news) {
                note(&news, &failing);
            }
        };
        let pin = move || {
            if let Some(id) = core {
                core_affinity::set_for_current(core_affinity::CoreId { id });
            }
        };
        let (handle, thread) = consensus::start(options, starts, pin, connect, notify)?;
        let shards = u16::try_from(senders.len()).expect("there are at most 64 shards");
        let tell = move |shard: ShardIndex, word| {
            // A shard that has ended hears nothing.
            let _ = senders[usize::from(shard.0)].send(Command::Replica(word));
            mailboxes[usize::from(shard.0)].wake();
        };
        if carrier.set(Carrier::new(shards, options.groups, handle.clone(), tell)).is_err() {
            unreachable!("it is set once");
        }
        if let Some(voters) = found {
            handle.found(voters);
        }
        Ok(Self { handle, thread, carrier, has_failed })
    }

    pub fn link(&self, shard: ShardIndex) -> Link {
        self.carrier.wait().link(shard)
    }

    /// Whether a group has ended by itself, which only a failure does.
    pub fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    pub fn stop(self) -> io::Result<()> {
        self.handle.stop();
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread of the cluster has failed")))
    }
}

/// What is no shard's concern.
fn note(news: &News, has_failed: &AtomicBool) {
    match news {
        News::Members { group, outcome: Err(why) } => tracing::warn!(group = group.0, why, "the group's servers were not changed"),
        News::Ended { group, reason } => {
            tracing::error!(group = group.0, reason, "a group of the cluster has ended at this server");
            has_failed.store(true, Ordering::Relaxed);
        }
        _ => {}
    }
}
