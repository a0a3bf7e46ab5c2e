//! Update constraints: what must be true of a topic for an update of it to be made.
//!
//! The topic's owner evaluates a constraint as part of the update, so nothing comes between the two. On the wire it is
//! JSON text in both forms of the protocol. An object with one member, which names the kind; unknown members are refused.
//!
//! | constraint | satisfied when |
//! |---|---|
//! | `{"no_topic":true}` | there is no topic at the path |
//! | `{"no_value":true}` | the topic is there and has no value yet |
//! | `{"value":TEST}` | the topic has a value, which passes |
//! | `{"json":[{"at":POINTER,TEST},…]}` | the topic has a JSON value, and what each pointer (RFC 6901) names passes |
//! | `{"locked":{"name":NAME,"number":n}}` | the session that updates holds the lock by this very grant |
//! | `{"and":[…]}`, `{"or":[…]}` | all, or any, of one or more constraints are |
//!
//! | TEST | passes when |
//! |---|---|
//! | `"is":v,"type":t` | the bytes are those of `v`, as a value of type `t` (`json` where left out; never beside `at`) |
//! | `"eq":x`, `"ne":x` | the value equals, or does not equal, a string, number, boolean or null |
//! | `"gt":n`, `"ge":n`, `"lt":n`, `"le":n` | the value is a number and greater than `n`, … |
//! | `"absent":true` | nothing is there (only beside `at`) |
//!
//! `is` compares JSON as compact text: order of members, spelling of numbers and escapes count. The other tests look at
//! what a value means. Beside a number, a value counts as a number if it is one or a string that reads as one (that of a
//! STRING topic also with zeros before its digits: identifiers are often written so), and is compared exactly, digit by digit; a DOUBLE is the number that it prints as. Beside a string or boolean, a value
//! counts by its string form: a string by its characters, a number as it is written, a boolean as `true` or `false`.
//! Beside null, only a JSON null is equal. What cannot be compared so (an array or object beside anything but null, a
//! null beside anything else, a string that is no number, and `NaN` or `Infinity`, beside a number) passes no test, nor
//! does a value that is not there, `ne` included; `absent` alone asks for that.
//!
//! Which locks a session holds its own shard knows, and settles before the constraint goes to the topic (`settle_locks`): by how locks pass on, what it
//! says is true until the topic's owner has evaluated the rest.
//!
//! Nothing that a topic holds is an error: what cannot be evaluated is not satisfied.

mod compare;
mod parse;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::value::ValueType;
use crate::value::pointer::{self, Pointer};
use compare::{Comparison, Form};

/// Every bound a constraint obeys. A `json` part costs at most one look at every byte of the topic's
/// value, so `parts_max` bounds what an evaluation may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConstraintLimits {
    /// The longest text.
    pub text_bytes_max: usize,
    /// The most `and` and `or` within each other.
    pub depth_max: usize,
    /// The most tests, each `or` counted as one more.
    pub parts_max: usize,
    /// The most arrays and objects within each other in the value of an `is`.
    pub json_depth_max: usize,
}

impl Default for ConstraintLimits {
    fn default() -> Self {
        Self { text_bytes_max: 64 * 1024, depth_max: 8, parts_max: 32, json_depth_max: 128 }
    }
}

/// A parsed constraint that can be satisfied, as far as that is plain to see.
#[derive(Clone, Debug)]
pub struct Constraint {
    part: Part,
    /// As it was written, where it is to be read again elsewhere.
    text: Option<Box<[u8]>>,
}

/// What a constraint is asked about: the topic at the update's path, before the update.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    NoTopic,
    NoValue,
    /// For a time series that is its latest event's value.
    Value {
        kind: ValueType,
        bytes: &'a [u8],
    },
}

#[derive(Clone, Debug)]
enum Part {
    NoTopic,
    NoValue,
    Value(ValueTest),
    Json {
        pointer: Pointer,
        test: JsonTest,
    },
    Locked {
        name: Box<str>,
        number: u64,
        /// False until it is settled.
        is_held: bool,
    },
    /// Never holds an `And` itself.
    And(Box<[Part]>),
    Or(Box<[Part]>),
}

#[derive(Clone, Debug)]
enum ValueTest {
    Is { kind: ValueType, bytes: Box<[u8]> },
    Compare(Comparison),
}

#[derive(Clone, Debug)]
enum JsonTest {
    /// The compact text.
    Is(Box<[u8]>),
    Compare(Comparison),
    Absent,
}

impl Constraint {
    /// Reads a constraint. One that can never be satisfied is refused where two of the parts that must hold together plainly
    /// exclude each other:
    ///
    /// - `no_topic` beside anything else but `locked`; two grants of one lock; `no_value` beside a test of the value;
    /// - a value that `is` something beside any test that this does not pass: another `is`, a `json` part, a comparison;
    /// - `absent` beside another test at the same pointer;
    /// - of the value, or at one pointer: an `eq` beside a comparison that its operand does not pass, or bounds with no
    ///   number between them.
    ///
    /// Parts inside an `or` are held against each other, not against what stands beside the `or`.
    pub fn parse(text: &[u8], limits: ConstraintLimits) -> Result<Self, ConstraintError> {
        parse::parse(text, limits).map(|part| Self { part, text: None })
    }

