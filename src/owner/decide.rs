//! What an update comes to: decided from the topic at its path as it is. Nothing changes here; a refusal leaves everything as it was.
//!
//! While storage fails, updates of stored topics are refused before they change anything; what was sent before stays on its way.

use super::events::check_owner;
use super::make_publication;
use super::record::{Added, Event, Record};
use crate::base::{SessionId, Time, TopicId};
use crate::desk::{Desk, Ticket};
use crate::mail::{Action, Change, Content, StreamStep};
use crate::owner::Owner;
use crate::protocol::{ErrorCode, Refusal};
use crate::series::{Appended, Range, Series, SeriesError};
use crate::topic::constraint::{Constraint, Subject};
use crate::topic::path::TopicPath;
use crate::topic::publication::Publication;
use crate::topic::specification::{Specification, TopicType};
use crate::topic::tree::{StreamTag, Topic};
use crate::value::delta::{self, Form};
use crate::value::patch::{self, PatchError};
use crate::value::{ValueType, scalar};
use crate::wire::native::{Append, EventHead, Outcome};
use std::borrow::Cow;
use std::sync::Arc;

/// One attempt to change what is at a path.
#[derive(Clone, Copy)]
pub struct Attempt<'a> {
    pub path: &'a str,
    /// The topic there, unless it gives way.
    pub found: Option<&'a Topic>,
    /// The stream that it is updated by.
    pub stream: Option<StreamTag>,
    /// Whether the topic there gives way to one that is made.
    pub gives_way: bool,
    pub by: Option<SessionId>,
    /// The author of events.
    pub author: Option<&'a Arc<str>>,
    pub received: Time,
}

/// What an update comes to.
pub struct Decided {
    /// The topic that is made first.
    pub added: Option<Box<Added>>,
    /// What happens to the topic that is there then.
    pub record: Option<Record>,
    pub outcome: Outcome,
    /// What the answer waits for where no record of the update is stored.
    pub earlier: Option<Ticket>,
}

impl Decided {
    pub fn nothing(outcome: Outcome, earlier: Option<Ticket>) -> Self {
        Self { added: None, record: None, outcome, earlier }
    }

    pub fn one(record: Record, outcome: Outcome) -> Self {
        Self { added: None, record: Some(record), outcome, earlier: None }
    }

    pub fn made(added: Added, record: Option<Record>, outcome: Outcome) -> Self {
        Self { added: Some(Box::new(added)), record, outcome, earlier: None }
    }

    /// Whether the topic's value stays as it is, and with it the stream that the topic has.
    pub fn leaves_value(&self) -> bool {
        !matches!(self.record, Some(Record::Value(_) | Record::Event(_)))
    }
}

impl Owner {
    /// Decides on an update whose path and value have been checked.
    pub(super) fn decide(&self, desk: &Desk, attempt: Attempt<'_>, change: &Change<'_>) -> Result<Decided, Refusal> {
        if let Some(refusal) = change.conditions.as_ref().and_then(|conditions| conditions.unless_owner.as_ref()) {
            check_owner(attempt.found, attempt.author, refusal)?;
        }
        if let Action::Message(message) = &change.action {
            self.check_keeping(desk, &attempt, message)?;
        }
        let attempt = &find_changed(desk, attempt, change)?;
        let Attempt { path, found, received, .. } = *attempt;
        if let Some(conditions) = &change.conditions {
            check_stream(attempt, conditions.stream)?;
            check_constraint(found, path, conditions.constraint.as_ref())?;
        }
        match (&change.action, found) {
            (Action::Message(message), _) => self.decide_message(desk, attempt, message),
            (Action::Add(specification), Some(topic)) => decide_added(desk, topic, specification),
            (Action::AddAndSet(specification, content), Some(topic)) => {
                check_same(topic, specification)?;
                Ok(Decided { outcome: Outcome::Created(false), ..decide_set(desk, topic, content, attempt)? })
            }
            (Action::Add(specification), None) => self.decide_new(desk, attempt, specification, None),
            (Action::AddAndSet(specification, content), None) => self.decide_new(desk, attempt, specification, Some(content)),
            (_, None) => Err(Refusal::new(ErrorCode::NoSuchTopic, format!("there is no topic at '{path}'"))),
            (Action::Set(content), Some(topic)) => decide_set(desk, topic, content, attempt),
            (Action::Check(kind), Some(topic)) => {
                check_kind(topic, *kind).map(|()| Decided::nothing(Outcome::Done, store_found(desk, topic)))
            }
            (Action::Patch(text), Some(topic)) => decide_patch(desk, topic, text, received),
            (Action::Delta(form, delta), Some(topic)) => self.decide_delta(desk, topic, (*form, delta), attempt),
            (Action::Append(append, content), Some(topic)) => {
                if change.conditions.as_ref().is_some_and(|conditions| conditions.is_own) {
                    check_own(topic, *append, attempt.author)?;
                }
                decide_append(desk, topic, *append, content, attempt)
            }
        }
    }

