//! Clients of MQTT at a whole shard: whatever packets come, in order or not, whole or not, it keeps its bounds and is empty when all have gone.

use crate::campaign::noise;
use crate::operations::Source;
use crate::shard::limits;
use tidewire::surface::base::{ConnectionKey, ShardIndex, Time};
use tidewire::surface::session::MqttLimits;
use tidewire::surface::shard::{Effect, Identity, Limits, Shard, Storing, Transport, Verdict};

const WALL_MS: u64 = 2_000_000;
const NAMES: [&str; 6] = ["a", "a/b", "/", "~", "$SYS/x", "a//b"];
const FILTERS: [&str; 9] = ["#", "a/#", "+", "a/b", "$share/g/a/+", "$SYS/#", "+/b", "a/#/b", "$share/g/#"];

struct World {
    shard: Shard,
    now: Time,
    connections: Vec<ConnectionKey>,
    last_ticket: u64,
}

/// A script of what befalls one shard: each command takes a few bytes.
pub fn clients(input: &[u8]) {
    let storing = [Storing::Stored, Storing::Memory, Storing::Off][usize::from(input.first().copied().unwrap_or_default() % 3)];
    let limits = bounds();
    let queue_bytes_max = limits.queue.bytes_max;
    let identity = Identity {
        index: ShardIndex(0),
        count: 1,
        server: "fuzz".into(),
        run: 1,
        start: 1,
        storing,
        topics_base: 0,
        node: 0,
        secret: [7; 32],
    };
    let now = Time(1);
    let mut world = World { shard: Shard::new(identity, limits, now, WALL_MS), now, connections: Vec::new(), last_ticket: 0 };
    let mut source = Source(input);
    while !source.0.is_empty() {
        world.befall(&mut source);
        world.carry_out();
        assert!(world.shard.queue_bytes_most() <= queue_bytes_max);
    }
    world.end();
}

impl World {
    fn befall(&mut self, source: &mut Source<'_>) {
        let what = source.byte();
        if self.connections.is_empty() || (what & 15 == 0 && self.connections.len() < 6) {
            let Some(key) = self.shard.handle_accept(self.now, Transport::Mqtt) else { return };
            self.connections.push(key);
            // Most clients begin as they should.
            return self.give(key, connect(source));
        }
        let key = self.connections[source.below(self.connections.len())];
        match what % 16 {
            1 => self.shard.handle_closed(self.now, key),
            2 => self.tick(u64::from(source.byte()) * 40),
            3 => self.transmit(key),
            4 => self.store(source.byte()),
            5 => {
                let noise: Vec<u8> = (0..source.below(20)).map(|_| source.byte()).collect();
                self.give(key, noise);
            }
            6 => {
                let mut bytes = packet(source);
                bytes.truncate(source.below(bytes.len().max(1)));
                self.give(key, bytes);
            }
            7 => self.shard.run_slice(self.now),
            _ => self.give(key, packet(source)),
        }
    }

    fn give(&mut self, key: ConnectionKey, mut bytes: Vec<u8>) {
        self.shard.handle_bytes(self.now, key, &mut bytes);
    }

    fn tick(&mut self, ms: u64) {
        self.now = self.now.after_ms(ms);
        self.shard.handle_tick(self.now, WALL_MS + self.now.0 / 1_000_000);
    }

    fn store(&mut self, how: u8) {
        let records = self.shard.poll_records().unwrap_or_default();
        self.last_ticket = records.last().map_or(self.last_ticket, |record| record.ticket);
        match how % 8 {
            0 => self.shard.handle_storage_failure(self.now, "the disk is full"),
            1 | 2 => self.shard.handle_storage_recovery(self.now),
            _ => self.shard.handle_stored(self.now, self.last_ticket),
        }
    }

    fn transmit(&mut self, key: ConnectionKey) {
        self.shard.begin_sends();
        for _ in 0..1000 {
            let Some(bytes) = self.shard.poll_transmit(self.now, key) else { break };
            self.shard.handle_sent(self.now, key, &bytes);
        }
        self.carry_out();
    }

    fn carry_out(&mut self) {
        while let Some(effect) = self.shard.poll_effect() {
            match effect {
                Effect::Close(key) => self.shard.handle_closed(self.now, key),
                Effect::Read(_) => {}
                Effect::Authenticate(key, asked) => {
                    let verdict = match (&*asked.method, &*asked.content) {
                        ("m", [1, ..]) => Verdict::Accept(Vec::new()),
                        ("m", [0, ..] | []) => Verdict::Continue(vec![1]),
                        _ => Verdict::Unknown,
                    };
                    self.shard.handle_authenticated(self.now, key, &asked.method, verdict);
                }
                _ => {}
            }
        }
    }

