//! Topic selectors: which topics a client means.
//!
//! | first character | kind | what it selects |
//! |---|---|---|
//! | `>` | path | the topic at exactly that path; `>` may be left out where the path starts with none of `# ? > * $ % & <` |
//! | `?` | split-path | paths whose segments match, level by level, the regexes between the `/` |
//! | `*` | full-path | paths that one regex matches as a whole |
//! | `#` | set | whatever any of the selectors between `////` selects |
//!
//! A split-path or full-path that ends in `/` means the strict descendants of what it matches, in `//` both.
//! A regex matches in linear time and always a whole segment or path, so a selector cannot stall a core. Its `\d`, `\w`
//! and `\s` mean ASCII, its `.` every character.

pub(super) mod pattern;
#[cfg(test)]
mod tests;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::path::{self, PathErrorKind, is_within};
use pattern::{METACHARACTERS, Pattern, PatternParser, Scope};

/// Between the members of a set.
const SEPARATOR: &str = "////";

/// Every bound a selector obeys. Together they bound what a client's selector costs in memory and in time to parse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelectorLimits {
    /// The longest text.
    pub text_bytes_max: usize,
    /// The most members of a set.
    pub members_max: usize,
    /// The most regexes in one selector; levels of plain text and `.*` are free.
    pub regexes_max: usize,
    /// The largest compiled form of one regex, and of the cache that its matching may build.
    pub regex_bytes_max: usize,
    /// The most `\p{…}` in one selector: each may take a quarter of a millisecond to parse.
    pub unicode_classes_max: usize,
}

impl Default for SelectorLimits {
    fn default() -> Self {
        Self { text_bytes_max: 4096, members_max: 128, regexes_max: 32, regex_bytes_max: 256 * 1024, unicode_classes_max: 8 }
    }
}

/// A parsed selector; cheap to clone. Two are equal when their canonical texts are.
///
/// Its regexes keep their scratch space per thread that uses them, cheapest for the first: where cores share nothing,
/// each parses the text for itself.
#[derive(Clone)]
pub struct Selector(Arc<Inner>);

struct Inner {
    text: Box<str>,
    /// `None` where it is all of the text behind the first character.
    prefix: Option<Box<str>>,
    kind: Kind,
}

enum Kind {
    Path,
    SplitPath {
        levels: Box<[Pattern]>,
        reach: Reach,
    },
    FullPath {
        pattern: Pattern,
        reach: Reach,
    },
    /// Members are never sets themselves.
    Set(Box<[Selector]>),
}

/// What a selector means of the branches whose root its pattern matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Matches,
    Descendants,
    MatchesAndDescendants,
}

impl Selector {
    pub fn parse(text: &str, limits: SelectorLimits) -> Result<Self, SelectorError> {
        if text.len() > limits.text_bytes_max {
            return Err(SelectorError {
                position: limits.text_bytes_max,
                found: format!("a selector of {} bytes", text.len()),
                expected: format!("at most {}", limits.text_bytes_max),
            });
        }
        let mut parser = Parser { text, members_max: limits.members_max, patterns: PatternParser::new(limits) };
        match text.strip_prefix('#') {
            Some(_) => parser.set(),
            None => parser.member(0, text.len()),
        }
    }

    /// The canonical text: `a/b` prints as `>a/b`, a nested set as part of the outer one.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// Whether it selects the topic at `path`. Allocates nothing, but for scratch space that is then kept.
    pub fn matches(&self, path: &str) -> bool {
        match &self.0.kind {
            Kind::Path => path == self.prefix(),
            Kind::SplitPath { levels, reach } => matches_split(self.prefix(), levels, *reach, path),
            Kind::FullPath { pattern, reach } => is_within(path, self.prefix()) && matches_full(pattern, *reach, path),
            Kind::Set(members) => members.iter().any(|member| member.matches(path)),
        }
    }

    /// The deepest literal branch that holds everything it can select; empty for the root. What it selects is at that
    /// path or under it.
    pub fn prefix(&self) -> &str {
        self.0.prefix.as_deref().unwrap_or_else(|| &self.0.text[1..])
    }

    /// The path of a path selector.
    pub fn exact_path(&self) -> Option<&str> {
        matches!(self.0.kind, Kind::Path).then_some(self.prefix())
    }

