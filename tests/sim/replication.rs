//! Topics that several servers hold as one are the same at each, no subscriber sees one go back, and what was acknowledged was done once.

use crate::nodes::{GROUPS, Nodes, SERVERS};
use std::collections::{BTreeMap, HashMap, HashSet};
use tidewire::surface::base::TopicId;
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::{self, Append, Ask, Heard, Request, Update, Verb};

const COUNTERS: [&str; 5] = ["a", "b/1", "b/2", "c/d/e", "f"];
const SERIES: [&str; 2] = ["s/1", "s/2"];
const NO_QUORUM: u16 = 420;
const UPDATE_UNKNOWN: u16 = 421;
const UNSATISFIED: u16 = 212;
const NO_SUCH_TOPIC: u16 = 202;

/// What a server's watcher holds, by path.
#[derive(Default)]
struct Copy {
    paths: HashMap<TopicId, String>,
    counters: BTreeMap<String, (TopicId, u64)>,
    events: BTreeMap<String, Vec<(u64, Vec<u8>)>>,
}

/// What was asked and is not answered.
enum Asked {
    Add {
        path: &'static str,
    },
    /// The counter goes on from this number to the next.
    Count {
        path: &'static str,
        from: u64,
        /// Whether it was acknowledged before that there is such a topic.
        is_there: bool,
    },
    Append {
        path: &'static str,
        value: u64,
    },
}

