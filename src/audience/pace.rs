//! What waits until a session reads: the first events of more time series, and the next slices of what its listeners find.
//!
//! Such answers are as large as what is there, and nothing conflates them. So a session has few of them under way at a time, and is sent the next
//! when its queue is not above its mark: looked at whenever something of it was sent, and at ticks.

use crate::audience::Audience;
use crate::base::{SessionKey, ShardIndex};
use crate::desk::Desk;
use crate::mail::{Mail, Subscription};
use std::ops::Bound;

/// The most questions for first events that a session has under way; further ones wait their turn, and none is refused.
const HISTORIES_ASKED_MAX: usize = 4;

/// The most sessions that a tick looks at because they wait. No client is bounded by it.
const HELD_BACK_PER_TICK_MAX: usize = 1000;

impl Audience {
    /// Goes on with what the session waits for, as far as its queue has room.
    pub fn go_on(&mut self, desk: &mut Desk, key: SessionKey) {
        let asked_max = self.histories_asked_max(desk);
        let bytes_high = desk.limits.queue.bytes_high;
        self.held_back.remove(&key);
        self.go_on_with_events(desk, key);
        let session = self.sessions.get_mut(key).expect("a session that is over waits for nothing");
        // It may have got meanwhile what it waited for.
        let Some(extras) = session.extras.as_mut() else { return };
        let (mut slices, mut asks) = (Vec::new(), Vec::new());
        if session.queue.bytes() <= bytes_high {
            slices = std::mem::take(&mut extras.slices_held);
            while extras.histories_asked.len() < asked_max
                && let Some(generation) = extras.histories_waiting.pop_first()
            {
                let history = extras.histories.get(&generation).expect("a subscription that ends waits no longer");
                extras.histories_asked.insert(generation);
                let to = Subscription { session: key, generation };
                asks.push((history.path.clone(), history.from, to));
            }
        }
        if !extras.histories_waiting.is_empty() || !extras.slices_held.is_empty() {
            self.held_back.insert(key);
        }
        // Bounded by `limits.questions_max`, as every slice is of a request.
        for (owner, ticket) in slices {
            desk.mail(owner, Mail::GoOn { ticket });
        }
        for (path, after, to) in asks {
            desk.mail(desk.owner_of(path.as_str()), Mail::AskHistory { path, after, to });
        }
        self.resume_reviews(key);
        self.resume_sweeps(key);
    }

    /// How many questions for first events a session may have under way: so many that their answers fit the queue beside what may wait in it
    /// already, but always one.
    fn histories_asked_max(&self, desk: &Desk) -> usize {
        let room = desk.limits.queue.bytes_max - desk.limits.queue.bytes_high;
        (room / desk.limits.history_bytes_max.max(1)).clamp(1, HISTORIES_ASKED_MAX)
    }

    /// Looks at those that wait, the next where they are too many for one tick: each is looked at whenever it reads, too.
    pub fn tick_held_back(&mut self, desk: &mut Desk) {
        let behind = self.held_back_seen.take().map_or(Bound::Unbounded, Bound::Excluded);
        let sessions: Vec<SessionKey> = self.held_back.range((behind, Bound::Unbounded)).take(HELD_BACK_PER_TICK_MAX).copied().collect();
        if sessions.len() == HELD_BACK_PER_TICK_MAX {
            self.held_back_seen = sessions.last().copied();
        }
        for session in sessions {
            self.go_on(desk, session);
        }
    }

    /// An owner has told a slice of what a walk for a listener finds, and waits for the word to go on.
    pub fn slice_told(&mut self, desk: &mut Desk, owner: ShardIndex, ticket: u64) {
        // The session may be over.
        let asker = self.gathers.get_mut(&ticket).map(|gather| gather.asker());
        let session = asker.and_then(|asker| self.sessions.get_mut(asker.session).map(|session| (asker.session, session)));
        let Some((key, session)) = session else { return desk.mail(owner, Mail::GoOn { ticket }) };
        session.extras_mut().slices_held.push((owner, ticket));
        self.go_on(desk, key);
    }

    /// The session is over: its walks go on, since other listeners may wait for what they tell.
    pub fn release_slices(&mut self, desk: &mut Desk, session: SessionKey) {
        self.held_back.remove(&session);
        let extras = &mut self.sessions.get_mut(session).expect("a session that ends still stands").extras;
        for (owner, ticket) in extras.as_mut().map(|extras| std::mem::take(&mut extras.slices_held)).unwrap_or_default() {
            desk.mail(owner, Mail::GoOn { ticket });
        }
    }
}
