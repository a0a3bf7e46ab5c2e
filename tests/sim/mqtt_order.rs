//! A topic's messages reach each subscriber in the order in which its owner took them, whatever their QoS: as they are published, sent again behind a
//! lost connection, found as retained by a new subscription, or taken up by another.
//!
//! The auditor knows the owner's order: it sees each message when the owner takes it. What a client hears of a topic for the first time has to be a
//! part of that order; messages may be left out. Every simulation with MQTT is checked by it; here clients publish at every QoS to few topics.

use crate::mqtt_client::Kind;
use crate::mqtt_workload::{
    act_as_publisher_to, befall, check_all_answered, check_at_rest, check_end, conditions, connect, move_on, publish, start,
};
use crate::random::Random;
use crate::world::{Conditions, World};
use std::collections::{BTreeMap, BTreeSet};

/// What the auditor knows of the order of topics.
#[derive(Default)]
pub struct Order {
    /// Counts what owners take.
    now: u64,
    /// When each message was taken. Sent again at QoS 1 it is taken again.
    taken: BTreeMap<usize, Vec<u64>>,
    /// How far each client has heard each topic.
    heard: BTreeMap<(usize, &'static str), Heard>,
    known: BTreeSet<(usize, usize)>,
    /// Messages that were taken at the moment noted, or later.
    late: BTreeSet<usize>,
    /// Messages that nobody can say when they were taken.
    untimed: BTreeSet<usize>,
    /// What was not stored comes as if for the first time.
    has_restarts: bool,
}

#[derive(Clone, Copy, Default)]
struct Heard {
    /// The latest of all that came.
    any: u64,
    /// The latest that was a retained message: none older is found later.
    retained: u64,
}

impl Order {
    /// The owner of its topic takes a message.
    pub fn note_taken(&mut self, number: usize) {
        self.now += 1;
        self.taken.entry(number).or_default().push(self.now);
    }

    /// The owner's shard has a message, which waits for its publisher's record to be stored.
    pub fn note_waiting(&mut self, number: usize) {
        self.late.insert(number);
        self.note_taken(number);
    }

    pub fn note_untimed(&mut self, number: usize) {
        self.untimed.insert(number);
    }

    pub fn note_restart(&mut self) {
        self.has_restarts = true;
        // What was retained last and not stored is not there any more.
        self.heard.values_mut().for_each(|heard| heard.retained = 0);
    }

    /// When a message was taken: the earliest and the latest moment that it may have been.
    pub fn span(&self, number: usize) -> Option<(u64, u64)> {
        let taken = self.taken.get(&number)?;
        Some((*taken.first()?, *taken.last()?))
    }

