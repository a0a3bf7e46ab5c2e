//! What goes by itself, of topics that several servers hold: by the clock of the server that leads, which puts it to the log.
//!
//! Every server knows what may come due. Who leads decides when it has; another only looks again later, so that one which is elected finds it. What is on its way to the log may
//! change what is due: then it is looked at again too.
//!
//! Where a policy depends on the session that made the topic, the server of that session decides, and has the leader remove it. Policies that depend on how many are subscribed or
//! connected are left: no server knows what all count.

use super::Owner;
use super::forward::removal_of;
use crate::base::{SessionId, ShardIndex, TopicId};
use crate::desk::{Answer, Desk, Role};
use crate::session::Asker;
use crate::topic::path::TopicPath;
use crate::topic::removal::RemovalPolicy;
use crate::topic::tree::Place;

/// What became of a topic whose time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Gone,
    /// It goes when the log says so.
    Going,
    /// Another server decides, or it may be another matter soon.
    Stays,
}

impl Owner {
    /// Removes a topic whose time has come, or has it removed. `is_ours` where this server decides that though another leads.
    pub(super) fn remove_due(&mut self, desk: &mut Desk, place: Place, is_ours: bool) -> Left {
        let path = &self.tree.topic(place).path;
        let Some(group) = desk.groups.of(path.as_str()) else {
            self.remove_topic(desk, place);
            return Left::Gone;
        };
        let path = path.clone();
        self.remove_of_group(desk, group, &path, is_ours)
    }

    pub(super) fn remove_of_group(&mut self, desk: &mut Desk, group: u16, path: &TopicPath, is_ours: bool) -> Left {
        if desk.groups.bytes_under_way(group) > desk.limits.proposed_bytes_max {
            return Left::Stays;
        }
        match desk.groups.role(group) {
            Role::Leads { .. } if self.ahead.find(group, path.as_str()).is_some() => Left::Stays,
            Role::Leads { .. } if self.propose_removal(desk, group, path, None).is_ok() => Left::Going,
            Role::Follows { leader: Some(_) } if is_ours => {
                let id = self.tree.find(path.as_str()).map(|place| self.tree.topic(place).id);
                forward_removal(desk, group, path, id);
                Left::Going
            }
            _ => Left::Stays,
        }
    }

    /// Whether this server is the one that decides on what comes due of the topic at the path.
    pub(super) fn decides_on(&self, desk: &Desk, path: &str, is_ours: bool) -> bool {
        is_ours || desk.groups.of(path).is_none_or(|group| matches!(desk.groups.role(group), Role::Leads { .. }))
    }
}

/// Has the leader of the group remove the topic, if it is this one still. Nobody waits for that.
fn forward_removal(desk: &mut Desk, group: u16, path: &TopicPath, id: Option<TopicId>) {
    let number = desk.groups.forward(desk.turn.now, group, removal_of(path.as_str(), id));
    let from: ShardIndex = desk.identity.index;
    desk.groups.hold_forwarded(group, number, Answer::Update { from, to: Asker::Server });
}

/// Whether the policy of a topic at the path is one that this server looks at.
pub(super) fn looks_at(desk: &Desk, path: &str, policy: &RemovalPolicy, creator: Option<SessionId>) -> bool {
    let is_counted = policy.needs_subscriptions() || !policy.filters().is_empty();
    desk.groups.of(path).is_none() || !is_counted && (!policy.needs_creator() || creator.is_some())
}
