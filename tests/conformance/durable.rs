//! Sessions of the native protocol that outlive the server, when the disk does not take what is to be kept of them.

use crate::peer::{WALL_MS, limits};
use crate::server::{Client, Server};
use serde_json::{Value, json};
use tidewire::surface::shard::Storing;

fn begin(server: &mut Server) -> (Client, Value) {
    let client = server.upgrade("tidewire.1.json");
    let welcome = server.ok(client, json!({ "op": "connect", "resume_ms": 60_000, "durable": true }));
    assert_eq!(welcome["durable"], true);
    (client, welcome)
}

fn go_on(server: &mut Server, welcome: &Value) -> (Client, Vec<Value>) {
    let client = server.upgrade("tidewire.1.json");
    let told = server.ask(client, json!({ "op": "connect", "id": 1, "token": welcome["token"], "resume_ms": 60_000 }));
    (client, told)
}

#[test]
fn what_changes_while_storage_fails_is_kept_when_it_is_there_again() {
    let mut server = Server::with(Storing::Memory, limits());
    let (client, welcome) = begin(&mut server);
    server.stored_last();
    server.fail_storage("no space");
    for number in 0..8 {
        server.ok(client, json!({ "op": "subscribe", "selector": format!("a/{number}") }));
    }
    server.recover_storage();
    let before = server.stored_last();
    server.advance(100);
    assert_eq!(server.stored_last() - before, 1, "one record for all that has changed");
    let mut server = server.restart(WALL_MS + 1000);
    let (client, told) = go_on(&mut server, &welcome);
    assert_eq!(
        (&told[0]["op"], &told[0]["session"], &told[0]["restored"]),
        (&json!("welcome"), &welcome["session"], &json!(true)),
        "{told:?}"
    );
    let session = welcome["session"].clone();
    let listed = server.ok(client, json!({ "op": "list_selections", "session": session }));
    assert_eq!(listed["selections"].as_array().map(Vec::len), Some(8));
}

#[test]
fn many_changes_of_one_turn_are_one_record() {
    let mut server = Server::with(Storing::Memory, limits());
    let (client, _) = begin(&mut server);
    let before = server.stored_last();
    let many: Vec<Value> = (0..8).map(|number| json!({ "op": "subscribe", "id": 2 + number, "selector": format!("a/{number}") })).collect();
    assert_eq!(server.ask(client, Value::from(many)).len(), 8);
    assert_eq!(server.stored_last() - before, 1);
}

#[test]
fn the_time_away_goes_on_while_the_server_is() {
    for (away_ms, is_there) in [(59_000, true), (61_000, false)] {
        let mut server = Server::with(Storing::Memory, limits());
        let (client, welcome) = begin(&mut server);
        server.close(client);
        let mut server = server.restart(WALL_MS + away_ms);
        let (_, told) = go_on(&mut server, &welcome);
        assert_eq!(told[0]["op"] == "welcome", is_there, "{away_ms}: {told:?}");
    }
}
