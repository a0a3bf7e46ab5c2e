//! A client's session and its connections: one to an identifier.

use crate::audience::Audience;
use crate::audience::events::Happening;
use crate::base::{ConnectionKey, SessionKey};
use crate::desk::{Desk, Ticket};
use crate::protocol::mqtt::Answers;
use crate::session::mqtt::Will;
use crate::session::{Ended, Form, Life, Mqtt, MqttForm, Session};
use crate::wire::mqtt::Version;
use std::rc::Rc;

/// What a session takes from a connection that goes on with it.
pub struct Connected {
    /// The session has just begun.
    pub opens: bool,
    pub connection: ConnectionKey,
    pub form: MqttForm,
    pub expiry_s: u32,
    pub receive_maximum: u16,
    pub answers: Answers,
    pub will: Option<Box<Will>>,
}

impl Audience {
    /// How many messages the session had no room for, since the last that it took, and those that its client may not have been told of.
    pub fn take_missed(&mut self, session: SessionKey) -> u32 {
        let Some(mqtt) = self.mqtt(session) else { return 0 };
        mqtt.missed_told = mqtt.missed_told.saturating_add(std::mem::take(&mut mqtt.missed));
        mqtt.missed_told
    }

    pub fn client_session(&self, client_id: &str) -> Option<SessionKey> {
        self.broker.clients.find(&self.sessions.slab, client_id)
    }

    /// Whether the session is in a record.
    pub fn is_stored(&self, session: SessionKey) -> bool {
        let session = self.sessions.get(session).expect("a client's session stands");
        session.mqtt.as_ref().is_some_and(|mqtt| mqtt.stored.is_some())
    }

    /// An identifier that nobody has and whose shard is this one.
    pub fn assign_client_id(&mut self, desk: &mut Desk) -> String {
        // About as many tries as there are shards.
        loop {
            let number = desk.take_ticket();
            let id = format!("auto-{:x}-{:x}-{number:x}", desk.identity.run, desk.identity.index.0);
            if desk.owner_of(&id) == desk.identity.index && self.client_session(&id).is_none() {
                return id;
            }
        }
    }

    pub fn make_session(&mut self, desk: &mut Desk, client_id: &Rc<str>, version: Version) -> SessionKey {
        let form = Form::Mqtt(MqttForm { version, is_websocket: false, is_shared: false });
        let mut session = Session::new(desk.take_session_id(), Life::GivenUp, form, desk.turn.now);
        session.mqtt = Some(Box::new(Mqtt::new(client_id.clone(), version)));
        let key = self.enter(session);
        self.broker.clients.insert(&self.sessions.slab, key);
        key
    }

    /// The session's connection is gone, and another goes on with it, or the client starts anew.
    pub fn take_over(&mut self, desk: &mut Desk, session: SessionKey, is_clean: bool) {
        // It may have ended with its connection.
        if self.sessions.get(session).is_none() {
            return;
        }
        if is_clean {
            self.note_end(session, Ended::ByClient);
            return self.finish_session(desk, session);
        }
        // MQTT-3.1.3-9: a new connection before the delay has passed, and the will is not published.
        self.mqtt(session).expect("a client's session is of MQTT").will = None;
        let was_away = self.sessions.get(session).is_some_and(|session| session.life.away().is_some());
        self.keep_awake(session);
        if was_away {
            self.session_happened(desk, session, Happening::Back);
        }
    }

    /// The session has a connection from now on. The record that says so.
    pub fn connected(&mut self, desk: &mut Desk, session: SessionKey, connected: Connected) -> Option<Ticket> {
        let Connected { opens, connection, form, expiry_s, receive_maximum, answers, will } = connected;
        // It may come by another transport than before.
        let before = self.see(desk, session);
        let held = self.sessions.get_mut(session).expect("it was just found, or made");
        held.life = Life::Connected(connection);
        held.form = Form::Mqtt(form);
        let mqtt = held.mqtt.as_mut().expect("a client's session is of MQTT");
        mqtt.version = form.version;
        mqtt.answers = Some(answers);
        (mqtt.expiry_s, mqtt.receive_maximum) = (expiry_s, receive_maximum);
        mqtt.epoch = mqtt.epoch.wrapping_add(1);
        mqtt.will = will;
        mqtt.outbound.start_again();
        match opens {
            true => self.session_opened(desk, session),
            false => self.properties_changed(desk, session, before),
        }
        self.tell_groups(desk, session);
        let ticket = self.store_session(desk, session);
        self.mqtt(session).expect("it was just there").set_resumed(ticket.map_or(0, |ticket| ticket.0));
        desk.ledger.wake_when_stored(ticket, session);
        ticket
    }
}
