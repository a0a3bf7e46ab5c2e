//! A session: what a client has selected, what it holds, and what it still has to be sent.

mod listener;
mod local_topic;
mod selections;
mod send_queue;

pub use listener::{Extras, History, Known, Listened, Listener, Stream};
pub use local_topic::{LocalTopic, Outgoing, Subscriber};
pub use selections::{Scopes, Selections};
pub use send_queue::{Entry, Limits as QueueLimits, Newest, Overflow, SendQueue, Steps};

use crate::base::{Key, Time, TopicId};
use crate::topic::publication::Encodings;
use hashbrown::HashMap;
use std::rc::Rc;

/// How a session's connection writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    Binary(Encodings),
    Text,
}

/// A client's state on its shard.
pub struct Session {
    pub connection: Key,
    pub form: Form,
    pub selections: Scopes,
    /// Each subscribed topic, and this session's place among its subscribers.
    pub subscriptions: HashMap<TopicId, (Rc<LocalTopic>, u32)>,
    pub queue: SendQueue,
    pub connected: Time,
    pub extras: Option<Box<Extras>>,
}

impl Session {
    pub fn new(connection: Key, form: Form, connected: Time) -> Self {
        let (selections, subscriptions, queue) = (Scopes::default(), HashMap::new(), SendQueue::default());
        Self { connection, form, selections, subscriptions, queue, connected, extras: None }
    }

    pub fn extras_mut(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }

    /// Whether it is subscribed to this very topic, and not to another of the path or a forgotten one.
    pub fn holds(&self, topic: &LocalTopic) -> bool {
        self.subscriptions.get(&topic.id).is_some_and(|(held, _)| std::ptr::eq(&**held, topic))
    }
}
