//! What arrived: latency as histograms, and whether anything is missing, twice or out of order.
//!
//! A stream is one topic as one subscriber sees it. Each stream's updates must count up by one.

use crate::clock::SECOND_NS;
use crate::payload::Stamp;
use hdrhistogram::Histogram;

/// Longer latencies are recorded as this one.
const LATENCY_NS_MAX: u64 = 600 * SECOND_NS;

/// The counts of one stage. All of updates, none of initial values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Received, warm-up included.
    pub delivered: u64,
    /// Skipped: a later one came first. Conflated or lost.
    pub skipped: u64,
    /// Published, and never followed by anything: the last value is missing.
    pub missing_last: u64,
    pub duplicates: u64,
    pub out_of_order: u64,
    /// Values that are not what was published.
    pub corrupt: u64,
}

/// One second of a stage, by time of arrival.
#[derive(Clone, Copy, Debug)]
pub struct Second {
    pub at_ns: u64,
    pub delivered: u64,
    pub p50_ns: u64,
    pub p99_ns: u64,
    pub max_ns: u64,
}

/// The record of one stage after another. `begin` a stage, `deliver` into it, `roll` every
/// second, `end` it.
pub struct Record {
    topics: usize,
    /// The last update seen of each stream, or one of the two marks below.
    last: Vec<u64>,
    counts: Counts,
    advanced: u64,
    measure_from_ns: u64,
    measure_length_ns: u64,
    last_measured_ns: u64,
    interval: Histogram<u64>,
    overall: Histogram<u64>,
    seconds: Vec<Second>,
}

/// Both marks are so large that no sequence follows on them.
const NOT_SUBSCRIBED: u64 = u64::MAX - 1;
/// Subscribed to what another process publishes: whatever comes first is right.
const UNSEEN: u64 = u64::MAX - 2;

/// What a stage came to.
#[derive(Clone)]
pub struct Measured {
    pub counts: Counts,
    pub latency: Histogram<u64>,
    pub seconds: Vec<Second>,
    /// From the start of measuring to the last measured arrival.
    pub span_ns: u64,
}

impl Measured {
    /// Measured deliveries a second.
    pub fn delivered_per_second(&self) -> f64 {
        if self.span_ns == 0 { 0.0 } else { self.latency.len() as f64 * SECOND_NS as f64 / self.span_ns as f64 }
    }
}

pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("these bounds are valid")
}

impl Record {
    pub fn new(subscribers: usize, topics: usize) -> Self {
        Self {
            topics,
            last: vec![NOT_SUBSCRIBED; subscribers * topics],
            counts: Counts::default(),
            advanced: 0,
            measure_from_ns: 0,
            measure_length_ns: 0,
            last_measured_ns: 0,
            interval: histogram(),
            overall: histogram(),
            seconds: Vec::new(),
        }
    }

    /// Expects a stream from update 1 on.
    pub fn expect(&mut self, subscriber: usize, topic: usize) {
        self.last[subscriber * self.topics + topic] = 0;
    }

    /// Expects a stream of unknown start.
    pub fn expect_any(&mut self, subscriber: usize, topic: usize) {
        self.last[subscriber * self.topics + topic] = UNSEEN;
    }

    /// Starts a stage: updates due within `length_ns` from `from_ns` are measured.
    pub fn begin(&mut self, from_ns: u64, length_ns: u64) {
        self.counts = Counts::default();
        self.advanced = 0;
        self.measure_from_ns = from_ns;
        self.measure_length_ns = length_ns;
        self.last_measured_ns = from_ns;
        self.interval.reset();
        self.overall.reset();
        self.seconds.clear();
    }

