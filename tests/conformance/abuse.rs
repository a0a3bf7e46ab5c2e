//! What a client can do to others by being slow, fast or false: it waits, or its connection ends in the time that it has.

use crate::frames::{FIN, TEXT, frame};
use crate::handshake;
use crate::memory::most_while;
use crate::mqtt_packets::{Packet, V5, V311, connect, persistent, publish, subscribe};
use crate::mqtt_peer::Broker;
use crate::peer::{self, Peer};
use crate::server::{Client, Server};
use flate2::{Compress, Compression, FlushCompress};
use serde_json::json;
use tidewire::surface::shard::{Identified, Limits, Storing, Who};
use tidewire::surface::wire::native::{Ask, Request, Update, Verb, op};

// Slowly.

/// A client that says this as slowly as it can without a pause hears the end in the time that it has, and before it has said all.
fn check_slow(mut peer: Peer, bytes: &[u8], last: &[u8]) {
    let limits = peer::limits();
    let pause_ms = limits.handshake_timeout_ms / 10;
    for (number, byte) in bytes.iter().enumerate() {
        peer.give_at((number as u64) * pause_ms, &[*byte]);
        peer.tick((number as u64 + 1) * pause_ms);
        if peer.is_ended() {
            break;
        }
        // It does not end its own side, and does not have to.
        assert!((number as u64) * pause_ms <= limits.handshake_timeout_ms + limits.close_timeout_ms, "byte {number}");
    }
    assert!(peer.is_ended());
    let told = peer.take();
    assert!(told.windows(last.len()).any(|part| part == last), "{}", String::from_utf8_lossy(&told));
}

#[test]
fn a_head_in_single_bytes_ends_in_its_time() {
    check_slow(Peer::new(), handshake::request("tidewire.1").as_bytes(), b"HTTP/1.1 408 ");
}

#[test]
fn connect_in_single_bytes_ends_in_its_time() {
    let connect = br#"{"op":"connect","id":1,"properties":{"a":"0123456789"}}"#;
    check_slow(Peer::upgraded("tidewire.1.json"), &frame(FIN | TEXT, connect), &4102u16.to_be_bytes());
}

#[test]
fn connect_in_fragments_ends_in_its_time() {
    // Each is whole, and empty.
    let fragments: Vec<u8> = std::iter::once(frame(TEXT, b"{")).chain((0..100).map(|_| frame(0, b""))).flatten().collect();
    check_slow(Peer::upgraded("tidewire.1.json"), &fragments, &4102u16.to_be_bytes());
}

#[test]
fn connect_of_mqtt_in_single_bytes_ends_in_its_time() {
    let mut broker = Broker::new();
    let client = broker.open(V5);
    let limits = peer::limits();
    let mut passed_ms = 0;
    for byte in connect(V5, "a client with a name that is not so short").bytes() {
        broker.give(client, &[byte]);
        broker.advance(limits.handshake_timeout_ms / 10);
        passed_ms += limits.handshake_timeout_ms / 10;
        if broker.is_ended(client) {
            break;
        }
        assert!(passed_ms <= limits.handshake_timeout_ms + limits.close_timeout_ms);
    }
    assert!(broker.is_ended(client));
}

// The haste of others.

