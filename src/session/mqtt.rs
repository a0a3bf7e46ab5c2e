//! What a session of MQTT is beyond any other: its subscriptions, and the messages that both sides still have to acknowledge.
//!
//! It outlives its connection as long as its client asked. Messages of QoS 1 and 2 have sequence numbers in the order in which they were queued, and
//! packet identifiers that follow from those: so what is sent again after a new connection, or a restart, has the identifier that it had.

use super::filters::{Filter, Filters, Subscribings};
use super::group::Group;
use super::notes::Notes;
use super::{Delivery, Hold, Outgoing};
use crate::base::{Time, TopicId};
use crate::protocol::mqtt::Answers;
use crate::topic::path::TopicPath;
use crate::topic::publication::Publisher;
use crate::wire::mqtt::{QoS, Version};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

/// Packet identifiers that there are.
const IDENTIFIERS: u64 = 65_535;

/// A session of MQTT.
pub struct Mqtt {
    pub client_id: Rc<str>,
    pub version: Version,
    /// Where a client is connected.
    pub answers: Option<Answers>,
    /// Numbers the session's connections.
    pub epoch: u32,
    pub filters: Filters,
    /// How long the session outlives its connection; `u32::MAX` is for ever.
    pub expiry_s: u32,
    pub will: Option<Box<Will>>,
    pub outbound: Outbound,
    /// SUBSCRIBEs whose filters are not all known to the owners of topics.
    pub subscribing: Subscribings,
    /// Of a session that is kept.
    pub stored: Option<Box<Stored>>,
    /// What few sessions have.
    rare: Option<Box<Rare>>,
    /// Messages that there was no room for, since the last that was taken.
    pub missed: u32,
    /// Those that CONNACK has told of, until the client acknowledges something: it may not have come through.
    pub missed_told: u32,
    /// All that there ever was no room for.
    pub dropped: u32,
    /// The most messages that its client takes before it acknowledges one.
    pub receive_maximum: u16,
    /// What the groups of which it is a member were told last; `None` where it is in none.
    pub told: Option<Standing>,
    /// The members of a shared subscription, where this is one and no client's session.
    pub group: Option<Box<Group>>,
}

impl Mqtt {
    pub fn new(client_id: Rc<str>, version: Version) -> Self {
        Self {
            client_id,
            version,
            answers: None,
            epoch: 0,
            filters: Filters::default(),
            expiry_s: 0,
            will: None,
            outbound: Outbound::default(),
            subscribing: Subscribings::default(),
            stored: None,
            rare: None,
            missed: 0,
            missed_told: 0,
            dropped: 0,
            receive_maximum: u16::MAX,
            told: None,
            group: None,
        }
    }

    pub fn inbound(&self) -> &Inbounds {
        self.rare.as_ref().map_or(&Inbounds(None), |rare| &rare.inbound)
    }

    pub fn inbound_mut(&mut self) -> &mut Inbounds {
        &mut self.rare.get_or_insert_default().inbound
    }

    pub fn seen(&self) -> &Seen {
        self.rare.as_ref().map_or(&Seen { taken: None }, |rare| &rare.seen)
    }

    pub fn seen_mut(&mut self) -> &mut Seen {
        &mut self.rare.get_or_insert_default().seen
    }

    /// The ticket of the record that says that the session was gone on with, where there is one. What waited is sent behind that: else nothing would
    /// tell after a restart that it may have been sent.
    pub fn set_resumed(&mut self, ticket: u64) {
        if ticket > 0 || self.rare.is_some() {
            self.rare.get_or_insert_default().resumed = ticket;
        }
    }

    /// The filters by which the session itself is sent what is at `path`.
    pub fn matching<'m>(&'m self, path: &'m str) -> impl Iterator<Item = &'m Filter> {
        self.filters.matching(path)
    }

    pub fn selects(&self, path: &str) -> bool {
        self.matching(path).next().is_some()
    }

    /// The oldest event of the session's record that is still needed; `waiting` is the first message that waits to be sent.
    pub fn oldest_kept(&self, waiting: Option<u64>) -> Option<u64> {
        let stored = self.stored.as_ref().and_then(|stored| stored.oldest());
        [stored, self.seen().oldest(), self.outbound.oldest(), waiting].into_iter().flatten().min()
    }

    /// Whether the message may be sent now, to a client that takes so many: `passed` is the last record that is stored.
    pub fn may_send(&self, message: &Message, inflight_max: usize, passed: u64) -> bool {
        self.outbound.has_room(message.sequence, inflight_max) && message.ticket.max(self.resumed()) <= passed
    }

