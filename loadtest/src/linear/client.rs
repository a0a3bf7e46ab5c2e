//! Clients that change topics and note all that they ask for and are answered, and subscribers that note what they are shown.
//!
//! A client has one message under way at a time. Where its connection breaks, or it is not answered in time, nobody knows what became of what it had asked for, and it
//! goes on as another session, at the same server or at another.

use super::choice::{Kind, Random, Topic, Turn, draw, draw_topic};
use super::history::{Deed, EventSightings, Operation, Outcome, Sightings, Test, Value, name};
use super::link::{Failure, Link, Told, page, text};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::{Append, Ask, Fetch, Request, Update, Verb};
use tidewire::surface::wire::varint::Reader;

/// No server takes as long to say what became of an update, unless it is stopped.
const ANSWER: Duration = Duration::from_secs(8);
/// How long a client waits before it tries another connection.
const AGAIN: Duration = Duration::from_millis(100);
/// So many messages a client sends by one session, on the average.
const STAY: u64 = 300;
const JSON: u8 = ValueType::Json as u8;
const SERIES: u8 = 6;

/// What all clients of a round have to do with.
pub struct Round {
    pub servers: Vec<SocketAddr>,
    pub topics: Vec<Topic>,
    pub seed: u64,
    pub number: u64,
    pub began: Instant,
    /// At most, between two messages of a client.
    pub pause_us: u64,
    /// Clients end.
    pub is_over: AtomicBool,
    /// Subscribers end.
    pub is_seen: AtomicBool,
}

impl Round {
    pub fn now_us(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }
}

/// What a client has noted; topics are named by their number.
#[derive(Default)]
pub struct Noted {
    pub operations: Vec<(usize, Operation)>,
    pub sightings: Vec<(usize, Sightings)>,
}

pub struct Client<'a> {
    round: &'a Round,
    number: usize,
    random: Random,
    server: usize,
    session: usize,
    written: u64,
    known: Vec<Option<Value>>,
    noted: Noted,
    /// What the session that goes on was shown of each topic.
    shown: HashMap<usize, Sightings>,
}

impl<'a> Client<'a> {
    pub fn new(round: &'a Round, number: usize, initial: &[Option<Value>]) -> Self {
        let random = Random::new(round.seed.wrapping_mul(1000) + number as u64);
        let (server, known) = (number % round.servers.len(), initial.to_vec());
        Self { round, number, random, server, session: 0, written: 0, known, noted: Noted::default(), shown: HashMap::new() }
    }

    /// Until the round is over.
    pub fn run(mut self) -> Noted {
        while !self.round.is_over.load(Ordering::Relaxed) {
            if let Ok(mut link) = Link::connect(self.round.servers[self.server]) {
                // Now and then somebody leaves though nothing is wrong, so that all servers have clients again.
                while !self.round.is_over.load(Ordering::Relaxed) && self.random.below(STAY) > 0 && self.turn(&mut link).is_ok() {
                    std::thread::sleep(Duration::from_micros(self.random.below(self.round.pause_us)));
                }
            }
            self.next_session();
            std::thread::sleep(AGAIN);
        }
        self.noted
    }

    /// Makes the topics of the round that are not there, at one server; errors are tried again until then.
    pub fn prepare(mut self, until: Instant) -> Result<Noted, Failure> {
        for number in 0..self.round.topics.len() {
            while !self.is_prepared(number) {
                if Instant::now() > until {
                    return Err("topics cannot be made: no update is taken".into());
                }
                self.next_session();
                std::thread::sleep(AGAIN);
            }
        }
        self.next_session();
        Ok(self.noted)
    }

