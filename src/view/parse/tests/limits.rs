//! Every bound at its edge, texts that try to be costly, and noise.

use proptest::prelude::*;

use super::*;
use crate::topic::syntax::fuzz;
use crate::view::parse::tests::grammar::{rules, sentence};

/// Whether the view that `make` makes of a number is accepted with `max` and refused with one more.
fn check_edge(limits: &ViewLimits, max: usize, make: impl Fn(usize) -> String, expected: &str) {
    let text = make(max);
    Definition::parse(&text, limits).unwrap_or_else(|error| panic!("{text}: {error}"));
    let text = make(max + 1);
    let error = Definition::parse(&text, limits).expect_err(&text);
    assert_eq!(error.expected, expected, "{text}: {error}");
}

fn tiny() -> ViewLimits {
    ViewLimits {
        text_bytes_max: 200,
        transformations_max: 2,
        statements_max: 6,
        depth_max: 3,
        operations_max: 4,
        regexes_max: 2,
        regex_text_bytes_max: 20,
        regex_bytes_max: 4096,
        unicode_classes_max: 1,
        path_parts_max: 3,
        period_days_max: 2,
        json: JsonLimits { depth_max: 2 },
        selector: SelectorLimits { text_bytes_max: 10, ..SelectorLimits::default() },
        patch: PatchLimits { operations_max: 1, ..PatchLimits::default() },
        properties: SpecificationLimits { value_bytes_max: 7, ..SpecificationLimits::default() },
    }
}

/// `piece` so often.
fn times(piece: &str, count: usize) -> String {
    piece.repeat(count)
}

