//! The principals that the server knows by a file: names, hashes of passwords and roles, and what becomes of those who do not say who they are.
//!
//! The file has one statement a line. It is read whole when the server starts.

use super::{Anonymous, Known, Principals, Properties};
use crate::topic::syntax::{Cursor, SyntaxError};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// See the module. By default it knows nobody, and nobody may stay anonymous.
#[derive(Debug, Default)]
pub struct PrincipalsFile {
    known: BTreeMap<Box<str>, Known>,
    anonymous: AnonymousRule,
}

#[derive(Debug, Default)]
enum AnonymousRule {
    Allow(Vec<Box<str>>),
    #[default]
    Deny,
    Abstain,
}

/// A line that is no statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineError {
    /// From 1.
    pub line: usize,
    pub error: SyntaxError,
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SyntaxError { position, found, expected } = &self.error;
        write!(f, "line {}, column {}: found {found}, expected {expected}", self.line, position + 1)
    }
}

impl std::error::Error for LineError {}

impl PrincipalsFile {
    /// Blank lines, and those that begin with `#`, say nothing.
    pub fn parse(text: &str) -> Result<Self, LineError> {
        let mut file = Self::default();
        for (at, line) in text.lines().enumerate() {
            if !line.trim().is_empty() && !line.trim_start().starts_with('#') {
                file.take(line).map_err(|error| LineError { line: at + 1, error })?;
            }
        }
        Ok(file)
    }

    fn take(&mut self, line: &str) -> Result<(), SyntaxError> {
        let mut cursor = Cursor::new(line);
        if cursor.take_keyword("add").is_some() {
            cursor.expect_keywords(&["principal"])?;
            let position = cursor.position();
            let principal: Box<str> = cursor.expect_quoted("the principal's name in quotation marks")?.content().into();
            cursor.expect_keywords(&["hash"])?;
            let hash_at = cursor.position();
            let hash: Arc<str> =
                cursor.expect_quoted("the password's hash in quotation marks, as `tidewire principal` prints it")?.content().into();
            if !hash.starts_with("$argon2id$") {
                let expected = "a hash of Argon2id, as `tidewire principal` prints it".into();
                return Err(SyntaxError { position: hash_at, found: "another text".into(), expected });
            }
            let roles = roles(&mut cursor)?;
            if principal.is_empty() || self.known.insert(principal, Known { hash, roles }).is_some() {
                let (found, expected) = ("a name that is empty, or stands before".into(), "a name of its own".into());
                return Err(SyntaxError { position, found, expected });
            }
        } else {
            let rule = match () {
                () if cursor.take_keyword("allow").is_some() => AnonymousRule::Allow(Vec::new()),
                () if cursor.take_keyword("deny").is_some() => AnonymousRule::Deny,
                () if cursor.take_keyword("abstain").is_some() => AnonymousRule::Abstain,
                () => return Err(cursor.error("`add`, `allow`, `deny` or `abstain`")),
            };
            cursor.expect_keywords(&["anonymous", "connections"])?;
            self.anonymous = match rule {
                AnonymousRule::Allow(_) => AnonymousRule::Allow(roles(&mut cursor)?),
                rule => rule,
            };
        }
        cursor.expect_end("the end of the line")
    }
}

/// A list in brackets; none where there is none.
fn roles(cursor: &mut Cursor<'_>) -> Result<Vec<Box<str>>, SyntaxError> {
    let mut roles = Vec::new();
    if cursor.take_symbol('[').is_none() {
        return Ok(roles);
    }
    while cursor.take_symbol(']').is_none() {
        if !roles.is_empty() {
            cursor.take_symbol(',').ok_or_else(|| cursor.error("`,` or `]`"))?;
        }
        roles.push(cursor.expect_quoted("a role in quotation marks")?.content().into());
    }
    Ok(roles)
}

impl Principals for PrincipalsFile {
    fn look_up(&self, principal: &str) -> Option<Known> {
        self.known.get(principal).cloned()
    }

    fn anonymous(&self) -> Anonymous {
        match &self.anonymous {
            AnonymousRule::Allow(roles) => Anonymous::Allow(roles.clone()),
            AnonymousRule::Deny => Anonymous::Deny,
            AnonymousRule::Abstain => Anonymous::Abstain,
        }
    }

    /// None: clients' words are not believed.
    fn accept_properties(&self, _: &[(Box<str>, Box<str>)]) -> Properties {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA";

    #[test]
    fn statements_say_who_is_known_and_what_becomes_of_the_others() {
        let text = format!(
            "# people\n\nadd principal \"ann\" hash \"{HASH}\" [\"A\", 'b \"c\"']\n add principal 'bob' hash '{HASH}'\nallow anonymous connections [\"CLIENT\"]\n"
        );
        let file = PrincipalsFile::parse(&text).unwrap();
        let ann = file.look_up("ann").unwrap();
        assert_eq!((&*ann.hash, ann.roles), (HASH, vec!["A".into(), "b \"c\"".into()]));
        assert!(file.look_up("bob").unwrap().roles.is_empty() && file.look_up("Ann").is_none());
        assert!(matches!(file.anonymous(), Anonymous::Allow(roles) if *roles == ["CLIENT".into()]));
        assert!(matches!(PrincipalsFile::parse("").unwrap().anonymous(), Anonymous::Deny));
        assert!(matches!(PrincipalsFile::parse("ABSTAIN anonymous connections").unwrap().anonymous(), Anonymous::Abstain));
    }

    #[test]
    fn what_is_no_statement_is_refused_with_its_place() {
        let refused = |text: &str| PrincipalsFile::parse(text).unwrap_err().to_string();
        assert_eq!(refused("\nremove principal 'a'"), "line 2, column 1: found `remove`, expected `add`, `allow`, `deny` or `abstain`");
        assert_eq!(refused("add principal ann"), "line 1, column 15: found `ann`, expected the principal's name in quotation marks");
        assert_eq!(refused("add principal 'a' 'secret'"), "line 1, column 19: found '\\'', expected `hash`");
        assert_eq!(
            refused("add principal 'a' hash 'secret'"),
            "line 1, column 24: found another text, expected a hash of Argon2id, as `tidewire principal` prints it"
        );
        assert_eq!(
            refused(&format!("add principal 'a' hash '{HASH}' ['r' 's']")).split(": ").nth(1),
            Some("found '\\'', expected `,` or `]`")
        );
        let twice = format!("add principal 'a' hash '{HASH}'\n").repeat(2);
        assert_eq!(refused(&twice), "line 2, column 15: found a name that is empty, or stands before, expected a name of its own");
        assert_eq!(refused("deny anonymous connections now"), "line 1, column 28: found `now`, expected the end of the line");
    }
}
