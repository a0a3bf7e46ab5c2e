//! Session trees: at rest each client holds, fetches and hears of what a naive evaluation of the tables and the tree says, whatever has come, gone and
//! changed meanwhile on however many shards; and never two topics at one path.
//!
//! One client puts tables and sets the others' properties, in whose order both are known. Every value has a number, which never goes back at one topic.

use crate::ask::{Asked, ListenerKind, Update, Wanted};
use crate::client::{Client, Form, Notice};
use crate::ending::check_empty;
use crate::heard::Row;
use crate::listeners;
use crate::random::Random;
use crate::storage::step_disk;
use crate::topics::{Pattern, Properties, TIME_SERIES, in_path_order};
use crate::workload::{Tree, befall, check_answered, fetch_all, form};
use crate::world::{Conditions, World};
use std::collections::BTreeMap;
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::Verb;

/// The topics: of branches that are mapped to, and of the session tree's own.
const PATHS: [&str; 16] =
    ["x", "x/1", "x/2", "x/b/1", "y/1", "y/2", "y/b", "z/1", "z/1/1", "a", "a/1", "a/2", "a/b/1", "a/b/2", "c/1", "d"];

/// Branches of session paths that have tables, and the rows that they have in turn.
const BRANCHES: [&str; 5] = ["a", "a/b", "c", "x/b", "v/w"];
type Rows = &'static [(&'static str, &'static str)];
const ROWS: [Rows; 8] = [
    &[],
    &[("Tier is 'gold'", "x"), ("Tier is 'silver'", "y")],
    &[("Tier in ['gold', 'silver']", "z")],
    &[("has Tier", "y")],
    &[("Tier is 'silver'", "a"), ("Tier is 'gold'", "a/b")],
    &[("Tier is 'gold'", "z/1"), ("has Tier", "x/b")],
    &[("Tier is 'lead'", "d")],
    &[("Tier is 'gold'", "nothing/here")],
];
const TIERS: [&str; 4] = ["gold", "silver", "lead", ""];

const PATTERNS: [Pattern; 13] = [
    Pattern { text: "?.*//", matches: |_| true },
    Pattern { text: "?a//", matches: |path| within(path, "a") },
    Pattern { text: "?a/", matches: |path| path.starts_with("a/") },
    Pattern { text: "?a/b//", matches: |path| within(path, "a/b") },
    Pattern { text: "a/1", matches: |path| path == "a/1" },
    Pattern { text: "a/b/1", matches: |path| path == "a/b/1" },
    Pattern { text: "?x//", matches: |path| within(path, "x") },
    Pattern { text: "?[acv]//", matches: |path| ["a", "c", "v"].iter().any(|branch| within(path, branch)) },
    Pattern { text: "?c/.*", matches: |path| path.starts_with("c/") && path.split('/').count() == 2 },
    Pattern { text: "*.*1", matches: |path| path.ends_with('1') },
    Pattern { text: "#a/2////?v//", matches: |path| path == "a/2" || within(path, "v") },
    Pattern { text: ">v/w/1", matches: |path| path == "v/w/1" },
    Pattern { text: "?y//", matches: |path| within(path, "y") },
];

fn within(path: &str, branch: &str) -> bool {
    path == branch || path.strip_prefix(branch).is_some_and(|rest| rest.starts_with('/'))
}

/// What the tables and the properties are, by what was asked.
#[derive(Default)]
struct Trees {
    tables: BTreeMap<&'static str, Rows>,
    tiers: BTreeMap<usize, &'static str>,
    /// The selectors of each client's listener to topics.
    listeners: BTreeMap<usize, Vec<Pattern>>,
}

impl Trees {
    /// The branch of topics of a row that means the client.
    fn row(&self, at: usize, rows: Rows) -> Option<&'static str> {
        let tier = self.tiers.get(&at).copied().unwrap_or_default();
        let holds = |filter: &str| match filter {
            "has Tier" => !tier.is_empty(),
            filter => !tier.is_empty() && filter.contains(&format!("'{tier}'")),
        };
        rows.iter().find(|(filter, _)| holds(filter)).map(|(_, branch)| *branch)
    }

    /// The topic that a path means to the client.
    fn resolve(&self, at: usize, path: &str) -> String {
        let longest = self.tables.iter().filter(|(branch, _)| within(path, branch)).max_by_key(|(branch, _)| branch.len());
        let Some((branch, rows)) = longest else { return path.to_owned() };
        self.row(at, rows).map_or_else(|| path.to_owned(), |topics| format!("{topics}{}", &path[branch.len()..]))
    }

    /// What the client finds, by its own paths.
    fn seen(&self, at: usize, found: &Tree) -> Tree {
        let below = |branch: &'static str| {
            let topics = self.tables.get(branch).and_then(|rows| self.row(at, rows)).unwrap_or(branch);
            found.keys().filter(move |topic| within(topic, topics)).map(move |topic| format!("{branch}{}", &topic[topics.len()..]))
        };
        let paths = found.keys().cloned().chain(BRANCHES.into_iter().flat_map(below));
        let row = |path: String| Some((path.clone(), Row { path: path.clone(), ..found.get(&self.resolve(at, &path))?.clone() }));
        paths.filter_map(row).collect()
    }
}