    /// Whether one more topic may be made.
    pub(super) fn check_room(&self, desk: &Desk, attempt: &Attempt<'_>) -> Result<(), Refusal> {
        let topics = self.tree.len().saturating_add_signed(self.ahead.more());
        if topics.saturating_sub(usize::from(attempt.gives_way)) < desk.limits.topics_max {
            return Ok(());
        }
        let message = format!("this server's core holds its most of {} topics", desk.limits.topics_max);
        Err(Refusal::new(ErrorCode::TopicLimit, message))
    }

    /// A topic is added where none is, perhaps with a value.
    fn decide_new(
        &self,
        desk: &Desk,
        attempt: &Attempt<'_>,
        specification: &Arc<Specification>,
        content: Option<&Content<'_>>,
    ) -> Result<Decided, Refusal> {
        self.check_room(desk, attempt)?;
        check_storage(desk, specification)?;
        let mut added = self.added(desk, attempt, specification);
        let outcome = Outcome::Created(true);
        let Some(content) = content else { return Ok(Decided::made(added, None, outcome)) };
        if specification.topic_type() == TopicType::TimeSeries {
            let record = first_event(desk, &added, content, attempt)?;
            return Ok(Decided::made(added, Some(record), outcome));
        }
        let publication = Arc::new(make_publication(added.id, specification, 1, content.value.as_deref(), attempt.received));
        // A value that is not kept, or that sessions may have to keep, follows its topic as every other does.
        if specification.retains_value() && desk.ledger.keepers.is_empty() {
            added.value = Some(publication);
            return Ok(Decided::made(added, None, outcome));
        }
        Ok(Decided::made(added, Some(Record::Value(publication)), outcome))
    }

    /// The topic that is made at the path.
    pub(super) fn added(&self, desk: &Desk, attempt: &Attempt<'_>, specification: &Arc<Specification>) -> Added {
        Added {
            id: desk.next_topic_id(),
            // A session's shard has checked it, or it is the server's own.
            path: TopicPath::of_branch(attempt.path),
            specification: specification.clone(),
            is_passing: false,
            value: None,
            creator: attempt.by,
        }
    }

    /// A value as its difference from the one before.
    fn decide_delta(&self, desk: &Desk, topic: &Topic, (form, bytes): (Form, &[u8]), attempt: &Attempt<'_>) -> Result<Decided, Refusal> {
        let kind = topic.specification.value_type();
        let previous = topic.latest.as_ref().and_then(|latest| latest.value()).filter(|_| kind.has_deltas());
        let previous = previous.ok_or_else(|| {
            Refusal::new(ErrorCode::InvalidValue, "there is no previous value that the server keeps, so a delta cannot be applied")
        })?;
        let value = delta::apply(form, previous, bytes, desk.limits.value_bytes_max)
            .map_err(|_| Refusal::new(ErrorCode::InvalidValue, "the delta does not apply to the stream's last value"))?;
        let checked = match kind {
            ValueType::Json => self.workbench.compact(desk, &value).map_err(|error| {
                Refusal::at(ErrorCode::InvalidValue, error.position, format!("the value is not JSON: {}", error.message))
            })?,
            kind => {
                scalar::check(kind, &value).map_err(|error| Refusal {
                    code: ErrorCode::InvalidValue,
                    position: error.position,
                    message: error.message.to_string(),
                })?;
                value
            }
        };
        let content = Content { kind, value: Some(Cow::Owned(checked)) };
        decide_set(desk, topic, &content, attempt)
    }
}

