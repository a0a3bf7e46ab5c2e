//! The seam between the load and the protocol that carries it.
//!
//! A dialect writes the requests of a load and reads the server's frames in place. The engine knows
//! only `Request` and `Event`; each protocol is a variant here and a file below.

pub mod centrifugo;
pub mod json;
pub mod mqtt;
pub mod native;
mod text;

use crate::login::Login;
use crate::websocket::Opcode;
use tidewire::surface::value::ValueType;

/// Which protocol a run speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Native,
    Json,
    Mqtt(mqtt::Options),
    Centrifugo,
}

/// What the load asks of a server. `id` 0 asks for no answer where the protocol allows that.
#[derive(Clone, Copy, Debug)]
pub enum Request<'a> {
    Connect { id: u64, name: &'a str, capabilities: u64, login: &'a Login },
    Subscribe { id: u64, selector: &'a str },
    Create { id: u64, path: &'a str, value_type: ValueType, value: &'a [u8] },
    Set { id: u64, path: &'a str, value_type: ValueType, value: &'a [u8] },
    Remove { id: u64, selector: &'a str },
    Answer(Answer),
    Ping,
    Pong,
    Close,
}

/// What the server says, as far as a load cares. Slices lie in the caller's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    Value {
        topic: u64,
        value: &'a [u8],
    },
    /// A value whose arrival is to be answered.
    Assured {
        topic: u64,
        value: &'a [u8],
        answer: Answer,
    },
    /// A step of a handshake: to be answered, and nothing more.
    Step {
        answer: Answer,
    },
    Delta {
        topic: u64,
        form: DeltaForm,
        delta: &'a [u8],
    },
    Topic {
        topic: u64,
        path: &'a str,
    },
    Welcome {
        keep_alive_ms: u64,
        /// How many updates of a connection may wait for their answers.
        in_flight_max: u16,
    },
    Accepted {
        id: u64,
    },
    Refused {
        id: u64,
        code: u64,
        message: &'a str,
    },
    Closing {
        code: u64,
        message: &'a str,
    },
    /// The server takes no session now: its client is to come again when this time has passed.
    Later {
        wait_ms: u64,
    },
    Ping,
    /// A frame that a load has no use for.
    Other,
}

/// What a client says to a delivery or to a step of its handshake: a packet's first byte and identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub op: u8,
    pub packet: u16,
}

impl Answer {
    /// Whether a delivery is through once the server has this.
    pub fn ends_delivery(self) -> bool {
        matches!(self.op, mqtt::op::PUBACK | mqtt::op::PUBCOMP)
    }
}

/// How a delta is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeltaForm {
    Deflate,
    Copy,
}

/// What a request to remove takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// A selector.
    Selection,
    /// One topic's path.
    Topic,
    /// Nothing is left that could be removed.
    Nothing,
}

