//! Sessions of MQTT: their filters, and the messages that both sides still have to acknowledge.
//!
//! - here — acknowledgements of both sides.
//! - `subscribe` — filters, and the retained messages that they find.
//! - `publish` — messages of clients on their way to topics, and wills.
//! - `deliver` — messages on their way to clients.
//! - `share` — shared subscriptions.
//! - `connect` — a client's session and its connections; `clients` — who has which.
//! - `store` — what is kept of sessions through a restart; `record` — how sessions are written; `old_record` — how they were.

mod clients;
mod connect;
mod deliver;
mod old_record;
mod publish;
mod record;
mod share;
mod store;
mod subscribe;

pub use clients::Clients;
pub use connect::Connected;
pub use publish::Published;
pub use store::{home_of, is_unfinished, session_of};

use crate::audience::Audience;
use crate::base::SessionKey;
use crate::desk::{Answer, Desk, Why};
use crate::mail::{Call, Caller};
use crate::protocol::Refusal;
use crate::protocol::mqtt::{Answers, reason_of};
use crate::session::mqtt::{Acknowledged, Inbound};
use crate::session::{Entry, Mqtt};
use crate::wire::mqtt::{Acknowledgement, AcknowledgementKind, ReasonCode, Version};
use crate::wire::native::Outcome;

impl Audience {
    pub fn mqtt(&mut self, session: SessionKey) -> Option<&mut Mqtt> {
        self.sessions.get_mut(session)?.mqtt.as_deref_mut()
    }

    pub fn take_acknowledgement(&mut self, desk: &mut Desk, session: SessionKey, acknowledgement: Acknowledgement) {
        let Acknowledgement { kind, id, code } = acknowledgement;
        let mqtt = self.mqtt(session).expect("a client that says something has a session");
        // What it acknowledges it has been sent behind CONNACK.
        mqtt.missed_told = 0;
        let epoch = mqtt.epoch;
        let outbound = &mut mqtt.outbound;
        if kind == AcknowledgementKind::Pubrec
            && !code.is_error()
            && let Some(sequence) = outbound.to_receive(id)
        {
            // The client forgets the identifier by PUBREL: from then on the message must not come again, whatever happens.
            let ticket = self.note_received(desk, session, sequence);
            return desk.acknowledge(Ok((Outcome::Done, ticket)), Answer::Received { session, id, epoch });
        }
        let result = match kind {
            AcknowledgementKind::Puback => outbound.acknowledge(id),
            AcknowledgementKind::Pubrec if code.is_error() => outbound.give_up(id),
            AcknowledgementKind::Pubrec => outbound.receive(id),
            AcknowledgementKind::Pubrel | AcknowledgementKind::Pubcomp => outbound.complete(id),
        };
        match result {
            Acknowledged::Done { sequence } => {
                self.forget_message(desk, session, sequence);
                self.tell_groups(desk, session);
                self.wake_session(desk, session);
            }
            Acknowledged::Received => self.acknowledge_to(desk, session, AcknowledgementKind::Pubrel, id, ReasonCode::SUCCESS, None),
            Acknowledged::Unknown if kind == AcknowledgementKind::Pubrec && !code.is_error() => {
                self.acknowledge_to(desk, session, AcknowledgementKind::Pubrel, id, ReasonCode::PACKET_IDENTIFIER_NOT_FOUND, None);
            }
            Acknowledged::Unknown => {}
        }
    }

    /// PUBREL: the identifier is free again.
    pub fn release_message(&mut self, desk: &mut Desk, session: SessionKey, id: u16) {
        let mqtt = self.mqtt(session).expect("a client that says something has a session");
        let epoch = mqtt.epoch;
        let code = match mqtt.inbound_mut().remove(id) {
            Some(_) => ReasonCode::SUCCESS,
            None => ReasonCode::PACKET_IDENTIFIER_NOT_FOUND,
        };
        let is_kept = mqtt.stored.is_some();
        // The client uses the identifier again after PUBCOMP: from then on it must not stand for this message, whatever happens. PUBREL may come a
        // second time while the first is not stored.
        let ticket = self.forget_inbound(desk, session, id).or_else(|| desk.ledger.earlier().filter(|_| is_kept));
        desk.acknowledge(Ok((Outcome::Done, ticket)), Answer::Completed { session, id, epoch, code });
    }

    /// It is stored that the client has received a message.
    pub fn received_stored(&mut self, desk: &mut Desk, session: SessionKey, id: u16, epoch: u32) {
        // The session may be over.
        let Some(mqtt) = self.mqtt(session) else { return };
        // On a newer connection it is on its way again, and so will be PUBREC.
        if mqtt.epoch == epoch && mqtt.outbound.receive(id) == Acknowledged::Received {
            self.acknowledge_to(desk, session, AcknowledgementKind::Pubrel, id, ReasonCode::SUCCESS, None);
        }
    }

