//! The auditor's own model: what was published where in which order, and which topics must or must not stand.
//!
//! Every value but null is unique, so a value seen anywhere tells when it was published. The model sees an update when its owner takes it and not
//! earlier, and so knows the one order that all subscribers must agree with.

use crate::ask::Asked;
use crate::heard::{HeardEvent, Row};
use crate::topics::is_persistent;
use std::collections::{BTreeMap, BTreeSet};
use tidewire::surface::mail;
use tidewire::surface::wire::native;

/// What an update does to a topic's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    Nothing,
    Null,
    /// In its stored form; the event that it edits, if it does.
    Value(Vec<u8>, Option<u64>),
}

/// An update as the model sees it.
#[derive(Clone, Debug)]
pub struct Taken {
    pub path: String,
    /// Whether it makes the topic where there is none.
    pub makes: bool,
    pub setting: Setting,
}

impl Taken {
    pub fn of_request(asked: &Asked) -> Option<Self> {
        let setting = |value: &Option<Vec<u8>>| value.clone().map_or(Setting::Null, |value| Setting::Value(value, None));
        let taken = |path: &str, makes, setting| Some(Self { path: path.to_owned(), makes, setting });
        match asked {
            Asked::Update(update) | Asked::StreamOpen { update, .. } => {
                let setting = if update.has_value() { setting(&update.value) } else { Setting::Nothing };
                taken(update.path, update.may_add(), setting)
            }
            Asked::Append { path, original, value, .. } => taken(path, false, Setting::Value(value.clone(), *original)),
            Asked::StreamSet { path, value, .. } => taken(path, false, setting(value)),
            Asked::StreamDelta { path, value, .. } => taken(path, false, Setting::Value(value.clone(), None)),
            _ => None,
        }
    }

    pub fn of_mail(update: &mail::Update) -> Self {
        let setting = |content: &mail::Content<'_>, original| {
            content.value.as_deref().map_or(Setting::Null, |value| Setting::Value(value.to_vec(), original))
        };
        let (makes, setting) = match &update.change.action {
            mail::Action::Add(_) => (true, Setting::Nothing),
            mail::Action::AddAndSet(_, content) => (true, setting(content, None)),
            mail::Action::Set(content) => (false, setting(content, None)),
            mail::Action::Append(native::Append::Edit { original }, content) => (false, setting(content, Some(*original))),
            mail::Action::Append(_, content) => (false, setting(content, None)),
            mail::Action::Check(_) | mail::Action::Patch(_) | mail::Action::Delta(..) => (false, Setting::Nothing),
            mail::Action::Message(_) => unreachable!("messages of MQTT have a model of their own"),
        };
        Self { path: update.path.as_str().to_owned(), makes, setting }
    }
}

/// An update when its owner took it.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    order: u64,
    sets: bool,
}

#[derive(Default)]
struct History {
    /// When the owner took each value.
    values: BTreeMap<Vec<u8>, u64>,
    nulls: BTreeSet<u64>,
    /// The events that values edit.
    originals: BTreeMap<Vec<u8>, u64>,
    refused: BTreeSet<Vec<u8>>,
    delivered: BTreeSet<Vec<u8>>,
    /// The first and the last delivered of each topic number.
    spans: BTreeMap<u64, (u64, u64)>,
    /// When the owner took updates that made or could have made a topic, and of those known to have done so or found it.
    last_making: u64,
    last_acknowledged: u64,
    last_acknowledged_value: u64,
    /// The events of acknowledged appends, by when they were taken.
    appended: BTreeMap<u64, (u64, Vec<u8>)>,
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
    /// The paths of topics that may go by themselves.
    mortal: BTreeSet<&'static str>,
    views: Option<Numbers>,
}

/// In a world of views a topic's value is derived from another's, and says by a number which one it was.
struct Numbers {
    of_value: fn(&[u8]) -> u64,
    /// When the owner took the value of each number.
    taken: BTreeMap<u64, u64>,
}

/// What the model knows of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Stands,
    Gone,
    Unknown,
}

