//! *Topic properties*: which values are taken, how they are shown, and what they change on the wire.

use crate::server::{Server, events};
use serde_json::{Value, json};
use tidewire::surface::wire::native::{self, Ask, CAPABILITY_COMPRESSION, Heard, Request, Update, Verb, op};

/// A topic of this type with these properties shows those.
fn shown(kind: &str, given: Value, expected: Value) {
    let mut server = Server::new();
    let client = server.connect();
    let add = |properties: &Value| json!({ "op": "add", "path": "a", "type": kind, "properties": properties });
    assert_eq!(server.ok(client, add(&given)), json!({ "created": true }), "{given}");
    assert_eq!(server.properties(client, "a"), expected, "{given}");
    let told = events(server.ask(client, json!({ "op": "subscribe", "id": 1, "selector": "a" })));
    assert_eq!(told[0]["properties"], expected);
    assert_eq!(server.ok(client, add(&expected)), json!({ "created": false }), "the same in other words: {given}");
    assert_eq!(server.ok(client, add(&given)), json!({ "created": false }));
}

#[test]
fn every_property_is_taken_and_shown_in_its_canonical_form() {
    for flag in ["PUBLISH_VALUES_ONLY", "DONT_RETAIN_VALUE", "VALIDATE_VALUES", "TIDY_ON_UNSUBSCRIBE"] {
        shown("json", json!({ flag: "true" }), json!({ flag: "true" }));
        shown("json", json!({ flag: "TRUE" }), json!({ flag: "true" }));
        shown("json", json!({ flag: "false" }), json!({}));
    }
    shown("json", json!({ "PERSISTENT": "false" }), json!({ "PERSISTENT": "false" }));
    shown("json", json!({ "PERSISTENT": "true" }), json!({}));
    for value in ["off", "conflate", "unsubscribe", "always"] {
        shown("string", json!({ "CONFLATION": value }), json!({ "CONFLATION": value }));
    }
    for (given, canonical) in [("off", "off"), ("medium", "medium"), ("high", "high"), ("true", "medium"), ("false", "off")] {
        shown("binary", json!({ "COMPRESSION": given }), json!({ "COMPRESSION": canonical }));
    }
    shown("binary", json!({ "COMPRESSION": "low" }), json!({}));
    shown("json", json!({ "PRIORITY": "low" }), json!({ "PRIORITY": "low" }));
    shown("json", json!({ "PRIORITY": "high" }), json!({ "PRIORITY": "high" }));
    shown("json", json!({ "PRIORITY": "default" }), json!({}));
    shown("json", json!({ "OWNER": "$Principal  IS 'a'" }), json!({ "OWNER": "$Principal is \"a\"" }));
}

#[test]
fn removal_policies_are_taken() {
    for policy in [
        "when time after 1518780068388",
        "when time after \"Sat, 3 Jun 2028 11:05:30 GMT\"",
        "when subscriptions < 10 for 5m",
        "when local subscriptions < 1 for 10s after 1h",
        "when no updates for 10m after 1h",
        "when no session has \"$Principal is 'x'\" for 10m",
        "when no local session has \"$Principal is 'x'\" for 10m after 1d",
        "when this session closes",
        "when (this session closes and no updates for 1s) or subscriptions < 1 for 1s remove \"?a//\"",
    ] {
        let mut server = Server::new();
        let client = server.connect();
        server.ok(client, json!({ "op": "add", "path": "a", "properties": { "REMOVAL": policy } }));
        let canonical = server.properties(client, "a");
        assert!(canonical["REMOVAL"].is_string(), "{policy}");
        shown("json", canonical.clone(), canonical);
    }
}

