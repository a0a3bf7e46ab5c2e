//! What a listener still has to be told, each thing once, in the order in which it began to differ from what the listener knows.

use std::collections::{BTreeMap, VecDeque};

/// See the module.
pub struct Pending<K, V> {
    order: VecDeque<K>,
    by_key: BTreeMap<K, V>,
}

impl<K: Ord + Clone, V> Pending<K, V> {
    pub fn new() -> Self {
        Self { order: VecDeque::new(), by_key: BTreeMap::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// What is still to be told of the key; `first` is where the listener stands if that is nothing yet.
    pub fn note(&mut self, key: K, first: impl FnOnce() -> V) -> &mut V {
        let Self { order, by_key } = self;
        by_key.entry(key).or_insert_with_key(|key| {
            order.push_back(key.clone());
            first()
        })
    }

    pub fn pop(&mut self) -> Option<(K, V)> {
        let key = self.order.pop_front()?;
        let value = self.by_key.remove(&key).expect("what has a place is there");
        Some((key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_once_where_it_came_first() {
        let mut pending = Pending::new();
        for (key, value) in [(2, 'a'), (1, 'b'), (2, 'c')] {
            let held = pending.note(key, || value);
            assert_eq!(*held, if key == 2 { 'a' } else { 'b' });
        }
        assert_eq!([pending.pop(), pending.pop(), pending.pop()], [Some((2, 'a')), Some((1, 'b')), None]);
        assert!(pending.is_empty());
        assert_eq!(*pending.note(2, || 'd'), 'd');
    }
}
