//! Values of the other types than JSON, and how every type stands in JSON text.
//!
//! The bytes are those of the protocol: STRING is UTF-8, INT64 and DOUBLE are 8 bytes big-endian, BINARY is anything. The
//! text form holds each as JSON: itself, a string, a number, base64 text; a DOUBLE that JSON has no number for is one of
//! three names.

use std::fmt;
use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::ValueType;

/// DOUBLE values that JSON has no number for.
const NAN: &str = "NaN";
const INFINITY: &str = "Infinity";
const NEGATIVE_INFINITY: &str = "-Infinity";
const DOUBLE_FORM: &str = "a number in range, \"NaN\", \"Infinity\" or \"-Infinity\" for DOUBLE";

/// Checks a value of any type but JSON, which needs a [`super::json::Checker`] and passes here as it is.
pub fn check(kind: ValueType, bytes: &[u8]) -> Result<(), ValueError> {
    match kind {
        ValueType::Json | ValueType::Binary => Ok(()),
        ValueType::String => match std::str::from_utf8(bytes) {
            Ok(_) => Ok(()),
            Err(error) => Err(ValueError {
                position: Some(error.valid_up_to()),
                message: "found bytes that are not UTF-8, expected a STRING value".into(),
            }),
        },
        ValueType::Int64 | ValueType::Double if bytes.len() == 8 => Ok(()),
        ValueType::Int64 | ValueType::Double => {
            Err(ValueError { position: None, message: format!("found {} bytes, expected the 8 of {}", bytes.len(), upper_name(kind)) })
        }
    }
}

/// Appends a checked value as it stands in the text form.
pub fn append_json(kind: ValueType, bytes: &[u8], out: &mut Vec<u8>) {
    match kind {
        ValueType::Json => out.extend_from_slice(bytes),
        ValueType::String => append_string(bytes, out),
        ValueType::Int64 => append_display(i64::from_be_bytes(eight(bytes)), out),
        ValueType::Double => append_double(f64::from_be_bytes(eight(bytes)), out),
        ValueType::Binary => append_base64(bytes, out),
    }
}

/// Appends the value that `json_text`, which is valid JSON, stands for. Errors name the type's form, and no position: the
/// caller knows where in a message the text stands.
///
/// INT64 takes whole numbers written without fraction or exponent, so that no digit is ever lost on the way.
pub fn from_json(kind: ValueType, json_text: &str, out: &mut Vec<u8>) -> Result<(), ValueError> {
    let text = json_text.trim_matches([' ', '\t', '\n', '\r']);
    match kind {
        ValueType::Json => out.extend_from_slice(text.as_bytes()),
        ValueType::String => {
            let content = string_content(text).ok_or_else(|| unexpected(text, "a JSON string for STRING"))?;
            let start = out.len();
            append_unescaped(content, out).map_err(|()| {
                out.truncate(start);
                unexpected(text, "a JSON string of whole characters for STRING")
            })?;
        }
        ValueType::Int64 => out.extend_from_slice(&int64(text)?.to_be_bytes()),
        ValueType::Double => out.extend_from_slice(&double(text)?.to_be_bytes()),
        ValueType::Binary => append_decoded(text, out)?,
    }
    Ok(())
}

