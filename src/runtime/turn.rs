//! The turns of one shard: what its ring tells goes into the shard, what the shard wants done is carried out, sends follow together with the next enter.
//!
//! A turn hears a part of what has come, looks at mail, at slices of long work, and makes a part of the sends that wait; then it enters the ring, and waits there
//! if there is nothing else to do. Nothing in it takes longer than its parts are many: one connection's flood waits for the sends to others.
//!
//! Bytes pass from the ring to the shard and back in `hear_bytes` and `send_to` alone. Where a listener wants more of its connections than bytes, as TLS, these go by
//! `guarded`.

mod arrivals;
mod guarded;
mod identities;
mod replicated;
mod turned_away;

use super::addresses::Counted;
use super::identify::SessionReply;
use super::log::Logger;
use super::mesh::{Adoption, Command, Links, Mailbox};
use super::ring::{Completion, Ended, Received, Ring, Sizes};
use super::{Listeners, Settings, now, wall_ms};
use crate::admin::{self, Answer};
use crate::base::{ConnectionKey, ShardIndex, SlabKey};
use crate::replica::Word;
use crate::shard::{Effect, Handover, Shard, Verdict};
use crate::storage::Answer as StorageAnswer;
use crate::transport::Guard;
pub use arrivals::NotTaken;
use guarded::Arrivals;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use turned_away::TurnedAway;

pub const TICK: Duration = Duration::from_millis(100);

/// Batches handled for one ring before others get their turn.
const BATCHES_A_TURN: usize = 64;

/// Bytes heard before sends get their turn; what has come beyond is heard in the next.
const HEARD_A_TURN: usize = 64 << 10;

/// Sends made before the ring is entered, and of how many one goes to a connection that was woken after the round began.
const SENDS_A_TURN: usize = 64;
const LATER_EVERY: usize = 4;

/// The shard's side of a socket.
struct Peer {
    key: ConnectionKey,
    stage: Stage,
    /// What has come and was not looked at.
    held: Held,
    /// What bytes pass through on their way, if anything.
    guard: Option<Box<Guard>>,
    /// Where it counts among its address' connections, if it does.
    counted: Option<Counted>,
}

/// Bytes that wait. Few connections have any, and there may be hundreds of thousands.
#[derive(Default)]
struct Held(Option<Box<HeldBytes>>);

#[derive(Default)]
struct HeldBytes(Vec<u8>);

impl Held {
    fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |held| held.0.len())
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn push(&mut self, bytes: &[u8]) {
        self.0.get_or_insert_default().0.extend_from_slice(bytes);
    }

    fn take(&mut self) -> Vec<u8> {
        self.0.take().map(|held| held.0).unwrap_or_default()
    }
}

enum Stage {
    Open,
    /// What it brings has to wait for a word on who its client is; whether it has ended meanwhile.
    Waiting {
        is_over: bool,
    },
    /// It is another shard's as soon as nothing is under way with it here.
    HandingOver(ShardIndex, Box<Handover>),
    /// It is over, and the peer may still be reading what was sent; whether it has ended its own side.
    Lingering {
        is_over: bool,
    },
}

/// See the module.
pub struct Turns {
    shard: Shard,
    settings: Settings,
    links: Links,
    mailbox: Arc<Mailbox>,
    logger: Logger,
    index: ShardIndex,
    ring: Ring,
    /// What is accepted from, by number: the ring uses their descriptors.
    _listeners: Vec<OwnedFd>,
    /// By the number of the socket.
    peers: Vec<Option<Peer>>,
    /// The socket of each connection, by the index of its key.
    sockets: Vec<u32>,
    /// Connections that have something to send, and those of them whose round of sends is under way.
    wakes: VecDeque<ConnectionKey>,
    round: VecDeque<ConnectionKey>,
    /// What has come while the shard had too much to do, or beyond what it hears in a turn.
    withheld: VecDeque<Completion>,
    heard: usize,
    /// Whether others have not taken all that is for them.
    is_post_held: bool,
    /// Sockets that nothing more is received from until that is asked for.
    unheard: Vec<u32>,
    waiting: Vec<u32>,
    arrivals: Arrivals,
    turned_away: TurnedAway,
    handing_over: Vec<u32>,
    /// Sockets that linger, and at which tick they have done so long enough.
    lingering: VecDeque<(u64, u32, ConnectionKey)>,
    report_requests: HashMap<u64, ConnectionKey>,
    /// Who hears what sessions say of who clients are, and how many were asked.
    judging: HashMap<u64, SessionReply>,
    questions: u64,
    ticks: u64,
    is_tick_due: bool,
    /// What groups' logs and other servers say, and was not heard yet.
    words: VecDeque<Word>,
    /// Listeners that failed, until the next tick.
    failed: Vec<u32>,
    /// The tick at which the shard stops at the latest.
    stops_at: Option<u64>,
}

