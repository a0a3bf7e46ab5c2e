//! The walks under way: in turn, and by what they are for.
//!
//! An interest or a listener that ends takes its walks along. They are found by its selector, and their turns pass.

use super::walk::Walk;
use crate::base::{IdMap, ShardIndex};
use crate::mail::{ListenerKind, Question};
use crate::topic::selector::{Selector, SelectorLimits};
use hashbrown::HashMap;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What a walk goes on for only as long as that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    Interest,
    Topics,
    Subscribers,
}

impl From<ListenerKind> for Purpose {
    fn from(kind: ListenerKind) -> Self {
        match kind {
            ListenerKind::Topics => Self::Topics,
            ListenerKind::Subscribers => Self::Subscribers,
        }
    }
}

impl Purpose {
    fn of(question: &Question) -> Option<Self> {
        match question {
            Question::Interest { .. } => Some(Self::Interest),
            Question::Listen { kind, .. } => Some((*kind).into()),
            Question::Remove { .. } | Question::Fetch(_) | Question::Query { .. } | Question::Views { .. } => None,
        }
    }
}

/// See the module.
pub struct Walks {
    held: IdMap<u64, Walk>,
    /// Whose turn it is, by number. Those that have ended are passed over, once each.
    queue: VecDeque<u64>,
    /// Walks for listeners that wait until what they told is read.
    waiting: BTreeMap<(ShardIndex, u64), u64>,
    by_purpose: HashMap<(Purpose, ShardIndex, Selector), BTreeSet<u64>>,
    newest: u64,
    /// Selects every topic.
    pub everything: Selector,
}

impl Walks {
    pub fn new(limits: SelectorLimits) -> Self {
        let everything = Selector::parse("?.*//", limits).expect("it is a selector of a few bytes");
        let (held, queue, waiting) = (IdMap::default(), VecDeque::new(), BTreeMap::new());
        Self { held, queue, waiting, by_purpose: HashMap::new(), newest: 0, everything }
    }

    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Those that can go on.
    pub fn active(&self) -> usize {
        self.held.len() - self.waiting.len()
    }

    /// A walk begins behind the others.
    pub fn push(&mut self, walk: Walk) {
        self.newest += 1;
        let number = self.newest;
        if let Some(purpose) = Purpose::of(&walk.question) {
            self.by_purpose.entry((purpose, walk.from, walk.selector.clone())).or_default().insert(number);
        }
        self.put_back(number, walk);
    }

    /// Takes the next out. It is put back, or it waits, or it is done.
    pub fn pop(&mut self) -> Option<(u64, Walk)> {
        loop {
            let number = self.queue.pop_front()?;
            if let Some(walk) = self.held.remove(&number) {
                return Some((number, walk));
            }
        }
    }

    pub fn put_back(&mut self, number: u64, walk: Walk) {
        self.held.insert(number, walk);
        self.queue.push_back(number);
    }

    /// It goes on when its listener has read.
    pub fn wait(&mut self, number: u64, walk: Walk) {
        self.waiting.insert((walk.from, walk.ticket), number);
        self.held.insert(number, walk);
    }

    pub fn resume(&mut self, from: ShardIndex, ticket: u64) {
        // Nobody may listen any more.
        self.queue.extend(self.waiting.remove(&(from, ticket)));
    }

    /// A walk that was taken out has come to its end.
    pub fn done(&mut self, number: u64, walk: &Walk) {
        let Some(purpose) = Purpose::of(&walk.question) else { return };
        let key = (purpose, walk.from, walk.selector.clone());
        let numbers = self.by_purpose.get_mut(&key).expect("a walk is found by its purpose until it ends");
        numbers.remove(&number);
        if numbers.is_empty() {
            self.by_purpose.remove(&key);
        }
    }

    pub fn has(&self, purpose: Purpose, from: ShardIndex, selector: &Selector) -> bool {
        self.by_purpose.contains_key(&(purpose, from, selector.clone()))
    }

    /// Takes out all that are for this.
    pub fn end(&mut self, purpose: Purpose, from: ShardIndex, selector: &Selector) -> Vec<Walk> {
        let numbers = self.by_purpose.remove(&(purpose, from, selector.clone())).unwrap_or_default();
        let walks: Vec<Walk> = numbers.iter().filter_map(|number| self.held.remove(number)).collect();
        for walk in &walks {
            self.waiting.remove(&(walk.from, walk.ticket));
        }
        walks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(text: &str) -> Selector {
        Selector::parse(text, SelectorLimits::default()).unwrap()
    }

    fn walk(ticket: u64, question: Question, text: &str) -> Walk {
        Walk::new(ShardIndex(0), ticket, question, selector(text))
    }

    fn tickets(walks: &[Walk]) -> Vec<u64> {
        walks.iter().map(|walk| walk.ticket).collect()
    }

    #[test]
    fn what_ends_takes_its_own_walks_along_and_no_others() {
        let mut walks = Walks::new(SelectorLimits::default());
        let interest = |text: &str| Question::Interest { selector: text.into() };
        let listen = |text: &str| Question::Listen { kind: ListenerKind::Topics, selector: text.into() };
        for (ticket, text) in [(1, "?a//"), (2, "?b//"), (3, "?a//")] {
            walks.push(walk(ticket, interest(text), text));
        }
        walks.push(walk(4, listen("?a//"), "?a//"));
        let from = ShardIndex(0);
        assert_eq!(tickets(&walks.end(Purpose::Interest, from, &selector("?a//"))), [1, 3]);
        assert!(!walks.has(Purpose::Interest, from, &selector("?a//")) && walks.has(Purpose::Interest, from, &selector("?b//")));
        let (number, second) = walks.pop().expect("one is passed over");
        assert_eq!((second.ticket, walks.active()), (2, 1));
        walks.done(number, &second);
        let (number, listening) = walks.pop().expect("another is passed over");
        walks.wait(number, listening);
        assert_eq!((walks.len(), walks.active(), walks.pop().is_none()), (1, 0, true));
        walks.resume(from, 4);
        assert_eq!((walks.active(), walks.end(Purpose::Topics, from, &selector("?a//")).len(), walks.len()), (1, 1, 0));
        assert!(walks.by_purpose.is_empty() && walks.waiting.is_empty() && walks.pop().is_none());
    }
}
