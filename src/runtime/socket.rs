//! One connection's socket: a non-blocking send, and the rest of one that did not fit.

use glommio::net::TcpStream;
use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsRawFd, RawFd};

pub struct Socket {
    pub stream: RefCell<TcpStream>,
    fd: RawFd,
    /// What the socket has not taken yet; while there is something, nothing else is sent.
    pub tail: RefCell<Vec<u8>>,
    /// The transport ends when the tail is sent.
    pub is_ending: Cell<bool>,
}

impl Socket {
    pub fn new(stream: TcpStream) -> Self {
        let fd = stream.as_raw_fd();
        Self { stream: RefCell::new(stream), fd, tail: RefCell::default(), is_ending: Cell::new(false) }
    }

    /// Sends what the socket takes now and keeps the rest. Tells whether all went.
    pub fn send(&self, bytes: &[u8]) -> bool {
        // SAFETY: the descriptor is open as long as `stream` lives, and the pointer and length are those of `bytes`.
        let sent = unsafe { libc::send(self.fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
        // An error other than "full" comes again, at the writer or the reader, which end the connection.
        let sent = usize::try_from(sent).unwrap_or(0);
        if sent < bytes.len() {
            self.tail.borrow_mut().extend_from_slice(&bytes[sent..]);
        }
        sent == bytes.len()
    }

    pub fn has_tail(&self) -> bool {
        !self.tail.borrow().is_empty()
    }

    /// Ends one or both directions; the reader sees the end.
    pub fn shut_down(&self, how: std::net::Shutdown) {
        let how = match how {
            std::net::Shutdown::Read => libc::SHUT_RD,
            std::net::Shutdown::Write => libc::SHUT_WR,
            std::net::Shutdown::Both => libc::SHUT_RDWR,
        };
        // SAFETY: the descriptor is open as long as `stream` lives. A peer that is gone already is no error here.
        unsafe { libc::shutdown(self.fd, how) };
    }
}

/// Prepares an accepted socket: small messages must not wait for each other.
pub fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true).map_err(|error| io::Error::other(error.to_string()))
}
