//! Who a group's members are, as this node knows it, and how that is changed.
//!
//! One change is made at a time. Whoever asks for another meanwhile is told by [`News::Members`] that it is refused, as [`GroupStatus::is_changing`] said.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use openraft::async_runtime::Instant;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::{ChangeMembers, Raft, ServerState};

use super::group::Group;
use super::machine::Machine;
use super::types::Types;
use super::{GroupId, Inbox, News, NodeId};

/// A member that lacks at most so many entries has caught up: it gets those while others are written.
const BEHIND_ENTRIES_MAX: u64 = 1000;

/// A group as this node sees it now, which another may see otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStatus {
    pub group: GroupId,
    pub leader: Option<NodeId>,
    /// This node leads, or believes so.
    pub is_leader: bool,
    pub term: u64,
    /// The last entry that this node has applied.
    pub index: Option<u64>,
    /// While one set takes another's place, those of both.
    pub voters: BTreeSet<NodeId>,
    /// Those that stand whatever is lost now: of each set where one takes another's place, as far as that is committed.
    pub settled: BTreeSet<NodeId>,
    pub learners: BTreeSet<NodeId>,
    /// Of the members those that lack little of the log and have answered within the longest election timeout; none where this node does not lead. A vote
    /// of a node that is not there would stand in the way of others.
    pub caught_up: BTreeSet<NodeId>,
    /// A change of members is not committed yet.
    pub is_changing: bool,
    /// One set of voters takes another's place, half way.
    pub is_joint: bool,
}

/// What of a group's members is to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembersChange {
    /// It is sent everything from now on.
    AddLearner(NodeId),
    RemoveLearner(NodeId),
    /// Each is a member already. Voters that are not among them are members no more.
    SetVoters(BTreeSet<NodeId>),
    /// It leads, once it has the whole log. No change of members, and no news comes of it.
    Transfer(NodeId),
}

impl Inbox {
    /// All groups, in order.
    pub fn statuses(&self) -> Vec<GroupStatus> {
        self.groups().map(|(group, raft)| status(group.id, raft)).collect()
    }

    /// Changes the members of a group that this node leads. What has become of it is told by [`News::Members`].
    pub fn change(&self, group: GroupId, change: MembersChange) {
        if let Some((group, raft)) = self.groups().nth(usize::from(group.0)) {
            tokio::task::spawn_local(make(group.clone(), raft.clone(), change));
        }
    }
}

/// Makes a change and tells what has become of it.
pub(super) async fn make(group: Rc<Group>, raft: Raft<Types, Machine>, change: MembersChange) {
    let result = match change {
        MembersChange::AddLearner(node) => raft.add_learner(node, (), false).await,
        MembersChange::RemoveLearner(node) => raft.change_membership(ChangeMembers::RemoveNodes(BTreeSet::from([node])), false).await,
        MembersChange::SetVoters(voters) => raft.change_membership(voters, false).await,
        // A group that has ended has said so.
        MembersChange::Transfer(to) => return drop(raft.trigger().transfer_leader(to).await),
    };
    group.tell(News::Members { group: group.id, outcome: result.map(drop).map_err(|error| error.to_string()) });
}

fn status(group: GroupId, raft: &Raft<Types, Machine>) -> GroupStatus {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    let members = metrics.membership_config.membership();
    let voters: BTreeSet<NodeId> = members.voter_ids().collect();
    let needed = metrics.last_log_index.unwrap_or(0).saturating_sub(BEHIND_ENTRIES_MAX);
    let recently = Duration::from_millis(raft.config().election_timeout_max);
    let answered = metrics.heartbeat.iter().flatten().filter(|(_, at)| at.is_some_and(|at| at.elapsed() < recently)).map(|(node, _)| *node);
    let answered: BTreeSet<NodeId> = answered.collect();
    let matched = metrics.replication.iter().flatten().filter(|(_, id)| id.is_some_and(|id| id.index >= needed)).map(|(node, _)| *node);
    GroupStatus {
        group,
        leader: metrics.current_leader,
        is_leader: metrics.state == ServerState::Leader,
        term: metrics.current_term,
        index: metrics.last_applied.map(|id| id.index),
        learners: members.learner_ids().collect(),
        settled: settled(metrics.committed_membership_config.membership().get_joint_config()),
        voters,
        caught_up: matched.filter(|node| answered.contains(node)).collect(),
        is_changing: metrics.membership_config.log_id() != metrics.committed_membership_config.log_id(),
        is_joint: members.get_joint_config().len() > 1,
    }
}

/// The nodes that are in each of the sets.
fn settled(sets: &[BTreeSet<NodeId>]) -> BTreeSet<NodeId> {
    let Some((first, others)) = sets.split_first() else { return BTreeSet::new() };
    first.iter().filter(|node| others.iter().all(|set| set.contains(node))).copied().collect()
}
