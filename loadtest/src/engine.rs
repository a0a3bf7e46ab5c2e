//! The loop: one thread, all connections, no blocking.
//!
//! `turn` is one round: publish what is due, wait for sockets, read them, keep sessions alive. What is
//! due goes out between any two sockets too, so a round with a lot to read delays no publication.

mod inbound;
mod publishing;

pub use publishing::Publishing;

use crate::clock::{MILLISECOND_NS, SECOND_NS, now_ns};
use crate::connection::{Connection, ReadEnd, Role, State};
use crate::dialect::Request;
use crate::failure::Failure;
use crate::in_flight::InFlight;
use crate::plan::{Plan, Transport};
use crate::record::Record;
use crate::websocket::Upgrade;
use inbound::Shared;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// The most that one read takes: enough to leave the kernel rarely, small enough for the L2 cache.
const READ_BYTES: usize = 256 * 1024;
const EVENTS_MAX: usize = 1024;
/// Within this time of an update the loop does not sleep: waking up would take longer.
const SPIN_NS: u64 = 60_000;
const SLEEP_NS_MAX: u64 = 20 * MILLISECOND_NS;
/// Connections that are being set up at once; more would only stand in the server's backlog.
const OPENING_MAX: usize = 256;
/// How long the set-up of a connection may take.
const OPEN_NS_MAX: u64 = 30 * SECOND_NS;
/// Requests to create or remove topics that are under way at once.
const ASKED_MAX: usize = 256;
const TIMER: Token = Token(usize::MAX - 1);

/// All connections of a run. Use in order: `open` by role, `create_topics`, then `publish` and
/// `turn` until all is there, `remove_topics`.
pub struct Engine {
    poll: Poll,
    timer: OwnedFd,
    timer_ns: u64,
    connections: Vec<Connection>,
    buffer: Vec<u8>,
    encoded: Vec<u8>,
    again: Vec<usize>,
    source: u8,
    swept: usize,
    swept_ns: u64,
    opening: usize,
    pub shared: Shared,
    pub publishing: Option<Publishing>,
    publishers: Vec<usize>,
    /// Publishers that were given something in this round.
    touched: Vec<usize>,
    /// Connections that ended, by reason.
    pub closed: BTreeMap<String, u64>,
}

impl Engine {
    pub fn new(plan: &Plan) -> Result<Self, Failure> {
        let poll = Poll::new().map_err(|error| Failure::Connection(format!("no epoll: {error}")))?;
        // SAFETY: the descriptor is new and owned by nobody else.
        let timer = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        if timer < 0 {
            return Err(Failure::Connection(format!("no timer: {}", io::Error::last_os_error())));
        }
        // SAFETY: as above; `timer` is a valid descriptor.
        let timer = unsafe { OwnedFd::from_raw_fd(timer) };
        poll.registry()
            .register(&mut SourceFd(&timer.as_raw_fd()), TIMER, Interest::READABLE)
            .map_err(|error| Failure::Connection(format!("no timer in epoll: {error}")))?;
        Ok(Self {
            poll,
            timer,
            timer_ns: 0,
            connections: Vec::with_capacity(plan.connections()),
            buffer: vec![0; READ_BYTES + 64 * 1024],
            encoded: Vec::new(),
            again: Vec::new(),
            source: 0,
            swept: 0,
            swept_ns: 0,
            opening: 0,
            shared: Shared::new(plan),
            publishing: None,
            publishers: Vec::new(),
            touched: Vec::new(),
            closed: BTreeMap::new(),
        })
    }

    pub fn record(&mut self) -> &mut Record {
        &mut self.shared.record
    }

