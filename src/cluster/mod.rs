//! Topics that several servers hold as one: the rules.
//!
//! Partitions are shared out among a few groups, each with a log of its own. One server leads a group: it decides what an update comes to, and puts that into the log;
//! every server makes of its topics what the log says, so all have the same. A log holds outcomes: who reads it needs no clock, limit, permission or
//! configuration beside it.
//!
//! What agrees on the log stands elsewhere. Here is what is in it (`entry`, `batch`), how an update comes to the server that decides on it (`forward`), and how one whose answer was
//! lost is found again (`once`).

#[cfg(feature = "server")]
mod batch;
mod entry;
mod forward;
mod once;

#[cfg(feature = "server")]
pub use batch::{Batch, PARTS_MAX, is_empty, last_place, parts, place};
pub use entry::{Added, Change, Entry, EventChange, Message, SessionName, topic_id};
pub use forward::{
    Answered, ArchivedAnswered, ArchivedConstrained, ArchivedContent, ArchivedDeed, ArchivedDenial, ArchivedForward, ArchivedHead,
    ArchivedMaking, ArchivedSpecified, Constrained, Content, Deed, Denial, Forward, Head, Making, Reply, Specified, Step,
};
pub use once::{Asked, Found, Made, Once, Row, Source, WINDOW};
