//! What clients whose sessions outlive their connections write: each topic has one writer, and values that are numbered.

use crate::ask::{Asked, Update};
use crate::topics::{Properties, TIME_SERIES};
use std::collections::{BTreeMap, BTreeSet};
use tidewire::surface::value::ValueType;
use tidewire::surface::value::delta::Encoder;
use tidewire::surface::wire::native::Verb;

/// What may become of a topic's values on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Off,
    /// The same in the last lane.
    Low,
    Conflate,
    Always,
    Series,
    /// As `Off`, in the first lane, and written by an update stream.
    Stream,
}

impl Kind {
    pub const ALL: [Self; 6] = [Self::Off, Self::Low, Self::Conflate, Self::Always, Self::Series, Self::Stream];

    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Low => "low",
            Self::Conflate => "conflate",
            Self::Always => "always",
            Self::Series => "series",
            Self::Stream => "stream",
        }
    }

    pub fn of_path(path: &str) -> Self {
        let kind = Self::ALL.into_iter().find(|kind| path.split('/').next() == Some(kind.name()));
        kind.unwrap_or_else(|| panic!("{path} is no path of this simulation"))
    }

    /// Whether no value gives way to a newer one.
    pub fn keeps_all(self) -> bool {
        !matches!(self, Self::Conflate | Self::Always)
    }

    fn properties(self) -> Properties {
        match self {
            Self::Off => &[("CONFLATION", "off")],
            Self::Low => &[("CONFLATION", "off"), ("PRIORITY", "low")],
            Self::Conflate => &[],
            Self::Always => &[("CONFLATION", "always")],
            Self::Series => &[
                ("TIME_SERIES_EVENT_VALUE_TYPE", "string"),
                ("TIME_SERIES_RETAINED_RANGE", "limit 10000"),
                ("TIME_SERIES_SUBSCRIPTION_RANGE", "limit 4"),
            ],
            Self::Stream => &[("CONFLATION", "off"), ("PRIORITY", "high")],
        }
    }
}

/// A topic of one writer's.
pub struct Own {
    pub path: &'static str,
    kind: Kind,
    /// Of the last value that was written.
    pub number: u64,
    pub stands: bool,
    value: Vec<u8>,
}

impl Own {
    pub fn new(kind: Kind, path: &str) -> Self {
        Self { path: path.to_owned().leak(), kind, number: 0, stands: false, value: Vec::new() }
    }

    /// The next value. The number of a stream is that of its kind; `filler` makes the value longer.
    pub fn write(&mut self, filler: usize, has_deltas: bool, ledger: &mut Ledger) -> Vec<Asked> {
        self.number += 1;
        ledger.note_written(self.path, self.number);
        let value = format!("{} the quick brown fox jumps over the lazy dog {}", self.number, "and more ".repeat(filler)).into_bytes();
        let before = std::mem::replace(&mut self.value, value.clone());
        let (path, kind, stood) = (self.path, ValueType::String, std::mem::replace(&mut self.stands, true));
        let number = if self.kind == Kind::Series { TIME_SERIES } else { kind as u8 };
        let update =
            |verb| Update { topic: number, properties: self.kind.properties(), ..Update::new(verb, path, kind, Some(value.clone())) };
        match self.kind {
            Kind::Series if stood => vec![Asked::Append { path, kind, original: None, value }],
            Kind::Series => vec![Asked::Update(update(Verb::Add)), Asked::Append { path, kind, original: None, value: value.clone() }],
            Kind::Stream if !stood => vec![Asked::StreamOpen { stream: 1, update: update(Verb::AddAndSet) }],
            Kind::Stream => {
                let mut delta = Vec::new();
                let form = has_deltas.then(|| Encoder::new().encode(&before, &value, &mut delta)).flatten();
                vec![match form {
                    Some(form) => Asked::StreamDelta { stream: 1, path, form, delta, value },
                    None => Asked::StreamSet { stream: 1, path, kind, value: Some(value) },
                }]
            }
            _ => vec![Asked::Update(update(Verb::AddAndSet))],
        }
    }

    /// The topic goes, unless its kind stays.
    pub fn remove(&mut self, ledger: &mut Ledger) -> Option<Asked> {
        if !self.stands || matches!(self.kind, Kind::Series | Kind::Stream) {
            return None;
        }
        self.stands = false;
        ledger.note_end(self.path, self.number);
        let path = self.path;
        Some(Asked::Remove { pattern: crate::topics::Pattern { text: path, matches: |_| unreachable!("no model looks at it") } })
    }
}

/// What all writers have written.
#[derive(Default)]
pub struct Ledger {
    /// Shards lose interest in topics and take it again: who subscribes meanwhile may go on from a value that was not the newest.
    pub has_interests_lost: bool,
    topics: BTreeMap<&'static str, Written>,
}

#[derive(Default)]
struct Written {
    last: u64,
    /// The numbers behind which the topic went.
    ends: BTreeSet<u64>,
}

impl Ledger {
    fn note_written(&mut self, path: &'static str, number: u64) {
        self.topics.entry(path).or_default().last = number;
    }

    fn note_end(&mut self, path: &'static str, number: u64) {
        self.topics.entry(path).or_default().ends.insert(number);
    }

    pub fn check_written(&self, path: &str, number: u64) {
        let last = self.topics.get(path).map_or(0, |written| written.last);
        assert!(number > 0 && number <= last, "{path} was never given the value {number}");
    }

    /// Whether the topic went behind this value.
    pub fn is_end(&self, path: &str, number: Option<u64>) -> bool {
        number.is_some_and(|number| self.topics.get(path).is_some_and(|written| written.ends.contains(&number)))
    }
}
