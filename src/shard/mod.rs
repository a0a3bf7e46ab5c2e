//! One core's whole world: routes inputs to the rules below and collects their effects.
//!
//! - `owner` — the topics of this shard's partitions: updates, removal, walks for questions.
//! - `persistence` — what has to be stored, and who waits for that.
//! - `audience` — the sessions of this shard: what they selected, what arrives for them.
//! - `listeners` — sessions that are told of topics that come and go, of subscribers, and of selectors that match nothing; `known` — what a listener knows.
//! - `dialogue` — a connection's bytes: HTTP head, WebSocket frames, answers; `requests` — what sessions ask for.
//! - `questions` — what sessions have asked the owners of topics; `pace` — what waits until a session reads.
//! - `sessions` — sessions as others see them: properties, how many match a filter, when one is over.
//! - `views` — topic views at work: what is derived from this shard's topics, and reference topics.
//! - `mqtt` — connections and sessions of MQTT.
//! - `transmit` — what a connection sends now.
//! - `mail` — what shards say to each other; `report` — what a shard measures.

mod audience;
mod dialogue;
mod history;
mod known;
mod listeners;
pub mod mail;
mod mqtt;
mod owner;
mod pace;
mod persistence;
mod questions;
pub mod report;
mod requests;
mod sessions;
mod transmit;
pub mod views;

pub use mqtt::{Authenticator, Handover, Step, home_of};
pub use persistence::Storing;

use crate::base::{Key, ShardIndex, Slab, Time, TopicId, Wheel, placement};
use crate::protocol::CloseCode;
use crate::session::{LocalTopic, MqttLimits, QueueLimits, Session};
use crate::topic::interest::Interests;
use crate::topic::path::TopicPath;
use crate::topic::selector::{Selector, SelectorLimits};
use crate::topic::specification::{Interner, Specification};
use crate::topic::tree::Tree;
use crate::value::delta;
use crate::value::json::Checker;
use crate::wire::http;
use dialogue::Connection;
use hashbrown::HashMap;
use mail::{Batch, Handler, Mail};
use owner::{Errands, Expiries, FilterCounts};
use persistence::Persistence;
use questions::Questions;
use report::Report;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use views::Views;

/// Every bound a shard obeys. All required: the caller chooses.
#[derive(Clone, Debug)]
pub struct Limits {
    pub message_bytes_max: usize,
    pub path_bytes_max: usize,
    pub value_bytes_max: usize,
    pub selector: SelectorLimits,
    pub selections_max: usize,
    /// Selectors of one session's listeners.
    pub listeners_max: usize,
    /// Update streams of one session.
    pub streams_max: usize,
    /// Questions of one session to the owners of topics that are under way.
    pub questions_max: usize,
    pub fetch_page_max: usize,
    /// Events of one query's answer.
    pub query_events_max: usize,
    /// Bytes of events that a new subscriber of a time series is sent at first: the latest that fit.
    pub history_bytes_max: usize,
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
    /// Topics that all walks together look at in one turn.
    pub walk_slice: usize,
    /// Mail that may wait for one shard, or records for storage, before this one stops reading its publishers.
    pub mail_high: usize,
    pub views: views::Limits,
    /// `None`: there is no MQTT.
    pub mqtt: Option<MqttLimits>,
}

/// No session and no connection: nobody is answered.
const NOBODY: Key = Key { index: u32::MAX, generation: u32::MAX };

/// Which of how many shards this is, and under which name it greets.
#[derive(Clone, Debug)]
pub struct Identity {
    pub index: ShardIndex,
    pub count: u16,
    pub server: String,
    /// Tells this run of the server from others in session ids.
    pub run: u64,
    pub storing: Storing,
    /// Topics of earlier runs have numbers up to this one.
    pub topics_base: u64,
}

