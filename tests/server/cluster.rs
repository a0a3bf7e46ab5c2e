//! Three servers that hold topics as one: each a process of its own, with mutual TLS between them.
//!
//! Each cluster has an address of loopback for itself, so that no port is anybody else's.

use crate::client::{Seen, Session, connect_ask};
use crate::requests::update;
use crate::server::{Directory, PATIENCE, Server, tidewire};
use crate::storage::limit_files;
use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::Verb;

const NAMES: [&str; 3] = ["a", "b", "c"];
const STORAGE_UNAVAILABLE: u16 = 410;
const NO_QUORUM: u16 = 420;
const UPDATE_UNKNOWN: u16 = 421;
const COME_LATER: u16 = 4107;

struct Node {
    directory: Directory,
    server: Option<Server>,
}

/// The servers of a cluster, by number.
struct Cluster {
    nodes: Vec<Node>,
    host: String,
    settings: &'static [(&'static str, &'static str)],
    /// One at a time: three servers that elect need a core now and then.
    _alone: MutexGuard<'static, ()>,
}

impl Cluster {
    fn start() -> Self {
        Self::start_with(&[])
    }

    /// Three servers that vote in every group, with these settings.
    fn start_with(settings: &'static [(&'static str, &'static str)]) -> Self {
        let mut cluster = Self::new(settings);
        let founded = cluster.cluster_command(&["found", cluster.directory(0), "--listen", &cluster.address(0), "--name", NAMES[0]]);
        cluster.run(0);
        let mut token = founded;
        for (number, name) in NAMES.iter().enumerate().skip(1) {
            let address = cluster.address(number);
            cluster.cluster_command(&["join", token.trim(), cluster.directory(number), "--listen", &address, "--name", name]);
            token = cluster.cluster_command(&["token", cluster.directory(0)]);
            cluster.run(number);
        }
        cluster.wait_until_all_vote();
        cluster
    }

    /// Three servers that are none yet.
    fn new(settings: &'static [(&'static str, &'static str)]) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let (process, number) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let host = format!("127.{}.{}.{}", process >> 8 & 0x7f | 1, process & 0xff, number);
        let nodes = NAMES.map(|name| Node { directory: Directory::new(&format!("cluster-{name}")), server: None });
        Self { nodes: nodes.into(), host, settings, _alone: alone }
    }

    fn wait_until_all_vote(&self) {
        self.wait_for(0, "all vote", |status| {
            let groups = status["groups"].as_array().expect("groups");
            groups.iter().all(|group| group["voters"].as_array().expect("voters").len() == NAMES.len())
        });
    }

    fn directory(&self, number: usize) -> &str {
        self.nodes[number].directory.name()
    }

    fn address(&self, number: usize) -> String {
        format!("{}:{}", self.host, 7700 + number)
    }

    /// What `tidewire cluster` prints.
    fn cluster_command(&self, arguments: &[&str]) -> String {
        let output = tidewire(&[&["cluster"], arguments].concat()).output().expect("the binary starts");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("it is text")
    }

