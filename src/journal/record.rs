//! The payloads of records: rkyv archives, checked on read.
//!
//! Each kind is an archive of its own, so that a value pays only for its own fields. Numbers are little-endian and unaligned:
//! the bytes mean the same on every machine and at every offset.

use super::Change;
use crate::base::TopicId;
use crate::topic::path;
use rkyv::rancor::{Failure, Strategy};
use rkyv::ser::Serializer;
use rkyv::ser::allocator::{Arena, ArenaHandle, SubAllocator};
use rkyv::ser::sharing::Unshare;
use rkyv::with::InlineAsBox;
use rkyv::{Archive, Serialize};
use std::borrow::Cow;
use std::mem::MaybeUninit;

/// One record, borrowed from a change or from a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    Added {
        topic: TopicId,
        path: &'a str,
        kind: u8,
        properties: Cow<'a, [(Box<str>, Box<str>)]>,
    },
    Value {
        topic: TopicId,
        version: u64,
        value: &'a [u8],
    },
    NoValue {
        topic: TopicId,
        version: u64,
    },
    /// A value that is a retained message of MQTT.
    Message {
        topic: TopicId,
        version: u64,
        qos: u8,
        expiry: Option<Expiry>,
        /// Properties of a packet of MQTT 5, as they are passed on.
        passed_on: &'a [u8],
        value: &'a [u8],
    },
    Event {
        topic: TopicId,
        sequence: u64,
        original: Option<u64>,
        timestamp_ms: u64,
        author: &'a str,
        value: &'a [u8],
        first_kept: u64,
        dropped: Option<u64>,
    },
    Removed {
        topic: TopicId,
    },
    /// Carries nothing but its frame's note of what is synced.
    Mark,
    /// An entry of a group's log.
    Logged {
        group: u16,
        logged: Logged<'a>,
    },
    /// The entries behind `after` are of the group's log no more; `None`: all.
    Cut {
        group: u16,
        after: Option<u64>,
    },
    /// The group's vote, in bytes that whoever votes understands.
    Voted {
        group: u16,
        vote: &'a [u8],
    },
    /// All of the group's log up to there is committed. A hint, which may come late.
    Committed {
        group: u16,
        index: u64,
    },
}

/// An entry of a group's log, at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logged<'a> {
    pub index: u64,
    pub term: u64,
    pub payload: Payload<'a>,
}

/// What an entry of a group's log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// A term's first.
    Nothing,
    /// What `cluster` makes an entry of, or an empty one that changes nothing, and the term that it was judged in.
    Entry { judged: u64, bytes: &'a [u8] },
    /// The group's members, in bytes that whoever agrees on the log understands.
    Members(&'a [u8]),
}

impl Payload<'_> {
    const NOTHING: u8 = 0;
    const ENTRY: u8 = 1;
    const MEMBERS: u8 = 2;
}

/// When something expires. What the wall clock says is needed where the server was away, and may be wrong, then or now: so nothing has longer
/// than it had when this was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// Milliseconds since the epoch.
    pub at_ms: u64,
    /// What was left when it was written.
    pub left_ms: u64,
}

impl Expiry {
    /// What expires at `at_ms` and is written when the wall clock says `written_ms`.
    pub fn new(at_ms: u64, written_ms: u64) -> Self {
        Self { at_ms, left_ms: at_ms.saturating_sub(written_ms) }
    }

    /// How long it has when the wall clock says `now_ms`.
    pub fn left_ms(self, now_ms: u64) -> u64 {
        self.at_ms.saturating_sub(now_ms).min(self.left_ms)
    }
}

/// The kind's number in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordKind {
    Mark = 0,
    Added = 1,
    Value = 2,
    NoValue = 3,
    Event = 4,
    Removed = 5,
    Message = 6,
    /// A message that expires. Earlier servers wrote it as any other, with the moment alone.
    ExpiringMessage = 7,
    Logged = 8,
    Cut = 9,
    Voted = 10,
    Committed = 11,
}

impl RecordKind {
    pub const ALL: [Self; 12] = [
        Self::Mark,
        Self::Added,
        Self::Value,
        Self::NoValue,
        Self::Event,
        Self::Removed,
        Self::Message,
        Self::ExpiringMessage,
        Self::Logged,
        Self::Cut,
        Self::Voted,
        Self::Committed,
    ];

    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// A payload is not what its kind says. Its checksum held, so another program or version wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    pub what: &'static str,
}

#[derive(Archive, Serialize)]
struct Added<'a> {
    topic: u64,
    kind: u8,
    #[rkyv(with = InlineAsBox)]
    path: &'a str,
    #[rkyv(with = InlineAsBox)]
    properties: &'a [(Box<str>, Box<str>)],
}

