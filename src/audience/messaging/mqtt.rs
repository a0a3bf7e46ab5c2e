//! Clients of MQTT 5 that ask: a PUBLISH with a response topic is a request where its path has a handler and no topic.
//!
//! It goes to its topic first, as any message, so that what its client publishes keeps its order; only the owner of the path knows whether there is a topic. Where
//! there is none the message becomes a request, and is acknowledged. The answer is published to the response topic, with the correlation data, as if the
//! handler had published it: whoever subscribes to that has it, by the rules for any message. So is an error, which a user property tells.

use crate::audience::Audience;
use crate::base::SessionKey;
use crate::desk::{Desk, Effect, Log};
use crate::gate::{self, Deed};
use crate::mail::messaging::Message;
use crate::mail::{Action, Call, Caller, Change, Making};
use crate::protocol::{ErrorCode, Refusal};
use crate::session::{number_payload, type_properties};
use crate::topic::mqtt::path_of;
use crate::value::ValueType;
use crate::value::json::{JsonLimits, plain};
use crate::wire::mqtt::{MessageProperties, Publish, QoS, put_correlation, put_user_property, reply_properties};
use crate::wire::native::Outcome;
use hashbrown::HashMap;
use std::collections::BTreeMap;

/// The user properties of an answer that is an error: its number, and what it says.
const ERROR_PROPERTY: &str = "tidewire-error";
const REASON_PROPERTY: &str = "tidewire-reason";
/// Of what that says, as much as any client takes.
const REASON_BYTES_MAX: usize = 1000;

/// A message that is to be answered.
struct Reply {
    stage: Stage,
    topic: Box<str>,
    correlation: Option<Box<[u8]>>,
    qos: QoS,
    timeout_ms: u64,
}

enum Stage {
    /// On its way to the topic, if there is one: who is told what came of it, and what it would ask.
    Published { asker: Caller, path: Box<str>, message: Message },
    /// With a handler.
    Asked,
    /// The answer is on its way to the response topic.
    Answered,
}

/// Those of each session here that has any, by number.
#[derive(Default)]
pub struct Replies(HashMap<SessionKey, BTreeMap<u64, Reply>>);

impl Replies {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    fn get_mut(&mut self, session: SessionKey, number: u64) -> Option<&mut Reply> {
        self.0.get_mut(&session)?.get_mut(&number)
    }

    fn remove(&mut self, session: SessionKey, number: u64) -> Option<Reply> {
        let of_session = self.0.get_mut(&session)?;
        let reply = of_session.remove(&number);
        if of_session.is_empty() {
            self.0.remove(&session);
        }
        reply
    }

    /// The session is over.
    pub fn forget(&mut self, session: SessionKey) {
        self.0.remove(&session);
    }
}

impl Audience {
    /// A message on its way to its topic becomes a request where there is none, if it may be one. Gives who is answered then.
    #[inline]
    pub fn ask_by_message(
        &mut self,
        desk: &mut Desk,
        asker: Caller,
        publish: &Publish<'_>,
        path: &str,
        change: &mut Change<'_>,
    ) -> Result<Caller, Refusal> {
        if publish.properties.passed_on.is_empty() || publish.retain || self.messaging.handlers.len() == 0 {
            return Ok(asker);
        }
        self.expect_reply(desk, asker, publish, path, change)
    }

    #[cold]
    fn expect_reply(
        &mut self,
        desk: &mut Desk,
        asker: Caller,
        publish: &Publish<'_>,
        path: &str,
        change: &mut Change<'_>,
    ) -> Result<Caller, Refusal> {
        let Some((topic, correlation)) = reply_properties(&publish.properties.passed_on) else { return Ok(asker) };
        let Action::Message(changed) = &mut change.action else { return Ok(asker) };
        if self.messaging.handlers.choose(path, &[]).is_none() {
            return Ok(asker);
        }
        let rights = self.rights(asker.session);
        gate::path(desk, rights, Deed::SendToHandler, path)?;
        gate::message_path(desk, rights, &path_of(topic))?;
        let replies = self.messaging.replies.0.entry(asker.session).or_default();
        let replies_max = desk.limits.questions_max;
        if replies.len() >= replies_max {
            let message = format!("{replies_max} requests of the session are under way, as many as it may have");
            return Err(Refusal::new(ErrorCode::Overloaded, message));
        }
        changed.making = Making::Asked;
        let message = message_of(desk, publish);
        let reply = Reply {
            stage: Stage::Published { asker, path: path.into(), message },
            topic: topic.into(),
            correlation: correlation.map(Into::into),
            qos: publish.qos,
            timeout_ms: publish.properties.expiry_s.map_or(0, |seconds| (u64::from(seconds) * 1000).max(1)),
        };
        let number = desk.take_ticket();
        replies.insert(number, reply);
        Ok(Caller { session: asker.session, call: Call::Reply { number } })
    }

