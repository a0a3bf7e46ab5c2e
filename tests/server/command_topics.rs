//! The commands that speak of the whole topic model: what they print, and where they refuse.

use crate::server::{Server, terminate, tidewire};
use std::io::{BufRead, BufReader};
use std::process::{Child, Output, Stdio};

/// Each command in order: its exit code, and exactly what it prints or, of one that fails, what its error contains.
fn check(server: &Server, commands: &[(&[&str], i32, &str)]) {
    for (arguments, code, says) in commands {
        check_output(arguments, &server.command(arguments), *code, says);
    }
}

fn check_output(arguments: &[&str], output: &Output, code: i32, says: &str) {
    let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
    match code {
        0 => assert_eq!(printed.trim_end(), says, "{arguments:?}: {errors}"),
        _ => assert!(errors.contains(says), "{arguments:?}: {errors}"),
    }
}

#[test]
fn set_sets_a_topic_of_any_specification() {
    let server = Server::start(2);
    check(
        &server,
        &[
            (&["add", "a", "--type", "int64", "--property", "PERSISTENT=false", "--property", "PRIORITY=low"], 0, ""),
            (&["set", "a", "5"], 0, ""),
            (&["set", "a", "6", "--if", r#"{"value":{"eq":5}}"#], 0, ""),
            (&["set", "a", "7", "--if", r#"{"value":{"eq":5}}"#], 1, "error 212 unsatisfied_constraint"),
            (&["fetch", "a"], 0, r#"{"path":"a","type":"int64","value":6}"#),
            (&["set", "a", "--null"], 0, ""),
            (&["fetch", "a", "--sizes"], 0, r#"{"path":"a","type":"int64","value":null,"size":null}"#),
            (&["set", "a", "1", "--type", "string"], 1, "error 204 incompatible_type"),
            (&["set", "a", "1", "--property", "PRIORITY=high"], 1, "error 203 topic_exists"),
            (&["set", "b", "x", "--type", "string", "--property", "PRIORITY=high"], 0, ""),
            (&["set", "c", "1", "--if", r#"{"no_topic":true}"#], 0, ""),
            (&["set", "c", "1", "--if", r#"{"no_topic":true}"#], 1, "error 212"),
            (&["set", "c", "1", "--if", r#"{"no":true}"#], 1, "error 213 invalid_constraint"),
            (&["set", "s", "1", "--type", "time_series", "--property", "TIME_SERIES_EVENT_VALUE_TYPE=int64"], 0, ""),
            (&["set", "s", "2"], 0, ""),
            (&["fetch", "s"], 0, r#"{"path":"s","type":"time_series","value":2}"#),
            (&["set", "t", "1", "--type", "time_series"], 2, "TIME_SERIES_EVENT_VALUE_TYPE"),
            (&["set", "a"], 2, "<VALUE>"),
            (&["set", "a", "1", "--null"], 2, "cannot be used with"),
            (&["add", "d", "--type", "json", "--property", "PERSISTENT"], 2, "expected KEY=VALUE"),
            (&["add", "d", "--type", "json", "--property", "REMOVAL=when never"], 1, "(at byte 5)"),
        ],
    );
}

#[test]
fn patch_changes_a_part() {
    let server = Server::start(2);
    check(
        &server,
        &[
            (&["set", "a", r#"{"x":1}"#], 0, ""),
            (&["patch", "a", r#"[{"op":"add","path":"/y","value":5}]"#], 0, ""),
            (&["patch", "a", r#"[{"op":"remove","path":"/x"}]"#, "--if", r#"{"json":[{"at":"/y","eq":6}]}"#], 1, "error 212"),
            (&["fetch", "a"], 0, r#"{"path":"a","type":"json","value":{"x":1,"y":5}}"#),
            (&["patch", "a", r#"[{"op":"remove","path":"/z"}]"#], 1, "error 215 failed_patch: operation 0"),
            (&["patch", "a", "[{]"], 1, "error 214 invalid_patch"),
            (&["patch", "none", "[]"], 1, "error 202 no_such_topic"),
        ],
    );
}

#[test]
fn fetch_shows_the_part_that_is_asked_for() {
    // Pages shorter than what is asked for.
    let server = Server::start_with(2, &[("LIMITS_FETCH_PAGE_MAX", "2")]);
    for path in ["a/1", "a/2", "b/1", "b/2", "c/1"] {
        server.command(&["set", path, "0"]);
    }
    server.command(&["add", "d", "--type", "string", "--property", "PRIORITY=low"]);
    let lines =
        |paths: &[&str]| paths.iter().map(|path| format!(r#"{{"path":"{path}","type":"json","value":0}}"#)).collect::<Vec<_>>().join("\n");
    let all = ["a/1", "a/2", "b/1", "b/2", "c/1"];
    check(
        &server,
        &[
            (&["fetch", "?.*//", "--type", "json"], 0, &lines(&all)),
            (&["fetch", "?.*//", "--first", "3"], 0, &lines(&all[..3])),
            (&["fetch", "?.*//", "--last", "4", "--type", "json"], 0, &lines(&all[1..])),
            (&["fetch", "?.*//", "--from", "a/2", "--to", "b/2"], 0, &lines(&all[1..4])),
            (&["fetch", "?.*//", "--after", "a/2", "--before", "b/2"], 0, &lines(&all[2..3])),
            (&["fetch", "?.*//", "--last", "2", "--before", "c"], 0, &lines(&all[2..4])),
            (&["fetch", "?.*//", "--depth", "1", "--depth-limit", "1", "--to", "b/9"], 0, &lines(&["a/1", "b/1"])),
            (
                &["fetch", "d", "--properties", "--sizes"],
                0,
                r#"{"path":"d","type":"string","value":null,"properties":{"PRIORITY":"low"},"size":null}"#,
            ),
            (&["fetch", "d", "--first", "1", "--last", "1"], 2, "cannot be used with"),
            (&["fetch", "d", "--depth", "1"], 2, "--depth-limit"),
            (&["fetch", "d", "--type", "colour"], 2, "expected json, string"),
        ],
    );
}

#[test]
fn series_are_appended_to_edited_and_queried() {
    let server = Server::start(2);
    check(
        &server,
        &[
            (&["add", "s", "--type", "time_series", "--property", "TIME_SERIES_EVENT_VALUE_TYPE=double"], 0, ""),
            (&["series", "append", "s", "1.5", "--timestamp", "1000"], 0, r#"{"sequence":0,"timestamp":1000}"#),
            (&["series", "append", "s", "-2", "--timestamp", "1970-01-01T00:00:02Z"], 0, r#"{"sequence":1,"timestamp":2000}"#),
            (&["series", "append", "s", "1", "--timestamp", "1999"], 1, "error 222 invalid_timestamp"),
            (&["series", "append", "s", "1", "--timestamp", "yesterday"], 2, "expected milliseconds since 1970"),
            (&["series", "append", "s", "x"], 2, "the value is not double"),
            (&["series", "append", "none", "1"], 1, "error 202"),
            (&["series", "edit", "s", "7", "1"], 1, "error 223 no_such_event"),
            (&["series", "query", "s", "--from", "last:1"], 0, r#"{"sequence":1,"timestamp":2000,"author":"","value":-2}"#),
            (&["series", "query", "s", "--to", "next:1"], 0, r#"{"sequence":0,"timestamp":1000,"author":"","value":1.5}"#),
            (&["series", "query", "s", "--to", "until-last:1s"], 0, r#"{"sequence":0,"timestamp":1000,"author":"","value":1.5}"#),
            (&["series", "query", "s", "--edits", "all"], 0, ""),
            (&["series", "query", "s", "--from", "now"], 2, "expected start, seq:N"),
            (&["series", "query", "s", "--to", "last:1"], 2, "expected end, seq:N"),
        ],
    );
    assert_eq!(server.command(&["series", "edit", "s", "0", "9"]).status.code(), Some(0));
    let lines = |arguments: &[&str]| -> Vec<serde_json::Value> {
        let output = server.command(arguments);
        String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("lines are JSON")).collect()
    };
    let values = lines(&["series", "query", "s"]);
    assert_eq!((&values[0]["sequence"], &values[0]["original"], &values[0]["value"]), (&2.into(), &0.into(), &9.into()));
    assert_eq!(lines(&["series", "query", "s", "--edits", "latest", "--from", "seq:0", "--edit-from", "seq:2"]).len(), 1);
    assert_eq!(lines(&["series", "query", "s", "--edits", "all", "--edit-to", "seq:1"]).len(), 0);
    assert_eq!(lines(&["series", "query", "s", "--limit", "1"])[0]["sequence"], 1);
}

#[test]
fn spec_shows_what_is_in_force() {
    let server = Server::start(2);
    let shown = concat!(
        r#"{"path":"a","type":"int64","properties":{"PRIORITY":"low"},"#,
        r#""defaults":{"CONFLATION":"conflate","DONT_RETAIN_VALUE":"false","OWNER":"none","PERSISTENT":"true","#,
        r#""REMOVAL":"none","TIDY_ON_UNSUBSCRIBE":"false","VALIDATE_VALUES":"false"}}"#
    );
    check(
        &server,
        &[
            (&["add", "a", "--type", "int64", "--property", "PRIORITY=low"], 0, ""),
            (&["spec", "a"], 0, shown),
            (&["spec", "none"], 1, "error 202 no_such_topic"),
            (&["spec", "a//b"], 1, "error 200 invalid_path"),
        ],
    );
}

#[test]
fn spec_check_needs_no_server_and_points_at_the_place() {
    let check = |arguments: &[&str], code, says: &str| {
        let arguments = [&["spec", "check"], arguments].concat();
        check_output(&arguments, &tidewire(&arguments).output().expect("the binary starts"), code, says);
    };
    check(&["json", "CONFLATION=sometimes"], 2, "  CONFLATION=sometimes\n             ^\n");
    check(&["json", "REMOVAL=when no updates for 5x"], 2, "  REMOVAL=when no updates for 5x\n                               ^\n");
    check(&["time_series"], 2, "property TIME_SERIES_EVENT_VALUE_TYPE");
    check(&["colour"], 2, "expected json, string");
    let output = tidewire(&["spec", "check", "int64", "COMPRESSION=high", "priority=low"]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0));
    assert!(errors.contains("COMPRESSION means nothing for int64 topics") && errors.contains("PRIORITY is one"), "{errors}");
}

/// The lines that a command prints until it is ended.
struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Running {
    fn start(server: &Server, arguments: &[&str]) -> Self {
        let mut child = server.client(arguments).stdout(Stdio::piped()).spawn().expect("the binary starts");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { child, lines }
    }

    fn expect(&mut self, line: &str) {
        assert_eq!(self.lines.next().expect("a line comes").expect("the output is text"), line);
    }

    /// Of a line whose rest depends on the clock.
    fn expect_parts(&mut self, parts: &[&str]) {
        let line = self.lines.next().expect("a line comes").expect("the output is text");
        assert!(parts.iter().all(|part| line.contains(part)), "{line}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        terminate(&self.child);
        let _ = self.child.wait();
    }
}

#[test]
fn sub_shows_null_events_and_properties() {
    let server = Server::start(2);
    server.command(&["add", "n", "--type", "int64", "--property", "PRIORITY=low"]);
    let mut sub = Running::start(&server, &["sub", "?.*//"]);
    sub.expect(r#"{"event":"subscribed","path":"n","type":"int64","properties":{"PRIORITY":"low"}}"#);
    server.command(&["set", "n", "5"]);
    sub.expect(r#"{"event":"value","path":"n","type":"int64","value":5}"#);
    server.command(&["set", "n", "--null"]);
    sub.expect(r#"{"event":"value","path":"n","type":"int64","value":null}"#);
    server.command(&["add", "s", "--type", "time_series", "--property", "TIME_SERIES_EVENT_VALUE_TYPE=json"]);
    sub.expect(r#"{"event":"subscribed","path":"s","type":"time_series","properties":{"TIME_SERIES_EVENT_VALUE_TYPE":"json"}}"#);
    server.command(&["series", "append", "s", "1", "--timestamp", "1000"]);
    sub.expect(r#"{"event":"event","path":"s","type":"time_series","sequence":0,"timestamp":1000,"author":"","value":1}"#);
    server.command(&["series", "edit", "s", "0", "2"]);
    sub.expect_parts(&[r#""event":"event""#, r#""sequence":1"#, r#""original":0"#, r#""value":2"#]);
}

#[test]
fn listen_shows_notices() {
    let server = Server::start(2);
    server.command(&["add", "a", "--type", "json"]);
    let mut listen = Running::start(&server, &["listen", "a", "--subscribers", "--missing", "a"]);
    listen.expect(r#"{"notice":"topic","what":"selected","path":"a","type":"json","properties":{}}"#);
    server.command(&["add", "a/b", "--type", "string", "--property", "PRIORITY=low"]);
    listen.expect(r#"{"notice":"descendant","what":"added","path":"a/b"}"#);
    server.command(&["fetch", "a/none"]);
    listen.expect_parts(&[r#""notice":"missing","selector":">a/none","session":""#, r#""$Principal":"""#]);
    let sub = Running::start(&server, &["sub", "a"]);
    listen.expect(r#"{"notice":"subscribers","path":"a","has_subscribers":true}"#);
    drop(sub);
    listen.expect(r#"{"notice":"subscribers","path":"a","has_subscribers":false}"#);
    server.command(&["remove", "a"]);
    listen.expect(r#"{"notice":"topic","what":"removed","path":"a","type":"json","properties":{}}"#);
}

#[test]
fn every_command_explains_itself() {
    for command in ["set", "add", "patch", "fetch", "sub", "remove", "listen", "spec", "series", "latency"] {
        let output = tidewire(&[command, "--help"]).output().expect("the binary starts");
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && printed.contains("Usage: tidewire") && !printed.contains('\x1b'), "{printed}");
    }
}
