//! Requests between clients: to a path, to a session, and to all sessions that match a filter.
//!
//! Every shard knows all handlers (`handlers`), so the asker's shard chooses one: of the nearest branch that has any, the one with which it has the fewest
//! requests under way. A handler that is gone, away or has too many is passed over for the next; where there is none left the asker is told. Once a request is with a handler it is with no other: it may
//! have been carried out. It ends with the handler's response, with its time, or with the end of either session (`serving`). Nothing is told of
//! a request whose asker does not wait, but that nobody takes it.

mod asked;
mod authenticators;
mod handlers;
mod mqtt;
mod serving;

use crate::audience::Audience;
use crate::base::{SessionId, SessionKey, ShardIndex};
use crate::desk::Desk;
use crate::mail::messaging::{Message, Messaging as Said, Requested, RequestedOfAll, Target, Unserved, Waiting};
use crate::mail::{Call, Caller, Mail};
use crate::protocol::{ErrorCode, Refusal};
use crate::session::Entry;
use crate::topic::session_filter::SessionFilter;
use crate::wire::event::{self, Event};
use crate::wire::native::Outcome;
use asked::{Asked, UnderWay, Whom};
pub use authenticators::authenticator_path;
use handlers::Handlers;
use hashbrown::HashMap;
pub(super) use serving::means;
use serving::{Scan, Served};
use std::collections::{BTreeSet, VecDeque};

/// See the module.
#[derive(Default)]
pub struct Messaging {
    handlers: Handlers,
    /// Requests of sessions here.
    asked: UnderWay,
    /// Messages of clients of MQTT that are to be answered.
    replies: mqtt::Replies,
    /// Requests that handlers here have, by who waits.
    served: HashMap<Waiting, BTreeSet<Served>>,
    /// Requests to all who match, of which not all sessions here were looked at.
    scans: VecDeque<Scan>,
}

/// The most requests whose time is over that one tick ends. No client is bounded by it.
const ENDED_PER_TICK_MAX: usize = 1000;
/// So many handlers are tried for one request: each is a mail there and back, and one more to be passed over at every choice.
const HANDLERS_TRIED_MAX: usize = 64;

impl Messaging {
    /// Requests, handlers and scans that sessions anywhere have here; 0 once all are gone.
    pub fn len(&self) -> usize {
        self.asked.len() + self.replies.len() + self.handlers.len() + self.served.len() + self.scans.len()
    }

    fn remove(&mut self, ticket: u64) -> Option<Asked> {
        let asked = self.asked.remove(ticket)?;
        if let Whom::Path(Target::Handler { session, number }) = asked.to {
            self.handlers.note(session, number, -1);
        }
        Some(asked)
    }
}

impl Audience {
    // What a client asks.

    pub fn request(&mut self, desk: &mut Desk, asker: Caller, timeout_ms: u64, path: &str, message: Message) -> Result<(), Refusal> {
        let ticket = self.begin_request(desk, asker, &message)?;
        self.ask_path(desk, asker, (ticket, timeout_ms), path, message)
    }

    fn ask_path(
        &mut self,
        desk: &mut Desk,
        asker: Caller,
        (ticket, timeout_ms): (u64, u64),
        path: &str,
        message: Message,
    ) -> Result<(), Refusal> {
        let Some(handler) = self.messaging.handlers.choose(path, &[]).cloned() else { return Err(no_handler(path)) };
        let target = Target::Handler { session: handler.session, number: handler.number };
        let properties = self.wanted_properties(desk, asker.session);
        let requested = self.requested(desk, asker, ticket, path, message, properties);
        if ticket != 0 {
            self.messaging.handlers.note(handler.session, handler.number, 1);
            self.wait(desk, asker, ticket, timeout_ms, (Whom::Path(target.clone()), requested.message.bytes()));
        }
        let home = desk.home_of(handler.session);
        send(desk, home, Said::Request { target, requested: Box::new(requested) });
        Ok(())
    }

    pub fn request_of_session(
        &mut self,
        desk: &mut Desk,
        asker: Caller,
        timeout_ms: u64,
        (name, path): (&str, &str),
        message: Message,
    ) -> Result<(), Refusal> {
        let session = parse_name(desk, name)?;
        let ticket = self.begin_request(desk, asker, &message)?;
        let properties = self.session_properties(desk, asker.session);
        let requested = self.requested(desk, asker, ticket, path, message, properties);
        if ticket != 0 {
            self.wait(desk, asker, ticket, timeout_ms, (Whom::Session(session), requested.message.bytes()));
        }
        let home = desk.home_of(session);
        send(desk, home, Said::Request { target: Target::Session(session), requested: Box::new(requested) });
        Ok(())
    }

