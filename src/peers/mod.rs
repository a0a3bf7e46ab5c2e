//! Connections between the servers of a cluster: who is in it, how each proves who it is, and how they ask each other what consensus asks.
//!
//! Each server connects to each other one four times, by TCP with mutual TLS 1.3: once for each lane, so that nothing waits behind entries but entries. The
//! cluster has a certificate authority of its own, which certifies nodes and nobody else ([`certificates`]). Before anything else both sides greet and judge
//! each other ([`hello`]); who refuses says why. Then questions go one way and answers come back in any order ([`frame`]). A question whose asker has given up
//! is forgotten; whatever was asked over a connection that ends is unanswered, and consensus asks again.
//!
//! ```text
//! consensus ─ Dial ─▶ link, one for each node and lane ══ TLS ══▶ accept ─▶ Inbox of the other
//! ```
//! Who is in the cluster says a table that each node has a copy of ([`members`]); the copies are exchanged with each greeting, when they change, and with
//! what says that a node lives. Whoever leads a group has its members follow the table ([`reconcile`]). A node is let in by whoever holds a token ([`token`],
//! [`mod@join`]). Commands on the same host reach the server by a socket ([`control`]).
//!
//! All of it runs on the engine's thread, in its task set, and is bounded: frames, questions under way, connections that have not greeted, members. Loops are
//! over the members, the groups, or go on for as long as a connection does, waiting in each turn.

mod accept;
mod certificates;
mod commands;
mod control;
mod files;
mod frame;
mod gossip;
mod hello;
mod home;
mod join;
mod leave;
mod link;
mod members;
mod reconcile;
mod shared;
#[cfg(test)]
mod tests;
mod token;

pub use commands::{GroupLine, NodeStatus, Status};
pub use control::{Command, ask};
pub use home::{Home, HomeError, Identity, directory, found};
pub use join::{JoinError, join};
pub use members::Standing;
pub use shared::Peers;

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

/// How a server speaks with the others. Every limit has its default in [`Options::new`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the others are heard.
    pub listen: SocketAddr,
    /// The longest question or answer, in bytes. Above what consensus puts in one message, and the longest entry; each connection may hold one, or as many as
    /// questions are under way.
    pub frame_bytes_max: usize,
    /// Questions under way on one connection. Whoever asks more is not answered.
    pub requests_max: usize,
    /// The same of what receivers ask each other: updates that wait for their group's leader.
    pub asked_max: usize,
    /// Connections that have not greeted yet. More wait in the system's queue; each costs TLS's memory.
    pub handshakes_max: usize,
    /// How long a connection may take until both have greeted.
    pub handshake_ms: u64,
    /// How far apart two servers' clocks may be.
    pub clock_skew_max_ms: u64,
    /// How often each says that it lives, and what it knows of the members.
    pub gossip_ms: u64,
    /// After so long without a word a connection has ended. Longer than the longest frame takes, which is one word. A process that has died without its system's
    /// saying so keeps the next one of its node out for as long.
    pub silence_ms: u64,
    /// How long to wait before another attempt to connect: at first, and at most. Doubled each time.
    pub backoff_ms: (u64, u64),
    /// How often a leader looks whether its group's members are those of the cluster.
    pub reconcile_ms: u64,
    /// The wall clock, in milliseconds since the epoch.
    pub clock: fn() -> u64,
}

impl Options {
    /// The defaults.
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            frame_bytes_max: 32 << 20,
            requests_max: 64,
            asked_max: 262_144,
            handshakes_max: 32,
            handshake_ms: 5000,
            clock_skew_max_ms: 60_000,
            gossip_ms: 1000,
            silence_ms: 5000,
            backoff_ms: (100, 1000),
            reconcile_ms: 500,
            clock: wall_clock_ms,
        }
    }
}

impl Options {
    /// Questions under way on a connection of the lane.
    fn requests_max(&self, lane: hello::LaneName) -> usize {
        if lane == hello::LaneName::Ask { self.asked_max } else { self.requests_max }
    }
}

/// The system's wall clock, in milliseconds since the epoch.
pub fn wall_clock_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
