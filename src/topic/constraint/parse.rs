//! A constraint's text → its parts.

use std::borrow::Cow;

use super::compare::{Comparison, Operand, Operator};
use super::{ConstraintError, ConstraintLimits, JsonTest, Part, ValueTest};
use crate::topic::path;
use crate::value::json::{JsonLimits, plain, walk};
use crate::value::pointer::Pointer;
use crate::value::{ValueType, scalar};

const KINDS: &str = "`no_topic`, `no_value`, `value`, `json`, `locked`, `and` or `or`";
const VALUE_TESTS: &str = "`is` (and `type`), `eq`, `ne`, `gt`, `ge`, `lt` or `le`";
const JSON_TESTS: &str = "`is`, `eq`, `ne`, `gt`, `ge`, `lt`, `le` or `absent`";
/// Of JSON around the value of an `is` that no `and` or `or` holds: the constraint, its array, the test.
const LEVELS_AROUND_VALUE: usize = 3;

pub fn parse(text: &[u8], limits: ConstraintLimits) -> Result<Part, ConstraintError> {
    if text.len() > limits.text_bytes_max {
        let found = format!("a constraint of {} bytes", text.len());
        return refuse(limits.text_bytes_max, found, format!("at most {}", limits.text_bytes_max));
    }
    // Each `and` and `or` is an object and an array; one too many is better told by the parser.
    let levels_around = 2 * limits.depth_max.saturating_add(1) + LEVELS_AROUND_VALUE;
    let json_limits = JsonLimits { depth_max: limits.json_depth_max.saturating_add(levels_around) };
    let compact = plain::compact(text, json_limits).or_else(|error| refuse_worded(error.position, &error.message))?;
    let mut parser = Parser { limits, parts: 0 };
    parser
        .conjunction(Placed { position: 0, text: &compact }, 0)
        .map_err(|error| ConstraintError { position: plain::position_in(text, error.position), ..error })
}

struct Parser {
    limits: ConstraintLimits,
    /// How many there are so far.
    parts: usize,
}

/// A value in the compact text.
#[derive(Clone, Copy)]
struct Placed<'a> {
    position: usize,
    text: &'a [u8],
}

impl Parser {
    /// A constraint by itself, or one of the alternatives of an `or`: all that must hold together.
    fn conjunction(&mut self, place: Placed<'_>, depth: usize) -> Result<Part, ConstraintError> {
        let mut parts = Vec::new();
        self.read(place, depth, &mut parts)?;
        for (index, (position, part)) in parts.iter().enumerate() {
            if let Some((other, _)) = parts[..index].iter().find(|(_, before)| part.excludes(before)) {
                let found = format!("a part that the one at byte {other} excludes");
                return refuse(*position, found, "parts that can hold together");
            }
        }
        let mut parts: Vec<Part> = parts.into_iter().map(|(_, part)| part).collect();
        Ok(if parts.len() == 1 { parts.remove(0) } else { Part::And(parts.into()) })
    }

    /// Appends what must hold for the constraint at `place`, each part with its position.
    fn read(&mut self, place: Placed<'_>, depth: usize, parts: &mut Vec<(usize, Part)>) -> Result<(), ConstraintError> {
        let (name_position, name, value) = place.only_member()?;
        match &*name {
            b"no_topic" => value.demand_true().and_then(|()| self.push(place.position, Part::NoTopic, parts)),
            b"no_value" => value.demand_true().and_then(|()| self.push(place.position, Part::NoValue, parts)),
            b"value" => self.push(place.position, Part::Value(value_test(value, self.limits)?), parts),
            b"json" => value.items()?.into_iter().try_for_each(|item| self.push(item.position, json_part(item, self.limits)?, parts)),
            b"and" | b"or" if depth == self.limits.depth_max => {
                let expected = format!("at most {}", self.limits.depth_max);
                refuse(name_position, "one more `and` or `or` within others", expected)
            }
            b"and" => value.items()?.into_iter().try_for_each(|item| self.read(item, depth + 1, parts)),
            b"or" => {
                let alternatives = value.items()?.into_iter().map(|item| self.conjunction(item, depth + 1));
                let alternatives = alternatives.collect::<Result<_, _>>()?;
                self.push(place.position, Part::Or(alternatives), parts)
            }
            b"locked" => self.push(place.position, locked(value)?, parts),
            _ => refuse(name_position, brief(&name), KINDS),
        }
    }

    fn push(&mut self, position: usize, part: Part, parts: &mut Vec<(usize, Part)>) -> Result<(), ConstraintError> {
        if self.parts == self.limits.parts_max {
            return refuse(position, "one more part", format!("at most {}", self.limits.parts_max));
        }
        self.parts += 1;
        parts.push((position, part));
        Ok(())
    }
}

