//! Which events of a session's record say something that still holds, of a message each.

use std::collections::{BTreeMap, BTreeSet};

/// By message the event that says so; the oldest of them is always at hand.
pub struct Notes<K> {
    by_message: BTreeMap<K, u64>,
    events: BTreeSet<u64>,
}

impl<K> Default for Notes<K> {
    fn default() -> Self {
        Self { by_message: BTreeMap::new(), events: BTreeSet::new() }
    }
}

impl<K: Ord> Notes<K> {
    /// No other message has the event.
    pub fn insert(&mut self, message: K, event: u64) {
        if let Some(before) = self.by_message.insert(message, event) {
            self.events.remove(&before);
        }
        self.events.insert(event);
    }

    pub fn remove(&mut self, message: &K) -> Option<u64> {
        let event = self.by_message.remove(message)?;
        self.events.remove(&event);
        Some(event)
    }

    pub fn get(&self, message: &K) -> Option<u64> {
        self.by_message.get(message).copied()
    }

    pub fn oldest(&self) -> Option<u64> {
        self.events.first().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_event_is_that_of_what_still_holds() {
        let mut notes = Notes::default();
        for (message, event) in [("a", 3), ("b", 5), ("c", 4)] {
            notes.insert(message, event);
        }
        assert_eq!((notes.oldest(), notes.remove(&"a"), notes.remove(&"a"), notes.oldest()), (Some(3), Some(3), None, Some(4)));
        notes.insert("c", 9);
        assert_eq!((notes.oldest(), notes.get(&"c")), (Some(5), Some(9)));
        assert_eq!((notes.remove(&"b"), notes.remove(&"c"), notes.oldest()), (Some(5), Some(9), None));
    }
}
