//! Who the clients of sessions are, and when what they have shown is worth nothing any more.

use crate::audience::Audience;
use crate::base::{SessionKey, Time};
use crate::desk::{AuditKind, AuditOutcome, Desk, Effect, Why};
use crate::session::{Ended, Life, Who};
use crate::topic::session_filter::roles;
use std::sync::Arc;

/// The most sessions that end in one tick because what their clients showed has expired. No client is bounded by it.
const EXPIRED_PER_TICK: usize = 1000;

impl Audience {
    /// The session's client is this from now on.
    pub fn give_who(&mut self, desk: &mut Desk, key: SessionKey, who: Option<Box<Who>>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        if let Some(expires) = who.as_ref().and_then(|who| who.expires) {
            self.expiring.insert((expires, key));
        }
        session.who = who;
        self.renew_rights(desk, key);
    }

    /// Others have given the session roles, and taken some.
    pub fn change_roles(&mut self, desk: &mut Desk, key: SessionKey, remove: &[Box<str>], add: &[Box<str>]) {
        let before = self.see(desk, key);
        let Some(session) = self.session_mut(key) else { return };
        let kept = roles(session.roles()).map(|role| Box::from(&*role)).filter(|role| !remove.contains(role));
        let all = kept.chain(add.iter().cloned()).collect();
        let (principal, expires) = session.who.as_ref().map_or((Arc::from(""), None), |who| (who.principal.clone(), who.expires));
        session.who = Who::new(principal, all, expires);
        self.renew_rights(desk, key);
        self.note_durable(desk, key);
        if self.mqtt(key).is_some() {
            self.store_session(desk, key);
        }
        self.properties_changed(desk, key, before);
        self.remap(desk, key);
    }

    /// Ends sessions whose clients have to show anew who they are.
    pub fn tick_identities(&mut self, desk: &mut Desk) {
        for _ in 0..EXPIRED_PER_TICK {
            let Some((expires, key)) = self.expiring.first().copied().filter(|(expires, _)| *expires <= desk.turn.now) else { return };
            self.expiring.remove(&(expires, key));
            let audit = self.audit(desk, key, AuditKind::SessionEnd, AuditOutcome::Expired);
            if self.expire(desk, key, expires) {
                audit.into_iter().for_each(|audit| desk.effects.push(Effect::Audit(Box::new(audit))));
            }
        }
    }

    /// What the session's client has shown is worth nothing any more; whether that ends it or its connection.
    fn expire(&mut self, desk: &mut Desk, key: SessionKey, expires: Time) -> bool {
        // It may be over, or have shown something newer.
        let session = self.session_mut(key).filter(|session| expires_at(session.who.as_deref()) == Some(expires));
        let Some(session) = session else { return false };
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
