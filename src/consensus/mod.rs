//! Openraft on the background thread: a few groups, what each has committed in order, who leads.
//!
//! It knows no topic: an entry is bytes. Whoever runs the state machine is the receiver: it is told [`News`] by a callback and answers by a [`Handle`],
//! which never waits. What holds, whatever is lost, late or restarted, while a majority of a group's voters keeps its log and its vote:
//!
//! - All nodes are told the same entry at the same index, in order, without gaps; after a start, from behind the state that the node was started with.
//! - An entry is void if it lands in another term than it was judged in. The log alone decides that, so all nodes say the same.
//! - Who leads is told only when a quorum has elected it and all of the log before its term has been handed on: it may judge at once. It is taken
//!   back when no quorum has answered it for the longest election timeout, while another may lead already.
//! - Each entry that was proposed here comes back once: with its ticket among what is committed, void or not, or as [`News::Lost`].
//!
//! ```text
//! Handle ─▶ bounded queue of each group ─▶ openraft ─▶ log, network
//! receiver ◀─ News, as far as its window is open ◀─ what is committed
//! ```
//! `codec.rs` is what leaves the process, as bytes. All of it runs on one thread, in one task set; rules outside this room are not async. Of openraft:
//! pre-vote is on, so a node that was cut off does not unseat a leader; `enable_leader_restore` is off, since a restarted leader has to be elected;
//! `allow_log_reversion` is off, so a node that lost its log must come back under a new id. A term has one leader (`leader_id_std`). A group is one `Raft`;
//! groups share what carries their messages. Chance, which is when elections begin, is drawn from [`Options::seed`].
//!
//! Loops here are over the groups, the entries of one proposal or news, or the pieces of one snapshot; what each may be bounds [`Options`].

mod codec;
mod engine;
mod freshness;
mod group;
mod handle;
mod log;
mod machine;
mod members;
mod network;
mod reply;
mod role;
mod runtime;
#[cfg(test)]
mod tests;
mod types;
mod yielding;

pub use engine::{Engine, Start, start};
pub use handle::{Asker, Handle};
pub use log::Log;
pub use members::{GroupStatus, MembersChange};
pub use network::{Answer, Asking, Dial, Inbox, Lane, Request, Unreached};

use bytes::Bytes;

pub use types::entry_bytes;
use types::{LogId, Membership};

/// A node of the cluster. Never used again for a node that has lost its log.
pub type NodeId = u64;

/// A group of this node: less than `groups` of [`Options`], or [`Options::slow_group`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u16);

/// How an engine runs. Every limit has its default in [`Options::new`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    pub node: NodeId,
    /// Groups beside the one for slow state. The same at all nodes, for as long as the cluster lives. Each costs heartbeats and ticks even when idle.
    pub groups: u16,
    /// How often a leader says that it lives. More often costs messages: one to each node and group.
    pub heartbeat_ms: u64,
    /// After so long without a leader an election begins, drawn anew each time from `min..max`. Shorter costs elections that nothing has called for, when
    /// a thread waits for its core. `max` is also how long a leader is believed in without a quorum's answer.
    pub election_ms: (u64, u64),
    /// When what is committed and not handed on may be older than this, the receiver is told so. Longer than an election, or each election says it.
    pub stale_ms: u64,
    /// A message holds entries of about this many bytes, or one that is longer; so do [`News::Committed`]. More delays what comes behind it.
    pub append_bytes_max: usize,
    /// A message holds at most so many entries.
    pub append_entries_max: u64,
    /// Proposals that may wait at each group; each holds its entries in memory. When they are so many, proposals are given back.
    pub queue_proposals_max: usize,
    /// Of each group, the bytes of proposed entries whose fate is open; more wait in the queue. A leader without a quorum holds so much that it may have to cut.
    pub open_bytes_max: usize,
    /// How many bytes of committed entries a group hands on before the receiver says that it has taken them; the rest waits in the log.
    pub window_bytes: usize,
    /// When a group's log has more bytes than these and [`Self::kept_bytes`], the receiver is asked for a snapshot. At four times as many it is told to hurry. More takes memory.
    pub snapshot_bytes: usize,
    /// Bytes of entries that stay in the log though a snapshot covers them, for nodes that are a little behind: who is further behind is sent the snapshot.
    pub kept_bytes: usize,
    /// How long a receiver's question to another node waits for its answer.
    pub answer_ms: u64,
    /// How long one piece of a snapshot may take until it is staged, and all of it until it is installed. Longer delays the next attempt.
    pub snapshot_piece_ms: u64,
    /// Where the chance of elections comes from. Two nodes with the same seed may begin their elections at the same moments.
    pub seed: u64,
}

