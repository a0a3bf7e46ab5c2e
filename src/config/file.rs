//! A TOML text as a list of written settings, each with its line.
//!
//! Knows TOML and lines; which keys exist and what they take is in `settings`.

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::error::{ConfigError, Origin};
use super::settings::Given;

/// The key of the tables that make listeners.
const LISTENER: &str = "listener";

/// What a listener's table has to be.
pub const LISTENER_ALLOWED: &str = "tables that begin with [[listener]]";

/// One `key = value` of a file.
#[derive(Debug)]
pub struct Entry {
    /// `section.name`, or what stands in its stead when that is not how it is written.
    pub key: String,
    pub given: Given,
    /// The value as it is written.
    pub value: String,
    pub place: Origin,
    pub of: Of,
}

/// What an entry belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    Section,
    /// It begins a listener's table; those of the table follow.
    ListenerBegin,
    Listener,
}

/// All entries of `text`: those of sections in no particular order, those of listeners' tables one table after the other. `file` is what errors call it.
pub fn entries(text: &str, file: &str) -> Result<Vec<Entry>, ConfigError> {
    let place = |offset: usize| Origin::File { name: file.to_owned(), line: line_at(text, offset) };
    let root = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        place: place(error.span().map_or(0, |span| span.start)),
        reason: error.message().replace('\n', ", "),
    })?;

    let entry = |of: Of, key: String, offset: usize, value: &Spanned<DeValue>| Entry {
        of,
        key,
        given: given(value.get_ref()),
        value: text[value.span()].to_owned(),
        place: place(offset),
    };
    let mut entries = Vec::new();
    for (section, value) in root.get_ref() {
        match value.get_ref() {
            DeValue::Table(table) if !table.is_empty() => {
                for (name, value) in table {
                    let key = format!("{}.{}", section.get_ref(), name.get_ref());
                    entries.push(entry(Of::Section, key, name.span().start, value));
                }
            }
            DeValue::Array(tables) if section.get_ref() == LISTENER && tables.iter().all(|table| table.get_ref().is_table()) => {
                for table in tables.iter() {
                    entries.push(entry(Of::ListenerBegin, LISTENER.to_owned(), table.span().start, table));
                    for (name, value) in table.get_ref().as_table().into_iter().flatten() {
                        let key = format!("{LISTENER}.{}", name.get_ref());
                        entries.push(entry(Of::Listener, key, name.span().start, value));
                    }
                }
            }
            _ => entries.push(entry(Of::Section, section.get_ref().to_string(), section.span().start, value)),
        }
    }
    Ok(entries)
}

fn given(value: &DeValue) -> Given {
    match value {
        DeValue::String(text) => Given::Text(text.to_string()),
        DeValue::Boolean(flag) => Given::Flag(*flag),
        DeValue::Integer(_) => integer(value).map_or(Given::Other, Given::Number),
        DeValue::Array(array) => numbers(array).map(Given::Numbers).or_else(|| texts(array).map(Given::Texts)).unwrap_or(Given::Other),
        _ => Given::Other,
    }
}

fn numbers(array: &DeArray) -> Option<Vec<i64>> {
    array.iter().map(|value| integer(value.get_ref())).collect()
}

fn texts(array: &DeArray) -> Option<Vec<String>> {
    array.iter().map(|value| value.get_ref().as_str().map(str::to_owned)).collect()
}

fn integer(value: &DeValue) -> Option<i64> {
    match value {
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix()).ok(),
        _ => None,
    }
}

fn line_at(text: &str, offset: usize) -> usize {
    let before = &text.as_bytes()[..offset.min(text.len())];
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}
