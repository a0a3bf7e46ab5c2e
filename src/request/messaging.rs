//! Requests between clients: paths, values and filters are checked here.

use super::Asking;
use super::control::parse_filter;
use super::update::{check_null, value_type};
use crate::audience::authenticator_path;
use crate::gate::{self, Deed};
use crate::mail::messaging::Message;
use crate::protocol::{ErrorCode, Refusal};
use crate::wire::native::NULL_BIT;
use std::borrow::Cow;

/// The most properties that a handler, or a listener, names.
pub(super) const PROPERTIES_MAX: usize = 64;
/// Of the name of each; every shard knows it.
const PROPERTY_BYTES_MAX: usize = 64;
/// Of a handler's own word why it rejects a request.
const REJECTION_BYTES_MAX: usize = 1024;

impl Asking<'_> {
    pub(super) fn handle_requests(&mut self, handler: u64, path: &str, properties: Vec<Cow<'_, str>>) -> Result<(), Refusal> {
        gate::path(self.desk, self.rights(), Deed::HandleRequests, path)?;
        // It is answered when all shards know of it, as a question is.
        self.audience.check_questions(self.desk, self.asker)?;
        if properties.len() > PROPERTIES_MAX {
            let message = format!("a handler names at most {PROPERTIES_MAX} properties of sessions");
            return Err(Refusal::new(ErrorCode::InvalidField, message));
        }
        if let Some(long) = properties.iter().find(|key| key.len() > PROPERTY_BYTES_MAX) {
            let long: String = long.chars().take(PROPERTY_BYTES_MAX).collect();
            let message = format!("a session property's key has at most {PROPERTY_BYTES_MAX} bytes: '{long}'");
            return Err(Refusal::new(ErrorCode::InvalidField, message));
        }
        let wanted = properties.into_iter().map(|key| key.into_owned().into_boxed_str()).collect();
        self.audience.handle_requests(self.desk, self.asker, handler, path, wanted)
    }

    pub(super) fn handle_authentication(&mut self, handler: u64, name: &str) -> Result<(), Refusal> {
        gate::server(self.rights(), Deed::Authenticate)?;
        gate::server(self.rights(), Deed::HandleRequests)?;
        self.audience.check_questions(self.desk, self.asker)?;
        if !self.desk.limits.authenticators.iter().any(|known| **known == *name) {
            let name: String = name.chars().take(PROPERTY_BYTES_MAX).collect();
            let message = format!("the server asks no authenticator of this name: authentication.chain has no 'control:{name}'");
            return Err(Refusal::new(ErrorCode::InvalidField, message));
        }
        self.audience.handle_requests(self.desk, self.asker, handler, &authenticator_path(name), Vec::new())
    }

    pub(super) fn request(&mut self, path: &str, timeout_ms: u64, kind: u8, value: &[u8]) -> Result<(), Refusal> {
        gate::path(self.desk, self.rights(), Deed::SendToHandler, path)?;
        let message = self.message(kind, value)?;
        self.audience.request(self.desk, self.asker, timeout_ms, path, message)
    }

    pub(super) fn request_of_session(&mut self, to: (&str, &str), timeout_ms: u64, kind: u8, value: &[u8]) -> Result<(), Refusal> {
        gate::path(self.desk, self.rights(), Deed::SendToSession, to.1)?;
        let message = self.message(kind, value)?;
        self.audience.request_of_session(self.desk, self.asker, timeout_ms, to, message)
    }

    pub(super) fn request_of_all(&mut self, (filter, path): (&str, &str), timeout_ms: u64, kind: u8, value: &[u8]) -> Result<(), Refusal> {
        gate::path(self.desk, self.rights(), Deed::SendToSession, path)?;
        let filter = parse_filter(filter)?;
        let message = self.message(kind, value)?;
        self.audience.request_of_all(self.desk, self.asker, timeout_ms, (filter, path), message)
    }

    pub(super) fn respond(&mut self, request: u64, kind: u8, value: &[u8]) -> Result<(), Refusal> {
        let message = self.message(kind, value)?;
        self.audience.respond_to(self.desk, self.asker, request, Ok(message))
    }

    pub(super) fn reject(&mut self, request: u64, why: &str) -> Result<(), Refusal> {
        let why: String = why.chars().take(REJECTION_BYTES_MAX).collect();
        self.audience.respond_to(self.desk, self.asker, request, Err(Refusal::new(ErrorCode::Rejected, why)))
    }

    fn message(&mut self, kind: u8, value: &[u8]) -> Result<Message, Refusal> {
        let (value_kind, is_null) = (value_type(kind)?, kind & NULL_BIT != 0);
        if is_null {
            check_null(value_kind, value)?;
            return Ok(Message { kind: value_kind as u8, value: None });
        }
        let mut checked = Vec::with_capacity(value.len());
        self.check_value(value_kind, value, &mut checked)?;
        Ok(Message { kind: value_kind as u8, value: Some(checked.into()) })
    }
}
