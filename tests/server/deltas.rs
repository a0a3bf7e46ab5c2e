//! Deltas over the wire: sent to those who decode them, applied to what they hold, smaller than the values.

use crate::client::{Seen, Session};
use crate::server::Server;
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::op;

/// A table of which each version changes one cell.
fn table(version: usize) -> Vec<u8> {
    let row = |number: usize| {
        let price = 100 + number * 7 + if number == version % 40 { version } else { 0 };
        format!(r#"{{"instrument":"ISIN-{number:04}","price":{price},"currency":"EUR"}}"#)
    };
    format!("[{}]", (0..40).map(row).collect::<Vec<_>>().join(",")).into_bytes()
}

/// Publishes versions and checks that the reader gets each; the operations that brought them, and their bytes beside those of the values.
fn check(capabilities: u64, kind: ValueType) -> (Vec<u8>, usize, usize) {
    let server = Server::start(2);
    let mut writer = server.connect();
    let mut reader = Session::connect(server.address, capabilities);
    reader.subscribe("t").unwrap();
    writer.add_and_set("t", kind, &table(0)).unwrap();
    assert_eq!(reader.next(), Seen::Subscribed("t".into(), kind.into()));
    assert_eq!(reader.next(), Seen::Value("t".into(), table(0)));
    reader.update_frames.clear();
    let mut value_bytes = 0;
    for version in 1..=30 {
        let value = table(version);
        value_bytes += value.len();
        writer.set("t", kind, &value).unwrap();
        assert_eq!(reader.next(), Seen::Value("t".into(), value));
    }
    let mut ops: Vec<u8> = reader.update_frames.iter().map(|(op, _)| *op).collect();
    ops.sort_unstable();
    ops.dedup();
    (ops, reader.update_frames.iter().map(|(_, bytes)| bytes).sum(), value_bytes)
}

#[test]
fn deltas_are_sent_and_are_smaller() {
    for kind in [ValueType::Json, ValueType::String, ValueType::Binary] {
        let (ops, sent_bytes, value_bytes) = check(3, kind);
        assert!(!ops.contains(&op::VALUE), "{ops:02x?}");
        assert!(sent_bytes * 10 < value_bytes, "{sent_bytes} of {value_bytes}");
    }
}

#[test]
fn who_decodes_no_deltas_gets_values() {
    let (ops, ..) = check(0, ValueType::Json);
    assert_eq!(ops, [op::VALUE]);
}

#[test]
fn who_decodes_one_form_is_not_sent_the_other() {
    for (capabilities, other) in [(1, op::DELTA_COPY), (2, op::DELTA_DEFLATE)] {
        let (ops, ..) = check(capabilities, ValueType::Json);
        assert!(!ops.contains(&other), "{ops:02x?}");
    }
}

#[test]
fn a_late_subscriber_starts_with_the_value() {
    let server = Server::start(2);
    let mut writer = server.connect();
    for version in 0..3 {
        writer.add_and_set("t", ValueType::Json, &table(version)).unwrap();
    }
    let mut reader = server.connect();
    reader.subscribe("t").unwrap();
    reader.settle();
    assert_eq!(reader.update_frames[0].0, op::VALUE);
    writer.set("t", ValueType::Json, &table(3)).unwrap();
    assert_eq!(reader.next(), Seen::Value("t".into(), table(3)));
    assert_ne!(reader.update_frames[1].0, op::VALUE);
}
