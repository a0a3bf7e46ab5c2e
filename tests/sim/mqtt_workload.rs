//! What clients of MQTT do and what befalls them, as chance has it; and the check of a whole run.

use crate::mqtt_client::Kind;
use crate::mqtt_model::{FILTERS, TOPICS};
use crate::random::Random;
use crate::storage::step_disk;
use crate::world::{Conditions, World};
use std::collections::BTreeMap;
use std::sync::Arc;
use tidewire::surface::session::MqttLimits;

/// Small bounds of what is under way, and queues without end: nothing is dropped.
pub fn conditions(random: &mut Random) -> Conditions {
    let mqtt = MqttLimits {
        packet_bytes_max: 2000,
        receive_maximum: random.within(1, 4) as u16,
        inflight_max: random.within(1, 4) as u16,
        queued_messages_max: 100_000,
        topic_alias_maximum: random.below(4) as u16,
        session_expiry_max_s: u32::MAX,
        passing_topic_ms: random.pick(&[1, 30, 100_000]),
        sys_interval_ms: 0,
        rules: Arc::default(),
        ..MqttLimits::default()
    };
    Conditions {
        clients: random.within(2, 6),
        bytes_high: 10_000_000,
        bytes_max: 10_000_000,
        selections_max: 20,
        keep_alive_ms: 100_000,
        faults: random.pick(&[0, 2, 6]),
        mqtt: Some(mqtt),
        ..Conditions::chosen(random)
    }
}

pub fn kind(random: &mut Random, at: usize) -> Kind {
    Kind {
        id: format!("client-{at}-{}", random.below(100)),
        is_v5: random.percent(50),
        is_kept: random.percent(75),
        receive_maximum: random.within(1, 4) as u16,
        topic_aliases: random.pick(&[0, 2]),
    }
}

/// A world of such clients; with a disk of so many records' room where `waiting_max` says.
pub fn start(mut random: Random, conditions: Conditions, waiting_max: Option<usize>) -> World {
    let kinds: Vec<Kind> = (0..conditions.clients).map(|at| kind(&mut random, at)).collect();
    let mut world = match waiting_max {
        Some(waiting_max) => World::stored(random, conditions, waiting_max),
        None => World::new(random, conditions),
    };
    for kind in kinds {
        let client = world.add_mqtt_client(kind);
        world.connect_packets(client, false);
    }
    world
}

pub fn step(world: &mut World) {
    let client = world.random.below(world.mqtt_clients.len());
    match world.random.below(100) {
        0..18 => act(world, client),
        18..20 => befall(world, client),
        _ => move_on(world, client),
    }
}

/// A bit of what is under way.
pub fn move_on(world: &mut World, client: usize) {
    world.now.0 += world.random.below(2_000_000) as u64;
    let shards = world.shards().len();
    let shard = world.random.below(shards);
    let bytes = world.random.pick(&[1, 30, 400, 4000]);
    let link = if world.packet_links.is_empty() { None } else { Some(world.random.below(world.packet_links.len())) };
    // Old connections have little to say.
    let link = if world.random.percent(70) { world.packet_link(client) } else { link };
    match world.random.below(80) {
        0..10 => drop(world.mqtt_clients[client].acknowledge()),
        10..28 => drop(link.map(|at| world.read_packets(at, bytes))),
        28..44 => drop(link.map(|at| world.listen_packets(at, bytes))),
        44..56 => {
            for _ in 0..world.random.pick(&[1, 1, 8]) {
                world.send(shard);
            }
        }
        56..68 => {
            let from = world.random.below(shards);
            world.deliver(from, shard);
        }
        68..72 => drop(world.walk(shard)),
        72..75 => drop(world.post(shard)),
        75..78 => drop(world.adopt()),
        _ => {
            world.now.0 += 20_000_000;
            world.tick(shard);
        }
    }
    if world.disk.is_some() {
        step_disk(world);
        step_disk(world);
    }
}

/// Who is surely subscribed to a topic, and how.
fn wanted(world: &World, topic: &str) -> BTreeMap<usize, u8> {
    let kept = world.mqtt_clients.iter().filter(|client| client.kind.is_kept);
    kept.filter_map(|client| Some((client.at, client.wanted_qos(topic)?))).collect()
}

pub fn publish(world: &mut World, client: usize, topic: &'static str, qos: u8, is_retained: bool) -> usize {
    let wanted = wanted(world, topic);
    let padding = world.random.pick(&[0, 0, 5, 100]);
    let number = world.messages.add(client, topic, qos, is_retained, padding, wanted);
    world.mqtt_clients[client].publish(&world.messages, number);
    number
}

