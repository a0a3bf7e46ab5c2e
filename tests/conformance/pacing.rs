//! What is told about very many topics: at the pace at which the session reads, and never so much at once that others wait for it.

use crate::mqtt_client::lines;
use crate::mqtt_packets::{PUBACK, Packet, Publish, V5, Value::Two, acknowledge, connect, id, persistent, publish, subscribe, unsubscribe};
use crate::mqtt_peer::{Broker, Client};
use crate::peer::limits;
use crate::server::Server;
use serde_json::{Value, json};
use tidewire::surface::session::QueueLimits;
use tidewire::surface::shard::{Limits, Storing};

const TOPICS: usize = 3000;
const SLICE: usize = 100;
const QUEUE: QueueLimits = QueueLimits { bytes_high: 5000, bytes_max: 20_000 };

fn server() -> (Server, crate::server::Client, crate::server::Client) {
    let mut server = Server::with(Storing::Off, Limits { queue: QUEUE, walk_slice: SLICE, topics_max: 3 * TOPICS, ..limits() });
    let (writer, reader) = (server.connect(), server.connect());
    for number in 0..TOPICS {
        server.ok(writer, json!({ "op": "add_and_set", "path": format!("a/{number:05}"), "type": "json", "value": number }));
    }
    (server, writer, reader)
}

/// Asks, and gives what comes until the answer, while the client reads now and then only.
fn ask_slowly(server: &mut Server, client: crate::server::Client, message: Value) -> Vec<Value> {
    server.stall(client);
    assert!(server.ask(client, message).is_empty());
    server.advance(100);
    server.flow(client);
    let told = server.take(client);
    assert_eq!(told.last().map(|last| &last["op"]), Some(&json!("ok")), "{:?}", told.last());
    told
}

fn count(told: &[Value], op: &str) -> usize {
    told.iter().filter(|event| event["op"] == op).count()
}

#[test]
fn who_selects_and_withdraws_very_many_topics_is_told_as_it_reads() {
    let (mut server, _, reader) = server();
    for _ in 0..2 {
        let told = ask_slowly(&mut server, reader, json!({ "op": "subscribe", "id": 7, "selector": "?a//" }));
        assert_eq!((count(&told, "subscribed"), count(&told, "value"), told.len()), (TOPICS, TOPICS, 2 * TOPICS + 1));
        let told = ask_slowly(&mut server, reader, json!({ "op": "unsubscribe", "id": 8, "selector": "?a//" }));
        assert_eq!((count(&told, "unsubscribed"), told.len()), (TOPICS, TOPICS + 1));
    }
}

#[test]
fn a_second_subscriber_that_does_not_read_is_not_closed_and_gets_everything() {
    let (mut server, writer, reader) = server();
    server.ask(writer, json!({ "op": "subscribe", "id": 1, "selector": "?a//" }));
    let told = ask_slowly(&mut server, reader, json!({ "op": "subscribe", "id": 7, "selector": "?a//" }));
    assert_eq!(count(&told, "subscribed"), TOPICS);
    // Others remove them all, while it does not read.
    server.stall(reader);
    server.ok(writer, json!({ "op": "remove", "selector": "?a//" }));
    server.flow(reader);
    assert_eq!(count(&server.take(reader), "unsubscribed"), TOPICS);
    assert_eq!(server.ok(reader, json!({ "op": "add", "path": "b", "type": "json" })), json!({ "created": true }), "it is still there");
}

#[test]
fn topics_that_appear_while_a_session_does_not_read_are_told_when_it_does() {
    let (mut server, writer, reader) = server();
    server.ok(writer, json!({ "op": "remove", "selector": "?a//" }));
    server.ask(reader, json!({ "op": "subscribe", "id": 1, "selector": "?a//" }));
    server.stall(reader);
    for number in (0..TOPICS).rev() {
        server.ok(writer, json!({ "op": "add_and_set", "path": format!("a/{number:05}"), "type": "json", "value": number }));
    }
    server.flow(reader);
    server.advance(100);
    let told = server.take(reader);
    assert_eq!((count(&told, "subscribed"), count(&told, "value")), (TOPICS, TOPICS));
}

