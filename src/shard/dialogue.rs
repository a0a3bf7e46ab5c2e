//! A connection's dialogue: HTTP head, WebSocket frames, CONNECT, then requests, which `requests` takes up, and their answers.

use super::mqtt::Link;
use super::{Effect, Shard, Transport};
use crate::base::{Key, Time};
use crate::desk::{GivenUp, Why};
use crate::protocol::{CloseCode, ErrorCode, Refusal};
use crate::session::{Entry, Form, Session};
use crate::topic::publication::Encodings;
use crate::wire::event::{self, Event};
use crate::wire::native::{self, Ask, Request, Welcome};
use crate::wire::text::{self, TextError};
use crate::wire::websocket::{self, FrameHead, Opcode, WebSocketError};
use crate::wire::{http, varint};

/// How long a peer may take over closing.
const CLOSE_TIMEOUT_MS: u64 = 2_000;

/// Where a connection's dialogue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The HTTP head is not complete.
    Head,
    /// An admin page is being made.
    Page,
    /// WebSocket; CONNECT has not come.
    Greeting(WireForm),
    Open(WireForm, Key),
    /// Nothing is read any more; what is queued is sent, then the transport ends.
    Ending,
}

/// The subprotocol in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireForm {
    Binary,
    Text,
    /// Packets of MQTT, on WebSocket or without.
    Mqtt,
}

impl WireForm {
    pub fn message_opcode(self) -> Opcode {
        match self {
            Self::Binary | Self::Mqtt => websocket::BINARY,
            Self::Text => websocket::TEXT,
        }
    }

    fn native(self) -> Option<event::Form> {
        match self {
            Self::Binary => Some(event::Form::Binary),
            Self::Text => Some(event::Form::Text),
            Self::Mqtt => None,
        }
    }
}

/// One transport's dialogue. Small: hundreds of thousands are idle.
pub struct Connection {
    pub stage: Stage,
    /// An unfinished head or frame.
    unread: Vec<u8>,
    /// An unfinished message in fragments, and its first frame's opcode.
    message: Vec<u8>,
    message_opcode: Option<Opcode>,
    /// Bytes to send before the session's queue, in whole WebSocket frames.
    pub raw: Vec<u8>,
    /// The close frame to send behind the queue.
    pub closing: Option<CloseCode>,
    pub deadline: Time,
    last_received: Time,
    pub last_sent: Time,
    /// Of a connection of MQTT.
    pub link: Option<Box<Link>>,
}

impl Shard {
    /// A transport was accepted; `None` where the shard holds as many as it may, and the transport should end.
    pub fn handle_accept(&mut self, now: Time, transport: Transport) -> Option<Key> {
        self.desk.now = now;
        match transport {
            Transport::Http => self.admit(Stage::Head, None),
            Transport::Mqtt if self.desk.limits.mqtt.is_none() => None,
            Transport::Mqtt => self.admit(Stage::Greeting(WireForm::Mqtt), Some(Link::new(false))),
        }
    }

    pub(super) fn admit(&mut self, stage: Stage, link: Option<Box<Link>>) -> Option<Key> {
        let now = self.desk.now;
        if self.connections.len() >= self.desk.limits.connections_max || self.is_shutting_down {
            return None;
        }
        let deadline = now.after_ms(self.desk.limits.handshake_timeout_ms);
        let key = self.connections.insert(Connection {
            stage,
            unread: Vec::new(),
            message: Vec::new(),
            message_opcode: None,
            raw: Vec::new(),
            closing: None,
            deadline,
            last_received: now,
            last_sent: now,
            link,
        });
        self.desk.effects.open(key);
        self.wheel.insert(deadline, key);
        Some(key)
    }

