//! Short sends, no room, no buffers, cancellations and closes, each on purpose.

use super::*;
use crate::runtime::mesh::Mailbox;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

/// So long that no tick helps a test that waits for something else.
const NEVER: Duration = Duration::from_secs(3600);

const SMALL: Sizes = Sizes { submissions: 4, buffers: 2, buffer_bytes: 16 };

struct Bench {
    ring: Ring,
    mailbox: Arc<Mailbox>,
    listener: TcpListener,
}

impl Bench {
    fn new(sizes: Sizes) -> Self {
        let mailbox = Arc::new(Mailbox::new().unwrap());
        let ring = Ring::new(sizes, mailbox.bell(), Vec::new(), NEVER).unwrap();
        Self { ring, mailbox, listener: TcpListener::bind("127.0.0.1:0").unwrap() }
    }

    /// A socket of the ring, and its peer.
    fn connect(&mut self) -> (u32, TcpStream) {
        let peer = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = self.listener.accept().unwrap();
        // The kernel takes no less than some thousands.
        socket2::SockRef::from(&accepted).set_send_buffer_size(1).unwrap();
        (self.ring.add(accepted.into()), peer)
    }

    /// What the ring tells next.
    fn next(&mut self) -> Completion {
        loop {
            if let Some(completion) = self.ring.poll_completion() {
                return completion;
            }
            self.ring.finish_sends(|_, _| {});
            self.ring.enter(true);
        }
    }

    /// Enters and looks, without waiting.
    fn turn(&mut self) -> Vec<Completion> {
        self.ring.enter(false);
        let completions = std::iter::from_fn(|| self.ring.poll_completion()).collect();
        self.ring.finish_sends(|_, _| {});
        completions
    }
}

fn send_of(bytes: Vec<u8>) -> Rc<Send> {
    Rc::new(Send::of(bytes))
}

/// Different for each `seed`, and nowhere the same for long.
fn bytes_of(seed: u32, length: usize) -> Vec<u8> {
    (0..length as u32).map(|at| (at.wrapping_mul(0x9e37_79b9).wrapping_add(seed.wrapping_mul(0x85eb_ca6b)) >> 24) as u8).collect()
}

#[test]
fn everything_is_received_in_its_order_although_buffers_run_out() {
    let mut bench = Bench::new(SMALL);
    let (socket, mut peer) = bench.connect();
    let sent = bytes_of(1, 100_000);
    let all = sent.clone();
    let writer = std::thread::spawn(move || peer.write_all(&all));
    bench.ring.receive(socket);
    let (mut got, mut held, mut paused) = (Vec::new(), Vec::new(), 0);
    while got.len() < sent.len() {
        match bench.next() {
            Completion::Received(received) => {
                got.extend_from_slice(bench.ring.bytes(&received));
                held.push(received);
            }
            Completion::ReceiveEnded(of, ended) => {
                assert_eq!((of, ended), (socket, Ended::Paused));
                paused += 1;
                held.drain(..).for_each(|received| bench.ring.give_back(received));
                bench.ring.receive(socket);
            }
            _ => panic!("nothing else was asked for"),
        }
    }
    assert!(got == sent && paused > 0, "{} bytes, paused {paused} times", got.len());
    // It closes its end when all is written.
    writer.join().unwrap().unwrap();
    loop {
        match bench.next() {
            Completion::ReceiveEnded(_, Ended::Over) => break,
            Completion::ReceiveEnded(_, Ended::Paused) => {
                held.drain(..).for_each(|received| bench.ring.give_back(received));
                bench.ring.receive(socket);
            }
            _ => {}
        }
    }
}

#[test]
fn what_a_socket_does_not_take_at_once_follows_and_goes_to_no_other() {
    let mut bench = Bench::new(Sizes { submissions: 8, ..Sizes::default() });
    const SOCKETS: usize = 300;
    let mut peers: Vec<(u32, TcpStream)> = (0..SOCKETS).map(|_| bench.connect()).collect();
    let length = |socket: u32| if socket.is_multiple_of(3) { 1000 } else { 200_000 + socket as usize };
    for (socket, _) in &peers {
        bench.ring.send(*socket, send_of(bytes_of(*socket, length(*socket))));
    }
    bench.turn();
    // The second half reads now; the others only when their numbers' turn comes.
    let mut open: usize = peers.iter().filter(|(socket, _)| bench.ring.is_sending(*socket)).count();
    assert!(open >= SOCKETS / 2, "{open} sockets take less than is sent");
    peers.iter().for_each(|(socket, _)| assert_eq!(bench.ring.has_rest(*socket), bench.ring.is_sending(*socket)));
    let readers = std::thread::spawn(move || {
        for (socket, peer) in peers.iter_mut().rev() {
            let mut got = vec![0; length(*socket)];
            peer.read_exact(&mut got).unwrap();
            assert!(got == bytes_of(*socket, got.len()), "socket {socket} got another's bytes");
        }
        peers
    });
    while open > 0 {
        let Completion::RestSent(socket) = bench.next() else { panic!("nothing else was asked for") };
        assert!(!bench.ring.is_sending(socket));
        open -= 1;
    }
    let peers = readers.join().unwrap();
    peers.iter().for_each(|(socket, _)| bench.ring.close(*socket));
    assert_eq!(bench.ring.socket_count(), 0);
}

