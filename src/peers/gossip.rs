//! What nodes tell each other of the cluster, unasked: who is in it, and who the members of groups are by who leads them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::consensus::{GroupStatus, NodeId};

use super::members::{MEMBERS_MAX, Members};

/// Groups that are told of in one message.
const GROUPS_MAX: usize = 1024;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gossip {
    pub members: Members,
    /// The groups that who speaks leads.
    #[serde(default)]
    pub leads: Vec<Led>,
}

/// A group, by the word of who leads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Led {
    pub group: u16,
    pub term: u64,
    /// Voters and learners, as they are committed.
    pub members: BTreeSet<NodeId>,
}

/// What leaders have said last, of each group by the highest term.
#[derive(Debug, Default)]
pub struct Leads(BTreeMap<u16, Led>);

impl Gossip {
    /// `None` where it is nothing that a node says.
    pub fn read(body: &[u8]) -> Option<Self> {
        let gossip: Self = serde_json::from_slice(body).ok()?;
        let is_bounded = gossip.leads.len() <= GROUPS_MAX && gossip.leads.iter().all(|led| led.members.len() <= MEMBERS_MAX);
        (gossip.members.is_valid() && is_bounded).then_some(gossip)
    }
}

impl Led {
    /// `None` where the node does not lead the group, or its members are about to change.
    pub fn of(status: &GroupStatus) -> Option<Self> {
        let is_settled = status.is_leader && !status.is_changing && !status.is_joint;
        let members = status.voters.union(&status.learners).copied().collect();
        is_settled.then_some(Self { group: status.group.0, term: status.term, members })
    }
}

impl Leads {
    pub fn note(&mut self, led: Led) {
        if led.group as usize >= GROUPS_MAX {
            return;
        }
        let is_newer = self.0.get(&led.group).is_none_or(|known| known.term <= led.term);
        if is_newer {
            self.0.insert(led.group, led);
        }
    }

    /// Whether who leads the group has said that the node is no member of it.
    pub fn is_without(&self, group: u16, node: NodeId) -> bool {
        self.0.get(&group).is_some_and(|led| !led.members.contains(&node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_of_an_earlier_leader_does_not_count() {
        let led = |term, members: &[NodeId]| Led { group: 3, term, members: members.iter().copied().collect() };
        let mut leads = Leads::default();
        assert!(!leads.is_without(3, 1), "nobody has said so");
        leads.note(led(2, &[1, 2]));
        leads.note(led(1, &[2]));
        assert!(!leads.is_without(3, 1));
        leads.note(led(2, &[2]));
        assert!(leads.is_without(3, 1));
        assert!(!leads.is_without(4, 1));
    }

    #[test]
    fn what_no_node_says_is_not_read() {
        let gossip = Gossip { members: Members::default(), leads: vec![Led { group: 1, term: 1, members: [1].into() }] };
        assert_eq!(Gossip::read(&serde_json::to_vec(&gossip).unwrap()), Some(gossip));
        for body in ["", "{}", r#"{"members":{"1":{"name":"","address":"a:1","address_version":1,"joined_ms":1}}}"#] {
            assert_eq!(Gossip::read(body.as_bytes()), None, "{body}");
        }
    }
}
