//! One core's whole world: routes inputs to the rules below and collects their effects.
//!
//! - `owner` — the topics of this shard's partitions: updates, removal, walks for questions.
//! - `audience` — the sessions of this shard: what they selected, what arrives for them.
//! - `dialogue` — a connection's bytes: HTTP head, WebSocket frames, requests and their answers.
//! - `transmit` — what a connection sends now.
//! - `mail` — what shards say to each other; `report` — what a shard measures.

mod audience;
mod dialogue;
pub mod mail;
mod owner;
pub mod report;
mod transmit;

use crate::base::{Key, ShardIndex, Slab, Time, TopicId, Wheel};
use crate::protocol::CloseCode;
use crate::session::{LocalTopic, QueueLimits, Session};
use crate::topic::interest::Interests;
use crate::topic::path::TopicPath;
use crate::topic::selector::SelectorLimits;
use crate::topic::tree::{Tree, partition};
use crate::value::delta;
use crate::value::json::Checker;
use crate::wire::http;
use dialogue::Connection;
use hashbrown::HashMap;
use mail::{Batch, Mail};
use report::Report;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// Every bound a shard obeys. All required: the caller chooses.
#[derive(Clone, Debug)]
pub struct Limits {
    pub message_bytes_max: usize,
    pub path_bytes_max: usize,
    pub value_bytes_max: usize,
    pub selector: SelectorLimits,
    pub selections_max: usize,
    pub fetch_page_max: usize,
    /// Topics of this shard.
    pub topics_max: usize,
    /// Connections of this shard.
    pub connections_max: usize,
    pub http_head_bytes_max: usize,
    pub json_depth_max: usize,
    pub queue: QueueLimits,
    /// One send's bytes, exceeded by at most one frame.
    pub transmit_bytes_max: usize,
    pub handshake_timeout_ms: u64,
    pub keep_alive_ms: u64,
    /// Topics looked at in one slice of a walk.
    pub walk_slice: usize,
    /// Mail that may wait for one shard before this one stops reading its publishers.
    pub mail_high: usize,
}

/// Which of how many shards this is, and under which name it greets.
#[derive(Clone, Debug)]
pub struct Identity {
    pub index: ShardIndex,
    pub count: u16,
    pub server: String,
    /// Tells this run of the server from others in session ids.
    pub run: u64,
}

/// What the runtime has to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// The connection has something to send: `poll_transmit` it when its socket takes more.
    Wake(Key),
    /// End the transport now, then call `handle_closed`.
    Close(Key),
    /// An admin page is asked for; answer with `respond`.
    Http(Key, http::Request),
    /// The reports asked for by `request_reports` under this number are complete: `take_reports`.
    Reports(u64),
}

/// One core's whole world. Four kinds of method:
/// A. getters, `&self`;
/// B. `handle_*`: something happened (a connection, bytes, mail, a tick, a send);
/// C. commands: `respond`, `request_reports`, `run_slice`, `shut_down`;
/// D. `poll_*`: what to do now. Poll effects and mail until `None` after every B or C.
pub struct Shard {
    identity: Identity,
    limits: Limits,
    now: Time,
    is_shutting_down: bool,

    connections: Slab<Connection>,
    sessions: Slab<Session>,
    /// Sessions that stand only until their queue is sent, by their connection.
    ending_sessions: HashMap<Key, Key>,
    wheel: Wheel,
    effects: VecDeque<Effect>,
    outboxes: Vec<Vec<Mail>>,
    inbox: VecDeque<(ShardIndex, Mail)>,

    // The owner's side.
    tree: Tree,
    shards_interested: Interests<crate::base::ShardSet>,
    walks: VecDeque<owner::Walk>,
    topics_made: u64,
    delta: delta::Encoder,
    delta_bytes: Vec<u8>,

