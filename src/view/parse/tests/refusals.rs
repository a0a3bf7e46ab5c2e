//! What is refused, at which place, and in which words.

use super::*;

const POINTER: &str = "a JSON pointer, which starts with '/' (in quotation marks, it may also be empty)";
const SEGMENT: &str = "a segment, which is one or more other characters";
const DIRECTIVE: &str = "`path(…)`, `scalar(…)` or `expand(…)` (a path has no other '<')";
const STATEMENT: &str = "`set(…)`, `remove(…)`, `continue` or `if`";
const SOURCE: &str = "a JSON pointer, a constant, `empty_object`, `empty_array` or `calc`";
const COMPARISON: &str = "a JSON pointer, which starts with '/', `not` or '('";
const OPERATOR: &str = "one of `=`, `!=`, `>`, `<`, `>=`, `<=` or `=~`, or `eq`, `ne`, `gt`, `lt`, `ge`, `le` or `matches`";
const OPERAND: &str = "a JSON pointer, a number, `true`, `false`, `null`, or a text, which stands in quotation marks";
const FACTOR: &str = "a JSON pointer, a number, '-' or '('";
const DECIMAL: &str = "a number of at most 28 digits, and as many behind the point";
const CONSTANT: &str = "a constant: a number, `true`, `false`, `null`, a text in quotation marks, an array or an object";
const OPTION: &str = "`as`, `type`, `with`, `preserve`, `separator`, `throttle`, `delay` or the end of the text";
const PART: &str =
    "`process`, `patch`, `insert`, `as`, `type`, `with`, `preserve`, `separator`, `throttle`, `delay` or the end of the text";
const LEVEL: &str = "a regex (a split-path is split at every '/', also within brackets; '*' takes a regex with '/')";
const ROUNDING: &str = "one of `up`, `down`, `ceiling`, `floor`, `half_up`, `half_down`, `half_even`, `unnecessary`";
const PROPERTY: &str = "one of COMPRESSION, CONFLATION, DONT_RETAIN_VALUE, PRIORITY, PUBLISH_VALUES_ONLY, TIDY_ON_UNSUBSCRIBE, TIME_SERIES_EVENT_VALUE_TYPE, TIME_SERIES_RETAINED_RANGE, TIME_SERIES_SUBSCRIPTION_RANGE";
const TYPE: &str = "one of JSON, STRING, INT64, DOUBLE, BINARY, TIME_SERIES";
const END: &str = "the end of the text";
const CLOSING: &str = "the closing quotation mark";
const BRACES: &str = "`elseif`, or braces around the operations before or behind it";
const NUMBER: &str = "a number, such as `-1.5e3`";
const ORDERED: &str = "a number or a JSON pointer, as only numbers are greater or less";
const ONCE: &str = "each option at most once";

/// Whether each text, put into a view, is refused at this column of the view's last line.
fn check(cases: &[(&str, usize, &str, &str)], view: impl Fn(&str) -> String) {
    for (text, column, found, expected) in cases {
        let view = view(text);
        let error = Definition::parse(&view, &ViewLimits::default()).expect_err(&view);
        let ViewError { position, .. } = error;
        let line = view.lines().count().max(1);
        let line_start = view.rfind('\n').map_or(0, |end| end + 1);
        assert_eq!(view[line_start..position].chars().count() + 1, *column, "{view}: {error}");
        assert_eq!(error, ViewError { position, line, column: *column, found: (*found).into(), expected: (*expected).into() }, "{view}");
    }
}

#[test]
fn a_view_starts_with_map() {
    check(
        &[
            ("", 1, END, "`map`"),
            ("mop a to b", 1, "`mop`", "`map`"),
            ("map", 4, END, "a topic selector"),
            ("map a", 6, END, "`from` or `to`"),
            ("map a too b", 7, "`too`", "`from` or `to`"),
            ("map a from", 11, END, "the name of a remote server"),
            ("map a from '' to b", 12, r"'\''", "the name of a remote server"),
            ("map a from x", 13, END, "`to`"),
            ("map a to", 9, "no path", "text, or directives such as `<path(0)>`"),
            ("map a b to c", 7, "`b`", "`from` or `to`"),
            ("map 'a to b", 5, "'a to b, which is not closed", "a closing '"),
            ("map ?a/( to b", 8, "`(` (unclosed group)", LEVEL),
            ("map '?a b/(' to c", 11, "`(` (unclosed group)", LEVEL),
            ("map a// to b", 7, "'/'", "the end of the path; a branch is selected by `?a//`"),
            ("map $a to b", 5, "'$'", "one of '>', '?', '*' or '#' (the path itself is selected by `>$a`)"),
        ],
        |text| text.into(),
    );
}

