//! What clients do and what befalls them, as chance has it; and the checks of a whole run.

use crate::ask::{Asked, Update, Wanted};
use crate::client::{Client, Form};
use crate::heard::Row;
use crate::random::Random;
use crate::topics::{PATHS, PATTERNS, Pattern, Plan, Topics, everything, in_path_order, plan};
use crate::world::{Conditions, World};
use std::collections::BTreeMap;
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::Verb;

pub fn run(seed: u64, change: impl Fn(&mut Conditions)) -> World {
    let mut random = Random::new(seed);
    let mut conditions = Conditions::chosen(&mut random);
    change(&mut conditions);
    let mut world = World::new(random, conditions);
    for _ in 0..world.conditions.clients {
        let form = form(&mut world.random);
        world.connect(form);
    }
    for _ in 0..world.conditions.steps {
        step(&mut world);
    }
    world
}

pub fn form(random: &mut Random) -> Form {
    let capabilities = random.below(11) as u64;
    if capabilities < 8 { Form::Binary { capabilities } } else { Form::Text }
}

pub fn step(world: &mut World) {
    world.now.0 += world.random.below(2_000_000) as u64;
    let shards = usize::from(world.conditions.shards);
    let shard = world.random.below(shards);
    let at = world.random.below(world.links.len());
    let bytes = world.random.pick(&[1, 50, 400, 4000, 4000]);
    match world.random.below(100) {
        0..25 => act(world, at),
        25..45 => drop(world.read(at, bytes)),
        45..62 => drop(world.listen(at, bytes)),
        62..77 => {
            // One send, or a round of them.
            for _ in 0..world.random.pick(&[1, 1, 8]) {
                world.send(shard);
            }
        }
        77..89 => {
            let from = world.random.below(shards);
            world.deliver(from, shard);
        }
        89..95 => drop(world.walk(shard)),
        95..98 => drop(world.post(shard)),
        98 => befall(world, at),
        _ => {
            world.now.0 += 20_000_000;
            world.tick(shard);
        }
    }
}

fn act(world: &mut World, at: usize) {
    if !world.links[at].client.is_live() || world.links[at].client.outgoing.len() > 2000 {
        return;
    }
    let pattern = world.random.pick(&PATTERNS);
    let (removals, selections) = (world.conditions.removals, world.conditions.selections);
    let choice = world.random.below(100);
    if choice < removals {
        world.ask(at, Asked::Remove { pattern });
    } else if choice < removals + selections {
        let asked = selection(world, pattern);
        world.ask(at, asked);
    } else if choice < removals + selections + 6 {
        let after = if world.random.percent(50) { String::new() } else { world.random.pick(&PATHS).to_owned() };
        let (first, with_values) = (world.random.below(5) as u64, world.random.percent(70));
        world.ask(at, Asked::Fetch(Wanted { after, first, with_values, ..Wanted::new(pattern) }));
    } else if choice < removals + selections + 8 {
        world.ask(at, Asked::Nonsense);
    } else {
        update(world, at);
    }
}

fn selection(world: &mut World, pattern: Pattern) -> Asked {
    let scope = world.random.pick(&["", "", "", "x", "y"]);
    match world.random.below(100) {
        0..60 => Asked::Subscribe { pattern, scope },
        60..95 => Asked::Unsubscribe { pattern, scope: Some(scope) },
        _ => Asked::Unsubscribe { pattern, scope: None },
    }
}

pub fn update(world: &mut World, at: usize) {
    // Some paths are changed more often than others, so that steps follow each other.
    let end = world.random.pick(&[4, PATHS.len()]);
    let path = PATHS[world.random.below(end)];
    let asked = update_of(world, path);
    if world.random.percent(30) {
        world.ask_silently(at, asked);
    } else {
        world.ask(at, asked);
    }
}

fn update_of(world: &mut World, path: &'static str) -> Asked {
    let topics = world.conditions.topics;
    let Plan { kind: usual, is_series, properties } = plan(topics, path);
    let kind = if world.random.percent(4) { world.random.pick(&ValueType::ALL) } else { usual };
    let value = value(world, kind);
    if is_series && world.random.percent(60) {
        let original = world.random.percent(20).then(|| world.random.below(12) as u64);
        return Asked::Append { path, kind, original, value };
    }
    let verb = world.random.pick(&[Verb::Add, Verb::Set, Verb::Set, Verb::AddAndSet, Verb::AddAndSet, Verb::AddAndSet]);
    let is_null = topics == Topics::Mixed && verb != Verb::Add && world.random.percent(12);
    let topic = if kind == usual { plan(topics, path).number() } else { kind as u8 };
    let value = (!is_null || !has_null(kind) || is_series).then_some(value);
    Asked::Update(Update { verb, path, topic, kind, properties, value, constraint: String::new() })
}

fn has_null(kind: ValueType) -> bool {
    matches!(kind, ValueType::String | ValueType::Int64 | ValueType::Double)
}

/// No two are the same, and those of a type are alike, so that deltas pay.
pub fn value(world: &mut World, kind: ValueType) -> Vec<u8> {
    let number = world.take_value_number();
    let more = world.random.below(4);
    match kind {
        ValueType::Json => format!(
            r#"{{"what":"the quick brown fox","n":{number},"list":[1,2,3,{}4],"tail":"jumps over the lazy dog"}}"#,
            "5,".repeat(more * 9)
        )
        .into_bytes(),
        ValueType::String => format!("a \"string\" \u{e4} number {number} {}", "and more ".repeat(more * 8)).into_bytes(),
        ValueType::Int64 => (-(number as i64)).to_be_bytes().to_vec(),
        ValueType::Double => (number as f64 / 8.0).to_be_bytes().to_vec(),
        ValueType::Binary => {
            let mut bytes: Vec<u8> = (0..(more * 60) as u8).collect();
            bytes.extend_from_slice(&number.to_be_bytes());
            bytes
        }
    }
}

