//! Topic paths: their form and their order.
//!
//! A path is one or more segments joined by `/`; a segment is one or more characters other than `/`. Case counts,
//! nothing is normalised, and characters that mean something in selectors or regexes are legal: such a path is selected
//! with `>`. Three first segments are set aside for the server itself.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// First segments that clients may read but not make.
pub const RESERVED: [&str; 3] = ["$SYS", "Diffusion", "Tidewire"];

/// A valid topic path; cheap to clone.
///
/// `Ord` is path order, see [`compare`]. It is not the order of `str`, so there is no `Borrow<str>`, which would let a
/// `BTreeMap` look in the wrong place; hash tables of `hashbrown` can be asked with a `&str` all the same.
#[derive(Clone, PartialEq, Eq)]
pub struct TopicPath(Arc<str>);

impl TopicPath {
    /// The only way to make one from text, so that every path in the server has been checked.
    pub fn parse(text: &str, path_bytes_max: usize) -> Result<Self, PathError> {
        check_path(text, path_bytes_max)?;
        Ok(Self(text.into()))
    }

    /// A place in path order, such as a selector's branch; whether a client may make a topic there does not matter.
    pub(crate) fn of_branch(text: &str) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

/// Checks what [`TopicPath::parse`] checks and allocates nothing: for the hot path, where the topic mostly exists.
pub fn check_path(text: &str, path_bytes_max: usize) -> Result<(), PathError> {
    if text.len() > path_bytes_max {
        return Err(PathError { position: path_bytes_max, kind: PathErrorKind::TooLong });
    }
    check_form(text)?;
    let first = text.bytes().position(|byte| byte == b'/').map_or(text, |end| &text[..end]);
    if RESERVED.contains(&first) {
        return Err(PathError { position: 0, kind: PathErrorKind::Reserved });
    }
    Ok(())
}

/// Checks the form alone: what may be selected, be it reserved or not.
pub fn check_form(text: &str) -> Result<(), PathError> {
    let error = |position, kind| Err(PathError { position, kind });
    let bytes = text.as_bytes();
    if bytes.is_empty() {
        return error(0, PathErrorKind::Empty);
    }
    if bytes[0] == b'/' {
        return error(0, PathErrorKind::LeadingSlash);
    }
    if let Some(position) = bytes.windows(2).position(|pair| pair == b"//") {
        return error(position + 1, PathErrorKind::EmptySegment);
    }
    if bytes[bytes.len() - 1] == b'/' {
        return error(bytes.len() - 1, PathErrorKind::TrailingSlash);
    }
    Ok(())
}

/// Path order on valid paths: segment by segment. That is bytewise with `/` below every other byte, so that all
/// descendants of a path directly follow it.
pub fn compare(a: &str, b: &str) -> Ordering {
    let rank = |byte: u8| if byte == b'/' { 0 } else { u16::from(byte) + 1 };
    let (a, b) = (a.as_bytes(), b.as_bytes());
    match first_difference(a, b) {
        Some(at) => rank(a[at]).cmp(&rank(b[at])),
        None => a.len().cmp(&b.len()),
    }
}

/// Where the two differ first, as far as both go. By words, since neighbours in a tree begin alike, often for long: the last word overlaps the one before.
#[inline]
fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    let (both, mut at) = (a.len().min(b.len()), 0);
    if both < 8 {
        return a.iter().zip(b).position(|(a, b)| a != b);
    }
    let word = |bytes: &[u8], at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().expect("a word is there"));
    loop {
        let differing = word(a, at) ^ word(b, at);
        if differing != 0 {
            return Some(at + differing.trailing_zeros() as usize / 8);
        }
        if at == both - 8 {
            return None;
        }
        at = (at + 8).min(both - 8);
    }
}

/// Whether `path` is `branch` or lies under it. The empty branch is the root, which holds every path.
pub fn is_within(path: &str, branch: &str) -> bool {
    branch.is_empty() || path.strip_prefix(branch).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The same as for `str`, so that a hash table can be asked with one.
impl Hash for TopicPath {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl hashbrown::Equivalent<TopicPath> for str {
    fn equivalent(&self, path: &TopicPath) -> bool {
        self == path.as_str()
    }
}

impl PartialOrd for TopicPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for TopicPath {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.0, &other.0)
    }
}

impl fmt::Debug for TopicPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for TopicPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not a path that a client may make: the client's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathError {
    /// The byte offset in the text.
    pub position: usize,
    pub kind: PathErrorKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathErrorKind {
    Empty,
    EmptySegment,
    LeadingSlash,
    TrailingSlash,
    /// Longer than the limit, which is the position.
    TooLong,
    /// The first segment is one of [`RESERVED`].
    Reserved,
}

impl PathErrorKind {
    /// The name in the golden vectors.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::EmptySegment => "empty_segment",
            Self::LeadingSlash => "leading_slash",
            Self::TrailingSlash => "trailing_slash",
            Self::TooLong => "too_long",
            Self::Reserved => "reserved",
        }
    }
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let position = self.position;
        match self.kind {
            PathErrorKind::Empty => f.write_str("found an empty path, expected at least one segment"),
            PathErrorKind::EmptySegment => {
                write!(f, "found an empty segment at byte {position}, expected a character other than '/'")
            }
            PathErrorKind::LeadingSlash => f.write_str("found '/' at the start of the path, expected a segment"),
            PathErrorKind::TrailingSlash => {
                write!(f, "found the end of the path behind the '/' at byte {position}, expected a segment")
            }
            PathErrorKind::TooLong => write!(f, "found a path of more than {position} bytes, expected at most that many"),
            PathErrorKind::Reserved => {
                let [a, b, c] = RESERVED;
                write!(f, "found a path under a first segment that is set aside for the server ('{a}', '{b}', '{c}'), expected another")
            }
        }
    }
}

