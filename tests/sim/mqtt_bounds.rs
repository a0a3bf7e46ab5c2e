//! What a session may cost: messages are not taken where it would cost more, nothing comes twice or out of order for that, everybody is answered, and
//! every session is told how many it missed.

use crate::mqtt_workload::{check_all_answered, check_end, conditions, start, step};
use crate::random::Random;
use crate::world::World;

fn run(seed: u64, is_stored: bool) {
    let mut random = Random::new(seed);
    let mut conditions = conditions(&mut random);
    if let Some(limits) = &mut conditions.mqtt {
        limits.queued_messages_max = random.within(0, 6);
    }
    conditions.bytes_high = random.pick(&[0, 300, 2000]);
    conditions.bytes_max = conditions.bytes_high + random.pick(&[2000, 6000]);
    conditions.socket_bytes = random.pick(&[40, 300]);
    let mut world = start(random, conditions, is_stored.then_some(20));
    world.messages.has_drops = true;
    // What a session missed before the server ended, and was not told by then, is in the log only.
    let mut has_crashed = false;
    for _ in 0..2 {
        for _ in 0..world.random.within(300, 2000) {
            step(&mut world);
        }
        check_all_answered(&mut world);
        if !has_crashed {
            check_counted(&mut world);
        }
        if is_stored {
            has_crashed = true;
            let shards = world.random.within(1, 4) as u16;
            world.crash(shards);
        }
    }
    check_all_answered(&mut world);
    check_end(&mut world);
}

/// Whoever connects is told.
fn check_counted(world: &mut World) {
    for client in 0..world.mqtt_clients.len() {
        world.connect_packets(client, false);
        world.settle();
    }
    world.messages.check_counted();
}

#[test]
fn small_queues_drop_messages_and_nothing_else() {
    crate::for_each_seed(|seed| run(seed, false));
}

#[test]
fn small_queues_of_stored_sessions_drop_messages_and_nothing_else() {
    crate::for_each_seed(|seed| run(seed, true));
}
