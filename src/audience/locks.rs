//! Locks that sessions hold or wait for.
//!
//! A lock's owner grants, and a session's shard gives up: between the two the session holds the lock, and its shard knows that. So an update that
//! depends on a lock is judged here, when it is taken up, and goes straight to its topic, in order with the session's others. The shards that
//! such updates went to are noted: behind the last of them goes a fence, and the lock passes on when all fences have come (`crate::locks`).

use super::Audience;
use crate::base::{SessionKey, ShardIndex, ShardSet};
use crate::desk::Desk;
use crate::gate::{self, Deed};
use crate::mail::{Call, Caller, LockWord, Mail};
use crate::protocol::{ErrorCode, Refusal};
use crate::security::Rights;
use crate::session::{Claim, Lock, LockScope, LockStanding};
use crate::wire::native::Outcome;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

impl Audience {
    fn locks_mut(&mut self, key: SessionKey) -> &mut BTreeMap<Box<str>, Lock> {
        let session = self.sessions.get_mut(key).expect("a client that asks has a session");
        &mut session.extras_mut().locks
    }

    /// LOCK. One that the session holds is granted again as it is; one that it waits for is granted to all its requests at once.
    pub fn lock(&mut self, desk: &mut Desk, asker: Caller, name: &str, scope: LockScope) -> Result<(), Refusal> {
        let locks_max = desk.limits.locks_max;
        let session = self.id_of(asker.session).expect("a client that asks has a session");
        let locks = self.locks_mut(asker.session);
        if let Some(Lock { standing: LockStanding::Holds { number, .. }, .. }) = locks.get(name) {
            let number = *number;
            self.answer(desk, asker, Ok(Outcome::Locked { number }));
            return Ok(());
        }
        // Bounded by `limits.locks_max` itself.
        if locks.values().map(Lock::weight).sum::<usize>() >= locks_max {
            self.give_back_locks(asker.session);
            let message = format!("the session holds and waits for its most of {locks_max} locks");
            return Err(Refusal::new(ErrorCode::LockLimit, message));
        }
        match locks.entry(name.into()) {
            Entry::Occupied(mut lock) => match &mut lock.get_mut().standing {
                LockStanding::Waits(calls) => calls.push(asker.call),
                LockStanding::Holds { .. } => unreachable!("it was answered"),
            },
            Entry::Vacant(vacant) => {
                let claim = Claim { session, ticket: desk.take_ticket(), scope };
                vacant.insert(Lock { claim, standing: LockStanding::Waits(vec![asker.call]) });
                send(desk, name, LockWord::Claimed(claim));
            }
        }
        Ok(())
    }

    /// The lock's owner has granted a claim, which may be given up by now.
    pub fn lock_granted(&mut self, desk: &mut Desk, name: &str, claim: Claim, number: u64) {
        let Some(key) = self.find(claim.session) else { return };
        let Some(lock) = self.lock_of(key, name).filter(|lock| lock.claim == claim) else { return };
        let granted = LockStanding::Holds { number, updated: ShardSet::default() };
        let LockStanding::Waits(calls) = std::mem::replace(&mut lock.standing, granted) else { unreachable!("a claim is granted once") };
        for call in calls {
            self.answer(desk, Caller { session: key, call }, Ok(Outcome::Locked { number }));
        }
    }

    fn lock_of(&mut self, key: SessionKey, name: &str) -> Option<&mut Lock> {
        self.sessions.get_mut(key)?.extras.as_mut()?.locks.get_mut(name)
    }

    /// Whether the session holds the lock by the grant of this number. If so, an update that depends on it goes to `owner` now.
    pub fn uses_lock(&mut self, desk: &Desk, key: SessionKey, (name, wanted): (&str, u64), owner: ShardIndex) -> bool {
        match self.lock_of(key, name) {
            Some(Lock { standing: LockStanding::Holds { number, updated }, .. }) if *number == wanted => {
                // What is owned here is changed at once.
                if owner != desk.identity.index {
                    updated.insert(owner);
                }
                true
            }
            _ => false,
        }
    }

