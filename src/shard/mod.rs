//! One core's whole world: routes inputs to the rooms above it, and carries out requests.
//!
//! Topics are the owner's (`crate::owner`), locks theirs (`crate::locks`), sessions the audience's (`crate::audience`), connections the doors' (`crate::door`); what all of them work
//! with is the desk (`crate::desk`).
//!
//! - here — what a shard is, how it is asked and told, and its report.
//! - `serve` — a turn: what comes by connections and by mail is carried out, until nothing is at hand.
//! - `inside` — sessions that are used from within the process; `sys` — figures of the server as topics.
//! - `persistence` — the ledger at work: records out, answers in; `restore` — what was stored before.
//! - `replication` — groups at work: what was decided out, what the logs say in.

mod inside;
mod persistence;
mod replication;
mod restore;
mod serve;
mod sys;
#[cfg(test)]
mod tests;

#[cfg(feature = "server")]
pub use crate::desk::Audit;
pub use crate::desk::{Claim, DerivationLimits, Effect, Handover, Identity, Limits, Log, ResumeLimits, Shown, Storing};
pub use crate::desk::{Fate, Forwarder, Leader, Outgoing, Proposal, Role};
pub use crate::door::{Identified, Transport, Unidentified, Verdict};
pub use crate::mail::report::Arrivals;
pub use crate::mail::security::PrincipalOrder;
#[cfg(feature = "server")]
pub use crate::session::Send;
pub use crate::session::{Place, Who};

pub use replication::{Landed, Replication};
pub use restore::Restoring;

use crate::audience::Audience;
use crate::base::{ShardIndex, Time};
use crate::desk::Desk;
use crate::door::{Budget, Doors};
use crate::locks::Locks;
use crate::mail::report::Report;
use crate::mail::{Batch, Mail};
use crate::owner::{Owner, Views};
use crate::value::json::Checker;
use hashbrown::HashMap;

/// One core's whole world. Four kinds of method:
/// A. getters, `&self`;
/// B. `handle_*`: something happened (a connection, bytes, mail, a tick, a send);
/// C. commands: `respond`, `request_reports`, `run_slice`, `shut_down`;
/// D. `poll_*`: what to do now. Poll effects and mail until `None` after every B or C.
pub struct Shard {
    desk: Desk,
    owner: Owner,
    locks: Locks,
    audience: Audience,
    doors: Doors,
    /// The reports that have come, by the number of the request for them.
    reports: HashMap<u64, Vec<Report>>,
    sys: sys::Sys,
    started: Time,
    checker: Checker,
    /// A checked value on its way to the owner, in memory that is used again.
    value: Vec<u8>,
}

impl Shard {
    /// `wall_ms` is the time since the epoch.
    pub fn new(identity: Identity, limits: Limits, now: Time, wall_ms: u64) -> Self {
        let desk = Desk::new(identity, limits, now, wall_ms);
        let audience = Audience::of(&desk);
        let mut owner = Owner::new(&desk);
        owner.set_security(desk.limits.security.clone());
        Self {
            owner,
            desk,
            locks: Locks::default(),
            audience,
            doors: Doors::new(now),
            reports: HashMap::new(),
            sys: sys::Sys::default(),
            started: now,
            checker: Checker::default(),
            value: Vec::new(),
        }
    }

    // A. Getters.

    pub fn connection_count(&self) -> usize {
        self.doors.len()
    }

    pub fn session_count(&self) -> usize {
        self.audience.session_count()
    }

    pub fn topic_count(&self) -> usize {
        self.owner.topic_count()
    }

    /// Topics, selectors and questions under way that sessions here hold; all 0 once every session is gone and mail is delivered.
    pub fn audience_counts(&self) -> [usize; 5] {
        self.audience.counts()
    }

    /// What is kept here on account of listeners anywhere; all 0 once they are gone and mail is delivered.
    pub fn listener_counts(&self) -> [usize; 4] {
        let [_, topics, subscribers, _] = self.owner.counts();
        let [listeners, handlers] = self.audience.listener_counts();
        [listeners, handlers, topics, subscribers]
    }

