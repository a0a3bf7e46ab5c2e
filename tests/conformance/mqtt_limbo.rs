//! Subscribers of a time series whose owner, on another shard, has forgotten for a moment that this shard is interested.
//!
//! The last subscription of a shard ends, and the word of that and of the next one are on their way to the owner, one behind the other. What the
//! series takes in between is told to nobody, so the shard asks for it when the series appears again.

use crate::mqtt_client::lines;
use crate::mqtt_packets::{Connect, Packet, Publish, V5, connect, parse, persistent, subscribe, unsubscribe};
use crate::peer::{WALL_MS, identity, limits};
use std::borrow::Cow;
use std::collections::HashMap;
use tidewire::surface::base::placement::owner_of;
use tidewire::surface::base::{ConnectionKey, SessionId, ShardIndex, Time};
use tidewire::surface::mail::Batch;
use tidewire::surface::session::MqttLimits;
use tidewire::surface::shard::{Effect, Identity, Limits, Shard, Storing, Transport};
use tidewire::surface::wire::native::{Append, Ask, Request, Update, Verb};

const NOW: Time = Time(0);
const OWNER: usize = 0;
const HOME: usize = 1;
const STRING: u8 = 2;
const TIME_SERIES: u8 = 6;

/// Two shards: the series of these tests is of one, the sessions are of the other.
struct Two {
    shards: [Shard; 2],
    sent: HashMap<ConnectionKey, Vec<u8>>,
    writer: SessionId,
    path: String,
}

impl Two {
    fn new() -> Self {
        let mqtt = MqttLimits { sys_interval_ms: 0, ..MqttLimits::default() };
        let limits = Limits { has_mqtt: true, mqtt, ..limits() };
        let mut shards = [0, 1].map(|index| {
            let identity = Identity { index: ShardIndex(index), count: 2, ..identity(Storing::Off) };
            Shard::new(identity, limits.clone(), NOW, WALL_MS)
        });
        let writer = shards[OWNER].open_inside(NOW);
        let mut two = Self { shards, sent: HashMap::new(), writer, path: of_shard(OWNER, "s") };
        let properties = [("TIME_SERIES_EVENT_VALUE_TYPE", "string"), ("TIME_SERIES_RETAINED_RANGE", "limit 100")];
        let properties = properties.map(|(key, value)| (Cow::Borrowed(key), Cow::Borrowed(value)));
        let update = Update { properties: properties.into(), ..Update::new(Verb::Add, TIME_SERIES, &[]) };
        two.write(Ask::Update { path: two.path.clone().into(), update });
        two.settle();
        two
    }

    fn write(&mut self, ask: Ask<'_>) {
        assert!(self.shards[OWNER].handle_inside(NOW, self.writer, Request { id: 1, ask }));
        self.carry_out(OWNER);
    }

    fn append(&mut self, value: &str) {
        let append = Append::Original { timestamp_ms: None };
        let ask = Ask::Append { path: self.path.clone().into(), kind: STRING, append, value: value.as_bytes().to_vec().into() };
        self.write(ask);
    }

    /// A client whose session is at home.
    fn join(&mut self, connect: &Connect) -> ConnectionKey {
        let client = self.shards[HOME].handle_accept(NOW, Transport::Mqtt).expect("there is room");
        self.give(client, &connect.bytes());
        self.settle();
        client
    }

    fn give(&mut self, client: ConnectionKey, bytes: &[u8]) {
        self.shards[HOME].handle_bytes(NOW, client, &mut bytes.to_vec());
        self.carry_out(HOME);
    }

    fn lose(&mut self, client: ConnectionKey) {
        self.shards[HOME].handle_closed(NOW, client);
        self.carry_out(HOME);
    }

    /// The messages that came since the last time.
    fn take(&mut self, client: ConnectionKey) -> Vec<Publish> {
        let sent = self.sent.remove(&client).unwrap_or_default();
        let mut rest = &sent[..];
        let packets = std::iter::from_fn(|| parse(V5, &mut rest));
        packets.filter_map(|packet| if let Packet::Publish(message) = packet { Some(message) } else { None }).collect()
    }

    /// One turn's mail from home, which has not arrived yet.
    fn post(&mut self) -> Batch {
        self.shards[HOME].poll_mail(ShardIndex(OWNER as u16)).expect("home has told the owner something")
    }

    fn deliver(&mut self, batch: Batch) {
        self.shards[OWNER].handle_mail(NOW, ShardIndex(HOME as u16), batch);
        self.carry_out(OWNER);
    }

