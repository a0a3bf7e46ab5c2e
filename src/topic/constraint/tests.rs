//! Constraints: what is read, what is refused and where, and what holds.

use proptest::prelude::*;

use super::*;
use crate::value::scalar;

const LIMITS: ConstraintLimits = ConstraintLimits { text_bytes_max: 2000, depth_max: 3, parts_max: 10, json_depth_max: 20 };

fn parse(text: &str) -> Constraint {
    Constraint::parse(text.as_bytes(), LIMITS).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Against a topic whose value is written as in the text form.
fn check(constraint: &str, kind: ValueType, value: &str, expected: bool) {
    let mut bytes = Vec::new();
    scalar::from_json(kind, value, &mut bytes).unwrap();
    assert_eq!(parse(constraint).evaluate(Subject::Value { kind, bytes: &bytes }), expected, "{constraint} {value}");
}

/// Beside the value of a topic of that type, and, where it is JSON, also where a pointer leads to the value.
fn check_test(test: &str, kind: ValueType, value: &str, expected: bool) {
    check(&format!("{{\"value\":{{{test}}}}}"), kind, value, expected);
    if kind == ValueType::Json {
        check(&format!("{{\"json\":[{{\"at\":\"/a/1\",{test}}}]}}"), kind, &format!("{{\"a\":[0,{value}]}}"), expected);
    }
}

fn check_refused(text: &str, position: usize, words: &str) {
    let error = Constraint::parse(text.as_bytes(), LIMITS).expect_err(text);
    assert_eq!(error.position, position, "{text}: {error}");
    assert!(error.to_string().contains(words), "{text}: {error}");
}

/// Whether a conjunction of the two is refused, whichever comes first.
fn check_excludes(a: &str, b: &str, expected: bool) {
    for (first, second) in [(a, b), (b, a)] {
        let text = format!("{{\"and\":[{first},{second}]}}");
        match Constraint::parse(text.as_bytes(), LIMITS) {
            Ok(_) => assert!(!expected, "{text} is taken"),
            Err(error) => {
                assert!(expected && error.found.contains("excludes"), "{text}: {error}");
                assert!(error.position > first.len(), "{text}: {error}");
            }
        }
    }
}

fn check_tests_exclude(a: &str, b: &str, expected: bool) {
    check_excludes(&format!("{{\"value\":{{{a}}}}}"), &format!("{{\"value\":{{{b}}}}}"), expected);
    let at = |test: &str| format!("{{\"json\":[{{\"at\":\"/a\",{test}}}]}}");
    check_excludes(&at(a), &at(b), expected);
    // In another place it is no matter.
    check_excludes(&at(a), &at(b).replace("/a", "/b"), false);
}

const ALL_KINDS: [&str; 4] =
    [r#"{"no_topic":true}"#, r#"{"no_value":true}"#, r#"{"value":{"ne":1}}"#, r#"{"json":[{"at":"/a","absent":true}]}"#];

#[test]
fn each_kind_asks_for_its_state_of_the_topic() {
    let kind = ValueType::Json;
    for (text, no_topic, no_value, value) in [
        (ALL_KINDS[0], true, false, false),
        (ALL_KINDS[1], false, true, false),
        (ALL_KINDS[2], false, false, true),
        (ALL_KINDS[3], false, false, true),
    ] {
        let constraint = parse(text);
        assert_eq!(constraint.evaluate(Subject::NoTopic), no_topic, "{text}");
        assert_eq!(constraint.evaluate(Subject::NoValue), no_value, "{text}");
        assert_eq!(constraint.evaluate(Subject::Value { kind, bytes: b"2" }), value, "{text}");
    }
}

#[test]
fn is_compares_bytes_and_type() {
    use ValueType::*;
    check(r#"{"value":{"is":5,"type":"int64"}}"#, Int64, "5", true);
    check(r#"{"value":{"type":"int64","is":5}}"#, Int64, "6", false);
    check(r#"{"value":{"is":5,"type":"int64"}}"#, Json, "5", false);
    check(r#"{"value":{"is":5,"type":"int64"}}"#, Double, "5", false);
    check(r#"{"value":{"is":5.0,"type":"double"}}"#, Double, "5", true);
    check(r#"{"value":{"is":0,"type":"double"}}"#, Double, "-0", false);
    check(r#"{"value":{"is":"NaN","type":"double"}}"#, Double, "\"NaN\"", true);
    check(r#"{"value":{"is":"a\u0062","type":"string"}}"#, String, "\"ab\"", true);
    check(r#"{"value":{"is":"","type":"string"}}"#, String, "\"\"", true);
    check(r#"{"value":{"is":"/w==","type":"binary"}}"#, Binary, "\"/w==\"", true);
    check(r#"{"value":{"is":"/w==","type":"binary"}}"#, Binary, "\"/g==\"", false);
    check(r#"{"value":{"is":5}}"#, Json, "5", true);
    check(r#"{"value":{"is":5}}"#, Int64, "5", false);
}

#[test]
fn is_compares_json_as_it_is_written_but_for_white_space() {
    for (wanted, value, expected) in [
        (r#"{ "a" : [1, "b c"] }"#, r#"{"a":[1,"b c"]}"#, true),
        (r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#, false),
        ("1", "1.0", false),
        ("1e2", "1E2", false),
        (r#""a""#, r#""\u0061""#, false),
        ("null", "null", true),
        ("[]", "{}", false),
    ] {
        check_test(&format!("\"is\":{wanted}"), ValueType::Json, value, expected);
    }
}

#[test]
fn numbers_compare_exactly_whatever_their_type_and_spelling() {
    use ValueType::*;
    for (kind, value) in
        [(Int64, "12"), (Double, "12"), (Json, "12"), (Json, "12.0"), (Json, "1.2e1"), (Json, "\"12\""), (String, "\"12.00\"")]
    {
        for (test, expected) in [
            ("\"eq\":12", true),
            ("\"eq\":12.0", true),
            ("\"eq\":1200e-2", true),
            ("\"eq\":12.000000000000000000001", false),
            ("\"ne\":12", false),
            ("\"ne\":13", true),
            ("\"gt\":11.9", true),
            ("\"gt\":12", false),
            ("\"ge\":12", true),
            ("\"ge\":12.1", false),
            ("\"lt\":12", false),
            ("\"lt\":12.1", true),
            ("\"le\":12", true),
            ("\"le\":-12", false),
        ] {
            check_test(test, kind, value, expected);
        }
    }
    check_test("\"eq\":9007199254740993", Int64, "9007199254740993", true);
    check_test("\"eq\":9007199254740993", Int64, "9007199254740992", false);
    check_test("\"gt\":9223372036854775806.5", Int64, "9223372036854775807", true);
    check_test("\"lt\":-9223372036854775807", Int64, "-9223372036854775808", true);
    check_test("\"eq\":123456789012345678901234567890.1", Json, "123456789012345678901234567890.10", true);
    check_test("\"eq\":123456789012345678901234567890.1", Json, "123456789012345678901234567890.2", false);
    // A DOUBLE is the number that it prints as.
    check_test("\"eq\":0.1", Double, "0.1", true);
    check_test("\"eq\":1e300", Double, "1e300", true);
    check_test("\"eq\":0", Double, "-0", true);
}

#[test]
fn the_text_of_a_string_topic_is_a_number_also_with_zeros_before_its_digits() {
    use ValueType::*;
    for (test, is_passed) in [("\"eq\":1", true), ("\"ne\":1", false), ("\"ge\":1.0", true), ("\"gt\":1", false), ("\"lt\":1.5", true)] {
        check_test(test, String, "\"000001\"", is_passed);
        check_test(test, String, "\"01.0\"", is_passed);
        check_test(test, Json, "\"000001\"", false);
    }
    check_test("\"eq\":0", String, "\"00\"", true);
    check_test("\"eq\":\"000001\"", String, "\"000001\"", true);
    check_test("\"eq\":\"1\"", String, "\"000001\"", false);
    check_test("\"ne\":\"1\"", String, "\"000001\"", true);
    // Of one topic both may hold, so they do not contradict each other.
    check(r#"{"and":[{"value":{"eq":"007"}},{"value":{"gt":5}}]}"#, String, "\"007\"", true);
}

#[test]
fn what_is_no_number_passes_no_test_beside_a_number() {
    use ValueType::*;
    for (kind, value) in [
        (String, "\"+01\""),
        (String, "\"01.\""),
        (String, "\".1\""),
        (Json, "\"01\""),
        (String, "\"abc\""),
        (String, "\"\""),
        (String, "\" 1\""),
        (String, "\"+1\""),
        (String, "\"0x1\""),
        (Json, "\"abc\""),
        (Json, "null"),
        (Json, "true"),
        (Json, "[1]"),
        (Json, "{}"),
        (Binary, "\"MQ==\""),
        (Double, "\"NaN\""),
        (Double, "\"Infinity\""),
    ] {
        for operator in ["eq", "ne", "gt", "ge", "lt", "le"] {
            check_test(&format!("\"{operator}\":1"), kind, value, false);
        }
    }
}

#[test]
fn strings_compare_with_the_string_form() {
    use ValueType::*;
    for (kind, value, form) in [
        (String, "\"a b\"", "\"a b\""),
        (String, "\"a/é\"", r#""\u0061\/\u00e9""#),
        (Json, r#""\u0061""#, "\"a\""),
        (Json, "1.50", "\"1.50\""),
        (Json, "true", "\"true\""),
        (Json, "true", "true"),
        (Json, "\"false\"", "false"),
        (String, "\"true\"", "true"),
        (Int64, "-5", "\"-5\""),
        (Double, "1.5", "\"1.5\""),
        (Double, "\"NaN\"", "\"NaN\""),
        (String, "\"null\"", "\"null\""),
    ] {
        check_test(&format!("\"eq\":{form}"), kind, value, true);
        check_test(&format!("\"ne\":{form}"), kind, value, false);
        check_test("\"eq\":\"other\"", kind, value, false);
        check_test("\"ne\":\"other\"", kind, value, true);
    }
    check_test("\"eq\":\"1.5\"", Json, "1.50", false);
    for (kind, value) in [(Json, "null"), (Json, "[\"a\"]"), (Json, "{}"), (Binary, "\"YQ==\"")] {
        for test in ["\"eq\":\"null\"", "\"ne\":\"null\"", "\"eq\":true", "\"ne\":true"] {
            check_test(test, kind, value, false);
        }
    }
}

#[test]
fn only_a_json_null_equals_null() {
    use ValueType::*;
    check_test("\"eq\":null", Json, "null", true);
    check_test("\"ne\":null", Json, "null", false);
    for (kind, value) in
        [(Json, "0"), (Json, "\"null\""), (Json, "[]"), (Json, "{}"), (Json, "false"), (String, "\"null\""), (Int64, "0"), (Binary, "\"\"")]
    {
        check_test("\"eq\":null", kind, value, false);
        check_test("\"ne\":null", kind, value, true);
    }
    assert!(!parse(r#"{"value":{"eq":null}}"#).evaluate(Subject::NoValue));
}

#[test]
fn a_json_part_looks_where_its_pointer_leads() {
    let value = r#"{"a":{"b":5},"c":{"x":1},"~/":[1,null],"":"e","s":1}"#;
    for (part, expected) in [
        (r#"{"at":"/a/b","eq":5}"#, true),
        (r#"{"at":"/a/b","gt":5}"#, false),
        (r#"{"at":"/c","is":{"x":1}}"#, true),
        (r#"{"at":"/c","is":{"x":2}}"#, false),
        (r#"{"at":"/~0~1/1","eq":null}"#, true),
        (r#"{"at":"/","eq":"e"}"#, true),
        (r#"{"eq":5,"at":"/\u0061/b"}"#, true),
        (r#"{"at":"","ne":null}"#, true),
        (r#"{"at":"/d","absent":true}"#, true),
        (r#"{"at":"/a","absent":true}"#, false),
        (r#"{"at":"/~0~1/1","absent":true}"#, false),
        (r#"{"at":"/~0~1/2","absent":true}"#, true),
        // Nothing is inside a scalar.
        (r#"{"at":"/s/x","absent":true}"#, true),
        (r#"{"at":"/s/x","eq":1}"#, false),
        // What is not there is not unequal either.
        (r#"{"at":"/d","ne":5}"#, false),
        (r#"{"at":"/d","ne":null}"#, false),
        (r#"{"at":"/d","eq":null}"#, false),
        (r#"{"at":"/d","is":null}"#, false),
        (r#"{"at":"/d","lt":5}"#, false),
    ] {
        check(&format!("{{\"json\":[{part}]}}"), ValueType::Json, value, expected);
    }
    check(r#"{"json":[{"at":"/a/b","eq":5},{"at":"/d","absent":true}]}"#, ValueType::Json, value, true);
    check(r#"{"json":[{"at":"/a/b","eq":5},{"at":"/c","absent":true}]}"#, ValueType::Json, value, false);
}

#[test]
fn a_json_part_is_unsatisfied_on_other_types() {
    for (kind, value) in [(ValueType::String, "\"{}\""), (ValueType::Int64, "1"), (ValueType::Double, "1"), (ValueType::Binary, "\"e30=\"")]
    {
        check(r#"{"json":[{"at":"/a","absent":true}]}"#, kind, value, false);
        check(r#"{"json":[{"at":"","ne":null}]}"#, kind, value, false);
    }
}

#[test]
fn and_asks_for_all_and_or_for_any() {
    let int64 = |text: &str, value: &str, expected: bool| check(text, ValueType::Int64, value, expected);
    let between = r#"{"and":[{"value":{"ge":1}},{"value":{"lt":5}}]}"#;
    int64(between, "1", true);
    int64(between, "4", true);
    int64(between, "5", false);
    int64(between, "0", false);
    let either = r#"{"or":[{"no_topic":true},{"value":{"eq":7}},{"and":[{"value":{"gt":100}},{"value":{"ne":200}}]}]}"#;
    int64(either, "7", true);
    int64(either, "101", true);
    int64(either, "200", false);
    int64(either, "8", false);
    assert!(parse(either).evaluate(Subject::NoTopic));
    assert!(!parse(either).evaluate(Subject::NoValue));
    int64(r#"{"and":[{"or":[{"value":{"eq":1}},{"value":{"eq":2}}]},{"value":{"ne":1}}]}"#, "2", true);
    int64(r#"{"and":[{"or":[{"value":{"eq":1}},{"value":{"eq":2}}]},{"value":{"ne":1}}]}"#, "1", false);
    int64(r#"{"and":[{"value":{"eq":1}}]}"#, "1", true);
}

#[test]
fn kinds_that_exclude_each_other_are_refused_together() {
    for (i, a) in ALL_KINDS.iter().enumerate() {
        for (j, b) in ALL_KINDS.iter().enumerate() {
            check_excludes(a, b, i != j && (i < 2 || j < 2));
        }
    }
    // Also where they are not side by side.
    check_excludes(ALL_KINDS[0], &format!("{{\"and\":[{}]}}", ALL_KINDS[1]), true);
    // An `or` is taken as it is, but each of its alternatives must be possible.
    let alternatives = format!("{{\"or\":[{},{}]}}", ALL_KINDS[0], ALL_KINDS[1]);
    check_excludes(ALL_KINDS[0], &alternatives, false);
    check_refused(&format!("{{\"or\":[{{\"and\":[{},{}]}}]}}", ALL_KINDS[0], ALL_KINDS[1]), 33, "the one at byte 15 excludes");
}

#[test]
fn a_value_that_is_something_excludes_what_it_does_not_pass() {
    let is = r#"{"value":{"is":5,"type":"int64"}}"#;
    check_excludes(is, r#"{"value":{"is":6,"type":"int64"}}"#, true);
    check_excludes(is, r#"{"value":{"is":5,"type":"double"}}"#, true);
    check_excludes(is, r#"{"value":{"is":5}}"#, true);
    check_excludes(is, is, false);
    check_excludes(is, r#"{"value":{"gt":5}}"#, true);
    check_excludes(is, r#"{"value":{"gt":4}}"#, false);
    check_excludes(is, r#"{"json":[{"at":"","eq":5}]}"#, true);
    check_excludes(r#"{"value":{"is":{"a":1}}}"#, r#"{"json":[{"at":"/a","eq":2}]}"#, true);
    check_excludes(r#"{"value":{"is":{"a":1}}}"#, r#"{"json":[{"at":"/a","eq":1}]}"#, false);
}

#[test]
fn tests_of_one_place_exclude_each_other_where_that_is_plain() {
    for (a, b, expected) in [
        ("\"is\":{\"x\":1}", "\"is\":{\"x\":2}", true),
        ("\"is\":{\"x\":1}", "\"is\":{ \"x\": 1 }", false),
        ("\"is\":5", "\"eq\":5.0", false),
        ("\"is\":5", "\"eq\":6", true),
        ("\"is\":\"a\"", "\"gt\":1", true),
        ("\"eq\":1", "\"eq\":2", true),
        ("\"eq\":1", "\"eq\":1.0", false),
        ("\"eq\":1", "\"ne\":1", true),
        ("\"eq\":1", "\"ne\":2", false),
        ("\"eq\":1", "\"gt\":1", true),
        ("\"eq\":1", "\"ge\":1", false),
        ("\"eq\":1", "\"eq\":null", true),
        ("\"eq\":1", "\"ne\":null", false),
        ("\"eq\":1", "\"eq\":\"a\"", true),
        ("\"eq\":1", "\"eq\":\"1.0\"", false),
        ("\"eq\":1", "\"ne\":\"1\"", false),
        ("\"eq\":\"a\"", "\"eq\":\"b\"", true),
        ("\"eq\":\"a\"", "\"ne\":\"a\"", true),
        ("\"eq\":\"a\"", "\"lt\":1", true),
        ("\"eq\":\"0\"", "\"lt\":1", false),
        ("\"eq\":true", "\"eq\":\"true\"", false),
        ("\"eq\":true", "\"eq\":false", true),
        ("\"eq\":null", "\"ne\":null", true),
        ("\"eq\":null", "\"ge\":0", true),
        ("\"gt\":5", "\"lt\":5", true),
        ("\"ge\":5", "\"lt\":5", true),
        ("\"gt\":5", "\"le\":5", true),
        ("\"ge\":5", "\"le\":5", false),
        ("\"gt\":9007199254740993", "\"lt\":9007199254740992", true),
        ("\"ge\":5.01", "\"le\":5", true),
        ("\"gt\":5", "\"lt\":5.01", false),
        ("\"gt\":5", "\"gt\":6", false),
        ("\"ne\":5", "\"ne\":6", false),
    ] {
        check_tests_exclude(a, b, expected);
    }
    let refused = r#"{"json":[{"at":"/a","absent":true},{"at":"/\u0061","ne":1}]}"#;
    check_refused(refused, 35, "found a part that the one at byte 9 excludes at byte 35, expected parts that can hold together");
    assert!(Constraint::parse(br#"{"json":[{"at":"/a","absent":true},{"at":"/a","absent":true}]}"#, LIMITS).is_ok());
}

#[test]
fn what_is_not_a_constraint_is_refused_where_it_breaks() {
    check_refused("", 0, "found the end of the text at byte 0, expected a JSON value");
    check_refused("{\"no_topic\" true}", 12, "found 't' at byte 12, expected ':'");
    check_refused(" []", 1, "found an array at byte 1, expected an object");
    check_refused("{}", 0, "an object without members");
    check_refused(r#"{"no_topic":true, "no_value":true}"#, 18, "found `no_value` at byte 18, expected one member in a constraint");
    check_refused(
        r#"{"no_such":1}"#,
        1,
        "found `no_such` at byte 1, expected `no_topic`, `no_value`, `value`, `json`, `locked`, `and` or `or`",
    );
    check_refused(r#"{ "no_topic" : false }"#, 15, "found `false` at byte 15, expected `true`");
    check_refused(r#"{"no_value":1}"#, 12, "expected `true`");
    check_refused(r#"{"and":[]}"#, 7, "found an array without elements");
    check_refused(r#"{"or":{}}"#, 6, "found an object at byte 6, expected an array");
    check_refused(r#"{"or":[1]}"#, 7, "found a number at byte 7, expected an object");
    check_refused(r#"{"json":[]}"#, 8, "an array without elements");
}

#[test]
fn what_names_no_grant_is_refused_where_it_breaks() {
    check_refused(r#"{"locked":"name"}"#, 10, "found a string at byte 10, expected an object");
    check_refused(r#"{"locked":{"number":7}}"#, 10, "found a lock without `name`");
    check_refused(r#"{"locked":{"name":"a"}}"#, 10, "found a lock without `number`");
    check_refused(r#"{"locked":{"name":"a","number":7,"name":"a"}}"#, 33, "found `name` at byte 33, expected `name` and `number`, once");
    check_refused(r#"{"locked":{"name":7,"number":7}}"#, 18, "found a number at byte 18, expected a lock's name in a string");
    check_refused(r#"{"locked":{"name":"a//b","number":7}}"#, 21, "no path");
    for number in ["-1", "1.0", "\"1\"", "18446744073709551616"] {
        check_refused(&format!("{{\"locked\":{{\"name\":\"a\",\"number\":{number}}}}}"), 31, "expected a grant's number");
    }
}

#[test]
fn a_lock_is_held_where_its_sessions_shard_says_so() {
    let check = |text: &str, held: &[(&str, u64)], subject: Subject<'_>, expected: bool| {
        let mut constraint = parse(text);
        assert!(!constraint.evaluate(subject), "{text}: nothing is held before it is said");
        constraint.settle_locks(|name, number| held.contains(&(name, number)));
        assert_eq!(constraint.evaluate(subject), expected, "{text} {held:?}");
    };
    let lock = r#"{"locked":{"number":7,"name":"a/b"}}"#;
    for subject in [Subject::NoTopic, Subject::NoValue, Subject::Value { kind: ValueType::Int64, bytes: &[0; 8] }] {
        check(lock, &[("a/b", 7)], subject, true);
        check(lock, &[("a/b", 8), ("a", 7)], subject, false);
    }
    let with = |other: &str| format!("{{\"and\":[{lock},{other}]}}");
    check(&with(ALL_KINDS[0]), &[("a/b", 7)], Subject::NoTopic, true);
    check(&with(ALL_KINDS[0]), &[("a/b", 7)], Subject::NoValue, false);
    check(&with(r#"{"or":[{"locked":{"name":"c","number":1}},{"no_value":true}]}"#), &[("a/b", 7), ("c", 1)], Subject::NoTopic, true);
    ALL_KINDS.iter().for_each(|kind| check_excludes(lock, kind, false));
    check_excludes(lock, lock, false);
    check_excludes(lock, r#"{"locked":{"name":"a/b","number":8}}"#, true);
    check_excludes(lock, r#"{"locked":{"name":"a","number":8}}"#, false);
}

#[test]
fn what_is_not_a_test_is_refused_where_it_breaks() {
    check_refused(r#"{"value":5}"#, 9, "found a number at byte 9, expected an object");
    check_refused(r#"{"value":{}}"#, 9, "asks for nothing");
    check_refused(r#"{"value":{"type":"json"}}"#, 9, "asks for nothing");
    check_refused(r#"{"value":{"eq":1,"type":"int64"}}"#, 17, "found `type` at byte 17, expected that only beside `is`");
    check_refused(r#"{"value":{"is":1,"type":"text"}}"#, 24, r#"found `"text"` at byte 24, expected a type: "json", "string""#);
    check_refused(r#"{"value":{"is":1,"type":1}}"#, 24, "expected a type");
    check_refused(r#"{"value":{"is":1.5,"type":"int64"}}"#, 15, "found `1.5` at byte 15, expected a number without fraction");
    check_refused(r#"{"value":{"is":"?","type":"binary"}}"#, 15, "base64");
    check_refused(r#"{"value":{"ge":1,"lt":2}}"#, 17, "found `lt` at byte 17, expected one of");
    check_refused(r#"{"value":{"is":1,"is":1}}"#, 17, "found `is`");
    check_refused(r#"{"value":{"absent":true}}"#, 10, "found `absent`");
    check_refused(r#"{"value":{"at":"/a","eq":1}}"#, 10, "found `at`");
    check_refused(r#"{"value":{"like":1}}"#, 10, "found `like`");
    check_refused(r#"{"value":{"gt":"5"}}"#, 15, "found a string at byte 15, expected a number");
    check_refused(r#"{"value":{"lt":null}}"#, 15, "found null at byte 15, expected a number");
    check_refused(r#"{"value":{"eq":[1]}}"#, 15, "found an array at byte 15, expected a string, number, boolean or null");
    check_refused(r#"{"value":{"ne":{}}}"#, 15, "found an object");
    check_refused(r#"{"json":[{"eq":1}]}"#, 9, "found a test without `at`");
    check_refused(r#"{"json":[{"at":"/a"}]}"#, 9, "asks for nothing");
    check_refused(r#"{"json":[{"at":"/a","at":"/b","eq":1}]}"#, 20, "found `at`");
    check_refused(r#"{"json":[{"at":"/a","eq":1,"absent":true}]}"#, 27, "found `absent`");
    check_refused(r#"{"json":[{"at":"/a","absent":false}]}"#, 29, "expected `true`");
    check_refused(r#"{"json":[{"at":"/a","type":"json","is":1}]}"#, 20, "found `type`");
    check_refused(r#"{"json":[{"at":5,"eq":1}]}"#, 15, "found a number at byte 15, expected a JSON pointer in a string");
    check_refused(r#"{"json":[{"at": "a","eq":1}]}"#, 17, "found 'a' in a JSON pointer at byte 17, expected '/'");
    check_refused(r#"{"json":[{"at":"/~","eq":1}]}"#, 18, "expected '0' or '1' behind '~'");
}

#[test]
fn the_length_has_an_edge() {
    let text = |length: usize| format!("{{\"no_topic\":true}}{}", " ".repeat(length - 17));
    parse(&text(2000));
    check_refused(&text(2001), 2000, "found a constraint of 2001 bytes at byte 2000, expected at most 2000");
}

#[test]
fn the_number_of_parts_has_an_edge() {
    let parts = |count: usize| vec![r#"{"at":"/a","ne":1}"#; count].join(",");
    parse(&format!("{{\"json\":[{}]}}", parts(10)));
    check_refused(&format!("{{\"json\":[{}]}}", parts(11)), 9 + 10 * 19, "found one more part");
    parse(&format!("{{\"and\":[{{\"or\":[{{\"json\":[{}]}}]}}]}}", parts(9)));
    check_refused(&format!("{{\"and\":[{{\"or\":[{{\"json\":[{}]}}]}}]}}", parts(10)), 8, "expected at most 10");
}

#[test]
fn depth_has_an_edge() {
    let nest =
        |depth: usize| (0..depth).fold(ALL_KINDS[0].to_string(), |inner, level| format!("{{\"{}\":[{inner}]}}", ["and", "or"][level % 2]));
    assert!(parse(&nest(3)).evaluate(Subject::NoTopic));
    check_refused(&nest(4), 23, "one more `and` or `or`");
    check_refused(&nest(10), 23, "expected at most 3");
    let deep = |depth: usize| format!(r#"{{"json":[{{"at":"","is":{}{}}}]}}"#, "[".repeat(depth), "]".repeat(depth));
    parse(&deep(20));
    check_refused(&deep(21), 23, "found 21 arrays and objects within each other at byte 23, expected at most 20");
    check_refused(&deep(100), 51, "found one more array");
    check_refused(&nest(100), 119, "found one more array");
}

#[test]
fn bytes_that_are_no_value_of_their_type_satisfy_nothing() {
    let tests = [r#"{"value":{"ne":1}}"#, r#"{"value":{"eq":"a"}}"#, r#"{"value":{"ne":"b"}}"#, r#"{"json":[{"at":"/a/0","ne":1}]}"#];
    for (kind, bytes) in [
        (ValueType::Int64, &b"1234567"[..]),
        (ValueType::Double, b"123456789"),
        (ValueType::Int64, b""),
        (ValueType::Json, b""),
        (ValueType::Json, b"\""),
        (ValueType::Json, b"\xff"),
        (ValueType::Json, b"{\"a\":["),
        (ValueType::Json, b"{\"a"),
    ] {
        for text in tests {
            assert!(!parse(text).evaluate(Subject::Value { kind, bytes }), "{text} {bytes:?}");
        }
    }
}

fn any_test() -> impl Strategy<Value = String> {
    let scalar = prop::sample::select(vec!["0", "1", "1.0", "2", "\"1\"", "\"a\"", "true", "null"]);
    let number = prop::sample::select(vec!["0", "1", "1.0", "1.5", "2"]);
    prop_oneof![
        (prop::sample::select(vec!["eq", "ne", "is"]), scalar).prop_map(|(name, operand)| format!("\"{name}\":{operand}")),
        (prop::sample::select(vec!["gt", "ge", "lt", "le"]), number).prop_map(|(name, operand)| format!("\"{name}\":{operand}")),
    ]
}

fn any_constraint() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just(ALL_KINDS[0].to_string()),
        Just(ALL_KINDS[1].to_string()),
        any_test().prop_map(|test| format!("{{\"value\":{{{test}}}}}")),
        (prop::sample::select(vec!["", "/a", "/a/0"]), prop_oneof![any_test(), Just("\"absent\":true".to_string())])
            .prop_map(|(at, test)| format!("{{\"json\":[{{\"at\":\"{at}\",{test}}}]}}")),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        (prop::sample::select(vec!["and", "or"]), prop::collection::vec(inner, 1..4))
            .prop_map(|(name, parts)| format!("{{\"{name}\":[{}]}}", parts.join(",")))
    })
}

/// Everything that the constraints above may be asked about.
fn subjects() -> Vec<(Option<ValueType>, Option<Vec<u8>>)> {
    let mut subjects = vec![(None, None)];
    for (kind, values) in [
        (ValueType::Json, &["0", "1", "1.0", "1.2", "2", "\"1\"", "\"1.0\"", "\"a\"", "true", "\"true\"", "null", "[]", "{}"][..]),
        (ValueType::String, &["\"0\"", "\"1\"", "\"1.0\"", "\"1.2\"", "\"a\"", "\"true\"", "\"null\""]),
        (ValueType::Int64, &["0", "1", "2"]),
        (ValueType::Double, &["0", "1", "1.2", "\"NaN\"", "\"Infinity\""]),
        (ValueType::Binary, &["\"MQ==\""]),
    ] {
        subjects.push((Some(kind), None));
        for value in values {
            let mut bytes = Vec::new();
            scalar::from_json(kind, value, &mut bytes).unwrap();
            subjects.push((Some(kind), Some(bytes)));
            if kind == ValueType::Json {
                subjects.push((Some(kind), Some(format!("{{\"a\":{value}}}").into_bytes())));
                subjects.push((Some(kind), Some(format!("{{\"a\":[{value}]}}").into_bytes())));
            }
        }
    }
    subjects
}

fn subject((kind, bytes): &(Option<ValueType>, Option<Vec<u8>>)) -> Subject<'_> {
    match (kind, bytes) {
        (None, _) => Subject::NoTopic,
        (Some(_), None) => Subject::NoValue,
        (Some(kind), Some(bytes)) => Subject::Value { kind: *kind, bytes },
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn nothing_satisfies_what_is_refused_as_contradictory(parts in prop::collection::vec(any_constraint(), 2..4)) {
        let limits = ConstraintLimits::default();
        let whole = Constraint::parse(format!("{{\"and\":[{}]}}", parts.join(",")).as_bytes(), limits);
        let apart: Result<Vec<_>, _> = parts.iter().map(|part| Constraint::parse(part.as_bytes(), limits)).collect();
        let Ok(apart) = apart else {
            prop_assert!(whole.is_err());
            return Ok(());
        };
        for topic in &subjects() {
            let subject = subject(topic);
            let all = apart.iter().all(|constraint| constraint.evaluate(subject));
            match &whole {
                Ok(whole) => prop_assert_eq!(whole.evaluate(subject), all, "{:?} {:?}", parts, subject),
                Err(_) => prop_assert!(!all, "{:?} {:?}", parts, subject),
            }
        }
    }

    #[test]
    fn any_text_is_parsed_or_refused(good in any_constraint(), at in any::<prop::sample::Index>(), byte in any::<u8>(), value in "[\\[\\]{}\",:\\\\a01]*") {
        let mut text = good.into_bytes();
        let at = at.index(text.len());
        text[at] = byte;
        match Constraint::parse(&text, LIMITS) {
            Ok(constraint) => for kind in ValueType::ALL {
                constraint.evaluate(Subject::Value { kind, bytes: value.as_bytes() });
            },
            Err(error) => prop_assert!(error.position <= text.len() && error.to_string().len() < 400, "{}", error),
        }
    }

    #[test]
    fn integers_compare_as_integers(value in any::<i64>(), operand in prop_oneof![any::<i64>(), -3_i64..3], near in -1_i64..2) {
        for operand in [operand, value.saturating_add(near)] {
            for (name, expected) in [
                ("eq", value == operand), ("ne", value != operand), ("gt", value > operand),
                ("ge", value >= operand), ("lt", value < operand), ("le", value <= operand),
            ] {
                let test = format!("\"{name}\":{operand}");
                check_test(&test, ValueType::Int64, &value.to_string(), expected);
                check_test(&test, ValueType::Json, &value.to_string(), expected);
                check_test(&test, ValueType::String, &format!("\"{value}\""), expected);
            }
        }
    }
}