    /// The transport brought bytes. They are unmasked in place.
    pub fn handle_bytes(&mut self, now: Time, key: Key, bytes: &mut [u8]) {
        self.desk.now = now;
        self.begin_turn();
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.last_received = now;
        let mut held = std::mem::take(&mut connection.unread);
        if held.is_empty() {
            let used = self.read(key, bytes);
            self.hold(key, || bytes[used..].to_vec());
        } else {
            held.extend_from_slice(bytes);
            let used = self.read(key, &mut held);
            held.drain(..used);
            self.hold(key, || held);
        }
        self.leave_for_home(key);
        self.settle();
    }

    /// A client of another shard goes there.
    fn leave_for_home(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if let Some(home) = connection.link.as_ref().and_then(|link| link.home) {
            let unread = std::mem::take(&mut connection.unread);
            self.hand_over(key, home, unread);
        }
    }

    fn hold(&mut self, key: Key, rest: impl FnOnce() -> Vec<u8>) {
        if let Some(connection) = self.connections.get_mut(key).filter(|connection| connection.stage != Stage::Ending) {
            connection.unread = rest();
        }
    }

    /// The transport is gone.
    pub fn handle_closed(&mut self, now: Time, key: Key) {
        self.desk.now = now;
        self.desk.effects.close(key);
        if let Some(connection) = self.connections.remove(key)
            && let Stage::Open(_, session) = connection.stage
        {
            self.audience.leave_session(&mut self.desk, session);
        }
        self.sweep_session_of(key);
        self.settle();
    }

    /// A session whose connection was ending still stood for its queue.
    fn sweep_session_of(&mut self, key: Key) {
        if let Some(session) = self.ending_sessions.remove(&key) {
            self.audience.leave_session(&mut self.desk, session);
        }
    }

