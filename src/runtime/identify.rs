//! Who a client is: the shard's question to the authenticators, which run on threads of their own, and their verdict on its way back.

use super::mesh::{Command, Links};
use crate::authentication::{Credentials, Denial, Handle, Hasher, KeptPrincipals, Question, Verdict};
use crate::base::{ConnectionKey, Time};
use crate::mail::messaging::Message;
use crate::mail::security::PrincipalOrder;
use crate::protocol::{ErrorCode, Refusal};
use crate::security::{Author, Secret};
use crate::session::UserProperties;
use crate::shard::{Claim, Identified, Log, Shown, Unidentified, Who};
use crate::value::ValueType;
use std::net::IpAddr;
use std::sync::Arc;

/// When a client comes again whose question could not be asked, in milliseconds: some part of this, so that all do not come at once.
const AGAIN_MS: u64 = 2000;

/// What the authenticators have said of a client.
pub struct Answered {
    pub key: ConnectionKey,
    principal: Box<str>,
    verdict: Verdict,
}

/// What sessions are asked that are authenticators by a name, and who hears what they say, or why nothing. Both are JSON.
pub struct SessionQuestion {
    pub name: Box<str>,
    pub question: Arc<[u8]>,
    pub timeout_ms: u64,
    pub reply: SessionReply,
}

/// Called once, on the thread of a shard.
pub type SessionReply = Box<dyn FnOnce(Result<Vec<u8>, String>) + Send>;

/// What such a session has said.
pub fn read_judged(judged: Result<Message, Refusal>) -> Result<Vec<u8>, String> {
    match judged {
        Ok(Message { kind, value: Some(value) }) if kind == ValueType::Json as u8 => Ok(value.to_vec()),
        Ok(_) => Err("its answer is no JSON".to_owned()),
        Err(refusal) => Err(refusal.message),
    }
}

/// Asks who the client of the connection is; where too many ask, the verdict is that at once.
pub fn ask(handle: &Handle, links: &Links, shard: usize, key: ConnectionKey, claim: Claim) -> Option<Answered> {
    let Claim { principal, shown, address, certificate, properties } = claim;
    let secret = |bytes: &[u8]| Secret::new(bytes);
    let credentials = match shown {
        Shown::Nothing => Credentials::None,
        Shown::Password(password) => Credentials::Password(secret(&password)),
        Shown::Bearer(token) => Credentials::Token(secret(&token)),
    };
    let address = IpAddr::V6(address).to_canonical();
    let question = Question { principal: principal.clone(), credentials, address, certificate, properties: properties.into_vec() };
    let (sender, mailbox, asked) = (links.senders[shard].clone(), links.mailboxes[shard].clone(), principal.clone());
    let reply = move |verdict| {
        // A shard that has ended needs no answer.
        let _ = sender.send(Command::Identified(Box::new(Answered { key, principal: asked, verdict })));
        mailbox.wake();
    };
    handle.ask(question, Box::new(reply)).err().map(|_| Answered { key, principal, verdict: Verdict::Deny(Denial::Busy) })
}

/// Has a script of principals applied on a thread that hashes passwords; refused where too many wait.
pub fn change_principals(
    (handle, principals): &(Handle, Arc<KeptPrincipals>),
    links: &Links,
    shard: usize,
    order: PrincipalOrder,
) -> Result<(), Refusal> {
    let (sender, mailbox, principals) = (links.senders[shard].clone(), links.mailboxes[shard].clone(), principals.clone());
    let work = move |hasher: &Hasher| {
        let PrincipalOrder { script, by, checks_only, to } = order;
        principals.change(hasher, (&script, Author::Principal(&by)), checks_only, |applied| {
            let result = applied.map(|store| (!checks_only).then(|| store.to_script()));
            let result = result.map_err(|error| Refusal::new(ErrorCode::InvalidScript, error.to_string()));
            // A shard that has ended needs no answer.
            let _ = sender.send(Command::Principals(to, result));
        });
        mailbox.wake();
    };
    let busy = |_| Refusal::new(ErrorCode::Overloaded, "too many changes of principals wait for their passwords to be hashed");
    handle.with_hasher(Box::new(work)).map_err(busy)
}

impl Answered {
    /// What the shard does with it, and what the operator should know. `chance` is below 1,000.
    pub fn judge(self, now: Time, wall_ms: u64, chance: u64) -> (Identified, Option<Log>) {
        let allowed = match self.verdict {
            Verdict::Allow(allowed) => allowed,
            Verdict::Deny(denial @ (Denial::Busy | Denial::Unavailable(_))) => {
                let (said, news) = refuse(self.principal, &denial);
                return (Identified::Later { wait_ms: AGAIN_MS / 2 + chance % (AGAIN_MS / 2), said }, Some(news));
            }
            Verdict::Deny(denial) => return refused(refuse(self.principal, &denial)),
            Verdict::Abstain => return refused(refuse(self.principal, &Denial::Unknown)),
        };
        let expires = allowed.expires_ms.map(|at_ms| now.after_ms(at_ms.saturating_sub(wall_ms)));
        let properties = allowed.properties.iter().map(|(key, value)| (&**key, &**value));
        match UserProperties::check(properties) {
            Ok(properties) => (Identified::As(Who::new(allowed.principal.into(), allowed.roles, expires), properties), None),
            // An authenticator that gives what is none has said nothing that can be relied on.
            Err(refusal) => refused(refuse(self.principal, &refusal.message)),
        }
    }
}

/// What is said of somebody who is not let in.
fn refuse(principal: Box<str>, why: &dyn std::fmt::Display) -> (Unidentified, Log) {
    let why: Box<str> = why.to_string().into();
    (Unidentified { principal: principal.clone(), why: why.clone() }, Log::NotIdentified { principal, why })
}

fn refused((said, news): (Unidentified, Log)) -> (Identified, Option<Log>) {
    (Identified::Refused(said), Some(news))
}
