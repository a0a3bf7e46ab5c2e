//! Bounded, seeded campaigns of mutated inputs.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// The longest input that mutation makes.
const INPUT_BYTES_MAX: usize = 2048;

/// Bytes that mean something to one parser or another.
const TOKENS: [&[u8]; 24] = [
    b"/",
    b"//",
    b"////",
    b"?",
    b"*",
    b"#",
    b">",
    b"\\",
    b"\"",
    b"[",
    b"]",
    b"{",
    b"}",
    b"(?i)",
    b"\\u",
    b"\\ud800",
    b"1e9",
    b"-",
    b"\n",
    b"\0",
    b"\x7f",
    b"\x80",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    "\u{1f30a}".as_bytes(),
];

/// Runs `target` on `corpus` as it is, and then on what becomes of it. A panic is reported with the input that led to it.
pub fn run(target: fn(&[u8]), corpus: &[&[u8]]) {
    let runs = number_from_environment("TIDEWIRE_FUZZ_RUNS", 2000);
    let mut random = Random(number_from_environment("TIDEWIRE_FUZZ_SEED", 1));
    for input in corpus.iter().copied().chain([&[][..]]) {
        run_one(target, input);
    }
    let mut input = Vec::new();
    for _ in 0..runs {
        // Now and then the input goes on from where the last one was, so that changes add up.
        if random.below(4) > 0 {
            input.clear();
            input.extend_from_slice(corpus[random.below(corpus.len())]);
        }
        for _ in 0..=random.below(6) {
            mutate(&mut input, corpus, &mut random);
        }
        input.truncate(INPUT_BYTES_MAX);
        run_one(target, &input);
    }
}

fn run_one(target: fn(&[u8]), input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input))) {
        eprintln!("the input was b\"{}\"", input.escape_ascii());
        resume_unwind(panic);
    }
}

fn mutate(input: &mut Vec<u8>, corpus: &[&[u8]], random: &mut Random) {
    let at = random.below(input.len() + 1);
    let end = at + random.below((input.len() - at).min(16) + 1);
    match random.below(8) {
        0 if at < input.len() => input[at] ^= 1 << random.below(8),
        1 if at < input.len() => input[at] = random.below(256) as u8,
        2 => input.insert(at, random.below(256) as u8),
        3 => drop(input.drain(at..end)),
        4 => {
            let copied = input[at..end].to_vec();
            let to = random.below(input.len() + 1);
            input.splice(to..to, copied);
        }
        5 => {
            let other = corpus[random.below(corpus.len())];
            let tail = &other[random.below(other.len() + 1)..];
            input.splice(at.., tail.iter().copied());
        }
        _ => {
            let token = TOKENS[random.below(TOKENS.len())];
            input.splice(at..end.min(at + random.below(2)), token.iter().copied());
        }
    }
}

fn number_from_environment(key: &str, default: u64) -> u64 {
    match std::env::var(key) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{key}: found `{text}`, expected a number")),
        Err(_) => default,
    }
}

/// Bytes of no form, for targets that make something of any.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random(seed);
    (0..length).map(|_| random.below(256) as u8).collect()
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % count as u64) as usize
    }
}
