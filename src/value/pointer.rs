//! JSON Pointer (RFC 6901): names one value inside a JSON value.
//!
//! A pointer is parsed once; [`find`] then looks for it straight in the compact text and hands out the slice. It reads
//! each byte once at most, however deep the pointer leads, and allocates nothing.
//!
//! Where an object has a name twice, the last one is meant: JSON readers in browsers and elsewhere see that one.

use std::fmt;

use super::json::walk;

/// The most levels: none of the values that the server takes is deeper by default.
pub const TOKENS_MAX: usize = 256;

/// A parsed pointer. The empty one means the whole value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pointer {
    tokens: Box<[Token]>,
}

/// One level: the name of a member, or the index of an element where the value is an array.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    name: Box<str>,
    index: Option<usize>,
}

impl Pointer {
    pub fn parse(text: &str) -> Result<Self, PointerError> {
        if text.is_empty() {
            return Ok(Self { tokens: Box::default() });
        }
        let mut tokens = Vec::new();
        let mut position = 0;
        let Some(levels) = text.strip_prefix('/') else {
            let found = text.chars().next().map_or("nothing".into(), |c| format!("{c:?}"));
            return Err(PointerError { position, found, expected: "'/', or nothing for the whole value".into() });
        };
        for level in levels.split('/') {
            if tokens.len() == TOKENS_MAX {
                return Err(PointerError { position, found: "one more level".into(), expected: format!("at most {TOKENS_MAX} levels") });
            }
            tokens.push(Token::parse(level, position + 1)?);
            position += 1 + level.len();
        }
        Ok(Self { tokens: tokens.into() })
    }

    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// Its text, cut where it is long: for errors.
    pub fn brief(&self) -> String {
        const BYTES_MAX: usize = 100;
        let mut text = String::new();
        for token in &self.tokens {
            text.push('/');
            for c in token.name.chars() {
                if text.len() >= BYTES_MAX {
                    text.push('…');
                    return text;
                }
                match c {
                    '~' => text.push_str("~0"),
                    '/' => text.push_str("~1"),
                    _ => text.push(c),
                }
            }
        }
        text
    }

    /// Whether it means a value inside the one that `other` means.
    pub fn is_inside(&self, other: &Self) -> bool {
        self.tokens.len() > other.tokens.len() && self.tokens.starts_with(&other.tokens)
    }
}

impl Token {
    fn parse(text: &str, position: usize) -> Result<Self, PointerError> {
        let mut name = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(tilde) = rest.find('~') {
            name.push_str(&rest[..tilde]);
            match rest.as_bytes().get(tilde + 1) {
                Some(b'0') => name.push('~'),
                Some(b'1') => name.push('/'),
                _ => {
                    let found = rest[tilde + 1..].chars().next().map_or("the end of the level".into(), |c| format!("{c:?}"));
                    let position = position + text.len() - rest.len() + tilde + 1;
                    return Err(PointerError { position, found, expected: "'0' or '1' behind '~'".into() });
                }
            }
            rest = &rest[tilde + 2..];
        }
        name.push_str(rest);
        Ok(Self { index: index(&name), name: name.into() })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The index in an array: decimal digits without leading zeros.
    pub fn index(&self) -> Option<usize> {
        self.index
    }

    /// Whether it means the place behind an array's last element.
    pub fn is_append(&self) -> bool {
        &*self.name == "-"
    }
}

fn index(name: &str) -> Option<usize> {
    let is_plain = name == "0" || !name.starts_with(['0', '+']);
    if is_plain { name.parse().ok() } else { None }
}

/// The value that `pointer` means in `text`, which is compact JSON; `None` where there is none.
pub fn find<'a>(text: &'a [u8], pointer: &Pointer) -> Option<&'a [u8]> {
    find_below(text, &pointer.tokens)
}

/// The value that `tokens` lead to in `text`, which is compact JSON: a pointer's, or the last of them.
pub fn find_below<'a>(text: &'a [u8], tokens: &[Token]) -> Option<&'a [u8]> {
    find_at(text, 0, tokens)?.value
}

/// What was found in a value, and how far it was read: up to `position`, with `open` arrays and objects still to be
/// closed. Arrays are left open, for nothing behind the element matters but to an object around them.
struct Found<'a> {
    value: Option<&'a [u8]>,
    position: usize,
    open: usize,
}

/// Looks in the value that starts at `start`. It calls itself once a token.
fn find_at<'a>(text: &'a [u8], start: usize, tokens: &[Token]) -> Option<Found<'a>> {
    let Some((token, inner_tokens)) = tokens.split_first() else {
        let end = walk::value_end(text, start)?;
        return Some(Found { value: Some(&text[start..end]), position: end, open: 0 });
    };
    match text.get(start)? {
        b'{' => find_in_object(text, start, token, inner_tokens),
        b'[' => find_in_array(text, start, token, inner_tokens),
        _ => Some(Found { value: None, position: walk::value_end(text, start)?, open: 0 }),
    }
}

