//! One connection's dialogue of the native protocol: what may come when, as `mqtt` is for MQTT.
//!
//! Sans-IO: a request in, what it comes to out. Sessions, and what requests ask for, are left to others.

use super::{ErrorCode, Refusal};
use crate::wire::native::{self, Ask, Request};

/// How one connection stands: its client says CONNECT once, and everything else to the session that begins with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialogue<S> {
    Greeting,
    Open(S),
}

/// What a request comes to.
#[derive(Debug, PartialEq)]
pub enum Turn<'a, S> {
    /// A session is to begin, whose client understands so much; WELCOME answers the request of this id.
    Welcome {
        id: u64,
        capabilities: u64,
    },
    /// A session's request.
    Serve(S, Request<'a>),
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
            (Ask::Connect { version, capabilities, .. }, None) => {
                if version >= native::VERSION {
                    return Turn::Welcome { id, capabilities };
                }
                let message = format!("this server speaks version {}", native::VERSION);
                return Turn::RefuseVersion { id, refusal: Refusal::new(ErrorCode::UnsupportedVersion, message) };
            }
            (Ask::Connect { .. }, Some(_)) => Refusal::new(ErrorCode::AlreadyConnected, "this connection is connected already"),
            (_, None) => Refusal::new(ErrorCode::NotConnected, "CONNECT must come first"),
            (ask, Some(session)) => return Turn::Serve(session, Request { id, ask }),
        };
        Turn::Refuse { id, refusal }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(version: u64) -> Request<'static> {
        Request { id: 1, ask: Ask::Connect { version, name: "".into(), capabilities: 3 } }
    }

    fn subscribe() -> Request<'static> {
        Request { id: 2, ask: Ask::Subscribe { selector: "a".into(), scope: "".into() } }
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
        assert_eq!(dialogue.handle(connect(native::VERSION)), Turn::Welcome { id: 1, capabilities: 3 });
        dialogue = Dialogue::Open(7);
        assert_eq!(dialogue.handle(subscribe()), Turn::Serve(7, subscribe()));
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
