//! Bytes ↔ packets; no state beyond an unfinished frame.
//!
//! The native protocol has two forms, `native` and `text`; what a client asks for in either is one `request`, what the server says one `event`.

pub mod event;
pub mod http;
pub mod mqtt;
pub mod native;
pub mod origin;
pub mod request;
pub mod text;
pub mod varint;
pub mod websocket;
