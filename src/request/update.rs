//! Updates, update streams and appends: what a value is checked for before its topic's owner sees it.

use super::{Asking, Todo};
use crate::gate::{self, Deed};
use crate::mail::{Action, Change, Conditions, Content, StreamStep};
use crate::owner::known_selector;
use crate::protocol::{ErrorCode, Refusal};
use crate::security::PathPermission;
use crate::session::Stream;
use crate::topic::constraint::{Constraint, ConstraintLimits};
use crate::topic::path::TopicPath;
use crate::topic::specification::{Specification, SpecificationLimits, TopicType};
use crate::topic::tree::StreamTag;
use crate::value::json::JsonLimits;
use crate::value::{ValueType, delta, scalar};
use crate::wire::event::Form;
use crate::wire::native::{Append, NULL_BIT, Update, Verb, op};
use std::borrow::Cow;
use std::sync::Arc;

impl Asking<'_> {
    pub(super) fn update<'a>(&mut self, path: Cow<'a, str>, update: Update<'a>, value: &'a mut Vec<u8>) -> Result<Todo<'a>, Refusal> {
        let refusal = self.may_update(&path, &update)?;
        let conditions = with_refusal(self.conditions(&path, &update.constraint, None)?, refusal);
        let action = self.action(update, value)?;
        Ok(Todo::Route { path, change: Change { action, conditions } })
    }

    /// What an update of the path needs.
    fn may_update(&self, path: &str, update: &Update<'_>) -> Result<Option<Refusal>, Refusal> {
        let deed = match update.verb {
            Verb::Add => Deed::Add,
            Verb::AddAndSet => Deed::AddAndSet,
            Verb::Set | Verb::Check => Deed::Set,
            Verb::Patch => Deed::Patch,
        };
        let refusal = self.leave_path(deed, path)?;
        // Whether a condition holds tells something of the value.
        Ok(refusal.or(if update.constraint.is_empty() { None } else { self.leave_path(Deed::Query, path)? }))
    }

    /// What an update depends on; nothing for most. Which locks its session holds is known here, and holds until the topic's owner has decided.
    fn conditions(&mut self, path: &str, text: &[u8], stream: Option<StreamStep>) -> Result<Option<Box<Conditions>>, Refusal> {
        if text.is_empty() && stream.is_none() {
            return Ok(None);
        }
        let parse = |text: &[u8]| {
            let limits = ConstraintLimits { json_depth_max: self.desk.limits.json_depth_max, ..self.desk.limits.constraint };
            Constraint::parse(text, limits).map_err(|error| Refusal::at(ErrorCode::InvalidConstraint, error.position, error.to_string()))
        };
        let mut constraint = if text.is_empty() { None } else { Some(parse(text)?) };
        if let Some(constraint) = &mut constraint {
            let Self { desk, audience, asker, .. } = self;
            let owner = desk.owner_of(path);
            constraint.settle_locks(|name, number| audience.uses_lock(desk, asker.session, (name, number), owner));
            if desk.groups.of(path).is_some() {
                // Another server may decide.
                constraint.keep_text(text);
            }
        }
        Ok(Some(Box::new(Conditions { constraint, stream, ..Conditions::default() })))
    }

    /// What the update does to its topic. Its value is checked, in memory that is used again.
    fn action<'a>(&mut self, update: Update<'a>, checked: &'a mut Vec<u8>) -> Result<Action<'a>, Refusal> {
        let specification = match update.verb {
            Verb::Add | Verb::AddAndSet => Some(self.specification(&update)?),
            Verb::Set | Verb::Patch | Verb::Check => None,
        };
        let is_null = update.kind & NULL_BIT != 0;
        let kind = match &specification {
            Some(specification) => specification.value_type(),
            None if update.verb == Verb::Patch => ValueType::Json,
            None => value_type(update.kind)?,
        };
        checked.clear();
        if matches!(update.verb, Verb::Set | Verb::AddAndSet) {
            match is_null {
                true if specification.as_ref().is_some_and(|new| new.topic_type() == TopicType::TimeSeries) => return Err(null_event()),
                true => check_null(kind, &update.value)?,
                false => self.check_value(kind, &update.value, checked)?,
            }
        }
        let content = Content { kind, value: (!is_null).then_some(Cow::Borrowed(&checked[..])) };
        Ok(match (update.verb, specification) {
            (Verb::Add, Some(specification)) => Action::Add(specification),
            (Verb::AddAndSet, Some(specification)) => Action::AddAndSet(specification, content),
            (Verb::Patch, _) => Action::Patch(update.value),
            (Verb::Check, _) => Action::Check(kind),
            _ => Action::Set(content),
        })
    }

    /// What a topic that an update may add would be.
    fn specification(&mut self, update: &Update<'_>) -> Result<Arc<Specification>, Refusal> {
        // Only a value can be null: a topic without one has no such mark.
        let number = if update.verb == Verb::Add { update.kind } else { update.kind & !NULL_BIT };
        let topic_type = TopicType::from_number(number).ok_or_else(unknown_type)?;
        if let Some(plain) = self.desk.specifications.known_plain(topic_type).filter(|_| update.properties.is_empty()) {
            return Ok(plain);
        }
        // Bounded by the length of a message.
        let properties = update.properties.iter().map(|(key, value)| (&**key, &**value));
        let parsed = Specification::parse(topic_type, properties, SpecificationLimits::default())
            .map_err(|error| Refusal::at(ErrorCode::InvalidProperty, error.position, error.to_string()))?;
        if let Some(selector) = parsed.removal().and_then(|policy| policy.remove_selector()) {
            // It removes what it matches when its time has come: no more than its maker could.
            gate::always(self.rights(), Deed::Remove, &known_selector(self.desk.limits.selector, selector))?;
        }
        Ok(self.desk.specifications.intern(parsed))
    }

    /// Checks a value and writes its stored form.
    pub(super) fn check_value(&mut self, kind: ValueType, value: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        let limits = JsonLimits { depth_max: self.desk.limits.json_depth_max };
        match (self.form, kind) {
            (_, ValueType::Json) => self.checker.compact(value, limits, out).map_err(|error| {
                Refusal::at(ErrorCode::InvalidValue, error.position, format!("the value is not JSON: {}", error.message))
            })?,
            (Form::Binary, _) => {
                scalar::check(kind, value).map_err(|error| refuse_value(kind, error))?;
                out.extend_from_slice(value);
            }
            (Form::Text, _) => {
                let json = std::str::from_utf8(value).expect("a text message is UTF-8");
                scalar::from_json(kind, json, out).map_err(|error| refuse_value(kind, error))?;
            }
        }
        if out.len() > self.desk.limits.value_bytes_max {
            let message = format!("the value has {} bytes, more than {}", out.len(), self.desk.limits.value_bytes_max);
            return Err(Refusal::new(ErrorCode::ValueTooLarge, message));
        }
        Ok(())
    }

    pub(super) fn append<'a>(&mut self, path: Cow<'a, str>, kind: u8, append: Append, value: &[u8]) -> Result<Todo<'a>, Refusal> {
        let is_edit = matches!(append, Append::Edit { .. });
        let refusal = self.leave_path(if is_edit { Deed::Edit } else { Deed::Set }, &path)?;
        let is_own = is_edit && !self.rights().may(&path, PathPermission::EditTimeSeriesEvents);
        if kind & NULL_BIT != 0 {
            return Err(null_event());
        }
        let kind = value_type(kind)?;
        let mut checked = Vec::with_capacity(value.len());
        self.check_value(kind, value, &mut checked)?;
        let content = Content { kind, value: Some(Cow::Owned(checked)) };
        let conditions = with_refusal(is_own.then(|| Box::new(Conditions { is_own, ..Conditions::default() })), refusal);
        Ok(Todo::Route { path, change: Change { action: Action::Append(append, content), conditions } })
    }

    // Update streams.

    pub(super) fn open_stream<'a>(
        &mut self,
        number: u64,
        path: Cow<'a, str>,
        update: Update<'a>,
        value: &'a mut Vec<u8>,
    ) -> Result<Todo<'a>, Refusal> {
        let refusal = self.may_update(&path, &update)?;
        if update.verb == Verb::Patch {
            return Err(Refusal::new(ErrorCode::UnsupportedProperty, "a stream cannot be opened with a patch"));
        }
        let kind = match update.verb {
            Verb::Add | Verb::AddAndSet => self.specification(&update)?.value_type(),
            _ => value_type(update.kind)?,
        };
        let stream = self.tag(number);
        self.audience.check_stream(self.desk, self.asker, number)?;
        let conditions = self.conditions(&path, &update.constraint, Some(StreamStep { stream, opens: true, ordinal: 0 }))?;
        let conditions = with_refusal(conditions, refusal);
        let action = self.action(update, value)?;
        self.audience.open_stream(self.asker, number, Stream { path: TopicPath::of_branch(&path), kind, has_failed: false, steps: 0 });
        Ok(Todo::Route { path, change: Change { action, conditions } })
    }

    fn tag(&self, number: u64) -> StreamTag {
        let session = self.audience.id_of(self.asker.session).expect("a client that asks has a session");
        StreamTag { server: self.desk.identity.node, session, number }
    }

    pub(super) fn set_by_stream<'a>(&mut self, number: u64, set: &[u8], value: &'a mut Vec<u8>) -> Result<Todo<'a>, Refusal> {
        let Stream { path, kind, .. } = self.audience.stream(self.asker, number)?;
        let (path, kind) = (path.as_str().to_owned(), *kind);
        // It may have been opened when the session was allowed more.
        let allowed = self.leave_path(Deed::Set, &path);
        let refusal = self.end_stream_on(number, allowed)?;
        let is_null = set.is_empty() && kind != ValueType::Binary && kind != ValueType::String
            || self.form == Form::Text && set == b"null" && kind != ValueType::Json;
        value.clear();
        let result = if is_null { check_null(kind, &[]) } else { self.check_value(kind, set, value) };
        self.end_stream_on(number, result)?;
        let content = Content { kind, value: (!is_null).then_some(Cow::Borrowed(&value[..])) };
        Ok(self.step(number, path, Action::Set(content), refusal))
    }

    pub(super) fn step_stream<'a>(&mut self, number: u64, form: u8, delta: Cow<'a, [u8]>) -> Result<Todo<'a>, Refusal> {
        let path = self.audience.stream(self.asker, number)?.path.as_str().to_owned();
        let allowed = self.leave_path(Deed::Set, &path);
        let refusal = self.end_stream_on(number, allowed)?;
        let form = match form {
            op::DELTA_DEFLATE => Ok(delta::Form::Deflate),
            op::DELTA_COPY => Ok(delta::Form::Copy),
            _ => Err(Refusal::new(ErrorCode::InvalidValue, "there is no such delta form; they are 0x92 and 0x93")),
        };
        let form = self.end_stream_on(number, form)?;
        Ok(self.step(number, path, Action::Delta(form, delta), refusal))
    }

    fn step<'a>(&mut self, number: u64, path: String, action: Action<'a>, unless_owner: Option<Refusal>) -> Todo<'a> {
        let ordinal = self.audience.next_step(self.asker, number);
        let step = StreamStep { stream: self.tag(number), opens: false, ordinal };
        let conditions = Conditions { stream: Some(step), unless_owner, ..Conditions::default() };
        Todo::Route { path: Cow::Owned(path), change: Change { action, conditions: Some(Box::new(conditions)) } }
    }

    /// A value that was refused here ends the stream as one that its topic's owner refuses does. Its number stays taken until it is closed.
    fn end_stream_on<T>(&mut self, number: u64, result: Result<T, Refusal>) -> Result<T, Refusal> {
        if result.is_err() {
            self.audience.fail_stream(self.asker, number);
        }
        result
    }
}

