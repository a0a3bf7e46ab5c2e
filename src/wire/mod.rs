//! Bytes ↔ packets; no state beyond an unfinished frame.
//!
//! The native protocol has two forms, `native` and `text`; what the server says in either is one `event`.

pub mod event;
pub mod http;
pub mod mqtt;
pub mod native;
pub mod text;
pub mod varint;
pub mod websocket;
