//! One shard as a peer: bytes in, bytes out, without sockets.

use std::net::IpAddr;
use tidewire::surface::base::{ConnectionKey, ShardIndex, Time};
use tidewire::surface::journal::State;
use tidewire::surface::session::QueueLimits;
use tidewire::surface::shard::{
    Claim, Effect, Identified, Identity, Limits, Log, Place, PrincipalOrder, Restoring, Shard, Storing, Transport,
};
use tidewire::surface::wire::origin::{Hosts, Origins, WebRules};

/// The longest message that the peer takes.
pub const MESSAGE_BYTES_MAX: usize = 70_000;

/// When the shards of these tests start, in milliseconds since the epoch.
pub const WALL_MS: u64 = 1_735_689_600_000;

pub struct Peer {
    shard: Shard,
    key: ConnectionKey,
    out: Vec<u8>,
    is_ended: bool,
    logged: Vec<Log>,
    noted: Vec<u8>,
    claims: Vec<Claim>,
    orders: Vec<PrincipalOrder>,
    located: Vec<IpAddr>,
}

impl Peer {
    pub fn new() -> Self {
        Self::within(limits())
    }

    pub fn within(limits: Limits) -> Self {
        let mut shard = Shard::new(identity(Storing::Off), limits, Time(0), WALL_MS);
        let key = shard.handle_accept(Time(0), Transport::Http).expect("the first connection is taken");
        Self {
            shard,
            key,
            out: Vec::new(),
            is_ended: false,
            logged: Vec::new(),
            noted: Vec::new(),
            claims: Vec::new(),
            orders: Vec::new(),
            located: Vec::new(),
        }
    }

    /// Behind the handshake of the RFC's example, with what it answered taken off.
    pub fn upgraded(protocol: &str) -> Self {
        Self::upgraded_within(protocol, limits())
    }

    pub fn upgraded_within(protocol: &str, limits: Limits) -> Self {
        let mut peer = Self::within(limits);
        peer.give(super::handshake::request(protocol).as_bytes());
        let head = peer.take();
        assert!(head.starts_with(b"HTTP/1.1 101 ") && head.ends_with(b"\r\n\r\n"), "{}", String::from_utf8_lossy(&head));
        peer
    }

    /// The connection is lost, and another comes.
    pub fn reconnect(&mut self, protocol: &str) {
        self.shard.handle_closed(Time(1), self.key);
        self.another(protocol);
    }

    /// Another connection comes beside it.
    pub fn another(&mut self, protocol: &str) {
        self.key = self.shard.handle_accept(Time(1), Transport::Http).expect("the connection is taken");
        self.give(super::handshake::request(protocol).as_bytes());
        assert!(self.take().starts_with(b"HTTP/1.1 101 "));
    }

    pub fn give(&mut self, bytes: &[u8]) {
        self.hear(Time(1), bytes);
    }

    /// The same at a time in milliseconds.
    pub fn give_at(&mut self, ms: u64, bytes: &[u8]) {
        self.hear(Time(ms * 1_000_000), bytes);
    }

    fn hear(&mut self, now: Time, bytes: &[u8]) {
        if self.is_ended {
            return;
        }
        self.read(now, &mut bytes.to_vec());
    }

    /// The shard reads these, and may change them.
    pub fn read(&mut self, now: Time, bytes: &mut [u8]) {
        self.shard.handle_bytes(now, self.key, bytes);
        self.carry_out();
    }

    /// What was sent since the last time.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// What the operator was told.
    pub fn logged(&self) -> &[Log] {
        &self.logged
    }

    /// The lines of the audit log since the last time.
    pub fn take_noted(&mut self) -> Vec<serde_json::Value> {
        let lines = String::from_utf8(std::mem::take(&mut self.noted)).expect("the log is text");
        lines.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    }

    /// It comes from there.
    pub fn from(mut self, address: IpAddr) -> Self {
        self.shard.note_origin(self.key, address, Place::default());
        self
    }

    /// Where proxies said that it comes from.
    pub fn located(&self) -> &[IpAddr] {
        &self.located
    }

    /// Whether the peer has ended the transport.
    pub fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Who was asked about since the last time.
    pub fn take_claims(&mut self) -> Vec<Claim> {
        std::mem::take(&mut self.claims)
    }