/// Reads on behind the member, as a later one of the same name would be the one that counts.
fn find_in_object<'a>(text: &'a [u8], start: usize, token: &Token, inner_tokens: &[Token]) -> Option<Found<'a>> {
    let mut value = None;
    let mut position = start + 1;
    while text.get(position) == Some(&b'"') {
        let name_end = walk::string_end(text, position)?;
        let name = walk::string(&text[position..name_end])?;
        if name.is(token.name.as_bytes()) {
            let inner = find_at(text, name_end + 1, inner_tokens)?;
            value = inner.value;
            position = walk::close(text, inner.position, inner.open)?;
        } else {
            position = walk::value_end(text, name_end + 1)?;
        }
        if text.get(position) == Some(&b',') {
            position += 1;
        }
    }
    Some(Found { value, position: position + 1, open: 0 })
}

fn find_in_array<'a>(text: &'a [u8], start: usize, token: &Token, inner_tokens: &[Token]) -> Option<Found<'a>> {
    let mut position = start + 1;
    let mut is_there = token.index.is_some() && text.get(position) != Some(&b']');
    for _ in 0..token.index.unwrap_or(0) {
        if !is_there {
            break;
        }
        position = walk::value_end(text, position)?;
        is_there = text.get(position) == Some(&b',');
        position += usize::from(is_there);
    }
    if !is_there {
        return Some(Found { value: None, position, open: 1 });
    }
    let inner = find_at(text, position, inner_tokens)?;
    Some(Found { open: inner.open + 1, ..inner })
}

/// The text that parses to it.
impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tokens.iter().try_for_each(|token| write!(f, "{token}"))
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.name.replace('~', "~0").replace('/', "~1"))
    }
}

/// Why a text is not a pointer: the client's fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointerError {
    /// The byte offset in the text.
    pub position: usize,
    pub found: String,
    pub expected: String,
}

impl fmt::Display for PointerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "found {} at byte {}, expected {}", self.found, self.position, self.expected)
    }
}

impl std::error::Error for PointerError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn pointer(text: &str) -> Pointer {
        Pointer::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn check(text: &str, at: &str, expected: Option<&str>) {
        let found = find(text.as_bytes(), &pointer(at)).map(|slice| std::str::from_utf8(slice).unwrap());
        assert_eq!(found, expected, "{at} in {text}");
        assert_eq!(pointer(at).to_string(), at);
        assert_eq!(pointer(at).brief().trim_end_matches('…'), at.chars().take(100).collect::<String>());
    }

    fn check_refused(text: &str, position: usize, words: &str) {
        let error = Pointer::parse(text).expect_err(text);
        assert_eq!(error.position, position, "{text}: {error}");
        assert!(error.to_string().contains(words), "{text}: {error}");
    }

