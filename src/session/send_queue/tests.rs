//! What waits, what of it gives way, and in which order the rest is sent.

use super::*;
use crate::base::{Time, TopicId};
use crate::topic::path::TopicPath;
use crate::topic::publication::Publication;
use crate::topic::specification::{Specification, SpecificationLimits, TopicType};
use std::sync::Arc;

struct World {
    topics: Vec<Rc<LocalTopic>>,
    queue: SendQueue,
    sequence: u64,
}

impl World {
    fn new() -> Self {
        Self::with(&[("", ""), ("", ""), ("", "")])
    }

    /// Topics `t0`, `t1` … with a property each.
    fn with(properties: &[(&str, &str)]) -> Self {
        let topic = |(number, property): (usize, &(&str, &str))| {
            let path = TopicPath::parse(&format!("t{number}"), 100).unwrap();
            let kind = if property.0 == "TIME_SERIES_EVENT_VALUE_TYPE" { TopicType::TimeSeries } else { TopicType::Binary };
            let specification = Specification::parse(kind, std::iter::once(*property), SpecificationLimits::default()).unwrap();
            LocalTopic::new(TopicId(number as u64), path, Arc::new(specification))
        };
        Self { topics: properties.iter().enumerate().map(topic).collect(), queue: SendQueue::default(), sequence: 0 }
    }

    fn push(&mut self, what: &str) {
        let topic = self.topics[what[1..].parse::<usize>().unwrap()].clone();
        self.sequence += 1;
        let entry = match &what[..1] {
            "s" => Entry::Subscribed(topic, 1),
            "l" => Entry::Latest(topic, 1),
            "g" => Entry::Gap(topic, 1),
            "u" => Entry::Unsubscribed(topic, Reason::Requested),
            "e" => Entry::Unsubscribed(topic, Reason::BackPressure),
            "p" => Entry::Step(Outgoing::new(Arc::new(Publication::new(topic.id, 1, Time(0), &[0; 100])), &topic, self.sequence)),
            "b" => Entry::Behind(Box::new([0; 10])),
            "m" | "n" => {
                let outgoing = Outgoing::new(Arc::new(Publication::new(topic.id, 1, Time(0), &[0; 100])), &topic, self.sequence);
                let qos = if what.starts_with('m') { QoS::AtLeastOnce } else { QoS::AtMostOnce };
                let (retain, is_first, is_repeated, sequence) = (false, false, false, self.sequence);
                let subscription_ids = Box::default();
                Entry::Message(Box::new(Message {
                    outgoing,
                    qos,
                    retain,
                    is_first,
                    is_repeated,
                    is_noted: false,
                    sequence,
                    ticket: 0,
                    missed: 0,
                    hold: None,
                    subscription_ids,
                    group: None,
                }))
            }
            _ => Entry::Control(Box::new([0; 10])),
        };
        self.queue.push(entry);
    }

    /// Empties the queue and tells what was in it, in the order in which it is sent.
    fn print(&mut self) -> String {
        let printed = std::iter::from_fn(|| self.queue.pop()).map(|entry| label(&entry)).collect::<Vec<_>>().join(" ");
        assert_eq!(self.queue.bytes(), 0, "what is empty holds nothing");
        printed
    }

    /// What is sent now, where the client may be sent so many messages more that it has to acknowledge.
    fn send(&mut self, mut room: usize) -> String {
        let mut sent = Vec::new();
        while let Some(entry) = self.queue.pop_fitting(|_| room > 0, |_| false) {
            sent.push(label(&entry));
            room -= usize::from(matches!(&entry, Entry::Message(message) if message.qos != QoS::AtMostOnce));
        }
        assert!(!self.queue.can_send(|_| room > 0, |_| false));
        sent.join(" ")
    }
}

fn label(entry: &Entry) -> String {
    match entry {
        Entry::Control(_) => "c0".to_owned(),
        Entry::Behind(_) => "b0".to_owned(),
        Entry::Subscribed(topic, _) => format!("s{}", topic.id.0),
        Entry::Latest(topic, _) => format!("l{}", topic.id.0),
        Entry::Gap(topic, _) => format!("g{}", topic.id.0),
        Entry::Step(outgoing) => format!("p{}", outgoing.topic().unwrap().id.0),
        Entry::Unsubscribed(topic, Reason::BackPressure) => format!("e{}", topic.id.0),
        Entry::Unsubscribed(topic, _) => format!("u{}", topic.id.0),
        Entry::Message(message) if message.qos == QoS::AtMostOnce => format!("n{}", message.outgoing.topic().unwrap().id.0),
        Entry::Message(message) => format!("m{}", message.sequence),
    }
}