    /// The script of principals that is to be applied first: what comes of it is the script that makes what there is then.
    pub fn change_principals(&mut self, script: &str) -> bool {
        let order = self.orders.remove(0);
        self.shard.handle_principals(Time(1), order.to, Ok((!order.checks_only).then(|| script.to_owned())));
        self.carry_out();
        order.checks_only
    }

    /// It is known who the client is.
    pub fn identify(&mut self, identified: Identified) {
        self.shard.handle_identified(Time(1), self.key, identified);
        self.carry_out();
    }

    /// The same at a time in milliseconds.
    pub fn identify_at(&mut self, ms: u64, identified: Identified) {
        self.shard.handle_identified(Time(ms * 1_000_000), self.key, identified);
        self.carry_out();
    }

    /// Time has passed, in milliseconds.
    pub fn tick(&mut self, ms: u64) {
        let now = Time(ms * 1_000_000);
        self.shard.handle_tick(now, WALL_MS + ms);
        self.shard.run_slice(now);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        while let Some(effect) = self.shard.poll_effect() {
            match effect {
                Effect::Wake(key) => self.send(key),
                Effect::Close(key) => {
                    self.shard.handle_closed(Time(1), key);
                    self.is_ended = true;
                }
                Effect::Read(_) => {}
                Effect::Http(key, _) => self.shard.respond(key, 200, "text/plain", b"page"),
                Effect::Log(log) => self.logged.push(log),
                Effect::Audit(audit) => audit.put_line(WALL_MS, &mut self.noted),
                Effect::HandOver(..) => unreachable!("there is no other shard"),
                Effect::Identify(_, claim) => self.claims.push(*claim),
                Effect::ChangePrincipals(order) => self.orders.push(*order),
                Effect::Authenticate(..) => unreachable!("there is no MQTT"),
                Effect::Judged(..) => unreachable!("no session is asked who clients are"),
                Effect::Locate(_, address) => self.located.push(address),
                Effect::Inside(_) | Effect::InsideOver(_) => unreachable!("nothing in the process has a session"),
                Effect::Reports(_) => unreachable!("nobody asks for reports"),
            }
        }
    }

    fn send(&mut self, key: ConnectionKey) {
        self.shard.begin_sends();
        while let Some(bytes) = self.shard.poll_transmit(Time(1), key) {
            self.out.extend_from_slice(&bytes);
            self.shard.handle_sent(Time(1), key, &bytes);
            if !self.shard.wants_to_send(key) {
                break;
            }
        }
    }
}

/// Names of the server, and origins of others that may ask, as an operator lists them.
pub fn web(hosts: &[&str], origins: &[&str]) -> WebRules {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let (hosts, origins) = (Hosts::parse(&owned(hosts)).expect("names"), Origins::parse(&owned(origins)).expect("origins"));
    WebRules { hosts, origins, ..WebRules::default() }
}

pub fn identity(storing: Storing) -> Identity {
    Identity {
        index: ShardIndex(0),
        count: 1,
        server: "tidewire".into(),
        run: 0,
        start: 0,
        storing,
        topics_base: 0,
        node: 0,
        secret: [7; 32],
    }
}

/// A server that starts with what was stored, while the host's clock says so.
pub fn restored(state: &State, storing: Storing, limits: Limits, wall_ms: u64) -> Shard {
    let identity = Identity { topics_base: state.highest_topic, start: wall_ms, ..identity(storing) };
    let mut shard = Shard::new(identity, limits, Time(0), wall_ms);
    let stored = state.topics.iter().map(|(id, stored)| (*id, stored.clone()));
    for restoring in Restoring::deal(stored, 1) {
        shard.restore(restoring).expect("what was stored is restored");
    }
    shard
}

pub fn limits() -> Limits {
    Limits {
        message_bytes_max: MESSAGE_BYTES_MAX,
        value_bytes_max: 60_000,
        selections_max: 10,
        listeners_max: 4,
        streams_max: 3,
        questions_max: 20,
        fetch_page_max: 100,
        query_events_max: 100,
        history_bytes_max: 10_000,
        topics_max: 100,
        connections_max: 10,
        queue: QueueLimits { bytes_high: 1 << 20, bytes_max: 1 << 24 },
        transmit_bytes_max: 1 << 20,
        mail_high: 1000,
        web: web(&["server.example.com"], &["http://example.com"]),
        ..Limits::default()
    }
}
