//! What the runtime has to do, in its order.
//!
//! Any room may find that a connection has something to send; it is named once until it is asked for that.

use super::audit::Audit;
use crate::base::{ConnectionKey, SessionId, ShardIndex, SlabKey};
use crate::mail::messaging::Message;
use crate::mail::security::PrincipalOrder;
use crate::protocol::Refusal;
use crate::protocol::native::Connect;
use crate::session::{Arrival, Checked};
use crate::topic::path::TopicPath;
use crate::wire::event::Form;
use crate::wire::http;
use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use zeroize::Zeroizing;

/// What the runtime has to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// The connection has something to send: `poll_transmit` it when its socket takes more.
    Wake(ConnectionKey),
    /// What the connection brings may be read again, which waited for its pace.
    Read(ConnectionKey),
    /// End the transport now, then call `handle_closed`.
    Close(ConnectionKey),
    /// An admin page is asked for; answer with `respond`.
    Http(ConnectionKey, http::Request),
    /// The connection is of a client at this address, as a proxy says: answer with `note_origin`.
    Locate(ConnectionKey, IpAddr),
    /// The reports asked for by `request_reports` under this number are complete: `take_reports`.
    Reports(u64),
    /// Give the transport to that shard's `handle_handed`, with this, and forget the connection: `handle_closed` is not called.
    /// It comes there in no order with mail.
    HandOver(ConnectionKey, ShardIndex, Box<Handover>),
    /// A client of MQTT goes on to authenticate itself: answer with `handle_authenticated`.
    Authenticate(ConnectionKey, Box<Authentication>),
    /// Somebody wants to connect: answer with `handle_identified`.
    Identify(ConnectionKey, Box<Claim>),
    /// What came of the question of this number to authenticators that are sessions, `Shard::ask_authenticators`: what they say, or why nothing.
    Judged(u64, Result<Message, Refusal>),
    /// To change whom the server knows; `Shard::handle_principals` hears what came of it.
    ChangePrincipals(Box<PrincipalOrder>),
    /// A session that is used from within the process has something: `poll_inside`.
    Inside(SessionId),
    /// A session that is used from within the process has to be closed, by `close_inside`: what it was sent was not taken fast enough.
    InsideOver(SessionId),
    /// The operator should know.
    Log(Log),
    /// To be noted for whoever looks later at who did what. Only where `Limits::audits`.
    Audit(Box<Audit>),
}

/// What the operator should know.
#[derive(Debug, PartialEq, Eq)]
pub enum Log {
    /// The first topic that a view did not make because its source is derived too deep already.
    ViewTooDeep { view: Box<str>, source: TopicPath },
    /// A client of MQTT misses messages from now on: its session has no room for them.
    QueueFull { client_id: Box<str> },
    /// The will of a client of MQTT is not published.
    WillRefused { client_id: Box<str>, topic: Box<str>, why: Box<str> },
    /// A client may not connect, or cannot be told now whether it may.
    NotIdentified { principal: Box<str>, why: Box<str> },
    /// The answer to a request of a client of MQTT was not taken by its response topic.
    ReplyRefused { client_id: Box<str>, why: Box<str> },
    /// A client sent something that is longer than the limit of this key, which was refused, mostly by closing the connection. Empty where it is
    /// not known yet which client.
    Oversized { client: Box<str>, limit: &'static str },
    /// Somebody asked for a name that is not the server's, which was refused. Both are as they were sent, cut.
    ForeignHost { host: Box<str> },
    /// A page of another origin asked, which was refused.
    ForeignPage { origin: Box<str>, host: Box<str> },
}

/// Who a client says that it is, and what it shows for that.
#[derive(PartialEq, Eq)]
pub struct Claim {
    /// Empty where it does not say.
    pub principal: Box<str>,
    pub shown: Shown,
    /// Where it comes from, an IPv4 address mapped; unspecified where nobody knows.
    pub address: Ipv6Addr,
    /// The principal of the certificate that it has shown, if it has shown one.
    pub certificate: Option<Box<str>>,
    /// What it proposes as properties of its session.
    pub properties: Checked,
}

/// For a principal. Wiped when it is dropped.
#[derive(PartialEq, Eq)]
pub enum Shown {
    Nothing,
    Password(Zeroizing<Box<[u8]>>),
    /// A JSON Web Token.
    Bearer(Zeroizing<Box<[u8]>>),
}

/// Without what is shown.
impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim").field("principal", &self.principal).field("address", &self.address).finish_non_exhaustive()
    }
}

