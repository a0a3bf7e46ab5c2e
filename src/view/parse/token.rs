//! What the parts of the language are made of: names, pointers, constants, and the errors of what is read elsewhere.

use crate::topic::syntax::{Cursor, Quoted, SyntaxError, THE_END, brief};
use crate::value::json::{JsonLimits, plain};
use crate::value::patch::PatchError;
use crate::value::pointer::{Pointer, PointerError};
use crate::value::scalar;

pub const CONSTANT: &str = "a constant: a number, `true`, `false`, `null`, a text in quotation marks, an array or an object";
const POINTER: &str = "a JSON pointer, which starts with '/' (in quotation marks, it may also be empty)";

pub fn refuse<T>(position: usize, found: impl Into<String>, expected: impl Into<String>) -> Result<T, SyntaxError> {
    Err(SyntaxError { position, found: found.into(), expected: expected.into() })
}

/// Moves an error in a text that starts at `start` of the whole one.
pub fn shift(error: SyntaxError, start: usize) -> SyntaxError {
    SyntaxError { position: start + error.position, ..error }
}

/// Moves an error in what `quoted` says to its place in the whole text.
pub fn locate(quoted: Quoted<'_>, error: SyntaxError) -> SyntaxError {
    let error = quoted.locate(error);
    if error.found == THE_END { SyntaxError { found: "the closing quotation mark".into(), ..error } } else { error }
}

pub fn expect_symbol(cursor: &mut Cursor<'_>, symbol: char) -> Result<(), SyntaxError> {
    cursor.take_symbol(symbol).ok_or_else(|| cursor.error(&format!("{symbol:?}")))
}

/// What `depth_left` allows one level deeper, or the error that what stands at `cursor` is too deep.
pub fn deeper(cursor: &Cursor<'_>, depth_left: usize, what: &str) -> Result<usize, SyntaxError> {
    depth_left.checked_sub(1).ok_or_else(|| cursor.error(&format!("{what} that is not nested so deep")))
}

/// Takes what stands before the next white space, or the next of `ends`.
pub fn take_until<'a>(cursor: &mut Cursor<'a>, ends: &[char]) -> &'a str {
    let rest = cursor.rest();
    cursor.take(rest.find(|c: char| c.is_whitespace() || ends.contains(&c)).unwrap_or(rest.len()))
}

/// A name in quotation marks, or up to white space.
pub fn name(cursor: &mut Cursor<'_>, expected: &str) -> Result<Box<str>, SyntaxError> {
    let before = cursor.clone();
    let name: Box<str> = match cursor.is_quoted() {
        true => cursor.expect_quoted(expected)?.content().into(),
        false => take_until(cursor, &[]).into(),
    };
    if name.is_empty() { Err(before.error(expected)) } else { Ok(name) }
}

/// What ends a pointer without quotation marks in a list of arguments.
pub const ARGUMENT_ENDS: [char; 2] = [',', ')'];

/// A pointer in a list of arguments, where nothing is the empty one: the whole value.
pub fn argument(cursor: &mut Cursor<'_>) -> Result<Pointer, SyntaxError> {
    if is_argument_empty(cursor) {
        return Ok(whole_value());
    }
    pointer(cursor, &ARGUMENT_ENDS)
}

/// Whether the argument that is due is left out.
pub fn is_argument_empty(cursor: &Cursor<'_>) -> bool {
    cursor.rest().starts_with(ARGUMENT_ENDS)
}

/// A pointer in quotation marks, or as [`plain_pointer`].
pub fn pointer(cursor: &mut Cursor<'_>, ends: &[char]) -> Result<Pointer, SyntaxError> {
    if !cursor.is_quoted() {
        return plain_pointer(cursor, ends);
    }
    let quoted = cursor.expect_quoted(POINTER)?;
    Pointer::parse(&quoted.content()).map_err(|error| locate(quoted, pointer_error(error)))
}

/// A pointer up to white space or one of `ends`.
pub fn plain_pointer(cursor: &mut Cursor<'_>, ends: &[char]) -> Result<Pointer, SyntaxError> {
    if !is_pointer(cursor) {
        return Err(cursor.error(POINTER));
    }
    let position = cursor.position();
    Pointer::parse(take_until(cursor, ends)).map_err(|error| shift(pointer_error(error), position))
}

