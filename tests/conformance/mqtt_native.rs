//! Messages as clients of the server's own protocol see them, and what those do as messages.

use crate::frames::{FIN, TEXT, frame, parse_frames};
use crate::handshake::request;
use crate::mqtt_client::lines;
use crate::mqtt_packets::Value::{Byte, Four};
use crate::mqtt_packets::{Packet, V5, V311, connect, id, persistent, publish, text};
use crate::mqtt_peer::{Broker, Client};
use serde_json::{Value, json};

impl Broker {
    /// A client of the server's own protocol.
    pub fn join_native(&mut self) -> Client {
        self.join_native_as("")
    }

    pub fn join_native_as(&mut self, principal: &str) -> Client {
        let client = self.open_http(V5);
        self.give(client, request("tidewire.1.json").as_bytes());
        self.take_bytes(client);
        self.tell_native(client, &json!({ "op": "connect", "principal": principal }));
        assert_eq!(self.take_native(client)[0]["op"], "welcome");
        client
    }

    pub fn tell_native(&mut self, client: Client, message: &Value) {
        self.give(client, &frame(FIN | TEXT, message.to_string().as_bytes()));
    }

    /// The answer to a request; updates that come with it are let go.
    pub fn ask_native(&mut self, client: Client, mut request: Value) -> Value {
        request["id"] = json!(7);
        self.tell_native(client, &request);
        let told = self.take_native(client);
        let answer = told.into_iter().find(|told| told["id"] == 7).expect("an answer");
        assert_eq!(answer["op"], "ok", "{answer}");
        answer
    }

    pub fn take_native(&mut self, client: Client) -> Vec<Value> {
        let frames = parse_frames(&self.take_bytes(client));
        frames.iter().map(|(_, payload)| serde_json::from_slice(payload).expect("JSON")).collect()
    }

    /// The values that a client is told of, and `+` and `-` for topics that come and go.
    fn news(&mut self, client: Client) -> Vec<String> {
        let told = self.take_native(client);
        told.iter()
            .map(|told| match told["op"].as_str().expect("an operation") {
                "subscribed" => "+".to_owned(),
                "unsubscribed" => "-".to_owned(),
                _ => told["value"].to_string(),
            })
            .collect()
    }
}

fn with_text() -> (Broker, Client, Client) {
    let mut broker = Broker::new();
    let (native, publisher) = (broker.join_native(), broker.join(&connect(V5, "p")));
    broker.ask_native(native, json!({ "op": "add_and_set", "path": "t", "type": "string", "value": "kept" }));
    (broker, native, publisher)
}

#[test]
fn who_subscribes_behind_a_message_that_passed_is_sent_the_value_and_what_follows() {
    let (mut broker, native, publisher) = with_text();
    broker.publish(publisher, &publish("t", "passed"));
    broker.ask_native(native, json!({ "op": "subscribe", "selector": "t" }));
    broker.take_bytes(native);
    let other = broker.join_native();
    broker.tell_native(other, &json!({ "op": "subscribe", "selector": "t", "id": 1 }));
    assert_eq!(broker.news(other)[..2], ["+", "\"kept\""]);
    broker.publish(publisher, &publish("t", "again"));
    broker.publish(publisher, &publish("t", "new").retained());
    assert_eq!(broker.news(other), ["\"again\"", "\"new\""]);
    assert_eq!(broker.news(native), ["\"again\"", "\"new\""]);
}

#[test]
fn a_retained_message_that_expires_takes_its_topic_along_and_leaves_null_in_one_that_was_given_a_type() {
    let (mut broker, native, publisher) = with_text();
    broker.ask_native(native, json!({ "op": "subscribe", "selector": "*.*" }));
    broker.take_bytes(native);
    let client = broker.join(&persistent(V5, "a"));
    broker.subscribe(client, "#", 2);
    let expiring = |topic: &str, payload: &str, seconds: u32| publish(topic, payload).retained().with((id::MESSAGE_EXPIRY, Four(seconds)));
    broker.publish(publisher, &expiring("t", "short", 1));
    broker.publish(publisher, &expiring("made", "short", 1));
    broker.publish(publisher, &expiring("kept", "short", 1));
    broker.publish(publisher, &publish("kept", "long").retained());
    broker.messages(client);
    broker.take_bytes(native);
    broker.advance(900);
    assert_eq!(broker.news(native), [""; 0]);
    broker.advance(200);
    assert_eq!(broker.news(native), ["null", "-"]);
    assert_eq!(broker.messages(client), [], "no message has come");
    let late = broker.join(&connect(V5, "late"));
    assert_eq!(lines(&broker.subscribe(late, "#", 0)), ["kept=long"]);
    broker.publish(publisher, &publish("t", "again").retained());
    assert_eq!(broker.news(native), ["\"again\""]);
    let other = broker.join_native();
    let page = broker.ask_native(other, json!({ "op": "fetch", "selector": "*.*", "values": true }));
    let paths: Vec<&str> = page["topics"].as_array().expect("topics").iter().filter_map(|topic| topic["path"].as_str()).collect();
    assert_eq!(paths, ["kept", "t"]);
}

#[test]
fn a_topic_that_is_set_to_null_while_a_client_is_away_is_null_to_it_and_not_removed() {
    let (mut broker, native, _) = with_text();
    let client = broker.join(&persistent(V5, "a"));
    // With retain as published, and without the message that is retained now.
    broker.subscribe(client, "t", 1 | 1 << 3 | 2 << 4);
    broker.lose(client);
    broker.ask_native(native, json!({ "op": "set", "path": "t", "type": "string", "value": null }));
    let (_, packets) = broker.resume(&persistent(V5, "a"));
    let [Packet::Publish(null)] = &packets[..] else { panic!("{packets:?}") };
    assert_eq!((null.payload.len(), null.retain), (0, false), "empty with retain says that it has gone");
    broker.ask_native(native, json!({ "op": "set", "path": "t", "type": "string", "value": "there" }));
}

