//! What shards say to each other of requests between clients.

use crate::base::{SessionId, ShardIndex};
use crate::protocol::Refusal;
use crate::topic::session_filter::SessionFilter;
use std::sync::Arc;

/// A value of a message; `None` for null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The number of its type.
    pub kind: u8,
    pub value: Option<Arc<[u8]>>,
}

impl Message {
    pub fn bytes(&self) -> usize {
        self.value.as_ref().map_or(0, |value| value.len())
    }
}

/// Who takes the requests to a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHandler {
    pub branch: Box<str>,
    pub session: SessionId,
    /// The session's own number of it.
    pub number: u64,
    /// The properties of askers that it wants to know.
    pub wanted: Arc<[Box<str>]>,
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// One that was chosen for its path.
    Handler { session: SessionId, number: u64 },
    /// Whichever of the session's is nearest to the path.
    Session(SessionId),
}

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Waiting {
    pub shard: ShardIndex,
    /// 0 where nobody waits.
    pub ticket: u64,
}

/// A client's request to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requested {
    pub waiting: Waiting,
    /// The asker's name.
    pub asker: Box<str>,
    pub path: Box<str>,
    pub message: Message,
    /// Of the asker.
    pub properties: Arc<[(Box<str>, Box<str>)]>,
    /// Handlers of the path that did not take it.
    pub tried: Vec<(SessionId, u64)>,
}

/// The same to all sessions that match.
pub struct RequestedOfAll {
    pub filter: SessionFilter,
    /// Who is told how many there are, also of one for whose answers nobody waits.
    pub scan: Waiting,
    pub requested: Requested,
}

/// Why a handler does not take a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unserved {
    /// There is none, or not any more.
    Gone,
    /// It has no connection now.
    Away,
    /// It has not answered as many as it may have.
    Busy,
}

pub enum Messaging {
    /// To every shard: a session handles requests, or does no longer.
    Handler { handler: RequestHandler, handles: bool },
    /// To the handler's shard.
    Request { target: Target, requested: Box<Requested> },
    /// To every shard.
    RequestOfAll(Box<RequestedOfAll>),
    /// Back to the asker's shard, which may have another.
    Returned { requested: Box<Requested>, target: Target, why: Unserved },
    /// To the asker's shard.
    Response { ticket: u64, from: SessionId, result: Result<Message, Refusal> },
    /// To the asker's shard: so many sessions of a shard were asked.
    Matched { ticket: u64, count: u64 },
    /// To a handler's shard, or to all: nobody waits any more.
    Over { waiting: Waiting },
}
