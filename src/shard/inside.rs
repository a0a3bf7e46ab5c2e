//! Whoever uses the server from within its process: an adapter, or a page. It has a session as any client has, and no connection.
//!
//! It asks by requests of the native protocol, and is told in frames of its binary form, values whole. What it has not taken yet is
//! bounded as every session's queue is.

use super::Shard;
use crate::base::{SessionId, Time};
use crate::protocol::{ErrorCode, Refusal};
use crate::session::{Ended, Form, Life, Session};
use crate::topic::publication::Encodings;
use crate::wire::event;
use crate::wire::native::{Ask, Request};

impl Shard {
    /// A session for something within the process, until `close_inside`. `Effect::Inside` says when there is something for it, and
    /// `Effect::InsideOver` that it has to be closed.
    pub fn open_inside(&mut self, now: Time) -> SessionId {
        self.desk.turn.now = now;
        let id = self.desk.take_session_id();
        let form = Form::Binary(Encodings::from_capabilities(0));
        let session = self.audience.enter(Session::new(id, Life::Inside { is_woken: false }, form, now));
        self.audience.give_all_rights(session);
        self.audience.session_opened(&mut self.desk, session);
        self.audience.remap(&mut self.desk, session);
        self.settle();
        id
    }

    /// The session asks for something. Tells whether there is such a session.
    pub fn handle_inside(&mut self, now: Time, session: SessionId, request: Request<'_>) -> bool {
        self.desk.turn.now = now;
        let Some(key) = self.audience.find(session) else { return false };
        self.begin_turn();
        match request.ask {
            Ask::Connect { .. } | Ask::Ping | Ask::Pong | Ask::Close | Ask::Processed { .. } | Ask::Unknown { .. } | Ask::Broken => {
                let refusal = Refusal::new(ErrorCode::UnknownOperation, "a session inside the process has no connection to ask this of");
                self.audience.refuse(&mut self.desk, key, request.id, refusal);
            }
            _ => self.handle_request(key, event::Form::Binary, request),
        }
        self.give_answers();
        self.settle();
        true
    }

    /// Appends what the session is told next, as whole frames; whether there may be more.
    pub fn poll_inside(&mut self, now: Time, session: SessionId, out: &mut Vec<u8>) -> bool {
        self.desk.turn.now = now;
        let Some(key) = self.audience.find(session) else { return false };
        let has_more = self.doors.take_inside(&mut self.desk, &mut self.audience, key, out);
        if self.audience.is_held_back(key) {
            self.audience.go_on(&mut self.desk, key);
            self.settle();
        }
        has_more
    }

    /// The session is over.
    pub fn close_inside(&mut self, now: Time, session: SessionId) {
        self.desk.turn.now = now;
        if let Some(key) = self.audience.find(session) {
            self.audience.note_end(key, Ended::ByClient);
            self.audience.leave_session(&mut self.desk, key);
            self.settle();
        }
    }
}
