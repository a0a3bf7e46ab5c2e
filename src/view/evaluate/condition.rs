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

/// What a byte costs that a regex looks at, in steps.
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
            Ok(compare(left, *operator, right))
        }
        Condition::Matches { left, regex } => {
            let text = source.find(left, work)?.and_then(string_form);
            let Some(text) = text else { return Ok(false) };
            work.charge(REGEX_STEPS.saturating_mul(text.len()))?;
            Ok(std::str::from_utf8(&text).is_ok_and(|text| regex.is_match(text)))
        }
    }
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
