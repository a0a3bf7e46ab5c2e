//! The sessions of this shard: what they selected, and what arrives for them.

use super::mail::{Asker, Mail, Part, Question};
use super::{Effect, Shard};
use crate::base::{Key, ShardIndex, TopicId};
use crate::protocol::{CloseCode, ErrorCode, Reason, Refusal};
use crate::session::{Entry, LocalTopic, Outgoing, Subscriber};
use crate::topic::path::{TopicPath, is_within};
use crate::topic::publication::Publication;
use crate::topic::selector::Selector;
use crate::value::ValueType;
use crate::wire::native::{self, Outcome};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::rc::Rc;
use std::sync::Arc;

/// A selector that sessions of this shard have.
#[derive(Default)]
pub struct Selected {
    sessions: BTreeSet<Key>,
    /// The questions to the owners, until all have answered.
    asking: BTreeSet<u64>,
}

/// A question to several owners, until all have answered.
pub struct Gather {
    waiting: usize,
    answer: Answer,
}

enum Answer {
    Interest { selector: Selector, asker: Asker },
    Removed { asker: Asker, count: u64 },
    Page { asker: Asker, first: usize, bytes_max: usize, with_values: bool, pages: Vec<(Vec<native::Entry>, bool)> },
}

impl Shard {
    // What sessions ask.

    pub(super) fn subscribe(&mut self, asker: Asker, selector: &Selector) -> Result<(), Refusal> {
        let selections_max = self.limits.selections_max;
        let Some(session) = self.sessions.get_mut(asker.session) else { return Ok(()) };
        let is_new = session.selections.add(selector, selections_max).map_err(|_| selections_full(selections_max))?;
        if is_new {
            self.selected.entry(selector, Selected::default).sessions.insert(asker.session);
        }
        // Every time, also where the owners know the selector: a topic made before this request may be on its way here.
        let answer = Answer::Interest { selector: selector.clone(), asker };
        let ticket = self.ask(selector, |selector| Question::Interest { selector }, answer);
        self.selected.entry(selector, Selected::default).asking.insert(ticket);
        // The owners do not send again what the shard has.
        self.subscribe_to_known(asker.session, selector);
        Ok(())
    }

    pub(super) fn unsubscribe(&mut self, asker: Asker, selector: &Selector) -> Result<(), Refusal> {
        let selections_max = self.limits.selections_max;
        let Some(session) = self.sessions.get_mut(asker.session) else { return Ok(()) };
        let released = session.selections.remove(selector, selections_max).map_err(|_| selections_full(selections_max))?;
        let ends = |path: &str, session: &crate::session::Session| !session.selections.select(path);
        let mut ended: Vec<_> =
            session.subscriptions.values().map(|(topic, _)| topic).filter(|topic| ends(topic.path.as_str(), session)).cloned().collect();
        // A removed topic may wait in limbo beside the next of its path.
        ended.sort_unstable_by(|a, b| a.path.cmp(&b.path).then(a.id.cmp(&b.id)));
        for topic in ended {
            self.end_subscription(asker.session, &topic);
            self.push(asker.session, Entry::Unsubscribed(topic, Reason::Requested));
        }
        for selector in released {
            self.release(asker.session, &selector);
        }
        self.answer(asker, Ok(Outcome::Done));
        Ok(())
    }

    pub(super) fn remove(&mut self, asker: Asker, selector: &Selector) {
        self.ask(selector, |selector| Question::Remove { selector }, Answer::Removed { asker, count: 0 });
    }

    pub(super) fn fetch(&mut self, asker: Asker, selector: &Selector, after: Option<TopicPath>, first: u64, with_values: bool) {
        let page_max = self.limits.fetch_page_max;
        let first = usize::try_from(first).ok().filter(|first| *first > 0).map_or(page_max, |first| first.min(page_max));
        let bytes_max = self.limits.message_bytes_max;
        let question = |selector| Question::Fetch { selector, after, first, bytes_max, with_values };
        self.ask(selector, question, Answer::Page { asker, first, bytes_max, with_values, pages: Vec::new() });
    }

