//! The seam between the load and the protocol that carries it.
//!
//! A dialect writes the requests of a load and reads the server's frames in place. The engine knows
//! only `Request` and `Event`; each protocol is a variant here and a file below.

pub mod mqtt;
pub mod native;

use tidewire::surface::value::ValueType;

/// Which protocol a run speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Native,
    Mqtt(mqtt::Options),
}

/// What the load asks of a server. `id` 0 asks for no answer where the protocol allows that.
#[derive(Clone, Copy, Debug)]
pub enum Request<'a> {
    Connect { id: u64, name: &'a str, capabilities: u64 },
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

/// The server's bytes are not a frame of the dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl Dialect {
    /// What a report calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => native::SUBPROTOCOL,
            Self::Mqtt(options) if options.version == mqtt::Version::V5 => "mqtt 5",
            Self::Mqtt(_) => "mqtt 3.1.1",
        }
    }

    pub fn subprotocol(self) -> &'static str {
        match self {
            Self::Native => native::SUBPROTOCOL,
            Self::Mqtt(_) => mqtt::SUBPROTOCOL,
        }
    }

    /// The path of the WebSocket where the URL names none.
    pub fn default_path(self) -> &'static str {
        match self {
            Self::Native => "/tidewire",
            Self::Mqtt(_) => "/mqtt",
        }
    }

    /// What `CONNECT` declares when deltas are wanted.
    pub fn delta_capabilities(self) -> u64 {
        match self {
            Self::Native => native::CAPABILITY_DELTA_DEFLATE | native::CAPABILITY_DELTA_COPY,
            Self::Mqtt(_) => 0,
        }
    }

    /// Whether the server answers every update without being asked to.
    pub fn answers_updates(self) -> bool {
        matches!(self, Self::Mqtt(options) if options.qos > mqtt::Qos::AtMostOnce)
    }

    /// Whether a delivery names its topic by the number in the topic's path, not by one that the server gave it.
    pub fn numbers_by_path(self) -> bool {
        matches!(self, Self::Mqtt(_))
    }

    /// Whether a request to remove takes a selector and not one path.
    pub fn removes_selections(self) -> bool {
        matches!(self, Self::Native)
    }

    /// The selector of every topic below `root`.
    pub fn selector_below(self, root: &str) -> String {
        match self {
            Self::Native => format!("?{root}//"),
            Self::Mqtt(_) => format!("{root}/+"),
        }
    }

    /// Appends one request.
    pub fn encode(self, request: &Request<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Native => native::encode(request, out),
            Self::Mqtt(options) => mqtt::encode(options, request, out),
        }
    }

    /// Reads the frame at the start of `bytes` and its length. `Ok(None)`: not whole yet.
    #[inline]
    pub fn parse(self, bytes: &[u8]) -> Result<Option<(Event<'_>, usize)>, Malformed> {
        match self {
            Self::Native => native::parse(bytes),
            Self::Mqtt(options) => mqtt::parse(options.version, bytes),
        }
    }
}
