//! What is kept of sessions that outlive their connections through a restart.
//!
//! The session's own record is written when its client connects, subscribes, or is lost; each message of QoS 1 and 2 that waits for it, and each
//! that it has sent and not released, is an event of that record until it is done. A note that something is done is an event too, which takes the
//! other away; notes go once nothing older is left.

use super::record::{EventRecord, SessionRecord};
use crate::audience::Audience;
use crate::base::placement::owner_of;
use crate::base::{SessionKey, ShardIndex, Time, TopicId};
use crate::desk::{Answer, Desk, Ticket};
use crate::journal::{Change, Expiry, SESSION_KIND, SESSIONS_BRANCH, StoredEvent, StoredTopic};
use crate::mail::Share;
use crate::session::mqtt::{Inbound, Message, Stored};
use crate::session::{Entry, Filter, Form, Life, Mqtt, MqttForm, Session, Who};
use crate::topic::mqtt::parse_filter;
use crate::topic::path::TopicPath;
use crate::topic::publication::{Keep, Publication, Publisher};
use crate::topic::selector::Selector;
use crate::topic::session_filter::roles;
use crate::topic::specification::{Specification, TopicType};
use crate::wire::native::Outcome;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Notes that may stand behind an old one before that is written again at the end, so that those before it can go. No client is bounded by it.
const NOTES_MAX: u64 = 1000;

/// The property of an old record that says whose the session is.
const PRINCIPAL: &str = "principal";

impl Audience {
    fn keeps(&self, desk: &Desk, mqtt: &Mqtt) -> bool {
        desk.stores() && mqtt.expiry_s > 0 && mqtt.group.is_none()
    }

    /// Keeps the session as it is now, or keeps it no longer. The record that says so.
    pub fn store_session(&mut self, desk: &mut Desk, key: SessionKey) -> Option<Ticket> {
        let session = self.sessions.get(key).expect("a session that is kept stands");
        let mqtt = session.mqtt.as_deref().expect("only sessions of MQTT are kept");
        if !self.keeps(desk, mqtt) {
            return self.unstore_session(desk, key);
        }
        let expires = session.life.away().map(|away| away.expires).filter(|expires| *expires < Time(u64::MAX));
        let expires_ms = expires.map(|expires| desk.wall_ms_of(expires));
        let who = (session.principal(), session.roles());
        let record = SessionRecord::of(mqtt, who, expires_ms, sent_messages(session)).encode();
        let (topic, version) = match &mqtt.stored {
            Some(stored) => (stored.topic, stored.version + 1),
            None => {
                let path = TopicPath::of_branch(&format!("{SESSIONS_BRANCH}{}", print_hex(&mqtt.client_id)));
                desk.become_keeper();
                let topic = desk.take_topic_id();
                desk.ledger.append_record(Change::Added { topic, path, kind: SESSION_KIND, properties: [].into() });
                (topic, 1)
            }
        };
        let publication = Arc::new(Publication::new(topic, version, desk.turn.now, &record));
        let ticket = desk.ledger.append_record(Change::Value { publication });
        let mqtt = self.mqtt(key).expect("it was just there");
        match &mut mqtt.stored {
            Some(stored) => stored.version = version,
            None => {
                mqtt.stored = Some(Stored::new(topic, version));
                self.store_all(desk, key);
            }
        }
        ticket
    }

    /// A session that is kept from now on has what waits already kept too.
    fn store_all(&mut self, desk: &mut Desk, key: SessionKey) {
        let session = self.sessions.get(key).expect("a session that is kept stands");
        let mqtt = session.mqtt.as_deref().expect("only sessions of MQTT are kept");
        let wall = |time| desk.wall_ms_of(time);
        // Once for each session that comes to be kept: bounded by `mqtt.queued_messages_max`, `mqtt.inflight_max` and `mqtt.receive_maximum`.
        let waiting = mqtt.outbound.messages().chain(session.queue.messages());
        let messages: Vec<(u64, Vec<u8>)> = waiting.map(|message| (message.sequence, EventRecord::encode_message(message, wall))).collect();
        let (released, inbound): (Vec<u64>, Vec<u16>) = (mqtt.outbound.released().collect(), mqtt.inbound().ids().collect());
        for (sequence, record) in messages {
            self.keep_event(desk, key, sequence, &record, None);
        }
        for sequence in released {
            let mqtt = self.mqtt(key).expect("it was just there");
            let note = mqtt.outbound.next_sequence();
            mqtt.stored.as_mut().expect("it is kept").released.insert(sequence, note);
            self.keep_event(desk, key, note, &EventRecord::Released { sequence }.encode(), None);
        }
        for id in inbound {
            self.note_inbound(desk, key, id);
        }
    }

