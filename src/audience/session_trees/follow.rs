//! What sessions select by mapped paths: derived selectors, by which the owners of topics are told, and the subscriptions that come of them.
//!
//! A derived selector may match more than what it was derived for. What a session is subscribed to is decided topic by topic: by its mapping, and by its
//! own selections of its own paths.

use crate::audience::Audience;
use crate::base::SessionKey;
use crate::desk::Desk;
use crate::mail::{Appearance, Call, Caller};
use crate::owner::known_selector;
use crate::protocol::Reason;
use crate::session::{LocalTopic, Sweep, SweepKind};
use crate::topic::path::TopicPath;
use crate::topic::selector::{Selector, text_of_branch};
use hashbrown::HashMap;
use std::rc::Rc;

/// Subscriptions of several interests, until all of them are answered.
#[derive(Default)]
pub struct Waiting {
    /// By the ticket of each interest that is not answered, that of its subscription's own selector.
    by_ticket: HashMap<u64, u64>,
    subscriptions: HashMap<u64, Subscription>,
}

pub(super) struct Subscription {
    missing: usize,
    /// Whether no interest has met a topic yet.
    is_empty: bool,
    selector: Selector,
}

/// An interest that is answered, as far as its session is concerned.
pub enum Answered {
    /// Nothing is to be told of it: others of its subscription are missing.
    Partly,
    /// All of the subscription to this selector; whether nothing was met.
    Wholly { selector: Selector, is_empty: bool },
}

impl Waiting {
    pub fn len(&self) -> usize {
        self.by_ticket.len() + self.subscriptions.len()
    }

    /// These interests are of one subscription.
    pub(super) fn insert(&mut self, selector: &Selector, tickets: &[u64]) {
        let subscription = Subscription { missing: tickets.len(), is_empty: true, selector: selector.clone() };
        self.subscriptions.insert(tickets[0], subscription);
        self.by_ticket.extend(tickets.iter().map(|ticket| (*ticket, tickets[0])));
    }

    /// An interest was answered, or is not waited for any more; `is_empty` where it met nothing.
    pub fn note(&mut self, ticket: u64, selector: &Selector, is_empty: bool) -> Answered {
        match self.take(ticket, is_empty) {
            None => Answered::Wholly { selector: selector.clone(), is_empty },
            Some(None) => Answered::Partly,
            Some(Some(Subscription { is_empty, selector, .. })) => Answered::Wholly { selector, is_empty },
        }
    }

    /// The subscription that the answer is of, if it is one of several, and that has been the last.
    pub(super) fn take(&mut self, ticket: u64, is_empty: bool) -> Option<Option<Subscription>> {
        let of = self.by_ticket.remove(&ticket)?;
        let subscription = self.subscriptions.get_mut(&of).expect("a subscription stands until all of it is answered");
        subscription.missing -= 1;
        subscription.is_empty &= is_empty;
        let is_last = subscription.missing == 0;
        Some(if is_last { self.subscriptions.remove(&of) } else { None })
    }
}

impl super::Mapped {
    /// Whether the session needs the selector for what it selects by mapped paths.
    fn derives(&self, selector: &Selector) -> bool {
        self.place(selector).is_ok()
    }

    fn place(&self, selector: &Selector) -> Result<usize, usize> {
        self.derived.binary_search_by(|(held, _)| held.as_str().cmp(selector.as_str()))
    }

    fn add(&mut self, selector: &Selector) {
        match self.place(selector) {
            Ok(place) => self.derived[place].1 += 1,
            Err(place) => self.derived.insert(place, (selector.clone(), 1)),
        }
    }

    /// One of those that it was derived from is gone; whether that was the last.
    fn remove(&mut self, selector: &Selector) -> bool {
        let Ok(place) = self.place(selector) else { return false };
        self.derived[place].1 -= 1;
        let is_last = self.derived[place].1 == 0;
        if is_last {
            self.derived.remove(place);
        }
        is_last
    }
}

impl Audience {
    // The loops over selectors here are over those derived from one: `session_trees.tables_max` at most.

    pub(super) fn derived(&self, desk: &Desk, key: SessionKey, selector: &Selector) -> Vec<Selector> {
        let mapping = self.trees.mapping_of(key).expect("the session is one that is concerned");
        mapping.derived(selector).iter().map(|text| known_selector(desk.limits.selector, text)).collect()
    }

    /// The same for all that lies below what the selector matches too, whatever it says of that.
    pub(in crate::audience) fn derived_below(&self, desk: &Desk, key: SessionKey, selector: &Selector) -> Vec<Selector> {
        let mapping = self.trees.mapping_of(key).expect("the session is one that is concerned");
        mapping.derived_below(selector.prefix()).iter().map(|text| known_selector(desk.limits.selector, text)).collect()
    }

    /// The session subscribes; its own selector was asked for by the ticket.
    #[cold]
    pub fn subscribe_mapped(&mut self, desk: &mut Desk, asker: Caller, selector: &Selector, is_new: bool, ticket: u64) {
        let derived = self.derived(desk, asker.session, selector);
        let mut tickets = vec![ticket];
        for selector in &derived {
            if is_new {
                self.trees.sessions.get_mut(&asker.session).expect("it was just there").add(selector);
            }
            tickets.push(self.take_interest(desk, asker, selector, true));
        }
        self.trees.waiting.insert(selector, &tickets);
        for selector in &derived {
            self.begin_sweep(desk, asker.session, Sweep::of(selector, SweepKind::Adjust));
        }
    }

