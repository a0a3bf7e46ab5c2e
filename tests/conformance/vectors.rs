//! The golden vectors of the protocol's frames, read from both sides: what the server decodes, what it encodes, and what it answers to broken frames.
//!
//! - `requests` — what a client sends, in both forms.
//! - `events` — what the server sends, in both forms.
//! - `table` — the specification's tables of both: nothing is missing, here or there.

mod events;
mod requests;
mod table;

use serde_json::Value;
use tidewire::surface::wire::native;
use tidewire::surface::wire::varint::Malformed;

pub fn vectors(direction: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_json::from_str(include_str!("../../sdk/protocol/vectors/frames.json")).expect("the vectors are JSON");
    let vectors: Vec<Value> = all.into_iter().filter(|vector| vector["direction"] == direction).collect();
    assert!(vectors.len() > 10, "{direction}");
    vectors
}

pub fn bytes(vector: &Value) -> Vec<u8> {
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
