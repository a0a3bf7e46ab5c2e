//! Who a client's certificate is for: the last common name of its subject (RFC 5280 section 4.1.2.6), or the first name of DNS beside it.
//!
//! The certificate's signature was checked before; what it says is still only text of whoever signs.

use rustls::pki_types::CertificateDer;

/// The longest that is taken.
const BYTES_MAX: usize = 256;

/// id-at-commonName, 2.5.4.3.
const COMMON_NAME: [u8; 3] = [0x55, 4, 3];

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 6;
const UTF8_STRING: u8 = 12;
const PRINTABLE_STRING: u8 = 19;
const IA5_STRING: u8 = 22;

/// `None` where it has no name that can be used.
pub fn principal_of(certificate: &CertificateDer<'_>) -> Option<Box<str>> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let names = common_name(certificate.subject()).into_iter().chain(certificate.valid_dns_names().next());
    names.into_iter().find(|name| is_usable(name)).map(Box::from)
}

fn is_usable(name: &str) -> bool {
    !name.is_empty() && name.len() <= BYTES_MAX && !name.chars().any(char::is_control)
}

/// Of a subject's relative names, which may come within a sequence or without its head.
fn common_name(subject: &[u8]) -> Option<&str> {
    let mut subject = subject;
    let mut found = None;
    if let Some((SEQUENCE, inner, [])) = element(subject) {
        subject = inner;
    }
    while let Some((_, set, rest)) = element(subject) {
        subject = rest;
        let mut attributes = set;
        while let Some((_, attribute, rest)) = element(attributes) {
            attributes = rest;
            found = value_of(attribute).or(found);
        }
    }
    found
}

/// The text of an attribute that is a common name.
fn value_of(attribute: &[u8]) -> Option<&str> {
    let (OBJECT_IDENTIFIER, kind, rest) = element(attribute)? else { return None };
    match element(rest)? {
        (UTF8_STRING | PRINTABLE_STRING | IA5_STRING, text, []) if kind == COMMON_NAME => std::str::from_utf8(text).ok(),
        _ => None,
    }
}

/// The tag and the content of the first element of DER (X.690), and what stands behind it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, length], rest) = bytes.split_first_chunk::<2>()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81 => rest.split_first().map(|(length, rest)| (usize::from(*length), rest))?,
        0x82 => rest.split_first_chunk::<2>().map(|(length, rest)| (usize::from(u16::from_be_bytes(*length)), rest))?,
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    fn check(common: &[&str], names: &[&str], expected: Option<&str>) {
        let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Example");
        for name in common {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert_eq!(principal_of(certificate.der()).as_deref(), expected, "{common:?} {names:?}");
    }

    #[test]
    fn a_principal_is_the_common_name_or_else_a_name_of_dns() {
        check(&["meter-7"], &[], Some("meter-7"));
        check(&["Grüße"], &["a.example"], Some("Grüße"));
        check(&[], &["a.example", "b.example"], Some("a.example"));
        check(&[], &[], None);
    }

    #[test]
    fn a_name_that_is_empty_long_or_has_control_characters_is_none() {
        let (most, more) = ("x".repeat(BYTES_MAX), "x".repeat(BYTES_MAX + 1));
        check(&[&most], &[], Some(&most));
        for name in ["", "a\nb", &*more] {
            check(&[name], &["a.example"], Some("a.example"));
            check(&[name], &[], None);
        }
    }

    #[test]
    fn what_is_cut_has_no_name() {
        let whole = [&[SEQUENCE, 14, 0x31, 12, SEQUENCE, 10, OBJECT_IDENTIFIER, 3][..], &COMMON_NAME, &[UTF8_STRING, 3], b"abc"].concat();
        assert_eq!(common_name(&whole), Some("abc"));
        assert_eq!(common_name(&whole[2..]), Some("abc"));
        for cut in 0..whole.len() {
            assert_eq!(common_name(&whole[..cut]), None, "{cut}");
        }
    }
}
