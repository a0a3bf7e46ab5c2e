//! What is asked of branch mapping tables: their keeping is `audience::session_trees`.

use super::Asking;
use crate::gate::{self, Deed};
use crate::protocol::Refusal;
use crate::wire::native::Properties;

impl Asking<'_> {
    pub(super) fn put_session_tree(&mut self, branch: &str, mappings: &Properties<'_>) -> Result<(), Refusal> {
        gate::path(self.desk, self.rights(), Deed::MapBranch, branch)?;
        for (_, topics) in mappings {
            gate::at(self.rights(), Deed::ExposeBranch, topics)?;
        }
        self.audience.put_session_tree(self.desk, self.asker, branch, mappings)
    }

    pub(super) fn session_tree(&mut self, branch: &str) -> Result<(), Refusal> {
        gate::path(self.desk, self.rights(), Deed::LookAtMappings, branch)?;
        let table = self.audience.session_tree(branch);
        self.audience.answer(self.desk, self.asker, Ok(table));
        Ok(())
    }

    pub(super) fn session_trees(&mut self, after: &str) -> Result<(), Refusal> {
        let branches = self.audience.session_trees(self.desk, self.asker.session, after);
        self.audience.answer(self.desk, self.asker, Ok(branches));
        Ok(())
    }
}
