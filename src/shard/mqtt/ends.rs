//! Sessions without a connection: their wills, and when they are over.

use crate::base::{Key, Time};
use crate::mail::NOBODY;
use crate::shard::Shard;
use crate::wire::mqtt::{Disconnect, ReasonCode};
use std::collections::BTreeSet;

/// When the sessions without a connection have something to do: publish a will, or end.
#[derive(Default)]
pub struct Ends {
    due: BTreeSet<(Time, Key)>,
    /// Sessions without a connection.
    pub asleep: usize,
}

impl Shard {
    /// DISCONNECT.
    pub(super) fn take_leave(&mut self, session: Key, disconnect: Disconnect) {
        let expiry_max_s = self.desk.limits.mqtt.as_ref().map_or(0, |limits| limits.session_expiry_max_s);
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
    pub(in crate::shard) fn leave_session(&mut self, key: Key) {
        let now = self.desk.now;
        let sessions_max = self.desk.limits.mqtt.as_ref().map_or(0, |limits| limits.sessions_max);
        let is_full = self.mqtt_ends.asleep >= sessions_max;
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(mqtt) = session.mqtt.as_deref_mut() else { return self.end_session(key) };
        if mqtt.expires.is_some() {
            return;
        }
        // What is not acknowledged is not kept for later.
        session.queue.clear();
        session.connection = NOBODY;
        mqtt.answers = None;
        mqtt.subscribing.clear();
        if mqtt.expiry_s == 0 || is_full {
            self.desk.report.mqtt_dropped += u64::from(mqtt.expiry_s != 0);
            return self.finish_session(key);
        }
        let expires = after(now, mqtt.expiry_s);
        let due = self.fall_asleep(key, expires);
        self.tell_groups(key);
        self.store_session(key);
        if due.is_some_and(|due| due <= now) {
            self.check_session(key);
        }
    }

    /// The session has no connection, and ends at the moment given. When it has something to do next.
    pub(super) fn fall_asleep(&mut self, key: Key, expires: Time) -> Option<Time> {
        let now = self.desk.now;
        let mqtt = self.mqtt(key)?;
        mqtt.expires = Some(expires);
        let will = mqtt.will.as_ref().map(|will| after(now, will.delay_s));
        let due = will.map_or(expires, |will| will.min(expires));
        mqtt.due = Some(due);
        self.mqtt_ends.due.insert((due, key));
        self.mqtt_ends.asleep += 1;
        Some(due)
    }

    /// The session has a connection again.
    pub(super) fn keep_awake(&mut self, key: Key) {
        let Some(mqtt) = self.mqtt(key) else { return };
        let (due, was_asleep) = (mqtt.due.take(), mqtt.expires.take().is_some());
        if let Some(due) = due {
            self.mqtt_ends.due.remove(&(due, key));
        }
        self.mqtt_ends.asleep -= usize::from(was_asleep);
    }

    pub(in crate::shard) fn tick_mqtt_ends(&mut self) {
        while let Some((due, key)) = self.mqtt_ends.due.first().copied()
            && due <= self.desk.now
        {
            self.mqtt_ends.due.remove(&(due, key));
            self.check_session(key);
        }
    }

    /// A session without a connection has something to do by now.
    fn check_session(&mut self, key: Key) {
        let now = self.desk.now;
        let Some(mqtt) = self.mqtt(key) else { return };
        let expires = mqtt.expires.unwrap_or(now);
        if let Some(due) = mqtt.due.take() {
            self.mqtt_ends.due.remove(&(due, key));
        }
        if expires <= now {
            return self.finish_session(key);
        }
        self.publish_will(key);
        self.store_session(key);
        if let Some(mqtt) = self.mqtt(key) {
            mqtt.due = Some(expires);
            self.mqtt_ends.due.insert((expires, key));
        }
    }

    /// The session is over: its will is published, if that was to come, and nothing of it stays.
    pub(in crate::shard) fn finish_session(&mut self, key: Key) {
        self.publish_will(key);
        self.end_session(key);
    }

    /// What of a session that ends is MQTT's.
    pub(in crate::shard) fn end_mqtt(&mut self, key: Key) {
        self.keep_awake(key);
        self.leave_groups(key);
        self.unstore_session(key);
        let Some(mqtt) = self.mqtt(key) else { return };
        let client_id = mqtt.client_id.clone();
        if self.mqtt_sessions.get(&client_id) == Some(&key) {
            self.mqtt_sessions.remove(&client_id);
        }
    }
}

/// So many seconds after `now`; the most that there are is never.
fn after(now: Time, seconds: u32) -> Time {
    if seconds == u32::MAX { Time(u64::MAX) } else { now.after_ms(u64::from(seconds) * 1000) }
}