#[derive(Default)]
struct Answers {
    /// Counters that were made to go on from this number, and values that were appended: as acknowledged.
    counted: HashSet<(&'static str, u64)>,
    appended: HashMap<(&'static str, u64), u64>,
    added: HashSet<&'static str>,
}

struct Run {
    nodes: Nodes,
    copies: Vec<Copy>,
    /// Where the writer of each server takes the counters to be: it does not wait for answers.
    guesses: Vec<HashMap<&'static str, u64>>,
    asked: HashMap<u64, (usize, Asked)>,
    next_id: u64,
    answers: Answers,
}

impl Run {
    fn new(seed: u64) -> Self {
        let copies = (0..SERVERS).map(|_| Copy::default()).collect();
        let guesses = (0..SERVERS).map(|_| HashMap::new()).collect();
        Self { nodes: Nodes::new(seed), copies, guesses, asked: HashMap::new(), next_id: 10, answers: Answers::default() }
    }

    fn ask(&mut self, server: usize) {
        let chance = self.nodes.random.below(10);
        self.next_id += 1;
        let id = self.next_id;
        if chance < 2 {
            let path = self.nodes.random.pick(&SERIES);
            let value = format!("{id}").into_bytes();
            self.asked.insert(id, (server, Asked::Append { path, value: id }));
            let append = Append::Original { timestamp_ms: None };
            let ask = Ask::Append { path: path.into(), kind: ValueType::Json as u8, append, value: value.into() };
            return self.nodes.ask(server, Request { id, ask });
        }
        let path = self.nodes.random.pick(&COUNTERS);
        let held = self.copies[server].counters.get(path).map_or(0, |(_, number)| *number);
        let guess = self.guesses[server].entry(path).or_insert(held);
        let from = (*guess).max(held);
        *guess = from + 1;
        let is_there = self.answers.added.contains(path);
        self.asked.insert(id, (server, Asked::Count { path, from, is_there }));
        let constraint = format!(r#"{{"value":{{"is":{from}}}}}"#);
        let value = (from + 1).to_string();
        let update = Update { constraint: constraint.as_bytes().into(), ..Update::new(Verb::Set, ValueType::Json as u8, value.as_bytes()) };
        self.nodes.ask(server, Request { id, ask: Ask::Update { path: path.into(), update } });
    }

    /// Topics are there, or will be.
    fn add_all(&mut self, server: usize) {
        for path in COUNTERS {
            self.next_id += 1;
            self.asked.insert(self.next_id, (server, Asked::Add { path }));
            let update = Update { constraint: br#"{"no_topic":true}"#.into(), ..Update::new(Verb::AddAndSet, ValueType::Json as u8, b"0") };
            self.nodes.ask(server, Request { id: self.next_id, ask: Ask::Update { path: path.into(), update } });
        }
        for path in SERIES {
            self.next_id += 1;
            self.asked.insert(self.next_id, (server, Asked::Add { path }));
            let properties =
                vec![("TIME_SERIES_EVENT_VALUE_TYPE".into(), "json".into()), ("TIME_SERIES_RETAINED_RANGE".into(), "limit 5".into())];
            let update = Update { properties, ..Update::new(Verb::Add, 6, b"") };
            self.nodes.ask(server, Request { id: self.next_id, ask: Ask::Update { path: path.into(), update } });
        }
    }

    fn read(&mut self, server: usize) {
        let (writer, watcher) = (self.nodes.servers[server].writer, self.nodes.servers[server].watcher);
        let told = self.nodes.take(server, writer);
        for_each(&told, |heard| self.hear_answer(&heard));
        let told = self.nodes.take(server, watcher);
        let copy = &mut self.copies[server];
        for_each(&told, |heard| copy.hear(heard));
    }

    fn hear_answer(&mut self, heard: &Heard<'_>) {
        let (id, code, sequence) = match heard {
            // An appended event's answer begins with its sequence, a varint.
            Heard::Ok { id, body } => (*id, 0, varint(body)),
            Heard::Error { id, code, .. } => (*id, *code, 0),
            other => panic!("{other:?}"),
        };
        let (server, asked) = self.asked.remove(&id).expect("what was asked is answered once");
        match (asked, code) {
            (Asked::Count { path, from, .. }, 0) => assert!(self.answers.counted.insert((path, from)), "{path} went on from {from} twice"),
            (Asked::Append { path, value }, 0) => assert!(self.answers.appended.insert((path, sequence), value).is_none()),
            (Asked::Count { path, is_there, .. }, code) => {
                self.guesses[server].remove(path);
                // Who led before does not know what there is now, and says nothing of it.
                assert!(code != NO_SUCH_TOPIC || !is_there, "{path} was there");
            }
            (Asked::Add { path }, 0) => _ = self.answers.added.insert(path),
            _ => {}
        }
        // There may be no topic yet, or no longer the value that was guessed.
        assert!([0, NO_SUCH_TOPIC, UNSATISFIED, NO_QUORUM, UPDATE_UNKNOWN].contains(&code), "{code}");
    }

    fn check_end(mut self) {
        self.nodes.heal();
        (0..SERVERS).for_each(|server| self.read(server));
        assert!(self.asked.is_empty(), "what was asked is answered in the end");
        assert_eq!(self.nodes.topics_ahead(), 0);
        let [first, others @ ..] = &self.copies[..] else { unreachable!() };
        for other in others {
            assert_eq!(first.counters, other.counters);
            assert_eq!(first.events, other.events);
        }
        for (path, from) in &self.answers.counted {
            assert!(first.counters[*path].1 > *from, "{path} has gone on from {from}, and is {}", first.counters[*path].1);
        }
        for ((path, sequence), value) in &self.answers.appended {
            let found = first.events[*path].iter().find(|(number, _)| number == sequence);
            assert_eq!(found.map(|(_, value)| &value[..]), Some(value.to_string().as_bytes()), "{path} at {sequence}");
        }
    }
}

impl Copy {
    fn hear(&mut self, heard: Heard<'_>) {
        match heard {
            Heard::Ok { .. } => {}
            Heard::Subscribed { topic, path, .. } => {
                assert!(self.paths.insert(topic, path.to_owned()).is_none(), "{path} is there once");
                if SERIES.contains(&path) {
                    self.events.insert(path.to_owned(), Vec::new());
                }
            }
            Heard::Value { topic, value } => {
                let number = std::str::from_utf8(value).expect("a number").parse().expect("a number");
                let before = self.counters.insert(self.paths[&topic].clone(), (topic, number));
                assert!(before.is_none_or(|(held, before)| held == topic && before < number), "{before:?} before {number}");
            }
            Heard::Event { topic, head, value } => {
                let events = self.events.get_mut(&self.paths[&topic]).expect("it is a series");
                assert_eq!(head.sequence, events.len() as u64, "events come in order without a gap");
                events.push((head.sequence, value.to_vec()));
            }
            other => panic!("{other:?}"),
        }
    }
}

fn varint(bytes: &[u8]) -> u64 {
    let length = bytes.iter().position(|byte| byte & 0x80 == 0).map_or(0, |last| last + 1);
    bytes[..length].iter().rev().fold(0, |number, byte| number << 7 | u64::from(byte & 0x7f))
}

fn for_each(told: &[u8], mut each: impl FnMut(Heard<'_>)) {
    let mut rest = told;
    while let Some(frame) = native::next_frame(&mut rest).expect("frames are whole") {
        each(native::decode_event(frame).expect("frames have their form"));
    }
}

fn run(seed: u64, steps: usize) -> usize {
    let mut run = Run::new(seed);
    for _ in 0..steps {
        let server = run.nodes.random.below(SERVERS);
        match run.nodes.random.below(10) {
            0 if (0..GROUPS).any(|group| run.nodes.leads(server, group)) => run.add_all(server),
            1..4 if (0..GROUPS).any(|group| run.nodes.leads(server, group)) => run.ask(server),
            4 => run.read(server),
            _ => run.nodes.step(),
        }
    }
    let done = run.answers.counted.len() + run.answers.appended.len();
    run.check_end();
    done
}

#[test]
fn topics_of_several_servers_are_the_same_at_each_and_what_is_acknowledged_is_done_once() {
    let done = std::cell::Cell::new(0);
    let runs = std::cell::Cell::new(0);
    crate::for_each_seed(|seed| {
        done.set(done.get() + run(seed, 2000));
        runs.set(runs.get() + 1);
    });
    assert!(done.get() > 10 * runs.get(), "updates are acknowledged on the way: {} in {} runs", done.get(), runs.get());
}

#[test]
fn who_led_before_says_nothing_of_what_there_is_now() {
    let mut run = Run::new(1);
    run.nodes.elect_everywhere(0);
    run.nodes.settle(0);
    run.nodes.elect_everywhere(1);
    run.nodes.settle(1);
    run.add_all(1);
    run.nodes.settle(1);
    run.read(1);
    assert_eq!(run.answers.added.len(), COUNTERS.len() + SERIES.len(), "they are acknowledged");
    // The first server knows of none of this.
    (0..50).for_each(|_| run.ask(0));
    run.read(0);
    assert_eq!(run.asked.len(), 50, "nothing is said");
    run.check_end();
}
