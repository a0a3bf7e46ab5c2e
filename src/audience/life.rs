//! The life of sessions: when they are without a connection, and when they are over.

use crate::audience::Audience;
use crate::audience::events::Happening;
use crate::base::{SessionKey, Time};
use crate::desk::Desk;
use crate::session::mqtt::Outbound;
use crate::session::{Away, Ended, Life, SendQueue};
use crate::wire::mqtt::{Disconnect, ReasonCode};
use std::collections::BTreeSet;

/// When the sessions that are away have something to do: publish a will, or end.
#[derive(Default)]
pub struct Schedule {
    due: BTreeSet<(Time, SessionKey)>,
    /// Sessions of MQTT that are away, and those of the native protocol.
    pub asleep: usize,
    pub resumable: usize,
    /// Whether some may have come due that were not looked at.
    pub is_due: bool,
}

impl Schedule {
    fn count(&mut self, is_resumable: bool) -> &mut usize {
        if is_resumable { &mut self.resumable } else { &mut self.asleep }
    }
}

/// The most sessions that are away of which one turn does what they have to do. No client is bounded by it.
const AWAY_PER_TURN_MAX: usize = 256;

impl Audience {
    /// The session is over.
    pub fn end_session(&mut self, desk: &mut Desk, key: SessionKey) {
        self.session_happened(desk, key, Happening::Over);
        self.forget_queue(key);
        let session = self.sessions.get_mut(key).expect("a session ends once");
        if let Some(extras) = &mut session.extras {
            // Nobody is left to be answered; an answer could overfill the queue and end the session again.
            extras.histories.clear();
            extras.histories_waiting.clear();
            extras.answers_held.clear();
        }
        self.end_locks(desk, key);
        self.end_listeners(desk, key);
        self.end_requests(desk, key);
        self.end_orders(desk, key);
        self.end_denials(desk, key);
        self.forget_durable(desk, key);
        self.forget_who(key);
        self.end_event_listeners(desk, key);
        self.end_mqtt(desk, key);
        self.sessions.forget_name(key);
        let session = self.sessions.get_mut(key).expect("it was just there");
        session.queue = SendQueue::default();
        session.resume = None;
        if let Some(mqtt) = &mut session.mqtt {
            mqtt.outbound = Outbound::default();
        }
        self.leave_topics(desk, key);
    }

    /// The session has begun: it has its connection and its properties.
    pub fn session_opened(&mut self, desk: &mut Desk, key: SessionKey) {
        self.session_happened(desk, key, Happening::Opened);
    }

    /// Its connection ends by this; where it is over with that, it is told so.
    pub fn note_end(&mut self, key: SessionKey, ended: Ended) {
        if let Some(session) = self.session_mut(key) {
            session.end_by(ended);
        }
    }

    /// DISCONNECT.
    pub fn take_leave(&mut self, desk: &Desk, session: SessionKey, disconnect: Disconnect) {
        let expiry_max_s = desk.limits.mqtt.session_expiry_max_s;
        let session = self.sessions.get_mut(session).expect("a client that says something has a session");
        session.end_by(Ended::ByClient);
        let mqtt = session.mqtt.as_mut().expect("DISCONNECT is of MQTT");
        // MQTT-3.14.4-3: a normal end discards the will.
        if disconnect.code == ReasonCode::SUCCESS {
            mqtt.will = None;
        }
        if let Some(expiry_s) = disconnect.session_expiry_s {
            mqtt.expiry_s = expiry_s.min(expiry_max_s);
        }
    }

    /// The connection of a session is over; what comes of the session is its client's wish.
    pub fn leave_session(&mut self, desk: &mut Desk, key: SessionKey) {
        let now = desk.turn.now;
        let sessions_max = desk.limits.mqtt.sessions_max;
        let is_full = self.sessions.away.asleep >= sessions_max;
        let session = self.sessions.get_mut(key).expect("a session stands as long as its connection");
        if session.life.away().is_some() {
            return;
        }
        if session.resume.as_ref().is_some_and(|resume| resume.outlives_connection()) && session.life != Life::GivenUp {
            return self.leave_resumable(desk, key);
        }
        // What needs no acknowledgement does not wait for another connection.
        session.queue.clear();
        let stay_ms = session.leave();
        if stay_ms == 0 || is_full || session.mqtt.is_none() {
            desk.report.mqtt_dropped += u64::from(stay_ms != 0 && session.mqtt.is_some());
            return self.finish_session(desk, key);
        }
        let due = self.fall_asleep(desk, key, after_ms(now, stay_ms));
        self.session_happened(desk, key, Happening::Away);
        self.tell_groups(desk, key);
        self.store_session(desk, key);
        if due <= now {
            self.check_session(desk, key);
        }
    }

    /// The connection of a session of the native protocol is over, whose client may come back.
    fn leave_resumable(&mut self, desk: &mut Desk, key: SessionKey) {
        let is_full = self.sessions.away.resumable >= desk.limits.resume.away_max;
        let session = self.sessions.get_mut(key).expect("a session stands as long as its connection");
        let stay_ms = session.leave();
        // What outlives the server outlives its end.
        let is_full = is_full || desk.turn.is_stopping && session.resume.as_ref().is_none_or(|resume| resume.durable.is_none());
        if is_full {
            return self.finish_session(desk, key);
        }
        session.queue.rest();
        self.fall_asleep(desk, key, after_ms(desk.turn.now, stay_ms));
        self.session_happened(desk, key, Happening::Away);
        self.end_connection_locks(desk, key);
        self.note_durable(desk, key);
        self.keep_bound(desk, key);
    }

