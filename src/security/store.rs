//! The roles: what each may do and which others it includes; what all sessions have; which paths are isolated.
//!
//! A role is whatever a script names. One that nothing was set for allows nothing, so the order in which a script sets and includes does not matter, and a
//! misspelt one takes no right away and gives none. What a store holds always prints as a script that makes it again.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use super::permission::{GlobalPermissions, PathPermissions};
use super::predefined;
use super::rights::Rights;
use super::script::Names;
use super::script::security::{SecurityScript, SecurityStatement};
use super::{ApplyError, ApplyErrorKind, Author, SessionKind};
use crate::topic::path::TopicPath;

/// Every bound a store of roles obeys. Together they bound what it costs to apply a script, and to make a session's rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecurityLimits {
    pub roles_max: usize,
    /// Paths with permissions of all roles together, and isolated paths.
    pub paths_max: usize,
    /// Of a script, and of the script that the whole store prints as.
    pub text_bytes_max: usize,
}

impl Default for SecurityLimits {
    fn default() -> Self {
        Self { roles_max: 1000, paths_max: 20_000, text_bytes_max: 4 << 20 }
    }
}

/// See the module. Cheap to ask only by what [`Self::rights`] makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityStore {
    limits: SecurityLimits,
    pub(super) roles: BTreeMap<Box<str>, Role>,
    anonymous_roles: Names,
    named_roles: Names,
    pub(super) isolated: BTreeSet<TopicPath>,
    /// How many paths have permissions, in all roles, or are isolated.
    paths: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Role {
    pub global: GlobalPermissions,
    pub default: PathPermissions,
    pub paths: BTreeMap<TopicPath, PathPermissions>,
    pub includes: Names,
    locked_by: Option<Box<str>>,
}

/// A role that a session has.
pub(super) struct Had<'a> {
    pub name: &'a str,
    pub role: &'a Role,
    pub given: Given,
}

/// How a session comes by a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// By its authentication.
    ToIt,
    /// As every session of its kind.
    ToAll,
    /// The role at that place among its others includes it.
    IncludedBy(usize),
}

impl SecurityStore {
    /// Without any role.
    pub fn empty(limits: SecurityLimits) -> Self {
        Self {
            limits,
            roles: BTreeMap::new(),
            anonymous_roles: Names::default(),
            named_roles: Names::default(),
            isolated: BTreeSet::new(),
            paths: 0,
        }
    }

    /// With the roles that every server begins with.
    pub fn predefined(limits: SecurityLimits) -> Self {
        let mut store = Self::empty(SecurityLimits::default());
        let script = SecurityScript::parse(predefined::SCRIPT, store.limits).expect("a test parses it");
        store.apply(&script, Author::Operator).expect("a test applies it");
        Self { limits, ..store }
    }

    /// That of a text alone, from an empty store: what is wrong with it, in words.
    pub fn parse(text: &str, limits: SecurityLimits) -> Result<Self, String> {
        let script = SecurityScript::parse(text, limits).map_err(|error| error.to_string())?;
        let mut store = Self::empty(limits);
        store.apply(&script, Author::Operator).map_err(|error| error.to_string())?;
        Ok(store)
    }

    pub fn limits(&self) -> SecurityLimits {
        self.limits
    }

    /// Applies all statements in their order, or none. That roles do not include each other, and how much there is, is judged at the end.
    pub fn apply(&mut self, script: &SecurityScript, by: Author<'_>) -> Result<(), ApplyError> {
        let mut next = self.clone();
        let mut included_at = HashMap::new();
        let mut line_last = 1;
        for (line, statement) in script.statements() {
            line_last = line;
            next.carry_out(statement, by).map_err(|kind| ApplyError { line, kind })?;
            if let SecurityStatement::SetIncludes { role, .. } = statement {
                included_at.insert(&**role, line);
            }
        }
        next.roles.retain(|_, role| *role != Role::default());
        if let Some(cycle) = next.find_cycle() {
            // One of its roles includes the next by this script, since there was no circle before.
            let line = cycle.iter().filter_map(|role| included_at.get(&**role)).max();
            return Err(ApplyError { line: line.copied().unwrap_or(line_last), kind: ApplyErrorKind::Cycle(cycle) });
        }
        next.check_size().map_err(|kind| ApplyError { line: line_last, kind })?;
        *self = next;
        Ok(())
    }

