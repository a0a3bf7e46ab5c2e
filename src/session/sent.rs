//! What a session was sent and its client may not have processed: it is sent again where the connection breaks.
//!
//! The client counts messages and tells the server now and then; no more is sent than `session.recovery_bytes_max` before it does. So what it misses is
//! always here, and going on costs no more than sending that: nothing is missed, and nothing comes twice.

use crate::base::{Time, TopicId};
use std::collections::VecDeque;
use std::rc::Rc;

/// The bytes of one send, and what they tell of. Several connections may be sent the same one.
#[derive(Default)]
pub struct Send {
    pub bytes: Vec<u8>,
    /// Where the messages begin that the session was sent; before them is what the connection itself says.
    pub messages_at: usize,
    /// WebSocket messages of the session's.
    pub messages: u32,
    pub told: Told,
}

/// The publications in a send.
#[derive(Default)]
pub struct Told {
    /// Numbers the shard's sends.
    pub number: u64,
    pub count: u64,
    /// When each of those was received that its subscriber waited for.
    pub received: Vec<Time>,
}

impl std::ops::Deref for Send {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Told {
    /// One publication more; with the time only if the subscriber was there when it was received.
    pub fn note(&mut self, received: Option<Time>) {
        self.count += 1;
        self.received.extend(received);
    }
}

impl Send {
    /// Some bytes, which tell of nothing.
    #[cfg(feature = "server")]
    pub fn of(bytes: Vec<u8>) -> Self {
        Self { bytes, ..Self::default() }
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        (self.messages_at, self.messages) = (0, 0);
        self.told.count = 0;
        self.told.received.clear();
    }
}

/// What its client says to a session's name, so that nobody else goes on with it.
pub type Secret = [u8; 16];

/// What makes a session of the native protocol outlive its connection.
pub struct Resume {
    secret: Secret,
    /// For so long it stands without a connection.
    pub stay_ms: u64,
    /// How many gaps it had.
    pub gaps: u32,
    /// Requests of the client that were carried out or refused, and how many of them it was told of.
    received: u64,
    told: u64,
    /// Messages that the client has processed.
    processed: u64,
    /// Those that it has not, in their order.
    kept: VecDeque<Rc<Send>>,
    /// How many messages of the first of them it has.
    first_processed: u32,
    kept_bytes: usize,
    /// How many of those in `kept` need not be sent again by this connection.
    sent: usize,
    /// Messages that were ever sent.
    messages: u64,
    /// The server was started anew, and the client has not shown yet that it knows.
    is_restored: bool,
    /// Of one that outlives the server.
    pub durable: Option<Box<Durable>>,
}

/// The record of a session that outlives the server.
pub struct Durable {
    pub topic: TopicId,
    pub version: u64,
    /// Milliseconds since the epoch at which the session began: the clock that times are told by begins anew with the host.
    pub began_ms: u64,
    /// It is about to be written.
    pub is_noted: bool,
}

/// The client says that it has processed more messages than it was sent, or fewer than it has said before.
#[derive(Debug, PartialEq, Eq)]
pub struct Miscounted;

impl Resume {
    pub fn new(secret: Secret, stay_ms: u64) -> Self {
        Self {
            secret,
            stay_ms,
            gaps: 0,
            received: 0,
            told: 0,
            processed: 0,
            kept: VecDeque::new(),
            first_processed: 0,
            kept_bytes: 0,
            sent: 0,
            messages: 0,
            is_restored: false,
            durable: None,
        }
    }

    /// That of a session which an earlier start of the server has kept.
    pub fn restored(secret: Secret, stay_ms: u64, durable: Durable) -> Self {
        Self { is_restored: true, durable: Some(Box::new(durable)), ..Self::new(secret, stay_ms) }
    }

    /// Whether the client may not know yet that the server was started anew.
    pub fn is_restored(&self) -> bool {
        self.is_restored
    }

    /// The client knows of this start of the server.
    pub fn note_known(&mut self) {
        self.is_restored = false;
    }

    pub fn set_secret(&mut self, secret: Secret) {
        self.secret = secret;
    }

    pub fn secret(&self) -> Secret {
        self.secret
    }

    /// Whether this is the session's secret; how long it takes does not say how much of it is right.
    pub fn is_secret(&self, secret: &Secret) -> bool {
        let difference = self.secret.iter().zip(secret).fold(0, |difference, (ours, theirs)| difference | ours ^ theirs);
        std::hint::black_box(difference) == 0
    }

    /// Whether the session is there when its connection is not.
    pub fn outlives_connection(&self) -> bool {
        self.stay_ms > 0
    }

    /// Its client takes leave, or the server does: what it was sent and may miss still comes first, but nothing is kept from now on, nor waits until the client
    /// has processed what came before.
    pub fn end_with_connection(&mut self) {
        self.stay_ms = 0;
    }

    // What the client said.

    /// One request more was carried out or refused.
    pub fn note_request(&mut self) {
        self.received += 1;
    }

