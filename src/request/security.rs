//! What is asked of what roles permit, and of principals: their keeping is `audience::security`.

use super::Asking;
use crate::gate::{self, Deed};
use crate::protocol::Refusal;

impl Asking<'_> {
    pub(super) fn security_script(&mut self, offset: u64) -> Result<(), Refusal> {
        gate::server(self.rights(), Deed::LookAtSecurity)?;
        let script = self.audience.security_script(self.desk, offset)?;
        self.audience.answer(self.desk, self.asker, Ok(script));
        Ok(())
    }

    pub(super) fn apply_security(&mut self, script: &str, checks_only: bool) -> Result<(), Refusal> {
        gate::server(self.rights(), Deed::ChangeSecurity)?;
        self.audience.apply_security(self.desk, self.asker, script, checks_only)
    }

    /// The script has hashes of passwords, so who reads it must be one who may set them.
    pub(super) fn principals_script(&mut self, offset: u64) -> Result<(), Refusal> {
        gate::server(self.rights(), Deed::ChangeSecurity)?;
        let script = self.audience.principals_script(self.desk, offset)?;
        self.audience.answer(self.desk, self.asker, Ok(script));
        Ok(())
    }

    pub(super) fn apply_principals(&mut self, script: &str, checks_only: bool) -> Result<(), Refusal> {
        gate::server(self.rights(), Deed::ChangeSecurity)?;
        self.audience.apply_principals(self.desk, self.asker, script, checks_only)
    }
}
