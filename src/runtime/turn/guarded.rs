//! Connections that bytes pass through something on, as TLS, before the shard has them.
//!
//! While such a connection begins, what comes costs far more than bytes do: it is held, and done a part a turn, so that all that has begun goes on meanwhile.

use super::{NotTaken, Peer, Stage, Turns};
use crate::base::ConnectionKey;
use crate::runtime::addresses::Counted;
use crate::runtime::now;
use crate::runtime::ring::Received;
use crate::shard::{Arrivals as Counts, Send};
use crate::transport::{Arrived, Failure, Guard, Heard, Policy};
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::rc::Rc;

/// How long beginnings take in a turn, exceeded by at most one; a turn's sends take about as long.
const ARRIVALS_NS_A_TURN: u64 = 500_000;

/// Where so much has come from a connection that has not begun, no more is received until its turn has come.
const HELD_BYTES_HIGH: usize = 32 << 10;

/// So many sends, and of so many bytes each, are kept to be used again.
const SPARE_MAX: usize = 64;
const SPARE_BYTES_MAX: usize = 128 << 10;

/// Beyond this the memory that bytes are opened into is given back.
const PLAIN_BYTES_MAX: usize = 256 << 10;

/// What a shard has for its guarded connections.
#[derive(Default)]
pub struct Arrivals {
    /// Those that something has come from before they have begun.
    queue: VecDeque<u32>,
    /// Connections that have not begun.
    count: usize,
    /// What is counted of them among their addresses' handshakes, by their sockets.
    handshakes: HashMap<u32, Counted>,
    counts: Counts,
    /// What a peer has said, in memory that is used again.
    plain: Vec<u8>,
    spare: Vec<Rc<Send>>,
}

impl Arrivals {
    pub fn are_due(&self) -> bool {
        !self.queue.is_empty()
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    pub fn is_full(&self, handshakes_max: usize) -> bool {
        self.count >= handshakes_max
    }

    pub fn note_not_taken(&mut self, why: NotTaken) {
        let Counts { handshakes_failed, refused_full, refused_address, refused_handshakes, .. } = &mut self.counts;
        match why {
            NotTaken::Full => *refused_full += 1,
            NotTaken::Address => *refused_address += 1,
            NotTaken::Handshakes | NotTaken::AddressHandshakes => {
                *handshakes_failed += 1;
                *refused_handshakes += 1;
            }
        }
    }

    pub fn count_handshake(&mut self, socket: u32, counted: Option<Counted>) {
        if let Some(counted) = counted {
            self.handshakes.insert(socket, counted);
        }
    }

    pub fn note_begin(&mut self, guard: Option<&Guard>) {
        self.count += usize::from(guard.is_some_and(Guard::is_arriving));
    }

    pub fn note_end(&mut self, socket: u32, guard: Option<&Guard>) {
        self.handshakes.remove(&socket);
        self.count -= usize::from(guard.is_some_and(Guard::is_arriving));
    }

    pub fn give_up(&mut self, mut send: Rc<Send>) {
        let Some(alone) = Rc::get_mut(&mut send) else { return };
        if self.spare.len() < SPARE_MAX && alone.bytes.capacity() <= SPARE_BYTES_MAX {
            alone.bytes.clear();
            self.spare.push(send);
        }
    }
}

/// Whether nothing more is received from it until what has come was looked at.
pub fn is_full(peer: &Peer) -> bool {
    peer.held.len() >= HELD_BYTES_HIGH
}

impl Turns {
    /// The guard of a connection that comes from there, where it needs one; `None` where the connection is not taken.
    pub(super) fn make_guard(&mut self, policy: &Policy, address: Option<IpAddr>) -> Option<Option<Box<Guard>>> {
        let is_proxy = |address| policy.proxies.as_ref().is_none_or(|proxies| proxies.contain(address));
        if policy.proxies.is_some() && !address.is_some_and(is_proxy) {
            return self.fail_arrival("it is none of the proxies that may connect");
        }
        match Guard::new(policy) {
            Ok(guard) => Some(guard),
            Err(Failure(what)) => self.fail_arrival(&what),
        }
    }

    fn fail_arrival<T>(&mut self, what: &str) -> Option<T> {
        self.arrivals.counts.handshakes_failed += 1;
        tracing::debug!(what, "a connection cannot begin");
        None
    }

    pub(super) fn hear_guarded_bytes(&mut self, received: Received) {
        let socket = received.socket;
        let peer = self.peers[socket as usize].as_mut().expect("who is heard is here");
        if peer.guard.as_ref().is_some_and(|guard| guard.is_arriving()) || !peer.held.is_empty() {
            if peer.held.is_empty() {
                self.arrivals.queue.push_back(socket);
            }
            peer.held.push(self.ring.bytes(&received));
            let is_full = is_full(peer);
            self.ring.give_back(received);
            if is_full && self.ring.is_receiving(socket) {
                self.ring.stop_receiving(socket);
            }
            return;
        }
        let opened = open(peer, self.ring.bytes(&received), &mut self.arrivals.plain);
        self.ring.give_back(received);
        self.take_up(socket, opened);
    }

    /// Goes on with connections that have not begun, a part of them.
    pub(super) fn run_arrivals(&mut self) {
        let started = now();
        while let Some(socket) = self.arrivals.queue.pop_front() {
            self.hear_held(socket);
            if now().since(started) > ARRIVALS_NS_A_TURN {
                break;
            }
        }
    }

