//! A simulated client of MQTT: keeps its side of the protocol through lost connections, and checks what the server sends on each.
//!
//! It acknowledges late, repeats what was not acknowledged, and tells a QoS 2 message that comes again by its identifier. What it hears goes to the
//! auditor of `mqtt_model`.

use crate::mqtt_model::{Message, Messages, matches};
use crate::mqtt_packet::{self as packet, Packet};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What a client is for all its life.
#[derive(Clone, Debug)]
pub struct Kind {
    pub id: String,
    pub is_v5: bool,
    /// Its session outlives its connections.
    pub is_kept: bool,
    pub receive_maximum: u16,
    pub topic_aliases: u16,
}

/// A message of the client's that the server has not acknowledged to the end.
#[derive(Clone, Debug)]
pub struct Sent {
    pub id: u16,
    pub number: usize,
    /// PUBREC came.
    is_released: bool,
    was_sent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Asked(u16),
    Held,
    Ending(u16),
}

#[derive(Clone, Debug)]
pub struct Subscription {
    pub filter: &'static str,
    pub qos: u8,
    standing: Standing,
}

pub struct MqttClient {
    pub at: usize,
    pub kind: Kind,
    /// Bytes for the link that the world holds.
    pub outgoing: Vec<u8>,
    pub is_connected: bool,
    /// The server said that this ends the connection.
    pub is_told_to_leave: bool,
    /// Asked on CONNECT to forget the session.
    starts_clean: bool,
    /// The server has acknowledged a session.
    has_session: bool,
    /// It has given up its session, and the server may not have.
    has_forgotten: bool,
    pub sent: Vec<Sent>,
    /// How many of those may be under way.
    pub window: usize,
    pub subscriptions: Vec<Subscription>,
    /// Every filter that the session has had.
    subscribed: BTreeSet<&'static str>,
    /// QoS 2 messages of the server's that it has not released.
    received: BTreeMap<u16, usize>,
    /// On this connection not acknowledged to the end.
    open: BTreeMap<u16, usize>,
    /// By identifier the QoS 1 message that came last, in the whole session.
    came: BTreeMap<u16, usize>,
    /// On this or an earlier connection not acknowledged: one that comes again is marked as such.
    unfinished: BTreeMap<u16, usize>,
    acknowledgements: VecDeque<(u8, u16)>,
    aliases: BTreeMap<u16, String>,
    unread: Vec<u8>,
    next_id: u16,
    /// Numbers of messages as they came, and whether as retained.
    pub log: Vec<(usize, bool)>,
    /// It may be refused for want of permission; then what came, and where.
    pub may_be_denied: bool,
    pub seen: Vec<(String, Vec<u8>)>,
}

impl MqttClient {
    pub fn new(at: usize, kind: Kind) -> Self {
        Self {
            at,
            kind,
            outgoing: Vec::new(),
            is_connected: false,
            is_told_to_leave: false,
            starts_clean: false,
            has_session: false,
            has_forgotten: false,
            sent: Vec::new(),
            window: 1,
            subscriptions: Vec::new(),
            subscribed: BTreeSet::new(),
            received: BTreeMap::new(),
            open: BTreeMap::new(),
            came: BTreeMap::new(),
            unfinished: BTreeMap::new(),
            acknowledgements: VecDeque::new(),
            aliases: BTreeMap::new(),
            unread: Vec::new(),
            next_id: 0,
            log: Vec::new(),
            may_be_denied: false,
            seen: Vec::new(),
        }
    }

    fn take_id(&mut self) -> u16 {
        loop {
            self.next_id = self.next_id % 40 + 1;
            let id = self.next_id;
            let waits = |held: &Subscription| matches!(held.standing, Standing::Asked(of) | Standing::Ending(of) if of == id);
            if !self.sent.iter().any(|sent| sent.id == id) && !self.subscriptions.iter().any(waits) {
                return id;
            }
        }
    }

    // What it does.

