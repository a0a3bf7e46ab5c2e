//! What stands behind the transformations: each option at most once, in any order.

use super::{Parser, TRANSFORMATIONS, token};
use crate::topic::specification::{PropertyError, Specification, TopicType};
use crate::topic::syntax::{Cursor, SyntaxError, brief};
use crate::value::pointer::Pointer;
use crate::view::definition::Throttle;

/// Keys and values.
type Properties = Box<[(Box<str>, Box<str>)]>;

#[derive(Default)]
pub struct Options {
    pub value: Option<Pointer>,
    pub throttle: Option<Throttle>,
    pub delay_ms: Option<u64>,
    pub topic_type: Option<TopicType>,
    pub properties: Option<Properties>,
    pub preserves_topics: Option<()>,
    pub separator: Option<Box<str>>,
}

const OPTIONS: &str = "`as`, `type`, `with`, `preserve`, `separator`, `throttle`, `delay` or the end of the text";

/// The properties that reference topics may have.
pub const PROPERTIES: [&str; 9] = [
    "COMPRESSION",
    "CONFLATION",
    "DONT_RETAIN_VALUE",
    "PRIORITY",
    "PUBLISH_VALUES_ONLY",
    "TIDY_ON_UNSUBSCRIBE",
    EVENT_VALUE_TYPE,
    "TIME_SERIES_RETAINED_RANGE",
    "TIME_SERIES_SUBSCRIPTION_RANGE",
];

const EVENT_VALUE_TYPE: &str = "TIME_SERIES_EVENT_VALUE_TYPE";

/// The properties of other topics that reference topics never have.
pub const FOREIGN_PROPERTIES: [&str; 5] = ["OWNER", "PERSISTENT", "REMOVAL", "SCHEMA", "VALIDATE_VALUES"];

const SECOND_MS: u64 = 1000;
const DAY_MS: u64 = 86_400 * SECOND_MS;
const UNITS_MS: [(&str, &str, u64); 3] =
    [("second", "seconds", SECOND_MS), ("minute", "minutes", 60 * SECOND_MS), ("hour", "hours", 3600 * SECOND_MS)];
const UNITS: &str = "`seconds`, `minutes` or `hours`";

impl Parser<'_> {
    /// The options up to the end of the text.
    pub fn options(&self, cursor: &mut Cursor<'_>) -> Result<Options, SyntaxError> {
        let mut options = Options::default();
        let mut is_first = true;
        while !cursor.rest().is_empty() {
            let before = cursor.clone();
            let keyword = cursor.take_word().to_ascii_lowercase();
            let again = match &*keyword {
                "as" => options.value.replace(value(cursor)?).is_some(),
                "type" => options.topic_type.replace(topic_type(cursor)?).is_some(),
                "with" => options.properties.replace(self.properties(cursor)?).is_some(),
                "preserve" => options.preserves_topics.replace(cursor.expect_keywords(&["topics"])?).is_some(),
                "separator" => options.separator.replace(separator(cursor)?).is_some(),
                "throttle" => options.throttle.replace(self.throttle(cursor)?).is_some(),
                "delay" => options.delay_ms.replace(self.delay_ms(cursor)?).is_some(),
                _ if is_first => return Err(before.error(&format!("`process`, `patch`, `insert`, {OPTIONS}"))),
                transformation if TRANSFORMATIONS.contains(&transformation) => {
                    return Err(before.error(&format!("{OPTIONS} (transformations stand before the options)")));
                }
                _ => return Err(before.error(OPTIONS)),
            };
            if again {
                return token::refuse(before.position(), format!("`{keyword}` again"), "each option at most once");
            }
            is_first = false;
        }
        Ok(options)
    }

    fn throttle(&self, cursor: &mut Cursor<'_>) -> Result<Throttle, SyntaxError> {
        cursor.expect_keywords(&["to"])?;
        let updates = count(cursor, "a number of updates", u32::MAX.into())?;
        let updates = u32::try_from(updates).expect("the maximum is one");
        cursor.take_keyword("update").or_else(|| cursor.take_keyword("updates")).ok_or_else(|| cursor.error("`updates`"))?;
        cursor.expect_keywords(&["every"])?;
        let period_ms = match cursor.rest().starts_with(|c: char| c.is_ascii_digit()) {
            true => self.period_ms(cursor)?,
            false => unit_ms(cursor, &format!("a number, or {UNITS}"))?,
        };
        Ok(Throttle { updates, period_ms })
    }

    fn delay_ms(&self, cursor: &mut Cursor<'_>) -> Result<u64, SyntaxError> {
        cursor.expect_keywords(&["by"])?;
        self.period_ms(cursor)
    }

    /// A number and its unit.
    fn period_ms(&self, cursor: &mut Cursor<'_>) -> Result<u64, SyntaxError> {
        let before = cursor.clone();
        let number = count(cursor, "a number of seconds, minutes or hours", u64::MAX)?;
        let period_ms = number.checked_mul(unit_ms(cursor, UNITS)?);
        let days_max = self.limits.period_days_max;
        let too_long = || before.error(&format!("a period of at most {days_max} days"));
        period_ms.filter(|period_ms| *period_ms <= days_max.saturating_mul(DAY_MS)).ok_or_else(too_long)
    }

    fn properties(&self, cursor: &mut Cursor<'_>) -> Result<Properties, SyntaxError> {
        cursor.expect_keywords(&["properties"])?;
        let mut properties: Vec<(Box<str>, Box<str>)> = Vec::new();
        loop {
            let position = cursor.position();
            let key = property_key(cursor)?;
            if properties.iter().any(|(other, _)| **other == *key) {
                return token::refuse(position, format!("`{key}` again"), "each property at most once");
            }
            token::expect_symbol(cursor, ':')?;
            let quoted = cursor.expect_quoted("the property's value in quotation marks")?;
            let value = quoted.content();
            self.check_property(key, &value).map_err(|error| {
                let PropertyError { position, found, expected, .. } = error;
                token::locate(quoted, SyntaxError { position, found, expected })
            })?;
            properties.push((key.into(), value.into()));
            if cursor.take_symbol(',').is_none() {
                return Ok(properties.into());
            }
        }
    }

    /// Whether some topic may have it: what type reference topics are is known when there is a source.
    fn check_property(&self, key: &str, value: &str) -> Result<(), PropertyError> {
        let (topic_type, event_type) = match key {
            EVENT_VALUE_TYPE => (TopicType::TimeSeries, None),
            _ if key.starts_with("TIME_SERIES") => (TopicType::TimeSeries, Some((EVENT_VALUE_TYPE, "json"))),
            _ => (TopicType::Json, None),
        };
        Specification::parse(topic_type, [(key, value)].into_iter().chain(event_type), self.limits.properties).map(drop)
    }
}

