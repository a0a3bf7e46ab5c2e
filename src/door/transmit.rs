//! What a connection sends now: one message's bytes for one send.
//!
//! Sessions whose queues hold the same run of steps share the bytes: they are encoded for the first and sent to all.

use super::mqtt::{self, Link};
use super::{Connection, Doors, Last, Leaving, Stage};
use crate::audience::Audience;
use crate::base::{ConnectionKey, SessionKey, Time};
use crate::desk::{Desk, Effect};
use crate::protocol::Reason;
use crate::session::{Entry, Form, Life, LocalTopic, Outgoing, Send, Session, Steps, Told};
use crate::topic::publication::Encodings;
use crate::wire::event::{self, Event};
use crate::wire::websocket;
use hashbrown::HashMap;
use std::rc::Rc;

/// Buffers used again by every send of the shard.
#[derive(Default)]
pub struct Sends {
    /// The send that is being made.
    send: Send,
    text: Vec<u8>,
    /// Sends for several sessions, by what their queues held.
    cohorts: HashMap<(Form, Steps), Rc<Send>>,
    spare: Vec<Rc<Send>>,
    /// How many were made.
    made: u64,
    /// Whether sessions keep what they are sent until their clients have processed it.
    are_kept: bool,
    recent: Recent,
}

/// What was sent last, to so many, and is not in the report: what a cohort is sent is recorded once for all of it. All of one round are recorded with the time of
/// the last, so none as sooner than it was.
#[derive(Default)]
struct Recent {
    number: u64,
    times: u64,
    at: Time,
    received: Vec<Time>,
}

/// So many sends, and of so many bytes each, are kept to be used again: about as many as a turn of the runtime makes.
const SPARE_MAX: usize = 64;
const SPARE_BYTES_MAX: usize = 128 << 10;

/// Where sends are kept, each takes no more room than so many bytes beside four times its own.
const ROOM_BESIDE_MAX: usize = 512;

impl Sends {
    /// What was made.
    fn take_made(&mut self) -> Rc<Send> {
        let mut made = self.spare.pop().unwrap_or_default();
        self.made += 1;
        // What was used for much before would hold as much room for the little that is kept in it. Each is cut once for a long send.
        let bytes = &mut self.send.bytes;
        if self.are_kept && bytes.capacity() > 4 * bytes.len() + ROOM_BESIDE_MAX {
            bytes.shrink_to_fit();
        }
        self.send.told.number = self.made;
        std::mem::swap(Rc::get_mut(&mut made).expect("nobody else has a spare one"), &mut self.send);
        made
    }

    /// Puts into the report how late what was sent last was.
    fn report_recent(&mut self, desk: &mut Desk) {
        let Recent { number, times, at, received } = &mut self.recent;
        for received in received.drain(..) {
            desk.report.publish.record_times(at.since(received), *times);
        }
        *number = 0;
    }

    /// Nobody is sent it any more, unless others hold it.
    pub fn give_up(&mut self, mut send: Rc<Send>) {
        let Some(alone) = Rc::get_mut(&mut send) else { return };
        if self.spare.len() < SPARE_MAX && alone.bytes.capacity() <= SPARE_BYTES_MAX {
            alone.clear();
            self.spare.push(send);
        }
    }
}

impl Connection {
    /// The session whose queue is sent, and what its connection is beyond any other.
    fn sending(&mut self) -> (Option<SessionKey>, Option<&mut Link>) {
        match &mut self.stage {
            Stage::Native(native) => (native.dialogue.session(), None),
            Stage::Mqtt(link) => (link.session, Some(link)),
            Stage::Ending(Some(leaving)) => match &mut leaving.last {
                Last::Close(_) => (Some(leaving.session), None),
                Last::Mqtt(link) => (Some(leaving.session), Some(link)),
            },
            Stage::Head { .. } | Stage::Page(_) | Stage::Ending(None) => (None, None),
        }
    }

    /// Whether what it is sent relies on a record that is not stored.
    fn waits_for_storage(&self, passed: u64) -> bool {
        matches!(&self.stage, Stage::Mqtt(link) if link.session.is_some() && link.ticket > passed)
    }
}

