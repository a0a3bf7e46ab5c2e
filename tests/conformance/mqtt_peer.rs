//! One shard with several MQTT connections, driven by bytes and by what a runtime would tell it.

use crate::mqtt_packets::{Packet, parse_all};
use crate::peer::{WALL_MS, identity, limits, restored};
use crate::permissions;
use std::collections::{HashMap, HashSet};
use tidewire::surface::base::{ConnectionKey, Time};
use tidewire::surface::journal::{Record, State};
use tidewire::surface::session::{MqttLimits, QueueLimits};
use tidewire::surface::shard::{Claim, Effect, Identified, Identity, Limits, Log, Restoring, Shard, Shown, Storing, Transport, Verdict};

/// What CONNACK says.
pub const PACKET_BYTES_MAX: u32 = 70_000;
pub const RECEIVE_MAXIMUM: u16 = 20;
pub const ALIAS_MAXIMUM: u16 = 20;

/// Judges the steps of enhanced authentication by their methods.
pub type Authenticator = Box<dyn FnMut(&str, &[u8]) -> Verdict>;

pub struct Broker {
    shard: Shard,
    limits: Limits,
    now: Time,
    /// What the host's clock said at the start.
    wall_ms: u64,
    /// What [`Self::store`] has stored.
    state: State,
    sent: HashMap<ConnectionKey, Vec<u8>>,
    ended: HashSet<ConnectionKey>,
    authenticator: Option<Authenticator>,
    /// Steps that are judged later, where they are.
    unjudged: Option<Vec<(ConnectionKey, Box<str>)>>,
    /// Connections that do not read.
    stalled: HashSet<ConnectionKey>,
    /// The clients of which the operator was told that their queues are full.
    full: Vec<String>,
    /// Those of which it was told that their wills are not published.
    without_will: Vec<String>,
    /// Those of which it was told that an answer to their requests is not published.
    without_reply: Vec<String>,
    /// The clients of which the operator was told that they sent something too long, and the limits.
    oversized: Vec<(String, &'static str)>,
}

#[derive(Clone, Copy, Debug)]
pub struct Client {
    key: ConnectionKey,
    pub version: u8,
}

/// A client is who it says, or whose name its token is, and has the role of that name; one that shows `wrong` is not.
fn judge(claim: &Claim) -> Identified {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (name, shown) = match &claim.shown {
        Shown::Bearer(token) => (text(token), text(token)),
        Shown::Password(password) => (claim.principal.to_string(), text(password)),
        Shown::Nothing => (claim.principal.to_string(), String::new()),
    };
    if shown == "wrong" { Identified::Refused(Default::default()) } else { permissions::as_who(&name, &[&name]) }
}

impl Broker {
    pub fn new() -> Self {
        Self::with(MqttLimits {
            packet_bytes_max: PACKET_BYTES_MAX as usize,
            receive_maximum: RECEIVE_MAXIMUM,
            topic_alias_maximum: ALIAS_MAXIMUM,
            sys_interval_ms: 0,
            ..MqttLimits::default()
        })
    }

    pub fn with(mqtt: MqttLimits) -> Self {
        Self::within(Limits { has_mqtt: true, mqtt, connections_max: 50, selections_max: 50, topics_max: 1000, ..limits() })
    }

    /// With the bounds that a server has by default.
    pub fn wide() -> Self {
        Self::within(Limits {
            has_mqtt: true,
            mqtt: MqttLimits { sys_interval_ms: 0, ..MqttLimits::default() },
            web: limits().web,
            ..Limits::default()
        })
    }

    /// Where clients have the roles of their names.
    pub fn with_roles(script: &str) -> Self {
        let mqtt = MqttLimits { sys_interval_ms: 1000, ..MqttLimits::default() };
        Self::within(Limits { has_mqtt: true, mqtt, topics_max: 1000, connections_max: 300, ..permissions::limits(script) })
    }

    /// Clients get a keep alive of so many seconds at most.
    pub fn with_keep_alive(keep_alive_max_s: u16) -> Self {
        let mqtt = MqttLimits { sys_interval_ms: 0, keep_alive_max_s, ..MqttLimits::default() };
        Self::within(Limits { has_mqtt: true, mqtt, ..limits() })
    }

    /// So many filters of one SUBSCRIBE, and of a session.
    pub fn with_filters(filters_max: usize, selections_max: usize) -> Self {
        let mqtt = MqttLimits { sys_interval_ms: 0, filters_max, ..MqttLimits::default() };
        Self::within(Limits { has_mqtt: true, mqtt, selections_max, topics_max: 1000, ..limits() })
    }

    /// Sessions hold few bytes.
    pub fn narrow(queue: QueueLimits) -> Self {
        Self::narrow_with(queue, MqttLimits { sys_interval_ms: 0, ..MqttLimits::default() })
    }

    pub fn narrow_with(queue: QueueLimits, mqtt: MqttLimits) -> Self {
        Self::within(Limits { has_mqtt: true, mqtt, queue, topics_max: 1000, ..limits() })
    }

