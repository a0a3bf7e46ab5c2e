//! What an operator may see of a server and have it do.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::consensus::{GroupStatus, MembersChange, NodeId};

use super::control::{Answer, Command};
use super::hello::LaneName;
use super::members::{Members, Standing};
use super::shared::Peers;

/// What an operator is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub cluster: u64,
    /// Whose view it is.
    pub node: NodeId,
    pub nodes: Vec<NodeStatus>,
    pub groups: Vec<GroupLine>,
    /// Whom this node has refused lately, and why; the newest last.
    pub refused: Vec<String>,
}

/// One node, as this one sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    pub node: NodeId,
    pub name: String,
    pub address: String,
    pub standing: Standing,
    /// This node reaches it; itself always.
    pub is_reachable: bool,
    /// Since when it is reachable, or is not, by the wall clock in milliseconds since the epoch.
    pub since_ms: u64,
    /// Why it is not reached.
    pub trouble: Option<String>,
}

/// One group, as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupLine {
    pub group: u16,
    pub leader: Option<NodeId>,
    pub term: u64,
    /// The last entry that is applied here.
    pub index: Option<u64>,
    /// Those that vote whatever is lost now. Who is about to is among the learners.
    pub voters: Vec<NodeId>,
    pub learners: Vec<NodeId>,
}

impl Peers {
    pub fn status(&self) -> Status {
        let shared = &self.0;
        let me = shared.me();
        let nodes = shared.with_members(|members| {
            let status = members.iter().map(|(node, member)| {
                let link = shared.links.borrow().get(&(node, LaneName::Heartbeat)).map(|(link, _)| link.clone());
                let (is_reachable, since_ms, trouble) = link.map_or((node == me, shared.started_ms, None), |link| link.seen());
                let (name, address, standing) = (member.name.clone(), member.address.clone(), member.standing);
                NodeStatus { node, name, address, standing, is_reachable, since_ms, trouble }
            });
            status.collect()
        });
        let groups = self.groups().into_iter().map(GroupLine::of).collect();
        let refused = shared.refused.borrow().iter().cloned().collect();
        Status { cluster: shared.home.identity.cluster, node: me, nodes, groups, refused }
    }

    /// Has the node of that name lead the group, or all groups that this node leads. Says which of them it is to lead.
    ///
    /// # Errors
    /// Where there is no such node, or this one leads none of them, for an operator.
    pub fn transfer(&self, group: Option<u16>, to: &str) -> Result<Vec<u16>, String> {
        let shared = &self.0;
        let to = shared.with_members(|members| members.called(to)).ok_or_else(|| format!("no node of the cluster is called `{to}`"))?;
        let inbox = shared.inbox().ok_or("the server has not begun yet")?;
        let statuses = inbox.statuses();
        let meant: Vec<_> = statuses.iter().filter(|status| group.is_none_or(|group| group == status.group.0)).collect();
        let leads = |status: &&&GroupStatus| status.is_leader && to != shared.me();
        let able: Vec<_> = meant.iter().filter(leads).filter(|status| status.voters.contains(&to)).collect();
        if able.is_empty() {
            return Err(shared.with_members(|members| why_not(&meant, to, members)));
        }
        able.iter().for_each(|status| inbox.change(status.group, MembersChange::Transfer(to)));
        Ok(able.iter().map(|status| status.group.0).collect())
    }
}

/// Why none of the groups can be handed over here.
fn why_not(meant: &[&GroupStatus], to: NodeId, members: &Members) -> String {
    match meant {
        [] => "there is no such group".to_owned(),
        all if all.iter().any(|status| status.is_leader) => "it is no voter of the group yet, or leads it already".to_owned(),
        [status, ..] => {
            let leader = status.leader.and_then(|leader| members.get(leader)).map_or("nobody", |member| &member.name);
            let is_done =
                if status.leader == Some(to) { ", as it is to be" } else { "; a leader hands over by this command in its own directory" };
            format!("this node leads none of them: {leader} leads group {}{is_done}", status.group.0)
        }
    }
}

impl GroupLine {
    fn of(status: GroupStatus) -> Self {
        let GroupStatus { group, leader, term, index, voters, settled, learners, .. } = status;
        let learners = voters.union(&learners).filter(|node| !settled.contains(node)).copied().collect();
        Self { group: group.0, leader, term, index, voters: settled.into_iter().collect(), learners }
    }
}

/// Carries out what came by the control socket.
pub fn carry_out(peers: &Peers, command: Command) -> Answer {
    match command {
        Command::Status => serde_json::to_value(peers.status()).map_err(|error| error.to_string()),
        Command::Leave => {
            peers.leave()?;
            let has_left = peers.0.standing() == Some(Standing::Left);
            Ok(json!({ "has_left": has_left, "groups": if has_left { Vec::new() } else { peers.groups_of_this_node() } }))
        }
        Command::Remove { name } => peers.remove(&name).map(|node| json!({ "node": node })),
        Command::Transfer { group, to } => peers.transfer(group, &to).map(|groups| json!({ "groups": groups })),
    }
}