    /// Selectors that sessions anywhere have, and walks under way; all 0 once every session is gone and mail is delivered.
    pub fn owner_counts(&self) -> [usize; 2] {
        let [interests, _, _, walks] = self.owner.counts();
        [interests, walks]
    }

    /// What is held for MQTT: sessions, shared subscriptions, sessions without a connection, messages that are not kept everywhere, topics that are
    /// only passed through, and bytes of messages that are not acknowledged; all 0 once every session is over, mail is delivered and such topics have gone.
    pub fn mqtt_counts(&self) -> [usize; 6] {
        let [sessions, groups, asleep] = self.audience.mqtt_counts();
        let [keepings, passing] = self.owner.message_counts();
        [sessions, groups, asleep, keepings, passing, self.audience.held_bytes()]
    }

    /// Locks that are held and claims that wait for them; both 0 once every session is gone and mail is delivered.
    pub fn lock_counts(&self) -> [usize; 2] {
        self.locks.counts()
    }

    /// The most bytes that any session's queue holds.
    pub fn queue_bytes_most(&self) -> usize {
        self.audience.queue_bytes_most()
    }

    /// The most bytes that wait for any session that is away, and the most that any session was sent and its client may not have processed.
    pub fn resume_bytes_most(&self) -> [usize; 2] {
        self.audience.resume_bytes_most()
    }

    /// Whether a walk, or something else that is done so much at a time, waits for `run_slice`.
    pub fn has_walks(&self) -> bool {
        self.doors.has_due() || self.audience.has_slices() || self.owner.has_slices()
    }

    /// Whether so much mail waits that publishers should not be read now.
    pub fn is_congested(&self) -> bool {
        let waiting = self.desk.ledger.waiting().max(self.desk.groups.waiting()).max(self.owner.views().backlog());
        waiting > self.desk.limits.mail_high || self.desk.is_post_congested()
    }

    pub fn views(&self) -> &Views {
        self.owner.views()
    }

    // B. What happened.

    /// Mail from another shard, of which all that it sent before was handled.
    pub fn handle_mail(&mut self, now: Time, from: ShardIndex, batch: Batch) {
        self.desk.turn.now = now;
        self.begin_turn();
        self.desk.take_batch(from, batch);
        self.settle();
    }

    /// Time passed; wanted about ten times a second. `wall_ms` is the time since the epoch, which may be set while the other runs on.
    pub fn handle_tick(&mut self, now: Time, wall_ms: u64) {
        self.desk.tick(now, wall_ms);
        self.doors.tick(&mut self.desk, &mut self.audience);
        self.owner.tick_expiries(&mut self.desk);
        self.audience.tick_sessions_asked(&mut self.desk);
        self.audience.tick_held_back(&mut self.desk);
        self.owner.tick_views(&self.desk);
        self.audience.tick_identities(&mut self.desk);
        self.audience.tick_away(&mut self.desk);
        self.audience.tick_requests(&mut self.desk);
        self.audience.tick_durable(&mut self.desk);
        self.audience.tick_events(&mut self.desk);
        self.audience.tick_full(&mut self.desk);
        self.owner.tick_passing(&mut self.desk);
        self.owner.tick_retained(&mut self.desk);
        self.tick_sys();
        if self.desk.groups.count() > 0 {
            Replication::of(self, now).tick();
        }
        self.settle();
    }

    /// A turn of the runtime took this long.
    pub fn handle_turn(&mut self, turn_ns: u64) {
        self.desk.report.tick.record(turn_ns);
    }

    /// So often the runtime has interrupted the shard's thread since the start because it did not tick.
    pub fn note_interruptions(&mut self, count: u64) {
        self.desk.report.interruptions = count;
    }

