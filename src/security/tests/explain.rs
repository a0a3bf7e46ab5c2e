//! Which lines are named as those that decide.

use super::{NO_ROLES, store};
use crate::security::SessionKind;
use crate::security::explain::{Asked, AskedError, Explanation};
use crate::security::permission::{GlobalPermission, PathPermission};
use crate::topic::path::{PathError, PathErrorKind};

const TEXT: &str = "set 'R' permissions [VIEW_SERVER, VIEW_SESSION]
    set 'R' default path permissions [READ_TOPIC, SELECT_TOPIC]
    set 'R' path 'a/b' permissions [SELECT_TOPIC]
    set 'S' path 'a/b' permissions [UPDATE_TOPIC, READ_TOPIC]
    set 'R' path 'a/b/c' permissions []
    isolate path 'x'
    isolate path 'y'
    set 'R' path 'y' permissions [READ_TOPIC]
    set 'T' includes ['S', 'U']
    set 'U' includes ['R']
    set roles for anonymous sessions ['T']";

fn check(roles: &[&str], kind: SessionKind, permission: &str, path: Option<&str>, expected: &str) {
    let asked = Asked::parse(permission, path).unwrap_or_else(|error| panic!("{permission}: {error}"));
    let explanation = store(TEXT).explain(roles, kind, asked);
    assert_eq!(explanation.to_string(), expected, "{roles:?} {permission} {path:?}");
    assert_eq!(explanation.is_allowed, expected.starts_with("allowed"));
}

#[test]
fn the_line_that_allows_is_named() {
    let named = |roles: &[&str], permission, path, expected| check(roles, SessionKind::Named, permission, path, expected);
    named(&["R"], "view_server", None, r#"allowed: set "R" permissions [VIEW_SESSION, VIEW_SERVER]"#);
    named(&["R"], "READ_TOPIC", Some("q/r"), r#"allowed: set "R" default path permissions [SELECT_TOPIC, READ_TOPIC]"#);
    named(&["R", "S"], "READ_TOPIC", Some("a/b/d"), r#"allowed: set "S" path "a/b" permissions [READ_TOPIC, UPDATE_TOPIC]"#);
    named(&["R"], "READ_TOPIC", Some("y/z"), r#"allowed: set "R" path "y" permissions [READ_TOPIC]"#);
}

#[test]
fn what_is_said_where_it_is_decided_is_named_if_none_allows() {
    let named = |roles: &[&str], permission, path, expected| check(roles, SessionKind::Named, permission, path, expected);
    named(&["R"], "READ_TOPIC", Some("a/b"), r#"refused: set "R" path "a/b" permissions [SELECT_TOPIC]"#);
    named(&["R", "S"], "READ_TOPIC", Some("a/b/c/d"), r#"refused: set "R" path "a/b/c" permissions []"#);
    named(&["R"], "READ_TOPIC", Some("x/y"), r#"refused: isolate path "x""#);
    named(&["R"], "VIEW_SECURITY", None, r#"refused: set "R" permissions [VIEW_SESSION, VIEW_SERVER]"#);
    named(&["S", "V"], "READ_TOPIC", Some("q"), r#"refused: nothing is said for ["S"]"#);
    named(&["V"], "VIEW_SERVER", None, "refused: nothing is set for any role of the session");
    let expected = "refused, as none of these has it:\n  set \"R\" path \"a/b\" permissions [SELECT_TOPIC]\n  \
                    set \"S\" path \"a/b\" permissions [READ_TOPIC, UPDATE_TOPIC]";
    named(&["R", "S"], "MODIFY_TOPIC", Some("a/b"), expected);
    let expected = "refused, as none of these has it:\n  set \"R\" path \"y\" permissions [READ_TOPIC]\n  isolate path \"y\"";
    named(&["R"], "SELECT_TOPIC", Some("y"), expected);
}

#[test]
fn the_way_to_a_role_is_named() {
    let includes = "\n  by set \"T\" includes [\"S\", \"U\"]\n  by set \"U\" includes [\"R\"]";
    let line = "allowed: set \"R\" permissions [VIEW_SESSION, VIEW_SERVER]";
    check(&["T"], SessionKind::Named, "VIEW_SERVER", None, &format!("{line}{includes}"));
    let all = "\n  by set roles for anonymous sessions [\"T\"]";
    check(&NO_ROLES, SessionKind::Anonymous, "VIEW_SERVER", None, &format!("{line}{all}{includes}"));
    check(&["R"], SessionKind::Anonymous, "VIEW_SERVER", None, line);
    let given = |roles: &[&str], kind| {
        let explanation = store(TEXT).explain(roles, kind, Asked::Global(GlobalPermission::ViewServer));
        Explanation { given_by: Some("LINE".to_owned()), ..explanation }.to_string()
    };
    assert_eq!(given(&["T"], SessionKind::Named), format!("{line}\n  by LINE{includes}"));
    assert_eq!(given(&NO_ROLES, SessionKind::Anonymous), format!("{line}{all}{includes}"), "it is all anonymous sessions'");
    assert_eq!(given(&["V"], SessionKind::Named), "refused: nothing is set for any role of the session\n  by LINE");
}

#[test]
fn many_lines_are_cut_short() {
    let text: String = (0..12).map(|role| format!("set 'R{role:02}' path 'a' permissions []\n")).collect();
    let roles: Vec<String> = (0..12).map(|role| format!("R{role:02}")).collect();
    let explanation = store(&text).explain(&roles, SessionKind::Named, Asked::Path(PathPermission::ReadTopic, "a"));
    let printed = explanation.to_string();
    assert_eq!((printed.lines().count(), printed.lines().last(), explanation.decisive.len()), (12, Some("  and 2 more"), 12));
}

#[test]
fn a_permission_is_asked_for_with_a_path_or_without() {
    assert_eq!(Asked::parse("read_topic", Some("$SYS/a")), Ok(Asked::Path(PathPermission::ReadTopic, "$SYS/a")));
    assert_eq!(Asked::parse("VIEW_SERVER", None), Ok(Asked::Global(GlobalPermission::ViewServer)));
    for (permission, path, error) in [
        ("READ", Some("a"), AskedError::UnknownPermission),
        ("READ_TOPIC", None, AskedError::PathWanted(PathPermission::ReadTopic)),
        ("VIEW_SERVER", Some("a"), AskedError::NoPathWanted(GlobalPermission::ViewServer)),
        ("READ_TOPIC", Some("a/"), AskedError::Path(PathError { position: 1, kind: PathErrorKind::TrailingSlash })),
    ] {
        assert_eq!(Asked::parse(permission, path), Err(error), "{permission} {path:?}");
        assert!(!error.to_string().is_empty());
    }
}
