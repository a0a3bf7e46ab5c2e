//! Bytes ↔ packets; no state beyond an unfinished frame.
//!
//! The native protocol has two forms, `native` and `text`; what a client asks for in either is one `request`, what the server says one `event`.
//!
//! Every loop here is linear in the bytes of one head, message or packet, which `limits.http_head_bytes_max`, `limits.message_bytes_max` and
//! `mqtt.packet_bytes_max` bound, or of what is written.

pub mod authorization;
pub mod event;
pub mod forwarded;
pub mod http;
pub mod mqtt;
pub mod native;
pub mod origin;
pub mod request;
pub mod text;
pub mod varint;
pub mod websocket;