fn check(before: &str, after: &str) {
    let mut world = World::new();
    before.split(' ').for_each(|what| world.push(what));
    world.queue.keep_bound(QueueLimits { bytes_high: 0, bytes_max: 10_000 }, |_| Newest::Of(1)).unwrap();
    assert_eq!(world.print(), after, "{before}");
}

fn check_lanes(properties: &[(&str, &str)], pushed: &str, sent: &str) {
    let mut world = World::with(properties);
    pushed.split(' ').for_each(|what| world.push(what));
    assert_eq!(world.print(), sent, "{pushed}");
}

#[test]
fn a_topic_of_high_priority_is_sent_first_and_one_of_low_priority_last() {
    let lanes = [("PRIORITY", "low"), ("", ""), ("PRIORITY", "high")];
    check_lanes(&lanes, "p0 p1 p2 c0 p0 p1 p2", "p2 p2 p1 c0 p1 p0 p0");
    check_lanes(&lanes, "s0 p0 u0 s2 p2 u2 s1", "s2 p2 u2 s1 s0 p0 u0");
    check_lanes(&lanes, "s0 b0 p1", "p1 s0 b0");
    check_lanes(&lanes, "p1 b0 p1", "p1 b0 p1");
}

#[test]
fn updates_of_a_topic_can_be_dropped_while_they_wait() {
    let mut world = World::with(&[("", ""), ("PRIORITY", "low")]);
    "s0 p0 p1 l1 c0 l0 u0".split(' ').for_each(|what| world.push(what));
    let (first, second) = (world.topics[0].clone(), world.topics[1].clone());
    world.queue.drop_updates(&[first, second]);
    assert_eq!(world.print(), "s0 c0 u0");
}

#[test]
fn nothing_counts_of_a_queue_that_was_cleared() {
    let mut world = World::with(&[("", ""), ("PRIORITY", "low")]);
    "s0 p0 p1 l1 c0 u0".split(' ').for_each(|what| world.push(what));
    world.queue.clear();
    world.push("c0");
    assert_eq!(world.queue.bounded_bytes(), world.queue.bytes());
    assert_eq!(world.print(), "c0");
}

#[test]
fn steps_of_a_topic_that_does_not_conflate_stand() {
    for (before, after) in [("p0 p1 c0 p0 p1", "p0 c0 p0 l1"), ("s0 p0 p0 u0 p1 u1", "s0 p0 p0 u0 u1"), ("p0 u0 s0 u0", "p0 u0 s0 u0")] {
        let mut world = World::with(&[("CONFLATION", "off"), ("", "")]);
        before.split(' ').for_each(|what| world.push(what));
        world.queue.keep_bound(QueueLimits { bytes_high: 0, bytes_max: 10_000 }, |_| Newest::Of(1)).unwrap();
        assert_eq!(world.print(), after, "{before}");
    }
}

#[test]
fn topics_whose_subscriptions_should_end_are_named_once_while_updates_of_them_wait() {
    let mut world = World::with(&[("CONFLATION", "unsubscribe"), ("", "")]);
    "s0 p0 p0 p1".split(' ').for_each(|what| world.push(what));
    let named = |world: &World| world.queue.topics_to_unsubscribe().iter().map(|topic| topic.id.0).collect::<Vec<_>>();
    assert_eq!(named(&world), [0]);
    let topic = world.topics[0].clone();
    world.queue.drop_updates(&[topic]);
    assert_eq!(named(&world), [0u64; 0]);
    assert_eq!(world.print(), "s0 p1");
}

#[test]
fn a_value_that_is_not_retained_follows_its_subscription() {
    let mut world = World::with(&[("DONT_RETAIN_VALUE", "true")]);
    "s0 p0 p0".split(' ').for_each(|what| world.push(what));
    world.queue.keep_bound(QueueLimits { bytes_high: 0, bytes_max: 10_000 }, |_| Newest::Of(1)).unwrap();
    assert_eq!(world.print(), "s0 l0");
}

#[test]
fn a_gap_of_a_time_series_is_told_behind_its_subscription() {
    for (before, after) in [("s0 g0 s1 g1 c0", "s0 g0 s1 c0"), ("g0 g0 g1 g1 c0", "g0 g1 c0")] {
        let mut world = World::with(&[("TIME_SERIES_EVENT_VALUE_TYPE", "binary"), ("", "")]);
        before.split(' ').for_each(|what| world.push(what));
        world.queue.keep_bound(QueueLimits { bytes_high: 0, bytes_max: 10_000 }, |_| Newest::Of(1)).unwrap();
        assert_eq!(world.print(), after, "{before}");
    }
}

