//! The principals that the server itself knows, what is done with anonymous sessions, and which proposed properties are believed.
//!
//! A password is kept as a hash that whoever calls makes and compares; here it is a text. Until a script says otherwise nobody is known, anonymous sessions are
//! denied, and nothing that a client proposes is believed. What a store holds always prints as a script that makes it again, without any password.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::script::Names;
use super::script::principals::{Password, PrincipalScript, PrincipalStatement, UNICODE_CLASSES_MAX};
use super::script::{list, quoted};
use super::secret::Secret;
use super::{ApplyError, ApplyErrorKind, Author};
use crate::topic::session_filter::pattern::Pattern;

/// Every bound a store of principals obeys. Together they bound what it costs to apply a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrincipalLimits {
    pub principals_max: usize,
    /// Properties that a client may propose, and regexes in one script.
    pub properties_max: usize,
    /// Passwords that one script gives or verifies: each is hashed, which is slow by intent.
    pub passwords_max: usize,
    /// Of a script, and of the script that the whole store prints as.
    pub text_bytes_max: usize,
}

impl Default for PrincipalLimits {
    fn default() -> Self {
        Self { principals_max: 10_000, properties_max: 100, passwords_max: 1000, text_bytes_max: 4 << 20 }
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrincipalStore {
    limits: PrincipalLimits,
    principals: BTreeMap<Box<str>, Principal>,
    anonymous: Anonymous,
    trusted: BTreeMap<Box<str>, Trusted>,
}

/// A principal that the server knows.
#[derive(Clone, PartialEq, Eq)]
pub struct Principal {
    /// The password's, a PHC string.
    pub hash: Arc<str>,
    pub roles: Names,
    locked_to: Option<Box<str>>,
}

/// What is done with those who do not say who they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Anonymous {
    /// They have these roles.
    Allow(Names),
    #[default]
    Deny,
    /// Others decide.
    Abstain,
}

/// Which values of a property are believed.
#[derive(Clone)]
pub enum Trusted {
    /// In order, each once.
    OneOf(Box<[Box<str>]>),
    /// Those that the regex matches from the first character to the last.
    Matching(Arc<Pattern>),
}

/// How passwords are hashed and held against hashes. None: it cannot be hashed.
struct Hashing<'a> {
    hash: &'a mut dyn FnMut(&Secret) -> Option<Box<str>>,
    verify: &'a mut dyn FnMut(&Secret, &str) -> bool,
}

impl PrincipalStore {
    /// Knows nobody.
    pub fn empty(limits: PrincipalLimits) -> Self {
        Self { limits, principals: BTreeMap::new(), anonymous: Anonymous::Deny, trusted: BTreeMap::new() }
    }

    pub fn look_up(&self, principal: &str) -> Option<&Principal> {
        self.principals.get(principal)
    }

    /// The principal has that password and those roles, whatever it had.
    #[cfg(feature = "server")]
    pub fn put(&mut self, principal: &str, hash: Box<str>, roles: &[Box<str>]) {
        self.principals.insert(principal.into(), Principal { hash: hash.into(), roles: roles.into(), locked_to: None });
    }

    pub fn anonymous(&self) -> &Anonymous {
        &self.anonymous
    }