    /// Whether it certainly selects every path strictly below `branch`, which is empty for the root. There may be selectors that do and
    /// of which that is not known.
    pub fn selects_all_below(&self, branch: &str) -> bool {
        let depth = branch.split('/').filter(|segment| !segment.is_empty()).count();
        match &self.0.kind {
            Kind::Path => false,
            Kind::SplitPath { reach: Reach::Matches, .. } => false,
            Kind::SplitPath { levels, reach } => {
                let own = self.prefix().split('/').filter(|segment| !segment.is_empty()).count();
                // What is below has one segment more, which a last level of anything matches.
                let (known, beyond) = levels.split_at(levels.len().min(depth.saturating_sub(own)));
                let is_free = match beyond {
                    [] => true,
                    [Pattern::Any] => *reach == Reach::MatchesAndDescendants,
                    _ => false,
                };
                own <= depth && is_free && (branch.is_empty() || matches_split(self.prefix(), known, Reach::MatchesAndDescendants, branch))
            }
            Kind::FullPath { pattern: Pattern::Any, reach } => *reach != Reach::Descendants,
            Kind::FullPath { .. } => false,
            Kind::Set(members) => members.iter().any(|member| member.selects_all_below(branch)),
        }
    }

    fn new(text: impl Into<Box<str>>, prefix: impl Into<Box<str>>, kind: Kind) -> Self {
        Self(Arc::new(Inner { text: text.into(), prefix: Some(prefix.into()), kind }))
    }

    fn of_path(path: &str) -> Self {
        Self(Arc::new(Inner { text: format!(">{path}").into(), prefix: None, kind: Kind::Path }))
    }
}

/// The text of a selector of a branch and all below it.
pub fn text_of_branch(branch: &str) -> String {
    let mut text = String::with_capacity(branch.len() + 3);
    text.push('?');
    for character in branch.chars() {
        if METACHARACTERS.contains(&character) {
            text.push('\\');
        }
        text.push(character);
    }
    text.push_str("//");
    text
}

fn matches_split(prefix: &str, levels: &[Pattern], reach: Reach, path: &str) -> bool {
    // The levels of plain text at the start are the prefix; `rest` is what no level has looked at yet, without its `/`.
    let mut rest = if prefix.is_empty() {
        Some(path)
    } else {
        match path.strip_prefix(prefix) {
            Some("") => None,
            Some(tail) if tail.starts_with('/') => Some(&tail[1..]),
            _ => return false,
        }
    };
    for level in levels {
        let Some(text) = rest else { return false };
        let (segment, tail) = match text.split_once('/') {
            Some((segment, tail)) => (segment, Some(tail)),
            None => (text, None),
        };
        if !level.matches(segment) {
            return false;
        }
        rest = tail;
    }
    match reach {
        Reach::Matches => rest.is_none(),
        Reach::Descendants => rest.is_some(),
        Reach::MatchesAndDescendants => true,
    }
}

fn matches_full(pattern: &Pattern, reach: Reach, path: &str) -> bool {
    let ancestor_matches = || path.match_indices('/').any(|(end, _)| pattern.matches(&path[..end]));
    match reach {
        Reach::Matches => pattern.matches(path),
        Reach::Descendants => ancestor_matches(),
        Reach::MatchesAndDescendants => pattern.matches(path) || ancestor_matches(),
    }
}

/// Reads one selector text. Ranges are byte offsets in the whole text, so that errors can name them.
struct Parser<'a> {
    text: &'a str,
    members_max: usize,
    patterns: PatternParser,
}

