//! What topic views cost a shard: an update of a source topic without a view, with one of several kinds, and among a thousand; and creating a view
//! over topics that are there.
//!
//! `cargo bench --no-default-features --bench derivation` takes 100,000 topics with documents of 1 KB, and sends updates of topics by chance as a
//! client does, 100 in a message, to one shard. It prints the median of several rounds, in nanoseconds of CPU for each update, and what a view adds;
//! and for a view that is created how long it took in all and the longest turn. `--test` takes 1,000 topics and few rounds; `--topics <n>` any number;
//! `--only <name>` one case, for `valgrind --tool=callgrind`.

use std::time::Instant;
use tidewire::surface::base::{ConnectionKey, ShardIndex, Time};
use tidewire::surface::session::QueueLimits;
use tidewire::surface::shard::{Effect, Identity, Limits, Shard, Storing, Transport};
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::{self, Ask, Request, Update, Verb};

const BATCH: usize = 100;

struct Case {
    name: &'static str,
    /// The view whose cost it shows.
    view: Option<&'static str>,
    /// Others, that select none of the topics.
    others: usize,
    /// The most nanoseconds that it may add to an update; none where the bench only shows that it runs.
    added_ns_max: Option<f64>,
}

const PROCESS: &str = "map ?a// to b/<path(1)> process { \
    if '/price > 20 and /currency = \"EUR\"' set(/total, calc '/quantity * /price') else continue }";

const CASES: &[Case] = &[
    Case { name: "no view", view: None, others: 0, added_ns_max: None },
    Case { name: "plain", view: Some("map ?a// to b/<path(1)>"), others: 0, added_ns_max: Some(3_000.0) },
    Case { name: "value", view: Some("map ?a// to b/<path(1)> as <value(/price)>"), others: 0, added_ns_max: None },
    Case { name: "process", view: Some(PROCESS), others: 0, added_ns_max: Some(10_000.0) },
    Case { name: "process, 999 other views", view: Some(PROCESS), others: 999, added_ns_max: Some(11_000.0) },
    Case { name: "plain, 999 other views", view: Some("map ?a// to b/<path(1)>"), others: 999, added_ns_max: Some(4_000.0) },
];

struct Bench {
    shard: Shard,
    client: ConnectionKey,
    now: Time,
    topics: usize,
    chance: u64,
    count: u64,
    longest_turn_ns: u64,
}

impl Bench {
    fn new(topics: usize) -> Self {
        let identity = Identity {
            index: ShardIndex(0),
            count: 1,
            server: "bench".into(),
            run: 0,
            start: 0,
            storing: Storing::Off,
            topics_base: 0,
            node: 0,
            secret: [7; 32],
        };
        let mut shard = Shard::new(identity, limits(), Time(0), 0);
        let client = shard.handle_accept(Time(0), Transport::Http).expect("there is room");
        let head = "GET /tidewire HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: tidewire.1\r\n\r\n";
        shard.handle_bytes(Time(0), client, &mut head.as_bytes().to_vec());
        let mut bench = Self { shard, client, now: Time(0), topics, chance: 1, count: 0, longest_turn_ns: 0 };
        bench.carry_out();
        bench.ask(&[Request { id: 1, ask: Ask::connect("bench", 0) }]);
        for first in (0..topics).step_by(BATCH) {
            let requests: Vec<Request<'_>> =
                (first..(first + BATCH).min(topics)).map(|topic| bench.update(topic, Verb::AddAndSet)).collect();
            bench.ask(&requests);
        }
        bench
    }

