//! Whoever subscribes to a time series has, from the first event that it got, every one to the last, in order and none twice.
//!
//! The clients check each event when it comes; here interests end and come back while events and the owners' answers are on their way.

use crate::ask::{Asked, Update};
use crate::client::Form;
use crate::random::Random;
use crate::topics::{Pattern, Properties, TIME_SERIES};
use crate::workload::{check_at_rest, run, value};
use crate::world::{Conditions, World, owner};
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::Verb;

const PATH: &str = "a/b";
const PROPERTIES: Properties = &[
    ("TIME_SERIES_EVENT_VALUE_TYPE", "string"),
    ("TIME_SERIES_RETAINED_RANGE", "limit 1000"),
    ("TIME_SERIES_SUBSCRIPTION_RANGE", "limit 4"),
];
const EXACT: Pattern = Pattern { text: "a/b", matches: |path| path == "a/b" };
const BRANCH: Pattern = Pattern { text: "?a//", matches: |path| path == "a" || path.starts_with("a/") };

fn append(world: &mut World, at: usize) {
    let original = world.random.percent(20).then_some(0);
    let value = value(world, ValueType::String);
    world.ask(at, Asked::Append { path: PATH, kind: ValueType::String, original, value });
}

fn make(world: &mut World, at: usize) {
    let value = value(world, ValueType::String);
    let update = Update::new(Verb::AddAndSet, PATH, ValueType::String, Some(value));
    world.ask(at, Asked::Update(Update { topic: TIME_SERIES, properties: PROPERTIES, ..update }));
    world.settle();
}

fn world(seed: u64) -> World {
    let mut random = Random::new(seed);
    let chosen = Conditions::chosen(&mut random);
    World::new(random, Conditions { shards: 2, bytes_high: 50_000, bytes_max: 50_000, selections_max: 8, keep_alive_ms: 30_000, ..chosen })
}

#[test]
fn events_are_unbroken_where_everything_happens() {
    crate::for_each_seed(|seed| {
        let mut world = run(seed, |conditions| {
            conditions.topics = crate::topics::Topics::Mixed;
            conditions.shards = 3;
            conditions.selections = 50;
            conditions.removals = 1;
            conditions.bytes_max = 60_000;
        });
        check_at_rest(&mut world);
    });
}

/// Sessions of one shard give the last interest up and take it again while mail of every kind is on its way.
#[test]
fn interests_that_end_and_come_back_leave_no_gap() {
    crate::for_each_seed(|seed| {
        for _ in 0..6 {
            let mut world = world(seed);
            let home = owner(PATH, 2);
            let publisher = world.connect_at(Form::Binary { capabilities: 0 }, home);
            let subscribers = [world.connect_at(Form::Text, 1 - home), world.connect_at(Form::Binary { capabilities: 7 }, 1 - home)];
            make(&mut world, publisher);
            for _ in 0..world.random.within(10, 40) {
                let at = world.random.pick(&subscribers);
                let pattern = world.random.pick(&[EXACT, BRANCH]);
                match world.random.below(8) {
                    0..2 => drop(world.ask(at, Asked::subscribe(pattern))),
                    2..4 => drop(world.ask(at, Asked::unsubscribe(pattern))),
                    _ => append(&mut world, publisher),
                }
                for _ in 0..world.random.below(6) {
                    chance(&mut world);
                }
            }
            check_at_rest(&mut world);
        }
    });
}

/// One thing that is under way moves on.
fn chance(world: &mut World) {
    let (shard, at) = (world.random.below(2), world.random.below(world.links.len()));
    match world.random.below(6) {
        0 | 1 => drop(world.read(at, 4000)),
        2 => drop(world.deliver(shard, 1 - shard)),
        3 => drop(world.walk(shard)),
        4 => drop(world.post(shard)),
        _ => {
            world.send(shard);
            world.listen(at, 4000);
        }
    }
}

/// Two selections hold the topic in turn, so that the subscription never ends although each interest does.
#[test]
fn a_subscription_that_stands_misses_nothing_while_its_interest_changes() {
    crate::for_each_seed(|seed| {
        let mut world = world(seed);
        let home = owner(PATH, 2);
        let publisher = world.connect_at(Form::Binary { capabilities: 0 }, home);
        let at = world.connect_at(Form::Binary { capabilities: 0 }, 1 - home);
        make(&mut world, publisher);
        world.ask(at, Asked::subscribe(EXACT));
        world.settle();
        for _ in 0..10 {
            for (taken, given_up) in [(BRANCH, EXACT), (EXACT, BRANCH)] {
                world.ask(at, Asked::Subscribe { pattern: taken, scope: taken.text });
                append(&mut world, publisher);
                (0..world.random.below(9)).for_each(|_| chance(&mut world));
                world.ask(at, Asked::Unsubscribe { pattern: given_up, scope: Some(given_up.text) });
                append(&mut world, publisher);
                (0..world.random.below(9)).for_each(|_| chance(&mut world));
            }
        }
        check_at_rest(&mut world);
        let held = world.links[at].client.held(PATH).expect("it is subscribed");
        assert_eq!(held.events[0].sequence, 0, "the subscription never ended");
    });
}

#[test]
fn a_new_subscriber_gets_the_subscription_range() {
    crate::for_each_seed(|seed| {
        let mut world = world(seed);
        let publisher = world.connect(Form::Binary { capabilities: 0 });
        make(&mut world, publisher);
        let count = world.random.within(0, 9);
        (0..count).for_each(|_| append(&mut world, publisher));
        world.settle();
        let at = world.connect(Form::Text);
        world.ask(at, Asked::subscribe(BRANCH));
        world.settle();
        let held = world.links[at].client.held(PATH).expect("it is subscribed");
        let last = held.events.last().expect("it has an event").sequence;
        assert!(last <= count as u64, "no more than were appended");
        assert_eq!(held.events.len() as u64, 4.min(last + 1));
        check_at_rest(&mut world);
    });
}
