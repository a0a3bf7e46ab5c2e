//! The dialogue of the native protocol: CONNECT, then requests.

use super::read::Said;
use super::{Doors, Fragments, Stage};
use crate::audience::Audience;
use crate::base::{ConnectionKey, SessionKey};
use crate::desk::Desk;
use crate::protocol::{CloseCode, ErrorCode, Refusal};
use crate::session::{self, Entry, Life, Session};
use crate::topic::publication::Encodings;
use crate::wire::event::{self, Event, Form};
use crate::wire::native::{self, Ask, Request, Welcome};
use crate::wire::text::TextError;
use crate::wire::websocket::{self, Opcode};

/// A connection of the native protocol, on WebSocket.
pub struct Native {
    pub form: Form,
    /// `None` until CONNECT has come.
    pub session: Option<SessionKey>,
    pub fragments: Fragments,
}

impl Native {
    pub fn new(form: Form) -> Self {
        Self { form, session: None, fragments: None }
    }
}

/// The only kind of message that the form has.
pub fn opcode_of(form: Form) -> Opcode {
    match form {
        Form::Binary => websocket::BINARY,
        Form::Text => websocket::TEXT,
    }
}

impl Doors {
    fn native(&mut self, key: ConnectionKey) -> Option<&mut Native> {
        match &mut self.connections.get_mut(key)?.stage {
            Stage::Native(native) => Some(native),
            _ => None,
        }
    }

    /// Takes a request; gives it where it is one of a session.
    pub(super) fn hear_request<'r>(
        &mut self,
        desk: &mut Desk,
        audience: &mut Audience,
        key: ConnectionKey,
        request: Request<'r>,
    ) -> Option<Said<'r>> {
        let Native { form, session, .. } = *self.native(key)?;
        let Request { id, ask } = request;
        let refusal = match (ask, session) {
            (Ask::Ping, _) => {
                self.say(desk, audience, key, &Event::Pong);
                return None;
            }
            (Ask::Pong, _) => return None,
            (Ask::Close, _) => {
                self.close_after_queue(desk, audience, key, CloseCode::Normal);
                return None;
            }
            (Ask::Broken, _) => Refusal::new(ErrorCode::MalformedFrame, "the frame's body does not have its operation's form"),
            (Ask::Unknown { name }, _) => {
                Refusal::new(ErrorCode::UnknownOperation, format!("this server does not know the operation '{name}'"))
            }
            (Ask::Connect { version, capabilities, .. }, None) => {
                self.connect(desk, audience, key, id, version, capabilities);
                return None;
            }
            (Ask::Connect { .. }, Some(_)) => Refusal::new(ErrorCode::AlreadyConnected, "this connection is connected already"),
            (_, None) => Refusal::new(ErrorCode::NotConnected, "CONNECT must come first"),
            (ask, Some(session)) => return Some(Said::Request { session, form, request: Request { id, ask } }),
        };
        self.refuse(desk, audience, key, id, refusal);
        None
    }

    /// A message of the text form is no request, `offset` bytes behind its start.
    pub(super) fn refuse_text(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey, offset: usize, error: TextError) {
        let (id, refusal) = match error {
            TextError::Malformed { position, message } => (0, Refusal::at(ErrorCode::MalformedJson, offset + position, message)),
            TextError::Field { id, message } => (id, Refusal::new(ErrorCode::InvalidField, message)),
        };
        self.refuse(desk, audience, key, id, refusal);
    }

    fn refuse(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey, id: u64, refusal: Refusal) {
        let Refusal { code, position, message } = &refusal;
        let event = Event::Error { id, code: code.code(), name: code.name(), position: *position, message };
        self.say(desk, audience, key, &event);
    }

    /// Says it through the session's queue, or straight where there is none yet.
    pub(super) fn say(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey, event: &Event<'_>) {
        let Some(Native { form, session, .. }) = self.native(key) else { return };
        let (form, session) = (*form, *session);
        let mut bytes = Vec::new();
        event::put(&mut bytes, form, event);
        if let Some(session) = session {
            return audience.push(desk, session, Entry::Control(bytes.into_boxed_slice()));
        }
        let connection = self.connections.get_mut(key).expect("it was just there");
        if connection.raw.len() > desk.limits.http_head_bytes_max {
            return self.close_now(desk, audience, key, CloseCode::SendQueueOverflow, "too many requests before CONNECT");
        }
        websocket::put_frame(&mut connection.raw, opcode_of(form), &bytes);
        desk.effects.wake(key);
    }

    fn connect(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey, id: u64, version: u64, capabilities: u64) {
        if version < native::VERSION {
            let message = format!("this server speaks version {}", native::VERSION);
            self.refuse(desk, audience, key, id, Refusal::new(ErrorCode::UnsupportedVersion, message));
            return self.close_now(desk, audience, key, CloseCode::UnsupportedVersion, "no common protocol version");
        }
        let Some(native) = self.native(key) else { return };
        let forms = Encodings::from_capabilities(capabilities);
        let form = match native.form {
            Form::Binary => session::Form::Binary(forms),
            Form::Text => session::Form::Text,
        };
        let session = audience.enter(Session::new(desk.take_session_id(), Life::Connected(key), form, desk.now));
        native.session = Some(session);
        let limits = &desk.limits;
        let welcome = Welcome {
            server: desk.identity.server.clone(),
            capabilities: forms.capabilities(),
            session: audience.session_id(desk, session),
            keep_alive_ms: limits.keep_alive_ms,
            message_bytes_max: limits.message_bytes_max as u64,
            path_bytes_max: limits.path_bytes_max as u64,
            value_bytes_max: limits.value_bytes_max as u64,
            selections_max: limits.selections_max as u64,
            fetch_page_max: limits.fetch_page_max as u64,
        };
        let deadline = desk.now.after_ms(limits.keep_alive_ms);
        let connection = self.connections.get_mut(key).expect("it was just there");
        connection.deadline = deadline;
        self.wheel.insert(deadline, key);
        self.say(desk, audience, key, &Event::Welcome { id, welcome: &welcome });
    }
}
