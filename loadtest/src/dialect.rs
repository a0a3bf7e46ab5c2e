//! The seam between the load and the protocol that carries it.
//!
//! A dialect writes the requests of a load and reads the server's frames in place. The engine knows
//! only `Request` and `Event`; another protocol is another variant here and a file beside `native`.

pub mod native;

use tidewire::value::ValueType;

/// Which protocol a run speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Native,
}

/// What the load asks of a server. `id` 0 asks for no answer where the protocol allows that.
#[derive(Clone, Copy, Debug)]
pub enum Request<'a> {
    Connect { id: u64, name: &'a str, capabilities: u64 },
    Subscribe { id: u64, selector: &'a str },
    Create { id: u64, path: &'a str, value_type: ValueType, value: &'a [u8] },
    Set { id: u64, path: &'a str, value_type: ValueType, value: &'a [u8] },
    Remove { id: u64, selector: &'a str },
    Ping,
    Pong,
    Close,
}

/// What the server says, as far as a load cares. Slices lie in the caller's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    Value {
        topic: u64,
        value: &'a [u8],
    },
    Delta {
        topic: u64,
        form: DeltaForm,
        delta: &'a [u8],
    },
    Topic {
        topic: u64,
        path: &'a str,
    },
    Welcome {
        keep_alive_ms: u64,
    },
    Accepted {
        id: u64,
    },
    Refused {
        id: u64,
        code: u64,
        message: &'a str,
    },
    Closing {
        code: u64,
        message: &'a str,
    },
    Ping,
    /// A frame that a load has no use for.
    Other,
}

/// How a delta is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeltaForm {
    Deflate,
    Copy,
}

/// The server's bytes are not a frame of the dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl Dialect {
    pub fn subprotocol(self) -> &'static str {
        match self {
            Self::Native => native::SUBPROTOCOL,
        }
    }

    /// The path of the WebSocket where the URL names none.
    pub fn default_path(self) -> &'static str {
        match self {
            Self::Native => "/tidewire",
        }
    }

    /// What `CONNECT` declares when deltas are wanted.
    pub fn delta_capabilities(self) -> u64 {
        match self {
            Self::Native => native::CAPABILITY_DELTA_DEFLATE | native::CAPABILITY_DELTA_COPY,
        }
    }

    /// The selector of every topic below `root`.
    pub fn selector_below(self, root: &str) -> String {
        match self {
            Self::Native => format!("?{root}//"),
        }
    }

    /// Appends one request.
    pub fn encode(self, request: &Request<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Native => native::encode(request, out),
        }
    }

    /// Reads the frame at the start of `bytes` and its length. `Ok(None)`: not whole yet.
    #[inline]
    pub fn parse(self, bytes: &[u8]) -> Result<Option<(Event<'_>, usize)>, Malformed> {
        match self {
            Self::Native => native::parse(bytes),
        }
    }
}
