//! The generator's binary against a small server: whole runs, and each fault seen as what it is.

mod mock;

use mock::Fault;
use mock::text::Protocol;
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output};

fn generate(url: &str, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidewire-loadtest"))
        .args(["--url", url, "--warmup", "100ms", "--duration", "400ms"])
        .args(arguments.split_whitespace())
        .output()
        .expect("the binary is built")
}

fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("tidewire-loadtest-{}-{name}", std::process::id()))
}

/// Runs against a server with `fault` and returns the exit code and the only stage's JSON.
fn run(name: &str, fault: Fault, arguments: &str) -> (Option<i32>, Value) {
    run_at(&format!("ws://{}", mock::start(fault)), name, arguments)
}

fn run_at(url: &str, name: &str, arguments: &str) -> (Option<i32>, Value) {
    let path = scratch(name);
    let output = generate(url, &format!("{arguments} --json {}", path.display()));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: no result: {error}\n{told}"));
    std::fs::remove_file(&path).unwrap();
    let result: Value = serde_json::from_str(&text).unwrap();
    (output.status.code(), result["stages"][0].clone())
}

fn check_whole(name: &str, arguments: &str, delivered: u64) {
    let (code, stage) = run(name, Fault::None, arguments);
    assert_eq!(stage["faults"], serde_json::json!([]), "{name}");
    assert_eq!(stage["delivered"], delivered, "{name}");
    assert_eq!(code, Some(0), "{name}");
}

fn check_fault(name: &str, fault: Fault, arguments: &str, key: &str) {
    let (code, stage) = run(name, fault, &format!("--subscribers 3 --rate 100 {arguments}"));
    assert!(stage[key].as_u64().unwrap() > 0, "{name}: {stage:#}");
    assert_eq!(code, Some(1), "{name}");
}

#[test]
fn every_update_reaches_every_subscriber() {
    check_whole("plain", "--subscribers 5 --rate 200", 500);
    check_whole("json", "--subscribers 2 --rate 100 --type json --verify", 100);
    check_whole("string", "--subscribers 2 --rate 100 --type string --verify --payload 3000", 100);
    check_whole("busy", "--subscribers 2 --rate 100 --busy-poll", 100);
    check_whole("acknowledged", "--subscribers 1 --rate 100 --acknowledged", 50);
    check_whole("publish-only", "--subscribers 0 --rate 100 --acknowledged", 0);
}

#[test]
fn topics_are_shared_among_publishers_and_subscribers() {
    check_whole("topics", "--topics 7 --publishers 3 --subscribers 4 --rate 20", 7 * 10 * 4);
    check_whole("fan-out", "--topics 6 --publishers 2 --subscribers 4 --fan-out 2 --rate 20", 6 * 10 * 2);
}

#[test]
fn idle_and_stalled_connections_stand_beside() {
    check_whole("beside", "--subscribers 3 --idle 20 --stalled 4 --rate 100 --sources 3", 150);
}

#[test]
fn faults_are_counted_as_what_they_are() {
    check_fault("drop", Fault::Drop, "", "skipped");
    check_fault("repeat", Fault::Repeat, "", "duplicates");
    check_fault("hold", Fault::Hold, "", "out_of_order");
    check_fault("corrupt", Fault::Corrupt, "--verify", "corrupt");
    check_fault("close", Fault::CloseSubscribers, "", "missing_last");
}

#[test]
fn deltas_are_applied_and_their_values_checked() {
    let (code, stage) = run("deltas", Fault::None, "--subscribers 3 --rate 100 --deltas --payload 300");
    assert_eq!(code, Some(0), "{stage:#}");
    assert_eq!((&stage["delivered"], &stage["deltas"]), (&Value::from(150), &Value::from(150)));
}

#[test]
fn conflation_can_be_allowed() {
    let (code, stage) = run("conflation", Fault::Drop, "--subscribers 2 --rate 80 --allow-conflation");
    assert_eq!(code, Some(0), "{stage:#}");
    assert!(stage["skipped"].as_u64().unwrap() > 0);
}

fn check_mqtt_whole(name: &str, arguments: &str, delivered: u64) -> Value {
    let (code, stage) = run_at(&format!("mqtt://{}", mock::mqtt::start(Fault::None)), name, arguments);
    assert_eq!(stage["faults"], serde_json::json!([]), "{name}");
    assert_eq!(stage["delivered"], delivered, "{name}");
    assert_eq!(code, Some(0), "{name}");
    stage
}

