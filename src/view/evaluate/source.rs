//! Reads a JSON text by pointers, and charges for it.

use std::cell::OnceCell;

use crate::value::json::walk;
use crate::value::pointer::{self, Pointer};
use crate::value::tree::Node;
use crate::value::work::{Exhausted, Work};

/// The value that `pointer` means in `text`, which is compact JSON.
pub fn find<'t>(text: &'t [u8], pointer: &Pointer, work: &mut Work) -> Result<Option<&'t [u8]>, Exhausted> {
    if pointer.tokens().is_empty() {
        return Ok(Some(text));
    }
    work.charge(text.len())?;
    Ok(pointer::find(text, pointer))
}

/// A JSON text that several pointers read: the members of an object are looked for once.
pub struct Document<'t> {
    text: &'t [u8],
    members: OnceCell<Vec<walk::Member<'t>>>,
}

impl<'t> Document<'t> {
    pub fn new(text: &'t [u8]) -> Self {
        Self { text, members: OnceCell::new() }
    }

    /// The value that `pointer` means.
    pub fn find(&self, pointer: &Pointer, work: &mut Work) -> Result<Option<&'t [u8]>, Exhausted> {
        let Some((token, inner)) = pointer.tokens().split_first().filter(|_| self.text.first() == Some(&b'{')) else {
            return find(self.text, pointer, work);
        };
        let members = match self.members.get() {
            Some(members) => members,
            None => {
                work.charge(self.text.len())?;
                self.members.get_or_init(|| walk::members(self.text).collect())
            }
        };
        work.charge(members.len())?;
        // Where a name is there twice, the last one is meant.
        let Some(member) = members.iter().rfind(|member| member.name.is(token.name().as_bytes())) else { return Ok(None) };
        if inner.is_empty() {
            return Ok(Some(member.value));
        }
        work.charge(member.value.len())?;
        Ok(pointer::find_by(member.value, inner))
    }

    /// The text as something that is changed; what was found of it is not looked for again.
    pub fn to_node(&self) -> Node<'t> {
        self.members.get().map_or(Node::Text(self.text), |members| Node::of_members(members.iter().copied()))
    }
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
