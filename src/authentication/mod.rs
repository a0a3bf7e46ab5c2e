//! Who asks? A chain of authenticators that may take their time: passwords, tokens, certificates, an endpoint, other sessions.
//!
//! It runs on threads of its own and knows nothing of shards: a question goes in without waiting, and the verdict comes back by a closure that is called on
//! one of these threads. Questions are bounded in number where they wait, passwords are hashed at low priority, and an endpoint that is slow delays only
//! those who come to it. Roles are names here; what they permit is known elsewhere.
//!
//! No secret is ever printed: `Secret` has no text, and what a `Denial` says is for the log.

pub mod administrator;
mod authenticator;
mod breaker;
mod cache;
mod certificate;
mod chain;
mod client;
mod keys;
mod passwords;
mod principals;
mod throttle;
mod token;
mod webhook;
mod words;
mod workers;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::base::Time;
use crate::security::Secret;

pub use authenticator::{Authenticator, Handle, Reply};
pub use passwords::{Cost, Hasher};
pub use principals::KeptPrincipals;
pub use words::{read as read_answer, write as write_question};

/// What somebody shows for being who he says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    None,
    Password(Secret),
    /// A JSON Web Token in its compact form.
    Token(Secret),
    /// What only an endpoint or another session understands.
    #[cfg_attr(not(test), expect(dead_code, reason = "no dialogue carries such yet"))]
    Custom(Secret),
}

/// Somebody wants to be let in, or to be somebody else.
#[derive(Clone, Debug)]
pub struct Question {
    /// Who he says that he is. Empty: he does not say.
    pub principal: Box<str>,
    pub credentials: Credentials,
    pub address: IpAddr,
    /// The principal of the certificate that the connection showed, which was checked already.
    pub certificate: Option<Box<str>>,
    /// What the client proposes as properties of its session.
    pub properties: Properties,
}

/// Names and values.
pub type Properties = Vec<(Box<str>, Box<str>)>;

/// What an authenticator says, and the chain in the end. Of a chain it is never `Abstain`: where nobody knows the asker, he is denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allow(Allowed),
    Deny(Denial),
    Abstain,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Empty: anonymous.
    pub principal: Box<str>,
    pub roles: Vec<Box<str>>,
    pub properties: Properties,
    /// When it ends, in milliseconds since 1970. None: it does not.
    pub expires_ms: Option<u64>,
}

/// Why somebody is not let in. For the log and the figures: a client is told no more than that it is denied, or that it may try later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// An authenticator says no; the text never holds what was shown.
    Refused(Box<str>),
    /// No authenticator knows the asker.
    Unknown,
    /// Too many failures from this address or of this principal: nothing was checked.
    Throttled,
    /// Too many questions wait already: nothing was checked.
    Busy,
    /// Who would have to say so cannot be reached.
    Unavailable(Box<str>),
}

impl Denial {
    /// Whether the asker showed something wrong, which counts as a failure of his. The others say nothing of him.
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Unknown)
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) | Self::Unavailable(reason) => f.write_str(reason),
            Self::Unknown => f.write_str("no authenticator knows the principal or takes the credentials"),
            Self::Throttled => f.write_str("too many failures"),
            Self::Busy => f.write_str("too many questions wait"),
        }
    }
}

impl Verdict {
    fn refused(reason: impl Into<Box<str>>) -> Self {
        Self::Deny(Denial::Refused(reason.into()))
    }

    pub fn unavailable(reason: impl Into<Box<str>>) -> Self {
        Self::Deny(Denial::Unavailable(reason.into()))
    }
}

/// The principals that the server itself knows. What is asked is answered from memory, at once.
pub trait Principals: Send + Sync {
    fn look_up(&self, principal: &str) -> Option<Known>;

    /// What is done with those who neither say who they are nor show anything.
    fn anonymous(&self) -> Anonymous;

    /// Those of the proposed properties that are believed.
    fn accept_properties(&self, proposed: &[(Box<str>, Box<str>)]) -> Properties;
}

/// A principal that the server knows.
#[derive(Clone, Debug)]
pub struct Known {
    /// The password's hash, a PHC string.
    pub hash: Arc<str>,
    pub roles: Vec<Box<str>>,
}

#[derive(Clone, Debug)]
pub enum Anonymous {
    Allow(Vec<Box<str>>),
    Deny,
    Abstain,
}

/// The time, by both clocks.
#[derive(Clone, Copy, Debug)]
struct Now {
    monotonic: Time,
    /// Milliseconds since 1970.
    wall_ms: u64,
}

impl Now {
    fn read(start: std::time::Instant) -> Self {
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self { monotonic: Time(start.elapsed().as_nanos() as u64), wall_ms: wall.as_millis() as u64 }
    }
}
