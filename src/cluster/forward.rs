//! An update on its way to the server that leads its topic's group, and the answer on its way back: rkyv archives behind a number for their form, checked on read.
//!
//! What was checked before it was forwarded, path and value, is taken as checked: servers of a cluster trust each other. Numbers of types and codes are those of the wire.

use super::entry::FORM;
use rkyv::rancor::Failure;
use rkyv::with::{AsOwned, InlineAsBox, Map};
use rkyv::{Archive, Serialize};
use std::borrow::Cow;

/// One update of one topic.
#[derive(Archive, Serialize)]
pub struct Forward<'a> {
    #[rkyv(with = InlineAsBox)]
    pub path: &'a str,
    /// The server and number of the session that it comes from.
    pub by: Option<(u64, u64)>,
    #[rkyv(with = Map<InlineAsBox>)]
    pub author: Option<&'a str>,
    pub deed: Deed<'a>,
    pub constraint: Option<Constrained<'a>>,
    pub stream: Option<Step>,
    /// An event that is edited must be of the author's own.
    pub is_own: bool,
    /// What anybody is told but the topic's owner.
    pub unless_owner: Option<Denial>,
}

/// What is to happen to the topic.
#[derive(Archive, Serialize)]
pub enum Deed<'a> {
    Add(Specified<'a>),
    Set(Content<'a>),
    AddAndSet(Specified<'a>, Content<'a>),
    Check {
        kind: u8,
    },
    Patch(#[rkyv(with = InlineAsBox)] &'a [u8]),
    Delta {
        /// By copies, or else deflated.
        is_copy: bool,
        #[rkyv(with = InlineAsBox)]
        bytes: &'a [u8],
    },
    Append {
        original: Option<u64>,
        timestamp_ms: Option<u64>,
        content: Content<'a>,
    },
    Message {
        #[rkyv(with = InlineAsBox)]
        payload: &'a [u8],
        head: Head<'a>,
        making: Making<'a>,
    },
    /// What its session may do was looked at where it is. With a number only the topic of that number.
    Remove {
        id: Option<u64>,
    },
    /// Nothing: whether the update of the number that this comes with was made. Whatever of its source was sent before is turned away from now on.
    Find,
}

/// A topic's type and the properties that differ from the default.
#[derive(Archive, Serialize)]
pub struct Specified<'a> {
    pub kind: u8,
    #[rkyv(with = AsOwned)]
    pub properties: Cow<'a, [(Box<str>, Box<str>)]>,
}

/// A value of a type; `None` for null.
#[derive(Archive, Serialize)]
pub struct Content<'a> {
    pub kind: u8,
    #[rkyv(with = Map<InlineAsBox>)]
    pub value: Option<&'a [u8]>,
}

/// What a message of MQTT is beside its topic and payload.
#[derive(Archive, Serialize)]
pub struct Head<'a> {
    pub qos: u8,
    pub retain: bool,
    pub is_passing: bool,
    pub is_clearing: bool,
    /// How long it is still sent, in milliseconds.
    pub left_ms: Option<u64>,
    pub origin: Option<(u64, u64)>,
    #[rkyv(with = InlineAsBox)]
    pub passed_on: &'a [u8],
}

/// What a topic that a message may make would be.
#[derive(Archive, Serialize)]
pub enum Making<'a> {
    Refused,
    Denied,
    Asked,
    Of(Specified<'a>),
}

/// A constraint by its text, and which of the locks in it are held.
#[derive(Archive, Serialize)]
pub struct Constrained<'a> {
    #[rkyv(with = InlineAsBox)]
    pub text: &'a [u8],
    #[rkyv(with = InlineAsBox)]
    pub locks: &'a [bool],
}

/// An operation of an update stream: whose, which, and whether it opens it.
#[derive(Archive, Serialize)]
pub struct Step {
    pub session: (u64, u64),
    pub number: u64,
    pub opens: bool,
    /// Which of the stream it is, from 0: where one is lost, those behind it do not apply.
    pub ordinal: u64,
}

/// A refusal by its code's number.
#[derive(Archive, Serialize)]
pub struct Denial {
    pub code: u16,
    pub position: Option<u64>,
    pub message: String,
}

/// What the leader says.
#[derive(Archive, Serialize)]
pub struct Reply {
    pub result: Answered,
    /// The place of the group's log that says what the update has changed: who asked sees it when his server has come so far. 0 where it has changed nothing.
    pub index: u64,
}

#[derive(Archive, Serialize)]
pub enum Answered {
    Done,
    Created(bool),
    Removed(u64),
    Appended {
        sequence: u64,
        timestamp_ms: u64,
    },
    Refused(Denial),
    /// Nothing was done: the server does not lead in the term that it was asked in.
    NotLeading,
    /// It was decided, and the server does not lead any more: it may be made, or not.
    Unknown,
    /// The update that was asked after was not made, and never will be by what was sent before.
    NotMade,
}

impl<'a> Forward<'a> {
    /// The removal of the topic at the path, or of none but that which has this number.
    pub fn removal(path: &'a str, id: Option<u64>) -> Self {
        Self::of_path(path, Deed::Remove { id })
    }

    /// Whether an update of the topic at the path was made.
    pub fn find(path: &'a str) -> Self {
        Self::of_path(path, Deed::Find)
    }

    fn of_path(path: &'a str, deed: Deed<'a>) -> Self {
        Self { path, by: None, author: None, deed, constraint: None, stream: None, is_own: false, unless_owner: None }
    }

    pub fn encode(&self) -> Vec<u8> {
        encode(&rkyv::to_bytes::<Failure>(self).expect("memory takes it"))
    }

    /// `None` where this version does not know the form, or the bytes are none.
    pub fn access(bytes: &[u8]) -> Option<&ArchivedForward<'_>> {
        rkyv::access::<ArchivedForward<'_>, Failure>(bytes.strip_prefix(&[FORM])?).ok()
    }
}

impl Reply {
    pub fn encode(&self) -> Vec<u8> {
        encode(&rkyv::to_bytes::<Failure>(self).expect("memory takes it"))
    }

    /// `None` where this version does not know the form, or the bytes are none.
    pub fn access(bytes: &[u8]) -> Option<&ArchivedReply> {
        rkyv::access::<ArchivedReply, Failure>(bytes.strip_prefix(&[FORM])?).ok()
    }
}

fn encode(archived: &[u8]) -> Vec<u8> {
    [&[FORM][..], archived].concat()
}