impl Doors {
    /// Makes what the connection sends next, in one piece; `Some(None)` when it has nothing, or has ended, `None` while it may not send.
    pub fn make_send(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey) -> Option<Option<Rc<Send>>> {
        desk.effects.is_asked(key);
        let passed = desk.ledger.passed();
        let connection = self.connections.get_mut(key)?;
        if connection.waits_for_storage(passed) {
            return None;
        }
        let sends = &mut self.sends;
        let mut shared = None;
        // The memory goes too: most connections never need it again.
        sends.send.bytes.extend_from_slice(&std::mem::take(&mut connection.raw));
        let (session_key, link) = connection.sending();
        let mut is_kept = false;
        if let Some(session_key) = session_key {
            let session = audience.session_mut(session_key).expect("a session stands as long as its connection");
            is_kept = session.resume.is_some();
            let kept = if is_kept { sends.resume(session, desk.limits.resume.recovery_bytes_max) } else { Kept::Goes };
            if matches!(kept, Kept::Again) {
                return Some(Some(sends.take_made()));
            }
            if matches!(kept, Kept::Goes) {
                let (mqtt::Became { unsent, begun }, of_cohort) = make(sends, session, link, desk);
                session.sent_bytes += of_cohort.as_ref().map_or(sends.send.bytes.len(), |shared| shared.len()) as u64;
                shared = of_cohort;
                audience.note_sent(desk, session_key, &begun);
                if !unsent.is_empty() {
                    audience.forget_messages(desk, session_key, unsent);
                }
            }
        }
        if let Some(shared) = shared {
            if is_kept {
                keep(audience, session_key, &shared);
            }
            return Some(Some(shared));
        }
        self.put_last(desk, audience, key);
        if self.sends.send.is_empty() {
            if self.is_spent(key) {
                desk.effects.push(Effect::Close(key));
            }
            return Some(None);
        }
        let made = self.sends.take_made();
        if is_kept {
            keep(audience, session_key, &made);
        }
        Some(Some(made))
    }

    /// Behind the last of the queue comes the last word.
    fn put_last(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey) {
        let Some(Connection { stage: Stage::Ending(leaving), .. }) = self.connections.get_mut(key) else { return };
        let is_sent = |leaving: &mut Box<Leaving>| {
            let session = audience.session(leaving.session).expect("a session stands until its queue is sent");
            session.queue.is_empty()
        };
        let Some(leaving) = leaving.take_if(is_sent) else { return };
        audience.leave_session(desk, leaving.session);
        leaving.last.put(desk, &mut self.sends.send.bytes);
    }

    fn is_spent(&self, key: ConnectionKey) -> bool {
        let connection = self.connections.get(key).expect("it was just there");
        matches!(connection.stage, Stage::Ending(None)) && connection.raw.is_empty()
    }

    /// Whether `make_send` would give the connection more.
    pub fn wants_to_send(&self, desk: &Desk, audience: &Audience, key: ConnectionKey) -> bool {
        let Some(connection) = self.connections.get(key) else { return false };
        let passed = desk.ledger.passed();
        match &connection.stage {
            _ if connection.waits_for_storage(passed) => false,
            Stage::Ending(_) => true,
            _ if !connection.raw.is_empty() => true,
            Stage::Head { .. } | Stage::Page(_) => false,
            Stage::Native(native) => {
                let session = native.dialogue.session().and_then(|session| audience.session(session));
                session.is_some_and(|session| match session.resume.is_some() {
                    false => !session.queue.is_empty(),
                    true => resumed_wants_to_send(desk, session),
                })
            }
            Stage::Mqtt(link) => {
                let inflight_max = inflight_max(desk);
                let session = link.session.and_then(|session| audience.session(session));
                session.is_some_and(|session| mqtt::has_to_send(session, link, inflight_max, passed))
            }
        }
    }

