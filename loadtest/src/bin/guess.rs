//! Somebody who guesses passwords: so many a second, each in a new connection, from many addresses of this host.
//!
//! Open loop: each connection is opened when it is due, makes its handshake, shows a wrong password and waits for what the server says to that; then it is closed.
//! How long it waits counts from when it was due. What is not answered when the time is over is given up. What this does to others is measured by a generator beside it.

use clap::Parser;
use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tidewire_loadtest::clock::{MILLISECOND_NS, SECOND_NS, now_ns};
use tidewire_loadtest::connection::{Connection, Inbound, Role, State};
use tidewire_loadtest::dialect::{Dialect, Event, Request};
use tidewire_loadtest::host;
use tidewire_loadtest::login::Login;
use tidewire_loadtest::plan::{Target, Transport};
use tidewire_loadtest::websocket::Upgrade;

/// Shows wrong passwords to a server on this host, and tells how they were answered.
#[derive(Parser)]
struct Flags {
    #[arg(long, default_value = "127.0.0.1:8080")]
    server: SocketAddr,
    /// Passwords a second.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,
    /// Seconds of guessing.
    #[arg(long, default_value_t = 10)]
    duration: u64,
    /// From so many addresses in turn, 127.0.1.1 and those behind it.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    sources: u32,
    /// In so many names in turn, guess-0 and those behind it.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    names: u64,
    /// In this name instead.
    #[arg(long)]
    principal: Option<String>,
    #[arg(long)]
    core: Option<usize>,
}

const READ_BYTES: usize = 16 * 1024;
const CONNECT_ID: u64 = 1;

/// What the server says to a wrong password.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    Refused,
    Later,
    LetIn,
}

struct Guess {
    connection: Connection,
    number: u64,
    due_ns: u64,
}

struct Guesser {
    flags: Flags,
    target: Target,
    poll: Poll,
    /// By token, of which each is used again.
    guesses: Vec<Option<Guess>>,
    free: Vec<usize>,
    buffer: Vec<u8>,
    scratch: Vec<u8>,
    shown: u64,
    refused_us: Histogram<u64>,
    later_us: Histogram<u64>,
    let_in: u64,
    failed: u64,
    first_failure: Option<String>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let flags = Flags::parse();
    host::raise_open_files_limit();
    host::sharpen_timers();
    if let Some(core) = flags.core {
        assert!(host::pin(core), "this thread cannot be pinned to core {core}");
    }
    let mut guesser = Guesser::new(flags)?;
    let taken_ns = guesser.run()?;
    guesser.tell(taken_ns as f64 / SECOND_NS as f64);
    if guesser.let_in > 0 {
        return Err("a wrong password was taken for right".into());
    }
    Ok(())
}

impl Guesser {
    fn new(flags: Flags) -> Result<Self, Box<dyn Error>> {
        let waits = || Histogram::new_with_bounds(1, 120_000_000, 3);
        let path = Dialect::Native.default_path().to_owned();
        Ok(Self {
            target: Target {
                address: flags.server,
                authority: flags.server.to_string(),
                transport: Transport::WebSocket { path },
                trust: None,
            },
            flags,
            poll: Poll::new()?,
            guesses: Vec::new(),
            free: Vec::new(),
            buffer: Vec::new(),
            scratch: Vec::new(),
            shown: 0,
            refused_us: waits()?,
            later_us: waits()?,
            let_in: 0,
            failed: 0,
            first_failure: None,
        })
    }

    /// How long it took, in nanoseconds.
    fn run(&mut self) -> Result<u64, Box<dyn Error>> {
        let (start_ns, rate) = (now_ns(), self.flags.rate);
        let (end_ns, due_ns) = (start_ns + self.flags.duration * SECOND_NS, |number: u64| start_ns + number * SECOND_NS / rate);
        let mut events = Events::with_capacity(1024);
        let mut opened = 0;
        while now_ns() < end_ns {
            while due_ns(opened) <= now_ns().min(end_ns) {
                self.open(opened, due_ns(opened));
                opened += 1;
            }
            self.poll.poll(&mut events, Some(Duration::from_nanos(MILLISECOND_NS / 4)))?;
            for event in &events {
                let Token(place) = event.token();
                let Some(mut guess) = self.guesses[place].take() else { continue };
                match self.go_on(&mut guess) {
                    Ok(None) => self.guesses[place] = Some(guess),
                    Ok(Some(said)) => self.note(said, guess.due_ns, place),
                    Err(failure) => self.fail(failure, place),
                }
            }
        }
        Ok(now_ns() - start_ns)
    }

