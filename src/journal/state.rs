//! What records add up to: the topics, their values and their events.

use super::record::{Expiry, Record};
use crate::base::TopicId;
use crate::topic::path::TopicPath;
use std::collections::BTreeMap;

/// A topic as the records left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTopic {
    pub path: TopicPath,
    /// The wire's number of the topic's type.
    pub kind: u8,
    pub properties: Vec<(Box<str>, Box<str>)>,
    /// 0 before the first value.
    pub version: u64,
    pub value: Option<Box<[u8]>>,
    /// What the value is beside its bytes, where it is a retained message of MQTT.
    pub message: Option<Box<StoredMessage>>,
    /// By their sequence numbers. An edit may go from anywhere among them.
    pub events: BTreeMap<u64, StoredEvent>,
    /// The highest sequence number that any event had, be it still retained or not.
    pub last_sequence: Option<u64>,
    /// The latest timestamp that any event had, be it still retained or not.
    pub latest_ms: u64,
    /// Events below are not retained.
    pub first_kept: u64,
}

/// A retained message of MQTT beside its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    pub qos: u8,
    pub expiry: Option<Expiry>,
    pub passed_on: Box<[u8]>,
}

/// The kind of a view's record: beside those of topics, so that a view is kept as they are. Its properties are its `definition` and its `place`.
pub const VIEW_KIND: u8 = 64;

/// Where views are kept: a branch that no client can make topics in.
pub const VIEWS_BRANCH: &str = "Tidewire/Views/";

/// The kind of the record of a session that outlives its connection; its events are the messages that wait for it.
pub const SESSION_KIND: u8 = 65;

/// Where such sessions are kept: a branch that no client can make topics in.
pub const SESSIONS_BRANCH: &str = "Tidewire/Sessions/";

/// The kind of the record of a session of the native protocol that outlives the server.
pub const DURABLE_KIND: u8 = 67;

/// Where those are kept: a branch that no client can make topics in.
pub const DURABLE_BRANCH: &str = "Tidewire/Durable/";

/// The kind of a branch mapping table's record: its properties are its rows, each the session filter and the branch of topics.
pub const SESSION_TREE_KIND: u8 = 66;

/// Where such tables are kept, by their branches of session paths: a branch that no client can make topics in.
pub const SESSION_TREES_BRANCH: &str = "Tidewire/SessionTrees/";

/// The kind of the record of what roles permit: its only property is the script that makes it.
pub const SECURITY_KIND: u8 = 68;

/// Where that is kept: a branch that no client can make topics in.
pub const SECURITY_PATH: &str = "Tidewire/Security/roles";

/// The same of the principals that the server knows.
pub const PRINCIPALS_PATH: &str = "Tidewire/Security/principals";

/// An event of a time series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    pub sequence: u64,
    /// The event that this one edits.
    pub original: Option<u64>,
    pub timestamp_ms: u64,
    pub author: Box<str>,
    pub value: Box<[u8]>,
}

impl StoredTopic {
    pub fn new(path: TopicPath, kind: u8, properties: Vec<(Box<str>, Box<str>)>) -> Self {
        let events = BTreeMap::new();
        let message = None;
        Self { path, kind, properties, version: 0, value: None, message, events, last_sequence: None, latest_ms: 0, first_kept: 0 }
    }

    /// The name of a view; `None` for a topic.
    pub fn view_name(&self) -> Option<&str> {
        if self.kind == VIEW_KIND { self.path.as_str().strip_prefix(VIEWS_BRANCH) } else { None }
    }

    /// What names the client of a session; `None` for what is none.
    pub fn session_path(&self) -> Option<&str> {
        if self.kind == SESSION_KIND { self.path.as_str().strip_prefix(SESSIONS_BRANCH) } else { None }
    }

    /// Whether it is a session of the native protocol.
    pub fn is_durable_session(&self) -> bool {
        self.kind == DURABLE_KIND
    }

    /// The branch of session paths that a branch mapping table is of; `None` for what is none.
    pub fn session_tree_branch(&self) -> Option<&str> {
        if self.kind == SESSION_TREE_KIND { self.path.as_str().strip_prefix(SESSION_TREES_BRANCH) } else { None }
    }