impl Turns {
    /// On the shard's own thread.
    pub fn new(shard: Shard, settings: Settings, listeners: Listeners, links: Links) -> io::Result<Self> {
        let index = links.rings.outgoing.iter().position(Option::is_none).expect("a shard has no ring to itself");
        let mailbox = links.mailboxes[index].clone();
        let descriptors = listeners.sockets.iter().map(AsRawFd::as_raw_fd).collect();
        let ring = Ring::new(Sizes::default(), mailbox.bell(), descriptors, TICK)?;
        mailbox.set_ring(ring.try_clone_descriptor()?);
        Ok(Self {
            shard,
            settings,
            links,
            mailbox,
            logger: Logger::default(),
            index: ShardIndex(index as u16),
            ring,
            _listeners: listeners.sockets,
            peers: Vec::new(),
            sockets: Vec::new(),
            wakes: VecDeque::new(),
            round: VecDeque::new(),
            withheld: VecDeque::new(),
            heard: 0,
            is_post_held: false,
            unheard: Vec::new(),
            waiting: Vec::new(),
            arrivals: Arrivals::default(),
            turned_away: TurnedAway::default(),
            handing_over: Vec::new(),
            lingering: VecDeque::new(),
            report_requests: HashMap::new(),
            judging: HashMap::new(),
            questions: 0,
            ticks: 0,
            is_tick_due: false,
            words: VecDeque::new(),
            failed: Vec::new(),
            stops_at: None,
        })
    }

    /// Runs the shard until it is told to stop and has taken leave, or fails.
    pub fn run(self) {
        let _running = self.mailbox.begin();
        self.run_to_end();
    }

    fn run_to_end(mut self) {
        let mut started = now();
        let mut last_traffic = started;
        while !self.is_over() {
            let waits = !self.has_work() && self.falls_asleep(last_traffic);
            if waits {
                self.shard.handle_turn(now().since(started));
            }
            self.ring.enter(waits);
            self.mailbox.wake_up();
            let ended = now();
            if !waits {
                self.shard.handle_turn(ended.since(started));
            }
            started = ended;
            if self.turn() {
                last_traffic = started;
            }
        }
        self.give_up_records();
    }

    /// Whether there is something to do that no completion tells of.
    fn has_work(&self) -> bool {
        !self.wakes.is_empty()
            || !self.round.is_empty()
            || self.arrivals.are_due()
            || self.shard.has_walks()
            || self.has_words()
            || !self.withheld.is_empty() && !self.shard.is_congested()
    }

    /// Whether the shard is to sleep until it is woken: nothing has come as long as it looks for that.
    fn falls_asleep(&mut self, last_traffic: crate::base::Time) -> bool {
        let spins = self.settings.spin_before_park_us * 1000;
        if spins > 0 && now().since(last_traffic) < spins {
            // What was asked for so far is not to wait.
            self.ring.enter(false);
            while now().since(last_traffic) < spins {
                if self.ring.has_completions() || self.links.has_mail() {
                    return false;
                }
                std::hint::spin_loop();
            }
        }
        if !self.withheld.is_empty() || self.is_post_held {
            // Nobody tells that others have taken what was sent to them.
            self.ring.nap();
        }
        self.mailbox.fall_asleep();
        !self.links.has_mail()
    }

