//! A session: what a client has selected, what it holds, and what it still has to be sent.
//!
//! How it stands with its client is one enum for every protocol, `Life`. Who asks for something is one too, `Asker`: most often a session, by its key.

mod filters;
mod group;
mod held;
mod listener;
mod local_topic;
mod lock;
pub mod mqtt;
mod mqtt_limits;
mod notes;
mod origin;
mod selections;
mod send_queue;
mod sent;
mod sweep;
mod user_properties;
mod who;

pub use filters::Filter;
pub use group::{Group, Member};
pub use held::{HeldBytes, Hold};
pub use listener::{Extras, History, Known, Listened, Listener, Review, Serving, Stream};
pub use local_topic::{Delivery, LocalTopic, Outgoing, Subscriber, number_payload, type_properties};
pub use lock::{Claim, Lock, LockScope, LockStanding};
pub use mqtt::Mqtt;
pub use mqtt_limits::MqttLimits;
pub use origin::{Arrival, ENVIRONMENT_BYTES_MAX, Origin, Place};
pub use selections::{Scopes, Step};
pub use send_queue::{Entry, Newest, QueueLimits, SendQueue, Steps};
pub use sent::{Durable, Miscounted, Resume, Secret, Send, Told};
pub use sweep::{Ending, Sweep, SweepKind};
pub use user_properties::{Checked, UserProperties};
pub use who::Who;

use crate::base::{ConnectionKey, SessionId, SessionKey, SplitMap, Time, TopicId};
use crate::protocol::Reason;
use crate::security::{PathPermission, Rights};
use crate::topic::publication::Encodings;
use crate::topic::selector::Selector;
use crate::topic::specification::Specification;
use crate::wire::event;
use crate::wire::mqtt::Version;
use std::net::Ipv6Addr;
use std::rc::Rc;
use std::sync::Arc;

/// How a session's connection writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    Binary(Encodings),
    Text,
    Mqtt(MqttForm),
}

impl Form {
    /// Whether what it is sent may be the same bytes as for others.
    pub fn is_shared(self) -> bool {
        match self {
            Self::Binary(_) | Self::Text => true,
            Self::Mqtt(form) => form.is_shared,
        }
    }

    /// `None` for a session of MQTT.
    pub fn native(self) -> Option<event::Form> {
        match self {
            Self::Binary(_) => Some(event::Form::Binary),
            Self::Text => Some(event::Form::Text),
            Self::Mqtt(_) => None,
        }
    }
}

/// How a connection of MQTT writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MqttForm {
    pub version: Version,
    pub is_websocket: bool,
    /// What it is sent does not depend on its client: other connections may be sent the same bytes.
    pub is_shared: bool,
}

/// A client's state on its shard.
pub struct Session {
    pub id: SessionId,
    pub life: Life,
    pub form: Form,
    pub selections: Scopes,
    /// Each subscribed topic, and this session's place among its subscribers.
    pub subscriptions: SplitMap<TopicId, (Rc<LocalTopic>, u32)>,
    pub queue: SendQueue,
    pub connected: Time,
    /// Whether others have ordered that only the newest values wait for it.
    pub is_conflated: bool,
    /// Why it is over, once it is.
    pub ended: Ended,
    /// How often older values gave way to newer ones, and the bytes that it was sent.
    pub conflations: u32,
    pub sent_bytes: u64,
    pub extras: Option<Box<Extras>>,
    /// Of its client, by its last connection, an IPv4 address mapped; unspecified where nobody knows.
    pub address: Ipv6Addr,
    /// Who its client is; `None` of an anonymous one without roles.
    pub who: Option<Box<Who>>,
    /// What its client may do: nothing where nobody has said.
    rights: Option<Arc<Rights>>,
    /// What is known of its client beside that.
    pub origin: Option<Box<Origin>>,
    /// Of one of the native protocol that outlives its connection.
    pub resume: Option<Box<Resume>>,
    /// Of a session of MQTT.
    pub mqtt: Option<Box<Mqtt>>,
}

impl Session {
    pub fn new(id: SessionId, life: Life, form: Form, connected: Time) -> Self {
        let (selections, subscriptions, queue) = (Scopes::default(), SplitMap::default(), SendQueue::default());
        Self {
            id,
            life,
            form,
            selections,
            subscriptions,
            queue,
            connected,
            is_conflated: false,
            ended: Ended::default(),
            conflations: 0,
            sent_bytes: 0,
            extras: None,
            address: Ipv6Addr::UNSPECIFIED,
            who: None,
            rights: None,
            origin: None,
            resume: None,
            mqtt: None,
        }
    }