// What happens.

fn start(mut world: World) -> (World, Trees) {
    world.model.expect_views(number);
    connect_all(&mut world);
    (world, Trees::default())
}

fn connect_all(world: &mut World) {
    // The one that puts tables reads always, and nothing befalls it.
    world.connect(Form::Binary { capabilities: 7 });
    for _ in 0..world.conditions.clients {
        connect(world);
    }
}

fn connect(world: &mut World) {
    let form = form(&mut world.random);
    let at = world.connect(form);
    world.links[at].client.is_mapped = true;
}

fn conditions(random: &mut Random) -> Conditions {
    let chosen = Conditions::chosen(random);
    Conditions { bytes_max: chosen.bytes_max + 20_000, keep_alive_ms: 100_000, selections_max: 6, ..chosen }
}

fn step(world: &mut World, trees: &mut Trees) {
    world.now.0 += world.random.below(2_000_000) as u64;
    let (shards, links) = (world.shards().len(), world.links.len());
    let (shard, from, at) = (world.random.below(shards), world.random.below(shards), world.random.below(links));
    let bytes = world.random.pick(&[1, 50, 400, 4000, 4000]);
    match world.random.below(100) {
        0..20 => act(world, at),
        20..22 => listen(world, trees, at),
        22..25 => rule(world, trees),
        25..43 => drop(world.read(at, bytes)),
        43..58 => drop(world.listen(at, bytes)),
        58..72 => {
            for _ in 0..world.random.pick(&[1, 1, 8]) {
                world.send(shard);
            }
        }
        72..84 => drop(world.deliver(from, shard)),
        84..93 => drop(world.walk(shard)),
        93..97 => drop(world.post(shard)),
        97 => {
            if at > 0 {
                befall(world, at);
                world.links.iter_mut().skip(1).for_each(|link| link.client.is_mapped = true);
            }
        }
        _ => {
            world.now.0 += 20_000_000;
            world.tick(shard);
        }
    }
}

/// Puts a table or sets a property.
fn rule(world: &mut World, trees: &mut Trees) {
    if world.links[0].client.outgoing.len() > 2000 {
        return;
    }
    if world.random.percent(50) {
        let (branch, rows) = (world.random.pick(&BRANCHES), world.random.pick(&ROWS));
        world.ask(0, Asked::PutSessionTree { branch, rows });
        match rows {
            [] => _ = trees.tables.remove(branch),
            rows => _ = trees.tables.insert(branch, rows),
        }
        return;
    }
    let at = world.random.within(1, world.links.len() - 1);
    let Some(session) = world.links[at].client.session.clone() else { return };
    let value = world.random.pick(&TIERS);
    world.ask(0, Asked::SetProperty { session, key: "Tier", value });
    trees.tiers.insert(at, value);
}

fn act(world: &mut World, at: usize) {
    let client = &world.links[at].client;
    if at == 0 || !client.is_live() || client.outgoing.len() > 2000 {
        return;
    }
    let pattern = world.random.pick(&PATTERNS);
    let scope = world.random.pick(&["", "", "", "s"]);
    let asked = match world.random.below(100) {
        0..25 => Asked::Subscribe { pattern, scope },
        25..37 => Asked::Unsubscribe { pattern, scope: Some(scope) },
        37..40 => Asked::Unsubscribe { pattern, scope: None },
        40..46 => Asked::Fetch(Wanted { first: world.random.below(4) as u64, ..Wanted::new(pattern) }),
        46..52 => Asked::Remove { pattern: world.random.pick(&PATTERNS[1..]) },
        _ => update(world),
    };
    world.ask(at, asked);
}

fn listen(world: &mut World, trees: &mut Trees, at: usize) {
    let client = &world.links[at].client;
    if at == 0 || !client.is_live() || client.outgoing.len() > 2000 {
        return;
    }
    let pattern = world.random.pick(&PATTERNS);
    let (listener, selector) = (1, pattern.text);
    let held = trees.listeners.entry(at).or_default();
    if world.random.percent(60) {
        if held.len() < 6 && !held.iter().any(|held| held.text == selector) {
            held.push(pattern);
            world.ask(at, Asked::Listen { listener, kind: ListenerKind::Topics, selector });
        }
    } else if let Some(place) = held.iter().position(|held| held.text == selector) {
        held.remove(place);
        world.ask(at, Asked::Unlisten { listener, selector });
    }
}