    /// What has to be stored is stored when [`Self::store`] says so.
    pub fn storing() -> Self {
        let mqtt = MqttLimits { sys_interval_ms: 0, ..MqttLimits::default() };
        Self::of(Storing::Stored, Limits { has_mqtt: true, mqtt, ..limits() })
    }

    /// The same, where clients have the roles of their names.
    pub fn storing_with_roles(script: &str) -> Self {
        let mqtt = MqttLimits { sys_interval_ms: 0, ..MqttLimits::default() };
        Self::of(Storing::Stored, Limits { has_mqtt: true, mqtt, topics_max: 1000, ..permissions::limits(script) })
    }

    /// With bounds that are met soon.
    pub fn tiny() -> Self {
        let mqtt = MqttLimits { sys_interval_ms: 0, queued_messages_max: 5, inflight_max: 3, sessions_max: 2, ..MqttLimits::default() };
        let queue = QueueLimits { bytes_high: 500, bytes_max: 1500 };
        Self::within(Limits { has_mqtt: true, mqtt, queue, questions_max: 5, selections_max: 6, topics_max: 8, ..limits() })
    }

    pub fn within(limits: Limits) -> Self {
        Self::of(Storing::Off, limits)
    }

    fn of(storing: Storing, limits: Limits) -> Self {
        let shard = Shard::new(identity(storing), limits.clone(), Time(0), WALL_MS);
        let (sent, ended, stalled) = (HashMap::new(), HashSet::new(), HashSet::new());
        let (wall_ms, state) = (WALL_MS, State::default());
        Self {
            shard,
            limits,
            now: Time(0),
            wall_ms,
            state,
            sent,
            ended,
            authenticator: None,
            unjudged: None,
            stalled,
            full: Vec::new(),
            without_will: Vec::new(),
            without_reply: Vec::new(),
            oversized: Vec::new(),
        }
    }

    /// The client reads nothing from now on.
    pub fn stall(&mut self, client: Client) {
        self.stalled.insert(client.key);
    }

    pub fn read_on(&mut self, client: Client) {
        self.stalled.remove(&client.key);
        self.send(client.key);
        self.carry_out();
    }

    /// The clients of which the operator was told that their queues are full.
    pub fn full(&self) -> &[String] {
        &self.full
    }

    /// The clients of which the operator was told that their wills are not published.
    pub fn without_will(&self) -> &[String] {
        &self.without_will
    }

    /// The clients of which the operator was told that an answer to their requests is not published.
    pub fn without_reply(&self) -> &[String] {
        &self.without_reply
    }

