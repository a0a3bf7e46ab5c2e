//! Where a topic lives: path → partition → shard. The one place that says so; a cluster puts the node between the two.

use super::ShardIndex;
use xxhash_rust::xxh3::xxh3_64;

/// Partitions of the tree; fixed, since a path's owner follows from it.
pub const PARTITIONS: u64 = 64;

/// The partition that a path belongs to.
pub fn partition(path: &str) -> u64 {
    xxh3_64(path.as_bytes()) % PARTITIONS
}

/// The shard, of `shards`, that owns what is at `path`.
pub fn owner_of(path: &str, shards: u16) -> ShardIndex {
    ShardIndex((partition(path) % u64::from(shards)) as u16)
}
