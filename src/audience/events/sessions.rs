//! What listeners are told of this shard's sessions: who there is, who comes and goes, and what of their properties changes.
//!
//! Of each session a listener knows what is true, or there is an entry that says what it knows: so nothing is kept of a session of which nothing is to be told. A
//! session behind the place up to which sessions were looked at for the listener is met there, as it is by then.

use super::pending::Pending;
use super::{NOTICE_BYTES, WINDOW_BYTES_MAX, tell};
use crate::audience::Audience;
use crate::audience::messaging::means;
use crate::audience::properties::SCANNED_BYTES_PER_SLICE;
use crate::base::{SessionId, SessionKey, SlabKey};
use crate::desk::Desk;
use crate::mail::events::{ListenerId, Notices, Wanted};
use crate::session::{Ended, Life};
use crate::topic::session_filter::SessionFilter;
use crate::wire::event::{self, Event, Form, Properties};

/// The numbers of the wire of what becomes of a session.
const PRESENT: u8 = 1;
const OPENED: u8 = 2;
const MATCHED: u8 = 3;
const CHANGED: u8 = 4;
const UNMATCHED: u8 = 5;
const AWAY: u8 = 6;
const BACK: u8 = 7;

/// What happens to a session; it is told when it has happened, but for its end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    Opened,
    Away,
    Back,
    Over,
    /// More waits for it than the mark, or little again.
    QueueOver,
    QueueUnder,
}

/// One listener, of whatever shard.
pub struct Observer {
    id: ListenerId,
    number: u64,
    form: Form,
    wanted: Wanted,
    /// What it was told and has not taken, and how much that may be.
    under_way: usize,
    window: usize,
    /// The place in the table of sessions from which on they were not looked at; `None` where all were.
    from: Option<u32>,
    is_scanning: bool,
    pending: Pending<SessionId, Standing>,
}

/// What a listener knows of a session, and what it does not know yet.
struct Standing {
    /// Whether it was away, where the listener knows of it.
    told: Option<bool>,
    is_opened: bool,
    is_changed: bool,
    ended: Option<Ended>,
}

impl Standing {
    fn new(told: Option<bool>) -> Self {
        Self { told, is_opened: false, is_changed: false, ended: None }
    }
}

/// What a listener is shown of a session that it means.
pub type Seen = Vec<(Box<str>, Box<str>)>;

impl Observer {
    pub fn new(desk: &Desk, id: ListenerId, number: u64, form: Form, wanted: Wanted) -> Self {
        let window = super::window(desk, WINDOW_BYTES_MAX);
        Self { id, number, form, wanted, under_way: 0, window, from: Some(0), is_scanning: true, pending: Pending::new() }
    }

    pub fn is_of_queues(&self) -> bool {
        matches!(self.wanted, Wanted::Queues { .. })
    }

    fn filter(&self) -> &SessionFilter {
        match &self.wanted {
            Wanted::Sessions { filter, .. } | Wanted::Queues { filter } => filter,
            Wanted::Presence { .. } => unreachable!("presence has observers of its own"),
        }
    }

    fn has_room(&self) -> bool {
        self.under_way < self.window
    }

    pub fn taken(&mut self, bytes: usize) {
        self.under_way -= bytes;
    }

    /// Whether its turn has to come to look at more sessions, which this gives it.
    pub fn waits_to_scan(&mut self) -> bool {
        self.from.is_some() && self.has_room() && !std::mem::replace(&mut self.is_scanning, true)
    }

    fn has_looked_at(&self, key: SessionKey) -> bool {
        self.from.is_none_or(|from| key.index() < from)
    }

    fn note(&mut self, session: SessionId, told: Option<bool>) -> &mut Standing {
        self.pending.note(session, || Standing::new(told))
    }

    fn put(&mut self, out: &mut Vec<Box<[u8]>>, event: &Event<'_>) {
        let mut bytes = Vec::new();
        event::put(&mut bytes, self.form, event);
        self.under_way += NOTICE_BYTES + bytes.len();
        out.push(bytes.into_boxed_slice());
    }

