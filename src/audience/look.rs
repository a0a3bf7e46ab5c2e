//! A session as others see it: how far behind it is, how fast it is sent something, when its client was last heard, and what it selects.
//!
//! Nothing is gathered for that: what is said comes from what sessions and connections know anyway. A rate is that between two looks.

use crate::audience::Audience;
use crate::base::{ConnectionKey, SessionKey, Time};
use crate::desk::Desk;
use crate::session::{Life, Session, Step};
use crate::wire::native::{SELECTION_DESELECTS, SELECTION_IS_FILTER, SELECTION_SELECTS, SelectionEntry, SessionEntry};
use hashbrown::HashMap;

/// When each session was last looked at that ever was.
pub type Looks = HashMap<SessionKey, Look>;

pub struct Look {
    at: Time,
    sent_bytes: u64,
    bytes_per_s: u64,
}

/// Looks that follow each other faster are told the same rate.
const RATE_MS_MIN: u64 = 1000;

/// What a page of selections, or of sessions, holds: more than one more than this it never does.
pub const PAGE_BYTES_MAX: usize = 256 << 10;

/// When something was last received by a connection.
pub type LastReceived<'r> = dyn Fn(ConnectionKey) -> Option<Time> + 'r;

impl Audience {
    /// What others are told of the session.
    pub(super) fn describe(&mut self, desk: &Desk, key: SessionKey, last_received: &LastReceived<'_>) -> SessionEntry {
        let session = self.sessions.get(key).expect("only a session that stands is described");
        let look = Look::next(self.control.looks.get(&key), desk.turn.now, session);
        let sent_bytes_per_s = look.as_ref().map_or_else(|at| at.bytes_per_s, |look| look.bytes_per_s);
        let dropped = session.mqtt.as_ref().map_or(0, |mqtt| mqtt.dropped) + session.resume.as_ref().map_or(0, |resume| resume.gaps);
        let entry = SessionEntry {
            session: self.session_id(desk, key),
            is_away: session.life.away().is_some(),
            properties: self.session_properties(desk, key).into(),
            subscriptions: session.subscriptions.len() as u64,
            queue_bytes: session.queue.bytes() as u64,
            sent_bytes: session.sent_bytes,
            conflations: u64::from(session.conflations),
            is_conflated: session.is_conflated,
            dropped: u64::from(dropped),
            sent_bytes_per_s,
            idle_ms: last_heard(session, last_received).map(|heard| desk.turn.now.since(heard) / 1_000_000),
        };
        if let Ok(look) = look {
            self.control.looks.insert(key, look);
        }
        entry
    }

    /// What the session selects, in its order, behind the first so many; whether there is more.
    pub(super) fn selections_of(&self, key: SessionKey, after: usize, count_max: usize) -> (bool, Vec<SelectionEntry>) {
        let session = self.sessions.get(key).expect("only a session that stands is looked at");
        match &session.mqtt {
            Some(mqtt) => {
                let filters = mqtt.filters.iter().map(|filter| ("", filter.text(), SELECTION_IS_FILTER));
                page(filters, after, count_max)
            }
            None => {
                let kind = |step: Step| if step.selects() { SELECTION_SELECTS } else { SELECTION_DESELECTS };
                let steps = session.selections.steps().map(|(scope, selector, step)| (scope, selector.as_str(), kind(step)));
                page(steps, after, count_max)
            }
        }
    }
}

/// Bounded by `limits.selections_max` or `mqtt.filters_max`, which are walked as far as the page's end.
fn page<'s>(all: impl Iterator<Item = (&'s str, &'s str, u8)>, after: usize, count_max: usize) -> (bool, Vec<SelectionEntry>) {
    let (mut entries, mut bytes) = (Vec::new(), 0);
    for (scope, selector, kind) in all.skip(after) {
        if entries.len() >= count_max || bytes > PAGE_BYTES_MAX {
            return (true, entries);
        }
        bytes += scope.len() + selector.len();
        entries.push(SelectionEntry { scope: scope.into(), selector: selector.into(), kind });
    }
    (false, entries)
}

/// When the session's client was last heard; of one that is away, when it went. Nobody knows of one that stays for ever, and within the process there is
/// nothing to hear.
fn last_heard(session: &Session, last_received: &LastReceived<'_>) -> Option<Time> {
    match session.life {
        Life::Connected(connection) => last_received(connection),
        Life::Away(away) => {
            let stay_ms = match (&session.resume, &session.mqtt) {
                (Some(resume), _) => resume.stay_ms,
                (None, Some(mqtt)) if mqtt.expiry_s < u32::MAX => u64::from(mqtt.expiry_s) * 1000,
                _ => return None,
            };
            Some(Time(away.expires.0.saturating_sub(stay_ms.saturating_mul(1_000_000))))
        }
        Life::Inside { .. } | Life::GivenUp | Life::Shared | Life::Over => None,
    }
}

impl Look {
    /// The look that is to be kept now, or the one before where that is too near.
    fn next<'l>(last: Option<&'l Self>, now: Time, session: &Session) -> Result<Self, &'l Self> {
        let (since, sent_before) = last.map_or((session.connected, 0), |last| (last.at, last.sent_bytes));
        let ms = now.since(since) / 1_000_000;
        match last {
            Some(last) if ms < RATE_MS_MIN => Err(last),
            _ => {
                let sent = session.sent_bytes.saturating_sub(sent_before);
                Ok(Self { at: now, sent_bytes: session.sent_bytes, bytes_per_s: sent.saturating_mul(1000) / ms.max(RATE_MS_MIN) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{SessionId, ShardIndex};
    use crate::session::Form;

    #[test]
    fn a_rate_is_that_between_two_looks() {
        let mut session = Session::new(SessionId::new(ShardIndex(0), 1), Life::GivenUp, Form::Text, Time(0));
        let at_ms = |ms: u64| Time(ms * 1_000_000);
        session.sent_bytes = 500;
        // A young session was not looked at for less than a second.
        let first = Look::next(None, at_ms(100), &session).ok().unwrap();
        assert_eq!(first.bytes_per_s, 500);
        session.sent_bytes = 1500;
        assert!(Look::next(Some(&first), at_ms(900), &session).is_err_and(|last| last.bytes_per_s == 500));
        let second = Look::next(Some(&first), at_ms(2100), &session).ok().unwrap();
        assert_eq!(second.bytes_per_s, 500);
        let third = Look::next(Some(&second), at_ms(62_100), &session).ok().unwrap();
        assert_eq!(third.bytes_per_s, 0);
    }

    #[test]
    fn a_page_ends_where_it_is_long_enough() {
        let long = "x".repeat(100_000);
        let all = || (0..5).map(|_| ("", long.as_str(), SELECTION_SELECTS));
        let (has_more, entries) = page(all(), 0, 100);
        assert_eq!((has_more, entries.len()), (true, 3));
        let (has_more, entries) = page(all(), 3, 100);
        assert_eq!((has_more, entries.len()), (false, 2));
        assert_eq!(page(all(), 1, 2).1.len(), 2);
        assert_eq!(page(all(), 9, 2).1.len(), 0);
    }
}
