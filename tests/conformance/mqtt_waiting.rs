//! Messages that wait for a client: none that was acknowledged to its publisher gives way, and each topic keeps its order.

use crate::mqtt_client::{lines, told};
use crate::mqtt_packets::{
    Connect, PINGREQ, PUBACK, PUBCOMP, PUBREC, PUBREL, Packet, Property, Publish, V5, V311, Value, acknowledge, connect, id, persistent,
    property, publish,
};
use crate::mqtt_peer::{Broker, Client};
use tidewire::surface::session::{MqttLimits, QueueLimits, TopicRules};

const QUEUE: QueueLimits = QueueLimits { bytes_high: 20_000, bytes_max: 400_000 };

/// A client that is sent so many messages before it acknowledges, subscribed to `#` at QoS 2; and one that publishes.
fn pair(broker: &mut Broker, connect_slow: &Connect) -> (Client, Client) {
    let client = broker.join(connect_slow);
    broker.subscribe(client, "#", 2);
    (client, broker.join(&connect(V5, "p")))
}

fn slow(receive_maximum: u16) -> Connect {
    persistent(V5, "slow").with((id::RECEIVE_MAXIMUM, Value::Two(receive_maximum)))
}

/// Acknowledges all that comes until nothing more does; what came, in its order.
fn take_all(broker: &mut Broker, client: Client, packets: Vec<Packet>) -> Vec<Publish> {
    let (mut packets, mut taken) = (packets, Vec::new());
    while !packets.is_empty() {
        let mut answers = Vec::new();
        for packet in packets {
            match packet {
                Packet::Publish(message) => {
                    match message.qos {
                        0 => {}
                        1 => answers.extend(acknowledge(PUBACK, message.id)),
                        _ => answers.extend(acknowledge(PUBREC, message.id)),
                    }
                    taken.push(message);
                }
                Packet::Acknowledged { kind: PUBREL, id, .. } => answers.extend(acknowledge(PUBCOMP, id)),
                other => panic!("not asked for: {other:?}"),
            }
        }
        packets = broker.ask(client, &answers);
    }
    taken
}

fn numbers(messages: &[Publish]) -> Vec<usize> {
    messages.iter().map(|message| told(std::slice::from_ref(message))[0].1.split('.').next().unwrap().parse().unwrap()).collect()
}

fn numbered(number: usize, bytes: usize) -> String {
    format!("{number}.{}", "x".repeat(bytes))
}

