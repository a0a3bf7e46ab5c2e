//! Sessions that listen to what becomes of others: their lives (`sessions`), how far they are behind (`queues`), and what they are subscribed to (`presence`).
//!
//! Every shard knows all listeners, and tells each of its own sessions: first of those that are there, a part at a time, then of what happens to them. It tells
//! so much until the listener's shard asks for more, which it does when the listener has read. What happens meanwhile is held as one entry for each session, which
//! says where the listener stands: when it may be told, it is told what is true by then. So a listener costs a bounded part of a queue on each shard, and an entry
//! for each session at most; and what is not under way is what the listener knows.
//!
//! Here is the listeners' side: who they are, and what has come for them.

mod pending;
mod presence;
mod queues;
mod sessions;

use crate::audience::Audience;
use crate::base::{SessionKey, ShardIndex};
use crate::desk::Desk;
use crate::mail::events::{Change, Events as Said, Listen, ListenerId, Notices, Wanted};
use crate::mail::{Caller, Mail};
use crate::protocol::{ErrorCode, Refusal};
use crate::session::{Entry, Session};
use crate::topic::path::TopicPath;
use crate::wire::event::{self, Event};
use crate::wire::native::Outcome;
use hashbrown::HashMap;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub(super) use sessions::{Happening, Seen};

/// What one shard tells a listener until it is asked for more, exceeded by at most one session; less where queues are short.
const WINDOW_BYTES_MAX: usize = 64 << 10;

/// Of one notice of presence, exceeded by at most one entry.
const NOTICE_BYTES_MAX: usize = 256 << 10;

/// No window is less.
const WINDOW_BYTES_MIN: usize = 256;

/// What a notice takes beside its bytes.
const NOTICE_BYTES: usize = 64;

/// The most listeners to presence that one tick tells. No client is bounded by it.
const TOLD_PER_TICK_MAX: usize = 1000;

/// See the module.
#[derive(Default)]
pub struct Events {
    /// Sessions here that listen.
    held: BTreeMap<SessionKey, Held>,
    /// Their listeners, by ticket: whose each is, and its number there.
    by_ticket: HashMap<u64, (SessionKey, u64)>,
    /// Those that the next tick tells of changes.
    changed: VecDeque<u64>,
    /// Listeners of all shards, as this one tells them of its sessions.
    observers: BTreeMap<ListenerId, sessions::Observer>,
    presence: BTreeMap<ListenerId, presence::Observer>,
    /// Those that still have to be told of what was there, in turn; who has to read first is not here.
    scanning: VecDeque<ListenerId>,
    walking: VecDeque<ListenerId>,
    /// Questions who is subscribed.
    lists: VecDeque<presence::List>,
    /// Sessions for which more waits than the mark, as long as anybody wants to know.
    over: BTreeSet<SessionKey>,
    queue_observers: usize,
}

/// What one session listens to.
#[derive(Default)]
struct Held {
    listeners: BTreeMap<u64, Listener>,
    /// What has come and waits until the session reads.
    arrived: VecDeque<Arrived>,
}

struct Listener {
    ticket: u64,
    is_of_queues: bool,
    /// Who is answered when all that was there is told.
    asker: Option<Caller>,
    /// Shards that have not told all of that.
    shards: u16,
    /// What the next notice of presence says, each session at each topic once.
    changes: BTreeMap<(TopicPath, u64), Change>,
    /// Shards that are asked for more when that is told.
    owed: Vec<(ShardIndex, usize)>,
    /// Of them those that have told all by then.
    told: u16,
    is_due: bool,
}

struct Arrived {
    from: ShardIndex,
    ticket: u64,
    events: VecDeque<Box<[u8]>>,
    bytes: usize,
    is_all: bool,
}

impl Events {
    /// Listeners and questions that sessions anywhere have here; 0 once all are gone.
    pub fn len(&self) -> usize {
        self.held.len() + self.by_ticket.len() + self.observers.len() + self.presence.len() + self.lists.len() + self.over.len()
    }
}

impl Held {
    fn listens_to_queues(&self) -> bool {
        self.listeners.values().any(|listener| listener.is_of_queues)
    }
}

impl Listener {
    fn new(ticket: u64, asker: Caller, shards: u16, wanted: &Wanted) -> Self {
        let is_of_queues = matches!(wanted, Wanted::Queues { .. });
        Self { ticket, is_of_queues, asker: Some(asker), shards, changes: BTreeMap::new(), owed: Vec::new(), told: 0, is_due: false }
    }

