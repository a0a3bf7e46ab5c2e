//! The store of persistent topics: the journal's files, the checkpointed state behind them, the thread that writes.
//!
//! An update is acknowledged when it is in memory, written (it survives a killed process) or durable (it survives a loss of
//! power), as [`Ack`] says; [`Store::open`] brings back everything that was acknowledged, in order, or says what is damaged
//! and refuses. Shards hand over changes with a [`Sender`] and never wait; answers come back through a callback.
//!
//! ```text
//! shards ─▶ channel ─▶ thread `storage`: groups ─▶ segment files          acknowledges
//! logs   ─▶ channel ─┘ thread `storage-fold`: full segments ─▶ fjall, then deletes them
//! ```
//! In a cluster the journal is also the log of each group of topics that several servers hold: [`LogSender`] is the way in, and one write is all that an update
//! costs. What is committed is folded into the state, what is not is carried there, and the folded state is what other servers get: see [`Snapshots`].
//!
//! A record is in the journal until the state holds its effect. A segment is folded: of each topic only the newest value is
//! kept, so a hot topic costs the state one entry a segment.
//!
//! Folding has a thread of its own because fjall blocks: it syncs tables, and stalls while its compaction is behind.
//!
//! Loops here are over the messages at hand, the files, or all that is stored. They run in storage's own thread, which takes what shards send in groups of bounded
//! bytes, and when the server starts.

mod base;
mod counters;
mod disk;
mod ending;
mod error;
mod fold;
mod groups;
mod handle;
mod lines;
mod logs;
mod open;
mod replay;
mod snapshots;
mod tools;
mod writer;
#[cfg(test)]
pub mod tests;

pub use base::BaseError;
pub use counters::Counters;
pub use error::OpenError;
pub use groups::{GroupLog, LogMembers, LogPosition, Logs};
pub use handle::{Handle, Sender, start};
pub use logs::{Done, LogEntry, LogPayload, LogSender, LogWrite};
pub use open::{Recovered, Store};
pub use snapshots::{Loaded, LoadedGroup, ReadPiece, Snapshots};
pub use tools::{Exported, Report, ToolError, check, cut, export, import};

use std::sync::Arc;

/// When an update is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// Applied in memory; a killed process loses what was not written yet.
    Memory,
    /// Handed to the operating system; survives a killed process, not a loss of power.
    Written,
    /// Synced; survives a loss of power.
    Durable,
}

impl Ack {
    pub const ALL: [Self; 3] = [Self::Memory, Self::Written, Self::Durable];
    /// The names in the configuration, in the order of `ALL`.
    pub const NAMES: [&str; 3] = ["memory", "written", "durable"];
}

/// What the storage thread tells a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// All the shard's tickets up to this one are kept as [`Ack`] says.
    Acknowledged { through: u64 },
    /// Nothing more can be written until further notice. What was handed over is kept and will be written. Said once.
    Failing { reason: Arc<str> },
    /// Writing goes on.
    Recovered,
}

/// How a store is opened and written. Every limit has its default in [`Options::default`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    pub ack: Ack,
    pub shards: u16,
    /// A segment of this size is ended and folded. A restart replays at most about twice this.
    pub segment_bytes: u64,
    /// A segment that is this old is ended and folded.
    pub segment_age_ms: u64,
    /// While this many segments wait to be folded, nothing is taken from the shards.
    pub segments_waiting_max: usize,
    /// When for so long so many wait and none is folded, updates are refused.
    pub fold_patience_ms: u64,
    /// One write takes at most about this much.
    pub group_bytes_max: usize,
    /// Messages that may wait in the channel; each is one `Vec<Append>`.
    pub queue_messages_max: usize,
    /// How often written data is synced where acknowledgements do not wait for it.
    pub sync_interval_ms: u64,
    /// How soon a failed write is tried again.
    pub retry_ms: u64,
    /// What fjall may keep of its blocks in memory.
    pub cache_bytes: u64,
    /// Events of removed or trimmed time series that are deleted at once.
    pub garbage_events_max: usize,
    /// How many groups hold topics; 0 without a cluster. The same for as long as the cluster lives.
    pub groups: u16,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ack: Ack::Written,
            shards: 1,
            segment_bytes: 64 << 20,
            segment_age_ms: 600_000,
            segments_waiting_max: 8,
            fold_patience_ms: 30_000,
            group_bytes_max: 1 << 20,
            queue_messages_max: 1024,
            sync_interval_ms: 1000,
            retry_ms: 500,
            cache_bytes: 8 << 20,
            garbage_events_max: 65_536,
            groups: 0,
        }
    }
}
