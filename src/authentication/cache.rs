//! Answers that hold for a while, found by what was asked without keeping it.
//!
//! A key is a digest under a random secret of this run (HMAC-SHA-256), so neither a password nor anything that a table of common passwords could be held
//! against lies in memory without that secret. Bounded: the oldest goes first. All entries hold equally long.

use std::collections::VecDeque;

use aws_lc_rs::{hmac, rand};
use hashbrown::HashMap;

use crate::base::Time;

/// What an entry is found by.
pub type Digest = [u8; 32];

/// Makes digests. Those of another one are others.
pub struct Digester(hmac::Key);

impl Digester {
    pub fn new() -> Self {
        let mut secret = zeroize::Zeroizing::new([0; 32]);
        rand::fill(&mut *secret).expect("the operating system gives random bytes");
        Self(hmac::Key::new(hmac::HMAC_SHA256, &*secret))
    }

    /// Where one part ends and the next begins counts too.
    pub fn digest(&self, parts: &[&[u8]]) -> Digest {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        context.sign().as_ref().try_into().expect("a digest of SHA-256 has 32 bytes")
    }
}

pub struct Cache<V> {
    hold_ms: u64,
    entries_max: usize,
    entries: HashMap<Digest, (Time, V)>,
    /// The entries, those that end first in front.
    order: VecDeque<(Time, Digest)>,
}

impl<V: Clone> Cache<V> {
    /// Holds nothing if either is 0.
    pub fn new(hold_ms: u64, entries_max: usize) -> Self {
        Self { hold_ms, entries_max, entries: HashMap::new(), order: VecDeque::new() }
    }

    pub fn find(&mut self, digest: &Digest, now: Time) -> Option<V> {
        self.drop_ended(now);
        self.entries.get(digest).map(|(_, value)| value.clone())
    }

    pub fn insert(&mut self, digest: Digest, value: V, now: Time) {
        if self.hold_ms == 0 || self.entries_max == 0 {
            return;
        }
        self.drop_ended(now);
        let end = now.after_ms(self.hold_ms);
        // One that is there already goes on with its new end; its old place in the order is passed over.
        self.entries.insert(digest, (end, value));
        self.order.push_back((end, digest));
        while self.order.len() > self.entries_max {
            self.drop_first();
        }
    }

    fn drop_ended(&mut self, now: Time) {
        while self.order.front().is_some_and(|(end, _)| *end <= now) {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        let Some((end, digest)) = self.order.pop_front() else { return };
        if self.entries.get(&digest).is_some_and(|entry| entry.0 == end) {
            self.entries.remove(&digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::default().after_ms(ms)
    }

    #[test]
    fn an_entry_holds_for_its_time() {
        let mut cache = Cache::new(10, 4);
        cache.insert([1; 32], 'a', at(0));
        assert_eq!(cache.find(&[1; 32], at(9)), Some('a'));
        assert_eq!(cache.find(&[1; 32], at(10)), None);
        assert_eq!(cache.find(&[2; 32], at(0)), None);
    }

    #[test]
    fn a_newer_answer_holds_longer() {
        let mut cache = Cache::new(10, 4);
        cache.insert([1; 32], 'a', at(0));
        cache.insert([1; 32], 'b', at(5));
        assert_eq!(cache.find(&[1; 32], at(12)), Some('b'));
        assert_eq!(cache.find(&[1; 32], at(15)), None);
        assert!(cache.entries.is_empty() && cache.order.is_empty());
    }

    #[test]
    fn it_is_bounded_and_the_oldest_goes() {
        let mut cache = Cache::new(1000, 2);
        (1..=3).for_each(|number| cache.insert([number; 32], number, at(u64::from(number))));
        assert_eq!([1, 2, 3].map(|number| cache.find(&[number; 32], at(5))), [None, Some(2), Some(3)]);
        assert_eq!(cache.entries.len(), 2);
    }

    #[test]
    fn nothing_is_held_where_the_time_or_the_number_is_0() {
        for (hold_ms, entries_max) in [(0, 2), (2, 0)] {
            let mut cache = Cache::new(hold_ms, entries_max);
            cache.insert([1; 32], 'a', at(0));
            assert_eq!(cache.find(&[1; 32], at(0)), None);
        }
    }

    #[test]
    fn parts_that_join_to_the_same_bytes_have_other_digests() {
        let digester = Digester::new();
        assert_eq!(digester.digest(&[b"ab", b"c"]), digester.digest(&[b"ab", b"c"]));
        assert_ne!(digester.digest(&[b"ab", b"c"]), digester.digest(&[b"a", b"bc"]));
        assert_ne!(digester.digest(&[b"ab"]), Digester::new().digest(&[b"ab"]));
    }
}