    /// Looks at what has come from a connection before its turn.
    pub(super) fn hear_held(&mut self, socket: u32) {
        let Some(peer) = self.peers[socket as usize].as_mut() else { return };
        if peer.guard.is_none() || peer.held.is_empty() || !matches!(peer.stage, Stage::Open) {
            return;
        }
        let mut held = peer.held.take();
        if !self.ring.is_receiving(socket) {
            self.unheard.push(socket);
        }
        self.hear_guarded(socket, &mut held);
    }

    /// What has come from a guarded connection goes to the shard.
    pub(super) fn hear_guarded(&mut self, socket: u32, bytes: &mut [u8]) {
        let peer = self.peers[socket as usize].as_mut().expect("who is heard is here");
        let opened = open(peer, bytes, &mut self.arrivals.plain);
        self.take_up(socket, opened);
    }

    fn take_up(&mut self, socket: u32, opened: Opened) {
        let Opened { key, heard, arrived, has_begun, has_to_send } = opened;
        if has_begun {
            self.arrivals.counts.handshakes += 1;
            self.arrivals.count -= 1;
            self.arrivals.handshakes.remove(&socket);
        }
        if arrived.address.is_some_and(|address| !self.locate(key, address)) {
            return;
        }
        if let Some(principal) = arrived.principal {
            tracing::debug!(%principal, "a client has shown its certificate");
            self.shard.note_principal(key, principal);
        }
        let mut plain = std::mem::take(&mut self.arrivals.plain);
        if !plain.is_empty() {
            self.shard.handle_bytes(now(), key, &mut plain);
            plain.clear();
        }
        if plain.capacity() <= PLAIN_BYTES_MAX {
            self.arrivals.plain = plain;
        }
        if has_to_send {
            self.wakes.push_back(key);
        }
        self.carry_out();
        // The shard may have ended it, or given it away.
        let Some(peer) = self.peers[socket as usize].as_mut().filter(|peer| peer.key == key) else { return };
        match (heard, &mut peer.stage) {
            (Ok(Heard::GoesOn), _) => self.wait_if_told(socket),
            (Ok(Heard::Ended), Stage::Open) => self.peer_ended(socket),
            (Ok(Heard::Ended), Stage::Waiting { is_over }) => *is_over = true,
            (Err(Failure(what)), Stage::Open | Stage::Waiting { .. }) => {
                self.arrivals.counts.handshakes_failed += u64::from(peer.guard.as_ref().is_some_and(|guard| guard.is_arriving()));
                tracing::debug!(what, "a connection cannot go on");
                self.end_transport(key);
            }
            _ => {}
        }
    }

    /// Sends what the shard has for a guarded connection, behind what the guard has to say itself.
    pub(super) fn send_guarded(&mut self, socket: u32, key: ConnectionKey) {
        let now = now();
        let polled = self.shard.poll_transmit(now, key);
        let guard = self.peers[socket as usize].as_mut().and_then(|peer| peer.guard.as_mut()).expect("it is guarded");
        let mut sealed = self.arrivals.spare.pop().unwrap_or_default();
        let alone = Rc::get_mut(&mut sealed).expect("nobody else has a spare one");
        alone.bytes.append(&mut guard.out);
        guard.out = std::mem::take(&mut alone.bytes);
        let mut result = Ok(());
        if let Some(send) = polled {
            // Before the connection has begun nobody could read it.
            if !guard.is_arriving() {
                result = guard.seal(&send);
            }
            self.shard.handle_sent(now, key, &send);
            self.shard.give_up_send(send);
        }
        alone.bytes = std::mem::take(&mut guard.out);
        if sealed.bytes.is_empty() {
            self.arrivals.give_up(sealed);
        } else {
            self.ring.send(socket, sealed);
        }
        if let Err(Failure(what)) = result {
            tracing::debug!(what, "nothing more can be sent by a connection");
            self.end_transport(key);
        } else if self.shard.wants_to_send(key) {
            self.wakes.push_back(key);
        }
    }

    /// Sends the last that a guarded connection has to say; whether there was any.
    pub(super) fn send_farewell(&mut self, socket: u32) -> bool {
        let guard = self.peers[socket as usize].as_mut().and_then(|peer| peer.guard.as_mut());
        let Some(bytes) = guard.and_then(|guard| guard.take_farewell()) else { return false };
        self.ring.send(socket, Rc::new(Send { bytes, ..Send::default() }));
        true
    }
}

/// What came of bytes that a guard took.
struct Opened {
    key: ConnectionKey,
    heard: Result<Heard, Failure>,
    arrived: Arrived,
    has_begun: bool,
    has_to_send: bool,
}

/// Passes bytes through the peer's guard, which goes where nothing is left for it to do.
fn open(peer: &mut Peer, bytes: &mut [u8], plain: &mut Vec<u8>) -> Opened {
    let guard = peer.guard.as_mut().expect("who is guarded has a guard");
    plain.clear();
    let was_arriving = guard.is_arriving();
    let heard = guard.hear(bytes, plain);
    let has_begun = was_arriving && !guard.is_arriving();
    let (arrived, has_to_send) = (guard.take_arrived(), !guard.out.is_empty());
    if guard.is_idle() {
        peer.guard = None;
    }
    Opened { key: peer.key, heard, arrived, has_begun, has_to_send }
}
