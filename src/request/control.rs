//! What is asked about sessions, and of them on others' behalf.

use super::Asking;
use crate::gate::{self, Deed, Of};
use crate::mail::control::Act;
use crate::protocol::{ErrorCode, Refusal};
use crate::topic::session_filter::{SessionFilter, SessionFilterLimits};
use std::borrow::Cow;

/// A close frame has room for 123 bytes.
const REASON_BYTES_MAX: usize = 120;

impl Asking<'_> {
    pub(super) fn list_sessions(&mut self, filter: &str, after: &str, first: u64, slowest: bool) -> Result<(), Refusal> {
        gate::check(self.desk, self.asker, Deed::ViewSessions, Of::Server)?;
        let count_max = self.page(first);
        let after = if after.is_empty() { 0 } else { self.audience.session_number(self.desk, after)? };
        let filter = parse_filter(if filter.is_empty() { "all" } else { filter })?;
        self.audience.order(self.desk, self.asker, ("", Some(filter)), Act::List { after, count_max, slowest })
    }

    /// Reads what one session selects.
    pub(super) fn list_selections(&mut self, session: &str, after: u64, first: u64) -> Result<(), Refusal> {
        gate::check(self.desk, self.asker, Deed::ViewSessions, Of::Server)?;
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
        gate::check(self.desk, self.asker, Deed::ModifySessions, Of::Server)?;
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

    pub(super) fn close_sessions(&mut self, session: &str, filter: &str, message: &str) -> Result<(), Refusal> {
        let why = if message.is_empty() { "closed by another session" } else { message };
        let end = (0..=REASON_BYTES_MAX.min(why.len())).rev().find(|end| why.is_char_boundary(*end)).unwrap_or(0);
        let why = &why[..end];
        self.control(session, filter, Act::Close { why: why.into() })
    }

    pub(super) fn select_for(&mut self, session: &str, filter: &str, selector: &str, scope: &str, adds: bool) -> Result<(), Refusal> {
        super::check_scope(scope, self.desk.limits.scope_bytes_max)?;
        let selector = gate::selector(self.desk, self.asker, Deed::Select, selector)?.as_str().into();
        let scope = scope.into();
        let act = if adds { Act::Subscribe { selector, scope } } else { Act::Unsubscribe { selector, scope } };
        self.control(session, filter, act)
    }
}

pub(super) fn parse_filter(text: &str) -> Result<SessionFilter, Refusal> {
    SessionFilter::parse(text, SessionFilterLimits::default())
        .map_err(|error| Refusal::at(ErrorCode::InvalidFilter, error.position, error.to_string()))
}
