//! What is acknowledged as stored survives a crash, and what a server starts with is what was stored.
//!
//! The disk takes records late, has little room, fails and recovers; the process ends at any moment and starts again, maybe with another number of
//! shards. The model knows what was acknowledged, the disk what was stored: at rest both agree with what clients fetch.

use crate::ask::{Asked, Update};
use crate::client::Form;
use crate::heard::HeardEvent;
use crate::random::Random;
use crate::topics::{PATHS, Plan, TIME_SERIES, Topics, everything, is_persistent, plan};
use crate::workload::{self, check_at_rest, fetch_all, form, value};
use crate::world::{Conditions, World};
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::Verb;

/// Kinds of queries.
const VALUES: u8 = 0;
const ALL_EDITS: u8 = 2;

const BINARY: Form = Form::Binary { capabilities: 7 };

fn start(seed: u64, change: impl Fn(&mut Conditions)) -> World {
    let mut random = Random::new(seed);
    let mut conditions = Conditions { topics: Topics::Mixed, faults: 3, ..Conditions::chosen(&mut random) };
    change(&mut conditions);
    let waiting_max = random.pick(&[2, 20, 1000]);
    let mut world = World::stored(random, conditions, waiting_max);
    connect_all(&mut world);
    world
}

fn connect_all(world: &mut World) {
    for _ in 0..world.conditions.clients {
        let form = form(&mut world.random);
        world.connect(form);
    }
}

fn step(world: &mut World) {
    workload::step(world);
    step_disk(world);
}

/// A bit of what a disk has to do.
pub fn step_disk(world: &mut World) {
    let shard = world.random.below(world.shards().len());
    let records_max = world.random.within(1, 20);
    let Some(disk) = &mut world.disk else { return };
    match world.random.below(12) {
        0..3 => drop(disk.write(shard)),
        3 => drop(disk.sync(records_max)),
        4..6 => drop(world.acknowledge(shard)),
        _ => {}
    }
}

/// What the disk holds is what clients fetch, and no acknowledged event is lost.
fn check_stored(world: &mut World) {
    let found = fetch_all(world, 0);
    let stored = &world.disk.as_ref().expect("storage is on").state;
    let kept: Vec<_> = found.values().filter(|row| row.property("PERSISTENT").is_none()).map(|row| row.path.as_str()).collect();
    let mut paths: Vec<_> = stored.topics.values().map(|stored| stored.path.as_str()).collect();
    paths.sort_unstable();
    assert_eq!(paths, kept, "the disk holds other topics than are there");
    for topic in stored.topics.values() {
        let row = &found[topic.path.as_str()];
        let last = topic.events.last_key_value().map(|(_, event)| &event.value);
        assert_eq!(last.or(topic.value.as_ref()).map(|value| value.to_vec()), row.value, "{} on the disk", topic.path.as_str());
    }
    let series: Vec<&'static str> =
        PATHS.into_iter().filter(|path| found.get(*path).is_some_and(|row| row.number == TIME_SERIES)).collect();
    let at = world.connect(BINARY);
    for path in series {
        let (from, events) = all_events(world, at, path);
        world.model.check_events(path, from, &events);
    }
    world.links[at].client.leave(&mut world.random);
    world.settle();
}

/// Originals and edits in the order of their sequences, and the sequence from which on none is left out.
fn all_events(world: &mut World, at: usize, path: &'static str) -> (u64, Vec<HeardEvent>) {
    let (mut from, mut events) = (0, Vec::new());
    for kind in [VALUES, ALL_EDITS] {
        world.ask(at, Asked::Query { path, kind });
        world.settle();
        let (is_complete, some) = world.links[at].client.last_events.take().expect("a query is answered at rest");
        if !is_complete {
            from = from.max(some.iter().map(|event| event.sequence).min().unwrap_or(u64::MAX));
        }
        events.extend(some);
    }
    events.sort_by_key(|event: &HeardEvent| event.sequence);
    events.dedup();
    events.retain(|event| event.sequence >= from);
    (from, events)
}

/// A server that runs, crashes and starts again some times.
pub fn run(seed: u64) -> World {
    let mut world = start(seed, |conditions| conditions.removals = conditions.removals.min(4));
    for _ in 0..3 {
        for _ in 0..world.random.within(200, 1200) {
            step(&mut world);
        }
        if world.random.percent(40) {
            check_at_rest(&mut world);
            check_stored(&mut world);
        }
        let shards = world.random.within(1, 4) as u16;
        world.crash(shards);
        check_at_rest(&mut world);
        check_stored(&mut world);
        connect_all(&mut world);
    }
    check_at_rest(&mut world);
    check_stored(&mut world);
    world
}

