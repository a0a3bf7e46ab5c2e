//! A client of MQTT 5 asks a handler of the server's own protocol, over real sockets and from shard to shard.

use crate::client::Seen;
use crate::server::{PATIENCE, Server};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, Publish, PublishProperties};
use rumqttc::v5::{Client, Connection, Event, MqttOptions};
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::{Ask, Request};

fn join(server: &Server, id: &str) -> (Client, Connection) {
    let address = server.mqtt.expect("it serves MQTT");
    let (client, mut connection) = Client::new(MqttOptions::new(id, address.ip().to_string(), address.port()), 100);
    client.subscribe(format!("answers/{id}"), QoS::AtLeastOnce).expect("there is room");
    until(&mut connection, |packet| matches!(packet, Packet::SubAck(_)).then_some(()));
    (client, connection)
}

/// Drives the client until it hears what is looked for.
fn until<T>(connection: &mut Connection, mut find: impl FnMut(Packet) -> Option<T>) -> T {
    loop {
        if let Event::Incoming(packet) = connection.recv_timeout(PATIENCE).expect("something comes").expect("the connection stands")
            && let Some(found) = find(packet)
        {
            return found;
        }
    }
}

fn answer(connection: &mut Connection) -> Publish {
    until(connection, |packet| if let Packet::Publish(publish) = packet { Some(publish) } else { None })
}

#[test]
fn a_client_of_mqtt_asks_and_is_answered() {
    let server = Server::start_with_mqtt(2, &[]);
    let mut handler = server.connect();
    handler.ask(|id| Request { id, ask: Ask::HandleRequests { handler: 1, path: "work".into(), session_properties: vec![] } }).unwrap();
    for number in 0..6 {
        let id = format!("client{number}");
        let (client, mut connection) = join(&server, &id);
        let ask = |correlation: &'static str| {
            let properties = PublishProperties {
                response_topic: Some(format!("answers/{id}")),
                correlation_data: Some(correlation.into()),
                ..PublishProperties::default()
            };
            client.publish_with_properties(format!("work/{id}"), QoS::AtLeastOnce, false, "question", properties).expect("there is room");
        };
        ask("first");
        until(&mut connection, |packet| matches!(packet, Packet::PubAck(_)).then_some(()));
        let requested = taken(&mut handler);
        assert_eq!((&*requested.1, &*requested.2), (&*format!("work/{id}"), &b"question"[..]));
        handler
            .send(&Request { id: 0, ask: Ask::Respond { request: requested.0, kind: ValueType::Json as u8, value: b"{\"a\":1}".into() } });
        let first = answer(&mut connection);
        let properties = first.properties.expect("it has some");
        assert_eq!((&first.payload[..], properties.correlation_data.as_deref()), (&b"{\"a\":1}"[..], Some(&b"first"[..])));
        assert_eq!(properties.content_type.as_deref(), Some("application/json"));
        ask("second");
        until(&mut connection, |packet| matches!(packet, Packet::PubAck(_)).then_some(()));
        let (request, ..) = taken(&mut handler);
        handler.send(&Request { id: 0, ask: Ask::Reject { request, message: "closed".into() } });
        let second = answer(&mut connection);
        let properties = second.properties.expect("it has some");
        assert_eq!((second.payload.len(), properties.correlation_data.as_deref()), (0, Some(&b"second"[..])));
        assert!(properties.user_properties.contains(&("tidewire-error".to_owned(), "315".to_owned())));
        assert!(properties.user_properties.contains(&("tidewire-reason".to_owned(), "closed".to_owned())));
    }
}

/// The number of a request, its path and value.
fn taken(session: &mut crate::client::Session) -> (u64, String, Vec<u8>) {
    loop {
        if let Seen::Requested(requested) = session.next() {
            return (requested.request, requested.path, requested.value);
        }
    }
}
