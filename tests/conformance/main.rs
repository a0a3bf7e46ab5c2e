//! What a server has to do, requirement by requirement: bytes in → bytes out, against one shard without sockets.
//!
//! - RFC 6455 from the server's side: `handshake`, `frames`, `split`, `messages`, `close`. A requirement is named by its section and the words
//!   it is about. What binds only a client's sending is not tested, but that the server bears it is.
//! - who may ask, by the host and the origin that a request names: `origins`; by what it shows for who asks: `pages`.
//! - what a client can do to others by being slow, fast or false: `abuse`.
//! - the protocol's own specification, `sdk/protocol/README.md`: `vectors` for its frames, and a file for each section that has rules.

mod abuse;
mod audits;
mod authenticators;
mod batches;
mod close;
mod derivations;
mod double_end;
mod durable;
mod every_operation;
mod examples;
mod fetches;
mod frames;
mod handshake;
mod identities;
mod inside;
mod latencies;
mod memory;
mod messages;
mod messaging;
mod mqtt_adversary;
mod mqtt_both;
mod mqtt_bridge;
mod mqtt_client;
mod mqtt_limbo;
mod mqtt_native;
mod mqtt_packets;
mod mqtt_peer;
mod mqtt_requests;
mod mqtt_storing;
mod mqtt_table;
mod mqtt_typed;
mod mqtt_v3;
mod mqtt_v5;
mod mqtt_waiting;
mod mqtt_websocket;
mod mqtt_withdrawn;
mod pacing;
mod pages;
mod origins;
mod peer;
mod permissions;
mod pressure;
mod properties;
mod removals;
mod series;
mod server;
mod sessions;
mod split;
mod storing;
mod streams;
mod updates;
mod views;
mod vectors;
