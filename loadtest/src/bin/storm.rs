//! Sessions that all lose their connections at once and come back: how long until each goes on, and whether anything was lost or doubled.
//!
//! Every session is subscribed to two topics: one with CONFLATION off, of which each value has to come once and in order, and another, of which the newest has to.
//! Topics are updated all the while, in turn. All connections are reset in one moment and made anew at once, and each session says how many messages it has processed.

use clap::Parser;
use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::collections::VecDeque;
use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::{self, Ask, Heard, Request, Update, Verb};
use tidewire_loadtest::clock::{MILLISECOND_NS, SECOND_NS, now_ns};
use tidewire_loadtest::host;
use tidewire_loadtest::websocket::{self, Opcode, Upgrade};
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::{Message, WebSocket};

/// Resets all connections at once, and goes on with every session.
#[derive(Clone, Parser)]
struct Flags {
    #[arg(long, default_value = "127.0.0.1:8080")]
    server: SocketAddr,
    #[arg(long, default_value_t = 10_000)]
    sessions: usize,
    /// Half of them with CONFLATION off.
    #[arg(long, default_value_t = 2_000)]
    topics: usize,
    /// Updates a second, to all topics together.
    #[arg(long, default_value_t = 20_000)]
    rate: u64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 125)]
    payload: usize,
    /// Seconds of updates before the connections break, and after all sessions have gone on.
    #[arg(long, default_value_t = 3)]
    duration: u64,
    /// Instead: so many times the sessions begin, subscribe, and lose their connections for good; tells what one that is away costs the server.
    #[arg(long, default_value_t = 0, requires = "server_pid")]
    away_rounds: usize,
    /// They subscribe to nothing.
    #[arg(long, requires = "away_rounds")]
    bare: bool,
    /// The server's process, for its memory.
    #[arg(long)]
    server_pid: Option<u32>,
    #[arg(long)]
    core: Option<usize>,
}

type Failure = Box<dyn Error + Send + Sync>;

/// Sockets that are opened and have no answer yet.
const OPENING_MAX: usize = 512;
/// Updates in one message of the publisher's.
const BATCH: u64 = 200;
/// Messages that are processed before the server is told.
const UNTOLD_MAX: u64 = 100;
/// All this has to end some day.
const PATIENCE: Duration = Duration::from_secs(60);

/// The two topics of a session: the number of its topic on the server, and the last of its values that came.
#[derive(Clone, Copy, Default)]
struct Topic {
    id: u64,
    last: u64,
    /// Values that were missing, or came again.
    faults: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Upgrading,
    Connecting,
    Open,
}

struct Session {
    stream: Option<TcpStream>,
    state: State,
    upgrade: Option<Upgrade>,
    received: Vec<u8>,
    token: String,
    processed: u64,
    told: u64,
    /// Of the pair: CONFLATION off, and the other.
    topics: [Topic; 2],
    subscribed: usize,
    gaps: u64,
}

struct Storm {
    flags: Flags,
    poll: Poll,
    sessions: Vec<Session>,
    to_open: VecDeque<usize>,
    opening: usize,
    open: usize,
    went_on_ms: Histogram<u64>,
    broke_ns: u64,
    new_sessions: usize,
    put_off: usize,
}

