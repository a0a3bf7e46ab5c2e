//! Who listens on this shard: to topics that come and go, to topics that get and lose subscribers, to selectors that match nothing.
//!
//! What listeners to topics find is told by the owners' walks, also of topics that are known already: a new selector looks at nothing here. What a
//! selector leaves that is taken away is looked at slice by slice, as walks are; until then the owners go on telling.

use super::known::{Change, look_again, take_notice};
use crate::audience::Audience;
use crate::base::{SessionKey, ShardIndex};
use crate::desk::Desk;
use crate::gate;
use crate::mail::views::Told;
use crate::mail::{Caller, Handler, ListenerKind, Mail, Missing, Notice};
use crate::protocol::{ErrorCode, Refusal};
use crate::session::{Entry, Life, Listened, Listener};
use crate::topic::path::TopicPath;
use crate::topic::selector::Selector;
use crate::topic::tree::Span;
use crate::wire::event::{self, Event, Properties};
use crate::wire::native::Outcome;
use std::collections::VecDeque;
use std::ops::Bound;

/// The wire's numbers of what is listened to.
const TOPICS: u8 = 1;
const SUBSCRIBERS: u8 = 2;
pub const MISSING: u8 = 3;

/// How many topics of a review are looked at when its turn comes.
const REVIEW_PART: usize = 256;

/// A listener's topics have to be looked at again, since a selector was taken away.
pub struct Review {
    asker: Caller,
    number: u64,
    kind: u8,
    selector: Selector,
    rest: Span,
}

impl Review {
    fn is_of(&self, session: SessionKey, number: u64) -> bool {
        (self.asker.session, self.number) == (session, number)
    }
}

/// Forgets what the listener was told of subscribers in `span` and does not select any more: looks at so many topics as `budget` has. What is left.
fn forget_subscribed(listener: &mut Listener, span: Span, budget: &mut usize) -> Option<Span> {
    let range = listener.subscribed.range((span.start.clone(), span.end.clone()));
    let paths: Vec<TopicPath> = range.take(*budget).cloned().collect();
    *budget -= paths.len();
    for path in &paths {
        if !listener.selects(path.as_str()) {
            listener.subscribed.remove(path);
        }
    }
    paths.into_iter().next_back().filter(|_| *budget == 0).map(|last| Span { start: Bound::Excluded(last), ..span })
}