/// The conditions with what anybody is told but the topic's owner.
fn with_refusal(conditions: Option<Box<Conditions>>, refusal: Option<Refusal>) -> Option<Box<Conditions>> {
    if refusal.is_none() {
        return conditions;
    }
    let mut conditions = conditions.unwrap_or_default();
    conditions.unless_owner = refusal;
    Some(conditions)
}

fn unknown_type() -> Refusal {
    let message = "there is no such topic type; the types are json, string, int64, double, binary and time_series";
    Refusal::new(ErrorCode::UnknownType, message)
}

/// The type of an update's value.
pub(super) fn value_type(kind: u8) -> Result<ValueType, Refusal> {
    match kind & !NULL_BIT {
        number if number == TopicType::TimeSeries.number() => {
            let message = "a value has no type time_series; expected the type of the series' events";
            Err(Refusal::new(ErrorCode::UnknownType, message))
        }
        number => ValueType::from_number(number).ok_or_else(unknown_type),
    }
}

fn null_event() -> Refusal {
    Refusal::new(ErrorCode::InvalidValue, "an event of a time series is never null")
}

pub(super) fn check_null(kind: ValueType, value: &[u8]) -> Result<(), Refusal> {
    if !matches!(kind, ValueType::String | ValueType::Int64 | ValueType::Double) {
        let message = format!("{} topics have no null; STRING, INT64 and DOUBLE do", kind.name());
        return Err(Refusal::new(ErrorCode::InvalidValue, message));
    }
    if !value.is_empty() {
        return Err(Refusal::new(ErrorCode::InvalidValue, "found bytes behind the mark of null, expected none"));
    }
    Ok(())
}

fn refuse_value(kind: ValueType, error: scalar::ValueError) -> Refusal {
    let message = format!("the value is not {}: {}", kind.name(), error.message);
    Refusal { code: ErrorCode::InvalidValue, position: error.position, message }
}
