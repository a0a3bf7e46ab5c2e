//! What arrives of topics for the sessions of this shard, and how many of these are subscribed.

use crate::audience::Audience;
use crate::audience::queue::wake;
use crate::base::{SessionKey, TopicId};
use crate::desk::Desk;
use crate::mail::{Appearance, Appeared, Mail, Share};
use crate::protocol::Reason;
use crate::session::{Entry, Life, LocalTopic, Outgoing, SweepKind};
use crate::topic::publication::Publication;
use crate::topic::specification::Conflation;
use std::rc::Rc;
use std::sync::Arc;

impl Audience {
    pub fn topic_appeared(&mut self, desk: &mut Desk, appeared: Appeared) {
        let Appeared { id, path, specification, latest, is_counted, appearance } = appeared;
        let topic = match self.locals.limbo.take(&path) {
            Some(topic) if topic.id == id => topic,
            waiting => {
                // What was waited for has gone, and its subscribers hear that first.
                if let Some(gone) = waiting {
                    self.end_subscribers(desk, &gone, Reason::Removed);
                }
                LocalTopic::new(id, path.clone(), specification)
            }
        };
        topic.is_counted.set(is_counted);
        let version = topic.latest.borrow().as_ref().map(|latest| latest.version());
        if let Some(publication) = latest.filter(|_| !topic.is_time_series()) {
            topic.take(&self.outgoing(publication, &topic), self.locals.generation);
        }
        let is_newer = topic.latest.borrow().as_ref().map(|latest| latest.version()) != version;
        self.locals.known.insert(id, topic.clone());
        self.locals.by_path.insert(path.clone(), topic.clone());
        self.renew_deliveries(&topic);
        self.renew_firsts(&topic);
        self.end_withdrawn(desk, &topic);
        // Who waited in limbo is sent what it has not had; what is not kept is not sent again.
        if topic.is_time_series() || topic.specification.retains_value() && is_newer {
            self.send_latest(desk, &topic, is_newer);
        }
        if topic.has_aliases.get() {
            self.aliases_appeared(desk, &topic, is_newer);
        }
        // One for each session that selects the topic.
        let mut sessions: Vec<SessionKey> = Vec::new();
        self.selected.for_each_match(path.as_str(), |selected| sessions.extend(selected.sessions.iter()));
        for session in sessions {
            self.offer_topic(desk, session, &topic, appearance);
        }
        // Nothing that appears with its topic has to be acknowledged as kept, so nobody asks what groups have dealt of it.
        self.broker.dealt = 0;
        self.note_count(&topic);
    }

    /// Who waited for the topic to appear again may have withdrawn what selected it, or may not have it any more:
    /// that comes before it is sent anything.
    fn end_withdrawn(&mut self, desk: &mut Desk, topic: &Rc<LocalTopic>) {
        let mut sessions: Vec<SessionKey> = topic.subscribers.borrow().iter().map(|subscriber| subscriber.session).collect();
        for alias in self.aliases_of(topic) {
            sessions.extend(alias.subscribers.borrow().iter().map(|subscriber| subscriber.session));
        }
        for key in sessions {
            let session = self.sessions.get(key).expect("a subscriber is a session");
            if self.trees.concern(key) && session.life != Life::Over {
                self.align(desk, key, topic, SweepKind::Withdraw, Appearance::Found);
                continue;
            }
            if session.life == Life::Over || session.selects(topic) {
                continue;
            }
            if session.mqtt.is_some() {
                self.end_subscription(desk, key, topic);
            } else {
                let reason = session.end_of(topic.path.as_str());
                self.unsubscribe_topics(desk, key, std::slice::from_ref(topic), reason);
            }
        }
    }

    /// Gives whoever is subscribed already the newest value whole; clients of MQTT get it only if `is_newer` says that they have not had it.
    pub(super) fn send_latest(&mut self, desk: &mut Desk, topic: &Rc<LocalTopic>, is_newer: bool) {
        if topic.is_time_series() {
            return self.ask_missed_events(desk, topic);
        }
        let (mut behind, mut messages) = (Vec::new(), Vec::new());
        for subscriber in topic.subscribers.borrow_mut().iter_mut().filter(|subscriber| !subscriber.is_latest_queued) {
            if subscriber.delivery.is_mqtt() {
                messages.push(*subscriber);
                continue;
            }
            subscriber.is_latest_queued = true;
            behind.push((subscriber.session, subscriber.generation));
        }
        for (session, generation) in behind {
            self.push(desk, session, Entry::Latest(topic.clone(), generation));
        }
        let newest = topic.newest().filter(|_| is_newer);
        for (subscriber, newest) in messages.into_iter().filter_map(|subscriber| Some((subscriber, newest.clone()?))) {
            self.deliver(desk, topic, subscriber, &newest);
        }
    }

