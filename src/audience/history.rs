//! What subscribers are asked and told beside values: the events that a time series' new subscriber gets.
//!
//! A new subscriber of a time series waits until the owner has said which events come first; what is published before the owner's answer
//! is among them, what is published after it comes behind. A subscriber that missed events while the owner had forgotten this shard's
//! interest waits in the same way. A session has few such questions under way: see `pace`.

use crate::audience::Audience;
use crate::base::{SessionKey, TopicId};
use crate::desk::Desk;
use crate::mail::{Caller, Subscription};
use crate::session::{History, Life, LocalTopic, Outgoing, Subscriber};
use crate::topic::publication::Publication;
use std::rc::Rc;
use std::sync::Arc;

impl Audience {
    /// Asks for the first events of a subscription.
    pub fn ask_history(&mut self, desk: &mut Desk, session: SessionKey, topic: &Rc<LocalTopic>, generation: u32) {
        self.ask_events(desk, session, topic, generation, None);
    }

    fn ask_events(&mut self, desk: &mut Desk, session: SessionKey, topic: &Rc<LocalTopic>, generation: u32, from: Option<u64>) {
        let path = self.topic_of(topic).path.clone();
        let held = self.sessions.get_mut(session).expect("a subscriber is a session");
        // It stands until it is taken off its topics, and waits for nothing.
        if held.life == Life::Over {
            return;
        }
        let extras = held.extras_mut();
        extras.histories.insert(generation, History { path, from });
        extras.histories_waiting.insert(generation);
        self.go_on(desk, session);
    }

    /// The topic appeared again: events are asked for anew for each subscriber, from the first that it has not.
    pub fn ask_missed_events(&mut self, desk: &mut Desk, topic: &Rc<LocalTopic>) {
        let last = topic.last_sequence();
        let mut asked = Vec::new();
        // One for each subscriber, who waits for its own.
        for subscriber in topic.subscribers.borrow_mut().iter_mut() {
            self.locals.generation = self.locals.generation.wrapping_add(1);
            let before = std::mem::replace(&mut subscriber.generation, self.locals.generation);
            let is_waiting = std::mem::replace(&mut subscriber.is_latest_queued, true);
            asked.push((subscriber.session, before, subscriber.generation, is_waiting));
        }
        for (session, before, generation, is_waiting) in asked {
            let extras = &self.sessions.get(session).expect("a subscriber is a session").extras;
            let waited_for = extras.as_ref().and_then(|extras| extras.histories.get(&before)).and_then(|history| history.from);
            let from = if is_waiting { waited_for } else { Some(last.map_or(0, |last| last + 1)) };
            self.ask_events(desk, session, topic, generation, from);
            self.history_arrived(desk, topic, session, before);
        }
    }

    /// The owner has said which events come first. From now on the subscriber is sent each event as it is published.
    pub fn take_history(&mut self, desk: &mut Desk, id: Option<TopicId>, to: Subscription, events: Vec<Arc<Publication>>) {
        self.take_events(desk, id, to, events);
        // The session may be over.
        let Some(session) = self.sessions.get_mut(to.session) else { return };
        let extras = session.extras.as_mut().expect("whoever asks for events notes that");
        extras.histories_asked.remove(&to.generation);
        self.go_on(desk, to.session);
    }

    fn take_events(&mut self, desk: &mut Desk, id: Option<TopicId>, to: Subscription, events: Vec<Arc<Publication>>) {
        // While the topic waits in limbo the answer is not used: it is asked again when the topic appears.
        let Some(mut topic) = id.and_then(|id| self.locals.known.get(&id).cloned()) else { return };
        if topic.has_aliases.get() {
            topic = self.alias_of(&topic, to).unwrap_or(topic);
        }
        let Some(subscriber) = self.end_waiting(&topic, to.session, to.generation) else { return };
        // Bounded by `limits.history_bytes_max`.
        for event in events {
            topic.set_last_sequence(topic.last_sequence().map_or(event.version, |last| last.max(event.version)));
            self.locals.sequence += 1;
            let event = if topic.is_alias.get() { Arc::new(event.renumbered(topic.id)) } else { event };
            let outgoing = Outgoing::history(event, &topic, self.locals.sequence);
            self.deliver_any(desk, &topic, subscriber, &outgoing);
        }
        self.history_arrived(desk, &topic, to.session, to.generation);
    }

    /// From here on publications are steps of this subscription, which is given if it stands.
    pub fn end_waiting(&mut self, topic: &Rc<LocalTopic>, key: SessionKey, generation: u32) -> Option<Subscriber> {
        let session = self.sessions.get(key).filter(|session| session.holds(topic))?;
        let (_, place) = session.subscriptions.get(&topic.id).expect("it holds the topic");
        let mut subscribers = topic.subscribers.borrow_mut();
        let subscriber = &mut subscribers[*place as usize];
        if subscriber.generation != generation {
            return None;
        }
        subscriber.is_latest_queued = false;
        Some(*subscriber)
    }

    /// A subscription waits no longer; answers that come behind the events of all are due when none does.
    pub fn history_arrived(&mut self, desk: &mut Desk, topic: &LocalTopic, key: SessionKey, generation: u32) {
        if !topic.is_time_series() {
            return;
        }
        let session = self.sessions.get_mut(key).expect("a subscriber is a session");
        // Clients of MQTT ask for no first events.
        let Some(extras) = session.extras.as_mut() else { return };
        extras.histories_waiting.remove(&generation);
        if extras.histories.remove(&generation).is_none() || !extras.histories.is_empty() {
            return;
        }
        // Bounded by `limits.questions_max`.
        for call in std::mem::take(&mut extras.answers_held) {
            self.answer_behind(desk, Caller { session: key, call });
        }
    }
}
