//! When everybody is gone nothing is left of them, and a server that stops takes leave of everybody.

use crate::workload::{check_at_rest, run};
use crate::world::World;

pub fn check_empty(world: &mut World) {
    world.settle();
    // Sessions that ended while bytes were sent have mail to their own shard still.
    for shard in 0..world.shards().len() {
        world.tick(shard);
    }
    world.settle();
    for (number, shard) in world.shards().iter().enumerate() {
        assert_eq!((shard.connection_count(), shard.session_count()), (0, 0), "shard {number}");
        assert_eq!(shard.audience_counts(), [0; 5], "shard {number}");
        assert_eq!(shard.listener_counts(), [0; 4], "shard {number}");
        assert_eq!(shard.owner_counts(), [0; 2], "shard {number}");
        assert_eq!(shard.lock_counts(), [0; 2], "shard {number}");
    }
}

/// The client is gone, others are still there.
pub fn check_empty_of(world: &mut World, at: usize) {
    world.settle();
    for shard in 0..world.shards().len() {
        world.tick(shard);
    }
    world.settle();
    let shard = &world.shards()[world.links[at].shard];
    assert_eq!((shard.audience_counts(), shard.listener_counts()), ([0; 5], [0; 4]));
    assert!(world.shards().iter().all(|shard| shard.owner_counts() == [0; 2]));
}

#[test]
fn nothing_is_left_of_clients_that_are_gone() {
    crate::for_each_seed(|seed| {
        let mut world = run(seed, |conditions| conditions.steps = 1500);
        for at in 0..world.links.len() {
            match world.random.below(3) {
                0 if world.links[at].client.is_live() => world.links[at].client.leave(&mut world.random),
                _ => world.reset(at),
            }
            world.links[at].is_stalled = false;
        }
        check_empty(&mut world);
    });
}

#[test]
fn a_stopping_server_sends_what_is_queued_and_says_good_bye() {
    crate::for_each_seed(|seed| {
        let mut world = run(seed, |conditions| {
            conditions.steps = 1000;
            conditions.faults = 0;
            conditions.keep_alive_ms = 30_000;
        });
        let live: Vec<_> = (0..world.links.len()).filter(|at| world.links[*at].client.is_live()).collect();
        if world.random.percent(50) {
            check_at_rest(&mut world);
        }
        world.shut_down();
        check_empty(&mut world);
        for at in live {
            let closed = world.links[at].client.closed;
            let is_open_long_enough = world.links[at].client.session.is_some();
            assert!(
                closed == Some(1001) || closed == Some(4104) || (!is_open_long_enough && closed.is_some()),
                "client {at} is closed with {closed:?}"
            );
        }
    });
}
