//! VALUE_DEFLATE: to who decodes it, where it is smaller, as the topic's COMPRESSION says.

use crate::client::{Seen, Session};
use crate::server::Server;
use tidewire::surface::topic::specification::TopicType;
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::{CAPABILITY_COMPRESSION, op};

/// The operation and the length of the frame that brings a value; the session checks that it inflates to the value.
fn check(capabilities: u64, compression: &str, value: &[u8]) -> (u8, usize) {
    let server = Server::start(2);
    let mut writer = server.connect();
    let mut reader = Session::connect(server.address, capabilities);
    writer.add_with("a", TopicType::Binary, &[("COMPRESSION", compression)]).unwrap();
    reader.subscribe("a").unwrap();
    reader.settle();
    writer.set("a", ValueType::Binary, value).unwrap();
    assert_eq!(reader.next(), Seen::Value("a".into(), value.into()));
    reader.update_frames[0]
}

fn repetitive() -> Vec<u8> {
    (0..2000).flat_map(|number| format!("{{\"row\":{number},\"state\":\"open\"}},").into_bytes()).collect()
}

#[test]
fn compressed_values_inflate_to_the_value_and_are_smaller() {
    let value = repetitive();
    for compression in ["low", "medium", "high"] {
        let (op, bytes) = check(CAPABILITY_COMPRESSION, compression, &value);
        assert_eq!(op, op::VALUE_DEFLATE, "{compression}");
        assert!(bytes * 3 < value.len(), "{compression}: {bytes} of {}", value.len());
    }
}

#[test]
fn off_and_who_does_not_decode_it_get_the_value() {
    let value = repetitive();
    assert_eq!(check(CAPABILITY_COMPRESSION, "off", &value).0, op::VALUE);
    assert_eq!(check(0, "high", &value).0, op::VALUE);
    assert_eq!(check(3, "high", &value).0, op::VALUE);
}

#[test]
fn what_does_not_get_smaller_is_sent_as_it_is() {
    let mut random = crate::random::Random::new(1);
    let noise: Vec<u8> = (0..1000).flat_map(|_| random.next().to_le_bytes()).collect();
    assert_eq!(check(CAPABILITY_COMPRESSION, "high", &noise).0, op::VALUE);
    assert_eq!(check(CAPABILITY_COMPRESSION, "high", b"1").0, op::VALUE);
}

#[test]
fn who_subscribes_later_is_sent_it_compressed_and_then_deltas() {
    let server = Server::start(2);
    let mut writer = server.connect();
    writer.add_and_set("a", ValueType::Binary, &repetitive()).unwrap();
    let mut reader = Session::connect(server.address, 7);
    reader.subscribe("a").unwrap();
    reader.settle();
    let mut next = repetitive();
    next[777] ^= 1;
    writer.set("a", ValueType::Binary, &next).unwrap();
    assert_eq!(reader.next(), Seen::Value("a".into(), next));
    let ops: Vec<u8> = reader.update_frames.iter().map(|(op, _)| *op).collect();
    assert!(ops[0] == op::VALUE_DEFLATE && [op::DELTA_COPY, op::DELTA_DEFLATE].contains(&ops[1]), "{ops:02x?}");
}
