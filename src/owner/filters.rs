//! How many sessions of all shards match the filters that policies of this shard's topics ask for.
//!
//! A filter is asked for once, however many policies have it, and again in each period. Shards answer when they come to it, and a filter is not
//! asked for again before all have: many filters on many sessions make the counts late, not the server.

use crate::base::{Key, Slab, Time};
use crate::topic::session_filter::SessionFilter;
use hashbrown::HashMap;
use std::collections::BTreeSet;

/// How long between two counts. They begin together at its multiples, so that a shard counts for many filters at once.
const COUNT_MS: u64 = 2_000;

/// The most filters that a tick asks for, so that the mail of one turn stays short; the rest wait for the next.
const ASKED_PER_TICK_MAX: usize = 256;

/// The filters that policies of this shard ask for.
#[derive(Default)]
pub struct FilterCounts {
    counts: Slab<FilterCount>,
    keys: HashMap<SessionFilter, Key>,
    /// When each filter that is not being counted is counted next.
    due: BTreeSet<(Time, Key)>,
}

struct FilterCount {
    filter: SessionFilter,
    /// When it is counted next; `None` while it is being counted.
    due: Option<Time>,
    /// The policies that know the last count.
    told: BTreeSet<Key>,
    /// The policies that will know the count under way.
    asking: BTreeSet<Key>,
    /// The policies that will know the next count only: a session that came behind the question is not in its answer, and may have made the policy.
    new: BTreeSet<Key>,
    shards_missing: u16,
    total: u64,
    /// Whether the last count found any session.
    had_any: Option<bool>,
}

/// A count that is complete, and the policies to which it is news.
pub struct Counted {
    pub filter: SessionFilter,
    pub total: u64,
    pub policies: BTreeSet<Key>,
}

impl FilterCounts {
    pub fn join(&mut self, filter: &SessionFilter, policy: Key, now: Time) {
        let key = *self.keys.entry(filter.clone()).or_insert_with(|| {
            let none = BTreeSet::new;
            let count = FilterCount {
                filter: filter.clone(),
                due: Some(now),
                told: none(),
                asking: none(),
                new: none(),
                shards_missing: 0,
                total: 0,
                had_any: None,
            };
            let key = self.counts.insert(count);
            self.due.insert((now, key));
            key
        });
        self.counts.get_mut(key).expect("a filter that is asked for has a count").new.insert(policy);
    }

    pub fn leave(&mut self, filter: &SessionFilter, policy: Key) {
        // A policy that names the filter twice has left it already.
        let Some(key) = self.keys.get(filter).copied() else { return };
        let count = self.counts.get_mut(key).expect("a filter that is asked for has a count");
        let mut held = [&mut count.told, &mut count.asking, &mut count.new];
        held.iter_mut().for_each(|policies| _ = policies.remove(&policy));
        if held.iter().all(|policies| policies.is_empty()) {
            count.due.map(|due| self.due.remove(&(due, key)));
            self.keys.remove(filter);
            self.counts.remove(key);
        }
    }

    /// Begins to count what is due, as far as a tick may.
    pub fn begin(&mut self, now: Time, shards: u16) -> Vec<(Key, SessionFilter)> {
        let due: Vec<(Time, Key)> = self.due.iter().take_while(|(due, _)| *due <= now).take(ASKED_PER_TICK_MAX).copied().collect();
        let mut begun = Vec::new();
        for (time, key) in due {
            self.due.remove(&(time, key));
            let count = self.counts.get_mut(key).expect("a filter takes its time along");
            count.due = None;
            (count.shards_missing, count.total) = (shards, 0);
            count.asking.append(&mut count.new);
            begun.push((key, count.filter.clone()));
        }
        begun
    }

    /// One shard's share; the count if it was the last.
    pub fn add(&mut self, key: Key, share: u64, now: Time) -> Option<Counted> {
        // An answer for a filter that nobody asks for any more.
        let count = self.counts.get_mut(key)?;
        count.total += share;
        count.shards_missing -= 1;
        if count.shards_missing > 0 {
            return None;
        }
        let due = next_count(now);
        count.due = Some(due);
        self.due.insert((due, key));
        let mut policies = std::mem::take(&mut count.asking);
        // Policies depend on whether there are any, not on how many.
        if count.had_any.replace(count.total > 0) == Some(count.total > 0) {
            count.told.extend(&policies);
        } else {
            policies.append(&mut count.told);
            count.told.clone_from(&policies);
        }
        Some(Counted { filter: count.filter.clone(), total: count.total, policies })
    }
}