    /// Whether it is one client's: neither the server's own nor a group's.
    pub fn is_client(&self) -> bool {
        !matches!(self.life, Life::Inside { .. } | Life::Shared)
    }

    /// What ends it, if it is over with its connection: the first cause counts.
    pub fn end_by(&mut self, ended: Ended) {
        if self.ended == Ended::ConnectionLost {
            self.ended = ended;
        }
    }

    /// Its client's; empty of an anonymous one.
    pub fn principal(&self) -> &str {
        self.who.as_ref().map_or("", |who| &who.principal)
    }

    /// What its client is by its roles, as `$Roles` has them.
    pub fn roles(&self) -> &str {
        self.who.as_ref().map_or("", |who| &who.roles)
    }

    /// The author of events that it appends; none of an anonymous one.
    pub fn author(&self) -> Option<Arc<str>> {
        self.who.as_ref().map(|who| who.principal.clone()).filter(|principal| !principal.is_empty())
    }

    /// What it may do from now on.
    pub fn give_rights(&mut self, rights: Arc<Rights>) {
        self.rights = Some(rights);
    }

    pub fn rights(&self) -> &Rights {
        self.rights.as_deref().unwrap_or(Rights::nothing())
    }

    /// The same, to be sent along with a question.
    pub fn shared_rights(&self) -> Option<Arc<Rights>> {
        self.rights.clone()
    }

    /// What its connection has shown of its client: where it is, and who by a certificate.
    pub fn shown(&self) -> (Ipv6Addr, Option<Box<str>>) {
        (self.address, self.origin.as_ref().and_then(|origin| origin.certificate.clone()))
    }

    /// Its client is where this connection comes from, and runs in this.
    pub fn arrive(&mut self, arrival: Option<Arrival>, environment: &str) {
        self.address = arrival.as_ref().map_or(Ipv6Addr::UNSPECIFIED, |arrival| arrival.address);
        let (place, certificate) = arrival.map(|arrival| (arrival.place, arrival.principal)).unwrap_or_default();
        let origin = Origin { place, environment: environment.into(), certificate };
        self.origin = (origin != Origin::default()).then(|| Box::new(origin));
    }

    /// It loses its connection, and what only a connected one has. For how long its client wants it to stay, in milliseconds; the most that can be said
    /// stands for ever.
    pub fn leave(&mut self) -> u64 {
        self.life = Life::GivenUp;
        if let Some(extras) = self.extras.as_mut() {
            extras.is_asked_about = false;
        }
        let Some(mqtt) = self.mqtt.as_deref_mut() else { return self.resume.as_ref().map_or(0, |resume| resume.stay_ms) };
        mqtt.answers = None;
        mqtt.subscribing.clear();
        if mqtt.expiry_s == u32::MAX { u64::MAX } else { u64::from(mqtt.expiry_s) * 1000 }
    }

    /// Whether it is sent nothing now but what its earlier connection may not have brought.
    pub fn has_again(&self) -> bool {
        self.resume.as_ref().is_some_and(|resume| resume.has_again())
    }

    /// Whether its client has to say first what it has processed.
    pub fn waits_for_client(&self, recovery_bytes_max: usize) -> bool {
        self.resume.as_ref().is_some_and(|resume| resume.is_full(recovery_bytes_max))
    }

    /// Whether what it is sent waits for it: somebody takes it at once, or will.
    pub fn is_awaited(&self) -> bool {
        self.life.is_heard() || self.resume.is_some() && self.life.away().is_some()
    }

    pub fn extras_mut(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }

    /// Whether its client is still to be sent something again: no other session is sent the same.
    pub fn has_to_repeat(&self) -> bool {
        self.mqtt.as_ref().is_some_and(|mqtt| mqtt.outbound.is_repeating())
    }

    /// Whether it wants the topic at its path, and may have it.
    pub fn selects(&self, topic: &LocalTopic) -> bool {
        self.selects_at(topic.path.as_str(), &topic.specification)
    }

    /// The same of a topic that is found at `path`.
    pub fn selects_at(&self, path: &str, specification: &Specification) -> bool {
        let here = self.rights().at(path);
        let (may_read, may_select) = (here.contains(PathPermission::ReadTopic), here.contains(PathPermission::SelectTopic));
        let owns = !(may_read && may_select) && self.owns(specification);
        (may_read || owns) && self.wants(path, may_select || owns)
    }

    /// Whether its client may know of the topic that is found at `path`, be it by its roles or as the topic's owner.
    pub fn may_see(&self, path: &str, specification: &Specification) -> bool {
        self.rights().may_see(path) || self.owns(specification)
    }

