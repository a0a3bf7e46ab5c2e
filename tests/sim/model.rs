//! The auditor's own model: what was published where in which order, and which topics must or must not stand.
//!
//! Every value is unique, so a value seen anywhere tells when it was published. The model sees an update when its owner takes it and not earlier,
//! and so knows the one order that all subscribers must agree with.

use std::collections::{BTreeMap, BTreeSet};
use tidewire::wire::native::Verb;

/// A selector, and its meaning said again without the selector's code.
#[derive(Clone, Copy)]
pub struct Pattern {
    pub text: &'static str,
    pub matches: fn(&str) -> bool,
}

pub const PATHS: [&str; 16] =
    ["a", "b", "c", "a/b", "a/c", "b/a", "b/c", "c/c", "a/b/c", "a/b/d", "b/a/c", "a-b", "a-b/c", "a.b", "a/bb", "c/\u{e9}"];

pub const PATTERNS: [Pattern; 15] = [
    Pattern { text: "a", matches: |path| path == "a" },
    Pattern { text: "a/b", matches: |path| path == "a/b" },
    Pattern { text: ">b/c", matches: |path| path == "b/c" },
    Pattern { text: "a/b/c", matches: |path| path == "a/b/c" },
    Pattern { text: "?a//", matches: |path| path == "a" || path.starts_with("a/") },
    Pattern { text: "?a/", matches: |path| path.starts_with("a/") },
    Pattern { text: "?a/b//", matches: |path| path == "a/b" || path.starts_with("a/b/") },
    Pattern { text: "?b//", matches: |path| path == "b" || path.starts_with("b/") },
    Pattern { text: "?.*//", matches: |_| true },
    Pattern { text: "?.*/c", matches: |path| path.split('/').count() == 2 && path.ends_with("/c") },
    Pattern { text: "?[ab]/.*", matches: |path| path.split('/').count() == 2 && (path.starts_with("a/") || path.starts_with("b/")) },
    Pattern { text: "*.*c", matches: |path| path.ends_with('c') },
    Pattern { text: "*a.*", matches: |path| path.starts_with('a') },
    Pattern { text: "#a/b////?b//", matches: |path| path == "a/b" || path == "b" || path.starts_with("b/") },
    Pattern {
        text: "#?.*/c////c////>a-b",
        matches: |path| (path.split('/').count() == 2 && path.ends_with("/c")) || path == "c" || path == "a-b",
    },
];

/// Path order said again: segments compare before lengths.
pub fn in_path_order(a: &str, b: &str) -> bool {
    a.split('/').lt(b.split('/'))
}

/// An update when its owner took it.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    order: u64,
    verb: Verb,
}

#[derive(Default)]
struct History {
    /// When the owner took each value.
    values: BTreeMap<Vec<u8>, u64>,
    refused: BTreeSet<Vec<u8>>,
    delivered: BTreeSet<Vec<u8>>,
    /// The first and the last delivered of each topic number.
    spans: BTreeMap<u64, (u64, u64)>,
    /// When the owner took updates that made or could have made a topic, and of those known to have done so or found it.
    last_making: u64,
    last_acknowledged: u64,
    last_acknowledged_value: u64,
}

/// A removal: from when the first owner may have seen it until its answer was read.
struct Removal {
    matches: fn(&str) -> bool,
    begun: u64,
    ended: Option<u64>,
    is_answered: bool,
}

#[derive(Default)]
pub struct Model {
    order: u64,
    paths: BTreeMap<String, History>,
    attempts: BTreeMap<u64, Attempt>,
    removals: BTreeMap<u64, Removal>,
}

/// What the model knows of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Stands,
    Gone,
    Unknown,
}

impl Model {
    pub fn now(&self) -> u64 {
        self.order
    }

    /// The owner takes an update now. `value` is in its stored form.
    pub fn note_update(&mut self, id: u64, verb: Verb, path: &str, value: &[u8]) {
        self.order += 1;
        let order = self.order;
        let history = self.paths.entry(path.to_owned()).or_default();
        if verb != Verb::Add {
            history.values.insert(value.to_vec(), order);
        }
        if verb != Verb::Set {
            history.last_making = order;
        }
        if id != 0 {
            self.attempts.insert(id, Attempt { order, verb });
        }
    }

