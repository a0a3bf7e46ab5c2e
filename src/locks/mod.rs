//! The locks whose names this shard owns: who holds each, and who waits, in the order in which they asked.
//!
//! A room of its own: a lock is no topic, and whoever holds one is a session of any shard, which is only a name here. It stands beside the owner of topics, below
//! the audience: it is told by mail what sessions claim and give up, and tells their shards by mail what is granted.
//!
//! What it guarantees: a lock has one holder at a time; claims are granted in the order in which they came; a later grant has a higher number, whatever was
//! forgotten in between. A grant ends only when the session's shard says so, therefore that shard knows for certain what its sessions hold. Updates
//! that depend on a grant may still be on their way to other shards then: each of those says when it has decided them, and the next claim is granted after that.
//!
//! Bounded by `limits.locks_max` of each session. A lock that nobody holds is forgotten.

#[cfg(test)]
mod tests;

use crate::base::{SessionId, ShardIndex};
use crate::desk::Desk;
use crate::mail::{Asker, Caller, LockWord, Mail, Part};
use crate::session::Claim;
use crate::wire::native::{LockEntry, Outcome};
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

/// See the module. B. `handle_word`: mail about one lock; `list`: a question about all.
#[derive(Default)]
pub struct Locks {
    by_name: BTreeMap<Box<str>, Lock>,
    /// Where the claims that wait stand in their locks' lines.
    places: HashMap<(SessionId, u64), u64>,
    /// The last place in any line.
    last_place: u64,
    /// The number of the last grant of any lock.
    last_grant: u64,
}

struct Lock {
    holder: Holder,
    /// By their places.
    waiting: BTreeMap<u64, Claim>,
}

struct Holder {
    claim: Claim,
    number: u64,
    /// Shards that have decided all updates under this grant.
    fences_heard: usize,
    /// How many have to. `None` until its session's shard gives it up.
    fences_expected: Option<usize>,
    /// Who is answered when it has passed on.
    asked: Option<Caller>,
}

impl Holder {
    fn has_passed(&self) -> bool {
        self.fences_expected == Some(self.fences_heard)
    }
}

/// How much one answer shows.
#[derive(Clone, Copy)]
struct Room {
    count: usize,
    bytes: usize,
}

impl Locks {
    // A. Getters.

    /// Locks that are held, and claims that wait.
    pub fn counts(&self) -> [usize; 2] {
        [self.by_name.len(), self.places.len()]
    }

    // B. What happened.

    /// A word to the owner of the lock, or to a shard that has updates on their way.
    pub fn handle_word(&mut self, desk: &mut Desk, name: Box<str>, word: LockWord) {
        match word {
            LockWord::Claimed(claim) => self.claim(desk, name, claim),
            LockWord::Released { claim, fences, asked } => self.release(desk, name, claim, fences, asked),
            LockWord::Fenced(claim) => {
                let holder = &mut self.by_name.get_mut(&name).expect("a lock stands until its fences have come").holder;
                assert_eq!(holder.claim, claim, "only updates of the holder are fenced");
                holder.fences_heard += 1;
                self.pass_on(desk, name);
            }
            // All that the shard sent before is carried out.
            LockWord::Fence(claim) => {
                let owner = desk.owner_of(&name);
                desk.mail(owner, Mail::Lock { name, word: Box::new(LockWord::Fenced(claim)) });
            }
            LockWord::Granted { .. } => unreachable!("it is for its session"),
        }
    }

    fn claim(&mut self, desk: &mut Desk, name: Box<str>, claim: Claim) {
        match self.by_name.entry(name) {
            Entry::Vacant(vacant) => {
                self.last_grant += 1;
                let holder = grant(desk, vacant.key(), claim, self.last_grant);
                vacant.insert(Lock { holder, waiting: BTreeMap::new() });
            }
            Entry::Occupied(mut lock) => {
                self.last_place += 1;
                self.places.insert((claim.session, claim.ticket), self.last_place);
                lock.get_mut().waiting.insert(self.last_place, claim);
            }
        }
    }

