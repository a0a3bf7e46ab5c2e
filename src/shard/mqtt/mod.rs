//! Connections and sessions of MQTT: what clients say, brought to the rules that all sessions share.
//!
//! - here — packets in, answers out, how a connection ends.
//! - `connect` — CONNECT: which shard a client belongs to, taking over, going on with a session.
//! - `authenticate` — the steps of enhanced authentication.
//! - `subscribe` — filters, and the retained messages that they find.
//! - `publish` — messages of clients on their way to topics, and wills.
//! - `deliver` — messages on their way to clients.
//! - `share` — shared subscriptions.
//! - `ends` — sessions without a connection, and when they are over; `store` — what is kept of sessions through a restart.
//! - `sys` — figures of the server as topics.
//! - `transmit` — what a connection is sent; `record` — how sessions are written.

mod authenticate;
mod connect;
mod deliver;
mod ends;
mod publish;
mod record;
mod share;
mod store;
mod subscribe;
mod sys;
mod transmit;

pub use authenticate::{Authenticator, Step};
pub use ends::Ends;
use publish::Published;
pub(super) use store::{home_of, is_unfinished, session_of};
pub use sys::Sys;
pub use transmit::{Pace, encode, has_to_send};

use super::Shard;
use super::dialogue::{Stage, WireForm};
use crate::base::{Key, ShardIndex};
use crate::desk::{Answer, Why};
use crate::mail::Asker;
use crate::protocol::mqtt::{Answers, Command, Dialogue, reason_of};
use crate::protocol::{CloseCode, Refusal};
use crate::session::mqtt::{Acknowledged, Inbound};
use crate::session::{Entry, Mqtt};
use crate::wire::mqtt::{self, Acknowledgement, AcknowledgementKind, Fault, ReasonCode, Version};
use crate::wire::native::Outcome;
use crate::wire::websocket;

/// What a connection of MQTT is beyond any other.
pub struct Link {
    pub dialogue: Dialogue,
    pub is_websocket: bool,
    /// An unfinished packet of what WebSocket frames carry.
    pub unread: Vec<u8>,
    /// How long the client may be silent; `None` for as long as it likes.
    pub silence_ms: Option<u64>,
    /// The ticket of the record that has to be stored before anything is sent: CONNACK says that an earlier session is over, or that there is one.
    pub ticket: u64,
    /// The shard that its client belongs to, where that is another.
    pub home: Option<ShardIndex>,
    /// A CONNECT whose client has to authenticate itself first.
    pub waiting: Option<Box<[u8]>>,
}

impl Link {
    pub fn new(is_websocket: bool) -> Box<Self> {
        Box::new(Self {
            dialogue: Dialogue::new(),
            is_websocket,
            unread: Vec::new(),
            silence_ms: None,
            ticket: 0,
            home: None,
            waiting: None,
        })
    }
}

/// What an owner's answer is to, in the number of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Asked {
    Publish = 1,
    PublishOnce = 2,
    Subscribe = 3,
    /// Nobody waits for it.
    Will = 4,
    /// Of a group's new member.
    Join = 5,
}

impl Asked {
    /// The number of a request: of which packet, in which of the session's connections.
    fn number(self, id: u16, epoch: u32) -> u64 {
        u64::from(id) | (self as u64) << 16 | u64::from(epoch) << 24
    }

    fn of(number: u64) -> Option<(Self, u16, u32)> {
        let kind = match number >> 16 & 0xff {
            1 => Self::Publish,
            2 => Self::PublishOnce,
            3 => Self::Subscribe,
            4 => Self::Will,
            5 => Self::Join,
            _ => return None,
        };
        Some((kind, number as u16, (number >> 24) as u32))
    }
}

