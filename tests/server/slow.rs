//! A subscriber that does not read: it costs a bound, holds nobody up, and does not miss the newest value.

use crate::client::{Message, Session};
use crate::server::Server;
use std::collections::BTreeSet;
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::{Ask, Fetch, Request};

/// More than the sockets between server and client can hold.
const UPDATES: u32 = 300;
const VALUE_BYTES: usize = 200_000;

fn large(number: u32) -> Vec<u8> {
    let mut value = vec![0; VALUE_BYTES];
    // No two values have enough in common for a delta.
    let mut state = u64::from(number) * 2 + 1;
    for chunk in value.chunks_exact_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk.copy_from_slice(&state.to_le_bytes());
    }
    value
}

fn publish(writer: &mut Session, reader: Option<&mut Session>) {
    let mut reader = reader;
    for number in 0..UPDATES {
        let value = large(number);
        writer.add_and_set("a", ValueType::Binary, &value).unwrap();
        if let Some(reader) = &mut reader {
            reader.wait_for_value("a", &value);
        }
    }
}

#[test]
fn a_stalled_subscriber_costs_its_bound_and_gets_the_newest_value() {
    let server = Server::start(2);
    let (mut writer, mut reader, mut stalled) = (server.connect(), server.connect(), server.connect());
    reader.subscribe("a").unwrap();
    stalled.subscribe("a").unwrap();
    let before = server.memory_bytes_most();
    publish(&mut writer, Some(&mut reader));
    let grown = server.memory_bytes_most() - before;
    assert!(grown < UPDATES as usize * VALUE_BYTES / 2, "{grown} bytes more than before");
    stalled.wait_for_value("a", &large(UPDATES - 1));
    assert!(stalled.update_frames.len() < UPDATES as usize, "what was stale is not sent");
    assert_eq!(stalled.settle(), []);
}

#[test]
fn deltas_behind_a_gap_apply_to_what_the_subscriber_has() {
    let server = Server::start_with(2, &[("SESSION_QUEUE_BYTES_HIGH", "2000")]);
    let (mut writer, mut stalled) = (server.connect(), server.connect());
    stalled.subscribe("?a//").unwrap();
    let table = |version: usize| {
        format!("[{}]", (0..200).map(|row| (row * (version % 7 + 1)).to_string()).collect::<Vec<_>>().join(",")).into_bytes()
    };
    for version in 0..UPDATES as usize {
        writer.add_and_set("a/table", ValueType::Json, &table(version)).unwrap();
        if version % 3 == 0 {
            // What fills the sockets, so that the queue has to conflate.
            writer.add_and_set("a/large", ValueType::Binary, &large(version as u32)).unwrap();
        }
    }
    writer.add_and_set("a/table", ValueType::Json, b"[\"the end\"]").unwrap();
    // The session applies each delta to what it holds and fails where one does not apply.
    stalled.wait_for_value("a/table", b"[\"the end\"]");
    assert!(stalled.update_frames.len() < UPDATES as usize, "what was stale is not sent");
    for version in 0..10 {
        writer.set("a/table", ValueType::Json, &table(version)).unwrap();
        stalled.wait_for_value("a/table", &table(version));
    }
}

#[test]
fn a_queue_that_conflation_cannot_keep_under_its_bound_is_closed_with_4104() {
    let server = Server::start_with(
        1,
        &[
            ("SESSION_QUEUE_BYTES_HIGH", "50000"),
            ("SESSION_QUEUE_BYTES_MAX", "300000"),
            ("LIMITS_HISTORY_BYTES_MAX", "50000"),
            ("LIMITS_VALUE_BYTES_MAX", "300000"),
        ],
    );
    let (mut writer, mut stalled) = (server.connect(), server.connect());
    writer.add_and_set("a", ValueType::Binary, &large(0)).unwrap();
    // Answers are not conflated.
    for id in 0..u64::from(UPDATES) {
        let fetch = Fetch { selector: "a".into(), with_values: true, ..Fetch::default() };
        stalled.send(&Request { id, ask: Ask::Fetch { fetch: Box::new(fetch) } });
    }
    assert_eq!(stalled.wait_for_close(), 4104);
    assert_eq!(writer.settle(), []);
}

#[test]
fn a_shard_that_has_too_much_to_do_reads_nothing_and_loses_nothing() {
    const WRITERS: usize = 8;
    const SETS: usize = 1500;
    let directory = crate::server::Directory::new("congested");
    let server = Server::start_with(2, &[("STORAGE_DIRECTORY", directory.name()), ("LIMITS_MAIL_HIGH", "1")]);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let mut socket = server.open("tidewire.1.json");
            scope.spawn(move || {
                socket.send_text(r#"{"op":"connect","id":1}"#);
                socket.receive();
                for number in 0..SETS {
                    let (id, path) = (number + 2, format!("a/{}", (writer + number) % 16));
                    socket.send_text(&format!(
                        r#"{{"op":"add_and_set","id":{id},"path":"{path}","type":"json","value":[{writer},{number}]}}"#
                    ));
                }
                // Two shards answer, each in its order. Some clients go in the middle of it.
                let mut open: BTreeSet<u64> = (2..SETS as u64 + 2).collect();
                while !open.is_empty() && (writer % 4 != 3 || open.len() > SETS / 2) {
                    let Message::Text(answer) = socket.receive() else { panic!("not an answer") };
                    let answer: serde_json::Value = serde_json::from_str(&answer).expect("the server sends JSON");
                    assert_eq!(answer["op"], "ok");
                    assert!(open.remove(&answer["id"].as_u64().expect("an answer names its request")), "{answer}");
                }
            });
        }
    });
    let mut reader = server.connect();
    assert_eq!(reader.fetch("?a/", "", 0).unwrap().1.len(), 16);
}
