//! What is under way to a client, step by step.

use super::*;
use crate::base::Time;
use crate::topic::path::TopicPath;
use crate::topic::publication::Publication;
use crate::topic::specification::{Specification, SpecificationLimits, TopicType};
use std::sync::Arc;

fn message(sequence: u64, qos: QoS) -> Box<Message> {
    let specification = Specification::parse(TopicType::Binary, std::iter::empty(), SpecificationLimits::default()).unwrap();
    let publication = Arc::new(Publication::new(TopicId(1), 0, Time(0), b"m"));
    let outgoing = Outgoing::without_topic(publication, TopicPath::parse("t", 10).unwrap(), &Arc::new(specification), 0);
    let (retain, is_first, is_repeated, is_noted) = (false, false, false, false);
    Box::new(Message {
        outgoing,
        qos,
        retain,
        is_first,
        is_repeated,
        is_noted,
        sequence,
        ticket: 0,
        missed: 0,
        subscription_ids: Box::default(),
        hold: None,
        group: None,
    })
}

/// Steps, separated by blanks, on what is under way, where at most `inflight_max` may be: `q1` and `q2` send the next message of that QoS, `w1` and
/// `w2` number it and leave it waiting; `sN` sends the waiting message N of QoS 1, `rN` restores what was released before a restart; `aN` is PUBACK,
/// `bN` PUBREC, `cN` PUBCOMP, `eN` PUBREC with an error; `new` is a new connection. What is sent and what acknowledgements did not fit comes out.
fn check(inflight_max: usize, steps: &str, expected: &str) {
    let mut outbound = Outbound::default();
    let (mut told, mut released): (Vec<String>, Vec<u64>) = Default::default();
    for step in steps.split(' ') {
        let (what, number) = step.split_at(1);
        let id: u64 = number.parse().unwrap_or(0);
        let acknowledged = match what {
            "q" | "w" => {
                let sequence = outbound.next_sequence();
                if what == "q" {
                    assert!(outbound.has_room(sequence, inflight_max), "{steps}: {step}");
                    outbound.sent(message(sequence, QoS::from_number(id as u8).unwrap()));
                }
                None
            }
            "s" => {
                assert!(outbound.has_room(id, inflight_max), "{steps}: {step}");
                outbound.sent(message(id, QoS::AtLeastOnce));
                None
            }
            "r" => {
                outbound.restore_sequence(id);
                released.push(id);
                outbound.restore_released(released.clone());
                None
            }
            "n" => {
                outbound.start_again();
                None
            }
            "a" => Some(outbound.acknowledge(id as u16)),
            "b" => Some(outbound.receive(id as u16)),
            "c" => Some(outbound.complete(id as u16)),
            "e" => Some(outbound.give_up(id as u16)),
            other => panic!("{other}"),
        };
        told.extend(acknowledged.filter(|answer| *answer == Acknowledged::Unknown).map(|_| format!("?{step}")));
        while let Some(again) = outbound.poll_repeat(inflight_max) {
            told.push(match again {
                Again::Publish(message) => format!("m{}", message.sequence),
                Again::Release(id) => format!("r{id}"),
            });
        }
        assert!(!outbound.has_to_repeat(inflight_max), "{steps}: {step}");
    }
    told.push(format!("oldest {}", outbound.oldest().unwrap_or(0)));
    assert_eq!(told.join(" "), expected, "{steps}");
}

#[test]
fn an_acknowledgement_fits_its_message_or_nothing_happens() {
    check(9, "q1 q2 a1 b2 c2", "oldest 0");
    check(9, "q1 b1 c1 e1 a2 a1 a1", "?b1 ?c1 ?e1 ?a2 ?a1 oldest 0");
    check(9, "q2 a1 c1 e1 e1", "?a1 ?c1 ?e1 oldest 0");
    check(9, "q2 b1 b1 e1 a1 c1", "?e1 ?a1 oldest 0");
}

