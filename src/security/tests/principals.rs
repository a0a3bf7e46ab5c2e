//! Principals: what their script reads and refuses, what it changes, and that no password is shown.

use proptest::prelude::*;

use crate::security::principals::{Anonymous, PrincipalLimits, PrincipalStore};
use crate::security::script::ScriptError;
use crate::security::script::principals::PrincipalScript;
use crate::security::secret::Secret;
use crate::security::{ApplyError, ApplyErrorKind, Author};
use crate::topic::syntax::fuzz;

fn parse(text: &str) -> Result<PrincipalScript, ScriptError> {
    PrincipalScript::parse(text, PrincipalLimits::default())
}

/// Two passwords have one hash only if they are one password; `unhashable` has none.
fn hash(password: &Secret) -> Option<Box<str>> {
    let hash: String = password.bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    (password.bytes() != b"unhashable").then(|| format!("$test${hash}").into())
}

fn verify(password: &Secret, stored: &str) -> bool {
    hash(password).is_some_and(|hash| *hash == *stored)
}

fn apply(store: &mut PrincipalStore, text: &str, by: Author<'_>) -> Result<(), ApplyError> {
    store.apply(&parse(text).unwrap_or_else(|error| panic!("{text}: {error}")), by, hash, verify)
}

fn store(text: &str) -> PrincipalStore {
    let mut store = PrincipalStore::empty(PrincipalLimits::default());
    apply(&mut store, text, Author::Operator).unwrap_or_else(|error| panic!("{text}: {error}"));
    store
}

fn check_refused(store: &mut PrincipalStore, text: &str, by: Author<'_>, error: &str) {
    let before = store.clone();
    assert_eq!(apply(store, text, by).expect_err(text).to_string(), error, "{text}");
    assert_eq!(*store, before, "{text}");
}

#[test]
fn every_statement_makes_what_it_says() {
    let store = store(
        r#"ADD principal "u" 'p w # "1"' ["R2", "R1", "R2"] # comment
           add principal 'v' 'x'
           add principal "h" hash "$argon2id$v=19$m=8,t=1,p=1$c2FsdA$aGFzaA" []
           add principal "gone" "x" ["R"]
           remove principal "gone"
           assign roles "v" ["A"]
           set password "v" "y\"\\"
           verify password "v" 'y"\\'
           set password "u" hash "$other"
           allow anonymous connections ["CLIENT"]
           lock principal "v" to principal "u"
           trust client proposed property "Tier" if value in ["2", "1", "1"]
           trust client proposed property "Foo" if value matches "[a-z]{2}"
           trust client proposed property "Bar" if value in ["x"]
           ignore client proposed property "Bar""#,
    );
    let printed = r#"allow anonymous connections ["CLIENT"]
add principal "h" hash "$argon2id$v=19$m=8,t=1,p=1$c2FsdA$aGFzaA" []
add principal "u" hash "$other" ["R1", "R2"]
add principal "v" hash "$test$79225c" ["A"]
trust client proposed property "Foo" if value matches "[a-z]{2}"
trust client proposed property "Tier" if value in ["1", "2"]
lock principal "v" to principal "u"
"#;
    assert_eq!(store.to_script(), printed);
    assert_eq!(&*store.look_up("v").unwrap().roles, ["A".into()]);
    assert!(store.look_up("gone").is_none() && store.look_up("").is_none());
}

#[test]
fn anonymous_sessions_are_denied_until_a_script_says_otherwise() {
    let mut store = PrincipalStore::empty(PrincipalLimits::default());
    assert_eq!(*store.anonymous(), Anonymous::Deny);
    for (text, anonymous) in [
        ("allow anonymous connections", Anonymous::Allow([].into())),
        ("allow anonymous connections ['R']", Anonymous::Allow(["R".into()].into())),
        ("abstain anonymous connections", Anonymous::Abstain),
        ("deny anonymous connections", Anonymous::Deny),
    ] {
        apply(&mut store, text, Author::Principal("p")).unwrap();
        assert_eq!(*store.anonymous(), anonymous, "{text}");
    }
}

