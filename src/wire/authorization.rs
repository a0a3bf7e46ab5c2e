//! What a request of HTTP shows for who asks: the field `Authorization`, by the schemes Basic (RFC 7617) and Bearer (RFC 6750).

use base64::Engine;
use std::fmt;
use zeroize::Zeroizing;

/// Who asks, and what is shown for that, which is wiped when it is dropped.
#[derive(PartialEq, Eq)]
pub enum Authorization {
    Basic {
        user: Box<str>,
        password: Zeroizing<Box<[u8]>>,
    },
    Bearer(Zeroizing<Box<[u8]>>),
    /// Nothing that can be read, for this reason.
    Malformed(&'static str),
}

/// Without what is shown.
impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { user, .. } => f.debug_struct("Basic").field("user", user).finish_non_exhaustive(),
            Self::Bearer(_) => f.debug_struct("Bearer").finish_non_exhaustive(),
            Self::Malformed(why) => f.debug_tuple("Malformed").field(why).finish(),
        }
    }
}

impl Authorization {
    /// Reads the field's text. Names of schemes have no case.
    pub fn parse(field: &[u8]) -> Self {
        let end = field.iter().position(|byte| *byte == b' ').unwrap_or(field.len());
        let (scheme, shown) = (&field[..end], field[end..].trim_ascii());
        if scheme.eq_ignore_ascii_case(b"basic") {
            read_basic(shown).unwrap_or_else(Self::Malformed)
        } else if !scheme.eq_ignore_ascii_case(b"bearer") {
            Self::Malformed("Authorization names another scheme than Basic and Bearer")
        } else if is_token(shown) {
            Self::Bearer(Zeroizing::new(shown.into()))
        } else {
            Self::Malformed("what stands behind Bearer in Authorization is no token")
        }
    }
}

fn read_basic(shown: &[u8]) -> Result<Authorization, &'static str> {
    let mut bytes = Zeroizing::new(vec![0; base64::decoded_len_estimate(shown.len())]);
    let length = base64::engine::general_purpose::STANDARD.decode_slice(shown, &mut bytes);
    let length = length.map_err(|_| "what stands behind Basic in Authorization is no base64")?;
    let text = std::str::from_utf8(&bytes[..length]).map_err(|_| "the name and password of Basic are not UTF-8")?;
    // RFC 7617 section 2: a name has no colon, neither has control characters.
    let (user, password) = text.split_once(':').ok_or("there is no colon between the name and the password of Basic")?;
    if text.bytes().any(|byte| byte.is_ascii_control()) {
        return Err("the name or the password of Basic has control characters");
    }
    Ok(Authorization::Basic { user: user.into(), password: Zeroizing::new(password.as_bytes().into()) })
}

/// RFC 6750 section 2.1: `b64token`.
fn is_token(bytes: &[u8]) -> bool {
    let end = bytes.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
    let body = &bytes[..end];
    !body.is_empty() && body.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(text: &[u8]) -> Authorization {
        Authorization::parse(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text)).as_bytes())
    }

    fn check(shown: Authorization, user: &str, password: &str) {
        let password = Zeroizing::new(password.as_bytes().into());
        assert_eq!(shown, Authorization::Basic { user: user.into(), password });
    }

    #[test]
    fn the_examples_of_the_rfcs_are_read() {
        check(Authorization::parse(b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), "Aladdin", "open sesame");
        check(Authorization::parse("bASIC   dGVzdDoxMjPCow== ".as_bytes()), "test", "123\u{a3}");
        let token = Authorization::Bearer(Zeroizing::new(b"mF_9.B5f-4.1JqM".as_slice().into()));
        assert_eq!(Authorization::parse(b"bearer mF_9.B5f-4.1JqM"), token);
    }

    #[test]
    fn a_password_may_be_empty_and_have_colons() {
        check(basic(b"ann:a:b:"), "ann", "a:b:");
        check(basic(b"ann:"), "ann", "");
        check(basic(b":"), "", "");
    }

    #[test]
    fn what_cannot_be_read_is_told_by_its_reason() {
        for (shown, why) in [
            (Authorization::parse(b""), "another scheme"),
            (Authorization::parse(b"Digest a=b"), "another scheme"),
            (Authorization::parse(b"BasicQWxh"), "another scheme"),
            (Authorization::parse(b"Basic"), "no colon"),
            (Authorization::parse(b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ"), "no base64"),
            (Authorization::parse(b"Basic QWxh ZGRp"), "no base64"),
            (Authorization::parse(b"Basic ????"), "no base64"),
            (basic(b"ann"), "no colon"),
            (basic(b"ann:\xff"), "not UTF-8"),
            (basic(b"ann\n:a"), "control characters"),
            (Authorization::parse(b"Bearer"), "no token"),
            (Authorization::parse(b"Bearer a b"), "no token"),
            (Authorization::parse(b"Bearer =="), "no token"),
            (Authorization::parse(b"Bearer \"a\""), "no token"),
        ] {
            assert!(matches!(shown, Authorization::Malformed(reason) if reason.contains(why)), "{why}: {shown:?}");
        }
    }

    #[test]
    fn nothing_that_is_shown_is_printed() {
        let printed = format!("{:?}{:?}", basic(b"ann:secret"), Authorization::parse(b"Bearer secret"));
        assert!(printed.contains("ann") && !printed.contains("secret") && !printed.contains("115"), "{printed}");
    }
}