#[test]
fn properties_of_time_series_are_taken() {
    let of = |kind: &str| json!({ "TIME_SERIES_EVENT_VALUE_TYPE": kind });
    for kind in ["json", "string", "int64", "double", "binary"] {
        shown("time_series", of(kind), of(kind));
    }
    let with = |key: &str, value: &str| json!({ "TIME_SERIES_EVENT_VALUE_TYPE": "json", key: value });
    let (retained, subscription) = ("TIME_SERIES_RETAINED_RANGE", "TIME_SERIES_SUBSCRIPTION_RANGE");
    shown("time_series", with(retained, "limit 10"), of("json"));
    shown("time_series", with(retained, "LIMIT 5 last 120S"), with(retained, "last 2M limit 5"));
    shown("time_series", with(retained, "last 3600000MS"), with(retained, "last 1H"));
    shown("time_series", with(subscription, "limit 1"), of("json"));
    shown("time_series", with(subscription, "last 1500ms"), with(subscription, "last 1500MS"));
    shown("time_series", with("CONFLATION", "off"), of("json"));
    shown("time_series", with("CONFLATION", "unsubscribe"), with("CONFLATION", "unsubscribe"));
}

#[test]
fn what_is_unknown_or_of_another_type_is_ignored() {
    shown("json", json!({ "FROB": "x", "": "y", "TIME_SERIES_RETAINED_RANGE": "frob" }), json!({}));
    shown("int64", json!({ "COMPRESSION": "frob", "PUBLISH_VALUES_ONLY": "frob" }), json!({}));
}

/// A malformed value is refused by name, at its place.
fn refused(kind: &str, key: &str, value: &str, position: u64) {
    let mut server = Server::new();
    let client = server.connect();
    let mut properties = json!({ key: value });
    if kind == "time_series" && key != "TIME_SERIES_EVENT_VALUE_TYPE" {
        properties["TIME_SERIES_EVENT_VALUE_TYPE"] = "json".into();
    }
    for op in ["add", "add_and_set", "update", "stream_open"] {
        let message = json!({ "op": op, "id": 7, "stream": 1, "path": "a", "type": kind, "value": 1, "properties": properties });
        let why = server.refuse(client, message, 211, Some(position));
        assert!(why.contains(key), "{why}");
    }
}

#[test]
fn malformed_values_are_refused_by_name() {
    for flag in ["PUBLISH_VALUES_ONLY", "DONT_RETAIN_VALUE", "VALIDATE_VALUES", "TIDY_ON_UNSUBSCRIBE", "PERSISTENT"] {
        refused("json", flag, "yes", 0);
        refused("json", flag, "", 0);
    }
    refused("json", "CONFLATION", "perhaps", 0);
    refused("time_series", "CONFLATION", "always", 0);
    refused("json", "COMPRESSION", "best", 0);
    refused("json", "PRIORITY", "1", 0);
    refused("json", "OWNER", "somebody", 0);
    refused("json", "OWNER", "$Principal is x", 14);
    refused("json", "REMOVAL", "never", 0);
    refused("json", "REMOVAL", "when frob", 5);
    refused("json", "REMOVAL", "when no updates for 5x", 21);
    refused("json", "REMOVAL", "when this session closes remove \"?(\"", 34);
    refused("time_series", "TIME_SERIES_EVENT_VALUE_TYPE", "time_series", 0);
    refused("time_series", "TIME_SERIES_RETAINED_RANGE", "limit x", 6);
    refused("time_series", "TIME_SERIES_RETAINED_RANGE", "limit 0", 6);
    refused("time_series", "TIME_SERIES_SUBSCRIPTION_RANGE", "last 5", 6);
}

#[test]
fn a_time_series_must_have_a_type_of_events() {
    let mut server = Server::new();
    let client = server.connect();
    let why = server.refuse(client, json!({ "op": "add", "id": 7, "path": "a", "type": "time_series" }), 211, Some(0));
    assert!(why.contains("TIME_SERIES_EVENT_VALUE_TYPE"), "{why}");
}

