//! Range expressions: which of the latest events of a time series are meant, as in `last 10S limit 5`.
//!
//! | part | means |
//! |---|---|
//! | `limit <n>` | the latest n events |
//! | `last <n><unit>` | the events not older than that before the latest one; the unit is `MS`, `S`, `M` (minutes) or `H` |
//!
//! One part or both in any order, in any case. With both, the one that selects fewer events applies: an event is meant
//! only if both parts mean it. Selecting is left to the series.

use std::fmt;

use super::syntax::{Cursor, SyntaxError};

/// At least one part is given, and none is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RangeExpression {
    /// The most events.
    pub limit: Option<u64>,
    /// How far back from the latest event.
    pub last_ms: Option<u64>,
}

const PARTS: &str = "`limit` and a count, or `last` and a duration such as 10S";
const UNITS: [(&str, u64); 4] = [("H", 3_600_000), ("M", 60_000), ("S", 1000), ("MS", 1)];

impl RangeExpression {
    pub const fn limit(count: u64) -> Self {
        Self { limit: Some(count), last_ms: None }
    }

    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        let mut cursor = Cursor::new(text);
        let mut range = Self { limit: None, last_ms: None };
        while range.limit.is_none() || range.last_ms.is_none() {
            let before = cursor.clone();
            if cursor.take_keyword("limit").is_some() {
                let count = positive(&mut cursor, "a count of 1 or more")?;
                give(&before, &mut range.limit, count)?;
            } else if cursor.take_keyword("last").is_some() {
                let duration_ms = duration_ms(&mut cursor)?;
                give(&before, &mut range.last_ms, duration_ms)?;
            } else {
                break;
            }
        }
        match (range.limit, range.last_ms) {
            (None, None) => Err(cursor.error(PARTS)),
            (Some(_), None) => cursor.expect_end("`last` and a duration, or the end of the text").map(|()| range),
            (None, Some(_)) => cursor.expect_end("`limit` and a count, or the end of the text").map(|()| range),
            (Some(_), Some(_)) => cursor.expect_end("the end of the text").map(|()| range),
        }
    }
}

/// The canonical text: `last` before `limit`, the largest unit that says it exactly.
impl fmt::Display for RangeExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(ms) = self.last_ms {
            let (unit, unit_ms) = UNITS.into_iter().find(|(_, unit_ms)| ms % unit_ms == 0).unwrap_or(("MS", 1));
            write!(f, "last {}{unit}", ms / unit_ms)?;
        }
        if let Some(count) = self.limit {
            write!(f, "{}limit {count}", if self.last_ms.is_some() { " " } else { "" })?;
        }
        Ok(())
    }
}

fn give(before: &Cursor<'_>, part: &mut Option<u64>, value: u64) -> Result<(), SyntaxError> {
    if part.replace(value).is_some() {
        return Err(before.error("each part at most once"));
    }
    Ok(())
}

fn positive(cursor: &mut Cursor<'_>, expected: &str) -> Result<u64, SyntaxError> {
    let before = cursor.clone();
    match cursor.expect_number(expected)? {
        0 => Err(before.error(expected)),
        number => Ok(number),
    }
}

fn duration_ms(cursor: &mut Cursor<'_>) -> Result<u64, SyntaxError> {
    let before = cursor.clone();
    let number = positive(cursor, "a duration of 1 or more, such as 10S")?;
    let (_, unit_ms) =
        UNITS.into_iter().find(|(unit, _)| cursor.take_keyword(unit).is_some()).ok_or_else(|| cursor.error("one of MS, S, M or H"))?;
    number.checked_mul(unit_ms).ok_or_else(|| before.error(&format!("a duration of at most {} milliseconds", u64::MAX)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::syntax::fuzz;
    use super::*;

    fn check(text: &str, limit: Option<u64>, last_ms: Option<u64>, canonical: &str) {
        let range = RangeExpression::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!(range, RangeExpression { limit, last_ms }, "{text:?}");
        assert_eq!(range.to_string(), canonical, "{text:?}");
    }

    fn check_refused(text: &str, position: usize, expected: &str) {
        let error = RangeExpression::parse(text).expect_err(text);
        assert_eq!(error.position, position, "{text:?}: {error}");
        assert!(error.to_string().contains(expected), "{text:?}: {error}");
    }

    #[test]
    fn one_part_or_both_in_any_order() {
        check("limit 10", Some(10), None, "limit 10");
        check("last 10S limit 5", Some(5), Some(10_000), "last 10S limit 5");
        check("limit 5 last 10S", Some(5), Some(10_000), "last 10S limit 5");
        check(" LIMIT\t5\nLast 1 h ", Some(5), Some(3_600_000), "last 1H limit 5");
    }

    #[test]
    fn units_have_no_case_and_print_as_the_largest_that_fits() {
        check("last 5ms", None, Some(5), "last 5MS");
        check("last 1500 MS", None, Some(1500), "last 1500MS");
        check("last 120s", None, Some(120_000), "last 2M");
        check("last 2 m", None, Some(120_000), "last 2M");
        check("last 60M", None, Some(3_600_000), "last 1H");
    }

    #[test]
    fn errors_say_where_and_what() {
        check_refused("", 0, "`limit` and a count");
        check_refused("10", 0, "found `10` at byte 0");
        check_refused("limit", 5, "a count of 1 or more");
        check_refused("limit 0", 6, "1 or more");
        check_refused("last 0S", 5, "1 or more");
        check_refused("limit10", 0, "found `limit10`");
        check_refused("limit -1", 6, "found `-1`");
        check_refused("last 10", 7, "MS, S, M or H");
        check_refused("last 10D", 7, "found `D` at byte 7");
        check_refused("limit 1 limit 1", 8, "at most once");
        check_refused("last 1S last 1S", 8, "at most once");
        check_refused("limit 1 x", 8, "`last` and a duration");
        check_refused("limit 1 last 1S limit 1", 16, "the end of the text");
        check_refused("limit 18446744073709551616", 6, "at most 18446744073709551615");
        check_refused("last 18446744073709551615S", 5, "at most 18446744073709551615");
    }

    #[test]
    fn noise_is_refused_inside_its_text() {
        fuzz::check(&["limit 10", "last 10S limit 5", "last 500 MS"], |text| RangeExpression::parse(text).map(|_| ()));
    }

    proptest! {
        #[test]
        fn the_canonical_text_reads_back(limit in proptest::option::of(1u64..), last_ms in proptest::option::of(1u64..)) {
            prop_assume!(limit.is_some() || last_ms.is_some());
            let range = RangeExpression { limit, last_ms };
            prop_assert_eq!(RangeExpression::parse(&range.to_string()), Ok(range));
        }
    }
}
