//! The properties that there are, for which types, and how each is read and noted.

use super::{Compression, Conflation, Priority, PropertyError, SpecificationLimits, TopicType};
use crate::topic::range_expression::RangeExpression;
use crate::topic::syntax::{SyntaxError, brief, check_canonical_length, check_length};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property {
    Compression,
    Conflation,
    DontRetainValue,
    Owner,
    Persistent,
    Priority,
    PublishValuesOnly,
    Removal,
    TidyOnUnsubscribe,
    EventValueType,
    RetainedRange,
    SubscriptionRange,
    ValidateValues,
}

impl Property {
    /// In the order of keys.
    pub const ALL: [Self; 13] = [
        Self::Compression,
        Self::Conflation,
        Self::DontRetainValue,
        Self::Owner,
        Self::Persistent,
        Self::Priority,
        Self::PublishValuesOnly,
        Self::Removal,
        Self::TidyOnUnsubscribe,
        Self::EventValueType,
        Self::RetainedRange,
        Self::SubscriptionRange,
        Self::ValidateValues,
    ];

    pub fn key(self) -> &'static str {
        match self {
            Self::Compression => "COMPRESSION",
            Self::Conflation => "CONFLATION",
            Self::DontRetainValue => "DONT_RETAIN_VALUE",
            Self::Owner => "OWNER",
            Self::Persistent => "PERSISTENT",
            Self::Priority => "PRIORITY",
            Self::PublishValuesOnly => "PUBLISH_VALUES_ONLY",
            Self::Removal => "REMOVAL",
            Self::TidyOnUnsubscribe => "TIDY_ON_UNSUBSCRIBE",
            Self::EventValueType => "TIME_SERIES_EVENT_VALUE_TYPE",
            Self::RetainedRange => "TIME_SERIES_RETAINED_RANGE",
            Self::SubscriptionRange => "TIME_SERIES_SUBSCRIPTION_RANGE",
            Self::ValidateValues => "VALIDATE_VALUES",
        }
    }

    /// Whether it means anything for `topic_type`. Numbers have no deltas, and nothing to compress.
    pub fn applies_to(self, topic_type: TopicType) -> bool {
        match self {
            Self::Compression | Self::PublishValuesOnly => !matches!(topic_type, TopicType::Int64 | TopicType::Double),
            Self::EventValueType | Self::RetainedRange | Self::SubscriptionRange => topic_type == TopicType::TimeSeries,
            _ => true,
        }
    }
}

