//! What a connection sends now: one message's bytes for one send.
//!
//! Sessions whose queues hold the same run of steps share the bytes: they are encoded for the first and sent to all.

use super::dialogue::{Connection, Stage};
use super::{Effect, Shard, mqtt};
use crate::base::{Key, Time};
use crate::protocol::Reason;
use crate::session::Steps;
use crate::session::{Entry, Form, LocalTopic, Outgoing, Session};
use crate::topic::publication::Encodings;
use crate::wire::event::{self, Event};
use crate::wire::websocket;
use hashbrown::HashMap;
use std::rc::Rc;

/// Buffers used again by every send of the shard.
#[derive(Default)]
pub struct Scratch {
    /// A checked value on its way to the owner.
    pub value: Vec<u8>,
    pub send: Send,
    text: Vec<u8>,
    cohorts: HashMap<(Form, Steps), Send>,
    spare: Vec<Send>,
    current: Option<(Form, Steps)>,
}

/// The bytes of one send, and when each of the publications in them was received.
#[derive(Default)]
pub struct Send {
    pub bytes: Vec<u8>,
    pub received: Vec<Time>,
}

impl Send {
    fn clear(&mut self) {
        self.bytes.clear();
        self.received.clear();
    }
}

impl Shard {
    /// What the connection sends next, in one piece; `None` when it has nothing, or has ended. Give all of it to the socket (or hold the rest back and
    /// do not poll this connection until that is gone), and tell by `handle_sent`.
    pub fn poll_transmit(&mut self, now: Time, key: Key) -> Option<&[u8]> {
        self.desk.now = now;
        self.desk.effects.is_asked(key);
        let passed = self.desk.ledger.passed();
        let connection = self.connections.get_mut(key)?;
        if waits_for_storage(connection, passed) {
            return None;
        }
        self.scratch.current = None;
        self.scratch.send.clear();
        // Its room goes too: most connections never need it again.
        self.scratch.send.bytes.extend_from_slice(&std::mem::take(&mut connection.raw));
        let session = match connection.stage {
            Stage::Open(_, session) => Some(session),
            Stage::Ending => self.ending_sessions.get(&key).copied(),
            _ => None,
        };
        if let Some((session_key, session)) = session.and_then(|key| Some((key, self.audience.session_mut(key)?))) {
            let is_shared = self.scratch.send.bytes.is_empty() && session.form.is_shared();
            let started = session.queue.steps().filter(|_| is_shared).map(|steps| (session.form, steps));
            if let Some(cohort) = started.filter(|cohort| self.scratch.cohorts.contains_key(cohort)) {
                session.queue.clear();
                self.scratch.current = Some(cohort);
            } else {
                let unsent = match (session.form, connection.link.as_deref_mut()) {
                    (Form::Mqtt(form), Some(link)) => {
                        let inflight_max = self.desk.limits.mqtt.as_ref().map_or(0, |limits| usize::from(limits.inflight_max));
                        let bytes_max = self.desk.limits.transmit_bytes_max;
                        let pace = mqtt::Pace { now, bytes_max, inflight_max, passed };
                        mqtt::encode(session, link, form, &mut self.scratch.send, pace)
                    }
                    _ => {
                        encode(session, &mut self.scratch, self.desk.limits.transmit_bytes_max);
                        Vec::new()
                    }
                };
                if let Some(cohort) = started.filter(|_| session.queue.is_empty()) {
                    let spare = self.scratch.spare.pop().unwrap_or_default();
                    let send = std::mem::replace(&mut self.scratch.send, spare);
                    self.scratch.cohorts.insert(cohort, send);
                    self.scratch.current = Some(cohort);
                }
                if !unsent.is_empty() {
                    self.audience.forget_messages(&mut self.desk, session_key, unsent);
                }
            }
        }
        self.put_close(key);
        let bytes = &self.sending().bytes;
        if bytes.is_empty() {
            if self.is_spent(key) {
                self.desk.effects.push(Effect::Close(key));
            }
            self.go_on_after_send(key);
            return None;
        }
        Some(&self.sending().bytes)
    }

    fn sending(&self) -> &Send {
        self.scratch.current.as_ref().map_or(&self.scratch.send, |cohort| &self.scratch.cohorts[cohort])
    }

    /// Behind the last of the queue comes the close frame.
    fn put_close(&mut self, key: Key) {
        let Some(session) = self.ending_sessions.get(&key).copied() else { return };
        if self.audience.session(session).is_some_and(|session| !session.queue.is_empty()) || self.scratch.current.is_some() {
            return;
        }
        self.ending_sessions.remove(&key);
        self.audience.leave_session(&mut self.desk, session);
        if self.put_last_packet(key) {
            return;
        }
        if let Some(code) = self.connections.get_mut(key).and_then(|connection| connection.closing.take()) {
            websocket::put_close(&mut self.scratch.send.bytes, code.code(), code.name());
        }
    }

    fn is_spent(&self, key: Key) -> bool {
        let Some(connection) = self.connections.get(key) else { return true };
        connection.stage == Stage::Ending && connection.raw.is_empty() && !self.ending_sessions.contains_key(&key)
    }

    /// Something of the connection's session was sent, or is not wanted any more.
    pub(super) fn go_on_after_send(&mut self, connection: Key) {
        if !self.audience.holds_back() {
            return;
        }
        let stage = self.connections.get(connection).map(|connection| connection.stage);
        if let Some(Stage::Open(_, session)) = stage
            && self.audience.is_held_back(session)
        {
            self.audience.go_on(&mut self.desk, session);
            self.settle();
        }
    }