/// Appends `bytes`, which are UTF-8, as a JSON string; escapes only what must be.
pub fn append_string(bytes: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let mut rest = bytes;
    while let Some(end) = rest.iter().position(|&byte| byte < b' ' || byte == b'"' || byte == b'\\') {
        out.extend_from_slice(&rest[..end]);
        match rest[end] {
            byte @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            byte => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
        rest = &rest[end + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

fn append_double(value: f64, out: &mut Vec<u8>) {
    if value.is_nan() {
        append_string(NAN.as_bytes(), out);
    } else if value.is_infinite() {
        let name = if value > 0.0 { INFINITY } else { NEGATIVE_INFINITY };
        append_string(name.as_bytes(), out);
    } else if value == 0.0 || (1e-5..1e17).contains(&value.abs()) {
        append_display(value, out);
    } else {
        // Plain digits would be up to 325 of them.
        write!(out, "{value:e}").expect("memory takes it");
    }
}

fn append_display(value: impl fmt::Display, out: &mut Vec<u8>) {
    write!(out, "{value}").expect("memory takes it");
}

fn append_base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + base64::encoded_len(bytes.len(), true).expect("a value's length is bounded"), 0);
    BASE64.encode_slice(bytes, &mut out[start..]).expect("the room is that of the text");
    out.push(b'"');
}

fn int64(text: &str) -> Result<i64, ValueError> {
    let is_whole = text.strip_prefix('-').unwrap_or(text).bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(text) {
        Err(unexpected(text, "a number for INT64"))
    } else if !is_whole {
        Err(unexpected(text, "a number without fraction or exponent for INT64"))
    } else {
        text.parse().map_err(|_| unexpected(text, "a number from -9223372036854775808 to 9223372036854775807 for INT64"))
    }
}

fn double(text: &str) -> Result<f64, ValueError> {
    if let Some(content) = string_content(text) {
        let mut name = Vec::new();
        append_unescaped(content, &mut name).map_err(|()| unexpected(text, DOUBLE_FORM))?;
        return [(NAN, f64::NAN), (INFINITY, f64::INFINITY), (NEGATIVE_INFINITY, f64::NEG_INFINITY)]
            .into_iter()
            .find_map(|(known, value)| (known.as_bytes() == name).then_some(value))
            .ok_or_else(|| unexpected(text, DOUBLE_FORM));
    }
    // Rust would also read names such as `inf`, which JSON has not.
    match text.parse::<f64>() {
        Ok(value) if is_number(text) && value.is_finite() => Ok(value),
        _ => Err(unexpected(text, DOUBLE_FORM)),
    }
}

fn append_decoded(text: &str, out: &mut Vec<u8>) -> Result<(), ValueError> {
    let error = || unexpected(text, "a string of padded base64 (RFC 4648) for BINARY");
    let content = string_content(text).ok_or_else(error)?;
    // JSON may write the alphabet's '/' as `\/`, and any character as `\u`.
    let mut unescaped = Vec::new();
    let coded = if content.contains('\\') {
        append_unescaped(content, &mut unescaped).map_err(|()| error())?;
        &unescaped[..]
    } else {
        content.as_bytes()
    };
    let start = out.len();
    BASE64.decode_vec(coded, out).map_err(|_| {
        out.truncate(start);
        error()
    })
}

fn is_number(text: &str) -> bool {
    text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) && text.ends_with(|c: char| c.is_ascii_digit())
}

/// What stands between the quotation marks, if it is a string.
fn string_content(text: &str) -> Option<&str> {
    text.strip_prefix('"')?.strip_suffix('"')
}

/// Undoes the escapes of a JSON string; fails on half of a surrogate pair.
fn append_unescaped(content: &str, out: &mut Vec<u8>) -> Result<(), ()> {
    let mut rest = content;
    while let Some(backslash) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..backslash]);
        let escape = &rest[backslash + 1..];
        let (character, length) = match escape.bytes().next().ok_or(())? {
            byte @ (b'"' | b'\\' | b'/') => (char::from(byte), 1),
            b'b' => ('\u{8}', 1),
            b'f' => ('\u{c}', 1),
            b'n' => ('\n', 1),
            b'r' => ('\r', 1),
            b't' => ('\t', 1),
            b'u' => escaped_character(escape).ok_or(())?,
            _ => return Err(()),
        };
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        rest = &escape[length..];
    }
    out.extend_from_slice(rest.as_bytes());
    Ok(())
}

/// The character of `u….` or of the pair `u….\u….` that `escape` starts with, and how many bytes that is.
fn escaped_character(escape: &str) -> Option<(char, usize)> {
    let unit = |start: usize| u16::from_str_radix(escape.get(start..start + 4)?, 16).ok();
    let first = unit(1)?;
    if let Some(character) = char::from_u32(first.into()) {
        return Some((character, 5));
    }
    let second = escape.get(5..7).filter(|mark| *mark == "\\u").and_then(|_| unit(7))?;
    let character = char::decode_utf16([first, second]).next()?.ok()?;
    Some((character, 11))
}