    /// A client hears a message that it has not heard by an earlier connection. `is_found` says that a subscription has found it as retained.
    pub fn note_heard(&mut self, client: usize, number: usize, topic: &'static str, is_retained: bool, is_found: bool) {
        if self.untimed.contains(&number) {
            return;
        }
        let is_known = !self.known.insert((client, number));
        let heard = self.heard.entry((client, topic)).or_default();
        let from = if is_found { heard.retained } else { heard.any + 1 };
        let taken = self.taken.get(&number).unwrap_or_else(|| panic!("no owner took message {number}"));
        let at = if self.late.contains(&number) { taken.first() } else { taken.iter().find(|at| **at >= from) };
        let Some(at) = at.copied() else {
            assert!(is_known && self.has_restarts, "client {client} hears message {number} of {topic}, taken at {taken:?}, behind {from}");
            return;
        };
        heard.any = heard.any.max(at);
        if is_retained {
            heard.retained = heard.retained.max(at);
        }
    }
}

const TOPICS: [&str; 2] = ["a/b", "m/x"];

/// Clients publish at every QoS to few topics and subscribe at most at QoS 2, so that how a message comes follows its publication.
fn step(world: &mut World) {
    let client = world.random.below(world.mqtt_clients.len());
    match world.random.below(100) {
        0..29 if !world.mqtt_clients[client].is_connected => {
            if world.packet_link(client).is_none() {
                connect(world, client);
            }
        }
        0..24 => {
            let (topic, qos) = (world.random.pick(&TOPICS), world.random.pick(&[0, 0, 1, 2]));
            let is_retained = world.random.percent(40);
            act_as_publisher_to(world, client, topic, qos, is_retained);
        }
        24..28 => {
            let (filter, qos) = (world.random.pick(&["#", "a/#", "a/b", "m/+"]), world.random.pick(&[0, 1, 2, 2, 2]));
            world.mqtt_clients[client].subscribe(filter, qos);
        }
        28 => {
            let filter = world.random.pick(&["a/#", "a/b", "m/+"]);
            world.mqtt_clients[client].unsubscribe(&mut world.messages, filter);
        }
        29..32 => befall(world, client),
        _ => move_on(world, client),
    }
}

fn run(mut random: Random, change: impl Fn(&mut Random, &mut Conditions), has_drops: bool, waiting_max: Option<usize>) {
    let mut conditions = conditions(&mut random);
    conditions.faults = random.pick(&[0, 3, 10]);
    change(&mut random, &mut conditions);
    let mut world = start(random, conditions, waiting_max);
    world.messages.has_drops = has_drops;
    for _ in 0..2 {
        for _ in 0..world.random.within(300, 2000) {
            step(&mut world);
        }
        if has_drops {
            check_all_answered(&mut world)
        } else {
            check_at_rest(&mut world)
        }
        if waiting_max.is_some() {
            let shards = world.random.within(1, 4) as u16;
            world.crash(shards);
        }
    }
    check_end(&mut world);
}

#[test]
fn a_topic_keeps_its_order_whatever_the_qos() {
    crate::for_each_seed(|seed| run(Random::new(seed), |_, _| {}, false, None));
}

#[test]
fn a_topic_keeps_its_order_in_queues_that_are_full() {
    crate::for_each_seed(|seed| {
        let narrow = |random: &mut Random, conditions: &mut Conditions| {
            conditions.bytes_high = random.pick(&[0, 300, 2000]);
            conditions.bytes_max = conditions.bytes_high + random.pick(&[2000, 6000]);
            conditions.socket_bytes = random.pick(&[40, 300]);
            if let Some(limits) = &mut conditions.mqtt {
                limits.queued_messages_max = random.pick(&[2, 6, 100]);
            }
        };
        run(Random::new(seed), narrow, true, None);
    });
}

#[test]
fn a_topic_keeps_its_order_through_restarts() {
    crate::for_each_seed(|seed| run(Random::new(seed), |_, _| {}, false, Some(20)));
}

/// Two clients wait for the same message, and one of them has others to be sent again before.
#[test]
fn who_has_to_be_sent_something_again_shares_no_bytes_with_others() {
    for is_slow_first in [true, false] {
        check_apart(is_slow_first);
    }
}

fn check_apart(is_slow_first: bool) {
    let mut random = Random::new(1);
    let mut conditions = Conditions { shards: 1, socket_bytes: 5000, transmit_bytes_max: 4000, ..conditions(&mut random) };
    conditions.mqtt.as_mut().expect("there is MQTT").inflight_max = 10;
    let mut world = World::new(random, conditions);
    for at in 0..3 {
        let kind = Kind { id: format!("client-{at}"), is_v5: true, is_kept: true, receive_maximum: 10, topic_aliases: 0 };
        let client = world.add_mqtt_client(kind);
        world.connect_packets(client, false);
        world.settle();
    }
    let [publisher, other, slow] = [0, 1, 2];
    for client in if is_slow_first { [slow, other] } else { [other, slow] } {
        world.mqtt_clients[client].subscribe("a/b", 2);
        world.settle();
    }
    let stall = |world: &mut World, is_stalled| {
        let link = world.packet_link(slow).expect("it is connected");
        world.packet_links[link].is_stalled = is_stalled;
        link
    };
    let link = stall(&mut world, true);
    for _ in 0..3 {
        publish(&mut world, publisher, "a/b", 1, false);
        world.settle();
    }
    world.reset_packets(link);
    world.settle();
    world.mqtt_clients[slow].kind.receive_maximum = 1;
    world.connect_packets(slow, false);
    stall(&mut world, true);
    world.settle();
    publish(&mut world, publisher, "a/b", 0, false);
    world.settle();
    stall(&mut world, false);
    world.settle();
    for client in [other, slow] {
        let heard: Vec<usize> = world.mqtt_clients[client].log.iter().map(|(number, _)| *number).collect();
        assert_eq!(heard, [1, 2, 3, 4], "client {client}");
    }
}
