//! What a connection of MQTT is sent: packets, and on WebSocket all of one send in one frame.

use super::Link;
use crate::base::Time;
use crate::door::transmit::take_latest;
use crate::protocol::mqtt::Alias;
use crate::session::mqtt::{Again, Message};
use crate::session::{Entry, MqttForm, Outgoing, Send, Session};
use crate::wire::mqtt::{AcknowledgementKind, PublishHead, QoS, ReasonCode, put_acknowledgement, put_publish};
use crate::wire::websocket;

/// How much a connection may be sent now.
#[derive(Clone, Copy)]
pub struct Pace {
    pub now: Time,
    /// One send's bytes, exceeded by at most one packet.
    pub bytes_max: usize,
    /// Messages that the client has not acknowledged.
    pub inflight_max: usize,
    /// The last record that is stored: a message that has a later one waits.
    pub passed: u64,
}

/// What became of messages that the client acknowledges, by their sequence numbers.
#[derive(Default)]
pub struct Became {
    /// Not sent at all: they have expired, are longer than the client takes, or of a topic that has no name in MQTT.
    pub unsent: Vec<u64>,
    /// Sent for the first time, of which their records do not say so.
    pub begun: Vec<u64>,
}

/// Encodes from the front of the queue until it is empty or the send is full.
pub fn encode(session: &mut Session, link: &mut Link, form: MqttForm, send: &mut Send, pace: Pace) -> Became {
    let Pace { now, bytes_max, inflight_max, passed } = pace;
    let start = send.bytes.len();
    if form.is_websocket {
        send.bytes.extend_from_slice(&[0; websocket::HEAD_MAX]);
    }
    let payload_at = send.bytes.len();
    let inflight_max = inflight_max.min(usize::from(link.dialogue.client().receive_maximum));
    let mut became = Became::default();
    while send.bytes.len() - payload_at < bytes_max {
        let mqtt = session.mqtt.as_deref_mut().expect("a connection of MQTT has a session of it");
        if let Some(again) = mqtt.outbound.poll_repeat(inflight_max) {
            if let Some(sequence) = repeat(link, form, again, send, now) {
                mqtt.outbound.skip(sequence);
                became.unsent.push(sequence);
            }
            continue;
        }
        let fits = |message: &Message| mqtt.may_send(message, inflight_max, passed);
        match session.queue.pop_fitting(fits, |path| mqtt.outbound.has_to_repeat_of(path)) {
            Some(Entry::Message(message)) if message.qos != QoS::AtMostOnce => {
                if put_message(link, form, &message, send, now) {
                    became.begun.extend(message.has_to_be_noted().then_some(message.sequence));
                    mqtt.outbound.sent(message);
                } else {
                    became.unsent.push(message.sequence);
                    mqtt.missed = mqtt.missed.saturating_add(message.missed);
                }
            }
            Some(entry) => put_entry(session, link, form, entry, send, now),
            None => break,
        }
    }
    if form.is_websocket {
        websocket::fill_head(&mut send.bytes, start, payload_at);
    }
    became
}

fn put_entry(session: &Session, link: &mut Link, form: MqttForm, entry: Entry, send: &mut Send, now: Time) {
    match entry {
        Entry::Control(bytes) | Entry::Behind(bytes) => send.bytes.extend_from_slice(&bytes),
        Entry::Step(outgoing) => put_plain(link, form, &outgoing, send, now),
        Entry::Latest(topic, generation) => {
            if let Some(latest) = take_latest(session, &topic, generation) {
                put_plain(link, form, &latest, send, now);
            }
        }
        Entry::Message(message) => drop(put_message(link, form, &message, send, now)),
        Entry::Subscribed(..) | Entry::Gap(..) | Entry::Unsubscribed(..) => {}
    }
}

