//! Messages on their way to clients: what a subscription adds to a publication, and the bounds of what waits.

use crate::audience::Audience;
use crate::audience::mqtt::share::dealing_of;
use crate::audience::queue::wake;
use crate::base::{SessionKey, ShardIndex};
use crate::desk::{Desk, Effect, Log};
use crate::mail::{Appearance, GroupChange, Mail};
use crate::session::mqtt::{Message, Standing};
use crate::session::{Delivery, Entry, Life, LocalTopic, Outgoing, Session, Subscriber};
use crate::topic::specification::Conflation;
use crate::wire::mqtt::{QoS, RetainHandling};
use std::rc::Rc;

impl Audience {
    /// Sends a publication to a subscription that needs more than its plain bytes.
    pub fn deliver(&mut self, desk: &mut Desk, topic: &Rc<LocalTopic>, subscriber: Subscriber, outgoing: &Rc<Outgoing>) {
        if self.sessions.get(subscriber.session).expect("a subscriber is a session").life == Life::Over {
            return;
        }
        if subscriber.delivery.is_group() {
            let keep = outgoing.publication().keep_of(desk.identity.index);
            return self.deal_out(desk, subscriber.session, outgoing, keep);
        }
        if subscriber.delivery.is_first_due() {
            self.settle_first(desk, subscriber.session, topic, outgoing.is_passing());
        }
        let is_connected = self.is_connected(subscriber.session);
        let session = self.sessions.get_mut(subscriber.session).expect("a subscriber is a session");
        let is_own = outgoing.publication().message().is_some_and(|message| message.origin == Some(session.id));
        let Some(message) = message_for(session, subscriber.delivery, outgoing, is_own) else { return };
        if message.qos == QoS::AtMostOnce && !is_connected {
            return;
        }
        self.push_message(desk, subscriber.session, message);
        if topic.specification.conflation() == Conflation::Always {
            let session = self.sessions.get_mut(subscriber.session).expect("a subscriber is a session");
            let dropped = session.queue.conflate_messages(topic);
            self.forget_messages(desk, subscriber.session, dropped);
        }
    }

    /// Sends the retained message of a topic, if it has one, on account of the filter whose QoS and identifier are given, or else of all the
    /// session's filters.
    pub fn send_first(&mut self, desk: &mut Desk, key: SessionKey, topic: &Rc<LocalTopic>, filter: Option<(QoS, Option<u32>)>) {
        let Some(first) = topic.first() else { return };
        let mqtt = self.mqtt(key).expect("a subscriber by filters is a session of MQTT");
        let (qos, ids) = match filter {
            Some((qos, id)) => (qos, id.into_iter().collect()),
            None => {
                let matching = || mqtt.matching(topic.path.as_str());
                let qos = matching().map(|filter| filter.options.qos).max().unwrap_or_default();
                (qos, matching().filter_map(|filter| filter.id()).collect())
            }
        };
        let message = Message {
            qos: Self::granted(qos, first.publication().qos()),
            outgoing: first,
            retain: true,
            is_first: true,
            is_repeated: false,
            is_noted: false,
            sequence: 0,
            ticket: 0,
            missed: 0,
            hold: None,
            subscription_ids: ids,
            group: None,
        };
        self.push_message(desk, key, message);
    }

    /// A session of MQTT is subscribed to a topic from now on. What a topic is made with is news, and no retained message.
    pub fn start_messages(&mut self, desk: &mut Desk, topic: &Rc<LocalTopic>, subscriber: Subscriber, appearance: Appearance) {
        if appearance == Appearance::Restored || subscriber.delivery.is_group() && appearance == Appearance::Found {
            return;
        }
        if appearance == Appearance::Found {
            let mqtt = self.mqtt(subscriber.session).expect("a subscriber by filters is a session of MQTT");
            let wants = |handling: RetainHandling| handling != RetainHandling::Never;
            if mqtt.matching(topic.path.as_str()).any(|filter| wants(filter.options.retain_handling)) {
                self.offer_first(desk, subscriber.session, topic, None);
            }
        } else if let Some(made) = topic.newest() {
            self.deliver_any(desk, topic, subscriber, &made);
        }
    }

