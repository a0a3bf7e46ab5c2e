//! One version of a topic's value, encoded once for everybody.

use super::specification::Compression;
use crate::base::{SessionId, ShardIndex, ShardSet, Time, TopicId};
use crate::value::delta::Form;
use crate::wire::mqtt::QoS;
use crate::wire::native::{self, EventHead};
use flate2::{Compress, Compression as Level, FlushCompress, Status};
use std::cell::RefCell;
use std::sync::OnceLock;

/// A shorter value is not worth compressing.
const DEFLATE_BYTES_MIN: usize = 128;

/// Immutable; shared by reference count between the owner, other shards and every queue that still wants it.
#[derive(Debug)]
pub struct Publication {
    pub topic: TopicId,
    /// 1 for the topic's first value; each update adds one. Of an event its sequence.
    pub version: u64,
    /// When the update was read from its publisher.
    pub received: Time,
    frame: Box<[u8]>,
    value_at: u32,
    content: Content,
    compression: Compression,
    marks: Marks,
    shorter: OnceLock<Box<Shorter>>,
    /// The session that published it, where the marks say that there is one.
    origin: SessionId,
    beside: Option<Box<Beside>>,
}

/// The frames that may stand for the whole value's.
#[derive(Debug, Default)]
struct Shorter {
    /// The frame that makes this version from the one before, where that is smaller: made by the topic's owner before anybody is told.
    delta: Option<Box<[u8]>>,
    /// The compressed frame, made when a session first wants it; empty where it is no smaller.
    deflated: OnceLock<Box<[u8]>>,
}

impl Shorter {
    fn of_delta(frame: Vec<u8>) -> Box<Self> {
        Box::new(Self { delta: Some(frame.into_boxed_slice()), deflated: OnceLock::new() })
    }
}

/// What few publications have: a topic keeps its last one, and there may be millions.
#[derive(Clone, Debug, Default)]
struct Beside {
    expires: Option<Time>,
    publisher: Option<Box<Publisher>>,
    passed_on: Box<[u8]>,
    /// To be told once every session that outlives the server keeps it.
    keep: Option<Box<Keep>>,
}

/// What a message of MQTT says of itself, in bits.
#[derive(Clone, Copy, Debug, Default)]
struct Marks(u8);

impl Marks {
    const QOS: u8 = 0b11;
    const IS_MESSAGE: u8 = 1 << 2;
    const RETAIN: u8 = 1 << 3;
    const IS_PASSING: u8 = 1 << 4;
    const IS_CLEARING: u8 = 1 << 5;
    const HAS_ORIGIN: u8 = 1 << 6;

    fn of(message: &Message) -> Self {
        let flag = |holds: bool, bit: u8| if holds { bit } else { 0 };
        let flags = flag(message.retain, Self::RETAIN)
            | flag(message.is_passing, Self::IS_PASSING)
            | flag(message.is_clearing, Self::IS_CLEARING)
            | flag(message.origin.is_some(), Self::HAS_ORIGIN);
        Self(message.qos as u8 | Self::IS_MESSAGE | flags)
    }

    fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }

    fn qos(self) -> QoS {
        QoS::from_number(self.0 & Self::QOS).unwrap_or_default()
    }
}

/// A message of MQTT as its publication has it: see [`Message`].
#[derive(Clone, Copy, Debug)]
pub struct MessageView<'p> {
    pub qos: QoS,
    pub retain: bool,
    pub is_passing: bool,
    pub is_clearing: bool,
    pub expires: Option<Time>,
    pub origin: Option<SessionId>,
    pub publisher: Option<&'p Publisher>,
    pub passed_on: &'p [u8],
}

/// What a message of MQTT is beside its topic and payload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub qos: QoS,
    pub retain: bool,
    /// It reaches those who are subscribed, and does not become the topic's value.
    pub is_passing: bool,
    /// Its empty payload says to clients of MQTT that the retained message is gone; others are told that the topic is.
    pub is_clearing: bool,
    /// The moment from which on it is not sent any more.
    pub expires: Option<Time>,
    /// The session that published it.
    pub origin: Option<SessionId>,
    /// Of a QoS 2 message of a session that outlives the server.
    pub publisher: Option<Box<Publisher>>,
    /// Properties that are passed on as they came, encoded as in a packet of MQTT 5.
    pub passed_on: Box<[u8]>,
}

