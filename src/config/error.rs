//! What is wrong with a configuration, told to the operator: where, which key, which
//! value, what is allowed.

use std::fmt;

/// The process's exit code when its operator has to change something.
pub const EXIT_CODE: u8 = 2;

/// Where a setting's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    File { name: String, line: usize },
    Variable(String),
    Flag(&'static str),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// The file cannot be read.
    Unreadable { name: String, reason: String },
    /// The file is not TOML.
    Syntax { place: Origin, reason: String },
    /// There is no such key; `nearest` is the one that was probably meant, as written there.
    UnknownKey { place: Origin, key: String, nearest: Option<String> },
    /// A table lacks this key.
    Missing { place: Origin, key: &'static str, allowed: String },
    /// The key does not take this value.
    Value { place: Origin, key: &'static str, value: String, allowed: String },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(f, "default"),
            Self::File { name, line } => write!(f, "{name} line {line}"),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { name, reason } => write!(f, "{name}: cannot be read: {reason}"),
            Self::Syntax { place, reason } => write!(f, "{place}: not TOML: {reason}"),
            Self::UnknownKey { place, key, nearest } => {
                write!(f, "{place}: unknown key {key}")?;
                match nearest {
                    Some(nearest) => write!(f, "; did you mean {nearest}?"),
                    None => write!(f, "; `tidewire config default` prints all keys"),
                }
            }
            Self::Missing { place, key, allowed } => write!(f, "{place}: {key} is missing; expected: {allowed}"),
            Self::Value { place, key, value, allowed } => {
                write!(f, "{place}: {key} = {value} is refused; allowed: {allowed}")
            }
        }
    }
}

impl std::error::Error for ConfigError {}

/// The candidate that `written` is most likely a slip of, if any is close enough: of several the first.
pub fn nearest<'a>(written: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let close_enough = (written.len() / 3).max(2);
    candidates
        .map(|candidate| (distance_of_keys(written, candidate), candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= close_enough)
        .map(|(_, candidate)| candidate)
}

/// A key in the wrong section is as far as the key alone, plus one.
fn distance_of_keys(left: &str, right: &str) -> usize {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    distance(left, right).min(distance(&last(left), &last(right)) + 1)
}

/// Levenshtein's: how many letters are inserted, deleted or replaced between the two.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, r) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(l != *r);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_single_letter_changes() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("same", "same"), 0);
    }

    #[test]
    fn a_key_in_the_wrong_section_is_found() {
        let keys = ["server.listen", "limits.topics_max"];
        assert_eq!(nearest("limits.listen", keys.into_iter()), Some("server.listen"));
        assert_eq!(nearest("listen", keys.into_iter()), Some("server.listen"));
        assert_eq!(nearest("colour", keys.into_iter()), None);
    }
}
