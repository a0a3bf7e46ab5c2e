//! Requests between clients: to a path, to a session, and to all sessions that match a filter.
//!
//! Every shard knows all handlers (`handlers`), so the asker's shard chooses one: of the nearest branch that has any, the one with which it has the fewest
//! requests under way. A handler that is gone, away or has too many is passed over for the next; where there is none left the asker is told. Once a request is with a handler it is with no other: it may
//! have been carried out. It ends with the handler's response, with its time, or with the end of either session (`serving`). Nothing is told of
//! a request whose asker does not wait, but that nobody takes it.

mod handlers;
mod serving;

use crate::audience::Audience;
use crate::base::{SessionId, SessionKey, ShardIndex, Time};
use crate::desk::Desk;
use crate::mail::messaging::{Message, Messaging as Said, Requested, RequestedOfAll, Target, Unserved, Waiting};
use crate::mail::{Call, Caller, Mail};
use crate::protocol::{ErrorCode, Refusal};
use crate::session::Entry;
use crate::topic::session_filter::SessionFilter;
use crate::wire::event::{self, Event};
use crate::wire::native::Outcome;
use handlers::Handlers;
use hashbrown::HashMap;
use serving::{Scan, Served};
use std::collections::{BTreeSet, VecDeque};

/// See the module.
#[derive(Default)]
pub struct Messaging {
    handlers: Handlers,
    /// Requests of sessions here, by ticket, and when their time is over.
    asked: HashMap<u64, Asked>,
    due: BTreeSet<(Time, u64)>,
    /// Those of each session here that has any.
    of_session: HashMap<SessionKey, BTreeSet<u64>>,
    /// Requests that handlers here have, by who waits.
    served: HashMap<Waiting, BTreeSet<Served>>,
    /// Requests to all who match, of which not all sessions here were looked at.
    scans: VecDeque<Scan>,
}

/// A request that waits for its answers.
struct Asked {
    asker: Caller,
    due: Time,
    to: Whom,
}

enum Whom {
    /// One handler of the path.
    Path(Target),
    Session(SessionId),
    /// All who match: how many shards have not said how many there are, how many answers are to come, and those that came before that is known.
    Filter {
        shards: u16,
        count: u64,
        answers: Vec<(SessionId, Result<Message, Refusal>)>,
        is_told: bool,
    },
}

/// The most requests whose time is over that one tick ends. No client is bounded by it.
const ENDED_PER_TICK_MAX: usize = 1000;

impl Messaging {
    /// Requests, handlers and scans that sessions anywhere have here; 0 once all are gone.
    pub fn len(&self) -> usize {
        self.asked.len() + self.handlers.len() + self.served.len() + self.scans.len()
    }

    fn insert(&mut self, ticket: u64, asked: Asked) {
        self.of_session.entry(asked.asker.session).or_default().insert(ticket);
        self.due.insert((asked.due, ticket));
        self.asked.insert(ticket, asked);
    }

    fn remove(&mut self, ticket: u64) -> Option<Asked> {
        let asked = self.asked.remove(&ticket)?;
        self.due.remove(&(asked.due, ticket));
        let of_session = self.of_session.get_mut(&asked.asker.session).expect("it is noted with its session");
        of_session.remove(&ticket);
        if of_session.is_empty() {
            self.of_session.remove(&asked.asker.session);
        }
        if let Whom::Path(Target::Handler { session, number }) = asked.to {
            self.handlers.note(session, number, -1);
        }
        Some(asked)
    }
}

impl Audience {
    // What a client asks.

