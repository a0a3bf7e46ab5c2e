//! Sessions that select, withdraw and select again far more topics than one turn looks at and their queues hold, as topics come, go and change.
//!
//! Nobody is closed for what the server tells of its own accord, however seldom a client reads: each is told of topics as it reads. At rest each copy
//! is what the selections say, no turn has looked at more than its slice, and nothing is left of sessions that are gone. What is told of a topic is
//! checked by the clients with all they hear: its subscription first, once, and nothing behind the end.

use crate::ask::{Asked, Update};
use crate::client::Form;
use crate::ending::check_empty;
use crate::random::Random;
use crate::topics::{Pattern, Topics, everything};
use crate::workload::{check_answered, check_copies, fetch_all, form, value};
use crate::world::{Conditions, World};
use std::sync::LazyLock;
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::Verb;

const TOPICS: usize = 320;

/// In four branches.
static PATHS: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| (0..TOPICS).map(|number| &*format!("s/{}/{:03}", number % 4, number / 4).leak()).collect());

const PATTERNS: [Pattern; 9] = [
    Pattern { text: "?s//", matches: |_| true },
    Pattern { text: "?s/", matches: |_| true },
    Pattern { text: "?s/0//", matches: |path| path.starts_with("s/0/") },
    Pattern { text: "?s/1//", matches: |path| path.starts_with("s/1/") },
    Pattern { text: "?s/.*/.*5", matches: |path| path.ends_with('5') },
    Pattern { text: "*s/[12].*", matches: |path| path.starts_with("s/1/") || path.starts_with("s/2/") },
    Pattern { text: "#s/0/007////?s/3//", matches: |path| path == "s/0/007" || path.starts_with("s/3/") },
    Pattern { text: "s/2/011", matches: |path| path == "s/2/011" },
    Pattern { text: ">s/0/020", matches: |path| path == "s/0/020" },
];

fn start(seed: u64) -> World {
    let mut random = Random::new(seed);
    let chosen = Conditions::chosen(&mut random);
    let bytes_high = random.pick(&[0, 500, 2000]);
    let conditions = Conditions {
        shards: random.within(1, 3) as u16,
        clients: random.within(2, 6),
        topics: Topics::Plain,
        bytes_high,
        bytes_max: bytes_high + 4000,
        walk_slice: random.pick(&[5, 20, 100, 300]),
        selections_max: 20,
        fetch_page_max: 200,
        socket_bytes: random.pick(&[40, 300, 5000]),
        keep_alive_ms: 100_000,
        faults: random.pick(&[0, 5]),
        ..chosen
    };
    let mut world = World::new(random, conditions);
    for _ in 0..world.conditions.clients {
        let form = form(&mut world.random);
        world.connect(form);
    }
    for path in PATHS.iter() {
        set(&mut world, 0, path);
        if world.random.percent(20) {
            world.settle();
        }
    }
    world
}

fn set(world: &mut World, at: usize, path: &'static str) {
    let verb = world.random.pick(&[Verb::AddAndSet, Verb::AddAndSet, Verb::Set]);
    let value = value(world, ValueType::String);
    world.ask(at, Asked::Update(Update::new(verb, path, ValueType::String, Some(value))));
}

fn step(world: &mut World) {
    let shards = world.shards().len();
    let (shard, at) = (world.random.below(shards), world.random.below(world.links.len()));
    let bytes = world.random.pick(&[1, 50, 400, 4000, 4000]);
    world.now.0 += world.random.below(2_000_000) as u64;
    match world.random.below(100) {
        0..20 => act(world, at),
        20..23 => befall(world, at),
        23..40 => drop(world.read(at, bytes)),
        40..56 => drop(world.listen(at, bytes)),
        56..72 => {
            for _ in 0..world.random.pick(&[1, 1, 8]) {
                world.send(shard);
            }
        }
        72..84 => {
            let from = world.random.below(shards);
            world.deliver(from, shard);
        }
        84..94 => drop(world.walk(shard)),
        94..98 => drop(world.post(shard)),
        _ => {
            world.now.0 += 20_000_000;
            world.tick(shard);
        }
    }
}