pub fn whole_value() -> Pointer {
    Pointer::parse("").expect("the empty pointer is one")
}

/// Whether a pointer without quotation marks stands next.
pub fn is_pointer(cursor: &Cursor<'_>) -> bool {
    cursor.rest().starts_with('/')
}

/// A constant as compact JSON; `None` if none stands next.
pub fn constant(cursor: &mut Cursor<'_>, limits: JsonLimits) -> Result<Option<Box<[u8]>>, SyntaxError> {
    if !cursor.rest().starts_with(['[', '{']) {
        return scalar(cursor);
    }
    let position = cursor.position();
    let text = take_json(cursor)?;
    compact(text, limits, position).map(Some)
}

/// A constant that is neither array nor object.
pub fn scalar(cursor: &mut Cursor<'_>) -> Result<Option<Box<[u8]>>, SyntaxError> {
    if cursor.is_quoted() {
        let mut json = Vec::new();
        scalar::append_string(cursor.expect_quoted(CONSTANT)?.content().as_bytes(), &mut json);
        return Ok(Some(json.into()));
    }
    if let Some(word) = ["true", "false", "null"].into_iter().find(|word| cursor.is_keyword(word)) {
        cursor.take_word();
        return Ok(Some(word.as_bytes().into()));
    }
    if !cursor.rest().starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
        return Ok(None);
    }
    let position = cursor.position();
    let text = take_number(cursor)?;
    compact(text, JsonLimits { depth_max: 0 }, position).map(Some)
}

/// Takes what a number may be made of. Whether it is one is left to the caller.
pub fn take_number<'a>(cursor: &mut Cursor<'a>) -> Result<&'a str, SyntaxError> {
    let before = cursor.clone();
    let rest = cursor.rest();
    let digits = |from: usize| from + rest[from..].bytes().take_while(u8::is_ascii_digit).count();
    let mut end = digits(usize::from(rest.starts_with('-')));
    if rest[end..].starts_with('.') {
        end = digits(end + 1);
    }
    if rest[end..].starts_with(['e', 'E']) {
        end = digits(end + 1 + usize::from(rest[end + 1..].starts_with(['+', '-'])));
    }
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.');
    if !rest[..end].ends_with(|c: char| c.is_ascii_digit()) || rest[end..].starts_with(is_word) {
        return Err(before.error("a number, such as `-1.5e3`"));
    }
    Ok(cursor.take(end))
}

/// Takes the array or object that stands next. Only its end is looked for: what is in it is left to the caller.
pub fn take_json<'a>(cursor: &mut Cursor<'a>) -> Result<&'a str, SyntaxError> {
    let text = cursor.rest();
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' if depth == 1 => return Ok(cursor.take(index + 1)),
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    let closing = if text.starts_with('[') { ']' } else { '}' };
    refuse(cursor.position(), format!("`{}`, which is not closed", brief(text)), format!("a closing {closing:?}"))
}

fn compact(text: &str, limits: JsonLimits, position: usize) -> Result<Box<[u8]>, SyntaxError> {
    match plain::compact(text.as_bytes(), limits) {
        Ok(json) => Ok(json.into()),
        Err(error) => Err(shift(of_message(error.position, &error.message), position)),
    }
}

pub fn pointer_error(error: PointerError) -> SyntaxError {
    SyntaxError { position: error.position, found: error.found, expected: error.expected }
}

pub fn patch_error(error: PatchError) -> SyntaxError {
    match error {
        PatchError::Malformed { position, message } => of_message(position, &message),
        PatchError::Failed { message, .. } => of_message(0, &message),
    }
}

/// An error that was put into words as "found …, expected …".
fn of_message(position: usize, message: &str) -> SyntaxError {
    let (found, expected) = message.rsplit_once(", expected ").unwrap_or((message, "something else"));
    SyntaxError { position, found: found.strip_prefix("found ").unwrap_or(found).into(), expected: expected.into() }
}