    pub fn unstore_session(&mut self, desk: &mut Desk, key: SessionKey) -> Option<Ticket> {
        let stored = self.mqtt(key)?.stored.take()?;
        desk.ledger.append_record(Change::Removed { topic: stored.topic })
    }

    pub fn store_message(&mut self, desk: &mut Desk, key: SessionKey, message: &Message) -> Option<Ticket> {
        // A session that is not kept remembers too what it was sent, as long as it lasts: storage may fail, and the message may come again.
        if let Some(Publisher { session, number, lowest }) = message.publisher() {
            let seen = self.mqtt(key).expect("only a session of MQTT is sent messages").seen_mut();
            seen.insert(session, number, message.sequence);
            seen.forget_below(session, lowest);
            seen.keep_newest(desk.limits.mqtt.seen_messages_max);
        }
        let is_failing = desk.ledger.is_failing();
        let mqtt = self.mqtt(key).expect("only a session of MQTT is sent messages");
        let stored = mqtt.stored.as_mut()?;
        if is_failing {
            // Records would pile up for as long as storage fails. A message that its publisher relies on was refused before it came here.
            stored.unkept.insert(message.sequence);
            return None;
        }
        let record = EventRecord::encode_message(message, |time| desk.wall_ms_of(time));
        self.keep_event(desk, key, message.sequence, &record, None)
    }

    /// Messages that had waited are sent. Nothing waits for the record: where that is lost, the message comes as one that may have been sent.
    pub fn note_sent(&mut self, desk: &mut Desk, key: SessionKey, sequences: &[u64]) {
        for &sequence in sequences {
            let mqtt = self.mqtt(key).expect("only a session of MQTT is sent messages");
            if mqtt.stored.as_ref().is_some_and(|stored| !stored.unkept.contains(&sequence)) {
                let note = mqtt.outbound.next_sequence();
                self.keep_event(desk, key, note, &EventRecord::Sent { sequence }.encode(), None);
            }
        }
    }

    /// A message is done, or given up.
    pub fn forget_message(&mut self, desk: &mut Desk, key: SessionKey, sequence: u64) {
        let mqtt = self.mqtt(key).expect("only a session of MQTT is sent messages");
        let Some(stored) = &mut mqtt.stored else { return };
        if stored.unkept.remove(&sequence) {
            return;
        }
        let note = mqtt.outbound.next_sequence();
        let released = stored.released.remove(&sequence);
        // What its publisher may send again leaves a note of its number.
        let value = match mqtt.seen().said_by(sequence) {
            Some((session, number)) => {
                mqtt.seen_mut().insert(session, number, note);
                EventRecord::Seen { publisher: session.0, number }.encode()
            }
            None => Vec::new(),
        };
        self.keep_event(desk, key, note, &value, Some(released.unwrap_or(sequence)));
        self.renew_oldest(desk, key);
    }

    /// PUBREC has come. The record that says so.
    pub fn note_received(&mut self, desk: &mut Desk, key: SessionKey, sequence: u64) -> Option<Ticket> {
        let mqtt = self.mqtt(key).expect("only a session of MQTT is sent messages");
        let stored = mqtt.stored.as_mut()?;
        if stored.unkept.contains(&sequence) {
            return None;
        }
        if stored.released.get(&sequence).is_some() {
            // It came before, by a connection that is lost.
            return desk.ledger.earlier();
        }
        // The note of a publisher's number has to outlive the message, whatever a crash leaves: it is written first.
        if let Some((session, number)) = mqtt.seen().said_by(sequence) {
            let own = mqtt.outbound.next_sequence();
            mqtt.seen_mut().insert(session, number, own);
            self.keep_event(desk, key, own, &EventRecord::Seen { publisher: session.0, number }.encode(), None);
        }
        let mqtt = self.mqtt(key).expect("it was just there");
        let note = mqtt.outbound.next_sequence();
        mqtt.stored.as_mut().expect("it is kept").released.insert(sequence, note);
        self.keep_event(desk, key, note, &EventRecord::Released { sequence }.encode(), Some(sequence))
    }

