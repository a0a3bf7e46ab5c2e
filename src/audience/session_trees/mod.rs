//! Session trees at work: what the paths of this shard's sessions mean, by branch mapping tables.
//!
//! - here — what each session finds where, and when that changes.
//! - `tables` — the tables: the one writer on the first shard, and every shard's copy.
//! - `follow` — what sessions select by mapped paths: the interests that come of that, and the subscriptions.
//! - `aliases` — the topics under other paths; `fetch` — fetches; `listen` — listeners to topics.
//!
//! A session whose paths all mean themselves has nothing here, and nothing costs it anything. One that is concerned shares its mapping with all that have
//! the same. What it selects is its own paths still; the owners of topics are asked for what may lie there, by selectors that are derived from its own.

mod aliases;
mod fetch;
mod follow;
mod listen;
mod tables;

pub use aliases::Aliases;
pub use follow::Answered;
use follow::Waiting;

use crate::audience::Audience;
use crate::audience::ask::tell_carried_out;
use crate::audience::properties::Properties;
use crate::base::{SessionKey, TopicId};
use crate::desk::Desk;
use crate::mail::views::Told;
use crate::session::Life;
use crate::session_tree::{Mapping, Tables};
use crate::topic::selector::Selector;
use hashbrown::{HashMap, HashSet};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::rc::Rc;

/// See the module.
#[derive(Default)]
pub struct SessionTrees {
    tables: Tables,
    /// At the writer: the journal's record of each table.
    records: HashMap<Box<str>, TopicId>,
    /// Those for whom paths mean other topics, or did until what they had by that is brought in line.
    sessions: HashMap<SessionKey, Mapped>,
    /// The mappings that they share.
    shared: HashSet<Rc<Mapping>>,
    pub aliases: Aliases,
    waiting: Waiting,
    /// Tables have changed, and not all sessions were looked at since.
    scans: VecDeque<Scan>,
}

/// A session for whom paths mean other topics.
struct Mapped {
    mapping: Rc<Mapping>,
    /// In the order of their texts: the selectors that are derived from those that it has, and from how many each.
    derived: Vec<(Selector, u32)>,
    /// The same for its listeners to topics, each once.
    listened: Vec<Selector>,
}

/// How far this shard's sessions were looked at since a table changed, and who is told at the end.
struct Scan {
    from: u32,
    to: Option<Told>,
}

/// What a slice of a scan may look at, in bytes of the tables' texts for each session; see `audience::properties`.
const SCANNED_BYTES_PER_SLICE: usize = 40_000;

impl Mapped {
    /// Whether its paths mean themselves, and nothing is left of what they meant before.
    fn is_idle(&self) -> bool {
        self.mapping.is_empty() && self.derived.is_empty() && self.listened.is_empty()
    }
}

impl SessionTrees {
    /// What is kept on account of sessions and changes under way; 0 once every session is gone and mail is delivered.
    pub fn len(&self) -> usize {
        self.sessions.len() + self.shared.len() + self.aliases.len() + self.waiting.len() + self.scans.len()
    }

    /// Whether paths of the session may mean other topics.
    #[inline]
    pub fn concern(&self, session: SessionKey) -> bool {
        !self.sessions.is_empty() && self.sessions.contains_key(&session)
    }

    /// `None` for a session whose paths mean themselves.
    pub fn mapping_of(&self, session: SessionKey) -> Option<&Rc<Mapping>> {
        if self.sessions.is_empty() { None } else { self.sessions.get(&session).map(|mapped| &mapped.mapping) }
    }

    /// The session has this mapping from now on.
    fn set(&mut self, session: SessionKey, mapping: Mapping) {
        let mapping = match self.shared.get(&mapping) {
            Some(shared) => shared.clone(),
            None => {
                let mapping = Rc::new(mapping);
                self.shared.insert(mapping.clone());
                mapping
            }
        };
        match self.sessions.get_mut(&session) {
            Some(mapped) => {
                let old = std::mem::replace(&mut mapped.mapping, mapping);
                self.give_up(old);
            }
            None => _ = self.sessions.insert(session, Mapped { mapping, derived: Vec::new(), listened: Vec::new() }),
        }
    }

