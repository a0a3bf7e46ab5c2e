//! Connections of sessions that outlive them: sockets that are cut at any byte, and that the server may hold for alive long after.

use crate::client::Form;
use crate::resume_client::Resumer;
use crate::resume_topics::Ledger;
use crate::world::World;
use std::collections::{BTreeMap, VecDeque};
use tidewire::surface::base::{ConnectionKey, ShardIndex};
use tidewire::surface::shard::{Handover, Transport};

/// What the simulated world has of such clients.
#[derive(Default)]
pub struct Resuming {
    pub clients: Vec<Resumer>,
    pub wires: Vec<Wire>,
    /// What was written, by all.
    pub ledger: Ledger,
    by_key: BTreeMap<(usize, ConnectionKey), usize>,
    /// Connections on their way from shard to shard.
    moving: VecDeque<(usize, usize, Handover)>,
}

/// A connection with its socket at both ends.
pub struct Wire {
    pub client: usize,
    shard: usize,
    /// As long as a shard holds the connection.
    key: Option<ConnectionKey>,
    pub outgoing: VecDeque<u8>,
    /// The client's side ended: behind what is under way comes the end.
    is_ended: bool,
    /// The client hears nothing of it any more.
    pub is_given_up: bool,
    pub is_stalled: bool,
    pipe: VecDeque<u8>,
    tail: Vec<u8>,
    /// The server's side ended.
    is_finished: bool,
}

impl Resuming {
    pub fn wire_of(&self, shard: usize, key: ConnectionKey) -> Option<usize> {
        self.by_key.get(&(shard, key)).copied()
    }
}

impl Wire {
    fn flow(&mut self, socket_bytes: usize) {
        if self.is_given_up {
            self.tail.clear();
        }
        let count = self.tail.len().min(socket_bytes.saturating_sub(self.pipe.len()));
        self.pipe.extend(self.tail.drain(..count));
    }

    /// Whether nothing moves in it any more.
    pub fn is_over(&self) -> bool {
        self.is_given_up && self.key.is_none()
    }
}

impl World {
    pub fn add_resumer(&mut self, form: Form, stay_ms: u64) -> usize {
        let at = self.resuming.clients.len();
        self.resuming.clients.push(Resumer::new(at, form, stay_ms));
        at
    }

    /// A new connection, to whatever shard. An earlier one is given up, and the server may take it for alive.
    pub fn connect_wire(&mut self, client: usize) {
        let shard = self.random.below(self.shards.len());
        self.connect_wire_to(client, shard);
    }

    pub fn connect_wire_to(&mut self, client: usize, shard: usize) {
        if let Some(before) = self.resuming.clients[client].wire {
            self.give_wire_up(before);
        }
        let at = self.resuming.wires.len();
        let key = self.shards[shard].handle_accept(self.now, Transport::Http);
        if let Some(key) = key {
            self.resuming.by_key.insert((shard, key), at);
        }
        self.resuming.wires.push(Wire {
            client,
            shard,
            key,
            outgoing: VecDeque::new(),
            is_ended: false,
            is_given_up: false,
            is_stalled: false,
            pipe: VecDeque::new(),
            tail: Vec::new(),
            is_finished: key.is_none(),
        });
        let id = self.take_id();
        let resumer = &mut self.resuming.clients[client];
        resumer.wire = Some(at);
        resumer.connect(id, &mut self.random);
        self.write_wire(at);
        self.carry_out(shard);
    }

    /// What the client has to say goes into its socket.
    fn write_wire(&mut self, at: usize) {
        let wire = &mut self.resuming.wires[at];
        let resumer = &mut self.resuming.clients[wire.client];
        if resumer.wire == Some(at) {
            resumer.write(&mut self.random);
            wire.outgoing.extend(resumer.outgoing.drain(..));
        }
    }

    /// The client hears and says nothing more by it. What it has said may still be read, and the server is not told of an end.
    pub fn give_wire_up(&mut self, at: usize) {
        self.write_wire(at);
        if self.resuming.clients[self.resuming.wires[at].client].has_gone_ahead() {
            // They are sent again by another connection, so this one must not bring them later.
            self.resuming.wires[at].outgoing.clear();
            while self.adopt_wire() {}
        }
        let wire = &mut self.resuming.wires[at];
        wire.is_given_up = true;
        wire.pipe.clear();
        let resumer = &mut self.resuming.clients[wire.client];
        if resumer.wire == Some(at) {
            resumer.lose_connection(self.now);
        }
    }

    /// The connection breaks: of what is under way to the server some arrives, and the end behind it.
    pub fn cut_wire(&mut self, at: usize) {
        self.give_wire_up(at);
        let wire = &mut self.resuming.wires[at];
        if !wire.is_ended {
            let kept = self.random.below(wire.outgoing.len() + 1);
            wire.outgoing.truncate(kept);
            wire.is_ended = true;
        }
    }

