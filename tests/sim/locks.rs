//! Locks: one holder at a time, each in its turn, and what is written under a lock never comes after it has passed on. Sessions end at any moment.
//!
//! The auditor knows of a client what the client itself knows: it holds a lock from the grant that it heard until it says UNLOCK or is gone.

use crate::ask::{Asked, Update, Wanted};
use crate::client::Form;
use crate::ending::check_empty;
use crate::random::Random;
use crate::topics::{Pattern, Properties, TIME_SERIES, everything};
use crate::workload::form;
use crate::world::{Conditions, World, owner};
use std::collections::BTreeMap;
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::Verb;

const LOCKS: [&str; 2] = ["l/a", "x"];

/// The topics that are written to under each lock.
const TOPICS: [[Pattern; 2]; 2] = [
    [Pattern { text: "s/a", matches: |path| path == "s/a" }, Pattern { text: "s/b", matches: |path| path == "s/b" }],
    [Pattern { text: "s/c", matches: |path| path == "s/c" }, Pattern { text: "t", matches: |path| path == "t" }],
];

/// Series, which keep all that was written, in order.
const SERIES: Properties = &[("TIME_SERIES_EVENT_VALUE_TYPE", "int64"), ("TIME_SERIES_RETAINED_RANGE", "limit 10000")];

const UNSATISFIED: u16 = 212;
const LOST: u16 = 321;

/// Listens to all topics from the beginning, and is heard at the end.
const WATCHER: usize = 0;

/// So many others are there at a time.
const CLIENTS: usize = 4;

/// How a client stands to a lock, as far as it knows.
#[derive(Clone, Copy, Default)]
struct Standing {
    /// The LOCKs that were not answered, the first and one more.
    asked: [Option<u64>; 2],
    /// The UNLOCK that gives them up.
    gives_up: bool,
    held: Option<u64>,
    /// A grant that it has had and given up.
    stale: u64,
}

/// What was written under a lock.
struct Write {
    at: usize,
    id: u64,
    lock: usize,
    grant: u64,
    /// Whether the client held it, by this grant.
    is_rightful: bool,
}

/// What a client has found of a topic after it was granted a lock.
struct Read {
    topic: &'static str,
    lock: usize,
    grant: u64,
    found: Option<i64>,
}

struct Auditor {
    world: World,
    /// The shards between which mail is late.
    late: (usize, usize),
    standings: BTreeMap<(usize, usize), Standing>,
    /// By their numbers.
    writes: BTreeMap<i64, Write>,
    reads: Vec<Read>,
    /// One of a client at a time.
    reading: BTreeMap<usize, (u64, &'static str, usize, u64)>,
    /// Who was granted each number of each lock, and by the answer to which LOCK.
    granted: BTreeMap<(usize, u64), (usize, u64)>,
    /// LOCKs of one client that waited for the same.
    twice: Vec<(usize, u64, u64)>,
}

fn start(seed: u64) -> Auditor {
    let mut random = Random::new(seed);
    let chosen = Conditions::chosen(&mut random);
    let (bytes_high, bytes_max) = (200_000, 200_000);
    let shards = random.within(1, 4) as u16;
    let mut world = World::new(random, Conditions { shards, bytes_high, bytes_max, keep_alive_ms: 3_000_000, clients: CLIENTS, ..chosen });
    world.connect(Form::Binary { capabilities: 0 });
    world.ask(WATCHER, Asked::subscribe(everything()));
    for topic in TOPICS.iter().flatten() {
        let update = Update::new(Verb::Add, topic.text, ValueType::Int64, None);
        world.ask(WATCHER, Asked::Update(Update { topic: TIME_SERIES, properties: SERIES, ..update }));
    }
    world.settle();
    for _ in 0..world.conditions.clients {
        let form = form(&mut world.random);
        world.connect(form);
    }
    let (standings, writes, reads, reading, granted, twice) = Default::default();
    Auditor { world, late: (0, 0), standings, writes, reads, reading, granted, twice }
}

impl Auditor {
    /// Something moves on, and what clients hear is looked at.
    fn step(&mut self) {
        let world = &mut self.world;
        world.now.0 += world.random.below(2_000_000) as u64;
        let shard = world.random.below(world.shards().len());
        let from = world.random.below(world.shards().len());
        // Those that came last are those that live.
        let at = world.links.len() - 1 - world.random.below(world.links.len().min(CLIENTS + 3));
        let bytes = world.random.pick(&[30, 400, 4000]);
        match world.random.below(100) {
            0..25 => self.act(at.max(1)),
            25..45 => drop(world.read(at, bytes)),
            45..62 => drop(world.listen(at, bytes)),
            62..75 => while world.send(shard) {},
            75 if world.random.percent(25) => self.late = world.random.pick(&[(0, 0), (from, shard)]),
            75..90 if (from, shard) == self.late => {}
            75..90 => drop(world.deliver(from, shard)),
            90..93 => drop(world.walk(shard)),
            93..99 => drop(world.post(shard)),
            _ => {
                world.now.0 += 20_000_000;
                world.tick(shard);
            }
        }
        self.look();
    }

