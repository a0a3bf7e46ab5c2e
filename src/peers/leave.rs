//! How a node leaves: it says so, waits until no group has it as a member, by the word of who leads each, and has left then, for good. Of one that is not
//! there any more another says that it has left.

use std::rc::Rc;
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::sleep;

use crate::consensus::NodeId;

use super::gossip::Leads;
use super::members::Standing;
use super::shared::{Peers, Shared};

/// How often it looks.
const LOOK: Duration = Duration::from_millis(200);

impl Peers {
    /// Begins to leave. It goes on after a restart too; [`Self::groups_of_this_node`] says how far it is.
    ///
    /// # Errors
    /// Where it is the last node, for an operator.
    pub fn leave(&self) -> Result<(), String> {
        let shared = &self.0;
        let me = shared.me();
        if shared.standing() == Some(Standing::Left) {
            return Ok(());
        }
        if !shared.with_members(|members| members.joined().iter().any(|node| *node != me)) {
            return Err("no other node is in the cluster: what this one holds would be lost".to_owned());
        }
        shared.change_members(|members| members.go_on(me, Standing::Leaving));
        if !shared.is_leaving.get() {
            // What was said before does not count.
            *shared.leads.borrow_mut() = Leads::default();
            spawn_local(finish(shared.clone()));
        }
        Ok(())
    }

    /// Has a node left that is gone for good, whose name this is. Groups go on without it where a majority of their voters is there.
    ///
    /// # Errors
    /// Where there is no such node, or it is reached, for an operator.
    pub fn remove(&self, name: &str) -> Result<NodeId, String> {
        let shared = &self.0;
        let node =
            shared.with_members(|members| members.called(name)).ok_or_else(|| format!("no node of the cluster is called `{name}`"))?;
        if self.status().nodes.iter().any(|status| status.node == node && status.is_reachable) {
            return Err(format!("`{name}` is reached: it can leave by itself, so that nothing is lost"));
        }
        tracing::warn!(node, name, "a node is removed from the cluster");
        shared.change_members(|members| members.go_on(node, Standing::Left));
        Ok(node)
    }

    /// The groups that have this node as a member, as far as it has heard from who leads them.
    pub fn groups_of_this_node(&self) -> Vec<u16> {
        groups_with_me(&self.0)
    }
}

fn groups_with_me(shared: &Shared) -> Vec<u16> {
    let leads = shared.leads.borrow();
    let groups = shared.groups().into_iter().map(|status| status.group.0);
    groups.filter(|group| !leads.is_without(*group, shared.me())).collect()
}

/// Waits until the node is a member of no group; then it has left.
pub(super) async fn finish(shared: Rc<Shared>) {
    shared.is_leaving.set(true);
    while shared.standing() == Some(Standing::Leaving) {
        sleep(LOOK).await;
        if groups_with_me(&shared).is_empty() {
            tracing::info!("this node has left the cluster");
            shared.change_members(|members| members.go_on(shared.me(), Standing::Left));
        }
    }
    shared.is_leaving.set(false);
}