fn property_key(cursor: &mut Cursor<'_>) -> Result<&'static str, SyntaxError> {
    let before = cursor.clone();
    let key = match cursor.is_quoted() {
        true => cursor.expect_quoted("the key of a property")?.content(),
        false => cursor.take_word().into(),
    };
    let find = |keys: &[&'static str]| keys.iter().copied().find(|known| known.eq_ignore_ascii_case(&key));
    if let Some(key) = find(&PROPERTIES) {
        return Ok(key);
    }
    let known = PROPERTIES.join(", ");
    match find(&FOREIGN_PROPERTIES) {
        Some(key) => token::refuse(before.position(), format!("`{key}`, which reference topics never have"), format!("one of {known}")),
        None if key.is_empty() => Err(before.error("the key of a property")),
        None => {
            let found = format!("the unknown property `{}`", brief(&key));
            token::refuse(before.position(), found, format!("one of {known}"))
        }
    }
}

fn value(cursor: &mut Cursor<'_>) -> Result<Pointer, SyntaxError> {
    cursor.take_symbol('<').ok_or_else(|| cursor.error("`<value(…)>`"))?;
    cursor.expect_keywords(&["value"])?;
    token::expect_symbol(cursor, '(')?;
    let pointer = token::argument(cursor)?;
    token::expect_symbol(cursor, ')')?;
    token::expect_symbol(cursor, '>')?;
    Ok(pointer)
}

fn topic_type(cursor: &mut Cursor<'_>) -> Result<TopicType, SyntaxError> {
    let Some(topic_type) = TopicType::from_name(&cursor.word().to_ascii_lowercase()) else {
        let names = TopicType::ALL.map(|topic_type| topic_type.name().to_ascii_uppercase());
        return Err(cursor.error(&format!("one of {}", names.join(", "))));
    };
    cursor.take_word();
    Ok(topic_type)
}

/// It takes the place of `/`, and so has none.
fn separator(cursor: &mut Cursor<'_>) -> Result<Box<str>, SyntaxError> {
    let quoted = cursor.expect_quoted("a separator in quotation marks")?;
    let content = quoted.content();
    match content.find('/') {
        Some(position) => token::refuse(quoted.position_of(position), "'/'", "a separator without it"),
        None => Ok(content.into()),
    }
}

/// A number from 1 to `max`.
fn count(cursor: &mut Cursor<'_>, expected: &str, max: u64) -> Result<u64, SyntaxError> {
    let before = cursor.clone();
    match cursor.expect_number(expected)? {
        0 => Err(before.error("1 or more")),
        number if number > max => Err(before.error(&format!("at most {max}"))),
        number => Ok(number),
    }
}

fn unit_ms(cursor: &mut Cursor<'_>, expected: &str) -> Result<u64, SyntaxError> {
    let unit = UNITS_MS.iter().find(|(one, many, _)| cursor.is_keyword(one) || cursor.is_keyword(many));
    let Some((_, _, unit_ms)) = unit else { return Err(cursor.error(expected)) };
    cursor.take_word();
    Ok(*unit_ms)
}