    fn put_notice(&mut self, out: &mut Vec<Box<[u8]>>, what: u8, (session, is_away): (&str, bool), properties: &Seen) {
        let (listener, properties) = (self.number, Properties::Any(properties));
        self.put(out, &Event::SessionNotice { listener, what, session, is_away, properties });
    }
}

impl Audience {
    /// Tells listeners what happens to a session.
    #[inline]
    pub(in crate::audience) fn session_happened(&mut self, desk: &mut Desk, key: SessionKey, happening: Happening) {
        if !self.events.observers.is_empty() {
            self.tell_observers(desk, key, happening);
        }
    }

    /// One for each listener, as a publication is for each subscriber.
    #[cold]
    fn tell_observers(&mut self, desk: &mut Desk, key: SessionKey, happening: Happening) {
        let session = self.sessions.get(key).expect("what happens to a session happens while it stands");
        if session.life == Life::Shared {
            return;
        }
        let (id, ended, is_away) = (session.id, session.ended, session.life.away().is_some());
        let is_over = self.events.over.contains(&key);
        let mut observers = std::mem::take(&mut self.events.observers);
        for observer in observers.values_mut().filter(|observer| observer.has_looked_at(key)) {
            let told = match (happening, observer.is_of_queues()) {
                (Happening::Opened, false) | (Happening::QueueOver, true) => None,
                (Happening::Away, false) | (Happening::QueueUnder, true) => Some(false),
                (Happening::Back, false) => Some(true),
                (Happening::Over, false) => Some(is_away),
                (Happening::Over, true) if is_over => Some(false),
                _ => continue,
            };
            if !self.is_meant(desk, key, observer.filter()) {
                continue;
            }
            let standing = observer.note(id, told);
            standing.is_opened |= happening == Happening::Opened;
            standing.ended = (happening == Happening::Over).then_some(ended);
            self.flush(desk, observer);
        }
        self.events.observers = observers;
    }

    /// What each listener is shown of the session before its properties change; `None` of one that does not mean it.
    pub fn see(&self, desk: &Desk, key: SessionKey) -> Vec<Option<Seen>> {
        self.events.observers.values().map(|observer| self.seen(desk, observer, key)).collect()
    }

    /// Properties of the session have changed.
    pub fn properties_changed(&mut self, desk: &mut Desk, key: SessionKey, before: Vec<Option<Seen>>) {
        let Some(session) = self.session(key) else { return };
        let (id, is_away, is_over) = (session.id, session.life.away().is_some(), self.events.over.contains(&key));
        let mut observers = std::mem::take(&mut self.events.observers);
        for (observer, before) in observers.values_mut().zip(before) {
            let after = self.seen(desk, observer, key);
            if before == after || !observer.has_looked_at(key) || observer.is_of_queues() && !is_over {
                continue;
            }
            let is_changed = before.is_some() && after.is_some();
            let told = before.map(|_| is_away && !observer.is_of_queues());
            observer.note(id, told).is_changed |= is_changed;
            self.flush(desk, observer);
        }
        self.events.observers = observers;
    }

    fn seen(&self, desk: &Desk, observer: &Observer, key: SessionKey) -> Option<Seen> {
        self.is_meant(desk, key, observer.filter()).then(|| match &observer.wanted {
            Wanted::Sessions { properties, .. } if !properties.is_empty() => self.shown(desk, key, properties),
            _ => Vec::new(),
        })
    }

    fn shown(&self, desk: &Desk, key: SessionKey, wanted: &[Box<str>]) -> Seen {
        let is_wanted = |key: &str| wanted.iter().any(|name| means(name, key));
        self.session_properties(desk, key).into_iter().filter(|(key, _)| is_wanted(key)).collect()
    }

    /// Tells the listener what is to be told, as far as it takes it.
    pub(super) fn flush(&self, desk: &mut Desk, observer: &mut Observer) {
        let (mut events, before) = (Vec::new(), observer.under_way);
        while observer.has_room()
            && let Some((session, standing)) = observer.pending.pop()
        {
            if observer.is_of_queues() {
                self.put_queue_change(desk, observer, session, &standing, &mut events);
            } else {
                self.put_change(desk, observer, session, &standing, &mut events);
            }
        }
        if !events.is_empty() {
            tell(desk, observer.id, Notices::Events(events), observer.under_way - before, false);
        }
    }

