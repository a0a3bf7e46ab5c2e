//! What the engine says, dealt out to shards. On the engine's thread; nothing here waits.

use super::link::{Ledger, Link, ledger, outstanding};
use super::outstanding::Outstanding;
use super::{HEAD_BYTES, Said, WORD_BYTES, Word, pack, read_head, unpack};
use crate::base::ShardIndex;
use crate::base::placement::owner_of;
use crate::cluster::{Entry, Forward, last_place};
use crate::consensus::{self, Committed, GroupId, Handle, News, Unreached, entry_bytes};
use crate::shard::{Fate, Leader, Role};
use crate::storage::{Loaded, LoadedGroup};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Of a snapshot, a word has so many topics at most.
const TOPICS_A_WORD: usize = 64;

/// Tells a shard something. Must not wait.
type Tell = Box<dyn Fn(ShardIndex, Word) + Send + Sync>;

/// See the module.
pub struct Carrier {
    server: (u64, u64),
    shards: u16,
    groups: u16,
    handle: Handle,
    ledger: Ledger,
    tell: Tell,
    /// The groups that are fresh.
    fresh: Mutex<BTreeSet<GroupId>>,
    led: Mutex<Led>,
}

/// The groups that this server leads, and those of them that nobody else could.
#[derive(Default)]
struct Led {
    groups: BTreeSet<GroupId>,
    heirless: BTreeSet<GroupId>,
}

/// What of one news is for a shard.
#[derive(Default)]
struct Part {
    said: Vec<Said>,
    bytes: usize,
}

impl Carrier {
    /// `server` is this one's number in its cluster, and one that tells its process from others.
    pub fn new(
        server: (u64, u64),
        (shards, groups): (u16, u16),
        handle: Handle,
        tell: impl Fn(ShardIndex, Word) + Send + Sync + 'static,
    ) -> Self {
        let (fresh, led) = (Mutex::default(), Mutex::default());
        let carrier = Self { server, shards, groups, handle, ledger: ledger(shards, groups), tell: Box::new(tell), fresh, led };
        carrier.tell_stale(true);
        carrier
    }

    pub fn link(&self, shard: ShardIndex) -> Link {
        Link::new(self.server, shard, self.handle.clone(), self.ledger.clone())
    }

    /// What the engine says of topics' groups, and what other servers ask. What is of snapshots, members and ends is given back.
    pub fn hear(&self, news: News) -> Option<News> {
        let is_topics = |group: GroupId| self.has_topics(group);
        self.note_led(&news);
        match news {
            News::Committed { group, bytes, .. } if !is_topics(group) => self.handle.took(group, bytes),
            News::Committed { group, entries, bytes } => self.deal(group, entries, bytes),
            News::Leads { group, term, .. } if is_topics(group) => self.tell_all(group, Role::Leads { term }),
            News::Follows { group, leader } if is_topics(group) => {
                let leader = leader.map(|(server, term)| Leader { server, term });
                self.tell_all(group, Role::Follows { leader });
            }
            News::Lost { group, ticket, fate } if is_topics(group) => {
                let fate = match fate {
                    consensus::Fate::NotCommitted => Fate::Void,
                    consensus::Fate::Unknown => Fate::Unknown,
                };
                let (shard, number) = unpack(ticket);
                let mut part = Part::default();
                outstanding(&self.ledger, shard, group.0).lose(number, fate, &mut part.said);
                self.tell_part(group, ShardIndex(shard), &mut part);
            }
            News::Asked { group, call, bytes } => self.ask(group, call, &bytes),
            News::Answered { group, ticket, answer } => {
                let (shard, ticket) = unpack(ticket);
                let reply = answer.map_err(|unreached| match unreached {
                    Unreached::Unsent => Fate::Void,
                    Unreached::Unanswered => Fate::Unknown,
                });
                (self.tell)(ShardIndex(shard), Word::Reply { group: group.0, ticket, reply });
            }
            News::Fresh { group, is_fresh } if is_topics(group) => self.note_fresh(group, is_fresh),
            News::Leads { .. } | News::Follows { .. } | News::Lost { .. } | News::Fresh { .. } | News::Heirless { .. } => {}
            other => return Some(other),
        }
        None
    }

    /// Another server's snapshot is in the store: its topics are told to the shards that own them. That of the group that has no topics is nothing to them.
    pub fn install(&self, group: GroupId, index: u64, loaded: LoadedGroup) {
        if !self.has_topics(group) {
            return;
        }
        let LoadedGroup { topics, made } = loaded;
        let made: Arc<[_]> = made.into();
        let mut parts: Vec<Loaded> = (0..self.shards).map(|_| Vec::new()).collect();
        for topic in topics {
            let owner = owner_of(topic.1.path.as_str(), self.shards);
            let part = &mut parts[usize::from(owner.0)];
            part.push(topic);
            if part.len() == TOPICS_A_WORD {
                (self.tell)(owner, Word::Installed { group: group.0, topics: std::mem::take(part) });
            }
        }
        for (shard, topics) in (0..).map(ShardIndex).zip(parts) {
            (self.tell)(shard, Word::Installed { group: group.0, topics });
            (self.tell)(shard, Word::AllInstalled { group: group.0, place: last_place(index), made: made.clone() });
        }
    }

