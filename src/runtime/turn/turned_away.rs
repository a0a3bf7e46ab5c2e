//! Connections for which there is no room, until they have been told so: who is closed without a word takes it for a fault, and comes again at once.
//!
//! The shard knows nothing of them. Each costs its descriptor and a look or two a tick, for a second at most; of many at once some are not told.

use crate::shard::Transport;
use crate::wire::http;
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;

/// Those that are here at a time, of each shard.
const CONNECTIONS_MAX: usize = 256;

/// The ticks for which one may say nothing, or not end its side.
const TICKS_MAX: u64 = 10;

/// What of CONNECT says by which version it is.
const CONNECT_BYTES: usize = 16;

/// What one brings in a tick is thrown away, so that the kernel does not reset it and take back what it was told.
const THROWN_AWAY_A_TICK: usize = 8;

/// When its client comes again, where that can be said.
const AGAIN_MS: u64 = 1000;

/// CONNACK of MQTT 3: the server is unavailable; and of MQTT 5: it is busy.
const CONNACK_3: &[u8] = &[0x20, 2, 0, 3];
const CONNACK_5: &[u8] = &[0x20, 3, 0, 0x89, 0];

/// See the module.
#[derive(Default)]
pub struct TurnedAway {
    connections: VecDeque<Connection>,
}

struct Connection {
    stream: TcpStream,
    transport: Transport,
    until: u64,
    is_told: bool,
}

impl TurnedAway {
    /// Takes one that begins without TLS and without a proxy's header: it is told when it has said something.
    pub fn take(&mut self, descriptor: OwnedFd, transport: Transport, ticks: u64) {
        let stream = TcpStream::from(descriptor);
        if self.connections.len() < CONNECTIONS_MAX && stream.set_nonblocking(true).is_ok() {
            self.connections.push_back(Connection { stream, transport, until: ticks + TICKS_MAX, is_told: false });
        }
    }

    pub fn tick(&mut self, ticks: u64) {
        self.connections.retain_mut(|connection| connection.go_on() && ticks < connection.until);
    }
}

impl Connection {
    /// Whether something is still to come.
    fn go_on(&mut self) -> bool {
        if !self.is_told {
            let mut start = [0; CONNECT_BYTES];
            let length = match self.stream.peek(&mut start) {
                Ok(0) => return false,
                Ok(length) => length,
                Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
            };
            let Some(answer) = answer(self.transport, &start[..length]) else { return length < CONNECT_BYTES };
            // What does not fit an empty socket is not sent.
            if self.stream.write_all(&answer).and_then(|()| self.stream.shutdown(Shutdown::Write)).is_err() {
                return false;
            }
            self.is_told = true;
        }
        let mut rest = [0; 4096];
        for _ in 0..THROWN_AWAY_A_TICK {
            match self.stream.read(&mut rest) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
            }
        }
        true
    }
}

/// What one is told that begins so; `None` where that says too little, or is nothing that could be answered.
fn answer(transport: Transport, start: &[u8]) -> Option<Vec<u8>> {
    if transport != Transport::Mqtt {
        let mut response = Vec::new();
        http::put_later(&mut response, AGAIN_MS, b"the server holds as many connections as limits.connections_max allows\n");
        return Some(response);
    }
    let (0x10, rest) = start.split_first().map(|(first, rest)| (*first, rest))? else { return None };
    let length = 1 + rest.iter().position(|byte| byte & 0x80 == 0).filter(|at| *at < 4)?;
    let name = &rest[length..];
    let level = name.strip_prefix(b"\0\x04MQTT").or_else(|| name.strip_prefix(b"\0\x06MQIsdp"))?.first()?;
    Some(if *level < 5 { CONNACK_3 } else { CONNACK_5 }.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_says_how_it_is_answered() {
        let check = |start: &[u8], expected: Option<&[u8]>| assert_eq!(answer(Transport::Mqtt, start).as_deref(), expected, "{start:x?}");
        check(b"\x10\x0d\0\x04MQTT\x05\x02\0\0", Some(CONNACK_5));
        check(b"\x10\x8d\x80\x01\0\x04MQTT\x05\x02\0\0", Some(CONNACK_5));
        check(b"\x10\x0d\0\x04MQTT\x04\x02\0\0", Some(CONNACK_3));
        check(b"\x10\x0d\0\x06MQIsdp\x03\x02\0", Some(CONNACK_3));
        for other in [
            &b"\x10\x0d\0\x04MQTT"[..],
            b"\x10",
            b"",
            b"\x30\x0d\0\x04MQTT\x05",
            b"GET / HTTP/1.1\r\n",
            b"\x10\xff\xff\xff\xff\xff\0\x04MQTT\x05",
        ] {
            check(other, None);
        }
        let response = answer(Transport::Http, b"G").expect("whatever it asks");
        assert!(response.starts_with(b"HTTP/1.1 503 ") && response.windows(14).any(|part| part == b"Retry-After: 1"));
    }
}
