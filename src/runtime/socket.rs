//! One connection's socket: a non-blocking send, the rest of one that did not fit, and its way to another shard.

use futures_lite::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

pub struct Socket {
    /// `None` once it is handed over.
    stream: RefCell<Option<TcpStream>>,
    /// What the socket has not taken yet; while there is something, nothing else is sent.
    pub tail: RefCell<Vec<u8>>,
    /// The transport ends when the tail is sent.
    pub is_ending: Cell<bool>,
    waiting: RefCell<Waiting>,
}

/// The tasks that wait for the stream, and have to hear that it is handed over.
#[derive(Default)]
struct Waiting {
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Socket {
    /// `tail` is what has to be sent before anything else.
    pub fn new(stream: TcpStream, tail: Vec<u8>) -> Self {
        Self { stream: RefCell::new(Some(stream)), tail: RefCell::new(tail), is_ending: Cell::new(false), waiting: RefCell::default() }
    }

    /// Reads what has come; `None` once the socket is handed over.
    pub fn poll_read(&self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<Option<io::Result<usize>>> {
        let mut stream = self.stream.borrow_mut();
        let Some(stream) = stream.as_mut() else { return Poll::Ready(None) };
        let result = Pin::new(stream).poll_read(context, buffer);
        if result.is_pending() {
            note(&mut self.waiting.borrow_mut().reader, context.waker());
        }
        result.map(Some)
    }

    /// Sends of the tail what the socket takes, when it takes something; `None` once the socket is handed over.
    pub fn poll_write_tail(&self, context: &mut Context<'_>) -> Poll<Option<io::Result<usize>>> {
        let mut stream = self.stream.borrow_mut();
        let Some(stream) = stream.as_mut() else { return Poll::Ready(None) };
        let result = Pin::new(stream).poll_write(context, &self.tail.borrow());
        if result.is_pending() {
            note(&mut self.waiting.borrow_mut().writer, context.waker());
        }
        result.map(Some)
    }

    /// Sends what the socket takes now and keeps the rest. Tells whether all went.
    pub fn send(&self, bytes: &[u8]) -> bool {
        let sent = self.descriptor().map_or(-1, |descriptor| {
            // SAFETY: the descriptor is open as long as `stream` is there, and the pointer and length are those of `bytes`.
            unsafe { libc::send(descriptor, bytes.as_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) }
        });
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

    /// Ends one or both directions; the reader sees the end. A socket that was handed over is another's to end.
    pub fn shut_down(&self, how: std::net::Shutdown) {
        let how = match how {
            std::net::Shutdown::Read => libc::SHUT_RD,
            std::net::Shutdown::Write => libc::SHUT_WR,
            std::net::Shutdown::Both => libc::SHUT_RDWR,
        };
        if let Some(descriptor) = self.descriptor() {
            // SAFETY: the descriptor is open as long as `stream` is there. A peer that is gone already is no error here.
            unsafe { libc::shutdown(descriptor, how) };
        }
    }

    /// Gives the connection away: a descriptor of it that belongs to no executor, and the tail. Who reads and writes here hears of it,
    /// and this shard's own descriptor is closed without ending the connection; it ends where there is no descriptor left to give.
    pub fn hand_over(&self) -> Option<io::Result<(OwnedFd, Vec<u8>)>> {
        let stream = self.stream.take()?;
        // SAFETY: the descriptor is open as long as `stream` is there, which is dropped below.
        let descriptor = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) }.try_clone_to_owned();
        // What the ring still waits for on this descriptor is cancelled with it.
        drop(stream);
        let Waiting { reader, writer } = self.waiting.take();
        for waker in [reader, writer].into_iter().flatten() {
            waker.wake();
        }
        Some(descriptor.map(|descriptor| (descriptor, self.tail.take())))
    }

    fn descriptor(&self) -> Option<RawFd> {
        self.stream.borrow().as_ref().map(AsRawFd::as_raw_fd)
    }
}

fn note(place: &mut Option<Waker>, waker: &Waker) {
    if !place.as_ref().is_some_and(|noted| noted.will_wake(waker)) {
        *place = Some(waker.clone());
    }
}

/// Prepares an accepted socket: small messages must not wait for each other.
pub fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true).map_err(|error| io::Error::other(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use glommio::{LocalExecutorBuilder, Placement};
    use std::future::poll_fn;
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener as Listener, TcpStream as Peer};
    use std::os::fd::{FromRawFd, IntoRawFd};
    use std::rc::Rc;
    use std::time::Duration;

    /// Runs `body` with a socket of an executor and its other end.
    fn with_socket<F: Future<Output = ()> + 'static>(tail: &'static [u8], body: impl FnOnce(Rc<Socket>, Peer) -> F + Send + 'static) {
        let listener = Listener::bind("127.0.0.1:0").unwrap();
        let peer = Peer::connect(listener.local_addr().unwrap()).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let accepted = listener.accept().unwrap().0;
        let executor = LocalExecutorBuilder::new(Placement::Unbound).io_memory(64 << 10);
        let handle = executor.spawn(move || async move {
            // SAFETY: the descriptor is given away here, so nobody else owns it.
            let stream = unsafe { TcpStream::from_raw_fd(accepted.into_raw_fd()) };
            body(Rc::new(Socket::new(stream, tail.to_vec())), peer).await;
        });
        handle.unwrap().join().unwrap();
    }

    #[test]
    fn a_socket_that_is_handed_over_stays_connected_and_loses_nothing() {
        with_socket(b"unsent", |socket, mut peer| async move {
            let waiting = socket.clone();
            let reader = glommio::spawn_local(async move { poll_fn(|context| waiting.poll_read(context, &mut [0; 16])).await.is_none() });
            glommio::timer::sleep(Duration::from_millis(10)).await;
            peer.write_all(b"to the other").unwrap();
            let (descriptor, tail) = socket.hand_over().expect("it is here").expect("there are descriptors left");
            assert!(reader.await, "the reader hears of it");
            assert_eq!(tail, b"unsent");

            assert!(socket.hand_over().is_none());
            assert!(!socket.send(b"lost"));
            socket.shut_down(Shutdown::Both);
            drop(socket);
            let (mut other, mut bytes) = (Peer::from(descriptor), [0; 12]);
            other.read_exact(&mut bytes).unwrap();
            assert_eq!(&bytes, b"to the other");
            other.write_all(b"to the peer").unwrap();
            peer.read_exact(&mut bytes[..11]).unwrap();
            assert_eq!(&bytes[..11], b"to the peer");

            // Nothing holds it open once the other closes it.
            glommio::timer::sleep(Duration::from_millis(10)).await;
            drop(other);
            assert_eq!(peer.read(&mut bytes).unwrap(), 0);
        });
    }

    #[test]
    fn a_writer_that_waits_hears_that_its_socket_is_handed_over() {
        with_socket(b"", |socket, peer| async move {
            let _connected = peer;
            // More than the kernel takes while nobody reads.
            let bytes = vec![0; 64 << 20];
            assert!(!socket.send(&bytes));
            let waiting = socket.clone();
            let writer = glommio::spawn_local(async move {
                loop {
                    match poll_fn(|context| waiting.poll_write_tail(context)).await {
                        Some(result) => drop(waiting.tail.borrow_mut().drain(..result.unwrap())),
                        None => return,
                    }
                }
            });
            glommio::timer::sleep(Duration::from_millis(10)).await;
            let left = socket.tail.borrow().len();
            let (_descriptor, tail) = socket.hand_over().expect("it is here").expect("there are descriptors left");
            writer.await;
            assert_eq!(tail.len(), left);
        });
    }
}
