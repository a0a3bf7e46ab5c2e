//! How a session stands with its client, the same for every protocol.

use crate::base::{ConnectionKey, Time};

/// One that is over is not there any more; one that is taken over is connected by another connection.
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