    fn carry_out(&mut self, statement: &SecurityStatement, by: Author<'_>) -> Result<(), ApplyErrorKind> {
        if let Some(name) = statement.role()
            && let Some(principal) = self.roles.get(name).and_then(|role| role.locked_by.as_ref())
            && !by.passes(Some(principal))
        {
            return Err(ApplyErrorKind::LockedRole { role: name.into(), principal: principal.clone() });
        }
        match statement {
            SecurityStatement::SetGlobal { role, permissions } => self.role(role).global = *permissions,
            SecurityStatement::SetDefault { role, permissions } => self.role(role).default = *permissions,
            SecurityStatement::SetPath { role, path, permissions } => {
                let is_new = self.role(role).paths.insert(path.clone(), *permissions).is_none();
                self.paths += usize::from(is_new);
            }
            SecurityStatement::RemovePath { role, path } => {
                let is_gone = self.roles.get_mut(role).is_some_and(|role| role.paths.remove(path).is_some());
                self.paths -= usize::from(is_gone);
            }
            SecurityStatement::SetIncludes { role, includes } => self.role(role).includes = includes.clone(),
            SecurityStatement::SetSessionRoles { kind, roles } => *self.session_roles_mut(*kind) = roles.clone(),
            SecurityStatement::Isolate { path } => self.paths += usize::from(self.isolated.insert(path.clone())),
            SecurityStatement::Deisolate { path } => self.paths -= usize::from(self.isolated.remove(path)),
            SecurityStatement::Lock { role, principal } => self.role(role).locked_by = Some(principal.clone()),
            SecurityStatement::Unlock { role } => self.role(role).locked_by = None,
        }
        Ok(())
    }

    fn role(&mut self, name: &str) -> &mut Role {
        self.roles.entry(name.into()).or_default()
    }

    fn session_roles_mut(&mut self, kind: SessionKind) -> &mut Names {
        match kind {
            SessionKind::Anonymous => &mut self.anonymous_roles,
            SessionKind::Named => &mut self.named_roles,
        }
    }

    /// The roles that every session of that kind has beside those of its principal.
    pub fn session_roles(&self, kind: SessionKind) -> &[Box<str>] {
        match kind {
            SessionKind::Anonymous => &self.anonymous_roles,
            SessionKind::Named => &self.named_roles,
        }
    }

    fn check_size(&self) -> Result<(), ApplyErrorKind> {
        let full = |what, count_max| Err(ApplyErrorKind::Full { what, count_max });
        if self.roles.len() > self.limits.roles_max {
            return full("roles", self.limits.roles_max);
        }
        if self.paths > self.limits.paths_max {
            return full("paths with permissions", self.limits.paths_max);
        }
        if self.to_script().len() > self.limits.text_bytes_max {
            return full("bytes as a script", self.limits.text_bytes_max);
        }
        Ok(())
    }

