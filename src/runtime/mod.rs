//! Runs shards on glommio: one pinned executor a core, its sockets, its rings to the others.
//!
//! The only module that names glommio. Nothing here decides anything: bytes, time and mail go into the shard, effects come out.

mod mesh;
mod socket;
mod turn;

pub use mesh::Command;

use crate::admin::Pages;
use crate::base::{ShardIndex, Time};
use crate::shard::{Identity, Limits, Shard};
use crossbeam_channel::Sender;
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use mesh::Mailbox;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// How to run each shard.
#[derive(Clone)]
pub struct Settings {
    pub limits: Limits,
    pub server: String,
    pub run: u64,
    /// How long a core looks for work before it sleeps; 0 saves the most CPU.
    pub spin_before_park_us: u64,
    /// How long queues may take to empty at the end.
    pub shutdown_drain_ms: u64,
    pub pages: Arc<Pages>,
}

/// The running shards.
pub struct Runtime {
    shards: Vec<(Sender<Command>, Arc<Mailbox>, ExecutorJoinHandle<()>)>,
}

/// The memory glommio registers for each executor; sockets hardly use it, and it counts against RLIMIT_MEMLOCK.
const IO_MEMORY_BYTES: usize = 64 << 10;
/// The default of 100 ms lets one busy task delay mail by as much.
const PREEMPT_TIMER: Duration = Duration::from_millis(1);

/// Starts one executor for each listener, on the core that goes with it.
pub fn start(settings: &Settings, listeners: Vec<(OwnedFd, usize)>) -> io::Result<Runtime> {
    let count = u16::try_from(listeners.len()).expect("there are at most 64 shards");
    let mailboxes: Vec<Arc<Mailbox>> = (0..count).map(|_| Arc::default()).collect();
    let mut shards = Vec::new();
    for (index, ((listener, core), rings)) in listeners.into_iter().zip(mesh::rings(count)).enumerate() {
        let identity = Identity { index: ShardIndex(index as u16), count, server: settings.server.clone(), run: settings.run };
        let (sender, commands) = crossbeam_channel::unbounded();
        let links = mesh::Links { rings, mailboxes: mailboxes.clone(), commands };
        let settings = settings.clone();
        let handle = LocalExecutorBuilder::new(Placement::Fixed(core))
            .name(&format!("shard-{index}"))
            .io_memory(IO_MEMORY_BYTES)
            .preempt_timer(PREEMPT_TIMER)
            .spin_before_park(Duration::from_micros(settings.spin_before_park_us))
            .spawn(move || async move {
                let shard = Shard::new(identity, settings.limits.clone(), now());
                turn::run(shard, settings, listener, links).await;
            })
            .map_err(|error| io::Error::other(error.to_string()))?;
        shards.push((sender, mailboxes[index].clone(), handle));
    }
    Ok(Runtime { shards })
}

impl Runtime {
    /// Tells every shard to take leave of its sessions and waits for all; an error is an executor that failed.
    pub fn stop(self) -> io::Result<()> {
        for (sender, mailbox, _) in &self.shards {
            // A shard whose executor failed has no receiver; `join` tells why.
            let _ = sender.send(Command::ShutDown);
            mailbox.wake();
        }
        for (_, _, handle) in self.shards {
            handle.join().map_err(|error| io::Error::other(error.to_string()))?;
        }
        Ok(())
    }

    /// Whether an executor has ended by itself, which only a failure does.
    pub fn has_failed(&self) -> bool {
        self.shards.iter().any(|(_, mailbox, _)| mailbox.is_ended())
    }
}

/// The host's monotonic clock, the same on every core.
pub fn now() -> Time {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the result, and this clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    Time(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}