    /// From what the listener knows to what is true.
    fn put_change(&self, desk: &Desk, observer: &mut Observer, id: SessionId, standing: &Standing, out: &mut Vec<Box<[u8]>>) {
        let name = desk.name_of(id);
        let key = self.find(id).filter(|_| standing.ended.is_none());
        let now = key.and_then(|key| {
            let is_away = self.session(key)?.life.away().is_some();
            Some((is_away, self.seen(desk, observer, key)?))
        });
        match (standing.told, now) {
            (None, None) => {}
            (None, Some((is_away, seen))) => {
                observer.put_notice(out, if standing.is_opened { OPENED } else { MATCHED }, (&name, is_away), &seen);
            }
            (Some(_), None) => match standing.ended {
                Some(ended) => {
                    observer.put(out, &Event::SessionClosed { listener: observer.number, session: &name, reason: ended as u8 });
                }
                None => observer.put_notice(out, UNMATCHED, (&name, standing.told == Some(true)), &Vec::new()),
            },
            (Some(was_away), Some((is_away, seen))) => {
                if standing.is_changed {
                    observer.put_notice(out, CHANGED, (&name, was_away), &seen);
                }
                if is_away != was_away {
                    observer.put_notice(out, if is_away { AWAY } else { BACK }, (&name, is_away), &Vec::new());
                }
            }
        }
    }

    fn put_queue_change(&self, desk: &Desk, observer: &mut Observer, id: SessionId, standing: &Standing, out: &mut Vec<Box<[u8]>>) {
        let key = self.find(id).filter(|_| standing.ended.is_none());
        let is_over = key.is_some_and(|key| self.events.over.contains(&key) && self.is_meant(desk, key, observer.filter()));
        if is_over == standing.told.is_some() {
            return;
        }
        let session = key.and_then(|key| self.session(key));
        let (is_conflated, queue_bytes) = session.map_or((false, 0), |session| (session.is_conflated, session.queue.bytes() as u64));
        let (listener, name) = (observer.number, desk.name_of(id));
        observer.put(out, &Event::QueueNotice { listener, session: &name, is_over, is_conflated, queue_bytes });
    }

    /// Goes on telling a listener of the sessions that are there: so many a slice.
    pub(super) fn run_scan(&mut self, desk: &mut Desk) {
        let Some(id) = self.events.scanning.pop_front() else { return };
        // It may be gone.
        let Some(mut observer) = self.events.observers.remove(&id) else { return };
        observer.is_scanning = false;
        let looked_max = (SCANNED_BYTES_PER_SLICE / observer.filter().as_str().len().max(1)).max(16);
        let (mut events, before) = (Vec::new(), observer.under_way);
        let (keys, next) = self.sessions.slab.keys_from(observer.from.unwrap_or(0), looked_max);
        observer.from = next;
        for key in keys {
            if !observer.has_room() {
                observer.from = Some(key.index());
                break;
            }
            if self.session(key).is_some_and(|session| session.life != Life::Shared) {
                self.put_present(desk, &mut observer, key, &mut events);
            }
        }
        tell(desk, id, Notices::Events(events), observer.under_way - before, observer.from.is_none());
        if observer.waits_to_scan() {
            self.events.scanning.push_back(id);
        }
        self.events.observers.insert(id, observer);
    }

    fn put_present(&mut self, desk: &Desk, observer: &mut Observer, key: SessionKey, out: &mut Vec<Box<[u8]>>) {
        if observer.is_of_queues() {
            self.mark_queue(desk, key);
            let id = self.id_of(key).expect("it was just there");
            return self.put_queue_change(desk, observer, id, &Standing::new(None), out);
        }
        if let Some(seen) = self.seen(desk, observer, key) {
            let is_away = self.session(key).is_some_and(|session| session.life.away().is_some());
            let name = self.session_id(desk, key);
            observer.put_notice(out, PRESENT, (&name, is_away), &seen);
        }
    }
}