    /// Sends a publication to any subscription, as one that arrives: a session of MQTT that is away is sent what it has to acknowledge.
    pub fn deliver_any(&mut self, desk: &mut Desk, topic: &Rc<LocalTopic>, subscriber: Subscriber, outgoing: &Rc<Outgoing>) {
        if subscriber.delivery.meets(outgoing.distinct()) {
            self.deliver(desk, topic, subscriber, outgoing);
        } else if self.sessions.get(subscriber.session).is_some_and(Session::is_awaited) {
            self.push(desk, subscriber.session, Entry::Step(outgoing.clone()));
        }
    }

    /// Queues a message, where the session has room for it. One that it has to acknowledge and for which there is no room is counted: the client is told
    /// with the next that is taken.
    pub fn push_message(&mut self, desk: &mut Desk, key: SessionKey, mut message: Message) {
        if message.qos == QoS::AtMostOnce {
            return self.push(desk, key, Entry::Message(Box::new(message)));
        }
        // A message that was on its way when the server was restarted has come again.
        if message.publisher().is_some_and(|publisher| self.was_taken(key, publisher)) {
            return;
        }
        let (messages_max, held_bytes_max) = (desk.limits.mqtt.queued_messages_max, desk.limits.mqtt.held_bytes_max);
        let session = self.sessions.get_mut(key).expect("who is sent a message stands");
        let mqtt = session.mqtt.as_deref_mut().expect("only a session of MQTT is sent messages");
        let is_room = self.broker.held.get() < held_bytes_max;
        if !is_room || !session.queue.has_room(&message, messages_max, desk.limits.queue) {
            if mqtt.missed == 0 {
                desk.effects.push(Effect::Log(Log::QueueFull { client_id: (&*mqtt.client_id).into() }));
            }
            mqtt.missed = mqtt.missed.saturating_add(1);
            mqtt.dropped = mqtt.dropped.saturating_add(1);
            desk.report.mqtt_dropped += 1;
            return;
        }
        message.sequence = mqtt.outbound.next_message();
        message.missed = std::mem::take(&mut mqtt.missed);
        message.hold = Some(self.broker.held.hold(&message.outgoing));
        // It is sent in this turn, then. That of QoS 2 waits for its record first.
        message.is_noted = session.queue.message_count() == 0 && self.standing(desk, key) == Standing::Ready;
        let ticket = self.store_message(desk, key, &message);
        if message.qos == QoS::ExactlyOnce {
            message.ticket = ticket.map_or(0, |ticket| ticket.0);
            desk.ledger.wake_when_stored(ticket, key);
        }
        self.push(desk, key, Entry::Message(Box::new(message)));
        self.tell_groups(desk, key);
        if self.broker.held.get() > held_bytes_max / 8 * 7 && !self.broker.is_full {
            self.tell_full(desk, true);
        }
    }

    /// Publishers are refused by the owners of topics while sessions here hold about as much as they may together.
    fn tell_full(&mut self, desk: &mut Desk, is_full: bool) {
        self.broker.is_full = is_full;
        for owner in (0..desk.identity.count).map(ShardIndex) {
            desk.mail(owner, Mail::Full { is_full });
        }
    }

    pub fn tick_full(&mut self, desk: &mut Desk) {
        let held_bytes_max = desk.limits.mqtt.held_bytes_max;
        if self.broker.is_full && self.broker.held.get() <= held_bytes_max / 4 * 3 {
            self.tell_full(desk, false);
        }
    }

    pub fn held_bytes(&self) -> usize {
        self.broker.held.get()
    }

