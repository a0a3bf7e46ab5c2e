//! The sessions of this shard: what they selected, and what arrives for them.

use super::Shard;
use crate::base::{Key, ShardIndex, TopicId};
use crate::desk::{GivenUp, Why};
use crate::mail::views::Figures;
use crate::mail::{Appearance, Appeared, Asker, Fetch, ListenerKind, Mail, NOBODY, Part, Question};
use crate::owner::{known_selector, merge_pages};
use crate::protocol::{ErrorCode, Reason, Refusal};
use crate::session::mqtt::Delivery;
use crate::session::{Entry, LocalTopic, Newest, Outgoing, Session, Subscriber};
use crate::topic::path::{TopicPath, is_within};
use crate::topic::publication::Publication;
use crate::topic::selector::Selector;
use crate::topic::specification::Conflation;
use crate::wire::native::{self, Outcome};
use std::collections::BTreeSet;
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
    Removed { asker: Asker, count: Result<u64, Refusal> },
    Page { asker: Asker, fetch: Box<Fetch>, pages: Vec<(Vec<native::Entry>, bool)>, is_thinned: bool },
    Events { asker: Asker },
    Listening { asker: Asker },
    Views { asker: Asker, places: Arc<[u64]>, has_more: bool, figures: Vec<Figures> },
    View { asker: Asker, result: Result<Outcome, Refusal> },
}

/// What owners have said of views that a session wants listed.
pub struct Listing {
    pub asker: Asker,
    pub places: Arc<[u64]>,
    pub has_more: bool,
    pub figures: Vec<Figures>,
}

impl Gather {
    pub fn asker(&self) -> Asker {
        match self.answer {
            Answer::Interest { asker, .. } | Answer::Removed { asker, .. } | Answer::Page { asker, .. } => asker,
            Answer::Events { asker } | Answer::Listening { asker } => asker,
            Answer::Views { asker, .. } | Answer::View { asker, .. } => asker,
        }
    }
}

impl Shard {
    // What sessions ask.

    pub(super) fn subscribe(&mut self, asker: Asker, scope: &str, selector: &Selector) -> Result<(), Refusal> {
        let selections_max = self.desk.limits.selections_max;
        let Some(session) = self.sessions.get_mut(asker.session) else { return Ok(()) };
        let is_new = session.selections.add(scope, selector, selections_max).map_err(|_| selections_full(selections_max))?;
        self.take_interest(asker, selector, is_new);
        // The owners do not send again what the shard has.
        self.subscribe_to_known(asker.session, selector);
        Ok(())
    }

    /// The session has the selector: its shard's interest, which the owners of topics are told.
    pub(super) fn take_interest(&mut self, asker: Asker, selector: &Selector, is_new: bool) {
        self.note_wanted(selector);
        let selected = self.selected.entry(selector, Selected::default);
        if is_new {
            selected.sessions.insert(asker.session);
        }
        // Every time, also where the owners know the selector: a topic made before this request may be on its way here.
        let answer = Answer::Interest { selector: selector.clone(), asker };
        let ticket = self.ask(selector, |selector| Question::Interest { selector }, answer);
        self.selected.entry(selector, Selected::default).asking.insert(ticket);
    }

    /// The session has the selector, which the owners of topics know.
    pub(super) fn hold_selector(&mut self, session: Key, selector: &Selector) {
        self.selected.entry(selector, Selected::default).sessions.insert(session);
    }

    /// `None`: in every scope.
    pub(super) fn unsubscribe(&mut self, asker: Asker, scope: Option<&str>, selector: &Selector) -> Result<(), Refusal> {
        let selections_max = self.desk.limits.selections_max;
        let Some(session) = self.sessions.get_mut(asker.session) else { return Ok(()) };
        let released = match scope {
            Some(scope) => session.selections.remove(scope, selector, selections_max),
            None => session.selections.remove_everywhere(selector, selections_max),
        };
        let released = released.map_err(|_| selections_full(selections_max))?;
        let ends = |path: &str, session: &Session| !session.selections.select(path);
        let mut ended: Vec<_> =
            session.subscriptions.values().map(|(topic, _)| topic).filter(|topic| ends(topic.path.as_str(), session)).cloned().collect();
        // A removed topic may wait in limbo beside the next of its path.
        ended.sort_unstable_by(|a, b| a.path.cmp(&b.path).then(a.id.cmp(&b.id)));
        self.unsubscribe_topics(asker.session, &ended, Reason::Requested);
        for selector in released {
            self.release(asker.session, &selector);
        }
        self.answer(asker, Ok(Outcome::Done));
        Ok(())
    }

