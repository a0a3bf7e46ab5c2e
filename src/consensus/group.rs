//! What a group's tasks share: how far it has been handed on, what was proposed here, and what the receiver has still to say.

use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use openraft::EntryPayload;
use tokio::sync::{Notify, oneshot};

use super::freshness::{Freshness, Moment};
use super::log::Log;
use super::types::{LogEntry, LogId, Membership, entry_bytes, is_valid, size_of};
use super::{Committed, Fate, GroupId, News, Piece, Position};
use crate::cluster::{PARTS_MAX, parts, place};

/// One group of this node. Committed entries are handed on here, and only here.
pub struct Group {
    pub id: GroupId,
    notify: Rc<dyn Fn(News)>,
    state: RefCell<State>,
    news_bytes_max: usize,
    /// Something has changed for who hands on and says who leads.
    pub changed: Notify,
    /// Proposals have been settled.
    pub settled: Notify,
}

struct State {
    /// What openraft takes for applied: committed, and readable from the log.
    applied: Position,
    /// What the receiver has been told of. Behind `applied` while its window is closed.
    delivered: Position,
    /// How many more bytes the receiver takes. Below zero by at most one news.
    window: isize,
    /// Of the entries that were proposed here, those that are applied and not delivered, each with the tickets of its parts.
    tickets: BTreeMap<u64, Box<[u64]>>,
    open_bytes: usize,
    open_entries: usize,
    /// Where the receiver's snapshot is.
    snapshot: Option<Position>,
    building: Option<oneshot::Sender<()>>,
    /// Who waits for pieces of it, and the number that the next one gets.
    readers: BTreeMap<u64, oneshot::Sender<Option<Piece>>>,
    next_reader: u64,
    /// What other nodes' receivers have asked, and the number that the next gets.
    calls: BTreeMap<u64, oneshot::Sender<Bytes>>,
    next_call: u64,
    /// When so many are there, those that nobody waits for are looked for.
    calls_swept: usize,
    staging: Option<oneshot::Sender<()>>,
    installing: Option<oneshot::Sender<()>>,
    /// The store cannot write, or the node is about to end, which stays so.
    falters: bool,
    retires: bool,
    freshness: Freshness,
}

impl State {
    /// How many entries the receiver has: while a snapshot is put in place of what it had, none that counts.
    fn handed_on(&self) -> u64 {
        if self.installing.is_some() { 0 } else { count(self.delivered.index()) }
    }
}

impl Group {
    /// A group whose receiver has the state of its snapshot at `snapshot`, or none.
    pub fn new(id: GroupId, snapshot: Option<Position>, window: usize, news_bytes_max: usize, notify: Rc<dyn Fn(News)>) -> Self {
        let position = snapshot.clone().unwrap_or_default();
        let state = State {
            applied: position.clone(),
            delivered: position,
            window: window as isize,
            tickets: BTreeMap::new(),
            open_bytes: 0,
            open_entries: 0,
            snapshot,
            building: None,
            readers: BTreeMap::new(),
            next_reader: 0,
            calls: BTreeMap::new(),
            next_call: 0,
            calls_swept: 0,
            staging: None,
            installing: None,
            falters: false,
            retires: false,
            freshness: Freshness::default(),
        };
        Self { id, notify, state: RefCell::new(state), news_bytes_max, changed: Notify::new(), settled: Notify::new() }
    }

    pub fn tell(&self, news: News) {
        (self.notify)(news);
    }

    pub fn applied(&self) -> Position {
        self.state().applied.clone()
    }

    pub fn delivered(&self) -> Option<LogId> {
        self.state().delivered.id
    }

    /// All up to this index, or more, was committed at this moment.
    pub fn heard(&self, at: Moment, committed: Option<u64>) {
        let mut state = self.state();
        let delivered = state.handed_on();
        state.freshness.heard(at, count(committed), delivered);
        drop(state);
        self.changed.notify_one();
    }

    /// Whether all that was committed so long ago is known to be handed on.
    pub fn is_fresh(&self, within: Duration) -> bool {
        let mut state = self.state();
        let delivered = state.handed_on();
        state.freshness.is_fresh(within, delivered)
    }

    /// This node is about to end.
    pub fn retire(&self) {
        self.state().retires = true;
        self.note_faltering(true);
    }

    /// Whether the leader is to be asked how far it is, as often as `every`; then it is.
    pub fn asks(&self, every: Duration) -> bool {
        self.state().freshness.asks(every)
    }

    /// The question was not answered: another may be asked at once.
    pub fn not_answered(&self) {
        self.state().freshness.not_answered();
        self.changed.notify_one();
    }

    /// Whether this node's store cannot write, or it is about to end.
    pub fn falters(&self) -> bool {
        self.state().falters
    }

