//! Clients of MQTT 5 ask handlers of the server's own protocol: a message with a response topic is a request where there is a handler and no topic.

use crate::mqtt_packets::Value::{Binary, Byte, Four};
use crate::mqtt_packets::{Packet, Publish, V5, connect, id, persistent, publish, text, user};
use crate::mqtt_peer::{Broker, Client};
use serde_json::{Value, json};

/// A broker, a native handler of a branch, and a client that has subscribed to its answers.
fn start(qos: u8) -> (Broker, Client, Client) {
    let mut broker = Broker::new();
    let handler = broker.join_native();
    handle(&mut broker, handler, "work");
    let asker = broker.join(&connect(V5, "asker"));
    broker.subscribe(asker, "answers/#", qos);
    (broker, handler, asker)
}

fn handle(broker: &mut Broker, handler: Client, path: &str) {
    broker.ask_native(handler, json!({ "op": "handle_requests", "handler": 1, "path": path, "session_properties": ["$ClientType"] }));
}

fn question(topic: &str, payload: &str) -> Publish {
    publish(topic, payload).with(text(id::RESPONSE_TOPIC, "answers/1")).with((id::CORRELATION_DATA, Binary(b"\x00c".to_vec())))
}

/// What the handler was asked, and by which number.
fn asked(broker: &mut Broker, handler: Client) -> (u64, Value) {
    let told = broker.take_native(handler);
    let [requested] = &told[..] else { panic!("one request: {told:?}") };
    assert_eq!((&requested["op"], &requested["properties"]), (&json!("requested"), &json!({ "$ClientType": "MQTT" })));
    (requested["request"].as_u64().expect("a number"), requested["value"].clone())
}

fn answer(broker: &mut Broker, handler: Client, request: u64, kind: &str, value: &Value) {
    broker.ask_native(handler, json!({ "op": "respond", "request": request, "type": kind, "value": value }));
}

fn correlation() -> (u8, crate::mqtt_packets::Value) {
    (id::CORRELATION_DATA, Binary(b"\x00c".to_vec()))
}

/// The error of an answer.
fn error(message: &Publish) -> String {
    assert!(message.payload.is_empty() && message.properties.contains(&correlation()), "{message:?}");
    let of = |name: &str| {
        let found = message.properties.iter().find_map(|(_, value)| match value {
            crate::mqtt_packets::Value::Pair(key, value) if key == name => Some(value.clone()),
            _ => None,
        });
        found.unwrap_or_else(|| panic!("no {name}: {message:?}"))
    };
    assert!(!of("tidewire-reason").is_empty());
    of("tidewire-error")
}

#[test]
fn a_message_with_a_response_topic_is_answered_by_a_handler() {
    for qos in 0..3 {
        let (mut broker, handler, asker) = start(qos);
        broker.publish(asker, &question("work/1", "ask").qos(qos, if qos == 0 { 0 } else { 7 }));
        let (request, value) = asked(&mut broker, handler);
        assert_eq!(value, json!("YXNr"), "BINARY, as it says nothing of itself");
        answer(&mut broker, handler, request, "string", &json!("done"));
        let messages = broker.messages(asker);
        let [message] = &messages[..] else { panic!("one answer: {messages:?}") };
        assert_eq!((&*message.topic, &*message.payload, message.qos, message.retain), ("answers/1", &b"done"[..], qos, false));
        assert_eq!(message.properties, [(id::PAYLOAD_FORMAT, Byte(1)), correlation()]);
        // Nothing was published.
        let page = broker.ask_native(handler, json!({ "op": "fetch", "selector": "?work//" }));
        assert_eq!(page["topics"], json!([]));
    }
}

#[test]
fn a_request_has_the_type_that_its_message_says_and_an_answer_its_own() {
    let (mut broker, handler, asker) = start(0);
    let json_type = text(id::CONTENT_TYPE, "application/json");
    let cases = [
        (question("work", "{\"a\": 1}").with(json_type.clone()), json!({ "a": 1 }), "json", json!([1, 2]), "[1,2]"),
        (question("work", "{\"a").with(json_type.clone()), json!("eyJh"), "binary", json!("eA=="), "x"),
        (question("work", "text").with((id::PAYLOAD_FORMAT, Byte(1))), json!("text"), "int64", json!(-12), "-12"),
        (question("work", "text").with(user("a", "b")), json!("dGV4dA=="), "double", json!("NaN"), "NaN"),
        (question("work", ""), json!(""), "int64", json!(null), ""),
    ];
    for (message, value, kind, response, payload) in cases {
        broker.publish(asker, &message);
        let (request, found) = asked(&mut broker, handler);
        assert_eq!(found, value, "{message:?}");
        answer(&mut broker, handler, request, kind, &response);
        let messages = broker.messages(asker);
        assert_eq!(messages.iter().map(|message| &*message.payload).collect::<Vec<_>>(), [payload.as_bytes()]);
        assert_eq!(messages[0].properties.contains(&json_type), kind == "json");
    }
}