    /// A document of 1 KB whose numbers change.
    fn update(&mut self, topic: usize, verb: Verb) -> Request<'static> {
        self.count += 1;
        let mut value =
            format!(r#"{{"id":{topic},"currency":"EUR","quantity":{},"price":{}.25,"rows":["#, self.count % 1000, 21 + self.count % 100);
        while value.len() < 980 {
            value.push_str(&format!(r#"{{"bid":{},"name":"row"}},"#, value.len()));
        }
        value.push_str("null]}");
        Request {
            id: 0,
            ask: Ask::Update {
                path: format!("a/{}/{topic}", topic % 100).into(),
                update: Update::new(verb, ValueType::Json as u8, value.into_bytes()),
            },
        }
    }

    fn create(&mut self, name: &str, definition: &str) {
        self.ask(&[Request { id: 1, ask: Ask::CreateView { name: name.to_owned().into(), definition: definition.to_owned().into() } }]);
    }

    /// One message of updates of topics by chance.
    fn batch(&mut self) -> Vec<u8> {
        let requests: Vec<Request<'_>> = (0..BATCH)
            .map(|_| {
                self.chance = self.chance.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                let topic = (self.chance >> 33) as usize % self.topics;
                self.update(topic, Verb::Set)
            })
            .collect();
        message(&requests)
    }

    /// The nanoseconds of each of so many updates.
    fn run(&mut self, batches: usize) -> f64 {
        let mut messages: Vec<Vec<u8>> = (0..batches).map(|_| self.batch()).collect();
        let started = cpu_ns();
        for message in &mut messages {
            self.give(message);
        }
        (cpu_ns() - started) as f64 / (batches * BATCH) as f64
    }

    fn ask(&mut self, requests: &[Request<'_>]) {
        self.give(&mut message(requests));
    }

    fn give(&mut self, message: &mut [u8]) {
        self.now.0 += 1000;
        self.turn(|bench| bench.shard.handle_bytes(bench.now, bench.client, message));
        self.carry_out();
    }

    fn turn(&mut self, run: impl FnOnce(&mut Self)) {
        let started = Instant::now();
        run(self);
        self.longest_turn_ns = self.longest_turn_ns.max(started.elapsed().as_nanos() as u64);
    }

    fn carry_out(&mut self) {
        loop {
            while let Some(effect) = self.shard.poll_effect() {
                if let Effect::Wake(key) = effect {
                    self.shard.begin_sends();
                    while let Some(bytes) = self.shard.poll_transmit(self.now, key) {
                        self.shard.handle_sent(self.now, key, &bytes);
                    }
                }
            }
            if !self.shard.has_walks() {
                return;
            }
            self.turn(|bench| bench.shard.run_slice(bench.now));
        }
    }
}

/// What this thread has had of its CPU, to the last tick of the scheduler: others on the machine do not count.
fn cpu_ns() -> u64 {
    let schedule = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells the time on the CPU");
    schedule.split(' ').next().and_then(|ns| ns.parse().ok()).expect("its first number is that time")
}

/// A message as a client sends it, masked with zeros.
fn message(requests: &[Request<'_>]) -> Vec<u8> {
    let mut payload = Vec::new();
    requests.iter().for_each(|request| native::put_request(&mut payload, request));
    let mut message = vec![0x82, 0xff];
    message.extend_from_slice(&(payload.len() as u64).to_be_bytes());
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(&payload);
    message
}

fn limits() -> Limits {
    Limits {
        message_bytes_max: 1 << 20,
        questions_max: 10_000,
        connections_max: 10,
        queue: QueueLimits { bytes_high: 1 << 20, bytes_max: 1 << 24 },
        transmit_bytes_max: 1 << 20,
        ..Limits::default()
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let following = |flag: &str| arguments.iter().position(|argument| argument == flag).and_then(|at| arguments.get(at + 1));
    let is_test = arguments.iter().any(|argument| argument == "--test");
    let topics =
        following("--topics").map_or(if is_test { 1_000 } else { 100_000 }, |number| number.parse().expect("--topics takes a number"));
    let only = following("--only");
    let (rounds, batches) = if is_test || only.is_some() { (1, 20) } else { (9, 200) };

    let mut plain_ns = 0.0;
    let mut is_late = false;
    for case in CASES.iter().filter(|case| only.is_none_or(|only| only == case.name)) {
        let mut bench = Bench::new(topics);
        for other in 0..case.others {
            bench.create(&format!("other/{other}"), &format!("map ?a/none/{other}// to c/<path(1)>"));
        }
        let references = bench.shard.topic_count();
        bench.longest_turn_ns = 0;
        let started = Instant::now();
        if let Some(view) = case.view {
            bench.create("view", view);
        }
        let (created, longest_turn_ns) = (started.elapsed(), bench.longest_turn_ns);
        let references = bench.shard.topic_count() - references;
        bench.run(batches / 4 + 1);
        let each_ns = median((0..rounds).map(|_| bench.run(batches)).collect());
        if case.view.is_none() {
            plain_ns = each_ns;
            println!("{:<26} {each_ns:>9.0} ns an update", case.name);
            continue;
        }
        let added_ns = each_ns - plain_ns;
        println!(
            "{:<26} {each_ns:>9.0} ns an update, {added_ns:>7.0} more; {references} references made in {} ms, longest turn {} µs",
            case.name,
            created.as_millis(),
            longest_turn_ns / 1000
        );
        is_late |= case.added_ns_max.is_some_and(|most| added_ns > most);
    }
    if is_late && !is_test && only.is_none() {
        println!("over the bar");
        std::process::exit(1);
    }
}
