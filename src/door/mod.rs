//! Connections: bytes of a transport in, what its client says out; what its session has to be sent in, bytes out.
//!
//! - here — what a connection is, how it begins and how it ends.
//! - `read` — the pieces of what comes, one by one: who reads pulls, so nothing is called back from within.
//! - `http` — the head, upgrades; `pages` — who asks for an admin page; `native` — the dialogue of the native protocol; `mqtt` — that of MQTT.
//! - `admission` — how fast sessions begin; `pace` — how fast they are read; `deadline` — when a connection has been silent for too long; `transmit` — what a connection sends now;
//!   `audit` — what is noted of those who come.
//!
//! Sessions are the audience's. A connection that ends leaves its session there; what a client asks for is given to the shard.

mod admission;
mod audit;
mod deadline;
mod http;
mod mqtt;
mod native;
mod pace;
mod pages;
mod read;
mod transmit;

pub use mqtt::Verdict;
pub use pace::Budget;
pub use read::{Reading, Said};

use crate::audience::Audience;
use crate::base::{ConnectionKey, SessionKey, Slab, Time, Wheel};
use crate::desk::{Desk, Effect, GivenUp, Why};
use crate::protocol::CloseCode;
use crate::session::{Arrival, Checked, Ended, Place, Who};
use crate::wire::http::Request;
use crate::wire::websocket::{self, Opcode};
use admission::Admission;
use mqtt::Link;
use native::Native;
use pace::{Pace, Paced};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};
use transmit::Sends;

/// What a transport begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// The common port: an HTTP head comes first.
    Http,
    /// The same by the listener of this number, by its rules.
    HttpOf(u16),
    /// MQTT at once.
    Mqtt,
}

/// See the module.
pub struct Doors {
    connections: Slab<Connection, ConnectionKey>,
    wheel: Wheel<ConnectionKey>,
    /// What the wheel has given and was not looked at.
    due: VecDeque<ConnectionKey>,
    sends: Sends,
    admission: Admission,
    paced: Paced,
}

/// Who a client is that wants to connect.
#[derive(Debug)]
pub enum Identified {
    /// This one, whose session has these properties; `None` for an anonymous one without roles.
    As(Option<Box<Who>>, Checked),
    Refused(Unidentified),
    /// It cannot be said now.
    Later {
        wait_ms: u64,
        said: Unidentified,
    },
}

/// Somebody of whom it is not known who he is.
#[derive(Debug, Default)]
pub struct Unidentified {
    /// What he says that he is; empty where he does not.
    pub principal: Box<str>,
    /// In words for the operator, which have nothing of what was shown. He who asks is not told.
    pub why: Box<str>,
}

/// One transport's dialogue. Small: hundreds of thousands are idle.
struct Connection {
    stage: Stage,
    /// An unfinished head, frame or packet.
    unread: Vec<u8>,
    /// Bytes to send before the session's queue, as the transport carries them.
    raw: Vec<u8>,
    deadline: Time,
    last_received: Time,
    last_sent: Time,
    /// Where it comes from, until its session has that.
    arrival: Option<Box<Arrival>>,
    /// How much of it is read; `None` where there is no bound.
    pace: Option<Box<Pace>>,
}

/// Where a connection's dialogue is, and what only that has.
enum Stage {
    /// The HTTP head is not complete; by whose rules it is judged.
    Head {
        listener: u16,
    },
    /// An admin page is being made; which one is kept until it is known who asks for it.
    Page(Option<Box<Request>>),
    Native(Native),
    Mqtt(Box<Link>),
    /// Nothing is read any more; what is queued is sent, then the transport ends.
    Ending(Option<Box<Leaving>>),
}

/// A session that stands only until its queue is sent, and what comes behind that.
struct Leaving {
    session: SessionKey,
    last: Last,
}

enum Last {
    Close(CloseCode),
    Mqtt(Box<Link>),
}

/// A WebSocket message in several frames that has not come to its end: its first frame's opcode, and what has come.
type Fragments = Option<Box<(Opcode, Vec<u8>)>>;

