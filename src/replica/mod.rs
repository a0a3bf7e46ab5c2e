//! A server's part in its cluster: what shards propose goes to the engine, what the engine commits goes to shards.
//!
//! ```text
//! shards ─ Link ─▶ consensus::Handle ─▶ logs       other servers ─▶ News::Asked ─▶ the shard of the path
//! shards ◀─ Word ◀─ Carrier ◀─ News ◀─ logs        forwarded updates ─▶ consensus::Handle::ask
//! ```
//! A shard hears of a group in the order of its log: entries of topics it owns, what became of what it proposed, who leads. It says what it has taken, so that no more is on its
//! way than the engine's window allows.
//!
//! Proposals of a shard to a group are settled in the order of their numbers: what is lost is told only when all before it is settled, though the engine may say so earlier.
//!
//! Loops here are over what one word of the engine or of a shard holds, which their bounds are.

mod carrier;
mod link;
mod outstanding;
#[cfg(test)]
mod tests;

pub use carrier::Carrier;
pub use link::Link;

use crate::cluster::{Row, Source};
use crate::shard::{Fate, Forwarder, Role};
use crate::storage::Loaded;
use bytes::Bytes;
use std::sync::Arc;

/// What a shard is told.
#[derive(Debug)]
pub enum Word {
    /// This server leads a group from now on, or does not.
    Role { group: u16, role: Role },
    /// What this server has of some group may be older than [`crate::consensus::Options::stale_ms`], or of none any more.
    Stale(bool),
    /// A part of what a group's log says, in order. `bytes` are to be given back by [`Link::took`].
    Said { group: u16, said: Vec<Said>, bytes: usize },
    /// An update that another server has forwarded, to be answered by [`Link::answer`] with the same number.
    Forwarded { group: u16, term: u64, from: Forwarder, number: u64, request: Bytes },
    /// Some topics of another server's snapshot, which takes the place of what is here of the group.
    Installed { group: u16, topics: Loaded },
    /// Those were all, as of this place of the group's log, and these are the updates that it is known to have.
    AllInstalled { group: u16, place: u64, made: Arc<[(Source, Row)]> },
    /// What became of an update that was forwarded.
    Reply { group: u16, ticket: u64, reply: Result<Bytes, Fate> },
}

/// One thing that a group's log says to a shard.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// `own` is the number that this shard has proposed it by.
    Entry { place: u64, term: u64, own: Option<u64>, bytes: Bytes },
    /// The shard's proposal without an entry is there, and with it all before.
    Confirmed { number: u64, term: u64 },
    /// The shard's proposals up to this one that were not applied never will be, or it is not known.
    Lost { last: u64, fate: Fate },
}

/// What a word holds at most: a shard looks at its connections in between.
const WORD_BYTES: usize = 64 << 10;

/// A number that names a shard or group beside something else.
fn pack(high: u16, low: u64) -> u64 {
    debug_assert!(low < 1 << 48);
    u64::from(high) << 48 | low
}

fn unpack(packed: u64) -> (u16, u64) {
    ((packed >> 48) as u16, packed & ((1 << 48) - 1))
}

/// What goes before a forwarded update: the term that it is for, and who has sent it.
const HEAD_BYTES: usize = 42;

fn head(term: u64, from: Forwarder) -> [u8; HEAD_BYTES] {
    let Forwarder { source: Source { server, boot, shard }, number, attempt } = from;
    let mut bytes = [0; HEAD_BYTES];
    for (eight, value) in bytes.chunks_exact_mut(8).zip([term, server, boot, number, attempt]) {
        eight.copy_from_slice(&value.to_le_bytes());
    }
    bytes[40..].copy_from_slice(&shard.to_le_bytes());
    bytes
}

fn read_head(bytes: &[u8]) -> Option<(u64, Forwarder)> {
    let (head, _) = bytes.split_first_chunk::<HEAD_BYTES>()?;
    let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
    let source = Source { server: number(8), boot: number(16), shard: u16::from_le_bytes([head[40], head[41]]) };
    Some((number(0), Forwarder { source, number: number(24), attempt: number(32) }))
}
