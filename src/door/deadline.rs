//! When a connection has been silent for too long.
//!
//! Very many may be at once, as when a network is gone: so many are looked at a turn.

use super::{Doors, Stage};
use crate::audience::Audience;
use crate::base::{ConnectionKey, Time};
use crate::desk::{Desk, Effect};
use crate::protocol::CloseCode;
use crate::wire::event::Event;

/// The most connections whose deadlines one turn looks at. No client is bounded by it.
const CHECKED_PER_TURN_MAX: usize = 1000;

impl Doors {
    /// Time passed.
    pub fn tick(&mut self, desk: &mut Desk, audience: &mut Audience) {
        let mut due = Vec::new();
        self.wheel.advance(desk.turn.now, &mut due);
        self.due.extend(due);
        self.paced.tick();
        self.check_due(desk, audience);
    }

    /// Looks at those whose time may have come, as far as one turn goes.
    pub fn check_due(&mut self, desk: &mut Desk, audience: &mut Audience) {
        for _ in 0..CHECKED_PER_TURN_MAX {
            let Some(key) = self.due.pop_front() else { return self.due.shrink_to(CHECKED_PER_TURN_MAX) };
            self.check_deadline(desk, audience, key);
        }
    }

    /// Whether some are left for the next turn, of these or of those that wait for their pace.
    pub fn has_due(&self) -> bool {
        !self.due.is_empty() || self.paced.is_due()
    }

    /// It is asked who the client is: those who say it have a time of their own, and nobody is closed for their haste.
    pub(super) fn wait_for_verdict(&mut self, desk: &Desk, key: ConnectionKey) {
        let connection = self.connections.get_mut(key).expect("its CONNECT was just heard");
        let until = desk.turn.now.after_ms(desk.limits.authentication_ms).after_ms(desk.limits.handshake_timeout_ms);
        connection.deadline = connection.deadline.max(until);
    }

    /// The wheel says that a deadline of this connection may have come.
    fn check_deadline(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey) {
        let now = desk.turn.now;
        // The wheel is not told of a connection that is gone.
        let Some(connection) = self.connections.get_mut(key) else { return };
        if now < connection.deadline {
            return self.wheel.insert(connection.deadline, key);
        }
        // Who may not speak is not silent.
        if connection.is_waiting() {
            connection.last_received = now;
        }
        match &connection.stage {
            // A stopping server gives every queue the same time, which its runtime measures.
            Stage::Ending(_) if desk.turn.is_stopping => connection.deadline = now.after_ms(desk.limits.close_timeout_ms),
            Stage::Ending(_) => desk.effects.push(Effect::Close(key)),
            Stage::Page(_) => connection.deadline = now.after_ms(desk.limits.close_timeout_ms),
            Stage::Head { .. } => return self.respond_text(desk, audience, key, 408, "the request's head did not come in time"),
            stage if stage.session().is_none() => {
                return self.close_now(desk, audience, key, CloseCode::ConnectTimeout, "CONNECT did not come in time");
            }
            Stage::Mqtt(link) => {
                // MQTT-3.1.2-22: one and a half times the keep alive without a packet.
                let dead = link.silence_ms().map_or(Time(u64::MAX), |silence_ms| connection.last_received.after_ms(silence_ms.into()));
                if now >= dead {
                    let reason = "nothing was received for one and a half times the keep alive";
                    return self.close_now(desk, audience, key, CloseCode::KeepAliveTimeout, reason);
                }
                connection.deadline = dead;
                if dead == Time(u64::MAX) {
                    return;
                }
            }
            Stage::Native(_) => {
                let keep_alive_ms = desk.limits.keep_alive_ms;
                let dead = connection.last_received.after_ms(2 * keep_alive_ms);
                if now >= dead {
                    let reason = "nothing was received for twice keep_alive_ms";
                    return self.close_now(desk, audience, key, CloseCode::KeepAliveTimeout, reason);
                }
                // Who only listens has to be asked too, or its silence could not be told from a dead peer's.
                let quiet_since = connection.last_sent.min(connection.last_received);
                let is_silent = now >= quiet_since.after_ms(keep_alive_ms);
                let next = if is_silent { now } else { quiet_since }.after_ms(keep_alive_ms);
                connection.deadline = next.min(dead);
                if is_silent {
                    self.say(desk, audience, key, &Event::Ping);
                }
            }
        }
        let connection = self.connections.get(key).expect("only its transport's end takes a connection away");
        self.wheel.insert(connection.deadline, key);
        if let Some(session) = connection.stage.session().and_then(|session| audience.session_mut(session)) {
            session.queue.rest();
        }
    }
}
