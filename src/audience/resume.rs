//! Sessions of the native protocol that outlive their connections.
//!
//! One that loses its connection is away for as long as its client wished and the server allows. What it selects goes on to be gathered, within a
//! bound of its own: conflated where a topic allows that, else with a gap. A client comes back with the session's token and with how many messages it has
//! processed; what it misses of what was sent comes first (`session/sent.rs`), then what has been gathered. Requests are counted too, so that the client knows
//! which it has to send again.

use crate::audience::Audience;
use crate::audience::events::Happening;
use crate::audience::queue::wake;
use crate::base::{ConnectionKey, SessionId, SessionKey};
use crate::desk::Desk;
use crate::protocol::native::Connect;
use crate::protocol::{ErrorCode, Refusal};
use crate::session::{Entry, Form, Life, LocalTopic, Miscounted, QueueLimits, Resume, Secret, Send, Session};
use crate::wire::event::{self, Event};
use std::rc::Rc;

/// The client is told of what was received at the latest after so many requests.
const REQUESTS_UNTOLD_MAX: u64 = 64;

/// What a client says to go on with a session.
struct Token {
    run: u64,
    session: SessionId,
    secret: Secret,
    /// The start of the server that gave it.
    start: u64,
}

impl Token {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, '-');
        let (run, session, secret, start) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if run.len() != 16 || secret.len() != 32 || ![run, session, secret, start].into_iter().all(is_hex) {
            return None;
        }
        let number = |text| u64::from_str_radix(text, 16).ok();
        let secret = u128::from_str_radix(secret, 16).ok()?.to_be_bytes();
        Some(Self { run: number(run)?, session: SessionId::from_number(number(session)?), secret, start: number(start)? })
    }
}

/// One answer to all that a token can have wrong: which it is would help only who guesses.
fn no_such_session() -> Refusal {
    Refusal::new(ErrorCode::CannotResume, "no session of this token is here, or it is over: connect without a token")
}

impl Audience {
    /// The session may outlive its connection, for so long at most.
    pub fn let_resume(&mut self, desk: &mut Desk, key: SessionKey, wished_ms: u64) {
        let stay_ms = wished_ms.min(desk.limits.resume.stay_ms_max);
        if stay_ms > 0 {
            let resume = Resume::new(desk.take_secret(), stay_ms);
            self.sessions.get_mut(key).expect("it has just begun").resume = Some(Box::new(resume));
        }
    }

    /// The token of a session that may outlive its connection, as it is from now on; nobody goes on with the session by an earlier one.
    pub fn renew_token(&mut self, desk: &mut Desk, key: SessionKey) -> Option<String> {
        let secret = desk.take_secret();
        self.sessions.get_mut(key)?.resume.as_mut()?.set_secret(secret);
        self.note_durable(desk, key);
        self.token(desk, key).map(|(token, _)| token)
    }

    /// The token of a session that may outlive its connection.
    pub fn token(&self, desk: &Desk, key: SessionKey) -> Option<(String, &Resume)> {
        let resume = self.sessions.get(key)?.resume.as_deref()?;
        let (secret, start) = (u128::from_be_bytes(resume.secret()), desk.identity.start);
        Some((format!("{}-{secret:032x}-{start:x}", self.session_id(desk, key)), resume))
    }

    /// The shard where the session of the token would be.
    pub fn home_of(&self, desk: &Desk, token: &str) -> Result<crate::base::ShardIndex, Refusal> {
        let token = Token::parse(token).filter(|token| token.run == desk.identity.run);
        token.map(|token| desk.home_of(token.session)).ok_or_else(no_such_session)
    }

    /// The session that CONNECT goes on with; what its client has processed is kept no longer.
    pub fn find_resumed(
        &mut self,
        desk: &Desk,
        connect: &Connect<'_>,
        form: Form,
        drop_send: impl FnMut(Rc<Send>),
    ) -> Result<SessionKey, Refusal> {
        let token = Token::parse(&connect.token).filter(|token| token.run == desk.identity.run).ok_or_else(no_such_session)?;
        if desk.turn.is_stopping {
            return Err(Refusal::new(ErrorCode::ShuttingDown, "the server is stopping"));
        }
        let key = self.find(token.session).ok_or_else(no_such_session)?;
        let session = self.sessions.get_mut(key).expect("it was just found");
        let resume = session.resume.as_mut().filter(|resume| resume.is_secret(&token.secret) && resume.outlives_connection());
        let resume = resume.ok_or_else(no_such_session)?;
        if session.form != form {
            let message = "the session was begun with the other subprotocol, or with other capabilities";
            return Err(Refusal::new(ErrorCode::CannotResume, message));
        }
        match session.life {
            Life::Connected(_) => {}
            Life::Away(away) if away.expires > desk.turn.now => {}
            Life::Away(_) | Life::Inside { .. } | Life::GivenUp | Life::Shared | Life::Over => return Err(no_such_session()),
        }
        if token.start == desk.identity.start {
            resume.take_processed(connect.processed, drop_send).map_err(|Miscounted| miscounted())?;
            resume.note_known();
        } else if !resume.is_restored() {
            // What the client counted was of another start of the server. It has come back since and knows this one's token.
            return Err(no_such_session());
        }
        Ok(key)
    }

