//! Updates that another server decides on: made into what travels, and back.

use super::Owner;
use crate::base::{SessionId, Time, TopicId};
use crate::cluster::{self, ArchivedAnswered, ArchivedConstrained, ArchivedContent, ArchivedDeed, ArchivedDenial, ArchivedForward};
use crate::cluster::{ArchivedHead, ArchivedMaking, ArchivedSpecified, Forward, Reply, Source};
use crate::desk::{Answer, Desk, Fate, Forwarder, Said};
use crate::mail::{Action, Change, Conditions, Content, Making, MessageChange, StreamStep};
use crate::protocol::{ErrorCode, Refusal};
use crate::topic::constraint::{Constraint, ConstraintLimits};
use crate::topic::publication::Message;
use crate::topic::specification::{Specification, SpecificationLimits, TopicType};
use crate::topic::tree::StreamTag;
use crate::value::ValueType;
use crate::value::delta::Form;
use crate::wire::mqtt::QoS;
use crate::wire::native::{Append, Outcome};
use std::borrow::Cow;
use std::sync::Arc;

/// Who makes an update: a session of which server, by which principal.
#[derive(Clone, Copy)]
pub struct Maker<'a> {
    pub server: u64,
    pub by: Option<SessionId>,
    pub author: Option<&'a Arc<str>>,
    /// Who has numbered it, and how; `None` where this shard is to.
    pub asked: Option<(Source, u64)>,
}

impl Owner {
    /// An update that another server has forwarded, or this one while it did not lead, to be decided in this term. What is wrong with its bytes is said.
    pub fn update_for_server(
        &mut self,
        desk: &mut Desk,
        (group, term): (u16, u64),
        from: Forwarder,
        bytes: &[u8],
        answer: Answer,
    ) -> Result<(), &'static str> {
        let forward = Forward::access(bytes).ok_or("an update has a form that is not known")?;
        let asked = (from.source, from.number);
        match &forward.deed {
            ArchivedDeed::Remove { id } => {
                let id = id.as_ref().map(|id| TopicId(id.to_native()));
                let (applied, waits) = self.remove_replicated(desk, (group, term), &forward.path, id, asked);
                self.acknowledge_kept(desk, applied, answer, waits);
                return Ok(());
            }
            ArchivedDeed::Find => {
                desk.groups.find(group, term, from, answer);
                return Ok(());
            }
            _ => {}
        }
        let change = change_of(desk, forward)?;
        let author: Option<Arc<str>> = forward.author.as_ref().map(|author| Arc::from(&**author));
        let by = forward.by.as_ref().map(|by| (by.0.to_native(), SessionId::from_number(by.1.to_native())));
        let server = by.map_or(0, |(server, _)| server);
        let maker = Maker { server, by: by.map(|(_, session)| session), author: author.as_ref(), asked: Some(asked) };
        let received = desk.turn.now;
        let (applied, waits) = self.propose_update(desk, (group, term), maker, &forward.path, &change, received);
        self.acknowledge_kept(desk, applied, answer, waits);
        Ok(())
    }
}

/// What travels of an update.
pub fn forward_of(desk: &Desk, maker: Maker<'_>, path: &str, change: &Change<'_>) -> Vec<u8> {
    let name = |session: SessionId| (maker.server, session.number());
    let conditions = change.conditions.as_deref();
    let constraint = conditions.and_then(|conditions| conditions.constraint.as_ref());
    let locks = constraint.map(Constraint::settled_locks).unwrap_or_default();
    let constraint = constraint.map(|constraint| {
        let text = constraint.text().expect("it is kept where another server may decide");
        cluster::Constrained { text, locks: &locks }
    });
    let stream = conditions.and_then(|conditions| conditions.stream).map(|StreamStep { stream, opens, ordinal }| cluster::Step {
        session: (stream.server, stream.session.number()),
        number: stream.number,
        opens,
        ordinal,
    });
    let unless_owner = conditions.and_then(|conditions| conditions.unless_owner.as_ref()).map(denial_of);
    let forward = Forward {
        path,
        by: maker.by.map(name),
        author: maker.author.map(|author| &**author),
        deed: deed_of(desk, maker, &change.action),
        constraint,
        stream,
        is_own: conditions.is_some_and(|conditions| conditions.is_own),
        unless_owner,
    };
    forward.encode()
}

/// What travels of the removal of the topic at the path, or of none but that which has this number.
pub fn removal_of(path: &str, id: Option<TopicId>) -> Vec<u8> {
    Forward::removal(path, id.map(|id| id.0)).encode()
}