#[test]
fn the_size_of_a_view_is_limited() {
    let check = |max, make: &dyn Fn(usize) -> String, expected| check_edge(&tiny(), max, make, expected);
    check(200, &|bytes| format!("{:bytes$}", "map a to b"), "at most 200");
    check(2, &|count| format!("map a to b {}", times("patch [] ", count)), "at most 2 transformations");
    check(6, &|count| format!("map a to b process {{ {} }}", times("continue;", count)), "at most 6 statements");
    check(
        3,
        &|count| format!("map a to b{} process {{ if '/a=1' {} }}", times(" process {continue}", 1), times("continue;", count + 1)),
        "at most 6 statements",
    );
    check(3, &|count| format!("map a to {}", times("<path(0)>", count)), "a path of at most 3 parts");
    check(3, &|count| format!("map a to {}", ["x", "<path(0)>", "y", "<path(0)>"][..count].concat()), "a path of at most 3 parts");
    check(10, &|bytes| format!("map {} to b", times("a", bytes)), "at most 10");
    check(1, &|count| format!("map a to b patch [{}]", &times(r#"{"op":"remove","path":"/a"},"#, count)[..count * 28 - 1]), "at most 1");
    check(7, &|bytes| format!("map a to b with properties PRIORITY:'{:bytes$}'", "default"), "at most 7");
    check(48, &|hours| format!("map a to b delay by {hours} hours"), "a period of at most 2 days");
    check(48, &|hours| format!("map a to b throttle to 1 update every {hours} hours"), "a period of at most 2 days");
    check(2, &|depth| format!("map a to b process {{ set(/a, {}{}) }}", times("[", depth), times("]", depth)), "at most 2");
}

#[test]
fn what_nests_is_limited() {
    let check = |max, make: &dyn Fn(usize) -> String, expected| check_edge(&tiny(), max, make, expected);
    let condition = |condition: String| format!("map a to b process {{ if '{condition}' continue }}");
    let calculation = |calculation: String| format!("map a to b process {{ set(/a, calc '{calculation}') }}");
    let too_deep = "a condition that is not nested so deep";
    check(3, &|depth| condition(format!("{}/a=1{}", times("(", depth), times(")", depth))), too_deep);
    check(3, &|depth| condition(format!("{}/a=1", times("not ", depth))), too_deep);
    check(2, &|depth| condition(format!("not {}/a=1{}", times("(", depth), times(")", depth))), too_deep);
    check(3, &|depth| calculation(format!("{}1{}", times("(", depth), times(")", depth))), "a calculation that is not nested so deep");
    check(3, &|depth| calculation(format!("{}1", times("-", depth))), "a calculation that is not nested so deep");
    let blocks = |depth| format!("map a to b process {}{}", times("{ if '/a=1' ", depth - 1) + "{}", times("}", depth - 1));
    check(3, &blocks, "a block that is not nested so deep");
}

#[test]
fn what_repeats_in_a_condition_or_calculation_is_limited() {
    let check = |max, make: &dyn Fn(usize) -> String, expected| check_edge(&tiny(), max, make, expected);
    let condition = |condition: String| format!("map a to b process {{ if '{condition}' continue }}");
    let calculation = |calculation: String| format!("map a to b process {{ set(/a, calc '{calculation}') }}");
    check(3, &|count| condition(format!("{}/a=1", times("/a=1 or ", count))), "at most 4 comparisons in a condition");
    check(1, &|count| condition(format!("{}/a=1", times("(/a=1 and /b=1) and ", count))), "at most 4 comparisons in a condition");
    check(4, &|count| calculation(format!("1{}", times(" + 1", count))), "at most 4 operators in a calculation");
    check(2, &|count| calculation(format!("1{}", times(" * -1", count))), "at most 4 operators in a calculation");
    check(2, &|count| condition(format!("/z=1{}", times(" or /a=~x", count))), "at most that many in a text");
    check(1, &|count| condition(format!("/a =~ {}", times(r"\\p{Cc}", count))), "at most that many in a text");
    check(20, &|bytes| condition(format!("/a =~ {}", times("a", bytes))), "at most 20");
    // Where the edge is, the regex crate decides.
    check(1, &|count| condition(format!("/a =~ .{{{}}}", count * count * 100 - 99)), "one of at most 4096 bytes");
}

#[test]
fn the_regexes_of_a_view_count_together() {
    let view = |branches: usize| format!("map a to b {}", times("process { if '/a =~ x' continue }", branches));
    check_edge(&ViewLimits { regexes_max: 2, ..ViewLimits::default() }, 2, view, "at most that many in a text");
}

/// Each is over in some milliseconds, limits on counts or not.
#[test]
fn texts_that_repeat_are_read_or_refused() {
    let wide = ViewLimits { statements_max: usize::MAX, path_parts_max: usize::MAX, operations_max: 300, ..ViewLimits::default() };
    for (start, piece, end) in COSTLY {
        let text = format!("{start}{}{end}", piece.repeat((64 * 1024 - start.len() - end.len()) / piece.len()));
        for limits in [ViewLimits::default(), wide] {
            if let Err(error) = Definition::parse(&text, &limits) {
                assert!(error.found.len() < 200 && error.expected.len() < 300, "{error}");
            }
        }
    }
}

/// What stands before, what repeats, and what stands behind.
const COSTLY: [(&str, &str, &str); 38] = [
    ("", "(", ""),
    ("", " ", ""),
    ("map ", "a/", " to b"),
    ("map ", "#", " to b"),
    ("map a from ", "é", " to b"),
    ("map a to ", "<path(0)>", ""),
    ("map a to ", "<scalar(/a/b)>", ""),
    ("map a to ", "<", ""),
    ("map a to ", "x", ""),
    ("map a to b/<scalar('", "\\'", "')>"),
    ("map a to b ", " patch []", ""),
    ("map a to b patch ", "[", ""),
    ("map a to b patch [", r#"{"op":"remove","path":"/a"},"#, r#"{"op":"remove","path":"/a"}]"#),
    ("map a to b patch '[", r#"{"op":"remove","path":"/a"},"#, "{}]'"),
    ("map a to b process {", "set(/a,1);", "}"),
    ("map a to b process {", "set(/a,'", ")}"),
    ("map a to b process {", "{", ""),
    ("map a to b process {", "if '/a=1' {", ""),
    ("map a to b process {", "if '/a=1' {continue} elseif '/a=1' continue else {continue};", "}"),
    ("map a to b process {", "if '/a =~ \"(a|b)*c{1,50}\"' {continue};", "}"),
    ("map a to b process {", r"if '/a =~ \'(\\w\\W){200}\'' {continue};", "}"),
    ("map a to b process {", r"if '/a =~ \\p{L}' {continue};", "}"),
    ("map a to b process {", r"if '/a =~ \'(?i:\\p{Lu}|\\p{Lo}|\\p{Nd}|\\p{No})\'' {continue};", "}"),
    ("map a to b process {", r"if '/a =~ \'(?i:[a-zà-ÿĀ-ſ]{20})\'' {continue};", "}"),
    ("map a to b process {", "if '/a =~ .{300}' {continue};", "}"),
    ("map a to b process { set(/a, ", "[1,", "1)}"),
    ("map a to b process { set(/", "/", ") }"),
    ("map a to b process { if '", "(", "/a=1' continue }"),
    ("map a to b process { if '", "not ", "/a=1' continue }"),
    ("map a to b process { if '", "/a=1 or ", "/a=1' continue }"),
    ("map a to b process { if '/a = ", "\\'", "' continue }"),
    ("map a to b process { if '/a =~ [", "a-c&&", "a]' continue }"),
    ("map a to b process { if '/a =~ ", "a", "' continue }"),
    ("map a to b process { set(/a, calc '", "(", "1') }"),
    ("map a to b process { set(/a, calc '", "1+", "1') }"),
    ("map a to b process { set(/a, calc '", "1", "') }"),
    ("map a to b with properties ", "PRIORITY:'low',", ""),
    ("map a to b type JSON ", "separator '_' ", ""),
];

#[test]
fn noise_is_refused_inside_its_text() {
    let rules = rules();
    let mut used = Default::default();
    let sentences: Vec<_> = (0..40).map(|seed| sentence(&rules, u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15), &mut used)).collect();
    let texts: Vec<&str> = EXAMPLES.into_iter().chain(sentences.iter().map(String::as_str)).collect();
    fuzz::check(&texts, |text| {
        Definition::parse(text, &ViewLimits::default())
            .map(drop)
            .inspect_err(|error| assert!(text.is_char_boundary(error.position) && error.line > 0 && error.column > 0))
            .map_err(|ViewError { position, found, expected, .. }| SyntaxError { position, found, expected })
    });
}

proptest! {
    #[test]
    fn any_text_is_a_view_or_refused_at_a_position_within_it(text in "\\PC*|(map|to|process|patch|insert|if|set|[ a/{}()<>'\"\\\\;,é\n=~1.-]){0,40}") {
        for text in [text.clone(), format!("map a to b {text}"), format!("map a to b process {{ if '{text}"), format!("map a to {text}")] {
            if let Err(error) = Definition::parse(&text, &tiny()) {
                prop_assert!(text.is_char_boundary(error.position), "{:?}: {}", text, error);
                prop_assert_eq!(text[..error.position].matches('\n').count() + 1, error.line);
            }
        }
    }
}