    /// The first packet of a new connection.
    pub fn connect(&mut self, starts_clean: bool, messages: &mut Messages) {
        self.forget_connection();
        self.starts_clean = starts_clean || self.has_forgotten || !self.kind.is_kept;
        // MQTT-3.1.2-6 of 3.1.1: what started clean ended with its connection. The next session may have begun without a word that came through.
        if !self.has_session {
            self.drop_state(messages);
            messages.note_new_session(self.at);
        }
        if self.starts_clean {
            self.forget(messages);
        }
        self.outgoing = packet::connect(&self.kind, self.starts_clean);
    }

    /// Gives up its side of the session. Until the server has said that it did too, no other is gone on with.
    fn forget(&mut self, messages: &mut Messages) {
        (self.has_forgotten, self.has_session) = (true, false);
        self.drop_state(messages);
    }

    fn drop_state(&mut self, messages: &mut Messages) {
        self.subscriptions.clear();
        messages.note_unsubscribed(self.at, |_| None);
        self.sent.clear();
        self.received.clear();
        self.unfinished.clear();
        self.came.clear();
    }

    /// What is of one connection only.
    pub fn forget_connection(&mut self) {
        self.is_connected = false;
        self.is_told_to_leave = false;
        self.outgoing.clear();
        self.open.clear();
        self.acknowledgements.clear();
        self.aliases.clear();
        self.unread.clear();
    }

    /// The server starts again: what it had not stored it sends as if for the first time.
    pub fn note_restart(&mut self) {
        self.forget_connection();
        self.unfinished.clear();
    }

    pub fn may_publish(&self) -> bool {
        self.is_connected && self.sent.len() < self.window
    }

    pub fn publish(&mut self, messages: &Messages, number: usize) {
        let message = messages.get(number);
        if message.qos == 0 {
            return packet::put_publish(&mut self.outgoing, self.kind.is_v5, 0, false, number, message);
        }
        let id = self.take_id();
        packet::put_publish(&mut self.outgoing, self.kind.is_v5, id, false, number, message);
        self.sent.push(Sent { id, number, is_released: false, was_sent: true });
    }

    /// A QoS 0 message right behind CONNECT.
    pub fn publish_early(&mut self, messages: &Messages, number: usize) {
        packet::put_publish(&mut self.outgoing, self.kind.is_v5, 0, false, number, messages.get(number));
    }

    pub fn subscribe(&mut self, filter: &'static str, qos: u8) {
        if self.subscriptions.iter().any(|held| held.filter == filter) {
            return;
        }
        let id = self.take_id();
        self.subscribed.insert(filter);
        self.subscriptions.push(Subscription { filter, qos, standing: Standing::Asked(id) });
        packet::put_subscribe(&mut self.outgoing, self.kind.is_v5, id, filter, qos);
    }

    pub fn unsubscribe(&mut self, messages: &mut Messages, filter: &'static str) {
        let id = self.take_id();
        let Some(held) = self.subscriptions.iter_mut().find(|held| held.filter == filter && held.standing == Standing::Held) else {
            return;
        };
        held.standing = Standing::Ending(id);
        packet::put_unsubscribe(&mut self.outgoing, self.kind.is_v5, id, filter);
        messages.note_unsubscribed(self.at, |topic| self.wanted_qos(topic));
    }

    pub fn has_no_questions(&self) -> bool {
        self.subscriptions.iter().all(|held| held.standing == Standing::Held)
    }

    /// The QoS with which it surely is subscribed to a topic.
    pub fn wanted_qos(&self, topic: &str) -> Option<u8> {
        let held = self.subscriptions.iter().filter(|held| held.standing == Standing::Held && !held.filter.starts_with('$'));
        held.filter(|held| matches(held.filter, topic)).map(|held| held.qos).max()
    }

    /// Says the next that it has to acknowledge.
    pub fn acknowledge(&mut self) -> bool {
        let Some((kind, id)) = self.acknowledgements.pop_front() else { return false };
        if kind != packet::PUBREC {
            self.open.remove(&id);
            self.unfinished.remove(&id);
        }
        packet::put_acknowledgement(&mut self.outgoing, kind, id);
        true
    }

    pub fn leave(&mut self) {
        packet::put_disconnect(&mut self.outgoing);
    }

