//! The commands: what they print, and their exit codes: 0 done, 1 refused by the server, 2 usage or the operator's to change, 3 no connection.

use crate::server::{Server, terminate, tidewire};
use std::io::{BufRead, BufReader};
use std::process::{Output, Stdio};

fn check(output: &Output, code: i32, stdout: &str) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{errors}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), stdout, "{errors}");
}

/// The command fails with this code, and says something with this in it.
fn check_failure(arguments: &[&str], code: i32, says: &str) {
    let output = tidewire(arguments).output().expect("the binary starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
    assert!(errors.contains(says), "{arguments:?}: {errors}");
}

#[test]
fn what_is_set_is_fetched_as_json_lines() {
    let server = Server::start(2);
    check(&server.command(&["set", "a/json", r#"{ "x": 1 }"#]), 0, "");
    check(&server.command(&["set", "a/string", "Grüße", "--type", "string"]), 0, "");
    check(&server.command(&["set", "a/int64", "-5", "--type", "int64"]), 0, "");
    check(&server.command(&["set", "a/binary", "0x00ff", "--type", "binary"]), 0, "");
    check(&server.command(&["set", "a/string", "an existing topic keeps its type"]), 0, "");
    let lines = [
        r#"{"path":"a/binary","type":"binary","value":"AP8="}"#,
        r#"{"path":"a/int64","type":"int64","value":-5}"#,
        r#"{"path":"a/json","type":"json","value":{"x":1}}"#,
        r#"{"path":"a/string","type":"string","value":"an existing topic keeps its type"}"#,
    ];
    check(&server.command(&["fetch", "?a//"]), 0, &(lines.join("\n") + "\n"));
}

#[test]
fn fetch_goes_on_to_the_last_page() {
    let server = Server::start_with(2, &[("LIMITS_FETCH_PAGE_MAX", "2")]);
    let mut session = server.connect();
    for number in 0..5 {
        session.add(&number.to_string(), tidewire::surface::value::ValueType::Json).unwrap();
    }
    let lines: String = (0..5).map(|number| format!("{{\"path\":\"{number}\",\"type\":\"json\",\"value\":null}}\n")).collect();
    check(&server.command(&["fetch", "*.*"]), 0, &lines);
}

#[test]
fn remove_removes() {
    let server = Server::start(2);
    server.command(&["set", "a/b", "1"]);
    check(&server.command(&["remove", "?a//"]), 0, "");
    check(&server.command(&["fetch", "*.*"]), 0, "");
}

#[test]
fn sub_prints_what_happens() {
    let server = Server::start(2);
    server.command(&["set", "a", "1"]);
    let mut child = server.client(&["sub", "a"]).stdout(Stdio::piped()).spawn().expect("the binary starts");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines().map(|line| line.expect("the output is text"));
    assert_eq!(lines.next().as_deref(), Some(r#"{"event":"subscribed","path":"a","type":"json","properties":{}}"#));
    assert_eq!(lines.next().as_deref(), Some(r#"{"event":"value","path":"a","type":"json","value":1}"#));
    server.command(&["set", "a", "2"]);
    assert_eq!(lines.next().as_deref(), Some(r#"{"event":"value","path":"a","type":"json","value":2}"#));
    server.command(&["remove", "a"]);
    assert_eq!(lines.next().as_deref(), Some(r#"{"event":"unsubscribed","path":"a","type":"json","reason":"removed"}"#));
    terminate(&child);
    child.wait().expect("it is our child");
}

#[test]
fn sub_ends_with_3_when_the_server_stops() {
    let server = Server::start(1);
    server.command(&["set", "a", "1"]);
    let mut child = server.client(&["sub", "a"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the binary starts");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    assert!(lines.next().is_some());
    drop(server);
    assert_eq!(child.wait().expect("it is our child").code(), Some(3));
}

#[test]
fn latency_prints_a_table_and_writes_histograms() {
    let server = Server::start(2);
    let mut session = server.connect();
    session.subscribe("a").unwrap();
    for value in [b"1", b"2"] {
        session.add_and_set("a", tidewire::surface::value::ValueType::Json, value).unwrap();
        session.wait_for_value("a", value);
    }
    let folder = std::env::temp_dir().join(format!("tidewire-latency-{}", std::process::id()));
    let output = server.command(&["latency", "--hgrm", folder.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    let printed = String::from_utf8_lossy(&output.stdout);
    for when in ["in the last 10 s", "since the start"] {
        assert!(printed.contains(&format!("publish_to_socket {when} (µs)")), "{printed}");
    }
    let written = std::fs::read_to_string(folder.join("publish_to_socket.hgrm")).unwrap();
    assert!(written.contains("Percentile"), "{written}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_refusal_is_1() {
    let server = Server::start(1);
    for (arguments, says) in [
        (["set", "a//b", "1"], "error 200 invalid_path"),
        (["set", "a", "{"], "error 205 invalid_value"),
        (["fetch", "?a/(", "--json"], "error 201 invalid_selector"),
        (["sub", "?a/(", "--json"], "error 201 invalid_selector"),
    ] {
        let output = server.command(&arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {errors}");
        assert!(errors.contains(says) && errors.contains("(at byte "), "{arguments:?}: {errors}");
    }
}

#[test]
fn usage_is_2() {
    let server = Server::start(1);
    check(&server.command(&["set", "a", "x", "--type", "int64"]), 2, "");
    check_failure(&["set", "a", "1", "--type", "colour"], 2, "expected json, string, int64, double, binary or time_series");
    check_failure(&["frobnicate"], 2, "frobnicate");
    check_failure(&["fetch"], 2, "<SELECTOR>");
}

#[test]
fn no_server_is_3() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("ws://127.0.0.1:{port}");
    for arguments in [["set", "a", "1"], ["fetch", "a", "--json"], ["sub", "a", "--json"]] {
        check_failure(&[&arguments[..], &["--server", &url]].concat(), 3, &format!("cannot connect to {url}"));
    }
    check_failure(&["remove", "a", "--server", &url], 3, &format!("cannot connect to {url}"));
    check_failure(&["fetch", "a", "--server", "http://localhost"], 3, "must begin with ws://");
}

#[test]
fn a_port_that_is_taken_is_2() {
    let server = Server::start(1);
    let address = server.address.to_string();
    check_failure(
        &["serve", "--dev", "--ephemeral", "--listen", &address, "--mqtt", "off", "--shards", "1"],
        2,
        &format!("cannot listen on {address}"),
    );
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    check_failure(
        &["serve", "--dev", "--ephemeral", "--listen", &address, "--mqtt", "off", "--shards", "1"],
        2,
        &format!("cannot listen on {address}"),
    );
}

#[test]
fn a_port_for_mqtt_that_is_taken_is_2() {
    let server = Server::start_with_mqtt(1, &[]);
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = [server.mqtt.expect("it serves MQTT"), server.address, other.local_addr().unwrap()];
    for address in taken.map(|address| address.to_string()) {
        let arguments = ["serve", "--dev", "--ephemeral", "--listen", "127.0.0.1:0", "--mqtt", &address, "--shards", "1"];
        check_failure(&arguments, 2, &format!("cannot listen for MQTT on {address}: Address already in use"));
        check_failure(&arguments, 2, "--mqtt ADDR:PORT chooses another, --mqtt off none");
    }
}

#[test]
fn one_port_cannot_be_both() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let arguments = ["serve", "--dev", "--ephemeral", "--listen", &address, "--mqtt", &address, "--shards", "1"];
    check_failure(&arguments, 2, &format!("cannot listen for MQTT on {address}"));
}

#[test]
fn broken_flags_and_settings_are_2() {
    check_failure(&["serve", "--listen", "nowhere"], 2, "--listen");
    check_failure(&["serve", "--mqtt", "on"], 2, "--mqtt");
    check_failure(&["serve", "--dev", "--mqtt", "0.0.0.0:0"], 2, "authentication.chain");
    check_failure(&["serve", "--shards", "300"], 2, "--shards");
    check_failure(&["serve", "--dev", "--listen", "0.0.0.0:0"], 2, "authentication.chain");
    check_failure(&["serve", "--config", "/nonexistent/tidewire.toml"], 2, "/nonexistent/tidewire.toml");
    let output = tidewire(&["serve"]).env("TIDEWIRE_SESSION_KEEP_ALIVE_MS", "soon").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("TIDEWIRE_SESSION_KEEP_ALIVE_MS"));
}

#[test]
fn the_default_configuration_is_a_valid_file() {
    let output = tidewire(&["config", "default"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let file = std::env::temp_dir().join(format!("tidewire-config-{}.toml", std::process::id()));
    let name = file.to_str().unwrap();
    std::fs::write(&file, &output.stdout).unwrap();
    check(&tidewire(&["config", "check", name]).output().unwrap(), 0, &format!("{name}: ok\n"));
    std::fs::write(&file, "[session]\nkeep_alive = 5\n").unwrap();
    check_failure(&["config", "check", name], 2, "keep_alive_ms");
    std::fs::remove_file(&file).unwrap();
    check_failure(&["config", "check", name], 2, name);
}
