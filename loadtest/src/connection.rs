//! One connection: its socket, what it waits for, and the bytes that are neither here nor there.
//!
//! Thousands of these stand in one process, so one holds little: bytes that were read but are not
//! a whole frame yet, bytes that the socket would not take yet, and a few integers.

use crate::dialect::{Dialect, Event, Request};
use crate::in_flight::InFlight;
use crate::plan::{Target, Transport};
use crate::secure::Secure;
use crate::websocket::{self, Opcode, Upgrade};
use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Publisher,
    Subscriber(usize),
    Idle(usize),
    Stalled,
}

/// How far a connection has come.
pub enum State {
    /// The TCP connection or the answer to the upgrade is awaited.
    Upgrading(Box<Upgrade>),
    /// The server's greeting is awaited.
    Connecting,
    /// This many answers are awaited.
    Asking(usize),
    Ready,
    /// Ended, with the reason.
    Closed(String),
}

pub struct Connection {
    pub stream: TcpStream,
    pub role: Role,
    pub state: State,
    pub sent_ns: u64,
    /// A publisher's updates without an answer yet, where the dialect counts them.
    pub in_flight: Option<Box<InFlight>>,
    is_websocket: bool,
    tls: Option<Box<Secure>>,
    deframer: Deframer,
    /// Read, but not yet a whole frame.
    kept: Vec<u8>,
    /// Encoded, but not yet taken by the socket.
    pending: Vec<u8>,
    pending_start: usize,
}