    fn unsubscribe_topics(&mut self, key: Key, topics: &[Rc<LocalTopic>], reason: Reason) {
        for topic in topics {
            self.end_subscription(key, topic);
        }
        let is_tidied = |topic: &&Rc<LocalTopic>| topic.specification.tidies_on_unsubscribe() || reason == Reason::BackPressure;
        let tidied: Vec<Rc<LocalTopic>> = topics.iter().filter(is_tidied).cloned().collect();
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.queue.drop_updates(&tidied);
        for topic in topics {
            session.queue.push(Entry::Unsubscribed(topic.clone(), reason));
        }
        let (connection, is_high) = (session.connection, session.queue.bytes() > self.desk.limits.queue.bytes_high);
        // Ends under pressure are part of keeping the bound, which goes on behind them.
        if is_high && reason != Reason::BackPressure {
            self.keep_bound(key);
        }
        self.desk.effects.wake(connection);
    }

    pub(super) fn remove(&mut self, asker: Asker, selector: &Selector) {
        self.ask(selector, |selector| Question::Remove { selector }, Answer::Removed { asker, count: Ok(0) });
    }

    pub(super) fn fetch(&mut self, asker: Asker, selector: &Selector, fetch: Fetch) {
        self.note_wanted(selector);
        let question = Question::Fetch(Box::new(fetch.clone()));
        self.ask(selector, |_| question, Answer::Page { asker, fetch: Box::new(fetch), pages: Vec::new(), is_thinned: false });
    }

    pub(super) fn query_owner(&mut self, asker: Asker, path: &str, query: crate::series::Query) {
        let ticket = self.desk.take_ticket();
        self.gathers.insert(ticket, Gather { waiting: 1, answer: Answer::Events { asker } });
        let question = Question::Query { path: path.into(), query, bytes_max: self.desk.limits.message_bytes_max };
        let owner = self.desk.owner_of(path);
        self.desk.mail(owner, Mail::Ask { ticket, question });
    }

    pub(super) fn ask_about_views(&mut self, asker: Asker, places: Arc<[u64]>, has_more: bool) {
        let ticket = self.desk.take_ticket();
        let answer = Answer::Views { asker, places: places.clone(), has_more, figures: Vec::new() };
        self.gathers.insert(ticket, Gather { waiting: usize::from(self.desk.identity.count), answer });
        for owner in (0..self.desk.identity.count).map(ShardIndex) {
            self.desk.mail(owner, Mail::Ask { ticket, question: Question::Views { places: places.clone() } });
        }
    }

    /// The ticket of an order: answered when the writer's word has come, and every shard has told every other what it had to do.
    pub(super) fn expect_decision(&mut self, asker: Asker) -> u64 {
        let ticket = self.desk.take_ticket();
        let count = usize::from(self.desk.identity.count);
        let answer = Answer::View { asker, result: Ok(Outcome::Done) };
        self.gathers.insert(ticket, Gather { waiting: count * count + 1, answer });
        ticket
    }

    /// The ticket of a request that is answered when every shard has sent its fence.
    pub(super) fn expect_fences(&mut self, asker: Asker) -> u64 {
        let ticket = self.desk.take_ticket();
        self.gathers.insert(ticket, Gather { waiting: usize::from(self.desk.identity.count), answer: Answer::Listening { asker } });
        ticket
    }

    /// The ticket of the request.
    pub(super) fn ask_to_listen(&mut self, asker: Asker, kind: ListenerKind, selector: &Selector) -> u64 {
        let ticket = self.desk.take_ticket();
        self.gathers.insert(ticket, Gather { waiting: usize::from(self.desk.identity.count), answer: Answer::Listening { asker } });
        // What lies below an exact path may have any owner.
        for owner in (0..self.desk.identity.count).map(ShardIndex) {
            let question = Question::Listen { kind, selector: selector.as_str().into() };
            self.desk.mail(owner, Mail::Ask { ticket, question });
        }
        ticket
    }

