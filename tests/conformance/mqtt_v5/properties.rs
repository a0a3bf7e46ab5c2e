//! The properties of messages: passed on, expiring, aliases.

use crate::mqtt_packets::{
    PUBREC, Packet, Property, Publish, V5, V311,
    Value::{self, Binary, Byte, Four, Two},
    connect, id, packet, persistent, property, publish, put_binary, put_properties, put_text, text, user,
};
use crate::mqtt_peer::{ALIAS_MAXIMUM, Broker, Client};

fn pair(broker: &mut Broker) -> (Client, Client) {
    let client = broker.join(&persistent(V5, "a"));
    broker.subscribe(client, "#", 1);
    (client, broker.join(&connect(V5, "p")))
}

/// All that is passed on as it comes.
fn all() -> Vec<Property> {
    vec![
        (id::PAYLOAD_FORMAT, Byte(1)),
        text(id::CONTENT_TYPE, "text/plain"),
        text(id::RESPONSE_TOPIC, "answers/here"),
        (id::CORRELATION_DATA, Binary(vec![0, 255, 1])),
        user("b", "1"),
        user("a", "2"),
        user("b", "1"),
        user("", ""),
    ]
}

fn sorted(mut properties: Vec<Property>) -> Vec<Property> {
    // Only the order of user properties among themselves says something.
    properties.sort_by_key(|(id, _)| *id);
    properties
}

#[test]
fn properties_are_passed_on_in_order() {
    let mut broker = Broker::new();
    let (client, publisher) = pair(&mut broker);
    for message in [publish("t", "1"), publish("t", "2").qos(1, 1), publish("t", "3").retained()] {
        broker.publish(publisher, &Publish { properties: all(), ..message });
        let messages = broker.messages(client);
        assert_eq!(messages.len(), 1);
        assert_eq!(sorted(messages[0].properties.clone()), sorted(all()));
    }
    let other = broker.join(&connect(V5, "late"));
    let retained = broker.subscribe(other, "t", 0);
    assert_eq!(sorted(retained[0].properties.clone()), sorted(all()));
    let old = broker.join(&connect(V311, "old"));
    assert_eq!(broker.subscribe(old, "t", 0), [publish("t", "3").retained()], "3.1.1 has none");
}

#[test]
fn a_wills_properties_are_passed_on_in_order() {
    let mut broker = Broker::new();
    let (client, _) = pair(&mut broker);
    let will = Publish { properties: all(), ..publish("w", "1") };
    let dying = broker.join(&connect(V5, "w").will(will.clone()));
    broker.lose(dying);
    let messages = broker.messages(client);
    assert_eq!(messages.len(), 1);
    assert_eq!(sorted(messages[0].properties.clone()), sorted(all()));
}

#[test]
fn a_message_without_properties_has_none() {
    let mut broker = Broker::new();
    let (client, publisher) = pair(&mut broker);
    broker.publish(publisher, &publish("t", "1"));
    assert_eq!(broker.messages(client), [publish("t", "1")]);
}

#[test]
fn waiting_is_taken_off_the_expiry() {
    let mut broker = Broker::new();
    let (client, publisher) = pair(&mut broker);
    broker.lose(client);
    for (seconds, number) in [(1, 1), (3, 2), (100, 3)] {
        broker.publish(publisher, &publish("t", &number.to_string()).qos(1, number).with((id::MESSAGE_EXPIRY, Four(seconds))));
    }
    broker.publish(publisher, &publish("r", "short").qos(1, 9).retained().with((id::MESSAGE_EXPIRY, Four(1))));
    broker.publish(publisher, &publish("s", "long").qos(1, 9).retained().with((id::MESSAGE_EXPIRY, Four(100))));
    broker.advance(2000);
    let (_, packets) = broker.resume(&persistent(V5, "a"));
    let found: Vec<_> = packets
        .iter()
        .map(|packet| {
            let Packet::Publish(message) = packet else { panic!("{packet:?}") };
            let Some(Four(left)) = property(&message.properties, id::MESSAGE_EXPIRY) else { panic!("{message:?}") };
            (message.payload.clone(), *left)
        })
        .collect();
    assert_eq!(found, [(b"2".to_vec(), 1), (b"3".to_vec(), 98), (b"long".to_vec(), 98)]);
    let other = broker.join(&connect(V5, "late"));
    let retained = broker.subscribe(other, "#", 0);
    assert_eq!(retained, [publish("s", "long").retained().with((id::MESSAGE_EXPIRY, Four(98)))]);
}

