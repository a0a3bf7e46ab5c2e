//! What sessions are answered.

use crate::audience::Audience;
use crate::base::Key;
use crate::desk::{Answer, Desk};
use crate::mail::Asker;
use crate::protocol::Refusal;
use crate::session::{Entry, Form};
use crate::wire::event::{self, Event};
use crate::wire::native::Outcome;

impl Audience {
    pub fn answer(&mut self, desk: &mut Desk, to: Asker, result: Result<Outcome, Refusal>) {
        let Some(session) = self.sessions.get(to.session) else { return };
        if session.mqtt.is_some() {
            return self.answer_mqtt(desk, to, result);
        }
        if let Some(bytes) = encode(session.form, to.id, &result) {
            self.push(desk, to.session, Entry::Control(bytes));
        }
    }

    /// Tells that it is done, behind all that the session still has to be sent.
    pub fn answer_behind(&mut self, desk: &mut Desk, to: Asker) {
        let Some(session) = self.sessions.get(to.session) else { return };
        if let Some(bytes) = encode(session.form, to.id, &Ok(Outcome::Done)) {
            self.push(desk, to.session, Entry::Behind(bytes));
        }
    }

    /// Gives an answer that was held until something was stored.
    pub fn give_answer(&mut self, desk: &mut Desk, answer: Answer, result: Result<Outcome, Refusal>) {
        match (answer, result) {
            (Answer::Update { to, .. }, result) => self.answer(desk, to, result),
            (Answer::Route { asker, .. }, Err(refusal)) => self.answer(desk, asker, Err(refusal)),
            // Where storage fails too: sessions do not stand still for what only a crash right now would make of it, a message that comes twice.
            (Answer::Received { session, id, epoch }, _) => self.received_stored(desk, session, id, epoch),
            (Answer::Completed { session, id, epoch, code }, _) => self.completed_stored(desk, session, id, epoch, code),
            (Answer::Route { .. }, Ok(_)) => unreachable!("the shard routes it"),
            (Answer::Removal { .. } | Answer::Kept { .. } | Answer::View { .. }, _) => unreachable!("these go by mail"),
        }
    }

    pub fn session_id(&self, desk: &Desk, session: Key) -> String {
        format!("{:016x}-{:x}-{:x}-{:x}", desk.identity.run, desk.identity.index.0, session.index, session.generation)
    }
}

/// An answer in a form of the native protocol; clients of MQTT have others.
fn encode(form: Form, id: u64, result: &Result<Outcome, Refusal>) -> Option<Box<[u8]>> {
    let event = match result {
        Ok(outcome) => Event::Ok { id, outcome },
        Err(Refusal { code, position, message }) => Event::Error { id, code: code.code(), name: code.name(), position: *position, message },
    };
    let mut bytes = Vec::new();
    event::put(&mut bytes, form.native()?, &event);
    Some(bytes.into_boxed_slice())
}
