//! What a topic is: its type and its properties.
//!
//! Properties are texts by key. Those that mean something for the type are checked and brought into canonical form, and
//! those that say the default are left out; all others are ignored. Only CONFLATION is noted where it says the default too: what is acknowledged
//! gives way by conflation where somebody said so, and not by default. So two specifications are equal exactly when their
//! topics behave alike, and adding a topic again with the same meaning in other words finds it there. Acting on what the
//! properties say is left to others.

mod interner;
mod property;
#[cfg(test)]
mod tests;

use std::fmt;
use std::hash::{Hash, Hasher};

use super::range_expression::RangeExpression;
use super::removal::{RemovalLimits, RemovalPolicy};
use super::syntax::{Cursor, SyntaxError, brief, print_quoted};
use crate::value::ValueType;
use crate::wire::event::Properties;
pub use interner::Interner;
use property::{CONFLATIONS, FLAGS, Property, Reader, SERIES_CONFLATIONS};

/// The type of a topic. The numbers are those of the wire, and for all but time series those of the value's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TopicType {
    Json = 1,
    String = 2,
    Int64 = 3,
    Double = 4,
    Binary = 5,
    TimeSeries = 6,
}

impl TopicType {
    pub const ALL: [Self; 6] = [Self::Json, Self::String, Self::Int64, Self::Double, Self::Binary, Self::TimeSeries];

    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|topic_type| topic_type.number() == number)
    }

    pub fn number(self) -> u8 {
        self as u8
    }

    /// The name in the text form, on the command line and in documents.
    pub fn name(self) -> &'static str {
        self.value_type().map_or("time_series", ValueType::name)
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic_type| topic_type.name() == name)
    }

    /// The type of the topic's values; a property says that of a time series' events.
    pub fn value_type(self) -> Option<ValueType> {
        match self {
            Self::Json => Some(ValueType::Json),
            Self::String => Some(ValueType::String),
            Self::Int64 => Some(ValueType::Int64),
            Self::Double => Some(ValueType::Double),
            Self::Binary => Some(ValueType::Binary),
            Self::TimeSeries => None,
        }
    }
}

impl From<ValueType> for TopicType {
    fn from(value_type: ValueType) -> Self {
        match value_type {
            ValueType::Json => Self::Json,
            ValueType::String => Self::String,
            ValueType::Int64 => Self::Int64,
            ValueType::Double => Self::Double,
            ValueType::Binary => Self::Binary,
        }
    }
}

/// What may be left out for a session that falls behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Conflation {
    /// Nothing: a session that falls too far behind is closed.
    Off,
    /// Older values of a topic, once the session's queue is long.
    Conflate,
    /// The topic altogether: the session is unsubscribed from it.
    Unsubscribe,
    /// Older values of the topic, always.
    Always,
}

/// How hard to try to make a topic's messages smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compression {
    Off,
    Low,
    Medium,
    High,
}

/// The topic's place among what waits in one session's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    Low,
    Default,
    High,
}

/// Every bound a specification obeys. The default is part of what a specification is, the same on every server: one that is kept is read
/// again, and tools check it without a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpecificationLimits {
    /// The most properties, also counting those that are ignored.
    pub properties_max: usize,
    /// The longest key.
    pub key_bytes_max: usize,
    /// The longest value, as given and in canonical form.
    pub value_bytes_max: usize,
    pub removal: RemovalLimits,
}

impl Default for SpecificationLimits {
    fn default() -> Self {
        Self { properties_max: 64, key_bytes_max: 256, value_bytes_max: 16 * 1024, removal: RemovalLimits::default() }
    }
}

