//! How much of what a session's client says is read in a second. What comes faster is not refused: it waits with the client, and nothing of it is lost.
//!
//! A connection has a line of times for its messages and one for its bytes: each that is read takes its share of a second there, and nothing is read while a
//! line is a second ahead of the clock. So a second's worth comes at once, and then as much as time gives back. What comes in one message is read whole.

use super::{Connection, Doors};
use crate::base::{ConnectionKey, Time};
use crate::desk::{Desk, Effect};
use std::collections::VecDeque;

/// How far ahead of the clock a line may be.
const AHEAD_NS: u64 = 1_000_000_000;

/// Connections that wait for their pace of which one turn reads again, and those that it looks at for that.
const READ_A_TURN: usize = 32;
const LOOKED_AT_A_TURN: usize = 1000;

/// One connection's lines.
#[derive(Default)]
pub struct Pace {
    messages: Time,
    bytes: Time,
    /// Whether nothing is read until the lines allow it.
    is_held: bool,
}

/// Connections that wait for their pace.
#[derive(Default)]
pub struct Paced {
    waiting: VecDeque<ConnectionKey>,
    /// Those that have not been looked at since the last tick.
    due: VecDeque<ConnectionKey>,
}

impl Pace {
    fn allows(&self, now: Time) -> bool {
        self.messages.max(self.bytes).since(now) < AHEAD_NS
    }

    pub fn is_held(&self) -> bool {
        self.is_held
    }

    pub fn note_bytes(&mut self, now: Time, bytes: usize, per_s: u64) {
        self.bytes = taken(self.bytes, now, bytes as u64, per_s);
    }

    pub fn note_message(&mut self, now: Time, per_s: u64) {
        self.messages = taken(self.messages, now, 1, per_s);
    }
}

/// The line behind so much more.
fn taken(line: Time, now: Time, units: u64, per_s: u64) -> Time {
    if per_s == 0 {
        return line;
    }
    Time(line.max(now).0.saturating_add(units.saturating_mul(1_000_000_000) / per_s))
}

impl Paced {
    pub fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Time passed: all are looked at again, a part a turn.
    pub fn tick(&mut self) {
        self.due.append(&mut self.waiting);
    }
}

impl Doors {
    /// Whether the connection has to wait for its pace before more of it is read; from then on it is held.
    pub(super) fn has_to_wait(&mut self, desk: &mut Desk, key: ConnectionKey) -> bool {
        let Some(connection) = self.connections.get_mut(key) else { return false };
        // What comes before there is a session is bounded by the time that it may take.
        if connection.stage.session().is_none() {
            return false;
        }
        let Some(pace) = connection.pace.as_deref_mut().filter(|pace| !pace.allows(desk.turn.now)) else { return false };
        if !pace.is_held {
            pace.is_held = true;
            desk.report.paced += 1;
            self.paced.waiting.push_back(key);
        }
        true
    }

    /// Whether the connection is held by its pace, of whose end `Effect::Read` tells.
    pub fn is_paced(&self, key: ConnectionKey) -> bool {
        self.connections.get(key).is_some_and(Connection::is_paced)
    }

    /// The next connection that may be read again, as far as this turn goes: `budget` is how many may still be looked at, and read.
    pub fn next_paced(&mut self, now: Time, budget: &mut Budget) -> Option<ConnectionKey> {
        while budget.looks > 0 && budget.reads > 0 {
            let key = self.paced.due.pop_front()?;
            budget.looks -= 1;
            // One that is gone, or has come to its end, is not held any more.
            let Some(connection) = self.connections.get_mut(key) else { continue };
            let Some(pace) = connection.pace.as_deref_mut().filter(|pace| pace.is_held) else { continue };
            if pace.allows(now) {
                pace.is_held = false;
                connection.last_received = now;
                budget.reads -= 1;
                return Some(key);
            }
            self.paced.waiting.push_back(key);
        }
        None
    }

    /// What was held of the connection is read: its transport is read again, unless it has to wait anew.
    pub fn paced_read(&mut self, desk: &mut Desk, key: ConnectionKey) {
        if !self.is_paced(key) {
            desk.effects.push(Effect::Read(key));
        }
    }
}

/// What one turn does for connections that wait for their pace.
pub struct Budget {
    looks: usize,
    reads: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { looks: LOOKED_AT_A_TURN, reads: READ_A_TURN }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// How many of so many messages, or bytes at a time, are read at each of these times in milliseconds.
    fn read(per_s: u64, part: usize, times_ms: &[u64]) -> Vec<u64> {
        let mut pace = Pace::default();
        let mut count = |now: Time| {
            let mut read = 0;
            while pace.allows(now) && read < 10_000 {
                pace.note_bytes(now, part, per_s);
                read += 1;
            }
            read
        };
        times_ms.iter().map(|ms| count(Time(5 * SECOND).after_ms(*ms))).collect()
    }

    #[test]
    fn a_seconds_worth_comes_at_once_and_then_what_time_gives_back() {
        assert_eq!(read(100, 1, &[0, 0, 9, 10, 1010, 5000, 5000]), [100, 0, 1, 0, 100, 100, 0]);
        // What is longer than a second's worth is read, and waited for behind it.
        assert_eq!(read(1000, 3000, &[0, 2000, 2001, 5001]), [1, 0, 1, 1]);
    }

    #[test]
    fn messages_and_bytes_are_counted_apart() {
        let now = Time(5 * SECOND);
        let mut pace = Pace::default();
        (0..10).for_each(|_| pace.note_message(now, 10));
        assert!(!pace.allows(now) && pace.allows(now.after_ms(100)));
        pace.note_bytes(now, 1 << 30, 0);
        assert!(pace.allows(now.after_ms(100)), "what is not bounded counts for nothing");
    }
}
