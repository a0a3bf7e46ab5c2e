//! Retained messages that expire: from then on their topics have no value.
//!
//! A topic that is as a message would make it goes along, as if it had been cleared. Any other was given its type or its properties by somebody: it stays,
//! and its value is null. A tick takes so many and leaves the rest to the next.

use super::Owner;
use super::decide::next_publication;
use super::leaving::Left;
use super::record::Record;
use crate::base::{IdMap, Time, TopicId};
use crate::desk::{Desk, Role};
use crate::topic::mqtt_rule::RuleKind;
use crate::topic::path::TopicPath;
use crate::topic::publication;
use crate::topic::specification::{Specification, SpecificationLimits, TopicType};
use crate::topic::tree::{Place, Topic};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The most messages that a tick looks at; the rest wait for the next. No client is bounded by it.
const EXPIRED_PER_TICK_MAX: usize = 4_000;

/// The topics whose values are messages that expire, by when that is.
#[derive(Default)]
pub struct Retained {
    due: BTreeMap<(Time, TopicId), TopicPath>,
    /// When those are looked at again whose time is over and that another server decides on.
    again: IdMap<TopicId, Time>,
}

/// So much later they are.
const AGAIN_MS: u64 = 1000;

impl Retained {
    /// The topic has its value from now on.
    pub fn note(&mut self, topic: &Topic) {
        if let Some(expires) = expires(topic) {
            self.due.insert((expires, topic.id), topic.path.clone());
        }
    }

    /// The topic has another value, or goes.
    pub fn forget(&mut self, topic: &Topic) {
        if let Some(expires) = expires(topic) {
            let due = self.again.remove(&topic.id).unwrap_or(expires);
            self.due.remove(&(due, topic.id));
        }
    }

    /// The first one is looked at again later.
    fn put_off(&mut self, now: Time) {
        if let Some(((_, id), path)) = self.due.pop_first() {
            let later = now.after_ms(AGAIN_MS);
            self.again.insert(id, later);
            self.due.insert((later, id), path);
        }
    }

    fn first_due(&self, now: Time) -> Option<TopicPath> {
        let ((expires, _), path) = self.due.first_key_value()?;
        (*expires <= now).then(|| path.clone())
    }
}

/// When the topic's value expires, where it does.
fn expires(topic: &Topic) -> Option<Time> {
    let latest = topic.latest.as_ref().filter(|latest| !latest.is_null())?;
    latest.message()?.expires
}

impl Owner {
    /// Takes the values away whose time is over.
    pub fn tick_retained(&mut self, desk: &mut Desk) {
        for _ in 0..EXPIRED_PER_TICK_MAX {
            let Some(path) = self.retained.first_due(desk.turn.now) else { return };
            let place = self.tree.find(path.as_str()).expect("a topic takes its message along");
            if let Some(group) = desk.groups.of(path.as_str()) {
                self.expire_replicated(desk, group, &path);
                // It goes when the log says so.
                self.retained.put_off(desk.turn.now);
                continue;
            }
            desk.report.expired += 1;
            if is_as_messages_make_it(desk, self.tree.topic(place)) {
                self.remove_topic(desk, place);
            } else {
                self.set_to_null(desk, place);
            }
        }
    }

    /// Where this server leads, it puts to the log that the value goes.
    fn expire_replicated(&mut self, desk: &mut Desk, group: u16, path: &TopicPath) {
        let topic = self.tree.topic(self.tree.find(path.as_str()).expect("a topic takes its message along"));
        if is_as_messages_make_it(desk, topic) {
            let left = self.remove_of_group(desk, group, path, false);
            desk.report.expired += u64::from(left == Left::Going);
        } else if matches!(desk.groups.role(group), Role::Leads { .. }) && self.ahead.find(group, path.as_str()).is_none() {
            let record = null_of(topic, desk.turn.now);
            desk.report.expired += 1;
            self.propose_record(desk, group, path, &record, None);
        }
    }

    fn set_to_null(&mut self, desk: &mut Desk, place: Place) {
        let record = null_of(self.tree.topic(place), desk.turn.now);
        if desk.stores() {
            self.store(desk, Some(place), &record);
        }
        self.apply(desk, Some(place), record);
    }
}

/// Clients of MQTT are sent nothing: no message has come, and a null would be one without a payload.
fn null_of(topic: &Topic, now: Time) -> Record {
    let head = publication::Message { expires: Some(now), ..publication::Message::default() };
    Record::Value(Arc::new(next_publication(topic, None, now).with_message(head)))
}

/// Whether a message would make the topic just so, if it was not there.
fn is_as_messages_make_it(desk: &Desk, topic: &Topic) -> bool {
    let rule = desk.limits.mqtt.rules.find(topic.path.as_str());
    let topic_type = match rule.map(|rule| rule.kind) {
        None => TopicType::Binary,
        Some(RuleKind::Of(value_type)) => value_type.into(),
        Some(RuleKind::Refuse) => return false,
    };
    let properties = rule.into_iter().flat_map(|rule| &rule.properties).map(|(key, value)| (&**key, &**value));
    let made = Specification::parse(topic_type, properties, SpecificationLimits::default());
    made.is_ok_and(|made| made == *topic.specification)
}