    fn release(&mut self, desk: &mut Desk, name: Box<str>, claim: Claim, fences: usize, asked: Option<Caller>) {
        let lock = self.by_name.get_mut(&name).expect("a claim stands until it is given up");
        if let Some(place) = self.places.remove(&(claim.session, claim.ticket)) {
            lock.waiting.remove(&place);
            return;
        }
        assert_eq!(lock.holder.claim, claim, "a claim waits, or holds its lock");
        (lock.holder.fences_expected, lock.holder.asked) = (Some(fences), asked);
        self.pass_on(desk, name);
    }

    /// Grants the lock to the next in its line, if it is given up and all updates under the grant are decided.
    fn pass_on(&mut self, desk: &mut Desk, name: Box<str>) {
        let Entry::Occupied(mut lock) = self.by_name.entry(name) else { return };
        if !lock.get().holder.has_passed() {
            return;
        }
        let Holder { claim, asked, .. } = lock.get().holder;
        if let Some(to) = asked {
            desk.mail(desk.home_of(claim.session), Mail::Answer { to: Asker::Session(to), result: Ok(Outcome::Unlocked(true)) });
        }
        match lock.get_mut().waiting.pop_first() {
            Some((_, next)) => {
                self.places.remove(&(next.session, next.ticket));
                self.last_grant += 1;
                let holder = grant(desk, lock.key(), next, self.last_grant);
                lock.get_mut().holder = holder;
            }
            None => drop(lock.remove()),
        }
    }

    // Lists.

    /// Tells a shard of the locks here behind a name, as many as one answer may show.
    pub fn list(&self, desk: &mut Desk, from: ShardIndex, ticket: u64, after: &str) {
        let mut room = Room::of_answer(desk);
        let (mut entries, mut is_cut) = (Vec::new(), false);
        for (name, lock) in self.by_name.range::<str, _>((Bound::Excluded(after), Bound::Unbounded)) {
            let Holder { claim, number, .. } = lock.holder;
            let session = desk.name_of(claim.session);
            let entry =
                LockEntry { name: name.as_ref().into(), session, number, scope: claim.scope as u8, waiting: lock.waiting.len() as u64 };
            if !room.take(&entry) {
                is_cut = true;
                break;
            }
            entries.push(entry);
        }
        desk.mail(from, Mail::Part { ticket, part: Part::Locks { entries, is_cut } });
    }
}

/// One answer's page of what all owners have told: the first locks by name. No owner has left out one that stands before its last.
pub fn merge_lists(desk: &Desk, lists: Vec<(Vec<LockEntry>, bool)>) -> Outcome {
    let mut has_more = lists.iter().any(|(_, is_cut)| *is_cut);
    let mut locks: Vec<LockEntry> = lists.into_iter().flat_map(|(entries, _)| entries).collect();
    locks.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    let mut room = Room::of_answer(desk);
    let count = locks.iter().take_while(|entry| room.take(entry)).count();
    has_more |= count < locks.len();
    locks.truncate(count);
    Outcome::Locks { has_more, locks }
}

impl Room {
    fn of_answer(desk: &Desk) -> Self {
        Self { count: desk.limits.fetch_page_max, bytes: desk.limits.message_bytes_max }
    }

    /// Whether there is room for the entry. There always is for a first one.
    fn take(&mut self, entry: &LockEntry) -> bool {
        /// What an entry takes beside its texts, at most, in either form.
        const NUMBERS_BYTES: usize = 128;
        let bytes = entry.name.len() + entry.session.len() + NUMBERS_BYTES;
        if self.count == 0 || self.bytes < bytes {
            return false;
        }
        self.count -= 1;
        self.bytes -= bytes;
        true
    }
}

fn grant(desk: &mut Desk, name: &str, claim: Claim, number: u64) -> Holder {
    desk.mail(desk.home_of(claim.session), Mail::Lock { name: name.into(), word: Box::new(LockWord::Granted { claim, number }) });
    Holder { claim, number, fences_heard: 0, fences_expected: None, asked: None }
}
