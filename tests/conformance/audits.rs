//! What is noted of who did what, and that nothing is noted that somebody showed for a principal.

use crate::frames::{FIN, TEXT, frame};
use crate::peer::Peer;
use crate::permissions;
use serde_json::{Value, json};
use std::net::IpAddr;
use tidewire::surface::base::Time;
use tidewire::surface::shard::{Identified, Limits, Unidentified, Who};

const SCRIPT: &str = r#"
set "ADMIN" permissions [VIEW_SECURITY, MODIFY_SECURITY, MODIFY_SESSION, VIEW_SESSION, MODIFY_TOPIC_VIEWS]
set "ADMIN" default path permissions [MODIFY_TOPIC, UPDATE_TOPIC, SELECT_TOPIC, READ_TOPIC, EXPOSE_BRANCH]
"#;

/// Stands wherever a client shows something for a principal.
const SECRET: &str = "hunter2";

fn peer() -> Peer {
    let limits = Limits { audits: true, ..permissions::limits(SCRIPT) };
    let mut peer = Peer::within(limits).from(IpAddr::from([192, 0, 2, 7]));
    peer.give(crate::handshake::request("tidewire.1.json").as_bytes());
    peer
}

fn say(peer: &mut Peer, text: &str) -> Vec<Value> {
    peer.give(&frame(FIN | TEXT, text.as_bytes()));
    (1..4).for_each(|turn| peer.tick(turn));
    noted(peer)
}

/// The lines, each of somebody at the same address and without what must not be there.
fn noted(peer: &mut Peer) -> Vec<Value> {
    let lines = peer.take_noted();
    for line in &lines {
        assert!(line["address"] == "192.0.2.7" && line["time"] == "2025-01-01T00:00:00.000Z", "{line}");
        assert!(!line.to_string().contains(SECRET), "{line}");
    }
    lines
}

fn connect(peer: &mut Peer, principal: &str, roles: &[&str]) -> Vec<Value> {
    let asked = json!({ "op": "connect", "id": 1, "principal": principal, "password": SECRET });
    assert_eq!(say(peer, &asked.to_string()), [Value::Null; 0]);
    let roles = roles.iter().map(|role| (*role).into()).collect();
    peer.identify(Identified::As(Who::new(principal.into(), roles, None), Box::default()));
    noted(peer)
}

fn connected(roles: &[&str]) -> Peer {
    let mut peer = peer();
    connect(&mut peer, "ann", roles);
    peer
}

/// What the lines say, without what every line says.
fn said(lines: &[Value]) -> Vec<Value> {
    let without = |line: &Value| {
        let mut members = line.as_object().expect("a line is an object").clone();
        ["time", "address"].iter().for_each(|name| drop(members.remove(*name)));
        assert_eq!(members.remove("principal"), Some("ann".into()), "{line}");
        assert!(members.remove("session").is_some_and(|session| session.as_str().is_some_and(|name| name.contains('-'))), "{line}");
        Value::Object(members)
    };
    lines.iter().map(without).collect()
}

#[test]
fn who_connects_is_noted_with_roles_and_session() {
    let lines = connect(&mut peer(), "ann", &["B", "A \"x\""]);
    let expected = json!({ "event": "connect", "outcome": "allowed", "protocol": "native", "roles": ["A \"x\"", "B"], "resumed": false });
    assert_eq!(said(&lines), [expected]);
}

#[test]
fn who_is_not_let_in_is_noted_with_the_reason() {
    for outcome in ["refused", "later"] {
        let identified = |said| if outcome == "later" { Identified::Later { wait_ms: 10, said } } else { Identified::Refused(said) };
        for shown in ["password", "bearer"] {
            let mut peer = peer();
            say(&mut peer, &json!({ "op": "connect", "id": 1, "principal": "ann", shown: SECRET }).to_string());
            peer.identify(identified(Unidentified { principal: "ann".into(), why: "it is another".into() }));
            let line = &noted(&mut peer)[0];
            assert_eq!((&line["event"], &line["outcome"], &line["session"]), (&"connect".into(), &outcome.into(), &"".into()));
            assert_eq!((&line["principal"], &line["reason"]), (&"ann".into(), &"it is another".into()));
        }
    }
    let mut peer = peer();
    let lines = say(&mut peer, &json!({ "op": "connect", "id": 1, "token": SECRET }).to_string());
    assert_eq!((lines.len(), &lines[0]["outcome"], &lines[0]["resumed"]), (1, &"refused".into(), &true.into()), "{lines:?}");
}