/// Few requests wait at a time, so that answers alone fill no queue.
fn act(world: &mut World, at: usize) {
    let client = &world.links[at].client;
    if !client.is_live() || client.waiting.len() > 8 || client.outgoing.len() > 2000 {
        return;
    }
    let pattern = world.random.pick(&PATTERNS);
    let scope = world.random.pick(&["", "", "", "x"]);
    match world.random.below(100) {
        0..25 => _ = world.ask(at, Asked::Subscribe { pattern, scope }),
        25..40 => _ = world.ask(at, Asked::Unsubscribe { pattern, scope: Some(scope) }),
        40..45 => _ = world.ask(at, Asked::Unsubscribe { pattern: everything(), scope: None }),
        45..55 => {
            // Another in its place, or the same again.
            world.ask(at, Asked::Unsubscribe { pattern, scope: Some(scope) });
            let pattern = if world.random.percent(50) { pattern } else { world.random.pick(&PATTERNS) };
            world.ask(at, Asked::Subscribe { pattern, scope });
        }
        55..60 => {
            let pattern = world.random.pick(&PATTERNS[3..]);
            world.ask(at, Asked::Remove { pattern });
        }
        _ => {
            for _ in 0..world.random.pick(&[1, 4]) {
                let path = world.random.pick(&PATHS);
                set(world, at, path);
            }
        }
    }
}

fn befall(world: &mut World, at: usize) {
    match world.random.below(10) {
        0..4 => world.links[at].is_stalled = true,
        4..9 => world.links[at].is_stalled = false,
        _ if world.random.percent(world.conditions.faults * 10) => {
            match world.random.percent(70) || !world.links[at].client.is_live() {
                true => world.reset(at),
                false => world.links[at].client.leave(&mut world.random),
            }
            let form = form(&mut world.random);
            world.connect(form);
        }
        _ => {}
    }
}

fn check_nobody_was_closed(world: &World) {
    for link in world.links.iter().filter(|link| !link.client.is_leaving) {
        assert_eq!(link.client.closed, None, "client {} was closed", link.client.name);
    }
}

fn check_rest(world: &mut World) {
    world.links.iter_mut().for_each(|link| link.is_stalled = false);
    world.settle();
    check_nobody_was_closed(world);
    check_answered(world);
    let found = fetch_all(world, 0);
    for path in PATHS.iter() {
        world.model.check_at_rest(path, found.get(*path));
    }
    check_copies(world, &found);
}

/// How many slices the shard went on by, behind the turn in which it was asked.
fn slices(world: &mut World, shard: usize, ask: impl FnOnce(&mut World)) -> usize {
    let before = world.slices[shard];
    ask(world);
    world.settle();
    world.slices[shard] - before
}

/// At rest: who selects all that the shard knows, withdraws that or goes, is served slice by slice.
fn check_slices(world: &mut World, shard: usize) {
    let form = Form::Binary { capabilities: 0 };
    let (first, second) = (world.connect_at(form, shard), world.connect_at(form, shard));
    world.ask(first, Asked::subscribe(PATTERNS[0]));
    world.settle();
    let (slice, known) = (world.conditions.walk_slice, world.links[first].client.topics.len());
    let least = (known / slice).saturating_sub(2);
    let asks = |asked: Asked| move |world: &mut World| _ = world.ask(second, asked);
    let subscribed = slices(world, shard, asks(Asked::subscribe(PATTERNS[0])));
    assert!(subscribed >= least, "{known} topics are subscribed in {subscribed} slices of {slice}");
    let ended = slices(world, shard, asks(Asked::unsubscribe(PATTERNS[0])));
    assert!(ended >= least, "{known} subscriptions end in {ended} slices of {slice}");
    world.ask(second, Asked::subscribe(PATTERNS[0]));
    world.settle();
    let left = slices(world, shard, |world| world.reset(second));
    assert!(left >= least, "a session is taken off {known} topics in {left} slices of {slice}");
    world.reset(first);
    world.settle();
}

#[test]
fn selections_of_many_topics_converge_and_nobody_is_closed() {
    crate::for_each_seed(|seed| {
        let mut world = start(seed);
        for _ in 0..2 {
            for _ in 0..world.random.within(300, 1500) {
                step(&mut world);
            }
            check_rest(&mut world);
        }
        for shard in 0..world.shards().len() {
            check_slices(&mut world, shard);
        }
        check_rest(&mut world);
        for _ in 0..world.random.within(0, 100) {
            step(&mut world);
        }
        for at in 0..world.links.len() {
            world.reset(at);
            world.links[at].is_stalled = false;
        }
        check_empty(&mut world);
    });
}
