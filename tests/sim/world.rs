//! The simulated runtime: shards, the mail between them, and sockets, each moved on by a step at a time.

use crate::ask::Asked;
use crate::client::{Client, Form};
use crate::disk::Disk;
use crate::model::{Model, Taken};
use crate::mqtt_client::MqttClient;
use crate::mqtt_link::{Handed, PacketLink};
use crate::mqtt_model::{Message, Messages};
use crate::random::Random;
use crate::resume_link::Resuming;
use crate::topics::Topics;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use tidewire::surface::base::placement::owner_of;
use tidewire::surface::base::{ConnectionKey, ShardIndex, Time};
use tidewire::surface::journal::Append;
use tidewire::surface::mail::{Action, Asker, Batch, Call, Caller, Mail};
use tidewire::surface::security::SecurityStore;
use tidewire::surface::session::{MqttLimits, QueueLimits};
use tidewire::surface::shard::{Effect, Handover, Identified, Identity, Limits, Restoring, ResumeLimits, Shard, Storing, Transport, Who};
use xxhash_rust::xxh3::Xxh3;

/// What the run is put through.
#[derive(Clone, Debug)]
pub struct Conditions {
    pub shards: u16,
    pub clients: usize,
    pub steps: usize,
    pub topics: Topics,
    pub bytes_high: usize,
    pub bytes_max: usize,
    pub walk_slice: usize,
    pub selections_max: usize,
    pub fetch_page_max: usize,
    pub transmit_bytes_max: usize,
    pub socket_bytes: usize,
    pub keep_alive_ms: u64,
    /// Batches that a ring holds.
    pub ring_batches: usize,
    /// In a hundred choices of what a client does.
    pub removals: usize,
    pub selections: usize,
    pub faults: usize,
    /// Requests to others, and questions, of one session that are under way.
    pub questions_max: usize,
    pub request_bytes_max: usize,
    pub resume: ResumeLimits,
    /// Where there is MQTT.
    pub mqtt: Option<MqttLimits>,
    /// Where clients have roles, what these permit at first.
    pub security: Option<Arc<SecurityStore>>,
}

impl Conditions {
    /// Small everything, so that every edge is near.
    pub fn chosen(random: &mut Random) -> Self {
        let bytes_high = random.pick(&[0, 200, 2000, 8000]);
        Self {
            shards: random.within(1, 4) as u16,
            clients: random.within(2, 7),
            steps: 2500,
            topics: random.pick(&[Topics::Plain, Topics::Mixed, Topics::Mixed]),
            bytes_high,
            bytes_max: bytes_high + random.pick(&[3000, 8000, 40_000]),
            walk_slice: random.within(1, 5),
            selections_max: random.within(1, 8),
            fetch_page_max: random.within(1, 20),
            transmit_bytes_max: random.pick(&[1, 60, 300, 4000]),
            socket_bytes: random.pick(&[40, 300, 5000]),
            keep_alive_ms: random.pick(&[600, 30_000]),
            ring_batches: random.within(1, 4),
            removals: random.pick(&[1, 4, 12]),
            selections: random.pick(&[15, 30, 50]),
            faults: random.pick(&[0, 3, 10]),
            questions_max: Limits::default().questions_max,
            request_bytes_max: Limits::default().request_bytes_max,
            resume: ResumeLimits::default(),
            mqtt: None,
            security: None,
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            message_bytes_max: 700,
            path_bytes_max: 100,
            value_bytes_max: 400,
            selections_max: self.selections_max,
            listeners_max: 8,
            streams_max: 4,
            questions_max: self.questions_max,
            request_bytes_max: self.request_bytes_max,
            history_bytes_max: 8000,
            fetch_page_max: self.fetch_page_max,
            topics_max: 1000,
            connections_max: 1000,
            http_head_bytes_max: 2000,
            json_depth_max: 16,
            queue: QueueLimits { bytes_high: self.bytes_high, bytes_max: self.bytes_max },
            resume: self.resume.clone(),
            transmit_bytes_max: self.transmit_bytes_max,
            handshake_timeout_ms: 60_000,
            keep_alive_ms: self.keep_alive_ms,
            walk_slice: self.walk_slice,
            mail_high: 5,
            views: tidewire::surface::shard::DerivationLimits {
                units_per_turn: 4,
                delay_bytes_max: 2000,
                ..tidewire::surface::shard::DerivationLimits::default()
            },
            authenticates: self.security.is_some(),
            security: self.security.clone(),
            has_mqtt: self.mqtt.is_some(),
            mqtt: self.mqtt.clone().unwrap_or_default(),
            ..Limits::default()
        }
    }
}