    /// The connection goes on with the session, which has no other any more.
    pub fn resume(&mut self, desk: &mut Desk, key: SessionKey, connection: ConnectionKey) {
        let was_away = self.sessions.get(key).is_some_and(|session| session.life.away().is_some());
        self.keep_awake(key);
        // What its earlier connection asked is not answered to this one.
        self.note_asked_about(key, false);
        let session = self.sessions.get_mut(key).expect("it was just found");
        session.life = Life::Connected(connection);
        session.resume.as_mut().expect("it was found by its secret").begin_again();
        desk.report.sessions_resumed += 1;
        wake(desk, session);
        if was_away {
            self.session_happened(desk, key, Happening::Back);
        }
        // An earlier connection that is taken over is lost too.
        self.end_connection_locks(desk, key);
        self.note_durable(desk, key);
        self.go_on(desk, key);
    }

    /// The session ends with its connection, behind all that it still has to be sent.
    pub fn end_with_connection(&mut self, desk: &mut Desk, key: SessionKey) {
        // What others wait for it gives up at once.
        self.end_locks(desk, key);
        if desk.turn.is_stopping {
            self.leave_durable(desk, key);
        }
        if let Some(resume) = self.session_mut(key).and_then(|session| session.resume.as_mut()) {
            resume.end_with_connection();
        }
    }

    // Counts.

    /// The client has processed so many messages.
    pub fn take_processed(&mut self, desk: &mut Desk, key: SessionKey, id: u64, messages: u64, drop_send: impl FnMut(Rc<Send>)) {
        let session = self.sessions.get_mut(key).expect("a client that says something has a session");
        let Some(resume) = session.resume.as_mut() else {
            let message = "the session ends with its connection: CONNECT asked for no resume_ms";
            return self.refuse(desk, key, id, Refusal::new(ErrorCode::InvalidCount, message));
        };
        if resume.take_processed(messages, drop_send) == Err(Miscounted) {
            return self.refuse(desk, key, id, miscounted());
        }
        if !session.queue.is_empty() {
            wake(desk, session);
        }
        self.tell_requests(desk, key, 0);
    }

    /// A request of the client is carried out, or refused.
    #[inline]
    pub fn note_request(&mut self, desk: &mut Desk, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        if let Some(resume) = session.resume.as_mut() {
            resume.note_request();
            self.tell_requests(desk, key, REQUESTS_UNTOLD_MAX);
        }
    }

    /// Tells the client how many of its requests there were, if it does not know of more than so many.
    pub fn tell_requests(&mut self, desk: &mut Desk, key: SessionKey, more_than: u64) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(requests) = session.resume.as_mut().and_then(|resume| resume.requests_to_tell(more_than)) else { return };
        let form = session.form.native().expect("only sessions of the native protocol go on by a token");
        let mut bytes = Vec::new();
        event::put(&mut bytes, form, &Event::Received { requests });
        self.push(desk, key, Entry::Control(bytes.into_boxed_slice()));
    }

    // Away.

    /// The bounds of a session's queue, which are others while it has no connection: never more than it may hold when its client is back.
    pub(super) fn queue_limits(desk: &Desk, session: &Session) -> QueueLimits {
        let mut limits = desk.limits.queue;
        if session.resume.is_some() && session.life.away().is_some() {
            limits.bytes_max = desk.limits.resume.away_queue_bytes_max.min(limits.bytes_max);
            limits.bytes_high = limits.bytes_high.min(limits.bytes_max / 4);
        }
        if session.is_conflated {
            limits.bytes_high = 0;
        }
        limits
    }

    /// More waits for a session that is away than may, although conflated: what waits of topics goes, and each of them has a gap. Whether that was enough.
    pub(super) fn make_gaps(&mut self, desk: &mut Desk, key: SessionKey) -> bool {
        let session = self.sessions.get_mut(key).expect("a session whose queue is full stands");
        let subscriptions = &session.subscriptions;
        let current = |topic: &LocalTopic| {
            let (_, place) = subscriptions.get(&topic.id).filter(|(subscribed, _)| std::ptr::eq(&**subscribed, topic))?;
            let mut subscribers = topic.subscribers.borrow_mut();
            let subscriber = &mut subscribers[*place as usize];
            // Until the gap is told, which the newest value follows; that of what keeps none comes as it is published.
            subscriber.is_latest_queued |= !topic.is_time_series() && topic.specification.retains_value();
            Some(subscriber.generation)
        };
        let gaps = session.queue.leave_gaps(current);
        desk.report.gaps += gaps as u64;
        if let Some(resume) = &mut session.resume {
            resume.gaps = resume.gaps.saturating_add(u32::try_from(gaps).unwrap_or(u32::MAX));
        }
        session.queue.bounded_bytes() <= Self::queue_limits(desk, session).bytes_max
    }
}

fn miscounted() -> Refusal {
    let message = "the session was not sent so many messages, or its client has said before that it has processed more";
    Refusal::new(ErrorCode::InvalidCount, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_token_is_one() {
        let text = format!("{:016x}-{:x}-{:032x}-{:x}", 7, 3 << 16 | 2, 9, 5);
        let token = Token::parse(&text).unwrap();
        assert_eq!((token.run, token.session, token.secret[15], token.start), (7, SessionId::from_number(3 << 16 | 2), 9, 5));
        let long = format!("{text}-0");
        let huge = format!("{:016x}-{}-{:032x}-5", 7, "f".repeat(17), 9);
        let signed = format!("{:016x}-+1-{:032x}-5", 7, 9);
        for wrong in ["", "-", "--", "---", &text[1..], &text[..text.len() - 2], &long, &huge, &signed, "x-y-z-1"] {
            assert!(Token::parse(wrong).is_none(), "{wrong}");
        }
    }
}
