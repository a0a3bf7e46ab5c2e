//! The script of principals: who is known by which password, with which roles; anonymous sessions; what is believed of what clients propose.
//!
//! The grammar stands in `docs/security.md`. An error in a statement that may have a password shows nothing of what was written there.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::{Names, ScriptError, expect_end, expect_list, expect_name, expect_roles, is_at_end, parse_lines};
use crate::security::principals::{Anonymous, PrincipalLimits, Trusted};
use crate::security::secret::Secret;
use crate::topic::session_filter::SessionFilterLimits;
use crate::topic::session_filter::pattern::PatternParser;
use crate::topic::syntax::{Cursor, SyntaxError, THE_END};

/// The most `\p{…}` in the regexes of one script, and of a store, which prints as one: each may take a quarter of a millisecond to parse.
pub const UNICODE_CLASSES_MAX: usize = 64;

/// A parsed script. It has passwords, so it is not printed.
#[derive(Debug)]
pub struct PrincipalScript {
    statements: Vec<(usize, PrincipalStatement)>,
}

/// One statement. Who is added is not there yet; who is changed, is.
#[derive(Debug)]
pub enum PrincipalStatement {
    Add { principal: Box<str>, password: Password, roles: Names },
    Remove { principal: Box<str> },
    AssignRoles { principal: Box<str>, roles: Names },
    SetPassword { principal: Box<str>, password: Password },
    VerifyPassword { principal: Box<str>, password: Secret },
    Lock { principal: Box<str>, to: Box<str> },
    Unlock { principal: Box<str> },
    SetAnonymous(Anonymous),
    Trust { property: Box<str>, values: Trusted },
    Ignore { property: Box<str> },
}

pub enum Password {
    Plain(Secret),
    /// A PHC string, such as a printed script has.
    Hash(Arc<str>),
}

/// Shows neither.
impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Self::Plain(_)) { "Plain" } else { "Hash" })
    }
}

impl PrincipalScript {
    pub fn parse(text: &str, limits: PrincipalLimits) -> Result<Self, ScriptError> {
        let mut patterns = PatternParser::new(SessionFilterLimits {
            regexes_max: limits.properties_max,
            unicode_classes_max: UNICODE_CLASSES_MAX,
            ..SessionFilterLimits::default()
        });
        Ok(Self { statements: parse_lines(text, limits.text_bytes_max, |cursor| parse_statement(cursor, &mut patterns))? })
    }

    /// Each with its line, from 1.
    pub fn statements(&self) -> impl Iterator<Item = (usize, &PrincipalStatement)> {
        self.statements.iter().map(|(line, statement)| (*line, statement))
    }
}

impl PrincipalStatement {
    /// The principal that it changes.
    pub fn principal(&self) -> Option<&str> {
        match self {
            Self::Add { principal, .. }
            | Self::Remove { principal }
            | Self::AssignRoles { principal, .. }
            | Self::SetPassword { principal, .. }
            | Self::VerifyPassword { principal, .. }
            | Self::Lock { principal, .. }
            | Self::Unlock { principal } => Some(principal),
            Self::SetAnonymous(_) | Self::Trust { .. } | Self::Ignore { .. } => None,
        }
    }

    /// Whether to apply it is to hash a password.
    pub fn has_password(&self) -> bool {
        match self {
            Self::Add { password, .. } | Self::SetPassword { password, .. } => matches!(password, Password::Plain(_)),
            Self::VerifyPassword { .. } => true,
            _ => false,
        }
    }
}

fn parse_statement(cursor: &mut Cursor<'_>, patterns: &mut PatternParser) -> Result<PrincipalStatement, SyntaxError> {
    if ["add", "set", "verify"].iter().any(|keyword| cursor.is_keyword(keyword)) {
        return parse_with_password(cursor).map_err(conceal);
    }
    let statement = if cursor.take_keyword("remove").is_some() {
        PrincipalStatement::Remove { principal: expect_principal(cursor)? }
    } else if cursor.take_keyword("assign").is_some() {
        cursor.expect_keywords(&["roles"])?;
        PrincipalStatement::AssignRoles { principal: expect_principal_name(cursor)?, roles: expect_roles(cursor)? }
    } else if cursor.take_keyword("lock").is_some() {
        let principal = expect_principal(cursor)?;
        cursor.expect_keywords(&["to"])?;
        PrincipalStatement::Lock { principal, to: expect_principal(cursor)? }
    } else if cursor.take_keyword("unlock").is_some() {
        PrincipalStatement::Unlock { principal: expect_principal(cursor)? }
    } else if cursor.take_keyword("allow").is_some() {
        cursor.expect_keywords(&["anonymous", "connections"])?;
        PrincipalStatement::SetAnonymous(Anonymous::Allow(optional_roles(cursor)?))
    } else if cursor.take_keyword("deny").is_some() {
        cursor.expect_keywords(&["anonymous", "connections"])?;
        PrincipalStatement::SetAnonymous(Anonymous::Deny)
    } else if cursor.take_keyword("abstain").is_some() {
        cursor.expect_keywords(&["anonymous", "connections"])?;
        PrincipalStatement::SetAnonymous(Anonymous::Abstain)
    } else if cursor.take_keyword("trust").is_some() {
        let property = expect_property(cursor)?;
        PrincipalStatement::Trust { property, values: parse_trusted(cursor, patterns)? }
    } else if cursor.take_keyword("ignore").is_some() {
        PrincipalStatement::Ignore { property: expect_property(cursor)? }
    } else {
        return Err(
            cursor.error("`add`, `remove`, `assign`, `set`, `verify`, `lock`, `unlock`, `allow`, `deny`, `abstain`, `trust` or `ignore`")
        );
    };
    expect_end(cursor)?;
    Ok(statement)
}

