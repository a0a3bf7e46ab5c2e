//! Requests between clients: how long an answer takes beside an update of a topic, and how many are answered in a second.
//!
//! First one at a time: an update until its subscriber has it, and a request until its asker has the answer, in turn, by the same connections. The client looks at its
//! sockets without end, so no wake-up of its own is in the times. Then as many as the connections carry, with several under way in each.

use clap::Parser;
use hdrhistogram::Histogram;
use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::{self, Ask, Heard, Request, Update, Verb};
use tidewire_loadtest::host;
use tidewire_loadtest::websocket::{self, Opcode, Upgrade};

/// Asks a handler of requests, one at a time and many.
#[derive(Parser)]
struct Flags {
    #[arg(long, default_value = "127.0.0.1:8080")]
    server: SocketAddr,
    /// Pairs of an asker and a handler, for the second part.
    #[arg(long, default_value_t = 8)]
    pairs: usize,
    /// Requests of an asker under way.
    #[arg(long, default_value_t = 100)]
    window: usize,
    /// Bytes of a value, and of an answer.
    #[arg(long, default_value_t = 125)]
    payload: usize,
    /// Seconds of each part.
    #[arg(long, default_value_t = 5)]
    duration: u64,
    #[arg(long)]
    core: Option<usize>,
}

type Failure = Box<dyn Error>;

/// What this brings to an end, however slow the server is.
const PATIENCE: Duration = Duration::from_secs(10);
const BINARY: u8 = ValueType::Binary as u8;

/// One connection, which never blocks once it is connected.
struct Link {
    stream: TcpStream,
    received: Vec<u8>,
    frames: Vec<u8>,
}

impl Link {
    fn connect(server: SocketAddr) -> Result<Self, Failure> {
        let mut stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        let upgrade = Upgrade::new(&server.to_string(), "/tidewire", Some("tidewire.1"));
        stream.write_all(&upgrade.request)?;
        let (mut received, mut buffer) = (Vec::new(), [0; 4096]);
        let used = loop {
            if let Some(used) = upgrade.answer(&received)? {
                break used;
            }
            let length = stream.read(&mut buffer)?;
            received.extend_from_slice(&buffer[..length]);
        };
        received.drain(..used);
        stream.set_nonblocking(true)?;
        let mut link = Self { stream, received, frames: Vec::new() };
        link.say(&Request { id: 1, ask: Ask::connect("requests", 0) });
        link.flush()?;
        link.wait(|heard| matches!(heard, Heard::Welcome { .. }))?;
        Ok(link)
    }

    /// Adds a request to the next message.
    fn say(&mut self, request: &Request<'_>) {
        native::put_request(&mut self.frames, request);
    }

