//! What is kept of the logs of groups: what whoever agrees on them hands over, and what a start finds.
//!
//! The journal is the log: an entry is a record of it, written in the same group as what shards hand over, so one write is all that an update costs.
//! Whoever hands it over is told by a [`Done`] when it is as safe as [`super::Ack`] says; a vote always when it survives a loss of power.

use super::fold::News;
use crate::cluster;
use crate::journal::{Logged, Payload};
use bytes::Bytes;

/// Says that something is kept. Called on the storage thread, where it must not wait; dropped without being called where the store has ended.
pub type Done = Box<dyn FnOnce() + Send>;

/// An entry of a group's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    pub index: u64,
    pub term: u64,
    pub payload: LogPayload,
}

/// What the entry is, as the record has it: see [`Payload`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogPayload {
    Nothing,
    Entry { judged: u64, bytes: Bytes },
    Members(Bytes),
}

/// What is to be kept of a group's log, in order.
pub enum LogWrite {
    /// At most about 1 MiB at once, or one entry that is longer.
    Append {
        group: u16,
        entries: Vec<LogEntry>,
        done: Done,
    },
    /// The entries behind `after` are in the log no more; `None`: all.
    Cut {
        group: u16,
        after: Option<u64>,
    },
    Vote {
        group: u16,
        vote: Box<[u8]>,
        done: Done,
    },
    /// All up to `index` is committed. It may come long before that is kept.
    Committed {
        group: u16,
        index: u64,
    },
    /// The same, and the segment is ended and folded, so that the state holds it.
    Seal {
        group: u16,
        index: u64,
    },
    /// Says when all that was handed over before survives a loss of power.
    Sync {
        done: Done,
    },
}

/// The way of logs to the storage thread. What waits there is bounded by whoever appends: it lets only so much be open.
#[derive(Clone)]
pub struct LogSender(pub(super) crossbeam_channel::Sender<News>);

impl LogSender {
    /// Never waits. Without a store any more, nothing comes of it but that [`Done`] is dropped.
    pub fn send(&self, write: LogWrite) {
        let _ = self.0.send(News::Log(write));
    }
}

impl LogEntry {
    pub(super) fn of(logged: &Logged<'_>) -> Self {
        let payload = match logged.payload {
            Payload::Nothing => LogPayload::Nothing,
            Payload::Entry { judged, bytes } => LogPayload::Entry { judged, bytes: Bytes::copy_from_slice(bytes) },
            Payload::Members(bytes) => LogPayload::Members(Bytes::copy_from_slice(bytes)),
        };
        Self { index: logged.index, term: logged.term, payload }
    }

    /// Whether there is something in it that may change topics.
    pub(super) fn changes_topics(&self) -> bool {
        matches!(&self.payload, LogPayload::Entry { bytes, .. } if !cluster::is_empty(bytes))
    }

    pub(super) fn logged(&self) -> Logged<'_> {
        let payload = match &self.payload {
            LogPayload::Nothing => Payload::Nothing,
            LogPayload::Entry { judged, bytes } => Payload::Entry { judged: *judged, bytes },
            LogPayload::Members(bytes) => Payload::Members(bytes),
        };
        Logged { index: self.index, term: self.term, payload }
    }
}
