//! The permissions: their names, their numbers, and sets of them.
//!
//! A permission is of one of two kinds: for paths, or global. Names have no case when read and are printed in upper case. Numbers are in the order of
//! declaration and do not change: others may store and send them.

use std::fmt;
use std::marker::PhantomData;

/// One kind of permission. Both kinds have fewer than 16.
pub trait Permission: Copy + Eq + 'static {
    /// All of the kind, by number.
    const ALL: &'static [Self];

    /// The documented name, in upper case.
    fn name(self) -> &'static str;

    /// From 0, in the order of [`Self::ALL`].
    fn number(self) -> u8;

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|permission| permission.name().eq_ignore_ascii_case(name))
    }

    fn of_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// What may be done at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PathPermission {
    /// Name the path in a selector that selects it: subscribe, listen.
    SelectTopic,
    /// Get the topic's value, and know that it exists: subscription, fetch, query, a view's sources.
    ReadTopic,
    /// Set, patch or append to the topic's value; publish to an existing topic by MQTT.
    UpdateTopic,
    /// Add and remove topics; map branches.
    ModifyTopic,
    /// Send requests to the path.
    SendToMessageHandler,
    /// Send requests to sessions, by the path of the message.
    SendToSession,
    /// Query a time series for all edits, also those that others replaced.
    QueryObsoleteTimeSeriesEvents,
    /// Edit any event of a time series.
    EditTimeSeriesEvents,
    /// Edit the events of a time series that the same principal published.
    EditOwnTimeSeriesEvents,
    /// Acquire the lock of that name.
    AcquireLock,
    /// Show the branch's topics under other paths: session trees.
    ExposeBranch,
}

impl Permission for PathPermission {
    const ALL: &'static [Self] = &[
        Self::SelectTopic,
        Self::ReadTopic,
        Self::UpdateTopic,
        Self::ModifyTopic,
        Self::SendToMessageHandler,
        Self::SendToSession,
        Self::QueryObsoleteTimeSeriesEvents,
        Self::EditTimeSeriesEvents,
        Self::EditOwnTimeSeriesEvents,
        Self::AcquireLock,
        Self::ExposeBranch,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::SelectTopic => "SELECT_TOPIC",
            Self::ReadTopic => "READ_TOPIC",
            Self::UpdateTopic => "UPDATE_TOPIC",
            Self::ModifyTopic => "MODIFY_TOPIC",
            Self::SendToMessageHandler => "SEND_TO_MESSAGE_HANDLER",
            Self::SendToSession => "SEND_TO_SESSION",
            Self::QueryObsoleteTimeSeriesEvents => "QUERY_OBSOLETE_TIME_SERIES_EVENTS",
            Self::EditTimeSeriesEvents => "EDIT_TIME_SERIES_EVENTS",
            Self::EditOwnTimeSeriesEvents => "EDIT_OWN_TIME_SERIES_EVENTS",
            Self::AcquireLock => "ACQUIRE_LOCK",
            Self::ExposeBranch => "EXPOSE_BRANCH",
        }
    }

    fn number(self) -> u8 {
        self as u8
    }
}

/// What may be done to sessions, handlers, the server, its security and its views.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GlobalPermission {
    /// See sessions other than one's own.
    ViewSession,
    /// Close sessions, and change what they select and have.
    ModifySession,
    /// Register handlers of requests, missing topics and authentication.
    RegisterHandler,
    /// Answer as a control authenticator.
    Authenticate,
    /// See the server's metrics, and `$SYS` by HTTP.
    ViewServer,
    ControlServer,
    ViewSecurity,
    ModifySecurity,
    ReadTopicViews,
    ModifyTopicViews,
}

impl Permission for GlobalPermission {
    const ALL: &'static [Self] = &[
        Self::ViewSession,
        Self::ModifySession,
        Self::RegisterHandler,
        Self::Authenticate,
        Self::ViewServer,
        Self::ControlServer,
        Self::ViewSecurity,
        Self::ModifySecurity,
        Self::ReadTopicViews,
        Self::ModifyTopicViews,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::ViewSession => "VIEW_SESSION",
            Self::ModifySession => "MODIFY_SESSION",
            Self::RegisterHandler => "REGISTER_HANDLER",
            Self::Authenticate => "AUTHENTICATE",
            Self::ViewServer => "VIEW_SERVER",
            Self::ControlServer => "CONTROL_SERVER",
            Self::ViewSecurity => "VIEW_SECURITY",
            Self::ModifySecurity => "MODIFY_SECURITY",
            Self::ReadTopicViews => "READ_TOPIC_VIEWS",
            Self::ModifyTopicViews => "MODIFY_TOPIC_VIEWS",
        }
    }

    fn number(self) -> u8 {
        self as u8
    }
}