    /// The session has no connection from now on, and ends at the moment given. Gives when it has something to do next.
    pub fn fall_asleep(&mut self, desk: &Desk, key: SessionKey, expires: Time) -> Time {
        let session = self.sessions.get_mut(key).expect("a session that loses its connection is not over");
        let will = session.mqtt.as_ref().and_then(|mqtt| mqtt.will.as_ref()).map(|will| after(desk.turn.now, will.delay_s));
        let due = will.map_or(expires, |will| will.min(expires));
        session.life = Life::Away(Away { expires, due: Some(due) });
        // It lives on, whoever has closed its connection.
        session.ended = Ended::default();
        let is_resumable = session.resume.is_some();
        self.sessions.away.due.insert((due, key));
        *self.sessions.away.count(is_resumable) += 1;
        due
    }

    /// A session that is away is over as soon as what is under way is done.
    pub fn expire_soon(&mut self, desk: &Desk, key: SessionKey) {
        let now = desk.turn.now;
        let session = self.sessions.get_mut(key).expect("a session that is away stands");
        session.queue.clear();
        session.end_by(Ended::ByServer);
        let Life::Away(Away { expires, .. }) = &mut session.life else { unreachable!("it is away") };
        *expires = now;
        self.plan(key, Some);
        self.sessions.away.is_due = true;
    }

    /// The session is not away any more.
    pub fn keep_awake(&mut self, key: SessionKey) {
        let session = self.sessions.get_mut(key).expect("a session is taken over, or ends, while it stands");
        let Life::Away(Away { due, .. }) = session.life else { return };
        session.life = Life::GivenUp;
        let is_resumable = session.resume.is_some();
        if let Some(due) = due {
            self.sessions.away.due.remove(&(due, key));
        }
        *self.sessions.away.count(is_resumable) -= 1;
    }

    pub fn tick_away(&mut self, desk: &mut Desk) {
        self.sessions.away.is_due = true;
        self.run_away(desk);
    }

    /// Does what sessions that are away have to do by now, as far as one turn goes: many may have been lost together.
    pub fn run_away(&mut self, desk: &mut Desk) {
        let mut left = AWAY_PER_TURN_MAX;
        while self.sessions.away.is_due && left > 0 {
            let Some((due, key)) = self.sessions.away.due.first().copied().filter(|(due, _)| *due <= desk.turn.now) else {
                self.sessions.away.is_due = false;
                return;
            };
            left -= 1;
            self.sessions.away.due.remove(&(due, key));
            self.check_session(desk, key);
        }
    }

    /// The time has come at which a session that is away has something to do: to publish its will, or to end.
    fn check_session(&mut self, desk: &mut Desk, key: SessionKey) {
        let expires = self.plan(key, |_| None);
        if expires <= desk.turn.now {
            self.sessions.get_mut(key).expect("it was just planned").end_by(Ended::Expired);
            return self.finish_session(desk, key);
        }
        // Only a session of MQTT has something to do before it ends.
        self.publish_will(desk, key);
        self.store_session(desk, key);
        self.plan(key, Some);
    }

    /// Plans when a session that is away has something to do next: `next` makes that of the moment at which it expires, which is given.
    fn plan(&mut self, key: SessionKey, next: impl FnOnce(Time) -> Option<Time>) -> Time {
        let session = self.sessions.get_mut(key).expect("a session that ends takes its time along");
        let Life::Away(Away { expires, due }) = &mut session.life else { unreachable!("only a session that is away has a time") };
        let (expires, before) = (*expires, due.take());
        *due = next(expires);
        let planned = *due;
        if let Some(due) = before {
            self.sessions.away.due.remove(&(due, key));
        }
        if let Some(due) = planned {
            self.sessions.away.due.insert((due, key));
        }
        expires
    }

    /// The session is over: its will is published, if that was to come, and nothing of it stays.
    pub fn finish_session(&mut self, desk: &mut Desk, key: SessionKey) {
        self.publish_will(desk, key);
        self.end_session(desk, key);
    }

    /// The session is over: what it has of MQTT ends, if it has any.
    pub fn end_mqtt(&mut self, desk: &mut Desk, key: SessionKey) {
        self.keep_awake(key);
        self.leave_groups(desk, key);
        self.unstore_session(desk, key);
        self.broker.clients.remove(&self.sessions.slab, key);
    }
}

/// The moment so many seconds after `now`. The most seconds that can be said stand for never.
fn after(now: Time, seconds: u32) -> Time {
    if seconds == u32::MAX { Time(u64::MAX) } else { now.after_ms(u64::from(seconds) * 1000) }
}

/// The same for milliseconds.
fn after_ms(now: Time, milliseconds: u64) -> Time {
    if milliseconds == u64::MAX { Time(u64::MAX) } else { now.after_ms(milliseconds) }
}
