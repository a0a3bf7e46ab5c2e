//! An update stream ends exactly when it is documented to: when its topic goes, another stream opens, anybody else updates, or one of its own
//! operations fails; what is in flight then fails too.

use crate::ask::{Asked, Update};
use crate::client::Form;
use crate::random::Random;
use crate::topics::{Pattern, everything};
use crate::workload::{check_at_rest, fetch_all, value};
use crate::world::{Conditions, World};
use std::collections::BTreeSet;
use tidewire::surface::value::delta::{self, Encoder};
use tidewire::surface::value::{ValueType, delta::Form as DeltaForm};
use tidewire::surface::wire::native::Verb;

const BINARY: Form = Form::Binary { capabilities: 7 };
const PATHS: [&str; 2] = ["a", "a/b"];

fn world(seed: u64) -> World {
    let mut random = Random::new(seed);
    let chosen = Conditions::chosen(&mut random);
    let mut world =
        World::new(random, Conditions { bytes_high: 50_000, bytes_max: 50_000, keep_alive_ms: 30_000, selections_max: 8, ..chosen });
    for _ in 0..3 {
        world.connect(BINARY);
    }
    let at = world.connect(BINARY);
    world.ask(at, Asked::subscribe(everything()));
    world
}

/// One topic and the streams on it, said again.
#[derive(Default)]
struct Topic {
    value: Option<Vec<u8>>,
    is_there: bool,
    /// Whose stream it follows: a client's and its number.
    stream: Option<(usize, u64)>,
}

struct Said {
    topics: [Topic; 2],
    /// The streams that clients have numbers for, and the topics they are on.
    open: BTreeSet<(usize, u64, usize)>,
}

/// What an operation is answered: an error's code, or none.
fn settle_for(world: &mut World, at: usize, asked: Asked) -> Option<u16> {
    let id = world.ask(at, asked);
    world.settle();
    *world.links[at].client.answers.get(&id).expect("it is answered at rest")
}

fn a_delta(previous: &[u8], next: &[u8]) -> Option<(DeltaForm, Vec<u8>)> {
    let mut bytes = Vec::new();
    let form = Encoder::new().encode(previous, next, &mut bytes)?;
    assert_eq!(delta::apply(form, previous, &bytes, 1 << 16).as_deref(), Ok(next));
    Some((form, bytes))
}

#[test]
fn a_stream_ends_when_it_is_documented_to() {
    crate::for_each_seed(|seed| {
        let mut world = world(seed);
        let mut said = Said { topics: Default::default(), open: BTreeSet::new() };
        for _ in 0..80 {
            step(&mut world, &mut said);
        }
        check_at_rest(&mut world);
        let found = fetch_all(&mut world, 0);
        for (path, topic) in PATHS.into_iter().zip(&said.topics) {
            assert_eq!(found.get(path).map(|row| row.value.clone()), topic.is_there.then(|| topic.value.clone()), "{path}");
        }
    });
}

