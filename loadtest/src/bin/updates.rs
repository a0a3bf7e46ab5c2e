//! Acknowledged updates: how many a second, and how long one batch waits for its answers.
//!
//! Each connection sends messages of many updates, each update with an id, and keeps a few messages under way: closed-loop, because what is
//! measured is the most that the server acknowledges. `--once` sets every topic one time, to fill a server.

use clap::{Parser, ValueEnum};
use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::error::Error;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::{self, Append, Ask, Heard, Request, Update, Verb};
use tidewire_loadtest::host;
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::{Message, WebSocket};

/// Sends batches of updates and counts their acknowledgements.
#[derive(Clone, Parser)]
struct Flags {
    /// Several times for the servers of a cluster: connections are spread over them.
    #[arg(long, default_value = "127.0.0.1:8080")]
    server: Vec<SocketAddr>,
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Updates in one message.
    #[arg(long, default_value_t = 100)]
    batch: usize,
    /// Messages of a connection under way.
    #[arg(long, default_value_t = 4)]
    window: usize,
    /// Topics of each connection.
    #[arg(long, default_value_t = 1000)]
    topics: usize,
    /// Bytes of a value.
    #[arg(long, default_value_t = 125)]
    payload: usize,
    /// What is sent.
    #[arg(long, value_enum, default_value_t = Kind::Set)]
    kind: Kind,
    /// KEY=VALUE of the topics' specification, any number of times.
    #[arg(long = "property")]
    properties: Vec<String>,
    /// The branch that holds the topics.
    #[arg(long, default_value = "load/updates")]
    root: String,
    /// Sets every topic one time and ends.
    #[arg(long)]
    once: bool,
    /// Seconds, after one of warming up.
    #[arg(long, default_value_t = 5)]
    duration: u64,
    #[arg(long)]
    core: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Values of binary topics.
    Set,
    /// Events of time series.
    Append,
}

/// What one connection saw.
struct Seen {
    acknowledged: u64,
    refused: u64,
    seconds: f64,
    waits_us: Histogram<u64>,
}

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let flags = Flags::parse();
    if let Some(core) = flags.core {
        assert!(host::pin(core), "this process cannot be pinned to core {core}");
    }
    let threads: Vec<_> = (0..flags.connections)
        .map(|number| {
            let flags = flags.clone();
            std::thread::spawn(move || run(&flags, number))
        })
        .collect();
    let mut total = Seen { acknowledged: 0, refused: 0, seconds: 0.0, waits_us: Histogram::new_with_bounds(1, 60_000_000, 3)? };
    for thread in threads {
        let seen = thread.join().map_err(|_| "a connection's thread failed")??;
        total.acknowledged += seen.acknowledged;
        total.refused += seen.refused;
        total.seconds = total.seconds.max(seen.seconds);
        total.waits_us.add(seen.waits_us)?;
    }
    let rate = total.acknowledged as f64 / total.seconds;
    let ms = |quantile: f64| total.waits_us.value_at_quantile(quantile) as f64 / 1000.0;
    println!(
        "{rate:.0} acknowledged/s: {} in {:.2} s, {} refused; a batch of {} waits p50 {:.2} p99 {:.2} max {:.2} ms",
        total.acknowledged,
        total.seconds,
        total.refused,
        flags.batch,
        ms(0.5),
        ms(0.99),
        ms(1.0)
    );
    Ok(())
}

struct Link {
    socket: WebSocket<TcpStream>,
    /// When each message under way was sent, and how many of its answers are still to come.
    waiting: VecDeque<(Instant, usize)>,
    acknowledged: u64,
    refused: u64,
}

fn run(flags: &Flags, number: usize) -> Result<Seen, Failure> {
    let mut link = Link::connect(flags.server[number % flags.server.len()])?;
    let paths: Vec<String> = (0..flags.topics).map(|topic| format!("{}/{number}/{topic:07}", flags.root)).collect();
    let started = Instant::now();
    let mut waits_us = Histogram::new_with_bounds(1, 60_000_000, 3)?;
    add(flags, &mut link, &paths)?;
    if flags.once {
        let seconds = started.elapsed().as_secs_f64();
        return Ok(Seen { acknowledged: link.acknowledged, refused: link.refused, seconds, waits_us });
    }
    let mut value = vec![b'.'; flags.payload];
    let mut next = 0;
    let warm = Instant::now() + Duration::from_secs(1);
    let end = warm + Duration::from_secs(flags.duration);
    let (mut before, mut measured_from) = (0, None);
    while Instant::now() < end {
        if measured_from.is_none() && Instant::now() >= warm {
            (before, measured_from) = (link.acknowledged, Some(Instant::now()));
            waits_us.clear();
        }
        while link.waiting.len() < flags.window {
            let mut message = Vec::with_capacity(flags.batch * (flags.payload + 64));
            for _ in 0..flags.batch {
                stamp(&mut value, next as u64);
                put_update(flags, &mut message, &paths[next % paths.len()], &value);
                next += 1;
            }
            link.send(message, flags.batch)?;
        }
        link.read(&mut waits_us)?;
    }
    let seconds = measured_from.unwrap_or(warm).elapsed().as_secs_f64();
    Ok(Seen { acknowledged: link.acknowledged - before, refused: link.refused, seconds, waits_us })
}