    fn is_prepared(&mut self, number: usize) -> bool {
        let Ok(mut link) = Link::connect(self.round.servers[self.server]) else { return false };
        let topic = &self.round.topics[number];
        let name = self.name();
        let deed = match topic.kind {
            Kind::Series => {
                let range = ("TIME_SERIES_RETAINED_RANGE".into(), "limit 100000".into());
                let properties = vec![("TIME_SERIES_EVENT_VALUE_TYPE".into(), "json".into()), range];
                let update = Update { properties, ..Update::new(Verb::Add, SERIES, &[][..]) };
                let asked = link.ask(Ask::Update { path: (&*topic.path).into(), update }, Instant::now() + ANSWER);
                return matches!(asked, Ok(Ok(_)));
            }
            _ if self.known[number].is_some() => return true,
            Kind::Counter => Deed::Put(super::register::counter(0, &name)),
            Kind::Register | Kind::Transient => Deed::Put(format!("\"{name}\"").into()),
        };
        let asked = self.change(&mut link, number, vec![deed]);
        asked.is_ok() && matches!(self.noted.operations.last(), Some((_, operation)) if operation.outcome == Outcome::Made(None))
    }

    fn name(&mut self) -> String {
        self.written += 1;
        name(self.round.number, self.number, self.written)
    }

    fn next_session(&mut self) {
        self.session += 1;
        self.noted.sightings.extend(self.shown.drain());
        if self.random.below(2) == 0 {
            self.server = self.random.below(self.round.servers.len() as u64) as usize;
        }
    }

    fn turn(&mut self, link: &mut Link) -> Result<(), Failure> {
        let round = self.round;
        let number = draw_topic(&mut self.random, round.seed, round.now_us(), round.topics.len());
        let (client, mut written) = (self.number, self.written);
        let make = || {
            written += 1;
            name(round.number, client, written)
        };
        let turn = draw(&mut self.random, round.topics[number].kind, self.known[number].as_ref(), make);
        self.written = written;
        match turn {
            Turn::Look => self.look(link, number),
            Turn::Change(deeds) => self.change(link, number, deeds),
        }
    }

    /// What the client's own server shows.
    fn look(&mut self, link: &mut Link, number: usize) -> Result<(), Failure> {
        let path = &self.round.topics[number].path;
        let fetch = Fetch { selector: (&**path).into(), with_values: true, ..Fetch::default() };
        let Ok(body) = link.ask(Ask::Fetch { fetch: Box::new(fetch) }, Instant::now() + ANSWER)? else { return Ok(()) };
        let (entries, _) = page(&body)?;
        let value = entries.first().and_then(|entry| entry.value.as_deref()).map(text).transpose()?;
        self.show(number, value);
        Ok(())
    }

    fn show(&mut self, number: usize, value: Option<Value>) {
        let by = || format!("client {} session {} at server {}", self.number, self.session, self.server);
        let sightings = self.shown.entry(number).or_insert_with(|| Sightings { by: by(), shown: Vec::new() });
        sightings.shown.push((self.round.now_us(), value.clone()));
        self.known[number] = value;
    }

    /// Asks for changes of one topic in one message, and notes what becomes of each.
    fn change(&mut self, link: &mut Link, number: usize, deeds: Vec<Deed>) -> Result<(), Failure> {
        const FIRST: u64 = 10;
        let path = &*self.round.topics[number].path;
        let asks = deeds.iter().zip(FIRST..);
        let requests: Vec<Request<'_>> = asks.map(|(deed, id)| Request { id, ask: ask_of(path, deed) }).collect();
        let invoked_us = self.round.now_us();
        let mut left = requests.len();
        let mut answers = vec![(u64::MAX, Outcome::Unknown(None)); left];
        let mut ended = link.say(&requests);
        let until = Instant::now() + ANSWER;
        while left > 0 && ended.is_ok() {
            let (id, outcome) = match link.hear(until) {
                Ok(Some(Told::Ok(id, body))) => {
                    (id, id.checked_sub(FIRST).and_then(|at| deeds.get(at as usize)).map(|deed| outcome_of(deed, &body)))
                }
                Ok(Some(Told::Error(id, code))) => (id, Some(Outcome::of_error(code))),
                Ok(Some(_)) => continue,
                Ok(None) => {
                    ended = Err("no answer in time".into());
                    continue;
                }
                Err(error) => {
                    ended = Err(error);
                    continue;
                }
            };
            if let (Some(at), Some(outcome)) = (id.checked_sub(FIRST), outcome)
                && let Some(answer) = answers.get_mut(at as usize)
            {
                *answer = (self.round.now_us(), outcome);
                left -= 1;
            }
        }
        drop(requests);
        let (client, session, server) = (self.number, self.session, self.server);
        for (deed, (completed_us, outcome)) in deeds.into_iter().zip(answers) {
            let made = matches!(outcome, Outcome::Made(_)) && !matches!(deed, Deed::Append(_) | Deed::Remove);
            if made {
                self.show(number, deed.value().cloned());
            }
            let completed_us = if matches!(outcome, Outcome::Unknown(_)) { u64::MAX } else { completed_us };
            self.noted.operations.push((number, Operation { client, session, server, invoked_us, completed_us, deed, outcome }));
        }
        ended
    }
}