fn main() -> Result<(), Failure> {
    let flags = Flags::parse();
    host::raise_open_files_limit();
    if let Some(core) = flags.core {
        assert!(host::pin(core), "this thread cannot be pinned to core {core}");
    }
    let mut storm = Storm::new(flags.clone())?;
    create_topics(&flags)?;
    if flags.away_rounds > 0 {
        return storm.leave_for_good();
    }
    storm.open_all()?;
    storm.run_until("every session is subscribed", |storm| storm.sessions.iter().all(|session| session.subscribed == 2))?;
    let (published, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let publisher = {
        let (flags, published, is_over) = (flags.clone(), published.clone(), is_over.clone());
        std::thread::spawn(move || publish(&flags, &published, &is_over))
    };
    storm.run_for(Duration::from_secs(flags.duration))?;
    let behind = storm.behind(published.load(Ordering::Relaxed));
    storm.break_all()?;
    storm.run_until("every session goes on", |storm| storm.open == storm.sessions.len())?;
    let all_ms = (now_ns() - storm.broke_ns) / MILLISECOND_NS;
    // What was published when the last one went on has to have come to all.
    let then = published.load(Ordering::Relaxed);
    storm.run_until("every session has caught up", |storm| storm.behind_of(then) == 0)?;
    let caught_up_ms = (now_ns() - storm.broke_ns) / MILLISECOND_NS;
    storm.run_for(Duration::from_secs(flags.duration))?;
    is_over.store(true, Ordering::Relaxed);
    let late = publisher.join().map_err(|_| "the publisher failed")??;
    let all = published.load(Ordering::Relaxed);
    storm.run_until("the last values came", |storm| storm.behind_of(all) == 0)?;
    storm.tell(all, behind, [all_ms, caught_up_ms], late)
}

/// The path of a topic of this run: pairs stand beside each other.
fn path(topic: u64) -> String {
    format!("load/storm/{}/{topic}", std::process::id())
}

/// How many values the topic has when so many updates were made in turn.
fn values_of(topic: u64, topics: u64, published: u64) -> u64 {
    published / topics + u64::from(published % topics > topic)
}

type Link = WebSocket<std::net::TcpStream>;

fn connect(server: SocketAddr) -> Result<Link, Failure> {
    let mut request = format!("ws://{server}/tidewire").into_client_request()?;
    request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("tidewire.1"));
    let stream = std::net::TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    let (mut socket, _) = tungstenite::client(request, stream)?;
    let mut connect = Vec::new();
    native::put_request(&mut connect, &Request { id: 1, ask: Ask::connect("storm", 0) });
    socket.send(Message::Binary(connect.into()))?;
    while !matches!(socket.read()?, Message::Binary(_)) {}
    Ok(socket)
}

fn create_topics(flags: &Flags) -> Result<(), Failure> {
    let mut link = connect(flags.server)?;
    for topic in 0..flags.topics as u64 {
        let properties = if topic % 2 == 0 { vec![("CONFLATION".into(), "off".into())] } else { Vec::new() };
        let update = Update { properties, ..Update::new(Verb::Add, ValueType::Binary as u8, b"") };
        let mut message = Vec::new();
        native::put_request(&mut message, &Request { id: 2, ask: Ask::Update { path: path(topic).into(), update } });
        link.send(Message::Binary(message.into()))?;
        while !matches!(link.read()?, Message::Binary(_)) {}
    }
    Ok(())
}

/// Updates the topics in turn, by the clock; gives how late it was at most, in milliseconds.
fn publish(flags: &Flags, published: &AtomicU64, is_over: &AtomicBool) -> Result<u64, Failure> {
    let mut link = connect(flags.server)?;
    let (start_ns, topics) = (now_ns(), flags.topics as u64);
    let (mut count, mut late_ns) = (0, 0);
    let mut value = vec![0; flags.payload.max(8)];
    while !is_over.load(Ordering::Relaxed) {
        let due_ns = start_ns + (count + BATCH) * SECOND_NS / flags.rate;
        let now = now_ns();
        if now < due_ns {
            std::thread::sleep(Duration::from_nanos(due_ns - now));
        }
        late_ns = late_ns.max(now_ns().saturating_sub(due_ns));
        let mut message = Vec::new();
        for update in count..count + BATCH {
            value[..8].copy_from_slice(&(update / topics + 1).to_be_bytes());
            let update_ask = Update::new(Verb::Set, ValueType::Binary as u8, &value);
            native::put_request(
                &mut message,
                &Request { id: 0, ask: Ask::Update { path: path(update % topics).into(), update: update_ask } },
            );
        }
        count += BATCH;
        link.send(Message::Binary(message.into()))?;
        published.store(count, Ordering::Relaxed);
    }
    Ok(late_ns / MILLISECOND_NS)
}

