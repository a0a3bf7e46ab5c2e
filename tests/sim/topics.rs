//! The topics and selectors of the simulation, and what is said of them again without the core's code.

use tidewire::surface::value::ValueType;

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

pub fn everything() -> Pattern {
    PATTERNS.into_iter().find(|pattern| pattern.text == "?.*//").expect("it is one of them")
}

/// Path order said again: segments compare before lengths.
pub fn in_path_order(a: &str, b: &str) -> bool {
    a.split('/').lt(b.split('/'))
}

pub const TIME_SERIES: u8 = 6;

pub type Properties = &'static [(&'static str, &'static str)];

/// What the topic at a path usually is.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub kind: ValueType,
    pub is_series: bool,
    pub properties: Properties,
}

impl Plan {
    /// The number of the topic's type.
    pub fn number(&self) -> u8 {
        if self.is_series { TIME_SERIES } else { self.kind as u8 }
    }
}

/// Which topics a run has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topics {
    /// Without properties, and never null.
    Plain,
    /// Every property that changes what subscribers are sent, time series, and null.
    Mixed,
}

const LONG: (&str, &str) = ("TIME_SERIES_RETAINED_RANGE", "limit 1000");

const MIXED: [(bool, Properties); 16] = [
    (false, &[]),
    (false, &[("COMPRESSION", "high")]),
    (false, &[]),
    (true, &[("TIME_SERIES_EVENT_VALUE_TYPE", "double"), LONG, ("TIME_SERIES_SUBSCRIPTION_RANGE", "limit 4")]),
    (false, &[("PRIORITY", "low")]),
    (false, &[("CONFLATION", "always")]),
    (false, &[("CONFLATION", "off"), ("PRIORITY", "high")]),
    (false, &[("CONFLATION", "unsubscribe")]),
    (false, &[("PRIORITY", "high")]),
    (false, &[("PUBLISH_VALUES_ONLY", "true")]),
    (false, &[("CONFLATION", "always"), ("PRIORITY", "low")]),
    (false, &[("PERSISTENT", "false"), ("TIDY_ON_UNSUBSCRIBE", "true")]),
    (true, &[("TIME_SERIES_EVENT_VALUE_TYPE", "int64"), LONG, ("PRIORITY", "low")]),
    (false, &[("CONFLATION", "unsubscribe"), ("PRIORITY", "low")]),
    (true, &[("CONFLATION", "unsubscribe"), ("TIME_SERIES_EVENT_VALUE_TYPE", "binary"), LONG]),
    (false, &[("DONT_RETAIN_VALUE", "true")]),
];

pub fn place(path: &str) -> usize {
    PATHS.iter().position(|known| *known == path).unwrap_or_else(|| panic!("{path} is no path of the simulation"))
}

pub fn plan(topics: Topics, path: &str) -> Plan {
    let which = place(path);
    let kind = ValueType::ALL[which % 5];
    match topics {
        Topics::Plain => Plan { kind, is_series: false, properties: &[] },
        Topics::Mixed => {
            let (is_series, properties) = MIXED[which];
            let named = properties.iter().find(|(key, _)| *key == "TIME_SERIES_EVENT_VALUE_TYPE");
            let kind = named.map_or(kind, |(_, name)| ValueType::from_name(name).expect("a type's name"));
            Plan { kind, is_series, properties }
        }
    }
}

/// Whether a mixed run's topic at `path` is stored.
pub fn is_persistent(path: &str) -> bool {
    !MIXED[place(path)].1.contains(&("PERSISTENT", "false"))
}

/// The type of the values of a topic with these properties.
pub fn value_kind(number: u8, properties: &[(String, String)]) -> ValueType {
    ValueType::from_number(number).unwrap_or_else(|| {
        let named = properties.iter().find(|(key, _)| key == "TIME_SERIES_EVENT_VALUE_TYPE");
        named.and_then(|(_, name)| ValueType::from_name(name)).expect("a time series says which type its events have")
    })
}
