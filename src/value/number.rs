//! JSON numbers compared exactly.
//!
//! `1`, `1.0` and `10e-1` are one number; 9007199254740993 and 9007199254740992 are two, as no double stands between a
//! number and its digits. Nothing is allocated. Exponents beyond ±10^15 count as that: no stored number that means
//! anything has one.

use std::cmp::Ordering;

const EXPONENT_MAX: i64 = 1_000_000_000_000_000;

/// A number by its text. Equal and ordered as the numbers are, whatever their spelling.
#[derive(Clone, Copy, Debug)]
pub struct Decimal<'a> {
    is_negative: bool,
    /// The digits that matter, in two runs, as a point may stand between them: none is a leading or a trailing zero. Zero
    /// has none.
    head: &'a [u8],
    tail: &'a [u8],
    /// The number is 0.⟨digits⟩ × 10^exponent.
    exponent: i64,
}

impl<'a> Decimal<'a> {
    /// Reads `text`, all of it, by the grammar of JSON: no `+`, no leading zeros, no white space, digits around a point.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        match text.strip_prefix(b"-").unwrap_or(text) {
            [b'0', b'0'..=b'9', ..] => None,
            _ => Self::parse_with_zeros(text),
        }
    }

    /// Reads `text` likewise, but for zeros that may stand before the number's digits: `007` is 7.
    pub fn parse_with_zeros(text: &'a [u8]) -> Option<Self> {
        let (is_negative, text) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
        let (whole, rest) = digits(text)?;
        let whole = &whole[leading_zeros(whole).min(whole.len() - 1)..];
        let (fraction, rest) = rest.strip_prefix(b".").map_or(Some((&b""[..], rest)), digits)?;
        let written_exponent = match rest {
            [] => 0,
            [b'e' | b'E', exponent @ ..] => read_exponent(exponent)?,
            _ => return None,
        };
        let exponent = written_exponent.saturating_add_unsigned(whole.len() as u64);
        Some(Self::of_digits(is_negative, whole, fraction, exponent))
    }

    fn of_digits(is_negative: bool, whole: &'a [u8], fraction: &'a [u8], exponent: i64) -> Self {
        let (mut head, mut tail, mut exponent) = (whole, fraction, exponent);
        if head == b"0" {
            let zeros = leading_zeros(tail);
            head = &[];
            tail = &tail[zeros..];
            exponent = exponent.saturating_sub_unsigned(1 + zeros as u64);
        }
        tail = without_trailing_zeros(tail);
        if tail.is_empty() {
            head = without_trailing_zeros(head);
        }
        if head.is_empty() && tail.is_empty() {
            return Self { is_negative: false, head, tail, exponent: 0 };
        }
        Self { is_negative, head, tail, exponent }
    }

    fn sign(&self) -> i8 {
        match (self.head.is_empty() && self.tail.is_empty(), self.is_negative) {
            (true, _) => 0,
            (_, true) => -1,
            (_, false) => 1,
        }
    }

    fn cmp_magnitude(&self, other: &Self) -> Ordering {
        let digits = |number: &Self| number.head.iter().chain(number.tail).copied();
        // Without trailing zeros a number whose digits another one continues is the smaller.
        self.exponent.cmp(&other.exponent).then_with(|| digits(self).cmp(digits(other)))
    }
}

fn leading_zeros(digits: &[u8]) -> usize {
    digits.iter().take_while(|&&digit| digit == b'0').count()
}

fn digits(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (length > 0).then(|| text.split_at(length))
}

fn read_exponent(text: &[u8]) -> Option<i64> {
    let (is_negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let (digits, rest) = digits(text)?;
    if !rest.is_empty() {
        return None;
    }
    let magnitude = digits.iter().fold(0, |sum: i64, digit| (sum * 10 + i64::from(digit - b'0')).min(EXPONENT_MAX));
    Some(if is_negative { -magnitude } else { magnitude })
}

fn without_trailing_zeros(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().rev().take_while(|&&digit| digit == b'0').count();
    &digits[..digits.len() - zeros]
}

impl Ord for Decimal<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.sign().cmp(&other.sign()).then_with(|| match self.is_negative {
            false => self.cmp_magnitude(other),
            true => other.cmp_magnitude(self),
        })
    }
}

