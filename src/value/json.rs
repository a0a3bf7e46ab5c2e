//! JSON values: checked, and made compact.
//!
//! Text is stored as its publisher wrote it, but for white space outside strings: member order, duplicate keys, the
//! spelling of numbers and escapes all stay. What one subscriber could read and another could not is refused at the
//! door, so beyond the grammar of RFC 8259 a text is UTF-8 without a byte order mark, every number is within the range of
//! a double, and every `\u` escape is a character or half of a surrogate pair.

pub mod plain;
mod scan;
pub mod walk;
#[cfg(test)]
mod tests;

use std::fmt;

use simd_json::{Buffers, INPUT_PADDING, Tape, fill_tape_padded};

/// Every bound on a JSON value but its length, which its caller knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonLimits {
    /// The most arrays and objects within each other.
    pub depth_max: usize,
}

impl Default for JsonLimits {
    fn default() -> Self {
        Self { depth_max: 128 }
    }
}

/// Checks texts one after the other in the same memory, which grows to fit the longest.
pub struct Checker {
    buffers: Buffers,
    /// simd-json unescapes strings in place and reads beyond the end.
    scratch: Vec<u8>,
    tape: Tape<'static>,
}

impl Default for Checker {
    fn default() -> Self {
        Self::new()
    }
}

impl Checker {
    pub fn new() -> Self {
        // simd-json's own limit is lifted, as ours is checked on what it has found.
        Self { buffers: Buffers::with_max_depth(1024, usize::MAX), scratch: Vec::new(), tape: Tape(Vec::new()) }
    }

    /// Appends the compact form of `text` to `out`; appends nothing if `text` is refused.
    pub fn compact(&mut self, text: &[u8], limits: JsonLimits, out: &mut Vec<u8>) -> Result<(), JsonError> {
        self.parse(text).map_err(|error| refusal(text, limits, &error))?;
        let tokens = self.buffers.structural_indexes();
        let mut depth = 0_usize;
        let mut compact = tokens[0] == 0 && !ends_in_white_space(text);
        for &token in tokens {
            let token = token as usize;
            match text[token] {
                b'{' | b'[' if depth == limits.depth_max => return Err(scan::too_deep(token, limits)),
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            compact &= !ends_in_white_space(&text[..token]);
        }
        if compact {
            out.extend_from_slice(text);
        } else {
            append_tokens(text, tokens, out);
        }
        Ok(())
    }

    /// Lets simd-json judge `text`, and leaves the offset of every token in `buffers`: of brackets, commas and colons,
    /// and of the first byte of every string, number and literal.
    fn parse(&mut self, text: &[u8]) -> Result<(), simd_json::Error> {
        self.scratch.clear();
        self.scratch.reserve(text.len() + INPUT_PADDING);
        self.scratch.extend_from_slice(text);
        self.scratch.resize(text.len() + INPUT_PADDING, b' ');
        let mut tape = std::mem::replace(&mut self.tape, Tape(Vec::new())).reset();
        let result = fill_tape_padded(&mut self.scratch, text.len(), &mut self.buffers, &mut tape);
        self.tape = tape.reset();
        result
    }
}

/// Whether a valid JSON text has no white space outside strings.
pub fn is_compact(text: &[u8]) -> bool {
    if !text.iter().any(|&byte| is_white_space(byte)) {
        return true;
    }
    let (mut in_string, mut escaped) = (false, false);
    for &byte in text {
        if !in_string && is_white_space(byte) {
            return false;
        }
        in_string ^= byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
    }
    true
}

fn append_tokens(text: &[u8], tokens: &[u32], out: &mut Vec<u8>) {
    out.reserve(text.len());
    let ends = tokens[1..].iter().map(|&token| token as usize).chain([text.len()]);
    for (&start, end) in tokens.iter().zip(ends) {
        let token = &text[start as usize..end];
        let white = token.iter().rev().take_while(|&&byte| is_white_space(byte)).count();
        out.extend_from_slice(&token[..token.len() - white]);
    }
}

fn ends_in_white_space(text: &[u8]) -> bool {
    text.last().is_some_and(|&byte| is_white_space(byte))
}

fn is_white_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// simd-json is fast but says little about where; a text that is refused is read once more, slowly.
#[cold]
fn refusal(text: &[u8], limits: JsonLimits, error: &simd_json::Error) -> JsonError {
    match scan::scan(text, limits) {
        Err(error) => error,
        Ok(()) => JsonError { position: 0, message: format!("found JSON text that the server cannot read ({error})") },
    }
}

/// Why a text is not a JSON value: the publisher's fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonError {
    /// The byte offset in the text.
    pub position: usize,
    /// What was found, and what was expected.
    pub message: String,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.message, self.position)
    }
}

impl std::error::Error for JsonError {}
