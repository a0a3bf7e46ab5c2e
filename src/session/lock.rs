//! A lock that a session holds or waits for, as its own shard knows it.

use super::Call;
use crate::base::{SessionId, ShardSet};

/// One session's wish for a lock. A session has at most one for a lock at a time; one that asks again after it has given up has another ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub session: SessionId,
    /// Of the session's shard.
    pub ticket: u64,
    pub scope: LockScope,
}

/// When a lock is released by itself. The numbers are those of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockScope {
    /// When the session is over.
    Session = 0,
    /// When the session loses its connection.
    Connection = 1,
}

impl LockScope {
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Session, Self::Connection].into_iter().find(|scope| *scope as u8 == number)
    }
}

/// See the module.
pub struct Lock {
    pub claim: Claim,
    pub standing: LockStanding,
}

/// How a session stands to a lock.
pub enum LockStanding {
    /// The requests that are answered when it is granted.
    Waits(Vec<Call>),
    Holds {
        /// Of the grant.
        number: u64,
        /// The other shards to which updates went that depend on this grant. Each has decided them before the lock passes on.
        updated: ShardSet,
    },
}

impl Lock {
    /// What it counts for under `limits.locks_max`.
    pub fn weight(&self) -> usize {
        match &self.standing {
            LockStanding::Waits(calls) => calls.len(),
            LockStanding::Holds { .. } => 1,
        }
    }
}