impl Parser<'_> {
    fn set(&mut self) -> Result<Selector, SelectorError> {
        let mut members = Vec::new();
        let mut start = 0;
        loop {
            // A set inside a set selects what its members do, so its `#` says nothing.
            start += self.text[start..].len() - self.text[start..].trim_start_matches('#').len();
            let separator = separator(self.text, start);
            members.push(self.member(start, separator.unwrap_or(self.text.len()))?);
            let Some(end) = separator else { break };
            start = end + SEPARATOR.len();
            if members.len() == self.members_max {
                let expected = format!("at most {} members", self.members_max);
                return Err(self.error(start, "one more selector of the set".into(), expected));
            }
        }
        let mut text = String::from("#");
        let mut prefix = members[0].prefix();
        for (index, member) in members.iter().enumerate() {
            text.push_str(if index > 0 { SEPARATOR } else { "" });
            text.push_str(member.as_str());
            prefix = common_branch(prefix, member.prefix());
        }
        let prefix = prefix.to_string();
        Ok(Selector::new(text, prefix, Kind::Set(members.into())))
    }

    fn member(&mut self, start: usize, end: usize) -> Result<Selector, SelectorError> {
        let text = &self.text[start..end];
        match text.bytes().next() {
            None => Err(self.error(start, self.found(start), "a selector: '>' and a path, '?', '*' or '#'".into())),
            Some(b'>') => self.path(start + 1, end),
            Some(b'?') => self.split_path(start, end),
            Some(b'*') => self.full_path(start, end),
            Some(b'#') => unreachable!("the caller strips every '#'"),
            Some(b'$' | b'%' | b'&' | b'<') => {
                let expected = format!("one of '>', '?', '*' or '#' (the path itself is selected by `>{}`)", brief(text));
                Err(self.error(start, self.found(start), expected))
            }
            Some(_) => self.path(start, end),
        }
    }

    fn path(&self, start: usize, end: usize) -> Result<Selector, SelectorError> {
        let text = &self.text[start..end];
        match path::check_form(text) {
            Ok(()) => Ok(Selector::of_path(text)),
            Err(error) => {
                let branch = text.trim_end_matches('/');
                let at_end = error.position >= branch.len() && !branch.is_empty();
                let expected = match error.kind {
                    PathErrorKind::TrailingSlash | PathErrorKind::EmptySegment if at_end => {
                        format!("the end of the path; a branch is selected by `?{}//`", brief(branch))
                    }
                    _ => "one or more characters between slashes".into(),
                };
                let position = start + error.position;
                Err(self.error(position, self.found(position), expected))
            }
        }
    }

    fn split_path(&mut self, start: usize, end: usize) -> Result<Selector, SelectorError> {
        let (pattern_end, reach) = self.reach(start, end);
        let mut levels = Vec::new();
        let mut prefix = String::new();
        let mut level_start = start + 1;
        for level in self.text[start + 1..pattern_end].split('/') {
            let pattern = self.pattern(level_start, level_start + level.len(), Scope::Segment)?;
            match &pattern {
                // An escaped '/' is in no segment, so the level stays one that matches nothing.
                Pattern::Text(text) if levels.is_empty() && !text.contains('/') => {
                    prefix.push_str(if prefix.is_empty() { "" } else { "/" });
                    prefix.push_str(text);
                }
                _ => levels.push(pattern),
            }
            level_start += level.len() + 1;
        }
        Ok(Selector::new(&self.text[start..end], prefix, Kind::SplitPath { levels: levels.into(), reach }))
    }

    fn full_path(&mut self, start: usize, end: usize) -> Result<Selector, SelectorError> {
        let (pattern_end, reach) = self.reach(start, end);
        if self.text[start + 1..pattern_end].ends_with('/') {
            let expected = "at most two behind the regex, for no path ends in '/'".into();
            return Err(self.error(pattern_end - 1, "more than two slashes".into(), expected));
        }
        let pattern = self.pattern(start + 1, pattern_end, Scope::Path)?;
        let prefix = pattern.branch().to_string();
        Ok(Selector::new(&self.text[start..end], prefix, Kind::FullPath { pattern, reach }))
    }

    /// The end of the pattern, and what the slashes behind it mean.
    fn reach(&self, start: usize, end: usize) -> (usize, Reach) {
        let text = &self.text[start..end];
        if text.ends_with("//") {
            (end - 2, Reach::MatchesAndDescendants)
        } else if text.ends_with('/') {
            (end - 1, Reach::Descendants)
        } else {
            (end, Reach::Matches)
        }
    }

    fn pattern(&mut self, start: usize, end: usize, scope: Scope) -> Result<Pattern, SelectorError> {
        let text = &self.text[start..end];
        if text.is_empty() {
            return Err(self.error(start, self.found(start), scope.expected().into()));
        }
        self.patterns.parse(text, scope).map_err(|error| self.error(start + error.position, error.found, error.expected))
    }

    /// What stands at `position`, for people.
    fn found(&self, position: usize) -> String {
        self.text[position..].chars().next().map_or("the end of the text".into(), |c| format!("{c:?}"))
    }

    fn error(&self, position: usize, found: String, expected: String) -> SelectorError {
        SelectorError { position, found, expected }
    }
}

/// Where the next separator behind `start` is. A member may end in slashes of its own but never starts with one, so the
/// separator is the last four of a run.
fn separator(text: &str, start: usize) -> Option<usize> {
    let run = start + text[start..].find(SEPARATOR)?;
    let run_end = text[run..].find(|c| c != '/').map_or(text.len(), |length| run + length);
    Some(run_end - SEPARATOR.len())
}

fn common_branch<'a>(a: &'a str, b: &str) -> &'a str {
    let mut common = a;
    while !is_within(b, common) {
        common = common.rfind('/').map_or("", |end| &common[..end]);
    }
    common
}

/// A text short enough to be quoted in an error.
fn brief(text: &str) -> String {
    const CHARS_MAX: usize = 40;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}

impl PartialEq for Selector {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Selector {}

/// The same as for `str`.
impl Hash for Selector {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl hashbrown::Equivalent<Selector> for str {
    fn equivalent(&self, selector: &Selector) -> bool {
        self == selector.as_str()
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a text is not a selector: the client's fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectorError {
    /// The byte offset in the text.
    pub position: usize,
    pub found: String,
    pub expected: String,
}

impl fmt::Display for SelectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "found {} at byte {}, expected {}", self.found, self.position, self.expected)
    }
}

impl std::error::Error for SelectorError {}
