//! What the shard's ring takes to receive and to send, without a server around it.
//!
//! `cargo bench --bench ring` prints, for sockets on loopback, the median over many rounds: nanoseconds for each message that is received and answered,
//! where so many sockets have something in a turn, and for each send of a fan-out. Both include what the kernel does in the enter, which is most of it.
//! `--test` makes few rounds and checks that every byte arrives.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tidewire::surface::runtime::{Completion, Ring, Send, Sizes};

const MESSAGE_BYTES: usize = 125;
const SEND_BYTES: usize = 4096;
/// As in a turn of the server.
const SENDS_AT_ONCE: usize = 64;
/// So long that no tick comes.
const NEVER: Duration = Duration::from_secs(3600);

struct Bench {
    ring: Ring,
    /// The ring's sockets and their peers.
    sockets: Vec<(u32, TcpStream)>,
    /// Nothing rings it, and it has to stay open.
    _bell: OwnedFd,
}

impl Bench {
    fn new(count: usize) -> Self {
        // SAFETY: a new descriptor, which nobody else has.
        let bell = unsafe { OwnedFd::from_raw_fd(libc::eventfd(0, libc::EFD_CLOEXEC)) };
        let mut ring = Ring::new(Sizes::default(), bell.as_raw_fd(), Vec::new(), NEVER).expect("the kernel has what a server needs");
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
        let address = listener.local_addr().expect("it is bound");
        let sockets = (0..count).map(|_| {
            let peer = TcpStream::connect(address).expect("the listener is there");
            let (accepted, _) = listener.accept().expect("the peer has connected");
            accepted.set_nodelay(true).expect("it is a TCP socket");
            let socket = ring.add(accepted.into());
            ring.receive(socket);
            (socket, peer)
        });
        let sockets = sockets.collect();
        ring.enter(false);
        Self { ring, sockets, _bell: bell }
    }

    /// Every peer says something, which is received and answered. How long the ring takes for all.
    fn echo(&mut self, answer: &Rc<Send>) -> Duration {
        for (_, peer) in &mut self.sockets {
            peer.write_all(&[7; MESSAGE_BYTES]).expect("the socket has room");
        }
        let start = Instant::now();
        let mut left = self.sockets.len() * MESSAGE_BYTES;
        while left > 0 {
            self.ring.enter(true);
            while let Some(completion) = self.ring.poll_completion() {
                let Completion::Received(received) = completion else { unreachable!("nothing else happens") };
                left -= black_box(self.ring.bytes(&received)).len();
                let socket = received.socket;
                self.ring.give_back(received);
                if !self.ring.is_sending(socket) {
                    self.ring.send(socket, answer.clone());
                }
            }
        }
        self.finish();
        let took = start.elapsed();
        self.read(MESSAGE_BYTES);
        took
    }

    /// Everybody is sent the same, so many in an enter. How long the ring takes for all.
    fn fan_out(&mut self, send: &Rc<Send>) -> Duration {
        let start = Instant::now();
        for at in (0..self.sockets.len()).step_by(SENDS_AT_ONCE) {
            for (socket, _) in self.sockets.iter().skip(at).take(SENDS_AT_ONCE) {
                self.ring.send(*socket, send.clone());
            }
            self.finish();
        }
        let took = start.elapsed();
        self.read(SEND_BYTES);
        took
    }

    fn finish(&mut self) {
        self.ring.enter(false);
        while let Some(completion) = self.ring.poll_completion() {
            assert!(!matches!(completion, Completion::ReceiveEnded(..)), "no peer has ended");
        }
        self.ring.finish_sends(|_, send| drop(send));
    }

    /// What peers were sent has come, whole.
    fn read(&mut self, bytes: usize) {
        let mut buffer = vec![0; bytes];
        for (_, peer) in &mut self.sockets {
            peer.read_exact(&mut buffer).expect("it was sent");
            assert!(buffer.iter().all(|byte| *byte == 9));
        }
    }
}

fn median(rounds: usize, count: usize, mut run: impl FnMut() -> Duration) -> u128 {
    let mut rounds: Vec<u128> = (0..rounds).map(|_| run().as_nanos() / count as u128).collect();
    rounds.sort_unstable();
    rounds[rounds.len() / 2]
}

fn main() {
    let rounds = if std::env::args().any(|argument| argument == "--test") { 3 } else { 2000 };
    let (answer, send) = (Rc::new(Send::of(vec![9; MESSAGE_BYTES])), Rc::new(Send::of(vec![9; SEND_BYTES])));
    for count in [1, 8, 64, 200] {
        let mut bench = Bench::new(count);
        let each_ns = median(rounds, count, || bench.echo(&answer));
        println!("receive {MESSAGE_BYTES} bytes and answer them, {count:>4} sockets at once {each_ns:>8} ns each");
    }
    for count in [64, 200] {
        let mut bench = Bench::new(count);
        let each_ns = median(rounds, count, || bench.fan_out(&send));
        println!("send {SEND_BYTES} bytes to everybody,          {count:>4} sockets         {each_ns:>8} ns each");
    }
}
