//! Cases that the documentation names, and the compiled rights against rules that are plain to read.

mod explain;
mod naive;
mod principals;
mod scripts;

use super::permission::PathPermission::{ReadTopic, SelectTopic, UpdateTopic};
use super::permission::{GlobalPermission, PathPermissions, Permission};
use super::rights::Rights;
use super::script::security::SecurityScript;
use super::store::{SecurityLimits, SecurityStore};
use super::{ApplyError, ApplyErrorKind, Author, SessionKind, predefined};

/// What somebody has who was given nothing.
const NO_ROLES: [&str; 0] = [];

fn parse(text: &str) -> SecurityScript {
    SecurityScript::parse(text, SecurityLimits::default()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn store(text: &str) -> SecurityStore {
    let mut store = SecurityStore::empty(SecurityLimits::default());
    store.apply(&parse(text), Author::Operator).unwrap_or_else(|error| panic!("{text}: {error}"));
    store
}

fn rights(text: &str, roles: &[&str]) -> Rights {
    store(text).rights(roles, SessionKind::Named)
}

/// What named sessions of these roles may do at each path, as a script's list.
fn check(text: &str, roles: &[&str], expected: &[(&str, &str)]) {
    let rights = rights(text, roles);
    for (path, permissions) in expected {
        assert_eq!(rights.at(path).to_string(), *permissions, "{roles:?} at {path:?}\n{text}");
    }
}

fn check_refused(store: &mut SecurityStore, text: &str, by: Author<'_>, line: usize, kind: ApplyErrorKind) {
    let before = store.clone();
    let error = store.apply(&parse(text), by).expect_err(text);
    assert!(error.to_string().starts_with(&format!("line {line}: ")), "{error}");
    assert_eq!(error, ApplyError { line, kind }, "{text}");
    assert_eq!(*store, before, "{text}");
}

#[test]
fn the_nearest_path_decides_alone() {
    let text = "set 'R' default path permissions [SELECT_TOPIC, READ_TOPIC]
                set 'R' path 'a' permissions [UPDATE_TOPIC]
                set 'R' path 'a/b/c' permissions [READ_TOPIC]
                set 'R' path 'a/b/c/d' permissions []";
    let expected = [
        ("a", "[UPDATE_TOPIC]"),
        ("a/b", "[UPDATE_TOPIC]"),
        ("a/b/c", "[READ_TOPIC]"),
        ("a/b/c/e", "[READ_TOPIC]"),
        ("a/b/c/d", "[]"),
        ("a/b/c/d/e", "[]"),
        ("ab", "[SELECT_TOPIC, READ_TOPIC]"),
        ("b/a", "[SELECT_TOPIC, READ_TOPIC]"),
        ("a/b/cd", "[UPDATE_TOPIC]"),
    ];
    check(text, &["R"], &expected);
    check(text, &[], &[("a", "[]"), ("a/b/c", "[]"), ("x", "[]")]);
    check(text, &["UNKNOWN"], &[("a", "[]"), ("x", "[]")]);
}

#[test]
fn roles_add_up_at_the_nearest_path_of_any() {
    let text = "set 'R' default path permissions [READ_TOPIC]
                set 'S' default path permissions [UPDATE_TOPIC]
                set 'R' path 'a' permissions [READ_TOPIC]
                set 'S' path 'a' permissions [SELECT_TOPIC]
                set 'R' path 'a/b' permissions [UPDATE_TOPIC]";
    check(text, &["R", "S"], &[("x", "[READ_TOPIC, UPDATE_TOPIC]"), ("a", "[SELECT_TOPIC, READ_TOPIC]"), ("a/b", "[UPDATE_TOPIC]")]);
    check(text, &["S"], &[("x", "[UPDATE_TOPIC]"), ("a/b", "[SELECT_TOPIC]")]);
    check(text, &["R"], &[("x", "[READ_TOPIC]"), ("a/b", "[UPDATE_TOPIC]")]);
}

#[test]
fn an_isolated_path_stops_the_climb() {
    let text = "set 'R' default path permissions [READ_TOPIC]
                set 'R' path 'a' permissions [READ_TOPIC, SELECT_TOPIC]
                set 'S' path 'a/b' permissions [UPDATE_TOPIC]
                isolate path 'a/b'
                isolate path 'c'
                isolate path 'd'
                deisolate path 'd'";
    check(text, &["R"], &[("a", "[SELECT_TOPIC, READ_TOPIC]"), ("a/b", "[]"), ("a/b/c", "[]"), ("c/x", "[]"), ("d", "[READ_TOPIC]")]);
    check(text, &["R", "S"], &[("a/b/c", "[UPDATE_TOPIC]"), ("c", "[]")]);
}

#[test]
fn a_role_has_what_those_have_that_it_includes() {
    let text = "set 'A' includes ['B', 'UNKNOWN']
                set 'B' includes ['C']
                set 'C' default path permissions [READ_TOPIC]
                set 'C' permissions [VIEW_SERVER]
                set 'B' path 'a' permissions [SELECT_TOPIC]
                set 'C' path 'a' permissions [READ_TOPIC]";
    check(text, &["A"], &[("x", "[READ_TOPIC]"), ("a/b", "[SELECT_TOPIC, READ_TOPIC]")]);
    check(text, &["C"], &[("a/b", "[READ_TOPIC]")]);
    assert!(rights(text, &["A"]).allows(GlobalPermission::ViewServer));
    assert!(!rights(text, &["D"]).allows(GlobalPermission::ViewServer));
}

#[test]
fn sessions_have_the_roles_of_their_kind_too() {
    let text = "set 'N' path 'a' permissions [READ_TOPIC]\nset 'A' default path permissions [SELECT_TOPIC]
                set roles for named sessions ['N']\nset roles for anonymous sessions ['A', 'A']";
    let store = store(text);
    let named = store.rights(&NO_ROLES, SessionKind::Named);
    let anonymous = store.rights(&["N"], SessionKind::Anonymous);
    assert_eq!((named.at("a/b").to_string(), named.at("b").to_string()), ("[READ_TOPIC]".into(), "[]".into()));
    assert_eq!((anonymous.at("a/b").to_string(), anonymous.at("b").to_string()), ("[READ_TOPIC]".into(), "[SELECT_TOPIC]".into()));
    assert_eq!(store.session_roles(SessionKind::Anonymous), ["A".into()]);
}

#[test]
fn roles_that_include_each_other_are_refused() {
    let cycle = |roles: &[&str]| ApplyErrorKind::Cycle(roles.iter().map(|role| (*role).into()).collect());
    let mut store = store("set 'A' includes ['B']\nset 'B' includes ['C']");
    check_refused(&mut store, "\nset 'C' includes ['X', 'A']\nset 'X' includes []", Author::Operator, 2, cycle(&["A", "B", "C", "A"]));
    check_refused(&mut store, "set 'D' includes ['D']", Author::Operator, 1, cycle(&["D", "D"]));
    // What leads into a circle is none of it.
    check_refused(&mut store, "set 'Y' includes ['Z']\nset 'Z' includes ['Y', 'A']", Author::Operator, 2, cycle(&["Y", "Z", "Y"]));
    // Only what there is in the end counts.
    store.apply(&parse("set 'C' includes ['A']\nset 'A' includes []"), Author::Operator).unwrap();
    check_refused(&mut store, "set 'A' includes ['B']", Author::Operator, 1, cycle(&["A", "B", "C", "A"]));
}

#[test]
fn a_locked_role_is_its_principals() {
    let locked = || ApplyErrorKind::LockedRole { role: "R".into(), principal: "p".into() };
    let mut store = store("set 'R' permissions [VIEW_SERVER]\nlock role 'R' to principal 'p'");
    for change in ["set 'R' permissions []", "set 'R' default path permissions []", "set 'R' path 'a' permissions []", "unlock role 'R'"] {
        for by in ["q", ""] {
            check_refused(&mut store, &format!("set 'S' includes []\n{change}"), Author::Principal(by), 2, locked());
        }
    }
    for change in ["remove 'R' permissions for path 'a'", "set 'R' includes []", "lock role 'R' to principal 'q'"] {
        check_refused(&mut store, change, Author::Principal("q"), 1, locked());
    }
    check_refused(&mut store, "unlock role 'R'\n", Author::Principal("q"), 1, locked());
    store.apply(&parse("set 'S' includes ['R']"), Author::Principal("q")).unwrap();
    store.apply(&parse("set 'R' permissions [VIEW_SECURITY]"), Author::Operator).unwrap();
    store.apply(&parse("set 'R' permissions []\nunlock role 'R'"), Author::Principal("p")).unwrap();
    store.apply(&parse("set 'R' permissions [VIEW_SERVER]"), Author::Principal("q")).unwrap();
}

#[test]
fn a_store_holds_as_much_as_it_may_and_no_more() {
    let limits = SecurityLimits { roles_max: 2, paths_max: 2, text_bytes_max: 120 };
    let mut store = SecurityStore::empty(limits);
    let full = |what, count_max| ApplyErrorKind::Full { what, count_max };
    store
        .apply(
            &parse("set 'A' path 'a' permissions []\nset 'B' path 'a' permissions []\nset 'A' path 'a' permissions []"),
            Author::Operator,
        )
        .unwrap();
    check_refused(&mut store, "set 'C' permissions [VIEW_SERVER]", Author::Operator, 1, full("roles", 2));
    check_refused(&mut store, "isolate path 'a'", Author::Operator, 1, full("paths with permissions", 2));
    check_refused(&mut store, "set 'A' path 'a/b' permissions []", Author::Operator, 1, full("paths with permissions", 2));
    let long = format!("\nset roles for named sessions ['{}']", "x".repeat(60));
    check_refused(&mut store, &long, Author::Operator, 2, full("bytes as a script", 120));
    // What was taken away makes room, and a role of which nothing is left is none.
    store
        .apply(&parse("remove 'A' permissions for path 'a'\nisolate path 'b'\nset 'C' permissions [VIEW_SERVER]"), Author::Operator)
        .unwrap();
    assert_eq!(store.rights(&["B"], SessionKind::Named), Rights::default());
    let text = " ".repeat(121);
    let error = SecurityScript::parse(&text, limits).unwrap_err();
    assert_eq!((error.found.as_str(), error.expected.as_str()), ("a script of 121 bytes", "at most 120"));
}

#[test]
fn a_path_may_be_deeper_than_there_are_bits_for_levels() {
    let path = |segments: usize| vec!["a"; segments].join("/");
    for assigned in [1, 62, 63, 64, 65, 100] {
        let rights = rights(&format!("set 'R' path '{}' permissions [READ_TOPIC]", path(assigned)), &["R"]);
        for segments in [1, 2, 61, 62, 63, 64, 65, 66, 99, 100, 101, 200] {
            assert_eq!(rights.may(&path(segments), ReadTopic), segments >= assigned, "{segments} below {assigned}");
        }
    }
}

#[test]
fn rights_are_shared_between_threads() {
    fn check<T: Send + Sync>(_: &T) {}
    check(&Rights::all());
}

#[test]
fn a_store_of_many_paths_answers_for_each() {
    let mut text = String::from("set 'R' default path permissions [SELECT_TOPIC]\n");
    for place in 0..SecurityLimits::default().paths_max {
        let permission = ["READ_TOPIC", "UPDATE_TOPIC"][place % 2];
        text.push_str(&format!("set 'R' path 'a/b{}/{place}' permissions [{permission}]\n", place % 100));
    }
    let rights = rights(&text, &["R"]);
    for place in 0..SecurityLimits::default().paths_max {
        let expected = [ReadTopic, UpdateTopic][place % 2];
        assert_eq!(rights.at(&format!("a/b{}/{place}/x", place % 100)), PathPermissions::NONE.with(expected));
    }
    assert_eq!(rights.at("a/b1/0"), PathPermissions::NONE.with(SelectTopic));
    // Many changes are told as few branches.
    let branches = rights.changed_branches(&Rights::new(Default::default(), PathPermissions::NONE.with(SelectTopic), std::iter::empty()));
    assert_eq!(branches.iter().map(|branch| branch.as_str()).collect::<Vec<_>>(), ["a"]);
}

#[test]
fn predefined_roles_allow_what_they_are_for() {
    let store = SecurityStore::predefined(SecurityLimits::default());
    let rights = |role| store.rights(&[role], SessionKind::Named);
    for role in ["CLIENT", "TOPIC_CONTROL", "CLIENT_CONTROL", "AUTHENTICATION_HANDLER", "OPERATOR", "ADMINISTRATOR"] {
        let rights = rights(role);
        assert!([SelectTopic, ReadTopic].iter().all(|permission| rights.may("a/b", *permission)), "{role}");
        let watches = matches!(role, "OPERATOR" | "ADMINISTRATOR");
        for branch in crate::topic::path::RESERVED {
            let expected = if watches { "[SELECT_TOPIC, READ_TOPIC]" } else { "[]" };
            assert_eq!(rights.at(&format!("{branch}/x")).to_string(), expected, "{role} at {branch}");
        }
        assert_eq!(rights.allows(GlobalPermission::ModifySecurity), role == "ADMINISTRATOR");
    }
    let administrator = rights("ADMINISTRATOR");
    assert!(GlobalPermission::ALL.iter().all(|permission| administrator.allows(*permission)));
    assert_eq!(administrator.at("a"), PathPermissions::ALL);
    for kind in [SessionKind::Anonymous, SessionKind::Named] {
        assert!((0..).zip(GlobalPermission::ALL).all(|(_, permission)| !store.rights(&NO_ROLES, kind).allows(*permission)));
        assert!(store.rights(&NO_ROLES, kind).at("a").is_empty());
    }
    assert_eq!(self::store(predefined::SCRIPT), store);
    assert!(include_str!("../../../docs/security.md").contains(predefined::SCRIPT), "docs/security.md shows the predefined roles");
}

#[test]
fn everything_is_allowed_by_the_rights_to_all() {
    let all = Rights::all();
    assert!(GlobalPermission::ALL.iter().all(|permission| all.allows(*permission)));
    assert_eq!(all.at("$SYS/x"), PathPermissions::ALL);
    let all_of = |permission: &super::permission::PathPermission| all.may_below("", *permission) && all.may("a", *permission);
    assert!(super::permission::PathPermission::ALL.iter().all(all_of));
}
