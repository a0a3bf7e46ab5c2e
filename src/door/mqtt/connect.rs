//! CONNECT: which shard a client belongs to, taking over from an earlier connection, and going on with a session.
//!
//! A client's session lives on the shard that its identifier names, whichever shard its connections come to: the first packet is read where the
//! connection was accepted, and the socket goes to the client's shard with all that was read. So there is one session to an identifier, and nothing of
//! it is looked for elsewhere.

use super::{Link, put_packet};
use crate::audience::Audience;
use crate::audience::mqtt::Connected;
use crate::base::{ConnectionKey, SessionKey, Time};
use crate::desk::{AuditOutcome, Desk, Effect, Handover};
use crate::door::audit::{Caller, MQTT};
use crate::door::{Connection, Doors, STALE, Stage, Unidentified};
use crate::gate;
use crate::protocol::{ErrorCode, Refusal};
use crate::session::mqtt::Will;
use crate::session::{Checked, MqttForm, Session, Who};
use crate::topic::mqtt::path_of;
use crate::wire::mqtt::{Connack, Connect, Fault, ReasonCode, Version};
use std::num::NonZeroU16;
use std::rc::Rc;

/// What CONNACK says of the session.
struct Opening<'a> {
    session: SessionKey,
    is_present: bool,
    assigned: Option<&'a str>,
    /// The last word of an authentication.
    answer: Option<&'a [u8]>,
    /// Messages that the session had no room for.
    missed: u32,
}

impl Doors {
    /// Takes up a connection that another shard accepted; `None` where the shard holds as many as it may, and the transport should end.
    pub fn take_over_transport(&mut self, desk: &mut Desk, handover: Handover) -> Option<ConnectionKey> {
        let (key, unread, raw, arrival) = match handover {
            Handover::Mqtt { is_websocket, stream, unread, raw, arrival } => {
                let mut link = Link::new(is_websocket);
                link.keep_stream(stream);
                (self.admit(desk, Stage::Mqtt(link))?, unread, raw, arrival)
            }
            Handover::Native { native, unread, raw, arrival } => (self.take_native(desk, *native)?, unread, raw, arrival),
        };
        let connection = self.connections.get_mut(key).expect("it was just admitted");
        (connection.unread, connection.arrival) = (unread, arrival);
        if !raw.is_empty() {
            connection.raw = raw;
            desk.effects.wake(key);
        }
        Some(key)
    }

    /// Gives a connection up that belongs to another shard.
    pub(in crate::door) fn hand_over(&mut self, desk: &mut Desk, key: ConnectionKey) {
        desk.effects.close(key);
        let Connection { stage, unread, raw, arrival, .. } = self.connections.remove(key).expect("a connection that is read is there");
        let Stage::Mqtt(mut link) = stage else { unreachable!("only a client of MQTT may belong to another shard") };
        let home = link.home.expect("CONNECT named the client's shard");
        let handover = Handover::Mqtt { is_websocket: link.is_websocket, stream: link.take_stream(), unread, raw, arrival };
        desk.effects.push(Effect::HandOver(key, home, Box::new(handover)));
    }

    pub(super) fn hear_connect(
        &mut self,
        desk: &mut Desk,
        audience: &mut Audience,
        key: ConnectionKey,
        connect: &Connect<'_>,
        body: &[u8],
    ) {
        let home = match connect.client_id {
            "" => desk.identity.index,
            client_id => desk.owner_of(client_id),
        };
        if home != desk.identity.index {
            self.link(key).expect("CONNECT has just come by it").home = Some(home);
            return;
        }
        if desk.turn.is_stopping {
            return self.close_with(desk, audience, key, ReasonCode::SERVER_SHUTTING_DOWN, "the server is stopping");
        }
        // One for a topic that is the server's own is not published when it comes to it, and its client's messages go on until then.
        let is_refused = |refusal: Refusal| refusal.code != ErrorCode::ReservedPath;
        if connect.will.as_ref().is_some_and(|will| gate::check_message_path(desk, &path_of(will.topic)).is_err_and(is_refused)) {
            let fault = Fault::new(ReasonCode::TOPIC_NAME_INVALID, "the will's topic cannot be published to");
            return self.close_faulty(desk, audience, key, fault);
        }
        match connect.authentication {
            Some(_) => self.begin_authentication(desk, audience, key, connect, body),
            None if desk.limits.authenticates => self.begin_identification(desk, key, connect, body),
            None => self.admit_client(desk, audience, key, connect, None, None),
        }
    }