    fn resumed(&self) -> u64 {
        self.rare.as_ref().map_or(0, |rare| rare.resumed)
    }

    /// How what is at `path` is sent.
    pub fn delivery(&self, path: &str) -> Delivery {
        let plain = if self.group.is_some() { Delivery::GROUP } else { Delivery::MQTT };
        self.matching(path).fold(plain, |delivery, filter| delivery.with(filter.options, filter.id()))
    }
}

/// What few sessions have: those that are kept, and those whose clients publish at QoS 2.
#[derive(Default)]
struct Rare {
    /// The client's QoS 2 messages that it has not released, by identifier.
    inbound: Inbounds,
    /// What of other sessions that are kept was taken.
    seen: Seen,
    /// See [`Mqtt::set_resumed`].
    resumed: u64,
}

/// QoS 2 messages of the client's, by identifier; nothing where there are none, as mostly.
#[expect(clippy::box_collection, reason = "most sessions have none, and a map takes more room than nothing")]
#[derive(Default)]
pub struct Inbounds(Option<Box<BTreeMap<u16, Inbound>>>);

impl Inbounds {
    pub fn get(&self, id: u16) -> Option<Inbound> {
        self.0.as_ref()?.get(&id).copied()
    }

    pub fn get_mut(&mut self, id: u16) -> Option<&mut Inbound> {
        self.0.as_mut()?.get_mut(&id)
    }

    pub fn insert(&mut self, id: u16, inbound: Inbound) -> Option<Inbound> {
        self.0.get_or_insert_default().insert(id, inbound)
    }

    pub fn remove(&mut self, id: u16) -> Option<Inbound> {
        let removed = self.0.as_mut()?.remove(&id);
        self.0.take_if(|held| held.is_empty());
        removed
    }

    /// The identifiers, in their order.
    pub fn ids(&self) -> impl Iterator<Item = u16> {
        self.0.iter().flat_map(|held| held.keys().copied())
    }
}

/// How far a QoS 2 message of the client's is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inbound {
    /// On its way to the topic's owner. The session's connection of that number has asked last.
    Given { epoch: u32 },
    /// It was on its way when the server ended: the client has to send it again, and its number tells whether it was taken.
    Lost { number: u64 },
    /// The owner has it, and PUBREC was sent.
    Received,
}

/// A message for when the client is lost.
pub struct Will {
    pub topic: Box<str>,
    pub qos: QoS,
    pub retain: bool,
    pub payload: Box<[u8]>,
    pub delay_s: u32,
    pub expiry_s: Option<u32>,
    pub is_utf8: bool,
    pub content_type: Option<Box<str>>,
    pub passed_on: Box<[u8]>,
}

/// How a session is kept.
pub struct Stored {
    /// Its record's number.
    pub topic: TopicId,
    pub version: u64,
    /// By the sequence number of a message the event that says that PUBREC has come.
    pub released: Notes<u64>,
    /// By the identifier of a message of the client's the event that says that it is not released.
    pub inbound: Notes<u16>,
    /// Messages that came while storage failed, and are in no record.
    pub unkept: BTreeSet<u64>,
}

impl Stored {
    pub fn new(topic: TopicId, version: u64) -> Box<Self> {
        Box::new(Self { topic, version, released: Notes::default(), inbound: Notes::default(), unkept: BTreeSet::new() })
    }

    /// The oldest event of the record that says something that still holds.
    fn oldest(&self) -> Option<u64> {
        self.released.oldest().into_iter().chain(self.inbound.oldest()).min()
    }
}

/// The QoS 2 messages of other sessions that were taken and may come again, after a restart. They do not come in the order of their numbers:
/// those of one session may be of several owners' topics.
#[derive(Default)]
pub struct Seen {
    /// `None` where there are none, as with most sessions.
    taken: Option<Box<Taken>>,
}

#[derive(Default)]
struct Taken {
    /// By session and number the event that says so.
    events: BTreeMap<(TopicId, u64), u64>,
    /// The same by the event.
    messages: BTreeMap<u64, (TopicId, u64)>,
}

impl Seen {
    pub fn has(&self, session: TopicId, number: u64) -> bool {
        self.taken.as_ref().is_some_and(|taken| taken.events.contains_key(&(session, number)))
    }

    /// The message is taken; an earlier event that says so is not needed.
    pub fn insert(&mut self, session: TopicId, number: u64, event: u64) {
        let taken = self.taken.get_or_insert_default();
        if let Some(before) = taken.events.insert((session, number), event) {
            taken.messages.remove(&before);
        }
        taken.messages.insert(event, (session, number));
    }

