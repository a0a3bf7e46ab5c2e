//! What the storage counts for metrics. Written by its threads, read by whoever asks.

use hdrhistogram::Histogram;
use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

#[derive(Debug)]
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
    write_ns: Mutex<Histogram<u64>>,
    sync_ns: Mutex<Histogram<u64>>,
}

impl Default for Counters {
    fn default() -> Self {
        let histogram = || Mutex::new(Histogram::new_with_bounds(1, 60_000_000_000, 2).expect("the bounds are in order"));
        Self {
            records: AtomicU64::default(),
            bytes: AtomicU64::default(),
            groups: AtomicU64::default(),
            syncs: AtomicU64::default(),
            failures: AtomicU64::default(),
            is_failing: AtomicBool::default(),
            is_checkpoint_failing: AtomicBool::default(),
            checkpoints: AtomicU64::default(),
            checkpoint_us: AtomicU64::default(),
            segment_bytes: AtomicU64::default(),
            segments_waiting: AtomicU64::default(),
            write_ns: histogram(),
            sync_ns: histogram(),
        }
    }
}

impl Counters {
    pub fn note_write(&self, records: u64, bytes: usize, took: Duration) {
        self.records.fetch_add(records, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
        self.groups.fetch_add(1, Relaxed);
        record(&self.write_ns, took);
    }

    pub fn note_sync(&self, took: Duration) {
        self.syncs.fetch_add(1, Relaxed);
        record(&self.sync_ns, took);
    }

    pub fn note_checkpoint(&self, took: Duration) {
        self.checkpoints.fetch_add(1, Relaxed);
        self.checkpoint_us.store(took.as_micros() as u64, Relaxed);
    }

    /// Nanoseconds of each group's write.
    pub fn write_ns(&self) -> Histogram<u64> {
        self.write_ns.lock().expect("nothing panics while it is held").clone()
    }

    /// Nanoseconds of each sync.
    pub fn sync_ns(&self) -> Histogram<u64> {
        self.sync_ns.lock().expect("nothing panics while it is held").clone()
    }
}

/// Once a group, by one thread, so the lock is free.
fn record(histogram: &Mutex<Histogram<u64>>, took: Duration) {
    histogram.lock().expect("nothing panics while it is held").saturating_record(took.as_nanos() as u64);
}
