//! What topic views cost: to parse, and to evaluate for one update of a source.
//!
//! `cargo bench --no-default-features --bench views` prints the median and the worst batch of each in nanoseconds, then how
//! long hostile views over a document of 1 MB take until the bound on work ends them. `--test` runs each few times;
//! `--only <words>` those whose name has the words, a thousand times: for `valgrind --tool=callgrind`.

use std::fmt::Write;
use std::hint::black_box;
use std::time::Instant;

use tidewire::surface::value::ValueType;
use tidewire::surface::view::evaluate::{Evaluation, EvaluationLimits, Evaluator, Input, Looked, Topics};
use tidewire::surface::view::{Definition, ViewLimits};

const BATCH: usize = 200;
/// The bar on a process of two conditions and one calculation.
const PROCESS_NS_MAX: u128 = 5_000;
const PATH_NS_MAX: u128 = 500;

/// Knows one topic.
struct Others(Vec<u8>);

impl Topics for Others {
    fn look(&mut self, path: &str) -> Looked<'_> {
        if path == "others/o1" { Looked::Value(ValueType::Json, &self.0) } else { Looked::Nothing }
    }
}

struct Bench {
    batches: usize,
    only: Option<String>,
}

impl Bench {
    fn is_wanted(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }

    /// Prints what one run takes; returns the median.
    fn measure(&self, name: &str, mut run: impl FnMut()) -> Option<u128> {
        if !self.is_wanted(name) {
            return None;
        }
        let mut batches: Vec<u128> = (0..self.batches)
            .map(|_| {
                let start = Instant::now();
                (0..BATCH).for_each(|_| run());
                start.elapsed().as_nanos() / BATCH as u128
            })
            .collect();
        batches.sort_unstable();
        println!("{name:<52} {:>10} {:>10}", batches[batches.len() / 2], batches[batches.len() - 1]);
        Some(batches[batches.len() / 2])
    }

    fn parse(&self, name: &str, text: &str) {
        self.measure(&format!("parse {name}, {} bytes", text.len()), || {
            black_box(Definition::parse(black_box(text), &ViewLimits::default()).expect("a view"));
        });
    }

    fn evaluate(&self, name: &str, text: &str, json: &str, references: usize) -> Option<u128> {
        let definition = Definition::parse(text, &ViewLimits::default()).unwrap_or_else(|error| panic!("{text}: {error}"));
        let (limits, mut evaluator, mut out) = (EvaluationLimits::default(), Evaluator::default(), Evaluation::default());
        let mut others = Others(document(8).into_bytes());
        self.measure(&format!("{name}, {} bytes", json.len()), || {
            let input = Input { path: "source/topic/o1", kind: ValueType::Json, value: Some(black_box(json.as_bytes())) };
            evaluator.evaluate(&definition, &input, &mut others, &limits, &mut out);
            assert_eq!((out.references.len(), &out.failure), (references, &None));
        })
    }

    /// Runs a view that is made to be slow, and says how it ended.
    fn hostile(&self, name: &str, text: &str, json: &str) {
        if !self.is_wanted(name) {
            return;
        }
        let parse_limits = ViewLimits::default();
        let definition = Definition::parse(text, &parse_limits).unwrap_or_else(|error| panic!("{name}: {error}"));
        let limits = EvaluationLimits { value_bytes_max: 2 * 1024 * 1024, ..EvaluationLimits::default() };
        let (mut evaluator, mut out) = (Evaluator::default(), Evaluation::default());
        let mut others = Others(json.as_bytes().to_vec());
        let input = Input { path: "source/topic/o1", kind: ValueType::Json, value: Some(json.as_bytes()) };
        let mut times: Vec<u128> = (0..self.batches.min(11))
            .map(|_| {
                let start = Instant::now();
                evaluator.evaluate(&definition, &input, &mut others, &limits, &mut out);
                start.elapsed().as_micros()
            })
            .collect();
        times.sort_unstable();
        let outcome = out.failure.as_ref().map_or("no failure".into(), |failure| failure.message.chars().take(60).collect::<String>());
        let (references, failures) = (out.references.len(), out.failures);
        println!(
            "{name:<40} {:>8} µs {:>8} µs  {references} references, {failures} failures: {outcome}",
            times[times.len() / 2],
            times[times.len() - 1]
        );
    }
}

