//! What is noted of sessions for whoever looks later at who did what (`desk::Audit`), where somebody wants that.
//!
//! A client can be refused as often as it likes, so of each session so many refusals a second are noted, and how many were not.

use crate::audience::Audience;
use crate::base::{SessionKey, Time};
use crate::desk::{Audit, AuditKind, AuditOutcome, Desk, Effect};
use crate::mail::control::{Act, Whom};
use crate::protocol::{ErrorCode, Refusal};
use crate::wire::native::Outcome;
use hashbrown::HashMap;

/// Refusals of one session that are noted in a second.
const DENIED_PER_S_MAX: u32 = 10;

const SECOND_MS: u64 = 1000;

/// Refusals of sessions, of each that had some: as many as sessions at most.
#[derive(Default)]
pub struct Denials(HashMap<SessionKey, Denied>);

/// Those of one.
struct Denied {
    /// When the next are noted whatever came before.
    due: Time,
    noted: u32,
    left_out: u64,
}

impl Denials {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// How many were left out before this one; `None` where it is left out too.
    fn note(&mut self, now: Time, session: SessionKey) -> Option<u64> {
        let denied = self.0.entry(session).or_insert(Denied { due: now, noted: 0, left_out: 0 });
        if now >= denied.due {
            (denied.due, denied.noted) = (now.after_ms(SECOND_MS), 0);
        }
        if denied.noted >= DENIED_PER_S_MAX {
            denied.left_out += 1;
            return None;
        }
        denied.noted += 1;
        Some(std::mem::take(&mut denied.left_out))
    }
}

impl Audience {
    /// A note on what the session does or undergoes, to be completed; `None` where nobody wants any.
    pub fn audit(&self, desk: &Desk, key: SessionKey, kind: AuditKind, outcome: AuditOutcome) -> Option<Audit> {
        let session = desk.limits.audits.then(|| self.sessions.get(key)).flatten()?;
        Some(Audit::new(kind, outcome).by(session.principal(), session.address).in_session(&desk.name_of(session.id)))
    }

    /// A note on what the session orders of others; none where that only looks at them. Values of properties may be what others keep to themselves.
    pub(super) fn audit_order(&self, desk: &Desk, key: SessionKey, whom: &Whom, act: &Act) -> Option<Box<Audit>> {
        let operation = match act {
            Act::List { .. } | Act::ReadSelections { .. } => return None,
            Act::Close { .. } => "close_sessions",
            Act::ChangeRoles { .. } => "change_roles",
            Act::SetProperties(_) => "set_session_properties",
            Act::Conflate(_) => "conflate_sessions",
            Act::Subscribe { .. } => "subscribe_sessions",
            Act::Unsubscribe { .. } => "unsubscribe_sessions",
        };
        let audit = self.audit(desk, key, AuditKind::Control, AuditOutcome::Done)?.text("operation", operation);
        let audit = match whom {
            Whom::Session(session) => audit.text("target", &desk.name_of(*session)),
            Whom::Matching(filter) => audit.text("filter", filter.as_str()),
        };
        Some(Box::new(match act {
            Act::List { .. } | Act::ReadSelections { .. } => audit,
            Act::Close { why } => audit.text("message", why),
            Act::ChangeRoles { remove, add } => {
                audit.texts("removed", remove.iter().map(|role| &**role)).texts("added", add.iter().map(|role| &**role))
            }
            Act::SetProperties(properties) => audit.texts("properties", properties.iter().map(|(key, _)| &**key)),
            Act::Conflate(is_conflated) => audit.flag("conflated", *is_conflated),
            Act::Subscribe { selector, scope } | Act::Unsubscribe { selector, scope } => {
                audit.text("selector", selector).text("scope", scope)
            }
        }))
    }

    /// The same of what a session may do as often as it likes: as many a second are noted as refusals, among these.
    pub fn audit_bounded(&mut self, desk: &Desk, key: SessionKey, kind: AuditKind, outcome: AuditOutcome) -> Option<Audit> {
        let audit = self.audit(desk, key, kind, outcome)?;
        let left_out = self.denials.note(desk.turn.now, key)?;
        Some(if left_out > 0 { audit.number("left_out", left_out) } else { audit })
    }

    /// The session was refused this; only what it may not do is noted. `operation` is empty where it is not known any more.
    pub fn note_denied(&mut self, desk: &mut Desk, session: SessionKey, operation: &str, refusal: &Refusal) {
        if !desk.limits.audits || refusal.code != ErrorCode::AccessDenied || self.session(session).is_none() {
            return;
        }
        let Some(left_out) = self.denials.note(desk.turn.now, session) else { return };
        let Some(mut audit) = self.audit(desk, session, AuditKind::Denied, AuditOutcome::Refused) else { return };
        if !operation.is_empty() {
            audit = audit.text("operation", operation);
        }
        audit = audit.text("reason", &refusal.message);
        if left_out > 0 {
            audit = audit.number("left_out", left_out);
        }
        desk.effects.push(Effect::Audit(Box::new(audit)));
    }

    /// The session is over: what was left out is told.
    pub(super) fn end_denials(&mut self, desk: &mut Desk, session: SessionKey) {
        let Some(Denied { left_out: left_out @ 1.., .. }) = self.denials.0.remove(&session) else { return };
        if let Some(audit) = self.audit(desk, session, AuditKind::Denied, AuditOutcome::Refused) {
            desk.effects.push(Effect::Audit(Box::new(audit.number("left_out", left_out))));
        }
    }
}

/// What the note says of the end of what was ordered: by its code, since words may hold what is secret.
pub(super) fn tell(desk: &mut Desk, audit: Option<Box<Audit>>, result: &Result<Outcome, Refusal>) {
    let Some(audit) = audit else { return };
    let audit = match result {
        Ok(Outcome::Asked(count)) => audit.number("sessions", *count),
        Ok(_) => *audit,
        Err(refusal) => audit.with_outcome(AuditOutcome::Refused).text("code", refusal.code.name()),
    };
    desk.effects.push(Effect::Audit(Box::new(audit)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SlabKey;

    #[test]
    fn of_each_session_so_many_refusals_a_second_are_noted_and_the_others_are_counted() {
        let mut denials = Denials::default();
        let (one, other) = (SessionKey::new(1, 0), SessionKey::new(2, 0));
        let mut note = |session, ms| denials.note(Time(0).after_ms(ms), session);
        for at in 0..u64::from(DENIED_PER_S_MAX) {
            assert_eq!(note(one, at), Some(0));
        }
        assert_eq!((note(one, 10), note(one, 999), note(other, 999)), (None, None, Some(0)));
        assert_eq!((note(one, 1000), note(one, 1001)), (Some(2), Some(0)));
        assert_eq!(note(one, 60_000), Some(0));
    }
}