#[test]
fn no_turn_looks_at_more_than_its_slice() {
    let (mut server, writer, reader) = server();
    let slices = |server: &mut Server, ask: &mut dyn FnMut(&mut Server)| {
        let before = server.slices;
        ask(server);
        assert!(server.slices - before >= TOPICS / SLICE - 2, "{} slices", server.slices - before);
    };
    // Its owner knows nobody else, then the shard knows the topics.
    server.ask(writer, json!({ "op": "subscribe", "id": 1, "selector": "?a//" }));
    slices(&mut server, &mut |server| drop(server.ask(reader, json!({ "op": "subscribe", "id": 1, "selector": "?a//" }))));
    slices(&mut server, &mut |server| drop(server.ask(reader, json!({ "op": "unsubscribe", "id": 2, "selector": "?a//" }))));
    server.ask(reader, json!({ "op": "subscribe", "id": 3, "selector": "?a//" }));
    slices(&mut server, &mut |server| server.close(reader));
    // The last interest: the owner forgets it.
    slices(&mut server, &mut |server| server.close(writer));
}

#[test]
fn who_withdraws_few_topics_looks_at_no_more_than_a_slice_in_one_turn() {
    let (mut server, writer, reader) = server();
    // Twice as many as a slice has; the other keeps the interest in them.
    for (client, selector) in [(writer, "?a//"), (writer, "*a/00[12].*"), (reader, "*a/00[12].*")] {
        server.ask(client, json!({ "op": "subscribe", "id": 1, "selector": selector }));
    }
    let before = server.slices;
    let told = server.ask(reader, json!({ "op": "unsubscribe", "id": 2, "selector": "*a/00[12].*" }));
    assert_eq!(count(&told, "unsubscribed"), 2 * SLICE);
    let slices = server.slices - before;
    assert!(slices > 1, "{slices} slices");
}

// Retained messages.

#[test]
fn a_listener_is_told_as_it_reads_that_a_topic_came_or_went_above_very_many() {
    let (mut server, writer, reader) = server();
    server.ok(reader, json!({ "op": "listen", "listener": 1, "kind": "topics", "selector": "r" }));
    for number in 0..TOPICS {
        server.ok(writer, json!({ "op": "add", "path": format!("r/b/{number:05}"), "type": "json" }));
    }
    assert_eq!(count(&server.take(reader), "descendant_notice"), TOPICS);
    for (message, first, others) in [
        (json!({ "op": "add", "path": "r/b", "type": "json" }), "added", "deselected"),
        (json!({ "op": "remove", "selector": "r/b" }), "removed", "selected"),
    ] {
        server.stall(reader);
        server.ok(writer, message);
        server.advance(100);
        server.flow(reader);
        let told = server.take(reader);
        let of = |what: &str| told.iter().filter(|event| event["op"] == "descendant_notice" && event["what"] == what).count();
        assert_eq!((told[0]["what"].as_str(), of(first), of(others), told.len()), (Some(first), 1, TOPICS, TOPICS + 1));
    }
    // It comes and goes while all below is still to be looked at.
    server.stall(reader);
    for _ in 0..10 {
        server.ok(writer, json!({ "op": "add", "path": "r/b", "type": "json" }));
        server.ok(writer, json!({ "op": "remove", "selector": "r/b" }));
    }
    server.flow(reader);
    server.advance(100);
    let mut shown: std::collections::BTreeSet<String> = (0..TOPICS).map(|number| format!("r/b/{number:05}")).collect();
    for event in server.take(reader) {
        let path = event["path"].as_str().expect("a notice names its topic").to_owned();
        let is_news = match event["what"].as_str() {
            Some("added" | "selected") => shown.insert(path),
            _ => shown.remove(&path),
        };
        assert!(is_news, "{event}");
    }
    assert_eq!(shown.len(), TOPICS);
}

fn slow() -> crate::mqtt_packets::Connect {
    persistent(V5, "slow").with((id::RECEIVE_MAXIMUM, Two(10)))
}

