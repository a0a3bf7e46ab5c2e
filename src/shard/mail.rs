//! What shards say to each other. Between two shards mail keeps its order.

use super::report::Report;
use crate::base::{Key, ShardIndex, Time, TopicId};
use crate::protocol::{Reason, Refusal};
use crate::topic::path::TopicPath;
use crate::topic::publication::Publication;
use crate::value::ValueType;
use crate::wire::native::{Entry, Outcome, Verb};
use std::sync::Arc;

/// One turn's mail for one shard.
pub struct Batch {
    pub sent: Time,
    pub mails: Vec<Mail>,
}

pub enum Mail {
    /// To a topic's owner.
    Update(Update),
    /// To every owner (or the one of a path selector): the answers come as `Part`s for the ticket.
    Ask {
        ticket: u64,
        question: Question,
    },
    /// An owner is done with its share of a question.
    Part {
        ticket: u64,
        part: Part,
    },
    /// An update's answer.
    Answer {
        to: Asker,
        result: Result<Outcome, Refusal>,
    },
    /// This shard's interest in a selector ended.
    Release {
        selector: Box<str>,
    },
    /// A topic of interest: sent before anything else of it, and again only after `Forgotten`.
    Appeared {
        id: TopicId,
        path: TopicPath,
        kind: ValueType,
        latest: Option<Arc<Publication>>,
    },
    Published(Arc<Publication>),
    Removed {
        id: TopicId,
        reason: Reason,
    },
    /// No selector that the owner knows of wants the topic any more.
    Forgotten {
        id: TopicId,
    },
    AskReport {
        from: ShardIndex,
        ticket: u64,
    },
    Report {
        ticket: u64,
        report: Box<Report>,
    },
}

/// An update on its way to the owner. The value is checked and in its wire form.
pub struct Update {
    pub from: ShardIndex,
    pub to: Asker,
    pub verb: Verb,
    pub path: TopicPath,
    pub kind: ValueType,
    pub value: Box<[u8]>,
    pub received: Time,
}

/// Who gets a request's answer.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    pub session: Key,
    pub id: u64,
}

/// A question about all topics that match. Selectors travel as text: a parsed one is cheapest on the shard that made it.
#[derive(Clone)]
pub enum Question {
    Interest { selector: Box<str> },
    Remove { selector: Box<str> },
    Fetch { selector: Box<str>, after: Option<TopicPath>, first: usize, bytes_max: usize, with_values: bool },
}

/// One owner's share of an answer.
pub enum Part {
    Ready,
    Removed(u64),
    /// In path order. `is_cut`: the owner has more behind the last entry.
    Page {
        entries: Vec<Entry>,
        is_cut: bool,
    },
}
