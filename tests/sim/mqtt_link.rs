//! Connections of MQTT in the simulated world: sockets that go from shard to shard with what is under way in them.

use crate::mqtt_client::{Kind, MqttClient};
use crate::mqtt_packet as packet;
use crate::world::{World, owner};
use std::collections::VecDeque;
use tidewire::surface::base::{ConnectionKey, ShardIndex};
use tidewire::surface::shard::{Handover, Transport};

/// A connection with its socket at both ends.
pub struct PacketLink {
    pub client: usize,
    shard: usize,
    /// As long as the server holds the connection.
    key: Option<ConnectionKey>,
    outgoing: VecDeque<u8>,
    /// What the server has read and is no whole packet yet.
    half_read: Vec<u8>,
    /// The client's side ended: behind what is under way comes the end.
    is_ended: bool,
    /// The client hears nothing of it any more.
    is_given_up: bool,
    pub is_stalled: bool,
    pipe: VecDeque<u8>,
    tail: Vec<u8>,
    /// The server's side ended.
    is_finished: bool,
    is_handed: bool,
}

/// A connection that no shard holds.
pub struct Handed {
    link: usize,
    to: usize,
    handover: Handover,
}

impl PacketLink {
    fn flow(&mut self, socket_bytes: usize) {
        if self.is_given_up {
            self.tail.clear();
        }
        let count = self.tail.len().min(socket_bytes.saturating_sub(self.pipe.len()));
        self.pipe.extend(self.tail.drain(..count));
    }
}

impl World {
    pub fn add_mqtt_client(&mut self, kind: Kind) -> usize {
        let at = self.mqtt_clients.len();
        if kind.is_v5 {
            self.messages.v5_clients.insert(at);
        }
        self.mqtt_clients.push(MqttClient::new(at, kind));
        at
    }

    /// The connection of a client, if it has one.
    pub fn packet_link(&self, client: usize) -> Option<usize> {
        self.packet_links.iter().rposition(|link| link.client == client && !link.is_given_up)
    }

    /// A new connection, to whatever shard. An earlier one is given up; what is under way in it may still be read.
    pub fn connect_packets(&mut self, client: usize, starts_clean: bool) {
        if let Some(before) = self.packet_link(client) {
            self.packet_links[before].is_given_up = true;
        }
        let shard = self.random.below(self.shards.len());
        let key = self.shards[shard].handle_accept(self.now, Transport::Mqtt);
        let at = self.packet_links.len();
        if let Some(key) = key {
            self.packet_by_key.insert((shard, key), at);
        }
        self.packet_links.push(PacketLink {
            client,
            shard,
            key,
            outgoing: VecDeque::new(),
            half_read: Vec::new(),
            is_ended: false,
            is_given_up: false,
            is_stalled: false,
            pipe: VecDeque::new(),
            tail: Vec::new(),
            is_finished: key.is_none(),
            is_handed: false,
        });
        self.mqtt_clients[client].connect(starts_clean, &mut self.messages);
        self.carry_out(shard);
    }

    /// What the client has to say goes into its socket.
    fn write_packets(&mut self, at: usize) {
        let link = &mut self.packet_links[at];
        if !link.is_given_up && !link.is_ended {
            link.outgoing.extend(self.mqtt_clients[link.client].outgoing.drain(..));
        }
    }

    /// The connection is lost: some of what is under way may still arrive.
    pub fn reset_packets(&mut self, at: usize) {
        self.write_packets(at);
        let link = &mut self.packet_links[at];
        let kept = self.random.below(link.outgoing.len() + 1);
        link.outgoing.truncate(kept);
        link.is_ended = true;
        if !std::mem::replace(&mut link.is_given_up, true) {
            self.mqtt_clients[link.client].forget_connection();
        }
        link.pipe.clear();
    }

    /// The client says good-bye.
    pub fn leave_packets(&mut self, at: usize, for_good: bool) {
        let client = &mut self.mqtt_clients[self.packet_links[at].client];
        if for_good {
            client.leave_for_good(&mut self.messages)
        } else {
            client.leave()
        }
        self.write_packets(at);
        let link = &mut self.packet_links[at];
        (link.is_ended, link.is_given_up) = (true, true);
        self.mqtt_clients[link.client].forget_connection();
    }

    /// The server reads some bytes, or the end.
    pub fn read_packets(&mut self, at: usize, bytes_max: usize) -> bool {
        self.write_packets(at);
        let link = &mut self.packet_links[at];
        let (Some(key), shard) = (link.key, link.shard) else { return false };
        if self.shards[shard].is_congested() {
            return false;
        }
        let mut bytes: Vec<u8> = link.outgoing.drain(..bytes_max.min(link.outgoing.len())).collect();
        if bytes.is_empty() {
            if link.is_ended {
                link.key = None;
                self.packet_by_key.remove(&(shard, key));
                self.shards[shard].handle_closed(self.now, key);
                self.carry_out(shard);
                return true;
            }
            return false;
        }
        self.trace.update(&bytes);
        self.note_messages(at, &bytes);
        self.shards[shard].handle_bytes(self.now, key, &mut bytes);
        self.carry_out(shard);
        true
    }