    /// UNLOCK. Of the number 0 it gives up whatever the session has of the lock. One that was held is answered when it has passed on.
    pub fn unlock(&mut self, desk: &mut Desk, asker: Caller, name: &str, wanted: u64) {
        let is_meant = |lock: &Lock| match lock.standing {
            LockStanding::Holds { number, .. } => wanted == 0 || wanted == number,
            LockStanding::Waits(_) => wanted == 0,
        };
        let held = match self.lock_of(asker.session, name) {
            Some(lock) if is_meant(lock) => self.locks_mut(asker.session).remove_entry(name),
            _ => None,
        };
        self.give_back_locks(asker.session);
        match held {
            Some((name, lock @ Lock { standing: LockStanding::Holds { .. }, .. })) => drop(give_up(desk, &name, lock, Some(asker))),
            Some((name, lock)) => {
                let calls = give_up(desk, &name, lock, None);
                self.refuse_waiting(desk, asker.session, calls, &lock_lost(&name));
                self.answer(desk, asker, Ok(Outcome::Unlocked(false)));
            }
            None => self.answer(desk, asker, Ok(Outcome::Unlocked(false))),
        }
    }

    /// The session is over, or its client has taken leave of it.
    pub fn end_locks(&mut self, desk: &mut Desk, key: SessionKey) {
        let session = self.sessions.get_mut(key).expect("a session stands until it has ended");
        let locks = session.extras.as_mut().map(|extras| std::mem::take(&mut extras.locks)).unwrap_or_default();
        for (name, lock) in locks {
            give_up(desk, &name, lock, None);
        }
    }

    /// The session has lost its connection, and may live on without.
    pub fn end_connection_locks(&mut self, desk: &mut Desk, key: SessionKey) {
        for (name, lock) in self.take_locks(key, |_, lock| lock.claim.scope == LockScope::Connection) {
            let calls = give_up(desk, &name, lock, None);
            self.refuse_waiting(desk, key, calls, &lock_lost(&name));
        }
    }

    /// The session's client may do this from now on: the session waits no longer for what it may not acquire. What it holds it keeps, since its client was told
    /// so and relies on it. A grant that is on its way here comes to nobody, as after UNLOCK.
    pub(super) fn end_unpermitted_locks(&mut self, desk: &mut Desk, key: SessionKey, rights: &Rights) {
        let may = |name: &str| gate::at(rights, Deed::Lock, name);
        for (name, lock) in self.take_locks(key, |name, lock| matches!(lock.standing, LockStanding::Waits(_)) && may(name).is_err()) {
            let calls = give_up(desk, &name, lock, None);
            let refusal = may(&name).expect_err("it was taken since it is refused");
            self.refuse_waiting(desk, key, calls, &refusal);
        }
    }

    /// Takes from the session what it has of locks of this kind. Bounded by `limits.locks_max`.
    fn take_locks(&mut self, key: SessionKey, is_meant: impl Fn(&str, &Lock) -> bool) -> BTreeMap<Box<str>, Lock> {
        let Some(extras) = self.sessions.get_mut(key).and_then(|session| session.extras.as_mut()) else { return BTreeMap::new() };
        let (taken, kept) = std::mem::take(&mut extras.locks).into_iter().partition(|(name, lock)| is_meant(name, lock));
        extras.locks = kept;
        self.give_back_locks(key);
        taken
    }

    fn refuse_waiting(&mut self, desk: &mut Desk, session: SessionKey, calls: Vec<Call>, refusal: &Refusal) {
        for call in calls {
            self.answer(desk, Caller { session, call }, Err(refusal.clone()));
        }
    }

    /// A session without locks need not have what only those with some have.
    fn give_back_locks(&mut self, key: SessionKey) {
        self.sessions.get_mut(key).expect("it was just there").give_back_extras();
    }
}

fn lock_lost(name: &str) -> Refusal {
    Refusal::new(ErrorCode::LockLost, format!("the session waits for the lock '{name}' no longer"))
}

/// The session gives up what it has of the lock. Gives the requests that wait for it.
fn give_up(desk: &mut Desk, name: &str, lock: Lock, asked: Option<Caller>) -> Vec<Call> {
    let Lock { claim, standing } = lock;
    let (updated, calls) = match standing {
        LockStanding::Holds { updated, .. } => (updated, Vec::new()),
        LockStanding::Waits(calls) => (ShardSet::default(), calls),
    };
    send(desk, name, LockWord::Released { claim, fences: updated.len(), asked });
    for shard in updated.iter() {
        desk.mail(shard, Mail::Lock { name: name.into(), word: Box::new(LockWord::Fence(claim)) });
    }
    calls
}

/// Tells the lock's owner.
fn send(desk: &mut Desk, name: &str, word: LockWord) {
    let owner = desk.owner_of(name);
    desk.mail(owner, Mail::Lock { name: name.into(), word: Box::new(word) });
}
