//! One core's whole world: routes inputs to the rules below and collects their effects.
//!
//! Topics are the owner's (`crate::owner`); what both work with is the desk (`crate::desk`).
//!
//! - `persistence` — the ledger at work: records out, answers in; `restore` — what was stored before.
//! - `audience` — the sessions of this shard: what they selected, what arrives for them.
//! - `listeners` — sessions that are told of topics that come and go, of subscribers, and of selectors that match nothing; `known` — what a listener knows.
//! - `dialogue` — a connection's bytes: HTTP head, WebSocket frames, answers; `requests` — what sessions ask for.
//! - `questions` — what sessions have asked the owners of topics; `pace` — what waits until a session reads.
//! - `sessions` — sessions as others see them: properties, how many match a filter, when one is over.
//! - `views` — what sessions ask of topic views.
//! - `mqtt` — connections and sessions of MQTT.
//! - `transmit` — what a connection sends now.

mod inside;
mod persistence;
mod restore;
mod serve;
mod sys;
#[cfg(test)]
mod tests;

pub use crate::desk::{DerivationLimits, Effect, Handover, Identity, Limits, Log, Storing};
pub use crate::door::{Transport, Verdict};
pub use restore::Restoring;

use crate::audience::Audience;
use crate::base::{ShardIndex, Time};
use crate::desk::Desk;
use crate::door::Doors;
use crate::mail::report::Report;
use crate::mail::{Asker, Batch, Mail};
use crate::owner::{Owner, Views};
use crate::request;
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
    audience: Audience,
    doors: Doors,
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
        Self {
            owner: Owner::new(&desk),
            desk,
            audience: Audience::default(),
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

    /// What is held for MQTT: sessions, shared subscriptions, sessions without a connection, messages that are not kept everywhere, and topics that are
    /// only passed through; all 0 once every session is over, mail is delivered and such topics have gone.
    pub fn mqtt_counts(&self) -> [usize; 5] {
        let [sessions, groups, asleep] = self.audience.mqtt_counts();
        let [keepings, passing] = self.owner.message_counts();
        [sessions, groups, asleep, keepings, passing]
    }

    /// The most bytes that any session's queue holds.
    pub fn queue_bytes_most(&self) -> usize {
        self.audience.queue_bytes_most()
    }

    /// Whether a walk waits for `run_slice`.
    pub fn has_walks(&self) -> bool {
        self.audience.has_reviews() || self.owner.has_slices()
    }

    /// Whether so much mail waits that publishers should not be read now.
    pub fn is_congested(&self) -> bool {
        let waiting = self.desk.ledger.waiting().max(self.owner.views().backlog());
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
        self.owner.tick_aging(&self.desk);
        self.audience.tick_held_back(&mut self.desk);
        self.owner.tick_views(&self.desk);
        self.audience.tick_away(&mut self.desk);
        self.owner.tick_passing(&mut self.desk);
        self.tick_sys();
        self.settle();
    }

    /// A turn of the runtime took this long.
    pub fn handle_turn(&mut self, turn_ns: u64) {
        self.desk.report.tick.saturating_record(turn_ns.max(1));
    }

    // C. Commands.

    /// Goes on with the walks under way, a slice for all.
    pub fn run_slice(&mut self, now: Time) {
        self.desk.turn.now = now;
        self.begin_turn();
        let walks_wait = self.owner.has_walks();
        self.audience.run_reviews(&mut self.desk, walks_wait);
        self.owner.run_walks(&mut self.desk);
        self.owner.run_errand(&mut self.desk);
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

    // Routing.

    /// What this turn may do begins anew.
    fn begin_turn(&mut self) {
        self.desk.turn.walk_budget = self.desk.limits.walk_slice;
        self.owner.begin_view_turn(&self.desk);
    }

    /// Handles all mail at hand, that from this shard to itself too, and what views make of it as far as this turn goes.
    #[inline]
    fn settle(&mut self) {
        let is_quiet = !self.desk.has_mail() && self.desk.effects.given_up.is_empty() && !self.audience.has_counts();
        if !is_quiet || self.owner.has_view_work() {
            self.settle_all();
        }
    }

    fn settle_all(&mut self) {
        self.close_given_up();
        loop {
            while let Some((from, mail)) = self.desk.poll_inbox() {
                self.open_mail(from, mail);
                self.give_answers();
                self.close_given_up();
            }
            if self.audience.has_counts() {
                self.audience.tell_counts(&mut self.desk);
            } else if self.owner.has_view_work() {
                self.owner.run_views(&mut self.desk);
                if !self.desk.has_mail() {
                    return;
                }
            } else {
                return;
            }
        }
    }

    /// Closes the connections that their sessions cannot go on with.
    #[inline]
    fn close_given_up(&mut self) {
        if !self.desk.effects.given_up.is_empty() {
            self.doors.close_given_up(&mut self.desk, &mut self.audience);
        }
    }

    fn open_mail(&mut self, from: ShardIndex, mail: Mail) {
        match mail {
            Mail::Update(update) => self.owner.update_for_other(&mut self.desk, update),
            Mail::Ask { ticket, question } => self.owner.start_walk(&mut self.desk, from, ticket, question),
            Mail::Release { selector } => self.owner.release_interest(&mut self.desk, from, &selector),
            Mail::Part { ticket, part } => {
                if let Some(listing) = self.audience.gather_part(&mut self.desk, ticket, part) {
                    request::list(&mut self.desk, &self.owner, &mut self.audience, &listing);
                }
            }
            Mail::Answer { to: Asker::Session(to), result } => self.audience.answer(&mut self.desk, to, result),
            Mail::Answer { to: Asker::Server, .. } => {}
            Mail::Appeared(appeared) => self.audience.topic_appeared(&mut self.desk, *appeared),
            Mail::Published(publication) => self.audience.publication_arrived(&mut self.desk, publication),
            Mail::Removed { id, reason } => self.audience.topic_removed(&mut self.desk, id, reason),
            Mail::Forgotten { id } => self.audience.topic_forgotten(id),
            Mail::AskHistory { path, after, to, .. } => self.owner.tell_history(&mut self.desk, from, &path, after, to),
            Mail::History { id, to, events } => self.audience.take_history(&mut self.desk, id, to, events),
            Mail::Count { id, counts } => self.audience.count_topic(id, counts),
            Mail::Subscribers { path, id, count } => self.owner.subscribers_counted(&mut self.desk, from, &path, id, count),
            Mail::Noticed { notice, asked } => self.audience.notice_arrived(&mut self.desk, &notice, asked),
            Mail::SliceTold { ticket } => self.audience.slice_told(&mut self.desk, from, ticket),
            Mail::GoOn { ticket } => self.owner.resume_walk(from, ticket),
            Mail::StopListening { kind, selector } => self.owner.stop_listening(&mut self.desk, from, kind, &selector),
            Mail::Handler { handler, handles } => self.audience.handler_told(handler, handles),
            Mail::Missing(missing) => self.audience.missing_told(&mut self.desk, &missing),
            Mail::WatchSession { session, path, id } => self.audience.watch_session(&mut self.desk, from, session, path, id),
            Mail::SessionOver { path, id } => self.owner.creator_over(&self.desk, &path, id),
            Mail::UnwatchSession { session, id } => self.audience.unwatch_session(session, id),
            Mail::AskSessions { filter, count } => self.audience.sessions_asked(from, filter, count),
            Mail::Sessions { count, share } => self.owner.sessions_counted(&self.desk, count, share),
            Mail::RemoveSelected { selector } => self.owner.remove_selected(selector),
            Mail::OrderView { order, to } => self.owner.view_ordered(&mut self.desk, *order, to),
            Mail::ViewDecided { decision, to } => self.owner.view_decided(&self.desk, *decision, to),
            Mail::Fence { to } => self.owner.fence(&mut self.desk, to),
            Mail::Derived(derived) => self.owner.derived_arrived(&mut self.desk, *derived),
            Mail::Watch { path } => self.owner.start_watch(&mut self.desk, from, path),
            Mail::Unwatch { path } => self.owner.end_watch(from, &path),
            Mail::Watched { path, value } => self.owner.watched_told(&path, value),
            Mail::Group { text, change } => self.audience.change_group(&mut self.desk, &text, change),
            Mail::Dealt(dealt) => self.audience.take_dealt(&mut self.desk, *dealt),
            Mail::WantSys => self.sys_wanted(),
            Mail::Keeper { shard } => self.desk.ledger.keepers.insert(shard),
            Mail::Kept { ticket, share, refusal } => self.owner.kept(&mut self.desk, ticket, share, refusal),
            Mail::AskReport { from, ticket } => {
                let report = Box::new(self.own_report());
                self.desk.mail(from, Mail::Report { ticket, report });
            }
            Mail::Report { ticket, report } => self.gather_report(ticket, *report),
        }
    }

    fn ask_reports(&mut self) -> u64 {
        let ticket = self.desk.take_ticket();
        self.reports.insert(ticket, Vec::new());
        for index in 0..self.desk.identity.count {
            let from = self.desk.identity.index;
            self.desk.mail(ShardIndex(index), Mail::AskReport { from, ticket });
        }
        ticket
    }

    fn own_report(&self) -> Report {
        let (connections, sessions, topics) =
            (self.doors.len() as u64, self.audience.session_count() as u64, self.owner.topic_count() as u64);
        let is_failing = u64::from(self.desk.ledger.is_failing());
        let [view_evaluations, view_failures, view_references] = self.owner.views().totals();
        Report {
            connections,
            sessions,
            topics,
            storage_failing: is_failing,
            view_evaluations,
            view_failures,
            view_references,
            view_backlog: self.owner.views().backlog() as u64,
            mqtt_asleep: self.audience.mqtt_counts()[2] as u64,
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