fn parse_with_password(cursor: &mut Cursor<'_>) -> Result<PrincipalStatement, SyntaxError> {
    let statement = if cursor.take_keyword("add").is_some() {
        let principal = expect_principal(cursor)?;
        let password = expect_password(cursor)?;
        PrincipalStatement::Add { principal, password, roles: optional_roles(cursor)? }
    } else if cursor.take_keyword("set").is_some() {
        cursor.expect_keywords(&["password"])?;
        PrincipalStatement::SetPassword { principal: expect_principal_name(cursor)?, password: expect_password(cursor)? }
    } else {
        cursor.expect_keywords(&["verify", "password"])?;
        let principal = expect_principal_name(cursor)?;
        PrincipalStatement::VerifyPassword { principal, password: expect_secret(cursor, "a password in quotation marks")? }
    };
    expect_end(cursor)?;
    Ok(statement)
}

/// Takes from an error what was found, which may be a password or a part of one.
fn conceal(error: SyntaxError) -> SyntaxError {
    if error.found == THE_END { error } else { SyntaxError { found: "something else".into(), ..error } }
}

fn expect_principal(cursor: &mut Cursor<'_>) -> Result<Box<str>, SyntaxError> {
    cursor.expect_keywords(&["principal"])?;
    expect_principal_name(cursor)
}

/// An empty name is that of anonymous sessions.
fn expect_principal_name(cursor: &mut Cursor<'_>) -> Result<Box<str>, SyntaxError> {
    expect_name(cursor, "a principal in quotation marks")
}

fn optional_roles(cursor: &mut Cursor<'_>) -> Result<Names, SyntaxError> {
    if is_at_end(cursor) { Ok(Names::default()) } else { expect_roles(cursor) }
}

fn expect_password(cursor: &mut Cursor<'_>) -> Result<Password, SyntaxError> {
    if cursor.take_keyword("hash").is_none() {
        return Ok(Password::Plain(expect_secret(cursor, "a password in quotation marks, or `hash` and one")?));
    }
    let expected = "a hash in quotation marks, as `$argon2id$…`";
    let position = cursor.position();
    let hash = expect_name(cursor, expected)?;
    // A password that is taken for a hash would be printed.
    if !hash.starts_with('$') {
        return Err(SyntaxError { position, found: "something else".into(), expected: expected.into() });
    }
    Ok(Password::Hash(hash.into()))
}

fn expect_secret(cursor: &mut Cursor<'_>, expected: &str) -> Result<Secret, SyntaxError> {
    let position = cursor.position();
    // Every copy that is made here is wiped.
    let secret = match cursor.expect_quoted(expected)?.content() {
        Cow::Borrowed(text) => Secret::new(text.as_bytes()),
        Cow::Owned(text) => Secret::new(Zeroizing::new(text).as_bytes()),
    };
    if secret.bytes().is_empty() {
        return Err(SyntaxError { position, found: "an empty text".into(), expected: expected.into() });
    }
    Ok(secret)
}

/// What begins with `$` is the server's to say.
fn expect_property(cursor: &mut Cursor<'_>) -> Result<Box<str>, SyntaxError> {
    cursor.expect_keywords(&["client", "proposed", "property"])?;
    let expected = "a property in quotation marks that begins with a letter";
    let position = cursor.position();
    let property = expect_name(cursor, expected)?;
    if property.starts_with(char::is_alphabetic) {
        return Ok(property);
    }
    let found = if property.starts_with('$') { "a property that the server sets" } else { "another beginning" };
    Err(SyntaxError { position, found: found.into(), expected: expected.into() })
}

fn parse_trusted(cursor: &mut Cursor<'_>, patterns: &mut PatternParser) -> Result<Trusted, SyntaxError> {
    cursor.expect_keywords(&["if", "value"])?;
    if cursor.take_keyword("in").is_some() {
        let value = |cursor: &mut Cursor<'_>| Ok(Box::from(&*cursor.expect_quoted("a value in quotation marks")?.content()));
        let mut values = expect_list(cursor, value)?;
        values.sort_unstable();
        values.dedup();
        return Ok(Trusted::OneOf(values.into()));
    }
    cursor.take_keyword("matches").ok_or_else(|| cursor.error("`in` or `matches`"))?;
    let quoted = cursor.expect_quoted("a regex in quotation marks")?;
    let pattern = patterns.parse(&quoted.content()).map_err(|error| quoted.locate(error))?;
    Ok(Trusted::Matching(Arc::new(pattern)))
}