/// Which topic is to change. One of a view gives way to one that is added, and is never changed; one that is only passed through gives way to
/// one that is another.
fn find_changed<'a>(desk: &Desk, attempt: Attempt<'a>, change: &Change<'_>) -> Result<Attempt<'a>, Refusal> {
    let Some(topic) = attempt.found else { return Ok(attempt) };
    let given_way = Attempt { found: None, gives_way: true, ..attempt };
    match &change.action {
        Action::Add(specification) | Action::AddAndSet(specification, _) if topic.is_reference => {
            if let Some(conditions) = &change.conditions {
                check_constraint(attempt.found, attempt.path, conditions.constraint.as_ref())?;
            }
            check_storage(desk, specification)?;
            Ok(given_way)
        }
        // A topic that is only passed through holds nothing that could be lost.
        Action::Add(specification) | Action::AddAndSet(specification, _)
            if topic.is_passing && check_same(topic, specification).is_err() =>
        {
            Ok(given_way)
        }
        _ => check_not_reference(topic).map(|()| attempt),
    }
}

fn check_stream(attempt: &Attempt<'_>, step: Option<StreamStep>) -> Result<(), Refusal> {
    let Some(StreamStep { stream, opens: false, .. }) = step else { return Ok(()) };
    let path = attempt.path;
    match attempt.found {
        Some(_) if attempt.stream == Some(stream) => Ok(()),
        None => Err(Refusal::new(ErrorCode::InvalidStream, format!("the stream's topic '{path}' was removed"))),
        Some(_) => {
            let why = format!("the stream on '{path}' has ended: the topic was updated or made by another, or an operation failed");
            Err(Refusal::new(ErrorCode::InvalidStream, why))
        }
    }
}

fn check_constraint(found: Option<&Topic>, path: &str, constraint: Option<&Constraint>) -> Result<(), Refusal> {
    let Some(constraint) = constraint else { return Ok(()) };
    let subject = match found {
        None => Subject::NoTopic,
        Some(topic) => {
            let kind = topic.specification.value_type();
            let value = match topic.series() {
                Some(series) => series.latest().map(|event| event.value),
                None => topic.latest.as_ref().and_then(|latest| latest.value()),
            };
            value.map_or(Subject::NoValue, |bytes| Subject::Value { kind, bytes })
        }
    };
    if constraint.evaluate(subject) {
        return Ok(());
    }
    Err(Refusal::new(ErrorCode::UnsatisfiedConstraint, format!("the constraint does not hold for '{path}'")))
}

fn check_same(topic: &Topic, specification: &Arc<Specification>) -> Result<(), Refusal> {
    let held = &topic.specification;
    if Arc::ptr_eq(held, specification) || held.agrees_with(specification) {
        return Ok(());
    }
    let what = if held.topic_type() == specification.topic_type() {
        "other properties".to_owned()
    } else {
        format!("type {}, not {}", held.topic_type().name(), specification.topic_type().name())
    };
    Err(Refusal::new(ErrorCode::TopicExists, format!("the topic at '{}' has {what}", topic.path.as_str())))
}

/// A topic is added where one is.
fn decide_added(desk: &Desk, topic: &Topic, specification: &Arc<Specification>) -> Result<Decided, Refusal> {
    check_same(topic, specification)?;
    if topic.is_passing {
        // Whoever adds a topic finds it later, so it is only passed through no longer.
        check_storage(desk, &topic.specification)?;
        return Ok(Decided::one(Record::Kept, Outcome::Created(false)));
    }
    Ok(Decided::nothing(Outcome::Created(false), store_found(desk, topic)))
}

/// Sets a value, or appends it to a time series.
fn decide_set(desk: &Desk, topic: &Topic, content: &Content<'_>, attempt: &Attempt<'_>) -> Result<Decided, Refusal> {
    check_kind(topic, content.kind)?;
    if topic.series().is_some() {
        let appended = decide_append(desk, topic, Append::Original { timestamp_ms: None }, content, attempt)?;
        return Ok(Decided { outcome: Outcome::Done, ..appended });
    }
    check_storage(desk, &topic.specification)?;
    let publication = next_publication(topic, content.value.as_deref(), attempt.received);
    Ok(Decided::one(Record::Value(Arc::new(publication)), Outcome::Done))
}

