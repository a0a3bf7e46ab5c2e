//! What sessions ask for: checked here, on the session's shard, and sent to the owners of the topics.

use super::Shard;
use crate::base::Key;
use crate::desk::Answer;
use crate::mail::{Action, Asker, Change, Conditions, Content, DeepLimit, Fetch, Mail, StreamStep, Update};
use crate::protocol::{ErrorCode, Refusal};
use crate::series;
use crate::session::Stream;
use crate::topic::constraint::{Constraint, ConstraintLimits};
use crate::topic::path::TopicPath;
use crate::topic::specification::{Specification, SpecificationLimits, TopicType};
use crate::topic::tree::{Direction, Span, StreamTag};
use crate::value::delta;
use crate::value::json::JsonLimits;
use crate::value::{ValueType, scalar};
use crate::wire::event::Form;
use crate::wire::native::{self, Ask, NULL_BIT, Outcome, Request, Shown, Verb, op};
use std::borrow::Cow;
use std::ops::Bound;
use std::sync::Arc;

impl Shard {
    pub(super) fn handle_request(&mut self, session: Key, form: Form, request: Request<'_>) {
        let Request { id, ask } = request;
        let asker = Asker { session, id };
        if let Err(refusal) = self.try_operation(asker, form, ask) {
            self.audience.answer(&mut self.desk, asker, Err(refusal));
        }
    }

    fn try_operation(&mut self, asker: Asker, form: Form, ask: Ask<'_>) -> Result<(), Refusal> {
        if self.desk.is_stopping {
            return Err(Refusal::new(ErrorCode::ShuttingDown, "the server is stopping"));
        }
        if ask.asks_owners() {
            self.audience.check_questions(&self.desk, asker)?;
        }
        match ask {
            Ask::Update { path, update } => self.start_update(asker, form, &path, update),
            Ask::Remove { selector } => {
                let selector = self.desk.limits.parse_selector(&selector)?;
                self.audience.remove(&mut self.desk, asker, &selector);
                Ok(())
            }
            Ask::Fetch { fetch } => self.start_fetch(asker, &fetch),
            Ask::Subscribe { selector, scope } => {
                check_scope(&scope, self.desk.limits.scope_bytes_max)?;
                let selector = self.desk.limits.parse_selector(&selector)?;
                self.audience.subscribe(&mut self.desk, asker, &scope, &selector)
            }
            Ask::Unsubscribe { selector, scope } => {
                check_scope(&scope, self.desk.limits.scope_bytes_max)?;
                let selector = self.desk.limits.parse_selector(&selector)?;
                self.audience.unsubscribe(&mut self.desk, asker, Some(&scope), &selector)
            }
            Ask::UnsubscribeAllScopes { selector } => {
                let selector = self.desk.limits.parse_selector(&selector)?;
                self.audience.unsubscribe(&mut self.desk, asker, None, &selector)
            }
            Ask::Listen { listener, kind, selector } => self.audience.listen(&mut self.desk, asker, listener, kind, &selector),
            Ask::Unlisten { listener, selector } => {
                if self.audience.unlisten(&mut self.desk, asker, listener, &selector)? {
                    self.audience.run_reviews(&mut self.desk, self.owner.has_walks());
                }
                Ok(())
            }
            Ask::StreamOpen { stream, path, update } => self.open_stream(asker, form, stream, &path, update),
            Ask::StreamSet { stream, value } => self.set_by_stream(asker, form, stream, &value),
            Ask::StreamDelta { stream, form, delta } => self.step_stream(asker, stream, form, delta),
            Ask::StreamClose { stream } => self.close_stream(asker, stream),
            Ask::Append { path, kind, append, value } => self.start_append(asker, form, &path, kind, append, &value),
            Ask::Query { path, query } => self.start_query(asker, &path, &query),
            Ask::CreateView { name, definition } => self.create_view(asker, &name, &definition),
            Ask::RemoveView { name } => {
                self.remove_view(asker, &name);
                Ok(())
            }
            Ask::ListViews { after } => self.list_views(asker, after, None),
            Ask::GetView { name } => self.list_views(asker, 0, Some(&name)),
            Ask::Connect { .. } | Ask::Ping | Ask::Pong | Ask::Close | Ask::Unknown { .. } | Ask::Broken => {
                unreachable!("the caller handles these")
            }
        }
    }

