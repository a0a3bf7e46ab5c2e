//! Shared subscriptions: of a group's members each message reaches one.
//!
//! The shard that a group's filter names holds the group, as a session of its own that is subscribed and has no connection. What is published to it is
//! dealt out in turn, to members that have a connection where there are any; a member elsewhere is sent it by mail.

use super::Asked;
use crate::base::{Key, ShardIndex};
use crate::desk::Storing;
use crate::mail::NOBODY;
use crate::mail::{Asker, Dealt, GroupChange, Mail, Share};
use crate::protocol::Refusal;
use crate::session::mqtt::{Filter, Group, Member, Message};
use crate::session::{Form, Mqtt, MqttForm, Outgoing, Session};
use crate::shard::Shard;
use crate::topic::mqtt::parse_filter;
use crate::topic::selector::Selector;
use crate::wire::mqtt::{QoS, SubscriptionOptions, Version};
use crate::wire::native::Outcome;
use std::rc::Rc;

impl Shard {
    /// A session's subscription is a group's member.
    pub(super) fn join_group(&mut self, asker: Asker, text: &str, options: SubscriptionOptions, id: Option<u32>) {
        let (shard, session, is_connected) = (self.desk.identity.index, asker.session, self.is_connected(asker.session));
        let SubscriptionOptions { qos, retain_as_published, .. } = options;
        let member = Member { shard, session, qos, retain_as_published, id, is_connected };
        self.desk.mail(self.desk.owner_of(text), Mail::Group { text: text.into(), change: GroupChange::Join { member, asker } });
    }

    pub(super) fn leave_group(&mut self, session: Key, text: &str) {
        let change = GroupChange::Leave { shard: self.desk.identity.index, session };
        self.desk.mail(self.desk.owner_of(text), Mail::Group { text: text.into(), change });
    }

    fn shared_filters(&self, session: Key) -> Vec<Box<str>> {
        let mqtt = self.sessions.get(session).and_then(|session| session.mqtt.as_ref());
        let filters = mqtt.into_iter().flat_map(|mqtt| mqtt.filters.iter().filter(|filter| filter.is_shared));
        filters.map(|filter| filter.text.clone()).collect()
    }

    pub(super) fn leave_groups(&mut self, session: Key) {
        for text in self.shared_filters(session) {
            self.leave_group(session, &text);
        }
    }

    /// Groups deal to members that have a connection.
    pub(super) fn tell_groups(&mut self, session: Key) {
        let is_connected = self.is_connected(session);
        for text in self.shared_filters(session) {
            let change = GroupChange::Connected { shard: self.desk.identity.index, session, is_connected };
            self.desk.mail(self.desk.owner_of(&text), Mail::Group { text, change });
        }
    }

    /// A change of a group that this shard holds.
    pub(in crate::shard) fn change_group(&mut self, text: &str, change: GroupChange) {
        match change {
            GroupChange::Join { member, asker } => self.take_member(text, member, asker),
            GroupChange::Leave { shard, session } => self.drop_member(text, shard, session),
            GroupChange::Connected { shard, session, is_connected } => {
                let group = self.mqtt_groups.get(text).copied().and_then(|key| self.group(key));
                let member = group.and_then(|group| group.members.iter_mut().find(|held| held.shard == shard && held.session == session));
                if let Some(member) = member {
                    member.is_connected = is_connected;
                }
            }
            GroupChange::DealAgain(dealt) => {
                self.deal_again(text, dealt);
            }
        }
    }

    /// Its owner still waits for the answer of who it was dealt to: that of who gets it now, or this shard's own.
    fn deal_again(&mut self, text: &str, dealt: Dealt) {
        let Dealt { publication, path, specification, .. } = dealt;
        let keep = publication.keep();
        let before = std::mem::take(&mut self.dealt);
        match self.mqtt_groups.get(text).copied() {
            Some(key) => {
                self.next_sequence += 1;
                let outgoing = Outgoing::without_topic(publication, path, &specification, self.next_sequence);
                self.deal_out(key, &outgoing);
            }
            None => self.desk.report.mqtt_dropped += 1,
        }
        if std::mem::replace(&mut self.dealt, before) == 0 {
            self.tell_kept(keep, Share::Dealt);
        }
    }

    fn group(&mut self, key: Key) -> Option<&mut Group> {
        self.mqtt(key)?.group.as_deref_mut()
    }

