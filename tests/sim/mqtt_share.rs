//! Of the members of a shared subscription each message reaches one, though they may come and go; and whoever publishes to one is answered in any case.

use crate::mqtt_workload::{act_as_publisher, check_all_answered, check_answered, check_end, conditions, move_on, start};
use crate::random::Random;
use crate::world::World;

const FILTER: &str = "$share/g/a/#";

fn start_group(seed: u64, is_stored: bool) -> World {
    let mut random = Random::new(seed);
    let mut conditions = conditions(&mut random);
    (conditions.clients, conditions.faults) = (random.within(4, 7), 0);
    let waiting_max = is_stored.then_some(1000);
    let mut world = start(random, conditions, waiting_max);
    world.settle();
    for member in 0..world.random.within(1, 3) {
        world.mqtt_clients[member].subscribe(FILTER, 2);
    }
    world.settle();
    world
}

fn run(seed: u64, is_stored: bool) {
    let mut world = start_group(seed, is_stored);
    let first = *world.messages.numbers().end() + 1;
    for _ in 0..world.random.within(300, 1500) {
        let client = world.random.below(world.mqtt_clients.len());
        if world.random.percent(20) {
            act_as_publisher(&mut world, client);
        }
        move_on(&mut world, client);
    }
    world.settle();
    check_answered(&world);
    for number in first..=*world.messages.numbers().end() {
        let message = world.messages.get(number);
        if message.topic.starts_with('a') && message.qos > 0 {
            let heard: usize = world.messages.heard_by(number).iter().map(|(_, count)| count).sum();
            assert_eq!(heard, 1, "message {number} of {} reaches one member", message.topic);
        }
    }
    check_end(&mut world);
}

#[test]
fn one_member_hears_each_message() {
    crate::for_each_seed(|seed| run(seed, false));
}

#[test]
fn one_member_hears_each_message_where_sessions_are_stored() {
    crate::for_each_seed(|seed| run(seed, true));
}

/// One member stays. Others come, lose their connections and end while messages are dealt to them: what they had not acknowledged reaches another.
#[test]
fn messages_reach_a_member_while_members_come_and_go() {
    crate::for_each_seed(|seed| {
        let mut world = start_group(seed, true);
        world.messages.has_ends = true;
        world.mqtt_clients[0].kind.is_kept = true;
        world.connect_packets(0, false);
        world.settle();
        world.mqtt_clients[0].subscribe(FILTER, 2);
        world.settle();
        let first = *world.messages.numbers().end() + 1;
        for _ in 0..world.random.within(300, 2000) {
            let client = world.random.below(world.mqtt_clients.len());
            let (is_publisher, stays) = (client + 2 >= world.mqtt_clients.len(), client == 0);
            match world.random.below(100) {
                0..20 if is_publisher => act_as_publisher(&mut world, client),
                20..23 if !is_publisher => world.connect_packets(client, false),
                23..25 if !is_publisher && !stays => world.connect_packets(client, true),
                25..28 if !is_publisher => {
                    if let Some(at) = world.packet_link(client) {
                        let for_good = world.random.percent(50) && !stays;
                        world.leave_packets(at, for_good);
                    }
                }
                28..34 if !is_publisher && world.mqtt_clients[client].is_connected => world.mqtt_clients[client].subscribe(FILTER, 2),
                _ => move_on(&mut world, client),
            }
        }
        check_all_answered(&mut world);
        check_dealt(&world, first);
        check_end(&mut world);
    });
}

/// At rest: of the messages from `first` on, those of QoS 1 were heard by a member at least, and those of QoS 2 by one at most.
fn check_dealt(world: &World, first: usize) {
    for number in first..=*world.messages.numbers().end() {
        let message = world.messages.get(number);
        let heard: usize = world.messages.heard_by(number).iter().map(|(_, count)| count).sum();
        match message.qos {
            1 if message.topic.starts_with('a') && message.is_acknowledged => assert!(heard > 0, "message {number} has reached nobody"),
            // MQTT-4.8.2-5: one that was begun to be sent to a member that ended reaches nobody.
            2 => assert!(heard <= 1, "message {number} has reached {heard} members"),
            _ => {}
        }
    }
}