    /// The session gives `selector` up, and selects by those of `released` no longer; derived ones are added to them that nothing needs any more.
    #[cold]
    pub fn unsubscribe_mapped(&mut self, desk: &mut Desk, key: SessionKey, selector: &Selector, released: &mut Vec<Selector>) {
        // Bounded by `limits.selections_max`, as the caller's own are.
        for own in released.clone() {
            for selector in self.derived(desk, key, &own) {
                if self.trees.sessions.get_mut(&key).expect("it was just there").remove(&selector) {
                    released.push(selector);
                }
            }
        }
        for selector in self.derived(desk, key, selector) {
            self.begin_sweep(desk, key, Sweep::of(&selector, SweepKind::Withdraw));
        }
    }

    /// Leaves those of the selectors that no mapped path of the session needs.
    pub fn keep_underived(&self, key: SessionKey, selectors: &mut Vec<Selector>) {
        if let Some(mapped) = self.trees.sessions.get(&key) {
            selectors.retain(|selector| !mapped.derives(selector));
        }
    }

    /// The session's paths mean other topics from now on, in these branches.
    pub(super) fn rederive(&mut self, desk: &mut Desk, key: SessionKey, changed: &[TopicPath]) {
        let session = self.sessions.get(key).expect("a session that is looked at stands");
        // Bounded by `limits.selections_max`, and part of what this turn may do: so of sessions with many selectors few are looked at in one turn.
        let selecting = session.selecting();
        let is_idle = selecting.is_empty() && session.subscriptions.is_empty();
        desk.turn.walk_budget = desk.turn.walk_budget.saturating_sub(selecting.len());
        let mut derived = super::Mapped { mapping: Rc::default(), derived: Vec::new(), listened: Vec::new() };
        for selector in &selecting {
            for selector in self.derived(desk, key, selector) {
                derived.add(&selector);
            }
        }
        let mapped = self.trees.sessions.get_mut(&key).expect("it has a mapping since");
        let old = std::mem::replace(&mut mapped.derived, derived.derived.clone());
        let caller = Caller { session: key, call: Call::Unheard };
        let is_gone = |(selector, _): &(Selector, u32)| !derived.derives(selector);
        let released: Vec<Selector> = old.iter().filter(|held| is_gone(held)).map(|(selector, _)| selector.clone()).collect();
        for (selector, _) in &derived.derived {
            if !old.iter().any(|(held, _)| held == selector) {
                self.take_interest(desk, caller, selector, true);
            }
        }
        if is_idle {
            return self.forget_mapping(key);
        }
        let mut sweeps: Vec<Sweep> = changed
            .iter()
            .map(|branch| Sweep::of(&known_selector(desk.limits.selector, &text_of_branch(branch.as_str())), SweepKind::Adjust))
            .collect();
        if let Some(last) = sweeps.last_mut() {
            last.released = released;
        }
        self.begin_sweeps(desk, key, sweeps);
    }

    /// Brings the session's subscriptions to one topic in line, under every path at which it finds it.
    #[cold]
    pub fn align(&mut self, desk: &mut Desk, key: SessionKey, topic: &Rc<LocalTopic>, kind: SweepKind, appearance: Appearance) {
        let topic = &self.topic_of(topic);
        let mapping = self.trees.mapping_of(key).expect("the session is one that is concerned").clone();
        let session = self.sessions.get(key).expect("a session that is looked at stands");
        let mut wanted = mapping.paths_of(topic.path.as_str());
        wanted.retain(|path| session.selects_at(path.as_str(), &topic.specification));
        let mut held: Vec<Rc<LocalTopic>> = std::iter::once(topic.clone()).chain(self.aliases_of(topic)).collect();
        held.retain(|topic| session.holds(topic));
        let is_withdrawn = |topic: &&Rc<LocalTopic>| !wanted.contains(&topic.path);
        for ended in held.iter().filter(is_withdrawn) {
            self.end_mapped(desk, key, ended);
        }
        if kind.only_ends() {
            return;
        }
        for path in wanted.iter().filter(|path| !held.iter().any(|held| held.path == **path)) {
            // Falling behind may have ended its connection.
            if self.session(key).is_none() {
                return;
            }
            self.end_others_at(desk, key, path);
            let topic = if *path == topic.path { topic.clone() } else { self.alias_at(desk, topic, path) };
            self.start_subscription(desk, key, &topic, appearance);
        }
    }

    /// The session does not find the topic at this path any more, or does not select it.
    fn end_mapped(&mut self, desk: &mut Desk, key: SessionKey, topic: &Rc<LocalTopic>) {
        let session = self.sessions.get(key).expect("a session that is looked at stands");
        let path = topic.path.as_str();
        let reason = if session.selects(topic) { Reason::BranchMappings } else { session.end_of(path) };
        self.unsubscribe_topics(desk, key, std::slice::from_ref(topic), reason);
    }

    /// What the session had at the path before the path meant another topic: it is told of the end of that first.
    fn end_others_at(&mut self, desk: &mut Desk, key: SessionKey, path: &TopicPath) {
        let session = self.sessions.get(key).expect("a session that is looked at stands");
        let known = self.locals.by_path.get(path).into_iter().chain(self.locals.limbo.get(path));
        let mut others: Vec<Rc<LocalTopic>> = known.chain(self.trees.aliases.at(path)).cloned().collect();
        others.retain(|topic| session.holds(topic));
        for other in &others {
            self.end_mapped(desk, key, other);
        }
    }
}
