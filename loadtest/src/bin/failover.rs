//! Updates of a cluster while one of its servers is lost: how long each topic was without an acknowledged update, and whether what was acknowledged is there.
//!
//! Each connection counts its topics up, one update of a topic at a time, all at one rate. A connection that ends takes up its topics at the next server. At each server a subscriber
//! of all topics sees that no counter goes back. At the end all servers that are left show the same, nothing lower than was acknowledged.

use clap::Parser;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::{Ask, Heard, Request, Update, Verb};
use tidewire_loadtest::host;
use tidewire_loadtest::link::{Failure, Link, PATIENCE};

/// Counts topics up at the servers of a cluster.
#[derive(Parser)]
struct Flags {
    /// Several times, once for each.
    #[arg(long, default_value = "127.0.0.1:8080")]
    server: Vec<SocketAddr>,
    /// Connections that update, spread over the servers.
    #[arg(long, default_value_t = 6)]
    connections: usize,
    #[arg(long, default_value_t = 2000)]
    topics: usize,
    /// Updates a second, of all topics.
    #[arg(long, default_value_t = 20_000)]
    rate: u64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 125)]
    payload: usize,
    /// Seconds.
    #[arg(long, default_value_t = 10)]
    duration: u64,
    #[arg(long, default_value = "load/failover")]
    root: String,
    #[arg(long)]
    core: Option<usize>,
}

const BINARY: u8 = ValueType::Binary as u8;
/// The pause between two looks at all sockets.
const PAUSE: Duration = Duration::from_micros(500);

struct Topic {
    path: String,
    /// The last number that was sent, and the last that was acknowledged.
    sent: u64,
    acknowledged: u64,
    is_under_way: bool,
    acknowledged_at: Instant,
    longest_gap: Duration,
}

/// Who updates: the topics with its number modulo the connections.
struct Writer {
    server: usize,
    link: Option<Link>,
    again_at: Instant,
    /// The topics whose updates are to be answered, in the order of sending.
    waiting: VecDeque<usize>,
    next: usize,
}

/// Sees all topics at one server.
struct Watcher {
    server: SocketAddr,
    link: Option<Link>,
    topics: BTreeMap<u64, usize>,
    shown: Vec<u64>,
    has_gone_back: u64,
}

#[derive(Default)]
struct Count {
    acknowledged: u64,
    refused: BTreeMap<u16, u64>,
    unknown: u64,
    ended: u64,
}

fn main() -> Result<(), Failure> {
    let flags = Flags::parse();
    if let Some(core) = flags.core {
        assert!(host::pin(core), "this process cannot be pinned to core {core}");
    }
    let mut run = Run::new(&flags)?;
    run.add()?;
    let (start, end) = (Instant::now(), Duration::from_secs(flags.duration));
    run.topics.iter_mut().for_each(|topic| topic.acknowledged_at = start);
    let mut sent = 0;
    while start.elapsed() < end {
        let due = (start.elapsed().as_secs_f64() * flags.rate as f64) as u64;
        sent += run.send(due.saturating_sub(sent));
        // What could not be sent, since a topic had one under way, is not made up for.
        sent = sent.max(due.saturating_sub(flags.rate / 100));
        run.hear()?;
        std::thread::sleep(PAUSE);
    }
    run.finish(start.elapsed())
}

struct Run<'a> {
    flags: &'a Flags,
    topics: Vec<Topic>,
    writers: Vec<Writer>,
    watchers: Vec<Watcher>,
    count: Count,
}

impl<'a> Run<'a> {
    fn new(flags: &'a Flags) -> Result<Self, Failure> {
        let now = Instant::now();
        let topic = |number| Topic {
            path: format!("{}/{number}", flags.root),
            sent: 1,
            acknowledged: 0,
            is_under_way: false,
            acknowledged_at: now,
            longest_gap: Duration::ZERO,
        };
        let writer = |number: usize| {
            let server = number % flags.server.len();
            let link = Some(Link::connect(flags.server[server], "failover")?);
            Ok::<_, Failure>(Writer { server, link, again_at: now, waiting: VecDeque::new(), next: number })
        };
        let topics: Vec<Topic> = (0..flags.topics).map(topic).collect();
        let writers = (0..flags.connections).map(writer).collect::<Result<_, _>>()?;
        let watchers = flags.server.iter().map(|server| Watcher::new(*server, topics.len())).collect();
        Ok(Self { flags, topics, writers, watchers, count: Count::default() })
    }

