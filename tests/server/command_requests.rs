//! `tidewire request` and `tidewire respond`.

use crate::server::{Directory, PATIENCE, Server, terminate};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::{Child, Output, Stdio};
use std::time::Instant;

/// A command that answers requests, and what it prints.
struct Responder {
    child: Child,
    printed: BufReader<std::process::ChildStdout>,
}

impl Responder {
    /// It answers once this returns.
    fn start(server: &Server, path: &str, arguments: &[&str]) -> Self {
        let mut command = server.client(&[&["respond", path][..], arguments].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let printed = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut responder = Self { child, printed };
        let started = Instant::now();
        while code(&server.command(&["request", &format!("{path}/ready"), "0", "--timeout", "5000"]))
            .is_none_or(|(_, says)| says.contains("310"))
        {
            assert!(started.elapsed() < PATIENCE, "it does not answer");
            assert!(responder.child.try_wait().expect("it is our child").is_none(), "it has ended");
        }
        let first = responder.next();
        assert_eq!(first["path"], format!("{path}/ready"));
        responder
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        self.printed.read_line(&mut line).expect("text");
        serde_json::from_str(&line).expect("JSON")
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        terminate(&self.child);
        let _ = self.child.wait();
    }
}

/// The exit code and the errors of a command.
fn code(output: &Output) -> Option<(i32, String)> {
    Some((output.status.code()?, String::from_utf8_lossy(&output.stderr).trim_end().to_owned()))
}

fn check(server: &Server, arguments: &[&str], printed: &[Value]) {
    let output = server.command(&[&["request"][..], arguments].concat());
    assert_eq!(code(&output), Some((0, String::new())), "{arguments:?}");
    let lines: Vec<Value> = String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines, printed, "{arguments:?}");
}

fn check_refused(server: &Server, arguments: &[&str], expected: i32, says: &str) {
    let (code, errors) = code(&server.command(&[&["request"][..], arguments].concat())).expect("it ends by itself");
    assert!(code == expected && errors.contains(says), "{arguments:?}: {code} {errors}");
}

#[test]
fn a_value_answers_every_request() {
    let server = Server::start(2);
    let mut responder = Responder::start(&server, "a", &["--value", "{\"up\":true}"]);
    check(&server, &["a/b", "{\"x\":1}"], &[json!({ "type": "json", "value": { "up": true } })]);
    let told = responder.next();
    assert_eq!(
        (&told["path"], &told["value"], &told["answer"]),
        (&json!("a/b"), &json!({ "x": 1 }), &json!({ "type": "json", "value": { "up": true } }))
    );
    check_refused(&server, &["b", "1"], 1, "error 310 no_handler: ");
    check_refused(&server, &["a//b", "1"], 1, "error 200 invalid_path: ");
    check_refused(&server, &["a", "x", "--type", "int64"], 2, "the value is not int64");
    check_refused(&server, &["a", "1", "--session", "x", "--filter", "all"], 2, "cannot be used with");
    check_refused(&server, &["a", "1", "--filter", "Tier"], 1, "error 318 invalid_filter: ");
}

#[test]
fn a_command_answers_with_what_it_prints() {
    let server = Server::start(2);
    let script = r#"
        case $REQUEST_PATH in
            c/fails) echo "not today" >&2; echo "really" >&2; exit 3;;
            c/silent) exit 4;;
            c/garbage) echo "no JSON";;
            c/long) exec sleep 600;;
            *) printf '"%s %s %s"\n' "$REQUEST_TYPE" "$(cat)" "${REQUEST_SESSION:+known}";;
        esac"#;
    let mut responder = Responder::start(&server, "c", &["--exec", script, "--type", "json", "--timeout", "2000", "--jobs", "2"]);
    check(&server, &["c/x", "[1]"], &[json!({ "type": "json", "value": "json [1] known" })]);
    check(&server, &["c/x", "7", "--type", "int64"], &[json!({ "type": "json", "value": "int64 7 known" })]);
    check_refused(&server, &["c/fails", "1"], 1, "error 315 rejected: not today");
    check_refused(&server, &["c/silent", "1"], 1, "error 315 rejected: the command failed: exit status: 4");
    check_refused(&server, &["c/garbage", "1"], 1, "error 315 rejected: the command has not printed JSON");
    check_refused(&server, &["c/long", "1"], 1, "error 315 rejected: the command took longer than 2000 ms");
    let told: Vec<Value> = (0..6).map(|_| responder.next()).collect();
    assert_eq!((&told[1]["type"], &told[2]["rejected"]), (&json!("int64"), &json!("not today")));
}