    /// The send is with the connection's socket.
    pub fn sent(&mut self, desk: &mut Desk, now: Time, key: ConnectionKey, send: &Send) {
        let recent = &mut self.sends.recent;
        if recent.number == send.told.number {
            (recent.times, recent.at) = (recent.times + 1, now);
        } else if !send.told.received.is_empty() {
            self.sends.report_recent(desk);
            let recent = &mut self.sends.recent;
            (recent.number, recent.times, recent.at) = (send.told.number, 1, now);
            recent.received.extend_from_slice(&send.told.received);
        }
        desk.report.deliveries += send.told.count;
        desk.report.bytes_sent += send.bytes.len() as u64;
        if let Some(connection) = self.connections.get_mut(key) {
            connection.last_sent = now;
        }
    }

    /// Appends what a session within the process is told next; whether there may be more.
    pub fn take_inside(&mut self, desk: &mut Desk, audience: &mut Audience, key: SessionKey, out: &mut Vec<u8>) -> bool {
        let Some(session) = audience.session_mut(key) else { return false };
        let (Life::Inside { is_woken }, Form::Binary(encodings)) = (&mut session.life, session.form) else { return false };
        *is_woken = false;
        let (start, mut told) = (out.len(), Told::default());
        put_frames(session, out, &mut told, desk.limits.transmit_bytes_max, encodings);
        desk.report.deliveries += told.count;
        desk.report.bytes_sent += (out.len() - start) as u64;
        !session.queue.is_empty()
    }

    /// A round of sends is over: the report has all of it.
    pub fn end_sends(&mut self, desk: &mut Desk) {
        self.sends.report_recent(desk);
    }

    /// A round of sends begins: bytes shared in the last one are given up.
    pub fn begin_sends(&mut self) {
        let mut cohorts = std::mem::take(&mut self.sends.cohorts);
        cohorts.drain().for_each(|(_, send)| self.sends.give_up(send));
        self.sends.cohorts = cohorts;
    }

    /// The send is over: its memory is used again.
    pub fn give_up(&mut self, send: Rc<Send>) {
        self.sends.give_up(send);
    }
}

/// How it stands with a session that may be gone on with.
enum Kept {
    /// What its earlier connection may not have brought is in the send that is being made.
    Again,
    /// Its client has to say first what it has processed: it was sent much since.
    Waits,
    Goes,
}

impl Sends {
    #[cold]
    fn resume(&mut self, session: &mut Session, recovery_bytes_max: usize) -> Kept {
        self.are_kept = true;
        if session.has_again() {
            put_again(session, &mut self.send.bytes);
            return Kept::Again;
        }
        if session.waits_for_client(recovery_bytes_max) { Kept::Waits } else { Kept::Goes }
    }
}

#[cold]
fn resumed_wants_to_send(desk: &Desk, session: &Session) -> bool {
    session.has_again() || !session.queue.is_empty() && !session.waits_for_client(desk.limits.resume.recovery_bytes_max)
}

/// Keeps what a session was sent that may have to be sent again.
#[cold]
fn keep(audience: &mut Audience, session: Option<SessionKey>, send: &Rc<Send>) {
    if let Some(resume) = session.and_then(|session| audience.session_mut(session)?.resume.as_mut()) {
        resume.note(send);
    }
}

/// Appends what the session's earlier connection may not have brought to the client, one send of it.
fn put_again(session: &mut Session, out: &mut Vec<u8>) {
    let Some((send, mut processed)) = session.resume.as_mut().and_then(|resume| resume.take_again()) else { return };
    let mut messages = &send.bytes[send.messages_at..];
    while processed > 0 {
        messages = websocket::behind_frame(messages);
        processed -= 1;
    }
    out.extend_from_slice(messages);
}

fn inflight_max(desk: &Desk) -> usize {
    usize::from(desk.limits.mqtt.inflight_max)
}

