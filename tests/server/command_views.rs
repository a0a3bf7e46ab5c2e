//! `tidewire view`: views of a server, and what one would make of topics that are given on the command line.

use crate::server::{PATIENCE, Server, tidewire};
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Its exit code, and exactly what it prints or, of one that fails, what its error contains.
fn check(arguments: &[&str], output: &Output, code: i32, says: &str) {
    let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
    match code {
        0 => assert_eq!(printed.trim_end(), says, "{arguments:?}: {errors}"),
        _ => assert!(errors.contains(says), "{arguments:?}: {errors}"),
    }
}

/// What `tidewire view try` prints of its one source.
fn attempt(arguments: &[&str], code: i32) -> Value {
    let output = tidewire(&[&["view", "try"], arguments].concat()).output().expect("the binary starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {errors}"))
}

fn check_refused(arguments: &[&str], says: &str) {
    let arguments = [&["view"], arguments].concat();
    check(&arguments, &tidewire(&arguments).output().expect("the binary starts"), 2, says);
}

/// A command prints this, if not at once: what a view makes follows its sources from shard to shard.
fn check_in_the_end(server: &Server, arguments: &[&str], says: &str) {
    let started = Instant::now();
    loop {
        let output = server.command(arguments);
        if String::from_utf8_lossy(&output.stdout).trim_end() == says || started.elapsed() > PATIENCE {
            return check(arguments, &output, 0, says);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn with_stdin(mut command: Command, text: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    child.stdin.take().expect("it is piped").write_all(text.as_bytes()).expect("it reads");
    child.wait_with_output().expect("it ends")
}

fn reference(path: &str, kind: &str, value: Value) -> Value {
    json!({ "path": path, "type": kind, "value": value, "properties": {} })
}

#[test]
fn try_shows_what_a_view_would_make() {
    let view = "map ?a/ to b/<scalar(/name)> as <value(/price)>";
    let expected = json!({
        "source": "a/1", "matched": true, "references": [reference("b/gold", "json", json!(7))],
        "failures": 0, "last_failure": "", "looked_up": [],
    });
    assert_eq!(attempt(&[view, "--source", r#"a/1={ "name": "gold", "price": 7 }"#], 0), expected);
    let elsewhere = attempt(&[view, "--source", "z=1"], 0);
    assert_eq!((&elsewhere["matched"], &elsewhere["references"]), (&json!(false), &json!([])));
    let expanded = attempt(&["map a to b/<expand(/x)>", "--source", r#"a={"x":{"k":1,"l":[2]}}"#], 0);
    assert_eq!(expanded["references"], json!([reference("b/k", "json", json!(1)), reference("b/l", "json", json!([2]))]));
}

#[test]
fn try_knows_types_and_properties() {
    let view = "map a to b type STRING with properties 'CONFLATION':'always'";
    let made = attempt(&[view, "--source", "a=7", "--type", "a=int64"], 0);
    let expected = json!([{ "path": "b", "type": "string", "value": "7", "properties": { "CONFLATION": "always" } }]);
    assert_eq!(made["references"], expected);
    let text = attempt(&["map a to b", "--source", "a=x=y", "--type", "a=string"], 0);
    assert_eq!(text["references"], json!([reference("b", "string", json!("x=y"))]));
}

#[test]
fn try_looks_topics_up_among_those_given() {
    let view = "map ?a/ to b/<path(1)> insert names/<scalar(/id)> key /long at /name default 'none'";
    let topics = ["--topic", r#"names/7={"long":"seven"}"#];
    let found = attempt(&[&[view, "--source", r#"a/1={"id":7}"#], &topics[..]].concat(), 0);
    assert_eq!(found["references"], json!([reference("b/1", "json", json!({ "id": 7, "name": "seven" }))]));
    assert_eq!(found["looked_up"], json!([{ "path": "names/7", "found": true }]));
    let missing = attempt(&[&[view, "--source", r#"a/1={"id":8}"#], &topics[..]].concat(), 0);
    assert_eq!(missing["references"], json!([reference("b/1", "json", json!({ "id": 8, "name": "none" }))]));
    assert_eq!(missing["looked_up"], json!([{ "path": "names/8", "found": false }]));
}

#[test]
fn try_tells_what_fails() {
    let made = attempt(&["map a to b process { set(/x, calc '/y / 0') }", "--source", r#"a={"y":1}"#], 1);
    assert_eq!((&made["references"], &made["failures"]), (&json!([]), &json!(1)));
    assert!(made["last_failure"].as_str().is_some_and(|why| !why.is_empty()), "{made}");
    let filtered = attempt(&["map a to b process { if '/y > 1' continue }", "--source", r#"a={"y":1}"#], 0);
    assert_eq!((&filtered["references"], &filtered["failures"]), (&json!([]), &json!(0)));
}

#[test]
fn try_evaluates_each_source() {
    let arguments = ["view", "try", "map ?a/ to b/<path(1)>", "--source", "a/1=1", "--source", "a/2=2"];
    let output = tidewire(&arguments).output().expect("the binary starts");
    let lines: Vec<Value> = output.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    assert_eq!(lines.iter().map(|line| line["references"][0]["path"].as_str()).collect::<Vec<_>>(), [Some("b/1"), Some("b/2")]);
}

#[test]
fn what_makes_no_sense_is_refused_without_a_server() {
    check_refused(&["try", "map a ot b", "--source", "a=1"], "  map a ot b\n        ^\n");
    check_refused(&["try", "map a to b"], "--source");
    check_refused(&["try", "map a to b", "--source", "a"], "expected PATH=VALUE");
    check_refused(&["try", "map a to b", "--source", "a//b=1"], "a//b");
    check_refused(&["try", "map a to b", "--source", "a={"], "a: the value is not json");
    check_refused(&["try", "map a to b", "--source", "a=x", "--type", "a=int64"], "a: the value is not int64");
    check_refused(&["try", "map a to b", "--source", "a=1", "--topic", "a=2"], "'a' is given twice");
    check_refused(&["try", "map a to b", "--source", "a=1", "--type", "b=json"], "--type is given for 'b'");
    check_refused(&["try", "map a to b", "--source", "a=1", "--type", "a=colour"], "expected json, string");
    check_refused(&["try", "@/none/such", "--source", "a=1"], "@/none/such: ");
    check_refused(&["create", "n", "map a\n  ot b"], "    ot b\n    ^\n");
    check_refused(&["create", "n"], "<TEXT>");
}

#[test]
fn a_definition_is_read_from_stdin_or_a_file() {
    let text = "map a\n  to b\n";
    let piped = with_stdin(tidewire(&["view", "try", "-", "--source", "a=1"]), text);
    assert_eq!(serde_json::from_slice::<Value>(&piped.stdout).expect("JSON")["references"][0]["path"], "b");
    let file = std::env::temp_dir().join(format!("tidewire-view-{}", std::process::id()));
    std::fs::write(&file, text).unwrap();
    let from_file = attempt(&[&format!("@{}", file.display()), "--source", "a=1"], 0);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(from_file["references"][0]["path"], "b");
    let broken = with_stdin(tidewire(&["view", "try", "-", "--source", "a=1"]), "map a\n  ot b\n");
    check(&["-"], &broken, 2, "line 2, column 3");
}

#[test]
fn views_are_created_listed_shown_and_removed() {
    let server = Server::start(2);
    let run = |arguments: &[&str], code, says: &str| {
        let arguments = [&["view"], arguments].concat();
        check(&arguments, &server.command(&arguments), code, says);
    };
    let said = |arguments: &[&str]| String::from_utf8_lossy(&server.command(arguments).stderr).trim_end().to_owned();
    let lines = |arguments: &[&str]| -> Vec<Value> {
        let output = server.command(arguments);
        String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("lines are JSON")).collect()
    };
    run(&["list"], 0, "");
    assert_eq!(said(&["view", "create", "one", "map ?a/ to b/<path(1)>"]), "created");
    assert_eq!(said(&["view", "create", "two", "map ?b/ to c/<path(1)> as <value(/x)>"]), "created");
    assert_eq!(said(&["view", "create", "one", "map ?a/ to b/<path(1)>\n  as <value(/y)>"]), "replaced");
    check(&["set"], &server.command(&["set", "a/1", r#"{"y":{"x":5}}"#]), 0, "");
    check_in_the_end(&server, &["fetch", "c/1"], r#"{"path":"c/1","type":"json","value":5}"#);
    let listed = lines(&["view", "list"]);
    let of = |member: &str| listed.iter().map(|view| view[member].clone()).collect::<Vec<_>>();
    assert_eq!((of("name"), of("place")), (vec![json!("one"), json!("two")], vec![json!(1), json!(2)]));
    assert_eq!((of("sources"), of("references"), of("failures")), (vec![json!(1); 2], vec![json!(1); 2], vec![json!(0); 2]));
    assert_eq!(lines(&["view", "show", "one"])[0]["definition"], "map ?a/ to b/<path(1)>\n  as <value(/y)>");
    check(&["set"], &server.command(&["set", "b/1", "1"]), 1, "error 234 read_only_topic");
    run(&["show", "none"], 1, "error 230 no_such_view");
    assert_eq!(said(&["view", "remove", "two"]), "removed");
    assert_eq!(said(&["view", "remove", "two"]), "there was no view 'two'");
    let left = [r#"{"path":"a/1","type":"json","value":{"y":{"x":5}}}"#, r#"{"path":"b/1","type":"json","value":{"x":5}}"#];
    check_in_the_end(&server, &["fetch", "?.*//"], &left.join("\n"));
    run(&["create", "circle", "map ?x// to x/<path(1)>"], 1, "error 233 cyclic_view");
}

#[test]
fn every_view_command_explains_itself() {
    for command in ["create", "list", "show", "remove", "try"] {
        let output = tidewire(&["view", command, "--help"]).output().expect("the binary starts");
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && printed.contains("Usage: tidewire view") && !printed.contains('\x1b'), "{printed}");
    }
}
