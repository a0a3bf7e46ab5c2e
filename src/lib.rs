//! Tidewire: an open real-time data server.
//!
//! Data lives in a topic tree; a client selects a part of it and its copy stays current. The modules stand in the order of their dependencies:
//! each uses only those above it.
//!
//! - `base` — ids, time, placement, slabs, the timer wheel.
//! - `wire` — bytes ↔ packets: WebSocket, HTTP head, the native protocol's two forms, MQTT.
//! - `value` — the types of values, compact JSON, deltas.
//! - `series` — the events of one time series: append, edit, ranges, queries.
//! - `topic` — paths, selectors, the tree, publications, who is interested; MQTT's names and filters for them.
//! - `security` — who may do what: roles, permissions, principals, and the scripts that set them.
//! - `session_tree` — tables by which the same paths mean other topics to other sessions.
//! - `protocol` — the one table of error and close codes, and the dialogues of both protocols.
//! - `view` — topic views: their language, and what a view makes of one topic's value.
//! - `session` — selections, and what a session still has to be sent; what MQTT's are beyond that.
//! - `journal` — what is kept of persistent topics: records over bytes, and what they add up to.
//! - `cluster` — topics that several servers hold as one: what the log that they agree on says.
//! - `mail` — what shards say to each other, with every type that travels.
//! - `desk` — what every room of a shard works with: identity, limits, clock, post, the ledger of what is stored, figures.
//! - `gate` — may this asker do this? Paths and selectors that somebody gives are parsed here.
//! - `owner` — a shard's topics: updates, interests, walks, removal, views at work. It looks into no session and no connection.
//! - `locks` — the locks whose names a shard owns: who holds each, and who waits.
//! - `audience` — a shard's sessions: what they select, what arrives for them, what they still have to be sent. It knows no connection but by its key.
//! - `request` — what clients ask for: checked, and given to sessions and owners.
//! - `door` — a shard's connections: bytes → what a client says, what its session has to be sent → bytes.
//! - `shard` — one core's world: routes inputs to the rooms above, carries out requests. Start reading here.
//!
//! Everything up to here is sans-IO: bytes, time and mail are arguments, effects are returned. No clock, socket, thread or file.
//!
//! - `storage` — the journal's files, the checkpointed state behind them, and the thread that acknowledges.
//! - `consensus` — openraft on the background thread: a few groups, what each has committed in order, who leads.
//! - `peers` — connections between the servers of a cluster, and who is in it: mutual TLS, greeting, joining, members of groups.
//! - `replica` — a server's part in its cluster: what shards propose goes to the engine, what that commits goes to shards.
//! - `transport` — what stands between sockets and shards: a proxy's header, and TLS. Sans-IO but for certificates' files.
//! - `config` — file, environment and flags → configuration.
//! - `authentication` — who asks: passwords, tokens, certificates, an endpoint, other sessions, on threads of its own.
//! - `admin` — HTTP: health, latency, pages.
//! - `runtime` — glommio's executors, each with one task that drives a shard: its sockets by a ring of its own, rings between shards.
//! - `server` — assembles the process; shutdown order.
//! - `demo` — this host's telemetry as topics, and the page that draws the tree.
//! - `cli` — the commands.
//! - `surface` — what the binary, the tests, the benches and the load test use of all this, item by item. The one public room.
#![forbid(unsafe_op_in_unsafe_fn)]

mod base;
mod value;
mod wire;
mod protocol;
mod series;
mod topic;
mod security;
mod session_tree;
mod view;
mod session;
mod journal;
mod cluster;
mod mail;
mod desk;
mod gate;
mod owner;
mod locks;
mod audience;
mod request;
mod door;
mod shard;

#[cfg(feature = "server")]
mod storage;
#[cfg(feature = "server")]
mod consensus;
#[cfg(feature = "server")]
mod peers;
#[cfg(feature = "server")]
mod replica;
#[cfg(feature = "server")]
mod transport;
#[cfg(feature = "server")]
mod config;
#[cfg(feature = "server")]
mod authentication;
#[cfg(feature = "server")]
mod admin;
#[cfg(feature = "server")]
mod runtime;
#[cfg(feature = "server")]
mod server;
#[cfg(feature = "server")]
mod demo;
#[cfg(feature = "server")]
mod cli;

pub mod surface;