#[test]
fn a_path_could_be_that_of_a_topic() {
    check(
        &[
            ("/b", 4, "'/'", SEGMENT),
            ("b/", 6, "the end of the path behind '/'", "one more segment"),
            ("b//c", 6, "'/'", SEGMENT),
            ("b/<path(0)>//c", 16, "'/'", SEGMENT),
            ("<path(0)>/", 14, "the end of the path behind '/'", "one more segment"),
            ("b<c", 6, "`c`", DIRECTIVE),
            ("b/<a href>", 7, "`a`", DIRECTIVE),
            ("b/<", 8, "`patch`", DIRECTIVE),
            ("b/<path", 12, "`patch`", "'('"),
            ("b/<path(0)", 15, "`patch`", "'>'"),
            ("b/<path()>", 12, "')'", "the index of the first segment"),
            ("b/<path(x)>", 12, "`x`", "the index of the first segment"),
            ("b/<path(-1)>", 12, "`-1`", "the index of the first segment"),
            ("b/<path(1,0)>", 14, "`0`", "one segment or more"),
            ("b/<path(1,2,3)>", 15, "','", "')'"),
            ("b/<path(65536)>", 12, "`65536`", "at most 65535"),
            ("b/<path(99999999999999999999)>", 12, "`99999999999999999999`", "at most 18446744073709551615"),
            ("b/<scalar(a)>", 14, "`a`", POINTER),
            ("b/<scalar(/a~2)>", 17, "'2'", "'0' or '1' behind '~'"),
            ("b/<scalar('/a b~x')>", 20, "'x'", "'0' or '1' behind '~'"),
            ("b/<scalar(/a,x)>", 17, "`x`", "the level of an ancestor"),
            ("b/<scalar(/a b)>", 17, "`b`", "',' or ')'"),
            ("b/<scalar('/a)>", 14, "'/a)> patch [], which is not closed", "a closing '"),
            ("b/<expand(/a,b)>", 17, "`b`", POINTER),
            ("b/<expand(/a,/b,/c)>", 19, "','", "')'"),
            ("b/<expand(,/b,)>", 17, "','", "')'"),
            ("Diffusion/x", 4, "`Diffusion`, which is set aside for the server", "another first segment"),
            ("Tidewire", 4, "`Tidewire`, which is set aside for the server", "another first segment"),
            ("'a b//c'", 9, "'/'", SEGMENT),
            ("''", 5, "no path", "text, or directives such as `<path(0)>`"),
            (r"'\'//a'", 8, "'/'", SEGMENT),
        ],
        |path| format!("map a\nto {path} patch []"),
    );
}

