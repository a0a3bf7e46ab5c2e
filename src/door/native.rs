//! The dialogue of the native protocol: CONNECT, then requests.

use super::read::Said;
use super::{Doors, Fragments, Stage};
use crate::audience::Audience;
use crate::base::{ConnectionKey, SessionKey};
use crate::desk::Desk;
use crate::protocol::native::{Dialogue, Turn};
use crate::protocol::{CloseCode, ErrorCode, Refusal};
use crate::session::{self, Entry, Life, Session};
use crate::topic::publication::Encodings;
use crate::wire::event::{self, Event, Form};
use crate::wire::native::{Request, Welcome};
use crate::wire::text::TextError;
use crate::wire::websocket::{self, Opcode};

/// A connection of the native protocol, on WebSocket.
pub struct Native {
    pub dialogue: Dialogue<SessionKey>,
    pub form: Form,
    pub fragments: Fragments,
}

impl Native {
    pub fn new(form: Form) -> Self {
        Self { dialogue: Dialogue::Greeting, form, fragments: None }
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
        let native = self.native(key).expect("a request comes by a connection of the native protocol");
        let form = native.form;
        match native.dialogue.handle(request) {
            Turn::Serve(session, request) => return Some(Said::Request { session, form, request }),
            Turn::Quiet => {}
            Turn::Pong => self.say(desk, audience, key, &Event::Pong),
            Turn::Welcome { id, capabilities } => self.welcome(desk, audience, key, id, capabilities),
            Turn::Refuse { id, refusal } => self.refuse(desk, audience, key, id, &refusal),
            Turn::RefuseVersion { id, refusal } => {
                self.refuse(desk, audience, key, id, &refusal);
                self.close_now(desk, audience, key, CloseCode::UnsupportedVersion, "no common protocol version");
            }
            Turn::Close => self.close_after_queue(desk, audience, key, CloseCode::Normal),
        }
        None
    }

    /// A message of the text form is no request, `offset` bytes behind its start.
    pub(super) fn refuse_text(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey, offset: usize, error: TextError) {
        let (id, refusal) = match error {
            TextError::Malformed { position, message } => (0, Refusal::at(ErrorCode::MalformedJson, offset + position, message)),
            TextError::Field { id, message } => (id, Refusal::new(ErrorCode::InvalidField, message)),
        };
        self.refuse(desk, audience, key, id, &refusal);
    }

    fn refuse(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey, id: u64, refusal: &Refusal) {
        let Refusal { code, position, message } = refusal;
        let event = Event::Error { id, code: code.code(), name: code.name(), position: *position, message };
        self.say(desk, audience, key, &event);
    }

    /// Says it through the session's queue, or straight where there is none yet.
    pub(super) fn say(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey, event: &Event<'_>) {
        let native = self.native(key).expect("events go by a connection of the native protocol");
        let (form, session) = (native.form, native.dialogue.session());
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

    fn welcome(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey, id: u64, capabilities: u64) {
        let native = self.native(key).expect("CONNECT has just come by it");
        let forms = Encodings::from_capabilities(capabilities);
        let form = match native.form {
            Form::Binary => session::Form::Binary(forms),
            Form::Text => session::Form::Text,
        };
        let session = audience.enter(Session::new(desk.take_session_id(), Life::Connected(key), form, desk.turn.now));
        native.dialogue = Dialogue::Open(session);
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
        let deadline = desk.turn.now.after_ms(limits.keep_alive_ms);
        let connection = self.connections.get_mut(key).expect("it was just there");
        connection.deadline = deadline;
        self.wheel.insert(deadline, key);
        self.say(desk, audience, key, &Event::Welcome { id, welcome: &welcome });
    }
}
