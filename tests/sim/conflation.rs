//! What each CONFLATION promises to a session that falls behind, and the order in which PRIORITY sends what waits.

use crate::ask::{Asked, Update};
use crate::client::Form;
use crate::random::Random;
use crate::topics::{PATHS, Pattern, Plan, Properties, Topics, everything, plan};
use crate::workload::{check_at_rest, value};
use crate::world::{Conditions, World};
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::Verb;

const BINARY: Form = Form::Binary { capabilities: 7 };

/// A subscriber whose queue is empty and that reads nothing from now on, and a publisher.
struct Behind {
    world: World,
    publisher: usize,
    subscriber: usize,
}

impl Behind {
    fn new(seed: u64, topics: &[(&'static str, Properties)], change: impl Fn(&mut Conditions)) -> Self {
        let mut random = Random::new(seed);
        let chosen = Conditions::chosen(&mut random);
        let mut conditions = Conditions {
            topics: Topics::Plain,
            bytes_high: 1000,
            bytes_max: 60_000,
            socket_bytes: 1,
            selections_max: 8,
            keep_alive_ms: 30_000,
            ..chosen
        };
        change(&mut conditions);
        let mut world = World::new(random, conditions);
        let (publisher, subscriber) = (world.connect(BINARY), world.connect(BINARY));
        let mut behind = Self { world, publisher, subscriber };
        for (path, properties) in topics {
            behind.set(path, properties);
        }
        behind.world.ask(subscriber, Asked::subscribe(everything()));
        behind.world.settle();
        behind.world.links[subscriber].is_stalled = true;
        behind.world.links[subscriber].client.log.clear();
        behind
    }

    /// Sets a topic, which it makes if need be, to a value that no other has.
    fn set(&mut self, path: &'static str, properties: Properties) {
        let value = value(&mut self.world, ValueType::String);
        let update = Update { properties, ..Update::new(Verb::AddAndSet, path, ValueType::String, Some(value)) };
        self.world.ask(self.publisher, Asked::Update(update));
        self.world.settle();
    }

    /// The subscriber reads all; the paths of what it is told.
    fn catch_up(&mut self) -> Vec<String> {
        self.world.links[self.subscriber].is_stalled = false;
        self.world.settle();
        std::mem::take(&mut self.world.links[self.subscriber].client.log)
    }

    fn closed(&self) -> Option<u16> {
        self.world.links[self.subscriber].client.closed
    }
}

#[test]
fn off_loses_nothing_or_the_session() {
    crate::for_each_seed(|seed| {
        let off: Properties = &[("CONFLATION", "off")];
        let mut behind = Behind::new(seed, &[("a", off), ("b", &[])], |_| {});
        let before = behind.world.links[behind.subscriber].client.held("a").map_or(0, |held| held.updates);
        let count = behind.world.random.within(5, 60);
        for _ in 0..count {
            behind.set("a", off);
            behind.set("b", &[]);
        }
        let log = behind.catch_up();
        assert_eq!(behind.closed(), None);
        assert_eq!(log.iter().filter(|path| *path == "a").count(), count);
        let held = behind.world.links[behind.subscriber].client.held("a").map_or(0, |held| held.updates);
        assert_eq!(held, before + count);
        check_at_rest(&mut behind.world);

        let mut behind = Behind::new(seed, &[("a", off)], |conditions| conditions.bytes_max = 3000);
        for _ in 0..60 {
            behind.set("a", off);
        }
        behind.catch_up();
        assert_eq!(behind.closed(), Some(4104));
    });
}

#[test]
fn always_lets_one_update_wait() {
    crate::for_each_seed(|seed| {
        let always: Properties = &[("CONFLATION", "always")];
        let mut behind = Behind::new(seed, &[("a", always)], |conditions| conditions.bytes_high = 60_000);
        for _ in 0..behind.world.random.within(5, 60) {
            behind.set("a", always);
        }
        // One was on its way to the socket when the others came.
        assert!(behind.catch_up().len() <= 2);
        check_at_rest(&mut behind.world);
    });
}

#[test]
fn unsubscribe_ends_with_its_reason_and_nothing_comes_after() {
    crate::for_each_seed(|seed| {
        let topics: [(&str, Properties); 2] = [("a", &[("CONFLATION", "unsubscribe")]), ("b", &[])];
        let mut behind = Behind::new(seed, &topics, |_| {});
        for _ in 0..60 {
            for (path, properties) in topics {
                behind.set(path, properties);
            }
        }
        behind.catch_up();
        let client = &behind.world.links[behind.subscriber].client;
        assert!(client.ended_under_pressure.contains("a") && client.held("a").is_none(), "the subscription has ended");
        assert!(client.held("b").is_some());
        for (path, properties) in topics {
            behind.set(path, properties);
        }
        assert!(!behind.catch_up().contains(&"a".to_owned()), "nothing comes behind the end");
        check_at_rest(&mut behind.world);
        let subscriber = behind.subscriber;
        behind.world.ask(subscriber, Asked::subscribe(Pattern { text: "a", matches: |path| path == "a" }));
        behind.world.settle();
        assert!(behind.world.links[subscriber].client.held("a").is_some(), "who subscribes again is subscribed");
        check_at_rest(&mut behind.world);
    });
}

#[test]
fn who_keeps_up_is_told_of_values_that_are_not_retained_and_who_does_not_of_the_last() {
    crate::for_each_seed(|seed| {
        let unkept: Properties = &[("DONT_RETAIN_VALUE", "true")];
        let mut behind = Behind::new(seed, &[("a", unkept)], |_| {});
        behind.world.links[behind.subscriber].is_stalled = false;
        for count in 1..10 {
            behind.set("a", unkept);
            assert_eq!(behind.world.links[behind.subscriber].client.log.len(), count);
        }
        behind.world.links[behind.subscriber].is_stalled = true;
        for _ in 0..40 {
            behind.set("a", unkept);
        }
        let last = value(&mut behind.world, ValueType::String);
        let update = Update::new(Verb::Set, "a", ValueType::String, Some(last.clone()));
        behind.world.ask(behind.publisher, Asked::Update(update));
        behind.world.settle();
        let log = behind.catch_up();
        assert!(log.len() < 41, "some gave way");
        let held = behind.world.links[behind.subscriber].client.held("a").and_then(|held| held.value.clone());
        assert_eq!(held, Some(last));
    });
}

#[test]
fn what_has_priority_is_sent_first() {
    crate::for_each_seed(|seed| {
        let topics: [(&str, Properties); 3] = [("a", &[("PRIORITY", "low")]), ("b", &[]), ("c", &[("PRIORITY", "high")])];
        let mut behind = Behind::new(seed, &topics, |conditions| conditions.bytes_high = 60_000);
        behind.set("b", &[]);
        for _ in 0..10 {
            let (path, properties) = behind.world.random.pick(&topics);
            behind.set(path, properties);
        }
        let log = behind.catch_up();
        assert_eq!(log.len(), 11, "nothing was left out");
        // The first was on its way when the others came.
        let lane = |path: &String| topics.iter().rev().position(|(of, _)| of == path);
        assert!(log[1..].is_sorted_by_key(lane), "{log:?}");
    });
}

/// At rest the last thing that anybody was told of a topic is its owner's, null or not.
#[test]
fn null_comes_and_goes() {
    crate::for_each_seed(|seed| {
        let mut random = Random::new(seed);
        let bytes_high = random.pick(&[0, 200, 2000]);
        let conditions = Conditions { topics: Topics::Mixed, bytes_high, bytes_max: 60_000, ..Conditions::chosen(&mut random) };
        let mut world = World::new(random, conditions);
        let publisher = world.connect(BINARY);
        let subscribers = [world.connect(BINARY), world.connect(Form::Text)];
        for at in subscribers {
            world.ask(at, Asked::subscribe(everything()));
        }
        for _ in 0..200 {
            let path = world.random.pick(&PATHS);
            let Plan { kind, is_series, properties } = plan(Topics::Mixed, path);
            let is_null = !is_series && !matches!(kind, ValueType::Json | ValueType::Binary) && world.random.percent(50);
            let value = (!is_null).then(|| value(&mut world, kind));
            let topic = plan(Topics::Mixed, path).number();
            world.ask(publisher, Asked::Update(Update { topic, properties, ..Update::new(Verb::AddAndSet, path, kind, value) }));
            let stalled = world.random.pick(&subscribers);
            world.links[stalled].is_stalled = world.random.percent(50);
            if world.random.percent(30) {
                world.settle();
            }
        }
        check_at_rest(&mut world);
        let late = world.connect(BINARY);
        world.ask(late, Asked::subscribe(everything()));
        world.settle();
        let client = &world.links[late].client;
        assert!(client.topics.values().all(|held| held.updates == 0 || held.value.is_some()), "who comes later is not told null");
    });
}