    /// Asks the owners of what `selector` may match: one for a path, else all.
    fn ask(&mut self, selector: &Selector, question: impl FnOnce(Box<str>) -> Question, answer: Answer) -> u64 {
        let ticket = self.desk.take_ticket();
        let question = question(selector.as_str().into());
        let owners = self.owners_of(selector);
        self.gathers.insert(ticket, Gather { waiting: owners.len(), answer });
        for owner in owners {
            self.desk.mail(owner, Mail::Ask { ticket, question: question.clone() });
        }
        ticket
    }

    fn owners_of(&self, selector: &Selector) -> Vec<ShardIndex> {
        match selector.exact_path() {
            Some(path) => vec![self.desk.owner_of(path)],
            None => (0..self.desk.identity.count).map(ShardIndex).collect(),
        }
    }

    // What owners answer.

    /// Gives what is to be listed of views, when all owners have answered that.
    pub(super) fn gather_part(&mut self, ticket: u64, part: Part) -> Option<Listing> {
        let gather = self.gathers.get_mut(&ticket)?;
        gather.waiting -= 1;
        match (&mut gather.answer, part) {
            (Answer::Removed { count, .. }, Part::Removed(more)) => match (&mut *count, more) {
                (Ok(count), Ok(more)) => *count += more,
                (_, Err(refusal)) => *count = Err(refusal),
                (Err(_), Ok(_)) => {}
            },
            (Answer::Page { pages, is_thinned, .. }, Part::Page { entries, is_cut, is_thinned: more }) => {
                pages.push((entries, is_cut));
                *is_thinned |= more;
            }
            (Answer::Views { figures, .. }, Part::Views(more)) => figures.extend(more),
            (Answer::View { result, .. }, Part::View { result: found, changes_nothing }) => {
                *result = found;
                if changes_nothing {
                    gather.waiting = 0;
                }
            }
            (Answer::Events { asker }, Part::Events(result)) => {
                let asker = *asker;
                self.gathers.remove(&ticket);
                self.answer(asker, result);
                return None;
            }
            _ => {}
        }
        if gather.waiting > 0 {
            return None;
        }
        let gather = self.gathers.remove(&ticket).expect("it was just there");
        match gather.answer {
            Answer::Interest { selector, asker } => {
                if let Some(selected) = self.selected.get_mut(&selector) {
                    selected.asking.remove(&ticket);
                }
                self.settle_limbo(&selector);
                if !self.missing_handlers.is_empty() && self.known_topics(&selector).next().is_none() {
                    self.tell_missing(asker.session, &selector);
                }
                self.answer_subscription(asker);
            }
            Answer::Removed { asker, count } => self.answer(asker, count.map(Outcome::Removed)),
            Answer::Page { asker, fetch, pages, is_thinned } => {
                let (entries, has_more) = merge_pages(&fetch, pages);
                if entries.is_empty() && fetch.is_plain() {
                    let selector = known_selector(self.desk.limits.selector, &fetch.selector);
                    self.tell_missing(asker.session, &selector);
                }
                self.answer(asker, Ok(Outcome::Page { has_more: has_more || is_thinned, shown: fetch.shown, entries }));
            }
            Answer::Events { .. } => {}
            Answer::Views { asker, places, has_more, figures } => return Some(Listing { asker, places, has_more, figures }),
            Answer::View { asker, result } => self.answer(asker, result),
            Answer::Listening { asker } => self.answer(asker, Ok(Outcome::Done)),
        }
        None
    }

    /// Answers a SUBSCRIBE behind the events of all topics that its selector matched: those of time series may still be on their way.
    fn answer_subscription(&mut self, asker: Asker) {
        let Some(session) = self.sessions.get_mut(asker.session) else { return };
        match &mut session.extras {
            _ if session.mqtt.is_some() => self.answer_mqtt(asker, Ok(Outcome::Done)),
            Some(extras) if !extras.histories.is_empty() => extras.answers_held.push(asker.id),
            _ => self.answer_behind(asker),
        }
    }

