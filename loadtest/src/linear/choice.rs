//! What a client does next: all of it by chance, from a seed.

use super::history::{Deed, Test, Value};
use super::register::{count, counter};

/// SplitMix64.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x6c69_6e65_6172_3a29)
    }

    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Less than `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.draw() % end
    }
}

/// What is done with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its value is set, or replaced.
    Register,
    /// It is counted on.
    Counter,
    /// It comes and goes.
    Transient,
    /// It is appended to.
    Series,
}

#[derive(Clone, Debug)]
pub struct Topic {
    pub path: String,
    pub kind: Kind,
}

/// The topics of a round: of eight three registers, two counters, two that come and go and one series, which is another in each round.
pub fn topics(root: &str, round: u64, count: usize) -> Vec<Topic> {
    let topic = |number: usize| match number % 8 {
        0..3 => Topic { path: format!("{root}/v/r{number}"), kind: Kind::Register },
        3..5 => Topic { path: format!("{root}/v/c{number}"), kind: Kind::Counter },
        5..7 => Topic { path: format!("{root}/v/t{number}"), kind: Kind::Transient },
        _ => Topic { path: format!("{root}/s/{round}/{number}"), kind: Kind::Series },
    };
    (0..count).map(topic).collect()
}

/// What is asked of a topic next, in one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    Look,
    Change(Vec<Deed>),
}

/// Draws what is done with a topic, of which `known` was seen last. `name` makes a value's name that no other has.
pub fn draw(random: &mut Random, kind: Kind, known: Option<&Value>, mut name: impl FnMut() -> String) -> Turn {
    let chance = random.below(100);
    let text = |name: String| Value::from(format!("\"{name}\""));
    let one = |deed| Turn::Change(vec![deed]);
    match (kind, known) {
        (Kind::Register, Some(known)) if chance < 40 => one(Deed::Replace(Test::Is(known.clone()), text(name()))),
        (Kind::Register, _) if chance < 60 => Turn::Look,
        (Kind::Register, _) => {
            let make = |number| if number % 2 == 0 { Deed::Set(text(name())) } else { Deed::Put(text(name())) };
            Turn::Change((0..=random.below(3)).map(make).collect())
        }
        (Kind::Counter, Some(known)) if chance < 75 => {
            let n = count(known);
            one(Deed::Replace(Test::Counts(n), counter(n + 1, &name())))
        }
        (Kind::Counter, _) => Turn::Look,
        (Kind::Transient, _) => match chance {
            0..30 => one(Deed::Put(text(name()))),
            30..50 => one(Deed::Add(text(name()))),
            50..70 => one(Deed::Remove),
            70..85 => one(Deed::Set(text(name()))),
            _ => Turn::Look,
        },
        (Kind::Series, _) => Turn::Change((0..=random.below(3)).map(|_| Deed::Append(text(name()))).collect()),
    }
}

/// Draws a topic: mostly one of a few that all clients have to do with at the moment.
pub fn draw_topic(random: &mut Random, seed: u64, now_us: u64, count: usize) -> usize {
    const FEW: u64 = 6;
    const MOMENT_US: u64 = 500_000;
    if random.below(10) < 3 {
        return random.below(count as u64) as usize;
    }
    let which = random.below(FEW);
    Random::new(seed ^ (now_us / MOMENT_US) << 8 ^ which).below(count as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same() {
        let draws = |seed| -> Vec<Turn> {
            let (mut random, mut names) = (Random::new(seed), 0);
            let known = Value::from("{\"n\":4,\"by\":\"x\"}");
            let kinds = [Kind::Register, Kind::Counter, Kind::Transient, Kind::Series];
            let mut name = || {
                names += 1;
                names.to_string()
            };
            (0..100).map(|at| draw(&mut random, kinds[at % 4], Some(&known), &mut name)).collect()
        };
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
        assert!(draws(1).contains(&Turn::Look));
    }

    #[test]
    fn all_kinds_of_topics_are_there() {
        let topics = topics("k", 3, 48);
        for kind in [Kind::Register, Kind::Counter, Kind::Transient, Kind::Series] {
            assert!(topics.iter().filter(|topic| topic.kind == kind).count() >= 6);
        }
        let mut random = Random::new(1);
        assert!((0..1000).all(|at| draw_topic(&mut random, 7, at * 1000, 48) < 48));
    }
}