#[derive(Archive, Serialize)]
struct Value<'a> {
    topic: u64,
    version: u64,
    #[rkyv(with = InlineAsBox)]
    value: &'a [u8],
}

#[derive(Archive, Serialize)]
struct NoValue {
    topic: u64,
    version: u64,
}

#[derive(Archive, Serialize)]
struct Event<'a> {
    topic: u64,
    sequence: u64,
    original: Option<u64>,
    timestamp_ms: u64,
    first_kept: u64,
    dropped: Option<u64>,
    #[rkyv(with = InlineAsBox)]
    author: &'a str,
    #[rkyv(with = InlineAsBox)]
    value: &'a [u8],
}

#[derive(Archive, Serialize)]
struct Message<'a> {
    topic: u64,
    version: u64,
    qos: u8,
    expires_ms: Option<u64>,
    #[rkyv(with = InlineAsBox)]
    passed_on: &'a [u8],
    #[rkyv(with = InlineAsBox)]
    value: &'a [u8],
}

#[derive(Archive, Serialize)]
struct ExpiringMessage<'a> {
    topic: u64,
    version: u64,
    qos: u8,
    at_ms: u64,
    left_ms: u64,
    #[rkyv(with = InlineAsBox)]
    passed_on: &'a [u8],
    #[rkyv(with = InlineAsBox)]
    value: &'a [u8],
}

#[derive(Archive, Serialize)]
struct Removed {
    topic: u64,
}

#[derive(Archive, Serialize)]
struct KeptLogged<'a> {
    group: u16,
    index: u64,
    term: u64,
    kind: u8,
    judged: u64,
    #[rkyv(with = InlineAsBox)]
    bytes: &'a [u8],
}

#[derive(Archive, Serialize)]
struct Cut {
    group: u16,
    after: Option<u64>,
}

#[derive(Archive, Serialize)]
struct Voted<'a> {
    group: u16,
    #[rkyv(with = InlineAsBox)]
    vote: &'a [u8],
}

#[derive(Archive, Serialize)]
struct Committed {
    group: u16,
    index: u64,
}

impl<'a> From<&'a Change> for Record<'a> {
    fn from(change: &'a Change) -> Self {
        match change {
            Change::Added { topic, path, kind, properties } => {
                Self::Added { topic: *topic, path: path.as_str(), kind: *kind, properties: Cow::Borrowed(properties) }
            }
            Change::Value { publication } => {
                Self::Value { topic: publication.topic, version: publication.version, value: publication.value().unwrap_or_default() }
            }
            Change::Message { publication, expiry } => {
                let message = publication.message();
                Self::Message {
                    topic: publication.topic,
                    version: publication.version,
                    qos: publication.qos() as u8,
                    expiry: *expiry,
                    passed_on: message.map_or(&[][..], |message| message.passed_on),
                    value: publication.value().unwrap_or_default(),
                }
            }
            Change::NoValue { topic, version } => Self::NoValue { topic: *topic, version: *version },
            Change::Event { topic, sequence, original, timestamp_ms, author, value, first_kept, dropped } => Self::Event {
                topic: *topic,
                sequence: *sequence,
                original: *original,
                timestamp_ms: *timestamp_ms,
                author,
                value,
                first_kept: *first_kept,
                dropped: *dropped,
            },
            Change::Removed { topic } => Self::Removed { topic: *topic },
        }
    }
}

impl<'a> Record<'a> {
    pub fn kind(&self) -> RecordKind {
        match self {
            Self::Mark => RecordKind::Mark,
            Self::Added { .. } => RecordKind::Added,
            Self::Value { .. } => RecordKind::Value,
            Self::NoValue { .. } => RecordKind::NoValue,
            Self::Message { expiry: None, .. } => RecordKind::Message,
            Self::Message { expiry: Some(_), .. } => RecordKind::ExpiringMessage,
            Self::Event { .. } => RecordKind::Event,
            Self::Removed { .. } => RecordKind::Removed,
            Self::Logged { .. } => RecordKind::Logged,
            Self::Cut { .. } => RecordKind::Cut,
            Self::Voted { .. } => RecordKind::Voted,
            Self::Committed { .. } => RecordKind::Committed,
        }
    }

    /// The group whose log the record is about.
    #[cfg(feature = "server")]
    pub fn group(&self) -> Option<u16> {
        match *self {
            Self::Logged { group, .. } | Self::Cut { group, .. } | Self::Voted { group, .. } | Self::Committed { group, .. } => Some(group),
            _ => None,
        }
    }

