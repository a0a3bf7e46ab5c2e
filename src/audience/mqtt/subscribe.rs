//! SUBSCRIBE and UNSUBSCRIBE: filters become selectors, which the owners of topics are told as any session's.

use crate::audience::Audience;
use crate::base::SessionKey;
use crate::desk::{Answer, Desk};
use crate::gate::{self, Deed};
use crate::mail::{Call, Caller};
use crate::protocol::mqtt::reason_of;
use crate::session::{Delivery, Ending, Filter, LocalTopic, Mqtt, Sweep, SweepKind};
use crate::topic::mqtt::parse_filter;
use crate::topic::selector::Selector;
use crate::wire::mqtt::{Fault, QoS, ReasonCode, RetainHandling, Subscribe, SubscriptionOptions, Unsubscribe};
use crate::wire::native::Outcome;
use std::rc::Rc;

/// A filter as a client gives it, found to be one.
struct Wanted<'a> {
    text: &'a str,
    share: Option<&'a str>,
    selector: Selector,
    options: SubscriptionOptions,
    id: Option<u32>,
}

impl Audience {
    pub fn subscribe_mqtt(&mut self, desk: &mut Desk, session: SessionKey, subscribe: &Subscribe<'_>) -> Result<(), Fault> {
        // MQTT-3.8.3-4: no-local on a shared subscription is a protocol error.
        if subscribe.filters.iter().any(|(text, options)| options.no_local && text.starts_with("$share/")) {
            return Err(Fault::new(ReasonCode::PROTOCOL_ERROR, "no-local on a shared subscription"));
        }
        let mqtt = self.mqtt(session).expect("a client that says something has a session");
        if mqtt.subscribing.has(subscribe.id) {
            let codes = vec![ReasonCode::PACKET_IDENTIFIER_IN_USE; subscribe.filters.len()];
            self.reply(desk, session, |answers, out| answers.put_suback(out, subscribe.id, &codes));
            return Ok(());
        }
        let epoch = mqtt.epoch;
        mqtt.subscribing.wait(subscribe.id);
        let asker = Caller { session, call: Call::Subscribe { id: subscribe.id, epoch } };
        // Most sessions have one or two filters, and there may be hundreds of thousands: room for these and no others.
        let filters_max = desk.limits.mqtt.filters_max;
        mqtt.filters.reserve(subscribe.filters.len().min(filters_max).min(desk.limits.selections_max));
        // Bounded by `mqtt.packet_bytes_max`; those that cost something by `mqtt.filters_max`.
        for (at, (text, options)) in subscribe.filters.iter().enumerate() {
            let wanted = match at < filters_max {
                true => self.wanted(desk, asker, text, *options, subscribe.subscription_id),
                false => Err(ReasonCode::QUOTA_EXCEEDED),
            };
            let result = wanted.and_then(|wanted| self.add_filter(desk, asker, wanted));
            let code = result.map_or_else(|code| code, |()| ReasonCode(options.qos as u8));
            self.mqtt(session).expect("it was just there").subscribing.push_code(subscribe.id, code);
        }
        self.mqtt(session).expect("it was just there").filters.shrink();
        // The client is told when its subscriptions outlive the server, as the last of what it waits for.
        let ticket = self.store_session(desk, session);
        desk.acknowledge(Ok((Outcome::Done, ticket)), Answer::Update { from: desk.identity.index, to: asker.into() });
        Ok(())
    }

    /// One filter less to wait for; behind the last comes SUBACK.
    pub fn filter_known(&mut self, desk: &mut Desk, session: SessionKey, id: u16) {
        // Its connection may be over, and the session without another.
        let Some(codes) = self.mqtt(session).and_then(|mqtt| mqtt.subscribing.arrived(id)) else { return };
        self.reply(desk, session, |answers, out| answers.put_suback(out, id, &codes));
    }

