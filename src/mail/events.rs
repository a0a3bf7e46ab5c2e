//! What shards say to each other of those who listen to what becomes of sessions: whether they live, how far they are behind, and what they are subscribed to.

use crate::base::ShardIndex;
use crate::topic::path::TopicPath;
use crate::topic::session_filter::SessionFilter;
use crate::wire::event::Form;
use crate::wire::native::PresenceEntry;
use std::sync::Arc;

/// A listener: the shard of its session, and its number there. It is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId {
    pub shard: ShardIndex,
    pub ticket: u64,
}

/// What it listens to.
#[derive(Clone)]
pub enum Wanted {
    /// Sessions that come and go, and these properties of theirs.
    Sessions { filter: SessionFilter, properties: Arc<[Box<str>]> },
    /// Sessions for which much waits.
    Queues { filter: SessionFilter },
    /// Who is subscribed; each session once, or once for each topic.
    Presence { selector: Box<str>, is_once: bool },
}

#[derive(Clone)]
pub struct Listen {
    pub id: ListenerId,
    /// By which its client knows it.
    pub number: u64,
    /// Of its session.
    pub form: Form,
    pub wanted: Wanted,
}

/// A session is subscribed from now on, or no longer.
pub struct Change {
    pub path: TopicPath,
    /// The number of the session, in whose order they are told.
    pub number: u64,
    pub entry: PresenceEntry,
    pub joins: bool,
}

/// What is told: whole events of the listener's form, or changes of which many become one.
pub enum Notices {
    Events(Vec<Box<[u8]>>),
    Changes(Vec<Change>),
}

/// Which of those that are subscribed are wanted.
#[derive(Clone)]
pub struct PresenceQuestion {
    pub selector: Box<str>,
    /// Behind the session of this number, at this path.
    pub after: Option<(TopicPath, u64)>,
    pub count_max: usize,
    pub is_once: bool,
}

pub enum Events {
    /// To every shard.
    Listen(Box<Listen>),
    Unlisten(ListenerId),
    /// To the shard of the listener, of which it has so many bytes until it says `GoOn`. `is_all`: what was there when the listener came is told.
    Told {
        ticket: u64,
        notices: Notices,
        bytes: usize,
        is_all: bool,
    },
    GoOn {
        listener: ListenerId,
        bytes: usize,
    },
    /// To every shard, which answers by a `Part`.
    AskPresence {
        ticket: u64,
        question: Box<PresenceQuestion>,
    },
}