/// What a transport begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// The common port: an HTTP head comes first.
    Http,
    /// MQTT at once.
    Mqtt,
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
    /// Give the transport to that shard's `handle_handed`, with this, and forget the connection: `handle_closed` is not called.
    /// It comes there in no order with mail.
    HandOver(Key, ShardIndex, Box<Handover>),
    /// To be logged: the first topic that a view did not make because its source is derived too deep already.
    ViewTooDeep { view: Box<str>, source: TopicPath },
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
    /// A moment, and the milliseconds since the epoch that it was.
    wall: (Time, u64),
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
    /// The selectors of listeners, by shard.
    shards_listening: Interests<crate::base::ShardSet>,
    shards_listening_to_subscribers: Interests<crate::base::ShardSet>,
    /// By shard the ticket of its last request to listen.
    listens_heard: Vec<u64>,
    walks: VecDeque<owner::Walk>,
    /// Topics that walks may still look at in this turn.
    walk_budget: usize,
    /// Walks for listeners, by shard and ticket, that wait until what they told is read.
    walks_waiting: BTreeMap<(u16, u64), owner::Walk>,
    topics_made: u64,
    topics_base: u64,
    persistence: Persistence,
    errands: Errands,
    passing: owner::Passing,
    keepings: owner::Keepings,
    expiries: Expiries,
    filters: FilterCounts,
    /// The time series whose events get too old.
    aging: Slab<(TopicId, TopicPath)>,
    aging_wheel: Wheel,
    /// The author of events that sessions without a principal append.
    anonymous: Arc<str>,
    /// Selects every topic.
    everything: Selector,
    delta: delta::Encoder,
    delta_bytes: Vec<u8>,
    views: Views,

    // The audience's side.
    topics: HashMap<TopicId, Rc<LocalTopic>>,
    topics_by_path: BTreeMap<TopicPath, Rc<LocalTopic>>,
    /// Topics that owners have forgotten although sessions here wait for them to appear again.
    limbo: HashMap<TopicId, Rc<LocalTopic>>,
    selected: Interests<audience::Selected>,
    gathers: Questions,
    next_ticket: u64,
    next_generation: u32,
    next_sequence: u64,
    /// Counted topics whose subscribers have changed in this turn.
    recounted: Vec<Rc<LocalTopic>>,
    listening_sessions: BTreeSet<Key>,
    reviews: VecDeque<listeners::Review>,
    /// Sessions that are to be sent more when they have read.
    held_back: BTreeSet<Key>,
    missing_handlers: BTreeMap<Box<str>, Vec<Handler>>,
    /// How many sessions match, asked by other shards and not answered yet.
    counts_asked: VecDeque<sessions::Asked>,
    specifications: Interner,
    /// Those without properties, by the number of the topic's type.
    plain_specifications: [Option<Arc<Specification>>; 8],
    reports: HashMap<u64, Vec<Report>>,
    /// Sessions of MQTT by their clients' identifiers, and shared subscriptions by their filters.
    mqtt_sessions: HashMap<Rc<str>, Key>,
    mqtt_groups: HashMap<Box<str>, Key>,
    mqtt_ends: mqtt::Ends,
    sys: mqtt::Sys,
    authenticator: Option<Authenticator>,
    /// What topics of a rule and type are, by the rule's address.
    rule_specifications: HashMap<(usize, u8), Arc<Specification>>,
    started: Time,
    /// The record by which a session keeps what was last delivered to it.
    session_ticket: Option<persistence::Ticket>,
    /// Messages that groups have dealt to other shards in this delivery.
    dealt: u32,

    checker: Checker,
    scratch: transmit::Scratch,
    report: Report,
}

