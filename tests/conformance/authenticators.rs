//! Sessions that say who clients are.

use crate::permissions;
use crate::server::{Client, Server};
use serde_json::json;
use tidewire::surface::shard::{Limits, Storing};

const SCRIPT: &str = r#"
set "auth" permissions [AUTHENTICATE, REGISTER_HANDLER]
set "handler" permissions [REGISTER_HANDLER]
set "authenticate" permissions [AUTHENTICATE]
set "all" default path permissions [SELECT_TOPIC, READ_TOPIC, UPDATE_TOPIC, MODIFY_TOPIC, SEND_TO_SESSION, SEND_TO_MESSAGE_HANDLER]
set "all" permissions [AUTHENTICATE, REGISTER_HANDLER, VIEW_SESSION, MODIFY_SESSION, MODIFY_SECURITY]
"#;

const QUESTION: &str = r#"{"principal":"ann"}"#;

fn server() -> Server {
    let limits = permissions::limits(SCRIPT);
    Server::with(Storing::Off, Limits { authenticators: ["users".into(), "devices".into()].into(), connections_max: 100, ..limits })
}

fn connect(server: &mut Server, role: &str) -> Client {
    let client = server.connect_as("tidewire.1.json", role);
    server.take(client);
    client
}

fn authenticator(server: &mut Server, handler: u64, name: &str) -> Client {
    let client = connect(server, "auth");
    server.ok(client, json!({ "op": "handle_authentication", "handler": handler, "name": name }));
    client
}

#[test]
fn a_session_is_asked_and_answers() {
    let mut server = server();
    let client = authenticator(&mut server, 7, "users");
    server.ask_authenticators(1, "users", QUESTION);
    let asked = server.take(client);
    let expected = json!({ "op": "requested", "handler": 7, "request": 1, "session": "", "path": "Tidewire/Authentication/users",
        "properties": {}, "type": "json", "value": { "principal": "ann" } });
    assert_eq!(asked, [expected]);
    server.ok(client, json!({ "op": "respond", "request": 1, "value": { "verdict": "allow" } }));
    assert_eq!(server.take_judged(), [(1, Ok(r#"{"verdict":"allow"}"#.to_owned()))]);
    server.ask_authenticators(2, "users", QUESTION);
    server.take(client);
    server.ok(client, json!({ "op": "reject", "request": 2, "message": "the directory is down" }));
    assert_eq!(server.take_judged(), [(2, Err(315))]);
}

#[test]
fn where_no_session_answers_it_is_known_at_once_or_in_time() {
    let mut server = server();
    server.ask_authenticators(1, "users", QUESTION);
    assert_eq!(server.take_judged(), [(1, Err(310))]);
    let client = authenticator(&mut server, 1, "users");
    // Another name's is not asked, nor is a client that handles what is above.
    server.ask_authenticators(2, "devices", QUESTION);
    assert_eq!((server.take_judged(), server.take(client).len()), (vec![(2, Err(310))], 0));
    server.ask_authenticators(3, "users", QUESTION);
    server.advance(4999);
    assert_eq!(server.take_judged(), []);
    server.advance(1);
    assert_eq!(server.take_judged(), [(3, Err(311))]);
    // Its session ends.
    server.ask_authenticators(4, "users", QUESTION);
    server.close(client);
    assert_eq!(server.take_judged(), [(4, Err(312))]);
    server.ask_authenticators(5, "users", QUESTION);
    assert_eq!(server.take_judged(), [(5, Err(310))]);
}

#[test]
fn of_several_the_one_with_the_fewest_is_asked_and_one_that_is_away_is_passed_over() {
    let mut server = server();
    let clients = [1, 2].map(|handler| authenticator(&mut server, handler, "users"));
    (1..=6).for_each(|number| server.ask_authenticators(number, "users", QUESTION));
    assert_eq!(clients.map(|client| server.take(client).len()), [3, 3]);
    server.close(clients[0]);
    server.take_judged();
    (7..=8).for_each(|number| server.ask_authenticators(number, "users", QUESTION));
    assert_eq!(server.take(clients[1]).len(), 2);
    // It gives it up, and may still answer what it was asked.
    server.ok(clients[1], json!({ "op": "unhandle_requests", "handler": 2 }));
    server.ask_authenticators(9, "users", QUESTION);
    server.ok(clients[1], json!({ "op": "respond", "request": 1, "value": {} }));
    assert_eq!(server.take_judged().last().map(|(_, said)| said.is_ok()), Some(true));
}

#[test]
fn only_who_may_is_an_authenticator_and_of_a_name_that_is_asked() {
    let mut server = server();
    for role in ["handler", "authenticate", "nobody"] {
        let client = connect(&mut server, role);
        let why = server.refuse(client, json!({ "op": "handle_authentication", "id": 1, "handler": 1, "name": "users" }), 110, None);
        let missing = if role == "authenticate" { "REGISTER_HANDLER" } else { "AUTHENTICATE" };
        assert!(why.contains(missing), "{role}: {why}");
    }
    let client = connect(&mut server, "auth");
    for name in ["others", "", "users/a"] {
        let why = server.refuse(client, json!({ "op": "handle_authentication", "id": 1, "handler": 1, "name": name }), 106, None);
        assert!(why.contains(&format!("authentication.chain has no 'control:{name}'")), "{why}");
    }
}

#[test]
fn no_client_asks_an_authenticator() {
    let mut server = server();
    let authenticator = authenticator(&mut server, 1, "users");
    let client = connect(&mut server, "all");
    let session = server.ok(client, json!({ "op": "list_sessions", "filter": "$Principal is 'auth'" }))["sessions"][0]["session"].clone();
    let path = "Tidewire/Authentication/users";
    server.refuse(client, json!({ "op": "request", "id": 1, "path": path, "value": 1 }), 209, Some(0));
    server.refuse(client, json!({ "op": "request_session", "id": 1, "session": session, "path": path, "value": 1 }), 209, Some(0));
    server.refuse(client, json!({ "op": "request_filter", "id": 1, "filter": "all", "path": path, "value": 1 }), 209, Some(0));
    server.refuse(client, json!({ "op": "handle_requests", "id": 1, "handler": 1, "path": path }), 209, Some(0));
    assert!(server.take(authenticator).is_empty());
}

#[test]
fn who_loses_the_permission_is_asked_no_more() {
    let mut server = server();
    let client = authenticator(&mut server, 1, "users");
    server.ok(client, json!({ "op": "handle_requests", "handler": 2, "path": "a" }));
    server.ask_authenticators(9, "users", QUESTION);
    server.take(client);
    let admin = connect(&mut server, "all");
    server.ok(admin, json!({ "op": "apply_security", "script": "set \"auth\" permissions [REGISTER_HANDLER]" }));
    assert_eq!(server.take_judged(), [(9, Err(312))]);
    server.ask_authenticators(1, "users", QUESTION);
    assert_eq!(server.take_judged(), [(1, Err(310))]);
    server.refuse(client, json!({ "op": "respond", "id": 1, "request": 1, "value": { "verdict": "allow" } }), 316, None);
    // What else it handles goes on.
    server.ask(admin, json!({ "op": "request", "id": 5, "path": "a", "value": 1 }));
    assert_eq!(server.take(client).len(), 1);
}
