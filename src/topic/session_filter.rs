//! Session filters: which sessions are meant, by their properties, as in `$Principal is "bob" and not has Trial`.
//!
//! | clause | holds when |
//! |---|---|
//! | `key is "x"`, `key eq "x"` | the session has the property and it is exactly that |
//! | `key ne "x"` | it is not exactly that, or is not there |
//! | `key in ["x", "y"]` | the session has the property and it is one of these |
//! | `key matches "regex"` | the session has the property and the regex matches all of it |
//! | `has key` | the session has the property |
//! | `hasRoles ["a" "b"]` | the session has every one of these roles; brackets and commas may be left out |
//! | `all` | always |
//!
//! Clauses are joined by `and`, `or` and `not`, which bind in the order `not`, `and`, `or`, and by parentheses. Operators
//! have no case; keys and values do. Texts stand in `'` or `"`, with a backslash before a quotation mark or a backslash.
//! The property `$Roles` is a list of quoted roles; `is`, `ne` and `in` compare it as a set. Where the properties come
//! from is left to the caller.

pub(crate) mod pattern;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::expression::{Expression, deeper};
use super::syntax::{Cursor, SyntaxError, check_canonical_length, check_length, print_quoted};
use pattern::{Pattern, PatternParser};

/// The session's property that lists its roles.
pub const ROLES_KEY: &str = "$Roles";

/// Every bound a filter obeys. Together they bound what a client's filter costs in memory and in time to parse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionFilterLimits {
    /// The longest text.
    pub text_bytes_max: usize,
    /// The most clauses.
    pub clauses_max: usize,
    /// The most `not` and parentheses within each other.
    pub depth_max: usize,
    /// The most `matches` in one filter.
    pub regexes_max: usize,
    /// The largest compiled form of one regex, and of the cache that its matching may build.
    pub regex_bytes_max: usize,
    /// The most `\p{…}` in one filter: each may take a quarter of a millisecond to parse.
    pub unicode_classes_max: usize,
}

impl Default for SessionFilterLimits {
    fn default() -> Self {
        Self { text_bytes_max: 4096, clauses_max: 64, depth_max: 16, regexes_max: 8, regex_bytes_max: 256 * 1024, unicode_classes_max: 8 }
    }
}

/// A parsed filter; cheap to clone. Two are equal when their canonical texts are.
#[derive(Clone)]
pub struct SessionFilter(Arc<Inner>);

struct Inner {
    text: Box<str>,
    expression: Expression<Clause>,
}

enum Clause {
    All,
    Has(Box<str>),
    HasRoles(Box<[Box<str>]>),
    /// `is` and `in`: one of `values`, of which there is one at least.
    Is {
        key: Box<str>,
        values: Box<[Box<str>]>,
    },
    IsNot {
        key: Box<str>,
        value: Box<str>,
    },
    Matches {
        key: Box<str>,
        pattern: Pattern,
    },
    Not(Box<Expression<Clause>>),
}

impl SessionFilter {
    pub fn parse(text: &str, limits: SessionFilterLimits) -> Result<Self, SyntaxError> {
        check_length(text, "a session filter", limits.text_bytes_max)?;
        let mut cursor = Cursor::new(text);
        let mut parser = Parser { limits, clauses: 0, patterns: PatternParser::new(limits) };
        let expression = Expression::parse(&mut cursor, limits.depth_max, &mut |cursor, depth_left| parser.clause(cursor, depth_left))?;
        cursor.expect_end("`and`, `or` or the end of the text")?;
        let mut canonical = String::new();
        expression.print(&mut canonical, &Clause::print);
        check_canonical_length(text, &canonical, limits.text_bytes_max)?;
        Ok(Self(Arc::new(Inner { text: canonical.into(), expression })))
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// The values of the property of which a session needs one to be meant, where the filter says so.
    pub fn values_of(&self, wanted: &str) -> Option<&[Box<str>]> {
        self.0.expression.find_required(&|clause| match clause {
            Clause::Is { key, values } if **key == *wanted => Some(&**values),
            _ => None,
        })
    }

    /// Whether it means the session whose properties `lookup` knows.
    pub fn matches<'p>(&self, lookup: impl Fn(&str) -> Option<&'p str>) -> bool {
        self.0.expression.holds(&|clause| clause.holds(&lookup))
    }
}

