//! `tidewire security` and `tidewire session roles`, with a server that asks who its clients are and without any.

use crate::server::{Directory, Server, tidewire};
use std::io::Write;
use std::process::{Command, Output, Stdio};

const SCRIPT: &str = r#"set "READER" default path permissions [SELECT_TOPIC, READ_TOPIC]
set "READER" path "accounts" permissions []
set "TELLER" path "accounts/open" permissions [READ_TOPIC]
set "TELLER" includes ["READER"]
set roles for anonymous sessions ["READER"]
isolate path "vault"
"#;

/// Too little for a long script in one answer.
const LIMITS: [(&str, &str); 4] = [
    ("LIMITS_MESSAGE_BYTES_MAX", "4096"),
    ("LIMITS_VALUE_BYTES_MAX", "1000"),
    ("LIMITS_PATH_BYTES_MAX", "500"),
    ("LIMITS_SELECTOR_BYTES_MAX", "1000"),
];

/// Files, and a server to which `root` is an administrator and `ann` a client.
struct Place {
    directory: Directory,
}

impl Place {
    fn new() -> Self {
        let place = Self { directory: Directory::new("security_commands") };
        std::fs::create_dir_all(&place.directory.path).unwrap();
        place.write("password", "a password\n");
        place.write("script", SCRIPT);
        place
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.directory.path.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().expect("the name is text").to_owned()
    }

    fn name(&self, name: &str) -> String {
        self.directory.path.join(name).to_str().expect("the name is text").to_owned()
    }

    fn start(&self, more: &[(&str, &str)]) -> Server {
        let password = self.name("password");
        let line = |name: &str, role: &str| {
            let output = tidewire(&["principal", name, "--role", role, "--password-file", &password]).output().unwrap();
            String::from_utf8(output.stdout).expect("a line of a script")
        };
        let file = self.write("principals", &[line("root", "ADMINISTRATOR"), line("ann", "CLIENT")].concat());
        let settings = [("AUTHENTICATION_CHAIN", "principals"), ("AUTHENTICATION_PRINCIPALS_FILE", file.as_str())];
        Server::start_with(2, &[&settings, more].concat())
    }

    fn command(&self, server: &Server, principal: &str, arguments: &[&str]) -> Command {
        server.client(&[arguments, &["--principal", principal, "--password-file", &self.name("password")]].concat())
    }

    fn run(&self, server: &Server, principal: &str, arguments: &[&str]) -> (i32, String) {
        told(&self.command(server, principal, arguments).output().expect("the binary starts"))
    }
}

/// The exit code, and what is printed and said.
fn told(output: &Output) -> (i32, String) {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code().expect("it ends by itself"), text)
}

fn alone(arguments: &[&str]) -> (i32, String) {
    told(&tidewire(arguments).output().expect("the binary starts"))
}

fn expect(code: i32, text: &str) -> (i32, String) {
    (code, format!("{text}\n"))
}

