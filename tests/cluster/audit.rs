//! What must be true, whatever happens; one auditor for all nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Add;

use tidewire::surface::cluster::place;
use tidewire::surface::consensus::{Committed, Fate, GroupId, NodeId};

use crate::receiver::{Receiver, name_of};

/// A life of a node: from one start to the next.
pub type Life = (NodeId, u64);

#[derive(Default)]
pub struct Audit {
    /// What was committed at each index, without tickets.
    committed: BTreeMap<(GroupId, u64), Option<Vec<u8>>>,
    void: BTreeSet<(GroupId, u64)>,
    /// The digest of the state after each index, and how many entries it has.
    states: BTreeMap<(GroupId, u64), (u64, usize)>,
    names: BTreeSet<u64>,
    leaders: BTreeMap<(GroupId, u64), NodeId>,
    proposed: BTreeMap<u64, Proposed>,
    /// What is not settled, by who proposed it.
    open: BTreeMap<(Life, u64), u64>,
    pub figures: Figures,
}

struct Proposed {
    group: GroupId,
    is_stale: bool,
    is_refused: bool,
}

/// How often what the tests are about has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    pub acknowledged: u64,
    pub void: u64,
    pub not_committed: u64,
    pub unknown: u64,
    pub installed: u64,
    pub terms: u64,
    /// Questions of receivers.
    pub answered: u64,
}

impl Add for Figures {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self {
            acknowledged: self.acknowledged + more.acknowledged,
            void: self.void + more.void,
            not_committed: self.not_committed + more.not_committed,
            unknown: self.unknown + more.unknown,
            installed: self.installed + more.installed,
            terms: self.terms + more.terms,
            answered: self.answered + more.answered,
        }
    }
}

impl Audit {
    /// The entry `name` is proposed with a ticket of the same number. `is_stale` if it was judged in an older term than its node has led in.
    pub fn propose(&mut self, life: Life, group: GroupId, name: u64, is_stale: bool) {
        self.open.insert((life, name), name);
        self.proposed.insert(name, Proposed { group, is_stale, is_refused: false });
    }

    /// The queue was full: it is as if it had never been proposed.
    pub fn take_back(&mut self, life: Life, name: u64) {
        self.open.remove(&(life, name));
        self.proposed.get_mut(&name).unwrap().is_refused = true;
    }

    /// A node is told what is at `index`; `receiver` is its state with it.
    pub fn commit(&mut self, life: Life, group: GroupId, index: u64, committed: &Committed, receiver: &Receiver) {
        let (content, ticket) = match committed {
            Committed::Entry { bytes, ticket, .. } => (Some(bytes.to_vec()), *ticket),
            Committed::Void { ticket } => {
                self.void.insert((group, index));
                (None, *ticket)
            }
            Committed::Nothing => (None, None),
        };
        let is_void = matches!(committed, Committed::Void { .. });
        assert_eq!(is_void, self.void.contains(&(group, index)), "{group:?} {index}: void at one node is void at all");
        if let Some(bytes) = &content {
            let proposed = &self.proposed[&name_of(bytes)];
            assert_eq!(proposed.group, group, "an entry is committed in its group");
            assert!(!proposed.is_stale, "{group:?} {index}: what was judged in an older term is void");
            assert!(!proposed.is_refused, "{group:?} {index}: what was said not to be committed is committed");
            self.names.insert(name_of(bytes));
        }
        let before = self.committed.entry((group, index)).or_insert_with(|| content.clone());
        assert_eq!(*before, content, "{group:?} {index}: all nodes are told the same");
        let state = self.states.entry((group, index)).or_insert_with(|| digest(receiver));
        assert_eq!(*state, digest(receiver), "{group:?} {index}: all nodes come to the same");
        if let Some(ticket) = ticket {
            let name = self.settle(life, ticket);
            assert!(content.is_none_or(|bytes| name_of(&bytes) == name), "a ticket is its entry's");
            if is_void {
                self.figures.void += 1;
                self.proposed.get_mut(&name).unwrap().is_refused = true;
            } else {
                self.figures.acknowledged += 1;
            }
        }
    }

    pub fn install(&mut self, group: GroupId, receiver: &Receiver) {
        // A snapshot says of which index it is, not of how many parts that has.
        let (_, state) = self.states.range((group, 0)..=(group, receiver.last.unwrap())).next_back().unwrap();
        assert_eq!(*state, digest(receiver), "{group:?}: a snapshot is the state at its index");
        self.figures.installed += 1;
    }

    pub fn lose(&mut self, life: Life, ticket: u64, fate: Fate) {
        let name = self.settle(life, ticket);
        match fate {
            Fate::NotCommitted => {
                self.figures.not_committed += 1;
                self.proposed.get_mut(&name).unwrap().is_refused = true;
                assert!(!self.names.contains(&name), "what is said not to be committed is not");
            }
            Fate::Unknown => self.figures.unknown += 1,
        }
    }

    pub fn lead(&mut self, (node, _): Life, group: GroupId, term: u64) {
        let leader = *self.leaders.entry((group, term)).or_insert(node);
        assert_eq!(leader, node, "{group:?}: term {term} has one leader");
        self.figures.terms = self.leaders.len() as u64;
    }

    /// The node is no more; nobody is left to be told.
    pub fn end(&mut self, life: Life) {
        self.open.retain(|(of, _), _| *of != life);
    }

    pub fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// After all has come to rest.
    pub fn rest<'a>(&self, receivers: impl Iterator<Item = (GroupId, &'a Receiver)>) {
        assert_eq!(self.open.keys().next(), None, "each proposal is settled");
        let lasts: BTreeMap<GroupId, u64> = self.committed.keys().copied().collect();
        for (group, receiver) in receivers {
            assert_eq!(receiver.next_index(), lasts[&group] / place(1, 0) + 1, "{group:?}: each node has all that was committed");
            assert_eq!(digest(receiver), self.states[&(group, lasts[&group])], "{group:?}: each node has the same");
        }
        assert_eq!(self.committed.values().flatten().count(), self.names.len(), "no entry is committed twice");
    }

    fn settle(&mut self, life: Life, ticket: u64) -> u64 {
        self.open.remove(&(life, ticket)).unwrap_or_else(|| panic!("ticket {ticket} of {life:?} is settled once, by who proposed it"))
    }
}

fn digest(receiver: &Receiver) -> (u64, usize) {
    (receiver.digest, receiver.entries.len())
}
