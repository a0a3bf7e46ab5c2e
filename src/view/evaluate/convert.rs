//! `type`: the value of one type as one of another.
//!
//! | from | to | gives |
//! |---|---|---|
//! | STRING, INT64, DOUBLE | JSON | the value as JSON writes it; `null` for null |
//! | JSON string, number, boolean | STRING | its characters, or its text |
//! | JSON number, or string of one | INT64, DOUBLE | the number, without fraction for INT64 |
//! | JSON `null` | STRING, INT64, DOUBLE | null |
//! | STRING | INT64, DOUBLE | the number that it writes |
//! | INT64, DOUBLE | STRING | its text |
//! | INT64 | DOUBLE | the nearest double |
//! | DOUBLE | INT64 | the same number, if it has no fraction |
//!
//! Anything else has no value of the other type: arrays, objects, BINARY.

use std::borrow::Cow;

use super::calculation::decimal;
use super::source::Scalar;
use super::{Stop, Value};
use crate::value::ValueType;
use crate::value::json::walk;
use crate::value::number::Decimal as Number;
use crate::value::scalar;

/// From one type to another. JSON is the form between all others.
pub fn convert(from: ValueType, value: Value<'_>, to: ValueType) -> Result<Value<'_>, Stop> {
    if from == to {
        return Ok(value);
    }
    if from == ValueType::Binary || to == ValueType::Binary {
        return Err(refuse(&format!("a value of type {}", from.name()), to));
    }
    let Some(value) = value else {
        let is_null = to == ValueType::Json;
        return Ok(is_null.then_some(Cow::Borrowed(&b"null"[..])));
    };
    match (from, to) {
        (ValueType::Json, _) => of_json(&value, to),
        (ValueType::String, ValueType::Int64 | ValueType::Double) => number_of(&value, to).map(Some),
        (ValueType::Double, ValueType::String) => {
            let mut json = Vec::new();
            scalar::append_json(from, &value, &mut json);
            of_json(&json, to)
        }
        (ValueType::Int64, ValueType::Double) => {
            let number = <[u8; 8]>::try_from(&*value).map(i64::from_be_bytes);
            let number = number.map_err(|_| refuse("bytes that are no INT64", to))?;
            Ok(Some(Cow::Owned((number as f64).to_be_bytes().into())))
        }
        _ => {
            let mut json = Vec::new();
            scalar::append_json(from, &value, &mut json);
            if to == ValueType::Json { Ok(Some(Cow::Owned(json))) } else { of_json(&json, to) }
        }
    }
}

fn of_json(json: &[u8], to: ValueType) -> Result<Value<'static>, Stop> {
    match (Scalar::of(json), to) {
        (Some(Scalar::Null), _) => Ok(None),
        (Some(Scalar::String(text)), ValueType::String) => Ok(Some(Cow::Owned(text.decode().into_owned()))),
        (Some(Scalar::Number(_) | Scalar::Boolean(_)), ValueType::String) => Ok(Some(Cow::Owned(json.to_vec()))),
        (Some(Scalar::Number(text)), _) => number_of(text, to).map(Some),
        (Some(Scalar::String(text)), _) => number_of(&text.decode(), to).map(Some),
        _ => Err(refuse(walk::noun(json), to)),
    }
}

/// The INT64 or DOUBLE that `text` writes, as JSON does or, for doubles that JSON cannot write, by its name.
fn number_of(text: &[u8], to: ValueType) -> Result<Cow<'static, [u8]>, Stop> {
    let found = || {
        let brief: String = String::from_utf8_lossy(&text[..text.len().min(80)]).chars().take(40).collect();
        refuse(&format!("`{brief}`"), to)
    };
    let text_form = std::str::from_utf8(text).map_err(|_| found())?;
    let is_number = Number::parse(text).is_some();
    if to == ValueType::Int64 {
        let whole = decimal(text).filter(|number| is_number && number.scale() == 0).ok_or_else(found)?;
        let whole = i64::try_from(whole.mantissa()).map_err(|_| found())?;
        return Ok(Cow::Owned(whole.to_be_bytes().into()));
    }
    let mut value = Vec::with_capacity(8);
    let json = if is_number { Cow::Borrowed(text_form) } else { Cow::Owned(format!("\"{text_form}\"")) };
    scalar::from_json(ValueType::Double, &json, &mut value).map_err(|_| found())?;
    Ok(Cow::Owned(value))
}

fn refuse(found: &str, to: ValueType) -> Stop {
    let expected = match to {
        ValueType::Json => "a string, int64 or double to make json of",
        ValueType::String => "a string, number or boolean to make a string of",
        ValueType::Int64 => "a whole number from -9223372036854775808 to 9223372036854775807 to make an int64 of",
        ValueType::Double => "a number to make a double of",
        ValueType::Binary => "a binary value",
    };
    Stop::Failed(format!("found {found}, expected {expected}"))
}
