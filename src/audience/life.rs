//! Sessions without a connection: their wills, and when they are over.

use crate::audience::Audience;
use crate::base::{SessionKey, Time};
use crate::desk::Desk;
use crate::mail::Mail;
use crate::wire::mqtt::{Disconnect, ReasonCode};
use std::collections::BTreeSet;

/// When the sessions without a connection have something to do: publish a will, or end.
#[derive(Default)]
pub struct Ends {
    due: BTreeSet<(Time, SessionKey)>,
    /// Sessions without a connection.
    pub asleep: usize,
}

impl Audience {
    /// The session is over.
    pub fn end_session(&mut self, desk: &mut Desk, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        if let Some(extras) = &mut session.extras {
            // Nobody is left to be answered; an answer could overfill the queue and end the session again.
            extras.histories.clear();
            extras.answers_held.clear();
        }
        let topics: Vec<_> = session.subscriptions.values().map(|(topic, _)| topic.clone()).collect();
        for topic in topics {
            self.end_subscription(desk, key, &topic);
        }
        self.end_listeners(desk, key);
        self.end_mqtt(desk, key);
        let session = self.sessions.remove(key).expect("it was just there");
        self.by_id.remove(&session.id);
        for selector in session.selecting() {
            self.release(desk, key, &selector);
        }
        for (id, (owner, path)) in session.extras.map(|extras| extras.watched_by).unwrap_or_default() {
            desk.mail(owner, Mail::SessionOver { path, id });
        }
    }

    /// DISCONNECT.
    pub fn take_leave(&mut self, desk: &Desk, session: SessionKey, disconnect: Disconnect) {
        let expiry_max_s = desk.limits.mqtt.as_ref().map_or(0, |limits| limits.session_expiry_max_s);
        if let Some(mqtt) = self.mqtt(session) {
            // MQTT-3.14.4-3: a normal end discards the will.
            if disconnect.code == ReasonCode::SUCCESS {
                mqtt.will = None;
            }
            if let Some(expiry_s) = disconnect.session_expiry_s {
                mqtt.expiry_s = expiry_s.min(expiry_max_s);
            }
        }
    }

    /// The connection of a session is over; what comes of the session is its client's wish.
    pub fn leave_session(&mut self, desk: &mut Desk, key: SessionKey) {
        let now = desk.now;
        let sessions_max = desk.limits.mqtt.as_ref().map_or(0, |limits| limits.sessions_max);
        let is_full = self.broker.ends.asleep >= sessions_max;
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(mqtt) = session.mqtt.as_deref_mut() else { return self.end_session(desk, key) };
        if mqtt.expires.is_some() {
            return;
        }
        // What is not acknowledged is not kept for later.
        session.queue.clear();
        session.connection = None;
        mqtt.answers = None;
        mqtt.subscribing.clear();
        if mqtt.expiry_s == 0 || is_full {
            desk.report.mqtt_dropped += u64::from(mqtt.expiry_s != 0);
            return self.finish_session(desk, key);
        }
        let expires = after(now, mqtt.expiry_s);
        let due = self.fall_asleep(desk, key, expires);
        self.tell_groups(desk, key);
        self.store_session(desk, key);
        if due.is_some_and(|due| due <= now) {
            self.check_session(desk, key);
        }
    }

    /// The session has no connection, and ends at the moment given. When it has something to do next.
    pub fn fall_asleep(&mut self, desk: &Desk, key: SessionKey, expires: Time) -> Option<Time> {
        let now = desk.now;
        let mqtt = self.mqtt(key)?;
        mqtt.expires = Some(expires);
        let will = mqtt.will.as_ref().map(|will| after(now, will.delay_s));
        let due = will.map_or(expires, |will| will.min(expires));
        mqtt.due = Some(due);
        self.broker.ends.due.insert((due, key));
        self.broker.ends.asleep += 1;
        Some(due)
    }

    /// The session has a connection again.
    pub fn keep_awake(&mut self, key: SessionKey) {
        let Some(mqtt) = self.mqtt(key) else { return };
        let (due, was_asleep) = (mqtt.due.take(), mqtt.expires.take().is_some());
        if let Some(due) = due {
            self.broker.ends.due.remove(&(due, key));
        }
        self.broker.ends.asleep -= usize::from(was_asleep);
    }

    pub fn tick_mqtt_ends(&mut self, desk: &mut Desk) {
        while let Some((due, key)) = self.broker.ends.due.first().copied()
            && due <= desk.now
        {
            self.broker.ends.due.remove(&(due, key));
            self.check_session(desk, key);
        }
    }

    /// A session without a connection has something to do by now.
    fn check_session(&mut self, desk: &mut Desk, key: SessionKey) {
        let now = desk.now;
        let Some(mqtt) = self.mqtt(key) else { return };
        let expires = mqtt.expires.unwrap_or(now);
        if let Some(due) = mqtt.due.take() {
            self.broker.ends.due.remove(&(due, key));
        }
        if expires <= now {
            return self.finish_session(desk, key);
        }
        self.publish_will(desk, key);
        self.store_session(desk, key);
        if let Some(mqtt) = self.mqtt(key) {
            mqtt.due = Some(expires);
            self.broker.ends.due.insert((expires, key));
        }
    }

    /// The session is over: its will is published, if that was to come, and nothing of it stays.
    pub fn finish_session(&mut self, desk: &mut Desk, key: SessionKey) {
        self.publish_will(desk, key);
        self.end_session(desk, key);
    }

    /// What of a session that ends is MQTT's.
    pub fn end_mqtt(&mut self, desk: &mut Desk, key: SessionKey) {
        self.keep_awake(key);
        self.leave_groups(desk, key);
        self.unstore_session(desk, key);
        let Some(mqtt) = self.mqtt(key) else { return };
        let client_id = mqtt.client_id.clone();
        if self.broker.clients.get(&client_id) == Some(&key) {
            self.broker.clients.remove(&client_id);
        }
    }
}

/// So many seconds after `now`; the most that there are is never.
fn after(now: Time, seconds: u32) -> Time {
    if seconds == u32::MAX { Time(u64::MAX) } else { now.after_ms(u64::from(seconds) * 1000) }
}