    /// A QoS 2 message of the client's is on its way: what tells it from others. It has to be stored first.
    pub fn note_inbound(&mut self, desk: &mut Desk, key: SessionKey, id: u16) -> Option<(Publisher, Option<Ticket>)> {
        let mqtt = self.mqtt(key).expect("only a client of MQTT sends messages");
        let stored = mqtt.stored.as_mut()?;
        let number = mqtt.outbound.next_sequence();
        stored.inbound.insert(id, number);
        let ticket = self.keep_event(desk, key, number, &EventRecord::Inbound { id, number }.encode(), None);
        Some((self.publisher_of(key, number)?, ticket))
    }

    pub fn publisher_of(&mut self, key: SessionKey, number: u64) -> Option<Publisher> {
        let mqtt = self.mqtt(key).expect("only a client of MQTT sends messages");
        let stored = mqtt.stored.as_ref()?;
        Some(Publisher { session: stored.topic, number, lowest: stored.inbound.oldest().unwrap_or(number) })
    }

    /// The client has released it, or it was refused. The record that says so.
    pub fn forget_inbound(&mut self, desk: &mut Desk, key: SessionKey, id: u16) -> Option<Ticket> {
        let mqtt = self.mqtt(key).expect("only a client of MQTT sends messages");
        let sequence = mqtt.stored.as_mut()?.inbound.remove(&id)?;
        let note = mqtt.outbound.next_sequence();
        self.keep_event(desk, key, note, &[], Some(sequence))
    }

    /// Appends an event to the session's record, and takes one away.
    fn keep_event(&mut self, desk: &mut Desk, key: SessionKey, sequence: u64, value: &[u8], dropped: Option<u64>) -> Option<Ticket> {
        let timestamp_ms = desk.wall_ms();
        let session = self.sessions.get(key).expect("a session that is kept stands");
        let mqtt = session.mqtt.as_deref().expect("only sessions of MQTT are kept");
        let topic = mqtt.stored.as_ref().expect("only what is kept has events").topic;
        let waiting = session.queue.oldest_message();
        let first_kept = mqtt.oldest_kept(waiting).unwrap_or(u64::MAX).min(if value.is_empty() { sequence + 1 } else { sequence });
        let author = desk.anonymous.clone();
        let value: Arc<[u8]> = value.into();
        self.broker.ticket =
            desk.ledger.append_record(Change::Event { topic, sequence, original: None, timestamp_ms, author, value, first_kept, dropped });
        self.broker.ticket
    }

    /// An old note of a publisher's number is written again, so that what stands behind it can go.
    fn renew_oldest(&mut self, desk: &mut Desk, key: SessionKey) {
        let session = self.sessions.get_mut(key).expect("a session that is kept stands");
        let waiting = session.queue.oldest_message();
        let mqtt = session.mqtt.as_deref_mut().expect("only sessions of MQTT are kept");
        let pending = mqtt.outbound.oldest().into_iter().chain(waiting).min().unwrap_or(u64::MAX);
        let is_old = |event: &u64| mqtt.outbound.last_sequence() - event > NOTES_MAX && *event < pending;
        let Some(before) = mqtt.seen().oldest().filter(is_old) else { return };
        let (session, number) = mqtt.seen().said_by(before).expect("the oldest is there");
        let note = mqtt.outbound.next_sequence();
        mqtt.seen_mut().insert(session, number, note);
        self.keep_event(desk, key, note, &EventRecord::Seen { publisher: session.0, number }.encode(), Some(before));
    }

    /// Whether the session has taken this message of another session before.
    pub fn was_taken(&self, key: SessionKey, publisher: Publisher) -> bool {
        let session = self.sessions.get(key).expect("a session that is sent something stands");
        session.mqtt.as_ref().is_some_and(|mqtt| mqtt.seen().has(publisher.session, publisher.number))
    }