    fn act(&mut self, at: usize) {
        let world = &mut self.world;
        let is_busy = world.links[at].client.outgoing.len() > 2000;
        if !world.links[at].client.is_live() || is_busy {
            return;
        }
        if world.random.percent(1) {
            if world.random.percent(50) {
                world.reset(at);
            } else {
                world.links[at].client.leave(&mut world.random);
            }
            // Whoever takes leave holds nothing from then on, and others come.
            self.standings.retain(|(of, _), _| *of != at);
            let form = form(&mut self.world.random);
            self.world.connect(form);
            return;
        }
        let lock = self.world.random.below(LOCKS.len());
        let standing = self.standings.get(&(at, lock)).copied().unwrap_or_default();
        match (standing.held, standing.asked) {
            (Some(grant), _) => match self.world.random.below(10) {
                0..6 => self.write(at, lock, grant, true),
                6 => self.write(at, lock, grant + 1, false),
                7 => self.ask_again(at, lock, grant),
                _ => {
                    // What was just sent is under way still.
                    (0..self.world.random.below(4)).for_each(|_| self.write(at, lock, grant, true));
                    self.give_up(at, lock, grant);
                }
            },
            (None, [None, _]) => match self.world.random.below(10) {
                // What is sent behind UNLOCK is too late.
                0..2 if standing.stale > 0 => self.write(at, lock, standing.stale, false),
                _ => {
                    let id = self.lock(at, lock);
                    self.standings.entry((at, lock)).or_default().asked[0] = Some(id);
                }
            },
            (None, [Some(_), None]) if self.world.random.percent(20) && !standing.gives_up => {
                let id = self.lock(at, lock);
                self.standings.entry((at, lock)).or_default().asked[1] = Some(id);
            }
            (None, _) if self.world.random.percent(10) && !standing.gives_up => {
                self.world.ask(at, Asked::Unlock { name: LOCKS[lock], number: 0 });
                self.standings.entry((at, lock)).or_default().gives_up = true;
            }
            _ => {}
        }
    }

    fn lock(&mut self, at: usize, lock: usize) -> u64 {
        let scope = self.world.random.below(2) as u8;
        self.world.ask(at, Asked::Lock { name: LOCKS[lock], scope })
    }

    /// Nothing is held twice: one UNLOCK suffices afterwards.
    fn ask_again(&mut self, at: usize, lock: usize, grant: u64) {
        self.lock(at, lock);
        if self.world.random.percent(50) {
            self.give_up(at, lock, grant);
        }
    }

    fn give_up(&mut self, at: usize, lock: usize, grant: u64) {
        let number = if self.world.random.percent(80) { grant } else { 0 };
        self.world.ask(at, Asked::Unlock { name: LOCKS[lock], number });
        self.standings.insert((at, lock), Standing { stale: grant, ..Standing::default() });
    }

