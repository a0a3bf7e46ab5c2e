//! The golden vectors of the protocol's frames, read from both sides: what the server decodes, what it encodes, and what it answers to broken frames.
//!
//! - `requests` — what a client sends, in both forms.
//! - `events` — what the server sends, in both forms.

mod events;
mod requests;

use serde_json::Value;
use tidewire::wire::native;
use tidewire::wire::varint::Malformed;

fn vectors(direction: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_json::from_str(include_str!("../../sdk/protocol/vectors/frames.json")).expect("the vectors are JSON");
    let vectors: Vec<Value> = all.into_iter().filter(|vector| vector["direction"] == direction).collect();
    assert!(vectors.len() > 10, "{direction}");
    vectors
}

fn bytes(vector: &Value) -> Vec<u8> {
    let hex = vector["hex"].as_str().expect("every vector has hex");
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex")).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The frames that a vector says are in its message; `None` where it is about an error.
fn messages(vector: &Value) -> Option<Vec<Value>> {
    match (&vector["message"], &vector["messages"]) {
        (Value::Null, Value::Null) => None,
        (Value::Null, several) => several.as_array().cloned(),
        (one, _) => Some(vec![one.clone()]),
    }
}

/// What a later version says is only read.
fn is_written(vector: &Value) -> bool {
    !vector["name"].as_str().expect("every vector has a name").contains("later version")
}

fn decode<'a, T>(message: &'a [u8], decode: impl Fn(native::Frame<'a>) -> Result<T, Malformed>) -> Result<Vec<T>, Malformed> {
    let mut rest = message;
    let mut decoded = Vec::new();
    while let Some(frame) = native::next_frame(&mut rest)? {
        decoded.push(decode(frame)?);
    }
    Ok(decoded)
}

/// Every operation and event of the protocol has a vector.
#[test]
fn nothing_is_left_out() {
    let codes = |direction: &str| -> Vec<u8> { vectors(direction).iter().filter_map(|vector| bytes(vector).first().copied()).collect() };
    let asked = codes("client");
    for op in
        (0x01..=0x04).chain(0x10..=0x15).chain(0x18..=0x1a).chain([0x1c, 0x1d]).chain(0x20..=0x23).chain(0x28..=0x2a).chain(0x40..=0x43)
    {
        assert!(asked.contains(&op), "0x{op:02x}");
    }
    let told = codes("server");
    for op in [0x02, 0x03].into_iter().chain(0x81..=0x83).chain(0x90..=0x95).chain([0x98, 0x99]).chain(0xa0..=0xa3) {
        assert!(told.contains(&op), "0x{op:02x}");
    }
}
