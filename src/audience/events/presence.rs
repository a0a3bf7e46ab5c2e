//! Which of this shard's sessions are subscribed to the topics of a selector: as a list, and to those who listen.
//!
//! What counts is the subscription, not the selector behind it. Shared subscriptions have no members here: who of them gets a message is dealt out. Topics
//! are looked at in the order of their paths, those too that are to appear again. What happens behind the place up to which they were looked at is met there.

use super::pending::Pending;
use super::{NOTICE_BYTES, NOTICE_BYTES_MAX, tell};
use crate::audience::Audience;
use crate::audience::properties::Properties;
use crate::base::{SessionId, SessionKey, ShardIndex};
use crate::desk::Desk;
use crate::mail::events::{Change, ListenerId, Notices, PresenceQuestion};
use crate::mail::{Mail, Part};
use crate::owner::known_selector;
use crate::session::{LocalTopic, Session};
use crate::topic::path::TopicPath;
use crate::topic::selector::Selector;
use crate::topic::tree::Span;
use crate::wire::native::PresenceEntry;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

/// Topics, and subscribers of them but for the last topic's, that are looked at in one slice.
const TOPICS_PER_SLICE: usize = 256;
const SUBSCRIBERS_PER_SLICE: usize = 1000;

/// One listener, of whatever shard.
pub struct Observer {
    selector: Selector,
    /// Whether each session is told once, whatever it is subscribed to of all that.
    is_once: bool,
    under_way: usize,
    window: usize,
    /// What was not looked at; `None` where all was.
    rest: Option<Span>,
    is_walking: bool,
    /// Whether it was told of all that was there.
    is_told: bool,
    /// To how many topics each session is subscribed, where each is told once.
    counts: BTreeMap<SessionId, u32>,
    pending: Pending<(TopicPath, SessionId), Standing>,
}

/// Whether the listener knows that the session is subscribed, and whether it is.
struct Standing {
    told: bool,
    now: bool,
}

/// A question that is being answered.
pub struct List {
    from: ShardIndex,
    ticket: u64,
    selector: Selector,
    question: PresenceQuestion,
    rest: Span,
    found: BTreeMap<(TopicPath, u64), PresenceEntry>,
    has_more: bool,
}

/// What a change takes on its way.
pub fn cost(change: &Change) -> usize {
    let PresenceEntry { path, session, principal } = &change.entry;
    NOTICE_BYTES + path.len() + session.len() + principal.len()
}

/// Where each session is told once, it is at no path.
fn place_of(is_once: bool, path: &TopicPath) -> TopicPath {
    if is_once { TopicPath::of_branch("") } else { path.clone() }
}

/// Whether it stands for a shared subscription.
fn is_group(session: &Session) -> bool {
    session.mqtt.as_ref().is_some_and(|mqtt| mqtt.group.is_some())
}

impl Observer {
    pub fn new(desk: &Desk, selector: &str, is_once: bool) -> Self {
        let selector = known_selector(desk.limits.selector, selector);
        let rest = Some(Span::of_selector(&selector));
        let window = super::window(desk, NOTICE_BYTES_MAX);
        let (counts, pending) = (BTreeMap::new(), Pending::new());
        Self { selector, is_once, under_way: 0, window, rest, is_walking: true, is_told: false, counts, pending }
    }

    /// Changes come together at the listener's shard, which tells them in one notice a tick: so much fits one.
    fn has_room(&self) -> bool {
        self.under_way < self.window
    }

    pub fn taken(&mut self, bytes: usize) {
        self.under_way -= bytes;
    }

    /// Whether its turn has to come to look at more topics, which this gives it.
    pub fn waits_to_walk(&mut self) -> bool {
        self.rest.is_some() && self.has_room() && !std::mem::replace(&mut self.is_walking, true)
    }

    fn has_looked_at(&self, path: &TopicPath) -> bool {
        match self.rest.as_ref().map(|rest| &rest.start) {
            None => true,
            Some(Bound::Excluded(last)) => path <= last,
            Some(Bound::Included(first)) => path < first,
            Some(Bound::Unbounded) => false,
        }
    }