#[test]
fn a_gap_stands_where_values_were_lost_and_brings_the_newest_once() {
    let cases = [
        ("p0 c0 p0 p1", "c0 g0 g1", 2),
        // What would bring the newest value anyway is the gap, and nothing of a topic is sent twice.
        ("p0 p0 l0 c0", "g0 c0", 1),
        ("g0 c0", "g0 c0", 0),
        ("s0 p0 c0", "s0 c0", 0),
        // A subscription that has ended is told of its loss before its end.
        ("p0 u0 c0", "g0 u0 c0", 1),
        ("p0 u0 s0 c0", "g0 u0 s0 c0", 1),
        ("p0 u0 s0 p0 u0", "g0 u0 s0 u0", 1),
    ];
    for (before, after, gaps) in cases {
        let mut world = World::with(&[("CONFLATION", "off"), ("CONFLATION", "off")]);
        before.split(' ').for_each(|what| world.push(what));
        assert_eq!(world.queue.leave_gaps(|_| Some(1)), gaps, "{before}");
        assert_eq!(world.print(), after, "{before}");
    }
}

#[test]
fn events_that_are_lost_are_one_gap_behind_the_subscription() {
    let mut world = World::with(&[("TIME_SERIES_EVENT_VALUE_TYPE", "binary")]);
    "s0 p0 c0 p0".split(' ').for_each(|what| world.push(what));
    assert_eq!(world.queue.leave_gaps(|_| Some(1)), 1);
    "p0 p0".split(' ').for_each(|what| world.push(what));
    assert_eq!(world.queue.leave_gaps(|_| Some(1)), 1);
    assert_eq!(world.print(), "s0 c0 g0 g0");
}

#[test]
fn conflation_keeps_the_newest_value_of_each_topic_in_order() {
    check("p0 p1 p0 p2 p1", "l0 l2 l1");
    check("l0 p1 p1", "l0 l1");
    check("s0 c0 p1 p1 c0", "s0 c0 l1 c0");
}

#[test]
fn a_subscription_that_ended_unseen_is_not_sent() {
    check("s0 p1 u0 p1", "l1");
    check("p0 u0 p1", "u0 l1");
    check("p0 u0 s0", "u0 s0");
    check("u0 s0 u0", "u0");
    check("s0 u0 s0 u0 s0", "s0");
    check("s0 p0 e0 s0 u0", "s0 e0");
}

#[test]
fn above_the_bound_it_overflows() {
    let mut world = World::new();
    let limits = QueueLimits { bytes_high: 100, bytes_max: 1000 };
    for _ in 0..17 {
        world.push("c0");
        assert_eq!(world.queue.keep_bound(limits, |_| Newest::Nothing), Ok(()));
    }
    world.push("c0");
    assert_eq!(world.queue.keep_bound(limits, |_| Newest::Nothing), Err(Overflow));
}

#[test]
fn what_is_not_worth_conflating_is_not_once_a_message_of_it_went() {
    let mut world = World::with(&[("CONFLATION", "conflate"), ("CONFLATION", "always"), ("CONFLATION", "conflate")]);
    let limits = QueueLimits { bytes_high: 100, bytes_max: 10_000 };
    "m0 m1 m2".split(' ').for_each(|what| world.push(what));
    assert!(world.queue.is_over(limits));
    assert_eq!(world.queue.keep_bound(limits, |_| Newest::Itself), Ok(()));
    assert!(world.queue.pop_fitting(|_| true, |_| false).is_some());
    world.push("m0");
    assert!(!world.queue.is_over(limits));
    while world.queue.pop_fitting(|_| true, |_| false).is_some() {}
    "m0 m1".split(' ').for_each(|what| world.push(what));
    assert!(world.queue.is_over(limits), "what was empty starts anew");
}