fn broker(qos: u8) -> (Broker, Client) {
    let mut broker = Broker::narrow(QUEUE);
    let publisher = broker.join(&connect(V5, "p"));
    for number in 0..900 {
        broker.publish(publisher, &publish(&format!("a/{number:03}"), &number.to_string()).qos(qos, 1).retained());
    }
    (broker, publisher)
}

/// Acknowledges all that comes until nothing more does.
fn take_all(broker: &mut Broker, client: Client, mut packets: Vec<Packet>) -> Vec<Publish> {
    let mut taken = Vec::new();
    while !packets.is_empty() {
        let mut answers = Vec::new();
        for packet in packets {
            match packet {
                Packet::Publish(message) => {
                    if message.qos == 1 {
                        answers.extend(acknowledge(PUBACK, message.id));
                    }
                    taken.push(message);
                }
                Packet::Suback { .. } | Packet::Unsuback { .. } => {}
                other => panic!("not asked for: {other:?}"),
            }
        }
        packets = broker.ask(client, &answers);
        if packets.is_empty() {
            broker.advance(100);
            packets = broker.take(client);
        }
    }
    taken
}

#[test]
fn who_subscribes_gets_every_retained_message_however_many_there_are() {
    for qos in [0, 1] {
        let (mut broker, publisher) = broker(1);
        let client = broker.join(&slow());
        let packets = broker.ask(client, &subscribe(V5, 1, &[], &[("a/#", qos)]));
        assert!(packets.iter().any(|packet| matches!(packet, Packet::Suback { .. })), "it is subscribed at once");
        let taken = take_all(&mut broker, client, packets);
        let expected: Vec<String> = (0..900).map(|number| format!("a/{number:03}={number}")).collect();
        assert!(lines(&taken) == expected, "QoS {qos}: {} messages", taken.len());
        assert!(taken.iter().all(|message| message.retain));
        broker.publish(publisher, &publish("a/000", "live").qos(1, 1));
        let packets = broker.take(client);
        assert_eq!(lines(&take_all(&mut broker, client, packets)), ["a/000=live"]);
        // Another filter, and the same again.
        for filter in ["a/+", "a/#"] {
            let packets = broker.ask(client, &subscribe(V5, 2, &[], &[(filter, qos)]));
            assert_eq!(take_all(&mut broker, client, packets).len(), 900, "{filter}");
        }
        let packets = broker.ask(client, &unsubscribe(V5, 3, &["a/+", "a/#"]));
        assert!(matches!(packets[..], [Packet::Unsuback { .. }]), "{packets:?}");
    }
}

#[test]
fn a_message_that_comes_before_a_retained_one_is_due_keeps_the_order_of_its_topic() {
    let (mut broker, publisher) = broker(1);
    let client = broker.join(&slow());
    let packets = broker.ask(client, &subscribe(V5, 1, &[], &[("a/#", 1)]));
    // It takes the retained one's place, or follows it.
    broker.publish(publisher, &publish("a/800", "newer").qos(1, 1).retained());
    broker.publish(publisher, &publish("a/801", "passing").qos(1, 1));
    broker.publish(publisher, &publish("a/802", "").qos(1, 1).retained());
    let taken = take_all(&mut broker, client, packets);
    let of = |topic: &str| lines(&taken).into_iter().filter(|line| line.starts_with(topic)).collect::<Vec<_>>();
    assert_eq!(of("a/800"), ["a/800=newer"]);
    assert_eq!(of("a/801"), ["a/801=801", "a/801=passing"]);
    assert_eq!(of("a/802").last().map(String::as_str), Some("a/802="));
    assert_eq!(of("a/899"), ["a/899=899"]);
}

#[test]
fn who_loses_the_connection_gets_the_retained_messages_that_were_due_when_it_is_back() {
    let (mut broker, _) = broker(1);
    let client = broker.join(&slow());
    let packets = broker.ask(client, &subscribe(V5, 1, &[], &[("a/#", 1)]));
    let mut seen: Vec<String> = Vec::new();
    for packet in packets {
        if let Packet::Publish(message) = packet {
            seen.extend(lines(&[message]));
        }
    }
    broker.lose(client);
    let (client, packets) = broker.resume(&slow());
    seen.extend(lines(&take_all(&mut broker, client, packets)));
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 900);
}
