//! What openraft is told of our types: an entry is bytes and the term it was judged in.

use std::fmt;

use bytes::Bytes;
use openraft::impls::BoxedErrorSource;
use openraft::impls::leader_id_std::LeaderId;
use openraft::type_config::alias;
use openraft::vote::RaftLeaderId;
use openraft::{Entry, EntryPayload, RaftTypeConfig};
use openraft_rt::deterministic_rng::DeterministicRng;

use super::NodeId;
use super::reply::Reply;
use super::runtime::LocalRuntime;

/// The types of all groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Types;

impl RaftTypeConfig for Types {
    type D = Judged;
    type R = ();
    type NodeId = NodeId;
    /// Where nodes are is not the groups' concern.
    type Node = ();
    type Term = u64;
    /// A term has one leader.
    type LeaderId = LeaderId<u64, NodeId>;
    type Vote = openraft::Vote<Self::LeaderId>;
    type Payload = EntryPayload<Judged, NodeId, ()>;
    type Entry = Entry<<Self::LeaderId as RaftLeaderId>::Committed, Self::Payload>;
    /// It draws from a seed instead of the thread's own chance, so that a simulation repeats itself.
    type AsyncRuntime = DeterministicRng<LocalRuntime>;
    type Responder<T>
        = Reply<T>
    where
        T: 'static;
    type Batch<T>
        = Vec<T>
    where
        T: 'static;
    type ErrorSource = BoxedErrorSource;
}

pub type LogId = alias::LogIdOf<Types>;
pub type Membership = alias::StoredMembershipOf<Types>;
pub type Vote = alias::VoteOf<Types>;
pub type LogEntry = alias::EntryOf<Types>;

/// What is proposed. It is void where its entry's term is another: its asker decided by what was applied in that term.
#[derive(Clone, PartialEq, Eq)]
pub struct Judged {
    pub term: u64,
    pub bytes: Bytes,
}

impl fmt::Debug for Judged {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl fmt::Display for Judged {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes judged in term {}", self.bytes.len(), self.term)
    }
}

/// What an entry costs beside its bytes, where bytes are counted.
const ENTRY_BYTES: usize = 32;

/// The size of an entry of `bytes` bytes, where entries are bounded.
pub fn entry_bytes(bytes: usize) -> usize {
    bytes + ENTRY_BYTES
}

/// The size of an entry, where entries are bounded.
pub fn size_of(entry: &LogEntry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(judged) => entry_bytes(judged.bytes.len()),
        EntryPayload::Blank | EntryPayload::Membership(_) => entry_bytes(0),
    }
}

/// Whether the entry was judged in the term it has landed in. Decided by the log alone, so every node says the same.
pub fn is_valid(entry: &LogEntry) -> bool {
    matches!(&entry.payload, EntryPayload::Normal(judged) if judged.term == term_of(&entry.log_id))
}

pub fn term_of(id: &LogId) -> u64 {
    id.leader_id.term
}