#[test]
fn every_update_reaches_every_subscriber_over_mqtt() {
    let stage = check_mqtt_whole("mqtt", "--subscribers 5 --rate 200 --verify", 500);
    assert_eq!(stage["deliveries_acknowledged"], Value::Null);
    check_mqtt_whole("mqtt-5", "--mqtt-version 5 --subscribers 3 --rate 100 --payload 3000", 150);
    check_mqtt_whole("mqtt-retain", "--retain --subscribers 3 --rate 100", 150);
    check_mqtt_whole("mqtt-topics", "--topics 7 --publishers 3 --subscribers 4 --rate 20", 7 * 10 * 4);
    check_mqtt_whole("mqtt-fan-out", "--topics 6 --publishers 2 --subscribers 4 --fan-out 2 --rate 20", 6 * 10 * 2);
    check_mqtt_whole("mqtt-beside", "--subscribers 3 --idle 20 --stalled 4 --rate 100 --retain", 150);
}

#[test]
fn deliveries_and_updates_over_mqtt_are_acknowledged() {
    for (name, arguments) in [
        ("mqtt-qos-1", "--qos 1"),
        ("mqtt-qos-2", "--qos 2"),
        ("mqtt-5-qos-1", "--qos 1 --mqtt-version 5"),
        ("mqtt-5-qos-2", "--qos 2 --mqtt-version 5"),
    ] {
        let stage = check_mqtt_whole(name, &format!("{arguments} --subscribers 4 --rate 200"), 400);
        assert_eq!(stage["deliveries_acknowledged"], 400, "{name}");
        assert!(stage["acknowledgement"]["count"].as_u64().unwrap() > 50, "{name}");
    }
}

#[test]
fn mqtt_goes_over_websocket_too() {
    let url = format!("ws://{}", mock::mqtt::start(Fault::None));
    let (code, stage) = run_at(&url, "mqtt-websocket", "--dialect mqtt --qos 1 --subscribers 3 --rate 100");
    assert_eq!((code, &stage["delivered"], &stage["deliveries_acknowledged"]), (Some(0), &Value::from(150), &Value::from(150)));
}

#[test]
fn faults_over_mqtt_are_counted_as_what_they_are() {
    for (name, fault, key) in [("mqtt-drop", Fault::Drop, "skipped"), ("mqtt-repeat", Fault::Repeat, "duplicates")] {
        let (code, stage) = run_at(&format!("mqtt://{}", mock::mqtt::start(fault)), name, "--subscribers 3 --rate 100");
        assert!(stage[key].as_u64().unwrap() > 0, "{name}: {stage:#}");
        assert_eq!(code, Some(1), "{name}");
    }
    let output = generate(&format!("mqtt://{}", mock::mqtt::start(Fault::RefuseSubscribe)), "--subscribers 1");
    assert_eq!(output.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&output.stderr).contains("with 128"), "{output:?}");
}

const TEXT_PROTOCOLS: [(Protocol, &str); 2] = [(Protocol::Tidewire, "json"), (Protocol::Centrifugo, "centrifugo")];

/// Runs against a server that speaks JSON.
fn run_text(protocol: Protocol, dialect: &str, name: &str, fault: Fault, arguments: &str) -> (Option<i32>, Value) {
    let url = format!("ws://{}", mock::text::start(protocol, fault));
    run_at(&url, &format!("{dialect}-{name}"), &format!("--dialect {dialect} {arguments}"))
}

#[test]
fn every_update_reaches_every_subscriber_in_json() {
    for (protocol, dialect) in TEXT_PROTOCOLS {
        for (name, arguments, delivered) in [
            ("plain", "--subscribers 5 --rate 200 --verify", 500),
            ("large", "--subscribers 2 --rate 100 --payload 3000 --verify", 100),
            ("acknowledged", "--subscribers 1 --rate 100 --acknowledged", 50),
            ("topics", "--topics 7 --publishers 3 --subscribers 4 --rate 20", 7 * 10 * 4),
            ("pairs", "--topics 6 --publishers 6 --subscribers 6 --fan-out 1 --rate 20", 6 * 10),
            ("beside", "--subscribers 3 --idle 20 --stalled 4 --rate 100", 150),
        ] {
            let (code, stage) = run_text(protocol, dialect, name, Fault::None, arguments);
            assert_eq!(stage["faults"], serde_json::json!([]), "{dialect} {name}");
            assert_eq!((code, &stage["delivered"]), (Some(0), &Value::from(delivered)), "{dialect} {name}");
            // Nothing that is delivered is acknowledged; Centrifugo answers every publication.
            assert_eq!(stage["deliveries_acknowledged"], Value::Null);
            let answers = stage["acknowledgement"]["count"].as_u64().unwrap_or(0);
            assert_eq!(answers > 0, protocol == Protocol::Centrifugo || name == "acknowledged", "{dialect} {name}");
        }
    }
}