    /// A change that undoes one that was not told takes it away.
    fn take_change(&mut self, change: Change) {
        let place = (change.path.clone(), change.number);
        match self.changes.get(&place) {
            Some(before) if before.joins != change.joins => drop(self.changes.remove(&place)),
            _ => drop(self.changes.insert(place, change)),
        }
    }
}

impl Audience {
    // What a client asks.

    /// A session listens. Another listener of the number ends.
    pub fn listen_to_sessions(&mut self, desk: &mut Desk, asker: Caller, number: u64, wanted: Wanted) -> Result<(), Refusal> {
        let listeners_max = desk.limits.session_listeners_max;
        let form = self.sessions.get(asker.session).expect("a client that asks has a session").form;
        let form = form.native().expect("MQTT has no listeners");
        let held = self.events.held.get(&asker.session);
        let others = held.map_or(0, |held| held.listeners.len() - usize::from(held.listeners.contains_key(&number)));
        if others >= listeners_max {
            let message = format!("the session has {listeners_max} listeners to sessions, queues and presence, as many as it may");
            return Err(Refusal::new(ErrorCode::ListenerLimit, message));
        }
        self.end_event_listener(desk, asker.session, number);
        let ticket = desk.take_ticket();
        let listeners = &mut self.events.held.entry(asker.session).or_default().listeners;
        listeners.insert(number, Listener::new(ticket, asker, desk.identity.count, &wanted));
        self.events.by_ticket.insert(ticket, (asker.session, number));
        let listen = Listen { id: ListenerId { shard: desk.identity.index, ticket }, number, form, wanted };
        self.tell_all(desk, || Mail::Events(Box::new(Said::Listen(Box::new(listen.clone())))));
        Ok(())
    }

    pub fn unlisten_to_sessions(&mut self, desk: &mut Desk, asker: Caller, number: u64) -> Result<(), Refusal> {
        if !self.end_event_listener(desk, asker.session, number) {
            let message = format!("the session has no listener {number} to sessions, queues or presence");
            return Err(Refusal::new(ErrorCode::NoSuchListener, message));
        }
        self.answer(desk, asker, Ok(Outcome::Done));
        Ok(())
    }

    /// Whether there was one.
    fn end_event_listener(&mut self, desk: &mut Desk, key: SessionKey, number: u64) -> bool {
        let Some(held) = self.events.held.get_mut(&key) else { return false };
        let Some(Listener { ticket, asker, .. }) = held.listeners.remove(&number) else { return false };
        held.arrived.retain(|arrived| arrived.ticket != ticket);
        if held.listeners.is_empty() {
            self.events.held.remove(&key);
        }
        self.forget_listener(desk, ticket);
        if let Some(asker) = asker {
            self.answer(desk, asker, Ok(Outcome::Done));
        }
        true
    }

    fn forget_listener(&mut self, desk: &mut Desk, ticket: u64) {
        self.events.by_ticket.remove(&ticket);
        let id = ListenerId { shard: desk.identity.index, ticket };
        self.tell_all(desk, || Mail::Events(Box::new(Said::Unlisten(id))));
    }

    /// The session is over.
    pub(super) fn end_event_listeners(&mut self, desk: &mut Desk, key: SessionKey) {
        // Bounded by `limits.session_listeners_max`.
        for listener in self.events.held.remove(&key).into_iter().flat_map(|held| held.listeners.into_values()) {
            self.forget_listener(desk, listener.ticket);
        }
    }

    /// The session may listen no more: who is not answered yet is refused.
    pub(super) fn refuse_event_listeners(&mut self, desk: &mut Desk, key: SessionKey) {
        for listener in self.events.held.remove(&key).into_iter().flat_map(|held| held.listeners.into_values()) {
            self.forget_listener(desk, listener.ticket);
            if let Some(asker) = listener.asker {
                let refusal = Refusal::new(ErrorCode::AccessDenied, "the session may not see sessions any more");
                self.answer(desk, asker, Err(refusal));
            }
        }
    }

    // What has come for listeners, or from them.

