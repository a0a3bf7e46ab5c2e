//! A queue never holds more than its bound; who exceeds it is closed with 4104.

use crate::ask::Asked;
use crate::client::Form;
use crate::topics::{Topics, everything};
use crate::workload::{check_at_rest, run, update};
use crate::world::{Conditions, World};

#[test]
fn queues_keep_their_bound_under_faults() {
    crate::for_each_seed(|seed| {
        let mut world = run(seed, |conditions| {
            conditions.bytes_high = 500;
            conditions.bytes_max = 2500;
            conditions.socket_bytes = 40;
            conditions.faults = 15;
        });
        check_at_rest(&mut world);
    });
}

#[test]
fn who_does_not_read_its_answers_is_closed() {
    crate::for_each_seed(|seed| {
        let mut random = crate::random::Random::new(seed);
        let conditions =
            Conditions { bytes_high: 400, bytes_max: 3000, socket_bytes: 300, transmit_bytes_max: 300, ..Conditions::chosen(&mut random) };
        let mut world = World::new(random, conditions);
        let at = world.connect(Form::Text);
        world.settle();
        world.links[at].is_stalled = true;
        for _ in 0..300 {
            world.ask(at, Asked::unsubscribe(everything()));
        }
        world.settle();
        world.links[at].is_stalled = false;
        world.settle();
        assert_eq!(world.links[at].client.closed, Some(4104));
    });
}

#[test]
fn who_does_not_read_updates_keeps_the_newest() {
    crate::for_each_seed(|seed| {
        let mut random = crate::random::Random::new(seed);
        let conditions = Conditions { bytes_high: 1000, bytes_max: 5000, topics: Topics::Plain, ..Conditions::chosen(&mut random) };
        let mut world = World::new(random, conditions);
        let publisher = world.connect(Form::Binary { capabilities: 0 });
        let at = world.connect(Form::Binary { capabilities: 3 });
        world.ask(at, Asked::subscribe(everything()));
        world.settle();
        world.links[at].is_stalled = true;
        for _ in 0..300 {
            update(&mut world, publisher);
            if world.random.percent(30) {
                world.settle();
            }
        }
        world.settle();
        assert_eq!(world.links[at].client.closed, None);
        check_at_rest(&mut world);
    });
}
