//! What shards say to each other about topic views: orders, decisions, and what views make of topics.

use crate::base::{ShardIndex, Time};
use crate::series::Event;
use crate::topic::path::TopicPath;
use crate::topic::publication::Publication;
use crate::topic::specification::Specification;
use std::sync::Arc;

/// How many topics may be derived from each other in a row.
pub const DEPTH_MAX: usize = 16;

/// Topics that one may be derived from in all.
const ANCESTORS_MAX: usize = 256;

/// What is asked of the writer.
pub enum Order {
    Create { name: Box<str>, text: Box<str>, creator: Option<Creator> },
    Remove { name: Box<str> },
}

/// What the writer has decided, in the order in which every shard carries it out.
#[derive(Clone)]
pub enum Decision {
    Put { place: u64, name: Box<str>, text: Box<str>, creator: Option<Creator> },
    Removed { place: u64 },
}

/// Who has made a view: it reads and makes what that client may, by the roles that it had then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Creator {
    pub principal: Box<str>,
    /// As `$Roles` has them.
    pub roles: Box<str>,
}

/// Who is told when every shard has carried out a decision.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    pub shard: ShardIndex,
    pub ticket: u64,
}

/// One shard's share of what is known of a view at work.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub place: u64,
    pub sources: u64,
    pub references: u64,
    pub evaluations: u64,
    pub failures: u64,
    pub last_failure: String,
}

/// From a source's owner to that of a reference topic's path.
pub struct Derived {
    pub view: u64,
    pub source: TopicPath,
    pub path: TopicPath,
    pub step: ClaimChange,
}

pub enum ClaimChange {
    /// The path is claimed, or claimed anew; what the claim held before is replaced.
    Offer {
        specification: Arc<Specification>,
        ancestry: Arc<Ancestry>,
        content: Content,
        received: Time,
    },
    Value {
        content: Content,
        received: Time,
    },
    Event {
        event: Event,
        received: Time,
    },
    Withdraw,
}

/// What a reference topic holds.
pub enum Content {
    /// No value yet.
    Nothing,
    /// What its source holds.
    Shared(Arc<Publication>),
    /// `None` for null.
    Own(Option<Box<[u8]>>),
    Events(Vec<Event>),
}

impl Content {
    /// What a topic that holds this has as its value; `None` where that says nothing of it.
    pub fn value(&self) -> Option<Option<&[u8]>> {
        match self {
            Self::Nothing | Self::Events(_) => None,
            Self::Shared(publication) => Some(publication.value()),
            Self::Own(value) => Some(value.as_deref()),
        }
    }
}

/// The topics that something is derived from, be it directly or not: sources, and what views looked at beside them.
#[derive(Debug, PartialEq, Eq)]
pub struct Ancestry {
    /// In path order.
    paths: Box<[TopicPath]>,
    depth: usize,
}

impl Ancestry {
    /// Of what is derived from the topic at `path`, which itself is derived from these.
    pub fn of(path: &TopicPath, own: Option<&Self>) -> Self {
        let alone = Self { paths: Box::new([path.clone()]), depth: 1 };
        own.map_or_else(|| Self { paths: alone.paths.clone(), depth: 1 }, |own| Self { depth: own.depth + 1, ..alone.and(own) })
    }

    /// Of what is derived from both.
    pub fn and(&self, other: &Self) -> Self {
        let mut paths: Vec<TopicPath> = self.paths.iter().chain(&other.paths).cloned().collect();
        paths.sort_unstable();
        paths.dedup();
        Self { paths: paths.into(), depth: self.depth.max(other.depth) }
    }

    /// Whether nothing more may be derived from what has these.
    pub fn is_too_deep(&self) -> bool {
        self.depth > DEPTH_MAX || self.paths.len() > ANCESTORS_MAX
    }

    pub fn contains(&self, path: &str) -> bool {
        self.paths.iter().any(|held| held.as_str() == path)
    }
}

/// A topic as those see it that look at it.
#[derive(Clone)]
pub struct Seen {
    pub specification: Arc<Specification>,
    pub latest: Option<Arc<Publication>>,
    /// Of a reference topic: what it is derived from.
    pub ancestry: Option<Arc<Ancestry>>,
}

impl Derived {
    /// What it holds beside its paths.
    pub fn bytes(&self) -> usize {
        let of = |content: &Content| match content {
            Content::Nothing | Content::Own(None) => 0,
            Content::Own(Some(value)) => value.len(),
            // Held by its topic too while that does not change.
            Content::Shared(publication) => publication.bytes(),
            Content::Events(events) => events.iter().map(|event| event.value.len()).sum(),
        };
        match &self.step {
            ClaimChange::Offer { content, .. } | ClaimChange::Value { content, .. } => of(content),
            ClaimChange::Event { event, .. } => event.value.len(),
            ClaimChange::Withdraw => 0,
        }
    }
}