    fn note(&mut self, path: &TopicPath, session: SessionId, joins: bool) {
        if self.is_once {
            let count = self.counts.entry(session).or_default();
            *count = if joins { *count + 1 } else { *count - 1 };
            let is_edge = *count == u32::from(joins);
            if *count == 0 {
                self.counts.remove(&session);
            }
            if !is_edge {
                return;
            }
        }
        let place = (place_of(self.is_once, path), session);
        self.pending.note(place, || Standing { told: !joins, now: joins }).now = joins;
    }
}

impl List {
    pub fn new(desk: &Desk, from: ShardIndex, ticket: u64, question: PresenceQuestion) -> Self {
        let selector = known_selector(desk.limits.selector, &question.selector);
        let mut rest = Span::of_selector(&selector);
        if let Some((path, _)) = &question.after
            && !question.is_once
            && rest.contains(path)
        {
            rest.start = Bound::Included(path.clone());
        }
        Self { from, ticket, selector, question, rest, found: BTreeMap::new(), has_more: false }
    }

    /// Whether the session would be in the answer, at this place.
    fn takes(&self, place: &(TopicPath, u64)) -> bool {
        let is_behind = self.question.after.as_ref().is_none_or(|after| after < place);
        is_behind && (self.found.len() < self.question.count_max || self.found.last_key_value().is_some_and(|(last, _)| place < last))
    }

    fn insert(&mut self, place: (TopicPath, u64), entry: PresenceEntry) {
        self.found.insert(place, entry);
        if self.found.len() > self.question.count_max {
            self.found.pop_last();
            self.has_more = true;
        }
    }

    /// Whether nothing that comes later belongs to the answer.
    fn is_full(&self) -> bool {
        self.has_more && !self.question.is_once
    }
}

impl Audience {
    /// The session is subscribed to the topic from now on, or no longer.
    #[inline]
    pub(in crate::audience) fn presence_changed(&mut self, topic: &LocalTopic, key: SessionKey, joins: bool) {
        if !self.events.presence.is_empty() {
            self.note_presence(topic, key, joins);
        }
    }

    /// One for each listener, as a publication is for each subscriber.
    #[cold]
    fn note_presence(&mut self, topic: &LocalTopic, key: SessionKey, joins: bool) {
        let session = self.sessions.get(key).expect("a subscriber is a session");
        if is_group(session) {
            return;
        }
        let id = session.id;
        for observer in self.events.presence.values_mut() {
            if observer.has_looked_at(&topic.path) && observer.selector.matches(topic.path.as_str()) {
                observer.note(&topic.path, id, joins);
            }
        }
    }

    /// The tick's changes go to the listeners' shards.
    pub(super) fn tell_presence(&mut self, desk: &mut Desk) {
        let ids: Vec<ListenerId> = self.events.presence.keys().copied().collect();
        ids.into_iter().for_each(|id| self.flush_presence(desk, id));
    }

    pub(super) fn flush_presence(&mut self, desk: &mut Desk, id: ListenerId) {
        let Some(mut observer) = self.events.presence.remove(&id) else { return };
        let (mut changes, before) = (Vec::new(), observer.under_way);
        while observer.has_room()
            && let Some(((path, session), standing)) = observer.pending.pop()
        {
            if standing.told != standing.now {
                let entry = self.present(desk, &path, session);
                let change = Change { path, number: session.number(), entry, joins: standing.now };
                observer.under_way += cost(&change);
                changes.push(change);
            }
        }
        let is_all = !observer.is_told && observer.rest.is_none() && observer.pending.is_empty();
        observer.is_told |= is_all;
        if is_all || !changes.is_empty() {
            tell(desk, id, Notices::Changes(changes), observer.under_way - before, is_all);
        }
        self.events.presence.insert(id, observer);
    }

    fn present(&self, desk: &Desk, path: &TopicPath, session: SessionId) -> PresenceEntry {
        let key = self.find(session);
        let principal = key.and_then(|key| Properties::of(self, desk, key).value("$Principal").map(Into::into)).unwrap_or_default();
        PresenceEntry { path: path.as_str().into(), session: desk.name_of(session).into(), principal }
    }

    // A part at a time.

