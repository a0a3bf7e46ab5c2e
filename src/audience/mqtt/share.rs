//! Shared subscriptions: of a group's members each message reaches one.
//!
//! The shard that a group's filter names holds the group, as a session of its own that is subscribed and has no connection. What is published to it is
//! dealt out in turn, to members that have a connection where there are any; a member elsewhere is sent it by mail.

use crate::audience::Audience;
use crate::base::{SessionId, SessionKey};
use crate::desk::{Desk, Storing};
use crate::mail::{Call, Caller, Dealt, GroupChange, Mail, Share};
use crate::protocol::Refusal;
use crate::session::mqtt::{Filter, Group, Member, Message};
use crate::session::{Form, Life, Mqtt, MqttForm, Outgoing, Session, Sweep, SweepKind};
use crate::topic::mqtt::parse_filter;
use crate::topic::selector::Selector;
use crate::wire::mqtt::{QoS, SubscriptionOptions, Version};
use crate::wire::native::Outcome;
use std::rc::Rc;

impl Audience {
    /// A session's subscription is a group's member.
    pub fn join_group(&mut self, desk: &mut Desk, asker: Caller, text: &str, options: SubscriptionOptions, id: Option<u32>) {
        let session = self.id_of(asker.session).expect("a session with filters stands");
        let is_connected = self.is_connected(asker.session);
        let SubscriptionOptions { qos, retain_as_published, .. } = options;
        let member = Member { session, qos, retain_as_published, id, is_connected };
        desk.mail(desk.owner_of(text), Mail::Group { text: text.into(), change: GroupChange::Join { member, caller: asker } });
    }

    pub fn leave_group(&mut self, desk: &mut Desk, session: SessionKey, text: &str) {
        let session = self.id_of(session).expect("a session with filters stands");
        let change = GroupChange::Leave { session };
        desk.mail(desk.owner_of(text), Mail::Group { text: text.into(), change });
    }

    fn shared_filters(&self, session: SessionKey) -> Vec<Box<str>> {
        let mqtt = self.sessions.get(session).and_then(|session| session.mqtt.as_ref());
        let filters = mqtt.into_iter().flat_map(|mqtt| mqtt.filters.iter().filter(|filter| filter.is_shared));
        filters.map(|filter| filter.text.clone()).collect()
    }

    pub fn leave_groups(&mut self, desk: &mut Desk, session: SessionKey) {
        for text in self.shared_filters(session) {
            self.leave_group(desk, session, &text);
        }
    }

    /// Groups deal to members that have a connection.
    pub fn tell_groups(&mut self, desk: &mut Desk, session: SessionKey) {
        let is_connected = self.is_connected(session);
        let id = self.id_of(session).expect("a session that gets or loses a connection stands");
        for text in self.shared_filters(session) {
            let change = GroupChange::Connected { session: id, is_connected };
            desk.mail(desk.owner_of(&text), Mail::Group { text, change });
        }
    }

    /// A change of a group that this shard holds.
    pub fn change_group(&mut self, desk: &mut Desk, text: &str, change: GroupChange) {
        match change {
            GroupChange::Join { member, caller } => self.take_member(desk, text, member, caller),
            GroupChange::Leave { session } => self.drop_member(desk, text, session),
            GroupChange::Connected { session, is_connected } => {
                let group = self.broker.groups.get(text).copied().map(|key| self.group(key));
                let member = group.and_then(|group| group.members.iter_mut().find(|held| held.session == session));
                if let Some(member) = member {
                    member.is_connected = is_connected;
                }
            }
            GroupChange::DealAgain(dealt) => {
                self.deal_again(desk, text, dealt);
            }
        }
    }