    fn write(&mut self, at: usize, lock: usize, grant: u64, is_rightful: bool) {
        let path = TOPICS[lock][self.world.random.below(2)].text;
        let number = self.world.take_value_number() as i64;
        let constraint = format!(r#"{{"locked":{{"name":"{}","number":{grant}}}}}"#, LOCKS[lock]);
        let update = Update::new(Verb::Set, path, ValueType::Int64, Some(number.to_be_bytes().to_vec()));
        let id = self.world.ask(at, Asked::Update(Update { constraint, ..update }));
        self.writes.insert(number, Write { at, id, lock, grant, is_rightful });
    }

    /// What clients have heard of their locks.
    fn look(&mut self) {
        for ((at, lock), standing) in &mut self.standings {
            let client = &self.world.links[*at].client;
            let [Some(first), second] = standing.asked else { continue };
            let Some(answer) = client.answers.get(&first) else { continue };
            self.twice.extend(second.map(|second| (*at, first, second)));
            let given_up = std::mem::take(&mut standing.gives_up);
            standing.asked = [None; 2];
            let Some(grant) = client.grants.get(&first).copied() else {
                assert!(*answer == Some(LOST) && given_up, "client {at}: {answer:?}");
                continue;
            };
            assert_eq!(self.granted.insert((*lock, grant), (*at, first)), None, "a grant has one number");
            standing.stale = grant;
            if !given_up {
                standing.held = Some(grant);
                if !self.reading.contains_key(at) {
                    let topic = self.world.random.pick(&TOPICS[*lock]);
                    let id = self.world.ask(*at, Asked::Fetch(Wanted::new(topic)));
                    self.reading.insert(*at, (id, topic.text, *lock, grant));
                }
            }
        }
        for (lock, name) in LOCKS.iter().enumerate() {
            let holders = self.standings.iter().filter(|((_, of), standing)| *of == lock && standing.held.is_some());
            let holders: Vec<_> = holders.map(|((at, _), standing)| (at, standing.held)).collect();
            assert!(holders.len() < 2, "{name} is held by {holders:?}");
        }
        self.look_at_reads();
    }

    fn look_at_reads(&mut self) {
        let links = &mut self.world.links;
        self.reading.retain(|at, (id, topic, lock, grant)| {
            let client = &mut links[*at].client;
            if !client.answers.contains_key(id) {
                return client.is_live();
            }
            let page = client.last_page.take().expect("one at a time is under way");
            let found = page.rows[0].value.as_deref().map(|value| i64::from_be_bytes(value.try_into().expect("eight bytes")));
            self.reads.push(Read { topic, lock: *lock, grant: *grant, found });
            false
        });
    }

    /// Everybody who holds something gives it up, until nobody waits.
    fn come_to_rest(&mut self) {
        loop {
            for _ in 0..300 {
                self.world.settle_rounds(1);
                self.look();
            }
            self.world.settle();
            self.look();
            let waits: Vec<_> = self.standings.iter().filter(|(_, standing)| standing.asked[0].is_some()).map(|(key, _)| *key).collect();
            let held: Vec<_> = self.standings.iter().filter_map(|((at, lock), standing)| Some((*at, *lock, standing.held?))).collect();
            for (at, lock) in &waits {
                assert!(held.iter().any(|(_, of, _)| of == lock), "client {at} waits for {}, which nobody holds", LOCKS[*lock]);
            }
            if held.is_empty() {
                return;
            }
            held.into_iter().for_each(|(at, lock, grant)| self.give_up(at, lock, grant));
        }
    }

    /// What was written stands in the order of grants, what was refused not at all, and whoever was granted a lock read what came before.
    fn check_writes(&self) {
        let watcher = &self.world.links[WATCHER].client;
        let mut places: BTreeMap<i64, usize> = BTreeMap::new();
        for topic in TOPICS.iter().flatten() {
            let events = &watcher.held(topic.text).expect("the watcher holds all topics").events;
            let numbers: Vec<i64> =
                events.iter().map(|event| i64::from_be_bytes(event.value[..].try_into().expect("eight bytes"))).collect();
            places.extend(numbers.iter().enumerate().map(|(place, number)| (*number, place)));
            let grants: Vec<u64> = numbers.iter().map(|number| self.writes[number].grant).collect();
            assert!(grants.is_sorted(), "{} was written to under {grants:?}", topic.text);
            for Read { lock, grant, found, .. } in self.reads.iter().filter(|read| read.topic == topic.text) {
                let seen = found.map_or(0, |found| places[&found] + 1);
                let later = numbers[seen..].iter().find(|number| self.writes[number].grant < *grant);
                assert_eq!(
                    later, None,
                    "{} changed under an earlier grant than {grant} of {}, after it was read",
                    topic.text, LOCKS[*lock]
                );
            }
        }
        for (number, Write { at, id, lock, grant, is_rightful }) in &self.writes {
            assert!(*is_rightful || !places.contains_key(number), "{number} was written under a grant that was not held");
            let client = &self.world.links[*at].client;
            match client.answers.get(id) {
                Some(None) => assert!(places.contains_key(number) && self.granted[&(*lock, *grant)].0 == *at, "{number} is lost"),
                Some(Some(UNSATISFIED)) => assert!(!is_rightful, "{number} was refused under a grant that was held"),
                Some(other) => panic!("{other:?}"),
                None => assert!(!client.is_live(), "a write is answered"),
            }
        }
    }

    fn check_twice(&self) {
        for (at, first, second) in &self.twice {
            let client = &self.world.links[*at].client;
            let is_answered = client.is_live() || client.answers.contains_key(second);
            assert!(!is_answered || client.grants.get(first) == client.grants.get(second), "client {at} waited for one grant");
        }
    }

    /// Of what one shard took, in its order, the first was granted first.
    fn check_turns(&self) {
        let grants: BTreeMap<u64, u64> = self.granted.iter().map(|((_, grant), (_, id))| (*id, *grant)).collect();
        let mut last: BTreeMap<(usize, &str), u64> = BTreeMap::new();
        for (shard, name, id) in &self.world.locks_taken {
            let Some(grant) = grants.get(id) else { continue };
            let before = last.insert((*shard, name), *grant).unwrap_or(0);
            assert!(before < *grant, "shard {shard}: {name} was granted to LOCK {id} before an earlier one");
        }
    }
}

#[test]
fn a_lock_has_one_holder_and_what_it_writes_never_comes_after_the_next_ones() {
    crate::for_each_seed(|seed| {
        let mut auditor = start(seed);
        (0..12_000).for_each(|_| auditor.step());
        auditor.come_to_rest();
        auditor.check_writes();
        auditor.check_turns();
        auditor.check_twice();
        assert!(auditor.granted.len() > 5 && auditor.writes.len() > 4, "locks are granted, and used");
        let mut world = auditor.world;
        assert!(world.shards().iter().all(|shard| shard.lock_counts() == [0; 2]), "nobody holds anything");
        (0..world.links.len()).for_each(|at| world.reset(at));
        check_empty(&mut world);
    });
}

/// What ends a session while it holds a lock, or waits for it.
fn end(world: &mut World, at: usize) {
    if world.random.percent(50) {
        return world.reset(at);
    }
    world.links[at].client.leave(&mut world.random);
}

#[test]
fn every_session_of_a_line_gets_its_turn_although_those_before_it_end() {
    crate::for_each_seed(|seed| {
        let mut auditor = start(seed);
        let world = &mut auditor.world;
        let clients: Vec<usize> = (1..world.links.len()).collect();
        let mut asked = BTreeMap::new();
        for at in &clients {
            asked.insert(*at, world.ask(*at, Asked::Lock { name: LOCKS[0], scope: 0 }));
            world.settle();
        }
        let mut last = 0;
        for at in &clients {
            let client = &world.links[*at].client;
            let is_gone = client.closed.is_some() || client.is_leaving;
            let grant = client.grants.get(&asked[at]).copied();
            assert!(is_gone || grant.is_some_and(|grant| grant > last), "client {at} has its turn");
            last = grant.unwrap_or(last);
            // Somebody who waits may end too.
            if world.random.percent(30) {
                let other = *at + world.random.below(clients.len() + 1 - *at);
                end(world, other);
            }
            if world.links[*at].client.is_live() {
                end(world, *at);
            }
            world.settle();
        }
        (0..world.links.len()).for_each(|at| world.reset(at));
        check_empty(world);
    });
}

/// The topic, the lock and the sessions live on three shards, and the mail to the topic's is late.
#[test]
fn a_lock_passes_on_behind_what_was_under_way_under_it() {
    let topic = TOPICS[0][1];
    let name = ["a", "b", "c", "d", "e", "f"].into_iter().find(|name| owner(name, 3) == 1).expect("one of them");
    assert_eq!(owner(topic.text, 3), 2);
    let conditions =
        Conditions { shards: 3, bytes_high: 9000, bytes_max: 9000, ring_batches: 9, ..Conditions::chosen(&mut Random::new(1)) };
    let mut world = World::new(Random::new(1), conditions);
    let [one, other] = [0, 0].map(|shard| world.connect_at(Form::Text, shard));
    let value = |world: &mut World| Some((world.take_value_number() as i64).to_be_bytes().to_vec());
    let update = Update::new(Verb::AddAndSet, topic.text, ValueType::Int64, value(&mut world));
    world.ask(one, Asked::Update(update.clone()));
    let first = world.ask(one, Asked::Lock { name, scope: 0 });
    world.settle();
    let grant = world.links[one].client.grants[&first];
    let constraint = format!(r#"{{"locked":{{"name":"{name}","number":{grant}}}}}"#);
    let update = Update { value: value(&mut world), constraint, ..update };
    let late = world.ask(one, Asked::Update(update));
    let unlock = world.ask(one, Asked::Unlock { name, number: grant });
    while world.read(one, 4000) {}
    let second = world.ask(other, Asked::Lock { name, scope: 0 });
    while world.read(other, 4000) {}
    for _ in 0..9 {
        // All but what goes from the sessions' shard to the topic's.
        for (from, to) in [(0, 1), (1, 0), (1, 2), (2, 1), (2, 0)] {
            world.post(from);
            while world.deliver(from, to) {}
        }
        world.settle_without_mail();
    }
    assert!(!world.links[other].client.answers.contains_key(&second), "the lock passes on before an update under it is made");
    assert!(!world.links[one].client.answers.contains_key(&unlock));
    world.settle();
    assert_eq!(world.links[other].client.grants[&second], grant + 1);
    assert_eq!((world.links[one].client.answers[&late], world.links[one].client.released[&unlock]), (None, true));
}
