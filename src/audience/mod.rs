//! The sessions of this shard: what they have selected, what arrives for them, and what they are still to be sent.
//!
//! It knows no connection but by its key, which it wakes, and no owner of topics but by mail.
//!
//! - here — the sessions themselves, by key and by name.
//! - `select`, `subscribe` — what sessions select, and the topics that they are subscribed to by that; `sweep` — a part at a time; `topics` — what arrives of topics; `limbo` —
//!   those that are to appear again.
//! - `ask`, `questions` — what sessions ask the owners of topics.
//! - `queue` — what a session is answered and still has to be sent; `pace` — what waits until it reads; `history` — what a subscriber of a time series is told first.
//! - `listeners` — sessions that are told of topics that come and go, and of subscribers; `known` — what a listener knows; `missing` — sessions that are
//!   told of selectors that match nothing.
//! - `messaging` — requests between sessions, of this shard and others; clients of MQTT ask too.
//! - `session_trees` — paths that mean other topics to some sessions than to others.
//! - `streams` — the update streams of sessions; `locks` — the locks that they hold or wait for.
//! - `identity` — who their clients are, and until when; `rights` — what they may do; `security` — what roles permit; `life` — when a session is over; `resume` — sessions of the native protocol that outlive their connections, `durable` — and the server; `properties` — sessions as others see them; `control` — as others look for and steer them; `look` — what they are told of one.
//! - `audit` — what is noted of all that for whoever looks later at who did what.
//! - `events` — sessions that are told of others: of their lives, their queues, and what they are subscribed to.
//! - `mqtt` — what sessions of MQTT are beyond that.
//!
//! Whoever is many is looked at a part at a time: topics by sweeps, what listeners know by reviews, what comes due by so many a turn. A loop over the
//! subscribers of one topic is over those who are told; one over the owners of topics over the shards.

mod ask;
mod audit;
mod control;
pub mod durable;
mod events;
mod history;
mod identity;
mod known;
mod life;
mod limbo;
mod listeners;
mod locks;
mod look;
mod messaging;
mod missing;
pub mod mqtt;
mod pace;
mod properties;
mod questions;
mod queue;
mod resume;
mod rights;
mod security;
mod select;
mod session_trees;
mod staleness;
mod streams;
mod subscribe;
mod sweep;
mod topics;

pub use ask::{FIGURES_WRITER, Listing};
pub use messaging::authenticator_path;
pub use missing::MISSING;
pub use rights::Revoked;

use crate::base::{PlaceTable, SessionId, SessionKey, Slab, SlabKey, SplitMap, Time, TopicId};
use crate::desk::{Desk, Ticket};
use crate::session::{HeldBytes, Life, LocalTopic, Session};
use crate::topic::interest::Interests;
use crate::topic::path::TopicPath;
use crate::topic::specification::Specification;
use hashbrown::HashMap;
use questions::Questions;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

/// See the module.
#[derive(Default)]
pub struct Audience {
    sessions: Sessions,
    locals: Locals,
    selected: Interests<select::Selected>,
    gathers: Questions,
    listening: Listening,
    /// Sessions that are to be sent more when they have read.
    held_back: BTreeSet<SessionKey>,
    /// The last of them that a tick has looked at, where it could not look at all.
    held_back_seen: Option<SessionKey>,
    /// How many sessions match, asked by other shards and not answered yet.
    counts_asked: VecDeque<properties::Asked>,
    broker: Broker,
    messaging: messaging::Messaging,
    control: control::Control,
    /// Those that outlive the server and were not written as they are now, since storage failed.
    unstored: VecDeque<SessionKey>,
    events: events::Events,
    trees: session_trees::SessionTrees,
    security: rights::Security,
    denials: audit::Denials,
    /// Whose clients have to show anew who they are, and when.
    expiring: BTreeSet<(Time, SessionKey)>,
    /// An answer, in memory that is used again.
    answer: Vec<u8>,
    /// Whether somebody here has looked for the server's figures.
    wants_figures: bool,
    /// Where to go on telling sessions how old what is here may be.
    stale_from: Option<u32>,
}