fn value_test(place: Placed<'_>, limits: ConstraintLimits) -> Result<ValueTest, ConstraintError> {
    let (mut kind, mut test) = (None, None);
    for member in place.members()? {
        match &*member.name {
            b"type" if kind.is_none() => kind = Some((member.position, value_type(member.value)?)),
            b"is" if test.is_none() => test = Some(Err(member.value)),
            name => match Operator::from_name(name) {
                Some(operator) if test.is_none() => test = Some(Ok(comparison(operator, member.value)?)),
                _ => return refuse(member.position, brief(name), format!("one of {VALUE_TESTS}, once")),
            },
        }
    }
    match (test, kind) {
        (Some(Ok(_)), Some((position, _))) => refuse(position, "`type`", "that only beside `is`"),
        (Some(Ok(comparison)), None) => Ok(ValueTest::Compare(comparison)),
        (Some(Err(value)), kind) => {
            let kind = kind.map_or(ValueType::Json, |(_, kind)| kind);
            Ok(ValueTest::Is { kind, bytes: value.as_value(kind, limits)? })
        }
        (None, _) => refuse(place.position, "a test that asks for nothing", format!("one of {VALUE_TESTS}")),
    }
}

fn json_part(place: Placed<'_>, limits: ConstraintLimits) -> Result<Part, ConstraintError> {
    let (mut pointer, mut test) = (None, None);
    for member in place.members()? {
        match &*member.name {
            b"at" if pointer.is_none() => pointer = Some(member.value.as_pointer()?),
            b"is" if test.is_none() => test = Some(JsonTest::Is(member.value.as_value(ValueType::Json, limits)?)),
            b"absent" if test.is_none() => {
                member.value.demand_true()?;
                test = Some(JsonTest::Absent);
            }
            name => match Operator::from_name(name) {
                Some(operator) if test.is_none() => test = Some(JsonTest::Compare(comparison(operator, member.value)?)),
                _ => return refuse(member.position, brief(name), format!("`at` and one of {JSON_TESTS}, once")),
            },
        }
    }
    match (pointer, test) {
        (Some(pointer), Some(test)) => Ok(Part::Json { pointer, test }),
        (None, _) => refuse(place.position, "a test without `at`", "that member, a JSON pointer"),
        (_, None) => refuse(place.position, "a test that asks for nothing", format!("one of {JSON_TESTS}")),
    }
}

fn locked(place: Placed<'_>) -> Result<Part, ConstraintError> {
    let (mut lock, mut number) = (None, None);
    for member in place.members()? {
        match &*member.name {
            b"name" if lock.is_none() => lock = Some(member.value.as_lock_name()?),
            b"number" if number.is_none() => number = Some(member.value.as_number()?),
            name => return refuse(member.position, brief(name), "`name` and `number`, once"),
        }
    }
    match (lock, number) {
        (Some(name), Some(number)) => Ok(Part::Locked { name, number, is_held: false }),
        (None, _) => refuse(place.position, "a lock without `name`", "that member, the lock's name"),
        (_, None) => refuse(place.position, "a lock without `number`", "that member, the number of its grant"),
    }
}

fn comparison(operator: Operator, value: Placed<'_>) -> Result<Comparison, ConstraintError> {
    let is_equality = matches!(operator, Operator::Eq | Operator::Ne);
    let operand = match value.text.first() {
        Some(b'-' | b'0'..=b'9') => Operand::Number(value.text.into()),
        _ if !is_equality => return refuse(value.position, walk::noun(value.text), "a number"),
        Some(b'n') => Operand::Null,
        Some(b't' | b'f') => Operand::Text(value.text.into()),
        _ => match walk::string(value.text) {
            Some(text) => Operand::Text(text.decode().into()),
            None => return refuse(value.position, walk::noun(value.text), "a string, number, boolean or null"),
        },
    };
    Ok(Comparison { operator, operand })
}

fn value_type(place: Placed<'_>) -> Result<ValueType, ConstraintError> {
    let name = walk::string(place.text).map(|text| text.decode());
    let known = ValueType::ALL.into_iter().find(|kind| name.as_deref() == Some(kind.name().as_bytes()));
    known.map_or_else(
        || {
            let names: Vec<_> = ValueType::ALL.iter().map(|kind| format!("\"{}\"", kind.name())).collect();
            refuse(place.position, brief(place.text), format!("a type: {}", names.join(", ")))
        },
        Ok,
    )
}

struct Member<'a> {
    position: usize,
    name: Cow<'a, [u8]>,
    value: Placed<'a>,
}