    // Updates.

    fn start_update(&mut self, asker: Asker, form: Form, path: &str, update: native::Update<'_>) -> Result<(), Refusal> {
        self.desk.limits.check_path(path)?;
        let conditions = self.conditions(&update.constraint, None)?;
        self.check_and_route(asker, form, path, &update, conditions)
    }

    /// What an update depends on; nothing for most.
    fn conditions(&self, constraint: &[u8], stream: Option<StreamStep>) -> Result<Option<Box<Conditions>>, Refusal> {
        if constraint.is_empty() && stream.is_none() {
            return Ok(None);
        }
        let parse = |text: &[u8]| {
            let limits = ConstraintLimits { json_depth_max: self.desk.limits.json_depth_max, ..self.desk.limits.constraint };
            Constraint::parse(text, limits).map_err(|error| Refusal::at(ErrorCode::InvalidConstraint, error.position, error.to_string()))
        };
        let constraint = if constraint.is_empty() { None } else { Some(parse(constraint)?) };
        Ok(Some(Box::new(Conditions { constraint, stream })))
    }

    /// Checks the update's value, in memory that is used again, and sends it on.
    fn check_and_route(
        &mut self,
        asker: Asker,
        form: Form,
        path: &str,
        update: &native::Update<'_>,
        conditions: Option<Box<Conditions>>,
    ) -> Result<(), Refusal> {
        let specification = match update.verb {
            Verb::Add | Verb::AddAndSet => Some(self.specification(update)?),
            Verb::Set | Verb::Patch | Verb::Check => None,
        };
        let is_null = update.kind & NULL_BIT != 0;
        let kind = match &specification {
            Some(specification) => specification.value_type(),
            None if update.verb == Verb::Patch => ValueType::Json,
            None => value_type(update.kind)?,
        };
        let mut checked = std::mem::take(&mut self.value);
        checked.clear();
        let has_value = matches!(update.verb, Verb::Set | Verb::AddAndSet);
        let result = match (has_value, is_null) {
            (true, true) if specification.as_ref().is_some_and(|new| new.topic_type() == TopicType::TimeSeries) => Err(null_event()),
            (true, true) => check_null(kind, &update.value),
            (true, false) => self.check_value(form, kind, &update.value, &mut checked),
            (false, _) => Ok(()),
        };
        if result.is_ok() {
            let content = || Content { kind, value: (!is_null).then_some(Cow::Borrowed(&checked[..])) };
            let action = match (update.verb, specification) {
                (Verb::Add, Some(specification)) => Action::Add(specification),
                (Verb::AddAndSet, Some(specification)) => Action::AddAndSet(specification, content()),
                (Verb::Patch, _) => Action::Patch(Cow::Borrowed(&update.value)),
                (Verb::Check, _) => Action::Check(kind),
                _ => Action::Set(content()),
            };
            self.route_change(asker, path, Change { action, conditions });
        }
        self.value = checked;
        result
    }

    /// What a topic that an update may add would be.
    fn specification(&mut self, update: &native::Update<'_>) -> Result<Arc<Specification>, Refusal> {
        // Only a value can be null: a topic without one has no such mark.
        let number = if update.verb == Verb::Add { update.kind } else { update.kind & !NULL_BIT };
        let topic_type = TopicType::from_number(number).ok_or_else(unknown_type)?;
        if let Some(plain) = self.desk.specifications.known_plain(topic_type).filter(|_| update.properties.is_empty()) {
            return Ok(plain);
        }
        let properties = update.properties.iter().map(|(key, value)| (&**key, &**value));
        let parsed = Specification::parse(topic_type, properties, SpecificationLimits::default())
            .map_err(|error| Refusal::at(ErrorCode::InvalidProperty, error.position, error.to_string()))?;
        Ok(self.desk.specifications.intern(parsed))
    }

