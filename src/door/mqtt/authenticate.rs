//! Who a client is: by its user name and password, or by an authentication method, once or again on a connection that stands.
//!
//! What the two methods of one step show goes to the authenticators as a password does. Each step of another goes out as an effect to whoever knows its method, and comes
//! back judged. Nothing of the connection is read in between; what comes meanwhile is held, as far as one packet may be long.

use super::{limits, put_packet};
use crate::audience::{Audience, Revoked};
use crate::base::{ConnectionKey, SessionKey};
use crate::desk::{AuditOutcome, Authentication, Claim, Desk, Effect, Shown};
use crate::door::audit::{Caller, MQTT};
use crate::door::{Doors, Identified, Stage, Unidentified};
use crate::protocol::Refusal;
use crate::session::{Checked, Session};
use crate::wire::mqtt::{self, Auth, Connect, Fault, ReasonCode, Version};
use std::net::Ipv6Addr;
use zeroize::Zeroizing;

/// What comes of a step. The bytes are for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The client has to go on.
    Continue(Vec<u8>),
    Accept(Vec<u8>),
    Refuse(ReasonCode),
    /// There is no such method.
    Unknown,
}

impl Doors {
    /// CONNECT names a method; `body` is all of it.
    pub(super) fn begin_authentication(
        &mut self,
        desk: &mut Desk,
        audience: &mut Audience,
        key: ConnectionKey,
        connect: &Connect<'_>,
        body: &[u8],
    ) {
        if !desk.limits.authenticates && connect.authentication.is_some_and(|(method, _)| is_known(method)) {
            return self.admit_client(desk, audience, key, connect, Some(&[]), None);
        }
        let shown = self.shown_before(key);
        self.hold_connect(desk, key, body);
        desk.effects.push(step_of(key, connect.authentication.unwrap_or_default(), shown));
    }

    /// CONNECT names no method: its user name and password say who the client is.
    pub(super) fn begin_identification(&mut self, desk: &mut Desk, key: ConnectionKey, connect: &Connect<'_>, body: &[u8]) {
        let (address, certificate) = self.shown_before(key);
        self.hold_connect(desk, key, body);
        let principal = connect.user_name.unwrap_or_default().into();
        let shown = connect.password.map_or(Shown::Nothing, |password| Shown::Password(Zeroizing::new(password.into())));
        let claim = Claim { principal, shown, address, certificate, properties: Checked::default() };
        desk.effects.push(Effect::Identify(key, Box::new(claim)));
    }

    /// CONNECT waits until it is known who the client is.
    fn hold_connect(&mut self, desk: &Desk, key: ConnectionKey, body: &[u8]) {
        self.wait_for_verdict(desk, key);
        let link = self.link(key).expect("CONNECT has just come by it");
        link.rare.get_or_insert_default().waiting = Some(body.into());
        link.is_judged = true;
    }

    /// It is known who the client is whose CONNECT waits.
    pub(in crate::door) fn client_identified(
        &mut self,
        desk: &mut Desk,
        audience: &mut Audience,
        key: ConnectionKey,
        identified: Identified,
    ) {
        let Some(link) = self.link(key).filter(|link| link.is_judged) else { return };
        link.is_judged = false;
        let session = link.session;
        let Some(body) = link.rare.as_mut().and_then(|rare| rare.waiting.take()).map(Zeroizing::new) else {
            let session = session.expect("a client that is not admitted waits with its CONNECT");
            audience.note_asked_about(session, false);
            return self.client_identified_anew(desk, audience, (key, session), identified);
        };
        match identified {
            Identified::As(who, properties) => match mqtt::decode_connect(&body, &limits(desk).packet) {
                Ok(connect) => {
                    let answer = connect.authentication.map(|_| &[][..]);
                    self.admit_client(desk, audience, key, &connect, answer, Some((who, properties)));
                }
                Err(fault) => self.close_faulty(desk, audience, key, fault),
            },
            Identified::Refused(said) => {
                self.note_client(desk, key, &body, (AuditOutcome::Refused, &said));
                self.close_with(desk, audience, key, ReasonCode::BAD_USER_NAME_OR_PASSWORD, "the authentication failed");
            }
            Identified::Later { wait_ms, said } => {
                self.note_client(desk, key, &body, (AuditOutcome::Later, &said));
                let why = format!("it cannot be said now who the client is: come again in {wait_ms} ms");
                self.close_with(desk, audience, key, ReasonCode::SERVER_BUSY, &why);
            }
        }
    }

