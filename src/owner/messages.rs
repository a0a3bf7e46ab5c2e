//! Messages of MQTT at their topics: payloads become values, and what is not retained passes by.
//!
//! A retained message is the topic's value. Any other reaches those who are subscribed and leaves the value as it is. A topic that has only been
//! passed through is not stored, and goes when it has not been published to for a while.

use super::{Creator, make_publication};
use crate::base::{Time, TopicId};
use crate::desk::{Applied, Desk, Ticket};
use crate::mail::NOBODY;
use crate::mail::{Mail, Making, MessageChange};
use crate::owner::Owner;
use crate::owner::storing::{check_storage, store_added};
use crate::protocol::{ErrorCode, Refusal};
use crate::topic::path::TopicPath;
use crate::topic::publication;
use crate::topic::specification::{Specification, TopicType};
use crate::topic::tree::{Place, Topic};
use crate::value::json::JsonLimits;
use crate::value::{ValueType, scalar};
use crate::wire::native::{self, Outcome};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

/// Topics that are only passed through, by when they are looked at.
#[derive(Default)]
pub struct Passing {
    due: VecDeque<(Time, TopicId, TopicPath)>,
}

/// Topics that have gone may stand among those that are looked at: so many, beside two for each topic that is there.
const GONE_MAX: usize = 1000;

impl Passing {
    pub fn len(&self) -> usize {
        self.due.len()
    }
}

impl Owner {
    pub(super) fn take_message(
        &mut self,
        desk: &mut Desk,
        found: Option<Place>,
        by: Creator,
        path: &str,
        message: &MessageChange<'_>,
        received: Time,
    ) -> Applied {
        if message.payload.is_empty() && message.head.retain && !takes_empty(found.map(|place| self.tree.topic(place))) {
            return self.clear_topic(desk, found, path, message, received);
        }
        match found {
            Some(place) => {
                let kind = self.tree.topic(place).specification.value_type();
                let value = self.value_of(desk, kind, &message.payload)?;
                let is_passing = self.passes(place, &message.head);
                self.check_not_reference(place)?;
                if !is_passing {
                    self.check_topic_storage(desk, place)?;
                }
                let ticket = self.set_message(desk, place, &value, is_passing, message, received)?;
                Ok((Outcome::Done, ticket))
            }
            None => {
                let Making::Of(specification) = &message.making else {
                    let why = format!("there is no topic at '{path}', and a rule says that messages make none there");
                    return Err(Refusal::new(ErrorCode::NoSuchTopic, why));
                };
                let value = self.value_of(desk, specification.value_type(), &message.payload)?;
                let place = self.make_for(desk, by, path, specification, message.head.is_passing)?;
                let is_passing = self.passes(place, &message.head);
                let ticket = self.set_message(desk, place, &value, is_passing, message, received)?;
                let is_stored = !self.tree.topic(place).is_passing;
                Ok((Outcome::Done, ticket.or_else(|| if is_stored { self.store_found(desk, place) } else { None })))
            }
        }
    }

    /// Whether a message leaves the topic's value as it is. Events of a time series all stay.
    pub(super) fn passes(&self, place: Place, head: &publication::Message) -> bool {
        head.is_passing && self.tree.topic(place).series().is_none()
    }

    fn make_for(
        &mut self,
        desk: &mut Desk,
        by: Creator,
        path: &str,
        specification: &Arc<Specification>,
        is_passing: bool,
    ) -> Result<Place, Refusal> {
        if self.tree.len() >= desk.limits.topics_max {
            let message = format!("this server's core holds its most of {} topics", desk.limits.topics_max);
            return Err(Refusal::new(ErrorCode::TopicLimit, message));
        }
        let is_passing = is_passing && specification.topic_type() != TopicType::TimeSeries;
        // A session's shard has checked it, or it is the server's own.
        let path = TopicPath::of_branch(path);
        let mut topic = Topic::new(desk.take_topic_id(), path, specification.clone());
        topic.is_passing = is_passing;
        if is_passing {
            self.note_passing(desk, topic.id, &topic.path);
        } else {
            check_storage(desk, specification)?;
            store_added(desk, &topic);
        }
        Ok(self.enter(desk, topic, Some(by)))
    }

    /// A topic is made that is only passed through.
    fn note_passing(&mut self, desk: &Desk, id: TopicId, path: &TopicPath) {
        let (tree, due) = (&self.tree, &mut self.passing.due);
        if due.len() > 2 * tree.len() + GONE_MAX {
            // Clients may make and clear topics faster than their time comes.
            due.retain(|(_, id, path)| {
                tree.find(path.as_str()).is_some_and(|place| tree.topic(place).id == *id && tree.topic(place).is_passing)
            });
        }
        let after_ms = desk.limits.mqtt.as_ref().map_or(0, |limits| limits.passing_topic_ms);
        due.push_back((desk.now.after_ms(after_ms), id, path.clone()));
    }