#[test]
fn what_is_proposed_is_ignored_unless_it_is_trusted() {
    let store = store(
        "trust client proposed property 'Tier' if value in ['1', '2', '']
         trust client proposed property 'Region' if value matches 'eu|us-\\d+'
         trust client proposed property 'Old' if value matches '.*'
         ignore client proposed property 'Old'",
    );
    for (name, value, is_believed) in [
        ("Tier", "1", true),
        ("Tier", "", true),
        ("Tier", "3", false),
        ("Tier", "12", false),
        ("tier", "1", false),
        ("Region", "eu", true),
        ("Region", "us-12", true),
        // All of the value, as Java's `matches` has it, and digits of ASCII.
        ("Region", "eu2", false),
        ("Region", "xus-1", false),
        ("Region", "us-1\n", false),
        ("Region", "us-\u{665}", false),
        ("Old", "x", false),
        ("$Roles", "1", false),
        ("", "", false),
    ] {
        let accepted = store.accept_properties([("x", "y"), (name, value)]);
        let expected = is_believed.then(|| (name.into(), value.into()));
        assert_eq!(accepted, Vec::from_iter(expected), "{name} {value}");
    }
}

#[test]
fn a_script_that_cannot_be_applied_changes_nothing() {
    let mut store = store("add principal 'u' 'p' ['R']");
    let by = Author::Operator;
    check_refused(&mut store, "add principal 'v' 'p'\nadd principal 'u' 'q'", by, "line 2: there is a principal \"u\" already");
    check_refused(&mut store, "deny anonymous connections\n\nremove principal 'v'", by, "line 3: there is no principal \"v\"");
    for change in ["assign roles 'v' []", "set password 'v' 'p'", "verify password 'v' 'p'", "lock principal 'v' to principal 'u'"] {
        check_refused(&mut store, change, by, "line 1: there is no principal \"v\"");
    }
    let text = "set password 'u' 'q'\nverify password 'u' 'p'";
    check_refused(&mut store, text, by, "line 2: this is not the password of the principal \"u\"");
    check_refused(&mut store, "set password 'u' 'unhashable'", by, "line 1: the password of the principal \"u\" cannot be hashed");
    apply(&mut store, "verify password 'u' 'p'\nset password 'u' 'q'\nverify password 'u' 'q'", by).unwrap();
}

#[test]
fn a_locked_principal_is_changed_by_one_alone() {
    let mut store = store("add principal 'u' 'p'\nadd principal 'v' 'p'\nlock principal 'u' to principal 'p'");
    for change in [
        "remove principal 'u'",
        "assign roles 'u' []",
        "set password 'u' 'q'",
        "lock principal 'u' to principal 'q'",
        "unlock principal 'u'",
    ] {
        for by in ["q", "u", ""] {
            let text = format!("remove principal 'v'\n{change}");
            check_refused(&mut store, &text, Author::Principal(by), "line 2: the principal \"u\" is locked to the principal \"p\"");
        }
    }
    apply(&mut store, "verify password 'u' 'p'", Author::Principal("q")).unwrap();
    apply(&mut store, "set password 'u' 'q'\nunlock principal 'u'", Author::Principal("p")).unwrap();
    apply(&mut store, "lock principal 'u' to principal 'p'", Author::Principal("q")).unwrap();
    apply(&mut store, "remove principal 'u'", Author::Operator).unwrap();
}

