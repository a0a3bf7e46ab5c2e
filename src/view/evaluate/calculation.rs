//! `calc`: decimals, exact as long as 28 digits hold them, and their form.
//!
//! Operands are JSON numbers, taken exactly or refused; a numeric string is none. Products and quotients of more digits
//! are rounded to what fits; what is too large is an error, as is a division by zero. A result has no trailing zeros
//! unless a format asks for them. Without a word on rounding, a format rounds half up.

use std::io::Write;

use rust_decimal::{Decimal, RoundingStrategy};

use super::Stop;
use super::source::{Scalar, Source};
use crate::value::json::walk;
use crate::value::pointer::Pointer;
use crate::value::work::Work;
use crate::view::definition::{Calculation, Format, FormatKind, Operator, Rounding};

/// What one operation costs, in steps.
const OPERATION_STEPS: usize = 64;
/// The first number that no mantissa of a decimal holds.
const MANTISSA_END: u128 = 1 << 96;

/// What is still to be done with the value of the innermost operand.
enum Pending<'d> {
    Negate,
    Apply(Operator, &'d Calculation),
}

/// The result for one value. Chains of operations are walked without recursion; it calls itself for the right operands,
/// which nest as deep as the parser takes them.
pub fn evaluate(calculation: &Calculation, source: &mut Source<'_>, work: &mut Work) -> Result<Decimal, Stop> {
    let mut pending = Vec::new();
    let mut current = calculation;
    let mut result = loop {
        work.charge(OPERATION_STEPS)?;
        match current {
            Calculation::Number(number) => break *number,
            Calculation::Pointer(pointer) => match source.find(pointer, work)? {
                Some(text) => break number(text, pointer, work)?,
                None => return Err(Stop::Failed(format!("found nothing at \"{}\", expected a number", pointer.brief()))),
            },
            Calculation::Negate(operand) => {
                pending.push(Pending::Negate);
                current = operand;
            }
            Calculation::Operation { operator, operands } => {
                let [left, right] = &**operands;
                pending.push(Pending::Apply(*operator, right));
                current = left;
            }
        }
    };
    while let Some(step) = pending.pop() {
        result = match step {
            Pending::Negate => -result,
            Pending::Apply(operator, right) => operate(operator, result, evaluate(right, source, work)?)?,
        };
    }
    Ok(result.normalize())
}

fn operate(operator: Operator, left: Decimal, right: Decimal) -> Result<Decimal, Stop> {
    let (result, symbol) = match operator {
        Operator::Add => (left.checked_add(right), '+'),
        Operator::Subtract => (left.checked_sub(right), '-'),
        Operator::Multiply => (left.checked_mul(right), '*'),
        Operator::Divide if right.is_zero() => return Err(Stop::Failed(format!("found {left} / 0, expected another divisor"))),
        Operator::Divide => (left.checked_div(right), '/'),
    };
    result.ok_or_else(|| Stop::Failed(format!("found {left} {symbol} {right}, expected a result of at most 28 digits")))
}

/// The JSON number that `text`, found at `pointer`, is.
pub fn number(text: &[u8], pointer: &Pointer, work: &mut Work) -> Result<Decimal, Stop> {
    work.charge(text.len())?;
    match Scalar::of(text) {
        Some(Scalar::Number(digits)) => decimal(digits).ok_or_else(|| {
            let digits: String = String::from_utf8_lossy(digits).chars().take(40).collect();
            Stop::Failed(format!("found {digits} at \"{}\", expected a number of at most 28 digits and places", pointer.brief()))
        }),
        _ => Err(Stop::Failed(format!("found {} at \"{}\", expected a number", walk::noun(text), pointer.brief()))),
    }
}

