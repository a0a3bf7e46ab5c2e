//! How many instructions the core takes for its most frequent work: a deterministic program to be counted, not timed.
//!
//! One shard is driven as the runtime drives it, without sockets, storage or clock: bytes go in, effects are carried out, sends are
//! drained, records are acknowledged. What peers say is made beforehand, and all that is counted happens in `measured`, which is why
//! `scripts/check-instructions` can have callgrind collect there alone. Time goes on by a fixed step and values are noise of a fixed
//! seed, so a run does the same as the one before. Every workload ends with a look whether all was delivered.
//!
//! A workload whose name begins with `guarded-` is the one behind that, where sessions have roles, and these ten thousand paths with permissions; every
//! other one's sessions may do everything.
//!
//! What one update passes is looked at in the same way, by `scripts/count-files`.
//!
//! `cargo bench --no-default-features --bench instructions` runs all workloads once; `--only <name>` runs one.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use tidewire::surface::base::{ConnectionKey, ShardIndex, Time};
use tidewire::surface::security::{SecurityLimits, SecurityStore};
use tidewire::surface::session::MqttLimits;
use tidewire::surface::shard::{Effect, Identified, Identity, Limits, Shard, Storing, Transport, Who};
use tidewire::surface::topic::specification::TopicType;
use tidewire::surface::wire::native::{self, Ask, CAPABILITY_COPY, CAPABILITY_DEFLATE, Request, Update, Verb};

const WALL_MS: u64 = 1_735_689_600_000;
/// How much later each input comes than the one before.
const STEP_NS: u64 = 50_000;
const VALUE_BYTES: usize = 125;
/// Those with permissions, of all roles together.
const PATHS: usize = 10_000;
const ROLES: usize = 4;
/// A client's mask; one of zeros would hide what unmasking costs.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

type Prepare = fn() -> Workload;

/// By name, what prepares each workload.
const WORKLOADS: [(&str, Prepare); 19] = [
    ("fan-out", fan_out),
    ("fan-out-batch", fan_out_batch),
    ("one-to-one", one_to_one),
    ("stored-update", stored_update),
    ("subscribe", subscribe),
    ("text-fan-out", text_fan_out),
    ("mqtt-fan-out", mqtt_fan_out),
    ("mqtt-one-to-one", mqtt_one_to_one),
    ("mqtt-qos-1", mqtt_qos_1),
    ("delta", delta),
    ("view", view),
    ("match", selector_match),
    ("conflate", conflate),
    ("guarded-fan-out", || fan_out_of(Rule::Roles, 200, 1)),
    ("guarded-one-to-one", || one_to_one_under(Rule::Roles)),
    ("guarded-stored-update", || stored_update_under(Rule::Roles)),
    ("guarded-subscribe", || subscribe_under(Rule::Roles)),
    ("guarded-mqtt-one-to-one", || mqtt_one_to_one_under(Rule::Roles)),
    ("one-update", one_update),
];

/// What sessions may do.
#[derive(Clone, Copy)]
enum Rule {
    /// Everything.
    Nothing,
    /// What their roles permit: see `roles_script`.
    Roles,
}

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
    /// Whose socket takes nothing before all inputs have come.
    stalled: Option<ConnectionKey>,
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
    world.read_stalled();
}

/// One publisher, a thousand subscribers of its topic.
fn fan_out() -> Workload {
    fan_out_of(Rule::Nothing, 200, 1)
}

/// The same where thirty-two updates come at a time, as when the server has more to do: each send has as many.
fn fan_out_batch() -> Workload {
    fan_out_of(Rule::Nothing, 50, 32)
}

fn fan_out_of(rule: Rule, batches: usize, batch: usize) -> Workload {
    const SUBSCRIBERS: usize = 1000;
    let mut world = World::under(rule, Storing::Off);
    let publisher = world.connect();
    world.give(publisher, &mut message(&[set(0, "bench/topic", 0)]));
    for _ in 0..SUBSCRIBERS {
        let subscriber = world.connect();
        world.give(subscriber, &mut message(&[subscription("bench/topic")]));
    }
    let sets = |number: usize| -> Vec<Request<'_>> { (0..batch).map(|at| set(0, "bench/topic", number * batch + at)).collect() };
    let inputs = (1..=batches).map(|number| (publisher, message(&sets(number)))).collect();
    let sends = SUBSCRIBERS * batches;
    Workload { world, inputs, expected: Expected { bytes_sent: sends * batch * VALUE_BYTES, sends, records: 0 } }
}

/// One publisher and one subscriber, two hundred topics in turn.
fn one_to_one() -> Workload {
    one_to_one_under(Rule::Nothing)
}

