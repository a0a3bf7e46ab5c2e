//! What a time series of many retained events costs: to append to, to edit, to query and to subscribe to.
//!
//! `cargo bench --no-default-features --bench series` takes 1,000,000 retained events of 100 bytes, every tenth edited once in an
//! order of chance, and prints the median and the worst of each operation in nanoseconds. `--test` takes 10,000 and few rounds;
//! `--events <n>` any number.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;
use tidewire::surface::series::{Anchor, EVENT_BYTES, Query, QueryKind, QueryRange, Range, Series, Span};

const VALUE_BYTES: usize = 100;
/// What a query selects.
const SELECTED: u64 = 100;
const QUERY_NS_MAX: u128 = 1_000_000;

struct Bench {
    series: Series,
    author: Arc<str>,
    value: [u8; VALUE_BYTES],
    now_ms: u64,
    chance: u64,
    rounds: usize,
    /// The bar on a query's median; none where the bench only shows that it runs.
    query_ns_max: Option<u128>,
}

impl Bench {
    /// A series as it is after running for long: filled, and for as many events again at its limit.
    fn new(events: u64, rounds: usize, query_ns_max: Option<u128>) -> Self {
        let series = Series::new(Range { limit: Some(events), last_ms: None });
        let mut bench =
            Self { series, author: "bench".into(), value: [b'v'; VALUE_BYTES], now_ms: 1_000_000, chance: 1, rounds, query_ns_max };
        for count in 0..2 * events {
            bench.append();
            if count % 10 == 9 {
                bench.edit();
            }
        }
        bench
    }

    fn chance(&mut self, below: u64) -> u64 {
        self.chance = self.chance.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (self.chance >> 33) % below
    }

    /// The sequence of an original event.
    fn original(&mut self) -> u64 {
        let (first, next) = (self.series.first_kept(), self.series.next_sequence());
        loop {
            let sequence = first + self.chance(next - first);
            if self.series.event(sequence).is_some_and(|event| event.original.is_none()) {
                return sequence;
            }
        }
    }

    fn append(&mut self) {
        self.now_ms += 1;
        let appended = self.series.append(&self.value, None, &self.author, self.now_ms);
        black_box(appended.expect("the clock does not go back"));
    }

    fn edit(&mut self) {
        let original = self.original();
        self.edit_of(original);
    }

    fn edit_of(&mut self, original: u64) {
        let appended = self.series.edit(original, &self.value, &self.author, self.now_ms);
        black_box(appended.expect("the original is kept"));
    }

    /// Prints the times of one operation, of which `input` is chosen beforehand; returns the median.
    fn measure<T>(&mut self, name: &str, mut input: impl FnMut(&mut Self) -> T, mut operation: impl FnMut(&mut Self, T)) -> u128 {
        let mut times: Vec<u128> = (0..self.rounds)
            .map(|_| {
                let chosen = input(self);
                let start = Instant::now();
                operation(self, chosen);
                start.elapsed().as_nanos()
            })
            .collect();
        times.sort_unstable();
        let median = times[times.len() / 2];
        println!("{name:<44} {median:>10} {:>10} {:>10}", times[times.len() * 99 / 100], times[times.len() - 1]);
        median
    }

    fn query(&mut self, name: &str, input: impl Fn(&mut Self) -> Query) {
        let median = self.measure(name, input, |bench, query| {
            let selection = bench.series.query(&query, usize::MAX);
            assert!(selection.events.len() as u64 <= SELECTED);
            black_box(selection);
        });
        if let Some(max) = self.query_ns_max {
            assert!(median < max, "{name}: {median} ns are not less than {max}");
        }
    }
}

fn query(kind: QueryKind, anchor: Anchor, span: Span) -> Query {
    Query { kind, range: QueryRange { anchor, span }, edit_range: None, limit: SELECTED }
}

fn argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != name).nth(1)
}

fn main() {
    let test = std::env::args().any(|argument| argument == "--test");
    let events =
        argument("--events").map_or(if test { 10_000 } else { 1_000_000 }, |events| events.parse().expect("--events takes a number"));
    let mut bench = if test { Bench::new(events, 100, None) } else { Bench::new(events, 20_000, Some(QUERY_NS_MAX)) };
    let series = &bench.series;
    println!("{} events of {VALUE_BYTES} bytes, {} of them edits", series.len(), series.len() as u64 - events);
    println!("{} bytes counted, {EVENT_BYTES} for each event beside its value", series.bytes());
    println!("{:<44} {:>10} {:>10} {:>10}", "nanoseconds", "median", "99 %", "worst");

    bench.measure("append, one event goes", |_| (), |bench, ()| bench.append());
    bench.measure("edit", Bench::original, Bench::edit_of);
    use QueryKind::{AllEdits, LatestEdits, Values};
    let next = Span::NextEvents(SELECTED);
    bench.query("100 values by sequence", |bench| query(Values, Anchor::Sequence(bench.original()), next));
    bench.query("100 values by sequence, in an edit range", |bench| {
        let middle = bench.series.next_sequence() - events / 2;
        let edit_range = Some(QueryRange { anchor: Anchor::Start, span: Span::ToSequence(middle) });
        Query { edit_range, ..query(Values, Anchor::Sequence(bench.original()), next) }
    });
    bench.query("100 values by instant", |bench| query(Values, Anchor::Instant(bench.now_ms - bench.chance(events)), next));
    bench.query("100 values before an instant", |bench| {
        query(Values, Anchor::Instant(bench.now_ms - bench.chance(events)), Span::PreviousEvents(SELECTED))
    });
    bench.query("the latest 100 values", |_| query(Values, Anchor::LastEvents(SELECTED), Span::End));
    bench.query("the latest 100 of all values", |_| query(Values, Anchor::Start, Span::End));
    bench.query("edits of 100 originals", |bench| query(AllEdits, Anchor::Sequence(bench.original()), next));
    bench.query("latest edits of 100 originals", |bench| query(LatestEdits, Anchor::Sequence(bench.original()), next));
    bench.query("the latest 100 of all edits", |_| query(AllEdits, Anchor::Start, Span::End));
    let latest = Range { limit: Some(SELECTED), last_ms: None };
    bench.measure(
        "subscription to the latest 100",
        |_| (),
        |bench, ()| {
            black_box(bench.series.subscription(&latest, usize::MAX));
        },
    );
}