    // Messages that have to be kept before they are acknowledged.

    /// Tells the owner of a topic that the sessions here that are kept keep its message, once that is stored.
    pub fn tell_kept(&mut self, desk: &mut Desk, keep: Keep, share: Share) {
        let Keep { owner, ticket, .. } = keep;
        let stored = self.broker.ticket.take();
        desk.acknowledge(Ok((Outcome::Done, stored)), Answer::Kept { owner, ticket, share });
    }

    // Restoring.

    /// Takes up a session that was kept. Its client is not connected.
    pub fn restore_session(&mut self, desk: &mut Desk, id: TopicId, stored: StoredTopic) -> Result<(), String> {
        if is_unfinished(&stored) {
            desk.ledger.append_record(Change::Removed { topic: id });
            return Ok(());
        }
        let (client_id, record) = session_of(&stored)?;
        let form = Form::Mqtt(MqttForm { version: record.version(), is_websocket: false, is_shared: false });
        let mut session = Session::new(desk.take_session_id(), Life::GivenUp, form, desk.turn.now);
        let mut mqtt = Mqtt::new(client_id.into(), record.version());
        mqtt.expiry_s = record.expiry_s;
        mqtt.stored = Some(Stored::new(id, stored.version));
        mqtt.outbound.restore_sequence(stored.last_sequence.unwrap_or(0));
        self.restore_events(desk, &mut session, &mut mqtt, &stored, record.sent);
        mqtt.will = record.will.map(|will| Box::new(will.into_will()));
        for filter in record.filters {
            let parsed = parse_filter(&filter.text).map_err(str::to_owned)?;
            let selector = Selector::parse(&parsed.selector, desk.limits.selector).map_err(|error| error.to_string())?;
            let (is_shared, filter) = (parsed.share.is_some(), Filter::new(&filter.text, selector, filter.options(), filter.id));
            mqtt.filters.put(if is_shared { filter.shared() } else { filter });
        }
        let (now, left_ms) = (desk.turn.now, u64::from(record.expiry_s) * 1000);
        let expires = match record.expires_ms {
            Some(at_ms) => now.after_ms(Expiry { at_ms, left_ms }.left_ms(desk.wall_ms())),
            None if record.expiry_s == u32::MAX => Time(u64::MAX),
            None => now.after_ms(left_ms),
        };
        session.mqtt = Some(Box::new(mqtt));
        let old = stored.properties.iter().find(|(name, _)| &**name == PRINCIPAL).map(|(_, principal)| &**principal);
        let principal = record.principal.as_deref().or(old);
        let roles = roles(&record.roles).map(|role| role.into()).collect();
        let who = Who::new(principal.unwrap_or_default().into(), roles, None);
        let key = self.enter(session);
        self.broker.clients.insert(&self.sessions.slab, key);
        self.give_who(desk, key, who);
        self.fall_asleep(desk, key, expires);
        self.session_opened(desk, key);
        self.restore_filters(desk, key);
        // Roles may permit less than they did when the server ended. Its groups are there by now.
        self.withdraw_unpermitted(desk, key);
        Ok(())
    }

