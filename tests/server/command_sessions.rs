//! `tidewire sessions` and `tidewire session`.

use crate::client::{Session, connect_ask};
use crate::server::Server;
use serde_json::{Value, json};
use std::process::Output;
use tidewire::surface::wire::native::Ask;

fn connect(server: &Server, properties: &[(&'static str, &'static str)]) -> Session {
    let mut ask = connect_ask(60_000, "", 0);
    let Ask::Connect { properties: said, .. } = &mut ask else { unreachable!() };
    *said = properties.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    Session::open(server.address, ask)
}

fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn check(server: &Server, arguments: &[&str], code: i32, says: &str) {
    let output = server.command(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
    assert_eq!(errors.trim_end(), says, "{arguments:?}");
}

#[test]
fn sessions_are_listed_over_all_pages() {
    let server = Server::start_with(2, &[("LIMITS_FETCH_PAGE_MAX", "3")]);
    let gold: Vec<Session> = (0..7).map(|_| connect(&server, &[("Tier", "gold")])).collect();
    let _other = connect(&server, &[]);
    let listed = lines(&server.command(&["sessions", "--filter", "Tier is 'gold'"]));
    let mut ids: Vec<&str> = listed.iter().map(|session| session["session"].as_str().expect("text")).collect();
    ids.sort_unstable();
    let mut expected: Vec<&str> = gold.iter().map(|session| &*session.id).collect();
    expected.sort_unstable();
    assert_eq!(ids, expected);
    assert_eq!(
        (&listed[0]["properties"]["Tier"], &listed[0]["away"], &listed[0]["queue_bytes"]),
        (&json!("gold"), &json!(false), &json!(0))
    );
    assert_eq!(listed[0]["properties"]["$ClientIP"], "127.0.0.1");
    assert_eq!(lines(&server.command(&["sessions", "--first", "4"])).len(), 4);
    // The command's own session is one of all.
    assert_eq!(lines(&server.command(&["sessions", "--slowest", "--first", "3"])).len(), 3);
    assert_eq!(lines(&server.command(&["sessions"])).len(), 9);
    let output = server.command(&["sessions", "--filter", "Tier"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(1) && errors.starts_with("error 318 invalid_filter: ") && errors.contains("(at byte 4)"),
        "{errors}"
    );
}

#[test]
fn sessions_are_steered_by_id_and_by_filter() {
    let server = Server::start(2);
    let mut one = connect(&server, &[("Tier", "gold")]);
    let mut two = connect(&server, &[("Tier", "gold")]);
    let (first, gold) = (one.id.clone(), ["--filter", "Tier is 'gold'"]);
    let listed = |wanted: &str| lines(&server.command(&["sessions", "--filter", wanted]));
    check(&server, &["session", "set", &first, "Desk=7", "Trial=1"], 0, "set: 1 session");
    check(&server, &["session", "set", gold[0], gold[1], "Trial="], 0, "set: 2 sessions");
    assert_eq!(listed("Desk is '7' and not has Trial").len(), 1);
    check(&server, &["session", "conflate", gold[0], gold[1]], 0, "conflated: 2 sessions");
    assert!(listed(gold[1]).iter().all(|session| session["conflated"] == true));
    check(&server, &["session", "conflate", &first, "--off"], 0, "no longer conflated: 1 session");
    assert_eq!(listed(&format!("$SessionId is '{first}'"))[0]["conflated"], false);
    one.subscribe("?a//").unwrap();
    one.subscribe_in("b", "s").unwrap();
    let expected =
        [json!({ "scope": "", "selector": "?a//", "kind": "select" }), json!({ "scope": "s", "selector": ">b", "kind": "select" })];
    assert_eq!(lines(&server.command(&["session", "selections", &first])), expected);
    check(&server, &["session", "close", &first, "--reason", "enough"], 0, "closed: 1 session");
    assert_eq!(one.wait_for_close(), 4106);
    let gone = format!("error: there is no session '{first}' any more");
    check(&server, &["session", "close", &first], 1, &gone);
    check(&server, &["session", "selections", &first], 1, "error 317 no_such_session: the session is over");
    check(&server, &["session", "close", gold[0], gold[1]], 0, "closed: 1 session");
    assert_eq!(two.wait_for_close(), 4106);
    check(&server, &["session", "close", gold[0], gold[1]], 0, "closed: 0 sessions");
}

#[test]
fn who_is_meant_is_said_in_one_way() {
    let server = Server::start(1);
    let either = "error: expected either the id of a session or --filter";
    check(&server, &["session", "close"], 2, either);
    check(&server, &["session", "close", "x", "--filter", "all"], 2, either);
    check(&server, &["session", "conflate"], 2, either);
    check(&server, &["session", "set", "x"], 2, "error: expected KEY=VALUE behind the session's id");
    check(&server, &["session", "set", "--filter", "all", "Tier"], 2, "error: 'Tier': expected KEY=VALUE");
    check(&server, &["session", "close", "nobody"], 1, "error 317 no_such_session: there is no session 'nobody'");
    let output = server.command(&["session", "set", "--filter", "all", "$Principal=me"]);
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("error 319 invalid_session_property: "));
}
