//! Who listens on this shard: to topics that come and go, to topics that get and lose subscribers.
//!
//! What listeners to topics find is told by the owners' walks, also of topics that are known already: a new selector looks at nothing here. What a
//! selector leaves that is taken away is looked at slice by slice, as walks are; until then the owners go on telling.

use super::known::{Change, forget, look_again, take_notice};
use super::missing::MISSING;
use crate::audience::Audience;
use crate::base::{SessionKey, ShardIndex};
use crate::desk::Desk;
use crate::gate::{self, Deed};
use crate::mail::{Call, Caller, Handler, ListenerKind, Mail, Notice, Viewer, What};
use crate::protocol::{ErrorCode, Refusal};
use crate::session::{Entry, Extras, Listened, Listener, Review, Session};
use crate::topic::interest::Interests;
use crate::topic::path::TopicPath;
use crate::topic::selector::Selector;
use crate::topic::specification::Specification;
use crate::topic::tree::Span;
use crate::wire::event::{self, Event};
use crate::wire::native::Outcome;
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

/// The wire's numbers of what is listened to.
pub(super) const TOPICS: u8 = 1;
const SUBSCRIBERS: u8 = 2;

/// How many topics of a review are looked at when its turn comes.
const REVIEW_PART: usize = 64;

/// Topics below one that comes or goes that are looked at at once, by a session that need not read first.
const BELOW_MAX: usize = 64;

/// The sessions that have a selector, and how many of their listeners and reviews do.
pub type Holders = BTreeMap<SessionKey, u32>;

/// Forgets what the listener was told of subscribers in `span` and does not select any more, or may not know: looks at so many topics as `budget` has. What is left.
fn forget_subscribed(listener: &mut Listener, viewer: &Viewer, span: Span, budget: &mut usize) -> Option<Span> {
    let range = listener.subscribed.range((span.start.clone(), span.end.clone()));
    let topics: Vec<_> = range.take(*budget).map(|(path, specification)| (path.clone(), specification.clone())).collect();
    *budget -= topics.len();
    for (path, specification) in &topics {
        if !listener.selects(path.as_str()) || !viewer.rights.may_see(path.as_str()) && !viewer.owns(specification) {
            listener.subscribed.remove(path);
        }
    }
    topics.into_iter().next_back().filter(|_| *budget == 0).map(|(last, _)| Span { start: Bound::Excluded(last), ..span })
}

/// Whether a listener need not hear now that there is a topic: what it was told of the path has still to be forgotten, and once that is done the owners tell
/// it what is there.
fn is_told_later(reviews: &VecDeque<Review>, listener: u64, what: What, path: &TopicPath) -> bool {
    let is_there = matches!(what, What::Added | What::Selected);
    // As many as questions and changed branches, and most sessions have none.
    is_there && reviews.iter().any(|review| review.forgets && review.number == listener && review.rest.contains(path))
}

/// Whether the session may know of what is there now. What it was told of it hears the end of in any case.
fn may_hear(session: &Session, notice: &Notice) -> bool {
    match notice {
        Notice::Topic { what: What::Added | What::Selected, path, specification }
        | Notice::Subscribers { path, specification, has_subscribers: true } => session.may_see(path.as_str(), specification),
        Notice::Topic { .. } | Notice::Subscribers { .. } => true,
    }
}