    /// Looks at all that has come, and makes sends. Whether anything came, or is to be sent.
    fn turn(&mut self) -> bool {
        self.heard = 0;
        self.hear_withheld();
        let mut has_traffic = false;
        // As many as the ring holds: what is given back is filled at the next enter.
        while let Some(completion) = self.ring.poll_completion() {
            has_traffic |= !matches!(completion, Completion::Tick);
            self.complete(completion);
        }
        self.finish_sends();
        has_traffic |= self.take_mail();
        has_traffic |= self.hear_words();
        if self.is_tick_due {
            self.tick();
        }
        self.go_on_waiting();
        self.run_arrivals();
        if self.shard.has_walks() {
            self.shard.run_slice(now());
            self.carry_out();
        }
        self.post();
        has_traffic |= self.send();
        self.carry_out();
        self.post();
        self.hear_again();
        self.finish_handing_over();
        has_traffic
    }

    fn tick(&mut self) {
        self.is_tick_due = false;
        self.ticks += 1;
        self.mailbox.beat();
        self.shard.note_interruptions(self.mailbox.interruptions());
        self.shard.note_arrivals(self.arrivals.counts());
        self.turned_away.tick(self.ticks);
        self.shard.handle_tick(now(), wall_ms());
        self.carry_out();
        while let Some((_, socket, key)) = self.lingering.front().copied().filter(|(until, ..)| *until <= self.ticks) {
            self.lingering.pop_front();
            if self.peer(socket).is_some_and(|peer| peer.key == key && matches!(peer.stage, Stage::Lingering { .. })) {
                self.forget(socket);
            }
        }
        for listener in std::mem::take(&mut self.failed) {
            self.ring.accept(listener);
        }
    }

    /// The ticks that take at least so long.
    fn ticks_of(ms: u64) -> u64 {
        ms.div_ceil(TICK.as_millis() as u64)
    }

    /// Whether the shard is to stop and has taken leave: no connection is left, and storage has what it has to keep. Where acknowledgements do not
    /// wait for it, some records may still be here.
    fn is_over(&self) -> bool {
        let Some(stops_at) = self.stops_at else { return false };
        let is_done = self.shard.connection_count() == 0 && self.ring.socket_count() == 0 && !self.shard.persistence().has_to_send();
        is_done || self.ticks >= stops_at
    }

    // What the ring tells.

    fn complete(&mut self, completion: Completion) {
        match completion {
            Completion::Accepted(listener, descriptor) => {
                if self.stops_at.is_none() {
                    self.take_connection(descriptor, listener);
                }
            }
            Completion::AcceptFailed(listener, error) => {
                // Out of descriptors, most likely: those that wait are taken when others end.
                tracing::warn!(%error, "cannot accept a connection");
                self.failed.push(listener);
            }
            Completion::Received(_) | Completion::ReceiveEnded(..) => {
                if self.withheld.is_empty() && self.has_room() {
                    self.hear(completion);
                } else {
                    self.withheld.push_back(completion);
                }
            }
            Completion::RestSent(socket) => self.rest_sent(socket),
            Completion::Tick => {
                self.is_tick_due = true;
                self.ring.tick();
            }
        }
    }

    /// Whether connections may be heard: the shard does not have too much to do, and this turn has not heard its part.
    fn has_room(&mut self) -> bool {
        if self.heard >= HEARD_A_TURN {
            return false;
        }
        if self.shard.is_congested() {
            self.post();
        }
        !self.shard.is_congested()
    }

    /// Goes on with what was withheld. There are no more of these than receive buffers and connections.
    fn hear_withheld(&mut self) {
        while !self.withheld.is_empty() && self.has_room() {
            let completion = self.withheld.pop_front().expect("there is a first");
            self.hear(completion);
        }
    }

    fn hear(&mut self, completion: Completion) {
        match completion {
            Completion::Received(received) => self.hear_bytes(received),
            Completion::ReceiveEnded(socket, ended) => self.hear_end(socket, ended),
            _ => unreachable!("only these are heard"),
        }
    }