impl Shard {
    /// `wall_ms` is the time since the epoch.
    pub fn new(identity: Identity, limits: Limits, now: Time, wall_ms: u64) -> Self {
        assert!(identity.index.0 < identity.count && usize::from(identity.count) <= crate::base::ShardSet::SHARDS_MAX);
        assert!(limits.queue.bytes_high <= limits.queue.bytes_max);
        Self {
            report: Report::new(identity.index.0),
            outboxes: (0..identity.count).map(|_| Vec::new()).collect(),
            now,
            wall: (now, wall_ms),
            is_shutting_down: false,
            connections: Slab::default(),
            sessions: Slab::default(),
            ending_sessions: HashMap::new(),
            wheel: Wheel::new(now),
            effects: VecDeque::new(),
            inbox: VecDeque::new(),
            tree: Tree::default(),
            shards_interested: Interests::default(),
            shards_listening: Interests::default(),
            shards_listening_to_subscribers: Interests::default(),
            listens_heard: vec![0; usize::from(identity.count)],
            walks: VecDeque::new(),
            walk_budget: limits.walk_slice,
            walks_waiting: BTreeMap::new(),
            topics_made: 0,
            topics_base: identity.topics_base,
            persistence: Persistence::new(identity.storing),
            errands: Errands::default(),
            passing: owner::Passing::default(),
            keepings: owner::Keepings::default(),
            expiries: Expiries::default(),
            filters: FilterCounts::default(),
            aging: Slab::default(),
            aging_wheel: Wheel::new(now),
            anonymous: Arc::from(""),
            everything: Selector::parse("?.*//", limits.selector).expect("it is a selector of a few bytes"),
            limits,
            identity,
            delta: delta::Encoder::new(),
            views: Views::new(now),
            delta_bytes: Vec::new(),
            topics: HashMap::new(),
            topics_by_path: BTreeMap::new(),
            limbo: HashMap::new(),
            selected: Interests::default(),
            gathers: Questions::default(),
            next_ticket: 0,
            next_generation: 0,
            next_sequence: 0,
            recounted: Vec::new(),
            listening_sessions: BTreeSet::new(),
            reviews: VecDeque::new(),
            held_back: BTreeSet::new(),
            missing_handlers: BTreeMap::new(),
            counts_asked: VecDeque::new(),
            specifications: Interner::default(),
            plain_specifications: Default::default(),
            reports: HashMap::new(),
            mqtt_sessions: HashMap::new(),
            mqtt_groups: HashMap::new(),
            mqtt_ends: mqtt::Ends::default(),
            sys: mqtt::Sys::default(),
            authenticator: None,
            rule_specifications: HashMap::new(),
            started: now,
            session_ticket: None,
            dealt: 0,
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

    /// What is kept here on account of listeners anywhere; all 0 once they are gone and mail is delivered.
    pub fn listener_counts(&self) -> [usize; 4] {
        let (topics, subscribers) = (self.shards_listening.len(), self.shards_listening_to_subscribers.len());
        [self.listening_sessions.len() + self.reviews.len(), self.missing_handlers.len(), topics, subscribers]
    }

    /// Selectors that sessions anywhere have, and walks under way; all 0 once every session is gone and mail is delivered.
    pub fn owner_counts(&self) -> [usize; 2] {
        [self.shards_interested.len(), self.walks.len() + self.walks_waiting.len() + self.errands.len()]
    }

    /// What is held for MQTT: sessions, shared subscriptions, sessions without a connection, messages that are not kept everywhere, and topics that are
    /// only passed through; all 0 once every session is over, mail is delivered and such topics have gone.
    pub fn mqtt_counts(&self) -> [usize; 5] {
        let (sessions, groups) = (self.mqtt_sessions.len(), self.mqtt_groups.len());
        [sessions, groups, self.mqtt_ends.asleep, self.keepings.len(), self.passing.len()]
    }

    /// The most bytes that any session's queue holds.
    pub fn queue_bytes_most(&self) -> usize {
        self.sessions.keys().filter_map(|key| self.sessions.get(key)).map(|session| session.queue.bytes()).max().unwrap_or(0)
    }

    /// Whether a walk waits for `run_slice`.
    pub fn has_walks(&self) -> bool {
        !self.walks.is_empty() || !self.reviews.is_empty() || !self.errands.is_empty() || self.views.has_work()
    }

    /// Whether so much mail waits that publishers should not be read now.
    pub fn is_congested(&self) -> bool {
        let waiting = self.persistence.waiting().max(self.views.backlog());
        waiting > self.limits.mail_high || self.outboxes.iter().any(|outbox| outbox.len() > self.limits.mail_high)
    }

    /// Milliseconds since the epoch.
    fn wall_ms(&self) -> u64 {
        self.wall.1 + self.now.since(self.wall.0) / 1_000_000
    }

    pub fn views(&self) -> &Views {
        &self.views
    }

    // B. What happened.

    /// Mail from another shard, of which all that it sent before was handled.
    pub fn handle_mail(&mut self, now: Time, from: ShardIndex, batch: Batch) {
        self.now = now;
        self.begin_turn();
        self.report.ring.saturating_record(now.since(batch.sent).max(1));
        self.inbox.extend(batch.mails.into_iter().map(|mail| (from, mail)));
        self.settle();
    }

    /// Time passed; wanted about ten times a second. `wall_ms` is the time since the epoch, which may be set while the other runs on.
    pub fn handle_tick(&mut self, now: Time, wall_ms: u64) {
        self.now = now;
        self.wall = (now, wall_ms);
        let mut due = Vec::new();
        self.wheel.advance(now, &mut due);
        for key in due {
            self.check_deadline(key);
        }
        self.tick_expiries();
        self.tick_sessions_asked();
        self.tick_aging();
        self.tick_held_back();
        self.tick_views();
        self.tick_mqtt_ends();
        self.tick_passing();
        self.tick_sys();
        self.settle();
    }

    /// A turn of the runtime took this long.
    pub fn handle_turn(&mut self, turn_ns: u64) {
        self.report.tick.saturating_record(turn_ns.max(1));
    }

    // C. Commands.

    /// Goes on with the walks under way, a slice for all.
    pub fn run_slice(&mut self, now: Time) {
        self.now = now;
        self.begin_turn();
        self.run_reviews();
        self.run_walks();
        self.run_errand();
        self.settle();
    }

    /// Asks every shard for its report; `Effect::Reports` tells when they are there.
    pub fn request_reports(&mut self) -> u64 {
        let ticket = self.ask_reports();
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
        placement::owner_of(path, self.identity.count)
    }

    fn mail(&mut self, to: ShardIndex, mail: Mail) {
        if to == self.identity.index {
            self.inbox.push_back((to, mail));
        } else {
            self.outboxes[usize::from(to.0)].push(mail);
        }
    }

    /// What this turn may do begins anew.
    fn begin_turn(&mut self) {
        self.walk_budget = self.limits.walk_slice;
        self.begin_view_turn();
    }

    /// Handles all mail at hand, that from this shard to itself too, and what views make of it as far as this turn goes.
    fn settle(&mut self) {
        loop {
            while let Some((from, mail)) = self.inbox.pop_front() {
                self.open_mail(from, mail);
            }
            if !self.recounted.is_empty() {
                self.tell_counts();
            } else if self.views.has_work() {
                self.run_views();
                if self.inbox.is_empty() {
                    return;
                }
            } else {
                return;
            }
        }
    }

    fn open_mail(&mut self, from: ShardIndex, mail: Mail) {
        match mail {
            Mail::Update(update) => self.update_for_other(update),
            Mail::Ask { ticket, question } => self.start_walk(from, ticket, question),
            Mail::Release { selector } => self.release_interest(from, &selector),
            Mail::Part { ticket, part } => self.gather_part(ticket, part),
            Mail::Answer { to, result } => self.answer(to, result),
            Mail::Appeared(appeared) => self.topic_appeared(*appeared),
            Mail::Published(publication) => self.publication_arrived(publication),
            Mail::Removed { id, reason } => self.topic_removed(id, reason),
            Mail::Forgotten { id } => self.topic_forgotten(id),
            Mail::AskHistory { path, after, to, .. } => self.tell_history(from, &path, after, to),
            Mail::History { id, to, events } => self.take_history(id, to, events),
            Mail::Count { id, counts } => self.count_topic(id, counts),
            Mail::Subscribers { path, id, count } => self.subscribers_counted(from, &path, id, count),
            Mail::Noticed { notice, asked } => self.notice_arrived(&notice, asked),
            Mail::SliceTold { ticket } => self.slice_told(from, ticket),
            Mail::GoOn { ticket } => self.resume_walk(from, ticket),
            Mail::StopListening { kind, selector } => self.stop_listening(from, kind, &selector),
            Mail::Handler { handler, handles } => self.handler_told(handler, handles),
            Mail::Missing(missing) => self.missing_told(&missing),
            Mail::WatchSession { session, path, id } => self.watch_session(from, session, path, id),
            Mail::SessionOver { path, id } => self.creator_over(&path, id),
            Mail::UnwatchSession { session, id } => self.unwatch_session(session, id),
            Mail::AskSessions { filter, count } => self.sessions_asked(from, filter, count),
            Mail::Sessions { count, share } => self.sessions_counted(count, share),
            Mail::RemoveSelected { selector } => self.remove_selected(selector),
            Mail::OrderView { order, to } => self.view_ordered(*order, to),
            Mail::ViewDecided { decision, to } => self.view_decided(*decision, to),
            Mail::Fence { to } => self.fence(to),
            Mail::Derived(derived) => self.derived_arrived(*derived),
            Mail::Watch { path } => self.start_watch(from, path),
            Mail::Unwatch { path } => self.end_watch(from, &path),
            Mail::Watched { path, value } => self.watched_told(&path, value),
            Mail::Group { text, change } => self.change_group(&text, change),
            Mail::Dealt(dealt) => self.take_dealt(*dealt),
            Mail::WantSys => self.sys_wanted(),
            Mail::Keeper { shard } => self.keeper_told(shard),
            Mail::Kept { ticket, share, refusal } => self.kept(ticket, share, refusal),
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

    fn ask_reports(&mut self) -> u64 {
        let ticket = self.take_ticket();
        self.reports.insert(ticket, Vec::new());
        for index in 0..self.identity.count {
            let from = self.identity.index;
            self.mail(ShardIndex(index), Mail::AskReport { from, ticket });
        }
        ticket
    }

    fn own_report(&self) -> Report {
        let (connections, sessions, topics) = (self.connections.len() as u64, self.sessions.len() as u64, self.tree.len() as u64);
        let is_failing = u64::from(self.persistence.is_failing());
        let [view_evaluations, view_failures, view_references] = self.views.totals();
        Report {
            connections,
            sessions,
            topics,
            storage_failing: is_failing,
            view_evaluations,
            view_failures,
            view_references,
            view_backlog: self.views.backlog() as u64,
            mqtt_asleep: self.mqtt_ends.asleep as u64,
            ..self.report.clone()
        }
    }

    fn gather_report(&mut self, ticket: u64, report: Report) {
        let Some(reports) = self.reports.get_mut(&ticket) else { return };
        reports.push(report);
        if reports.len() == usize::from(self.identity.count) && !self.take_figures(ticket) {
            self.effects.push_back(Effect::Reports(ticket));
        }
    }
}