    /// Ends its session with its connection.
    pub fn leave_for_good(&mut self, messages: &mut Messages) {
        packet::put_last_disconnect(&mut self.outgoing, self.kind.is_v5);
        self.forget(messages);
    }

    // What it hears.

    pub fn hear(&mut self, bytes: &[u8], messages: &mut Messages) {
        self.unread.extend_from_slice(bytes);
        while let Some(packet) = packet::next(&mut self.unread, self.kind.is_v5) {
            assert!(!self.is_told_to_leave, "{}: a packet behind the last", self.kind.id);
            self.take(packet, messages);
        }
    }

    fn take(&mut self, packet: Packet, messages: &mut Messages) {
        assert!(
            self.is_connected || matches!(packet, Packet::Connack { .. } | Packet::Disconnect),
            "{}: CONNACK comes first",
            self.kind.id
        );
        match packet {
            Packet::Connack { is_present, code, receive_maximum, missed } => {
                messages.note_missed(self.at, missed);
                self.begin(is_present, code, receive_maximum, messages);
            }
            Packet::Publish { first, topic, alias, id, payload, missed } => {
                let number = Message::number_of(&payload);
                let topic = self.unalias(topic, alias);
                if self.may_be_denied && !payload.is_empty() {
                    self.seen.push((topic.clone(), payload));
                }
                if self.take_message(first, topic, id, number, messages) {
                    messages.note_missed(self.at, missed);
                }
            }
            Packet::Acknowledgement { kind, id, code } => self.take_acknowledgement(kind, id, code, messages),
            Packet::Suback { id, code } => {
                let held = self.subscriptions.iter_mut().find(|held| held.standing == Standing::Asked(id));
                let held = held.unwrap_or_else(|| panic!("{}: SUBACK {id} for nothing", self.kind.id));
                if self.may_be_denied && code == if self.kind.is_v5 { 0x87 } else { 0x80 } {
                    return self.subscriptions.retain(|held| held.standing != Standing::Asked(id));
                }
                assert_eq!(code, held.qos, "the QoS asked for is granted");
                held.standing = Standing::Held;
            }
            Packet::Unsuback { id } => self.subscriptions.retain(|held| held.standing != Standing::Ending(id)),
            Packet::Pingresp => {}
            Packet::Disconnect => self.is_told_to_leave = true,
        }
    }

    fn begin(&mut self, is_present: bool, code: u8, receive_maximum: Option<u16>, messages: &mut Messages) {
        assert!(!self.is_connected, "one CONNACK");
        if code != 0 {
            self.is_told_to_leave = true;
            return;
        }
        self.is_connected = true;
        self.window = usize::from(receive_maximum.unwrap_or(4)).min(20);
        assert!(!(is_present && self.starts_clean), "{}: a session that should have ended goes on", self.kind.id);
        if !is_present {
            messages.note_new_session(self.at);
            let has_lost = self.has_session && !self.starts_clean && self.subscriptions.iter().any(|held| held.standing == Standing::Held);
            assert!(!has_lost || messages.has_ends, "{}: the session is lost", self.kind.id);
            self.forget(messages);
            self.subscribed.clear();
        }
        self.has_forgotten = false;
        // A session of 3.1.1 that starts clean ends with its connection.
        self.has_session = self.kind.is_kept && (self.kind.is_v5 || !self.starts_clean);
        self.repeat(messages);
    }

    /// Sends again what was not acknowledged.
    fn repeat(&mut self, messages: &Messages) {
        let is_v5 = self.kind.is_v5;
        for sent in &mut self.sent {
            if sent.is_released {
                packet::put_acknowledgement(&mut self.outgoing, packet::PUBREL, sent.id);
            } else {
                packet::put_publish(&mut self.outgoing, is_v5, sent.id, sent.was_sent, sent.number, messages.get(sent.number));
                sent.was_sent = true;
            }
        }
        for held in &self.subscriptions {
            match held.standing {
                Standing::Asked(id) => packet::put_subscribe(&mut self.outgoing, is_v5, id, held.filter, held.qos),
                Standing::Ending(id) => packet::put_unsubscribe(&mut self.outgoing, is_v5, id, held.filter),
                Standing::Held => {}
            }
        }
    }