impl Shard {
    /// Reads the packets that are whole; returns how many bytes that was.
    pub(super) fn read_packets(&mut self, key: Key, bytes: &[u8]) -> usize {
        let Some(limits) = self.mqtt_limits() else { return bytes.len() };
        let mut used = 0;
        while self.reads_packets(key) {
            match mqtt::parse_head(&bytes[used..], limits.packet.packet_bytes_max) {
                Ok(Some(head)) if bytes.len() - used >= head.head_len + head.body_len => {
                    let from = used + head.head_len;
                    let body = &bytes[from..from + head.body_len];
                    self.read_packet(key, head.first, body, &limits);
                    self.close_given_up();
                    if self.connections.get(key).and_then(|held| held.link.as_ref()).is_some_and(|link| link.home.is_some()) {
                        // The shard that it goes to reads CONNECT again.
                        return used;
                    }
                    used = from + head.body_len;
                }
                Ok(_) => break,
                Err(fault) => {
                    self.close_faulty(key, fault);
                    break;
                }
            }
        }
        used
    }

    fn reads_packets(&self, key: Key) -> bool {
        matches!(self.stage(key), Some(Stage::Greeting(WireForm::Mqtt) | Stage::Open(WireForm::Mqtt, _)))
    }

    /// Reads on in what WebSocket messages carry: packets may begin and end anywhere in them.
    pub(super) fn read_stream(&mut self, key: Key, message: &[u8]) {
        let Some(link) = self.link(key) else { return };
        let mut held = std::mem::take(&mut link.unread);
        let rest = if held.is_empty() {
            let used = self.read_packets(key, message);
            message[used..].to_vec()
        } else {
            held.extend_from_slice(message);
            let used = self.read_packets(key, &held);
            held.drain(..used);
            held
        };
        if let Some(link) = self.link(key) {
            link.unread = rest;
        }
    }

    pub(super) fn link(&mut self, key: Key) -> Option<&mut Link> {
        self.connections.get_mut(key)?.link.as_deref_mut()
    }

    fn read_packet(&mut self, key: Key, first: u8, body: &[u8], limits: &crate::protocol::mqtt::Limits) {
        let Some(link) = self.link(key) else { return };
        let command = match link.dialogue.handle(first, body, limits) {
            Ok(command) => command,
            Err(fault) => return self.close_faulty(key, fault),
        };
        let session = match self.stage(key) {
            Some(Stage::Open(_, session)) => Some(session),
            _ => None,
        };
        match (command, session) {
            (Command::Connect(connect), _) => self.connect_mqtt(key, &connect, body),
            (Command::Authenticate(auth), _) => self.go_on_authenticating(key, auth),
            (Command::Publish(publish), Some(session)) => match self.publish_mqtt(session, &publish) {
                Ok(None) => {}
                Ok(Some(Published { asker, path, change })) => self.route_change(asker, &path, change),
                Err(fault) => self.close_faulty(key, fault),
            },
            (Command::Acknowledged(acknowledgement), Some(session)) => self.take_acknowledgement(session, acknowledgement),
            (Command::Release { id }, Some(session)) => self.release_message(session, id),
            (Command::Subscribe(subscribe), Some(session)) => {
                if let Err(fault) = self.subscribe_mqtt(session, &subscribe) {
                    self.close_faulty(key, fault);
                }
            }
            (Command::Unsubscribe(unsubscribe), Some(session)) => self.unsubscribe_mqtt(session, &unsubscribe),
            (Command::Ping, Some(session)) => self.reply(session, |_, out| mqtt::put_pingresp(out)),
            (Command::Disconnect(disconnect), Some(session)) => {
                self.take_leave(session, disconnect);
                self.end(key);
            }
            (_, None) => self.close_faulty(key, Fault::new(ReasonCode::PROTOCOL_ERROR, "CONNECT must come first")),
        }
        self.give_answers();
    }

    pub(super) fn mqtt(&mut self, session: Key) -> Option<&mut Mqtt> {
        self.sessions.get_mut(session)?.mqtt.as_deref_mut()
    }

