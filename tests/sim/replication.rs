//! Topics that several servers hold as one are the same at each, no subscriber sees one go back, and what was acknowledged was done once.

use crate::nodes::{Nodes, SERVERS};
use std::collections::{BTreeMap, HashMap, HashSet};
use tidewire::surface::base::TopicId;
use tidewire::surface::value::ValueType;
use tidewire::surface::value::delta::{Encoder, Form};
use tidewire::surface::wire::native::{self, Append, Ask, Fetch, Heard, Query, Request, Update, Verb, op};

const COUNTERS: [&str; 5] = ["a", "b/1", "b/2", "c/d/e", "f"];
const SERIES: [&str; 2] = ["s/1", "s/2"];
const STREAMED: [&str; 2] = ["t/1", "t/2"];
/// Where topics are added and removed.
const SHORT: &str = "r/";
const NO_QUORUM: u16 = 420;
const UPDATE_UNKNOWN: u16 = 421;
const UNSATISFIED: u16 = 212;
const NO_SUCH_TOPIC: u16 = 202;
const INVALID_VALUE: u16 = 205;
const INVALID_STREAM: u16 = 220;
const OVERLOADED: u16 = 400;

/// What a server's watcher holds, by path.
#[derive(Default)]
struct Copy {
    paths: HashMap<TopicId, String>,
    counters: BTreeMap<String, (TopicId, u64)>,
    events: BTreeMap<String, Vec<(u64, Vec<u8>)>>,
    texts: BTreeMap<String, Vec<u8>>,
}

/// A stream of a writer, which does not wait for answers.
struct Stream {
    number: u64,
    path: &'static str,
    last: Vec<u8>,
}

/// A text that nobody else has made, and that says of itself whether it is whole.
fn text(number: u64) -> Vec<u8> {
    format!("{number} {}", number.to_string().repeat(1 + number as usize % 9)).into_bytes()
}

fn is_whole(text_of: &[u8]) -> bool {
    let number = std::str::from_utf8(text_of).ok().and_then(|text| text.split(' ').next()?.parse().ok());
    number.is_some_and(|number| text(number) == text_of)
}

/// What was asked and is not answered.
enum Asked {
    /// A topic that is there for a while only.
    Short {
        path: String,
    },
    /// The end of all such topics of this server, of which these were acknowledged before.
    End {
        added: Vec<String>,
    },
    /// An operation of the stream of this number.
    Step {
        number: u64,
    },
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
    /// Values that were to be appended, and of which it was said that they were not.
    denied: Vec<(&'static str, u64)>,
    /// Updates of which it was said that nobody knows.
    unknown: usize,
    steps: usize,
    refused_full: usize,
    /// Topics that are there for a while, by who added them; those of which it was said that they have gone.
    short: HashMap<usize, Vec<String>>,
    gone: HashSet<String>,

    removals: usize,
}

struct Run {
    nodes: Nodes,
    copies: Vec<Copy>,
    /// Where the writer of each server takes the counters to be: it does not wait for answers.
    guesses: Vec<HashMap<&'static str, u64>>,
    asked: HashMap<u64, (usize, Asked)>,
    next_id: u64,
    streams: Vec<Option<Stream>>,
    answers: Answers,
}

impl Run {
    fn new(seed: u64) -> Self {
        Self::within(seed, 16 << 20)
    }

