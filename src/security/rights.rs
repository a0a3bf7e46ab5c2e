//! What a session may do: a set of roles, compiled.
//!
//! For a path the nearest path with permissions decides, be it that or one above it; where there is none, the default. Isolated paths have permissions here,
//! if only none. A path that allows what the one above it allows anyway is left out, so two are equal exactly when they say the same of every path.
//!
//! Asking does not allocate, and looks once into a table for each level of the path at which there are any permissions.

use std::hash::BuildHasher;
use std::sync::LazyLock;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::permission::{GlobalPermission, GlobalPermissions, PathPermission, PathPermissions};
use crate::topic::path::{TopicPath, compare, is_within};

/// Into how many branches a change is told apart, at most.
const BRANCHES_MAX: usize = 64;

/// See the module. To be shared by all sessions of the same roles.
#[derive(Debug, Default)]
pub struct Rights {
    global: GlobalPermissions,
    default: PathPermissions,
    /// In path order. None has the permissions of what is nearest above it.
    assignments: Box<[(TopicPath, PathPermissions)]>,
    /// Their places, by path.
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// A bit for each number of segments that an assignment's path has, the last for that many and more.
    levels: u64,
    /// Of n assignments, n unions of pairs of what follows, from place 1 on, then the permissions of the assignments.
    unions: Box<[PathPermissions]>,
}

