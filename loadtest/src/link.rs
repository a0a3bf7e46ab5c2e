//! One connection in the binary form that never blocks: for measurements that say and hear single requests.

use crate::websocket::{self, Opcode, Upgrade};
use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use tidewire::surface::wire::native::{self, Ask, Heard, Request};

pub type Failure = Box<dyn Error + Send + Sync>;

/// What this brings to an end, however slow the server is.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// See the module.
pub struct Link {
    stream: TcpStream,
    received: Vec<u8>,
    frames: Vec<u8>,
}

impl Link {
    /// A session of `server`, which names itself so.
    ///
    /// # Errors
    /// No connection, or no session.
    pub fn connect(server: SocketAddr, name: &'static str) -> Result<Self, Failure> {
        let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let upgrade = Upgrade::new(&server.to_string(), "/tidewire", Some("tidewire.1"));
        stream.write_all(&upgrade.request)?;
        let (mut received, mut buffer) = (Vec::new(), [0; 4096]);
        let used = loop {
            if let Some(used) = upgrade.answer(&received)? {
                break used;
            }
            match stream.read(&mut buffer)? {
                0 => return Err("the server has closed".into()),
                length => received.extend_from_slice(&buffer[..length]),
            }
        };
        received.drain(..used);
        stream.set_nonblocking(true)?;
        let mut link = Self { stream, received, frames: Vec::new() };
        link.say(&Request { id: 1, ask: Ask::connect(name, 0) });
        link.flush()?;
        link.wait(|heard| matches!(heard, Heard::Welcome { .. }))?;
        Ok(link)
    }

    /// Adds a request to the next message.
    pub fn say(&mut self, request: &Request<'_>) {
        native::put_request(&mut self.frames, request);
    }

    /// Sends what was said, as one message.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn flush(&mut self) -> Result<(), Failure> {
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

    /// Hears what has come, refusals too. `hear` may add frames to the next message. Gives whether anything had come.
    ///
    /// # Errors
    /// The connection has ended, or what came does not have its form.
    pub fn poll_all(&mut self, mut hear: impl FnMut(Heard<'_>, &mut Vec<u8>)) -> Result<bool, Failure> {
        let mut buffer = [0; 64 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Err("the server has closed".into()),
            Ok(length) => self.received.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
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
                hear(native::decode_event(frame).map_err(|_| "a frame does not have its form")?, &mut self.frames);
            }
            at = end;
        }
        self.received.drain(..at);
        Ok(true)
    }

    /// As [`Self::poll_all`]; what is refused is an error.
    ///
    /// # Errors
    /// Those of [`Self::poll_all`], and what the server has refused.
    pub fn poll(&mut self, mut hear: impl FnMut(Heard<'_>, &mut Vec<u8>)) -> Result<(), Failure> {
        let mut refused = None;
        self.poll_all(|heard, frames| match heard {
            Heard::Error { code, message, .. } | Heard::ResponseError { code, message, .. } => {
                refused = Some(format!("refused: {code} {message}"))
            }
            heard => hear(heard, frames),
        })?;
        refused.map_or(Ok(()), |refused| Err(refused.into()))
    }

    /// Looks at the socket until this was heard.
    ///
    /// # Errors
    /// Those of [`Self::poll`], and that it was not heard within [`PATIENCE`].
    pub fn wait(&mut self, mut is_it: impl FnMut(&Heard<'_>) -> bool) -> Result<(), Failure> {
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
    ///
    /// # Errors
    /// Those of [`Self::wait`].
    pub fn ask(&mut self, ask: Ask<'_>) -> Result<(), Failure> {
        self.say(&Request { id: 2, ask });
        self.flush()?;
        self.wait(|heard| matches!(heard, Heard::Ok { id: 2, .. }))
    }
}
