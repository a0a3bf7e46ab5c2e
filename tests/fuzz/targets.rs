//! What is to hold for any bytes, one function for each decoder and parser.

use serde_json::Value;
use tidewire::surface::topic::path::{TopicPath, check_form, compare, is_within};
use tidewire::surface::topic::selector::{Selector, SelectorLimits};
use tidewire::surface::value::ValueType;
use tidewire::surface::value::json::{Checker, JsonLimits, is_compact};
use tidewire::surface::value::scalar;

/// Two paths, one a line: both are judged, and compared.
pub fn path(input: &[u8]) {
    const PATH_BYTES_MAX: usize = 100;
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (a, b) = text.split_once('\n').unwrap_or((text, ""));
    match TopicPath::parse(a, PATH_BYTES_MAX) {
        Ok(path) => assert!(path.segments().all(|segment| !segment.is_empty()) && a.len() <= PATH_BYTES_MAX),
        Err(error) => assert!(a.is_char_boundary(error.position) || error.position == PATH_BYTES_MAX, "{error}"),
    }
    assert_eq!(check_form(a).is_ok(), a.split('/').all(|segment| !segment.is_empty()));
    if check_form(a).is_ok() && check_form(b).is_ok() {
        let (a_segments, b_segments): (Vec<_>, Vec<_>) = (a.split('/').collect(), b.split('/').collect());
        assert_eq!(compare(a, b), a_segments.cmp(&b_segments));
        assert_eq!(is_within(a, b), a_segments.starts_with(&b_segments));
    }
}

/// A selector, and behind a line break a path.
pub fn selector(input: &[u8]) {
    let limits = SelectorLimits { text_bytes_max: 512, members_max: 8, regexes_max: 8, ..SelectorLimits::default() };
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (text, path) = text.split_once('\n').unwrap_or((text, "a/b/c"));
    match Selector::parse(text, limits) {
        Ok(selector) => {
            let unlimited = SelectorLimits { text_bytes_max: 2 * limits.text_bytes_max, ..limits };
            let again = Selector::parse(selector.as_str(), unlimited).expect("the canonical text is a selector");
            assert_eq!(again.as_str(), selector.as_str());
            assert_eq!(again.prefix(), selector.prefix());
            assert!(selector.prefix().is_empty() || check_form(selector.prefix()).is_ok());
            if check_form(path).is_ok() {
                let matches = selector.matches(path);
                assert_eq!(again.matches(path), matches);
                assert!(!matches || is_within(path, selector.prefix()));
            }
        }
        Err(error) => {
            assert!(text.is_char_boundary(error.position) || error.position == limits.text_bytes_max, "{error}");
            assert!(error.to_string().len() < 500, "{error}");
        }
    }
}

/// The verdict is that of another parser, and the compact form means the same.
pub fn json(input: &[u8]) {
    let mut checker = Checker::new();
    let mut out = Vec::new();
    let result = checker.compact(input, JsonLimits { depth_max: 100 }, &mut out);
    let expected = serde_json::from_slice::<Value>(input);
    match result {
        Ok(()) => {
            assert_eq!(serde_json::from_slice::<Value>(&out).expect("still JSON"), expected.expect("valid"));
            assert!(is_compact(&out));
            assert_eq!(is_compact(input), input == out);
            let mut again = Vec::new();
            checker.compact(&out, JsonLimits { depth_max: 100 }, &mut again).expect("still JSON");
            assert_eq!(again, out);
        }
        Err(error) => {
            assert!(expected.is_err() || error.message.contains("at most 100"), "{error}");
            assert!(error.position <= input.len() && !error.message.contains("cannot read"), "{error}");
            assert!(out.is_empty());
        }
    }
}

/// What is read from JSON text is a value of its type, and comes back from its own text form.
pub fn scalar_from_json(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(meaning) = serde_json::from_str::<Value>(text) else { return };
    for kind in [ValueType::String, ValueType::Int64, ValueType::Double, ValueType::Binary] {
        let mut value = Vec::new();
        let result = scalar::from_json(kind, text, &mut value);
        match kind {
            ValueType::String => assert_eq!(meaning.as_str().map(str::as_bytes), result.is_ok().then_some(&value[..])),
            ValueType::Double => assert_eq!(result.is_ok(), meaning.is_f64() || meaning.is_number() || is_double_name(&meaning)),
            _ => {}
        }
        match result {
            Ok(()) => comes_back(kind, &value),
            Err(error) => assert!(value.is_empty() && !error.message.is_empty()),
        }
    }
}

/// Bytes that pass as a value come back from the text form.
pub fn scalar(input: &[u8]) {
    for kind in [ValueType::String, ValueType::Int64, ValueType::Double, ValueType::Binary] {
        // The text form has one NaN; all others read back as that.
        let is_nan = kind == ValueType::Double && input.try_into().is_ok_and(|bytes| f64::from_be_bytes(bytes).is_nan());
        if scalar::check(kind, input).is_ok() && !is_nan {
            comes_back(kind, input);
        }
    }
}

fn is_double_name(meaning: &Value) -> bool {
    matches!(meaning.as_str(), Some("NaN" | "Infinity" | "-Infinity"))
}

fn comes_back(kind: ValueType, value: &[u8]) {
    scalar::check(kind, value).expect("a value of its type");
    let (mut printed, mut read) = (Vec::new(), Vec::new());
    scalar::append_json(kind, value, &mut printed);
    let printed = String::from_utf8(printed).expect("the text form is UTF-8");
    Checker::new().compact(printed.as_bytes(), JsonLimits { depth_max: 0 }, &mut Vec::new()).expect("the text form is JSON");
    scalar::from_json(kind, &printed, &mut read).expect("what was printed is read");
    assert_eq!(read, value, "{printed}");
}
