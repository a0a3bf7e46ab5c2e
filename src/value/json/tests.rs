//! JSON as it comes and as it is kept: compact, checked, within its limits.

use proptest::prelude::*;

use super::*;

const LIMITS: JsonLimits = JsonLimits { depth_max: 64 };

fn compact(text: &[u8]) -> Result<Vec<u8>, JsonError> {
    let mut out = b"before".to_vec();
    let result = Checker::new().compact(text, LIMITS, &mut out);
    // The slow reader and the fast one agree on every text.
    assert_eq!(scan::scan(text, LIMITS), result, "{:?}", String::from_utf8_lossy(text));
    let appended = out.strip_prefix(b"before").expect("what was there stays").to_vec();
    assert!(result.is_ok() || appended.is_empty());
    result.map(|()| appended)
}

fn check(text: &str, expected: &str) {
    let found = compact(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(String::from_utf8(found).unwrap(), expected, "{text}");
    assert_eq!(is_compact(text.as_bytes()), text == expected, "{text}");
    assert!(is_compact(expected.as_bytes()), "{expected}");
}

fn check_kept(text: &str) {
    check(text, text);
}

fn check_refused(text: impl AsRef<[u8]>, position: usize, words: &str) {
    let text = text.as_ref();
    let error = compact(text).expect_err("refused");
    let shown = String::from_utf8_lossy(&text[..text.len().min(100)]);
    assert_eq!(error.position, position, "{shown}: {error}");
    assert!(error.message.contains(words), "{shown}: {error}");
}

#[test]
fn white_space_outside_strings_goes_and_the_rest_stays() {
    check(" \t\r\n{ \"a b\" : [ 1 , 2.50 , \" x \\\" \\\\\" ] , \"a b\" :\nnull }\n", r#"{"a b":[1,2.50," x \" \\"],"a b":null}"#);
    check(" 1 ", "1");
    check("\"a\" ", "\"a\"");
    check("[ ]", "[]");
    check("{ }", "{}");
    check("[true ,false]", "[true,false]");
    check_kept(r#"{"b":1,"a":2,"b":3}"#);
    check_kept(r#""\u0041\/\n\ud83c\udf0a é 🌊""#);
    check_kept(r#"{"":{"":[]}}"#);
    // No-break space and form feed are not white space to JSON.
    check_refused("[1,\u{a0}2]", 3, "a JSON value");
    check_refused("[1,\u{c}2]", 3, "a JSON value");
}

#[test]
fn numbers_keep_their_spelling() {
    for number in ["0", "-0", "-0.0", "1E5", "1e+05", "1.10", "1e-999", "123456789012345678901234567890123456789012"] {
        check_kept(number);
        check_kept(&format!("[{number},{number}]"));
    }
    check_kept("1.7976931348623157e308");
    check_refused("1.8e308", 0, "range of a double");
    check_refused("[1,-1e999]", 3, "range of a double");
    check_refused(format!("[{}]", "9".repeat(400)), 1, "range of a double");
}

#[test]
fn what_is_not_a_json_number_is_refused_where_it_breaks() {
    check_refused("01", 1, "leading zero");
    check_refused("-", 1, "a digit");
    check_refused("-01", 2, "leading zero");
    check_refused("1.", 2, "a digit");
    check_refused(".5", 0, "a JSON value");
    check_refused("+1", 0, "a JSON value");
    check_refused("1e", 2, "a digit");
    check_refused("[1.e3]", 3, "a digit");
    check_refused("NaN", 0, "a JSON value");
    check_refused("-Infinity", 1, "a digit");
    check_refused("0x10", 1, "the end of the text");
    check_refused("[1a]", 2, "',' or ']'");
}

#[test]
fn strings_are_characters_and_nothing_less() {
    check_refused(r#""\ud800""#, 1, "surrogate");
    check_refused(r#""a\ud800\u0041""#, 2, "surrogate");
    check_refused(r#""\udc00""#, 1, "surrogate");
    check_refused(r#""\ud800\ud800""#, 1, "surrogate");
    check_refused(r#"{"\udfff":1}"#, 2, "surrogate");
    check_refused("\"a\nb\"", 2, "control characters");
    check_refused("\"\u{0}\"", 1, "control characters");
    check_kept("\"\u{7f}\u{2028}\"");
    check_refused(r#""\x41""#, 2, "behind the backslash");
    check_refused(r#""\u12g4""#, 5, "hexadecimal");
    check_refused(r#""\u12"#, 5, "hexadecimal");
    check_refused("\"abc", 4, "quotation mark");
    check_refused("\"abc\\", 5, "behind the backslash");
    check_refused("'a'", 0, "a JSON value");
}

#[test]
fn text_is_utf8_without_a_mark() {
    check_refused("\u{feff}1", 0, "byte order mark");
    check_refused(b"\"a\xff\"", 2, "not UTF-8");
    check_refused(b"\"\xed\xa0\x80\"", 1, "not UTF-8");
    check_refused(b"\"\xc0\xaf\"", 1, "not UTF-8");
    check_refused(b"\"\xf4\x90\x80\x80\"", 1, "not UTF-8");
    check_refused(b"[1]\x80", 3, "the end of the text");
    check_refused(b"\"\xe2\x82", 1, "not UTF-8");
}

#[test]
fn a_text_is_one_value() {
    check_refused("", 0, "the end of the text, expected a JSON value");
    check_refused("  ", 2, "the end of the text, expected a JSON value");
    check_refused("1 2", 2, "the end of the text");
    check_refused("{}{}", 2, "the end of the text");
    check_refused("[1]\0", 3, "the end of the text");
    check_refused("nul", 3, "`null`");
    check_refused("True", 0, "a JSON value");
    check_refused("trueish", 4, "the end of the text");
    check_refused("// a\n1", 0, "a JSON value");
}

#[test]
fn brackets_commas_and_colons_stand_where_they_must() {
    check_refused("[1,]", 3, "a JSON value");
    check_refused("[,1]", 1, "a JSON value");
    check_refused("{\"a\":1,}", 7, "a key");
    check_refused("{1:2}", 1, "a key");
    check_refused("{\"a\" 1}", 5, "':'");
    check_refused("{\"a\":}", 5, "a JSON value");
    check_refused("[1}", 2, "',' or ']'");
    check_refused("{\"a\":1]", 6, "',' or '}'");
    check_refused("[1", 2, "',' or ']'");
    check_refused("[", 1, "a JSON value");
    check_refused("]", 0, "a JSON value");
    check_refused("[1 2]", 3, "',' or ']'");
}

#[test]
fn depth_has_an_edge_and_costs_no_stack() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    check_kept(&nested(64));
    check_refused(nested(65), 64, "at most 64");
    check_refused(nested(100_000), 64, "at most 64");
    check_refused("[".repeat(100_000), 64, "at most 64");
    check_refused("{\"a\":".repeat(100_000), 64 * 5, "at most 64");
    check_kept(&format!("[{}1]", "[],".repeat(1000)));
    let mut out = Vec::new();
    Checker::new().compact(nested(100_000).as_bytes(), JsonLimits { depth_max: 100_000 }, &mut out).unwrap();
    assert_eq!(out.len(), 200_000);
}

#[test]
fn a_checker_forgets_the_text_before() {
    let mut checker = Checker::new();
    let mut out = Vec::new();
    for (text, good) in [("[1, \"\\u0041\"]", true), ("[1", false), ("\"\\ud800\"", false), ("{}", true), ("", false), ("2", true)] {
        assert_eq!(checker.compact(text.as_bytes(), LIMITS, &mut out).is_ok(), good, "{text}");
    }
    assert_eq!(out, br#"[1,"\u0041"]{}2"#);
}

/// All texts of up to six pieces: every verdict is that of another parser, and what is kept means the same.
#[test]
fn verdicts_on_all_short_texts_are_those_of_serde_json() {
    let pieces: &[&[u8]] = &[b"[", b"]", b"{", b"}", b",", b":", b"\"", b"\"a\"", b"0", b"1", b"-", b".", b"e1", b" ", b"\\", b"null"];
    let mut texts: Vec<Vec<u8>> = vec![Vec::new()];
    let mut start = 0;
    let mut checker = Checker::new();
    for _ in 0..4 {
        let end = texts.len();
        for index in start..end {
            for piece in pieces {
                texts.push([&texts[index], *piece].concat());
            }
        }
        start = end;
    }
    let mut accepted = 0;
    for text in &texts {
        accepted += usize::from(same_verdict(&mut checker, text));
    }
    assert!(accepted > 100, "{accepted}");
}

fn same_verdict(checker: &mut Checker, text: &[u8]) -> bool {
    let shown = String::from_utf8_lossy(text);
    let mut out = Vec::new();
    let result = checker.compact(text, LIMITS, &mut out);
    assert_eq!(scan::scan(text, LIMITS), result, "{shown}");
    match serde_json::from_slice::<serde_json::Value>(text) {
        Ok(expected) => {
            assert!(result.is_ok(), "{shown}: {result:?}");
            assert_eq!(serde_json::from_slice::<serde_json::Value>(&out).unwrap(), expected, "{shown}");
            assert!(is_compact(&out), "{shown}");
            true
        }
        Err(_) => {
            assert!(result.is_err(), "{shown}");
            false
        }
    }
}

fn any_json() -> impl Strategy<Value = String> {
    let white = "[ \t\r\n]{0,2}";
    let scalar = prop_oneof![
        r#""([ -!#-\[\]-~é🌊]|\\["\\/bfnrt]|\\u[0-9a-cE-F]{4}|\\ud83c\\udf0a)*""#,
        "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?",
        "null|true|false",
    ];
    scalar.prop_recursive(5, 60, 6, move |inner| {
        let item = (white, inner, white).prop_map(|(a, value, b)| format!("{a}{value}{b}"));
        let member =
            (white, "\"[a-z \\\\/]?\"", item.clone()).prop_map(|(a, key, item)| format!("{a}{}:{item}", key.replace('\\', "\\\\")));
        prop_oneof![
            prop::collection::vec(item, 1..6).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec(member, 1..6).prop_map(|members| format!("{{{}}}", members.join(","))),
        ]
    })
}

proptest! {
    #[test]
    fn valid_documents_keep_their_meaning(text in any_json()) {
        prop_assert!(same_verdict(&mut Checker::new(), text.as_bytes()), "{}", text);
    }

    #[test]
    fn broken_documents_get_the_verdict_of_serde_json(text in any_json(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = text.into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.truncate(if cut { at + 1 } else { bytes.len() });
        same_verdict(&mut Checker::new(), &bytes);
    }
}