#[test]
fn what_is_acknowledged_gives_way_only_where_conflation_was_set_on_purpose() {
    let conflated = |property: (&str, &str)| {
        let mut world = World::with(&[property, ("CONFLATION", "off")]);
        "m0 m1 m0 m1 m0".split(' ').for_each(|what| world.push(what));
        world.queue.keep_bound(QueueLimits { bytes_high: 0, bytes_max: 10_000 }, |_| Newest::Itself).unwrap();
        let conflated = world.queue.take_conflated();
        let kept: Vec<u64> = world.queue.messages().map(|message| message.sequence).collect();
        assert_eq!((conflated.len() + kept.len(), kept.len()), (5, world.queue.message_count()));
        assert_eq!(world.queue.take_conflated(), [0; 0]);
        conflated
    };
    assert_eq!(conflated(("", "")), [0; 0]);
    assert_eq!(conflated(("CONFLATION", "off")), [0; 0]);
    for purpose in ["conflate", "always", "unsubscribe"] {
        assert_eq!(conflated(("CONFLATION", purpose)), [1, 3], "{purpose}");
    }
}

#[test]
fn what_is_not_acknowledged_gives_way_to_newer_messages_beside_which_it_waits() {
    let mut world = World::new();
    "n0 m0 n0 n1 n0 n1".split(' ').for_each(|what| world.push(what));
    world.queue.keep_bound(QueueLimits { bytes_high: 0, bytes_max: 10_000 }, |_| Newest::Itself).unwrap();
    assert_eq!(world.print(), "m2 n0 n1");
}

#[test]
fn a_topic_keeps_its_order_whatever_its_messages_have_to_be_acknowledged() {
    let mut world = World::new();
    "n0 m0 n1 p0 m1 n2 p1 c0".split(' ').for_each(|what| world.push(what));
    assert_eq!(world.send(0), "n0 n1 n2 c0", "what waits holds up nothing else");
    "n2 n0".split(' ').for_each(|what| world.push(what));
    assert_eq!(world.send(1), "m2 p0 n2 n0", "the first of those that wait, what follows it, and what waits for nothing");
    "n1 n0".split(' ').for_each(|what| world.push(what));
    assert_eq!(world.send(0), "n0");
    assert_eq!((world.send(1).as_str(), world.queue.bytes()), ("m5 p1 n1", 0));
}

#[test]
fn who_loses_the_connection_keeps_what_has_to_be_acknowledged() {
    let mut world = World::with(&[("PRIORITY", "high"), ("", ""), ("PRIORITY", "low")]);
    "m1 n1 m0 p0 m2 p2 c0".split(' ').for_each(|what| world.push(what));
    assert_eq!(world.send(0), "c0", "the others wait behind messages of their topics");
    "m0 n0".split(' ').for_each(|what| world.push(what));
    world.queue.clear();
    assert_eq!((world.queue.message_count(), world.queue.oldest_message()), (4, Some(1)));
    assert_eq!(world.send(9), "m3 m1 m5 m8");
}

#[test]
fn messages_leave_room_for_what_is_not_acknowledged() {
    let mut world = World::new();
    let limits = QueueLimits { bytes_high: 1100, bytes_max: 2400 };
    let has_room = |world: &mut World, messages_max: usize| {
        world.push("m0");
        let mut entries: Vec<Entry> = std::mem::take(&mut world.queue.entries).into_iter().collect();
        let Some(Entry::Message(message)) = entries.pop() else { panic!("it was just pushed") };
        world.queue.entries = entries.into_iter().collect();
        world.queue.count_again();
        world.queue.has_room(&message, messages_max, limits)
    };
    let mut count = 0;
    while has_room(&mut world, 100) {
        world.push("m0");
        count += 1;
    }
    assert_eq!(count, (limits.bytes_max - limits.bytes_high) / (ENTRY_BYTES + 100));
    assert!(!has_room(&mut world, 100) && has_room(&mut World::new(), 1) && !has_room(&mut World::new(), 0));
    while world.queue.bytes() <= limits.bytes_max {
        world.push("n1");
    }
    assert!(world.queue.is_over(limits));
    assert!(world.queue.drop_unacknowledged(limits) > 0);
    assert!(world.queue.bytes() <= limits.bytes_max);
    assert_eq!(world.queue.message_count(), count, "what is acknowledged stays");
}

#[test]
fn it_does_not_overflow_unconflated() {
    let mut world = World::new();
    let limits = QueueLimits { bytes_high: 400, bytes_max: 1000 };
    for what in ["c0"; 16].into_iter().chain(["p0"; 5]) {
        world.push(what);
        assert_eq!(world.queue.keep_bound(limits, |_| Newest::Of(1)), Ok(()));
    }
    assert!(world.print().ends_with("c0 l0"));
}

