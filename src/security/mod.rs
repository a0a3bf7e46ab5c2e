//! Who may do what: roles and their permissions, the principals that have them, and the scripts that set both.
//!
//! Pure rules. A script is parsed, then applied as a whole or not at all; what a session may do is compiled once for its roles ([`rights::Rights`]) and asked
//! without allocation. Passwords are hashed and compared by who calls, files and sessions are others', and so is asking: this room only answers.
//!
//! Every loop here is over one script, whose length its limits bound, or over what a store holds, which they bound too.

mod permission;
mod predefined;
mod explain;
mod principals;
mod rights;
mod script;
mod secret;
mod store;
#[cfg(test)]
mod tests;

#[cfg(feature = "server")]
pub use explain::{Asked, AskedError, Explanation};
pub use permission::{GlobalPermission, PathPermission, Permission};
#[cfg(feature = "server")]
pub use principals::Anonymous;
pub use principals::{PrincipalLimits, PrincipalStore};
pub use rights::Rights;
pub use script::ScriptError;
pub use script::principals::PrincipalScript;
pub use script::security::SecurityScript;
#[cfg(feature = "server")]
pub use secret::Secret;
pub use store::{SecurityLimits, SecurityStore};

use std::fmt;

/// Of whom a session is: the two have roles of their own beside those that the authentication gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionKind {
    Anonymous,
    Named,
}

impl SessionKind {
    /// The word in a script.
    pub fn name(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Named => "named",
        }
    }
}

/// Who changes a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Author<'a> {
    /// Who has the server's files in hand: no lock holds for them.
    Operator,
    /// A session's principal; empty for an anonymous one.
    Principal(&'a str),
}

impl Author<'_> {
    /// Whether what is locked to that principal may be changed.
    fn passes(self, locked_by: Option<&str>) -> bool {
        match (self, locked_by) {
            (Self::Operator, _) | (_, None) => true,
            (Self::Principal(principal), Some(holder)) => principal == holder,
        }
    }
}

/// Why a script was not applied, and in which line, from 1. Nothing of it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyError {
    pub line: usize,
    pub kind: ApplyErrorKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyErrorKind {
    /// Roles that include each other: the first again at the end.
    Cycle(Vec<Box<str>>),
    /// Only that principal may change the role.
    LockedRole {
        role: Box<str>,
        principal: Box<str>,
    },
    /// Only that principal may change the locked one.
    LockedPrincipal {
        locked: Box<str>,
        principal: Box<str>,
    },
    UnknownPrincipal(Box<str>),
    /// One that is to be added is there already.
    KnownPrincipal(Box<str>),
    WrongPassword(Box<str>),
    /// The password of that principal cannot be hashed.
    NotHashed(Box<str>),
    /// The store would hold more of this than it may.
    Full {
        what: &'static str,
        count_max: usize,
    },
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        match &self.kind {
            ApplyErrorKind::Cycle(roles) => write!(f, "roles include each other: {}", roles.join(" → ")),
            ApplyErrorKind::LockedRole { role, principal } => write!(f, "the role {role:?} is locked to the principal {principal:?}"),
            ApplyErrorKind::LockedPrincipal { locked, principal } => {
                write!(f, "the principal {locked:?} is locked to the principal {principal:?}")
            }
            ApplyErrorKind::UnknownPrincipal(principal) => write!(f, "there is no principal {principal:?}"),
            ApplyErrorKind::KnownPrincipal(principal) => write!(f, "there is a principal {principal:?} already"),
            ApplyErrorKind::WrongPassword(principal) => write!(f, "this is not the password of the principal {principal:?}"),
            ApplyErrorKind::NotHashed(principal) => write!(f, "the password of the principal {principal:?} cannot be hashed"),
            ApplyErrorKind::Full { what, count_max } => write!(f, "there would be more than {count_max} {what}"),
        }
    }
}

impl std::error::Error for ApplyError {}
