//! What sessions are answered.

use crate::audience::Audience;
use crate::base::{SessionId, SessionKey};
use crate::desk::{Answer, Desk};
use crate::mail::{Asker, Call, Caller};
use crate::protocol::Refusal;
use crate::session::{Entry, Form};
use crate::wire::event::{self, Event};
use crate::wire::native::Outcome;

/// An answer is made in room that is used again, unless one was longer than most.
const ROOM_KEPT: usize = 64 << 10;

impl Audience {
    pub fn answer(&mut self, desk: &mut Desk, to: Caller, result: Result<Outcome, Refusal>) {
        let Some(session) = self.sessions.get(to.session) else { return };
        if session.mqtt.is_some() {
            return self.answer_mqtt(desk, to, result);
        }
        let form = session.form;
        if let Some(bytes) = self.encode(form, to.call, &result) {
            self.push(desk, to.session, Entry::Control(bytes));
        }
    }

    /// Refuses what is no request to be carried out.
    pub fn refuse(&mut self, desk: &mut Desk, session: SessionKey, id: u64, refusal: Refusal) {
        self.answer(desk, Caller { session, call: Call::Request(id) }, Err(refusal));
    }

    /// Tells that it is done, behind all that the session still has to be sent.
    pub fn answer_behind(&mut self, desk: &mut Desk, to: Caller) {
        let Some(session) = self.sessions.get(to.session) else { return };
        let form = session.form;
        if let Some(bytes) = self.encode(form, to.call, &Ok(Outcome::Done)) {
            self.push(desk, to.session, Entry::Behind(bytes));
        }
    }

    /// Gives an answer that was held until something was stored.
    pub fn give_answer(&mut self, desk: &mut Desk, answer: Answer, result: Result<Outcome, Refusal>) {
        match (answer, result) {
            (Answer::Update { to: Asker::Session(to), .. }, result) => self.answer(desk, to, result),
            (Answer::Route { asker: Asker::Session(to), .. }, Err(refusal)) => self.answer(desk, to, Err(refusal)),
            // Nobody waits.
            (Answer::Update { to: Asker::Server, .. } | Answer::Route { asker: Asker::Server, .. }, _) => {}
            // Where storage fails too: sessions do not stand still for what only a crash right now would make of it, a message that comes twice.
            (Answer::Received { session, id, epoch }, _) => self.received_stored(desk, session, id, epoch),
            (Answer::Completed { session, id, epoch, code }, _) => self.completed_stored(desk, session, id, epoch, code),
            (Answer::Route { .. }, Ok(_)) => unreachable!("the shard routes it"),
            (Answer::Removal { .. } | Answer::Kept { .. } | Answer::View { .. }, _) => unreachable!("these go by mail"),
        }
    }

    /// The session's name to clients, which no session of another run of the server has.
    pub fn session_id(&self, desk: &Desk, session: SessionKey) -> String {
        let number = self.id_of(session).map_or(0, SessionId::number);
        format!("{:016x}-{number:x}", desk.identity.run)
    }

    /// An answer in a form of the native protocol; clients of MQTT have others.
    fn encode(&mut self, form: Form, call: Call, result: &Result<Outcome, Refusal>) -> Option<Box<[u8]>> {
        let Call::Request(id) = call else { return None };
        let event = match result {
            Ok(outcome) => Event::Ok { id, outcome },
            Err(Refusal { code, position, message }) => {
                Event::Error { id, code: code.code(), name: code.name(), position: *position, message }
            }
        };
        self.answer.clear();
        event::put(&mut self.answer, form.native()?, &event);
        let bytes = self.answer.as_slice().into();
        if self.answer.capacity() > ROOM_KEPT {
            self.answer = Vec::new();
        }
        Some(bytes)
    }
}