    /// The next topics in the span that sessions here know, by their own paths or others, those too that are to appear again; and what is left.
    fn topics_from(&self, span: &Span) -> (Vec<Rc<LocalTopic>>, Option<Span>) {
        let range = (span.start.clone(), span.end.clone());
        let known = self.locals.by_path.range(range).map(|(_, topic)| topic.clone()).take(TOPICS_PER_SLICE);
        let limbo = self.locals.limbo.topics_from(span).take(TOPICS_PER_SLICE);
        let aliases = self.trees.aliases.from(span).take(TOPICS_PER_SLICE).flatten().cloned();
        let mut topics: Vec<Rc<LocalTopic>> = known.chain(limbo).chain(aliases).collect();
        topics.sort_by(|one, other| one.path.cmp(&other.path));
        let mut subscribers = 0;
        let fitting = topics.iter().take(TOPICS_PER_SLICE).take_while(|topic| {
            let is_fitting = subscribers < SUBSCRIBERS_PER_SLICE;
            subscribers += topic.subscribers.borrow().len();
            is_fitting
        });
        let mut count = fitting.count();
        // A path may mean several topics to several sessions: as many at most as one table has rows.
        while count > 0 && topics.get(count).is_some_and(|topic| topic.path == topics[count - 1].path) {
            count += 1;
        }
        let is_cut = count < topics.len() || count >= TOPICS_PER_SLICE;
        topics.truncate(count);
        let last = topics.last().filter(|_| is_cut);
        let rest = last.map(|last| Span { start: Bound::Excluded(last.path.clone()), end: span.end.clone() });
        (topics, rest)
    }

    /// The sessions that are subscribed, those too that are just over.
    fn sessions_at(&self, topic: &LocalTopic) -> Vec<SessionId> {
        let subscribers = topic.subscribers.borrow();
        let sessions = subscribers.iter().filter_map(|subscriber| self.sessions.get(subscriber.session));
        sessions.filter(|session| !is_group(session)).map(|session| session.id).collect()
    }

    /// Goes on with what a listener is told of those who are there.
    pub(super) fn run_walk(&mut self, desk: &mut Desk) {
        let Some(id) = self.events.walking.pop_front() else { return };
        // It may be gone.
        let Some(mut observer) = self.events.presence.remove(&id) else { return };
        observer.is_walking = false;
        let Some(rest) = observer.rest.take() else { unreachable!("who has looked at all has no turn") };
        let (mut topics, rest) = self.topics_from(&rest);
        topics.retain(|topic| observer.selector.matches(topic.path.as_str()));
        for topic in topics {
            for session in self.sessions_at(&topic) {
                observer.note(&topic.path, session, true);
            }
        }
        observer.rest = rest;
        self.events.presence.insert(id, observer);
        self.flush_presence(desk, id);
        if self.events.presence.get_mut(&id).is_some_and(Observer::waits_to_walk) {
            self.events.walking.push_back(id);
        }
    }

    /// Goes on with the question that has waited longest.
    pub(super) fn run_list(&mut self, desk: &mut Desk) {
        let Some(mut list) = self.events.lists.pop_front() else { return };
        let (mut topics, rest) = self.topics_from(&list.rest);
        topics.retain(|topic| list.selector.matches(topic.path.as_str()));
        for topic in topics {
            for session in self.sessions_at(&topic) {
                let place = (place_of(list.question.is_once, &topic.path), session.number());
                if self.find(session).is_none() || list.found.contains_key(&place) {
                    continue;
                }
                if list.takes(&place) {
                    let entry = self.present(desk, &place.0, session);
                    list.insert(place, entry);
                } else {
                    list.has_more |= list.question.after.as_ref().is_none_or(|after| *after < place);
                }
            }
        }
        match rest.filter(|_| !list.is_full()) {
            Some(rest) => {
                list.rest = rest;
                self.events.lists.push_back(list);
            }
            None => {
                let List { from, ticket, found, has_more, .. } = list;
                let present = found.into_iter().map(|((path, number), entry)| (path, number, entry)).collect();
                desk.mail(from, Mail::Part { ticket, part: Part::Presence { present, has_more } });
            }
        }
    }
}