    /// All connections end, all sessions run out, and what was only passed through goes.
    fn end(&mut self) {
        for key in self.connections.clone() {
            self.transmit(key);
            self.shard.handle_closed(self.now, key);
        }
        self.shard.handle_storage_recovery(self.now);
        for _ in 0..60 {
            self.tick(1000);
            self.shard.poll_records();
            self.shard.handle_stored(self.now, u64::MAX);
            while self.shard.has_walks() {
                self.shard.run_slice(self.now);
            }
            self.carry_out();
        }
        assert_eq!((self.shard.connection_count(), self.shard.session_count(), self.shard.mqtt_counts()), (0, 0, [0; 6]));
        assert_eq!((self.shard.audience_counts(), self.shard.owner_counts()), ([0; 5], [0; 2]));
    }
}

fn bounds() -> Limits {
    let mqtt = MqttLimits {
        packet_bytes_max: 300,
        receive_maximum: 3,
        inflight_max: 2,
        queued_messages_max: 4,
        topic_alias_maximum: 2,
        user_properties_max: 2,
        filters_max: 3,
        client_id_bytes_max: 30,
        session_expiry_max_s: 3,
        sessions_max: 2,
        keep_alive_max_s: 2,
        passing_topic_ms: 1000,
        sys_interval_ms: 700,
        ..MqttLimits::default()
    };
    Limits { has_mqtt: true, mqtt, topics_max: 60, ..limits() }
}

fn text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text);
}

fn framed(first: u8, body: &[u8]) -> Vec<u8> {
    assert!(body.len() < 128 * 128, "two bytes of length are enough");
    let length = if body.len() < 128 { vec![body.len() as u8] } else { vec![body.len() as u8 | 0x80, (body.len() >> 7) as u8] };
    [&[first], &length[..], body].concat()
}

fn connect(source: &mut Source<'_>) -> Vec<u8> {
    let flags = source.byte();
    let version = [3, 4, 5, 5][source.below(4)];
    let mut body = Vec::new();
    text(&mut body, if version == 3 { b"MQIsdp" } else { b"MQTT" });
    let has_will = flags & 4 != 0;
    body.extend([version, flags & 2 | if has_will { 4 | flags & 0x28 } else { 0 }, 0, source.byte() % 3]);
    if version == 5 {
        let mut properties = vec![0x11, 0, 0, 0, source.byte() % 5, 0x21, 0, source.byte() % 3 + 1];
        if flags & 0x10 != 0 {
            properties.extend([0x22, 0, source.byte() % 3]);
        }
        if flags & 0x40 != 0 {
            properties.extend([0x15, 0, 1, b'm', 0x16, 0, 1, source.byte() % 3]);
        }
        body.push(properties.len() as u8);
        body.extend(properties);
    }
    text(&mut body, [&b"a"[..], b"b", b"", b"$share/g/#"][source.below(4)]);
    if has_will {
        if version == 5 {
            body.extend([5, 0x18, 0, 0, 0, source.byte() % 3]);
        }
        text(&mut body, NAMES[source.below(NAMES.len())].as_bytes());
        text(&mut body, &[source.byte(); 3]);
    }
    framed(0x10, &body)
}

/// A packet of MQTT 5, or of 3.1.1, as a client may send it at some time or other.
fn packet(source: &mut Source<'_>) -> Vec<u8> {
    let (what, is_five) = (source.byte(), source.byte() & 1 == 0);
    let id = [0, source.byte() % 6];
    let properties: &[u8] = if is_five { &[0] } else { &[] };
    match what % 12 {
        0..=3 => {
            let qos = source.byte() % 3;
            let mut body = Vec::new();
            text(&mut body, NAMES[source.below(NAMES.len())].as_bytes());
            if qos > 0 {
                body.extend(id);
            }
            match source.byte() % 4 {
                0 if is_five => body.extend([3, 0x23, 0, source.byte() % 4]),
                1 if is_five => body.extend([5, 0x02, 0, 0, 0, source.byte() % 3]),
                _ => body.extend(properties),
            }
            body.extend(vec![b'1'; source.below(60)]);
            let (retain, again) = (source.byte() & 1, if qos > 0 { source.byte() & 8 } else { 0 });
            framed(0x30 | again | (qos << 1) | retain, &body)
        }
        4 | 5 => {
            let mut body = [&id[..], properties].concat();
            for _ in 0..=source.below(3) {
                text(&mut body, FILTERS[source.below(FILTERS.len())].as_bytes());
                body.push(source.byte() & if is_five { 0x2f } else { 3 });
            }
            framed(0x82, &body)
        }
        6 => {
            let mut body = [&id[..], properties].concat();
            text(&mut body, FILTERS[source.below(FILTERS.len())].as_bytes());
            framed(0xa2, &body)
        }
        7 => framed([0x40, 0x50, 0x62, 0x70][source.below(4)], &id),
        8 => framed([0x40, 0x50, 0x62, 0x70][source.below(4)], &[id[0], id[1], source.byte()]),
        9 => framed(0xc0, &[]),
        10 => framed(0xf0, &[[0x18, 0x19][source.below(2)], 8, 0x15, 0, 1, b'm', 0x16, 0, 1, source.byte() % 3]),
        _ => framed(0xe0, if is_five { &[4] } else { &[] }),
    }
}

/// A long script.
pub fn script(seed: u64) -> Vec<u8> {
    noise(seed, 1500)
}
