//! A TOML text as a list of written settings, each with its line.
//!
//! Knows TOML and lines; which keys exist and what they take is in `settings`.

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::error::{ConfigError, Origin};
use super::settings::Given;

/// One `key = value` of a file.
pub struct Entry {
    /// `section.name`, or what stands in its stead when that is not how it is written.
    pub key: String,
    pub given: Given,
    /// The value as it is written.
    pub value: String,
    pub place: Origin,
}

/// All entries of `text`, in no particular order. `file` is what errors call it.
pub fn entries(text: &str, file: &str) -> Result<Vec<Entry>, ConfigError> {
    let place = |offset: usize| Origin::File { name: file.to_owned(), line: line_at(text, offset) };
    let root = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        place: place(error.span().map_or(0, |span| span.start)),
        reason: error.message().replace('\n', ", "),
    })?;

    let entry = |key: String, offset: usize, value: &Spanned<DeValue>| Entry {
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
                    entries.push(entry(key, name.span().start, value));
                }
            }
            _ => entries.push(entry(section.get_ref().to_string(), section.span().start, value)),
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
