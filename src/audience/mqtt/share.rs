//! Shared subscriptions: of a group's members each message reaches one.
//!
//! The shard that a group's filter names holds the group, as a session of its own that is subscribed and has no connection. What is published to it is
//! dealt out in turn, to members that may be sent it at once where there are any, else to those that have a connection; a member elsewhere is sent it
//! by mail. What a member has not acknowledged when its session ends is dealt again, but for QoS 2 that was sent to it.

use crate::audience::Audience;
use crate::base::{SessionId, SessionKey};
use crate::desk::{Desk, Storing};
use crate::mail::{Call, Caller, Dealing, Dealt, GroupChange, Mail, Share};
use crate::protocol::Refusal;
use crate::session::mqtt::{Message, Standing};
use crate::session::{Filter, Form, Group, Life, Member, Mqtt, MqttForm, Outgoing, Session, Sweep, SweepKind};
use crate::topic::mqtt::parse_filter;
use crate::topic::publication::Keep;
use crate::topic::selector::Selector;
use crate::wire::mqtt::{QoS, SubscriptionOptions, Version};
use crate::wire::native::Outcome;
use std::rc::Rc;

impl Audience {
    /// A session's subscription is a group's member.
    pub fn join_group(&mut self, desk: &mut Desk, asker: Caller, text: &str, options: SubscriptionOptions, id: Option<u32>) {
        let session = self.id_of(asker.session).expect("a session with filters stands");
        let standing = self.standing(desk, asker.session);
        // Other groups of the session's may have been told otherwise.
        self.tell_groups(desk, asker.session);
        self.mqtt(asker.session).expect("only a session of MQTT has filters").told = Some(standing);
        let SubscriptionOptions { qos, retain_as_published, .. } = options;
        let (rights, principal) = (self.shared_rights(asker.session), self.author_of(asker.session));
        let member = Member { session, qos, retain_as_published, id, standing, rights, principal };
        desk.mail(desk.owner_of(text), Mail::Group { text: text.into(), change: GroupChange::Join { member, caller: asker } });
    }

    pub fn leave_group(&mut self, desk: &mut Desk, session: SessionKey, text: &str) {
        let session = self.id_of(session).expect("a session with filters stands");
        let change = GroupChange::Leave { session };
        desk.mail(desk.owner_of(text), Mail::Group { text: text.into(), change });
    }

    /// How soon the session would have a message that is dealt to it now.
    pub(super) fn standing(&self, desk: &Desk, key: SessionKey) -> Standing {
        let session = self.sessions.get(key).expect("who is sent a message stands");
        let mqtt = session.mqtt.as_deref().expect("only a session of MQTT is sent messages");
        let inflight_max = desk.limits.mqtt.inflight_max;
        let window = usize::from(inflight_max.min(mqtt.receive_maximum));
        match session.life.is_heard() {
            true if mqtt.outbound.len() + session.queue.message_count() < window => Standing::Ready,
            true => Standing::Full,
            false => Standing::Away,
        }
    }

    fn shared_filters(&self, session: SessionKey) -> Vec<Rc<str>> {
        let mqtt = self.sessions.get(session).and_then(|session| session.mqtt.as_ref());
        let filters = mqtt.into_iter().flat_map(|mqtt| mqtt.filters.shared());
        filters.map(Filter::name).collect()
    }

    /// The session is over: others get what it was dealt.
    pub fn leave_groups(&mut self, desk: &mut Desk, session: SessionKey) {
        // Bounded by `limits.selections_max`, and by `mqtt.queued_messages_max` with `mqtt.inflight_max`.
        for text in self.shared_filters(session) {
            self.leave_group(desk, session, &text);
        }
        for (text, dealing) in self.dealt_to(session) {
            desk.mail(desk.owner_of(&text), Mail::Group { text: (&*text).into(), change: GroupChange::DealAgain(dealing) });
        }
    }

    /// What groups have dealt to the session and it has not acknowledged, in the order in which it came.
    fn dealt_to(&self, key: SessionKey) -> Vec<(Rc<str>, Dealing)> {
        let session = self.sessions.get(key).expect("a session that ends stands");
        let Some(mqtt) = &session.mqtt else { return Vec::new() };
        // MQTT-4.8.2-5: a QoS 2 message that was sent to one member is sent to no other.
        let sent = mqtt.outbound.messages().filter(|message| message.qos == QoS::AtLeastOnce);
        let waiting = session.queue.messages().filter(|message| message.qos == QoS::AtLeastOnce || !message.is_repeated);
        let mut messages: Vec<_> = sent.chain(waiting).filter_map(|message| Some((message.group.clone()?, message))).collect();
        messages.sort_unstable_by_key(|(_, message)| message.sequence);
        messages.into_iter().map(|(text, message)| (text, dealing_of(message))).collect()
    }

