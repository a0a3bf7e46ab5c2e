//! Orders of events between shards and queues that chance seldom finds, laid out by hand.

use crate::ask::{Asked, Update};
use crate::client::Form;
use crate::ending::check_empty;
use crate::random::Random;
use crate::topics::{PATHS, TIME_SERIES, Topics, everything};
use crate::workload::{check_at_rest, value};
use crate::world::{Conditions, World, owner};
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::Verb;

const BINARY: Form = Form::Binary { capabilities: 3 };

fn world(change: impl Fn(&mut Conditions)) -> World {
    let mut random = Random::new(1);
    let chosen = Conditions::chosen(&mut random);
    let mut conditions = Conditions {
        bytes_high: 50_000,
        bytes_max: 50_000,
        shards: 2,
        selections_max: 8,
        ring_batches: 4,
        topics: Topics::Plain,
        ..chosen
    };
    change(&mut conditions);
    World::new(random, conditions)
}

fn make(world: &mut World, at: usize, path: &'static str) {
    let value = value(world, ValueType::String);
    world.ask(at, Asked::Update(Update::new(Verb::AddAndSet, path, ValueType::String, Some(value))));
}

/// Fills the socket of a client that does not read, so that what follows stays in its queue.
fn stall(world: &mut World, at: usize) {
    world.links[at].is_stalled = true;
    world.ask(at, Asked::Nonsense);
    world.settle();
}

#[test]
fn a_topic_that_was_forgotten_and_came_again_is_announced_twice() {
    for path in PATHS {
        let mut world = world(|conditions| conditions.socket_bytes = 1);
        let at = world.connect(BINARY);
        make(&mut world, at, path);
        world.settle();
        stall(&mut world, at);
        for _ in 0..3 {
            world.ask(at, Asked::subscribe(everything()));
            world.settle();
            world.ask(at, Asked::unsubscribe(everything()));
            world.settle();
        }
        world.ask(at, Asked::subscribe(everything()));
        check_at_rest(&mut world);
    }
}

#[test]
fn an_answer_waits_for_topics_in_the_mail() {
    for path in PATHS {
        let mut world = world(|_| {});
        let home = owner(path, 2);
        let publisher = world.connect_at(BINARY, home);
        let first = world.connect_at(BINARY, 1 - home);
        let second = world.connect_at(BINARY, 1 - home);
        world.ask(first, Asked::subscribe(everything()));
        world.settle();
        make(&mut world, publisher, path);
        // The mail that tells of the topic waits, all else goes on.
        world.settle_without_mail();
        assert!(world.links[publisher].client.waiting.is_empty(), "the topic is made");
        world.ask(second, Asked::subscribe(everything()));
        world.settle_without_mail();
        check_at_rest(&mut world);
    }
}

/// A selector is given up and selected again, and between the two a topic is removed and another made in its place.
#[test]
fn a_topic_that_was_waited_for_ends_before_another_begins_at_its_path() {
    for path in PATHS {
        let mut world = world(|conditions| conditions.socket_bytes = 5000);
        let home = owner(path, 2);
        let publisher = world.connect_at(BINARY, home);
        let at = world.connect_at(BINARY, 1 - home);
        make(&mut world, publisher, path);
        world.ask(at, Asked::subscribe(everything()));
        world.settle();
        for asked in [Asked::unsubscribe(everything()), Asked::subscribe(everything())] {
            world.ask(at, asked);
            while world.read(at, 4000) {}
            while world.post(1 - home) {}
        }
        assert!(world.deliver(1 - home, home), "the selector is given up");
        while world.walk(home) {}
        world.ask(publisher, Asked::Remove { pattern: everything() });
        make(&mut world, publisher, path);
        while world.read(publisher, 4000) || world.walk(home) {}
        check_at_rest(&mut world);
    }
}

