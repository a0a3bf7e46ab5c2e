//! The handlers' side of requests: who takes them, what they answer, and when they are over.

use super::authenticators::is_authenticator;
use super::{Said, Waiting, send};
use crate::audience::Audience;
use crate::audience::properties::SCANNED_BYTES_PER_SLICE;
use crate::base::{SessionId, SessionKey, ShardIndex, SlabKey};
use crate::desk::Desk;
use crate::mail::messaging::{Message, RequestHandler, Requested, RequestedOfAll, Target, Unserved};
use crate::mail::{Caller, Mail};
use crate::protocol::{ErrorCode, Refusal};
use crate::session::{Entry, Life, Serving};
use crate::topic::path::is_within;
use crate::wire::event::{self, Event, Properties as Shown};
use crate::wire::native::Outcome;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A request that a session here has and has not answered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Served {
    pub session: SessionKey,
    pub number: u64,
}

/// A request to all who match: how far this shard's sessions were looked at.
pub struct Scan {
    of_all: RequestedOfAll,
    from: u32,
    count: u64,
}

impl Scan {
    pub fn new(of_all: RequestedOfAll) -> Self {
        Self { of_all, from: 0, count: 0 }
    }
}

/// What a slice may give to sessions: each has its own copy of the request.
const GIVEN_BYTES_PER_SLICE: usize = 1 << 20;

impl Audience {
    pub fn handle_requests(
        &mut self,
        desk: &mut Desk,
        asker: Caller,
        number: u64,
        branch: &str,
        wanted: Vec<Box<str>>,
    ) -> Result<(), Refusal> {
        let listeners_max = desk.limits.listeners_max;
        let session = self.sessions.get_mut(asker.session).expect("a client that asks has a session");
        let handlers = &mut session.extras_mut().handlers;
        if !handlers.contains_key(&number) && handlers.len() >= listeners_max {
            let message = format!("the session handles {listeners_max} branches, as many as it may");
            return Err(Refusal::new(ErrorCode::ListenerLimit, message));
        }
        handlers.insert(number, branch.into());
        let handler = RequestHandler { branch: branch.into(), session: session.id, number, wanted: wanted.into() };
        self.tell_handler(desk, handler, true);
        // Who asks once this is answered finds it, on whatever shard.
        let to = crate::mail::views::Told { shard: desk.identity.index, ticket: self.expect_fences(desk, asker) };
        self.tell_all(desk, || Mail::Fence { to });
        Ok(())
    }

    /// Requests that it has it may still answer.
    pub fn unhandle_requests(&mut self, desk: &mut Desk, asker: Caller, number: u64) -> Result<(), Refusal> {
        let session = self.sessions.get_mut(asker.session).expect("a client that asks has a session");
        let Some(branch) = session.extras.as_mut().and_then(|extras| extras.handlers.remove(&number)) else {
            return Err(Refusal::new(ErrorCode::NoSuchListener, format!("the session has no handler {number}")));
        };
        let handler = RequestHandler { branch, session: session.id, number, wanted: [].into() };
        self.tell_handler(desk, handler, false);
        self.answer(desk, asker, Ok(Outcome::Done));
        Ok(())
    }

    /// The session may handle nothing any more, neither requests nor missing topics. Requests that it has it may still answer.
    pub fn end_handling(&mut self, desk: &mut Desk, key: SessionKey) {
        self.end_authenticators(desk, key);
        self.end_handlers_of(desk, key, |_| true);
        self.end_missing(desk, key);
    }

