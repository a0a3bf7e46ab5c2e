//! JSON text, walked in place: where strings, values and objects end, and which members an object has.
//!
//! Looks at structure only: what a string or a number says is left to whoever reads it. A walk over text that may not
//! be whole yet says so apart from saying that it is no JSON.

use super::Malformed;

const NO_MEMBER: Malformed = Malformed("an object of the text form is no JSON object");
const NO_VALUE: Malformed = Malformed("a JSON value starts with a character that starts none");

/// How many bytes the value at the start of `bytes` takes. `Ok(None)`: not whole yet.
#[inline]
pub fn value_length(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    Ok(match bytes {
        [] => None,
        [b'{' | b'[', rest @ ..] => close(rest, 1).map(|length| length + 1),
        [b'"', rest @ ..] => string_end(rest).map(|end| end + 2),
        [b'-' | b'0'..=b'9' | b't' | b'f' | b'n', ..] => {
            bytes.iter().position(|byte| matches!(byte, b',' | b'}' | b']') || is_space(*byte))
        }
        _ => return Err(NO_VALUE),
    })
}

/// How many bytes it takes until as many objects and arrays as are open are closed. None: not whole yet.
#[inline]
pub fn close(bytes: &[u8], mut open: usize) -> Option<usize> {
    let mut at = 0;
    loop {
        let byte = *bytes.get(at)?;
        at += 1;
        match byte {
            b'"' => at += string_end(&bytes[at..])? + 1,
            b'{' | b'[' => open += 1,
            b'}' | b']' if open == 1 => return Some(at),
            b'}' | b']' => open -= 1,
            _ => {}
        }
    }
}

/// Where the quote is that ends the string of which `bytes` start within. None: not whole yet.
#[inline]
pub fn string_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += first_special(bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

/// Where the first quote or backslash is. Eight bytes at a time: filler is most of what a delivery holds.
#[inline]
fn first_special(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const QUOTES: u64 = u64::from_ne_bytes([b'"'; 8]);
    const BACKSLASHES: u64 = u64::from_ne_bytes([b'\\'; 8]);
    // The lowest bit that is set is that of the first byte that is zero; bits above it may be wrong.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & (ONES << 7);
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let found = zeros(word ^ QUOTES) | zeros(word ^ BACKSLASHES);
        if found != 0 {
            return Some(index * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    rest.iter().position(|byte| matches!(byte, b'"' | b'\\')).map(|position| words.len() * 8 + position)
}

/// The digits at the start of `bytes` as a number, and what follows them.
#[inline]
pub fn take_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let count = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = bytes.split_at(count);
    let number = digits.iter().try_fold(0u64, |number, digit| number.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
    (count > 0).then_some(())?;
    Some((number?, rest))
}

/// A value that is to be a number without sign or fraction.
pub fn number(value: &[u8]) -> Result<u64, Malformed> {
    match take_number(value) {
        Some((number, [])) => Ok(number),
        _ => Err(Malformed("a member that is a number is something else")),
    }
}

/// A value that is to be a string, as it is written: escapes are left as they are.
pub fn string(value: &[u8]) -> Result<&str, Malformed> {
    let inner = value
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""))
        .ok_or(Malformed("a member that is a string is something else"))?;
    std::str::from_utf8(inner).map_err(|_| Malformed("a text is not UTF-8"))
}

/// A member's name, without quotes, and its value's text.
pub type Member<'a> = (&'a [u8], &'a [u8]);

/// The members of an object, in their order.
pub struct Members<'a> {
    rest: &'a [u8],
    is_first: bool,
}

impl<'a> Members<'a> {
    /// `object` is the text of a whole value.
    pub fn new(object: &'a [u8]) -> Result<Self, Malformed> {
        let rest = object.strip_prefix(b"{").ok_or(NO_MEMBER)?;
        Ok(Self { rest: skip_space(rest), is_first: true })
    }

