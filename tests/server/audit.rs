//! The audit log of a real server, by clients of both protocols.

use crate::client::{Seen, Session};
use crate::identities::{Principals, text};
use crate::mosquitto::mosquitto;
use crate::server::{PATIENCE, Server};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};
use tidewire::surface::wire::native::{Ask, Request};

const ROLES: &str = "set \"CLIENT\" default path permissions [SELECT_TOPIC, READ_TOPIC]
set \"OPERATOR\" permissions [VIEW_SECURITY, MODIFY_SECURITY, MODIFY_SESSION, VIEW_SESSION, MODIFY_TOPIC_VIEWS]";

/// The lines of the file, each with an event.
fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines: Vec<Value> =
        whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect();
    for line in &lines {
        assert!(line["time"].as_str().is_some_and(|time| time.ends_with('Z') && time.len() == 24), "{line}");
        for name in ["event", "outcome", "principal", "address", "session"] {
            assert!(line[name].is_string(), "{name}: {line}");
        }
        assert!(!line.to_string().contains("pw of"), "{line}");
    }
    lines
}

/// The first line that has these members, which comes soon.
fn wait_for(path: &Path, members: &Value) -> Value {
    let members = members.as_object().expect("members");
    let started = Instant::now();
    loop {
        let found = lines(path).into_iter().find(|line| members.iter().all(|(name, value)| line[name] == *value));
        if let Some(line) = found {
            return line;
        }
        let told = std::fs::read_to_string(path).unwrap_or_default();
        assert!(started.elapsed() < PATIENCE, "no line has {members:?}:\n{told}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn start(principals: &Principals) -> Server {
    let (file, roles) = (principals.path("audit"), principals.path("roles"));
    std::fs::write(&roles, ROLES).expect("the directory is ours");
    let names = [&file, &roles].map(|path| path.to_str().expect("the name is text").to_owned());
    principals.start(&[("AUDIT_FILE", &names[0]), ("SECURITY_ROLES_FILE", &names[1])])
}

fn connect(principal: &str, password: &str) -> Ask<'static> {
    let mut ask = Ask::connect("test", 3);
    let Ask::Connect { about, .. } = &mut ask else { unreachable!() };
    let credentials = &mut about.credentials;
    (credentials.principal, credentials.password) = (principal.to_owned().into(), password.to_owned().into());
    ask
}

#[test]
fn clients_of_both_protocols_are_noted_let_in_or_not() {
    let principals = Principals::new("audit_connects", "");
    let (server, log) = (start(&principals), principals.path("audit"));
    let _ann = Session::open(server.address, connect("ann", "pw of ann"));
    let mut refused = Session::begin(server.address, connect("ann", "pw of bob"));
    assert!(matches!(refused.next(), Seen::Error { code: 109, .. }));
    let by_ann = json!({ "event": "connect", "outcome": "allowed", "principal": "ann", "protocol": "native", "address": "127.0.0.1" });
    let line = wait_for(&log, &by_ann);
    assert!(line["roles"] == json!(["CLIENT", "OPERATOR", "TOPIC_CONTROL", "of \"gold\""]) && line["session"] != "", "{line}");
    let line = wait_for(&log, &json!({ "event": "connect", "outcome": "refused", "principal": "ann", "protocol": "native" }));
    assert!(line["session"] == "" && line["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{line}");

    let publishing = ["-i", "phone", "-t", "a", "-q", "1", "-m", "1", "-u", "bob", "-P", "pw of bob"];
    mosquitto("mosquitto_pub", &server, "mqttv5", &publishing).output().expect("mosquitto is installed");
    wait_for(&log, &json!({ "event": "connect", "outcome": "allowed", "principal": "bob", "protocol": "mqtt", "client_id": "phone" }));
    wait_for(&log, &json!({ "event": "denied", "outcome": "refused", "principal": "bob", "operation": "publish" }));
    let wrong = ["-i", "other", "-t", "a", "-m", "1", "-u", "bob", "-P", "pw of ann"];
    let output = mosquitto("mosquitto_pub", &server, "mqttv311", &wrong).output().expect("mosquitto is installed");
    assert!(!output.status.success(), "{}", text(&output));
    wait_for(&log, &json!({ "event": "connect", "outcome": "refused", "principal": "bob", "protocol": "mqtt", "client_id": "other" }));
    let mut page = server.open_raw();
    page.send(b"GET /latency HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(page.read_to_end().starts_with(b"HTTP/1.1 401"));
    wait_for(&log, &json!({ "event": "http", "outcome": "refused", "status": 401, "path": "/latency" }));
    assert_eq!(std::fs::metadata(&log).expect("it is there").permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_sessions_change_and_may_not_is_noted_and_a_renamed_file_is_left() {
    let principals = Principals::new("audit_changes", "");
    let (server, log) = (start(&principals), principals.path("audit"));
    let mut ann = Session::open(server.address, connect("ann", "pw of ann"));
    let mut ask = |ask: Ask<'static>| ann.ask(|id| Request { id, ask });
    ask(Ask::ApplySecurity { check: false, script: "set \"NEW\" permissions []".into() }).expect("she may");
    wait_for(&log, &json!({ "event": "security", "outcome": "applied", "store": "roles", "statements": 1, "roles": ["NEW"] }));
    let script = "add principal \"carl\" \"pw of carl\"\nset password \"bob\" \"pw of nobody\"";
    ask(Ask::ApplyPrincipals { check: false, script: script.into() }).expect("she may");
    wait_for(&log, &json!({ "event": "security", "outcome": "applied", "store": "principals", "principals": ["bob", "carl"] }));
    ask(Ask::ApplyPrincipals { check: false, script: "verify password \"bob\" \"pw of ann\"".into() }).expect_err("it is another");
    wait_for(&log, &json!({ "event": "security", "outcome": "refused", "store": "principals", "code": "invalid_script" }));
    let (filter, message) = ("$Principal is 'nobody'".into(), "go".into());
    ask(Ask::CloseSessions { session: "".into(), filter, message }).expect("she may");
    wait_for(&log, &json!({ "event": "control", "outcome": "done", "operation": "close_sessions", "sessions": 0, "message": "go" }));
    ask(Ask::Remove { selector: "?a//".into() }).expect_err("she may not");
    wait_for(&log, &json!({ "event": "denied", "outcome": "refused", "operation": "remove", "principal": "ann" }));

    // As logrotate does it.
    let before = lines(&log).len();
    let renamed = principals.path("audit.1");
    std::fs::rename(&log, &renamed).expect("the directory is ours");
    server.refresh();
    let started = Instant::now();
    while !log.exists() {
        assert!(started.elapsed() < PATIENCE, "SIGHUP makes a new file");
        std::thread::sleep(Duration::from_millis(20));
    }
    ask(Ask::CreateView { name: "v".into(), definition: "map ?a/ to b/<path(1)>".into() }).expect("she may");
    let created = json!({ "event": "view", "outcome": "done", "operation": "create_view", "name": "v", "principal": "ann" });
    wait_for(&log, &created);
    assert_eq!((lines(&renamed).len(), lines(&log).len()), (before, 1));
    // What happens just before the end is written too.
    ask(Ask::RemoveView { name: "v".into() }).expect("she may");
    drop(server);
    let last = lines(&log);
    assert_eq!((last.len(), &last[1]["operation"]), (2, &"remove_view".into()), "{last:?}");
}
