//! Connections and sessions of MQTT: what clients say, brought to the rules that all sessions share.
//!
//! - here — packets in, answers out, how a connection ends.
//! - `connect` — CONNECT: which shard a client belongs to, taking over, going on with a session.
//! - `authenticate` — the steps of enhanced authentication.
//! - `transmit` — what a connection is sent.

mod authenticate;
mod connect;
mod transmit;

pub use authenticate::{Authenticator, Step};
pub use transmit::{Pace, encode, has_to_send};

use super::Shard;
use super::dialogue::{Stage, WireForm};
use crate::audience::mqtt::Published;
use crate::base::{Key, ShardIndex};
use crate::protocol::mqtt::{Command, Dialogue, reason_of};
use crate::protocol::{CloseCode, Refusal};
use crate::wire::mqtt::{self, Fault, ReasonCode};
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
            (Command::Publish(publish), Some(session)) => match self.audience.publish_mqtt(&mut self.desk, session, &publish) {
                Ok(None) => {}
                Ok(Some(Published { asker, path, change })) => self.route_change(asker, &path, change),
                Err(fault) => self.close_faulty(key, fault),
            },
            (Command::Acknowledged(acknowledgement), Some(session)) => {
                self.audience.take_acknowledgement(&mut self.desk, session, acknowledgement)
            }
            (Command::Release { id }, Some(session)) => self.audience.release_message(&mut self.desk, session, id),
            (Command::Subscribe(subscribe), Some(session)) => {
                if let Err(fault) = self.audience.subscribe_mqtt(&mut self.desk, session, &subscribe) {
                    self.close_faulty(key, fault);
                }
            }
            (Command::Unsubscribe(unsubscribe), Some(session)) => self.audience.unsubscribe_mqtt(&mut self.desk, session, &unsubscribe),
            (Command::Ping, Some(session)) => self.audience.reply(&mut self.desk, session, |_, out| mqtt::put_pingresp(out)),
            (Command::Disconnect(disconnect), Some(session)) => {
                self.audience.take_leave(&self.desk, session, disconnect);
                self.end(key);
            }
            (_, None) => self.close_faulty(key, Fault::new(ReasonCode::PROTOCOL_ERROR, "CONNECT must come first")),
        }
        self.give_answers();
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
