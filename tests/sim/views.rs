//! Topic views across shards: at rest reference topics are what an evaluation from scratch makes of what is there, subscribers hold just that, and
//! nothing is left of views that are gone.
//!
//! Sources, inserted topics, views and topics where views have theirs come and go, while mail between shards is late and there is little room for
//! delays. Every value has a number, which what is derived from it shows: it never goes back.

use crate::ask::{Asked, Update, Wanted};
use crate::client::Form;
use crate::derivation::{self, Placed, VIEWS, view_of};
use crate::ending::check_empty;
use crate::heard::HeardView;
use crate::random::Random;
use crate::storage::step_disk;
use crate::topics::{Pattern, Properties, TIME_SERIES, everything};
use crate::workload::{Tree, befall, check_answered, check_copies, fetch_all, form};
use crate::world::{Conditions, World};
use std::collections::{BTreeMap, BTreeSet};
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::Verb;

const BINARY: Form = Form::Binary { capabilities: 7 };

const NAMES: [&str; 7] = ["v0", "v1", "v2", "v3", "v4", "v/5", "v/6"];

const SOURCES: [&str; 12] = ["s/1", "s/2", "s/3", "s/4", "s/4/x", "s/1/y/z", "i/1", "i/2", "g/1", "g/2", "ts/1", "ts/2"];

const INSERTED: [&str; 3] = ["k/x", "k/y", "n/1"];

/// Where views have theirs.
const DERIVED: [&str; 9] = ["a/1", "a/x", "a/4/x", "b/1", "c/1", "e/u", "w/2", "d/1", "h/x"];

const PATTERNS: [Pattern; 12] = [
    Pattern { text: "?.*//", matches: |_| true },
    Pattern { text: "?[abc]//", matches: |path| ["a", "b", "c"].contains(&branch(path)) },
    Pattern { text: "?[defw]//", matches: |path| ["d", "e", "f", "w"].contains(&branch(path)) },
    Pattern { text: "?s//", matches: |path| branch(path) == "s" },
    Pattern { text: "?[ig]//", matches: |path| ["i", "g"].contains(&branch(path)) },
    Pattern { text: "?ts//", matches: |path| branch(path) == "ts" },
    Pattern { text: "?[nk]//", matches: |path| ["n", "k"].contains(&branch(path)) },
    Pattern { text: ">s/1", matches: |path| path == "s/1" },
    Pattern { text: ">a/1", matches: |path| path == "a/1" },
    Pattern { text: ">a/x", matches: |path| path == "a/x" },
    Pattern { text: ">k/x", matches: |path| path == "k/x" },
    Pattern { text: "?u//", matches: |path| branch(path) == "u" },
];

fn branch(path: &str) -> &str {
    path.split('/').next().unwrap_or_default()
}

fn start(seed: u64, change: impl Fn(&mut Conditions)) -> World {
    let mut random = Random::new(seed);
    let mut conditions = Conditions { keep_alive_ms: 60_000, ..Conditions::chosen(&mut random) };
    change(&mut conditions);
    with_clients(World::new(random, conditions))
}

/// A world whose topics and views are stored.
fn start_stored(seed: u64) -> World {
    let mut random = Random::new(seed);
    let conditions = Conditions { keep_alive_ms: 60_000, ..Conditions::chosen(&mut random) };
    let waiting_max = random.pick(&[2, 20, 1000]);
    with_clients(World::stored(random, conditions, waiting_max))
}

fn with_clients(mut world: World) -> World {
    world.model.expect_views(number);
    connect_all(&mut world);
    world
}

fn connect_all(world: &mut World) {
    for _ in 0..world.conditions.clients {
        let form = form(&mut world.random);
        world.connect(form);
    }
}

// What happens.

fn step(world: &mut World, stalled: &mut BTreeSet<(usize, usize)>) {
    world.now.0 += world.random.below(4_000_000) as u64;
    let shards = usize::from(world.conditions.shards);
    let (shard, from) = (world.random.below(shards), world.random.below(shards));
    let at = world.random.below(world.links.len());
    let bytes = world.random.pick(&[50, 400, 4000, 4000]);
    match world.random.below(100) {
        0..22 => act(world, at),
        22..42 => drop(world.read(at, bytes)),
        42..54 => drop(world.listen(at, bytes)),
        54..65 => drop(world.send(shard)),
        65..81 if !stalled.contains(&(from, shard)) => drop(world.deliver(from, shard)),
        81..92 => drop(world.walk(shard)),
        92..95 => drop(world.post(shard)),
        95 if !stalled.remove(&(from, shard)) => drop(stalled.insert((from, shard))),
        96 => befall(world, at),
        97.. => {
            world.now.0 += 50_000_000;
            world.tick(shard);
        }
        _ => {}
    }
}