    // The audience's side.
    topics: HashMap<TopicId, Rc<LocalTopic>>,
    topics_by_path: BTreeMap<TopicPath, Rc<LocalTopic>>,
    /// Topics that owners have forgotten although sessions here wait for them to appear again.
    limbo: HashMap<TopicId, Rc<LocalTopic>>,
    selected: Interests<audience::Selected>,
    gathers: HashMap<u64, audience::Gather>,
    next_ticket: u64,
    next_generation: u32,
    next_sequence: u64,
    reports: HashMap<u64, Vec<Report>>,

    checker: Checker,
    scratch: transmit::Scratch,
    report: Report,
}

impl Shard {
    pub fn new(identity: Identity, limits: Limits, now: Time) -> Self {
        assert!(identity.index.0 < identity.count && usize::from(identity.count) <= crate::base::ShardSet::SHARDS_MAX);
        assert!(limits.queue.bytes_high <= limits.queue.bytes_max);
        Self {
            report: Report::new(identity.index.0),
            outboxes: (0..identity.count).map(|_| Vec::new()).collect(),
            identity,
            limits,
            now,
            is_shutting_down: false,
            connections: Slab::default(),
            sessions: Slab::default(),
            ending_sessions: HashMap::new(),
            wheel: Wheel::new(now),
            effects: VecDeque::new(),
            inbox: VecDeque::new(),
            tree: Tree::default(),
            shards_interested: Interests::default(),
            walks: VecDeque::new(),
            topics_made: 0,
            delta: delta::Encoder::new(),
            delta_bytes: Vec::new(),
            topics: HashMap::new(),
            topics_by_path: BTreeMap::new(),
            limbo: HashMap::new(),
            selected: Interests::default(),
            gathers: HashMap::new(),
            next_ticket: 0,
            next_generation: 0,
            next_sequence: 0,
            reports: HashMap::new(),
            checker: Checker::default(),
            scratch: transmit::Scratch::default(),
        }
    }

    // A. Getters.

    pub fn connection_count(&self) -> usize {
        self.connections.len()
    }

    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    pub fn topic_count(&self) -> usize {
        self.tree.len()
    }

    /// Topics, selectors and questions under way that sessions here hold; all 0 once every session is gone and mail is delivered.
    pub fn audience_counts(&self) -> [usize; 5] {
        [self.topics.len(), self.topics_by_path.len(), self.limbo.len(), self.selected.len(), self.gathers.len()]
    }

    /// The most bytes that any session's queue holds.
    pub fn queue_bytes_most(&self) -> usize {
        self.sessions.keys().filter_map(|key| self.sessions.get(key)).map(|session| session.queue.bytes()).max().unwrap_or(0)
    }

    /// Whether a walk waits for `run_slice`.
    pub fn has_walks(&self) -> bool {
        !self.walks.is_empty()
    }

    /// Whether so much mail waits that publishers should not be read now.
    pub fn is_congested(&self) -> bool {
        self.outboxes.iter().any(|outbox| outbox.len() > self.limits.mail_high)
    }

    // B. What happened.

    /// Mail from another shard, of which all that it sent before was handled.
    pub fn handle_mail(&mut self, now: Time, from: ShardIndex, batch: Batch) {
        self.now = now;
        self.report.ring.saturating_record(now.since(batch.sent).max(1));
        self.inbox.extend(batch.mails.into_iter().map(|mail| (from, mail)));
        self.settle();
    }

    /// Time passed; wanted about ten times a second.
    pub fn handle_tick(&mut self, now: Time) {
        self.now = now;
        let mut due = Vec::new();
        self.wheel.advance(now, &mut due);
        for key in due {
            self.check_deadline(key);
        }
        self.settle();
    }

    /// A turn of the runtime took this long.
    pub fn handle_turn(&mut self, turn_ns: u64) {
        self.report.tick.saturating_record(turn_ns.max(1));
    }

    // C. Commands.

    /// Goes on with the walks under way, a slice each.
    pub fn run_slice(&mut self, now: Time) {
        self.now = now;
        for _ in 0..self.walks.len() {
            self.walk_slice();
        }
        self.settle();
    }

