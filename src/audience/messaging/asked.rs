//! The requests of sessions here that have not ended, and what each session has under way.

use crate::base::{SessionId, SessionKey, Time};
use crate::mail::Caller;
use crate::mail::messaging::{Message, Target};
use crate::protocol::Refusal;
use hashbrown::HashMap;
use std::collections::BTreeSet;

/// A request that waits for its answers.
pub struct Asked {
    pub asker: Caller,
    pub due: Time,
    pub to: Whom,
    /// Of its value, and of answers that wait to be told.
    pub bytes: usize,
}

pub enum Whom {
    /// One handler of the path.
    Path(Target),
    Session(SessionId),
    /// All who match: how many shards have not said how many there are, how many answers are to come, and those that came before that is known.
    Filter {
        shards: u16,
        count: u64,
        answers: Vec<(SessionId, Result<Message, Refusal>)>,
        is_told: bool,
    },
}

/// See the module.
#[derive(Default)]
pub struct UnderWay {
    by_ticket: HashMap<u64, Asked>,
    due: BTreeSet<(Time, u64)>,
    /// Of each session here that has any.
    of_session: HashMap<SessionKey, OfSession>,
}

#[derive(Default)]
struct OfSession {
    tickets: BTreeSet<u64>,
    bytes: usize,
}

impl UnderWay {
    pub fn len(&self) -> usize {
        self.by_ticket.len() + self.due.len() + self.of_session.len()
    }

    /// How many requests the session has under way, and their bytes.
    pub fn of(&self, session: SessionKey) -> (usize, usize) {
        self.of_session.get(&session).map_or((0, 0), |of| (of.tickets.len(), of.bytes))
    }

    pub fn tickets_of(&self, session: SessionKey) -> BTreeSet<u64> {
        self.of_session.get(&session).map(|of| of.tickets.clone()).unwrap_or_default()
    }

    pub fn get(&self, ticket: u64) -> Option<&Asked> {
        self.by_ticket.get(&ticket)
    }

    pub fn get_mut(&mut self, ticket: u64) -> Option<&mut Asked> {
        self.by_ticket.get_mut(&ticket)
    }

    pub fn insert(&mut self, ticket: u64, asked: Asked) {
        let of_session = self.of_session.entry(asked.asker.session).or_default();
        of_session.tickets.insert(ticket);
        of_session.bytes += asked.bytes;
        self.due.insert((asked.due, ticket));
        self.by_ticket.insert(ticket, asked);
    }

    pub fn remove(&mut self, ticket: u64) -> Option<Asked> {
        let asked = self.by_ticket.remove(&ticket)?;
        self.due.remove(&(asked.due, ticket));
        let of_session = self.of_session.get_mut(&asked.asker.session).expect("it is noted with its session");
        of_session.tickets.remove(&ticket);
        of_session.bytes -= asked.bytes;
        if of_session.tickets.is_empty() {
            self.of_session.remove(&asked.asker.session);
        }
        Some(asked)
    }

    /// Another answer waits: whether the session has room for it. One that has not is counted for nothing.
    pub fn take_room(&mut self, ticket: u64, bytes: usize, bytes_max: usize) -> bool {
        let Some(asked) = self.by_ticket.get_mut(&ticket) else { return false };
        let of_session = self.of_session.get_mut(&asked.asker.session).expect("it is noted with its session");
        if of_session.bytes + bytes > bytes_max {
            return false;
        }
        of_session.bytes += bytes;
        asked.bytes += bytes;
        true
    }

    /// One whose time is over.
    pub fn due(&self, now: Time) -> Option<u64> {
        self.due.first().filter(|(due, _)| *due <= now).map(|(_, ticket)| *ticket)
    }
}
