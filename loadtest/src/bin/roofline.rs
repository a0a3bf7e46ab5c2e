//! The roofline: the server's send loop with no server in it.
//!
//! Accepts subscribers, answers what they ask with the least that is right, and then sends each of
//! them the same ready-made values: one `send` for each connection and tick, non-blocking sockets, one pinned core. The sends go through a ring, so many in
//! one system call as the server makes; with `--plain` each is a system call. What the server reaches is measured against this. The generator connects with
//! `--publishers 0 --root load/roofline` and checks every value as always: stamps are written once a tick.

use clap::Parser;
use io_uring::{IoUring, opcode, squeue, types};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;
use tidewire::surface::value::ValueType;
use tidewire_loadtest::clock::{SECOND_NS, now_ns};
use tidewire_loadtest::dialect::native::{self, op};
use tidewire_loadtest::host;
use tidewire_loadtest::payload::{Payload, Stamp};
use tidewire_loadtest::websocket::{self, Opcode};

/// Sends values to subscribers as fast as one core and the kernel can.
#[derive(Parser)]
struct Flags {
    #[arg(long, default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// Starts when this many have subscribed.
    #[arg(long, default_value_t = 1000)]
    subscribers: usize,
    /// Values in each send.
    #[arg(long, default_value_t = 64)]
    frames: usize,
    #[arg(long, default_value_t = 125)]
    payload: usize,
    /// Seconds of sending.
    #[arg(long, default_value_t = 15)]
    duration: u64,
    /// Ticks a second; 0: as fast as possible.
    #[arg(long, default_value_t = 0)]
    ticks: u64,
    #[arg(long)]
    core: Option<usize>,
    /// Each send is a system call of its own.
    #[arg(long)]
    plain: bool,
}

/// Sends in one system call: as many as the server makes in a turn.
const SENDS_AT_ONCE: usize = 64;

struct Subscriber {
    stream: TcpStream,
    received: Vec<u8>,
    is_upgraded: bool,
    is_subscribed: bool,
}

const LISTENER: Token = Token(usize::MAX - 1);
const TOPIC: u64 = 1;

fn main() -> io::Result<()> {
    let flags = Flags::parse();
    host::raise_open_files_limit();
    if let Some(core) = flags.core {
        assert!(host::pin(core), "this thread cannot be pinned to core {core}");
    }
    let mut subscribers = gather(&flags)?;
    eprintln!("{} subscribers, {} values in each send", subscribers.len(), flags.frames);
    let cpu_ns = || host::cpu_ns(std::process::id()).unwrap_or(0);
    let before_ns = cpu_ns();
    let (sent, seconds) = send(&flags, &mut subscribers)?;
    let each_ns = (cpu_ns() - before_ns) as f64 / sent as f64;
    println!("{:.0} deliveries/s: {sent} in {seconds:.2} s, {each_ns:.0} ns of processor time each", sent as f64 / seconds);
    Ok(())
}

/// Accepts and answers until as many have subscribed as were asked for.
fn gather(flags: &Flags) -> io::Result<Vec<Subscriber>> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(flags.listen)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut subscribers: Vec<Subscriber> = Vec::new();
    while subscribers.iter().filter(|subscriber| subscriber.is_subscribed).count() < flags.subscribers {
        poll.poll(&mut events, Some(Duration::from_millis(100)))?;
        for event in &events {
            if event.token() != LISTENER {
                answer(&mut subscribers[event.token().0])?;
                continue;
            }
            while let Ok((mut stream, _)) = listener.accept() {
                stream.set_nodelay(true)?;
                poll.registry().register(&mut stream, Token(subscribers.len()), Interest::READABLE)?;
                subscribers.push(Subscriber { stream, received: Vec::new(), is_upgraded: false, is_subscribed: false });
            }
        }
    }
    Ok(subscribers)
}

/// Reads what there is and answers the upgrade, CONNECT and SUBSCRIBE.
fn answer(subscriber: &mut Subscriber) -> io::Result<()> {
    let mut buffer = [0; 4096];
    while let Ok(length) = subscriber.stream.read(&mut buffer) {
        if length == 0 {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "a subscriber left before the start"));
        }
        subscriber.received.extend_from_slice(&buffer[..length]);
    }
    if !subscriber.is_upgraded {
        let head = String::from_utf8_lossy(&subscriber.received).into_owned();
        let Some(end) = head.find("\r\n\r\n") else { return Ok(()) };
        let answer = websocket::accept_upgrade(&head, native::SUBPROTOCOL).unwrap_or_default();
        subscriber.stream.write_all(answer.as_bytes())?;
        subscriber.received.drain(..end + 4);
        subscriber.is_upgraded = true;
    }
    while let Some((opcode, payload, length)) = websocket::take_client_frame(&subscriber.received) {
        subscriber.received.drain(..length);
        let mut frames = Vec::new();
        if opcode == Opcode::Binary {
            subscriber.is_subscribed |= answer_request(&payload, &mut frames);
        }
        let mut message = Vec::new();
        websocket::encode_server_frame(Opcode::Binary, &frames, &mut message);
        subscriber.stream.write_all(&message)?;
    }
    Ok(())
}