    fn set_message(
        &mut self,
        desk: &mut Desk,
        place: Place,
        value: &[u8],
        is_passing: bool,
        message: &MessageChange<'_>,
        received: Time,
    ) -> Result<Option<Ticket>, Refusal> {
        if self.tree.topic(place).series().is_some() {
            let append = native::Append::Original { timestamp_ms: None };
            let kind = self.tree.topic(place).specification.value_type();
            let content = crate::mail::Content { kind, value: Some(Cow::Borrowed(value)) };
            return self.append(desk, place, append, &content, received).map(|(_, ticket)| ticket);
        }
        let head = publication::Message { is_passing, ..message.head.clone() };
        if is_passing {
            self.pass(desk, place, Some(value), head, received);
            return Ok(None);
        }
        Ok(self.publish_with(desk, place, Some(value), received, Some(head)))
    }

    /// Sends a message to whoever is subscribed; the topic's value stays.
    fn pass(&mut self, desk: &mut Desk, place: Place, value: Option<&[u8]>, head: publication::Message, received: Time) {
        desk.report.updates += 1;
        let keep = self.start_keeping(desk, place, head.qos);
        let topic = self.tree.topic_mut(place);
        topic.has_passed = true;
        let version = topic.latest.as_ref().map_or(0, |latest| latest.version);
        let publication = Arc::new(make_publication(topic, version, value, received).with_message(head).with_keep(keep));
        for shard in topic.interested.iter() {
            desk.mail(shard, Mail::Published(publication.clone()));
        }
        self.note_update(desk, place);
    }

    /// A retained message without a payload: it is sent as any other, and then there is none. With it goes the topic.
    fn clear_topic(&mut self, desk: &mut Desk, found: Option<Place>, path: &str, message: &MessageChange<'_>, received: Time) -> Applied {
        let place = match found {
            Some(place) => place,
            None if self.interested_in(path).is_empty() => return Ok((Outcome::Done, None)),
            // Somebody is subscribed to the topic that there would be.
            None => match &message.making {
                Making::Of(specification) => {
                    let by = Creator { shard: desk.identity.index, session: NOBODY };
                    self.make_for(desk, by, path, specification, true)?
                }
                Making::Refused => return Ok((Outcome::Done, None)),
            },
        };
        self.check_not_reference(place)?;
        self.check_topic_storage(desk, place)?;
        let head = publication::Message { is_passing: true, is_clearing: true, ..message.head.clone() };
        self.pass(desk, place, Some(&[]), head, received);
        let ticket = self.remove_topic(desk, path).flatten();
        Ok((Outcome::Done, ticket))
    }

    /// The stored form of a payload; numbers are in decimal.
    fn value_of<'p>(&mut self, desk: &Desk, kind: ValueType, payload: &'p [u8]) -> Result<Cow<'p, [u8]>, Refusal> {
        let refuse = |position: Option<usize>, message: &str| Refusal {
            code: ErrorCode::InvalidValue,
            position,
            message: format!("the payload is not {}: {message}", kind.name()),
        };
        match kind {
            ValueType::Json => {
                let mut compact = Vec::with_capacity(payload.len());
                let limits = JsonLimits { depth_max: desk.limits.json_depth_max };
                self.checker.compact(payload, limits, &mut compact).map_err(|error| refuse(Some(error.position), &error.message))?;
                Ok(Cow::Owned(compact))
            }
            ValueType::String | ValueType::Binary => {
                scalar::check(kind, payload).map_err(|error| refuse(error.position, &error.message))?;
                Ok(Cow::Borrowed(payload))
            }
            ValueType::Int64 | ValueType::Double => {
                let text =
                    std::str::from_utf8(payload).map_err(|error| refuse(Some(error.valid_up_to()), "found bytes that are not UTF-8"))?;
                let mut value = Vec::with_capacity(8);
                let name = ["NaN", "Infinity", "-Infinity"].into_iter().find(|name| *name == text.trim());
                let quoted = name.map(|name| format!("\"{name}\""));
                let text = quoted.as_deref().unwrap_or(text);
                scalar::from_json(kind, text, &mut value).map_err(|error| refuse(error.position, &error.message))?;
                Ok(Cow::Owned(value))
            }
        }
    }

    /// A topic that was only passed through gets a value: from now on it is one as any other.
    pub(super) fn keep_passing(&mut self, desk: &mut Desk, place: Place) {
        if std::mem::take(&mut self.tree.topic_mut(place).is_passing) {
            store_added(desk, self.tree.topic(place));
        }
    }

    /// Removes the topics that have not been passed through for a while.
    pub fn tick_passing(&mut self, desk: &mut Desk) {
        let after_ms = desk.limits.mqtt.as_ref().map_or(0, |limits| limits.passing_topic_ms);
        while let Some((due, ..)) = self.passing.due.front()
            && *due <= desk.now
        {
            let Some((due, id, path)) = self.passing.due.pop_front() else { break };
            let Some(place) = self.tree.find(path.as_str()) else { continue };
            let topic = self.tree.topic_mut(place);
            if topic.id != id || !topic.is_passing {
                continue;
            }
            if std::mem::take(&mut topic.has_passed) {
                self.passing.due.push_back((due.after_ms(after_ms.max(1)).max(desk.now), id, path));
            } else {
                self.remove_topic(desk, path.as_str());
            }
        }
    }
}

/// Whether an empty payload is a value of the topic, and no wish to clear it. Only a topic of a time series holds on to what was published.
fn takes_empty(topic: Option<&Topic>) -> bool {
    topic.is_some_and(|topic| topic.series().is_some())
}
