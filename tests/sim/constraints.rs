//! A constraint and its update are one: nothing comes between them, wherever the sessions are.

use crate::ask::{Asked, Update};
use crate::random::Random;
use crate::workload::{check_at_rest, fetch_all, form};
use crate::world::{Conditions, World};
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::Verb;

const PATH: &str = "a/b";

fn world(seed: u64) -> World {
    let mut random = Random::new(seed);
    let chosen = Conditions::chosen(&mut random);
    let mut world = World::new(random, Conditions { bytes_high: 50_000, bytes_max: 50_000, keep_alive_ms: 30_000, ..chosen });
    for _ in 0..3 {
        let form = form(&mut world.random);
        world.connect(form);
    }
    world
}

fn number_of(world: &mut World) -> i64 {
    let found = fetch_all(world, 0);
    let value = found[PATH].value.as_ref().expect("it has a value");
    i64::from_be_bytes(value.as_slice().try_into().expect("eight bytes"))
}

/// An update to the next number that is given out, if the topic has the number `from`; the request's id and the number.
fn ask_to_replace(world: &mut World, at: usize, from: i64) -> (u64, i64) {
    let next = world.take_value_number() as i64;
    let constraint = format!(r#"{{"value":{{"is":{from},"type":"int64"}}}}"#);
    let update = Update::new(Verb::Set, PATH, ValueType::Int64, Some(next.to_be_bytes().to_vec()));
    (world.ask(at, Asked::Update(Update { constraint, ..update })), next)
}

fn add(world: &mut World, at: usize, constraint: &str) -> u64 {
    let first = world.take_value_number();
    let update = Update::new(Verb::AddAndSet, PATH, ValueType::Int64, Some(first.to_be_bytes().to_vec()));
    world.ask(at, Asked::Update(Update { constraint: constraint.to_owned(), ..update }))
}

fn answer(world: &World, at: usize, id: u64) -> Option<u16> {
    *world.links[at].client.answers.get(&id).expect("it is answered at rest")
}

#[test]
fn of_two_that_compete_exactly_one_wins_each_round() {
    crate::for_each_seed(|seed| {
        let mut world = world(seed);
        for round in 0..15 {
            let made = [0, 1, 2].map(|at| (at, add(&mut world, at, r#"{"no_topic":true}"#)));
            world.settle();
            let won = made.iter().filter(|(at, id)| answer(&world, *at, *id).is_none()).count();
            assert_eq!(won, usize::from(round == 0), "one makes the topic, once");
            let from = number_of(&mut world);
            let asked = [0, 1, 2].map(|at| {
                let asked = ask_to_replace(&mut world, at, from);
                let bytes = world.random.within(1, 300);
                world.read(at, bytes);
                (at, asked)
            });
            world.settle();
            let winners: Vec<i64> =
                asked.iter().filter(|(at, (id, _))| answer(&world, *at, *id).is_none()).map(|(_, (_, next))| *next).collect();
            assert_eq!(winners, [number_of(&mut world)], "one update was made");
            for (at, (id, next)) in asked {
                assert_eq!(answer(&world, at, id), (!winners.contains(&next)).then_some(212));
            }
        }
        check_at_rest(&mut world);
    });
}

/// Chains of updates that each depend on the one before: no link is ever taken twice.
#[test]
fn updates_in_flight_that_depend_on_each_other_follow_one_chain() {
    crate::for_each_seed(|seed| {
        let mut world = world(seed);
        add(&mut world, 0, "");
        world.settle();
        let mut from = number_of(&mut world);
        for _ in 0..6 {
            let mut chains: Vec<(usize, Vec<(u64, i64)>)> = Vec::new();
            for at in 0..3 {
                let mut last = from;
                let mut chain = Vec::new();
                for _ in 0..4 {
                    let asked = ask_to_replace(&mut world, at, last);
                    last = asked.1;
                    chain.push(asked);
                }
                chains.push((at, chain));
            }
            world.settle();
            let winners: Vec<_> = chains.iter().filter(|(at, chain)| answer(&world, *at, chain[0].0).is_none()).collect();
            assert_eq!(winners.len(), 1, "one chain begins where all began");
            from = number_of(&mut world);
            assert_eq!(winners[0].1.last().map(|(_, next)| *next), Some(from), "and goes to its end");
        }
        check_at_rest(&mut world);
    });
}