fn ask_of<'a>(path: &'a str, deed: &'a Deed) -> Ask<'a> {
    let update = |verb, value: &'a Value| Update::new(verb, JSON, value.as_bytes());
    let (update, constraint) = match deed {
        Deed::Put(value) => (update(Verb::AddAndSet, value), String::new()),
        Deed::Set(value) => (update(Verb::Set, value), String::new()),
        Deed::Replace(Test::Is(old), value) => (update(Verb::Set, value), format!("{{\"value\":{{\"is\":{old}}}}}")),
        Deed::Replace(Test::Counts(n), value) => (update(Verb::Set, value), format!("{{\"json\":[{{\"at\":\"/n\",\"eq\":{n}}}]}}")),
        Deed::Add(value) => (update(Verb::AddAndSet, value), "{\"no_topic\":true}".to_owned()),
        Deed::Remove => return Ask::Remove { selector: path.into() },
        Deed::Append(value) => {
            let append = Append::Original { timestamp_ms: None };
            return Ask::Append { path: path.into(), kind: JSON, append, value: value.as_bytes().into() };
        }
    };
    Ask::Update { path: path.into(), update: Update { constraint: constraint.into_bytes().into(), ..update } }
}

fn outcome_of(deed: &Deed, body: &[u8]) -> Outcome {
    let number = Reader(body).varint().ok();
    match (deed, number) {
        (Deed::Append(_), number) => Outcome::Made(number),
        (Deed::Remove, Some(0)) => Outcome::NotMet,
        _ => Outcome::Made(None),
    }
}

/// What one connection of a subscriber was shown.
#[derive(Default)]
pub struct Seen {
    pub values: HashMap<String, Sightings>,
    pub events: HashMap<String, EventSightings>,
}

/// Is subscribed at one server until the round is seen, and notes what each of its connections is shown.
pub fn subscribe(round: &Round, server: usize, selectors: &[String]) -> Vec<Seen> {
    let mut all = Vec::new();
    while !round.is_seen.load(Ordering::Relaxed) {
        let mut seen = Seen::default();
        let by = format!("subscriber at server {server}, connection {}", all.len());
        // That the connection ends is what happens.
        let _ = watch(round, server, selectors, &by, &mut seen);
        all.push(seen);
        std::thread::sleep(AGAIN);
    }
    all
}

fn watch(round: &Round, server: usize, selectors: &[String], by: &str, seen: &mut Seen) -> Result<(), Failure> {
    const LOOK: Duration = Duration::from_millis(100);
    let mut link = Link::connect(round.servers[server])?;
    for selector in selectors {
        link.say(&[Request { id: 3, ask: Ask::Subscribe { selector: (&**selector).into(), scope: "".into() } }])?;
    }
    while !round.is_seen.load(Ordering::Relaxed) {
        let told = link.hear(Instant::now() + LOOK)?;
        let now_us = round.now_us();
        let mut value_of = |path, value| {
            let sightings = seen.values.entry(path).or_insert_with(|| Sightings { by: by.to_owned(), shown: Vec::new() });
            sightings.shown.push((now_us, value));
        };
        match told {
            Some(Told::Value(path, value)) => value_of(path, Some(value)),
            Some(Told::Removed(path)) => value_of(path, None),
            Some(Told::Event(path, sequence, value)) => {
                let sightings = seen.events.entry(path).or_insert_with(|| EventSightings { by: by.to_owned(), shown: Vec::new() });
                sightings.shown.push((now_us, sequence, value));
            }
            Some(Told::Error(_, code)) => return Err(format!("a subscription is refused: {code}").into()),
            Some(Told::Welcome | Told::Ok(..)) | None => {}
        }
    }
    Ok(())
}