/// A step of an enhanced authentication, as the client says it.
#[derive(Debug, PartialEq, Eq)]
pub struct Authentication {
    pub method: Box<str>,
    pub content: Box<[u8]>,
}

/// A connection that another shard has to go on with: all that is known of it but its socket. `unread` is what has come and was not read, `raw` what was
/// to be sent, `arrival` where it comes from.
#[derive(Debug, PartialEq, Eq)]
pub enum Handover {
    Mqtt {
        is_websocket: bool,
        /// What of the packets in WebSocket frames was not read.
        stream: Vec<u8>,
        unread: Vec<u8>,
        raw: Vec<u8>,
        arrival: Option<Box<Arrival>>,
    },
    Native {
        native: Box<HandedNative>,
        unread: Vec<u8>,
        raw: Vec<u8>,
        arrival: Option<Box<Arrival>>,
    },
}

/// What a connection of the native protocol has said: CONNECT, and `rest` in the same message.
#[derive(Debug, PartialEq, Eq)]
pub struct HandedNative {
    pub(crate) form: Form,
    pub(crate) connect: Connect<'static>,
    pub(crate) rest: Vec<u8>,
}

/// A connection that its session cannot go on with, and that has to be closed for that.
#[derive(Debug)]
pub struct GivenUp {
    pub connection: ConnectionKey,
    pub why: Why,
}

#[derive(Debug)]
pub enum Why {
    /// The client does not read fast enough.
    Overflow,
    /// It selects more topics than it may be subscribed to.
    Overfull,
    /// What its client showed is worth nothing any more.
    Expired,
    /// The server does not reach the others of its cluster.
    Stale,
    /// Another session has ordered it, with these words.
    Closed(Box<str>),
    /// A message was not taken, and the client's version of MQTT has no other word for that.
    Refused(Refusal),
}

/// See the module.
#[derive(Default)]
pub struct Effects {
    queue: VecDeque<Effect>,
    /// Connections whose sessions have given them up: they are closed when what is under way is done.
    pub given_up: VecDeque<GivenUp>,
    /// By the index of a connection's key.
    wakes: Vec<Wakes>,
}

/// Whether the connection at one place is woken.
#[derive(Clone, Copy, Default)]
struct Wakes {
    generation: u32,
    is_open: bool,
    is_woken: bool,
}

impl Effects {
    pub fn push(&mut self, effect: Effect) {
        self.queue.push_back(effect);
    }

    pub fn poll(&mut self) -> Option<Effect> {
        self.queue.pop_front()
    }

    /// There is such a connection from now on.
    pub fn open(&mut self, connection: ConnectionKey) {
        let place = connection.index() as usize;
        if self.wakes.len() <= place {
            self.wakes.resize(place + 1, Wakes::default());
        }
        self.wakes[place] = Wakes { generation: connection.generation(), is_open: true, is_woken: false };
    }

    /// The connection is gone, and is not woken any more.
    pub fn close(&mut self, connection: ConnectionKey) {
        if let Some(wakes) = self.of(connection) {
            wakes.is_open = false;
        }
    }

    /// The connection has something to send. Most that is called finds it woken already.
    #[inline]
    pub fn wake(&mut self, connection: ConnectionKey) {
        if let Some(wakes) = self.of(connection)
            && !std::mem::replace(&mut wakes.is_woken, true)
        {
            self.push_wake(connection);
        }
    }

    /// Not a part of every caller: the queue's growth is longer than the call.
    #[inline(never)]
    fn push_wake(&mut self, connection: ConnectionKey) {
        self.queue.push_back(Effect::Wake(connection));
    }

    /// The connection is asked what it has to send: it may be woken again.
    pub fn is_asked(&mut self, connection: ConnectionKey) {
        if let Some(wakes) = self.of(connection) {
            wakes.is_woken = false;
        }
    }

    fn of(&mut self, connection: ConnectionKey) -> Option<&mut Wakes> {
        let wakes = self.wakes.get_mut(connection.index() as usize)?;
        (wakes.is_open && wakes.generation == connection.generation()).then_some(wakes)
    }
}