    /// Groups deal to members that have a connection, and room for more.
    pub fn tell_groups(&mut self, desk: &mut Desk, session: SessionKey) {
        let Some(told) = self.mqtt(session).and_then(|mqtt| mqtt.told) else { return };
        let standing = self.standing(desk, session);
        if standing == told {
            return;
        }
        self.mqtt(session).expect("it was just there").told = Some(standing);
        let id = self.id_of(session).expect("it was just there");
        // Bounded by `limits.selections_max`.
        for text in self.shared_filters(session) {
            let change = GroupChange::Standing { session: id, standing };
            desk.mail(desk.owner_of(&text), Mail::Group { text: (&*text).into(), change });
        }
    }

    /// Groups deal to members what these may have.
    pub fn tell_groups_rights(&mut self, desk: &mut Desk, session: SessionKey) {
        let Some(id) = self.id_of(session) else { return };
        // Bounded by `limits.selections_max`.
        for text in self.shared_filters(session) {
            let change = GroupChange::Rights { session: id, rights: self.shared_rights(session), principal: self.author_of(session) };
            desk.mail(desk.owner_of(&text), Mail::Group { text: (&*text).into(), change });
        }
    }

    /// A change of a group that this shard holds.
    pub fn change_group(&mut self, desk: &mut Desk, text: &str, change: GroupChange) {
        match change {
            GroupChange::Join { member, caller } => self.take_member(desk, text, member, caller),
            GroupChange::Leave { session } => self.drop_member(desk, text, session),
            GroupChange::Standing { session, standing } => {
                if let Some(key) = self.broker.groups.get(text).copied() {
                    self.group(key).set_standing(session, standing);
                }
            }
            GroupChange::Rights { session, rights, principal } => {
                if let Some(key) = self.broker.groups.get(text).copied() {
                    self.group(key).set_rights(session, rights, principal);
                }
            }
            GroupChange::DealAgain(dealing) => self.deal_again(desk, text, dealing),
        }
    }

    /// The member that a message was dealt to is gone, so another gets it. Where the owner of the message's topic still waits for the word that the
    /// message is kept, it comes from the new member's shard, or from this one where nobody is left.
    fn deal_again(&mut self, desk: &mut Desk, text: &str, dealing: Dealing) {
        let Dealing { publication, path, specification, keep } = dealing;
        let before = std::mem::take(&mut self.broker.dealt);
        match self.broker.groups.get(text).copied() {
            Some(key) => {
                self.locals.sequence += 1;
                let outgoing = Outgoing::without_topic(publication, path, &specification, self.locals.sequence);
                self.deal_out(desk, key, &outgoing, keep);
            }
            None => desk.report.mqtt_dropped += 1,
        }
        if let (0, Some(keep)) = (std::mem::replace(&mut self.broker.dealt, before), keep) {
            self.tell_kept(desk, keep, Share::Dealt);
        }
    }

    /// The group that is a session.
    fn group(&mut self, key: SessionKey) -> &mut Group {
        let mqtt = self.mqtt(key).expect("a group is a session of MQTT");
        mqtt.group.as_mut().expect("the session is a group")
    }

    fn take_member(&mut self, desk: &mut Desk, text: &str, member: Member, asker: Caller) {
        let filter = parse_filter(text).expect("the member's shard has parsed it");
        let selector =
            Selector::parse(&filter.selector, desk.limits.selector).expect("the member's shard has parsed it by the same limits");
        let key = match self.broker.groups.get(text) {
            Some(key) => *key,
            None => self.make_group(desk, text, &selector),
        };
        let (group, home) = (self.group(key), desk.home_of(member.session));
        group.put(member);
        let number = group.join(home, asker);
        // Answered when every owner knows the group's selector.
        self.take_interest(desk, Caller { session: key, call: Call::Join { number } }, &selector, true);
        self.begin_sweep(desk, key, Sweep::of(&selector, SweepKind::Adjust));
    }

    fn make_group(&mut self, desk: &mut Desk, text: &str, selector: &Selector) -> SessionKey {
        let form = Form::Mqtt(MqttForm { version: Version::V5, is_websocket: false, is_shared: false });
        let mut session = Session::new(desk.take_session_id(), Life::Shared, form, desk.turn.now);
        let mut mqtt = Mqtt::new(Rc::from(text), Version::V5);
        let options = SubscriptionOptions { qos: QoS::ExactlyOnce, ..SubscriptionOptions::default() };
        mqtt.filters.put(Filter::new(text, selector.clone(), options, None));
        mqtt.group = Some(Box::default());
        if desk.identity.storing == Storing::Stored {
            desk.become_keeper();
        }
        session.mqtt = Some(Box::new(mqtt));
        let key = self.enter(session);
        // What it is sent goes to a member that may have it.
        self.give_all_rights(key);
        self.broker.groups.insert(text.into(), key);
        key
    }

    fn drop_member(&mut self, desk: &mut Desk, text: &str, session: SessionId) {
        let Some(key) = self.broker.groups.get(text).copied() else { return };
        let group = self.group(key);
        group.remove(session);
        if group.is_empty() {
            // Who left before the owners had answered is answered nevertheless.
            let joining = group.take_joining();
            self.broker.groups.remove(text);
            self.end_session(desk, key);
            // Each has asked once and waits.
            for (shard, caller) in joining {
                desk.mail(shard, Mail::Answer { to: caller.into(), result: Ok(Outcome::Done) });
            }
        }
    }