#[test]
fn nobody_is_closed_while_an_authenticator_takes_its_time() {
    let limits = Limits { authenticates: true, ..peer::limits() };
    let (client_s, judge_s) = (limits.handshake_timeout_ms, limits.authentication_ms);
    let connected = || {
        let mut peer = Peer::upgraded_within("tidewire.1.json", limits.clone());
        peer.give(&frame(FIN | TEXT, br#"{"op":"connect","id":1}"#));
        peer
    };
    let mut peer = connected();
    (1..=20).for_each(|part| peer.tick(part * (client_s + judge_s - 200) / 20));
    assert!(!peer.is_ended() && peer.take().is_empty());
    peer.identify(Identified::As(Who::new("ann".into(), Vec::new(), None), Box::default()));
    assert!(String::from_utf8_lossy(&peer.take()).contains("welcome"));
    // A word that never comes holds nothing for ever.
    let mut peer = connected();
    (1..=20).for_each(|part| peer.tick(part * (client_s + judge_s + limits.close_timeout_ms + 400) / 20));
    (1..=20).for_each(|part| peer.tick(client_s + judge_s + part * limits.close_timeout_ms));
    assert!(peer.is_ended());
}

#[test]
fn no_client_of_mqtt_is_closed_while_an_authenticator_takes_its_time() {
    let limits = Limits { has_mqtt: true, authenticates: true, ..peer::limits() };
    let mut broker = Broker::within(limits.clone());
    let client = broker.open(V5);
    broker.give(client, &connect(V5, "a").bytes());
    let wait_ms = limits.handshake_timeout_ms + limits.authentication_ms - 200;
    (0..20).for_each(|_| broker.advance(wait_ms / 20));
    assert!(!broker.is_ended(client) && broker.take(client).is_empty());
    broker.identify(client, Identified::As(None, Box::default()));
    assert!(matches!(broker.take(client)[..], [Packet::Connack { code: 0, .. }]));
}

// Fast.

/// A session of the text form that may say ten messages in a second, or a thousand bytes.
fn paced(limits: Limits) -> (Server, Client) {
    let mut server = Server::with(Storing::Off, limits);
    let client = server.connect();
    server.advance(2000);
    (server, client)
}

/// How many requests are answered as they come, and in each of the next seconds.
fn answered(server: &mut Server, client: Client, messages: &[Vec<u8>]) -> Vec<usize> {
    messages.iter().for_each(|message| server.give(client, FIN | TEXT, message));
    let mut answered = vec![server.take(client).len()];
    for _ in 0..3 {
        (0..10).for_each(|_| server.advance(100));
        answered.push(server.take(client).len());
    }
    answered
}

fn fetch(id: usize) -> serde_json::Value {
    json!({ "op": "fetch", "id": id + 1, "selector": "?a//" })
}

#[test]
fn what_comes_too_fast_waits_and_is_not_lost() {
    let messages: Vec<Vec<u8>> = (0..45).map(|id| fetch(id).to_string().into_bytes()).collect();
    let (mut server, client) = paced(Limits { messages_per_s_max: 10, ..peer::limits() });
    assert_eq!(answered(&mut server, client, &messages), [10, 10, 10, 10]);
    (0..5).for_each(|_| server.advance(100));
    assert_eq!(server.take(client).len(), 5);
    // All of it is said again at once after a second's rest, and another session waits for nothing.
    let other = server.connect();
    server.advance(2000);
    assert_eq!(answered(&mut server, client, &messages[..10])[0], 10);
    assert_eq!(server.ask(other, fetch(0)).len(), 1);
}

#[test]
fn bytes_are_paced_as_messages_are() {
    let message = fetch(0).to_string().into_bytes();
    let bytes = frame(FIN | TEXT, &message).len() as u64;
    let (mut server, client) = paced(Limits { bytes_per_s_max: 10 * bytes, ..peer::limits() });
    let counts = answered(&mut server, client, &vec![message; 20]);
    assert_eq!(counts.iter().sum::<usize>(), 20, "{counts:?}");
    assert!(counts[0] <= 10 && counts[1] <= 11, "{counts:?}");
}

#[test]
fn a_batch_is_carried_out_whole_and_waited_for_behind_it() {
    let batch = serde_json::Value::from((0..20).map(fetch).collect::<Vec<_>>()).to_string().into_bytes();
    let single = fetch(20).to_string().into_bytes();
    let (mut server, client) = paced(Limits { messages_per_s_max: 10, ..peer::limits() });
    assert_eq!(answered(&mut server, client, &[batch, single]), [20, 0, 1, 0]);
}

#[test]
fn who_has_to_wait_is_not_silent() {
    let limits = Limits { messages_per_s_max: 1, keep_alive_ms: 2000, ..peer::limits() };
    let (mut server, client) = paced(limits);
    let batch = serde_json::Value::from((0..20).map(fetch).collect::<Vec<_>>()).to_string().into_bytes();
    server.give(client, FIN | TEXT, &batch);
    server.give(client, FIN | TEXT, fetch(20).to_string().as_bytes());
    (0..200).for_each(|_| server.advance(100));
    let told = server.take(client);
    assert_eq!(told.iter().filter(|event| event["op"] != "ping").count(), 21, "{told:?}");
}

#[test]
fn packets_of_mqtt_are_paced() {
    let mqtt = tidewire::surface::session::MqttLimits { sys_interval_ms: 0, ..Default::default() };
    let mut broker = Broker::within(Limits { has_mqtt: true, mqtt, messages_per_s_max: 10, ..peer::limits() });
    let client = broker.open(V5);
    broker.give(client, &connect(V5, "a").bytes());
    assert!(matches!(broker.take(client)[..], [Packet::Connack { code: 0, .. }]));
    broker.advance(2000);
    broker.give(client, &[0xc0, 0].repeat(25));
    assert_eq!(broker.take(client).len(), 10);
    assert!(broker.is_waiting(client));
    (0..10).for_each(|_| broker.advance(100));
    assert_eq!(broker.take(client).len(), 10);
    (0..10).for_each(|_| broker.advance(100));
    assert!(broker.take(client).len() == 5 && !broker.is_waiting(client));
}

// False.

/// A stream of DEFLATE that says so many zeros, in a thousandth of the bytes.
fn bomb(zeros: usize) -> Vec<u8> {
    let mut deflater = Compress::new(Compression::best(), false);
    let (part, mut stream) = (vec![0; 1 << 20], Vec::new());
    for number in 1..=zeros >> 20 {
        let flush = if number == zeros >> 20 { FlushCompress::Finish } else { FlushCompress::None };
        let start = deflater.total_in();
        loop {
            let taken = (deflater.total_in() - start) as usize;
            stream.reserve(1 << 16);
            let status = deflater.compress_vec(&part[taken..], &mut stream, flush).expect("it deflates");
            let is_done = if number == zeros >> 20 { status == flate2::Status::StreamEnd } else { taken == part.len() };
            if is_done {
                break;
            }
        }
    }
    stream
}

#[test]
fn a_delta_that_inflates_to_very_much_is_refused_and_takes_no_more_than_a_value_may() {
    let stream = bomb(256 << 20);
    let limits = Limits { message_bytes_max: 1 << 20, value_bytes_max: 60_000, ..peer::limits() };
    assert!(stream.len() < limits.message_bytes_max / 2, "it fits a message: {}", stream.len());
    for (form, delta) in [(op::DELTA_DEFLATE, stream.clone()), (op::DELTA_COPY, [&[1][..], &stream].concat())] {
        let mut server = Server::with(Storing::Off, limits.clone());
        let client = server.connect_binary(0);
        let update = Update::new(Verb::AddAndSet, 2, b"x");
        server.ask_binary(client, &Request { id: 2, ask: Ask::StreamOpen { stream: 1, path: "a".into(), update } });
        let step = Request { id: 3, ask: Ask::StreamDelta { stream: 1, form, delta: delta.into() } };
        let (told, most) = most_while(|| server.ask_binary(client, &step));
        // Operation, id, code.
        assert!(matches!(told[..], [ref error] if error[..2] == [op::ERROR, 3] && error[2..4] == [205 | 0x80, 1]), "{form:x}");
        // What it brings is copied some times on its way, and a value is made by doubling.
        assert!(most < 4 * stream.len() + 4 * limits.value_bytes_max, "{form:x}: {most} bytes for {}", stream.len());
    }
}

// Much.

/// A server whose sessions are subscribed to three topics at most, and three topics.
fn with_three_topics() -> (Broker, crate::mqtt_peer::Client) {
    let mqtt = tidewire::surface::session::MqttLimits { sys_interval_ms: 0, ..Default::default() };
    let mut broker = Broker::within(Limits { has_mqtt: true, mqtt, subscriptions_max: 3, ..peer::limits() });
    let publisher = broker.join(&connect(V5, "p"));
    for topic in ["a/1", "a/2", "a/3"] {
        broker.publish(publisher, &publish(topic, "v").retained());
    }
    (broker, publisher)
}

#[test]
fn a_session_that_selects_more_topics_than_it_may_have_is_over() {
    let (mut broker, publisher) = with_three_topics();
    let clients = [(); 2].map(|()| broker.join_native());
    let other = broker.join_native();
    broker.ask_native(clients[0], json!({ "op": "subscribe", "selector": "?a//" }));
    broker.ask_native(other, json!({ "op": "subscribe", "selector": "a/1" }));
    for (client, selector) in [(clients[0], None), (clients[1], Some("?a//"))] {
        // By a topic that comes, and by a selection.
        match selector {
            None => broker.publish(publisher, &publish("a/4", "v").retained()),
            Some(selector) => broker.tell_native(client, &json!({ "op": "subscribe", "id": 2, "selector": selector })),
        }
        let told = broker.take_bytes(client);
        let reason = b"the session selects more than its most of 3 topics";
        let close = [&4106u16.to_be_bytes()[..], reason].concat();
        assert!(told.ends_with(&close), "{}", String::from_utf8_lossy(&told));
    }
    assert_eq!(broker.take_native(other).len(), 0);
    assert_eq!(broker.ask_native(other, json!({ "op": "list_sessions" }))["sessions"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_session_of_mqtt_that_selects_more_topics_than_it_may_have_is_over() {
    for version in [V311, V5] {
        let (mut broker, publisher) = with_three_topics();
        let clients = ["connected", "away"].map(|name| broker.join(&persistent(version, name)));
        for client in clients {
            broker.subscribe(client, "a/+", 1);
        }
        broker.lose(clients[1]);
        broker.publish(publisher, &publish("a/4", "v").retained());
        broker.advance(100);
        match &broker.take(clients[0])[..] {
            [Packet::Disconnect { code: 0x98, .. }] if version == V5 => {}
            [] if version == V311 => {}
            other => panic!("{other:?}"),
        }
        assert!(broker.is_ended(clients[0]));
        for name in ["connected", "away"] {
            let client = broker.join(&persistent(version, name));
            broker.ask(client, &subscribe(version, 1, &[], &[("a/+", 1)]));
            assert!(broker.is_ended(client), "by the selection too");
        }
    }
}

#[test]
fn members_of_a_group_count_nothing() {
    let (mut broker, publisher) = with_three_topics();
    let member = broker.join(&connect(V5, "m"));
    broker.subscribe(member, "$share/g/a/+", 1);
    broker.publish(publisher, &publish("a/4", "v").retained());
    assert_eq!(broker.messages(member).len(), 1);
}