/// Adds the topics, each with a first value.
fn add(flags: &Flags, link: &mut Link, paths: &[String]) -> Result<(), Failure> {
    let mut waits_us = Histogram::new_with_bounds(1, 60_000_000, 3)?;
    let value = vec![b'.'; flags.payload];
    let mut properties: Vec<(&str, &str)> = flags.properties.iter().filter_map(|text| text.split_once('=')).collect();
    if flags.kind == Kind::Append {
        properties.push(("TIME_SERIES_EVENT_VALUE_TYPE", "binary"));
    }
    for chunk in paths.chunks(flags.batch) {
        let mut message = Vec::new();
        for path in chunk {
            let kind = if flags.kind == Kind::Append { 6 } else { ValueType::Binary as u8 };
            let properties = properties.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
            let update = Update { properties, ..Update::new(Verb::AddAndSet, kind, &value[..]) };
            native::put_request(&mut message, &Request { id: 1, ask: Ask::Update { path: path.into(), update } });
        }
        link.send(message, chunk.len())?;
        while link.waiting.len() >= flags.window {
            link.read(&mut waits_us)?;
        }
    }
    while !link.waiting.is_empty() {
        link.read(&mut waits_us)?;
    }
    Ok(())
}

/// Every value is another one.
fn stamp(value: &mut [u8], number: u64) {
    let digits = format!("{number:016x}");
    let length = digits.len().min(value.len());
    value[..length].copy_from_slice(&digits.as_bytes()[..length]);
}

fn put_update(flags: &Flags, message: &mut Vec<u8>, path: &str, value: &[u8]) {
    let kind = ValueType::Binary as u8;
    let request = match flags.kind {
        Kind::Set => Request { id: 1, ask: Ask::Update { path: path.into(), update: Update::new(Verb::Set, kind, value) } },
        Kind::Append => {
            let append = Append::Original { timestamp_ms: None };
            Request { id: 1, ask: Ask::Append { path: path.into(), kind, append, value: value.into() } }
        }
    };
    native::put_request(message, &request);
}

impl Link {
    fn connect(server: SocketAddr) -> Result<Self, Failure> {
        let mut request = format!("ws://{server}/tidewire").into_client_request()?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("tidewire.1"));
        let stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        let (socket, _) = tungstenite::client(request, stream)?;
        let mut link = Self { socket, waiting: VecDeque::new(), acknowledged: 0, refused: 0 };
        let mut connect = Vec::new();
        native::put_request(&mut connect, &Request { id: 1, ask: Ask::connect("updates", 0) });
        link.socket.send(Message::Binary(connect.into()))?;
        while !matches!(link.socket.read()?, Message::Binary(_)) {}
        Ok(link)
    }

    fn send(&mut self, message: Vec<u8>, updates: usize) -> Result<(), Failure> {
        self.waiting.push_back((Instant::now(), updates));
        Ok(self.socket.send(Message::Binary(message.into()))?)
    }

    /// Reads one message and counts the answers in it.
    fn read(&mut self, waits_us: &mut Histogram<u64>) -> Result<(), Failure> {
        let Message::Binary(message) = self.socket.read()? else { return Ok(()) };
        let mut rest = &message[..];
        while let Some(frame) = native::next_frame(&mut rest).map_err(|_| "a frame overruns its message")? {
            match native::decode_event(frame).map_err(|_| "a frame does not have its form")? {
                Heard::Ok { .. } => self.acknowledged += 1,
                Heard::Error { code, message, .. } => {
                    if self.refused == 0 {
                        eprintln!("refused: {code} {message}");
                    }
                    self.refused += 1;
                }
                _ => continue,
            }
            let Some((sent, left)) = self.waiting.front_mut() else { return Err("an answer that nobody waits for".into()) };
            *left -= 1;
            if *left == 0 {
                waits_us.saturating_record(sent.elapsed().as_micros() as u64);
                self.waiting.pop_front();
            }
        }
        Ok(())
    }
}
