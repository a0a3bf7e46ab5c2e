//! Dates in the form of RFC 1123: `Tue, 3 Jun 2025 11:05:30 GMT`.
//!
//! The weekday and the seconds may be left out, and an offset such as `+0100` may stand for `GMT`. A date that does not
//! exist, or is another day of the week, is refused.

use crate::topic::syntax::{Cursor, SyntaxError};

const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [(&str, u64); 12] = [
    ("Jan", 31),
    ("Feb", 28),
    ("Mar", 31),
    ("Apr", 30),
    ("May", 31),
    ("Jun", 30),
    ("Jul", 31),
    ("Aug", 31),
    ("Sep", 30),
    ("Oct", 31),
    ("Nov", 30),
    ("Dec", 31),
];

/// Milliseconds since the start of 1970, GMT.
pub fn parse_ms(text: &str) -> Result<u64, SyntaxError> {
    let mut cursor = Cursor::new(text);
    let start = cursor.clone();
    let weekday = WEEKDAYS.iter().position(|weekday| cursor.take_keyword(weekday).is_some());
    if weekday.is_some() {
        cursor.take_symbol(',').ok_or_else(|| cursor.error("','"))?;
    }
    let day_start = cursor.clone();
    let day = cursor.expect_number("a day such as `3` or `Tue, 3`")?;
    let month = MONTHS
        .iter()
        .position(|(month, _)| cursor.take_keyword(month).is_some())
        .ok_or_else(|| cursor.error("a month: Jan, Feb, Mar, Apr, May, Jun, Jul, Aug, Sep, Oct, Nov or Dec"))?;
    let year = number_within(&mut cursor, 1970, 9999, "a year")?;
    let month_days = MONTHS[month].1 + u64::from(month == 1 && is_leap(year));
    if !(1..=month_days).contains(&day) {
        return Err(day_start.error(&format!("a day from 1 to {month_days}")));
    }
    let days = days_before_year(year) + days_before_month(year, month) + day - 1;
    // The first day of 1970 was a Thursday.
    let actual_weekday = ((days + 4) % 7) as usize;
    if weekday.is_some_and(|weekday| weekday != actual_weekday) {
        return Err(start.error(&format!("`{}`, the weekday of that date", WEEKDAYS[actual_weekday])));
    }
    let seconds = time_of_day(&mut cursor)?;
    let offset = offset_seconds(&mut cursor)?;
    cursor.expect_end("the end of the date")?;
    Ok((days * 86_400 + seconds).saturating_add_signed(-offset) * 1000)
}

/// In seconds.
fn time_of_day(cursor: &mut Cursor<'_>) -> Result<u64, SyntaxError> {
    let hour = number_within(cursor, 0, 23, "an hour")?;
    cursor.take_symbol(':').ok_or_else(|| cursor.error("':' and minutes"))?;
    let minute = number_within(cursor, 0, 59, "a minute")?;
    let second = match cursor.take_symbol(':') {
        Some(()) => number_within(cursor, 0, 59, "a second")?,
        None => 0,
    };
    Ok(hour * 3600 + minute * 60 + second)
}

/// How far ahead of GMT the date is written.
fn offset_seconds(cursor: &mut Cursor<'_>) -> Result<i64, SyntaxError> {
    if cursor.take_keyword("GMT").is_some() {
        return Ok(0);
    }
    let sign = match (cursor.take_symbol('+'), cursor.take_symbol('-')) {
        (Some(()), None) => 1,
        (None, Some(())) => -1,
        _ => return Err(cursor.error("`GMT` or an offset such as +0100")),
    };
    let before = cursor.clone();
    let hours_and_minutes = number_within(cursor, 0, 1800, "hours and minutes")?;
    let (hours, minutes) = (hours_and_minutes / 100, hours_and_minutes % 100);
    if cursor.position() - before.position() != 4 || minutes > 59 {
        return Err(before.error("two digits of hours and two of minutes"));
    }
    Ok(sign * (hours * 3600 + minutes * 60) as i64)
}

