//! What sessions may do: each operation with and without its permission, and what is not seen without one.

use crate::frames::{FIN, TEXT, frame};
use crate::mqtt_client::lines;
use crate::mqtt_packets::{Connect, Packet, V5, connect, persistent, publish, subscribe};
use crate::mqtt_peer::{Broker, Client};
use crate::peer::{self, Peer};
use serde_json::{Value, json};
use std::sync::Arc;
use tidewire::surface::security::{SecurityLimits, SecurityStore};
use tidewire::surface::shard::{Identified, Limits, Who};

const SCRIPT: &str = r#"
set "READER" default path permissions [SELECT_TOPIC, READ_TOPIC]
set "READER" path "secret" permissions []
set "WRITER" default path permissions [MODIFY_TOPIC, UPDATE_TOPIC]
set "ALL" default path permissions [SELECT_TOPIC, READ_TOPIC, UPDATE_TOPIC, MODIFY_TOPIC, ACQUIRE_LOCK, SEND_TO_SESSION, SEND_TO_MESSAGE_HANDLER]
set "ALL" permissions [VIEW_SESSION, MODIFY_SESSION, REGISTER_HANDLER, READ_TOPIC_VIEWS, MODIFY_TOPIC_VIEWS]
"#;

pub fn limits(script: &str) -> Limits {
    let store = SecurityStore::parse(script, SecurityLimits::default()).unwrap();
    Limits { authenticates: true, security: Some(Arc::new(store)), ..peer::limits() }
}

/// A client, by name and roles.
pub fn as_who(principal: &str, roles: &[&str]) -> Identified {
    Identified::As(Who::new(principal.into(), roles.iter().map(|role| (*role).into()).collect(), None), Box::default())
}

fn say(peer: &mut Peer, text: &str) -> String {
    peer.give(&frame(FIN | TEXT, text.as_bytes()));
    (1..4).for_each(|turn| peer.tick(turn));
    String::from_utf8_lossy(&peer.take()).into_owned()
}

