//! What is asked of locks: their owners' side is `crate::locks`, that of those who hold them `audience::locks`.

use super::Asking;
use crate::gate::{self, Deed};
use crate::protocol::{ErrorCode, Refusal};
use crate::session::LockScope;

impl Asking<'_> {
    pub(super) fn lock(&mut self, name: &str, scope: u8) -> Result<(), Refusal> {
        gate::path(self.desk, self.rights(), Deed::Lock, name)?;
        let scope = LockScope::from_number(scope).ok_or_else(|| {
            Refusal::new(
                ErrorCode::InvalidField,
                "there are two scopes of locks: 0 until the session is over, 1 until its connection is lost",
            )
        })?;
        self.audience.lock(self.desk, self.asker, name, scope)
    }

    pub(super) fn unlock(&mut self, name: &str, number: u64) -> Result<(), Refusal> {
        gate::check_path(self.desk, name)?;
        self.audience.unlock(self.desk, self.asker, name, number);
        Ok(())
    }
}
