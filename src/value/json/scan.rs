//! A plain reader of RFC 8259, to find the place of an error in a text that is refused.
//!
//! It accepts exactly what the fast check accepts, without recursion.

use super::{JsonError, JsonLimits, is_white_space};

type Checked = Result<(), JsonError>;

pub fn scan(text: &[u8], limits: JsonLimits) -> Checked {
    let utf8_end = match std::str::from_utf8(text) {
        Ok(_) => text.len(),
        Err(error) => error.valid_up_to(),
    };
    let mut scanner = Scanner { text, utf8_end, position: 0, open: Vec::new() };
    scanner.document(limits)
}

pub fn too_deep(position: usize, limits: JsonLimits) -> JsonError {
    let message = format!("found one more array or object within others, expected at most {}", limits.depth_max);
    JsonError { position, message }
}

struct Scanner<'a> {
    text: &'a [u8],
    /// Where UTF-8 breaks, or the end.
    utf8_end: usize,
    position: usize,
    /// The closing brackets still to come, innermost last.
    open: Vec<u8>,
}

impl Scanner<'_> {
    fn document(&mut self, limits: JsonLimits) -> Checked {
        if self.text.starts_with("\u{feff}".as_bytes()) {
            return Err(JsonError { position: 0, message: "found a byte order mark, expected a JSON value".into() });
        }
        loop {
            self.white_space();
            // A value, or the end of an array or object that has just begun.
            match (self.peek(), self.open.last()) {
                (Some(open @ (b'[' | b'{')), _) => {
                    if self.open.len() == limits.depth_max {
                        return Err(too_deep(self.position, limits));
                    }
                    self.position += 1;
                    self.open.push(open + 2);
                    self.white_space();
                    if self.peek() != Some(open + 2) {
                        self.key_if_in_object()?;
                        continue;
                    }
                    self.position += 1;
                    self.open.pop();
                }
                _ => self.scalar()?,
            }
            if self.after_value()? {
                return Ok(());
            }
        }
    }

    /// Closes what is to be closed and reads the comma; true at the end of the text.
    fn after_value(&mut self) -> Result<bool, JsonError> {
        loop {
            self.white_space();
            match (self.peek(), self.open.last()) {
                (None, None) => return Ok(true),
                (Some(_), None) => return Err(self.unexpected("the end of the text")),
                (Some(b','), Some(_)) => {
                    self.position += 1;
                    self.white_space();
                    self.key_if_in_object()?;
                    return Ok(false);
                }
                (Some(close), Some(&open)) if close == open => {
                    self.position += 1;
                    self.open.pop();
                }
                (_, Some(b']')) => return Err(self.unexpected("',' or ']'")),
                (_, Some(_)) => return Err(self.unexpected("',' or '}'")),
            }
        }
    }

    fn key_if_in_object(&mut self) -> Checked {
        if self.open.last() != Some(&b'}') {
            return Ok(());
        }
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("a key in quotation marks"));
        }
        self.string()?;
        self.white_space();
        if self.peek() != Some(b':') {
            return Err(self.unexpected("':'"));
        }
        self.position += 1;
        Ok(())
    }

    fn scalar(&mut self) -> Checked {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => self.literal("null"),
            _ => Err(self.unexpected("a JSON value")),
        }
    }

    fn literal(&mut self, literal: &str) -> Checked {
        for &byte in literal.as_bytes() {
            if self.peek() != Some(byte) {
                return Err(self.unexpected(&format!("the rest of `{literal}`")));
            }
            self.position += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Checked {
        let start = self.position;
        self.skip_if(|byte| byte == b'-');
        if self.skip_if(|byte| byte == b'0') {
            if self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
                return Err(self.unexpected("no digit behind a leading zero"));
            }
        } else {
            self.digits()?;
        }
        if self.skip_if(|byte| byte == b'.') {
            self.digits()?;
        }
        if self.skip_if(|byte| matches!(byte, b'e' | b'E')) {
            self.skip_if(|byte| matches!(byte, b'+' | b'-'));
            self.digits()?;
        }
        let digits = std::str::from_utf8(&self.text[start..self.position]).expect("a number is ASCII");
        if digits.parse::<f64>().expect("a JSON number is one to Rust").is_infinite() {
            let message = "found a number beyond the range of a double, expected one of at most 1.8e308".into();
            return Err(JsonError { position: start, message });
        }
        Ok(())
    }

    fn digits(&mut self) -> Checked {
        if !self.skip_if(|byte| byte.is_ascii_digit()) {
            return Err(self.unexpected("a digit"));
        }
        while self.skip_if(|byte| byte.is_ascii_digit()) {}
        Ok(())
    }

    fn string(&mut self) -> Checked {
        self.position += 1;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.position += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                Some(b' '..) if self.position < self.utf8_end => self.position += 1,
                Some(0..b' ') => return Err(self.unexpected("control characters in a string as escapes")),
                _ => return Err(self.unexpected("the rest of the string and a quotation mark")),
            }
        }
    }

    fn escape(&mut self) -> Checked {
        let start = self.position;
        self.position += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.position += 1;
                Ok(())
            }
            Some(b'u') => {
                let lone = JsonError {
                    position: start,
                    message: "found half of a surrogate pair, expected the escape of a character or of a pair".into(),
                };
                match self.code_unit()? {
                    0xd800..0xdc00 if self.text[self.position..].starts_with(b"\\u") => {
                        self.position += 1;
                        match self.code_unit()? {
                            0xdc00..0xe000 => Ok(()),
                            _ => Err(lone),
                        }
                    }
                    0xd800..0xe000 => Err(lone),
                    _ => Ok(()),
                }
            }
            _ => Err(self.unexpected("one of \"\\/bfnrtu behind the backslash")),
        }
    }

    /// The `u` of an escape and its four digits.
    fn code_unit(&mut self) -> Result<u32, JsonError> {
        self.position += 1;
        let mut unit = 0;
        for _ in 0..4 {
            let Some(digit) = self.peek().and_then(|byte| char::from(byte).to_digit(16)) else {
                return Err(self.unexpected("four hexadecimal digits behind `\\u`"));
            };
            unit = unit * 16 + digit;
            self.position += 1;
        }
        Ok(unit)
    }

    fn white_space(&mut self) {
        while self.skip_if(is_white_space) {}
    }

    fn skip_if(&mut self, is_wanted: impl Fn(u8) -> bool) -> bool {
        let skips = self.peek().is_some_and(is_wanted);
        self.position += usize::from(skips);
        skips
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.position).copied()
    }

    fn unexpected(&self, expected: &str) -> JsonError {
        let valid = std::str::from_utf8(&self.text[..self.utf8_end]).expect("UTF-8 up to there");
        let found = match valid.get(self.position..).and_then(|rest| rest.chars().next()) {
            Some(c) => format!("{c:?}"),
            None if self.position < self.text.len() => "bytes that are not UTF-8".into(),
            None => "the end of the text".into(),
        };
        JsonError { position: self.position, message: format!("found {found}, expected {expected}") }
    }
}