#[test]
fn equal_runs_of_steps_have_equal_identities() {
    let (mut a, mut b) = (World::new(), World::new());
    for what in ["p0", "p1", "p0"] {
        a.push(what);
        b.push(what);
        assert!(a.queue.steps().is_some());
        assert_eq!(a.queue.steps(), b.queue.steps());
    }
    b.push("p1");
    assert_ne!(a.queue.steps(), b.queue.steps());
    b.push("c0");
    assert_eq!(b.queue.steps(), None);
    a.queue.clear();
    assert_eq!(a.queue.steps(), None, "what was sent is not sent again");
}

/// What a walk through the whole queue would leave of a topic's messages.
fn conflate_by_walking(queue: &mut SendQueue, topic: &LocalTopic) -> Vec<u64> {
    let is_of = |message: &Message| message.qos != QoS::AtMostOnce && message.outgoing.topic().is_some_and(|of| of.id == topic.id);
    let newest = queue.messages().filter(|message| is_of(message)).map(|message| message.sequence).max();
    let mut dropped = Vec::new();
    let mut stays = |entry: &Entry| {
        let Entry::Message(message) = entry else { return true };
        let stays = !is_of(message) || Some(message.sequence) == newest;
        dropped.extend((!stays).then_some(message.sequence));
        stays
    };
    queue.entries.retain(&mut stays);
    if let Some(side) = &mut queue.side {
        side.high.retain(&mut stays);
        side.low.retain(&mut stays);
        side.blocked.retain(&mut stays);
    }
    if !dropped.is_empty() {
        queue.count_again();
    }
    dropped.sort_unstable();
    dropped
}

#[test]
fn only_the_newest_message_waits_as_if_the_queue_were_walked() {
    let properties = [("CONFLATION", "always"), ("CONFLATION", "always"), ("CONFLATION", "off"), ("PRIORITY", "low")];
    for seed in 0..300_u64 {
        let mut worlds = [World::with(&properties), World::with(&properties)];
        let mut random = seed;
        for step in 0..120 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (what, topic) = ((random >> 33) % 16, (random >> 40) % 4);
            let told = worlds.each_mut().map(|world| match what {
                0..=5 => {
                    world.push(&format!("m{topic}"));
                    String::new()
                }
                6 | 7 => {
                    world.push(["n0", "n1", "c0", "p2"][topic as usize]);
                    String::new()
                }
                8 | 9 => world.queue.pop_fitting(|_| true, |_| false).map(|entry| label(&entry)).unwrap_or_default(),
                10 => world.queue.pop_fitting(|_| false, |_| false).map(|entry| label(&entry)).unwrap_or_default(),
                11 if step % 5 == 0 => {
                    world.queue.clear();
                    String::new()
                }
                12 if step % 3 == 0 => {
                    let _ = world.queue.keep_bound(QueueLimits { bytes_high: 0, bytes_max: 100_000 }, |_| Newest::Itself);
                    format!("{:?}", world.queue.take_conflated())
                }
                _ => String::new(),
            });
            assert_eq!(told[0], told[1], "seed {seed}, step {step}");
            let [indexed, walked] = &mut worlds;
            let of = (topic % 2) as usize;
            if what > 3 {
                let dropped = indexed.queue.conflate_messages(&indexed.topics[of].clone());
                assert_eq!(dropped, conflate_by_walking(&mut walked.queue, &walked.topics[of].clone()), "seed {seed}, step {step}");
            }
            let stand = worlds.each_mut().map(|world| {
                let mut waiting: Vec<u64> = world.queue.messages().map(|message| message.sequence).collect();
                waiting.sort_unstable();
                (
                    waiting,
                    world.queue.bytes(),
                    world.queue.message_count(),
                    world.queue.is_empty(),
                    world.queue.can_send(|_| false, |_| false),
                )
            });
            assert_eq!(stand[0], stand[1], "seed {seed}, step {step}");
        }
        let sent = worlds.each_mut().map(|world| world.send(usize::MAX));
        assert_eq!(sent[0], sent[1], "seed {seed}");
        assert_eq!(worlds[0].queue.bytes(), 0);
    }
}

#[test]
fn what_gave_way_does_not_pile_up() {
    let mut world = World::with(&[("CONFLATION", "always"), ("CONFLATION", "off")]);
    let topic = world.topics[0].clone();
    world.push("m1");
    for _ in 0..10_000 {
        world.push("m0");
        world.queue.conflate_messages(&topic);
        assert!(world.queue.entries.len() < 200, "{} entries", world.queue.entries.len());
    }
    assert_eq!(world.queue.message_count(), 2);
    assert_eq!(world.print(), "m1 m10001");
}
