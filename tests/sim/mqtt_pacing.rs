//! Retained messages of far more topics than a turn looks at and a queue's mark has room for reach whoever subscribes, as it reads.
//!
//! Clients subscribe, give up and subscribe again, pause, lose their connections and come back, while messages are retained. At rest each has heard the
//! retained message of every topic that its filters match, and nobody was sent away for what the server owed it.

use crate::mqtt_client::Kind;
use crate::mqtt_workload::{check_all_answered, check_at_rest, check_end, conditions, connect, kind, move_on, publish};
use crate::random::Random;
use crate::world::{Conditions, World, owner};
use std::collections::BTreeSet;
use std::sync::LazyLock;

const TOPICS: usize = 100;
const FILTERS: [&str; 6] = ["#", "r/#", "r/0/#", "r/+/7", "r/1/+", "r/2/11"];

/// In four branches.
static PATHS: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| (0..TOPICS).map(|number| &*format!("r/{}/{}", number % 4, number / 4).leak()).collect());

fn start(seed: u64) -> World {
    let mut random = Random::new(seed);
    let mut conditions = conditions(&mut random);
    conditions.bytes_high = random.pick(&[0, 200, 1000]);
    conditions.socket_bytes = random.pick(&[40, 300]);
    conditions.walk_slice = random.pick(&[3, 20, 300]);
    conditions.mqtt.as_mut().expect("there is MQTT").passing_topic_ms = 100_000;
    let kinds: Vec<_> = (0..conditions.clients).map(|at| kind(&mut random, at)).collect();
    let mut world = World::new(random, conditions);
    for kind in kinds {
        let client = world.add_mqtt_client(kind);
        world.connect_packets(client, false);
    }
    world.settle();
    for path in PATHS.iter() {
        publish(&mut world, 0, path, 1, true);
        world.settle();
    }
    world
}

fn step(world: &mut World) {
    let client = world.random.below(world.mqtt_clients.len());
    let (link, filter) = (world.packet_link(client), world.random.pick(&FILTERS));
    let held = &world.mqtt_clients[client];
    match (world.random.below(100), link) {
        (0..10, None) => connect(world, client),
        (0..8, Some(_)) if held.may_publish() => {
            let (path, qos) = (world.random.pick(&PATHS), world.random.pick(&[1, 1, 2]));
            publish(world, client, path, qos, true);
        }
        (8..12, Some(_)) if held.is_connected => {
            let qos = world.random.pick(&[0, 1, 2]);
            world.mqtt_clients[client].subscribe(filter, qos);
        }
        (12..14, Some(_)) if held.is_connected => world.mqtt_clients[client].unsubscribe(&mut world.messages, filter),
        (14..17, Some(at)) => world.packet_links[at].is_stalled ^= true,
        (17, Some(at)) => world.reset_packets(at),
        _ => move_on(world, client),
    }
}

/// At rest: nothing that is retained was withheld from who is subscribed, and waits for what it has to acknowledge also while it is away.
fn check_heard(world: &World) {
    let messages = &world.messages;
    for client in &world.mqtt_clients {
        let heard: BTreeSet<usize> = client.log.iter().map(|(number, _)| *number).collect();
        for path in PATHS.iter().filter(|path| client.wanted_qos(path).is_some_and(|qos| qos > 0)) {
            let spans = |numbers: &mut dyn Iterator<Item = usize>| -> Vec<(u64, u64)> {
                let of_topic = numbers.filter(|number| messages.get(*number).topic == *path);
                of_topic.filter_map(|number| messages.order.span(number)).collect()
            };
            let acknowledged = spans(&mut messages.numbers().filter(|number| messages.get(*number).is_acknowledged));
            let last = acknowledged.iter().map(|(earliest, _)| *earliest).max();
            let newest = spans(&mut heard.iter().copied()).iter().map(|(_, latest)| *latest).max();
            assert!(newest >= last, "{} has heard of {path} what was taken at {newest:?}, and not {last:?}", client.kind.id);
        }
    }
}

#[test]
fn retained_messages_of_many_topics_come_to_whoever_subscribes() {
    crate::for_each_seed(|seed| {
        let mut world = start(seed);
        for _ in 0..2 {
            for _ in 0..world.random.within(300, 1500) {
                step(&mut world);
            }
            check_all_answered(&mut world);
            check_heard(&world);
        }
        check_end(&mut world);
    });
}

