//! What deltas of real sequences weigh and cost, in each form that was considered.
//!
//! `cargo bench --bench delta` prints the table of `docs/deltas.md`: for each sequence of `benches/data` and each form the
//! payload in percent of plain, the bytes of a delta, and the time to make one (the median over all deltas).
//! `--test` makes each delta once and checks the bars on size; `--only <sequence>` and `--rounds <n>` narrow it down.

mod reference;

use flate2::{Compress, Compression};
use reference::{fossil, splice, vcdiff, zlib};
use std::io::Read;
use std::time::Instant;
use tidewire::surface::value::delta::Encoder;

const SEQUENCES: [&str; 14] = [
    "tick",
    "latency",
    "memory",
    "rates",
    "build",
    "interrupts",
    "log",
    "counters",
    "board",
    "sockets",
    "prose",
    "processes",
    "slabs",
    "processes-wide",
];

/// From the previous and the next value to the bytes of the delta.
type Encode = dyn FnMut(&[u8], &[u8]) -> usize;

struct Form {
    name: &'static str,
    encode: Box<Encode>,
}

fn form(name: &'static str, encode: impl FnMut(&[u8], &[u8]) -> usize + 'static) -> Form {
    Form { name, encode: Box::new(encode) }
}

fn forms() -> Vec<Form> {
    let mut encoder = Encoder::new();
    let mut out = Vec::new();
    let dictionary = |level| {
        let mut state = Compress::new(Compression::new(level), false);
        move |previous: &[u8], next: &[u8]| zlib::deflate_with(&mut state, previous, next).len()
    };
    let mut connection = Compress::new(Compression::new(6), false);
    vec![
        form("tidewire", move |previous, next| {
            out.clear();
            encoder.encode(previous, next, &mut out).map_or(next.len(), |_| out.len())
        }),
        form("deflate+dictionary 1", dictionary(1)),
        form("deflate+dictionary 6", dictionary(6)),
        form("deflate+dictionary 9", dictionary(9)),
        form("deflate stream 6", move |_, next| zlib::stream(&mut connection, next)),
        form("deflate alone 6", |_, next| zlib::deflate(next, 6).len()),
        form("vcdiff", |previous, next| vcdiff::encode(previous, next).len()),
        form("vcdiff, deflated", |previous, next| zlib::deflate(&vcdiff::encode(previous, next), 9).len()),
        form("fossil", |previous, next| fossil::encode(previous, next).len()),
        form("fossil, deflated", |previous, next| zlib::deflate(&fossil::encode(previous, next), 9).len()),
        form("splice", |previous, next| splice::encode(previous, next).len()),
        form("splice, deflated", |previous, next| zlib::deflate(&splice::encode(previous, next), 9).len()),
    ]
}

/// The versions of a sequence: `benches/data/README.md` has the layout.
fn load(name: &str) -> Vec<Vec<u8>> {
    let path = format!("{}/benches/data/{name}.jsonl.gz", env!("CARGO_MANIFEST_DIR"));
    let packed = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut text = String::new();
    let stream = &packed[10..packed.len() - 8];
    flate2::read::DeflateDecoder::new(skip_name(&packed, stream)).read_to_string(&mut text).expect("a recorded sequence inflates");
    let mut versions = Vec::<Vec<u8>>::new();
    for line in text.lines() {
        let items: Vec<serde_json::Value> = serde_json::from_str(line).expect("a line is a JSON array");
        let mut version = Vec::new();
        for item in items {
            match (item.as_str(), item.as_array()) {
                (Some(text), _) => version.extend_from_slice(text.as_bytes()),
                (_, Some(copy)) => {
                    let (from, length) = (copy[0].as_u64().expect("an offset") as usize, copy[1].as_u64().expect("a length") as usize);
                    version.extend_from_slice(&versions.last().expect("copies are from the version before")[from..from + length]);
                }
                _ => panic!("{path}: an item is neither text nor a copy"),
            }
        }
        versions.push(version);
    }
    versions
}

