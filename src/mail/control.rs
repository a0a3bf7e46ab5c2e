//! What shards say to each other of sessions that others look at and steer.

use super::messaging::Waiting;
use crate::base::SessionId;
use crate::topic::session_filter::SessionFilter;
use crate::wire::native::{SelectionEntry, SessionEntry};

/// Which sessions are meant.
#[derive(Clone)]
pub enum Whom {
    Session(SessionId),
    Matching(SessionFilter),
}

/// What is done to each of them.
#[derive(Clone)]
pub enum Act {
    /// Lists them: so many at most behind the number, or those that are furthest behind.
    List {
        after: u64,
        count_max: usize,
        slowest: bool,
    },
    /// Reads what one selects: so many at most behind the first so many.
    ReadSelections {
        after: usize,
        count_max: usize,
    },
    Close {
        why: Box<str>,
    },
    /// Roles go, others come.
    ChangeRoles {
        remove: Box<[Box<str>]>,
        add: Box<[Box<str>]>,
    },
    /// An empty value takes the property away.
    SetProperties(Box<[(Box<str>, Box<str>)]>),
    /// Whether only the newest values wait for it.
    Conflate(bool),
    Subscribe {
        selector: Box<str>,
        scope: Box<str>,
    },
    Unsubscribe {
        selector: Box<str>,
        scope: Box<str>,
    },
}

#[derive(Clone)]
pub struct Order {
    pub waiting: Waiting,
    pub whom: Whom,
    pub act: Act,
}

pub enum Control {
    /// To the shard of the session that is meant, or to all.
    Order(Box<Order>),
    /// A shard has too many orders that wait to take this one.
    Refused { ticket: u64 },
    /// A shard has done its share: to so many, or what it found, of which it may have more.
    Done { ticket: u64, count: u64, listed: Vec<(u64, SessionEntry)>, has_more: bool },
    /// What the session selects, and whether there is more; `None` where it is over.
    Selections { ticket: u64, read: Option<(bool, Vec<SelectionEntry>)> },
}