    pub fn request_of_all(
        &mut self,
        desk: &mut Desk,
        asker: Caller,
        timeout_ms: u64,
        (filter, path): (SessionFilter, &str),
        message: Message,
    ) -> Result<(), Refusal> {
        let ticket = self.begin_request(desk, asker, &message)?;
        let properties = self.session_properties(desk, asker.session);
        let requested = self.requested(desk, asker, ticket, path, message, properties);
        // A message that waits for no answer is under way too, until all sessions were looked at: it is no less to hold.
        let (ticket, timeout_ms) = if ticket == 0 { (desk.take_ticket(), 0) } else { (ticket, timeout_ms) };
        let to = Whom::Filter { shards: desk.identity.count, count: 0, answers: Vec::new(), is_told: false };
        self.wait(desk, asker, ticket, timeout_ms, (to, requested.message.bytes()));
        let scan = Waiting { shard: desk.identity.index, ticket };
        for shard in (0..desk.identity.count).map(ShardIndex) {
            let of_all = RequestedOfAll { filter: filter.clone(), scan, requested: requested.clone() };
            send(desk, shard, Said::RequestOfAll(Box::new(of_all)));
        }
        Ok(())
    }

    /// The ticket of a request; 0 where its asker does not wait.
    fn begin_request(&self, desk: &mut Desk, asker: Caller, message: &Message) -> Result<u64, Refusal> {
        let (requests_max, bytes_max) = (desk.limits.questions_max, desk.limits.request_bytes_max);
        let (requests, bytes) = self.messaging.asked.of(asker.session);
        if requests >= requests_max {
            let message = format!("the session has {requests_max} requests to others under way, as many as it may");
            return Err(Refusal::new(ErrorCode::Overloaded, message));
        }
        // One goes in any case.
        if bytes > 0 && bytes + message.bytes() > bytes_max {
            let message = format!(
                "the session's requests to others that are under way have {bytes} bytes; with this one it would be more than session.request_bytes_max = {bytes_max}"
            );
            return Err(Refusal::new(ErrorCode::Overloaded, message));
        }
        Ok(if asker.call == Call::Request(0) { 0 } else { desk.take_ticket() })
    }

    fn requested(
        &self,
        desk: &Desk,
        asker: Caller,
        ticket: u64,
        path: &str,
        message: Message,
        properties: Vec<(Box<str>, Box<str>)>,
    ) -> Requested {
        Requested {
            waiting: Waiting { shard: desk.identity.index, ticket },
            asker: self.session_id(desk, asker.session).into(),
            path: path.into(),
            message,
            properties: properties.into(),
            tried: Vec::new(),
        }
    }

    /// The asker's properties, where a handler that this shard knows wants any: of one that was chosen here it knows that.
    fn wanted_properties(&self, desk: &Desk, asker: SessionKey) -> Vec<(Box<str>, Box<str>)> {
        if self.messaging.handlers.want_properties() { self.session_properties(desk, asker) } else { Vec::new() }
    }

    fn wait(&mut self, desk: &Desk, asker: Caller, ticket: u64, timeout_ms: u64, (to, bytes): (Whom, usize)) {
        let longest_ms = desk.limits.request_ms_max;
        let time_ms = if timeout_ms == 0 { longest_ms } else { timeout_ms.min(longest_ms) };
        self.messaging.asked.insert(ticket, Asked { asker, due: desk.turn.now.after_ms(time_ms), to, bytes });
    }

    // What comes of it.

    pub fn messaging_said(&mut self, desk: &mut Desk, from: ShardIndex, said: Said) {
        match said {
            Said::Handler { handler, handles } => self.messaging.handlers.told(handler, handles),
            Said::Request { target, requested } => _ = self.request_arrived(desk, target, requested),
            Said::RequestOfAll(of_all) => self.messaging.scans.push_back(Scan::new(*of_all)),
            Said::Returned { requested, target, why } => self.request_returned(desk, requested, &target, why),
            Said::Response { ticket, from, result } => self.response_arrived(desk, ticket, from, result),
            Said::Matched { ticket, count } => self.matched(desk, ticket, count),
            Said::Over { waiting } => self.served_over(from, waiting),
        }
    }