fn decide_patch(desk: &Desk, topic: &Topic, text: &[u8], received: Time) -> Result<Decided, Refusal> {
    check_kind(topic, ValueType::Json)?;
    if topic.specification.topic_type() != TopicType::Json {
        let message = format!("a patch is for JSON topics; '{}' is a time series", topic.path.as_str());
        return Err(Refusal::new(ErrorCode::IncompatibleType, message));
    }
    check_storage(desk, &topic.specification)?;
    let value = topic.latest.as_ref().and_then(|latest| latest.value());
    let value = value.ok_or_else(|| Refusal::at(ErrorCode::FailedPatch, 0, "the topic has no value to patch"))?;
    let limits = patch::PatchLimits {
        depth_max: desk.limits.json_depth_max,
        value_bytes_max: desk.limits.value_bytes_max,
        text_bytes_max: desk.limits.message_bytes_max,
        operations_max: desk.limits.patch_operations_max,
        handled_bytes_max: desk.limits.patch_handled_bytes_max,
        work_max: desk.limits.patch_work_max,
    };
    let patched = patch::apply(value, text, limits).map_err(refuse_patch)?;
    check_size(desk, patched.len())?;
    let publication = next_publication(topic, Some(&patched), received);
    Ok(Decided::one(Record::Value(Arc::new(publication)), Outcome::Done))
}

/// Appends an event, or an edit of one.
pub(super) fn decide_append(
    desk: &Desk,
    topic: &Topic,
    append: Append,
    content: &Content<'_>,
    attempt: &Attempt<'_>,
) -> Result<Decided, Refusal> {
    check_kind(topic, content.kind)?;
    check_storage(desk, &topic.specification)?;
    let Some(series) = topic.series() else {
        let message = format!("the topic at '{}' is no time series", topic.path.as_str());
        return Err(Refusal::new(ErrorCode::IncompatibleType, message));
    };
    let value = content.value.as_deref().ok_or_else(null_event)?;
    check_ahead(desk, append)?;
    let (event, appended) =
        plan_event(desk, topic.id, series, (append, value), (attempt.author, attempt.received)).map_err(refuse_event)?;
    let Appended { sequence, timestamp_ms, .. } = appended;
    Ok(Decided::one(Record::Event(event), Outcome::Appended { sequence, timestamp_ms }))
}

/// Refuses to edit an event of another author.
fn check_own(topic: &Topic, append: Append, author: Option<&Arc<str>>) -> Result<(), Refusal> {
    let Append::Edit { original } = append else { return Ok(()) };
    let held = topic.series().and_then(|series| series.event(original)).map(|event| event.author);
    // Without a principal nobody can be known again. What is not there is told behind this.
    if held.is_none_or(|held| author.is_some_and(|author| author == held)) {
        return Ok(());
    }
    let path = topic.path.as_str();
    let message = format!("this needs the permission EDIT_TIME_SERIES_EVENTS at '{path}': the event is another's");
    Err(Refusal::new(ErrorCode::AccessDenied, message))
}

/// The first event of a time series that is made.
pub(super) fn first_event(desk: &Desk, added: &Added, content: &Content<'_>, attempt: &Attempt<'_>) -> Result<Record, Refusal> {
    let range = added.specification.retained_range();
    let series = Series::new(Range { limit: range.limit, last_ms: range.last_ms });
    let value = content.value.as_deref().ok_or_else(null_event)?;
    let append = Append::Original { timestamp_ms: None };
    let (event, _) = plan_event(desk, added.id, &series, (append, value), (attempt.author, attempt.received)).map_err(refuse_event)?;
    Ok(Record::Event(event))
}

/// An event that comes next in the series.
pub(super) fn plan_event(
    desk: &Desk,
    id: TopicId,
    series: &Series,
    (append, value): (Append, &[u8]),
    (author, received): (Option<&Arc<str>>, Time),
) -> Result<(Event, Appended), SeriesError> {
    let (appended, original) = match append {
        Append::Original { timestamp_ms } => (series.plan_append(timestamp_ms, desk.wall_ms())?, None),
        Append::Edit { original } => (series.plan_edit(original, desk.wall_ms())?, Some(original)),
    };
    let Appended { sequence, timestamp_ms, first_kept, dropped } = appended;
    let author = author.unwrap_or(&desk.anonymous).clone();
    let head = EventHead { sequence, timestamp_ms, original, author: &author };
    let publication = Arc::new(Publication::event(id, received, head, value));
    Ok((Event { publication, author, first_kept, dropped }, appended))
}