    /// Asks the owners of what `selector` may match: one for a path, else all.
    fn ask(&mut self, selector: &Selector, question: impl FnOnce(Box<str>) -> Question, answer: Answer) -> u64 {
        let ticket = self.take_ticket();
        let question = question(selector.as_str().into());
        let owners = self.owners_of(selector);
        self.gathers.insert(ticket, Gather { waiting: owners.len(), answer });
        for owner in owners {
            self.mail(owner, Mail::Ask { ticket, question: question.clone() });
        }
        ticket
    }

    fn owners_of(&self, selector: &Selector) -> Vec<ShardIndex> {
        match selector.exact_path() {
            Some(path) => vec![self.owner_of(path)],
            None => (0..self.identity.count).map(ShardIndex).collect(),
        }
    }

    // What owners answer.

    pub(super) fn gather_part(&mut self, ticket: u64, part: Part) {
        let Some(gather) = self.gathers.get_mut(&ticket) else { return };
        gather.waiting -= 1;
        match (&mut gather.answer, part) {
            (Answer::Removed { count, .. }, Part::Removed(more)) => *count += more,
            (Answer::Page { pages, .. }, Part::Page { entries, is_cut }) => pages.push((entries, is_cut)),
            _ => {}
        }
        if gather.waiting > 0 {
            return;
        }
        let gather = self.gathers.remove(&ticket).expect("it was just there");
        match gather.answer {
            Answer::Interest { selector, asker } => {
                if let Some(selected) = self.selected.get_mut(&selector) {
                    selected.asking.remove(&ticket);
                }
                self.settle_limbo(&selector);
                self.answer(asker, Ok(Outcome::Done));
            }
            Answer::Removed { asker, count } => self.answer(asker, Ok(Outcome::Removed(count))),
            Answer::Page { asker, first, bytes_max, with_values, pages } => {
                let (entries, has_more) = merge_pages(pages, first, bytes_max);
                self.answer(asker, Ok(Outcome::Page { has_more, with_values, entries }));
            }
        }
    }

    // What happens to topics.

    pub(super) fn topic_appeared(&mut self, id: TopicId, path: TopicPath, kind: ValueType, latest: Option<Arc<Publication>>) {
        let known = self.limbo.remove(&id);
        let topic = known.unwrap_or_else(|| {
            Rc::new(LocalTopic { id, path: path.clone(), kind, latest: RefCell::new(None), subscribers: RefCell::default() })
        });
        if let Some(publication) = latest {
            *topic.latest.borrow_mut() = Some(self.outgoing(publication, &topic));
        }
        self.topics.insert(id, topic.clone());
        self.topics_by_path.insert(path.clone(), topic.clone());
        self.send_latest(&topic);
        let mut sessions: Vec<Key> = Vec::new();
        self.selected.for_each_match(path.as_str(), |_, selected| sessions.extend(&selected.sessions));
        for session in sessions {
            self.start_subscription(session, &topic);
        }
    }

    /// Gives whoever is subscribed already the newest value whole.
    fn send_latest(&mut self, topic: &Rc<LocalTopic>) {
        let mut behind = Vec::new();
        for subscriber in topic.subscribers.borrow_mut().iter_mut().filter(|subscriber| !subscriber.is_latest_queued) {
            subscriber.is_latest_queued = true;
            behind.push((subscriber.session, subscriber.generation));
        }
        for (session, generation) in behind {
            self.push(session, Entry::Latest(topic.clone(), generation));
        }
    }

    /// The owner has seen an interest end. Where a newer one is on its way, subscribers wait in limbo for the topic to appear again.
    pub(super) fn topic_forgotten(&mut self, id: TopicId) {
        let Some(topic) = self.topics.remove(&id) else { return };
        self.topics_by_path.remove(&topic.path);
        if !topic.subscribers.borrow().is_empty() {
            self.limbo.insert(id, topic);
        }
    }

    /// All owners have answered an interest: what it matches and still is in limbo was removed meanwhile.
    fn settle_limbo(&mut self, selector: &Selector) {
        let mut gone: Vec<_> = self.limbo.values().filter(|topic| selector.matches(topic.path.as_str())).cloned().collect();
        gone.sort_unstable_by_key(|topic| topic.id.0);
        for topic in gone {
            self.limbo.remove(&topic.id);
            self.end_subscribers(&topic, Reason::Removed);
        }
        self.limbo.retain(|_, topic| !topic.subscribers.borrow().is_empty());
    }