    /// The owners of topics know the group's selector: the member that joined is answered.
    pub fn group_known(&mut self, desk: &mut Desk, key: SessionKey, number: u32, result: Result<Outcome, Refusal>) {
        let (shard, caller) = self.group(key).joined(number);
        desk.mail(shard, Mail::Answer { to: caller.into(), result });
    }

    /// Gives a publication to the member whose turn it is. `keep` says who waits for the word that it is kept.
    pub fn deal_out(&mut self, desk: &mut Desk, key: SessionKey, outgoing: &Rc<Outgoing>, keep: Option<Keep>) {
        let Some(member) = self.next_member(desk, key, outgoing) else {
            desk.report.mqtt_dropped += 1;
            return;
        };
        let text = self.mqtt(key).expect("a group is a session of MQTT").client_id.clone();
        if desk.home_of(member.session) == desk.identity.index {
            return self.take_dealt_here(desk, &text, member, outgoing.clone());
        }
        let (publication, path, specification) =
            (outgoing.publication().clone(), outgoing.path().clone(), outgoing.specification().clone());
        self.broker.dealt += u32::from(keep.is_some());
        let dealing = Dealing { publication, path, specification, keep };
        desk.mail(desk.home_of(member.session), Mail::Dealt(Box::new(Dealt { text: (&*text).into(), member, dealing })));
    }

    /// The member whose turn it is, of those that have a message soonest.
    fn next_member(&mut self, desk: &Desk, key: SessionKey, outgoing: &Outgoing) -> Option<Member> {
        let mqtt = self.sessions.get(key).and_then(|session| session.mqtt.as_deref()).expect("a group is a session of MQTT");
        let group = mqtt.group.as_deref().expect("the session is a group");
        // The word that a member here has left, or may have less, may be behind the message.
        let here = desk.identity.index;
        let has_left =
            |member: &Member| desk.home_of(member.session) == here && !self.may_be_dealt(member.session, &mqtt.client_id, outgoing);
        let path = outgoing.path().as_str();
        let (number, member) = group.find_next(|rights| rights.may_see(path), outgoing.specification().owner(), has_left)?;
        let member = member.clone();
        self.group(key).pass(number);
        Some(member)
    }

    /// Whether the session is here, has that shared subscription still, and may have what is dealt.
    fn may_be_dealt(&self, session: SessionId, text: &str, outgoing: &Outgoing) -> bool {
        let Some(session) = self.find(session).and_then(|key| self.sessions.get(key)) else { return false };
        let has_filter = session.mqtt.as_deref().is_some_and(|mqtt| mqtt.filters.find(text).is_some());
        has_filter && session.may_see(outgoing.path().as_str(), outgoing.specification())
    }

    /// What another shard's group deals to a session here.
    pub fn take_dealt(&mut self, desk: &mut Desk, dealt: Dealt) {
        let Dealt { text, member, dealing } = dealt;
        self.locals.sequence += 1;
        let Dealing { publication, path, specification, keep } = dealing;
        let outgoing = Outgoing::without_topic(publication, path, &specification, self.locals.sequence);
        if !self.may_be_dealt(member.session, &text, &outgoing) {
            // The group does not know yet that the member has left, or may have less. The word of that is on its way, in front of this.
            let (publication, path) = (outgoing.publication().clone(), outgoing.path().clone());
            let change = GroupChange::DealAgain(Dealing { publication, path, specification, keep });
            return desk.mail(desk.owner_of(&text), Mail::Group { text, change });
        }
        self.take_dealt_here(desk, &text, member, outgoing);
        if let Some(keep) = keep {
            self.tell_kept(desk, keep, Share::Dealt);
        }
    }

    /// The member was found to be here, and to have the subscription.
    fn take_dealt_here(&mut self, desk: &mut Desk, text: &str, member: Member, outgoing: Rc<Outgoing>) {
        let session = self.find(member.session).expect("the member is here");
        let mqtt = self.mqtt(session).expect("a member is a session of MQTT");
        let group = mqtt.filters.find(text).map(Filter::name);
        let qos = Self::granted(member.qos, outgoing.publication().qos());
        if qos == QoS::AtMostOnce && !self.is_connected(session) {
            return;
        }
        let is_retained = outgoing.publication().message().is_some_and(|message| message.retain);
        let message = Message {
            qos,
            outgoing,
            retain: is_retained && member.retain_as_published,
            is_first: false,
            is_repeated: false,
            is_noted: false,
            sequence: 0,
            ticket: 0,
            missed: 0,
            hold: None,
            subscription_ids: member.id.into_iter().collect(),
            group,
        };
        self.push_message(desk, session, message);
    }
}

/// The message as a group deals it. Who waited for the word that it is kept has had it from the session, or has it when that is stored.
pub(super) fn dealing_of(message: &Message) -> Dealing {
    let outgoing = &message.outgoing;
    let (path, specification) = (outgoing.path().clone(), outgoing.specification().clone());
    Dealing { publication: outgoing.publication().clone(), path, specification, keep: None }
}