    /// A handler did not take the request: another may, or nobody. So it is for one that waits for no answer, or it would be lost without a word.
    fn request_returned(&mut self, desk: &mut Desk, mut requested: Box<Requested>, target: &Target, why: Unserved) {
        let ticket = requested.waiting.ticket;
        let &Target::Handler { session, number } = target else {
            let &(Target::Handler { session, .. } | Target::Session(session)) = target;
            return self.nobody_takes(desk, &requested, session, why);
        };
        requested.tried.push((session, number));
        if ticket != 0 {
            let Some(Asked { to: Whom::Path(current), .. }) = self.messaging.asked.get_mut(ticket) else { return };
            *current = Target::Session(session);
            self.messaging.handlers.note(session, number, -1);
        }
        let is_over = requested.tried.len() >= HANDLERS_TRIED_MAX;
        let next = self.messaging.handlers.choose(&requested.path, &requested.tried).filter(|_| !is_over);
        let Some(next) = next else {
            return self.nobody_takes(desk, &requested, session, why);
        };
        let target = Target::Handler { session: next.session, number: next.number };
        let (session, number) = (next.session, next.number);
        if requested.properties.is_empty()
            && let Some(asker) = self.asker_of(desk, &requested)
        {
            // It may be the first that wants any.
            requested.properties = self.wanted_properties(desk, asker).into();
        }
        if let Some(Asked { to: Whom::Path(current), .. }) = self.messaging.asked.get_mut(ticket) {
            *current = target.clone();
            self.messaging.handlers.note(session, number, 1);
        }
        let home = desk.home_of(session);
        send(desk, home, Said::Request { target, requested });
    }

    fn asker_of(&self, desk: &Desk, requested: &Requested) -> Option<SessionKey> {
        parse_name(desk, &requested.asker).ok().and_then(|asker| self.find(asker))
    }

    fn nobody_takes(&mut self, desk: &mut Desk, requested: &Requested, last: SessionId, why: Unserved) {
        let refusal = unserved(why, &requested.path);
        if requested.waiting.ticket != 0 {
            return self.response_arrived(desk, requested.waiting.ticket, last, Err(refusal));
        }
        if let Some(session) = self.asker_of(desk, requested) {
            self.refuse(desk, session, 0, refusal);
        }
    }

    fn response_arrived(&mut self, desk: &mut Desk, ticket: u64, from: SessionId, result: Result<Message, Refusal>) {
        let is_early = matches!(self.messaging.asked.get(ticket), Some(Asked { to: Whom::Filter { is_told: false, .. }, .. }));
        let result = if is_early { self.early_response(desk, ticket, result) } else { result };
        let Some(asked) = self.messaging.asked.get_mut(ticket) else { return };
        let asker = asked.asker;
        if let Whom::Filter { answers, count, is_told, .. } = &mut asked.to {
            if !*is_told {
                return answers.push((from, result));
            }
            *count -= 1;
            let is_last = *count == 0;
            self.tell_response(desk, asker, from, result);
            if is_last {
                self.messaging.remove(ticket);
            }
            return;
        }
        self.messaging.remove(ticket);
        let outcome = result.map(|Message { kind, value }| Outcome::Response { kind, value: value.map(|value| value.to_vec()) });
        self.answer(desk, asker, outcome);
    }

    /// An answer that waits until it is known how many there are. Where too many bytes wait already it is lost, and the asker told so.
    #[cold]
    fn early_response(&mut self, desk: &Desk, ticket: u64, result: Result<Message, Refusal>) -> Result<Message, Refusal> {
        let bytes_max = desk.limits.request_bytes_max;
        let bytes = result.as_ref().map_or(0, Message::bytes);
        if self.messaging.asked.take_room(ticket, bytes, bytes_max) {
            return result;
        }
        let message = format!(
            "the session has answered before all were asked, and its answer is lost: with it more than session.request_bytes_max = {bytes_max} would wait"
        );
        Err(Refusal::new(ErrorCode::ResponseLost, message))
    }

    /// How many sessions of a shard were asked. Once all have said so the asker is told, and what has been answered meanwhile.
    fn matched(&mut self, desk: &mut Desk, ticket: u64, more: u64) {
        let Some(asked) = self.messaging.asked.get_mut(ticket) else { return };
        let Whom::Filter { shards, count, answers, is_told } = &mut asked.to else { return };
        *count += more;
        *shards -= 1;
        if *shards > 0 {
            return;
        }
        *is_told = true;
        let (asker, total, answers) = (asked.asker, *count, std::mem::take(answers));
        let is_message = asker.call == Call::Request(0);
        if !is_message {
            self.answer(desk, asker, Ok(Outcome::Asked(total)));
        }
        if total == 0 || is_message {
            self.messaging.remove(ticket);
        }
        // As many as have answered in the time in which all shards were asked; each has a place in the asker's queue.
        for (from, result) in answers {
            self.response_arrived(desk, ticket, from, result);
        }
    }

