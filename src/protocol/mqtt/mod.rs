//! One connection's MQTT dialogue: what may come when, and how what the server says is said in the version in force.
//!
//! - here — the dialogue: CONNECT, which chooses the version, and what is the same in all.
//! - `answers` — what a session says to its connected client: acknowledgements, and the quota of the client's messages.
//! - `v3` — MQTT 3.1 and 3.1.1; `v5` — MQTT 5: topic aliases, authentication, reasons.
//! - `reason` — which reason codes say the server's own, and which a packet may carry.
//!
//! Sans-IO. A broken rule ends the dialogue: nothing is handled from then on. Sessions, messages and their identifiers are left to others.
//!
//! A client may send packets right behind CONNECT, not waiting for CONNACK. Who owns the bytes leaves them unread until [`Dialogue::put_connack`],
//! unless an authentication is under way, in which only AUTH may come.

mod answers;
mod reason;
#[cfg(test)]
mod tests;
mod v3;
mod v5;

pub use answers::Answers;
pub use reason::reason_of;

use crate::wire;
use crate::wire::mqtt::{
    Acknowledgement, Auth, Connack, Connect, Disconnect, Fault, Packet, Publish, ReasonCode, Subscribe, Unsubscribe, Version,
};

/// Every bound the dialogue obeys. All required: the caller chooses.
#[derive(Clone, Copy, Debug)]
pub struct DialogueLimits {
    pub packet: wire::mqtt::PacketLimits,
    /// Topic aliases, of a client and of the server each. It is for CONNACK to tell the client.
    pub topic_alias_maximum: u16,
    pub client_id_bytes_max: usize,
}

/// What the client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    Connect(Box<Connect<'a>>),
    /// A step of an enhanced authentication, before or after CONNACK; its method is that of CONNECT.
    Authenticate(Auth<'a>),
    /// An alias is resolved, so that the topic is a valid name.
    Publish(Publish<'a>),
    /// PUBACK, PUBREC or PUBCOMP of a message of ours.
    Acknowledged(Acknowledgement),
    /// PUBREL of a message of the client's.
    Release {
        id: u16,
    },
    Subscribe(Subscribe<'a>),
    Unsubscribe(Unsubscribe<'a>),
    Ping,
    Disconnect(Disconnect),
}

/// What the client takes, as CONNECT said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    pub receive_maximum: u16,
    /// `u32::MAX`: as long as the protocol allows.
    pub packet_bytes_max: u32,
    /// Not more than the server's own limit: what is remembered of aliases is bounded, whatever a client offers.
    pub topic_alias_maximum: u16,
    pub wants_problem_information: bool,
}

impl ClientLimits {
    /// What holds where CONNECT says nothing.
    const UNSAID: Self =
        Self { receive_maximum: u16::MAX, packet_bytes_max: u32::MAX, topic_alias_maximum: 0, wants_problem_information: true };
}

/// How a topic stands in a PUBLISH to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alias {
    /// The topic's name only.
    None,
    /// The name and the alias that it has from now on.
    New(u16),
    /// The alias only.
    Known(u16),
}

/// How one connection stands. In this order: packets into [`Self::handle`], CONNECT first; its answer by [`Self::put_connack`]; then whatever
/// comes and is put, until a fault, which [`Self::put_fault`] says, or a DISCONNECT of either side. The `put_*` append to the connection's bytes
/// and put nothing behind the last packet.
///
/// Small, for most connections idle: nothing is on the heap but for an authentication and topic aliases in use.
#[derive(Debug, Default)]
pub struct Dialogue {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    /// CONNECT has not come.
    #[default]
    Greeting,
    V3(v3::Machine),
    V5(v5::Machine),
}

/// How far a connection is whose version is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// CONNACK has not been put.
    Connecting,
    Connected,
    /// A fault came, which has not been said.
    Faulty {
        was_connected: bool,
    },
    /// The last packet came or was put.
    Over {
        was_connected: bool,
    },
}