impl Audience {
    pub fn listen(&mut self, desk: &mut Desk, asker: Caller, number: u64, kind: u8, text: &str) -> Result<(), Refusal> {
        let listeners_max = desk.limits.listeners_max;
        let session = self.sessions.get_mut(asker.session).expect("a client that asks has a session");
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
            TOPICS | SUBSCRIBERS => self.listen_to(desk, asker, number, kind, text),
            MISSING => self.handle_missing(desk, asker, number, text),
            _ => {
                Err(Refusal::new(ErrorCode::InvalidField, "there are three kinds of listeners: 1 topics, 2 subscribers, 3 missing topics"))
            }
        }
    }

    fn listen_to(&mut self, desk: &mut Desk, asker: Caller, number: u64, kind: u8, text: &str) -> Result<(), Refusal> {
        let selector = gate::parse_selector(desk, text)?;
        let session = self.sessions.get_mut(asker.session).expect("a client that asks has a session");
        let listener = session.extras_mut().listeners.entry(number).or_insert_with(|| Listener::new(kind));
        let is_new = !listener.holds(&selector);
        self.listening.sessions.insert(asker.session);
        let of = if kind == TOPICS { ListenerKind::Topics } else { ListenerKind::Subscribers };
        if !is_new {
            self.answer(desk, asker, Ok(Outcome::Done));
            return Ok(());
        }
        let asked = self.ask_to_listen(desk, asker, of, &selector);
        let listener = self.listener_mut(asker.session, number).expect("it was just there");
        listener.selectors.push(Listened { selector, asked });
        Ok(())
    }

    fn handle_missing(&mut self, desk: &mut Desk, asker: Caller, number: u64, branch: &str) -> Result<(), Refusal> {
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

    fn tell_all(&mut self, desk: &mut Desk, mail: impl Fn() -> Mail) {
        for shard in (0..desk.identity.count).map(ShardIndex) {
            desk.mail(shard, mail());
        }
    }

    /// Takes a selector off a listener, or ends the listener where the text is empty. Tells whether a review begins by that: its end is answered
    /// then.
    pub fn unlisten(&mut self, desk: &mut Desk, asker: Caller, number: u64, text: &str) -> Result<bool, Refusal> {
        let missing = || Refusal::new(ErrorCode::NoSuchListener, format!("the session has no listener {number}"));
        let session = self.sessions.get_mut(asker.session).expect("a client that asks has a session");
        let listeners = session.extras.as_mut().map(|extras| &mut extras.listeners).ok_or_else(missing)?;
        let kind = listeners.get(&number).ok_or_else(missing)?.kind;
        if text.is_empty() {
            self.end_listener(desk, asker.session, number);
        } else if kind == MISSING {
            self.end_branch(desk, asker.session, number, text);
        } else {
            let selector = gate::parse_selector(desk, text)?;
            self.check_questions(desk, asker)?;
            if self.deselect(asker, number, &selector) {
                return Ok(true);
            }
        }
        self.answer(desk, asker, Ok(Outcome::Done));
        Ok(false)
    }

    fn end_listener(&mut self, desk: &mut Desk, session: SessionKey, number: u64) {
        let held = self.sessions.get_mut(session).expect("a session with a listener stands");
        let id = held.id;
        let listener = held.extras_mut().listeners.remove(&number).expect("a listener ends once");
        for branch in listener.branches {
            let handler = Handler { branch, session: id, listener: number };
            self.tell_all(desk, || Mail::Handler { handler: handler.clone(), handles: false });
        }
        let held_back = self.listening.reviews_held.extract_if(.., |review| review.is_of(session, number)).collect::<Vec<_>>();
        let (mut ended, kept): (VecDeque<Review>, _) =
            std::mem::take(&mut self.listening.reviews).into_iter().partition(|review: &Review| review.is_of(session, number));
        self.listening.reviews = kept;
        ended.extend(held_back);
        for review in ended {
            self.answer(desk, review.asker, Ok(Outcome::Done));
            self.release_listening(desk, listener.kind, &review.selector);
        }
        for held in listener.selectors {
            self.release_listening(desk, listener.kind, &held.selector);
        }
    }

    fn end_branch(&mut self, desk: &mut Desk, session: SessionKey, number: u64, branch: &str) {
        let id = self.id_of(session).expect("a session with a listener stands");
        let listener = self.listener_mut(session, number).expect("the listener was found to be a handler");
        listener.branches.retain(|held| **held != *branch);
        let handler = Handler { branch: branch.into(), session: id, listener: number };
        self.tell_all(desk, || Mail::Handler { handler: handler.clone(), handles: false });
    }

    fn listener_mut(&mut self, session: SessionKey, number: u64) -> Option<&mut Listener> {
        self.sessions.get_mut(session)?.extras.as_mut()?.listeners.get_mut(&number)
    }

    /// The session is over.
    pub fn end_listeners(&mut self, desk: &mut Desk, session: SessionKey) {
        self.release_slices(desk, session);
        if !self.listening.sessions.remove(&session) {
            return;
        }
        let listeners = &self.sessions.get_mut(session).expect("a session that listens stands").extras_mut().listeners;
        let numbers: Vec<u64> = listeners.keys().copied().collect();
        for number in numbers {
            self.end_listener(desk, session, number);
        }
    }

    /// Takes a selector off a listener; tells whether what it leaves is to be reviewed.
    fn deselect(&mut self, asker: Caller, number: u64, selector: &Selector) -> bool {
        let listener = self.listener_mut(asker.session, number).expect("the listener's kind was just looked up");
        if !listener.holds(selector) {
            return false;
        }
        listener.selectors.retain(|held| held.selector != *selector);
        let (kind, rest) = (listener.kind, Span::of_branch(selector.prefix()));
        self.listening.reviews.push_back(Review { asker, number, kind, selector: selector.clone(), rest });
        true
    }

    pub fn reviews_of(&self, session: SessionKey) -> usize {
        let reviews = self.listening.reviews.iter().chain(&self.listening.reviews_held);
        reviews.filter(|review| review.asker.session == session).count()
    }

    /// The session has read: its reviews go on.
    pub(super) fn resume_reviews(&mut self, session: SessionKey) {
        let resumed = self.listening.reviews_held.extract_if(.., |review| review.asker.session == session);
        self.listening.reviews.extend(resumed);
    }

    /// Goes on with the reviews under way, each a part in its turn, within this turn's budget.
    pub fn run_reviews(&mut self, desk: &mut Desk, walks_wait: bool) {
        // Where walks wait they get half of the budget.
        let kept = if walks_wait { desk.turn.walk_budget / 2 } else { 0 };
        while desk.turn.walk_budget > kept
            && let Some(review) = self.listening.reviews.pop_front()
        {
            let part = REVIEW_PART.min(desk.turn.walk_budget - kept);
            let session = self.sessions.get(review.asker.session).expect("a session that ends takes its reviews along");
            if Self::is_busy(desk, session) {
                self.held_back.insert(review.asker.session);
                self.listening.reviews_held.push(review);
                continue;
            }
            let Review { asker, number, kind, selector, rest } = review;
            let listener = self.listener_mut(asker.session, number).expect("a listener that ends takes its reviews along");
            let mut left = part;
            let (changes, rest) = match kind {
                TOPICS => look_again(listener, rest, &mut left),
                _ => (Vec::new(), forget_subscribed(listener, rest, &mut left)),
            };
            desk.turn.walk_budget -= (part - left).max(1);
            for change in changes {
                self.tell_change(desk, asker.session, number, &change);
            }
            if let Some(rest) = rest {
                self.listening.reviews.push_back(Review { asker, number, kind, selector, rest });
                continue;
            }
            self.release_listening(desk, kind, &selector);
            self.answer(desk, asker, Ok(Outcome::Done));
        }
    }

    /// Tells the owners where no listener of this shard has the selector any more.
    fn release_listening(&mut self, desk: &mut Desk, number: u8, selector: &Selector) {
        let holds = |session: &SessionKey| {
            let extras = &self.sessions.get(*session).expect("a session that listens stands").extras;
            extras.as_ref().is_some_and(|extras| extras.listeners.values().any(|held| held.kind == number && held.holds(selector)))
        };
        // What is still to be reviewed has to stay true until then.
        let mut reviews = self.listening.reviews.iter().chain(&self.listening.reviews_held);
        let is_reviewed = reviews.any(|review| review.kind == number && review.selector == *selector);
        if is_reviewed || self.listening.sessions.iter().any(holds) {
            return;
        }
        let kind = if number == TOPICS { ListenerKind::Topics } else { ListenerKind::Subscribers };
        self.tell_all(desk, || Mail::StopListening { kind, selector: selector.as_str().into() });
    }

    /// Something happened to a topic that sessions here listen to.
    pub fn notice_arrived(&mut self, desk: &mut Desk, notice: &Notice, asked: u64) {
        let sessions: Vec<SessionKey> = self.listening.sessions.iter().copied().collect();
        for session in sessions {
            let extras = self.sessions.get_mut(session).expect("a session that listens stands").extras_mut();
            let mut told: Vec<(u64, Change)> = Vec::new();
            for (number, listener) in &mut extras.listeners {
                match notice {
                    Notice::Topic { what, path, specification } if listener.kind == TOPICS => {
                        let changes = take_notice(listener, *what, path, specification, asked);
                        told.extend(changes.into_iter().map(|change| (*number, change)));
                    }
                    Notice::Subscribers { path, has_subscribers } if listener.kind == SUBSCRIBERS => {
                        // A notice reaches every listener of this shard, whichever has asked for it.
                        let is_news = match has_subscribers {
                            true => {
                                listener.selects(path.as_str())
                                    && listener.is_told_of(path.as_str(), asked)
                                    && listener.subscribed.insert(path.clone())
                            }
                            false => listener.subscribed.remove(path),
                        };
                        if is_news && listener.selects(path.as_str()) {
                            told.push((*number, Change::Subscribers { path: path.clone(), has_subscribers: *has_subscribers }));
                        }
                    }
                    _ => {}
                }
            }
            for (number, change) in told {
                self.tell_change(desk, session, number, &change);
            }
        }
    }

    fn tell_change(&mut self, desk: &mut Desk, key: SessionKey, listener: u64, change: &Change) {
        let session = self.sessions.get(key).expect("a session that listens stands");
        let form = session.form.native().expect("MQTT has no listeners");
        let event = match change {
            Change::Topic { what, path, specification } => {
                let (kind, properties) = (specification.topic_type().number(), specification.said_properties());
                Event::TopicNotice { listener, what: *what as u8, path: path.as_str(), kind, properties }
            }
            Change::Descendant { what, path } => Event::DescendantNotice { listener, what: *what as u8, path: path.as_str() },
            Change::Subscribers { path, has_subscribers } => {
                Event::SubscribersNotice { listener, path: path.as_str(), has_subscribers: *has_subscribers }
            }
        };
        let mut out = Vec::new();
        event::put(&mut out, form, &event);
        self.push(desk, key, Entry::Control(out.into_boxed_slice()));
    }

    // Missing topics.

    pub fn handler_told(&mut self, handler: Handler, handles: bool) {
        let list = self.listening.missing.entry(handler.branch.clone()).or_default();
        list.retain(|held| *held != handler);
        if handles {
            list.push(handler);
        } else if list.is_empty() {
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
        desk.mail(missing.handler.session.shard(), Mail::Missing(Box::new(missing)));
    }

    pub fn missing_told(&mut self, desk: &mut Desk, missing: &Missing) {
        let Missing { handler, selector, session: of, properties } = missing;
        let Some(key) = self.find(handler.session) else { return };
        let session = self.sessions.get(key).expect("a name is of a session");
        let form = session.form.native().expect("MQTT has no listeners");
        let properties = Properties::Any(properties);
        let mut out = Vec::new();
        event::put(&mut out, form, &Event::MissingNotice { listener: handler.listener, selector, session: of, properties });
        self.push(desk, key, Entry::Control(out.into_boxed_slice()));
    }
}
