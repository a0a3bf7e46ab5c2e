//! Reads a JSON text by pointers, and charges for it.

use crate::value::json::walk;
use crate::value::pointer::{self, Pointer};
use crate::value::work::{Exhausted, Work};

/// The value that `pointer` means in `text`, which is compact JSON.
pub fn find<'t>(text: &'t [u8], pointer: &Pointer, work: &mut Work) -> Result<Option<&'t [u8]>, Exhausted> {
    if pointer.tokens().is_empty() {
        return Ok(Some(text));
    }
    work.charge(text.len())?;
    Ok(pointer::find(text, pointer))
}

/// A value that is neither an array nor an object.
#[derive(Clone, Copy)]
pub enum Scalar<'t> {
    Null,
    Boolean(bool),
    /// As JSON writes it.
    Number(&'t [u8]),
    String(walk::Text<'t>),
}

impl<'t> Scalar<'t> {
    /// Takes one compact JSON value.
    pub fn of(text: &'t [u8]) -> Option<Self> {
        match text {
            b"null" => Some(Self::Null),
            b"true" => Some(Self::Boolean(true)),
            b"false" => Some(Self::Boolean(false)),
            [b'"', ..] => walk::string(text).map(Self::String),
            [b'-' | b'0'..=b'9', ..] => Some(Self::Number(text)),
            _ => None,
        }
    }
}