/// The sessions themselves, by key and by name.
#[derive(Default)]
struct Sessions {
    slab: Slab<Session, SessionKey>,
    by_id: PlaceTable,
    /// Those that are away.
    away: life::Schedule,
}

/// The topics that sessions here select.
#[derive(Default)]
struct Locals {
    known: SplitMap<TopicId, Rc<LocalTopic>>,
    by_path: BTreeMap<TopicPath, Rc<LocalTopic>>,
    limbo: limbo::Limbo,
    /// Interests that all owners have answered, whose sessions are not.
    settling: VecDeque<limbo::Settling>,
    /// Of the newest subscription.
    generation: u32,
    /// Of the newest publication.
    sequence: u64,
    /// Counted topics whose subscribers have changed in this turn.
    recounted: Vec<Rc<LocalTopic>>,
    /// Sessions that are brought in line with their selections, in turn; those that have to read first are held back.
    sweeping: VecDeque<SessionKey>,
}

/// Who listens.
#[derive(Default)]
struct Listening {
    sessions: BTreeSet<SessionKey>,
    /// Who has which selectors, as long as one of its listeners has it or what that leaves is reviewed.
    topics: Interests<listeners::Holders>,
    subscribers: Interests<listeners::Holders>,
    /// Sessions with something to review, in turn; those that have to read first are held back.
    reviewing: VecDeque<SessionKey>,
    /// By their branches those anywhere who handle missing topics.
    missing: BTreeMap<Box<str>, missing::Handlers>,
}

/// What sessions of MQTT share.
#[derive(Default)]
struct Broker {
    clients: mqtt::Clients,
    groups: HashMap<Box<str>, SessionKey>,
    /// What topics of a rule and type are, by the rule's address.
    of_rules: HashMap<(usize, u8), Arc<Specification>>,
    /// Wills on their way to their topics, by number: whose each is, and where it goes.
    wills: HashMap<u32, (Rc<str>, Box<str>)>,
    last_will: u32,
    /// The record by which a session keeps what was last delivered to it.
    ticket: Option<Ticket>,
    /// Messages that groups have dealt to other shards in this delivery.
    dealt: u32,
    /// What waits until it is acknowledged, in all sessions together.
    held: HeldBytes,
    /// Whether the owners of topics know that this is about as much as it may be.
    is_full: bool,
}

impl Sessions {
    fn len(&self) -> usize {
        self.by_id.len()
    }

    fn insert(&mut self, session: Session) -> SessionKey {
        let id = session.id;
        let key = self.slab.insert(session);
        let Self { slab, by_id, .. } = self;
        by_id.put(short_hash(id), key.index(), |place| is_named(slab, place, id));
        key
    }

    fn get(&self, key: SessionKey) -> Option<&Session> {
        self.slab.get(key)
    }

    fn get_mut(&mut self, key: SessionKey) -> Option<&mut Session> {
        self.slab.get_mut(key)
    }

    /// The session is over: its name is nobody's.
    fn forget_name(&mut self, key: SessionKey) {
        let session = self.slab.get_mut(key).expect("a session ends once");
        session.life = Life::Over;
        self.by_id.remove(short_hash(session.id), key.index());
    }

    fn remove(&mut self, key: SessionKey) -> Option<Session> {
        self.slab.remove(key)
    }

    /// The session of this name, if it is here and not over.
    fn find(&self, id: SessionId) -> Option<SessionKey> {
        let place = self.by_id.find(short_hash(id), |place| is_named(&self.slab, place, id))?;
        self.slab.key_at(place)
    }

    /// Of those that are not over.
    fn keys(&self) -> impl Iterator<Item = SessionKey> + '_ {
        self.slab.keys().filter(|key| self.slab.get(*key).is_some_and(|session| session.life != Life::Over))
    }
}

/// Whether the session at this place has this name.
fn is_named(slab: &Slab<Session, SessionKey>, place: u32, id: SessionId) -> bool {
    slab.key_at(place).and_then(|key| slab.get(key)).is_some_and(|session| session.id == id)
}