    fn hear_bytes(&mut self, received: Received) {
        let socket = received.socket;
        self.heard += received.len();
        let Some(peer) = self.peers[socket as usize].as_mut() else { return self.ring.give_back(received) };
        match peer.stage {
            Stage::Open if peer.guard.is_some() => self.hear_guarded_bytes(received),
            Stage::Open => {
                self.shard.handle_bytes(now(), peer.key, self.ring.bytes(&received));
                self.ring.give_back(received);
                self.carry_out();
                self.wait_if_told(socket);
            }
            Stage::Waiting { .. } | Stage::HandingOver(..) => {
                peer.held.push(self.ring.bytes(&received));
                self.ring.give_back(received);
            }
            Stage::Lingering { .. } => self.ring.give_back(received),
        }
    }

    fn hear_end(&mut self, socket: u32, ended: Ended) {
        let Some(peer) = self.peers[socket as usize].as_mut() else { return };
        match (&mut peer.stage, ended) {
            (Stage::Open | Stage::Lingering { .. }, Ended::Paused) => self.unheard.push(socket),
            (Stage::Waiting { .. } | Stage::HandingOver(..), Ended::Paused) => {}
            (Stage::Open, Ended::Over) => {
                self.hear_held(socket);
                if self.peer(socket).is_some_and(|peer| matches!(peer.stage, Stage::Open)) {
                    self.peer_ended(socket);
                }
            }
            (Stage::Waiting { is_over }, Ended::Over) => *is_over = true,
            // Who goes on with it sees the end too.
            (Stage::HandingOver(..), Ended::Over) => {}
            (Stage::Lingering { .. }, Ended::Over) if !self.ring.is_sending(socket) => self.forget(socket),
            (Stage::Lingering { is_over }, Ended::Over) => *is_over = true,
        }
    }

    /// The peer has ended, or its own side: then it hears what it was answered.
    fn peer_ended(&mut self, socket: u32) {
        let key = self.peer(socket).expect("the peer that ended is here").key;
        self.send_to(key);
        self.shard.handle_closed(now(), key);
        if self.ring.is_sending(socket) {
            self.linger(socket, true);
        } else if self.peer(socket).is_some_and(|peer| peer.guard.is_some()) {
            self.linger(socket, true);
            self.sent_last(socket, true);
        } else {
            self.forget(socket);
        }
        self.carry_out();
    }

    /// The peer has so long to read what was sent.
    fn linger(&mut self, socket: u32, is_over: bool) {
        let peer = self.peers[socket as usize].as_mut().expect("who lingers is here");
        (peer.stage, peer.held) = (Stage::Lingering { is_over }, Held::default());
        let until = self.ticks + Self::ticks_of(self.settings.limits.close_timeout_ms);
        self.lingering.push_back((until, socket, peer.key));
    }

    /// All that there was to be sent to one that lingers has gone.
    fn sent_last(&mut self, socket: u32, is_over: bool) {
        if self.send_farewell(socket) {
            return;
        }
        if is_over {
            self.forget(socket);
        } else {
            self.ring.shut_down(socket, Shutdown::Write);
        }
    }

    /// Receives again from sockets that nothing is received from, unless nothing is heard now.
    fn hear_again(&mut self) {
        if self.withheld.is_empty() {
            for socket in std::mem::take(&mut self.unheard) {
                let is_heard = |peer: &Peer| match peer.stage {
                    Stage::Open => !guarded::is_full(peer),
                    Stage::Lingering { is_over } => !is_over,
                    _ => false,
                };
                if self.peer(socket).is_some_and(is_heard) {
                    self.ring.receive(socket);
                }
            }
        }
    }

    /// What the connection brings has to wait for the answer to an effect.
    fn wait_if_told(&mut self, socket: u32) {
        let Some(peer) = self.peers[socket as usize].as_mut() else { return };
        if matches!(peer.stage, Stage::Open) && self.shard.is_waiting(peer.key) {
            peer.stage = Stage::Waiting { is_over: false };
            // The shard tells when one may be read again that waits for its pace: there may be very many.
            if !self.shard.is_paced(peer.key) {
                self.waiting.push(socket);
            }
            self.ring.stop_receiving(socket);
        }
    }

