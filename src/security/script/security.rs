//! The script of roles: which permissions each has, which roles it includes, which paths are isolated.
//!
//! The grammar stands in `docs/security.md`. `topic` is an older word for `path`.

use std::fmt;

use super::{Names, ScriptError, expect_end, expect_name, expect_path, expect_permissions, expect_roles, list, parse_lines, quoted};
use crate::security::SessionKind;
use crate::security::permission::{GlobalPermissions, PathPermissions};
use crate::security::store::SecurityLimits;
use crate::topic::path::TopicPath;
use crate::topic::syntax::{Cursor, SyntaxError};

/// A parsed script. Prints as one that parses to the same, but for comments and blank lines.
#[derive(Clone, Debug)]
pub struct SecurityScript {
    statements: Vec<(usize, SecurityStatement)>,
}

/// One statement. Each `set` replaces what was there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecurityStatement {
    SetGlobal { role: Box<str>, permissions: GlobalPermissions },
    SetDefault { role: Box<str>, permissions: PathPermissions },
    SetPath { role: Box<str>, path: TopicPath, permissions: PathPermissions },
    RemovePath { role: Box<str>, path: TopicPath },
    SetIncludes { role: Box<str>, includes: Names },
    SetSessionRoles { kind: SessionKind, roles: Names },
    Isolate { path: TopicPath },
    Deisolate { path: TopicPath },
    Lock { role: Box<str>, principal: Box<str> },
    Unlock { role: Box<str> },
}

impl SecurityScript {
    pub fn parse(text: &str, limits: SecurityLimits) -> Result<Self, ScriptError> {
        Ok(Self { statements: parse_lines(text, limits.text_bytes_max, parse_statement)? })
    }

    /// Each with its line, from 1.
    pub fn statements(&self) -> impl Iterator<Item = (usize, &SecurityStatement)> {
        self.statements.iter().map(|(line, statement)| (*line, statement))
    }
}

impl SecurityStatement {
    /// The role that it changes.
    pub fn role(&self) -> Option<&str> {
        match self {
            Self::SetGlobal { role, .. }
            | Self::SetDefault { role, .. }
            | Self::SetPath { role, .. }
            | Self::RemovePath { role, .. }
            | Self::SetIncludes { role, .. }
            | Self::Lock { role, .. }
            | Self::Unlock { role } => Some(role),
            Self::SetSessionRoles { .. } | Self::Isolate { .. } | Self::Deisolate { .. } => None,
        }
    }
}

fn parse_statement(cursor: &mut Cursor<'_>) -> Result<SecurityStatement, SyntaxError> {
    let statement = if cursor.take_keyword("set").is_some() {
        parse_set(cursor)?
    } else if cursor.take_keyword("remove").is_some() {
        let role = expect_role(cursor)?;
        cursor.expect_keywords(&["permissions", "for"])?;
        expect_path_word(cursor, "`path`")?;
        SecurityStatement::RemovePath { role, path: expect_path(cursor)? }
    } else if cursor.take_keyword("isolate").is_some() {
        expect_path_word(cursor, "`path`")?;
        SecurityStatement::Isolate { path: expect_path(cursor)? }
    } else if cursor.take_keyword("deisolate").is_some() {
        expect_path_word(cursor, "`path`")?;
        SecurityStatement::Deisolate { path: expect_path(cursor)? }
    } else if cursor.take_keyword("lock").is_some() {
        cursor.expect_keywords(&["role"])?;
        let role = expect_role(cursor)?;
        cursor.expect_keywords(&["to", "principal"])?;
        SecurityStatement::Lock { role, principal: expect_name(cursor, "a principal in quotation marks")? }
    } else if cursor.take_keyword("unlock").is_some() {
        cursor.expect_keywords(&["role"])?;
        SecurityStatement::Unlock { role: expect_role(cursor)? }
    } else {
        return Err(cursor.error("`set`, `remove`, `isolate`, `deisolate`, `lock` or `unlock`"));
    };
    expect_end(cursor)?;
    Ok(statement)
}