    /// What has become of connections before the shard heard of them, since the start.
    pub fn note_arrivals(&mut self, arrivals: Arrivals) {
        let Arrivals { handshakes, handshakes_failed, refused_full, refused_address, refused_handshakes } = arrivals;
        let report = &mut self.desk.report;
        (report.handshakes, report.handshakes_failed) = (handshakes, handshakes_failed);
        (report.refused_full, report.refused_address, report.refused_handshakes) = (refused_full, refused_address, refused_handshakes);
    }

    // C. Commands.

    /// Goes on with the walks under way, a slice for all, and with what has come due.
    pub fn run_slice(&mut self, now: Time) {
        self.desk.turn.now = now;
        self.begin_turn();
        let walks_wait = self.owner.has_walks();
        self.audience.run_sweeps(&mut self.desk, walks_wait);
        self.audience.run_reviews(&mut self.desk, walks_wait);
        self.owner.run_walks(&mut self.desk);
        self.owner.run_errand(&mut self.desk);
        self.doors.check_due(&mut self.desk, &mut self.audience);
        let mut budget = Budget::default();
        while let Some(key) = self.doors.next_paced(now, &mut budget) {
            self.go_on_reading(key);
            self.settle();
            self.doors.paced_read(&mut self.desk, key);
        }
        self.audience.run_away(&mut self.desk);
        self.audience.run_scans(&mut self.desk);
        let doors = &self.doors;
        self.audience.run_orders(&mut self.desk, &|connection| doors.last_received(connection));
        self.audience.run_observers(&mut self.desk);
        self.audience.run_tree_scans(&mut self.desk);
        self.audience.run_rights_scans(&mut self.desk);
        self.audience.run_staleness(&mut self.desk);
        self.owner.run_passing(&mut self.desk);
        self.owner.run_installs(&mut self.desk);
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
        self.desk.turn.now = now;
        self.desk.turn.is_stopping = true;
        self.doors.shut_down(&mut self.desk, &mut self.audience);
    }

    // D. What to do.

    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.desk.effects.poll()
    }

    /// The mail of this turn for one other shard.
    pub fn poll_mail(&mut self, to: ShardIndex) -> Option<Batch> {
        self.desk.poll_mail(to)
    }

    /// Mail that did not fit its ring comes back, in front of what came since.
    pub fn return_mail(&mut self, to: ShardIndex, batch: Batch) {
        self.desk.return_mail(to, batch);
    }

    // Reports.

    fn ask_reports(&mut self) -> u64 {
        let ticket = self.desk.take_ticket();
        self.reports.insert(ticket, Vec::new());
        for index in 0..self.desk.identity.count {
            let from = self.desk.identity.index;
            self.desk.mail(ShardIndex(index), Mail::AskReport { from, ticket });
        }
        ticket
    }

    fn own_report(&mut self) -> Report {
        self.doors.end_sends(&mut self.desk);
        let (connections, sessions, topics) =
            (self.doors.len() as u64, self.audience.session_count() as u64, self.owner.topic_count() as u64);
        let is_failing = u64::from(self.desk.ledger.is_failing());
        let [view_evaluations, view_failures, view_references] = self.owner.views().totals();
        Report {
            connections,
            sessions,
            topics,
            storage_failing: is_failing,
            cluster_stale: u64::from(self.desk.groups.is_stale()),
            view_evaluations,
            view_failures,
            view_references,
            view_backlog: self.owner.views().backlog() as u64,
            mqtt_asleep: self.audience.mqtt_counts()[2] as u64,
            sessions_away: self.audience.away_count() as u64,
            mqtt_held_bytes: self.audience.held_bytes() as u64,
            ..self.desk.report.clone()
        }
    }

    fn gather_report(&mut self, ticket: u64, report: Report) {
        let Some(reports) = self.reports.get_mut(&ticket) else { return };
        reports.push(report);
        if reports.len() == usize::from(self.desk.identity.count) && !self.take_figures(ticket) {
            self.desk.effects.push(Effect::Reports(ticket));
        }
    }
}
