//! Paths, `expand`, `value`, `process`, `calc`, `patch` and `type`, each by a table.

use super::*;

#[test]
fn the_examples_of_the_manual_hold() {
    let currencies = r#"{"currencies":["USD","GBP","EUR","CHF"]}"#;
    check(
        "map my/topic/path to views/currency<expand(/currencies)>",
        "my/topic/path",
        currencies,
        &["views/currency0=\"USD\"", "views/currency1=\"GBP\"", "views/currency2=\"EUR\"", "views/currency3=\"CHF\""],
    );
    let account = r#"{"account":"1234","balance":{"amount":12.57,"currency":"USD"}}"#;
    check(
        "map my/topic/path to views/<scalar(/account)> as <value(/balance)>",
        "my/topic/path",
        account,
        &[r#"views/1234={"amount":12.57,"currency":"USD"}"#],
    );
    check(
        "map my/topic/path to views/currency/<scalar(/balance/currency)>/account/<scalar(/account)>",
        "my/topic/path",
        account,
        &[&format!("views/currency/USD/account/1234={account}")],
    );
    let name = r#"{"name":"Fred/Flintstone"}"#;
    let separated = format!("views/Fred_Flintstone={name}");
    check("map ?my/topic/path// to views/<scalar(/name)> separator '_'", "my/topic/path/1", name, &[&separated]);
    let dear = "map ?my/topic/path// to views/<path(3)> process { if '/price_per_share > 20' continue }";
    check(dear, "my/topic/path/cheap", r#"{"price_per_share":12.34}"#, &[]);
    check(dear, "my/topic/path/dear", r#"{"price_per_share":87.65}"#, &[r#"views/dear={"price_per_share":87.65}"#]);
    let total = "process { set(/total, calc '/quantity * /price_per_share'); remove(/quantity); remove(/price_per_share) }";
    check(
        &format!("map ?my/topic/path// to views/<path(3)> {total}"),
        "my/topic/path/a",
        r#"{"name":"a","quantity":100,"price_per_share":12.34}"#,
        &[r#"views/a={"name":"a","total":1234}"#],
    );
    check("map ?a/ to b/<path(1)>", "a/x/y/z", "1", &["b/x/y/z=1"]);
}

#[test]
fn segments_of_the_source_path_are_taken_whole() {
    let check_path = |directive: &str, expected: &str| check(&format!("map ?a// to v/{directive}"), "a/b/c", "1", &[expected]);
    check_path("<path(0)>", "v/a/b/c=1");
    check_path("<path(2)>", "v/c=1");
    check_path("<path(0,1)>-<path(2,1)>", "v/a-c=1");
    check_path("<path(1,2)>", "v/b/c=1");
    for directive in ["<path(3)>", "<path(1,3)>", "<path(3,1)>"] {
        check_failed(&format!("map ?a// to v/{directive}"), "a/b/c", "1", "found a source path of 3 segments");
    }
}

fn check_scalar(value: &str, expected: Result<&str, &str>) {
    let json = format!("{{\"x\":{value}}}");
    match expected {
        Ok(path) => check("map a to v/<scalar(/x)>", "a", &json, &[&format!("v/{path}={json}")]),
        Err(words) => check_failed("map a to v/<scalar(/x)>", "a", &json, words),
    }
}

#[test]
fn scalars_make_segments() {
    check_scalar("\"a b\"", Ok("a b"));
    check_scalar("\"a/b\"", Ok("a/b"));
    check_scalar(r#""\u0061\/\"""#, Ok("a/\""));
    check_scalar("1.50", Ok("1.50"));
    check_scalar("-1e3", Ok("-1e3"));
    check_scalar("true", Ok("true"));
    check_scalar("null", Err("found null at \"/x\""));
    check_scalar("{}", Err("found an object"));
    check_scalar("[1]", Err("found an array"));
    check_scalar("\"\"", Err("found an empty string"));
    check_scalar("\"/a\"", Err("empty segment"));
    check_scalar("\"a//b\"", Err("empty segment"));
    check_scalar("\"a/\"", Err("found the end of the path"));
    check_failed("map a to <scalar(/y)>", "a", "{\"x\":1}", "found nothing at \"/y\"");
    check_failed("map a to <scalar(/x)>", "a", "{\"x\":\"Diffusion/a\"}", "set aside for the server");
    check_failed("map a to <scalar(/x)>/b", "a", "{\"x\":\"/a\"}", "'/' at the start");
    check("map a to <scalar('')>", "a", "\"b\"", &["b=\"b\""]);
    check("map a to v/<scalar(/x)> separator '::'", "a", r#"{"x":"a//b/"}"#, &[r#"v/a::::b::={"x":"a//b/"}"#]);
}

#[test]
fn other_sources_than_json_have_a_path_alone() {
    for (kind, json) in
        [(ValueType::String, "\"{}\""), (ValueType::Int64, "1"), (ValueType::Double, "1.5"), (ValueType::Binary, "\"AA==\"")]
    {
        let check =
            |text: &str, expected: &[&str], words: &[&str]| check_among(text, "a", (kind, json), &mut Others::default(), expected, words);
        check("map a to b/<path(0)>", &[&format!("b/a={json}")], &[]);
        let found = format!("found a source of type {}, expected json", kind.name());
        for clause in ["<scalar('')>", "<expand()>", "c process { set(/a, 1) }", "c patch '[]'", "c insert d at /e", "c as <value('')>"] {
            check(&format!("map a to b/{clause}"), &[], &[&found]);
        }
    }
}

#[test]
fn a_source_without_a_value_has_references_by_its_path_alone() {
    for kind in ValueType::ALL {
        let input = Input { path: "a", kind, value: None };
        let made = |text: &str| {
            let out = evaluate(&view(text), &input, &mut Others::default(), &EvaluationLimits::default());
            assert_eq!((out.failures, out.is_waiting), (0, false));
            out.references
        };
        assert_eq!(made("map a to b/<path(0)>"), [Derived { path: "b/a".into(), kind, value: None }]);
        for clause in ["<scalar('')>", "<expand()>", "c process { set(/a, 1) }", "c patch '[]'", "c insert d at /e", "c as <value('')>"] {
            assert_eq!(made(&format!("map a to b/{clause}")), []);
        }
    }
    let null = |text: &str, expected: &str| check_among(text, "a", (ValueType::String, "null"), &mut Others::default(), &[expected], &[]);
    null("map a to b type JSON", "b=null");
    null("map a to b type INT64", "b=no value");
}

#[test]
fn expand_names_children_by_key_index_or_pointer() {
    check("map a to v/<expand()>", "a", r#"{"x":1,"y":[2]}"#, &["v/x=1", "v/y=[2]"]);
    check("map a to v/<expand(/l)>", "a", r#"{"l":["x",{"y":1}]}"#, &["v/0=\"x\"", "v/1={\"y\":1}"]);
    check("map a to v/<expand(/l,/n)>", "a", r#"{"l":[{"n":"x"},{"n":7}]}"#, &[r#"v/x={"n":"x"}"#, r#"v/7={"n":7}"#]);
    check("map a to <expand('',/n)>/w", "a", r#"{"k":{"n":"x"}}"#, &[r#"x/w={"n":"x"}"#]);
    check("map a to v/<expand()>", "a", r#"{"x/y":1,"\u0061":2}"#, &["v/x/y=1", "v/a=2"]);
    check("map a to v/<expand()> separator '.'", "a", r#"{"x/y":1}"#, &["v/x.y=1"]);
    for empty in ["{}", "[]"] {
        check("map a to v/<expand()>", "a", empty, &[]);
    }
    check_failed("map a to v/<expand()>", "a", "1", "found a number at \"\", expected an array or object");
    check_failed("map a to v/<expand(/x)>", "a", "{}", "found nothing at \"/x\"");
    let mixed = |text: &str, json: &str, expected: &[&str], words: &[&str]| {
        check_among(text, "a", (ValueType::Json, json), &mut Others::default(), expected, words);
    };
    mixed("map a to v/<expand('',/n)>", r#"[{"n":1},{},{"n":null},{"n":2}]"#, &[r#"v/1={"n":1}"#, r#"v/2={"n":2}"#], &["", "found null"]);
    mixed("map a to v/<expand('',/n)>", r#"[{"n":1,"m":1},{"n":1},{"n":1}]"#, &[r#"v/1={"n":1,"m":1}"#], &["", "the path again"]);
    mixed("map a to v/<expand()>", r#"{"":1,"x":2,"/":3}"#, &["v/x=2"], &["", "empty segment"]);
}

#[test]
fn nested_expands_lead_into_the_element() {
    let customers = r#"{"v":"w","customers":[{"name":"a","orders":[{"id":1},{"id":2}]},{"name":"b","orders":[]},{"name":"c"}]}"#;
    let expected = [r#"w/a/1={"id":1}"#, r#"w/a/2={"id":2}"#];
    let text = "map s to <scalar(/v)>/<expand(/customers, /name)>/<expand(/orders, /id)>";
    check_among(text, "s", (ValueType::Json, customers), &mut Others::default(), &expected, &["found nothing at \"/orders\""]);
    let text = "map s to <expand(/customers, /name)>/<scalar(/name)>/<expand()>/<expand()>";
    check_among(text, "s", (ValueType::Json, r#"{"customers":[{"name":"a"}]}"#), &mut Others::default(), &[], &["found a string"]);
    check("map s to <expand()>/<expand()>", "s", "[[1,2],[3]]", &["0/0=1", "0/1=2", "1/0=3"]);
}

#[test]
fn scalars_values_and_transformations_work_on_the_expanded_element() {
    let json = r#"{"n":"w","l":[{"n":"x","p":2},{"n":"y","p":3}]}"#;
    check("map a to <scalar(/n)>/<expand(/l)>/<scalar(/n)> as <value(/p)>", "a", json, &["w/0/x=2", "w/1/y=3"]);
    check("map a to <expand(/l)> process { if '/p > 2' set('', calc '/p * 2') }", "a", json, &["1=6"]);
    check(
        "map a to <expand(/l)> patch '[{\"op\":\"test\",\"path\":\"/n\",\"value\":\"x\"}]'",
        "a",
        r#"{"l":[{"n":"x"}]}"#,
        &[r#"0={"n":"x"}"#],
    );
}

#[test]
fn a_missing_part_makes_no_reference() {
    check("map a to b as <value(/x/0)>", "a", r#"{"x":[null]}"#, &["b=null"]);
    check("map a to b process { set(/y, /x) } as <value(/y)>", "a", r#"{"x":[1]}"#, &["b=[1]"]);
    check_failed("map a to b as <value(/y)>", "a", "{}", "found nothing at \"/y\", expected the value");
}

fn check_process(statements: &str, json: &str, expected: &str) {
    check(&format!("map a to b process {{ {statements} }}"), "a", json, &[&format!("b={expected}")]);
}

fn check_process_failed(statements: &str, json: &str, words: &str) {
    check_failed(&format!("map a to b process {{ {statements} }}"), "a", json, words);
}

#[test]
fn processes_read_their_input_and_write_their_output() {
    let json = r#"{"a":1,"l":[1,2],"o":{"p":"q"}}"#;
    check_process("continue", json, json);
    check_process("set(/a, 2)", json, r#"{"a":2,"l":[1,2],"o":{"p":"q"}}"#);
    check_process("set(/a, /o); set(/b, /a)", json, r#"{"a":{"p":"q"},"l":[1,2],"o":{"p":"q"},"b":1}"#);
    check_process("set(/l/0, 'x'); set(/l/-, empty_object); set(/l/3, true)", json, r#"{"a":1,"l":["x",2,{},true],"o":{"p":"q"}}"#);
    check_process("set(/n, empty_array); set(/n/-, null); set(/n/-, /l/1)", r#"{"l":[1,2]}"#, r#"{"l":[1,2],"n":[null,2]}"#);
    check_process("set('', /o)", json, r#"{"p":"q"}"#);
    check_process("remove(/l/0); remove(/l/0); remove(/o/p); remove(/none); remove(/none/at/all)", json, r#"{"a":1,"l":[],"o":{}}"#);
    check_process("set(/a); remove(/l); remove(/o)", r#"{"a":{"a":1},"l":1,"o":2}"#, r#"{"a":{"a":1}}"#);
    check_process("set(/s/t, /s)", r#"{"s":{}}"#, r#"{"s":{"t":{}}}"#);
    check("map a to b process { set(/x, 1) } process { set(/y, /x) }", "a", "{}", &[r#"b={"x":1,"y":1}"#]);
    check_process_failed("set(/y, /x)", "{}", "transformation 1: found nothing at \"/x\", expected a value to set");
    check_process_failed("set(/x/y, 1)", "{}", "found an object at \"\" without `x`");
    check_process_failed("set(/x, 1)", "7", "found a number to put `x` into");
    check_process_failed("set(/3, 1)", "[1]", "expected an index of at most 1");
}

#[test]
fn a_process_without_a_branch_that_holds_is_a_filter() {
    let check_grade = |number: &str, expected: &[&str]| {
        let text = "if '/n > 20' set(/g, 'high') elseif '/n > 10' { set(/g, 'middle'); remove(/n) } elseif '/n = 0' continue";
        check(&format!("map a to b process {{ {text} }}"), "a", &format!("{{\"n\":{number}}}"), expected);
    };
    check_grade("21", &[r#"b={"n":21,"g":"high"}"#]);
    check_grade("11", &[r#"b={"g":"middle"}"#]);
    check_grade("0.0", &[r#"b={"n":0.0}"#]);
    check_grade("5", &[]);
    check_process("if '/n = 1' set(/x, 1) else set(/x, 2)", r#"{"n":2}"#, r#"{"n":2,"x":2}"#);
    check("map a to b process { set(/x, 1); if '/n = 1' continue }", "a", "{}", &[]);
}

fn check_condition(condition: &str, json: &str, expected: bool) {
    let expected: &[&str] = if expected { &[&format!("b={json}")] } else { &[] };
    check(&format!("map a to b process {{ if \"{condition}\" continue }}"), "a", json, expected);
}

#[test]
fn conditions_compare_scalars() {
    let json = r#"{"n":1.50,"s":"x","t":"\u0078","e":"10","b":true,"z":null,"o":{},"l":[1],"big":9007199254740993}"#;
    for condition in [
        "/n = 1.5",
        "/n = 15e-1",
        "/n eq /n",
        "/s = 'x'",
        "/s = /t",
        "/t = /s",
        "/b = true",
        "/z = null",
        "/s != 'y'",
        "/n ne '1.5'",
        "/o != 1",
        "/o != /o",
        "/l/0 = 1",
        "/n > 1",
        "/n gt 1.49",
        "/n >= 1.5",
        "/n <= 1.5",
        "/n < 2",
        "/n lt /l/0 or /n ge /l/0",
        "/big > 9007199254740992",
        "/big != 9007199254740992",
        "not /x = 1",
        "not (/n > 2 and /s = 'x')",
        "/n = 9 and /n = 9 or /s = 'x'",
        "/s = 'x' or /n = 9 and /n = 9",
        "/s =~ [a-x]",
        "/n matches '1\\\\.5.*'",
        "/b =~ tr..",
    ] {
        check_condition(condition, json, true);
    }
    for condition in [
        "/x = 1",
        "/x != 1",
        "/x = null",
        "/n = /x",
        "/n != /x",
        "/e = 10",
        "/e > 1",
        "/e < 100",
        "/o = /o",
        "/l = /l",
        "/b = 'true'",
        "/b > 0",
        "/z = 0",
        "/s > 1",
        "/big = 9007199254740992",
        "/s =~ [a-w]",
        "/e =~ 1",
        "/o =~ .*",
        "/x =~ .*",
        "not /s = 'x'",
    ] {
        check_condition(condition, json, false);
    }
}

fn check_calc(calculation: &str, json: &str, expected: &str) {
    check(&format!("map a to b process {{ set('', calc '{calculation}') }}"), "a", json, &[&format!("b={expected}")]);
}

fn check_calc_failed(calculation: &str, json: &str, words: &str) {
    check_failed(&format!("map a to b process {{ set('', calc '{calculation}') }}"), "a", json, words);
}

#[test]
fn calculations_are_in_decimals() {
    check_calc("/0 + /1", "[0.1,0.2]", "0.3");
    check_calc("/0 * 2", "[14.00]", "28");
    check_calc("/0 / 4", "[1e2]", "25");
    check_calc("1 + 2 * 3 - 8 / 2 / 2", "[]", "5");
    check_calc("(1 + 2) * -3", "[]", "-9");
    check_calc("-/0 - -/0", "[1.50]", "0");
    check_calc("/0 - 1", "[1000000000000000000000.01]", "999999999999999999999.01");
    check_calc("10 / 3", "[]", "3.3333333333333333333333333333");
    check_calc("/0 * 1", "[1.5e-3]", "0.0015");
    check_calc("/0 * 1", "[0.0]", "0");
    check_calc("/0 * 1", "[-0]", "0");
    check_calc("/0", "[1.00000000000000000000000000000000000000000]", "1");
    check_calc_failed("1 / /0", "[0]", "found 1 / 0, expected another divisor");
    check_calc_failed("/0 * /0", "[1e20]", "expected a result of at most 28 digits");
    check_calc_failed("/0 + 1", "[1e30]", "found 1e30 at \"/0\"");
    check_calc_failed("/0 + 1", "[1e-29]", "found 1e-29 at \"/0\"");
    check_calc_failed("/0 + 1", "[\"1\"]", "found a string at \"/0\", expected a number");
    check_calc_failed("/0 + 1", "[null]", "found null at \"/0\"");
    check_calc_failed("/1 + 1", "[]", "found nothing at \"/1\"");
}

fn check_format(format: &str, number: &str, expected: &str) {
    check(&format!("map a to b process {{ set('', /0 format '{format}') }}"), "a", &format!("[{number}]"), &[&format!("b={expected}")]);
}

#[test]
fn formats_round_and_pad() {
    check_format("scale=2", "12.5", "12.50");
    check_format("type=string,scale=2", "12.5", "\"12.50\"");
    check_format("type=string", "12.50", "\"12.5\"");
    check_format("scale=0", "12.5", "13");
    check_format("scale=3", "7", "7.000");
    check_format("scale=2", "0", "0.00");
    check_format("scale=2", "-0.001", "0.00");
    check_format("scale=1", "1e20", "100000000000000000000.0");
    for (rounding, expected) in [
        ("up", ["1.3", "-1.3", "1.3", "1.4", "1.3"]),
        ("down", ["1.2", "-1.2", "1.2", "1.3", "1.2"]),
        ("ceiling", ["1.3", "-1.2", "1.3", "1.4", "1.3"]),
        ("floor", ["1.2", "-1.3", "1.2", "1.3", "1.2"]),
        ("half_up", ["1.3", "-1.3", "1.2", "1.4", "1.3"]),
        ("half_down", ["1.2", "-1.2", "1.2", "1.3", "1.3"]),
        ("half_even", ["1.2", "-1.2", "1.2", "1.4", "1.3"]),
    ] {
        for (number, expected) in ["1.25", "-1.25", "1.21", "1.35", "1.251"].iter().zip(expected) {
            check_format(&format!("scale=1,round={rounding}"), number, expected);
        }
    }
    check_format("scale=1,round=unnecessary", "1.20", "1.2");
    check_format("scale=2,round=unnecessary", "1.2", "1.20");
    check_process_failed("set('', /0 format 'scale=1,round=unnecessary')", "[1.25]", "expected at most 1 places");
    check_process_failed("set('', /0 format 'scale=1')", "[\"1.25\"]", "found a string at \"/0\", expected a number");
    check_process("set(/1, calc '/0 / 3' format 'scale=2')", "[2]", "[2,0.67]");
}

#[test]
fn patches_apply_whole_or_make_no_reference() {
    let text = r#"map a to b patch '[{"op":"test","path":"/x","value":1},{"op":"move","from":"/x","path":"/y"}]'"#;
    check(text, "a", r#"{"x":1.0}"#, &[r#"b={"y":1.0}"#]);
    check_failed(text, "a", r#"{"x":2}"#, "transformation 1: operation 0: found another value");
    check_failed(text, "a", "{}", "operation 0");
    let then = format!("{text} process {{ set(/z, /y) }} patch '[{{\"op\":\"remove\",\"path\":\"/y\"}}]'");
    check(&then, "a", r#"{"x":1}"#, &[r#"b={"z":1}"#]);
}

fn check_type((kind, json): (ValueType, &str), to: &str, expected: Result<&str, &str>) {
    let text = format!("map a to b type {to}");
    match expected {
        Ok(value) => check_among(&text, "a", (kind, json), &mut Others::default(), &[&format!("b={value}")], &[]),
        Err(words) => check_among(&text, "a", (kind, json), &mut Others::default(), &[], &[words]),
    }
}

#[test]
fn values_become_values_of_another_type() {
    use ValueType::{Binary, Double, Int64, Json, String};
    check_type((String, "\"a\\\"\""), "JSON", Ok("\"a\\\"\""));
    check_type((String, "\"12\""), "INT64", Ok("12"));
    check_type((String, "\"12.0\""), "INT64", Ok("12"));
    check_type((String, "\"-1.5e1\""), "DOUBLE", Ok("-15"));
    check_type((String, "\"NaN\""), "DOUBLE", Ok("\"NaN\""));
    check_type((Int64, "-7"), "STRING", Ok("\"-7\""));
    check_type((Int64, "-7"), "JSON", Ok("-7"));
    check_type((Int64, "9007199254740993"), "DOUBLE", Ok("9007199254740992"));
    check_type((Double, "2.5"), "STRING", Ok("\"2.5\""));
    check_type((Double, "\"Infinity\""), "STRING", Ok("\"Infinity\""));
    check_type((Double, "\"Infinity\""), "JSON", Ok("\"Infinity\""));
    check_type((Double, "2"), "INT64", Ok("2"));
    check_type((Json, "\"\\u0061\""), "STRING", Ok("\"a\""));
    check_type((Json, "1.50"), "STRING", Ok("\"1.50\""));
    check_type((Json, "true"), "STRING", Ok("\"true\""));
    check_type((Json, "1e3"), "INT64", Ok("1000"));
    check_type((Json, "\"9223372036854775807\""), "INT64", Ok("9223372036854775807"));
    check_type((Json, "-9223372036854775808"), "INT64", Ok("-9223372036854775808"));
    check_type((Json, "0.1"), "DOUBLE", Ok("0.1"));
    check_type((Json, "\"-Infinity\""), "DOUBLE", Ok("\"-Infinity\""));
    check_type((Binary, "\"AA==\""), "BINARY", Ok("\"AA==\""));
    for to in ["STRING", "INT64", "DOUBLE"] {
        check_type((Json, "null"), to, Ok("no value"));
        check_type((Json, "[]"), to, Err("found an array, expected"));
        check_type((Json, "{}"), to, Err("found an object, expected"));
        check_type((Binary, "\"AA==\""), to, Err("found a value of type binary"));
    }
    for (from, to, words) in [
        ((Json, "true"), "INT64", "found a boolean"),
        ((Json, "1.5"), "INT64", "found `1.5`, expected a whole number"),
        ((Json, "9223372036854775808"), "INT64", "found `9223372036854775808`"),
        ((Json, "\"\""), "DOUBLE", "found ``, expected a number"),
        ((Json, "\"a\\\"\""), "DOUBLE", "found `a\"`"),
        ((String, "\" 1\""), "INT64", "found ` 1`"),
        ((String, "\"inf\""), "DOUBLE", "found `inf`"),
        ((String, "\"1e999\""), "DOUBLE", "found `1e999`"),
        ((Double, "2.5"), "INT64", "found `2.5`"),
        ((Double, "\"NaN\""), "INT64", "found `NaN`"),
        ((Json, "1"), "BINARY", "expected a binary value"),
        ((Binary, "\"AA==\""), "JSON", "found a value of type binary"),
    ] {
        check_type(from, to, Err(words));
    }
    let text = "map a to v/<expand()> as <value(/p)> type DOUBLE";
    check(text, "a", r#"[{"p":1.5},{"p":"2"},{"p":null}]"#, &["v/0=1.5", "v/1=2", "v/2=no value"]);
}

#[test]
fn events_are_of_the_type_that_the_series_asks_for() {
    check("map a to b type TIME_SERIES", "a", "{}", &["b={}"]);
    check_among(
        "map a to b type TIME_SERIES with properties 'TIME_SERIES_EVENT_VALUE_TYPE':'string'",
        "a",
        (ValueType::Int64, "5"),
        &mut Others::default(),
        &["b=\"5\""],
        &[],
    );
}