    /// Goes on with those who wait no longer.
    fn go_on_waiting(&mut self) {
        for socket in std::mem::take(&mut self.waiting) {
            let Some(peer) = self.peers[socket as usize].as_mut() else { continue };
            let Stage::Waiting { is_over } = peer.stage else { continue };
            if self.shard.is_waiting(peer.key) {
                self.waiting.push(socket);
                continue;
            }
            peer.stage = Stage::Open;
            let mut held = peer.held.take();
            if peer.guard.is_some() {
                self.hear_guarded(socket, &mut held);
            } else {
                self.shard.handle_bytes(now(), peer.key, &mut held);
                self.carry_out();
            }
            if is_over {
                self.peer_ended(socket);
            } else {
                self.unheard.push(socket);
                self.wait_if_told(socket);
            }
        }
    }

    // Sends.

    /// Makes a part of the sends that wait: one for each connection of the round, all together. Whoever is woken while the round is long has
    /// a share of each turn: few do not wait until many are sent something. Whether there is any.
    fn send(&mut self) -> bool {
        if self.round.is_empty() {
            std::mem::swap(&mut self.round, &mut self.wakes);
            self.shard.begin_sends();
        }
        let part = SENDS_A_TURN.min(self.round.len() + self.wakes.len());
        for number in 1..=part {
            let later = if number % LATER_EVERY == 0 { self.wakes.pop_front() } else { None };
            let Some(key) = later.or_else(|| self.round.pop_front()) else { break };
            self.send_to(key);
        }
        part > 0
    }

    fn send_to(&mut self, key: ConnectionKey) {
        let Some(socket) = self.socket_of(key) else { return };
        if self.ring.has_rest(socket) || !matches!(self.peer(socket).expect("it was just there").stage, Stage::Open | Stage::Waiting { .. })
        {
            return;
        }
        if self.ring.is_sending(socket) {
            return self.wakes.push_back(key);
        }
        if self.peer(socket).is_some_and(|peer| peer.guard.is_some()) {
            return self.send_guarded(socket, key);
        }
        let now = now();
        let Some(send) = self.shard.poll_transmit(now, key) else { return };
        self.ring.send(socket, send.clone());
        self.shard.handle_sent(now, key, &send);
        if self.shard.wants_to_send(key) {
            self.wakes.push_back(key);
        }
    }

    /// What was given to the ring has gone, but for rests.
    fn finish_sends(&mut self) {
        let Self { ring, shard, peers, arrivals, .. } = self;
        let mut ending = Vec::new();
        ring.finish_sends(|socket, send| {
            match &peers[socket as usize] {
                Some(Peer { guard: Some(_), .. }) => arrivals.give_up(send),
                _ => shard.give_up_send(send),
            }
            if let Some(Peer { stage: Stage::Lingering { is_over }, .. }) = peers[socket as usize] {
                ending.push((socket, is_over));
            }
        });
        for (socket, is_over) in ending {
            self.sent_last(socket, is_over);
        }
    }

    fn rest_sent(&mut self, socket: u32) {
        let Some(peer) = self.peer(socket) else { return };
        match peer.stage {
            Stage::Lingering { is_over } => self.sent_last(socket, is_over),
            Stage::Open | Stage::Waiting { .. } => self.wakes.push_back(peer.key),
            Stage::HandingOver(..) => {}
        }
    }

    // Connections.

    fn peer(&self, socket: u32) -> Option<&Peer> {
        self.peers[socket as usize].as_ref()
    }

    fn socket_of(&self, key: ConnectionKey) -> Option<u32> {
        let socket = *self.sockets.get(key.index() as usize)?;
        self.peers.get(socket as usize)?.as_ref().filter(|peer| peer.key == key).map(|_| socket)
    }

    /// Goes on with a connection that another shard has begun.
    fn adopt(&mut self, adoption: Adoption) {
        let Adoption { descriptor, mut received, guard, counted, handover } = adoption;
        let Some(key) = self.shard.handle_handed(now(), *handover) else {
            if self.stops_at.is_none() {
                self.note_not_taken(NotTaken::Full, None);
            }
            return;
        };
        let is_guarded = guard.is_some();
        let socket = self.serve(key, descriptor, guard, counted);
        if is_guarded {
            // It may have to say something, and to hear what it was given before.
            self.wakes.push_back(key);
            return self.hear_guarded(socket, &mut received);
        }
        if !received.is_empty() {
            self.shard.handle_bytes(now(), key, &mut received);
        }
        self.carry_out();
        self.wait_if_told(socket);
    }