fn act(world: &mut World, client: usize) {
    if !world.mqtt_clients[client].is_connected {
        if world.packet_link(client).is_none() {
            connect(world, client);
        }
        return;
    }
    let filter = world.random.pick(&FILTERS);
    match world.random.below(100) {
        0..70 => act_as_publisher(world, client),
        70..88 => {
            let qos = world.random.pick(&[0, 1, 2, 2]);
            world.mqtt_clients[client].subscribe(filter, qos);
        }
        88..94 => world.mqtt_clients[client].unsubscribe(&mut world.messages, filter),
        _ => {}
    }
}

/// Publishes where it may.
pub fn act_as_publisher(world: &mut World, client: usize) {
    let topic = world.random.pick(&TOPICS);
    let (qos, is_retained) = (world.random.pick(&[0, 1, 1, 2, 2, 2]), world.random.percent(20));
    act_as_publisher_to(world, client, topic, qos, is_retained);
}

pub fn act_as_publisher_to(world: &mut World, client: usize, topic: &'static str, qos: u8, is_retained: bool) {
    if world.mqtt_clients[client].may_publish() {
        publish(world, client, topic, qos, is_retained);
    }
}

/// A kept session is gone on with; a few packets may come right behind CONNECT.
pub fn connect(world: &mut World, client: usize) {
    if world.random.percent(30) {
        world.mqtt_clients[client].kind.receive_maximum = world.random.within(1, 4) as u16;
    }
    world.connect_packets(client, false);
    if world.random.percent(20) {
        let topic = world.random.pick(&TOPICS);
        let number = world.messages.add(client, topic, 0, false, 0, BTreeMap::new());
        world.messages.order.note_untimed(number);
        world.mqtt_clients[client].publish_early(&world.messages, number);
    }
}

pub fn befall(world: &mut World, client: usize) {
    if world.random.percent(100 - world.conditions.faults * 10) {
        return;
    }
    let link = world.packet_link(client);
    match (world.random.below(6), link) {
        (0, _) => connect(world, client),
        (1 | 2, Some(at)) => world.reset_packets(at),
        (3, Some(at)) => world.packet_links[at].is_stalled ^= true,
        (4, Some(at)) => world.leave_packets(at, false),
        (_, Some(at)) => world.packet_links[at].is_stalled = false,
        _ => {}
    }
}

/// Faults end, everybody connects, and all that is under way arrives.
pub fn heal(world: &mut World) {
    for client in 0..world.mqtt_clients.len() {
        if let Some(at) = world.packet_link(client) {
            world.packet_links[at].is_stalled = false;
        }
    }
    world.settle();
    for client in 0..world.mqtt_clients.len() {
        if world.packet_link(client).is_none() {
            connect(world, client);
        }
    }
    world.settle();
}

/// What was acknowledged has arrived, and whoever was to answer has.
pub fn check_at_rest(world: &mut World) {
    check_all_answered(world);
    world.messages.check_delivered();
}

/// Whoever was to answer has, once faults end.
pub fn check_all_answered(world: &mut World) {
    heal(world);
    check_answered(world);
}

pub fn check_answered(world: &World) {
    for client in &world.mqtt_clients {
        assert!(client.is_connected, "{} is not connected", client.kind.id);
        assert!(client.sent.is_empty(), "{} waits for the end of {:?}", client.kind.id, client.sent);
        assert!(client.has_no_questions(), "{} waits for SUBACK or UNSUBACK", client.kind.id);
    }
}

/// All clients end their sessions; nothing of MQTT stays.
pub fn check_end(world: &mut World) {
    heal(world);
    for client in 0..world.mqtt_clients.len() {
        // One of 3.1.1 ends its session by one that starts clean.
        world.connect_packets(client, true);
        world.settle();
        let at = world.packet_link(client).expect("it has just connected");
        world.leave_packets(at, true);
    }
    world.settle();
    for _ in 0..3 {
        world.now.0 += 200_000_000_000;
        for shard in 0..world.shards().len() {
            world.tick(shard);
        }
        world.settle();
    }
    for shard in world.shards() {
        assert_eq!(shard.session_count(), 0, "sessions stay");
        assert_eq!(shard.connection_count(), 0, "connections stay");
        assert_eq!(shard.mqtt_counts(), [0; 6], "something of MQTT stays");
        assert_eq!(shard.audience_counts(), [0; 5], "the audience holds something");
        assert_eq!(shard.owner_counts(), [0; 2], "owners hold selectors or walks");
    }
    if let Some(disk) = &world.disk {
        assert!(disk.state.topics.values().all(|stored| stored.session_path().is_none()), "a session's record stays");
    }
}