    pub fn note_faltering(&self, falters: bool) {
        let mut state = self.state();
        state.falters = falters || state.retires;
        drop(state);
        self.changed.notify_one();
    }

    pub fn snapshot(&self) -> Option<Position> {
        self.state().snapshot.clone()
    }

    /// What was proposed here and is not settled: entries and their bytes.
    pub fn open(&self) -> (usize, usize) {
        let state = self.state();
        (state.open_entries, state.open_bytes)
    }

    pub fn add_open(&self, bytes: usize) {
        let mut state = self.state();
        state.open_entries += 1;
        state.open_bytes += bytes;
    }

    pub fn remove_open(&self, bytes: usize) {
        let mut state = self.state();
        state.open_entries -= 1;
        state.open_bytes -= bytes;
        drop(state);
        self.settled.notify_one();
    }

    pub fn note_tickets(&self, index: u64, tickets: Box<[u64]>) {
        self.state().tickets.insert(index, tickets);
    }

    /// The receiver takes `bytes` more.
    pub fn widen(&self, bytes: usize) {
        let mut state = self.state();
        state.window = state.window.saturating_add_unsigned(bytes);
        drop(state);
        self.changed.notify_one();
    }

    /// Hands on entries that follow what is applied, as far as the window is open and nothing waits before them.
    pub fn apply(&self, entries: Vec<LogEntry>) {
        let mut rest = entries.as_slice();
        while !rest.is_empty() {
            let mut state = self.state();
            let is_behind = state.delivered.id != state.applied.id;
            let taken = if is_behind || state.window <= 0 { 0 } else { cut(rest, self.news_bytes_max) };
            if taken == 0 {
                rest.iter().for_each(|entry| state.applied.advance(entry));
                break;
            }
            let (now, later) = rest.split_at(taken);
            now.iter().for_each(|entry| state.applied.advance(entry));
            self.deliver(state, now);
            rest = later;
        }
        self.changed.notify_one();
    }

    /// Hands on what waits in the log, one news of it, if the window is open. Returns whether there was any.
    pub fn catch_up(&self, log: &Log) -> bool {
        let state = self.state();
        let Some(applied) = state.applied.id else { return false };
        if state.window <= 0 || state.delivered.id == Some(applied) || state.installing.is_some() {
            return false;
        }
        let first = state.delivered.id.map_or(0, |id| id.index + 1);
        let entries = log.read(first, applied.index, self.news_bytes_max);
        assert_eq!(entries.first().map(|entry| entry.log_id.index), Some(first), "what is not handed on is not purged");
        self.deliver(state, &entries);
        true
    }

    fn deliver(&self, mut state: RefMut<'_, State>, entries: &[LogEntry]) {
        let mut told = Told::default();
        for entry in entries {
            state.delivered.advance(entry);
            let tickets = state.tickets.remove(&entry.log_id.index).unwrap_or_default();
            told.add(entry, &tickets);
        }
        let Told { bytes, entries } = told;
        state.window -= bytes as isize;
        drop(state);
        self.tell(News::Committed { group: self.id, entries, bytes });
    }

    /// Whether a snapshot can be built now.
    pub fn can_build(&self) -> bool {
        let state = self.state();
        state.delivered.id.is_some() && state.building.is_none() && state.installing.is_none()
    }

    /// Asks the receiver for a snapshot of what it has been told.
    pub fn build(&self) -> oneshot::Receiver<()> {
        let (done, built) = oneshot::channel();
        let mut state = self.state();
        state.building = Some(done);
        let (position, beyond) = (state.delivered.clone(), state.snapshot.as_ref().and_then(Position::index));
        drop(state);
        self.tell(News::Build { group: self.id, position, beyond });
        built
    }

    pub fn hurry(&self) {
        let position = self.state().delivered.clone();
        self.tell(News::Hurry { group: self.id, position });
    }