/// A checked specification. Topics share one by `Interner`.
pub struct Specification {
    topic_type: TopicType,
    value_type: ValueType,
    conflation: Conflation,
    conflates_on_purpose: bool,
    compression: Compression,
    priority: Priority,
    publishes_values_only: bool,
    retains_value: bool,
    validates_values: bool,
    tidies_on_unsubscribe: bool,
    is_persistent: bool,
    owner: Option<Box<str>>,
    removal: Option<RemovalPolicy>,
    retained_range: RangeExpression,
    subscription_range: Option<RangeExpression>,
    /// What differs from the default, in the order of keys.
    properties: Box<[(&'static str, Box<str>)]>,
}

impl Specification {
    pub fn parse<'p>(
        topic_type: TopicType,
        properties: impl Iterator<Item = (&'p str, &'p str)>,
        limits: SpecificationLimits,
    ) -> Result<Self, PropertyError> {
        use Property as P;
        let mut reader = Reader::new(topic_type, properties, limits)?;
        let is_series = topic_type == TopicType::TimeSeries;
        let compresses = P::Compression.applies_to(topic_type);
        let (conflation, conflations) = match is_series {
            true => (Conflation::Off, &SERIES_CONFLATIONS[..]),
            false => (Conflation::Conflate, &CONFLATIONS[..]),
        };
        // In the order of keys, so that what differs from the default is noted in that order.
        let compression = if compresses { Compression::Low } else { Compression::Off };
        let compression = reader.choice(P::Compression, compression, &Compression::CHOICES)?;
        let (conflation, is_on_purpose) = match is_series {
            true => (reader.choice(P::Conflation, conflation, conflations)?, false),
            false => reader.deliberate_choice(P::Conflation, conflation, conflations)?,
        };
        let drops_value = reader.choice(P::DontRetainValue, false, &FLAGS)?;
        let owner = reader.text(P::Owner, parse_owner, |owner| print_owner(owner))?;
        let is_persistent = reader.choice(P::Persistent, true, &FLAGS)?;
        let priority = reader.choice(P::Priority, Priority::Default, &Priority::CHOICES)?;
        let publishes_values_only = reader.choice(P::PublishValuesOnly, false, &FLAGS)?;
        let removal = reader.text(P::Removal, |text| RemovalPolicy::parse(text, limits.removal), RemovalPolicy::to_string)?;
        let tidies_on_unsubscribe = reader.choice(P::TidyOnUnsubscribe, false, &FLAGS)?;
        let value_type = match topic_type.value_type() {
            Some(value_type) => value_type,
            None => reader.mandatory_choice(P::EventValueType, &ValueType::ALL.map(|value_type| (value_type.name(), value_type)))?,
        };
        let retained_range = reader.range(P::RetainedRange, Some(RETAINED_RANGE))?.unwrap_or(RETAINED_RANGE);
        let has_deltas = !publishes_values_only && !drops_value;
        let subscription_range = reader.range(P::SubscriptionRange, (is_series && has_deltas).then_some(RangeExpression::limit(1)))?;
        let validates_values = reader.choice(P::ValidateValues, false, &FLAGS)?;
        Ok(Self {
            topic_type,
            value_type,
            conflation,
            conflates_on_purpose: is_on_purpose && conflation != Conflation::Off,
            compression,
            priority,
            publishes_values_only,
            retains_value: !drops_value,
            validates_values,
            tidies_on_unsubscribe,
            is_persistent,
            owner,
            removal,
            retained_range,
            subscription_range,
            properties: reader.into_properties(),
        })
    }

    /// That of a topic of a type that needs no properties, which belongs to this principal; `None` where no principal has such a name.
    pub fn owned_by(topic_type: TopicType, principal: &str) -> Option<Self> {
        let owner = print_owner(principal);
        let properties = std::iter::once((Property::Owner.key(), owner.as_str()));
        Self::parse(topic_type, properties, SpecificationLimits::default()).ok()
    }

    /// Whether a property of this key means something for some type.
    pub fn knows_property(key: &str) -> bool {
        Property::ALL.iter().any(|property| property.key() == key)
    }

    /// The canonical properties that differ from the default, in the order of keys: what is shown and stored.
    pub fn properties(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.properties.iter().map(|(key, value)| (*key, &**value))
    }

    /// Whether a topic of one may be taken for one of the other: they are equal but for what is said of CONFLATION on purpose and is so anyway.
    pub fn agrees_with(&self, other: &Self) -> bool {
        let others = |(key, value): &(&str, &str)| (*key, *value) != CONFLATES;
        self.topic_type == other.topic_type && self.properties().filter(others).eq(other.properties().filter(others))
    }

    /// The same properties, to be said to a client.
    pub fn said_properties(&self) -> Properties<'_> {
        Properties::Known(&self.properties)
    }