impl Options {
    /// The defaults.
    pub fn new(node: NodeId, seed: u64) -> Self {
        Self {
            node,
            groups: 12,
            heartbeat_ms: 100,
            election_ms: (300, 600),
            stale_ms: 3000,
            append_bytes_max: 1 << 20,
            append_entries_max: 4096,
            queue_proposals_max: 1024,
            open_bytes_max: 16 << 20,
            window_bytes: 16 << 20,
            snapshot_bytes: 8 << 20,
            kept_bytes: 4 << 20,
            answer_ms: 30_000,
            snapshot_piece_ms: 10_000,
            seed,
        }
    }

    /// The group of what changes seldom.
    pub fn slow_group(&self) -> GroupId {
        GroupId(self.groups)
    }

    /// All groups, the slow one last.
    pub fn all_groups(&self) -> impl Iterator<Item = GroupId> + use<> {
        (0..=self.groups).map(GroupId)
    }
}

/// Entries that are to be committed, in order, as far as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    pub group: GroupId,
    /// The term that the entries were judged in, as [`News::Leads`] said.
    pub term: u64,
    /// The first entry's, which its asker knows it by; the others follow it by one each.
    pub ticket: u64,
    pub entries: Vec<Bytes>,
}

/// What became of what was proposed, at one place of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// The ticket is there at the node that proposed it, unless its fate was said to be unknown.
    Entry { term: u64, bytes: Bytes, ticket: Option<u64> },
    /// It has landed in another term than it was judged in. It is applied nowhere.
    Void { ticket: Option<u64> },
    /// An entry of openraft's own: a term's first, or a change of members.
    Nothing,
}

/// Why no more is heard of a proposed entry by its ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was never in any log, and never will be.
    NotCommitted,
    /// It may be committed, now or later. Where it is, it comes without its ticket.
    Unknown,
}

/// How far a state goes: the last entry it holds, and the members as of that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    id: Option<LogId>,
    membership: Membership,
}

impl Position {
    /// The index of the last entry; `None` before the first.
    pub fn index(&self) -> Option<u64> {
        self.id.map(|id| id.index)
    }
}

/// One piece of a group's whole state, which travels as one message: at most 1 MiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub bytes: Bytes,
    pub is_last: bool,
}

/// What the receiver is told, on the engine's thread, in the order it happened. It must not wait there.
#[derive(Clone, Debug)]
pub enum News {
    /// Entries, each with its [place](crate::cluster::place), which ascend. `bytes` are to be given back by [`Handle::took`].
    Committed { group: GroupId, entries: Vec<(u64, Committed)>, bytes: usize },
    /// This node leads. All up to `index`, which is in this term, has been handed on. The same term may come again, after a time without a quorum: what
    /// was proposed in it and is not lost still goes before what is proposed now.
    Leads { group: GroupId, term: u64, index: u64 },
    /// This node does not lead, or not any more; who does, in which term, where that is known. Nothing is judged any more; what was proposed may still be committed.
    Follows { group: GroupId, leader: Option<(NodeId, u64)> },
    /// What this node has been told of the group is not known to be all that was committed [`Options::stale_ms`] ago; or it is again. Not known is where it begins.
    Fresh { group: GroupId, is_fresh: bool },
    /// This node, whose store cannot write or which is about to end, leads on: nobody else votes.
    Heirless { group: GroupId },
    /// An entry that was proposed here is not committed, or nobody knows.
    Lost { group: GroupId, ticket: u64, fate: Fate },
    /// A snapshot is wanted that goes further than `beyond`, which the last one was at; what has been handed on so far `position` names. Answered by [`Handle::built`], once it is kept. It
    /// is read piece by piece, each time a node needs it, until another takes its place.
    Build { group: GroupId, position: Position, beyond: Option<u64> },
    /// The log takes much memory until a snapshot is there that has been asked for.
    Hurry { group: GroupId, position: Position },
    /// The piece `number` of the snapshot is wanted, from 0. Answered by [`Handle::read`] with the same `reader`.
    Read { group: GroupId, position: Position, number: u64, reader: u64 },
    /// A piece of another node's snapshot, in order; 0 is the first of another one, and whatever came before is forgotten. Answered by
    /// [`Handle::staged`]; the next comes after that.
    Piece { group: GroupId, position: Position, number: u64, bytes: Bytes },
    /// What the last pieces hold takes the place of the group's whole state. Answered by [`Handle::installed`], once it is kept; nothing is handed on
    /// before, and this node answers nobody in the group, so most of the work is better done with the pieces.
    Install { group: GroupId, position: Position },
    /// The receiver of another node asks this one, by [`Handle::ask`]. Answered by [`Handle::answer`] with the same `call`.
    Asked { group: GroupId, call: u64, bytes: Bytes },
    /// What another node's receiver has answered, or why it has not.
    Answered { group: GroupId, ticket: u64, answer: Result<Bytes, Unreached> },
    /// The members are as [`Handle::add_learner`], [`Handle::set_voters`] or [`Inbox::change`] said, or are not, with the reason.
    Members { group: GroupId, outcome: Result<(), String> },
    /// The group has ended, by an error of its storage or of openraft. Nothing more comes.
    Ended { group: GroupId, reason: String },
}