impl Phase {
    fn was_connected(self) -> bool {
        match self {
            Self::Connecting => false,
            Self::Connected => true,
            Self::Faulty { was_connected } | Self::Over { was_connected } => was_connected,
        }
    }

    fn is_open(self) -> bool {
        matches!(self, Self::Connecting | Self::Connected)
    }

    fn is_over(self) -> bool {
        matches!(self, Self::Over { .. })
    }

    fn fail(&mut self) {
        if self.is_open() {
            *self = Self::Faulty { was_connected: self.was_connected() };
        }
    }

    fn finish(&mut self) {
        *self = Self::Over { was_connected: self.was_connected() };
    }

    /// After a CONNACK with `code`, the first.
    fn answer(&mut self, code: ReasonCode) {
        *self = if code.is_error() { Self::Over { was_connected: false } } else { Self::Connected };
    }
}

impl Dialogue {
    pub fn new() -> Self {
        Self::default()
    }

    /// 3.1.1 before CONNECT.
    pub fn version(&self) -> Version {
        match &self.state {
            State::Greeting => Version::V311,
            State::V3(machine) => machine.version(),
            State::V5(_) => Version::V5,
        }
    }

    /// Whether a CONNACK with success was put; it stays so when the dialogue has ended.
    #[cfg(test)]
    fn is_connected(&self) -> bool {
        match &self.state {
            State::Greeting => false,
            State::V3(machine) => machine.phase.was_connected(),
            State::V5(machine) => machine.phase.was_connected(),
        }
    }

    pub fn client(&self) -> ClientLimits {
        match &self.state {
            State::Greeting | State::V3(_) => ClientLimits::UNSAID,
            State::V5(machine) => machine.client(),
        }
    }

    /// What the session that goes on with this connection answers by.
    pub fn answers(&self) -> Answers {
        Answers::new(self.version(), self.client())
    }