    /// The script that says what roles permit; `None` for what is none.
    pub fn security_script(&self) -> Option<&str> {
        self.script_at(SECURITY_PATH)
    }

    /// The script of the principals that the server knows.
    pub fn principals_script(&self) -> Option<&str> {
        self.script_at(PRINCIPALS_PATH)
    }

    fn script_at(&self, path: &str) -> Option<&str> {
        let script = self.properties.first().filter(|_| self.kind == SECURITY_KIND && self.path.as_str() == path);
        script.map(|(_, script)| &**script)
    }

    /// Whether it is a topic, and neither a view, a session, a branch mapping table nor what roles permit.
    pub fn is_topic(&self) -> bool {
        ![VIEW_KIND, SESSION_KIND, SESSION_TREE_KIND, DURABLE_KIND, SECURITY_KIND].contains(&self.kind)
    }

    pub fn property(&self, key: &str) -> Option<&str> {
        self.properties.iter().find(|(held, _)| **held == *key).map(|(_, value)| &**value)
    }

    fn set(&mut self, version: u64, value: Option<&[u8]>, message: Option<StoredMessage>) {
        if version > self.version {
            self.version = version;
            self.value = value.map(Box::from);
            self.message = message.map(Box::new);
        }
    }

    /// Takes an event unless it, or one behind it, was taken already. Those below `first_kept` go, and the edit `dropped`.
    fn append(&mut self, event: StoredEvent, first_kept: u64, dropped: Option<u64>) {
        if self.last_sequence.is_some_and(|last| event.sequence <= last) {
            return;
        }
        self.last_sequence = Some(event.sequence);
        self.latest_ms = self.latest_ms.max(event.timestamp_ms);
        self.events.insert(event.sequence, event);
        if let Some(dropped) = dropped {
            self.events.remove(&dropped);
        }
        self.first_kept = self.first_kept.max(first_kept);
        while self.events.first_key_value().is_some_and(|(sequence, _)| *sequence < self.first_kept) {
            self.events.pop_first();
        }
    }
}

/// All topics. Applying a record that a state holds already changes nothing: a value's version and an event's sequence
/// number tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub topics: BTreeMap<TopicId, StoredTopic>,
    /// The highest number that a topic ever had. It is not given again.
    pub highest_topic: u64,
}

impl State {
    pub fn apply(&mut self, record: &Record<'_>) {
        self.highest_topic = self.highest_topic.max(record.topic().map_or(0, |topic| topic.0));
        match *record {
            // What a group's log says of topics counts once it is committed, which a record alone does not tell.
            Record::Mark | Record::Logged { .. } | Record::Cut { .. } | Record::Voted { .. } | Record::Committed { .. } => {}
            Record::Added { topic, path, kind, ref properties } => {
                let new = || StoredTopic::new(TopicPath::of_branch(path), kind, properties.to_vec());
                self.topics.entry(topic).or_insert_with(new);
            }
            Record::Removed { topic } => {
                self.topics.remove(&topic);
            }
            Record::Value { topic, version, value } => self.change(topic, |found| found.set(version, Some(value), None)),
            Record::NoValue { topic, version } => self.change(topic, |found| found.set(version, None, None)),
            Record::Message { topic, version, qos, expiry, passed_on, value } => {
                let message = StoredMessage { qos, expiry, passed_on: passed_on.into() };
                self.change(topic, |found| found.set(version, Some(value), Some(message)));
            }
            Record::Event { topic, sequence, original, timestamp_ms, author, value, first_kept, dropped } => {
                let event = StoredEvent { sequence, original, timestamp_ms, author: author.into(), value: value.into() };
                self.change(topic, |found| found.append(event, first_kept, dropped));
            }
        }
    }

    /// What is said of a topic that is not there comes behind its removal, and means nothing.
    fn change(&mut self, topic: TopicId, change: impl FnOnce(&mut StoredTopic)) {
        if let Some(found) = self.topics.get_mut(&topic) {
            change(found);
        }
    }
}
