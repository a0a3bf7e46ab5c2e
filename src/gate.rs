//! May this asker do this? The one place where that is answered.
//!
//! It stands below whoever carries something out, since not all is asked for at a door: sessions of MQTT ask filter by filter, and a will is
//! published when its client is gone. Paths and selectors are parsed here too, so that nobody uses one that the gate was not asked about. What a deed
//! needs stands in one table, [`Deed::needs`]; what an asker has are the rights of its session.
//!
//! A selector may mean very many topics, of which its asker may have some: it is refused only where none that it could mean is allowed, and who carries it
//! out leaves out the others.

use crate::desk::Desk;
use crate::protocol::{ErrorCode, Refusal};
use crate::security::{GlobalPermission as Global, PathPermission as At, Permission, Rights};
use crate::topic::mqtt::is_of_bridge;
use crate::topic::path::{self, PathErrorKind};
use crate::topic::selector::{Selector, SelectorError};

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Add a topic.
    Add,
    /// Set or append to it; publish a message.
    Set,
    AddAndSet,
    /// Change a part of what is there, or depend on it: whether that succeeds tells something of the value.
    Patch,
    /// Replace events of a time series, be they one's own or not: the owner of the topic knows.
    Edit,
    Remove,
    /// Subscribe, fetch, and listen: to what is there by selectors.
    Select,
    /// Ask for events of a time series.
    Query,
    /// Those too that were replaced.
    QueryReplaced,
    /// Be told of selectors that match nothing.
    HandleMissing,
    /// Take requests of other clients to a branch.
    HandleRequests,
    /// Say who clients are that connect.
    Authenticate,
    /// Send one to whoever handles the path.
    SendToHandler,
    /// Send one to sessions that are named or match.
    SendToSession,
    /// See sessions, what they have and are subscribed to; be told of them.
    ViewSessions,
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
    /// See what roles permit.
    LookAtSecurity,
    ChangeSecurity,
    /// See the server's figures.
    ViewServer,
}

