//! What is to hold for any bytes that a peer sends: decoders, each for itself.

use serde_json::value::RawValue;
use tidewire::surface::value::delta::{self, Encoder};
use tidewire::surface::wire::event;
use tidewire::surface::wire::mqtt::{self, Fault, Packet, PublishHead, QoS, Version};
use tidewire::surface::wire::native::{self, Heard, Outcome, Shown};
use tidewire::surface::wire::text::{self, TextError};
use tidewire::surface::wire::varint::{Malformed, Reader};
use tidewire::surface::wire::{http, websocket};

/// A message of the binary form from a client: what is read can be written, and is read again.
pub fn native_request(mut input: &[u8]) {
    while let Ok(Some(frame)) = native::next_frame(&mut input) {
        let request = native::decode_request(frame);
        let mut written = Vec::new();
        native::put_request(&mut written, &request);
        if !written.is_empty() {
            let again = native::next_frame(&mut &written[..]).expect("a frame").expect("one frame");
            assert_eq!(native::decode_request(again), request);
        }
    }
}

/// A message of the binary form from a server.
pub fn native_event(mut input: &[u8]) {
    while let Ok(Some(frame)) = native::next_frame(&mut input) {
        if let Ok(Heard::Ok { body, .. }) = native::decode_event(frame) {
            for bits in 0..8 {
                let shown = Shown { values: bits & 1 != 0, properties: bits & 2 != 0, sizes: bits & 4 != 0 };
                if let Ok(page) = native::decode_page(&mut Reader(body), shown) {
                    comes_back(&page, |reader| native::decode_page(reader, shown));
                }
            }
            if let Ok(events) = native::decode_events(&mut Reader(body)) {
                comes_back(&events, native::decode_events);
            }
            if let Ok(views) = native::decode_views(&mut Reader(body)) {
                comes_back(&views, native::decode_views);
            }
        }
    }
}