    /// Gives a connection to another shard, as soon as nothing is under way with it here.
    fn hand_over(&mut self, key: ConnectionKey, to: ShardIndex, handover: Box<Handover>) {
        let Some(socket) = self.socket_of(key) else { return };
        let peer = self.peers[socket as usize].as_mut().expect("it was just there");
        // Its address may have no room for it.
        if matches!(peer.stage, Stage::Lingering { .. }) {
            return;
        }
        peer.stage = Stage::HandingOver(to, handover);
        if self.ring.is_receiving(socket) {
            self.ring.stop_receiving(socket);
        }
        self.handing_over.push(socket);
    }

    fn finish_handing_over(&mut self) {
        for socket in std::mem::take(&mut self.handing_over) {
            // Bytes that were withheld come with it, so they are heard first.
            let is_withheld = |completion: &Completion| matches!(completion, Completion::Received(received) if received.socket == socket);
            if self.withheld.iter().any(is_withheld) {
                self.handing_over.push(socket);
                continue;
            }
            let Some(descriptor) = self.ring.take(socket) else {
                self.handing_over.push(socket);
                continue;
            };
            let peer = self.peers[socket as usize].take().expect("who is handed over is here");
            let Stage::HandingOver(to, handover) = peer.stage else { unreachable!("nothing else happens to it") };
            let Peer { mut held, guard, counted, .. } = peer;
            self.links.hand_over(to, Adoption { descriptor, received: held.take(), guard, counted, handover }, &mut self.ring);
        }
    }

    /// Ends our side; the peer may still be reading what was sent.
    fn end_transport(&mut self, key: ConnectionKey) {
        self.shard.handle_closed(now(), key);
        let Some(socket) = self.socket_of(key) else { return };
        let is_over = matches!(self.peer(socket).expect("it was just there").stage, Stage::Waiting { is_over: true });
        let is_sending = self.ring.is_sending(socket);
        if !is_sending && is_over {
            return self.forget(socket);
        }
        self.linger(socket, is_over);
        if !is_sending {
            self.sent_last(socket, is_over);
        }
        // It may have been stopped.
        self.unheard.push(socket);
    }

    fn forget(&mut self, socket: u32) {
        let peer = self.peers[socket as usize].take();
        self.arrivals.note_end(socket, peer.and_then(|peer| peer.guard).as_deref());
        self.ring.close(socket);
        // Its number is another's soon. No more is withheld than receive buffers and connections are.
        for completion in std::mem::take(&mut self.withheld) {
            match completion {
                Completion::Received(received) if received.socket == socket => self.ring.give_back(received),
                Completion::ReceiveEnded(of, _) if of == socket => {}
                other => self.withheld.push_back(other),
            }
        }
    }

    // What the shard wants done.

    fn carry_out(&mut self) {
        while let Some(effect) = self.shard.poll_effect() {
            match effect {
                Effect::Wake(key) => self.wakes.push_back(key),
                Effect::Read(key) => self.waiting.extend(self.socket_of(key)),
                Effect::Close(key) => self.end_transport(key),
                Effect::Http(key, request) => self.answer_request(key, &request.method, &request.path),
                Effect::HandOver(key, to, handover) => self.hand_over(key, to, handover),
                Effect::Locate(key, address) => drop(self.locate(key, address)),
                Effect::Reports(ticket) => self.answer_reports(ticket),
                Effect::Inside(_) | Effect::InsideOver(_) => unreachable!("nothing in the process has a session"),
                // This server knows no method.
                Effect::Authenticate(key, asked) => self.shard.handle_authenticated(now(), key, &asked.method, Verdict::Unknown),
                Effect::Identify(key, claim) => self.identify(key, *claim),
                Effect::Judged(number, judged) => self.judged(number, judged),
                Effect::ChangePrincipals(order) => self.change_principals(*order),
                Effect::Log(news) => self.logger.log(now(), &news),
                Effect::Audit(audit) => self.settings.audit.as_ref().expect("a shard notes where that goes").note(wall_ms(), audit),
            }
        }
    }

