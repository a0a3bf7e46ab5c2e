//! The groups at work: what this shard has decided on its way to their logs, and what the logs say on its way to topics.

use super::Shard;
use crate::base::Time;
use crate::cluster::{Entry, MalformedEntry, topic_id};
use crate::desk::{Fate, Proposal, Proposed, Role};

/// A shard as whoever carries its groups' logs sees it. After each method poll the shard as ever.
pub struct Replication<'s> {
    shard: &'s mut Shard,
}

impl<'s> Replication<'s> {
    pub fn of(shard: &'s mut Shard, now: Time) -> Self {
        shard.desk.turn.now = now;
        Self { shard }
    }

    /// Topics more than there are now, once all that was decided here is applied.
    pub fn topics_ahead(&self) -> isize {
        self.shard.owner.ahead().more()
    }

    /// What is to be put to logs, in order.
    pub fn poll_proposals(&mut self) -> Option<Vec<Proposal>> {
        self.shard.desk.groups.poll_proposals()
    }

    /// Proposals that there was no room for come back, in front of what came since.
    pub fn return_proposals(&mut self, proposals: Vec<Proposal>) {
        self.shard.desk.groups.return_proposals(proposals);
    }

    /// This server leads the group from now on, of whose log all before the term is applied here; or it does not, and what was decided here and is not applied
    /// may never be. Who waits for that is told once its fate is known.
    pub fn handle_role(&mut self, group: u16, role: Role) {
        let Shard { desk, owner, .. } = &mut *self.shard;
        desk.groups.set_role(group, role);
        owner.forget_proposed(group);
    }

    /// The log of a group says this at `index`, of a topic of this shard; `own` is the number that the shard has proposed it by in this run. Entries of a group come
    /// in the order of the log. An error says that this version does not know what the entry says: nothing behind it may be applied.
    pub fn handle_entry(&mut self, (group, index): (u16, u64), own: Option<u64>, entry: &[u8]) -> Result<(), MalformedEntry> {
        let entry = Entry::decode(entry)?;
        let Shard { desk, owner, .. } = &mut *self.shard;
        let id = topic_id(group, desk.groups.count(), index);
        let own = own.map(|number| Proposed { group, number });
        owner.apply_entry(desk, (group, id), own, &entry);
        self.shard.settle();
        if let Some(own) = own {
            self.settle(own);
        }
        Ok(())
    }

    /// A proposal without an entry: this server led the group when all before it was applied.
    pub fn handle_confirmed(&mut self, group: u16, number: u64) {
        self.settle(Proposed { group, number });
    }

    /// The proposals up to this one that were not applied never will be, or it is not known.
    pub fn handle_lost(&mut self, group: u16, last: u64, fate: Fate) {
        for (answer, refusal) in self.shard.desk.groups.note_lost(group, last, fate) {
            self.shard.give(answer, Err(refusal));
        }
        self.shard.settle();
    }

    fn settle(&mut self, proposed: Proposed) {
        self.shard.desk.groups.note_applied(proposed);
        // Publishers are not read where more than `limits.mail_high` answers wait.
        while let Some((answer, result)) = self.shard.desk.groups.poll_settled(proposed.group) {
            self.shard.give(answer, result);
        }
        self.shard.settle();
    }
}