/// A client with its socket at both ends.
pub struct Link {
    pub client: Client,
    pub shard: usize,
    /// As long as the server holds the connection.
    pub key: Option<ConnectionKey>,
    /// Bytes of the client's that the server has read.
    read_total: u64,
    /// The client's side ended: behind what is under way comes the end.
    pub is_ended: bool,
    pub is_stalled: bool,
    pipe: VecDeque<u8>,
    tail: Vec<u8>,
    /// The server's side ended.
    is_finished: bool,
}

pub struct World {
    pub random: Random,
    pub conditions: Conditions,
    pub model: Model,
    pub links: Vec<Link>,
    pub now: Time,
    pub mqtt_clients: Vec<MqttClient>,
    pub packet_links: Vec<PacketLink>,
    pub packet_by_key: HashMap<(usize, ConnectionKey), usize>,
    /// Connections on their way from shard to shard.
    pub handed: VecDeque<Handed>,
    /// Clients whose sessions outlive their connections.
    pub resuming: Resuming,
    pub messages: Messages,
    pub shards: Vec<Shard>,
    /// Where storage is on.
    pub disk: Option<Disk>,
    /// Records that the disk had no room for, by shard; they go back before the next are taken.
    refused: BTreeMap<usize, Vec<Append>>,
    rings: BTreeMap<(usize, usize), VecDeque<Batch>>,
    /// Mail that did not fit its ring; it goes back before the next is taken.
    held: BTreeMap<(usize, usize), Batch>,
    pub wakes: Vec<VecDeque<ConnectionKey>>,
    round_left: Vec<usize>,
    /// How often each shard went on with what is done slice by slice.
    pub slices: Vec<usize>,
    by_key: HashMap<(usize, ConnectionKey), usize>,
    /// Connections that the server has ended.
    pub ended: Vec<(usize, ConnectionKey)>,
    /// Each request by its number.
    asked: BTreeMap<u64, Asked>,
    next_id: u64,
    next_value: u64,
    /// The LOCKs that shards have taken, in order: the shard, the name and the request.
    pub locks_taken: Vec<(usize, &'static str, u64)>,
    /// Questions for first events that are not answered, and the most there were at a time.
    pub histories_asked: (usize, usize),
    /// What each link's client is, where it is asked; beyond these `ADMIN`.
    pub roles: Vec<Vec<&'static str>>,
    /// The same of clients of MQTT.
    pub mqtt_roles: Vec<Vec<&'static str>>,
    pub trace: Xxh3,
}

impl World {
    pub fn new(mut random: Random, conditions: Conditions) -> Self {
        let count = usize::from(conditions.shards);
        let now = Time(1_000_000_000 + random.below(1_000_000_000) as u64);
        Self {
            shards: shards(&conditions, now, Storing::Off, (7, 0)),
            disk: None,
            refused: BTreeMap::new(),
            random,
            model: Model::default(),
            links: Vec::new(),
            now,
            mqtt_clients: Vec::new(),
            packet_links: Vec::new(),
            packet_by_key: HashMap::new(),
            handed: VecDeque::new(),
            resuming: Resuming::default(),
            messages: Messages::new(conditions.mqtt.as_ref().map_or(0, |limits| usize::from(limits.inflight_max))),
            rings: BTreeMap::new(),
            held: BTreeMap::new(),
            wakes: vec![VecDeque::new(); count],
            round_left: vec![0; count],
            slices: vec![0; count],
            by_key: HashMap::new(),
            ended: Vec::new(),
            asked: BTreeMap::new(),
            next_id: 0,
            next_value: 0,
            locks_taken: Vec::new(),
            histories_asked: (0, 0),
            roles: Vec::new(),
            mqtt_roles: Vec::new(),
            trace: Xxh3::new(),
            conditions,
        }
    }

