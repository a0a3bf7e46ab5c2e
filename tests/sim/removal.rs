//! A topic goes by its removal policy soon after it should, over any number of shards, and never before.

use crate::ask::{Asked, Update, Wanted};
use crate::client::Form;
use crate::random::Random;
use crate::topics::{Pattern, Properties, everything};
use crate::workload::{check_at_rest, value};
use crate::world::{Conditions, World, wall_ms};
use std::collections::BTreeSet;
use tidewire::surface::base::Time;
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::Verb;

const STEP_MS: u64 = 200;
/// How long after it should a topic may go: policies are looked at, and sessions counted, every two seconds.
const LATE_MS: u64 = 4_600;

/// When a condition holds, said again.
#[derive(Clone, Copy, Debug)]
enum Rule {
    NoUpdates { for_ms: u64 },
    Subscriptions { below: usize, for_ms: u64, after_ms: u64 },
    CreatorCloses,
    SessionGone { for_ms: u64 },
    TimeAfter { wall_ms: u64 },
}

struct Watched {
    path: &'static str,
    rule: Rule,
    /// What the policy removes: its own topic, or what it names.
    removes: &'static [&'static str],
    made: Time,
    /// Since when the condition has held.
    since: Option<Time>,
    is_there: bool,
}

impl Watched {
    fn due(&self) -> Option<Time> {
        let since = self.since?;
        Some(match self.rule {
            Rule::NoUpdates { for_ms } | Rule::SessionGone { for_ms } => since.after_ms(for_ms),
            Rule::Subscriptions { for_ms, after_ms, .. } => since.after_ms(for_ms).max(self.made.after_ms(after_ms)),
            Rule::CreatorCloses | Rule::TimeAfter { .. } => since,
        })
    }

    fn note(&mut self, holds: impl FnOnce(Rule) -> Option<bool>, now: Time) {
        match holds(self.rule) {
            Some(true) => self.since = Some(self.since.unwrap_or(now)),
            Some(false) => self.since = None,
            None => {}
        }
    }
}

/// Clients by what they do.
const MAKER: usize = 0;
const WATCHER: usize = 1;
const NAMED: usize = 2;
const SUBSCRIBERS: [usize; 3] = [3, 4, 5];

struct Scene {
    world: World,
    watched: Vec<Watched>,
    subscribed: BTreeSet<(usize, &'static str)>,
}

fn policy(text: String) -> Properties {
    let text: &'static str = Box::leak(text.into_boxed_str());
    Box::leak(Box::new([("REMOVAL", text)]))
}

fn exact(path: &'static str) -> Pattern {
    match path {
        "b" => Pattern { text: "b", matches: |path| path == "b" },
        _ => Pattern { text: "c/c", matches: |path| path == "c/c" },
    }
}

impl Scene {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let chosen = Conditions::chosen(&mut random);
        let conditions =
            Conditions { bytes_high: 50_000, bytes_max: 50_000, keep_alive_ms: 30_000, selections_max: 8, fetch_page_max: 20, ..chosen };
        let mut world = World::new(random, conditions);
        for _ in 0..6 {
            world.connect(Form::Binary { capabilities: 7 });
        }
        world.settle();
        let session = world.links[NAMED].client.session.clone().expect("it is connected");
        let time = wall_ms(world.now) + world.random.within(3_000, 20_000) as u64;
        let mut scene = Self { world, watched: Vec::new(), subscribed: BTreeSet::new() };
        scene.make("a", "when no updates for 6s".to_owned(), Rule::NoUpdates { for_ms: 6_000 }, &["a"]);
        scene.make("b", "when subscriptions < 1 for 5s".to_owned(), Rule::Subscriptions { below: 1, for_ms: 5_000, after_ms: 0 }, &["b"]);
        let rule = Rule::Subscriptions { below: 2, for_ms: 2_000, after_ms: 10_000 };
        scene.make("c/c", "when subscriptions < 2 for 2s after 10s".to_owned(), rule, &["c/c"]);
        scene.make("a/b", "when this session closes".to_owned(), Rule::CreatorCloses, &["a/b"]);
        let named = format!("when no session has '$SessionId is \"{session}\"' for 3s");
        scene.make("c", named, Rule::SessionGone { for_ms: 3_000 }, &["c"]);
        scene.make("a-b", format!("when time after {time}"), Rule::TimeAfter { wall_ms: time }, &["a-b"]);
        scene.make("a/c", "when no updates for 4s remove '?b/'".to_owned(), Rule::NoUpdates { for_ms: 4_000 }, &["b/a", "b/c"]);
        for path in ["b/a", "b/c", "a.b"] {
            scene.set(path, &[]);
        }
        scene.world.settle();
        scene
    }

