//! A leader whose store cannot write hands over, since all that it judges would be refused while another could take it.

use std::time::Duration;

use openraft::async_runtime::Instant;
use openraft::metrics::{RaftDataMetrics, RaftServerMetrics};

use super::NodeId;
use super::types::Types;

/// Whom to hand a group to that this node leads: of the voters that have answered it within the lease, the one that has most of the log, so that it has
/// the least to wait for; of several the first. `None` where no other has.
pub fn heir(server: &RaftServerMetrics<Types>, data: &RaftDataMetrics<Types>, lease: Duration) -> Option<NodeId> {
    let (replication, heartbeat) = (data.replication.as_ref()?, data.heartbeat.as_ref()?);
    let has_answered = |id: &NodeId| heartbeat.get(id).copied().flatten().is_some_and(|at| at.elapsed() < lease);
    let others = server.membership_config.membership().voter_ids().filter(|id| *id != server.id && has_answered(id));
    others.max_by_key(|id| (replication.get(id).copied().flatten(), std::cmp::Reverse(*id)))
}
