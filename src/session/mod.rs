//! A session: what a client has selected, what it holds, and what it still has to be sent.

mod local_topic;
mod selections;
mod send_queue;

pub use local_topic::{LocalTopic, Outgoing, Subscriber};
pub use selections::Selections;
pub use send_queue::{Entry, Limits as QueueLimits, Overflow, SendQueue, Steps};

use crate::base::{Key, TopicId};
use crate::topic::publication::DeltaForms;
use hashbrown::HashMap;
use std::rc::Rc;

/// How a session's connection writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    Binary(DeltaForms),
    Text,
}

/// A client's state on its shard.
pub struct Session {
    pub connection: Key,
    pub form: Form,
    pub selections: Selections,
    /// Each subscribed topic, and this session's place among its subscribers.
    pub subscriptions: HashMap<TopicId, (Rc<LocalTopic>, u32)>,
    pub queue: SendQueue,
}

impl Session {
    pub fn new(connection: Key, form: Form) -> Self {
        Self { connection, form, selections: Selections::default(), subscriptions: HashMap::new(), queue: SendQueue::default() }
    }
}