impl Storm {
    fn new(flags: Flags) -> Result<Self, Failure> {
        let session = || Session {
            stream: None,
            state: State::Closed,
            upgrade: None,
            received: Vec::new(),
            token: String::new(),
            processed: 0,
            told: 0,
            topics: [Topic::default(); 2],
            subscribed: 0,
            gaps: 0,
        };
        let sessions = (0..flags.sessions).map(|_| session()).collect();
        Ok(Self {
            poll: Poll::new()?,
            sessions,
            to_open: VecDeque::new(),
            opening: 0,
            open: 0,
            went_on_ms: Histogram::new_with_bounds(1, 600_000, 3)?,
            broke_ns: 0,
            new_sessions: 0,
            put_off: 0,
            flags,
        })
    }

    fn open_all(&mut self) -> Result<(), Failure> {
        self.to_open.extend(0..self.sessions.len());
        self.open_more()
    }

    /// What a session costs whose client does not come back. What connections cost is used again by those of the next round.
    fn leave_for_good(&mut self) -> Result<(), Failure> {
        let pid = self.flags.server_pid.expect("the flags ask for it");
        let resident = || host::resident_bytes(pid).ok_or("the server's memory cannot be read");
        let mut figures = Vec::new();
        for round in 0..=self.flags.away_rounds {
            self.open_all()?;
            self.run_until("every session is subscribed", |storm| storm.sessions.iter().all(|session| session.subscribed == 2))?;
            // Nothing waits to be sent again.
            for session in &mut self.sessions {
                let messages = session.processed;
                session.say(&Request { id: 0, ask: Ask::Processed { messages } })?;
            }
            self.run_for(Duration::from_secs(1))?;
            self.reset_all()?;
            for session in &mut self.sessions {
                (session.token, session.processed, session.told, session.subscribed) = (String::new(), 0, 0, 0);
            }
            self.run_for(Duration::from_secs(1))?;
            // The first round is for what the server keeps of connections.
            if round == 0 || round == self.flags.away_rounds {
                figures.push(resident()?);
            }
        }
        let count = (self.flags.away_rounds * self.sessions.len()) as u64;
        println!(
            "{count} sessions are away, each with {} subscriptions: {} bytes each",
            if self.flags.bare { 0 } else { 2 },
            figures[1].saturating_sub(figures[0]) / count
        );
        Ok(())
    }

    /// Resets every connection, and begins to make all anew.
    fn break_all(&mut self) -> Result<(), Failure> {
        self.reset_all()?;
        self.broke_ns = now_ns();
        self.open_all()
    }

    fn reset_all(&mut self) -> Result<(), Failure> {
        for session in &mut self.sessions {
            let stream = session.stream.take().expect("every session is open");
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
            (session.state, session.upgrade) = (State::Closed, None);
            // A message that has not come whole was not processed.
            session.received = Vec::new();
        }
        self.open = 0;
        Ok(())
    }

    fn open_more(&mut self) -> Result<(), Failure> {
        while self.opening < OPENING_MAX
            && let Some(number) = self.to_open.pop_front()
        {
            let mut stream = TcpStream::connect(self.flags.server)?;
            self.poll.registry().register(&mut stream, Token(number), Interest::READABLE | Interest::WRITABLE)?;
            let session = &mut self.sessions[number];
            let upgrade = Upgrade::new(&self.flags.server.to_string(), "/tidewire", Some("tidewire.1"));
            (session.stream, session.upgrade, session.state) = (Some(stream), Some(upgrade), State::Upgrading);
            self.opening += 1;
        }
        Ok(())
    }

