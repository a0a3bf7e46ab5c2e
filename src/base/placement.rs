//! Where a topic lives: path → partition → shard, and path → partition → group where several servers hold it. The one place that says so.

use super::ShardIndex;
use xxhash_rust::xxh3::xxh3_64;

/// Partitions of the tree; fixed, since a path's owner follows from it.
pub const PARTITIONS: u64 = 64;

/// The partition that a path belongs to.
pub fn partition(path: &str) -> u64 {
    xxh3_64(path.as_bytes()) % PARTITIONS
}

/// What each server has for itself: its own figures.
const OWN_BRANCHES: [&str; 3] = ["$SYS", "Diffusion", "Tidewire"];

/// The group, of `groups`, that what is at `path` is replicated in; `None` of what each server has for itself, and where there are none.
pub fn group_of(path: &str, groups: u16) -> Option<u16> {
    if groups == 0 {
        return None;
    }
    let first = path.split('/').next().unwrap_or_default();
    (!OWN_BRANCHES.contains(&first)).then(|| (partition(path) % u64::from(groups)) as u16)
}

/// The shard, of `shards`, that owns what is at `path`.
pub fn owner_of(path: &str, shards: u16) -> ShardIndex {
    ShardIndex((partition(path) % u64::from(shards)) as u16)
}