    /// It is known who the client is from now on whose session stands. MQTT-4.12.1-2: where it has not shown that, its connection ends.
    fn client_identified_anew(
        &mut self,
        desk: &mut Desk,
        audience: &mut Audience,
        (key, session): (ConnectionKey, SessionKey),
        identified: Identified,
    ) {
        let (outcome, code, said, why) = match identified {
            Identified::As(who, properties) => match audience.identify_anew(desk, session, who, &properties) {
                Ok(_) => {
                    Self::note_authenticated(desk, audience, session, AuditOutcome::Allowed, None);
                    let link = self.link(key).expect("its step was just judged");
                    let method = link.dialogue.authentication_method().unwrap_or_default().to_owned();
                    let mut packet = Vec::new();
                    link.dialogue.put_auth(&mut packet, ReasonCode::SUCCESS, &method, &[]);
                    let epoch = audience.session(session).and_then(|session| session.mqtt.as_ref()).map_or(0, |mqtt| mqtt.epoch);
                    return audience.tell_when_revoked(desk, Revoked::Packet(session, epoch, packet.into()));
                }
                Err(Refusal { message, .. }) => {
                    let said = Unidentified { principal: "".into(), why: message.as_str().into() };
                    (AuditOutcome::Refused, ReasonCode::NOT_AUTHORIZED, said, message)
                }
            },
            Identified::Refused(said) => (AuditOutcome::Refused, ReasonCode::NOT_AUTHORIZED, said, "the authentication failed".to_owned()),
            Identified::Later { wait_ms, said } => {
                let why = format!("it cannot be said now who the client is: come again in {wait_ms} ms");
                (AuditOutcome::Later, ReasonCode::SERVER_BUSY, said, why)
            }
        };
        Self::note_authenticated(desk, audience, session, outcome, Some(&said));
        self.close_with(desk, audience, key, code, &why);
    }

    /// The client of this CONNECT is not let in.
    fn note_client(&self, desk: &mut Desk, key: ConnectionKey, body: &[u8], outcome: (AuditOutcome, &Unidentified)) {
        if desk.limits.audits {
            let connect = mqtt::decode_connect(body, &limits(desk).packet);
            let client_id = connect.as_ref().map_or("", |connect| connect.client_id);
            self.note_not_connected(desk, key, Caller { protocol: MQTT, client_id }, outcome);
        }
    }

    /// The client of the CONNECT that waits, if one does, could not show who it is.
    fn note_unknown(&mut self, desk: &mut Desk, key: ConnectionKey, why: &str) {
        let waiting = self.link(key).and_then(|link| link.rare.as_mut()).and_then(|rare| rare.waiting.take());
        if let Some(body) = waiting.map(Zeroizing::new) {
            let said = Unidentified { principal: "".into(), why: why.into() };
            self.note_client(desk, key, &body, (AuditOutcome::Refused, &said));
        }
    }

    /// AUTH, before CONNACK or behind it.
    pub(super) fn judge(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey, auth: &Auth<'_>) {
        let method = auth.method.unwrap_or_default();
        if !desk.limits.authenticates && is_known(method) {
            return self.put_auth(desk, audience, key, ReasonCode::SUCCESS, (method, &[]));
        }
        let link = self.link(key).expect("AUTH has just come by it");
        link.is_judged = true;
        let session = link.session.filter(|session| audience.session(*session).is_some());
        let shown = session.and_then(|session| audience.session(session)).map(Session::shown);
        let step = step_of(key, (method, auth.content), shown.unwrap_or_else(|| self.shown_before(key)));
        if let (Some(session), Effect::Identify(..)) = (session, &step) {
            // Its last one is not answered yet.
            if !audience.finish_revoking(desk, session) {
                let fault = Fault::new(ReasonCode::PROTOCOL_ERROR, "AUTH came before the last one was answered");
                return self.close_faulty(desk, audience, key, fault);
            }
            audience.note_asked_about(session, true);
        }
        desk.effects.push(step);
    }