fn missed(properties: &[Property]) -> Option<u32> {
    match property(properties, id::USER)? {
        Value::Pair(name, count) if name == "tidewire-missed" => Some(count.parse().unwrap()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_acknowledged_to_its_publisher_waits_for_a_client_that_is_away() {
    for qos in [1, 2] {
        let mut broker = Broker::narrow(QUEUE);
        let (client, publisher) = pair(&mut broker, &slow(10));
        broker.lose(client);
        for number in 1..=300 {
            broker.publish(publisher, &publish("t", &numbered(number, 1000)).qos(qos, number as u16));
        }
        let (client, packets) = broker.resume(&slow(10));
        let taken = take_all(&mut broker, client, packets);
        assert_eq!(numbers(&taken), (1..=300).collect::<Vec<_>>(), "QoS {qos}");
        assert!(broker.full().is_empty());
    }
}

#[test]
fn what_was_acknowledged_to_its_publisher_waits_for_a_client_that_pauses() {
    for version in [V311, V5] {
        let mut broker = Broker::narrow(QUEUE);
        let (client, publisher) = pair(&mut broker, &connect(version, "slow"));
        broker.stall(client);
        for number in 1..=300 {
            broker.publish(publisher, &publish("t", &numbered(number, 1000)).qos(1, number as u16));
        }
        broker.read_on(client);
        let packets = broker.take(client);
        assert_eq!(numbers(&take_all(&mut broker, client, packets)), (1..=300).collect::<Vec<_>>(), "version {version}");
    }
}

#[test]
fn conflation_that_was_asked_for_acts_on_what_is_acknowledged() {
    let rules = ["state: json CONFLATION=conflate", "other: json PRIORITY=high"];
    let mqtt = MqttLimits { rules: TopicRules::parse(rules).unwrap().into(), sys_interval_ms: 0, ..MqttLimits::default() };
    for (topic, kept) in [("state/a", 1..50), ("other/a", 100..101)] {
        let mut broker = Broker::narrow_with(QUEUE, mqtt.clone());
        let (client, publisher) = pair(&mut broker, &slow(1));
        broker.lose(client);
        for number in 1..=100 {
            broker.publish(publisher, &publish(topic, &format!("\"{}\"", numbered(number, 1000))).qos(1, number as u16));
        }
        let (client, packets) = broker.resume(&slow(1));
        let taken = take_all(&mut broker, client, packets);
        assert!(kept.contains(&taken.len()), "{topic}: {}", taken.len());
        assert!(told(&taken).last().unwrap().1.starts_with("\"100."), "the newest is always there");
    }
}

#[test]
fn a_full_queue_costs_its_own_session_and_tells_it_what_it_missed() {
    let mut broker = Broker::narrow(QueueLimits { bytes_high: 2000, bytes_max: 20_000 });
    let (client, publisher) = pair(&mut broker, &slow(10));
    let other = broker.join(&connect(V5, "other"));
    broker.subscribe(other, "#", 1);
    broker.lose(client);
    let mut heard = Vec::new();
    for number in 1..=40 {
        // Each is acknowledged, and reaches who reads.
        broker.publish(publisher, &publish("t", &numbered(number, 1000)).qos(1, number as u16));
        let packets = broker.take(other);
        heard.extend(take_all(&mut broker, other, packets));
    }
    assert_eq!(numbers(&heard), (1..=40).collect::<Vec<_>>());
    assert_eq!(broker.full(), ["slow"], "the operator is told once");
    let (client, mut packets) = broker.connect(&slow(10));
    let Packet::Connack { session_present: true, properties, .. } = packets.remove(0) else { panic!("no CONNACK") };
    let count = missed(&properties).expect("CONNACK tells");
    let taken = take_all(&mut broker, client, packets);
    assert_eq!(numbers(&taken), (1..=40 - count as usize).collect::<Vec<_>>(), "what was taken is whole, from the first on");
    assert!(taken.len() > 15, "up to the bound: {}", taken.len());
    // A client that is there is told with the next message.
    broker.stall(client);
    for number in 1..=40 {
        broker.publish(publisher, &publish("t", &numbered(number, 1000)).qos(1, number as u16));
    }
    broker.read_on(client);
    let packets = broker.take(client);
    let taken = take_all(&mut broker, client, packets);
    broker.publish(publisher, &publish("t", "41.").qos(1, 41));
    let packets = broker.take(client);
    let next = take_all(&mut broker, client, packets);
    assert_eq!((numbers(&next), missed(&next[0].properties)), (vec![41], Some(40 - taken.len() as u32)));
    broker.publish(publisher, &publish("t", "42.").qos(1, 42));
    let packets = broker.take(client);
    assert_eq!(missed(&take_all(&mut broker, client, packets)[0].properties), None, "once");
}

#[test]
fn what_connack_tells_is_told_until_the_client_acknowledges_something() {
    let mut broker = Broker::narrow(QueueLimits { bytes_high: 2000, bytes_max: 20_000 });
    let (client, publisher) = pair(&mut broker, &slow(1));
    broker.lose(client);
    for number in 1..=40 {
        broker.publish(publisher, &publish("t", &numbered(number, 1000)).qos(1, number as u16));
    }
    let connack = |broker: &mut Broker| {
        let (client, mut packets) = broker.connect(&slow(1));
        let Packet::Connack { session_present: true, properties, .. } = packets.remove(0) else { panic!("no CONNACK") };
        (client, packets, missed(&properties))
    };
    // The first may not have come through.
    let (client, _, count) = connack(&mut broker);
    assert!(count.is_some());
    broker.lose(client);
    let (client, packets, again) = connack(&mut broker);
    assert_eq!(again, count);
    let [Packet::Publish(first)] = &packets[..] else { panic!("{packets:?}") };
    broker.ask(client, &acknowledge(PUBACK, first.id));
    broker.lose(client);
    assert_eq!(connack(&mut broker).2, None);
}

#[test]
fn what_an_expired_message_would_have_told_the_next_one_tells() {
    let mut broker = Broker::narrow(QueueLimits { bytes_high: 2000, bytes_max: 20_000 });
    let (client, publisher) = pair(&mut broker, &slow(1));
    for number in 1..=40 {
        broker.publish(publisher, &publish("t", &numbered(number, 1000)).qos(1, number as u16));
    }
    let [first] = &broker.messages(client)[..] else { panic!("one message") };
    let packets = broker.ask(client, &acknowledge(PUBACK, first.id));
    broker.publish(publisher, &publish("t", "41.").qos(1, 41).with((id::MESSAGE_EXPIRY, Value::Four(1))));
    broker.advance(2000);
    let taken = take_all(&mut broker, client, packets);
    assert!(taken.iter().all(|message| missed(&message.properties).is_none()));
    broker.publish(publisher, &publish("t", "42.").qos(1, 42));
    let next = broker.messages(client);
    assert_eq!((numbers(&next), missed(&next[0].properties)), (vec![42], Some(39 - taken.len() as u32)));
}

#[test]
fn publishers_are_refused_where_all_sessions_together_hold_what_they_may() {
    let mqtt = MqttLimits { held_bytes_max: 100_000, sys_interval_ms: 0, ..MqttLimits::default() };
    let mut broker = Broker::narrow_with(QUEUE, mqtt);
    let (client, publisher) = pair(&mut broker, &slow(10));
    let (twin, old) = (broker.join(&persistent(V5, "twin")), broker.join(&connect(V311, "old")));
    broker.subscribe(twin, "t", 1);
    for client in [client, twin] {
        broker.lose(client);
    }
    let publish_one = |number: usize| publish("t", &numbered(number, 1000)).qos(1, number as u16);
    let mut taken = 0;
    let code = loop {
        match &broker.ask(publisher, &publish_one(taken + 1).bytes(V5))[..] {
            [Packet::Acknowledged { kind: PUBACK, code: 0, .. }] => taken += 1,
            [Packet::Acknowledged { kind: PUBACK, code, .. }] => break *code,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(code, 0x97);
    assert!((60..90).contains(&taken), "two sessions hold each publication once: {taken}");
    // What nobody here waits for, and what need not be acknowledged, is taken.
    broker.publish(publisher, &publish("t", "0."));
    // 3.1.1 has no word for it.
    assert_eq!(broker.ask(old, &publish_one(1).bytes(V311)), []);
    assert!(broker.is_ended(old));
    for name in ["slow", "twin"] {
        let (client, packets) = broker.resume(&persistent(V5, name));
        assert_eq!(numbers(&take_all(&mut broker, client, packets)), (1..=taken).collect::<Vec<_>>());
    }
    broker.advance(100);
    broker.publish(publisher, &publish_one(taken + 1));
}

#[test]
fn a_session_whose_queue_is_full_is_answered_and_hears_what_need_not_be_acknowledged() {
    let mut broker = Broker::narrow(QueueLimits { bytes_high: 4000, bytes_max: 20_000 });
    let (client, publisher) = pair(&mut broker, &slow(1));
    for number in 1..=40 {
        broker.publish(publisher, &publish("t", &numbered(number, 1000)).qos(1, number as u16));
    }
    assert_eq!(numbers(&broker.messages(client)), [1]);
    assert_eq!(broker.ask(client, &PINGREQ), [Packet::Pingresp]);
    broker.publish(publisher, &publish("u", "0."));
    assert_eq!(lines(&broker.messages(client)), ["u=0."]);
    // What it need not acknowledge goes before the connection does.
    broker.stall(client);
    for number in 1..=40 {
        broker.publish(publisher, &publish(&format!("u/{number}"), &numbered(number, 1000)));
    }
    broker.read_on(client);
    let seen = numbers(&broker.messages(client));
    assert_eq!(seen.last(), Some(&40), "the newest come: {seen:?}");
    assert!(!broker.is_ended(client) && seen.len() < 40);
}

#[test]
fn a_session_whose_queue_is_full_is_answered_though_everything_is_to_be_conflated() {
    let mut broker = Broker::narrow(QueueLimits { bytes_high: 0, bytes_max: 4000 });
    let (client, publisher) = pair(&mut broker, &slow(1));
    for number in 1..=200 {
        broker.publish(publisher, &publish("t", &numbered(number, 10)).qos(1, number as u16));
    }
    assert_eq!(numbers(&broker.messages(client)), [1]);
    broker.stall(client);
    assert_eq!(broker.ask(client, &PINGREQ), []);
    broker.read_on(client);
    assert_eq!(broker.take(client), [Packet::Pingresp]);
}

#[test]
fn a_topic_keeps_its_order_at_any_qos() {
    let mut broker = Broker::new();
    let (client, publisher) = pair(&mut broker, &slow(1));
    let mut all = Vec::new();
    for (number, qos) in [0, 1, 0, 2, 2, 0, 0, 1, 0].into_iter().enumerate() {
        broker.publish(publisher, &publish("t", &format!("{number}.")).qos(qos, number as u16 + 1).retained());
        all.push(number);
    }
    broker.publish(publisher, &publish("u", "100."));
    let packets = broker.take(client);
    let taken = take_all(&mut broker, client, packets);
    let (others, taken): (Vec<Publish>, Vec<Publish>) = taken.into_iter().partition(|message| message.topic == "u");
    assert_eq!((numbers(&taken), numbers(&others)), (all, vec![100]));
}

#[test]
fn nothing_of_a_topic_comes_before_what_is_to_be_sent_again() {
    let mut broker = Broker::new();
    let (client, publisher) = pair(&mut broker, &slow(10));
    for number in 0..3 {
        broker.publish(publisher, &publish("t", &format!("{number}.")).qos(1, 1));
    }
    // Its client has heard none of them when it is back, and takes one at a time.
    broker.lose(client);
    let (client, mut packets) = broker.resume(&slow(1));
    for topic in ["t", "u"] {
        broker.publish(publisher, &publish(topic, "3."));
    }
    packets.extend(broker.take(client));
    let taken = take_all(&mut broker, client, packets);
    assert_eq!(lines(&taken), ["t=0.", "u=3.", "t=1.", "t=2.", "t=3."]);
}

#[test]
fn a_message_that_is_never_acknowledged_holds_up_no_other() {
    let mut broker = Broker::new();
    let (client, publisher) = pair(&mut broker, &slow(10));
    broker.publish(publisher, &publish("t", "0.").qos(1, 1));
    let [stuck] = &broker.messages(client)[..] else { panic!("one message") };
    for number in 1..=70_000_usize {
        broker.publish(publisher, &publish("t", &format!("{number}.")).qos(1, 1));
        let messages = broker.messages(client);
        assert_eq!(numbers(&messages), [number]);
        assert_ne!(messages[0].id, stuck.id);
        assert_eq!(broker.ask(client, &acknowledge(PUBACK, messages[0].id)), []);
    }
    assert_eq!(broker.ask(client, &acknowledge(PUBACK, stuck.id)), []);
}
