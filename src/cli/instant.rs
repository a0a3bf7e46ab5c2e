//! Points in time as people write them: RFC 3339 in UTC, or milliseconds since 1970.

/// `2026-03-01T12:30:00.250Z`.
pub fn print(ms: u64) -> String {
    let (days, rest) = (ms / 86_400_000, ms % 86_400_000);
    let (year, month, day) = date_of(days);
    let (hour, minute, second) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", rest % 1000)
}

/// Milliseconds since 1970, from a number or from RFC 3339.
pub fn parse(text: &str) -> Result<u64, String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map_err(|_| format!("found {text}, expected milliseconds since 1970 below 2^64"));
    }
    parse_rfc3339(text).ok_or_else(|| format!("found '{text}', expected milliseconds since 1970, or a time such as 2026-03-01T12:30:00Z"))
}

fn parse_rfc3339(text: &str) -> Option<u64> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let at = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at(at);
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let (whole, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [hour, minute, second] = numbers(whole, ':', [2, 2, 2])?;
    let is_date = year >= 1970 && (1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day);
    if !is_date || hour > 23 || minute > 59 || second > 59 || !is_digits(fraction) {
        return None;
    }
    let millis: u64 = format!("{fraction:0<3}")[..3].parse().ok()?;
    let offset_minutes = offset_of(zone)?;
    let minutes = (days_before(year, month) + day - 1) * 1440 + hour * 60 + minute;
    Some(minutes.checked_add_signed(-offset_minutes)? * 60_000 + second * 1000 + millis)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn numbers<const N: usize>(text: &str, separator: char, widths: [usize; N]) -> Option<[u64; N]> {
    let mut parts = text.split(separator);
    let mut numbers = [0; N];
    for (number, width) in numbers.iter_mut().zip(widths) {
        *number = parts.next().filter(|part| part.len() == width && is_digits(part))?.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

/// Minutes ahead of UTC.
fn offset_of(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let [hours, minutes] = numbers(&zone[1..], ':', [2, 2])?;
    let offset = i64::try_from(hours * 60 + minutes).ok().filter(|_| hours < 24 && minutes < 60)?;
    Some(if zone.starts_with('-') { -offset } else { offset })
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400)
}

fn days_of(year: u64, month: u64) -> u64 {
    match month {
        2 => 28 + u64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from the start of 1970 to the first of the month.
fn days_before(year: u64, month: u64) -> u64 {
    let leap_years = |year: u64| year / 4 - year / 100 + year / 400;
    let years = (year - 1970) * 365 + leap_years(year - 1) - leap_years(1969);
    years + (1..month).map(|month| days_of(year, month)).sum::<u64>()
}

/// Year, month and day of a day since the start of 1970.
fn date_of(days: u64) -> (u64, u64, u64) {
    // Never too late: no year has more days.
    let mut year = 1970 + days / 366;
    while days_before(year + 1, 1) <= days {
        year += 1;
    }
    let month = (1..=12).rev().find(|month| days_before(year, *month) <= days).expect("January begins with the year");
    (year, month, days - days_before(year, month) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, ms: u64) {
        assert_eq!(parse(text), Ok(ms), "{text}");
        assert_eq!(parse(&print(ms)), Ok(ms), "{text}");
    }

    #[test]
    fn times_are_read_and_printed() {
        check("0", 0);
        check("1735689600000", 1_735_689_600_000);
        check("1970-01-01T00:00:00Z", 0);
        check("2025-01-01T00:00:00Z", 1_735_689_600_000);
        check("2025-01-01T01:30:00.25+01:30", 1_735_689_600_250);
        check("2024-12-31T23:59:59.999-00:01", 1_735_689_659_999);
        check("2000-02-29 12:00:00Z", 951_825_600_000);
        assert_eq!(print(951_825_600_007), "2000-02-29T12:00:00.007Z");
        assert_eq!(print(253_402_300_799_999), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn every_day_is_the_one_behind_the_day_before() {
        let mut last = (1969, 12, 31);
        for day in 0..80_000 {
            let date = date_of(day);
            assert!(date > last && date.2 <= days_of(date.0, date.1), "{date:?}");
            assert_eq!(days_before(date.0, date.1) + date.2 - 1, day);
            last = date;
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "now", "2025-02-29T00:00:00Z", "2025-01-01", "2025-01-01T24:00:00Z", "2025-01-01T00:00:00", "1969-01-01T00:00:00Z"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("2025-01-01T00:00:00+").is_err() && parse("2025-01-01T00:00:00.Z").is_err());
        assert!(parse("99999999999999999999").is_err());
    }
}