    pub(super) fn route_change(&mut self, asker: Asker, path: &str, change: Change<'_>) {
        let owner = self.desk.owner_of(path);
        if owner == self.desk.identity.index {
            // What was asked before comes first, as it does from another shard.
            self.settle();
            let received = self.desk.now;
            let (applied, keeping) = self.owner.update(&mut self.desk, owner, asker.session, path, &change, received);
            // What the update caused comes before its answer, as it does from another shard.
            self.settle();
            self.owner.acknowledge_kept(&mut self.desk, applied, Answer::Update { from: owner, to: asker }, keeping);
            return self.give_answers();
        }
        let path = TopicPath::of_branch(path);
        let (from, received, change) = (self.desk.identity.index, self.desk.now, change.into_owned());
        self.desk.mail(owner, Mail::Update(Update { from, to: asker, path, change, received }));
    }

    /// Checks a value and writes its stored form.
    fn check_value(&mut self, form: Form, kind: ValueType, value: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        let limits = JsonLimits { depth_max: self.desk.limits.json_depth_max };
        match (form, kind) {
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

    // Update streams.

    fn open_stream(&mut self, asker: Asker, form: Form, number: u64, path: &str, update: native::Update<'_>) -> Result<(), Refusal> {
        self.desk.limits.check_path(path)?;
        if update.verb == Verb::Patch {
            return Err(Refusal::new(ErrorCode::UnsupportedProperty, "a stream cannot be opened with a patch"));
        }
        let kind = match update.verb {
            Verb::Add | Verb::AddAndSet => self.specification(&update)?.value_type(),
            _ => value_type(update.kind)?,
        };
        let streams_max = self.desk.limits.streams_max;
        let Some(session) = self.audience.session_mut(asker.session) else { return Ok(()) };
        let streams = &session.extras_mut().streams;
        if streams.contains_key(&number) {
            let message = format!("the session has a stream {number}; STREAM_CLOSE frees its number");
            return Err(Refusal::new(ErrorCode::StreamInUse, message));
        }
        if streams.len() >= streams_max {
            return Err(Refusal::new(ErrorCode::ListenerLimit, format!("the session has its most of {streams_max} streams")));
        }
        let stream = StreamTag { shard: self.desk.identity.index, session: asker.session, number };
        let conditions = self.conditions(&update.constraint, Some(StreamStep { stream, opens: true }))?;
        self.check_and_route(asker, form, path, &update, conditions)?;
        if let Some(session) = self.audience.session_mut(asker.session) {
            session.extras_mut().streams.insert(number, Stream { path: TopicPath::of_branch(path), kind, has_failed: false });
        }
        Ok(())
    }

    /// The stream's path and type, and what its next operation depends on.
    fn stream(&self, asker: Asker, number: u64) -> Result<(TopicPath, ValueType, Conditions), Refusal> {
        let session = self.audience.session(asker.session);
        let stream = session.and_then(|session| session.extras.as_ref()?.streams.get(&number));
        let Stream { path, kind, has_failed } = stream.ok_or_else(|| no_stream(number))?;
        if *has_failed {
            return Err(Refusal::new(ErrorCode::InvalidStream, format!("stream {number} has ended: an operation of it failed")));
        }
        let stream = StreamTag { shard: self.desk.identity.index, session: asker.session, number };
        let conditions = Conditions { constraint: None, stream: Some(StreamStep { stream, opens: false }) };
        Ok((path.clone(), *kind, conditions))
    }

    fn set_by_stream(&mut self, asker: Asker, form: Form, number: u64, value: &[u8]) -> Result<(), Refusal> {
        let (path, kind, conditions) = self.stream(asker, number)?;
        let is_null = value.is_empty() && kind != ValueType::Binary && kind != ValueType::String
            || form == Form::Text && value == b"null" && kind != ValueType::Json;
        let kind = if is_null { kind as u8 | NULL_BIT } else { kind as u8 };
        let update = native::Update::new(Verb::Set, kind, if is_null { &[][..] } else { value });
        let result = self.check_and_route(asker, form, path.as_str(), &update, Some(Box::new(conditions)));
        self.end_stream_on(asker, number, result)
    }

    fn step_stream(&mut self, asker: Asker, number: u64, form: u8, delta: Cow<'_, [u8]>) -> Result<(), Refusal> {
        let (path, _, conditions) = self.stream(asker, number)?;
        let form = match form {
            op::DELTA_DEFLATE => Ok(delta::Form::Deflate),
            op::DELTA_COPY => Ok(delta::Form::Copy),
            _ => Err(Refusal::new(ErrorCode::InvalidValue, "there is no such delta form; they are 0x92 and 0x93")),
        };
        let result = form.map(|form| {
            let change = Change { action: Action::Delta(form, delta), conditions: Some(Box::new(conditions)) };
            self.route_change(asker, path.as_str(), change);
        });
        self.end_stream_on(asker, number, result)
    }

    /// A value that was refused here ends the stream as one that its topic's owner refuses does. Its number stays taken until it is closed.
    fn end_stream_on(&mut self, asker: Asker, number: u64, result: Result<(), Refusal>) -> Result<(), Refusal> {
        let session = self.audience.session_mut(asker.session).filter(|_| result.is_err());
        if let Some(stream) = session.and_then(|session| session.extras_mut().streams.get_mut(&number)) {
            stream.has_failed = true;
        }
        result
    }

    fn close_stream(&mut self, asker: Asker, number: u64) -> Result<(), Refusal> {
        let session = self.audience.session_mut(asker.session);
        let closed = session.and_then(|session| session.extras.as_mut()?.streams.remove(&number));
        closed.ok_or_else(|| no_stream(number))?;
        self.audience.answer(&mut self.desk, asker, Ok(Outcome::Done));
        Ok(())
    }

    // Time series.

    fn start_append(
        &mut self,
        asker: Asker,
        form: Form,
        path: &str,
        kind: u8,
        append: native::Append,
        value: &[u8],
    ) -> Result<(), Refusal> {
        self.desk.limits.check_path(path)?;
        if kind & NULL_BIT != 0 {
            return Err(null_event());
        }
        let kind = value_type(kind)?;
        let mut checked = Vec::with_capacity(value.len());
        self.check_value(form, kind, value, &mut checked)?;
        let content = Content { kind, value: Some(Cow::Owned(checked)) };
        self.route_change(asker, path, Change { action: Action::Append(append, content), conditions: None });
        Ok(())
    }

    fn start_query(&mut self, asker: Asker, path: &str, query: &native::Query) -> Result<(), Refusal> {
        self.desk.limits.check_path(path)?;
        let kind = match query.kind {
            0 => series::QueryKind::Values,
            1 => series::QueryKind::LatestEdits,
            2 => series::QueryKind::AllEdits,
            _ => return Err(Refusal::new(ErrorCode::InvalidQuery, "there are three kinds: 0 values, 1 latest edits, 2 all edits")),
        };
        let range = series_range(query.range)?;
        let edit_range = query.edit_range.map(series_range).transpose()?;
        let limit = if query.limit == 0 { u64::MAX } else { query.limit }.min(self.desk.limits.query_events_max as u64);
        self.audience.query_owner(&mut self.desk, asker, path, series::Query { kind, range, edit_range, limit });
        Ok(())
    }

    // Fetches.

    fn start_fetch(&mut self, asker: Asker, wanted: &native::Fetch<'_>) -> Result<(), Refusal> {
        let selector = self.desk.limits.parse_selector(&wanted.selector)?;
        let span = self.span(wanted)?;
        if wanted.first != 0 && wanted.last != 0 {
            return Err(Refusal::new(ErrorCode::UnsupportedProperty, "'first' and 'last' do not go together"));
        }
        if (wanted.depth == 0) != (wanted.depth_limit == 0) {
            return Err(Refusal::new(ErrorCode::UnsupportedProperty, "a deep branch has both a depth and a limit of at least 1"));
        }
        let deep = (wanted.depth != 0).then(|| {
            let bounded = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
            DeepLimit { depth: bounded(wanted.depth), count_max: bounded(wanted.depth_limit) }
        });
        let page_max = self.desk.limits.fetch_page_max;
        let (direction, count) = if wanted.last == 0 { (Direction::Forward, wanted.first) } else { (Direction::Backward, wanted.last) };
        let bound =
            |wanted: u64, max: usize| usize::try_from(wanted).ok().filter(|wanted| *wanted > 0).map_or(max, |wanted| wanted.min(max));
        let fetch = Fetch {
            selector: selector.as_str().into(),
            span,
            direction,
            count_max: bound(count, page_max),
            bytes_max: bound(wanted.bytes_max, self.desk.limits.message_bytes_max),
            types: wanted.types,
            shown: Shown { values: wanted.with_values, properties: wanted.with_properties, sizes: wanted.with_sizes },
            deep,
        };
        self.audience.fetch(&mut self.desk, asker, &selector, fetch);
        Ok(())
    }

    /// Which part of path order is meant. The ends need not be topics.
    fn span(&self, wanted: &native::Fetch<'_>) -> Result<Span, Refusal> {
        let place = |name: &str, path: &str| {
            if path.len() > self.desk.limits.path_bytes_max {
                let message = format!("'{name}' is longer than a path may be");
                return Err(Refusal::at(ErrorCode::InvalidPath, self.desk.limits.path_bytes_max, message));
            }
            Ok(TopicPath::of_branch(path))
        };
        let end = |inclusive: (&str, &str), exclusive: (&str, &str)| match (inclusive.1.is_empty(), exclusive.1.is_empty()) {
            (true, true) => Ok(Bound::Unbounded),
            (false, true) => Ok(Bound::Included(place(inclusive.0, inclusive.1)?)),
            (true, false) => Ok(Bound::Excluded(place(exclusive.0, exclusive.1)?)),
            (false, false) => {
                let message = format!("'{}' and '{}' do not go together", inclusive.0, exclusive.0);
                Err(Refusal::new(ErrorCode::UnsupportedProperty, message))
            }
        };
        let start = end(("from", &wanted.from), ("after", &wanted.after))?;
        let end = end(("to", &wanted.to), ("before", &wanted.before))?;
        Ok(Span { start, end })
    }
}

fn no_stream(number: u64) -> Refusal {
    Refusal::new(ErrorCode::InvalidStream, format!("the session has no stream {number}"))
}

fn check_scope(scope: &str, bytes_max: usize) -> Result<(), Refusal> {
    if scope.starts_with('$') {
        return Err(Refusal::at(ErrorCode::InvalidScope, 0, "found $, which starts no scope's name"));
    }
    if scope.len() > bytes_max {
        return Err(Refusal::at(ErrorCode::InvalidScope, bytes_max, format!("a scope's name has at most {bytes_max} bytes")));
    }
    Ok(())
}

fn unknown_type() -> Refusal {
    let message = "there is no such topic type; the types are json, string, int64, double, binary and time_series";
    Refusal::new(ErrorCode::UnknownType, message)
}

/// The type of an update's value.
fn value_type(kind: u8) -> Result<ValueType, Refusal> {
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

fn check_null(kind: ValueType, value: &[u8]) -> Result<(), Refusal> {
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

fn series_range(range: native::QueryRange) -> Result<series::QueryRange, Refusal> {
    use series::{Anchor, Span};
    let malformed = |what: &str, number: u8| Refusal::new(ErrorCode::InvalidQuery, format!("there is no {what} {number} of a range"));
    let anchor = match range.anchor {
        (0, _) => Anchor::Start,
        (1, sequence) => Anchor::Sequence(sequence),
        (2, instant) => Anchor::Instant(instant),
        (3, events) => Anchor::LastEvents(events),
        (4, ms) => Anchor::LastMs(ms),
        (number, _) => return Err(malformed("anchor", number)),
    };
    let span = match range.span {
        (0, _) => Span::End,
        (1, sequence) => Span::ToSequence(sequence),
        (2, instant) => Span::ToInstant(instant),
        (3, events) => Span::NextEvents(events),
        (4, ms) => Span::NextMs(ms),
        (5, events) => Span::UntilLastEvents(events),
        (6, ms) => Span::UntilLastMs(ms),
        (7, events) => Span::PreviousEvents(events),
        (8, ms) => Span::PreviousMs(ms),
        (number, _) => return Err(malformed("span", number)),
    };
    Ok(series::QueryRange { anchor, span })
}