/// An order of so many members beside those that the views use.
fn document(members: usize) -> String {
    let mut json = String::from(r#"{"id":"o1","quantity":12,"price":19.99,"state":"open","lines":["#);
    for index in 0..4 {
        let _ = write!(json, r#"{}{{"id":{index},"text":"line {index}"}}"#, if index > 0 { "," } else { "" });
    }
    json.push(']');
    for index in 0..members {
        let _ = write!(json, r#","member_{index}":"value of it""#);
    }
    json.push('}');
    json
}

/// About a megabyte of `item`, which is given its index, between `open` and `close`.
fn large(open: &str, item: impl Fn(usize) -> String, close: &str) -> String {
    let mut json = String::from(open);
    let mut index = 0;
    while json.len() < 1_000_000 {
        json.push_str(if index > 0 { "," } else { "" });
        json.push_str(&item(index));
        index += 1;
    }
    json + close
}

fn repeated(statement: impl Fn(usize) -> String, separator: &str, count: usize) -> String {
    (0..count).map(statement).collect::<Vec<_>>().join(separator)
}

fn ordinary(bench: &Bench, is_held: bool) {
    let order = document(32);
    let hold = |name: &str, median: Option<u128>, max: u128| {
        if let Some(median) = median.filter(|_| is_held) {
            assert!(median < max, "{name}: {median} ns are not less than {max}");
        }
    };
    let process = "map ?source// to open/<path(1)> process { if '/state = \"open\" and /quantity > 10' \
                   set(/total, calc '/quantity * /price' format 'scale=2') else continue }";
    bench.parse("a path", "map ?source// to open/<path(1)>");
    bench.parse("a process", process);
    bench.parse("many statements", &many_statements());
    hold("path", bench.evaluate("path", "map ?source// to open/<path(1)>", &order, 1), PATH_NS_MAX);
    bench.evaluate("scalar", "map ?source// to open/<scalar(/id)>", &order, 1);
    bench.evaluate("value", "map ?source// to open/<path(1)> as <value(/price)>", &order, 1);
    bench.evaluate("value, type DOUBLE", "map ?source// to open/<path(1)> as <value(/price)> type DOUBLE", &order, 1);
    hold("process", bench.evaluate("process", process, &order, 1), PROCESS_NS_MAX);
    bench.evaluate("filter", "map ?source// to open/<path(1)> process { if '/quantity > 10' continue }", &order, 1);
    let patch = r#"map ?source// to open/<path(1)> patch '[{"op":"replace","path":"/state","value":"shut"}]'"#;
    bench.evaluate("patch", patch, &order, 1);
    bench.evaluate("insert", "map ?source// to open/<path(1)> insert others/<scalar(/id)> key /price at /other", &order, 1);
    let hundred = format!("[{}]", repeated(|index| format!(r#"{{"id":"n{index}","price":{index}.25}}"#), ",", 100));
    bench.evaluate("expand of 100", "map ?source// to all/<expand('',/id)>", &hundred, 100);
    bench.evaluate(
        "expand of 100 with a calc",
        "map ?source// to all/<expand('',/id)> process { set(/p, calc '/price * 2') }",
        &hundred,
        100,
    );
}

fn many_statements() -> String {
    let statement = |index| format!("set(/target_{index:0100}, calc '/quantity * {index} + /price')");
    format!("map ?source// to open/<path(1)> process {{ {} }}", repeated(statement, "; ", 400))
}

fn hostile(bench: &Bench) {
    let wide = large("{", |index| format!(r#""m{index:05}":{index}"#), r#","last":1,"text":"x"}"#);
    let nested = format!(r#"{{"w":{wide},"l":[]}}"#);
    let flat = large("[", |_| "0".into(), "]");
    let empties = large("[", |_| "[]".into(), "]");
    // Without order, so that a regex that counts back has many states.
    let mut chance = 1_u64;
    let mut letter = || {
        chance = chance.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        if chance >> 63 == 0 { 'a' } else { 'b' }
    };
    let long = format!(r#"{{"t":"{}"}}"#, (0..900_000).map(|_| letter()).collect::<String>());
    let escapes = format!(r#"{{"t":"{}","u":1}}"#, r"\u0041".repeat(170_000));
    let zeros = format!(r#"{{"t":0.{}1,"u":1}}"#, "0".repeat(999_000));
    let deep = format!("{}{}{}", "[".repeat(100), flat, "]".repeat(100));
    let map = |rest: &str| format!("map ?source// to v {rest}");
    let sets = |statement: &dyn Fn(usize) -> String| map(&format!("process {{ {} }}", repeated(statement, "; ", 500)));

    bench.hostile(
        "conditions on an early member",
        &map(&format!("process {{ if '{}' continue }}", repeated(|_| "/m00000 = 2".into(), " or ", 250))),
        &wide,
    );
    bench.hostile("sets of new members", &sets(&|index| format!("set(/n{index:0100}, {index})")), &wide);
    bench.hostile("sets of copies of the whole", &sets(&|index| format!("set(/n{index}, /w)")), &nested);
    bench.hostile(
        "sets into copies of the whole",
        &sets(&|index| if index % 2 == 0 { format!("set(/n{index}, /w)") } else { format!("set(/n{}/x, 1)", index - 1) }),
        &nested,
    );
    bench.hostile(
        "sets into copies of an array",
        &sets(&|index| if index % 2 == 0 { format!("set(/{index}, /0)") } else { format!("set(/{}/0, 1)", index - 1) }),
        &format!("[{flat}]"),
    );
    bench.hostile("removes at the front", &sets(&|_| "remove(/0)".into()), &flat);
    bench.hostile("removes of members", &sets(&|index| format!("remove(/m{index:05})")), &wide);
    bench.hostile(
        "sums of an early member",
        &map(&format!("process {{ set(/s, calc '{}') }}", repeated(|_| "/m00000".into(), " + ", 250))),
        &wide,
    );
    bench.hostile("a large regex over a long text", &map("process { if '/t =~ \"(a|b|ab|ba){60}.*(a.*b.*){8}c\"' continue }"), &long);
    bench.hostile(
        "escapes compared",
        &map(&format!("process {{ if '{}' continue }}", repeated(|_| "/t != /t".into(), " or ", 100))),
        &escapes,
    );
    let compare = |text: &str| map(&format!("process {{ if '{}' continue }}", repeated(|_| text.into(), " or ", 250)));
    bench.hostile("long numbers compared", &compare("/t < /t"), &zeros);
    bench.hostile("long numbers added", &map(&format!("process {{ set(/s, calc '{}') }}", repeated(|_| "/t".into(), " + ", 250))), &zeros);
    let short = format!("{{\"t\":\"{}\"}}", &long[10..80_000]);
    bench.hostile("a regex over a text", &map("process { if '/t =~ [ab]*a[ab]{40}c[ab]*' continue }"), &short);
    bench.hostile("a regex over a long text", &map("process { if '/t =~ [ab]*a[ab]{40}c[ab]*' continue }"), &long);
    let add = |index: usize| format!(r#"{{"op":"add","path":"/n{index}","value":1}}"#);
    bench.hostile("patch that adds members", &map(&format!("patch '[{}]'", repeated(add, ",", 999))), &wide);
    let first = |_| r#"{"op":"add","path":"/0","value":1}"#.to_string();
    bench.hostile("patch that adds at the front", &map(&format!("patch '[{}]'", repeated(first, ",", 999))), &flat);
    let test = |_| r#"{"op":"test","path":"/m00000","value":1}"#.to_string();
    bench.hostile("patch that tests", &map(&format!("patch '[{}]'", repeated(test, ",", 999))), &wide);
    bench.hostile("inserts", &map(&repeated(|index| format!("insert others/<path(2)> key /last at /i{index}"), " ", 32)), &wide);
    bench.hostile("expand of numbers", "map ?source// to v/<expand()>", &flat);
    bench.hostile("expand that fails for each", "map ?source// to v/<expand()> as <value(/x)>", &flat);
    bench.hostile("expand onto one path", "map ?source// to v/<expand()>/<expand()>", &empties);
    bench.hostile("expand of members", "map ?source// to v/<expand()>", &wide);
    bench.hostile("expand in depth", &format!("map ?source// to v{}", "/<expand()>".repeat(30)), &deep);
    bench.hostile(
        "expand with a process",
        "map ?source// to v/<expand()> process { if '/x = 1' continue else set('', calc '1 / 3') }",
        &flat,
    );
    bench.hostile("large paths", &format!("map ?source// to {}", "<path(0)>".repeat(60)), &wide);
}

fn main() {
    let test = std::env::args().any(|argument| argument == "--test");
    let only = std::env::args().skip_while(|argument| argument != "--only").nth(1);
    let batches = if test || only.is_some() { 5 } else { 500 };
    let bench = Bench { batches, only };
    println!("{:<52} {:>10} {:>10}", "nanoseconds", "median", "worst");
    let is_held = !test && bench.only.is_none();
    ordinary(&bench, is_held);
    hostile(&bench);
}