#[test]
fn a_page_that_is_refused_is_noted_without_what_was_shown() {
    let ask = |identified: Option<Identified>, authorization: &str| {
        let mut peer = Peer::within(Limits { audits: true, ..permissions::limits(SCRIPT) }).from(IpAddr::from([192, 0, 2, 7]));
        let head = format!("GET /latency?key={SECRET} HTTP/1.1\r\nHost: server.example.com\r\nAuthorization: {authorization}\r\n\r\n");
        let head = if identified.is_none() { head } else { head.replace(&format!("?key={SECRET}"), "") };
        peer.give(head.as_bytes());
        identified.into_iter().for_each(|identified| peer.identify(identified));
        noted(&mut peer)
    };
    let who = || Unidentified { principal: "ann".into(), why: "it is another".into() };
    let lines = ask(Some(Identified::Refused(who())), &format!("Bearer {SECRET}"));
    let expected = json!({
        "time": "2025-01-01T00:00:00.000Z", "event": "http", "outcome": "refused", "principal": "ann", "address": "192.0.2.7", "session": "",
        "reason": "it is another", "status": 401, "method": "GET", "path": "/latency",
    });
    assert_eq!(lines, [expected]);
    let lines = ask(Some(Identified::Later { wait_ms: 10, said: who() }), "Bearer x");
    assert_eq!((&lines[0]["outcome"], &lines[0]["status"]), (&"later".into(), &503.into()));
    let lines = ask(Some(Identified::As(Who::new("ann".into(), Vec::new(), None), Box::default())), "Bearer x");
    assert_eq!((&lines[0]["principal"], &lines[0]["status"]), (&"ann".into(), &403.into()));
    let lines = ask(None, &format!("Other {SECRET}"));
    assert_eq!((&lines[0]["status"], &lines[0]["path"]), (&401.into(), &"/latency".into()));
}

