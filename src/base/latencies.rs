//! How long something took: since the start, and in the last whole interval.

use super::Time;
use hdrhistogram::Histogram;

/// How long an interval is.
pub const INTERVAL_MS: u64 = 10_000;

const INTERVAL_NS: u64 = INTERVAL_MS * 1_000_000;
const HIGHEST_NS: u64 = 60_000_000_000;

/// Nanoseconds, in histograms. The interval that goes on is recorded, and added to the rest when it is over: three histograms are held however much
/// there is to record, and recording costs as much as one.
#[derive(Clone, Debug)]
pub struct Latencies {
    /// Of all intervals before the one that goes on.
    earlier: Histogram<u64>,
    current: Histogram<u64>,
    last: Histogram<u64>,
    /// When the current interval began.
    began: Time,
}

impl Latencies {
    /// With so many significant digits.
    pub fn new(digits: u8, now: Time) -> Self {
        let empty = Histogram::new_with_bounds(1, HIGHEST_NS, digits).expect("the bounds are in order");
        Self { earlier: empty.clone(), current: empty.clone(), last: empty, began: now }
    }

    pub fn record(&mut self, ns: u64) {
        self.record_times(ns, 1);
    }

    /// As often as that.
    pub fn record_times(&mut self, ns: u64, times: u64) {
        self.current.saturating_record_n(ns.max(1), times);
    }

    /// Time passed: to be called now and then, and before the last interval is asked for.
    pub fn advance(&mut self, now: Time) {
        let over = now.since(self.began) / INTERVAL_NS;
        if over == 0 {
            return;
        }
        self.earlier.add(&self.current).expect("the bounds are the same");
        std::mem::swap(&mut self.current, &mut self.last);
        self.current.reset();
        if over > 1 {
            // In the one that was over last nothing was recorded.
            self.last.reset();
        }
        self.began = Time(self.began.0 + over * INTERVAL_NS);
    }

    /// All since the start.
    pub fn total(&self) -> Histogram<u64> {
        let mut total = self.earlier.clone();
        total.add(&self.current).expect("the bounds are the same");
        total
    }

    /// The last whole interval.
    pub fn last(&self) -> &Histogram<u64> {
        &self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(latencies: &Latencies, total: &[u64], last: &[u64]) {
        let values = |histogram: &Histogram<u64>| histogram.iter_recorded().map(|step| step.value_iterated_to()).collect::<Vec<_>>();
        assert_eq!((values(&latencies.total()), values(latencies.last())), (total.to_vec(), last.to_vec()));
    }

    #[test]
    fn an_interval_is_told_when_it_is_over_and_until_the_next_is() {
        let second = |count: u64| Time(1 + count * 1_000_000_000);
        let mut latencies = Latencies::new(3, second(0));
        latencies.record(5);
        latencies.advance(second(9));
        latencies.record(0);
        check(&latencies, &[1, 5], &[]);
        latencies.advance(second(10));
        latencies.record(7);
        check(&latencies, &[1, 5, 7], &[1, 5]);
        latencies.advance(second(19));
        check(&latencies, &[1, 5, 7], &[1, 5]);
        latencies.advance(second(21));
        check(&latencies, &[1, 5, 7], &[7]);
        latencies.advance(second(30));
        check(&latencies, &[1, 5, 7], &[]);
        latencies.record(9);
        latencies.advance(second(55));
        check(&latencies, &[1, 5, 7, 9], &[]);
        latencies.advance(second(60));
        check(&latencies, &[1, 5, 7, 9], &[]);
    }
}