    /// The step that was asked about is judged; nothing happens where none was.
    pub fn judged(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey, method: &str, verdict: Verdict) {
        let Some(link) = self.link(key).filter(|link| link.is_judged) else { return };
        link.is_judged = false;
        match verdict {
            Verdict::Continue(answer) => self.put_auth(desk, audience, key, ReasonCode::CONTINUE_AUTHENTICATION, (method, &answer)),
            Verdict::Accept(answer) => match link.rare.as_mut().and_then(|rare| rare.waiting.take()) {
                Some(body) => match mqtt::decode_connect(&body, &limits(desk).packet) {
                    Ok(connect) => self.admit_client(desk, audience, key, &connect, Some(&answer), None),
                    Err(fault) => self.close_faulty(desk, audience, key, fault),
                },
                None => self.put_auth(desk, audience, key, ReasonCode::SUCCESS, (method, &answer)),
            },
            Verdict::Refuse(code) => {
                self.note_unknown(desk, key, "the authentication failed");
                self.close_with(desk, audience, key, code, "the authentication failed");
            }
            Verdict::Unknown => {
                self.note_unknown(desk, key, "there is no such authentication method");
                let fault = Fault::new(ReasonCode::BAD_AUTHENTICATION_METHOD, "there is no such authentication method");
                self.close_faulty(desk, audience, key, fault);
            }
        }
    }

    fn put_auth(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey, code: ReasonCode, said: (&str, &[u8])) {
        let connection = self.connections.get_mut(key).expect("its step was just judged");
        if connection.raw.len() > desk.limits.http_head_bytes_max {
            return self.close_with(desk, audience, key, ReasonCode::QUOTA_EXCEEDED, "too many steps that are not read");
        }
        let Stage::Mqtt(link) = &mut connection.stage else { unreachable!("its step was just judged") };
        if link.dialogue.version() != Version::V5 {
            return;
        }
        let mut packet = Vec::new();
        link.dialogue.put_auth(&mut packet, code, said.0, said.1);
        put_packet(&mut connection.raw, link.is_websocket, &packet);
        desk.effects.wake(key);
    }
}

/// The method by which a client shows a JSON Web Token, as other brokers call it.
const TOKEN_METHOD: &str = "OAUTH2-JWT";

/// The method by which it shows a name and a password: RFC 4616.
const PLAIN_METHOD: &str = "PLAIN";

/// Whether the method is one of the two, which nobody is asked about where nobody is asked who clients are.
fn is_known(method: &str) -> bool {
    [TOKEN_METHOD, PLAIN_METHOD].contains(&method)
}

/// What a step of this method asks of others. What it shows may be wrong in its form too: the authenticators are told that nothing was shown then.
fn step_of(key: ConnectionKey, (method, content): (&str, &[u8]), (address, certificate): (Ipv6Addr, Option<Box<str>>)) -> Effect {
    let secret = |bytes: &[u8]| Zeroizing::new(bytes.into());
    let (principal, shown) = match method {
        TOKEN_METHOD => ("", Shown::Bearer(secret(content))),
        PLAIN_METHOD => match parse_plain(content) {
            Some((principal, password)) => (principal, Shown::Password(secret(password))),
            None => ("", Shown::Password(secret(&[]))),
        },
        _ => return Effect::Authenticate(key, Box::new(Authentication { method: method.into(), content: content.into() })),
    };
    Effect::Identify(key, Box::new(Claim { principal: principal.into(), shown, address, certificate, properties: Checked::default() }))
}

/// A name and its password, from `[whom he stands for] NUL name NUL password`; nobody stands for another.
fn parse_plain(content: &[u8]) -> Option<(&str, &[u8])> {
    let mut parts = content.splitn(3, |byte| *byte == 0);
    let (stands_for, name, password) = (parts.next()?, parts.next()?, parts.next()?);
    let is_himself = stands_for.is_empty() || stands_for == name;
    let name = std::str::from_utf8(name).ok().filter(|name| !name.is_empty() && is_himself)?;
    Some((name, password))
}