fn one_to_one_under(rule: Rule) -> Workload {
    const TOPICS: usize = 200;
    const UPDATES: usize = 40_000;
    let mut world = World::under(rule, Storing::Off);
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
    stored_update_under(Rule::Nothing)
}

fn stored_update_under(rule: Rule) -> Workload {
    const UPDATES: usize = 40_000;
    let mut world = World::under(rule, Storing::Stored);
    let publisher = world.connect();
    world.give(publisher, &mut message(&[set(1, "bench/topic", 0)]));
    // Ids begin behind that of the set-up; every answer is a frame of at least three bytes.
    let inputs = (2..UPDATES + 2).map(|number| (publisher, message(&[set(number as u64, "bench/topic", number)]))).collect();
    Workload { world, inputs, expected: Expected { bytes_sent: UPDATES * 3, sends: UPDATES, records: UPDATES as u64 } }
}

/// A session that selects a hundred thousand topics at once.
fn subscribe() -> Workload {
    subscribe_under(Rule::Nothing)
}

fn subscribe_under(rule: Rule) -> Workload {
    const BRANCHES: usize = 1000;
    const TOPICS: usize = 100;
    let mut world = World::under(rule, Storing::Off);
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

/// One publisher, a thousand subscribers that are sent JSON text.
fn text_fan_out() -> Workload {
    const SUBSCRIBERS: usize = 1000;
    const PUBLISHES: usize = 200;
    let mut world = World::new(Storing::Off);
    let publisher = world.connect();
    world.give(publisher, &mut message(&[set_document("bench/topic", 0)]));
    for _ in 0..SUBSCRIBERS {
        let subscriber = world.upgrade("tidewire.1.json");
        world.give(subscriber, &mut frame(0x81, br#"{"op":"connect","id":1}"#));
        world.give(subscriber, &mut frame(0x81, br#"{"op":"subscribe","id":2,"selector":"bench/topic"}"#));
    }
    let inputs = (1..=PUBLISHES).map(|number| (publisher, message(&[set_document("bench/topic", number)]))).collect();
    let deliveries = SUBSCRIBERS * PUBLISHES;
    Workload { world, inputs, expected: Expected { bytes_sent: deliveries * VALUE_BYTES, sends: deliveries, records: 0 } }
}

/// One publisher, a thousand subscribers, all by MQTT at QoS 0.
fn mqtt_fan_out() -> Workload {
    const SUBSCRIBERS: usize = 1000;
    const PUBLISHES: usize = 200;
    let mut world = World::new(Storing::Off);
    let publisher = world.join_mqtt("publisher", &[]);
    for number in 0..SUBSCRIBERS {
        world.join_mqtt(&format!("subscriber-{number}"), &[("bench/topic", 0)]);
    }
    let publish = |number| packet(0x30, &[&text("bench/topic"), &noise(number)]);
    let inputs = (1..=PUBLISHES).map(|number| (publisher, publish(number))).collect();
    let deliveries = SUBSCRIBERS * PUBLISHES;
    Workload { world, inputs, expected: Expected { bytes_sent: deliveries * VALUE_BYTES, sends: deliveries, records: 0 } }
}

/// One publisher by MQTT at QoS 0, two hundred topics in turn, each with a subscriber of its own.
fn mqtt_one_to_one() -> Workload {
    mqtt_one_to_one_under(Rule::Nothing)
}

fn mqtt_one_to_one_under(rule: Rule) -> Workload {
    const TOPICS: usize = 200;
    const UPDATES: usize = 40_000;
    let mut world = World::under(rule, Storing::Off);
    let publisher = world.join_mqtt("publisher", &[]);
    let topics: Vec<String> = (0..TOPICS).map(|topic| format!("bench/topic-{topic}")).collect();
    for (number, topic) in topics.iter().enumerate() {
        world.join_mqtt(&format!("subscriber-{number}"), &[(topic, 0)]);
    }
    let publish = |number: usize| packet(0x30, &[&text(&topics[number % TOPICS]), &noise(number)]);
    let inputs = (1..=UPDATES).map(|number| (publisher, publish(number))).collect();
    Workload { world, inputs, expected: Expected { bytes_sent: UPDATES * VALUE_BYTES, sends: UPDATES, records: 0 } }
}

/// One publisher and one subscriber at QoS 1, two hundred topics in turn: every message is acknowledged on both sides.
fn mqtt_qos_1() -> Workload {
    const TOPICS: usize = 200;
    const UPDATES: usize = 20_000;
    let mut world = World::new(Storing::Off);
    let (publisher, subscriber) = (world.join_mqtt("publisher", &[]), world.join_mqtt("subscriber", &[("bench/#", 1)]));
    let inputs = (1..=UPDATES).flat_map(|number| {
        let id = (number as u16).to_be_bytes();
        let topic = text(&format!("bench/topic-{}", number % TOPICS));
        // A session's messages are numbered from 1, as these are.
        [(publisher, packet(0x32, &[&topic, &id, &noise(number)])), (subscriber, packet(0x40, &[&id]))]
    });
    let inputs = inputs.collect();
    Workload { world, inputs, expected: Expected { bytes_sent: UPDATES * VALUE_BYTES, sends: UPDATES * 2, records: 0 } }
}

/// A document of which little changes, to a subscriber that is sent deltas.
fn delta() -> Workload {
    const UPDATES: usize = 2000;
    let mut world = World::new(Storing::Off);
    let (publisher, subscriber) = (world.connect(), world.connect_with(CAPABILITY_COPY | CAPABILITY_DEFLATE));
    world.give(publisher, &mut message(&[set_document("bench/topic", 0)]));
    world.give(subscriber, &mut message(&[subscription("bench/topic")]));
    let inputs = (1..=UPDATES).map(|number| (publisher, message(&[set_document("bench/topic", number)]))).collect();
    Workload { world, inputs, expected: Expected { bytes_sent: UPDATES * 8, sends: UPDATES, records: 0 } }
}

/// A view that maps each of two hundred topics to another, of which a part of the value is taken.
fn view() -> Workload {
    const TOPICS: usize = 200;
    const UPDATES: usize = 20_000;
    let mut world = World::new(Storing::Off);
    let (publisher, subscriber) = (world.connect(), world.connect());
    let definition = "map ?bench// to derived/<path(1)> as <value(/price)>";
    world.give(publisher, &mut message(&[Request { id: 2, ask: Ask::CreateView { name: "bench".into(), definition: definition.into() } }]));
    let paths: Vec<String> = (0..TOPICS).map(|topic| format!("bench/topic-{topic}")).collect();
    for path in &paths {
        world.give(publisher, &mut message(&[set_document(path, 0)]));
    }
    world.give(subscriber, &mut message(&[subscription("?derived//")]));
    let inputs = (1..=UPDATES).map(|number| (publisher, message(&[set_document(&paths[number % TOPICS], number)]))).collect();
    Workload { world, inputs, expected: Expected { bytes_sent: UPDATES * 4, sends: UPDATES, records: 0 } }
}

/// Topics that come to be in a branch where a session has many selectors with regexes.
fn selector_match() -> Workload {
    const SELECTORS: usize = 500;
    const TOPICS: usize = 1000;
    let mut world = World::new(Storing::Off);
    let (publisher, subscriber) = (world.connect(), world.connect());
    for number in 0..SELECTORS {
        world.give(subscriber, &mut message(&[subscription(&format!("?bench/branch-[0-9]+/topic-{number}/"))]));
    }
    let paths: Vec<String> = (0..TOPICS).map(|topic| format!("bench/branch-{}/topic-{topic}/value", topic % 10)).collect();
    let inputs = paths.iter().enumerate().map(|(number, path)| (publisher, message(&[set(0, path, number)]))).collect();
    Workload { world, inputs, expected: Expected { bytes_sent: SELECTORS * VALUE_BYTES, sends: SELECTORS, records: 0 } }
}

/// A subscriber that does not read while a hundred topics change again and again, and then is sent the newest of each.
fn conflate() -> Workload {
    const TOPICS: usize = 100;
    const UPDATES: usize = 40_000;
    let mut world = World::new(Storing::Off);
    let (publisher, subscriber) = (world.connect(), world.connect());
    let paths: Vec<String> = (0..TOPICS).map(|topic| format!("bench/topic-{topic}")).collect();
    world.give(subscriber, &mut message(&[subscription("?bench//")]));
    for path in &paths {
        world.give(publisher, &mut message(&[set(0, path, 0)]));
    }
    world.stalled = Some(subscriber);
    let inputs = (1..=UPDATES).map(|number| (publisher, message(&[set(0, &paths[number % TOPICS], number)]))).collect();
    Workload { world, inputs, expected: Expected { bytes_sent: TOPICS * VALUE_BYTES, sends: 1, records: 0 } }
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

/// Ten thousand paths with permissions, each of which differs from what is nearest above it, dealt to four roles that every session has: a branch that is above
/// all topics, a thousand below that, and nine paths in each of these. So what may be done at a topic is found one level above it, at nine of a hundred
/// topics of `subscribe` there, and at all others two looks are needed.
fn roles_script() -> String {
    let (reads, writes) = ("SELECT_TOPIC, READ_TOPIC", "SELECT_TOPIC, READ_TOPIC, UPDATE_TOPIC, MODIFY_TOPIC");
    let mut script = format!("set \"role-0\" path \"bench\" permissions [{writes}]\n");
    for number in 1..PATHS {
        let (branch, place) = ((number - 1) % 1000, (number - 1) / 1000);
        let path = if place == 0 { format!("bench/branch-{branch}") } else { format!("bench/branch-{branch}/topic-{place}") };
        let more = if place == 0 { "ACQUIRE_LOCK" } else { "SEND_TO_SESSION" };
        script.push_str(&format!("set \"role-{}\" path \"{path}\" permissions [{writes}, {more}]\n", number % ROLES));
    }
    (0..ROLES).for_each(|role| script.push_str(&format!("set \"role-{role}\" default path permissions [{reads}]\n")));
    script
}

/// Somebody with all these roles.
fn somebody() -> Identified {
    let roles = (0..ROLES).map(|role| format!("role-{role}").into()).collect();
    Identified::As(Who::new("somebody".into(), roles, None), Box::default())
}

impl World {
    fn new(storing: Storing) -> Self {
        Self::under(Rule::Nothing, storing)
    }

    fn under(rule: Rule, storing: Storing) -> Self {
        let identity = Identity {
            index: ShardIndex(0),
            count: 1,
            server: "tidewire".into(),
            run: 0,
            start: 0,
            storing,
            topics_base: 0,
            node: 0,
            secret: [7; 32],
        };
        let now = Time(1);
        let mqtt = MqttLimits { sys_interval_ms: 0, ..MqttLimits::default() };
        let security = matches!(rule, Rule::Roles).then(|| {
            let store = SecurityStore::parse(&roles_script(), SecurityLimits::default());
            Arc::new(store.expect("the script is one, and no limit is below it"))
        });
        let limits = Limits { has_mqtt: true, mqtt, authenticates: security.is_some(), security, ..Limits::default() };
        let shard = Shard::new(identity, limits, now, WALL_MS);
        Self { shard, now, wakes: VecDeque::new(), stalled: None, bytes_sent: 0, sends: 0, records: 0 }
    }

    fn accept(&mut self, transport: Transport) -> ConnectionKey {
        self.shard.handle_accept(self.now, transport).expect("the limit on connections is above what workloads open")
    }

    fn upgrade(&mut self, subprotocol: &str) -> ConnectionKey {
        let key = self.accept(Transport::Http);
        let head = format!(
            "GET /tidewire HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
        );
        self.give(key, &mut head.into_bytes());
        key
    }

    /// A session of the binary form, to which values are sent whole.
    fn connect(&mut self) -> ConnectionKey {
        self.connect_with(0)
    }

    fn connect_with(&mut self, capabilities: u64) -> ConnectionKey {
        let key = self.upgrade("tidewire.1");
        self.give(key, &mut message(&[Request { id: 1, ask: Ask::connect("", capabilities) }]));
        key
    }

    /// A client of MQTT 3.1.1, with its filters and their QoS.
    fn join_mqtt(&mut self, client_id: &str, filters: &[(&str, u8)]) -> ConnectionKey {
        let key = self.accept(Transport::Mqtt);
        self.give(key, &mut packet(0x10, &[&text("MQTT"), &[4, 2, 0, 0], &text(client_id)]));
        for (filter, qos) in filters {
            self.give(key, &mut packet(0x82, &[&[0, 1], &text(filter), &[*qos]]));
        }
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
            let Some(key) = self.wakes.pop_front().filter(|key| Some(*key) != self.stalled) else { continue };
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

    /// Who did not read does so now.
    fn read_stalled(&mut self) {
        self.wakes.extend(self.stalled.take());
        while !self.wakes.is_empty() {
            self.turn();
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
                Effect::Identify(key, _) => self.shard.handle_identified(self.now, key, somebody()),
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

/// A JSON document of which each number changes a part.
fn set_document(path: &str, number: usize) -> Request<'_> {
    let document = format!(
        r#"{{"symbol":"TIDE","name":"Tidewire common stock","venue":"bench","price":{}.25,"volume":{},"state":"open","notes":"of which most stays as it is"}}"#,
        number % 900 + 100,
        number * 37
    );
    let update = Update::new(Verb::AddAndSet, TopicType::Json.number(), document.into_bytes());
    Request { id: 0, ask: Ask::Update { path: path.into(), update } }
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
    frame(0x82, &payload)
}

fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![opcode];
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

/// A packet of MQTT.
fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let mut packet = vec![first];
    match body.len() {
        length @ 0..128 => packet.push(length as u8),
        length => packet.extend([length as u8 | 0x80, u8::try_from(length >> 7).expect("no workload's packet is longer than 16 KiB")]),
    }
    packet.extend(body);
    packet
}

/// Text as MQTT carries it.
fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
}
