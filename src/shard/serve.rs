//! A turn of the shard: what comes by connections and by mail is carried out, until nothing is at hand.
//!
//! Requests are carried out one by one, each with all that follows from it here before the next. What follows elsewhere goes by mail.

use super::Shard;
use crate::audience::mqtt::Published;
use crate::base::{ConnectionKey, SessionKey, ShardIndex, Time};
use crate::desk::{Answer, Handover};
use crate::door::{Identified, Reading, Said, Transport, Verdict};
use crate::mail::security::Security;
use crate::mail::views::Told;
use crate::mail::{Asker, Call, Caller, Change, LockWord, Mail, Update};
use crate::protocol::Refusal;
use crate::protocol::mqtt::Command;
use crate::request::{self, Asking, Todo};
use crate::session::{Place, Send, Session};
use crate::topic::path::TopicPath;
use crate::wire::event::Form;
use crate::wire::mqtt;
use crate::wire::native::Request;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

impl Shard {
    /// A transport was accepted; `None` where the shard holds as many as it may, and the transport should end.
    pub fn handle_accept(&mut self, now: Time, transport: Transport) -> Option<ConnectionKey> {
        self.desk.turn.now = now;
        self.doors.accept(&mut self.desk, transport)
    }

    /// The runtime says where a connection comes from that was just accepted.
    pub fn note_origin(&mut self, key: ConnectionKey, address: IpAddr, place: Place) {
        self.doors.note_origin(key, address, place);
    }

    /// The client of a connection that was just accepted, and of which it was noted where it comes from, has shown by a certificate who it is.
    pub fn note_principal(&mut self, key: ConnectionKey, principal: Box<str>) {
        self.doors.note_principal(key, principal);
    }

    /// Takes up a connection that another shard accepted; `None` where the shard holds as many as it may, and the transport should end.
    pub fn handle_handed(&mut self, now: Time, handover: Handover) -> Option<ConnectionKey> {
        self.desk.turn.now = now;
        self.begin_turn();
        let key = self.doors.take_over_transport(&mut self.desk, handover)?;
        self.doors.arrived(&mut self.desk, &mut self.audience, key);
        self.go_on_reading(key);
        self.settle();
        Some(key)
    }

    /// The transport brought bytes. They are unmasked in place.
    pub fn handle_bytes(&mut self, now: Time, key: ConnectionKey, bytes: &mut [u8]) {
        self.desk.turn.now = now;
        self.begin_turn();
        if let Some(reading) = self.doors.begin_reading(&self.desk, key, bytes) {
            self.read(key, reading);
        }
        self.settle();
    }

    /// What came of `Effect::Authenticate`.
    pub fn handle_authenticated(&mut self, now: Time, key: ConnectionKey, method: &str, verdict: Verdict) {
        self.desk.turn.now = now;
        self.begin_turn();
        self.doors.judged(&mut self.desk, &mut self.audience, key, method, verdict);
        self.go_on_reading(key);
        self.settle();
    }

    /// What came of `Effect::Identify`.
    pub fn handle_identified(&mut self, now: Time, key: ConnectionKey, identified: Identified) {
        self.desk.turn.now = now;
        self.begin_turn();
        self.doors.identified(&mut self.desk, &mut self.audience, key, identified);
        self.go_on_reading(key);
        self.settle();
    }

    /// Asks the sessions that are authenticators of this name, a question in JSON; `Effect::Judged` has this number, within so many milliseconds.
    pub fn ask_authenticators(&mut self, now: Time, (number, timeout_ms): (u64, u64), name: &str, question: Arc<[u8]>) {
        self.desk.turn.now = now;
        self.audience.ask_authenticators(&mut self.desk, (number, timeout_ms), name, question);
        self.settle();
    }

    /// What came of `Effect::ChangePrincipals`: the script that makes those that there are now, or why nothing changes.
    pub fn handle_principals(&mut self, now: Time, to: Told, result: Result<Option<String>, Refusal>) {
        self.desk.turn.now = now;
        self.audience.principals_changed(&mut self.desk, to, result);
        self.settle();
    }

    /// The transport is gone.
    pub fn handle_closed(&mut self, now: Time, key: ConnectionKey) {
        self.desk.turn.now = now;
        self.doors.closed(&mut self.desk, &mut self.audience, key);
        self.settle();
    }

    /// Answers an admin request.
    pub fn respond(&mut self, key: ConnectionKey, status: u16, content_type: &str, body: &[u8]) {
        self.doors.respond(&mut self.desk, &mut self.audience, key, status, (content_type, body));
    }

    pub(super) fn go_on_reading(&mut self, key: ConnectionKey) {
        if let Some(reading) = self.doors.go_on_reading(key) {
            self.read(key, reading);
        }
    }