/// A gzip header with flag 8 goes on with the file's name up to a zero.
fn skip_name<'a>(packed: &[u8], stream: &'a [u8]) -> &'a [u8] {
    let name = stream.iter().position(|byte| *byte == 0).expect("a name ends");
    if packed[3] & 8 == 0 { stream } else { &stream[name + 1..] }
}

struct Row {
    bytes: usize,
    median_us: f64,
}

fn measure(form: &mut Form, versions: &[Vec<u8>], rounds: usize) -> Row {
    let mut bytes = 0;
    let mut times = Vec::new();
    // The stream form's first message is not a delta, but the others build on it.
    (form.encode)(&[], &versions[0]);
    for round in 0..rounds {
        for pair in versions.windows(2) {
            let start = Instant::now();
            let length = (form.encode)(&pair[0], &pair[1]);
            times.push(start.elapsed().as_nanos());
            if round == 0 {
                bytes += length;
            }
        }
    }
    times.sort_unstable();
    Row { bytes, median_us: times[times.len() / 2] as f64 / 1000.0 }
}

fn argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != name).nth(1)
}

fn main() {
    let test = std::env::args().any(|argument| argument == "--test");
    let rounds = argument("--rounds").map_or(if test { 1 } else { 9 }, |rounds| rounds.parse().expect("--rounds takes a number"));
    let only = argument("--only");
    println!("{:<15} {:<21} {:>8} {:>10} {:>10}", "sequence", "form", "% plain", "bytes", "us");
    for name in SEQUENCES.into_iter().filter(|name| only.as_deref().is_none_or(|only| only == *name)) {
        let versions = load(name);
        assert!(versions.len() >= 30, "{name} has too few versions");
        let plain: usize = versions[1..].iter().map(Vec::len).sum();
        let deltas = versions.len() - 1;
        println!("{name:<15} {:<21} {:>8} {:>10.1}", "plain", "", plain as f64 / deltas as f64);
        let mut rows = Vec::new();
        for mut form in forms() {
            if argument("--form").is_some_and(|only| only != form.name) {
                continue;
            }
            let row = measure(&mut form, &versions, rounds);
            println!(
                "{name:<15} {:<21} {:>8.2} {:>10.1} {:>10.1}",
                form.name,
                row.bytes as f64 * 100.0 / plain as f64,
                row.bytes as f64 / deltas as f64,
                row.median_us
            );
            rows.push((form.name, row.bytes));
        }
        check(name, &rows);
    }
    if only.is_none() {
        unlike_values(rounds);
    }
}

/// What giving up costs: values of noise, the next unlike the one before.
fn unlike_values(rounds: usize) {
    let mut state = 1_u64;
    let mut noise = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (state >> 56) as u8
    };
    for length in [1024, 32_768, 262_144] {
        let versions: Vec<Vec<u8>> = (0..8).map(|_| (0..length).map(|_| noise()).collect()).collect();
        let row = measure(&mut forms()[0], &versions, rounds);
        assert_eq!(row.bytes, 7 * length, "noise is sent whole");
        println!("{:<15} {:<21} {:>8.2} {length:>10} {:>10.1}", "noise", "tidewire", 100.0, row.median_us);
    }
}

/// The bars: smaller than each copying form, and near the smallest of all.
fn check(sequence: &str, rows: &[(&str, usize)]) {
    let own = rows[0].1;
    for (form, bytes) in &rows[1..] {
        assert!(own as f64 <= 1.05 * *bytes as f64, "{sequence}: {own} bytes are over 1.05 times those of {form}, {bytes}");
        assert!(
            own < *bytes || !form.starts_with("vcdiff") && !form.starts_with("fossil"),
            "{sequence}: {own} bytes are not less than those of {form}, {bytes}"
        );
    }
}