    fn answer_request(&mut self, key: ConnectionKey, method: &str, path: &str) {
        match admin::answer(&self.settings.pages, method, path) {
            Answer::Page { status, content_type, body } => self.shard.respond(key, status, content_type, body),
            Answer::Latency => {
                let ticket = self.shard.request_reports();
                self.report_requests.insert(ticket, key);
            }
        }
    }

    fn answer_reports(&mut self, ticket: u64) {
        let reports = self.shard.take_reports(ticket);
        if let Some(key) = self.report_requests.remove(&ticket) {
            let body = admin::print_reports(&reports, self.links.counters.as_deref());
            self.shard.respond(key, 200, "application/json", &body);
        }
    }

    // Mail and records.

    fn post(&mut self) {
        self.is_post_held = false;
        self.send_mail();
        self.send_records();
        self.send_words();
    }

    /// Puts the shard's mail into the rings; what does not fit goes back and is tried again soon.
    fn send_mail(&mut self) {
        let Links { rings, mailboxes, .. } = &mut self.links;
        for (to, ring) in rings.outgoing.iter_mut().enumerate() {
            let Some(ring) = ring else { continue };
            let to_shard = ShardIndex(to as u16);
            let Some(batch) = self.shard.poll_mail(to_shard) else { continue };
            if let Err(rtrb::PushError::Full(batch)) = ring.push(batch) {
                self.shard.return_mail(to_shard, batch);
                self.is_post_held = true;
            }
            mailboxes[to].wake_by(&mut self.ring);
        }
    }

    /// Hands what is to be stored to storage; what it has no room for goes back and is tried again soon.
    fn send_records(&mut self) {
        let Some(storage) = &self.links.storage else { return };
        let Some(records) = self.shard.poll_records() else { return };
        if let Err(records) = storage.try_send(records) {
            self.shard.return_records(records);
            self.is_post_held = true;
        }
    }

    /// The end: what storage does not take now, nobody keeps.
    fn give_up_records(&mut self) {
        self.send_records();
        let lost = self.shard.persistence().unsent();
        if lost > 0 {
            if let Some(storage) = &self.links.storage {
                storage.note_lost();
            }
            tracing::error!(shard = self.index.0, records = lost, "records of stored topics are lost: storage did not take them in time");
        }
    }

    /// Takes what came from other shards and from other threads; tells whether there was anything.
    fn take_mail(&mut self) -> bool {
        let mut any = false;
        for (from, ring) in self.links.rings.incoming.iter_mut().enumerate() {
            let Some(ring) = ring else { continue };
            for _ in 0..BATCHES_A_TURN {
                let Ok(batch) = ring.pop() else { break };
                any = true;
                self.shard.handle_mail(now(), ShardIndex(from as u16), batch);
            }
        }
        // Each is a word of storage's or of the process, or a connection.
        while let Ok(command) = self.links.commands.try_recv() {
            any = true;
            match command {
                Command::ShutDown => {
                    self.stops_at = Some(self.ticks + Self::ticks_of(self.settings.shutdown_drain_ms));
                    self.ring.stop_accepting();
                    self.shard.shut_down(now());
                }
                Command::Adopt(adoption) => {
                    // What was wanted so far comes first: a connection that is over may be about to leave its place to this one.
                    self.carry_out();
                    self.adopt(adoption);
                }
                Command::Replica(word) => self.words.push_back(word),
                Command::AskSessions(question) => self.ask_sessions(question),
                Command::Identified(answered) => self.identified(*answered),
                Command::Principals(to, result) => self.shard.handle_principals(now(), to, result),
                Command::Storage(StorageAnswer::Acknowledged { through }) => self.shard.handle_stored(now(), through),
                Command::Storage(StorageAnswer::Failing { reason }) => {
                    self.say_faltering(true);
                    self.shard.handle_storage_failure(now(), &reason);
                }
                Command::Storage(StorageAnswer::Recovered) => {
                    self.say_faltering(false);
                    self.shard.handle_storage_recovery(now());
                }
            }
        }
        if any {
            self.carry_out();
        }
        any
    }
}
