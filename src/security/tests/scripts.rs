//! Both scripts: what they read, what they refuse and where, and that what is printed makes the same again.

use proptest::prelude::*;

use crate::security::Author;
use crate::security::permission::{GlobalPermissions, PathPermissions};
use crate::security::script::security::SecurityScript;
use crate::security::store::{SecurityLimits, SecurityStore};
use crate::topic::syntax::fuzz;

fn parse(text: &str) -> Result<SecurityScript, crate::security::script::ScriptError> {
    SecurityScript::parse(text, SecurityLimits::default())
}

/// A statement is read, and printed in its one form.
fn check_printed(text: &str, printed: &str) {
    let script = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(script.to_string(), format!("{printed}\n"), "{text}");
    assert_eq!(parse(printed).unwrap().to_string(), format!("{printed}\n"));
}

#[test]
fn every_statement_is_read_in_any_case_and_spacing() {
    check_printed("SET 'R' Permissions[view_session,VIEW_SESSION]", r#"set "R" permissions [VIEW_SESSION]"#);
    check_printed("set \"R\" permissions []\t# none", r#"set "R" permissions []"#);
    check_printed(
        "set 'R' default path permissions [ read_topic , Select_Topic ]",
        r#"set "R" default path permissions [SELECT_TOPIC, READ_TOPIC]"#,
    );
    check_printed("set 'R' default topic permissions []", r#"set "R" default path permissions []"#);
    check_printed("set 'R' path 'a/b' permissions [ACQUIRE_LOCK]\r", r#"set "R" path "a/b" permissions [ACQUIRE_LOCK]"#);
    check_printed("set 'R' topic '$SYS' permissions []", r#"set "R" path "$SYS" permissions []"#);
    check_printed("remove 'R' permissions for path 'a#b'", r#"remove "R" permissions for path "a#b""#);
    check_printed("remove 'R' permissions for topic 'a'", r#"remove "R" permissions for path "a""#);
    check_printed("set 'R' includes ['B', 'A', 'B']", r#"set "R" includes ["A", "B"]"#);
    check_printed("set roles for anonymous sessions ['CLIENT']", r#"set roles for anonymous sessions ["CLIENT"]"#);
    check_printed("set roles for named sessions []", "set roles for named sessions []");
    check_printed("  isolate path 'a'", r#"isolate path "a""#);
    check_printed("deisolate topic 'a'", r#"deisolate path "a""#);
    check_printed("lock role 'R' to principal 'p'", r#"lock role "R" to principal "p""#);
    check_printed("unlock role 'R'", r#"unlock role "R""#);
    check_printed(r#"set 'a "b" \\' includes []"#, r#"set "a \"b\" \\" includes []"#);
}

#[test]
fn comments_and_blank_lines_count_as_lines() {
    let script = parse("# a\n\n  \t# b\nset 'R' includes []\n#\r\nisolate path 'a' # c").unwrap();
    assert_eq!(script.statements().map(|(line, _)| line).collect::<Vec<_>>(), [4, 6]);
    assert_eq!(parse("").unwrap().statements().count(), 0);
}

#[test]
fn a_malformed_line_is_named_with_its_column() {
    for (text, error) in [
        ("set R permissions []", "line 1, column 5: found `R`, expected a role in quotation marks or `roles`"),
        ("\nset 'R' permission []", "line 2, column 9: found `permission`, expected `permissions`, `default`, `path` or `includes`"),
        ("set 'R' permissions [READ_TOPIC]", "line 1, column 22: found `READ_TOPIC`, expected a global permission, such as `VIEW_SESSION`"),
        (
            "set 'R' path 'a' permissions [VIEW_SESSION]",
            "line 1, column 31: found `VIEW_SESSION`, expected a permission for paths, such as `READ_TOPIC`",
        ),
        ("set 'R' default permissions []", "line 1, column 17: found `permissions`, expected `path`"),
        ("set 'R' permissions [VIEW_SESSION", "line 1, column 34: found the end of the line, expected `,` or `]`"),
        ("set 'R' permissions [VIEW_SESSION,]", "line 1, column 35: found ']', expected a global permission, such as `VIEW_SESSION`"),
        ("set 'R' permissions", "line 1, column 20: found the end of the line, expected `[`"),
        ("set 'R' includes [] x", "line 1, column 21: found `x`, expected the end of the line"),
        ("set 'R' includes [R]", "line 1, column 19: found `R`, expected a role in quotation marks"),
        ("set '' includes []", "line 1, column 5: found an empty text, expected a role in quotation marks"),
        ("set 'é\" path", "line 1, column 5: found 'é\" path, which is not closed, expected a closing '"),
        (
            "set 'é' path 'é//a' permissions []",
            "line 1, column 17: found a path that is none (found an empty segment at byte 3, expected a character other than '/'), expected segments joined by `/`",
        ),
        ("set roles for all sessions []", "line 1, column 15: found `all`, expected `anonymous` or `named`"),
        ("isolate 'a'", "line 1, column 9: found '\\'', expected `path`"),
        (
            "isolate path '/a'",
            "line 1, column 15: found a path that is none (found '/' at the start of the path, expected a segment), expected segments joined by `/`",
        ),
        ("remove 'R' path 'a'", "line 1, column 12: found `path`, expected `permissions`"),
        ("lock role 'R' to 'p'", "line 1, column 18: found '\\'', expected `principal`"),
        ("lock role 'R' to principal ''", "line 1, column 28: found an empty text, expected a principal in quotation marks"),
        (
            "set 'R' permissions []\n\n\tgrant",
            "line 3, column 2: found `grant`, expected `set`, `remove`, `isolate`, `deisolate`, `lock` or `unlock`",
        ),
    ] {
        assert_eq!(parse(text).expect_err(text).to_string(), error, "{text}");
    }
}

#[test]
fn whatever_is_written_is_read_or_refused_inside_of_it() {
    let texts = [
        crate::security::predefined::SCRIPT,
        "set roles for named sessions ['A', \"b\\\"\"] # c\nlock role 'R' to principal 'p'\nunlock role 'R'",
    ];
    fuzz::check(&texts, |text| {
        let Err(error) = parse(text) else { return Ok(()) };
        let line = text.split('\n').nth(error.line - 1).expect("the line is there");
        assert!((1..=line.chars().count() + 1).contains(&error.column), "{text:?}: {error}");
        assert!(!error.found.is_empty() && !error.expected.is_empty(), "{text:?}: {error}");
        Ok(())
    });
}

fn statements() -> impl Strategy<Value = String> {
    let name = || proptest::sample::select(&["A", "B", "C", "a \\\"q\\\" #", "é\\\\"][..]).prop_map(|name| format!("\"{name}\""));
    let names = move || proptest::collection::vec(name(), 0..3).prop_map(|names| format!("[{}]", names.join(", ")));
    let path = || proptest::sample::select(&["a", "a/b", "$SYS/x", "é/#", "a b/\\\\d"][..]).prop_map(|path| format!("\"{path}\""));
    let global = (0..1_u16 << 10).prop_map(|bits| GlobalPermissions::of_number(bits).unwrap());
    let set = || (0..1_u16 << 11).prop_map(|bits| PathPermissions::of_number(bits).unwrap());
    prop_oneof![
        (name(), global).prop_map(|(role, set)| format!("set {role} permissions {set}")),
        (name(), set()).prop_map(|(role, set)| format!("set {role} default path permissions {set}")),
        (name(), path(), set()).prop_map(|(role, path, set)| format!("set {role} path {path} permissions {set}")),
        (name(), path()).prop_map(|(role, path)| format!("remove {role} permissions for path {path}")),
        (name(), names()).prop_map(|(role, names)| format!("set {role} includes {names}")),
        names().prop_map(|names| format!("set roles for anonymous sessions {names}")),
        names().prop_map(|names| format!("set roles for named sessions {names}")),
        path().prop_map(|path| format!("isolate path {path}")),
        path().prop_map(|path| format!("deisolate path {path}")),
        (name(), name()).prop_map(|(role, principal)| format!("lock role {role} to principal {principal}")),
        name().prop_map(|role| format!("unlock role {role}")),
    ]
}

proptest! {
    #[test]
    fn a_printed_store_makes_the_same_store(statements in proptest::collection::vec(statements(), 0..40)) {
        let mut store = SecurityStore::empty(SecurityLimits::default());
        for statement in &statements {
            // A circle is refused; the rest goes on without it.
            let _ = store.apply(&parse(statement).unwrap(), Author::Operator);
        }
        let mut again = SecurityStore::empty(SecurityLimits::default());
        again.apply(&parse(&store.to_script()).unwrap(), Author::Principal("anybody")).unwrap();
        prop_assert_eq!(&again, &store);
        prop_assert_eq!(again.to_script(), store.to_script());
    }

    #[test]
    fn a_script_is_printed_as_one_that_reads_the_same(statements in proptest::collection::vec(statements(), 0..20)) {
        let script = parse(&statements.join("\n")).unwrap();
        let again = parse(&script.to_string()).unwrap();
        prop_assert!(script.statements().map(|(_, statement)| statement).eq(again.statements().map(|(_, statement)| statement)));
    }
}