    // What happens to topics.

    pub(super) fn topic_appeared(&mut self, appeared: Appeared) {
        let Appeared { id, path, specification, latest, is_counted, appearance } = appeared;
        let topic = self.limbo.remove(&id).unwrap_or_else(|| LocalTopic::new(id, path.clone(), specification));
        topic.is_counted.set(is_counted);
        let version = topic.latest.borrow().as_ref().map(|latest| latest.version());
        if let Some(publication) = latest.filter(|_| !topic.is_time_series()) {
            topic.take(&self.outgoing(publication, &topic), self.next_generation);
        }
        let is_newer = topic.latest.borrow().as_ref().map(|latest| latest.version()) != version;
        self.topics.insert(id, topic.clone());
        self.topics_by_path.insert(path.clone(), topic.clone());
        self.renew_deliveries(&topic);
        // What is not kept is not sent again to who waited in limbo.
        if topic.is_time_series() || topic.specification.retains_value() {
            self.send_latest(&topic, is_newer);
        }
        let mut sessions: Vec<Key> = Vec::new();
        self.selected.for_each_match(path.as_str(), |_, selected| sessions.extend(&selected.sessions));
        for session in sessions {
            self.start_subscription(session, &topic, appearance);
        }
        // Nobody waits for what groups dealt of it.
        self.dealt = 0;
        self.note_count(&topic);
    }

    /// Gives whoever is subscribed already the newest value whole; those of MQTT only if they have not had it.
    fn send_latest(&mut self, topic: &Rc<LocalTopic>, is_newer: bool) {
        if topic.is_time_series() {
            return self.ask_missed_events(topic);
        }
        let (mut behind, mut messages) = (Vec::new(), Vec::new());
        for subscriber in topic.subscribers.borrow_mut().iter_mut().filter(|subscriber| !subscriber.is_latest_queued) {
            if subscriber.delivery.is_mqtt() {
                messages.push(*subscriber);
                continue;
            }
            subscriber.is_latest_queued = true;
            behind.push((subscriber.session, subscriber.generation));
        }
        for (session, generation) in behind {
            self.push(session, Entry::Latest(topic.clone(), generation));
        }
        let newest = topic.newest().filter(|_| is_newer);
        for (subscriber, newest) in messages.into_iter().filter_map(|subscriber| Some((subscriber, newest.clone()?))) {
            self.deliver(topic, subscriber, &newest);
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
        let keep = publication.keep_of(self.desk.identity.index);
        let Some(topic) = self.topics.get(&publication.topic).cloned() else { return self.tell_kept_whole(keep) };
        let is_clearing = publication.message().is_some_and(|message| message.is_clearing);
        let outgoing = self.outgoing(publication, &topic);
        if topic.is_time_series() {
            topic.last_sequence.set(Some(outgoing.version()));
        } else if !is_clearing {
            topic.take(&outgoing, self.next_generation);
        }
        if topic.specification.conflation() == Conflation::Always && !is_clearing {
            self.send_latest(&topic, true);
            return self.tell_kept_whole(keep);
        }
        let distinct = outgoing.distinct();
        let (mut overfull, mut apart) = (Vec::new(), Vec::new());
        for subscriber in topic.subscribers.borrow().iter().filter(|subscriber| !subscriber.is_latest_queued) {
            if subscriber.delivery.meets(distinct) {
                apart.push(*subscriber);
                continue;
            }
            if is_clearing && !subscriber.delivery.is_mqtt() {
                continue;
            }
            let Some(session) = self.sessions.get_mut(subscriber.session) else { continue };
            // A session without a connection waits for what has to be acknowledged, and for nothing else.
            if session.connection == NOBODY {
                continue;
            }
            session.queue.push(Entry::Step(outgoing.clone()));
            if session.queue.bytes() > self.desk.limits.queue.bytes_high {
                overfull.push(subscriber.session);
            }
            self.desk.effects.wake(session.connection);
        }
        for subscriber in apart {
            self.deliver(&topic, subscriber, &outgoing);
        }
        for session in overfull {
            self.keep_bound(session);
        }
        self.tell_kept_whole(keep);
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
            self.history_arrived(topic, subscriber.session, subscriber.generation);
            // Clients of MQTT are not told; one that is away would be left with a longer queue for every topic that goes.
            if !subscriber.delivery.is_mqtt() {
                self.push(subscriber.session, Entry::Unsubscribed(topic.clone(), reason));
            }
        }
    }

