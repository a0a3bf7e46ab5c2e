//! Who leads a group, as the receiver is told.

use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::Instant;
use openraft::metrics::{RaftDataMetrics, RaftServerMetrics};

use super::types::{LogId, Types, term_of};
use super::{GroupId, News, NodeId};

/// What the receiver believes of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Leads { term: u64 },
    Follows { leader: Option<(NodeId, u64)> },
}

/// What there is to know of openraft, and how long a quorum's answer holds.
pub struct Seen<'a> {
    pub server: &'a RaftServerMetrics<Types>,
    pub data: &'a RaftDataMetrics<Types>,
    pub lease: Duration,
}

impl Seen<'_> {
    /// Whether nobody votes but this node.
    pub fn is_alone(&self) -> bool {
        self.server.membership_config.membership().voter_ids().all(|id| id == self.server.id)
    }
}

impl Role {
    /// A leader leads when the first entry of its term is handed on, as `delivered` shows, and a quorum has answered it within the lease, or is itself.
    pub fn of(seen: &Seen<'_>, delivered: Option<LogId>) -> Self {
        let Seen { server, data, lease } = seen;
        if server.state != ServerState::Leader {
            // Where this node has been the leader and is not, who is follows.
            let leader = server.current_leader.filter(|leader| *leader != server.id);
            return Self::Follows { leader: leader.map(|leader| (leader, server.vote.leader_id().term)) };
        }
        let term = server.vote.leader_id().term;
        let is_elected = server.vote.is_committed() && delivered.is_some_and(|id| term_of(&id) == term);
        // Openraft notes no answer where nobody else is asked.
        let is_answered = seen.is_alone() || data.last_quorum_acked.is_some_and(|acked| acked.elapsed() < *lease);
        if is_elected && is_answered { Self::Leads { term } } else { Self::Follows { leader: None } }
    }

    pub fn news(self, group: GroupId, delivered: Option<LogId>) -> News {
        match self {
            Self::Leads { term } => News::Leads { group, term, index: delivered.map_or(0, |id| id.index) },
            Self::Follows { leader } => News::Follows { group, leader },
        }
    }
}
