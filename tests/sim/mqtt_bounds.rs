//! What a session may cost: messages are dropped where it would cost more, nothing comes twice or out of order for that, and everybody is answered.

use crate::mqtt_workload::{check_all_answered, check_end, conditions, start, step};
use crate::random::Random;

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
    for _ in 0..2 {
        for _ in 0..world.random.within(300, 2000) {
            step(&mut world);
        }
        check_all_answered(&mut world);
        if is_stored {
            let shards = world.random.within(1, 4) as u16;
            world.crash(shards);
        }
    }
    check_all_answered(&mut world);
    check_end(&mut world);
}

#[test]
fn small_queues_drop_messages_and_nothing_else() {
    crate::for_each_seed(|seed| run(seed, false));
}

#[test]
fn small_queues_of_stored_sessions_drop_messages_and_nothing_else() {
    crate::for_each_seed(|seed| run(seed, true));
}
