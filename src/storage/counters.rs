//! What the storage counts for metrics. Written by its threads, read by whoever asks.

use crate::base::{Latencies, Time};
use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

#[derive(Debug, Default)]
pub struct Counters {
    /// Records written to the journal, marks included.
    pub records: AtomicU64,
    pub bytes: AtomicU64,
    /// Writes, each of one group.
    pub groups: AtomicU64,
    pub syncs: AtomicU64,
    /// Writes, syncs and checkpoints that failed.
    pub failures: AtomicU64,
    /// Whether updates to persistent topics are refused now.
    pub is_failing: AtomicBool,
    /// Whether the last attempt at a checkpoint failed.
    pub is_checkpoint_failing: AtomicBool,
    pub checkpoints: AtomicU64,
    /// What the last checkpoint took.
    pub checkpoint_us: AtomicU64,
    /// Of the segment that is written to.
    pub segment_bytes: AtomicU64,
    /// Segments that wait for their checkpoint.
    pub segments_waiting: AtomicU64,
    /// Of each group's write.
    pub write_ns: Times,
    /// Of each sync.
    pub sync_ns: Times,
}

/// Nanoseconds. Recorded once a group, by one thread, so the lock is free.
#[derive(Debug)]
pub struct Times {
    began: Instant,
    held: Mutex<Latencies>,
}

impl Counters {
    pub fn note_write(&self, records: u64, bytes: usize, took: Duration) {
        self.records.fetch_add(records, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
        self.groups.fetch_add(1, Relaxed);
        self.write_ns.record(took);
    }

    pub fn note_sync(&self, took: Duration) {
        self.syncs.fetch_add(1, Relaxed);
        self.sync_ns.record(took);
    }

    pub fn note_checkpoint(&self, took: Duration) {
        self.checkpoints.fetch_add(1, Relaxed);
        self.checkpoint_us.store(took.as_micros() as u64, Relaxed);
    }

    /// The counts by their published names: every counter, in the order of the fields.
    pub fn counts(&self) -> [(&'static str, u64); 11] {
        let number = |counter: &AtomicU64| counter.load(Relaxed);
        let flag = |counter: &AtomicBool| u64::from(counter.load(Relaxed));
        [
            ("records", number(&self.records)),
            ("bytes", number(&self.bytes)),
            ("groups", number(&self.groups)),
            ("syncs", number(&self.syncs)),
            ("failures", number(&self.failures)),
            ("failing", flag(&self.is_failing)),
            ("checkpoint_failing", flag(&self.is_checkpoint_failing)),
            ("checkpoints", number(&self.checkpoints)),
            ("checkpoint_us", number(&self.checkpoint_us)),
            ("segment_bytes", number(&self.segment_bytes)),
            ("segments_waiting", number(&self.segments_waiting)),
        ]
    }

    /// The histograms by their published names.
    pub fn histograms(&self) -> [(&'static str, Latencies); 2] {
        [("storage_write", self.write_ns.copied()), ("storage_sync", self.sync_ns.copied())]
    }
}

impl Default for Times {
    fn default() -> Self {
        Self { began: Instant::now(), held: Mutex::new(Latencies::new(2, Time(0))) }
    }
}

impl Times {
    fn record(&self, took: Duration) {
        self.advanced(|held| held.record(took.as_nanos() as u64));
    }

    pub fn copied(&self) -> Latencies {
        self.advanced(|held| held.clone())
    }

    fn advanced<T>(&self, then: impl FnOnce(&mut Latencies) -> T) -> T {
        let mut held = self.held.lock().expect("nothing panics while it is held");
        held.advance(Time(self.began.elapsed().as_nanos() as u64));
        then(&mut held)
    }
}
