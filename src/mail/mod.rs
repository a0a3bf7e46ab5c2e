//! What shards say to each other. Between two shards mail keeps its order.

pub mod control;
pub mod events;
mod locks;
pub mod messaging;
pub mod report;
pub mod security;
pub mod session_trees;
pub mod views;

use crate::base::{Key, SessionId, SessionKey, ShardIndex, Time, TopicId};
use crate::protocol::{Reason, Refusal};
use crate::security::Rights;
use crate::series;
use crate::session::Member;
use crate::session::mqtt::Standing;
pub use crate::session::{Asker, Call, Caller};
use crate::session_tree::Region;
use crate::topic::constraint::Constraint;
use crate::topic::path::TopicPath;
use crate::topic::publication::{self, Keep, Publication};
use crate::topic::session_filter::SessionFilter;
use crate::topic::specification::Specification;
use crate::topic::tree::{Direction, Span, StreamTag};
use crate::value::ValueType;
use crate::value::delta::Form;
use crate::wire::native::{Append, Entry, LockEntry, Outcome, PresenceEntry, Shown};
pub use locks::LockWord;
use report::Report;
use std::borrow::Cow;
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
    /// Whether sessions here hold about as many messages as they may together: further ones are refused to their publishers.
    Full {
        is_full: bool,
    },
    /// To the shard itself: what is kept of the session has changed.
    StoreSession {
        session: SessionKey,
    },
    /// This shard's interest in a selector ended.
    Release {
        selector: Box<str>,
    },
    /// A topic of interest: sent before anything else of it, and again only after `Forgotten`.
    Appeared(Box<Appeared>),
    Published(Arc<Publication>),
    Removed {
        id: TopicId,
        reason: Reason,
    },
    /// No selector that the owner knows of wants the topic any more.
    Forgotten {
        id: TopicId,
    },
    /// To a time series' owner: which events does a new subscriber get? Or, for one that missed some: which are behind this sequence?
    AskHistory {
        path: TopicPath,
        after: Option<u64>,
        to: Subscription,
    },
    /// The events that come before all that is published from now on.
    History {
        /// `None` where there is no such topic any more.
        id: Option<TopicId>,
        to: Subscription,
        events: Vec<Arc<Publication>>,
    },
    /// Whether the owner wants to know the number of a topic's subscribers.
    Count {
        id: TopicId,
        counts: bool,
    },
    /// So many sessions here are subscribed to a counted topic.
    Subscribers {
        path: TopicPath,
        id: TopicId,
        count: u64,
    },
    /// What a shard that listens is told.
    Noticed {
        notice: Box<Notice>,
        /// The last request to listen that the owner had heard of the shard.
        asked: u64,
    },
    /// An owner has told a slice of what a listener finds, and waits for `GoOn`.
    SliceTold {
        ticket: u64,
    },
    GoOn {
        ticket: u64,
    },
    /// No listener of this shard has the selector any more.
    StopListening {
        kind: ListenerKind,
        selector: Box<str>,
    },
    /// A session handles the missing topics of a branch, or does no longer.
    Handler {
        handler: Handler,
        handles: bool,
    },
    /// To the shard of a handler: a session's selector matched nothing.
    Missing(Box<Missing>),
    /// To a session's shard: tell the owner of the topic when the session is over.
    WatchSession {
        session: SessionId,
        path: TopicPath,
        id: TopicId,
    },
    SessionOver {
        path: TopicPath,
        id: TopicId,
    },
    /// The topic is gone.
    UnwatchSession {
        session: SessionId,
        id: TopicId,
    },
    /// How many sessions match? Asked by owners of topics whose removal depends on it; the key is the asker's own.
    AskSessions {
        filter: SessionFilter,
        count: Key,
    },
    Sessions {
        count: Key,
        share: u64,
    },
    /// A removal policy removes other topics too.
    RemoveSelected {
        selector: Box<str>,
    },
    /// To the one shard that decides on views.
    OrderView {
        order: Box<views::Order>,
        to: views::Told,
    },
    /// To every shard, in the order of decisions.
    ViewDecided {
        decision: Box<views::Decision>,
        to: views::Told,
    },
    /// Comes behind all that the shard that sends it has sent before; who is to be told gets a `Part`.
    Fence {
        to: views::Told,
    },
    /// What a view has made of a topic, to the owner of the reference topic's path.
    Derived(Box<views::Derived>),
    /// A view looks at a topic from now on: its owner tells its value, and each that follows.
    Watch {
        path: TopicPath,
    },
    Unwatch {
        path: TopicPath,
    },
    /// `None` where there is no such topic.
    Watched {
        path: TopicPath,
        value: Option<views::Seen>,
    },
    /// To the shard that holds a shared subscription.
    Group {
        text: Box<str>,
        change: GroupChange,
    },
    /// There are topics of the property OWNER: to their owners more is allowed than by their roles.
    Owned,
    /// The shard keeps sessions that outlive the server.
    Keeper {
        shard: ShardIndex,
    },
    /// To the owner of a topic: sessions of a shard that outlive the server keep its message.
    Kept {
        ticket: u64,
        share: Share,
        refusal: Option<Refusal>,
    },
    /// A group's message to one of its members.
    Dealt(Box<Dealt>),
    /// Of requests between clients.
    Messaging(Box<messaging::Messaging>),
    /// Of sessions that others look at and steer.
    Control(Box<control::Control>),
    /// Of those who listen to what becomes of sessions.
    Events(Box<events::Events>),
    /// Of what roles permit.
    Security(Box<security::Security>),
    /// Of branch mapping tables.
    SessionTrees(Box<session_trees::SessionTrees>),
    Lock {
        name: Box<str>,
        word: Box<LockWord>,
    },
    /// To every owner of locks: which are held, of those behind this name?
    AskLocks {
        ticket: u64,
        after: Box<str>,
    },
    /// Somebody looks for the server's figures.
    WantSys,
    AskReport {
        from: ShardIndex,
        ticket: u64,
    },
    Report {
        ticket: u64,
        report: Box<Report>,
    },
}

