//! What has to be stored, and who waits for that.
//!
//! A shard never waits: a change goes out as a numbered record, and the answer to its request is held until storage says that it is as safe as
//! acknowledgements have to be. That of an update without an id is held too, since it is told if storage fails. Storage takes a shard's records
//! in order, so one number tells how far it has come. The ledger returns what may be answered; giving it is left to others.

use super::{Answer, Storing};
use crate::base::{SessionKey, ShardSet};
use crate::journal::{Append, Change};
use crate::protocol::{ErrorCode, Refusal};
use crate::wire::native::Outcome;
use std::collections::VecDeque;

/// The number of a record of this shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// See the module.
pub struct Ledger {
    storing: Storing,
    last: Ticket,
    /// Every record up to this one is as safe as acknowledgements have to be.
    stored: Ticket,
    unsent: Vec<Append>,
    /// Answers that wait for their records, in the order of tickets. The shard stops reading its clients above its mark for mail, so that there are
    /// not too many while storage stalls.
    held: VecDeque<(Ticket, Answer, Outcome)>,
    /// Sessions that have messages to send once they are stored.
    sleeping: VecDeque<(Ticket, SessionKey)>,
    /// Why storage cannot take anything now.
    failure: Option<Box<str>>,
    /// The shards that keep sessions which outlive the server, or have groups that deal to such shards. They say when a message is kept.
    pub keepers: ShardSet,
}

impl Ledger {
    pub fn new(storing: Storing) -> Self {
        Self {
            storing,
            last: Ticket(0),
            unsent: Vec::new(),
            held: VecDeque::new(),
            sleeping: VecDeque::new(),
            stored: Ticket(0),
            failure: None,
            keepers: ShardSet::default(),
        }
    }

    pub fn is_failing(&self) -> bool {
        self.failure.is_some()
    }

    /// Records that storage has not taken yet.
    pub fn unsent(&self) -> usize {
        self.unsent.len()
    }

    /// Records up to this one keep nothing back any more: they are stored, or cannot be now.
    pub fn passed(&self) -> u64 {
        if self.is_failing() { u64::MAX } else { self.stored.0 }
    }

    /// Answers that wait for storage.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Records or answers that wait, whichever are more.
    pub fn waiting(&self) -> usize {
        self.unsent().max(self.held())
    }

    /// Whether there are records that storage has not taken, and may still take.
    pub fn has_to_send(&self) -> bool {
        !self.unsent.is_empty() && !self.is_failing()
    }

    /// Numbers a change; the record that an acknowledgement of it waits for.
    pub fn append(&mut self, change: Change) -> Option<Ticket> {
        self.last.0 += 1;
        self.unsent.push(Append { ticket: self.last.0, change });
        (self.storing == Storing::Stored).then_some(self.last)
    }

    /// The same for a record that is not a topic's, but a view's or a session's: where nothing is stored there is none.
    pub fn append_record(&mut self, change: Change) -> Option<Ticket> {
        if self.storing == Storing::Off { None } else { self.append(change) }
    }

    /// Why storage cannot take anything now.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// What an answer waits for that relies on what was changed before it.
    pub fn earlier(&self) -> Option<Ticket> {
        let Self { storing, last, stored, .. } = *self;
        (storing == Storing::Stored && last > stored).then_some(last)
    }

    /// The records of this turn.
    pub fn poll_records(&mut self) -> Option<Vec<Append>> {
        if self.unsent.is_empty() { None } else { Some(std::mem::take(&mut self.unsent)) }
    }

    /// Records that storage had no room for come back, in front of what came since.
    pub fn return_records(&mut self, records: Vec<Append>) {
        let newer = std::mem::replace(&mut self.unsent, records);
        self.unsent.extend(newer);
    }

    /// Holds the answer until the record is stored; gives it back where it is due at once.
    pub fn hold(&mut self, ticket: Ticket, answer: Answer, outcome: Outcome) -> Option<(Answer, Result<Outcome, Refusal>)> {
        // A removal is answered when its last slice is done, and the record of an earlier one may have been stored meanwhile.
        if ticket <= self.stored {
            return Some((answer, Ok(outcome)));
        }
        if let Some(reason) = &self.failure {
            return Some((answer, Err(cannot_store(reason))));
        }
        // An update that has the ticket of the one before has changed nothing: if it has no id there is nothing to tell of it, not even a failure.
        let is_same = self.held.back().is_some_and(|(last, ..)| *last == ticket);
        if !is_same || !answer.is_only_for_failures() {
            self.held.push_back((ticket, answer, outcome));
        }
        None
    }

    /// Every record up to this ticket is stored.
    pub fn note_stored(&mut self, through: u64) {
        self.stored = self.stored.max(Ticket(through));
    }

    /// The next answer that waited for what is stored up to this ticket.
    pub fn poll_stored(&mut self, through: u64) -> Option<(Answer, Outcome)> {
        self.held.front().filter(|(ticket, ..)| ticket.0 <= through)?;
        self.held.pop_front().map(|(_, answer, outcome)| (answer, outcome))
    }

    /// Storage fails: the answers that waited, and what to say to them.
    pub fn note_failure(&mut self, reason: &str) -> Vec<(Answer, Refusal)> {
        self.failure = Some(reason.into());
        std::mem::take(&mut self.held).into_iter().map(|(_, answer, _)| (answer, cannot_store(reason))).collect()
    }

    /// Storage works again.
    pub fn note_recovery(&mut self) {
        self.failure = None;
    }

    /// The session has something to send once a record is stored.
    pub fn wake_when_stored(&mut self, ticket: Option<Ticket>, session: SessionKey) {
        if let Some(ticket) = ticket.filter(|ticket| *ticket > self.stored) {
            self.sleeping.push_back((ticket, session));
        }
    }

    /// The next session whose record is stored.
    pub fn poll_woken(&mut self) -> Option<SessionKey> {
        self.sleeping.front().filter(|(ticket, _)| *ticket <= self.stored)?;
        self.sleeping.pop_front().map(|(_, session)| session)
    }

    /// The sessions that wait for a record.
    pub fn sleeping(&self) -> impl Iterator<Item = SessionKey> {
        self.sleeping.iter().map(|(_, session)| *session)
    }
}

fn cannot_store(reason: &str) -> Refusal {
    Refusal::new(ErrorCode::StorageUnavailable, format!("the update is in memory, but cannot be stored now: {reason}"))
}
