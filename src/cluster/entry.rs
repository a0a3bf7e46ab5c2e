//! What one update comes to, as the log has it: an rkyv archive behind a number for its form, checked on read.
//!
//! A topic is named by its path: within a leader's term all entries of a group are decided in the order in which they are applied, so nothing else can be
//! there. A session is named by its server and id. The topic's number is made of the place in the log of the entry that adds it, see [`topic_id`].

use super::once::{Asked, Made, Source};
use crate::base::{SessionId, TopicId};
use crate::journal::Expiry;
use rkyv::rancor::Failure;
use rkyv::with::{AsOwned, InlineAsBox};
use rkyv::{Archive, Serialize};
use std::borrow::Cow;

/// What an entry begins with.
pub(super) const FORM: u8 = 1;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub path: &'a str,
    /// The leader's term when it was decided. In the log of another term it is void.
    pub term: u64,
    /// The leader's wall clock when it was decided, in milliseconds since the epoch. A group's shards decide beside each other: whoever has the log in order makes of it
    /// a time that never goes back.
    pub time_ms: u64,
    /// Whose update it is; none of what the leader does by itself.
    pub asked: Option<Asked>,
    /// The topic that is made first, in the place of what is only passed through or made by a view.
    pub added: Option<Added<'a>>,
    /// What happens to the topic that is there then.
    pub change: Option<Change<'a>>,
}

/// A topic that was not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added<'a> {
    /// The wire's number of the topic's type.
    pub kind: u8,
    /// The canonical ones that differ from the default.
    pub properties: Cow<'a, [(Box<str>, Box<str>)]>,
    /// Whether it is made for a message that passes by.
    pub is_passing: bool,
    pub creator: Option<SessionName>,
}

/// A session of any server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionName {
    /// The server's number in its cluster.
    pub server: u64,
    pub session: SessionId,
}

/// What happens to a topic that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// It was only passed through, and is one as any other from now on.
    Kept,
    /// Its value; `None` is null.
    Value {
        version: u64,
        value: Option<&'a [u8]>,
        message: Option<Message<'a>>,
    },
    Event(EventChange<'a>),
    /// A message that leaves the value as it is, and takes the topic with it where it is clearing.
    Passed {
        version: u64,
        value: &'a [u8],
        message: Message<'a>,
    },
    Removed,
}

/// An event of a time series, and what of the series it leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventChange<'a> {
    pub sequence: u64,
    /// Of an edit, the sequence of the event that it overrides.
    pub original: Option<u64>,
    pub timestamp_ms: u64,
    pub author: &'a str,
    pub value: &'a [u8],
    /// Events below are no longer retained.
    pub first_kept: u64,
    /// An edit that gives way.
    pub dropped: Option<u64>,
}

/// What a message of MQTT is beside its topic and payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    pub qos: u8,
    pub retain: bool,
    pub is_clearing: bool,
    pub expiry: Option<Expiry>,
    pub origin: Option<SessionName>,
    /// Properties of a packet of MQTT 5, as they are passed on.
    pub passed_on: &'a [u8],
}

/// The bytes are no entry that this version knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedEntry;

/// What is rare stands apart, so that a value has little beside itself.
#[derive(Archive, Serialize)]
struct Kept<'a> {
    #[rkyv(with = InlineAsBox)]
    path: &'a str,
    term: u64,
    time_ms: u64,
    asked: Option<KeptAsked>,
    added: Option<Box<KeptAdded<'a>>>,
    change: Option<KeptChange<'a>>,
}

#[derive(Archive, Serialize)]
struct KeptAsked {
    server: u64,
    boot: u64,
    shard: u16,
    number: u64,
    /// What is answered; numbers of an event are those of the change.
    made: u8,
}

#[derive(Archive, Serialize)]
struct KeptAdded<'a> {
    kind: u8,
    #[rkyv(with = AsOwned)]
    properties: Cow<'a, [(Box<str>, Box<str>)]>,
    is_passing: bool,
    creator: Option<(u64, u64)>,
}