    /// The client is who it says: it gets its session. `answer` is the last word of its authentication.
    pub(super) fn admit_client(
        &mut self,
        desk: &mut Desk,
        audience: &mut Audience,
        key: ConnectionKey,
        connect: &Connect<'_>,
        answer: Option<&[u8]>,
        said: Option<(Option<Box<Who>>, Checked)>,
    ) {
        let (who, properties) = said.unwrap_or_default();
        // A client's identifier is no secret: whoever is somebody else does not get its session.
        let stands = audience.client_session(connect.client_id).and_then(|session| audience.session(session));
        let is_another_s =
            |session: &Session| !session.principal().is_empty() && session.principal() != who.as_ref().map_or("", |who| &who.principal);
        if stands.is_some_and(is_another_s) {
            let why = "the client identifier's session is another principal's";
            let said = Unidentified { principal: who.map_or("".into(), |who| (*who.principal).into()), why: why.into() };
            let caller = Caller { protocol: MQTT, client_id: connect.client_id };
            self.note_not_connected(desk, key, caller, (AuditOutcome::Refused, &said));
            return self.close_with(desk, audience, key, ReasonCode::NOT_AUTHORIZED, why);
        }
        if connect.client_id.is_empty() || audience.client_session(connect.client_id).is_none() {
            if let Err((wait_ms, why)) = self.admit_session(desk) {
                let why = format!("{why}: come again in {wait_ms} ms");
                return self.close_with(desk, audience, key, ReasonCode::SERVER_BUSY, &why);
            }
        } else if let Some(wait_ms) = Self::turned_away(desk) {
            return self.close_with(desk, audience, key, ReasonCode::SERVER_BUSY, &format!("{STALE}: come again in {wait_ms} ms"));
        } else {
            self.admission.note_resumed(desk.turn.now, desk.limits.admission_per_s);
        }
        let assigned = connect.client_id.is_empty().then(|| audience.assign_client_id(desk));
        let client_id: Rc<str> = assigned.as_deref().unwrap_or(connect.client_id).into();
        let found = audience.client_session(&client_id);
        let was_kept = found.is_some_and(|session| audience.is_stored(session));
        if let Some(session) = found {
            self.take_over(desk, audience, session, connect.is_clean);
        }
        let ended = desk.ledger.earlier().filter(|_| was_kept);
        let found = found.filter(|session| audience.session(*session).is_some());
        let session = found.unwrap_or_else(|| audience.make_session(desk, &client_id, connect.version));
        match found {
            Some(_) => self.change_origin(desk, audience, (key, session), ""),
            None => self.give_origin(audience, key, session, ""),
        }
        let was_another =
            audience.session(session).is_some_and(|session| session.principal() != who.as_ref().map_or("", |who| &who.principal));
        if was_another {
            audience.clear_properties(session);
        }
        audience.give_who(desk, session, who);
        audience.give_properties(session, &properties);
        // What waits for it may be more than it may have now.
        audience.withdraw_unpermitted(desk, session);
        let missed = audience.take_missed(session);
        let opening = Opening { session, is_present: found.is_some(), assigned: assigned.as_deref(), answer, missed };
        let connected = self.open_link(desk, key, connect, &opening);
        let ticket = audience.connected(desk, session, connected);
        let caller = Caller { protocol: MQTT, client_id: &client_id };
        Self::note_connected(desk, audience, session, (caller, opening.is_present));
        desk.effects.wake(key);
        if opening.is_present {
            return;
        }
        let ticket = ticket.or(ended);
        self.link(key).expect("it was just opened").ticket = ticket.map_or(0, |ticket| ticket.0);
        desk.ledger.wake_when_stored(ticket, session);
    }