fn act(world: &mut World, at: usize) {
    if !world.links[at].client.is_live() || world.links[at].client.outgoing.len() > 2000 {
        return;
    }
    let pattern = world.random.pick(&PATTERNS);
    let name = world.random.pick(&NAMES);
    let asked = match world.random.below(100) {
        0..50 => {
            let path = world.random.pick(&SOURCES);
            update(world, path)
        }
        50..60 => {
            let path = world.random.pick(&INSERTED);
            update(world, path)
        }
        60..65 => {
            let path = world.random.pick(&DERIVED);
            update(world, path)
        }
        65..75 => Asked::CreateView { name, definition: VIEWS[world.random.below(VIEWS.len())].text },
        75..79 => Asked::RemoveView { name },
        79..87 => {
            // Not everything at once so often.
            let pattern = if pattern.text == "?.*//" && world.random.percent(80) { PATTERNS[7] } else { pattern };
            Asked::Remove { pattern }
        }
        87..94 => Asked::Subscribe { pattern, scope: "" },
        94..97 => Asked::unsubscribe(pattern),
        97..99 => Asked::Fetch(Wanted::new(pattern)),
        _ => Asked::ListViews { after: 0 },
    };
    world.ask(at, asked);
}

const SERIES: Properties = &[("TIME_SERIES_EVENT_VALUE_TYPE", "json")];

fn properties(path: &str) -> Properties {
    match path {
        "s/2" => &[("CONFLATION", "always")],
        "s/3" => &[("PRIORITY", "low"), ("TIDY_ON_UNSUBSCRIBE", "true")],
        "s/4" => &[("PUBLISH_VALUES_ONLY", "true")],
        _ if branch(path) == "ts" => SERIES,
        _ => &[],
    }
}

fn kind(path: &str) -> ValueType {
    match branch(path) {
        "i" => ValueType::Int64,
        "g" => ValueType::String,
        _ => ValueType::Json,
    }
}

fn update(world: &mut World, path: &'static str) -> Asked {
    let (kind, is_series) = (kind(path), branch(path) == "ts");
    let value = value(world, path);
    if is_series && world.random.percent(75) {
        let original = world.random.percent(20).then(|| world.random.below(8) as u64);
        return Asked::Append { path, kind, original, value: value.expect("JSON is never null here") };
    }
    let verb = world.random.pick(&[Verb::Add, Verb::Set, Verb::AddAndSet, Verb::AddAndSet, Verb::AddAndSet, Verb::AddAndSet]);
    let topic = if is_series { TIME_SERIES } else { kind as u8 };
    Asked::Update(Update { verb, path, topic, kind, properties: properties(path), value, constraint: String::new() })
}