    /// Forgets the oldest beyond so many: they are of sessions that have been silent for long.
    pub fn keep_newest(&mut self, messages_max: usize) {
        let Some(taken) = &mut self.taken else { return };
        // One more came, so one goes.
        while taken.messages.len() > messages_max
            && let Some((_, oldest)) = taken.messages.pop_first()
        {
            taken.events.remove(&oldest);
        }
    }

    /// The message of which an event says that it is taken.
    pub fn said_by(&self, event: u64) -> Option<(TopicId, u64)> {
        self.taken.as_ref()?.messages.get(&event).copied()
    }

    /// Messages of the session below this number do not come again.
    pub fn forget_below(&mut self, session: TopicId, lowest: u64) {
        let Some(taken) = &mut self.taken else { return };
        // Each goes once; `mqtt.seen_messages_max` bounds them.
        while let Some((key, event)) = taken.events.range((session, 0)..(session, lowest)).next().map(|(key, event)| (*key, *event)) {
            taken.events.remove(&key);
            taken.messages.remove(&event);
        }
    }

    /// The oldest event that is needed.
    pub fn oldest(&self) -> Option<u64> {
        self.taken.as_ref()?.messages.first_key_value().map(|(event, _)| *event)
    }
}

/// How soon a member of a group has what it is dealt. The sooner, the less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It is connected, and may be sent a message more.
    Ready,
    /// It is connected, and has to acknowledge something before it is sent more.
    Full,
    Away,
}

/// One message to a subscriber that is more than its publication's plain bytes.
pub struct Message {
    pub outgoing: Rc<Outgoing>,
    pub qos: QoS,
    pub retain: bool,
    /// Sent because of a new subscription: the topic holds it too.
    pub is_first: bool,
    /// It may have reached the client before.
    pub is_repeated: bool,
    /// Its record says that it was sent, or was to be at once.
    pub is_noted: bool,
    /// Numbers the session's messages of QoS 1 and 2; 0 at QoS 0.
    pub sequence: u64,
    /// The ticket of the record that has to be stored before it is sent, of a QoS 2 message of a session that is kept: its identifier must not
    /// stand for another message after a restart.
    pub ticket: u64,
    /// How many the session had no room for, before this one.
    pub missed: u32,
    pub subscription_ids: Box<[u32]>,
    /// Its part of what all sessions hold; none at QoS 0.
    pub hold: Option<Hold>,
    /// The shared subscription that dealt it: another member gets it if this one's session ends.
    pub group: Option<Rc<str>>,
}

impl Message {
    /// Whether its record has to say that it is sent now, for the first time: an expiry holds until then.
    pub fn has_to_be_noted(&self) -> bool {
        !self.is_noted && self.outgoing.publication().message().is_some_and(|message| message.expires.is_some())
    }

    /// MQTT-3.3.2-5: whether it has expired before it was sent for the first time.
    pub fn is_over(&self, now: Time) -> bool {
        let expires = self.outgoing.publication().message().and_then(|message| message.expires);
        expires.is_some_and(|expires| expires <= now) && !(self.is_repeated && self.is_noted)
    }

    /// What tells it from other messages if it comes again. A retained message that a new subscription finds is no news, and may be found again.
    pub fn publisher(&self) -> Option<Publisher> {
        if self.is_first { None } else { self.outgoing.publication().message()?.publisher.copied() }
    }

    /// Whether it waits until it is sent, whatever comes after it: it has to be acknowledged, and nobody set its topic's CONFLATION to let it give way.
    pub fn is_lasting(&self) -> bool {
        self.qos != QoS::AtMostOnce && !self.outgoing.specification().conflates_on_purpose()
    }

    /// Bytes that a queue counts for it. What a new subscription is sent is held by its topic; seldom, and then once for all sessions, by none.
    pub fn cost(&self) -> usize {
        if self.is_first { 0 } else { self.outgoing.bytes() }
    }

    /// The identifier that the sequence number gives.
    pub fn id(&self) -> u16 {
        identifier(self.sequence)
    }
}

/// The packet identifier of a sequence number.
pub fn identifier(sequence: u64) -> u16 {
    if sequence == 0 { 0 } else { ((sequence - 1) % IDENTIFIERS + 1) as u16 }
}

/// What the client has to acknowledge.
#[derive(Default)]
pub struct Outbound {
    /// `None` until there is something, as with most sessions.
    under_way: Option<Box<UnderWay>>,
    /// The last sequence number given.
    sequence: u64,
}

