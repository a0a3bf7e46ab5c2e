//! How many instructions the core takes for its most frequent work: a deterministic program to be counted, not timed.
//!
//! One shard is driven as the runtime drives it, without sockets, storage or clock: bytes go in, effects are carried out, sends are
//! drained, records are acknowledged. What peers say is made beforehand, and all that is counted happens in `measured`, which is why
//! `scripts/check-instructions` can have callgrind collect there alone. Time goes on by a fixed step and values are noise of a fixed
//! seed, so a run does the same as the one before. Every workload ends with a look whether all was delivered.
//!
//! What one update passes is looked at in the same way, by `scripts/count-files`.
//!
//! `cargo bench --no-default-features --bench instructions` runs all workloads once; `--only <name>` runs one.

use std::collections::VecDeque;
use std::hint::black_box;
use tidewire::surface::base::{ConnectionKey, ShardIndex, Time};
use tidewire::surface::shard::{Effect, Identity, Limits, Shard, Storing, Transport};
use tidewire::surface::topic::specification::TopicType;
use tidewire::surface::wire::native::{self, Ask, Request, Update, Verb};

const WALL_MS: u64 = 1_735_689_600_000;
/// How much later each input comes than the one before.
const STEP_NS: u64 = 50_000;
const VALUE_BYTES: usize = 125;
/// A client's mask; one of zeros would hide what unmasking costs.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

type Prepare = fn() -> Workload;

/// By name, what prepares each workload.
const WORKLOADS: [(&str, Prepare); 5] = [
    ("fan-out", fan_out),
    ("one-to-one", one_to_one),
    ("stored-update", stored_update),
    ("subscribe", subscribe),
    ("one-update", one_update),
];

/// A world that is set up, and what is to happen in it.
struct Workload {
    world: World,
    /// Who says what.
    inputs: Vec<(ConnectionKey, Vec<u8>)>,
    expected: Expected,
}

/// What the measured part does at least. Bounds from below, since they are not about how frames are laid out.
struct Expected {
    bytes_sent: usize,
    sends: usize,
    records: u64,
}

/// A shard, with the runtime's part of its world.
struct World {
    shard: Shard,
    now: Time,
    wakes: VecDeque<ConnectionKey>,
    bytes_sent: usize,
    sends: usize,
    records: u64,
}

fn main() {
    let mut only = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--only" => only = arguments.next(),
            // Cargo says so to every benchmark.
            "--bench" => {}
            other => panic!("{other}: expected --only <workload>"),
        }
    }
    let mut chosen = WORKLOADS.iter().filter(|(name, _)| only.as_deref().is_none_or(|only| only == *name)).peekable();
    assert!(chosen.peek().is_some(), "--only: expected one of {:?}", WORKLOADS.map(|(name, _)| name));
    for (name, prepare) in chosen {
        let Workload { mut world, mut inputs, expected } = prepare();
        (world.bytes_sent, world.sends, world.records) = (0, 0, 0);
        measured(&mut world, &mut inputs);
        assert!(world.bytes_sent >= expected.bytes_sent && world.sends >= expected.sends, "{name}: not all was sent");
        assert_eq!(world.records, expected.records, "{name}: not all was stored");
        println!("{name}: {} inputs, {} sends of {} bytes, {} records", inputs.len(), world.sends, world.bytes_sent, world.records);
    }
}

/// Everything that is counted. It must not be inlined, and nothing else of this file may have its name in its own: callgrind starts and
/// stops by it, so a closure in here would stop the count.
#[inline(never)]
fn measured(world: &mut World, inputs: &mut [(ConnectionKey, Vec<u8>)]) {
    for (key, bytes) in inputs {
        world.give(*key, bytes);
    }
}

