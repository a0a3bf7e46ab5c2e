//! Writes a path by its template.

use std::borrow::Cow;
use std::fmt::Write;

use super::source::{self, Scalar};
use super::{Input, Looked, REFERENCE_STEPS, Stop, Topics};
use crate::topic::path::PathError;
use crate::topic::path::PathErrorKind;
use crate::value::ValueType;
use crate::value::json::walk::{self, Text};
use crate::value::pointer::Pointer;
use crate::value::scalar;
use crate::value::work::Work;
use crate::view::definition::PathPart;

/// Appends to one path, and stops where it grows too long.
pub struct PathWriter<'w, 'a> {
    pub out: &'w mut String,
    pub input: Input<'a>,
    pub topics: &'w mut dyn Topics,
    pub separator: Option<&'w str>,
    pub path_bytes_max: usize,
    pub work: &'w mut Work,
}

impl PathWriter<'_, '_> {
    /// Scalars are read from `element`.
    pub fn append(&mut self, part: &PathPart, element: Option<&[u8]>) -> Result<(), Stop> {
        match part {
            PathPart::Text(text) => self.push(text),
            PathPart::Path { start, count } => self.append_segments(*start, *count),
            PathPart::Scalar { pointer, level: None } => match element {
                Some(element) => self.append_scalar(element, pointer),
                None => Err(Stop::Failed("found no value, expected a scalar for the path".into())),
            },
            PathPart::Scalar { pointer, level: Some(level) } => self.append_foreign_scalar(*level, pointer),
            PathPart::Expand { .. } => Err(Stop::Failed("found an expand, expected none in this path".into())),
        }
    }

    /// Segments of the source's path.
    fn append_segments(&mut self, start: usize, count: Option<usize>) -> Result<(), Stop> {
        let path = self.input.path;
        self.work.charge(path.len())?;
        match segments(path, start, count) {
            Some(segments) => self.push(segments),
            None => {
                let expected = start.saturating_add(count.unwrap_or(1));
                let found = path.split('/').count();
                Err(Stop::Failed(format!("found a source path of {found} segments, expected at least {expected}")))
            }
        }
    }

    /// A number, a boolean or a string in `element`, which is JSON.
    pub fn append_scalar(&mut self, element: &[u8], pointer: &Pointer) -> Result<(), Stop> {
        let found = source::find(element, pointer, self.work)?;
        match found.and_then(Scalar::of) {
            Some(Scalar::String(text)) => self.append_string(text),
            Some(Scalar::Boolean(value)) => self.push(if value { "true" } else { "false" }),
            Some(Scalar::Number(text)) => self.append_text(text),
            Some(Scalar::Null) | None => {
                let found = found.map_or("nothing", walk::noun);
                Err(Stop::Failed(format!("found {found} at \"{}\", expected a string, number or boolean for the path", pointer.brief())))
            }
        }
    }

    /// A scalar of the source's ancestor of `level + 1` segments; the source itself where it has just as many.
    fn append_foreign_scalar(&mut self, level: usize, pointer: &Pointer) -> Result<(), Stop> {
        let Input { path, kind, value } = self.input;
        self.work.charge(REFERENCE_STEPS + path.len())?;
        let Some(ancestor) = segments(path, 0, level.checked_add(1)) else {
            return Err(Stop::Failed(format!("found a source path without level {level}, expected one to read a scalar from")));
        };
        let looked = match value {
            _ if ancestor.len() < path.len() => self.topics.look(ancestor),
            Some(value) => Looked::Value(kind, value),
            None => Looked::Nothing,
        };
        // What was looked up is borrowed from `topics`, so the text is taken before it is written.
        let text = match looked {
            Looked::Unknown => return Err(Stop::Waiting),
            Looked::Nothing => return Err(Stop::Failed(format!("found no value at `{ancestor}`, expected a scalar for the path"))),
            Looked::Value(ValueType::Json, json) => {
                let json = source::find(json, pointer, self.work)?.unwrap_or_default();
                self.work.charge(json.len())?;
                Cow::Owned(json.to_vec())
            }
            Looked::Value(ValueType::Binary, _) => Cow::Borrowed(&b""[..]),
            Looked::Value(kind, value) if pointer.tokens().is_empty() => {
                self.work.charge(value.len())?;
                let mut json = Vec::new();
                scalar::append_json(kind, value, &mut json);
                Cow::Owned(json)
            }
            Looked::Value(..) => Cow::Borrowed(&b""[..]),
        };
        self.append_whole(&text, ancestor, pointer)
    }

    fn append_whole(&mut self, text: &[u8], ancestor: &str, pointer: &Pointer) -> Result<(), Stop> {
        match Scalar::of(text) {
            Some(Scalar::String(text)) => self.append_string(text),
            Some(Scalar::Boolean(_) | Scalar::Number(_)) => self.append_text(text),
            Some(Scalar::Null) | None => {
                let place = format!("\"{}\" of `{ancestor}`", pointer.brief());
                Err(Stop::Failed(format!("found no string, number or boolean at {place}, expected one for the path")))
            }
        }
    }

    /// A string of the value. Its `/` make levels unless there is a separator.
    pub fn append_string(&mut self, text: Text<'_>) -> Result<(), Stop> {
        self.work.charge(text.content().len())?;
        self.append_text(&text.decode())
    }

    pub fn append_index(&mut self, index: usize) -> Result<(), Stop> {
        // Beyond the limit by a few digits at most; the whole path is checked at last.
        write!(self.out, "{index}").map_err(|_| Stop::Failed("found no memory for an index".into()))
    }

    fn append_text(&mut self, text: &[u8]) -> Result<(), Stop> {
        let Ok(text) = std::str::from_utf8(text) else {
            return Err(Stop::Failed("found bytes that are not UTF-8, expected text for the path".into()));
        };
        if text.is_empty() {
            return Err(Stop::Failed("found an empty string, expected text for the path".into()));
        }
        let Some(separator) = self.separator else { return self.push(text) };
        let mut levels = text.split('/');
        self.push(levels.next().unwrap_or_default())?;
        levels.try_for_each(|level| self.push(separator).and_then(|()| self.push(level)))
    }

    fn push(&mut self, text: &str) -> Result<(), Stop> {
        if self.out.len() + text.len() > self.path_bytes_max {
            let error = PathError { position: self.path_bytes_max, kind: PathErrorKind::TooLong };
            return Err(Stop::Failed(error.to_string()));
        }
        self.out.push_str(text);
        Ok(())
    }
}

/// The `count` segments from `start` on, or all of them; `None` where there are not so many.
fn segments(path: &str, start: usize, count: Option<usize>) -> Option<&str> {
    let from = match start.checked_sub(1) {
        Some(slashes) => path.match_indices('/').nth(slashes)?.0 + 1,
        None => 0,
    };
    let rest = &path[from..];
    let Some(count) = count else { return Some(rest) };
    match rest.match_indices('/').nth(count.checked_sub(1)?) {
        Some((end, _)) => Some(&rest[..end]),
        None => (rest.matches('/').count() + 1 == count).then_some(rest),
    }
}
