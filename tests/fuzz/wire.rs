//! What is to hold for any bytes that a peer sends: decoders, and a whole shard behind them.

use serde_json::value::RawValue;
use tidewire::base::{Key, ShardIndex, Time};
use tidewire::session::QueueLimits;
use tidewire::shard::{Effect, Identity, Limits, Shard};
use tidewire::topic::selector::SelectorLimits;
use tidewire::value::delta::{self, Encoder};
use tidewire::wire::native::{self, Event, Request};
use tidewire::wire::text::{self, TextError};
use tidewire::wire::varint::Reader;
use tidewire::wire::{http, websocket};

/// A message of the binary form from a client: what is read can be written, and is read again.
pub fn native_request(mut input: &[u8]) {
    while let Ok(Some(frame)) = native::next_frame(&mut input) {
        let request = native::decode_request(frame);
        let mut written = Vec::new();
        native::put_request(&mut written, &request);
        let has_properties = matches!(request, Request::Update { properties: 1.., .. });
        if !written.is_empty() && !has_properties {
            let again = native::next_frame(&mut &written[..]).expect("a frame").expect("one frame");
            assert_eq!(native::decode_request(again), request);
        }
    }
}

/// A message of the binary form from a server.
pub fn native_event(mut input: &[u8]) {
    while let Ok(Some(frame)) = native::next_frame(&mut input) {
        if let Ok(Event::Ok { body, .. }) = native::decode_event(frame) {
            for with_values in [false, true] {
                let _ = native::decode_page(&mut Reader(body), with_values);
            }
        }
    }
}

pub fn text_request(input: &[u8]) {
    let Ok(message) = std::str::from_utf8(input) else { return };
    match text::decode_request(message) {
        // What a value's strings hold is for `value` to judge.
        Ok(_) => assert!(serde_json::from_str::<&RawValue>(message).is_ok()),
        Err(TextError::Malformed { position, message: what }) => assert!(position <= message.len() && !what.is_empty()),
        Err(TextError::Field { message: what, .. }) => assert!(!what.is_empty()),
    }
}

/// A head that is whole is the same whatever follows it.
pub fn http_head(input: &[u8]) {
    if let Ok(Some((length, head))) = http::parse_head(input) {
        assert_eq!(http::parse_head(&input[..length]), Ok(Some((length, head))));
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

/// A script of what befalls one shard, four bytes and a payload a command: what, to which connection, the payload's length.
pub fn shard(input: &[u8]) {
    let limits = limits();
    let bytes_max = limits.queue.bytes_max;
    let mut now = Time(1);
    let mut shard = Shard::new(Identity { index: ShardIndex(0), count: 1, server: "fuzz".into(), run: 1 }, limits, now);
    let mut keys = vec![connected(&mut shard, now, "tidewire.1"), connected(&mut shard, now, "tidewire.1.json")];
    let mut rest = input;
    while let [what, which, length, tail @ ..] = rest {
        let (payload, behind) = tail.split_at(tail.len().min(usize::from(*length)));
        rest = behind;
        let key = keys[usize::from(*which) % keys.len()];
        match what % 10 {
            0 if keys.len() < 8 => keys.extend(shard.handle_accept(now)),
            1 => shard.handle_bytes(now, key, &mut payload.to_vec()),
            2 => shard.handle_closed(now, key),
            3 => {
                now = now.after_ms(u64::from(*length) * 20);
                shard.handle_tick(now);
            }
            4 => shard.run_slice(now),
            5 => transmit(&mut shard, now, key),
            6 if keys.len() < 8 => keys.push(connected(&mut shard, now, if length % 2 == 0 { "tidewire.1" } else { "tidewire.1.json" })),
            _ => {
                let opcode = if usize::from(*which) % keys.len() == 1 { 0x81 } else { 0x82 };
                shard.handle_bytes(now, key, &mut frame(opcode, payload));
            }
        }
        carry_out(&mut shard, now);
        assert!(shard.queue_bytes_most() <= bytes_max);
    }
    for key in keys {
        transmit(&mut shard, now, key);
        shard.handle_closed(now, key);
    }
    while shard.has_walks() {
        shard.run_slice(now);
    }
    shard.handle_tick(now);
    assert_eq!((shard.connection_count(), shard.session_count(), shard.audience_counts()), (0, 0, [0; 5]));
}

fn limits() -> Limits {
    Limits {
        message_bytes_max: 300,
        path_bytes_max: 40,
        value_bytes_max: 100,
        selector: SelectorLimits {
            text_bytes_max: 60,
            members_max: 4,
            regexes_max: 2,
            regex_bytes_max: 20_000,
            ..SelectorLimits::default()
        },
        selections_max: 3,
        fetch_page_max: 3,
        topics_max: 5,
        connections_max: 7,
        http_head_bytes_max: 300,
        json_depth_max: 5,
        queue: QueueLimits { bytes_high: 400, bytes_max: 1200 },
        transmit_bytes_max: 50,
        handshake_timeout_ms: 1000,
        keep_alive_ms: 2000,
        walk_slice: 1,
        mail_high: 10,
    }
}

/// A connection that is open in the form of `protocol`; one that the shard does not take stands for one that is gone.
fn connected(shard: &mut Shard, now: Time, protocol: &str) -> Key {
    let Some(key) = shard.handle_accept(now) else { return Key { index: 0, generation: u32::MAX } };
    let head = format!(
        "GET /tidewire HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n"
    );
    shard.handle_bytes(now, key, &mut head.into_bytes());
    let mut connect = if protocol == "tidewire.1" { frame(0x82, &[1, 5, 1, 1, 2, 1, 3]) } else { frame(0x81, br#"{"op":"connect"}"#) };
    shard.handle_bytes(now, key, &mut connect);
    key
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    if payload.len() < 126 {
        frame.push(0x80 | payload.len() as u8);
    } else {
        frame.push(0x80 | 126);
        frame.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

fn transmit(shard: &mut Shard, now: Time, key: Key) {
    shard.begin_sends();
    // A connection that ends wants to send until it is closed.
    for _ in 0..1000 {
        if shard.poll_transmit(now, key).is_none() {
            break;
        }
        shard.handle_sent(now, key);
    }
    carry_out(shard, now);
}

fn carry_out(shard: &mut Shard, now: Time) {
    while let Some(effect) = shard.poll_effect() {
        match effect {
            Effect::Close(key) => shard.handle_closed(now, key),
            Effect::Http(key, request) => shard.respond(key, 404, "text/plain", request.path.as_bytes()),
            Effect::Wake(_) | Effect::Reports(_) => {}
        }
    }
}
