//! Who listens on this shard: to topics that come and go, to topics that get and lose subscribers, to selectors that match nothing.
//!
//! A listener to topics knows every topic that it selects or that lies below a path it selects, so that it can tell which are immediate
//! descendants: the first topics on any branch below a selected path that are not selected themselves.

use super::Shard;
use super::mail::{Asker, Handler, ListenerKind, Mail, Missing, Notice, What};
use crate::base::{Key, ShardIndex};
use crate::protocol::{ErrorCode, Refusal};
use crate::session::{Entry, Form, Known, Listened, Listener};
use crate::topic::path::{TopicPath, is_within};
use crate::topic::selector::Selector;
use crate::topic::specification::Specification;
use crate::wire::native::{self, Outcome};
use crate::wire::text;
use std::ops::Bound;
use std::sync::Arc;

/// The wire's numbers of what is listened to.
const TOPICS: u8 = 1;
const SUBSCRIBERS: u8 = 2;
const MISSING: u8 = 3;

impl Shard {
    pub(super) fn listen(&mut self, asker: Asker, number: u64, kind: u8, text: &str) -> Result<(), Refusal> {
        let listeners_max = self.limits.listeners_max;
        let Some(session) = self.sessions.get_mut(asker.session) else { return Ok(()) };
        let listeners = &mut session.extras_mut().listeners;
        if listeners.get(&number).is_some_and(|listener| listener.kind != kind) {
            return Err(Refusal::new(ErrorCode::NoSuchListener, format!("listener {number} is of another kind")));
        }
        let held: usize = listeners.values().map(|listener| listener.selectors.len() + listener.branches.len()).sum();
        if held >= listeners_max {
            let message = format!("the session's listeners have their most of {listeners_max} selectors");
            return Err(Refusal::new(ErrorCode::ListenerLimit, message));
        }
        match kind {
            TOPICS | SUBSCRIBERS => self.listen_to(asker, number, kind, text),
            MISSING => self.handle_missing(asker, number, text),
            _ => {
                Err(Refusal::new(ErrorCode::InvalidField, "there are three kinds of listeners: 1 topics, 2 subscribers, 3 missing topics"))
            }
        }
    }

    fn listen_to(&mut self, asker: Asker, number: u64, kind: u8, text: &str) -> Result<(), Refusal> {
        let selector = self.parse_selector(text)?;
        let Some(session) = self.sessions.get_mut(asker.session) else { return Ok(()) };
        let listener = session.extras_mut().listeners.entry(number).or_insert_with(|| Listener::new(kind));
        let is_new = !listener.holds(&selector);
        self.listening_sessions.insert(asker.session);
        let of = if kind == TOPICS { ListenerKind::Topics } else { ListenerKind::Subscribers };
        if !is_new {
            self.answer(asker, Ok(Outcome::Done));
            return Ok(());
        }
        let asked = self.ask_to_listen(asker, of, &selector);
        if let Some(listener) = self.listener_mut(asker.session, number) {
            listener.selectors.push(Listened { selector, asked });
            for change in look_again(listener) {
                self.tell_change(asker.session, number, &change);
            }
        }
        Ok(())
    }

    fn handle_missing(&mut self, asker: Asker, number: u64, branch: &str) -> Result<(), Refusal> {
        crate::topic::path::check_form(branch).map_err(|error| Refusal::at(ErrorCode::InvalidPath, error.position, error.to_string()))?;
        let Some(session) = self.sessions.get_mut(asker.session) else { return Ok(()) };
        let listener = session.extras_mut().listeners.entry(number).or_insert_with(|| Listener::new(MISSING));
        if !listener.branches.iter().any(|held| **held == *branch) {
            listener.branches.push(branch.into());
            self.listening_sessions.insert(asker.session);
            let handler = Handler { branch: branch.into(), shard: self.identity.index, session: asker.session, listener: number };
            self.tell_all(|| Mail::Handler { handler: handler.clone(), handles: true });
        }
        self.answer(asker, Ok(Outcome::Done));
        Ok(())
    }

    fn tell_all(&mut self, mail: impl Fn() -> Mail) {
        for shard in (0..self.identity.count).map(ShardIndex) {
            self.mail(shard, mail());
        }
    }