    fn unalias(&mut self, topic: String, alias: Option<u16>) -> String {
        match alias {
            Some(alias) if topic.is_empty() => self.aliases[&alias].clone(),
            Some(alias) => {
                self.aliases.insert(alias, topic.clone());
                topic
            }
            None => topic,
        }
    }

    /// Whether it comes for the first time in the session.
    fn take_message(&mut self, first: u8, topic: String, id: u16, number: usize, messages: &mut Messages) -> bool {
        let (is_duplicate, qos, is_retained) = (first & 8 != 0, first >> 1 & 3, first & 1 != 0);
        let name = &self.kind.id;
        if qos == 0 {
            assert!(!is_duplicate, "{name}: a QoS 0 message is marked as a duplicate");
            self.check_order(number, is_retained, messages);
            self.note(number, &topic, qos, is_retained, messages);
            return true;
        }
        assert!(self.open.insert(id, number).is_none(), "{name}: identifier {id} is used twice at a time");
        let most = if self.kind.is_v5 { usize::from(self.kind.receive_maximum) } else { usize::MAX }.min(messages.inflight_max);
        assert!(self.open.len() <= most, "{name}: {} messages under way, more than {most}", self.open.len());
        assert!(is_duplicate || self.unfinished.get(&id) != Some(&number), "{name}: message {number} comes again unmarked");
        self.unfinished.insert(id, number);
        if qos == 1 {
            self.acknowledgements.push_back((packet::PUBACK, id));
            let is_again = self.came.insert(id, number) == Some(number) && is_duplicate;
            if !is_again {
                self.check_order(number, is_retained, messages);
            }
            self.note(number, &topic, qos, is_retained, messages);
            return !is_again;
        }
        self.acknowledgements.push_back((packet::PUBREC, id));
        match self.received.insert(id, number) {
            None => {
                self.check_order(number, is_retained, messages);
                self.note(number, &topic, qos, is_retained, messages);
                true
            }
            Some(before) => {
                assert_eq!(before, number, "{name}: identifier {id} stands for another message before the first is released");
                assert!(is_duplicate, "{name}: a message that came before is not marked as a duplicate");
                false
            }
        }
    }

    /// What a group deals has no order: each message may come by another member, and again by this one.
    fn check_order(&self, number: usize, is_retained: bool, messages: &mut Messages) {
        if number != 0 && !self.subscribed.iter().any(|filter| filter.starts_with('$')) {
            messages.check_order(self.at, number, is_retained);
        }
    }

    fn note(&mut self, number: usize, topic: &str, qos: u8, is_retained: bool, messages: &mut Messages) {
        // What was on its way when a subscription ended may still come.
        assert!(self.subscribed.iter().any(|filter| matches(filter, topic)), "{}: message {number} of {topic} is not wanted", self.kind.id);
        if number == 0 {
            return;
        }
        self.log.push((number, is_retained));
        messages.note_heard(self.at, number, topic, qos, is_retained);
    }

    fn take_acknowledgement(&mut self, kind: u8, id: u16, code: u8, messages: &mut Messages) {
        match kind {
            packet::PUBREL => {
                self.received.remove(&id);
                self.open.insert(id, 0);
                self.acknowledgements.push_back((packet::PUBCOMP, id));
            }
            packet::PUBCOMP => self.sent.retain(|sent| sent.id != id || !sent.is_released),
            _ => {
                let qos = if kind == packet::PUBACK { 1 } else { 2 };
                let Some(at) = self.sent.iter().position(|sent| sent.id == id) else { panic!("{}: {kind} of nothing", self.kind.id) };
                let number = self.sent[at].number;
                assert_eq!(messages.get(number).qos, qos, "{}: an acknowledgement of another kind", self.kind.id);
                if code >= 0x80 {
                    messages.note_refused(number);
                    self.sent.remove(at);
                    return;
                }
                messages.note_acknowledged(number);
                if qos == 1 {
                    self.sent.remove(at);
                } else {
                    self.sent[at].is_released = true;
                    packet::put_acknowledgement(&mut self.outgoing, packet::PUBREL, id);
                }
            }
        }
    }
}
