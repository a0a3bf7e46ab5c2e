//! Connections of MQTT: packets in, and how a connection ends.
//!
//! - `connect` — CONNECT: which shard a client belongs to, taking over from an earlier connection, and going on with a session.
//! - `authenticate` — the steps of enhanced authentication.
//! - `transmit` — what a connection is sent.

mod authenticate;
mod connect;
mod transmit;

pub use authenticate::Verdict;
pub use transmit::{Became, Pace, encode, has_to_send};

use super::read::Said;
use super::{Doors, Fragments, Last, Stage};
use crate::audience::Audience;
use crate::base::{ConnectionKey, SessionKey, ShardIndex, Time};
use crate::desk::Desk;
use crate::protocol::mqtt::{Command, Dialogue, DialogueLimits, reason_of};
use crate::protocol::{CloseCode, Refusal};
use crate::wire::mqtt::{self, Fault, ReasonCode};
use crate::wire::websocket;
use std::num::NonZeroU16;

/// A connection of MQTT.
pub struct Link {
    pub dialogue: Dialogue,
    /// `None` until the client is admitted.
    pub session: Option<SessionKey>,
    pub is_websocket: bool,
    rare: Option<Box<Rare>>,
    /// When the client was admitted.
    pub admitted: Time,
    /// `None` where the client may be silent for as long as it likes.
    pub keep_alive_s: Option<NonZeroU16>,
    /// The ticket of the record that has to be stored before anything is sent: CONNACK says that an earlier session is over, or that there is one.
    pub ticket: u64,
    /// The client's session is another shard's.
    home: Option<ShardIndex>,
    /// A step of the authentication is being judged: nothing is read until then.
    is_judged: bool,
}

/// What most connections have none of.
#[derive(Default)]
struct Rare {
    /// What has come of a WebSocket message that is not complete.
    fragments: Fragments,
    /// What of the packets in WebSocket messages was not read.
    stream: Vec<u8>,
    /// CONNECT, as long as its authentication goes on.
    waiting: Option<Box<[u8]>>,
}

impl Link {
    pub fn new(is_websocket: bool) -> Box<Self> {
        Box::new(Self {
            dialogue: Dialogue::new(),
            session: None,
            is_websocket,
            rare: None,
            admitted: Time(0),
            keep_alive_s: None,
            ticket: 0,
            home: None,
            is_judged: false,
        })
    }

    pub fn fragments(&mut self) -> &mut Fragments {
        &mut self.rare.get_or_insert_default().fragments
    }

    /// What of the packets in WebSocket messages was not read.
    pub fn take_stream(&mut self) -> Vec<u8> {
        self.rare.as_mut().map(|rare| std::mem::take(&mut rare.stream)).unwrap_or_default()
    }

    pub fn keep_stream(&mut self, stream: Vec<u8>) {
        if self.rare.is_some() || !stream.is_empty() {
            self.rare.get_or_insert_default().stream = stream;
        }
    }

    /// How long the client may be silent. MQTT-3.1.2-22: one and a half times what it said.
    pub fn silence_ms(&self) -> Option<u32> {
        self.keep_alive_s.map(|seconds| u32::from(seconds.get()) * 1500)
    }

    /// Whether its packets wait: for the shard that the connection goes to, or until a step of its authentication is judged.
    pub fn is_waiting(&self) -> bool {
        self.home.is_some() || self.is_judged
    }

    /// The shard that it has to be given to.
    pub fn home(&self) -> Option<ShardIndex> {
        self.home
    }
}

impl Doors {
    pub(super) fn link(&mut self, key: ConnectionKey) -> Option<&mut Link> {
        match &mut self.connections.get_mut(key)?.stage {
            Stage::Mqtt(link) => Some(link),
            _ => None,
        }
    }