#[test]
fn what_is_under_way_is_sent_again_in_its_order() {
    check(9, "q1 q2 q1 b2 new", "m1 r2 m3 oldest 1");
    check(9, "q1 q2 q1 a1 new a3 new", "m2 m3 m2 oldest 2");
}

#[test]
fn a_client_that_takes_fewer_gets_the_rest_as_it_acknowledges() {
    check(3, "q1 q1 q1 new a1 a2 a3", "m1 m2 m3 oldest 0");
}

#[test]
fn what_is_acknowledged_before_it_is_sent_again_is_not() {
    let mut outbound = Outbound::default();
    for _ in 0..4 {
        let sequence = outbound.next_sequence();
        outbound.sent(message(sequence, QoS::AtLeastOnce));
    }
    outbound.start_again();
    let repeated = |outbound: &mut Outbound| match outbound.poll_repeat(1) {
        Some(Again::Publish(message)) => Some(message.sequence),
        _ => None,
    };
    assert_eq!((repeated(&mut outbound), repeated(&mut outbound)), (Some(1), None));
    assert!(matches!(outbound.acknowledge(3), Acknowledged::Done { sequence: 3 }));
    assert_eq!(repeated(&mut outbound), None);
    assert!(!outbound.has_room(5, 100), "nothing new comes before what is sent again");
    assert!(matches!(outbound.acknowledge(1), Acknowledged::Done { sequence: 1 }));
    assert_eq!((repeated(&mut outbound), repeated(&mut outbound)), (Some(2), None));
    assert!(matches!(outbound.acknowledge(2), Acknowledged::Done { sequence: 2 }));
    assert_eq!((repeated(&mut outbound), outbound.len()), (Some(4), 1));
}

#[test]
fn what_was_released_before_a_restart_hides_no_older_message() {
    check(9, "r2 s1 new", "m1 r2 oldest 1");
    check(9, "r5 r3 s2 s4 new c5", "m2 r3 m4 r5 oldest 2");
}

#[test]
fn no_two_messages_under_way_have_the_same_identifier() {
    let mut outbound = Outbound::default();
    outbound.restore_released(vec![3]);
    outbound.sent(message(1, QoS::AtLeastOnce));
    assert!(outbound.has_room(IDENTIFIERS, 100));
    assert!(!outbound.has_room(IDENTIFIERS + 1, 100), "it would be 1");
    assert!(outbound.has_room(IDENTIFIERS + 2, 100), "the client has acknowledged 2");
    assert!(!outbound.has_room(2 * IDENTIFIERS + 3, 100), "it would be 3");
    assert_eq!([identifier(1), identifier(IDENTIFIERS), identifier(IDENTIFIERS + 1)], [1, 65_535, 1]);
}

#[test]
fn one_that_is_never_acknowledged_does_not_hold_up_others() {
    let mut outbound = Outbound::default();
    let stuck = [1, 2, 700];
    for count in 0..3 * IDENTIFIERS {
        let sequence = outbound.next_message();
        assert!(outbound.has_room(sequence, 10), "{count}");
        outbound.sent(message(sequence, QoS::AtLeastOnce));
        if !stuck.contains(&sequence) {
            assert_eq!(outbound.acknowledge(identifier(sequence)), Acknowledged::Done { sequence });
        }
    }
    assert_eq!(outbound.messages().map(|message| message.sequence).collect::<Vec<_>>(), stuck);
    assert_eq!(outbound.acknowledge(1), Acknowledged::Done { sequence: 1 });
}

#[test]
fn the_oldest_messages_are_forgotten_first() {
    let mut seen = Seen::default();
    (1..=4).for_each(|number| seen.insert(TopicId(7), number, 10 + number));
    seen.insert(TopicId(7), 1, 20);
    seen.keep_newest(4);
    assert!((1..=4).all(|number| seen.has(TopicId(7), number)));
    seen.keep_newest(2);
    assert_eq!((1..=4).filter(|number| seen.has(TopicId(7), *number)).collect::<Vec<_>>(), [1, 4]);
    assert_eq!(seen.oldest(), Some(14));
}