/// The server's bytes are not a frame of the dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl Dialect {
    /// What a report calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => native::SUBPROTOCOL,
            Self::Json => json::SUBPROTOCOL,
            Self::Centrifugo => centrifugo::NAME,
            Self::Mqtt(options) if options.version == mqtt::Version::V5 => "mqtt 5",
            Self::Mqtt(_) => "mqtt 3.1.1",
        }
    }

    /// What an upgrade to WebSocket offers, where the protocol has a name there.
    pub fn subprotocol(self) -> Option<&'static str> {
        match self {
            Self::Native => Some(native::SUBPROTOCOL),
            Self::Json => Some(json::SUBPROTOCOL),
            Self::Mqtt(_) => Some(mqtt::SUBPROTOCOL),
            Self::Centrifugo => None,
        }
    }

    /// How data go over WebSocket, in both directions.
    pub fn opcode(self) -> Opcode {
        if self.is_text() { Opcode::Text } else { Opcode::Binary }
    }

    /// Whether values stand in messages as JSON, so that they can be of no other type.
    pub fn is_text(self) -> bool {
        matches!(self, Self::Json | Self::Centrifugo)
    }

    /// The path of the WebSocket where the URL names none.
    pub fn default_path(self) -> &'static str {
        match self {
            Self::Native | Self::Json => "/tidewire",
            Self::Mqtt(_) => "/mqtt",
            Self::Centrifugo => centrifugo::PATH,
        }
    }

    /// What `CONNECT` declares when deltas are wanted.
    pub fn delta_capabilities(self) -> u64 {
        match self {
            Self::Native => native::CAPABILITY_DELTA_DEFLATE | native::CAPABILITY_DELTA_COPY,
            Self::Json | Self::Mqtt(_) | Self::Centrifugo => 0,
        }
    }

    /// Whether the server answers every update without being asked to.
    pub fn answers_updates(self) -> bool {
        self == Self::Centrifugo || self.acknowledges_deliveries()
    }

    /// Whether subscribers acknowledge deliveries, and answers name updates by packet identifiers.
    pub fn acknowledges_deliveries(self) -> bool {
        matches!(self, Self::Mqtt(options) if options.qos > mqtt::Qos::AtMostOnce)
    }

    /// Whether a delivery names its topic by the number in the topic's path, not by one that the server gave it.
    pub fn numbers_by_path(self) -> bool {
        matches!(self, Self::Mqtt(_) | Self::Centrifugo)
    }

    /// What a request to remove names.
    pub fn removal(self) -> Removal {
        match self {
            Self::Native | Self::Json => Removal::Selection,
            Self::Mqtt(_) => Removal::Topic,
            Self::Centrifugo => Removal::Nothing,
        }
    }

    /// The selector of every topic below `root`, where the protocol has one.
    pub fn selector_below(self, root: &str) -> Option<String> {
        match self {
            Self::Native | Self::Json => Some(format!("?{root}//")),
            Self::Mqtt(_) => Some(format!("{root}/+")),
            Self::Centrifugo => None,
        }
    }

    /// The name of an error or close code, where it is one of this server's own.
    pub fn code_name(self, code: u64) -> Option<String> {
        matches!(self, Self::Native | Self::Json).then(|| crate::failure::code_name(code)).flatten()
    }

    /// Appends one request.
    pub fn encode(self, request: &Request<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Native => native::encode(request, out),
            Self::Json => json::encode(request, out),
            Self::Centrifugo => centrifugo::encode(request, out),
            Self::Mqtt(options) => mqtt::encode(options, request, out),
        }
    }

    /// Reads the frame at the start of `bytes` and its length. `Ok(None)`: not whole yet.
    #[inline]
    pub fn parse(self, bytes: &[u8]) -> Result<Option<(Event<'_>, usize)>, Malformed> {
        match self {
            Self::Native => native::parse(bytes),
            Self::Json => json::parse(bytes),
            Self::Centrifugo => centrifugo::parse(bytes),
            Self::Mqtt(options) => mqtt::parse(options.version, bytes),
        }
    }
}

/// The topic of a delivery whose topic's name does not end in a number: none of the load's.
const NO_TOPIC: u64 = u64::MAX;

/// The number that is the last level of a topic's name.
#[inline]
fn topic_number(name: &[u8]) -> u64 {
    let (mut number, mut scale) = (0u64, 1u64);
    for &byte in name.iter().rev() {
        match byte {
            b'0'..=b'9' if scale < 1_000_000_000_000 => {
                number += u64::from(byte - b'0') * scale;
                scale *= 10;
            }
            b'/' if scale > 1 => return number,
            _ => break,
        }
    }
    NO_TOPIC
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topics_number_is_its_last_level() {
        for (name, number) in
            [("load/5/0", 0), ("a/1234567", 1_234_567), ("a/b7", NO_TOPIC), ("a/", NO_TOPIC), ("7", NO_TOPIC), ("", NO_TOPIC)]
        {
            assert_eq!(topic_number(name.as_bytes()), number, "{name}");
        }
        assert_eq!(topic_number(b"a/99999999999999999999"), NO_TOPIC);
    }
}
