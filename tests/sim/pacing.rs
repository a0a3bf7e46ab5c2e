//! What is large and cannot be conflated comes as fast as the session reads it, and no faster: the first events of many time series, and what
//! a listener finds.

use crate::ask::{Asked, ListenerKind, Update};
use crate::client::{Form, Notice};
use crate::random::Random;
use crate::topics::{Pattern, Properties, TIME_SERIES};
use crate::world::{Conditions, World, owner};
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::Verb;

const PROPERTIES: Properties = &[
    ("TIME_SERIES_EVENT_VALUE_TYPE", "string"),
    ("TIME_SERIES_RETAINED_RANGE", "limit 20"),
    ("TIME_SERIES_SUBSCRIPTION_RANGE", "limit 20"),
];
const BRANCH: Pattern = Pattern { text: "?a//", matches: |path| path == "a" || path.starts_with("a/") };
const EVENTS: usize = 20;

/// Two shards; the clients of the first read slowly, and the topics are all of the second.
fn world(seed: u64) -> World {
    let mut random = Random::new(seed);
    let chosen = Conditions::chosen(&mut random);
    let bytes_high = random.pick(&[0, 500, 2000]);
    let conditions = Conditions {
        shards: 2,
        bytes_high,
        bytes_max: bytes_high + 40_000,
        transmit_bytes_max: 1000,
        socket_bytes: 1000,
        keep_alive_ms: 30_000,
        ..chosen
    };
    World::new(random, conditions)
}

/// So many paths that the second shard owns.
fn paths(count: usize) -> Vec<&'static str> {
    let all = (0..).map(|number| format!("a/{number}")).filter(|path| owner(path, 2) == 1);
    all.take(count).map(|path| &*path.leak()).collect()
}

fn add(world: &mut World, at: usize, path: &'static str, properties: Properties) {
    let (topic, verb) = if properties.is_empty() { (ValueType::String as u8, Verb::Add) } else { (TIME_SERIES, Verb::Add) };
    world.ask(at, Asked::Update(Update { topic, properties, ..Update::new(verb, path, ValueType::String, None) }));
}

#[test]
fn first_events_of_many_series_come_a_few_at_a_time() {
    crate::for_each_seed(|seed| {
        let mut world = world(seed);
        let publisher = world.connect_at(Form::Binary { capabilities: 0 }, 1);
        let paths = paths(30);
        for path in &paths {
            add(&mut world, publisher, path, PROPERTIES);
            for _ in 0..EVENTS {
                let value = format!("{:0>100}", world.take_value_number()).into_bytes();
                world.ask(publisher, Asked::Append { path, kind: ValueType::String, original: None, value });
            }
            world.settle();
        }
        let at = world.connect_at(Form::Binary { capabilities: 0 }, 0);
        world.settle();
        world.links[at].is_stalled = true;
        let id = world.ask(at, Asked::subscribe(BRANCH));
        world.settle();
        assert!(world.links[at].client.waiting.contains_key(&id), "the answer comes behind all events");
        let end_early = world.random.below(3);
        if end_early == 0 {
            // What waits for a session that is gone is forgotten.
            world.reset(at);
            return crate::ending::check_empty_of(&mut world, at);
        }
        if end_early == 1 {
            world.ask(at, Asked::unsubscribe(BRANCH));
            world.ask(at, Asked::subscribe(BRANCH));
        }
        world.links[at].is_stalled = false;
        world.settle();
        let client = &world.links[at].client;
        assert_eq!(client.closed, None, "the queue has room for what is under way");
        assert!(!client.waiting.contains_key(&id));
        for path in &paths {
            assert_eq!(client.held(path).expect("it is subscribed").events.len(), EVENTS, "{path}");
        }
        assert!((1..=4).contains(&world.histories_asked.1), "{} were asked for at a time", world.histories_asked.1);
        assert_eq!(world.histories_asked.0, 0);
    });
}

#[test]
fn a_listener_is_told_as_fast_as_it_reads() {
    crate::for_each_seed(|seed| {
        let mut world = world(seed);
        world.conditions.walk_slice = 5;
        let publisher = world.connect_at(Form::Binary { capabilities: 0 }, 1);
        let paths = paths(900);
        for path in &paths {
            add(&mut world, publisher, path, &[]);
            world.settle();
        }
        let at = world.connect_at(Form::Text, 0);
        world.settle();
        world.links[at].is_stalled = true;
        world.ask(at, Asked::Listen { listener: 1, kind: ListenerKind::Topics, selector: "?a/" });
        world.settle();
        assert_eq!(world.links[at].client.closed, None, "notices wait at the owner");
        world.links[at].is_stalled = false;
        world.settle();
        let client = &world.links[at].client;
        let told = client.notices.iter().filter(|(_, notice)| matches!(notice, Notice::Topic { .. })).count();
        assert_eq!((client.closed, told), (None, paths.len()));
        world.reset(at);
        crate::ending::check_empty_of(&mut world, at);
    });
}