#[derive(Default)]
struct UnderWay {
    /// In the order of their sequence numbers, which is the order in which they were queued.
    inflight: VecDeque<Inflight>,
    /// The last so many of those under way have to be sent again before anything else.
    repeat: usize,
}

enum Inflight {
    Sent(Box<Message>),
    /// PUBREC came: PUBCOMP is to come.
    Released {
        sequence: u64,
    },
}

impl Inflight {
    fn sequence(&self) -> u64 {
        match self {
            Self::Sent(message) => message.sequence,
            Self::Released { sequence } => *sequence,
        }
    }
}

/// What an acknowledgement was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledged {
    /// The message with this sequence number is done.
    Done { sequence: u64 },
    /// The client has the message: PUBREL follows.
    Received,
    /// No message has the identifier, or not at this point.
    Unknown,
}

/// What is to be sent again.
pub enum Again<'m> {
    Publish(&'m Message),
    Release(u16),
}

impl Outbound {
    pub fn len(&self) -> usize {
        self.inflight().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    fn inflight(&self) -> &VecDeque<Inflight> {
        const NONE: &VecDeque<Inflight> = &VecDeque::new();
        self.under_way.as_ref().map_or(NONE, |under_way| &under_way.inflight)
    }

    #[inline]
    fn repeat(&self) -> usize {
        self.under_way.as_ref().map_or(0, |under_way| under_way.repeat)
    }

    /// Numbers a message.
    pub fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// Numbers a message: by a number whose packet identifier is not that of a message which stays under way for long.
    pub fn next_message(&mut self) -> u64 {
        // At most once more than messages are under way.
        loop {
            let sequence = self.next_sequence();
            if self.find(identifier(sequence)).is_none() {
                return sequence;
            }
        }
    }

    pub fn last_sequence(&self) -> u64 {
        self.sequence
    }

    /// Numbers go on behind `sequence`.
    pub fn restore_sequence(&mut self, sequence: u64) {
        self.sequence = self.sequence.max(sequence);
    }

    /// Whether a message that was numbered `sequence` may be sent: so many are under way at most, and none with its identifier.
    pub fn has_room(&self, sequence: u64, inflight_max: usize) -> bool {
        self.repeat() == 0 && self.len() < inflight_max && self.find(identifier(sequence)).is_none()
    }

    /// A message was sent.
    pub fn sent(&mut self, message: Box<Message>) {
        self.insert(Inflight::Sent(message));
    }

    /// For these PUBREC came before a restart. Nothing else is under way yet.
    pub fn restore_released(&mut self, mut sequences: Vec<u64>) {
        sequences.sort_unstable();
        self.under_way.get_or_insert_default().inflight = sequences.into_iter().map(|sequence| Inflight::Released { sequence }).collect();
    }

    /// Mostly the last. After a restart what was released is known before what waits to be sent again, which may be older; nothing is to be repeated
    /// at that point.
    fn insert(&mut self, held: Inflight) {
        let inflight = &mut self.under_way.get_or_insert_default().inflight;
        let at = inflight.partition_point(|other| other.sequence() <= held.sequence());
        inflight.insert(at, held);
    }

    /// They are in the order of their numbers, so few can have an identifier: one of each round of identifiers.
    fn find(&self, id: u16) -> Option<usize> {
        let inflight = self.inflight();
        let (oldest, newest) = (inflight.front()?.sequence(), inflight.back()?.sequence());
        let behind = (u64::from(id) + IDENTIFIERS - u64::from(identifier(oldest))) % IDENTIFIERS;
        let candidates = (oldest + behind..=newest).step_by(IDENTIFIERS as usize);
        // A client that never acknowledges one message goes round again and again behind it: then those under way are fewer, by `mqtt.inflight_max`.
        if (newest - oldest) / IDENTIFIERS > inflight.len() as u64 {
            return inflight.iter().position(|held| identifier(held.sequence()) == id);
        }
        candidates.into_iter().find_map(|sequence| inflight.binary_search_by_key(&sequence, Inflight::sequence).ok())
    }

    /// PUBACK.
    pub fn acknowledge(&mut self, id: u16) -> Acknowledged {
        self.finish(id, |held| matches!(held, Inflight::Sent(message) if message.qos == QoS::AtLeastOnce))
    }

    /// PUBCOMP.
    pub fn complete(&mut self, id: u16) -> Acknowledged {
        self.finish(id, |held| matches!(held, Inflight::Released { .. }))
    }

    /// PUBREC with an error.
    pub fn give_up(&mut self, id: u16) -> Acknowledged {
        self.finish(id, |held| matches!(held, Inflight::Sent(message) if message.qos == QoS::ExactlyOnce))
    }

    /// The message is not sent again, so nothing will come for it.
    pub fn skip(&mut self, sequence: u64) -> Acknowledged {
        self.finish(identifier(sequence), |held| matches!(held, Inflight::Sent(_)))
    }

    fn finish(&mut self, id: u16, fits: impl Fn(&Inflight) -> bool) -> Acknowledged {
        let found = self.find(id);
        let Some((under_way, at)) = self.under_way.as_deref_mut().zip(found).filter(|(under_way, at)| fits(&under_way.inflight[*at]))
        else {
            return Acknowledged::Unknown;
        };
        under_way.repeat -= usize::from(at >= under_way.inflight.len() - under_way.repeat);
        let held = under_way.inflight.remove(at).expect("it was just found");
        Acknowledged::Done { sequence: held.sequence() }
    }

    /// The message that PUBREC is for, where it is the first.
    pub fn to_receive(&self, id: u16) -> Option<u64> {
        let held = &self.inflight()[self.find(id)?];
        matches!(held, Inflight::Sent(message) if message.qos == QoS::ExactlyOnce).then(|| held.sequence())
    }

    /// PUBREC.
    pub fn receive(&mut self, id: u16) -> Acknowledged {
        let found = self.find(id);
        let Some((under_way, at)) = self.under_way.as_deref_mut().zip(found) else { return Acknowledged::Unknown };
        match &under_way.inflight[at] {
            Inflight::Sent(message) if message.qos == QoS::ExactlyOnce => {
                let sequence = message.sequence;
                under_way.inflight[at] = Inflight::Released { sequence };
                Acknowledged::Received
            }
            Inflight::Sent(_) => Acknowledged::Unknown,
            // PUBREL went missing with its connection.
            Inflight::Released { .. } => Acknowledged::Received,
        }
    }

    /// A new connection: all that is under way is sent again before anything else.
    pub fn start_again(&mut self) {
        let Some(under_way) = &mut self.under_way else { return };
        under_way.repeat = under_way.inflight.len();
        // Bounded by `mqtt.inflight_max`.
        for held in &mut under_way.inflight {
            if let Inflight::Sent(message) = held {
                (message.is_repeated, message.is_noted) = (true, true);
            }
        }
    }

    /// Whether something is still to be sent again.
    pub fn is_repeating(&self) -> bool {
        self.repeat() > 0
    }

    /// Whether `poll_repeat` has something now.
    pub fn has_to_repeat(&self, inflight_max: usize) -> bool {
        self.repeat() > 0 && self.len() - self.repeat() < inflight_max
    }

    /// The next to be sent again, in their order, while the client has acknowledged all but fewer than `inflight_max` of those before.
    pub fn poll_repeat(&mut self, inflight_max: usize) -> Option<Again<'_>> {
        let UnderWay { inflight, repeat } = self.under_way.as_deref_mut()?;
        let at = inflight.len() - *repeat;
        if *repeat == 0 || at >= inflight_max {
            return None;
        }
        *repeat -= 1;
        Some(match &inflight[at] {
            Inflight::Sent(message) => Again::Publish(message),
            Inflight::Released { sequence } => Again::Release(identifier(*sequence)),
        })
    }

    /// Whether a message of the topic is still to be sent again: nothing newer of it goes before.
    pub fn has_to_repeat_of(&self, path: &TopicPath) -> bool {
        let waiting = self.inflight().iter().skip(self.len() - self.repeat());
        waiting.into_iter().any(|held| matches!(held, Inflight::Sent(message) if message.outgoing.path() == path))
    }

    /// The messages under way.
    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        self.inflight().iter().filter_map(|held| match held {
            Inflight::Sent(message) => Some(&**message),
            Inflight::Released { .. } => None,
        })
    }

    /// The sequence numbers of those that wait for PUBCOMP.
    pub fn released(&self) -> impl Iterator<Item = u64> {
        self.inflight().iter().filter_map(|held| match held {
            Inflight::Sent(_) => None,
            Inflight::Released { sequence } => Some(*sequence),
        })
    }

    /// The sequence number below which nothing is under way.
    pub fn oldest(&self) -> Option<u64> {
        self.inflight().front().map(Inflight::sequence)
    }
}

#[cfg(test)]
mod tests;
