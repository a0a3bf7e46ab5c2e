//! Compiled rights against rules that are plain to read, on all small stores and on some bigger ones.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::security::explain::Asked;
use crate::security::permission::PathPermission::{self, ReadTopic, SelectTopic};
use crate::security::permission::{GlobalPermissions, PathPermissions, Permission};
use crate::security::rights::Rights;
use crate::security::script::security::SecurityScript;
use crate::security::store::{SecurityLimits, SecurityStore};
use crate::security::{Author, SessionKind};
use crate::topic::path::{TopicPath, is_within};

/// A store as it is said in words.
#[derive(Clone, Debug, Default)]
struct Naive {
    defaults: Vec<PathPermissions>,
    /// Role and path.
    assignments: BTreeMap<(usize, &'static str), PathPermissions>,
    isolated: Vec<&'static str>,
}

impl Naive {
    fn at(&self, roles: &[usize], path: &str) -> PathPermissions {
        let segments: Vec<&str> = path.split('/').collect();
        for count in (1..=segments.len()).rev() {
            let prefix = segments[..count].join("/");
            let of = |role: &usize| self.assignments.iter().find(|((of, path), _)| of == role && *path == prefix);
            let found: Vec<PathPermissions> = roles.iter().filter_map(of).map(|(_, permissions)| *permissions).collect();
            if !found.is_empty() || self.isolated.contains(&&*prefix) {
                return union(found);
            }
        }
        union(roles.iter().map(|role| self.defaults[*role]).collect())
    }

    fn store(&self) -> SecurityStore {
        let mut text = String::new();
        for (role, permissions) in self.defaults.iter().enumerate() {
            text.push_str(&format!("set '{role}' default path permissions {permissions}\n"));
        }
        for ((role, path), permissions) in &self.assignments {
            text.push_str(&format!("set '{role}' path '{path}' permissions {permissions}\n"));
        }
        self.isolated.iter().for_each(|path| text.push_str(&format!("isolate path '{path}'\n")));
        let mut store = SecurityStore::empty(SecurityLimits::default());
        store.apply(&SecurityScript::parse(&text, SecurityLimits::default()).unwrap(), Author::Operator).unwrap();
        store
    }