    /// One of several answers.
    fn tell_response(&mut self, desk: &mut Desk, asker: Caller, from: SessionId, result: Result<Message, Refusal>) {
        let (Some(session), Call::Request(id)) = (self.session(asker.session), asker.call) else { return };
        let form = session.form.native().expect("MQTT asks nobody by a filter");
        let from = print_name(desk, from);
        let mut bytes = Vec::new();
        let event = match &result {
            Ok(Message { kind, value }) => Event::Response { id, session: &from, kind: *kind, value: value.as_deref() },
            Err(refusal) => {
                let Refusal { code, message, .. } = refusal;
                Event::ResponseError { id, session: &from, code: code.code(), name: code.name(), message }
            }
        };
        event::put(&mut bytes, form, &event);
        self.push(desk, asker.session, Entry::Control(bytes.into_boxed_slice()));
    }

    /// Ends requests whose time is over.
    pub fn tick_requests(&mut self, desk: &mut Desk) {
        for _ in 0..ENDED_PER_TICK_MAX {
            let Some(ticket) = self.messaging.asked.due(desk.turn.now) else { return };
            let asked = self.messaging.asked.get(ticket).expect("what is due is under way");
            let refusal =
                Refusal::new(ErrorCode::RequestTimeout, "no response came in time; whether the request was carried out is not known");
            let (asker, is_filter) = (asked.asker, matches!(asked.to, Whom::Filter { is_told: true, .. }));
            let count = if let Whom::Filter { count, .. } = asked.to { count } else { 0 };
            self.give_up_request(desk, ticket);
            if is_filter {
                let message = format!("{count} responses did not come in time");
                let refusal = Refusal { message, ..refusal };
                self.tell_response(desk, asker, SessionId::from_number(0), Err(refusal));
            } else {
                self.answer(desk, asker, Err(refusal));
            }
        }
    }

    /// Nobody waits for it any more: who has it is told.
    fn give_up_request(&mut self, desk: &mut Desk, ticket: u64) {
        let Some(asked) = self.messaging.remove(ticket) else { return };
        let waiting = Waiting { shard: desk.identity.index, ticket };
        match asked.to {
            Whom::Path(Target::Handler { session, .. } | Target::Session(session)) | Whom::Session(session) => {
                let home = desk.home_of(session);
                send(desk, home, Said::Over { waiting });
            }
            Whom::Filter { .. } => {
                (0..desk.identity.count).map(ShardIndex).for_each(|shard| send(desk, shard, Said::Over { waiting }));
            }
        }
    }

    /// The session is over: what it asked, and what it was asked, ends with it.
    pub(super) fn end_requests(&mut self, desk: &mut Desk, key: SessionKey) {
        // Bounded by `limits.questions_max`.
        let tickets = self.messaging.asked.tickets_of(key);
        tickets.into_iter().for_each(|ticket| self.give_up_request(desk, ticket));
        self.messaging.replies.forget(key);
        self.end_handlers(desk, key);
    }
}

fn send(desk: &mut Desk, to: ShardIndex, said: Said) {
    desk.mail(to, Mail::Messaging(Box::new(said)));
}

fn no_handler(path: &str) -> Refusal {
    Refusal::new(ErrorCode::NoHandler, format!("nobody handles requests to '{path}' or a branch above it"))
}

fn unserved(why: Unserved, path: &str) -> Refusal {
    match why {
        Unserved::Gone => no_handler(path),
        Unserved::Away => Refusal::new(ErrorCode::HandlerAway, "the handler has no connection now"),
        Unserved::Busy => Refusal::new(ErrorCode::HandlerBusy, "the handler has as many requests that it has not answered as it may"),
    }
}

/// A session by the name that clients know.
pub(super) fn parse_name(desk: &Desk, name: &str) -> Result<SessionId, Refusal> {
    let parse = || {
        let (run, number) = name.split_once('-')?;
        let run = u64::from_str_radix(run, 16).ok()?;
        // As it is printed: a number may be read with a sign and zeros before it too.
        let session = SessionId::from_number(u64::from_str_radix(number, 16).ok()?);
        let is_one = run == desk.identity.run && desk.name_of(session) == name;
        is_one.then_some(session)
    };
    parse().ok_or_else(|| {
        Refusal::new(ErrorCode::NoSuchSession, format!("there is no session '{}'", name.chars().take(60).collect::<String>()))
    })
}

fn print_name(desk: &Desk, session: SessionId) -> String {
    if session == SessionId::from_number(0) { String::new() } else { desk.name_of(session) }
}
