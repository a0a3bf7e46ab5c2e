//! Messages of clients on their way to topics, and wills.

use crate::audience::Audience;
use crate::base::SessionKey;
use crate::desk::{Answer, Desk, Effect, Log};
use crate::gate::{self, Deed};
use crate::mail::{Action, Call, Caller, Change, Conditions, Mail, Making, MessageChange, Update};
use crate::protocol::{ErrorCode, Refusal};
use crate::security::PathPermission;
use crate::session::mqtt::Inbound;
use crate::topic::mqtt::{is_of_bridge, path_of};
use crate::topic::mqtt_rule::RuleKind;
use crate::topic::path::TopicPath;
use crate::topic::publication::{self, Publisher};
use crate::topic::specification::{Specification, SpecificationLimits, TopicType};
use crate::wire::mqtt::{AcknowledgementKind, Fault, MessageProperties, Publish, QoS, ReasonCode};
use crate::wire::native::Outcome;
use std::borrow::Cow;

/// A message that goes to its topic.
pub struct Published<'a> {
    pub asker: Caller,
    pub path: Cow<'a, str>,
    pub change: Change<'a>,
}

/// A message as a client or its will gives it.
struct Given<'a> {
    name: &'a str,
    qos: QoS,
    retain: bool,
    payload: &'a [u8],
    properties: MessageProperties<'a>,
    /// What tells it from other messages, where it is a QoS 2 message of a session that is kept.
    publisher: Option<Publisher>,
}

