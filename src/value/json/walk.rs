//! Steps through JSON text without building a tree.
//!
//! Takes text that has been checked and is compact, as values are stored, and hands out slices of it. A value that is
//! passed over costs one look at each of its bytes, and nothing is allocated. On other text the answers mean nothing,
//! but nothing panics.

use std::borrow::Cow;

/// The members of an object; none where `text` is another value.
pub fn members(text: &[u8]) -> Members<'_> {
    Members { text, position: if text.first() == Some(&b'{') { 1 } else { text.len() } }
}

/// The elements of an array; none where `text` is another value.
pub fn elements(text: &[u8]) -> Elements<'_> {
    Elements { text, position: if text.first() == Some(&b'[') { 1 } else { text.len() } }
}

/// What stands between the quotation marks, where `text` is a string.
pub fn string(text: &[u8]) -> Option<Text<'_>> {
    Some(Text { content: text.strip_prefix(b"\"")?.strip_suffix(b"\"")? })
}

/// What kind of value `text` is, for people.
pub fn noun(text: &[u8]) -> &'static str {
    match text.first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// The most arrays and objects within each other in `text`.
pub fn depth(text: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut position = 0;
    while let Some(&byte) = text.get(position) {
        match byte {
            b'"' => {
                position = string_end(text, position).unwrap_or(text.len());
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
        position += 1;
    }
    deepest
}

pub struct Members<'a> {
    text: &'a [u8],
    position: usize,
}

#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    pub name: Text<'a>,
    pub value: &'a [u8],
    /// The offset of the name's first quotation mark in the object.
    pub position: usize,
    /// The offset of the value in the object.
    pub value_position: usize,
}

impl<'a> Iterator for Members<'a> {
    type Item = Member<'a>;

    fn next(&mut self) -> Option<Member<'a>> {
        let position = self.position;
        if self.text.get(position) != Some(&b'"') {
            return None;
        }
        let name_end = string_end(self.text, position)?;
        let name = string(&self.text[position..name_end])?;
        let value_position = name_end + 1;
        let end = value_end(self.text, value_position)?;
        self.position = end + 1;
        Some(Member { name, value: &self.text[value_position..end], position, value_position })
    }
}

pub struct Elements<'a> {
    text: &'a [u8],
    position: usize,
}

/// Each element with its offset in the array.
impl<'a> Iterator for Elements<'a> {
    type Item = (usize, &'a [u8]);

    fn next(&mut self) -> Option<(usize, &'a [u8])> {
        let position = self.position;
        if matches!(self.text.get(position), None | Some(b']')) {
            return None;
        }
        let end = value_end(self.text, position)?;
        self.position = end + 1;
        Some((position, &self.text[position..end]))
    }
}

/// A string as JSON writes it, escapes and all, without its quotation marks.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    content: &'a [u8],
}

impl<'a> Text<'a> {
    pub fn new(content: &'a [u8]) -> Self {
        Self { content }
    }

    pub fn content(self) -> &'a [u8] {
        self.content
    }

    /// Whether it stands for the characters of `wanted`.
    #[inline]
    pub fn is(self, wanted: &[u8]) -> bool {
        // Every escape is longer than the character that it stands for.
        if self.content.len() == wanted.len() {
            return self.content == wanted && !wanted.contains(&b'\\');
        }
        // Most names that are another differ at once.
        let may_be = |first: &u8| *first == b'\\' || wanted.first() == Some(first);
        self.content.len() > wanted.len() && self.content.first().is_some_and(may_be) && self.is_with_escapes(wanted)
    }

    /// The characters that it stands for.
    pub fn decode(self) -> Cow<'a, [u8]> {
        if !self.has_escapes() {
            return Cow::Borrowed(self.content);
        }
        let mut decoded = Vec::with_capacity(self.content.len());
        self.all_pieces(|piece| {
            decoded.extend_from_slice(piece);
            true
        });
        Cow::Owned(decoded)
    }

    pub fn has_escapes(self) -> bool {
        self.content.contains(&b'\\')
    }

    fn is_with_escapes(self, wanted: &[u8]) -> bool {
        let mut rest = wanted;
        self.has_escapes()
            && self.all_pieces(|piece| {
                let tail = rest.strip_prefix(piece);
                rest = tail.unwrap_or(rest);
                tail.is_some()
            })
            && rest.is_empty()
    }

    /// Hands out what it stands for piece by piece, while `take` says true; whether it always did.
    fn all_pieces(self, mut take: impl FnMut(&[u8]) -> bool) -> bool {
        let mut rest = self.content;
        while !rest.is_empty() {
            let plain = rest.iter().position(|&byte| byte == b'\\').unwrap_or(rest.len());
            if plain > 0 {
                if !take(&rest[..plain]) {
                    return false;
                }
                rest = &rest[plain..];
                continue;
            }
            let Some((character, length)) = escape(rest) else { return false };
            if !take(character.encode_utf8(&mut [0; 4]).as_bytes()) {
                return false;
            }
            rest = &rest[length..];
        }
        true
    }
}

