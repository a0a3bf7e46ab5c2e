//! The regexes of a session filter, and of other texts that compare with values of any length.
//!
//! The syntax is that of the `regex` crate: linear time, no look-around, no back-references. As in Java, a regex matches the
//! whole value, and `\d`, `\w` and `\s` mean ASCII, which also keeps them small. `.` matches every character.

use regex::{Regex, RegexBuilder};
use regex_syntax::ast::parse::ParserBuilder;

use super::SessionFilterLimits;
use crate::topic::regex_cost::{FOLDED_CHARACTERS_MAX, check_folding};
use crate::topic::syntax::{SyntaxError, brief};

/// Groups and classes within each other.
const NEST_MAX: u32 = 32;

pub struct Pattern {
    text: Box<str>,
    regex: Regex,
}

impl Pattern {
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn matches(&self, value: &str) -> bool {
        self.regex.is_match(value)
    }

    /// How many `\p` and `\P` it has, which its text's limit counts.
    pub fn unicode_classes(&self) -> usize {
        escapes(&self.text).filter(|(_, class)| matches!(class, 'p' | 'P')).count()
    }

    /// Matches only what it matches as a whole.
    pub fn into_regex(self) -> Regex {
        self.regex
    }
}

/// Parses the regexes of one text and counts what they cost together.
pub struct PatternParser {
    limits: SessionFilterLimits,
    regexes: usize,
    unicode_classes: usize,
}

impl PatternParser {
    pub fn new(limits: SessionFilterLimits) -> Self {
        Self { limits, regexes: 0, unicode_classes: 0 }
    }

    /// The error's position is the byte offset in `text`.
    pub fn parse(&mut self, text: &str) -> Result<Pattern, SyntaxError> {
        self.count(text)?;
        // Alone first, so that no parenthesis in it closes the group that it is put in below.
        let ast = ParserBuilder::new().nest_limit(NEST_MAX).build().parse(text).map_err(|error| SyntaxError {
            position: error.span().start.offset,
            found: format!("`{}` ({})", brief(text), error.kind()),
            expected: "a regex".into(),
        })?;
        check_folding(&ast).map_err(|position| SyntaxError {
            position,
            found: format!("ranges of more than {FOLDED_CHARACTERS_MAX} characters in a regex with `(?i)`"),
            expected: "smaller ranges".into(),
        })?;
        // A comment that no line break ends swallows the closing parenthesis, which the compiler then misses.
        let whole = format!(r"\A(?:{})\z", with_ascii_classes(text));
        let regex = RegexBuilder::new(&whole)
            .dot_matches_new_line(true)
            .nest_limit(NEST_MAX + 8)
            .size_limit(self.limits.regex_bytes_max)
            .dfa_size_limit(self.limits.regex_bytes_max)
            .build()
            .map_err(|error| self.refusal(text, &error))?;
        Ok(Pattern { text: text.into(), regex })
    }

    fn count(&mut self, text: &str) -> Result<(), SyntaxError> {
        let at_most = |position, what, count_max| {
            let found = format!("more than {count_max} {what}");
            Err(SyntaxError { position, found, expected: "at most that many in a text".into() })
        };
        self.regexes += 1;
        if self.regexes > self.limits.regexes_max {
            return at_most(0, "regexes", self.limits.regexes_max);
        }
        for (position, class) in escapes(text) {
            self.unicode_classes += usize::from(matches!(class, 'p' | 'P'));
            if self.unicode_classes > self.limits.unicode_classes_max {
                return at_most(position, r"Unicode classes `\p`", self.limits.unicode_classes_max);
            }
        }
        Ok(())
    }

    fn refusal(&self, text: &str, error: &regex::Error) -> SyntaxError {
        let (found, expected) = match error {
            regex::Error::CompiledTooBig(_) => (
                format!("the regex `{}`, too big when compiled", brief(text)),
                format!("one of at most {} bytes", self.limits.regex_bytes_max),
            ),
            _ => (format!("the regex `{}`", brief(text)), "one whose classes the regex crate knows and whose comments end".into()),
        };
        SyntaxError { position: 0, found, expected }
    }
}

/// Every escaped character, and where its backslash stands.
fn escapes(text: &str) -> impl Iterator<Item = (usize, char)> {
    let mut rest = text.char_indices();
    std::iter::from_fn(move || {
        let (position, _) = rest.find(|(_, c)| *c == '\\')?;
        rest.next().map(|(_, c)| (position, c))
    })
}

/// A bracketed class may stand in another, so each stands for its letter everywhere.
fn with_ascii_classes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for (position, letter) in escapes(text) {
        let class = match letter {
            'd' => "[0-9]",
            'D' => "[^0-9]",
            's' => r"[\t\n\x0B\f\r\x20]",
            'S' => r"[^\t\n\x0B\f\r\x20]",
            'w' => "[0-9A-Z_a-z]",
            'W' => "[^0-9A-Z_a-z]",
            _ => continue,
        };
        out.push_str(&text[done..position]);
        out.push_str(class);
        done = position + 2;
    }
    out.push_str(&text[done..]);
    out
}
