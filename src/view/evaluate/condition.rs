//! Conditions of `if`.
//!
//! A comparison with what is not there, or with what it cannot compare, does not hold; so its `not` does. Equal are
//! numbers of one value, strings of the same characters, the same literals; an array or object equals nothing. `!=` holds
//! where both are there and are not equal. The order is that of numbers alone.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::Stop;
use super::source::{Scalar, Source};
use crate::value::number::Decimal;
use crate::value::work::Work;
use crate::view::definition::{Comparison, Condition, Operand};

/// What a byte of a scalar costs that is compared, in steps: its escapes may have to be undone.
const COMPARE_STEPS: usize = 2;
/// What a byte costs at least that a regex looks at, in steps.
const REGEX_STEPS: usize = 16;

/// Calls itself for a condition within, as deep as the parser takes them.
pub fn holds(condition: &Condition, source: &mut Source<'_>, work: &mut Work) -> Result<bool, Stop> {
    work.charge(1)?;
    match condition {
        Condition::All(conditions) => {
            for condition in conditions {
                if !holds(condition, source, work)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        Condition::Any(conditions) => {
            for condition in conditions {
                if holds(condition, source, work)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Condition::Not(condition) => Ok(!holds(condition, source, work)?),
        Condition::Compare { left, operator, right } => {
            let Some(left) = source.find(left, work)? else { return Ok(false) };
            let right = match right {
                Operand::Constant(text) => Some(&**text),
                Operand::Pointer(pointer) => source.find(pointer, work)?,
            };
            let Some(right) = right else { return Ok(false) };
            work.charge(COMPARE_STEPS.saturating_mul(scalar_bytes(left) + scalar_bytes(right)))?;
            Ok(compare(left, *operator, right))
        }
        Condition::Matches { left, regex } => {
            let Some(text) = source.find(left, work)? else { return Ok(false) };
            work.charge(regex_steps(regex.as_str()).saturating_mul(scalar_bytes(text)))?;
            let Some(text) = string_form(text) else { return Ok(false) };
            Ok(std::str::from_utf8(&text).is_ok_and(|text| regex.is_match(text)))
        }
    }
}

/// How much there is to look at: nothing in an array or object.
fn scalar_bytes(text: &[u8]) -> usize {
    if matches!(text.first(), Some(b'[' | b'{')) { 0 } else { text.len() }
}

/// What a byte may cost that a regex looks at: in the worst case it keeps every state in mind, of which there are about as
/// many as its pattern has bytes once repetitions are written out.
fn regex_steps(pattern: &str) -> usize {
    const ATOM_STATES: usize = 4;
    const COUNTS_BYTES_MAX: usize = 24;
    let bytes = pattern.as_bytes();
    let (mut states, mut times) = (bytes.len(), 1_usize);
    for (position, _) in pattern.match_indices('{') {
        let rest = &pattern[position + 1..];
        let end = rest.bytes().take(COUNTS_BYTES_MAX).position(|byte| byte == b'}').unwrap_or(0);
        let counts = &rest[..end];
        let count = counts.split(',').filter_map(|count| count.trim().parse::<usize>().ok()).max().unwrap_or(1).max(1);
        match position.checked_sub(1).map(|before| bytes[before]) {
            Some(b')') => times = times.saturating_mul(count),
            _ => states = states.saturating_add(count.saturating_mul(ATOM_STATES)),
        }
    }
    states.saturating_mul(times).max(REGEX_STEPS)
}

fn compare(left: &[u8], operator: Comparison, right: &[u8]) -> bool {
    match operator {
        Comparison::Equal => are_equal(left, right),
        Comparison::NotEqual => !are_equal(left, right),
        Comparison::Greater => order(left, right).is_some_and(Ordering::is_gt),
        Comparison::GreaterOrEqual => order(left, right).is_some_and(Ordering::is_ge),
        Comparison::Less => order(left, right).is_some_and(Ordering::is_lt),
        Comparison::LessOrEqual => order(left, right).is_some_and(Ordering::is_le),
    }
}

fn are_equal(left: &[u8], right: &[u8]) -> bool {
    match (Scalar::of(left), Scalar::of(right)) {
        (Some(Scalar::Null), Some(Scalar::Null)) => true,
        (Some(Scalar::Boolean(a)), Some(Scalar::Boolean(b))) => a == b,
        (Some(Scalar::Number(a)), Some(Scalar::Number(b))) => order(a, b) == Some(Ordering::Equal),
        (Some(Scalar::String(a)), Some(Scalar::String(b))) => match a.has_escapes() {
            false => b.is(a.content()),
            true => a.is(&b.decode()),
        },
        _ => false,
    }
}

fn order(left: &[u8], right: &[u8]) -> Option<Ordering> {
    Some(Decimal::parse(left)?.cmp(&Decimal::parse(right)?))
}

/// What a regex is matched with: the characters of a string, the text of another scalar.
fn string_form(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    match Scalar::of(text)? {
        Scalar::String(text) => Some(text.decode()),
        Scalar::Null | Scalar::Boolean(_) | Scalar::Number(_) => Some(Cow::Borrowed(text)),
    }
}