/// Words and what they mean; the first word of a meaning is the canonical one.
type Choices<T> = [(&'static str, T)];

pub const FLAGS: [(&str, bool); 2] = [("true", true), ("false", false)];

pub const CONFLATIONS: [(&str, Conflation); 4] = [
    ("off", Conflation::Off),
    ("conflate", Conflation::Conflate),
    ("unsubscribe", Conflation::Unsubscribe),
    ("always", Conflation::Always),
];

/// No event of a time series may be replaced by a later one.
pub const SERIES_CONFLATIONS: [(&str, Conflation); 2] = [("off", Conflation::Off), ("unsubscribe", Conflation::Unsubscribe)];

impl Compression {
    pub const CHOICES: [(&str, Self); 6] = [
        ("off", Self::Off),
        ("low", Self::Low),
        ("medium", Self::Medium),
        ("high", Self::High),
        ("true", Self::Medium),
        ("false", Self::Off),
    ];
}

impl Priority {
    pub const CHOICES: [(&str, Self); 3] = [("low", Self::Low), ("default", Self::Default), ("high", Self::High)];
}

/// Reads the properties of one topic, each at most once, and notes what differs from the default. Read in the order of
/// keys to have them noted in that order.
pub struct Reader<'p> {
    given: [Option<&'p str>; Property::ALL.len()],
    noted: Vec<(&'static str, Box<str>)>,
    value_bytes_max: usize,
}

impl<'p> Reader<'p> {
    pub fn new(
        topic_type: TopicType,
        properties: impl Iterator<Item = (&'p str, &'p str)>,
        limits: SpecificationLimits,
    ) -> Result<Self, PropertyError> {
        let mut given = [None; Property::ALL.len()];
        for (index, (key, value)) in properties.enumerate() {
            let refuse = |found: String, expected: String| Err(PropertyError::new(key, SyntaxError { position: 0, found, expected }));
            if index == limits.properties_max {
                return refuse("one more property".into(), format!("at most {}", limits.properties_max));
            }
            if key.len() > limits.key_bytes_max {
                return refuse(format!("a key of {} bytes", key.len()), format!("at most {}", limits.key_bytes_max));
            }
            check_length(value, "a value", limits.value_bytes_max).map_err(|error| PropertyError::new(key, error))?;
            let known = Property::ALL.into_iter().find(|property| property.key() == key);
            let Some(property) = known.filter(|property| property.applies_to(topic_type)) else { continue };
            if given[property as usize].replace(value).is_some() {
                return refuse("the property again".into(), "each property at most once".into());
            }
        }
        Ok(Self { given, noted: Vec::new(), value_bytes_max: limits.value_bytes_max })
    }

    /// One of `choices`, in any case.
    pub fn choice<T: Copy + PartialEq>(&mut self, property: Property, default: T, choices: &Choices<T>) -> Result<T, PropertyError> {
        let Some(text) = self.given[property as usize] else { return Ok(default) };
        let value = choose(property, text, choices)?;
        if value != default {
            self.note_choice(property, value, choices);
        }
        Ok(value)
    }

    /// As [`Self::choice`], but the default means something too where it is given: it is noted. With whether any was given.
    pub fn deliberate_choice<T: Copy + PartialEq>(
        &mut self,
        property: Property,
        default: T,
        choices: &Choices<T>,
    ) -> Result<(T, bool), PropertyError> {
        let Some(text) = self.given[property as usize] else { return Ok((default, false)) };
        let value = choose(property, text, choices)?;
        self.note_choice(property, value, choices);
        Ok((value, true))
    }

    /// As [`Self::choice`], but must be given.
    pub fn mandatory_choice<T: Copy + PartialEq>(&mut self, property: Property, choices: &Choices<T>) -> Result<T, PropertyError> {
        let Some(text) = self.given[property as usize] else {
            let error = SyntaxError { position: 0, found: "no value".into(), expected: words(choices) };
            return Err(PropertyError::new(property.key(), error));
        };
        let value = choose(property, text, choices)?;
        self.note_choice(property, value, choices);
        Ok(value)
    }

    /// A text in a language of its own; without one, there is none.
    pub fn text<T>(
        &mut self,
        property: Property,
        parse: impl FnOnce(&str) -> Result<T, SyntaxError>,
        print: impl FnOnce(&T) -> String,
    ) -> Result<Option<T>, PropertyError> {
        let Some(text) = self.given[property as usize] else { return Ok(None) };
        let refuse = |error| PropertyError::new(property.key(), error);
        let value = parse(text).map_err(refuse)?;
        let canonical = print(&value);
        check_canonical_length(text, &canonical, self.value_bytes_max).map_err(refuse)?;
        self.noted.push((property.key(), canonical.into()));
        Ok(Some(value))
    }

    pub fn range(&mut self, property: Property, default: Option<RangeExpression>) -> Result<Option<RangeExpression>, PropertyError> {
        let range = self.text(property, RangeExpression::parse, RangeExpression::to_string)?;
        if range.is_some() && range == default {
            self.noted.pop();
        }
        Ok(range.or(default))
    }

    pub fn into_properties(self) -> Box<[(&'static str, Box<str>)]> {
        self.noted.into()
    }

    fn note_choice<T: Copy + PartialEq>(&mut self, property: Property, value: T, choices: &Choices<T>) {
        if let Some((word, _)) = choices.iter().find(|(_, meaning)| *meaning == value) {
            self.noted.push((property.key(), (*word).into()));
        }
    }
}

fn choose<T: Copy>(property: Property, text: &str, choices: &Choices<T>) -> Result<T, PropertyError> {
    let found = choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
    found.map(|(_, value)| *value).ok_or_else(|| {
        let error = SyntaxError { position: 0, found: format!("{:?}", brief(text)), expected: words(choices) };
        PropertyError::new(property.key(), error)
    })
}

fn words<T>(choices: &Choices<T>) -> String {
    let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
    format!("one of {}", words.join(", "))
}