    fn has_topics(&self, group: GroupId) -> bool {
        group.0 < self.groups
    }

    fn tell_all(&self, group: GroupId, role: Role) {
        (0..self.shards).for_each(|shard| (self.tell)(ShardIndex(shard), Word::Role { group: group.0, role }));
    }

    /// Whether this server leads any group that another could.
    pub fn leads_any(&self) -> bool {
        let led = self.led.lock().unwrap_or_else(PoisonError::into_inner);
        led.groups.len() > led.heirless.len()
    }

    /// Others may vote by now.
    pub fn forget_heirless(&self) {
        self.led.lock().unwrap_or_else(PoisonError::into_inner).heirless.clear();
    }

    fn note_led(&self, news: &News) {
        let mut led = self.led.lock().unwrap_or_else(PoisonError::into_inner);
        match news {
            News::Leads { group, .. } => drop(led.groups.insert(*group)),
            News::Heirless { group } if led.groups.contains(group) => drop(led.heirless.insert(*group)),
            News::Follows { group, .. } | News::Ended { group, .. } => {
                led.groups.remove(group);
                led.heirless.remove(group);
            }
            _ => {}
        }
    }

    fn tell_stale(&self, is_stale: bool) {
        (0..self.shards).for_each(|shard| (self.tell)(ShardIndex(shard), Word::Stale(is_stale)));
    }

    fn note_fresh(&self, group: GroupId, is_fresh: bool) {
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        let was_stale = fresh.len() < usize::from(self.groups);
        let _ = if is_fresh { fresh.insert(group) } else { fresh.remove(&group) };
        let is_stale = fresh.len() < usize::from(self.groups);
        drop(fresh);
        if is_stale != was_stale {
            self.tell_stale(is_stale);
        }
    }

    fn deal(&self, group: GroupId, entries: Vec<(u64, Committed)>, bytes: usize) {
        let mut parts: Vec<Part> = (0..self.shards).map(|_| Part::default()).collect();
        let mut dealt = 0;
        for (place, committed) in entries {
            let (shard, size) = self.deal_one(group, place, committed, &mut parts);
            let Some(shard) = shard else { continue };
            let part = &mut parts[usize::from(shard)];
            part.bytes += size;
            dealt += size;
            if part.bytes >= WORD_BYTES {
                self.tell_part(group, ShardIndex(shard), part);
            }
        }
        for (shard, mut part) in (0..).zip(parts) {
            self.tell_part(group, ShardIndex(shard), &mut part);
        }
        // What is for no shard.
        self.handle.took(group, bytes - dealt);
    }

    /// Deals out one entry; which shard is to take how many bytes of it.
    fn deal_one(&self, group: GroupId, place: u64, committed: Committed, parts: &mut [Part]) -> (Option<u16>, usize) {
        let mut settle = |ticket: u64, said: &dyn Fn(u64) -> Said| {
            let (shard, number) = unpack(ticket);
            let mut outstanding = outstanding(&self.ledger, shard, group.0);
            Outstanding::settle(&mut outstanding, number, said(number), &mut parts[usize::from(shard)].said);
        };
        match committed {
            Committed::Nothing | Committed::Void { ticket: None } => (None, 0),
            Committed::Void { ticket: Some(ticket) } => {
                settle(ticket, &|last| Said::Lost { last, fate: Fate::Void });
                (None, 0)
            }
            Committed::Entry { term, bytes, ticket } if bytes.is_empty() => {
                if let Some(ticket) = ticket {
                    settle(ticket, &|number| Said::Confirmed { number, term });
                }
                (None, 0)
            }
            Committed::Entry { term, bytes, ticket } => {
                let size = entry_bytes(bytes.len());
                if let Some(ticket) = ticket {
                    settle(ticket, &|number| Said::Entry { place, term, own: Some(number), bytes: bytes.clone() });
                    return (Some(unpack(ticket).0), size);
                }
                // What it cannot read a shard says.
                let shard = Entry::decode(&bytes).map_or(0, |entry| owner_of(entry.path, self.shards).0);
                parts[usize::from(shard)].said.push(Said::Entry { place, term, own: None, bytes });
                (Some(shard), size)
            }
        }
    }

    fn tell_part(&self, group: GroupId, shard: ShardIndex, part: &mut Part) {
        let Part { said, bytes } = std::mem::take(part);
        if !said.is_empty() {
            (self.tell)(shard, Word::Said { group: group.0, said, bytes });
        }
    }

    /// Another server has forwarded an update.
    fn ask(&self, group: GroupId, call: u64, bytes: &Bytes) {
        let Some((term, from)) = read_head(bytes) else {
            return self.handle.answer(group, call, Bytes::new());
        };
        let request = bytes.slice(HEAD_BYTES..);
        // What it cannot read a shard says.
        let shard = Forward::access(&request).map_or(ShardIndex(0), |forward| owner_of(&forward.path, self.shards));
        (self.tell)(shard, Word::Forwarded { group: group.0, term, from, number: pack(group.0, call), request });
    }
}