impl Model {
    /// From here on views derive topics from others. Each value that is published has a number.
    pub fn expect_views(&mut self, of_value: fn(&[u8]) -> u64) {
        self.views = Some(Numbers { of_value, taken: BTreeMap::new() });
    }

    pub fn is_of_views(&self) -> bool {
        self.views.is_some()
    }

    pub fn now(&self) -> u64 {
        self.order
    }

    /// The owner takes an update now.
    pub fn note_update(&mut self, id: u64, taken: Taken) {
        self.order += 1;
        let order = self.order;
        let history = self.paths.entry(taken.path).or_default();
        let sets = taken.setting != Setting::Nothing;
        match taken.setting {
            Setting::Nothing => {}
            Setting::Null => drop(history.nulls.insert(order)),
            Setting::Value(value, original) => {
                if let Some(Numbers { of_value, taken }) = &mut self.views {
                    taken.insert(of_value(&value), order);
                }
                history.originals.extend(original.map(|original| (value.clone(), original)));
                history.values.insert(value, order);
            }
        }
        if taken.makes {
            history.last_making = order;
        }
        if id != 0 {
            self.attempts.insert(id, Attempt { order, sets });
        }
    }

    pub fn note_acknowledged(&mut self, id: u64, path: &str) {
        let attempt = self.attempts.get(&id).unwrap_or_else(|| panic!("update {id} to {path} is acknowledged, but no owner took it"));
        let history = self.paths.get_mut(path).expect("an attempt has a history");
        history.last_acknowledged = history.last_acknowledged.max(attempt.order);
        if attempt.sets {
            history.last_acknowledged_value = history.last_acknowledged_value.max(attempt.order);
        }
    }

    pub fn note_appended(&mut self, id: u64, path: &str, sequence: u64, value: &[u8]) {
        self.note_acknowledged(id, path);
        let order = self.attempts[&id].order;
        let history = self.paths.get_mut(path).expect("an attempt has a history");
        history.appended.insert(order, (sequence, value.to_vec()));
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

    /// The topics at `path` may go by themselves.
    pub fn note_mortal(&mut self, path: &'static str) {
        self.mortal.insert(path);
    }

    /// Nothing is under way any more.
    pub fn note_quiet(&mut self) {
        self.order += 1;
        for removal in self.removals.values_mut() {
            removal.ended.get_or_insert(self.order);
        }
    }

    /// The server starts again with what was stored: what was delivered before and was not acknowledged may be gone.
    pub fn note_restart(&mut self) {
        self.note_quiet();
        for (path, history) in &mut self.paths {
            history.spans.clear();
            if self.views.is_none() && !is_persistent(path) {
                *history = History::default();
            }
        }
    }

    /// Where anything was published.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.paths.keys().map(String::as_str)
    }

    /// Whether a topic is known to have stood at `path` all the time since `order`.
    pub fn stood_since(&self, path: &str, order: u64) -> bool {
        let Some(history) = self.paths.get(path) else { return false };
        // An acknowledgement later than `order` may be a later topic's, so nothing is known then.
        let acknowledged = history.last_acknowledged > 0 && history.last_acknowledged <= order;
        acknowledged && self.was_not_removed_since(path, history.last_acknowledged)
    }

    /// Whether the topic at `path` is known to have had a value, and not to have been removed, since `order`.
    pub fn had_value_since(&self, path: &str, order: u64) -> bool {
        let last = self.paths.get(path).map_or(0, |history| history.last_acknowledged_value);
        last > 0 && last <= order && self.was_not_removed_since(path, last)
    }

    fn was_not_removed_since(&self, path: &str, order: u64) -> bool {
        !self.mortal.contains(path) && self.removals.values().all(|r| !(r.matches)(path) || r.ended.is_some_and(|ended| ended < order))
    }

    pub fn standing(&self, path: &str) -> Standing {
        let Some(history) = self.paths.get(path) else { return Standing::Gone };
        let mut matching = self.removals.values().filter(|removal| (removal.matches)(path));
        if history.last_making == 0 || matching.any(|r| r.is_answered && r.begun > history.last_making) {
            return Standing::Gone;
        }
        let is_safe = history.last_acknowledged > 0 && self.was_not_removed_since(path, history.last_acknowledged);
        if is_safe { Standing::Stands } else { Standing::Unknown }
    }