    /// The hot path: one publication to all its subscribers here.
    pub(super) fn publication_arrived(&mut self, publication: Arc<Publication>) {
        let Some(topic) = self.topics.get(&publication.topic).cloned() else { return };
        let outgoing = self.outgoing(publication, &topic);
        *topic.latest.borrow_mut() = Some(outgoing.clone());
        let mut overfull = Vec::new();
        for subscriber in topic.subscribers.borrow().iter().filter(|subscriber| !subscriber.is_latest_queued) {
            let Some(session) = self.sessions.get_mut(subscriber.session) else { continue };
            session.queue.push(Entry::Step(outgoing.clone()));
            if session.queue.bytes() > self.limits.queue.bytes_high {
                overfull.push(subscriber.session);
            }
            let connection = self.connections.get_mut(session.connection).expect("a session has a connection");
            if !std::mem::replace(&mut connection.is_woken, true) {
                self.effects.push_back(Effect::Wake(session.connection));
            }
        }
        for session in overfull {
            self.keep_bound(session);
        }
    }

    pub(super) fn topic_removed(&mut self, id: TopicId, reason: Reason) {
        let Some(topic) = self.topics.remove(&id) else { return };
        self.topics_by_path.remove(&topic.path);
        self.end_subscribers(&topic, reason);
    }

    fn end_subscribers(&mut self, topic: &Rc<LocalTopic>, reason: Reason) {
        let subscribers = std::mem::take(&mut *topic.subscribers.borrow_mut());
        for subscriber in subscribers {
            if let Some(session) = self.sessions.get_mut(subscriber.session) {
                session.subscriptions.remove(&topic.id);
            }
            self.push(subscriber.session, Entry::Unsubscribed(topic.clone(), reason));
        }
    }

    fn outgoing(&mut self, publication: Arc<Publication>, topic: &Rc<LocalTopic>) -> Rc<Outgoing> {
        self.next_sequence += 1;
        Outgoing::new(publication, topic, self.next_sequence)
    }

    // Subscriptions.

    fn subscribe_to_known(&mut self, session: Key, selector: &Selector) {
        for topic in self.known_topics(selector) {
            self.start_subscription(session, &topic);
        }
    }

    /// The topics held here that `selector` matches, in path order.
    fn known_topics(&self, selector: &Selector) -> Vec<Rc<LocalTopic>> {
        let branch = selector.prefix();
        let start = if branch.is_empty() { Bound::Unbounded } else { Bound::Included(TopicPath::of_branch(branch)) };
        let range = self.topics_by_path.range((start, Bound::Unbounded));
        let in_branch = range.take_while(|(path, _)| branch.is_empty() || is_within(path.as_str(), branch));
        in_branch.filter(|(path, _)| selector.matches(path.as_str())).map(|(_, topic)| topic.clone()).collect()
    }

    fn start_subscription(&mut self, key: Key, topic: &Rc<LocalTopic>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        if session.subscriptions.contains_key(&topic.id) || !session.selections.select(topic.path.as_str()) {
            return;
        }
        self.next_generation = self.next_generation.wrapping_add(1);
        let generation = self.next_generation;
        let mut subscribers = topic.subscribers.borrow_mut();
        session.subscriptions.insert(topic.id, (topic.clone(), subscribers.len() as u32));
        subscribers.push(Subscriber { session: key, generation, is_latest_queued: true });
        drop(subscribers);
        self.push(key, Entry::Subscribed(topic.clone(), generation));
    }

    /// Takes the session off the topic's subscribers; the last subscriber takes its place there.
    fn end_subscription(&mut self, key: Key, topic: &Rc<LocalTopic>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some((_, place)) = session.subscriptions.remove(&topic.id) else { return };
        let mut subscribers = topic.subscribers.borrow_mut();
        subscribers.swap_remove(place as usize);
        if let Some(moved) = subscribers.get(place as usize) {
            let moved = self.sessions.get_mut(moved.session).expect("a subscriber is a session");
            moved.subscriptions.get_mut(&topic.id).expect("a subscriber has the subscription").1 = place;
        }
    }