#[test]
fn a_value_that_is_not_retained_is_sent_but_not_kept() {
    let mut server = Server::new();
    let client = server.connect();
    server.ok(client, json!({ "op": "subscribe", "selector": "a" }));
    let properties = json!({ "DONT_RETAIN_VALUE": "true" });
    let told = events(server.ask(client, json!({ "op": "add_and_set", "id": 1, "path": "a", "value": 5, "properties": properties })));
    assert_eq!((told.len(), &told[1]["value"]), (2, &json!(5)));
    let told = events(server.ask(client, json!({ "op": "set", "id": 1, "path": "a", "value": 6 })));
    assert_eq!(told[0]["value"], 6);
    assert_eq!(server.value(client, "a"), Value::Null);
    let later = server.connect();
    assert_eq!(events(server.ask(later, json!({ "op": "subscribe", "id": 1, "selector": "a" }))).len(), 1);
}

/// The operations of the frames by which a subscriber of these capabilities gets a first value.
fn first_frames(capabilities: u64, compression: &str, value: &[u8]) -> Vec<u8> {
    let mut server = Server::new();
    let client = server.connect_binary(capabilities);
    let properties = vec![("COMPRESSION".into(), compression.into())];
    let update = Update { properties, ..Update::new(Verb::AddAndSet, 2, value) };
    server.ask_binary(client, &Request { id: 2, ask: Ask::Update { path: "a".into(), update } });
    let frames = server.ask_binary(client, &Request { id: 3, ask: Ask::Subscribe { selector: "a".into(), scope: "".into() } });
    frames.iter().map(|frame| frame[0]).collect()
}

#[test]
fn values_are_compressed_for_who_can_read_it_and_where_it_is_smaller() {
    let text = "the same again and again; ".repeat(20);
    let (plain, deflated) = ([op::SUBSCRIBED, op::VALUE, op::OK], [op::SUBSCRIBED, op::VALUE_DEFLATE, op::OK]);
    for effort in ["low", "medium", "high", "true"] {
        assert_eq!(first_frames(CAPABILITY_COMPRESSION, effort, text.as_bytes()), deflated, "{effort}");
    }
    assert_eq!(first_frames(0, "high", text.as_bytes()), plain);
    assert_eq!(first_frames(3, "high", text.as_bytes()), plain);
    assert_eq!(first_frames(CAPABILITY_COMPRESSION, "off", text.as_bytes()), plain);
    assert_eq!(first_frames(CAPABILITY_COMPRESSION, "high", b"short"), plain);
    let noise: String = (0..300u32).map(|n| char::from(b' ' + (n.wrapping_mul(2_654_435_761) >> 8) as u8 % 90)).collect();
    let told = first_frames(CAPABILITY_COMPRESSION, "high", noise.as_bytes());
    assert!(told == plain || told == deflated);
}

#[test]
fn a_compressed_value_inflates_to_the_value_and_is_shorter() {
    let text = "the same again and again; ".repeat(20);
    let mut server = Server::new();
    let client = server.connect_binary(CAPABILITY_COMPRESSION);
    server.ask_binary(client, &Request { id: 3, ask: Ask::Subscribe { selector: "a".into(), scope: "".into() } });
    let update = Update::new(Verb::AddAndSet, 2, text.as_bytes());
    let frames = server.ask_binary(client, &Request { id: 2, ask: Ask::Update { path: "a".into(), update } });
    let frame = frames.iter().find(|frame| frame[0] == op::VALUE_DEFLATE).expect("the value is compressed");
    assert!(frame.len() < text.len() / 2);
    let inflated = tidewire::surface::value::delta::apply(tidewire::surface::value::delta::Form::Deflate, b"", &frame[2..], 10_000);
    assert_eq!(inflated.as_deref(), Ok(text.as_bytes()));
}

#[test]
fn the_welcome_names_the_capabilities_in_force() {
    for (offered, in_force) in [(0, 0), (1, 1), (2, 2), (4, 4), (7, 7), (u64::MAX, 7)] {
        let mut server = Server::new();
        let client = server.upgrade("tidewire.1");
        let told = server.ask_binary(client, &Request { id: 1, ask: Ask::connect("", offered) });
        let frame = native::Frame { op: told[0][0], body: &told[0][1..] };
        let Ok(Heard::Welcome { capabilities, .. }) = native::decode_event(frame) else { panic!("no WELCOME: {told:?}") };
        assert_eq!(capabilities, in_force);
    }
}