#[test]
fn a_store_of_principals_holds_as_much_as_it_may() {
    let limits = PrincipalLimits { principals_max: 2, properties_max: 1, passwords_max: 1, text_bytes_max: 200 };
    let mut store = PrincipalStore::empty(limits);
    let trust = |name: &str| format!("trust client proposed property '{name}' if value in []");
    apply(&mut store, &format!("add principal 'a' 'p'\nadd principal 'b' hash '$b'\n{}", trust("A")), Author::Operator).unwrap();
    check_refused(&mut store, "add principal 'c' hash '$c'", Author::Operator, "line 1: there would be more than 2 principals");
    check_refused(&mut store, &trust("B"), Author::Operator, "line 1: there would be more than 1 properties");
    let text = "set password 'a' 'p'\n\nverify password 'a' 'p'";
    let script = parse(text).unwrap();
    // None is hashed of too many.
    let error = store.apply(&script, Author::Operator, |_| unreachable!(), |_, _| unreachable!()).unwrap_err();
    assert_eq!(error, ApplyError { line: 3, kind: ApplyErrorKind::Full { what: "passwords in a script", count_max: 1 } });
    let text = format!("assign roles 'b' ['{}']", "x".repeat(200));
    check_refused(&mut store, &text, Author::Operator, "line 1: there would be more than 200 bytes as a script");
    let error = PrincipalScript::parse(&"#".repeat(201), limits).unwrap_err();
    assert_eq!(error.to_string(), "line 1, column 1: found a script of 201 bytes, expected at most 200");
    let matching = |name: &str| format!("trust client proposed property '{name}' if value matches 'x'\n");
    let error = PrincipalScript::parse(&format!("{}{}", matching("A"), matching("A")), limits).unwrap_err();
    assert_eq!((error.line, error.found.as_str()), (2, "more than 1 regexes"));
}

#[test]
fn regexes_of_several_scripts_are_no_more_than_those_of_one() {
    let mut store = PrincipalStore::empty(PrincipalLimits::default());
    let trust = |name: &str, count| format!("trust client proposed property '{name}' if value matches '{}'", r"\\p{Zl}".repeat(count));
    apply(&mut store, &trust("A", 64), Author::Operator).unwrap();
    let error = "line 1: there would be more than 64 Unicode classes in regexes";
    check_refused(&mut store, &trust("B", 1), Author::Operator, error);
    apply(&mut store, &format!("{}\n{}", trust("A", 40), trust("B", 24)), Author::Operator).unwrap();
    assert!(parse(&store.to_script()).is_ok(), "the server starts with it");
}

#[test]
fn a_malformed_line_is_named_with_its_column() {
    for (text, error) in [
        ("remove 'u'", "line 1, column 8: found '\\'', expected `principal`"),
        ("remove principal ''", "line 1, column 18: found an empty text, expected a principal in quotation marks"),
        ("\nassign roles 'u'", "line 2, column 17: found the end of the line, expected `[`"),
        ("deny anonymous connections ['R']", "line 1, column 28: found '[', expected the end of the line"),
        ("allow anonymous sessions", "line 1, column 17: found `sessions`, expected `connections`"),
        ("trust client proposed property 'A' if value is 'x'", "line 1, column 45: found `is`, expected `in` or `matches`"),
        (
            "trust client proposed property '$Roles' if value in []",
            "line 1, column 32: found a property that the server sets, expected a property in quotation marks that begins with a letter",
        ),
        ("trust client proposed property 'A' if value matches 'é(x'", "line 1, column 55: found `é(x` (unclosed group), expected a regex"),
        ("lock principal 'u' to 'p'", "line 1, column 23: found '\\'', expected `principal`"),
        (
            "grant",
            "line 1, column 1: found `grant`, expected `add`, `remove`, `assign`, `set`, `verify`, `lock`, `unlock`, `allow`, `deny`, `abstain`, \
             `trust` or `ignore`",
        ),
    ] {
        assert_eq!(parse(text).expect_err(text).to_string(), error, "{text}");
    }
}

