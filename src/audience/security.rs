//! What roles permit, and the principals that the server knows: the first shard decides on scripts and has the outcome stored, every shard has what there is.
//!
//! A script of principals is applied on a thread that hashes passwords, since that is slow by intent: it goes there as an effect, one after the other.

use super::ask::tell_carried_out;
use crate::audience::Audience;
use crate::base::{ShardIndex, TopicId};
use crate::desk::{Answer, Audit, AuditKind, AuditOutcome, Desk, Effect, Ticket};
use crate::journal::{Change, PRINCIPALS_PATH, SECURITY_KIND, SECURITY_PATH, StoredTopic};
use crate::mail::security::{PrincipalOrder, Security};
use crate::mail::views::Told;
use crate::mail::{Caller, Mail, Part};
use crate::protocol::{ErrorCode, Refusal};
use crate::security::{Author, PrincipalScript, ScriptError, SecurityLimits, SecurityScript, SecurityStore};
use crate::topic::path::TopicPath;
use crate::wire::native::Outcome;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The stores, as notes name them.
const ROLES: &str = "roles";
const PRINCIPALS: &str = "principals";

/// The only shard that decides on scripts.
const SECURITY_WRITER: ShardIndex = ShardIndex(0);

impl Audience {
    /// Orders that a script is applied, as a whole or not at all. Who asks is answered when that is stored, and every session has what its roles permit then.
    pub fn apply_security(&mut self, desk: &mut Desk, asker: Caller, text: &str, checks_only: bool) -> Result<(), Refusal> {
        let store = self.security_store()?;
        // Here already, so that one that is none costs the writer nothing.
        let script = SecurityScript::parse(text, store.limits());
        let script = script.map_err(|error| self.refuse_script(desk, asker, ROLES, &error))?;
        let audit = self.audit_script(desk, asker, (ROLES, checks_only)).map(|audit| {
            let roles: BTreeSet<&str> = script.statements().filter_map(|(_, statement)| statement.role()).collect();
            audit.number("statements", script.statements().count() as u64).texts("roles", roles.into_iter())
        });
        let by = self.session(asker.session).map_or("", |session| session.principal()).into();
        let ticket = self.expect_tables(desk, asker, audit);
        let to = Told { shard: desk.identity.index, ticket };
        desk.mail(SECURITY_WRITER, Mail::Security(Box::new(Security::Order { script, by, checks_only, to })));
        Ok(())
    }

    /// A part of the script that makes what there is, from a byte on: whole lines, as many as fit a message.
    pub fn security_script(&self, desk: &Desk, offset: u64) -> Result<Outcome, Refusal> {
        let script = self.security_store()?.to_script();
        script_page(desk, &script, offset)
    }

    /// The same of the principals.
    pub fn principals_script(&self, desk: &Desk, offset: u64) -> Result<Outcome, Refusal> {
        self.security_store()?;
        script_page(desk, &self.security.principals, offset)
    }

    /// Orders that a script of principals is applied, as a whole or not at all.
    pub fn apply_principals(&mut self, desk: &mut Desk, asker: Caller, text: &str, checks_only: bool) -> Result<(), Refusal> {
        self.security_store()?;
        let script = PrincipalScript::parse(text, desk.limits.principal_limits);
        let script = script.map_err(|error| self.refuse_script(desk, asker, PRINCIPALS, &error))?;
        let audit = self.audit_script(desk, asker, (PRINCIPALS, checks_only)).map(|audit| {
            let principals: BTreeSet<&str> = script.statements().filter_map(|(_, statement)| statement.principal()).collect();
            audit.number("statements", script.statements().count() as u64).texts("principals", principals.into_iter())
        });
        let by = self.session(asker.session).map_or("", |session| session.principal()).into();
        let ticket = self.expect_tables(desk, asker, audit);
        let to = Told { shard: desk.identity.index, ticket };
        let order = Box::new(PrincipalOrder { script, by, checks_only, to });
        desk.mail(SECURITY_WRITER, Mail::Security(Box::new(Security::OrderPrincipals(order))));
        Ok(())
    }

    /// A note on a script for the store of this name.
    fn audit_script(&self, desk: &Desk, asker: Caller, (store, checks_only): (&str, bool)) -> Option<Audit> {
        let outcome = if checks_only { AuditOutcome::Checked } else { AuditOutcome::Applied };
        self.audit(desk, asker.session, AuditKind::Security, outcome).map(|audit| audit.text("store", store))
    }

    /// A text is no script. Its words are told to who sent it alone: one may be a password that stands in a wrong place.
    fn refuse_script(&self, desk: &mut Desk, asker: Caller, store: &str, error: &ScriptError) -> Refusal {
        let refusal = Refusal::new(ErrorCode::InvalidScript, error.to_string());
        if let Some(audit) = self.audit(desk, asker.session, AuditKind::Security, AuditOutcome::Refused) {
            let audit = audit.text("store", store).text("code", refusal.code.name()).number("line", error.line as u64);
            desk.effects.push(Effect::Audit(Box::new(audit)));
        }
        refusal
    }

    fn security_store(&self) -> Result<&Arc<SecurityStore>, Refusal> {
        self.security.store().ok_or_else(|| {
            Refusal::new(
                ErrorCode::AccessDenied,
                "the server asks nobody who its clients are, so everybody may do everything and no roles are kept",
            )
        })
    }