    #[test]
    fn a_pointer_names_a_member_or_an_element() {
        let text = r#"{"a":{"b":[10,{"c":"x"}]},"":1,"0":"zero","n":null}"#;
        check(text, "", Some(text));
        check(text, "/a/b", Some(r#"[10,{"c":"x"}]"#));
        check(text, "/a/b/0", Some("10"));
        check(text, "/a/b/1/c", Some("\"x\""));
        check(text, "/", Some("1"));
        check(text, "/0", Some("\"zero\""));
        check(text, "/n", Some("null"));
        check(text, "/x", None);
        check(text, "/a/b/2", None);
        check("[[],[[7]]]", "/1/0/0", Some("7"));
    }

    #[test]
    fn nothing_is_inside_a_scalar() {
        for scalar in ["1", "\"a\"", "null", "true", "\"{\\\"a\\\":1}\""] {
            check(scalar, "", Some(scalar));
            check(scalar, "/a", None);
            check(scalar, "/0", None);
            check(scalar, "/", None);
        }
        check(r#"{"a":1}"#, "/a/b", None);
    }

    #[test]
    fn an_index_is_digits_without_leading_zeros() {
        for at in ["/00", "/01", "/-", "/-0", "/-1", "/+1", "/1.0", "/1e0", "/ 1", "/", "/a", "/99999999999999999999999"] {
            check("[1,2]", at, None);
        }
        check("[1,2]", "/1", Some("2"));
        check(r#"{"01":1,"-":2}"#, "/01", Some("1"));
        check(r#"{"01":1,"-":2}"#, "/-", Some("2"));
    }

    #[test]
    fn tilde_escapes_the_slash_and_itself() {
        let text = r#"{"a/b":1,"~":2,"~1":3,"/~":4}"#;
        check(text, "/a~1b", Some("1"));
        check(text, "/~0", Some("2"));
        check(text, "/~01", Some("3"));
        check(text, "/~1~0", Some("4"));
    }

    #[test]
    fn names_are_found_however_they_are_escaped() {
        let text = r#"{"\u0061":1,"\"":2,"a\\b":3,"\ud83c\udf0a":4,"\n":5,"é":6,"\/":7}"#;
        for (at, expected) in [("/a", "1"), ("/\"", "2"), ("/a\\b", "3"), ("/🌊", "4"), ("/\n", "5"), ("/é", "6"), ("/~1", "7")] {
            check(text, at, Some(expected));
        }
        check(text, r"/\u0061", None);
        check(text, r"/\n", None);
    }

    #[test]
    fn of_equal_names_the_last_one_counts() {
        check(r#"{"a":1,"b":2,"\u0061":3,"c":4}"#, "/a", Some("3"));
        check(r#"{"a":{"x":1},"a":{}}"#, "/a/x", None);
    }

    #[test]
    fn what_is_missing_inside_is_missing_and_the_rest_is_read_right() {
        let text = r#"{"a":[[1,[2,"]"]],{"a":3}],"b":{"a":[]},"a":[{"x":[5]},6],"c":7}"#;
        check(text, "/a/0/x/0", Some("5"));
        check(text, "/a/0/1/0", None);
        check(text, "/b/a", Some("[]"));
        check(text, "/b/a/0", None);
        check(text, "/c", Some("7"));
        check(text, "/a/5", None);
        check(text, "/a/x", None);
        check(r#"[{"a":[1,[2]],"a":[3,[]]},[4]]"#, "/0/a/1", Some("[]"));
        check(r#"[{"a":[1,[2]],"a":[3,[]]},[4]]"#, "/1/0", Some("4"));
    }

    #[test]
    fn what_is_not_a_pointer_is_refused_where_it_breaks() {
        check_refused("a", 0, "found 'a'");
        check_refused("#/a", 0, "found '#'");
        check_refused("/a~", 3, "the end of the level");
        check_refused("/a/~/b", 4, "the end of the level");
        check_refused("/é~0~2", 6, "found '2'");
        check_refused("/~é", 2, "found 'é'");
        assert!(Pointer::parse(&"/a".repeat(TOKENS_MAX)).is_ok());
        check_refused(&"/a".repeat(TOKENS_MAX + 1), 2 * TOKENS_MAX, "at most 256 levels");
    }

    #[test]
    fn inside_means_below() {
        for (inner, outer, expected) in
            [("/a/b", "/a", true), ("/a", "", true), ("/a", "/a", false), ("/ab", "/a", false), ("", "/a", false)]
        {
            assert_eq!(pointer(inner).is_inside(&pointer(outer)), expected, "{inner} {outer}");
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![Just(Value::Null), any::<i8>().prop_map(Value::from), "[ab~/\"\\\\é\n]{0,3}".prop_map(Value::from)];
        scalar.prop_recursive(4, 40, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec(("[ab~/\"\\\\é\n01]{0,2}", inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// Every value inside `value` with its pointer.
    fn places(value: &Value, at: &str, found: &mut Vec<(String, Value)>) {
        found.push((at.into(), value.clone()));
        match value {
            Value::Array(elements) => elements.iter().enumerate().for_each(|(i, inner)| places(inner, &format!("{at}/{i}"), found)),
            Value::Object(members) => members.iter().for_each(|(name, inner)| {
                places(inner, &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), found);
            }),
            _ => {}
        }
    }

    proptest! {
        #[test]
        fn every_place_of_a_value_is_found(value in any_value()) {
            let text = value.to_string();
            let mut found = Vec::new();
            places(&value, "", &mut found);
            for (at, expected) in found {
                check(&text, &at, Some(&expected.to_string()));
            }
        }

        #[test]
        fn what_serde_json_finds_is_found(value in any_value(), at in "(/[ab~01/-]{0,2}){0,3}") {
            let Ok(pointer) = Pointer::parse(&at) else { return Ok(()) };
            let text = value.to_string();
            let found = find(text.as_bytes(), &pointer).map(|slice| serde_json::from_slice::<Value>(slice).unwrap());
            prop_assert_eq!(found.as_ref(), value.pointer(&at));
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in "[/~01aé]*|\\PC*", json in "[\\[\\]{}\",:\\\\a01]*") {
            match Pointer::parse(&text) {
                Ok(pointer) => drop(find(json.as_bytes(), &pointer).map(<[u8]>::len)),
                Err(error) => prop_assert!(text.is_char_boundary(error.position)),
            }
        }
    }
}
