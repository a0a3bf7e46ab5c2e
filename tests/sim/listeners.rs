//! What listeners are told adds up to what is there.
//!
//! Of topics: those selected and those immediately below selected paths, each told of once when it comes and once when it goes. Of subscribers: notices
//! alternate and the last one is true. Of missing topics: one notice to the handler of the longest branch, the first of several.

use crate::ask::{Asked, ListenerKind, Update, Wanted};
use crate::client::{Form, Notice};
use crate::random::Random;
use crate::topics::{PATTERNS, Pattern};
use crate::workload::{self, Tree, check_at_rest, fetch_all, form};
use crate::world::{Conditions, World, owner};
use std::collections::{BTreeMap, BTreeSet};
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::Verb;

const ADDED: u8 = 1;
pub const SELECTED: u8 = 3;

/// The selectors of one listener, as its client asked for them.
pub struct Listener {
    kind: ListenerKind,
    patterns: Vec<Pattern>,
}

impl Listener {
    pub fn to_topics(patterns: Vec<Pattern>) -> Self {
        Self { kind: ListenerKind::Topics, patterns }
    }
}

/// By client and the listener's number.
pub type Listeners = BTreeMap<(usize, u64), Listener>;

fn pattern(text: &str) -> Pattern {
    PATTERNS.into_iter().find(|pattern| pattern.text == text).expect("it is one of them")
}

/// Something about listeners: mostly new selectors, some taken away.
fn listen(world: &mut World, listeners: &mut Listeners) {
    let at = world.random.below(world.links.len());
    if !world.links[at].client.is_live() || world.links[at].client.outgoing.len() > 2000 {
        return;
    }
    let number = world.random.below(3) as u64;
    let kind = if number == 2 { ListenerKind::Subscribers } else { ListenerKind::Topics };
    let selector = world.random.pick(&PATTERNS).text;
    let held = listeners.get_mut(&(at, number));
    match world.random.below(100) {
        0..60 => {
            let total: usize = (0..3).filter_map(|number| listeners.get(&(at, number))).map(|listener| listener.patterns.len()).sum();
            if total >= 8 {
                return;
            }
            world.ask(at, Asked::Listen { listener: number, kind, selector });
            let listener = listeners.entry((at, number)).or_insert(Listener { kind, patterns: Vec::new() });
            if !listener.patterns.iter().any(|held| held.text == selector) {
                listener.patterns.push(pattern(selector));
            }
        }
        60..90 => {
            let Some(held) = held.filter(|held| !held.patterns.is_empty()) else { return };
            let place = world.random.below(held.patterns.len());
            let selector = held.patterns.remove(place).text;
            world.ask(at, Asked::Unlisten { listener: number, selector });
            if kind == ListenerKind::Subscribers {
                forget_deselected(world, at, number, &listeners[&(at, number)]);
            }
        }
        _ => {
            if held.is_some() {
                listeners.remove(&(at, number));
                world.links[at].client.notices.retain(|(of, _)| *of != number);
                // What comes until the answer is of the listener that ends.
                world.ask(at, Asked::Unlisten { listener: number, selector: "" });
                world.links[at].is_stalled = false;
                world.settle();
                world.links[at].client.notices.retain(|(of, _)| *of != number);
            }
        }
    }
}

/// Nobody is told what becomes of topics that are not selected any more.
fn forget_deselected(world: &mut World, at: usize, number: u64, listener: &Listener) {
    world.links[at].is_stalled = false;
    world.settle();
    let selects = |path: &str| listener.patterns.iter().any(|pattern| (pattern.matches)(path));
    world.links[at].client.notices.retain(|(of, notice)| match notice {
        Notice::Subscribers { path, .. } => *of != number || selects(path),
        _ => true,
    });
}

fn check_listeners(world: &World, listeners: &Listeners, found: &Tree) {
    let live = || world.links.iter().filter(|link| link.client.is_live());
    for ((at, number), listener) in listeners.iter().filter(|((at, _), _)| world.links[*at].client.is_live()) {
        let client = &world.links[*at].client;
        let notices = client.notices.iter().filter(|(of, _)| of == number).map(|(_, notice)| notice);
        let what = format!("listener {number} of client {at} to {:?}", listener.patterns);
        if listener.kind == ListenerKind::Topics {
            check_topics(&what, notices, listener, found);
        } else {
            let is_held = |path: &str| live().any(|link| link.client.held(path).is_some());
            check_subscribers(&what, notices, listener, found, is_held);
        }
    }
}

