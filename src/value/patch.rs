//! JSON Patch (RFC 6902): changes to a JSON value, as a list of operations that all apply or none.
//!
//! What a patch does not touch stays byte for byte: the order of members, `1.0`, integers of any length, escapes. A
//! member that is replaced keeps its place, a new one comes last. `test` follows the RFC: numbers are compared by
//! value, objects whatever the order of their members.
//!
//! Where an object has a name twice, the last one is meant, as by [`super::pointer`]; removing the name removes all.

mod parse;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;

use super::pointer::Pointer;
use super::tree::Node;
use super::work::Work;

/// Every bound on a patch and what it makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatchLimits {
    /// The longest text of a patch.
    pub text_bytes_max: usize,
    pub operations_max: usize,
    /// The longest result. One patch copies no more bytes than that either, on the way to it.
    pub value_bytes_max: usize,
    /// The most bytes that are tested, moved and copied in all, by the size of what is at `path` or `from`.
    pub handled_bytes_max: usize,
    /// The most steps in all: a step for each member beside a place on the way, each element that moves, each byte opened.
    pub work_max: usize,
    /// The most arrays and objects within each other, in the result and on the way to it.
    pub depth_max: usize,
}

impl Default for PatchLimits {
    fn default() -> Self {
        Self {
            text_bytes_max: 256 * 1024,
            operations_max: 1000,
            value_bytes_max: 256 * 1024,
            handled_bytes_max: 8 * 1024 * 1024,
            work_max: 64 * 1024 * 1024,
            depth_max: 128,
        }
    }
}

/// A patch, parsed once and applied as often as one likes.
#[derive(Clone, Debug)]
pub struct Patch {
    /// Compact; the operations' values are ranges of it.
    text: Box<[u8]>,
    operations: Box<[Operation]>,
}

#[derive(Clone, Debug)]
struct Operation {
    action: Action,
    path: Pointer,
}

#[derive(Clone, Debug)]
enum Action {
    Add(Range<usize>),
    Remove,
    Replace(Range<usize>),
    Move { from: Pointer },
    Copy { from: Pointer },
    Test(Range<usize>),
}

/// Applies `patch` to `document`, which is compact JSON; returns the compact result.
pub fn apply(document: &[u8], patch: &[u8], limits: PatchLimits) -> Result<Vec<u8>, PatchError> {
    Patch::parse(patch, limits)?.apply(document, limits)
}

impl Patch {
    /// Reads the whole patch, so that a malformed operation is found before any is applied. Members of an operation that
    /// the RFC does not know are ignored; a known one that stands twice is refused.
    pub fn parse(text: &[u8], limits: PatchLimits) -> Result<Self, PatchError> {
        parse::parse(text, limits)
    }

    /// Applies the operations in order to `document`, which is compact JSON; returns the compact result. The first
    /// operation that fails ends it.
    pub fn apply(&self, document: &[u8], limits: PatchLimits) -> Result<Vec<u8>, PatchError> {
        self.apply_within(document, limits, &mut Work::new(limits.work_max))
    }

    /// As [`Self::apply`], with `work` as the bound in place of `work_max`.
    pub fn apply_within(&self, document: &[u8], limits: PatchLimits, work: &mut Work) -> Result<Vec<u8>, PatchError> {
        let mut state = State { root: Node::Text(document), copied_bytes: 0, handled_bytes: 0, work, limits };
        for (index, operation) in self.operations.iter().enumerate() {
            state.step(operation, &self.text).map_err(|message| PatchError::Failed { operation: index, message })?;
        }
        let bytes = state.root.bytes();
        if bytes > limits.value_bytes_max && !self.operations.is_empty() {
            let message = format!("found a result of {bytes} bytes, expected at most {}", limits.value_bytes_max);
            return Err(PatchError::Failed { operation: self.operations.len() - 1, message });
        }
        let mut out = Vec::with_capacity(bytes);
        state.root.print(&mut out);
        Ok(out)
    }
}

/// A value on its way through the operations.
struct State<'a, 'w> {
    root: Node<'a>,
    copied_bytes: usize,
    handled_bytes: usize,
    work: &'w mut Work,
    limits: PatchLimits,
}