    /// A world whose topics are stored.
    pub fn stored(random: Random, conditions: Conditions, waiting_max: usize) -> Self {
        let mut world = Self::new(random, conditions);
        world.shards = shards(&world.conditions, world.now, Storing::Stored, (7, 0));
        world.disk = Some(Disk::new(world.shards.len(), waiting_max));
        world
    }

    /// A digest of every byte that clients and shards sent.
    pub fn trace(&self) -> u64 {
        self.trace.digest()
    }

    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    pub fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub fn take_value_number(&mut self) -> u64 {
        self.next_value += 1;
        self.next_value
    }

    // Clients.

    pub fn connect(&mut self, form: Form) -> usize {
        let shard = self.random.below(self.shards.len());
        self.connect_at(form, shard)
    }

    pub fn connect_at(&mut self, form: Form, shard: usize) -> usize {
        let id = self.take_id();
        let client = Client::new(self.links.len(), form, id, &mut self.random);
        let key = self.shards[shard].handle_accept(self.now, Transport::Http);
        let at = self.links.len();
        if let Some(key) = key {
            self.by_key.insert((shard, key), at);
        }
        self.links.push(Link {
            client,
            shard,
            key,
            read_total: 0,
            is_ended: false,
            is_stalled: false,
            pipe: VecDeque::new(),
            tail: Vec::new(),
            is_finished: key.is_none(),
        });
        self.carry_out(shard);
        at
    }

    pub fn ask(&mut self, at: usize, asked: Asked) -> u64 {
        let id = self.take_id();
        self.asked.insert(id, asked.clone());
        self.links[at].client.ask(id, asked, &mut self.random);
        id
    }

    /// An update that is answered only if it fails.
    pub fn ask_silently(&mut self, at: usize, asked: Asked) {
        self.links[at].client.ask(0, asked, &mut self.random);
    }

    /// The client's machine is gone: nothing more is sent or read, what is under way is lost.
    pub fn reset(&mut self, at: usize) {
        let link = &mut self.links[at];
        link.client.is_leaving = true;
        link.client.closed.get_or_insert(0);
        link.client.outgoing.clear();
        link.is_ended = true;
        link.pipe.clear();
    }

    // What moves on.

    /// The server reads some bytes, or the end.
    pub fn read(&mut self, at: usize, bytes_max: usize) -> bool {
        let link = &mut self.links[at];
        let Some(key) = link.key else { return false };
        let shard = link.shard;
        if self.shards[shard].is_congested() {
            return false;
        }
        let mut bytes: Vec<u8> = link.client.outgoing.drain(..bytes_max.min(link.client.outgoing.len())).collect();
        if bytes.is_empty() {
            if link.is_ended {
                self.forget(at);
                self.shards[shard].handle_closed(self.now, key);
                self.carry_out(shard);
            }
            return self.links[at].key.is_none();
        }
        self.trace.update(&bytes);
        link.read_total += bytes.len() as u64;
        self.note_requests(at);
        self.shards[shard].handle_bytes(self.now, key, &mut bytes);
        self.carry_out(shard);
        true
    }

    fn note_requests(&mut self, at: usize) {
        let count = self.conditions.shards;
        let link = &mut self.links[at];
        while link.client.requests.front().is_some_and(|(end, ..)| *end <= link.read_total) {
            let Some((_, id, asked)) = link.client.requests.pop_front() else { break };
            if let Some(taken) = Taken::of_request(&asked).filter(|taken| owner(&taken.path, count) == link.shard) {
                self.model.note_update(id, taken);
            }
            match asked {
                Asked::Remove { pattern } => self.model.note_removal(id, pattern.matches),
                Asked::Subscribe { .. } => drop(link.client.taken.insert(id, self.model.now())),
                Asked::Lock { name, .. } => self.locks_taken.push((link.shard, name, id)),
                _ => {}
            }
        }
    }

    fn forget(&mut self, at: usize) {
        let link = &mut self.links[at];
        if let Some(key) = link.key.take() {
            self.by_key.remove(&(link.shard, key));
        }
    }