    fn take_member(&mut self, text: &str, member: Member, asker: Asker) {
        let Some(selector) = parse_filter(text).ok().and_then(|filter| Selector::parse(&filter.selector, self.desk.limits.selector).ok())
        else {
            return self.desk.mail(member.shard, Mail::Answer { to: asker, result: Ok(Outcome::Done) });
        };
        let key = match self.mqtt_groups.get(text) {
            Some(key) => *key,
            None => self.make_group(text, &selector),
        };
        let Some(group) = self.group(key) else { return };
        group.members.retain(|held| (held.shard, held.session) != (member.shard, member.session));
        group.members.push(member);
        group.last_join = group.last_join.wrapping_add(1);
        let number = group.last_join;
        group.joining.push((number, member.shard, asker.session, asker.id));
        // Answered when every owner knows the group's selector.
        self.take_interest(Asker { session: key, id: Asked::Join.number(number, 0) }, &selector, true);
        self.subscribe_to_known(key, &selector);
    }

    fn make_group(&mut self, text: &str, selector: &Selector) -> Key {
        let form = Form::Mqtt(MqttForm { version: Version::V5, is_websocket: false, is_shared: false });
        let mut session = Session::new(NOBODY, form, self.desk.now);
        let mut mqtt = Mqtt::new(Rc::from(text), Version::V5);
        let options = SubscriptionOptions { qos: QoS::ExactlyOnce, ..SubscriptionOptions::default() };
        mqtt.filters.push(Filter { text: text.into(), selector: selector.clone(), options, id: None, is_shared: false });
        mqtt.group = Some(Box::default());
        if self.desk.ledger.storing() == Storing::Stored {
            self.desk.become_keeper();
        }
        session.mqtt = Some(Box::new(mqtt));
        let key = self.sessions.insert(session);
        self.mqtt_groups.insert(text.into(), key);
        key
    }

    fn drop_member(&mut self, text: &str, shard: ShardIndex, session: Key) {
        let Some(key) = self.mqtt_groups.get(text).copied() else { return };
        let Some(group) = self.group(key) else { return };
        group.members.retain(|held| (held.shard, held.session) != (shard, session));
        if group.members.is_empty() {
            // Who left before the owners had answered is answered nevertheless.
            let joining = std::mem::take(&mut group.joining);
            self.mqtt_groups.remove(text);
            self.end_session(key);
            for (_, shard, session, id) in joining {
                self.desk.mail(shard, Mail::Answer { to: Asker { session, id }, result: Ok(Outcome::Done) });
            }
        }
    }

    /// Owners know the group's selector.
    pub(super) fn group_known(&mut self, key: Key, number: u16, result: Result<Outcome, Refusal>) {
        let Some(group) = self.group(key) else { return };
        let Some(at) = group.joining.iter().position(|(held, ..)| *held == number) else { return };
        let (_, shard, session, id) = group.joining.swap_remove(at);
        self.desk.mail(shard, Mail::Answer { to: Asker { session, id }, result });
    }

    /// Gives a publication to the member whose turn it is.
    pub(super) fn deal_out(&mut self, key: Key, outgoing: &Rc<Outgoing>) {
        let Some(mqtt) = self.mqtt(key) else { return };
        let text: Box<str> = (&*mqtt.client_id).into();
        let Some(group) = mqtt.group.as_deref_mut() else { return };
        let count = group.members.len();
        let in_turn = (0..count).map(|step| (group.next + step) % count.max(1));
        let Some(at) = in_turn.clone().find(|at| group.members[*at].is_connected).or_else(|| in_turn.clone().next()) else { return };
        group.next = (at + 1) % count;
        let member = group.members[at];
        let publication = outgoing.publication().clone();
        if member.shard == self.desk.identity.index {
            return self.take_dealt_here(member, outgoing.clone());
        }
        let (path, specification) = (outgoing.path().clone(), outgoing.specification().clone());
        self.dealt += u32::from(publication.keep().is_some());
        self.desk.mail(member.shard, Mail::Dealt(Box::new(Dealt { text, member, publication, path, specification })));
    }

    /// What another shard's group deals to a session here.
    pub(in crate::shard) fn take_dealt(&mut self, dealt: Dealt) {
        if self.sessions.get(dealt.member.session).is_none() {
            // Its leave is on its way, in front of this.
            let text = dealt.text.clone();
            return self.desk.mail(self.desk.owner_of(&text), Mail::Group { text, change: GroupChange::DealAgain(dealt) });
        }
        self.next_sequence += 1;
        let Dealt { member, publication, path, specification, .. } = dealt;
        let keep = publication.keep();
        let outgoing = Outgoing::without_topic(publication, path, &specification, self.next_sequence);
        self.take_dealt_here(member, outgoing);
        self.tell_kept(keep, Share::Dealt);
    }

    fn take_dealt_here(&mut self, member: Member, outgoing: Rc<Outgoing>) {
        let qos = Self::granted(member.qos, outgoing.publication().qos());
        if qos == QoS::AtMostOnce && !self.is_connected(member.session) {
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
            subscription_ids: member.id.into_iter().collect(),
        };
        self.push_message(member.session, message);
    }
}