    /// The next member, until there is none.
    pub fn next_member(&mut self) -> Result<Option<Member<'a>>, Malformed> {
        if self.rest == b"}" {
            return Ok(None);
        }
        if !std::mem::replace(&mut self.is_first, false) {
            self.rest = skip_space(self.rest.strip_prefix(b",").ok_or(NO_MEMBER)?);
        }
        let rest = self.rest.strip_prefix(b"\"").ok_or(NO_MEMBER)?;
        let end = string_end(rest).ok_or(NO_MEMBER)?;
        let (name, rest) = rest.split_at(end);
        let rest = skip_space(skip_space(&rest[1..]).strip_prefix(b":").ok_or(NO_MEMBER)?);
        let length = value_length(rest)?.ok_or(NO_MEMBER)?;
        let (value, rest) = rest.split_at(length);
        self.rest = skip_space(rest);
        Ok(Some((name, value)))
    }
}

pub fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn skip_space(bytes: &[u8]) -> &[u8] {
    let count = bytes.iter().take_while(|byte| is_space(**byte)).count();
    &bytes[count..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_length(value: &str) {
        let text = format!("{value},\"next\":1}}");
        assert_eq!(value_length(text.as_bytes()), Ok(Some(value.len())), "{value}");
        for cut in 0..value.len() {
            assert_eq!(value_length(&value.as_bytes()[..cut]), Ok(None), "{value} cut at {cut}");
        }
    }

    #[test]
    fn a_value_ends_where_it_ends() {
        for value in ["1", "-1.5e9", "null", "true", r#""""#, r#""a\"}\\""#, "[]", "{}", r#"{"a":[1,{"b":"]}"}],"c":"\\"}"#, "[[[1]],2]"] {
            check_length(value);
        }
        for text in ["x", ":", "}", "]", ","] {
            assert_eq!(value_length(text.as_bytes()), Err(NO_VALUE), "{text}");
        }
    }

    #[test]
    fn a_quote_is_found_wherever_it_stands() {
        for before in 0..40 {
            for (special, length) in [("\"", 0), ("\\\"\"", 2), ("\\\\\"", 2)] {
                let text = format!("{}{special}\"", "!é".repeat(40).chars().take(before).collect::<String>());
                let start = text.find(special).unwrap();
                assert_eq!(string_end(text.as_bytes()), Some(start + length), "{text}");
                assert_eq!(string_end(&text.as_bytes()[..start + length]), None, "{text}");
            }
        }
    }

    fn members(object: &str) -> Result<Vec<(String, String)>, Malformed> {
        let mut members = Members::new(object.as_bytes())?;
        let mut found = Vec::new();
        while let Some((name, value)) = members.next_member()? {
            found.push([name, value].map(|text| String::from_utf8(text.to_vec()).unwrap()).into());
        }
        Ok(found)
    }

    #[test]
    fn an_objects_members_come_in_their_order() {
        assert_eq!(members("{}"), Ok(vec![]));
        let expected = [("a", "1"), ("b", r#"{"c":[]}"#), ("d", r#""}""#)].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(members(r#"{"a":1,"b":{"c":[]},"d":"}"}"#), Ok(expected.to_vec()));
        assert_eq!(members("{ \"a\" : 1\n, \"b\":{\"c\":[]},\t\"d\":\"}\" }"), Ok(expected.to_vec()));
    }

    #[test]
    fn what_is_no_object_is_malformed() {
        for text in ["[]", "1", r#"{"a"}"#, r#"{"a":}"#, r#"{"a":1,}"#, r#"{,"a":1}"#, r#"{"a":1 "b":2}"#, "{a:1}", r#"{"a":1]"#, "{}}"] {
            assert!(members(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_and_strings_are_read_as_such() {
        assert_eq!(number(b"18446744073709551615"), Ok(u64::MAX));
        for text in ["", "-1", "1.5", "18446744073709551616", "\"1\""] {
            assert!(number(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(string(r#""a\"b""#.as_bytes()), Ok(r#"a\"b"#));
        assert!(string(b"1").is_err() && string(b"\"\xff\"").is_err());
    }
}