const SERIES: Properties = &[("TIME_SERIES_EVENT_VALUE_TYPE", "json"), ("TIME_SERIES_SUBSCRIPTION_RANGE", "limit 3")];

fn properties(path: &str) -> Properties {
    match path {
        "x/2" => &[("CONFLATION", "always")],
        "y/1" => &[("PRIORITY", "low")],
        "y/2" => &[("DONT_RETAIN_VALUE", "true")],
        "z/1" | "a/2" | "x/b/1" => SERIES,
        "c/1" => &[("CONFLATION", "off"), ("PRIORITY", "high")],
        _ => &[],
    }
}

fn update(world: &mut World) -> Asked {
    let path = world.random.pick(&PATHS);
    let number = world.take_value_number();
    let more = "and more ".repeat(world.random.below(12));
    let value = format!(r#"{{"n":{number},"more":"{more}"}}"#).into_bytes();
    let (properties, kind) = (properties(path), ValueType::Json);
    let is_series = properties == SERIES;
    if is_series && world.random.percent(75) {
        return Asked::Append { path, kind, original: None, value };
    }
    let topic = if is_series { TIME_SERIES } else { kind as u8 };
    Asked::Update(Update { verb: Verb::AddAndSet, path, topic, kind, properties, value: Some(value), constraint: String::new() })
}

/// The number of a value.
fn number(value: &[u8]) -> u64 {
    let text = std::str::from_utf8(value).expect("the values are text");
    let digits: String = text.trim_start_matches(r#"{"n":"#).chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a value has a number")
}

// What must be true.

fn check_rest(world: &mut World, trees: &Trees) {
    world.links.iter_mut().for_each(|link| link.is_stalled = false);
    world.settle();
    check_answered(world);
    let found = fetch_all(world, 0);
    for at in (1..world.links.len()).filter(|at| world.links[*at].client.is_live()).collect::<Vec<_>>() {
        let seen = trees.seen(at, &found);
        check_copy(&world.links[at].client, &seen);
        if let Some(patterns) = trees.listeners.get(&at) {
            check_notices(&world.links[at].client, patterns, &seen);
        }
        check_fetches(world, at, &seen);
    }
}

fn check_copy(client: &Client, seen: &Tree) {
    let held: BTreeMap<_, _> = client.topics.values().map(|held| (&held.path, held)).collect();
    assert_eq!(held.len(), client.topics.len(), "client {} holds two topics of one path", client.name);
    let wanted: BTreeMap<_, _> = seen.iter().filter(|(path, _)| client.wants(path)).collect();
    assert_eq!(held.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>(), "client {}", client.name);
    for (path, row) in wanted {
        let held = held[path];
        assert_eq!((held.number, &held.properties), (row.number, &row.properties), "client {} takes {path} for another", client.name);
        if row.property("DONT_RETAIN_VALUE").is_none() {
            assert_eq!(held.value, row.value, "client {} does not hold the last value of {path}", client.name);
        }
    }
}

/// What the client's listener was told adds up to what it finds.
fn check_notices(client: &Client, patterns: &[Pattern], seen: &Tree) {
    let listener = listeners::Listener::to_topics(patterns.to_vec());
    let notices = client.notices.iter().map(|(_, notice)| notice).filter(|notice| !matches!(notice, Notice::Missing { .. }));
    listeners::check_topics(&format!("the listener of client {} to {patterns:?}", client.name), notices, &listener, seen);
}

/// A fetch of any selector, from anywhere and in pages, finds the same.
fn check_fetches(world: &mut World, at: usize, seen: &Tree) {
    for _ in 0..4 {
        let pattern = world.random.pick(&PATTERNS);
        let from = world.random.pick(&["", "a", "a/1", "a/b", "b", "x/b", "zz"]).to_owned();
        let (is_backward, count) = (world.random.percent(30), world.random.below(4) as u64);
        let is_behind = |path: &str| from.is_empty() || from == path || in_path_order(&from, path);
        let expected: Vec<&Row> = seen.values().filter(|row| (pattern.matches)(&row.path) && is_behind(&row.path)).collect();
        let mut expected: Vec<Row> = expected.into_iter().cloned().collect();
        expected.sort_by(|a, b| a.path.split('/').cmp(b.path.split('/')));
        let mut wanted = Wanted { from: from.clone(), ..Wanted::new(pattern) };
        if is_backward {
            wanted.last = count;
        } else {
            wanted.first = count;
        }
        let rows = fetch_pages(world, at, wanted, is_backward && count > 0);
        assert_eq!(rows, expected, "client {at} fetches '{}' from '{from}' by {count}", pattern.text);
    }
}

fn fetch_pages(world: &mut World, at: usize, mut wanted: Wanted, is_backward: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    loop {
        world.ask(at, Asked::Fetch(wanted.clone()));
        world.settle();
        let page = world.links[at].client.last_page.take().expect("a page is answered at rest");
        if is_backward {
            rows.splice(0..0, page.rows);
        } else {
            rows.extend(page.rows);
        }
        if !page.has_more {
            return rows;
        }
        if is_backward {
            wanted.before = rows[0].path.clone();
        } else {
            (wanted.from, wanted.after) = (String::new(), rows[rows.len() - 1].path.clone());
        }
    }
}

#[test]
fn copies_and_fetches_are_what_tables_and_tree_say() {
    crate::for_each_seed(|seed| {
        let mut random = Random::new(seed);
        let conditions = conditions(&mut random);
        let (mut world, mut trees) = start(World::new(random, conditions));
        for _ in 0..3 {
            for _ in 0..world.random.within(300, 1200) {
                step(&mut world, &mut trees);
            }
            check_rest(&mut world, &trees);
        }
        for at in 0..world.links.len() {
            world.reset(at);
        }
        check_empty(&mut world);
    });
}

#[test]
fn tables_outlive_the_server() {
    crate::for_each_seed(|seed| {
        let mut random = Random::new(seed);
        let conditions = conditions(&mut random);
        let (mut world, mut trees) = start(World::stored(random, conditions, 1000));
        for _ in 0..600 {
            step(&mut world, &mut trees);
            step_disk(&mut world);
        }
        check_rest(&mut world, &trees);
        let shards = world.random.within(1, 4) as u16;
        world.crash(shards);
        (trees.tiers, trees.listeners) = Default::default();
        connect_all(&mut world);
        for _ in 0..600 {
            step(&mut world, &mut trees);
            step_disk(&mut world);
        }
        check_rest(&mut world, &trees);
    });
}

/// One thing that is under way goes on.
fn go_on(world: &mut World) {
    let (shards, links) = (world.shards().len(), world.links.len());
    let (shard, from, at) = (world.random.below(shards), world.random.below(shards), world.random.below(links));
    match world.random.below(100) {
        0..20 => drop(world.read(at, 4000)),
        20..35 => drop(world.listen(at, 4000)),
        35..55 => drop(world.send(shard)),
        55..75 => drop(world.deliver(from, shard)),
        75..90 => drop(world.walk(shard)),
        _ => drop(world.post(shard)),
    }
}

/// Whatever is first, an owner's word of what is there or the end of what was: a path that means another topic has one end and one beginning.
#[test]
fn a_listener_is_told_once_that_a_path_means_another_topic() {
    const DESELECTED: u8 = 4;
    const LISTENER: Pattern = Pattern { text: "?a/", matches: |path| path.starts_with("a/") };
    let ask_to_listen = Asked::Listen { listener: 1, kind: ListenerKind::Topics, selector: LISTENER.text };
    crate::for_each_seed(|seed| {
        let mut random = Random::new(seed);
        let conditions = conditions(&mut random);
        let (mut world, mut trees) = start(World::new(random, conditions));
        for _ in 0..60 {
            let asked = update(&mut world);
            world.ask(0, asked);
        }
        for at in 1..world.links.len() {
            world.ask(at, ask_to_listen.clone());
            trees.listeners.insert(at, vec![LISTENER]);
        }
        // Another makes the owners tell the same shards what is there.
        let other = world.connect(Form::Binary { capabilities: 7 });
        world.settle();
        for listener in 2..10 {
            let before: Vec<usize> = world.links.iter().map(|link| link.client.notices.len()).collect();
            rule(&mut world, &mut trees);
            world.ask(other, Asked::Listen { listener, kind: ListenerKind::Topics, selector: "?[xyz]//" });
            for _ in 0..world.random.below(200) {
                go_on(&mut world);
            }
            world.settle();
            for (link, before) in world.links[..other].iter().zip(before) {
                let mut told: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
                for (_, notice) in &link.client.notices[before..] {
                    if let Notice::Topic { what, path } = notice {
                        told.entry(path).or_default().push(*what);
                    }
                }
                for (path, told) in told {
                    let is_once = matches!(*told, [DESELECTED] | [listeners::SELECTED] | [DESELECTED, listeners::SELECTED]);
                    assert!(is_once, "client {} is told {told:?} of {path}", link.client.name);
                }
            }
            check_rest(&mut world, &trees);
        }
    });
}
