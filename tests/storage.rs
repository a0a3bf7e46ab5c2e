//! A store whose process is killed at random: what it acknowledged is there, in order, and no event twice.
//!
//! The test binary runs itself as the process that is killed. It says on its standard output what was acknowledged.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tidewire::surface::base::{ShardIndex, Time, TopicId};
use tidewire::surface::journal::{Append, Change, State};
use tidewire::surface::storage::{Ack, Answer, Options, Store, check, start};
use tidewire::surface::topic::path::TopicPath;
use tidewire::surface::topic::publication::Publication;

/// Names the directory for the process that is killed.
const DIRECTORY: &str = "TIDEWIRE_TEST_STORE";
const ACK: &str = "TIDEWIRE_TEST_ACK";

fn options(ack: Ack) -> Options {
    Options { ack, segment_bytes: 100_000, sync_interval_ms: 5, garbage_events_max: 50, ..Options::default() }
}

const VALUES: TopicId = TopicId(1);
const SERIES: TopicId = TopicId(2);
/// So many events are retained.
const KEPT: u64 = 40;

fn added(topic: TopicId) -> Change {
    let path = TopicPath::parse(&format!("topic/{}", topic.0), 100).unwrap();
    Change::Added { topic, path, kind: 5, properties: Arc::new([]) }
}

/// The changes of one round: the value, the event and the short-lived topic of its number.
fn round(number: u64) -> Vec<Change> {
    let value = number.to_be_bytes();
    let first_kept = number.saturating_sub(KEPT - 1);
    let publication = Arc::new(Publication::new(VALUES, number, Time(0), &value));
    let event = Change::Event {
        topic: SERIES,
        sequence: number,
        original: None,
        timestamp_ms: number,
        author: "".into(),
        value: value.into(),
        first_kept,
        dropped: None,
    };
    let short_lived = TopicId(10 + number);
    vec![Change::Value { publication }, event, added(short_lived), Change::Removed { topic: TopicId(short_lived.0 - 1) }]
}

/// Writes rounds until it is killed. Not a test of its own: it does nothing unless [`check_kills`] runs it.
#[test]
fn the_process_that_is_killed() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let ack = if std::env::var(ACK).unwrap() == "durable" { Ack::Durable } else { Ack::Written };
    let (store, recovered) = Store::open(Path::new(&directory), options(ack)).unwrap();
    let known = recovered.state.topics.get(&VALUES).map_or(0, |topic| topic.version);
    let base = known * 4;
    let notify = move |_, answer| {
        if let Answer::Acknowledged { through } = answer {
            let mut out = std::io::stdout().lock();
            let _ = writeln!(out, "\nacknowledged {}", (base + through.saturating_sub(2)) / 4).and_then(|()| out.flush());
        }
    };
    let handle = start(store, options(ack), None, notify).unwrap();
    let sender = handle.sender(ShardIndex(0));
    let mut ticket = 2;
    // A second life repeats them, which changes nothing.
    send(&sender, vec![Append { ticket: 1, change: added(VALUES) }, Append { ticket: 2, change: added(SERIES) }]);
    for number in known + 1.. {
        let message = round(number).into_iter().map(|change| {
            ticket += 1;
            Append { ticket, change }
        });
        send(&sender, message.collect());
    }
}

fn send(sender: &tidewire::surface::storage::Sender, mut message: Vec<Append>) {
    while let Err(refused) = sender.try_send(message) {
        message = refused;
        std::thread::sleep(Duration::from_micros(50));
    }
}

/// Runs and kills the process; returns the last round that it acknowledged.
fn run_and_kill(directory: &Path, ack: &str, delay: Duration) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["the_process_that_is_killed", "--exact", "--nocapture"])
        .env(DIRECTORY, directory)
        .env(ACK, ack)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || {
        let lines = output.lines().map_while(Result::ok);
        lines.filter_map(|line| line.strip_prefix("acknowledged ").and_then(|number| number.parse().ok())).last().unwrap_or(0)
    });
    std::thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

fn check_state(state: &State, acknowledged: u64) {
    if acknowledged == 0 {
        return;
    }
    let version = state.topics[&VALUES].version;
    assert!(version >= acknowledged, "{acknowledged} was acknowledged, {version} is there");
    assert_eq!(state.topics[&VALUES].value.as_deref(), Some(&version.to_be_bytes()[..]));
    let series = &state.topics[&SERIES];
    let last = series.last_sequence.expect("there are events");
    assert!((acknowledged..=version).contains(&last), "event {last}, value {version}");
    let sequences: Vec<u64> = series.events.keys().copied().collect();
    assert_eq!(sequences, (last.saturating_sub(KEPT - 1).max(1)..=last).collect::<Vec<_>>(), "each once, in order, none missing");
    assert!(series.events.values().all(|event| *event.value == event.sequence.to_be_bytes()));
    assert!((3..=4).contains(&state.topics.len()), "short-lived topics end: {}", state.topics.len());
    assert!(state.highest_topic >= 10 + acknowledged);
}

fn check_kills(ack: &str, seed: u64) {
    let directory: PathBuf = std::env::temp_dir().join(format!("tidewire-killed-{ack}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&directory);
    let mut random = seed;
    let mut acknowledged = 0;
    for _ in 0..12 {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        let delay = Duration::from_millis(30 + (random >> 33) % 300);
        acknowledged = run_and_kill(&directory, ack, delay).max(acknowledged);
        if acknowledged > 0 {
            let report = check(&directory).unwrap();
            assert_eq!(report.damage, Vec::<String>::new());
        }
        let (_store, recovered) = Store::open(&directory, options(Ack::Written)).unwrap_or_else(|error| panic!("{error}"));
        check_state(&recovered.state, acknowledged);
    }
    assert!(acknowledged > 100, "the process came far enough to be worth killing");
    std::fs::remove_dir_all(&directory).unwrap();
}

/// One after the other: a process that is just being started shares its parent's locks for a moment.
#[test]
fn a_killed_process_loses_nothing_acknowledged() {
    check_kills("written", 7);
    check_kills("durable", 11);
}
