//! Update streams, as the sessions that have them know them.

use super::Audience;
use crate::desk::Desk;
use crate::mail::Caller;
use crate::protocol::{ErrorCode, Refusal};
use crate::session::Stream;
use std::collections::BTreeMap;

impl Audience {
    fn streams(&self, asker: Caller) -> Option<&BTreeMap<u64, Stream>> {
        let session = self.sessions.get(asker.session).expect("a client that asks has a session");
        session.extras.as_ref().map(|extras| &extras.streams)
    }

    fn streams_mut(&mut self, asker: Caller) -> &mut BTreeMap<u64, Stream> {
        let session = self.sessions.get_mut(asker.session).expect("a client that asks has a session");
        &mut session.extras_mut().streams
    }

    /// Whether the session may have another stream, of this number.
    pub fn check_stream(&self, desk: &Desk, asker: Caller, number: u64) -> Result<(), Refusal> {
        let streams_max = desk.limits.streams_max;
        let Some(streams) = self.streams(asker) else { return Ok(()) };
        if streams.contains_key(&number) {
            let message = format!("the session has a stream {number}; STREAM_CLOSE frees its number");
            return Err(Refusal::new(ErrorCode::StreamInUse, message));
        }
        if streams.len() >= streams_max {
            return Err(Refusal::new(ErrorCode::ListenerLimit, format!("the session has its most of {streams_max} streams")));
        }
        Ok(())
    }

    pub fn open_stream(&mut self, asker: Caller, number: u64, stream: Stream) {
        self.streams_mut(asker).insert(number, stream);
    }

    /// A stream that may go on.
    pub fn stream(&self, asker: Caller, number: u64) -> Result<&Stream, Refusal> {
        let stream = self.streams(asker).and_then(|streams| streams.get(&number)).ok_or_else(|| no_stream(number))?;
        if stream.has_failed {
            return Err(Refusal::new(ErrorCode::InvalidStream, format!("stream {number} has ended: an operation of it failed")));
        }
        Ok(stream)
    }

    /// The number of the stream's next operation.
    pub fn next_step(&mut self, asker: Caller, number: u64) -> u64 {
        let stream = self.streams_mut(asker).get_mut(&number).expect("it was just looked at");
        stream.steps += 1;
        stream.steps
    }

    /// An operation of the stream was refused: no other of its operations may follow.
    pub fn fail_stream(&mut self, asker: Caller, number: u64) {
        self.streams_mut(asker).get_mut(&number).expect("its operation was just looked at").has_failed = true;
    }

    pub fn close_stream(&mut self, asker: Caller, number: u64) -> Result<(), Refusal> {
        self.streams_mut(asker).remove(&number).map(drop).ok_or_else(|| no_stream(number))
    }
}

fn no_stream(number: u64) -> Refusal {
    Refusal::new(ErrorCode::InvalidStream, format!("the session has no stream {number}"))
}
