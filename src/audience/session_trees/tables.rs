//! Branch mapping tables: the first shard decides on them and has them stored, every shard has them all.

use super::Scan;
use crate::audience::Audience;
use crate::base::{SessionKey, ShardIndex, TopicId};
use crate::desk::{Answer, AuditKind, AuditOutcome, Desk};
use crate::journal::{Change, SESSION_TREE_KIND, SESSION_TREES_BRANCH, StoredTopic};
use crate::mail::session_trees::{Put, SessionTrees};
use crate::mail::views::Told;
use crate::mail::{Caller, Mail, Part};
use crate::protocol::{ErrorCode, Refusal};
use crate::security::PathPermission;
use crate::session_tree::{Full, RowText, Table};
use crate::topic::path::TopicPath;
use crate::wire::native::{BranchMapping, Outcome};
use std::borrow::Cow;
use std::sync::Arc;

/// The only shard that decides on tables.
const TREES_WRITER: ShardIndex = ShardIndex(0);

impl Audience {
    /// Orders a table in the place of the one that its branch has. Who asks is answered when it is stored, and every shard has looked at its sessions.
    pub fn put_session_tree(
        &mut self,
        desk: &mut Desk,
        asker: Caller,
        branch: &str,
        rows: &[(Cow<'_, str>, Cow<'_, str>)],
    ) -> Result<(), Refusal> {
        // Here already, so that one that is none costs the writer nothing.
        let table = parse(desk, rows.iter().map(|(filter, branch)| (&**filter, &**branch)))?;
        let audit = self.audit(desk, asker.session, AuditKind::SessionTree, AuditOutcome::Done).map(|audit| {
            let shown = rows.iter().map(|(_, topics)| &**topics);
            audit.text("operation", "put_session_tree").text("branch", branch).number("mappings", rows.len() as u64).texts("shows", shown)
        });
        let ticket = self.expect_tables(desk, asker, audit);
        let to = Told { shard: desk.identity.index, ticket };
        let put = Put { branch: branch.into(), rows: table.texts().into() };
        desk.mail(TREES_WRITER, Mail::SessionTrees(Box::new(SessionTrees::Order { put, to })));
        Ok(())
    }

    /// The rows of a branch's table; none where it has none.
    pub fn session_tree(&self, branch: &str) -> Outcome {
        let rows = self.trees.tables.get(branch).into_iter().flat_map(Table::rows);
        Outcome::SessionTree(rows.map(|(filter, branch)| BranchMapping { filter: filter.to_owned(), branch: branch.to_owned() }).collect())
    }

    /// The branches that have a table and that the session may read, behind `after`, as many as fit a message.
    pub fn session_trees(&self, desk: &Desk, asker: SessionKey, after: &str) -> Outcome {
        let rights = self.rights(asker);
        let (mut branches, mut bytes, mut has_more) = (Vec::new(), 0, false);
        // Bounded by `session_trees.tables_max`.
        for branch in self.trees.tables.branches_after(after).filter(|branch| rights.may(branch, PathPermission::ReadTopic)) {
            bytes += branch.len() + 32;
            if !branches.is_empty() && bytes > desk.limits.message_bytes_max {
                has_more = true;
                break;
            }
            branches.push(branch.to_owned());
        }
        Outcome::SessionTrees { has_more, branches }
    }

    pub fn session_trees_said(&mut self, desk: &mut Desk, said: SessionTrees) {
        match said {
            SessionTrees::Order { put, to } => self.decide_table(desk, put, to),
            SessionTrees::Decided { put, to } => {
                // The writer has it since it has decided.
                if desk.identity.index != TREES_WRITER {
                    let table = parse(desk, texts(&put.rows)).expect("the writer has parsed it by the same limits");
                    self.trees.tables.put(&put.branch, table);
                }
                self.trees.scans.push_back(Scan { from: 0, to: Some(to) });
            }
        }
    }

    // The writer.

    fn decide_table(&mut self, desk: &mut Desk, put: Put, to: Told) {
        let Put { branch, rows } = &put;
        let table = parse(desk, texts(rows));
        let table = table.expect("the shard that orders it has parsed it by the same limits");
        if let Err(refusal) = self.check_table(desk, branch, &table) {
            let part = Part::View { result: Err(refusal), changes_nothing: true };
            return desk.mail(to.shard, Mail::Part { ticket: to.ticket, part });
        }
        // The record of the new table comes before the removal of the old one: after a crash between the two the newer stands.
        let mut ticket = desk.ledger.earlier();
        let mut old = None;
        if table.is_empty() {
            old = self.trees.records.remove(branch);
        } else {
            let topic = desk.take_topic_id();
            let path = TopicPath::of_branch(&format!("{SESSION_TREES_BRANCH}{branch}"));
            let properties: Arc<[_]> = rows.iter().cloned().collect();
            let added = Change::Added { topic, path, kind: SESSION_TREE_KIND, properties };
            ticket = desk.ledger.append_record(added).or(ticket);
            old = self.trees.records.insert(branch.clone(), topic).or(old);
        }
        if let Some(topic) = old {
            ticket = desk.ledger.append_record(Change::Removed { topic }).or(ticket);
        }
        self.trees.tables.put(branch, table);
        for shard in (0..desk.identity.count).map(ShardIndex) {
            desk.mail(shard, Mail::SessionTrees(Box::new(SessionTrees::Decided { put: put.clone(), to })));
        }
        desk.acknowledge(Ok((Outcome::Done, ticket)), Answer::View { from: to.shard, ticket: to.ticket });
    }

    fn check_table(&self, desk: &Desk, branch: &str, table: &Table) -> Result<(), Refusal> {
        if let Some(reason) = desk.ledger.failure() {
            let message = format!("branch mapping tables cannot be changed for now: {reason}");
            return Err(Refusal::new(ErrorCode::StorageUnavailable, message));
        }
        let full = |error: Full| Refusal::new(ErrorCode::SessionTreeLimit, error.0);
        self.trees.tables.check(branch, table, &desk.limits.session_trees).map_err(full)
    }

    /// Takes up a table that was stored. Every shard does, before anybody is connected.
    pub fn restore_session_tree(&mut self, desk: &mut Desk, id: TopicId, stored: &StoredTopic) -> Result<(), String> {
        let branch =
            stored.session_tree_branch().ok_or_else(|| format!("the record of a table has the path '{}'", stored.path.as_str()))?;
        let table = parse(desk, texts(&stored.properties)).map_err(|refusal| format!("the table of '{branch}': {}", refusal.message))?;
        if desk.identity.index == TREES_WRITER
            && let Some(older) = self.trees.records.insert(branch.into(), id)
        {
            desk.ledger.append_record(Change::Removed { topic: older });
        }
        self.trees.tables.put(branch, table);
        Ok(())
    }
}

fn texts(rows: &[RowText]) -> impl Iterator<Item = (&str, &str)> {
    rows.iter().map(|(filter, branch)| (&**filter, &**branch))
}

fn parse<'t>(desk: &Desk, rows: impl Iterator<Item = (&'t str, &'t str)>) -> Result<Table, Refusal> {
    let table = Table::parse(rows, desk.limits.path_bytes_max);
    table.map_err(|error| Refusal::at(ErrorCode::InvalidBranchMapping, error.position, error.message))
}