    /// It is stored that the client has released a message.
    pub fn completed_stored(&mut self, desk: &mut Desk, session: SessionKey, id: u16, epoch: u32, code: ReasonCode) {
        if self.mqtt(session).is_some_and(|mqtt| mqtt.epoch == epoch) {
            self.acknowledge_to(desk, session, AcknowledgementKind::Pubcomp, id, code, None);
        }
    }

    pub fn acknowledge_to(
        &mut self,
        desk: &mut Desk,
        session: SessionKey,
        kind: AcknowledgementKind,
        id: u16,
        code: ReasonCode,
        why: Option<&str>,
    ) {
        self.reply(desk, session, |answers, out| answers.put_acknowledgement(out, Acknowledgement { kind, id, code }, why));
    }

    /// Queues what `put` writes, where the session has a connection.
    pub fn reply(&mut self, desk: &mut Desk, session: SessionKey, put: impl FnOnce(&mut Answers, &mut Vec<u8>)) {
        let mqtt = self.mqtt(session).expect("the session was found to be one of MQTT");
        let Some(answers) = mqtt.answers.as_mut() else { return };
        let mut bytes = Vec::new();
        put(answers, &mut bytes);
        if !bytes.is_empty() {
            self.push(desk, session, Entry::Control(bytes.into_boxed_slice()));
        }
    }

    /// An owner's answer to what this session's client asked.
    pub fn answer_mqtt(&mut self, desk: &mut Desk, to: Caller, result: Result<Outcome, Refusal>) {
        if let Err(refusal) = &result {
            self.note_denied(desk, to.session, "publish", refusal);
        }
        let mqtt = self.mqtt(to.session).expect("the session was found to be one of MQTT");
        let epoch = mqtt.epoch;
        match (to.call, result) {
            (Call::PublishOnce { id }, Ok(_)) => {
                // The client may have asked again by another connection.
                if let Some(state) = mqtt.inbound_mut().get_mut(id) {
                    *state = Inbound::Received;
                    self.acknowledge_to(desk, to.session, AcknowledgementKind::Pubrec, id, ReasonCode::SUCCESS, None);
                }
            }
            (Call::PublishOnce { id }, Err(refusal)) => {
                // A client that has connected again since, and has not sent the message again yet, will do so.
                let Some(Inbound::Given { epoch: asked }) = mqtt.inbound().get(id) else { return };
                let is_told = asked == epoch && mqtt.version == Version::V5;
                let noted = mqtt.stored.as_ref().and_then(|stored| stored.inbound.get(&id));
                match noted.filter(|_| !is_told) {
                    // The client sends it again. It may have reached some sessions already, where storage failed for others.
                    Some(number) => drop(mqtt.inbound_mut().insert(id, Inbound::Lost { number })),
                    None => {
                        mqtt.inbound_mut().remove(id);
                        self.forget_inbound(desk, to.session, id);
                    }
                }
                if asked == epoch {
                    self.refuse_message(desk, to.session, AcknowledgementKind::Pubrec, id, refusal);
                }
            }
            (Call::Join { number }, result) => self.group_known(desk, to.session, number, result),
            (Call::PublishAcknowledged { epoch: of, .. } | Call::Subscribe { epoch: of, .. }, _) if of != epoch => {}
            (Call::PublishAcknowledged { id, .. }, Ok(_)) => {
                self.acknowledge_to(desk, to.session, AcknowledgementKind::Puback, id, ReasonCode::SUCCESS, None);
            }
            (Call::PublishAcknowledged { id, .. }, Err(refusal)) => {
                self.refuse_message(desk, to.session, AcknowledgementKind::Puback, id, refusal)
            }
            (Call::Subscribe { id, .. }, _) => self.filter_known(desk, to.session, id),
            (Call::Unheard | Call::Will { .. } | Call::Authentication { .. } | Call::Reply { .. } | Call::Request(_), _)
            | (Call::Publish, Ok(_)) => {}
            // At QoS 0 there is no other way to tell.
            (Call::Publish, Err(refusal)) => self.give_up(desk, to.session, Why::Refused(refusal)),
        }
    }

    /// A message is not taken. MQTT 3.x has no word for that but the end of the connection: an acknowledgement would say that it was.
    pub fn refuse_message(&mut self, desk: &mut Desk, session: SessionKey, kind: AcknowledgementKind, id: u16, refusal: Refusal) {
        desk.report.mqtt_refused += 1;
        let mqtt = self.mqtt(session).expect("the session was found to be one of MQTT");
        if mqtt.version == Version::V5 {
            self.acknowledge_to(desk, session, kind, id, reason_of(refusal.code), Some(&refusal.message));
        } else {
            self.give_up(desk, session, Why::Refused(refusal));
        }
    }
}