    /// A session has the mapping no longer.
    fn give_up(&mut self, mapping: Rc<Mapping>) {
        // This one, and the one in the set.
        if Rc::strong_count(&mapping) == 2 {
            self.shared.remove(&mapping);
        }
    }

    /// An interest of a session was answered, or is not waited for any more; `is_empty` where it met nothing.
    pub fn note_answered(&mut self, ticket: u64, selector: &Selector, is_empty: bool) -> Answered {
        self.waiting.note(ticket, selector, is_empty)
    }

    /// A request to listen was answered; whether that was the last of its listener's selector.
    pub fn is_answered(&mut self, ticket: u64) -> bool {
        !matches!(self.waiting.take(ticket, true), Some(None))
    }

    /// Takes out what is kept of a session; gives the selectors that were derived for it.
    pub fn forget(&mut self, session: SessionKey) -> Vec<Selector> {
        let Some(mapped) = self.sessions.remove(&session) else { return Vec::new() };
        self.give_up(mapped.mapping);
        mapped.derived.into_iter().map(|(selector, _)| selector).collect()
    }
}

impl Audience {
    /// Looks up anew what the session's paths mean: it has begun, its properties have changed, or a table has.
    pub fn remap(&mut self, desk: &mut Desk, key: SessionKey) {
        if self.trees.tables.is_empty() && !self.trees.concern(key) {
            return;
        }
        if self.session(key).is_none_or(|session| session.mqtt.is_some() || session.life == Life::Shared) {
            return;
        }
        let properties = Properties::of(self, desk, key);
        let mapping = self.trees.tables.mapping_of(|filter| filter.matches(|name| properties.value(name)));
        let nothing = Mapping::default();
        let before = self.trees.mapping_of(key).map_or(&nothing, |mapping| mapping);
        if mapping == *before {
            return;
        }
        let (changed, branches) = (before.changes(&mapping), before.changed_branches(&mapping));
        self.trees.set(key, mapping);
        self.review_remapped(desk, key, &branches);
        self.rederive(desk, key, &changed);
    }

    /// The path of the topic that a session's path means.
    pub fn resolve<'p>(&self, session: SessionKey, path: &'p str) -> Cow<'p, str> {
        self.trees.mapping_of(session).map_or(Cow::Borrowed(path), |mapping| mapping.resolve(path))
    }

    /// Whether sessions are still to be looked at.
    pub fn has_tree_scans(&self) -> bool {
        !self.trees.scans.is_empty()
    }

    /// Goes on with the scan that has waited longest: so many sessions a slice.
    pub fn run_tree_scans(&mut self, desk: &mut Desk) {
        let Some(scan) = self.trees.scans.pop_front() else { return };
        let looked_max = (SCANNED_BYTES_PER_SLICE / self.trees.tables.bytes().max(1)).clamp(1, 256);
        let (keys, next) = self.sessions.slab.keys_from(scan.from, looked_max);
        for key in keys {
            self.remap(desk, key);
        }
        match next {
            Some(from) => self.trees.scans.push_back(Scan { from, ..scan }),
            None => tell_carried_out(desk, scan.to),
        }
    }

    /// The session has nothing left to be brought in line: if its paths mean themselves again, nothing is kept of it.
    pub(super) fn forget_mapping(&mut self, key: SessionKey) {
        let is_over = self.trees.sessions.get(&key).is_some_and(|mapped| mapped.is_idle());
        let is_under_way =
            || self.sessions.get(key).and_then(|session| session.extras.as_ref()).is_some_and(|extras| !extras.sweeps.is_empty());
        if is_over && !is_under_way() {
            self.trees.forget(key);
        }
    }
}