    /// Takes a packet; gives what it says to the client's session.
    pub(super) fn hear_packet<'r>(
        &mut self,
        desk: &mut Desk,
        audience: &mut Audience,
        key: ConnectionKey,
        first: u8,
        body: &'r [u8],
    ) -> Option<Said<'r>> {
        let link = self.link(key).expect("a packet comes by a connection of MQTT");
        let command = match link.dialogue.handle(first, body, &limits(desk)) {
            Ok(command) => command,
            Err(fault) => {
                self.close_faulty(desk, audience, key, fault);
                return None;
            }
        };
        match (command, link.session) {
            (Command::Connect(connect), _) => self.hear_connect(desk, audience, key, &connect, body),
            (Command::Authenticate(auth), _) => self.judge(desk, audience, key, &auth),
            (Command::Disconnect(disconnect), Some(session)) => {
                audience.take_leave(desk, session, disconnect);
                self.end(desk, audience, key);
            }
            (command, Some(session)) => return Some(Said::Command { session, command }),
            (_, None) => self.close_faulty(desk, audience, key, Fault::new(ReasonCode::PROTOCOL_ERROR, "CONNECT must come first")),
        }
        None
    }

    // Ends.

    /// Ends a connection whose client broke a rule.
    pub fn close_faulty(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey, fault: Fault) {
        self.say_last(desk, audience, key, |dialogue, out| dialogue.put_fault(out, fault));
    }

    pub(super) fn close_refused(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey, refusal: &Refusal) {
        self.close_with(desk, audience, key, reason_of(refusal.code), &refusal.message);
    }

    /// Ends a connection for the reason given; what is queued for it is not sent any more.
    fn close_with(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey, code: ReasonCode, why: &str) {
        let (code, reference) = match code {
            ReasonCode::SERVER_SHUTTING_DOWN => stopping(desk),
            code => (code, None),
        };
        self.say_last(desk, audience, key, |dialogue, out| dialogue.put_disconnect(out, code, Some(why), reference.as_deref()));
    }

    /// The reason code that says the same as a close code of the native protocol.
    pub(super) fn close_mqtt(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey, code: CloseCode, why: &str) {
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
            CloseCode::ClosedByControl => ReasonCode::ADMINISTRATIVE_ACTION,
            CloseCode::SessionTakenOver => ReasonCode::SESSION_TAKEN_OVER,
            CloseCode::ComeLater => ReasonCode::SERVER_BUSY,
            CloseCode::AuthenticationFailed => ReasonCode::NOT_AUTHORIZED,
        };
        self.close_with(desk, audience, key, code, why);
    }

    /// Sends what `put` writes, and then ends the connection.
    fn say_last(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey, put: impl FnOnce(&mut Dialogue, &mut Vec<u8>)) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Stage::Mqtt(link) = &mut connection.stage else { return };
        let mut packet = Vec::new();
        put(&mut link.dialogue, &mut packet);
        put_packet(&mut connection.raw, link.is_websocket, &packet);
        if link.is_websocket {
            websocket::put_close(&mut connection.raw, CloseCode::Normal.code(), "");
        }
        self.end(desk, audience, key);
    }
}

impl Last {
    /// What comes behind the queue of a connection that ends.
    pub(super) fn put(self, desk: &Desk, out: &mut Vec<u8>) {
        match self {
            Self::Close(code) => websocket::put_close(out, code.code(), code.name()),
            Self::Mqtt(mut link) => {
                let (code, reference) = stopping(desk);
                let mut packet = Vec::new();
                link.dialogue.put_disconnect(&mut packet, code, Some("the server is stopping"), reference.as_deref());
                put_packet(out, link.is_websocket, &packet);
                if link.is_websocket {
                    websocket::put_close(out, CloseCode::ShuttingDown.code(), "");
                }
            }
        }
    }
}

/// How it is said that the server stops, and where else to go.
fn stopping(desk: &Desk) -> (ReasonCode, Option<Box<str>>) {
    let reference = Some(desk.limits.mqtt.server_reference.clone()).filter(|text| !text.is_empty());
    (if reference.is_some() { ReasonCode::USE_ANOTHER_SERVER } else { ReasonCode::SERVER_SHUTTING_DOWN }, reference)
}

fn limits(desk: &Desk) -> DialogueLimits {
    let limits = &desk.limits.mqtt;
    DialogueLimits {
        packet: mqtt::PacketLimits { packet_bytes_max: limits.packet_bytes_max, user_properties_max: limits.user_properties_max },
        topic_alias_maximum: limits.topic_alias_maximum,
        client_id_bytes_max: limits.client_id_bytes_max,
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
