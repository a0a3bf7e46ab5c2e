//! What shards say to each other about locks: between the shard of a session, the owner of a lock's name, and owners of topics.

use super::Caller;
use crate::session::Claim;

/// About one lock.
pub enum LockWord {
    /// To the lock's owner: the claim waits for its turn.
    Claimed(Claim),
    /// To the lock's owner: the claim is given up, granted or not. So many `Fenced` come too, before the next is granted.
    Released { claim: Claim, fences: usize, asked: Option<Caller> },
    /// To an owner of topics: comes behind all updates that depend on the claim.
    Fence(Claim),
    /// From there to the lock's owner: those updates are decided.
    Fenced(Claim),
    /// To the session's shard: the claim holds the lock, until that shard says `Released`.
    Granted { claim: Claim, number: u64 },
}
