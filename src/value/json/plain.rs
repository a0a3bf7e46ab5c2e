//! Checks and compacts one short text without the memory that [`super::Checker`] keeps.
//!
//! For texts that say what to do, such as patches and constraints: few, short, and refused with the place in the text
//! as it was written.

use std::borrow::Cow;

use super::{JsonError, JsonLimits, is_compact, is_white_space, scan};

/// The compact form of `text`: itself where it is compact already. Accepts and refuses what the fast check does.
pub fn compact(text: &[u8], limits: JsonLimits) -> Result<Cow<'_, [u8]>, JsonError> {
    scan::scan(text, limits)?;
    if is_compact(text) {
        return Ok(Cow::Borrowed(text));
    }
    Ok(Cow::Owned(solid(text).map(|(_, byte)| byte).collect()))
}

/// Where in `text` the byte at `position` of its compact form stands.
pub fn position_in(text: &[u8], position: usize) -> usize {
    solid(text).nth(position).map_or(text.len(), |(original, _)| original)
}

/// Every byte that is not white space outside a string, with its offset.
fn solid(text: &[u8]) -> impl Iterator<Item = (usize, u8)> {
    let (mut in_string, mut escaped) = (false, false);
    text.iter().copied().enumerate().filter(move |&(_, byte)| {
        let is_solid = in_string || !is_white_space(byte);
        in_string ^= byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        is_solid
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let limits = JsonLimits { depth_max: 3 };
        assert_eq!(compact(text.as_bytes(), limits).as_deref(), Ok(expected.as_bytes()), "{text}");
        for (position, byte) in expected.bytes().enumerate() {
            assert_eq!(text.as_bytes()[position_in(text.as_bytes(), position)], byte, "{text}");
        }
        assert_eq!(position_in(text.as_bytes(), expected.len()), text.len());
    }

    #[test]
    fn white_space_outside_strings_goes() {
        check("1", "1");
        check(" [ 1 ,\n\"a \\\" b\\\\\" , \"\\\\\" ]\t", r#"[1,"a \" b\\","\\"]"#);
    }

    #[test]
    fn a_place_in_the_compact_form_is_one_in_the_text() {
        assert_eq!(position_in(b" { \"a b\" : 1 }", 0), 1);
        assert_eq!(position_in(b" { \"a b\" : 1 }", 7), 11);
    }

    #[test]
    fn what_is_not_json_is_refused_where_it_breaks() {
        let refused = |text: &str| compact(text.as_bytes(), JsonLimits { depth_max: 2 }).unwrap_err().position;
        assert_eq!(refused("[1,]"), 3);
        assert_eq!(refused(" [[[]]]"), 3);
        assert_eq!(refused(""), 0);
    }
}
