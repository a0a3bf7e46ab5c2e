//! A subscription that ends is announced once.

use crate::peer::{WALL_MS, identity, limits};
use std::borrow::Cow;
use tidewire::surface::base::placement::owner_of;
use tidewire::surface::base::{SessionId, ShardIndex, Time};
use tidewire::surface::session::QueueLimits;
use tidewire::surface::shard::{Effect, Identity, Limits, Shard, Storing};
use tidewire::surface::wire::native::{self, Append, Ask, Heard, Request, Update, Verb};

const NOW: Time = Time(0);
const OWNER: usize = 0;
const HOME: usize = 1;

struct Two {
    shards: [Shard; 2],
}

impl Two {
    fn ask(&mut self, at: usize, session: SessionId, ask: Ask<'_>) {
        assert!(self.shards[at].handle_inside(NOW, session, Request { id: 7, ask }));
        self.carry_out(at);
    }

    fn deliver(&mut self, from: usize, to: usize) -> bool {
        let Some(batch) = self.shards[from].poll_mail(ShardIndex(to as u16)) else { return false };
        self.shards[to].handle_mail(NOW, ShardIndex(from as u16), batch);
        self.carry_out(to);
        true
    }

    fn carry_out(&mut self, at: usize) {
        loop {
            while self.shards[at].poll_effect().is_some_and(|effect| matches!(effect, Effect::Inside(_))) {}
            if !self.shards[at].has_walks() {
                return;
            }
            self.shards[at].run_slice(NOW);
        }
    }
}

fn of_shard(shard: usize, name: &str) -> String {
    (0..).map(|number| format!("{name}{number}")).find(|name| usize::from(owner_of(name, 2).0) == shard).unwrap()
}

fn add(path: &str, kind: u8, properties: &[(&'static str, &'static str)]) -> Ask<'static> {
    let properties = properties.iter().map(|(key, value)| (Cow::Borrowed(*key), Cow::Borrowed(*value))).collect();
    Ask::Update { path: path.to_owned().into(), update: Update { properties, ..Update::new(Verb::Add, kind, &[]) } }
}

/// How often the end of `b` is announced, where the last value of `b` has so many bytes.
fn ends(last_bytes: usize) -> usize {
    let queue = QueueLimits { bytes_high: 400, bytes_max: 100_000 };
    let limits = Limits { queue, history_bytes_max: 10_000, ..limits() };
    let shards = [0, 1].map(|index| {
        let identity = Identity { index: ShardIndex(index), count: 2, ..identity(Storing::Off) };
        Shard::new(identity, limits.clone(), NOW, WALL_MS)
    });
    let mut two = Two { shards };
    let (series, topic) = (of_shard(OWNER, "a"), of_shard(HOME, "b"));
    let writer = two.shards[OWNER].open_inside(NOW);
    two.ask(OWNER, writer, add(&series, 6, &[("TIME_SERIES_EVENT_VALUE_TYPE", "string")]));
    let append = Append::Original { timestamp_ms: None };
    two.ask(OWNER, writer, Ask::Append { path: series.clone().into(), kind: 2, append, value: b"1".as_slice().into() });
    let setter = two.shards[HOME].open_inside(NOW);
    two.ask(HOME, setter, add(&topic, 2, &[("CONFLATION", "unsubscribe")]));
    let session = two.shards[HOME].open_inside(NOW);
    let subscribe = |path: &str| Ask::Subscribe { selector: path.to_owned().into(), scope: "".into() };
    two.ask(HOME, session, subscribe(&topic));
    while two.deliver(HOME, OWNER) || two.deliver(OWNER, HOME) {}
    let mut told = Vec::new();
    while two.shards[HOME].poll_inside(NOW, session, &mut told) {}
    // The series appears; which events come first is asked, and the answer does not come, so that of the request waits.
    two.ask(HOME, session, subscribe(&series));
    assert!(two.deliver(HOME, OWNER) && two.deliver(OWNER, HOME));
    let value = vec![b'x'; last_bytes];
    let set = Ask::Update { path: topic.clone().into(), update: Update::new(Verb::Set, 2, &value) };
    two.ask(HOME, setter, set);
    two.ask(HOME, session, Ask::Unsubscribe { selector: "*.*".into(), scope: "".into() });
    let mut told = Vec::new();
    while two.shards[HOME].poll_inside(NOW, session, &mut told) {}
    let mut rest = &told[..];
    let mut count = 0;
    let mut number = None;
    while let Some(frame) = native::next_frame(&mut rest).unwrap() {
        match native::decode_event(frame).unwrap() {
            Heard::Subscribed { topic, path, .. } if path == series => number = Some(topic),
            Heard::Unsubscribed { topic, .. } if Some(topic) != number => count += 1,
            _ => {}
        }
    }
    count
}

#[test]
fn a_subscription_that_ends_under_pressure_while_it_is_ended_is_announced_once() {
    for last_bytes in 1..500 {
        assert_eq!(ends(last_bytes), 1, "a last value of {last_bytes} bytes");
    }
}
