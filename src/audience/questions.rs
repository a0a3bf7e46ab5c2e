//! What sessions of this shard have asked the owners of topics, until all have answered.
//!
//! Counted for each session, so that none has more under way than `questions_max`: every one is a walk at the owners. What is answered later on account
//! of the session itself counts too: SUBSCRIBEs behind first events, and UNLISTENs whose review is not done.

use super::ask::Gather;
use crate::audience::Audience;
use crate::base::SessionKey;
use crate::desk::Desk;
use crate::mail::Caller;
use crate::protocol::{ErrorCode, Refusal};
use crate::session::Session;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

#[derive(Default)]
pub struct Questions {
    by_ticket: HashMap<u64, Gather>,
    /// How many each session has; a session without any has no entry.
    counts: HashMap<SessionKey, usize>,
}

impl Questions {
    pub fn len(&self) -> usize {
        self.by_ticket.len()
    }

    pub fn insert(&mut self, ticket: u64, gather: Gather) {
        *self.counts.entry(gather.asker().session).or_default() += 1;
        self.by_ticket.insert(ticket, gather);
    }

    pub fn get_mut(&mut self, ticket: &u64) -> Option<&mut Gather> {
        self.by_ticket.get_mut(ticket)
    }

    pub fn remove(&mut self, ticket: &u64) -> Option<Gather> {
        let gather = self.by_ticket.remove(ticket)?;
        if let Entry::Occupied(mut count) = self.counts.entry(gather.asker().session) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        Some(gather)
    }

    /// How many the session has under way.
    pub fn of(&self, session: SessionKey) -> usize {
        self.counts.get(&session).copied().unwrap_or(0)
    }
}

impl Audience {
    /// Refuses what would be one question too many.
    pub fn check_questions(&self, desk: &Desk, asker: Caller) -> Result<(), Refusal> {
        let questions_max = desk.limits.questions_max;
        if self.questions_of(asker.session) < questions_max {
            return Ok(());
        }
        let message = format!("{questions_max} questions of the session are under way, which is its most; this one changed nothing");
        Err(Refusal::new(ErrorCode::Overloaded, message))
    }

    /// Questions of the session that are under way.
    pub fn questions_of(&self, session: SessionKey) -> usize {
        let held = match self.sessions.get(session) {
            // The sweeps of MQTT are parts of SUBSCRIBEs that are counted already.
            Some(Session { extras: Some(extras), mqtt, .. }) => {
                extras.answers_held.len() + if mqtt.is_none() { extras.sweeps.len() } else { 0 }
            }
            _ => 0,
        };
        self.gathers.of(session) + held + self.reviews_of(session)
    }
}
