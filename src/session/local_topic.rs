//! A topic as a shard with subscribers holds it: the newest value and who wants it.

use crate::base::{SessionKey, Time, TopicId};
use crate::topic::mqtt;
use crate::topic::path::TopicPath;
use crate::topic::publication::{Encodings, MessageView, Publication};
use crate::topic::specification::{Conflation, Priority, Specification, TopicType};
use crate::value::{ValueType, scalar};
use crate::wire::mqtt::{PublishHead, QoS, SubscriptionOptions, Version, put_publish};
use crate::wire::{text, websocket};
use std::borrow::Cow;
use std::cell::{Cell, OnceCell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;

/// Shared between the shard's table and the queues that still have to announce or send it.
pub struct LocalTopic {
    pub id: TopicId,
    pub path: TopicPath,
    pub specification: Arc<Specification>,
    pub latest: RefCell<Option<Rc<Outgoing>>>,
    /// What was published after that without becoming the topic's value, and the generation of the shard's newest subscription then.
    passed: Cell<Option<Rc<Outgoing>>>,
    passed_generation: Cell<u32>,
    pub subscribers: RefCell<Vec<Subscriber>>,
    /// Whether the owner wants to know how many subscribers there are.
    pub is_counted: Cell<bool>,
    /// Whether sessions know it under other paths too, and whether it is such another path of a topic: see `audience::session_trees`.
    pub has_aliases: Cell<bool>,
    pub is_alias: Cell<bool>,
    /// Of a time series the sequence behind that of the last event that came here; 0 where none has.
    next_sequence: Cell<u64>,
}

/// One session's subscription.
#[derive(Clone, Copy, Debug)]
pub struct Subscriber {
    pub session: SessionKey,
    /// Distinguishes this subscription from an earlier one of the same session.
    pub generation: u32,
    /// Publications need not be queued: an entry of the session's queue will send the newest value anyway, or the owner is still
    /// to say which events of a time series come first.
    pub is_latest_queued: bool,
    pub delivery: Delivery,
}

/// How a subscription's publications are sent, in bits: those of every filter that matches the topic, taken together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivery(u8);

impl Delivery {
    /// The native protocol: values and deltas.
    pub const NATIVE: Self = Self(0);
    /// MQTT: messages of QoS 0.
    pub const MQTT: Self = Self(Self::IS_MQTT);
    /// The same to a shared subscription, which deals them out.
    pub const GROUP: Self = Self(Self::IS_MQTT | Self::IS_GROUP);
    const QOS: u8 = 0b11;
    const RETAIN_AS_PUBLISHED: u8 = 1 << 2;
    const NO_LOCAL: u8 = 1 << 3;
    const HAS_IDS: u8 = 1 << 4;
    const IS_MQTT: u8 = 1 << 5;
    const IS_GROUP: u8 = 1 << 6;
    const IS_FIRST_DUE: u8 = 1 << 7;
    /// For which no publication's plain packet does.
    const NEVER_PLAIN: u8 = Self::HAS_IDS | Self::IS_GROUP | Self::IS_FIRST_DUE;

    /// The same where one filter more matches the topic.
    pub fn with(self, options: SubscriptionOptions, id: Option<u32>) -> Self {
        let flag = |holds: bool, bit: u8| if holds { bit } else { 0 };
        let more = flag(options.retain_as_published, Self::RETAIN_AS_PUBLISHED)
            | flag(options.no_local, Self::NO_LOCAL)
            | flag(id.is_some(), Self::HAS_IDS);
        Self(self.0 & !Self::QOS | self.qos().max(options.qos) as u8 | more)
    }

    pub fn is_mqtt(self) -> bool {
        self.0 & Self::IS_MQTT != 0
    }

    pub fn is_group(self) -> bool {
        self.0 & Self::IS_GROUP != 0
    }

    /// The bits of a subscription for which the plain packet of a publication does not do. What did not come by MQTT is delivered as the subscription
    /// wants.
    fn distinct(message: Option<MessageView<'_>>) -> Self {
        let Some(message) = message else { return Self(Self::QOS | Self::NEVER_PLAIN) };
        let qos = if message.qos == QoS::AtMostOnce { 0 } else { Self::QOS };
        let retain = if message.retain { Self::RETAIN_AS_PUBLISHED } else { 0 };
        let origin = if message.origin.is_some() { Self::NO_LOCAL } else { 0 };
        Self(qos | retain | origin | Self::NEVER_PLAIN)
    }

    pub fn qos(self) -> QoS {
        QoS::from_number(self.0 & Self::QOS).unwrap_or_default()
    }

    pub fn retains_as_published(self) -> bool {
        self.0 & Self::RETAIN_AS_PUBLISHED != 0
    }

    pub fn has_no_local(self) -> bool {
        self.0 & Self::NO_LOCAL != 0
    }

    pub fn has_ids(self) -> bool {
        self.0 & Self::HAS_IDS != 0
    }

    /// Whether the topic's retained message is still to be sent.
    pub fn is_first_due(self) -> bool {
        self.0 & Self::IS_FIRST_DUE != 0
    }

    pub fn with_first_due(self) -> Self {
        Self(self.0 | Self::IS_FIRST_DUE)
    }

    pub fn without_first_due(self) -> Self {
        Self(self.0 & !Self::IS_FIRST_DUE)
    }

    /// Whether any bit is of both.
    pub fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl LocalTopic {
    pub fn new(id: TopicId, path: TopicPath, specification: Arc<Specification>) -> Rc<Self> {
        let (latest, passed, subscribers) = (RefCell::default(), Cell::default(), RefCell::default());
        let (is_counted, has_aliases, is_alias) = (Cell::default(), Cell::default(), Cell::default());
        let (passed_generation, next_sequence) = (Cell::default(), Cell::default());
        let topic = Self {
            id,
            path,
            specification,
            latest,
            passed,
            passed_generation,
            subscribers,
            is_counted,
            has_aliases,
            is_alias,
            next_sequence,
        };
        Rc::new(topic)
    }

    pub fn is_time_series(&self) -> bool {
        self.specification.topic_type() == TopicType::TimeSeries
    }

    fn passed(&self) -> Option<Rc<Outgoing>> {
        let passed = self.passed.take();
        self.passed.set(passed.clone());
        passed
    }

    /// What is newest for who is subscribed.
    pub fn newest(&self) -> Option<Rc<Outgoing>> {
        self.passed().or_else(|| self.latest.borrow().clone())
    }

    /// Takes up what was published. `generation` is that of the shard's newest subscription.
    pub fn take(&self, outgoing: &Rc<Outgoing>, generation: u32) {
        if outgoing.is_passing() {
            self.passed.set(Some(outgoing.clone()));
            self.passed_generation.set(generation);
        } else {
            *self.latest.borrow_mut() = Some(outgoing.clone());
            self.passed.set(None);
        }
    }

    /// What a session that subscribes now is sent, unless the topic is a time series.
    pub fn first(&self) -> Option<Rc<Outgoing>> {
        let latest = self.latest.borrow();
        latest.as_ref().filter(|latest| self.specification.retains_value() && !latest.is_null()).cloned()
    }

    /// What a session is sent right behind the news of a subscription that was made before: what passed by meanwhile is newer than the value, and
    /// what had passed by then is over.
    pub fn first_since(&self, generation: u32) -> Option<Rc<Outgoing>> {
        let is_since = self.passed_generation.get().wrapping_sub(generation) < 1 << 31;
        self.passed().filter(|_| is_since).or_else(|| self.first())
    }

    /// The last event of a time series that came here.
    pub fn last_sequence(&self) -> Option<u64> {
        self.next_sequence.get().checked_sub(1)
    }

    /// An event of a time series came.
    pub fn set_last_sequence(&self, sequence: u64) {
        self.next_sequence.set(sequence + 1);
    }
}

/// One publication on one shard, with what is encoded at most once for all its sessions.
pub struct Outgoing {
    publication: Arc<Publication>,
    topic: Weak<LocalTopic>,
    /// Messages of MQTT may be sent when the topic is gone.
    path: TopicPath,
    specification: Arc<Specification>,
    /// Numbers the publications that this shard delivers.
    pub sequence: u64,
    pub priority: Priority,
    /// Whether the topic's subscriptions end rather than be conflated.
    pub ends_under_pressure: bool,
    /// Messages of it that wait until they are acknowledged.
    pub(super) holds: Cell<u32>,
    /// Whether it was there before its subscriber, or before that was told of it.
    is_history: bool,
    /// Whether somebody has wanted it, or more than one will: it is encoded for all only then, since most topics have one subscriber, and keep their last value.
    is_wanted: Cell<bool>,
    encoded: OnceCell<Box<Encoded>>,
}

/// See [`Outgoing::is_wanted`].
#[derive(Default)]
struct Encoded {
    text: OnceCell<Box<[u8]>>,
    /// Whole packets of QoS 0, of MQTT 3.x and 5.
    packets: [OnceCell<Box<[u8]>>; 2],
}

impl Outgoing {
    pub fn new(publication: Arc<Publication>, topic: &Rc<LocalTopic>, sequence: u64) -> Rc<Self> {
        let ends_under_pressure = topic.specification.conflation() == Conflation::Unsubscribe;
        let bare = Self::bare(publication, topic.path.clone(), &topic.specification, sequence);
        let is_wanted = Cell::new(topic.subscribers.try_borrow().is_ok_and(|subscribers| subscribers.len() > 1));
        Rc::new(Self { topic: Rc::downgrade(topic), ends_under_pressure, is_wanted, ..bare })
    }

    /// An event that one subscriber is told of behind its time.
    pub fn history(publication: Arc<Publication>, topic: &Rc<LocalTopic>, sequence: u64) -> Rc<Self> {
        let outgoing = Rc::into_inner(Self::new(publication, topic, sequence)).expect("nobody else has it yet");
        Rc::new(Self { is_history: true, ..outgoing })
    }

    /// A message of a topic that need not be held here.
    pub fn without_topic(publication: Arc<Publication>, path: TopicPath, specification: &Arc<Specification>, sequence: u64) -> Rc<Self> {
        Rc::new(Self::bare(publication, path, specification, sequence))
    }

    #[inline]
    fn bare(publication: Arc<Publication>, path: TopicPath, specification: &Arc<Specification>, sequence: u64) -> Self {
        Self {
            publication,
            topic: Weak::new(),
            path,
            specification: specification.clone(),
            sequence,
            priority: specification.priority(),
            ends_under_pressure: false,
            holds: Cell::new(0),
            is_history: false,
            is_wanted: Cell::new(false),
            encoded: OnceCell::new(),
        }
    }

    pub fn specification(&self) -> &Arc<Specification> {
        &self.specification
    }

    pub fn path(&self) -> &TopicPath {
        &self.path
    }

    pub fn publication(&self) -> &Arc<Publication> {
        &self.publication
    }

    /// Whether it was published without becoming the topic's value.
    pub fn is_passing(&self) -> bool {
        self.publication.message().is_some_and(|message| message.is_passing)
    }

    pub fn topic(&self) -> Option<Rc<LocalTopic>> {
        self.topic.upgrade()
    }

    /// When it was received; `None` for what its subscriber did not wait for.
    pub fn received(&self) -> Option<Time> {
        (!self.is_history).then_some(self.publication.received)
    }

    /// Of an event its sequence.
    pub fn version(&self) -> u64 {
        self.publication.version
    }

    pub fn is_null(&self) -> bool {
        self.publication.is_null()
    }

    /// Bytes that a queue counts for it.
    pub fn bytes(&self) -> usize {
        self.publication.bytes()
    }

    /// The frame for a session that holds nothing of the topic.
    pub fn value_frame(&self, encodings: Encodings) -> &[u8] {
        self.publication.frame(encodings)
    }

    /// The frame for a session that holds the version before.
    pub fn step_frame(&self, encodings: Encodings) -> &[u8] {
        self.publication.step_frame(encodings)
    }

    /// Appends the text form's whole WebSocket message.
    pub fn put_text_message(&self, out: &mut Vec<u8>) {
        if self.is_wanted.replace(true) {
            return out.extend_from_slice(self.encoded().text.get_or_init(|| {
                let mut message = Vec::new();
                self.encode_text_message(&mut message);
                message.into_boxed_slice()
            }));
        }
        self.encode_text_message(out);
    }

    #[inline]
    fn encoded(&self) -> &Encoded {
        self.encoded.get_or_init(Box::default)
    }

    fn encode_text_message(&self, out: &mut Vec<u8>) {
        if let Some(topic) = self.topic() {
            let mut payload = Vec::with_capacity(self.bytes() + 64);
            self.put_text(&topic, &mut payload);
            websocket::put_frame(out, websocket::TEXT, &payload);
        }
    }

    /// The bits of a subscription for which its plain packet does not do.
    pub fn distinct(&self) -> Delivery {
        Delivery::distinct(self.publication.message())
    }

    /// The payload of MQTT: the value as text where it is a number, else its bytes; empty for null.
    pub fn payload(&self) -> Cow<'_, [u8]> {
        match (self.publication.value(), self.specification.value_type()) {
            (None, _) => Cow::Borrowed(&[]),
            // The message that clears a topic has no payload, whatever the topic's type.
            (Some(value), kind @ (ValueType::Int64 | ValueType::Double)) if !value.is_empty() => Cow::Owned(number_payload(kind, value)),
            (Some(value), _) => Cow::Borrowed(value),
        }
    }

    /// The name under which clients of MQTT know the topic; none for a path that no name stands for.
    pub fn name(&self) -> Option<Cow<'_, str>> {
        mqtt::name_of(self.path.as_str())
    }

    /// The properties of MQTT 5 that a message is sent with: those that it came with, else what the topic's type says of its payload.
    pub fn passed_on(&self) -> &[u8] {
        match (self.publication.message(), self.specification.value_type()) {
            (Some(message), _) => message.passed_on,
            (None, _) if self.is_null() => &[],
            (None, kind) => type_properties(kind),
        }
    }

    /// Appends the whole packet for a subscription of QoS 0 without options; nothing for a topic that has no name in MQTT. Not for a message that expires.
    pub fn put_packet(&self, version: Version, out: &mut Vec<u8>) {
        if self.is_wanted.replace(true) {
            return out.extend_from_slice(self.encoded().packets[usize::from(version == Version::V5)].get_or_init(|| {
                let mut packet = Vec::new();
                self.encode_packet(version, &mut packet);
                packet.into_boxed_slice()
            }));
        }
        self.encode_packet(version, out);
    }

    fn encode_packet(&self, version: Version, out: &mut Vec<u8>) {
        if let Some(name) = self.name() {
            let head = PublishHead { topic: &name, passed_on: self.passed_on(), ..PublishHead::default() };
            put_publish(out, version, &head, &self.payload());
        }
    }

    fn put_text(&self, topic: &LocalTopic, out: &mut Vec<u8>) {
        let (path, kind) = (topic.path.as_str(), topic.specification.value_type());
        match (self.publication.value(), self.publication.event_head()) {
            (Some(value), Some(head)) => text::put_event(out, topic.id, path, head, kind, value),
            (Some(value), None) => text::put_value(out, topic.id, path, kind, value),
            (None, _) => text::put_null(out, topic.id, path),
        }
    }
}

/// The payload format indicator of text, and the content type.
const JSON_PROPERTIES: &[u8] = b"\x01\x01\x03\x00\x10application/json";
const TEXT_PROPERTIES: &[u8] = b"\x01\x01";

/// What the properties of MQTT 5 say of a payload of this type.
pub fn type_properties(kind: ValueType) -> &'static [u8] {
    match kind {
        ValueType::Json => JSON_PROPERTIES,
        ValueType::String => TEXT_PROPERTIES,
        ValueType::Int64 | ValueType::Double | ValueType::Binary => &[],
    }
}

/// A number in decimal, as MQTT carries it; NaN and the infinities by their names.
pub fn number_payload(kind: ValueType, value: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    scalar::append_json(kind, value, &mut text);
    text.retain(|byte| *byte != b'"');
    text
}