    /// Takes one packet. After a fault, and after DISCONNECT, whatever comes is a fault.
    pub fn handle<'a>(&mut self, first: u8, body: &'a [u8], limits: &DialogueLimits) -> Result<Command<'a>, Fault> {
        match self.decode(first, body, limits) {
            Ok(packet) => self.step(packet, limits),
            Err(fault) => {
                if matches!(self.state, State::Greeting) {
                    self.state = State::of(version_named(first, body));
                }
                self.fail();
                Err(fault)
            }
        }
    }

    fn decode<'a>(&self, first: u8, body: &'a [u8], limits: &DialogueLimits) -> Result<Packet<'a>, Fault> {
        match &self.state {
            State::Greeting if !is_connect(first) => return Err(NOT_CONNECT),
            State::V3(v3::Machine { phase, .. }) | State::V5(v5::Machine { phase, .. }) if !phase.is_open() => return Err(ENDED),
            _ => {}
        }
        wire::mqtt::decode(self.version(), first, body, &limits.packet)
    }

    fn step<'a>(&mut self, packet: Packet<'a>, limits: &DialogueLimits) -> Result<Command<'a>, Fault> {
        let result = match (&mut self.state, packet) {
            (State::Greeting, Packet::Connect(connect)) => self.greet(connect, limits),
            // MQTT-3.1.0-1: the first packet of a client is CONNECT.
            (State::Greeting, _) => {
                self.state = State::of(Version::V311);
                Err(NOT_CONNECT)
            }
            // MQTT-3.1.0-2: a second CONNECT is a protocol error.
            (_, Packet::Connect(_)) => Err(protocol_error("CONNECT came a second time")),
            (State::V3(machine), packet) => machine.step(packet),
            (State::V5(machine), packet) => machine.step(packet, limits),
        };
        if result.is_err() {
            self.fail();
        }
        result
    }

    fn greet<'a>(&mut self, connect: Box<Connect<'a>>, limits: &DialogueLimits) -> Result<Command<'a>, Fault> {
        // First of all, so that a refusal is said in the client's version.
        self.state = match connect.version {
            Version::V5 => State::V5(v5::Machine::new(&connect, limits)),
            version => State::V3(v3::Machine::new(version, connect.is_bridge)),
        };
        // MQTT-3.1.3-5: a server may take longer ones than 23 bytes, and need not take more.
        if connect.client_id.len() > limits.client_id_bytes_max {
            return Err(Fault::new(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID, "the client identifier is too long"));
        }
        Ok(Command::Connect(connect))
    }

    fn fail(&mut self) {
        match &mut self.state {
            State::Greeting => {}
            State::V3(machine) => machine.phase.fail(),
            State::V5(machine) => machine.phase.fail(),
        }
    }

    /// How a PUBLISH to the client may name `topic`. A new alias holds from now on: that PUBLISH has to be sent, and before any other with it.
    pub fn alias_for(&mut self, topic: &str) -> Alias {
        match &mut self.state {
            State::Greeting | State::V3(_) => Alias::None,
            State::V5(machine) => machine.alias_for(topic),
        }
    }

    /// Answers CONNECT, once and unless a fault came. With a success the client is connected, with an error the dialogue is over.
    pub fn put_connack(&mut self, out: &mut Vec<u8>, connack: &Connack<'_>) {
        match &mut self.state {
            State::Greeting => {}
            State::V3(machine) => machine.put_connack(out, connack),
            State::V5(machine) => machine.put_connack(out, connack),
        }
    }

    /// Says what there is to say of a fault before the transport ends: before the client is connected CONNACK with the code, in 3.x only where a
    /// return code says it; then DISCONNECT, which 3.x does not have.
    pub fn put_fault(&mut self, out: &mut Vec<u8>, fault: Fault) {
        match &mut self.state {
            State::Greeting => {}
            State::V3(machine) => machine.put_end(out, fault.code),
            State::V5(machine) => machine.put_end(out, fault.code, Some(fault.what), None),
        }
    }

    /// Ends the dialogue from the server's side. Before the client is connected it is said as a fault is.
    pub fn put_disconnect(&mut self, out: &mut Vec<u8>, code: ReasonCode, reason_string: Option<&str>, server_reference: Option<&str>) {
        match &mut self.state {
            State::Greeting => {}
            State::V3(machine) => machine.put_end(out, code),
            State::V5(machine) => machine.put_end(out, code, reason_string, server_reference),
        }
    }

    /// A step of an authentication; 3.x has none, and nothing is put.
    /// The method that CONNECT named.
    pub fn authentication_method(&self) -> Option<&str> {
        match &self.state {
            State::V5(machine) => machine.authentication_method(),
            _ => None,
        }
    }

    pub fn put_auth(&mut self, out: &mut Vec<u8>, code: ReasonCode, method: &str, content: &[u8]) {
        if let State::V5(machine) = &mut self.state {
            machine.put_auth(out, code, method, content);
        }
    }
}

impl State {
    fn of(version: Version) -> Self {
        match version {
            Version::V5 => Self::V5(v5::Machine::unsaid()),
            version => Self::V3(v3::Machine::new(version, false)),
        }
    }
}

const NOT_CONNECT: Fault = protocol_error("the first packet is not CONNECT");
const ENDED: Fault = protocol_error("a packet came behind the last one");
const TOO_EARLY: Fault = protocol_error("a packet came before CONNACK");

const fn protocol_error(what: &'static str) -> Fault {
    Fault::new(ReasonCode::PROTOCOL_ERROR, what)
}

fn is_connect(first: u8) -> bool {
    first >> 4 == 1
}

/// The version of a CONNECT that is broken, to say so in. A level that is not known is answered in the form that all know: MQTT-3.1.2-2 of 3.1.1
/// has return code 1 for it, which is how a client finds out that it has to try another.
fn version_named(first: u8, body: &[u8]) -> Version {
    match body {
        [0, 4, b'M', b'Q', b'T', b'T', 5, ..] if is_connect(first) => Version::V5,
        _ => Version::V311,
    }
}