/// Series that a session waits for appear again when it is over and not yet taken off them.
#[test]
fn a_session_that_is_over_is_not_asked_first_events_for() {
    let mut world = world(|conditions| (conditions.socket_bytes, conditions.walk_slice, conditions.ring_batches) = (5000, 1, 100));
    let home = owner(PATHS[0], 2);
    let publisher = world.connect_at(BINARY, home);
    let at = world.connect_at(BINARY, 1 - home);
    for path in PATHS {
        let update = Update::new(Verb::Add, path, ValueType::String, None);
        let properties = &[("TIME_SERIES_EVENT_VALUE_TYPE", "string")];
        world.ask(publisher, Asked::Update(Update { topic: TIME_SERIES, properties, ..update }));
        world.settle();
    }
    world.ask(at, Asked::subscribe(everything()));
    world.settle();
    for asked in [Asked::unsubscribe(everything()), Asked::subscribe(everything())] {
        world.ask(at, asked);
        while world.read(at, 4000) || world.walk(1 - home) {}
        while world.post(1 - home) {}
    }
    world.reset(at);
    assert!(world.read(at, 1), "it is over");
    while world.deliver(1 - home, home) {
        while world.walk(home) || world.post(home) {}
    }
    while world.deliver(home, 1 - home) || world.post(home) {}
    while world.walk(1 - home) {}
    world.tick(1 - home);
    world.reset(publisher);
    check_empty(&mut world);
}

#[test]
fn a_selector_given_up_while_its_walk_is_under_way_is_answered() {
    for given_up_after in 0..12 {
        let mut world = world(|conditions| conditions.walk_slice = 1);
        let at = world.connect(BINARY);
        PATHS.into_iter().for_each(|path| make(&mut world, at, path));
        world.settle();
        world.ask(at, Asked::subscribe(everything()));
        world.settle_rounds(given_up_after);
        world.ask(at, Asked::unsubscribe(everything()));
        world.ask(at, Asked::subscribe(everything()));
        world.settle_rounds(given_up_after);
        world.ask(at, Asked::Remove { pattern: everything() });
        PATHS.into_iter().for_each(|path| make(&mut world, at, path));
        check_at_rest(&mut world);
    }
}

#[test]
fn who_leaves_without_reading_keeps_the_queues_bound() {
    let mut world = world(|conditions| {
        conditions.socket_bytes = 1;
        conditions.bytes_high = 0;
        conditions.bytes_max = 500;
    });
    let publisher = world.connect(BINARY);
    let at = world.connect(BINARY);
    // What may not be conflated fills the queue; that topics are subscribed does not count.
    let set = |world: &mut World| {
        let value = value(world, ValueType::String);
        let update = Update::new(Verb::AddAndSet, PATHS[0], ValueType::String, Some(value));
        world.ask(publisher, Asked::Update(Update { properties: &[("CONFLATION", "off")], ..update }));
        world.settle();
    };
    set(&mut world);
    world.ask(at, Asked::subscribe(everything()));
    world.settle();
    stall(&mut world, at);
    let link = &mut world.links[at];
    link.client.leave(&mut world.random);
    world.settle();
    for _ in 0..20 {
        set(&mut world);
    }
    world.links[at].is_stalled = false;
    world.settle();
    assert_eq!(world.links[at].client.closed, Some(4104));
}

/// Sessions that hold the same run of steps share its bytes, and each still gets its close.
#[test]
fn who_shares_the_last_bytes_is_closed_too() {
    let mut world = world(|conditions| {
        conditions.shards = 1;
        conditions.socket_bytes = 5000;
        conditions.transmit_bytes_max = 4000;
    });
    let publisher = world.connect(BINARY);
    let subscribers = [world.connect(BINARY), world.connect(BINARY)];
    make(&mut world, publisher, PATHS[0]);
    for at in subscribers {
        world.ask(at, Asked::subscribe(everything()));
    }
    world.settle();
    make(&mut world, publisher, PATHS[0]);
    while world.read(publisher, 4000) {}
    world.shut_down();
    world.settle();
    for at in subscribers {
        assert_eq!(world.links[at].client.closed, Some(1001), "client {at}");
    }
}