#[test]
fn what_was_sent_expires_no_more() {
    let mut broker = Broker::new();
    let (client, publisher) = pair(&mut broker);
    broker.subscribe(client, "t", 2);
    broker.publish(publisher, &publish("t", "1").qos(2, 1).with((id::MESSAGE_EXPIRY, Four(1))));
    let messages: Vec<Publish> = broker.messages(client).into_iter().filter(|message| message.qos == 2).collect();
    broker.advance(3000);
    broker.lose(client);
    let (client, packets) = broker.resume(&persistent(V5, "a"));
    assert!(packets.iter().any(|packet| matches!(packet, Packet::Publish(again) if again.id == messages[0].id)), "{packets:?}");
    let packets = broker.ask(client, &crate::mqtt_packets::acknowledge(PUBREC, messages[0].id));
    assert_eq!(packets, [crate::mqtt_packets::acknowledged(crate::mqtt_packets::PUBREL, messages[0].id)]);
}

#[test]
fn every_alias_that_is_allowed_is_taken() {
    let mut broker = Broker::new();
    let (client, publisher) = pair(&mut broker);
    for alias in 1..=ALIAS_MAXIMUM {
        broker.publish(publisher, &publish(&format!("t/{alias}"), "1").with((id::ALIAS, Two(alias))));
    }
    broker.publish(publisher, &publish("u", "1").with((id::ALIAS, Two(1))));
    assert_eq!(broker.messages(client).len(), usize::from(ALIAS_MAXIMUM) + 1);
    for alias in 1..=ALIAS_MAXIMUM {
        broker.publish(publisher, &publish("", "2").with((id::ALIAS, Two(alias))));
        let topic = if alias == 1 { "u".to_owned() } else { format!("t/{alias}") };
        assert_eq!(broker.messages(client), [publish(&topic, "2")], "an alias is not passed on");
    }
}

#[test]
fn aliases_that_mean_nothing_close() {
    let cases = [
        (publish("t", "1").with((id::ALIAS, Two(0))), "an alias of 0"),
        (publish("t", "1").with((id::ALIAS, Two(ALIAS_MAXIMUM + 1))), "an alias above the maximum"),
        (publish("", "1").with((id::ALIAS, Two(3))), "an alias that was not given"),
        (publish("", "1"), "neither name nor alias"),
        (publish("t", "1").with((id::ALIAS, Two(1))).with((id::ALIAS, Two(1))), "an alias twice"),
    ];
    for (message, why) in cases {
        let mut broker = Broker::new();
        let (_, publisher) = pair(&mut broker);
        broker.give(publisher, &message.bytes(V5));
        broker.assert_ended(publisher, &[0x94, 0x82, 0x81], why);
    }
}

#[test]
fn aliases_end_with_their_connection() {
    let mut broker = Broker::new();
    let publisher = broker.join(&persistent(V5, "q"));
    broker.publish(publisher, &publish("t", "1").with((id::ALIAS, Two(1))));
    broker.lose(publisher);
    let (publisher, _) = broker.resume(&persistent(V5, "q"));
    broker.give(publisher, &publish("", "2").with((id::ALIAS, Two(1))).bytes(V5));
    broker.assert_ended(publisher, &[0x94, 0x82], "the alias of another connection");
}

#[test]
fn a_server_uses_the_aliases_that_its_client_takes() {
    for maximum in [0, 1, 3] {
        let mut broker = Broker::new();
        let client = broker.join(&persistent(V5, "a").with((id::ALIAS_MAXIMUM, Two(maximum))));
        broker.subscribe(client, "#", 1);
        let publisher = broker.join(&connect(V5, "p"));
        let mut names: Vec<Option<String>> = vec![None; usize::from(maximum) + 1];
        for _ in 0..3 {
            for number in 0..5 {
                broker.publish(publisher, &publish(&format!("t/{number}"), "1").qos(number % 2, u16::from(number % 2)));
                let messages = broker.messages(client);
                let [message] = &messages[..] else { panic!("{messages:?}") };
                let name = resolve(message, &mut names);
                assert_eq!(name, format!("t/{number}"));
            }
        }
        broker.lose(client);
        let (client, packets) = broker.resume(&persistent(V5, "a").with((id::ALIAS_MAXIMUM, Two(maximum))));
        let mut names = vec![None; usize::from(maximum) + 1];
        for packet in packets {
            let Packet::Publish(message) = packet else { panic!("{packet:?}") };
            resolve(&message, &mut names);
        }
        assert!(!broker.is_ended(client));
    }
}

