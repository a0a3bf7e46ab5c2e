//! One connection's TLS: records in, what the peer says out; what it is to be told in, records out.
//!
//! What is held is a record that has not come whole, or a handshake's messages; an idle connection holds its keys. What a peer does wrong is answered by
//! an alert.

use super::principal::principal_of;
use super::{Failure, Heard};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic};
use rustls::{ServerConfig, server::ServerConnectionData};
use std::sync::Arc;

/// The most that is held: a handshake's message of the longest that a record's length can say, and a record.
const HELD_BYTES_MAX: usize = 96 << 10;

/// What records add to the bytes in them, at most, and what may be sent in between.
const RECORD_BYTES: usize = 16 << 10;
const RECORD_BYTES_BESIDE: usize = 64;
const BYTES_BESIDE: usize = 256;

/// See the module.
pub struct Tls {
    connection: UnbufferedServerConnection,
    /// What has come and is not whole.
    held: Vec<u8>,
    is_over: bool,
    /// It went wrong, and rustls is not asked again: it would look for what is not held any more.
    has_failed: bool,
}

/// What is done with a state of the connection.
enum Step {
    Again,
    Done(Heard),
}

impl Tls {
    pub fn new(config: Arc<ServerConfig>) -> Result<Self, Failure> {
        let connection = UnbufferedServerConnection::new(config).map_err(|error| failure(&error))?;
        Ok(Self { connection, held: Vec::new(), is_over: false, has_failed: false })
    }

    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Who the peer is by its certificate.
    pub fn principal(&self) -> Option<Box<str>> {
        principal_of(self.connection.peer_certificates()?.first()?)
    }

    /// Takes what has come. After an error nothing more is taken.
    pub fn hear(&mut self, bytes: &mut [u8], plain: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<Heard, Failure> {
        if self.is_over {
            return Ok(Heard::Ended);
        }
        if self.held.is_empty() {
            let (used, heard) = self.process(bytes, plain, out);
            self.held = bytes[used..].to_vec();
            return heard;
        }
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(bytes);
        let (used, heard) = self.process(&mut held, plain, out);
        // The memory goes where nothing is left: most connections are idle.
        if used < held.len() {
            held.drain(..used);
            self.held = held;
        }
        if self.held.len() > HELD_BYTES_MAX {
            (self.is_over, self.has_failed) = (true, true);
            return Err(Failure("a message of its handshake is too long".into()));
        }
        heard
    }

    /// Reads as much as is whole; how much that was.
    fn process(&mut self, bytes: &mut [u8], plain: &mut Vec<u8>, out: &mut Vec<u8>) -> (usize, Result<Heard, Failure>) {
        let mut used = 0;
        loop {
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(&mut bytes[used..]);
            let step = match state {
                Ok(state) => step(state, plain, out),
                Err(error) => Err(failure(&error)),
            };
            used += discard;
            match step {
                Ok(Step::Again) => {}
                Ok(Step::Done(heard)) => {
                    self.is_over = heard == Heard::Ended;
                    return (used, Ok(heard));
                }
                Err(failure) => {
                    (self.is_over, self.has_failed) = (true, true);
                    self.put_alert(&mut bytes[used..], out);
                    return (bytes.len(), Err(failure));
                }
            }
        }
    }

    /// What the peer is told of its error. `rest` is what was not used: rustls may look at it again.
    fn put_alert(&mut self, rest: &mut [u8], out: &mut Vec<u8>) {
        if let Ok(ConnectionState::EncodeTlsData(mut data)) = self.connection.process_tls_records(rest).state {
            encode(|room| data.encode(room), out);
        }
    }

    /// Appends records with these bytes to `out`.
    pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), Failure> {
        self.with_traffic(out, |traffic, out| {
            let start = out.len();
            out.resize(start + plain.len() + (plain.len() / RECORD_BYTES + 1) * RECORD_BYTES_BESIDE + BYTES_BESIDE, 0);
            let mut result = traffic.encrypt(plain, &mut out[start..]);
            if let Err(EncryptError::InsufficientSize(needed)) = &result {
                out.resize(start + needed.required_size, 0);
                result = traffic.encrypt(plain, &mut out[start..]);
            }
            out.truncate(start + result.as_ref().copied().unwrap_or(0));
            result.map(drop).map_err(|error| Failure(error.to_string().into()))
        })
    }

    /// Appends that nothing more comes.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        // Where the connection has not begun there is nothing to end.
        let _ = self.with_traffic(out, |traffic, out| {
            let start = out.len();
            out.resize(start + BYTES_BESIDE, 0);
            let length = traffic.queue_close_notify(&mut out[start..]).unwrap_or(0);
            out.truncate(start + length);
            Ok(())
        });
    }

    /// What is held is looked at again, and is no more whole than it was.
    fn with_traffic(
        &mut self,
        out: &mut Vec<u8>,
        send: impl FnOnce(&mut WriteTraffic<'_, ServerConnectionData>, &mut Vec<u8>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if self.has_failed {
            return Err(Failure("it has failed".into()));
        }
        let Self { connection, held, .. } = self;
        let mut used = 0;
        let result = loop {
            let UnbufferedStatus { discard, state } = connection.process_tls_records(&mut held[used..]);
            used += discard;
            match state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => break send(&mut traffic, out),
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(|room| data.encode(room), out),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                // The peer will say nothing more, and may still be told something.
                Ok(ConnectionState::PeerClosed) => {}
                Ok(_) => break Err(Failure("nothing can be sent yet, or any more".into())),
                Err(error) => break Err(failure(&error)),
            }
        };
        held.drain(..used);
        result
    }
}

fn step(state: ConnectionState<'_, '_, ServerConnectionData>, plain: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<Step, Failure> {
    match state {
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(record) = traffic.next_record() {
                plain.extend_from_slice(record.map_err(|error| failure(&error))?.payload);
            }
            Ok(Step::Again)
        }
        ConnectionState::EncodeTlsData(mut data) => {
            encode(|room| data.encode(room), out);
            Ok(Step::Again)
        }
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Ok(Step::Again)
        }
        ConnectionState::PeerClosed | ConnectionState::Closed => Ok(Step::Done(Heard::Ended)),
        ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) => Ok(Step::Done(Heard::GoesOn)),
        // Nobody may say anything before it is known who it is.
        ConnectionState::ReadEarlyData(_) => Err(Failure("it says something before its handshake".into())),
        _ => Err(Failure("its handshake goes a way that is not known".into())),
    }
}

/// Appends what the connection has to say by itself.
fn encode(mut put: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>, out: &mut Vec<u8>) {
    let start = out.len();
    let mut result = put(&mut []);
    if let Err(EncodeError::InsufficientSize(needed)) = &result {
        out.resize(start + needed.required_size, 0);
        result = put(&mut out[start..]);
    }
    out.truncate(start + result.unwrap_or(0));
}

fn failure(error: &rustls::Error) -> Failure {
    Failure(error.to_string().into())
}
