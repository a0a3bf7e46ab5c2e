//! What stands between a socket and a shard, sans-IO: a proxy's header, and TLS.
//!
//! - here — [`Guard`], one connection's of both, and [`Policy`], a listener's.
//! - `proxy` — the header of the PROXY protocol, version 2.
//! - `tls` — one connection's records: handshake, what comes, what is sent.
//! - `certificates` — a listener's certificates: read from files, chosen by the name that a client asks for, read again where they change.
//! - `principal` — who a certificate is for; `trust` — whom clients of this process believe.
//!
//! Nothing here waits, and no peer makes it hold more than a record or a handshake's flight. Sockets, time and pace are the runtime's.

mod certificates;
mod principal;
mod proxy;
#[cfg(test)]
mod tests;
mod tls;
pub mod trust;

pub use certificates::{Certificates, ClientCertificates, Files, Version};

use crate::wire::forwarded::Networks;
use proxy::Header;
use std::net::IpAddr;
use std::sync::Arc;
use tls::Tls;

/// How a listener's connections begin.
#[derive(Default)]
pub struct Policy {
    /// Each begins with a proxy's header, and only these may connect.
    pub proxies: Option<Networks>,
    pub certificates: Option<Arc<Certificates>>,
}

/// One connection's guard. What came goes in by `hear`, what is to be sent by `seal`; both leave in `out` what the peer is to be sent, in that order.
pub struct Guard {
    is_header_awaited: bool,
    /// What of the header has come.
    header: Vec<u8>,
    tls: Option<Tls>,
    arrived: Arrived,
    is_closed: bool,
    /// To be sent, before anything else.
    pub out: Vec<u8>,
}

/// What became known while a connection began.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// Where it comes from, as a proxy says.
    pub address: Option<IpAddr>,
    /// Who is there, as its certificate says.
    pub principal: Option<Box<str>>,
}

/// What the peer has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    GoesOn,
    /// It will say nothing more.
    Ended,
}

/// Why a connection cannot go on. What is in `out` is still sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(pub Box<str>);

impl Guard {
    /// `None` where the connection needs none.
    pub fn new(policy: &Policy) -> Result<Option<Box<Self>>, Failure> {
        if policy.proxies.is_none() && policy.certificates.is_none() {
            return Ok(None);
        }
        let tls = policy.certificates.as_ref().map(|certificates| Tls::new(certificates.current())).transpose()?;
        Ok(Some(Box::new(Self {
            is_header_awaited: policy.proxies.is_some(),
            header: Vec::new(),
            tls,
            arrived: Arrived::default(),
            is_closed: false,
            out: Vec::new(),
        })))
    }

    /// Whether the connection has still to begin: nothing is sent yet, and what comes costs more than bytes do later.
    pub fn is_arriving(&self) -> bool {
        self.is_header_awaited || self.tls.as_ref().is_some_and(Tls::is_handshaking)
    }

    /// Whether it has nothing more to do.
    pub fn is_idle(&self) -> bool {
        self.tls.is_none() && !self.is_arriving()
    }

    /// Takes what has come, which is changed, and appends what the peer says by it to `plain`.
    pub fn hear(&mut self, bytes: &mut [u8], plain: &mut Vec<u8>) -> Result<Heard, Failure> {
        if !self.is_header_awaited {
            return self.hear_on(bytes, plain);
        }
        self.header.extend_from_slice(bytes);
        let Some(Header { length, address }) = proxy::parse(&self.header)? else { return Ok(Heard::GoesOn) };
        self.is_header_awaited = false;
        self.arrived.address = address;
        let mut rest = std::mem::take(&mut self.header).split_off(length);
        self.hear_on(&mut rest, plain)
    }

    fn hear_on(&mut self, bytes: &mut [u8], plain: &mut Vec<u8>) -> Result<Heard, Failure> {
        // Behind the last word nothing is answered any more.
        if self.is_closed {
            return Ok(Heard::Ended);
        }
        let Some(tls) = &mut self.tls else {
            plain.extend_from_slice(bytes);
            return Ok(Heard::GoesOn);
        };
        let was_handshaking = tls.is_handshaking();
        let heard = tls.hear(bytes, plain, &mut self.out);
        if was_handshaking && !tls.is_handshaking() {
            self.arrived.principal = tls.principal();
        }
        // Behind an alert comes nothing.
        self.is_closed |= heard.is_err();
        heard
    }

    /// What became known since the last time.
    pub fn take_arrived(&mut self) -> Arrived {
        std::mem::take(&mut self.arrived)
    }

    /// Appends `plain` to `out` as the peer takes it. Not before the connection has begun.
    pub fn seal(&mut self, plain: &[u8]) -> Result<(), Failure> {
        match &mut self.tls {
            Some(tls) => tls.seal(plain, &mut self.out),
            None => {
                self.out.extend_from_slice(plain);
                Ok(())
            }
        }
    }

    /// The last that the peer is sent; `None` where it has been.
    pub fn take_farewell(&mut self) -> Option<Vec<u8>> {
        if !std::mem::replace(&mut self.is_closed, true)
            && let Some(tls) = &mut self.tls
        {
            tls.close(&mut self.out);
        }
        let farewell = std::mem::take(&mut self.out);
        (!farewell.is_empty()).then_some(farewell)
    }
}