    /// The topic that the record is about; a mark is about none, nor is what is of a group's log.
    pub fn topic(&self) -> Option<TopicId> {
        match *self {
            Self::Mark | Self::Logged { .. } | Self::Cut { .. } | Self::Voted { .. } | Self::Committed { .. } => None,
            Self::Added { topic, .. }
            | Self::Value { topic, .. }
            | Self::NoValue { topic, .. }
            | Self::Message { topic, .. }
            | Self::Event { topic, .. }
            | Self::Removed { topic } => Some(topic),
        }
    }

    /// Appends the payload. Nothing is allocated but for the topic's properties, which come once a topic.
    pub fn put_payload(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Mark => {}
            Self::Added { topic, path, kind, ref properties } => {
                let mut arena = Arena::new();
                let archived = Added { topic: topic.0, kind, path, properties };
                let mut serializer: Serializer<&mut Vec<u8>, ArenaHandle<'_>, Unshare> = Serializer::new(out, arena.acquire(), Unshare);
                rkyv::api::serialize_using::<_, Failure>(&archived, &mut serializer).expect("memory takes it");
            }
            Self::Value { topic, version, value } => put(&Value { topic: topic.0, version, value }, out),
            Self::NoValue { topic, version } => put(&NoValue { topic: topic.0, version }, out),
            Self::Message { topic, version, qos, expiry: None, passed_on, value } => {
                put(&Message { topic: topic.0, version, qos, expires_ms: None, passed_on, value }, out);
            }
            Self::Message { topic, version, qos, expiry: Some(Expiry { at_ms, left_ms }), passed_on, value } => {
                put(&ExpiringMessage { topic: topic.0, version, qos, at_ms, left_ms, passed_on, value }, out);
            }
            Self::Event { topic, sequence, original, timestamp_ms, author, value, first_kept, dropped } => {
                put(&Event { topic: topic.0, sequence, original, timestamp_ms, first_kept, dropped, author, value }, out);
            }
            Self::Removed { topic } => put(&Removed { topic: topic.0 }, out),
            Self::Logged { group, logged: Logged { index, term, payload } } => {
                let (kind, judged, bytes) = match payload {
                    Payload::Nothing => (Payload::NOTHING, 0, &[][..]),
                    Payload::Entry { judged, bytes } => (Payload::ENTRY, judged, bytes),
                    Payload::Members(bytes) => (Payload::MEMBERS, 0, bytes),
                };
                put(&KeptLogged { group, index, term, kind, judged, bytes }, out);
            }
            Self::Cut { group, after } => put(&Cut { group, after }, out),
            Self::Voted { group, vote } => put(&Voted { group, vote }, out),
            Self::Committed { group, index } => put(&Committed { group, index }, out),
        }
    }

    /// Reads what [`Self::put_payload`] wrote; every offset and length in it is checked first.
    pub fn from_payload(kind: RecordKind, payload: &'a [u8]) -> Result<Self, Malformed> {
        let malformed = |what| move |_: Failure| Malformed { what };
        Ok(match kind {
            RecordKind::Mark if payload.is_empty() => Self::Mark,
            RecordKind::Mark => return Err(Malformed { what: "a mark that is not empty" }),
            RecordKind::Added => {
                let read = rkyv::access::<ArchivedAdded<'a>, Failure>(payload).map_err(malformed("an added topic that is malformed"))?;
                path::check_form(&read.path).map_err(|_| Malformed { what: "an added topic whose path is not one" })?;
                let properties = read.properties.iter().map(|pair| (Box::from(&*pair.0), Box::from(&*pair.1))).collect();
                Self::Added {
                    topic: TopicId(read.topic.to_native()),
                    path: &read.path,
                    kind: read.kind,
                    properties: Cow::Owned(properties),
                }
            }
            RecordKind::Value => {
                let read = rkyv::access::<ArchivedValue<'a>, Failure>(payload).map_err(malformed("a value that is malformed"))?;
                Self::Value { topic: TopicId(read.topic.to_native()), version: read.version.to_native(), value: &read.value }
            }
            RecordKind::NoValue => {
                let read = rkyv::access::<ArchivedNoValue, Failure>(payload).map_err(malformed("a null that is malformed"))?;
                Self::NoValue { topic: TopicId(read.topic.to_native()), version: read.version.to_native() }
            }
            RecordKind::Event => {
                let read = rkyv::access::<ArchivedEvent<'a>, Failure>(payload).map_err(malformed("an event that is malformed"))?;
                Self::Event {
                    topic: TopicId(read.topic.to_native()),
                    sequence: read.sequence.to_native(),
                    original: read.original.as_ref().map(|original| original.to_native()),
                    timestamp_ms: read.timestamp_ms.to_native(),
                    author: &read.author,
                    value: &read.value,
                    first_kept: read.first_kept.to_native(),
                    dropped: read.dropped.as_ref().map(|dropped| dropped.to_native()),
                }
            }
            RecordKind::Message => {
                let read = rkyv::access::<ArchivedMessage<'a>, Failure>(payload).map_err(malformed("a message that is malformed"))?;
                Self::Message {
                    topic: TopicId(read.topic.to_native()),
                    version: read.version.to_native(),
                    qos: read.qos,
                    expiry: read.expires_ms.as_ref().map(|at_ms| Expiry { at_ms: at_ms.to_native(), left_ms: u64::MAX }),
                    passed_on: &read.passed_on,
                    value: &read.value,
                }
            }
            RecordKind::ExpiringMessage => {
                let read = rkyv::access::<ArchivedExpiringMessage<'a>, Failure>(payload)
                    .map_err(malformed("an expiring message that is malformed"))?;
                Self::Message {
                    topic: TopicId(read.topic.to_native()),
                    version: read.version.to_native(),
                    qos: read.qos,
                    expiry: Some(Expiry { at_ms: read.at_ms.to_native(), left_ms: read.left_ms.to_native() }),
                    passed_on: &read.passed_on,
                    value: &read.value,
                }
            }
            RecordKind::Removed => {
                let read = rkyv::access::<ArchivedRemoved, Failure>(payload).map_err(malformed("a removal that is malformed"))?;
                Self::Removed { topic: TopicId(read.topic.to_native()) }
            }
            RecordKind::Logged | RecordKind::Cut | RecordKind::Voted | RecordKind::Committed => {
                return Self::from_log_payload(kind, payload);
            }
        })
    }

    fn from_log_payload(kind: RecordKind, payload: &'a [u8]) -> Result<Self, Malformed> {
        let malformed = |what| move |_: Failure| Malformed { what };
        Ok(match kind {
            RecordKind::Logged => {
                let read =
                    rkyv::access::<ArchivedKeptLogged<'a>, Failure>(payload).map_err(malformed("a log's entry that is malformed"))?;
                let payload = match read.kind {
                    Payload::NOTHING if read.bytes.is_empty() => Payload::Nothing,
                    Payload::ENTRY => Payload::Entry { judged: read.judged.to_native(), bytes: &read.bytes },
                    Payload::MEMBERS => Payload::Members(&read.bytes),
                    _ => return Err(Malformed { what: "a log's entry of an unknown kind" }),
                };
                let logged = Logged { index: read.index.to_native(), term: read.term.to_native(), payload };
                Self::Logged { group: read.group.to_native(), logged }
            }
            RecordKind::Cut => {
                let read = rkyv::access::<ArchivedCut, Failure>(payload).map_err(malformed("a log's cut that is malformed"))?;
                Self::Cut { group: read.group.to_native(), after: read.after.as_ref().map(|after| after.to_native()) }
            }
            RecordKind::Voted => {
                let read = rkyv::access::<ArchivedVoted<'a>, Failure>(payload).map_err(malformed("a vote that is malformed"))?;
                Self::Voted { group: read.group.to_native(), vote: &read.vote }
            }
            RecordKind::Committed => {
                let read = rkyv::access::<ArchivedCommitted, Failure>(payload).map_err(malformed("what is committed that is malformed"))?;
                Self::Committed { group: read.group.to_native(), index: read.index.to_native() }
            }
            _ => return Err(Malformed { what: "what is of no log" }),
        })
    }
}

type Plain<'o, 's> = Serializer<&'o mut Vec<u8>, SubAllocator<'s>, Unshare>;

/// Archives of flat fields need no scratch space.
fn put<'o, T>(archived: &T, out: &'o mut Vec<u8>)
where
    T: for<'s> Serialize<Strategy<Plain<'o, 's>, Failure>>,
{
    let mut none: [MaybeUninit<u8>; 0] = [];
    let mut serializer = Serializer::new(out, SubAllocator::new(&mut none), Unshare);
    rkyv::api::serialize_using::<_, Failure>(archived, &mut serializer).expect("memory takes it");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_an_earlier_server_stored_expires_at_its_moment() {
        let mut payload = Vec::new();
        put(&Message { topic: 7, version: 3, qos: 1, expires_ms: Some(900), passed_on: b"p", value: b"v" }, &mut payload);
        let expiry = Some(Expiry { at_ms: 900, left_ms: u64::MAX });
        let expected = Record::Message { topic: TopicId(7), version: 3, qos: 1, expiry, passed_on: b"p", value: b"v" };
        assert_eq!(Record::from_payload(RecordKind::Message, &payload), Ok(expected));
    }
}