impl Stage {
    fn session(&self) -> Option<SessionKey> {
        match self {
            Self::Native(native) => native.dialogue.session(),
            Self::Mqtt(link) => link.session,
            Self::Head { .. } | Self::Page(_) | Self::Ending(_) => None,
        }
    }

    /// Whether what the connection brings waits for a word that is not the client's.
    fn is_waiting(&self) -> bool {
        match self {
            Self::Mqtt(link) => link.is_waiting(),
            Self::Native(native) => native.is_held(),
            Self::Page(_) => true,
            Self::Head { .. } | Self::Ending(_) => false,
        }
    }
}

impl Connection {
    fn is_paced(&self) -> bool {
        self.pace.as_deref().is_some_and(Pace::is_held)
    }

    fn is_waiting(&self) -> bool {
        self.is_paced() || self.stage.is_waiting()
    }
}

impl Doors {
    pub fn new(now: Time) -> Self {
        Self {
            connections: Slab::default(),
            wheel: Wheel::new(now),
            due: VecDeque::new(),
            sends: Sends::default(),
            admission: Admission::default(),
            paced: Paced::default(),
        }
    }

    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// A transport was accepted; `None` where the shard holds as many as it may, and the transport should end.
    pub fn accept(&mut self, desk: &mut Desk, transport: Transport) -> Option<ConnectionKey> {
        match transport {
            Transport::Http => self.admit(desk, Stage::Head { listener: 0 }),
            Transport::HttpOf(listener) => self.admit(desk, Stage::Head { listener }),
            Transport::Mqtt if !desk.limits.has_mqtt => None,
            Transport::Mqtt => self.admit(desk, Stage::Mqtt(Link::new(false))),
        }
    }

    fn admit(&mut self, desk: &mut Desk, stage: Stage) -> Option<ConnectionKey> {
        let now = desk.turn.now;
        if self.connections.len() >= desk.limits.connections_max || desk.turn.is_stopping {
            return None;
        }
        let deadline = now.after_ms(desk.limits.handshake_timeout_ms);
        let (unread, raw) = (Vec::new(), Vec::new());
        let pace = desk.limits.has_pace().then(Box::default);
        let connection = Connection { stage, unread, raw, deadline, last_received: now, last_sent: now, arrival: None, pace };
        let key = self.connections.insert(connection);
        desk.effects.open(key);
        self.wheel.insert(deadline, key);
        Some(key)
    }

    /// A session is to begin here. Else: in how many milliseconds its client should come, and why not now.
    fn admit_session(&mut self, desk: &mut Desk) -> Result<(), (u64, &'static str)> {
        if let Some(wait_ms) = Self::turned_away(desk) {
            desk.report.sessions_deferred += 1;
            return Err((wait_ms, STALE));
        }
        let (now, per_s) = (desk.turn.now, desk.limits.admission_per_s);
        let admitted = self.admission.admit(now, per_s, |below| desk.draw(below));
        desk.report.sessions_deferred += u64::from(admitted.is_err());
        admitted.map_err(|wait_ms| (wait_ms, "very many clients come"))
    }

    /// In how many milliseconds a client should come where the server takes none, since it does not reach the others of its cluster.
    fn turned_away(desk: &mut Desk) -> Option<u64> {
        let wait_ms = desk.limits.leader_patience_ms;
        desk.groups.turns_away().then(|| wait_ms + desk.draw(wait_ms + 1))
    }

    /// It is known who the client is that wants to connect; nothing happens where it is gone.
    pub fn identified(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey, identified: Identified) {
        match self.stage(key) {
            Some(Stage::Native(_)) => self.native_identified(desk, audience, key, identified),
            Some(Stage::Mqtt(_)) => self.client_identified(desk, audience, key, identified),
            Some(Stage::Page(_)) => self.asker_identified(desk, audience, key, identified),
            _ => {}
        }
    }