pub struct Appeared {
    pub id: TopicId,
    pub path: TopicPath,
    pub specification: Arc<Specification>,
    pub latest: Option<Arc<Publication>>,
    pub is_counted: bool,
    pub appearance: Appearance,
}

/// Why a shard is told of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appearance {
    /// It was made just now: its value is news.
    Made,
    /// An interest has found it.
    Found,
    /// It was restored, and those who had subscribed have had its value.
    Restored,
}

/// What happens to a shared subscription.
pub enum GroupChange {
    Join {
        member: Member,
        caller: Caller,
    },
    Leave {
        session: SessionId,
    },
    Standing {
        session: SessionId,
        standing: Standing,
    },
    Rights {
        session: SessionId,
        rights: Arc<Rights>,
        principal: Option<Arc<str>>,
    },
    /// The member that it was dealt to is gone, and has not acknowledged it.
    DealAgain(Dealing),
}

pub struct Dealt {
    pub text: Box<str>,
    pub member: Member,
    pub dealing: Dealing,
}

/// A message that a group deals out.
pub struct Dealing {
    pub publication: Arc<Publication>,
    pub path: TopicPath,
    pub specification: Arc<Specification>,
    /// Who waits for the word that it is kept, where that has not been given.
    pub keep: Option<Keep>,
}

/// One session's subscription to a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    pub session: SessionKey,
    pub generation: u32,
}

/// An update on its way to the owner.
pub struct Update {
    pub from: ShardIndex,
    pub to: Asker,
    /// The session that it comes from.
    pub by: Option<SessionId>,
    /// The principal of its client, if it has one.
    pub author: Option<Arc<str>>,
    pub path: TopicPath,
    pub change: Change<'static>,
    pub received: Time,
}

/// What is to happen to one topic. Values are checked and in their stored form.
pub struct Change<'a> {
    pub action: Action<'a>,
    pub conditions: Option<Box<Conditions>>,
}

pub enum Action<'a> {
    Add(Arc<Specification>),
    Set(Content<'a>),
    AddAndSet(Arc<Specification>, Content<'a>),
    /// Changes nothing: the topic is there and its values are of this type.
    Check(ValueType),
    /// An RFC 6902 text.
    Patch(Cow<'a, [u8]>),
    /// Against the stream's last value, which is the topic's.
    Delta(Form, Cow<'a, [u8]>),
    Append(Append, Content<'a>),
    /// A message of MQTT, whose payload becomes a value of the topic's type.
    Message(Box<MessageChange<'a>>),
}

pub struct MessageChange<'a> {
    pub payload: Cow<'a, [u8]>,
    pub head: publication::Message,
    pub making: Making,
}

/// What a topic that a message of MQTT may make would be.
#[derive(Clone)]
pub enum Making {
    Refused,
    /// Its publisher may make none.
    Denied,
    /// None: without a topic the message is a request, and goes back to who published it. One that messages only passed by is none.
    Asked,
    Of(Arc<Specification>),
}

/// A value of a type; `None` for null.
pub struct Content<'a> {
    pub kind: ValueType,
    pub value: Option<Cow<'a, [u8]>>,
}

/// What few updates have.
#[derive(Default)]
pub struct Conditions {
    pub constraint: Option<Constraint>,
    pub stream: Option<StreamStep>,
    /// An event that is edited must be of the author's own.
    pub is_own: bool,
    /// What anybody is told but the topic's owner.
    pub unless_owner: Option<Refusal>,
}

/// An operation of an update stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamStep {
    pub stream: StreamTag,
    pub opens: bool,
    /// Which of the stream it is, from 0.
    pub ordinal: u64,
}

impl Change<'_> {
    pub fn into_owned(self) -> Change<'static> {
        let owned = |bytes: Cow<'_, [u8]>| Cow::Owned(bytes.into_owned());
        let content = |content: Content<'_>| Content { kind: content.kind, value: content.value.map(owned) };
        let action = match self.action {
            Action::Add(specification) => Action::Add(specification),
            Action::Set(value) => Action::Set(content(value)),
            Action::AddAndSet(specification, value) => Action::AddAndSet(specification, content(value)),
            Action::Check(kind) => Action::Check(kind),
            Action::Patch(patch) => Action::Patch(owned(patch)),
            Action::Delta(form, delta) => Action::Delta(form, owned(delta)),
            Action::Append(append, value) => Action::Append(append, content(value)),
            Action::Message(message) => {
                let MessageChange { payload, head, making } = *message;
                Action::Message(Box::new(MessageChange { payload: owned(payload), head, making }))
            }
        };
        Change { action, conditions: self.conditions }
    }
}