fn peer_with(roles: &[&str]) -> Peer {
    let mut peer = Peer::upgraded_within("tidewire.1.json", limits(SCRIPT));
    say(&mut peer, r#"{"op":"connect","id":1,"principal":"ann"}"#);
    peer.identify(as_who("ann", roles));
    peer.take();
    peer
}

fn is_denied(heard: &str) -> bool {
    heard.contains(r#""code":110,"name":"access_denied""#)
}

#[test]
fn without_a_permission_every_request_is_refused() {
    let requests = [
        r#"{"op":"add","id":9,"path":"a","type":"json"}"#,
        r#"{"op":"set","id":9,"path":"a","type":"json","value":1}"#,
        r#"{"op":"remove","id":9,"selector":"?a//"}"#,
        r#"{"op":"fetch","id":9,"selector":"?.*//"}"#,
        r#"{"op":"fetch","id":9,"selector":"a"}"#,
        r#"{"op":"subscribe","id":9,"selector":"?.*//"}"#,
        r#"{"op":"lock","id":9,"name":"a"}"#,
        r#"{"op":"list_locks","id":9}"#,
        r#"{"op":"list_sessions","id":9}"#,
        r#"{"op":"list_views","id":9}"#,
    ];
    for text in requests {
        let mut peer = peer_with(&[]);
        let heard = say(&mut peer, text);
        assert!(is_denied(&heard), "{text}: {heard}");
        let mut peer = peer_with(&["ALL"]);
        let heard = say(&mut peer, text);
        assert!(!is_denied(&heard), "{text}: {heard}");
    }
}

#[test]
fn what_may_not_be_read_is_not_there_for_who_selects_it() {
    let mut peer = peer_with(&["READER", "WRITER"]);
    say(&mut peer, r#"[{"op":"add_and_set","id":2,"path":"news","type":"json","value":1}]"#);
    let heard = say(&mut peer, r#"{"op":"add","id":3,"path":"secret/x","type":"json"}"#);
    assert!(is_denied(&heard) && heard.contains("MODIFY_TOPIC at 'secret/x'"), "{heard}");
    let heard = say(&mut peer, r#"{"op":"subscribe","id":4,"selector":"?secret//"}"#);
    assert!(is_denied(&heard) && heard.contains("anywhere in 'secret'"), "{heard}");
    let heard = say(&mut peer, r#"{"op":"subscribe","id":5,"selector":"?.*//"}"#);
    assert!(heard.contains(r#""path":"news""#) && !is_denied(&heard), "{heard}");
}

/// What a script of `CHANGES` is to the session that may apply it, and sees all.
fn apply(peer: &mut Peer, script: &str) -> String {
    say(peer, &format!(r#"{{"op":"apply_security","id":99,"script":{}}}"#, serde_json::Value::from(script)))
}

const ADMIN: &str = r#"
set "ADMIN" permissions [VIEW_SECURITY, MODIFY_SECURITY, MODIFY_SESSION]
set "ADMIN" default path permissions [MODIFY_TOPIC, UPDATE_TOPIC]
set "READER" default path permissions [SELECT_TOPIC, READ_TOPIC]
"#;

fn admin() -> Peer {
    let mut peer = Peer::upgraded_within("tidewire.1.json", limits(ADMIN));
    say(&mut peer, r#"{"op":"connect","id":1,"principal":"ann"}"#);
    peer.identify(as_who("ann", &["ADMIN", "READER"]));
    peer.take();
    for path in ["a/1", "a/2", "b/1"] {
        let heard = say(&mut peer, &format!(r#"{{"op":"add_and_set","id":2,"path":"{path}","type":"json","value":1}}"#));
        assert!(heard.contains(r#""op":"ok""#), "{heard}");
    }
    peer
}

#[test]
fn a_change_of_what_roles_permit_takes_effect_on_what_a_session_has() {
    let mut peer = admin();
    say(&mut peer, r#"{"op":"listen","id":3,"listener":1,"kind":"topics","selector":"?.*//"}"#);
    let heard = say(&mut peer, r#"{"op":"subscribe","id":4,"selector":"?.*//"}"#);
    assert_eq!(heard.matches(r#""op":"subscribed""#).count(), 3, "{heard}");

    let heard = apply(&mut peer, r#"set "READER" path "a" permissions [UPDATE_TOPIC]"#);
    assert_eq!(heard.matches(r#""reason":"access_denied""#).count(), 2, "{heard}");
    assert_eq!(heard.matches(r#""what":"deselected""#).count(), 2, "{heard}");
    // When it is answered nothing comes any more that may not be read.
    assert!(heard.rfind(r#""reason":"access_denied""#) < heard.find(r#""op":"ok","id":99"#), "{heard}");
    let heard = say(&mut peer, r#"{"op":"set","id":5,"path":"a/1","type":"json","value":2}"#);
    assert!(heard.contains(r#""op":"ok""#) && !heard.contains(r#""op":"value""#), "{heard}");
    let heard = say(&mut peer, r#"{"op":"fetch","id":6,"selector":"?.*//","values":true}"#);
    assert!(heard.contains("b/1") && !heard.contains("a/1") && !heard.contains("a/2"), "{heard}");

    let heard = apply(&mut peer, r#"set "READER" path "a/2" permissions [READ_TOPIC, SELECT_TOPIC]"#);
    assert_eq!(heard.matches(r#""op":"subscribed""#).count(), 1, "{heard}");
    assert!(heard.contains(r#""path":"a/2""#) && !heard.contains("a/1"), "{heard}");
    assert_eq!(heard.matches(r#""what":"selected""#).count(), 1, "{heard}");
}

#[test]
fn a_script_is_applied_as_a_whole_or_not_at_all() {
    let mut peer = admin();
    let heard = apply(&mut peer, "isolate path \"a\"\nset \"X\" permissions [FLY]");
    assert!(heard.contains(r#""code":111"#) && heard.contains("line 2"), "{heard}");
    let heard = say(&mut peer, r#"{"op":"get_security","id":5}"#);
    assert!(heard.contains(r#""has_more":false"#) && heard.contains("MODIFY_SECURITY") && !heard.contains("isolate"), "{heard}");
    let heard = say(&mut peer, r#"{"op":"apply_security","id":6,"check":true,"script":"isolate path \"a\""}"#);
    assert!(heard.contains(r#""op":"ok""#), "{heard}");
    let heard = say(&mut peer, r#"{"op":"get_security","id":7}"#);
    assert!(!heard.contains("isolate"), "{heard}");
    // Who takes its own rights has them no more for what comes behind.
    let heard = apply(&mut peer, r#"set "ADMIN" permissions [MODIFY_SESSION]"#);
    assert!(heard.contains(r#""op":"ok""#), "{heard}");
    assert!(is_denied(&apply(&mut peer, "isolate path \"a\"")) && is_denied(&say(&mut peer, r#"{"op":"get_security","id":8}"#)));
}

#[test]
fn roles_of_a_session_change() {
    let mut peer = admin();
    say(&mut peer, r#"{"op":"subscribe","id":4,"selector":"?.*//"}"#);
    let heard = say(&mut peer, r#"{"op":"change_roles","id":5,"filter":"$Principal is 'ann'","remove":["READER"],"add":["X"]}"#);
    assert_eq!(heard.matches(r#""reason":"access_denied""#).count(), 3, "{heard}");
    let heard = say(&mut peer, r#"{"op":"change_roles","id":6,"filter":"hasRoles ['X']","add":["READER"]}"#);
    assert_eq!(heard.matches(r#""op":"subscribed""#).count(), 3, "{heard}");
    let heard = say(&mut peer, r#"{"op":"change_roles","id":7,"filter":"all","add":[""]}"#);
    assert!(heard.contains(r#""code":106"#), "{heard}");
}

#[test]
fn principals_are_changed_elsewhere_and_known_here() {
    let mut peer = admin();
    let heard = say(&mut peer, r#"{"op":"get_principals","id":5}"#);
    assert!(heard.contains(r#""script":"""#), "{heard}");
    let heard = say(&mut peer, r#"{"op":"apply_principals","id":6,"script":"add principal \"bob\" \"pw\" [\"FLY]"}"#);
    assert!(heard.contains(r#""code":111"#) && heard.contains("line 1") && !heard.contains("pw"), "{heard}");
    assert_eq!(say(&mut peer, r#"{"op":"apply_principals","id":7,"script":"add principal \"bob\" \"pw\""}"#), "");
    assert!(!peer.change_principals("add principal \"bob\" hash \"h\" []\n"));
    let heard = say(&mut peer, r#"{"op":"get_principals","id":8}"#);
    assert!(heard.contains(r#""op":"ok","id":7"#) && heard.contains(r#"hash \"h\""#), "{heard}");
    say(&mut peer, r#"{"op":"apply_principals","id":9,"check":true,"script":"remove principal \"bob\""}"#);
    assert!(peer.change_principals("nothing"));
    assert!(say(&mut peer, r#"{"op":"get_principals","id":10}"#).contains("bob"));
    assert!(is_denied(&say(&mut peer_with(&["ALL"]), r#"{"op":"get_principals","id":5}"#)));
}

#[test]
fn a_view_reads_and_makes_what_its_creator_may() {
    let mut peer = admin();
    apply(&mut peer, "set \"ADMIN\" permissions [VIEW_SECURITY, MODIFY_SECURITY, MODIFY_SESSION, MODIFY_TOPIC_VIEWS, READ_TOPIC_VIEWS]");
    let heard = say(&mut peer, r#"{"op":"create_view","id":3,"name":"v","definition":"map ?(a|b)/ to made/<path(0)>"}"#);
    assert!(heard.contains(r#""op":"ok","id":3"#), "{heard}");
    let fetch = |peer: &mut Peer| say(peer, r#"{"op":"fetch","id":9,"selector":"?made//"}"#);
    let heard = fetch(&mut peer);
    assert!(["made/a/1", "made/a/2", "made/b/1"].iter().all(|path| heard.contains(path)), "{heard}");

    // It may not read one of its sources any more, and then it may not make one of its topics.
    apply(&mut peer, r#"set "READER" path "a/1" permissions []"#);
    let heard = fetch(&mut peer);
    assert!(!heard.contains("made/a/1") && heard.contains("made/a/2"), "{heard}");
    apply(&mut peer, r#"set "READER" path "made/a/2" permissions [SELECT_TOPIC, READ_TOPIC]"#);
    let heard = fetch(&mut peer);
    assert!(!heard.contains("made/a/2") && heard.contains("made/b/1"), "{heard}");
    let heard = say(&mut peer, r#"{"op":"get_view","id":4,"name":"v"}"#);
    assert!(heard.contains("MODIFY_TOPIC at 'made/a/2'"), "{heard}");
    apply(&mut peer, "remove \"READER\" permissions for path \"a/1\"\nremove \"READER\" permissions for path \"made/a/2\"");
    let heard = fetch(&mut peer);
    assert!(["made/a/1", "made/a/2", "made/b/1"].iter().all(|path| heard.contains(path)), "{heard}");
    apply(&mut peer, r#"set "READER" default path permissions []"#);
    let heard = say(&mut peer, r#"{"op":"create_view","id":5,"name":"w","definition":"map ?b/ to c"}"#);
    assert!(is_denied(&heard), "{heard}");
}

#[test]
fn a_topic_s_owner_may_what_its_roles_do_not_permit() {
    let mut peer = admin();
    let add = |peer: &mut Peer, path: &str, owner: &str| {
        let text = format!(
            r#"{{"op":"add_and_set","id":3,"path":"{path}","type":"json","value":1,"properties":{{"OWNER":"$Principal is '{owner}'"}}}}"#
        );
        assert!(say(peer, &text).contains(r#""op":"ok","id":3"#));
    };
    add(&mut peer, "own/ann", "ann");
    add(&mut peer, "own/bob", "bob");
    say(&mut peer, r#"{"op":"subscribe","id":4,"selector":"?own//"}"#);
    let heard = apply(&mut peer, "isolate path \"own\"");
    assert!(heard.contains(r#""path":"own/bob","reason":"access_denied""#) && !heard.contains("own/ann"), "{heard}");
    let heard = say(&mut peer, r#"{"op":"set","id":5,"path":"own/ann","type":"json","value":2}"#);
    assert!(heard.contains(r#""op":"ok","id":5"#) && heard.contains(r#""path":"own/ann","value":2"#), "{heard}");
    for text in [
        r#"{"op":"set","id":6,"path":"own/bob","type":"json","value":2}"#,
        r#"{"op":"set","id":6,"path":"own/none","type":"json","value":2}"#,
        r#"{"op":"add","id":6,"path":"own/none","type":"json"}"#,
        r#"{"op":"fetch","id":6,"selector":"own/bob"}"#,
        r#"{"op":"remove","id":6,"selector":"own/bob"}"#,
        r#"{"op":"query","id":6,"path":"own/bob"}"#,
    ] {
        let heard = say(&mut peer, text);
        assert!(is_denied(&heard), "{text}: {heard}");
    }
    let heard = say(&mut peer, r#"{"op":"fetch","id":7,"selector":"?own//"}"#);
    assert!(heard.contains("own/ann") && !heard.contains("own/bob"), "{heard}");
    let heard = say(&mut peer, r#"{"op":"remove","id":8,"selector":"?own//"}"#);
    assert!(heard.contains(r#""removed":1"#), "{heard}");
}

#[test]
fn who_is_another_now_has_what_that_one_owns() {
    let mut peer = admin();
    for owner in ["ann", "bob"] {
        say(
            &mut peer,
            &format!(
                r#"{{"op":"add_and_set","id":3,"path":"own/{owner}","type":"json","value":1,"properties":{{"OWNER":"$Principal is '{owner}'"}}}}"#
            ),
        );
    }
    apply(&mut peer, "isolate path \"own\"");
    let heard = say(&mut peer, r#"{"op":"subscribe","id":4,"selector":"?own//"}"#);
    assert!(heard.contains("own/ann") && !heard.contains("own/bob"), "{heard}");
    say(&mut peer, r#"{"op":"authenticate","id":5,"principal":"bob"}"#);
    // By the same roles.
    peer.identify(as_who("bob", &["ADMIN", "READER"]));
    let heard = say(&mut peer, r#"{"op":"ping"}"#);
    assert!(heard.contains(r#""path":"own/ann","reason":"access_denied""#) && heard.contains(r#""path":"own/bob""#), "{heard}");
    assert!(heard.find("access_denied") < heard.find(r#""op":"ok","id":5"#), "{heard}");
    // With less: when it is answered nothing comes any more that may not be read.
    say(&mut peer, r#"{"op":"subscribe","id":6,"selector":"?a//"}"#);
    say(&mut peer, r#"[{"op":"authenticate","id":7},{"op":"fetch","id":8,"selector":"?.*//"}]"#);
    peer.identify(Identified::As(None, Box::default()));
    let heard = say(&mut peer, r#"{"op":"ping"}"#);
    assert_eq!(heard.matches(r#""reason":"access_denied""#).count(), 3, "{heard}");
    assert!(heard.rfind(r#""reason":"access_denied""#) < heard.find(r#""op":"ok","id":7"#), "{heard}");
    assert!(heard.contains(r#""id":8,"code":110"#), "{heard}");
}

#[test]
fn a_removal_policy_removes_no_more_than_its_maker_may() {
    let mut peer = admin();
    let add = |selector: &str| {
        format!(r#"{{"op":"add","id":3,"path":"p","type":"json","properties":{{"REMOVAL":"when no updates for 1s remove '{selector}'"}}}}"#)
    };
    apply(&mut peer, "set \"ADMIN\" path \"a/1\" permissions [READ_TOPIC]");
    for selector in ["?.*//", "?a//", "a/1"] {
        let heard = say(&mut peer, &add(selector));
        assert!(is_denied(&heard), "{selector}: {heard}");
    }
    let heard = say(&mut peer, &add("?b//"));
    assert!(heard.contains(r#""op":"ok","id":3"#), "{heard}");
}

/// What every client may at first that waits for a lock.
const LOCKS: &str = r#"
set "ADMIN" permissions [MODIFY_SECURITY, MODIFY_SESSION]
set "LOCKS" default path permissions [ACQUIRE_LOCK]
set "FIRST" includes ["LOCKS"]
set "SECOND" includes ["LOCKS"]
set "THIRD" includes ["LOCKS"]
"#;

fn lock(broker: &mut Broker, client: Client, id: u64) -> Vec<Value> {
    broker.tell_native(client, &json!({ "op": "lock", "id": id, "name": "a/1" }));
    broker.take_native(client)
}

#[test]
fn who_may_not_acquire_a_lock_any_more_waits_for_it_no_longer() {
    for change in [
        json!({ "op": "apply_security", "script": "set \"SECOND\" path \"a\" permissions []" }),
        json!({ "op": "change_roles", "filter": "$Principal is 'SECOND'", "remove": ["SECOND"] }),
    ] {
        let mut broker = Broker::with_roles(LOCKS);
        let [admin, first, second, third] = ["ADMIN", "FIRST", "SECOND", "THIRD"].map(|role| broker.join_native_as(role));
        assert_eq!(lock(&mut broker, first, 2)[0]["op"], "ok");
        for (client, ids) in [(second, 2..4), (third, 2..3)] {
            ids.for_each(|id| assert!(lock(&mut broker, client, id).is_empty(), "it waits"));
        }
        broker.ask_native(admin, change);
        let told = broker.take_native(second);
        let refused: Vec<_> = told.iter().map(|told| (&told["id"], &told["name"])).collect();
        assert_eq!(refused, [(&json!(2), &json!("access_denied")), (&json!(3), &json!("access_denied"))]);
        assert!(told[0]["message"].as_str().is_some_and(|message| message.ends_with("ACQUIRE_LOCK at 'a/1'")), "{told:?}");
        // It has lost its place: the lock goes to the next in the line.
        broker.ask_native(first, json!({ "op": "unlock", "name": "a/1", "number": 0 }));
        assert_eq!(broker.take_native(third)[0]["op"], "ok");
        assert!(broker.take_native(second).is_empty());
        assert_eq!(lock(&mut broker, second, 4)[0]["name"], "access_denied");
    }
}

#[test]
fn a_lock_that_is_held_stays_until_it_is_given_up() {
    let mut broker = Broker::with_roles(LOCKS);
    let [admin, first, second] = ["ADMIN", "FIRST", "SECOND"].map(|role| broker.join_native_as(role));
    lock(&mut broker, first, 2);
    assert!(lock(&mut broker, second, 2).is_empty(), "it waits");
    broker.ask_native(admin, json!({ "op": "apply_security", "script": "set \"FIRST\" path \"a\" permissions []" }));
    assert!(broker.take_native(first).is_empty() && broker.take_native(second).is_empty());
    assert_eq!(lock(&mut broker, first, 3)[0]["name"], "access_denied");
    assert_eq!(broker.ask_native(first, json!({ "op": "unlock", "name": "a/1", "number": 0 }))["released"], true);
    assert_eq!(broker.take_native(second)[0]["op"], "ok");
}

const OWNERS: &str = r#"
set "ADMIN" default path permissions [SELECT_TOPIC, READ_TOPIC, UPDATE_TOPIC, MODIFY_TOPIC]
set "ADMIN" permissions [MODIFY_SECURITY]
set "CLIENTS" default path permissions [SELECT_TOPIC, READ_TOPIC, MODIFY_TOPIC]
set "CLIENTS" path "own" permissions []
set "CLIENTS" permissions [MODIFY_TOPIC_VIEWS]
set "ONE" includes ["CLIENTS"]
set "TWO" includes ["CLIENTS"]
"#;

/// Somebody who may do everything, and topics that only their owners may see beside.
fn owned() -> (Broker, Client) {
    let mut broker = Broker::with_roles(OWNERS);
    let admin = broker.join_native_as("ADMIN");
    for owner in ["ONE", "TWO"] {
        let properties = json!({ "OWNER": format!("$Principal is '{owner}'") });
        let path = format!("own/{owner}");
        broker.ask_native(admin, json!({ "op": "add_and_set", "path": path, "type": "string", "value": owner, "properties": properties }));
    }
    (broker, admin)
}

fn paths(told: &[Value]) -> Vec<&str> {
    told.iter().filter_map(|told| told["path"].as_str()).collect()
}

#[test]
fn an_owner_hears_of_the_subscribers_of_what_it_owns() {
    let (mut broker, admin) = owned();
    let one = broker.join_native_as("ONE");
    broker.ask_native(one, json!({ "op": "listen", "listener": 1, "kind": "subscribers", "selector": "?own//" }));
    broker.ask_native(admin, json!({ "op": "subscribe", "selector": "?own//" }));
    assert_eq!(paths(&broker.take_native(one)), ["own/ONE"]);
    // What it owns it is told of once, whatever its roles are.
    for permissions in ["SELECT_TOPIC, READ_TOPIC", "", "SELECT_TOPIC, READ_TOPIC"] {
        let script = format!("set \"CLIENTS\" path \"own\" permissions [{permissions}]");
        broker.ask_native(admin, json!({ "op": "apply_security", "script": script }));
        let told = broker.take_native(one);
        assert_eq!(paths(&told), if permissions.is_empty() { vec![] } else { vec!["own/TWO"] });
    }
    broker.ask_native(admin, json!({ "op": "unsubscribe", "selector": "?own//" }));
    let told = broker.take_native(one);
    assert_eq!(paths(&told).len(), 2, "{told:?}");
}

#[test]
fn a_view_reads_what_its_creator_owns() {
    let (mut broker, admin) = owned();
    broker.ask_native(admin, json!({ "op": "add_and_set", "path": "a/ONE", "type": "json", "value": { "at": 1 } }));
    broker.ask_native(admin, json!({ "op": "add_and_set", "path": "a/TWO", "type": "json", "value": { "at": 2 } }));
    let one = broker.join_native_as("ONE");
    for (name, definition) in
        [("v", "map ?own/ to made/<path(1)>"), ("w", "map ?a/ to with/<path(1)> insert own/<path(1)> at /of default 'none'")]
    {
        broker.ask_native(one, json!({ "op": "create_view", "name": name, "definition": definition }));
    }
    let found = broker.ask_native(admin, json!({ "op": "fetch", "selector": "#?made//////?with//", "values": true }));
    let found: Vec<_> = found["topics"].as_array().expect("a page").iter().map(|row| (&row["path"], &row["value"])).collect();
    let (made, with, without) = (json!("ONE"), json!({ "at": 1, "of": "ONE" }), json!({ "at": 2, "of": "none" }));
    assert_eq!(found, [(&json!("made/ONE"), &made), (&json!("with/ONE"), &with), (&json!("with/TWO"), &without)]);
}

#[test]
fn what_an_owner_is_sent_waits_for_it_through_a_restart() {
    let mut broker = Broker::storing_with_roles(OWNERS);
    let admin = broker.join_native_as("ADMIN");
    for owner in ["ONE", "TWO"] {
        let properties = json!({ "OWNER": format!("$Principal is '{owner}'") });
        let path = format!("own/{owner}");
        broker.tell_native(admin, &json!({ "op": "add", "id": 1, "path": path, "type": "string", "properties": properties }));
        broker.store();
    }
    let one = Connect { user_name: Some("ONE".into()), ..persistent(V5, "one") };
    let (client, _) = broker.connect(&one);
    broker.store();
    broker.give(client, &subscribe(V5, 1, &[], &[("own/#", 1)]));
    broker.store();
    broker.lose(client);
    broker.store();
    let publisher = broker.join(&Connect { user_name: Some("ADMIN".into()), ..connect(V5, "p") });
    for (id, topic) in [(1, "own/ONE"), (2, "own/TWO"), (3, "own/ONE")] {
        broker.give(publisher, &publish(topic, &id.to_string()).qos(1, id).bytes(V5));
        broker.store();
    }
    broker.restart_later(1_000);
    let client = broker.open(V5);
    broker.give(client, &one.bytes());
    broker.store();
    let told = broker.take(client).split_off(1);
    let told: Vec<_> =
        told.into_iter().filter_map(|packet| if let Packet::Publish(publish) = packet { Some(publish) } else { None }).collect();
    assert_eq!(lines(&told), ["own/ONE=1", "own/ONE=3"]);
}

#[test]
fn a_shared_subscription_deals_what_is_owned_to_its_owner() {
    let (mut broker, _) = owned();
    let of = |role: &str| Connect { user_name: Some(role.into()), ..connect(V5, role) };
    let [publisher, one, two] = ["ADMIN", "ONE", "TWO"].map(|role| broker.join(&of(role)));
    for member in [one, two] {
        broker.subscribe(member, "$share/g/own/#", 1);
    }
    for topic in ["own/ONE", "own/TWO", "own/ONE", "own/TWO", "own/TWO", "own/nobody"] {
        broker.publish(publisher, &publish(topic, "v").qos(1, 1));
    }
    assert_eq!(lines(&broker.messages(one)), ["own/ONE=v"; 2]);
    assert_eq!(lines(&broker.messages(two)), ["own/TWO=v"; 3]);
}
