//! Connections at the shard's doors: what they bring is carried out here, request by request.

use super::Shard;
use crate::audience::mqtt::Published;
use crate::base::{Key, Time};
use crate::desk::Handover;
use crate::door::{Reading, Said, Transport, Verdict};
use crate::protocol::mqtt::Command;
use crate::wire::mqtt;

impl Shard {
    /// A transport was accepted; `None` where the shard holds as many as it may, and the transport should end.
    pub fn handle_accept(&mut self, now: Time, transport: Transport) -> Option<Key> {
        self.desk.now = now;
        self.doors.accept(&mut self.desk, transport)
    }

    /// Takes up a connection that another shard accepted; `None` where the shard holds as many as it may, and the transport should end.
    pub fn handle_handed(&mut self, now: Time, handover: Handover) -> Option<Key> {
        self.desk.now = now;
        self.begin_turn();
        let key = self.doors.take_over_transport(&mut self.desk, handover)?;
        self.go_on_reading(key);
        self.settle();
        Some(key)
    }

    /// The transport brought bytes. They are unmasked in place.
    pub fn handle_bytes(&mut self, now: Time, key: Key, bytes: &mut [u8]) {
        self.desk.now = now;
        self.begin_turn();
        if let Some(reading) = self.doors.begin_reading(&self.desk, key, bytes) {
            self.read(key, reading);
        }
        self.settle();
    }

    /// What came of `Effect::Authenticate`.
    pub fn handle_authenticated(&mut self, now: Time, key: Key, method: &str, verdict: Verdict) {
        self.desk.now = now;
        self.begin_turn();
        self.doors.judged(&mut self.desk, &mut self.audience, key, method, verdict);
        self.go_on_reading(key);
        self.settle();
    }

    /// The transport is gone.
    pub fn handle_closed(&mut self, now: Time, key: Key) {
        self.desk.now = now;
        self.doors.closed(&mut self.desk, &mut self.audience, key);
        self.settle();
    }

    /// Answers an admin request.
    pub fn respond(&mut self, key: Key, status: u16, content_type: &str, body: &[u8]) {
        self.doors.respond(&mut self.desk, &mut self.audience, key, status, (content_type, body));
    }

    fn go_on_reading(&mut self, key: Key) {
        if let Some(reading) = self.doors.go_on_reading(key) {
            self.read(key, reading);
        }
    }

    /// Reads as much as is whole. What one request does is done before the next is read.
    fn read(&mut self, key: Key, mut reading: Reading<'_>) {
        while let Some(piece) = self.doors.next(&mut self.desk, &mut self.audience, key, &mut reading) {
            if let Some(said) = self.doors.hear(&mut self.desk, &mut self.audience, key, &piece, &reading) {
                self.take_up(key, said);
                self.give_answers();
            }
            self.doors.close_given_up(&mut self.desk, &mut self.audience);
        }
        self.doors.finish_reading(&mut self.desk, key, reading);
    }

    fn take_up(&mut self, key: Key, said: Said<'_>) {
        match said {
            Said::Request { session, form, request } => self.handle_request(session, form, request),
            Said::Command { session, command } => self.handle_command(key, session, command),
        }
    }

    fn handle_command(&mut self, key: Key, session: Key, command: Command<'_>) {
        let (desk, audience) = (&mut self.desk, &mut self.audience);
        let fault = match command {
            Command::Publish(publish) => match audience.publish_mqtt(desk, session, &publish) {
                Ok(None) => return,
                Ok(Some(Published { asker, path, change })) => return self.route_change(asker, &path, change),
                Err(fault) => fault,
            },
            Command::Acknowledged(acknowledgement) => return audience.take_acknowledgement(desk, session, acknowledgement),
            Command::Release { id } => return audience.release_message(desk, session, id),
            Command::Subscribe(subscribe) => match audience.subscribe_mqtt(desk, session, &subscribe) {
                Ok(()) => return,
                Err(fault) => fault,
            },
            Command::Unsubscribe(unsubscribe) => return audience.unsubscribe_mqtt(desk, session, &unsubscribe),
            Command::Ping => return audience.reply(desk, session, |_, out| mqtt::put_pingresp(out)),
            Command::Connect(_) | Command::Authenticate(_) | Command::Disconnect(_) => unreachable!("the door keeps these"),
        };
        self.doors.close_faulty(&mut self.desk, &mut self.audience, key, fault);
    }

    /// Whether the connection should not be read now: what it brings has to wait for the answer to an effect.
    pub fn is_waiting(&self, key: Key) -> bool {
        self.doors.is_waiting(key)
    }

    // Sends.

    /// What the connection sends next, in one piece; `None` when it has nothing, or has ended. Give all of it to the socket (or hold the rest back and
    /// do not poll this connection until that is gone), and tell by `handle_sent`.
    pub fn poll_transmit(&mut self, now: Time, key: Key) -> Option<&[u8]> {
        self.desk.now = now;
        if !self.doors.make_send(&mut self.desk, &mut self.audience, key)? {
            self.go_on_after_send(key);
            return None;
        }
        Some(self.doors.sending())
    }

    /// Whether `poll_transmit` would give the connection more.
    pub fn wants_to_send(&self, key: Key) -> bool {
        self.doors.wants_to_send(&self.desk, &self.audience, key)
    }

    /// The bytes of the last `poll_transmit` are with the socket.
    pub fn handle_sent(&mut self, now: Time, key: Key) {
        self.doors.sent(&mut self.desk, now, key);
        self.go_on_after_send(key);
    }

    /// A round of sends begins: bytes shared in the last one are given up.
    pub fn begin_sends(&mut self) {
        self.doors.begin_sends();
    }

    /// Something of the connection's session was sent, or is not wanted any more.
    fn go_on_after_send(&mut self, key: Key) {
        if !self.audience.holds_back() {
            return;
        }
        if let Some(session) = self.doors.session(key).filter(|session| self.audience.is_held_back(*session)) {
            self.audience.go_on(&mut self.desk, session);
            self.settle();
        }
    }
}
