//! What a publisher of MQTT is told was taken reaches every session that was subscribed: QoS 1 at least once, QoS 2 once, each publisher's in order.
//!
//! Links are lost, taken over and stalled at any moment, and connections come to the wrong shard; in half of the tests the server itself starts
//! again from what its disk holds. Queues have no bound here, so that nothing is dropped.

use crate::mqtt_workload::{check_at_rest, check_end, conditions, start, step};
use crate::random::Random;
use crate::world::World;

pub fn run(seed: u64) -> World {
    let mut random = Random::new(seed);
    let conditions = conditions(&mut random);
    let mut world = start(random, conditions, None);
    for _ in 0..2 {
        for _ in 0..world.random.within(500, 3000) {
            step(&mut world);
        }
        check_at_rest(&mut world);
    }
    world
}

#[test]
fn messages_arrive_through_lost_links() {
    crate::for_each_seed(|seed| check_end(&mut run(seed)));
}

fn run_stored(seed: u64) -> World {
    let mut random = Random::new(seed);
    let conditions = conditions(&mut random);
    let waiting_max = random.pick(&[2, 20, 1000]);
    let mut world = start(random, conditions, Some(waiting_max));
    for _ in 0..3 {
        for _ in 0..world.random.within(200, 2000) {
            step(&mut world);
        }
        if world.random.percent(40) {
            check_at_rest(&mut world);
        }
        let shards = world.random.within(1, 4) as u16;
        world.crash(shards);
        if world.random.percent(40) {
            check_at_rest(&mut world);
        }
    }
    check_at_rest(&mut world);
    world
}

#[test]
fn messages_arrive_through_restarts() {
    crate::for_each_seed(|seed| check_end(&mut run_stored(seed)));
}

/// What storage refuses, clients send again; what it took before comes no second time.
#[test]
fn messages_arrive_while_the_disk_fails_and_recovers() {
    crate::for_each_seed(|seed| {
        let mut random = Random::new(seed);
        let conditions = conditions(&mut random);
        let mut world = start(random, conditions, Some(1000));
        world.messages.has_refusals = true;
        for _ in 0..3 {
            for _ in 0..2 {
                for _ in 0..world.random.within(50, 500) {
                    step(&mut world);
                }
                world.turn_disk();
            }
            check_at_rest(&mut world);
            let shards = world.random.within(1, 4) as u16;
            world.crash(shards);
        }
        check_at_rest(&mut world);
        check_end(&mut world);
    });
}

/// Sessions end and begin again, also at the moment of a crash.
#[test]
fn sessions_that_ended_do_not_come_back() {
    crate::for_each_seed(|seed| {
        let mut random = Random::new(seed);
        let conditions = conditions(&mut random);
        let mut world = start(random, conditions, Some(1000));
        world.messages.has_ends = true;
        for _ in 0..4 {
            for _ in 0..world.random.within(100, 1000) {
                step(&mut world);
                if world.random.percent(2) {
                    begin_anew(&mut world);
                }
            }
            let shards = world.random.within(1, 4) as u16;
            world.crash(shards);
        }
        check_at_rest(&mut world);
        check_end(&mut world);
    });
}

fn begin_anew(world: &mut World) {
    let client = world.random.below(world.mqtt_clients.len());
    match world.packet_link(client) {
        Some(at) if world.random.percent(30) => world.leave_packets(at, true),
        _ => world.connect_packets(client, true),
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    assert_eq!(run(5).trace(), run(5).trace());
    assert_eq!(run_stored(6).trace(), run_stored(6).trace());
}
