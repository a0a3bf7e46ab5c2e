//! The retained message of a topic is the last that was acknowledged: to clients of MQTT, to native ones, and after a crash.

use crate::mqtt_client::Kind;
use crate::mqtt_model::TOPICS;
use crate::mqtt_workload::{check_at_rest, check_end, conditions, publish, start, step};
use crate::random::Random;
use crate::workload::fetch_all;
use crate::world::World;
use std::collections::BTreeMap;

/// Retains and clears at rest; what is retained by topic, which of the others nobody knows.
fn retain(world: &mut World, known: &mut BTreeMap<&'static str, Option<usize>>) {
    for topic in TOPICS {
        let client = world.random.below(world.mqtt_clients.len());
        match world.random.below(4) {
            0 | 1 => {
                let qos = world.random.pick(&[1, 2]);
                let number = publish(world, client, topic, qos, true);
                known.insert(topic, Some(number));
            }
            2 => {
                let number = world.messages.add_clearing(client, topic);
                world.mqtt_clients[client].publish(&world.messages, number);
                known.insert(topic, None);
            }
            _ => {
                let is_known = known.contains_key(topic);
                // It passes by, and leaves what is retained as it is.
                publish(world, client, topic, 1, false);
                assert_eq!(known.contains_key(topic), is_known);
            }
        }
        world.settle();
        assert!(world.mqtt_clients[client].sent.is_empty(), "what is retained at rest is acknowledged");
    }
}

fn check(world: &mut World, known: &BTreeMap<&'static str, Option<usize>>) {
    let rows = fetch_all(world, 0);
    let kind = Kind { id: "reader".into(), is_v5: true, is_kept: false, receive_maximum: 3, topic_aliases: 0 };
    let reader = world.add_mqtt_client(kind);
    world.connect_packets(reader, true);
    world.settle();
    world.mqtt_clients[reader].subscribe("#", 2);
    world.settle();
    let log = world.mqtt_clients[reader].log.clone();
    assert!(log.iter().all(|(_, is_retained)| *is_retained), "a new subscription finds what is retained and nothing else: {log:?}");
    for (topic, number) in known {
        let found: Vec<usize> = log.iter().map(|(number, _)| *number).filter(|of| world.messages.get(*of).topic == *topic).collect();
        assert_eq!(found, number.iter().copied().collect::<Vec<_>>(), "the retained message of {topic}");
        let value = rows.get(*topic).and_then(|row| row.value.clone());
        assert_eq!(value, number.map(|number| world.messages.get(number).payload(number)), "the value of {topic}");
    }
    let at = world.packet_link(reader).expect("it is connected");
    world.leave_packets(at, false);
    world.settle();
    world.mqtt_clients.pop();
}

fn run(seed: u64, is_stored: bool) {
    let mut random = Random::new(seed);
    let conditions = conditions(&mut random);
    let waiting_max = is_stored.then(|| random.pick(&[2, 20, 1000]));
    let mut world = start(random, conditions, waiting_max);
    for _ in 0..3 {
        for _ in 0..world.random.within(50, 700) {
            step(&mut world);
        }
        check_at_rest(&mut world);
        let mut known = BTreeMap::new();
        retain(&mut world, &mut known);
        check(&mut world, &known);
        if is_stored {
            let shards = world.random.within(1, 4) as u16;
            world.crash(shards);
            check(&mut world, &known);
            check_at_rest(&mut world);
            check(&mut world, &known);
        }
    }
    check_end(&mut world);
}

#[test]
fn the_last_retained_message_is_what_everybody_finds() {
    crate::for_each_seed(|seed| run(seed, false));
}

#[test]
fn retained_messages_survive_crashes() {
    crate::for_each_seed(|seed| run(seed, true));
}