/// The name of a message to a client that keeps these aliases.
fn resolve(message: &Publish, names: &mut [Option<String>]) -> String {
    let alias = property(&message.properties, id::ALIAS).map(|value| match value {
        Two(alias) => usize::from(*alias),
        other => panic!("{other:?}"),
    });
    if let Some(alias) = alias {
        assert!(alias > 0 && alias < names.len(), "an alias within the client's maximum: {alias}");
    }
    match (alias, message.topic.is_empty()) {
        (Some(alias), true) => names[alias].clone().expect("the alias was given on this connection"),
        (Some(alias), false) => {
            names[alias] = Some(message.topic.clone());
            message.topic.clone()
        }
        (None, _) => message.topic.clone(),
    }
}

#[test]
fn properties_that_cannot_be_close() {
    let cases = [
        (vec![text(id::RESPONSE_TOPIC, "a/#")], "wildcards in the response topic"),
        (vec![text(id::RESPONSE_TOPIC, "+")], "wildcards in the response topic"),
        (vec![(id::SUBSCRIPTION, Value::Variable(1))], "a subscription id of a client"),
        (vec![(id::PAYLOAD_FORMAT, Byte(2))], "a payload format that is none"),
        (vec![(id::MESSAGE_EXPIRY, Four(1)), (id::MESSAGE_EXPIRY, Four(1))], "an expiry twice"),
        (vec![text(id::CONTENT_TYPE, "a"), text(id::CONTENT_TYPE, "b")], "a content type twice"),
        (vec![text(id::REASON, "a")], "a property of another packet"),
        (vec![(id::CONTENT_TYPE, Binary(b"\xff".to_vec()))], "a content type that is not UTF-8"),
        (vec![(id::RESPONSE_TOPIC, Binary(b"\xff".to_vec()))], "a response topic that is not UTF-8"),
        (vec![(id::RESPONSE_TOPIC, Binary(b"a\0".to_vec()))], "a response topic with U+0000"),
    ];
    for (properties, why) in cases {
        let mut broker = Broker::new();
        let (_, publisher) = pair(&mut broker);
        broker.give(publisher, &Publish { properties, ..publish("t", "1") }.bytes(V5));
        broker.assert_ended(publisher, &[0x81, 0x82, 0x90], why);
    }
}

#[test]
fn pairs_that_are_not_strings_close() {
    for (name, value) in [(&b"\xff"[..], &b"v"[..]), (b"n", b"\xff"), (b"n", b"\0")] {
        let mut pair = vec![id::USER];
        put_binary(&mut pair, name);
        put_binary(&mut pair, value);
        let mut body = Vec::new();
        put_text(&mut body, "t");
        body.push(pair.len() as u8);
        body.extend(pair);
        let mut broker = Broker::new();
        let client = broker.join(&connect(V5, "a"));
        broker.give(client, &packet(0x30, &body));
        broker.assert_ended(client, &[0x81, 0x82], "a user property");
    }
}

#[test]
fn a_property_length_that_is_longer_than_needed_closes_or_is_read() {
    // MQTT-1.5.5-1 binds the sender; what counts is that the message is not read as another one.
    let mut body = Vec::new();
    put_text(&mut body, "t");
    put_properties(&mut body, V5, &[]);
    body.extend(b"1");
    let mut longer = body.clone();
    longer.splice(3..4, [0x80, 0]);
    let mut broker = Broker::new();
    let (client, publisher) = pair(&mut broker);
    broker.give(publisher, &packet(0x30, &longer));
    let messages = broker.messages(client);
    assert!(broker.is_ended(publisher) && messages.is_empty() || messages == [publish("t", "1")], "{messages:?}");
}