    pub(super) fn end_handlers_of(&mut self, desk: &mut Desk, key: SessionKey, is_meant: impl Fn(&str) -> bool) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let id = session.id;
        let Some(extras) = session.extras.as_mut() else { return };
        let (ended, kept) = std::mem::take(&mut extras.handlers).into_iter().partition(|(_, branch)| is_meant(branch));
        extras.handlers = kept;
        let ended: BTreeMap<u64, Box<str>> = ended;
        for (number, branch) in ended {
            self.tell_handler(desk, RequestHandler { branch, session: id, number, wanted: [].into() }, false);
        }
    }

    /// This shard knows at once what its own sessions handle: else a request that waits here already would find a handler of which it is not known what it
    /// wants.
    fn tell_handler(&mut self, desk: &mut Desk, handler: RequestHandler, handles: bool) {
        let own = desk.identity.index;
        for shard in (0..desk.identity.count).map(ShardIndex).filter(|shard| *shard != own) {
            send(desk, shard, Said::Handler { handler: handler.clone(), handles });
        }
        self.messaging.handlers.told(handler, handles);
    }

    /// A request has come to a session here.
    pub(super) fn request_arrived(&mut self, desk: &mut Desk, target: Target, requested: Box<Requested>) -> usize {
        self.serve(desk, &target, &requested).unwrap_or_else(|why| {
            let asker = requested.waiting.shard;
            send(desk, asker, Said::Returned { requested, target, why });
            0
        })
    }

    /// Gives the session the request, if it takes it. Gives the bytes that it is sent by that.
    fn serve(&mut self, desk: &mut Desk, target: &Target, requested: &Requested) -> Result<usize, Unserved> {
        let &(Target::Handler { session: id, .. } | Target::Session(id)) = target;
        let key = self.find(id).ok_or(Unserved::Gone)?;
        let session = self.sessions.get_mut(key).expect("a name is of a session");
        let (form, life, bytes) = (session.form.native(), session.life, session.queue.bounded_bytes());
        let extras = session.extras.as_mut().ok_or(Unserved::Gone)?;
        let handler = match target {
            // It may have been moved meanwhile.
            Target::Handler { number, .. } => {
                extras.handlers.get(number).filter(|branch| is_within(&requested.path, branch)).map(|_| *number)
            }
            Target::Session(_) => {
                let on_branch = extras.handlers.iter().filter(|(_, branch)| is_within(&requested.path, branch));
                on_branch.max_by_key(|(_, branch)| branch.len()).map(|(number, _)| *number)
            }
        };
        let (handler, form) = handler.zip(form).ok_or(Unserved::Gone)?;
        // What comes of an authenticator that is asked about itself waits for that.
        if matches!(life, Life::Away(_) | Life::GivenUp) || (extras.is_asked_about && is_authenticator(&requested.path)) {
            return Err(Unserved::Away);
        }
        let waiting = requested.waiting;
        if extras.serving.len() >= desk.limits.questions_max || bytes > desk.limits.queue.bytes_high {
            return Err(Unserved::Busy);
        }
        let mut number = 0;
        if waiting.ticket != 0 {
            extras.served += 1;
            number = extras.served;
            let is_question = is_authenticator(&requested.path);
            extras.serving.insert(number, Serving { shard: waiting.shard, ticket: waiting.ticket, is_question });
            self.messaging.served.entry(waiting).or_default().insert(Served { session: key, number });
        }
        let wanted = self.messaging.handlers.wanted(id, handler);
        let is_wanted = |key: &str| wanted.iter().any(|name| means(name, key));
        let properties: Vec<(Box<str>, Box<str>)> = requested.properties.iter().filter(|(key, _)| is_wanted(key)).cloned().collect();
        let mut bytes = Vec::new();
        let event = Event::Requested {
            handler,
            request: number,
            session: &requested.asker,
            path: &requested.path,
            kind: requested.message.kind,
            properties: Shown::Any(&properties),
            value: requested.message.value.as_deref(),
        };
        event::put(&mut bytes, form, &event);
        let given = bytes.len();
        self.push(desk, key, Entry::Control(bytes.into_boxed_slice()));
        Ok(given)
    }

    /// A handler answers, or rejects.
    pub fn respond_to(&mut self, desk: &mut Desk, asker: Caller, number: u64, result: Result<Message, Refusal>) -> Result<(), Refusal> {
        let session = self.sessions.get_mut(asker.session).expect("a client that asks has a session");
        let from = session.id;
        let Some(serving) = session.extras.as_mut().and_then(|extras| extras.serving.remove(&number)) else {
            let message = format!("the session has no request {number} that it has not answered; its time may be over, or its asker gone");
            return Err(Refusal::new(ErrorCode::NoSuchRequest, message));
        };
        let Serving { shard, ticket, .. } = serving;
        self.messaging.forget_served(Waiting { shard, ticket }, asker.session, number);
        send(desk, shard, Said::Response { ticket, from, result });
        self.answer(desk, asker, Ok(Outcome::Done));
        Ok(())
    }

    /// Nobody waits for it any more.
    pub(super) fn served_over(&mut self, from: ShardIndex, waiting: Waiting) {
        debug_assert_eq!(from, waiting.shard);
        self.messaging.scans.retain(|scan| scan.of_all.scan != waiting);
        for Served { session, number } in self.messaging.served.remove(&waiting).unwrap_or_default() {
            if let Some(extras) = self.sessions.get_mut(session).and_then(|session| session.extras.as_mut()) {
                extras.serving.remove(&number);
            }
        }
    }

    /// The session is over: its handlers go, and who waits for them is told.
    pub(super) fn end_handlers(&mut self, desk: &mut Desk, key: SessionKey) {
        let session = self.sessions.get_mut(key).expect("a session that ends stands");
        let id = session.id;
        let Some(extras) = session.extras.as_mut() else { return };
        let (handlers, serving) = (std::mem::take(&mut extras.handlers), std::mem::take(&mut extras.serving));
        // Bounded by `limits.listeners_max` and `limits.questions_max`.
        for (number, branch) in handlers {
            let handler = RequestHandler { branch, session: id, number, wanted: [].into() };
            self.tell_handler(desk, handler, false);
        }
        for (number, serving) in serving {
            let message = "the handler's session ended before it answered; whether the request was carried out is not known";
            self.give_up_serving(desk, (key, id), (number, serving), message);
        }
    }

    /// The session does not answer what it was asked.
    pub(super) fn give_up_serving(
        &mut self,
        desk: &mut Desk,
        (key, id): (SessionKey, SessionId),
        (number, Serving { shard, ticket, .. }): (u64, Serving),
        why: &str,
    ) {
        self.messaging.forget_served(Waiting { shard, ticket }, key, number);
        send(desk, shard, Said::Response { ticket, from: id, result: Err(Refusal::new(ErrorCode::HandlerGone, why)) });
    }

    // To all who match.

    pub fn has_scans(&self) -> bool {
        !self.messaging.scans.is_empty()
    }

    /// Goes on with a request to all who match: so many sessions a slice, or bytes given to them.
    pub fn run_scans(&mut self, desk: &mut Desk) {
        let Some(mut scan) = self.messaging.scans.pop_front() else { return };
        let (keys, mut next) = self.next_candidates(desk, &scan.of_all.filter, scan.from, SCANNED_BYTES_PER_SLICE);
        let (mut given, last) = (0, keys.last().copied());
        for key in keys {
            given += self.scan_session(desk, &mut scan, key);
            if given >= GIVEN_BYTES_PER_SLICE && Some(key) != last {
                next = Some(key.index() + 1);
                break;
            }
        }
        if let Some(from) = next {
            scan.from = from;
            return self.messaging.scans.push_back(scan);
        }
        let Waiting { shard, ticket } = scan.of_all.scan;
        send(desk, shard, Said::Matched { ticket, count: scan.count });
    }

    /// Asks a session, if it is one that is meant. Gives the bytes that it is sent by that.
    fn scan_session(&mut self, desk: &mut Desk, scan: &mut Scan, key: SessionKey) -> usize {
        let is_there = self.session(key).is_some_and(|session| session.form.native().is_some());
        if !is_there || !self.is_meant(desk, key, &scan.of_all.filter) {
            return 0;
        }
        scan.count += 1;
        let id = self.id_of(key).expect("it was just there");
        let (target, requested) = (Target::Session(id), scan.of_all.requested.clone());
        match requested.waiting.ticket {
            // Who waits for none of them is not told which of many did not take it.
            0 => self.serve(desk, &target, &requested).unwrap_or(0),
            _ => self.request_arrived(desk, target, Box::new(requested)),
        }
    }
}

/// Whether a handler, or a listener, that names this wants to know the property.
pub(in crate::audience) fn means(name: &str, key: &str) -> bool {
    match name {
        "ALL_FIXED_PROPERTIES" => key.starts_with('$'),
        "ALL_USER_PROPERTIES" => !key.starts_with('$'),
        name => name == key,
    }
}

impl super::Messaging {
    fn forget_served(&mut self, waiting: Waiting, session: SessionKey, number: u64) {
        let Some(served) = self.served.get_mut(&waiting) else { return };
        served.remove(&Served { session, number });
        if served.is_empty() {
            self.served.remove(&waiting);
        }
    }
}

impl super::Handlers {
    fn wanted(&self, session: SessionId, number: u64) -> Arc<[Box<str>]> {
        self.handler(session, number).map_or_else(|| [].into(), |handler| handler.wanted.clone())
    }
}
