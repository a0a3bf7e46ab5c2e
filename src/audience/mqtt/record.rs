//! What is kept of a session: its own record, and one for each message that either side still has to acknowledge.
//!
//! A session is kept as a topic of its own kind, whose value is the session and whose events are the messages: what is dropped or acknowledged goes as
//! events of a time series do. rkyv archives, checked on read.

use crate::session::mqtt::{Message, Will};
use crate::session::{Mqtt, Outgoing};
use crate::topic::path::TopicPath;
use crate::topic::publication::{self, Publication};
use crate::topic::specification::Specification;
use crate::wire::mqtt::{QoS, RetainHandling, SubscriptionOptions, Version};
use rkyv::api::high::HighSerializer;
use rkyv::rancor::Failure;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};
use std::rc::Rc;
use std::sync::Arc;

use super::old_record;
use crate::base::{Time, TopicId};

/// What a record begins with. Those of earlier servers begin with a text or a payload, see `old_record`.
const FORM: [u8; 8] = *b"\xf7tw\x00ses\x02";
/// The same of a session with its roles, and with its principal too.
const FORM_WITH_ROLES: [u8; 8] = *b"\xf7tw\x00ses\x03";
const FORM_WITH_PRINCIPAL: [u8; 8] = *b"\xf7tw\x00ses\x04";
/// A message of a topic that has an owner: to whom the topic belongs, and the message.
const FORM_OWNED: [u8; 8] = *b"\xf7tw\x00ses\x05";

/// What ends such a record: servers that do not know the form look for an older one at the end, and find none.
const NO_OLD_RECORD: [u8; 96] = [0xff; 96];

fn encode(form: [u8; 8], record: &impl for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, Failure>>) -> Vec<u8> {
    let archived = rkyv::to_bytes::<Failure>(record).expect("memory takes it");
    [&form[..], &archived[..]].concat()
}

/// A session as it is kept.
#[derive(Archive, Serialize, Deserialize, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    pub version: u8,
    pub expiry_s: u32,
    /// Milliseconds since the epoch at which it ends; `None` while its client is connected, or for ever.
    pub expires_ms: Option<u64>,
    /// The messages that were under way when its connection was lost; `None` while it has one, and where that is not known.
    pub sent: Option<Vec<u64>>,
    pub filters: Vec<FilterRecord>,
    pub will: Option<WillRecord>,
    /// Those of its client when it was last connected, as `$Roles` has them.
    pub roles: String,
    /// Who that was; empty of an anonymous one. `None` of a record that does not say.
    pub principal: Option<String>,
}

#[derive(Archive, Serialize, Deserialize, Debug, PartialEq, Eq)]
pub struct FilterRecord {
    pub text: String,
    pub qos: u8,
    pub no_local: bool,
    pub retain_as_published: bool,
    pub retain_handling: u8,
    pub id: Option<u32>,
}

#[derive(Archive, Serialize, Deserialize, Debug, PartialEq, Eq)]
pub struct WillRecord {
    pub topic: String,
    pub qos: u8,
    pub retain: bool,
    pub payload: Vec<u8>,
    pub delay_s: u32,
    pub expiry_s: Option<u32>,
    pub is_utf8: bool,
    pub content_type: Option<String>,
    pub passed_on: Vec<u8>,
}

/// What an event of a session is.
#[derive(Archive, Serialize, Deserialize, Debug, PartialEq, Eq)]
pub enum EventRecord {
    /// A message that the client has to acknowledge.
    Message(MessageRecord),
    /// PUBREC has come for the message of this sequence number: PUBCOMP is to come.
    Released { sequence: u64 },
    /// The message of this sequence number, which had waited, was sent.
    Sent { sequence: u64 },
    /// A QoS 2 message of the client's that it has not released.
    Inbound { id: u16, number: u64 },
    /// The QoS 2 message of another session with this number was taken, and is not taken again. A session is named by the number of its record.
    Seen { publisher: u64, number: u64 },
}

#[derive(Archive, Serialize, Deserialize, Debug, PartialEq, Eq)]
pub struct MessageRecord {
    pub path: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub subscription_ids: Vec<u32>,
    pub passed_on: Vec<u8>,
    /// Milliseconds since the epoch.
    pub expires_ms: Option<u64>,
    /// Of a QoS 2 message of a session that is kept: which, and its number there.
    pub publisher: Option<(u64, u64)>,
    /// The shared subscription that dealt it.
    pub group: Option<String>,
    /// Whether it was sent, or was to be at once.
    pub is_sent: bool,
}

/// A message of a topic that somebody owns, who may have it whatever the security store says.
#[derive(Archive, Serialize, Deserialize, Debug, PartialEq, Eq)]
pub struct OwnedRecord {
    pub message: MessageRecord,
    /// The name of a principal.
    pub owner: String,
}

impl SessionRecord {
    pub fn of(mqtt: &Mqtt, (principal, roles): (&str, &str), expires_ms: Option<u64>, sent: Option<Vec<u64>>) -> Self {
        // Bounded by `limits.selections_max`.
        let filters = mqtt.filters.iter().map(|filter| FilterRecord {
            text: filter.text().to_owned(),
            qos: filter.options.qos as u8,
            no_local: filter.options.no_local,
            retain_as_published: filter.options.retain_as_published,
            retain_handling: filter.options.retain_handling as u8,
            id: filter.id(),
        });
        Self {
            version: mqtt.version as u8,
            expiry_s: mqtt.expiry_s,
            expires_ms,
            sent,
            filters: filters.collect(),
            will: mqtt.will.as_ref().map(|will| WillRecord::of(will)),
            roles: roles.into(),
            principal: Some(principal.into()),
        }
    }