    /// The member that a message was dealt to is gone, so another gets it. The owner of the message's topic still waits for the word that the
    /// message is kept: it comes from the new member's shard, or from this one where nobody is left.
    fn deal_again(&mut self, desk: &mut Desk, text: &str, dealt: Dealt) {
        let Dealt { publication, path, specification, .. } = dealt;
        let keep = publication.keep();
        let before = std::mem::take(&mut self.broker.dealt);
        match self.broker.groups.get(text).copied() {
            Some(key) => {
                self.locals.sequence += 1;
                let outgoing = Outgoing::without_topic(publication, path, &specification, self.locals.sequence);
                self.deal_out(desk, key, &outgoing);
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
        let group = self.group(key);
        group.members.retain(|held| held.session != member.session);
        group.members.push(member);
        group.last_join = group.last_join.wrapping_add(1);
        let number = group.last_join;
        group.joining.push((number, member.session.shard(), asker));
        // Answered when every owner knows the group's selector.
        self.take_interest(desk, Caller { session: key, call: Call::Join { number } }, &selector, true);
        self.begin_sweep(desk, key, Sweep::of(&selector, SweepKind::Adjust));
    }

    fn make_group(&mut self, desk: &mut Desk, text: &str, selector: &Selector) -> SessionKey {
        let form = Form::Mqtt(MqttForm { version: Version::V5, is_websocket: false, is_shared: false });
        let mut session = Session::new(desk.take_session_id(), Life::Shared, form, desk.turn.now);
        let mut mqtt = Mqtt::new(Rc::from(text), Version::V5);
        let options = SubscriptionOptions { qos: QoS::ExactlyOnce, ..SubscriptionOptions::default() };
        mqtt.filters.push(Filter { text: text.into(), selector: selector.clone(), options, id: None, is_shared: false });
        mqtt.group = Some(Box::default());
        if desk.identity.storing == Storing::Stored {
            desk.become_keeper();
        }
        session.mqtt = Some(Box::new(mqtt));
        let key = self.enter(session);
        self.broker.groups.insert(text.into(), key);
        key
    }

    fn drop_member(&mut self, desk: &mut Desk, text: &str, session: SessionId) {
        let Some(key) = self.broker.groups.get(text).copied() else { return };
        let group = self.group(key);
        group.members.retain(|held| held.session != session);
        if group.members.is_empty() {
            // Who left before the owners had answered is answered nevertheless.
            let joining = std::mem::take(&mut group.joining);
            self.broker.groups.remove(text);
            self.end_session(desk, key);
            for (_, shard, caller) in joining {
                desk.mail(shard, Mail::Answer { to: caller.into(), result: Ok(Outcome::Done) });
            }
        }
    }

    /// The owners of topics know the group's selector: the member that joined is answered.
    pub fn group_known(&mut self, desk: &mut Desk, key: SessionKey, number: u16, result: Result<Outcome, Refusal>) {
        let group = self.group(key);
        let at = group.joining.iter().position(|(held, ..)| *held == number).expect("a member that joins is answered once");
        let (_, shard, caller) = group.joining.swap_remove(at);
        desk.mail(shard, Mail::Answer { to: caller.into(), result });
    }

    /// Gives a publication to the member whose turn it is.
    pub fn deal_out(&mut self, desk: &mut Desk, key: SessionKey, outgoing: &Rc<Outgoing>) {
        let mqtt = self.mqtt(key).expect("a group is a session of MQTT");
        let text: Box<str> = (&*mqtt.client_id).into();
        let group = mqtt.group.as_deref_mut().expect("the session is a group");
        let count = group.members.len();
        let in_turn = (0..count).map(|step| (group.next + step) % count.max(1));
        let Some(at) = in_turn.clone().find(|at| group.members[*at].is_connected).or_else(|| in_turn.clone().next()) else { return };
        group.next = (at + 1) % count;
        let member = group.members[at];
        let publication = outgoing.publication().clone();
        if member.session.shard() == desk.identity.index {
            return self.take_dealt_here(desk, member, outgoing.clone());
        }
        let (path, specification) = (outgoing.path().clone(), outgoing.specification().clone());
        self.broker.dealt += u32::from(publication.keep().is_some());
        desk.mail(member.session.shard(), Mail::Dealt(Box::new(Dealt { text, member, publication, path, specification })));
    }

    /// What another shard's group deals to a session here.
    pub fn take_dealt(&mut self, desk: &mut Desk, dealt: Dealt) {
        if self.find(dealt.member.session).is_none() {
            // The group does not know yet that the member has left. The word of that is on its way, in front of this.
            let text = dealt.text.clone();
            return desk.mail(desk.owner_of(&text), Mail::Group { text, change: GroupChange::DealAgain(dealt) });
        }
        self.locals.sequence += 1;
        let Dealt { member, publication, path, specification, .. } = dealt;
        let keep = publication.keep();
        let outgoing = Outgoing::without_topic(publication, path, &specification, self.locals.sequence);
        self.take_dealt_here(desk, member, outgoing);
        if let Some(keep) = keep {
            self.tell_kept(desk, keep, Share::Dealt);
        }
    }

    fn take_dealt_here(&mut self, desk: &mut Desk, member: Member, outgoing: Rc<Outgoing>) {
        let Some(session) = self.find(member.session) else { return };
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
            sequence: 0,
            ticket: 0,
            missed: 0,
            hold: None,
            subscription_ids: member.id.into_iter().collect(),
        };
        self.push_message(desk, session, message);
    }
}