    /// The hot path: one publication to all its subscribers here.
    pub fn publication_arrived(&mut self, desk: &mut Desk, publication: Arc<Publication>) {
        let keep = publication.keep_of(desk.identity.index);
        if let Some(topic) = self.locals.known.get(&publication.topic).cloned() {
            if topic.has_aliases.get() {
                self.publish_aliases(desk, &topic, &publication);
            }
            self.publish(desk, &topic, publication);
        }
        let dealt = std::mem::take(&mut self.broker.dealt);
        if let Some(keep) = keep {
            self.tell_kept(desk, keep, Share::Whole { dealt });
        }
    }

    pub(super) fn publish(&mut self, desk: &mut Desk, topic: &Rc<LocalTopic>, publication: Arc<Publication>) {
        let is_clearing = publication.message().is_some_and(|message| message.is_clearing);
        let outgoing = self.outgoing(publication, topic);
        if topic.is_time_series() {
            topic.set_last_sequence(outgoing.version());
        } else if !is_clearing {
            topic.take(&outgoing, self.locals.generation);
        }
        if topic.specification.conflation() == Conflation::Always && !is_clearing {
            return self.send_latest(desk, topic, true);
        }
        let distinct = outgoing.distinct();
        let (mut overfull, mut apart) = (Vec::new(), Vec::new());
        for subscriber in topic.subscribers.borrow().iter().filter(|subscriber| !subscriber.is_latest_queued) {
            if subscriber.delivery.meets(distinct) {
                apart.push(*subscriber);
                continue;
            }
            if is_clearing && !subscriber.delivery.is_mqtt() {
                continue;
            }
            let session = self.sessions.get_mut(subscriber.session).expect("a subscriber is a session");
            // A session of MQTT without a connection waits for what has to be acknowledged, and for nothing else.
            let is_heard = session.life.is_heard();
            if !is_heard && !session.is_awaited() {
                continue;
            }
            session.queue.push_step(&outgoing);
            if session.queue.bytes() > desk.limits.queue.bytes_high || !is_heard || session.is_conflated {
                overfull.push(subscriber.session);
            }
            wake(desk, session);
        }
        for subscriber in apart {
            self.deliver(desk, topic, subscriber, &outgoing);
        }
        for session in overfull {
            self.keep_bound(desk, session);
        }
    }

    pub fn topic_removed(&mut self, desk: &mut Desk, id: TopicId, reason: Reason) {
        let Some(topic) = self.locals.known.remove(&id) else { return };
        self.locals.by_path.remove(&topic.path);
        self.end_subscribers(desk, &topic, reason);
    }

    pub(super) fn end_subscribers(&mut self, desk: &mut Desk, topic: &Rc<LocalTopic>, reason: Reason) {
        let subscribers = std::mem::take(&mut *topic.subscribers.borrow_mut());
        self.locals.limbo.forget(topic);
        if topic.has_aliases.get() {
            self.end_aliases(desk, topic, reason);
        }
        for subscriber in subscribers {
            let session = self.sessions.get_mut(subscriber.session).expect("a subscriber is a session");
            session.subscriptions.remove(&topic.id);
            self.presence_changed(topic, subscriber.session, false);
            self.history_arrived(desk, topic, subscriber.session, subscriber.generation);
            // Clients of MQTT are not told; one that is away would be left with a longer queue for every topic that goes.
            if !subscriber.delivery.is_mqtt() {
                self.push(desk, subscriber.session, Entry::Unsubscribed(topic.clone(), reason));
            }
        }
    }

    pub fn outgoing(&mut self, publication: Arc<Publication>, topic: &Rc<LocalTopic>) -> Rc<Outgoing> {
        self.locals.sequence += 1;
        Outgoing::new(publication, topic, self.locals.sequence)
    }

    // Counts of subscribers.

    pub fn count_topic(&mut self, id: TopicId, counts: bool) {
        if let Some(topic) = self.locals.known.get(&id).cloned() {
            topic.is_counted.set(counts);
            self.note_count(&topic);
        }
    }

    /// The number of the topic's subscribers may have changed.
    pub fn note_count(&mut self, topic: &Rc<LocalTopic>) {
        if topic.is_counted.get() {
            self.locals.recounted.push(topic.clone());
        } else if topic.is_alias.get() {
            self.note_count(&self.topic_of(topic));
        }
    }

    /// Whether subscribers of counted topics have changed.
    pub fn has_counts(&self) -> bool {
        !self.locals.recounted.is_empty()
    }

    /// Tells the owners of counted topics what has changed in this turn.
    pub fn tell_counts(&mut self, desk: &mut Desk) {
        let mut recounted = std::mem::take(&mut self.locals.recounted);
        recounted.sort_unstable_by_key(|topic| topic.id);
        recounted.dedup_by_key(|topic| topic.id);
        // One for each subscription that began or ended in this turn, at most.
        for topic in recounted {
            // The owner counts no subscribers on a shard that it has forgotten.
            let is_known = self.locals.known.get(&topic.id).is_some_and(|known| Rc::ptr_eq(known, &topic));
            if is_known {
                let count = self.subscriber_count(&topic);
                let owner = desk.owner_of(topic.path.as_str());
                desk.mail(owner, Mail::Subscribers { path: topic.path.clone(), id: topic.id, count });
            }
        }
    }
}