    /// How far all streams have come in this stage, summed.
    pub fn advanced(&self) -> u64 {
        self.advanced
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    pub fn stream(&self, subscriber: usize, topic: usize) -> usize {
        subscriber * self.topics + topic
    }

    /// Notes one value that arrived at `now_ns`.
    #[inline]
    pub fn deliver(&mut self, stream: usize, stamp: Stamp, now_ns: u64) {
        let last = self.last[stream];
        if stamp.sequence != last.wrapping_add(1) && !self.deliver_odd(stream, last, stamp.sequence) {
            return;
        }
        self.last[stream] = stamp.sequence;
        self.counts.delivered += 1;
        self.advanced += 1;
        if stamp.due_ns.wrapping_sub(self.measure_from_ns) < self.measure_length_ns {
            self.last_measured_ns = now_ns;
            self.interval.saturating_record(now_ns.saturating_sub(stamp.due_ns));
        }
    }

    /// A value that is not its stream's next one; whether it goes on from here.
    #[cold]
    fn deliver_odd(&mut self, stream: usize, last: u64, sequence: u64) -> bool {
        match last {
            UNSEEN => return true,
            NOT_SUBSCRIBED => self.counts.corrupt += 1,
            0 if sequence == 0 => {}
            _ if sequence == last => self.counts.duplicates += 1,
            _ if sequence < last => self.counts.out_of_order += 1,
            _ => {
                debug_assert!(stream < self.last.len());
                self.counts.skipped += sequence - last - 1;
                self.advanced += sequence - last - 1;
                return true;
            }
        }
        false
    }

    pub fn deliver_corrupt(&mut self) {
        self.counts.corrupt += 1;
    }

    /// Ends a second at `now_ns` and returns it.
    pub fn roll(&mut self, now_ns: u64) -> Second {
        let second = Second {
            at_ns: now_ns.saturating_sub(self.measure_from_ns),
            delivered: self.interval.len(),
            p50_ns: self.interval.value_at_quantile(0.5),
            p99_ns: self.interval.value_at_quantile(0.99),
            max_ns: self.interval.max(),
        };
        if second.delivered > 0 {
            self.overall.add(&self.interval).expect("both histograms have the same bounds");
            self.interval.reset();
            self.seconds.push(second);
        }
        second
    }

    /// Ends the stage. `published(topic)` is the last update of each topic, where that is known.
    pub fn end(&mut self, now_ns: u64, published: impl Fn(usize) -> Option<u64>) -> Measured {
        self.roll(now_ns);
        for (stream, last) in self.last.iter_mut().enumerate() {
            let Some(published) = published(stream % self.topics) else { break };
            if *last < published {
                self.counts.missing_last += published - *last;
                // The next stage does not count these again.
                *last = published;
            }
        }
        Measured {
            counts: self.counts,
            latency: self.overall.clone(),
            seconds: std::mem::take(&mut self.seconds),
            span_ns: self.last_measured_ns - self.measure_from_ns,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sequences: &[u64], published: u64, expected: Counts) {
        let mut record = Record::new(2, 2);
        record.expect(1, 1);
        record.begin(0, 1_000);
        let stream = record.stream(1, 1);
        for sequence in sequences {
            record.deliver(stream, Stamp { due_ns: 10, sequence: *sequence }, 30);
        }
        assert_eq!(record.end(2_000, |_| Some(published)).counts, expected, "{sequences:?}");
    }

    #[test]
    fn a_whole_stream_has_nothing_to_report() {
        check(&[0, 1, 2, 3], 3, Counts { delivered: 3, ..Counts::default() });
    }

    #[test]
    fn each_fault_is_counted_as_what_it_is() {
        check(&[0, 1, 4], 4, Counts { delivered: 2, skipped: 2, ..Counts::default() });
        check(&[1, 2], 5, Counts { delivered: 2, missing_last: 3, ..Counts::default() });
        check(&[1, 1, 2], 2, Counts { delivered: 2, duplicates: 1, ..Counts::default() });
        check(&[1, 3, 2], 3, Counts { delivered: 2, skipped: 1, out_of_order: 1, ..Counts::default() });
        check(&[], 2, Counts { missing_last: 2, ..Counts::default() });
    }

    #[test]
    fn a_stream_of_unknown_start_counts_from_its_first_value() {
        let mut record = Record::new(1, 1);
        record.expect_any(0, 0);
        record.begin(0, 1_000);
        for sequence in [70, 71, 73] {
            record.deliver(0, Stamp { due_ns: 10, sequence }, 30);
        }
        assert_eq!(record.end(2_000, |_| None).counts, Counts { delivered: 3, skipped: 1, ..Counts::default() });
    }

    #[test]
    fn only_updates_due_within_the_window_are_measured() {
        let mut record = Record::new(1, 1);
        record.expect(0, 0);
        record.begin(100, 100);
        for (sequence, due_ns) in [(1, 99), (2, 100), (3, 199), (4, 200)] {
            record.deliver(0, Stamp { due_ns, sequence }, 300);
        }
        let measured = record.end(300, |_| Some(4));
        assert_eq!((measured.latency.len(), measured.latency.max(), measured.span_ns), (2, 200, 200));
    }
}
