//! What an idle connection takes of the server's memory, counted by the bytes that the core has allocated: the runtime's share and the allocator's come on top.

use crate::peer::{WALL_MS, identity, limits};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::VecDeque;
use std::net::Ipv4Addr;
use tidewire::surface::base::{ConnectionKey, Time};
use tidewire::surface::session::MqttLimits;
use tidewire::surface::shard::{Effect, Limits, Place, Shard, Storing, Transport};

/// Counts what a thread has allocated and not given back.
struct Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

/// What the work gives, and how many bytes more than before it the thread had allocated at any moment.
pub fn most_while<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.get();
    MOST.set(before);
    let result = work();
    (result, (MOST.get() - before).max(0) as usize)
}

fn count(bytes: isize) {
    // No allocator has less than 16 bytes for an allocation that is aligned for everything.
    LIVE.set(LIVE.get() + if bytes < 0 { -((-bytes + 15) / 16 * 16) } else { (bytes + 15) / 16 * 16 });
    MOST.set(MOST.get().max(LIVE.get()));
}

// SAFETY: all is done by the system's allocator; what is counted beside it is a number of the thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(-(layout.size() as isize));
        count(size as isize);
        // SAFETY: the caller's.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// A shard, with sockets that take all at once.
struct World {
    shard: Shard,
    now: Time,
    wakes: VecDeque<ConnectionKey>,
    keys: Vec<ConnectionKey>,
}

/// Text as MQTT carries it.
fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
}

/// A packet of MQTT of less than 128 bytes.
fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [&[first, body.len() as u8][..], &body].concat()
}

impl World {
    fn new() -> Self {
        let mqtt = MqttLimits { sys_interval_ms: 0, ..MqttLimits::default() };
        let limits = Limits { has_mqtt: true, mqtt, web: limits().web, ..Limits::default() };
        Self { shard: Shard::new(identity(Storing::Off), limits, Time(1), WALL_MS), now: Time(1), wakes: VecDeque::new(), keys: Vec::new() }
    }

    fn accept(&mut self, transport: Transport) -> ConnectionKey {
        let key = self.shard.handle_accept(self.now, transport).expect("there is room");
        self.shard.note_origin(key, Ipv4Addr::LOCALHOST.into(), Place::default());
        self.keys.push(key);
        key
    }

    fn give(&mut self, key: ConnectionKey, bytes: &[u8]) {
        self.now = Time(self.now.0 + 1000);
        self.shard.handle_bytes(self.now, key, &mut bytes.to_vec());
        self.carry_out();
        while self.shard.has_walks() || !self.wakes.is_empty() {
            self.shard.run_slice(self.now);
            self.shard.begin_sends();
            while let Some(key) = self.wakes.pop_front() {
                let Some(bytes) = self.shard.poll_transmit(self.now, key) else { continue };
                self.shard.handle_sent(self.now, key, &bytes);
                self.shard.give_up_send(bytes);
            }
            self.carry_out();
            self.shard.handle_turn(1000);
        }
    }

    fn carry_out(&mut self) {
        while let Some(effect) = self.shard.poll_effect() {
            let Effect::Wake(key) = effect else { unreachable!("no idle connection makes the shard want this: {effect:?}") };
            self.wakes.push_back(key);
        }
    }

    /// A client of MQTT that subscribes to a topic and retains a value there.
    fn join_by_mqtt(&mut self, number: usize) {
        let key = self.accept(Transport::Mqtt);
        let topic = text(&format!("homes/{number:05}/power"));
        self.give(key, &packet(0x10, &[&text("MQTT"), &[4, 2, 0, 60], &text(&format!("meter-{number:05}"))]));
        self.give(key, &packet(0x82, &[&[0, 1], &topic, &[0]]));
        self.give(key, &packet(0x31, &[&topic, b"21.5"]));
    }

    /// A browser that selects a topic and sets it.
    fn join_by_websocket(&mut self, number: usize) {
        let key = self.accept(Transport::Http);
        self.give(key, crate::handshake::request("tidewire.1.json").as_bytes());
        let path = format!("homes/{number:05}/power");
        let said = [
            r#"{"op":"connect","id":1}"#.to_owned(),
            format!(r#"{{"op":"subscribe","id":2,"selector":"{path}"}}"#),
            format!(r#"{{"op":"add_and_set","id":3,"path":"{path}","type":"json","value":21.5}}"#),
        ];
        for text in said {
            self.give(key, &[&[0x81, 0x80 | text.len() as u8, 0, 0, 0, 0], text.as_bytes()].concat());
        }
    }
}

/// Bytes for each of many connections that have come to rest, each with a topic of its own, its value and its subscription.
fn bytes_each(join: fn(&mut World, usize)) -> isize {
    // Tables double, so both counts are just below such a step.
    const BEFORE: usize = 1700;
    const AFTER: usize = 7000;
    let mut world = World::new();
    (0..BEFORE).for_each(|number| join(&mut world, number));
    let before = LIVE.get();
    (BEFORE..AFTER).for_each(|number| join(&mut world, number));
    (LIVE.get() - before) / (AFTER - BEFORE) as isize
}

#[test]
fn an_idle_client_of_mqtt_with_a_topic_of_its_own_takes_little() {
    let bytes = bytes_each(World::join_by_mqtt);
    assert!(bytes <= 1700, "{bytes} bytes");
}

#[test]
fn an_idle_websocket_with_a_topic_of_its_own_takes_little() {
    let bytes = bytes_each(World::join_by_websocket);
    assert!(bytes <= 1450, "{bytes} bytes");
}

#[test]
fn what_a_burst_took_is_given_back() {
    const BURST: usize = 100;
    let mut world = World::new();
    let [reader, writer] = [0, 1].map(|number| {
        world.join_by_mqtt(number);
        world.keys[number]
    });
    world.give(writer, &packet(0x30, &[&text("homes/00000/power"), b"22.5"]).repeat(BURST));
    let before = LIVE.get();
    for second in [50, 100] {
        world.now = Time(second * 1_000_000_000);
        for key in [reader, writer] {
            world.give(key, &[0xc0, 0]);
        }
        world.shard.handle_tick(world.now, WALL_MS + second * 1000);
        world.carry_out();
    }
    let given_back = before - LIVE.get();
    assert!(given_back >= (BURST * 24) as isize, "{given_back} bytes");
}