    /// Takes a selector off a listener; all of them where it is empty.
    pub(super) fn unlisten(&mut self, asker: Asker, number: u64, text: &str) -> Result<(), Refusal> {
        let missing = || Refusal::new(ErrorCode::NoSuchListener, format!("the session has no listener {number}"));
        let session = self.sessions.get_mut(asker.session).ok_or_else(missing)?;
        let listeners = session.extras.as_mut().map(|extras| &mut extras.listeners).ok_or_else(missing)?;
        let listener = listeners.get(&number).ok_or_else(missing)?;
        if text.is_empty() {
            self.end_listener(asker.session, number);
        } else if listener.kind == MISSING {
            self.end_branch(asker.session, number, text);
        } else {
            let selector = self.parse_selector(text)?;
            self.deselect(asker.session, number, &selector);
        }
        self.answer(asker, Ok(Outcome::Done));
        Ok(())
    }

    fn end_listener(&mut self, session: Key, number: u64) {
        let extras = self.sessions.get_mut(session).and_then(|session| session.extras.as_mut());
        let Some(listener) = extras.and_then(|extras| extras.listeners.remove(&number)) else { return };
        for branch in listener.branches {
            let handler = Handler { branch, shard: self.identity.index, session, listener: number };
            self.tell_all(|| Mail::Handler { handler: handler.clone(), handles: false });
        }
        for held in listener.selectors {
            self.release_listening(listener.kind, &held.selector);
        }
    }

    fn end_branch(&mut self, session: Key, number: u64, branch: &str) {
        if let Some(listener) = self.listener_mut(session, number) {
            listener.branches.retain(|held| **held != *branch);
            let handler = Handler { branch: branch.into(), shard: self.identity.index, session, listener: number };
            self.tell_all(|| Mail::Handler { handler: handler.clone(), handles: false });
        }
    }

    fn listener_mut(&mut self, session: Key, number: u64) -> Option<&mut Listener> {
        self.sessions.get_mut(session)?.extras.as_mut()?.listeners.get_mut(&number)
    }

    /// The session is over.
    pub(super) fn end_listeners(&mut self, session: Key) {
        self.release_slices(session);
        if !self.listening_sessions.remove(&session) {
            return;
        }
        let extras = self.sessions.get(session).and_then(|session| session.extras.as_ref());
        let numbers: Vec<u64> = extras.map(|extras| extras.listeners.keys().copied().collect()).unwrap_or_default();
        for number in numbers {
            self.end_listener(session, number);
        }
    }

    fn deselect(&mut self, session: Key, number: u64, selector: &Selector) {
        let Some(listener) = self.listener_mut(session, number) else { return };
        let kind = listener.kind;
        listener.selectors.retain(|held| held.selector != *selector);
        let mut subscribed = std::mem::take(&mut listener.subscribed);
        subscribed.retain(|path| listener.selects(path.as_str()));
        listener.subscribed = subscribed;
        let changes = if kind == TOPICS { look_again(listener) } else { Vec::new() };
        for change in changes {
            self.tell_change(session, number, &change);
        }
        self.release_listening(kind, selector);
    }

    /// Tells the owners where no listener of this shard has the selector any more.
    fn release_listening(&mut self, number: u8, selector: &Selector) {
        let holds = |session: &Key| {
            let listeners = self.sessions.get(*session).and_then(|session| session.extras.as_ref()).map(|extras| &extras.listeners);
            listeners.is_some_and(|listeners| listeners.values().any(|held| held.kind == number && held.holds(selector)))
        };
        if self.listening_sessions.iter().any(holds) {
            return;
        }
        let kind = if number == TOPICS { ListenerKind::Topics } else { ListenerKind::Subscribers };
        self.tell_all(|| Mail::StopListening { kind, selector: selector.as_str().into() });
    }