/// One publisher, a thousand subscribers of its topic.
fn fan_out() -> Workload {
    const SUBSCRIBERS: usize = 1000;
    const PUBLISHES: usize = 200;
    let mut world = World::new(Storing::Off);
    let publisher = world.connect();
    world.give(publisher, &mut message(&[set(0, "bench/topic", 0)]));
    for _ in 0..SUBSCRIBERS {
        let subscriber = world.connect();
        world.give(subscriber, &mut message(&[subscription("bench/topic")]));
    }
    let inputs = (1..=PUBLISHES).map(|number| (publisher, message(&[set(0, "bench/topic", number)]))).collect();
    let deliveries = SUBSCRIBERS * PUBLISHES;
    Workload { world, inputs, expected: Expected { bytes_sent: deliveries * VALUE_BYTES, sends: deliveries, records: 0 } }
}

/// One publisher and one subscriber, two hundred topics in turn.
fn one_to_one() -> Workload {
    const TOPICS: usize = 200;
    const UPDATES: usize = 40_000;
    let mut world = World::new(Storing::Off);
    let (publisher, subscriber) = (world.connect(), world.connect());
    let paths: Vec<String> = (0..TOPICS).map(|topic| format!("bench/topic-{topic}")).collect();
    for path in &paths {
        world.give(publisher, &mut message(&[set(0, path, 0)]));
    }
    world.give(subscriber, &mut message(&[subscription("?bench//")]));
    let inputs = (1..=UPDATES).map(|number| (publisher, message(&[set(0, &paths[number % TOPICS], number)]))).collect();
    Workload { world, inputs, expected: Expected { bytes_sent: UPDATES * VALUE_BYTES, sends: UPDATES, records: 0 } }
}

/// A stored topic whose updates are acknowledged once they are stored.
fn stored_update() -> Workload {
    const UPDATES: usize = 40_000;
    let mut world = World::new(Storing::Stored);
    let publisher = world.connect();
    world.give(publisher, &mut message(&[set(1, "bench/topic", 0)]));
    // Ids begin behind that of the set-up; every answer is a frame of at least three bytes.
    let inputs = (2..UPDATES + 2).map(|number| (publisher, message(&[set(number as u64, "bench/topic", number)]))).collect();
    Workload { world, inputs, expected: Expected { bytes_sent: UPDATES * 3, sends: UPDATES, records: UPDATES as u64 } }
}

/// A session that selects a hundred thousand topics at once.
fn subscribe() -> Workload {
    const BRANCHES: usize = 1000;
    const TOPICS: usize = 100;
    let mut world = World::new(Storing::Off);
    let publisher = world.connect();
    for branch in 0..BRANCHES {
        let paths: Vec<String> = (0..TOPICS).map(|topic| format!("bench/branch-{branch}/topic-{topic}")).collect();
        let sets: Vec<Request<'_>> = paths.iter().map(|path| set(0, path, branch)).collect();
        world.give(publisher, &mut message(&sets));
    }
    let subscriber = world.connect();
    let inputs = vec![(subscriber, message(&[subscription("?.*//")]))];
    Workload { world, inputs, expected: Expected { bytes_sent: BRANCHES * TOPICS * VALUE_BYTES, sends: 1, records: 0 } }
}

/// One update of a number that one session subscribes to: what it passes is looked at by `scripts/count-files`, not how long it takes.
fn one_update() -> Workload {
    let mut world = World::new(Storing::Off);
    let (publisher, subscriber) = (world.connect(), world.connect());
    let number = |id, verb, number: i64| {
        let update = Update::new(verb, TopicType::Int64.number(), number.to_be_bytes().to_vec());
        message(&[Request { id, ask: Ask::Update { path: "bench/topic".into(), update } }])
    };
    world.give(publisher, &mut number(2, Verb::AddAndSet, 0));
    world.give(subscriber, &mut message(&[subscription("bench/topic")]));
    let inputs = vec![(publisher, number(3, Verb::Set, 1))];
    Workload { world, inputs, expected: Expected { bytes_sent: 3 + size_of::<i64>(), sends: 2, records: 0 } }
}

impl World {
    fn new(storing: Storing) -> Self {
        let identity = Identity { index: ShardIndex(0), count: 1, server: "tidewire".into(), run: 0, storing, topics_base: 0 };
        let now = Time(1);
        let shard = Shard::new(identity, Limits::default(), now, WALL_MS);
        Self { shard, now, wakes: VecDeque::new(), bytes_sent: 0, sends: 0, records: 0 }
    }