    /// The session's selections have lost `selector`.
    fn release(&mut self, session: Key, selector: &Selector) {
        let Some(selected) = self.selected.get_mut(selector) else { return };
        selected.sessions.remove(&session);
        if !selected.sessions.is_empty() {
            return;
        }
        let asking = std::mem::take(&mut selected.asking);
        self.selected.remove(selector);
        for ticket in asking {
            // The owners drop the question, so its waiting request is answered here.
            if let Some(Gather { answer: Answer::Interest { asker, .. }, .. }) = self.gathers.remove(&ticket) {
                self.answer(asker, Ok(Outcome::Done));
            }
        }
        for owner in self.owners_of(selector) {
            self.mail(owner, Mail::Release { selector: selector.as_str().into() });
        }
        self.limbo.retain(|_, topic| !topic.subscribers.borrow().is_empty());
    }

    /// The session is over.
    pub(super) fn end_session(&mut self, key: Key) {
        let Some(session) = self.sessions.get(key) else { return };
        let topics: Vec<_> = session.subscriptions.values().map(|(topic, _)| topic.clone()).collect();
        for topic in topics {
            self.end_subscription(key, &topic);
        }
        let session = self.sessions.remove(key).expect("it was just there");
        for selector in session.selections.selecting() {
            self.release(key, selector);
        }
    }

    // Queues.

    /// Queues something for a session and keeps its bound.
    pub(super) fn push(&mut self, key: Key, entry: Entry) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.queue.push(entry);
        let connection = session.connection;
        if session.queue.bytes() > self.limits.queue.bytes_high {
            self.keep_bound(key);
        }
        self.wake(connection);
    }

    fn keep_bound(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let subscriptions = &session.subscriptions;
        let before = session.queue.bytes();
        let latest = |topic: &LocalTopic| {
            let (_, place) = subscriptions.get(&topic.id).filter(|(subscribed, _)| std::ptr::eq(&**subscribed, topic))?;
            let mut subscribers = topic.subscribers.borrow_mut();
            let subscriber = &mut subscribers[*place as usize];
            subscriber.is_latest_queued = true;
            Some(subscriber.generation)
        };
        let result = session.queue.keep_bound(self.limits.queue, latest);
        let connection = session.connection;
        self.report.conflations += u64::from(session.queue.bytes() < before);
        if result.is_err() {
            self.report.overflows += 1;
            self.close_now(connection, CloseCode::SendQueueOverflow, "the session does not read fast enough");
        }
    }

    pub(super) fn wake(&mut self, connection: Key) {
        let Some(state) = self.connections.get_mut(connection) else { return };
        if !std::mem::replace(&mut state.is_woken, true) {
            self.effects.push_back(Effect::Wake(connection));
        }
    }
}

fn selections_full(selections_max: usize) -> Refusal {
    Refusal::new(ErrorCode::SelectionLimit, format!("the session has its most of {selections_max} selections"))
}

/// Merges the owners' pages in path order. Behind the last entry of a page that was cut nothing is known, so the result ends there at the latest.
fn merge_pages(pages: Vec<(Vec<native::Entry>, bool)>, first: usize, bytes_max: usize) -> (Vec<native::Entry>, bool) {
    let place = |entry: &native::Entry| TopicPath::of_branch(&entry.path);
    let horizon = pages.iter().filter(|(_, is_cut)| *is_cut).filter_map(|(entries, _)| entries.last()).map(place).min();
    let sorted: BTreeMap<TopicPath, native::Entry> =
        pages.into_iter().flat_map(|(entries, _)| entries).map(|entry| (place(&entry), entry)).collect();
    let total = sorted.len();
    let mut bytes = 0;
    let mut merged = Vec::new();
    for (path, entry) in sorted {
        bytes += entry.path.len() + entry.value.as_ref().map_or(0, Vec::len) + 16;
        let is_behind = horizon.as_ref().is_some_and(|horizon| path > *horizon);
        if is_behind || merged.len() >= first || (!merged.is_empty() && bytes > bytes_max) {
            break;
        }
        merged.push(entry);
    }
    let has_more = horizon.is_some() || merged.len() < total;
    (merged, has_more)
}