// Orders of events that chance seldom finds, laid out by hand.

/// Clients of kept sessions, which are connected; the first retains messages.
fn lay_out(change: impl Fn(&mut Conditions), clients: &[String], paths: &[&'static str]) -> World {
    let mut random = Random::new(1);
    let mut conditions = Conditions { shards: 2, ring_batches: 100, socket_bytes: 5000, walk_slice: 300, ..conditions(&mut random) };
    let limits = conditions.mqtt.as_mut().expect("there is MQTT");
    (limits.inflight_max, limits.receive_maximum) = (1, 10);
    change(&mut conditions);
    let mut world = World::new(random, conditions);
    for id in clients {
        let kind = Kind { id: id.clone(), is_v5: true, is_kept: true, receive_maximum: 10, topic_aliases: 0 };
        let client = world.add_mqtt_client(kind);
        world.connect_packets(client, false);
        world.settle();
    }
    for path in paths {
        publish(&mut world, 0, path, 1, true);
        world.settle();
    }
    world
}

/// Topics are forgotten while their retained messages are due, and appear again when all that was due by then is sent.
#[test]
fn retained_messages_of_topics_that_appear_again_are_still_due() {
    let shard_of = |path: &str| owner(path, 2);
    let id = |shard: usize| (0..).map(|number| format!("client-{number}")).find(|id| shard_of(id) == shard).expect("there is one");
    let (home, away) = (shard_of(PATHS[0]), 1 - shard_of(PATHS[0]));
    let paths: Vec<&'static str> = PATHS[..20].to_vec();
    let mut world = lay_out(|conditions| conditions.bytes_high = 0, &[id(home), id(away)], &paths);
    world.mqtt_clients[1].subscribe("#", 1);
    world.settle();
    // One message is under way, and others wait.
    for path in &paths[..4] {
        publish(&mut world, 0, path, 1, false);
    }
    let (publisher, link) = (world.packet_link(0).expect("it is connected"), world.packet_link(1).expect("it is connected"));
    while world.read_packets(publisher, 4000) || world.post(home) || world.deliver(home, away) || world.send(away) {}
    while world.listen_packets(link, 4000) {}
    let hears = |world: &mut World| {
        while world.read_packets(link, 4000) || world.walk(away) {}
        while world.post(away) {}
    };
    world.mqtt_clients[1].unsubscribe(&mut world.messages, "#");
    hears(&mut world);
    while world.deliver(away, home) || world.walk(home) || world.post(home) {}
    world.mqtt_clients[1].subscribe("r/#", 1);
    hears(&mut world);
    while world.deliver(home, away) {}
    world.settle_without_mail();
    check_all_answered(&mut world);
    for path in paths {
        let is_found = |(number, is_found): &&(usize, bool)| *is_found && world.messages.get(*number).topic == path;
        assert_eq!(world.mqtt_clients[1].log.iter().filter(is_found).count(), 2, "{path} is found by both filters");
    }
}

/// The topic is found when the filter's own look at what the shard knows is done, and that of a later one is not.
#[test]
fn a_filter_that_is_answered_does_not_wait_for_a_later_one() {
    let clients = ["first", "second", "third"].map(str::to_owned);
    let paths: Vec<&'static str> = PATHS[..40].iter().copied().chain(["z"]).collect();
    let mut world = lay_out(|conditions| (conditions.shards, conditions.walk_slice) = (1, 3), &clients, &paths);
    world.mqtt_clients[1].subscribe("r/#", 1);
    world.settle();
    let link = world.packet_link(2).expect("it is connected");
    for filter in ["z", "#"] {
        world.mqtt_clients[2].subscribe(filter, 1);
    }
    while world.read_packets(link, 4000) {}
    while world.mqtt_clients[2].wanted_qos("z").is_none() {
        assert!(world.walk(0), "it is answered in the end");
        while world.send(0) || world.listen_packets(link, 4000) {}
    }
    publish(&mut world, 0, "z", 1, false);
    let publisher = world.packet_link(0).expect("it is connected");
    while world.read_packets(publisher, 4000) {}
    check_at_rest(&mut world);
}