    /// What waits for the session and what is under way; `sent` names what was sent, where that is known.
    fn restore_events(&self, desk: &mut Desk, session: &mut Session, mqtt: &mut Mqtt, stored: &StoredTopic, sent: Option<Vec<u64>>) {
        let (now, wall_ms) = (desk.turn.now, desk.wall_ms());
        let binary = desk.specifications.plain(TopicType::Binary);
        let sent: Option<BTreeSet<u64>> = sent.map(|sent| sent.into_iter().collect());
        // What a stored session has is bounded as it was when it was kept.
        let decoded = |event: &StoredEvent| (event.timestamp_ms, EventRecord::decode(&event.value));
        let events: Vec<_> = stored.events.iter().map(|(sequence, event)| (*sequence, decoded(event))).collect();
        let noted: BTreeSet<u64> = events.iter().filter_map(|(_, (_, event))| event.as_ref()?.0.sent()).collect();
        let mut released_before = Vec::new();
        for (sequence, (timestamp_ms, event)) in events {
            let Some((event, owner)) = event else { continue };
            match event {
                EventRecord::Sent { .. } => {}
                EventRecord::Message(kept) => {
                    if let Some((publisher, number)) = kept.publisher {
                        mqtt.seen_mut().insert(TopicId(publisher), number, sequence);
                    }
                    let time_of = |at_ms| now.after_ms(Expiry::new(at_ms, timestamp_ms).left_ms(wall_ms));
                    let mut message = kept.into_message(sequence, &owned(desk, owner).unwrap_or_else(|| binary.clone()), now, time_of);
                    message.hold = Some(self.broker.held.hold(&message.outgoing));
                    message.is_noted |= noted.contains(&sequence);
                    if let Some(sent) = &sent {
                        message.is_repeated = sent.contains(&sequence);
                        message.is_noted = message.is_repeated;
                    }
                    session.queue.push(Entry::Message(Box::new(message)));
                }
                EventRecord::Released { sequence: released } => {
                    mqtt.stored.as_mut().expect("it was kept").released.insert(released, sequence);
                    released_before.push(released);
                }
                EventRecord::Inbound { id, number } => {
                    mqtt.inbound_mut().insert(id, Inbound::Lost { number });
                    mqtt.stored.as_mut().expect("it was kept").inbound.insert(id, sequence);
                }
                EventRecord::Seen { publisher, number } => mqtt.seen_mut().insert(TopicId(publisher), number, sequence),
            }
        }
        mqtt.outbound.restore_released(released_before);
    }
}

/// A specification whose values are payloads, of a topic that is theirs.
fn owned(desk: &mut Desk, owner: Option<String>) -> Option<Arc<Specification>> {
    let specification = Specification::owned_by(TopicType::Binary, &owner?)?;
    Some(desk.specifications.intern(specification))
}

/// What was sent to a session that is away and may come again; `None` where it has a connection, and where a restart has left that unclear.
fn sent_messages(session: &Session) -> Option<Vec<u64>> {
    let mqtt = session.mqtt.as_deref().expect("only sessions of MQTT are kept");
    session.life.away()?;
    // Bounded by `mqtt.queued_messages_max`, once for each connection that is lost.
    let is_unclear = session.queue.messages().any(|message| message.is_repeated && !message.is_noted);
    if is_unclear {
        return None;
    }
    let waiting = session.queue.messages().filter(|message| message.is_repeated);
    Some(mqtt.outbound.messages().chain(waiting).map(|message| message.sequence).collect())
}

/// The shard of a session that was kept, of so many.
pub fn home_of(stored: &StoredTopic, shards: u16) -> ShardIndex {
    let client_id = stored.session_path().and_then(parse_hex).unwrap_or_default();
    owner_of(&client_id, shards)
}

/// Whether the server ended when it had begun to keep the session: nobody was told that there is one.
pub fn is_unfinished(stored: &StoredTopic) -> bool {
    stored.version == 0
}

/// The client of a session that was kept, and the session.
pub fn session_of(stored: &StoredTopic) -> Result<(String, SessionRecord), String> {
    let refused = |what: &str| format!("the record '{}' of a session {what}", stored.path.as_str());
    let client_id = stored.session_path().and_then(parse_hex).ok_or_else(|| refused("names no client"))?;
    let record = stored.value.as_deref().and_then(SessionRecord::decode).ok_or_else(|| refused("cannot be read"))?;
    Ok((client_id, record))
}

/// A client's identifier may be any text, and a path may not.
fn print_hex(client_id: &str) -> String {
    client_id.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn parse_hex(text: &str) -> Option<String> {
    let digits = text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    String::from_utf8(digits.collect::<Option<Vec<u8>>>()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_found_by_any_identifier() {
        for client_id in ["a", "a+b/#", "/", "~", "é\u{1f30a}", "$SYS"] {
            assert_eq!(parse_hex(&print_hex(client_id)).as_deref(), Some(client_id));
        }
        assert_eq!(parse_hex("0"), Some("\0".to_owned()));
        assert_eq!(parse_hex("zz"), None);
        assert_eq!(parse_hex("ff"), None);
    }
}