    /// Something happened to a topic that sessions here listen to.
    pub(super) fn notice_arrived(&mut self, notice: &Notice, asked: u64) {
        let sessions: Vec<Key> = self.listening_sessions.iter().copied().collect();
        for session in sessions {
            let Some(extras) = self.sessions.get_mut(session).and_then(|session| session.extras.as_mut()) else { continue };
            let mut told: Vec<(u64, Change)> = Vec::new();
            for (number, listener) in &mut extras.listeners {
                match notice {
                    Notice::Topic { what, path, specification } if listener.kind == TOPICS => {
                        let changes = take_notice(listener, *what, path, specification, asked);
                        told.extend(changes.into_iter().map(|change| (*number, change)));
                    }
                    Notice::Subscribers { path, has_subscribers } if listener.kind == SUBSCRIBERS && listener.selects(path.as_str()) => {
                        // What another listener of this shard asked for reaches every one.
                        let is_news = match has_subscribers {
                            true => listener.is_told_of(path.as_str(), asked) && listener.subscribed.insert(path.clone()),
                            false => listener.subscribed.remove(path),
                        };
                        if is_news {
                            told.push((*number, Change::Subscribers { path: path.clone(), has_subscribers: *has_subscribers }));
                        }
                    }
                    _ => {}
                }
            }
            for (number, change) in told {
                self.tell_change(session, number, &change);
            }
        }
    }

    fn tell_change(&mut self, key: Key, listener: u64, change: &Change) {
        let Some(session) = self.sessions.get(key) else { return };
        let mut out = Vec::new();
        match (session.form, change) {
            (Form::Binary(_), Change::Topic { what, path, specification }) => {
                let kind = specification.topic_type().number();
                native::put_topic_notice(&mut out, listener, *what as u8, path.as_str(), kind, specification.properties());
            }
            (Form::Text, Change::Topic { what, path, specification }) => {
                let kind = specification.topic_type().number();
                text::put_topic_notice(&mut out, listener, *what as u8, path.as_str(), kind, specification.properties());
            }
            (Form::Binary(_), Change::Descendant { what, path }) => {
                native::put_descendant_notice(&mut out, listener, *what as u8, path.as_str());
            }
            (Form::Text, Change::Descendant { what, path }) => text::put_descendant_notice(&mut out, listener, *what as u8, path.as_str()),
            (Form::Binary(_), Change::Subscribers { path, has_subscribers }) => {
                native::put_subscribers_notice(&mut out, listener, path.as_str(), *has_subscribers);
            }
            (Form::Text, Change::Subscribers { path, has_subscribers }) => {
                text::put_subscribers_notice(&mut out, listener, path.as_str(), *has_subscribers);
            }
        }
        self.push(key, Entry::Control(out.into_boxed_slice()));
    }

    // Missing topics.

    pub(super) fn handler_told(&mut self, handler: Handler, handles: bool) {
        let list = self.missing_handlers.entry(handler.branch.clone()).or_default();
        list.retain(|held| *held != handler);
        if handles {
            list.push(handler);
        } else if list.is_empty() {
            self.missing_handlers.remove(&handler.branch);
        }
    }

    /// The session's selector matched no topic.
    pub(super) fn tell_missing(&mut self, session: Key, selector: &Selector) {
        if self.missing_handlers.is_empty() {
            return;
        }
        let prefix = selector.prefix();
        let ends = prefix.bytes().enumerate().filter(|(_, byte)| *byte == b'/').map(|(at, _)| at).chain([prefix.len()]);
        let branches: Vec<usize> = ends.collect();
        let found = branches.iter().rev().find_map(|end| self.missing_handlers.get(&prefix[..*end])?.first().cloned());
        let Some(handler) = found else { return };
        let missing = Missing {
            selector: selector.as_str().into(),
            session: self.session_id(session).into(),
            properties: self.session_properties(session),
            handler,
        };
        self.mail(missing.handler.shard, Mail::Missing(Box::new(missing)));
    }

    pub(super) fn missing_told(&mut self, missing: &Missing) {
        let Missing { handler, selector, session: of, properties } = missing;
        let Some(session) = self.sessions.get(handler.session) else { return };
        let mut out = Vec::new();
        let properties = properties.iter().map(|(key, value)| (&**key, &**value));
        match session.form {
            Form::Binary(_) => native::put_missing_notice(&mut out, handler.listener, selector, of, properties),
            Form::Text => text::put_missing_notice(&mut out, handler.listener, selector, of, properties),
        }
        self.push(handler.session, Entry::Control(out.into_boxed_slice()));
    }
}

