//! The consensus engine under faults: several nodes on one thread, a network that chance rules, and a clock that stands still until all wait.
//!
//! `world` is the nodes and what runs them, `network` what happens to messages, `receiver` a small state machine, `audit` what must be true. The tests
//! here say what happens to the cluster; `alone` is a node on a thread of its own, `servers` are
//! nodes on threads of their own that reach each other by TCP. `TIDEWIRE_SIM_SEEDS` is how many seeds each test runs, `TIDEWIRE_SIM_SEED` the first: a failure names its seed.

mod alone;
mod audit;
mod network;
mod random;
mod receiver;
mod servers;
mod world;

use std::cell::Cell;
use std::future::Future;
use std::time::Duration;

use audit::Figures;
use network::Weather;
use tidewire::surface::consensus::NodeId;
use tokio::task::LocalSet;
use tokio::time::Instant;
use world::World;

const SEEDS: u64 = 12;

/// Runs `test` for each seed; says how many those were.
fn for_each_seed(test: impl Fn(u64)) -> u64 {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("TIDEWIRE_SIM_SEED").unwrap_or(1);
    let count = number("TIDEWIRE_SIM_SEEDS").unwrap_or(SEEDS);
    for seed in first..first + count {
        let _named = Named(seed);
        test(seed);
    }
    count
}

/// Names the seed of a failure.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {} failed; run it again with TIDEWIRE_SIM_SEED={} TIDEWIRE_SIM_SEEDS=1", self.0, self.0);
        }
    }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, test)
}

/// What may happen to a cluster of three, a step at a time.
struct Faults {
    crashes: bool,
    cuts: bool,
    weather: Weather,
}

async fn shake(world: &mut World, faults: &Faults, steps: u64) {
    world.network.set_weather(faults.weather);
    let nodes: Vec<NodeId> = world.nodes.keys().copied().collect();
    for _ in 0..steps {
        let ms = world.random.below(60);
        world.step(ms).await;
        let id = world.random.pick(&nodes);
        match world.random.below(100) {
            0..2 if faults.crashes => world.crash(id).await,
            2..6 if faults.crashes && !world.is_running(id) => world.start(id),
            6..9 if faults.cuts => cut(world, id),
            9..11 => world.network.heal(),
            11..14 => transfer(world, id),
            20..22 => world.handle(id).into_iter().for_each(|handle| handle.falters(true)),
            22..24 => world.handle(id).into_iter().for_each(|handle| handle.falters(false)),
            14..20 => {
                let (group, to) = (world.random.pick(&world.groups().collect::<Vec<_>>()), world.random.pick(&nodes));
                world.ask(id, group, to);
            }
            _ => propose(world),
        }
    }
}

/// One way, both ways, or all ways of a node.
fn cut(world: &mut World, id: NodeId) {
    let nodes: Vec<NodeId> = world.nodes.keys().copied().collect();
    let other = world.random.pick(&nodes);
    match world.random.below(3) {
        0 => world.network.cut(id, other),
        1 => world.network.cut_both(id, other),
        _ => nodes.iter().for_each(|other| world.network.cut_both(id, *other)),
    }
}

fn transfer(world: &World, to: NodeId) {
    for group in world.groups() {
        if let Some(handle) = world.leader(group).and_then(|leader| world.handle(leader)) {
            handle.transfer(group, to);
        }
    }
}

/// At whoever believes that it leads; now and then judged in an older term, or at somebody who does not lead.
fn propose(world: &mut World) {
    let nodes: Vec<NodeId> = world.nodes.keys().copied().collect();
    for group in world.groups() {
        for id in &nodes {
            let count = 1 + world.random.below(4);
            match world.nodes[id].leads[usize::from(group.0)] {
                Some(term) if world.random.percent(10) => world.propose(*id, group, term - 1, count),
                Some(term) => world.propose(*id, group, term, count),
                None if world.random.percent(3) => world.propose(*id, group, 1, count),
                None => {}
            }
        }
    }
}

async fn shaken(seed: u64, faults: &Faults) -> (Figures, u64) {
    let mut world = World::new(seed, 3).await;
    shake(&mut world, faults, 150).await;
    world.rest().await;
    (world.audit.figures, world.trace())
}

/// Runs the faults for each seed. If those are enough, what the test is about must have happened in some.
fn check(faults: &Faults, has_happened: impl Fn(&Figures) -> bool) {
    let sum = Cell::new(Figures::default());
    let seeds = for_each_seed(|seed| sum.set(sum.get() + run(shaken(seed, faults)).0));
    let sum = sum.get();
    assert!(seeds < SEEDS || has_happened(&sum), "{sum:?}");
}

#[test]
fn a_quiet_cluster_commits_all() {
    let quiet = Faults { crashes: false, cuts: false, weather: Weather::FAIR };
    check(&quiet, |figures| figures.acknowledged > 0 && figures.void > 0 && figures.not_committed > 0 && figures.answered > 0);
}

#[test]
fn nothing_is_lost_when_nodes_crash() {
    let crashes = Faults { crashes: true, cuts: false, weather: Weather::FAIR };
    check(&crashes, |figures| figures.acknowledged > 0 && figures.terms > 4);
}