impl PartialOrd for Decimal<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Decimal<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Decimal<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decimal(text: &str) -> Decimal<'_> {
        Decimal::parse(text.as_bytes()).unwrap_or_else(|| panic!("{text} is a number"))
    }

    fn check(a: &str, b: &str, expected: Ordering) {
        assert_eq!(decimal(a).cmp(&decimal(b)), expected, "{a} {b}");
        assert_eq!(decimal(b).cmp(&decimal(a)), expected.reverse(), "{b} {a}");
    }

    #[test]
    fn spelling_does_not_count() {
        for same in [
            &["0", "-0", "0.0", "0e9", "-0.000e-7", "0e99999999999999999999"][..],
            &["1", "1.0", "1e0", "10e-1", "0.1e1", "0.001E+3", "1.000"],
            &["-120", "-1.2e2", "-12e1", "-0.12e3", "-120.00"],
            &["100000000000000000000", "1e20", "0.00001e25"],
            &["10.01", "1001e-2", "0.1001e2"],
        ] {
            for (a, b) in same.iter().flat_map(|a| same.iter().map(move |b| (a, b))) {
                check(a, b, Ordering::Equal);
            }
        }
    }

    #[test]
    fn no_digit_is_lost() {
        check("9007199254740993", "9007199254740992", Ordering::Greater);
        check("9223372036854775807", "9223372036854775807.0000000000000000001", Ordering::Less);
        check("0.1", "0.1000000000000000055511151231257827", Ordering::Less);
        check("12345678901234567890123456789012345678901", "12345678901234567890123456789012345678900", Ordering::Greater);
    }

    #[test]
    fn numbers_are_ordered_by_sign_size_and_digits() {
        let ordered =
            ["-1e300", "-11", "-10.5", "-10", "-1e-9", "0", "1e-400", "1e-9", "0.09", "0.1", "0.11", "1", "9", "10", "10.5", "11", "1e300"];
        for (i, a) in ordered.iter().enumerate() {
            for (j, b) in ordered.iter().enumerate() {
                check(a, b, i.cmp(&j));
            }
        }
    }

    #[test]
    fn zeros_before_the_digits_do_not_count_where_they_may_stand() {
        for (text, same) in [("000001", "1"), ("00", "0"), ("-007.50", "-7.5"), ("00.1", "0.1"), ("010e1", "100"), ("-00", "0"), ("0", "0")]
        {
            assert_eq!(Decimal::parse_with_zeros(text.as_bytes()), Some(decimal(same)), "{text}");
        }
        for text in ["", "-", "+1", "+01", " 01", "01 ", "01.", "00.", ".5", "0x01", "01e", "--01"] {
            assert!(Decimal::parse_with_zeros(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn only_the_grammar_of_json_is_a_number() {
        for text in
            ["", "-", "+1", "01", "-01", "1.", ".5", "1e", "1e+", " 1", "1 ", "1,000", "0x1", "NaN", "Infinity", "1e1.5", "١", "--1"]
        {
            assert!(Decimal::parse(text.as_bytes()).is_none(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn integers_compare_as_integers(a in any::<i64>(), b in any::<i64>(), zeros in 0_usize..5) {
            let fraction = if zeros > 0 { format!(".{}", "0".repeat(zeros)) } else { String::new() };
            check(&format!("{a}{fraction}"), &b.to_string(), a.cmp(&b));
        }

        #[test]
        fn doubles_compare_as_doubles(a in -1e30_f64..1e30, b in -1e-3_f64..1e3) {
            check(&format!("{a:e}"), &b.to_string(), a.total_cmp(&b));
        }

        #[test]
        fn small_decimals_compare_as_scaled_integers(a in -2000_i64..2000, b in -2000_i64..2000, a_exponent in -3_i64..3, b_exponent in -3_i64..3) {
            let scaled = |number: i64, exponent: i64| number * 10_i64.pow((exponent + 3) as u32);
            check(&format!("{a}e{a_exponent}"), &format!("{b}e{b_exponent}"), scaled(a, a_exponent).cmp(&scaled(b, b_exponent)));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[-+.eE0-9]*") {
            // serde_json refuses what is beyond a double; the grammar is the same.
            let is_json = serde_json::from_str::<Box<serde_json::value::RawValue>>(&text).is_ok();
            prop_assert_eq!(Decimal::parse(text.as_bytes()).is_some(), is_json, "{}", text);
            prop_assert!(!is_json || Decimal::parse_with_zeros(text.as_bytes()) == Decimal::parse(text.as_bytes()), "{}", text);
        }
    }
}