    /// Answers an admin request.
    pub fn respond(&mut self, key: Key, status: u16, content_type: &str, body: &[u8]) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        http::put_response(&mut connection.raw, status, content_type, body);
        self.end(key);
    }

    /// Reads as much as is whole; returns how many bytes that was.
    fn read(&mut self, key: Key, bytes: &mut [u8]) -> usize {
        let mut used = 0;
        if self.stage(key) == Some(Stage::Head) {
            used = self.read_head(key, bytes);
        }
        if self.connections.get(key).is_some_and(|connection| connection.link.as_ref().is_some_and(|link| !link.is_websocket)) {
            return self.read_packets(key, bytes);
        }
        while matches!(self.stage(key), Some(Stage::Greeting(_) | Stage::Open(..))) {
            if self.link(key).is_some_and(|link| link.home.is_some()) {
                break;
            }
            match websocket::parse_head(&bytes[used..], self.desk.limits.message_bytes_max) {
                Ok(Some(head)) if bytes.len() - used >= head.head_len + head.payload_len => {
                    let from = used + head.head_len;
                    used = from + head.payload_len;
                    self.read_frame(key, head, &mut bytes[from..used]);
                }
                Ok(_) => break,
                Err(error) => {
                    self.close_broken(key, error);
                    break;
                }
            }
        }
        used
    }

    pub(super) fn stage(&self, key: Key) -> Option<Stage> {
        self.connections.get(key).map(|connection| connection.stage)
    }

    fn read_head(&mut self, key: Key, bytes: &[u8]) -> usize {
        let head = http::parse_head(bytes);
        let head_bytes = head.as_ref().map_or(0, |head| head.as_ref().map_or(bytes.len(), |(length, _)| *length));
        if head_bytes > self.desk.limits.http_head_bytes_max {
            self.respond_text(key, 431, "the request's head is too long");
            return 0;
        }
        match head {
            Ok(None) => 0,
            Err(refusal) => {
                self.respond_text(key, refusal.status, refusal.reason);
                0
            }
            Ok(Some((length, http::Head::Request(request)))) => {
                self.set_stage(key, Stage::Page);
                self.desk.effects.push(Effect::Http(key, request));
                length
            }
            Ok(Some((length, http::Head::Upgrade(upgrade)))) => {
                self.upgrade(key, &upgrade);
                length
            }
        }
    }

    fn upgrade(&mut self, key: Key, upgrade: &http::Upgrade) {
        if upgrade.path == "/mqtt" && self.desk.limits.mqtt.is_some() {
            return self.upgrade_to_mqtt(key, upgrade);
        }
        if upgrade.path != "/tidewire" {
            let paths = if self.desk.limits.mqtt.is_some() { "/tidewire and /mqtt" } else { "/tidewire" };
            return self.respond_text(key, 404, &format!("WebSocket is served at {paths}"));
        }
        let known = upgrade.protocols.iter().find_map(|offered| match offered.as_str() {
            "tidewire.1" => Some((WireForm::Binary, "tidewire.1")),
            "tidewire.1.json" => Some((WireForm::Text, "tidewire.1.json")),
            _ => None,
        });
        let Some((form, name)) = known else {
            return self.respond_text(key, 400, "Sec-WebSocket-Protocol must offer tidewire.1 or tidewire.1.json");
        };
        self.switch(key, form, upgrade, name);
    }

    fn upgrade_to_mqtt(&mut self, key: Key, upgrade: &http::Upgrade) {
        // MQTT-6.0.0-3 and 4: the client offers `mqtt`, and the server chooses it; `mqttv3.1` is that of MQTT 3.1.
        let Some(name) = upgrade.protocols.iter().find_map(|offered| ["mqtt", "mqttv3.1"].into_iter().find(|name| name == offered)) else {
            return self.respond_text(key, 400, "Sec-WebSocket-Protocol must offer mqtt or mqttv3.1");
        };
        if let Some(connection) = self.connections.get_mut(key) {
            connection.link = Some(Link::new(true));
        }
        self.switch(key, WireForm::Mqtt, upgrade, name);
    }

    fn switch(&mut self, key: Key, form: WireForm, upgrade: &http::Upgrade, protocol: &str) {
        self.set_stage(key, Stage::Greeting(form));
        if let Some(connection) = self.connections.get_mut(key) {
            http::put_switching(&mut connection.raw, &upgrade.accept_key, protocol);
        }
        self.desk.effects.wake(key);
    }

    fn respond_text(&mut self, key: Key, status: u16, text: &str) {
        self.respond(key, status, "text/plain; charset=utf-8", format!("{text}\n").as_bytes());
    }

    fn set_stage(&mut self, key: Key, stage: Stage) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.stage = stage;
        }
    }

    fn read_frame(&mut self, key: Key, head: FrameHead, payload: &mut [u8]) {
        websocket::unmask(payload, head.mask);
        match head.opcode {
            websocket::PING => {
                if let Some(connection) = self.connections.get_mut(key)
                    && connection.raw.len() < 4096
                {
                    websocket::put_frame(&mut connection.raw, websocket::PONG, payload);
                }
                self.desk.effects.wake(key);
            }
            websocket::PONG => {}
            websocket::CLOSE => match websocket::close_answer(payload) {
                Ok(code) => {
                    if let Some(connection) = self.connections.get_mut(key) {
                        websocket::put_close(&mut connection.raw, code, "");
                    }
                    self.end(key);
                }
                Err(error) => self.close_broken(key, error),
            },
            _ => self.read_data_frame(key, head, payload),
        }
    }

    fn read_data_frame(&mut self, key: Key, head: FrameHead, payload: &mut [u8]) {
        let message_bytes_max = self.desk.limits.message_bytes_max;
        let Some(connection) = self.connections.get_mut(key) else { return };
        let is_first = head.opcode != websocket::CONTINUATION;
        if is_first && head.is_final && connection.message_opcode.is_none() {
            return self.read_message(key, head.opcode, payload);
        }
        if is_first == connection.message_opcode.is_some() {
            return self.close_broken(key, WebSocketError::Protocol("a message's fragments are out of order"));
        }
        if connection.message.len() + payload.len() > message_bytes_max {
            return self.close_broken(key, WebSocketError::TooLarge);
        }
        connection.message.extend_from_slice(payload);
        let opcode = *connection.message_opcode.get_or_insert(head.opcode);
        if head.is_final {
            connection.message_opcode = None;
            let message = std::mem::take(&mut connection.message);
            self.read_message(key, opcode, &message);
        }
    }

    fn read_message(&mut self, key: Key, opcode: Opcode, message: &[u8]) {
        let form = match self.stage(key) {
            Some(Stage::Greeting(form) | Stage::Open(form, _)) => form,
            _ => return,
        };
        if opcode != form.message_opcode() {
            return self.close_now(key, CloseCode::WrongMessageKind, "the subprotocol in force has the other kind of message");
        }
        match form {
            WireForm::Binary => self.read_binary(key, message),
            WireForm::Text => self.read_text(key, message),
            WireForm::Mqtt => self.read_stream(key, message),
        }
    }

    fn read_binary(&mut self, key: Key, mut message: &[u8]) {
        loop {
            match native::next_frame(&mut message) {
                Ok(Some(frame)) => {
                    self.handle_request(key, native::decode_request(frame));
                    self.close_given_up();
                }
                Ok(None) => return,
                Err(varint::Malformed) => return self.close_now(key, CloseCode::MalformedMessage, "a frame overruns its message"),
            }
        }
    }

    fn read_text(&mut self, key: Key, message: &[u8]) {
        let Ok(message) = std::str::from_utf8(message) else {
            return self.close_now(key, CloseCode::InvalidUtf8, "a text message is not UTF-8");
        };
        match text::split_batch(message) {
            Ok(objects) => objects.into_iter().for_each(|(offset, object)| self.read_object(key, offset, object)),
            Err(error) => self.refuse_text(key, 0, error),
        }
    }

    fn read_object(&mut self, key: Key, offset: usize, object: &str) {
        match text::decode_request(object) {
            Ok(request) => self.handle_request(key, request),
            Err(error) => self.refuse_text(key, offset, error),
        }
        self.close_given_up();
    }

    fn refuse_text(&mut self, key: Key, offset: usize, error: TextError) {
        match error {
            TextError::Malformed { position, message } => {
                self.refuse(key, 0, &Refusal::at(ErrorCode::MalformedJson, offset + position, message));
            }
            TextError::Field { id, message } => self.refuse(key, id, &Refusal::new(ErrorCode::InvalidField, message)),
        }
    }

    fn handle_request(&mut self, key: Key, request: Request<'_>) {
        let (form, session) = match self.stage(key) {
            Some(Stage::Greeting(form)) => (form, None),
            Some(Stage::Open(form, session)) => (form, Some(session)),
            _ => return,
        };
        let Request { id, ask } = request;
        match ask {
            Ask::Ping => self.push_event(key, form, &Event::Pong),
            Ask::Pong => {}
            Ask::Close => self.close_after_queue(key, CloseCode::Normal),
            Ask::Broken => {
                self.refuse(key, id, &Refusal::new(ErrorCode::MalformedFrame, "the frame's body does not have its operation's form"))
            }
            Ask::Unknown { name } => {
                self.refuse(
                    key,
                    id,
                    &Refusal::new(ErrorCode::UnknownOperation, format!("this server does not know the operation '{name}'")),
                );
            }
            Ask::Connect { version, capabilities, .. } => match session {
                None => self.connect(key, form, id, version, capabilities),
                Some(_) => self.refuse(key, id, &Refusal::new(ErrorCode::AlreadyConnected, "this connection is connected already")),
            },
            ask => match session {
                None => self.refuse(key, id, &Refusal::new(ErrorCode::NotConnected, "CONNECT must come first")),
                Some(session) => self.handle_operation(key, session, form, Request { id, ask }),
            },
        }
    }

    fn connect(&mut self, key: Key, form: WireForm, id: u64, version: u64, capabilities: u64) {
        if version < native::VERSION {
            self.refuse(key, id, &Refusal::new(ErrorCode::UnsupportedVersion, format!("this server speaks version {}", native::VERSION)));
            return self.close_now(key, CloseCode::UnsupportedVersion, "no common protocol version");
        }
        let forms = Encodings::from_capabilities(capabilities);
        let session_form = match form {
            WireForm::Binary => Form::Binary(forms),
            WireForm::Text => Form::Text,
            // Its clients have a CONNECT of their own.
            WireForm::Mqtt => return,
        };
        let session = self.audience.enter(Session::new(key, session_form, self.desk.now));
        let limits = &self.desk.limits;
        let welcome = Welcome {
            server: self.desk.identity.server.clone(),
            capabilities: forms.capabilities(),
            session: self.audience.session_id(&self.desk, session),
            keep_alive_ms: limits.keep_alive_ms,
            message_bytes_max: limits.message_bytes_max as u64,
            path_bytes_max: limits.path_bytes_max as u64,
            value_bytes_max: limits.value_bytes_max as u64,
            selections_max: limits.selections_max as u64,
            fetch_page_max: limits.fetch_page_max as u64,
        };
        let deadline = self.desk.now.after_ms(limits.keep_alive_ms);
        let mut bytes = Vec::new();
        event::put(&mut bytes, session_form.native().expect("MQTT left above"), &Event::Welcome { id, welcome: &welcome });
        let connection = self.connections.get_mut(key).expect("the connection asked just now");
        connection.stage = Stage::Open(form, session);
        connection.deadline = deadline;
        self.wheel.insert(deadline, key);
        self.audience.push(&mut self.desk, session, Entry::Control(bytes.into_boxed_slice()));
    }

    // Answers.

    pub(super) fn refuse(&mut self, key: Key, id: u64, refusal: &Refusal) {
        let form = match self.stage(key) {
            Some(Stage::Greeting(form) | Stage::Open(form, _)) => form,
            _ => return,
        };
        let Refusal { code, position, message } = refusal;
        self.push_event(key, form, &Event::Error { id, code: code.code(), name: code.name(), position: *position, message });
    }

    /// Says it through the session's queue, or straight where there is none yet; nothing to a client of MQTT.
    fn push_event(&mut self, key: Key, form: WireForm, event: &Event<'_>) {
        let Some(native) = form.native() else { return };
        let mut bytes = Vec::new();
        event::put(&mut bytes, native, event);
        if let Some(Stage::Open(_, session)) = self.stage(key) {
            return self.audience.push(&mut self.desk, session, Entry::Control(bytes.into_boxed_slice()));
        }
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.raw.len() > self.desk.limits.http_head_bytes_max {
            return self.close_now(key, CloseCode::SendQueueOverflow, "too many requests before CONNECT");
        }
        websocket::put_frame(&mut connection.raw, form.message_opcode(), &bytes);
        self.desk.effects.wake(key);
    }

    // Ends.

    fn close_broken(&mut self, key: Key, error: WebSocketError) {
        match error {
            WebSocketError::Protocol(reason) => self.close_now(key, CloseCode::WebSocketError, reason),
            WebSocketError::TooLarge => self.close_now(key, CloseCode::MessageTooLarge, "a message is longer than message_bytes_max"),
        }
    }

    /// Closes, and forgets what is queued.
    pub(super) fn close_now(&mut self, key: Key, code: CloseCode, reason: &str) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.link.is_some() && connection.stage != Stage::Ending {
            return self.close_mqtt(key, code, reason);
        }
        if connection.stage == Stage::Ending {
            // A session that still stands for its queue keeps the queue's bound too; another has ended already.
            if connection.closing.take().is_some() {
                websocket::put_close(&mut connection.raw, code.code(), reason);
                self.sweep_session_of(key);
                self.desk.effects.wake(key);
            }
            return;
        }
        if matches!(connection.stage, Stage::Greeting(_) | Stage::Open(..)) {
            websocket::put_close(&mut connection.raw, code.code(), reason);
        }
        self.end(key);
    }

    /// Closes the connections that their sessions cannot go on with.
    pub(super) fn close_given_up(&mut self) {
        while let Some(GivenUp { connection, why }) = self.desk.given_up.pop_front() {
            match why {
                Why::Overflow => self.close_now(connection, CloseCode::SendQueueOverflow, "the session does not read fast enough"),
                Why::Refused(refusal) => self.close_refused(connection, &refusal),
            }
        }
    }

    /// Closes once everything queued is sent.
    pub(super) fn close_after_queue(&mut self, key: Key, code: CloseCode) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        match connection.stage {
            Stage::Open(_, session) => {
                connection.closing = Some(code);
                self.ending_sessions.insert(key, session);
                self.start_ending(key);
            }
            Stage::Ending => {}
            Stage::Greeting(_) => self.close_now(key, code, code.name()),
            Stage::Head | Stage::Page => self.end(key),
        }
    }

    /// Reads nothing more and drops the session; sends what `raw` holds, then ends the transport.
    pub(super) fn end(&mut self, key: Key) {
        if let Some(Stage::Open(_, session)) = self.stage(key) {
            self.audience.leave_session(&mut self.desk, session);
        }
        self.start_ending(key);
    }

    fn start_ending(&mut self, key: Key) {
        let deadline = self.desk.now.after_ms(CLOSE_TIMEOUT_MS);
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.stage = Stage::Ending;
        connection.deadline = deadline;
        connection.message = Vec::new();
        self.wheel.insert(deadline, key);
        self.desk.effects.wake(key);
    }

    /// The wheel says that a deadline of this connection may have come.
    pub(super) fn check_deadline(&mut self, key: Key) {
        let (now, keep_alive_ms) = (self.desk.now, self.desk.limits.keep_alive_ms);
        let Some(connection) = self.connections.get_mut(key) else { return };
        if now < connection.deadline {
            return self.wheel.insert(connection.deadline, key);
        }
        match connection.stage {
            // A stopping server gives every queue the same time, which its runtime measures.
            Stage::Ending if self.is_shutting_down => connection.deadline = now.after_ms(CLOSE_TIMEOUT_MS),
            Stage::Ending => self.desk.effects.push(Effect::Close(key)),
            Stage::Page => connection.deadline = now.after_ms(CLOSE_TIMEOUT_MS),
            Stage::Head => return self.respond_text(key, 408, "the request's head did not come in time"),
            Stage::Greeting(_) => return self.close_now(key, CloseCode::ConnectTimeout, "CONNECT did not come in time"),
            Stage::Open(WireForm::Mqtt, _) => {
                // MQTT-3.1.2-22: one and a half times the keep alive without a packet.
                let silence_ms = connection.link.as_ref().and_then(|link| link.silence_ms);
                let dead = silence_ms.map_or(Time(u64::MAX), |silence_ms| connection.last_received.after_ms(silence_ms));
                if now >= dead {
                    return self.close_now(
                        key,
                        CloseCode::KeepAliveTimeout,
                        "nothing was received for one and a half times the keep alive",
                    );
                }
                connection.deadline = dead;
                if dead == Time(u64::MAX) {
                    return;
                }
            }
            Stage::Open(form, _) => {
                let dead = connection.last_received.after_ms(2 * keep_alive_ms);
                if now >= dead {
                    return self.close_now(key, CloseCode::KeepAliveTimeout, "nothing was received for twice keep_alive_ms");
                }
                // Who only listens has to be asked too, or its silence could not be told from a dead peer's.
                let quiet_since = connection.last_sent.min(connection.last_received);
                let is_silent = now >= quiet_since.after_ms(keep_alive_ms);
                let next = if is_silent { now } else { quiet_since }.after_ms(keep_alive_ms);
                connection.deadline = next.min(dead);
                if is_silent {
                    self.push_event(key, form, &Event::Ping);
                }
            }
        }
        if let Some(connection) = self.connections.get(key) {
            self.wheel.insert(connection.deadline, key);
        }
    }
}