    pub fn security_said(&mut self, desk: &mut Desk, said: Security) {
        match said {
            Security::Order { script, by, checks_only, to } => {
                if let Err(refusal) = self.decide_security(desk, &script, &by, checks_only, to) {
                    tell_writer(desk, to, Err(refusal));
                }
            }
            Security::OrderPrincipals(order) => match desk.ledger.failure() {
                Some(reason) => {
                    let refusal = Refusal::new(ErrorCode::StorageUnavailable, format!("principals cannot be changed for now: {reason}"));
                    tell_writer(desk, order.to, Err(refusal));
                }
                None => desk.effects.push(Effect::ChangePrincipals(order)),
            },
            Security::PrincipalsDecided { script, to } => {
                self.security.principals = script;
                tell_carried_out(desk, Some(to));
            }
            Security::Decided { store, to } => {
                self.security.set(store);
                self.scan_rights(to);
            }
        }
    }

    // The writer.

    fn decide_security(&mut self, desk: &mut Desk, script: &SecurityScript, by: &str, checks_only: bool, to: Told) -> Result<(), Refusal> {
        let mut store = SecurityStore::clone(self.security_store()?);
        store.apply(script, Author::Principal(by)).map_err(|error| Refusal::new(ErrorCode::InvalidScript, error.to_string()))?;
        if checks_only {
            tell_writer(desk, to, Ok(Outcome::Done));
            return Ok(());
        }
        if let Some(reason) = desk.ledger.failure() {
            return Err(Refusal::new(ErrorCode::StorageUnavailable, format!("roles cannot be changed for now: {reason}")));
        }
        let ticket = keep_script(desk, SECURITY_PATH, store.to_script(), &mut self.security.record);
        let store = Arc::new(store);
        // What is decided next builds on it.
        self.security.set(store.clone());
        for shard in (0..desk.identity.count).map(ShardIndex) {
            desk.mail(shard, Mail::Security(Box::new(Security::Decided { store: store.clone(), to })));
        }
        desk.acknowledge(Ok((Outcome::Done, ticket)), Answer::View { from: to.shard, ticket: to.ticket });
        Ok(())
    }

    /// The principals are these now, by their script, or still what they were: what a thread that hashes has said. `None` where a script was only looked at.
    pub fn principals_changed(&mut self, desk: &mut Desk, to: Told, result: Result<Option<String>, Refusal>) {
        let script = match result {
            Ok(Some(script)) => script,
            Ok(None) => return tell_writer(desk, to, Ok(Outcome::Done)),
            Err(refusal) => return tell_writer(desk, to, Err(refusal)),
        };
        let ticket = keep_script(desk, PRINCIPALS_PATH, script.clone(), &mut self.security.principals_record);
        let script: Arc<str> = script.into();
        for shard in (0..desk.identity.count).map(ShardIndex) {
            desk.mail(shard, Mail::Security(Box::new(Security::PrincipalsDecided { script: script.clone(), to })));
        }
        desk.acknowledge(Ok((Outcome::Done, ticket)), Answer::View { from: to.shard, ticket: to.ticket });
    }

    /// Takes up what was stored. Every shard does, before anybody is connected. Where nobody is asked who clients are it stays stored for the day on which
    /// somebody is.
    pub fn restore_security(&mut self, desk: &mut Desk, id: TopicId, stored: &StoredTopic) -> Result<(), String> {
        if stored.principals_script().is_some() {
            // Whoever starts the server has read what they are.
            if desk.identity.index == SECURITY_WRITER
                && let Some(older) = self.security.principals_record.replace(id)
            {
                desk.ledger.append_record(Change::Removed { topic: older });
            }
            return Ok(());
        }
        let limits = self.security.store().map_or_else(SecurityLimits::default, |store| store.limits());
        let store = SecurityStore::parse(stored.security_script().unwrap_or_default(), limits);
        let store = store.map_err(|error| format!("what roles permit, as it was stored: {error}"))?;
        if desk.identity.index == SECURITY_WRITER
            && let Some(older) = self.security.record.replace(id)
        {
            desk.ledger.append_record(Change::Removed { topic: older });
        }
        if self.security.store().is_some() {
            self.security.set(Arc::new(store));
        }
        Ok(())
    }
}

/// The writer's word is a refusal, or nothing was to be changed.
fn tell_writer(desk: &mut Desk, to: Told, result: Result<Outcome, Refusal>) {
    desk.mail(to.shard, Mail::Part { ticket: to.ticket, part: Part::View { result, changes_nothing: true } });
}

/// Stores a script in the place of the one before. The record of the new one comes before the removal of the old one: after a crash between the two the newer
/// stands.
fn keep_script(desk: &mut Desk, path: &str, script: String, record: &mut Option<TopicId>) -> Option<Ticket> {
    let topic = desk.take_topic_id();
    let properties = Arc::from([("script".into(), script.into())]);
    let added = Change::Added { topic, path: TopicPath::of_branch(path), kind: SECURITY_KIND, properties };
    let ticket = desk.ledger.append_record(added);
    match record.replace(topic) {
        Some(old) => desk.ledger.append_record(Change::Removed { topic: old }).or(ticket),
        None => ticket,
    }
}

/// A part of a script from a byte on: whole lines, as many as fit a message.
fn script_page(desk: &Desk, script: &str, offset: u64) -> Result<Outcome, Refusal> {
    let from = usize::try_from(offset).unwrap_or(usize::MAX).min(script.len());
    let rest = script.get(from..).ok_or_else(|| Refusal::new(ErrorCode::InvalidField, "no line begins at the offset"))?;
    let most = desk.limits.message_bytes_max / 2;
    let line_end = || rest.as_bytes()[..most].iter().rposition(|byte| *byte == b'\n').map_or(most, |at| at + 1);
    let end = if rest.len() <= most { rest.len() } else { line_end() };
    let end = (0..=end).rev().find(|end| rest.is_char_boundary(*end)).unwrap_or(0);
    Ok(Outcome::Script { has_more: end < rest.len(), text: rest[..end].to_owned() })
}
