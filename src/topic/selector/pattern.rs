//! One regex of a selector: its syntax, its refusals and its cheap cases.
//!
//! The syntax is that of the `regex` crate. As in Java, `\d`, `\w` and `\s` mean ASCII, which also keeps them small; `.`
//! matches every character, so that `.*` is everything. What only Java's regexes have is refused by name rather than
//! read as something else.

use regex::{Regex, RegexBuilder};
use regex_syntax::ast::parse::ParserBuilder;
use regex_syntax::ast::{self, Ast, ClassPerl, ClassPerlKind, ClassSetItem, RepetitionKind, Span};
use regex_syntax::hir::translate::TranslatorBuilder;
use regex_syntax::hir::{self, Dot, Hir, HirKind};

use super::{SelectorError, SelectorLimits, brief};
use crate::topic::path;
use crate::topic::regex_cost::{FOLDED_CHARACTERS_MAX, check_folding};

/// Groups and classes within each other.
const NEST_MAX: u32 = 64;

/// What means something in a regex outside brackets.
pub(in crate::topic) const METACHARACTERS: [char; 14] = ['\\', '.', '+', '*', '?', '(', ')', '|', '[', ']', '{', '}', '^', '$'];

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
    Regex(Box<Compiled>),
}

/// See [`Pattern`].
pub struct Compiled {
    regex: Regex,
    /// What every match starts with.
    lead: Box<str>,
}

impl Pattern {
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Text(literal) => text == &**literal,
            Self::Any => true,
            Self::Regex(compiled) => compiled.regex.is_match(text),
        }
    }

    /// The deepest branch that holds every path it matches.
    pub fn branch(&self) -> &str {
        let (lead, whole) = match self {
            Self::Text(text) => (&**text, true),
            Self::Any => ("", true),
            Self::Regex(compiled) => (&*compiled.lead, false),
        };
        let branch = if whole { lead } else { lead.rfind('/').map_or("", |end| &lead[..end]) };
        // A regex may ask for what no path has, such as an empty segment; the branch is a path or the root all the same.
        match path::check_form(branch) {
            Ok(()) => branch,
            Err(_) => "",
        }
    }
}

/// Parses the patterns of one selector and counts what they cost together.
pub struct PatternParser {
    limits: SelectorLimits,
    regexes: usize,
    unicode_classes: usize,
}

impl PatternParser {
    pub fn new(limits: SelectorLimits) -> Self {
        Self { limits, regexes: 0, unicode_classes: 0 }
    }

    /// Parses and compiles `text`. The error's position is the byte offset in `text`.
    pub fn parse(&mut self, text: &str, scope: Scope) -> Result<Pattern, SelectorError> {
        // Most levels are plain words: no need to ask the regex parser.
        if !text.contains(METACHARACTERS) {
            return Ok(Pattern::Text(text.into()));
        }
        let ast = parse_syntax(text, scope, NEST_MAX)?;
        check_folding(&ast).map_err(|position| SelectorError {
            position,
            found: format!("ranges of more than {FOLDED_CHARACTERS_MAX} characters in a regex with `(?i)`"),
            expected: "smaller ranges".into(),
        })?;
        let classes = ast::visit(&ast, ClassFinder::default())?;
        self.unicode_classes += classes.unicode.len();
        if self.unicode_classes > self.limits.unicode_classes_max {
            let found = classes.unicode[classes.unicode.len() - 1];
            return Err(at_most(found.start.offset, "Unicode classes `\\p`", self.limits.unicode_classes_max));
        }
        let ascii_text = with_ascii(text, &classes.perl);
        // A bracketed class nests one deeper than the letter that it stands for.
        let ast = parse_syntax(&ascii_text, scope, NEST_MAX + 1)?;
        let hir = TranslatorBuilder::new()
            .dot_matches_new_line(true)
            .build()
            .translate(&ascii_text, &ast)
            .map_err(|error| translation_error(text, &classes.perl, &error))?;
        if let Some(literal) = literal(&hir) {
            return Ok(Pattern::Text(literal.into()));
        }
        if is_any(&hir) {
            return Ok(Pattern::Any);
        }
        self.regexes += 1;
        if self.regexes > self.limits.regexes_max {
            return Err(at_most(0, "regexes", self.limits.regexes_max));
        }
        let regex = compile(text, &ascii_text, self.limits.regex_bytes_max)?;
        Ok(Pattern::Regex(Box::new(Compiled { regex, lead: lead(&hir).into() })))
    }
}

fn at_most(position: usize, what: &str, count_max: usize) -> SelectorError {
    SelectorError { position, found: format!("more than {count_max} {what}"), expected: "at most that many in a selector".into() }
}

