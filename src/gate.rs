//! May this asker do this? The one place where that is answered.
//!
//! It stands below whoever carries something out, since not all is asked for at a door: sessions of MQTT ask filter by filter, and a will is
//! published when its client is gone. Paths and selectors are parsed here too, so that nobody uses one that the gate was not asked about. As long
//! as there are no roles, everybody may do everything.

use crate::desk::Desk;
use crate::mail::Asker;
use crate::protocol::{ErrorCode, Refusal};
use crate::topic::mqtt::is_of_bridge;
use crate::topic::path::{self, PathErrorKind};
use crate::topic::selector::{Selector, SelectorError};

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Add a topic, set, patch or append to it; publish a message.
    Update,
    Remove,
    /// Subscribe.
    Select,
    Fetch,
    /// Ask for events of a time series.
    Query,
    Listen,
    /// Be told of selectors that match nothing.
    HandleMissing,
    /// Take requests of other clients to a branch.
    HandleRequests,
    /// Send one to whoever handles the path.
    SendToHandler,
    /// Send one to sessions that are named or match.
    SendToSession,
    /// See sessions, and what they have.
    ViewSessions,
    /// Be told of sessions, their queues, and what they are subscribed to.
    ListenToSessions,
    /// Close them, set their properties, select on their behalf.
    ModifySessions,
    ManageViews,
    LookAtViews,
    /// Hold the lock of a name.
    Lock,
    LookAtLocks,
    /// Say what a branch of session paths means.
    MapBranch,
    /// Show the topics of a branch under other paths.
    ExposeBranch,
    LookAtMappings,
}

/// What somebody wants to do it with.
#[expect(dead_code, reason = "whoever asks may do everything, so nothing is looked at yet")]
#[derive(Clone, Copy, Debug)]
pub enum Of<'a> {
    Path(&'a str),
    /// All below this path, and what is there.
    Branch(&'a str),
    Selector(&'a Selector),
    Server,
}

/// Refuses what the asker may not do.
pub fn check(_desk: &Desk, _asker: impl Into<Asker>, _deed: Deed, _of: Of<'_>) -> Result<(), Refusal> {
    Ok(())
}

/// Checks a path, and that the asker may do this there.
pub fn path(desk: &Desk, asker: impl Into<Asker>, deed: Deed, path: &str) -> Result<(), Refusal> {
    check_path(desk, path)?;
    check(desk, asker, deed, Of::Path(path))
}

/// Checks the path of a message, and that the asker may publish it: beyond what anybody may make, brokers say there how their bridges stand.
pub fn message_path(desk: &Desk, asker: impl Into<Asker>, path: &str) -> Result<(), Refusal> {
    check_message_path(desk, path)?;
    check(desk, asker, Deed::Update, Of::Path(path))
}

/// Checks the path of a message where nobody publishes one yet.
pub fn check_message_path(desk: &Desk, path: &str) -> Result<(), Refusal> {
    match check_path(desk, path) {
        Err(Refusal { code: ErrorCode::ReservedPath, .. }) if is_of_bridge(path) => Ok(()),
        result => result,
    }
}

/// Parses a selector that the asker may do this with.
pub fn selector(desk: &Desk, asker: impl Into<Asker>, deed: Deed, text: &str) -> Result<Selector, Refusal> {
    let selector = parse_selector(desk, text)?;
    check(desk, asker, deed, Of::Selector(&selector))?;
    Ok(selector)
}

/// Checks a path where nobody asks to do something.
pub fn check_path(desk: &Desk, path: &str) -> Result<(), Refusal> {
    path::check_path(path, desk.limits.path_bytes_max).map_err(|error| {
        let code = if error.kind == PathErrorKind::Reserved { ErrorCode::ReservedPath } else { ErrorCode::InvalidPath };
        Refusal::at(code, error.position, error.to_string())
    })
}

/// Parses a selector of what somebody gives up.
pub fn parse_selector(desk: &Desk, text: &str) -> Result<Selector, Refusal> {
    let refuse = |error: SelectorError| Refusal::at(ErrorCode::InvalidSelector, error.position, error.to_string());
    Selector::parse(text, desk.limits.selector).map_err(refuse)
}