    pub fn topic_type(&self) -> TopicType {
        self.topic_type
    }

    /// The type of the topic's values, or of a time series' events.
    pub fn value_type(&self) -> ValueType {
        self.value_type
    }

    /// Whether subscribers are sent whole values, never deltas.
    pub fn publishes_values_only(&self) -> bool {
        self.publishes_values_only
    }

    /// Whether the latest value is kept for who comes later.
    pub fn retains_value(&self) -> bool {
        self.retains_value
    }

    /// Whether a value is parsed before it is stored.
    pub fn validates_values(&self) -> bool {
        self.validates_values
    }

    /// Whether what waits to be sent is dropped when a session unsubscribes.
    pub fn tidies_on_unsubscribe(&self) -> bool {
        self.tidies_on_unsubscribe
    }

    pub fn conflation(&self) -> Conflation {
        self.conflation
    }

    /// Whether CONFLATION was set so that updates give way: then those give way too that their receivers acknowledge.
    pub fn conflates_on_purpose(&self) -> bool {
        self.conflates_on_purpose
    }

    /// `Off` for the types that have nothing to compress.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    pub fn priority(&self) -> Priority {
        self.priority
    }

    pub fn is_persistent(&self) -> bool {
        self.is_persistent
    }

    /// The principal whose sessions may read, update and modify the topic whatever the security store says.
    pub fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }

    /// Whether sessions of this principal are that; nobody has no name.
    pub fn is_owned_by(&self, principal: &str) -> bool {
        !principal.is_empty() && self.owner() == Some(principal)
    }

    pub fn removal(&self) -> Option<&RemovalPolicy> {
        self.removal.as_ref()
    }

    /// Which events a time series keeps. It means nothing for other types.
    pub fn retained_range(&self) -> RangeExpression {
        self.retained_range
    }

    /// Which events of a time series a new subscriber is sent; `None` for none, and for other types.
    pub fn subscription_range(&self) -> Option<RangeExpression> {
        self.subscription_range
    }
}

const RETAINED_RANGE: RangeExpression = RangeExpression::limit(10);

/// The principal's name.
fn parse_owner(text: &str) -> Result<Box<str>, SyntaxError> {
    const KEY: &str = "$Principal";
    let mut cursor = Cursor::new(text);
    if cursor.word() != KEY {
        return Err(cursor.error("`$Principal is \"…\"`"));
    }
    cursor.take_word();
    cursor.take_keyword("is").or_else(|| cursor.take_keyword("eq")).ok_or_else(|| cursor.error("`is`"))?;
    let name = cursor.expect_quoted("the quoted name of a principal")?.content().into();
    cursor.expect_end("the end of the text")?;
    Ok(name)
}

fn print_owner(name: &str) -> String {
    let mut out = String::from("$Principal is ");
    print_quoted(name, &mut out);
    out
}

/// The properties follow from the canonical ones.
/// The property that says on purpose what is so without it too.
const CONFLATES: (&str, &str) = ("CONFLATION", "conflate");

impl PartialEq for Specification {
    fn eq(&self, other: &Self) -> bool {
        self.topic_type == other.topic_type && self.properties == other.properties
    }
}

impl Eq for Specification {}

impl Hash for Specification {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.topic_type.hash(state);
        self.properties.hash(state);
    }
}

impl fmt::Debug for Specification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.topic_type.name())?;
        f.debug_map().entries(self.properties()).finish()
    }
}

/// Why properties do not make a specification: the client's fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PropertyError {
    /// The key of the property at fault.
    pub property: String,
    /// The byte offset in the property's value.
    pub position: usize,
    pub found: String,
    pub expected: String,
}

impl PropertyError {
    fn new(key: &str, error: SyntaxError) -> Self {
        Self { property: brief(key), position: error.position, found: error.found, expected: error.expected }
    }
}

impl fmt::Display for PropertyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "property {}: found {} at byte {}, expected {}", self.property, self.found, self.position, self.expected)
    }
}

impl std::error::Error for PropertyError {}