/// A question about all topics that match. Selectors travel as text: a parsed one is cheapest on the shard that made it.
#[derive(Clone)]
pub enum Question {
    Interest {
        selector: Box<str>,
    },
    Remove {
        selector: Box<str>,
        viewer: Viewer,
    },
    Fetch(Box<Fetch>),
    Listen {
        kind: ListenerKind,
        selector: Box<str>,
    },
    /// The path is the selector.
    Query {
        path: Box<str>,
        query: series::Query,
        bytes_max: usize,
        /// What anybody is told but this principal, if it is the topic's owner.
        unless_owner: Option<(Refusal, Option<Arc<str>>)>,
    },
    /// How these views do.
    Views {
        places: Arc<[u64]>,
    },
}

/// Which topics a fetch wants of an owner; paths are places in path order.
#[derive(Clone)]
pub struct Fetch {
    pub selector: Box<str>,
    pub span: Span,
    pub direction: Direction,
    pub count_max: usize,
    pub bytes_max: usize,
    /// Bit n for topic type n.
    pub types: u64,
    pub shown: Shown,
    pub deep: Option<DeepLimit>,
    /// Where the owner finds it, if the selector and the span are about a session's own paths, which the entries have too.
    pub region: Option<Box<Region>>,
    /// Who asks, about the same paths as the selector.
    pub viewer: Viewer,
    /// What it is told where nothing is found.
    pub refusal: Option<Refusal>,
}

/// Who asks about topics: what its roles permit, and its principal, to which what it owns is more.
#[derive(Clone, Default)]
pub struct Viewer {
    pub rights: Arc<Rights>,
    pub principal: Option<Arc<str>>,
}

impl Viewer {
    pub fn owns(&self, specification: &Specification) -> bool {
        specification.owner().is_some_and(|owner| self.principal.as_deref() == Some(owner))
    }
}

/// At most so many results of each branch whose root has so many segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeepLimit {
    pub depth: usize,
    pub count_max: usize,
}

/// One owner's share of an answer.
pub enum Part {
    Ready,
    Removed(Result<u64, Refusal>),
    /// In the fetch's direction. `is_cut`: the owner has more behind the last entry.
    Page {
        entries: Vec<Entry>,
        is_cut: bool,
        /// A deep branch has more than was given.
        is_thinned: bool,
    },
    Events(Result<Outcome, Refusal>),
    Views(Vec<views::Figures>),
    /// The writer's word on an order; where it changes nothing, no other shard has anything to do.
    View {
        result: Result<Outcome, Refusal>,
        changes_nothing: bool,
    },
    /// In their order. `has_more`: the shard has more behind the last.
    Presence {
        present: Vec<(TopicPath, u64, PresenceEntry)>,
        has_more: bool,
    },
    /// By their names. `is_cut`: the owner has more behind the last.
    Locks {
        entries: Vec<LockEntry>,
        is_cut: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    Topics,
    Subscribers,
}

/// What happened to a topic that a shard listens to.
pub enum Notice {
    Topic { what: What, path: TopicPath, specification: Arc<Specification> },
    Subscribers { path: TopicPath, specification: Arc<Specification>, has_subscribers: bool },
}

/// The numbers are those of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum What {
    Added = 1,
    Removed = 2,
    Selected = 3,
    Deselected = 4,
}

/// Who is told of missing topics of a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handler {
    pub branch: Box<str>,
    pub session: SessionId,
    pub listener: u64,
}

pub struct Missing {
    pub handler: Handler,
    pub selector: Box<str>,
    pub session: Box<str>,
    pub properties: Vec<(Box<str>, Box<str>)>,
}

/// What a shard's answer stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// One of those that the owner sent the message to; so many others answer too, to whom it was dealt from there.
    Whole { dealt: u32 },
    /// One to whom it was dealt.
    Dealt,
}
