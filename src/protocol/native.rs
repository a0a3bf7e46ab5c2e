//! One connection's dialogue of the native protocol: what may come when, as `mqtt` is for MQTT.
//!
//! Sans-IO: a request in, what it comes to out. Sessions, and what requests ask for, are left to others.

use super::{ErrorCode, Refusal};
use crate::wire::native::{self, About, Ask, Credentials, Properties, Request};
use std::borrow::Cow;

/// How one connection stands: its client says CONNECT once, and everything else to the session that begins with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialogue<S> {
    Greeting,
    Open(S),
}

/// CONNECT: a session is to begin, or to go on; WELCOME answers the request of this id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    pub id: u64,
    /// What the client understands.
    pub capabilities: u64,
    /// For how long the session should stand without a connection.
    pub resume_ms: u64,
    /// Of the session that is to go on; empty for a new one.
    pub token: Cow<'a, str>,
    /// Messages of that session that the client has processed.
    pub processed: u64,
    /// What the client says of its session.
    pub properties: Properties<'a>,
    /// Whether the session should outlive the server too.
    pub is_durable: bool,
    pub about: Box<About<'a>>,
}

impl Connect<'_> {
    pub fn into_owned(self) -> Connect<'static> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        let properties = self.properties.into_iter().map(|(key, value)| (owned(key), owned(value))).collect();
        Connect { token: owned(self.token), properties, about: Box::new(self.about.into_owned()), ..self }
    }
}

/// What a request comes to.
#[derive(Debug, PartialEq)]
pub enum Turn<'a, S> {
    Connect(Connect<'a>),
    /// A session's request.
    Serve(S, Request<'a>),
    /// The session's client shows anew who it is.
    Authenticate {
        session: S,
        id: u64,
        credentials: Box<Credentials<'a>>,
    },
    /// The client has processed so many messages of its session.
    Processed {
        session: S,
        id: u64,
        messages: u64,
    },
    /// PONG is due.
    Pong,
    /// Nothing.
    Quiet,
    Refuse {
        id: u64,
        refusal: Refusal,
    },
    /// The same, and the connection closes for want of a common version.
    RefuseVersion {
        id: u64,
        refusal: Refusal,
    },
    /// The client takes leave.
    Close,
}

impl<S: Copy> Dialogue<S> {
    pub fn session(&self) -> Option<S> {
        match self {
            Self::Greeting => None,
            Self::Open(session) => Some(*session),
        }
    }

    pub fn handle<'a>(&self, request: Request<'a>) -> Turn<'a, S> {
        let Request { id, ask } = request;
        let refusal = match (ask, self.session()) {
            (Ask::Ping, _) => return Turn::Pong,
            (Ask::Pong, _) => return Turn::Quiet,
            (Ask::Close, _) => return Turn::Close,
            (Ask::Broken, _) => Refusal::new(ErrorCode::MalformedFrame, "the frame's body does not have its operation's form"),
            (Ask::Unknown { name }, _) => {
                Refusal::new(ErrorCode::UnknownOperation, format!("this server does not know the operation '{name}'"))
            }
            (Ask::Processed { messages }, Some(session)) => return Turn::Processed { session, id, messages },
            (Ask::Connect { version, capabilities, resume_ms, token, processed, properties, durable, about, .. }, None) => {
                if version >= native::VERSION {
                    let is_durable = durable;
                    return Turn::Connect(Connect { id, capabilities, resume_ms, token, processed, properties, is_durable, about });
                }
                let message = format!("this server speaks version {}", native::VERSION);
                return Turn::RefuseVersion { id, refusal: Refusal::new(ErrorCode::UnsupportedVersion, message) };
            }
            (Ask::Connect { .. }, Some(_)) => Refusal::new(ErrorCode::AlreadyConnected, "this connection is connected already"),
            (_, None) => Refusal::new(ErrorCode::NotConnected, "CONNECT must come first"),
            (Ask::Authenticate { credentials }, Some(session)) => return Turn::Authenticate { session, id, credentials },
            (ask, Some(session)) => return Turn::Serve(session, Request { id, ask }),
        };
        Turn::Refuse { id, refusal }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(version: u64) -> Request<'static> {
        let mut ask = Ask::connect("", 3);
        let Ask::Connect { version: asked, .. } = &mut ask else { unreachable!() };
        *asked = version;
        Request { id: 1, ask }
    }

    fn subscribe() -> Request<'static> {
        Request { id: 2, ask: Ask::Subscribe { selector: "a".into(), scope: "".into() } }
    }

    fn processed() -> Request<'static> {
        Request { id: 3, ask: Ask::Processed { messages: 9 } }
    }

    fn refused(turn: Turn<'_, u8>) -> ErrorCode {
        match turn {
            Turn::Refuse { refusal, .. } | Turn::RefuseVersion { refusal, .. } => refusal.code,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn connect_comes_first_and_once() {
        let mut dialogue = Dialogue::Greeting;
        assert_eq!(refused(dialogue.handle(subscribe())), ErrorCode::NotConnected);
        assert_eq!(refused(dialogue.handle(connect(native::VERSION - 1))), ErrorCode::UnsupportedVersion);
        let (token, properties, about) = ("".into(), Vec::new(), Box::default());
        let connected = Connect { id: 1, capabilities: 3, resume_ms: 0, token, processed: 0, properties, is_durable: false, about };
        assert_eq!(dialogue.handle(connect(native::VERSION)), Turn::Connect(connected));
        assert_eq!(refused(dialogue.handle(processed())), ErrorCode::NotConnected);
        dialogue = Dialogue::Open(7);
        assert_eq!(dialogue.handle(subscribe()), Turn::Serve(7, subscribe()));
        assert_eq!(dialogue.handle(processed()), Turn::Processed { session: 7, id: 3, messages: 9 });
        assert_eq!(refused(dialogue.handle(connect(native::VERSION))), ErrorCode::AlreadyConnected);
    }

    #[test]
    fn signs_of_life_and_leave_need_no_session() {
        let dialogue = Dialogue::<u8>::Greeting;
        let ask = |ask| Request { id: 0, ask };
        assert_eq!(dialogue.handle(ask(Ask::Ping)), Turn::Pong);
        assert_eq!(dialogue.handle(ask(Ask::Pong)), Turn::Quiet);
        assert_eq!(dialogue.handle(ask(Ask::Close)), Turn::Close);
        assert_eq!(refused(dialogue.handle(ask(Ask::Broken))), ErrorCode::MalformedFrame);
        assert_eq!(refused(dialogue.handle(ask(Ask::Unknown { name: "x".into() }))), ErrorCode::UnknownOperation);
    }
}