    /// A shard gets a batch that another one sent it.
    pub fn deliver(&mut self, from: usize, to: usize) -> bool {
        let Some(batch) = self.rings.get_mut(&(from, to)).and_then(VecDeque::pop_front) else { return false };
        for mail in &batch.mails {
            if let Mail::Update(update) = mail
                && let Action::Message(message) = &update.change.action
            {
                let number = Message::number_of(&message.payload);
                if number > 0 {
                    self.messages.order.note_taken(number);
                }
            } else if let Mail::Update(update) = mail
                && let Asker::Session(Caller { call: Call::Request(id), .. }) = update.to
            {
                let asked = self.asked.get(&id).and_then(Taken::of_request);
                self.model.note_update(id, asked.unwrap_or_else(|| Taken::of_mail(update)));
            }
            let (asked, most) = &mut self.histories_asked;
            match mail {
                Mail::AskHistory { .. } => *asked += 1,
                Mail::History { .. } => *asked -= 1,
                _ => {}
            }
            *most = (*most).max(*asked);
        }
        self.shards[to].handle_mail(self.now, ShardIndex(from as u16), batch);
        self.carry_out(to);
        true
    }

    /// A shard's mail goes into its ring, or comes back where that is full.
    pub fn post(&mut self, from: usize) -> bool {
        let mut any = false;
        for to in (0..self.shards.len()).filter(|to| *to != from) {
            let to_shard = ShardIndex(to as u16);
            if let Some(batch) = self.held.remove(&(from, to)) {
                self.shards[from].return_mail(to_shard, batch);
            }
            let Some(batch) = self.shards[from].poll_mail(to_shard) else { continue };
            let ring = self.rings.entry((from, to)).or_default();
            if ring.len() < self.conditions.ring_batches {
                ring.push_back(batch);
                any = true;
            } else {
                self.held.insert((from, to), batch);
            }
        }
        any
    }

    pub fn walk(&mut self, shard: usize) -> bool {
        if !self.shards[shard].has_walks() {
            return false;
        }
        self.slices[shard] += 1;
        self.shards[shard].run_slice(self.now);
        self.carry_out(shard);
        true
    }

    pub fn tick(&mut self, shard: usize) {
        self.shards[shard].handle_tick(self.now, wall_ms(self.now));
        self.carry_out(shard);
    }

    /// Sends to the next connection of the shard's round.
    pub fn send(&mut self, shard: usize) -> bool {
        if self.wakes[shard].is_empty() {
            return false;
        }
        if self.round_left[shard] == 0 {
            self.shards[shard].begin_sends();
            self.round_left[shard] = self.wakes[shard].len();
        }
        self.round_left[shard] -= 1;
        let Some(key) = self.wakes[shard].pop_front() else { return false };
        if let Some(at) = self.by_key.get(&(shard, key)).copied() {
            self.send_to(at, shard, key);
        } else if let Some(at) = self.packet_by_key.get(&(shard, key)).copied() {
            self.send_packets_to(at, shard, key);
        } else if let Some(at) = self.resuming.wire_of(shard, key) {
            self.send_wire(at);
        }
        self.carry_out(shard);
        true
    }

