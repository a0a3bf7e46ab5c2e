//! A patch's text → operations.

use std::ops::Range;

use super::super::json::walk::{self, Text};
use super::super::json::{JsonLimits, plain};
use super::super::pointer::Pointer;
use super::{Action, Operation, Patch, PatchError, PatchLimits};

/// The array of operations, and the operation.
const LEVELS_AROUND_VALUE: usize = 2;
const NAMES: &str = "`add`, `remove`, `replace`, `move`, `copy` or `test`";

pub fn parse(text: &[u8], limits: PatchLimits) -> Result<Patch, PatchError> {
    if text.len() > limits.text_bytes_max {
        let message = format!("found a patch of {} bytes, expected at most {}", text.len(), limits.text_bytes_max);
        return Err(PatchError::Malformed { position: limits.text_bytes_max, message });
    }
    let json_limits = JsonLimits { depth_max: limits.depth_max.saturating_add(LEVELS_AROUND_VALUE) };
    let compact =
        plain::compact(text, json_limits).map_err(|error| PatchError::Malformed { position: error.position, message: error.message })?;
    let operations = operations(&compact, limits)
        .map_err(|error| PatchError::Malformed { position: plain::position_in(text, error.position), message: error.message })?;
    Ok(Patch { operations, text: compact.into_owned().into() })
}

/// What is wrong at a place in the compact text.
struct Malformed {
    position: usize,
    message: String,
}

fn malformed<T>(position: usize, message: impl Into<String>) -> Result<T, Malformed> {
    Err(Malformed { position, message: message.into() })
}

fn operations(text: &[u8], limits: PatchLimits) -> Result<Box<[Operation]>, Malformed> {
    if text.first() != Some(&b'[') {
        return malformed(0, format!("found {}, expected an array of operations", walk::noun(text)));
    }
    let mut operations = Vec::new();
    for (position, operation) in walk::elements(text) {
        if operations.len() == limits.operations_max {
            return malformed(position, format!("found one more operation, expected at most {}", limits.operations_max));
        }
        if operation.first() != Some(&b'{') {
            return malformed(position, format!("found {}, expected an operation, which is an object", walk::noun(operation)));
        }
        operations.push(Members::read(operation, position)?.operation()?);
    }
    Ok(operations.into())
}

/// The members of one operation, with their places in the patch.
#[derive(Default)]
struct Members<'a> {
    position: usize,
    op: Option<Placed<'a>>,
    path: Option<Placed<'a>>,
    from: Option<Placed<'a>>,
    value: Option<Placed<'a>>,
}

#[derive(Clone, Copy)]
struct Placed<'a> {
    position: usize,
    text: &'a [u8],
}

impl<'a> Members<'a> {
    fn read(operation: &'a [u8], position: usize) -> Result<Self, Malformed> {
        let mut found = Self { position, ..Self::default() };
        for member in walk::members(operation) {
            let slot = match &*member.name.decode() {
                b"op" => &mut found.op,
                b"path" => &mut found.path,
                b"from" => &mut found.from,
                b"value" => &mut found.value,
                _ => continue,
            };
            if slot.is_some() {
                let name = String::from_utf8_lossy(member.name.content());
                return malformed(position + member.position, format!("found `{name}` again, expected it once"));
            }
            *slot = Some(Placed { position: position + member.value_position, text: member.value });
        }
        Ok(found)
    }

    fn operation(&self) -> Result<Operation, Malformed> {
        let op = self.need(self.op, "op")?;
        let name = op.string("op")?.decode();
        let path = || self.need(self.path, "path")?.pointer("path");
        let from = || self.need(self.from, "from")?.pointer("from");
        let value = || self.need(self.value, "value").map(Placed::range);
        let (path, action) = match &*name {
            b"add" => (path()?, Action::Add(value()?)),
            b"remove" => (path()?, Action::Remove),
            b"replace" => (path()?, Action::Replace(value()?)),
            b"move" => (path()?, Action::Move { from: from()? }),
            b"copy" => (path()?, Action::Copy { from: from()? }),
            b"test" => (path()?, Action::Test(value()?)),
            _ => {
                let name: String = String::from_utf8_lossy(&name).chars().take(40).collect();
                return malformed(op.position, format!("found `{name}`, expected {NAMES}"));
            }
        };
        Ok(Operation { action, path })
    }

    fn need(&self, place: Option<Placed<'a>>, name: &str) -> Result<Placed<'a>, Malformed> {
        match place {
            Some(place) => Ok(place),
            None => malformed(self.position, format!("found an operation without `{name}`, expected that member")),
        }
    }
}

impl<'a> Placed<'a> {
    fn range(self) -> Range<usize> {
        self.position..self.position + self.text.len()
    }

    fn string(self, name: &str) -> Result<Text<'a>, Malformed> {
        match walk::string(self.text) {
            Some(text) => Ok(text),
            None => malformed(self.position, format!("found {}, expected a string for `{name}`", walk::noun(self.text))),
        }
    }

    fn pointer(self, name: &str) -> Result<Pointer, Malformed> {
        let text = self.string(name)?;
        let decoded = text.decode();
        let decoded = std::str::from_utf8(&decoded).expect("JSON that was checked is UTF-8");
        Pointer::parse(decoded).or_else(|error| {
            // Escapes move what is behind them; then the string as a whole is pointed at.
            let offset = if text.has_escapes() { 0 } else { 1 + error.position };
            malformed(self.position + offset, format!("found {} in a JSON pointer, expected {}", error.found, error.expected))
        })
    }
}
