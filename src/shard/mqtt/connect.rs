//! CONNECT: which shard a client belongs to, taking over from an earlier connection, and going on with a session.
//!
//! A client's session lives on the shard that its identifier names, whichever shard its connections come to: the first packet is read where the
//! connection was accepted, and the socket goes to the client's shard with all that was read. So there is one session to an identifier, and nothing of
//! it is looked for elsewhere.

use super::{Link, put_packet};
use crate::audience::mqtt::Connected;
use crate::base::{Key, ShardIndex, Time};
use crate::desk::{Effect, Handover, Ticket};
use crate::session::MqttForm;
use crate::session::mqtt::Will;
use crate::shard::Shard;
use crate::shard::dialogue::{Stage, WireForm};
use crate::topic::mqtt::path_of;
use crate::wire::mqtt::{Connack, Connect, Fault, ReasonCode, Version};
use std::rc::Rc;

/// What CONNACK says of the session.
struct Opening<'a> {
    is_present: bool,
    /// The record that has to be stored before an earlier session is over.
    ended: Option<Ticket>,
    assigned: Option<&'a str>,
    /// The last word of an authentication.
    answer: Option<&'a [u8]>,
}

impl Shard {
    /// Takes up a connection that another shard accepted; `None` where the shard holds as many as it may, and the transport should end.
    pub fn handle_handed(&mut self, now: Time, handover: Handover) -> Option<Key> {
        self.desk.now = now;
        let Handover { is_websocket, stream, mut unread, raw } = handover;
        let key = self.admit(Stage::Greeting(WireForm::Mqtt), Some(Link::new(is_websocket)))?;
        let connection = self.connections.get_mut(key).expect("it was just admitted");
        if !raw.is_empty() {
            connection.raw = raw;
            self.desk.effects.wake(key);
        }
        self.read_stream_first(key, &stream);
        self.handle_bytes(now, key, &mut unread);
        Some(key)
    }

    fn read_stream_first(&mut self, key: Key, stream: &[u8]) {
        if !stream.is_empty() {
            self.begin_turn();
            self.read_stream(key, stream);
        }
    }

    /// Gives a connection up that belongs to another shard, with what of its bytes was not read.
    pub(in crate::shard) fn hand_over(&mut self, key: Key, to: ShardIndex, unread: Vec<u8>) {
        self.desk.effects.close(key);
        let Some(connection) = self.connections.remove(key) else { return };
        let Some(link) = connection.link else { return };
        let handover = Handover { is_websocket: link.is_websocket, stream: link.unread, unread, raw: connection.raw };
        self.desk.effects.push(Effect::HandOver(key, to, Box::new(handover)));
    }

    pub(super) fn connect_mqtt(&mut self, key: Key, connect: &Connect<'_>, body: &[u8]) {
        let home = match connect.client_id {
            "" => self.desk.identity.index,
            client_id => self.desk.owner_of(client_id),
        };
        if home != self.desk.identity.index {
            if let Some(link) = self.link(key) {
                link.home = Some(home);
            }
            return;
        }
        if self.is_shutting_down {
            return self.close_with(key, ReasonCode::SERVER_SHUTTING_DOWN, "the server is stopping");
        }
        if connect.will.as_ref().is_some_and(|will| self.desk.limits.check_path(&path_of(will.topic)).is_err()) {
            return self.close_faulty(key, Fault::new(ReasonCode::TOPIC_NAME_INVALID, "the will's topic cannot be published to"));
        }
        match connect.authentication {
            Some(_) => self.begin_authentication(key, connect, body),
            None => self.admit_client(key, connect, None),
        }
    }

    /// The client is who it says: it gets its session. `answer` is the last word of its authentication.
    pub(super) fn admit_client(&mut self, key: Key, connect: &Connect<'_>, answer: Option<&[u8]>) {
        let assigned = connect.client_id.is_empty().then(|| self.audience.assign_client_id(&mut self.desk));
        let client_id: Rc<str> = assigned.as_deref().unwrap_or(connect.client_id).into();
        let found = self.audience.client_session(&client_id);
        let was_kept = found.is_some_and(|session| self.audience.is_stored(session));
        if let Some(session) = found {
            self.take_over(session, connect.is_clean);
        }
        let ended = self.desk.ledger.earlier().filter(|_| was_kept);
        let found = found.filter(|session| self.audience.session(*session).is_some());
        let session = found.unwrap_or_else(|| self.audience.make_session(&self.desk, &client_id, connect.version));
        let opening = Opening { is_present: found.is_some(), ended, assigned: assigned.as_deref(), answer };
        self.open_session(key, session, connect, opening);
    }

    /// Another connection of the client's ends, and where it starts anew its session too.
    fn take_over(&mut self, session: Key, is_clean: bool) {
        let Some(held) = self.audience.session(session) else { return };
        let old = held.connection;
        // MQTT-3.1.4-3: the existing client is told, and its connection closed.
        if self.connections.get(old).is_some_and(|connection| matches!(connection.stage, Stage::Open(_, of) if of == session)) {
            self.close_with(old, ReasonCode::SESSION_TAKEN_OVER, "another connection has the same client identifier");
        }
        self.audience.take_over(&mut self.desk, session, is_clean);
    }

    fn open_session(&mut self, key: Key, session: Key, connect: &Connect<'_>, opening: Opening<'_>) {
        let Some(limits) = self.desk.limits.mqtt.clone() else { return };
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(link) = connection.link.as_deref_mut() else { return };
        let client = link.dialogue.client();
        let is_shared = client.topic_alias_maximum == 0 && client.packet_bytes_max as usize >= limits.packet_bytes_max;
        let expiry_s = connect.session_expiry_s.min(limits.session_expiry_max_s);
        let (longest, wanted) = (limits.keep_alive_max_s, connect.keep_alive_s);
        let is_too_long = longest > 0 && (wanted == 0 || wanted > longest) && connect.version == Version::V5;
        let keep_alive_s = if is_too_long { longest } else { wanted };
        link.silence_ms = (keep_alive_s > 0).then_some(u64::from(keep_alive_s) * 1500);
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
            authentication: connect.authentication.zip(opening.answer).map(|((method, _), answer)| (method, answer)),
            ..Connack::default()
        };
        let mut packet = Vec::new();
        link.dialogue.put_connack(&mut packet, &connack);
        let answers = link.dialogue.answers();
        let form = MqttForm { version: connect.version, is_websocket: link.is_websocket, is_shared };
        put_packet(&mut connection.raw, form.is_websocket, &packet);
        connection.stage = Stage::Open(WireForm::Mqtt, session);
        connection.deadline = match link.silence_ms {
            Some(silence_ms) => self.desk.now.after_ms(silence_ms),
            None => Time(u64::MAX),
        };
        let deadline = connection.deadline;
        if deadline < Time(u64::MAX) {
            self.wheel.insert(deadline, key);
        }
        let will = connect.will.as_ref().map(|will| Box::new(Will::from(will)));
        let connected = Connected { connection: key, form, expiry_s, answers, will };
        let ticket = self.audience.connected(&mut self.desk, session, connected);
        self.desk.effects.wake(key);
        if opening.is_present {
            return;
        }
        let ticket = ticket.or(opening.ended);
        if let Some(link) = self.link(key) {
            link.ticket = ticket.map_or(0, |ticket| ticket.0);
        }
        self.desk.ledger.wake_when_stored(ticket, session);
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