/// Names are numbers that follow each other, and nobody chooses them: they are spread over all bits.
fn short_hash(id: SessionId) -> u32 {
    (id.number().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

impl Audience {
    /// Those that are not over.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// A session that is not over.
    pub fn session(&self, key: SessionKey) -> Option<&Session> {
        self.sessions.get(key).filter(|session| session.life != Life::Over)
    }

    /// The session of this name, if it is here and not over.
    pub fn find(&self, id: SessionId) -> Option<SessionKey> {
        self.sessions.find(id)
    }

    pub fn id_of(&self, session: SessionKey) -> Option<SessionId> {
        self.sessions.get(session).map(|session| session.id)
    }

    /// The session's name to clients.
    pub fn session_id(&self, desk: &Desk, session: SessionKey) -> String {
        desk.name_of(self.id_of(session).expect("only a session that stands is named"))
    }

    pub fn session_mut(&mut self, key: SessionKey) -> Option<&mut Session> {
        self.sessions.get_mut(key).filter(|session| session.life != Life::Over)
    }

    pub fn enter(&mut self, session: Session) -> SessionKey {
        self.sessions.insert(session)
    }

    /// Topics, selectors and questions under way that sessions here hold; all 0 once every session is gone and mail is delivered.
    pub fn counts(&self) -> [usize; 5] {
        let Locals { known, by_path, limbo, .. } = &self.locals;
        [known.len(), by_path.len(), limbo.len(), self.selected.len(), self.gathers.len()]
    }

    /// What listeners, and handlers of requests and missing topics, anywhere are kept here for; the same holds.
    pub fn listener_counts(&self) -> [usize; 2] {
        let Listening { sessions, topics, subscribers, missing, .. } = &self.listening;
        let more =
            self.messaging.len() + self.control.len() + self.events.len() + self.trees.len() + self.expiring.len() + self.denials.len();
        [sessions.len() + topics.len() + subscribers.len(), missing.len() + more]
    }

    /// Sessions of MQTT, shared subscriptions, and sessions without a connection.
    pub fn mqtt_counts(&self) -> [usize; 3] {
        [self.broker.clients.len(), self.broker.groups.len(), self.sessions.away.asleep]
    }

    /// Sessions of the native protocol without a connection.
    pub fn away_count(&self) -> usize {
        self.sessions.away.resumable
    }

    /// The most bytes that any session's queue holds.
    pub fn queue_bytes_most(&self) -> usize {
        self.sessions.keys().filter_map(|key| self.sessions.get(key)).map(|session| session.queue.bounded_bytes()).max().unwrap_or(0)
    }

    /// The most bytes that wait for any session that is away, and the most that any session was sent and its client may not have processed.
    pub fn resume_bytes_most(&self) -> [usize; 2] {
        let resumable = || self.sessions.keys().filter_map(|key| self.sessions.get(key)).filter(|session| session.resume.is_some());
        let away = resumable().filter(|session| session.life.away().is_some()).map(|session| session.queue.bounded_bytes());
        let kept = resumable().filter_map(|session| session.resume.as_ref()).map(|resume| resume.kept_bytes());
        [away.max().unwrap_or(0), kept.max().unwrap_or(0)]
    }

    /// Whether reviews, sweeps, answered interests or sessions that are away wait for their next slice.
    pub fn has_slices(&self) -> bool {
        !self.listening.reviewing.is_empty()
            || !self.locals.sweeping.is_empty()
            || !self.locals.settling.is_empty()
            || self.sessions.away.is_due
            || self.has_scans()
            || self.has_orders()
            || self.has_observers_to_tell()
            || self.has_tree_scans()
            || self.has_rights_scans()
            || self.has_staleness_to_tell()
    }

    /// Questions of other shards how many sessions match, which are not answered.
    #[cfg(test)]
    pub fn asked_count(&self) -> usize {
        self.counts_asked.len()
    }

    /// Whether any session waits until it reads.
    pub fn holds_back(&self) -> bool {
        !self.held_back.is_empty()
    }

    pub fn is_held_back(&self, session: SessionKey) -> bool {
        self.held_back.contains(&session)
    }
}
