//! The dialogue of MQTT 5, behind CONNECT: topic aliases, enhanced authentication, and reasons.
//!
//! No packet is put that is longer than the client takes: a reason string is left out first, then the packet.

use std::borrow::Cow;

use hashbrown::HashMap;

use super::answers::put_fitting;
use super::{Alias, ClientLimits, Command, DialogueLimits, ENDED, Phase, TOO_EARLY, protocol_error, reason};
use crate::wire::mqtt::{self, AcknowledgementKind, Auth, Connack, Connect, Disconnect, Fault, Packet, Publish, ReasonCode, Version};

/// Flat, so that the dialogue stays as small as it promises.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) phase: Phase,
    receive_maximum: u16,
    topic_alias_maximum: u16,
    packet_bytes_max: u32,
    wants_problem_information: bool,
    /// CONNECT said a session expiry interval other than 0.
    is_session_kept: bool,
    /// An AUTH was put that asks the client to go on.
    is_challenged: bool,
    rare: Option<Box<Rare>>,
}

/// What few connections have.
#[derive(Debug, Default)]
struct Rare {
    authentication_method: Option<Box<str>>,
    /// The topics of the client's aliases, from 1 on.
    client_aliases: Vec<Option<Box<str>>>,
    /// The server's aliases, first come, first served.
    server_aliases: HashMap<Box<str>, u16>,
}

impl Machine {
    pub fn new(connect: &Connect<'_>, limits: &DialogueLimits) -> Self {
        let rare =
            connect.authentication.map(|(method, _)| Box::new(Rare { authentication_method: Some(method.into()), ..Rare::default() }));
        Self {
            phase: Phase::Connecting,
            receive_maximum: connect.receive_maximum,
            topic_alias_maximum: connect.topic_alias_maximum.min(limits.topic_alias_maximum),
            packet_bytes_max: connect.packet_bytes_max.unwrap_or(u32::MAX),
            wants_problem_information: connect.wants_problem_information,
            is_session_kept: connect.session_expiry_s > 0,
            is_challenged: false,
            rare,
        }
    }

    /// For a CONNECT that could not be read.
    pub fn unsaid() -> Self {
        let ClientLimits { receive_maximum, packet_bytes_max, topic_alias_maximum, wants_problem_information } = ClientLimits::UNSAID;
        Self {
            phase: Phase::Connecting,
            receive_maximum,
            topic_alias_maximum,
            packet_bytes_max,
            wants_problem_information,
            is_session_kept: false,
            is_challenged: false,
            rare: None,
        }
    }

    pub fn client(&self) -> ClientLimits {
        ClientLimits {
            receive_maximum: self.receive_maximum,
            packet_bytes_max: self.packet_bytes_max,
            topic_alias_maximum: self.topic_alias_maximum,
            wants_problem_information: self.wants_problem_information,
        }
    }

    #[cfg(test)]
    pub fn has_heap(&self) -> bool {
        self.rare.is_some()
    }