#[test]
fn an_answer_has_the_type_of_its_request() {
    let server = Server::start(1);
    let _responder = Responder::start(&server, "t", &["--exec", "cat"]);
    check(&server, &["t", "-7", "--type", "int64"], &[json!({ "type": "int64", "value": -7 })]);
    check(&server, &["t", "two words", "--type", "string"], &[json!({ "type": "string", "value": "two words" })]);
    check(&server, &["t", "0x00ff", "--type", "binary"], &[json!({ "type": "binary", "value": "AP8=" })]);
    check(&server, &["t", "{\"a\":1}"], &[json!({ "type": "json", "value": { "a": 1 } })]);
}

#[test]
fn commands_run_at_once_and_no_more_than_may() {
    let server = Server::start(1);
    let directory = Directory::new("jobs");
    std::fs::create_dir_all(&directory.path).unwrap();
    let name = directory.name();
    // Each waits for the other one to run.
    let script = format!(
        r#"[ $REQUEST_PATH = j/ready ] && echo 1 && exit; touch {name}/$(cat); while ! [ -e {name}/1 -a -e {name}/2 ]; do sleep 0.01; done; echo 1"#
    );
    let _responder = Responder::start(&server, "j", &["--exec", &script, "--jobs", "2"]);
    let ask =
        |path: &str, number: &str| server.client(&["request", path, number]).stdout(Stdio::null()).spawn().expect("the binary starts");
    for mut child in [ask("j", "1"), ask("j", "2")] {
        assert!(child.wait().expect("it is our child").success());
    }
    // Each fails if the other one runs.
    let script = format!("mkdir {name}/runs && sleep 0.05 && rmdir {name}/runs && echo 1");
    let _alone = Responder::start(&server, "k", &["--exec", &script, "--jobs", "1"]);
    for mut child in [ask("k", "1"), ask("k", "2"), ask("k", "3")] {
        assert!(child.wait().expect("it is our child").success());
    }
}

#[test]
fn sessions_are_asked_by_id_and_by_filter() {
    let server = Server::start(2);
    let _responders = [Responder::start(&server, "f", &["--value", "1"]), Responder::start(&server, "g", &["--value", "2"])];
    let output = server.command(&["sessions", "--filter", "$Environment matches 'TIDEWIRE_.*'"]);
    let listed: Vec<Value> =
        String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    // Those that answer, and the one that lists.
    assert_eq!(listed.len(), 3);
    let mut answered = 0;
    for session in &listed {
        let id = session["session"].as_str().expect("text");
        let output = server.command(&["request", "f", "0", "--session", id]);
        if output.status.success() {
            answered += 1;
            let by_filter = format!("$SessionId is '{id}'");
            check(&server, &["f", "0", "--filter", &by_filter], &[json!({ "session": id, "type": "json", "value": 1 })]);
        } else {
            assert_eq!(output.status.code(), Some(1));
        }
    }
    assert_eq!(answered, 1);
    // Of the three that are asked one handles the path.
    let output = server.command(&["request", "f", "0", "--filter", "all"]);
    let lines: Vec<Value> = String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((output.status.code(), lines.len()), (Some(1), 3));
    assert_eq!(lines.iter().filter(|line| line["value"] == 1).count(), 1);
    assert_eq!(lines.iter().filter(|line| line["error"]["name"] == "no_handler").count(), 2);
    assert!(String::from_utf8_lossy(&output.stderr).contains("error: 2 sessions have not answered"));
    let output = server.command(&["request", "f", "0", "--filter", "Tier is 'none'"]);
    assert_eq!((code(&output), output.stdout.len()), (Some((0, "no session is meant".to_owned())), 0));
    check_refused(&server, &["f", "0", "--session", "nobody"], 1, "error 317 no_such_session: ");
}
