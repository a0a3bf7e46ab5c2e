//! Entries in the order in which they came: one alone takes no memory of its own, since most queues hold no more at a time.

use super::Entry;
use std::collections::VecDeque;

/// Room for so many entries is kept for those who are sent so many at a time; room for few, or for very many, is given back.
const KEPT: std::ops::RangeInclusive<usize> = 5..=256;

/// See the module.
#[derive(Default)]
pub(super) struct Lane {
    /// `None` where there are no entries.
    first: Option<Entry>,
    rest: VecDeque<Entry>,
}

impl Lane {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }

    pub(super) fn front(&self) -> Option<&Entry> {
        self.first.as_ref()
    }

    #[inline]
    pub(super) fn push_back(&mut self, entry: Entry) {
        match &self.first {
            None => self.first = Some(entry),
            Some(_) => self.rest.push_back(entry),
        }
    }

    #[inline]
    pub(super) fn pop_front(&mut self) -> Option<Entry> {
        let next = self.rest.pop_front();
        std::mem::replace(&mut self.first, next)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.first.iter().chain(&self.rest)
    }

    pub(super) fn retain(&mut self, mut stays: impl FnMut(&Entry) -> bool) {
        self.first.take_if(|first| !stays(first));
        self.rest.retain(stays);
        if self.first.is_none() {
            self.first = self.rest.pop_front();
        }
    }

    /// Nothing waits any more.
    #[inline]
    pub(super) fn clear(&mut self) {
        self.first = None;
        self.rest.clear();
        self.settle();
    }

    /// Nothing has come for long: an empty lane gives all back.
    pub(super) fn rest(&mut self) {
        if self.first.is_none() {
            self.rest = VecDeque::new();
        }
    }

    /// Gives back what an empty lane need not have.
    #[inline]
    pub(super) fn settle(&mut self) {
        if self.rest.is_empty() && self.rest.capacity() > 0 && !KEPT.contains(&self.rest.capacity()) {
            self.rest = VecDeque::new();
        }
    }
}

impl FromIterator<Entry> for Lane {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        let mut entries = entries.into_iter();
        Self { first: entries.next(), rest: entries.collect() }
    }
}

impl IntoIterator for Lane {
    type Item = Entry;
    type IntoIter = std::iter::Chain<std::option::IntoIter<Entry>, std::collections::vec_deque::IntoIter<Entry>>;

    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().chain(self.rest)
    }
}