    fn within(seed: u64, proposed_bytes_max: usize) -> Self {
        let copies = (0..SERVERS).map(|_| Copy::default()).collect();
        let guesses = (0..SERVERS).map(|_| HashMap::new()).collect();
        Self {
            nodes: Nodes::new(seed, proposed_bytes_max),
            copies,
            guesses,
            asked: HashMap::new(),
            next_id: 10,
            streams: (0..SERVERS).map(|_| None).collect(),
            answers: Answers::default(),
        }
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
        if chance == 2 {
            if self.nodes.random.percent(30) {
                let added = self.answers.short.get(&server).cloned().unwrap_or_default();
                self.asked.insert(id, (server, Asked::End { added }));
                let selector = format!("?{SHORT}{server}/");
                return self.nodes.ask(server, Request { id, ask: Ask::Remove { selector: selector.into() } });
            }
            let path = format!("{SHORT}{server}/{id}");
            self.asked.insert(id, (server, Asked::Short { path: path.clone() }));
            let mut update = Update::new(Verb::Add, ValueType::Json as u8, b"");
            if self.nodes.random.percent(50) {
                update.properties = vec![("REMOVAL".into(), "when no updates for 1s".into())];
            }
            return self.nodes.ask(server, Request { id, ask: Ask::Update { path: path.into(), update } });
        }
        if chance < 4 {
            return self.step(server, id);
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

    /// The writer's stream goes on, by a delta, or another begins.
    fn step(&mut self, server: usize, id: u64) {
        let (open, random) = (&mut self.streams[server], &mut self.nodes.random);
        let value = text(id);
        let ask = match open {
            Some(stream) if random.percent(90) => {
                let mut delta = Vec::new();
                let form = Encoder::new().encode(&stream.last, &value, &mut delta).filter(|_| random.percent(70));
                stream.last.clone_from(&value);
                self.asked.insert(id, (server, Asked::Step { number: stream.number }));
                match form {
                    None => Ask::StreamSet { stream: stream.number, value: value.into() },
                    Some(form) => {
                        let form = if form == Form::Deflate { op::DELTA_DEFLATE } else { op::DELTA_COPY };
                        Ask::StreamDelta { stream: stream.number, form, delta: delta.into() }
                    }
                }
            }
            _ => {
                let path = random.pick(&STREAMED);
                let closed = open.replace(Stream { number: id, path, last: value.clone() });
                self.asked.insert(id, (server, Asked::Step { number: id }));
                if let Some(closed) = closed {
                    self.nodes.ask(server, Request { id: 0, ask: Ask::StreamClose { stream: closed.number } });
                }
                let path = self.streams[server].as_ref().expect("it was just opened").path;
                let update = Update::new(Verb::AddAndSet, ValueType::String as u8, &value);
                let update = Update { value: value.as_slice().into(), ..update };
                return self.nodes.ask(server, Request { id, ask: Ask::StreamOpen { stream: id, path: path.into(), update } });
            }
        };
        self.nodes.ask(server, Request { id, ask });
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
        // The end of a stream, which nobody waits for.
        if id == 0 {
            return;
        }
        let (server, asked) = self.asked.remove(&id).expect("what was asked is answered once");
        self.answers.refused_full += usize::from(code == OVERLOADED);
        if code == UPDATE_UNKNOWN && !matches!(asked, Asked::End { .. }) {
            assert!(!self.nodes.is_patient, "what became of it is found out");
            self.answers.unknown += 1;
        }
        match (asked, code) {
            (Asked::Count { path, from, .. }, 0) => assert!(self.answers.counted.insert((path, from)), "{path} went on from {from} twice"),
            // Some have gone, and others have not.
            (Asked::End { .. }, UPDATE_UNKNOWN) => {}
            (Asked::Append { path, value }, 0) => assert!(self.answers.appended.insert((path, sequence), value).is_none()),
            (Asked::Short { path }, 0) => self.answers.short.entry(server).or_default().push(path),
            (Asked::End { added }, 0) => {
                self.answers.removals += 1;
                self.answers.gone.extend(added);
            }
            (Asked::Append { .. }, UPDATE_UNKNOWN) => {}
            (Asked::Append { path, value }, _) => self.answers.denied.push((path, value)),
            (Asked::Step { .. }, 0) => self.answers.steps += 1,
            (Asked::Step { number }, _) => _ = self.streams[server].take_if(|stream| stream.number == number),
            (Asked::Count { path, is_there, .. }, code) => {
                self.guesses[server].remove(path);
                // Who led before does not know what there is now, and says nothing of it.
                assert!(code != NO_SUCH_TOPIC || !is_there, "{path} was there");
            }
            (Asked::Add { path }, 0) => _ = self.answers.added.insert(path),
            _ => {}
        }
        // There may be no topic yet, or no longer the value that was guessed.
        let expected = [0, NO_SUCH_TOPIC, UNSATISFIED, NO_QUORUM, UPDATE_UNKNOWN, INVALID_STREAM, INVALID_VALUE, OVERLOADED];
        assert!(expected.contains(&code), "{code}");
    }

    /// All that a server shows of its topics, as the bytes that say it.
    fn dump(&mut self, server: usize) -> Vec<u8> {
        let fetch = Fetch { selector: "?.*//".into(), with_values: true, with_properties: true, with_sizes: true, ..Fetch::default() };
        self.nodes.ask(server, Request { id: 1, ask: Ask::Fetch { fetch: Box::new(fetch) } });
        for path in SERIES {
            self.nodes.ask(server, Request { id: 2, ask: Ask::Query { path: path.into(), query: Query::default() } });
        }
        self.nodes.take(server, self.nodes.servers[server].writer)
    }

    fn check_end(mut self) {
        self.nodes.heal();
        (0..SERVERS).for_each(|server| self.read(server));
        assert!(self.asked.is_empty(), "what was asked is answered in the end");
        assert_eq!(self.nodes.topics_ahead(), 0);
        let dumps: Vec<_> = (0..SERVERS).map(|server| self.dump(server)).collect();
        assert!(dumps.iter().all(|dump| *dump == dumps[0]), "the same topics");
        let [first, others @ ..] = &self.copies[..] else { unreachable!() };
        for other in others {
            assert_eq!(first.counters, other.counters);
            assert_eq!(first.events, other.events);
            assert_eq!(first.texts, other.texts);
        }
        for path in first.paths.values() {
            assert!(!self.answers.gone.contains(path), "{path} was removed");
        }
        for (path, value) in &self.answers.denied {
            let value = value.to_string();
            assert!(
                first.events.get(*path).is_none_or(|events| events.iter().all(|(_, held)| held != value.as_bytes())),
                "{path}: {value}"
            );
        }
        for (path, events) in &first.events {
            let values: HashSet<_> = events.iter().map(|(_, value)| value).collect();
            assert_eq!(values.len(), events.len(), "{path}: nothing is appended twice");
        }
        if self.answers.unknown == 0 {
            self.check_known();
        }
        let [first, ..] = &self.copies[..] else { unreachable!() };
        for (path, from) in &self.answers.counted {
            assert!(first.counters[*path].1 > *from, "{path} has gone on from {from}, and is {}", first.counters[*path].1);
        }
        for ((path, sequence), value) in &self.answers.appended {
            let found = first.events[*path].iter().find(|(number, _)| number == sequence);
            assert_eq!(found.map(|(_, value)| &value[..]), Some(value.to_string().as_bytes()), "{path} at {sequence}");
        }
    }
}

impl Run {
    /// All was answered by what became of it: what has happened was acknowledged.
    fn check_known(&self) {
        let first = &self.copies[0];
        for path in COUNTERS {
            let count = first.counters.get(path).map_or(0, |(_, count)| *count);
            (0..count).for_each(|from| assert!(self.answers.counted.contains(&(path, from)), "{path} has gone on from {from}"));
        }
        for path in SERIES {
            for (sequence, value) in first.events.get(path).into_iter().flatten() {
                let appended = self.answers.appended.get(&(path, *sequence));
                assert_eq!(appended.map(|value| value.to_string().into_bytes()).as_ref(), Some(value), "{path} at {sequence}");
            }
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
            Heard::Value { topic, value } if STREAMED.contains(&&*self.paths[&topic]) => {
                assert!(is_whole(value), "{}", String::from_utf8_lossy(value));
                self.texts.insert(self.paths[&topic].clone(), value.to_vec());
            }
            Heard::Value { topic, value } => {
                let number = std::str::from_utf8(value).expect("a number").parse().expect("a number");
                let before = self.counters.insert(self.paths[&topic].clone(), (topic, number));
                assert!(before.is_none_or(|(held, before)| held == topic && before < number), "{before:?} before {number}");
            }
            Heard::Unsubscribed { topic, .. } => {
                let path = self.paths.remove(&topic).expect("it was there");
                assert!(path.starts_with(SHORT), "{path} is never removed");
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

/// So many are asked for at a time: what a leader has put to a log is known after it where it is no more than those that are noted.
const OPEN_MAX: usize = 400;

/// Gives what was acknowledged before all healed: counted, appended, streamed, and ten for each removal.
fn run(seed: u64, steps: usize) -> [usize; 4] {
    let mut run = Run::new(seed);
    for _ in 0..steps {
        let server = run.nodes.random.below(SERVERS);
        match run.nodes.random.below(10) {
            0..4 if run.asked.len() > OPEN_MAX => run.nodes.step(),
            0 => run.add_all(server),
            1..4 => run.ask(server),
            4 => run.read(server),
            _ => run.nodes.step(),
        }
    }
    let Answers { counted, appended, steps, removals, .. } = &run.answers;
    let done = [counted.len(), appended.len(), *steps, 10 * removals];
    run.check_end();
    done
}

#[test]
fn topics_of_several_servers_are_the_same_at_each_and_what_is_acknowledged_is_done_once() {
    let (done, runs) = (std::cell::Cell::new([0; 4]), std::cell::Cell::new(0));
    crate::for_each_seed(|seed| {
        let (before, more) = (done.get(), run(seed, 4000));
        done.set([0, 1, 2, 3].map(|kind| before[kind] + more[kind]));
        runs.set(runs.get() + 1);
    });
    // Not by each seed, but by most.
    assert!(
        done.get().iter().all(|done| *done > 5 * runs.get()),
        "of each some is acknowledged on the way: {:?} in {} runs",
        done.get(),
        runs.get()
    );
}

#[test]
fn who_leads_removes_what_its_policy_says() {
    let mut run = Run::new(1);
    run.nodes.elect_everywhere(0);
    (0..SERVERS).for_each(|server| run.nodes.settle(server));
    for number in 0..10 {
        let properties = vec![("REMOVAL".into(), "when no updates for 1s".into())];
        let update = Update { properties, ..Update::new(Verb::Add, ValueType::Json as u8, b"") };
        run.nodes.ask(0, Request { id: 0, ask: Ask::Update { path: format!("{SHORT}{number}").into(), update } });
    }
    run.nodes.settle(0);
    run.nodes.settle(1);
    run.read(1);
    assert_eq!(run.copies[1].paths.len(), 10);
    run.nodes.pass(1, 5000);
    run.nodes.settle(1);
    run.read(1);
    assert_eq!(run.copies[1].paths.len(), 10, "a server that does not lead leaves them");
    run.nodes.pass(0, 5000);
    run.nodes.settle(0);
    run.nodes.settle(1);
    run.read(1);
    assert_eq!(run.copies[1].paths.len(), 0);
    run.check_end();
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

#[test]
fn a_stream_ends_with_what_it_has_lost() {
    crate::for_each_seed(|seed| {
        let mut run = Run::new(seed);
        run.nodes.elect_everywhere(0);
        run.nodes.settle(0);
        let step = |run: &mut Run| {
            run.next_id += 1;
            run.step(0, run.next_id);
        };
        step(&mut run);
        run.nodes.settle(0);
        run.read(0);
        let stream = run.streams[0].as_ref().expect("it is open").number;
        // This one is lost, as another leads, who is the same. The client knows nothing of that, and goes on.
        step(&mut run);
        run.nodes.elect_everywhere(0);
        run.nodes.settle(0);
        step(&mut run);
        run.nodes.settle(0);
        let is_the_same = run.streams[0].as_ref().is_some_and(|open| open.number == stream);
        run.read(0);
        assert!(!is_the_same || run.answers.steps == 1, "what follows is not made of what was lost");
        run.check_end();
    });
}

#[test]
fn what_is_on_its_way_is_bounded() {
    let mut run = Run::within(1, 2000);
    run.nodes.elect_everywhere(0);
    run.nodes.settle(0);
    run.add_all(0);
    run.read(0);
    assert_eq!(run.answers.refused_full, 0);
    (0..100).for_each(|_| run.ask(0));
    run.read(0);
    let refused = run.answers.refused_full;
    assert!(refused > 0, "what is too much is refused at once");
    run.nodes.settle(0);
    (0..5).for_each(|_| run.ask(0));
    run.nodes.settle(0);
    run.read(0);
    assert_eq!(run.answers.refused_full, refused, "there is room again");
    run.check_end();
}

#[test]
fn a_removal_of_many_goes_on_as_there_is_room() {
    let mut run = Run::within(1, 2000);
    run.nodes.elect_everywhere(0);
    run.nodes.settle(0);
    for number in 0..3000u64 {
        let update = Update::new(Verb::Add, ValueType::Json as u8, b"");
        let path = format!("many/{number}");
        run.nodes.ask(0, Request { id: 0, ask: Ask::Update { path: path.into(), update } });
        if number % 20 == 0 {
            run.nodes.settle(0);
        }
    }
    run.nodes.settle(0);
    run.asked.insert(1, (0, Asked::End { added: Vec::new() }));
    run.nodes.ask(0, Request { id: 1, ask: Ask::Remove { selector: "?many/".into() } });
    let mut turns = 0;
    while run.asked.contains_key(&1) {
        run.nodes.settle(0);
        let writer = run.nodes.servers[0].writer;
        let told = run.nodes.take(0, writer);
        for_each(&told, |heard| run.hear_answer(&heard));
        turns += 1;
        assert!(turns < 100, "it comes to its end");
    }
    assert!(turns > 1, "it waits for what is on its way");
    let writer = run.nodes.servers[0].writer;
    let fetch = Fetch { selector: "?many/".into(), ..Fetch::default() };
    run.nodes.ask(0, Request { id: 2, ask: Ask::Fetch { fetch: Box::new(fetch) } });
    let told = run.nodes.take(0, writer);
    assert!(!told.windows(5).any(|bytes| bytes == b"many/"), "none is left");
}
