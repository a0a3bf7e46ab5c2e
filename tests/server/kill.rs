//! Nothing that was acknowledged is lost when the server is killed, again and again, at any moment, and started with other shards.
//!
//! `TIDEWIRE_KILL_ROUNDS` sets the number of rounds, `TIDEWIRE_KILL_SEED` the seed, which is printed.

mod model;
mod writer;

use crate::client::Session;
use crate::random::Random;
use crate::requests::range;
use crate::server::{Directory, Server, start_and_kill};
use model::{Found, Shown, Topic};
use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tidewire::surface::topic::specification::TopicType;
use tidewire::surface::wire::native::{Entry, EventEntry, Query};
use writer::{Writer, number_of};

const ROUNDS: u64 = 20;
const WRITERS: usize = 3;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

#[test]
fn what_was_acknowledged_survives_every_kill() {
    let rounds = setting("TIDEWIRE_KILL_ROUNDS").unwrap_or(ROUNDS);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is behind 1970").as_nanos() as u64;
    let seed = setting("TIDEWIRE_KILL_SEED").unwrap_or(now);
    println!("TIDEWIRE_KILL_SEED={seed}");
    let mut random = Random::new(seed);
    let directory = Directory::new("kill");
    let mut writers: Vec<Writer> = (0..WRITERS).map(|index| Writer::new(index, seed)).collect();
    for round in 0..rounds {
        if random.percent(25) {
            // Nobody is there yet: it ends while it opens the store.
            start_and_kill(&variables(&directory, &mut random), Duration::from_millis(random.below(120)));
        }
        writers = run(&directory, &mut random, writers);
        let server = Server::start_with(1 + random.below(3) as usize, &borrowed(&variables(&directory, &mut random)));
        check(&server, &mut writers, round);
    }
    let acknowledged: u64 = writers.iter().map(|writer| writer.acknowledged).sum();
    println!("{rounds} rounds, {acknowledged} updates acknowledged");
    assert!(acknowledged > rounds * 10, "the writers wrote hardly anything");
}

fn variables(directory: &Directory, random: &mut Random) -> Vec<(&'static str, String)> {
    // Small segments and ages, so that a kill also comes while segments are folded.
    vec![
        ("STORAGE_DIRECTORY", directory.path.display().to_string()),
        ("STORAGE_ACK", if random.percent(20) { "durable" } else { "written" }.to_owned()),
        ("STORAGE_SEGMENT_BYTES", "1048576".to_owned()),
        ("STORAGE_SEGMENT_AGE_MS", "1000".to_owned()),
    ]
}

fn borrowed<'a>(variables: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    variables.iter().map(|(name, value)| (*name, &**value)).collect()
}

/// One run of the server, which ends at a random moment: mostly by SIGKILL, at times by SIGTERM.
fn run(directory: &Directory, random: &mut Random, writers: Vec<Writer>) -> Vec<Writer> {
    let mut server = Server::start_with(1 + random.below(3) as usize, &borrowed(&variables(directory, random)));
    server.connect().add_with("not/stored", TopicType::Json, &[("PERSISTENT", "false")]).expect("it is no topic yet");
    let address = server.address;
    let start = |mut writer: Writer| {
        std::thread::spawn(move || {
            writer.run(address);
            writer
        })
    };
    let threads: Vec<_> = writers.into_iter().map(start).collect();
    std::thread::sleep(Duration::from_millis(random.below(700)));
    if random.percent(85) {
        server.kill();
    }
    drop(server);
    threads.into_iter().map(|thread| thread.join().expect("the writer saw what it expects")).collect()
}

/// Every topic is as its writer may expect it, and there is no other.
fn check(server: &Server, writers: &mut [Writer], round: u64) {
    let mut session = server.connect();
    let entries: HashMap<String, Entry> = session.fetch_all("*.*").into_iter().map(|entry| (entry.path.clone(), entry)).collect();
    let known = |path: &str| writers.iter().any(|writer| writer.paths().contains(path));
    let unknown: Vec<&String> = entries.keys().filter(|path| !known(path)).collect();
    assert!(unknown.is_empty(), "round {round}: nobody made {unknown:?}");
    for topic in writers.iter_mut().flat_map(|writer| &mut writer.topics) {
        let found = find(&mut session, topic, entries.get(&topic.path));
        topic.reconcile(&found).unwrap_or_else(|complaint| panic!("round {round}: {complaint}"));
    }
}

fn find(session: &mut Session, topic: &Topic, entry: Option<&Entry>) -> Found {
    let mut found = Found { is_there: entry.is_some(), value: None, values: Vec::new(), all_edits: Vec::new() };
    match topic.kind {
        TopicType::TimeSeries if found.is_there => {
            found.values = query(session, &topic.path, 0);
            found.all_edits = query(session, &topic.path, 2);
        }
        TopicType::TimeSeries => {}
        _ => found.value = entry.and_then(|entry| entry.value.as_deref()).map(number_of),
    }
    found
}

/// All events of a view, in pages that fit messages, in the order that the server gives them.
fn query(session: &mut Session, path: &str, kind: u8) -> Vec<Shown> {
    let shown = |event: EventEntry| (event.sequence, event.original, number_of(&event.value));
    let (is_complete, events) = session.query(path, Query { kind, ..Query::default() }).expect("it is a time series");
    if is_complete {
        return events.into_iter().map(shown).collect();
    }
    // By the sequences of the originals, which both views are about.
    let (mut all, mut from) = (Vec::new(), 0);
    let (_, latest) = session.query(path, Query { kind: 0, limit: 1, ..Query::default() }).expect("it is a time series");
    let end = latest.first().map_or(0, |event| event.sequence) + 1;
    while from < end {
        let range = range((1, from), (1, from + 49));
        let (is_complete, events) = session.query(path, Query { kind, range, ..Query::default() }).expect("it is a time series");
        assert!(is_complete, "fifty events fit a message");
        all.extend(events.into_iter().map(shown));
        from += 50;
    }
    if kind == 2 {
        all.sort_unstable();
    }
    all
}