    pub fn request(&mut self, desk: &mut Desk, asker: Caller, timeout_ms: u64, path: &str, message: Message) -> Result<(), Refusal> {
        let ticket = self.begin_request(desk, asker)?;
        let Some(handler) = self.messaging.handlers.choose(path, &[]).cloned() else { return Err(no_handler(path)) };
        let target = Target::Handler { session: handler.session, number: handler.number };
        let requested = self.requested(desk, asker, ticket, path, message);
        if ticket != 0 {
            self.messaging.handlers.note(handler.session, handler.number, 1);
            self.wait(desk, asker, ticket, timeout_ms, Whom::Path(target.clone()));
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
        let ticket = self.begin_request(desk, asker)?;
        let requested = self.requested(desk, asker, ticket, path, message);
        if ticket != 0 {
            self.wait(desk, asker, ticket, timeout_ms, Whom::Session(session));
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
        let ticket = self.begin_request(desk, asker)?;
        let requested = self.requested(desk, asker, ticket, path, message);
        if ticket != 0 {
            let shards = desk.identity.count;
            self.wait(desk, asker, ticket, timeout_ms, Whom::Filter { shards, count: 0, answers: Vec::new(), is_told: false });
        }
        for shard in (0..desk.identity.count).map(ShardIndex) {
            let of_all = RequestedOfAll { filter: filter.clone(), requested: requested.clone() };
            send(desk, shard, Said::RequestOfAll(Box::new(of_all)));
        }
        Ok(())
    }

    /// The ticket of a request; 0 where its asker does not wait.
    fn begin_request(&self, desk: &mut Desk, asker: Caller) -> Result<u64, Refusal> {
        let requests_max = desk.limits.questions_max;
        if self.messaging.of_session.get(&asker.session).is_some_and(|tickets| tickets.len() >= requests_max) {
            let message = format!("the session has {requests_max} requests to others under way, as many as it may");
            return Err(Refusal::new(ErrorCode::Overloaded, message));
        }
        Ok(if asker.call == Call::Request(0) { 0 } else { desk.take_ticket() })
    }

    fn requested(&self, desk: &Desk, asker: Caller, ticket: u64, path: &str, message: Message) -> Requested {
        Requested {
            waiting: Waiting { shard: desk.identity.index, ticket },
            asker: self.session_id(desk, asker.session).into(),
            path: path.into(),
            message,
            properties: match self.messaging.handlers.want_properties() {
                true => self.session_properties(desk, asker.session).into(),
                false => [].into(),
            },
            tried: Vec::new(),
        }
    }

    fn wait(&mut self, desk: &Desk, asker: Caller, ticket: u64, timeout_ms: u64, to: Whom) {
        let longest_ms = desk.limits.request_ms_max;
        let time_ms = if timeout_ms == 0 { longest_ms } else { timeout_ms.min(longest_ms) };
        self.messaging.insert(ticket, Asked { asker, due: desk.turn.now.after_ms(time_ms), to });
    }

    // What comes of it.

    pub fn messaging_said(&mut self, desk: &mut Desk, from: ShardIndex, said: Said) {
        match said {
            Said::Handler { handler, handles } => self.messaging.handlers.told(handler, handles),
            Said::Request { target, requested } => self.request_arrived(desk, target, requested),
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
            let Some(Asked { to: Whom::Path(current), .. }) = self.messaging.asked.get_mut(&ticket) else { return };
            *current = Target::Session(session);
            self.messaging.handlers.note(session, number, -1);
        }
        let Some(next) = self.messaging.handlers.choose(&requested.path, &requested.tried) else {
            return self.nobody_takes(desk, &requested, session, why);
        };
        let target = Target::Handler { session: next.session, number: next.number };
        let (session, number) = (next.session, next.number);
        if let Some(Asked { to: Whom::Path(current), .. }) = self.messaging.asked.get_mut(&ticket) {
            *current = target.clone();
            self.messaging.handlers.note(session, number, 1);
        }
        let home = desk.home_of(session);
        send(desk, home, Said::Request { target, requested });
    }

    fn nobody_takes(&mut self, desk: &mut Desk, requested: &Requested, last: SessionId, why: Unserved) {
        let refusal = unserved(why, &requested.path);
        if requested.waiting.ticket != 0 {
            return self.response_arrived(desk, requested.waiting.ticket, last, Err(refusal));
        }
        if let Some(session) = parse_name(desk, &requested.asker).ok().and_then(|asker| self.find(asker)) {
            self.refuse(desk, session, 0, refusal);
        }
    }

    fn response_arrived(&mut self, desk: &mut Desk, ticket: u64, from: SessionId, result: Result<Message, Refusal>) {
        let Some(asked) = self.messaging.asked.get_mut(&ticket) else { return };
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

    /// How many sessions of a shard were asked. Once all have said so the asker is told, and what has been answered meanwhile.
    fn matched(&mut self, desk: &mut Desk, ticket: u64, more: u64) {
        let Some(asked) = self.messaging.asked.get_mut(&ticket) else { return };
        let Whom::Filter { shards, count, answers, is_told } = &mut asked.to else { return };
        *count += more;
        *shards -= 1;
        if *shards > 0 {
            return;
        }
        *is_told = true;
        let (asker, total, answers) = (asked.asker, *count, std::mem::take(answers));
        self.answer(desk, asker, Ok(Outcome::Asked(total)));
        if total == 0 {
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
            let Some((_, ticket)) = self.messaging.due.first().copied().filter(|(due, _)| *due <= desk.turn.now) else { return };
            let asked = self.messaging.asked.get(&ticket).expect("what is due is under way");
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
        let tickets = self.messaging.of_session.get(&key).cloned().unwrap_or_default();
        tickets.into_iter().for_each(|ticket| self.give_up_request(desk, ticket));
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
        let session = SessionId::from_number(u64::from_str_radix(number, 16).ok()?);
        (run == desk.identity.run).then_some(session)
    };
    parse().ok_or_else(|| {
        Refusal::new(ErrorCode::NoSuchSession, format!("there is no session '{}'", name.chars().take(60).collect::<String>()))
    })
}

fn print_name(desk: &Desk, session: SessionId) -> String {
    if session == SessionId::from_number(0) { String::new() } else { format!("{:016x}-{:x}", desk.identity.run, session.number()) }
}