    /// What came of the message at its topic, of the request, or of its answer at the response topic.
    #[cold]
    pub fn reply_answered(&mut self, desk: &mut Desk, session: SessionKey, number: u64, result: Result<Outcome, Refusal>) {
        // The session may be over.
        let Some(reply) = self.messaging.replies.get_mut(session, number) else { return };
        match std::mem::replace(&mut reply.stage, Stage::Asked) {
            Stage::Published { asker, path, message } => match result {
                Err(Refusal { code: ErrorCode::NoSuchTopic, .. }) => self.ask_instead(desk, asker, number, &path, message),
                result => {
                    self.messaging.replies.remove(session, number);
                    self.answer_mqtt(desk, asker, result);
                }
            },
            Stage::Asked => self.publish_reply(desk, session, number, &result),
            Stage::Answered => {
                self.messaging.replies.remove(session, number);
                result.err().into_iter().for_each(|refusal| self.note_lost_reply(desk, session, refusal));
            }
        }
    }

    /// There is no topic: a handler is asked.
    fn ask_instead(&mut self, desk: &mut Desk, asker: Caller, number: u64, path: &str, message: Message) {
        let session = asker.session;
        let caller = Caller { session, call: Call::Reply { number } };
        let timeout_ms = self.messaging.replies.get_mut(session, number).map_or(0, |reply| reply.timeout_ms);
        let ticket = match self.begin_request(desk, caller, &message) {
            Ok(ticket) => ticket,
            Err(refusal) => {
                self.messaging.replies.remove(session, number);
                return self.answer_mqtt(desk, asker, Err(refusal));
            }
        };
        self.answer_mqtt(desk, asker, Ok(Outcome::Done));
        if let Err(refusal) = self.ask_path(desk, caller, (ticket, timeout_ms), path, message) {
            self.publish_reply(desk, session, number, &Err(refusal));
        }
    }

    /// The answer, or what came instead, goes to the response topic.
    fn publish_reply(&mut self, desk: &mut Desk, session: SessionKey, number: u64, result: &Result<Outcome, Refusal>) {
        let Some(reply) = self.messaging.replies.get_mut(session, number) else { return };
        reply.stage = Stage::Answered;
        let (payload, mut passed_on) = encode(result);
        if let Some(correlation) = &reply.correlation {
            put_correlation(&mut passed_on, correlation);
        }
        let (topic, qos) = (reply.topic.clone(), reply.qos);
        let asker = Caller { session, call: Call::Reply { number } };
        let properties = MessageProperties { passed_on: passed_on.into(), ..MessageProperties::default() };
        if let Err(refusal) = self.publish_for(desk, asker, &topic, qos, &payload, properties) {
            self.messaging.replies.remove(session, number);
            self.note_lost_reply(desk, session, refusal);
        }
    }

    /// The response topic does not take the answer: nobody can be told but the operator.
    fn note_lost_reply(&mut self, desk: &mut Desk, session: SessionKey, refusal: Refusal) {
        desk.report.mqtt_refused += 1;
        let Some(mqtt) = self.mqtt(session) else { return };
        let client_id = (&*mqtt.client_id).into();
        desk.effects.push(Effect::Log(Log::ReplyRefused { client_id, why: refusal.message.into() }));
    }
}

/// What a message asks: its payload, of the type that it says.
fn message_of(desk: &Desk, publish: &Publish<'_>) -> Message {
    let properties = &publish.properties;
    let is_json = properties.content_type.is_some_and(|kind| kind.split(';').next().is_some_and(|kind| kind.trim() == "application/json"));
    if is_json && let Ok(compact) = plain::compact(publish.payload, JsonLimits { depth_max: desk.limits.json_depth_max }) {
        return Message { kind: ValueType::Json as u8, value: Some((&*compact).into()) };
    }
    // That it is UTF-8 was checked.
    let kind = if properties.is_utf8 { ValueType::String } else { ValueType::Binary };
    Message { kind: kind as u8, value: Some(publish.payload.into()) }
}

/// The payload of an answer, and what its properties say of it.
fn encode(result: &Result<Outcome, Refusal>) -> (Vec<u8>, Vec<u8>) {
    match result {
        Ok(Outcome::Response { kind, value: Some(value) }) => {
            let kind = ValueType::from_number(*kind).expect("a response's type was looked at when it came");
            let payload = if matches!(kind, ValueType::Int64 | ValueType::Double) { number_payload(kind, value) } else { value.clone() };
            (payload, type_properties(kind).to_vec())
        }
        Ok(_) => (Vec::new(), Vec::new()),
        Err(refusal) => {
            let end = (0..=REASON_BYTES_MAX.min(refusal.message.len())).rev().find(|end| refusal.message.is_char_boundary(*end));
            let mut properties = Vec::new();
            put_user_property(&mut properties, ERROR_PROPERTY, &refusal.code.code().to_string());
            put_user_property(&mut properties, REASON_PROPERTY, &refusal.message[..end.unwrap_or(0)]);
            (Vec::new(), properties)
        }
    }
}