    fn run_for(&mut self, duration: Duration) -> Result<(), Failure> {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            self.turn()?;
        }
        Ok(())
    }

    fn run_until(&mut self, what: &str, mut is_so: impl FnMut(&Self) -> bool) -> Result<(), Failure> {
        let end = Instant::now() + PATIENCE;
        while !is_so(self) {
            if Instant::now() > end {
                let [subscribed, open] = [self.sessions.iter().filter(|session| session.subscribed == 2).count(), self.open];
                return Err(format!("not within {} s: {what} ({subscribed} subscribed, {open} open)", PATIENCE.as_secs()).into());
            }
            self.turn()?;
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<(), Failure> {
        let mut events = Events::with_capacity(1024);
        self.poll.poll(&mut events, Some(Duration::from_millis(1)))?;
        for event in &events {
            let Token(number) = event.token();
            self.go_on(number).map_err(|failure| format!("session {number}: {failure}"))?;
        }
        self.open_more()
    }

    /// The session's socket is connected, or has something to read.
    fn go_on(&mut self, number: usize) -> Result<(), Failure> {
        let session = &mut self.sessions[number];
        let Some(stream) = session.stream.as_mut() else { return Ok(()) };
        if let Some(upgrade) = session.upgrade.as_mut().filter(|upgrade| !upgrade.request.is_empty()) {
            match stream.write(&upgrade.request) {
                Ok(written) if written == upgrade.request.len() => upgrade.request = Vec::new(),
                Ok(_) => return Err("a new socket has no room".into()),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        let mut buffer = [0; 16 << 10];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return Err("the server has closed".into()),
                Ok(length) => session.received.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        if session.state == State::Upgrading {
            let upgrade = session.upgrade.as_ref().expect("it is being upgraded");
            let Some(used) = upgrade.answer(&session.received)? else { return Ok(()) };
            session.received.drain(..used);
            session.upgrade = None;
            session.state = State::Connecting;
            let mut ask = Ask::connect("storm", 0);
            if let Ask::Connect { resume_ms, token, processed, .. } = &mut ask {
                (*resume_ms, *token, *processed) = (60_000, session.token.clone().into(), session.processed);
            }
            session.say(&Request { id: 1, ask })?;
        }
        self.hear(number)
    }

    /// Reads the messages that have come whole.
    fn hear(&mut self, number: usize) -> Result<(), Failure> {
        let mut received = std::mem::take(&mut self.sessions[number].received);
        let mut at = 0;
        while let Some(head) = websocket::parse_head(&received[at..])? {
            let (start, end) = (at + head.head_bytes, at + head.head_bytes + head.payload_bytes as usize);
            let Some(mut message) = received.get(start..end) else { break };
            if head.opcode == Opcode::Close {
                return Err(format!("closed: {}", String::from_utf8_lossy(message.get(2..).unwrap_or_default())).into());
            }
            let was_open = self.sessions[number].state == State::Open;
            while let Some(frame) = native::next_frame(&mut message).map_err(|_| "a frame overruns its message")? {
                let heard = native::decode_event(frame).map_err(|_| "a frame does not have its form")?;
                self.handle(number, heard)?;
            }
            self.sessions[number].processed += u64::from(was_open);
            at = end;
        }
        let session = &mut self.sessions[number];
        received.drain(..at);
        session.received = received;
        if session.processed - session.told >= UNTOLD_MAX {
            session.told = session.processed;
            let messages = session.processed;
            session.say(&Request { id: 0, ask: Ask::Processed { messages } })?;
        }
        Ok(())
    }

    fn handle(&mut self, number: usize, heard: Heard<'_>) -> Result<(), Failure> {
        let topics = self.flags.topics as u64;
        let session = &mut self.sessions[number];
        match heard {
            Heard::Welcome { token, limits, .. } => {
                session.state = State::Open;
                session.token = token.to_owned();
                let is_new = !limits.iter().any(|(tag, _)| *tag == 13);
                (self.opening, self.open) = (self.opening - 1, self.open + 1);
                if self.broke_ns > 0 {
                    self.went_on_ms.saturating_record((now_ns() - self.broke_ns) / MILLISECOND_NS);
                    self.new_sessions += usize::from(is_new);
                }
                if self.flags.bare {
                    session.subscribed = 2;
                } else if is_new {
                    let first = number as u64 % (topics / 2) * 2;
                    for (id, topic) in [(2, first), (3, first + 1)] {
                        session.say(&Request { id, ask: Ask::Subscribe { selector: path(topic).into(), scope: "".into() } })?;
                    }
                }
            }
            Heard::Later { .. } => self.put_off += 1,
            Heard::Ok { id: 2 | 3, .. } => session.subscribed += 1,
            Heard::Error { code, message, .. } => return Err(format!("{code}: {message}").into()),
            Heard::Subscribed { topic, path: at, .. } => {
                let of_pair = at.rsplit('/').next().and_then(|last| last.parse::<u64>().ok()).ok_or("a topic of somebody else")? % 2;
                session.topics[of_pair as usize].id = topic.0;
            }
            Heard::Gap { .. } => session.gaps += 1,
            Heard::Value { topic, value } => {
                let value = u64::from_be_bytes(*value.first_chunk().unwrap_or(&[0; 8]));
                let of_pair = usize::from(session.topics[1].id == topic.0);
                let Topic { last, faults, .. } = &mut session.topics[of_pair];
                let is_next = if of_pair == 0 { value == *last + 1 } else { value > *last };
                *faults += u64::from(value > 0 && !is_next);
                *last = value;
            }
            _ => {}
        }
        Ok(())
    }

    /// How many topics of sessions are not at what was published.
    fn behind_of(&self, published: u64) -> usize {
        let topics = self.flags.topics as u64;
        let is_behind = |number: usize, session: &Session| {
            let first = number as u64 % (topics / 2) * 2;
            (0..2).filter(|at| session.topics[*at].last < values_of(first + *at as u64, topics, published)).count()
        };
        self.sessions.iter().enumerate().map(|(number, session)| is_behind(number, session)).sum()
    }

    /// The most values that any session is behind.
    fn behind(&self, published: u64) -> u64 {
        let topics = self.flags.topics as u64;
        let most = self.sessions.iter().enumerate().map(|(number, session)| {
            let first = number as u64 % (topics / 2) * 2;
            values_of(first, topics, published).saturating_sub(session.topics[0].last)
        });
        most.max().unwrap_or(0)
    }

    fn tell(&self, published: u64, behind: u64, [all_ms, caught_up_ms]: [u64; 2], late_ms: u64) -> Result<(), Failure> {
        let sum = |of: fn(&Session) -> u64| self.sessions.iter().map(of).sum::<u64>();
        let faults = sum(|session| session.topics[0].faults + session.topics[1].faults);
        let (p50, p99) = (self.went_on_ms.value_at_quantile(0.5), self.went_on_ms.value_at_quantile(0.99));
        println!(
            "{} sessions broke at once; went on after p50 {p50} p99 {p99} all {all_ms} ms, all caught up after {caught_up_ms} ms; {published} updates, {faults} values lost, doubled or out of order, {} gaps, {} began anew, {} put off",
            self.sessions.len(),
            sum(|session| session.gaps),
            self.new_sessions,
            self.put_off,
        );
        println!("before: at most {behind} values behind; the publisher was at most {late_ms} ms late");
        if faults > 0 || self.new_sessions > 0 { Err("something was lost, doubled, or began anew".into()) } else { Ok(()) }
    }
}

impl Session {
    fn say(&mut self, request: &Request<'_>) -> Result<(), Failure> {
        let (mut payload, mut message) = (Vec::new(), Vec::new());
        native::put_request(&mut payload, request);
        websocket::encode_frame(Opcode::Binary, &payload, [1, 2, 3, 4], &mut message);
        Ok(self.stream.as_mut().expect("who says something has a connection").write_all(&message)?)
    }
}
