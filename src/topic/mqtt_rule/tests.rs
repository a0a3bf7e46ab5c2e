//! Rules for topics that MQTT makes: what is read, and which one counts.

use super::*;
use crate::topic::syntax::fuzz;

fn parsed(texts: &[&str]) -> Result<TopicRules, RuleError> {
    TopicRules::parse(texts.iter().copied())
}

/// Checks what a rule says: its branch, kind, properties and whether it keeps.
fn check(text: &str, branch: &str, kind: RuleKind, properties: &[(&str, &str)], keeps: bool) {
    let rules = parsed(&[text]).unwrap_or_else(|error| panic!("{text}: {error}"));
    let properties = properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    assert_eq!(rules.0, [TopicRule { branch: branch.into(), kind, properties, keeps }], "{text}");
}

fn check_refused(texts: &[&str], message: &str) {
    assert_eq!(parsed(texts).expect_err(message).to_string(), message, "{texts:?}");
}

#[test]
fn a_rule_has_a_branch_a_type_and_options() {
    check("sensors: json", "sensors", RuleKind::Of(ValueType::Json), &[], false);
    check(" a/b : binary ", "a/b", RuleKind::Of(ValueType::Binary), &[], false);
    check(": string", "", RuleKind::Of(ValueType::String), &[], false);
    check("private: refuse", "private", RuleKind::Refuse, &[], false);
    check("raw/cam: binary PERSISTENT=false", "raw/cam", RuleKind::Of(ValueType::Binary), &[("PERSISTENT", "false")], false);
    check("n: int64 keep", "n", RuleKind::Of(ValueType::Int64), &[], true);
    check("n: double keep PRIORITY=low", "n", RuleKind::Of(ValueType::Double), &[("PRIORITY", "low")], true);
}

#[test]
fn a_colon_within_a_path_does_not_end_it() {
    check("urn:x/y: json", "urn:x/y", RuleKind::Of(ValueType::Json), &[], false);
}

#[test]
fn a_quoted_value_may_have_white_space() {
    let removal = "when no updates for 10m";
    check(&format!("a: json REMOVAL='{removal}' keep"), "a", RuleKind::Of(ValueType::Json), &[("REMOVAL", removal)], true);
}

#[test]
fn the_longest_branch_counts() {
    let rules = parsed(&[": binary", "a: json", "a/b: refuse"]).unwrap();
    let kind = |path: &str| rules.find(path).unwrap().kind;
    assert_eq!(kind("x"), RuleKind::Of(ValueType::Binary));
    assert_eq!(kind("ab"), RuleKind::Of(ValueType::Binary));
    assert_eq!(kind("a"), RuleKind::Of(ValueType::Json));
    assert_eq!(kind("a/c"), RuleKind::Of(ValueType::Json));
    assert_eq!(kind("a/b/c"), RuleKind::Refuse);
    assert_eq!(parsed(&["a: json"]).unwrap().find("b"), None);
    assert_eq!(TopicRules::default().find("a"), None);
}

#[test]
fn an_error_says_which_rule_where_and_what_was_expected() {
    check_refused(&["a: json", "b: jsn"], "rule 2: found `jsn` at byte 3, expected json, string, int64, double, binary or refuse");
    check_refused(&["a:"], "rule 1: found the end of the text at byte 2, expected json, string, int64, double, binary or refuse");
    check_refused(&["a:json"], "rule 1: found `a:json` at byte 0, expected `BRANCH: TYPE`, with white space behind the colon");
    check_refused(&[""], "rule 1: found nothing at byte 0, expected `BRANCH: TYPE`, with white space behind the colon");
    check_refused(
        &["a//b: json"],
        "rule 1: found `a//b`, in which a segment is empty at byte 2, expected a path such as `a/b`, or nothing for the whole tree",
    );
    check_refused(&["a: refuse keep"], "rule 1: found `keep` at byte 10, expected the end, as no topic is made");
    check_refused(&["a: json !"], "rule 1: found '!' at byte 8, expected KEY=VALUE, `keep` or the end");
    check_refused(
        &["a: json PERSISTNT=false"],
        "rule 1: found `PERSISTNT` at byte 8, expected KEY=VALUE, `keep` or the end, where the key is a topic property such as PERSISTENT",
    );
    check_refused(&["a: json PERSISTENT"], "rule 1: found the end of the text at byte 18, expected `=` and the property's value");
    check_refused(&["a: json PERSISTENT="], "rule 1: found the end of the text at byte 19, expected the property's value");
    check_refused(&["a: json", " a : binary"], "rule 2: found `a`, as in rule 1 at byte 0, expected each branch once");
}

#[test]
fn a_property_is_checked_where_it_stands() {
    let refused = parsed(&["a: json PRIORITY=low PERSISTENT=perhaps"]).unwrap_err();
    assert_eq!((refused.number, refused.error.position), (1, 32), "{refused}");
    assert!(refused.to_string().contains("PERSISTENT"), "{refused}");
    let refused = parsed(&["a: json REMOVAL='when no cats for 10m'"]).unwrap_err();
    assert_eq!(refused.error.position, "a: json REMOVAL='when no ".len(), "{refused}");
    let refused = parsed(&["a: binary PERSISTENT=true PERSISTENT=true"]).unwrap_err();
    assert_eq!(refused.error.position, "a: binary PERSISTENT=true PERSISTENT=".len(), "{refused}");
}

#[test]
fn there_are_only_so_many_rules() {
    let texts: Vec<String> = (0..=RULES_MAX).map(|number| format!("b{number}: json")).collect();
    assert!(TopicRules::parse(texts[..RULES_MAX].iter().map(String::as_str)).is_ok());
    assert_eq!(TopicRules::parse(texts.iter().map(String::as_str)).unwrap_err().number, RULES_MAX + 1);
}

#[test]
fn every_error_lies_inside_its_text() {
    let texts =
        ["sensors/a: json PERSISTENT=false keep", ": binary", "a: refuse", "é b: binary REMOVAL=\"when time after 'x'\" PRIORITY=low"];
    fuzz::check(&texts, |text| parsed(&[text]).map(drop).map_err(|error| error.error));
}
