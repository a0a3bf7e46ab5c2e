//! Sessions for which more waits than the mark of their queue, and when that is over.
//!
//! A session passes the mark where its queue is to be conflated, which is looked at already. From then on it is looked at whenever it was sent something, as those
//! who are held back are, until no more waits than half of the mark. A session that listens to queues is not told of: what waits for it would be what it is told of
//! others, and two of them would tell of each other without end.

use super::{Happening, Held};
use crate::audience::Audience;
use crate::base::SessionKey;
use crate::desk::Desk;
use crate::session::Session;

impl Audience {
    /// The mark of a session's queue, whatever others have ordered.
    fn mark_of(desk: &Desk, session: &Session) -> usize {
        if session.is_conflated { desk.limits.queue.bytes_high } else { Self::queue_limits(desk, session).bytes_high }
    }

    /// Much waits for the session.
    #[inline]
    pub(in crate::audience) fn note_queue(&mut self, desk: &mut Desk, key: SessionKey) {
        if self.events.queue_observers > 0 && self.mark_queue(desk, key) {
            self.session_happened(desk, key, Happening::QueueOver);
        }
    }

    /// Notes the session if it is over its mark; whether it was not noted before.
    pub(super) fn mark_queue(&mut self, desk: &Desk, key: SessionKey) -> bool {
        let Some(session) = self.session(key) else { return false };
        if self.events.held.get(&key).is_some_and(Held::listens_to_queues) {
            return false;
        }
        if session.queue.bytes() <= Self::mark_of(desk, session) || !self.events.over.insert(key) {
            return false;
        }
        self.held_back.insert(key);
        true
    }

    /// The session has read, or may have.
    pub(super) fn look_at_queue(&mut self, desk: &mut Desk, key: SessionKey) {
        if !self.events.over.contains(&key) {
            return;
        }
        let session = self.sessions.get(key).expect("a session that is over is not noted");
        if session.queue.bytes() > Self::mark_of(desk, session) / 2 {
            self.held_back.insert(key);
            return;
        }
        self.events.over.remove(&key);
        self.session_happened(desk, key, Happening::QueueUnder);
    }

    /// The session is over.
    pub(in crate::audience) fn forget_queue(&mut self, key: SessionKey) {
        self.events.over.remove(&key);
    }
}