#[test]
fn no_error_shows_a_password() {
    for (text, column) in [
        ("add principal 'u' hunter2", 19),
        ("add principal 'u' hunter2 ['R']", 19),
        ("add principal 'u' 'hunter2", 19),
        ("add principal 'u' 'a'hunter2'", 22),
        ("add principal 'u' '' hunter2", 19),
        ("add principal 'u' 'a' ['R' hunter2]", 28),
        ("add principal 'u' 'a' [] hunter2", 26),
        ("add principal 'u' hash 'hunter2' []", 24),
        ("add principal 'u' hash hunter2", 24),
        ("add 'hunter2'", 5),
        ("add hunter2", 5),
        ("set password hunter2", 14),
        ("set password 'u' hunter2", 18),
        ("set passwords 'u' 'hunter2'", 5),
        ("set password 'u' 'x' 'hunter2'", 22),
        ("verify password 'u' hunter2", 21),
        ("verify 'hunter2'", 8),
    ] {
        let error = parse(text).expect_err(text);
        assert_eq!((error.line, error.column), (1, column), "{text}: {error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{text}: {error}");
    }
    let text =
        "add principal 'u' 'hunter2' []\nset password 'u' 'hunter2'\nverify password 'u' 'hunter2'\nset password 'u' hash '$hunter2'";
    let script = parse(text).unwrap();
    assert!(!format!("{script:?}").contains("hunter2"));
    let store = store(text);
    assert!(!format!("{store:?}").contains("hunter2"));
    assert!(store.to_script().contains("$hunter2"), "a script that is printed has the hash");
}

#[test]
fn whatever_is_written_is_read_or_refused_inside_of_it() {
    let texts = [
        "add principal 'u' \"a\\\"\" ['R', 'S'] # c\nadd principal 'h' hash '$x$y'\nset password 'u' 'q'\nverify password 'u' 'q'",
        "allow anonymous connections ['R']\nlock principal 'u' to principal 'v'\nunlock principal 'u'\nremove principal 'u'",
        "trust client proposed property 'A' if value in ['x']\ntrust client proposed property 'é' if value matches '(é|[a-c])+'",
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
    let name = || proptest::sample::select(&["u", "v", "a \\\"q\\\" #", "é\\\\"][..]).prop_map(|name| format!("\"{name}\""));
    let names = move || proptest::collection::vec(name(), 0..3).prop_map(|names| format!("[{}]", names.join(", ")));
    let property = || proptest::sample::select(&["A", "B", "Cé"][..]);
    prop_oneof![
        (name(), name(), names()).prop_map(|(principal, password, roles)| format!("add principal {principal} {password} {roles}")),
        (name(), names()).prop_map(|(principal, roles)| format!("add principal {principal} hash '$a\\\\$' {roles}")),
        name().prop_map(|principal| format!("remove principal {principal}")),
        (name(), names()).prop_map(|(principal, roles)| format!("assign roles {principal} {roles}")),
        (name(), name()).prop_map(|(principal, password)| format!("set password {principal} {password}")),
        (name(), name()).prop_map(|(principal, to)| format!("lock principal {principal} to principal {to}")),
        name().prop_map(|principal| format!("unlock principal {principal}")),
        names().prop_map(|roles| format!("allow anonymous connections {roles}")),
        Just("deny anonymous connections".to_string()),
        Just("abstain anonymous connections".to_string()),
        (property(), names()).prop_map(|(property, values)| format!("trust client proposed property '{property}' if value in {values}")),
        (property(), r#"[a\\"']{0,3}"#).prop_map(|(property, regex)| {
            let escaped = regex.replace(['\\', '"'], r"\\\\");
            format!("trust client proposed property '{property}' if value matches \"{escaped}\"")
        }),
        property().prop_map(|property| format!("ignore client proposed property '{property}'")),
    ]
}

proptest! {
    #[test]
    fn a_printed_store_of_principals_makes_the_same(statements in proptest::collection::vec(statements(), 0..40)) {
        let mut store = PrincipalStore::empty(PrincipalLimits::default());
        for statement in &statements {
            // Who is not there is not changed; the rest goes on without it.
            let _ = apply(&mut store, statement, Author::Operator);
        }
        let mut again = PrincipalStore::empty(PrincipalLimits::default());
        let script = parse(&store.to_script()).unwrap();
        again.apply(&script, Author::Principal("anybody"), |_| unreachable!("it has hashes"), verify).unwrap();
        prop_assert_eq!(&again, &store);
        prop_assert_eq!(again.to_script(), store.to_script());
    }
}
