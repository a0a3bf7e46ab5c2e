//! The header of the PROXY protocol, version 2, by which a proxy says for whom it has connected (haproxy's `proxy-protocol.txt`, section 2.2).

use super::Failure;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What the header begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family, length.
const HEAD_BYTES: usize = 16;

/// The longest that is taken: addresses, and what else the proxy says, as of its own TLS.
const BYTES_MAX: usize = 2048;

/// A whole header.
#[derive(Debug, PartialEq, Eq)]
pub struct Header {
    pub length: usize,
    /// Where the client is; `None` where the proxy connects for itself, or for somebody who has no address.
    pub address: Option<IpAddr>,
}

/// Reads the header that `bytes` begin with; `None` while it is not whole.
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, Failure> {
    let wrong = |what: &str| Err(Failure(what.into()));
    let signature = bytes.len().min(SIGNATURE.len());
    if bytes[..signature] != SIGNATURE[..signature] {
        return wrong("it does not begin with a header of the PROXY protocol, version 2");
    }
    let Some(head) = bytes.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
    let (version, command, family) = (head[12] >> 4, head[12] & 15, head[13]);
    let length = HEAD_BYTES + usize::from(u16::from_be_bytes([head[14], head[15]]));
    if version != 2 || command > 1 {
        return wrong("the PROXY protocol's version or command is none that is known");
    }
    if length > BYTES_MAX {
        return wrong("the header of the PROXY protocol is longer than 2048 bytes");
    }
    let Some(addresses) = bytes.get(HEAD_BYTES..length) else { return Ok(None) };
    // A family that is none of TCP's says no address that a session could have.
    let address = match (command, family) {
        (1, 0x11) => addresses.first_chunk::<12>().map(|all| IpAddr::V4(Ipv4Addr::new(all[0], all[1], all[2], all[3]))),
        (1, 0x21) => addresses.first_chunk::<36>().map(|all| {
            let client = all.first_chunk::<16>().expect("16 of 36 bytes are there");
            IpAddr::V6(Ipv6Addr::from(*client)).to_canonical()
        }),
        _ => return Ok(Some(Header { length, address: None })),
    };
    match address {
        None => wrong("the header of the PROXY protocol has no room for its addresses"),
        address => Ok(Some(Header { length, address })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        [&SIGNATURE[..], &[0x20 | command, family], &(rest.len() as u16).to_be_bytes(), rest].concat()
    }

    fn check(bytes: &[u8], address: Option<&str>) {
        let address = address.map(|address| address.parse().expect("an address"));
        for cut in 0..bytes.len() {
            assert_eq!(parse(&bytes[..cut]), Ok(None), "{cut} of {bytes:?}");
        }
        let expected = Ok(Some(Header { length: bytes.len(), address }));
        assert_eq!(parse(bytes), expected, "{bytes:?}");
        assert_eq!(parse(&[bytes, b"GET"].concat()), expected, "{bytes:?} and more");
    }

    #[test]
    fn a_header_says_for_whom() {
        let four = [1, 2, 3, 4, 5, 6, 7, 8, 0, 80, 1, 187];
        check(&header(1, 0x11, &four), Some("1.2.3.4"));
        check(&header(1, 0x11, &[&four[..], &[3, 0, 1, 9]].concat()), Some("1.2.3.4"));
        let six = [&Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).octets()[..], &[0; 20]].concat();
        check(&header(1, 0x21, &six), Some("2001:db8::1"));
        let mapped = [&Ipv4Addr::new(1, 2, 3, 4).to_ipv6_mapped().octets()[..], &[0; 20]].concat();
        check(&header(1, 0x21, &mapped), Some("1.2.3.4"));
        check(&header(0, 0x11, &four), None);
        check(&header(0, 0, &[]), None);
        check(&header(1, 0, &[]), None);
        check(&header(1, 0x31, &[0; 216]), None);
    }

    fn check_refused(bytes: &[u8], what: &str) {
        assert_eq!(parse(bytes), Err(Failure(what.into())), "{bytes:?}");
    }

    #[test]
    fn what_is_no_header_is_refused_at_its_first_wrong_byte() {
        let none = "it does not begin with a header of the PROXY protocol, version 2";
        check_refused(b"G", none);
        check_refused(b"\r\n\r\nX", none);
        check_refused(b"PROXY TCP4 1.2.3.4 5.6.7.8 80 443\r\n", none);
        let unknown = "the PROXY protocol's version or command is none that is known";
        check_refused(&header(2, 0x11, &[0; 12]), unknown);
        let mut first = header(1, 0x11, &[0; 12]);
        first[12] = 0x11;
        check_refused(&first, unknown);
        check_refused(&header(1, 0x11, &[0; 11]), "the header of the PROXY protocol has no room for its addresses");
        check_refused(&header(1, 0x21, &[0; 35]), "the header of the PROXY protocol has no room for its addresses");
        let long = header(1, 0x11, &[0; 2033]);
        check_refused(&long[..HEAD_BYTES], "the header of the PROXY protocol is longer than 2048 bytes");
        check(&header(1, 0x11, &[0; 2032]), Some("0.0.0.0"));
    }
}