    fn send_to(&mut self, at: usize, shard: usize, key: ConnectionKey) {
        let link = &mut self.links[at];
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
    pub fn listen(&mut self, at: usize, bytes_max: usize) -> bool {
        let link = &mut self.links[at];
        if link.is_stalled {
            return false;
        }
        let bytes: Vec<u8> = link.pipe.drain(..bytes_max.min(link.pipe.len())).collect();
        let had_tail = !link.tail.is_empty();
        if link.client.closed != Some(0) {
            link.client.hear(&bytes, &mut self.model, &mut self.random);
        }
        link.flow(self.conditions.socket_bytes);
        if had_tail
            && link.tail.is_empty()
            && let Some(key) = link.key
        {
            self.wakes[link.shard].push_back(key);
        }
        if link.is_finished && link.pipe.is_empty() && link.tail.is_empty() {
            link.client.closed.get_or_insert(1006);
        }
        !bytes.is_empty() || had_tail && link.tail.is_empty()
    }

    /// Does what the shard wants, and looks whether it keeps its bounds.
    pub fn carry_out(&mut self, shard: usize) {
        while let Some(effect) = self.shards[shard].poll_effect() {
            match effect {
                Effect::Wake(key) => self.wakes[shard].push_back(key),
                Effect::Close(key) => {
                    self.shards[shard].handle_closed(self.now, key);
                    if let Some(at) = self.by_key.get(&(shard, key)).copied() {
                        self.forget(at);
                        self.links[at].is_finished = true;
                    }
                    self.finish_packets(shard, key);
                    self.finish_wire(shard, key);
                    self.ended.push((shard, key));
                }
                Effect::Log(_) => {}
                Effect::Read(_) => {}
                Effect::Audit(_) => panic!("nobody wants notes"),
                Effect::HandOver(key, to, handover) => match *handover {
                    native @ Handover::Native { .. } => self.hand_wire_over(shard, key, to, native),
                    mqtt @ Handover::Mqtt { .. } => self.hand_over(shard, key, to, mqtt),
                },
                Effect::Locate(..) => panic!("there is no proxy"),
                Effect::Inside(_) | Effect::InsideOver(_) => panic!("nothing in the process has a session"),
                Effect::Identify(key, claim) => {
                    let native = self.by_key.get(&(shard, key)).map(|at| self.roles.get(*at));
                    let client = self.packet_by_key.get(&(shard, key)).map(|at| self.packet_links[*at].client);
                    let roles = native.unwrap_or_else(|| self.mqtt_roles.get(client.expect("a connection of a client")));
                    let roles = roles.map_or(&["ADMIN"][..], Vec::as_slice);
                    let principal = if claim.principal.is_empty() { "client" } else { &*claim.principal };
                    let who = Who::new(principal.into(), roles.iter().map(|role| (*role).into()).collect(), None);
                    self.shards[shard].handle_identified(self.now, key, Identified::As(who, Box::default()));
                }
                Effect::Authenticate(..) | Effect::ChangePrincipals(..) | Effect::Judged(..) => panic!("nobody authenticates itself"),
                Effect::Http(..) | Effect::Reports(_) => panic!("nobody asked for a page"),
            }
        }
        self.store(shard);
        let most = self.shards[shard].queue_bytes_most();
        assert!(most <= self.conditions.bytes_max, "a queue holds {most} bytes, more than {}", self.conditions.bytes_max);
        self.check_resume_bounds(shard);
        if self.random.percent(70) {
            self.post(shard);
        }
    }

    // Storage.

    /// The disk takes what a shard has for it, if it has room.
    fn store(&mut self, shard: usize) {
        let Some(disk) = &mut self.disk else { return };
        if let Some(records) = self.refused.remove(&shard) {
            self.shards[shard].return_records(records);
        }
        let Some(records) = self.shards[shard].poll_records() else { return };
        if let Err(records) = disk.take(shard, records) {
            self.refused.insert(shard, records);
        }
    }

    /// Tells a shard how far its records are stored.
    pub fn acknowledge(&mut self, shard: usize) -> bool {
        let Some(disk) = &mut self.disk else { return false };
        let Some(through) = disk.next_acknowledgement(shard, &mut self.random) else { return false };
        self.shards[shard].handle_stored(self.now, through);
        self.carry_out(shard);
        true
    }

    fn settle_disk(&mut self) -> bool {
        let mut any = false;
        for shard in 0..self.shards.len() {
            self.store(shard);
            let Some(disk) = &mut self.disk else { return false };
            while disk.write(shard) {
                any = true;
            }
            any |= disk.sync(usize::MAX);
            any |= self.acknowledge(shard);
        }
        any
    }

    /// The disk begins to fail, or works again.
    pub fn turn_disk(&mut self) {
        let Some(disk) = &mut self.disk else { return };
        disk.is_failing = !disk.is_failing;
        let is_failing = disk.is_failing;
        for shard in 0..self.shards.len() {
            if is_failing {
                self.shards[shard].handle_storage_failure(self.now, "the simulated disk fails");
            } else {
                self.shards[shard].handle_storage_recovery(self.now);
            }
            self.carry_out(shard);
        }
    }

    /// The server's process ends, and another one starts with what the disk holds. Clients are gone.
    pub fn crash(&mut self, shards_now: u16) {
        let disk = self.disk.take().expect("a world with storage");
        self.conditions.shards = shards_now;
        let count = usize::from(shards_now);
        let disk = disk.crash(&mut self.random, count);
        let stored: Vec<_> = disk.state.topics.iter().map(|(id, stored)| (*id, stored.clone())).collect();
        let run = Restoring::run_of(&stored).unwrap_or(self.now.0);
        self.shards = shards(&self.conditions, self.now, Storing::Stored, (run, disk.state.highest_topic));
        for (shard, restoring) in self.shards.iter_mut().zip(Restoring::deal(stored, shards_now)) {
            shard.restore(restoring).expect("what was stored is restored");
        }
        self.disk = Some(disk);
        self.links.clear();
        self.rings.clear();
        self.held.clear();
        self.refused.clear();
        self.by_key.clear();
        self.lose_packets();
        (self.wakes, self.round_left) = (vec![VecDeque::new(); count], vec![0; count]);
        self.slices = vec![0; count];
        self.model.note_restart();
        (0..count).for_each(|shard| self.carry_out(shard));
    }

    // Until nothing moves.

    /// Lets everything arrive. Clients that stall are left out, and time stands still.
    pub fn settle(&mut self) {
        let mut rounds = 0;
        while self.settle_round() {
            rounds += 1;
            assert!(rounds < 100_000, "the world does not come to rest");
        }
        self.model.note_quiet();
    }

    pub fn settle_rounds(&mut self, count: usize) {
        for _ in 0..count {
            self.settle_round();
        }
    }

    /// A bit of everything that is under way.
    fn settle_round(&mut self) -> bool {
        let mut any = self.settle_disk();
        for shard in 0..self.shards.len() {
            any |= self.post(shard);
            for from in 0..self.shards.len() {
                while self.deliver(from, shard) {
                    any = true;
                }
            }
        }
        any | self.settle_shards()
    }

    /// Lets everything arrive but the mail between shards.
    pub fn settle_without_mail(&mut self) {
        while self.settle_shards() {}
    }

    fn settle_shards(&mut self) -> bool {
        let mut any = false;
        for shard in 0..self.shards.len() {
            any |= self.walk(shard);
            while self.send(shard) {
                any = true;
            }
        }
        for at in 0..self.links.len() {
            let bytes_max = self.random.within(1, 3000);
            any |= self.read(at, bytes_max);
            any |= self.listen(at, bytes_max);
        }
        any | self.settle_packets() | self.settle_wires()
    }

    pub fn shut_down(&mut self) {
        for shard in 0..self.shards.len() {
            self.shards[shard].shut_down(self.now);
            self.carry_out(shard);
        }
    }
}

impl Link {
    fn flow(&mut self, socket_bytes: usize) {
        if self.client.closed == Some(0) {
            // The peer is gone, so what is written goes nowhere.
            self.tail.clear();
        }
        let count = self.tail.len().min(socket_bytes.saturating_sub(self.pipe.len()));
        self.pipe.extend(self.tail.drain(..count));
    }
}

fn shards(conditions: &Conditions, now: Time, storing: Storing, (run, topics_base): (u64, u64)) -> Vec<Shard> {
    let count = conditions.shards;
    let identity = |index| Identity {
        index: ShardIndex(index),
        count,
        server: "tidewire sim".into(),
        run,
        // No two starts have one.
        start: now.0,
        storing,
        topics_base,
        node: 0,
        secret: [7; 32],
    };
    (0..count).map(|index| Shard::new(identity(index), conditions.limits(), now, wall_ms(now))).collect()
}

/// Milliseconds since the epoch.
pub fn wall_ms(now: Time) -> u64 {
    1_700_000_000_000 + now.0 / 1_000_000
}

pub fn owner(path: &str, shards: u16) -> usize {
    usize::from(owner_of(path, shards).0)
}
