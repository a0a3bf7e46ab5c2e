//! Reading the small languages of topics and sessions: words, numbers, quoted texts, and errors that say where.
//!
//! White space is free between tokens and keywords have no case. A position is a byte offset in the text that was given,
//! also for what was wrong inside a quoted text. Which tokens make a language is left to each of them.

use std::borrow::Cow;
use std::fmt;

/// Why a text is not in its language: the client's fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// The byte offset in the text.
    pub position: usize,
    pub found: String,
    pub expected: String,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "found {} at byte {}, expected {}", self.found, self.position, self.expected)
    }
}

impl std::error::Error for SyntaxError {}

/// Refuses a text that is longer than its language allows, before anything is read.
pub(crate) fn check_length(text: &str, what: &str, bytes_max: usize) -> Result<(), SyntaxError> {
    if text.len() <= bytes_max {
        return Ok(());
    }
    let found = format!("{what} of {} bytes", text.len());
    Err(SyntaxError { position: bytes_max, found, expected: format!("at most {bytes_max}") })
}

/// Refuses a text whose canonical form is longer than its language allows: what is stored must read back.
pub(crate) fn check_canonical_length(text: &str, canonical: &str, bytes_max: usize) -> Result<(), SyntaxError> {
    if canonical.len() <= bytes_max {
        return Ok(());
    }
    let found = format!("a text of {} bytes in canonical form", canonical.len());
    Err(SyntaxError { position: text.len(), found, expected: format!("at most {bytes_max}") })
}

/// What is found where nothing stands any more.
pub(crate) const THE_END: &str = "the end of the text";

/// A place in a text. Every `take_*` skips white space first, and stays where it is when it does not find what it looks for.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    text: &'a str,
    position: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, position: 0 }
    }

    /// Where the next token starts.
    pub fn position(&self) -> usize {
        self.text.len() - self.rest().len()
    }

    /// The word that stands next, without taking it; empty if none does.
    pub fn word(&self) -> &'a str {
        let rest = self.rest();
        &rest[..rest.find(|c| !is_word_character(c)).unwrap_or(rest.len())]
    }

    pub fn take_word(&mut self) -> &'a str {
        let word = self.word();
        if !word.is_empty() {
            self.position = self.position() + word.len();
        }
        word
    }

    pub fn is_keyword(&self, keyword: &str) -> bool {
        self.word().eq_ignore_ascii_case(keyword)
    }

    pub fn take_keyword(&mut self, keyword: &str) -> Option<()> {
        self.is_keyword(keyword).then(|| {
            self.take_word();
        })
    }

    /// Takes all of `keywords`, which stand in this order.
    pub fn expect_keywords(&mut self, keywords: &[&str]) -> Result<(), SyntaxError> {
        for keyword in keywords {
            self.take_keyword(keyword).ok_or_else(|| self.error(&format!("`{keyword}`")))?;
        }
        Ok(())
    }

    pub fn take_symbol(&mut self, symbol: char) -> Option<()> {
        self.rest().starts_with(symbol).then(|| self.position = self.position() + symbol.len_utf8())
    }

    /// Takes a number of decimal digits; what follows may touch it, as in `5m`.
    pub fn expect_number(&mut self, expected: &str) -> Result<u64, SyntaxError> {
        let rest = self.rest();
        let digits = &rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())];
        if digits.is_empty() {
            return Err(self.error(expected));
        }
        let number = digits.parse().map_err(|_| SyntaxError {
            position: self.position(),
            found: format!("`{}`", brief(digits)),
            expected: format!("at most {}", u64::MAX),
        })?;
        self.position = self.position() + digits.len();
        Ok(number)
    }

    pub fn is_quoted(&self) -> bool {
        self.rest().starts_with(QUOTATION_MARKS)
    }

    /// Takes a text in `'` or `"`. A backslash before a quotation mark or a backslash takes away its meaning; before
    /// anything else it is a plain character, so that the regex `\d` may be written as it is.
    pub fn expect_quoted(&mut self, expected: &str) -> Result<Quoted<'a>, SyntaxError> {
        let rest = self.rest();
        let Some(mark) = rest.chars().next().filter(|c| QUOTATION_MARKS.contains(c)) else {
            return Err(self.error(expected));
        };
        let start = self.position() + 1;
        let mut escaped = false;
        for (index, c) in rest[1..].char_indices() {
            match c {
                _ if escaped => escaped = false,
                // A backslash before a plain character needs no care: that character ends nothing.
                '\\' => escaped = true,
                _ if c == mark => {
                    self.position = start + index + 1;
                    return Ok(Quoted { raw: &self.text[start..start + index], start });
                }
                _ => {}
            }
        }
        let found = format!("{}, which is not closed", brief(rest));
        Err(SyntaxError { position: start - 1, found, expected: format!("a closing {mark}") })
    }

    pub fn expect_end(&self, expected: &str) -> Result<(), SyntaxError> {
        if self.rest().is_empty() { Ok(()) } else { Err(self.error(expected)) }
    }

    /// Names what stands next as not what was expected.
    pub fn error(&self, expected: &str) -> SyntaxError {
        SyntaxError { position: self.position(), found: self.found(), expected: expected.into() }
    }

    /// What stands next, for people.
    fn found(&self) -> String {
        match (self.word(), self.rest().chars().next()) {
            (_, None) => THE_END.into(),
            ("", Some(c)) => format!("{c:?}"),
            (word, _) => format!("`{}`", brief(word)),
        }
    }

    /// What stands from the next token on.
    pub fn rest(&self) -> &'a str {
        self.text[self.position..].trim_start()
    }

    /// Takes the next `bytes` of [`Self::rest`], which end between two characters.
    pub fn take(&mut self, bytes: usize) -> &'a str {
        let taken = &self.rest()[..bytes];
        self.position = self.position() + bytes;
        taken
    }
}

