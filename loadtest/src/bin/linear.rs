//! Load on the servers of a cluster whose whole history is checked: whether it can have happened one operation after another, per topic.
//!
//! Clients set, replace, count, add, remove and append; subscribers at each server note what they are shown. With `--wait` it says `loaded` on its standard output when
//! the clients have ended, and reads a line before it looks at the end: until then all servers should have come back. The last line is what it found, as JSON; a violated
//! history stands in a file each, and the exit code is 1.

use clap::Parser;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tidewire_loadtest::linear::choice::{Kind, topics};
use tidewire_loadtest::linear::client::{Client, Noted, Round, Seen, subscribe};
use tidewire_loadtest::linear::history::{Operation, Outcome, Value, Verdict};
use tidewire_loadtest::linear::link::{Failure, Link, text};
use tidewire_loadtest::linear::{register, series};

/// Changes topics at all servers, and checks what came of it.
#[derive(Parser)]
struct Flags {
    /// A server of the cluster; once for each.
    #[arg(long = "server", required = true)]
    servers: Vec<SocketAddr>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Which round of a cluster this is: its values and series have names of their own.
    #[arg(long, default_value_t = 1)]
    round: u64,
    #[arg(long, default_value_t = 48)]
    topics: usize,
    #[arg(long, default_value_t = 12)]
    clients: usize,
    /// Seconds.
    #[arg(long, default_value_t = 5)]
    duration: u64,
    /// Between two messages of a client, at most, in microseconds.
    #[arg(long, default_value_t = 12_000)]
    pause_us: u64,
    /// The branch that holds the topics.
    #[arg(long, default_value = "linear")]
    root: String,
    /// Where the values at the end are kept, which the next round begins with.
    #[arg(long)]
    state: Option<PathBuf>,
    /// Where violated histories are written.
    #[arg(long, default_value = ".")]
    out: PathBuf,
    /// Reads a line before it looks at the end.
    #[arg(long)]
    wait: bool,
    /// Seconds until all servers show the same at the end.
    #[arg(long, default_value_t = 60)]
    patience: u64,
}

/// What the servers have at the end: of each the topics' values, and each series' events.
struct End {
    values: BTreeMap<String, Value>,
    events: BTreeMap<String, Vec<(u64, Value)>>,
}

fn main() -> Result<ExitCode, Failure> {
    let flags = Flags::parse();
    let round = Round {
        servers: flags.servers.clone(),
        topics: topics(&flags.root, flags.round, flags.topics),
        seed: flags.seed,
        number: flags.round,
        began: Instant::now(),
        pause_us: flags.pause_us.max(1),
        is_over: AtomicBool::new(false),
        is_seen: AtomicBool::new(false),
    };
    let state = read_state(&flags)?;
    let initial: Vec<Option<Value>> = round.topics.iter().map(|topic| state.get(&topic.path).cloned()).collect();
    let patience = Duration::from_secs(flags.patience);
    let selectors = [format!("?{}/v/", flags.root), format!("?{}/s/{}/", flags.root, flags.round)];
    let (all, seen, loaded_us, ends) = std::thread::scope(|scope| {
        let subscribers: Vec<_> = (0..flags.servers.len())
            .map(|server| {
                scope.spawn({
                    let (round, selectors) = (&round, &selectors);
                    move || subscribe(round, server, selectors)
                })
            })
            .collect();
        let run = || -> Result<_, Failure> {
            let prepared = Client::new(&round, flags.clients, &initial).prepare(Instant::now() + patience)?;
            let from_us = round.now_us();
            let clients: Vec<_> = (0..flags.clients)
                .map(|number| {
                    scope.spawn({
                        let (round, initial) = (&round, &initial);
                        move || Client::new(round, number, initial).run()
                    })
                })
                .collect();
            std::thread::sleep(Duration::from_secs(flags.duration));
            let until_us = round.now_us();
            round.is_over.store(true, Ordering::Relaxed);
            let mut all = vec![prepared];
            for client in clients {
                all.push(client.join().map_err(|_| "a client's thread failed")?);
            }
            println!("loaded");
            if flags.wait {
                std::io::stdin().read_line(&mut String::new())?;
            }
            Ok((all, (from_us, until_us), ends(&flags, &round, patience)))
        };
        let ran = run();
        round.is_over.store(true, Ordering::Relaxed);
        round.is_seen.store(true, Ordering::Relaxed);
        let seen: Vec<Seen> =
            subscribers.into_iter().flat_map(|subscriber| subscriber.join().expect("a subscriber does not fail")).collect();
        ran.map(|(all, loaded_us, ends)| (all, seen, loaded_us, ends))
    })?;
    let mut figures = Figures::new(&all, loaded_us, flags.servers.len());
    figures.shown = shown(&all, &seen);
    let ends = ends?;
    write_state(&flags, &ends)?;
    let found = check(&round, &initial, all, seen, &ends);
    Ok(tell(&flags, &figures, found, round.topics.len()))
}

