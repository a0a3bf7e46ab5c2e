//! The dialogue of MQTT 3.1 and 3.1.1, behind CONNECT.
//!
//! Both know no reason and no last word of a server but the return code of CONNACK.

use super::{Command, ENDED, Phase, TOO_EARLY};
use crate::wire::mqtt::{self, AcknowledgementKind, Connack, Fault, Packet, ReasonCode, Subscribe, Version};

#[derive(Debug)]
pub(super) struct Machine {
    pub(super) phase: Phase,
    is_v31: bool,
    is_bridge: bool,
}

impl Machine {
    pub fn new(version: Version, is_bridge: bool) -> Self {
        Self { phase: Phase::Connecting, is_v31: version == Version::V31, is_bridge }
    }

    pub fn version(&self) -> Version {
        if self.is_v31 { Version::V31 } else { Version::V311 }
    }

    pub fn step<'a>(&mut self, packet: Packet<'a>) -> Result<Command<'a>, Fault> {
        match self.phase {
            Phase::Connecting => return Err(TOO_EARLY),
            Phase::Connected => {}
            Phase::Faulty { .. } | Phase::Over { .. } => return Err(ENDED),
        }
        Ok(match packet {
            Packet::Publish(publish) => Command::Publish(publish),
            Packet::Acknowledgement(acknowledgement) => match acknowledgement.kind {
                AcknowledgementKind::Pubrel => Command::Release { id: acknowledgement.id },
                _ => Command::Acknowledged(acknowledgement),
            },
            Packet::Subscribe(subscribe) if self.is_bridge => Command::Subscribe(as_bridge(subscribe)),
            Packet::Subscribe(subscribe) => Command::Subscribe(subscribe),
            Packet::Unsubscribe(unsubscribe) => Command::Unsubscribe(unsubscribe),
            Packet::Pingreq => Command::Ping,
            // MQTT-3.14.4-2 of 3.1.1: nothing comes behind it.
            Packet::Disconnect(disconnect) => {
                self.phase.finish();
                Command::Disconnect(disconnect)
            }
            // The packet's type is reserved.
            Packet::Auth(_) => return Err(Fault::new(ReasonCode::MALFORMED_PACKET, "AUTH is a packet of MQTT 5")),
            Packet::Connect(_) => unreachable!("the dialogue keeps it"),
        })
    }

    pub fn put_connack(&mut self, out: &mut Vec<u8>, connack: &Connack<'_>) {
        if self.phase != Phase::Connecting {
            return;
        }
        mqtt::put_connack(out, self.version(), connack);
        self.phase.answer(connack.code);
    }

    /// Says why the connection ends, where it can be said.
    pub fn put_end(&mut self, out: &mut Vec<u8>, code: ReasonCode) {
        if !self.phase.was_connected() && !self.phase.is_over() && has_return_code(code) {
            mqtt::put_connack(out, self.version(), &Connack { code, ..Connack::default() });
        }
        self.phase.finish();
    }
}

/// What a bridge means by its filters and cannot say in 3.x: what it brought is not sent back to it, or two brokers would send each other the same
/// message for ever, and the retain flag says whether the message was published so. A shared subscription sends back what comes, as in MQTT 5.
fn as_bridge(mut subscribe: Subscribe<'_>) -> Subscribe<'_> {
    for (filter, options) in &mut subscribe.filters {
        options.no_local = !filter.starts_with("$share/");
        options.retain_as_published = true;
    }
    subscribe
}

/// Whether a return code says it. MQTT-3.2.2-6 of 3.1.1: where none does, the connection is closed without CONNACK.
fn has_return_code(code: ReasonCode) -> bool {
    match code.return_code() {
        1 | 2 | 4 | 5 => true,
        // The server is there but will not serve: it is not the client's doing.
        3 => matches!(
            code,
            ReasonCode::UNSPECIFIED_ERROR
                | ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR
                | ReasonCode::SERVER_UNAVAILABLE
                | ReasonCode::SERVER_BUSY
                | ReasonCode::SERVER_SHUTTING_DOWN
                | ReasonCode::QUOTA_EXCEEDED
                | ReasonCode::USE_ANOTHER_SERVER
                | ReasonCode::SERVER_MOVED
                | ReasonCode::CONNECTION_RATE_EXCEEDED
        ),
        _ => false,
    }
}