    /// How many requests there were, where the client was not told of `more_than` of them or fewer.
    pub fn requests_to_tell(&mut self, more_than: u64) -> Option<u64> {
        (self.received > self.told + more_than).then(|| {
            self.told = self.received;
            self.received
        })
    }

    pub fn received(&self) -> u64 {
        self.received
    }

    // What it was told.

    /// What has just been made for this connection.
    pub fn note(&mut self, send: &Rc<Send>) {
        if send.messages > 0 && self.outlives_connection() {
            self.messages += u64::from(send.messages);
            self.kept_bytes += send.len();
            self.kept.push_back(send.clone());
            self.sent = self.kept.len();
        }
    }

    /// What is kept to be sent again.
    pub fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    /// Whether the client has to say first what it has processed.
    pub fn is_full(&self, bytes_max: usize) -> bool {
        self.kept_bytes >= bytes_max && self.outlives_connection()
    }

    /// The client has processed so many messages since the session began. What need not be kept any more is given to `drop_send`.
    pub fn take_processed(&mut self, processed: u64, mut drop_send: impl FnMut(Rc<Send>)) -> Result<(), Miscounted> {
        if processed < self.processed || processed > self.messages {
            return Err(Miscounted);
        }
        let mut left = processed - self.processed + u64::from(self.first_processed);
        self.processed = processed;
        // As many as were sent within the bound since the last time.
        while self.kept.front().is_some_and(|send| u64::from(send.messages) <= left) {
            let send = self.kept.pop_front().expect("it is the first");
            left -= u64::from(send.messages);
            self.kept_bytes -= send.len();
            self.sent = self.sent.saturating_sub(1);
            drop_send(send);
        }
        self.first_processed = left as u32;
        if self.kept.is_empty() {
            self.kept = VecDeque::new();
        }
        Ok(())
    }

    /// Another connection goes on: all that is kept is sent again.
    pub fn begin_again(&mut self) {
        self.sent = 0;
    }

    pub fn has_again(&self) -> bool {
        self.sent < self.kept.len()
    }

    /// What is to be sent again next, and how many of its messages the client has.
    pub fn take_again(&mut self) -> Option<(&Send, u32)> {
        let send = self.kept.get(self.sent)?;
        let processed = if self.sent == 0 { self.first_processed } else { 0 };
        self.sent += 1;
        Some((send, processed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(messages: u32, bytes: usize) -> Rc<Send> {
        Rc::new(Send { bytes: vec![0; bytes], messages, ..Send::default() })
    }

    fn resume() -> Resume {
        Resume::new([7; 16], 1000)
    }

    #[test]
    fn what_is_processed_is_kept_no_longer() {
        let mut resume = resume();
        [1, 3, 2].into_iter().for_each(|messages| resume.note(&send(messages, 100)));
        let mut dropped = 0;
        assert_eq!(resume.take_processed(2, |_| dropped += 1), Ok(()));
        assert_eq!((dropped, resume.first_processed, resume.kept_bytes), (1, 1, 200));
        resume.begin_again();
        assert_eq!(resume.take_again().map(|(send, processed)| (send.messages, processed)), Some((3, 1)));
        assert_eq!(resume.take_again().map(|(send, processed)| (send.messages, processed)), Some((2, 0)));
        assert!(!resume.has_again());
        assert_eq!(resume.take_processed(6, |_| dropped += 1), Ok(()));
        assert_eq!((dropped, resume.kept_bytes, resume.first_processed), (3, 0, 0));
    }

    #[test]
    fn a_client_that_miscounts_is_found_out() {
        let mut resume = resume();
        resume.note(&send(2, 10));
        assert_eq!(resume.take_processed(3, |_| {}), Err(Miscounted));
        assert_eq!(resume.take_processed(2, |_| {}), Ok(()));
        assert_eq!(resume.take_processed(1, |_| {}), Err(Miscounted));
    }

    #[test]
    fn no_more_is_sent_than_may_have_to_be_sent_again() {
        let mut resume = resume();
        resume.note(&send(1, 99));
        assert!(!resume.is_full(100));
        resume.note(&send(1, 1));
        assert!(resume.is_full(100));
        // A pong of the connection is nothing of the session's.
        resume.note(&send(0, 50));
        assert_eq!(resume.kept.len(), 2);
    }

    #[test]
    fn what_ends_with_its_connection_waits_for_nothing_and_keeps_nothing_more() {
        let mut resume = resume();
        resume.note(&send(1, 100));
        resume.begin_again();
        resume.end_with_connection();
        assert!(resume.has_again() && !resume.is_full(100));
        assert!(resume.take_again().is_some());
        resume.note(&send(1, 100));
        assert_eq!((resume.has_again(), resume.kept_bytes()), (false, 100));
    }

    #[test]
    fn only_the_secret_is_the_secret() {
        let mut other = [7; 16];
        assert!(resume().is_secret(&other));
        other[15] = 8;
        assert!(!resume().is_secret(&other));
    }
}