    /// Says of each lock by its name and the grant's number whether the session that updates holds it.
    pub fn settle_locks(&mut self, mut holds: impl FnMut(&str, u64) -> bool) {
        self.part.settle_locks(&mut holds);
    }

    /// Locks that were not settled are not held.
    pub fn evaluate(&self, subject: Subject<'_>) -> bool {
        self.part.holds(subject)
    }

    /// Keeps the text, for [`Self::text`].
    pub fn keep_text(&mut self, text: &[u8]) {
        self.text = Some(text.into());
    }

    /// The text that it was read from, where that was kept.
    pub fn text(&self) -> Option<&[u8]> {
        self.text.as_deref()
    }

    /// What was settled of locks, each in its place.
    pub fn settled_locks(&self) -> Vec<bool> {
        let mut settled = Vec::new();
        self.part.gather_locks(&mut settled);
        settled
    }
}

impl Part {
    fn gather_locks(&self, settled: &mut Vec<bool>) {
        match self {
            Self::Locked { is_held, .. } => settled.push(*is_held),
            Self::And(parts) | Self::Or(parts) => parts.iter().for_each(|part| part.gather_locks(settled)),
            Self::NoTopic | Self::NoValue | Self::Value(_) | Self::Json { .. } => {}
        }
    }

    fn settle_locks(&mut self, holds: &mut impl FnMut(&str, u64) -> bool) {
        match self {
            Self::Locked { name, number, is_held } => *is_held = holds(name, *number),
            // As deep as a constraint may be.
            Self::And(parts) | Self::Or(parts) => parts.iter_mut().for_each(|part| part.settle_locks(holds)),
            Self::NoTopic | Self::NoValue | Self::Value(_) | Self::Json { .. } => {}
        }
    }

    fn holds(&self, subject: Subject<'_>) -> bool {
        match (self, subject) {
            (Self::And(parts), _) => parts.iter().all(|part| part.holds(subject)),
            (Self::Or(parts), _) => parts.iter().any(|part| part.holds(subject)),
            (Self::Locked { is_held, .. }, _) => *is_held,
            (Self::NoTopic, Subject::NoTopic) | (Self::NoValue, Subject::NoValue) => true,
            (Self::Value(test), Subject::Value { kind, bytes }) => test.passes(kind, bytes),
            (Self::Json { pointer, test }, Subject::Value { kind: ValueType::Json, bytes }) => test.passes(pointer::find(bytes, pointer)),
            _ => false,
        }
    }

    /// Whether it is plain that both never hold together.
    fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::And(_) | Self::Or(_), _) | (_, Self::And(_) | Self::Or(_)) => false,
            // A lock has one grant at a time, and says nothing of the topic.
            (Self::Locked { name: a, number: n, .. }, Self::Locked { name: b, number: m, .. }) => a == b && n != m,
            (Self::Locked { .. }, _) | (_, Self::Locked { .. }) => false,
            (Self::NoTopic, Self::NoTopic) | (Self::NoValue, Self::NoValue) => false,
            (Self::NoTopic | Self::NoValue, _) | (_, Self::NoTopic | Self::NoValue) => true,
            (Self::Value(ValueTest::Is { kind, bytes }), test) | (test, Self::Value(ValueTest::Is { kind, bytes })) => {
                !test.holds(Subject::Value { kind: *kind, bytes })
            }
            (Self::Value(ValueTest::Compare(a)), Self::Value(ValueTest::Compare(b))) => a.excludes(b),
            (Self::Json { pointer: a, test: a_test }, Self::Json { pointer: b, test: b_test }) => a == b && a_test.excludes(b_test),
            (Self::Value(_), Self::Json { .. }) | (Self::Json { .. }, Self::Value(_)) => false,
        }
    }
}

impl ValueTest {
    fn passes(&self, kind: ValueType, bytes: &[u8]) -> bool {
        match self {
            Self::Is { kind: wanted_kind, bytes: wanted } => kind == *wanted_kind && bytes == &**wanted,
            Self::Compare(comparison) => comparison.holds(&Form::of_value(kind, bytes)),
        }
    }
}

impl JsonTest {
    fn passes(&self, found: Option<&[u8]>) -> bool {
        match (self, found) {
            (Self::Is(wanted), Some(text)) => text == &**wanted,
            (Self::Compare(comparison), Some(text)) => comparison.holds(&Form::of_json(text)),
            (Self::Absent, found) => found.is_none(),
            (_, None) => false,
        }
    }

    fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Absent, Self::Absent) => false,
            (Self::Absent, _) | (_, Self::Absent) => true,
            (Self::Is(text), test) | (test, Self::Is(text)) => !test.passes(Some(text)),
            (Self::Compare(a), Self::Compare(b)) => a.excludes(b),
        }
    }
}

/// Why a text is not a constraint: the client's fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConstraintError {
    /// The byte offset in the text.
    pub position: usize,
    pub found: String,
    pub expected: String,
}

impl fmt::Display for ConstraintError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "found {} at byte {}, expected {}", self.found, self.position, self.expected)
    }
}

impl std::error::Error for ConstraintError {}