/// Appends the session's queue to the send that is being made, or gives that of one whose queue is the same. Gives what became of messages of MQTT.
fn make(sends: &mut Sends, session: &mut Session, link: Option<&mut Link>, desk: &Desk) -> (mqtt::Became, Option<Rc<Send>>) {
    let is_shared = sends.send.bytes.is_empty() && session.form.is_shared() && !session.has_to_repeat();
    sends.send.messages_at = sends.send.bytes.len();
    let started = session.queue.steps().filter(|_| is_shared).map(|steps| (session.form, steps));
    if let Some(shared) = started.and_then(|cohort| sends.cohorts.get(&cohort)) {
        session.queue.clear();
        return (mqtt::Became::default(), Some(shared.clone()));
    }
    let bytes_max = desk.limits.transmit_bytes_max;
    let became = match (session.form, link) {
        (Form::Mqtt(form), Some(link)) => {
            let pace = mqtt::Pace { now: desk.turn.now, bytes_max, inflight_max: inflight_max(desk), passed: desk.ledger.passed() };
            mqtt::encode(session, link, form, &mut sends.send, pace)
        }
        _ => {
            encode(session, sends, bytes_max);
            mqtt::Became::default()
        }
    };
    let shared = started.filter(|_| session.queue.is_empty()).map(|cohort| {
        let send = sends.take_made();
        sends.cohorts.insert(cohort, send.clone());
        send
    });
    (became, shared)
}

/// Encodes from the front of the queue until it is empty or the send is full.
fn encode(session: &mut Session, sends: &mut Sends, bytes_max: usize) {
    match session.form {
        Form::Binary(encodings) => encode_binary(session, sends, bytes_max, encodings),
        Form::Text => encode_text(session, sends, bytes_max),
        Form::Mqtt(_) => unreachable!("a session of MQTT has a connection of MQTT"),
    }
}

fn encode_binary(session: &mut Session, sends: &mut Sends, bytes_max: usize, encodings: Encodings) {
    // The head's length is known at the end: leave room for the longest, then move the start.
    let Send { bytes, messages, told, .. } = &mut sends.send;
    let start = bytes.len();
    bytes.extend_from_slice(&[0; websocket::HEAD_MAX]);
    let payload_at = bytes.len();
    put_frames(session, bytes, told, bytes_max, encodings);
    *messages = u32::from(bytes.len() > payload_at);
    websocket::fill_head(bytes, start, payload_at);
}

/// Appends frames of the native protocol until the queue is empty or so many bytes are there.
fn put_frames(session: &mut Session, out: &mut Vec<u8>, told: &mut Told, bytes_max: usize, encodings: Encodings) {
    let start = out.len();
    while out.len() - start < bytes_max {
        let Some(entry) = session.queue.pop() else { break };
        match entry {
            Entry::Control(bytes) | Entry::Behind(bytes) => out.extend_from_slice(&bytes),
            Entry::Step(outgoing) => {
                out.extend_from_slice(outgoing.step_frame(encodings));
                told.note(outgoing.received());
            }
            Entry::Subscribed(topic, generation) => {
                event::put(out, event::Form::Binary, &subscribed(&topic));
                if let Some(first) = take_first(session, &topic, generation) {
                    out.extend_from_slice(first.value_frame(encodings));
                }
            }
            Entry::Latest(topic, generation) => {
                if let Some(latest) = take_latest(session, &topic, generation) {
                    out.extend_from_slice(latest.value_frame(encodings));
                }
            }
            Entry::Gap(topic, generation) => {
                event::put(out, event::Form::Binary, &gap(&topic));
                if let Some(newest) = take_after_gap(session, &topic, generation) {
                    out.extend_from_slice(newest.value_frame(encodings));
                }
            }
            Entry::Unsubscribed(topic, reason) => event::put(out, event::Form::Binary, &unsubscribed(&topic, reason)),
            Entry::Message(_) => unreachable!("only a session of MQTT has messages"),
        }
    }
}

fn subscribed(topic: &LocalTopic) -> Event<'_> {
    let specification = &topic.specification;
    let (kind, properties) = (specification.topic_type().number(), specification.said_properties());
    Event::Subscribed { topic: topic.id, path: topic.path.as_str(), kind, properties }
}

fn gap(topic: &LocalTopic) -> Event<'_> {
    Event::Gap { topic: topic.id, path: topic.path.as_str() }
}

/// What follows a gap: what comes next of a time series, or of a topic that keeps no value, goes on behind it.
fn take_after_gap(session: &Session, topic: &Rc<LocalTopic>, generation: u32) -> Option<Rc<Outgoing>> {
    if topic.is_time_series() || !topic.specification.retains_value() {
        return None;
    }
    take_latest(session, topic, generation)
}

