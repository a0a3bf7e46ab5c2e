//! Clients that keep to the forms and to nothing else: whatever they say, the server stands, and nothing of them stays when they have gone.

use crate::mqtt_packets::{
    PUBACK, PUBREC, PUBREL, Publish, V5, V31, V311,
    Value::{Four, Two, Variable},
    acknowledge, acknowledge_with, connect, disconnect, id, publish, subscribe, unsubscribe,
};
use crate::mqtt_peer::{Broker, Client};
use serde_json::json;

/// How many scripts are tried.
const SEEDS: u64 = 30;

/// A sequence that a seed gives.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

const TOPICS: [&str; 6] = ["t", "t/x", "t/y", "u", "d", "n"];
const FILTERS: [&str; 12] = ["t", "t/+", "t/#", "#", "+", "u", "d", "n", "$share/g/t/#", "$share/g/#", "$share/h/t/#", "a/#/b"];

fn message(random: &mut Random, version: u8) -> Publish {
    let payload = random.of(&["", "1", "2", "many"]).to_owned() + &"x".repeat(random.of(&[0, 0, 300]));
    let mut message = publish(random.of(&TOPICS), &payload);
    let qos = random.below(3) as u8;
    if qos > 0 {
        message = message.qos(qos, random.below(6) as u16 + 1);
    }
    message.is_duplicate = qos > 0 && random.below(4) == 0;
    message.retain = random.below(3) == 0;
    if version == V5 && random.below(5) == 0 {
        message = message.with((id::ALIAS, Two(random.below(4) as u16)));
        message.topic = random.of(&["", "t"]).into();
    }
    if version == V5 && random.below(5) == 0 {
        message = message.with((id::MESSAGE_EXPIRY, Four(random.below(3) as u32)));
    }
    message
}

fn packet(random: &mut Random, version: u8) -> Vec<u8> {
    let number = random.below(12) as u16 + 1;
    match random.below(12) {
        0..4 => message(random, version).bytes(version),
        4..6 => {
            let properties = if version == V5 && random.below(2) == 0 { vec![(id::SUBSCRIPTION, Variable(number.into()))] } else { vec![] };
            let option = |random: &mut Random| (random.below(3) + if version == V5 { 4 * random.below(12) } else { 0 }) as u8;
            let filters: Vec<(&str, u8)> = (0..random.below(3) + 1).map(|_| (random.of(&FILTERS), option(random))).collect();
            subscribe(version, number, &properties, &filters)
        }
        6 => unsubscribe(version, number, &[random.of(&FILTERS), random.of(&FILTERS)]),
        7..10 => acknowledge(random.of(&[PUBACK, PUBREC, PUBREL, 7]), number),
        10 if version == V5 => acknowledge_with(random.of(&[PUBACK, PUBREC, PUBREL]), number, random.of(&[0, 0x10, 0x80, 0x92])),
        _ => vec![0xc0, 0],
    }
}

fn begin(broker: &mut Broker, random: &mut Random) -> Client {
    let version = random.of(&[V31, V311, V5, V5]);
    let mut words = connect(version, random.of(&["a", "b", "c", "+/#"])).clean(random.below(4) == 0).keep_alive(random.of(&[0, 0, 1]));
    if version == V5 {
        words = words.with((id::SESSION_EXPIRY, Four(random.of(&[0, 1, 5, 5]))));
        words = words.with((id::RECEIVE_MAXIMUM, Two(random.of(&[1, 2, 100]))));
        words = words.with((id::PACKET_SIZE, Four(random.of(&[20, 200, 100_000]))));
        words = words.with((id::ALIAS_MAXIMUM, Two(random.of(&[0, 2]))));
    }
    if random.below(2) == 0 {
        let mut will = message(random, V311);
        (will.id, will.is_duplicate) = (0, false);
        if version == V5 && random.below(2) == 0 {
            will = will.with((id::WILL_DELAY, Four(random.below(3) as u32)));
        }
        words = words.will(will);
    }
    let client = broker.open(version);
    broker.give(client, &words.bytes());
    client
}

fn step(broker: &mut Broker, random: &mut Random, clients: &mut Vec<Client>, native: Client) {
    clients.retain(|client| !broker.is_ended(*client));
    match random.below(20) {
        0..3 if clients.len() < 8 => clients.push(begin(broker, random)),
        _ if clients.is_empty() => {}
        3 => broker.lose(clients[0]),
        4 => {
            let client = random.of(clients);
            let goodbye = if client.version == V5 { disconnect(random.of(&[0, 4]), &[]) } else { vec![0xe0, 0] };
            broker.give(client, &goodbye);
        }
        5 => broker.advance(random.of(&[10, 500, 1100])),
        6 => broker.store(),
        7 => {
            if random.below(4) == 0 {
                broker.fail_storage()
            } else {
                broker.recover_storage()
            }
        }
        8 => {
            let message = match random.below(4) {
                0 => {
                    json!({ "op": "add_and_set", "path": "d", "type": "string", "value": "v", "properties": { "DONT_RETAIN_VALUE": "true", "CONFLATION": "always" } })
                }
                1 => json!({ "op": "add_and_set", "path": "n", "type": "int64", "value": 7 }),
                2 => json!({ "op": "remove", "selector": random.of(&["?.*//", "t", "?t//"]) }),
                _ => json!({ "op": random.of(&["subscribe", "unsubscribe"]), "selector": random.of(&["?.*//", "t"]) }),
            };
            broker.tell_native(native, &message);
            broker.take_bytes(native);
        }
        _ => {
            let client = random.of(clients);
            let bytes: Vec<u8> = (0..random.below(12) + 1).flat_map(|_| packet(random, client.version)).collect();
            broker.give(client, &bytes);
            broker.take_bytes(client);
        }
    }
}

#[test]
fn whatever_clients_say_the_server_stands_and_nothing_stays() {
    for seed in 0..SEEDS {
        let mut random = Random(seed);
        let mut broker = if seed % 2 == 0 { Broker::storing() } else { Broker::tiny() };
        let native = broker.join_native();
        let mut clients = Vec::new();
        for _ in 0..300 {
            step(&mut broker, &mut random, &mut clients, native);
        }
        broker.recover_storage();
        broker.store();
        for client in clients {
            broker.lose(client);
        }
        broker.lose(native);
        // Sessions of 3.x stand for a week.
        for ms in [7 * 86_400_000, 60_000, 60_000, 60_000] {
            broker.advance(ms);
            broker.store();
        }
        assert_eq!(broker.counts(), [0; 6], "seed {seed}");
    }
}
