//! What the leader of a group does next, so that the group's members become those of the cluster: one step at a time.
//!
//! A node is a learner first, and votes once it has caught up. A node that the table does not know stays what it is: the table may be behind.

use std::collections::BTreeSet;

use crate::consensus::{GroupStatus, MembersChange, NodeId};

use super::members::{Members, Standing};

/// The next change of a group that this node leads; `None` where all is as it should be, or a change is under way.
pub fn next_change(group: &GroupStatus, me: NodeId, members: &Members) -> Option<MembersChange> {
    if !group.is_leader || group.is_changing {
        return None;
    }
    let is_member = |node: &NodeId| group.voters.contains(node) || group.learners.contains(node);
    let voters = voters(group, members);
    // What is half changed, since another leader had begun it, is changed to its end.
    if (group.voters != voters || group.is_joint) && !voters.is_empty() {
        // Who leads hands that over before it ceases to vote.
        if !voters.contains(&me) {
            return voters
                .iter()
                .copied()
                .find(|node| group.voters.contains(node) && group.caught_up.contains(node))
                .map(MembersChange::Transfer);
        }
        return Some(MembersChange::SetVoters(voters));
    }
    if let Some(node) = members.joined().iter().find(|node| !is_member(node)) {
        return Some(MembersChange::AddLearner(*node));
    }
    group.learners.iter().find(|node| is_going(**node, members)).map(|node| MembersChange::RemoveLearner(*node))
}

/// Who is to vote, of those that can.
fn voters(group: &GroupStatus, members: &Members) -> BTreeSet<NodeId> {
    let wanted = members.voters();
    let stay = group.voters.iter().filter(|node| wanted.contains(node) || members.get(**node).is_none());
    let come = wanted.iter().filter(|node| group.learners.contains(node) && group.caught_up.contains(node));
    stay.chain(come).copied().collect()
}

fn is_going(node: NodeId, members: &Members) -> bool {
    members.get(node).is_some_and(|member| member.standing != Standing::Joined)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::GroupId;
    use crate::peers::members::Member;
    use MembersChange::{AddLearner, RemoveLearner, SetVoters, Transfer};

    /// Nodes that joined in the order of their ids.
    fn table(joined: &[NodeId], leaving: &[NodeId]) -> Members {
        let member = |standing| {
            move |node: &NodeId| {
                (*node, Member { name: format!("n{node}"), address: "a:1".to_owned(), address_version: 1, joined_ms: *node, standing })
            }
        };
        joined.iter().map(member(Standing::Joined)).chain(leaving.iter().map(member(Standing::Leaving))).collect()
    }

    /// A group that node 1 leads.
    fn group(voters: &[NodeId], learners: &[NodeId], behind: &[NodeId]) -> GroupStatus {
        let all = voters.iter().chain(learners);
        GroupStatus {
            group: GroupId(0),
            leader: Some(1),
            is_leader: true,
            term: 1,
            index: Some(1),
            voters: voters.iter().copied().collect(),
            settled: voters.iter().copied().collect(),
            learners: learners.iter().copied().collect(),
            caught_up: all.filter(|node| !behind.contains(node)).copied().collect(),
            is_changing: false,
            is_joint: false,
        }
    }

    fn check(group: &GroupStatus, members: &Members, expected: Option<MembersChange>) {
        assert_eq!(next_change(group, 1, members), expected, "{group:?}");
    }

    #[test]
    fn a_node_learns_first_and_votes_once_it_has_caught_up() {
        let members = table(&[1, 2], &[]);
        check(&group(&[1], &[], &[]), &members, Some(AddLearner(2)));
        check(&group(&[1], &[2], &[2]), &members, None);
        check(&group(&[1], &[2], &[]), &members, Some(SetVoters([1, 2].into())));
        check(&group(&[1, 2], &[], &[]), &members, None);
    }

    #[test]
    fn the_sixth_node_learns() {
        let members = table(&[1, 2, 3, 4, 5, 6], &[]);
        check(&group(&[1, 2, 3, 4, 5], &[], &[]), &members, Some(AddLearner(6)));
        check(&group(&[1, 2, 3, 4, 5], &[6], &[]), &members, None);
        check(&group(&[1, 2, 3, 4, 5], &[6], &[]), &table(&[1, 2, 3, 4, 6], &[5]), Some(SetVoters([1, 2, 3, 4, 6].into())));
    }

    #[test]
    fn a_node_that_leaves_votes_no_more_and_then_learns_no_more() {
        let members = table(&[1, 2], &[3]);
        check(&group(&[1, 2, 3], &[], &[]), &members, Some(SetVoters([1, 2].into())));
        check(&group(&[1, 2], &[3], &[]), &members, Some(RemoveLearner(3)));
    }

    #[test]
    fn a_leader_that_leaves_hands_over_to_who_has_caught_up() {
        let members = table(&[2, 3], &[1]);
        check(&group(&[1, 2, 3], &[], &[2]), &members, Some(Transfer(3)));
        check(&group(&[1, 2, 3], &[], &[2, 3]), &members, None);
        check(&group(&[1], &[], &[]), &table(&[], &[1]), None);
        check(&group(&[1], &[2], &[2]), &table(&[2], &[1]), None);
    }

    #[test]
    fn a_change_is_brought_to_its_end_before_another_and_only_by_who_leads() {
        let members = table(&[1, 2], &[]);
        check(&GroupStatus { is_changing: true, ..group(&[1], &[], &[]) }, &members, None);
        check(&GroupStatus { is_joint: true, ..group(&[1, 2], &[], &[]) }, &members, Some(SetVoters([1, 2].into())));
        check(&GroupStatus { is_leader: false, ..group(&[1], &[], &[]) }, &members, None);
    }

    #[test]
    fn a_voter_that_the_table_does_not_know_stays() {
        check(&group(&[1, 9], &[], &[]), &table(&[1], &[]), None);
        check(&group(&[1], &[9], &[]), &table(&[1], &[]), None);
    }
}