#[test]
fn what_a_session_may_not_do_is_noted_so_often_a_second() {
    let mut peer = connected(&[]);
    let lines = say(&mut peer, r#"{"op":"set","id":9,"path":"a/b","type":"json","value":"hunter2"}"#);
    let reason = "this needs the permission UPDATE_TOPIC at 'a/b'";
    assert_eq!(said(&lines), [json!({ "event": "denied", "outcome": "refused", "operation": "update", "reason": reason })]);
    // Faults are no refusals.
    assert!(say(&mut peer, r#"{"op":"set","id":9,"path":"","type":"json","value":1}"#).is_empty());
    let many: Vec<Value> = (0..30).map(|id| json!({ "op": "list_locks", "id": id })).collect();
    let lines = said(&say(&mut peer, &Value::from(many).to_string()));
    assert!(lines.len() == 9 && lines.iter().all(|line| line["operation"] == "list_locks"), "{lines:?}");
    let lines = said(&say(&mut peer, r#"{"op":"close"}"#));
    assert_eq!(lines, [json!({ "event": "denied", "outcome": "refused", "left_out": 21 })]);
}

#[test]
fn changes_of_security_are_noted_by_names_and_without_scripts() {
    let mut peer = connected(&["ADMIN"]);
    let mut apply = |op: &str, script: &str, checks: bool| {
        let lines = say(&mut peer, &json!({ "op": op, "id": 9, "script": script, "check": checks }).to_string());
        if lines.is_empty() {
            peer.change_principals("");
            (1..4).for_each(|turn| peer.tick(turn));
            return said(&noted(&mut peer));
        }
        said(&lines)
    };
    let roles = "set \"B\" permissions []\nset \"A\" permissions []\nset \"B\" includes [\"C\"]";
    let line = |outcome: &str| json!({ "event": "security", "outcome": outcome, "store": "roles", "statements": 3, "roles": ["A", "B"] });
    assert_eq!(apply("apply_security", roles, false), [line("applied")]);
    assert_eq!(apply("apply_security", roles, true), [line("checked")]);
    let wrong = json!({ "event": "security", "outcome": "refused", "store": "roles", "code": "invalid_script", "line": 2 });
    assert_eq!(apply("apply_security", &format!("isolate path \"a\"\nset {SECRET}"), false), [wrong]);
    let cycle = "set \"A\" includes [\"B\"]\nset \"B\" includes [\"A\"]";
    let refused = &apply("apply_security", cycle, false)[0];
    assert_eq!((&refused["outcome"], &refused["code"]), (&"refused".into(), &"invalid_script".into()));

    let script = format!("add principal \"bob\" \"{SECRET}\"\nset password \"bob\" \"{SECRET}\"\nverify password \"carl\" \"{SECRET}\"");
    let line = |outcome: &str| json!({ "event": "security", "outcome": outcome, "store": "principals", "statements": 3, "principals": ["bob", "carl"] });
    assert_eq!(apply("apply_principals", &script, false), [line("applied")]);
    assert_eq!(apply("apply_principals", &script, true), [line("checked")]);
    for wrong in
        [format!("{SECRET} \"bob\""), format!("add principal \"bob\" {SECRET}"), format!("add principal \"bob\" \"x\" \"{SECRET}\"")]
    {
        let lines = apply("apply_principals", &wrong, false);
        assert_eq!((&lines[0]["outcome"], &lines[0]["line"]), (&"refused".into(), &1.into()), "{wrong}");
    }
}

#[test]
fn what_a_session_does_to_others_is_noted() {
    let mut peer = connected(&["ADMIN"]);
    let mut ask = |request: &str| said(&say(&mut peer, request));
    let line = |more: Value| {
        let mut line = json!({ "event": "control", "outcome": "done", "filter": "$Principal is \"ann\"", "sessions": 1 });
        line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        line
    };
    let who = r#""id":9,"filter":"$Principal is 'ann'""#;
    let lines = ask(&format!(r#"{{"op":"set_session_properties",{who},"properties":{{"tier":"hunter2","x":""}}}}"#));
    assert_eq!(lines, [line(json!({ "operation": "set_session_properties", "properties": ["tier", "x"] }))]);
    let lines = ask(&format!(r#"{{"op":"change_roles",{who},"add":["C"],"remove":["D"]}}"#));
    assert_eq!(lines, [line(json!({ "operation": "change_roles", "added": ["C"], "removed": ["D"] }))]);
    let lines = ask(&format!(r#"{{"op":"conflate_sessions",{who},"conflated":true}}"#));
    assert_eq!(lines, [line(json!({ "operation": "conflate_sessions", "conflated": true }))]);
    for operation in ["subscribe_sessions", "unsubscribe_sessions"] {
        let lines = ask(&format!(r#"{{"op":"{operation}",{who},"selector":">a"}}"#));
        assert_eq!(lines, [line(json!({ "operation": operation, "selector": ">a", "scope": "" }))]);
    }
    // Nobody is changed by being looked at.
    assert!(ask(r#"{"op":"list_sessions","id":9}"#).is_empty());
    // The session that ordered it is over with that.
    let lines = ask(&format!(r#"{{"op":"close_sessions",{who},"message":"go"}}"#));
    assert_eq!((lines.len(), &lines[0]["operation"], &lines[0]["message"]), (1, &"close_sessions".into(), &"go".into()), "{lines:?}");
}

#[test]
fn views_and_session_trees_are_noted() {
    let mut peer = connected(&["ADMIN"]);
    let mut ask = |request: Value| said(&say(&mut peer, &request.to_string()));
    let view = |operation: &str| json!({ "event": "view", "outcome": "done", "operation": operation, "name": "v" });
    let definition = "map ?a/ to b/<path(1)>";
    let lines = ask(json!({ "op": "create_view", "id": 9, "name": "v", "definition": definition }));
    let mut created = view("create_view");
    created["definition"] = definition.into();
    assert_eq!(lines, [created]);
    assert_eq!(ask(json!({ "op": "remove_view", "id": 9, "name": "v" })), [view("remove_view")]);
    let mut missing = view("remove_view");
    (missing["outcome"], missing["code"]) = ("refused".into(), "no_such_view".into());
    let lines = ask(json!({ "op": "remove_view", "id": 9, "name": "v" }));
    assert!(lines == [missing] || lines[0]["outcome"] == "done", "{lines:?}");
    let put = json!({ "op": "put_session_tree", "id": 9, "branch": "m", "mappings": [["all", "a"]] });
    let tree = json!({ "event": "session_tree", "outcome": "done", "operation": "put_session_tree", "branch": "m", "mappings": 1, "shows": ["a"] });
    assert_eq!(ask(put), [tree]);
}

#[test]
fn a_session_that_has_to_show_anew_who_it_is_is_noted_at_its_end() {
    let mut peer = peer();
    say(&mut peer, r#"{"op":"connect","id":1,"principal":"ann"}"#);
    peer.identify(Identified::As(Who::new("ann".into(), Vec::new(), Some(Time(2_000_000_000))), Box::default()));
    noted(&mut peer);
    peer.tick(1900);
    assert!(noted(&mut peer).is_empty());
    peer.tick(2100);
    assert_eq!(said(&noted(&mut peer)), [json!({ "event": "session_end", "outcome": "expired" })]);
}

#[test]
fn nothing_is_noted_where_nobody_wants_it() {
    let mut peer = Peer::within(permissions::limits(SCRIPT));
    peer.give(crate::handshake::request("tidewire.1.json").as_bytes());
    connect(&mut peer, "ann", &[]);
    assert!(say(&mut peer, r#"{"op":"list_locks","id":2}"#).is_empty());
}