    fn status(&self, number: usize) -> Option<serde_json::Value> {
        let output = tidewire(&["cluster", "status", self.directory(number), "--json"]).output().expect("the binary starts");
        output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("it is JSON"))
    }

    fn wait_for(&self, number: usize, what: &str, is_so: impl Fn(&serde_json::Value) -> bool) {
        let started = Instant::now();
        while !self.status(number).is_some_and(|status| is_so(&status)) {
            assert!(started.elapsed() < PATIENCE, "{what}: {:?}", self.status(number));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn run(&mut self, number: usize) {
        let directory = self.directory(number).to_owned();
        // One more than the others have: a topic's shard is another at each.
        self.nodes[number].server =
            Some(Server::start_with_mqtt(1 + number % 2, &[&[("STORAGE_DIRECTORY", &*directory)], self.settings].concat()));
    }

    fn kill(&mut self, number: usize) {
        self.nodes[number].server.take().expect("it runs").kill();
    }

    fn connect(&self, number: usize) -> Session {
        self.nodes[number].server.as_ref().expect("it runs").connect()
    }

    /// Waits until the server shows these numbers, or higher ones.
    fn wait_for_counters(&self, number: usize, counters: &BTreeMap<String, u64>) {
        let mut session = self.connect(number);
        let started = Instant::now();
        loop {
            let shown = counters_of(&mut session);
            if counters.iter().all(|(path, counter)| shown.get(path).is_some_and(|shown| shown >= counter)) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{number} shows {shown:?}, and {counters:?} was acknowledged");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn counters_of(session: &mut Session) -> HashMap<String, u64> {
    let entries = session.fetch_all("?k/");
    let number = |value: &[u8]| std::str::from_utf8(value).ok()?.parse().ok();
    entries.iter().filter_map(|entry| Some((entry.path.to_string(), number(entry.value.as_deref()?)?))).collect()
}

/// Counts each of some topics on, a number at a time, and keeps what was acknowledged.
struct Counting {
    acknowledged: BTreeMap<String, u64>,
    next: u64,
}

impl Counting {
    fn new() -> Self {
        Self { acknowledged: BTreeMap::new(), next: 0 }
    }

    /// Until each of the topics was acknowledged so often.
    fn count(&mut self, session: &mut Session, rounds: usize) {
        let started = Instant::now();
        for topic in 0..24 {
            let path = format!("k/{topic}");
            let mut left = rounds;
            while left > 0 {
                self.next += 1;
                match session.add_and_set(&path, ValueType::Json, self.next.to_string().as_bytes()) {
                    Ok(_) => {
                        self.acknowledged.insert(path.clone(), self.next);
                        left -= 1;
                    }
                    Err(refused) => {
                        assert!([STORAGE_UNAVAILABLE, NO_QUORUM, UPDATE_UNKNOWN].contains(&refused.code), "{refused:?}");
                        assert!(started.elapsed() < PATIENCE, "nobody leads the group of {path}");
                    }
                }
            }
        }
    }
}

#[test]
fn what_was_acknowledged_survives_whoever_leads() {
    let mut cluster = Cluster::start();
    let mut watcher = cluster.connect(2);
    watcher.subscribe("?k/").unwrap();
    let mut session = cluster.connect(1);
    let mut counting = Counting::new();
    counting.count(&mut session, 3);
    // Whoever was answered sees his update at his server, and all others do soon.
    assert!(counting.acknowledged.iter().all(|(path, counter)| counters_of(&mut session).get(path) >= Some(counter)));
    (0..3).for_each(|number| cluster.wait_for_counters(number, &counting.acknowledged));
    // The founder leads all groups.
    cluster.kill(0);
    counting.count(&mut session, 3);
    (1..3).for_each(|number| cluster.wait_for_counters(number, &counting.acknowledged));
    cluster.run(0);
    cluster.wait_for_counters(0, &counting.acknowledged);
    // A removal anywhere is one everywhere.
    let mut other = cluster.connect(0);
    assert_eq!(other.remove("?k/1.*"), Ok(11));
    let left: Vec<String> = cluster.connect(0).fetch_all("?k/").iter().map(|entry| entry.path.to_string()).collect();
    assert_eq!(left.len(), 13);
    let started = Instant::now();
    while counters_of(&mut session).len() != 13 {
        assert!(started.elapsed() < PATIENCE);
    }
}

/// What a leader has not answered when it dies is found out at the next one: made once, in order, and answered.
#[test]
fn an_update_that_is_under_way_when_its_leader_dies_is_made_once_and_answered() {
    // Nobody waits in vain, however long an election takes here.
    let mut cluster = Cluster::start_with(&[("CLUSTER_LEADER_PATIENCE_MS", "600000")]);
    let mut watcher = cluster.connect(2);
    watcher.subscribe("?k/").unwrap();
    let mut session = cluster.connect(1);
    let send = |session: &mut Session, numbers: std::ops::Range<u64>| {
        for number in numbers {
            let (path, value) = (format!("k/{}", number % 24), number.to_string());
            session.send(&update(1000 + number, Verb::AddAndSet, &path, ValueType::Json, value.as_bytes()));
        }
    };
    send(&mut session, 0..2000);
    // The founder leads all groups, and is in the midst of it.
    assert!(session.answer_to(1100).is_ok());
    cluster.kill(0);
    send(&mut session, 2000..3000);
    for number in (0..3000).filter(|number| *number != 100) {
        let answer = session.answer_to(1000 + number);
        assert!(answer.is_ok(), "{number}: {answer:?}");
    }
    let last: BTreeMap<String, u64> =
        (0..24).map(|topic| (format!("k/{topic}"), (0..3000).rfind(|number| number % 24 == topic).unwrap())).collect();
    (1..3).for_each(|number| cluster.wait_for_counters(number, &last));
    let mut shown = HashMap::<String, u64>::new();
    while last.iter().any(|(path, last)| shown.get(path) != Some(last)) {
        if let Seen::Value(path, value) = watcher.next() {
            let number = String::from_utf8(value).unwrap().parse().unwrap();
            let before = shown.insert(path.clone(), number);
            assert!(before < Some(number), "{path} goes from {before:?} to {number}");
        }
    }
}

/// The same line each time: a server becomes a node when it starts first, and is one from then on.
#[test]
fn a_server_becomes_a_node_by_the_line_that_starts_it() {
    let mut cluster = Cluster::new(&[]);
    let start = |cluster: &Cluster, number: usize| {
        let (directory, address) = (cluster.directory(number), cluster.address(number));
        let token = if number == 0 { String::new() } else { cluster.cluster_command(&["token", cluster.directory(0), "--wait"]) };
        let flags = if number == 0 { vec!["--found", &address] } else { vec!["--join", token.trim(), "--at", &address] };
        let flags = [&flags[..], &["--name", NAMES[number]]].concat();
        Some(Server::start_with_flags(1, &[("STORAGE_DIRECTORY", directory)], &flags))
    };
    cluster.nodes[0].server = start(&cluster, 0);
    let mut counting = Counting::new();
    // One that is alone is all that there is, also when nobody has answered it for longer than a leader believes in itself.
    std::thread::sleep(Duration::from_secs(1));
    counting.count(&mut cluster.connect(0), 1);
    (1..3).for_each(|number| cluster.nodes[number].server = start(&cluster, number));
    cluster.wait_until_all_vote();
    counting.count(&mut cluster.connect(2), 1);
    for number in 0..3 {
        cluster.nodes[number].server = None;
        cluster.nodes[number].server = start(&cluster, number);
    }
    counting.count(&mut cluster.connect(0), 1);
    (0..3).for_each(|number| cluster.wait_for_counters(number, &counting.acknowledged));
    // What one of them has makes a server that stands alone.
    cluster.nodes[1].server = None;
    let export = tidewire(&["storage", "export", "--data", cluster.directory(1)]).output().expect("the binary starts");
    let (lines, alone) = (Directory::new("cluster-lines"), Directory::new("cluster-alone"));
    let file = std::path::Path::new(lines.name()).with_extension("jsonl");
    std::fs::write(&file, export.stdout).expect("there is room");
    let import = tidewire(&["storage", "import", "--data", alone.name()]).arg(&file).output().expect("the binary starts");
    std::fs::remove_file(&file).expect("it was just there");
    assert!(import.status.success(), "{}", String::from_utf8_lossy(&import.stderr));
    let server = Server::start_with(1, &[("STORAGE_DIRECTORY", alone.name())]);
    let kept: HashMap<String, u64> = counting.acknowledged.into_iter().collect();
    assert_eq!(counters_of(&mut server.connect()), kept);
}

#[test]
fn who_stops_in_order_leaves_leaders_behind() {
    // Nobody is elected while this test has patience.
    let mut cluster = Cluster::start_with(&[("CLUSTER_ELECTION_MIN_MS", "60000"), ("CLUSTER_ELECTION_MAX_MS", "120000")]);
    let mut counting = Counting::new();
    let mut session = cluster.connect(1);
    counting.count(&mut session, 1);
    // The founder leads all groups. Dropped, it ends by SIGTERM.
    drop(cluster.nodes[0].server.take());
    cluster.wait_for(1, "another leads each", |status| {
        let nodes = status["nodes"].as_array().expect("nodes");
        let founder = &nodes.iter().find(|node| node["name"] == "a").expect("it is a node")["node"];
        status["groups"].as_array().expect("groups").iter().all(|group| group["leader"].is_u64() && group["leader"] != *founder)
    });
    counting.count(&mut session, 1);
    cluster.run(0);
    cluster.wait_for_counters(0, &counting.acknowledged);
}

#[test]
fn what_all_had_is_there_after_all_were_killed() {
    let mut cluster = Cluster::start();
    let mut counting = Counting::new();
    counting.count(&mut cluster.connect(2), 2);
    (0..3).for_each(|number| cluster.kill(number));
    (0..3).for_each(|number| cluster.run(number));
    (0..3).for_each(|number| cluster.wait_for_counters(number, &counting.acknowledged));
    // And it goes on.
    counting.count(&mut cluster.connect(0), 1);
    (0..3).for_each(|number| cluster.wait_for_counters(number, &counting.acknowledged));
}

#[test]
fn a_leader_whose_disk_is_full_is_no_leader_until_there_is_room() {
    let cluster = Cluster::start();
    let mut counting = Counting::new();
    let mut session = cluster.connect(1);
    counting.count(&mut session, 1);
    // The founder leads all groups.
    limit_files(cluster.nodes[0].server.as_ref().expect("it runs"), 1);
    let leads_nothing = |status: &serde_json::Value| {
        let nodes = status["nodes"].as_array().expect("nodes");
        let founder = &nodes.iter().find(|node| node["name"] == "a").expect("it is a node")["node"];
        status["groups"].as_array().expect("groups").iter().all(|group| group["leader"].is_u64() && group["leader"] != *founder)
    };
    let started = Instant::now();
    // Only what it has to write shows it that it cannot.
    while !cluster.status(1).is_some_and(|status| leads_nothing(&status)) {
        assert!(started.elapsed() < PATIENCE, "{:?}", cluster.status(1));
        let _ = session.add_and_set("k/0", ValueType::Json, b"0");
    }
    counting.count(&mut session, 2);
    cluster.wait_for_counters(2, &counting.acknowledged);
    limit_files(cluster.nodes[0].server.as_ref().expect("it runs"), libc::RLIM_INFINITY);
    cluster.wait_for_counters(0, &counting.acknowledged);
    counting.count(&mut cluster.connect(0), 1);
    (0..3).for_each(|number| cluster.wait_for_counters(number, &counting.acknowledged));
}

#[test]
fn a_minority_refuses_updates_and_shows_what_it_has() {
    let mut cluster = Cluster::start();
    let mut counting = Counting::new();
    let mut session = cluster.connect(2);
    counting.count(&mut session, 1);
    cluster.wait_for_counters(2, &counting.acknowledged);
    wait_for_staleness(&mut session, false);
    cluster.kill(0);
    cluster.kill(1);
    // Whoever is there is told, and whoever comes.
    wait_for_staleness(&mut session, true);
    wait_for_staleness(&mut cluster.connect(2), true);
    let code = loop {
        let refused = session.add_and_set("k/0", ValueType::Json, b"0").expect_err("too few are left");
        if refused.code != UPDATE_UNKNOWN {
            break refused.code;
        }
    };
    assert_eq!(code, NO_QUORUM);
    assert_eq!(counters_of(&mut session).len(), 24);
    cluster.run(1);
    counting.count(&mut session, 1);
    cluster.wait_for_counters(1, &counting.acknowledged);
    wait_for_staleness(&mut session, false);
}

/// Waits until the session was told so, or as long as it was told nothing else.
fn wait_for_staleness(session: &mut Session, is_stale: bool) {
    let started = Instant::now();
    loop {
        session.settle();
        if session.staleness.last().copied().unwrap_or_default() == is_stale {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "it is not told that it is stale: {is_stale}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_minority_that_closes_sends_its_clients_away_until_it_is_none() {
    let mut cluster = Cluster::start_with(&[("CLUSTER_MINORITY", "close")]);
    let mut session = come(&cluster);
    let mut stream = connect_mqtt(&cluster);
    assert_eq!(read_some(&mut stream), b"\x20\x02\x00\x00", "a CONNACK that accepts");
    cluster.kill(0);
    cluster.kill(1);
    assert_eq!(session.wait_for_close(), COME_LATER);
    assert_eq!(read_some(&mut stream), b"", "MQTT 3.1.1 has no word for it");
    let mut refused = Session::begin(cluster.nodes[2].server.as_ref().expect("it runs").address, connect_ask(0, "", 0));
    assert!(matches!(refused.next(), Seen::Later(_)));
    assert_eq!(refused.wait_for_close(), COME_LATER);
    assert_eq!(read_some(&mut connect_mqtt(&cluster)), b"\x20\x02\x00\x03", "a CONNACK: the server is unavailable");
    cluster.run(1);
    come(&cluster).settle();
    // The session has stood meanwhile.
    drop(session.resume(cluster.nodes[2].server.as_ref().expect("it runs").address));
    session.settle();
}

/// A session at the last server, once that takes any.
fn come(cluster: &Cluster) -> Session {
    let started = Instant::now();
    loop {
        let mut session = Session::begin(cluster.nodes[2].server.as_ref().expect("it runs").address, connect_ask(600_000, "", 0));
        match session.next() {
            Seen::Welcome => return session,
            Seen::Later(_) => std::thread::sleep(Duration::from_millis(50)),
            other => panic!("{other:?}"),
        }
        assert!(started.elapsed() < PATIENCE, "it takes no sessions");
    }
}

fn connect_mqtt(cluster: &Cluster) -> TcpStream {
    let address = cluster.nodes[2].server.as_ref().and_then(|server| server.mqtt).expect("it speaks MQTT");
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a").expect("it reads");
    stream
}

/// What comes next; nothing at the end.
fn read_some(stream: &mut TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(PATIENCE)).expect("it is a time");
    let mut bytes = [0; 64];
    let length = stream.read(&mut bytes).expect("something comes, or the end");
    bytes[..length].to_vec()
}