#[derive(Archive, Serialize)]
enum KeptChange<'a> {
    Kept,
    Value {
        version: u64,
        is_null: bool,
        #[rkyv(with = InlineAsBox)]
        value: &'a [u8],
        message: Option<Box<KeptMessage<'a>>>,
    },
    Event(Box<KeptEvent<'a>>),
    Passed {
        version: u64,
        #[rkyv(with = InlineAsBox)]
        value: &'a [u8],
        message: Box<KeptMessage<'a>>,
    },
    Removed,
}

#[derive(Archive, Serialize)]
struct KeptEvent<'a> {
    sequence: u64,
    original: Option<u64>,
    timestamp_ms: u64,
    #[rkyv(with = InlineAsBox)]
    author: &'a str,
    #[rkyv(with = InlineAsBox)]
    value: &'a [u8],
    first_kept: u64,
    dropped: Option<u64>,
}

#[derive(Archive, Serialize)]
struct KeptMessage<'a> {
    qos: u8,
    retain: bool,
    is_clearing: bool,
    /// When it expires, and what was left then, in milliseconds.
    expiry: Option<(u64, u64)>,
    origin: Option<(u64, u64)>,
    #[rkyv(with = InlineAsBox)]
    passed_on: &'a [u8],
}

/// The number of the topic that the entry at this place of its group's log (see `batch`) adds, the same at every server. Topics that a server makes for itself have odd
/// numbers.
pub fn topic_id(group: u16, groups: u16, place: u64) -> TopicId {
    TopicId((place * u64::from(groups) + u64::from(group)) * 2)
}

impl<'a> Entry<'a> {
    pub fn encode(&self) -> Vec<u8> {
        let kept = Kept {
            path: self.path,
            term: self.term,
            time_ms: self.time_ms,
            asked: self.asked.as_ref().map(Asked::kept),
            added: self.added.as_ref().map(|added| Box::new(added.kept())),
            change: self.change.as_ref().map(Change::kept),
        };
        let archived = rkyv::to_bytes::<Failure>(&kept).expect("memory takes it");
        [&[FORM][..], &archived[..]].concat()
    }

    /// Nothing is copied but a new topic's properties.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, MalformedEntry> {
        let bytes = bytes.strip_prefix(&[FORM]).ok_or(MalformedEntry)?;
        let kept = rkyv::access::<ArchivedKept<'_>, Failure>(bytes).map_err(|_| MalformedEntry)?;
        let change = kept.change.as_ref().map(Change::of);
        Ok(Self {
            path: &kept.path,
            term: kept.term.to_native(),
            time_ms: kept.time_ms.to_native(),
            asked: kept.asked.as_ref().map(|asked| Asked::of(asked, change.as_ref())).transpose()?,
            added: kept.added.as_ref().map(|added| Added::of(added)),
            change,
        })
    }
}

impl Asked {
    fn kept(&self) -> KeptAsked {
        let Self { source: Source { server, boot, shard }, number, made } = *self;
        KeptAsked { server, boot, shard, number, made: made.kind() }
    }

    fn of(kept: &ArchivedKeptAsked, change: Option<&Change<'_>>) -> Result<Self, MalformedEntry> {
        let event = match change {
            Some(Change::Event(event)) => Some((event.sequence, event.timestamp_ms)),
            _ => None,
        };
        Ok(Self {
            source: Source { server: kept.server.to_native(), boot: kept.boot.to_native(), shard: kept.shard.to_native() },
            number: kept.number.to_native(),
            made: Made::of_kind(kept.made, event).ok_or(MalformedEntry)?,
        })
    }
}

impl SessionName {
    fn of(server: u64, session: u64) -> Self {
        Self { server, session: SessionId::from_number(session) }
    }

    fn numbers(self) -> (u64, u64) {
        (self.server, self.session.number())
    }

