//! Subscriptions: a session and a topic that it selects.

use crate::audience::Audience;
use crate::base::{SessionKey, push_lean};
use crate::desk::{Desk, Why};
use crate::mail::Appearance;
use crate::session::{Delivery, Ended, Entry, Life, LocalTopic, Subscriber};
use std::rc::Rc;

impl Audience {
    pub fn start_subscription(&mut self, desk: &mut Desk, key: SessionKey, topic: &Rc<LocalTopic>, appearance: Appearance) {
        let session = self.sessions.get_mut(key).expect("a session that selects stands");
        if session.subscriptions.contains_key(&topic.id) || !session.selects(topic) {
            return;
        }
        let subscriptions_max = desk.limits.subscriptions_max;
        if subscriptions_max > 0 && session.subscriptions.len() >= subscriptions_max && session.is_client() {
            return self.end_overfull(desk, key);
        }
        self.locals.generation = self.locals.generation.wrapping_add(1);
        let generation = self.locals.generation;
        let mut subscribers = topic.subscribers.borrow_mut();
        session.subscriptions.insert(topic.id, (topic.clone(), subscribers.len() as u32));
        let delivery = session.mqtt.as_ref().map_or(Delivery::NATIVE, |mqtt| mqtt.delivery(topic.path.as_str()));
        let subscriber = Subscriber { session: key, generation, is_latest_queued: !delivery.is_mqtt(), delivery };
        push_lean(&mut subscribers, subscriber);
        drop(subscribers);
        self.presence_changed(topic, key, true);
        if delivery.is_mqtt() {
            self.note_count(topic);
            return self.start_messages(desk, topic, subscriber, appearance);
        }
        self.push(desk, key, Entry::Subscribed(topic.clone(), generation));
        self.note_count(topic);
        if topic.is_time_series() {
            self.ask_history(desk, key, topic, generation);
        } else if !topic.specification.retains_value() {
            // The subscription sends no value, so each one that is published from now on is a step.
            self.end_waiting(topic, key, generation);
        }
    }

    /// The session is over for good: it selects more than it may be subscribed to, and a part would be taken for the whole.
    fn end_overfull(&mut self, desk: &mut Desk, key: SessionKey) {
        let session = self.sessions.get_mut(key).expect("a session that selects stands");
        match session.life {
            Life::Connected(_) => {
                if let Some(mqtt) = &mut session.mqtt {
                    mqtt.expiry_s = 0;
                }
                self.give_up(desk, key, Why::Overfull);
            }
            Life::Away(_) if session.ended != Ended::ByServer => self.expire_soon(desk, key),
            // It was told already.
            _ => return,
        }
        desk.report.sessions_overfull += 1;
    }

    /// Takes the session off the topic's subscribers; the last subscriber takes its place there.
    pub fn end_subscription(&mut self, desk: &mut Desk, key: SessionKey, topic: &Rc<LocalTopic>) {
        let session = self.sessions.get_mut(key).expect("a session with subscriptions stands");
        // An answer that came due when another of its subscriptions ended may have put its queue under pressure, which ended this one.
        let Some((_, place)) = session.subscriptions.remove(&topic.id) else { return };
        let mut subscribers = topic.subscribers.borrow_mut();
        let ended = subscribers.swap_remove(place as usize);
        if let Some(moved) = subscribers.get(place as usize) {
            let moved = self.sessions.get_mut(moved.session).expect("a subscriber is a session");
            moved.subscriptions.get_mut(&topic.id).expect("a subscriber has the subscription").1 = place;
        }
        let is_left = subscribers.is_empty();
        if is_left && !topic.has_aliases.get() {
            self.locals.limbo.forget(topic);
        }
        drop(subscribers);
        self.presence_changed(topic, key, false);
        self.history_arrived(desk, topic, key, ended.generation);
        self.note_count(topic);
        if is_left && topic.is_alias.get() {
            self.alias_left(topic);
        }
    }
}