fn unsubscribed(topic: &LocalTopic, reason: Reason) -> Event<'_> {
    Event::Unsubscribed { topic: topic.id, path: topic.path.as_str(), reason: reason.code() as u8, name: reason.name() }
}

/// What follows the subscription. A time series' events come behind it by themselves, as does each value of a topic that keeps none.
fn take_first(session: &Session, topic: &Rc<LocalTopic>, generation: u32) -> Option<Rc<Outgoing>> {
    if topic.is_time_series() || !topic.specification.retains_value() {
        return None;
    }
    mark_sent(session, topic, generation);
    topic.first_since(generation).filter(|_| may_still_have(session, topic))
}

pub fn take_latest(session: &Session, topic: &Rc<LocalTopic>, generation: u32) -> Option<Rc<Outgoing>> {
    mark_sent(session, topic, generation);
    topic.newest().filter(|_| may_still_have(session, topic))
}

/// What is newest may have been published since the subscription has ended, also because the session may not have it any more.
fn may_still_have(session: &Session, topic: &LocalTopic) -> bool {
    session.holds(topic) || session.rights().may_see(topic.path.as_str())
}

/// From here on the session holds the newest value, so publications are steps again.
fn mark_sent(session: &Session, topic: &LocalTopic, generation: u32) {
    // A topic that was forgotten and appeared again has another place for its subscribers.
    let Some((_, place)) = session.subscriptions.get(&topic.id).filter(|_| session.holds(topic)) else { return };
    let mut subscribers = topic.subscribers.borrow_mut();
    let subscriber = &mut subscribers[*place as usize];
    if subscriber.generation == generation {
        subscriber.is_latest_queued = false;
    }
}

fn encode_text(session: &mut Session, sends: &mut Sends, bytes_max: usize) {
    let start = sends.send.bytes.len();
    while sends.send.bytes.len() - start < bytes_max {
        let Some(entry) = session.queue.pop() else { break };
        let (out, payload, messages) = (&mut sends.send.bytes, &mut sends.text, &mut sends.send.messages);
        payload.clear();
        match entry {
            Entry::Control(bytes) | Entry::Behind(bytes) => payload.extend_from_slice(&bytes),
            Entry::Step(outgoing) => {
                outgoing.put_text_message(out);
                *messages += 1;
                sends.send.told.note(outgoing.received());
            }
            Entry::Subscribed(topic, generation) => {
                event::put(payload, event::Form::Text, &subscribed(&topic));
                websocket::put_frame(out, websocket::TEXT, payload);
                *messages += 1;
                payload.clear();
                if let Some(first) = take_first(session, &topic, generation) {
                    first.put_text_message(out);
                    *messages += 1;
                }
            }
            Entry::Latest(topic, generation) => {
                if let Some(latest) = take_latest(session, &topic, generation) {
                    latest.put_text_message(out);
                    *messages += 1;
                }
            }
            Entry::Gap(topic, generation) => {
                event::put(payload, event::Form::Text, &gap(&topic));
                websocket::put_frame(out, websocket::TEXT, payload);
                *messages += 1;
                payload.clear();
                if let Some(newest) = take_after_gap(session, &topic, generation) {
                    newest.put_text_message(out);
                    *messages += 1;
                }
            }
            Entry::Unsubscribed(topic, reason) => event::put(payload, event::Form::Text, &unsubscribed(&topic, reason)),
            Entry::Message(_) => unreachable!("only a session of MQTT has messages"),
        }
        if !payload.is_empty() {
            websocket::put_frame(out, websocket::TEXT, payload);
            *messages += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_takes_no_more_room_than_a_few_times_its_bytes() {
        for (are_kept, capacity_max) in [(false, usize::MAX), (true, 4 * 10 + ROOM_BESIDE_MAX)] {
            let mut sends = Sends { are_kept, ..Sends::default() };
            sends.send.bytes = Vec::with_capacity(SPARE_BYTES_MAX);
            sends.send.bytes.extend_from_slice(&[7; 10]);
            let made = sends.take_made();
            assert!(made.bytes.len() == 10 && made.bytes.capacity() <= capacity_max, "10 bytes in {}", made.bytes.capacity());
        }
    }
}
