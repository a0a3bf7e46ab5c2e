//! JSON patches: each operation, its refusals, and that a failed one changes nothing.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::value::json::{Checker, JsonLimits};

const LIMITS: PatchLimits = PatchLimits {
    text_bytes_max: 4000,
    operations_max: 100,
    value_bytes_max: 1000,
    handled_bytes_max: 10_000,
    work_max: 1_000_000,
    depth_max: 20,
};

fn applied(document: &str, patch: &str) -> Result<String, PatchError> {
    apply(document.as_bytes(), patch.as_bytes(), LIMITS).map(|result| {
        let mut compact = Vec::new();
        Checker::new().compact(&result, JsonLimits { depth_max: LIMITS.depth_max }, &mut compact).expect("the result is JSON");
        assert_eq!(compact, result, "the result is compact");
        String::from_utf8(result).unwrap()
    })
}

fn check(document: &str, patch: &str, expected: &str) {
    assert_eq!(applied(document, patch).as_deref(), Ok(expected), "{patch}");
}

fn check_failed(document: &str, patch: &str, operation: usize, words: &str) {
    match applied(document, patch) {
        Err(PatchError::Failed { operation: found, message }) => {
            assert_eq!(found, operation, "{patch}: {message}");
            assert!(message.contains(words) && message.contains("found") && message.contains("expected"), "{patch}: {message}");
        }
        other => panic!("{patch}: {other:?}"),
    }
}

fn check_malformed(patch: &str, position: usize, words: &str) {
    match applied("{}", patch) {
        Err(PatchError::Malformed { position: found, message }) => {
            assert_eq!(found, position, "{patch}: {message}");
            assert!(message.contains(words) && message.contains("found") && message.contains("expected"), "{patch}: {message}");
        }
        other => panic!("{patch}: {other:?}"),
    }
}

