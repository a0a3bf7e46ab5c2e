//! One regex of a selector: its syntax, its refusals and its cheap cases.
//!
//! The syntax is that of the `regex` crate, with `.` matching every character. What only Java's regexes have is refused
//! by name rather than read as something else.

use regex::{Regex, RegexBuilder};
use regex_syntax::ast::parse::ParserBuilder;
use regex_syntax::ast::{self, Ast, RepetitionKind};
use regex_syntax::hir::translate::TranslatorBuilder;
use regex_syntax::hir::{Dot, Hir, HirKind};

use super::{SelectorError, brief};
use crate::topic::path;

/// Groups and classes within each other.
const NEST_MAX: u32 = 64;

/// What means something in a regex outside brackets.
const METACHARACTERS: [char; 14] = ['\\', '.', '+', '*', '?', '(', ')', '|', '[', ']', '{', '}', '^', '$'];

/// What a pattern has to match as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Segment,
    Path,
}

impl Scope {
    pub fn expected(self) -> &'static str {
        match self {
            Self::Segment => "a regex for the level (at most two slashes may end the selector)",
            Self::Path => "a regex for the whole path",
        }
    }
}

pub enum Pattern {
    /// No regex is needed to compare text.
    Text(Box<str>),
    /// Matches whatever there is.
    Any,
    Regex {
        regex: Regex,
        /// What every match starts with.
        lead: Box<str>,
    },
}

impl Pattern {
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Text(literal) => text == &**literal,
            Self::Any => true,
            Self::Regex { regex, .. } => regex.is_match(text),
        }
    }

    /// The deepest branch that holds every path it matches.
    pub fn branch(&self) -> &str {
        let (lead, whole) = match self {
            Self::Text(text) => (&**text, true),
            Self::Any => ("", true),
            Self::Regex { lead, .. } => (&**lead, false),
        };
        let branch = if whole { lead } else { lead.rfind('/').map_or("", |end| &lead[..end]) };
        // A regex may ask for what no path has, such as an empty segment; the branch is a path or the root all the same.
        match path::check_form(branch) {
            Ok(()) => branch,
            Err(_) => "",
        }
    }
}

/// Parses and compiles `text`. The error's position is the byte offset in `text`.
pub fn parse(text: &str, scope: Scope, regex_bytes_max: usize) -> Result<Pattern, SelectorError> {
    // Most levels are plain words: no need to ask the regex parser.
    if !text.contains(METACHARACTERS) {
        return Ok(Pattern::Text(text.into()));
    }
    let ast = ParserBuilder::new()
        .nest_limit(NEST_MAX)
        .build()
        .parse(text)
        .map_err(|error| syntax_error(text, scope, error.kind(), error.span()))?;
    ast::visit(&ast, RefuseStackedQuantifiers)?;
    let hir = TranslatorBuilder::new().dot_matches_new_line(true).build().translate(text, &ast).map_err(|error| {
        let span = error.span();
        SelectorError {
            position: span.start.offset,
            found: format!("`{}` ({})", brief(&text[span.start.offset..span.end.offset]), error.kind()),
            expected: "a class that the regex crate knows".into(),
        }
    })?;
    if let Some(literal) = literal(&hir) {
        return Ok(Pattern::Text(literal.into()));
    }
    if is_any(&hir) {
        return Ok(Pattern::Any);
    }
    let lead = lead(&hir).into();
    let regex = compile(text, regex_bytes_max)?;
    Ok(Pattern::Regex { regex, lead })
}

/// Matches only from start to end, and caps what compiling and matching may cost.
fn compile(text: &str, regex_bytes_max: usize) -> Result<Regex, SelectorError> {
    RegexBuilder::new(&format!(r"\A(?:{text})\z"))
        .dot_matches_new_line(true)
        .nest_limit(NEST_MAX + 4)
        .size_limit(regex_bytes_max)
        .dfa_size_limit(regex_bytes_max)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => SelectorError {
                position: 0,
                found: format!("the regex `{}`, too big when compiled", brief(text)),
                expected: format!("one of at most {regex_bytes_max} bytes (fewer or smaller repetitions; [0-9] is smaller than \\d)"),
            },
            _ => SelectorError {
                position: 0,
                found: format!("the regex `{}`", brief(text)),
                expected: "one whose comments end at a line break".into(),
            },
        })
}