fn next_count(now: Time) -> Time {
    let period_ns = Time(0).after_ms(COUNT_MS).0;
    Time((now.0 / period_ns + 1) * period_ns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SlabKey;
    use crate::topic::session_filter::SessionFilterLimits;

    fn filter(text: &str) -> SessionFilter {
        SessionFilter::parse(text, SessionFilterLimits::default()).unwrap()
    }

    fn policy(index: u32) -> Key {
        Key::new(index, 0)
    }

    /// Counts on two shards all that is due.
    fn count(filters: &mut FilterCounts, now: Time, shares: [u64; 2]) -> Vec<(u64, Vec<u32>)> {
        let mut counted = Vec::new();
        for (key, _) in filters.begin(now, 2) {
            assert!(filters.add(key, shares[0], now).is_none(), "a shard is missing");
            let Counted { total, policies, .. } = filters.add(key, shares[1], now).unwrap();
            counted.push((total, policies.iter().map(|key| key.index()).collect()));
        }
        counted
    }

    fn seconds(count: u64) -> Time {
        Time(0).after_ms(count * 1000)
    }

    #[test]
    fn a_filter_is_counted_once_however_many_policies_have_it() {
        let mut filters = FilterCounts::default();
        (0..1000).for_each(|index| filters.join(&filter("has a"), policy(index), seconds(1)));
        assert_eq!(filters.begin(seconds(1), 2).len(), 1);
        filters.join(&filter("has a"), policy(1000), seconds(1));
        assert_eq!(filters.begin(seconds(9), 2).len(), 0, "it is being counted");
    }

    #[test]
    fn a_count_is_news_to_all_if_there_was_none_or_any_before_and_else_to_new_policies() {
        let mut filters = FilterCounts::default();
        filters.join(&filter("has a"), policy(1), seconds(0));
        assert_eq!(count(&mut filters, seconds(0), [1, 2]), [(3, vec![1])]);
        assert_eq!(count(&mut filters, seconds(1), [1, 2]), [], "it is not time yet");
        assert_eq!(count(&mut filters, seconds(2), [1, 0]), [(1, vec![])]);
        filters.join(&filter("has a"), policy(2), seconds(3));
        assert_eq!(count(&mut filters, seconds(4), [0, 2]), [(2, vec![2])]);
        assert_eq!(count(&mut filters, seconds(6), [0, 0]), [(0, vec![1, 2])]);
        assert_eq!(count(&mut filters, seconds(8), [0, 0]), [(0, vec![])]);
        assert_eq!(count(&mut filters, seconds(10), [0, 1]), [(1, vec![1, 2])]);
    }

    #[test]
    fn a_policy_that_comes_behind_the_question_waits_for_the_next_count() {
        let mut filters = FilterCounts::default();
        filters.join(&filter("has a"), policy(1), seconds(0));
        let (key, _) = filters.begin(seconds(0), 1).remove(0);
        filters.join(&filter("has a"), policy(2), seconds(0));
        assert_eq!(filters.add(key, 0, seconds(0)).unwrap().policies, [policy(1)].into());
        let (key, _) = filters.begin(seconds(2), 1).remove(0);
        assert_eq!(filters.add(key, 0, seconds(2)).unwrap().policies, [policy(2)].into());
    }

    #[test]
    fn nothing_is_left_of_a_filter_that_no_policy_has() {
        let mut filters = FilterCounts::default();
        for index in [1, 2] {
            filters.join(&filter("has a"), policy(index), seconds(0));
        }
        let (key, _) = filters.begin(seconds(0), 1).remove(0);
        filters.leave(&filter("has a"), policy(1));
        filters.leave(&filter("has a"), policy(2));
        assert!(filters.add(key, 0, seconds(0)).is_none(), "its count is not wanted any more");
        filters.join(&filter("has a"), policy(3), seconds(1));
        assert!(filters.add(key, 0, seconds(1)).is_none(), "nor for a filter of the same text");
        filters.leave(&filter("has a"), policy(3));
        assert!(filters.keys.is_empty() && filters.due.is_empty() && filters.counts.len() == 0);
    }

    #[test]
    fn a_tick_asks_for_so_many_filters_and_the_next_for_others() {
        let mut filters = FilterCounts::default();
        for index in 0..600 {
            filters.join(&filter(&format!("has a{index}")), policy(index), seconds(0));
        }
        let mut asked = BTreeSet::new();
        for most in [ASKED_PER_TICK_MAX, ASKED_PER_TICK_MAX, 600 - 2 * ASKED_PER_TICK_MAX, 0] {
            let begun = filters.begin(seconds(0), 1);
            assert_eq!(begun.len(), most);
            asked.extend(begun.iter().map(|(key, _)| *key));
        }
        assert_eq!(asked.len(), 600);
    }
}