    /// Roles that include each other, if any do. Takes away, again and again, a role that includes none that is left; what stays leads into a circle.
    fn find_cycle(&self) -> Option<Vec<Box<str>>> {
        let mut included_by: HashMap<&str, Vec<&str>> = HashMap::new();
        let mut left: BTreeMap<&str, usize> = BTreeMap::new();
        for (name, role) in &self.roles {
            let includes = role.includes.iter().filter(|included| self.roles.contains_key(*included));
            left.insert(name, includes.clone().count());
            includes.for_each(|included| included_by.entry(included).or_default().push(name));
        }
        let mut free: Vec<&str> = left.iter().filter(|(_, count)| **count == 0).map(|(name, _)| *name).collect();
        while let Some(name) = free.pop() {
            left.remove(name);
            for user in included_by.get(name).into_iter().flatten() {
                let count = left.get_mut(user).expect("it includes one that was left");
                *count -= 1;
                if *count == 0 {
                    free.push(user);
                }
            }
        }
        let mut trail: Vec<&str> = vec![left.keys().next()?];
        loop {
            let last = trail[trail.len() - 1];
            let next =
                self.roles[last].includes.iter().find(|included| left.contains_key(&***included)).expect("each includes one that is left");
            if let Some(start) = trail.iter().position(|name| *name == &**next) {
                return Some(trail[start..].iter().copied().chain([&**next]).map(Into::into).collect());
            }
            trail.push(next);
        }
    }

    /// What a session with these roles may do. It costs the size of the store: sessions of the same roles share it.
    pub fn rights(&self, roles: &[impl AsRef<str>], kind: SessionKind) -> Rights {
        let (mut global, mut default) = (GlobalPermissions::NONE, PathPermissions::NONE);
        let mut at: BTreeMap<&TopicPath, PathPermissions> = self.isolated.iter().map(|path| (path, PathPermissions::NONE)).collect();
        for had in self.roles_had(roles, kind) {
            global = global.union(had.role.global);
            default = default.union(had.role.default);
            for (path, permissions) in &had.role.paths {
                let there = at.entry(path).or_default();
                *there = there.union(*permissions);
            }
        }
        Rights::new(global, default, at.into_iter().map(|(path, permissions)| (path.clone(), permissions)))
    }

    /// These roles, those of all sessions of the kind, and all that they include, each once. Those that the store does not know are not among them.
    pub(super) fn roles_had<'a>(&'a self, roles: &'a [impl AsRef<str>], kind: SessionKind) -> Vec<Had<'a>> {
        let own = roles.iter().map(|role| (role.as_ref(), Given::ToIt));
        let all = self.session_roles(kind).iter().map(|role| (&**role, Given::ToAll));
        let mut next: VecDeque<(&str, Given)> = own.chain(all).collect();
        let (mut seen, mut had) = (HashSet::new(), Vec::new());
        while let Some((name, given)) = next.pop_front() {
            let Some(role) = self.roles.get(name).filter(|_| seen.insert(name)) else { continue };
            next.extend(role.includes.iter().map(|included| (&**included, Given::IncludedBy(had.len()))));
            had.push(Had { name, role, given });
        }
        had
    }

    /// A script that makes the same store from an empty one.
    pub fn to_script(&self) -> String {
        let mut out = String::new();
        let mut print = |statement: SecurityStatement| out.extend([statement.to_string().as_str(), "\n"]);
        for (name, role) in &self.roles {
            if !role.global.is_empty() {
                print(SecurityStatement::SetGlobal { role: name.clone(), permissions: role.global });
            }
            if !role.default.is_empty() {
                print(SecurityStatement::SetDefault { role: name.clone(), permissions: role.default });
            }
            for (path, permissions) in &role.paths {
                print(SecurityStatement::SetPath { role: name.clone(), path: path.clone(), permissions: *permissions });
            }
            if !role.includes.is_empty() {
                print(SecurityStatement::SetIncludes { role: name.clone(), includes: role.includes.clone() });
            }
        }
        for kind in [SessionKind::Anonymous, SessionKind::Named] {
            if !self.session_roles(kind).is_empty() {
                print(SecurityStatement::SetSessionRoles { kind, roles: self.session_roles(kind).into() });
            }
        }
        self.isolated.iter().for_each(|path| print(SecurityStatement::Isolate { path: path.clone() }));
        // Behind all else, so that whoever applies it is not locked out by it.
        for (name, role) in &self.roles {
            if let Some(principal) = &role.locked_by {
                print(SecurityStatement::Lock { role: name.clone(), principal: principal.clone() });
            }
        }
        out
    }
}
