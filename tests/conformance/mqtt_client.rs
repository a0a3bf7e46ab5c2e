//! What a client says and is told, in the words of the tests.

use crate::mqtt_packets::{Connect, PUBACK, PUBCOMP, PUBREC, PUBREL, Packet, Property, Publish, V5, acknowledge, disconnect, subscribe};
use crate::mqtt_peer::{Broker, Client};

impl Broker {
    pub fn ask(&mut self, client: Client, bytes: &[u8]) -> Vec<Packet> {
        self.give(client, bytes);
        self.take(client)
    }

    /// What is sent upon a CONNECT.
    pub fn connect(&mut self, connect: &Connect) -> (Client, Vec<Packet>) {
        let client = self.open(connect.version);
        let packets = self.ask(client, &connect.bytes());
        (client, packets)
    }

    /// A connection that is accepted, with what its CONNACK says; nothing follows it.
    pub fn connack(&mut self, connect: &Connect) -> (Client, bool, Vec<Property>) {
        let (client, packets) = self.connect(connect);
        let [Packet::Connack { session_present, code: 0, properties }] = &packets[..] else { panic!("not accepted: {packets:?}") };
        (client, *session_present, properties.clone())
    }

    /// A connection that is accepted without a session.
    pub fn join(&mut self, connect: &Connect) -> Client {
        let (client, session_present, _) = self.connack(connect);
        assert!(!session_present, "a new session");
        client
    }

    /// A connection whose session is there, with what follows its CONNACK.
    pub fn resume(&mut self, connect: &Connect) -> (Client, Vec<Packet>) {
        let (client, mut packets) = self.connect(connect);
        let connack = packets.remove(0);
        assert!(matches!(connack, Packet::Connack { session_present: true, code: 0, .. }), "{connack:?}");
        (client, packets)
    }

    /// Subscribes, which is granted, and gives the messages that come of it.
    pub fn subscribe(&mut self, client: Client, filter: &str, options: u8) -> Vec<Publish> {
        self.subscribe_with(client, filter, options, &[])
    }

    pub fn subscribe_with(&mut self, client: Client, filter: &str, options: u8, properties: &[Property]) -> Vec<Publish> {
        let mut packets = self.ask(client, &subscribe(client.version, 1000, properties, &[(filter, options)]));
        let suback = packets.iter().position(|packet| matches!(packet, Packet::Suback { .. })).expect("an answer");
        let Packet::Suback { id: 1000, codes, .. } = packets.remove(suback) else { panic!("another id") };
        assert_eq!(codes, [options & 3], "{filter}");
        packets.into_iter().map(message).collect()
    }

    /// The messages that the client was sent since the last time; nothing else was.
    pub fn messages(&mut self, client: Client) -> Vec<Publish> {
        self.take(client).into_iter().map(message).collect()
    }

    /// Publishes at QoS 0, or at another, whose exchange is completed; the client is not subscribed to what it publishes so.
    pub fn publish(&mut self, client: Client, publish: &Publish) {
        let bytes = publish.bytes(client.version);
        if publish.qos == 0 {
            return self.give(client, &bytes);
        }
        let kind = if publish.qos == 1 { PUBACK } else { PUBREC };
        assert_eq!(outline(&self.ask(client, &bytes)), [(kind, publish.id)], "{publish:?}");
        if publish.qos == 2 {
            assert_eq!(outline(&self.ask(client, &acknowledge(PUBREL, publish.id))), [(PUBCOMP, publish.id)]);
        }
    }

    /// The server says why in 5, by one of these codes, and ends the connection.
    pub fn assert_ended(&mut self, client: Client, codes: &[u8], why: &str) {
        let packets = self.take(client);
        match &packets[..] {
            [] => assert!(client.version < V5, "{why}: ended without a word"),
            [Packet::Disconnect { code, .. }] => assert!(codes.contains(code), "{why}: {code:02x}"),
            other => panic!("{why}: {other:?}"),
        }
        assert!(self.is_ended(client), "{why}");
    }

    /// The connection ends without having been accepted.
    pub fn assert_not_connected(&mut self, client: Client, why: &str) {
        let packets = self.take(client);
        match &packets[..] {
            [] => {}
            [Packet::Connack { code, .. }] => assert!(client.version == V5 && *code >= 0x80, "{why}: {code:02x}"),
            other => panic!("{why}: {other:?}"),
        }
        assert!(self.is_ended(client), "{why}");
    }

    /// Says goodbye, and goes.
    pub fn leave(&mut self, client: Client) {
        let goodbye = if client.version == V5 { disconnect(0, &[]) } else { vec![0xe0, 0] };
        self.give(client, &goodbye);
        self.lose(client);
    }
}

fn message(packet: Packet) -> Publish {
    match packet {
        Packet::Publish(publish) => publish,
        other => panic!("not a message: {other:?}"),
    }
}

/// Acknowledgements that succeed, as type and id.
pub fn outline(packets: &[Packet]) -> Vec<(u8, u16)> {
    let outline = packets.iter().map(|packet| match packet {
        Packet::Acknowledged { kind, id, code: 0 | 0x10, .. } => (*kind, *id),
        other => panic!("not an acknowledgement: {other:?}"),
    });
    outline.collect()
}

/// Messages as topic and payload.
pub fn told(messages: &[Publish]) -> Vec<(String, String)> {
    messages.iter().map(|message| (message.topic.clone(), String::from_utf8(message.payload.clone()).expect("a text"))).collect()
}

/// The same as `topic=payload`.
pub fn lines(messages: &[Publish]) -> Vec<String> {
    told(messages).into_iter().map(|(topic, payload)| format!("{topic}={payload}")).collect()
}
