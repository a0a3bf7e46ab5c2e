//! What a shard has proposed to a group and has not heard of, by number: what is lost waits until all before it is settled.

use super::Said;
use crate::shard::Fate;
use std::collections::{BTreeMap, VecDeque};

#[derive(Default)]
pub struct Outstanding {
    /// In the order in which they were proposed.
    numbers: VecDeque<u64>,
    /// Those of them that are lost.
    lost: BTreeMap<u64, Fate>,
}

impl Outstanding {
    pub fn push(&mut self, number: u64) {
        self.numbers.push_back(number);
    }

    /// The last ones, down to this number, were not taken.
    pub fn take_back(&mut self, number: u64) {
        while self.numbers.back().is_some_and(|last| *last >= number) {
            self.numbers.pop_back();
        }
    }

    /// The log has this one, as `said` says. Those before it that are not settled never come.
    pub fn settle(&mut self, number: u64, said: Said, out: &mut Vec<Said>) {
        while let Some(before) = self.numbers.front().copied().filter(|first| *first < number) {
            self.numbers.pop_front();
            let fate = self.lost.remove(&before).unwrap_or(Fate::Unknown);
            out.push(Said::Lost { last: before, fate });
        }
        if self.numbers.front() == Some(&number) {
            self.numbers.pop_front();
        }
        out.push(said);
        self.flush(out);
    }

    pub fn lose(&mut self, number: u64, fate: Fate, out: &mut Vec<Said>) {
        // One that has been settled is told no more.
        if self.numbers.front().is_some_and(|first| *first <= number) {
            self.lost.insert(number, fate);
            self.flush(out);
        }
    }

    fn flush(&mut self, out: &mut Vec<Said>) {
        while let Some(first) = self.numbers.front()
            && let Some(fate) = self.lost.remove(first)
        {
            out.push(Said::Lost { last: *first, fate });
            self.numbers.pop_front();
        }
    }
}
