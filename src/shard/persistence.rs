//! The ledger at work: records on their way to storage, and its answers on their way to sessions.

use super::Shard;
use crate::base::{SessionKey, Time};
use crate::desk::{Answer, Ledger};
use crate::journal::Append;
use crate::protocol::Refusal;
use crate::wire::native::Outcome;

impl Shard {
    /// The records of this turn.
    pub fn poll_records(&mut self) -> Option<Vec<Append>> {
        self.desk.ledger.poll_records()
    }

    /// Records that storage had no room for come back, in front of what came since.
    pub fn return_records(&mut self, records: Vec<Append>) {
        self.desk.ledger.return_records(records);
    }

    pub fn persistence(&self) -> &Ledger {
        &self.desk.ledger
    }

    /// Every record up to this ticket is stored.
    pub fn handle_stored(&mut self, now: Time, through: u64) {
        self.desk.turn.now = now;
        self.desk.ledger.note_stored(through);
        // Publishers are not read where more than `limits.mail_high` answers wait.
        while let Some((answer, outcome)) = self.desk.ledger.poll_stored(through) {
            self.give(answer, Ok(outcome));
        }
        while let Some(session) = self.desk.ledger.poll_woken() {
            self.audience.wake_session(&mut self.desk, session);
        }
        self.settle();
    }

    /// Storage fails: who waits is told so. What was sent is stored when it works again.
    pub fn handle_storage_failure(&mut self, now: Time, reason: &str) {
        self.desk.turn.now = now;
        for (answer, refusal) in self.desk.ledger.note_failure(reason) {
            self.give(answer, Err(refusal));
        }
        // What waits for a record is sent now. Those sessions stay noted for when storage works again.
        // Once where storage begins to fail: one for each message of QoS 2 that waits for its record.
        for session in self.desk.ledger.sleeping().collect::<Vec<SessionKey>>() {
            self.audience.wake_session(&mut self.desk, session);
        }
        self.settle();
    }

    /// Storage works again.
    pub fn handle_storage_recovery(&mut self, now: Time) {
        self.desk.turn.now = now;
        self.desk.ledger.note_recovery();
    }

    pub(super) fn give(&mut self, answer: Answer, result: Result<Outcome, Refusal>) {
        self.desk.give(answer, result);
        self.give_answers();
    }
}