/// The character of the escape that `text` starts with, and how many bytes that takes.
fn escape(text: &[u8]) -> Option<(char, usize)> {
    let character = match *text.get(1)? {
        byte @ (b'"' | b'\\' | b'/') => char::from(byte),
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let first = code_unit(text)?;
            if let Some(character) = char::from_u32(first.into()) {
                return Some((character, 6));
            }
            let second = text.get(6..).filter(|rest| rest.starts_with(b"\\u")).and_then(code_unit)?;
            let pair = char::decode_utf16([first, second]).next()?.ok()?;
            return Some((pair, 12));
        }
        _ => return None,
    };
    Some((character, 2))
}

fn code_unit(text: &[u8]) -> Option<u16> {
    text.get(2..6)?.iter().try_fold(0, |unit: u16, &byte| {
        let digit = char::from(byte).to_digit(16)?;
        Some(unit << 4 | digit as u16)
    })
}

/// Where the value that starts at `start` ends.
#[inline]
pub fn value_end(text: &[u8], start: usize) -> Option<usize> {
    match *text.get(start)? {
        b'"' => string_end(text, start),
        b'{' | b'[' => close(text, start + 1, 1),
        _ => {
            let length = text[start..].iter().position(|byte| matches!(byte, b',' | b'}' | b']'));
            Some(length.map_or(text.len(), |length| start + length))
        }
    }
}

/// Where the innermost `open` arrays and objects around `position` are closed, behind the last bracket.
pub fn close(text: &[u8], position: usize, open: usize) -> Option<usize> {
    let (mut position, mut open) = (position, open);
    while open > 0 {
        match *text.get(position)? {
            b'"' => {
                position = string_end(text, position)?;
                continue;
            }
            b'{' | b'[' => open += 1,
            b'}' | b']' => open -= 1,
            _ => {}
        }
        position += 1;
    }
    Some(position)
}

/// Where the string whose first quotation mark is at `start` ends, behind its last.
pub fn string_end(text: &[u8], start: usize) -> Option<usize> {
    let mut position = start + 1;
    loop {
        while let Some(eight) = text.get(position..position + 8) {
            let word = u64::from_le_bytes(eight.try_into().expect("eight bytes"));
            let marks = marks_of(word, b'"') | marks_of(word, b'\\');
            if marks != 0 {
                position += marks.trailing_zeros() as usize / 8;
                break;
            }
            position += 8;
        }
        match *text.get(position)? {
            b'"' => return Some(position + 1),
            b'\\' => position += 2,
            _ => position += 1,
        }
    }
}