    /// The receiver's answer to [`News::Build`].
    pub fn built(&self, position: Position) {
        let mut state = self.state();
        // What is kept may be further than what was handed on, which goes on from there: nothing is purged before.
        let position = if position.id > state.delivered.id { state.delivered.clone() } else { position };
        if state.snapshot.as_ref().is_none_or(|current| current.id < position.id) {
            state.snapshot = Some(position);
        }
        if let Some(done) = state.building.take() {
            // Nobody waits any more where the node has stopped.
            let _ = done.send(());
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Asks the receiver for a piece of its snapshot.
    pub fn read(&self, position: Position, number: u64) -> oneshot::Receiver<Option<Piece>> {
        let (done, read) = oneshot::channel();
        let mut state = self.state();
        let reader = state.next_reader;
        state.next_reader += 1;
        // Whoever has given up reading waits no more.
        state.readers.retain(|_, waiting| !waiting.is_closed());
        state.readers.insert(reader, done);
        drop(state);
        self.tell(News::Read { group: self.id, position, number, reader });
        read
    }

    /// The receiver's answer to [`News::Read`].
    pub fn answer_reader(&self, reader: u64, piece: Option<Piece>) {
        if let Some(done) = self.state().readers.remove(&reader) {
            let _ = done.send(piece);
        }
    }

    /// Asks the receiver what another node's has asked.
    pub fn ask(&self, bytes: Bytes) -> oneshot::Receiver<Bytes> {
        let (done, answered) = oneshot::channel();
        let mut state = self.state();
        let call = state.next_call;
        state.next_call += 1;
        if state.calls.len() >= state.calls_swept {
            // Whoever has given up waits no more. As seldom as there are many.
            state.calls.retain(|_, waiting| !waiting.is_closed());
            state.calls_swept = 2 * state.calls.len() + 64;
        }
        state.calls.insert(call, done);
        drop(state);
        self.tell(News::Asked { group: self.id, call, bytes });
        answered
    }

    /// The receiver's answer to [`News::Asked`].
    pub fn answer_call(&self, call: u64, bytes: Bytes) {
        if let Some(done) = self.state().calls.remove(&call) {
            let _ = done.send(bytes);
        }
    }

    /// Gives the receiver a piece of another's snapshot. Whoever waits for one before that does so in vain.
    pub fn stage(&self, position: Position, number: u64, bytes: Bytes) -> oneshot::Receiver<()> {
        let (done, staged) = oneshot::channel();
        self.state().staging = Some(done);
        self.tell(News::Piece { group: self.id, position, number, bytes });
        staged
    }

    /// The receiver's answer to [`News::Piece`].
    pub fn staged(&self) {
        if let Some(done) = self.state().staging.take() {
            let _ = done.send(());
        }
    }

    /// Asks the receiver to put the snapshot that it was given in the place of what it has.
    pub fn install(&self, position: Position) -> oneshot::Receiver<()> {
        let (done, installed) = oneshot::channel();
        let mut state = self.state();
        state.installing = Some(done);
        state.applied = position.clone();
        state.delivered = position.clone();
        state.snapshot = Some(position.clone());
        let covered = std::mem::take(&mut state.tickets);
        drop(state);
        // They are in the snapshot's state, or void; no news of the entries comes any more.
        covered.into_values().flatten().for_each(|ticket| self.tell(News::Lost { group: self.id, ticket, fate: Fate::Unknown }));
        self.tell(News::Install { group: self.id, position });
        installed
    }

    /// The receiver cannot do as [`News::Install`] says: whoever waits for it is told by nothing.
    pub fn not_installed(&self) {
        drop(self.state().installing.take());
    }

    /// The receiver's answer to [`News::Install`].
    pub fn installed(&self) {
        if let Some(done) = self.state().installing.take() {
            let _ = done.send(());
        }
        self.changed.notify_one();
    }

    fn state(&self) -> RefMut<'_, State> {
        self.state.borrow_mut()
    }
}

impl Position {
    fn advance(&mut self, entry: &LogEntry) {
        self.id = Some(entry.log_id);
        if let EntryPayload::Membership(membership) = &entry.payload {
            self.membership = Membership::new(Some(entry.log_id), membership.clone());
        }
    }
}

/// One news.
#[derive(Default)]
struct Told {
    entries: Vec<(u64, Committed)>,
    bytes: usize,
}

impl Told {
    fn add(&mut self, entry: &LogEntry, tickets: &[u64]) {
        let EntryPayload::Normal(judged) = &entry.payload else {
            self.bytes += entry_bytes(0);
            return self.entries.push((place(entry.log_id.index, 0), Committed::Nothing));
        };
        // At most `cluster::PARTS_MAX`.
        for (part, bytes) in parts(&judged.bytes).enumerate() {
            // Whoever takes it says that it cannot be read.
            let bytes = bytes.unwrap_or_else(|_| judged.bytes.clone());
            self.bytes += entry_bytes(bytes.len());
            let ticket = tickets.get(part).copied();
            let committed =
                if is_valid(entry) { Committed::Entry { term: judged.term, bytes, ticket } } else { Committed::Void { ticket } };
            self.entries.push((place(entry.log_id.index, part.min(PARTS_MAX - 1)), committed));
        }
    }
}

/// How many of the entries make one news: at least one.
fn cut(entries: &[LogEntry], bytes_max: usize) -> usize {
    let mut bytes = 0;
    let fitting = entries.iter().take_while(|entry| {
        bytes += size_of(entry);
        bytes <= bytes_max
    });
    fitting.count().max(1)
}

/// How many entries there are up to an index.
fn count(index: Option<u64>) -> u64 {
    index.map_or(0, |index| index.saturating_add(1))
}