fn step(world: &mut World, said: &mut Said) {
    let (at, which, number) = (world.random.below(3), world.random.below(2), world.random.below(3) as u64);
    let path = PATHS[which];
    let next = value(world, ValueType::String);
    let of = said.open.iter().find(|(client, held, _)| (*client, *held) == (at, number)).map(|(.., topic)| *topic);
    let verb = world.random.pick(&[Verb::Set, Verb::AddAndSet, Verb::Add, Verb::Check]);
    let update = Update::new(verb, path, ValueType::String, Some(next.clone()));
    match world.random.below(10) {
        0..3 => {
            let constraint = if world.random.percent(25) { r#"{"no_topic":true}"# } else { "" };
            let update = Update { constraint: constraint.to_owned(), ..update };
            let answer = settle_for(world, at, Asked::StreamOpen { stream: number, update });
            if of.is_some() {
                return assert_eq!(answer, Some(221), "the number is in use");
            }
            said.open.insert((at, number, which));
            if !constraint.is_empty() && said.topics[which].is_there {
                return assert_eq!(answer, Some(212), "the stream could not be opened");
            }
            assert_eq!(answer, said.topics[which].update(verb, next));
            if answer.is_none() {
                said.topics[which].stream = Some((at, number));
            }
        }
        3..6 => {
            let Some(of) = of else {
                let asked = Asked::StreamSet { stream: number, path, kind: ValueType::String, value: Some(next) };
                return assert_eq!(settle_for(world, at, asked), Some(220), "there is no such stream");
            };
            let is_valid = said.topics[of].stream == Some((at, number));
            let previous = said.topics[of].value.clone();
            let a_delta = previous.and_then(|previous| a_delta(&previous, &next)).filter(|_| world.random.percent(60));
            let path = PATHS[of];
            let asked = match a_delta {
                Some((form, delta)) => Asked::StreamDelta { stream: number, path, form, delta, value: next.clone() },
                None => Asked::StreamSet { stream: number, path, kind: ValueType::String, value: Some(next.clone()) },
            };
            assert_eq!(settle_for(world, at, asked), (!is_valid).then_some(220));
            if is_valid {
                said.topics[of].value = Some(next);
            }
        }
        6 => {
            let answer = settle_for(world, at, Asked::StreamClose { stream: number });
            assert_eq!(answer, of.is_none().then_some(220));
            said.open.retain(|(client, held, _)| (*client, *held) != (at, number));
            for topic in said.topics.iter_mut().filter(|topic| topic.stream == Some((at, number))) {
                topic.stream = None;
            }
        }
        7 => {
            let answer = settle_for(world, at, Asked::Update(update));
            let is_change = matches!(verb, Verb::Set) || verb == Verb::AddAndSet || verb == Verb::Add && !said.topics[which].is_there;
            assert_eq!(answer, said.topics[which].update(verb, next));
            if answer.is_none() && is_change {
                said.topics[which].stream = None;
            }
        }
        8 => {
            let pattern = world.random.pick(&[Pattern { text: "a", matches: |path| path == "a" }, everything()]);
            settle_for(world, at, Asked::Remove { pattern });
            for (path, topic) in PATHS.into_iter().zip(&mut said.topics) {
                if (pattern.matches)(path) {
                    *topic = Topic::default();
                }
            }
        }
        _ => {
            let Some(of) = of else { return };
            let is_valid = said.topics[of].stream == Some((at, number));
            let delta =
                Asked::StreamDelta { stream: number, path: PATHS[of], form: DeltaForm::Copy, delta: b"\xff\xff\xff".to_vec(), value: next };
            let answer = settle_for(world, at, delta);
            assert_eq!(answer, Some(if is_valid { 205 } else { 220 }), "a delta that does not apply");
            if is_valid {
                said.topics[of].stream = None;
            }
        }
    }
}

impl Topic {
    /// Does as an update says; the error's code where it is refused.
    fn update(&mut self, verb: Verb, value: Vec<u8>) -> Option<u16> {
        if !self.is_there && matches!(verb, Verb::Set | Verb::Check) {
            return Some(202);
        }
        self.is_there = true;
        if matches!(verb, Verb::Set | Verb::AddAndSet) {
            self.value = Some(value);
        }
        None
    }
}

/// Many operations are on their way when one fails: none behind it changes anything.
#[test]
fn behind_a_failure_everything_in_flight_fails() {
    crate::for_each_seed(|seed| {
        let mut world = world(seed);
        let path = PATHS[0];
        let first = value(&mut world, ValueType::String);
        let update = Update::new(Verb::AddAndSet, path, ValueType::String, Some(first.clone()));
        assert_eq!(settle_for(&mut world, 0, Asked::StreamOpen { stream: 7, update }), None);
        let (count, failing) = (world.random.within(4, 12), world.random.within(1, 3));
        let mut values = vec![first];
        let mut asked = Vec::new();
        for number in 0..count {
            let next = value(&mut world, ValueType::String);
            let (form, delta) = match a_delta(values.last().expect("one"), &next) {
                Some(delta) if number != failing => delta,
                _ => (DeltaForm::Copy, b"\xff\xff\xff".to_vec()),
            };
            let delta = Asked::StreamDelta { stream: 7, path, form, delta, value: next.clone() };
            asked.push(world.ask(0, delta));
            values.push(next);
            if world.random.percent(30) {
                let bytes = world.random.within(1, 200);
                world.read(0, bytes);
            }
        }
        world.settle();
        let answers: Vec<_> = asked.iter().map(|id| world.links[0].client.answers[id]).collect();
        let first_failing = answers.iter().position(Option::is_some).expect("one fails");
        assert_eq!(answers[first_failing], Some(205));
        assert!(answers[first_failing + 1..].iter().all(|answer| *answer == Some(220)), "{answers:?}");
        let found = fetch_all(&mut world, 0);
        assert_eq!(found[path].value.as_ref(), Some(&values[first_failing]));
        check_at_rest(&mut world);
    });
}

#[test]
fn a_stream_that_could_not_be_opened_is_none_although_one_of_its_number_was() {
    for shard in 0..4 {
        let mut world = world(shard);
        let path = PATHS[0];
        let stream = 1;
        let open = |world: &mut World, constraint: &str| {
            let value = value(world, ValueType::String);
            let update = Update::new(Verb::AddAndSet, path, ValueType::String, Some(value));
            settle_for(world, 0, Asked::StreamOpen { stream, update: Update { constraint: constraint.to_owned(), ..update } })
        };
        assert_eq!(open(&mut world, ""), None);
        assert_eq!(settle_for(&mut world, 0, Asked::StreamClose { stream }), None);
        assert_eq!(open(&mut world, r#"{"no_topic":true}"#), Some(212));
        let value = value(&mut world, ValueType::String);
        let set = Asked::StreamSet { stream, path, kind: ValueType::String, value: Some(value) };
        assert_eq!(settle_for(&mut world, 0, set), Some(220));
        check_at_rest(&mut world);
    }
}