impl Audience {
    /// A client publishes. Gives the change of the topic, where it may be made now.
    pub fn publish_mqtt<'a>(
        &mut self,
        desk: &mut Desk,
        session: SessionKey,
        publish: &'a Publish<'_>,
    ) -> Result<Option<Published<'a>>, Fault> {
        let receive_maximum = desk.limits.mqtt.receive_maximum;
        let mqtt = self.mqtt(session).expect("a client that says something has a session");
        mqtt.answers.as_mut().expect("a client that says something is connected").take_publish(publish.qos, receive_maximum)?;
        desk.report.mqtt_received += 1;
        let epoch = mqtt.epoch;
        let (mut publisher, mut ticket) = (None, None);
        let call = match publish.qos {
            QoS::AtMostOnce => Call::Publish,
            QoS::AtLeastOnce => Call::PublishAcknowledged { id: publish.id, epoch },
            QoS::ExactlyOnce => match mqtt.inbound_mut().insert(publish.id, Inbound::Given { epoch }) {
                None => {
                    (publisher, ticket) =
                        self.note_inbound(desk, session, publish.id).map_or((None, None), |(publisher, ticket)| (Some(publisher), ticket));
                    Call::PublishOnce { id: publish.id }
                }
                Some(Inbound::Lost { number }) => {
                    publisher = self.publisher_of(session, number);
                    Call::PublishOnce { id: publish.id }
                }
                Some(Inbound::Given { .. }) => {
                    self.answer_repeated(desk, session, publish.id, false);
                    return Ok(None);
                }
                Some(Inbound::Received) => {
                    mqtt.inbound_mut().insert(publish.id, Inbound::Received);
                    self.answer_repeated(desk, session, publish.id, true);
                    return Ok(None);
                }
            },
        };
        let given = Given {
            name: &publish.topic,
            qos: publish.qos,
            retain: publish.retain,
            payload: publish.payload,
            properties: publish.properties.clone(),
            publisher,
        };
        let asker = Caller { session, call };
        let changed = self.change_of(desk, asker, given).and_then(|(path, mut change)| {
            let asker = self.ask_by_message(desk, asker, publish, &path, &mut change)?;
            Ok((asker, path, change))
        });
        match changed {
            Ok((asker, path, change)) if ticket.is_some() => {
                // Its number must not stand for another message after a restart, so nobody is sent it before the number is stored.
                let answer = Answer::Route { asker: asker.into(), path: (&*path).into(), change: Box::new(change.into_owned()) };
                desk.acknowledge(Ok((Outcome::Done, ticket)), answer);
                Ok(None)
            }
            Ok((asker, path, change)) => Ok(Some(Published { asker, path, change })),
            Err(refusal) => {
                self.answer_mqtt(desk, asker, Err(refusal));
                Ok(None)
            }
        }
    }

    /// MQTT-4.3.3-10: the same identifier again is the same message.
    fn answer_repeated(&mut self, desk: &mut Desk, session: SessionKey, id: u16, is_received: bool) {
        let mqtt = self.mqtt(session).expect("a client that says something has a session");
        mqtt.answers.as_mut().expect("a client that says something is connected").repeated();
        if is_received {
            self.acknowledge_to(desk, session, AcknowledgementKind::Pubrec, id, ReasonCode::SUCCESS, None);
        }
    }

    /// The will of a session whose client is lost.
    pub fn publish_will(&mut self, desk: &mut Desk, session: SessionKey) {
        let Some(mqtt) = self.mqtt(session) else { return };
        let Some(will) = mqtt.will.take() else { return };
        let given = Given {
            name: &will.topic,
            qos: will.qos,
            retain: will.retain,
            payload: &will.payload,
            properties: MessageProperties {
                expiry_s: will.expiry_s,
                is_utf8: will.is_utf8,
                content_type: will.content_type.as_deref(),
                passed_on: Cow::Borrowed(&will.passed_on),
            },
            publisher: None,
        };
        let client_id = self.mqtt(session).expect("it was just there").client_id.clone();
        self.broker.last_will = self.broker.last_will.wrapping_add(1);
        let number = self.broker.last_will;
        let asker = Caller { session, call: Call::Will { number } };
        match self.change_of(desk, asker, given) {
            Ok((path, change)) => {
                // By mail also to this shard: a client may be lost while something is delivered to others, which must have that first.
                let (from, received, change) = (desk.identity.index, desk.turn.now, change.into_owned());
                let (by, author) = (self.id_of(session), self.author_of(session));
                let update = Update { from, to: asker.into(), by, author, path: TopicPath::of_branch(&path), change, received };
                desk.mail(desk.owner_of(&path), Mail::Update(update));
                self.broker.wills.insert(number, (client_id, will.topic));
            }
            Err(refusal) => {
                self.note_denied(desk, session, "will", &refusal);
                log_refused_will(desk, &client_id, &will.topic, refusal);
            }
        }
    }

    /// Publishes for a session what its client is answered: no message of that client, so it has it also where it wants none of its own.
    pub fn publish_for(
        &mut self,
        desk: &mut Desk,
        asker: Caller,
        name: &str,
        qos: QoS,
        payload: &[u8],
        properties: MessageProperties<'_>,
    ) -> Result<(), Refusal> {
        let given = Given { name, qos, retain: false, payload, properties, publisher: None };
        let (path, change) = self.change_of(desk, asker, given)?;
        let (from, received, mut change) = (desk.identity.index, desk.turn.now, change.into_owned());
        if let Action::Message(message) = &mut change.action {
            message.head.origin = None;
        }
        let (by, author) = (self.id_of(asker.session), self.author_of(asker.session));
        let update = Update { from, to: asker.into(), by, author, path: TopicPath::of_branch(&path), change, received };
        desk.mail(desk.owner_of(&path), Mail::Update(update));
        Ok(())
    }

    /// A will has come to its topic. Its client is not there, and its session may be over: a refusal is told to the operator.
    pub fn will_answered(&mut self, desk: &mut Desk, number: u32, result: Result<Outcome, Refusal>) {
        let (client_id, topic) = self.broker.wills.remove(&number).expect("a will is answered once");
        if let Err(refusal) = result {
            log_refused_will(desk, &client_id, &topic, refusal);
        }
    }

    /// The path of a message, and what the message is to the topic there.
    fn change_of<'a>(&mut self, desk: &mut Desk, asker: Caller, given: Given<'a>) -> Result<(Cow<'a, str>, Change<'a>), Refusal> {
        let path = path_of(given.name);
        gate::check_message_path(desk, &path)?;
        let allowed = gate::at(self.rights(asker.session), Deed::Set, &path);
        let unless_owner = self.leave_to_owner(desk, asker.session, allowed)?;
        if given.payload.len() > desk.limits.value_bytes_max {
            let mqtt = self.mqtt(asker.session).expect("a client that says something has a session");
            desk.note_oversized((&*mqtt.client_id).into(), "limits.value_bytes_max");
            let message = format!(
                "the payload has {} bytes, more than limits.value_bytes_max = {}",
                given.payload.len(),
                desk.limits.value_bytes_max
            );
            return Err(Refusal::new(ErrorCode::ValueTooLarge, message));
        }
        if given.properties.is_utf8 && std::str::from_utf8(given.payload).is_err() {
            return Err(Refusal::new(ErrorCode::InvalidValue, "the payload is not UTF-8, as its payload format says"));
        }
        let (mut making, keeps) = self.making(desk, &path)?;
        let head = publication::Message {
            qos: given.qos,
            retain: given.retain,
            is_passing: !given.retain && !keeps,
            is_clearing: false,
            expires: given.properties.expiry_s.map(|seconds| desk.turn.now.after_ms(u64::from(seconds) * 1000)),
            origin: self.id_of(asker.session),
            publisher: given.publisher.map(Box::new),
            passed_on: given.properties.passed_on.into(),
        };
        // A message that passes by leaves no topic.
        if !head.is_passing && !self.rights(asker.session).may(&path, PathPermission::ModifyTopic) {
            making = Making::Denied;
        }
        let message = MessageChange { payload: Cow::Borrowed(given.payload), head, making };
        let conditions = unless_owner.map(|refusal| Box::new(Conditions { unless_owner: Some(refusal), ..Conditions::default() }));
        Ok((path, Change { action: Action::Message(Box::new(message)), conditions }))
    }

    /// What a topic would be that is not there, by the rules, and whether what is published without retain becomes its value too. A payload is the
    /// application's: what a message says of its own binds no other, so without a rule a topic takes any.
    fn making(&mut self, desk: &mut Desk, path: &str) -> Result<(Making, bool), Refusal> {
        if is_of_bridge(path) {
            // As all below `$SYS` it is of this run: whoever is connected says so again.
            let parsed = Specification::parse(TopicType::Binary, [("PERSISTENT", "false")].into_iter(), SpecificationLimits::default());
            let specification = parsed.expect("the property is of every type");
            return Ok((Making::Of(desk.specifications.intern(specification)), false));
        }
        let rules = desk.limits.mqtt.rules.clone();
        let rule = rules.find(path);
        let keeps = rule.is_some_and(|rule| rule.keeps);
        let topic_type = match rule.map(|rule| rule.kind) {
            Some(RuleKind::Refuse) => return Ok((Making::Refused, keeps)),
            Some(RuleKind::Of(value_type)) => value_type.into(),
            None => TopicType::Binary,
        };
        let Some(rule) = rule.filter(|rule| !rule.properties.is_empty()) else {
            return Ok((Making::Of(desk.specifications.plain(topic_type)), keeps));
        };
        // The rules stand as long as the server, so a rule's place in memory tells it from others.
        let of_rule = (std::ptr::from_ref(rule).addr(), topic_type.number());
        if let Some(made) = self.broker.of_rules.get(&of_rule) {
            return Ok((Making::Of(made.clone()), keeps));
        }
        let pairs = rule.properties.iter().map(|(key, value)| (&**key, &**value));
        let parsed = Specification::parse(topic_type, pairs, SpecificationLimits::default())
            .map_err(|error| Refusal::new(ErrorCode::InvalidProperty, error.to_string()))?;
        let made = desk.specifications.intern(parsed);
        self.broker.of_rules.insert(of_rule, made.clone());
        Ok((Making::Of(made), keeps))
    }
}

fn log_refused_will(desk: &mut Desk, client_id: &str, topic: &str, refusal: Refusal) {
    desk.report.mqtt_refused += 1;
    let why = refusal.message.into();
    desk.effects.push(Effect::Log(Log::WillRefused { client_id: client_id.into(), topic: topic.into(), why }));
}
