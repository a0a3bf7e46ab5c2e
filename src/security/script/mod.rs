//! The scripts that set roles and principals: one statement a line, `#` before a comment, blank lines.
//!
//! What both languages share: lines, lists, how a text is quoted, and errors that say where. Keywords have no case. Texts stand in `'` or `"`, with a backslash
//! before a quotation mark or a backslash; none goes over the end of a line.

pub mod principals;
pub mod security;

use std::fmt;

use super::permission::{Permission, Permissions};
use crate::topic::path::{TopicPath, check_form};
use crate::topic::syntax::{Cursor, SyntaxError, THE_END, print_quoted};

/// Names of roles, each once, in order.
pub type Names = Box<[Box<str>]>;

/// Why a text is not in its language: the fault of who wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptError {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    pub found: String,
    pub expected: String,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, found, expected } = self;
        write!(f, "line {line}, column {column}: found {found}, expected {expected}")
    }
}

impl std::error::Error for ScriptError {}

/// Reads a statement from each line that has one, by `parse`, with its line from 1.
fn parse_lines<S>(
    text: &str,
    text_bytes_max: usize,
    mut parse: impl FnMut(&mut Cursor<'_>) -> Result<S, SyntaxError>,
) -> Result<Vec<(usize, S)>, ScriptError> {
    if text.len() > text_bytes_max {
        let found = format!("a script of {} bytes", text.len());
        return Err(ScriptError { line: 1, column: 1, found, expected: format!("at most {text_bytes_max}") });
    }
    let mut statements = Vec::new();
    for (index, line) in text.split('\n').enumerate() {
        let mut cursor = Cursor::new(line);
        if is_at_end(&cursor) {
            continue;
        }
        let statement = parse(&mut cursor).map_err(|error| locate(index + 1, line, error))?;
        statements.push((index + 1, statement));
    }
    Ok(statements)
}

fn locate(line: usize, text: &str, error: SyntaxError) -> ScriptError {
    let column = text[..error.position].chars().count() + 1;
    let found = if error.found == THE_END { "the end of the line".into() } else { error.found };
    ScriptError { line, column, found, expected: error.expected }
}

/// Whether nothing follows in this line but a comment.
fn is_at_end(cursor: &Cursor<'_>) -> bool {
    let rest = cursor.rest();
    rest.is_empty() || rest.starts_with('#')
}

fn expect_end(cursor: &Cursor<'_>) -> Result<(), SyntaxError> {
    if is_at_end(cursor) { Ok(()) } else { Err(cursor.error("the end of the line")) }
}

/// A quoted text of one character at least.
fn expect_name(cursor: &mut Cursor<'_>, expected: &str) -> Result<Box<str>, SyntaxError> {
    let position = cursor.position();
    let name = cursor.expect_quoted(expected)?.content();
    if name.is_empty() {
        return Err(SyntaxError { position, found: "an empty text".into(), expected: expected.into() });
    }
    Ok(name.into())
}

fn expect_path(cursor: &mut Cursor<'_>) -> Result<TopicPath, SyntaxError> {
    let quoted = cursor.expect_quoted("a path in quotation marks")?;
    let path = quoted.content();
    match check_form(&path) {
        Ok(()) => Ok(TopicPath::of_branch(&path)),
        Err(error) => {
            let position = quoted.position_of(error.position);
            Err(SyntaxError { position, found: format!("a path that is none ({error})"), expected: "segments joined by `/`".into() })
        }
    }
}

/// Reads `[`, elements by `element` with commas between, `]`.
fn expect_list<T>(
    cursor: &mut Cursor<'_>,
    mut element: impl FnMut(&mut Cursor<'_>) -> Result<T, SyntaxError>,
) -> Result<Vec<T>, SyntaxError> {
    cursor.take_symbol('[').ok_or_else(|| cursor.error("`[`"))?;
    let mut elements = Vec::new();
    if cursor.take_symbol(']').is_some() {
        return Ok(elements);
    }
    loop {
        elements.push(element(cursor)?);
        if cursor.take_symbol(']').is_some() {
            return Ok(elements);
        }
        cursor.take_symbol(',').ok_or_else(|| cursor.error("`,` or `]`"))?;
    }
}

fn expect_roles(cursor: &mut Cursor<'_>) -> Result<Names, SyntaxError> {
    let mut names = expect_list(cursor, |cursor| expect_name(cursor, "a role in quotation marks"))?;
    names.sort_unstable();
    names.dedup();
    Ok(names.into())
}

fn expect_permissions<P: Permission>(cursor: &mut Cursor<'_>, expected: &str) -> Result<Permissions<P>, SyntaxError> {
    let permission = |cursor: &mut Cursor<'_>| {
        let permission = P::parse(cursor.word()).ok_or_else(|| cursor.error(expected))?;
        cursor.take_word();
        Ok(permission)
    };
    Ok(expect_list(cursor, permission)?.into_iter().collect())
}

/// What `content` is written as.
pub(super) fn quoted(content: &str) -> String {
    let mut out = String::with_capacity(content.len() + 2);
    print_quoted(content, &mut out);
    out
}

/// What a list of names is written as.
pub(super) fn list(names: &[Box<str>]) -> String {
    let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
    format!("[{}]", names.join(", "))
}