    /// A session of the binary form, to which values are sent whole.
    fn connect(&mut self) -> ConnectionKey {
        let key = self.shard.handle_accept(self.now, Transport::Http).expect("the limit on connections is above what workloads open");
        let head = "GET /tidewire HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: tidewire.1\r\n\r\n";
        self.give(key, &mut head.as_bytes().to_vec());
        self.give(key, &mut message(&[Request { id: 1, ask: Ask::Connect { version: 1, name: "".into(), capabilities: 0 } }]));
        key
    }

    /// What one read brings, and all that follows from it.
    fn give(&mut self, key: ConnectionKey, bytes: &mut [u8]) {
        self.now = Time(self.now.0 + STEP_NS);
        self.shard.handle_bytes(self.now, key, bytes);
        self.carry_out();
        while self.shard.has_walks() || !self.wakes.is_empty() {
            self.turn();
        }
    }

    /// A turn of the runtime: a slice of the walks, then one send for each who has something.
    fn turn(&mut self) {
        if self.shard.has_walks() {
            self.shard.run_slice(self.now);
            self.carry_out();
        }
        self.shard.begin_sends();
        for _ in 0..self.wakes.len() {
            let Some(key) = self.wakes.pop_front() else { break };
            self.send_to(key);
        }
        self.carry_out();
        self.shard.handle_turn(STEP_NS);
    }

    /// The socket takes all there is.
    fn send_to(&mut self, key: ConnectionKey) {
        let Some(bytes) = self.shard.poll_transmit(self.now, key) else { return };
        self.bytes_sent += black_box(&bytes).len();
        self.sends += 1;
        self.shard.handle_sent(self.now, key, &bytes);
        self.shard.give_up_send(bytes);
        if self.shard.wants_to_send(key) {
            self.wakes.push_back(key);
        }
    }

    fn carry_out(&mut self) {
        self.carry_out_effects();
        // Storage takes the records at once, and has them at once.
        if let Some(records) = self.shard.poll_records() {
            let last = black_box(&records).last().expect("there are records where there is a list of them").ticket;
            self.records += records.len() as u64;
            self.shard.handle_stored(self.now, last);
            self.carry_out_effects();
        }
    }

    fn carry_out_effects(&mut self) {
        while let Some(effect) = self.shard.poll_effect() {
            match effect {
                Effect::Wake(key) => self.wakes.push_back(key),
                other => unreachable!("no workload makes the shard want this: {other:?}"),
            }
        }
    }
}

/// A value of its own for each number, behind an id where an answer is wanted.
fn set(id: u64, path: &str, number: usize) -> Request<'_> {
    Request { id, ask: Ask::Update { path: path.into(), update: Update::new(Verb::AddAndSet, TopicType::Binary.number(), noise(number)) } }
}

/// Bytes of which the next have nothing in common with the last. The core soon gives up making deltas of such values, which would
/// otherwise be most of what one publication to few takes; what deltas cost is for `benches/delta.rs`.
fn noise(number: usize) -> Vec<u8> {
    // A step of Weyl's sequence, then xorshift: neighbours start far apart, and no start is zero.
    let mut state = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..VALUE_BYTES).map(|_| next()).collect()
}

fn subscription(selector: &str) -> Request<'_> {
    Request { id: 2, ask: Ask::Subscribe { selector: selector.into(), scope: "".into() } }
}

/// One message of a client, in a masked frame.
fn message(requests: &[Request<'_>]) -> Vec<u8> {
    let mut payload = Vec::new();
    for request in requests {
        native::put_request(&mut payload, request);
    }
    let mut frame = vec![0x82];
    if payload.len() < 126 {
        frame.push(0x80 | payload.len() as u8);
    } else {
        let length = u16::try_from(payload.len()).expect("no workload says more than 64 KiB at a time");
        frame.push(0x80 | 126);
        frame.extend_from_slice(&length.to_be_bytes());
    }
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}