    pub fn note_acknowledged(&mut self, id: u64, path: &str) {
        let attempt = self.attempts.get(&id).unwrap_or_else(|| panic!("update {id} to {path} is acknowledged, but no owner took it"));
        let history = self.paths.get_mut(path).expect("an attempt has a history");
        history.last_acknowledged = history.last_acknowledged.max(attempt.order);
        if attempt.verb != Verb::Add {
            history.last_acknowledged_value = history.last_acknowledged_value.max(attempt.order);
        }
    }

    pub fn note_refused(&mut self, path: &str, value: &[u8]) {
        let history = self.paths.entry(path.to_owned()).or_default();
        assert!(!history.delivered.contains(value), "an update to {path} is refused, but was delivered");
        history.refused.insert(value.to_vec());
    }

    /// Some shard takes the request to remove.
    pub fn note_removal(&mut self, id: u64, matches: fn(&str) -> bool) {
        self.order += 1;
        self.removals.insert(id, Removal { matches, begun: self.order, ended: None, is_answered: false });
    }

    pub fn note_removed(&mut self, id: u64) {
        self.order += 1;
        let removal = self.removals.get_mut(&id).expect("a removal that is answered was taken");
        removal.ended = Some(self.order);
        removal.is_answered = true;
    }

    /// Nothing is under way any more.
    pub fn note_quiet(&mut self) {
        self.order += 1;
        for removal in self.removals.values_mut() {
            removal.ended.get_or_insert(self.order);
        }
    }

    /// Whether a topic is known to have stood at `path` all the time since `order`.
    pub fn stood_since(&self, path: &str, order: u64) -> bool {
        let Some(history) = self.paths.get(path) else { return false };
        // An acknowledgement later than `order` may be a later topic's, so nothing is known then.
        let acknowledged = history.last_acknowledged > 0 && history.last_acknowledged <= order;
        acknowledged && self.removals.values().all(|r| !(r.matches)(path) || r.ended.is_some_and(|ended| ended < history.last_acknowledged))
    }

    pub fn standing(&self, path: &str) -> Standing {
        let Some(history) = self.paths.get(path) else { return Standing::Gone };
        let mut matching = self.removals.values().filter(|removal| (removal.matches)(path));
        if history.last_making == 0 || matching.clone().any(|r| r.is_answered && r.begun > history.last_making) {
            return Standing::Gone;
        }
        let is_safe = history.last_acknowledged > 0 && matching.all(|r| r.ended.is_some_and(|ended| ended < history.last_acknowledged));
        if is_safe { Standing::Stands } else { Standing::Unknown }
    }

    /// A subscriber got this value: it was published there, is of this topic and not refused. Tells when it was published.
    pub fn check_delivered(&mut self, topic: u64, path: &str, value: &[u8]) -> u64 {
        let history = self.paths.get_mut(path).unwrap_or_else(|| panic!("a value of {path}, where nothing was published"));
        assert!(!history.refused.contains(value), "a refused value of {path} is delivered");
        let order =
            *history.values.get(value).unwrap_or_else(|| panic!("{path} was never given the value {:?}", String::from_utf8_lossy(value)));
        history.delivered.insert(value.to_vec());
        let span = history.spans.entry(topic).or_insert((order, order));
        *span = (span.0.min(order), span.1.max(order));
        let spans: Vec<_> = history.spans.iter().map(|(topic, span)| (*topic, *span)).collect();
        for pair in spans.windows(2) {
            assert!(pair[0].1.1 < pair[1].1.0, "the topics {} and {} of {path} share values", pair[0].0, pair[1].0);
        }
        order
    }

    /// What is there at rest: nothing acknowledged is lost, nothing removed stands.
    pub fn check_at_rest(&mut self, path: &str, found: Option<&Option<Vec<u8>>>) {
        let standing = self.standing(path);
        let Some(value) = found else {
            assert_ne!(standing, Standing::Stands, "the acknowledged topic {path} is lost");
            return;
        };
        assert_ne!(standing, Standing::Gone, "{path} stands although it was removed or never made");
        let history = &self.paths[path];
        if standing == Standing::Stands && history.last_acknowledged_value > 0 {
            let is_of_this_topic =
                self.removals.values().all(|r| !(r.matches)(path) || r.ended.is_some_and(|e| e < history.last_acknowledged_value));
            if is_of_this_topic {
                let value = value.as_ref().unwrap_or_else(|| panic!("the acknowledged value of {path} is lost"));
                let order = history.values[value];
                assert!(order >= history.last_acknowledged_value, "{path} has an older value than the last acknowledged");
            }
        }
        if let Some(value) = value {
            assert!(history.values.contains_key(value) && !history.refused.contains(value), "{path} holds a value that it was not given");
        }
    }
}