fn number_within(cursor: &mut Cursor<'_>, min: u64, max: u64, what: &str) -> Result<u64, SyntaxError> {
    let before = cursor.clone();
    let expected = format!("{what} from {min} to {max}");
    let number = cursor.expect_number(&expected)?;
    if (min..=max).contains(&number) { Ok(number) } else { Err(before.error(&expected)) }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// Days from the start of 1970 to that of `year`.
fn days_before_year(year: u64) -> u64 {
    let leap_years_before = |year: u64| (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400;
    365 * (year - 1970) + leap_years_before(year) - leap_years_before(1970)
}

fn days_before_month(year: u64, month: usize) -> u64 {
    MONTHS[..month].iter().map(|(_, days)| days).sum::<u64>() + u64::from(month > 1 && is_leap(year))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::syntax::fuzz;

    fn check(text: &str, expected_ms: u64) {
        assert_eq!(parse_ms(text), Ok(expected_ms), "{text}");
    }

    fn check_refused(text: &str, position: usize, words: &str) {
        let error = parse_ms(text).expect_err(text);
        assert_eq!(error.position, position, "{text:?}: {error}");
        assert!(error.to_string().contains(words), "{text:?}: {error}");
    }

    #[test]
    fn a_date_is_milliseconds_since_1970() {
        check("Thu, 1 Jan 1970 00:00:00 GMT", 0);
        check("Tue, 3 Jun 2025 11:05:30 GMT", 1_748_948_730_000);
        check("tue,03 JUN 2025 11:05:30 gmt", 1_748_948_730_000);
        check("3 Jun 2025 11:05 GMT", 1_748_948_700_000);
        check("Tue, 29 Feb 2000 23:59:59 GMT", 951_868_799_000);
        check("Fri, 31 Dec 9999 23:59:59 GMT", 253_402_300_799_000);
    }

    #[test]
    fn an_offset_is_ahead_of_gmt() {
        check("Tue, 3 Jun 2025 13:05:30 +0200", 1_748_948_730_000);
        check("Tue, 3 Jun 2025 05:35:30 -0530", 1_748_948_730_000);
        check("Thu, 1 Jan 1970 00:00:00 +0100", 0);
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut days = 0;
        for year in 1970..=2500 {
            assert_eq!(days_before_year(year), days, "{year}");
            for (month, (name, length)) in MONTHS.iter().enumerate() {
                let length = length + u64::from(month == 1 && is_leap(year));
                for day in 1..=length {
                    let weekday = WEEKDAYS[((days + 4) % 7) as usize];
                    check(&format!("{weekday}, {day} {name} {year} 00:00:00 GMT"), days * 86_400_000);
                    days += 1;
                }
            }
        }
    }

    #[test]
    fn what_does_not_exist_is_refused() {
        check_refused("", 0, "a day");
        check_refused("Mon, 3 Jun 2025 11:05:30 GMT", 0, "`Tue`, the weekday");
        check_refused("Tue 3 Jun 2025 11:05:30 GMT", 4, "','");
        check_refused("Foo, 3 Jun 2025 11:05:30 GMT", 0, "a day");
        check_refused("31 Jun 2025 11:05:30 GMT", 0, "a day from 1 to 30");
        check_refused("0 Jun 2025 11:05:30 GMT", 0, "a day from 1 to 30");
        check_refused("29 Feb 2100 11:05:30 GMT", 0, "a day from 1 to 28");
        check_refused("3 June 2025 11:05:30 GMT", 2, "found `June`");
        check_refused("3 Jun 1969 11:05:30 GMT", 6, "a year from 1970 to 9999");
        check_refused("3 Jun 2025 24:00:00 GMT", 11, "an hour from 0 to 23");
        check_refused("3 Jun 2025 11.05 GMT", 13, "':'");
        check_refused("3 Jun 2025 11:60:00 GMT", 14, "a minute");
        check_refused("3 Jun 2025 11:05:60 GMT", 17, "a second");
        check_refused("3 Jun 2025 11:05:30", 19, "`GMT` or an offset");
        check_refused("3 Jun 2025 11:05:30 CET", 20, "found `CET`");
        check_refused("3 Jun 2025 11:05:30 +1", 21, "two digits");
        check_refused("3 Jun 2025 11:05:30 +0160", 21, "two digits");
        check_refused("3 Jun 2025 11:05:30 GMT x", 24, "the end");
    }

    #[test]
    fn noise_is_refused_inside_its_text() {
        fuzz::check(&["Tue, 3 Jun 2025 11:05:30 GMT", "3 Jun 2025 11:05 -0530"], |text| parse_ms(text).map(|_| ()));
    }
}
