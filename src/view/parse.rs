//! The language of topic views: text → [`Definition`].
//!
//! `grammar.ebnf` beside this file is the grammar, and a test makes sentences from it. White space is free between tokens,
//! keywords have no case, there are no comments. A text in `'` or `"` may stand for every token that otherwise ends at
//! white space; a backslash in it takes away the meaning of a quotation mark or a backslash, and is plain before anything
//! else. What a text in quotation marks says is read by the rules of its own place, and an error in it has its place in the
//! whole text.
//!
//! Any text gives a definition or an error, in time and memory that grow with its length, and at most [`ViewLimits`] allow.
//! What a definition means is left to `evaluate`.

mod calculation;
mod condition;
mod options;
mod path;
mod process;
#[cfg(test)]
mod tests;
mod token;

use std::fmt;

use super::definition::{Definition, Insert, Transformation};
use crate::topic::selector::{Selector, SelectorLimits};
use crate::topic::session_filter::SessionFilterLimits;
use crate::topic::session_filter::pattern::PatternParser;
use crate::topic::specification::SpecificationLimits;
use crate::topic::syntax::{Cursor, SyntaxError, check_length};
use crate::value::json::JsonLimits;
use crate::value::patch::{Patch, PatchLimits};
use options::Options;
use path::PathPlace;

/// Every bound a view's text obeys. Together they bound what a view costs to parse, to keep and to walk through.
///
/// The longest text and the selector's bounds are the server's; the others are part of the language, the same on every server: a view that is
/// kept is read again, and tools check it without a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ViewLimits {
    /// The longest text.
    pub text_bytes_max: usize,
    /// The most `process`, `patch` and `insert`.
    pub transformations_max: usize,
    /// The most `set`, `remove`, `continue` and `if` in one view.
    pub statements_max: usize,
    /// The most blocks, and the most `not`, signs and parentheses of one condition or calculation, within each other.
    pub depth_max: usize,
    /// The most comparisons of one condition, and the most signs and operators of one calculation.
    pub operations_max: usize,
    /// The most regexes in one view's conditions.
    pub regexes_max: usize,
    /// The longest of those.
    pub regex_text_bytes_max: usize,
    /// The largest compiled form of one, and of the cache that its matching may build.
    pub regex_bytes_max: usize,
    /// The most `\p{…}` in those: each may take a quarter of a millisecond to parse.
    pub unicode_classes_max: usize,
    /// The most directives, and texts between them, in one path.
    pub path_parts_max: usize,
    /// The longest period of `throttle` and `delay`.
    pub period_days_max: u64,
    /// Of constants that are arrays or objects.
    pub json: JsonLimits,
    pub selector: SelectorLimits,
    pub patch: PatchLimits,
    pub properties: SpecificationLimits,
}

impl Default for ViewLimits {
    fn default() -> Self {
        Self {
            text_bytes_max: 64 * 1024,
            transformations_max: 32,
            statements_max: 512,
            depth_max: 32,
            operations_max: 256,
            regexes_max: 8,
            regex_text_bytes_max: 1024,
            regex_bytes_max: 64 * 1024,
            unicode_classes_max: 8,
            path_parts_max: 64,
            period_days_max: 366,
            json: JsonLimits::default(),
            selector: SelectorLimits::default(),
            patch: PatchLimits::default(),
            properties: SpecificationLimits::default(),
        }
    }
}

impl Definition {
    pub fn parse(text: &str, limits: &ViewLimits) -> Result<Self, ViewError> {
        check_length(text, "a topic view", limits.text_bytes_max)
            .and_then(|()| Parser::new(limits).view(&mut Cursor::new(text)))
            .map_err(|error| ViewError::new(text, error))
    }
}

/// Reads one view and counts what its parts cost together.
struct Parser<'l> {
    limits: &'l ViewLimits,
    statements: usize,
    patterns: PatternParser,
}

const TRANSFORMATIONS: [&str; 3] = ["process", "patch", "insert"];

impl<'l> Parser<'l> {
    fn new(limits: &'l ViewLimits) -> Self {
        let patterns = PatternParser::new(SessionFilterLimits {
            regexes_max: limits.regexes_max,
            regex_bytes_max: limits.regex_bytes_max,
            unicode_classes_max: limits.unicode_classes_max,
            ..SessionFilterLimits::default()
        });
        Self { limits, statements: 0, patterns }
    }