impl Clause {
    fn holds<'p>(&self, lookup: &dyn Fn(&str) -> Option<&'p str>) -> bool {
        match self {
            Self::All => true,
            Self::Has(key) => lookup(key).is_some(),
            Self::HasRoles(wanted) => has_roles(lookup(ROLES_KEY).unwrap_or_default(), wanted),
            Self::Is { key, values } => lookup(key).is_some_and(|actual| values.iter().any(|value| is(key, value, actual))),
            Self::IsNot { key, value } => !lookup(key).is_some_and(|actual| is(key, value, actual)),
            Self::Matches { key, pattern } => lookup(key).is_some_and(|actual| pattern.matches(actual)),
            Self::Not(inner) => !inner.holds(&|clause| clause.holds(lookup)),
        }
    }

    fn print(&self, out: &mut String) {
        match self {
            Self::All => out.push_str("all"),
            Self::Has(key) => {
                out.push_str("has ");
                out.push_str(key);
            }
            Self::HasRoles(roles) => {
                out.push_str("hasRoles [");
                print_list(roles, " ", out);
                out.push(']');
            }
            Self::Is { key, values } if values.len() == 1 => print_comparison(key, " is ", &values[0], out),
            Self::Is { key, values } => {
                out.push_str(key);
                out.push_str(" in [");
                print_list(values, ", ", out);
                out.push(']');
            }
            Self::IsNot { key, value } => print_comparison(key, " ne ", value, out),
            Self::Matches { key, pattern } => print_comparison(key, " matches ", pattern.as_str(), out),
            Self::Not(inner) => {
                out.push_str("not ");
                inner.print_operand(out, &Self::print);
            }
        }
    }
}

fn print_comparison(key: &str, operator: &str, value: &str, out: &mut String) {
    out.push_str(key);
    out.push_str(operator);
    print_quoted(value, out);
}

fn print_list(texts: &[Box<str>], separator: &str, out: &mut String) {
    for (index, text) in texts.iter().enumerate() {
        out.push_str(if index > 0 { separator } else { "" });
        print_quoted(text, out);
    }
}

/// The roles that a value of `$Roles` lists. It ends at the first thing that is not a quoted role.
pub fn roles(value: &str) -> impl Iterator<Item = Cow<'_, str>> {
    let mut cursor = Cursor::new(value);
    std::iter::from_fn(move || next_role(&mut cursor))
}

fn next_role<'v>(cursor: &mut Cursor<'v>) -> Option<Cow<'v, str>> {
    // A comma is as good as the space that it may stand in for.
    let _ = cursor.take_symbol(',');
    cursor.expect_quoted("a role").ok().map(|quoted| quoted.content())
}

/// Roles as the property `$Roles` has them.
pub fn put_roles(roles: &[Box<str>]) -> String {
    let mut text = String::new();
    for role in roles {
        if !text.is_empty() {
            text.push(' ');
        }
        print_quoted(role, &mut text);
    }
    text
}

fn has_roles(value: &str, wanted: &[Box<str>]) -> bool {
    wanted.iter().all(|wanted| roles(value).any(|role| role == **wanted))
}

fn is(key: &str, wanted: &str, actual: &str) -> bool {
    wanted == actual || (key == ROLES_KEY && is_role_list(wanted) && is_role_list(actual) && is_same_set(wanted, actual))
}

fn is_role_list(value: &str) -> bool {
    let mut cursor = Cursor::new(value);
    while next_role(&mut cursor).is_some() {}
    cursor.expect_end("a role").is_ok()
}

fn is_same_set(a: &str, b: &str) -> bool {
    roles(a).all(|role| roles(b).any(|other| other == role)) && roles(b).all(|role| roles(a).any(|other| other == role))
}

struct Parser {
    limits: SessionFilterLimits,
    clauses: usize,
    patterns: PatternParser,
}