    /// The clients of which the operator was told that they sent something too long, and the limits.
    pub fn oversized(&self) -> &[(String, &'static str)] {
        &self.oversized
    }

    pub fn authenticate(&mut self, authenticator: Authenticator) {
        self.authenticator = Some(authenticator);
    }

    /// From now on steps of an authentication wait for `judge`.
    pub fn judge_later(&mut self) {
        self.unjudged = Some(Vec::new());
    }

    /// Whether the client's connection should not be read now.
    pub fn is_waiting(&self, client: Client) -> bool {
        self.shard.is_waiting(client.key)
    }

    /// Says the same of every step that waits.
    pub fn judge(&mut self, verdict: &Verdict) {
        for (key, method) in std::mem::take(self.unjudged.as_mut().expect("steps wait")) {
            self.shard.handle_authenticated(self.now, key, &method, verdict.clone());
        }
        self.carry_out();
    }

    /// A connection that has said nothing yet; the version is the one that answers are read by.
    pub fn open(&mut self, version: u8) -> Client {
        self.accept(version, Transport::Mqtt)
    }

    /// A connection that says HTTP first.
    pub fn open_http(&mut self, version: u8) -> Client {
        self.accept(version, Transport::Http)
    }

    fn accept(&mut self, version: u8, transport: Transport) -> Client {
        let key = self.shard.handle_accept(self.now, transport).expect("the connection is taken");
        self.ended.remove(&key);
        self.sent.remove(&key);
        self.carry_out();
        Client { key, version }
    }

    pub fn give(&mut self, client: Client, bytes: &[u8]) {
        if self.ended.contains(&client.key) {
            return;
        }
        self.shard.handle_bytes(self.now, client.key, &mut bytes.to_vec());
        self.carry_out();
    }

    /// What the client was sent since the last time.
    pub fn take(&mut self, client: Client) -> Vec<Packet> {
        parse_all(client.version, &self.take_bytes(client))
    }

    pub fn take_bytes(&mut self, client: Client) -> Vec<u8> {
        self.sent.remove(&client.key).unwrap_or_default()
    }

    /// Whether the server has ended the transport.
    pub fn is_ended(&mut self, client: Client) -> bool {
        self.ended.contains(&client.key)
    }

    /// The transport is lost.
    pub fn lose(&mut self, client: Client) {
        if self.ended.insert(client.key) {
            self.shard.handle_closed(self.now, client.key);
        }
        self.carry_out();
    }

    /// All that was to be stored by now is.
    pub fn store(&mut self) {
        for append in self.shard.poll_records().unwrap_or_default() {
            self.state.apply(&Record::from(&append.change));
            self.shard.handle_stored(self.now, append.ticket);
        }
        self.carry_out();
    }

    /// The process ends, and another starts with what was stored, while the host's clock says so.
    pub fn restart(self, wall_ms: u64) -> Self {
        let mqtt = MqttLimits { sys_interval_ms: 0, ..MqttLimits::default() };
        let shard = restored(&self.state, Storing::Stored, Limits { has_mqtt: true, mqtt, ..limits() }, wall_ms);
        Self { shard, wall_ms, state: self.state, ..Self::storing() }
    }

    /// The server is killed, and starts so much later with what was stored.
    pub fn restart_later(&mut self, later_ms: u64) {
        self.now = self.now.after_ms(later_ms);
        let identity = Identity { topics_base: self.state.highest_topic, ..identity(Storing::Stored) };
        self.shard = Shard::new(identity, self.limits.clone(), self.now, WALL_MS + self.now.0 / 1_000_000);
        let stored = self.state.topics.iter().map(|(id, stored)| (*id, stored.clone()));
        let restoring = Restoring::deal(stored, 1).remove(0);
        self.shard.restore(restoring).expect("what was stored is restored");
        (self.sent, self.ended, self.stalled) = Default::default();
        self.carry_out();
    }

    pub fn fail_storage(&mut self) {
        self.shard.handle_storage_failure(self.now, "the disk is full");
        self.carry_out();
    }

    pub fn recover_storage(&mut self) {
        self.shard.handle_storage_recovery(self.now);
        self.carry_out();
    }

    pub fn is_congested(&self) -> bool {
        self.shard.is_congested()
    }

    /// Topics that wait to be looked at because they are only passed through.
    pub fn passing(&self) -> usize {
        self.counts()[4]
    }

    /// All that is held for MQTT.
    pub fn counts(&self) -> [usize; 6] {
        self.shard.mqtt_counts()
    }

    /// So much was handed to sockets, and how much of it has a latency; none of that more than a millisecond, as no time passes on the way.
    pub fn latencies(&mut self) -> (u64, u64) {
        let ticket = self.shard.request_reports();
        let report = self.shard.take_reports(ticket).remove(0);
        let published = report.publish.total();
        assert!(published.max() < 1_000_000, "{} ns", published.max());
        (report.deliveries, published.len())
    }

    /// It is known who the client is.
    pub fn identify(&mut self, client: Client, identified: Identified) {
        self.shard.handle_identified(self.now, client.key, identified);
        self.carry_out();
    }

    pub fn advance(&mut self, ms: u64) {
        self.now = self.now.after_ms(ms);
        self.shard.handle_tick(self.now, self.wall_ms + self.now.0 / 1_000_000);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        loop {
            while let Some(effect) = self.shard.poll_effect() {
                match effect {
                    Effect::Wake(key) => self.send(key),
                    Effect::Close(key) => {
                        self.ended.insert(key);
                        self.shard.handle_closed(self.now, key);
                    }
                    Effect::Read(_) => {}
                    Effect::Authenticate(key, asked) if self.unjudged.is_some() => {
                        self.unjudged.as_mut().expect("it is some").push((key, asked.method));
                    }
                    Effect::Authenticate(key, asked) => {
                        let judge = |judge: &mut Authenticator| judge(&asked.method, &asked.content);
                        let verdict = self.authenticator.as_mut().map_or(Verdict::Unknown, judge);
                        self.shard.handle_authenticated(self.now, key, &asked.method, verdict);
                    }
                    // Where roles permit nothing of their own a test tells, by `identify`.
                    Effect::Identify(..) if self.limits.security.is_none() => {}
                    Effect::Identify(key, claim) => {
                        self.shard.handle_identified(self.now, key, judge(&claim));
                    }
                    Effect::Log(Log::QueueFull { client_id }) => self.full.push(client_id.into()),
                    // They are taken at once.
                    Effect::Reports(_) => {}
                    Effect::Log(Log::WillRefused { client_id, .. }) => self.without_will.push(client_id.into()),
                    Effect::Log(Log::ReplyRefused { client_id, .. }) => self.without_reply.push(client_id.into()),
                    Effect::Log(Log::Oversized { client, limit }) => self.oversized.push((client.into(), limit)),
                    other => panic!("nobody asks for this: {other:?}"),
                }
            }
            if !self.shard.has_walks() {
                return;
            }
            self.shard.run_slice(self.now);
        }
    }

    fn send(&mut self, key: ConnectionKey) {
        if self.stalled.contains(&key) {
            return;
        }
        self.shard.begin_sends();
        while let Some(bytes) = self.shard.poll_transmit(self.now, key) {
            self.sent.entry(key).or_default().extend_from_slice(&bytes);
            self.shard.handle_sent(self.now, key, &bytes);
            if !self.shard.wants_to_send(key) {
                break;
            }
        }
    }
}