    /// Those of the proposed properties, name and value, that are believed, in their order.
    pub fn accept_properties<'p>(&self, proposed: impl IntoIterator<Item = (&'p str, &'p str)>) -> Vec<(Box<str>, Box<str>)> {
        let is_believed = |(name, value): &(&str, &str)| self.trusted.get(*name).is_some_and(|trusted| trusted.holds(value));
        proposed.into_iter().filter(is_believed).map(|(name, value)| (name.into(), value.into())).collect()
    }

    /// Applies all statements in their order, or none. How much there is, is judged at the end, but how many passwords there are before any is hashed.
    ///
    /// `hash` makes the hash of a password, or none where that fails; `verify` holds a password against a hash. Both are slow, so nobody should wait for this
    /// store meanwhile: it is a copy that is changed.
    pub fn apply(
        &mut self,
        script: &PrincipalScript,
        by: Author<'_>,
        mut hash: impl FnMut(&Secret) -> Option<Box<str>>,
        mut verify: impl FnMut(&Secret, &str) -> bool,
    ) -> Result<(), ApplyError> {
        let passwords_max = self.limits.passwords_max;
        if let Some((line, _)) = script.statements().filter(|(_, statement)| statement.has_password()).nth(passwords_max) {
            return Err(ApplyError { line, kind: ApplyErrorKind::Full { what: "passwords in a script", count_max: passwords_max } });
        }
        let mut next = self.clone();
        let mut hashing = Hashing { hash: &mut hash, verify: &mut verify };
        let mut line_last = 1;
        for (line, statement) in script.statements() {
            line_last = line;
            next.carry_out(statement, by, &mut hashing).map_err(|kind| ApplyError { line, kind })?;
        }
        next.check_size().map_err(|kind| ApplyError { line: line_last, kind })?;
        *self = next;
        Ok(())
    }

    fn carry_out(&mut self, statement: &PrincipalStatement, by: Author<'_>, hashing: &mut Hashing<'_>) -> Result<(), ApplyErrorKind> {
        match statement {
            PrincipalStatement::Add { principal, password, roles } => {
                if self.principals.contains_key(principal) {
                    return Err(ApplyErrorKind::KnownPrincipal(principal.clone()));
                }
                let hash = hashing.hash_of(principal, password)?;
                self.principals.insert(principal.clone(), Principal { hash, roles: roles.clone(), locked_to: None });
            }
            PrincipalStatement::Remove { principal } => {
                self.changed(principal, by)?;
                self.principals.remove(principal);
            }
            PrincipalStatement::AssignRoles { principal, roles } => self.changed(principal, by)?.roles = roles.clone(),
            PrincipalStatement::SetPassword { principal, password } => {
                let changed = self.changed(principal, by)?;
                changed.hash = hashing.hash_of(principal, password)?;
            }
            PrincipalStatement::VerifyPassword { principal, password } => {
                let known = self.principals.get(principal).ok_or_else(|| ApplyErrorKind::UnknownPrincipal(principal.clone()))?;
                if !(hashing.verify)(password, &known.hash) {
                    return Err(ApplyErrorKind::WrongPassword(principal.clone()));
                }
            }
            PrincipalStatement::Lock { principal, to } => self.changed(principal, by)?.locked_to = Some(to.clone()),
            PrincipalStatement::Unlock { principal } => self.changed(principal, by)?.locked_to = None,
            PrincipalStatement::SetAnonymous(anonymous) => self.anonymous = anonymous.clone(),
            PrincipalStatement::Trust { property, values } => {
                self.trusted.insert(property.clone(), values.clone());
            }
            PrincipalStatement::Ignore { property } => {
                self.trusted.remove(property);
            }
        }
        Ok(())
    }

    /// The principal, which is there and which the author may change.
    fn changed(&mut self, name: &str, by: Author<'_>) -> Result<&mut Principal, ApplyErrorKind> {
        let principal = self.principals.get_mut(name).ok_or_else(|| ApplyErrorKind::UnknownPrincipal(name.into()))?;
        match &principal.locked_to {
            Some(to) if !by.passes(Some(to)) => Err(ApplyErrorKind::LockedPrincipal { locked: name.into(), principal: to.clone() }),
            _ => Ok(principal),
        }
    }

    fn check_size(&self) -> Result<(), ApplyErrorKind> {
        let full = |what, count_max| Err(ApplyErrorKind::Full { what, count_max });
        if self.principals.len() > self.limits.principals_max {
            return full("principals", self.limits.principals_max);
        }
        if self.trusted.len() > self.limits.properties_max {
            return full("properties", self.limits.properties_max);
        }
        // What it prints as is parsed when the server starts again.
        if self.trusted.values().map(Trusted::unicode_classes).sum::<usize>() > UNICODE_CLASSES_MAX {
            return full("Unicode classes in regexes", UNICODE_CLASSES_MAX);
        }
        if self.to_script().len() > self.limits.text_bytes_max {
            return full("bytes as a script", self.limits.text_bytes_max);
        }
        Ok(())
    }

    /// A script that makes the same store from an empty one. It shows hashes, which are for nobody else.
    pub fn to_script(&self) -> String {
        let mut out = format!("{}\n", self.anonymous);
        for (name, Principal { hash, roles, .. }) in &self.principals {
            out.push_str(&format!("add principal {} hash {} {}\n", quoted(name), quoted(hash), list(roles)));
        }
        for (property, values) in &self.trusted {
            out.push_str(&format!("trust client proposed property {} if value {values}\n", quoted(property)));
        }
        // Behind all else, as with roles.
        for (name, principal) in &self.principals {
            if let Some(to) = &principal.locked_to {
                out.push_str(&format!("lock principal {} to principal {}\n", quoted(name), quoted(to)));
            }
        }
        out
    }
}

impl Principal {
    /// The line that gives it the roles that it has.
    #[cfg(feature = "server")]
    pub fn roles_line(&self, name: &str) -> String {
        format!("assign roles {} {}", quoted(name), list(&self.roles))
    }
}

/// As a line of a script, without its end.
impl fmt::Display for Anonymous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allow(roles) => write!(f, "allow anonymous connections {}", list(roles)),
            Self::Deny => f.write_str("deny anonymous connections"),
            Self::Abstain => f.write_str("abstain anonymous connections"),
        }
    }
}

impl Hashing<'_> {
    fn hash_of(&mut self, principal: &str, password: &Password) -> Result<Arc<str>, ApplyErrorKind> {
        match password {
            Password::Hash(hash) => Ok(hash.clone()),
            Password::Plain(secret) => (self.hash)(secret).map(Arc::from).ok_or_else(|| ApplyErrorKind::NotHashed(principal.into())),
        }
    }
}

impl Trusted {
    fn unicode_classes(&self) -> usize {
        match self {
            Self::OneOf(_) => 0,
            Self::Matching(pattern) => pattern.unicode_classes(),
        }
    }

    fn holds(&self, value: &str) -> bool {
        match self {
            Self::OneOf(values) => values.binary_search_by(|one| (**one).cmp(value)).is_ok(),
            Self::Matching(pattern) => pattern.matches(value),
        }
    }
}

/// As in a script, behind `value`.
impl fmt::Display for Trusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OneOf(values) => write!(f, "in {}", list(values)),
            Self::Matching(pattern) => write!(f, "matches {}", quoted(pattern.as_str())),
        }
    }
}

impl fmt::Debug for Trusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PartialEq for Trusted {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::OneOf(values), Self::OneOf(others)) => values == others,
            (Self::Matching(pattern), Self::Matching(other)) => pattern.as_str() == other.as_str(),
            _ => false,
        }
    }
}

impl Eq for Trusted {}

/// Without the hash, which no log may show.
impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal").field("roles", &self.roles).field("locked_to", &self.locked_to).finish_non_exhaustive()
    }
}