impl Parser {
    fn clause(&mut self, cursor: &mut Cursor<'_>, depth_left: usize) -> Result<Clause, SyntaxError> {
        let before = cursor.clone();
        if cursor.take_keyword("not").is_some() {
            let depth_left = deeper(&before, depth_left)?;
            let operand = Expression::parse_operand(cursor, depth_left, &mut |cursor, depth_left| self.clause(cursor, depth_left))?;
            return Ok(Clause::Not(Box::new(operand)));
        }
        self.clauses += 1;
        if self.clauses > self.limits.clauses_max {
            return Err(cursor.error(&format!("at most {} clauses", self.limits.clauses_max)));
        }
        if cursor.take_keyword("all").is_some() {
            return Ok(Clause::All);
        }
        if cursor.take_keyword("has").is_some() {
            return Ok(Clause::Has(key(cursor, "the key of a property")?));
        }
        if cursor.take_keyword("hasRoles").is_some() {
            return Ok(Clause::HasRoles(role_list(cursor)?));
        }
        if ["and", "or"].iter().any(|keyword| cursor.is_keyword(keyword)) {
            return Err(cursor.error(CLAUSE));
        }
        let key = key(cursor, CLAUSE)?;
        self.comparison(cursor, key)
    }

    fn comparison(&mut self, cursor: &mut Cursor<'_>, key: Box<str>) -> Result<Clause, SyntaxError> {
        if cursor.take_keyword("is").or_else(|| cursor.take_keyword("eq")).is_some() {
            return Ok(Clause::Is { key, values: [quoted(cursor, "a quoted value")?].into() });
        }
        if cursor.take_keyword("ne").is_some() {
            return Ok(Clause::IsNot { key, value: quoted(cursor, "a quoted value")? });
        }
        if cursor.take_keyword("in").is_some() {
            return Ok(Clause::Is { key, values: value_list(cursor)? });
        }
        if cursor.take_keyword("matches").is_some() {
            let quoted = cursor.expect_quoted("a quoted regex")?;
            let pattern = self.patterns.parse(&quoted.content()).map_err(|error| quoted.locate(error))?;
            return Ok(Clause::Matches { key, pattern });
        }
        Err(cursor.error("one of `is`, `eq`, `ne`, `in` or `matches`"))
    }
}

const CLAUSE: &str = "a clause: `key is \"…\"`, `has key`, `hasRoles [\"…\"]`, `all`, `not` or '('";

/// A fixed key starts with `$`, and both kinds go on with a letter.
fn key(cursor: &mut Cursor<'_>, expected: &str) -> Result<Box<str>, SyntaxError> {
    let word = cursor.word();
    if !word.strip_prefix('$').unwrap_or(word).starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Err(cursor.error(expected));
    }
    Ok(cursor.take_word().into())
}

fn quoted(cursor: &mut Cursor<'_>, expected: &str) -> Result<Box<str>, SyntaxError> {
    Ok(cursor.expect_quoted(expected)?.content().into())
}

fn value_list(cursor: &mut Cursor<'_>) -> Result<Box<[Box<str>]>, SyntaxError> {
    cursor.take_symbol('[').ok_or_else(|| cursor.error("'[' and quoted values"))?;
    let mut values = vec![quoted(cursor, "a quoted value")?];
    while cursor.take_symbol(',').is_some() {
        values.push(quoted(cursor, "a quoted value")?);
    }
    cursor.take_symbol(']').ok_or_else(|| cursor.error("',' or ']'"))?;
    Ok(values.into())
}

fn role_list(cursor: &mut Cursor<'_>) -> Result<Box<[Box<str>]>, SyntaxError> {
    let bracket = cursor.take_symbol('[');
    let mut roles = vec![quoted(cursor, "a quoted role")?];
    while cursor.take_symbol(',').is_some() || cursor.is_quoted() {
        roles.push(quoted(cursor, "a quoted role")?);
    }
    if bracket.is_some() {
        cursor.take_symbol(']').ok_or_else(|| cursor.error("a quoted role, ',' or ']'"))?;
    }
    Ok(roles.into())
}

impl PartialEq for SessionFilter {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for SessionFilter {}

impl Hash for SessionFilter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for SessionFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for SessionFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