const QUOTATION_MARKS: [char; 2] = ['\'', '"'];

fn is_word_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '.' | '-')
}

/// A quoted text as written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quoted<'a> {
    raw: &'a str,
    start: usize,
}

impl<'a> Quoted<'a> {
    /// What it says.
    pub fn content(self) -> Cow<'a, str> {
        if !self.raw.contains('\\') {
            return Cow::Borrowed(self.raw);
        }
        let mut content = String::with_capacity(self.raw.len());
        content.extend(characters(self.raw).map(|(_, c)| c));
        Cow::Owned(content)
    }

    /// Where in the whole text the byte `offset` of the content stands.
    pub fn position_of(self, offset: usize) -> usize {
        let mut content_offset = 0;
        for (index, c) in characters(self.raw) {
            if content_offset >= offset {
                return self.start + index;
            }
            content_offset += c.len_utf8();
        }
        self.start + self.raw.len()
    }

    /// Moves an error inside the content to its place in the whole text.
    pub fn locate(self, error: SyntaxError) -> SyntaxError {
        SyntaxError { position: self.position_of(error.position), ..error }
    }
}

/// The characters that `raw` stands for, each with where it is written.
fn characters(raw: &str) -> impl Iterator<Item = (usize, char)> {
    let mut rest = raw.char_indices().peekable();
    std::iter::from_fn(move || {
        let (index, c) = rest.next()?;
        let escaped = if c == '\\' { rest.next_if(|(_, c)| *c == '\\' || QUOTATION_MARKS.contains(c)) } else { None };
        Some((index, escaped.map_or(c, |(_, c)| c)))
    })
}

/// Prints `content` in double quotes, so that it reads back as the same.
pub(crate) fn print_quoted(content: &str, out: &mut String) {
    print_between('"', content, out);
}

/// Prints `content` in single quotes, which suit a text that has double ones.
pub(crate) fn print_single_quoted(content: &str, out: &mut String) {
    print_between('\'', content, out);
}

fn print_between(mark: char, content: &str, out: &mut String) {
    out.push(mark);
    for c in content.chars() {
        if c == mark || c == '\\' {
            out.push('\\');
        }
        out.push(c);
    }
    out.push(mark);
}

/// A text short enough to be quoted in an error.
pub(crate) fn brief(text: &str) -> String {
    const CHARS_MAX: usize = 40;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}

#[cfg(test)]
pub(crate) mod fuzz {
    //! Texts that are almost in a language, the same ones on every run.

    use super::SyntaxError;

    /// A small generator of numbers; the sequence depends on the seed alone.
    pub struct Numbers(pub u64);

    impl Numbers {
        pub fn next(&mut self, below: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((self.0 >> 33) as usize) % below.max(1)
        }

        pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
            from[self.next(from.len())]
        }
    }

    /// Gives `parse` each of `texts` mutated many times over, and noise. Every error must lie inside its text.
    pub fn check(texts: &[&str], mut parse: impl FnMut(&str) -> Result<(), SyntaxError>) {
        let mut numbers = Numbers(7);
        for round in 0..20_000 {
            let mut bytes = match round % 8 {
                0 => (0..numbers.next(40)).map(|_| numbers.next(256) as u8).collect(),
                1 => (0..numbers.next(60)).map(|_| numbers.pick(b"\"'\\()[],<9a \xff")).collect(),
                _ => numbers.pick(texts).as_bytes().to_vec(),
            };
            for _ in 0..numbers.next(4) {
                mutate(&mut bytes, texts, &mut numbers);
            }
            let text = String::from_utf8_lossy(&bytes);
            if let Err(error) = parse(&text) {
                assert!(error.position <= text.len(), "{text:?}: {error}");
                assert!(!error.found.is_empty() && !error.expected.is_empty(), "{text:?}: {error}");
            }
        }
    }

    fn mutate(bytes: &mut Vec<u8>, texts: &[&str], numbers: &mut Numbers) {
        let at = numbers.next(bytes.len() + 1);
        match numbers.next(5) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => bytes[at] = numbers.next(256) as u8,
            2 => bytes.insert(at, numbers.pick(b"'\"\\()[] ,<0aZ$")),
            3 if at < bytes.len() => drop(bytes.drain(at..(at + 1 + numbers.next(6)).min(bytes.len()))),
            _ => {
                let other = numbers.pick(texts).as_bytes();
                let from = numbers.next(other.len());
                let piece = &other[from..(from + numbers.next(24)).min(other.len())];
                bytes.splice(at..at, piece.iter().copied());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check_quoted(text: &str, expected: &str) {
        let mut cursor = Cursor::new(text);
        let quoted = cursor.expect_quoted("a quoted text").unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(quoted.content(), expected, "{text}");
        cursor.expect_end("the end").unwrap();
    }

    #[test]
    fn a_backslash_escapes_marks_and_itself_alone() {
        check_quoted(r#" 'a "b"' "#, r#"a "b""#);
        check_quoted(r#""a 'b'""#, "a 'b'");
        check_quoted(r"'it\'s'", "it's");
        check_quoted(r#"'\"'"#, "\"");
        check_quoted(r"'\d+\.'", r"\d+\.");
        check_quoted(r"'\\d\\'", r"\d\");
        check_quoted("''", "");
        for open in ["'", "\"a'", r"'a\'", r"'\\\'"] {
            let error = Cursor::new(open).expect_quoted("a quoted text").expect_err(open);
            assert_eq!((error.position, error.expected.starts_with("a closing ")), (0, true), "{error}");
        }
    }

    #[test]
    fn a_place_in_the_content_is_found_in_the_text() {
        let quoted = Cursor::new(r#"  "a\"é\d""#).expect_quoted("a quoted text").unwrap();
        assert_eq!(quoted.content(), r#"a"é\d"#);
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 99].map(|offset| quoted.position_of(offset)), [3, 4, 6, 8, 8, 9, 10, 10]);
    }

    #[test]
    fn a_word_is_taken_whole_or_not_at_all() {
        let mut cursor = Cursor::new("  When5 x");
        assert_eq!(cursor.take_keyword("when"), None);
        assert_eq!(cursor.take_keyword("when5"), Some(()));
        assert_eq!((cursor.position(), cursor.take_word()), (8, "x"));
        assert_eq!(cursor.error("more").to_string(), "found the end of the text at byte 9, expected more");
    }

    #[test]
    fn a_number_must_fit() {
        assert_eq!(Cursor::new(" 18446744073709551615m").expect_number("a number"), Ok(u64::MAX));
        for text in ["18446744073709551616", "-1", "", "x"] {
            Cursor::new(text).expect_number("a number").expect_err(text);
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_in_quotes_reads_back(content in r#"[a"'\\é ]{0,12}"#) {
            for print in [print_quoted, print_single_quoted] {
                let mut text = String::new();
                print(&content, &mut text);
                let mut cursor = Cursor::new(&text);
                let quoted = cursor.expect_quoted("a quoted text").unwrap();
                prop_assert_eq!(quoted.content(), content.as_str());
                prop_assert!(cursor.expect_end("the end").is_ok());
            }
        }
    }
}