/// What comes out of a connection's bytes.
pub enum Inbound<'a> {
    Event(Event<'a>),
    WebSocketPing(&'a [u8]),
    Close { code: u64, reason: &'a str },
}

/// How a read ended.
pub enum ReadEnd {
    /// The socket is empty.
    Drained,
    /// There may be more.
    Full,
}

/// Stalled connections get a small receive buffer, so that the server feels them soon.
const STALLED_RECEIVE_BYTES: usize = 4096;
/// The longest frame that is waited for.
pub const FRAME_BYTES_MAX: usize = 20 << 20;

impl Connection {
    /// Starts to connect, from the given loopback address where there is one. `upgrade` is there for a WebSocket only.
    pub fn open(target: &Target, role: Role, source: Option<Ipv4Addr>, upgrade: Option<Upgrade>) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(target.address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        if role == Role::Stalled {
            socket.set_recv_buffer_size(STALLED_RECEIVE_BYTES)?;
        }
        if let Some(source) = source {
            bind_without_port(&socket)?;
            socket.bind(&SocketAddr::new(IpAddr::V4(source), 0).into())?;
        }
        match socket.connect(&target.address.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        let is_websocket = upgrade.is_some();
        assert_eq!(is_websocket, target.transport != Transport::Tcp);
        let pending = upgrade.as_ref().map_or_else(Vec::new, |upgrade| upgrade.request.clone());
        Ok(Self {
            stream: TcpStream::from_std(socket.into()),
            role,
            state: upgrade.map_or(State::Connecting, |upgrade| State::Upgrading(Box::new(upgrade))),
            sent_ns: 0,
            in_flight: None,
            is_websocket,
            tls: target.trust.as_ref().map(|trust| trust.connect()).transpose()?,
            deframer: if is_websocket { Deframer::default() } else { Deframer::stream() },
            kept: Vec::new(),
            pending,
            pending_start: 0,
        })
    }

    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed(_))
    }

    /// Appends one request, on a WebSocket as a message of its own. `scratch` is overwritten.
    pub fn request(&mut self, dialect: Dialect, request: &Request<'_>, scratch: &mut Vec<u8>) {
        if !self.is_websocket {
            return dialect.encode(request, &mut self.pending);
        }
        scratch.clear();
        dialect.encode(request, scratch);
        // What a protocol has no word for is not said.
        if !scratch.is_empty() {
            self.message(dialect.opcode(), scratch);
        }
    }

    pub fn message(&mut self, opcode: Opcode, payload: &[u8]) {
        // The mask keeps browsers' scripts from writing chosen bytes through proxies. Nobody chooses
        // bytes here; that it changes is enough to give the server real work.
        let mask = (self.pending.len() as u32).wrapping_mul(0x9e37_79b9) ^ 0x5bd1_e995;
        websocket::encode_frame(opcode, payload, mask.to_ne_bytes(), &mut self.pending);
    }

    /// Whether update `id` may be sent before more answers came.
    pub fn may_send(&self, id: u64) -> bool {
        self.in_flight.as_ref().is_none_or(|in_flight| in_flight.has_room(id))
    }

    /// Takes the update that an answer with this identifier is to, where the dialect counts them.
    pub fn take_in_flight(&mut self, packet: u64) -> Option<u64> {
        self.in_flight.as_mut()?.take(packet)
    }

    pub fn pending_bytes(&self) -> usize {
        // What TLS has to say itself counts as a byte.
        self.pending.len() - self.pending_start + usize::from(self.tls.as_ref().is_some_and(|tls| tls.wants_write()))
    }

    /// Writes what the socket takes.
    pub fn flush(&mut self, now_ns: u64) -> io::Result<()> {
        while self.pending_bytes() > 0 {
            let pending = &self.pending[self.pending_start..];
            let result = match &mut self.tls {
                None => self.stream.write(pending),
                Some(tls) => tls.write(&mut self.stream, pending),
            };
            match result {
                Ok(written) => {
                    self.pending_start += written;
                    self.sent_ns = now_ns;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.pending_start = 0;
        self.pending.clear();
        // The many do not keep their buffers; publishers and those that acknowledge need them again at once.
        if matches!(self.role, Role::Idle(_) | Role::Stalled) {
            self.pending = Vec::new();
        }
        Ok(())
    }

    /// Reads once into `buffer`, behind what was kept. Returns the length of both.
    pub fn read(&mut self, buffer: &mut Vec<u8>, read_bytes: usize) -> io::Result<(usize, ReadEnd)> {
        let kept = self.kept.len();
        // Records are opened from behind the room into it.
        let needed = kept + if self.tls.is_some() { 2 * read_bytes } else { read_bytes };
        if buffer.len() < needed {
            buffer.resize(needed, 0);
        }
        buffer[..kept].copy_from_slice(&self.kept);
        loop {
            let (room, sealed) = buffer[kept..].split_at_mut(read_bytes);
            let result = match &mut self.tls {
                // A short read empties a stream socket: another one would only say so.
                None => self.stream.read(room).map(|got| (got, got == read_bytes)),
                Some(tls) => tls.read(&mut self.stream, &mut sealed[..read_bytes], room),
            };
            return match result {
                Ok((0, _)) => Err(io::ErrorKind::UnexpectedEof.into()),
                Ok((got, has_more)) => Ok((kept + got, if has_more { ReadEnd::Full } else { ReadEnd::Drained })),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => {
                    Ok((kept, ReadEnd::Drained))
                }
                Err(error) => Err(error),
            };
        }
    }

    /// Keeps the bytes from `used` on for the next read.
    pub fn keep(&mut self, rest: &[u8]) -> Result<(), String> {
        if rest.len() > FRAME_BYTES_MAX {
            return Err(format!("a frame is longer than {FRAME_BYTES_MAX} bytes"));
        }
        self.kept.clear();
        self.kept.extend_from_slice(rest);
        Ok(())
    }

    pub fn deframer(&mut self) -> &mut Deframer {
        &mut self.deframer
    }
}

/// Lets the port be chosen when the destination is known, so that ports are used once for each
/// pair of addresses and not once for all.
fn bind_without_port(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open, and the option takes one integer.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Where a connection's bytes stand within a WebSocket message.
#[derive(Default)]
pub struct Deframer {
    /// Bytes of the current data frame that are still to come.
    remaining: u64,
}

impl Deframer {
    /// For frames without WebSocket around them: one message that never ends.
    pub fn stream() -> Self {
        Self { remaining: u64::MAX }
    }

    /// Hands every whole frame in `bytes` to `sink` and returns how many bytes they took. A frame
    /// is handed over as soon as it is whole, however much of its message is still to come.
    #[inline]
    pub fn feed(&mut self, dialect: Dialect, bytes: &[u8], mut sink: impl FnMut(Inbound<'_>)) -> Result<usize, &'static str> {
        let mut at = 0;
        loop {
            if self.remaining == 0 {
                let Some(head) = websocket::parse_head(&bytes[at..])? else { return Ok(at) };
                match head.opcode {
                    opcode if opcode == Opcode::Continuation || opcode == dialect.opcode() => {
                        at += head.head_bytes;
                        self.remaining = head.payload_bytes;
                    }
                    Opcode::Text => return Err("a text message in the binary form"),
                    Opcode::Binary => return Err("a binary message in the text form"),
                    _ => match control(head, &bytes[at..], &mut sink)? {
                        Some(length) => at += length,
                        None => return Ok(at),
                    },
                }
                continue;
            }
            let here = (bytes.len() - at).min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
            let slice = &bytes[at..at + here];
            let mut used = 0;
            while used < slice.len() {
                match dialect.parse(&slice[used..]) {
                    Ok(Some((event, length))) => {
                        sink(Inbound::Event(event));
                        used += length;
                    }
                    Ok(None) => break,
                    Err(malformed) => return Err(malformed.0),
                }
            }
            at += used;
            self.remaining -= used as u64;
            if self.remaining == 0 {
                continue;
            }
            if used < slice.len() && here as u64 == self.remaining + used as u64 {
                return Err("a frame overruns its message");
            }
            return Ok(at);
        }
    }
}

fn control(head: websocket::Head, bytes: &[u8], sink: &mut impl FnMut(Inbound<'_>)) -> Result<Option<usize>, &'static str> {
    if head.payload_bytes > 125 {
        return Err("a control frame is longer than 125 bytes");
    }
    let end = head.head_bytes + head.payload_bytes as usize;
    let Some(payload) = bytes.get(head.head_bytes..end) else { return Ok(None) };
    match head.opcode {
        Opcode::Ping => sink(Inbound::WebSocketPing(payload)),
        Opcode::Close => {
            let (code, reason) = match payload.split_first_chunk::<2>() {
                Some((code, reason)) => (u64::from(u16::from_be_bytes(*code)), reason),
                None => (1005, &[][..]),
            };
            sink(Inbound::Close { code, reason: std::str::from_utf8(reason).unwrap_or("") });
        }
        _ => {}
    }
    Ok(Some(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `bytes` in steps of `step`, keeping the rest as a connection does.
    fn topics(bytes: &[u8], step: usize) -> Result<Vec<u64>, &'static str> {
        topics_of(Dialect::Native, &mut Deframer::default(), bytes, step)
    }

    fn topics_of(dialect: Dialect, deframer: &mut Deframer, bytes: &[u8], step: usize) -> Result<Vec<u64>, &'static str> {
        let (mut kept, mut topics) = (Vec::new(), Vec::new());
        for part in bytes.chunks(step) {
            kept.extend_from_slice(part);
            let used = deframer.feed(dialect, &kept, |inbound| match inbound {
                Inbound::Event(Event::Value { topic, value }) => {
                    assert_eq!(value, if dialect.is_text() { &b"\"abc\""[..] } else { b"abc" });
                    topics.push(topic);
                }
                Inbound::Close { code, .. } => topics.push(code),
                _ => {}
            })?;
            kept.drain(..used);
        }
        Ok(topics)
    }

    fn message(count: u8, out: &mut Vec<u8>) {
        let frames: Vec<u8> = (0..count).flat_map(|topic| [0x91, 4, topic, b'a', b'b', b'c']).collect();
        websocket::encode_server_frame(Opcode::Binary, &frames, out);
    }

    #[test]
    fn frames_come_out_however_the_bytes_are_cut() {
        let mut bytes = Vec::new();
        message(3, &mut bytes);
        websocket::encode_server_frame(Opcode::Ping, b"", &mut bytes);
        message(0, &mut bytes);
        message(100, &mut bytes);
        websocket::encode_server_frame(Opcode::Close, &4104u16.to_be_bytes(), &mut bytes);
        let expected: Vec<u64> = (0..3).chain(0..100).chain([4104]).collect();
        for step in 1..bytes.len() + 1 {
            assert_eq!(topics(&bytes, step).as_ref(), Ok(&expected), "step {step}");
        }
    }

    #[test]
    fn a_stream_needs_no_messages_around_its_frames() {
        let bytes = b"\x91\x04\x01abc\x91\x04\x02abc";
        for step in 1..bytes.len() + 1 {
            let mut deframer = Deframer::stream();
            assert_eq!(topics_of(Dialect::Native, &mut deframer, bytes, step), Ok(vec![1, 2]), "step {step}");
        }
    }

    #[test]
    fn a_frame_that_overruns_its_message_breaks_the_connection() {
        let mut bytes = Vec::new();
        websocket::encode_server_frame(Opcode::Binary, b"\x91\x04\x01ab", &mut bytes);
        message(1, &mut bytes);
        assert_eq!(topics(&bytes, 1), Err("a frame overruns its message"));
        assert_eq!(topics(&bytes, 100), Err("a frame overruns its message"));
    }

    #[test]
    fn a_message_of_the_other_form_is_refused() {
        assert_eq!(topics(b"\x81\x01x", 9), Err("a text message in the binary form"));
        let binary = Deframer::default().feed(Dialect::Json, b"\x82\x02{}", |_| ());
        assert_eq!(binary, Err("a binary message in the text form"));
    }

    #[test]
    fn objects_of_the_text_form_come_out_however_the_bytes_are_cut() {
        let mut bytes = Vec::new();
        for topic in 0..20 {
            let object = format!(r#"{{"op":"value","topic":{topic},"path":"a","value":"abc"}}"#);
            websocket::encode_server_frame(Opcode::Text, object.as_bytes(), &mut bytes);
        }
        websocket::encode_server_frame(Opcode::Text, br#"[{"op":"value","topic":20,"path":"a","value":"abc"},{"op":"ok"}]"#, &mut bytes);
        for step in 1..bytes.len() + 1 {
            let found = topics_of(Dialect::Json, &mut Deframer::default(), &bytes, step);
            assert_eq!(found, Ok((0..21).collect()), "step {step}");
        }
        let mut cut = Vec::new();
        websocket::encode_server_frame(Opcode::Text, br#"{"op":"value","topic":1,"path":"a","value":"ab"#, &mut cut);
        assert_eq!(topics_of(Dialect::Json, &mut Deframer::default(), &cut, 9), Err("a frame overruns its message"));
    }
}