impl Rights {
    /// Of somebody of whom nothing is known.
    pub fn nothing() -> &'static Self {
        static NOTHING: LazyLock<Rights> = LazyLock::new(Rights::default);
        &NOTHING
    }

    /// Everything: the server itself, and whoever connects to one that asks nobody.
    pub fn all() -> Self {
        Self { global: GlobalPermissions::ALL, default: PathPermissions::ALL, ..Self::default() }
    }

    /// From assignments in path order, each path once.
    pub(super) fn new(
        global: GlobalPermissions,
        default: PathPermissions,
        assignments: impl Iterator<Item = (TopicPath, PathPermissions)>,
    ) -> Self {
        let mut kept: Vec<(TopicPath, PathPermissions)> = Vec::new();
        // Places of those kept that the next may lie under.
        let mut above: Vec<usize> = Vec::new();
        for (path, permissions) in assignments {
            while above.pop_if(|at| !is_within(path.as_str(), kept[*at].0.as_str())).is_some() {}
            let inherited = above.last().map_or(default, |at| kept[*at].1);
            if permissions != inherited {
                above.push(kept.len());
                kept.push((path, permissions));
            }
        }
        let (hasher, mut index, mut levels) = (DefaultHashBuilder::default(), HashTable::with_capacity(kept.len()), 0);
        for (place, (path, _)) in (0..).zip(&kept) {
            let hash_of = |place: &u32| hasher.hash_one(kept[*place as usize].0.as_str());
            index.insert_unique(hasher.hash_one(path.as_str()), place, hash_of);
            levels |= level_bit(path.segments().count());
        }
        let unions = unions_of(&kept);
        Self { global, default, assignments: kept.into(), index, hasher, levels, unions }
    }

    pub fn allows(&self, permission: GlobalPermission) -> bool {
        self.global.contains(permission)
    }

    /// What may be done at `path`.
    pub fn at(&self, path: &str) -> PathPermissions {
        if self.levels == 0 {
            return self.default;
        }
        let mut level = 1 + path.bytes().filter(|byte| *byte == b'/').count();
        let mut path = path;
        loop {
            if self.levels & level_bit(level) != 0
                && let Some(permissions) = self.assigned(path)
            {
                return permissions;
            }
            // Segments are short: looking for the end byte by byte takes a fifth of what `rfind` takes.
            let Some(end) = path.bytes().rposition(|byte| byte == b'/') else { return self.default };
            path = &path[..end];
            level -= 1;
        }
    }

    fn assigned(&self, path: &str) -> Option<PathPermissions> {
        let is_it = |place: &u32| self.assignments[*place as usize].0.as_str() == path;
        let place = *self.index.find(self.hasher.hash_one(path), is_it)?;
        Some(self.assignments[place as usize].1)
    }

    /// Whether what is at `path` may be selected and read.
    pub fn may_see(&self, path: &str) -> bool {
        let here = self.at(path);
        here.contains(PathPermission::SelectTopic) && here.contains(PathPermission::ReadTopic)
    }

    pub fn may(&self, path: &str, permission: PathPermission) -> bool {
        self.at(path).contains(permission)
    }

    /// Whether there could be a path at or below the branch at which that may be done. The empty branch holds every path.
    pub fn may_below(&self, branch: &str, permission: PathPermission) -> bool {
        if self.at(branch).contains(permission) {
            return true;
        }
        let start = self.assignments.partition_point(|(path, _)| compare(path.as_str(), branch).is_lt());
        let count = self.assignments[start..].partition_point(|(path, _)| is_within(path.as_str(), branch));
        self.union(start, start + count).contains(permission)
    }

    /// Whether that may be done at every path at or below the branch. It costs a look at all assignments there.
    pub fn may_everywhere(&self, branch: &str, permission: PathPermission) -> bool {
        let start = self.assignments.partition_point(|(path, _)| compare(path.as_str(), branch).is_lt());
        let below = self.assignments[start..].iter().take_while(|(path, _)| is_within(path.as_str(), branch));
        self.at(branch).contains(permission) && below.into_iter().all(|(_, permissions)| permissions.contains(permission))
    }

    /// Of the assignments from `start` up to `end`.
    fn union(&self, start: usize, end: usize) -> PathPermissions {
        let count = self.assignments.len();
        let (mut left, mut right) = (start + count, end + count);
        let mut union = PathPermissions::NONE;
        while left < right {
            if left % 2 == 1 {
                union = union.union(self.unions[left]);
                left += 1;
            }
            if right % 2 == 1 {
                right -= 1;
                union = union.union(self.unions[right]);
            }
            (left, right) = (left / 2, right / 2);
        }
        union
    }

    /// The branches outside of which both say the same of every path, in path order, none within another. The root is the empty path: all that there is, where
    /// the defaults differ. Many small branches come to fewer larger ones.
    pub fn changed_branches(&self, other: &Self) -> Vec<TopicPath> {
        if self.default != other.default {
            return vec![TopicPath::of_branch("")];
        }
        let mut paths: Vec<&TopicPath> = self.assignments.iter().chain(&other.assignments).map(|(path, _)| path).collect();
        paths.sort_unstable();
        let mut branches: Vec<&str> = Vec::new();
        for path in paths.into_iter().map(TopicPath::as_str) {
            // Every path is decided by the nearest of these, so it is enough to look at them.
            if !branches.last().is_some_and(|branch| is_within(path, branch)) && self.at(path) != other.at(path) {
                branches.push(path);
            }
        }
        for segments in (0..=4).rev() {
            if branches.len() <= BRANCHES_MAX {
                break;
            }
            branches.iter_mut().for_each(|branch| *branch = first_segments(branch, segments));
            branches.dedup();
            // One may have come to lie above those that follow it.
            branches.dedup_by(|path, branch| is_within(path, branch));
        }
        branches.into_iter().map(TopicPath::of_branch).collect()
    }
}

/// The branch of a path that has at most so many segments.
fn first_segments(path: &str, count: usize) -> &str {
    if count == 0 {
        return "";
    }
    path.match_indices('/').nth(count - 1).map_or(path, |(end, _)| &path[..end])
}

fn level_bit(segments: usize) -> u64 {
    1 << segments.min(63)
}

/// See [`Rights::unions`].
fn unions_of(assignments: &[(TopicPath, PathPermissions)]) -> Box<[PathPermissions]> {
    let count = assignments.len();
    let mut unions = vec![PathPermissions::NONE; count];
    unions.extend(assignments.iter().map(|(_, permissions)| *permissions));
    for at in (1..count).rev() {
        unions[at] = unions[2 * at].union(unions[2 * at + 1]);
    }
    unions.into()
}

impl PartialEq for Rights {
    fn eq(&self, other: &Self) -> bool {
        (self.global, self.default, &self.assignments) == (other.global, other.default, &other.assignments)
    }
}

impl Eq for Rights {}
