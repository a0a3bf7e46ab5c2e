//! A topic as a shard with subscribers holds it: the newest value and who wants it.

use crate::base::{Key, Time, TopicId};
use crate::topic::path::TopicPath;
use crate::topic::publication::{DeltaForms, Publication};
use crate::value::ValueType;
use crate::wire::{text, websocket};
use std::cell::{OnceCell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;

/// Shared between the shard's table and the queues that still have to announce or send it.
pub struct LocalTopic {
    pub id: TopicId,
    pub path: TopicPath,
    pub kind: ValueType,
    pub latest: RefCell<Option<Rc<Outgoing>>>,
    pub subscribers: RefCell<Vec<Subscriber>>,
}

/// One session's subscription.
#[derive(Clone, Copy, Debug)]
pub struct Subscriber {
    pub session: Key,
    /// Distinguishes this subscription from an earlier one of the same session.
    pub generation: u32,
    /// An entry of the session's queue will send the newest value anyway: publications need not be queued.
    pub is_latest_queued: bool,
}

/// One publication on one shard, with what is encoded at most once for all its sessions.
pub struct Outgoing {
    publication: Arc<Publication>,
    topic: Weak<LocalTopic>,
    /// Numbers the publications that this shard delivers.
    pub sequence: u64,
    text: OnceCell<Box<[u8]>>,
}

impl Outgoing {
    pub fn new(publication: Arc<Publication>, topic: &Rc<LocalTopic>, sequence: u64) -> Rc<Self> {
        Rc::new(Self { publication, topic: Rc::downgrade(topic), sequence, text: OnceCell::new() })
    }

    pub fn topic(&self) -> Option<Rc<LocalTopic>> {
        self.topic.upgrade()
    }

    pub fn received(&self) -> Time {
        self.publication.received
    }

    /// Bytes that a queue counts for it.
    pub fn bytes(&self) -> usize {
        self.publication.frame().len()
    }

    /// The frame for a session that holds nothing of the topic.
    pub fn value_frame(&self) -> &[u8] {
        self.publication.frame()
    }

    /// The frame for a session that holds the version before.
    pub fn step_frame(&self, forms: DeltaForms) -> &[u8] {
        self.publication.step_frame(forms)
    }

    /// The text form's whole WebSocket message.
    pub fn text_message(&self) -> &[u8] {
        self.text.get_or_init(|| {
            let mut message = Vec::new();
            if let Some(topic) = self.topic() {
                let mut payload = Vec::with_capacity(self.bytes() + 64);
                text::put_value(&mut payload, topic.id, topic.path.as_str(), topic.kind, self.publication.value());
                websocket::put_frame(&mut message, websocket::TEXT, &payload);
            }
            message.into_boxed_slice()
        })
    }
}