fn parse_syntax(text: &str, scope: Scope, nest_max: u32) -> Result<Ast, SelectorError> {
    let result = ParserBuilder::new().nest_limit(nest_max).build().parse(text);
    result.map_err(|error| syntax_error(text, scope, error.kind(), error.span()))
}

/// Matches only from start to end, and caps what compiling and matching may cost.
fn compile(text: &str, ascii_text: &str, regex_bytes_max: usize) -> Result<Regex, SelectorError> {
    RegexBuilder::new(&format!(r"\A(?:{ascii_text})\z"))
        .dot_matches_new_line(true)
        .nest_limit(NEST_MAX + 8)
        .size_limit(regex_bytes_max)
        .dfa_size_limit(regex_bytes_max)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => SelectorError {
                position: 0,
                found: format!("the regex `{}`, too big when compiled", brief(text)),
                expected: format!("one of at most {regex_bytes_max} bytes (fewer or smaller repetitions; a-z is smaller than \\pL)"),
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

/// Replaces each of `classes` by the ASCII one of the same name. A bracketed class may stand in another.
fn with_ascii(text: &str, classes: &[ClassPerl]) -> String {
    let mut ascii_text = String::with_capacity(text.len());
    let mut done = 0;
    for class in classes {
        ascii_text.push_str(&text[done..class.span.start.offset]);
        ascii_text.push_str(ascii_class(class));
        done = class.span.end.offset;
    }
    ascii_text.push_str(&text[done..]);
    ascii_text
}

fn ascii_class(class: &ClassPerl) -> &'static str {
    match (&class.kind, class.negated) {
        (ClassPerlKind::Digit, false) => "[0-9]",
        (ClassPerlKind::Digit, true) => "[^0-9]",
        (ClassPerlKind::Space, false) => r"[\t\n\x0B\f\r\x20]",
        (ClassPerlKind::Space, true) => r"[^\t\n\x0B\f\r\x20]",
        (ClassPerlKind::Word, false) => "[0-9A-Z_a-z]",
        (ClassPerlKind::Word, true) => "[^0-9A-Z_a-z]",
    }
}

/// Where in the text as written the place `offset` of [`with_ascii`]'s text is.
fn offset_as_written(offset: usize, classes: &[ClassPerl]) -> usize {
    let mut longer = 0;
    for class in classes.iter().take_while(|class| class.span.start.offset < offset) {
        if class.span.start.offset + longer < offset {
            longer += ascii_class(class).len() - (class.span.end.offset - class.span.start.offset);
        }
    }
    offset - longer
}

/// The classes of a regex that need care, in order.
#[derive(Default)]
struct Classes {
    /// `\d` and its like.
    perl: Vec<ClassPerl>,
    /// `\p{…}`.
    unicode: Vec<Span>,
}

/// Finds the classes, and refuses stacked quantifiers: `a*+` is possessive in Java and would be a plain `(?:a*)+` here,
/// which matches other paths.
#[derive(Default)]
struct ClassFinder(Classes);

impl ast::Visitor for ClassFinder {
    type Output = Classes;
    type Err = SelectorError;

    fn finish(self) -> Result<Classes, SelectorError> {
        Ok(self.0)
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), SelectorError> {
        match item {
            ClassSetItem::Perl(class) => self.0.perl.push(class.clone()),
            ClassSetItem::Unicode(class) => self.0.unicode.push(class.span),
            _ => {}
        }
        Ok(())
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), SelectorError> {
        match ast {
            Ast::ClassPerl(class) => self.0.perl.push(ClassPerl::clone(class)),
            Ast::ClassUnicode(class) => self.0.unicode.push(class.span),
            Ast::Repetition(outer) if matches!(*outer.ast, Ast::Repetition(_)) => {
                let possessive = matches!(outer.op.kind, RepetitionKind::OneOrMore) && outer.greedy;
                return Err(SelectorError {
                    position: outer.op.span.start.offset,
                    found: if possessive { "a possessive quantifier" } else { "a quantifier behind a quantifier" }.into(),
                    expected: "one quantifier (a group `(?:…)` may be repeated again)".into(),
                });
            }
            _ => {}
        }
        Ok(())
    }
}

fn translation_error(text: &str, perl_classes: &[ClassPerl], error: &hir::Error) -> SelectorError {
    let start = offset_as_written(error.span().start.offset, perl_classes);
    let end = offset_as_written(error.span().end.offset, perl_classes);
    SelectorError {
        position: start,
        found: format!("`{}` ({})", brief(&text[start..end]), error.kind()),
        expected: "a class that the regex crate knows".into(),
    }
}

fn syntax_error(text: &str, scope: Scope, kind: &ast::ErrorKind, span: &Span) -> SelectorError {
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