    pub(super) fn outgoing(&mut self, publication: Arc<Publication>, topic: &Rc<LocalTopic>) -> Rc<Outgoing> {
        self.next_sequence += 1;
        Outgoing::new(publication, topic, self.next_sequence)
    }

    // Subscriptions.

    pub(super) fn subscribe_to_known(&mut self, session: Key, selector: &Selector) {
        let known: Vec<Rc<LocalTopic>> = self.known_topics(selector).cloned().collect();
        for topic in known {
            self.start_subscription(session, &topic, Appearance::Found);
        }
    }

    /// The topics held here that `selector` matches, in path order.
    pub(super) fn known_topics(&self, selector: &Selector) -> impl Iterator<Item = &Rc<LocalTopic>> {
        let branch = selector.prefix();
        let start = if branch.is_empty() { Bound::Unbounded } else { Bound::Included(TopicPath::of_branch(branch)) };
        let range = self.topics_by_path.range((start, Bound::Unbounded));
        let in_branch = range.take_while(|(path, _)| branch.is_empty() || is_within(path.as_str(), branch));
        in_branch.filter(|(path, _)| selector.matches(path.as_str())).map(|(_, topic)| topic)
    }

    pub(super) fn start_subscription(&mut self, key: Key, topic: &Rc<LocalTopic>, appearance: Appearance) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        if session.subscriptions.contains_key(&topic.id) || !session.selects(topic.path.as_str()) {
            return;
        }
        self.next_generation = self.next_generation.wrapping_add(1);
        let generation = self.next_generation;
        let mut subscribers = topic.subscribers.borrow_mut();
        session.subscriptions.insert(topic.id, (topic.clone(), subscribers.len() as u32));
        let delivery = session.mqtt.as_ref().map_or(Delivery::NATIVE, |mqtt| mqtt.delivery(topic.path.as_str()));
        let subscriber = Subscriber { session: key, generation, is_latest_queued: !delivery.is_mqtt(), delivery };
        subscribers.push(subscriber);
        drop(subscribers);
        if delivery.is_mqtt() {
            self.note_count(topic);
            return self.start_messages(topic, subscriber, appearance);
        }
        self.push(key, Entry::Subscribed(topic.clone(), generation));
        self.note_count(topic);
        if topic.is_time_series() {
            self.ask_history(key, topic, generation);
        } else if !topic.specification.retains_value() {
            // The subscription sends no value, so each one that is published from now on is a step.
            self.end_waiting(topic, key, generation);
        }
    }

    /// Takes the session off the topic's subscribers; the last subscriber takes its place there.
    pub(super) fn end_subscription(&mut self, key: Key, topic: &Rc<LocalTopic>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some((_, place)) = session.subscriptions.remove(&topic.id) else { return };
        let mut subscribers = topic.subscribers.borrow_mut();
        let ended = subscribers.swap_remove(place as usize);
        if let Some(moved) = subscribers.get(place as usize) {
            let moved = self.sessions.get_mut(moved.session).expect("a subscriber is a session");
            moved.subscriptions.get_mut(&topic.id).expect("a subscriber has the subscription").1 = place;
        }
        drop(subscribers);
        self.history_arrived(topic, key, ended.generation);
        self.note_count(topic);
    }

    /// The session's selections have lost `selector`.
    pub(super) fn release(&mut self, session: Key, selector: &Selector) {
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
            self.desk.mail(owner, Mail::Release { selector: selector.as_str().into() });
        }
        self.limbo.retain(|_, topic| !topic.subscribers.borrow().is_empty());
    }

    /// The session is over.
    pub(super) fn end_session(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        if let Some(extras) = &mut session.extras {
            // Nobody is left to be answered; an answer could overfill the queue and end the session again.
            extras.histories.clear();
            extras.answers_held.clear();
        }
        let topics: Vec<_> = session.subscriptions.values().map(|(topic, _)| topic.clone()).collect();
        for topic in topics {
            self.end_subscription(key, &topic);
        }
        self.end_listeners(key);
        self.end_mqtt(key);
        let session = self.sessions.remove(key).expect("it was just there");
        for selector in session.selecting() {
            self.release(key, &selector);
        }
        for (id, (owner, path)) in session.extras.map(|extras| extras.watched_by).unwrap_or_default() {
            self.desk.mail(owner, Mail::SessionOver { path, id });
        }
    }

    // Queues.

    /// Queues something for a session and keeps its bound.
    pub(super) fn push(&mut self, key: Key, entry: Entry) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        if session.connection == NOBODY && session.mqtt.is_none() {
            // It was given up.
            return;
        }
        session.queue.push(entry);
        let connection = session.connection;
        if session.queue.bytes() > self.desk.limits.queue.bytes_high {
            self.keep_bound(key);
        }
        self.desk.effects.wake(connection);
    }

    fn keep_bound(&mut self, key: Key) {
        let queue_limits = self.desk.limits.queue;
        if self.sessions.get(key).is_none_or(|session| !session.queue.is_over(queue_limits)) {
            return;
        }
        self.unsubscribe_under_pressure(key);
        let Some(session) = self.sessions.get_mut(key) else { return };
        let subscriptions = &session.subscriptions;
        let before = session.queue.bytes();
        let is_mqtt = session.mqtt.is_some();
        let newest = |topic: Option<&LocalTopic>| {
            // Clients of MQTT are not told that a topic has gone: the last that they hear of it is its last message.
            if is_mqtt {
                return Newest::Itself;
            }
            let Some(topic) = topic else { return Newest::Nothing };
            let held = subscriptions.get(&topic.id).filter(|(subscribed, _)| std::ptr::eq(&**subscribed, topic));
            let Some((_, place)) = held else { return Newest::Nothing };
            let mut subscribers = topic.subscribers.borrow_mut();
            let subscriber = &mut subscribers[*place as usize];
            subscriber.is_latest_queued = true;
            Newest::Of(subscriber.generation)
        };
        let result = session.queue.keep_bound(self.desk.limits.queue, newest);
        self.desk.report.conflations += u64::from(session.queue.bytes() < before);
        let conflated = session.queue.take_conflated();
        self.forget_messages(key, conflated);
        if result.is_err() && is_mqtt && self.make_room(key) {
            return;
        }
        if result.is_err() {
            self.desk.report.overflows += 1;
            self.give_up(key, Why::Overflow);
        }
    }

    /// The session cannot go on with its connection. It has none from now on; the connection is closed when what is under way is done.
    pub(super) fn give_up(&mut self, key: Key, why: Why) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let connection = std::mem::replace(&mut session.connection, NOBODY);
        if connection != NOBODY {
            session.queue.clear();
            self.desk.given_up.push_back(GivenUp { connection, why });
        }
    }

    /// Ends the subscriptions of a queue above its mark whose topics want that rather than conflation.
    fn unsubscribe_under_pressure(&mut self, key: Key) {
        // Clients of MQTT are not told that a subscription ends, so theirs do not.
        let Some(session) = self.sessions.get(key).filter(|session| session.mqtt.is_none()) else { return };
        let mut topics = session.queue.topics_to_unsubscribe();
        topics.retain(|topic| session.holds(topic));
        if !topics.is_empty() {
            self.desk.report.back_pressure_ends += topics.len() as u64;
            self.unsubscribe_topics(key, &topics, Reason::BackPressure);
        }
    }
}

fn selections_full(selections_max: usize) -> Refusal {
    Refusal::new(ErrorCode::SelectionLimit, format!("the session has its most of {selections_max} selections"))
}

impl Fetch {
    /// Whether it finds nothing only where its selector matches nothing.
    fn is_plain(&self) -> bool {
        let is_whole = matches!((&self.span.start, &self.span.end), (Bound::Unbounded, Bound::Unbounded));
        is_whole && self.types == 0
    }
}