    /// Where the connection comes from, an IPv4 address mapped, and the principal of the certificate that it has shown.
    fn shown_before(&self, key: ConnectionKey) -> (Ipv6Addr, Option<Box<str>>) {
        let arrival = self.connections.get(key).and_then(|connection| connection.arrival.as_ref());
        arrival.map_or((Ipv6Addr::UNSPECIFIED, None), |arrival| (arrival.address, arrival.principal.clone()))
    }

    /// Whoever is at the other end has shown that it is this, by a certificate. It comes from somewhere, as was noted before.
    pub fn note_principal(&mut self, key: ConnectionKey, principal: Box<str>) {
        let arrival = self.connections.get_mut(key).and_then(|connection| connection.arrival.as_deref_mut());
        if let Some(arrival) = arrival {
            arrival.principal = Some(principal);
        }
    }

    /// The connection comes from there.
    pub fn note_origin(&mut self, key: ConnectionKey, address: IpAddr, place: Place) {
        // A session has it already where its client did not wait for the answer to its head.
        if let Some(connection) = self.connections.get_mut(key).filter(|connection| connection.stage.session().is_none()) {
            let address = in_six(address);
            let principal = connection.arrival.take().and_then(|arrival| arrival.principal);
            connection.arrival = Some(Box::new(Arrival { address, place, principal }));
        }
    }

    /// Its session has from now on what is known of where it comes from.
    fn give_origin(&mut self, audience: &mut Audience, key: ConnectionKey, session: SessionKey, environment: &str) {
        let arrival = self.connections.get_mut(key).and_then(|connection| connection.arrival.take());
        if let Some(session) = audience.session_mut(session) {
            session.arrive(arrival.map(|arrival| *arrival), environment);
        }
    }

    /// The same of a session that goes on: others may have been told where it was, and its paths may mean other topics here.
    fn change_origin(&mut self, desk: &mut Desk, audience: &mut Audience, at: (ConnectionKey, SessionKey), environment: &str) {
        let (key, session) = at;
        let before = audience.see(desk, session);
        self.give_origin(audience, key, session, environment);
        audience.properties_changed(desk, session, before);
        audience.remap(desk, session);
    }

    fn stage(&self, key: ConnectionKey) -> Option<&Stage> {
        self.connections.get(key).map(|connection| &connection.stage)
    }

    /// The session whose requests the connection brings.
    pub fn session(&self, key: ConnectionKey) -> Option<SessionKey> {
        self.stage(key)?.session()
    }

    /// When something was last received by the connection.
    pub fn last_received(&self, key: ConnectionKey) -> Option<Time> {
        self.connections.get(key).map(|connection| connection.last_received)
    }

    /// Whether what the connection brings has to wait, so that it should not be read.
    pub fn is_waiting(&self, key: ConnectionKey) -> bool {
        self.connections.get(key).is_some_and(Connection::is_waiting)
    }

    // Ends.

    /// The transport is gone.
    pub fn closed(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey) {
        desk.effects.close(key);
        let Some(connection) = self.connections.remove(key) else { return };
        match connection.stage {
            // The session still stood, for its queue.
            Stage::Ending(Some(leaving)) => audience.leave_session(desk, leaving.session),
            stage => {
                if let Some(session) = stage.session() {
                    audience.leave_session(desk, session);
                }
            }
        }
    }