    fn mqtt_limits(&self) -> Option<crate::protocol::mqtt::Limits> {
        let limits = self.desk.limits.mqtt.as_ref()?;
        Some(crate::protocol::mqtt::Limits {
            packet: mqtt::Limits {
                packet_bytes_max: limits.packet_bytes_max,
                user_properties_max: limits.user_properties_max,
                filters_max: limits.filters_max,
            },
            receive_maximum: limits.receive_maximum,
            topic_alias_maximum: limits.topic_alias_maximum,
            client_id_bytes_max: limits.client_id_bytes_max,
        })
    }

    // Acknowledgements.

    fn take_acknowledgement(&mut self, session: Key, acknowledgement: Acknowledgement) {
        let Acknowledgement { kind, id, code } = acknowledgement;
        let Some(mqtt) = self.mqtt(session) else { return };
        let epoch = mqtt.epoch;
        let outbound = &mut mqtt.outbound;
        if kind == AcknowledgementKind::Pubrec
            && !code.is_error()
            && let Some(sequence) = outbound.to_receive(id)
        {
            // The client forgets the identifier by PUBREL: from then on the message must not come again, whatever happens.
            let ticket = self.note_received(session, sequence);
            return self.desk.acknowledge(Ok((Outcome::Done, ticket)), Answer::Received { session, id, epoch });
        }
        let result = match kind {
            AcknowledgementKind::Puback => outbound.acknowledge(id),
            AcknowledgementKind::Pubrec if code.is_error() => outbound.give_up(id),
            AcknowledgementKind::Pubrec => outbound.receive(id),
            AcknowledgementKind::Pubrel | AcknowledgementKind::Pubcomp => outbound.complete(id),
        };
        match result {
            Acknowledged::Done { sequence } => {
                self.forget_message(session, sequence);
                self.wake_session(session);
            }
            Acknowledged::Received => self.acknowledge_to(session, AcknowledgementKind::Pubrel, id, ReasonCode::SUCCESS, None),
            Acknowledged::Unknown if kind == AcknowledgementKind::Pubrec && !code.is_error() => {
                self.acknowledge_to(session, AcknowledgementKind::Pubrel, id, ReasonCode::PACKET_IDENTIFIER_NOT_FOUND, None);
            }
            Acknowledged::Unknown => {}
        }
    }

    /// PUBREL: the identifier is free again.
    fn release_message(&mut self, session: Key, id: u16) {
        let Some(mqtt) = self.mqtt(session) else { return };
        let epoch = mqtt.epoch;
        let code = match mqtt.inbound.remove(&id) {
            Some(_) => ReasonCode::SUCCESS,
            None => ReasonCode::PACKET_IDENTIFIER_NOT_FOUND,
        };
        let is_kept = mqtt.stored.is_some();
        // The client uses the identifier again after PUBCOMP: from then on it must not stand for this message, whatever happens. PUBREL may come a
        // second time while the first is not stored.
        let ticket = self.forget_inbound(session, id).or_else(|| self.desk.ledger.earlier().filter(|_| is_kept));
        self.desk.acknowledge(Ok((Outcome::Done, ticket)), Answer::Completed { session, id, epoch, code });
    }

    /// It is stored that the client has received a message.
    pub(in crate::shard) fn received_stored(&mut self, session: Key, id: u16, epoch: u32) {
        let Some(mqtt) = self.mqtt(session) else { return };
        // On a newer connection it is on its way again, and so will be PUBREC.
        if mqtt.epoch == epoch && mqtt.outbound.receive(id) == Acknowledged::Received {
            self.acknowledge_to(session, AcknowledgementKind::Pubrel, id, ReasonCode::SUCCESS, None);
        }
    }

    /// It is stored that the client has released a message.
    pub(in crate::shard) fn completed_stored(&mut self, session: Key, id: u16, epoch: u32, code: ReasonCode) {
        if self.mqtt(session).is_some_and(|mqtt| mqtt.epoch == epoch) {
            self.acknowledge_to(session, AcknowledgementKind::Pubcomp, id, code, None);
        }
    }