#[test]
fn faults_in_json_are_counted_as_what_they_are() {
    for (protocol, dialect) in TEXT_PROTOCOLS {
        for (name, fault, key) in
            [("drop", Fault::Drop, "skipped"), ("repeat", Fault::Repeat, "duplicates"), ("corrupt", Fault::Corrupt, "corrupt")]
        {
            let (code, stage) = run_text(protocol, dialect, name, fault, "--subscribers 3 --rate 100");
            assert!(stage[key].as_u64().unwrap() > 0, "{dialect} {name}: {stage:#}");
            assert_eq!(code, Some(1), "{dialect} {name}");
        }
        let (code, stage) = run_text(protocol, dialect, "malformed", Fault::Malformed, "--subscribers 3 --rate 100");
        assert_eq!(code, Some(1));
        assert_eq!(stage["closed"]["a JSON value starts with a character that starts none"], 3, "{dialect}: {stage:#}");
    }
}

#[test]
fn refusals_in_json_tell_their_code() {
    let told = ["to subscribe to load/x/0 with 201 (invalid_selector): not today", "to subscribe to load/x/0 with 103: permission denied"];
    for ((protocol, dialect), told) in TEXT_PROTOCOLS.into_iter().zip(told) {
        let url = format!("ws://{}", mock::text::start(protocol, Fault::RefuseSubscribe));
        let output = generate(&url, &format!("--dialect {dialect} --subscribers 1 --root load/x"));
        assert_eq!(output.status.code(), Some(4));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains(told), "{text}");
    }
}

#[test]
fn a_refusal_tells_its_code() {
    let output = generate(&format!("ws://{}", mock::start(Fault::RefuseSubscribe)), "--subscribers 1");
    assert_eq!(output.status.code(), Some(4));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("201 (invalid_selector): not today"), "{told}");
}

#[test]
fn a_server_that_is_not_there_is_exit_code_3() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = generate(&format!("ws://{free}"), "--subscribers 1");
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("refused"));
}

#[test]
fn wrong_flags_are_exit_code_2() {
    assert_eq!(generate("http://127.0.0.1:1", "").status.code(), Some(2));
    assert_eq!(generate("ws://127.0.0.1:1", "--payload 3").status.code(), Some(2));
    assert_eq!(generate("ws://127.0.0.1:1", "--no-such-flag").status.code(), Some(2));
}

#[test]
fn a_search_ends_at_the_first_rate_that_does_not_hold() {
    // 25, 50 and 100 updates: the third stage passes the eightieth.
    let (page, json) = (scratch("page.html"), scratch("search.json"));
    let files = format!("--html {} --json {}", page.display(), json.display());
    let address = mock::start(Fault::DropLate);
    let output = generate(&format!("ws://{address}"), &format!("--subscribers 2 --rate 50 --find-max --step 2 --p99-max 10s {files}"));
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let result: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!(result["highest_rate_held"], 100.0);
    assert_eq!(result["stages"].as_array().unwrap().len(), 3);
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(text.contains("Latency at each rate") && text.contains("p99.999"));
    std::fs::remove_file(&page).unwrap();
    std::fs::remove_file(&json).unwrap();
}

#[test]
fn a_missed_bar_fails_the_run() {
    let (code, stage) = run("bar", Fault::None, "--subscribers 1 --rate 50 --p99-max 0ms");
    assert_eq!(code, Some(1));
    assert!(stage["faults"][0].as_str().unwrap().contains("p99 is"), "{stage:#}");
}

/// What somebody hears who guesses for a second, and how that ends.
fn guess(fault: Fault) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_guess"))
        .args(["--server", &mock::start(fault).to_string()])
        .args("--rate 200 --duration 1 --sources 5".split_whitespace())
        .output()
        .expect("the binary is built");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn answers_to_wrong_passwords_are_counted_by_what_they_say() {
    let (code, told) = guess(Fault::RefuseConnect);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("from 5 addresses\n") && told.contains(" 0 let in") && told.contains(" 0 connections failed"), "{told}");
    assert!(!told.contains("\n0 refused") && !told.contains(" 0 told to come later"), "{told}");
}

#[test]
fn who_lets_a_wrong_password_in_fails() {
    let (code, told) = guess(Fault::None);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("\n0 refused, 0 told to come later"), "{told}");
}