    fn view(&mut self, cursor: &mut Cursor<'_>) -> Result<Definition, SyntaxError> {
        cursor.expect_keywords(&["map"])?;
        let selector = self.selector(cursor)?;
        let remote = match cursor.take_keyword("from") {
            Some(()) => Some(token::name(cursor, "the name of a remote server")?),
            None => None,
        };
        let expected = if remote.is_some() { "`to`" } else { "`from` or `to`" };
        cursor.take_keyword("to").ok_or_else(|| cursor.error(expected))?;
        let path = self.path(cursor, PathPlace::View)?;
        let transformations = self.transformations(cursor)?;
        let options = self.options(cursor)?;
        let Options { value, throttle, delay_ms, topic_type, properties, preserves_topics, separator } = options;
        Ok(Definition {
            selector,
            remote,
            path,
            transformations,
            value,
            throttle,
            delay_ms,
            topic_type,
            properties: properties.unwrap_or_default(),
            preserves_topics: preserves_topics.is_some(),
            separator,
        })
    }

    fn selector(&self, cursor: &mut Cursor<'_>) -> Result<Selector, SyntaxError> {
        const SELECTOR: &str = "a topic selector";
        let parse = |text: &str| {
            Selector::parse(text, self.limits.selector).map_err(|error| SyntaxError {
                position: error.position,
                found: error.found,
                expected: error.expected,
            })
        };
        if cursor.is_quoted() {
            let quoted = cursor.expect_quoted(SELECTOR)?;
            return parse(&quoted.content()).map_err(|error| token::locate(quoted, error));
        }
        let position = cursor.position();
        let text = token::take_until(cursor, &[]);
        if text.is_empty() {
            return Err(cursor.error(SELECTOR));
        }
        parse(text).map_err(|error| token::shift(error, position))
    }

    fn transformations(&mut self, cursor: &mut Cursor<'_>) -> Result<Box<[Transformation]>, SyntaxError> {
        let mut transformations = Vec::new();
        while TRANSFORMATIONS.iter().any(|keyword| cursor.is_keyword(keyword)) {
            if transformations.len() == self.limits.transformations_max {
                return Err(cursor.error(&format!("at most {} transformations", self.limits.transformations_max)));
            }
            transformations.push(self.transformation(cursor)?);
        }
        Ok(transformations.into())
    }

    fn transformation(&mut self, cursor: &mut Cursor<'_>) -> Result<Transformation, SyntaxError> {
        if cursor.take_keyword("process").is_some() {
            return self.block(cursor, self.limits.depth_max).map(Transformation::Process);
        }
        if cursor.take_keyword("patch").is_some() {
            return self.patch(cursor).map(Transformation::Patch);
        }
        cursor.expect_keywords(&["insert"])?;
        self.insert(cursor).map(|insert| Transformation::Insert(Box::new(insert)))
    }

    fn patch(&self, cursor: &mut Cursor<'_>) -> Result<Patch, SyntaxError> {
        let parse = |text: &str| Patch::parse(text.as_bytes(), self.limits.patch).map_err(token::patch_error);
        if cursor.rest().starts_with('[') {
            let position = cursor.position();
            return parse(token::take_json(cursor)?).map_err(|error| token::shift(error, position));
        }
        let quoted = cursor.expect_quoted("a JSON patch (RFC 6902), in quotation marks or starting with '['")?;
        parse(&quoted.content()).map_err(|error| token::locate(quoted, error))
    }

    fn insert(&mut self, cursor: &mut Cursor<'_>) -> Result<Insert, SyntaxError> {
        let path = self.path(cursor, PathPlace::Insert)?;
        let key = match cursor.take_keyword("key") {
            Some(()) => Some(token::pointer(cursor, &[])?),
            None => None,
        };
        let expected = if key.is_some() { "`at`" } else { "`key` or `at`" };
        cursor.take_keyword("at").ok_or_else(|| cursor.error(expected))?;
        let at = token::pointer(cursor, &[])?;
        let default = match cursor.take_keyword("default") {
            Some(()) => Some(token::constant(cursor, self.limits.json)?.ok_or_else(|| cursor.error(token::CONSTANT))?),
            None => None,
        };
        Ok(Insert { path, key, at, default })
    }
}

/// Why a text is not a topic view: the client's fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewError {
    /// The byte offset in the text, at the start of a character.
    pub position: usize,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    pub found: String,
    pub expected: String,
}

impl ViewError {
    fn new(text: &str, error: SyntaxError) -> Self {
        let is_start = |position: &usize| text.is_char_boundary(*position);
        let position = (0..=error.position).rev().find(is_start).expect("the start of a text is that of a character");
        let before = &text[..position];
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        Self {
            position,
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            found: error.found,
            expected: error.expected,
        }
    }
}

impl fmt::Display for ViewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: found {}, expected {}", self.line, self.column, self.found, self.expected)
    }
}

impl std::error::Error for ViewError {}