/// Which QoS 2 message it is of a session that outlives the server: it comes again where the server ended before the session was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publisher {
    /// The session's record.
    pub session: TopicId,
    /// No other message of the session ever has it.
    pub number: u64,
    /// Messages with lower numbers do not come again.
    pub lowest: u64,
}

/// Who waits for a message to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    pub owner: ShardIndex,
    pub ticket: u64,
    /// Those that have to say so.
    pub shards: ShardSet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Value,
    Null,
    Event,
}

impl Publication {
    pub fn new(topic: TopicId, version: u64, received: Time, value: &[u8]) -> Self {
        let (frame, value_at) = native::value_frame(topic, value);
        Self::of(topic, version, received, Content::Value, frame, value_at)
    }

    /// The topic was set to null.
    pub fn null(topic: TopicId, version: u64, received: Time) -> Self {
        let frame = native::null_frame(topic);
        let value_at = frame.len();
        Self::of(topic, version, received, Content::Null, frame, value_at)
    }

    /// An event of a time series.
    pub fn event(topic: TopicId, received: Time, head: EventHead<'_>, value: &[u8]) -> Self {
        let (frame, value_at) = native::event_frame(topic, head, value);
        Self::of(topic, head.sequence, received, Content::Event, frame, value_at)
    }

    fn of(topic: TopicId, version: u64, received: Time, content: Content, frame: Vec<u8>, value_at: usize) -> Self {
        let (frame, value_at) = (frame.into_boxed_slice(), value_at as u32);
        let (compression, shorter) = (Compression::Off, OnceLock::new());
        let (marks, origin, beside) = (Marks::default(), SessionId::default(), None);
        Self { topic, version, received, frame, value_at, content, compression, marks, shorter, origin, beside }
    }

    /// The same under another topic's number, for who knows the topic by that; nobody waits for that to be kept.
    pub fn renumbered(&self, topic: TopicId) -> Self {
        let renumbered = match (self.content, self.value(), self.event_head()) {
            (Content::Event, Some(value), Some(head)) => Self::event(topic, self.received, head, value),
            (Content::Value, Some(value), _) => Self::new(topic, self.version, self.received, value),
            _ => Self::null(topic, self.version, self.received),
        };
        let shorter = self.delta().map(|frame| Shorter::of_delta(native::renumbered_frame(frame, topic)));
        let shorter = shorter.map_or_else(OnceLock::new, OnceLock::from);
        let beside = self.beside.as_ref().map(|beside| Box::new(Beside { keep: None, ..(**beside).clone() }));
        Self { compression: self.compression, marks: self.marks, origin: self.origin, beside, shorter, ..renumbered }
    }

    /// What makes this version from the one before; said at most once.
    pub fn set_delta(&self, form: Form, delta: &[u8]) {
        let shorter = Shorter::of_delta(native::delta_frame(self.topic, form, delta));
        assert!(self.shorter.set(shorter).is_ok(), "a value is applied once, and nobody is told before");
    }

    fn delta(&self) -> Option<&[u8]> {
        self.shorter.get()?.delta.as_deref()
    }

    pub fn with_compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    pub fn with_message(mut self, message: Message) -> Self {
        self.marks = Marks::of(&message);
        self.origin = message.origin.unwrap_or_default();
        let Message { expires, publisher, passed_on, .. } = message;
        if expires.is_some() || publisher.is_some() || !passed_on.is_empty() {
            self.beside = Some(Box::new(Beside { expires, publisher, passed_on, keep: None }));
        }
        self
    }

    /// Who has to be waited for, before anybody is told.
    pub fn set_keep(&mut self, keep: Keep) {
        self.beside.get_or_insert_default().keep = Some(Box::new(keep));
    }

    pub fn keep(&self) -> Option<Keep> {
        self.beside.as_ref()?.keep.as_deref().copied()
    }