pub fn check_topics<'a>(what: &str, notices: impl Iterator<Item = &'a Notice>, listener: &Listener, found: &Tree) {
    let (mut selected, mut below) = (BTreeSet::new(), BTreeSet::new());
    for notice in notices {
        let (set, change, path) = match notice {
            Notice::Topic { what, path } => (&mut selected, *what, path.as_str()),
            Notice::Descendant { what, path } => (&mut below, *what, path.as_str()),
            other => panic!("{what} is told {other:?}"),
        };
        let is_news = if matches!(change, ADDED | SELECTED) { set.insert(path) } else { set.remove(path) };
        assert!(is_news, "{what} is told {notice:?} twice");
    }
    let selects = |path: &str| listener.patterns.iter().any(|pattern| (pattern.matches)(path));
    let expected: BTreeSet<&str> = found.keys().map(String::as_str).filter(|path| selects(path)).collect();
    assert_eq!(selected, expected, "{what}: topics selected");
    let expected: BTreeSet<&str> =
        found.keys().map(String::as_str).filter(|path| !selects(path) && is_immediate(path, &selects, found)).collect();
    assert_eq!(below, expected, "{what}: immediate descendants");
}

/// Whether going up from `path` a selected path comes before any topic.
fn is_immediate(path: &str, selects: &impl Fn(&str) -> bool, found: &Tree) -> bool {
    let mut above = path;
    while let Some((parent, _)) = above.rsplit_once('/') {
        if selects(parent) {
            return true;
        }
        if found.contains_key(parent) {
            return false;
        }
        above = parent;
    }
    false
}

fn check_subscribers<'a>(
    what: &str,
    notices: impl Iterator<Item = &'a Notice>,
    listener: &Listener,
    found: &Tree,
    is_held: impl Fn(&str) -> bool,
) {
    let mut told: BTreeMap<&str, bool> = BTreeMap::new();
    for notice in notices {
        let Notice::Subscribers { path, has_subscribers } = notice else { panic!("{what} is told {notice:?}") };
        let before = told.insert(path, *has_subscribers).unwrap_or(false);
        assert_ne!(before, *has_subscribers, "{what} is told twice that {path} has subscribers or none");
    }
    let lost = told.iter().find(|(path, has_subscribers)| **has_subscribers && !found.contains_key(**path));
    assert_eq!(lost, None, "{what} is not told that a topic which is gone has no subscribers");
    for path in found.keys().filter(|path| listener.patterns.iter().any(|pattern| (pattern.matches)(path))) {
        let told = told.get(path.as_str()).copied().unwrap_or(false);
        assert_eq!(told, is_held(path), "{what}: whether {path} has subscribers");
    }
}

pub fn run(seed: u64, change: impl Fn(&mut Conditions)) -> (World, Listeners) {
    let mut random = Random::new(seed);
    let mut conditions = Conditions { steps: 1500, ..Conditions::chosen(&mut random) };
    change(&mut conditions);
    let mut world = World::new(random, conditions);
    for _ in 0..world.conditions.clients {
        let form = form(&mut world.random);
        world.connect(form);
    }
    let mut listeners = Listeners::new();
    for _ in 0..world.conditions.steps {
        workload::step(&mut world);
        if world.random.percent(4) {
            listen(&mut world, &mut listeners);
        }
    }
    (world, listeners)
}

#[test]
fn notices_add_up_at_rest() {
    crate::for_each_seed(|seed| {
        let (mut world, listeners) = run(seed, |conditions| {
            conditions.removals = 6;
            conditions.bytes_max += 20_000;
        });
        check_at_rest(&mut world);
        let found = fetch_all(&mut world, 0);
        check_listeners(&world, &listeners, &found);
    });
}

#[test]
fn nothing_is_left_of_listeners_that_are_gone() {
    crate::for_each_seed(|seed| {
        let (mut world, _) = run(seed, |_| {});
        for at in 0..world.links.len() {
            world.reset(at);
        }
        crate::ending::check_empty(&mut world);
    });
}

/// The branch that a selector's literal prefix lies in.
fn prefix(pattern: Pattern) -> &'static str {
    match pattern.text {
        "a" | "?a//" | "?a/" => "a",
        "a/b" | "?a/b//" => "a/b",
        ">b/c" => "b/c",
        "a/b/c" => "a/b/c",
        "?b//" => "b",
        _ => "",
    }
}

