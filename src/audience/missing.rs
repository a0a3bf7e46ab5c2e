//! Who handles missing topics: sessions that are told of selectors that match nothing.
//!
//! Every shard knows the handlers of all shards, so that whoever misses a topic anywhere finds one.

use crate::audience::Audience;
use crate::base::{SessionId, SessionKey};
use crate::desk::Desk;
use crate::mail::views::Told;
use crate::mail::{Caller, Handler, Mail, Missing};
use crate::protocol::{ErrorCode, Refusal};
use crate::session::{Entry, Life, Listener};
use crate::topic::selector::Selector;
use crate::wire::event::{self, Event, Properties};
use hashbrown::HashMap;
use std::collections::BTreeMap;

/// The wire's number of what is listened to.
pub const MISSING: u8 = 3;

/// The handlers of one branch, in the order in which they came: the first is told.
#[derive(Default)]
pub struct Handlers {
    in_order: BTreeMap<u64, Handler>,
    numbers: HashMap<(SessionId, u64), u64>,
    newest: u64,
}

impl Handlers {
    fn remove(&mut self, handler: &Handler) {
        if let Some(number) = self.numbers.remove(&(handler.session, handler.listener)) {
            self.in_order.remove(&number);
        }
    }

    /// Takes it up behind the others.
    fn add(&mut self, handler: Handler) {
        self.remove(&handler);
        self.newest += 1;
        self.numbers.insert((handler.session, handler.listener), self.newest);
        self.in_order.insert(self.newest, handler);
    }

    fn first(&self) -> Option<&Handler> {
        self.in_order.first_key_value().map(|(_, handler)| handler)
    }
}

impl Audience {
    pub(super) fn handle_missing(&mut self, desk: &mut Desk, asker: Caller, number: u64, branch: &str) -> Result<(), Refusal> {
        crate::topic::path::check_form(branch).map_err(|error| Refusal::at(ErrorCode::InvalidPath, error.position, error.to_string()))?;
        let session = self.sessions.get_mut(asker.session).expect("a client that asks has a session");
        let listener = session.extras_mut().listeners.entry(number).or_insert_with(|| Listener::new(MISSING));
        if !listener.branches.iter().any(|held| **held == *branch) {
            listener.branches.push(branch.into());
            self.listening.sessions.insert(asker.session);
            let handler = Handler { branch: branch.into(), session: session.id, listener: number };
            self.tell_all(desk, || Mail::Handler { handler: handler.clone(), handles: true });
        }
        // Whoever misses a topic once this is answered is heard, on whatever shard.
        let to = Told { shard: desk.identity.index, ticket: self.expect_fences(desk, asker) };
        self.tell_all(desk, || Mail::Fence { to });
        Ok(())
    }

    pub(super) fn end_branch(&mut self, desk: &mut Desk, session: SessionKey, number: u64, branch: &str) {
        let id = self.id_of(session).expect("a session with a listener stands");
        let listener = self.listener_mut(session, number).expect("the listener was found to be a handler");
        listener.branches.retain(|held| **held != *branch);
        let handler = Handler { branch: branch.into(), session: id, listener: number };
        self.tell_all(desk, || Mail::Handler { handler: handler.clone(), handles: false });
    }

    /// The session handles missing topics no longer.
    pub(super) fn end_missing(&mut self, desk: &mut Desk, session: SessionKey) {
        let extras = self.sessions.get(session).and_then(|session| session.extras.as_ref());
        let missing = extras.into_iter().flat_map(|extras| &extras.listeners).filter(|(_, listener)| listener.kind == MISSING);
        let numbers: Vec<u64> = missing.map(|(number, _)| *number).collect();
        for number in numbers {
            self.end_listener(desk, session, number);
        }
    }

    pub fn handler_told(&mut self, handler: Handler, handles: bool) {
        let handlers = self.listening.missing.entry(handler.branch.clone()).or_default();
        if handles {
            return handlers.add(handler);
        }
        handlers.remove(&handler);
        if handlers.first().is_none() {
            self.listening.missing.remove(&handler.branch);
        }
    }

    /// The session's selector matched no topic. One that is over by now misses nothing.
    pub fn tell_missing(&mut self, desk: &mut Desk, session: SessionKey, selector: &Selector) {
        if self.listening.missing.is_empty() || self.sessions.get(session).is_none_or(|session| session.life == Life::Over) {
            return;
        }
        let prefix = selector.prefix();
        let ends = prefix.bytes().enumerate().filter(|(_, byte)| *byte == b'/').map(|(at, _)| at).chain([prefix.len()]);
        let branches: Vec<usize> = ends.collect();
        let found = branches.iter().rev().find_map(|end| self.listening.missing.get(&prefix[..*end])?.first().cloned());
        let Some(handler) = found else { return };
        let missing = Missing {
            selector: selector.as_str().into(),
            session: self.session_id(desk, session).into(),
            properties: self.session_properties(desk, session),
            handler,
        };
        desk.mail(desk.home_of(missing.handler.session), Mail::Missing(Box::new(missing)));
    }

    pub fn missing_told(&mut self, desk: &mut Desk, missing: &Missing) {
        let Missing { handler, selector, session: of, properties } = missing;
        let Some(key) = self.find(handler.session) else { return };
        let session = self.sessions.get(key).expect("a name is of a session");
        // It may have ended on the way.
        let listener = session.extras.as_ref().and_then(|extras| extras.listeners.get(&handler.listener));
        if listener.is_none_or(|listener| !listener.branches.contains(&handler.branch)) {
            return;
        }
        let form = session.form.native().expect("MQTT has no listeners");
        let properties = Properties::Any(properties);
        let mut out = Vec::new();
        event::put(&mut out, form, &Event::MissingNotice { listener: handler.listener, selector, session: of, properties });
        self.push(desk, key, Entry::Control(out.into_boxed_slice()));
    }
}