    /// Opens `count` connections at the plan's rate and waits until all have what they asked for.
    pub fn open(&mut self, plan: &Plan, count: usize, role: impl Fn(usize) -> Role) -> Result<(), Failure> {
        let start_ns = now_ns();
        let mut progress_ns = start_ns;
        let mut opened = 0;
        while opened < count || self.opening > 0 {
            let now = now_ns();
            let due = ((now - start_ns) as f64 / SECOND_NS as f64 * plan.ramp_per_second) as usize + 1;
            while opened < count.min(due) && self.opening < OPENING_MAX {
                self.open_one(plan, role(opened))?;
                opened += 1;
                progress_ns = now;
            }
            let opening = self.opening;
            self.turn(plan, if opened < count { MILLISECOND_NS } else { SLEEP_NS_MAX })?;
            if self.opening != opening {
                progress_ns = now;
            }
            self.check_setup()?;
            if now - progress_ns > OPEN_NS_MAX {
                return Err(Failure::Connection(format!(
                    "{} of {opened} connections got no answer from {} within {} s",
                    self.opening,
                    plan.flags.url.join(", "),
                    OPEN_NS_MAX / SECOND_NS
                )));
            }
        }
        Ok(())
    }

    fn open_one(&mut self, plan: &Plan, role: Role) -> Result<(), Failure> {
        let index = self.connections.len();
        let target = plan.target(role == Role::Publisher, index);
        let failed = |error: io::Error| Failure::Connection(format!("cannot connect to {}: {error}", target.authority));
        let mut connection = loop {
            let upgrade = match &target.transport {
                Transport::WebSocket { path } => Some(Upgrade::new(&target.authority, path, plan.dialect.subprotocol())),
                Transport::Tcp => None,
            };
            let spread = target.address.ip().is_loopback() && (plan.flags.sources > 1 || self.source > 0);
            let source = spread.then(|| Ipv4Addr::new(127, 0, 0, 1 + self.source + (index % usize::from(plan.flags.sources)) as u8));
            match Connection::open(target, role, source, upgrade) {
                Ok(connection) => break connection,
                // The ports of this source address are used up; the next one has its own.
                Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable && self.source < 8 && target.address.ip().is_loopback() => {
                    self.source += 1;
                }
                Err(error) => return Err(failed(error)),
            }
        };
        self.poll.registry().register(&mut connection.stream, Token(index), Interest::READABLE | Interest::WRITABLE).map_err(failed)?;
        if role == Role::Publisher {
            self.publishers.push(index);
            connection.in_flight = plan.dialect.acknowledges_deliveries().then(|| Box::new(InFlight::new(u16::MAX)));
        }
        if target.transport == Transport::Tcp {
            inbound::greet(plan, &mut connection, index, &mut self.encoded);
        }
        self.connections.push(connection);
        self.opening += 1;
        Ok(())
    }

    /// The first thing that went wrong while connections are set up ends the run.
    fn check_setup(&mut self) -> Result<(), Failure> {
        match self.shared.refused.take() {
            Some(failure) => Err(failure),
            None => match self.closed.first_key_value() {
                Some((reason, _)) => Err(Failure::Connection(format!("a connection failed during set-up: {reason}"))),
                None => Ok(()),
            },
        }
    }

