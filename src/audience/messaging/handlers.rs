//! Who handles requests, on any shard, by branch.

use crate::base::SessionId;
use crate::mail::messaging::RequestHandler;
use hashbrown::HashMap;
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
#[derive(Default)]
pub struct Handlers {
    by_branch: BTreeMap<Box<str>, BTreeSet<Rank>>,
    /// Each, with where it stands among those of its branch.
    known: HashMap<(SessionId, u64), (RequestHandler, Rank)>,
    /// Numbers the choices: among equals the one that was chosen longest ago comes first.
    choices: u64,
    /// How many want to know properties of askers.
    wanting: usize,
}

/// The least is chosen: who has the fewest requests of this shard under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    under_way: u64,
    chosen: u64,
    session: SessionId,
    number: u64,
}

impl Handlers {
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether any wants to know properties of askers.
    pub fn want_properties(&self) -> bool {
        self.wanting > 0
    }

    pub fn told(&mut self, handler: RequestHandler, handles: bool) {
        let key = (handler.session, handler.number);
        let mut under_way = 0;
        if let Some((old, rank)) = self.known.remove(&key) {
            // One that is moved still has what it was given.
            under_way = rank.under_way;
            let of_branch = self.by_branch.get_mut(&old.branch).expect("each is among those of its branch");
            of_branch.remove(&rank);
            self.wanting -= usize::from(!old.wanted.is_empty());
            if of_branch.is_empty() {
                self.by_branch.remove(&old.branch);
            }
        }
        if handles {
            self.wanting += usize::from(!handler.wanted.is_empty());
            let rank = Rank { under_way, chosen: self.choices, session: handler.session, number: handler.number };
            self.by_branch.entry(handler.branch.clone()).or_default().insert(rank);
            self.known.insert(key, (handler, rank));
        }
    }

    /// One of the nearest branch, but those that were tried. As many looks as the path has segments, and as were tried.
    pub fn choose(&self, path: &str, tried: &[(SessionId, u64)]) -> Option<&RequestHandler> {
        let mut end = path.len();
        loop {
            let of_branch = self.by_branch.get(&path[..end]);
            let found = of_branch.and_then(|ranks| ranks.iter().find(|rank| !tried.contains(&(rank.session, rank.number))));
            if let Some(rank) = found {
                return self.known.get(&(rank.session, rank.number)).map(|(handler, _)| handler);
            }
            end = path[..end].rfind('/')?;
        }
    }

    pub fn handler(&self, session: SessionId, number: u64) -> Option<&RequestHandler> {
        self.known.get(&(session, number)).map(|(handler, _)| handler)
    }

    /// A handler has one request of this shard more under way, or less.
    pub fn note(&mut self, session: SessionId, number: u64, change: i64) {
        let Some((handler, rank)) = self.known.get_mut(&(session, number)) else { return };
        let of_branch = self.by_branch.get_mut(&handler.branch).expect("each is among those of its branch");
        of_branch.remove(rank);
        rank.under_way = rank.under_way.saturating_add_signed(change);
        if change > 0 {
            self.choices += 1;
            rank.chosen = self.choices;
        }
        of_branch.insert(*rank);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handler(branch: &str, session: u64) -> RequestHandler {
        RequestHandler { branch: branch.into(), session: SessionId::from_number(session), number: 1, wanted: [].into() }
    }

    fn chosen(handlers: &Handlers, path: &str) -> Option<u64> {
        handlers.choose(path, &[]).map(|handler| handler.session.number())
    }

    #[test]
    fn the_nearest_branch_is_asked() {
        let mut handlers = Handlers::default();
        [("a", 1), ("a/b/c", 2)].into_iter().for_each(|(branch, session)| handlers.told(handler(branch, session), true));
        for (path, session) in [("a", Some(1)), ("a/b", Some(1)), ("a/b/c", Some(2)), ("a/b/c/d", Some(2)), ("ab", None), ("b/a", None)] {
            assert_eq!(chosen(&handlers, path), session, "{path}");
        }
        handlers.told(handler("a/b/c", 2), false);
        assert_eq!((chosen(&handlers, "a/b/c"), handlers.len()), (Some(1), 1));
        assert_eq!(handlers.choose("a/b", &[(SessionId::from_number(1), 1)]), None);
    }

    #[test]
    fn those_of_one_branch_share() {
        let mut handlers = Handlers::default();
        (1..=3).for_each(|session| handlers.told(handler("a", session), true));
        let mut counts = [0; 3];
        for _ in 0..30 {
            let session = chosen(&handlers, "a").unwrap();
            handlers.note(SessionId::from_number(session), 1, 1);
            counts[session as usize - 1] += 1;
        }
        assert_eq!(counts, [10; 3]);
        // Who answers gets more.
        (0..10).for_each(|_| handlers.note(SessionId::from_number(2), 1, -1));
        assert_eq!(chosen(&handlers, "a"), Some(2));
        // Who is moved away and back has what it had.
        handlers.told(handler("b", 1), true);
        handlers.told(handler("a", 1), true);
        (0..5).for_each(|_| handlers.note(SessionId::from_number(2), 1, 1));
        assert_eq!(chosen(&handlers, "a"), Some(2));
    }
}