/// One operation's verdict where no place is of interest.
fn test_passes(document: &str, value: &str) -> bool {
    applied(document, &format!(r#"[{{"op":"test","path":"","value":{value}}}]"#)).is_ok()
}

#[test]
fn add_puts_a_member_last_or_in_place_of_its_namesake() {
    check(r#"{"b":1}"#, r#"[{"op":"add","path":"/a","value":[2]}]"#, r#"{"b":1,"a":[2]}"#);
    check("{}", r#"[{"op":"add","path":"/a","value":null}]"#, r#"{"a":null}"#);
    check(r#"{"a":1,"b":2}"#, r#"[{"op":"add","path":"/a","value":{}}]"#, r#"{"a":{},"b":2}"#);
    check(r#"{"a":{"b":{}}}"#, r#"[{"op":"add","path":"/a/b/c","value":1}]"#, r#"{"a":{"b":{"c":1}}}"#);
    check("{}", r#"[{"op":"add","path":"/","value":1},{"op":"add","path":"/-","value":2}]"#, r#"{"":1,"-":2}"#);
}

#[test]
fn add_puts_an_element_before_the_one_at_its_index() {
    check("[1,2]", r#"[{"op":"add","path":"/0","value":0}]"#, "[0,1,2]");
    check("[1,2]", r#"[{"op":"add","path":"/1","value":0}]"#, "[1,0,2]");
    check("[1,2]", r#"[{"op":"add","path":"/2","value":0}]"#, "[1,2,0]");
    check("[1,2]", r#"[{"op":"add","path":"/-","value":[3]}]"#, "[1,2,[3]]");
    check("[]", r#"[{"op":"add","path":"/-","value":1},{"op":"add","path":"/-","value":2}]"#, "[1,2]");
    check_failed("[1,2]", r#"[{"op":"add","path":"/3","value":0}]"#, 0, "found `3` for an array, expected an index of at most 2 or '-'");
    for index in ["01", "-1", "+1", "1e0", "", "a", "99999999999999999999"] {
        check_failed("[1,2]", &format!(r#"[{{"op":"add","path":"/{index}","value":0}}]"#), 0, "for an array");
    }
}

#[test]
fn add_makes_no_parents() {
    check_failed("{}", r#"[{"op":"add","path":"/a/b","value":1}]"#, 0, "without `a`");
    check_failed(r#"{"a":1}"#, r#"[{"op":"add","path":"/a/b","value":1}]"#, 0, "found a number to put `b` into");
    check_failed("\"a\"", r#"[{"op":"add","path":"/0","value":1}]"#, 0, "found a string to put `0` into");
    check_failed("[[]]", r#"[{"op":"add","path":"/-/0","value":1}]"#, 0, "without `-`");
}

#[test]
fn remove_takes_what_is_there() {
    check(r#"{"a":1,"b":2,"c":3}"#, r#"[{"op":"remove","path":"/b"}]"#, r#"{"a":1,"c":3}"#);
    check(r#"{"a":1,"b":2,"c":3}"#, r#"[{"op":"remove","path":"/a"}]"#, r#"{"b":2,"c":3}"#);
    check("[1,2,3]", r#"[{"op":"remove","path":"/1"}]"#, "[1,3]");
    check(r#"{"a":[{"b":1}]}"#, r#"[{"op":"remove","path":"/a/0/b"}]"#, r#"{"a":[{}]}"#);
    check_failed("{}", r#"[{"op":"remove","path":"/a"}]"#, 0, r#"found an object at "" without `a`"#);
    check_failed("[1]", r#"[{"op":"remove","path":"/1"}]"#, 0, r#"found an array at "" of 1 without `1`"#);
    check_failed("[1]", r#"[{"op":"remove","path":"/-"}]"#, 0, "without `-`");
    check_failed(r#"{"a":[1]}"#, r#"[{"op":"remove","path":"/a/0/b"}]"#, 0, r#"found a number at "/a/0""#);
    check_failed("1", r#"[{"op":"remove","path":""}]"#, 0, "the whole value");
}

#[test]
fn replace_leaves_the_place() {
    check(r#"{"a":1,"b":2}"#, r#"[{"op":"replace","path":"/a","value":"x"}]"#, r#"{"a":"x","b":2}"#);
    check("[1,[2],3]", r#"[{"op":"replace","path":"/1/0","value":{}}]"#, "[1,[{}],3]");
    check("[1]", r#"[{"op":"replace","path":"","value":{"a":1}}]"#, r#"{"a":1}"#);
    check_failed("{}", r#"[{"op":"replace","path":"/a","value":1}]"#, 0, "without `a`");
    check_failed("[1]", r#"[{"op":"replace","path":"/1","value":1}]"#, 0, "without `1`");
    check_failed("[1]", r#"[{"op":"replace","path":"/-","value":1}]"#, 0, "without `-`");
}

#[test]
fn move_is_a_removal_and_an_addition() {
    check(r#"{"a":{"x":1,"y":2},"b":{}}"#, r#"[{"op":"move","from":"/a/x","path":"/b/z"}]"#, r#"{"a":{"y":2},"b":{"z":1}}"#);
    check("[1,2,3,4]", r#"[{"op":"move","from":"/1","path":"/3"}]"#, "[1,3,4,2]");
    check("[1,2,3,4]", r#"[{"op":"move","from":"/3","path":"/0"}]"#, "[4,1,2,3]");
    check("[1,2,3]", r#"[{"op":"move","from":"/0","path":"/-"}]"#, "[2,3,1]");
    check(r#"{"a":1,"b":2}"#, r#"[{"op":"move","from":"/b","path":"/a"}]"#, r#"{"a":2}"#);
    check(r#"{"a":{"b":[7]}}"#, r#"[{"op":"move","from":"/a/b","path":""}]"#, "[7]");
    check(r#"{"a":{"b":1}}"#, r#"[{"op":"move","from":"/a/b","path":"/a"}]"#, r#"{"a":1}"#);
    // Nowhere to go is no change, but what is not there does not move.
    check(r#"{"a":1,"b":2}"#, r#"[{"op":"move","from":"/a","path":"/a"}]"#, r#"{"a":1,"b":2}"#);
    check("1", r#"[{"op":"move","from":"","path":""}]"#, "1");
    check_failed("{}", r#"[{"op":"move","from":"/a","path":"/a"}]"#, 0, "without `a`");
    check_failed(r#"{"a":{}}"#, r#"[{"op":"move","from":"/a","path":"/a/b"}]"#, 0, "inside what is to be moved");
    check_failed(r#"{"a":{}}"#, r#"[{"op":"move","from":"","path":"/a"}]"#, 0, "inside what is to be moved");
    check(r#"{"a":1,"ab":{}}"#, r#"[{"op":"move","from":"/a","path":"/ab/c"}]"#, r#"{"ab":{"c":1}}"#);
    check_failed("[1]", r#"[{"op":"move","from":"/-","path":"/0"}]"#, 0, "without `-`");
    // The removal comes first, so the array is shorter by one.
    check_failed("[1,2]", r#"[{"op":"move","from":"/0","path":"/2"}]"#, 0, "found `2` for an array, expected an index of at most 1");
}

#[test]
fn copy_leaves_the_source() {
    check(r#"{"a":[1]}"#, r#"[{"op":"copy","from":"/a","path":"/b"}]"#, r#"{"a":[1],"b":[1]}"#);
    check(r#"{"a":[1]}"#, r#"[{"op":"copy","from":"/a","path":"/a/0"}]"#, r#"{"a":[[1],1]}"#);
    check(r#"{"a":1}"#, r#"[{"op":"copy","from":"","path":"/b"}]"#, r#"{"a":1,"b":{"a":1}}"#);
    check(r#"{"a":[1]}"#, r#"[{"op":"copy","from":"/a","path":"/b"},{"op":"add","path":"/b/-","value":2}]"#, r#"{"a":[1],"b":[1,2]}"#);
    check("[1,2]", r#"[{"op":"copy","from":"/0","path":"/-"}]"#, "[1,2,1]");
    check_failed("{}", r#"[{"op":"copy","from":"/a","path":"/b"}]"#, 0, "without `a`");
}

#[test]
fn test_compares_values() {
    for (a, b) in [
        ("1", "1.0"),
        ("100", "1e2"),
        ("-0", "0"),
        ("12345678901234567890.5", "123456789012345678905e-1"),
        (r#""a/é""#, r#""\u0061\/\u00e9""#),
        ("null", "null"),
        ("[1,[2,{}]]", "[1.0,[2e0,{}]]"),
        (r#"{"a":1,"b":{"c":2,"d":3}}"#, r#"{"b":{"d":3,"c":2},"\u0061":1}"#),
        (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
    ] {
        assert!(test_passes(a, b) && test_passes(b, a), "{a} {b}");
    }
    for (a, b) in [
        ("1", "2"),
        ("9007199254740993", "9007199254740992"),
        ("1", "\"1\""),
        ("true", "false"),
        ("null", "false"),
        ("0", "false"),
        ("[]", "{}"),
        ("[1,2]", "[2,1]"),
        ("[1]", "[1,2]"),
        (r#"{"a":1}"#, r#"{"a":1,"b":2}"#),
        (r#"{"a":1}"#, r#"{"b":1}"#),
        (r#"{"a":1,"a":2}"#, r#"{"a":1}"#),
        (r#""a""#, r#""A""#),
        (r#""""#, "[]"),
    ] {
        assert!(!test_passes(a, b) && !test_passes(b, a), "{a} {b}");
    }
    check(r#"{"a":[1]}"#, r#"[{"op":"test","path":"/a/0","value":1.0}]"#, r#"{"a":[1]}"#);
    check_failed(r#"{"a":[1]}"#, r#"[{"op":"test","path":"/a/0","value":2}]"#, 0, r#"another value at "/a/0""#);
    check_failed("{}", r#"[{"op":"test","path":"/a","value":null}]"#, 0, "without `a`");
    // What earlier operations have taken apart compares the same.
    check(
        r#"{"a":{"b":[1]}}"#,
        r#"[{"op":"add","path":"/a/b/0","value":0},{"op":"test","path":"","value":{"a":{"b":[0,1]}}}]"#,
        r#"{"a":{"b":[0,1]}}"#,
    );
}

#[test]
fn the_first_operation_that_fails_ends_it() {
    let patch = r#"[{"op":"add","path":"/a","value":1},{"op":"test","path":"/a","value":1},{"op":"remove","path":"/b"},{"op":"remove","path":"/c"}]"#;
    check_failed("{}", patch, 2, "without `b`");
    assert_eq!(applied("{}", patch).unwrap_err().to_string(), "operation 2: found an object at \"\" without `b`, expected that member");
    check("{}", "[]", "{}");
}

#[test]
fn pointers_escape_and_members_may_be_named_like_indexes() {
    check(r#"{"a/b":1,"m~n":2}"#, r#"[{"op":"remove","path":"/a~1b"},{"op":"replace","path":"/m~0n","value":3}]"#, r#"{"m~n":3}"#);
    check("{}", r#"[{"op":"add","path":"/~01","value":1}]"#, r#"{"~1":1}"#);
    check(r#"{"0":1}"#, r#"[{"op":"add","path":"/00","value":2},{"op":"remove","path":"/0"}]"#, r#"{"00":2}"#);
    check(r#"{"\u0061":1}"#, r#"[{"op":"replace","path":"/a","value":2}]"#, r#"{"\u0061":2}"#);
    check("{}", r#"[{"op":"add","path":"/\"\\\n\u00e9","value":1}]"#, "{\"\\\"\\\\\\né\":1}");
}

#[test]
fn what_is_not_touched_stays_as_it_is_written() {
    let untouched = r#""z":1.0,"y":1e+05,"x":12345678901234567890.10,"w":"\u0041\/","v":{"b":-0,"a":[1.50,{"q":2E3}]},"u":1,"u":2"#;
    check(&format!(r#"{{"a":1,{untouched}}}"#), r#"[{"op":"remove","path":"/a"}]"#, &format!("{{{untouched}}}"));
    check(
        &format!(r#"{{"a":[{{{untouched}}}]}}"#),
        r#"[{"op":"add","path":"/a/0","value":1.00}]"#,
        &format!(r#"{{"a":[1.00,{{{untouched}}}]}}"#),
    );
    check(r#"{"v":{"b":-0,"a":[1.50,2]}}"#, r#"[{"op":"add","path":"/v/a/-","value":3}]"#, r#"{"v":{"b":-0,"a":[1.50,2,3]}}"#);
    check(r#"{"a":1.0}"#, r#"[{"op":"move","from":"/a","path":"/b"},{"op":"copy","from":"/b","path":"/c"}]"#, r#"{"b":1.0,"c":1.0}"#);
}

#[test]
fn of_equal_names_the_last_one_is_meant_and_all_are_removed() {
    let document = r#"{"a":{"x":1},"b":2,"a":{"x":3}}"#;
    check(document, r#"[{"op":"replace","path":"/a/x","value":4}]"#, r#"{"a":{"x":1},"b":2,"a":{"x":4}}"#);
    check(document, r#"[{"op":"add","path":"/a","value":4}]"#, r#"{"a":{"x":1},"b":2,"a":4}"#);
    check(document, r#"[{"op":"test","path":"/a/x","value":3}]"#, document);
    check(document, r#"[{"op":"remove","path":"/a"}]"#, r#"{"b":2}"#);
    check(document, r#"[{"op":"move","from":"/a/x","path":"/a"}]"#, r#"{"a":{"x":1},"b":2,"a":3}"#);
}

#[test]
fn white_space_in_a_patch_is_not_kept() {
    check("{}", "\n[ { \"op\" : \"add\" , \"path\" : \"/a\" , \"value\" : { \"b c\" : [ 1 , 2 ] } } ]\n", r#"{"a":{"b c":[1,2]}}"#);
}

#[test]
fn unknown_members_of_an_operation_are_ignored() {
    check("{}", r#"[{"op":"add","path":"/a","value":1,"from":7,"spam":[{}]}]"#, r#"{"a":1}"#);
    check(r#"{"a":1}"#, r#"[{"value":1,"path":"/a","\u006fp":"\u0074est"}]"#, r#"{"a":1}"#);
}

#[test]
fn what_is_not_a_patch_is_refused_where_it_breaks() {
    check_malformed("", 0, "JSON value");
    check_malformed("[{]", 2, "a key");
    check_malformed(" {}", 1, "found an object, expected an array of operations");
    check_malformed("[ 1]", 2, "found a number");
    check_malformed(r#"[{"op":"remove","path":"/a"}, {}]"#, 30, "without `op`");
    check_malformed(r#"[{"path":"/a"}]"#, 1, "without `op`");
    check_malformed(r#"[{"op":"add","value":1}]"#, 1, "without `path`");
    for op in ["add", "replace", "test"] {
        check_malformed(&format!(r#"[{{"op":"{op}","path":"/a"}}]"#), 1, "without `value`");
    }
    for op in ["move", "copy"] {
        check_malformed(&format!(r#"[{{"op":"{op}","path":"/a"}}]"#), 1, "without `from`");
    }
    check_malformed(r#"[{"op":"spam","path":"/a"}]"#, 7, "found `spam`, expected `add`, `remove`");
    check_malformed(r#"[{"op":"Add","path":"/a","value":1}]"#, 7, "found `Add`");
    check_malformed(r#"[{ "op": 1,"path":"/a"}]"#, 9, "found a number, expected a string for `op`");
    check_malformed(r#"[{"op":"remove","path":null}]"#, 23, "found null, expected a string for `path`");
    check_malformed(r#"[{"op":"copy","path":"","from":[]}]"#, 31, "found an array, expected a string for `from`");
    check_malformed(r#"[{"op":"add","path":"/a","value":1,"op":"remove"}]"#, 35, "found `op` again");
    check_malformed(r#"[{"op":"test","path":"/a","value":1,"value":1}]"#, 36, "found `value` again");
    check_malformed(r#"[{"op":"remove", "path": "a/b"}]"#, 26, "found 'a' in a JSON pointer, expected '/'");
    check_malformed(r#"[{"op":"remove","path":"/a~2"}]"#, 27, "found '2' in a JSON pointer");
    check_malformed(r#"[{"op":"remove","path":"/\u0061~2"}]"#, 23, "found '2' in a JSON pointer");
    // Read as a whole before it is applied.
    check_malformed(r#"[{"op":"remove","path":"/none"},{"op":"x","path":""}]"#, 38, "found `x`");
}

#[test]
fn the_number_of_operations_has_an_edge() {
    let patch = |count: usize| format!("[{}]", vec![r#"{"op":"test","path":"","value":1}"#; count].join(","));
    check("1", &patch(100), "1");
    check_malformed(&patch(101), 1 + 100 * 34, "one more operation, expected at most 100");
}

#[test]
fn the_length_of_a_patch_has_an_edge() {
    let patch = |length: usize| format!("[]{}", " ".repeat(length - 2));
    check("1", &patch(4000), "1");
    check_malformed(&patch(4001), 4000, "found a patch of 4001 bytes, expected at most 4000");
}

#[test]
fn the_length_of_a_result_has_an_edge() {
    let patch =
        |length: usize| format!(r#"[{{"op":"add","path":"/-","value":"{}"}},{{"op":"test","path":"/0","value":1}}]"#, "x".repeat(length));
    assert_eq!(applied("[1]", &patch(994)).map(|result| result.len()), Ok(1000));
    check_failed("[1]", &patch(995), 1, "found a result of 1001 bytes, expected at most 1000");
}

#[test]
fn the_bytes_handled_have_an_edge() {
    let document = format!("{{\"a\":\"{}\"}}", "x".repeat(498));
    let test = format!("{{\"op\":\"test\",\"path\":\"/a\",\"value\":\"{}\"}}", "x".repeat(498));
    let moves = |count: usize| vec![r#"{"op":"move","from":"/a","path":"/b"},{"op":"move","from":"/b","path":"/a"}"#; count].join(",");
    check(&document, &format!("[{},{test},{test}]", moves(9)), &document);
    let words = "found 10500 bytes tested, moved and copied so far, expected at most 10000";
    check_failed(&document, &format!("[{test},{test},{},{test}]", moves(9)), 20, words);
    check_failed(&document, &format!("[{test},{},{}]", moves(9), moves(1)), 20, words);
    check_failed(
        &document,
        &format!("[{},{test},{}]", moves(9), r#"{"op":"copy","from":"/a","path":"/a"},{"op":"copy","from":"/a","path":"/a"}"#),
        20,
        words,
    );
}

#[test]
fn copies_that_double_are_stopped() {
    let patch = format!("[{}]", vec![r#"{"op":"copy","from":"","path":"/-"}"#; 20].join(","));
    check_failed("[1,2,3,4]", &patch, 6, "bytes copied so far, expected at most 1000");
    let patch = format!("[{}]", vec![r#"{"op":"copy","from":"/0","path":"/0"},{"op":"remove","path":"/1"}"#; 20].join(","));
    check(&format!("[\"{}\"]", "x".repeat(48)), &patch, &format!("[\"{}\"]", "x".repeat(48)));
    check_failed(&format!("[\"{}\"]", "x".repeat(49)), &patch, 38, "copied so far");
}

#[test]
fn depth_has_an_edge_also_on_the_way() {
    let nest = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let add = |depth: usize| format!(r#"[{{"op":"add","path":"/0/0","value":{}}}]"#, nest(depth));
    check("[[]]", &add(18), &nest(20));
    check_failed("[[]]", &add(19), 0, "found 21 arrays and objects within each other, expected at most 20");
    let inward = format!("[{}]", vec![r#"{"op":"copy","from":"","path":"/a"}"#; 20].join(","));
    check_failed(&format!(r#"{{"a":{}}}"#, nest(10)), &inward, 9, "within each other");
    check_failed("[[],[[]]]", &format!(r#"[{{"op":"replace","path":"/0","value":{}}}]"#, nest(20)), 0, "within each other");
    let moved = format!(r#"{{"a":[[1]],"b":{}}}"#, nest(19));
    check_failed(&moved, r#"[{"op":"move","from":"/b","path":"/a/0/0"}]"#, 0, "within each other");
}

/// Numbers and strings in several spellings, so that a patch must keep them.
fn any_text() -> impl Strategy<Value = String> {
    let scalar = prop::sample::select(vec![
        "null",
        "true",
        "0",
        "1",
        "1.0",
        "-2e1",
        "12345678901234567890123",
        "\"\"",
        "\"a\"",
        "\"\\u0061\"",
        "\"\\\"]\"",
    ]);
    let name = prop::sample::select(vec!["a", "b", "0", "-", "", "\\u0063", "~", "/", "x~1"]);
    scalar.prop_map(str::to_string).prop_recursive(4, 30, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|elements| format!("[{}]", elements.join(","))),
            prop::collection::btree_map(name.clone(), inner, 0..4).prop_map(|members| {
                let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

/// The operations that make `after` of `before`.
fn difference(before: &Value, after: &Value, at: &str, patch: &mut Vec<Value>) {
    let inside = |name: &str| format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (name, old) in before {
                match after.get(name) {
                    Some(new) => difference(old, new, &inside(name), patch),
                    None => patch.push(json!({"op": "remove", "path": inside(name)})),
                }
            }
            for (name, new) in after.iter().filter(|(name, _)| !before.contains_key(*name)) {
                patch.push(json!({"op": "add", "path": inside(name), "value": new}));
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            for (index, (old, new)) in before.iter().zip(after).enumerate() {
                difference(old, new, &format!("{at}/{index}"), patch);
            }
            for _ in after.len()..before.len() {
                patch.push(json!({"op": "remove", "path": format!("{at}/{}", after.len())}));
            }
            for new in after.iter().skip(before.len()) {
                patch.push(json!({"op": "add", "path": format!("{at}/-"), "value": new}));
            }
        }
        _ if before != after => patch.push(json!({"op": "replace", "path": at, "value": after})),
        _ => {}
    }
}

/// The six operations on a tree of another maker, as plainly as can be.
fn model(document: &mut Value, operation: &Value) -> Option<()> {
    let text = |name: &str| operation[name].as_str().map(str::to_string);
    let (op, path) = (text("op")?, text("path")?);
    match &*op {
        "add" => model_add(document, &path, operation["value"].clone()),
        "remove" => model_remove(document, &path).map(drop),
        "replace" => {
            *model_find(document, &path)? = operation["value"].clone();
            Some(())
        }
        "copy" => {
            let value = model_find(document, &text("from")?)?.clone();
            model_add(document, &path, value)
        }
        "move" => {
            let from = text("from")?;
            model_find(document, &from)?;
            if path == from {
                return Some(());
            }
            if path.strip_prefix(&from).is_some_and(|rest| rest.starts_with('/')) {
                return None;
            }
            let value = model_remove(document, &from)?;
            model_add(document, &path, value)
        }
        _ => model_equals(model_find(document, &path)?, &operation["value"]).then_some(()),
    }
}

/// Numbers are equal by what they mean: `1` and `1.0`.
fn model_equals(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| model_equals(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| model_equals(a, b)))
        }
        _ => a == b,
    }
}

fn model_find<'a>(document: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    document.pointer_mut(path)
}

fn split(path: &str) -> Option<(&str, String)> {
    let (parent, last) = path.rsplit_once('/')?;
    Some((parent, last.replace("~1", "/").replace("~0", "~")))
}

fn model_index(text: &str) -> Option<usize> {
    text.parse::<usize>().ok().filter(|index| index.to_string() == text)
}

fn model_add(document: &mut Value, path: &str, value: Value) -> Option<()> {
    let Some((parent, last)) = split(path) else {
        *document = value;
        return Some(());
    };
    match model_find(document, parent)? {
        Value::Object(members) => drop(members.insert(last, value)),
        Value::Array(elements) if last == "-" => elements.push(value),
        Value::Array(elements) => elements.insert(model_index(&last).filter(|&index| index <= elements.len())?, value),
        _ => return None,
    }
    Some(())
}

fn model_remove(document: &mut Value, path: &str) -> Option<Value> {
    let (parent, last) = split(path)?;
    match model_find(document, parent)? {
        Value::Object(members) => members.remove(&last),
        Value::Array(elements) => Some(elements.remove(model_index(&last).filter(|&index| index < elements.len())?)),
        _ => None,
    }
}

fn any_operation() -> impl Strategy<Value = Value> {
    let path = prop_oneof![
        3 => prop::sample::select(vec!["/a", "/b", "/c", "/0", "/1", "/-", "/~01"]).prop_map(str::to_string),
        3 => "(/[abc01]){1,3}",
        1 => Just(String::new()),
    ];
    let op = prop::sample::select(vec!["add", "add", "remove", "replace", "move", "copy", "test"]);
    let value = prop::sample::select(vec![json!(1), json!("a"), json!({"a": [1]}), json!([[1], {}]), json!(null)]);
    (op, path.clone(), path, value).prop_map(|(op, path, from, value)| json!({"op": op, "path": path, "from": from, "value": value}))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_patch_between_two_values_makes_the_second_of_the_first(before in any_text(), after in any_text()) {
        let limits = PatchLimits::default();
        let (before_value, after_value): (Value, Value) = (serde_json::from_str(&before).unwrap(), serde_json::from_str(&after).unwrap());
        let mut operations = Vec::new();
        difference(&before_value, &after_value, "", &mut operations);
        let patch = Value::from(operations).to_string();
        let result = apply(before.as_bytes(), patch.as_bytes(), limits);
        let result = result.map(|text| serde_json::from_slice::<Value>(&text).unwrap());
        prop_assert_eq!(result, Ok(after_value), "{}", patch);
    }

    #[test]
    fn each_operation_does_what_the_model_does(document in any_text(), operations in prop::collection::vec(any_operation(), 1..6)) {
        let mut expected: Value = serde_json::from_str(&document).unwrap();
        let mut failed = None;
        for (index, operation) in operations.iter().enumerate() {
            if model(&mut expected, operation).is_none() {
                failed = Some(index);
                break;
            }
        }
        let patch = Value::from(operations).to_string();
        match apply(document.as_bytes(), patch.as_bytes(), PatchLimits::default()) {
            Ok(result) => {
                prop_assert_eq!(failed, None, "{} {}", document, patch);
                prop_assert_eq!(serde_json::from_slice::<Value>(&result).unwrap(), expected, "{} {}", document, patch);
            }
            Err(PatchError::Failed { operation, .. }) => prop_assert_eq!(Some(operation), failed, "{} {}", document, patch),
            Err(error) => prop_assert!(false, "{}: {}", patch, error),
        }
    }

    #[test]
    fn a_member_that_comes_and_goes_leaves_no_trace(document in any_text()) {
        let wrapped = format!("{{\"kept\":{document}}}");
        check(&wrapped, r#"[{"op":"add","path":"/new","value":1},{"op":"move","from":"/new","path":"/newer"},{"op":"remove","path":"/newer"}]"#, &wrapped);
    }

    #[test]
    fn any_text_is_applied_or_refused(document in "[\\[\\]{}\",:a01]*|\\PC*", patch in "[\\[\\]{}\",:a01]*|\\PC*", good in any_operation()) {
        if let Err(PatchError::Malformed { position, .. }) = apply(document.as_bytes(), patch.as_bytes(), LIMITS) {
            prop_assert!(position <= patch.len());
        }
        let _ = apply(document.as_bytes(), json!([good]).to_string().as_bytes(), LIMITS);
    }

    #[test]
    fn a_patch_with_a_byte_changed_is_applied_or_refused(document in any_text(), operations in prop::collection::vec(any_operation(), 1..3), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut patch = Value::from(operations).to_string().into_bytes();
        let at = at.index(patch.len());
        patch[at] = byte;
        let _ = apply(document.as_bytes(), &patch, LIMITS);
    }
}