#[test]
fn what_is_applied_is_shown_and_permits() {
    let place = Place::new();
    let server = place.start(&LIMITS);
    let desks: String = (0..40).map(|desk| format!("set \"TELLER\" path \"desks/{desk}\" permissions [READ_TOPIC]\n")).collect();
    let text = format!("{SCRIPT}{desks}");
    let script = place.write("long", &text);
    let (code, before) = place.run(&server, "root", &["security", "show"]);
    assert!(code == 0 && before.contains("set \"CLIENT\" default path permissions [SELECT_TOPIC, READ_TOPIC"), "{before}");
    assert_eq!(place.run(&server, "root", &["security", "check", &script]), expect(0, &format!("{script}: ok")));
    assert_eq!(place.run(&server, "root", &["security", "show"]), (0, before), "a check changes nothing");
    assert_eq!(place.run(&server, "root", &["security", "apply", &script]), expect(0, "applied: 46 statements"));
    let (code, after) = place.run(&server, "root", &["security", "show"]);
    assert!(code == 0 && text.lines().all(|line| after.contains(line)), "{after}");
    assert!(after.len() > 2048, "it has several parts");
    // What is shown makes the same store again.
    let shown = place.write("shown", &after);
    assert_eq!(alone(&["security", "check", "--offline", &shown]), expect(0, &format!("{shown}: ok")));
    let mut piped =
        place.command(&server, "root", &["security", "apply", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    writeln!(piped.stdin.take().unwrap(), "# nobody reads\nset 'CLIENT' default path permissions []").unwrap();
    assert_eq!(told(&piped.wait_with_output().unwrap()), expect(0, "applied: 1 statement"));
    let (code, refused) = place.run(&server, "ann", &["fetch", "a"]);
    assert!(code == 1 && refused.contains("error 110 access_denied"), "{refused}");
}

#[test]
fn a_script_that_is_refused_says_where() {
    let place = Place::new();
    let server = place.start(&[]);
    let wrong = place.write("wrong", "# roles\n  set 'A' path 'a' permission []\n");
    let circle = place.write("circle", "set 'A' includes ['B']\nset 'B' includes ['A']\n");
    let wrong_at = format!("error: {wrong}:2:20: found `permission`, expected `permissions`");
    let circle_at = format!("error: {circle}:2: roles include each other: A → B → A");
    for command in ["apply", "check"] {
        assert_eq!(place.run(&server, "root", &["security", command, &wrong]), expect(1, &wrong_at));
        assert_eq!(place.run(&server, "root", &["security", command, &circle]), expect(1, &circle_at));
        let (code, refused) = place.run(&server, "ann", &["security", command, &place.name("script")]);
        assert!(code == 1 && refused.contains("error 110 access_denied"), "{refused}");
        let (code, refused) = place.run(&server, "root", &["security", command, &place.name("nothing")]);
        assert!(code == 2 && refused.contains("nothing: "), "{refused}");
    }
    assert_eq!(alone(&["security", "check", "--offline", &wrong]), expect(1, &wrong_at));
    assert_eq!(alone(&["security", "check", &circle, "--predefined"]), expect(1, &circle_at));
    let (code, refused) = place.run(&server, "ann", &["security", "show"]);
    assert!(code == 1 && refused.contains("error 110 access_denied"), "{refused}");
}

#[test]
fn a_script_is_checked_behind_another() {
    let place = Place::new();
    let store = place.name("script");
    let closing = place.write("closing", "set 'READER' includes ['TELLER']\n");
    assert_eq!(alone(&["security", "check", "--offline", &closing]), expect(0, &format!("{closing}: ok")));
    let circle = format!("error: {closing}:1: roles include each other: READER → TELLER → READER");
    assert_eq!(alone(&["security", "check", "--offline", "--store", &store, &closing]), expect(1, &circle));
    let none = place.write("none", "set\n");
    let (code, refused) = alone(&["security", "check", "--store", &none, &closing]);
    assert!(code == 2 && refused.starts_with(&format!("error: {none}:1:4: ")), "{refused}");
}

#[test]
fn it_is_explained_without_a_server() {
    let place = Place::new();
    let store = place.name("script");
    let explain = |more: &[&str]| alone(&[&["security", "explain", "--store", &store], more].concat());
    let by_default = "allowed: set \"READER\" default path permissions [SELECT_TOPIC, READ_TOPIC]";
    assert_eq!(explain(&["--roles", "READER", "READ_TOPIC", "news/1"]), expect(0, by_default));
    let included = format!("{by_default}\n  by set \"TELLER\" includes [\"READER\"]");
    assert_eq!(explain(&["--roles", "OTHER,TELLER", "read_topic", "news"]).0, 0);
    assert_eq!(explain(&["--roles", "TELLER", "read_topic", "news"]), expect(0, &included));
    let by_all = format!("{by_default}\n  by set roles for anonymous sessions [\"READER\"]");
    assert_eq!(explain(&["--anonymous", "READ_TOPIC", "news"]), expect(0, &by_all));
    assert_eq!(
        explain(&["--roles", "READER", "READ_TOPIC", "accounts/1"]),
        expect(1, "refused: set \"READER\" path \"accounts\" permissions []")
    );
    assert_eq!(explain(&["--roles", "READER", "READ_TOPIC", "vault/1"]), expect(1, "refused: isolate path \"vault\""));
    let unknown = "refused: nothing is set for any role of the session\nnote: nothing is set for the role 'TELER'";
    assert_eq!(explain(&["--roles", "TELER", "READ_TOPIC", "a"]), expect(1, unknown));
    let principals = place.write("principals", "add principal 'ann' 'a password' ['TELLER']\n");
    assert_eq!(explain(&["--principals", &principals, "ann", "READ_TOPIC", "accounts/open"]).0, 0);
    assert_eq!(explain(&["--principals", &principals, "ann", "READ_TOPIC", "accounts"]).0, 1);
    let (code, nobody) = explain(&["--principals", &principals, "bob", "READ_TOPIC", "a"]);
    assert!(code == 2 && nobody.starts_with(&format!("error: {principals}: there is no principal 'bob'; ")), "{nobody}");
    let (code, whose) = explain(&["ann", "READ_TOPIC", "a"]);
    assert!(code == 2 && whose.starts_with("error: whose roles? Expected --principals FILE"), "{whose}");
    assert_eq!(explain(&["--principals", &principals, "--anonymous", "READ_TOPIC", "a"]), expect(1, "refused: deny anonymous connections"));
    for usage in
        [&["--roles", "A", "READ"][..], &["--roles", "A", "READ_TOPIC"], &["--roles", "A", "VIEW_SERVER", "a"], &["READ_TOPIC", "a"]]
    {
        assert_eq!(explain(usage).0, 2, "{usage:?}");
    }
    assert_eq!(explain(&["--roles", "A", "READ_TOPIC", "a//b"]).0, 2);
    assert_eq!(alone(&["security", "explain", "--predefined", "--roles", "ADMINISTRATOR", "MODIFY_SECURITY"]).0, 0);
    assert_eq!(alone(&["security", "explain", "--predefined", "--roles", "CLIENT", "MODIFY_SECURITY"]).0, 1);
    let wrong = place.write("wrong", "set\n");
    let (code, refused) = alone(&["security", "explain", "--store", &wrong, "--roles", "A", "VIEW_SERVER"]);
    assert!(code == 2 && refused.starts_with(&format!("error: {wrong}:1:4: ")), "{refused}");
    for twice in [&["check", "--store", "-", "-"][..], &["explain", "--store", "-", "--principals", "-", "ann", "READ_TOPIC", "a"]] {
        let (code, refused) = alone(&[&["security"], twice].concat());
        assert!(code == 2 && refused.starts_with("error: standard input is read once"), "{twice:?}: {refused}");
    }
}

#[test]
fn it_is_explained_of_a_server_that_shows_what_roles_permit() {
    let place = Place::new();
    let server = place.start(&[]);
    let question = ["security", "explain", "--roles", "CLIENT", "UPDATE_TOPIC", "a"];
    let refused = "refused: set \"CLIENT\" default path permissions [SELECT_TOPIC, READ_TOPIC, SEND_TO_MESSAGE_HANDLER]";
    assert_eq!(place.run(&server, "root", &question), expect(1, refused));
    assert_eq!(place.run(&server, "root", &["security", "apply", &place.name("script")]).0, 0);
    assert_eq!(place.run(&server, "root", &["security", "explain", "--roles", "TELLER", "READ_TOPIC", "accounts/open/7"]).0, 0);
    // That it is not told is no answer.
    let (code, refused) = place.run(&server, "ann", &question);
    assert!(code == 2 && refused.contains("110 access_denied"), "{refused}");
}

#[test]
fn it_is_explained_of_a_principal_of_a_server() {
    let place = Place::new();
    let server = place.start(&[]);
    let script = place.write("more", "add principal 'carl' 'a password' ['AUDITOR']\nallow anonymous connections ['READER']\n");
    assert_eq!(place.run(&server, "root", &["security", "apply", "--principals", &script]), expect(0, "applied: 2 statements"));
    let roles =
        place.write("roles", &format!("{SCRIPT}set 'AUDITOR' permissions [VIEW_SECURITY]\nset roles for named sessions ['TELLER']\n"));
    assert_eq!(place.run(&server, "root", &["security", "apply", &roles]).0, 0);
    let explain = |by: &str, words: &[&str]| place.run(&server, by, &[&["security", "explain"], words].concat());
    let own = "allowed: set \"AUDITOR\" permissions [VIEW_SECURITY]\n  by assign roles \"carl\" [\"AUDITOR\"]";
    assert_eq!(explain("root", &["carl", "VIEW_SECURITY"]), expect(0, own));
    let all = "allowed: set \"TELLER\" path \"accounts/open\" permissions [READ_TOPIC]\n  by set roles for named sessions [\"TELLER\"]";
    assert_eq!(explain("root", &["carl", "READ_TOPIC", "accounts/open/7"]), expect(0, all));
    let refused = "refused: set \"AUDITOR\" permissions [VIEW_SECURITY]\n  by assign roles \"carl\" [\"AUDITOR\"]";
    assert_eq!(explain("root", &["carl", "MODIFY_SECURITY"]), expect(1, refused));
    let read = "allowed: set \"READER\" default path permissions [SELECT_TOPIC, READ_TOPIC]";
    let anonymous = format!("{read}\n  by allow anonymous connections [\"READER\"]");
    for who in ["--anonymous", ""] {
        assert_eq!(explain("root", &[who, "READ_TOPIC", "news"]), expect(0, &anonymous));
    }
    let (code, nobody) = explain("root", &["dora", "READ_TOPIC", "news"]);
    assert!(code == 2 && nobody.contains("there is no principal 'dora'"), "{nobody}");
    // To see what roles permit is not to see who has which: that script has hashes.
    let (code, refused) = explain("carl", &["ann", "READ_TOPIC", "news"]);
    assert!(code == 2 && refused.contains("MODIFY_SECURITY") && refused.contains("--roles"), "{refused}");
    assert_eq!(explain("carl", &["--roles", "READER", "READ_TOPIC", "news"]), expect(0, read));
    let (code, refused) = explain("nobody", &["ann", "READ_TOPIC", "news"]);
    assert!(code == 2 && refused.starts_with("error: 109 authentication_failed: "), "{refused}");
    assert_eq!(explain("carl", &["--roles", "", "--anonymous", "READ_TOPIC", "vault"]).0, 1);
}

#[test]
fn principals_are_shown_and_applied_again() {
    let place = Place::new();
    let server = place.start(&LIMITS);
    let more: String = (0..15).map(|desk| format!("add principal 'desk {desk}' 'secret {desk}' ['CLIENT']\n")).collect();
    let script = place.write("more", &format!("{more}lock principal 'desk 1' to principal 'ann'\n"));
    assert_eq!(place.run(&server, "root", &["security", "check", "--principals", &script]), expect(0, &format!("{script}: ok")));
    assert_eq!(place.run(&server, "root", &["security", "apply", "--principals", &script]), expect(0, "applied: 16 statements"));
    let again = format!("error: {script}:1: there is a principal \"desk 0\" already");
    assert_eq!(place.run(&server, "root", &["security", "apply", &script, "--principals"]), expect(1, &again));
    let (code, shown) = place.run(&server, "root", &["security", "show", "principals"]);
    assert!(code == 0 && shown.contains("add principal \"desk 14\" hash \"$argon2id$") && !shown.contains("secret"), "{shown}");
    assert!(shown.len() > 2048, "it has several parts");
    let (code, refused) = place.run(&server, "ann", &["security", "show", "principals"]);
    assert!(code == 1 && refused.contains("error 110 access_denied"), "{refused}");
    let shown = place.write("shown", &shown);
    assert_eq!(alone(&["security", "check", "--offline", "--principals", &shown]), expect(0, &format!("{shown}: ok")));
    let other = Server::start_with(2, &[("AUTHENTICATION_CHAIN", "principals"), ("AUTHENTICATION_PRINCIPALS_FILE", &shown)]);
    assert_eq!(place.run(&other, "root", &["security", "show", "principals"]), (0, std::fs::read_to_string(&shown).unwrap()));
}

#[test]
fn a_script_of_principals_is_checked_without_a_server() {
    let place = Place::new();
    let known = place.write("known", "add principal 'ann' 'one'\n");
    let change = place.write("change", "verify password 'ann' 'one'\nset password 'ann' 'two'\nverify password 'ann' 'two'\n");
    let check = |more: &[&str]| alone(&[&["security", "check", "--principals"], more].concat());
    assert_eq!(check(&["--store", &known, &change]), expect(0, &format!("{change}: ok")));
    assert_eq!(check(&["--offline", &change]), expect(1, &format!("error: {change}:1: there is no principal \"ann\"")));
    let wrong = place.write("wrong", "verify password 'ann' 'two'\n");
    assert_eq!(
        check(&["--store", &known, &wrong]),
        expect(1, &format!("error: {wrong}:1: this is not the password of the principal \"ann\""))
    );
    let bare = place.write("bare", "add principal 'ann' secret\n");
    let (code, refused) = check(&["--offline", &bare]);
    assert!(
        code == 1 && refused.starts_with(&format!("error: {bare}:1:21: found something else")) && !refused.contains("secret"),
        "{refused}"
    );
    assert_eq!(check(&["--store", &bare, &known]).0, 2);
    assert_eq!(check(&["--predefined", &known]).0, 2);
}

#[test]
fn what_no_message_has_room_for_is_refused_by_the_limit() {
    let place = Place::new();
    let server = place.start(&LIMITS);
    let (_, before) = place.run(&server, "root", &["security", "show"]);
    let roles: String = (0..100).map(|desk| format!("set \"TELLER\" path \"desks/{desk}\" permissions [READ_TOPIC]\n")).collect();
    let roles = place.write("long roles", &roles);
    let principals: String = (0..100).map(|desk| format!("add principal 'desk {desk}' 'a password' ['CLIENT']\n")).collect();
    let principals = place.write("long principals", &principals);
    for (script, more) in [(&roles, &[][..]), (&principals, &["--principals"])] {
        let (code, refused) = place.run(&server, "root", &[&["security", "apply", script], more].concat());
        let says = |part: &str| refused.contains(part);
        assert!(code == 1 && refused.starts_with(&format!("error: {script}: ")), "{refused}");
        assert!(says("the server takes 4096 (limits.message_bytes_max)") && says("raise that, or apply it in parts"), "{refused}");
    }
    assert_eq!(place.run(&server, "root", &["security", "show"]), (0, before));
    let (code, refused) = place.run(&server, "root", &["set", "a", &"a".repeat(5000), "--type", "string"]);
    assert!(code == 1 && refused.contains("limits.message_bytes_max"), "{refused}");
}

#[test]
fn sessions_get_other_roles() {
    let place = Place::new();
    let server = place.start(&[]);
    let mut held = place.command(&server, "ann", &["sub", "a"]).stdout(Stdio::null()).spawn().expect("the binary starts");
    let ann = ["--filter", "$Principal is 'ann'"];
    while !place.run(&server, "root", &["sessions", "--json", ann[0], ann[1]]).1.contains("ann") {}
    let change = |more: &[&str]| place.run(&server, "root", &[&["session", "roles"], more].concat());
    assert_eq!(
        change(&[ann[0], ann[1], "--add", "TOPIC_CONTROL", "--add", "SPARE", "--remove", "CLIENT"]),
        expect(0, "changed: 1 session")
    );
    let listed = place.run(&server, "root", &["sessions", "--json", ann[0], ann[1]]).1;
    let session: serde_json::Value = serde_json::from_str(listed.trim()).expect("JSON");
    assert_eq!(session["properties"]["$Roles"], r#""SPARE" "TOPIC_CONTROL""#);
    let id = session["session"].as_str().expect("text");
    assert_eq!(change(&[id, "--remove", "SPARE"]), expect(0, "changed: 1 session"));
    assert_eq!(change(&[id]), expect(2, "error: expected roles, by --add or --remove"));
    assert_eq!(change(&["--add", "A"]).0, 2);
    let (code, refused) = place.run(&server, "ann", &["session", "roles", id, "--add", "ADMINISTRATOR"]);
    assert!(code == 1 && refused.contains("error 110 access_denied"), "{refused}");
    crate::server::terminate(&held);
    held.wait().expect("it is our child");
}
