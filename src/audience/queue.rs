//! What sessions still have to be sent, answers as all else, and its bound.

use crate::audience::Audience;
use crate::base::SessionKey;
use crate::desk::{Answer, Desk, Effect, GivenUp, Why};
use crate::mail::{Asker, Call, Caller};
use crate::protocol::{Reason, Refusal};
use crate::session::{Ended, Entry, Form, Life, LocalTopic, Newest, Session};
use crate::wire::event::{self, Event};
use crate::wire::native::Outcome;

/// An answer is made in room that is used again, unless one was longer than most.
const ROOM_KEPT: usize = 64 << 10;

impl Audience {
    /// Queues something for a session and keeps its bound.
    pub fn push(&mut self, desk: &mut Desk, key: SessionKey, entry: Entry) {
        let session = self.sessions.get_mut(key).expect("a session that is sent something stands");
        if session.life == Life::Over || session.life == Life::GivenUp && session.mqtt.is_none() {
            return;
        }
        session.queue.push(entry);
        if session.queue.bytes() > Self::queue_limits(desk, session).bytes_high {
            self.keep_bound(desk, key);
        }
        wake(desk, self.sessions.get_mut(key).expect("keeping a queue's bound ends no session"));
    }

    pub(super) fn keep_bound(&mut self, desk: &mut Desk, key: SessionKey) {
        let session = self.sessions.get(key).expect("a session whose queue grows stands");
        let queue_limits = Self::queue_limits(desk, session);
        self.note_queue(desk, key);
        let session = self.sessions.get(key).expect("it was just there");
        if !session.queue.is_over(queue_limits) {
            return;
        }
        self.unsubscribe_under_pressure(desk, key);
        let session = self.sessions.get_mut(key).expect("the end of a subscription ends no session");
        let subscriptions = &session.subscriptions;
        let before = session.queue.bytes();
        let is_mqtt = session.mqtt.is_some();
        let newest = |topic: Option<&LocalTopic>| {
            // Clients of MQTT are not told that a topic has gone: the last that they hear of it is its last message.
            if is_mqtt {
                return Newest::Itself;
            }
            let Some(topic) = topic else { return Newest::Nothing };
            let held = subscriptions.get(&topic.id).filter(|(subscribed, _)| std::ptr::eq(&**subscribed, topic));
            let Some((_, place)) = held else { return Newest::Nothing };
            let mut subscribers = topic.subscribers.borrow_mut();
            let subscriber = &mut subscribers[*place as usize];
            subscriber.is_latest_queued = true;
            Newest::Of(subscriber.generation)
        };
        let is_away = session.resume.is_some() && session.life.away().is_some();
        let result = session.queue.keep_bound(queue_limits, newest);
        let has_conflated = session.queue.bytes() < before;
        session.conflations += u32::from(has_conflated);
        desk.report.conflations += u64::from(has_conflated);
        let conflated = session.queue.take_conflated();
        self.forget_messages(desk, key, conflated);
        if result.is_ok() || is_mqtt && self.make_room(desk, key) || is_away && self.make_gaps(desk, key) {
            return;
        }
        desk.report.overflows += 1;
        if is_away {
            // Answers alone are more than may wait: whoever comes back is told that the session is over.
            return self.expire_soon(desk, key);
        }
        self.give_up(desk, key, Why::Overflow);
    }

    /// Room for a session of MQTT whose queue is over its bound although conflated: what its client does not acknowledge goes. Whether that was enough.
    fn make_room(&mut self, desk: &mut Desk, key: SessionKey) -> bool {
        let Some(session) = self.sessions.get_mut(key) else { return true };
        let dropped = session.queue.drop_unacknowledged(desk.limits.queue);
        desk.report.mqtt_dropped += dropped as u64;
        if let Some(mqtt) = &mut session.mqtt {
            let dropped = u32::try_from(dropped).unwrap_or(u32::MAX);
            mqtt.missed = mqtt.missed.saturating_add(dropped);
            mqtt.dropped = mqtt.dropped.saturating_add(dropped);
        }
        session.queue.bounded_bytes() <= desk.limits.queue.bytes_max
    }

