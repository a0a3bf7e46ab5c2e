//! What is kept of persistent topics: changes as records, and what records add up to. Functions over bytes.
//!
//! The logs of groups are records too: their entries say what happens to topics once they are committed, which `storage` finds out.
//!
//! A store is a run of numbered records. [`encode`] frames one, [`read_segment`] takes a segment of the journal apart and
//! says where it is damaged, [`State`] is what records add up to. A damaged frame is never taken for a record: its
//! checksum is seeded with the store's [`Salt`], which no client knows, so that not even a value that holds the bytes of a
//! journal can pass for one.
//!
//! Files, threads and the moment to acknowledge are left to `storage`.
//!
//! Loops over records and what they add up to are as long as what is stored. They run when the server starts, and in the thread of storage; no shard waits for
//! them.

mod frame;
mod record;
mod segment;
mod state;
#[cfg(test)]
mod tests;

pub use frame::{Frame, Salt, encode};
pub use record::{Expiry, Record, RecordKind};
#[cfg(any(feature = "server", test))]
pub use record::{Logged, Payload};
#[cfg(feature = "server")]
pub use segment::{Damage, HeaderError, Read};
pub use segment::{Expected, HEADER_BYTES, Header, read_segment, synced_mark};
pub use state::{
    DURABLE_BRANCH, DURABLE_KIND, PRINCIPALS_PATH, SECURITY_KIND, SECURITY_PATH, SESSION_KIND, SESSION_TREE_KIND, SESSION_TREES_BRANCH,
    SESSIONS_BRANCH, State, StoredEvent, StoredTopic, VIEW_KIND, VIEWS_BRANCH,
};

use crate::base::TopicId;
use crate::topic::path::TopicPath;
use crate::topic::publication::Publication;
use std::sync::Arc;

/// What happened to a persistent topic, as its shard says it.
#[derive(Clone, Debug)]
pub enum Change {
    /// `kind` is the wire's number of the topic's type.
    Added {
        topic: TopicId,
        path: TopicPath,
        kind: u8,
        properties: Arc<[(Box<str>, Box<str>)]>,
    },
    Value {
        publication: Arc<Publication>,
    },
    /// A value that is a retained message of MQTT, and when it expires.
    Message {
        publication: Arc<Publication>,
        expiry: Option<Expiry>,
    },
    /// The topic has no value any more.
    NoValue {
        topic: TopicId,
        version: u64,
    },
    /// An event was appended to a time series; those below `first_kept` are no longer retained, nor is the edit `dropped`.
    Event {
        topic: TopicId,
        sequence: u64,
        original: Option<u64>,
        timestamp_ms: u64,
        author: Arc<str>,
        value: Arc<[u8]>,
        first_kept: u64,
        dropped: Option<u64>,
    },
    Removed {
        topic: TopicId,
    },
}

/// A change on its way to the disk. Tickets ascend per shard; an acknowledgement names the highest that is kept.
#[derive(Clone, Debug)]
pub struct Append {
    pub ticket: u64,
    pub change: Change,
}