/// A set of permissions of one kind, in 16 bits. Prints as a script's list.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Permissions<P>(u16, PhantomData<P>);

pub type PathPermissions = Permissions<PathPermission>;
pub type GlobalPermissions = Permissions<GlobalPermission>;

impl<P: Permission> Permissions<P> {
    pub const NONE: Self = Self(0, PhantomData);
    pub const ALL: Self = Self((1 << P::ALL.len()) - 1, PhantomData);

    pub fn contains(self, permission: P) -> bool {
        self.0 & (1 << permission.number()) != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[must_use]
    pub fn with(self, permission: P) -> Self {
        Self(self.0 | (1 << permission.number()), PhantomData)
    }

    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0, PhantomData)
    }

    /// In the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = P> {
        P::ALL.iter().copied().filter(move |permission| self.contains(*permission))
    }

    /// Bit n stands for the permission of number n.
    pub fn number(self) -> u16 {
        self.0
    }

    /// None where a bit stands for no permission.
    pub fn of_number(number: u16) -> Option<Self> {
        (number & !Self::ALL.0 == 0).then_some(Self(number, PhantomData))
    }
}

impl<P: Permission> Default for Permissions<P> {
    fn default() -> Self {
        Self::NONE
    }
}

impl<P: Permission> FromIterator<P> for Permissions<P> {
    fn from_iter<I: IntoIterator<Item = P>>(permissions: I) -> Self {
        permissions.into_iter().fold(Self::NONE, Self::with)
    }
}

impl<P: Permission> fmt::Display for Permissions<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (index, permission) in self.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            f.write_str(permission.name())?;
        }
        f.write_str("]")
    }
}

impl<P: Permission> fmt::Debug for Permissions<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Numbers and names are others' to store and send.
    fn check<P: Permission + fmt::Debug>(names: &str) {
        assert_eq!(Permissions::<P>::ALL.to_string(), names);
        let mut seen = BTreeSet::new();
        for (number, permission) in (0..).zip(P::ALL.iter().copied()) {
            assert_eq!((permission.number(), P::of_number(number)), (number, Some(permission)));
            let name = permission.name();
            assert_eq!((P::parse(name), P::parse(&name.to_lowercase())), (Some(permission), Some(permission)));
            assert!(P::parse(&name[1..]).is_none() && P::parse(&format!("{name}S")).is_none());
            assert!(seen.insert(name), "{name}");
            let one = Permissions::NONE.with(permission);
            assert_eq!((one.number(), one.iter().collect::<Vec<_>>()), (1 << number, vec![permission]));
            assert!(P::ALL.iter().all(|other| one.contains(*other) == (*other == permission)));
        }
        let count = P::ALL.len();
        assert_eq!(P::of_number(count as u8), None);
        assert_eq!(Permissions::<P>::of_number(Permissions::<P>::ALL.number()), Some(Permissions::ALL));
        assert_eq!(Permissions::<P>::of_number(1 << count), None);
        assert_eq!(P::ALL.iter().copied().collect::<Permissions<P>>(), Permissions::ALL);
    }

    #[test]
    fn path_permissions_have_their_names_and_numbers() {
        check::<PathPermission>(
            "[SELECT_TOPIC, READ_TOPIC, UPDATE_TOPIC, MODIFY_TOPIC, SEND_TO_MESSAGE_HANDLER, SEND_TO_SESSION, \
             QUERY_OBSOLETE_TIME_SERIES_EVENTS, EDIT_TIME_SERIES_EVENTS, EDIT_OWN_TIME_SERIES_EVENTS, ACQUIRE_LOCK, EXPOSE_BRANCH]",
        );
    }

    #[test]
    fn global_permissions_have_their_names_and_numbers() {
        check::<GlobalPermission>(
            "[VIEW_SESSION, MODIFY_SESSION, REGISTER_HANDLER, AUTHENTICATE, VIEW_SERVER, CONTROL_SERVER, VIEW_SECURITY, MODIFY_SECURITY, \
             READ_TOPIC_VIEWS, MODIFY_TOPIC_VIEWS]",
        );
    }

    #[test]
    fn sets_are_united() {
        let one = PathPermissions::NONE.with(PathPermission::ReadTopic).with(PathPermission::SelectTopic);
        let both = one.union(PathPermissions::NONE.with(PathPermission::AcquireLock));
        assert_eq!(both.to_string(), "[SELECT_TOPIC, READ_TOPIC, ACQUIRE_LOCK]");
        assert_eq!((one.union(one), PathPermissions::NONE.is_empty(), one.is_empty()), (one, true, false));
        assert_eq!(PathPermissions::default().to_string(), "[]");
    }
}