    /// Until nothing moves.
    fn settle(&mut self) {
        let mut moves = true;
        while moves {
            moves = false;
            for (from, to) in [(OWNER, HOME), (HOME, OWNER)] {
                while let Some(batch) = self.shards[from].poll_mail(ShardIndex(to as u16)) {
                    self.shards[to].handle_mail(NOW, ShardIndex(from as u16), batch);
                    self.carry_out(to);
                    moves = true;
                }
                while self.shards[to].has_walks() {
                    self.shards[to].run_slice(NOW);
                    self.carry_out(to);
                    moves = true;
                }
            }
        }
    }

    fn carry_out(&mut self, at: usize) {
        while let Some(effect) = self.shards[at].poll_effect() {
            match effect {
                Effect::Wake(key) => self.send(at, key),
                Effect::Close(key) => self.shards[at].handle_closed(NOW, key),
                Effect::Inside(session) => drop(self.shards[at].poll_inside(NOW, session, &mut Vec::new())),
                _ => unreachable!("nothing else is asked for"),
            }
        }
    }

    fn send(&mut self, at: usize, key: ConnectionKey) {
        self.shards[at].begin_sends();
        while let Some(bytes) = self.shards[at].poll_transmit(NOW, key) {
            self.sent.entry(key).or_default().extend_from_slice(&bytes);
            self.shards[at].handle_sent(NOW, key, &bytes);
            if !self.shards[at].wants_to_send(key) {
                break;
            }
        }
    }
}

/// A name that begins so and belongs to the shard.
fn of_shard(shard: usize, name: &str) -> String {
    let mut names = (0..).map(|number| format!("{name}{number}"));
    names.find(|name| is_of(shard, name)).expect("every other one is")
}

fn is_of(shard: usize, name: &str) -> bool {
    usize::from(owner_of(name, 2).0) == shard
}

/// A second client subscribes, with the filter that is made of the path, while the word of the first one's unsubscription is on its way; an event comes in between, and what the
/// second is sent then is given.
fn caught_up(filter: impl Fn(&str) -> String, qos: u8, is_away: bool) -> Vec<Publish> {
    let mut two = Two::new();
    let filter = filter(&two.path);
    let (first, second) = (of_shard(HOME, "a"), of_shard(HOME, "b"));
    let first = two.join(&connect(V5, &first));
    let mut client = two.join(&persistent(V5, &second));
    two.give(first, &subscribe(V5, 1, &[], &[(&two.path.clone(), 0)]));
    two.settle();
    two.append("before");
    two.settle();
    two.give(first, &unsubscribe(V5, 2, &[&two.path.clone()]));
    let end = two.post();
    two.give(client, &subscribe(V5, 1, &[], &[(&filter, qos)]));
    if is_away {
        two.lose(client);
    }
    two.deliver(end);
    two.append("between");
    two.settle();
    two.append("after");
    two.settle();
    if is_away {
        client = two.join(&persistent(V5, &second));
    }
    two.take(client)
}

#[test]
fn what_a_series_took_in_limbo_is_delivered_as_any_other_message() {
    for (qos, is_away) in [(0, false), (1, false), (2, false), (1, true), (2, true)] {
        let messages = caught_up(str::to_owned, qos, is_away);
        let payloads: Vec<&[u8]> = messages.iter().map(|message| &message.payload[..]).collect();
        assert_eq!(payloads, [b"between", &b"after"[..]], "QoS {qos}");
        assert!(messages.iter().all(|message| message.qos == qos && !message.is_duplicate), "QoS {qos}: {messages:?}");
    }
    assert_eq!(lines(&caught_up(str::to_owned, 0, true)), [] as [&str; 0], "what need not be acknowledged is not kept");
}

#[test]
fn what_a_series_took_in_limbo_is_dealt_to_a_member_of_a_group() {
    // The group's shard is home too, so it is among those who wait.
    let of_group = |path: &str| {
        let mut filters = (0..).map(|number| format!("$share/g{number}/{path}"));
        filters.find(|filter| is_of(HOME, filter)).expect("every other one is")
    };
    for (qos, is_away) in [(0, false), (1, false), (2, false), (1, true)] {
        let messages = caught_up(of_group, qos, is_away);
        let payloads: Vec<&[u8]> = messages.iter().map(|message| &message.payload[..]).collect();
        assert_eq!(payloads, [b"between", &b"after"[..]], "QoS {qos}");
        assert!(messages.iter().all(|message| message.qos == qos), "QoS {qos}: {messages:?}");
    }
}
