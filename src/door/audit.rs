//! What is noted of those who come, where somebody wants that: whoever gets a session, whoever does not, and who may not see a page.

use super::{Doors, Unidentified};
use crate::audience::Audience;
use crate::base::{ConnectionKey, SessionKey};
use crate::desk::{Audit, AuditKind, AuditOutcome, Desk, Effect};
use crate::protocol::Refusal;
use crate::topic::session_filter::roles;
use crate::wire::http::Request;

/// How somebody comes.
pub const NATIVE: &str = "native";
pub const MQTT: &str = "mqtt";

/// Whoever wants to connect.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    pub protocol: &'static str,
    /// The identifier of a client of MQTT; empty where it has none.
    pub client_id: &'a str,
}

/// Nobody but whoever says so.
pub const BY_NATIVE: Caller<'static> = Caller { protocol: NATIVE, client_id: "" };

impl Caller<'_> {
    fn describe(self, audit: Audit) -> Audit {
        let audit = audit.text("protocol", self.protocol);
        if self.client_id.is_empty() { audit } else { audit.text("client_id", self.client_id) }
    }
}

impl Doors {
    /// The session has its connection, and had one before where it goes on.
    pub(super) fn note_connected(desk: &mut Desk, audience: &Audience, session: SessionKey, (caller, resumes): (Caller<'_>, bool)) {
        let Some(audit) = audience.audit(desk, session, AuditKind::Connect, AuditOutcome::Allowed) else { return };
        let held = audience.session(session).map_or("", |session| session.roles());
        let held: Vec<_> = roles(held).collect();
        let audit = caller.describe(audit).texts("roles", held.iter().map(|role| &**role)).flag("resumed", resumes);
        desk.effects.push(Effect::Audit(Box::new(audit)));
    }

    /// Whoever comes by this connection does not get a session.
    pub(super) fn note_not_connected(
        &self,
        desk: &mut Desk,
        key: ConnectionKey,
        caller: Caller<'_>,
        (outcome, said): (AuditOutcome, &Unidentified),
    ) {
        if let Some(audit) = self.audit(desk, key, (AuditKind::Connect, outcome), said) {
            desk.effects.push(Effect::Audit(Box::new(caller.describe(audit))));
        }
    }

    /// The session's client has shown who it is, or could not.
    pub(super) fn note_authenticated(
        desk: &mut Desk,
        audience: &mut Audience,
        session: SessionKey,
        outcome: AuditOutcome,
        said: Option<&Unidentified>,
    ) {
        let Some(mut audit) = audience.audit_bounded(desk, session, AuditKind::Authenticate, outcome) else { return };
        match said {
            Some(said) => audit = audit.text("as", &said.principal).text("reason", &said.why),
            None => {
                let held = audience.session(session).map_or("", |session| session.roles());
                let held: Vec<_> = roles(held).collect();
                audit = audit.texts("roles", held.iter().map(|role| &**role));
            }
        }
        desk.effects.push(Effect::Audit(Box::new(audit)));
    }

    /// Its session does not go on with this connection.
    pub(super) fn note_not_resumed(&self, desk: &mut Desk, key: ConnectionKey, refusal: &Refusal) {
        let said = Unidentified { principal: "".into(), why: refusal.message.as_str().into() };
        if let Some(audit) = self.audit(desk, key, (AuditKind::Connect, AuditOutcome::Refused), &said) {
            desk.effects.push(Effect::Audit(Box::new(BY_NATIVE.describe(audit).flag("resumed", true))));
        }
    }

    /// Whoever asks by this connection does not get the page. What comes behind `?` in its path may be anything.
    pub(super) fn note_no_page(
        &self,
        desk: &mut Desk,
        key: ConnectionKey,
        request: Option<&Request>,
        (status, said): (u16, &Unidentified),
    ) {
        let outcome = if status == LATER { AuditOutcome::Later } else { AuditOutcome::Refused };
        let Some(mut audit) = self.audit(desk, key, (AuditKind::Http, outcome), said) else { return };
        audit = audit.number("status", status.into());
        if let Some(Request { method, path, .. }) = request {
            audit = audit.text("method", method).text("path", path.split('?').next().unwrap_or_default());
        }
        desk.effects.push(Effect::Audit(Box::new(audit)));
    }

    fn audit(&self, desk: &Desk, key: ConnectionKey, (kind, outcome): (AuditKind, AuditOutcome), said: &Unidentified) -> Option<Audit> {
        let is_wanted = desk.limits.audits;
        is_wanted.then(|| Audit::new(kind, outcome).by(&said.principal, self.shown_before(key).0).text("reason", &said.why))
    }
}

/// The status of a page that cannot be given now.
pub const LATER: u16 = 503;