/// The high bit of the first byte of `word` that is `wanted`, and of none before it.
#[inline]
fn marks_of(word: u64, wanted: u8) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH_BITS: u64 = u64::from_le_bytes([0x80; 8]);
    let differences = word ^ (ONES * u64::from(wanted));
    // The borrow of a byte that is zero may mark bytes behind it, never before.
    differences.wrapping_sub(ONES) & !differences & HIGH_BITS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `text` is a value that ends where it does, whatever stands behind it.
    fn check_end(text: &str) {
        for behind in ["", ",\"", "]]]", "}:1"] {
            let long = format!("{text}{behind}");
            assert_eq!(value_end(long.as_bytes(), 0), Some(text.len()), "{long}");
        }
    }

    #[test]
    fn a_value_ends_where_its_bracket_or_quotation_mark_closes() {
        for text in ["1", "-1.5e+3", "true", "null", "\"\"", "\"a\"", "\"\\\"\"", "\"\\\\\"", "\"]}\"", "[]", "{}"] {
            check_end(text);
        }
        check_end(r#"{"a":[1,{"]}":"}"},[[]]],"\\":"\"]"}"#);
        for length in 0..20 {
            check_end(&format!("\"{}\"", "x".repeat(length)));
            check_end(&format!("\"{}\\\"{}\"", "x".repeat(length), "é".repeat(length)));
        }
    }

    #[test]
    fn members_and_elements_are_slices_with_their_places() {
        let text = br#"{"a":1,"b,":[2,"]"],"":{"c":{}}}"#;
        let found: Vec<_> = members(text).map(|member| (member.name.content(), member.value)).collect();
        assert_eq!(found, [(&b"a"[..], &b"1"[..]), (b"b,", b"[2,\"]\"]"), (b"", b"{\"c\":{}}")]);
        for member in members(text) {
            assert!(text[member.value_position..].starts_with(member.value) && text[member.position] == b'"');
        }
        let text = br#"[[],"a,b",{"x":[1]},null]"#;
        let found: Vec<_> = elements(text).collect();
        assert_eq!(found, [(1, &b"[]"[..]), (4, b"\"a,b\""), (10, b"{\"x\":[1]}"), (20, b"null")]);
        for scalar in ["1", "\"{\"", "[]", "{}", ""] {
            assert_eq!(members(scalar.as_bytes()).count() + elements(scalar.as_bytes()).count(), 0, "{scalar}");
        }
    }

    #[test]
    fn depth_counts_brackets_outside_strings() {
        for (text, expected) in [("1", 0), ("\"[[\"", 0), ("[]", 1), ("[{},{}]", 2), (r#"{"[":[[1],"\"]"]}"#, 3)] {
            assert_eq!(depth(text.as_bytes()), expected, "{text}");
        }
    }

    fn check_is(content: &str, wanted: &str, expected: bool) {
        let text = Text::new(content.as_bytes());
        assert_eq!(text.is(wanted.as_bytes()), expected, "{content} {wanted}");
        assert_eq!(*text.decode() == *wanted.as_bytes(), expected, "{content} {wanted}");
    }

    #[test]
    fn names_are_equal_by_the_characters_that_they_stand_for() {
        check_is("", "", true);
        check_is("abc", "abc", true);
        check_is("abc", "abd", false);
        check_is("abc", "ab", false);
        check_is(r"\u0061bc", "abc", true);
        check_is(r"a\u00E9", "aé", true);
        check_is(r"a\u00e9", "aè", false);
        check_is(r"\ud83c\udf0a", "🌊", true);
        check_is(r"\n\t\r\b\f\/\\\u0022", "\n\t\r\u{8}\u{c}/\\\"", true);
        // The same bytes, but another string.
        check_is(r"\n", r"\n", false);
        check_is(r"a\\", "a", false);
        check_is(r"a\u0062", "a", false);
    }

    proptest! {
        #[test]
        fn strings_decode_as_serde_json_decodes_them(content in r#"([a-zé🌊 ]|\\["\\/bfnrt]|\\u[0-9a-cA-C]{4}|\\ud83c\\udf0a)*"#, other in "[a-z\"\\\\é]*") {
            let expected = serde_json::from_str::<String>(&format!("\"{content}\"")).unwrap();
            check_is(&content, &expected, true);
            check_is(&content, &other, expected == other);
        }

        #[test]
        fn any_bytes_are_walked(text in "[\\[\\]{}\",:\\\\u0-9a-f]*") {
            let bytes = text.as_bytes();
            members(bytes).for_each(|member| drop(member.name.decode()));
            prop_assert!(elements(bytes).count() <= bytes.len());
            let _ = (depth(bytes), string(bytes).map(|text| text.is(b"a")));
        }
    }
}