impl Audience {
    pub fn listen(&mut self, desk: &mut Desk, asker: Caller, number: u64, kind: u8, text: &str) -> Result<(), Refusal> {
        let listeners_max = desk.limits.listeners_max;
        let session = self.sessions.get_mut(asker.session).expect("a client that asks has a session");
        let listeners = &mut session.extras_mut().listeners;
        if listeners.get(&number).is_some_and(|listener| listener.kind != kind) {
            return Err(Refusal::new(ErrorCode::NoSuchListener, format!("listener {number} is of another kind")));
        }
        // One that has none any more takes room nevertheless: a client may make as many of them as it has numbers.
        let room = |listener: &Listener| (listener.selectors.len() + listener.branches.len()).max(1);
        // Bounded by `limits.listeners_max`.
        let held: usize = listeners.values().map(room).sum();
        let is_empty = listeners.get(&number).is_some_and(|listener| listener.selectors.is_empty() && listener.branches.is_empty());
        if held + usize::from(!is_empty) > listeners_max {
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
        let allowed = gate::selected(self.rights(asker.session), Deed::Select, &selector);
        self.leave_to_owner(desk, asker.session, allowed)?;
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
        listener.selectors.push(Listened { selector: selector.clone(), asked });
        *self.holders(kind).entry(&selector, Holders::new).entry(asker.session).or_default() += 1;
        if kind == TOPICS && self.trees.concern(asker.session) {
            self.listen_mapped(desk, asker, &selector, asked);
        }
        Ok(())
    }

    pub(super) fn tell_all(&mut self, desk: &mut Desk, mail: impl Fn() -> Mail) {
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

    pub(super) fn end_listener(&mut self, desk: &mut Desk, session: SessionKey, number: u64) {
        let held = self.sessions.get_mut(session).expect("a session with a listener stands");
        let id = held.id;
        let listener = held.extras_mut().listeners.remove(&number).expect("a listener ends once");
        // Bounded by `limits.listeners_max`, as the selectors are.
        for branch in listener.branches {
            let handler = Handler { branch, session: id, listener: number };
            self.tell_all(desk, || Mail::Handler { handler: handler.clone(), handles: false });
        }
        let extras = self.sessions.get_mut(session).expect("it was just there").extras_mut();
        // Bounded by `limits.questions_max`, as every review is a request that is not answered.
        let (ended, kept): (VecDeque<Review>, _) =
            std::mem::take(&mut extras.reviews).into_iter().partition(|review| review.number == number);
        extras.reviews = kept;
        for (asker, selector) in ended.into_iter().filter_map(|review| review.ended) {
            self.answer(desk, asker, Ok(Outcome::Done));
            self.release_listening(desk, session, listener.kind, &selector);
        }
        for held in listener.selectors {
            self.release_listening(desk, session, listener.kind, &held.selector);
        }
        if self.trees.concern(session) {
            self.rederive_listened(desk, session);
        }
    }

    pub(super) fn listener_mut(&mut self, session: SessionKey, number: u64) -> Option<&mut Listener> {
        self.sessions.get_mut(session)?.extras.as_mut()?.listeners.get_mut(&number)
    }

    /// The session is over.
    pub fn end_listeners(&mut self, desk: &mut Desk, session: SessionKey) {
        self.release_slices(desk, session);
        if !self.listening.sessions.remove(&session) {
            return;
        }
        let extras = self.sessions.get_mut(session).expect("a session that listens stands").extras_mut();
        let numbers: Vec<u64> = extras.listeners.keys().copied().collect();
        // All at once: else each listener looks for its own among them.
        for Review { number, ended, .. } in std::mem::take(&mut extras.reviews) {
            let Some((_, selector)) = ended else { continue };
            let kind = self.listener_mut(session, number).expect("a listener that ends takes its reviews along").kind;
            self.release_listening(desk, session, kind, &selector);
        }
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
        let rest = Span::of_branch(selector.prefix());
        let extras = self.sessions.get_mut(asker.session).expect("it was just there").extras_mut();
        extras.reviews.push_back(Review { number, ended: Some((asker, selector.clone())), rest, forgets: false });
        self.resume_reviews(asker.session);
        true
    }

    /// Topics came or went above very many others, which have to be looked at again.
    fn review_below(&mut self, key: SessionKey, number: u64, rest: Span) {
        let extras = self.sessions.get_mut(key).expect("a session that listens stands").extras_mut();
        // Of each branch one review: what is looked at twice is told once.
        let is_same =
            |review: &&mut Review| review.ended.is_none() && !review.forgets && review.number == number && review.rest.end == rest.end;
        match extras.reviews.iter_mut().find(is_same) {
            Some(review) => review.rest = rest,
            None => extras.reviews.push_back(Review { number, ended: None, rest, forgets: false }),
        }
        self.resume_reviews(key);
    }

    /// Those that are requests which are not answered.
    pub fn reviews_of(&self, session: SessionKey) -> usize {
        let extras = self.sessions.get(session).and_then(|session| session.extras.as_ref());
        extras.map_or(0, |extras| extras.reviews.iter().filter(|review| review.ended.is_some()).count())
    }

    /// The session's reviews go on: it has read, or has a new one.
    pub(super) fn resume_reviews(&mut self, session: SessionKey) {
        let Some(extras) = self.sessions.get_mut(session).and_then(|session| session.extras.as_mut()) else { return };
        if !extras.reviews.is_empty() && !std::mem::replace(&mut extras.is_reviewing, true) {
            self.listening.reviewing.push_back(session);
        }
    }

    /// Goes on with the reviews under way, each session's first a part in its turn, within this turn's budget.
    pub fn run_reviews(&mut self, desk: &mut Desk, walks_wait: bool) {
        // Where walks wait they get half of the budget.
        let kept = if walks_wait { desk.turn.walk_budget / 2 } else { 0 };
        while desk.turn.walk_budget > kept
            && let Some(key) = self.listening.reviewing.pop_front()
        {
            // The session may be over.
            let Some(session) = self.sessions.get_mut(key) else { continue };
            session.extras_mut().is_reviewing = false;
            if session.extras_mut().reviews.is_empty() {
                continue;
            }
            if Self::is_busy(desk, session) {
                self.held_back.insert(key);
                continue;
            }
            self.review_part(desk, key, kept);
            self.resume_reviews(key);
        }
    }

    fn review_part(&mut self, desk: &mut Desk, key: SessionKey, kept: usize) {
        let part = REVIEW_PART.min(desk.turn.walk_budget - kept);
        let session = self.sessions.get_mut(key).expect("it was just there");
        let viewer = Viewer { rights: session.shared_rights().unwrap_or_default(), principal: session.author() };
        let extras = session.extras_mut();
        let Review { number, ended, rest, forgets } = extras.reviews.pop_front().expect("a session with a turn has a review");
        let listener = extras.listeners.get_mut(&number).expect("a listener that ends takes its reviews along");
        let (kind, mut left) = (listener.kind, part);
        let (changes, rest) = match kind {
            TOPICS if forgets => forget(listener, rest, &mut left),
            TOPICS => look_again(listener, rest, &mut left),
            _ => (Vec::new(), forget_subscribed(listener, &viewer, rest, &mut left)),
        };
        let is_done = rest.is_none();
        if let Some(rest) = rest {
            extras.reviews.push_back(Review { number, ended: ended.clone(), rest, forgets });
        }
        desk.turn.walk_budget -= (part - left).max(1);
        for change in changes {
            self.tell_change(desk, key, number, &change);
        }
        if let Some((asker, selector)) = ended.filter(|_| is_done) {
            self.release_own(desk, key, kind, &selector);
            self.answer(desk, asker, Ok(Outcome::Done));
        }
        if forgets && is_done {
            self.relisten(desk, key, number);
        }
    }

    /// These listeners forget what they know of the branches, a part at a time, and then hear anew what is there.
    pub(super) fn forget_listened(&mut self, key: SessionKey, numbers: &[u64], branches: &[TopicPath]) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let extras = session.extras_mut();
        for branch in branches {
            let rest = Span::of_branch(branch.as_str());
            // A client may change what it may do as often as it likes: one that waits already finds all that there is then.
            let waits = |review: &&Review| review.forgets && review.ended.is_none() && review.rest == rest;
            let waiting: HashSet<u64> = extras.reviews.iter().filter(waits).map(|review| review.number).collect();
            for number in numbers.iter().copied().filter(|number| !waiting.contains(number)) {
                extras.reviews.push_back(Review { number, ended: None, rest: rest.clone(), forgets: true });
            }
        }
        self.resume_reviews(key);
    }

    /// What the session may know of these branches has changed.
    pub(super) fn review_rights(&mut self, key: SessionKey, branches: &[TopicPath]) {
        let extras = self.sessions.get(key).and_then(|session| session.extras.as_ref());
        let listening = extras.into_iter().flat_map(|extras| &extras.listeners).filter(|(_, listener)| listener.kind != MISSING);
        let numbers: Vec<u64> = listening.map(|(number, _)| *number).collect();
        if !numbers.is_empty() {
            self.forget_listened(key, &numbers, branches);
        }
    }

    /// A listener has forgotten what it knew of a branch: the owners tell what is there, unless another branch is still to be forgotten.
    fn relisten(&mut self, desk: &mut Desk, key: SessionKey, number: u64) {
        let extras = self.sessions.get(key).and_then(|session| session.extras.as_ref());
        let Some(extras) = extras.filter(|extras| !extras.reviews.iter().any(|review| review.forgets && review.number == number)) else {
            return;
        };
        let Some(listener) = extras.listeners.get(&number) else { return };
        let mut selectors: Vec<Selector> = listener.selectors.iter().map(|held| held.selector.clone()).collect();
        let kind = if listener.kind == TOPICS { ListenerKind::Topics } else { ListenerKind::Subscribers };
        if kind == ListenerKind::Topics && self.trees.concern(key) {
            let derived: Vec<Selector> = selectors.iter().flat_map(|selector| self.derived_below(desk, key, selector)).collect();
            selectors.extend(derived);
        }
        for selector in selectors {
            self.ask_to_listen(desk, Caller { session: key, call: Call::Unheard }, kind, &selector);
        }
    }

    /// The same as `release_listening`, with what was derived from the selector.
    fn release_own(&mut self, desk: &mut Desk, key: SessionKey, kind: u8, selector: &Selector) {
        self.release_listening(desk, key, kind, selector);
        if kind == TOPICS && self.trees.concern(key) {
            self.rederive_listened(desk, key);
        }
    }

    fn holders(&mut self, kind: u8) -> &mut Interests<Holders> {
        if kind == TOPICS { &mut self.listening.topics } else { &mut self.listening.subscribers }
    }

    /// A listener of the session has the selector no longer, or its review is done. Tells the owners where no other of this shard has it: what is still
    /// to be reviewed has to stay true until then.
    pub(super) fn release_listening(&mut self, desk: &mut Desk, session: SessionKey, number: u8, selector: &Selector) {
        let table = self.holders(number);
        let holders = table.get_mut(selector).expect("a selector stands as long as it is held");
        let count = holders.get_mut(&session).expect("it is held as often as it is released");
        *count -= 1;
        if *count > 0 {
            return;
        }
        holders.remove(&session);
        if !holders.is_empty() {
            return;
        }
        table.remove(selector);
        let kind = if number == TOPICS { ListenerKind::Topics } else { ListenerKind::Subscribers };
        self.tell_all(desk, || Mail::StopListening { kind, selector: selector.as_str().into() });
    }

    /// The sessions whose listeners may have to be told what happened at the path.
    fn listening_to(&self, notice: &Notice) -> BTreeSet<SessionKey> {
        let mut sessions = BTreeSet::new();
        match notice {
            Notice::Topic { path, .. } => {
                let path = path.as_str();
                let ends = path.bytes().enumerate().filter(|(_, byte)| *byte == b'/').map(|(at, _)| at).chain([path.len()]);
                for end in ends {
                    self.listening.topics.for_each_match(&path[..end], |holders| sessions.extend(holders.keys()));
                }
            }
            Notice::Subscribers { path, .. } => {
                self.listening.subscribers.for_each_match(path.as_str(), |holders| sessions.extend(holders.keys()));
            }
        }
        sessions
    }

    /// Something happened to a topic that sessions here listen to.
    pub fn notice_arrived(&mut self, desk: &mut Desk, notice: &Notice, asked: u64) {
        // One for each session with a listener that the notice is for, or was a moment ago.
        for session in self.listening_to(notice) {
            if self.trees.concern(session)
                && let Notice::Topic { what, path, specification } = notice
            {
                self.topic_noticed(desk, session, (*what, path, specification), asked);
                continue;
            }
            let held = self.sessions.get_mut(session).expect("a session that listens stands");
            if !may_hear(held, notice) {
                continue;
            }
            let below_max = if Self::is_busy(desk, held) { 0 } else { BELOW_MAX };
            let Extras { listeners, reviews, .. } = held.extras_mut();
            let mut told: Vec<(u64, Change)> = Vec::new();
            let mut left: Vec<(u64, Span)> = Vec::new();
            // Bounded by `limits.listeners_max`.
            for (number, listener) in listeners {
                match notice {
                    Notice::Topic { what, path, specification } if listener.kind == TOPICS => {
                        if is_told_later(reviews, *number, *what, path) {
                            continue;
                        }
                        let (changes, rest) = take_notice(listener, *what, path, specification, asked, below_max);
                        told.extend(changes.into_iter().map(|change| (*number, change)));
                        left.extend(rest.map(|rest| (*number, rest)));
                    }
                    Notice::Subscribers { path, specification, has_subscribers } if listener.kind == SUBSCRIBERS => {
                        // A notice reaches every listener of this shard, whichever has asked for it.
                        let is_news = match has_subscribers {
                            true => {
                                listener.selects(path.as_str())
                                    && listener.is_told_of(path.as_str(), asked)
                                    && listener.subscribed.insert(path.clone(), specification.clone()).is_none()
                            }
                            false => listener.subscribed.remove(path).is_some(),
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
            for (number, rest) in left {
                self.review_below(session, number, rest);
            }
        }
    }

    /// Something happened to a topic that the session may find at other paths.
    #[cold]
    fn topic_noticed(
        &mut self,
        desk: &mut Desk,
        session: SessionKey,
        (what, topic, specification): (What, &TopicPath, &Arc<Specification>),
        asked: u64,
    ) {
        for path in self.session_paths(session, topic) {
            let held = self.sessions.get_mut(session).expect("a session that listens stands");
            if matches!(what, What::Added | What::Selected) && !held.rights().may_see(path.as_str()) && !held.owns(specification) {
                continue;
            }
            let below_max = if Self::is_busy(desk, held) { 0 } else { BELOW_MAX };
            let mut told: Vec<(u64, Change)> = Vec::new();
            let mut left: Vec<(u64, Span)> = Vec::new();
            let Extras { listeners, reviews, .. } = held.extras_mut();
            for (number, listener) in listeners.iter_mut().filter(|(_, listener)| listener.kind == TOPICS) {
                if is_told_later(reviews, *number, what, &path) {
                    continue;
                }
                let (changes, rest) = take_notice(listener, what, &path, specification, asked, below_max);
                told.extend(changes.into_iter().map(|change| (*number, change)));
                left.extend(rest.map(|rest| (*number, rest)));
            }
            for (number, change) in told {
                self.tell_change(desk, session, number, &change);
            }
            for (number, rest) in left {
                self.review_below(session, number, rest);
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
}