    /// Another connection of the client's ends, and where it starts anew its session too.
    fn take_over(&mut self, desk: &mut Desk, audience: &mut Audience, session: SessionKey, is_clean: bool) {
        let held = audience.session(session).expect("a client's session stands");
        // MQTT-3.1.4-3: the existing client is told, and its connection closed.
        if let Some(old) = held.life.connection().filter(|old| self.session(*old) == Some(session)) {
            let why = "another connection has the same client identifier";
            self.close_with(desk, audience, old, ReasonCode::SESSION_TAKEN_OVER, why);
        }
        audience.take_over(desk, session, is_clean);
    }

    /// Puts CONNACK; gives what the session has to know of the connection.
    fn open_link(&mut self, desk: &Desk, key: ConnectionKey, connect: &Connect<'_>, opening: &Opening<'_>) -> Connected {
        let limits = &desk.limits.mqtt;
        let connection = self.connections.get_mut(key).expect("its client was just admitted");
        let Stage::Mqtt(link) = &mut connection.stage else { unreachable!("its client was just admitted") };
        let client = link.dialogue.client();
        let receive_maximum = client.receive_maximum;
        let is_shared = client.topic_alias_maximum == 0 && client.packet_bytes_max as usize >= limits.packet_bytes_max;
        let expiry_s = connect.session_expiry_s.min(limits.session_expiry_max_s);
        let (longest, wanted) = (limits.keep_alive_max_s, connect.keep_alive_s);
        let is_too_long = longest > 0 && (wanted == 0 || wanted > longest) && connect.version == Version::V5;
        let keep_alive_s = if is_too_long { longest } else { wanted };
        link.keep_alive_s = NonZeroU16::new(keep_alive_s);
        let is_said = connect.version == Version::V5;
        let connack = Connack {
            session_present: opening.is_present,
            code: ReasonCode::SUCCESS,
            session_expiry_s: (is_said && expiry_s != connect.session_expiry_s).then_some(expiry_s),
            receive_maximum: limits.receive_maximum,
            packet_bytes_max: u32::try_from(limits.packet_bytes_max).ok(),
            assigned_client_id: opening.assigned,
            topic_alias_maximum: limits.topic_alias_maximum,
            keep_alive_s: is_too_long.then_some(keep_alive_s),
            missed: opening.missed,
            authentication: connect.authentication.zip(opening.answer).map(|((method, _), answer)| (method, answer)),
            ..Connack::default()
        };
        let mut packet = Vec::new();
        link.dialogue.put_connack(&mut packet, &connack);
        put_packet(&mut connection.raw, link.is_websocket, &packet);
        link.session = Some(opening.session);
        link.admitted = desk.turn.now;
        let form = MqttForm { version: connect.version, is_websocket: link.is_websocket, is_shared };
        let answers = link.dialogue.answers();
        connection.deadline = link.silence_ms().map_or(Time(u64::MAX), |silence_ms| desk.turn.now.after_ms(silence_ms.into()));
        if connection.deadline < Time(u64::MAX) {
            self.wheel.insert(connection.deadline, key);
        }
        let will = connect.will.as_ref().map(|will| Box::new(Will::from(will)));
        Connected { opens: !opening.is_present, connection: key, form, expiry_s, receive_maximum, answers, will }
    }
}

impl From<&crate::wire::mqtt::Will<'_>> for Will {
    fn from(will: &crate::wire::mqtt::Will<'_>) -> Self {
        let properties = &will.properties;
        Self {
            topic: will.topic.into(),
            qos: will.qos,
            retain: will.retain,
            payload: will.payload.into(),
            delay_s: will.delay_s,
            expiry_s: properties.expiry_s,
            is_utf8: properties.is_utf8,
            content_type: properties.content_type.map(Into::into),
            passed_on: (&*properties.passed_on).into(),
        }
    }
}