impl std::error::Error for PathError {}

#[cfg(test)]
mod tests {
    use std::collections::hash_map::RandomState;
    use std::hash::BuildHasher;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    const PATH_BYTES_MAX: usize = 64;

    fn check(text: &str, expected: Option<(usize, PathErrorKind)>) {
        let error = TopicPath::parse(text, PATH_BYTES_MAX).err().map(|error| (error.position, error.kind));
        assert_eq!(error, expected, "{text:?}");
    }

    #[test]
    fn segments_are_one_or_more_characters_other_than_a_slash() {
        check("a", None);
        check("a/b/c", None);
        check("a b/\u{1f30a}/.*", None);
        check("", Some((0, PathErrorKind::Empty)));
        check("/", Some((0, PathErrorKind::LeadingSlash)));
        check("a/", Some((1, PathErrorKind::TrailingSlash)));
        check("a//b", Some((2, PathErrorKind::EmptySegment)));
    }

    #[test]
    fn the_servers_own_branches_are_set_aside() {
        check("Diffusion", Some((0, PathErrorKind::Reserved)));
        check("Tidewire/Metrics", Some((0, PathErrorKind::Reserved)));
        check("$SYS/broker", Some((0, PathErrorKind::Reserved)));
        check("Tidewires", None);
        check("a/Tidewire", None);
        assert_eq!(check_form("Tidewire/Metrics"), Ok(()));
    }

    #[test]
    fn the_longest_path_is_valid_and_one_more_byte_is_not() {
        check(&"a".repeat(PATH_BYTES_MAX), None);
        check(&"a".repeat(PATH_BYTES_MAX + 1), Some((PATH_BYTES_MAX, PathErrorKind::TooLong)));
    }

    #[test]
    fn descendants_directly_follow_their_branch() {
        let mut paths = ["a-b", "a", "ab", "a/b", "a\u{0}", "b", "a/b/c", "a!/b"].map(|p| TopicPath::parse(p, 64).unwrap());
        paths.sort();
        let sorted: Vec<_> = paths.iter().map(TopicPath::as_str).collect();
        assert_eq!(sorted, ["a", "a/b", "a/b/c", "a\u{0}", "a!/b", "a-b", "ab", "b"]);
    }

    /// All texts of up to four characters, with one below '/', one above and one of two bytes.
    fn all_paths() -> Vec<String> {
        let mut texts = vec![String::new()];
        let mut start = 0;
        for _ in 0..4 {
            let end = texts.len();
            for index in start..end {
                texts.extend("/!aé".chars().map(|c| format!("{}{c}", texts[index])).collect::<Vec<_>>());
            }
            start = end;
        }
        texts.retain(|text| check_path(text, 64).is_ok());
        texts
    }

    #[test]
    fn path_order_is_that_of_the_lists_of_segments() {
        let paths = all_paths();
        assert!(paths.len() > 100);
        let segments: Vec<Vec<&str>> = paths.iter().map(|path| path.split('/').collect()).collect();
        for (a, a_segments) in paths.iter().zip(&segments) {
            for (b, b_segments) in paths.iter().zip(&segments) {
                assert_eq!(compare(a, b), a_segments.cmp(b_segments), "{a:?} and {b:?}");
                assert_eq!(is_within(a, b), a_segments.starts_with(b_segments), "{a:?} in {b:?}");
            }
        }
        // So that they differ at any place of a word, before it and behind.
        for before in ["abcde", "abcdefgh", "abcdefghijk", "a/branch/of/some/length"] {
            for a in &paths {
                for b in paths.iter().step_by(7) {
                    assert_eq!(compare(&format!("{before}{a}"), &format!("{before}{b}")), compare(a, b), "{before}: {a:?} and {b:?}");
                }
            }
        }
    }

    #[test]
    fn hash_tables_can_be_asked_with_text() {
        let path = TopicPath::parse("a/b", 64).unwrap();
        let state = RandomState::new();
        assert_eq!(state.hash_one(&path), state.hash_one("a/b"));
        let table: hashbrown::HashSet<_> = hashbrown::HashSet::from([path]);
        assert!(table.contains("a/b"));
        assert!(!table.contains("a"));
    }

    #[test]
    fn golden_vectors_hold() {
        let vectors: Value = serde_json::from_str(include_str!("../../sdk/protocol/vectors/paths.json")).unwrap();
        let path_bytes_max = vectors["path_bytes_max"].as_u64().unwrap() as usize;
        for text in vectors["valid"].as_array().unwrap() {
            let text = text.as_str().unwrap();
            let path = TopicPath::parse(text, path_bytes_max).unwrap_or_else(|error| panic!("{text:?}: {error}"));
            assert_eq!(path.as_str(), text);
        }
        for case in vectors["invalid"].as_array().unwrap() {
            let error = TopicPath::parse(case["text"].as_str().unwrap(), path_bytes_max).expect_err("an invalid path");
            assert_eq!(case["error"], error.kind.name(), "{case}");
            assert_eq!(case["position"], error.position, "{case}");
        }
        let in_order: Vec<_> = vectors["in_order"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
        assert!(in_order.is_sorted_by(|a, b| compare(a, b).is_lt()));
    }

    proptest! {
        #[test]
        fn any_text_is_a_path_or_refused_at_a_position_within_it(text in "[/aé\\PC]{0,80}") {
            match TopicPath::parse(&text, PATH_BYTES_MAX) {
                Ok(path) => prop_assert!(path.segments().all(|segment| !segment.is_empty())),
                Err(error) => prop_assert!(error.position <= text.len() && !error.to_string().is_empty()),
            }
        }
    }
}
