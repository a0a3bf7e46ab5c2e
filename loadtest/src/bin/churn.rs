//! Connections that come and go: how late a new one is served, and what they do to those who stay.
//!
//! Open loop: each is opened when it is due, makes its handshake, says CONNECT, subscribes to a topic of its own, stays until a second has passed and leaves. How long it
//! takes counts from when it was due. Whoever stays is measured by a generator beside this.

use clap::Parser;
use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};
use std::collections::VecDeque;
use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;
use tidewire_loadtest::clock::{MILLISECOND_NS, SECOND_NS, now_ns};
use tidewire_loadtest::dialect::{Dialect, Event, Request};
use tidewire_loadtest::host;
use tidewire_loadtest::login::{Login, LoginFlags};
use tidewire_loadtest::websocket::{self, Opcode, Upgrade};

/// Opens connections that subscribe and leave after a second.
#[derive(Parser)]
struct Flags {
    #[arg(long, default_value = "127.0.0.1:8080")]
    server: SocketAddr,
    /// Connections opened a second.
    #[arg(long, default_value_t = 2000)]
    rate: u64,
    /// Seconds of opening.
    #[arg(long, default_value_t = 10)]
    duration: u64,
    #[command(flatten)]
    login: LoginFlags,
    #[arg(long)]
    core: Option<usize>,
}

/// How long each stays.
const STAY_NS: u64 = SECOND_NS;
/// Who has not got all its answers by then never will.
const LATE_NS: u64 = 10 * SECOND_NS;
const SUBSCRIBE_ID: u64 = 2;

struct Visitor {
    stream: mio::net::TcpStream,
    upgrade: Upgrade,
    is_upgraded: bool,
    due_ns: u64,
    received: Vec<u8>,
    served: bool,
}

struct Churn {
    poll: Poll,
    login: Login,
    /// By token, of which each is used once more when its visitor has left.
    visitors: Vec<Option<Visitor>>,
    free: Vec<usize>,
    /// In the order in which they were opened.
    present: VecDeque<usize>,
    served_us: Histogram<u64>,
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
    let mut churn = Churn {
        poll: Poll::new()?,
        login: flags.login.read()?,
        visitors: Vec::new(),
        free: Vec::new(),
        present: VecDeque::new(),
        served_us: Histogram::new_with_bounds(1, 60_000_000, 3)?,
        failed: 0,
        first_failure: None,
    };
    churn.run(&flags)?;
    let ms = |quantile: f64| churn.served_us.value_at_quantile(quantile) as f64 / 1000.0;
    println!(
        "{} connections at {}/s, {} failed; served after p50 {:.2} p99 {:.2} p99.9 {:.2} max {:.2} ms",
        churn.served_us.len() + churn.failed,
        flags.rate,
        churn.failed,
        ms(0.5),
        ms(0.99),
        ms(0.999),
        ms(1.0)
    );
    if let Some(failure) = churn.first_failure {
        return Err(format!("first failure: {failure}").into());
    }
    Ok(())
}

impl Churn {
    fn run(&mut self, flags: &Flags) -> Result<(), Box<dyn Error>> {
        let (start_ns, total) = (now_ns(), flags.rate * flags.duration);
        let mut events = Events::with_capacity(1024);
        let mut opened = 0;
        while opened < total || !self.present.is_empty() {
            let now = now_ns();
            while opened < total && start_ns + opened * SECOND_NS / flags.rate <= now {
                self.open(flags.server, start_ns + opened * SECOND_NS / flags.rate)?;
                opened += 1;
            }
            self.poll.poll(&mut events, Some(Duration::from_nanos(MILLISECOND_NS / 4)))?;
            for event in &events {
                let Token(number) = event.token();
                if let Some(mut visitor) = self.visitors[number].take() {
                    let result = self.go_on(&mut visitor);
                    self.visitors[number] = Some(visitor);
                    if let Err(failure) = result {
                        self.fail(number, failure);
                    }
                }
            }
            self.let_go(now_ns());
        }
        Ok(())
    }

