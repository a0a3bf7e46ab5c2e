//! What is asked about sessions, and of them on others' behalf.

use super::Asking;
use crate::gate::{self, Deed};
use crate::mail::control::Act;
use crate::protocol::{ErrorCode, Refusal};
use crate::topic::session_filter::{SessionFilter, SessionFilterLimits};
use std::borrow::Cow;

/// A close frame has room for 123 bytes.
const REASON_BYTES_MAX: usize = 120;

/// Roles that one request takes or gives, and the longest name of one.
const ROLES_MAX: usize = 256;
const ROLE_BYTES_MAX: usize = 256;

impl Asking<'_> {
    pub(super) fn list_sessions(&mut self, filter: &str, after: &str, first: u64, slowest: bool) -> Result<(), Refusal> {
        gate::server(self.rights(), Deed::ViewSessions)?;
        let count_max = self.page(first);
        let after = if after.is_empty() { 0 } else { self.audience.session_number(self.desk, after)? };
        let filter = parse_filter(if filter.is_empty() { "all" } else { filter })?;
        self.audience.order(self.desk, self.asker, ("", Some(filter)), Act::List { after, count_max, slowest })
    }

    /// Reads what one session selects.
    pub(super) fn list_selections(&mut self, session: &str, after: u64, first: u64) -> Result<(), Refusal> {
        gate::server(self.rights(), Deed::ViewSessions)?;
        let (after, count_max) = (usize::try_from(after).unwrap_or(usize::MAX), self.page(first));
        self.audience.order(self.desk, self.asker, (session, None), Act::ReadSelections { after, count_max })
    }

    /// How many one answer has where so many are wanted; 0 for as many as it may.
    fn page(&self, first: u64) -> usize {
        let page_max = self.desk.limits.fetch_page_max;
        if first == 0 { page_max } else { usize::try_from(first).unwrap_or(page_max).min(page_max) }
    }

    /// Orders something of the session of the id, or of all that the filter means where there is no id.
    pub(super) fn control(&mut self, session: &str, filter: &str, act: Act) -> Result<(), Refusal> {
        gate::server(self.rights(), Deed::ModifySessions)?;
        match (session.is_empty(), filter.is_empty()) {
            (false, true) => self.audience.order(self.desk, self.asker, (session, None), act),
            (true, false) => {
                let filter = parse_filter(filter)?;
                self.audience.order(self.desk, self.asker, ("", Some(filter)), act)
            }
            _ => Err(Refusal::new(ErrorCode::InvalidField, "expected either the id of a session or a filter")),
        }
    }

    pub(super) fn set_session_properties(
        &mut self,
        session: &str,
        filter: &str,
        properties: Vec<(Cow<'_, str>, Cow<'_, str>)>,
    ) -> Result<(), Refusal> {
        let properties = crate::session::UserProperties::check(properties.iter().map(|(key, value)| (&**key, &**value)))?;
        self.control(session, filter, Act::SetProperties(properties))
    }

    pub(super) fn change_roles(
        &mut self,
        session: &str,
        filter: &str,
        remove: &[Cow<'_, str>],
        add: &[Cow<'_, str>],
    ) -> Result<(), Refusal> {
        if remove.len() + add.len() > ROLES_MAX {
            return Err(Refusal::new(ErrorCode::InvalidField, format!("a session's roles are changed by at most {ROLES_MAX} at once")));
        }
        if let Some(long) = add.iter().find(|role| role.is_empty() || role.len() > ROLE_BYTES_MAX) {
            let message = format!("a role's name has 1 to {ROLE_BYTES_MAX} bytes, found {}", long.len());
            return Err(Refusal::new(ErrorCode::InvalidField, message));
        }
        let owned = |roles: &[Cow<'_, str>]| roles.iter().map(|role| Box::from(&**role)).collect();
        self.control(session, filter, Act::ChangeRoles { remove: owned(remove), add: owned(add) })
    }

    pub(super) fn close_sessions(&mut self, session: &str, filter: &str, message: &str) -> Result<(), Refusal> {
        let why = if message.is_empty() { "closed by another session" } else { message };
        let end = (0..=REASON_BYTES_MAX.min(why.len())).rev().find(|end| why.is_char_boundary(*end)).unwrap_or(0);
        let why = &why[..end];
        self.control(session, filter, Act::Close { why: why.into() })
    }

    pub(super) fn select_for(&mut self, session: &str, filter: &str, selector: &str, scope: &str, adds: bool) -> Result<(), Refusal> {
        super::check_scope(scope, self.desk.limits.scope_bytes_max)?;
        let selector = gate::selector(self.desk, self.rights(), Deed::Select, selector)?.as_str().into();
        let scope = scope.into();
        let act = if adds { Act::Subscribe { selector, scope } } else { Act::Unsubscribe { selector, scope } };
        self.control(session, filter, act)
    }
}

pub(super) fn parse_filter(text: &str) -> Result<SessionFilter, Refusal> {
    SessionFilter::parse(text, SessionFilterLimits::default())
        .map_err(|error| Refusal::at(ErrorCode::InvalidFilter, error.position, error.to_string()))
}