    pub fn events_said(&mut self, desk: &mut Desk, from: ShardIndex, said: Said) {
        match said {
            Said::Listen(listen) => self.observe(desk, *listen),
            Said::Unlisten(id) => self.forget_observer(id),
            Said::Told { ticket, notices, bytes, is_all } => self.notices_arrived(desk, from, ticket, notices, (bytes, is_all)),
            Said::GoOn { listener, bytes } => self.observer_goes_on(desk, listener, bytes),
            Said::AskPresence { ticket, question } => self.events.lists.push_back(presence::List::new(desk, from, ticket, *question)),
        }
    }

    fn notices_arrived(&mut self, desk: &mut Desk, from: ShardIndex, ticket: u64, notices: Notices, (bytes, is_all): (usize, bool)) {
        // The listener may be gone.
        let Some((key, number)) = self.events.by_ticket.get(&ticket).copied() else { return };
        let held = self.events.held.get_mut(&key).expect("a listener stands as long as its ticket");
        match notices {
            Notices::Events(events) => {
                held.arrived.push_back(Arrived { from, ticket, events: events.into(), bytes, is_all });
                self.take_notices(desk, key);
            }
            Notices::Changes(changes) => {
                let listener = held.listeners.get_mut(&number).expect("a listener stands as long as its ticket");
                changes.into_iter().for_each(|change| listener.take_change(change));
                listener.owed.push((from, bytes));
                listener.told += u16::from(is_all);
                if !std::mem::replace(&mut listener.is_due, true) {
                    self.events.changed.push_back(ticket);
                }
            }
        }
    }

    /// Queues what has come for a session that listens, as far as it reads, and asks for more.
    fn take_notices(&mut self, desk: &mut Desk, key: SessionKey) {
        while let Some(held) = self.events.held.get_mut(&key)
            && !held.arrived.is_empty()
        {
            let session = self.sessions.get(key).expect("a session that listens stands");
            if session.queue.bytes() > Self::told_high(desk, session) {
                self.held_back.insert(key);
                return;
            }
            if let Some(event) = held.arrived.front_mut().and_then(|arrived| arrived.events.pop_front()) {
                self.push(desk, key, Entry::Control(event));
                continue;
            }
            let Arrived { from, ticket, bytes, is_all, .. } = held.arrived.pop_front().expect("it was just there");
            go_on(desk, from, ticket, bytes);
            if is_all {
                self.told_all(desk, ticket, 1);
            }
        }
    }

    /// While more waits for a session, it is told nothing of others: so that this never closes it.
    fn told_high(desk: &Desk, session: &Session) -> usize {
        let limits = Self::queue_limits(desk, session);
        limits.bytes_high.min(limits.bytes_max / 4)
    }

    /// So many shards more have told the listener of all that was there.
    fn told_all(&mut self, desk: &mut Desk, ticket: u64, shards: u16) {
        let Some((key, number)) = self.events.by_ticket.get(&ticket).copied() else { return };
        let Some(listener) = self.events.held.get_mut(&key).and_then(|held| held.listeners.get_mut(&number)) else { return };
        listener.shards -= shards;
        if listener.shards == 0
            && let Some(asker) = listener.asker.take()
        {
            self.answer(desk, asker, Ok(Outcome::Done));
        }
    }

    /// The session has read, or may have.
    pub(super) fn go_on_with_events(&mut self, desk: &mut Desk, key: SessionKey) {
        if self.events.len() > 0 {
            self.look_at_queue(desk, key);
            self.take_notices(desk, key);
        }
    }

    /// Tells listeners to presence what has changed since the last tick, each by one notice.
    pub fn tick_events(&mut self, desk: &mut Desk) {
        self.tell_presence(desk);
        for _ in 0..self.events.changed.len().min(TOLD_PER_TICK_MAX) {
            let ticket = self.events.changed.pop_front().expect("so many are there");
            let Some((key, number)) = self.events.by_ticket.get(&ticket).copied() else { continue };
            let session = self.sessions.get(key).expect("a session that listens stands");
            if session.queue.bytes() > Self::told_high(desk, session) || !self.tell_changes(desk, key, number) {
                self.events.changed.push_back(ticket);
            }
        }
    }

