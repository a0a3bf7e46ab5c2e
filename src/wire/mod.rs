//! Bytes ↔ packets; no state beyond an unfinished frame.

pub mod http;
pub mod mqtt;
pub mod native;
pub mod text;
pub mod varint;
pub mod websocket;
