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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::ViewLimits;

    fn specification(topic_type: TopicType, properties: &[(&str, &str)]) -> Specification {
        Specification::parse(topic_type, properties.iter().copied(), SpecificationLimits::default()).unwrap()
    }

    fn derive(options: &str, topic_type: TopicType, properties: &[(&str, &str)]) -> Result<Specification, String> {
        let definition = Definition::parse(&format!("map a to b {options}"), &ViewLimits::default()).unwrap();
        reference_specification(&definition, &specification(topic_type, properties))
    }

    fn check(options: &str, (topic_type, properties): (TopicType, &[(&str, &str)]), expected: (TopicType, &[(&str, &str)])) {
        let made = derive(options, topic_type, properties).unwrap_or_else(|error| panic!("{options}: {error}"));
        let mut expected_properties = expected.1.to_vec();
        expected_properties.push((PERSISTENT, "false"));
        assert_eq!(made, specification(expected.0, &expected_properties), "{options}");
    }

    const SERIES: &[(&str, &str)] = &[(EVENT_VALUE_TYPE, "json"), (RETAINED_RANGE, "last 10S limit 5")];

    #[test]
    fn properties_are_the_sources_but_for_its_own_life() {
        let source = [
            ("PRIORITY", "high"),
            ("COMPRESSION", "off"),
            ("CONFLATION", "always"),
            ("PERSISTENT", "true"),
            ("OWNER", "$Principal is 'a'"),
            ("REMOVAL", "when this session closes"),
            ("VALIDATE_VALUES", "true"),
        ];
        let kept = [("PRIORITY", "high"), ("COMPRESSION", "off"), ("CONFLATION", "always")];
        check("", (TopicType::Json, &source), (TopicType::Json, &kept));
        check("type INT64", (TopicType::Json, &source), (TopicType::Int64, &[("PRIORITY", "high"), ("CONFLATION", "always")]));
    }

    #[test]
    fn a_view_says_otherwise() {
        let source: &[(&str, &str)] = &[("PRIORITY", "high"), ("CONFLATION", "off")];
        check(
            "with properties 'PRIORITY':'low', 'COMPRESSION':'high'",
            (TopicType::Json, source),
            (TopicType::Json, &[("PRIORITY", "low"), ("COMPRESSION", "high"), ("CONFLATION", "off")]),
        );
        check("with properties 'PRIORITY':'default'", (TopicType::Json, source), (TopicType::Json, &[("CONFLATION", "off")]));
    }

    #[test]
    fn the_retained_range_of_a_series_cannot_grow() {
        let check_range = |given: &str, expected: &str| {
            let made = [(EVENT_VALUE_TYPE, "json"), (RETAINED_RANGE, expected)];
            let options = format!("with properties '{RETAINED_RANGE}':'{given}'");
            check(&options, (TopicType::TimeSeries, SERIES), (TopicType::TimeSeries, &made));
        };
        check("", (TopicType::TimeSeries, SERIES), (TopicType::TimeSeries, SERIES));
        check_range("limit 3", "last 10S limit 3");
        check_range("limit 7", "last 10S limit 5");
        check_range("last 1S", "last 1S limit 5");
        check_range("last 1M limit 2", "last 10S limit 2");
    }

    #[test]
    fn series_and_other_types_become_each_other() {
        let int64 = [(EVENT_VALUE_TYPE, "int64")];
        check("type TIME_SERIES", (TopicType::Int64, &[]), (TopicType::TimeSeries, &int64));
        check("type TIME_SERIES", (TopicType::Int64, &[("CONFLATION", "always")]), (TopicType::TimeSeries, &int64));
        check(
            &format!("type TIME_SERIES with properties '{EVENT_VALUE_TYPE}':'string', '{RETAINED_RANGE}':'limit 100'"),
            (TopicType::Json, &[("CONFLATION", "unsubscribe")]),
            (TopicType::TimeSeries, &[(EVENT_VALUE_TYPE, "string"), (RETAINED_RANGE, "limit 100"), ("CONFLATION", "unsubscribe")]),
        );
        check("type DOUBLE", (TopicType::TimeSeries, SERIES), (TopicType::Double, &[]));
        // Events of a series that stays one are passed on as they are.
        check(&format!("with properties '{EVENT_VALUE_TYPE}':'string'"), (TopicType::TimeSeries, SERIES), (TopicType::TimeSeries, SERIES));
        let error = derive("type TIME_SERIES with properties 'CONFLATION':'always'", TopicType::Json, &[]).unwrap_err();
        assert!(error.contains("CONFLATION"), "{error}");
    }
}
