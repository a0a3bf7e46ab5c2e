//! What a client that does not read is left with: by the topic's CONFLATION, and in which order by its PRIORITY.

use crate::client::{Seen, Session};
use crate::requests::Pairs;
use crate::server::Server;
use tidewire::surface::topic::specification::TopicType;
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::{Ask, Request};

/// More than the sockets between server and client hold, and less than what closes a session.
const UPDATES: u32 = 60;
const VALUE_BYTES: usize = 150_000;

/// Bytes without anything to compress, that begin with the number.
fn large(number: u32) -> Vec<u8> {
    let mut random = crate::random::Random::new(number.into());
    let mut value: Vec<u8> = (0..VALUE_BYTES / 8).flat_map(|_| random.next().to_le_bytes()).collect();
    value[..4].copy_from_slice(&number.to_be_bytes());
    value
}

fn number_of(value: &[u8]) -> u32 {
    u32::from_be_bytes(value[..4].try_into().expect("every value begins with its number"))
}

/// Sets a topic again and again while its subscriber does not read.
fn flood(writer: &mut Session, path: &str) {
    for number in 0..UPDATES {
        writer.set(path, ValueType::Binary, &large(number)).unwrap();
    }
}

fn add(writer: &mut Session, path: &str, properties: Pairs<'_>) {
    writer.add_with(path, TopicType::Binary, properties).unwrap();
}

/// Everything that is waiting, as paths and numbers.
fn drain(reader: &mut Session) -> Vec<(String, u32)> {
    let of_value = |seen| match seen {
        Seen::Value(path, value) => Some((path, number_of(&value))),
        _ => None,
    };
    reader.settle().into_iter().filter_map(of_value).collect()
}

/// The same, up to this value: what comes from another shard may still be on its way when the first question is answered.
fn drain_to(reader: &mut Session, path: &str, last: u32) -> Vec<(String, u32)> {
    let mut seen = drain(reader);
    while numbers(&seen, path).last() != Some(&last) {
        seen.append(&mut drain(reader));
    }
    seen
}

fn numbers(seen: &[(String, u32)], path: &str) -> Vec<u32> {
    seen.iter().filter(|(of, _)| of == path).map(|(_, number)| *number).collect()
}

#[test]
fn off_keeps_every_value_and_conflate_the_newest() {
    let server = Server::start(2);
    let (mut writer, mut off, mut conflate) = (server.connect(), server.connect(), server.connect());
    add(&mut writer, "off", &[("CONFLATION", "off")]);
    add(&mut writer, "conflate", &[]);
    off.subscribe("off").unwrap();
    conflate.subscribe("conflate").unwrap();
    flood(&mut writer, "off");
    flood(&mut writer, "conflate");
    assert_eq!(numbers(&drain_to(&mut off, "off", UPDATES - 1), "off"), (0..UPDATES).collect::<Vec<_>>());
    let seen = numbers(&drain_to(&mut conflate, "conflate", UPDATES - 1), "conflate");
    assert!(seen.len() < UPDATES as usize && seen.is_sorted() && seen.last() == Some(&(UPDATES - 1)), "{seen:?}");
}

#[test]
fn always_keeps_one_value_waiting() {
    let server = Server::start(2);
    let (mut writer, mut reader) = (server.connect(), server.connect());
    add(&mut writer, "jam", &[("CONFLATION", "off")]);
    add(&mut writer, "always", &[("CONFLATION", "always")]);
    add(&mut writer, "off", &[("CONFLATION", "off")]);
    reader.subscribe("?.*//").unwrap();
    flood(&mut writer, "jam");
    for number in 0..20u32 {
        for path in ["always", "off"] {
            writer.set(path, ValueType::Binary, &number.to_be_bytes()).unwrap();
        }
    }
    // What comes from the other shard may still be on its way when the first question is answered.
    let mut seen = Vec::new();
    while ["always", "off"].iter().any(|path| numbers(&seen, path).last() != Some(&19)) {
        seen.append(&mut drain(&mut reader));
    }
    let always = numbers(&seen, "always");
    assert!(always.len() < 20 && always.is_sorted(), "{always:?}");
    assert_eq!(numbers(&seen, "off"), (0..20).collect::<Vec<_>>());
}

