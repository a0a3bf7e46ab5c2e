//! Messages of MQTT at their topics: payloads become values, and what is not retained passes by.
//!
//! A retained message is the topic's value. Any other reaches those who are subscribed and leaves the value as it is. A topic that has only been
//! passed through is not stored, and goes in a while (`passing`).

use super::decide::{Attempt, Decided, check_storage, decide_append, first_event, next_publication};
use super::make_publication;
use super::record::{Added, Record};
use crate::base::TopicId;
use crate::desk::Desk;
use crate::mail::{Content, Making, MessageChange};
use crate::owner::Owner;
use crate::protocol::{ErrorCode, Refusal};
use crate::topic::publication;
use crate::topic::specification::{Specification, TopicType};
use crate::topic::tree::Topic;
use crate::value::{ValueType, scalar};
use crate::wire::native::{self, Outcome};
use std::borrow::Cow;
use std::sync::Arc;

impl Owner {
    pub(super) fn decide_message(&self, desk: &Desk, attempt: &Attempt<'_>, message: &MessageChange<'_>) -> Result<Decided, Refusal> {
        let topic = attempt.found.filter(|topic| !topic.is_passing || !matches!(message.making, Making::Asked));
        if message.payload.is_empty() && message.head.retain && !takes_empty(topic) {
            return self.decide_cleared(desk, attempt, message);
        }
        let Some(topic) = topic else { return self.decide_first_message(desk, attempt, message) };
        let kind = topic.specification.value_type();
        let value = self.value_of(desk, kind, &message.payload)?;
        if topic.series().is_some() {
            let content = Content { kind, value: Some(value) };
            let append = native::Append::Original { timestamp_ms: None };
            let appended = decide_append(desk, topic, append, &content, attempt)?;
            return Ok(Decided { outcome: Outcome::Done, ..appended });
        }
        if message.head.is_passing {
            let version = topic.latest.as_ref().map_or(0, |latest| latest.version);
            let publication = make_publication(topic.id, &topic.specification, version, Some(&value), attempt.received);
            return Ok(Decided::one(Record::Passed(Arc::new(publication.with_message(message.head.clone()))), Outcome::Done));
        }
        check_storage(desk, &topic.specification)?;
        let publication = next_publication(topic, Some(&value), attempt.received).with_message(message.head.clone());
        Ok(Decided::one(Record::Value(Arc::new(publication)), Outcome::Done))
    }

    /// A message where there is no topic.
    fn decide_first_message(&self, desk: &Desk, attempt: &Attempt<'_>, message: &MessageChange<'_>) -> Result<Decided, Refusal> {
        let path = attempt.path;
        if matches!(message.making, Making::Denied) {
            return Err(Refusal::new(
                ErrorCode::AccessDenied,
                format!("this needs the permission MODIFY_TOPIC at '{path}', as there is no topic"),
            ));
        }
        let Making::Of(specification) = &message.making else {
            let why = format!("there is no topic at '{path}', and a rule says that messages make none there");
            return Err(Refusal::new(ErrorCode::NoSuchTopic, why));
        };
        let kind = specification.value_type();
        let value = self.value_of(desk, kind, &message.payload)?;
        let added = self.added_for(desk, attempt, specification, &message.head)?;
        let record = if specification.topic_type() == TopicType::TimeSeries {
            first_event(desk, &added, &Content { kind, value: Some(value) }, attempt)?
        } else {
            let version = if added.is_passing { 0 } else { 1 };
            let publication = make_publication(added.id, specification, version, Some(&value), attempt.received);
            let publication = Arc::new(publication.with_message(message.head.clone()));
            if added.is_passing { Record::Passed(publication) } else { Record::Value(publication) }
        };
        Ok(Decided::made(added, Some(record), Outcome::Done))
    }

    /// The topic that is made for a message.
    fn added_for(
        &self,
        desk: &Desk,
        attempt: &Attempt<'_>,
        specification: &Arc<Specification>,
        head: &publication::Message,
    ) -> Result<Added, Refusal> {
        self.check_room(desk, attempt)?;
        // Events of a time series all stay.
        let is_passing = head.is_passing && specification.topic_type() != TopicType::TimeSeries;
        if !is_passing {
            check_storage(desk, specification)?;
        }
        Ok(Added { is_passing, ..self.added(desk, attempt, specification) })
    }

    /// A retained message without a payload: it is sent as any other message, and then the topic goes, with the retained message that it had.
    fn decide_cleared(&self, desk: &Desk, attempt: &Attempt<'_>, message: &MessageChange<'_>) -> Result<Decided, Refusal> {
        let head = publication::Message { is_passing: true, is_clearing: true, ..message.head.clone() };
        let cleared = |id: TopicId, specification: &Specification, version: u64, head: publication::Message| {
            let publication = make_publication(id, specification, version, Some(&[]), attempt.received);
            Record::Cleared(Arc::new(publication.with_message(head)))
        };
        if let Some(topic) = attempt.found {
            check_storage(desk, &topic.specification)?;
            let version = topic.latest.as_ref().map_or(0, |latest| latest.version);
            return Ok(Decided::one(cleared(topic.id, &topic.specification, version, head), Outcome::Done));
        }
        match &message.making {
            // Somebody is subscribed to the topic that there would be.
            Making::Of(specification) if !self.interests.selecting(attempt.path).is_empty() => {
                let added = self.added_for(desk, &Attempt { by: None, ..*attempt }, specification, &head)?;
                check_storage(desk, specification)?;
                let record = cleared(added.id, specification, 0, head);
                Ok(Decided::made(added, Some(record), Outcome::Done))
            }
            _ => Ok(Decided::nothing(Outcome::Done, None)),
        }
    }

    /// The stored form of a payload; numbers are in decimal.
    fn value_of<'p>(&self, desk: &Desk, kind: ValueType, payload: &'p [u8]) -> Result<Cow<'p, [u8]>, Refusal> {
        let refuse = |position: Option<usize>, message: &str| Refusal {
            code: ErrorCode::InvalidValue,
            position,
            message: format!("the payload is not {}: {message}", kind.name()),
        };
        match kind {
            ValueType::Json => {
                let compact = self.workbench.compact(desk, payload);
                Ok(Cow::Owned(compact.map_err(|error| refuse(Some(error.position), &error.message))?))
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
}

/// Whether an empty payload is a value of the topic, and no wish to clear it: of a time series, which keeps the events that it has.
fn takes_empty(topic: Option<&Topic>) -> bool {
    topic.is_some_and(|topic| topic.series().is_some())
}