    /// Makes the topics, and has all watchers see them.
    fn add(&mut self) -> Result<(), Failure> {
        for chunk in self.topics.chunks(500) {
            let link = self.writers[0].link.as_mut().expect("it was just connected");
            for topic in chunk {
                let update = Update::new(Verb::AddAndSet, BINARY, value(1, self.flags.payload));
                link.say(&Request { id: 2, ask: Ask::Update { path: (&*topic.path).into(), update } });
            }
            link.flush()?;
            let mut answered = 0;
            link.wait(|heard| {
                answered += usize::from(matches!(heard, Heard::Ok { .. }));
                answered == chunk.len()
            })?;
        }
        self.topics.iter_mut().for_each(|topic| topic.acknowledged = 1);
        for watcher in &mut self.watchers {
            watcher.connect(&self.flags.root)?;
            watcher.wait(&self.topics)?;
        }
        Ok(())
    }

    /// Sends as many updates as are due, where topics have none under way; how many were sent.
    fn send(&mut self, due: u64) -> u64 {
        let (flags, mut sent) = (self.flags, 0);
        let each = due.div_ceil(self.writers.len() as u64);
        for (number, writer) in self.writers.iter_mut().enumerate() {
            if writer.link.is_none() {
                writer.connect(flags);
            }
            let Some(link) = &mut writer.link else { continue };
            let mut tried = 0;
            let mut here = 0;
            while here < each && tried < flags.topics {
                let topic = &mut self.topics[writer.next];
                if !topic.is_under_way {
                    topic.sent += 1;
                    topic.is_under_way = true;
                    let update = Update::new(Verb::Set, BINARY, value(topic.sent, flags.payload));
                    link.say(&Request { id: 2, ask: Ask::Update { path: (&*topic.path).into(), update } });
                    writer.waiting.push_back(writer.next);
                    here += 1;
                }
                tried += flags.connections;
                writer.next += flags.connections;
                if writer.next >= flags.topics {
                    writer.next = number;
                }
            }
            sent += here;
            if link.flush().is_err() {
                writer.end(&mut self.topics, &mut self.count);
            }
        }
        sent
    }

    fn hear(&mut self) -> Result<(), Failure> {
        for writer in &mut self.writers {
            let Some(link) = &mut writer.link else { continue };
            let (topics, count, waiting) = (&mut self.topics, &mut self.count, &mut writer.waiting);
            let heard = link.poll_all(|heard, _| {
                let refused = match heard {
                    Heard::Ok { .. } => None,
                    Heard::Error { code, .. } => Some(code),
                    _ => return,
                };
                let Some(number) = waiting.pop_front() else { return };
                topics[number].answered(refused.is_none());
                match refused {
                    None => count.acknowledged += 1,
                    Some(code) => *count.refused.entry(code).or_default() += 1,
                }
            });
            if heard.is_err() {
                writer.end(&mut self.topics, &mut self.count);
            }
        }
        self.watchers.iter_mut().for_each(Watcher::hear);
        Ok(())
    }

    fn finish(mut self, lasted: Duration) -> Result<(), Failure> {
        let start = Instant::now();
        while self.writers.iter().any(|writer| writer.link.is_some() && !writer.waiting.is_empty()) {
            self.hear()?;
            if start.elapsed() > PATIENCE {
                return Err("updates are not answered".into());
            }
        }
        let gaps: Vec<Duration> = self
            .topics
            .iter()
            .map(|topic| topic.longest_gap.max(topic.acknowledged_at.elapsed().saturating_sub(start.elapsed())))
            .collect();
        let longest = gaps.iter().max().copied().unwrap_or_default();
        let (mut lost, mut differing) = (0, 0);
        let mut shown: Option<Vec<u64>> = None;
        let mut seen_at = 0;
        for server in &self.flags.server {
            let mut watcher = Watcher::new(*server, self.topics.len());
            // It is gone, or was not reached.
            if watcher.connect(&self.flags.root).is_err() {
                continue;
            }
            watcher.wait(&self.topics)?;
            lost += watcher
                .shown
                .iter()
                .zip(&self.topics)
                .filter(|(shown, topic)| **shown < topic.acknowledged || **shown > topic.sent)
                .count();
            differing += shown.as_ref().map_or(0, |first| first.iter().zip(&watcher.shown).filter(|(one, other)| one != other).count());
            shown.get_or_insert(watcher.shown);
            seen_at += 1;
        }
        let back: u64 = self.watchers.iter().map(|watcher| watcher.has_gone_back).sum();
        let Count { acknowledged, refused, unknown, ended } = &self.count;
        println!(
            "{acknowledged} acknowledged ({:.0}/s), refused {refused:?}, {unknown} unknown, {ended} connections ended; the longest time without an acknowledged update of a topic {:.0} ms; at {seen_at} servers {lost} topics lost an update, {differing} differ; {back} values went back",
            *acknowledged as f64 / lasted.as_secs_f64(),
            longest.as_secs_f64() * 1000.0,
        );
        if lost + differing > 0 || back > 0 { Err("what was acknowledged is not there, or was taken back".into()) } else { Ok(()) }
    }
}

