//! Views as text: what is read, and what is refused and where.

mod grammar;
mod limits;
mod refusals;
mod show;

use show::{show_path, show_transformation};

use super::*;
use crate::topic::specification::{Specification, TopicType};
use crate::view::definition::{PathTemplate, Throttle};

/// The worked examples of the language, as users know them.
const EXAMPLES: [&str; 6] = [
    "map my/topic/path to views/currency<expand(/currencies)>",
    "map my/topic/path to views/<scalar(/account)> as <value(/balance)>",
    "map my/topic/path to views/currency/<scalar(/balance/currency)>/account/<scalar(/account)>",
    "map ?my/topic/path// to views/<scalar(/name)> separator '_'",
    "map ?my/topic/path// to views/<path(3)> process { if '/price_per_share > 20' continue }",
    "map ?my/topic/path// to views/<path(3)> process { set(/total, calc '/quantity * /price_per_share'); \
     remove(/quantity); remove(/price_per_share) }",
];

fn parse(text: &str) -> Definition {
    Definition::parse(text, &ViewLimits::default()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// `options` behind the shortest view.
fn parse_options(options: &str) -> Definition {
    parse(&format!("map a to b {options}"))
}

/// Whether `path` is read as the parts that `expected` shows, without quotation marks and in them.
fn check_path(path: &str, expected: &str) {
    let quoted = format!("'{}'", path.replace('\\', r"\\").replace('\'', r"\'"));
    for path in [path, &quoted] {
        assert_eq!(show_path(&parse(&format!("map a to {path}\n")).path), expected, "{path}");
        assert_eq!(show_path(&parse(&format!("map a to {path} patch []")).path), expected, "{path}");
    }
}

/// Whether `transformations` are read as what `expected` shows.
fn check(transformations: &str, expected: &str) {
    let definition = parse_options(transformations);
    let shown: Vec<_> = definition.transformations.iter().map(show_transformation).collect();
    assert_eq!(shown.join(" "), expected, "{transformations}");
}

fn check_process(statements: &str, expected: &str) {
    check(&format!("process {{ {statements} }}"), &format!("process {{{expected}}}"));
}

fn check_source(source: &str, expected: &str) {
    check_process(&format!("set(/t, {source})"), &format!("set(/t, {expected})"));
}

fn check_condition(condition: &str, expected: &str) {
    let escaped = condition.replace('\\', r"\\").replace('\'', r"\'");
    check_process(&format!("if '{escaped}' continue"), &format!("if {expected} {{continue}}"));
}

fn check_calculation(calculation: &str, expected: &str) {
    check_source(&format!("calc '{calculation}'"), expected);
}

#[test]
fn the_worked_examples_are_views() {
    let shown = EXAMPLES.map(|text| {
        let view = parse(text);
        let transformations: Vec<_> = view.transformations.iter().map(show_transformation).collect();
        let value = view.value.map_or(String::new(), |pointer| format!(" value {pointer}"));
        let separator = view.separator.map_or(String::new(), |separator| format!(" separator {separator}"));
        format!("{} → {}{}{value}{separator}", view.selector, show_path(&view.path), transformations.join(" "))
    });
    assert_eq!(
        shown,
        [
            ">my/topic/path → `views/currency`,expand(/currencies)",
            ">my/topic/path → `views/`,scalar(/account) value /balance",
            ">my/topic/path → `views/currency/`,scalar(/balance/currency),`/account/`,scalar(/account)",
            "?my/topic/path// → `views/`,scalar(/name) separator _",
            "?my/topic/path// → `views/`,path(3)process {if (/price_per_share > 20) {continue}}",
            "?my/topic/path// → `views/`,path(3)process {set(/total, (/quantity * /price_per_share)); \
             remove(/quantity); remove(/price_per_share)}",
        ]
    );
}

#[test]
fn a_selector_ends_at_white_space_or_its_quotation_mark() {
    for (selector, expected) in [
        ("a/b", ">a/b"),
        (">a/b", ">a/b"),
        (r"?a/[^']{1,2}\d(b|c)//", r"?a/[^']{1,2}\d(b|c)//"),
        ("*.*", "*.*"),
        ("#a////?b/", "#>a////?b/"),
        ("'a b/c'", ">a b/c"),
        ("\"a b\"", ">a b"),
        (r"'it\'s'", ">it's"),
        (r"'?a\.b'", r"?a\.b"),
    ] {
        assert_eq!(parse(&format!("map {selector}\nto b")).selector.as_str(), expected);
        assert_eq!(parse(&format!("MAP {selector} From x TO b")).selector.as_str(), expected);
    }
    assert_eq!(parse("map'a b'to'c'").selector.as_str(), ">a b");
}

#[test]
fn a_remote_server_has_a_name() {
    assert_eq!(parse("map a to b").remote, None);
    assert_eq!(parse("map a from to to b").remote.as_deref(), Some("to"));
    assert_eq!(parse("map a from server-1 to b").remote.as_deref(), Some("server-1"));
    assert_eq!(parse("map a from 'server 1'to b").remote.as_deref(), Some("server 1"));
}

#[test]
fn a_path_is_text_and_directives() {
    check_path("b", "`b`");
    check_path("b/c.d/é>{}", "`b/c.d/é>{}`");
    check_path("<path(0)>", "path(0)");
    check_path("<path(1,2)>/x", "path(1,2),`/x`");
    check_path("a/< PATH ( 1\n, 2 ) ><path(0)>", "`a/`,path(1,2),path(0)");
    check_path("<scalar(/a)>", "scalar(/a)");
    check_path("<scalar(/a/b~1c,0)>", "scalar(/a/b~1c,0)");
    check_path("x<scalar( '/a b' , 3 )>y", "`x`,scalar(/a b,3),`y`");
    check_path(r#"<scalar("")>/<scalar("/a),>")>"#, "scalar(),`/`,scalar(/a),>)");
    check_path("<expand()>", "expand()");
    check_path("<expand(/a)>/<expand('')>", "expand(/a),`/`,expand()");
    check_path("a/<expand(/a, /name)>/<expand( \"/b,c\" ,'/d' )>", "`a/`,expand(/a,/name),`/`,expand(/b,c,/d)");
}

#[test]
fn white_space_in_a_path_stands_in_quotation_marks() {
    let PathTemplate { parts } = parse("map a to 'b c/<path(0)> d' as <value(/a)>").path;
    assert_eq!(show_path(&PathTemplate { parts }), "`b c/`,path(0),` d`");
    assert_eq!(show_path(&parse(r#"map a to "it's <scalar('/\"x')>""#).path), "`it's `,scalar(/\"x)");
}

#[test]
fn transformations_keep_their_order() {
    check("", "");
    check(
        "patch '[]' insert x at /y process { continue } PATCH [] Process{}",
        "patch insert `x` at /y process {continue} patch process {}",
    );
}

#[test]
fn a_process_is_a_list_of_statements() {
    check_process("", "");
    check_process("continue", "continue");
    check_process("continue;", "continue");
    check_process("set(/a, 1) ; remove ( /b/c ) ;continue", "set(/a, 1); remove(/b/c); continue");
    check_process("SET('/a b',1);Remove(\"/c)\")", "set(/a b, 1); remove(/c))");
    check_process("set(/a)", "set(/a, /a)");
    check_process("set(/a/-,/b)", "set(/a/-, /b)");
}

#[test]
fn an_argument_that_is_left_out_is_the_whole_value() {
    check_process("set(, empty_object)", "set(, {})");
    check_process("set(,/a)", "set(, /a)");
    check_process("set( , 1)", "set(, 1)");
    check_process("set(/a,)", "set(/a, )");
    check_process("set(/a , )", "set(/a, )");
    check_process("set(,)", "set(, )");
    check_process("set()", "set(, )");
    check_process("remove()", "remove()");
    check_path("<scalar()>", "scalar()");
    check_path("<scalar(,0)>", "scalar(,0)");
    check_path("<expand(,/a)>", "expand(,/a)");
    check_path("<expand(/a, )>", "expand(/a,)");
    assert_eq!(parse_options("as <value( )>").value.map(|pointer| pointer.to_string()).as_deref(), Some(""));
}

#[test]
fn a_source_is_a_pointer_or_a_constant_or_a_calculation() {
    check_source("/a/b", "/a/b");
    check_source("-1.50e3", "-1.50e3");
    check_source("TRUE", "true");
    check_source("false", "false");
    check_source("null", "null");
    check_source("'it\\'s \"x\"'", r#""it's \"x\"""#);
    check_source("\"\"", "\"\"");
    check_source("'/a'", "\"/a\"");
    check_source("empty_object", "{}");
    check_source("Empty_Array", "[]");
    check_source("{ \"a\" : [ 1, \"}\\\"\" ] }", r#"{"a":[1,"}\""]}"#);
    check_source("[]", "[]");
    check_source("calc '1'", "1");
    check_source("calc\"/a\"", "/a");
}

#[test]
fn a_format_has_settings_in_any_order() {
    check_source("/a format 'scale=2'", "/a as Number, 2, HalfUp");
    check_source("/a f'type=string'", "/a as String, any, HalfUp");
    check_source("/a F\"ROUND = Down , type= STRING,scale=0\"", "/a as String, 0, Down");
    check_source("calc '/a' format 'type=number'", "/a as Number, any, HalfUp");
    check_source("calc '/a'f\"scale=28\"", "/a as Number, 28, HalfUp");
    for (word, name) in [
        ("up", "Up"),
        ("down", "Down"),
        ("ceiling", "Ceiling"),
        ("floor", "Floor"),
        ("half_up", "HalfUp"),
        ("half_down", "HalfDown"),
        ("half_even", "HalfEven"),
        ("unnecessary", "Unnecessary"),
    ] {
        check_source(&format!("/a f'round={word}'"), &format!("/a as Number, any, {name}"));
    }
}

#[test]
fn operations_of_a_branch_go_on_up_to_the_next_branch() {
    check_process("if '/a=1' continue", "if (/a = 1) {continue}");
    check_process("if '/a=1' remove(/x); remove(/y)", "if (/a = 1) {remove(/x); remove(/y)}");
    check_process("remove(/x); if '/a=1' remove(/y)", "remove(/x); if (/a = 1) {remove(/y)}");
    check_process(
        "if '/a=1' remove(/x); remove(/y); elseif '/b=2' continue ELSE remove(/z); continue;",
        "if (/a = 1) {remove(/x); remove(/y)} elseif (/b = 2) {continue} else {remove(/z); continue}",
    );
}

#[test]
fn braces_end_a_branch() {
    check_process("if '/a=1' { remove(/x) }; continue", "if (/a = 1) {remove(/x)}; continue");
    check_process("if '/a=1' {} elseif '/b=2' { continue; } else {}", "if (/a = 1) {} elseif (/b = 2) {continue} else {}");
    check_process("if '/a=1' continue else {}; remove(/x)", "if (/a = 1) {continue} else {}; remove(/x)");
    check_process("if '/a=1' { continue } else remove(/x); remove(/y)", "if (/a = 1) {continue} else {remove(/x); remove(/y)}");
    check_process("if '/a=1' { if '/b=2' continue } else continue", "if (/a = 1) {if (/b = 2) {continue}} else {continue}");
    check_process("if '/a=1' {}; if '/b=2' {};", "if (/a = 1) {}; if (/b = 2) {}");
}

#[test]
fn a_condition_compares_with_constants_and_pointers() {
    for (operator, shown) in [("=", "="), ("eq", "="), ("!=", "!="), ("NE", "!=")] {
        check_condition(&format!("/a {operator} 1"), &format!("(/a {shown} 1)"));
        check_condition(&format!("/a {operator} null"), &format!("(/a {shown} null)"));
        check_condition(&format!("/a {operator} \"x y\""), &format!("(/a {shown} \"x y\")"));
        check_condition(&format!("/a {operator} 'x'"), &format!("(/a {shown} \"x\")"));
        check_condition(&format!("/a {operator} /b"), &format!("(/a {shown} /b)"));
    }
    let orders = [(">", ">"), ("gt", ">"), ("<", "<"), ("lt", "<"), (">=", ">="), ("Ge", ">="), ("<=", "<="), ("le", "<=")];
    for (operator, shown) in orders {
        check_condition(&format!("/a {operator} -1e2"), &format!("(/a {shown} -1e2)"));
        check_condition(&format!("/a {operator} /b"), &format!("(/a {shown} /b)"));
    }
}

#[test]
fn a_pointer_of_a_condition_ends_where_the_operator_starts() {
    check_condition("/a/b-c=1", "(/a/b-c = 1)");
    check_condition("/a.b_c>=/d~1e", "(/a.b_c >= /d~1e)");
    check_condition("/a<1&/b!=2|/c>3", "(((/a < 1) and (/b != 2)) or (/c > 3))");

    check_condition("(/a=/b)", "(/a = /b)");
    check_condition("\"/a =b\" = 1", "(/a =b = 1)");
    check_condition("'' = 1", "( = 1)");
}

#[test]
fn a_regex_matches_whole_values() {
    check_condition("/a =~ \"x.*\"", r"(/a =~ \A(?:x.*)\z)");
    check_condition(r"/a matches '\d'", r"(/a =~ \A(?:[0-9])\z)");
    check_condition(r"/a =~ \d+", r"(/a =~ \A(?:[0-9]+)\z)");
    check_condition("not(/a =~ x|y)", r"not (/a =~ \A(?:x|y)\z)");
    check_condition("/a=~'(a b)'", r"(/a =~ \A(?:(a b))\z)");
    check_condition("/a =~ ''", r"(/a =~ \A(?:)\z)");
}

#[test]
fn and_binds_tighter_than_or_and_not_tightest() {
    check_condition("/a=1 or /b=1 and /c=1", "((/a = 1) or ((/b = 1) and (/c = 1)))");
    check_condition("/a=1 AND /b=1 Or /c=1", "(((/a = 1) and (/b = 1)) or (/c = 1))");
    check_condition("(/a=1 | /b=1) & /c=1", "(((/a = 1) or (/b = 1)) and (/c = 1))");
    check_condition("not /a=1 and not not /b=1", "(not (/a = 1) and not not (/b = 1))");
    check_condition("not (/a=1 or /b=1)", "not ((/a = 1) or (/b = 1))");
    check_condition("/a=1 or (/b=1 or /c=1) or ((/d=1))", "((/a = 1) or (/b = 1) or (/c = 1) or (/d = 1))");
}

#[test]
fn a_calculation_has_the_usual_precedence() {
    check_calculation("/a + /b * /c", "(/a + (/b * /c))");
    check_calculation("/a * /b + /c", "((/a * /b) + /c)");
    check_calculation("(/a + /b) * 2", "((/a + /b) * 2)");
    check_calculation("1 - 2 - 3", "((1 - 2) - 3)");
    check_calculation("1 / 2 / 3 * 4", "(((1 / 2) / 3) * 4)");
    check_calculation("1-2", "(1 - 2)");
    check_calculation("-/a * -1 - - 2", "((-/a * -1) - -2)");
    check_calculation("--(1)", "--1");
    check_calculation("2*(3+4)", "(2 * (3 + 4))");
}

#[test]
fn a_slash_divides_where_an_operator_is_due_and_else_starts_a_pointer() {
    check_calculation("/a/b", "/a/b");
    check_calculation("/a / /b", "(/a / /b)");
    check_calculation("/a //b", "(/a / /b)");
    check_calculation("1/2", "(1 / 2)");
    check_calculation("1//a", "(1 / /a)");
    check_calculation("(/a)/2", "(/a / 2)");
    check_calculation("/a-1", "/a-1");
    check_calculation("/a - 1", "(/a - 1)");
    check_calculation("/a+/b*/c", "(/a + (/b * /c))");
    check_calculation("\"/a+b\" + 1", "(/a+b + 1)");
    check_calculation("\"\" + 1", "( + 1)");
}

#[test]
fn a_number_of_a_calculation_is_exact() {
    for (text, value) in [
        ("0", "0"),
        ("0e9999999999", "0"),
        ("1.50", "1.5"),
        ("0.1", "0.1"),
        ("12e3", "12000"),
        ("1.25E+1", "12.5"),
        ("12.5e-3", "0.0125"),
        ("100e-2", "1"),
        ("0.001e3", "1"),
        ("79228162514264337593543950335", "79228162514264337593543950335"),
        ("1e28", "10000000000000000000000000000"),
        ("1e-28", "0.0000000000000000000000000001"),
        ("10000000000000000000000000000000000000000000e-40", "1000"),
        ("0.10000000000000000000000000000000000000000000", "0.1"),
    ] {
        check_calculation(text, value);
    }
}

#[test]
fn a_patch_may_stand_without_quotation_marks() {
    check("patch '[{\"op\":\"remove\",\"path\":\"/a\"}]'", "patch");
    check("patch \"[{\\\"op\\\":\\\"remove\\\",\\\"path\\\":\\\"/a\\\"}]\"", "patch");
    check("patch [{\"op\":\"add\",\"path\":\"/a ]\",\"value\":[\"\\\"]\"]}] process{}", "patch process {}");
}

#[test]
fn an_insert_names_a_topic_and_a_place() {
    check("insert x/y at /a", "insert `x/y` at /a");
    check("insert x/<path(1)>/<scalar(/id)> key /k at /a/-", "insert `x/`,path(1),`/`,scalar(/id) key /k at /a/-");
    check("insert 'x y' KEY '/k 1' AT \"\" DEFAULT 'none'", "insert `x y` key /k 1 at  default \"none\"");
    check("insert x at /a default { \"b\": [1] } patch []", "insert `x` at /a default {\"b\":[1]} patch");
    check("insert x at /a default -1 insert y at /b default null", "insert `x` at /a default -1 insert `y` at /b default null");
    check("insert at at /at", "insert `at` at /at");
    check("insert Diffusion/x at /a", "insert `Diffusion/x` at /a");
}

#[test]
fn options_stand_in_any_order() {
    let all = parse_options(
        "delay by 1 hour type json throttle to 3 updates every 2 minutes separator ' ' \
         with properties 'PRIORITY':'high' preserve topics as <value(/a)>",
    );
    assert_eq!(all.delay_ms, Some(3_600_000));
    assert_eq!(all.topic_type, Some(TopicType::Json));
    assert_eq!(all.throttle, Some(Throttle { updates: 3, period_ms: 120_000 }));
    assert_eq!(all.separator.as_deref(), Some(" "));
    assert_eq!(all.properties[..], [("PRIORITY".into(), "high".into())]);
    assert!(all.preserves_topics);
    assert_eq!(all.value.unwrap().to_string(), "/a");

    let none = parse_options("");
    assert!(none.value.is_none() && none.throttle.is_none() && none.delay_ms.is_none() && none.topic_type.is_none());
    assert!(none.properties.is_empty() && !none.preserves_topics && none.separator.is_none());
}

#[test]
fn a_value_is_named_by_its_pointer() {
    for (option, expected) in [("as <value(/a/b)>", "/a/b"), ("AS<VALUE('/a )')>", "/a )"), ("as < value ( '' ) >", "")] {
        assert_eq!(parse_options(option).value.map(|pointer| pointer.to_string()).as_deref(), Some(expected));
    }
}

#[test]
fn a_throttle_is_a_number_of_updates_in_a_period() {
    for (option, updates, period_ms) in [
        ("throttle to 1 update every second", 1, 1000),
        ("throttle to 2 updates every 1 second", 2, 1000),
        ("THROTTLE TO 1 updates EVERY minute", 1, 60_000),
        ("throttle to 5 updates every 10 minutes", 5, 600_000),
        ("throttle to 4294967295 updates every hours", u32::MAX, 3_600_000),
    ] {
        assert_eq!(parse_options(option).throttle, Some(Throttle { updates, period_ms }), "{option}");
    }
}

#[test]
fn a_delay_is_a_period() {
    for (option, expected) in [("delay by 1 second", 1000), ("Delay By 90 minutes", 5_400_000), ("delay by 8784 hours", 366 * 86_400_000)] {
        assert_eq!(parse_options(option).delay_ms, Some(expected), "{option}");
    }
}

#[test]
fn a_type_is_any_that_topics_have() {
    for topic_type in TopicType::ALL {
        let name = topic_type.name();
        assert_eq!(parse_options(&format!("type {name}")).topic_type, Some(topic_type));
        assert_eq!(parse_options(&format!("TYPE {}", name.to_uppercase())).topic_type, Some(topic_type));
    }
}

#[test]
fn properties_keep_their_order_and_their_keys_are_in_upper_case() {
    let view = parse_options("with properties 'conflation':\"off\" , \"PRIORITY\" : 'low',Compression:'high'");
    let expected = [("CONFLATION", "off"), ("PRIORITY", "low"), ("COMPRESSION", "high")];
    assert_eq!(view.properties[..], expected.map(|(key, value)| (key.into(), value.into())));
}

#[test]
fn every_property_is_one_that_topics_have() {
    let values = [
        ("COMPRESSION", "high"),
        ("CONFLATION", "unsubscribe"),
        ("DONT_RETAIN_VALUE", "true"),
        ("PRIORITY", "high"),
        ("PUBLISH_VALUES_ONLY", "true"),
        ("TIDY_ON_UNSUBSCRIBE", "true"),
        ("TIME_SERIES_EVENT_VALUE_TYPE", "double"),
        ("TIME_SERIES_RETAINED_RANGE", "limit 3"),
        ("TIME_SERIES_SUBSCRIPTION_RANGE", "limit 3"),
    ];
    assert_eq!(values.map(|(key, _)| key), options::PROPERTIES);
    let specification = Specification::parse(TopicType::TimeSeries, values.into_iter(), Default::default()).unwrap();
    assert_eq!(specification.properties().len(), values.len());
    let text: Vec<_> = values.iter().map(|(key, value)| format!("{key}:'{value}'")).collect();
    assert_eq!(parse_options(&format!("with properties {}", text.join(","))).properties.len(), values.len());
}