    /// Closes, and forgets what is queued.
    pub fn close_now(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey, code: CloseCode, reason: &str) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if let Some(session) = connection.stage.session() {
            audience.note_end(session, ended_by(code));
        }
        match &mut connection.stage {
            Stage::Head { .. } | Stage::Page(_) => {}
            Stage::Native(_) => websocket::put_close(&mut connection.raw, code.code(), reason),
            Stage::Mqtt(_) => return self.close_mqtt(desk, audience, key, code, reason),
            // Where the session still stands for its queue it may overflow: it ends now. Otherwise it has ended already.
            Stage::Ending(leaving) => {
                let Some(leaving) = leaving.take() else { return };
                if let Last::Close(_) = leaving.last {
                    websocket::put_close(&mut connection.raw, code.code(), reason);
                }
                audience.leave_session(desk, leaving.session);
                return desk.effects.wake(key);
            }
        }
        self.end(desk, audience, key);
    }

    /// Closes once everything queued is sent.
    pub fn close_after_queue(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey, code: CloseCode) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.stage.session().is_none() {
            return match connection.stage {
                Stage::Ending(_) => {}
                Stage::Native(_) | Stage::Mqtt(_) => self.close_now(desk, audience, key, code, code.name()),
                Stage::Head { .. } | Stage::Page(_) => self.end(desk, audience, key),
            };
        }
        let (session, last) = match std::mem::replace(&mut connection.stage, Stage::Ending(None)) {
            Stage::Native(native) => (native.dialogue.session().expect("it has a session"), Last::Close(code)),
            Stage::Mqtt(link) => (link.session.expect("it has a session"), Last::Mqtt(link)),
            _ => unreachable!("only these have sessions"),
        };
        // Its client is not heard any more.
        audience.note_end(session, ended_by(code));
        audience.end_with_connection(desk, session);
        self.start_ending(desk, key, Some(Box::new(Leaving { session, last })));
    }

    /// Closes the connections that their sessions cannot go on with.
    pub fn close_given_up(&mut self, desk: &mut Desk, audience: &mut Audience) {
        // Each session gives its connection up once.
        while let Some(GivenUp { connection, why }) = desk.effects.given_up.pop_front() {
            match why {
                Why::Overflow => {
                    let reason = "the session does not read fast enough";
                    self.close_now(desk, audience, connection, CloseCode::SendQueueOverflow, reason);
                }
                Why::Overfull => {
                    let reason = format!("the session selects more than its most of {} topics", desk.limits.subscriptions_max);
                    self.close_now(desk, audience, connection, CloseCode::ClosedByControl, &reason);
                }
                Why::Expired => {
                    let reason = "what the client showed is worth nothing any more";
                    self.close_now(desk, audience, connection, CloseCode::AuthenticationFailed, reason);
                }
                Why::Stale => self.close_now(desk, audience, connection, CloseCode::ComeLater, STALE),
                Why::Closed(reason) => self.close_now(desk, audience, connection, CloseCode::ClosedByControl, &reason),
                Why::Refused(refusal) => self.close_refused(desk, audience, connection, &refusal),
            }
        }
    }

    /// Tells every session that the server stops. Queues are still sent; nothing is read any more. All in one turn, the last that serves anybody:
    /// little for each of at most `limits.connections_max`.
    pub fn shut_down(&mut self, desk: &mut Desk, audience: &mut Audience) {
        for key in self.connections.keys().collect::<Vec<_>>() {
            self.close_after_queue(desk, audience, key, CloseCode::ShuttingDown);
        }
    }

    /// Reads nothing more and leaves the session; sends what `raw` holds, then ends the transport.
    pub fn end(&mut self, desk: &mut Desk, audience: &mut Audience, key: ConnectionKey) {
        if let Some(session) = self.session(key) {
            audience.leave_session(desk, session);
        }
        self.start_ending(desk, key, None);
    }

    fn start_ending(&mut self, desk: &mut Desk, key: ConnectionKey, leaving: Option<Box<Leaving>>) {
        let deadline = desk.turn.now.after_ms(desk.limits.close_timeout_ms);
        let connection = self.connections.get_mut(key).expect("a connection that begins to end is there");
        connection.stage = Stage::Ending(leaving);
        connection.deadline = deadline;
        self.wheel.insert(deadline, key);
        desk.effects.wake(key);
    }
}

/// Why a server takes no sessions that does not reach the others of its cluster.
const STALE: &str = "this server does not reach the others of its cluster, which go on";

/// An address as sessions have it.
fn in_six(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// Why a session is over that ends with a connection which is closed so.
fn ended_by(code: CloseCode) -> Ended {
    match code {
        CloseCode::Normal | CloseCode::SessionTakenOver => Ended::ByClient,
        CloseCode::KeepAliveTimeout => Ended::ConnectionLost,
        CloseCode::ClosedByControl => Ended::ByControl,
        CloseCode::ShuttingDown => Ended::ShuttingDown,
        _ => Ended::ByServer,
    }
}