    /// One round of the loop; sleeps at most `sleep_ns`.
    pub fn turn(&mut self, plan: &Plan, sleep_ns: u64) -> Result<(), Failure> {
        let mut events = std::mem::replace(&mut self.shared.events, Events::with_capacity(0));
        let now = self.publish_due(now_ns())?;
        let timeout = self.timeout(plan, now, sleep_ns);
        match self.poll.poll(&mut events, Some(timeout)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                return Err(Failure::Connection(format!("epoll: {error}")));
            }
            _ => {}
        }
        let again = std::mem::take(&mut self.again);
        for index in again {
            self.handle_readable(plan, index)?;
        }
        for event in events.iter() {
            if event.token() == TIMER {
                self.clear_timer();
                continue;
            }
            let index = event.token().0;
            if event.is_writable() {
                self.handle_writable(index);
            }
            if event.is_readable() || event.is_error() {
                self.handle_readable(plan, index)?;
            }
        }
        self.shared.events = events;
        self.sweep(plan, now);
        Ok(())
    }

    /// How long to wait for sockets: not at all close to the next update, else until it or `sleep_ns`.
    fn timeout(&mut self, plan: &Plan, now: u64, sleep_ns: u64) -> Duration {
        if plan.flags.busy_poll || !self.again.is_empty() {
            return Duration::ZERO;
        }
        match self.publishing.as_ref().and_then(Publishing::next_due_ns) {
            Some(due) if due <= now + SPIN_NS => return Duration::ZERO,
            // epoll counts in milliseconds; what is finer goes through the timer.
            Some(due) if due < now + sleep_ns => self.set_timer(due - SPIN_NS / 2),
            _ => {}
        }
        Duration::from_nanos(sleep_ns)
    }

    fn set_timer(&mut self, at_ns: u64) {
        if self.timer_ns == at_ns {
            return;
        }
        let time = libc::timespec { tv_sec: (at_ns / SECOND_NS) as i64, tv_nsec: (at_ns % SECOND_NS) as i64 };
        let once = libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: time };
        // SAFETY: the descriptor is a timer and `once` a valid time.
        unsafe { libc::timerfd_settime(self.timer.as_raw_fd(), libc::TFD_TIMER_ABSTIME, &once, std::ptr::null_mut()) };
        self.timer_ns = at_ns;
    }

    fn clear_timer(&mut self) {
        let mut count = [0u8; 8];
        // SAFETY: the descriptor is open and the buffer has eight bytes.
        unsafe { libc::read(self.timer.as_raw_fd(), count.as_mut_ptr().cast(), 8) };
        self.timer_ns = 0;
    }

    fn handle_writable(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if connection.is_closed() || connection.pending_bytes() == 0 {
            return;
        }
        if let Err(error) = connection.flush(now_ns()) {
            self.close(index, error.to_string());
        }
    }

    fn handle_readable(&mut self, plan: &Plan, index: usize) -> Result<(), Failure> {
        let connection = &mut self.connections[index];
        if connection.is_closed() {
            return Ok(());
        }
        let (length, end) = match connection.read(&mut self.buffer, READ_BYTES) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.close(index, "the server closed without a reason".to_owned());
                return Ok(());
            }
            Err(error) => {
                self.close(index, error.to_string());
                return Ok(());
            }
        };
        let now = now_ns();
        if matches!(end, ReadEnd::Full) {
            self.again.push(index);
        }
        let was_opening = !matches!(connection.state, State::Ready);
        let outcome = self.shared.handle_bytes(plan, connection, index, &self.buffer[..length], now, &mut self.encoded);
        if let Err(reason) = outcome {
            self.close(index, reason);
            return Ok(());
        }
        if connection.pending_bytes() > 0
            && let Err(error) = connection.flush(now)
        {
            self.close(index, error.to_string());
            return Ok(());
        }
        if was_opening && matches!(connection.state, State::Ready) {
            self.handle_ready(index);
        }
        self.publish_due(now)?;
        Ok(())
    }

    fn handle_ready(&mut self, index: usize) {
        self.opening -= 1;
        let connection = &mut self.connections[index];
        if connection.role == Role::Stalled {
            // Never read again: not even asked whether there is something.
            let _ = self.poll.registry().deregister(&mut connection.stream);
        }
    }

    fn close(&mut self, index: usize, reason: String) {
        let connection = &mut self.connections[index];
        if !matches!(connection.state, State::Ready) {
            self.opening = self.opening.saturating_sub(1);
        }
        let _ = self.poll.registry().deregister(&mut connection.stream);
        *self.closed.entry(reason.clone()).or_default() += 1;
        connection.state = State::Closed(reason);
    }

    /// Sends PING on connections that were silent for half the time that the server allows.
    fn sweep(&mut self, plan: &Plan, now: u64) {
        let keep_alive_ns = self.shared.keep_alive_ms.saturating_mul(MILLISECOND_NS);
        if keep_alive_ns == 0 || self.connections.is_empty() || now.saturating_sub(self.swept_ns) < MILLISECOND_NS {
            return;
        }
        // A sixteenth of the keep-alive time for a round over all, a few connections at a time.
        let rounds = (keep_alive_ns / 16).max(1);
        let elapsed = now.saturating_sub(self.swept_ns).min(rounds);
        let count = (self.connections.len() as u64 * elapsed).div_ceil(rounds) as usize;
        self.swept_ns = now;
        for _ in 0..count.min(self.connections.len()) {
            self.swept = (self.swept + 1) % self.connections.len();
            let connection = &mut self.connections[self.swept];
            if !matches!(connection.state, State::Ready) || now.saturating_sub(connection.sent_ns) < keep_alive_ns / 2 {
                continue;
            }
            // What the socket did not take yet is proof of life enough once it does.
            if connection.pending_bytes() == 0 {
                connection.request(plan.dialect, &Request::Ping, &mut self.encoded);
            }
            if let Err(error) = connection.flush(now) {
                let index = self.swept;
                self.close(index, error.to_string());
            }
        }
    }

    /// Creates topics with update 0, spread over the publishers as those that will update them.
    pub fn create_topics(&mut self, plan: &Plan, paths: impl Iterator<Item = String>) -> Result<(), Failure> {
        let mut value = Vec::new();
        self.shared.payload.encode(crate::payload::Stamp { due_ns: now_ns(), sequence: 0 }, &mut value);
        for (topic, path) in paths.enumerate() {
            let publisher = self.publishers[topic % self.publishers.len()];
            let request = Request::Create { id: (topic % ASKED_MAX) as u64 + 2, path: &path, value_type: plan.value_type, value: &value };
            self.ask(plan, publisher, &request);
            if topic % ASKED_MAX == ASKED_MAX - 1 {
                self.await_answers(plan)?;
            }
        }
        self.await_answers(plan)
    }

    /// Removes what `create_topics` created.
    pub fn remove_topics(&mut self, plan: &Plan) -> Result<(), Failure> {
        let Some(&publisher) = self.publishers.iter().find(|index| !self.connections[**index].is_closed()) else {
            return Ok(());
        };
        self.closed.clear();
        for (number, selector) in plan.removals().iter().enumerate() {
            self.ask(plan, publisher, &Request::Remove { id: (number % ASKED_MAX) as u64 + 2, selector });
            if number % ASKED_MAX == ASKED_MAX - 1 {
                self.await_answers(plan)?;
            }
        }
        self.await_answers(plan)
    }

    fn ask(&mut self, plan: &Plan, index: usize, request: &Request<'_>) {
        let connection = &mut self.connections[index];
        connection.request(plan.dialect, request, &mut self.encoded);
        connection.state = match connection.state {
            State::Asking(count) => State::Asking(count + 1),
            _ => {
                self.opening += 1;
                State::Asking(1)
            }
        };
        let _ = connection.flush(now_ns());
    }

    fn await_answers(&mut self, plan: &Plan) -> Result<(), Failure> {
        let until = now_ns() + OPEN_NS_MAX;
        while self.opening > 0 {
            self.turn(plan, SLEEP_NS_MAX)?;
            self.check_setup()?;
            if now_ns() > until {
                return Err(Failure::Connection("a request to create or remove topics got no answer within 30 s".to_owned()));
            }
        }
        Ok(())
    }

    /// Stalled connections that the server has closed meanwhile.
    pub fn count_stalled_closed(&self) -> u64 {
        let stalled = self.connections.iter().filter(|connection| connection.role == Role::Stalled);
        let polled = stalled.filter(|connection| {
            let events = libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR;
            let mut one = libc::pollfd { fd: connection.stream.as_raw_fd(), events, revents: 0 };
            // SAFETY: one valid pollfd, and no waiting.
            connection.is_closed() || unsafe { libc::poll(&mut one, 1, 0) } > 0 && one.revents & events != 0
        });
        polled.count() as u64
    }

    /// Says goodbye on every connection, as far as the sockets take it at once.
    pub fn close_all(&mut self, plan: &Plan) {
        for connection in self.connections.iter_mut().filter(|connection| !connection.is_closed()) {
            if connection.pending_bytes() == 0 {
                connection.request(plan.dialect, &Request::Close, &mut self.encoded);
            }
            let _ = connection.flush(now_ns());
        }
        self.connections.clear();
    }
}
