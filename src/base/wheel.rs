//! A timer wheel: many coarse deadlines, one tick.
//!
//! It may hand out a key early (a deadline beyond the horizon) or twice (a deadline that moved): whoever owns the key
//! checks its real deadline and comes back if it lies ahead.

use super::{Key, Time};

const SLOT_NS: u64 = 100_000_000;
const SLOTS: u64 = 256;

pub struct Wheel<K = Key> {
    slots: Vec<Vec<K>>,
    /// The first slot not handed out yet, counted since time 0.
    next: u64,
}

impl<K> Wheel<K> {
    pub fn new(now: Time) -> Self {
        Self { slots: (0..SLOTS).map(|_| Vec::new()).collect(), next: now.0 / SLOT_NS }
    }

    pub fn insert(&mut self, deadline: Time, key: K) {
        let slot = (deadline.0.div_ceil(SLOT_NS)).clamp(self.next, self.next + SLOTS - 1);
        self.slots[(slot % SLOTS) as usize].push(key);
    }

    /// Moves every key whose slot has come to `due`.
    pub fn advance(&mut self, now: Time, due: &mut Vec<K>) {
        let last = now.0 / SLOT_NS;
        let first = self.next.max(last.saturating_sub(SLOTS - 1));
        for slot in first..=last {
            due.append(&mut self.slots[(slot % SLOTS) as usize]);
        }
        self.next = self.next.max(last + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SlabKey;

    #[test]
    fn a_key_comes_at_its_deadline_and_not_before() {
        let key: Key = SlabKey::new(1, 0);
        for ms in [1, 99, 100, 101, 5_000, 24_900] {
            let mut wheel = Wheel::new(Time(0));
            wheel.insert(Time(0).after_ms(ms), key);
            let mut due = Vec::new();
            let mut at = 0;
            while due.is_empty() {
                at += 1;
                wheel.advance(Time(0).after_ms(at), &mut due);
            }
            assert!(at >= ms && at < ms + 100, "deadline {ms} came at {at}");
        }
    }
}
