//! The binary form: frames ↔ requests and events. `sdk/protocol/README.md` is the specification.
//!
//! - `request` — how a request is read, and written.
//! - `answer` — what `WELCOME` and `OK` carry.
//! - `event` — frames about a topic's values, how an event is written, and what a client hears.

mod answer;
mod event;
mod request;

pub use super::request::{
    About, Append, Ask, Credentials, Fetch, NULL_BIT, OPERATIONS, Properties, Query, QueryRange, Request, Update, Verb,
};
pub use super::varint::{Frame, next_frame};
pub use answer::{
    BranchMapping, Entry, EventEntry, LockEntry, Outcome, PresenceEntry, Resumption, SELECTION_DESELECTS, SELECTION_IS_FILTER,
    SELECTION_SELECTS, SelectionEntry, SessionEntry, Shown, ViewEntry, Welcome, decode_authenticated, decode_events, decode_locks,
    decode_page, decode_presence, decode_script, decode_selections, decode_session_tree, decode_session_trees, decode_sessions,
    decode_views,
};
pub(super) use event::put_fields;
pub use event::{
    EventHead, Heard, decode_event, decode_event_head, decode_message, delta_frame, event_frame, null_frame, renumbered_frame,
    value_deflate_frame, value_frame,
};
pub(super) use request::Writer;
pub use request::{decode_request, put_request};

/// The numbers of operations and events.
pub mod op {
    pub use crate::wire::request::op::*;

    pub const WELCOME: u8 = 0x81;
    pub const OK: u8 = 0x82;
    pub const ERROR: u8 = 0x83;
    pub const RECEIVED: u8 = 0x85;
    pub const LATER: u8 = 0x86;
    pub const STALENESS: u8 = 0x87;
    pub const SUBSCRIBED: u8 = 0x90;
    pub const VALUE: u8 = 0x91;
    pub const DELTA_DEFLATE: u8 = 0x92;
    pub const DELTA_COPY: u8 = 0x93;
    pub const NULL_VALUE: u8 = 0x94;
    pub const EVENT: u8 = 0x95;
    pub const UNSUBSCRIBED: u8 = 0x98;
    pub const VALUE_DEFLATE: u8 = 0x99;
    pub const GAP: u8 = 0x9a;
    pub const TOPIC_NOTICE: u8 = 0xa0;
    pub const DESCENDANT_NOTICE: u8 = 0xa1;
    pub const SUBSCRIBERS_NOTICE: u8 = 0xa2;
    pub const MISSING_NOTICE: u8 = 0xa3;
    pub const REQUESTED: u8 = 0xb0;
    pub const RESPONSE: u8 = 0xb1;
    pub const RESPONSE_ERROR: u8 = 0xb2;
    pub const SESSION_NOTICE: u8 = 0xb4;
    pub const SESSION_CLOSED: u8 = 0xb5;
    pub const QUEUE_NOTICE: u8 = 0xb6;
    pub const PRESENCE_NOTICE: u8 = 0xb7;
}

pub const VERSION: u64 = 1;
/// The client decodes DELTA_DEFLATE.
pub const CAPABILITY_DEFLATE: u64 = 1;
/// The client decodes DELTA_COPY.
pub const CAPABILITY_COPY: u64 = 2;
/// The client decodes VALUE_DEFLATE.
pub const CAPABILITY_COMPRESSION: u64 = 4;