    fn rights(&self, roles: &[usize]) -> Rights {
        self.store().rights(&names(roles), SessionKind::Named)
    }
}

fn names(roles: &[usize]) -> Vec<String> {
    roles.iter().map(ToString::to_string).collect()
}

fn union(sets: Vec<PathPermissions>) -> PathPermissions {
    sets.into_iter().fold(PathPermissions::NONE, PathPermissions::union)
}

/// Every path that a rule could tell apart: those with rules, one beside and one below each, and one elsewhere.
fn paths_of(assigned: &[&str]) -> Vec<String> {
    let near = |path: &&str| [path.to_string(), format!("{path}/y"), format!("{path}y"), format!("{path}/y/z")];
    assigned.iter().flat_map(near).chain(["y".into()]).collect()
}

fn check_rights(naive: &Naive, roles: &[usize], rights: &Rights, paths: &[String]) {
    let said: Vec<PathPermissions> = paths.iter().map(|path| naive.at(roles, path)).collect();
    for (path, permissions) in paths.iter().zip(&said) {
        assert_eq!(rights.at(path), *permissions, "{naive:?} {roles:?} {path}");
    }
    for branch in paths.iter().map(String::as_str).chain([""]) {
        let below = paths.iter().zip(&said).filter(|(path, _)| is_within(path, branch));
        let everywhere = |permission: &PathPermission| below.clone().all(|(_, permissions)| permissions.contains(*permission));
        let all_below: PathPermissions = PathPermission::ALL.iter().copied().filter(everywhere).collect();
        let may_everywhere = PathPermission::ALL.iter().copied().filter(|permission| rights.may_everywhere(branch, *permission));
        assert_eq!(may_everywhere.collect::<PathPermissions>(), all_below, "{naive:?} {roles:?} {branch}");
        let below = union(below.map(|(_, permissions)| *permissions).collect());
        let may_below = PathPermission::ALL.iter().copied().filter(|permission| rights.may_below(branch, *permission));
        assert_eq!(may_below.collect::<PathPermissions>(), below, "{naive:?} {roles:?} {branch}");
    }
}

/// What is explained is what is so, and the line that allows is in the store and has the permission.
fn check_explained(store: &SecurityStore, roles: &[usize], rights: &Rights, paths: &[String]) {
    let (names, script) = (names(roles), store.to_script());
    for path in paths {
        for permission in [ReadTopic, SelectTopic] {
            let explanation = store.explain(&names, SessionKind::Named, Asked::Path(permission, path));
            assert_eq!(explanation.is_allowed, rights.may(path, permission), "{script} {roles:?} {path} {permission:?}");
            for statement in &explanation.decisive {
                let line = statement.to_string();
                assert!(script.contains(&line), "{script} {line}");
                assert_eq!(line.contains(permission.name()), explanation.is_allowed, "{script} {line}");
            }
            assert!(explanation.by_way_of.is_empty());
        }
    }
}

/// None outside of the branches differs, and each branch itself does.
fn check_changes(one: &Rights, other: &Rights, paths: &[String]) {
    let branches = one.changed_branches(other);
    let is_outside = |path: &&String| !branches.iter().any(|branch| is_within(path, branch.as_str()));
    for path in paths.iter().filter(is_outside) {
        assert_eq!(one.at(path), other.at(path), "{one:?} {other:?} {path} {branches:?}");
    }
    for (at, branch) in branches.iter().enumerate() {
        assert_ne!(one.at(branch.as_str()), other.at(branch.as_str()), "{one:?} {other:?} {branches:?}");
        let apart = |(beside, other): (usize, &TopicPath)| beside == at || !is_within(other.as_str(), branch.as_str());
        assert!(branches.iter().enumerate().all(apart), "{branches:?}");
    }
    let is_same_everywhere = paths.iter().all(|path| one.at(path) == other.at(path));
    assert_eq!(branches.is_empty(), is_same_everywhere);
    assert_eq!(one == other, is_same_everywhere, "{one:?} {other:?}");
}

const SMALL: [&str; 3] = ["a", "a/b", "a/b/c"];

/// Two roles, three paths one below the other, for each an empty set, one of the role's own, or none, and isolated or not.
#[test]
fn all_small_stores_are_as_said() {
    let own = [PathPermissions::NONE.with(ReadTopic), PathPermissions::NONE.with(SelectTopic)];
    let paths = paths_of(&SMALL);
    let mut earlier = Rights::default();
    for number in 0..3_usize.pow(6) * 8 {
        let mut naive = Naive { defaults: own.into(), ..Naive::default() };
        for place in 0..6 {
            let (role, path) = (place / 3, SMALL[place % 3]);
            let set = [None, Some(PathPermissions::NONE), Some(own[role])][number / 8 / 3_usize.pow(place as u32) % 3];
            naive.assignments.extend(set.map(|set| ((role, path), set)));
        }
        naive.isolated = (0..3).filter(|at| (number >> at) & 1 == 1).map(|at| SMALL[at]).collect();
        let store = naive.store();
        for roles in [&[0][..], &[0, 1]] {
            let rights = store.rights(&names(roles), SessionKind::Named);
            check_rights(&naive, roles, &rights, &paths);
            check_explained(&store, roles, &rights, &paths);
            check_changes(&rights, &earlier, &paths);
            earlier = rights;
        }
    }
}

const BIGGER: [&str; 14] =
    ["a", "a/b", "a/b/c", "a/b/c/d", "a/b!", "a/bb/c", "b", "b/b", "b/c", "b/c/d/e/f", "c/d/e", "c/d/f", "ä", "$SYS/x"];

fn naives() -> impl Strategy<Value = Naive> {
    let set = || (0..1_u16 << 11).prop_map(|bits| PathPermissions::of_number(bits & 0b11).unwrap());
    let assignment = ((0..3_usize, proptest::sample::select(&BIGGER[..])), set());
    let assignments = proptest::collection::btree_map(assignment.0, assignment.1, 0..20);
    let isolated = proptest::sample::subsequence(&BIGGER[..], 0..5);
    (proptest::collection::vec(set(), 3), assignments, isolated).prop_map(|(defaults, assignments, isolated)| Naive {
        defaults,
        assignments,
        isolated,
    })
}

proptest! {
    #[test]
    fn bigger_stores_are_as_said(naive in naives(), other in naives(), roles in proptest::sample::subsequence(vec![0, 1, 2], 0..=3)) {
        let paths = paths_of(&BIGGER);
        let rights = naive.rights(&roles);
        check_rights(&naive, &roles, &rights, &paths);
        check_explained(&naive.store(), &roles, &rights, &paths);
        check_changes(&rights, &other.rights(&roles), &paths);
        check_changes(&rights, &naive.rights(&roles), &paths);
        let same = Rights::new(GlobalPermissions::NONE, PathPermissions::NONE, std::iter::empty());
        check_changes(&same, &Rights::default(), &paths);
    }

    #[test]
    fn many_changes_are_told_by_branches_that_hold_them(places in proptest::collection::btree_set((0..9_u8, 0..9_u8, 0..9_u8), 0..200)) {
        let assigned = places.iter().map(|(a, b, c)| TopicPath::of_branch(&format!("{a}/{b}/{c}/x/y")));
        let mut assigned: Vec<TopicPath> = assigned.collect();
        assigned.sort();
        let full = assigned.iter().map(|path| (path.clone(), PathPermissions::ALL));
        let rights = Rights::new(GlobalPermissions::NONE, PathPermissions::NONE, full);
        let branches = rights.changed_branches(&Rights::default());
        prop_assert!(branches.len() <= 64);
        prop_assert!(branches.is_sorted());
        for path in &assigned {
            prop_assert_eq!(branches.iter().filter(|branch| is_within(path.as_str(), branch.as_str())).count(), 1);
        }
    }
}