/// Appends the answer to one request; whether it was SUBSCRIBE.
fn answer_request(frame: &[u8], frames: &mut Vec<u8>) -> bool {
    let Some((&op, rest)) = frame.split_first() else { return false };
    let id = native::take_varint(rest).ok().flatten().and_then(|(_, length)| native::take_varint(&rest[length..]).ok().flatten());
    let id = id.map_or(0, |(id, _)| id);
    match op {
        op::CONNECT => native::frame(op::WELCOME, frames, |body| {
            native::push_varint(id, body);
            native::push_varint(1, body);
        }),
        op::SUBSCRIBE => {
            native::frame(op::SUBSCRIBED, frames, |body| {
                native::push_varint(TOPIC, body);
                native::push_string("load/roofline/0", body);
                body.extend_from_slice(&[ValueType::Binary as u8, 0]);
            });
            native::frame(op::OK, frames, |body| native::push_varint(id, body));
        }
        _ => {}
    }
    op == op::SUBSCRIBE
}

/// The send loop. Every connection gets every tick whole; one that is full holds up the next tick.
fn send(flags: &Flags, subscribers: &mut Vec<Subscriber>) -> io::Result<(u64, f64)> {
    let mut ring = if flags.plain { None } else { Some(IoUring::new(SENDS_AT_ONCE as u32)?) };
    let payload = Payload::new(ValueType::Binary, flags.payload);
    let (start_ns, mut sent, mut told_ns, mut told, mut sequence) = (now_ns(), 0u64, now_ns(), 0u64, 0u64);
    let mut message = Vec::new();
    for tick in 0.. {
        let now = now_ns();
        if now - start_ns > flags.duration * SECOND_NS || subscribers.is_empty() {
            break;
        }
        if let Some(interval) = SECOND_NS.checked_div(flags.ticks) {
            std::thread::sleep(Duration::from_nanos((start_ns + tick * interval).saturating_sub(now)));
        }
        encode_tick(flags, &payload, &mut sequence, &mut message);
        let unfinished = match &mut ring {
            Some(ring) => send_at_once(ring, subscribers, &message)?,
            None => (0..subscribers.len()).map(|index| (index, 0)).collect(),
        };
        sent += finish_tick(subscribers, unfinished, &message) * flags.frames as u64;
        if now - told_ns > SECOND_NS {
            eprintln!("{:.0} deliveries/s", (sent - told) as f64 * SECOND_NS as f64 / (now - told_ns) as f64);
            (told_ns, told) = (now, sent);
        }
    }
    Ok((sent, (now_ns() - start_ns) as f64 / SECOND_NS as f64))
}

/// Sends one tick to all through the ring. Those who did not take all of it, and how much they took.
fn send_at_once(ring: &mut IoUring, subscribers: &[Subscriber], message: &[u8]) -> io::Result<Vec<(usize, usize)>> {
    let mut unfinished = Vec::new();
    for (number, part) in subscribers.chunks(SENDS_AT_ONCE).enumerate() {
        for (at, subscriber) in part.iter().enumerate() {
            let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL | libc::MSG_DONTWAIT;
            let send = opcode::Send::new(types::Fd(subscriber.stream.as_raw_fd()), message.as_ptr(), message.len() as u32).flags(flags);
            let index = number * SENDS_AT_ONCE + at;
            let entry = send.build().flags(squeue::Flags::SKIP_SUCCESS).user_data(index as u64);
            // SAFETY: the sends do not wait, so the kernel is done with the message when the submission returns.
            unsafe { ring.submission().push(&entry) }.expect("the ring has room for a part");
        }
        ring.submit()?;
        unfinished.extend(ring.completion().map(|told| (told.user_data() as usize, told.result().max(0) as usize)));
    }
    Ok(unfinished)
}

fn encode_tick(flags: &Flags, payload: &Payload, sequence: &mut u64, message: &mut Vec<u8>) {
    let mut frames = Vec::with_capacity(flags.frames * (flags.payload + 8));
    let mut value = Vec::with_capacity(flags.payload);
    let due_ns = now_ns();
    for _ in 0..flags.frames {
        *sequence += 1;
        value.clear();
        payload.encode(Stamp { due_ns, sequence: *sequence }, &mut value);
        native::frame(op::VALUE, &mut frames, |body| {
            native::push_varint(TOPIC, body);
            body.extend_from_slice(&value);
        });
    }
    message.clear();
    websocket::encode_server_frame(Opcode::Binary, &frames, message);
}

/// Sends those who have not got all of the tick what they lack, and returns how many got it; who left is let go.
fn finish_tick(subscribers: &mut Vec<Subscriber>, mut unfinished: Vec<(usize, usize)>, message: &[u8]) -> u64 {
    let mut left = Vec::new();
    while !unfinished.is_empty() {
        unfinished.retain_mut(|(index, offset)| match subscribers[*index].stream.write(&message[*offset..]) {
            Ok(written) => {
                *offset += written;
                *offset < message.len()
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => true,
            Err(_) => {
                left.push(*index);
                false
            }
        });
    }
    left.sort_unstable();
    for index in left.iter().rev() {
        subscribers.swap_remove(*index);
    }
    subscribers.len() as u64
}