/// A publication of the topic's next value.
pub(super) fn next_publication(topic: &Topic, value: Option<&[u8]>, received: Time) -> Publication {
    let version = topic.latest.as_ref().map_or(1, |latest| latest.version + 1);
    make_publication(topic.id, &topic.specification, version, value, received)
}

pub(super) fn check_kind(topic: &Topic, kind: ValueType) -> Result<(), Refusal> {
    let held = topic.specification.value_type();
    if held == kind {
        return Ok(());
    }
    let what = if topic.series().is_some() { "is a time series of" } else { "has type" };
    let message = format!("the topic at '{}' {what} {}, not {}", topic.path.as_str(), held.name(), kind.name());
    Err(Refusal::new(ErrorCode::IncompatibleType, message))
}

/// Refuses what could not be stored now.
pub(super) fn check_storage(desk: &Desk, specification: &Specification) -> Result<(), Refusal> {
    if !desk.stores() || !specification.is_persistent() {
        return Ok(());
    }
    match desk.ledger.failure() {
        None => Ok(()),
        Some(reason) => Err(Refusal::new(ErrorCode::StorageUnavailable, format!("updates of stored topics are refused for now: {reason}"))),
    }
}

/// The record that an answer waits for where an update changes nothing: the topic that it found must not be gone after a crash.
fn store_found(desk: &Desk, topic: &Topic) -> Option<Ticket> {
    if desk.stores() && topic.specification.is_persistent() { desk.ledger.earlier() } else { None }
}

/// Refuses to change a topic that a view makes.
pub(super) fn check_not_reference(topic: &Topic) -> Result<(), Refusal> {
    if !topic.is_reference {
        return Ok(());
    }
    let message = format!("the topic at '{}' is made by a view; only what it is derived from can be updated", topic.path.as_str());
    Err(Refusal::new(ErrorCode::ReadOnlyTopic, message))
}

/// Refuses a timestamp that would have all others wait until the clock has come to it.
fn check_ahead(desk: &Desk, append: Append) -> Result<(), Refusal> {
    let Append::Original { timestamp_ms: Some(given_ms) } = append else { return Ok(()) };
    let (now_ms, ahead_ms_max) = (desk.wall_ms(), desk.limits.ahead_ms_max);
    if given_ms <= now_ms.saturating_add(ahead_ms_max) {
        return Ok(());
    }
    let message =
        format!("found the timestamp {given_ms} ms, expected at most {ahead_ms_max} ms more than the server's clock, {now_ms} ms");
    Err(Refusal::new(ErrorCode::TimestampAhead, message))
}

fn check_size(desk: &Desk, bytes: usize) -> Result<(), Refusal> {
    if bytes <= desk.limits.value_bytes_max {
        return Ok(());
    }
    let message = format!("the value has {bytes} bytes, more than {}", desk.limits.value_bytes_max);
    Err(Refusal::new(ErrorCode::ValueTooLarge, message))
}

fn refuse_patch(error: PatchError) -> Refusal {
    match error {
        PatchError::Malformed { position, message } => Refusal::at(ErrorCode::InvalidPatch, position, message),
        PatchError::Failed { operation, message } => {
            Refusal::at(ErrorCode::FailedPatch, operation, format!("operation {operation} of the patch: {message}"))
        }
    }
}

fn null_event() -> Refusal {
    Refusal::new(ErrorCode::InvalidValue, "an event of a time series is never null")
}

fn refuse_event(error: SeriesError) -> Refusal {
    let code = match error {
        SeriesError::TimestampBeforeLatest { .. } => ErrorCode::InvalidTimestamp,
        SeriesError::UnknownOriginal { .. } | SeriesError::NotRetained { .. } => ErrorCode::NoSuchEvent,
        SeriesError::EditOfEdit { .. } => ErrorCode::EventIsEdit,
        SeriesError::Sequence { .. } => ErrorCode::TopicLimit,
    };
    Refusal::new(code, error.to_string())
}