    fn wanted<'a>(
        &mut self,
        desk: &mut Desk,
        asker: Caller,
        text: &'a str,
        options: SubscriptionOptions,
        id: Option<u32>,
    ) -> Result<Wanted<'a>, ReasonCode> {
        let filter = parse_filter(text).map_err(|_| ReasonCode::TOPIC_FILTER_INVALID)?;
        let selector = Selector::parse(&filter.selector, desk.limits.selector).map_err(|_| ReasonCode::TOPIC_FILTER_INVALID)?;
        let allowed = gate::selected(self.rights(asker.session), Deed::Select, &selector);
        if let Err(refusal) = self.leave_to_owner(desk, asker.session, allowed) {
            self.note_denied(desk, asker.session, "subscribe", &refusal);
            return Err(reason_of(refusal.code));
        }
        let selector = self.selected.held(&selector).cloned().unwrap_or(selector);
        Ok(Wanted { text, share: filter.share, selector, options, id })
    }

    fn add_filter(&mut self, desk: &mut Desk, asker: Caller, wanted: Wanted<'_>) -> Result<(), ReasonCode> {
        let selections_max = desk.limits.selections_max;
        // One SUBSCRIBE alone may have as many filters, each of which is a question.
        let filters_max = desk.limits.mqtt.filters_max;
        let questions_max = desk.limits.questions_max.max(filters_max);
        let asked = self.questions_of(asker.session);
        let session = self.sessions.get_mut(asker.session).expect("a client that says something has a session");
        let sweeps = session.extras.as_ref().map_or(0, |extras| extras.sweeps.len());
        let mqtt = session.mqtt.as_mut().expect("it is a session of MQTT");
        // A group asks on behalf of its member.
        let waiting = mqtt.subscribing.waiting();
        if asked >= questions_max || waiting.saturating_sub(sweeps) > questions_max {
            return Err(ReasonCode::QUOTA_EXCEEDED);
        }
        let is_replaced = mqtt.filters.find(wanted.text).is_some();
        if !is_replaced && mqtt.filters.len() >= selections_max {
            return Err(ReasonCode::QUOTA_EXCEEDED);
        }
        let Wanted { text, share, selector, options, id } = wanted;
        let filter = Filter::new(text, selector.clone(), options, id);
        let filter = if share.is_some() { filter.shared() } else { filter };
        // MQTT-3.8.4-3: the same filter again replaces the subscription.
        mqtt.filters.put(filter);
        if let Call::Subscribe { id, .. } = asker.call {
            mqtt.subscribing.wait(id);
        }
        if share.is_some() {
            self.join_group(desk, asker, text, options, id);
            return Ok(());
        }
        let mqtt = self.mqtt(asker.session).expect("it was just there");
        let is_new = mqtt.filters.count(&selector) <= 1;
        self.take_interest(desk, asker, &selector, is_new);
        let sends_first = match options.retain_handling {
            RetainHandling::Always => true,
            RetainHandling::IfNew => !is_replaced,
            RetainHandling::Never => false,
        };
        let mut sweep = Sweep::of(&selector, SweepKind::Filter { options, id, is_replaced, sends_first });
        // A question that is answered at once may have ended the connection.
        if let Call::Subscribe { id, .. } = asker.call
            && let Some(mqtt) = self.mqtt(asker.session).filter(|mqtt| mqtt.subscribing.has(id))
        {
            mqtt.subscribing.wait(id);
            sweep.endings.push(Ending::Filter { id, epoch: mqtt.epoch });
        }
        self.begin_sweep(desk, asker.session, sweep);
        Ok(())
    }

    /// The session's filters have changed: how it is sent what is published at the topic follows.
    pub fn renew_delivery(&mut self, key: SessionKey, topic: &Rc<LocalTopic>) {
        self.change_delivery(key, topic, |mqtt, before| {
            let delivery = mqtt.delivery(topic.path.as_str());
            if before.is_first_due() { delivery.with_first_due() } else { delivery }
        });
    }

    /// The topic is known again: the filters of those who waited for it may have changed meanwhile.
    pub fn renew_deliveries(&mut self, topic: &Rc<LocalTopic>) {
        // One for each subscriber of the topic.
        let waiting: Vec<SessionKey> =
            topic.subscribers.borrow().iter().filter(|held| held.delivery.is_mqtt()).map(|held| held.session).collect();
        for session in waiting {
            self.renew_delivery(session, topic);
        }
    }

    pub fn change_delivery(&mut self, key: SessionKey, topic: &Rc<LocalTopic>, change: impl FnOnce(&Mqtt, Delivery) -> Delivery) {
        let session = self.sessions.get(key).expect("a subscriber is a session");
        let (_, place) = session.subscriptions.get(&topic.id).expect("a subscriber has the subscription");
        let mqtt = session.mqtt.as_ref().expect("a subscriber by filters is a session of MQTT");
        let subscriber = &mut topic.subscribers.borrow_mut()[*place as usize];
        let changed = change(mqtt, subscriber.delivery);
        subscriber.delivery = changed;
    }

    pub fn unsubscribe_mqtt(&mut self, desk: &mut Desk, session: SessionKey, unsubscribe: &Unsubscribe<'_>) {
        // Bounded by `mqtt.packet_bytes_max`; those that cost something are filters of the session.
        let codes: Vec<ReasonCode> = unsubscribe
            .filters
            .iter()
            .map(|text| match parse_filter(text) {
                Err(_) => ReasonCode::TOPIC_FILTER_INVALID,
                Ok(_) if self.remove_filter(desk, session, text) => ReasonCode::SUCCESS,
                Ok(_) => ReasonCode::NO_SUBSCRIPTION_EXISTED,
            })
            .collect();
        self.store_session(desk, session);
        // MQTT-3.10.4-2: nothing matches the filters any more once that is said.
        let epoch = self.mqtt(session).expect("it was just there").epoch;
        let extras = self.sessions.get_mut(session).and_then(|session| session.extras.as_mut());
        match extras.and_then(|extras| extras.sweeps.back_mut()) {
            Some(last) => last.endings.push(Ending::Unsuback { id: unsubscribe.id, epoch, codes }),
            None => self.reply(desk, session, |answers, out| answers.put_unsuback(out, unsubscribe.id, &codes)),
        }
    }

    /// Whether there was such a filter.
    fn remove_filter(&mut self, desk: &mut Desk, key: SessionKey, text: &str) -> bool {
        let mqtt = self.mqtt(key).expect("a client that says something has a session");
        let Some(filter) = mqtt.filters.remove(text) else { return false };
        if filter.is_shared() {
            self.leave_group(desk, key, text);
            return true;
        }
        let is_held = mqtt.filters.count(&filter.selector) > 0;
        let sweep = Sweep::of(&filter.selector, SweepKind::Withdraw);
        let released = if is_held { Vec::new() } else { vec![filter.selector] };
        self.begin_sweep(desk, key, Sweep { released, ..sweep });
        true
    }

    /// Takes up the filters of a session that was restored: the owners of topics know of its selectors already.
    pub fn restore_filters(&mut self, desk: &mut Desk, key: SessionKey) {
        let mqtt = self.mqtt(key).expect("it was just restored");
        let shared: Vec<_> = mqtt.filters.shared().map(|filter| (filter.name(), filter.options, filter.id())).collect();
        let selectors: Vec<Selector> = mqtt.filters.selectors().cloned().collect();
        for selector in selectors {
            self.hold_selector(key, &selector);
        }
        for (text, options, id) in shared {
            self.join_group(desk, Caller { session: key, call: Call::Unheard }, &text, options, id);
        }
    }

    /// The most of a subscription's QoS that a message is sent with.
    pub fn granted(subscribed: QoS, published: QoS) -> QoS {
        subscribed.min(published)
    }
}