#[test]
fn what_is_acknowledged_survives_crashes() {
    crate::for_each_seed(|seed| drop(run(seed)));
}

#[test]
fn a_disk_that_fails_and_recovers_loses_nothing() {
    crate::for_each_seed(|seed| {
        let mut world = start(seed, |conditions| conditions.keep_alive_ms = 30_000);
        for _ in 0..6 {
            for _ in 0..world.random.within(50, 500) {
                step(&mut world);
            }
            world.turn_disk();
        }
        check_at_rest(&mut world);
        check_stored(&mut world);
        let shards = world.random.within(1, 4) as u16;
        world.crash(shards);
        check_at_rest(&mut world);
        check_stored(&mut world);
    });
}

/// What comes while the disk is known to fail is refused and changes nothing.
#[test]
fn updates_are_refused_while_the_disk_fails() {
    crate::for_each_seed(|seed| {
        let mut world = start(seed, |conditions| {
            conditions.bytes_high = 50_000;
            conditions.bytes_max = 50_000;
            conditions.keep_alive_ms = 30_000;
            conditions.selections_max = 8;
        });
        let (publisher, subscriber) = (world.connect(BINARY), world.connect(BINARY));
        world.ask(subscriber, Asked::subscribe(everything()));
        for path in PATHS {
            ask_to_set(&mut world, publisher, path);
        }
        world.settle();
        let stored = |world: &mut World| {
            let mut found = fetch_all(world, 0);
            found.retain(|path, _| is_persistent(path));
            found
        };
        let before = stored(&mut world);
        world.turn_disk();
        let asked: Vec<u64> =
            PATHS.into_iter().filter(|path| is_persistent(path)).map(|path| ask_to_set(&mut world, publisher, path)).collect();
        let removal = world.ask(publisher, Asked::Remove { pattern: everything() });
        world.settle();
        for id in asked.into_iter().chain([removal]) {
            assert_eq!(world.links[publisher].client.answers.get(&id), Some(&Some(410)), "request {id}");
        }
        assert_eq!(stored(&mut world), before);
        world.turn_disk();
        let asked: Vec<u64> = PATHS.into_iter().map(|path| ask_to_set(&mut world, publisher, path)).collect();
        world.settle();
        for id in asked {
            assert_eq!(world.links[publisher].client.answers.get(&id), Some(&None), "request {id}");
        }
        check_at_rest(&mut world);
        check_stored(&mut world);
    });
}

fn ask_to_set(world: &mut World, at: usize, path: &'static str) -> u64 {
    let Plan { kind, properties, .. } = plan(Topics::Mixed, path);
    let topic = plan(Topics::Mixed, path).number();
    let value = Some(value(world, kind));
    let verb = Verb::AddAndSet;
    world.ask(at, Asked::Update(Update { verb, path, topic, kind, properties, value, constraint: String::new() }))
}

/// An update that is in memory and cannot be stored now is stored later, though its answer says that it failed.
#[test]
fn what_was_in_memory_when_the_disk_failed_is_stored_later() {
    let mut world = start(1, |conditions| conditions.keep_alive_ms = 30_000);
    let at = world.connect(BINARY);
    let value = value(&mut world, ValueType::String);
    if let Some(disk) = &mut world.disk {
        disk.is_failing = true;
    }
    // The shards do not know of it yet.
    let id = world.ask(at, Asked::Update(Update::new(Verb::AddAndSet, "b", ValueType::String, Some(value))));
    world.settle();
    let other = world.connect(BINARY);
    let found = [Verb::Add, Verb::Check].map(|verb| world.ask(other, Asked::Update(Update::new(verb, "b", ValueType::String, None))));
    world.settle();
    assert_eq!(world.links[at].client.answers.get(&id), None, "it is not answered before it is stored");
    for id in found {
        assert_eq!(world.links[other].client.answers.get(&id), None, "nor is who finds it there");
    }
    if let Some(disk) = &mut world.disk {
        disk.is_failing = false;
    }
    world.turn_disk();
    world.settle();
    assert_eq!(world.links[at].client.answers.get(&id), Some(&Some(410)));
    world.turn_disk();
    check_at_rest(&mut world);
    check_stored(&mut world);
    assert!(fetch_all(&mut world, 0).contains_key("b"));
}
