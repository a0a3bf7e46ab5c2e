//! What the reference topics of a view are: their type and properties.
//!
//! They are like their source but for what the view says, and for what belongs to a topic of its own: reference topics
//! are never persistent, belong to nobody, go with their source, and hold values that were checked there.

use super::definition::Definition;
use crate::topic::range_expression::RangeExpression;
use crate::topic::specification::{Specification, SpecificationLimits, TopicType};
use crate::value::ValueType;

const CONFLATION: &str = "CONFLATION";
const EVENT_VALUE_TYPE: &str = "TIME_SERIES_EVENT_VALUE_TYPE";
const PERSISTENT: &str = "PERSISTENT";
const SERIES_CONFLATIONS: [&str; 2] = ["off", "unsubscribe"];
const RETAINED_RANGE: &str = "TIME_SERIES_RETAINED_RANGE";
/// Said of the source alone. That a view says one of them is ignored, as the vendor does.
const NEVER: [&str; 4] = [PERSISTENT, "OWNER", "REMOVAL", "VALIDATE_VALUES"];

/// The specification of the reference topics that `definition` makes of a topic with `source`. What does not apply to
/// their type is ignored; a value that is refused is named in the error.
pub fn reference_specification(definition: &Definition, source: &Specification) -> Result<Specification, String> {
    let topic_type = definition.topic_type.unwrap_or(source.topic_type());
    let is_series = topic_type == TopicType::TimeSeries;
    // As given, so that a word that is no type is refused with the others.
    let event_type = given_event_type(definition).unwrap_or(source.value_type().name());
    let retained_range = retained_range(definition, source)?;
    let mut properties = vec![(PERSISTENT, "false")];
    if is_series {
        properties.push((EVENT_VALUE_TYPE, event_type));
        properties.extend(retained_range.as_deref().map(|range| (RETAINED_RANGE, range)));
    }
    let is_settled = |key: &str| NEVER.contains(&key) || [EVENT_VALUE_TYPE, RETAINED_RANGE].contains(&key);
    let given = definition.properties.iter().map(|(key, value)| (&**key, &**value));
    properties.extend(given.filter(|(key, _)| !is_settled(key)));
    let is_given = |key: &str| definition.properties.iter().any(|(given, _)| &**given == key);
    // No event of a time series may be replaced by a later one.
    let is_unfit = |key: &str, value: &str| is_series && key == CONFLATION && SERIES_CONFLATIONS.iter().all(|word| *word != value);
    let is_inherited = |key: &str, value: &str| !is_settled(key) && !is_given(key) && !is_unfit(key, value);
    properties.extend(source.properties().filter(|(key, value)| is_inherited(key, value)));
    Specification::parse(topic_type, properties.into_iter(), SpecificationLimits::default()).map_err(|error| error.to_string())
}

/// The type of the events that `type TIME_SERIES` makes of values; `None` where they stay of their type.
pub fn event_type(definition: &Definition) -> Option<ValueType> {
    given_event_type(definition).and_then(|name| ValueType::from_name(&name.to_ascii_lowercase()))
}

/// The events of a series that stays one are not converted.
fn given_event_type(definition: &Definition) -> Option<&str> {
    let (_, name) = definition.properties.iter().find(|(key, _)| &**key == EVENT_VALUE_TYPE)?;
    (definition.topic_type == Some(TopicType::TimeSeries)).then_some(name)
}

/// The smaller one in each part, where the source is a time series and so has one.
fn retained_range(definition: &Definition, source: &Specification) -> Result<Option<String>, String> {
    let given = definition.properties.iter().find(|(key, _)| &**key == RETAINED_RANGE);
    let given = given.map(|(_, text)| RangeExpression::parse(text).map_err(|error| format!("property {RETAINED_RANGE}: {error}")));
    let given = given.transpose()?;
    let bound = (source.topic_type() == TopicType::TimeSeries).then(|| source.retained_range());
    let range = match (given, bound) {
        (Some(given), Some(bound)) => Some(RangeExpression {
            limit: given.limit.into_iter().chain(bound.limit).min(),
            last_ms: given.last_ms.into_iter().chain(bound.last_ms).min(),
        }),
        (given, bound) => given.or(bound),
    };
    Ok(range.map(|range| range.to_string()))
}