#[test]
fn a_send_that_the_kernel_was_not_given_is_not_over() {
    let mut bench = Bench::new(Sizes::default());
    let (socket, mut peer) = bench.connect();
    let send = send_of(b"not yet".to_vec());
    bench.ring.send(socket, send.clone());
    bench.ring.finish_sends(|_, _| panic!("it was not sent"));
    assert!(bench.ring.is_sending(socket) && Rc::strong_count(&send) == 2);
    bench.turn();
    assert!(!bench.ring.is_sending(socket) && Rc::strong_count(&send) == 1);
    let mut got = [0; 7];
    peer.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"not yet");
}

#[test]
fn a_peer_that_resets_while_it_is_sent_something_ends_both_directions() {
    let mut bench = Bench::new(Sizes::default());
    let (socket, peer) = bench.connect();
    bench.ring.receive(socket);
    bench.ring.send(socket, send_of(vec![7; 8 << 20]));
    assert!(bench.turn().is_empty() && bench.ring.has_rest(socket));
    socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
    let (mut is_over, mut is_sent) = (false, false);
    while !(is_over && is_sent) {
        match bench.next() {
            Completion::ReceiveEnded(_, Ended::Over) => is_over = true,
            Completion::RestSent(_) => is_sent = true,
            _ => panic!("nothing else was asked for"),
        }
    }
    // What is sent to it now fails at once, and is told of nowhere else.
    bench.ring.send(socket, send_of(vec![7; 100]));
    bench.turn();
    assert!(!bench.ring.is_sending(socket));
    bench.ring.close(socket);
    assert_eq!(bench.ring.socket_count(), 0);
}

#[test]
fn thousands_that_are_closed_in_the_middle_of_something_leave_nothing_and_disturb_no_other() {
    let mut bench = Bench::new(Sizes { buffers: 4, ..Sizes::default() });
    let (steady, mut steady_peer) = bench.connect();
    bench.ring.receive(steady);
    for round in 0..20u32 {
        let mut peers: Vec<(u32, TcpStream)> = (0..100).map(|_| bench.connect()).collect();
        for (socket, peer) in &mut peers {
            assert_ne!(*socket, steady);
            bench.ring.receive(*socket);
            peer.write_all(&[round as u8; 40]).unwrap();
            bench.ring.send(*socket, send_of(vec![round as u8; if socket.is_multiple_of(2) { 10 } else { 1 << 20 }]));
        }
        // Some before the ring has heard of them, some with all under way.
        peers[..30].iter().for_each(|(socket, _)| bench.ring.close(*socket));
        steady_peer.write_all(&[round as u8; 4]).unwrap();
        let mut got = Vec::new();
        let mut closed: Vec<u32> = peers[..30].iter().map(|(socket, _)| *socket).collect();
        loop {
            for completion in bench.turn() {
                match completion {
                    Completion::Received(received) => {
                        assert!(!closed.contains(&received.socket), "a closed socket is told of");
                        if received.socket == steady {
                            got.extend_from_slice(bench.ring.bytes(&received));
                        }
                        bench.ring.give_back(received);
                    }
                    Completion::ReceiveEnded(socket, Ended::Paused) => bench.ring.receive(socket),
                    Completion::ReceiveEnded(_, Ended::Over) => panic!("no peer has ended"),
                    _ => {}
                }
            }
            let Some((socket, _)) = peers.get(closed.len()) else { break };
            bench.ring.close(*socket);
            closed.push(*socket);
        }
        drop(peers);
        while bench.ring.socket_count() > 1 || got.len() < 4 {
            match bench.next() {
                Completion::Received(received) => {
                    assert_eq!(received.socket, steady);
                    got.extend_from_slice(bench.ring.bytes(&received));
                    bench.ring.give_back(received);
                }
                Completion::ReceiveEnded(socket, Ended::Paused) => bench.ring.receive(socket),
                _ => {}
            }
            // Closes are not told, so nothing may come to wait for.
            bench.ring.nap();
        }
        assert_eq!(got, [round as u8; 4]);
    }
}

