//! MQTT 3.1, 3.1.1 and 5: bytes ↔ packets.
//!
//! - here — the packets, framing.
//! - `decode` — what clients send, borrowed from their bytes; `encode` — what the server sends.
//! - `property` — the properties of MQTT 5.
//! - `reader` — the data types that packets are made of.
//! - `reason` — reason codes, and the return codes of 3.x that say the same.
//!
//! No state beyond an unfinished packet: what may come when is the dialogue's, `protocol::mqtt`.

mod decode;
mod encode;
mod property;
mod reader;
mod reason;
#[cfg(test)]
mod tests;

pub use decode::{PacketLimits, decode, decode_connect, parse_head};
pub use encode::{
    Connack, put_acknowledgement, put_auth, put_connack, put_disconnect, put_pingresp, put_publish, put_suback, put_unsuback,
};
pub use property::{put_correlation, put_user_property, reply_properties};
pub use reason::ReasonCode;

use std::borrow::Cow;

/// Which MQTT a connection speaks; the first byte behind the protocol's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    V31 = 3,
    V311 = 4,
    V5 = 5,
}

/// How hard a message is tried to be delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QoS {
    #[default]
    AtMostOnce = 0,
    AtLeastOnce = 1,
    ExactlyOnce = 2,
}

impl QoS {
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::AtMostOnce, Self::AtLeastOnce, Self::ExactlyOnce].get(usize::from(number)).copied()
    }
}

/// The peer broke a rule, which ends the connection: the code to say so with, and the rule in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub code: ReasonCode,
    pub what: &'static str,
}

impl Fault {
    pub const fn new(code: ReasonCode, what: &'static str) -> Self {
        Self { code, what }
    }
}

/// The fixed header: the packet's type and flags, and how long it and what follows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub first: u8,
    pub head_len: usize,
    pub body_len: usize,
}

/// What a client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    Connect(Box<Connect<'a>>),
    Publish(Publish<'a>),
    /// PUBACK, PUBREC, PUBREL or PUBCOMP.
    Acknowledgement(Acknowledgement),
    Subscribe(Subscribe<'a>),
    Unsubscribe(Unsubscribe<'a>),
    Pingreq,
    Disconnect(Disconnect),
    Auth(Auth<'a>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    pub version: Version,
    /// The client is another broker, which 3.x has a bit for that brokers agree on: see the dialogue.
    pub is_bridge: bool,
    pub client_id: &'a str,
    /// Clean session in 3.x, clean start in 5.
    pub is_clean: bool,
    pub keep_alive_s: u16,
    pub user_name: Option<&'a str>,
    pub password: Option<&'a [u8]>,
    pub will: Option<Will<'a>>,
    /// 0 where it is not said; of 3.x 0 for a clean session, else `u32::MAX`, which is for ever.
    pub session_expiry_s: u32,
    /// QoS 1 and 2 messages that the client takes before it has acknowledged one; 65,535 where it is not said.
    pub receive_maximum: u16,
    /// `None`: as long as the protocol allows.
    pub packet_bytes_max: Option<u32>,
    pub topic_alias_maximum: u16,
    /// Whether CONNACK may carry response information.
    pub wants_response_information: bool,
    /// Whether reason strings and user properties may be sent with packets other than PUBLISH, CONNACK and DISCONNECT.
    pub wants_problem_information: bool,
    pub authentication: Option<(&'a str, &'a [u8])>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    pub topic: &'a str,
    pub qos: QoS,
    pub retain: bool,
    pub payload: &'a [u8],
    pub delay_s: u32,
    pub properties: MessageProperties<'a>,
}

/// A PUBLISH of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    pub is_duplicate: bool,
    pub qos: QoS,
    pub retain: bool,
    /// Empty where only the alias is given.
    pub topic: Cow<'a, str>,
    /// 0 at QoS 0.
    pub id: u16,
    pub alias: Option<u16>,
    pub properties: MessageProperties<'a>,
    pub payload: &'a [u8],
}

/// The properties of a message that reach its subscribers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageProperties<'a> {
    pub expiry_s: Option<u32>,
    /// The payload is UTF-8 text.
    pub is_utf8: bool,
    pub content_type: Option<&'a str>,
    /// All that is passed on as it came, encoded: payload format indicator, content type, response topic, correlation data and user
    /// properties, in their order. Empty for most messages.
    pub passed_on: Cow<'a, [u8]>,
}

/// The kinds of acknowledgement, by the number of their packet's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum AcknowledgementKind {
    Puback = 4,
    Pubrec = 5,
    Pubrel = 6,
    Pubcomp = 7,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    pub kind: AcknowledgementKind,
    pub id: u16,
    pub code: ReasonCode,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    pub id: u16,
    pub subscription_id: Option<u32>,
    /// At least one.
    pub filters: Vec<(&'a str, SubscriptionOptions)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SubscriptionOptions {
    pub qos: QoS,
    /// Messages that the client itself publishes are not sent to it.
    pub no_local: bool,
    /// The retain flag is passed on as it was published.
    pub retain_as_published: bool,
    pub retain_handling: RetainHandling,
}

/// When a subscription is sent the retained messages that match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    #[default]
    Always = 0,
    IfNew = 1,
    Never = 2,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    pub id: u16,
    /// At least one.
    pub filters: Vec<&'a str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect {
    pub code: ReasonCode,
    pub session_expiry_s: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Auth<'a> {
    pub code: ReasonCode,
    pub method: Option<&'a str>,
    pub content: &'a [u8],
}

/// A PUBLISH of the server, all but its payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublishHead<'a> {
    pub is_duplicate: bool,
    pub qos: QoS,
    pub retain: bool,
    /// Empty where the client knows the alias.
    pub topic: &'a str,
    /// 0 at QoS 0.
    pub id: u16,
    pub alias: Option<u16>,
    pub expiry_s: Option<u32>,
    pub subscription_ids: &'a [u32],
    /// As `MessageProperties::passed_on`.
    pub passed_on: &'a [u8],
    /// Messages before this one that the session had no room for: told to clients of MQTT 5.
    pub missed: u32,
}