#[test]
fn an_error_comes_as_an_answer_too() {
    let (mut broker, handler, asker) = start(1);
    broker.publish(asker, &question("work", "1").qos(1, 1));
    let (request, _) = asked(&mut broker, handler);
    broker.ask_native(handler, json!({ "op": "reject", "request": request, "message": "closed" }));
    assert_eq!(error(&broker.messages(asker)[0]), "315");
    // Its expiry is its time.
    broker.publish(asker, &question("work", "2").with((id::MESSAGE_EXPIRY, Four(2))));
    asked(&mut broker, handler);
    broker.advance(1900);
    assert_eq!(broker.messages(asker), []);
    broker.advance(200);
    assert_eq!(error(&broker.messages(asker)[0]), "311");
    broker.publish(asker, &question("work", "3"));
    asked(&mut broker, handler);
    broker.lose(handler);
    assert_eq!(error(&broker.messages(asker)[0]), "312");
}

#[test]
fn where_there_is_a_topic_or_no_handler_it_is_a_message_as_any_other() {
    let (mut broker, handler, asker) = start(0);
    let other = broker.join(&connect(V5, "other"));
    broker.subscribe(other, "#", 0);
    let passed_on = question("t", "").properties;
    let receive = |broker: &mut Broker, message: &Publish| {
        broker.publish(asker, message);
        let messages = broker.messages(other);
        let [found] = &messages[..] else { panic!("one message: {messages:?}") };
        assert_eq!((&found.topic, &found.payload, &found.properties), (&message.topic, &message.payload, &passed_on));
    };
    receive(&mut broker, &question("nobody", "1"));
    // A retained message is meant for the topic.
    receive(&mut broker, &question("work/kept", "2").retained());
    receive(&mut broker, &question("work/kept", "3"));
    assert_eq!(broker.take_native(handler), [Value::Null; 0]);
    // What only passed by is no topic.
    broker.publish(asker, &publish("work/passing", "4"));
    broker.messages(other);
    broker.publish(asker, &question("work/passing", "5"));
    assert_eq!(broker.messages(other), []);
    asked(&mut broker, handler);
}

#[test]
fn what_cannot_be_answered_is_refused() {
    let (mut broker, handler, asker) = start(1);
    let message = publish("work", "1").qos(1, 7).with(text(id::RESPONSE_TOPIC, "$SYS/answers"));
    let told = broker.ask(asker, &message.bytes(V5));
    assert!(matches!(told[..], [Packet::Acknowledged { id: 7, code: 0x90, .. }]), "{told:?}");
    assert_eq!(broker.take_native(handler), [Value::Null; 0]);
}

#[test]
fn an_answer_waits_for_a_session_that_is_away_and_ends_with_it() {
    let (mut broker, handler, _) = start(1);
    let asker = broker.join(&persistent(V5, "away"));
    broker.subscribe(asker, "answers/1", 1 | 1 << 2);
    broker.publish(asker, &question("work", "1").qos(1, 7));
    let (request, _) = asked(&mut broker, handler);
    broker.lose(asker);
    answer(&mut broker, handler, request, "string", &json!("late"));
    let (_, packets) = broker.resume(&persistent(V5, "away"));
    assert!(packets.iter().any(|packet| matches!(packet, Packet::Publish(message) if message.payload == b"late")), "{packets:?}");
    let asker = broker.join(&connect(V5, "gone"));
    broker.publish(asker, &question("work", "2").qos(1, 7));
    let (request, _) = asked(&mut broker, handler);
    broker.leave(asker);
    broker.tell_native(handler, &json!({ "op": "respond", "id": 9, "request": request, "value": 1 }));
    assert_eq!(broker.take_native(handler)[0]["code"], 316);
}

#[test]
fn an_answer_that_its_topic_refuses_is_told_to_the_operator() {
    let (mut broker, handler, asker) = start(1);
    broker.ask_native(handler, json!({ "op": "add", "path": "answers/1", "type": "int64" }));
    broker.publish(asker, &question("work", "1").qos(1, 7));
    let (request, _) = asked(&mut broker, handler);
    answer(&mut broker, handler, request, "string", &json!("no number"));
    assert_eq!((broker.messages(asker), broker.without_reply()), (vec![], &["asker".to_owned()][..]));
}

#[test]
fn a_client_has_so_many_requests_under_way() {
    let mut broker = Broker::tiny();
    let handler = broker.join_native();
    handle(&mut broker, handler, "work");
    let asker = broker.join(&connect(V5, "asker"));
    for number in 1..=5 {
        broker.publish(asker, &question("work", "1").qos(1, number));
    }
    let told = broker.ask(asker, &question("work", "1").qos(1, 6).bytes(V5));
    assert!(matches!(told[..], [Packet::Acknowledged { id: 6, code: 0x97, .. }]), "{told:?}");
}