    /// A subscriber got this value: it was published there, is of this topic and not refused. Tells when it was published.
    pub fn check_delivered(&mut self, topic: u64, path: &str, value: &[u8]) -> u64 {
        if let Some(Numbers { of_value, taken }) = &self.views {
            let number = of_value(value);
            return *taken.get(&number).unwrap_or_else(|| panic!("{path}: no value of number {number} was published"));
        }
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

    /// A subscriber is told null, which was published at `from` or later: the earliest that it may be.
    pub fn check_null(&self, path: &str, from: u64) -> u64 {
        if self.views.is_some() {
            return from;
        }
        let nulls = self.paths.get(path).map(|history| &history.nulls);
        let next = nulls.and_then(|nulls| nulls.range(from..).next().copied());
        next.unwrap_or_else(|| panic!("a subscriber to {path} is told null, which it was not set to since"))
    }

    /// An event says which other it edits exactly where it does.
    pub fn check_event(&self, path: &str, event: &HeardEvent) {
        if self.views.is_some() {
            return;
        }
        let original = self.paths.get(path).and_then(|history| history.originals.get(&event.value)).copied();
        assert_eq!(event.original, original, "event {} of {path} edits another than was asked", event.sequence);
    }

    /// What is there at rest: nothing acknowledged is lost, nothing removed stands.
    pub fn check_at_rest(&mut self, path: &str, found: Option<&Row>) {
        let standing = self.standing(path);
        let Some(row) = found else {
            assert_ne!(standing, Standing::Stands, "the acknowledged topic {path} is lost");
            return;
        };
        assert_ne!(standing, Standing::Gone, "{path} stands, but was removed or never made");
        let history = &self.paths[path];
        let is_retained = row.property("DONT_RETAIN_VALUE").is_none();
        assert!(is_retained || row.value.is_none(), "{path} keeps a value that it should not");
        let last = history.last_acknowledged_value;
        if is_retained && standing == Standing::Stands && last > 0 && self.was_not_removed_since(path, last) {
            let is_new_enough = match &row.value {
                Some(value) => history.values[value] >= last,
                None => history.nulls.range(last..).next().is_some(),
            };
            assert!(is_new_enough, "{path} has an older value than the last acknowledged, or none");
        }
        if let Some(value) = &row.value {
            assert!(history.values.contains_key(value) && !history.refused.contains(value), "{path} holds a value that it was not given");
        }
    }

    /// The events from a sequence on of a series that keeps all of them, but for originals that were edited: none is lost that was acknowledged, none is there
    /// twice or out of order.
    pub fn check_events(&self, path: &str, from: u64, events: &[HeardEvent]) {
        let Some(history) = self.paths.get(path) else { return };
        let edited: BTreeSet<u64> = events.iter().filter_map(|event| event.original).collect();
        let sequences = events.iter().map(|event| event.sequence).chain(edited.iter().copied());
        let sequences: BTreeSet<u64> = sequences.filter(|sequence| *sequence >= from).collect();
        let first = if events.is_empty() { 0 } else { from };
        assert!(sequences.iter().copied().eq(first..first + sequences.len() as u64), "the events of {path} have a gap: {sequences:?}");
        for pair in events.windows(2) {
            assert!(pair[0].sequence < pair[1].sequence, "an event of {path} is there twice");
            assert!(history.values[&pair[0].value] < history.values[&pair[1].value], "the events of {path} are out of order");
        }
        events.iter().for_each(|event| self.check_event(path, event));
        let appended = history.appended.iter().filter(|(order, _)| self.was_not_removed_since(path, **order));
        for (_, (sequence, value)) in appended.filter(|(_, (sequence, _))| *sequence >= from) {
            let found = events.iter().find(|event| event.sequence == *sequence);
            let is_edited = found.is_none() && edited.contains(sequence);
            assert!(is_edited || found.is_some_and(|event| event.value == *value), "the acknowledged event {sequence} of {path} is lost");
        }
    }
}
