//! What it costs to look through the sessions of a shard: filters of several kinds over 15,000 sessions, and lists of them.
//!
//! `cargo bench --no-default-features --bench sessions` prints for each the work in all and the longest slice, the median of several rounds, in microseconds.
//! `--test` runs each once over a few sessions.

use std::time::Instant;
use tidewire::surface::base::{SessionId, ShardIndex, Time};
use tidewire::surface::shard::{Effect, Identity, Limits, Shard, Storing};
use tidewire::surface::wire::native::{self, Ask, Heard, Request};

const RUN: u64 = 7;

struct World {
    shard: Shard,
    now: Time,
    asker: SessionId,
    last_id: u64,
}

impl World {
    /// So many sessions, each with three properties of its own.
    fn new(sessions: usize) -> Self {
        let identity = Identity {
            index: ShardIndex(0),
            count: 1,
            server: "bench".to_owned(),
            run: RUN,
            start: 0,
            storing: Storing::Off,
            topics_base: 0,
            node: 0,
            secret: [7; 32],
        };
        let mut shard = Shard::new(identity, Limits::default(), Time(1), 1_735_689_600_000);
        let asker = shard.open_inside(Time(1));
        let mut world = Self { shard, now: Time(1), asker, last_id: 0 };
        for number in 0..sessions {
            let session = world.shard.open_inside(Time(1));
            let tier = if number % 10 == 0 { "gold" } else { "silver" };
            let properties = [("Tier", tier.to_owned()), ("Desk", (number % 100).to_string()), ("Device", format!("sensor-{number}"))];
            let properties = properties.map(|(key, value)| (key.into(), value.into())).to_vec();
            world.ask(Ask::SetSessionProperties { session: name(session).into(), filter: "".into(), properties });
        }
        world
    }

    /// The asker asks, and is answered: all slices together, and the longest, in nanoseconds.
    fn ask(&mut self, ask: Ask<'_>) -> [u128; 2] {
        self.last_id += 1;
        let started = Instant::now();
        assert!(self.shard.handle_inside(self.now, self.asker, Request { id: self.last_id, ask }));
        let mut longest = started.elapsed().as_nanos();
        let mut total = longest;
        while self.shard.has_walks() {
            let started = Instant::now();
            self.shard.run_slice(self.now);
            let slice = started.elapsed().as_nanos();
            (longest, total) = (longest.max(slice), total + slice);
        }
        self.hear();
        [total, longest]
    }

    fn hear(&mut self) {
        let mut told = Vec::new();
        while let Some(effect) = self.shard.poll_effect() {
            let Effect::Inside(session) = effect else { panic!("{effect:?}") };
            while self.shard.poll_inside(self.now, session, &mut told) {}
        }
        let mut rest = &told[..];
        let frame = native::next_frame(&mut rest).expect("whole").expect("an answer");
        assert!(matches!(native::decode_event(frame), Ok(Heard::Ok { id, .. }) if id == self.last_id));
    }

    fn measure(&mut self, rounds: usize, what: &str, ask: impl Fn() -> Ask<'static>) {
        let mut taken: Vec<[u128; 2]> = (0..rounds).map(|_| self.ask(ask())).collect();
        let mut median = |which: usize| {
            taken.sort_unstable_by_key(|taken| taken[which]);
            taken[taken.len() / 2][which] as f64 / 1000.0
        };
        println!("{what:<84} {:>10.1} {:>10.1}", median(0), median(1));
    }
}

fn name(session: SessionId) -> String {
    format!("{RUN:016x}-{:x}", session.number())
}

fn main() {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let (sessions, rounds) = if is_test { (300, 1) } else { (15_000, 51) };
    let mut world = World::new(sessions);
    println!("{:<84} {:>10} {:>10}", format!("{sessions} sessions, microseconds"), "work", "slice");
    let one = name(world.asker);
    for filter in [
        "all".to_owned(),
        "Tier is 'gold'".to_owned(),
        "Tier is 'gold' and not ($Transport eq 'TCP' or has Trial)".to_owned(),
        "Device matches 'sensor-[0-9]+7'".to_owned(),
        "$StartTime ne '0' and $ClientType in ['MQTT', 'OTHER'] and Desk is '7'".to_owned(),
        format!("not $SessionId is '{one}'"),
        format!("$SessionId is '{one}'"),
        "$Principal is 'somebody' and Tier is 'gold'".to_owned(),
    ] {
        // What is ordered is done already.
        let conflate = || Ask::ConflateSessions { session: "".into(), filter: filter.clone().into(), conflated: false };
        world.measure(rounds, &filter, conflate);
    }
    for (what, slowest, first) in [("a list of the 20 slowest", true, 20), ("a page of 1000", false, 1000)] {
        world.measure(rounds, what, || Ask::ListSessions { filter: "".into(), after: "".into(), first, slowest });
    }
}