#[test]
fn nothing_is_lost_when_ways_are_cut() {
    let cuts = Faults { crashes: false, cuts: true, weather: Weather::FAIR };
    check(&cuts, |figures| figures.acknowledged > 0 && figures.unknown > 0 && figures.terms > 4);
}

#[test]
fn nothing_is_lost_when_all_of_it_comes_together() {
    let all = Faults { crashes: true, cuts: true, weather: Weather::FOUL };
    check(&all, |figures| figures.acknowledged > 0 && figures.void > 0 && figures.installed > 0);
}

#[test]
fn a_node_that_cannot_write_leads_nothing_while_another_can() {
    for_each_seed(|seed| {
        run(async move {
            let mut world = World::new(seed, 3).await;
            let group = world.groups().last().unwrap();
            let leads_elsewhere = |world: &World, not: NodeId| world.leader(group).is_some_and(|leader| leader != not);
            let mut faltering = Vec::new();
            // One after the other, until none is left that could.
            for _ in 0..2 {
                let leader = world.leader(group).unwrap();
                world.handle(leader).unwrap().falters(true);
                faltering.push(leader);
                let until = Instant::now() + Duration::from_secs(5);
                while faltering.iter().any(|id| !leads_elsewhere(&world, *id)) {
                    assert!(Instant::now() < until, "another leads than {faltering:?}");
                    propose(&mut world);
                    world.step(20).await;
                }
            }
            world.rest().await;
        });
    });
}

#[test]
fn a_node_that_is_cut_off_is_told_that_it_may_be_stale() {
    for_each_seed(|seed| {
        run(async move {
            let mut world = World::new(seed, 3).await;
            shake(&mut world, &Faults { crashes: false, cuts: false, weather: Weather::FAIR }, 20).await;
            world.rest().await;
            let lost = 1 + world.random.below(3);
            (1..=3).for_each(|other| world.network.cut_both(lost, other));
            let until = Instant::now() + Duration::from_secs(5);
            while world.nodes[&lost].fresh.iter().any(|is_fresh| *is_fresh) {
                assert!(Instant::now() < until, "{lost} is told");
                propose(&mut world);
                world.step(20).await;
            }
            let others = world.nodes.iter().filter(|(id, _)| **id != lost);
            assert!(others.flat_map(|(_, node)| &node.fresh).all(|is_fresh| *is_fresh), "an election alone makes nobody stale");
            world.rest().await;
        });
    });
}

#[test]
fn a_node_that_is_alone_leads_for_as_long_as_it_runs() {
    for_each_seed(|seed| {
        run(async move {
            let mut world = World::new(seed, 1).await;
            for _ in 0..200 {
                world.step(20).await;
                assert!(world.groups().all(|group| world.leader(group) == Some(1)));
                propose(&mut world);
            }
            world.rest().await;
            assert_eq!((world.audit.figures.terms, world.audit.figures.unknown), (world.groups().count() as u64, 0));
        });
    });
}

#[test]
fn neither_half_of_an_even_split_has_a_leader() {
    for_each_seed(|seed| {
        run(async move {
            let mut world = World::new(seed, 4).await;
            shake(&mut world, &Faults { crashes: false, cuts: false, weather: Weather::FAIR }, 20).await;
            world.rest().await;
            let halves = [[1, 2], [3, 4]];
            halves[0].iter().for_each(|one| halves[1].iter().for_each(|other| world.network.cut_both(*one, *other)));
            // Longer than any leader is certain of itself.
            for _ in 0..100 {
                world.step(20).await;
            }
            let acknowledged = world.audit.figures.acknowledged;
            for _ in 0..100 {
                assert!(world.groups().all(|group| world.leader(group).is_none()), "two of four are no majority");
                propose(&mut world);
                world.step(20).await;
            }
            assert_eq!(world.audit.figures.acknowledged, acknowledged);
            assert!(world.nodes.values().all(|node| node.fresh.iter().all(|is_fresh| !is_fresh)), "all are told that they may be stale");
            world.rest().await;
        });
    });
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let all = Faults { crashes: true, cuts: true, weather: Weather::FOUL };
    for_each_seed(|seed| assert_eq!(run(shaken(seed, &all)), run(shaken(seed, &all))));
}

#[test]
fn a_node_without_its_log_comes_back_under_a_new_id() {
    for_each_seed(|seed| {
        run(async {
            let mut world = World::new(seed, 3).await;
            let faults = Faults { crashes: false, cuts: false, weather: Weather::FAIR };
            shake(&mut world, &faults, 60).await;
            let lost = 1 + world.random.below(3);
            world.forget(lost).await;
            shake(&mut world, &faults, 20).await;
            // Two that both cannot write would hand over to each other.
            world.heal_stores();
            world.start(4);
            world.replace(lost, 4).await;
            shake(&mut world, &faults, 20).await;
            // Of those that were there before, one is enough now, with the new one.
            let other = lost % 3 + 1;
            world.crash(other).await;
            shake(&mut world, &Faults { crashes: false, cuts: false, weather: Weather::FAIR }, 40).await;
            world.rest().await;
            assert!(world.audit.figures.installed > 0, "the new node is sent what is in no log any more");
        });
    });
}
