//! The groups that topics are replicated in, as one shard knows them: which this server leads, what it has put to their logs, and who waits for that.
//!
//! A shard puts what it has decided to a group's log as a numbered proposal and waits for nothing. An answer is held until the proposal is applied; also one that
//! nothing was changed, or that something is refused: who decided it may not lead any more, and would not know what another has changed. Such an answer waits for a
//! proposal without an entry, which is answered once it is certain that this server leads and that everything before is applied.
//!
//! Proposals of a shard to one group are applied in the order of their numbers, or not at all.

use super::Answer;
use crate::base::placement::group_of;
use crate::protocol::{ErrorCode, Refusal};
use crate::wire::native::Outcome;
use std::collections::VecDeque;

/// Who decides what becomes of a group's topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Another server, or nobody.
    Follows,
    /// This one, since the log was applied up to where the term began.
    Leads { term: u64 },
}

/// What a shard puts to a group's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    pub group: u16,
    /// The term that it was decided in. Where it lands in another it is void.
    pub term: u64,
    /// Ascends by one for each of the shard to the group.
    pub number: u64,
    /// `None` where only the order matters: it is applied when all before is, and this server still leads.
    pub entry: Option<Vec<u8>>,
}

/// What became of proposals that were not applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// They are void, and never will be.
    Void,
    /// They may have been applied, or may be yet.
    Unknown,
}

/// Which proposal an answer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposed {
    pub group: u16,
    pub number: u64,
}

/// See the module. Without groups the server stands alone.
pub struct Groups {
    groups: Vec<Group>,
    unsent: Vec<Proposal>,
}

struct Group {
    role: Role,
    /// The number of the newest proposal.
    proposed: u64,
    /// All up to this one are applied, or never will be.
    settled: u64,
    /// The clock of the newest entry.
    time_ms: u64,
    /// Bounded as those that wait for storage are: the shard stops reading its clients.
    held: VecDeque<(u64, Answer, Result<Outcome, Refusal>)>,
}

impl Groups {
    pub fn new(count: u16) -> Self {
        let group = || Group { role: Role::Follows, proposed: 0, settled: 0, time_ms: 0, held: VecDeque::new() };
        Self { groups: std::iter::repeat_with(group).take(usize::from(count)).collect(), unsent: Vec::new() }
    }

    pub fn count(&self) -> u16 {
        self.groups.len() as u16
    }

    /// The group that what is at the path is replicated in; `None` where the server stands alone, and for what each server has for itself.
    pub fn of(&self, path: &str) -> Option<u16> {
        group_of(path, self.count())
    }

    pub fn role(&self, group: u16) -> Role {
        self.groups[usize::from(group)].role
    }

    /// Somebody else decides from now on, or this server.
    pub fn set_role(&mut self, group: u16, role: Role) {
        self.groups[usize::from(group)].role = role;
    }

    /// The clock of the next entry: that of the host, but never before the entry before.
    pub fn take_time_ms(&mut self, group: u16, wall_ms: u64) -> u64 {
        let time_ms = &mut self.groups[usize::from(group)].time_ms;
        *time_ms = wall_ms.max(*time_ms);
        *time_ms
    }

    /// An entry is applied whose clock said this.
    pub fn note_time_ms(&mut self, group: u16, entry_ms: u64) {
        let time_ms = &mut self.groups[usize::from(group)].time_ms;
        *time_ms = entry_ms.max(*time_ms);
    }

    /// Puts an entry to the log of a group that this server leads.
    pub fn propose(&mut self, group: u16, term: u64, entry: Option<Vec<u8>>) -> Proposed {
        let at = &mut self.groups[usize::from(group)];
        at.proposed += 1;
        let number = at.proposed;
        self.unsent.push(Proposal { group, term, number, entry });
        Proposed { group, number }
    }

    /// What was proposed since the last time, in order.
    pub fn poll_proposals(&mut self) -> Option<Vec<Proposal>> {
        if self.unsent.is_empty() { None } else { Some(std::mem::take(&mut self.unsent)) }
    }

    /// Proposals that there was no room for come back, in front of what came since.
    pub fn return_proposals(&mut self, proposals: Vec<Proposal>) {
        let newer = std::mem::replace(&mut self.unsent, proposals);
        self.unsent.extend(newer);
    }

    /// Proposals that were not taken, and answers that wait for one.
    pub fn waiting(&self) -> usize {
        // As many as there are groups, a handful.
        self.unsent.len().max(self.groups.iter().map(|group| group.held.len()).sum())
    }

    /// Holds an answer until the proposal is settled; gives it back where it is.
    pub fn hold(
        &mut self,
        proposed: Proposed,
        answer: Answer,
        result: Result<Outcome, Refusal>,
    ) -> Option<(Answer, Result<Outcome, Refusal>)> {
        let group = &mut self.groups[usize::from(proposed.group)];
        if proposed.number <= group.settled {
            return Some((answer, result));
        }
        group.held.push_back((proposed.number, answer, result));
        None
    }

    /// This one is applied, and with it all of the shard before it.
    pub fn note_applied(&mut self, proposed: Proposed) {
        let group = &mut self.groups[usize::from(proposed.group)];
        group.settled = group.settled.max(proposed.number);
    }

    /// The next answer that waited for what is settled.
    pub fn poll_settled(&mut self, group: u16) -> Option<(Answer, Result<Outcome, Refusal>)> {
        let group = &mut self.groups[usize::from(group)];
        group.held.front().filter(|(number, ..)| *number <= group.settled)?;
        group.held.pop_front().map(|(_, answer, result)| (answer, result))
    }

    /// The proposals from this one on, up to `last`, are not applied: the answers that waited, with what is said to them.
    pub fn note_lost(&mut self, group: u16, last: u64, fate: Fate) -> Vec<(Answer, Refusal)> {
        let at = &mut self.groups[usize::from(group)];
        at.settled = at.settled.max(last);
        let mut lost = Vec::new();
        while at.held.front().is_some_and(|(number, ..)| *number <= last) {
            let (_, answer, _) = at.held.pop_front().expect("it was just there");
            lost.push((answer, refusal_of(fate)));
        }
        lost
    }
}

/// What is said of an update that was decided and not applied.
pub fn refusal_of(fate: Fate) -> Refusal {
    match fate {
        Fate::Void => Refusal::new(ErrorCode::NoQuorum, "the update was not made: another server leads the topic's group now"),
        Fate::Unknown => {
            Refusal::new(ErrorCode::UpdateUnknown, "whether the update was made is not known: too few servers can be reached to tell")
        }
    }
}
