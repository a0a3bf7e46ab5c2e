//! Rings between shards, and the way in for other threads.
//!
//! One lock-free single-producer single-consumer ring for each ordered pair. A ring that is full gives the batch back: the shard keeps it, bounded.

use super::addresses::Counted;
use super::identify::{Answered, SessionQuestion};
use super::ring::Ring;
use crate::base::ShardIndex;
use crate::mail::Batch;
use crate::mail::views::Told;
use crate::protocol::Refusal;
use crate::replica::{Link, Word};
use crate::shard::Handover;
use crate::storage;
use crate::transport::Guard;
use crossbeam_channel::{Receiver, Sender};
use rtrb::{Consumer, Producer, RingBuffer};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};

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
    /// What has come from it and was not looked at.
    pub received: Vec<u8>,
    /// What of it has to go through this.
    pub guard: Option<Box<Guard>>,
    pub counted: Option<Counted>,
    pub handover: Box<Handover>,
}

/// What other threads tell a shard.
pub enum Command {
    ShutDown,
    /// A group's log, or another server, says something.
    Replica(Word),
    /// Storage answers.
    Storage(storage::Answer),
    Adopt(Adoption),
    /// Authenticators answer.
    Identified(Box<Answered>),
    /// Sessions are to be asked who somebody is.
    AskSessions(SessionQuestion),
    /// What came of a change of principals.
    Principals(Told, Result<Option<String>, Refusal>),
}

/// Where a shard is woken that has mail.
pub struct Mailbox {
    /// It sleeps, or is about to: whoever has mail for it wakes it.
    is_asleep: AtomicBool,
    /// An event descriptor that its ring listens to.
    bell: File,
    /// Its ring, for other shards.
    ring: OnceLock<OwnedFd>,
    is_ended: AtomicBool,
    /// The shard's thread; 0 while it does not run.
    thread: AtomicU64,
    /// Ticks of the shard so far.
    beats: AtomicU64,
    /// How often it was interrupted because it did not tick.
    interruptions: AtomicU64,
}

impl Mailbox {
    pub fn new() -> io::Result<Self> {
        // SAFETY: it makes a descriptor, or an error.
        let bell = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if bell < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            is_asleep: AtomicBool::default(),
            // SAFETY: the descriptor was made just now, and nobody else has it.
            bell: File::from(unsafe { OwnedFd::from_raw_fd(bell) }),
            ring: OnceLock::default(),
            is_ended: AtomicBool::default(),
            thread: AtomicU64::default(),
            beats: AtomicU64::default(),
            interruptions: AtomicU64::default(),
        })
    }

    pub fn bell(&self) -> RawFd {
        self.bell.as_raw_fd()
    }

    /// By any thread, when the mail is where the shard looks.
    pub fn wake(&self) {
        if self.is_to_be_woken() {
            // It cannot fail before it has rung 2^64 times.
            let _ = (&self.bell).write(&1u64.to_ne_bytes());
        }
    }

    /// The same by another shard: its ring does it when it is entered next.
    pub fn wake_by(&self, ring: &mut Ring) {
        let Some(to) = self.ring.get() else { return self.wake() };
        if self.is_to_be_woken() {
            ring.wake(to.as_raw_fd());
        }
    }

    fn is_to_be_woken(&self) -> bool {
        // Either this sees that the shard falls asleep, or the shard sees the mail.
        fence(Ordering::SeqCst);
        self.is_asleep.load(Ordering::Relaxed) && self.is_asleep.swap(false, Ordering::AcqRel)
    }

    /// From here on somebody who has mail wakes the shard; it looks once more whether it has some already.
    pub fn fall_asleep(&self) {
        self.is_asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    pub fn wake_up(&self) {
        self.is_asleep.store(false, Ordering::Relaxed);
    }

    /// Others wake the shard by this descriptor of its ring from now on.
    pub fn set_ring(&self, ring: OwnedFd) {
        self.ring.set(ring).expect("a shard has one ring");
    }

    /// The shard runs, on the calling thread, as long as what is returned is there.
    pub fn begin(self: &Arc<Self>) -> Running {
        // SAFETY: it asks for the caller's own number.
        self.thread.store(unsafe { libc::pthread_self() }, Ordering::Release);
        Running(self.clone())
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

    pub fn is_ended(&self) -> bool {
        self.is_ended.load(Ordering::Acquire)
    }
}

/// A shard that runs. One that fails is over too: a server without it would go on to lead groups, and decide nothing.
pub struct Running(Arc<Mailbox>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.thread.store(0, Ordering::Release);
        self.0.is_ended.store(true, Ordering::Release);
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
    /// `None`: the server stands alone.
    pub replica: Option<Link>,
}

impl Links {
    /// Whether there is mail, or a command.
    pub fn has_mail(&self) -> bool {
        !self.commands.is_empty() || self.rings.incoming.iter().flatten().any(|ring| !ring.is_empty())
    }

    /// Gives a connection to a shard; where that one has ended, the connection ends too.
    pub fn hand_over(&self, to: ShardIndex, adoption: Adoption, ring: &mut Ring) {
        let to = usize::from(to.0);
        if !self.mailboxes[to].is_ended() {
            // A shard that failed has no receiver, and the descriptor is closed with the command.
            let _ = self.senders[to].send(Command::Adopt(adoption));
            self.mailboxes[to].wake_by(ring);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_fails_is_over() {
        let mailbox = Arc::new(Mailbox::new().unwrap());
        let failing = mailbox.clone();
        let failed = std::thread::spawn(move || {
            let _running = failing.begin();
            assert!(failing.is_running() && !failing.is_ended());
            std::panic::resume_unwind(Box::new("the shard fails"));
        });
        assert!(failed.join().is_err());
        assert!(mailbox.is_ended() && !mailbox.is_running());
    }
}
