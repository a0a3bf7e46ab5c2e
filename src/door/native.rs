//! The dialogue of the native protocol: CONNECT, then requests.
//!
//! A session that outlives its connections lives on one shard, which its token names: a connection that comes to another goes there, with CONNECT and all
//! that was read behind it.

use super::audit::BY_NATIVE;
use super::read::Said;
use super::{Connection, Doors, Fragments, Identified, STALE, Stage, Unidentified};
use crate::audience::Audience;
use crate::base::{ConnectionKey, SessionKey, ShardIndex};
use crate::desk::{AuditOutcome, Claim, Desk, Effect, HandedNative, Handover, Shown};
use crate::mail::{Call, Caller};
use crate::protocol::native::{Connect, Dialogue, Turn};
use crate::protocol::{CloseCode, ErrorCode, Refusal};
use crate::session::{self, Checked, ENVIRONMENT_BYTES_MAX, Entry, Life, Session, UserProperties, Who};
use crate::topic::publication::Encodings;
use crate::wire::event::{self, Event, Form};
use crate::wire::native::{Ask, Credentials, Outcome, Request, Resumption, Welcome};
use crate::wire::text::TextError;
use crate::wire::websocket::{self, Opcode};
use std::net::Ipv6Addr;
use zeroize::Zeroizing;

/// A connection of the native protocol, on WebSocket.
pub struct Native {
    pub dialogue: Dialogue<SessionKey>,
    pub form: Form,
    pub fragments: Fragments,
    /// A request waits, and with it all that comes behind it.
    held: Option<Box<Held>>,
}

struct Held {
    what: Waiting,
    /// What came in one message with it, behind it.
    rest: Vec<u8>,
}