#[test]
fn a_process_is_refused_where_it_breaks() {
    check(
        &[
            ("processing {}", 1, "`processing`", PART),
            ("process", 8, END, "'{'"),
            ("process {", 10, END, STATEMENT),
            ("process { set }", 15, "'}'", "'('"),
            ("process { ; }", 11, "';'", STATEMENT),
            ("process { set( }", 16, "'}'", POINTER),
            ("process { set(a, 1) }", 15, "`a`", POINTER),
            ("process { set(/a 1) }", 18, "`1`", "',' or ')'"),
            ("process { set(/a, , 1) }", 19, "','", "')'"),
            ("process { set(/a, format 'type=string') }", 19, "`format`", SOURCE),
            ("process { set(/a, b) }", 19, "`b`", SOURCE),
            ("process { set(/a, 1.) }", 19, "`1.`", NUMBER),
            ("process { set(/a, 01) }", 20, "'1'", "no digit behind a leading zero"),
            ("process { set(/a, -) }", 19, "`-`", NUMBER),
            ("process { set(/a, 1x) }", 19, "`1x`", NUMBER),
            ("process { set(/a, +1) }", 19, "'+'", SOURCE),
            ("process { set(/a, 1e999) }", 19, "a number beyond the range of a double", "one of at most 1.8e308"),
            (r#"process { set(/a, {"a":}) }"#, 24, "'}'", "a JSON value"),
            (r#"process { set(/a, {"a":1) }"#, 25, "')'", "',' or '}'"),
            ("process { set(/a, 'x) }", 19, "'x) }, which is not closed", "a closing '"),
            ("process { set(/a, 1 }", 21, "'}'", "')'"),
            ("process { set(/a, 1) remove(/b) }", 22, "`remove`", "';' or '}'"),
            ("process { remove(/a, 1) }", 20, "','", "')'"),
            ("process { remove(/a~) }", 21, "the end of the level", "'0' or '1' behind '~'"),
            ("process { delete(/a) }", 11, "`delete`", STATEMENT),
            ("process { continue } }", 22, "'}'", PART),
            ("process { if /a=1 continue }", 14, "'/'", "a condition in quotation marks"),
            ("process { if '' continue }", 15, CLOSING, COMPARISON),
            ("process { if '/a=1' }", 21, "'}'", "`set(…)`, `remove(…)`, `continue` or '{'"),
            ("process { if '/a=1' continue; if '/b=1' continue }", 31, "`if`", BRACES),
            ("process { if '/a=1' if '/b=1' continue }", 21, "`if`", BRACES),
            ("process { if '/a=1' continue else if '/b=1' continue }", 35, "`if`", BRACES),
            ("process { else continue }", 11, "`else`", STATEMENT),
            ("process { if '/a=1' {} continue }", 24, "`continue`", "';' or '}'"),
            ("process { if '/a=1' {} else {} elseif '/b=1' {} }", 32, "`elseif`", "';' or '}'"),
        ],
        |process| format!("map a to b\n{process}"),
    );
}

#[test]
fn a_condition_is_refused_where_it_breaks() {
    check(
        &[
            ("/a", 17, CLOSING, OPERATOR),
            ("a = 1", 15, "`a`", COMPARISON),
            ("/a == 1", 19, "'='", OPERAND),
            ("/a is 1", 18, "`is`", OPERATOR),
            ("/a = foo", 20, "`foo`", OPERAND),
            ("/a =", 19, CLOSING, OPERAND),
            ("/a > 'x'", 20, r"'\''", ORDERED),
            ("/a < true", 20, "`true`", ORDERED),
            ("/a > foo", 20, "`foo`", OPERAND),
            ("/a = 1 /b = 2", 22, "'/'", "`and`, `or` or the end of the condition"),
            ("/a = 1 and", 25, CLOSING, COMPARISON),
            ("/a = 1 or or /b = 2", 25, "`or`", COMPARISON),
            ("(/a = 1", 22, CLOSING, "`and`, `or` or ')'"),
            ("/a = 1)", 21, "')'", "`and`, `or` or the end of the condition"),
            ("not", 18, CLOSING, COMPARISON),
            ("()", 16, "')'", COMPARISON),
            ("/a~ = 1", 18, "the end of the level", "'0' or '1' behind '~'"),
            (r#"/a =~ \"x(\""#, 24, "`x(` (unclosed group)", "a regex"),
            ("/a =~ x(", 22, "`x(` (unclosed group)", "a regex (in quotation marks where it has white space or ')')"),
            ("/a =~", 20, CLOSING, "a regex (in quotation marks where it has white space or ')')"),
            ("/a = 1x", 20, "`1x`", NUMBER),
            ("'/a~' = 1", 20, "the end of the level", "'0' or '1' behind '~'"),
            ("/a = 1 && /b = 2", 23, "'&'", COMPARISON),
        ],
        |condition| format!("map a to b\nprocess {{ if '{}' continue }}", condition.replace('\'', r"\'")),
    );
}

#[test]
fn a_calculation_is_refused_where_it_breaks() {
    check(
        &[
            ("/a 1", 28, "`1`", "'+', '-', '*', '/' or the end of the calculation"),
            ("/a +", 29, CLOSING, FACTOR),
            ("a + 1", 25, "`a`", FACTOR),
            ("1 1", 27, "`1`", "'+', '-', '*', '/' or the end of the calculation"),
            ("(1", 27, CLOSING, "'+', '-', '*', '/' or ')'"),
            ("1)", 26, "')'", "'+', '-', '*', '/' or the end of the calculation"),
            ("+1", 25, "'+'", FACTOR),
            ("* 2", 25, "'*'", FACTOR),
            ("'x'", 27, "'x'", "'/', or nothing for the whole value"),
            ("1e", 25, "`1e`", NUMBER),
            ("1.x", 25, "`1.x`", NUMBER),
            ("1e29", 25, "`1e29`", DECIMAL),
            ("79228162514264337593543950336", 25, "`79228162514264337593543950336`", DECIMAL),
            ("1e-29", 25, "`1e-29`", DECIMAL),
            ("0.00000000000000000000000000001", 25, "`0.00000000000000000000000000001`", DECIMAL),
            ("12345678901234567890123456789.1", 25, "`12345678901234567890123456789.1`", DECIMAL),
            ("1e99999999999999999999", 25, "`1e99999999999999999999`", DECIMAL),
            ("1e-9223372036854775808", 25, "`1e-9223372036854775808`", DECIMAL),
            ("99999999999999999999999999999999999999999", 25, "`9999999999999999999999999999999999999999…`", DECIMAL),
            ("/a~2 + 1", 28, "'2'", "'0' or '1' behind '~'"),
        ],
        |calculation| format!("map a to b\nprocess {{ set(/t, calc '{}') }}", calculation.replace('\'', r"\'")),
    );
}

#[test]
fn a_format_is_refused_where_it_breaks() {
    check(
        &[
            ("x=1", 24, "`x`", "`type=…`, `scale=…` or `round=…`"),
            ("type", 28, CLOSING, "'='"),
            ("type=", 29, CLOSING, "one of `number`, `string`"),
            ("type=int", 29, "`int`", "one of `number`, `string`"),
            ("scale=-1", 30, "`-1`", "a number of digits from 0 to 28"),
            ("scale=29", 30, "`29`", "a number of digits from 0 to 28"),
            ("scale=99999999999999999999", 30, "`99999999999999999999`", "at most 18446744073709551615"),
            ("round=nearest", 30, "`nearest`", ROUNDING),
            ("scale=1,scale=2", 32, "`scale` again", "each setting of a format at most once"),
            ("type=number scale=1", 36, "`scale`", "',' or the end of the format"),
            ("type=number,", 36, CLOSING, "`type=…`, `scale=…` or `round=…`"),
        ],
        |format| format!("map a to b\nprocess {{ set(/t, /a f'{format}') }}"),
    );
}

#[test]
fn a_patch_or_insert_is_refused_where_it_breaks() {
    check(
        &[
            ("patch", 6, END, "a JSON patch (RFC 6902), in quotation marks or starting with '['"),
            ("patch '{}'", 8, "an object", "an array of operations"),
            (r#"patch '[{"op":"x"}]'"#, 15, "`x`", "`add`, `remove`, `replace`, `move`, `copy` or `test`"),
            (r#"patch '[{"op":"add","path":"a","value":1}]'"#, 29, "'a' in a JSON pointer", "'/', or nothing for the whole value"),
            (r#"patch [{"op":"add"}]"#, 8, "an operation without `path`", "that member"),
            ("patch [", 7, "`[`, which is not closed", "a closing ']'"),
            (r#"patch "[\"]""#, 12, CLOSING, "the rest of the string and a quotation mark"),
            ("insert", 7, "no path", "text, or directives such as `<path(0)>`"),
            ("insert <expand(/a)> at /b", 9, "`expand`", "`path` or `scalar`, as one topic is inserted"),
            ("insert <value(/a)> at /b", 9, "`value`", "`path(…)` or `scalar(…)` (a path has no other '<')"),
            ("insert x", 9, END, "`key` or `at`"),
            ("insert x key at /a", 14, "`at`", POINTER),
            ("insert x key /a", 16, END, "`at`"),
            ("insert x key /a default 1", 17, "`default`", "`at`"),
            ("insert x at", 12, END, POINTER),
            ("insert x at a", 13, "`a`", POINTER),
            ("insert x at /a default", 23, END, CONSTANT),
            ("insert x at /a default foo", 24, "`foo`", CONSTANT),
            (r#"insert x at /a default {"a"}"#, 28, "'}'", "':'"),
            ("insert x// at /a", 10, "'/'", SEGMENT),
        ],
        |transformation| format!("map a to b\n{transformation}"),
    );
}

#[test]
fn an_option_is_refused_where_it_breaks() {
    check(
        &[
            ("as /a", 4, "'/'", "`<value(…)>`"),
            ("as <path(0)>", 5, "`path`", "`value`"),
            ("as <value>", 10, "'>'", "'('"),
            ("as <value(/a>", 14, END, "')'"),
            ("as <value(/a)", 14, END, "'>'"),
            ("as <value(>", 11, "'>'", POINTER),
            ("preserve", 9, END, "`topics`"),
            ("preserve topic", 10, "`topic`", "`topics`"),
            ("separator", 10, END, "a separator in quotation marks"),
            ("separator _", 11, "`_`", "a separator in quotation marks"),
            ("separator 'a/b'", 13, "'/'", "a separator without it"),
            ("separator '_' type JSON separator '_'", 25, "`separator` again", ONCE),
            ("type", 5, END, TYPE),
            ("type FLOAT", 6, "`FLOAT`", TYPE),
            ("type JSON TYPE JSON", 11, "`type` again", ONCE),
            (
                "type JSON process {}",
                11,
                "`process`",
                "`as`, `type`, `with`, `preserve`, `separator`, `throttle`, `delay` or the end of the text (transformations stand before the options)",
            ),
            ("type JSON foo", 11, "`foo`", OPTION),
            ("'x'", 1, r"'\''", PART),
            ("é", 1, "'é'", PART),
        ],
        |option| format!("map a to b\n{option}"),
    );
}

#[test]
fn a_property_is_one_that_reference_topics_have() {
    check(
        &[
            ("with", 5, END, "`properties`"),
            ("with properties", 16, END, "the key of a property"),
            ("with properties 'X':'y'", 17, "the unknown property `X`", PROPERTY),
            ("with properties X:'y'", 17, "the unknown property `X`", PROPERTY),
            ("with properties 'OWNER':'y'", 17, "`OWNER`, which reference topics never have", PROPERTY),
            ("with properties persistent:'true'", 17, "`PERSISTENT`, which reference topics never have", PROPERTY),
            ("with properties PRIORITY", 25, END, "':'"),
            ("with properties PRIORITY='low'", 25, "'='", "':'"),
            ("with properties PRIORITY:low", 26, "`low`", "the property's value in quotation marks"),
            ("with properties PRIORITY:'lowest'", 27, r#""lowest""#, "one of low, default, high"),
            ("with properties TIME_SERIES_RETAINED_RANGE:'limit x'", 51, "`x`", "a count of 1 or more"),
            ("with properties PRIORITY:'low',", 32, END, "the key of a property"),
            ("with properties PRIORITY:'low' CONFLATION:'off'", 32, "`CONFLATION`", OPTION),
            ("with properties PRIORITY:'low','priority':'low'", 32, "`PRIORITY` again", "each property at most once"),
        ],
        |properties| format!("map a to b\n{properties}"),
    );
}

#[test]
fn a_period_is_refused_where_it_breaks() {
    check(
        &[
            ("throttle", 9, END, "`to`"),
            ("throttle to", 12, END, "a number of updates"),
            ("throttle to 0 updates every second", 13, "`0`", "1 or more"),
            ("throttle to x", 13, "`x`", "a number of updates"),
            ("throttle to 1", 14, END, "`updates`"),
            ("throttle to 4294967296 updates every second", 13, "`4294967296`", "at most 4294967295"),
            ("throttle to 1 updates", 22, END, "`every`"),
            ("throttle to 1 update every", 27, END, "a number, or `seconds`, `minutes` or `hours`"),
            ("throttle to 1 update every 0 seconds", 28, "`0`", "1 or more"),
            ("throttle to 1 update every day", 28, "`day`", "a number, or `seconds`, `minutes` or `hours`"),
            ("throttle to 1 update every 5", 29, END, "`seconds`, `minutes` or `hours`"),
            ("throttle to 1 update every 8785 hours", 28, "`8785`", "a period of at most 366 days"),
            ("throttle to 1 update every second throttle to 1 update every second", 35, "`throttle` again", ONCE),
            ("delay", 6, END, "`by`"),
            ("delay by", 9, END, "a number of seconds, minutes or hours"),
            ("delay by seconds", 10, "`seconds`", "a number of seconds, minutes or hours"),
            ("delay by 0 seconds", 10, "`0`", "1 or more"),
            ("delay by 5", 11, END, "`seconds`, `minutes` or `hours`"),
            ("delay by 5 days", 12, "`days`", "`seconds`, `minutes` or `hours`"),
            ("delay by 18446744073709551615 hours", 10, "`18446744073709551615`", "a period of at most 366 days"),
            ("delay by 18446744073709551616 seconds", 10, "`18446744073709551616`", "at most 18446744073709551615"),
            ("delay by 5 seconds delay by 5 seconds", 20, "`delay` again", ONCE),
        ],
        |option| format!("map a to b\n{option}"),
    );
}

#[test]
fn a_place_is_a_line_and_a_column_of_characters() {
    let place = |text: &str| {
        let error = Definition::parse(text, &ViewLimits::default()).expect_err(text);
        (error.position, error.line, error.column)
    };
    assert_eq!(place("map é/ü\r\n\r\nto 'ä' é"), (21, 3, 8));
    assert_eq!(place("map a\nto b process {\n  if '/é > \"\n\"' continue }"), (33, 3, 12));
    assert_eq!(place("map a to\n"), (9, 2, 1));
    let error = Definition::parse("map a to\nb from", &ViewLimits::default()).unwrap_err();
    assert_eq!(error.to_string(), format!("line 2, column 3: found `from`, expected {PART}"));
}
