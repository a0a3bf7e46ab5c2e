//! Where reference topics lie: text and directives between `<` and `>`.

use super::{Parser, token};
use crate::topic::path::RESERVED;
use crate::topic::syntax::{Cursor, SyntaxError};
use crate::view::definition::{PathPart, PathTemplate};

/// More segments than any path may have.
const SEGMENTS_MAX: usize = 65_535;

/// Which path it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PathPlace {
    /// That of the reference topics.
    View,
    /// That of the one topic whose value is inserted.
    Insert,
}

impl PathPlace {
    fn directives(self) -> &'static str {
        match self {
            Self::View => "`path(…)`, `scalar(…)` or `expand(…)` (a path has no other '<')",
            Self::Insert => "`path(…)` or `scalar(…)` (a path has no other '<')",
        }
    }
}

impl Parser<'_> {
    /// Takes a path in quotation marks, or up to white space outside directives.
    pub fn path(&self, cursor: &mut Cursor<'_>, place: PathPlace) -> Result<PathTemplate, SyntaxError> {
        if cursor.is_quoted() {
            let quoted = cursor.expect_quoted("a path")?;
            let content = quoted.content();
            let result = self.template(&content, place, |_| false);
            return result.map(|(path, _)| path).map_err(|error| token::locate(quoted, error));
        }
        let position = cursor.position();
        let (path, bytes) = self.template(cursor.rest(), place, char::is_whitespace).map_err(|error| token::shift(error, position))?;
        cursor.take(bytes);
        Ok(path)
    }

    /// The path that `text` starts with and that ends at its end or at a character that `is_end`; and its length.
    fn template(&self, text: &str, place: PathPlace, is_end: impl Fn(char) -> bool) -> Result<(PathTemplate, usize), SyntaxError> {
        let mut parts = Vec::new();
        let mut position = 0;
        let mut segment_is_empty = true;
        while let Some(c) = text[position..].chars().next().filter(|c| !is_end(*c)) {
            if parts.len() == self.limits.path_parts_max {
                let expected = format!("a path of at most {} parts", self.limits.path_parts_max);
                return token::refuse(position, "one more part", expected);
            }
            if c == '<' {
                let (part, bytes) = directive(&text[position..], place).map_err(|error| token::shift(error, position))?;
                parts.push(part);
                position += bytes;
                segment_is_empty = false;
            } else {
                let start = position;
                for c in text[start..].chars().take_while(|c| *c != '<' && !is_end(*c)) {
                    if c == '/' && segment_is_empty {
                        return token::refuse(position, "'/'", "a segment, which is one or more other characters");
                    }
                    segment_is_empty = c == '/';
                    position += c.len_utf8();
                }
                parts.push(PathPart::Text(text[start..position].into()));
            }
        }
        match segment_is_empty {
            true if parts.is_empty() => token::refuse(0, "no path", "text, or directives such as `<path(0)>`"),
            true => token::refuse(position, "the end of the path behind '/'", "one more segment"),
            false => check_first_segment(parts, place).map(|parts| (PathTemplate { parts }, position)),
        }
    }
}

/// Clients may read what is the server's, but make no topics there.
fn check_first_segment(parts: Vec<PathPart>, place: PathPlace) -> Result<Box<[PathPart]>, SyntaxError> {
    if let Some(PathPart::Text(text)) = parts.first() {
        let end = text.find('/').or((parts.len() == 1).then_some(text.len()));
        let first = end.map(|end| &text[..end]).filter(|first| place == PathPlace::View && RESERVED.contains(first));
        if let Some(first) = first {
            return token::refuse(0, format!("`{first}`, which is set aside for the server"), "another first segment");
        }
    }
    Ok(parts.into())
}

/// The directive that `text` starts with, and its length.
fn directive(text: &str, place: PathPlace) -> Result<(PathPart, usize), SyntaxError> {
    let mut cursor = Cursor::new(text);
    token::expect_symbol(&mut cursor, '<')?;
    let part = if cursor.take_keyword("path").is_some() {
        path_directive(&mut cursor)?
    } else if cursor.take_keyword("scalar").is_some() {
        scalar_directive(&mut cursor)?
    } else if cursor.is_keyword("expand") && place == PathPlace::Insert {
        return Err(cursor.error("`path` or `scalar`, as one topic is inserted"));
    } else if cursor.take_keyword("expand").is_some() {
        expand_directive(&mut cursor)?
    } else {
        return Err(cursor.error(place.directives()));
    };
    // White space behind the mark is no longer the directive's.
    let end = cursor.position();
    token::expect_symbol(&mut cursor, '>')?;
    Ok((part, end + 1))
}

fn path_directive(cursor: &mut Cursor<'_>) -> Result<PathPart, SyntaxError> {
    token::expect_symbol(cursor, '(')?;
    let start = segments(cursor, "the index of the first segment")?;
    let mut count = None;
    if cursor.take_symbol(',').is_some() {
        let before = cursor.clone();
        count = Some(segments(cursor, "the number of segments")?);
        if count == Some(0) {
            return Err(before.error("one segment or more"));
        }
    }
    close(cursor, count.as_ref())?;
    Ok(PathPart::Path { start, count })
}

fn scalar_directive(cursor: &mut Cursor<'_>) -> Result<PathPart, SyntaxError> {
    token::expect_symbol(cursor, '(')?;
    let pointer = token::argument(cursor)?;
    let level = match cursor.take_symbol(',') {
        Some(()) => Some(segments(cursor, "the level of an ancestor")?),
        None => None,
    };
    close(cursor, level.as_ref())?;
    Ok(PathPart::Scalar { pointer, level })
}

fn expand_directive(cursor: &mut Cursor<'_>) -> Result<PathPart, SyntaxError> {
    token::expect_symbol(cursor, '(')?;
    let source = token::argument(cursor)?;
    let name = match cursor.take_symbol(',') {
        Some(()) => Some(token::argument(cursor)?),
        None => None,
    };
    close(cursor, name.as_ref())?;
    Ok(PathPart::Expand { source, name })
}

fn segments(cursor: &mut Cursor<'_>, expected: &str) -> Result<usize, SyntaxError> {
    let before = cursor.clone();
    let number = cursor.expect_number(expected)?;
    let number = usize::try_from(number).ok().filter(|number| *number <= SEGMENTS_MAX);
    number.ok_or_else(|| before.error(&format!("at most {SEGMENTS_MAX}")))
}

/// Takes the closing parenthesis; before it, a second argument could have stood if there is none yet.
fn close<T>(cursor: &mut Cursor<'_>, second: Option<&T>) -> Result<(), SyntaxError> {
    let expected = if second.is_some() { "')'" } else { "',' or ')'" };
    cursor.take_symbol(')').ok_or_else(|| cursor.error(expected))
}