    fn open(&mut self, number: u64, due_ns: u64) {
        let Transport::WebSocket { path } = &self.target.transport else { unreachable!("it is one") };
        let upgrade = Upgrade::new(&self.target.authority, path, Dialect::Native.subprotocol());
        let opened = Connection::open(&self.target, Role::Idle(0), Some(self.source(number)), Some(upgrade));
        let place = self.free.pop().unwrap_or(self.guesses.len());
        if place == self.guesses.len() {
            self.guesses.push(None);
        }
        let registered = opened.and_then(|mut connection| {
            let wanted = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut connection.stream, Token(place), wanted)?;
            Ok(connection)
        });
        match registered {
            Ok(connection) => self.guesses[place] = Some(Guess { connection, number, due_ns }),
            Err(error) => self.fail(error.to_string(), place),
        }
    }

    /// The next of the addresses.
    fn source(&self, number: u64) -> Ipv4Addr {
        let at = (number % u64::from(self.flags.sources)) as u32;
        // The last byte is never 0 nor 255.
        Ipv4Addr::from_bits(Ipv4Addr::new(127, 0, 1, 1).to_bits() + at / 254 * 256 + at % 254)
    }

    /// The socket is connected, or has something to read: what the server says, if it says it.
    fn go_on(&mut self, guess: &mut Guess) -> Result<Option<Said>, String> {
        let text = |error: std::io::Error| error.to_string();
        let Guess { connection, number, .. } = guess;
        connection.flush(now_ns()).map_err(text)?;
        let (length, _) = connection.read(&mut self.buffer, READ_BYTES).map_err(text)?;
        let mut start = 0;
        if let State::Upgrading(upgrade) = &connection.state {
            match upgrade.answer(&self.buffer[..length])? {
                None => return connection.keep(&self.buffer[..length]).map(|()| None),
                Some(used) => start = used,
            }
            connection.state = State::Connecting;
            let principal = self.flags.principal.clone().unwrap_or_else(|| format!("guess-{}", *number % self.flags.names));
            let login = Login { principal, password: format!("wrong-{number}") };
            let connect = Request::Connect { id: CONNECT_ID, name: "guess", capabilities: 0, login: &login };
            connection.request(Dialect::Native, &connect, &mut self.scratch);
            connection.flush(now_ns()).map_err(text)?;
            self.shown += 1;
        }
        let mut said = None;
        let used = connection.deframer().feed(Dialect::Native, &self.buffer[start..length], |inbound| {
            let now = match inbound {
                Inbound::Event(Event::Refused { .. }) => Said::Refused,
                Inbound::Event(Event::Later { .. }) => Said::Later,
                Inbound::Event(Event::Welcome { .. }) => Said::LetIn,
                _ => return,
            };
            said.get_or_insert(now);
        })?;
        connection.keep(&self.buffer[start + used..length])?;
        Ok(said)
    }

    fn note(&mut self, said: Said, due_ns: u64, place: usize) {
        let waited_us = (now_ns() - due_ns) / 1000;
        match said {
            Said::Refused => self.refused_us.saturating_record(waited_us),
            Said::Later => self.later_us.saturating_record(waited_us),
            Said::LetIn => self.let_in += 1,
        }
        self.free.push(place);
    }

    fn fail(&mut self, failure: String, place: usize) {
        self.failed += 1;
        self.first_failure.get_or_insert(failure);
        self.free.push(place);
    }

    fn tell(&self, seconds: f64) {
        let (refused, later) = (self.refused_us.len(), self.later_us.len());
        println!(
            "{} wrong passwords in {seconds:.2} s, {:.1}/s, from {} addresses",
            self.shown,
            self.shown as f64 / seconds,
            self.flags.sources
        );
        println!(
            "{refused} refused, {later} told to come later, {} let in, {} not answered yet, {} connections failed",
            self.let_in,
            self.guesses.iter().flatten().count(),
            self.failed
        );
        for (name, waits) in [("refused", &self.refused_us), ("told to come later", &self.later_us)] {
            let ms = |quantile: f64| waits.value_at_quantile(quantile) as f64 / 1000.0;
            println!("{name} after p50 {:.2} p99 {:.2} max {:.2} ms", ms(0.5), ms(0.99), ms(1.0));
        }
        if let Some(failure) = &self.first_failure {
            println!("the first that failed: {failure}");
        }
    }
}