fn deed_of<'a>(desk: &Desk, maker: Maker<'_>, action: &'a Action<'_>) -> cluster::Deed<'a> {
    match action {
        Action::Add(specification) => cluster::Deed::Add(specified(specification)),
        Action::Set(content) => cluster::Deed::Set(content_of(content)),
        Action::AddAndSet(specification, content) => cluster::Deed::AddAndSet(specified(specification), content_of(content)),
        Action::Check(kind) => cluster::Deed::Check { kind: *kind as u8 },
        Action::Patch(text) => cluster::Deed::Patch(text),
        Action::Delta(form, bytes) => cluster::Deed::Delta { is_copy: *form == Form::Copy, bytes },
        Action::Append(append, content) => {
            let (original, timestamp_ms) = match *append {
                Append::Original { timestamp_ms } => (None, timestamp_ms),
                Append::Edit { original } => (Some(original), None),
            };
            cluster::Deed::Append { original, timestamp_ms, content: content_of(content) }
        }
        Action::Message(message) => {
            let MessageChange { payload, head, making } = &**message;
            let making = match making {
                Making::Refused => cluster::Making::Refused,
                Making::Denied => cluster::Making::Denied,
                Making::Asked => cluster::Making::Asked,
                Making::Of(specification) => cluster::Making::Of(specified(specification)),
            };
            let head = cluster::Head {
                qos: head.qos as u8,
                retain: head.retain,
                is_passing: head.is_passing,
                is_clearing: head.is_clearing,
                left_ms: head.expires.map(|expires| expires.since(desk.turn.now) / 1_000_000),
                origin: head.origin.map(|session| (maker.server, session.number())),
                passed_on: &head.passed_on,
            };
            cluster::Deed::Message { payload, head, making }
        }
    }
}

fn specified(specification: &Specification) -> cluster::Specified<'static> {
    let properties = specification.properties().map(|(key, value)| (key.into(), value.into())).collect();
    cluster::Specified { kind: specification.topic_type().number(), properties: Cow::Owned(properties) }
}

fn content_of<'a>(content: &'a Content<'_>) -> cluster::Content<'a> {
    cluster::Content { kind: content.kind as u8, value: content.value.as_deref() }
}

fn denial_of(refusal: &Refusal) -> cluster::Denial {
    let Refusal { code, position, message } = refusal;
    cluster::Denial { code: code.code(), position: position.map(|position| position as u64), message: message.clone() }
}

fn change_of<'a>(desk: &mut Desk, forward: &'a ArchivedForward<'_>) -> Result<Change<'a>, &'static str> {
    let action = match &forward.deed {
        ArchivedDeed::Add(specification) => Action::Add(specification_of(desk, specification)?),
        ArchivedDeed::Set(content) => Action::Set(value_of(content)?),
        ArchivedDeed::AddAndSet(specification, content) => Action::AddAndSet(specification_of(desk, specification)?, value_of(content)?),
        ArchivedDeed::Check { kind } => Action::Check(kind_of(*kind)?),
        ArchivedDeed::Patch(text) => Action::Patch(Cow::Borrowed(text)),
        ArchivedDeed::Delta { is_copy, bytes } => {
            Action::Delta(if *is_copy { Form::Copy } else { Form::Deflate }, Cow::Borrowed(&bytes[..]))
        }
        ArchivedDeed::Append { original, timestamp_ms, content } => {
            let timestamp_ms = timestamp_ms.as_ref().map(|ms| ms.to_native());
            let append = match original.as_ref() {
                None => Append::Original { timestamp_ms },
                Some(original) => Append::Edit { original: original.to_native() },
            };
            Action::Append(append, value_of(content)?)
        }
        ArchivedDeed::Remove { .. } | ArchivedDeed::Find => return Err("what is no update as one"),
        ArchivedDeed::Message { payload, head, making } => {
            let making = match making {
                ArchivedMaking::Refused => Making::Refused,
                ArchivedMaking::Denied => Making::Denied,
                ArchivedMaking::Asked => Making::Asked,
                ArchivedMaking::Of(specification) => Making::Of(specification_of(desk, specification)?),
            };
            let head = head_of(desk.turn.now, head)?;
            Action::Message(Box::new(MessageChange { payload: Cow::Borrowed(&payload[..]), head, making }))
        }
    };
    Ok(Change { action, conditions: conditions_of(desk, forward)? })
}