    pub fn step<'a>(&mut self, packet: Packet<'a>, limits: &DialogueLimits) -> Result<Command<'a>, Fault> {
        match (self.phase, &packet) {
            (Phase::Connecting, Packet::Auth(_)) | (Phase::Connected, _) => {}
            (Phase::Connecting, _) => return Err(TOO_EARLY),
            (Phase::Faulty { .. } | Phase::Over { .. }, _) => return Err(ENDED),
        }
        Ok(match packet {
            Packet::Publish(publish) => Command::Publish(self.publish(publish, limits)?),
            Packet::Acknowledgement(acknowledgement) => match acknowledgement.kind {
                AcknowledgementKind::Pubrel => Command::Release { id: acknowledgement.id },
                _ => Command::Acknowledged(acknowledgement),
            },
            Packet::Subscribe(subscribe) => Command::Subscribe(subscribe),
            Packet::Unsubscribe(unsubscribe) => Command::Unsubscribe(unsubscribe),
            Packet::Pingreq => Command::Ping,
            Packet::Disconnect(disconnect) => Command::Disconnect(self.disconnect(disconnect)?),
            Packet::Auth(auth) => Command::Authenticate(self.authenticate(auth)?),
            Packet::Connect(_) => unreachable!("the dialogue keeps it"),
        })
    }

    fn publish<'a>(&mut self, mut publish: Publish<'a>, limits: &DialogueLimits) -> Result<Publish<'a>, Fault> {
        let Some(alias) = publish.alias else { return Ok(publish) };
        // MQTT-3.3.2-8, MQTT-3.3.2-9: an alias is greater than 0 and not greater than the topic alias maximum.
        if alias == 0 || alias > limits.topic_alias_maximum {
            return Err(Fault::new(ReasonCode::TOPIC_ALIAS_INVALID, "a topic alias is 0 or greater than the topic alias maximum"));
        }
        if publish.topic.is_empty() {
            let topic = self.aliased(alias).ok_or(protocol_error("a topic alias stands for no topic"))?;
            publish.topic = Cow::Owned(topic.to_owned());
        } else {
            // Section 3.3.2.3.4: a topic name beside an alias replaces what the alias stood for.
            self.assign(alias, &publish.topic);
        }
        Ok(publish)
    }

    fn aliased(&self, alias: u16) -> Option<&str> {
        self.rare.as_ref()?.client_aliases.get(usize::from(alias) - 1)?.as_deref()
    }

    fn assign(&mut self, alias: u16, topic: &str) {
        let aliases = &mut self.rare.get_or_insert_default().client_aliases;
        let index = usize::from(alias) - 1;
        if aliases.len() <= index {
            aliases.resize(index + 1, None);
        }
        // Some clients send both every time.
        if aliases[index].as_deref() != Some(topic) {
            aliases[index] = Some(topic.into());
        }
    }

    fn disconnect(&mut self, disconnect: Disconnect) -> Result<Disconnect, Fault> {
        // Section 3.14.2.2.2: an interval of 0 in CONNECT stays 0.
        if !self.is_session_kept && disconnect.session_expiry_s.is_some_and(|expiry_s| expiry_s > 0) {
            return Err(protocol_error("DISCONNECT keeps a session that CONNECT did not"));
        }
        // MQTT-3.14.4-1: nothing comes behind it.
        self.phase.finish();
        Ok(disconnect)
    }

    fn authenticate<'a>(&mut self, auth: Auth<'a>) -> Result<Auth<'a>, Fault> {
        // MQTT-4.12.0-6, MQTT-4.12.0-7: without a method in CONNECT neither side sends AUTH.
        let Some(method) = self.authentication_method() else {
            return Err(protocol_error("AUTH came without an authentication method in CONNECT"));
        };
        // MQTT-4.12.0-5, MQTT-4.12.1-1: the method is that of CONNECT.
        if auth.method != Some(method) {
            return Err(protocol_error("the authentication method of AUTH is not that of CONNECT"));
        }
        match (auth.code, self.phase) {
            // MQTT-4.12.0-3: the client goes on with code 0x18, when it was asked to.
            (ReasonCode::CONTINUE_AUTHENTICATION, _) if self.is_challenged => self.is_challenged = false,
            (ReasonCode::REAUTHENTICATE, Phase::Connected) => {}
            _ => return Err(protocol_error("AUTH has a reason code that is not in place")),
        }
        Ok(auth)
    }

    /// The method that CONNECT named.
    pub fn authentication_method(&self) -> Option<&str> {
        self.rare.as_ref().and_then(|rare| rare.authentication_method.as_deref())
    }

    pub fn alias_for(&mut self, topic: &str) -> Alias {
        if self.topic_alias_maximum == 0 {
            return Alias::None;
        }
        let aliases = &mut self.rare.get_or_insert_default().server_aliases;
        if let Some(alias) = aliases.get(topic) {
            return Alias::Known(*alias);
        }
        // MQTT-3.1.2-26, MQTT-3.1.2-27: no alias is greater than the client's maximum.
        if aliases.len() >= usize::from(self.topic_alias_maximum) {
            return Alias::None;
        }
        let alias = aliases.len() as u16 + 1;
        aliases.insert(topic.into(), alias);
        Alias::New(alias)
    }

    pub fn put_connack(&mut self, out: &mut Vec<u8>, connack: &Connack<'_>) {
        if self.phase != Phase::Connecting {
            return;
        }
        let code = reason::CONNACK.nearest(connack.code);
        self.put(out, connack.reason_string, |out, reason_string| {
            mqtt::put_connack(out, Version::V5, &Connack { code, reason_string, ..*connack });
        });
        self.phase.answer(connack.code);
    }

    /// Says why the connection ends. MQTT-3.14.0-1: a server sends DISCONNECT only behind a CONNACK with success.
    pub fn put_end(&mut self, out: &mut Vec<u8>, code: ReasonCode, reason_string: Option<&str>, server_reference: Option<&str>) {
        if self.phase.is_over() {
            return;
        }
        if self.phase.was_connected() {
            let code = reason::DISCONNECT.nearest(code);
            self.put(out, reason_string, |out, reason_string| mqtt::put_disconnect(out, code, reason_string, server_reference));
        } else {
            let code = reason::CONNACK.nearest(code);
            self.put(out, reason_string, |out, reason_string| {
                mqtt::put_connack(out, Version::V5, &Connack { code, reason_string, server_reference, ..Connack::default() });
            });
        }
        self.phase.finish();
    }

    pub fn put_auth(&mut self, out: &mut Vec<u8>, code: ReasonCode, method: &str, content: &[u8]) {
        self.is_challenged = code == ReasonCode::CONTINUE_AUTHENTICATION;
        self.put(out, None, |out, _| mqtt::put_auth(out, code, method, content));
    }

    /// Puts one packet, unless the last was put.
    fn put(&self, out: &mut Vec<u8>, reason_string: Option<&str>, put: impl Fn(&mut Vec<u8>, Option<&str>)) {
        if !self.phase.is_over() {
            put_fitting(out, self.packet_bytes_max, reason_string, put);
        }
    }
}