    /// Asks every shard for its report; `Effect::Reports` tells when they are there.
    pub fn request_reports(&mut self) -> u64 {
        let ticket = self.take_ticket();
        self.reports.insert(ticket, Vec::new());
        for index in 0..self.identity.count {
            let from = self.identity.index;
            self.mail(ShardIndex(index), Mail::AskReport { from, ticket });
        }
        self.settle();
        ticket
    }

    /// The reports of all shards in the order of their numbers; empty if there are none under this number.
    pub fn take_reports(&mut self, ticket: u64) -> Vec<Report> {
        let mut reports = self.reports.remove(&ticket).unwrap_or_default();
        reports.sort_by_key(|report| report.shard);
        reports
    }

    /// Tells every session that the server stops. Queues are still sent; nothing is read any more.
    pub fn shut_down(&mut self, now: Time) {
        self.now = now;
        self.is_shutting_down = true;
        for key in self.connections.keys().collect::<Vec<_>>() {
            self.close_after_queue(key, CloseCode::ShuttingDown);
        }
    }

    // D. What to do.

    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// The mail of this turn for one other shard.
    pub fn poll_mail(&mut self, to: ShardIndex) -> Option<Batch> {
        let outbox = &mut self.outboxes[usize::from(to.0)];
        if outbox.is_empty() {
            return None;
        }
        Some(Batch { sent: self.now, mails: std::mem::take(outbox) })
    }

    /// Mail that did not fit its ring comes back, in front of what came since.
    pub fn return_mail(&mut self, to: ShardIndex, batch: Batch) {
        let outbox = &mut self.outboxes[usize::from(to.0)];
        let newer = std::mem::replace(outbox, batch.mails);
        outbox.extend(newer);
    }

    // Routing.

    fn owner_of(&self, path: &str) -> ShardIndex {
        ShardIndex((partition(path) % u64::from(self.identity.count)) as u16)
    }

    fn mail(&mut self, to: ShardIndex, mail: Mail) {
        if to == self.identity.index {
            self.inbox.push_back((to, mail));
        } else {
            self.outboxes[usize::from(to.0)].push(mail);
        }
    }

    /// Handles all mail at hand, that from this shard to itself too.
    fn settle(&mut self) {
        while let Some((from, mail)) = self.inbox.pop_front() {
            self.open_mail(from, mail);
        }
    }

    fn open_mail(&mut self, from: ShardIndex, mail: Mail) {
        match mail {
            Mail::Update(update) => self.update_for_other(update),
            Mail::Ask { ticket, question } => self.start_walk(from, ticket, question),
            Mail::Release { selector } => self.release_interest(from, &selector),
            Mail::Part { ticket, part } => self.gather_part(ticket, part),
            Mail::Answer { to, result } => self.answer(to, result),
            Mail::Appeared { id, path, kind, latest } => self.topic_appeared(id, path, kind, latest),
            Mail::Published(publication) => self.publication_arrived(publication),
            Mail::Removed { id, reason } => self.topic_removed(id, reason),
            Mail::Forgotten { id } => self.topic_forgotten(id),
            Mail::AskReport { from, ticket } => {
                let report = Box::new(self.own_report());
                self.mail(from, Mail::Report { ticket, report });
            }
            Mail::Report { ticket, report } => self.gather_report(ticket, *report),
        }
    }

    fn take_ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }

    fn own_report(&self) -> Report {
        let (connections, sessions, topics) = (self.connections.len() as u64, self.sessions.len() as u64, self.tree.len() as u64);
        Report { connections, sessions, topics, ..self.report.clone() }
    }

    fn gather_report(&mut self, ticket: u64, report: Report) {
        let Some(reports) = self.reports.get_mut(&ticket) else { return };
        reports.push(report);
        if reports.len() == usize::from(self.identity.count) {
            self.effects.push_back(Effect::Reports(ticket));
        }
    }
}