impl<'a> Placed<'a> {
    fn members(self) -> Result<impl Iterator<Item = Member<'a>>, ConstraintError> {
        if self.text.first() != Some(&b'{') {
            return refuse(self.position, walk::noun(self.text), "an object");
        }
        Ok(walk::members(self.text).map(move |member| Member {
            position: self.position + member.position,
            name: member.name.decode(),
            value: Placed { position: self.position + member.value_position, text: member.value },
        }))
    }

    /// The place of its name, its name and its value.
    fn only_member(self) -> Result<(usize, Cow<'a, [u8]>, Placed<'a>), ConstraintError> {
        let mut members = self.members()?;
        let Some(member) = members.next() else {
            return refuse(self.position, "an object without members", format!("one of {KINDS}"));
        };
        match members.next() {
            Some(second) => refuse(second.position, brief(&second.name), "one member in a constraint: `and` and `or` join several"),
            None => Ok((member.position, member.name, member.value)),
        }
    }

    /// The elements of an array that has some.
    fn items(self) -> Result<Vec<Placed<'a>>, ConstraintError> {
        if self.text.first() != Some(&b'[') {
            return refuse(self.position, walk::noun(self.text), "an array");
        }
        let items = walk::elements(self.text).map(|(position, text)| Placed { position: self.position + position, text });
        let items: Vec<_> = items.collect();
        if items.is_empty() {
            return refuse(self.position, "an array without elements", "one or more");
        }
        Ok(items)
    }

    fn demand_true(self) -> Result<(), ConstraintError> {
        if self.text == b"true" { Ok(()) } else { refuse(self.position, brief(self.text), "`true`") }
    }

    fn as_pointer(self) -> Result<Pointer, ConstraintError> {
        let Some(text) = walk::string(self.text) else {
            return refuse(self.position, walk::noun(self.text), "a JSON pointer in a string");
        };
        let decoded = text.decode();
        let decoded = std::str::from_utf8(&decoded).expect("JSON that was checked is UTF-8");
        Pointer::parse(decoded).or_else(|error| {
            // Escapes move what is behind them; then the string as a whole is pointed at.
            let offset = if text.has_escapes() { 0 } else { 1 + error.position };
            refuse(self.position + offset, format!("{} in a JSON pointer", error.found), error.expected)
        })
    }

    fn as_lock_name(self) -> Result<Box<str>, ConstraintError> {
        let Some(text) = walk::string(self.text) else {
            return refuse(self.position, walk::noun(self.text), "a lock's name in a string");
        };
        let decoded = text.decode();
        let decoded = std::str::from_utf8(&decoded).expect("JSON that was checked is UTF-8");
        match path::check_form(decoded) {
            Ok(()) => Ok(decoded.into()),
            Err(error) => {
                let offset = if text.has_escapes() { 0 } else { 1 + error.position };
                refuse(self.position + offset, format!("what is no path: {error}"), "a lock's name")
            }
        }
    }

    fn as_number(self) -> Result<u64, ConstraintError> {
        let number = std::str::from_utf8(self.text).ok().and_then(|text| text.parse().ok());
        number.map_or_else(|| refuse(self.position, brief(self.text), "a grant's number"), Ok)
    }

    fn as_value(self, kind: ValueType, limits: ConstraintLimits) -> Result<Box<[u8]>, ConstraintError> {
        let depth = walk::depth(self.text);
        if depth > limits.json_depth_max {
            let found = format!("{depth} arrays and objects within each other");
            return refuse(self.position, found, format!("at most {}", limits.json_depth_max));
        }
        let text = std::str::from_utf8(self.text).expect("JSON that was checked is UTF-8");
        let mut bytes = Vec::new();
        match scalar::from_json(kind, text, &mut bytes) {
            Ok(()) => Ok(bytes.into()),
            Err(error) => refuse_worded(self.position, &error.message),
        }
    }
}

fn refuse<T>(position: usize, found: impl Into<String>, expected: impl Into<String>) -> Result<T, ConstraintError> {
    Err(ConstraintError { position, found: found.into(), expected: expected.into() })
}

/// An error whose message has both in one: "found …, expected …".
fn refuse_worded<T>(position: usize, message: &str) -> Result<T, ConstraintError> {
    let message = message.strip_prefix("found ").unwrap_or(message);
    let (found, expected) = message.split_once(", expected ").unwrap_or((message, "a JSON value"));
    refuse(position, found, expected)
}

/// A text short enough to be quoted in an error.
fn brief(text: &[u8]) -> String {
    const CHARS_MAX: usize = 40;
    let text = String::from_utf8_lossy(text);
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("`{}…`", &text[..end]),
        None => format!("`{text}`"),
    }
}