/// A publication of QoS 0 without options.
fn put_plain(link: &mut Link, form: MqttForm, outgoing: &Outgoing, send: &mut Send, now: Time) {
    let expires = outgoing.publication().message().and_then(|message| message.expires);
    // MQTT-3.3.2-5: it has expired before it was sent.
    if expires.is_some_and(|expires| expires <= now) {
        return;
    }
    if !form.is_shared || expires.is_some() {
        if put(link, form, outgoing, PublishHead::default(), send, now) {
            send.told.note(outgoing.received());
        }
    } else {
        let before = send.bytes.len();
        outgoing.put_packet(form.version, &mut send.bytes);
        if send.bytes.len() > before {
            send.told.note(outgoing.received());
        }
    }
}

/// Whether it is sent.
fn put_message(link: &mut Link, form: MqttForm, message: &Message, send: &mut Send, now: Time) -> bool {
    if message.is_over(now) {
        return false;
    }
    let head = PublishHead {
        is_duplicate: message.is_repeated && message.qos != QoS::AtMostOnce,
        qos: message.qos,
        retain: message.retain,
        id: message.id(),
        missed: message.missed,
        subscription_ids: &message.subscription_ids,
        ..PublishHead::default()
    };
    let is_sent = put(link, form, &message.outgoing, head, send, now);
    if is_sent {
        // What is retained, or came while the client was away, nobody waited for.
        let received = message.outgoing.received().filter(|received| !message.is_first && *received >= link.admitted);
        send.told.note(received);
    }
    is_sent
}

/// Whether it is sent: not when it is longer than the client takes, or its topic has no name in MQTT.
fn put(link: &mut Link, form: MqttForm, outgoing: &Outgoing, head: PublishHead<'_>, send: &mut Send, now: Time) -> bool {
    let message = outgoing.publication().message();
    let expires = message.and_then(|message| message.expires);
    let Some(name) = outgoing.name() else { return false };
    let payload = outgoing.payload();
    let start = send.bytes.len();
    let client = link.dialogue.client();
    // A message that may be too long for the client goes without an alias: if it is not sent, the client does not learn the alias.
    let passed_on = outgoing.passed_on();
    let rest = passed_on.len() + head.subscription_ids.len() * 5 + 96;
    let is_short = name.len() + payload.len() + rest <= client.packet_bytes_max as usize;
    let alias = if is_short { link.dialogue.alias_for(&name) } else { Alias::None };
    let (topic, alias) = match alias {
        Alias::None => (&*name, None),
        Alias::New(alias) => (&*name, Some(alias)),
        Alias::Known(alias) => ("", Some(alias)),
    };
    let expiry_s = expires.map(|expires| u32::try_from(expires.since(now).div_ceil(1_000_000_000)).unwrap_or(u32::MAX));
    put_publish(&mut send.bytes, form.version, &PublishHead { topic, alias, expiry_s, passed_on, ..head }, &payload);
    // MQTT-3.1.2-24: what is longer than the client takes is not sent.
    if send.bytes.len() - start > client.packet_bytes_max as usize {
        send.bytes.truncate(start);
        return false;
    }
    true
}

/// The message that is not sent again: it is longer than the client takes by now.
fn repeat(link: &mut Link, form: MqttForm, again: Again<'_>, send: &mut Send, now: Time) -> Option<u64> {
    match again {
        Again::Publish(message) => (!put_message(link, form, message, send, now)).then_some(message.sequence),
        Again::Release(id) => {
            put_acknowledgement(&mut send.bytes, form.version, AcknowledgementKind::Pubrel, id, ReasonCode::SUCCESS, None);
            None
        }
    }
}

/// Whether the session has something that its connection may be sent now.
pub fn has_to_send(session: &Session, link: &Link, inflight_max: usize, passed: u64) -> bool {
    let mqtt = session.mqtt.as_ref().expect("a connection of MQTT has a session of it");
    let inflight_max = inflight_max.min(usize::from(link.dialogue.client().receive_maximum));
    let is_next = |message: &Message| mqtt.may_send(message, inflight_max, passed);
    mqtt.outbound.has_to_repeat(inflight_max) || session.queue.can_send(is_next, |path| mqtt.outbound.has_to_repeat_of(path))
}