    pub(super) fn acknowledge_to(&mut self, session: Key, kind: AcknowledgementKind, id: u16, code: ReasonCode, why: Option<&str>) {
        self.reply(session, |answers, out| answers.put_acknowledgement(out, Acknowledgement { kind, id, code }, why));
    }

    // Answers.

    /// Queues what `put` writes, where the session has a connection.
    pub(super) fn reply(&mut self, session: Key, put: impl FnOnce(&mut Answers, &mut Vec<u8>)) {
        let Some(answers) = self.mqtt(session).and_then(|mqtt| mqtt.answers.as_mut()) else { return };
        let mut bytes = Vec::new();
        put(answers, &mut bytes);
        if !bytes.is_empty() {
            self.push(session, Entry::Control(bytes.into_boxed_slice()));
        }
    }

    /// An owner's answer to what this session's client asked.
    pub(super) fn answer_mqtt(&mut self, to: Asker, result: Result<Outcome, Refusal>) {
        let Some(mqtt) = self.mqtt(to.session) else { return };
        let epoch = mqtt.epoch;
        match (Asked::of(to.id), result) {
            (Some((Asked::PublishOnce, id, _)), Ok(_)) => {
                // The client may have asked again by another connection.
                if let Some(state) = mqtt.inbound.get_mut(&id) {
                    *state = Inbound::Received;
                    self.acknowledge_to(to.session, AcknowledgementKind::Pubrec, id, ReasonCode::SUCCESS, None);
                }
            }
            (Some((Asked::PublishOnce, id, _)), Err(refusal)) => {
                // Who has connected since, and not asked again yet, will.
                let Some(Inbound::Given { epoch: asked }) = mqtt.inbound.get(&id).copied() else { return };
                let is_told = asked == epoch && mqtt.version == Version::V5;
                match mqtt.inbound_notes.get(&id).copied().filter(|_| !is_told) {
                    // The client sends it again. It may have reached some, where storage failed for others.
                    Some(number) => drop(mqtt.inbound.insert(id, Inbound::Lost { number })),
                    None => {
                        mqtt.inbound.remove(&id);
                        self.forget_inbound(to.session, id);
                    }
                }
                if asked == epoch {
                    self.refuse_message(to.session, AcknowledgementKind::Pubrec, id, refusal);
                }
            }
            (Some((Asked::Join, number, _)), result) => self.group_known(to.session, number, result),
            (Some((_, _, of)), _) if of != epoch => {}
            (Some((Asked::Publish, id, _)), Ok(_)) => {
                self.acknowledge_to(to.session, AcknowledgementKind::Puback, id, ReasonCode::SUCCESS, None);
            }
            (Some((Asked::Publish, id, _)), Err(refusal)) => self.refuse_message(to.session, AcknowledgementKind::Puback, id, refusal),
            (Some((Asked::Subscribe, id, _)), _) => self.filter_known(to.session, id),
            (Some((Asked::Will, ..)), _) | (None, Ok(_)) => {}
            // At QoS 0 there is no other way to tell.
            (None, Err(refusal)) => self.give_up(to.session, Why::Refused(refusal)),
        }
    }

    /// A message is not taken. MQTT 3.x has no word for that but the end of the connection: an acknowledgement would say that it was.
    pub(super) fn refuse_message(&mut self, session: Key, kind: AcknowledgementKind, id: u16, refusal: Refusal) {
        self.desk.report.mqtt_refused += 1;
        let Some(mqtt) = self.mqtt(session) else { return };
        if mqtt.version == Version::V5 {
            self.acknowledge_to(session, kind, id, reason_of(refusal.code), Some(&refusal.message));
        } else {
            self.give_up(session, Why::Refused(refusal));
        }
    }

    // Ends.

    /// Ends a connection whose client broke a rule.
    pub(super) fn close_faulty(&mut self, key: Key, fault: Fault) {
        self.say_last(key, |dialogue, out| dialogue.put_fault(out, fault));
    }