fn read_state(flags: &Flags) -> Result<BTreeMap<String, Value>, Failure> {
    let Some(path) = flags.state.as_ref().filter(|path| path.exists()) else { return Ok(BTreeMap::new()) };
    let texts: BTreeMap<String, String> = serde_json::from_slice(&std::fs::read(path)?)?;
    Ok(texts.into_iter().map(|(path, value)| (path, value.into())).collect())
}

fn write_state(flags: &Flags, ends: &[End]) -> Result<(), Failure> {
    if let (Some(path), Some(end)) = (&flags.state, ends.first()) {
        let texts: BTreeMap<&str, &str> = end.values.iter().map(|(path, value)| (&**path, &**value)).collect();
        std::fs::write(path, serde_json::to_string(&texts)?)?;
    }
    Ok(())
}

/// What each server has, once that is the same or patience has ended.
fn ends(flags: &Flags, round: &Round, patience: Duration) -> Result<Vec<End>, Failure> {
    let until = Instant::now() + patience;
    loop {
        let read: Result<Vec<End>, Failure> = flags.servers.iter().map(|server| read_end(*server, flags, round)).collect();
        let is_same = |ends: &[End]| ends.windows(2).all(|two| two[0].values == two[1].values && two[0].events == two[1].events);
        match read {
            Ok(ends) if is_same(&ends) || Instant::now() > until => return Ok(ends),
            Err(error) if Instant::now() > until => return Err(format!("a server cannot be read at the end: {error}").into()),
            _ => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}

fn read_end(server: SocketAddr, flags: &Flags, round: &Round) -> Result<End, Failure> {
    let until = Instant::now() + Duration::from_secs(10);
    let mut link = Link::connect(server)?;
    let mut end = End { values: BTreeMap::new(), events: BTreeMap::new() };
    for entry in link.fetch_all(&format!("?{}/v/", flags.root), until)? {
        end.values.insert(entry.path, text(&entry.value.ok_or("a topic without a value")?)?);
    }
    for topic in round.topics.iter().filter(|topic| topic.kind == Kind::Series) {
        let events = link.query_all(&topic.path, until)?;
        let events = events.into_iter().map(|event| Ok((event.sequence, text(&event.value)?)));
        end.events.insert(topic.path.clone(), events.collect::<Result<_, Failure>>()?);
    }
    Ok(end)
}

fn shown(all: &[Noted], seen: &[Seen]) -> usize {
    let looked = all.iter().flat_map(|noted| &noted.sightings).map(|(_, sightings)| sightings.shown.len());
    let values = seen.iter().flat_map(|seen| seen.values.values()).map(|sightings| sightings.shown.len());
    let events = seen.iter().flat_map(|seen| seen.events.values()).map(|sightings| sightings.shown.len());
    looked.chain(values).chain(events).sum()
}

/// Puts together what is known of each topic, and judges it.
fn check(round: &Round, initial: &[Option<Value>], all: Vec<Noted>, seen: Vec<Seen>, ends: &[End]) -> Vec<(String, Verdict)> {
    let mut registers: HashMap<&str, register::History> = HashMap::new();
    let mut events: HashMap<&str, series::History> = HashMap::new();
    for (topic, initial) in round.topics.iter().zip(initial) {
        let path = topic.path.clone();
        if topic.kind == Kind::Series {
            let ends = ends.iter().map(|end| end.events[&path].clone()).enumerate().collect();
            events.insert(&topic.path, series::History { path, ends, ..series::History::default() });
        } else {
            let ends = ends.iter().map(|end| end.values.get(&path).cloned()).enumerate().collect();
            registers.insert(
                &topic.path,
                register::History { path, round: round.number, initial: initial.clone(), ends, ..register::History::default() },
            );
        }
    }
    for noted in all {
        for (number, operation) in noted.operations {
            let path = &*round.topics[number].path;
            match registers.get_mut(path) {
                Some(history) => history.operations.push(operation),
                None => events.get_mut(path).expect("a topic is either").operations.push(operation),
            }
        }
        for (number, sightings) in noted.sightings {
            registers.get_mut(&*round.topics[number].path).expect("only values are looked at").sightings.push(sightings);
        }
    }
    for seen in seen {
        for (path, sightings) in seen.values {
            if let Some(history) = registers.get_mut(&*path) {
                history.sightings.push(sightings);
            }
        }
        for (path, sightings) in seen.events {
            if let Some(history) = events.get_mut(&*path) {
                history.sightings.push(sightings);
            }
        }
    }
    let values = registers.values().map(|history| (history.path.clone(), register::check(history)));
    values.chain(events.values().map(|history| (history.path.clone(), series::check(history)))).collect()
}

/// What the clients were answered.
#[derive(Default)]
struct Figures {
    made: u64,
    not_met: u64,
    refused: BTreeMap<u16, u64>,
    unknown: BTreeMap<u16, u64>,
    /// Values and events, to clients and subscribers.
    shown: usize,
    /// Longest without an update that was made, at any server and at each.
    gap_ms: u64,
    gaps_ms: Vec<u64>,
}

impl Figures {
    fn new(all: &[Noted], (from_us, until_us): (u64, u64), servers: usize) -> Self {
        let mut figures = Self::default();
        let operations: Vec<&Operation> = all.iter().flat_map(|noted| noted.operations.iter().map(|(_, operation)| operation)).collect();
        for operation in &operations {
            match operation.outcome {
                Outcome::Made(_) => figures.made += 1,
                Outcome::NotMet => figures.not_met += 1,
                Outcome::Refused(code) => *figures.refused.entry(code).or_default() += 1,
                Outcome::Unknown(code) => *figures.unknown.entry(code.unwrap_or_default()).or_default() += 1,
            }
        }
        let gap_ms = |at: Option<usize>| {
            let made = operations
                .iter()
                .filter(|operation| matches!(operation.outcome, Outcome::Made(_)) && at.is_none_or(|at| at == operation.server));
            let mut times: Vec<u64> = made.map(|operation| operation.completed_us).filter(|us| (from_us..until_us).contains(us)).collect();
            times.extend([from_us, until_us]);
            times.sort_unstable();
            times.windows(2).map(|two| two[1] - two[0]).max().unwrap_or_default() / 1000
        };
        figures.gap_ms = gap_ms(None);
        figures.gaps_ms = (0..servers).map(|server| gap_ms(Some(server))).collect();
        figures
    }
}

fn tell(flags: &Flags, figures: &Figures, found: Vec<(String, Verdict)>, topics: usize) -> ExitCode {
    let (mut files, mut undecided) = (Vec::new(), Vec::new());
    for (path, verdict) in found {
        match verdict {
            Verdict::Consistent => {}
            Verdict::Undecided => undecided.push(path),
            Verdict::Violated(history) => {
                let file = flags.out.join(format!("violation-{}-{}.txt", flags.round, path.replace('/', "-")));
                eprintln!("{}", history.lines().next().unwrap_or_default());
                if let Err(error) = std::fs::write(&file, history) {
                    eprintln!("{} cannot be written: {error}", file.display());
                }
                files.push(file.display().to_string());
            }
        }
    }
    let is_good = files.is_empty() && undecided.is_empty();
    let figures = serde_json::json!({
        "made": figures.made, "not_met": figures.not_met, "refused": figures.refused, "unknown": figures.unknown, "shown": figures.shown,
        "gap_ms": figures.gap_ms, "gaps_ms": figures.gaps_ms, "topics": topics, "violations": files, "undecided": undecided,
    });
    println!("{figures}");
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