    /// The session cannot go on with its connection. It has none from now on; the connection is closed when what is under way is done.
    pub fn give_up(&mut self, desk: &mut Desk, key: SessionKey, why: Why) {
        let session = self.sessions.get_mut(key).expect("a session that gives up stands");
        session.end_by(if matches!(why, Why::Closed(_)) { Ended::ByControl } else { Ended::ByServer });
        match session.life {
            Life::Connected(connection) => desk.effects.given_up.push_back(GivenUp { connection, why }),
            Life::Inside { .. } => desk.effects.push(Effect::InsideOver(session.id)),
            Life::GivenUp | Life::Away(_) | Life::Shared | Life::Over => return,
        }
        session.life = Life::GivenUp;
        session.queue.clear();
    }

    /// Ends the subscriptions of a queue above its mark whose topics want that rather than conflation.
    fn unsubscribe_under_pressure(&mut self, desk: &mut Desk, key: SessionKey) {
        // Clients of MQTT are not told that a subscription ends, so theirs do not.
        let session = self.sessions.get(key).expect("a session whose queue is full stands");
        if session.mqtt.is_some() {
            return;
        }
        // Bounded by `limits.queue`, as all that looks through one queue.
        let mut topics = session.queue.topics_to_unsubscribe();
        topics.retain(|topic| session.holds(topic));
        if !topics.is_empty() {
            desk.report.back_pressure_ends += topics.len() as u64;
            self.unsubscribe_topics(desk, key, &topics, Reason::BackPressure);
        }
    }

    // Answers.

    pub fn answer(&mut self, desk: &mut Desk, to: Caller, result: Result<Outcome, Refusal>) {
        match to.call {
            Call::Will { number } => return self.will_answered(desk, number, result),
            Call::Authentication { number } => return self.authenticator_answered(desk, number, result),
            Call::Reply { number } => return self.reply_answered(desk, to.session, number, result),
            _ => {}
        }
        // The session may be over.
        let Some(session) = self.sessions.get(to.session) else { return };
        if session.mqtt.is_some() {
            return self.answer_mqtt(desk, to, result);
        }
        if let Err(refusal) = &result {
            self.note_denied(desk, to.session, "", refusal);
        }
        self.queue_answer(desk, to, &result);
    }

    /// Refuses what the client asks for by the operation of this name.
    pub fn refuse_operation(&mut self, desk: &mut Desk, to: Caller, operation: &str, refusal: Refusal) {
        self.note_denied(desk, to.session, operation, &refusal);
        self.queue_answer(desk, to, &Err(refusal));
    }

    fn queue_answer(&mut self, desk: &mut Desk, to: Caller, result: &Result<Outcome, Refusal>) {
        let Some(session) = self.sessions.get(to.session) else { return };
        let form = session.form;
        if let Some(bytes) = self.encode(form, to.call, result) {
            self.push(desk, to.session, Entry::Control(bytes));
        }
    }

    /// Refuses what is no request to be carried out.
    pub fn refuse(&mut self, desk: &mut Desk, session: SessionKey, id: u64, refusal: Refusal) {
        self.answer(desk, Caller { session, call: Call::Request(id) }, Err(refusal));
    }

    /// Tells that it is done, behind all that the session still has to be sent.
    pub fn answer_behind(&mut self, desk: &mut Desk, to: Caller) {
        let form = self.sessions.get(to.session).expect("a session that waits for an answer behind its events stands").form;
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
            // The client is answered where storage fails too: only if the server is killed right now does a message come twice, and no session stands
            // still for that.
            (Answer::Received { session, id, epoch }, _) => self.received_stored(desk, session, id, epoch),
            (Answer::Completed { session, id, epoch, code }, _) => self.completed_stored(desk, session, id, epoch, code),
            (Answer::Route { .. }, Ok(_)) => unreachable!("the shard routes it"),
            (Answer::Removal { .. } | Answer::Kept { .. } | Answer::View { .. } | Answer::Server { .. } | Answer::Together(_), _) => {
                unreachable!("these go to others")
            }
        }
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

/// The session has something to send.
#[inline]
pub(super) fn wake(desk: &mut Desk, session: &mut Session) {
    match &mut session.life {
        Life::Connected(connection) => desk.effects.wake(*connection),
        Life::Inside { is_woken } => {
            if !std::mem::replace(is_woken, true) {
                desk.effects.push(Effect::Inside(session.id));
            }
        }
        Life::GivenUp | Life::Away(_) | Life::Shared | Life::Over => {}
    }
}