    /// Whether what its client's roles do not permit is permitted to it as the topic's owner.
    pub fn owns(&self, specification: &Specification) -> bool {
        specification.is_owned_by(self.principal())
    }

    fn wants(&self, path: &str, may_select: bool) -> bool {
        self.selections.select(path, may_select) || may_select && self.mqtt.as_ref().is_some_and(|mqtt| mqtt.selects(path))
    }

    /// Why it is not subscribed any more to what it does not select.
    pub fn end_of(&self, path: &str) -> Reason {
        if self.wants(path, true) { Reason::AccessDenied } else { Reason::Requested }
    }

    /// The selectors that select, each once.
    pub fn selecting(&self) -> Vec<Selector> {
        self.mqtt.as_ref().map_or_else(|| self.selections.selecting(), |mqtt| mqtt.filters.selectors().cloned().collect())
    }

    /// Leaves those of the selectors that select no longer, each once.
    pub fn keep_released(&self, selectors: &mut Vec<Selector>) {
        match &self.mqtt {
            Some(mqtt) => selectors.retain(|selector| mqtt.filters.count(selector) == 0),
            None => self.selections.keep_released(selectors),
        }
    }

    /// Whether it is subscribed to this very topic, and not to another of the path or a forgotten one.
    pub fn holds(&self, topic: &LocalTopic) -> bool {
        self.subscriptions.get(&topic.id).is_some_and(|(held, _)| std::ptr::eq(&**held, topic))
    }
}

/// Why a session is over. The numbers are those of the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Ended {
    ByClient = 1,
    /// It could not go on without.
    #[default]
    ConnectionLost = 2,
    /// Nobody came back in time.
    Expired = 3,
    /// Another session has ordered it.
    ByControl = 4,
    /// For what its client did, or did not read.
    ByServer = 5,
    ShuttingDown = 6,
}

/// How a session stands with its client. One that is over is not there any more; one that is taken over is connected by another connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    Connected(ConnectionKey),
    /// It is used from within the process; whether it was told that there is something for it.
    Inside {
        is_woken: bool,
    },
    /// It cannot go on with its connection, which is about to be closed.
    GivenUp,
    /// It has no connection.
    Away(Away),
    /// It stands for many and never has a connection.
    Shared,
    /// It is over, has no name any more, and is sent nothing; it stands until it is taken off its topics.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Away {
    /// The moment at which it is over.
    pub expires: Time,
    /// The moment at which it has something to do next: to publish its will, or to end. `None` while that is under way.
    pub due: Option<Time>,
}

impl Life {
    pub fn connection(self) -> Option<ConnectionKey> {
        match self {
            Self::Connected(connection) => Some(connection),
            _ => None,
        }
    }

    /// Whether somebody takes at once what it is sent.
    pub fn is_heard(self) -> bool {
        matches!(self, Self::Connected(_) | Self::Inside { .. })
    }

    pub fn away(self) -> Option<Away> {
        match self {
            Self::Away(away) => Some(away),
            _ => None,
        }
    }
}

/// Who wants something, and gets the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// The server itself, which waits for none.
    Server,
    Session(Caller),
}

/// A session, and what of it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    pub session: SessionKey,
    pub call: Call,
}

/// What a session is answered. Those of packets name the session's connection too, since an identifier is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// A request of the native protocol; 0 where only a refusal is told.
    Request(u64),
    /// PUBLISH of QoS 0: only a refusal is told.
    Publish,
    /// PUBLISH of QoS 1.
    PublishAcknowledged {
        id: u16,
        epoch: u32,
    },
    /// PUBLISH of QoS 2.
    PublishOnce {
        id: u16,
    },
    Subscribe {
        id: u16,
        epoch: u32,
    },
    /// A group's selector, for the member of this number.
    Join {
        number: u32,
    },
    /// A question to an authenticator, which the server asks.
    Authentication {
        number: u64,
    },
    /// A will: a refusal is told to the operator.
    Will {
        number: u32,
    },
    /// A message that is to be answered: what came of it, of the request that it became, and of the answer.
    Reply {
        number: u64,
    },
    /// A filter that is taken up again: nobody waits.
    Unheard,
}

impl Asker {
    /// Whether it is answered only if what it asks is refused.
    pub fn hears_only_refusals(self) -> bool {
        matches!(self, Self::Server | Self::Session(Caller { call: Call::Request(0) | Call::Publish, .. }))
    }
}

impl From<Caller> for Asker {
    fn from(caller: Caller) -> Self {
        Self::Session(caller)
    }
}