    /// Tells the changes of one listener, as far as one notice goes. Whether that was all.
    fn tell_changes(&mut self, desk: &mut Desk, key: SessionKey, number: u64) -> bool {
        let session = self.sessions.get(key).expect("a session that listens stands");
        let bytes_max = Self::told_high(desk, session).clamp(WINDOW_BYTES_MIN, NOTICE_BYTES_MAX);
        let listener = self.events.held.get_mut(&key).and_then(|held| held.listeners.get_mut(&number));
        let listener = listener.expect("a listener stands as long as its ticket");
        let (mut joined, mut left, mut bytes) = (Vec::new(), Vec::new(), 0);
        while bytes < bytes_max
            && let Some((_, change)) = listener.changes.pop_first()
        {
            bytes += presence::cost(&change);
            if change.joins { joined.push(change.entry) } else { left.push(change.entry) }
        }
        let is_all = listener.changes.is_empty();
        let ticket = listener.ticket;
        let (owed, told) =
            if is_all { (std::mem::take(&mut listener.owed), std::mem::take(&mut listener.told)) } else { Default::default() };
        listener.is_due = !is_all;
        if !joined.is_empty() || !left.is_empty() {
            let form = self.sessions.get(key).and_then(|session| session.form.native()).expect("MQTT has no listeners");
            let mut out = Vec::new();
            event::put(&mut out, form, &Event::PresenceNotice { listener: number, joined: &joined, left: &left });
            self.push(desk, key, Entry::Control(out.into_boxed_slice()));
        }
        owed.into_iter().for_each(|(shard, bytes)| go_on(desk, shard, ticket, bytes));
        self.told_all(desk, ticket, told);
        is_all
    }

    // What this shard tells listeners, of whatever shard.

    fn observe(&mut self, desk: &mut Desk, listen: Listen) {
        let Listen { id, number, form, wanted } = listen;
        match wanted {
            Wanted::Presence { selector, is_once } => {
                self.events.presence.insert(id, presence::Observer::new(desk, &selector, is_once));
                self.events.walking.push_back(id);
            }
            wanted => {
                self.events.queue_observers += usize::from(matches!(wanted, Wanted::Queues { .. }));
                self.events.observers.insert(id, sessions::Observer::new(desk, id, number, form, wanted));
                self.events.scanning.push_back(id);
            }
        }
    }

    fn forget_observer(&mut self, id: ListenerId) {
        self.events.presence.remove(&id);
        let is_of_queues = self.events.observers.remove(&id).is_some_and(|observer| observer.is_of_queues());
        self.events.queue_observers -= usize::from(is_of_queues);
        if self.events.queue_observers == 0 {
            self.events.over.clear();
        }
    }

    /// The listener has taken so much.
    fn observer_goes_on(&mut self, desk: &mut Desk, id: ListenerId, bytes: usize) {
        if let Some(mut observer) = self.events.observers.remove(&id) {
            observer.taken(bytes);
            self.flush(desk, &mut observer);
            if observer.waits_to_scan() {
                self.events.scanning.push_back(id);
            }
            self.events.observers.insert(id, observer);
        } else if let Some(observer) = self.events.presence.get_mut(&id) {
            observer.taken(bytes);
            if observer.waits_to_walk() {
                self.events.walking.push_back(id);
            }
            self.flush_presence(desk, id);
        }
    }

    pub fn has_observers_to_tell(&self) -> bool {
        let Events { scanning, walking, lists, .. } = &self.events;
        !scanning.is_empty() || !walking.is_empty() || !lists.is_empty()
    }

    /// Goes on with what those listeners and questions are to be told that have waited longest.
    pub fn run_observers(&mut self, desk: &mut Desk) {
        self.run_scan(desk);
        self.run_walk(desk);
        self.run_list(desk);
    }
}

fn go_on(desk: &mut Desk, shard: ShardIndex, ticket: u64, bytes: usize) {
    if bytes > 0 {
        let listener = ListenerId { shard: desk.identity.index, ticket };
        desk.mail(shard, Mail::Events(Box::new(Said::GoOn { listener, bytes })));
    }
}

/// What one shard tells a listener of one kind until it is asked for more.
fn window(desk: &Desk, bytes_max: usize) -> usize {
    let queue = desk.limits.queue;
    queue.bytes_high.min(queue.bytes_max / 4).clamp(WINDOW_BYTES_MIN, bytes_max)
}

/// Tells the listener's shard.
fn tell(desk: &mut Desk, id: ListenerId, notices: Notices, bytes: usize, is_all: bool) {
    desk.mail(id.shard, Mail::Events(Box::new(Said::Told { ticket: id.ticket, notices, bytes, is_all })));
}
