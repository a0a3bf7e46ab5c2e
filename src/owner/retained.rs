//! Retained messages that expire: from then on their topics have no value.
//!
//! A topic that is as a message would make it goes along, as if it had been cleared. Any other was given its type or its properties by somebody: it stays,
//! and its value is null. A tick takes so many and leaves the rest to the next.

use super::Owner;
use super::decide::next_publication;
use super::record::Record;
use crate::base::{Time, TopicId};
use crate::desk::Desk;
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
}

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
            self.due.remove(&(expires, topic.id));
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
            desk.report.expired += 1;
            if is_as_messages_make_it(desk, self.tree.topic(place)) {
                self.remove_topic(desk, place);
            } else {
                self.set_to_null(desk, place);
            }
        }
    }

    fn set_to_null(&mut self, desk: &mut Desk, place: Place) {
        let now = desk.turn.now;
        // Clients of MQTT are sent nothing: no message has come, and a null would be one without a payload.
        let head = publication::Message { expires: Some(now), ..publication::Message::default() };
        let publication = next_publication(self.tree.topic(place), None, now).with_message(head);
        let record = Record::Value(Arc::new(publication));
        if desk.stores() {
            self.store(desk, Some(place), &record);
        }
        self.apply(desk, Some(place), record);
    }
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
