//! Who the clients of sessions are, and when what they have shown is worth nothing any more.

use super::events::Seen;
use super::rights::Revoked;
use crate::audience::Audience;
use crate::base::{SessionKey, Time};
use crate::desk::{AuditKind, AuditOutcome, Desk, Effect, Why};
use crate::mail::Caller;
use crate::protocol::{ErrorCode, Refusal};
use crate::session::{Checked, Ended, Life, Who};
use crate::topic::session_filter::roles;
use crate::wire::native::Outcome;
use std::sync::Arc;

/// The most sessions that end in one tick because what their clients showed has expired. No client is bounded by it.
const EXPIRED_PER_TICK: usize = 1000;

/// How soon a session is looked at again whose client is just showing something newer.
const ASKED_AGAIN_MS: u64 = 1000;

impl Audience {
    /// The session's client is this from now on.
    pub fn give_who(&mut self, desk: &mut Desk, key: SessionKey, who: Option<Box<Who>>) {
        let is_now: Box<str> = who.as_ref().map_or("", |who| &who.principal).into();
        let was = self.replace_who(key, who);
        self.renew_rights_of(desk, key, was.as_ref().map_or("", |was| &was.principal) != &*is_now);
    }

    /// The session's client has not shown who it is from now on: what it showed before may have come to its end meanwhile.
    pub fn end_expired(&mut self, desk: &mut Desk, key: SessionKey) {
        let audit = self.audit(desk, key, AuditKind::SessionEnd, AuditOutcome::Expired);
        if self.expire(desk, key) {
            audit.into_iter().for_each(|audit| desk.effects.push(Effect::Audit(Box::new(audit))));
        }
    }

    /// Gives who it was.
    fn replace_who(&mut self, key: SessionKey, who: Option<Box<Who>>) -> Option<Box<Who>> {
        let session = self.sessions.get_mut(key)?;
        let expires = expires_at(who.as_deref());
        let old = std::mem::replace(&mut session.who, who);
        if let Some(expires) = expires_at(old.as_deref()) {
            self.expiring.remove(&(expires, key));
        }
        if let Some(expires) = expires {
            self.expiring.insert((expires, key));
        }
        old
    }

    /// The session's client has shown anew who it is, and may be another: what the session has, and may do, is that of this one from now on. What an
    /// authenticator says of its properties comes to those that it has, of another in their place; where there is no room for them nothing changes. Whether it is another.
    pub fn identify_anew(
        &mut self,
        desk: &mut Desk,
        key: SessionKey,
        who: Option<Box<Who>>,
        properties: &Checked,
    ) -> Result<bool, Refusal> {
        let before = self.see(desk, key);
        let is_another = self.session(key).is_some_and(|session| session.principal() != who.as_ref().map_or("", |who| &who.principal));
        let held = self.session(key).and_then(|session| session.extras.as_ref());
        if !is_another && held.is_some_and(|extras| !extras.properties.has_room_for(properties)) {
            let message = "with what the authenticators say the session would have more properties than a session has";
            return Err(Refusal::new(ErrorCode::InvalidSessionProperty, message));
        }
        if is_another {
            self.clear_properties(key);
        }
        if !properties.is_empty() {
            self.give_properties(key, properties);
        }
        self.change_who(desk, key, before, who);
        Ok(is_another)
    }

    /// The same, and its client is told when it has nothing any more that it may not have. Whoever knows the token of another's session does not come to this one's.
    pub fn identify_and_answer(
        &mut self,
        desk: &mut Desk,
        asker: Caller,
        who: Option<Box<Who>>,
        properties: &Checked,
    ) -> Result<(), Refusal> {
        let is_another = self.identify_anew(desk, asker.session, who, properties)?;
        let token = if is_another { self.renew_token(desk, asker.session) } else { None };
        let outcome = Outcome::Authenticated { token: token.unwrap_or_default() };
        self.tell_when_revoked(desk, Revoked::Answer(asker, outcome));
        Ok(())
    }

    /// Its client, or a client of MQTT, is being asked who it is from now on, or is not any more.
    pub fn note_asked_about(&mut self, key: SessionKey, is_asked: bool) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.extras_mut().is_asked_about = is_asked;
        session.give_back_extras();
    }

    fn change_who(&mut self, desk: &mut Desk, key: SessionKey, before: Vec<Option<Seen>>, who: Option<Box<Who>>) {
        let principal = |who: Option<&Who>| who.map_or_else(|| Arc::from(""), |who| who.principal.clone());
        let is_now = principal(who.as_deref());
        let was = principal(self.replace_who(key, who).as_deref());
        // What its paths mean comes first: what they do not mean any more goes with what it may not have.
        self.remap(desk, key);
        self.renew_rights_of(desk, key, was != is_now);
        self.note_durable(desk, key);
        if self.mqtt(key).is_some() {
            self.store_session(desk, key);
        }
        self.properties_changed(desk, key, before);
    }

    /// Others have given the session roles, and taken some.
    pub fn change_roles(&mut self, desk: &mut Desk, key: SessionKey, remove: &[Box<str>], add: &[Box<str>]) {
        let before = self.see(desk, key);
        let Some(session) = self.session_mut(key) else { return };
        let kept = roles(session.roles()).map(|role| Box::from(&*role)).filter(|role| !remove.contains(role));
        let all = kept.chain(add.iter().cloned()).collect();
        let (principal, expires) = session.who.as_ref().map_or((Arc::from(""), None), |who| (who.principal.clone(), who.expires));
        self.change_who(desk, key, before, Who::new(principal, all, expires));
    }

    /// Ends sessions whose clients have to show anew who they are.
    pub fn tick_identities(&mut self, desk: &mut Desk) {
        for _ in 0..EXPIRED_PER_TICK {
            let Some((expires, key)) = self.expiring.first().copied().filter(|(expires, _)| *expires <= desk.turn.now) else { return };
            self.expiring.remove(&(expires, key));
            self.end_expired(desk, key);
        }
    }

    /// What the session's client has shown is worth nothing any more; whether that ends it or its connection.
    fn expire(&mut self, desk: &mut Desk, key: SessionKey) -> bool {
        let now = desk.turn.now;
        // It may be over, or have shown something newer.
        let session = self.sessions.get_mut(key).filter(|session| expires_at(session.who.as_deref()).is_some_and(|expires| expires <= now));
        let Some(session) = session.filter(|session| session.life != Life::Over) else { return false };
        // Something newer may be on its way.
        if session.extras.as_ref().is_some_and(|extras| extras.is_asked_about) {
            self.expiring.insert((now.after_ms(ASKED_AGAIN_MS), key));
            return false;
        }
        match session.life {
            Life::Connected(_) | Life::Inside { .. } => {
                if let Some(mqtt) = &mut session.mqtt {
                    // Messages wait for a client that comes back with something newer.
                    mqtt.answers = None;
                }
                self.give_up(desk, key, Why::Expired);
                true
            }
            // A client of MQTT shows who it is whenever it connects.
            Life::Away(_) if session.mqtt.is_none() => {
                session.end_by(Ended::Expired);
                self.finish_session(desk, key);
                true
            }
            Life::Away(_) | Life::GivenUp | Life::Shared | Life::Over => false,
        }
    }

    /// The session is over.
    pub(super) fn forget_who(&mut self, key: SessionKey) {
        let who = self.sessions.get_mut(key).and_then(|session| session.who.take());
        if let Some(expires) = expires_at(who.as_deref()) {
            self.expiring.remove(&(expires, key));
        }
    }
}

fn expires_at(who: Option<&Who>) -> Option<Time> {
    who.and_then(|who| who.expires)
}