    /// Reads as much as is whole. What one request does is done before the next is read.
    fn read(&mut self, key: ConnectionKey, mut reading: Reading<'_>) {
        while let Some(piece) = self.doors.next(&mut self.desk, &mut self.audience, key, &mut reading) {
            if let Some(said) = self.doors.hear(&mut self.desk, &mut self.audience, key, &piece, &reading) {
                self.take_up(key, said);
                self.give_answers();
            }
            self.doors.forget_shown(key, &piece, &mut reading);
            self.close_given_up();
        }
        self.doors.finish_reading(&mut self.desk, key, &mut reading);
    }

    fn take_up(&mut self, key: ConnectionKey, said: Said<'_>) {
        match said {
            Said::Request { session, form, request } => self.handle_request(session, form, request),
            Said::Command { session, command } => self.handle_command(key, session, command),
        }
    }

    pub(super) fn handle_request(&mut self, session: SessionKey, form: Form, request: Request<'_>) {
        let Request { id, ask } = request;
        let asker = Caller { session, call: Call::Request(id) };
        let operation = if self.desk.limits.audits { ask.name() } else { "" };
        let mut value = std::mem::take(&mut self.value);
        let Self { desk, owner, audience, checker, .. } = self;
        match (Asking { desk, owner, audience, checker, asker, form }).carry_out(ask, &mut value) {
            Ok(Todo::Nothing) => {}
            Ok(Todo::Route { path, change }) => self.route_change(asker.into(), &path, change),
            Ok(Todo::Review) => self.audience.run_reviews(&mut self.desk, self.owner.has_walks()),
            Err(refusal) => self.audience.refuse_operation(&mut self.desk, asker, operation, refusal),
        }
        self.value = value;
    }

    /// Sends a change to the owner of its topic.
    pub(super) fn route_change(&mut self, asker: Asker, path: &str, change: Change<'_>) {
        let owner = self.desk.owner_of(path);
        let session = match asker {
            Asker::Server => None,
            Asker::Session(caller) => self.audience.session(caller.session),
        };
        let (by, author) = (session.map(|session| session.id), session.and_then(Session::author));
        if owner == self.desk.identity.index {
            // What was asked before comes first, as it does from another shard.
            self.settle();
            let received = self.desk.turn.now;
            let (applied, waits) = self.owner.update(&mut self.desk, (by, author.as_ref()), path, &change, received);
            // What the update caused comes before its answer, as it does from another shard.
            self.settle();
            self.owner.acknowledge_kept(&mut self.desk, applied, Answer::Update { from: owner, to: asker }, waits);
            return self.give_answers();
        }
        let path = TopicPath::of_branch(path);
        let (from, received, change) = (self.desk.identity.index, self.desk.turn.now, change.into_owned());
        self.desk.mail(owner, Mail::Update(Update { from, to: asker, by, author, path, change, received }));
    }

    /// Gives sessions of this shard the answers that are due.
    pub(super) fn give_answers(&mut self) {
        while let Some((answer, result)) = self.desk.poll_answer() {
            match (answer, result) {
                (Answer::Route { asker, path, change }, Ok(_)) => self.route_change(asker, &path, *change),
                (answer, result) => self.audience.give_answer(&mut self.desk, answer, result),
            }
        }
    }

    fn handle_command(&mut self, key: ConnectionKey, session: SessionKey, command: Command<'_>) {
        let (desk, audience) = (&mut self.desk, &mut self.audience);
        let fault = match command {
            Command::Publish(publish) => match audience.publish_mqtt(desk, session, &publish) {
                Ok(None) => return,
                Ok(Some(Published { asker, path, change })) => return self.route_change(asker.into(), &path, change),
                Err(fault) => fault,
            },
            Command::Acknowledged(acknowledgement) => return audience.take_acknowledgement(desk, session, acknowledgement),
            Command::Release { id } => return audience.release_message(desk, session, id),
            Command::Subscribe(subscribe) => match audience.subscribe_mqtt(desk, session, &subscribe) {
                Ok(()) => return,
                Err(fault) => fault,
            },
            Command::Unsubscribe(unsubscribe) => return audience.unsubscribe_mqtt(desk, session, &unsubscribe),
            Command::Ping => return audience.reply(desk, session, |_, out| mqtt::put_pingresp(out)),
            Command::Connect(_) | Command::Authenticate(_) | Command::Disconnect(_) => unreachable!("the door keeps these"),
        };
        self.doors.close_faulty(&mut self.desk, &mut self.audience, key, fault);
    }

    // Turns.

    /// What this turn may do begins anew.
    pub(super) fn begin_turn(&mut self) {
        self.desk.turn.walk_budget = self.desk.limits.walk_slice;
        self.owner.begin_view_turn(&self.desk);
    }

    /// Handles all mail at hand, that from this shard to itself too, and what views make of it as far as this turn goes.
    #[inline]
    pub(super) fn settle(&mut self) {
        let is_quiet = !self.desk.has_mail() && self.desk.effects.given_up.is_empty() && !self.audience.has_counts();
        if !is_quiet || self.owner.has_view_work() {
            self.settle_all();
        }
    }