    pub(in crate::shard) fn close_refused(&mut self, key: Key, refusal: &Refusal) {
        self.close_with(key, reason_of(refusal.code), &refusal.message);
    }

    /// Ends a connection for the reason given; what is queued for it is not sent any more.
    pub(super) fn close_with(&mut self, key: Key, code: ReasonCode, why: &str) {
        let reference = self.desk.limits.mqtt.as_ref().map(|limits| limits.server_reference.clone()).filter(|text| !text.is_empty());
        let (code, reference) = match (code, &reference) {
            (ReasonCode::SERVER_SHUTTING_DOWN, Some(_)) => (ReasonCode::USE_ANOTHER_SERVER, reference.as_deref()),
            _ => (code, None),
        };
        self.say_last(key, |dialogue, out| dialogue.put_disconnect(out, code, Some(why), reference));
    }

    /// The reason code that says the same as a close code of the native protocol.
    pub(super) fn close_mqtt(&mut self, key: Key, code: CloseCode, why: &str) {
        let code = match code {
            CloseCode::Normal => ReasonCode::SUCCESS,
            CloseCode::ShuttingDown => ReasonCode::SERVER_SHUTTING_DOWN,
            CloseCode::MessageTooLarge => ReasonCode::PACKET_TOO_LARGE,
            CloseCode::KeepAliveTimeout => ReasonCode::KEEP_ALIVE_TIMEOUT,
            CloseCode::SendQueueOverflow => ReasonCode::QUOTA_EXCEEDED,
            CloseCode::WebSocketError | CloseCode::WrongMessageKind | CloseCode::InvalidUtf8 => ReasonCode::PROTOCOL_ERROR,
            CloseCode::MalformedMessage => ReasonCode::MALFORMED_PACKET,
            CloseCode::UnsupportedVersion => ReasonCode::UNSUPPORTED_PROTOCOL_VERSION,
            CloseCode::ConnectTimeout => ReasonCode::MAXIMUM_CONNECT_TIME,
        };
        self.close_with(key, code, why);
    }

    /// The last packet of a connection whose queue was still sent; whether it is one of MQTT.
    pub(super) fn put_last_packet(&mut self, key: Key) -> bool {
        let Some(connection) = self.connections.get_mut(key) else { return false };
        let Some(link) = connection.link.as_deref_mut() else { return false };
        let mut packet = Vec::new();
        let reference = self.desk.limits.mqtt.as_ref().map(|limits| &*limits.server_reference).filter(|text| !text.is_empty());
        let code = if reference.is_some() { ReasonCode::USE_ANOTHER_SERVER } else { ReasonCode::SERVER_SHUTTING_DOWN };
        link.dialogue.put_disconnect(&mut packet, code, Some("the server is stopping"), reference);
        put_packet(&mut self.scratch.send.bytes, link.is_websocket, &packet);
        if link.is_websocket {
            websocket::put_close(&mut self.scratch.send.bytes, CloseCode::ShuttingDown.code(), "");
        }
        true
    }

    /// Sends what `put` writes, and then ends the connection.
    fn say_last(&mut self, key: Key, put: impl FnOnce(&mut Dialogue, &mut Vec<u8>)) {
        if !self.reads_packets(key) {
            return;
        }
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(link) = connection.link.as_deref_mut() else { return };
        let mut packet = Vec::new();
        put(&mut link.dialogue, &mut packet);
        let is_websocket = link.is_websocket;
        put_packet(&mut connection.raw, is_websocket, &packet);
        if is_websocket {
            websocket::put_close(&mut connection.raw, CloseCode::Normal.code(), "");
        }
        self.end(key);
    }
}

/// Appends a packet as the transport carries it.
fn put_packet(out: &mut Vec<u8>, is_websocket: bool, packet: &[u8]) {
    match (is_websocket, packet.is_empty()) {
        (_, true) => {}
        (true, _) => websocket::put_frame(out, websocket::BINARY, packet),
        (false, _) => out.extend_from_slice(packet),
    }
}