/// What a listener is told.
enum Change {
    Topic { what: What, path: TopicPath, specification: Arc<Specification> },
    Descendant { what: What, path: TopicPath },
    Subscribers { path: TopicPath, has_subscribers: bool },
}

/// Takes up what happened to a topic; what the listener is told of that.
fn take_notice(listener: &mut Listener, what: What, path: &TopicPath, specification: &Arc<Specification>, asked: u64) -> Vec<Change> {
    let mut changes = Vec::new();
    match what {
        What::Added | What::Selected => {
            if !listener.is_told_of(path.as_str(), asked) || listener.known.contains_key(path) {
                return changes;
            }
            let is_selected = listener.selects(path.as_str());
            let known = Known { specification: specification.clone(), is_selected, is_immediate: false };
            listener.known.insert(path.clone(), known);
            if is_selected {
                changes.push(Change::Topic { what, path: path.clone(), specification: specification.clone() });
            }
        }
        What::Removed | What::Deselected => {
            let Some(known) = listener.known.remove(path) else { return changes };
            if known.is_selected {
                changes.push(Change::Topic { what, path: path.clone(), specification: known.specification });
            } else if known.is_immediate {
                changes.push(Change::Descendant { what, path: path.clone() });
            }
        }
    }
    look_at_branch(listener, path, what, &mut changes);
    changes
}

/// Finds which topics at and below `path` have become immediate descendants, or ceased to be.
fn look_at_branch(listener: &mut Listener, path: &TopicPath, what: What, changes: &mut Vec<Change>) {
    let range = listener.known.range((Bound::Included(path.clone()), Bound::Unbounded));
    let in_branch = range.take_while(|(known, _)| is_within(known.as_str(), path.as_str()));
    let mut turned = Vec::new();
    for (at, known) in in_branch {
        let is_immediate = !known.is_selected && is_immediate(listener, at);
        if is_immediate != known.is_immediate {
            turned.push((at.clone(), is_immediate));
        }
    }
    for (at, is_immediate) in turned {
        let what = match (at == *path, is_immediate) {
            (true, true) => what,
            (_, true) => What::Selected,
            (_, false) => What::Deselected,
        };
        if let Some(known) = listener.known.get_mut(&at) {
            known.is_immediate = is_immediate;
        }
        changes.push(Change::Descendant { what, path: at });
    }
}

/// Whether a selected path lies above with no topic in between.
fn is_immediate(listener: &Listener, path: &TopicPath) -> bool {
    let text = path.as_str();
    let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'/').map(|(at, _)| at).collect::<Vec<_>>();
    for end in ends.into_iter().rev() {
        let above = &text[..end];
        if listener.selects(above) {
            return true;
        }
        if listener.known.contains_key(&TopicPath::of_branch(above)) {
            return false;
        }
    }
    false
}

/// The selectors have changed: what is known already may be selected now, or no longer.
fn look_again(listener: &mut Listener) -> Vec<Change> {
    let mut changes = Vec::new();
    let paths: Vec<TopicPath> = listener.known.keys().cloned().collect();
    for path in paths {
        let is_selected = listener.selects(path.as_str());
        let is_kept = is_selected || listener.selects_above(path.as_str());
        let Some(known) = listener.known.get_mut(&path) else { continue };
        if known.is_selected != is_selected {
            known.is_selected = is_selected;
            let what = if is_selected { What::Selected } else { What::Deselected };
            changes.push(Change::Topic { what, path: path.clone(), specification: known.specification.clone() });
        }
        if !is_kept {
            let known = listener.known.remove(&path);
            if known.is_some_and(|known| known.is_immediate) {
                changes.push(Change::Descendant { what: What::Deselected, path });
            }
        }
    }
    let paths: Vec<TopicPath> = listener.known.keys().cloned().collect();
    for path in paths {
        let is_now = listener.known.get(&path).is_some_and(|known| !known.is_selected) && is_immediate(listener, &path);
        if let Some(known) = listener.known.get_mut(&path).filter(|known| known.is_immediate != is_now) {
            known.is_immediate = is_now;
            let what = if is_now { What::Selected } else { What::Deselected };
            changes.push(Change::Descendant { what, path });
        }
    }
    changes
}