fn value(world: &mut World, path: &str) -> Option<Vec<u8>> {
    let number = world.take_value_number();
    let random = &mut world.random;
    let text = match kind(path) {
        ValueType::Int64 => return Some((number as i64).to_be_bytes().to_vec()),
        ValueType::String if random.percent(15) => return None,
        ValueType::String => format!("{number}{}", random.pick(&["", "", "!"])),
        _ if branch(path) == "k" => {
            let name = random.pick(&[r#","name":"Ann""#, r#","name":"Bob""#, ""]);
            format!(r#"{{"m":{number}{name}}}"#)
        }
        // An event of which a view makes nothing leaves edits of it without their original.
        _ if branch(path) != "ts" && random.percent(6) => number.to_string(),
        _ => object(random, number),
    };
    Some(text.into_bytes())
}

fn object(random: &mut Random, number: u64) -> String {
    let id = random.pick(&[r#","id":"x""#, r#","id":"x""#, r#","id":"y""#, r#","id":"z""#, ""]);
    let group = random.pick(&["p", "q", "p/q"]);
    let (holds, num) = (random.percent(60), random.below(6));
    let subs = |random: &mut Random| match random.below(3) {
        0 => String::new(),
        _ => format!(r#","subs":[{{"id":"{}","n":{number}}}]"#, random.below(2) + 1),
    };
    let elements: Vec<String> =
        (0..random.below(4)).map(|_| format!(r#"{{"id":"{}","n":{number}{}}}"#, random.pick(&["u", "v", "w"]), subs(random))).collect();
    let list = elements.join(",");
    format!(r#"{{"n":{number}{id},"group":"{group}","ok":{holds},"num":{num},"in":{{"n":{number}}},"list":[{list}]}}"#)
}

/// The number of a value, or of the one that it is derived from.
fn number(value: &[u8]) -> u64 {
    if let (Some(0), Ok(bytes)) = (value.first(), value.try_into()) {
        return u64::from_be_bytes(bytes);
    }
    let text = std::str::from_utf8(value).expect("the values of the simulation are text or numbers");
    let start = [r#""n":"#, r#""m":"#].iter().find_map(|member| Some(text.find(member)? + member.len())).unwrap_or(0);
    let digits: String = text[start..].chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("a value without a number: {text}"))
}

// What must be true.

/// Everything arrives, and all that waits for its time comes.
fn rest(world: &mut World) {
    for link in &mut world.links {
        link.is_stalled = false;
    }
    world.settle();
    for _ in 0..12 {
        world.now.0 += 1_100_000_000;
        for shard in 0..world.shards().len() {
            world.tick(shard);
        }
        world.settle();
    }
}

/// The views that there are, as each shard tells them.
fn list_views(world: &mut World) -> Vec<HeardView> {
    let mut lists = Vec::new();
    for shard in 0..world.shards().len() {
        let form = if world.random.percent(50) { Form::Text } else { BINARY };
        let at = world.connect_at(form, shard);
        let (mut list, mut has_more) = (Vec::new(), true);
        while has_more {
            let after = list.last().map_or(0, |view: &HeardView| view.place);
            world.ask(at, Asked::ListViews { after });
            world.settle();
            let (views, more) = world.links[at].client.last_views.take().expect("a list is answered at rest");
            list.extend(views);
            has_more = more;
        }
        lists.push(list);
        world.links[at].client.leave(&mut world.random);
        world.settle();
    }
    assert!(lists.windows(2).all(|pair| pair[0] == pair[1]), "the shards have other views: {lists:?}");
    lists.pop().expect("there is a shard")
}

fn check_at_rest(world: &mut World) -> Tree {
    rest(world);
    check_answered(world);
    let placed = list_views(world).into_iter().map(|view| Placed { place: view.place, view: view_of(&view.definition) });
    let placed: Vec<_> = placed.collect();
    let found = fetch_all(world, 3);
    derivation::check(&found, &placed);
    check_copies(world, &found);
    check_series(world, &found, &placed);
    found
}

/// A series that a view takes as it is has its source's events.
fn check_series(world: &mut World, found: &Tree, placed: &[Placed]) {
    let of_series: Vec<_> = placed.iter().filter(|placed| placed.view.text.contains("to u/")).collect();
    let [Placed { view, .. }] = of_series[..] else { return };
    if view.text.contains("insert") {
        return;
    }
    for (source, reference) in [("ts/1", "u/1"), ("ts/2", "u/2")] {
        if found.get(source).is_none_or(derivation::is_reference) || found.get(reference).is_none_or(|row| !derivation::is_reference(row)) {
            continue;
        }
        let at = world.connect(BINARY);
        for kind in [0, 2] {
            let [events, derived] = [source, reference].map(|path| {
                world.ask(at, Asked::Query { path, kind });
                world.settle();
                world.links[at].client.last_events.take().expect("a query is answered at rest").1
            });
            assert_eq!(events, derived, "the events of {reference} are not those of {source}");
        }
        world.links[at].client.leave(&mut world.random);
        world.settle();
    }
}

pub fn run(seed: u64, change: impl Fn(&mut Conditions)) -> World {
    let mut world = start(seed, change);
    for _ in 0..3 {
        let mut stalled = BTreeSet::new();
        for _ in 0..world.random.within(100, 1200) {
            step(&mut world, &mut stalled);
        }
        check_at_rest(&mut world);
        if world.links.iter().filter(|link| link.client.is_live()).count() < 2 {
            connect_all(&mut world);
        }
    }
    world
}

/// All views and topics go, then everybody.
fn end(world: &mut World) {
    for link in &mut world.links {
        link.is_stalled = false;
    }
    world.settle();
    let at = world.connect(BINARY);
    for name in NAMES {
        world.ask(at, Asked::RemoveView { name });
    }
    world.ask(at, Asked::Remove { pattern: everything() });
    world.settle();
    assert_eq!(fetch_all(world, 0), BTreeMap::new());
    for at in 0..world.links.len() {
        world.reset(at);
    }
    rest(world);
    check_empty(world);
    for (number, shard) in world.shards().iter().enumerate() {
        assert_eq!(shard.views().counts(), [0; 8], "shard {number}");
        assert_eq!(shard.views().backlog(), 0, "shard {number}");
    }
}

#[test]
fn reference_topics_are_at_rest_what_views_make_of_what_is_there() {
    crate::for_each_seed(|seed| drop(run(seed, |_| {})));
}

#[test]
fn views_cross_shards_while_mail_is_late() {
    crate::for_each_seed(|seed| {
        let conditions = |conditions: &mut Conditions| {
            (conditions.shards, conditions.ring_batches, conditions.faults) = (4, 1, 3);
        };
        drop(run(seed, conditions));
    });
}

#[test]
fn nothing_is_left_of_views_that_are_gone() {
    crate::for_each_seed(|seed| {
        let mut world = start(seed, |_| {});
        let mut stalled = BTreeSet::new();
        for _ in 0..world.random.within(100, 1500) {
            step(&mut world, &mut stalled);
        }
        end(&mut world);
    });
}

/// What a client asks of views before a crash.
struct Making {
    /// The names and texts that it asked for, in order.
    asked: Vec<(&'static str, &'static str)>,
    /// So many of the first were acknowledged.
    acknowledged: usize,
}

fn make_views(world: &mut World, at: usize) -> Making {
    let mut asked = Vec::new();
    for _ in 0..world.random.within(0, 5) {
        let (name, definition) = (world.random.pick(&NAMES), VIEWS[world.random.below(VIEWS.len())].text);
        asked.push((world.ask(at, Asked::CreateView { name, definition }), name, definition));
    }
    for _ in 0..world.random.within(0, 60) {
        for shard in 0..world.shards().len() {
            let bytes = world.random.pick(&[50, 4000]);
            world.read(at, bytes);
            world.walk(shard);
            world.post(shard);
            let from = world.random.below(world.shards().len());
            world.deliver(from, shard);
            world.send(shard);
            world.listen(at, 4000);
            step_disk(world);
        }
    }
    let answers = &world.links[at].client.answers;
    let acknowledged = asked.iter().take_while(|(id, ..)| answers.get(id) == Some(&None)).count();
    Making { acknowledged, asked: asked.into_iter().map(|(_, name, definition)| (name, definition)).collect() }
}

#[test]
fn views_that_were_acknowledged_are_there_after_a_crash() {
    crate::for_each_seed(|seed| {
        let mut world = start_stored(seed);
        for _ in 0..3 {
            let mut stalled = BTreeSet::new();
            for _ in 0..world.random.within(50, 400) {
                step(&mut world, &mut stalled);
                step_disk(&mut world);
            }
            check_at_rest(&mut world);
            let before = list_views(&mut world);
            let at = world.connect(BINARY);
            let made = make_views(&mut world, at);
            let shards = world.random.within(1, 4) as u16;
            world.crash(shards);
            check_at_rest(&mut world);
            check_survived(&before, &made, &list_views(&mut world));
            connect_all(&mut world);
        }
        end(&mut world);
    });
}

/// What was there before is there at its place, with its text or a later one; what was acknowledged is there, and nothing that was not asked for.
fn check_survived(before: &[HeardView], making: &Making, after: &[HeardView]) {
    for view in before {
        let found = after.iter().find(|found| found.name == view.name);
        assert_eq!(found.map(|found| found.place), Some(view.place), "'{}' has another place, or is lost", view.name);
    }
    let Making { asked, acknowledged } = making;
    for found in after {
        let last = asked[..*acknowledged].iter().rev().find(|(name, _)| **name == found.name).map(|(_, text)| *text);
        let last = last.or(before.iter().find(|view| view.name == found.name).map(|view| &*view.definition));
        let mut later = asked[*acknowledged..].iter().filter(|(name, _)| **name == found.name);
        assert!(last == Some(&found.definition) || later.any(|(_, text)| **text == found.definition), "'{}' is of the past", found.name);
    }
    for (name, _) in &asked[..*acknowledged] {
        assert!(after.iter().any(|found| found.name == **name), "'{name}' was acknowledged and is lost");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace_with_views() {
    crate::for_each_seed(|seed| {
        let trace = || run(seed, |_| {}).trace();
        assert_eq!(trace(), trace());
    });
}
