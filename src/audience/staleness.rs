//! What clients are told where their server may show what is not the newest: it does not reach the others of its cluster, or has not caught up with them.
//!
//! Those of the native protocol are told, or connections are closed where `cluster.minority` says so, those of MQTT too: a client then finds another server. Very many
//! sessions are told so a part at a time; who comes meanwhile is told at once.

use crate::audience::Audience;
use crate::base::SessionKey;
use crate::desk::{Desk, GivenUp, Why};
use crate::session::{Entry, Life};
use crate::wire::event::{self, Event};

/// How many sessions are looked at when it is their turn.
const TOLD_PER_SLICE: usize = 256;

impl Audience {
    /// This server may be stale from now on, or is not any more.
    pub fn staleness_changed(&mut self) {
        self.stale_from = Some(0);
    }

    pub fn has_staleness_to_tell(&self) -> bool {
        self.stale_from.is_some()
    }

    /// Tells the next sessions.
    pub fn run_staleness(&mut self, desk: &mut Desk) {
        let Some(from) = self.stale_from else { return };
        let (keys, next) = self.sessions.slab.keys_from(from, TOLD_PER_SLICE);
        self.stale_from = next;
        for key in keys {
            match self.sessions.get(key).map(|session| session.life) {
                // The session stands as after any lost connection: its client comes back to it, or finds another server.
                Some(Life::Connected(connection)) if desk.groups.turns_away() => {
                    desk.effects.given_up.push_back(GivenUp { connection, why: Why::Stale });
                }
                Some(Life::Connected(_) | Life::Inside { .. }) => self.tell_staleness(desk, key),
                _ => {}
            }
        }
    }

    /// A client has connected: it takes its server for fresh, unless its session was told otherwise before.
    pub fn tell_staleness_at_first(&mut self, desk: &mut Desk, key: SessionKey, has_resumed: bool) {
        if desk.groups.is_stale() || has_resumed && desk.groups.count() > 0 {
            self.tell_staleness(desk, key);
        }
    }

    fn tell_staleness(&mut self, desk: &mut Desk, key: SessionKey) {
        let Some(form) = self.sessions.get(key).and_then(|session| session.form.native()) else { return };
        let mut out = Vec::new();
        event::put(&mut out, form, &Event::Staleness { is_stale: desk.groups.is_stale() });
        self.push(desk, key, Entry::Control(out.into_boxed_slice()));
    }
}