fn literal(hir: &Hir) -> Option<&str> {
    match hir.kind() {
        HirKind::Literal(literal) => std::str::from_utf8(&literal.0).ok(),
        HirKind::Capture(capture) => literal(&capture.sub),
        _ => None,
    }
}

/// Whether it matches every segment or path. None is empty, so `.+` is as good as `.*`.
fn is_any(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Capture(capture) => is_any(&capture.sub),
        HirKind::Repetition(repetition) => repetition.min <= 1 && repetition.max.is_none() && *repetition.sub == Hir::dot(Dot::AnyChar),
        _ => false,
    }
}

/// The text that every match starts with, as far as it is plain to see.
fn lead(hir: &Hir) -> &str {
    let HirKind::Concat(parts) = hir.kind() else { return "" };
    parts
        .iter()
        // Anchors take no characters.
        .find(|part| !matches!(part.kind(), HirKind::Look(_)))
        .and_then(literal)
        .unwrap_or_default()
}

/// `a*+` is possessive in Java and would be a plain `(?:a*)+` here, which matches other paths.
struct RefuseStackedQuantifiers;

impl ast::Visitor for RefuseStackedQuantifiers {
    type Output = ();
    type Err = SelectorError;

    fn finish(self) -> Result<(), SelectorError> {
        Ok(())
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), SelectorError> {
        let Ast::Repetition(outer) = ast else { return Ok(()) };
        if !matches!(*outer.ast, Ast::Repetition(_)) {
            return Ok(());
        }
        let possessive = matches!(outer.op.kind, RepetitionKind::OneOrMore) && outer.greedy;
        Err(SelectorError {
            position: outer.op.span.start.offset,
            found: if possessive { "a possessive quantifier" } else { "a quantifier behind a quantifier" }.into(),
            expected: "one quantifier (a group `(?:…)` may be repeated again)".into(),
        })
    }
}

fn syntax_error(text: &str, scope: Scope, kind: &ast::ErrorKind, span: &ast::Span) -> SelectorError {
    use ast::ErrorKind as E;
    let (start, end) = (span.start.offset, span.end.offset);
    let rest = &text[start..];
    let quoted = brief(&text[start..end]);
    let error = |found: String, expected: &str| SelectorError { position: start, found, expected: expected.into() };
    match kind {
        E::UnsupportedLookAround => error(format!("the look-around `{quoted}`"), "a regex without look-around"),
        E::UnsupportedBackreference => error(format!("the back-reference `{quoted}`"), "a regex without back-references"),
        E::EscapeUnrecognized if rest.starts_with(r"\Q") || rest.starts_with(r"\E") => {
            error(format!("the quotation `{quoted}`"), r"each metacharacter escaped by its own `\`")
        }
        E::EscapeUnrecognized if rest.starts_with(r"\k") => {
            error(format!("the back-reference `{quoted}`"), "a regex without back-references")
        }
        E::FlagUnrecognized if text[..start].ends_with("(?") && rest.starts_with('>') => {
            error("the atomic group `(?>`".into(), "a plain group `(?:`")
        }
        _ => {
            let hint = match (scope, kind) {
                (Scope::Segment, E::ClassUnclosed | E::GroupUnclosed | E::GroupUnopened | E::EscapeUnexpectedEof) => {
                    " (a split-path is split at every '/', also within brackets; '*' takes a regex with '/')"
                }
                _ => "",
            };
            error(format!("`{}` ({kind})", if quoted.is_empty() { brief(text) } else { quoted }), &format!("a regex{hint}"))
        }
    }
}