/// What was read from an answer can be written, and is read again.
fn comes_back(outcome: &Outcome, decode: impl Fn(&mut Reader<'_>) -> Result<Outcome, Malformed>) {
    let mut written = Vec::new();
    event::put(&mut written, event::Form::Binary, &event::Event::Ok { id: 1, outcome });
    let frame = native::next_frame(&mut &written[..]).expect("a frame").expect("one frame");
    let mut reader = Reader(&frame.body[1..]);
    assert_eq!(decode(&mut reader).as_ref(), Ok(outcome));
    assert!(reader.is_empty());
}

/// A message of the text form: an object, or a batch, whose objects are each read for themselves.
pub fn text_request(input: &[u8]) {
    let Ok(message) = std::str::from_utf8(input) else { return };
    match text::split_batch(message) {
        Ok(objects) => {
            for (offset, object) in objects {
                assert_eq!(&message[offset..offset + object.len()], object);
                text_object(object);
            }
        }
        Err(TextError::Malformed { position, message: what }) => assert!(position <= message.len() && !what.is_empty()),
        Err(error) => panic!("a batch has no fields: {error:?}"),
    }
}

fn text_object(message: &str) {
    match text::decode_request(message) {
        // What a value's strings hold is for `value` to judge.
        Ok(_) => assert!(serde_json::from_str::<&RawValue>(message).is_ok()),
        Err(TextError::Malformed { position, message: what }) => assert!(position <= message.len() && !what.is_empty()),
        Err(TextError::Field { message: what, .. }) => assert!(!what.is_empty()),
    }
}

/// A head that is whole is the same whatever follows it.
pub fn http_head(input: &[u8]) {
    if let Ok(Some(head)) = http::parse_head(input, 64) {
        assert_eq!(http::parse_head(&input[..head.length], 64), Ok(Some(head)));
    }
}

pub fn websocket_head(input: &[u8]) {
    const PAYLOAD_MAX: usize = 1000;
    if let Ok(Some(head)) = websocket::parse_head(input, PAYLOAD_MAX) {
        assert!(head.payload_len <= PAYLOAD_MAX && head.head_len <= input.len());
        assert_eq!(websocket::parse_head(&input[..head.head_len], PAYLOAD_MAX), Ok(Some(head)));
        assert_eq!(websocket::parse_head(&input[..head.head_len - 1], PAYLOAD_MAX), Ok(None));
    }
    let _ = websocket::close_answer(input);
}

/// Halves of the input are a value and a delta of any form, then a value and the next.
pub fn delta(input: &[u8]) {
    const VALUE_BYTES_MAX: usize = 5000;
    let (previous, next) = input.split_at(input.len() / 2);
    for form in [delta::Form::Deflate, delta::Form::Copy] {
        if let Ok(value) = delta::apply(form, previous, next, VALUE_BYTES_MAX) {
            assert!(value.len() <= VALUE_BYTES_MAX);
        }
    }
    let mut made = Vec::new();
    if let Some(form) = Encoder::new().encode(previous, next, &mut made) {
        assert!(made.len() < next.len());
        assert_eq!(delta::apply(form, previous, &made, VALUE_BYTES_MAX).as_deref(), Ok(next));
    }
}

const MQTT_LIMITS: mqtt::PacketLimits = mqtt::PacketLimits { packet_bytes_max: 1000, user_properties_max: 4 };

/// A fixed header is the same whatever follows it, and none before it is whole.
pub fn mqtt_head(input: &[u8]) {
    match mqtt::parse_head(input, MQTT_LIMITS.packet_bytes_max) {
        Ok(Some(head)) => {
            assert!((2..=5).contains(&head.head_len) && head.head_len + head.body_len <= MQTT_LIMITS.packet_bytes_max);
            assert_eq!(mqtt::parse_head(&input[..head.head_len], MQTT_LIMITS.packet_bytes_max), Ok(Some(head)));
            assert_eq!(mqtt::parse_head(&input[..head.head_len - 1], MQTT_LIMITS.packet_bytes_max), Ok(None));
        }
        Ok(None) => assert!(input.len() < 5),
        Err(fault) => expect_error(fault),
    }
}

fn expect_error(fault: Fault) {
    assert!(fault.code.is_error() && fault.code.name() != "unknown" && !fault.what.is_empty());
}

/// What follows the fixed header of a CONNECT.
pub fn mqtt_connect(input: &[u8]) {
    match mqtt::decode_connect(input, &MQTT_LIMITS) {
        Ok(connect) => {
            assert!(connect.receive_maximum > 0 && connect.packet_bytes_max != Some(0));
            assert!(!connect.client_id.contains('\0') && connect.will.as_ref().is_none_or(|will| !will.topic.is_empty()));
            assert!(mqtt::decode_connect(&[input, &[0]].concat(), &MQTT_LIMITS).is_err());
            let cut = mqtt::decode_connect(&input[..input.len() - 1], &MQTT_LIMITS);
            // In 3.1 the flags may say more than there is.
            assert!(cut.is_err() || connect.version == Version::V31);
        }
        Err(fault) => expect_error(fault),
    }
}

/// The packets of a connection, behind one byte that says of which version; a PUBLISH comes back from what a server writes.
pub fn mqtt_packets(input: &[u8]) {
    let Some((version, mut rest)) = input.split_first() else { return };
    let version = [Version::V31, Version::V311, Version::V5][usize::from(version % 3)];
    while let Ok(Some(head)) = mqtt::parse_head(rest, MQTT_LIMITS.packet_bytes_max) {
        let Some(body) = rest.get(head.head_len..head.head_len + head.body_len) else { return };
        match mqtt::decode(version, head.first, body, &MQTT_LIMITS) {
            Ok(packet) => mqtt_packet(version, &packet),
            Err(fault) => expect_error(fault),
        }
        rest = &rest[head.head_len + head.body_len..];
    }
}

fn mqtt_packet(version: Version, packet: &Packet<'_>) {
    let mut written = Vec::new();
    match packet {
        Packet::Publish(publish) => {
            assert_eq!(publish.id == 0, publish.qos == QoS::AtMostOnce);
            assert!(!publish.topic.contains(['+', '#', '\0']) && (!publish.topic.is_empty() || publish.alias.is_some()));
            let head = PublishHead {
                missed: 0,
                is_duplicate: publish.is_duplicate,
                qos: publish.qos,
                retain: publish.retain,
                topic: &publish.topic,
                id: publish.id,
                alias: publish.alias,
                expiry_s: publish.properties.expiry_s,
                subscription_ids: &[],
                passed_on: &publish.properties.passed_on,
            };
            mqtt::put_publish(&mut written, version, &head, publish.payload);
        }
        Packet::Acknowledgement(a) => mqtt::put_acknowledgement(&mut written, version, a.kind, a.id, a.code, None),
        Packet::Subscribe(subscribe) => {
            assert!(!subscribe.filters.is_empty() && subscribe.id != 0);
            assert!(subscribe.filters.iter().all(|(filter, _)| !filter.is_empty()));
        }
        Packet::Unsubscribe(unsubscribe) => {
            assert!(!unsubscribe.filters.is_empty() && unsubscribe.id != 0);
        }
        Packet::Auth(auth) => assert!(version == Version::V5 && auth.method.is_some()),
        Packet::Connect(_) | Packet::Pingreq | Packet::Disconnect(_) => {}
    }
    if !written.is_empty() {
        let head = mqtt::parse_head(&written, usize::MAX).expect("a head").expect("a whole head");
        let again = mqtt::decode(version, head.first, &written[head.head_len..], &MQTT_LIMITS);
        assert_eq!(again.as_ref(), Ok(packet));
    }
}