    /// Whom the shard has to tell that its sessions keep it.
    pub fn keep_of(&self, shard: ShardIndex) -> Option<Keep> {
        self.keep().filter(|keep| keep.shards.contains(shard))
    }

    /// `None` for what did not come by MQTT.
    #[inline]
    pub fn message(&self) -> Option<MessageView<'_>> {
        let marks = self.marks;
        if !marks.has(Marks::IS_MESSAGE) {
            return None;
        }
        let beside = self.beside.as_deref();
        Some(MessageView {
            qos: marks.qos(),
            retain: marks.has(Marks::RETAIN),
            is_passing: marks.has(Marks::IS_PASSING),
            is_clearing: marks.has(Marks::IS_CLEARING),
            expires: beside.and_then(|beside| beside.expires),
            origin: marks.has(Marks::HAS_ORIGIN).then_some(self.origin),
            publisher: beside.and_then(|beside| beside.publisher.as_deref()),
            passed_on: beside.map_or(&[], |beside| &beside.passed_on),
        })
    }

    /// How hard it is tried to be delivered; what did not come by MQTT as hard as a subscription wants.
    pub fn qos(&self) -> QoS {
        if self.marks.has(Marks::IS_MESSAGE) { self.marks.qos() } else { QoS::ExactlyOnce }
    }

    /// `None` for null.
    pub fn value(&self) -> Option<&[u8]> {
        (self.content != Content::Null).then(|| &self.frame[self.value_at as usize..])
    }

    pub fn is_null(&self) -> bool {
        self.content == Content::Null
    }

    /// What an event is beside its value.
    pub fn event_head(&self) -> Option<EventHead<'_>> {
        if self.content == Content::Event { native::decode_event_head(&self.frame) } else { None }
    }

    /// Bytes held for it.
    pub fn bytes(&self) -> usize {
        self.frame.len()
    }

    /// The whole value's shortest frame for a session that decodes `encodings`.
    pub fn frame(&self, encodings: Encodings) -> &[u8] {
        let is_wanted = self.compression != Compression::Off && encodings.has(native::CAPABILITY_COMPRESSION);
        if !is_wanted || self.content != Content::Value || self.frame.len() < DEFLATE_BYTES_MIN {
            return &self.frame;
        }
        let kept = &self.shorter.get_or_init(Box::default).deflated;
        // Not `get_or_init`, which would let this core wait for another that compresses the same.
        let deflated = match kept.get() {
            Some(deflated) => deflated,
            None => {
                let deflated = self.deflate();
                let _ = kept.set(deflated);
                kept.get().expect("it was just set, here or by another core")
            }
        };
        if deflated.is_empty() { &self.frame } else { deflated }
    }

    /// The shortest frame for a session that holds the version before and decodes `encodings`.
    pub fn step_frame(&self, encodings: Encodings) -> &[u8] {
        match self.delta() {
            Some(frame) if encodings.has_delta(frame) => frame,
            _ => self.frame(encodings),
        }
    }

    fn deflate(&self) -> Box<[u8]> {
        let value = &self.frame[self.value_at as usize..];
        let frame = deflate(value, self.compression).map(|deflated| native::value_deflate_frame(self.topic, &deflated));
        frame.filter(|frame| frame.len() < self.frame.len()).unwrap_or_default().into_boxed_slice()
    }
}

/// A raw DEFLATE stream of `value`; `None` where it would not be shorter.
fn deflate(value: &[u8], compression: Compression) -> Option<Vec<u8>> {
    thread_local! {
        // A compressor takes a quarter of a megabyte and as long to make as to use: each core keeps one for each effort.
        static COMPRESSORS: RefCell<[Option<Compress>; 3]> = const { RefCell::new([None, None, None]) };
    }
    let (place, level) = match compression {
        Compression::Off | Compression::Low => (0, 1),
        Compression::Medium => (1, 6),
        Compression::High => (2, 9),
    };
    COMPRESSORS.with_borrow_mut(|compressors| {
        let compressor = compressors[place].get_or_insert_with(|| Compress::new(Level::new(level), false));
        compressor.reset();
        let mut out = Vec::with_capacity(value.len());
        match compressor.compress_vec(value, &mut out, FlushCompress::Finish) {
            Ok(Status::StreamEnd) => Some(out),
            _ => None,
        }
    })
}