pub fn befall(world: &mut World, at: usize) {
    if world.random.percent(30) && world.links.len() < 4 * world.conditions.clients {
        let form = form(&mut world.random);
        world.connect(form);
    }
    if world.random.percent(100 - world.conditions.faults * 5) {
        return;
    }
    match world.random.below(6) {
        0 => world.reset(at),
        1 | 2 => world.links[at].is_stalled = true,
        3 => world.links[at].is_stalled = false,
        4 if world.links[at].client.is_live() => world.links[at].client.leave(&mut world.random),
        _ if world.links[at].client.is_live() => break_rule(&mut world.links[at].client, &mut world.random),
        _ => {}
    }
}

/// What ends the connection.
fn break_rule(client: &mut Client, random: &mut Random) {
    client.is_leaving = true;
    match random.below(6) {
        0 => client.put_frame(0xc2, b"x", random),
        1 => client.put_frame(0x80, b"no message goes on", random),
        2 if client.form != Form::Text => client.put_message(&[0x11, 0x7f, 1, 2], random),
        2 => client.put_message(b"\xff\xfe", random),
        3 => client.put_frame(0x88, b"\x03\xe8bye", random),
        4 => client.put_frame(0x82, &[0; 1501], random),
        _ => client.put_frame(if client.form == Form::Text { 0x82 } else { 0x81 }, b"{}", random),
    }
}

// A whole run's checks.

/// Faults end, everything arrives, and every copy is what it should be.
pub fn check_at_rest(world: &mut World) {
    for link in &mut world.links {
        link.is_stalled = false;
    }
    world.settle();
    check_answered(world);
    let found = fetch_all(world, 3);
    for path in PATHS {
        world.model.check_at_rest(path, found.get(path));
    }
    check_copies(world, &found);
    check_fetches(world, &found);
}

/// Every request of a client that is still there was answered.
pub fn check_answered(world: &World) {
    for link in world.links.iter().filter(|link| link.client.is_live()) {
        let waiting = &link.client.waiting;
        assert!(waiting.is_empty(), "client {} waits for {waiting:?}", link.client.name);
    }
}

/// What was fetched of a tree, by path.
pub type Tree = BTreeMap<String, Row>;

/// What a new client fetches of the whole tree, page by page.
pub fn fetch_all(world: &mut World, first: u64) -> Tree {
    fetch(world, everything(), "", first)
}

fn fetch(world: &mut World, pattern: Pattern, after: &str, first: u64) -> Tree {
    let form = if world.random.percent(50) { Form::Text } else { Form::Binary { capabilities: 0 } };
    let at = world.connect(form);
    let mut found = BTreeMap::new();
    let mut after = after.to_owned();
    loop {
        world.ask(at, Asked::Fetch(Wanted { after: after.clone(), first, ..Wanted::new(pattern) }));
        world.settle();
        let page = world.links[at].client.last_page.take().expect("a page is answered at rest");
        for row in page.rows {
            after.clone_from(&row.path);
            found.insert(row.path.clone(), row);
        }
        if !page.has_more {
            break;
        }
    }
    world.links[at].client.leave(&mut world.random);
    world.settle();
    found
}

/// A fetch of any selector from anywhere in any pages gives that part of the tree.
fn check_fetches(world: &mut World, found: &Tree) {
    for _ in 0..6 {
        let (pattern, after) = (world.random.pick(&PATTERNS), world.random.pick(&["", "a", "a-b", "a/b", "b", "b/a/c", "zz"]));
        let first = world.random.below(5) as u64;
        let expected: BTreeMap<_, _> = found
            .iter()
            .filter(|(path, _)| (pattern.matches)(path) && (after.is_empty() || in_path_order(after, path)))
            .map(|(path, row)| (path.clone(), row.clone()))
            .collect();
        assert_eq!(fetch(world, pattern, after, first), expected, "'{}' after '{after}' by {first}", pattern.text);
    }
}

/// Every client that is there holds what it selected, each topic with its last value.
pub fn check_copies(world: &World, found: &Tree) {
    for link in world.links.iter().filter(|link| link.client.is_live()) {
        let client = &link.client;
        let held: BTreeMap<_, _> = client.topics.values().map(|held| (&held.path, held)).collect();
        assert_eq!(held.len(), client.topics.len(), "client {} holds two topics of one path", client.name);
        for path in held.keys() {
            assert!(found.contains_key(*path) && client.wants(path), "client {} holds {path}, which it should not", client.name);
        }
        for (path, row) in found.iter().filter(|(path, _)| client.wants(path)) {
            let Some(held) = held.get(path) else {
                assert!(client.ended_under_pressure.contains(path), "client {} does not hold {path}, which it selected", client.name);
                continue;
            };
            assert_eq!((held.number, &held.properties), (row.number, &row.properties), "client {} takes {path} for another", client.name);
            if row.property("DONT_RETAIN_VALUE").is_none() {
                assert_eq!(held.value, row.value, "client {} does not hold the last value of {path}", client.name);
            }
        }
    }
}
