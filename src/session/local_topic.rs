//! A topic as a shard with subscribers holds it: the newest value and who wants it.

use crate::base::{Key, Time, TopicId};
use crate::topic::path::TopicPath;
use crate::topic::publication::{Encodings, Publication};
use crate::topic::specification::{Conflation, Priority, Specification, TopicType};
use crate::wire::{text, websocket};
use std::cell::{Cell, OnceCell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;

/// Shared between the shard's table and the queues that still have to announce or send it.
pub struct LocalTopic {
    pub id: TopicId,
    pub path: TopicPath,
    pub specification: Arc<Specification>,
    pub latest: RefCell<Option<Rc<Outgoing>>>,
    pub subscribers: RefCell<Vec<Subscriber>>,
    /// Whether the owner wants to know how many subscribers there are.
    pub is_counted: Cell<bool>,
    /// The last event of a time series that came here.
    pub last_sequence: Cell<Option<u64>>,
}

/// One session's subscription.
#[derive(Clone, Copy, Debug)]
pub struct Subscriber {
    pub session: Key,
    /// Distinguishes this subscription from an earlier one of the same session.
    pub generation: u32,
    /// Publications need not be queued: an entry of the session's queue will send the newest value anyway, or the owner is still
    /// to say which events of a time series come first.
    pub is_latest_queued: bool,
}

impl LocalTopic {
    pub fn new(id: TopicId, path: TopicPath, specification: Arc<Specification>) -> Rc<Self> {
        let (latest, subscribers) = (RefCell::default(), RefCell::default());
        Rc::new(Self { id, path, specification, latest, subscribers, is_counted: Cell::new(false), last_sequence: Cell::new(None) })
    }

    pub fn is_time_series(&self) -> bool {
        self.specification.topic_type() == TopicType::TimeSeries
    }

    /// What a session that subscribes now is sent, unless the topic is a time series.
    pub fn first(&self) -> Option<Rc<Outgoing>> {
        let latest = self.latest.borrow();
        latest.as_ref().filter(|latest| self.specification.retains_value() && !latest.is_null()).cloned()
    }
}

/// One publication on one shard, with what is encoded at most once for all its sessions.
pub struct Outgoing {
    publication: Arc<Publication>,
    topic: Weak<LocalTopic>,
    /// Numbers the publications that this shard delivers.
    pub sequence: u64,
    pub priority: Priority,
    /// Whether the topic's subscriptions end rather than be conflated.
    pub ends_under_pressure: bool,
    text: OnceCell<Box<[u8]>>,
}

impl Outgoing {
    pub fn new(publication: Arc<Publication>, topic: &Rc<LocalTopic>, sequence: u64) -> Rc<Self> {
        let priority = topic.specification.priority();
        let ends_under_pressure = topic.specification.conflation() == Conflation::Unsubscribe;
        Rc::new(Self { publication, topic: Rc::downgrade(topic), sequence, priority, ends_under_pressure, text: OnceCell::new() })
    }

    pub fn topic(&self) -> Option<Rc<LocalTopic>> {
        self.topic.upgrade()
    }

    pub fn received(&self) -> Time {
        self.publication.received
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

    /// The text form's whole WebSocket message.
    pub fn text_message(&self) -> &[u8] {
        self.text.get_or_init(|| {
            let mut message = Vec::new();
            if let Some(topic) = self.topic() {
                let mut payload = Vec::with_capacity(self.bytes() + 64);
                self.put_text(&topic, &mut payload);
                websocket::put_frame(&mut message, websocket::TEXT, &payload);
            }
            message.into_boxed_slice()
        })
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