    /// The session, where it is one of this server.
    pub fn session_at(self, server: u64) -> Option<SessionId> {
        (self.server == server).then_some(self.session)
    }
}

impl<'a> Added<'a> {
    fn kept(&self) -> KeptAdded<'_> {
        let creator = self.creator.map(SessionName::numbers);
        KeptAdded { kind: self.kind, properties: Cow::Borrowed(&self.properties), is_passing: self.is_passing, creator }
    }

    fn of(kept: &'a ArchivedKeptAdded<'_>) -> Self {
        // As many as there are properties, each once.
        let properties = kept.properties.iter().map(|property| (Box::from(&*property.0), Box::from(&*property.1)));
        let creator = kept.creator.as_ref().map(|name| SessionName::of(name.0.to_native(), name.1.to_native()));
        Self { kind: kept.kind, properties: properties.collect(), is_passing: kept.is_passing, creator }
    }
}

impl<'a> Change<'a> {
    fn kept(&self) -> KeptChange<'a> {
        match self {
            Self::Kept => KeptChange::Kept,
            Self::Removed => KeptChange::Removed,
            Self::Value { version, value, message } => KeptChange::Value {
                version: *version,
                is_null: value.is_none(),
                value: value.unwrap_or_default(),
                message: message.as_ref().map(|message| Box::new(message.kept())),
            },
            Self::Passed { version, value, message } => KeptChange::Passed { version: *version, value, message: Box::new(message.kept()) },
            Self::Event(EventChange { sequence, original, timestamp_ms, author, value, first_kept, dropped }) => {
                KeptChange::Event(Box::new(KeptEvent {
                    sequence: *sequence,
                    original: *original,
                    timestamp_ms: *timestamp_ms,
                    author,
                    value,
                    first_kept: *first_kept,
                    dropped: *dropped,
                }))
            }
        }
    }

    fn of(kept: &'a ArchivedKeptChange<'_>) -> Self {
        match kept {
            ArchivedKeptChange::Kept => Self::Kept,
            ArchivedKeptChange::Removed => Self::Removed,
            ArchivedKeptChange::Value { version, is_null, value, message } => Self::Value {
                version: version.to_native(),
                value: (!is_null).then_some(value),
                message: message.as_ref().map(|message| Message::of(message)),
            },
            ArchivedKeptChange::Passed { version, value, message } => {
                Self::Passed { version: version.to_native(), value, message: Message::of(message) }
            }
            ArchivedKeptChange::Event(event) => Self::Event(EventChange {
                sequence: event.sequence.to_native(),
                original: event.original.as_ref().map(|original| original.to_native()),
                timestamp_ms: event.timestamp_ms.to_native(),
                author: &event.author,
                value: &event.value,
                first_kept: event.first_kept.to_native(),
                dropped: event.dropped.as_ref().map(|dropped| dropped.to_native()),
            }),
        }
    }
}