    /// Messages that are not sent any more: others came in their place, or they cannot be sent.
    pub fn forget_messages(&mut self, desk: &mut Desk, session: SessionKey, sequences: Vec<u64>) {
        desk.report.mqtt_dropped += sequences.len() as u64;
        // Bounded by `mqtt.queued_messages_max`. Each gives way once.
        for sequence in sequences {
            self.forget_message(desk, session, sequence);
        }
        self.tell_groups(desk, session);
    }

    /// What waits for a session of MQTT and its client may not have any more is not sent. What was sent once stays: both sides have to end its exchange. What a
    /// group has dealt goes to another member.
    pub fn withdraw_unpermitted(&mut self, desk: &mut Desk, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key).filter(|session| session.mqtt.is_some()) else { return };
        let mut queue = std::mem::take(&mut session.queue);
        let (mut dropped, mut missed, mut forgotten, mut dealt) = (0, 0u32, Vec::new(), Vec::new());
        // Bounded as every queue is, and part of what this turn may do.
        queue.drop_if(|outgoing, message| {
            desk.turn.walk_budget = desk.turn.walk_budget.saturating_sub(1);
            if message.is_some_and(|message| message.is_repeated) || session.may_see(outgoing.path().as_str(), outgoing.specification()) {
                return false;
            }
            // It said what its client had missed before it.
            missed = missed.saturating_add(message.map_or(0, |message| message.missed));
            match message.filter(|message| message.qos != QoS::AtMostOnce) {
                Some(message) => {
                    forgotten.push(message.sequence);
                    dealt.extend(message.group.clone().map(|text| (message.sequence, text, dealing_of(message))));
                }
                None => dropped += 1,
            }
            true
        });
        session.queue = queue;
        if dropped == 0 && forgotten.is_empty() {
            return;
        }
        desk.report.mqtt_dropped += dropped;
        if let Some(mqtt) = self.mqtt(key) {
            mqtt.missed = mqtt.missed.saturating_add(missed);
        }
        self.forget_messages(desk, key, forgotten);
        dealt.sort_unstable_by_key(|(sequence, ..)| *sequence);
        for (_, text, dealing) in dealt {
            desk.mail(desk.owner_of(&text), Mail::Group { text: (&*text).into(), change: GroupChange::DealAgain(dealing) });
        }
    }

    pub fn is_connected(&self, session: SessionKey) -> bool {
        self.sessions.get(session).is_some_and(|session| session.life.is_heard())
    }

    pub fn wake_session(&mut self, desk: &mut Desk, session: SessionKey) {
        // It may be over by the time that its record is stored.
        if let Some(session) = self.sessions.get_mut(session) {
            wake(desk, session);
        }
    }
}

/// The message of a live publication; `None` where the client itself published it and wants none of its own.
fn message_for(session: &Session, delivery: Delivery, outgoing: &Rc<Outgoing>, is_own: bool) -> Option<Message> {
    let publication = outgoing.publication();
    let mut message = Message {
        outgoing: outgoing.clone(),
        qos: delivery.qos(),
        retain: publication.message().is_some_and(|message| message.retain) && delivery.retains_as_published(),
        is_first: false,
        is_repeated: false,
        is_noted: false,
        sequence: 0,
        ticket: 0,
        missed: 0,
        hold: None,
        subscription_ids: Box::default(),
        group: None,
    };
    if delivery.has_ids() || delivery.has_no_local() && is_own {
        let filters = session.mqtt.as_ref()?.matching(outgoing.path().as_str());
        // Bounded by `limits.selections_max`; mostly a few of a session match one topic.
        let filters: Vec<_> = filters.filter(|filter| !(filter.options.no_local && is_own)).collect();
        message.qos = filters.iter().map(|filter| filter.options.qos).max()?;
        message.retain &= filters.iter().any(|filter| filter.options.retain_as_published);
        message.subscription_ids = filters.iter().filter_map(|filter| filter.id()).collect();
    }
    message.qos = Audience::granted(message.qos, publication.qos());
    Some(message)
}