#[test]
fn a_topic_that_keeps_no_value_sends_each_message_once() {
    let (mut broker, native, publisher) = with_text();
    let properties = json!({ "DONT_RETAIN_VALUE": "true" });
    broker.ask_native(native, json!({ "op": "add", "path": "d", "type": "string", "properties": properties }));
    let client = broker.join(&connect(V5, "a"));
    broker.subscribe(client, "d", 1);
    broker.ask_native(native, json!({ "op": "subscribe", "selector": "d" }));
    broker.take_bytes(native);
    for (number, payload) in ["1", "2"].into_iter().enumerate() {
        broker.publish(publisher, &publish("d", payload).qos(1, 1));
        broker.publish(publisher, &publish("d", payload).retained());
        let text = format!("\"{payload}\"");
        assert_eq!(broker.news(native), [text.clone(), text], "{number}");
        assert_eq!(lines(&broker.messages(client)), [format!("d={payload}"), format!("d={payload}")]);
    }
    let late = broker.join(&connect(V5, "b"));
    assert_eq!(broker.subscribe(late, "d", 1), [], "there is no retained message");
}

#[test]
fn a_message_that_passes_does_not_end_an_update_stream() {
    let (mut broker, native, publisher) = with_text();
    broker.ask_native(native, json!({ "op": "stream_open", "stream": 1, "path": "t", "type": "string" }));
    broker.publish(publisher, &publish("t", "passed"));
    broker.ask_native(native, json!({ "op": "stream_set", "stream": 1, "value": "mine" }));
    broker.publish(publisher, &publish("t", "other").retained());
    broker.tell_native(native, &json!({ "op": "stream_set", "stream": 1, "value": "mine", "id": 1 }));
    assert_eq!(broker.take_native(native)[0]["op"], "error", "a retained message is another's value");
}

#[test]
fn a_topic_that_a_client_adds_stays_although_messages_had_made_it() {
    let (mut broker, native, publisher) = with_text();
    broker.publish(publisher, &publish("a", "passed"));
    broker.publish(publisher, &publish("b", "passed"));
    broker.ask_native(native, json!({ "op": "add", "path": "a", "type": "binary" }));
    broker.ask_native(native, json!({ "op": "subscribe", "selector": "?.*" }));
    broker.take_bytes(native);
    for _ in 0..9 {
        broker.advance(20_000);
        // Signs of life.
        broker.tell_native(native, &json!({ "op": "ping" }));
    }
    let told = broker.take_native(native);
    let gone: Vec<&Value> = told.iter().filter(|told| told["op"] == "unsubscribed").map(|told| &told["path"]).collect();
    assert_eq!(gone, ["b"]);
}

#[test]
fn a_topic_that_messages_had_made_gives_way_also_where_a_view_waits_for_its_path() {
    let (mut broker, native, publisher) = with_text();
    broker.publish(publisher, &publish("v", "passed"));
    broker.ask_native(native, json!({ "op": "create_view", "name": "view", "definition": "map t to v" }));
    broker.ask_native(native, json!({ "op": "add_and_set", "path": "v", "type": "int64", "value": 1 }));
    broker.tell_native(native, &json!({ "op": "subscribe", "selector": "v", "id": 1 }));
    assert_eq!(broker.news(native)[..2], ["+", "1"]);
    broker.tell_native(native, &json!({ "op": "remove", "selector": "v", "id": 1 }));
    assert_eq!(broker.news(native)[..3], ["-", "+", "\"kept\""], "the view's topic stands once the client's is gone");
}

#[test]
fn topics_that_are_made_and_cleared_again_and_again_are_not_remembered() {
    let (mut broker, _, publisher) = with_text();
    let client = broker.join(&connect(V5, "a"));
    broker.subscribe(client, "x/#", 0);
    for round in 0..5000 {
        let topic = format!("x/{}", round % 7);
        broker.give(publisher, &[publish(&topic, "1").bytes(V5), publish(&topic, "").retained().bytes(V5)].concat());
        broker.give(publisher, &publish(&format!("y/{round}"), "").retained().bytes(V5));
        assert_eq!(lines(&broker.messages(client)), [format!("{topic}=1"), format!("{topic}=")]);
    }
    assert!(broker.passing() < 1100, "{}", broker.passing());
}

#[test]
fn the_type_of_a_native_value_is_told_to_clients_of_mqtt_5() {
    let mut broker = Broker::new();
    let (native, client) = (broker.join_native(), broker.join(&connect(V5, "a")));
    broker.subscribe(client, "n/+", 0);
    let (format, content) = ((id::PAYLOAD_FORMAT, Byte(1)), text(id::CONTENT_TYPE, "application/json"));
    let cases = [
        ("json", json!({ "a": 1 }), vec![format.clone(), content]),
        ("string", json!("s"), vec![format]),
        ("int64", json!(1), Vec::new()),
        ("binary", json!("AAE="), Vec::new()),
    ];
    for (kind, value, properties) in cases {
        // The first value makes the topic, and the second goes to who is subscribed.
        for _ in 0..2 {
            broker.ask_native(native, json!({ "op": "add_and_set", "path": format!("n/{kind}"), "type": kind, "value": value }));
            assert_eq!(broker.messages(client).iter().map(|message| &message.properties).collect::<Vec<_>>(), [&properties], "{kind}");
        }
    }
    let old = broker.join(&connect(V311, "old"));
    let told = broker.subscribe(old, "n/json", 0);
    assert_eq!(told[0].payload, br#"{"a":1}"#);
}