    /// Whether `poll_transmit` would give the connection more.
    pub fn wants_to_send(&self, key: Key) -> bool {
        let Some(connection) = self.connections.get(key) else { return false };
        let inflight_max = self.desk.limits.mqtt.as_ref().map_or(0, |limits| usize::from(limits.inflight_max));
        let queued = |session: &Key| {
            self.audience.session(*session).is_some_and(|session| match &connection.link {
                Some(link) => mqtt::has_to_send(session, link, inflight_max, self.desk.ledger.passed()),
                None => !session.queue.is_empty(),
            })
        };
        match connection.stage {
            _ if waits_for_storage(connection, self.desk.ledger.passed()) => false,
            Stage::Open(_, session) => !connection.raw.is_empty() || queued(&session),
            Stage::Ending => true,
            _ => !connection.raw.is_empty(),
        }
    }

    /// The bytes of the last `poll_transmit` are with the socket.
    pub fn handle_sent(&mut self, now: Time, key: Key) {
        let send = self.scratch.current.as_ref().map_or(&self.scratch.send, |cohort| &self.scratch.cohorts[cohort]);
        for received in &send.received {
            self.desk.report.publish.saturating_record(now.since(*received).max(1));
        }
        self.desk.report.deliveries += send.received.len() as u64;
        self.desk.report.bytes_sent += send.bytes.len() as u64;
        if let Some(connection) = self.connections.get_mut(key) {
            connection.last_sent = now;
        }
        self.go_on_after_send(key);
    }

    /// A round of sends begins: bytes shared in the last one are given up.
    pub fn begin_sends(&mut self) {
        let spare = &mut self.scratch.spare;
        for (_, mut send) in self.scratch.cohorts.drain() {
            send.clear();
            if spare.len() < 8 && send.bytes.capacity() <= 1 << 20 {
                spare.push(send);
            }
        }
    }
}

/// Whether what the connection is sent relies on a record that is not stored.
fn waits_for_storage(connection: &Connection, passed: u64) -> bool {
    matches!(connection.stage, Stage::Open(..)) && connection.link.as_ref().is_some_and(|link| link.ticket > passed)
}

/// Encodes from the front of the queue until it is empty or the send is full.
fn encode(session: &mut Session, scratch: &mut Scratch, bytes_max: usize) {
    match session.form {
        Form::Binary(encodings) => encode_binary(session, scratch, bytes_max, encodings),
        Form::Text => encode_text(session, scratch, bytes_max),
        Form::Mqtt(_) => unreachable!("a session of MQTT has a connection of MQTT"),
    }
}

fn encode_binary(session: &mut Session, scratch: &mut Scratch, bytes_max: usize, encodings: Encodings) {
    // The head's length is known at the end: leave room for the longest, then move the start.
    let out = &mut scratch.send.bytes;
    let start = out.len();
    out.extend_from_slice(&[0; websocket::HEAD_MAX]);
    let payload_at = out.len();
    while out.len() - payload_at < bytes_max {
        let Some(entry) = session.queue.pop() else { break };
        match entry {
            Entry::Control(bytes) | Entry::Behind(bytes) => out.extend_from_slice(&bytes),
            Entry::Step(outgoing) => {
                out.extend_from_slice(outgoing.step_frame(encodings));
                scratch.send.received.push(outgoing.received());
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
            Entry::Unsubscribed(topic, reason) => event::put(out, event::Form::Binary, &unsubscribed(&topic, reason)),
            Entry::Message(_) => unreachable!("only a session of MQTT has messages"),
        }
    }
    websocket::fill_head(out, start, payload_at);
}

fn subscribed(topic: &LocalTopic) -> Event<'_> {
    let specification = &topic.specification;
    let (kind, properties) = (specification.topic_type().number(), specification.said_properties());
    Event::Subscribed { topic: topic.id, path: topic.path.as_str(), kind, properties }
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
    topic.first_since(generation)
}

pub fn take_latest(session: &Session, topic: &Rc<LocalTopic>, generation: u32) -> Option<Rc<Outgoing>> {
    mark_sent(session, topic, generation);
    topic.newest()
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

fn encode_text(session: &mut Session, scratch: &mut Scratch, bytes_max: usize) {
    let start = scratch.send.bytes.len();
    while scratch.send.bytes.len() - start < bytes_max {
        let Some(entry) = session.queue.pop() else { break };
        let (out, payload) = (&mut scratch.send.bytes, &mut scratch.text);
        payload.clear();
        match entry {
            Entry::Control(bytes) | Entry::Behind(bytes) => payload.extend_from_slice(&bytes),
            Entry::Step(outgoing) => {
                out.extend_from_slice(outgoing.text_message());
                scratch.send.received.push(outgoing.received());
            }
            Entry::Subscribed(topic, generation) => {
                event::put(payload, event::Form::Text, &subscribed(&topic));
                websocket::put_frame(out, websocket::TEXT, payload);
                payload.clear();
                if let Some(first) = take_first(session, &topic, generation) {
                    out.extend_from_slice(first.text_message());
                }
            }
            Entry::Latest(topic, generation) => {
                if let Some(latest) = take_latest(session, &topic, generation) {
                    out.extend_from_slice(latest.text_message());
                }
            }
            Entry::Unsubscribed(topic, reason) => event::put(payload, event::Form::Text, &unsubscribed(&topic, reason)),
            Entry::Message(_) => unreachable!("only a session of MQTT has messages"),
        }
        if !payload.is_empty() {
            websocket::put_frame(out, websocket::TEXT, payload);
        }
    }
}