#[test]
fn a_missing_topic_is_told_to_the_handler_of_the_longest_branch() {
    crate::for_each_seed(|seed| {
        let mut random = Random::new(seed);
        let conditions = Conditions { bytes_high: 40_000, bytes_max: 40_000, selections_max: 50, ..Conditions::chosen(&mut random) };
        let mut world = World::new(random, conditions);
        for _ in 0..4 {
            let form = form(&mut world.random);
            world.connect(form);
        }
        // In the order in which they came.
        let mut handlers: Vec<(&'static str, usize)> = Vec::new();
        for _ in 0..60 {
            let at = world.random.below(4);
            let branch = world.random.pick(&["a", "a/b", "b", "b/c", "a/b/c"]);
            match world.random.below(10) {
                0..3 => {
                    world.ask(at, Asked::Listen { listener: 1, kind: ListenerKind::Missing, selector: branch });
                    if !handlers.contains(&(branch, at)) {
                        handlers.push((branch, at));
                    }
                }
                3 => {
                    if handlers.contains(&(branch, at)) {
                        world.ask(at, Asked::Unlisten { listener: 1, selector: branch });
                        handlers.retain(|handler| *handler != (branch, at));
                    }
                }
                4 => workload::update(&mut world, at),
                5 => {
                    let pattern = world.random.pick(&PATTERNS);
                    world.ask(at, Asked::Remove { pattern });
                }
                _ => ask_for_missing(&mut world, at, &handlers),
            }
            world.settle();
            world.links.iter_mut().for_each(|link| link.client.notices.clear());
        }
    });
}

fn ask_for_missing(world: &mut World, at: usize, handlers: &[(&'static str, usize)]) {
    let pattern = world.random.pick(&PATTERNS);
    let found = fetch_all(world, 0);
    let asked = if world.random.percent(50) { Asked::subscribe(pattern) } else { Asked::Fetch(Wanted::new(pattern)) };
    world.ask(at, asked);
    world.settle();
    let is_missing = !found.keys().any(|path| (pattern.matches)(path));
    let prefix = prefix(pattern);
    let is_handled = |branch: &str| prefix == branch || prefix.starts_with(&format!("{branch}/"));
    let longest = handlers.iter().filter(|(branch, _)| is_handled(branch)).map(|(branch, _)| branch.len()).max();
    let handler = handlers.iter().find(|(branch, _)| Some(branch.len()) == longest && is_handled(branch)).filter(|_| is_missing);
    let session = world.links[at].client.session.clone().expect("it is connected");
    // A path is printed as a selector of its own kind.
    let selector = if pattern.text.starts_with(['>', '?', '*', '#']) { pattern.text.to_owned() } else { format!(">{}", pattern.text) };
    let expected = Notice::Missing { selector, session };
    for (number, link) in world.links.iter().enumerate() {
        let notices: Vec<_> = link.client.notices.iter().map(|(_, notice)| notice).collect();
        let is_told = handler.is_some_and(|(_, at)| *at == number);
        assert_eq!(notices, if is_told { vec![&expected] } else { Vec::new() }, "client {number} of {handlers:?}, '{}'", pattern.text);
    }
}

#[test]
fn who_listens_while_topics_come_and_go_is_told_of_each() {
    for walked in 0..8 {
        let mut world = World::new(Random::new(1), Conditions { shards: 3, walk_slice: 1, ..Conditions::chosen(&mut Random::new(1)) });
        let (publisher, at) = (world.connect(Form::Text), world.connect(Form::Binary { capabilities: 0 }));
        for _ in 0..30 {
            workload::update(&mut world, publisher);
        }
        world.settle();
        let mut listeners = Listeners::new();
        let selector = "?a/b//";
        world.ask(at, Asked::Listen { listener: 0, kind: ListenerKind::Topics, selector });
        world.settle_rounds(walked);
        world.ask(at, Asked::Unlisten { listener: 0, selector });
        world.ask(at, Asked::Listen { listener: 0, kind: ListenerKind::Topics, selector: "a" });
        world.ask(publisher, Asked::Remove { pattern: pattern("?a/") });
        world.settle_rounds(walked);
        for _ in 0..30 {
            workload::update(&mut world, publisher);
        }
        listeners.insert((at, 0), Listener { kind: ListenerKind::Topics, patterns: vec![pattern("a")] });
        check_at_rest(&mut world);
        let found = fetch_all(&mut world, 0);
        check_listeners(&world, &listeners, &found);
    }
}

/// A selector is given up and listened to again, and between the two a topic is told of that is gone when the owner hears of the second.
#[test]
fn what_was_told_before_a_selector_was_listened_to_again_does_not_count() {
    let mut random = Random::new(1);
    let chosen = Conditions::chosen(&mut random);
    let mut world = World::new(random, Conditions { shards: 2, bytes_max: 50_000, ring_batches: 8, keep_alive_ms: 30_000, ..chosen });
    let (selector, home) = ("a", owner("a", 2));
    let publisher = world.connect_at(Form::Binary { capabilities: 0 }, home);
    let at = world.connect_at(Form::Text, 1 - home);
    let listen = Asked::Listen { listener: 0, kind: ListenerKind::Topics, selector };
    world.ask(at, listen.clone());
    world.settle();
    let hears = |world: &mut World, at: usize| {
        while world.read(at, 4000) {}
        let shard = world.links[at].shard;
        while world.post(shard) {}
    };
    world.ask(at, Asked::Unlisten { listener: 0, selector });
    hears(&mut world, at);
    world.ask(publisher, Asked::Update(Update::new(Verb::Add, "a", ValueType::Json, None)));
    hears(&mut world, publisher);
    world.ask(at, listen);
    hears(&mut world, at);
    while world.deliver(home, 1 - home) {}
    assert!(world.deliver(1 - home, home), "the selector is given up");
    world.ask(publisher, Asked::Remove { pattern: pattern(selector) });
    hears(&mut world, publisher);
    check_at_rest(&mut world);
    let listeners = Listeners::from([((at, 0), Listener { kind: ListenerKind::Topics, patterns: vec![pattern(selector)] })]);
    let found = fetch_all(&mut world, 0);
    assert!(found.is_empty());
    check_listeners(&world, &listeners, &found);
}
