//! Reads a JSON text by pointers, and charges for it.

use crate::value::json::walk;
use crate::value::pointer::{self, Pointer};
use crate::value::tree::Node;
use crate::value::work::{Exhausted, Work};

/// A text that is read by several pointers.
///
/// The first one is looked for in the text. For the others the text is taken apart once, at its top level, and only the
/// child that a pointer leads into is read again. Changes can go on from there.
pub struct Source<'t> {
    text: &'t [u8],
    root: Node<'t>,
    is_read: bool,
}

impl<'t> Source<'t> {
    pub fn new(text: &'t [u8]) -> Self {
        Self { text, root: Node::Text(text), is_read: false }
    }

    /// The value that `pointer` means.
    pub fn find(&mut self, pointer: &Pointer, work: &mut Work) -> Result<Option<&'t [u8]>, Exhausted> {
        let is_first = !std::mem::replace(&mut self.is_read, true);
        let Some((token, inner_tokens)) = pointer.tokens().split_first().filter(|_| !is_first) else {
            return find(self.text, pointer, work);
        };
        let child = self.root.child_text(token, work)?;
        let Some(child) = child.filter(|_| !inner_tokens.is_empty()) else { return Ok(child) };
        work.charge(child.len())?;
        Ok(pointer::find_below(child, inner_tokens))
    }

    pub fn into_root(self) -> Node<'t> {
        self.root
    }
}

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