enum Waiting {
    /// CONNECT, for the shard of its session, to which the connection goes.
    ForShard(ShardIndex, Connect<'static>),
    /// CONNECT, until it is known who the client is.
    ToBeKnown(Connect<'static>),
    /// The request of this number, until it is known who the session's client is from now on.
    ToBeKnownAnew(u64),
}

impl Native {
    pub fn new(form: Form) -> Self {
        Self { dialogue: Dialogue::Greeting, form, fragments: None, held: None }
    }

    /// Whether what it brings waits, for the shard that the connection goes to or until it is known who its client is.
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Whether it goes to another shard.
    pub fn is_moving(&self) -> bool {
        self.held.as_ref().is_some_and(|held| matches!(held.what, Waiting::ForShard(..)))
    }

    /// Keeps what was not read of the message of the request that waits.
    pub fn keep_rest(&mut self, rest: Vec<u8>) {
        let held = self.held.as_mut().expect("only a connection of which a request waits has such a rest");
        // More may have come behind it, which is held where all is that was not read.
        if !rest.is_empty() {
            held.rest = rest;
        }
    }

    pub fn take_rest(&mut self) -> Vec<u8> {
        self.held.take().map(|held| held.rest).unwrap_or_default()
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
        let is_connect = matches!(request.ask, Ask::Connect { .. });
        match native.dialogue.handle(request) {
            Turn::Serve(session, request) => {
                audience.note_request(desk, session);
                return Some(Said::Request { session, form, request });
            }
            Turn::Authenticate { session, id, credentials } => self.hear_authenticate(desk, audience, (key, session), id, &credentials),
            Turn::Quiet => {}
            Turn::Pong => {
                if let Some(session) = native.dialogue.session() {
                    audience.tell_requests(desk, session, 0);
                }
                self.say(desk, audience, key, &Event::Pong);
            }
            Turn::Connect(connect) => self.hear_native_connect(desk, audience, key, connect),
            Turn::Processed { session, id, messages } => {
                let sends = &mut self.sends;
                audience.take_processed(desk, session, id, messages, |send| sends.give_up(send));
            }
            Turn::Refuse { id, refusal } => {
                if let Some(session) = native.dialogue.session().filter(|_| !is_connect) {
                    audience.note_request(desk, session);
                }
                self.refuse(desk, audience, key, id, &refusal);
            }
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
        self.say_straight(desk, key, &bytes);
    }

    /// Says it before all that the session is sent.
    fn say_straight(&mut self, desk: &mut Desk, key: ConnectionKey, bytes: &[u8]) {
        let form = self.native(key).expect("it was just there").form;
        let connection = self.connections.get_mut(key).expect("it was just there");
        websocket::put_frame(&mut connection.raw, opcode_of(form), bytes);
        desk.effects.wake(key);
    }

    // CONNECT.

    fn hear_native_connect(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey, connect: Connect<'_>) {
        if connect.token.is_empty() {
            if desk.limits.authenticates {
                return self.ask_who(desk, key, connect);
            }
            return self.begin_session(desk, audience, key, &connect, None);
        }
        match audience.home_of(desk, &connect.token) {
            Ok(home) if home != desk.identity.index => {
                self.hold(key, Waiting::ForShard(home, connect.into_owned()));
            }
            Ok(_) => self.resume_session(desk, audience, key, &connect),
            Err(refusal) => {
                self.note_not_resumed(desk, key, &refusal);
                self.refuse(desk, audience, key, connect.id, &refusal);
            }
        }
    }

    fn hold(&mut self, key: ConnectionKey, what: Waiting) {
        self.native(key).expect("a request has just come by it").held = Some(Box::new(Held { what, rest: Vec::new() }));
    }

    /// Gives a connection up that goes on with a session of another shard.
    pub(super) fn hand_native_over(&mut self, desk: &mut Desk, key: ConnectionKey) {
        desk.effects.close(key);
        let Connection { stage, unread, raw, arrival, .. } = self.connections.remove(key).expect("a connection that is read is there");
        let Stage::Native(Native { form, held: Some(held), .. }) = stage else { unreachable!("CONNECT named a shard") };
        let Held { what: Waiting::ForShard(home, connect), rest } = *held else { unreachable!("CONNECT named a shard") };
        let native = Box::new(HandedNative { form, connect, rest });
        desk.effects.push(Effect::HandOver(key, home, Box::new(Handover::Native { native, unread, raw, arrival })));
    }

    /// Takes up what another shard gave up.
    pub(super) fn take_native(&mut self, desk: &mut Desk, native: HandedNative) -> Option<ConnectionKey> {
        let HandedNative { form, connect, rest } = native;
        let held = Held { what: Waiting::ToBeKnown(connect), rest };
        self.admit(desk, Stage::Native(Native { held: Some(Box::new(held)), ..Native::new(form) }))
    }

    /// Hears CONNECT of a connection that has just come from another shard.
    pub fn arrived(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey) {
        let held = self.native(key).and_then(|native| native.held.as_deref());
        let Some(Held { what: Waiting::ToBeKnown(connect), .. }) = held else { return };
        let connect = connect.clone();
        self.resume_session(desk, audience, key, &connect);
    }

    fn resume_session(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey, connect: &Connect<'_>) {
        let native = self.native(key).expect("CONNECT has just come by it");
        let form = session_form(native.form, connect.capabilities);
        if let Err(refusal) = check_environment(connect) {
            return self.refuse(desk, audience, key, connect.id, &refusal);
        }
        if let Some(wait_ms) = Self::turned_away(desk) {
            return self.say_later(desk, audience, key, connect.id, wait_ms, STALE);
        }
        let sends = &mut self.sends;
        let found = audience.find_resumed(desk, connect, form, |send| sends.give_up(send));
        let session = match found {
            Ok(session) => session,
            Err(refusal) => {
                self.note_not_resumed(desk, key, &refusal);
                return self.refuse(desk, audience, key, connect.id, &refusal);
            }
        };
        let held = audience.session(session).and_then(|held| held.life.connection());
        if let Some(old) = held.filter(|old| self.session(*old) == Some(session)) {
            self.close_taken_over(desk, old);
        }
        audience.resume(desk, session, key);
        self.admission.note_resumed(desk.turn.now, desk.limits.admission_per_s);
        self.change_origin(desk, audience, (key, session), &connect.about.environment);
        Self::note_connected(desk, audience, session, (BY_NATIVE, true));
        self.welcome(desk, audience, key, session, connect);
    }

    /// Another connection goes on with its session, which it leaves at once.
    fn close_taken_over(&mut self, desk: &mut Desk, key: ConnectionKey) {
        let connection = self.connections.get_mut(key).expect("its session has it");
        let code = CloseCode::SessionTakenOver;
        websocket::put_close(&mut connection.raw, code.code(), "another connection goes on with the session");
        self.start_ending(desk, key, None);
    }

    /// The client's CONNECT waits until an authenticator has said who it is.
    fn ask_who(&mut self, desk: &mut Desk, key: ConnectionKey, connect: Connect<'_>) {
        // What is no property is refused with the session, if there will be one.
        let properties = connect.properties.iter().map(|(key, value)| (&**key, &**value));
        let properties = UserProperties::check(properties).unwrap_or_default();
        let (address, certificate) = self.shown_before(key);
        let claim = claim_of(&connect.about.credentials, address, certificate, properties);
        desk.effects.push(Effect::Identify(key, Box::new(claim)));
        self.hold(key, Waiting::ToBeKnown(connect.into_owned()));
        self.wait_for_verdict(desk, key);
    }

    /// AUTHENTICATE, and all that comes behind it, waits for the same. It is counted among its session's requests when that has come: where the connection is lost
    /// meanwhile the client asks again.
    fn hear_authenticate(
        &mut self,
        desk: &mut Desk,
        audience: &mut Audience,
        (key, session): (ConnectionKey, SessionKey),
        id: u64,
        credentials: &Credentials<'_>,
    ) {
        if !desk.limits.authenticates || desk.turn.is_stopping {
            audience.note_request(desk, session);
            let stopping = || Refusal::new(ErrorCode::ShuttingDown, "the server is stopping");
            let nothing_new = Outcome::Authenticated { token: String::new() };
            let result = if desk.turn.is_stopping { Err(stopping()) } else { Ok(nothing_new) };
            return audience.answer(desk, Caller { session, call: Call::Request(id) }, result);
        }
        let asker = Caller { session, call: Call::Request(id) };
        if let Err(refusal) = audience.check_identifiable(desk, asker) {
            audience.note_request(desk, session);
            return audience.answer(desk, asker, Err(refusal));
        }
        let Some((address, certificate)) = audience.session(session).map(Session::shown) else { return };
        let claim = claim_of(credentials, address, certificate, Checked::default());
        desk.effects.push(Effect::Identify(key, Box::new(claim)));
        audience.note_asked_about(session, true);
        self.hold(key, Waiting::ToBeKnownAnew(id));
    }

    /// It is known who the client is of which a request waits for that.
    pub(super) fn native_identified(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey, identified: Identified) {
        let Some(native) = self.native(key) else { return };
        let session = native.dialogue.session();
        match native.held.as_deref_mut().map(|held| &mut held.what) {
            Some(Waiting::ToBeKnown(connect)) if session.is_none() => {
                // Nobody needs it again.
                connect.about.credentials = Credentials::default();
                let connect = connect.clone();
                self.connect_identified(desk, audience, key, &connect, identified);
            }
            Some(Waiting::ToBeKnownAnew(id)) => {
                let id = *id;
                let session = session.expect("it has shown before who it is");
                audience.note_request(desk, session);
                audience.note_asked_about(session, false);
                Self::identified_anew(desk, audience, Caller { session, call: Call::Request(id) }, identified);
            }
            _ => {}
        }
    }

    fn connect_identified(
        &mut self,
        desk: &mut Desk,
        audience: &mut Audience,
        key: ConnectionKey,
        connect: &Connect<'_>,
        identified: Identified,
    ) {
        match identified {
            Identified::As(who, properties) => self.begin_session(desk, audience, key, connect, Some((who, properties))),
            Identified::Refused(said) => {
                self.note_not_connected(desk, key, BY_NATIVE, (AuditOutcome::Refused, &said));
                self.refuse(desk, audience, key, connect.id, &Refusal::new(ErrorCode::AuthenticationFailed, NOT_RIGHT));
                self.close_now(desk, audience, key, CloseCode::AuthenticationFailed, "the authentication failed");
            }
            Identified::Later { wait_ms, said } => {
                self.note_not_connected(desk, key, BY_NATIVE, (AuditOutcome::Later, &said));
                self.say_later(desk, audience, key, connect.id, wait_ms, "it cannot be said now who you are");
            }
        }
    }

    /// Where the client has not shown that it is who it says, it goes on as who it was.
    fn identified_anew(desk: &mut Desk, audience: &mut Audience, asker: Caller, identified: Identified) {
        let (outcome, said) = match identified {
            Identified::As(who, properties) => match audience.identify_and_answer(desk, asker, who, &properties) {
                Ok(()) => return Self::note_authenticated(desk, audience, asker.session, AuditOutcome::Allowed, None),
                Err(refusal) => {
                    let said = Unidentified { principal: "".into(), why: refusal.message.as_str().into() };
                    Self::note_authenticated(desk, audience, asker.session, AuditOutcome::Refused, Some(&said));
                    return audience.answer(desk, asker, Err(refusal));
                }
            },
            Identified::Refused(said) => (AuditOutcome::Refused, said),
            Identified::Later { said, .. } => (AuditOutcome::Later, said),
        };
        Self::note_authenticated(desk, audience, asker.session, outcome, Some(&said));
        let refusal = match outcome {
            AuditOutcome::Later => Refusal::new(ErrorCode::Overloaded, "it cannot be said now who you are: ask again in a while"),
            _ => Refusal::new(ErrorCode::AuthenticationFailed, NOT_RIGHT),
        };
        audience.answer(desk, asker, Err(refusal));
        audience.end_expired(desk, asker.session);
    }

    fn say_later(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey, id: u64, wait_ms: u64, why: &str) {
        let mut bytes = Vec::new();
        event::put(&mut bytes, self.native(key).expect("CONNECT has just come by it").form, &Event::Later { id, wait_ms });
        self.say_straight(desk, key, &bytes);
        self.close_now(desk, audience, key, CloseCode::ComeLater, &format!("{why}: come again in {wait_ms} ms"));
    }

    /// `said` is what an authenticator has said: who the client is, and the properties that its session has. Where nobody is asked, it is anonymous and has those
    /// that it proposes.
    fn begin_session(
        &mut self,
        desk: &mut Desk,
        audience: &mut Audience,
        key: ConnectionKey,
        connect: &Connect<'_>,
        said: Option<(Option<Box<Who>>, Checked)>,
    ) {
        if let Err((wait_ms, why)) = self.admit_session(desk) {
            return self.say_later(desk, audience, key, connect.id, wait_ms, why);
        }
        let native = self.native(key).expect("CONNECT has just come by it");
        let form = session_form(native.form, connect.capabilities);
        let properties = connect.properties.iter().map(|(key, value)| (&**key, &**value));
        let properties = match UserProperties::check(properties).and_then(|properties| check_environment(connect).map(|()| properties)) {
            Ok(properties) => properties,
            Err(refusal) => return self.refuse(desk, audience, key, connect.id, &refusal),
        };
        let session = audience.enter(Session::new(desk.take_session_id(), Life::Connected(key), form, desk.turn.now));
        self.give_origin(audience, key, session, &connect.about.environment);
        let (who, properties) = said.unwrap_or((None, properties));
        audience.give_who(desk, session, who);
        audience.let_resume(desk, session, connect.resume_ms);
        if !properties.is_empty() {
            audience.give_properties(session, &properties);
        }
        if connect.is_durable {
            audience.make_durable(desk, session);
        }
        audience.session_opened(desk, session);
        Self::note_connected(desk, audience, session, (BY_NATIVE, false));
        audience.remap(desk, session);
        self.welcome(desk, audience, key, session, connect);
    }

    /// The connection has its session: WELCOME comes before all that the session is sent.
    fn welcome(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey, session: SessionKey, connect: &Connect<'_>) {
        let native = self.native(key).expect("CONNECT has just come by it");
        native.dialogue = Dialogue::Open(session);
        let form = native.form;
        let forms = Encodings::from_capabilities(connect.capabilities);
        let limits = &desk.limits;
        let resumption = audience.token(desk, session).map(|(token, resume)| Resumption {
            token,
            stay_ms: resume.stay_ms,
            recovery_bytes_max: limits.resume.recovery_bytes_max as u64,
            requests: (!connect.token.is_empty()).then(|| resume.received()),
            is_durable: resume.durable.is_some(),
            is_restored: resume.is_restored(),
        });
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
            resumption,
        };
        let deadline = desk.turn.now.after_ms(limits.keep_alive_ms);
        let connection = self.connections.get_mut(key).expect("it was just there");
        connection.deadline = deadline;
        self.wheel.insert(deadline, key);
        let mut bytes = Vec::new();
        event::put(&mut bytes, form, &Event::Welcome { id: connect.id, welcome: &welcome });
        self.say_straight(desk, key, &bytes);
        audience.tell_staleness_at_first(desk, session, !connect.token.is_empty());
    }
}

/// What a client is told that has not shown who it is, and no more.
const NOT_RIGHT: &str = "there is no such principal, or what was shown for it is not right";

fn claim_of(credentials: &Credentials<'_>, address: Ipv6Addr, certificate: Option<Box<str>>, properties: Checked) -> Claim {
    let Credentials { principal, password, bearer } = credentials;
    let bytes = |text: &str| Zeroizing::new(text.as_bytes().into());
    let shown = match (password.is_empty(), bearer.is_empty()) {
        (_, false) => Shown::Bearer(bytes(bearer)),
        (false, true) => Shown::Password(bytes(password)),
        (true, true) => Shown::Nothing,
    };
    Claim { principal: (&**principal).into(), shown, address, certificate, properties }
}

fn check_environment(connect: &Connect<'_>) -> Result<(), Refusal> {
    if connect.about.environment.len() <= ENVIRONMENT_BYTES_MAX {
        return Ok(());
    }
    let message = format!("a client's environment has at most {ENVIRONMENT_BYTES_MAX} bytes");
    Err(Refusal::new(ErrorCode::InvalidSessionProperty, message))
}

/// How a session of such a connection is sent what it is sent.
fn session_form(form: Form, capabilities: u64) -> session::Form {
    match form {
        Form::Binary => session::Form::Binary(Encodings::from_capabilities(capabilities)),
        Form::Text => session::Form::Text,
    }
}