    /// The messages among these bytes whose owner is the shard that reads them: it takes them at once. Others go to their owners by mail.
    fn note_messages(&mut self, at: usize, bytes: &[u8]) {
        let count = self.conditions.shards;
        let link = &mut self.packet_links[at];
        link.half_read.extend_from_slice(bytes);
        let is_v5 = self.mqtt_clients[link.client].kind.is_v5;
        while let Some(whole) = packet::next_whole(&mut link.half_read) {
            let Some((topic, number)) = packet::published(&whole, is_v5) else { continue };
            if number == 0 || owner(&topic, count) != link.shard {
                continue;
            }
            // One of QoS 2 of a session that is kept goes to its topic once the session has stored its identifier.
            if self.disk.is_some() && self.messages.get(number).qos == 2 {
                self.messages.order.note_waiting(number);
            } else {
                self.messages.order.note_taken(number);
            }
        }
    }

    pub fn send_packets_to(&mut self, at: usize, shard: usize, key: ConnectionKey) {
        let link = &mut self.packet_links[at];
        if !link.tail.is_empty() {
            return;
        }
        let Some(bytes) = self.shards[shard].poll_transmit(self.now, key) else { return };
        self.trace.update(&bytes);
        link.tail.extend_from_slice(&bytes);
        self.shards[shard].handle_sent(self.now, key, &bytes);
        link.flow(self.conditions.socket_bytes);
        if link.tail.is_empty() && self.shards[shard].wants_to_send(key) {
            self.wakes[shard].push_back(key);
        }
    }

    /// The client reads some bytes; then the socket takes more.
    pub fn listen_packets(&mut self, at: usize, bytes_max: usize) -> bool {
        let link = &mut self.packet_links[at];
        if link.is_stalled {
            return false;
        }
        let bytes: Vec<u8> = link.pipe.drain(..bytes_max.min(link.pipe.len())).collect();
        let had_tail = !link.tail.is_empty();
        if !link.is_given_up {
            self.mqtt_clients[link.client].hear(&bytes, &mut self.messages);
        }
        link.flow(self.conditions.socket_bytes);
        if had_tail
            && link.tail.is_empty()
            && let Some(key) = link.key
        {
            self.wakes[link.shard].push_back(key);
        }
        let is_over = link.is_finished && link.pipe.is_empty() && link.tail.is_empty();
        if is_over && !std::mem::replace(&mut link.is_given_up, true) {
            self.mqtt_clients[link.client].forget_connection();
        }
        !bytes.is_empty() || had_tail && link.tail.is_empty()
    }

    /// The server ends a connection.
    pub fn finish_packets(&mut self, shard: usize, key: ConnectionKey) {
        if let Some(at) = self.packet_by_key.remove(&(shard, key)) {
            let link = &mut self.packet_links[at];
            (link.key, link.is_finished) = (None, true);
        }
    }

    // From shard to shard.

    pub fn hand_over(&mut self, shard: usize, key: ConnectionKey, to: ShardIndex, handover: Handover) {
        let link = self.packet_by_key.remove(&(shard, key)).expect("the connection is known");
        let held = &mut self.packet_links[link];
        assert!(!std::mem::replace(&mut held.is_handed, true), "a connection goes to its client's shard at once");
        held.key = None;
        self.handed.push_back(Handed { link, to: usize::from(to.0), handover });
    }

    /// A connection arrives at its client's shard.
    pub fn adopt(&mut self) -> bool {
        let Some(Handed { link, to, handover }) = self.handed.pop_front() else { return false };
        let key = self.shards[to].handle_handed(self.now, handover);
        let held = &mut self.packet_links[link];
        (held.shard, held.key, held.is_finished) = (to, key, key.is_none());
        if let Some(key) = key {
            self.packet_by_key.insert((to, key), link);
        }
        self.carry_out(to);
        true
    }

    // Restarts.

    /// The server's process ends.
    pub fn lose_packets(&mut self) {
        self.packet_links.clear();
        self.packet_by_key.clear();
        self.handed.clear();
        self.messages.order.note_restart();
        self.mqtt_clients.iter_mut().for_each(MqttClient::note_restart);
    }

    // Until nothing moves.

    /// Clients acknowledge what they have heard.
    pub fn settle_packets(&mut self) -> bool {
        let mut any = self.adopt();
        for at in 0..self.packet_links.len() {
            let bytes_max = self.random.within(1, 3000);
            any |= self.read_packets(at, bytes_max);
            any |= self.listen_packets(at, bytes_max);
            if !self.packet_links[at].is_given_up {
                any |= self.mqtt_clients[self.packet_links[at].client].acknowledge();
            }
        }
        any
    }
}
