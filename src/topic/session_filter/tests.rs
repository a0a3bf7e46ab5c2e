//! Session filters: what is read, what is refused and where, and what matches.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::topic::syntax::fuzz::{self, Numbers};

fn limits() -> SessionFilterLimits {
    SessionFilterLimits::default()
}

fn parse(text: &str) -> SessionFilter {
    SessionFilter::parse(text, limits()).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

/// A session of the principal bob, with two roles and two properties of its own.
fn bob(key: &str) -> Option<&'static str> {
    match key {
        "$Principal" => Some("bob"),
        "$Roles" => Some(r#""admin" "client""#),
        "$Country" => Some("DE"),
        "USER_TIER" => Some("1"),
        "Note" => Some(""),
        _ => None,
    }
}

fn check(filter: &str, expected: bool) {
    let parsed = parse(filter);
    assert_eq!(parsed.matches(bob), expected, "{filter:?}");
    assert_eq!(parse(parsed.as_str()).matches(bob), expected, "{parsed}");
}

fn check_canonical(filter: &str, expected: &str) {
    assert_eq!(parse(filter).as_str(), expected, "{filter:?}");
    assert_eq!(parse(expected), parse(filter));
}

fn check_refused(filter: &str, position: usize, words: &str) {
    let error = SessionFilter::parse(filter, limits()).expect_err(filter);
    assert_eq!(error.position, position, "{filter:?}: {error}");
    assert!(error.to_string().contains(words), "{filter:?}: {error}");
}

#[test]
fn a_comparison_is_exact() {
    check(r#"$Principal is "bob""#, true);
    check("$Principal eq 'bob'", true);
    check("$Principal is 'Bob'", false);
    check("$principal is 'bob'", false);
    check("$Principal ne 'bob'", false);
    check("$Principal ne 'alice'", true);
    check("Note is ''", true);
}

#[test]
fn an_absent_property_equals_nothing() {
    check("Absent is ''", false);
    check("Absent ne 'x'", true);
    check("Absent in ['', 'x']", false);
    check("Absent matches '.*'", false);
    check("has Absent", false);
    check("has Note", true);
}

#[test]
fn in_means_one_of_several() {
    check(r#"$Country in ["FR","DE"]"#, true);
    check(r#"$Country in [ 'FR' , 'IT' ]"#, false);
}

#[test]
fn a_regex_matches_the_whole_value() {
    check("$Principal matches 'b.b'", true);
    check("$Principal matches 'bo'", false);
    check("$Principal matches 'b|o|bob'", true);
    check("Note matches '.+'", false);
    check(r"USER_TIER matches '\d'", true);
    check(r"USER_TIER matches '\\d'", true);
    check(r"USER_TIER matches '[\W]'", false);
}

#[test]
fn perl_classes_are_ascii() {
    for (text, value, expected) in [(r"\d", "٣", false), (r"\D", "٣", true), (r"\w", "é", false), (r"[^\s]", "\u{a0}", true)] {
        let filter = parse(&format!("key matches '{text}'"));
        assert_eq!(filter.matches(|_| Some(value)), expected, "{filter}");
    }
}

#[test]
fn all_roles_named_are_needed() {
    check(r#"hasRoles ["admin" "client"]"#, true);
    check(r#"hasRoles ["admin", 'client']"#, true);
    check(r#"hasRoles "client" "admin" and all"#, true);
    check(r#"hasroles 'admin'"#, true);
    check(r#"hasRoles ["admin" "other"]"#, false);
}

#[test]
fn roles_compare_as_a_set() {
    check(r#"$Roles eq '"admin" "client"'"#, true);
    check(r#"$Roles eq '"client", "admin"'"#, true);
    check(r#"$Roles eq '"admin"'"#, false);
    check(r#"$Roles ne '"client" "admin"'"#, false);
    check(r#"$Roles in ['"x"', '"client" "admin"']"#, true);
    check(r#"$Roles is ''"#, false);
    check(r#"$Roles is 'admin'"#, false);
    // Other properties are no sets.
    check(r#"$Principal is '"bob"'"#, false);
}

#[test]
fn roles_are_read_with_what_is_escaped_in_them() {
    let listed: Vec<_> = roles(r#""admin" "a\"b\\" "" "x y""#).collect();
    assert_eq!(listed, ["admin", r#"a"b\"#, "", "x y"]);
    assert_eq!(roles("").count(), 0);
}

#[test]
fn not_binds_tightest_and_or_loosest() {
    check("not all or all", true);
    check("not (all or all)", false);
    check("all or all and not all", true);
    check("(all or all) and not all", false);
    check("NOT not ALL", true);
}

#[test]
fn the_canonical_text_is_one_for_what_is_written_alike() {
    check_canonical("$Principal  EQ 'bob'", r#"$Principal is "bob""#);
    check_canonical("a in ['x']", r#"a is "x""#);
    check_canonical("a in ['x','y']", r#"a in ["x", "y"]"#);
    check_canonical("((a ne 'x')) AND(has b)", r#"a ne "x" and has b"#);
    check_canonical("hasRoles 'x', 'y'", r#"hasRoles ["x" "y"]"#);
    check_canonical("not(all)", "not all");
    check_canonical("not (all or has x)", "not (all or has x)");
    check_canonical(r#"a is 'it\'s "\\"'"#, r#"a is "it's \"\\\"""#);
    check_canonical(r"a matches '\d'", r#"a matches "\\d""#);
    check_canonical("has all or has not", "has all or has not");
}

#[test]
fn errors_say_where_and_what() {
    check_refused("", 0, "found the end of the text at byte 0, expected a clause");
    check_refused("$Principal", 10, "`is`, `eq`");
    check_refused("$Principal like 'x'", 11, "found `like`");
    check_refused("$Principal is bob", 14, "a quoted value");
    check_refused("$Principal is 'bob", 14, "not closed");
    check_refused("all all", 4, "`and`, `or` or the end");
    check_refused("all and", 7, "a clause");
    check_refused("and is 'x'", 0, "a clause");
    check_refused("1a is 'x'", 0, "a clause");
    check_refused("$ is 'x'", 0, "a clause");
    check_refused("has 'x'", 4, "the key of a property");
    check_refused("(all", 4, "')'");
    check_refused("all)", 3, "the end");
    check_refused("a in []", 6, "a quoted value");
    check_refused("a in ['x' 'y']", 10, "',' or ']'");
    check_refused("a in 'x'", 5, "'['");
    check_refused("hasRoles", 8, "a quoted role");
    check_refused("hasRoles ['x',]", 14, "a quoted role");
    check_refused("hasRoles ['x' y]", 14, "']'");
    check_refused(r#"a matches "x\"(""#, 14, "a regex");
    check_refused("a matches '(?=x)'", 11, "look-around");
    check_refused("a matches 'x)(?:y'", 12, "a regex");
    check_refused("a matches '(?x)y#'", 11, "comments end");
    check_refused("a matches '(?i)[a-\u{10ffff}]'", 16, "smaller ranges");
}

#[test]
fn everything_has_a_limit() {
    let tiny = SessionFilterLimits {
        text_bytes_max: 40,
        clauses_max: 2,
        depth_max: 2,
        regexes_max: 1,
        regex_bytes_max: 4096,
        unicode_classes_max: 1,
    };
    let parse = |text: &str| SessionFilter::parse(text, tiny).map(|_| ()).map_err(|error| (error.position, error.expected));
    assert_eq!(parse(&format!("{:40}", "all")), Ok(()));
    assert_eq!(parse(&format!("{:41}", "all")), Err((40, "at most 40".into())));
    assert_eq!(parse("all or all"), Ok(()));
    assert_eq!(parse("all or all or all"), Err((14, "at most 2 clauses".into())));
    assert_eq!(parse("not (all)"), Ok(()));
    assert_eq!(parse("not not (all)").map_err(|(position, _)| position), Err(8));
    assert_eq!(parse("not not not all").map_err(|(position, _)| position), Err(8));
    assert_eq!(parse("a matches 'b' or b matches 'c'").map_err(|(position, _)| position), Err(28));
    assert_eq!(parse(r"a matches '\\p{Nd}\p{Nd}'").map_err(|(position, _)| position), Err(18));
    assert_eq!(parse("a matches '(.{50}){50}'").map_err(|(position, _)| position), Err(11));
}

#[test]
fn a_text_is_refused_whose_canonical_form_is_too_long() {
    // The marks inside are escaped in the canonical form.
    let text = format!("a is '{}'", "\"".repeat(3000));
    check_refused(&text, text.len(), "canonical form");
}

#[test]
fn noise_is_refused_inside_its_text() {
    let texts = [
        r#"$Principal is "bob" and not (has x or USER_TIER in ['1', "2"])"#,
        r#"hasRoles ["admin" 'client'] or $Roles eq '"a" "b"'"#,
        r#"a matches "[a-z]+\\.(x|y)" and all"#,
    ];
    fuzz::check(&texts, |text| {
        let parsed = SessionFilter::parse(text, limits())?;
        assert_eq!(SessionFilter::parse(parsed.as_str(), limits()), Ok(parsed.clone()), "{text:?}");
        parsed.matches(bob);
        Ok(())
    });
}

#[test]
fn a_filter_says_which_values_a_property_must_have() {
    for (filter, values) in [
        ("$SessionId is 'x'", Some(&["x"][..])),
        ("has a and ($SessionId in ['x', 'y'] and b is '1')", Some(&["x", "y"])),
        ("$SessionId is 'x' or a is '1'", None),
        ("not $SessionId is 'x'", None),
        ("$SessionId ne 'x'", None),
        ("all", None),
    ] {
        let parsed = parse(filter);
        let found: Option<Vec<&str>> = parsed.values_of("$SessionId").map(|values| values.iter().map(|value| &**value).collect());
        assert_eq!(found.as_deref(), values, "{filter}");
    }
}

/// A filter built by hand, the way a person would judge it.
#[derive(Clone, Debug)]
enum Model {
    Is(&'static str, &'static str),
    Ne(&'static str, &'static str),
    Has(&'static str),
    Not(Box<Model>),
    And(Vec<Model>),
    Or(Vec<Model>),
}

impl Model {
    fn any(numbers: &mut Numbers, depth: usize) -> Self {
        let key = numbers.pick(&["a", "b", "$c"]);
        let value = numbers.pick(&["x", "y'", r#"\""#]);
        let several = |numbers: &mut Numbers| (0..2 + numbers.next(2)).map(|_| Self::any(numbers, depth - 1)).collect();
        match numbers.next(if depth == 0 { 3 } else { 6 }) {
            0 => Self::Is(key, value),
            1 => Self::Ne(key, value),
            2 => Self::Has(key),
            3 => Self::Not(Box::new(Self::any(numbers, depth - 1))),
            4 => Self::And(several(numbers)),
            _ => Self::Or(several(numbers)),
        }
    }

    fn holds(&self, session: &BTreeMap<&str, &str>) -> bool {
        match self {
            Self::Is(key, value) => session.get(key) == Some(value),
            Self::Ne(key, value) => session.get(key) != Some(value),
            Self::Has(key) => session.contains_key(key),
            Self::Not(inner) => !inner.holds(session),
            Self::And(members) => members.iter().all(|member| member.holds(session)),
            Self::Or(members) => members.iter().any(|member| member.holds(session)),
        }
    }

    fn print(&self) -> String {
        let quoted = |value: &str| format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"));
        let joined = |members: &[Self], word: &str| format!("({})", members.iter().map(Self::print).collect::<Vec<_>>().join(word));
        match self {
            Self::Is(key, value) => format!("{key} is {}", quoted(value)),
            Self::Ne(key, value) => format!("{key} NE {}", quoted(value)),
            Self::Has(key) => format!("has {key}"),
            Self::Not(inner) => format!("not {}", inner.print()),
            Self::And(members) => joined(members, " and "),
            Self::Or(members) => joined(members, " Or "),
        }
    }
}

proptest! {
    #[test]
    fn a_filter_means_what_a_person_reads(seed in any::<u64>()) {
        let mut numbers = Numbers(seed);
        let model = Model::any(&mut numbers, 3);
        let filter = parse(&model.print());
        let again = parse(filter.as_str());
        prop_assert_eq!(&again, &filter);
        for _ in 0..8 {
            let mut session = BTreeMap::new();
            for key in ["a", "b", "$c"] {
                if let Some(value) = numbers.pick(&[None, Some("x"), Some("y'"), Some(r#"\""#)]) {
                    session.insert(key, value);
                }
            }
            let expected = model.holds(&session);
            prop_assert_eq!(filter.matches(|key| session.get(key).copied()), expected, "{}", filter);
            prop_assert_eq!(again.matches(|key| session.get(key).copied()), expected, "{}", again);
            for key in ["a", "b", "$c"].into_iter().filter(|_| expected) {
                let values = filter.values_of(key);
                prop_assert!(values.is_none_or(|values| values.iter().any(|value| session.get(key) == Some(&&**value))), "{} {}", filter, key);
            }
        }
    }
}