fn eight(bytes: &[u8]) -> [u8; 8] {
    bytes.try_into().expect("the value was checked")
}

fn upper_name(kind: ValueType) -> String {
    kind.name().to_ascii_uppercase()
}

fn unexpected(text: &str, expected: &str) -> ValueError {
    const CHARS_MAX: usize = 40;
    let found = match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("`{}…`", &text[..end]),
        None if text.is_empty() => "nothing".into(),
        None => format!("`{text}`"),
    };
    ValueError { position: None, message: format!("found {found}, expected {expected}") }
}

/// Why bytes or a text are not a value of the type: the publisher's fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueError {
    /// The byte offset in the value, where one place is at fault.
    pub position: Option<usize>,
    /// What was found, and what was expected.
    pub message: String,
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match self.position {
            Some(position) => write!(f, " at byte {position}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ValueError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn print(kind: ValueType, bytes: &[u8]) -> String {
        check(kind, bytes).unwrap();
        let mut out = b"x".to_vec();
        append_json(kind, bytes, &mut out);
        String::from_utf8(out).unwrap().strip_prefix('x').expect("what was there stays").into()
    }

    fn read(kind: ValueType, text: &str) -> Result<Vec<u8>, ValueError> {
        let mut out = b"x".to_vec();
        let result = from_json(kind, text, &mut out);
        assert!(result.is_ok() || out == b"x", "{text}: a refused value leaves nothing behind");
        result.map(|()| out.split_off(1))
    }

    /// The value prints as `text`, and `text` reads as the value.
    fn check_both(kind: ValueType, bytes: impl AsRef<[u8]>, text: &str) {
        assert_eq!(print(kind, bytes.as_ref()), text);
        assert_eq!(read(kind, text).as_deref(), Ok(bytes.as_ref()), "{text}");
    }

    fn check_read(kind: ValueType, text: &str, bytes: impl AsRef<[u8]>) {
        assert_eq!(read(kind, text).as_deref(), Ok(bytes.as_ref()), "{text}");
    }

    fn check_refused(kind: ValueType, text: &str, words: &str) {
        let error = read(kind, text).expect_err(text);
        assert!(error.message.contains(words), "{text}: {error}");
    }

    #[test]
    fn bytes_have_the_form_of_their_type() {
        assert_eq!(check(ValueType::String, "é".as_bytes()), Ok(()));
        assert_eq!(check(ValueType::String, b""), Ok(()));
        assert_eq!(check(ValueType::String, b"ab\xff").unwrap_err().position, Some(2));
        for kind in [ValueType::Int64, ValueType::Double] {
            assert_eq!(check(kind, &[0; 8]), Ok(()));
            assert!(check(kind, &[0; 7]).unwrap_err().message.contains("found 7 bytes, expected the 8"));
            assert!(check(kind, &[]).is_err() && check(kind, &[0; 9]).is_err());
        }
        assert_eq!(check(ValueType::Binary, b"\xff"), Ok(()));
    }

    #[test]
    fn strings_escape_what_json_demands() {
        let check_both = |value: &str, text: &str| check_both(ValueType::String, value, text);
        check_both("", r#""""#);
        check_both("a\"b\\c/", r#""a\"b\\c/""#);
        check_both("\n\r\t\u{0}\u{1f}\u{7f}\u{2028}🌊", "\"\\n\\r\\t\\u0000\\u001f\u{7f}\u{2028}🌊\"");
        check_read(ValueType::String, r#" "\u00e9\/\b\f\ud83c\udf0a" "#, "é/\u{8}\u{c}🌊");
        check_refused(ValueType::String, "1", "expected a JSON string");
        check_refused(ValueType::String, "null", "expected a JSON string");
        check_refused(ValueType::String, r#""a\ud800""#, "whole characters");
        check_refused(ValueType::String, r#""a\ud800\u0041""#, "whole characters");
    }

    #[test]
    fn int64_is_a_number_without_fraction_in_range() {
        for value in [0, 1, -1, 42, i64::MAX, i64::MIN] {
            check_both(ValueType::Int64, value.to_be_bytes(), &value.to_string());
        }
        check_read(ValueType::Int64, "-0", [0; 8]);
        check_refused(ValueType::Int64, "9223372036854775808", "found `9223372036854775808`, expected a number from");
        check_refused(ValueType::Int64, "1.0", "without fraction");
        check_refused(ValueType::Int64, "1e3", "without fraction");
        check_refused(ValueType::Int64, "\"1\"", "a number for INT64");
        check_refused(ValueType::Int64, "null", "a number for INT64");
    }

    #[test]
    fn double_is_the_shortest_number_that_reads_back() {
        let check_both = |value: f64, text: &str| check_both(ValueType::Double, value.to_be_bytes(), text);
        check_both(0.0, "0");
        check_both(-0.0, "-0");
        check_both(0.1, "0.1");
        check_both(1e16, "10000000000000000");
        check_both(1e17, "1e17");
        check_both(1.5e-7, "1.5e-7");
        check_both(f64::MAX, "1.7976931348623157e308");
        check_both(5e-324, "5e-324");
        check_both(f64::NAN, "\"NaN\"");
        check_both(f64::INFINITY, "\"Infinity\"");
        check_both(f64::NEG_INFINITY, "\"-Infinity\"");
        check_read(ValueType::Double, " 1E2 ", 100f64.to_be_bytes());
        check_read(ValueType::Double, r#""\u004eaN""#, f64::NAN.to_be_bytes());
        check_read(ValueType::Double, "12345678901234567890", 12345678901234567890f64.to_be_bytes());
        for text in ["1e999", "NaN", "inf", "\"nan\"", "\"1\"", "true", "[]"] {
            check_refused(ValueType::Double, text, "expected a number in range");
        }
    }

    #[test]
    fn binary_is_padded_base64() {
        let check_both = |value: &[u8], text: &str| check_both(ValueType::Binary, value, text);
        check_both(b"", "\"\"");
        check_both(b"\xff", "\"/w==\"");
        check_both(b"\xff\xff\xfe", "\"///+\"");
        check_read(ValueType::Binary, r#""\/\u002f\/+""#, b"\xff\xff\xfe");
        for text in ["\"/w\"", "\"_w==\"", "\"/x==\"", "\" /w==\"", "1", "\"é\""] {
            check_refused(ValueType::Binary, text, "base64");
        }
    }

    #[test]
    fn json_stands_as_itself() {
        check_both(ValueType::Json, "{\"a\":1}", "{\"a\":1}");
        check_read(ValueType::Json, " [1] ", "[1]");
    }

    proptest! {
        #[test]
        fn every_value_survives_the_text_form(text in "\\PC*|[\u{0}-\u{30}\\\\]*", number in any::<i64>(), bits in any::<u64>(), bytes in any::<Vec<u8>>()) {
            let double = f64::from_bits(bits);
            // The text form has one name for all NaN.
            let double = if double.is_nan() { f64::NAN } else { double };
            for (kind, value) in [
                (ValueType::String, text.as_bytes()),
                (ValueType::Int64, &number.to_be_bytes()),
                (ValueType::Double, &double.to_be_bytes()),
                (ValueType::Binary, &bytes),
            ] {
                let printed = print(kind, value);
                prop_assert!(serde_json::from_str::<serde_json::Value>(&printed).is_ok(), "{}", printed);
                let read_back = read(kind, &printed);
                prop_assert_eq!(read_back.as_deref(), Ok(value), "{}", printed);
            }
        }

        #[test]
        fn strings_read_as_serde_json_reads_them(content in r#"([a-zé🌊 ]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4}|\\ud83c\\udf0a)*"#) {
            let text = format!("\"{content}\"");
            let expected = serde_json::from_str::<String>(&text).ok().map(String::into_bytes);
            prop_assert_eq!(read(ValueType::String, &text).ok(), expected);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[\"\\\\u0-9a-fNI.+-]*|\\PC*") {
            for kind in ValueType::ALL {
                let _ = read(kind, &text);
            }
        }
    }
}