/// The exact value of a JSON number, if a decimal holds it.
pub fn decimal(text: &[u8]) -> Option<Decimal> {
    let (is_negative, text) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
    let exponent_mark = text.iter().position(|byte| matches!(byte, b'e' | b'E'));
    let (digits, written_exponent) = match exponent_mark {
        Some(mark) => (&text[..mark], std::str::from_utf8(&text[mark + 1..]).ok()?.parse::<i32>().ok()),
        None => (text, Some(0)),
    };
    let (mut mantissa, mut zeros, mut places) = (0_u128, 0_usize, None);
    for &byte in digits {
        match byte {
            b'.' => places = Some(0_usize),
            b'0' => zeros += 1,
            b'1'..=b'9' => {
                mantissa = shift(mantissa, zeros + 1)?.checked_add(u128::from(byte - b'0'))?;
                zeros = 0;
            }
            _ => return None,
        }
        places = places.map(|places| if byte == b'.' { 0 } else { places + 1 });
    }
    if mantissa == 0 {
        return Some(Decimal::ZERO);
    }
    let exponent = i64::from(written_exponent?) + i64::try_from(zeros).ok()? - i64::try_from(places.unwrap_or(0)).ok()?;
    let (mantissa, scale) = match usize::try_from(exponent) {
        Ok(exponent) => (shift(mantissa, exponent)?, 0),
        Err(_) => (mantissa, u32::try_from(-exponent).ok()?),
    };
    let magnitude = i128::try_from(mantissa).ok().filter(|_| mantissa < MANTISSA_END)?;
    Decimal::try_from_i128_with_scale(if is_negative { -magnitude } else { magnitude }, scale).ok()
}

/// `mantissa` with so many zeros behind it, as long as that is in sight of what a decimal holds.
fn shift(mantissa: u128, zeros: usize) -> Option<u128> {
    if mantissa == 0 {
        return Some(0);
    }
    if mantissa >= MANTISSA_END {
        return None;
    }
    mantissa.checked_mul(10_u128.checked_pow(u32::try_from(zeros).ok()?)?)
}

/// Appends `number` as JSON.
pub fn append(number: Decimal, format: Option<&Format>, out: &mut Vec<u8>, work: &mut Work) -> Result<(), Stop> {
    let Some(format) = format else {
        return print(number.normalize(), 0, out);
    };
    let quotation_mark: &[u8] = match format.kind {
        FormatKind::Number => b"",
        FormatKind::String => b"\"",
    };
    let number = match format.scale {
        Some(scale) => round(number, scale, format.rounding)?,
        None => number.normalize(),
    };
    let places = format.scale.unwrap_or(0);
    work.charge(usize::try_from(places).unwrap_or(usize::MAX))?;
    out.extend_from_slice(quotation_mark);
    print(number, places, out)?;
    out.extend_from_slice(quotation_mark);
    Ok(())
}

fn round(number: Decimal, scale: u32, rounding: Rounding) -> Result<Decimal, Stop> {
    let strategy = match rounding {
        Rounding::Up => RoundingStrategy::AwayFromZero,
        Rounding::Down => RoundingStrategy::ToZero,
        Rounding::Ceiling => RoundingStrategy::ToPositiveInfinity,
        Rounding::Floor => RoundingStrategy::ToNegativeInfinity,
        Rounding::HalfUp => RoundingStrategy::MidpointAwayFromZero,
        Rounding::HalfDown => RoundingStrategy::MidpointTowardZero,
        Rounding::HalfEven => RoundingStrategy::MidpointNearestEven,
        Rounding::Unnecessary if number.normalize().scale() > scale => {
            return Err(Stop::Failed(format!("found {number}, expected at most {scale} places as no rounding is allowed")));
        }
        Rounding::Unnecessary => return Ok(number.normalize()),
    };
    Ok(number.round_dp_with_strategy(scale, strategy).normalize())
}

/// Pads with zeros to `places` behind the point.
fn print(number: Decimal, places: u32, out: &mut Vec<u8>) -> Result<(), Stop> {
    write!(out, "{number}").map_err(|error| Stop::Failed(error.to_string()))?;
    if places > number.scale() {
        out.extend_from_slice(if number.scale() == 0 { b"." } else { b"" });
        out.resize(out.len() + (places - number.scale()) as usize, b'0');
    }
    Ok(())
}
