//! Who listens to what becomes of sessions, and who is subscribed.

use super::Asking;
use super::control::parse_filter;
use super::messaging::PROPERTIES_MAX;
use crate::gate::{self, Deed};
use crate::mail::events::{PresenceQuestion, Wanted};
use crate::protocol::{ErrorCode, Refusal};
use crate::topic::path::{TopicPath, check_form};
use crate::topic::session_filter::SessionFilter;
use std::borrow::Cow;

impl Asking<'_> {
    pub(super) fn listen_sessions(&mut self, listener: u64, filter: &str, properties: Vec<Cow<'_, str>>) -> Result<(), Refusal> {
        if properties.len() > PROPERTIES_MAX {
            let message = format!("a listener names at most {PROPERTIES_MAX} properties of sessions");
            return Err(Refusal::new(ErrorCode::InvalidField, message));
        }
        let filter = self.listened(filter)?;
        let properties = properties.into_iter().map(|key| key.into_owned().into_boxed_str()).collect();
        self.audience.listen_to_sessions(self.desk, self.asker, listener, Wanted::Sessions { filter, properties })
    }

    pub(super) fn listen_queues(&mut self, listener: u64, filter: &str) -> Result<(), Refusal> {
        let filter = self.listened(filter)?;
        self.audience.listen_to_sessions(self.desk, self.asker, listener, Wanted::Queues { filter })
    }

    /// The filter of a listener; an empty one means all.
    fn listened(&self, filter: &str) -> Result<SessionFilter, Refusal> {
        gate::server(self.rights(), Deed::ViewSessions)?;
        parse_filter(if filter.is_empty() { "all" } else { filter })
    }

    pub(super) fn listen_presence(&mut self, listener: u64, selector: &str, is_once: bool) -> Result<(), Refusal> {
        let selector = gate::selector(self.desk, self.rights(), Deed::ViewSessions, selector)?.as_str().into();
        self.audience.listen_to_sessions(self.desk, self.asker, listener, Wanted::Presence { selector, is_once })
    }

    pub(super) fn list_presence(&mut self, selector: &str, after: (&str, &str), first: u64, is_once: bool) -> Result<(), Refusal> {
        let selector = gate::selector(self.desk, self.rights(), Deed::ViewSessions, selector)?.as_str().into();
        let page_max = self.desk.limits.fetch_page_max;
        let count_max = if first == 0 { page_max } else { usize::try_from(first).unwrap_or(page_max).min(page_max) };
        let after = self.place_after(after, is_once)?;
        self.audience.list_presence(self.desk, self.asker, &PresenceQuestion { selector, after, count_max, is_once });
        Ok(())
    }

    fn place_after(&self, (path, session): (&str, &str), is_once: bool) -> Result<Option<(TopicPath, u64)>, Refusal> {
        if session.is_empty() && path.is_empty() {
            return Ok(None);
        }
        if path.is_empty() != is_once || session.is_empty() {
            let message = "a page is behind a session at a path, or behind a session where each is listed once";
            return Err(Refusal::new(ErrorCode::InvalidField, message));
        }
        if !path.is_empty() {
            check_form(path).map_err(|error| Refusal::at(ErrorCode::InvalidPath, error.position, error.to_string()))?;
        }
        Ok(Some((TopicPath::of_branch(path), self.audience.session_number(self.desk, session)?)))
    }
}