    fn make(&mut self, path: &'static str, text: String, rule: Rule, removes: &'static [&'static str]) {
        removes.iter().for_each(|path| self.world.model.note_mortal(path));
        self.set(path, policy(text));
        self.world.settle();
        let now = self.world.now;
        let holds_at_first = matches!(rule, Rule::NoUpdates { .. } | Rule::Subscriptions { .. });
        let since = holds_at_first.then_some(now);
        self.watched.push(Watched { path, rule, removes, made: now, since, is_there: true });
    }

    fn set(&mut self, path: &'static str, properties: Properties) {
        let value = value(&mut self.world, ValueType::String);
        let update = Update { properties, ..Update::new(Verb::AddAndSet, path, ValueType::String, Some(value)) };
        self.world.ask(MAKER, Asked::Update(update));
    }

    /// Something that conditions depend on, now and then.
    fn act(&mut self) {
        let now = self.world.now;
        match self.world.random.below(30) {
            0 | 1 => {
                let path = self.world.random.pick(&["a", "a/c"]);
                let value = value(&mut self.world, ValueType::String);
                self.world.ask(WATCHER, Asked::Update(Update::new(Verb::Set, path, ValueType::String, Some(value))));
                self.watched.iter_mut().filter(|watched| watched.path == path).for_each(|watched| watched.since = Some(now));
            }
            2..6 => {
                let (at, path) = (self.world.random.pick(&SUBSCRIBERS), self.world.random.pick(&["b", "c/c"]));
                if self.world.links[at].client.is_live() && self.subscribed.insert((at, path)) {
                    self.world.ask(at, Asked::subscribe(exact(path)));
                }
            }
            6..9 => {
                let Some((at, path)) = self.subscribed.first().copied() else { return };
                self.subscribed.remove(&(at, path));
                self.world.ask(at, Asked::unsubscribe(exact(path)));
            }
            9 if self.world.random.percent(20) => {
                let at = self.world.random.pick(&SUBSCRIBERS);
                self.world.reset(at);
                self.subscribed.retain(|(of, _)| *of != at);
            }
            10 => {
                let at = self.world.random.pick(&[MAKER, NAMED]);
                self.world.reset(at);
            }
            _ => {}
        }
        self.world.settle();
    }

    fn note(&mut self) {
        let now = self.world.now;
        let is_closed = |at: usize| !self.world.links[at].client.is_live();
        let (maker, named) = (is_closed(MAKER), is_closed(NAMED));
        for watched in &mut self.watched {
            let subscribers = self.subscribed.iter().filter(|(_, path)| *path == watched.path).count();
            let holds = |rule| match rule {
                Rule::NoUpdates { .. } => None,
                Rule::Subscriptions { below, .. } => Some(subscribers < below),
                Rule::CreatorCloses => Some(maker),
                Rule::SessionGone { .. } => Some(named),
                Rule::TimeAfter { wall_ms: time } => Some(wall_ms(now) >= time),
            };
            watched.note(holds, now);
        }
    }

    /// The paths of all topics.
    fn found(&mut self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut after = String::new();
        loop {
            self.world.ask(WATCHER, Asked::Fetch(Wanted { after: after.clone(), with_values: false, ..Wanted::new(everything()) }));
            self.world.settle();
            let page = self.world.links[WATCHER].client.last_page.take().expect("a page is answered at rest");
            after = page.rows.last().map_or(after, |row| row.path.clone());
            found.extend(page.rows.into_iter().map(|row| row.path));
            if !page.has_more {
                return found;
            }
        }
    }

    fn check(&mut self) {
        let found = self.found();
        let now = self.world.now;
        for watched in self.watched.iter_mut().filter(|watched| watched.is_there) {
            let is_found = watched.removes.iter().any(|path| found.contains(*path));
            let due = watched.due();
            if !is_found {
                assert!(
                    due.is_some_and(|due| due <= now),
                    "{} is gone before it should: {:?}, due {due:?} at {now:?}",
                    watched.path,
                    watched.rule
                );
                watched.is_there = false;
            } else if let Some(due) = due {
                assert!(now < due.after_ms(LATE_MS), "{} is still there: {:?}, due {due:?} at {now:?}", watched.path, watched.rule);
            }
        }
        for path in ["a.b", "a/c"] {
            assert!(found.contains(path), "{path} is not to be removed");
        }
    }
}

#[test]
fn topics_go_soon_after_they_should_and_never_before() {
    crate::for_each_seed(|seed| {
        let mut scene = Scene::new(seed);
        for _ in 0..200 {
            scene.world.now = scene.world.now.after_ms(STEP_MS);
            scene.note();
            for shard in 0..scene.world.shards().len() {
                scene.world.tick(shard);
            }
            scene.world.settle();
            scene.check();
            scene.act();
            scene.note();
        }
        assert!(scene.watched.iter().any(|watched| !watched.is_there), "some went");
    });
}

/// Policies beside all else that goes on: their topics come and go, and copies follow.
#[test]
fn copies_follow_topics_that_go_by_themselves() {
    crate::for_each_seed(|seed| {
        let mut scene = Scene::new(seed);
        for at in [WATCHER, NAMED] {
            scene.world.ask(at, Asked::subscribe(everything()));
        }
        scene.world.reset(MAKER);
        for _ in 0..80 {
            let shard = scene.world.random.below(scene.world.shards().len());
            scene.world.now = scene.world.now.after_ms(STEP_MS);
            scene.world.tick(shard);
            let bytes = scene.world.random.within(1, 400);
            scene.world.read(WATCHER, bytes);
            let rounds = scene.world.random.below(4);
            scene.world.settle_rounds(rounds);
        }
        for _ in 0..40 {
            scene.world.now = scene.world.now.after_ms(STEP_MS);
            (0..scene.world.shards().len()).for_each(|shard| scene.world.tick(shard));
            scene.world.settle();
        }
        check_at_rest(&mut scene.world);
        assert!(scene.world.links[WATCHER].client.held("a/b").is_none(), "its maker is gone");
    });
}