    pub fn version(&self) -> Version {
        [Version::V31, Version::V311, Version::V5].into_iter().find(|version| *version as u8 == self.version).unwrap_or(Version::V5)
    }

    pub fn encode(&self) -> Vec<u8> {
        encode(FORM_WITH_PRINCIPAL, self)
    }

    /// `None` where the bytes are no such record.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if let Some(bytes) = bytes.strip_prefix(&FORM_WITH_PRINCIPAL) {
            return rkyv::from_bytes::<Self, Failure>(bytes).ok();
        }
        if let Some(bytes) = bytes.strip_prefix(&FORM_WITH_ROLES) {
            return old_record::decode_session_without_principal(bytes);
        }
        let without_roles = bytes.strip_prefix(&FORM).and_then(old_record::decode_session_without_roles);
        without_roles.or_else(|| old_record::decode_session(bytes))
    }
}

impl FilterRecord {
    pub fn options(&self) -> SubscriptionOptions {
        let handlings = [RetainHandling::Always, RetainHandling::IfNew, RetainHandling::Never];
        SubscriptionOptions {
            qos: QoS::from_number(self.qos).unwrap_or_default(),
            no_local: self.no_local,
            retain_as_published: self.retain_as_published,
            retain_handling: handlings.into_iter().find(|handling| *handling as u8 == self.retain_handling).unwrap_or_default(),
        }
    }
}

impl WillRecord {
    fn of(will: &Will) -> Self {
        Self {
            topic: will.topic.to_string(),
            qos: will.qos as u8,
            retain: will.retain,
            payload: will.payload.to_vec(),
            delay_s: will.delay_s,
            expiry_s: will.expiry_s,
            is_utf8: will.is_utf8,
            content_type: will.content_type.as_deref().map(str::to_owned),
            passed_on: will.passed_on.to_vec(),
        }
    }

    pub fn into_will(self) -> Will {
        Will {
            topic: self.topic.into(),
            qos: QoS::from_number(self.qos).unwrap_or_default(),
            retain: self.retain,
            payload: self.payload.into(),
            delay_s: self.delay_s,
            expiry_s: self.expiry_s,
            is_utf8: self.is_utf8,
            content_type: self.content_type.map(Into::into),
            passed_on: self.passed_on.into(),
        }
    }
}

impl EventRecord {
    pub fn encode(&self) -> Vec<u8> {
        encode(FORM, self)
    }

    /// The message that it says was sent.
    pub fn sent(&self) -> Option<u64> {
        if let Self::Sent { sequence } = self { Some(*sequence) } else { None }
    }

    /// The record of this message.
    pub fn encode_message(message: &Message, wall_ms: impl Fn(Time) -> u64) -> Vec<u8> {
        let record = MessageRecord::of(message, wall_ms);
        match message.outgoing.specification().owner() {
            Some(owner) => [&encode(FORM_OWNED, &OwnedRecord { message: record, owner: owner.into() })[..], &NO_OLD_RECORD].concat(),
            None => Self::Message(record).encode(),
        }
    }

    /// `None` where the bytes are no such record; a note that something was done is empty. Of a message, also whose its topic is.
    pub fn decode(bytes: &[u8]) -> Option<(Self, Option<String>)> {
        if let Some(bytes) = bytes.strip_prefix(&FORM_OWNED) {
            let bytes = bytes.strip_suffix(&NO_OLD_RECORD)?;
            let OwnedRecord { message, owner } = rkyv::from_bytes::<OwnedRecord, Failure>(bytes).ok()?;
            return Some((Self::Message(message), Some(owner)));
        }
        let new = bytes.strip_prefix(&FORM).and_then(|bytes| rkyv::from_bytes::<Self, Failure>(bytes).ok());
        new.or_else(|| old_record::decode_event(bytes)).map(|event| (event, None))
    }
}

impl MessageRecord {
    fn of(message: &Message, wall_ms: impl Fn(Time) -> u64) -> Self {
        let publication = message.outgoing.publication();
        let head = publication.message();
        Self {
            path: message.outgoing.path().as_str().to_owned(),
            payload: message.outgoing.payload().into_owned(),
            qos: message.qos as u8,
            retain: message.retain,
            subscription_ids: message.subscription_ids.to_vec(),
            passed_on: message.outgoing.passed_on().to_vec(),
            expires_ms: head.and_then(|head| head.expires).map(wall_ms),
            publisher: message.publisher().map(|publisher| (publisher.session.0, publisher.number)),
            group: message.group.as_deref().map(str::to_owned),
            is_sent: message.is_noted,
        }
    }

    /// The message as it was, of a topic that need not be there. `binary` is a specification whose values are payloads, with the topic's owner.
    pub fn into_message(self, sequence: u64, binary: &Arc<Specification>, now: Time, time_of: impl Fn(u64) -> Time) -> Message {
        let head = publication::Message {
            qos: QoS::from_number(self.qos).unwrap_or_default(),
            expires: self.expires_ms.map(time_of),
            passed_on: self.passed_on.into(),
            ..publication::Message::default()
        };
        let publication = Arc::new(Publication::new(TopicId(0), 0, now, &self.payload).with_message(head));
        let outgoing: Rc<Outgoing> = Outgoing::without_topic(publication, TopicPath::of_branch(&self.path), binary, 0);
        Message {
            outgoing,
            qos: QoS::from_number(self.qos).unwrap_or_default(),
            retain: self.retain,
            is_first: false,
            is_repeated: true,
            is_noted: self.is_sent,
            sequence,
            ticket: 0,
            missed: 0,
            hold: None,
            subscription_ids: self.subscription_ids.into(),
            group: self.group.map(Into::into),
        }
    }
}