    fn settle_all(&mut self) {
        self.close_given_up();
        // Mail to this shard: what one turn's input has caused, which slices keep short.
        // Views stop when their units are spent.
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
            Mail::StoreSession { session } => self.audience.store_durable(&mut self.desk, session),
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
            Mail::RemoveSelected { selector } => self.owner.remove_selected(&self.desk, selector),
            Mail::OrderView { order, to } => self.owner.view_ordered(&mut self.desk, *order, to),
            Mail::ViewDecided { decision, to } => self.owner.view_decided(&self.desk, *decision, to),
            Mail::Fence { to } => self.owner.fence(&mut self.desk, to),
            Mail::Derived(derived) => self.owner.derived_arrived(&mut self.desk, *derived),
            Mail::Watch { path } => self.owner.start_watch(&mut self.desk, from, path),
            Mail::Unwatch { path } => self.owner.end_watch(from, &path),
            Mail::Watched { path, value } => self.owner.watched_told(&path, value),
            Mail::Group { text, change } => self.audience.change_group(&mut self.desk, &text, change),
            Mail::Dealt(dealt) => self.audience.take_dealt(&mut self.desk, *dealt),
            Mail::Messaging(said) => self.audience.messaging_said(&mut self.desk, from, *said),
            Mail::Control(said) => self.audience.control_said(&mut self.desk, *said),
            Mail::Events(said) => self.audience.events_said(&mut self.desk, from, *said),
            Mail::Owned => self.desk.has_owned = true,
            Mail::Security(said) => {
                if let Security::Decided { store, .. } = &*said {
                    self.owner.set_security(Some(store.clone()));
                }
                self.audience.security_said(&mut self.desk, *said);
            }
            Mail::SessionTrees(said) => self.audience.session_trees_said(&mut self.desk, *said),
            Mail::Lock { name, word } => match *word {
                LockWord::Granted { claim, number } => self.audience.lock_granted(&mut self.desk, &name, claim, number),
                word => self.locks.handle_word(&mut self.desk, name, word),
            },
            Mail::AskLocks { ticket, after } => self.locks.list(&mut self.desk, from, ticket, &after),
            Mail::WantSys => self.sys_wanted(),
            Mail::Full { is_full } => self.owner.shard_is_full(from, is_full),
            Mail::Keeper { shard } => self.desk.ledger.keepers.insert(shard),
            Mail::Kept { ticket, share, refusal } => self.owner.kept(&mut self.desk, ticket, share, refusal),
            Mail::AskReport { from, ticket } => {
                let report = Box::new(self.own_report());
                self.desk.mail(from, Mail::Report { ticket, report });
            }
            Mail::Report { ticket, report } => self.gather_report(ticket, *report),
        }
    }

    /// Whether the connection should not be read now: what it brings has to wait for the answer to an effect.
    pub fn is_waiting(&self, key: ConnectionKey) -> bool {
        self.doors.is_waiting(key)
    }

    /// Whether it waits for its pace, of whose end `Effect::Read` tells.
    pub fn is_paced(&self, key: ConnectionKey) -> bool {
        self.doors.is_paced(key)
    }

    // Sends.

    /// What the connection sends next, in one piece; `None` when it has nothing, or has ended. Give all of it to the socket (or hold the rest back and
    /// do not poll this connection until that is gone), and tell by `handle_sent`.
    pub fn poll_transmit(&mut self, now: Time, key: ConnectionKey) -> Option<Rc<Send>> {
        self.desk.turn.now = now;
        let send = self.doors.make_send(&mut self.desk, &mut self.audience, key)?;
        if send.is_none() {
            self.go_on_after_send(key);
        }
        send
    }

    /// Whether `poll_transmit` would give the connection more.
    pub fn wants_to_send(&self, key: ConnectionKey) -> bool {
        self.doors.wants_to_send(&self.desk, &self.audience, key)
    }

    /// What `poll_transmit` gave is with the socket.
    pub fn handle_sent(&mut self, now: Time, key: ConnectionKey, send: &Send) {
        self.doors.sent(&mut self.desk, now, key, send);
        self.go_on_after_send(key);
    }

    /// Nothing needs the bytes of this send any more: their memory is used again.
    pub fn give_up_send(&mut self, send: Rc<Send>) {
        self.doors.give_up(send);
    }

    /// A round of sends begins: bytes shared in the last one are given up.
    pub fn begin_sends(&mut self) {
        self.doors.end_sends(&mut self.desk);
        self.doors.begin_sends();
    }

    /// Something of the connection's session was sent, or is not wanted any more.
    fn go_on_after_send(&mut self, key: ConnectionKey) {
        if !self.audience.holds_back() {
            return;
        }
        if let Some(session) = self.doors.session(key).filter(|session| self.audience.is_held_back(*session)) {
            self.audience.go_on(&mut self.desk, session);
            self.settle();
        }
    }
}