/// What a session decodes: the capability bits of the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Encodings(u8);

impl Encodings {
    const KNOWN: u64 = native::CAPABILITY_DEFLATE | native::CAPABILITY_COPY | native::CAPABILITY_COMPRESSION;

    pub fn from_capabilities(bits: u64) -> Self {
        Self((bits & Self::KNOWN) as u8)
    }

    pub fn capabilities(self) -> u64 {
        u64::from(self.0)
    }

    fn has(self, bit: u64) -> bool {
        u64::from(self.0) & bit != 0
    }

    /// Whether the form of the delta in this frame is decoded.
    fn has_delta(self, frame: &[u8]) -> bool {
        self.has(match frame[0] {
            native::op::DELTA_DEFLATE => native::CAPABILITY_DEFLATE,
            _ => native::CAPABILITY_COPY,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_seen_as_it_was_made_and_a_plain_one_takes_nothing_beside_its_publication() {
        assert!(size_of::<Publication>() <= 112);
        let publication = || Publication::new(TopicId(1), 1, Time(0), b"21.5");
        assert!(publication().message().is_none() && publication().qos() == QoS::ExactlyOnce);
        let plain = Message { origin: Some(SessionId::default()), retain: true, ..Message::default() };
        let passing = Message { qos: QoS::ExactlyOnce, is_passing: true, is_clearing: true, ..Message::default() };
        let publisher = Publisher { session: TopicId(4), number: 5, lowest: 3 };
        let rare = [
            Message { expires: Some(Time(7)), ..plain.clone() },
            Message { publisher: Some(Box::new(publisher)), qos: QoS::AtLeastOnce, ..Message::default() },
            Message { passed_on: [1, 1].into(), ..Message::default() },
        ];
        for (message, is_plain) in [(plain, true), (passing, true)].into_iter().chain(rare.map(|message| (message, false))) {
            let mut made = publication().with_message(message.clone());
            assert_eq!(made.beside.is_none(), is_plain);
            made.set_keep(Keep { owner: ShardIndex(0), ticket: 1, shards: ShardSet::default() });
            let renumbered = made.renumbered(TopicId(2));
            assert!(made.keep().is_some() && renumbered.keep().is_none());
            for publication in [made, renumbered] {
                let MessageView { qos, retain, is_passing, is_clearing, expires, origin, publisher, passed_on } =
                    publication.message().unwrap();
                let publisher = publisher.map(|publisher| Box::new(*publisher));
                let seen = Message { qos, retain, is_passing, is_clearing, expires, origin, publisher, passed_on: passed_on.into() };
                assert_eq!(seen, message);
            }
        }
    }

    fn frame(value: &[u8], compression: Compression, capabilities: u64) -> Vec<u8> {
        let publication = Publication::new(TopicId(1), 1, Time(0), value).with_compression(compression);
        publication.frame(Encodings::from_capabilities(capabilities)).to_vec()
    }

    #[test]
    fn a_value_is_compressed_for_who_decodes_it_and_where_it_gets_smaller() {
        let value = b"[1,2,3,4,5,6,7,8,9,10]".repeat(20);
        let plain = frame(&value, Compression::Low, 0);
        assert_eq!(plain[0], native::op::VALUE);
        for compression in [Compression::Low, Compression::Medium, Compression::High] {
            let deflated = frame(&value, compression, native::CAPABILITY_COMPRESSION);
            assert_eq!(deflated[0], native::op::VALUE_DEFLATE);
            assert!(deflated.len() < plain.len() / 4);
        }
        assert_eq!(frame(&value, Compression::Off, native::CAPABILITY_COMPRESSION), plain);
        let noise: Vec<u8> = (0..400u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        assert_eq!(frame(&noise, Compression::High, native::CAPABILITY_COMPRESSION)[0], native::op::VALUE);
    }
}
