//! Sessions that say who clients are: each takes, by a name, what the chain asks of that name.
//!
//! It is a handler of a branch of the server's own, where no client may ask: of those of a name the one with the fewest questions under way is asked, and one that is
//! away or has too many is passed over, as with any request.

use super::{Target, Whom, send};
use crate::audience::Audience;
use crate::base::{SessionKey, SlabKey};
use crate::desk::{Desk, Effect};
use crate::mail::messaging::{Message, Messaging as Said, Requested, Waiting};
use crate::mail::{Call, Caller};
use crate::protocol::{ErrorCode, Refusal};
use crate::session::Serving;
use crate::topic::path::is_within;
use crate::value::ValueType;
use crate::wire::native::Outcome;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The branch of the paths by which authenticators are asked.
const BRANCH: &str = "Tidewire/Authentication";

/// Where the authenticator of this name is asked.
pub fn authenticator_path(name: &str) -> String {
    format!("{BRANCH}/{name}")
}

/// Whether somebody who handles this branch is an authenticator.
pub fn is_authenticator(branch: &str) -> bool {
    is_within(branch, BRANCH)
}

/// Who asks is the server: no session of this shard, as no shard has so many.
fn server() -> SessionKey {
    SessionKey::new(u32::MAX, 0)
}

impl Audience {
    /// Asks an authenticator of this name; `Effect::Judged` has this number, and what it says, which is JSON as the question is.
    pub fn ask_authenticators(&mut self, desk: &mut Desk, (number, timeout_ms): (u64, u64), name: &str, question: Arc<[u8]>) {
        let asker = Caller { session: server(), call: Call::Authentication { number } };
        let path = authenticator_path(name);
        let Some(handler) = self.messaging.handlers.choose(&path, &[]) else {
            let message = format!("no session is authenticator '{name}'");
            return desk.effects.push(Effect::Judged(number, Err(Refusal::new(ErrorCode::NoHandler, message))));
        };
        let (session, handler) = (handler.session, handler.number);
        let target = Target::Handler { session, number: handler };
        let ticket = desk.take_ticket();
        let message = Message { kind: ValueType::Json as u8, value: Some(question) };
        self.messaging.handlers.note(session, handler, 1);
        self.wait(desk, asker, ticket, timeout_ms, (Whom::Path(target.clone()), message.bytes()));
        let waiting = Waiting { shard: desk.identity.index, ticket };
        let requested = Requested { waiting, asker: "".into(), path: path.into(), message, properties: [].into(), tried: Vec::new() };
        let home = desk.home_of(session);
        send(desk, home, Said::Request { target, requested: Box::new(requested) });
    }

    /// An authenticator has answered, or there is none that does.
    #[cold]
    pub fn authenticator_answered(&mut self, desk: &mut Desk, number: u64, result: Result<Outcome, Refusal>) {
        let judged = match result {
            Ok(Outcome::Response { kind, value }) => Ok(Message { kind, value: value.map(Into::into) }),
            Ok(_) => unreachable!("a request is answered by a response"),
            Err(refusal) => Err(refusal),
        };
        desk.effects.push(Effect::Judged(number, judged));
    }

    /// The session may not say any more who clients are, nor of whom it was asked before.
    pub(in crate::audience) fn end_authenticators(&mut self, desk: &mut Desk, key: SessionKey) {
        self.end_handlers_of(desk, key, is_authenticator);
        let Some(session) = self.sessions.get_mut(key) else { return };
        let id = session.id;
        let Some(extras) = session.extras.as_mut() else { return };
        // Bounded by `limits.questions_max`.
        let (questions, kept) = std::mem::take(&mut extras.serving).into_iter().partition(|(_, serving)| serving.is_question);
        extras.serving = kept;
        let questions: BTreeMap<u64, Serving> = questions;
        for question in questions {
            self.give_up_serving(desk, (key, id), question, "the session may not say any more who clients are");
        }
    }
}