impl<'a> Message<'a> {
    fn kept(&self) -> KeptMessage<'a> {
        let Self { qos, retain, is_clearing, expiry, origin, passed_on } = *self;
        let expiry = expiry.map(|Expiry { at_ms, left_ms }| (at_ms, left_ms));
        KeptMessage { qos, retain, is_clearing, expiry, origin: origin.map(SessionName::numbers), passed_on }
    }

    fn of(kept: &'a ArchivedKeptMessage<'_>) -> Self {
        Self {
            qos: kept.qos,
            retain: kept.retain,
            is_clearing: kept.is_clearing,
            expiry: kept.expiry.as_ref().map(|expiry| Expiry { at_ms: expiry.0.to_native(), left_ms: expiry.1.to_native() }),
            origin: kept.origin.as_ref().map(|name| SessionName::of(name.0.to_native(), name.1.to_native())),
            passed_on: &kept.passed_on,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn asked(made: Made) -> Asked {
        Asked { source: Source { server: u64::MAX, boot: 7, shard: 63 }, number: u64::MAX, made }
    }

    #[test]
    fn an_event_that_is_none_is_no_answer() {
        let made = Made::Appended { sequence: 1, timestamp_ms: 2 };
        let bytes = Entry { path: "a", term: 1, time_ms: 1, asked: Some(asked(made)), added: None, change: Some(Change::Kept) }.encode();
        assert_eq!(Entry::decode(&bytes), Err(MalformedEntry));
    }

    fn check(entry: &Entry<'_>) {
        let bytes = entry.encode();
        assert_eq!(Entry::decode(&bytes).as_ref(), Ok(entry));
    }

    #[test]
    fn a_value_has_little_beside_itself() {
        let change = Change::Value { version: 2, value: Some(&[7; 125]), message: None };
        let entry = Entry { path: "load/updates/0001", term: 1, time_ms: 1, asked: None, added: None, change: Some(change) };
        let beside = entry.encode().len() - entry.path.len() - 125;
        assert!(beside <= 112, "{beside} bytes");
    }

    #[test]
    fn what_is_encoded_is_read_again() {
        let message = || Message {
            qos: 1,
            retain: true,
            is_clearing: false,
            expiry: Some(Expiry { at_ms: 5, left_ms: 3 }),
            origin: Some(SessionName::of(3, 7)),
            passed_on: b"properties",
        };
        let event = |original| EventChange {
            sequence: u64::MAX,
            original,
            timestamp_ms: 9,
            author: "ann",
            value: b"2",
            first_kept: 1,
            dropped: original,
        };
        let changes = [
            Change::Kept,
            Change::Removed,
            Change::Value { version: 1, value: Some(b"1"), message: None },
            Change::Value { version: 2, value: Some(b""), message: Some(message()) },
            Change::Value { version: 3, value: None, message: None },
            Change::Event(event(None)),
            Change::Event(event(Some(4))),
            Change::Passed { version: 0, value: b"", message: Message { expiry: None, origin: None, is_clearing: true, ..message() } },
        ];
        let properties = [("CONFLATION".into(), "off".into()), ("OWNER".into(), "$Principal is \"a\"".into())];
        for properties in [&[][..], &properties] {
            let added = Added { kind: 3, properties: properties.into(), is_passing: true, creator: Some(SessionName::of(u64::MAX, 1)) };
            check(&Entry { path: "a", term: 7, time_ms: 1, asked: None, added: Some(added.clone()), change: None });
            for change in &changes {
                check(&Entry { path: "a/b", term: u64::MAX, time_ms: u64::MAX, asked: None, added: None, change: Some(change.clone()) });
                let made = match change {
                    Change::Event(event) => Made::Appended { sequence: event.sequence, timestamp_ms: event.timestamp_ms },
                    Change::Removed => Made::Removed,
                    _ => Made::Created(properties.is_empty()),
                };
                let asked = Some(asked(made));
                check(&Entry { path: "ä/b", term: 0, time_ms: 0, asked, added: Some(added.clone()), change: Some(change.clone()) });
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_read_beyond_their_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Entry::decode(&bytes);
            let _ = Entry::decode(&[&[FORM][..], &bytes].concat());
        }

        #[test]
        fn an_entry_with_another_byte_is_an_entry_or_none(at in 0..100usize, byte in any::<u8>()) {
            let change = Change::Value { version: 2, value: Some(b"value"), message: None };
            let mut bytes = Entry { path: "a/b", term: 1, time_ms: 1, asked: Some(asked(Made::Done)), added: None, change: Some(change) }.encode();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = Entry::decode(&bytes);
            let _ = Entry::decode(&bytes[..at]);
        }
    }

    #[test]
    fn no_two_topics_of_groups_have_the_same_number() {
        let mut numbers: Vec<u64> = (0..3).flat_map(|group| (1..100).map(move |place| topic_id(group, 3, place).0)).collect();
        assert!(numbers.iter().all(|number| number % 2 == 0 && *number > 0));
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 3 * 99);
    }
}