    /// The server reads some bytes, or the end.
    pub fn read_wire(&mut self, at: usize, bytes_max: usize) -> bool {
        self.write_wire(at);
        let wire = &mut self.resuming.wires[at];
        let (Some(key), shard) = (wire.key, wire.shard) else { return false };
        if self.shards[shard].is_congested() {
            return false;
        }
        let mut bytes: Vec<u8> = wire.outgoing.drain(..bytes_max.min(wire.outgoing.len())).collect();
        if bytes.is_empty() {
            if wire.is_ended {
                wire.key = None;
                self.resuming.by_key.remove(&(shard, key));
                self.shards[shard].handle_closed(self.now, key);
                self.carry_out(shard);
                return true;
            }
            return false;
        }
        self.trace.update(&bytes);
        self.shards[shard].handle_bytes(self.now, key, &mut bytes);
        self.carry_out(shard);
        true
    }

    pub fn send_wire(&mut self, at: usize) {
        let wire = &mut self.resuming.wires[at];
        let (Some(key), shard) = (wire.key, wire.shard) else { return };
        if !wire.tail.is_empty() {
            return;
        }
        let Some(bytes) = self.shards[shard].poll_transmit(self.now, key) else { return };
        self.trace.update(&bytes);
        wire.tail.extend_from_slice(&bytes);
        self.shards[shard].handle_sent(self.now, key, &bytes);
        self.shards[shard].give_up_send(bytes);
        wire.flow(self.conditions.socket_bytes);
        if wire.tail.is_empty() && self.shards[shard].wants_to_send(key) {
            self.wakes[shard].push_back(key);
        }
    }

    /// The client reads some bytes; then the socket takes more.
    pub fn listen_wire(&mut self, at: usize, bytes_max: usize) -> bool {
        let wire = &mut self.resuming.wires[at];
        if wire.is_stalled {
            return false;
        }
        let bytes: Vec<u8> = wire.pipe.drain(..bytes_max.min(wire.pipe.len())).collect();
        let had_tail = !wire.tail.is_empty();
        let resumer = &mut self.resuming.clients[wire.client];
        if resumer.wire == Some(at) {
            resumer.hear(&bytes, &mut self.resuming.ledger, self.now, &mut self.random);
        }
        wire.flow(self.conditions.socket_bytes);
        let (key, shard) = (wire.key, wire.shard);
        if had_tail
            && wire.tail.is_empty()
            && let Some(key) = key
        {
            self.wakes[shard].push_back(key);
        }
        let is_over = wire.is_finished && wire.pipe.is_empty() && wire.tail.is_empty();
        let has_flown = had_tail && wire.tail.is_empty();
        if is_over && !self.resuming.wires[at].is_given_up {
            self.resuming.clients[self.resuming.wires[at].client].was_closed = true;
            self.give_wire_up(at);
        }
        !bytes.is_empty() || has_flown
    }

    /// The server ends a connection.
    pub fn finish_wire(&mut self, shard: usize, key: ConnectionKey) {
        if let Some(at) = self.resuming.by_key.remove(&(shard, key)) {
            let wire = &mut self.resuming.wires[at];
            (wire.key, wire.is_finished) = (None, true);
        }
    }

    // From shard to shard.

    pub fn hand_wire_over(&mut self, shard: usize, key: ConnectionKey, to: ShardIndex, handover: Handover) {
        let at = self.resuming.by_key.remove(&(shard, key)).expect("the connection is known");
        self.resuming.wires[at].key = None;
        self.resuming.moving.push_back((at, usize::from(to.0), handover));
    }

    /// A connection arrives at its session's shard.
    pub fn adopt_wire(&mut self) -> bool {
        let Some((at, to, handover)) = self.resuming.moving.pop_front() else { return false };
        let key = self.shards[to].handle_handed(self.now, handover);
        let wire = &mut self.resuming.wires[at];
        (wire.shard, wire.key, wire.is_finished) = (to, key, key.is_none());
        if let Some(key) = key {
            self.resuming.by_key.insert((to, key), at);
        }
        self.carry_out(to);
        true
    }

    // Bounds and rest.

    pub fn check_resume_bounds(&self, shard: usize) {
        let limits = &self.conditions.resume;
        let [away, kept] = self.shards[shard].resume_bytes_most();
        assert!(away <= limits.away_queue_bytes_max, "{away} bytes wait for a session that is away");
        let kept_max = limits.recovery_bytes_max + self.conditions.transmit_bytes_max + FRAME_BYTES_MAX;
        assert!(kept <= kept_max, "{kept} bytes are kept to be sent again, more than {kept_max}");
    }

    /// Clients say what they have processed; those that stall are left out.
    pub fn settle_wires(&mut self) -> bool {
        let mut any = self.adopt_wire();
        for at in 0..self.resuming.wires.len() {
            if self.resuming.wires[at].is_over() {
                continue;
            }
            let bytes_max = self.random.within(1, 3000);
            any |= self.read_wire(at, bytes_max);
            any |= self.listen_wire(at, bytes_max);
            let wire = &self.resuming.wires[at];
            if !wire.is_given_up && !wire.is_stalled {
                any |= self.resuming.clients[wire.client].acknowledge(&mut self.random);
            }
        }
        any
    }
}

/// The longest frame of the simulation's clients, and what a connection says beside its session's queue.
const FRAME_BYTES_MAX: usize = 6000;
