//! Rings between shards, and the way in for other threads.
//!
//! One lock-free single-producer single-consumer ring for each ordered pair. A ring that is full gives the batch back: the shard keeps it, bounded.

use crate::base::ShardIndex;
use crate::mail::Batch;
use crate::shard::Handover;
use crate::storage;
use atomic_waker::AtomicWaker;
use crossbeam_channel::{Receiver, Sender};
use rtrb::{Consumer, Producer, RingBuffer};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Batches that one ring holds.
const RING_BATCHES: usize = 256;

/// Ends a system call early, and does nothing else.
const INTERRUPT: libc::c_int = libc::SIGUSR2;

/// To be called before any shard is interrupted.
pub fn prepare_interrupts() {
    extern "C" fn do_nothing(_: libc::c_int) {}
    // SAFETY: the action is valid, without SA_RESTART, and its handler touches nothing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = do_nothing as extern "C" fn(libc::c_int) as usize;
        libc::sigaction(INTERRUPT, &action, std::ptr::null_mut());
    }
}

/// The beginning of the names of shards' threads.
pub const THREAD_NAME: &str = "shard-";

/// Interrupts the sleep of every shard, also of one that has not said yet which thread is its own.
pub fn interrupt_all() {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return };
    for thread in threads.flatten() {
        let is_shard = std::fs::read_to_string(thread.path().join("comm")).is_ok_and(|name| name.starts_with(THREAD_NAME));
        let number: Option<libc::pid_t> = thread.file_name().to_str().and_then(|name| name.parse().ok());
        if let (true, Some(number)) = (is_shard, number) {
            // SAFETY: the signal's handler does nothing, and a thread that has ended meanwhile gets none.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), number, INTERRUPT) };
        }
    }
}

/// A connection that comes from another shard.
pub struct Adoption {
    pub descriptor: OwnedFd,
    /// What its socket has not taken yet.
    pub tail: Vec<u8>,
    pub handover: Box<Handover>,
}

/// What other threads tell a shard.
pub enum Command {
    ShutDown,
    /// Storage answers.
    Storage(storage::Answer),
    Adopt(Adoption),
}

/// Where a shard is woken that has mail.
#[derive(Default)]
pub struct Mailbox {
    waker: AtomicWaker,
    is_ended: AtomicBool,
    /// The shard's thread; 0 while it does not run.
    thread: AtomicU64,
    /// Ticks of the shard so far.
    beats: AtomicU64,
    /// How often it was interrupted because it did not tick.
    interruptions: AtomicU64,
}

impl Mailbox {
    pub fn wake(&self) {
        self.waker.wake();
    }

    pub fn register(&self, waker: &std::task::Waker) {
        self.waker.register(waker);
    }

    /// The shard runs, on the calling thread, until [`Self::end`].
    pub fn begin(&self) {
        // SAFETY: it asks for the caller's own number.
        self.thread.store(unsafe { libc::pthread_self() }, Ordering::Release);
    }

    pub fn is_running(&self) -> bool {
        self.thread.load(Ordering::Acquire) != 0
    }

    pub fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    pub fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    /// Interrupts the shard's sleep; returns how often that was done so far. The thread must not have been joined yet.
    pub fn interrupt(&self) -> u64 {
        let thread = self.thread.load(Ordering::Acquire);
        if thread != 0 {
            // SAFETY: a thread that was not joined has its number still, and the signal's handler does nothing.
            unsafe { libc::pthread_kill(thread, INTERRUPT) };
        }
        self.interruptions.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub fn interruptions(&self) -> u64 {
        self.interruptions.load(Ordering::Relaxed)
    }

    pub fn end(&self) {
        self.thread.store(0, Ordering::Release);
        self.is_ended.store(true, Ordering::Release);
    }

    pub fn is_ended(&self) -> bool {
        self.is_ended.load(Ordering::Acquire)
    }
}

/// One shard's ends of the rings, by the other shard's number; none to itself.
pub struct Rings {
    pub incoming: Vec<Option<Consumer<Batch>>>,
    pub outgoing: Vec<Option<Producer<Batch>>>,
}

/// All that connects one shard to the rest of the process.
pub struct Links {
    pub rings: Rings,
    pub mailboxes: Vec<Arc<Mailbox>>,
    pub commands: Receiver<Command>,
    /// To every shard.
    pub senders: Vec<Sender<Command>>,
    /// `None`: nothing is stored.
    pub storage: Option<storage::Sender>,
    pub counters: Option<Arc<storage::Counters>>,
}

impl Links {
    /// Gives a connection to a shard; where that one has ended, the connection ends too.
    pub fn hand_over(&self, to: ShardIndex, adoption: Adoption) {
        let to = usize::from(to.0);
        if !self.mailboxes[to].is_ended() {
            // A shard that failed has no receiver, and the descriptor is closed with the command.
            let _ = self.senders[to].send(Command::Adopt(adoption));
            self.mailboxes[to].wake();
        }
    }
}

/// The ends of a full mesh of `count` shards.
pub fn rings(count: u16) -> Vec<Rings> {
    let ends = || (0..count).map(|_| None).collect();
    let mut rings: Vec<Rings> = (0..count).map(|_| Rings { incoming: ends(), outgoing: (0..count).map(|_| None).collect() }).collect();
    for from in 0..usize::from(count) {
        for to in (0..usize::from(count)).filter(|to| *to != from) {
            let (producer, consumer) = RingBuffer::new(RING_BATCHES);
            rings[from].outgoing[to] = Some(producer);
            rings[to].incoming[from] = Some(consumer);
        }
    }
    rings
}