/// What a deed needs: everywhere, or where it is done.
enum Need {
    Global(Global),
    /// All of them.
    Path(&'static [At]),
    /// One of them.
    AnyOf(&'static [At]),
}

impl Deed {
    fn needs(self) -> Need {
        match self {
            Self::Add | Self::Remove | Self::MapBranch => Need::Path(&[At::ModifyTopic]),
            Self::Set => Need::Path(&[At::UpdateTopic]),
            Self::AddAndSet => Need::Path(&[At::ModifyTopic, At::UpdateTopic]),
            Self::Patch => Need::Path(&[At::UpdateTopic, At::ReadTopic]),
            Self::Edit => Need::AnyOf(&[At::EditTimeSeriesEvents, At::EditOwnTimeSeriesEvents]),
            Self::Select => Need::Path(&[At::SelectTopic, At::ReadTopic]),
            Self::Query | Self::LookAtMappings => Need::Path(&[At::ReadTopic]),
            Self::QueryReplaced => Need::Path(&[At::ReadTopic, At::QueryObsoleteTimeSeriesEvents]),
            Self::HandleMissing | Self::HandleRequests => Need::Global(Global::RegisterHandler),
            Self::Authenticate => Need::Global(Global::Authenticate),
            Self::SendToHandler => Need::Path(&[At::SendToMessageHandler]),
            Self::SendToSession => Need::Path(&[At::SendToSession]),
            Self::ViewSessions | Self::LookAtLocks => Need::Global(Global::ViewSession),
            Self::ModifySessions => Need::Global(Global::ModifySession),
            Self::ManageViews => Need::Global(Global::ModifyTopicViews),
            Self::LookAtViews => Need::Global(Global::ReadTopicViews),
            Self::LookAtSecurity => Need::Global(Global::ViewSecurity),
            Self::ChangeSecurity => Need::Global(Global::ModifySecurity),
            Self::ViewServer => Need::Global(Global::ViewServer),
            Self::Lock => Need::Path(&[At::AcquireLock]),
            Self::ExposeBranch => Need::Path(&[At::ExposeBranch]),
        }
    }
}

/// Refuses what the asker may not do anywhere.
pub fn server(rights: &Rights, deed: Deed) -> Result<(), Refusal> {
    match deed.needs() {
        Need::Global(permission) if rights.allows(permission) => Ok(()),
        Need::Global(permission) => Err(Refusal::new(ErrorCode::AccessDenied, format!("this needs the permission {}", permission.name()))),
        Need::Path(_) | Need::AnyOf(_) => unreachable!("the deed is done somewhere"),
    }
}

/// Refuses what the asker may not do at this path, which is one.
pub fn at(rights: &Rights, deed: Deed, path: &str) -> Result<(), Refusal> {
    let refuse = |permission: At| Err(denied(permission, format!("at '{path}'")));
    match deed.needs() {
        Need::Global(_) => server(rights, deed),
        Need::Path(permissions) => {
            let has = rights.at(path);
            permissions.iter().find(|permission| !has.contains(**permission)).map_or(Ok(()), |missing| refuse(*missing))
        }
        Need::AnyOf(permissions) => {
            let has = rights.at(path);
            if permissions.iter().any(|permission| has.contains(*permission)) { Ok(()) } else { refuse(permissions[0]) }
        }
    }
}

/// Refuses what the asker may do nowhere in this branch. The empty branch is everything.
pub fn within(rights: &Rights, deed: Deed, branch: &str) -> Result<(), Refusal> {
    match deed.needs() {
        Need::Global(_) => server(rights, deed),
        Need::Path(permissions) | Need::AnyOf(permissions) => {
            let missing = permissions.iter().find(|permission| !rights.may_below(branch, **permission));
            let place = || if branch.is_empty() { "anywhere".to_owned() } else { format!("anywhere in '{branch}'") };
            missing.map_or(Ok(()), |missing| Err(denied(*missing, place())))
        }
    }
}

/// Refuses what would be done later, and by nobody, with whatever the selector means then: unless the asker may do it with all of that.
pub fn always(rights: &Rights, deed: Deed, selector: &Selector) -> Result<(), Refusal> {
    let Need::Path(permissions) = deed.needs() else { unreachable!("the deed is done at paths") };
    let Some(branch) = selector.exact_path().is_none().then(|| selector.prefix()) else { return selected(rights, deed, selector) };
    let missing = permissions.iter().find(|permission| !rights.may_everywhere(branch, **permission));
    missing.map_or(Ok(()), |missing| Err(denied(*missing, format!("everywhere in '{branch}'"))))
}

fn denied(permission: At, place: impl std::fmt::Display) -> Refusal {
    Refusal::new(ErrorCode::AccessDenied, format!("this needs the permission {} {place}", permission.name()))
}

/// Checks a path, and that the asker may do this there.
pub fn path(desk: &Desk, rights: &Rights, deed: Deed, path: &str) -> Result<(), Refusal> {
    check_path(desk, path)?;
    at(rights, deed, path)
}

/// Checks the path of a message, and that the asker may publish it: beyond what anybody may make, brokers say there how their bridges stand.
pub fn message_path(desk: &Desk, rights: &Rights, path: &str) -> Result<(), Refusal> {
    check_message_path(desk, path)?;
    at(rights, Deed::Set, path)
}

/// Checks the path of a message where nobody publishes one yet.
pub fn check_message_path(desk: &Desk, path: &str) -> Result<(), Refusal> {
    match check_path(desk, path) {
        Err(Refusal { code: ErrorCode::ReservedPath, .. }) if is_of_bridge(path) => Ok(()),
        result => result,
    }
}

/// Parses a selector that the asker may do this with.
pub fn selector(desk: &Desk, rights: &Rights, deed: Deed, text: &str) -> Result<Selector, Refusal> {
    let selector = parse_selector(desk, text)?;
    selected(rights, deed, &selector)?;
    Ok(selector)
}

/// Refuses what the asker may do with nothing that the selector could mean.
pub fn selected(rights: &Rights, deed: Deed, selector: &Selector) -> Result<(), Refusal> {
    match selector.exact_path() {
        Some(path) => at(rights, deed, path),
        None => within(rights, deed, selector.prefix()),
    }
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