fn conditions_of(desk: &Desk, forward: &ArchivedForward<'_>) -> Result<Option<Box<Conditions>>, &'static str> {
    let constraint = forward.constraint.as_ref().map(|constraint| constraint_of(desk, constraint)).transpose()?;
    let stream = forward.stream.as_ref().map(|step| {
        let session = SessionId::from_number(step.session.1.to_native());
        let stream = StreamTag { server: step.session.0.to_native(), session, number: step.number.to_native() };
        StreamStep { stream, opens: step.opens, ordinal: step.ordinal.to_native() }
    });
    let unless_owner = forward.unless_owner.as_ref().map(refusal_of).transpose()?;
    if constraint.is_none() && stream.is_none() && unless_owner.is_none() && !forward.is_own {
        return Ok(None);
    }
    Ok(Some(Box::new(Conditions { constraint, stream, is_own: forward.is_own, unless_owner })))
}

fn constraint_of(desk: &Desk, constraint: &ArchivedConstrained<'_>) -> Result<Constraint, &'static str> {
    let limits = ConstraintLimits { json_depth_max: desk.limits.json_depth_max, ..desk.limits.constraint };
    let mut parsed = Constraint::parse(&constraint.text, limits).map_err(|_| "a constraint that this server does not know")?;
    let mut locks = constraint.locks.iter();
    parsed.settle_locks(|_, _| locks.next().copied().unwrap_or(false));
    Ok(parsed)
}

fn specification_of(desk: &mut Desk, specification: &ArchivedSpecified<'_>) -> Result<Arc<Specification>, &'static str> {
    let kind = TopicType::from_number(specification.kind).ok_or("a topic type that this server does not know")?;
    let properties = specification.properties.iter().map(|pair| (&*pair.0, &*pair.1));
    let parsed = Specification::parse(kind, properties, SpecificationLimits::default());
    Ok(desk.specifications.intern(parsed.map_err(|_| "a topic property that this server does not know")?))
}

fn kind_of(kind: u8) -> Result<ValueType, &'static str> {
    ValueType::from_number(kind).ok_or("a value type that this server does not know")
}

fn value_of<'a>(content: &'a ArchivedContent<'_>) -> Result<Content<'a>, &'static str> {
    Ok(Content { kind: kind_of(content.kind)?, value: content.value.as_ref().map(|value| Cow::Borrowed(&value[..])) })
}

fn head_of(now: Time, head: &ArchivedHead<'_>) -> Result<Message, &'static str> {
    Ok(Message {
        qos: QoS::from_number(head.qos).ok_or("a quality of service that this server does not know")?,
        retain: head.retain,
        is_passing: head.is_passing,
        is_clearing: head.is_clearing,
        expires: head.left_ms.as_ref().map(|left| now.after_ms(left.to_native())),
        // By its number at its server, which the entry names.
        origin: head.origin.as_ref().map(|origin| SessionId::from_number(origin.1.to_native())),
        publisher: None,
        passed_on: head.passed_on.as_ref().into(),
    })
}

fn refusal_of(denial: &ArchivedDenial) -> Result<Refusal, &'static str> {
    Ok(Refusal {
        code: ErrorCode::from_code(denial.code.to_native()).ok_or("an error code that this server does not know")?,
        position: denial.position.as_ref().map(|position| position.to_native() as usize),
        message: denial.message.as_str().to_owned(),
    })
}

/// What travels of an answer.
pub fn reply_of(said: &Said) -> Vec<u8> {
    let (result, index) = match said {
        Said::Result(result, index) => (answered_of(result), *index),
        Said::NotMade => (cluster::Answered::NotMade, 0),
        Said::Lost(Fate::Void) => (cluster::Answered::NotLeading, 0),
        Said::Lost(Fate::Unknown) => (cluster::Answered::Unknown, 0),
    };
    Reply { result, index }.encode()
}

fn answered_of(result: &Result<Outcome, Refusal>) -> cluster::Answered {
    match result {
        Ok(Outcome::Created(is_new)) => cluster::Answered::Created(*is_new),
        Ok(Outcome::Removed(count)) => cluster::Answered::Removed(*count),
        Ok(Outcome::Appended { sequence, timestamp_ms }) => {
            cluster::Answered::Appended { sequence: *sequence, timestamp_ms: *timestamp_ms }
        }
        // No update has another.
        Ok(_) => cluster::Answered::Done,
        Err(refusal) => cluster::Answered::Refused(denial_of(refusal)),
    }
}

/// Reads what [`reply_of`] wrote; `None` where this version does not know what it says.
pub fn replied(bytes: &[u8]) -> Option<Said> {
    let reply = Reply::access(bytes)?;
    let index = reply.index.to_native();
    let result = match &reply.result {
        ArchivedAnswered::NotLeading => return Some(Said::Lost(Fate::Void)),
        ArchivedAnswered::Unknown => return Some(Said::Lost(Fate::Unknown)),
        ArchivedAnswered::NotMade => return Some(Said::NotMade),
        ArchivedAnswered::Done => Ok(Outcome::Done),
        ArchivedAnswered::Created(is_new) => Ok(Outcome::Created(*is_new)),
        ArchivedAnswered::Removed(count) => Ok(Outcome::Removed(count.to_native())),
        ArchivedAnswered::Appended { sequence, timestamp_ms } => {
            Ok(Outcome::Appended { sequence: sequence.to_native(), timestamp_ms: timestamp_ms.to_native() })
        }
        ArchivedAnswered::Refused(denial) => Err(refusal_of(denial).ok()?),
    };
    Some(Said::Result(result, index))
}