#[test]
fn a_socket_that_is_taken_out_has_lost_nothing() {
    let mut bench = Bench::new(Sizes::default());
    let (socket, mut peer) = bench.connect();
    bench.ring.receive(socket);
    peer.write_all(b"here, ").unwrap();
    let mut got = Vec::new();
    let Completion::Received(received) = bench.next() else { panic!("bytes have come") };
    got.extend_from_slice(bench.ring.bytes(&received));
    bench.ring.give_back(received);
    assert!(bench.ring.take(socket).is_none(), "it is received from");
    peer.write_all(b"between, ").unwrap();
    bench.ring.stop_receiving(socket);
    loop {
        match bench.next() {
            Completion::Received(received) => {
                got.extend_from_slice(bench.ring.bytes(&received));
                bench.ring.give_back(received);
            }
            Completion::ReceiveEnded(_, ended) => break assert_eq!(ended, Ended::Paused),
            _ => panic!("nothing else was asked for"),
        }
    }
    peer.write_all(b"there").unwrap();
    let mut there = TcpStream::from(bench.ring.take(socket).expect("nothing is under way"));
    let mut rest = vec![0; b"here, between, there".len() - got.len()];
    there.read_exact(&mut rest).unwrap();
    got.extend(rest);
    assert_eq!(String::from_utf8(got).unwrap(), "here, between, there");
    assert_eq!(bench.ring.socket_count(), 0);
}

#[test]
fn connections_are_accepted_as_long_as_that_is_not_stopped() {
    let mailbox = Mailbox::new().unwrap();
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let descriptors = listeners.iter().map(AsRawFd::as_raw_fd).collect();
    let mut ring = Ring::new(SMALL, mailbox.bell(), descriptors, NEVER).unwrap();
    let mut peers = Vec::new();
    for number in [0, 1, 1, 0] {
        peers.push(TcpStream::connect(listeners[number].local_addr().unwrap()).unwrap());
        let accepted = loop {
            match ring.poll_completion() {
                Some(Completion::Accepted(listener, _)) => break listener,
                Some(_) => panic!("nothing else was asked for"),
                None => ring.enter(true),
            }
        };
        assert_eq!(accepted as usize, number);
    }
    ring.stop_accepting();
    ring.enter(false);
    while ring.poll_completion().is_some() {}
    peers.push(TcpStream::connect(listeners[0].local_addr().unwrap()).unwrap());
    ring.enter(false);
    assert!(ring.poll_completion().is_none());
}

/// Mail comes at every moment of a shard that goes to sleep whenever there is none: no wake is lost, and no tick helps.
fn check_wakes(wake: impl FnOnce(Arc<Mailbox>, Arc<AtomicU32>) -> std::thread::JoinHandle<()>) {
    let mut bench = Bench::new(SMALL);
    bench.mailbox.set_ring(bench.ring.try_clone_descriptor().unwrap());
    let mail = Arc::new(AtomicU32::new(0));
    let sender = wake(bench.mailbox.clone(), mail.clone());
    let mut taken = 0;
    while taken < WAKES {
        bench.mailbox.fall_asleep();
        let waits = mail.load(Ordering::Acquire) == taken;
        bench.ring.enter(waits);
        bench.mailbox.wake_up();
        while bench.ring.poll_completion().is_some() {}
        taken = mail.load(Ordering::Acquire);
    }
    sender.join().unwrap();
}

const WAKES: u32 = 20_000;

#[test]
fn no_wake_by_a_thread_is_lost() {
    check_wakes(|mailbox, mail| {
        std::thread::spawn(move || {
            for number in 1..=WAKES {
                mail.store(number, Ordering::Release);
                mailbox.wake();
                (0..number % 512).for_each(|_| std::hint::spin_loop());
            }
        })
    });
}

#[test]
fn no_wake_by_another_ring_is_lost() {
    check_wakes(|mailbox, mail| {
        std::thread::spawn(move || {
            let mut bench = Bench::new(SMALL);
            for number in 1..=WAKES {
                mail.store(number, Ordering::Release);
                mailbox.wake_by(&mut bench.ring);
                bench.turn();
                (0..number % 512).for_each(|_| std::hint::spin_loop());
            }
        })
    });
}

#[test]
fn a_ring_that_is_given_up_in_the_middle_of_everything_ends() {
    let mut bench = Bench::new(Sizes::default());
    let peers: Vec<(u32, TcpStream)> = (0..50).map(|_| bench.connect()).collect();
    for (socket, _) in &peers {
        bench.ring.receive(*socket);
        bench.ring.send(*socket, send_of(vec![1; 1 << 20]));
    }
    bench.turn();
    for (_, peer) in &peers {
        (&*peer).write_all(&[1; 1000]).unwrap();
    }
    drop(bench);
    for (_, mut peer) in peers {
        // What was on its way, and the end.
        let _ = peer.read_to_end(&mut Vec::new());
    }
}