    fn flush(&mut self) -> Result<(), Failure> {
        if self.frames.is_empty() {
            return Ok(());
        }
        let mut message = Vec::with_capacity(self.frames.len() + 16);
        websocket::encode_frame(Opcode::Binary, &self.frames, [1, 2, 3, 4], &mut message);
        self.frames.clear();
        let mut rest = &message[..];
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Hears what has come; gives what `hear` says to what was heard.
    fn poll(&mut self, mut hear: impl FnMut(Heard<'_>, &mut Vec<u8>)) -> Result<(), Failure> {
        let mut buffer = [0; 64 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Err("the server has closed".into()),
            Ok(length) => self.received.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let mut at = 0;
        while let Some(head) = websocket::parse_head(&self.received[at..])? {
            let (start, end) = (at + head.head_bytes, at + head.head_bytes + head.payload_bytes as usize);
            let Some(mut message) = self.received.get(start..end) else { break };
            if head.opcode == Opcode::Close {
                return Err(format!("closed: {}", String::from_utf8_lossy(message.get(2..).unwrap_or_default())).into());
            }
            while let Some(frame) = native::next_frame(&mut message).map_err(|_| "a frame overruns its message")? {
                let heard = native::decode_event(frame).map_err(|_| "a frame does not have its form")?;
                if let Heard::Error { code, message, .. } | Heard::ResponseError { code, message, .. } = heard {
                    return Err(format!("refused: {code} {message}").into());
                }
                hear(heard, &mut self.frames);
            }
            at = end;
        }
        self.received.drain(..at);
        Ok(())
    }

    /// Looks at the socket until this was heard.
    fn wait(&mut self, mut is_it: impl FnMut(&Heard<'_>) -> bool) -> Result<(), Failure> {
        let (start, mut was_heard) = (Instant::now(), false);
        while !was_heard {
            self.poll(|heard, _| was_heard |= is_it(&heard))?;
            if start.elapsed() > PATIENCE {
                return Err(format!("no answer within {} s", PATIENCE.as_secs()).into());
            }
        }
        Ok(())
    }

    /// Asks, and waits until it is answered.
    fn ask(&mut self, ask: Ask<'_>) -> Result<(), Failure> {
        self.say(&Request { id: 2, ask });
        self.flush()?;
        self.wait(|heard| matches!(heard, Heard::Ok { id: 2, .. }))
    }

    /// Answers the requests that have come.
    fn respond(&mut self) -> Result<(), Failure> {
        self.poll(|heard, frames| {
            if let Heard::Requested { request, value, .. } = heard {
                let value = value.unwrap_or_default().into();
                native::put_request(frames, &Request { id: 0, ask: Ask::Respond { request, kind: BINARY, value } });
            }
        })?;
        self.flush()
    }
}

fn main() -> Result<(), Failure> {
    let flags = Flags::parse();
    if let Some(core) = flags.core {
        assert!(host::pin(core), "this thread cannot be pinned to core {core}");
    }
    one_at_a_time(&flags)?;
    many(&flags)
}

fn request<'a>(path: &'a str, value: &'a [u8]) -> Ask<'a> {
    Ask::Request { path: path.into(), timeout_ms: 10_000, kind: BINARY, value: value.into() }
}

fn one_at_a_time(flags: &Flags) -> Result<(), Failure> {
    let root = format!("load/requests/{}", std::process::id());
    let (topic, asked, value) = (format!("{root}/topic"), format!("{root}/asked"), vec![7; flags.payload]);
    let (mut asker, mut handler) = (Link::connect(flags.server)?, Link::connect(flags.server)?);
    let update = |verb| Ask::Update { path: (&*topic).into(), update: Update::new(verb, BINARY, &value) };
    asker.ask(update(Verb::AddAndSet))?;
    handler.ask(Ask::Subscribe { selector: (&*topic).into(), scope: "".into() })?;
    handler.ask(Ask::HandleRequests { handler: 1, path: (&*asked).into(), session_properties: Vec::new() })?;
    let times = || Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3);
    let (mut update_ns, mut request_ns) = (times()?, times()?);
    let end = Instant::now() + Duration::from_secs(flags.duration);
    while Instant::now() < end {
        let start = Instant::now();
        asker.say(&Request { id: 0, ask: update(Verb::Set) });
        asker.flush()?;
        handler.wait(|heard| matches!(heard, Heard::Value { .. }))?;
        update_ns.saturating_record(start.elapsed().as_nanos() as u64);
        let start = Instant::now();
        asker.say(&Request { id: 3, ask: request(&asked, &value) });
        asker.flush()?;
        let mut is_answered = false;
        while !is_answered {
            if start.elapsed() > PATIENCE {
                return Err(format!("no answer to a request within {} s", PATIENCE.as_secs()).into());
            }
            handler.respond()?;
            asker.poll(|heard, _| is_answered |= matches!(heard, Heard::Ok { id: 3, .. }))?;
        }
        request_ns.saturating_record(start.elapsed().as_nanos() as u64);
    }
    let us = |histogram: &Histogram<u64>, quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
    println!(
        "one at a time: update p50 {:.1} p99 {:.1} µs, request p50 {:.1} p99 {:.1} µs, ratio of p50 {:.2}",
        us(&update_ns, 0.5),
        us(&update_ns, 0.99),
        us(&request_ns, 0.5),
        us(&request_ns, 0.99),
        us(&request_ns, 0.5) / us(&update_ns, 0.5)
    );
    Ok(())
}

fn many(flags: &Flags) -> Result<(), Failure> {
    let (root, value) = (format!("load/requests/{}", std::process::id()), vec![7; flags.payload]);
    let mut pairs = Vec::new();
    for number in 0..flags.pairs {
        let (asker, mut handler) = (Link::connect(flags.server)?, Link::connect(flags.server)?);
        let path = format!("{root}/many/{number}");
        handler.ask(Ask::HandleRequests { handler: 1, path: (&*path).into(), session_properties: Vec::new() })?;
        pairs.push((asker, handler, path, 0, 9));
    }
    let (start, mut answered) = (Instant::now(), 0u64);
    while start.elapsed() < Duration::from_secs(flags.duration) {
        for (asker, handler, path, under_way, last_id) in &mut pairs {
            let mut came = 0;
            asker.poll(|heard, _| came += usize::from(matches!(heard, Heard::Ok { .. })))?;
            *under_way -= came;
            answered += came as u64;
            for _ in *under_way..flags.window {
                *last_id += 1;
                asker.say(&Request { id: *last_id, ask: request(path, &value) });
            }
            *under_way = flags.window;
            asker.flush()?;
            handler.respond()?;
        }
    }
    println!("{} pairs, {} under way in each: {:.0} answers/s", flags.pairs, flags.window, answered as f64 / start.elapsed().as_secs_f64());
    Ok(())
}