#[test]
fn unsubscribe_ends_the_subscription_with_its_reason() {
    let server = Server::start(2);
    let (mut writer, mut reader) = (server.connect(), server.connect());
    add(&mut writer, "a", &[("CONFLATION", "unsubscribe")]);
    add(&mut writer, "beside", &[]);
    reader.subscribe("?.*//").unwrap();
    flood(&mut writer, "a");
    let seen = reader.settle();
    assert!(seen.contains(&Seen::Unsubscribed("a".into(), 3)), "{} things, but no end", seen.len());
    writer.set("a", ValueType::Binary, &large(7)).unwrap();
    writer.set("beside", ValueType::Binary, &large(8)).unwrap();
    assert_eq!(reader.next(), Seen::Value("beside".into(), large(8)), "the other subscription lives");
    reader.subscribe("a").unwrap();
    let seen = reader.settle();
    assert!(seen.contains(&Seen::Value("a".into(), large(7))), "who asks again is sent the newest value");
}

#[test]
fn a_high_priority_overtakes_what_waits() {
    let server = Server::start(2);
    let (mut writer, mut reader) = (server.connect(), server.connect());
    for (path, priority) in [("low", "low"), ("default", "default"), ("high", "high")] {
        add(&mut writer, path, &[("PRIORITY", priority), ("CONFLATION", "off")]);
    }
    reader.subscribe("?.*//").unwrap();
    flood(&mut writer, "low");
    for path in ["default", "high"] {
        writer.set(path, ValueType::Binary, &1000u32.to_be_bytes()).unwrap();
    }
    // An answer would overtake what has the low priority.
    let mut seen = Vec::new();
    while !seen.contains(&("low".to_owned(), UPDATES - 1)) {
        if let Seen::Value(path, value) = reader.next() {
            seen.push((path, number_of(&value)));
        }
    }
    assert_eq!(numbers(&seen, "low"), (0..UPDATES).collect::<Vec<_>>(), "one topic's values keep their order");
    let place = |path: &str, number| seen.iter().position(|seen| *seen == (path.to_owned(), number)).expect("it came");
    let places = [place("high", 1000), place("default", 1000), place("low", UPDATES - 1)];
    assert!(places.is_sorted(), "{places:?}");
}

#[test]
fn the_answer_to_a_subscription_comes_behind_what_has_a_low_priority() {
    let server = Server::start(2);
    let (mut writer, mut reader) = (server.connect(), server.connect());
    for number in 0..30 {
        let path = format!("low/{number}");
        add(&mut writer, &path, &[("PRIORITY", "low")]);
        writer.set(&path, ValueType::Binary, &large(number)).unwrap();
    }
    reader.send(&Request { id: 9, ask: Ask::Subscribe { selector: "?low//".into(), scope: "".into() } });
    let mut values = 0;
    loop {
        match reader.next() {
            Seen::Ok(9, _) => break,
            Seen::Value(..) => values += 1,
            _ => {}
        }
    }
    assert_eq!(values, 30);
}

#[test]
fn tidy_drops_what_waits_when_the_session_unsubscribes() {
    let server = Server::start(2);
    for (tidy, all_come) in [("true", false), ("false", true)] {
        let (mut writer, mut reader) = (server.connect(), server.connect());
        add(&mut writer, tidy, &[("TIDY_ON_UNSUBSCRIBE", tidy), ("CONFLATION", "off")]);
        reader.subscribe(tidy).unwrap();
        flood(&mut writer, tidy);
        reader.unsubscribe(tidy).unwrap();
        let seen = numbers(&drain(&mut reader), tidy);
        assert_eq!(seen.len() == UPDATES as usize, all_come, "{tidy}: {} came", seen.len());
    }
}