    fn open(&mut self, server: SocketAddr, due_ns: u64) -> Result<(), Box<dyn Error>> {
        let mut stream = mio::net::TcpStream::connect(server)?;
        let number = self.free.pop().unwrap_or(self.visitors.len());
        if number == self.visitors.len() {
            self.visitors.push(None);
        }
        self.poll.registry().register(&mut stream, Token(number), Interest::READABLE | Interest::WRITABLE)?;
        let upgrade = Upgrade::new(&server.to_string(), Dialect::Native.default_path(), Dialect::Native.subprotocol());
        self.visitors[number] = Some(Visitor { stream, upgrade, is_upgraded: false, due_ns, received: Vec::new(), served: false });
        self.present.push_back(number);
        Ok(())
    }

    /// The socket is connected, or has something to read.
    fn go_on(&mut self, visitor: &mut Visitor) -> Result<(), String> {
        let text = |error: std::io::Error| error.to_string();
        if !visitor.upgrade.request.is_empty() {
            match visitor.stream.write(&visitor.upgrade.request) {
                Ok(written) if written == visitor.upgrade.request.len() => visitor.upgrade.request = Vec::new(),
                Ok(_) => return Err("a new socket has no room".to_owned()),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => return Ok(()),
                Err(error) => return Err(text(error)),
            }
        }
        let mut buffer = [0; 4096];
        loop {
            match visitor.stream.read(&mut buffer) {
                Ok(0) => return Err("the server has closed".to_owned()),
                Ok(length) => visitor.received.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(text(error)),
            }
        }
        if !visitor.is_upgraded {
            let Some(used) = visitor.upgrade.answer(&visitor.received)? else { return Ok(()) };
            visitor.received.drain(..used);
            visitor.is_upgraded = true;
            visitor.stream.write_all(&requests(visitor.due_ns, &self.login)).map_err(text)?;
        }
        if !visitor.served && is_served(&visitor.received)? {
            visitor.served = true;
            self.served_us.saturating_record((now_ns() - visitor.due_ns) / 1000);
        }
        Ok(())
    }

    fn fail(&mut self, number: usize, failure: String) {
        let Some(visitor) = self.visitors[number].take() else { return };
        self.failed += u64::from(!visitor.served);
        self.first_failure.get_or_insert(failure);
    }

    /// Who has been there for long enough leaves.
    fn let_go(&mut self, now: u64) {
        while let Some(&number) = self.present.front() {
            match &self.visitors[number] {
                Some(visitor) if now < visitor.due_ns + if visitor.served { STAY_NS } else { LATE_NS } => return,
                Some(visitor) if !visitor.served => self.fail(number, format!("no answer within {} s", LATE_NS / SECOND_NS)),
                _ => self.visitors[number] = None,
            }
            self.present.pop_front();
            self.free.push(number);
        }
    }
}

/// CONNECT, and SUBSCRIBE to a topic of its own.
fn requests(due_ns: u64, login: &Login) -> Vec<u8> {
    let mut payload = Vec::new();
    Dialect::Native.encode(&Request::Connect { id: 1, name: "churn", capabilities: 0, login }, &mut payload);
    Dialect::Native.encode(&Request::Subscribe { id: SUBSCRIBE_ID, selector: &format!("load/churn/{due_ns}") }, &mut payload);
    let mut message = Vec::new();
    websocket::encode_frame(Opcode::Binary, &payload, (due_ns as u32).to_ne_bytes(), &mut message);
    message
}

/// Whether the answer to SUBSCRIBE has come.
fn is_served(bytes: &[u8]) -> Result<bool, String> {
    let mut at = 0;
    while let Some(head) = websocket::parse_head(&bytes[at..])? {
        let (start, end) = (at + head.head_bytes, at + head.head_bytes + head.payload_bytes as usize);
        let Some(mut payload) = bytes.get(start..end) else { return Ok(false) };
        while let Some((event, length)) = Dialect::Native.parse(payload).map_err(|malformed| malformed.0.to_owned())? {
            match event {
                Event::Accepted { id: SUBSCRIBE_ID } => return Ok(true),
                Event::Refused { code, message, .. } => return Err(format!("{code}: {message}")),
                Event::Later { wait_ms } => return Err(format!("come again in {wait_ms} ms")),
                _ => payload = &payload[length..],
            }
        }
        at = end;
    }
    Ok(false)
}