fn parse_set(cursor: &mut Cursor<'_>) -> Result<SecurityStatement, SyntaxError> {
    if cursor.take_keyword("roles").is_some() {
        return parse_session_roles(cursor);
    }
    if !cursor.is_quoted() {
        return Err(cursor.error("a role in quotation marks or `roles`"));
    }
    let role = expect_role(cursor)?;
    if cursor.take_keyword("permissions").is_some() {
        let permissions = expect_permissions(cursor, "a global permission, such as `VIEW_SESSION`")?;
        Ok(SecurityStatement::SetGlobal { role, permissions })
    } else if cursor.take_keyword("default").is_some() {
        expect_path_word(cursor, "`path`")?;
        Ok(SecurityStatement::SetDefault { role, permissions: expect_path_permissions(cursor)? })
    } else if cursor.take_keyword("includes").is_some() {
        Ok(SecurityStatement::SetIncludes { role, includes: expect_roles(cursor)? })
    } else {
        expect_path_word(cursor, "`permissions`, `default`, `path` or `includes`")?;
        let path = expect_path(cursor)?;
        Ok(SecurityStatement::SetPath { role, path, permissions: expect_path_permissions(cursor)? })
    }
}

fn parse_session_roles(cursor: &mut Cursor<'_>) -> Result<SecurityStatement, SyntaxError> {
    cursor.expect_keywords(&["for"])?;
    let kind = if cursor.take_keyword("anonymous").is_some() {
        SessionKind::Anonymous
    } else {
        cursor.take_keyword("named").ok_or_else(|| cursor.error("`anonymous` or `named`"))?;
        SessionKind::Named
    };
    cursor.expect_keywords(&["sessions"])?;
    Ok(SecurityStatement::SetSessionRoles { kind, roles: expect_roles(cursor)? })
}

fn expect_role(cursor: &mut Cursor<'_>) -> Result<Box<str>, SyntaxError> {
    expect_name(cursor, "a role in quotation marks")
}

fn expect_path_word(cursor: &mut Cursor<'_>, expected: &str) -> Result<(), SyntaxError> {
    cursor.take_keyword("path").or_else(|| cursor.take_keyword("topic")).ok_or_else(|| cursor.error(expected))
}

fn expect_path_permissions(cursor: &mut Cursor<'_>) -> Result<PathPermissions, SyntaxError> {
    cursor.expect_keywords(&["permissions"])?;
    expect_permissions(cursor, "a permission for paths, such as `READ_TOPIC`")
}

/// As a line of a script, without its end.
impl fmt::Display for SecurityStatement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetGlobal { role, permissions } => write!(f, "set {} permissions {permissions}", quoted(role)),
            Self::SetDefault { role, permissions } => write!(f, "set {} default path permissions {permissions}", quoted(role)),
            Self::SetPath { role, path, permissions } => {
                write!(f, "set {} path {} permissions {permissions}", quoted(role), quoted(path.as_str()))
            }
            Self::RemovePath { role, path } => write!(f, "remove {} permissions for path {}", quoted(role), quoted(path.as_str())),
            Self::SetIncludes { role, includes } => write!(f, "set {} includes {}", quoted(role), list(includes)),
            Self::SetSessionRoles { kind, roles } => write!(f, "set roles for {} sessions {}", kind.name(), list(roles)),
            Self::Isolate { path } => write!(f, "isolate path {}", quoted(path.as_str())),
            Self::Deisolate { path } => write!(f, "deisolate path {}", quoted(path.as_str())),
            Self::Lock { role, principal } => write!(f, "lock role {} to principal {}", quoted(role), quoted(principal)),
            Self::Unlock { role } => write!(f, "unlock role {}", quoted(role)),
        }
    }
}

impl fmt::Display for SecurityScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.statements.iter().try_for_each(|(_, statement)| writeln!(f, "{statement}"))
    }
}