impl<'a> State<'a, '_> {
    fn step(&mut self, operation: &Operation, text: &'a [u8]) -> Result<(), String> {
        let path = &operation.path;
        let value = |range: &Range<usize>| Node::Text(&text[range.clone()]);
        match &operation.action {
            Action::Add(range) => self.put(path, value(range)),
            Action::Remove => self.take(path).map(drop),
            Action::Replace(range) => self.replace(path, value(range)),
            Action::Move { from } => self.move_value(from, path),
            Action::Copy { from } => self.copy(from, path),
            Action::Test(range) => self.test(path, &value(range)),
        }
    }

    fn put(&mut self, path: &Pointer, value: Node<'a>) -> Result<(), String> {
        self.check_depth(path, &value)?;
        match path.tokens().split_last() {
            Some((last, parents)) => self.root.descend(parents, self.work)?.insert(last, value, self.work),
            None => {
                self.root = value;
                Ok(())
            }
        }
    }

    fn replace(&mut self, path: &Pointer, value: Node<'a>) -> Result<(), String> {
        self.check_depth(path, &value)?;
        *self.root.descend(path.tokens(), self.work)? = value;
        Ok(())
    }

    fn take(&mut self, path: &Pointer) -> Result<Node<'a>, String> {
        let Some((last, parents)) = path.tokens().split_last() else {
            return Err("found the whole value to be removed, expected a part of it".into());
        };
        let parent = self.root.descend(parents, self.work)?;
        parent.take(last, self.work)?.ok_or_else(|| parent.lacks(parents, last))
    }

    fn move_value(&mut self, from: &Pointer, path: &Pointer) -> Result<(), String> {
        // RFC 6902 4.4: the "from" location MUST NOT be a proper prefix of the "path" location.
        if path.is_inside(from) {
            return Err(format!("found \"{}\", which is inside what is to be moved, expected a place outside it", path.brief()));
        }
        if path == from {
            return self.root.descend(path.tokens(), self.work).map(drop);
        }
        let value = self.take(from)?;
        self.handle(value.bytes())?;
        self.put(path, value)
    }

    fn copy(&mut self, from: &Pointer, path: &Pointer) -> Result<(), String> {
        let bytes = self.root.descend(from.tokens(), self.work)?.bytes();
        self.handle(bytes)?;
        self.copied_bytes = self.copied_bytes.saturating_add(bytes);
        if self.copied_bytes > self.limits.value_bytes_max {
            let expected = format!("expected at most {}", self.limits.value_bytes_max);
            return Err(format!("found {} bytes copied so far, {expected}", self.copied_bytes));
        }
        let value = self.root.descend(from.tokens(), self.work)?.clone();
        self.put(path, value)
    }

    fn test(&mut self, path: &Pointer, wanted: &Node<'_>) -> Result<(), String> {
        let bytes = self.root.descend(path.tokens(), self.work)?.bytes();
        self.handle(bytes)?;
        let found = self.root.descend(path.tokens(), self.work)?;
        // Kept for the next test of it.
        found.expand(self.work)?;
        if found.equals(wanted) {
            Ok(())
        } else {
            Err(format!("found another value at \"{}\", expected the one of the test", path.brief()))
        }
    }

    fn handle(&mut self, bytes: usize) -> Result<(), String> {
        self.work.charge(bytes)?;
        self.handled_bytes = self.handled_bytes.saturating_add(bytes);
        if self.handled_bytes > self.limits.handled_bytes_max {
            let expected = format!("expected at most {}", self.limits.handled_bytes_max);
            return Err(format!("found {} bytes tested, moved and copied so far, {expected}", self.handled_bytes));
        }
        Ok(())
    }

    /// Keeps every node within the depth, and so whatever walks the tree within its stack.
    fn check_depth(&self, path: &Pointer, value: &Node<'_>) -> Result<(), String> {
        let depth = path.tokens().len() + value.depth();
        if depth > self.limits.depth_max {
            return Err(format!("found {depth} arrays and objects within each other, expected at most {}", self.limits.depth_max));
        }
        Ok(())
    }
}

/// Why a patch does not apply: the client's fault. The value stays as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PatchError {
    /// It is not a patch, whatever the value.
    Malformed {
        /// The byte offset in the patch's text.
        position: usize,
        /// What was found, and what was expected.
        message: String,
    },
    /// It does not fit the value.
    Failed {
        /// The index of the first operation that fails; the last one's where the result as a whole is too long.
        operation: usize,
        /// What was found, and what was expected.
        message: String,
    },
}

impl fmt::Display for PatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { position, message } => write!(f, "{message} at byte {position}"),
            Self::Failed { operation, message } => write!(f, "operation {operation}: {message}"),
        }
    }
}

impl std::error::Error for PatchError {}
