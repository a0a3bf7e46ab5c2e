//! What simulated clients say to each other, in both wire forms: every request and answer has a number of its own.

use crate::heard::Body;
use crate::resume_client::number_of;
use serde_json::value::{RawValue, to_raw_value};
use std::collections::BTreeMap;
use tidewire::surface::value::ValueType;
use tidewire::surface::wire::native::{Ask, Request};
use tidewire::surface::wire::varint::Reader;

/// Who is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    Path,
    /// By its name.
    Session(String),
    Filter(String),
}

#[derive(Clone, Debug)]
pub enum Said {
    Handle {
        handler: u64,
        path: &'static str,
    },
    Unhandle {
        handler: u64,
    },
    Request {
        whom: Whom,
        path: &'static str,
        timeout_ms: u64,
        number: u64,
        value: String,
    },
    /// With the number of the request.
    Respond {
        request: u64,
        value: String,
    },
    Reject {
        request: u64,
    },
    Close {
        session: String,
    },
}

/// What the server tells beside answers.
#[derive(Debug)]
pub enum Told {
    Requested { handler: u64, request: u64, session: String, path: String, number: u64, properties: usize },
    Response { id: u64, session: String, number: u64 },
    ResponseError { id: u64, session: String, code: u16 },
}

/// What a client has heard of others.
#[derive(Debug)]
pub enum Talk {
    /// Its session is there.
    Begun {
        session: String,
    },
    Told(Told),
    Answered {
        id: u64,
        said: Said,
        result: Result<Body, u16>,
    },
    /// Of a message that waits for no answer.
    Refused(u16),
}

const KIND: u8 = ValueType::String as u8;

impl Said {
    pub fn native(&self, id: u64) -> Request<'_> {
        let ask = match self {
            Self::Handle { handler, path } => {
                let session_properties = vec!["$SessionId".into(), "$Transport".into()];
                Ask::HandleRequests { handler: *handler, path: (*path).into(), session_properties }
            }
            Self::Unhandle { handler } => Ask::UnhandleRequests { handler: *handler },
            Self::Request { whom, path, timeout_ms, value, .. } => {
                let (path, timeout_ms, kind, value) = ((*path).into(), *timeout_ms, KIND, value.as_bytes().into());
                match whom {
                    Whom::Path => Ask::Request { path, timeout_ms, kind, value },
                    Whom::Session(session) => Ask::RequestSession { session: session.into(), path, timeout_ms, kind, value },
                    Whom::Filter(filter) => Ask::RequestFilter { filter: filter.into(), path, timeout_ms, kind, value },
                }
            }
            Self::Respond { request, value } => Ask::Respond { request: *request, kind: KIND, value: value.as_bytes().into() },
            Self::Reject { request } => Ask::Reject { request: *request, message: "no".into() },
            Self::Close { session } => Ask::CloseSessions { session: session.into(), filter: "".into(), message: "enough".into() },
        };
        Request { id, ask }
    }

    /// Gives the operation's name.
    pub fn put_text(&self, members: &mut BTreeMap<String, Box<RawValue>>) -> &'static str {
        let mut put = |name: &str, value: Box<RawValue>| drop(members.insert(name.to_owned(), value));
        match self {
            Self::Handle { handler, path } => {
                put("handler", raw(handler));
                put("path", raw(path));
                put("session_properties", raw(&["$SessionId", "$Transport"]));
                "handle_requests"
            }
            Self::Unhandle { handler } => {
                put("handler", raw(handler));
                "unhandle_requests"
            }
            Self::Request { whom, path, timeout_ms, value, .. } => {
                put("path", raw(path));
                put("timeout_ms", raw(timeout_ms));
                put("type", raw(&"string"));
                put("value", raw(value));
                match whom {
                    Whom::Path => "request",
                    Whom::Session(session) => {
                        put("session", raw(session));
                        "request_session"
                    }
                    Whom::Filter(filter) => {
                        put("filter", raw(filter));
                        "request_filter"
                    }
                }
            }
            Self::Respond { request, value } => {
                put("request", raw(request));
                put("type", raw(&"string"));
                put("value", raw(value));
                "respond"
            }
            Self::Reject { request } => {
                put("request", raw(request));
                put("message", raw(&"no"));
                "reject"
            }
            Self::Close { session } => {
                put("session", raw(session));
                put("message", raw(&"enough"));
                "close_sessions"
            }
        }
    }
}

fn raw(value: &(impl serde::Serialize + ?Sized)) -> Box<RawValue> {
    to_raw_value(value).expect("texts and numbers are JSON")
}

/// The number in a message's value.
pub fn number_in(kind: u8, value: Option<&[u8]>) -> u64 {
    assert_eq!(kind, KIND, "the type is the one that was sent");
    number_of(value.expect("no message here is null"))
}

impl Body {
    /// The number of a response.
    pub fn response(&self) -> u64 {
        match self {
            Self::Binary(body) => {
                let mut reader = Reader(body);
                let (kind, length) = (reader.byte().expect("a type"), reader.varint().expect("a length"));
                assert_eq!(reader.0.len() as u64 + 1, length, "the value is all that follows");
                number_in(kind, Some(reader.0))
            }
            Self::Text(members) => {
                let text: String = serde_json::from_str(members["value"].get()).expect("a text");
                number_of(text.as_bytes())
            }
        }
    }

    /// How many sessions were asked.
    pub fn asked(&self) -> u64 {
        match self {
            Self::Binary(body) => Reader(body).varint().expect("a number"),
            Self::Text(members) => members["asked"].get().parse().expect("a number"),
        }
    }
}
