//! Why a session may do something, or may not: the lines of a script that decide.
//!
//! It answers as [`super::rights::Rights`] does, from the store itself and slowly: for whoever looks after the server.

use std::fmt;

use super::SessionKind;
use super::permission::{GlobalPermission, PathPermission, Permission};
use super::script::Names;
use super::script::security::SecurityStatement;
use super::store::{Given, Had, SecurityStore};
use crate::topic::path::{PathError, TopicPath, check_form};

/// The most lines that an explanation shows of those that decide together.
const LINES_MAX: usize = 10;

/// What is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    Global(GlobalPermission),
    Path(PathPermission, &'a str),
}

/// Why nothing can be asked in these words: the fault of who wrote them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedError {
    UnknownPermission,
    PathWanted(PathPermission),
    NoPathWanted(GlobalPermission),
    Path(PathError),
}

/// Whether something is allowed, and by what. Prints as `allowed` or `refused` with the lines of a script that would make it so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    pub is_allowed: bool,
    /// What decides. Of what is allowed it is one line; of what is refused all that were considered, or none where nothing is said.
    pub decisive: Vec<SecurityStatement>,
    /// How the session comes by the role of the line that allows: the lines that include the role, from the session on, and the one that gives the first of them to
    /// all sessions of its kind, if it is from there.
    pub by_way_of: Vec<SecurityStatement>,
    /// The line of a script of principals that gives the session its own roles, for whoever explains to set where it is known. It is shown where those roles have
    /// a say: not where the line that allows is of a role that all sessions of its kind have.
    pub given_by: Option<String>,
    /// The session's roles with all that they include, in order.
    pub roles: Names,
}

impl<'a> Asked<'a> {
    /// From the words of a command: a permission by its name, and a path where it is one for paths.
    pub fn parse(permission: &str, path: Option<&'a str>) -> Result<Self, AskedError> {
        match (PathPermission::parse(permission), GlobalPermission::parse(permission), path) {
            (Some(permission), _, Some(path)) => match check_form(path) {
                Ok(()) => Ok(Self::Path(permission, path)),
                Err(error) => Err(AskedError::Path(error)),
            },
            (Some(permission), _, None) => Err(AskedError::PathWanted(permission)),
            (None, Some(permission), None) => Ok(Self::Global(permission)),
            (None, Some(permission), Some(_)) => Err(AskedError::NoPathWanted(permission)),
            (None, None, _) => Err(AskedError::UnknownPermission),
        }
    }
}

impl SecurityStore {
    /// Why a session with these roles may do what is asked, or may not.
    pub fn explain(&self, roles: &[impl AsRef<str>], kind: SessionKind, asked: Asked<'_>) -> Explanation {
        let had = self.roles_had(roles, kind);
        let decisive = match asked {
            Asked::Global(permission) => decided_globally(&had, permission),
            Asked::Path(permission, path) => self.decided_at(&had, permission, path),
        };
        let mut names: Vec<Box<str>> = had.iter().map(|had| had.name.into()).collect();
        names.sort_unstable();
        let allowing = decisive.iter().find(|decisive| decisive.allows);
        let by_way_of = allowing.and_then(|decisive| decisive.of).map_or_else(Vec::new, |of| self.way_to(&had, of, kind));
        Explanation {
            is_allowed: allowing.is_some(),
            by_way_of,
            given_by: None,
            decisive: match allowing {
                Some(decisive) => vec![decisive.statement.clone()],
                None => decisive.into_iter().map(|decisive| decisive.statement).collect(),
            },
            roles: names.into(),
        }
    }

    fn decided_at(&self, had: &[Had<'_>], permission: PathPermission, path: &str) -> Vec<Decisive> {
        let mut nearest = path;
        loop {
            let at = TopicPath::of_branch(nearest);
            let set = had.iter().enumerate().filter_map(|(of, had)| Some((of, had, *had.role.paths.get(&at)?)));
            let mut decisive: Vec<Decisive> = set
                .map(|(of, had, permissions)| Decisive {
                    allows: permissions.contains(permission),
                    of: Some(of),
                    statement: SecurityStatement::SetPath { role: had.name.into(), path: at.clone(), permissions },
                })
                .collect();
            if self.isolated.contains(&at) {
                decisive.push(Decisive { allows: false, of: None, statement: SecurityStatement::Isolate { path: at } });
            }
            if !decisive.is_empty() {
                return decisive;
            }
            let Some(end) = nearest.rfind('/') else { break };
            nearest = &nearest[..end];
        }
        let said = had.iter().enumerate().filter(|(_, had)| !had.role.default.is_empty());
        let decisive = said.map(|(of, had)| Decisive {
            allows: had.role.default.contains(permission),
            of: Some(of),
            statement: SecurityStatement::SetDefault { role: had.name.into(), permissions: had.role.default },
        });
        decisive.collect()
    }

    /// How a session comes by the role that it has at `of`.
    fn way_to(&self, had: &[Had<'_>], mut of: usize, kind: SessionKind) -> Vec<SecurityStatement> {
        let mut way = Vec::new();
        while let Given::IncludedBy(by) = had[of].given {
            way.push(SecurityStatement::SetIncludes { role: had[by].name.into(), includes: had[by].role.includes.clone() });
            of = by;
        }
        if had[of].given == Given::ToAll {
            way.push(SecurityStatement::SetSessionRoles { kind, roles: self.session_roles(kind).into() });
        }
        way.reverse();
        way
    }
}

/// A line that has a say, and of which of the session's roles it is.
struct Decisive {
    allows: bool,
    of: Option<usize>,
    statement: SecurityStatement,
}

fn decided_globally(had: &[Had<'_>], permission: GlobalPermission) -> Vec<Decisive> {
    let said = had.iter().enumerate().filter(|(_, had)| !had.role.global.is_empty());
    let decisive = said.map(|(of, had)| Decisive {
        allows: had.role.global.contains(permission),
        of: Some(of),
        statement: SecurityStatement::SetGlobal { role: had.name.into(), permissions: had.role.global },
    });
    decisive.collect()
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_allowed { "allowed" } else { "refused" })?;
        match &*self.decisive {
            [] if self.roles.is_empty() => f.write_str(": nothing is set for any role of the session")?,
            [] => write!(f, ": nothing is said for {}", super::script::list(&self.roles))?,
            [one] => write!(f, ": {one}")?,
            [..] => {
                f.write_str(", as none of these has it:")?;
                self.decisive.iter().take(LINES_MAX).try_for_each(|statement| write!(f, "\n  {statement}"))?;
                if self.decisive.len() > LINES_MAX {
                    write!(f, "\n  and {} more", self.decisive.len() - LINES_MAX)?;
                }
            }
        }
        if let Some(line) = &self.given_by
            && !matches!(self.by_way_of.first(), Some(SecurityStatement::SetSessionRoles { .. }))
        {
            write!(f, "\n  by {line}")?;
        }
        self.by_way_of.iter().try_for_each(|statement| write!(f, "\n  by {statement}"))
    }
}

impl fmt::Display for AskedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownPermission => f.write_str("there is no such permission"),
            Self::PathWanted(permission) => write!(f, "{} is for paths: which?", permission.name()),
            Self::NoPathWanted(permission) => write!(f, "{} is for the server, not for a path", permission.name()),
            Self::Path(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for AskedError {}
