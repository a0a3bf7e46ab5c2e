//! Session trees: the same paths mean other topics to other sessions.
//!
//! A branch mapping table belongs to a branch of session paths. The first of its rows whose session filter means a session says under which branch of the
//! topic tree the topics stand that this session finds there. What all tables come to for one session is its [`Mapping`], which equals that of every session
//! for which the same rows hold. Which sessions there are, and where the tables are kept, is left to others.

mod mapping;
#[cfg(test)]
mod tests;

pub use mapping::{Mapping, Region};

use crate::topic::path::{self, TopicPath, is_within};
use crate::topic::session_filter::{SessionFilter, SessionFilterLimits};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// Every bound the tables obey. Together they bound what it costs to look up one session's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTreeLimits {
    /// Tables, and so the branches that one session's mapping may have.
    pub tables_max: usize,
    /// Rows of one table.
    pub rows_max: usize,
    /// Of the filters and branches of all tables together.
    pub text_bytes_max: usize,
}

impl Default for SessionTreeLimits {
    fn default() -> Self {
        Self { tables_max: 100, rows_max: 100, text_bytes_max: 64 << 10 }
    }
}

/// A row as it is written: a session filter, and a branch of the topic tree.
pub type RowText = (Box<str>, Box<str>);

#[derive(Debug)]
struct Row {
    filter: SessionFilter,
    branch: Box<str>,
}

/// A branch mapping table: rows in their order, of which the first that means a session holds for it.
#[derive(Clone, Debug)]
pub struct Table {
    rows: Arc<[Row]>,
}

/// What is wrong with a row, from 1, and where in the text of its filter or branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowError {
    pub row: usize,
    pub position: usize,
    pub message: String,
}

/// More than the tables may be: a limit of theirs and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Full(pub String);

impl Table {
    pub fn parse<'t>(rows: impl Iterator<Item = (&'t str, &'t str)>, path_bytes_max: usize) -> Result<Self, RowError> {
        let parse = |(at, (filter, branch)): (usize, (&str, &str))| {
            let row = at + 1;
            let filter = SessionFilter::parse(filter, SessionFilterLimits::default()).map_err(|error| RowError {
                row,
                position: error.position,
                message: format!("the filter of row {row}: {error}"),
            })?;
            // A branch that clients cannot make topics in may be shown all the same.
            let error = path::check_form(branch).map_err(|error| (error.position, error.to_string())).err();
            let error =
                error.or_else(|| (branch.len() > path_bytes_max).then(|| (path_bytes_max, "it is longer than a path may be".into())));
            match error {
                Some((position, what)) => Err(RowError { row, position, message: format!("the topic branch of row {row}: {what}") }),
                None => Ok(Row { filter, branch: branch.into() }),
            }
        };
        Ok(Self { rows: rows.enumerate().map(parse).collect::<Result<_, _>>()? })
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// As it is written, with the filters in their canonical form.
    pub fn rows(&self) -> impl Iterator<Item = (&str, &str)> {
        self.rows.iter().map(|row| (row.filter.as_str(), &*row.branch))
    }

    pub fn texts(&self) -> Vec<RowText> {
        self.rows().map(|(filter, branch)| (filter.into(), branch.into())).collect()
    }

    /// Bytes of all texts.
    fn bytes(&self) -> usize {
        self.rows().map(|(filter, branch)| filter.len() + branch.len()).sum()
    }

    /// The branch of topics for the session that `is_meant` looks at; `None` where no row means it.
    fn branch_of(&self, is_meant: &impl Fn(&SessionFilter) -> bool) -> Option<&str> {
        self.rows.iter().find(|row| is_meant(&row.filter)).map(|row| &*row.branch)
    }
}

/// All tables, by their branches of session paths. None is empty.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    by_branch: BTreeMap<TopicPath, Table>,
    bytes: usize,
}

impl Tables {
    pub fn is_empty(&self) -> bool {
        self.by_branch.is_empty()
    }

    pub fn len(&self) -> usize {
        self.by_branch.len()
    }

    /// What looking at one session costs, in bytes of texts.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn get(&self, branch: &str) -> Option<&Table> {
        self.by_branch.get(&TopicPath::of_branch(branch))
    }

    /// The branches behind `after`, in their order.
    pub fn branches_after(&self, after: &str) -> impl Iterator<Item = &str> {
        let start = if after.is_empty() { Bound::Unbounded } else { Bound::Excluded(TopicPath::of_branch(after)) };
        self.by_branch.range((start, Bound::Unbounded)).map(|(branch, _)| branch.as_str())
    }

    /// Whether the table can be put.
    pub fn check(&self, branch: &str, table: &Table, limits: &SessionTreeLimits) -> Result<(), Full> {
        let SessionTreeLimits { tables_max, rows_max, text_bytes_max, .. } = *limits;
        let held = self.get(branch);
        if table.len() > rows_max {
            return Err(Full(format!("a table has at most {rows_max} rows, this one has {}", table.len())));
        }
        if held.is_none() && !table.is_empty() && self.len() >= tables_max {
            return Err(Full(format!("there are {tables_max} tables, as many as there may be")));
        }
        if self.bytes - held.map_or(0, Table::bytes) + table.bytes() > text_bytes_max && !table.is_empty() {
            return Err(Full(format!("all tables together have at most {text_bytes_max} bytes of filters and branches")));
        }
        Ok(())
    }

    /// Puts a table in the place of the one that its branch has; one without rows takes that away.
    pub fn put(&mut self, branch: &str, table: Table) {
        let branch = TopicPath::of_branch(branch);
        self.bytes += table.bytes();
        let old = if table.is_empty() { self.by_branch.remove(&branch) } else { self.by_branch.insert(branch, table) };
        self.bytes -= old.map_or(0, |old| old.bytes());
    }

    /// What a session finds where; `is_meant` says whether a filter means it.
    pub fn mapping_of(&self, is_meant: impl Fn(&SessionFilter) -> bool) -> Mapping {
        // Bounded by the limits: in path order a branch comes behind those above it.
        Mapping::new(self.by_branch.iter().map(|(branch, table)| (branch, table.branch_of(&is_meant))))
    }
}

/// What lies at `path` of the branch `from`, at the same place of the branch `to`; both may be the root, which is empty.
fn moved(path: &str, from: &str, to: &str) -> String {
    debug_assert!(is_within(path, from));
    let rest = if from.is_empty() { path } else { path[from.len()..].trim_start_matches('/') };
    match (to.is_empty(), rest.is_empty()) {
        (true, _) => rest.to_owned(),
        (_, true) => to.to_owned(),
        _ => format!("{to}/{rest}"),
    }
}