impl Topic {
    fn answered(&mut self, is_acknowledged: bool) {
        self.is_under_way = false;
        if is_acknowledged {
            self.acknowledged = self.sent;
            self.longest_gap = self.longest_gap.max(self.acknowledged_at.elapsed());
            self.acknowledged_at = Instant::now();
        }
    }
}

impl Writer {
    /// The next server is tried each time, so one that is gone holds nothing up.
    fn connect(&mut self, flags: &Flags) {
        if Instant::now() < self.again_at {
            return;
        }
        self.server = (self.server + 1) % flags.server.len();
        self.link = Link::connect(flags.server[self.server], "failover").ok();
        self.again_at = Instant::now() + Duration::from_millis(20);
    }

    fn end(&mut self, topics: &mut [Topic], count: &mut Count) {
        self.link = None;
        count.ended += 1;
        count.unknown += self.waiting.len() as u64;
        self.waiting.drain(..).for_each(|topic| topics[topic].is_under_way = false);
    }
}

impl Watcher {
    fn new(server: SocketAddr, topics: usize) -> Self {
        Self { server, link: None, topics: BTreeMap::new(), shown: vec![0; topics], has_gone_back: 0 }
    }

    fn connect(&mut self, root: &str) -> Result<(), Failure> {
        let mut link = Link::connect(self.server, "failover")?;
        link.say(&Request { id: 2, ask: Ask::Subscribe { selector: format!("?{root}/").into(), scope: "".into() } });
        link.flush()?;
        self.link = Some(link);
        Ok(())
    }

    fn hear(&mut self) {
        let Some(link) = &mut self.link else { return };
        let (topics, shown, has_gone_back) = (&mut self.topics, &mut self.shown, &mut self.has_gone_back);
        let heard = link.poll_all(|heard, _| match heard {
            Heard::Subscribed { topic, path, .. } => {
                let number = path.rsplit('/').next().and_then(|name| name.parse().ok());
                topics.extend(number.map(|number| (topic.0, number)));
            }
            Heard::Value { topic, value } => {
                let number =
                    std::str::from_utf8(&value[..16.min(value.len())]).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
                if let (Some(topic), Some(number)) = (topics.get(&topic.0), number) {
                    *has_gone_back += u64::from(number < shown[*topic]);
                    shown[*topic] = number;
                }
            }
            _ => {}
        });
        if heard.is_err() {
            self.link = None;
        }
    }

    /// Until all that was acknowledged is shown.
    fn wait(&mut self, topics: &[Topic]) -> Result<(), Failure> {
        let (start, mut still) = (Instant::now(), 0);
        // Some looks more, for what was not acknowledged and is there.
        while still < 100 {
            self.hear();
            still = if self.shown.iter().zip(topics).all(|(shown, topic)| *shown >= topic.acknowledged) { still + 1 } else { 0 };
            if start.elapsed() > PATIENCE {
                let missing = self.shown.iter().zip(topics).find(|(shown, topic)| **shown < topic.acknowledged);
                let told =
                    missing.map(|(shown, topic)| format!("{} is at {shown}, and {} was acknowledged", topic.path, topic.acknowledged));
                return Err(format!("{}: {}", self.server, told.unwrap_or_default()).into());
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }
}

/// Sixteen hexadecimal digits, and dots behind them.
fn value(number: u64, length: usize) -> Vec<u8> {
    let mut value = format!("{number:016x}").into_bytes();
    value.resize(length.max(16), b'.');
    value
}
