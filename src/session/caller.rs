//! Who asks for something, and what is answered.

use crate::base::SessionKey;

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
        number: u16,
    },
    /// A will, or a filter that is taken up again: nobody waits.
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
